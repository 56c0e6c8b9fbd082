// The first 64-bit instructions of every CPU.

#include "textflag.h"
#include "layout_amd64.h"

// boot64 comes from the PVH trampoline: long mode, low 1 GiB mapped at 0,
// at the direct map and at the image; interrupts off; EDI is the physical
// address of the PVH start info, or 0xffffffff on an application processor.
TEXT ·boot64(SB),NOSPLIT|NOFRAME,$0
	CMPL	DI, $0xffffffff
	JEQ	ap
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ·tscEntry(SB)
	LEAQ	·bootCPU(SB), SI
	LEAQ	·bootStack(SB), SP
	ADDQ	$16384, SP
	MOVQ	SP, P_FLOORSP(SI)
	LEAQ	·bootG(SB), BX
	LEAQ	·bootStack(SB), CX
	MOVQ	CX, 0(BX)	// g.stack.lo
	MOVQ	SP, 8(BX)	// g.stack.hi
	MOVQ	CX, 16(BX)	// g.stackguard0
	MOVQ	CX, 24(BX)	// g.stackguard1
	MOVQ	BX, P_G(SI)
	MOVQ	BX, 504(BX)	// the TLS word, at -8(FS)
	LEAQ	512(BX), CX
	MOVQ	CX, P_FLOORFS(SI)
	JMP	go
ap:
	// Which one am I: the APIC id picks the block that the first CPU prepared.
	MOVL	$1, AX
	CPUID
	SHRL	$24, BX
	LEAQ	·cpuByAPIC(SB), SI
	MOVQ	(SI)(BX*8), SI
	TESTQ	SI, SI
	JEQ	stop
	MOVQ	·kernelRoot(SB), AX
	MOVQ	AX, CR3	// its stack is not in the boot tables
	MOVQ	P_FLOORSP(SI), SP
go:
	MOVQ	SI, P_SELF(SI)
	MOVL	DI, R12
	MOVQ	SI, AX
	MOVQ	SI, DX
	SHRQ	$32, DX
	MOVL	$0xC0000101, CX	// GS base
	WRMSR
	MOVQ	P_FLOORFS(SI), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$0xC0000100, CX	// FS base
	WRMSR
	// XCR0 before any Go code looks: x87, SSE, AVX, and AVX-512 if all of it is there.
	MOVL	$1, AX
	XORL	CX, CX
	CPUID
	TESTL	$0x04000000, CX	// XSAVE
	JEQ	run
	MOVQ	CR4, AX
	ORQ	$0x40000, AX	// OSXSAVE
	MOVQ	AX, CR4
	MOVL	$0xd, AX
	XORL	CX, CX
	CPUID
	MOVL	AX, R8
	ANDL	$0xe7, R8
	MOVL	R8, AX
	ANDL	$0xe0, AX
	CMPL	AX, $0xe0
	JEQ	2(PC)
	ANDL	$7, R8
	MOVL	R8, AX
	XORL	DX, DX
	XORL	CX, CX
	XSETBV
	MOVL	R8, ·floatMask(SB)
	MOVL	$0xd, AX
	MOVL	$1, CX
	CPUID
	ANDL	$1, AX	// XSAVEOPT
	INCL	AX
	MOVL	AX, ·floatMode(SB)
run:
	MOVQ	P_SELF(GS), AX
	MOVQ	P_G(AX), R14
	PXOR	X15, X15
	XORL	BP, BP
	MOVQ	R12, BX
	SUBQ	$64, SP
	MOVQ	·bootFn(SB), DX
	MOVQ	(DX), CX
	CALL	CX
	// AX: the context to start with
	JMP	·floorExitTo(SB)
stop:
	CLI
	HLT
	JMP	stop

// startGo is where the Go runtime's first thread begins: SP has argc, argv, envp and auxv.
TEXT ·startGo(SB),NOSPLIT|NOFRAME,$0
	LEAQ	·vclock(SB), AX
	MOVQ	AX, runtime·vdsoClockgettimeSym(SB)
	JMP	_rt0_amd64_linux(SB)

// func symbols() (startGo, idleLoop, imageEnd, textEnd, dataStart uint64)
TEXT ·symbols(SB),NOSPLIT,$0-40
	LEAQ	·startGo(SB), AX
	MOVQ	AX, startGo+0(FP)
	LEAQ	·idleLoop(SB), AX
	MOVQ	AX, idleLoop+8(FP)
	LEAQ	runtime·end(SB), AX
	MOVQ	AX, imageEnd+16(FP)
	LEAQ	runtime·etext(SB), AX
	MOVQ	AX, textEnd+24(FP)
	LEAQ	runtime·noptrdata(SB), AX
	MOVQ	AX, dataStart+32(FP)
	RET

// func doors() (plain, modern uint64): what LSTAR may be.
TEXT ·doors(SB),NOSPLIT,$0-16
	LEAQ	·sysEntry(SB), AX
	MOVQ	AX, plain+0(FP)
	LEAQ	·sysEntryModern(SB), AX
	MOVQ	AX, modern+8(FP)
	RET

// func trapStub(i uint64) uint64
TEXT ·trapStub(SB),NOSPLIT,$0-16
	MOVQ	i+0(FP), AX
	LEAQ	·trapTable(SB), CX
	MOVQ	(CX)(AX*8), AX
	MOVQ	AX, ret+8(FP)
	RET
