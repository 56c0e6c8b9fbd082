/*
 * sched.c - policies and priorities (sched(7)): who runs when processors are short. Everything is bound to one of them.
 *
 * Where real-time policies are not allowed, the tests of them have nothing to test.
 */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RESET 0x40000000

struct attr {	/* struct sched_attr, which not every C library has */
	u32 size, policy;
	u64 flags;
	int nice;
	u32 priority;
	u64 runtime, deadline, period;
};

#define LIMIT 20000000000ull	/* ns: something that does not come */

static volatile u64 *shared;	/* counters and flags of all processes */

__attribute__((constructor)) static void start(void)
{
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static int policy(int p, int prio)
{
	struct sched_param sp = {prio};
	return sched_setscheduler(0, p, &sp);
}

/* bind binds the caller to the first processor that it may use, and says which ones those were. */
static cpu_set_t bind_one(void)
{
	cpu_set_t all, one;
	sched_getaffinity(0, sizeof all, &all);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all)) {
			CPU_SET(i, &one);
			break;
		}
	sched_setaffinity(0, sizeof one, &one);
	memset((void *)shared, 0, 4096);
	return all;
}

static void back(cpu_set_t all)
{
	policy(SCHED_OTHER, 0);
	sched_setaffinity(0, sizeof all, &all);
}

static pid_t child(void)
{
	pid_t p = fork();
	if (p == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return p;
}

/* counter makes a process that counts for ever, and returns when it does. */
static pid_t counter(void)
{
	pid_t p = child();
	if (p == 0)
		for (;;)
			shared[0]++;
	while (!shared[0])
		sleep_ms(1);
	return p;
}

static void end(pid_t p)
{
	kill(p, SIGKILL);
	waitpid(p, 0, 0);
}

static void spin(u64 ns)
{
	for (u64 t = now_ns(CLOCK_MONOTONIC); now_ns(CLOCK_MONOTONIC) - t < ns;)
		;
}

/* used is the time that a process has had, in ns. */
static u64 used(pid_t p)
{
	clockid_t c;
	return clock_getcpuclockid(p, &c) == 0 ? now_ns(c) : 0;
}

/* ratio runs two loops on one processor, the second after how, and returns 100 times how much more the first got. */
static u64 ratio(void (*how)(void))
{
	cpu_set_t all = bind_one();
	pid_t p[2];
	for (int i = 0; i < 2; i++)
		if ((p[i] = child()) == 0) {
			if (i)
				how();
			shared[4 + i] = 1;
			while (!shared[2])
				;
			for (;;)
				shared[i * 8 + 16]++;
		}
	while (!shared[4] || !shared[5])
		sleep_ms(1);
	shared[2] = 1;
	u64 t = now_ns(CLOCK_MONOTONIC);
	/* Until there was enough to compare, in time of the processor: the host may be busy. */
	u64 before = used(p[0]) + used(p[1]);
	do
		sleep_ms(20);
	while (used(p[0]) + used(p[1]) - before < 250000000 && now_ns(CLOCK_MONOTONIC) - t < LIMIT);
	end(p[0]);
	end(p[1]);
	back(all);
	return shared[16] * 100 / (shared[24] + 1);
}

static void alike(void) {}
static void nice5(void) { setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 5); }
static void nice10(void) { setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 10); }
static void idle(void) { policy(SCHED_IDLE, 0); }

/* A host that stands still while one of two has the processor takes from that one alone: TRIES tries, of which one must do. */
#define TRIES 5

static void weigh(const char *what, void (*how)(void), u64 least, u64 most)
{
	u64 r = 0;
	for (int i = 0; i < TRIES; i++) {
		r = ratio(how);
		if (r >= least && r <= most)
			return;
	}
	FAIL("%s: %llu%%", what, (unsigned long long)r);
}

TEST(weights)
{
	weigh("two alike", alike, 20, 500);
	weigh("nice 5", nice5, 130, 3000);	/* 3.06 */
	weigh("nice 10", nice10, 200, 6000);	/* 9.31 */
	weigh("SCHED_IDLE", idle, 400, ~0ull);	/* 341, but for ticks */
}

static int real_time(void)
{
	if (policy(SCHED_FIFO, 1) < 0)
		return 0;
	policy(SCHED_OTHER, 0);
	return 1;
}

TEST(fifo_before_other)
{
	if (!real_time())
		return;
	cpu_set_t all = bind_one();
	pid_t p = counter();
	u64 alone = 0, beside = 1;
	for (int i = 0; i < TRIES && beside > alone / 2; i++) {
		u64 n = shared[0];
		sleep_ms(300);
		alone = shared[0] - n;
		SAME(policy(SCHED_FIFO, 10), 0);
		n = shared[0];
		spin(300000000);
		beside = shared[0] - n;
		policy(SCHED_OTHER, 0);
	}
	/* At most the 50 ms that are kept from real-time threads. */
	if (beside > alone / 2)
		FAIL("the other got %llu, alone %llu", (unsigned long long)beside, (unsigned long long)alone);
	end(p);
	back(all);
}

/* A thread of higher priority runs as soon as it is woken, one of lower only when the waker sleeps. */
static void wake(int prio, int first)
{
	int fd[2], done[2];
	char b;
	NEED(pipe(fd) == 0 && pipe(done) == 0);
	shared[0] = shared[1] = 0;
	pid_t p = child();
	if (p == 0) {
		policy(SCHED_FIFO, prio);
		shared[1] = 1;
		if (read(fd[0], &b, 1) == 1)
			shared[0]++;
		_exit(write(done[1], "x", 1) != 1);
	}
	while (!shared[1])
		sleep_ms(1);
	sleep_ms(20);
	CHECK(write(fd[1], "x", 1) == 1);
	u64 now = shared[0];
	SAME(now, first);
	CHECK(read(done[0], &b, 1) == 1);
	waitpid(p, 0, 0);
	for (int i = 0; i < 2; i++) {
		close(fd[i]);
		close(done[i]);
	}
}

TEST(wake_order)
{
	if (!real_time())
		return;
	cpu_set_t all = bind_one();
	SAME(policy(SCHED_FIFO, 20), 0);
	for (int i = 0; i < 20; i++) {
		wake(30, 1);
		wake(10, 0);
	}
	back(all);
}

TEST(fifo_and_rr)
{
	if (!real_time())
		return;
	struct timespec t;
	cpu_set_t all = bind_one();
	SAME(policy(SCHED_FIFO, 10), 0);
	SAME(sched_rr_get_interval(0, &t), 0);
	SAME(t.tv_sec * 1000000000 + t.tv_nsec, 0);
	pid_t p = child();
	if (p == 0) {
		for (;;)
			shared[0]++;
	}
	spin(250000000);	/* more than a slice */
	SAME(shared[0], 0);
	/* With the same priority the child, which never sleeps, would keep the processor once it had it. */
	policy(SCHED_RR, 11);
	SAME(sched_rr_get_interval(0, &t), 0);
	CHECK(t.tv_sec == 0 && t.tv_nsec >= 1000000 && t.tv_nsec <= 200000000);
	struct sched_param sp = {0};
	SAME(shared[0], 0);
	SAME(sched_setscheduler(p, SCHED_OTHER, &sp), 0);
	end(p);
	/* Two of SCHED_RR take turns. */
	policy(SCHED_RR, 10);
	shared[1] = 0;
	p = child();
	if (p == 0) {
		for (;;)
			shared[1]++;
	}
	for (u64 s = now_ns(CLOCK_MONOTONIC); !shared[1] && now_ns(CLOCK_MONOTONIC) - s < LIMIT;)
		;
	CHECK(shared[1] != 0);
	end(p);
	/* And of SCHED_FIFO when one yields. */
	policy(SCHED_FIFO, 10);
	p = child();
	if (p == 0) {
		shared[2] = 1;
		for (;;)
			pause();
	}
	SAME(shared[2], 0);
	sched_yield();
	SAME(shared[2], 1);
	end(p);
	back(all);
}

/* Others get something of a processor that a real-time thread would keep. */
TEST(throttling)
{
	if (!real_time())
		return;
	cpu_set_t all = bind_one();
	pid_t p = counter();
	SAME(policy(SCHED_FIFO, 50), 0);
	spin(1000000);
	u64 n = shared[0];
	for (u64 s = now_ns(CLOCK_MONOTONIC); shared[0] == n && now_ns(CLOCK_MONOTONIC) - s < LIMIT;)
		;
	CHECK(shared[0] != n);
	end(p);
	back(all);
}

/* Threads that are unlike on all processors: everybody gets on, and sleeps and wakes. */
TEST(many)
{
	if (!real_time())
		return;
	pid_t p[12];
	memset((void *)shared, 0, 4096);
	for (int i = 0; i < 12; i++)
		if ((p[i] = child()) == 0) {
			setpriority(PRIO_PROCESS, 0, i % 4 * 5);
			if (i % 6 == 5)
				policy(i % 12 == 5 ? SCHED_FIFO : SCHED_RR, i);
			for (int k = 0; k < 40; k++) {
				spin(i % 6 == 5 ? 200000 : 1000000);
				struct timespec t = {0, 500000};
				nanosleep(&t, 0);
				if (k % 8 == 0)
					sched_yield();
				pid_t q = vfork();
				if (q == 0)
					_exit(0);
				waitpid(q, 0, 0);
			}
			_exit(7);
		}
	for (int i = 0; i < 12; i++) {
		int s = 0;
		SAME(waitpid(p[i], &s, 0), p[i]);
		SAME(s, 7 << 8);
	}
}

TEST(inheritance)
{
	if (!real_time())
		return;
	int s;
	SAME(policy(SCHED_FIFO | RESET, 3), 0);
	pid_t p = child();
	if (p == 0)
		_exit(sched_getscheduler(0) != SCHED_OTHER);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	SAME(sched_getscheduler(0), SCHED_FIFO | RESET);
	policy(SCHED_OTHER, 0);
	SAME(policy(SCHED_RR, 3), 0);
	p = child();
	if (p == 0)
		_exit(sched_getscheduler(0) != SCHED_RR);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	policy(SCHED_OTHER, 0);
	/* Only niceness above 0 is inherited with the flag. */
	SAME(setpriority(PRIO_PROCESS, 0, -5), 0);
	SAME(policy(SCHED_OTHER | RESET, 0), 0);
	p = child();
	if (p == 0)
		_exit(getpriority(PRIO_PROCESS, 0));
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	policy(SCHED_OTHER, 0);
	setpriority(PRIO_PROCESS, 0, 0);
}

static void rights(void)
{
	struct rlimit r = {5, 5};
	if (setrlimit(RLIMIT_RTPRIO, &r) < 0)
		return;	/* in a container */
	r.rlim_cur = r.rlim_max = 25;	/* nice -5 */
	CHECK(setrlimit(RLIMIT_NICE, &r) == 0);
	CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	EXPECT(policy(SCHED_FIFO, 6), EPERM);
	EXPECT(policy(SCHED_FIFO, 5), 0);
	EXPECT(policy(SCHED_RR, 2), 0);
	EXPECT(policy(SCHED_RR, 3), 0);
	EXPECT(policy(SCHED_OTHER, 0), 0);
	EXPECT(setpriority(PRIO_PROCESS, 0, -6), EACCES);
	EXPECT(setpriority(PRIO_PROCESS, 0, -5), 0);
	EXPECT(setpriority(PRIO_PROCESS, 0, 3), 0);
	EXPECT(setpriority(PRIO_PROCESS, getppid(), 3), EPERM);
	r.rlim_cur = r.rlim_max = 0;
	CHECK(setrlimit(RLIMIT_RTPRIO, &r) == 0);
	EXPECT(policy(SCHED_FIFO, 1), EPERM);
	EXPECT(policy(SCHED_BATCH, 0), 0);
}

TEST(permissions)
{
	int before = check_failures, s;
	if (!real_time() || geteuid() != 0)
		return;
	pid_t p = child();
	if (p == 0) {
		rights();
		_exit(check_failures != before);
	}
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	EXPECT(policy(SCHED_FIFO, 0), EINVAL);
	EXPECT(policy(SCHED_FIFO, 100), EINVAL);
	EXPECT(policy(SCHED_OTHER, 1), EINVAL);
	EXPECT(policy(7, 0), EINVAL);
	struct attr a = {.size = sizeof a, .policy = 6, .runtime = 2000, .deadline = 1000, .period = 3000};
	EXPECT(syscall(SYS_sched_setattr, 0, &a, 0), EINVAL);
	EXPECT(syscall(SYS_sched_setattr, 0, NULL, 0), EINVAL);
	EXPECT(syscall(SYS_sched_getattr, 0, NULL, sizeof a, 0), EINVAL);
	EXPECT(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, NULL), EINVAL);
	EXPECT(syscall(SYS_sched_setparam, 0, NULL), EINVAL);
	EXPECT(syscall(SYS_sched_getparam, 0, NULL), EINVAL);
	a.size = 8;
	EXPECT(syscall(SYS_sched_setattr, 0, &a, 0), E2BIG);
	CHECK(a.size >= 48);
}

TEST(affinity)
{
	cpu_set_t all, one;
	sched_getaffinity(0, sizeof all, &all);
	for (int i = 0, n = 0; i < CPU_SETSIZE && n < 4; i++) {
		if (!CPU_ISSET(i, &all))
			continue;
		n++;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		SAME(sched_setaffinity(0, sizeof one, &one), 0);
		int wrong = 0;
		for (u64 s = now_ns(CLOCK_MONOTONIC); now_ns(CLOCK_MONOTONIC) - s < 30000000;)
			wrong += sched_getcpu() != i;
		SAME(wrong, 0);
	}
	sched_setaffinity(0, sizeof all, &all);
}
