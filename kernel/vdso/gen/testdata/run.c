/* run.c - calls the functions of a vDSO image and compares them with the host's clocks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static int failures;
#define CHECK(c) do { if (!(c)) { failures++; printf("line %d: %s\n", __LINE__, #c); } } while (0)

struct data {
	uint32_t seq, usable;
	uint64_t tsc, mult;
	int64_t wall;
};

static int64_t ns(struct timespec t) { return t.tv_sec * 1000000000L + t.tv_nsec; }

/* What the host's CLOCK_MONOTONIC showed when our page's began: its counter may have started behind that clock. */
static int64_t zero;

static int64_t host(clockid_t c)
{
	struct timespec t;
	syscall(SYS_clock_gettime, c, &t);
	return ns(t) - (c == CLOCK_MONOTONIC ? zero : 0);
}

/* A second copy of the image, in front of which we can put our own data page. */
static char *load(const char *path, struct data **data)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0)
		exit(2);
	char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (read(fd, p + 4096, 4096) != st.st_size)
		exit(2);
	mprotect(p + 4096, 4096, PROT_READ | PROT_EXEC);
	*data = (struct data *)p;
	return p + 4096;
}

int main(int argc, char **argv)
{
	(void)argc;
	struct data *d;
	char *image = load(argv[1], &d);

	/* The dynamic linker knows names and versions, by either hash table. */
	void *h = dlopen(argv[1], RTLD_NOW);
	if (!h) {
		printf("%s\n", dlerror());
		return 1;
	}
	Dl_info di;
	void *sym(const char *name)
	{
		void *p = dlvsym(h, name, "LINUX_2.6");
		if (!p || !dladdr(p, &di)) {
			printf("no symbol %s\n", name);
			exit(1);
		}
		return image + ((char *)p - (char *)di.dli_fbase);
	}
	CHECK(!dlvsym(h, "__vdso_time", "LINUX_2.5"));
	CHECK(!dlsym(h, "__vdso_nothing"));
	int (*gettime)(clockid_t, struct timespec *) = sym("__vdso_clock_gettime");
	int (*tod)(struct timeval *, struct timezone *) = sym("__vdso_gettimeofday");
	time_t (*tm)(time_t *) = sym("__vdso_time");
	int (*res)(clockid_t, struct timespec *) = sym("__vdso_clock_getres");
	int (*cpu)(unsigned *, unsigned *, void *) = sym("__vdso_getcpu");
	CHECK(sym("clock_gettime") == (void *)gettime && sym("time") == (void *)tm);

	struct timespec t;
	struct timeval tv;
	struct timezone tz = { 5, 5 };
	time_t sec;

	/* Not usable: every function asks the kernel. */
	for (int round = 0; round < 2; round++) {
		static const clockid_t exact[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW };
		const int64_t slack = 20000000;
		for (unsigned i = 0; i < 4; i++) {
			clockid_t c = exact[i];
			if (round && c != CLOCK_REALTIME && c != CLOCK_MONOTONIC)
				continue; /* our base is that of CLOCK_MONOTONIC */
			int64_t before = host(c);
			CHECK(gettime(c, &t) == 0);
			int64_t now = ns(t), after = host(c);
			CHECK(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
			if (now < before - (round ? slack : 0) || now > after + (round ? slack : 0))
				failures++, printf("round %d clock %d: %ld not in [%ld, %ld]\n", round, c, now, before, after);
		}
		CHECK(gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0 && t.tv_sec < 100);
		CHECK(gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0 && t.tv_sec < 100);
		CHECK(gettime(99, &t) == -EINVAL);
		CHECK(gettime(-1, &t) == -EINVAL);
		CHECK(gettime(10, &t) == -EINVAL);
		CHECK(gettime(3, 0) == -EFAULT);
		int64_t wall = host(CLOCK_REALTIME) / 1000;
		CHECK(tod(&tv, 0) == 0 && llabs(tv.tv_sec * 1000000L + tv.tv_usec - wall) < 20000);
		CHECK(tv.tv_usec >= 0 && tv.tv_usec < 1000000);
		CHECK(tod(&tv, &tz) == 0 && tz.tz_minuteswest == 0);
		CHECK(tod(0, 0) == 0);
		CHECK(llabs(tm(0) - wall / 1000000) <= 1);
		CHECK(tm(&sec) == sec);
		CHECK(res(CLOCK_MONOTONIC, &t) == 0 && t.tv_sec == 0 && t.tv_nsec > 0);
		unsigned c = 12345;
		CHECK(cpu(&c, 0, 0) == 0 && c < 12345);

		/* Now calibrate the page. */
		if (round == 0) {
			int64_t t0 = host(CLOCK_MONOTONIC);
			uint64_t c0 = __rdtsc();
			usleep(200000);
			int64_t t1 = host(CLOCK_MONOTONIC);
			uint64_t c1 = __rdtsc();
			d->mult = (uint64_t)(((unsigned __int128)(t1 - t0) << 32) / (c1 - c0));
			d->tsc = c0;
			zero = t0;
			d->wall = host(CLOCK_REALTIME) - host(CLOCK_MONOTONIC);
			d->usable = 1;
		}
	}

	/* It really is computed: the time follows the page. */
	d->wall += 1000000000000000L;
	CHECK(tm(0) > host(CLOCK_REALTIME) / 1000000000 + 999000);
	int64_t m = host(CLOCK_MONOTONIC);
	CHECK(gettime(CLOCK_MONOTONIC, &t) == 0 && llabs(ns(t) - m) < 1000000000);
	CHECK(gettime(CLOCK_REALTIME_COARSE, &t) == 0 && t.tv_sec > host(CLOCK_REALTIME) / 1000000000 + 999000);
	CHECK(gettime(CLOCK_MONOTONIC_COARSE, &t) == 0 && llabs(ns(t) - m) < 1000000000);

	/* A counter behind the base counts as the base, not as centuries. */
	d->tsc = __rdtsc() + (1UL << 40);
	CHECK(gettime(CLOCK_MONOTONIC, &t) == 0 && ns(t) == 0);
	d->tsc = 0;

	int64_t last = 0;
	for (int i = 0; i < 1000000; i++) {
		gettime(CLOCK_MONOTONIC, &t);
		if (ns(t) < last) {
			failures++;
			printf("time goes back\n");
			break;
		}
		last = ns(t);
	}
	return failures != 0;
}
