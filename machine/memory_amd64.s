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
