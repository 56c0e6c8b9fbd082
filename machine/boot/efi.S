// The UEFI loader's last steps: from 64-bit mode with the firmware's page tables
// to 32-bit mode without. handoff is copied to where nothing overwrites it,
// below 4 GiB, and entered there: RDI = start info, RSI = entry point,
// RDX = where the copy of handoff lies.
	.text
	.globl handoff, handoff_end
	.hidden handoff, handoff_end
handoff:
	cli
	cld
	movl	%edi, %ebx
	leal	(handoff_end - handoff + 256)(%edx), %esp
	leal	(gdt - handoff)(%edx), %eax
	movl	%eax, (gdtr + 2 - handoff)(%rdx)
	movl	$0, (gdtr + 6 - handoff)(%rdx)
	lgdt	(gdtr - handoff)(%rdx)
	leal	(1f - handoff)(%edx), %eax
	pushq	$0x08
	pushq	%rax
	lretq
	.code32
1:	movl	$0x10, %eax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	%ax, %fs
	movw	%ax, %gs
	movl	%cr0, %eax
	andl	$0x7fffffff, %eax	// paging off
	movl	%eax, %cr0
	movl	$0xc0000080, %ecx
	rdmsr
	andl	$0xfffffeff, %eax	// EFER.LME
	wrmsr
	xorl	%eax, %eax
	movl	%eax, %cr4	// five-level paging, too
	jmp	*%esi
	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	// 08: code, 32 bits
	.quad	0x00cf93000000ffff	// 10: data
gdtr:	.word	. - gdt - 1
	.quad	0
handoff_end:
	.section .note.GNU-stack, "", @progbits
