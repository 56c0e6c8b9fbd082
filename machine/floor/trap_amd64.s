// The doors of the floor: SYSCALL, interrupts and exceptions come in here, and
// contexts are resumed here. Interrupts are off throughout.
//
// Registers are saved straight into the context of whatever ran: P_THRTOP(GS)
// is the top of the running thread's register file, P_USERTOP(GS) that of the
// program it runs, and IST 1 in the TSS points at the one of the two that an
// event now would find. Nothing is ever pushed on a goroutine's stack.
//
// The way from ring 3 and back exists twice: for CPUs that have XSAVEOPT and
// FSGSBASE ("modern"), without questions, and for the others.

#include "textflag.h"
#include "layout_amd64.h"

// The frame pointer is switched together with the stack.
#define LOADBP MOVQ C_KBP(DI), BP
#define ZEROBP XORL BP, BP

// PUSHFRAME pushes what an exception would have pushed, for SYSCALL.
#define PUSHFRAME(cs, ss) \
	PUSHQ ss; PUSHQ P_SCRATCH(GS); PUSHQ R11; PUSHQ cs; PUSHQ CX; PUSHQ $0; PUSHQ VEC_SYSCALL

// STOREFRAME does so where nobody looks at the vector.
#define STOREFRAME(cs, ss) \
	PUSHQ ss; PUSHQ P_SCRATCH(GS); PUSHQ R11; PUSHQ cs; PUSHQ CX; LEAQ -16(SP), SP

// SAVEBASES stores the program's FS and GS bases in its context at SP.
#define SAVEBASES \
	RDFSBASEQ AX; MOVQ AX, C_FS(SP); SWAPGS; RDGSBASEQ AX; SWAPGS; MOVQ AX, C_GS(SP)

// SAVEMODERN and LOADMODERN are SAVEFLOAT and LOADFLOAT where the answer is
// known. What EDX adds to the mask is not in XCR0, and does not count.
#define SAVEMODERN(ctx) \
	MOVL ·floatMask(SB), AX; XSAVEOPT64 C_FX(ctx)
#define LOADMODERN(ctx) \
	MOVL ·floatMask(SB), AX; XRSTOR64 C_FX(ctx)

// LEAVE makes Enter return R8 to the goroutine that called it, from the
// program's context DI, when the kernel's FS base is loaded.
#define LEAVE \
	MOVQ P_THRTOP(GS), CX; MOVQ CX, P_IST(GS); MOVQ $0, C_CPU(DI); \
	LDMXCSR ·mxcsr(SB); \
	LOADBP; MOVQ C_KSP(DI), SP; MOVQ R8, 16(SP); STI; BYTE $0xc3	// RET; the assembler would count the PUSHQs

// LOADDEBUG loads the debug registers of the context DI, whose setting is CX; AX is lost. The
// assembler does not know DR1 to DR3.
#define LOADDEBUG \
	XORL AX, AX; MOVQ AX, DR7; \
	MOVQ (C_DR+0)(DI), AX; MOVQ AX, DR0; MOVQ (C_DR+8)(DI), AX; BYTE $0x0f; BYTE $0x23; BYTE $0xc8; \
	MOVQ (C_DR+16)(DI), AX; BYTE $0x0f; BYTE $0x23; BYTE $0xd0; MOVQ (C_DR+24)(DI), AX; BYTE $0x0f; BYTE $0x23; BYTE $0xd8; \
	MOVQ (C_DR+32)(DI), AX; MOVQ AX, DR7; MOVQ CX, P_DEBUG(GS)

// LOADREGS loads the registers of the context DI but for RIP, RSP, RFLAGS, RCX,
// R11 and RDI, then RIP into RCX and RFLAGS into R11.
#define LOADREGS \
	MOVQ C_R15(DI), R15; MOVQ C_R14(DI), R14; MOVQ C_R13(DI), R13; MOVQ C_R12(DI), R12; \
	MOVQ C_R10(DI), R10; MOVQ C_R9(DI), R9; MOVQ C_R8(DI), R8; MOVQ C_RBP(DI), BP; \
	MOVQ C_RSI(DI), SI; MOVQ C_RDX(DI), DX; MOVQ C_RBX(DI), BX; MOVQ C_RAX(DI), AX; \
	MOVQ C_RIP(DI), CX; MOVQ C_RFL(DI), R11

// SYSCALL from ring 0 (the Go runtime, or call) and ring 3. RCX, the return
// address, tells which: a program's is positive.
TEXT ·sysEntry(SB),NOSPLIT|NOFRAME,$0
	TESTQ	CX, CX
	JNS	user
	JMP	sysKernel<>(SB)
user:
	SWAPGS
	MOVQ	SP, P_SCRATCH(GS)
	MOVQ	P_USERTOP(GS), SP
	PUSHFRAME(SEL_UCODE, SEL_UDATA)
	PUSHREGS
	MOVQ	AX, C_ORIG(SP)
	JMP	saveUser<>(SB)

TEXT ·sysEntryModern(SB),NOSPLIT|NOFRAME,$0
	TESTQ	CX, CX
	JNS	user
	JMP	sysKernel<>(SB)
user:
	SWAPGS
	MOVQ	SP, P_SCRATCH(GS)
	MOVQ	P_USERTOP(GS), SP
	STOREFRAME(SEL_UCODE, SEL_UDATA)
	PUSHREGS
	MOVQ	AX, C_ORIG(SP)
	SAVEBASES
	SAVEMODERN(SP)
	MOVQ	SP, DI
	MOVQ	P_THRFS(GS), AX
	WRFSBASEQ AX
	XORL	R8, R8	// machine.Syscall
	LEAVE

TEXT sysKernel<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	SP, P_SCRATCH(GS)
	MOVQ	P_THRTOP(GS), SP
	PUSHFRAME(SEL_KCODE, SEL_KDATA)
	PUSHREGS
	MOVQ	$0, C_FLAG(SP)	// the caller keeps no vector registers
	JMP	floorEnter<>(SB)

// All stubs come here with vector and error code pushed: SP is inside the
// context of whatever ran.
TEXT ·trapCommon(SB),NOSPLIT|NOFRAME,$0
	PUSHREGS
	CLD
	TESTB	$3, C_CS(SP)
	JNZ	user
	CMPB	·hasSMAP(SB), $0
	JEQ	2(PC)
	CLAC
	SAVEFLOAT(SP)
	MOVQ	$1, C_FLAG(SP)
	CMPQ	P_INFLOOR(GS), $0
	JEQ	floor
	JMP	·trapNested(SB)
floor:
	JMP	floorEnter<>(SB)
user:
	SWAPGS
	MOVQ	CR2, AX
	MOVQ	AX, C_CR2(SP)
	JMP	saveUser<>(SB)

// A program's registers are in its context at SP: save the rest, and go to the
// kernel, or to the floor first if it was an interrupt.
TEXT saveUser<>(SB),NOSPLIT|NOFRAME,$0
	CMPB	·hasBase(SB), $0
	JEQ	nobase
	SAVEBASES
nobase:
	SAVEFLOAT(SP)
	MOVQ	C_VEC(SP), AX
	CMPL	AX, $32
	JCS	exception
	CMPL	AX, VEC_SYSCALL
	JNE	floor
	XORL	AX, AX	// machine.Syscall
	JMP	leaveUser<>(SB)
exception:
	CMPL	AX, $1
	JNE	fault
	MOVQ	DR6, CX
	MOVQ	CX, C_CR2(SP)
	XORL	CX, CX
	MOVQ	CX, DR6
fault:
	CMPL	AX, $14
	MOVL	$1, AX	// machine.PageFault
	JEQ	2(PC)
	MOVL	$2, AX	// machine.Exception
	JMP	leaveUser<>(SB)
floor:
	JMP	floorEnter<>(SB)

// leaveUser makes Enter return AX; SP is the program's context.
TEXT leaveUser<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	AX, R8
	MOVQ	SP, DI
	MOVQ	P_THRFS(GS), AX
	SETFS
	LEAVE

// floorEnter runs trap on this CPU's floor stack, as a goroutine that never
// was: R14 and the TLS word name a g with nothing but stack bounds.
TEXT floorEnter<>(SB),NOSPLIT|NOFRAME,$0
	CLD
	MOVQ	SP, BX
	MOVQ	P_FLOORSP(GS), SP
	MOVQ	P_FLOORFS(GS), AX
	SETFS
	LDMXCSR	·mxcsr(SB)
	MOVQ	P_G(GS), R14
	PXOR	X15, X15
	ZEROBP
	MOVQ	$1, P_INFLOOR(GS)
	MOVQ	P_SELF(GS), AX
	SUBQ	$64, SP
	MOVQ	·trapFn(SB), DX
	MOVQ	(DX), CX
	CALL	CX
	JMP	floorExit<>(SB)

// floorExitTo resumes the kernel context AX.
TEXT ·floorExitTo(SB),NOSPLIT|NOFRAME,$0
	XORL	BX, BX
	JMP	floorExit<>(SB)

// floorExit resumes the context AX: in ring 0 (BX 0), in ring 3 (1), or by
// making the Enter that runs it return, with BX + 1.
TEXT floorExit<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	AX, SP
	MOVQ	$0, P_INFLOOR(GS)
	CMPL	BX, $1
	JEQ	user
	JHI	leave
	MOVQ	P_THRTOP(GS), CX
	MOVQ	CX, P_IST(GS)
	MOVQ	P_THRFS(GS), AX
	SETFS
	CMPQ	C_FLAG(SP), $0
	JEQ	nofloat
	LOADFLOAT(SP)
	JMP	pop
nofloat:
	PXOR	X15, X15
	LDMXCSR	·mxcsr(SB)
pop:
	POPREGS
	ADDQ	$16, SP
	IRETQ
user:
	MOVQ	SP, DI
	JMP	toUser<>(SB)
leave:
	LEAQ	1(BX), AX	// machine.Interrupted, machine.Moved
	JMP	leaveUser<>(SB)

// func enter(c *Context) machine.Trap
//
// The goroutine's side is SP and BP only: assembly functions keep nothing else.
TEXT ·enter(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ	c+0(FP), DI
	MOVQ	C_SPACE(DI), SI
	CLI
	MOVQ	P_NUMBER(GS), CX
	CMPQ	CX, C_WANT(DI)
	JNE	moved
here:
	XCHGQ	CX, C_CPU(DI)	// before the look at C_FLAG: see kick
	CMPQ	C_FLAG(DI), $0
	JNE	kicked
	CMPQ	·devicePending(SB), $0
	JNE	kicked
	MOVQ	C_RIP(DI), CX
	SARQ	$47, CX
	JNE	high
low:
	MOVQ	SP, C_KSP(DI)
	MOVQ	BP, C_KBP(DI)
	CMPQ	SI, P_SPACE(GS)
	JNE	space
go:
	CMPB	·modern(SB), $0
	JEQ	old
	LEAQ	C_TOP(DI), CX
	MOVQ	CX, P_USERTOP(GS)
	MOVQ	CX, P_IST(GS)
	LOADMODERN(DI)
	MOVQ	C_FS(DI), AX
	WRFSBASEQ AX
	MOVQ	C_GS(DI), AX
	SWAPGS
	WRGSBASEQ AX
	LOADREGS
	CMPQ	CX, C_RCX(DI)
	JNE	slow
	CMPQ	R11, C_R11(DI)
	JNE	slow
	TESTL	$0x10100, R11	// RF and TF: SYSRET treats them as IRET does not
	JNZ	slow
	ANDL	USER_FLAGS, R11
	ORL	USER_FIXED, R11
	MOVQ	C_RSP(DI), SP
	MOVQ	C_RDI(DI), DI
	BYTE	$0x48
	SYSRET
slow:
	JMP	iret<>(SB)
old:
	JMP	toUser<>(SB)
space:
	CALL	·setSpaceSI(SB)
	CMPQ	P_DEBUG(GS), $0
	JEQ	go
	CMPQ	C_DEBUG(DI), $0
	JNE	go
	XORL	AX, AX
	MOVQ	AX, DR7
	MOVQ	AX, P_DEBUG(GS)
	JMP	go
kicked:
	MOVQ	$0, C_FLAG(DI)
	MOVQ	$0, C_CPU(DI)
	STI
	MOVQ	$3, ret+8(FP)	// machine.Interrupted
	RET
moved:
	CMPQ	C_WANT(DI), $0
	JEQ	here
	MOVQ	C_DEBUG(DI), CX
	TESTQ	CX, CX
	JEQ	away
	CMPQ	CX, P_DEBUG(GS)	// this one always comes here
	JEQ	loaded
	LOADDEBUG
loaded:
	MOVQ	P_NUMBER(GS), CX
	CMPQ	C_REAL(DI), $0
	JEQ	here
	CMPQ	C_REAL(DI), CX
	JEQ	here
away:
	STI
	MOVQ	$4, ret+8(FP)	// machine.Moved
	RET
high:
	INCQ	CX	// a kernel address is for the page tables to refuse
	JEQ	low
	MOVQ	$0, C_CPU(DI)	// not canonical: IRET would fault in ring 0
	STI
	MOVQ	$13, C_VEC(DI)
	MOVQ	$0, C_ERR(DI)
	MOVQ	$2, ret+8(FP)	// machine.Exception
	RET

// toUser goes to ring 3 with the context DI, whose space is loaded.
TEXT toUser<>(SB),NOSPLIT|NOFRAME,$0
	LEAQ	C_TOP(DI), CX
	MOVQ	CX, P_USERTOP(GS)
	MOVQ	CX, P_IST(GS)
	LOADFLOAT(DI)
	MOVQ	C_FS(DI), AX
	SETFS
	CMPB	·hasBase(SB), $0
	JEQ	nobase
	MOVQ	C_GS(DI), AX
	SWAPGS
	WRGSBASEQ AX
	JMP	regs
nobase:
	MOVL	C_GS(DI), AX
	MOVL	(C_GS+4)(DI), DX
	MOVL	$0xC0000102, CX
	WRMSR
	SWAPGS
regs:
	LOADREGS
	JMP	iret<>(SB)

// iret is the end of the way to ring 3 that works for any RCX and R11.
TEXT iret<>(SB),NOSPLIT|NOFRAME,$0
	ANDL	USER_FLAGS, R11
	ORL	USER_FIXED, R11
	LEAQ	C_TOP(DI), SP
	PUSHQ	SEL_UDATA
	PUSHQ	C_RSP(DI)
	PUSHQ	R11
	PUSHQ	SEL_UCODE
	PUSHQ	CX
	MOVQ	C_R11(DI), R11
	MOVQ	C_RCX(DI), CX
	MOVQ	C_RDI(DI), DI
	IRETQ

// setSpaceSI loads the page tables of the space SI (0: the kernel's own); AX, CX,
// DX are lost. Interrupts are off. The order of the two masks and CR3 is what a
// shootdown relies on: a CPU that may hold translations of a space is in its mask.
TEXT ·setSpaceSI(SB),NOSPLIT|NOFRAME,$0
	MOVQ	P_SPACE(GS), DX
	CMPQ	SI, DX	// the caller looked with interrupts on: it may be there by now
	JEQ	done
	MOVQ	P_BIT(GS), CX
	MOVQ	·kernelRoot(SB), AX
	TESTQ	SI, SI
	JEQ	load
	LOCK
	ORQ	CX, S_CPUS(SI)
	MOVQ	S_ROOT(SI), AX
load:
	MOVQ	SI, P_SPACE(GS)
	CMPB	·hasPCID(SB), $0
	JNE	pcid
write:
	MOVQ	AX, P_ROOT(GS)
	MOVQ	AX, CR3
leave:
	TESTQ	DX, DX
	JEQ	done
	NOTQ	CX
	LOCK
	ANDQ	CX, S_CPUS(DX)
done:
	RET
pcid:	// what this CPU knows of the space is kept if nothing was taken away since
	XORL	CX, CX
	TESTQ	SI, SI
	MOVL	$1, SI
	JEQ	tagged
	MOVQ	P_SPACE(GS), SI
	MOVQ	S_PCID(SI), CX
	MOVQ	S_TAG(SI), SI
tagged:
	ORQ	CX, AX
	SHLQ	$3, CX
	ADDQ	P_SELF(GS), CX
	CMPQ	SI, P_TAGS(CX)
	MOVQ	SI, P_TAGS(CX)
	MOVQ	P_SPACE(GS), SI
	MOVQ	P_BIT(GS), CX
	JNE	write
	MOVQ	AX, P_ROOT(GS)
	BTSQ	$63, AX
	MOVQ	AX, CR3
	JMP	leave

// func setSpace(s uint64)
TEXT ·setSpace(SB),NOSPLIT,$0-8
	MOVQ	s+0(FP), SI
	CALL	·setSpaceSI(SB)
	RET

// An exception while this CPU was in the floor: a bug of ours. Report and end.
TEXT ·trapNested(SB),NOSPLIT|NOFRAME,$0
	MOVQ	SP, BX
	MOVQ	P_FLOORSP(GS), SP
	SUBQ	$12288, SP
	JMP	die<>(SB)

// NMI, double fault and machine check have a stack of their own (IST 2), whose
// top word is this CPU's block: GS may be anything.
TEXT ·trapFatal(SB),NOSPLIT|NOFRAME,$0
	PUSHREGS
	MOVQ	SP, BX
	LEAQ	4095(SP), CX
	ANDQ	$~4095, CX
	MOVQ	-8(CX), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$0xC0000101, CX
	WRMSR
	JMP	die<>(SB)

TEXT die<>(SB),NOSPLIT|NOFRAME,$0
	CLD
	MOVQ	P_FLOORFS(GS), AX
	SETFS
	MOVQ	P_G(GS), R14
	PXOR	X15, X15
	SUBQ	$64, SP
	MOVQ	P_SELF(GS), AX
	MOVQ	·dieFn(SB), DX
	MOVQ	(DX), CX
	CALL	CX
	JMP	·halt(SB)

// idleLoop is the program of a CPU with nothing to run.
TEXT ·idleLoop(SB),NOSPLIT|NOFRAME,$0
loop:
	STI
	HLT
	JMP	loop

DATA ·mxcsr(SB)/4, $0x1f80
GLOBL ·mxcsr(SB),RODATA,$4
