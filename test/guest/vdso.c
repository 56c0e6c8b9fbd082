/* vdso.c - vdso(7): the symbols are there, agree with the system calls and never run backwards. */
#include "check.h"
#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

static const char *image;

/* find looks a symbol up as a libc does: by PT_DYNAMIC, with its version LINUX_2.6. */
static void *find(const char *name)
{
	const Elf64_Ehdr *eh = (const void *)image;
	const Elf64_Phdr *ph = (const void *)(image + eh->e_phoff);
	const Elf64_Dyn *dyn = 0;
	const Elf64_Sym *sym = 0;
	const char *str = 0;
	const u32 *hash = 0;
	u64 base = (u64)image;
	int have_load = 0;
	for (int i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD && !have_load) {
			base = (u64)image + ph[i].p_offset - ph[i].p_vaddr;
			have_load = 1;
		}
		if (ph[i].p_type == PT_DYNAMIC)
			dyn = (const void *)(image + ph[i].p_offset);
	}
	if (!dyn || !have_load)
		return 0;
	for (; dyn->d_tag; dyn++) {
		const void *p = (const void *)(base + dyn->d_un.d_ptr);
		switch (dyn->d_tag) {
		case DT_SYMTAB: sym = p; break;
		case DT_STRTAB: str = p; break;
		case DT_HASH: hash = p; break;
		}
	}
	if (!sym || !str || !hash)
		return 0;
	for (u32 i = 0; i < hash[1]; i++)
		if (!strcmp(str + sym[i].st_name, name) && sym[i].st_shndx)
			return (void *)(base + sym[i].st_value);
	return 0;
}

TEST(image)
{
	image = (const char *)getauxval(AT_SYSINFO_EHDR);
	NEED(image);
	const Elf64_Ehdr *eh = (const void *)image;
	CHECK(!memcmp(eh->e_ident, ELFMAG, SELFMAG));
	SAME(eh->e_type, ET_DYN);
	SAME(eh->e_machine, EM_X86_64);
	/* Readable and executable, not writable. */
	TRAPS(*(volatile char *)image = 0, SIGSEGV, SEGV_ACCERR);
}

static int (*v_gettime)(clockid_t, struct timespec *);
static int (*v_getres)(clockid_t, struct timespec *);
static int (*v_gettimeofday)(struct timeval *, void *);
static time_t (*v_time)(time_t *);
static long (*v_getcpu)(unsigned *, unsigned *, void *);

TEST(symbols)
{
	NEED(image);
	v_gettime = find("__vdso_clock_gettime");
	v_gettimeofday = find("__vdso_gettimeofday");
	v_time = find("__vdso_time");
	v_getcpu = find("__vdso_getcpu");
	v_getres = find("__vdso_clock_getres");
	CHECK(v_gettime && v_gettimeofday && v_time && v_getcpu);
	CHECK(find("clock_gettime") == (void *)v_gettime);
	CHECK(find("gettimeofday") == (void *)v_gettimeofday);
	CHECK(find("time") == (void *)v_time);
	CHECK(find("getcpu") == (void *)v_getcpu);
	CHECK(!find("__vdso_no_such_thing"));
}

static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI,
				   CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
#define NCLOCKS (int)(sizeof clocks / sizeof *clocks)

static u64 by_call(clockid_t c)
{
	struct timespec t;
	if (syscall(SYS_clock_gettime, c, &t))
		return 0;
	return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

static u64 by_vdso(clockid_t c)
{
	struct timespec t;
	if (v_gettime(c, &t))
		return 0;
	return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

TEST(agrees_with_the_system_call)
{
	NEED(v_gettime);
	for (int i = 0; i < NCLOCKS; i++)
		for (int round = 0; round < 200; round++) {
			u64 a = by_call(clocks[i]), b = by_vdso(clocks[i]), c = by_call(clocks[i]);
			if (!(a && a <= b && b <= c)) {
				FAIL("clock %d: %lld then %lld after the first reading", clocks[i], (long long)(b - a), (long long)(c - a));
				break;
			}
		}
}

TEST(monotonic)
{
	NEED(v_gettime);
	for (int i = 0; i < NCLOCKS; i++) {
		u64 last = 0;
		for (int round = 0; round < 20000; round++) {
			u64 t = by_vdso(clocks[i]);
			if (t < last) {
				FAIL("clock %d went back by %lld ns", clocks[i], (long long)(last - t));
				break;
			}
			last = t;
		}
	}
}

/* Two threads on any CPUs see one another's time only grow. */
static volatile u64 shared_time;
static volatile int shared_stop;
static volatile long shared_bad;
static void *clock_thread(void *v)
{
	while (!shared_stop) {
		u64 seen = __atomic_load_n(&shared_time, __ATOMIC_ACQUIRE);
		u64 t = by_vdso(CLOCK_MONOTONIC);
		if (t < seen)
			__atomic_add_fetch(&shared_bad, 1, __ATOMIC_SEQ_CST);
		else
			__atomic_store_n(&shared_time, t, __ATOMIC_RELEASE);
	}
	return v;
}

TEST(monotonic_across_threads)
{
	pthread_t t[4];
	NEED(v_gettime);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], 0, clock_thread, 0);
	sleep_ms(300);
	shared_stop = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], 0);
	SAME(shared_bad, 0);
}

TEST(time_of_day)
{
	NEED(v_gettimeofday && v_time);
	struct timeval tv;
	struct timezone tz = {77, 77};
	time_t out = 0;
	u64 a = by_call(CLOCK_REALTIME);
	CHECK(v_gettimeofday(&tv, &tz) == 0);
	u64 b = by_call(CLOCK_REALTIME);
	u64 us = (u64)tv.tv_sec * 1000000 + (u64)tv.tv_usec;
	CHECK(a / 1000 <= us && us <= b / 1000);
	CHECK(tv.tv_usec >= 0 && tv.tv_usec < 1000000);
	SAME(tz.tz_minuteswest, 0);
	CHECK(v_gettimeofday(0, 0) == 0);
	time_t t = v_time(&out);
	SAME(t, out);
	CHECK(t >= tv.tv_sec - 1 && t <= tv.tv_sec + 1);	/* time(2) may lag by a tick */
	CHECK(t > 1700000000);	/* the wall clock is set */
}

TEST(bad_arguments)
{
	struct timespec ts;
	NEED(v_gettime);
	SAME(v_gettime(99, &ts), -EINVAL);
	SAME(v_gettime(-99, &ts), -EINVAL);
	EXPECT(syscall(SYS_clock_gettime, 99, &ts), EINVAL);
}

TEST(getcpu)
{
	NEED(v_getcpu);
	unsigned cpu = 9999, node = 9999;
	long n = sysconf(_SC_NPROCESSORS_CONF);
	SAME(v_getcpu(&cpu, &node, 0), 0);
	CHECK((long)cpu < n || n < 1);
	SAME(node, 0);
	SAME(v_getcpu(0, 0, 0), 0);
	cpu_set_t set;
	CPU_ZERO(&set);
	CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
	CHECK(CPU_ISSET(cpu, &set));
}

TEST(resolution)
{
	struct timespec r;
	EXPECT(clock_getres(CLOCK_MONOTONIC, &r), 0);
	SAME(r.tv_sec, 0);
	SAME(r.tv_nsec, 1);
	if (v_getres) {
		SAME(v_getres(CLOCK_REALTIME, &r), 0);
		SAME(r.tv_nsec, 1);
	}
	EXPECT(syscall(SYS_clock_getres, CLOCK_REALTIME_COARSE, &r), 0);
	CHECK(r.tv_nsec >= 1000000 && r.tv_nsec <= 10000000);
}

TEST(sleeping_advances_all_clocks)
{
	u64 real = by_vdso(CLOCK_REALTIME), mono = by_vdso(CLOCK_MONOTONIC), boot = by_vdso(CLOCK_BOOTTIME), raw = by_vdso(CLOCK_MONOTONIC_RAW);
	sleep_ms(50);
	CHECK(by_vdso(CLOCK_REALTIME) - real >= 50000000);
	CHECK(by_vdso(CLOCK_MONOTONIC) - mono >= 50000000);
	CHECK(by_vdso(CLOCK_BOOTTIME) - boot >= 50000000);
	CHECK(by_vdso(CLOCK_MONOTONIC_RAW) - raw >= 49900000);
	/* Sleeping takes no CPU time; what is lost on a busy host counts as used, now and then. */
	u64 used = ~0ull;
	for (int i = 0; i < 50 && used >= 40000000; i++) {
		u64 cpu = by_vdso(CLOCK_THREAD_CPUTIME_ID);
		sleep_ms(50);
		used = by_vdso(CLOCK_THREAD_CPUTIME_ID) - cpu;
	}
	CHECK(used < 40000000);
}

TEST(cpu_time_advances_with_work)
{
	u64 start = now_ns(CLOCK_MONOTONIC), thread = by_vdso(CLOCK_THREAD_CPUTIME_ID), process = by_vdso(CLOCK_PROCESS_CPUTIME_ID);
	u64 used, took;
	do {
		used = by_vdso(CLOCK_THREAD_CPUTIME_ID) - thread;
		took = now_ns(CLOCK_MONOTONIC) - start;
	} while (took < 100000000 || (used <= 1000000 && took < 20000000000ull));
	CHECK(used > 1000000);
	CHECK(used <= now_ns(CLOCK_MONOTONIC) - start);
	CHECK(by_vdso(CLOCK_PROCESS_CPUTIME_ID) - process >= used - 1000000);
}
