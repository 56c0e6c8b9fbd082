/*
 * check.h - the frame of a self-checking guest program.
 *
 *   TEST(name) { CHECK(cond); EXPECT(write(-1, "", 1), EBADF); }
 *
 * A program runs its tests in the order of the source, prints "ok name" or
 * "FAIL name file:line: what" for each, and ends with status 0 when all passed,
 * else 1. Arguments choose tests by name; "-l" lists them. Everything that is
 * printed is the same on every correct kernel: no addresses, ids or times.
 *
 * Output goes out with one write(2) per line, so that a program which dies
 * half way shows how far it came.
 */
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

struct check_test {
	const char *name;
	void (*fn)(void);
};

extern struct check_test check_tests[];
extern int check_ntests;
extern const char *check_current;
extern int check_failures;

__attribute__((format(printf, 1, 2))) static inline void say(const char *f, ...)
{
	char b[512];
	va_list ap;
	va_start(ap, f);
	int n = vsnprintf(b, sizeof b - 1, f, ap);
	va_end(ap);
	if (n > (int)sizeof b - 2)
		n = sizeof b - 2;
	b[n++] = '\n';
	if (write(1, b, n) != n)
		_exit(99);
}

#define TEST(n)                                                        \
	static void test_##n(void);                                    \
	__attribute__((constructor)) static void register_##n(void)    \
	{                                                              \
		check_tests[check_ntests++] = (struct check_test){#n, test_##n}; \
	}                                                              \
	static void test_##n(void)

#define FAIL(...)                                                      \
	do {                                                           \
		char fail_b[400];                                      \
		snprintf(fail_b, sizeof fail_b, __VA_ARGS__);          \
		__atomic_add_fetch(&check_failures, 1, __ATOMIC_SEQ_CST); \
		say("FAIL %s %s:%d: %s", check_current, __FILE_NAME__, __LINE__, fail_b); \
	} while (0)

/* The condition must hold; the test goes on when it does not. */
#define CHECK(c)                                                       \
	do {                                                           \
		if (!(c))                                              \
			FAIL("%s (errno %d)", #c, errno);              \
	} while (0)

/* As CHECK, but the test ends here. */
#define NEED(c)                                                        \
	do {                                                           \
		if (!(c)) {                                            \
			FAIL("%s (errno %d)", #c, errno);              \
			return;                                        \
		}                                                      \
	} while (0)

/* Two numbers must be equal. */
#define SAME(a, b)                                                     \
	do {                                                           \
		long long same_a = (long long)(a), same_b = (long long)(b); \
		if (same_a != same_b)                                  \
			FAIL("%s is %lld (%#llx), should be %s = %lld (%#llx)", #a, same_a, same_a, #b, same_b, same_b); \
	} while (0)

/* The call must return -1 with this errno; 0 means that it must succeed. */
#define EXPECT(call, want)                                             \
	do {                                                           \
		errno = 0;                                             \
		long expect_r = (long)(call);                          \
		int expect_e = expect_r == -1 ? errno : 0;             \
		if (expect_e != (want))                                \
			FAIL("%s: errno %d (%s), should be %d", #call, expect_e, strerror(expect_e), want); \
	} while (0)

static inline u64 now_ns(clockid_t c)
{
	struct timespec t;
	clock_gettime(c, &t);
	return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

static inline void sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* asleep waits until a thread of this process sleeps in the kernel, for 20 s. */
static inline void asleep(int tid)
{
	for (int i = 0; i < 20000; i++) {
		char b[256], name[64];
		snprintf(name, sizeof name, "/proc/self/task/%d/stat", tid);
		FILE *f = fopen(name, "r");
		if (!f)
			return;
		b[fread(b, 1, sizeof b - 1, f)] = 0;
		fclose(f);
		char *p = strrchr(b, ')');
		if (p && p[1] && p[2] == 'S')
			return;
		sleep_ms(1);
	}
}

/*
 * TRAP(expr): run expr; the result is 0 when it did not fault, else the signal.
 * trap_info holds the siginfo, trap_uc the interrupted registers.
 */
extern sigjmp_buf trap_jmp;
extern siginfo_t trap_info;
extern u64 trap_regs[23];
int trap_begin(void);
void trap_end(void);

#define TRAP(expr)                                                     \
	({                                                             \
		int trap_s = 0;                                        \
		trap_begin();                                          \
		trap_s = sigsetjmp(trap_jmp, 1);                       \
		if (!trap_s) {                                         \
			expr;                                          \
		}                                                      \
		trap_end();                                            \
		trap_s;                                                \
	})

/* expr must raise sig with si_code code. */
#define TRAPS(expr, sig, code)                                         \
	do {                                                           \
		int traps_s = TRAP(expr);                              \
		int traps_c = traps_s ? trap_info.si_code : 0;         \
		if (traps_s != (sig) || traps_c != (code))             \
			FAIL("%s: signal %d code %d, should be %d code %d", #expr, traps_s, traps_c, sig, code); \
	} while (0)

/*
 * on_tcg: the CPU is QEMU's translator, which raises fewer exceptions than
 * hardware does: none for SSE arithmetic or alignment, #GP where it should be
 * #SS. That is not the kernel's doing; the tests that depend on it ask here.
 */
static inline int on_tcg(void)
{
	u32 a, b, c, d;
	__asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0x40000000), "c"(0));
	return b == 0x54474354;	/* "TCGT" */
}

/* expr must raise sig with code, or, translated, tsig with tcode. */
#define TRAPS_OR(expr, sig, code, tsig, tcode)                         \
	do {                                                           \
		if (on_tcg())                                          \
			TRAPS(expr, tsig, tcode);                      \
		else                                                   \
			TRAPS(expr, sig, code);                        \
	} while (0)

#endif
