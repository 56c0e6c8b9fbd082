package floor

import (
	"sync/atomic"
	"unsafe"

	"gosv/machine"
)

// Where things are in the kernel's half of the address space.
const (
	ImageBase  = 0xffffffff80000000 // physical 0; the image is linked 2 MiB above
	DirectMap  = 0xffff800000000000 // all physical memory, never executable
	heapBase   = 0xffffc00000000000 // the Go runtime's memory, on demand
	heapEnd    = heapBase + 1<<40
	heapLarge  = heapBase + 1<<39   // reservations of 64 MiB and more
	windowBase = 0xffffd00000000000 // device registers and floor stacks
	windowEnd  = windowBase + 1<<39

	maxCPU    = 64
	maxThread = 512
)

// A context is the saved state of a thread, in ring 0 or ring 3: one page,
// laid out as layout_amd64.h says.
type context struct {
	machine.Context
	flag  uint64 // ring 0: vector state is saved too; ring 3: Enter must return
	kSP   uint64 // ring 3: where Enter was called
	kBP   uint64
	cpu   uint64         // ring 3: the CPU that runs it, plus one
	space uint64         // ring 3: *space
	debug uint64         // ring 3: which setting of the debug registers it is, 0 for none in use
	float [floatMax]byte // XSAVE area, 64-byte aligned
	dr    [4]uint64      // DR0 to DR3
	dr7   uint64
	want  uint64 // ring 3: the number of the CPU that its program believes to run on; 0: it does not care
	real  uint64 // the same when want is none that a CPU has, because it uses the debug registers
	since uint64 // ring 3: ticks when it began, or at the last claim for it
	used  uint64 // ring 3: ticks that were claimed for it and not taken yet
}

const floatMax = 2816 // standard format up to AVX-512 is 2,688 bytes

// States of a thread.
const (
	threadFree = iota
	threadReady
	threadRunning
	threadBlocked
	threadIdle
)

// A thread is one M of the runtime, or the idle loop of a CPU.
type thread struct {
	ctx     context
	resume  uint64 // context to resume: &ctx, or a program's
	user    uint64 // the program's context while in Enter, else 0
	space   uint64 // the space it has loaded
	fs      uint64
	id      uint32
	state   uint32
	cpu     uint32 // last one
	next    uint32 // run queue; 0 ends
	queue   uint64 // the waitq it is on, or 0
	wnext   uint32 // wait queue links; 0 ends
	wprev   uint32
	key     uint64 // futex address
	expires uint64 // deadline in ns, valid while heapAt != 0
	heapAt  uint32 // place in the timer heap of heapCPU, plus one
	heapCPU uint32
	events  uint64 // epoll_wait: where the events go
	pending uint64 // signals
	mask    uint64
	altSP   uint64
	altSize uint64
	altFlag uint64
	waits   uint32 // sleeps so far
	_       uint32
	allowed uint64 // CPUs that may run it; 0: all
}

// cpu is one processor. The first fields are known to assembly.
type cpu struct {
	self       uint64
	userTop    uint64 // where a program's registers go: the top of its register file
	scratch    uint64
	floorSP    uint64
	g          uint64
	floorFS    uint64
	inFloor    uint64
	thrTop     uint64 // the same for the thread itself
	thrFS      uint64
	root       uint64
	space      uint64
	bit        uint64
	number     uint64 // index + 1
	tss        [104]byte
	index      uint64
	debug      uint64        // the setting that its debug registers have
	given      uint64        // ticks: until then, its time was claimed or nobody's, see charge
	claimed    uint64        // ticks: how much of it was claimed
	tags       [pcids]uint64 // of what each PCID's translations are; 0: of nothing
	current    uint64        // *thread
	idle       uint64        // *thread
	apic       uint64
	online     uint32
	lock       uint32 // guards the run queue and the timers
	head       uint32
	tail       uint32
	queued     uint32
	timers     uint32                 // length of heap
	armed      uint64                 // deadline that the local APIC timer is set for; 0: none
	slice      uint64                 // when the current thread's time is up
	halted     uint64                 // in the idle loop: whatever wakes it comes through awake
	rest       uint64                 // ticks that were not claimed when it became idle
	rested     uint64                 // ticks that it had nothing to do; while it has not, see rest
	came       [vectorSpurious]uint32 // interrupts by their vectors
	flushAsked uint64                 // shootdown requests made
	flushDone  uint64                 // and answered
	heap       [maxThread]uint32
	gdt        [16]uint64
	gdtr       [10]byte
	_          [6]byte
	fakeG      [512]byte
}

// space is the part of an address space that CPUs and the floor look at.
type space struct {
	root uint64 // physical address of the PML4
	cpus uint64 // CPUs that have it loaded
	dead uint64 // it is being destroyed: no CPU may load it again
	pcid uint64 // the PCID that it has on every CPU, which others may have too
	tag  uint64 // never the same again: a CPU that has it at this PCID has no translation that is out of date
	_    [24]byte
}

var (
	bootCPU   cpu
	bootStack [16384]byte
	bootG     [512]byte

	cpuTable  [maxCPU]uint64 // *cpu
	cpuByAPIC [256]uint64
	ncpu      uint64 = 1

	threads  [maxThread]uint64 // *thread
	nthread  uint32
	freeHead uint32 // free threads, by next
	freeLock uint32

	kernelRoot uint64

	floatMask uint32 = 3
	floatMode uint32
	hasBase   bool
	hasPCID   bool
	hasSMAP   bool
	hasAVX    bool
	modern    bool // XSAVEOPT and FSGSBASE: the doors without questions

	tscEntry  uint64
	startInfo uint64

	// devicePending is set when a device interrupt waits for a goroutine.
	devicePending uint64
	deviceBits    [4]uint64

	bootFn func(c *cpu, start uint64) *context         = boot
	trapFn func(c *cpu, x *context) (*context, uint64) = trap
	dieFn  func(c *cpu, x *context)                    = die
)

func ld64(p uint64) uint64         { return *(*uint64)(unsafe.Add(nil, p)) }
func ld32(p uint64) uint32         { return *(*uint32)(unsafe.Add(nil, p)) }
func ld8(p uint64) uint8           { return *(*uint8)(unsafe.Add(nil, p)) }
func st64(p uint64, v uint64)      { *(*uint64)(unsafe.Add(nil, p)) = v }
func st32(p uint64, v uint32)      { *(*uint32)(unsafe.Add(nil, p)) = v }
func st16(p uint64, v uint16)      { *(*uint16)(unsafe.Add(nil, p)) = v }
func st8(p uint64, v uint8)        { *(*uint8)(unsafe.Add(nil, p)) = v }
func addr(p unsafe.Pointer) uint64 { return uint64(uintptr(p)) }

func zero(p, n uint64) {
	for e := p + n; p < e; p += 8 {
		st64(p, 0)
	}
}

func cpuAt(p uint64) *cpu         { return (*cpu)(unsafe.Add(nil, p)) }
func threadAt(p uint64) *thread   { return (*thread)(unsafe.Add(nil, p)) }
func spaceAt(p uint64) *space     { return (*space)(unsafe.Add(nil, p)) }
func contextAt(p uint64) *context { return (*context)(unsafe.Add(nil, p)) }
func (t *thread) addr() uint64    { return addr(unsafe.Pointer(t)) }
func (c *cpu) thread() *thread    { return threadAt(c.current) }
func byID(id uint32) *thread      { return threadAt(threads[id]) }

// lock spins, and answers shootdowns meanwhile.
func lock(c *cpu, l *uint32) {
	for !atomic.CompareAndSwapUint32(l, 0, 1) {
		answer(c)
		pause()
	}
}

func unlock(l *uint32) { atomic.StoreUint32(l, 0) }

func boot64()
func vclock()
func startGo()
func idleLoop()
func symbols() (startGo, idleLoop, imageEnd, textEnd, dataStart uint64)
func doors() (plain, modern uint64)
func trapStub(i uint64) uint64
func landings(t *[24]uint64)
func wrmsr(r uint32, v uint64)
func rdtsc() uint64
func cpuid(leaf, sub uint32) (a, b, c, d uint32)
func rdcr2() uint64
func wrcr3(v uint64)
func setcr4(bits uint64)
func invlpg(va uint64)
func thisCPU() uint64
func clearDR6()
func loadTables(gdtr, idtr uint64)
func halt()
func pause()
func tripleFault()
func enter(c *machine.Context) machine.Trap
func copyUser(dst, src, n, s uint64) (left uint64)
func zeroUser(dst, n, s uint64) (left uint64)
func wordUser(va, v, old, op, s uint64) (found uint64, ok bool)
func loadUser32(va, s uint64) (v uint64, ok bool)
func loadUser64(va, s uint64) (v uint64, ok bool)
func storeUser64(va, v, s uint64) (ok bool)
func invlpgIf(va, s, tag uint64) bool
func charge(x *context)
func claim(x *context)
func claimMeter(m *machine.Meter)
func call(nr, a, b, c uint64) uint64
func setSpace(s uint64)

// ClearPages zeroes n pages of kernel memory at p.
func ClearPages(p, n uint64)

// In8 and the like access I/O ports.
func In8(port uint16) uint8
func In16(port uint16) uint16
func In32(port uint16) uint32
func Out8(port uint16, v uint8)
func Out16(port, v uint16)
func Out32(port uint16, v uint32)
