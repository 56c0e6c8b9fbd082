/*
 * pi.c - priority inheritance (futex(2), pthread_mutexattr_setprotocol(3)): who owns a mutex runs with the priority of who waits for it.
 *
 * What a thread's priority is, /proc says: 18th of the fields of stat, -1 less the real-time priority, or 20 and more.
 * Where real-time policies are not allowed, only the errors are tested.
 */
#include "check.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MOST 40	/* threads */

struct thread {
	pthread_t id;
	volatile int tid, step, result;
	int prio;
	pthread_mutex_t *own, *want;	/* locked in this order */
	struct timespec *until;
};

static struct thread th[MOST];
static volatile int go;
static volatile int order[MOST], ended;

static int real_time(void)
{
	struct sched_param sp = {1};
	if (sched_setscheduler(0, SCHED_FIFO, &sp) < 0)
		return 0;
	sp.sched_priority = 0;
	sched_setscheduler(0, SCHED_OTHER, &sp);
	return 1;
}

/* priority returns the real-time priority that a thread runs with, 0 for none. */
static int priority(int tid)
{
	char name[64], b[1024];
	snprintf(name, sizeof name, "/proc/self/task/%d/stat", tid);
	FILE *f = fopen(name, "r");
	if (!f)
		return -1;
	size_t n = fread(b, 1, sizeof b - 1, f);
	fclose(f);
	b[n] = 0;
	char *p = strrchr(b, ')');
	int v = -1;
	for (int i = 2; p && i < 18; i++)
		p = strchr(p + 1, ' ');
	if (p)
		v = atoi(p + 1);
	return v < 0 ? -1 - v : 0;
}

/* becomes waits until the thread has the priority, for 20 s. */
static int becomes(int tid, int want)
{
	for (int i = 0; i < 20000 && priority(tid) != want; i++)
		sleep_ms(1);
	return priority(tid);
}

static void until(volatile int *v, int n)
{
	for (int i = 0; i < 20000 && *v < n; i++)
		sleep_ms(1);
}

static void init(pthread_mutex_t *m, int robust, int shared)
{
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	if (robust)
		pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	if (shared)
		pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	CHECK(pthread_mutex_init(m, &a) == 0);
}

static void set_priority(struct thread *t, int prio)
{
	struct sched_param sp = {prio};
	CHECK(pthread_setschedparam(t->id, prio ? SCHED_FIFO : SCHED_OTHER, &sp) == 0);
}

/* body locks what it shall, waits for go, and gives all back. */
static void *body(void *v)
{
	struct thread *t = v;
	t->tid = syscall(SYS_gettid);
	struct sched_param sp = {t->prio};
	if (t->prio && sched_setscheduler(0, SCHED_FIFO, &sp) < 0)
		FAIL("priority %d (errno %d)", t->prio, errno);
	if (t->own)
		pthread_mutex_lock(t->own);
	t->step = 1;
	if (t->want) {
		t->result = t->until ? pthread_mutex_timedlock(t->want, t->until) : pthread_mutex_lock(t->want);
		t->step = 2;
		order[__atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST)] = t - th;
		if (t->result == 0 || t->result == EOWNERDEAD)
			pthread_mutex_unlock(t->want);
	} else
		while (!go)
			sleep_ms(1);
	if (t->own)
		pthread_mutex_unlock(t->own);
	t->step = 3;
	while (go < 2)	/* so that its priority can be looked at */
		sleep_ms(1);
	return 0;
}

static void start(int i, int prio, pthread_mutex_t *own, pthread_mutex_t *want)
{
	th[i] = (struct thread){.prio = prio, .own = own, .want = want, .until = th[i].until};
	pthread_create(&th[i].id, 0, body, &th[i]);
	until(&th[i].step, 1);
}

static void reset(void)
{
	memset(th, 0, sizeof th);
	go = ended = 0;
}

static void join(int n)
{
	go = 2;
	for (int i = 0; i < n; i++)
		pthread_join(th[i].id, 0);
}

TEST(raises)
{
	if (!real_time())
		return;
	pthread_mutex_t m;
	init(&m, 0, 0);
	reset();
	start(0, 0, &m, 0);
	SAME(priority(th[0].tid), 0);
	start(1, 10, 0, &m);
	SAME(becomes(th[0].tid, 10), 10);
	start(2, 30, 0, &m);
	SAME(becomes(th[0].tid, 30), 30);
	start(3, 20, 0, &m);
	start(4, 0, 0, &m);
	start(5, 20, 0, &m);
	/* Priorities change while they wait. */
	set_priority(&th[1], 40);
	SAME(becomes(th[0].tid, 40), 40);
	set_priority(&th[1], 25);
	SAME(becomes(th[0].tid, 30), 30);
	struct sched_param sp;
	int policy;
	pthread_getschedparam(th[0].id, &policy, &sp);
	SAME(policy, SCHED_OTHER);
	SAME(sp.sched_priority, 0);
	/* Its own counts when it is higher. */
	set_priority(&th[0], 50);
	SAME(priority(th[0].tid), 50);
	set_priority(&th[0], 0);
	SAME(priority(th[0].tid), 30);
	for (int i = 1; i <= 5; i++)
		asleep(th[i].tid);	/* all in the wait */
	go = 1;
	until(&ended, 5);
	SAME(ended, 5);
	/* By priority, and among equals by order. */
	int want[] = {2, 1, 3, 5, 4};
	for (int i = 0; i < 5; i++)
		SAME(order[i], want[i]);
	SAME(becomes(th[0].tid, 0), 0);
	SAME(becomes(th[4].tid, 0), 0);
	SAME(priority(th[2].tid), 30);
	join(6);
}

TEST(chain)
{
	if (!real_time())
		return;
	pthread_mutex_t m[12];
	reset();
	for (int i = 0; i < 12; i++)
		init(&m[i], 0, 0);
	start(0, 0, &m[0], 0);
	for (int i = 1; i < 12; i++)
		start(i, i, &m[i], &m[i - 1]);	/* each waits for the one before */
	SAME(becomes(th[0].tid, 11), 11);
	start(12, 60, 0, &m[11]);
	SAME(becomes(th[0].tid, 60), 60);
	for (int i = 0; i < 12; i++)
		SAME(priority(th[i].tid), 60);
	set_priority(&th[12], 5);	/* the last of the chain keeps its own */
	SAME(becomes(th[0].tid, 11), 11);
	set_priority(&th[12], 70);
	SAME(becomes(th[0].tid, 70), 70);
	go = 1;
	until(&ended, 12);
	SAME(ended, 12);
	SAME(becomes(th[0].tid, 0), 0);
	for (int i = 1; i < 12; i++)
		SAME(becomes(th[i].tid, i), i);
	join(13);
}

TEST(gives_up)
{
	if (!real_time())
		return;
	pthread_mutex_t m;
	init(&m, 0, 0);
	reset();
	start(0, 0, &m, 0);
	start(1, 10, 0, &m);
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 2;
	th[2].until = &t;
	start(2, 33, 0, &m);
	SAME(becomes(th[0].tid, 33), 33);
	until(&th[2].step, 2);
	SAME(th[2].result, ETIMEDOUT);
	SAME(becomes(th[0].tid, 10), 10);
	join(3);
}

/* Several mutexes: what counts is the highest of all, and each unlock takes its part away. */
TEST(several)
{
	if (!real_time())
		return;
	pthread_mutex_t m[3];
	int me = syscall(SYS_gettid);
	reset();
	for (int i = 0; i < 3; i++) {
		init(&m[i], 0, 0);
		pthread_mutex_lock(&m[i]);
	}
	for (int i = 0; i < 3; i++)
		start(i, 10 * (i + 1), 0, &m[i]);
	SAME(becomes(me, 30), 30);
	pthread_mutex_unlock(&m[1]);
	SAME(priority(me), 30);
	pthread_mutex_unlock(&m[2]);
	SAME(priority(me), 10);
	pthread_mutex_unlock(&m[0]);
	SAME(priority(me), 0);
	until(&ended, 3);
	join(3);
}

static u32 word;

static long futex(u32 *a, int op, u32 val, const void *t)
{
	return syscall(SYS_futex, a, op, val, t, 0, 0);
}

static void *locks(void *v)
{
	struct thread *t = v;
	t->tid = syscall(SYS_gettid);
	struct sched_param sp = {t->prio};
	if (t->prio)
		sched_setscheduler(0, SCHED_FIFO, &sp);
	t->step = 1;
	t->result = futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, 0) < 0 ? errno : 0;
	t->step = 2;
	while (go < 1)
		sleep_ms(1);
	if (t->result == 0 && (word & FUTEX_TID_MASK) == (u32)t->tid)
		futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, 0);
	return 0;
}

static void *locks_and_ends(void *v)
{
	struct thread *t = v;
	t->tid = syscall(SYS_gettid);
	t->result = futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, 0) < 0 ? errno : 0;
	t->step = 1;
	while (!go)
		sleep_ms(1);
	return 0;
}

/* The owner ends and has no robust list that says so: who waits gets the word all the same. */
TEST(owner_ends)
{
	reset();
	word = 0;
	pthread_create(&th[0].id, 0, locks_and_ends, &th[0]);
	until(&th[0].step, 1);
	SAME(th[0].result, 0);
	SAME(word & FUTEX_TID_MASK, th[0].tid);
	pthread_create(&th[1].id, 0, locks, &th[1]);
	for (int i = 0; i < 20000 && !(__atomic_load_n(&word, __ATOMIC_SEQ_CST) & FUTEX_WAITERS); i++)
		sleep_ms(1);
	sleep_ms(20);
	SAME(th[1].step, 1);
	go = 1;
	pthread_join(th[0].id, 0);
	pthread_join(th[1].id, 0);
	SAME(th[1].result, 0);
	SAME(word & FUTEX_TID_MASK, 0);
	/* Of one that is gone there is nothing to wait for. */
	word = th[0].tid;
	EXPECT(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, 0), ESRCH);
}

TEST(robust_owner_ends)
{
	pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile int *shared = (int *)(m + 4);
	init(m, 1, 1);
	pid_t p = fork();
	if (p == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_mutex_lock(m);
		shared[0] = 1;
		for (;;)
			pause();
	}
	until(&shared[0], 1);
	reset();
	start(0, 0, 0, m);
	int rt = real_time();
	if (rt)
		start(1, 20, 0, m);
	for (int i = 0; i < 20000 && !(*(volatile u32 *)m & FUTEX_WAITERS); i++)
		sleep_ms(1);
	for (int i = 0; i <= rt; i++)
		asleep(th[i].tid);
	kill(p, SIGKILL);
	waitpid(p, 0, 0);
	until(&ended, 1 + rt);
	SAME(ended, 1 + rt);
	/* Whoever was first has to make it good, which body does not; the other learns that it cannot be. */
	SAME(th[order[0]].result, EOWNERDEAD);
	if (rt) {
		SAME(order[0], 1);
		SAME(th[0].result, ENOTRECOVERABLE);
	}
	join(1 + rt);
	munmap(m, 4096);
}

static pthread_mutex_t left, right;

static void *crosses(void *v)
{
	struct thread *t = v;
	pthread_mutex_lock(&right);
	t->step = 1;
	t->result = pthread_mutex_lock(&left);
	t->step = 2;
	if (t->result == 0)
		pthread_mutex_unlock(&left);
	pthread_mutex_unlock(&right);
	return 0;
}

/* A circle over two is found by the kernel. */
TEST(circle)
{
	reset();
	init(&left, 0, 0);
	init(&right, 0, 0);
	pthread_mutex_lock(&left);
	pthread_create(&th[0].id, 0, crosses, &th[0]);
	until(&th[0].step, 1);
	for (int i = 0; i < 20000 && !(*(volatile u32 *)&left & FUTEX_WAITERS); i++)
		sleep_ms(1);
	sleep_ms(50);
	EXPECT(futex((u32 *)&right, FUTEX_LOCK_PI_PRIVATE, 0, 0), EDEADLK);
	EXPECT(futex((u32 *)&left, FUTEX_LOCK_PI_PRIVATE, 0, 0), EDEADLK);
	pthread_mutex_unlock(&left);
	pthread_join(th[0].id, 0);
	SAME(th[0].result, 0);
}

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t guard;

static void *waits(void *v)
{
	struct thread *t = v;
	struct sched_param sp = {t->prio};
	if (t->prio)
		sched_setscheduler(0, SCHED_FIFO, &sp);
	pthread_mutex_lock(&guard);
	t->step = 1;
	while (!go)
		pthread_cond_wait(&cond, &guard);
	order[ended++] = t - th;
	pthread_mutex_unlock(&guard);
	return 0;
}

/* All that a condition variable has woken lend their priorities to the mutex's owner, and get it in order. */
TEST(condition)
{
	if (!real_time())
		return;
	init(&guard, 0, 0);
	reset();
	int me = syscall(SYS_gettid), prio[] = {0, 15, 45, 30};
	for (int i = 0; i < 4; i++) {
		th[i].prio = prio[i];
		pthread_create(&th[i].id, 0, waits, &th[i]);
		until(&th[i].step, 1);
	}
	pthread_mutex_lock(&guard);	/* so all wait */
	SAME(priority(me), 0);
	go = 1;
	pthread_cond_broadcast(&cond);
	SAME(becomes(me, 45), 45);
	sleep_ms(50);
	pthread_mutex_unlock(&guard);
	for (int i = 0; i < 4; i++)
		pthread_join(th[i].id, 0);
	SAME(priority(me), 0);
	int want[] = {2, 3, 1, 0};
	for (int i = 0; i < 4; i++)
		SAME(order[i], want[i]);
}

static volatile int stop;
static pthread_mutex_t lent;
static u64 others;	/* ns that middle had while low worked */

static void *middle(void *v)
{
	(void)v;
	while (!stop)
		;
	return 0;
}

static u64 cpu(pthread_t t)
{
	clockid_t c;
	pthread_getcpuclockid(t, &c);
	return now_ns(c);
}

static void *low(void *v)
{
	struct thread *t = v;
	t->tid = syscall(SYS_gettid);
	pthread_mutex_lock(&lent);
	t->step = 1;
	while (!go)
		sleep_ms(1);
	u64 before = cpu(th[2].id);
	for (u64 s = cpu(t->id); cpu(t->id) - s < 100000000;)
		;
	others = cpu(th[2].id) - before;
	pthread_mutex_unlock(&lent);
	return 0;
}

/* The inversion itself: low owns what high waits for, and middle would keep their only processor. */
TEST(inversion)
{
	if (!real_time())
		return;
	cpu_set_t all, one;
	sched_getaffinity(0, sizeof all, &all);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all)) {
			CPU_SET(i, &one);
			break;
		}
	init(&lent, 0, 0);
	reset();
	sched_setaffinity(0, sizeof one, &one);
	pthread_create(&th[0].id, 0, low, &th[0]);
	until(&th[0].step, 1);
	struct sched_param sp = {50};
	SAME(sched_setscheduler(0, SCHED_FIFO, &sp), 0);
	start(1, 40, 0, &lent);
	SAME(becomes(th[0].tid, 40), 40);
	pthread_create(&th[2].id, 0, middle, 0);
	set_priority(&th[2], 20);
	go = 1;
	until(&th[1].step, 2);
	SAME(th[1].step >= 2, 1);
	if (others > 50000000)	/* without a loan it would have 19 times what low had */
		FAIL("the thread between had %llu ns", (unsigned long long)others);
	stop = 1;
	pthread_join(th[2].id, 0);
	join(2);
	sp.sched_priority = 0;
	sched_setscheduler(0, SCHED_OTHER, &sp);
	sched_setaffinity(0, sizeof all, &all);
}
