/* hello_asm.S - no C library: writes a line from .rodata, checks .data, .bss and
 * the stack at entry, exits with 42. */
	.globl _start
	.text
_start:
	mov	%rsp, %rbp
	test	$15, %spl
	jnz	bad
	mov	(%rsp), %rax		/* argc */
	test	%rax, %rax
	jz	bad
	cmpq	$0, 8(%rsp,%rax,8)	/* argv[argc] */
	jne	bad
	cmpq	$0, bss(%rip)
	jne	bad
	cmpq	$7, data(%rip)
	jne	bad
	incq	bss(%rip)
	incq	data(%rip)
	pushfq
	pop	%rax
	test	$0x400, %eax		/* DF */
	jnz	bad
	/* The system call keeps everything but rax, rcx and r11. */
	mov	$0x1111, %rbx
	mov	$0x2222, %r8
	mov	$0x3333, %r9
	mov	$0x4444, %r10
	mov	$0x5555, %r12
	mov	$0x6666, %r13
	mov	$0x7777, %r14
	mov	$0x8888, %r15
	mov	$1, %eax
	mov	$1, %edi
	lea	msg(%rip), %rsi
	mov	$len, %edx
	syscall
	cmp	$len, %rax
	jne	bad
	cmp	$0x1111, %rbx
	jne	bad
	cmp	$0x2222, %r8
	jne	bad
	cmp	$0x3333, %r9
	jne	bad
	cmp	$0x4444, %r10
	jne	bad
	cmp	$0x5555, %r12
	jne	bad
	cmp	$0x6666, %r13
	jne	bad
	cmp	$0x7777, %r14
	jne	bad
	cmp	$0x8888, %r15
	jne	bad
	cmp	$1, %rdi
	jne	bad
	cmp	$len, %rdx
	jne	bad
	cmp	%rsp, %rbp
	jne	bad
	mov	$42, %edi
	jmp	out
bad:	mov	$1, %edi
out:	mov	$231, %eax		/* exit_group */
	syscall
	ud2
	.section .rodata
msg:	.ascii	"hello from assembly\n"
	len = . - msg
	.data
data:	.quad	7
	.bss
	.balign	8
bss:	.skip	8
	.section .note.GNU-stack,"",@progbits
