// The BIOS loader's way between real and protected mode. mbr.S enters it at
// 0x8000; all of it, and its stack, lie below 64 KiB.
	.code16
	.section .head, "ax"
	.globl _start
_start:
	jmp	begin
	.balign	8
	.ascii	"gosvbios"
begin:
	cli
	movb	%dl, drive
	movw	$0x2401, %ax	// the BIOS opens gate A20
	int	$0x15
	inb	$0x92, %al	// and so does the chipset's fast way
	orb	$2, %al
	andb	$0xfe, %al
	outb	%al, $0x92
	cli
	lgdt	gdtr
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmp	$0x08, $1f
	.code32
1:	call	flat
	movl	$0x7c00, %esp
	call	load
	// EAX: entry point; start is the start info
	movl	$start, %ebx
	jmp	*%eax

flat:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	%ax, %fs
	movw	%ax, %gs
	ret

// void bios(int n, struct registers *r): INT n in real mode.
	.globl bios
bios:
	pushal
	movl	36(%esp), %eax
	movb	%al, number
	movl	40(%esp), %esi
	movl	%esi, where
	movl	%esp, stack
	movl	$frame, %edi
	movl	$8, %ecx
	rep movsl
	ljmp	$0x18, $1f
	.code16
1:	movw	$0x20, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	%cr0, %eax
	andl	$0xfffffffe, %eax
	movl	%eax, %cr0
	ljmp	$0, $2f
2:	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	lidt	real
	movl	$frame, %esp
	popal	// EDI, ESI, EBP, -, EBX, EDX, ECX, EAX
	movl	stack, %esp
	sti
	.byte	0xcd
number:	.byte	0
	cli
	movl	$frame + 32, %esp
	pushfl
	popl	%cs:flags
	pushal
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmp	$0x08, $3f
	.code32
3:	call	flat0
	movl	stack, %esp
	cld
	movl	$frame, %esi
	movl	where, %edi
	movl	$9, %ecx
	rep movsl
	popal
	ret
flat0:
	popl	%edx	// the stack is the frame's: no room to spare
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	%ax, %fs
	movw	%ax, %gs
	jmp	*%edx

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	// 08: code, 32 bits
	.quad	0x00cf93000000ffff	// 10: data
	.quad	0x00009b000000ffff	// 18: code, 16 bits
	.quad	0x000093000000ffff	// 20: data
gdtr:	.word	. - gdt - 1
	.long	gdt
real:	.word	0x3ff	// the real mode's interrupt table
	.long	0
	.balign	4
stack:	.long	0
where:	.long	0
	.long	0, 0	// room for the call in protected mode
frame:	.fill	8, 4, 0
flags:	.long	0
	.globl	drive
drive:	.byte	0
