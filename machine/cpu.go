package machine

// Regs are the registers of a program, in the order in which the bare
// machine's trap stubs store them: do not reorder.
type Regs struct {
	R15, R14, R13, R12, R11, R10, R9, R8    uint64
	RBP, RDI, RSI, RDX, RCX, RBX, RAX       uint64
	Vector, Error, RIP, CS, RFLAGS, RSP, SS uint64
	FSBase, GSBase                          uint64
}

// Context is the processor state of one user thread. The kernel owns it while
// no Enter runs on it, and may change registers freely: Enter makes the state
// safe before it is used (selectors, RFLAGS, canonical addresses), so no value can harm
// the kernel; an impossible RIP or RSP makes the program fault.
type Context struct {
	Regs
	// FaultAddr is the address that a page fault was about (CR2).
	FaultAddr uint64
	// OrigRAX is the system call number of the last Syscall trap: RAX at entry.
	OrigRAX uint64
}

// Trap says why Enter returned.
type Trap int

// The reasons.
const (
	// Syscall: the program executed SYSCALL. Number in RAX, arguments in RDI,
	// RSI, RDX, R10, R8, R9; RIP is behind the instruction.
	Syscall Trap = iota
	// PageFault: Context.FaultAddr and Context.Error (Intel SDM vol. 3 §4.7).
	PageFault
	// Exception: any other processor exception, number in Context.Vector. After a debug exception (vector 1)
	// FaultAddr is what DR6 was.
	Exception
	// Interrupted: an interrupt needs the kernel's goroutines, or Kick was called.
	Interrupted
	// Moved: the program would be on another processor than Expect said, or others ran there meanwhile.
	Moved
)

// Bits of Context.Error after a PageFault.
const (
	FaultPresent = 1 << 0
	FaultWrite   = 1 << 1
	FaultUser    = 1 << 2
	FaultFetch   = 1 << 4
)

// A Meter is the machine's own. The zero Meter has not begun.
type Meter struct{ Since, Used uint64 }

// CPU runs programs in ring 3.
type CPU interface {
	// NewContext returns a context with all registers zero, flags and
	// selectors those of a fresh program and the floating-point state initial.
	NewContext() (*Context, error)
	// FreeContext gives it back; no Enter may be running on it.
	FreeContext(*Context)
	// SetSpace says in which address space Enter runs c, at first none; no Enter may be
	// running on c.
	SetSpace(c *Context, s Space)
	// SetDebug says what DR0 to DR3 and DR7 are while Enter runs c (Intel SDM vol. 3 §17.2); no Enter may be running on
	// c. The addresses are below UserTop, and DR7 enables local breakpoints only. Another context may get a debug
	// exception that is meant for this one.
	SetDebug(c *Context, dr [4]uint64, dr7 uint64)
	// Expect says on which processor the program believes to run: anywhere else, and when it was not running for
	// a while, Enter returns Moved. -1 for a program that does not care. No Enter may be running on c.
	Expect(c *Context, cpu int)
	// Bind restricts the processors on which the calling goroutine runs, which must be locked to its
	// thread, to set, a bit each; 0: all.
	Bind(set uint64)
	// Enter runs the program until something happens. At most one Enter per
	// context at a time.
	Enter(c *Context) Trap
	// Kick makes a running Enter on c, or else the next one, return
	// Interrupted soon. It may be called from any goroutine.
	Kick(c *Context)
	// Unkick forgets a Kick that no Enter has returned for yet.
	Unkick(c *Context)
	// Begin says that the program of c, and the kernel for it, use a processor from now on. No Enter may be running on c.
	Begin(c *Context)
	// Claim returns how many Ticks they had of processors since Begin, without what earlier calls returned. Go's runtime lets other
	// goroutines run without a word to the one that it takes the processor from. So what passed is too much, and it is
	// limited: all claims together get no more of a processor's time than there was, without the time in which
	// it had nothing to do. An interrupt of a program claims for it, at once. No Enter may be running on c.
	Claim(c *Context) uint64
	// Unclaimed returns what Claim would, as to the program that a processor runs just now, and 0 for one that is not in ring 3.
	// Any goroutine may call it; c has not been freed.
	Unclaimed(c *Context) uint64
	// BeginMeter and ClaimMeter are Begin and Claim for work of the kernel that no program does.
	BeginMeter(*Meter)
	ClaimMeter(*Meter) uint64
	// Spent returns how many Ticks of processor n, below CPUs, were claimed, and for how many it had nothing to do, since the clock's zero.
	Spent(n int) (claimed, idle uint64)
	// Inside reports whether an Enter runs the program of c on some processor just now. c has not been freed.
	Inside(c *Context) bool
	// Number is the number of the processor that runs the caller, from 0; it
	// may be another one already.
	Number() int

	// FloatSize is the size in bytes of a floating-point state image in the
	// XSAVE standard format (Intel SDM vol. 1 §13.4), as signal frames carry
	// it, and FloatMask the state components (XCR0) that it holds.
	FloatSize() int
	FloatMask() uint64
	// SaveFloat stores c's state into dst (FloatSize bytes); components in
	// their initial state are written out.
	SaveFloat(c *Context, dst []byte)
	// LoadFloat takes c's state from an image that a program may have
	// forged; false when it is not a valid image, and c is unchanged. 512 bytes
	// (FXSAVE) are enough.
	LoadFloat(c *Context, src []byte) bool
	// ResetFloat gives c the initial floating-point state.
	ResetFloat(c *Context)
	// CopyFloat gives dst the state of src.
	CopyFloat(dst, src *Context)
	// HWCap returns AT_HWCAP (CPUID 1 EDX) and AT_HWCAP2.
	HWCap() (hwcap, hwcap2 uint64)
}
