package floor

import (
	"sync/atomic"
	"unsafe"

	"gosv/machine"
)

// What follows runs as ordinary Go, on goroutines.

// Context is a program's context with the floor's own part; one page.
type Context = context

// Space is the part of an address space that CPUs look at.
type Space = space

// SpaceRoot returns the physical address of s's PML4.
func (s *Space) Root() uint64 { return s.root }

// Init gives s its root; no CPU may have it loaded.
func (s *Space) Init(root uint64) {
	s.root = root
	s.cpus = 0
	atomic.StoreUint64(&s.dead, 0)
	s.pcid = 0
	if t := retag(s); t != 0 {
		s.pcid = 1 + t%(pcids-1)
	}
}

// Float is the context's vector state, in the XSAVE standard format.
func (x *context) Float() []byte { return x.float[:] }

func at[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// SetSpace says in which space Enter runs x.
func (x *context) SetSpace(s *Space) { x.space = at(s) }

// debugSettings counts the settings of debug registers: each has a number of its own, and a CPU that has loaded the
// same number has the same values.
var debugSettings atomic.Uint64

// SetDebug says what the debug registers are while x runs. The way to ring 3 looks at them only when want is no CPU's
// number; other programs may meet what is left in the registers, and the kernel must be ready for that.
func (x *context) SetDebug(dr [4]uint64, dr7 uint64) {
	if x.debug == 0 {
		x.real = x.want
	}
	x.dr, x.dr7 = dr, dr7
	if dr7 == 0 {
		x.debug, x.want = 0, x.real
		return
	}
	x.debug, x.want = debugSettings.Add(1), ^uint64(0)
}

// Expect makes Enter return Moved when x does not run on the CPU with that number, from 0, or did not run for a while; -1: on any.
func (x *context) Expect(cpu int) {
	x.real = uint64(cpu + 1)
	if x.debug == 0 {
		x.want = x.real
	}
}

// Bind restricts the calling thread of the runtime to the CPUs in set; 0: all.
func Bind(set uint64) { call(serviceBind, set, 0, 0) }

// Barrier makes every CPU that has s loaded take an interrupt, which is a barrier and serialises, before it returns.
func Barrier(s *Space) { call(serviceFlush, at(s), 0, 2*machine.PageSize) }

// Enter runs x in ring 3 until something happens.
func Enter(x *machine.Context) machine.Trap { return enter(x) }

// CopyUser copies n bytes between kernel and program memory of s, and returns how many it could not.
func CopyUser(dst, src, n uint64, s *Space) uint64 { return copyUser(dst, src, n, at(s)) }

// ZeroUser clears n bytes of program memory, and returns how many it could not.
func ZeroUser(dst, n uint64, s *Space) uint64 { return zeroUser(dst, n, at(s)) }

// The operations of WordUser.
const (
	Store32 = iota
	Swap32
)

// LoadUser32 reads 4 bytes of program memory.
func LoadUser32(va uint64, s *Space) (v uint64, ok bool) { return loadUser32(va, at(s)) }

// LoadUser64 reads 8 bytes of program memory.
func LoadUser64(va uint64, s *Space) (v uint64, ok bool) { return loadUser64(va, at(s)) }

// StoreUser64 writes 8 bytes of program memory at once.
func StoreUser64(va, v uint64, s *Space) (ok bool) { return storeUser64(va, v, at(s)) }

// WordUser changes 4 bytes of program memory.
func WordUser(va, v, old, op uint64, s *Space) (found uint64, ok bool) {
	return wordUser(va, v, old, op, at(s))
}

// Refill takes up to len(list) frames for programs and returns how many it got.
func Refill(list []uint64) int { return int(call(serviceRefill, at(&list[0]), uint64(len(list)), 0)) }

// Drain gives frames back.
func Drain(list []uint64) { call(serviceDrain, at(&list[0]), uint64(len(list)), 0) }

// TakeRun returns the first of 1<<order contiguous frames, not zeroed, or 0.
func TakeRun(order int) uint64 { return call(serviceTakeRun, uint64(order), 0, 0) }

// TakeFree takes the free block of 32 frames or more that begins at frame f and returns how many it has, or 0.
func TakeFree(f uint64) (n uint64) { return call(serviceTakeFree, f, 0, 0) }

// FreeRun gives n contiguous frames back.
func FreeRun(f, n uint64) { call(serviceFreeRun, f, n, 0) }

// Kick makes the Enter that runs x, or the next one, return Interrupted. Enter
// writes x.cpu and then looks at x.flag; here it is the other way round, so one
// of the two sees the other.
func Kick(c *machine.Context) {
	x := (*context)(unsafe.Pointer(c))
	atomic.StoreUint64(&x.flag, 1)
	if atomic.LoadUint64(&x.cpu) != 0 {
		call(serviceKick, at(c), 0, 0)
	}
}

// Begin says that x uses a CPU from now on.
func Begin(c *machine.Context) { (*context)(unsafe.Pointer(c)).since = rdtsc() }

// Claim returns the ticks that x had since Begin, without what was returned before.
func Claim(c *machine.Context) uint64 {
	x := (*context)(unsafe.Pointer(c))
	claim(x)
	n := x.used
	x.used = 0
	return n
}

// Unclaimed returns what a claim would add now for x, if it runs in ring 3, 0 otherwise.
func Unclaimed(c *machine.Context) uint64 {
	x := (*context)(unsafe.Pointer(c))
	n := atomic.LoadUint64(&x.cpu)
	if n == 0 {
		return 0
	}
	t := rdtsc()
	d := min(int64(t-atomic.LoadUint64(&x.since)), int64(t-atomic.LoadUint64(&cpuAt(cpuTable[n-1]).given)))
	return uint64(max(d, 0))
}

// Inside reports whether x runs in ring 3.
func Inside(c *machine.Context) bool {
	return atomic.LoadUint64(&(*context)(unsafe.Pointer(c)).cpu) != 0
}

// BeginMeter and ClaimMeter are Begin and Claim for what has no context.
func BeginMeter(m *machine.Meter) { m.Since = rdtsc() }

func ClaimMeter(m *machine.Meter) uint64 {
	claimMeter(m)
	n := m.Used
	m.Used = 0
	return n
}

// Claimed returns how many ticks of CPU n, below CPUs, were claimed.
func Claimed(n int) uint64 {
	if cpuTable[n] == 0 {
		return 0
	}
	return atomic.LoadUint64(&cpuAt(cpuTable[n]).claimed)
}

// Idle returns for how many ticks CPU n, below CPUs, had nothing to do since the clock's zero.
func Idle(n int) uint64 {
	if cpuTable[n] == 0 {
		return uptime()
	}
	v := atomic.LoadUint64(&cpuAt(cpuTable[n]).rested)
	if v&resting != 0 {
		return uint64(max(int64(uptime()-v&^resting), 0)) // the CPUs' counters may differ a little
	}
	return v
}

// Came returns how many interrupts came to CPU n, below CPUs, by a vector.
func Came(n int, vector uint8) uint32 {
	if cpuTable[n] == 0 || vector >= vectorSpurious {
		return 0
	}
	return atomic.LoadUint32(&cpuAt(cpuTable[n]).came[vector])
}

// Unkick forgets a Kick that no Enter has returned for yet.
func Unkick(c *machine.Context) { atomic.StoreUint64(&(*context)(unsafe.Pointer(c)).flag, 0) }

// Flush makes every CPU forget [va, va+n) of s.
func Flush(s *Space, va, n uint64) {
	tag := retag(s)
	if n == machine.PageSize && invlpgIf(va, at(s), tag) {
		return
	}
	if atomic.LoadUint64(&s.cpus) == 0 {
		return
	}
	call(serviceFlush, at(s), va, n)
}

// Forget makes sure that no CPU has s loaded or will load it again.
func Forget(s *Space) { call(serviceForget, at(s), 0, 0) }

// SetAlarm asks for the alarm at a monotonic time in ns; 0 for none.
func SetAlarm(ns uint64) { call(serviceAlarm, ns, 0, 0) }

// MapRegisters maps n bytes of device registers at physical address pa.
func MapRegisters(pa, n uint64) uint64 { return call(serviceWindow, pa, n, 0) }

// MapMemory makes [pa, pa+n), whole pages of memory that is no frames', part of the direct map.
func MapMemory(pa, n uint64) { call(serviceMemory, pa, n, 0) }

// Stop ends the machine with the debug-exit device or a reset.
func Stop(status uint64) { call(serviceStop, status, 0, 0) }

// Now returns ns, AtEntry of them at the kernel's first instruction.
func Now() uint64 {
	for {
		s := atomic.LoadUint32(&timeSeq)
		v := now()
		if s&1 == 0 && s == atomic.LoadUint32(&timeSeq) {
			return v
		}
	}
}

// Ticks reads the time stamp counter.
func Ticks() uint64 { return rdtsc() }

// TicksToNS makes a difference of two Ticks nanoseconds.
func TicksToNS(d uint64) uint64 { return scale(d, timeMult) }

// Timebase returns what now computes with.
func Timebase() (tsc, mult, base uint64) { return timeTSC, timeMult, timeBase }

// WallOffset and SetWallOffset are the difference between wall clock and Now.
func WallOffset() uint64      { return atomic.LoadUint64(&wallOffset) }
func SetWallOffset(ns uint64) { atomic.StoreUint64(&wallOffset, ns) }

// EntryTSC is the time stamp counter at the kernel's first instruction.
func EntryTSC() uint64 { return tscEntry }

// DevicePending reports whether a device interrupt waits to be taken.
func DevicePending() bool { return atomic.LoadUint64(&devicePending) != 0 }

// TakeDevices returns and clears the device interrupts that came in: bit v for
// vector v, bit 0 for the alarm, bit 1 for a shortage of memory.
func TakeDevices() (bits [2]uint64) {
	atomic.StoreUint64(&devicePending, 0)
	bits[0] = atomic.SwapUint64(&deviceBits[0], 0)
	bits[1] = atomic.SwapUint64(&deviceBits[1], 0)
	return bits
}

// Facts about the machine.

func CommandLine() string {
	n := 0
	for n < len(commandLine) && commandLine[n] != 0 {
		n++
	}
	return string(commandLine[:n])
}

func Initrd() (addr, size uint64)              { return initrdAddr, initrdSize }
func RSDP() uint64                             { return rsdpAddr }
func CPUs() int                                { return int(ncpu) }
func FrameLimit() uint64                       { return frameLimit }
func FrameUsable() uint64                      { return frameUsable }
func FrameUsage() (total, free, kernel uint64) { return frameTotal, frameFree, heapPages }
func FrameReserve() uint64                     { return frameReserve }
func KernelRoot() uint64                       { return kernelRoot }
func FloatMask() uint64                        { return uint64(floatMask) }
func HasXSAVE() bool                           { return floatMode != 0 }
func Physical(pa, n uint64) bool               { return physical(pa, n) }
func BootAPIC() uint32                         { return uint32(apicIDs[0]) }

// Constant says whether one of the n frames from frame on holds the image's text or constants, which must never be written.
func Constant(frame, n uint64) bool {
	_, _, _, _, start := symbols()
	overlaps := func(from, to uint64) bool { return frame < to>>12 && frame+n > from>>12 }
	return overlaps(imageStart, gapFrom) || overlaps(gapTo, start-ImageBase-gapShift)
}

// CPUID executes the instruction.
func CPUID(leaf, sub uint32) (a, b, c, d uint32) { return cpuid(leaf, sub) }

// Emulated reports whether QEMU translates this machine's code (TCG).
func Emulated() bool {
	_, b, c, d := cpuid(0x40000000, 0)
	return b == 0x54474354 && c == 0x43544743 && d == 0x47435447 // TCGTCGTCGTCG
}

// Vectors that devices may have: [FirstVector, LastVector].
const (
	DeviceFile  = fdDevice
	ShortageBit = shortageBit
	FirstVector = vectorDevice
	LastVector  = vectorSpurious - 1
)

// HasBase reports whether programs may use WRFSBASE and WRGSBASE.
func HasBase() bool { return hasBase }

// ThisCPU is the CPU that runs the caller, which may be another one already.
func ThisCPU() uint64 { return thisCPU() }

// TakeReserve returns a zeroed frame for the kernel's own needs, from the reserve too; 0 when there is none.
func TakeReserve() uint64 {
	f := call(serviceReserve, 0, 0, 0)
	if f != 0 {
		ClearPages(DirectMap+f<<12, 1)
	}
	return f
}
