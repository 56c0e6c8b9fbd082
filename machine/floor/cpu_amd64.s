// Single instructions that Go cannot say, and the clock.

#include "textflag.h"
#include "layout_amd64.h"

// func vclock(clock int32, ts *timespec): the runtime's clock_gettime, called
// as the C ABI has it: EDI, RSI; BX, BP, R12-R15 are kept.
TEXT ·vclock(SB),NOSPLIT|NOFRAME,$0
retry:
	MOVL	·timeSeq(SB), R8
	TESTL	$1, R8
	JNZ	retry
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	SUBQ	·timeTSC(SB), AX
	MULQ	·timeMult(SB)
	SHRQ	$32, AX
	SHLQ	$32, DX
	ORQ	DX, AX
	ADDQ	·timeBase(SB), AX
	TESTL	DI, DI
	JNZ	mono
	ADDQ	·wallOffset(SB), AX
mono:
	CMPL	R8, ·timeSeq(SB)
	JNE	retry
	XORL	DX, DX
	MOVQ	$1000000000, CX
	DIVQ	CX
	MOVQ	AX, 0(SI)
	MOVQ	DX, 8(SI)
	XORL	AX, AX
	RET

// func call(nr, a, b, c uint64) uint64: a service of the floor.
TEXT ·call(SB),NOSPLIT,$0-40
	MOVQ	nr+0(FP), AX
	MOVQ	a+8(FP), DI
	MOVQ	b+16(FP), SI
	MOVQ	c+24(FP), DX
	SYSCALL
	MOVQ	AX, ret+32(FP)
	RET

// func In8(port uint16) uint8
TEXT ·In8(SB),NOSPLIT,$0-9
	MOVW	port+0(FP), DX
	INB
	MOVB	AX, ret+8(FP)
	RET
// func In16(port uint16) uint16
TEXT ·In16(SB),NOSPLIT,$0-10
	MOVW	port+0(FP), DX
	INW
	MOVW	AX, ret+8(FP)
	RET
// func In32(port uint16) uint32
TEXT ·In32(SB),NOSPLIT,$0-12
	MOVW	port+0(FP), DX
	INL
	MOVL	AX, ret+8(FP)
	RET
// func Out8(port uint16, v uint8)
TEXT ·Out8(SB),NOSPLIT,$0-3
	MOVW	port+0(FP), DX
	MOVB	v+2(FP), AX
	OUTB
	RET
// func Out16(port, v uint16)
TEXT ·Out16(SB),NOSPLIT,$0-4
	MOVW	port+0(FP), DX
	MOVW	v+2(FP), AX
	OUTW
	RET
// func Out32(port uint16, v uint32)
TEXT ·Out32(SB),NOSPLIT,$0-8
	MOVW	port+0(FP), DX
	MOVL	v+4(FP), AX
	OUTL
	RET

// func wrmsr(r uint32, v uint64)
TEXT ·wrmsr(SB),NOSPLIT,$0-16
	MOVL	r+0(FP), CX
	MOVQ	v+8(FP), AX
	MOVQ	v+8(FP), DX
	SHRQ	$32, DX
	WRMSR
	RET
// func rdtsc() uint64
TEXT ·rdtsc(SB),NOSPLIT,$0-8
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ret+0(FP)
	RET
// func cpuid(leaf, sub uint32) (a, b, c, d uint32)
TEXT ·cpuid(SB),NOSPLIT,$0-24
	MOVL	leaf+0(FP), AX
	MOVL	sub+4(FP), CX
	CPUID
	MOVL	AX, a+8(FP)
	MOVL	BX, b+12(FP)
	MOVL	CX, c+16(FP)
	MOVL	DX, d+20(FP)
	RET
// func rdcr2() uint64
TEXT ·rdcr2(SB),NOSPLIT,$0-8
	MOVQ	CR2, AX
	MOVQ	AX, ret+0(FP)
	RET
// func clearDR6()
TEXT ·clearDR6(SB),NOSPLIT,$0
	XORL	AX, AX
	MOVQ	AX, DR6
	RET
// func wrcr3(v uint64)
TEXT ·wrcr3(SB),NOSPLIT,$0-8
	MOVQ	v+0(FP), AX
	MOVQ	AX, CR3
	RET
// func setcr4(bits uint64)
TEXT ·setcr4(SB),NOSPLIT,$0-8
	MOVQ	CR4, AX
	ORQ	bits+0(FP), AX
	MOVQ	AX, CR4
	RET
// func invlpg(va uint64)
TEXT ·invlpg(SB),NOSPLIT,$0-8
	MOVQ	va+0(FP), AX
	INVLPG	(AX)
	RET
// func invlpgIf(va, s, tag uint64) bool: if s is loaded by this CPU and by no other, forget va; what is left here is of tag, if that is not 0.
TEXT ·invlpgIf(SB),NOSPLIT,$0-25
	MOVQ	va+0(FP), AX
	MOVQ	s+8(FP), SI
	MOVQ	tag+16(FP), DX
	MOVB	$0, ret+24(FP)
	CLI
	MOVQ	S_CPUS(SI), CX
	TESTQ	CX, CX
	JEQ	yes
	CMPQ	CX, P_BIT(GS)
	JNE	no
	INVLPG	(AX)
	TESTQ	DX, DX
	JEQ	yes
	MOVQ	S_PCID(SI), CX
	SHLQ	$3, CX
	ADDQ	P_SELF(GS), CX
	MOVQ	DX, P_TAGS(CX)
yes:
	MOVB	$1, ret+24(FP)
no:
	STI
	RET

// A CPU's time goes to who claims it: at most what has passed since it began or last claimed, and together no more than there was. given
// says how much of it is gone, as if it had been claimed in one piece from the beginning. What nobody claims, as what the kernel's
// own goroutines use, or a goroutine before another took its place, is there for the next ones, up to MOST_UNCLAIMED.
#define MOST_UNCLAIMED $0x4000000	// ticks: 20 to 70 ms

// func charge(x *context) claims for x what has passed. Interrupts are off.
TEXT ·charge(SB),NOSPLIT,$0-8
	MOVQ	x+0(FP), DI
	CALL	charge<>(SB)
	RET

// func claim(x *context) does so from anywhere.
TEXT ·claim(SB),NOSPLIT,$0-8
	MOVQ	x+0(FP), DI
	CLI
	CALL	charge<>(SB)
	STI
	RET

// func claimMeter(m *machine.Meter) is claim for a meter, which is those two words of a context.
TEXT ·claimMeter(SB),NOSPLIT,$0-8
	MOVQ	m+0(FP), DI
	CLI
	SUBQ	$C_SINCE, DI
	CALL	charge<>(SB)
	STI
	RET

TEXT charge<>(SB),NOSPLIT|NOFRAME,$0
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	P_GIVEN(GS), CX
	MOVQ	AX, SI
	SUBQ	CX, SI	// what there is
	MOVQ	AX, DX
	SUBQ	C_SINCE(DI), DX	// what has passed
	MOVQ	AX, C_SINCE(DI)
	CMPQ	DX, SI
	CMOVQLT	DX, SI
	TESTQ	SI, SI
	JLE	none	// the CPUs' counters may differ a little
	ADDQ	SI, C_USED(DI)
	ADDQ	SI, CX
	ADDQ	SI, P_CLAIMED(GS)
none:
	SUBQ	MOST_UNCLAIMED, AX
	CMPQ	CX, AX
	CMOVQLT	AX, CX
	MOVQ	CX, P_GIVEN(GS)
	RET

// func thisCPU() uint64
TEXT ·thisCPU(SB),NOSPLIT,$0-8
	MOVQ	P_NUMBER(GS), AX
	DECQ	AX
	MOVQ	AX, ret+0(FP)
	RET
// func loadTables(gdtr, idtr uint64)
TEXT ·loadTables(SB),NOSPLIT,$0-16
	MOVQ	gdtr+0(FP), AX
	LGDT	(AX)
	MOVQ	idtr+8(FP), AX
	LIDT	(AX)
	XORL	AX, AX
	MOVW	AX, DS
	MOVW	AX, ES
	LLDT	AX	// none: after a reset it has a limit
	MOVL	$0x40, AX
	LTR	AX
	RET
// func halt()
TEXT ·halt(SB),NOSPLIT,$0
loop:
	CLI
	HLT
	JMP	loop
// func pause()
TEXT ·pause(SB),NOSPLIT,$0
	PAUSE
	RET
// func tripleFault()
TEXT ·tripleFault(SB),NOSPLIT,$16
	MOVQ	$0, 0(SP)
	MOVQ	$0, 8(SP)
	LIDT	0(SP)
	INT	$3
	RET
// func rdrand() (v uint64, ok bool)
TEXT ·rdrand(SB),NOSPLIT,$0-9
	RDRANDQ	AX
	SETCS	ok+8(FP)
	MOVQ	AX, v+0(FP)
	RET
