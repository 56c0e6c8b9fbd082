// Package mm is what Linux calls mm: the address spaces of processes. It knows
// which area of addresses maps what with which rights (mmap(2) and its family), and
// serves page faults from that.
package mm

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// AddressSpace is the memory of a process, or of several that share it (CLONE_VM).
type AddressSpace struct {
	space machine.Space
	pool  *mem.Pool
}

// New returns an empty address space; ENOMEM.
func New(m machine.Spaces, pool *mem.Pool) (*AddressSpace, error) { return nil, unix.ENOSYS }

// Space returns the page tables, for Enter.
func (as *AddressSpace) Space() machine.Space { return as.space }

// Pool returns the pool that the memory comes from.
func (as *AddressSpace) Pool() *mem.Pool { return as.pool }

// Release unmaps everything and frees the page tables; nobody may use the space any more.
func (as *AddressSpace) Release() {}

// Fork returns a copy (fork(2)); ENOMEM.
func (as *AddressSpace) Fork() (*AddressSpace, error) { return nil, unix.ENOSYS }

// A Mappable is what mmap(2) maps: an open file. Its pages are those of a page cache.
type Mappable interface {
	// MapCache returns the page cache, or nil when it cannot be mapped (ENODEV).
	MapCache() *mem.Cache
	// IncRef and DecRef hold the open file while it is mapped. DecRef is called
	// without locks of this package.
	IncRef()
	DecRef()
	// MapName returns the path that /proc/PID/maps shows.
	MapName() string
	// MapInode returns device and inode number for /proc/PID/maps.
	MapInode() (major, minor uint32, ino uint64)
}

// MapArgs are the arguments of mmap(2).
type MapArgs struct {
	Addr   uint64 // hint, or the address with MAP_FIXED
	Length uint64 // bytes, rounded up to pages
	Prot   int    // PROT_*
	Flags  int    // MAP_*
	// Object is the file, nil for anonymous memory.
	Object Mappable
	Offset uint64 // bytes, a multiple of the page size
	// MaxProt is the most that mprotect(2) may give later: what the file was opened for;
	// 0 means everything. Prot must be within it (EACCES).
	MaxProt int
}

// Map maps as mmap(2) and returns the address.
func (as *AddressSpace) Map(a MapArgs) (uint64, error) { return 0, unix.ENOSYS }

// Unmap is munmap(2).
func (as *AddressSpace) Unmap(addr, length uint64) error { return unix.ENOSYS }

// Protect is mprotect(2).
func (as *AddressSpace) Protect(addr, length uint64, prot int) error { return unix.ENOSYS }

// Remap is mremap(2).
func (as *AddressSpace) Remap(addr, oldLength, newLength uint64, flags int, newAddr uint64) (uint64, error) {
	return 0, unix.ENOSYS
}

// Brk is brk(2): it returns the new break, which is the old one when addr cannot be had.
func (as *AddressSpace) Brk(addr uint64) uint64 { return 0 }

// Advise is madvise(2).
func (as *AddressSpace) Advise(addr, length uint64, advice int) error { return unix.ENOSYS }

// Sync is msync(2).
func (as *AddressSpace) Sync(addr, length uint64, flags int) error { return unix.ENOSYS }

// Incore is mincore(2): one byte for each page into vec.
func (as *AddressSpace) Incore(addr, length uint64, vec []byte) error { return unix.ENOSYS }

// Lock is mlock2(2), with MLOCK_ONFAULT or 0.
func (as *AddressSpace) Lock(addr, length uint64, flags int) error { return unix.ENOSYS }

// Unlock is munlock(2).
func (as *AddressSpace) Unlock(addr, length uint64) error { return unix.ENOSYS }

// LockAll is mlockall(2) with MCL_*; 0 is munlockall(2).
func (as *AddressSpace) LockAll(flags int) error { return unix.ENOSYS }

// Limits are the resource limits that concern memory, in bytes (unix.RLIM_INFINITY: none).
type Limits struct {
	AS, Data, Stack, Memlock uint64
	// IPCLock is CAP_IPC_LOCK: no Memlock limit.
	IPCLock bool
}

// SetLimits sets the limits that hold from now on.
func (as *AddressSpace) SetLimits(l Limits) {}

// Layout says where things go in an address space.
type Layout struct {
	StackTop uint64 // end of the stack area
	MmapBase uint64 // mmap takes the highest free addresses below
	BrkStart uint64 // where the heap starts
	PIEBase  uint64 // for programs without fixed addresses
}

// NewLayout returns Linux's layout for x86-64. random yields uniformly distributed bits, or is nil for
// a fixed layout (ADDR_NO_RANDOMIZE); stackLimit is RLIMIT_STACK. BrkStart is set by SetBrk.
func NewLayout(random func() uint64, stackLimit uint64) Layout { return Layout{} }

// SetLayout sets where stack and mappings go; call it before the first Map.
func (as *AddressSpace) SetLayout(l Layout) {}

// Layout returns what SetLayout set.
func (as *AddressSpace) Layout() Layout { return Layout{} }

// SetBrk says where the heap starts: behind the program's data.
func (as *AddressSpace) SetBrk(start uint64) {}

// MapStack maps the main thread's stack, which ends at Layout.StackTop and grows down as far as the
// limit allows, with size bytes at first. exec is PT_GNU_STACK's.
func (as *AddressSpace) MapStack(size uint64, exec bool) error { return unix.ENOSYS }

// NewSpecial returns a Mappable for memory of the kernel's that every process may map, as
// "[vdso]": name is shown in /proc/PID/maps.
func NewSpecial(name string, cache *mem.Cache) Mappable { return nil }

// FaultError says which signal a page fault deserves.
type FaultError struct {
	Signal unix.Signal // SIGSEGV or SIGBUS
	Code   int32       // si_code: SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR
}

func (e *FaultError) Error() string { return e.Signal.String() }

// AccessOf translates machine.Context.Error of a page fault.
func AccessOf(code uint64) machine.Access { return 0 }

// Fault serves a page fault. Nil: try the instruction again. Otherwise *FaultError, or
// ENOMEM when memory ran out.
func (as *AddressSpace) Fault(addr uint64, access machine.Access) error { return unix.ENOSYS }

// CopyIn copies from va; it returns the number of bytes copied, with EFAULT when not all.
func (as *AddressSpace) CopyIn(dst []byte, va uint64) (int, error) { return 0, unix.EFAULT }

// CopyOut copies to va.
func (as *AddressSpace) CopyOut(va uint64, src []byte) (int, error) { return 0, unix.EFAULT }

// Zero writes n zero bytes to va.
func (as *AddressSpace) Zero(va, n uint64) error { return unix.EFAULT }

// ReadString returns the string at va without its NUL. It reads max bytes at most; ok is false when there is
// no NUL in them. EFAULT.
func (as *AddressSpace) ReadString(va uint64, max int) (s string, ok bool, err error) {
	return "", false, unix.EFAULT
}

// Load32 and so on access one word; EFAULT. Those of 32 bits must be aligned.
func (as *AddressSpace) Load32(va uint64) (uint32, error)  { return 0, unix.EFAULT }
func (as *AddressSpace) Load64(va uint64) (uint64, error)  { return 0, unix.EFAULT }
func (as *AddressSpace) Store32(va uint64, v uint32) error { return unix.EFAULT }
func (as *AddressSpace) Store64(va uint64, v uint64) error { return unix.EFAULT }
func (as *AddressSpace) CompareAndSwap32(va uint64, old, new uint32) (found uint32, err error) {
	return 0, unix.EFAULT
}

// Range is one iovec.
type Range struct{ Addr, Len uint64 }

// IOVec is a uio.Sink and uio.Source over memory of a program. The zero value is empty; a task keeps one
// and sets it for each call, so that no allocation is needed.
type IOVec struct{ as *AddressSpace }

// NewIOVec returns one for ranges.
func NewIOVec(as *AddressSpace, ranges []Range) *IOVec { return nil }

// Set makes v stand for one range.
func (v *IOVec) Set(as *AddressSpace, addr, n uint64) {}

// SetRanges makes v stand for several ranges, one after the other.
func (v *IOVec) SetRanges(as *AddressSpace, ranges []Range) {}

// Put implements uio.Sink.
func (v *IOVec) Put(p []byte) (int, error) { return 0, unix.EFAULT }

// Take implements uio.Source.
func (v *IOVec) Take(p []byte) (int, error) { return 0, unix.EFAULT }

// Left implements both.
func (v *IOVec) Left() int { return 0 }

// FutexKey identifies a futex: comparable.
type FutexKey struct {
	Space  *AddressSpace // of a private futex, else nil
	Cache  *mem.Cache    // of a shared one
	Offset uint64        // address, or offset into the cache
}

// FutexKey returns the key of the futex at addr; EFAULT.
func (as *AddressSpace) FutexKey(addr uint64, private bool) (FutexKey, error) {
	return FutexKey{}, unix.EFAULT
}

// AreaInfo describes one area, as /proc/PID/maps and smaps do.
type AreaInfo struct {
	Start, End   uint64
	Prot         int
	Shared       bool
	Offset       uint64
	Major, Minor uint32
	Inode        uint64
	Name         string
	RSS          uint64 // pages
}

// Areas returns the areas in order of address.
func (as *AddressSpace) Areas() []AreaInfo { return nil }

// Stats are the numbers of /proc/PID/status and statm, in pages.
type Stats struct {
	Size, Peak, Locked         uint64
	RSS, MaxRSS                uint64
	RSSAnon, RSSFile, RSSShmem uint64
	Data, Stack, Exec          uint64
	Areas                      int
}

// Stats returns them.
func (as *AddressSpace) Stats() Stats { return Stats{} }
