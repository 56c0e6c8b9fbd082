// Access to programs' memory, on the programs' own addresses.
//
// Every instruction that touches a program's memory lies in one of the
// symbols bulk, bytes and word below; each ends where its End symbol begins.
// When one faults, the floor moves RIP to the landing that belongs to the symbol:
// bulk goes on byte by byte, which finds the exact address; bytes and word give up.

#include "textflag.h"
#include "layout_amd64.h"

#define OPEN \
	CMPB ·hasSMAP(SB), $0; JEQ 2(PC); STAC

#define CLOSE \
	CMPB ·hasSMAP(SB), $0; JEQ 2(PC); CLAC

// USESPACE(reg) loads the space whose address is in SI.
#define USESPACE \
	CMPQ SI, P_SPACE(GS); JEQ 4(PC); CLI; CALL ·setSpaceSI(SB); STI

// func copyUser(dst, src, n, s uint64) (left uint64)
TEXT ·copyUser(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	s+24(FP), SI
	USESPACE
	MOVQ	dst+0(FP), DI
	MOVQ	src+8(FP), SI
	MOVQ	n+16(FP), CX
	OPEN
	JMP	copyBulk<>(SB)

TEXT copyBulk<>(SB),NOSPLIT|NOFRAME,$0-40
	CMPQ	CX, $16
	JCS	tail
	CMPQ	CX, $256
	JCS	sse
	CMPB	·hasAVX(SB), $0
	JEQ	sse
avx:
	VMOVDQU	0(SI), Y0
	VMOVDQU	32(SI), Y1
	VMOVDQU	64(SI), Y2
	VMOVDQU	96(SI), Y3
	VMOVDQU	Y0, 0(DI)
	VMOVDQU	Y1, 32(DI)
	VMOVDQU	Y2, 64(DI)
	VMOVDQU	Y3, 96(DI)
	ADDQ	$128, SI
	ADDQ	$128, DI
	SUBQ	$128, CX
	CMPQ	CX, $128
	JCC	avx
	VZEROUPPER
sse:
	CMPQ	CX, $16
	JCS	tail
	MOVOU	(SI), X0
	MOVOU	X0, (DI)
	ADDQ	$16, SI
	ADDQ	$16, DI
	SUBQ	$16, CX
	JMP	sse
tail:	// the first and the last word, which may overlap
	CMPQ	CX, $8
	JCS	short
	MOVQ	(SI), AX
	MOVQ	-8(SI)(CX*1), DX
	MOVQ	AX, (DI)
	MOVQ	DX, -8(DI)(CX*1)
	JMP	all
short:
	CMPQ	CX, $4
	JCS	bytes
	MOVL	(SI), AX
	MOVL	-4(SI)(CX*1), DX
	MOVL	AX, (DI)
	MOVL	DX, -4(DI)(CX*1)
all:
	XORL	CX, CX
	JMP	·copyDone(SB)
bytes:
	JMP	·copyBytes(SB)
TEXT copyBulkEnd<>(SB),NOSPLIT|NOFRAME,$0-40
	JMP	·copyBytes(SB)

TEXT ·copyBytes(SB),NOSPLIT|NOFRAME,$0-40
	TESTQ	CX, CX
	JEQ	done
more:
	MOVB	(SI), AX
	MOVB	AX, (DI)
	INCQ	SI
	INCQ	DI
	DECQ	CX
	JNZ	more
done:
	JMP	·copyDone(SB)
TEXT ·copyDone(SB),NOSPLIT|NOFRAME,$0-40
	CLOSE
	MOVQ	CX, left+32(FP)
	RET

// func zeroUser(dst, n, s uint64) (left uint64)
TEXT ·zeroUser(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ	s+16(FP), SI
	USESPACE
	MOVQ	dst+0(FP), DI
	MOVQ	n+8(FP), CX
	PXOR	X0, X0
	XORL	AX, AX
	OPEN
	JMP	zeroBulk<>(SB)

TEXT zeroBulk<>(SB),NOSPLIT|NOFRAME,$0-32
wide:
	CMPQ	CX, $64
	JCS	narrow
	MOVOU	X0, 0(DI)
	MOVOU	X0, 16(DI)
	MOVOU	X0, 32(DI)
	MOVOU	X0, 48(DI)
	ADDQ	$64, DI
	SUBQ	$64, CX
	JMP	wide
narrow:
	CMPQ	CX, $8
	JCS	bytes
	MOVQ	AX, (DI)
	ADDQ	$8, DI
	SUBQ	$8, CX
	JMP	narrow
bytes:
	JMP	·zeroBytes(SB)
TEXT zeroBulkEnd<>(SB),NOSPLIT|NOFRAME,$0-32
	JMP	·zeroBytes(SB)

TEXT ·zeroBytes(SB),NOSPLIT|NOFRAME,$0-32
	TESTQ	CX, CX
	JEQ	done
more:
	MOVB	AX, (DI)
	INCQ	DI
	DECQ	CX
	JNZ	more
done:
	JMP	·zeroDone(SB)
TEXT ·zeroDone(SB),NOSPLIT|NOFRAME,$0-32
	CLOSE
	MOVQ	CX, left+24(FP)
	RET

// func wordUser(va, v, old uint64, op uint64, s uint64) (found uint64, ok bool)
// op: 0 store, 1 compare and swap, of 32 bits.
TEXT ·wordUser(SB),NOSPLIT|NOFRAME,$0-49
	MOVQ	s+32(FP), SI
	USESPACE
	MOVQ	va+0(FP), DI
	MOVQ	v+8(FP), DX
	MOVQ	old+16(FP), AX
	MOVQ	op+24(FP), CX
	OPEN
	JMP	·word(SB)
TEXT ·word(SB),NOSPLIT|NOFRAME,$0-49
	TESTL	CX, CX
	JEQ	store
	LOCK
	CMPXCHGL	DX, (DI)
	MOVL	AX, AX
	JMP	done
store:
	XCHGL	DX, (DI)
done:
	CLOSE
	MOVQ	AX, found+40(FP)
	MOVB	$1, ok+48(FP)
	RET
TEXT ·wordFault(SB),NOSPLIT|NOFRAME,$0-49
	CLOSE
	MOVB	$0, ok+48(FP)
	RET

// func loadUser64(va, s uint64) (v uint64, ok bool)
TEXT ·loadUser64(SB),NOSPLIT|NOFRAME,$0-25
	MOVQ	s+8(FP), SI
	USESPACE
	MOVQ	va+0(FP), DI
	OPEN
	JMP	load64<>(SB)
TEXT load64<>(SB),NOSPLIT|NOFRAME,$0-25
	MOVQ	(DI), AX
	JMP	·loadDone(SB)

// func loadUser32(va, s uint64) (v uint64, ok bool)
TEXT ·loadUser32(SB),NOSPLIT|NOFRAME,$0-25
	MOVQ	s+8(FP), SI
	USESPACE
	MOVQ	va+0(FP), DI
	OPEN
	JMP	load32<>(SB)
TEXT load32<>(SB),NOSPLIT|NOFRAME,$0-25
	MOVL	(DI), AX
	JMP	·loadDone(SB)
TEXT ·loadDone(SB),NOSPLIT|NOFRAME,$0-25
	CLOSE
	MOVQ	AX, v+16(FP)
	MOVB	$1, ok+24(FP)
	RET

// func storeUser64(va, v, s uint64) (ok bool)
TEXT ·storeUser64(SB),NOSPLIT|NOFRAME,$0-25
	MOVQ	s+16(FP), SI
	USESPACE
	MOVQ	va+0(FP), DI
	MOVQ	v+8(FP), DX
	OPEN
	JMP	store64<>(SB)
TEXT store64<>(SB),NOSPLIT|NOFRAME,$0-25
	XCHGQ	DX, (DI)
	JMP	·store64Done(SB)
TEXT ·store64Done(SB),NOSPLIT|NOFRAME,$0-25
	CLOSE
	MOVB	$1, ok+24(FP)
	RET
TEXT ·word64Fault(SB),NOSPLIT|NOFRAME,$0-25
	CLOSE
	MOVB	$0, ok+24(FP)
	RET

// func landings(t *[24]uint64): start, end and landing of each symbol.
TEXT ·landings(SB),NOSPLIT,$0-8
	MOVQ	t+0(FP), DI
	LEAQ	copyBulk<>(SB), AX
	MOVQ	AX, 0(DI)
	LEAQ	copyBulkEnd<>(SB), AX
	MOVQ	AX, 8(DI)
	LEAQ	·copyBytes(SB), AX
	MOVQ	AX, 16(DI)
	MOVQ	AX, 24(DI)
	LEAQ	·copyDone(SB), AX
	MOVQ	AX, 32(DI)
	MOVQ	AX, 40(DI)
	LEAQ	zeroBulk<>(SB), AX
	MOVQ	AX, 48(DI)
	LEAQ	zeroBulkEnd<>(SB), AX
	MOVQ	AX, 56(DI)
	LEAQ	·zeroBytes(SB), AX
	MOVQ	AX, 64(DI)
	MOVQ	AX, 72(DI)
	LEAQ	·zeroDone(SB), AX
	MOVQ	AX, 80(DI)
	MOVQ	AX, 88(DI)
	LEAQ	·word(SB), AX
	MOVQ	AX, 96(DI)
	LEAQ	·wordFault(SB), AX
	MOVQ	AX, 104(DI)
	MOVQ	AX, 112(DI)
	LEAQ	load64<>(SB), AX
	MOVQ	AX, 120(DI)
	LEAQ	·loadUser32(SB), AX
	MOVQ	AX, 128(DI)
	LEAQ	store64<>(SB), AX
	MOVQ	AX, 144(DI)
	LEAQ	·store64Done(SB), AX
	MOVQ	AX, 152(DI)
	LEAQ	·word64Fault(SB), AX
	MOVQ	AX, 136(DI)
	MOVQ	AX, 160(DI)
	MOVQ	AX, 184(DI)
	LEAQ	load32<>(SB), AX
	MOVQ	AX, 168(DI)
	LEAQ	·loadDone(SB), AX
	MOVQ	AX, 176(DI)
	RET

// clearPages(p, n uint64) zeroes n pages of kernel memory at p.
TEXT ·ClearPages(SB),NOSPLIT,$0-16
	MOVQ	p+0(FP), DI
	MOVQ	n+8(FP), CX
	SHLQ	$12, CX
	ADDQ	DI, CX
	CMPB	·hasAVX(SB), $0
	JEQ	sse
	VPXOR	Y0, Y0, Y0
avx:
	VMOVDQU	Y0, 0(DI)
	VMOVDQU	Y0, 32(DI)
	VMOVDQU	Y0, 64(DI)
	VMOVDQU	Y0, 96(DI)
	VMOVDQU	Y0, 128(DI)
	VMOVDQU	Y0, 160(DI)
	VMOVDQU	Y0, 192(DI)
	VMOVDQU	Y0, 224(DI)
	ADDQ	$256, DI
	CMPQ	DI, CX
	JCS	avx
	VZEROUPPER
	RET
sse:
	PXOR	X0, X0
loop:
	MOVOU	X0, 0(DI)
	MOVOU	X0, 16(DI)
	MOVOU	X0, 32(DI)
	MOVOU	X0, 48(DI)
	ADDQ	$64, DI
	CMPQ	DI, CX
	JCS	loop
	RET
