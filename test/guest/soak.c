/*
 * soak.c SECONDS [THREADS] - everything at once, for a long time: mutexes and
 * conditions, page faults, mappings, signals to threads, timers, thread
 * creation, AVX state, system calls. Every worker checks its own results; a
 * watchdog ends the run with status 3 when a worker makes no progress for 30 s.
 * Prints one line a minute on stderr, and "soak: no loss" at the end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAXW 64
static int nworkers = 8;
static volatile int stop;
static unsigned long progress[MAXW];
static unsigned long sent[MAXW], received[MAXW];
static pthread_t workers[MAXW];
static __thread int self = -1;

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what, long a, long b)
{
	char m[200];
	int n = snprintf(m, sizeof m, "soak: %s: %ld, should be %ld (worker %d, errno %d)\n", what, a, b, self, errno);
	if (write(2, m, (size_t)n) < 0)
		_exit(2);
	_exit(1);
}

static unsigned long rnd(unsigned long *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void on_usr1(int sig)
{
	(void)sig;
	if (self >= 0)
		__atomic_add_fetch(&received[self], 1, __ATOMIC_RELAXED);
}

/* SIGSEGV on a guard page of the worker's own: open it and go on. */
static void on_segv(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	unsigned long a = (unsigned long)si->si_addr & ~4095ul;
	if (si->si_code != SEGV_ACCERR || mprotect((void *)a, 4096, PROT_READ | PROT_WRITE))
		die("unexpected SIGSEGV, si_code", si->si_code, SEGV_ACCERR);
}

static void mapping(unsigned long *s)
{
	size_t pages = 1 + rnd(s) % 64;
	unsigned long *p = mmap(0, pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap", errno, 0);
	unsigned long tag = rnd(s);
	for (size_t i = 0; i < pages; i++) {
		if (i % 3)
			mprotect(p + i * 512, 4096, PROT_READ | PROT_WRITE);
		p[i * 512 + 1] = tag + i;	/* every third page goes through the handler */
	}
	if (pages > 4)
		munmap(p + 512, 4096);
	for (size_t i = 0; i < pages; i++) {
		if (pages > 4 && i == 1)
			continue;
		if (p[i * 512] != 0)
			die("fresh page", (long)p[i * 512], 0);
		if (p[i * 512 + 1] != tag + i)
			die("page content", (long)p[i * 512 + 1], (long)(tag + i));
	}
	madvise(p, 4096, MADV_DONTNEED);
	if (p[1] != 0)
		die("after MADV_DONTNEED", (long)p[1], 0);
	/* Another worker may own the hole by now. */
	munmap(p, pages > 4 ? 4096 : pages * 4096);
	if (pages > 4)
		munmap(p + 2 * 512, (pages - 2) * 4096);
}

static void heap(unsigned long *s)
{
	static __thread char *slot[32];
	static __thread size_t len[32];
	int i = (int)(rnd(s) % 32);
	if (slot[i]) {
		for (size_t k = 0; k < len[i]; k += 97)
			if (slot[i][k] != (char)(i + self))
				die("heap byte", slot[i][k], (char)(i + self));
		free(slot[i]);
	}
	len[i] = 1 + rnd(s) % 200000;
	slot[i] = malloc(len[i]);
	if (!slot[i])
		die("malloc", errno, 0);
	memset(slot[i], i + self, len[i]);
}

/* Sixteen SSE registers hold a pattern while the CPU may be taken away. */
static void vector(unsigned long *s)
{
	unsigned long v = rnd(s), got[2] = {0, 0};
	for (int round = 0; round < 3; round++) {
		__asm__ volatile("movq %2, %%xmm3; movq %2, %%xmm15; mov $20000, %%ecx; 1: dec %%ecx; jnz 1b; movq %%xmm3, %0; movq %%xmm15, %1"
				 : "=r"(got[0]), "=r"(got[1]) : "r"(v) : "xmm3", "xmm15", "rcx", "cc");
		if (got[0] != v || got[1] != v)
			die("vector register", (long)got[0], (long)v);
	}
}

static void *child(void *v)
{
	unsigned long x = (unsigned long)v;
	for (int i = 0; i < 100; i++)
		x = x * 6364136223846793005ul + 1;
	return (void *)x;
}

static void thread(unsigned long *s)
{
	unsigned long seed = rnd(s);
	pthread_t t;
	void *r;
	int e = pthread_create(&t, 0, child, (void *)seed);
	if (e)
		die("pthread_create", e, 0);
	pthread_join(t, &r);
	if (r != child((void *)seed))
		die("thread result", (long)r, (long)child((void *)seed));
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long in, out, queue[16];
static long produced, consumed;

static void exchange(unsigned long *s)
{
	pthread_mutex_lock(&mu);
	if (rnd(s) & 1) {
		if (in - out < 16) {
			queue[in++ % 16] = produced++;
			pthread_cond_broadcast(&cond);
		}
	} else {
		struct timespec ts;
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_nsec += 2000000;
		if (ts.tv_nsec >= 1000000000) {
			ts.tv_nsec -= 1000000000;
			ts.tv_sec++;
		}
		while (in == out && !stop)
			if (pthread_cond_timedwait(&cond, &mu, &ts) == ETIMEDOUT)
				break;
		if (in != out) {
			long got = queue[out++ % 16];
			if (got != consumed)
				die("queue item", got, consumed);
			consumed++;
		}
	}
	pthread_mutex_unlock(&mu);
}

static void signals(unsigned long *s)
{
	int to = (int)(rnd(s) % (unsigned)nworkers);
	if (__atomic_load_n(&progress[to], __ATOMIC_RELAXED) && !stop) {
		pthread_kill(workers[to], SIGUSR1);
		__atomic_add_fetch(&sent[to], 1, __ATOMIC_RELAXED);
	}
}

static void calls(unsigned long *s)
{
	char b[256];
	char *volatile nowhere = (char *)16;
	static __thread int zero = -1;
	if (zero < 0)
		zero = open("/dev/zero", O_RDONLY);
	memset(b, 1, sizeof b);
	size_t n = rnd(s) % sizeof b;
	if (read(zero, b, n) != (long)n)
		die("read of /dev/zero", errno, 0);
	for (size_t i = 0; i < n; i++)
		if (b[i])
			die("byte of /dev/zero", b[i], 0);
	if (getpid() <= 0)
		die("getpid", getpid(), 1);
	if (read(zero, nowhere, 8) != -1 || errno != EFAULT)
		die("read into nowhere", errno, EFAULT);
}

static void naps(unsigned long *s)
{
	struct timespec t = {0, (long)(rnd(s) % 300000)};
	double a = seconds();
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
	if (seconds() < a)
		die("time ran backwards", 0, 0);
}

static void *worker(void *v)
{
	static void (*const what[])(unsigned long *) = {mapping, heap, vector, thread, exchange, signals, calls, naps};
	self = (int)(long)v;
	unsigned long s = 88172645463325252ul + 1000003ul * (unsigned long)self;
	while (!stop) {
		what[rnd(&s) % (sizeof what / sizeof *what)](&s);
		__atomic_add_fetch(&progress[self], 1, __ATOMIC_RELAXED);
	}
	return 0;
}

static volatile unsigned long ticks;
static void on_alarm(int sig)
{
	(void)sig;
	ticks++;
}

int main(int argc, char **argv)
{
	double length = argc > 1 ? atof(argv[1]) : 20, start = seconds(), next = start + 60;
	unsigned long last[MAXW] = {0};
	double since[MAXW];
	if (argc > 2)
		nworkers = atoi(argv[2]);
	if (nworkers < 1 || nworkers > MAXW)
		return 2;
	struct sigaction u = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
	struct sigaction g = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
	struct sigaction a = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	sigaction(SIGUSR1, &u, 0);
	sigaction(SIGSEGV, &g, 0);
	sigaction(SIGALRM, &a, 0);
	struct itimerspec it = {{0, 5000000}, {0, 5000000}};
	timer_t timer;
	int have_timer = timer_create(CLOCK_MONOTONIC, 0, &timer) == 0;
	if (have_timer)
		timer_settime(timer, 0, &it, 0);
	for (int i = 0; i < nworkers; i++) {
		since[i] = start;
		if (pthread_create(&workers[i], 0, worker, (void *)(long)i))
			die("pthread_create", i, nworkers);
	}
	while (seconds() - start < length) {
		struct timespec t = {0, 200000000};
		nanosleep(&t, 0);
		double now = seconds();
		for (int i = 0; i < nworkers; i++) {
			unsigned long p = __atomic_load_n(&progress[i], __ATOMIC_RELAXED);
			if (p != last[i]) {
				last[i] = p;
				since[i] = now;
			} else if (now - since[i] > 30) {
				fprintf(stderr, "soak: worker %d stands still since %.0f s\n", i, now - since[i]);
				return 3;
			}
		}
		if (now >= next) {
			unsigned long sum = 0;
			for (int i = 0; i < nworkers; i++)
				sum += last[i];
			fprintf(stderr, "soak: %.0f s, %lu rounds, %lu ticks\n", now - start, sum, ticks);
			next += 60;
		}
	}
	stop = 1;
	pthread_cond_broadcast(&cond);
	for (int i = 0; i < nworkers; i++)
		pthread_join(workers[i], 0);
	for (int i = 0; i < nworkers; i++) {
		/* Standard signals merge, but never multiply, and some arrive. */
		if (received[i] > sent[i])
			die("signals received", (long)received[i], (long)sent[i]);
		if (sent[i] > 100 && received[i] == 0)
			die("signals received", 0, (long)sent[i]);
		if (!last[i])
			die("progress", 0, 1);
	}
	if (consumed > produced || produced - consumed != in - out)
		die("queue", consumed, produced);
	if (have_timer && length > 1 && ticks < 10)
		die("timer ticks", (long)ticks, (long)(length * 200));
	printf("soak: no loss\n");
	return 0;
}
