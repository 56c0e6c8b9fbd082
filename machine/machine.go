// Package machine says what the kernel needs of a machine, in small interfaces
// and plain types, and nothing of how it is done.
//
// Package machine/bare implements them on bare x86-64, package machine/fake on
// the host, for tests. Everything above this package knows only this package,
// which is why it can be tested without a virtual machine.
//
// All methods may be called from any goroutine at any time unless their
// comment says otherwise.
package machine

import "errors"

// PageSize is the size of a page and of a frame, in bytes.
const PageSize = 4096

// HugeSize is the size of a large page, in bytes.
const HugeSize = 2 << 20

// UserTop is the first address that no program may use: the last page below
// the non-canonical hole stays unmapped, so that a SYSCALL instruction at its
// end can never leave a non-canonical return address (Intel SDM vol. 2, SYSRET).
const UserTop = 0x7ffffffff000

// ErrNoMemory says that no frame is left for the purpose asked for. The kernel
// turns it into ENOMEM.
var ErrNoMemory = errors.New("out of physical memory")

// A Frame is the number of a physical 4 KiB page (address / PageSize).
type Frame uint64

// NoFrame is never the number of a usable frame.
const NoFrame Frame = 0

// FreeBlocks finds large parts of the memory that nobody uses.
type FreeBlocks interface {
	// TakeFree takes the free block that begins at f, if it has BlockFrames or more, and returns how many frames it has, which are
	// not zeroed; 0 when there is none, or when memory would run short. Frames.Free gives it back.
	TakeFree(f Frame) (n int)
	// OnFreed has tell called once, when about n more frames were freed, in place of what was asked for before. tell must not block.
	OnFreed(n int, tell func())
}

// BlockFrames is the alignment of what TakeFree takes, and the least that it takes.
const BlockFrames = 32

// Frames hands out physical memory.
type Frames interface {
	// Alloc returns one zeroed frame, or ErrNoMemory when only the kernel's
	// own reserve is left.
	Alloc() (Frame, error)
	// AllocRun returns the first of n contiguous zeroed frames, aligned to the
	// next power of two not below n (at most 512), for DMA and large pages.
	AllocRun(n int) (Frame, error)
	// AllocRaw is AllocRun of frames that still hold what they held before: nobody may see them until they are overwritten.
	AllocRaw(n int) (Frame, error)
	// Free gives n contiguous frames back; no mapping of them may be left.
	Free(f Frame, n int)
	// Bytes gives access to n contiguous frames through the direct map.
	Bytes(f Frame, n int) []byte
	// Limit returns a frame number above that of any frame that can be allocated.
	Limit() Frame
	// OnShortage installs what to do when the kernel's own reserve shrinks although
	// its collector has run: the kernel must make programs give memory
	// back. It runs on a goroutine of its own.
	OnShortage(func())
	// Usage returns the number of frames that the machine has for programs and
	// kernel together, and how many of them are free.
	Usage() (total, free uint64)
}

// Access is a set of rights to memory.
type Access uint8

// The rights; Write and Exec imply Read on x86.
const (
	Read Access = 1 << iota
	Write
	Exec
)

// Spaces makes user address spaces.
type Spaces interface {
	// NewSpace returns an empty address space, or ErrNoMemory.
	NewSpace() (Space, error)
}

// A Space is the page tables of one user address space. It keeps no record of
// what ought to be mapped, takes no references on frames, and never calls back
// into the kernel. Addresses and lengths are multiples of PageSize below
// UserTop, or the call panics (a bug of the caller).
//
// Calls that change different addresses may run side by side; the caller
// serialises changes to the same page.
type Space interface {
	// Map enters f at va, replacing what was there (without a TLB shootdown:
	// only a not-present entry, or one that gains rights, may be replaced so).
	// ErrNoMemory when no frame for a page table is left.
	Map(va uint64, f Frame, acc Access) error
	// Fill enters frames, one a page from va on, where nothing is mapped, and replaces each that it entered by NoFrame; NoFrame is
	// passed over. The pages lie within one aligned range of HugeSize. Without memory for a page table it enters none.
	Fill(va uint64, frames []Frame, acc Access)
	// MapHuge enters 512 contiguous frames at va, both aligned to HugeSize.
	// Every page below must be unmapped.
	MapHuge(va uint64, f Frame, acc Access) error
	// Unmap clears [va, va+length), makes every CPU forget it, then calls
	// freed, if not nil, for each run of n frames that was mapped.
	// Splitting a large page at an end may need a page table; it comes out of
	// the kernel's reserve and cannot fail.
	Unmap(va, length uint64, freed func(va uint64, f Frame, n int))
	// Protect gives the pages mapped in [va, va+length) the rights acc (0: no
	// access, the frame stays known to Lookup); every CPU sees it on return.
	Protect(va, length uint64, acc Access)
	// Lookup returns the frame mapped at va and its rights; ok is false when
	// nothing is mapped there. Inside a large page it returns the 4 KiB frame.
	Lookup(va uint64) (f Frame, acc Access, ok bool)
	// Next returns the first address at or above va, below end, where a page is
	// mapped; ok is false when there is none.
	Next(va, end uint64) (at uint64, ok bool)
	// Share maps every page of [va, va+length) that is mapped here into child
	// too, at the same address, and takes the right to write away in both.
	// It calls shared for each run of n frames. On ErrNoMemory the pages for
	// which shared was called stay mapped in child.
	Share(child Space, va, length uint64, shared func(f Frame, n int)) error
	// Large reports whether va lies in a large page.
	Large(va uint64) bool
	// Trim frees the page tables in which nothing is mapped. No other call may change or look at the space meanwhile.
	Trim()
	// Barrier makes every processor that runs a program in this space execute a memory barrier and a serialising instruction
	// before it returns (membarrier(2)).
	Barrier()
	// Tables returns how many frames the page tables take.
	Tables() uint64
	// Destroy frees the page tables. No Enter may be running in this space and
	// none may start. Mapped frames are the caller's: Unmap them first.
	Destroy()

	// CopyIn copies from user memory at va until dst is full or a page cannot
	// be read; it returns the number of bytes copied. Short means: access
	// Read at va+n faults. An address at or above UserTop faults too.
	CopyIn(dst []byte, va uint64) (n int)
	// CopyOut copies src to user memory at va, as CopyIn does.
	CopyOut(va uint64, src []byte) (n int)
	// ZeroOut writes n zero bytes at va and returns how many it wrote.
	ZeroOut(va, n uint64) uint64
	// Load32 and Load64 read one naturally aligned word; ok is false on a fault
	// or a misaligned address, which Load64 and Store64 may take: not as one access, then.
	Load32(va uint64) (v uint32, ok bool)
	Load64(va uint64) (v uint64, ok bool)
	// Store32 and Store64 write one naturally aligned word.
	Store32(va uint64, v uint32) (ok bool)
	Store64(va uint64, v uint64) (ok bool)
	// CompareAndSwap32 replaces old by new and returns the value found, which
	// equals old exactly when the swap happened.
	CompareAndSwap32(va uint64, old, new uint32) (found uint32, ok bool)
}

// A Clock tells the time and wakes the kernel at a chosen moment.
type Clock interface {
	// Monotonic returns nanoseconds since power-on, or a moment before. It never goes back.
	Monotonic() int64
	// Ticks reads the counter behind Monotonic; TicksToNS makes a difference of
	// two readings nanoseconds. That is cheaper where many readings are made
	// for each result, as in accounting for CPU time.
	Ticks() uint64
	TicksToNS(d uint64) int64
	// Wall returns nanoseconds since 1970-01-01 UTC.
	Wall() int64
	// SetWall sets the wall clock.
	SetWall(ns int64)
	// SetAlarm asks for one call of the alarm handler at or after the given
	// monotonic time, in place of the one asked for before; 0 asks for none.
	SetAlarm(ns int64)
	// OnAlarm installs the alarm handler. It runs on an interrupt goroutine
	// and must not block.
	OnAlarm(func())
	// Timebase tells how a program may compute the time by itself.
	Timebase() Timebase
}

// Timebase: monotonic ns = ((tsc - TSC) * Mult) >> 32 (64.64-bit product),
// wall ns = monotonic + WallOffset. Usable is false when the
// counter cannot be trusted, and programs must ask the kernel.
type Timebase struct {
	Usable     bool
	TSC        uint64
	Mult       uint64
	WallOffset int64
}

// Interrupts connects devices to handlers.
type Interrupts interface {
	// Vector reserves an interrupt vector for handler, which runs on an
	// interrupt goroutine after the interrupt was acknowledged, and must not block.
	// Interrupts that come before the handler ran are merged into one call. name tells a person whose it is.
	Vector(name string, handler func()) (vector uint8, err error)
	// Route sends a global system interrupt (I/O APIC input) to a vector; each can be routed once.
	Route(gsi uint32, vector uint8, levelTriggered, activeLow bool) error
	// Message returns the MSI address and data that raise a vector.
	Message(vector uint8) (address uint64, data uint32)
	// Lines returns what has a vector, in the vectors' order.
	Lines() []Line
	// Came returns how many interrupts came to processor n, below CPUs, by a vector; modulo 1<<32.
	Came(n int, vector uint8) uint32
}

// A Line is where a vector's interrupts come from.
type Line struct {
	Vector uint8
	Name   string
	Input  int // of the I/O APICs; -1: they are messages
	Level  bool
}

// Vectors of what is no device (Intel SDM vol. 3 §11.5): a processor's timer, and what processors have to say to each other.
const (
	VectorTimer = 32
	VectorCall  = 33
)

// Bus gives access to devices' registers.
type Bus interface {
	// Registers maps n bytes of device memory at physical address pa, uncached.
	Registers(pa, n uint64) (Memory, error)
	// In and Out access an I/O port; size is 1, 2 or 4 bytes.
	In(port uint16, size int) uint32
	Out(port uint16, size int, v uint32)
	// DeviceMemory gives access to n bytes of memory that a device brings at physical address pa, cached, both multiples of PageSize.
	// It lies above the machine's memory (Frames.Limit), and its frames, from first on, are there for good: Bytes and
	// Space.Map take them, nobody allocates or frees them. To be called before the first NewSpace. ErrNoMemory; other errors for
	// addresses that cannot be.
	DeviceMemory(pa, n uint64) (first Frame, err error)
}

// Firmware tells what the boot loader and the firmware left for us.
type Firmware interface {
	// CommandLine is the kernel's command line.
	CommandLine() string
	// Initrd is the initial RAM disk: its first frame and its length in bytes; 0 when
	// there is none. It starts at a frame boundary and its frames belong to
	// the kernel, which may Free them.
	Initrd() (first Frame, length uint64)
	// RSDP is the physical address of ACPI's root pointer, or 0.
	RSDP() uint64
	// Physical reads n bytes of physical memory at pa (firmware tables). It fails for
	// addresses that are not memory.
	Physical(pa, n uint64) ([]byte, error)
	// CPUs is the number of processors that run.
	CPUs() int
}

// Power ends the virtual machine.
type Power interface {
	// Off powers the machine off and does not return. status (0-255) is handed to the debug-exit
	// device where there is one.
	Off(status int)
	// OnOff installs the platform's own way of powering off (ACPI), tried first.
	OnOff(func())
}

// Console is the way out for the kernel's own words when nothing else works yet: the first serial port.
type Console interface {
	// Emergency writes b by polling. It works in any state of the kernel.
	Emergency(b []byte)
}

// Machine is all of it.
type Machine interface {
	Frames
	Spaces
	CPU
	Clock
	Interrupts
	Bus
	Firmware
	Power
	Console
}
