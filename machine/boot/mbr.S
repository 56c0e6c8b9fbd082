// The boot code of the first sector. The BIOS enters it at 0x7c00 in real mode
// with the drive in DL. It reads the loader, whose place the builder of the image
// writes into packet (INT 13h AH=42h, "Enhanced Disk Drive Specification" 3.0).
	.code16
	.globl _start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	sti
	cld
	ljmp	$0, $1f
1:	movw	$packet, %si
	movb	$0x42, %ah
	int	$0x13
	jc	fail
	movw	$magic, %si
	movw	$0x8008, %di
	movw	$8, %cx
	repe cmpsb
	jne	fail
	ljmp	$0, $0x8000	// DL is still the drive
fail:
	movw	$message, %si
1:	lodsb
	testb	%al, %al
	jz	2f
	movw	$7, %bx
	movb	$0x0e, %ah
	int	$0x10
	jmp	1b
2:	hlt
	jmp	2b

message:
	.asciz	"gosv: the disk cannot be read\r\n"
magic:
	.ascii	"gosvbios"
	.balign	4
	.ascii	"PACKET"	// the builder looks for it
	.balign	4
packet:
	.byte	16, 0
	.word	0	// sectors
	.word	0x8000, 0	// where to
	.quad	0	// first sector
