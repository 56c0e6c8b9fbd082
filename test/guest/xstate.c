/*
 * xstate.c - vector registers and the floating-point environment belong to the
 * thread: time slices, system calls, faults and signals leave them alone, a
 * handler sees and may change those of the interrupted code.
 */
#include "check.h"
#include <cpuid.h>
#include <fenv.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

static int have_avx, have_avx512;

static u64 xcr0(void)
{
	u32 a, d;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (u64)d << 32 | a;
}

__attribute__((constructor)) static void probe(void)
{
	u32 a = 0, b = 0, c = 0, d = 0;
	__get_cpuid(1, &a, &b, &c, &d);
	if (!(c & bit_OSXSAVE))
		return;
	u64 x = xcr0();
	have_avx = (c & bit_AVX) && (x & 6) == 6;
	__get_cpuid_count(7, 0, &a, &b, &c, &d);
	have_avx512 = (b & bit_AVX512F) && (x & 0xe6) == 0xe6;
}

/* A CPU that has AVX must let programs use it. */
TEST(avx_is_switched_on)
{
	u32 a = 0, b = 0, c = 0, d = 0;
	__get_cpuid(1, &a, &b, &c, &d);
	CHECK(c & bit_OSXSAVE);
	if (c & bit_AVX)
		CHECK(have_avx);
	__get_cpuid_count(7, 0, &a, &b, &c, &d);
	if (b & bit_AVX512F)
		CHECK(have_avx512);
}

static volatile int stop;

/* fill all 16 ymm (or 32 zmm with masks) with a pattern, spin, compare. */
static int avx_round(u64 seed, long spin)
{
	u64 in[4] __attribute__((aligned(32))), out[16][4] __attribute__((aligned(32)));
	for (int i = 0; i < 4; i++)
		in[i] = seed * 0x9e3779b97f4a7c15 + (u64)i;
	__asm__ volatile(
		"vmovdqu (%1), %%ymm0; vmovdqa %%ymm0, %%ymm1; vmovdqa %%ymm0, %%ymm2; vmovdqa %%ymm0, %%ymm3;"
		"vmovdqa %%ymm0, %%ymm4; vmovdqa %%ymm0, %%ymm5; vmovdqa %%ymm0, %%ymm6; vmovdqa %%ymm0, %%ymm7;"
		"vmovdqa %%ymm0, %%ymm8; vmovdqa %%ymm0, %%ymm9; vmovdqa %%ymm0, %%ymm10; vmovdqa %%ymm0, %%ymm11;"
		"vmovdqa %%ymm0, %%ymm12; vmovdqa %%ymm0, %%ymm13; vmovdqa %%ymm0, %%ymm14; vmovdqa %%ymm0, %%ymm15;"
		"1: dec %0; jnz 1b;"
		"vmovdqu %%ymm0, (%2); vmovdqu %%ymm1, 32(%2); vmovdqu %%ymm2, 64(%2); vmovdqu %%ymm3, 96(%2);"
		"vmovdqu %%ymm4, 128(%2); vmovdqu %%ymm5, 160(%2); vmovdqu %%ymm6, 192(%2); vmovdqu %%ymm7, 224(%2);"
		"vmovdqu %%ymm8, 256(%2); vmovdqu %%ymm9, 288(%2); vmovdqu %%ymm10, 320(%2); vmovdqu %%ymm11, 352(%2);"
		"vmovdqu %%ymm12, 384(%2); vmovdqu %%ymm13, 416(%2); vmovdqu %%ymm14, 448(%2); vmovdqu %%ymm15, 480(%2); vzeroupper"
		: "+r"(spin) : "r"(in), "r"(out) : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	for (int r = 0; r < 16; r++)
		if (memcmp(out[r], in, 32))
			return r + 1;
	return 0;
}

__attribute__((target("avx512f"))) static int avx512_round(u64 seed, long spin)
{
	u64 in[8] __attribute__((aligned(64))), out[4][8] __attribute__((aligned(64)));
	u16 mask = (u16)(seed * 40503), got = 0;
	for (int i = 0; i < 8; i++)
		in[i] = seed * 0x9e3779b97f4a7c15 + (u64)i;
	__asm__ volatile(
		"vmovdqu64 (%2), %%zmm0; vmovdqa64 %%zmm0, %%zmm9; vmovdqa64 %%zmm0, %%zmm17; vmovdqa64 %%zmm0, %%zmm31; kmovw %4, %%k3;"
		"1: dec %0; jnz 1b;"
		"kmovw %%k3, %k1; vmovdqu64 %%zmm0, (%3); vmovdqu64 %%zmm9, 64(%3); vmovdqu64 %%zmm17, 128(%3); vmovdqu64 %%zmm31, 192(%3); vzeroupper"
		: "+r"(spin), "=&r"(got) : "r"(in), "r"(out), "r"((u32)mask)
		: "memory", "cc", "xmm0", "xmm9");
	for (int r = 0; r < 4; r++)
		if (memcmp(out[r], in, 64))
			return r + 1;
	return got == mask ? 0 : 99;
}

static int sse_round(u64 seed, long spin)
{
	u64 v = seed * 0x9e3779b97f4a7c15, a, b;
	__asm__ volatile("movq %3, %%xmm1; movq %3, %%xmm14; 1: dec %0; jnz 1b; movq %%xmm1, %1; movq %%xmm14, %2"
			 : "+r"(spin), "=&r"(a), "=&r"(b) : "r"(v) : "xmm1", "xmm14", "cc");
	return a != v || b != v;
}

static int vector_round(u64 seed, long spin)
{
	int r = sse_round(seed, spin);
	if (!r && have_avx)
		r = avx_round(seed, spin);
	if (!r && have_avx512)
		r = avx512_round(seed, spin);
	return r;
}

static void *vector_thread(void *v)
{
	for (u64 i = 0; !stop; i++) {
		int r = vector_round((u64)v * 1000003 + i, 20000);
		if (r)
			return (void *)(long)r;
		if (i % 8 == 0)
			syscall(SYS_sched_yield);
	}
	return 0;
}

static void run_threads(void *(*f)(void *), int n, long ms)
{
	pthread_t t[16];
	stop = 0;
	for (long i = 0; i < n; i++)
		pthread_create(&t[i], 0, f, (void *)(i + 1));
	u64 start = now_ns(CLOCK_MONOTONIC);
	while (now_ns(CLOCK_MONOTONIC) - start < (u64)ms * 1000000)
		if (vector_round(77, 20000)) {
			FAIL("main thread lost a register");
			break;
		}
	stop = 1;
	for (int i = 0; i < n; i++) {
		void *r;
		pthread_join(t[i], &r);
		SAME((long)r, 0);
	}
}

TEST(vectors_across_preemption) { run_threads(vector_thread, 8, 400); }

static void clobber(void)
{
	if (have_avx)
		__asm__ volatile("vpcmpeqd %%xmm0, %%xmm0, %%xmm0; vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0; vmovaps %%ymm0, %%ymm1; vmovaps %%ymm0, %%ymm9;"
				 "vmovaps %%ymm0, %%ymm14; vmovaps %%ymm0, %%ymm15; vmovaps %%ymm0, %%ymm7"
				 ::: "xmm0", "xmm1", "xmm7", "xmm9", "xmm14", "xmm15");
	else
		__asm__ volatile("pcmpeqd %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm1; movdqa %%xmm0, %%xmm14" ::: "xmm0", "xmm1", "xmm14");
}

static volatile long alarms;
static void on_alarm(int s)
{
	(void)s;
	alarms++;
	clobber();
}

TEST(vectors_across_signals)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	struct itimerval it = {{0, 1000}, {0, 1000}};
	alarms = 0;
	sigaction(SIGALRM, &sa, 0);
	setitimer(ITIMER_REAL, &it, 0);
	for (u64 i = 0; alarms < 200; i++) {
		int r = vector_round(i, 100000);
		if (r) {
			FAIL("register %d lost after %ld signals", r - 1, alarms);
			break;
		}
	}
	memset(&it, 0, sizeof it);
	setitimer(ITIMER_REAL, &it, 0);
	signal(SIGALRM, SIG_DFL);
}

/* Faults that the kernel repairs in silence. */
TEST(vectors_across_page_faults)
{
	char *p = mmap(0, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != MAP_FAILED);
	for (u64 i = 0; i < 1024; i++) {
		u64 v = i * 0x9e3779b97f4a7c15, a;
		__asm__ volatile("movq %2, %%xmm6; movb $1, (%1); movq %%xmm6, %0" : "=r"(a) : "r"(p + i * 4096), "r"(v) : "xmm6", "memory");
		if (a != v) {
			FAIL("page %d", (int)i);
			break;
		}
	}
	munmap(p, 4 << 20);
}

static void on_change(int s, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	(void)s;
	(void)si;
	struct _libc_fpstate *f = uc->uc_mcontext.fpregs;
	f->_xmm[3].element[0] = 0x1234;
	f->_xmm[3].element[1] = 0;
	f->mxcsr = 0x7f80;
	f->cwd = 0xf7f;
	clobber();
}

TEST(handler_changes_vector_registers)
{
	struct sigaction sa = {.sa_sigaction = on_change, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &sa, 0);
	u64 got = 0;
	u32 m = 0;
	u16 cw = 0;
	long r = SYS_tgkill;
	__asm__ volatile("pxor %%xmm3, %%xmm3; syscall; movq %%xmm3, %1; stmxcsr %2; fnstcw %3"
			 : "+a"(r), "=&r"(got), "=m"(m), "=m"(cw) : "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1) : "rcx", "r11", "xmm3", "memory");
	SAME(got, 0x1234);
	SAME(m, 0x7f80);
	SAME(cw, 0xf7f);
	m = 0x1f80;
	__asm__ volatile("ldmxcsr %0; fninit" ::"m"(m));
	signal(SIGUSR1, SIG_DFL);
}

/* The layout that programs with AVX state in their handlers rely on. */
static volatile u64 frame_features, frame_magic2;
static volatile u32 frame_magic, frame_size, frame_extended;
static volatile u64 ymm_high;
static void on_layout(int s, siginfo_t *si, void *ucv)
{
	(void)s;
	(void)si;
	char *f = (char *)((ucontext_t *)ucv)->uc_mcontext.fpregs;
	frame_magic = *(u32 *)(f + 464);
	frame_extended = *(u32 *)(f + 468);
	frame_features = *(u64 *)(f + 472);
	frame_size = *(u32 *)(f + 480);
	frame_magic2 = *(u32 *)(f + frame_size);
	if (frame_features & 4)
		ymm_high = *(u64 *)(f + 576 + 16 * 5);
	CHECK(((u64)f & 63) == 0);
}

TEST(xsave_frame)
{
	struct sigaction sa = {.sa_sigaction = on_layout, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &sa, 0);
	u64 in[4] = {1, 2, 0xabcdef, 4};
	long r = SYS_tgkill;
	if (have_avx)
		__asm__ volatile("vmovdqu %1, %%ymm5; syscall; vzeroupper"
				 : "+a"(r) : "m"(in), "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1) : "rcx", "r11", "xmm5", "memory");
	else
		raise(SIGUSR1);
	SAME(frame_magic, 0x46505853);	/* FP_XSTATE_MAGIC1 */
	SAME(frame_magic2, 0x46505845);	/* FP_XSTATE_MAGIC2 */
	SAME(frame_extended, frame_size + 4);
	SAME(frame_features & 3, 3);
	if (have_avx) {
		CHECK(frame_features & 4);
		SAME(ymm_high, 0xabcdef);
	}
	signal(SIGUSR1, SIG_DFL);
}

/* ---- the floating-point environment ------------------------------------- */

static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};

static int rounds_as(int mode)
{
	volatile double three = 3, one = 1, r = one / three;
	volatile long double lthree = 3, lr = 1 / lthree;
	u64 bits;
	memcpy(&bits, (void *)&r, 8);
	int up = bits == 0x3fd5555555555556, down = bits == 0x3fd5555555555555;
	long double back = lr * 3;
	(void)back;
	return mode == FE_UPWARD ? up : down;
}

static void *fenv_thread(void *v)
{
	int mode = modes[(long)v % 4];
	if (fegetround() != FE_TONEAREST && (long)v < 100)
		return (void *)1;
	fesetround(mode);
	while (!stop) {
		if (!rounds_as(mode) || fegetround() != mode)
			return (void *)2;
		syscall(SYS_getpid);
		if (fegetround() != mode)
			return (void *)3;
		for (volatile int i = 0; i < 3000; i++)
			;
	}
	return 0;
}

TEST(rounding_is_the_threads_own) { run_threads(fenv_thread, 8, 300); }

/* A new thread inherits the environment of its creator, as on Linux. */
static void *inherit_thread(void *v)
{
	u32 m;
	u16 cw;
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(m), "=m"(cw));
	(void)v;
	return (void *)((u64)(m & 0xffc0) << 16 | cw);
}

TEST(new_thread_inherits_control_words)
{
	pthread_t t;
	void *r;
	fesetround(FE_UPWARD);
	u64 want = (u64)inherit_thread(0);
	pthread_create(&t, 0, inherit_thread, 0);
	pthread_join(t, &r);
	SAME((u64)r, want);
	fesetround(FE_TONEAREST);
}

static volatile int handler_mode;
static volatile u32 handler_mxcsr;
static volatile u16 handler_cw;
static void on_mode(int s)
{
	u32 m;
	u16 cw;
	(void)s;
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(m), "=m"(cw));
	handler_mxcsr = m;
	handler_cw = cw;
	handler_mode = fegetround();
	fesetround(FE_TOWARDZERO);
}

TEST(handler_starts_with_the_default_environment)
{
	struct sigaction sa = {.sa_handler = on_mode};
	sigaction(SIGUSR1, &sa, 0);
	for (int i = 1; i < 4; i++) {
		fesetround(modes[i]);
		raise(SIGUSR1);
		SAME(fegetround(), modes[i]);
		CHECK(rounds_as(modes[i]));
		SAME(handler_mode, FE_TONEAREST);
		SAME(handler_cw, 0x37f);
		SAME(handler_mxcsr, 0x1f80);
	}
	fesetround(FE_TONEAREST);
	signal(SIGUSR1, SIG_DFL);
}

TEST(exception_flags_survive)
{
	volatile double zero = 0, r;
	feclearexcept(FE_ALL_EXCEPT);
	r = 1 / zero;
	(void)r;
	syscall(SYS_getpid);
	syscall(SYS_sched_yield);
	sleep_ms(5);
	SAME(fetestexcept(FE_ALL_EXCEPT), FE_DIVBYZERO);
	feclearexcept(FE_ALL_EXCEPT);
}

/* x87 stack contents across a sleep. */
TEST(x87_stack_survives)
{
	double a = 1.5, b = -2.25, c = 1e300, x, y, z;
	struct timespec ts = {0, 3000000};
	long r = SYS_nanosleep;
	__asm__ volatile("fldl %4; fldl %5; fldl %6; syscall; fstpl %1; fstpl %2; fstpl %3"
			 : "+a"(r), "=m"(x), "=m"(y), "=m"(z) : "m"(a), "m"(b), "m"(c), "D"(&ts), "S"(0) : "rcx", "r11", "memory");
	CHECK(x == c && y == b && z == a);
}
