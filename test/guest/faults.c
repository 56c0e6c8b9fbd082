/* faults.c - what the CPU's exceptions become: signal, si_code, si_addr; repairing and going on. */
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <pthread.h>

#define PAGE 4096ul

static char *map(size_t n, int prot)
{
	char *p = mmap(0, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		FAIL("mmap");
	return p;
}

TEST(maperr_and_accerr)
{
	char *p = map(3 * PAGE, PROT_READ | PROT_WRITE);
	p[PAGE] = 1;
	mprotect(p + PAGE, PAGE, PROT_READ);
	munmap(p + 2 * PAGE, PAGE);
	TRAPS(*(volatile char *)(p + PAGE + 5) = 1, SIGSEGV, SEGV_ACCERR);
	SAME((u64)trap_info.si_addr, (u64)p + PAGE + 5);
	SAME(trap_regs[REG_TRAPNO], 14);
	SAME(trap_regs[REG_ERR], 7);
	SAME(trap_regs[REG_CR2], (u64)p + PAGE + 5);
	TRAPS(*(volatile char *)(p + 2 * PAGE + 9) = 1, SIGSEGV, SEGV_MAPERR);
	SAME((u64)trap_info.si_addr, (u64)p + 2 * PAGE + 9);
	SAME(trap_regs[REG_ERR], 6);
	TRAPS((void)*(volatile char *)(p + 2 * PAGE), SIGSEGV, SEGV_MAPERR);
	SAME(trap_regs[REG_ERR], 4);
	mprotect(p, PAGE, PROT_NONE);
	TRAPS((void)*(volatile char *)p, SIGSEGV, SEGV_ACCERR);
	TRAPS((void)*(volatile char *)0, SIGSEGV, SEGV_MAPERR);
	SAME((u64)trap_info.si_addr, 0);
	munmap(p, 2 * PAGE);
}

TEST(execute_of_data)
{
	char *p = map(PAGE, PROT_READ | PROT_WRITE);
	p[0] = (char)0xc3;
	TRAPS(((void (*)(void))p)(), SIGSEGV, SEGV_ACCERR);
	SAME((u64)trap_info.si_addr, (u64)p);
	SAME(trap_regs[REG_RIP], (u64)p);
	SAME(trap_regs[REG_ERR], 0x15);
	mprotect(p, PAGE, PROT_READ | PROT_EXEC);
	TRAPS(((void (*)(void))p)(), 0, 0);
	munmap(p, PAGE);
	TRAPS(((void (*)(void))p)(), SIGSEGV, SEGV_MAPERR);
	SAME(trap_regs[REG_ERR], 0x14);
}

static void nocanon_read(void) { (void)*(volatile char *)0x800000000000ul; }
static void nocanon_write(void) { *(volatile char *)0xdead000000000000ul = 1; }
static void nocanon_call(void) { ((void (*)(void))0x1000000000000000ul)(); }
static void nocanon_stack(void)
{
	__asm__ volatile("mov %%rsp, %%rbx; movabs $0x8000000000000000, %%rsp; push %%rax; mov %%rbx, %%rsp" ::: "rbx", "memory");
}

TEST(non_canonical)
{
	TRAPS(nocanon_read(), SIGSEGV, SI_KERNEL);
	SAME((u64)trap_info.si_addr, 0);
	SAME(trap_regs[REG_TRAPNO], 13);
	SAME(trap_regs[REG_ERR], 0);
	TRAPS(nocanon_write(), SIGSEGV, SI_KERNEL);
	TRAPS(nocanon_call(), SIGSEGV, SI_KERNEL);
	/* #SS on real hardware: a bus error; Linux says SI_KERNEL. */
	TRAPS_OR(nocanon_stack(), SIGBUS, SI_KERNEL, SIGSEGV, SI_KERNEL);
}

static void divide(volatile int *z) { *z = 5 / *z; }
static void divide_overflow(void) { __asm__ volatile("cltd; idivl %1" ::"a"(0x80000000), "r"(-1) : "edx"); }

TEST(fpe)
{
	volatile int zero = 0;
	TRAPS(divide(&zero), SIGFPE, FPE_INTDIV);
	SAME(trap_regs[REG_TRAPNO], 0);
	SAME((u64)trap_info.si_addr, trap_regs[REG_RIP]);
	TRAPS(divide_overflow(), SIGFPE, FPE_INTDIV);
}

static void sse_exception(unsigned mxcsr, double x, double y)
{
	unsigned old;
	volatile double r, a = x, b = y;
	__asm__ volatile("stmxcsr %0" : "=m"(old));
	__asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
	r = a / b;
	(void)r;
	__asm__ volatile("ldmxcsr %0" ::"m"(old));
}

static void x87_exception(u16 cw, double a, double b)
{
	volatile double r;
	__asm__ volatile("fldcw %1; fldl %2; fdivl %3; fstpl %0; fwait" : "=m"(r) : "m"(cw), "m"(a), "m"(b));
}

TEST(sse_fpe)
{
	TRAPS_OR(sse_exception(0x1f80 & ~0x200, 1, 0), SIGFPE, FPE_FLTDIV, 0, 0);
	if (!on_tcg())
		SAME(trap_regs[REG_TRAPNO], 19);
	TRAPS_OR(sse_exception(0x1f80 & ~0x80, 0, 0), SIGFPE, FPE_FLTINV, 0, 0);
	TRAPS_OR(sse_exception(0x1f80 & ~0x1000, 1, 3), SIGFPE, FPE_FLTRES, 0, 0);
	TRAPS_OR(sse_exception(0x1f80 & ~0x400, 1e308, 1e-308), SIGFPE, FPE_FLTOVF, 0, 0);
	TRAPS_OR(sse_exception(0x1f80 & ~0x800, 1e-308, 1e308), SIGFPE, FPE_FLTUND, 0, 0);
	__asm__ volatile("fninit");
	unsigned m = 0x1f80;
	__asm__ volatile("ldmxcsr %0" ::"m"(m));
}

TEST(x87_fpe)
{
	TRAPS(x87_exception(0x37f & ~4, 1, 0), SIGFPE, FPE_FLTDIV);
	SAME(trap_regs[REG_TRAPNO], 16);
	__asm__ volatile("fninit");
	TRAPS(x87_exception(0x37f & ~1, 0, 0), SIGFPE, FPE_FLTINV);
	__asm__ volatile("fninit");
	/* The handler starts with a clean x87, not with the pending exception. */
	TRAPS(x87_exception(0x37f, 1, 0), 0, 0);
	__asm__ volatile("fninit");
}

static void ud2(void) { __asm__ volatile("ud2"); }
static void int3(void) { __asm__ volatile("int3"); }
static void icebp(void) { __asm__ volatile(".byte 0xf1"); }
static void single_step(void)
{
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" ::: "memory", "cc");
}

TEST(ill_and_trap)
{
	TRAPS(ud2(), SIGILL, ILL_ILLOPN);
	SAME((u64)trap_info.si_addr, trap_regs[REG_RIP]);
	SAME(*(u16 *)trap_regs[REG_RIP], 0x0b0f);
	TRAPS(int3(), SIGTRAP, SI_KERNEL);
	SAME(*(u8 *)(trap_regs[REG_RIP] - 1), 0xcc);
	TRAPS(single_step(), SIGTRAP, TRAP_TRACE);
	SAME((u64)trap_info.si_addr, trap_regs[REG_RIP]);
	TRAPS_OR(icebp(), SIGTRAP, TRAP_BRKPT, SIGILL, ILL_ILLOPN);
}

/* A program single-steps itself: TF stays on from step to step, handlers run without it. */
static volatile int steps;
static void on_step(int s, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	(void)s;
	(void)si;
	if (++steps == 10)
		uc->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}

TEST(single_stepping)
{
	struct sigaction sa = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
	sigaction(SIGTRAP, &sa, 0);
	steps = 0;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; .rept 20; nop; .endr" ::: "memory", "cc");
	SAME(steps, 10);
	/* Stepping over system calls. */
	steps = 0;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; mov $39, %%eax; syscall; mov $39, %%eax; syscall; .rept 20; nop; .endr"
			 ::: "memory", "cc", "rax", "rcx", "r11");
	SAME(steps, 10);
	signal(SIGTRAP, SIG_DFL);
}

static void align_check(void)
{
	static char b[16] __attribute__((aligned(16)));
	__asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; mov 1(%0), %%eax; pushfq; andq $~0x40000, (%%rsp); popfq" ::"r"(b) : "eax", "memory", "cc");
}

TEST(alignment_check)
{
	TRAPS_OR(align_check(), SIGBUS, BUS_ADRALN, 0, 0);
	__asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
}

TEST(bus_error_beyond_file)
{
	int fd = open("/tmp/faults.bus", O_RDWR | O_CREAT | O_TRUNC, 0600);
	NEED(fd >= 0);
	unlink("/tmp/faults.bus");
	SAME(write(fd, "abc", 3), 3);
	char *p = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	SAME(p[2], 'c');
	SAME(p[3], 0);
	SAME(p[PAGE - 1], 0);
	TRAPS((void)*(volatile char *)(p + PAGE + 7), SIGBUS, BUS_ADRERR);
	SAME((u64)trap_info.si_addr, (u64)p + PAGE + 7);
	TRAPS(p[PAGE] = 1, SIGBUS, BUS_ADRERR);
	close(fd);
	munmap(p, 2 * PAGE);
}

/* The handler makes the page accessible and returns: the instruction runs again. */
static char *lazy;
static volatile int faults;
static volatile u64 last_addr;
static void on_lazy(int s, siginfo_t *si, void *uc)
{
	(void)s;
	(void)uc;
	faults++;
	last_addr = (u64)si->si_addr;
	if (mprotect((void *)((u64)si->si_addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE))
		_exit(97);
}

TEST(handler_repairs_with_mprotect)
{
	struct sigaction sa = {.sa_sigaction = on_lazy, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &sa, 0);
	lazy = map(64 * PAGE, PROT_NONE);
	faults = 0;
	for (int i = 0; i < 64; i++) {
		lazy[i * PAGE + 100] = (char)(i + 1);
		SAME(last_addr, (u64)lazy + i * PAGE + 100);
	}
	SAME(faults, 64);
	for (int i = 0; i < 64; i++)
		SAME(lazy[i * PAGE + 100], i + 1);
	SAME(faults, 64);
	/* An access across the border of two pages faults once for each. */
	mprotect(lazy, 2 * PAGE, PROT_NONE);
	faults = 0;
	*(volatile u64 *)(lazy + PAGE - 4) = 0x1122334455667788;
	SAME(faults, 2);
	SAME(*(u64 *)(lazy + PAGE - 4), 0x1122334455667788);
	munmap(lazy, 64 * PAGE);
	signal(SIGSEGV, SIG_DFL);
}

static void *lazy_thread(void *v)
{
	char *p = v;
	for (int i = 0; i < 64; i++)
		p[i * PAGE]++;
	return 0;
}

TEST(handlers_in_many_threads)
{
	struct sigaction sa = {.sa_sigaction = on_lazy, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &sa, 0);
	pthread_t t[8];
	char *p[8];
	for (int i = 0; i < 8; i++) {
		p[i] = map(64 * PAGE, PROT_NONE);
		pthread_create(&t[i], 0, lazy_thread, p[i]);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], 0);
		for (int j = 0; j < 64; j++)
			SAME(p[i][j * PAGE], 1);
		munmap(p[i], 64 * PAGE);
	}
	signal(SIGSEGV, SIG_DFL);
}

static sigjmp_buf overflow_jmp;
static volatile u64 overflow_addr;
static volatile int overflow_code;
static void on_overflow(int s, siginfo_t *si, void *uc)
{
	(void)uc;
	overflow_addr = (u64)si->si_addr;
	overflow_code = si->si_code;
	siglongjmp(overflow_jmp, s);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winfinite-recursion"
static int __attribute__((noinline)) recurse(int n)
{
	volatile char pad[512];
	pad[n & 511] = (char)n;
	return recurse(n + 1) + pad[0];
}
#pragma GCC diagnostic pop

static void overflow_here(void)
{
	static __thread char alt[65536] __attribute__((aligned(16)));
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
	struct sigaction sa = {.sa_sigaction = on_overflow, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	char here;
	sigaltstack(&ss, 0);
	sigaction(SIGSEGV, &sa, 0);
	for (int i = 0; i < 3; i++) {
		overflow_addr = 0;
		int s = sigsetjmp(overflow_jmp, 1);
		if (!s)
			recurse(0);
		SAME(s, SIGSEGV);
		CHECK(overflow_addr < (u64)&here);
		CHECK((u64)&here - overflow_addr < (80ul << 20));
	}
	ss.ss_flags = SS_DISABLE;
	sigaltstack(&ss, 0);
	signal(SIGSEGV, SIG_DFL);
}

TEST(stack_overflow_main)
{
	struct rlimit rl;
	getrlimit(RLIMIT_STACK, &rl);
	overflow_here();
}

static void *overflow_thread(void *v)
{
	overflow_here();
	return v;
}

TEST(stack_overflow_thread)
{
	pthread_t t;
	pthread_create(&t, 0, overflow_thread, 0);
	pthread_join(t, 0);
	/* glibc's guard page is a PROT_NONE mapping; musl's too. */
	SAME(overflow_code, SEGV_ACCERR);
}

/* The stack grows on demand below what was used, as far as the limit. */
static int __attribute__((noinline)) grow(int n)
{
	volatile char pad[16384];
	pad[0] = 1;
	return n ? grow(n - 1) + pad[0] : 0;
}

TEST(stack_grows)
{
	SAME(grow(400), 400);	/* 6.4 MiB of 8 */
}

/* A fault inside the kernel's copy is EFAULT, never a signal. */
TEST(efault_is_no_signal)
{
	char *p = map(2 * PAGE, PROT_READ | PROT_WRITE);
	int fd = open("/dev/zero", O_RDWR);
	NEED(fd >= 0);
	munmap(p + PAGE, PAGE);
	EXPECT(read(fd, p + PAGE, 1), EFAULT);
	mprotect(p, PAGE, PROT_READ);
	EXPECT(read(fd, p, 1), EFAULT);
	SAME(write(fd, p, 10), 10);
	mprotect(p, PAGE, PROT_NONE);
	EXPECT(read(fd, p, 1), EFAULT);
	EXPECT(clock_gettime(99, (void *)p), EINVAL);
	EXPECT(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, p), EFAULT);
	close(fd);
	munmap(p, PAGE);
}
