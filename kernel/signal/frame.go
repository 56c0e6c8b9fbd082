package signal

import (
	"encoding/binary"

	"gosv/kernel/abi"
	"gosv/machine"
)

// The signal frame of Linux x86-64 (arch/x86/include/asm/sigframe.h,
// include/uapi/asm/sigcontext.h, ucontext.h), by offset:
//
//	0    pretcode, the address of the restorer
//	8    ucontext: uc_flags, uc_link, uc_stack (24 bytes)
//	48   sigcontext (256 bytes): r8…r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip,
//	     eflags, cs gs fs ss, err, trapno, oldmask, cr2, fpstate, reserved
//	304  uc_sigmask
//	312  siginfo (128 bytes)
//
// Above it, aligned to 64 bytes, lies the floating-point state in the XSAVE format, whose
// bytes 464 to 511 say how large it is, followed by a magic number.
const (
	ucOff    = 8
	mcOff    = 48
	maskOff  = 304
	infoOff  = 312
	frameLen = 440
	fpPtrOff = mcOff + 184

	// FrameSize is the size of the part below the floating-point state.
	FrameSize = frameLen

	redZone = 128

	ucFPXState         = 1
	ucSigcontextSS     = 2
	ucStrictRestoreSS  = 4
	fpSW               = 464
	fpMagic1           = 0x46505853
	fpMagic2           = 0x46505845
	fpMagic2Len        = 4
	fxsaveLen          = 512
	userCS, userSS     = 0x33, 0x2b
	flagsRestored      = 0x50dd5 // FIX_EFLAGS: AC OF DF TF SF ZF AF PF CF RF
	flagDF             = 0x400
	flagTF             = 0x100
	flagRF             = 0x10000
	stackAlign, fpAlgn = 16, 64
)

var le = binary.LittleEndian

// Frame is what a signal frame carries besides registers.
type Frame struct {
	Info                   *Info
	Mask                   Set        // restored by sigreturn
	Stack                  abi.StackT // the alternate stack, as sigaltstack(2) describes it
	Trap, Error, FaultAddr uint64     // of the last exception
	Restorer               uint64
	FloatSize              int // machine.CPU's
	FloatMask              uint64
}

// Layout is where the parts of a frame go: user addresses.
type Layout struct {
	// SP is the stack pointer of the handler: the frame's lowest address.
	SP uint64
	// Float is the address of the floating-point state.
	Float uint64
	// End is the first address behind the frame.
	End uint64
}

// Place finds the place for a frame below the stack pointer sp; alt is the alternate stack to switch
// to, or nil. floatSize is that of machine.CPU. ok is false when it would
// leave the alternate stack or the address space.
func Place(sp uint64, alt *abi.StackT, switchTo bool, floatSize int) (l Layout, ok bool) {
	nested := alt != nil && On(alt, sp)
	sp -= redZone
	entering := switchTo && alt != nil && alt.Size != 0 && !On(alt, sp)
	if entering {
		sp = alt.SP + alt.Size
	}
	need := uint64(floatSize + fpMagic2Len)
	l.Float = (sp - need) &^ (fpAlgn - 1)
	l.End = l.Float + need
	l.SP = (l.Float-frameLen)&^(stackAlign-1) - 8
	if l.SP >= l.End || l.End > machine.UserTop {
		return l, false
	}
	if (nested || entering) && !inside(alt, l.SP) {
		return l, false
	}
	return l, true
}

// Build writes the frame for a handler that interrupts r into b, which covers
// [l.SP, l.End). The floating-point state has been stored at Float-SP already.
func Build(b []byte, l Layout, f *Frame, r *machine.Regs) {
	le.PutUint64(b, f.Restorer)
	le.PutUint64(b[ucOff:], ucFPXState|ucSigcontextSS|ucStrictRestoreSS)
	le.PutUint64(b[ucOff+8:], 0)
	abi.PutStackT(b[ucOff+16:], f.Stack)
	m := b[mcOff : mcOff+256]
	putRegs(m, r)
	le.PutUint64(m[152:], f.Error)
	le.PutUint64(m[160:], f.Trap)
	le.PutUint64(m[168:], uint64(f.Mask))
	le.PutUint64(m[176:], f.FaultAddr)
	le.PutUint64(m[184:], l.Float)
	clear(m[192:256])
	le.PutUint64(b[maskOff:], uint64(f.Mask))
	copy(b[infoOff:], f.Info[:])

	fp := b[l.Float-l.SP:]
	size := f.FloatSize
	le.PutUint32(fp[fpSW:], fpMagic1)
	le.PutUint32(fp[fpSW+4:], uint32(size+fpMagic2Len))
	le.PutUint64(fp[fpSW+8:], f.FloatMask)
	le.PutUint32(fp[fpSW+16:], uint32(size))
	clear(fp[fpSW+20 : fxsaveLen])
	le.PutUint32(fp[size:], fpMagic2)
}

func putRegs(m []byte, r *machine.Regs) {
	_ = m[151]
	le.PutUint64(m[0:], r.R8)
	le.PutUint64(m[8:], r.R9)
	le.PutUint64(m[16:], r.R10)
	le.PutUint64(m[24:], r.R11)
	le.PutUint64(m[32:], r.R12)
	le.PutUint64(m[40:], r.R13)
	le.PutUint64(m[48:], r.R14)
	le.PutUint64(m[56:], r.R15)
	le.PutUint64(m[64:], r.RDI)
	le.PutUint64(m[72:], r.RSI)
	le.PutUint64(m[80:], r.RBP)
	le.PutUint64(m[88:], r.RBX)
	le.PutUint64(m[96:], r.RDX)
	le.PutUint64(m[104:], r.RAX)
	le.PutUint64(m[112:], r.RCX)
	le.PutUint64(m[120:], r.RSP)
	le.PutUint64(m[128:], r.RIP)
	le.PutUint64(m[136:], r.RFLAGS)
	le.PutUint64(m[144:], userCS|userSS<<48)
}

// Enter sets the registers so that the handler of sig starts on its frame.
func Enter(r *machine.Regs, l Layout, sig uint64, handler uint64) {
	r.RDI, r.RSI, r.RDX = sig, l.SP+infoOff, l.SP+ucOff
	r.RAX = 0
	r.RSP, r.RIP = l.SP, handler
	r.RFLAGS &^= flagDF | flagTF | flagRF
}

// Restored is what sigreturn takes from a frame.
type Restored struct {
	Mask  Set
	Stack abi.StackT
	// Float is the user address of the floating-point state, 0 for the initial state.
	Float uint64
	// Selectors says that the code and stack segments are those of a 64-bit
	// program: any others fault when they are loaded.
	Selectors bool
}

// Restore reads back the frame b of FrameSize bytes into the registers.
func Restore(b []byte, r *machine.Regs) Restored {
	m := b[mcOff : mcOff+256]
	r.R8, r.R9 = le.Uint64(m[0:]), le.Uint64(m[8:])
	r.R10, r.R11 = le.Uint64(m[16:]), le.Uint64(m[24:])
	r.R12, r.R13 = le.Uint64(m[32:]), le.Uint64(m[40:])
	r.R14, r.R15 = le.Uint64(m[48:]), le.Uint64(m[56:])
	r.RDI, r.RSI = le.Uint64(m[64:]), le.Uint64(m[72:])
	r.RBP, r.RBX = le.Uint64(m[80:]), le.Uint64(m[88:])
	r.RDX, r.RAX = le.Uint64(m[96:]), le.Uint64(m[104:])
	r.RCX, r.RSP = le.Uint64(m[112:]), le.Uint64(m[120:])
	r.RIP = le.Uint64(m[128:])
	r.RFLAGS = r.RFLAGS&^flagsRestored | le.Uint64(m[136:])&flagsRestored
	cs, ss := le.Uint16(m[144:])|3, le.Uint16(m[150:])|3
	strict := le.Uint64(b[ucOff:])&ucStrictRestoreSS != 0 // else Linux repairs SS
	return Restored{
		Mask:      Set(le.Uint64(b[maskOff:])),
		Stack:     abi.GetStackT(b[ucOff+16:]),
		Float:     le.Uint64(b[fpPtrOff:]),
		Selectors: cs == userCS && (ss == userSS || !strict),
	}
}

// FloatHeaderSize is how many bytes of a floating-point state FloatLength needs.
const FloatHeaderSize = fxsaveLen

// FloatLength returns how many bytes of the floating-point state that begins with fx
// are to be restored: all size bytes that this machine saves when the state says so, or the 512
// of FXSAVE. With size also the magic number behind the state must be
// checked, by FloatEnd.
func FloatLength(fx []byte, size int) int {
	sw := fx[fpSW:]
	extended, xsize := le.Uint32(sw[4:]), le.Uint32(sw[16:])
	if le.Uint32(sw) != fpMagic1 || xsize < fxsaveLen+64 || int64(xsize) > int64(size) || xsize > extended {
		return fxsaveLen
	}
	return int(xsize)
}

// FloatEnd reports whether b, the four bytes behind the state, hold the magic number.
func FloatEnd(b []byte) bool { return le.Uint32(b) == fpMagic2 }
