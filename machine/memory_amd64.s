#include "textflag.h"

// XCHG is a full barrier (Intel SDM vol. 3 §9.2.5).

TEXT ·load8(SB),NOSPLIT,$0-9
	MOVQ	p+0(FP), AX
	MOVB	(AX), CX
	MOVB	CX, ret+8(FP)
	RET

TEXT ·load16(SB),NOSPLIT,$0-10
	MOVQ	p+0(FP), AX
	MOVW	(AX), CX
	MOVW	CX, ret+8(FP)
	RET

TEXT ·store8(SB),NOSPLIT,$0-9
	MOVQ	p+0(FP), AX
	MOVB	v+8(FP), CX
	XCHGB	CX, (AX)
	RET

TEXT ·store16(SB),NOSPLIT,$0-10
	MOVQ	p+0(FP), AX
	MOVW	v+8(FP), CX
	XCHGW	CX, (AX)
	RET

// Stores wait in a buffer of the processor, 64 to 112 of them in those of today, and leave it in order. Each store here becomes at least one of
// the host's, so the first of what was there before has left when the last of these 256 has found room, and no load behind it can have begun.

TEXT ·drain(SB),NOSPLIT,$64-0
	MOVQ	$32, CX
again:
	MOVQ	CX, word-8(SP)
	MOVQ	CX, word-16(SP)
	MOVQ	CX, word-24(SP)
	MOVQ	CX, word-32(SP)
	MOVQ	CX, word-40(SP)
	MOVQ	CX, word-48(SP)
	MOVQ	CX, word-56(SP)
	MOVQ	CX, word-64(SP)
	DECQ	CX
	JNZ	again
	RET
