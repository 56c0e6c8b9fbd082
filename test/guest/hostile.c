/*
 * hostile.c - what a program tries against its kernel, in ring 3: privileged
 * instructions, kernel addresses, forged sigreturn frames, bad flags and
 * selectors, bad pointers. Each must end in Linux's signal or errno.
 */
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <ucontext.h>

#define PAGE 4096ul

/* ---- privileged instructions ------------------------------------------ */

#define INSN(name, text)                                               \
	static void insn_##name(void)                                  \
	{                                                              \
		static u8 buf[64] __attribute__((aligned(64), used));  \
		__asm__ volatile("lea %0, %%rdi; xor %%eax, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx;" text \
				 : "+m"(buf)::"rax", "rbx", "rcx", "rdx", "rdi", "rsi", "r8", "memory", "cc"); \
	}

INSN(cli, "cli")
INSN(sti, "sti")
INSN(hlt, "hlt")
INSN(inb, "inb $0x60, %%al")
INSN(outb, "mov $0xfe, %%al; outb %%al, $0x64")
INSN(insb, "mov $0x3f8, %%edx; insb")
INSN(outsb, "lea (%%rdi), %%rsi; mov $0xf4, %%edx; outsb")
INSN(rdmsr, "mov $0xc0000080, %%ecx; rdmsr")
INSN(wrmsr, "mov $0xc0000082, %%ecx; wrmsr")
INSN(rdcr0, "mov %%cr0, %%rax")
INSN(rdcr3, "mov %%cr3, %%rax")
INSN(wrcr3, "mov %%rax, %%cr3")
INSN(wrcr4, "mov %%rax, %%cr4")
INSN(rdcr8, "mov %%cr8, %%rax")
INSN(rddr7, "mov %%dr7, %%rax")
INSN(wrdr7, "mov %%rax, %%dr7")
INSN(lgdt, "lgdt (%%rdi)")
INSN(lidt, "lidt (%%rdi)")
INSN(lldt, "lldt %%ax")
INSN(ltr, "ltr %%ax")
INSN(lmsw, "lmsw %%ax")
INSN(clts, "clts")
INSN(invd, "invd")
INSN(wbinvd, "wbinvd")
INSN(invlpg, "invlpg (%%rdi)")
INSN(swapgs, "swapgs")
INSN(sysret, "sysretq")
INSN(sysexit, "sysexitl")
INSN(iret_kernel, "mov %%ss, %%r8; push %%r8; push %%rsp; pushfq; push $0x10; lea 1f(%%rip), %%rax; push %%rax; iretq; 1:")
INSN(lret_kernel, "push $0x10; lea 1f(%%rip), %%rax; push %%rax; lretq; 1:")
INSN(load_ss_kernel, "mov $0x10, %%eax; mov %%ax, %%ss")
INSN(load_ds_kernel, "mov $0x10, %%eax; mov %%ax, %%ds")
INSN(load_ds_bogus, "mov $0x1234, %%eax; mov %%ax, %%ds")
INSN(load_ss_null, "mov %%ax, %%ss")
INSN(load_fs_bogus, "mov $0xfff8, %%eax; mov %%ax, %%fs")
INSN(monitor, "mov %%rdi, %%rax; monitor")
INSN(mwait, "mwait")
INSN(vmcall_in_ring3, ".byte 0x0f, 0x01, 0xda") /* vmload (SVM) */
INSN(vmrun, ".byte 0x0f, 0x01, 0xd8")
INSN(vmxon, ".byte 0xf3, 0x0f, 0xc7, 0x37")
INSN(xsetbv, "xsetbv")
INSN(clac, "clac")
INSN(stac, "stac")
INSN(int_0, "int $0")
INSN(int_8, "int $8")
INSN(int_13, "int $13")
INSN(int_14, "int $14")
INSN(int_32, "int $32")
INSN(int_0xef, "int $0xef")
INSN(into_in_64, ".byte 0xce")
INSN(lock_bad, ".byte 0xf0, 0x90")
INSN(ud0, ".byte 0x0f, 0xff, 0x00")
INSN(ud1, ".byte 0x0f, 0xb9, 0x00")
INSN(far_jump, ".byte 0xea, 0, 0, 0, 0, 0, 0")
INSN(movaps_unaligned, "movaps 1(%%rdi), %%xmm0")
INSN(rsm, "rsm")
INSN(long_insn, ".rept 15; .byte 0x66; .endr; nop")
INSN(ldmxcsr_bad, "movl $0xffff0000, (%%rdi); ldmxcsr (%%rdi)")
INSN(fxrstor_bad, "lea -512(%%rsp), %%rdi; and $-16, %%rdi; fxsave (%%rdi); movl $0xffff0000, 24(%%rdi); fxrstor (%%rdi)")

#define GP(name) TRAPS(insn_##name(), SIGSEGV, SI_KERNEL)
#define UD(name) TRAPS(insn_##name(), SIGILL, ILL_ILLOPN)

TEST(privileged_instructions)
{
	GP(cli); GP(sti); GP(hlt); GP(inb); GP(outb); GP(insb); GP(outsb);
	GP(rdmsr); GP(wrmsr); GP(rdcr0); GP(rdcr3); GP(wrcr3); GP(wrcr4); GP(rdcr8); GP(rddr7); GP(wrdr7);
	GP(lgdt); GP(lidt); GP(lldt); GP(ltr); GP(lmsw); GP(clts); GP(invd); GP(wbinvd); GP(invlpg);
	GP(swapgs); GP(sysret); GP(xsetbv);
	SAME(trap_regs[REG_TRAPNO], 13);
}

/* Instructions that depend on the CPU's vendor: they must trap, one way or the other. */
TEST(privileged_either_way)
{
	int s;
	s = TRAP(insn_sysexit());
	CHECK(s == SIGSEGV || s == SIGILL);
	s = TRAP(insn_monitor());
	CHECK(s == SIGSEGV || s == SIGILL);
	s = TRAP(insn_mwait());
	CHECK(s == SIGSEGV || s == SIGILL);
	s = TRAP(insn_vmcall_in_ring3());
	CHECK(s == SIGSEGV || s == SIGILL);
	s = TRAP(insn_vmrun());
	CHECK(s == SIGSEGV || s == SIGILL);
	s = TRAP(insn_vmxon());
	CHECK(s == SIGSEGV || s == SIGILL);
	s = TRAP(insn_rsm());
	CHECK(s == SIGSEGV || s == SIGILL);
	s = TRAP(insn_clac());
	CHECK(s == SIGSEGV || s == SIGILL);
	s = TRAP(insn_stac());
	CHECK(s == SIGSEGV || s == SIGILL);
}

TEST(selectors)
{
	GP(load_ss_kernel); GP(load_ss_null); GP(load_ds_kernel); GP(load_ds_bogus); GP(load_fs_bogus);
}

TEST(far_returns_to_kernel_selectors)
{
	int s;
	/* QEMU 7.2's TCG reads the stack with the kernel's rights here: a page fault from ring 3 without the U bit. */
	s = TRAP(insn_iret_kernel());
	SAME(s, SIGSEGV);
	s = TRAP(insn_lret_kernel());
	SAME(s, SIGSEGV);
	if (!on_tcg()) {
		GP(iret_kernel);
		GP(lret_kernel);
	}
}

TEST(software_interrupts)
{
	GP(int_0); GP(int_8); GP(int_13); GP(int_14); GP(int_32); GP(int_0xef);
	UD(into_in_64); UD(lock_bad); UD(ud0); UD(ud1); UD(far_jump);
	GP(movaps_unaligned); GP(long_insn);
	TRAPS_OR(insn_ldmxcsr_bad(), SIGSEGV, SI_KERNEL, 0, 0);
	TRAPS_OR(insn_fxrstor_bad(), SIGSEGV, SI_KERNEL, 0, 0);
	unsigned m = 0x1f80;
	__asm__ volatile("ldmxcsr %0" ::"m"(m));
}

/* Null selectors are allowed in DS, ES, FS, GS, and later work goes on. */
TEST(null_selectors)
{
	u64 fsbase = 0;
	CHECK(syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &fsbase) == 0);
	CHECK(fsbase != 0);
	TRAPS(__asm__ volatile("xor %%eax, %%eax; mov %%ax, %%ds; mov %%ax, %%es; mov %%ax, %%gs; mov $39, %%eax; syscall"
			       ::: "rax", "rcx", "r11", "memory"), 0, 0);
	int s = TRAP(__asm__ volatile("xor %%eax, %%eax; mov %%ax, %%fs; mov %0, %%rsi; mov $0x1002, %%edi; mov $158, %%eax; syscall"
			       ::"r"(fsbase) : "rax", "rcx", "rdi", "rsi", "r11", "memory"));
	SAME(s, 0);
	u64 now = 0;
	CHECK(syscall(SYS_arch_prctl, 0x1003, &now) == 0);
	SAME(now, fsbase);
}

/* ---- kernel and strange addresses -------------------------------------- */

static void peek(u64 a) { (void)*(volatile u8 *)a; }
static void poke(u64 a) { *(volatile u8 *)a = 1; }
static void jump(u64 a) { ((void (*)(void))a)(); }

TEST(kernel_addresses)
{
	static const u64 at[] = {0xffffffff80000000, 0xffffffff80200000, 0xffffffff81000000, 0xffff800000000000,
				 0xffff888000000000, 0xffffc00000000000, 0xfffffffffffff000, 0xffffffffff5fc000, 0x7ffffffff000};
	for (unsigned i = 0; i < sizeof at / sizeof *at; i++) {
		/* Whether something is mapped there must not show: always MAPERR on Linux >= 5.12 or so. */
		int top = at[i] == 0x7ffffffff000;
		TRAPS(peek(at[i] + 8), SIGSEGV, SEGV_MAPERR);
		SAME((u64)trap_info.si_addr, at[i] + 8);
		TRAPS(poke(at[i] + 8), SIGSEGV, SEGV_MAPERR);
		TRAPS(jump(at[i] + 8), SIGSEGV, SEGV_MAPERR);
		SAME((u64)trap_info.si_addr, at[i] + 8);
		(void)top;
	}
}

TEST(kernel_addresses_error_code_hides_mapping)
{
	/* The error code in the frame must not tell mapped kernel pages from holes (P bit). */
	TRAPS(peek(0xffffffff80200000), SIGSEGV, SEGV_MAPERR);
	u64 a = trap_regs[REG_ERR];
	TRAPS(peek(0xffffc12345678000), SIGSEGV, SEGV_MAPERR);
	u64 b = trap_regs[REG_ERR];
	SAME(a, b);
}

TEST(prefetch_is_harmless)
{
	for (u64 a = 0xffff800000000000; a; a += 1ul << 44)
		__builtin_prefetch((void *)a);
	__builtin_prefetch((void *)0x8000000000000000);
	__builtin_prefetch((void *)0);
	__asm__ volatile("prefetchw (%0)" ::"r"(0xffffffff80200000));
}

TEST(clflush_kernel)
{
	int s = TRAP(__asm__ volatile("clflush (%0)" ::"r"(0xffffffff80200000)));
	/* Hardware faults; emulators may do nothing. */
	CHECK(s == 0 || s == SIGSEGV);
}

/* ---- flags at system calls --------------------------------------------- */

static long syscall_with_flags(long nr, u64 set, u64 *flags)
{
	long r;
	u64 f;
	__asm__ volatile("pushfq; orq %3, (%%rsp); popfq; syscall; pushfq; pop %1; cld; pushfq; andq $~0x44100, (%%rsp); popfq"
			 : "=a"(r), "=&b"(f) : "a"(nr), "r"(set) : "rcx", "r11", "memory", "cc");
	*flags = f;
	return r;
}

TEST(flags_across_syscall)
{
	u64 f;
	SAME(syscall_with_flags(SYS_getpid, 0x400, &f), getpid());
	SAME(f & 0x400, 0x400);		/* DF */
	SAME(syscall_with_flags(SYS_getpid, 0x4000, &f), getpid());
	SAME(f & 0x4000, 0x4000);	/* NT */
	SAME(syscall_with_flags(SYS_getpid, 0x40000, &f), getpid());
	SAME(f & 0x40000, 0x40000);	/* AC */
	SAME(syscall_with_flags(SYS_getpid, 0x8d5, &f), getpid());
	SAME(f & 0x8d5, 0x8d5);		/* OF SF ZF AF PF CF */
	SAME(syscall_with_flags(SYS_getpid, 0x200000, &f), getpid());
	SAME(f & 0x200, 0x200);		/* IF stays on */
	__asm__ volatile("pushfq; andq $~0x200000, (%%rsp); popfq" ::: "memory", "cc");
}

TEST(popf_cannot_raise_iopl_or_clear_if)
{
	u64 f;
	__asm__ volatile("pushfq; orq $0x3000, (%%rsp); popfq; pushfq; pop %0" : "=r"(f)::"cc", "memory");
	SAME(f & 0x3000, 0);
	__asm__ volatile("pushfq; andq $~0x200, (%%rsp); popfq; pushfq; pop %0" : "=r"(f)::"cc", "memory");
	SAME(f & 0x200, 0x200);
	TRAPS(insn_cli(), SIGSEGV, SI_KERNEL);
}

TEST(odd_stack_pointer_at_syscall)
{
	long r;
	static const u64 sp[] = {0, 1, 0x1000, 0x7ffffffff000, 0x800000000000, 0xdead000000000000, 0xffffffff80200000, ~0ul};
	for (unsigned i = 0; i < sizeof sp / sizeof *sp; i++) {
		__asm__ volatile("mov %2, %%rbx; xchg %%rbx, %%rsp; syscall; xchg %%rbx, %%rsp"
				 : "=a"(r) : "a"(SYS_getpid), "r"(sp[i]) : "rbx", "rcx", "r11", "memory");
		SAME(r, getpid());
	}
}

TEST(unknown_system_calls)
{
	EXPECT(syscall(-1), ENOSYS);
	EXPECT(syscall(1000), ENOSYS);
	EXPECT(syscall(0x7fffffff), ENOSYS);
	EXPECT(syscall(0x80000000), ENOSYS);
	EXPECT(syscall(0x40000000 + 39), ENOSYS);	/* x32 */
	EXPECT(syscall(400), ENOSYS);
	EXPECT(syscall(423), ENOSYS);
	EXPECT(syscall(512), ENOSYS);
	/* Only the low half of rax counts as a number on Linux: a high half is ENOSYS or ignored alike. */
	EXPECT(syscall(SYS_create_module, "x", 1), ENOSYS);
	EXPECT(syscall(SYS_nfsservctl), ENOSYS);
	EXPECT(syscall(SYS_vserver), ENOSYS);
}

/* ---- forged signal frames ---------------------------------------------- */

static ucontext_t *frame;
static void (*forge)(ucontext_t *);
static void on_forge(int s, siginfo_t *si, void *ucv)
{
	(void)s;
	(void)si;
	forge(ucv);
}

/* forged returns the signal that ends the forged sigreturn, 0 when it just goes on. */
static int forged(void (*f)(ucontext_t *))
{
	struct sigaction sa = {.sa_sigaction = on_forge, .sa_flags = SA_SIGINFO};
	forge = f;
	sigaction(SIGUSR1, &sa, 0);
	int s = TRAP(raise(SIGUSR1));
	signal(SIGUSR1, SIG_DFL);
	return s;
}

#define FORGE(name, body)                                              \
	static void name(ucontext_t *uc)                               \
	{                                                              \
		greg_t *r = uc->uc_mcontext.gregs;                     \
		(void)r;                                               \
		body;                                                  \
	}

FORGE(rip_noncanonical, r[REG_RIP] = (greg_t)0x8000000000000000ul)
FORGE(rip_edge, r[REG_RIP] = 0x7ffffffffffe)
FORGE(rip_just_above, r[REG_RIP] = 0x800000000000)
FORGE(rip_kernel, r[REG_RIP] = (greg_t)0xffffffff80200000ul)
FORGE(rsp_noncanonical, r[REG_RSP] = (greg_t)0x8000000000000000ul)
FORGE(rsp_kernel, r[REG_RSP] = (greg_t)0xffffffff80200000ul)
FORGE(cs_kernel, r[REG_CSGSFS] = (r[REG_CSGSFS] & ~0xffffl) | 0x10)
FORGE(cs_null, r[REG_CSGSFS] = r[REG_CSGSFS] & ~0xffffl)
FORGE(cs_bogus, r[REG_CSGSFS] = (r[REG_CSGSFS] & ~0xffffl) | 0xfff3)
FORGE(ss_kernel, r[REG_CSGSFS] = (r[REG_CSGSFS] & 0xffffffffffffl) | 0x18l << 48)
FORGE(ss_bogus, r[REG_CSGSFS] = (r[REG_CSGSFS] & 0xffffffffffffl) | (greg_t)0xfff3ul << 48)
FORGE(iopl, r[REG_EFL] |= 0x3000)
FORGE(no_if, r[REG_EFL] &= ~0x200)
FORGE(nested_task, r[REG_EFL] |= 0x4000)
FORGE(vm86, r[REG_EFL] |= 0x20000)
FORGE(vif, r[REG_EFL] |= 0x180000)
FORGE(all_flags, r[REG_EFL] = (greg_t)~0x40100ul)
FORGE(direction, r[REG_EFL] |= 0x400)
FORGE(trap_flag, r[REG_EFL] |= 0x100)
FORGE(align_flag, r[REG_EFL] |= 0x40000)
FORGE(mxcsr_bad, uc->uc_mcontext.fpregs->mxcsr = 0xffffffff)
FORGE(fp_null, uc->uc_mcontext.fpregs = 0)
FORGE(fp_unaligned, uc->uc_mcontext.fpregs = (void *)((char *)uc->uc_mcontext.fpregs + 8))
FORGE(fp_unmapped, uc->uc_mcontext.fpregs = (void *)0x10000)
FORGE(fp_kernel, uc->uc_mcontext.fpregs = (void *)0xffffffff80200000ul)
FORGE(fp_noncanonical, uc->uc_mcontext.fpregs = (void *)0x8000000000000000ul)
FORGE(mask_all, memset(&uc->uc_sigmask, 0xff, 8))
/* fx_sw_reserved: magic, size, xfeatures, xstate_size at 464. */
FORGE(xs_magic, *(u32 *)((char *)uc->uc_mcontext.fpregs + 464) = 0)
FORGE(xs_size_huge, *(u32 *)((char *)uc->uc_mcontext.fpregs + 480) = 0xffffffff)
FORGE(xs_size_small, *(u32 *)((char *)uc->uc_mcontext.fpregs + 480) = 8)
FORGE(xs_features, *(u64 *)((char *)uc->uc_mcontext.fpregs + 472) = ~0ul)
FORGE(xs_header, if (*(u32 *)((char *)uc->uc_mcontext.fpregs + 464)) memset((char *)uc->uc_mcontext.fpregs + 512, 0xff, 64))
FORGE(xs_header_reserved, if (*(u32 *)((char *)uc->uc_mcontext.fpregs + 464)) ((u64 *)((char *)uc->uc_mcontext.fpregs + 512))[3] = 1)
FORGE(xs_compact, if (*(u32 *)((char *)uc->uc_mcontext.fpregs + 464)) ((u64 *)((char *)uc->uc_mcontext.fpregs + 512))[1] = 1ul << 63)

/* cpu_ok: after each attack the machine must still compute. */
static int cpu_ok(void)
{
	volatile double a = 1.5, b = 2.25;
	unsigned m;
	u64 f;
	__asm__ volatile("stmxcsr %0" : "=m"(m));
	__asm__ volatile("pushfq; pop %0" : "=r"(f)::"memory");
	return a * b == 3.375 && (m & 0xffff0000) == 0 && (f & 0x3000) == 0 && (f & 0x200);
}

#define FORGED(name, sig, code)                                        \
	do {                                                           \
		int forged_s = forged(name);                           \
		int forged_c = forged_s ? trap_info.si_code : 0;       \
		if (forged_s != (sig) || (forged_s && forged_c != (code))) \
			FAIL("%s: signal %d code %d, should be %d code %d", #name, forged_s, forged_c, sig, code); \
		if (!cpu_ok())                                         \
			FAIL("%s: state is damaged afterwards", #name); \
	} while (0)

TEST(sigreturn_rip)
{
	FORGED(rip_noncanonical, SIGSEGV, SI_KERNEL);
	FORGED(rip_edge, SIGSEGV, SEGV_MAPERR);
	FORGED(rip_just_above, SIGSEGV, SI_KERNEL);
	FORGED(rip_kernel, SIGSEGV, SEGV_MAPERR);
}

TEST(sigreturn_rsp)
{
	/* The next push or ret of raise() faults; on the alternate stack we survive. */
	int s = forged(rsp_noncanonical);
	CHECK(s == SIGBUS || s == SIGSEGV);
	s = forged(rsp_kernel);
	SAME(s, SIGSEGV);
	CHECK(cpu_ok());
}

TEST(sigreturn_selectors)
{
	/* Linux forces RPL 3: a kernel selector becomes 0x13 and #GP at iret. */
	FORGED(cs_kernel, SIGSEGV, SI_KERNEL);
	FORGED(cs_null, SIGSEGV, SI_KERNEL);
	FORGED(cs_bogus, SIGSEGV, SI_KERNEL);
	FORGED(ss_kernel, SIGSEGV, SI_KERNEL);
	FORGED(ss_bogus, SIGSEGV, SI_KERNEL);
}

TEST(sigreturn_flags)
{
	FORGED(iopl, 0, 0);
	TRAPS(insn_cli(), SIGSEGV, SI_KERNEL);
	FORGED(no_if, 0, 0);
	FORGED(nested_task, 0, 0);
	FORGED(vm86, 0, 0);
	FORGED(vif, 0, 0);
	FORGED(direction, 0, 0);
	__asm__ volatile("cld");
	TRAPS(insn_inb(), SIGSEGV, SI_KERNEL);
	int s = forged(trap_flag);
	SAME(s, SIGTRAP);
	SAME(trap_info.si_code, TRAP_TRACE);
	s = forged(align_flag);
	CHECK(s == 0 || s == SIGBUS);
	__asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
	s = forged(all_flags);
	CHECK(s == 0 || s == SIGBUS || s == SIGTRAP);
	__asm__ volatile("cld; pushfq; andq $~0x44100, (%%rsp); popfq" ::: "memory", "cc");
	CHECK(cpu_ok());
}

TEST(sigreturn_fpstate)
{
	FORGED(fp_null, 0, 0);
	__asm__ volatile("fninit");
	FORGED(fp_unmapped, SIGSEGV, SI_KERNEL);
	FORGED(fp_kernel, SIGSEGV, SI_KERNEL);
	FORGED(fp_noncanonical, SIGSEGV, SI_KERNEL);
}

/* Linux sanitises or refuses these; what matters is that ring 3 lives or gets SIGSEGV, and no bad bit stays. */
TEST(sigreturn_xstate)
{
	static void (*const f[])(ucontext_t *) = {mxcsr_bad, fp_unaligned, xs_magic, xs_size_huge, xs_size_small,
						  xs_features, xs_header, xs_header_reserved, xs_compact};
	for (unsigned i = 0; i < sizeof f / sizeof *f; i++) {
		int s = forged(f[i]);
		if (s != 0 && s != SIGSEGV)
			FAIL("case %u: signal %d", i, s);
		unsigned m;
		__asm__ volatile("stmxcsr %0" : "=m"(m));
		if (m & 0xffff0000)
			FAIL("case %u: mxcsr %#x", i, m);
		m = 0x1f80;
		__asm__ volatile("ldmxcsr %0; fninit" ::"m"(m));
		CHECK(cpu_ok());
	}
}

TEST(sigreturn_mask)
{
	FORGED(mask_all, 0, 0);
	sigset_t s, none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, &s);
	CHECK(!sigismember(&s, SIGKILL) && !sigismember(&s, SIGSTOP) && sigismember(&s, SIGTERM));
}

static void bare_sigreturn(u64 sp)
{
	__asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" ::"r"(sp) : "memory");
}

TEST(sigreturn_without_a_frame)
{
	TRAPS(bare_sigreturn(0), SIGSEGV, SI_KERNEL);
	TRAPS(bare_sigreturn(0x10000), SIGSEGV, SI_KERNEL);
	TRAPS(bare_sigreturn(0x7ffffffff000 - 16), SIGSEGV, SI_KERNEL);
	TRAPS(bare_sigreturn(0x8000000000000000), SIGSEGV, SI_KERNEL);
	TRAPS(bare_sigreturn(0xffffffff80200000), SIGSEGV, SI_KERNEL);
	TRAPS(bare_sigreturn(~0ul), SIGSEGV, SI_KERNEL);
	/* A frame of zeros: rip 0, cs 0. */
	static u64 zeros[4096 / 8] __attribute__((aligned(16)));
	int s = TRAP(bare_sigreturn((u64)(zeros + 64)));
	SAME(s, SIGSEGV);
	CHECK(cpu_ok());
}

/* ---- FS and GS base ----------------------------------------------------- */

TEST(arch_prctl_bounds)
{
	u64 gs = 0, fs = 0, now = 0;
	static u64 target = 0x1122334455667788;
	CHECK(syscall(SYS_arch_prctl, 0x1003, &fs) == 0);
	CHECK(syscall(SYS_arch_prctl, 0x1004 /* ARCH_GET_GS */, &gs) == 0);
	EXPECT(syscall(SYS_arch_prctl, 0x1002, 0x800000000000), EPERM);
	EXPECT(syscall(SYS_arch_prctl, 0x1002, 0xffffffff80200000), EPERM);
	EXPECT(syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, 0x8000000000000000), EPERM);
	EXPECT(syscall(SYS_arch_prctl, 0x1003, 8), EFAULT);
	EXPECT(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
	EXPECT(syscall(SYS_arch_prctl, 0x1001, &target), 0);
	u64 v;
	__asm__ volatile("mov %%gs:0, %0" : "=r"(v));
	SAME(v, target);
	CHECK(syscall(SYS_arch_prctl, 0x1004, &now) == 0);
	SAME(now, (u64)&target);
	EXPECT(syscall(SYS_arch_prctl, 0x1001, gs), 0);
}

static int have_fsgsbase(void)
{
	/* AT_HWCAP2 bit 1 says that ring 3 may use it. */
	extern unsigned long getauxval(unsigned long);
	return (getauxval(26) & 2) != 0;
}

TEST(wild_gs_base)
{
	if (!have_fsgsbase())
		return;	/* the instruction is #UD then: see ud_without_fsgsbase */
	static const u64 base[] = {0, 0x1000, 0x7fffffffffff, 0xffffffff80200000, 0xffff800000000000, ~0ul};
	u64 got;
	for (unsigned i = 0; i < sizeof base / sizeof *base; i++) {
		/* The kernel must neither use nor lose it: system calls, faults and time slices go on. */
		__asm__ volatile("wrgsbase %0" ::"r"(base[i]));
		SAME(syscall(SYS_getpid), getpid());
		for (volatile int k = 0; k < 200000; k++)
			;
		TRAPS(insn_ud0(), SIGILL, ILL_ILLOPN);
		__asm__ volatile("rdgsbase %0" : "=r"(got));
		SAME(got, base[i]);
	}
	TRAPS_OR(__asm__ volatile("wrgsbase %0" ::"r"(0x8000000000000000ul)), SIGSEGV, SI_KERNEL, 0, 0);
	SAME(syscall(SYS_getpid), getpid());
	__asm__ volatile("wrgsbase %0" ::"r"(0ul));
}

TEST(wild_fs_base)
{
	if (!have_fsgsbase())
		return;
	u64 fs, got;
	__asm__ volatile("rdfsbase %0" : "=r"(fs));
	static const u64 base[] = {0, 0x7fffffffffff, 0xffffffff80200000, ~0ul};
	for (unsigned i = 0; i < sizeof base / sizeof *base; i++) {
		long r;
		__asm__ volatile("wrfsbase %2; syscall; rdfsbase %1; wrfsbase %3"
				 : "=a"(r), "=&d"(got) : "S"(base[i]), "D"(fs), "a"(SYS_getpid) : "rcx", "r11", "memory");
		SAME(got, base[i]);
		SAME(r, getpid());
	}
}

/* ---- system call at the end of the address space ------------------------ */

TEST(syscall_at_last_page)
{
	/* Linux keeps the last page below 2^47 free, so that the return address of syscall stays canonical. */
	EXPECT(mmap((void *)0x7ffffffff000, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), ENOMEM);
	u8 *p = mmap((void *)0x7fffffffe000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (p == MAP_FAILED) {
		/* The stack may lie there. */
		SAME(errno, EEXIST);
		return;
	}
	p[PAGE - 2] = 0x0f;
	p[PAGE - 1] = 0x05;
	TRAPS(__asm__ volatile("mov $39, %%eax; jmp *%0" ::"r"(p + PAGE - 2) : "rax", "rcx", "r11"), SIGSEGV, SEGV_MAPERR);
	SAME((u64)trap_info.si_addr, 0x7ffffffff000);
	munmap(p, PAGE);
}

/* ---- bad pointers -------------------------------------------------------- */

static const u64 bad[] = {1, 0x1000, 0x7ffffffff000, 0x7ffffffffff8, 0x800000000000, 0x8000000000000000,
			  0xdead000000000000, 0xffff800000000000, 0xffffffff80200000, 0xfffffffffffff000, ~0ul};
#define NBAD (sizeof bad / sizeof *bad)

#define BADPTR(call, want)                                             \
	for (unsigned i = 0; i < NBAD; i++) {                          \
		u64 p = bad[i];                                        \
		errno = 0;                                             \
		long bad_r = (long)(call);                             \
		if (bad_r != -1 || errno != (want))                    \
			FAIL("%s with %#llx: %ld errno %d, should be %d", #call, (unsigned long long)p, bad_r, errno, want); \
	}

TEST(bad_pointers_memory_and_files)
{
	int zero = open("/dev/zero", O_RDWR), file = open("/tmp/hostile", O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct iovec iv;
	NEED(zero >= 0 && file >= 0);
	BADPTR(syscall(SYS_read, zero, p, 8), EFAULT);
	SAME(write(file, "12345678", 8), 8);
	BADPTR(syscall(SYS_write, file, p, 8), EFAULT);
	BADPTR((lseek(file, 0, 0), syscall(SYS_read, file, p, 8)), EFAULT);
	BADPTR(syscall(SYS_pread64, file, p, 8, 0), EFAULT);
	BADPTR(syscall(SYS_pwrite64, file, p, 8, 0), EFAULT);
	BADPTR(syscall(SYS_readv, zero, p, 1), EFAULT);
	BADPTR(syscall(SYS_writev, file, p, 1), EFAULT);
	BADPTR((iv.iov_base = (void *)p, iv.iov_len = 8, syscall(SYS_readv, zero, &iv, 1)), EFAULT);
	BADPTR((iv.iov_base = (void *)p, iv.iov_len = 8, syscall(SYS_writev, file, &iv, 1)), EFAULT);
	BADPTR(syscall(SYS_open, p, 0, 0), EFAULT);
	BADPTR(syscall(SYS_openat, -100, p, 0, 0), EFAULT);
	BADPTR(syscall(SYS_stat, p, &iv), EFAULT);
	BADPTR(syscall(SYS_stat, "/", p), EFAULT);
	BADPTR(syscall(SYS_fstat, file, p), EFAULT);
	BADPTR(syscall(SYS_newfstatat, -100, "/", p, 0), EFAULT);
	BADPTR(syscall(SYS_statx, -100, "/", 0, 0x7ff, p), EFAULT);
	BADPTR(syscall(SYS_access, p, 0), EFAULT);
	BADPTR(syscall(SYS_mkdir, p, 0700), EFAULT);
	BADPTR(syscall(SYS_unlink, p), EFAULT);
	BADPTR(syscall(SYS_rename, p, "/tmp/x"), EFAULT);
	BADPTR(syscall(SYS_rename, "/tmp/hostile", p), EFAULT);
	BADPTR(syscall(SYS_symlink, p, "/tmp/x"), EFAULT);
	BADPTR(syscall(SYS_link, "/tmp/hostile", p), EFAULT);
	BADPTR(syscall(SYS_chdir, p), EFAULT);
	BADPTR(syscall(SYS_getcwd, p, 100), EFAULT);
	BADPTR(syscall(SYS_readlink, p, &iv, 8), EFAULT);
	BADPTR(syscall(SYS_execve, p, 0, 0), EFAULT);
	int dir = open("/", O_RDONLY | O_DIRECTORY);
	BADPTR((lseek(dir, 0, 0), syscall(SYS_getdents64, dir, p, 4096)), EFAULT);
	close(dir);
	close(zero);
	close(file);
	unlink("/tmp/hostile");
}

TEST(bad_pointers_time_and_ids)
{
	struct timespec ts = {0, 1};
	BADPTR(syscall(SYS_clock_gettime, CLOCK_REALTIME, p), EFAULT);
	BADPTR(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, p), EFAULT);
	BADPTR(syscall(SYS_clock_getres, CLOCK_MONOTONIC, p), EFAULT);
	BADPTR(syscall(SYS_gettimeofday, p, 0), EFAULT);
	BADPTR(syscall(SYS_time, p), EFAULT);
	BADPTR(syscall(SYS_nanosleep, p, 0), EFAULT);
	BADPTR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, p, 0), EFAULT);
	BADPTR(syscall(SYS_uname, p), EFAULT);
	BADPTR(syscall(SYS_sysinfo, p), EFAULT);
	BADPTR(syscall(SYS_getrlimit, RLIMIT_NOFILE, p), EFAULT);
	BADPTR(syscall(SYS_setrlimit, RLIMIT_NOFILE, p), EFAULT);
	BADPTR(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, p), EFAULT);
	BADPTR(syscall(SYS_getrusage, 0, p), EFAULT);
	BADPTR(syscall(SYS_times, p), EFAULT);
	BADPTR(syscall(SYS_getitimer, 0, p), EFAULT);
	BADPTR(syscall(SYS_setitimer, 0, p, 0), EFAULT);
	BADPTR(syscall(SYS_getrandom, p, 8, 0), EFAULT);
	BADPTR(syscall(SYS_sched_getaffinity, 0, 128, p), EFAULT);
	BADPTR(syscall(SYS_sched_setaffinity, 0, 8, p), EFAULT);
	BADPTR(syscall(SYS_getcpu, p, 0, 0), EFAULT);
	BADPTR(syscall(SYS_prctl, 15 /* PR_SET_NAME */, p, 0, 0, 0), EFAULT);
	(void)ts;
}

TEST(bad_pointers_signals_and_futex)
{
	u32 word = 0;
	sigset_t set;
	sigemptyset(&set);
	BADPTR(syscall(SYS_rt_sigaction, SIGUSR1, p, 0, 8), EFAULT);
	BADPTR(syscall(SYS_rt_sigaction, SIGUSR1, 0, p, 8), EFAULT);
	BADPTR(syscall(SYS_rt_sigprocmask, 0, p, 0, 8), EFAULT);
	BADPTR(syscall(SYS_rt_sigprocmask, 0, 0, p, 8), EFAULT);
	BADPTR(syscall(SYS_rt_sigpending, p, 8), EFAULT);
	BADPTR(syscall(SYS_rt_sigsuspend, p, 8), EFAULT);
	BADPTR(syscall(SYS_rt_sigtimedwait, p, 0, 0, 8), EFAULT);
	BADPTR(syscall(SYS_sigaltstack, p, 0), EFAULT);
	BADPTR(syscall(SYS_sigaltstack, 0, p), EFAULT);
	BADPTR(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, p), EFAULT);
	BADPTR(syscall(SYS_clone3, p, 88), EFAULT);
	for (unsigned i = 0; i < NBAD; i++) {
		u64 p = bad[i];
		/* An unaligned futex is EINVAL before the address is looked at. */
		int want = p & 3 ? EINVAL : EFAULT;
		EXPECT(syscall(SYS_futex, p, 0, 0, 0, 0, 0), want);
		EXPECT(syscall(SYS_futex, p, 128, 0, 0, 0, 0), want);
		EXPECT(syscall(SYS_futex, &word, 0, 0, p, 0, 0), EFAULT);
	}
}

TEST(lengths)
{
	int zero = open("/dev/zero", O_RDWR);
	char b[8];
	struct iovec iv[2] = {{b, 8}, {b, ~0ul}};
	NEED(zero >= 0);
	EXPECT(syscall(SYS_read, zero, b, ~0ul), EFAULT);	/* the address is looked at first */
	EXPECT(syscall(SYS_readv, zero, iv, 2), EINVAL);
	EXPECT(syscall(SYS_readv, zero, iv, 1025), EINVAL);
	EXPECT(syscall(SYS_readv, zero, iv, -1), EINVAL);
	EXPECT(syscall(SYS_pread64, zero, b, 8, -1L), EINVAL);
	close(zero);
	static char path[5000];
	memset(path, 'a', sizeof path - 1);
	path[0] = '/';
	EXPECT(open(path, O_RDONLY), ENAMETOOLONG);
	path[4095] = 0;
	EXPECT(open(path, O_RDONLY), ENAMETOOLONG);
	path[257] = 0;
	EXPECT(open(path, O_RDONLY), ENAMETOOLONG);
	path[256] = 0;
	EXPECT(open(path, O_RDONLY), ENOENT);
	EXPECT(open("", O_RDONLY), ENOENT);
	/* A path that ends at the border of an unmapped page. */
	char *p = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(p + PAGE, PAGE);
	memcpy(p + PAGE - 5, "/tmp", 5);
	EXPECT(access(p + PAGE - 5, F_OK), 0);
	memcpy(p + PAGE - 4, "/tmp", 4);
	EXPECT(access(p + PAGE - 4, F_OK), EFAULT);
	munmap(p, PAGE);
}

/* Partial success: what fitted is counted, the rest is not an error. */
TEST(partial_copies)
{
	char *p = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(p + PAGE, PAGE);
	int fd = open("/tmp/partial", O_RDWR | O_CREAT | O_TRUNC, 0600);
	NEED(fd >= 0);
	unlink("/tmp/partial");
	char b[100];
	memset(b, 'x', sizeof b);
	SAME(write(fd, b, 100), 100);
	SAME(pread(fd, p + PAGE - 10, 100, 0), 10);
	SAME(p[PAGE - 1], 'x');
	SAME(pwrite(fd, p + PAGE - 10, 100, 200), 10);
	close(fd);
	munmap(p, PAGE);
}

TEST(legacy_entries)
{
	/* int 0x80 is a 32-bit system call on Linux with IA32 emulation, #GP without: the test accepts both,
	   but nothing else, and never the 64-bit meaning. 20 is getpid there. */
	volatile long r = 20;
	int s = TRAP(__asm__ volatile("int $0x80; mov %%rax, %0" : "+m"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11"));
	CHECK((s == 0 && (r == getpid() || r == -ENOSYS)) || s == SIGSEGV);
	s = TRAP(__asm__ volatile("mov %%rsp, %%rbp; mov $20, %%eax; sysenter" ::: "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "memory"));
	CHECK(s == SIGSEGV || s == SIGILL);
}

TEST(umip)
{
	/* sgdt, sidt, sldt, str, smsw: either #GP (UMIP), or Linux's emulation with harmless values. */
	u8 b[16] = {0};
	int s = TRAP(__asm__ volatile("sgdt %0" : "=m"(b)));
	u64 base;
	memcpy(&base, b + 2, 8);
	CHECK(s == SIGSEGV || s == 0);
}

TEST(everything_still_works)
{
	CHECK(cpu_ok());
	struct utsname u;
	CHECK(uname(&u) == 0);
	CHECK(!strcmp(u.sysname, "Linux"));
	char *p = malloc(1 << 20);
	CHECK(p);
	memset(p, 1, 1 << 20);
	free(p);
	(void)frame;
}
