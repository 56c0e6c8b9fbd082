/* threads.c - pthreads: create, join, mutexes, conditions, barriers, TLS, cancel, kill, detach. */
#include "check.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/syscall.h>

#define N 200

static __thread long tls_value = 4711;
static __thread char tls_buf[3000];

static void *square(void *v)
{
	long n = (long)v;
	if (tls_value != 4711 || tls_buf[2999])
		return (void *)-1;
	tls_value = n;
	tls_buf[2999] = 1;
	sched_yield();
	return (void *)(tls_value == n ? n * n : -1);
}

TEST(create_join_200)
{
	pthread_t t[N];
	for (long i = 0; i < N; i++)
		NEED(pthread_create(&t[i], 0, square, (void *)i) == 0);
	for (long i = 0; i < N; i++) {
		void *r;
		CHECK(pthread_join(t[i], &r) == 0);
		SAME((long)r, i * i);
	}
	SAME(tls_value, 4711);
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static long counter;
static pthread_barrier_t bar;

static void *count(void *v)
{
	pthread_barrier_wait(&bar);
	for (long i = 0; i < (long)v; i++) {
		pthread_mutex_lock(&mu);
		long c = counter;
		if (i % 16 == 0)
			sched_yield();
		counter = c + 1;
		pthread_mutex_unlock(&mu);
	}
	return 0;
}

TEST(all_200_at_once_mutex)
{
	pthread_t t[N];
	counter = 0;
	pthread_barrier_init(&bar, 0, N);
	for (long i = 0; i < N; i++)
		NEED(pthread_create(&t[i], 0, count, (void *)100) == 0);
	for (long i = 0; i < N; i++)
		pthread_join(t[i], 0);
	SAME(counter, N * 100);
	pthread_barrier_destroy(&bar);
}

TEST(create_join_2000_times)
{
	for (long i = 0; i < 2000; i++) {
		pthread_t t;
		void *r;
		NEED(pthread_create(&t, 0, square, (void *)i) == 0);
		pthread_join(t, &r);
		if ((long)r != i * i) {
			FAIL("thread %ld returned %ld", i, (long)r);
			return;
		}
	}
}

/* A bounded queue between producers and consumers. */
static struct {
	pthread_mutex_t mu;
	pthread_cond_t notempty, notfull;
	long item[8];
	int n;
	long got;
} q = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, 0, 0};

static void *produce(void *v)
{
	for (long i = 1; i <= (long)v; i++) {
		pthread_mutex_lock(&q.mu);
		while (q.n == 8)
			pthread_cond_wait(&q.notfull, &q.mu);
		q.item[q.n++] = i;
		pthread_cond_signal(&q.notempty);
		pthread_mutex_unlock(&q.mu);
	}
	return 0;
}

static void *consume(void *v)
{
	for (long i = 0; i < (long)v; i++) {
		pthread_mutex_lock(&q.mu);
		while (q.n == 0)
			pthread_cond_wait(&q.notempty, &q.mu);
		q.got += q.item[--q.n];
		pthread_cond_signal(&q.notfull);
		pthread_mutex_unlock(&q.mu);
	}
	return 0;
}

TEST(condition_queue)
{
	pthread_t t[8];
	q.got = 0;
	for (int i = 0; i < 4; i++) {
		pthread_create(&t[i], 0, produce, (void *)500);
		pthread_create(&t[i + 4], 0, consume, (void *)500);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], 0);
	SAME(q.got, 4 * (500 * 501 / 2));
	SAME(q.n, 0);
}

static pthread_cond_t go = PTHREAD_COND_INITIALIZER;
static int started, released;

static void *wait_go(void *v)
{
	pthread_mutex_lock(&mu);
	started++;
	while (!released)
		pthread_cond_wait(&go, &mu);
	counter++;
	pthread_mutex_unlock(&mu);
	return v;
}

TEST(condition_broadcast)
{
	pthread_t t[50];
	counter = started = released = 0;
	for (int i = 0; i < 50; i++)
		pthread_create(&t[i], 0, wait_go, 0);
	for (;;) {
		pthread_mutex_lock(&mu);
		int s = started;
		pthread_mutex_unlock(&mu);
		if (s == 50)
			break;
		sched_yield();
	}
	pthread_mutex_lock(&mu);
	released = 1;
	pthread_cond_broadcast(&go);
	pthread_mutex_unlock(&mu);
	for (int i = 0; i < 50; i++)
		pthread_join(t[i], 0);
	SAME(counter, 50);
}

TEST(condition_timedwait)
{
	struct timespec ts;
	u64 t = now_ns(CLOCK_MONOTONIC);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += 30000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	pthread_mutex_lock(&mu);
	SAME(pthread_cond_timedwait(&go, &mu, &ts), ETIMEDOUT);
	pthread_mutex_unlock(&mu);
	t = now_ns(CLOCK_MONOTONIC) - t;
	CHECK(t >= 29000000);
	CHECK(t < 50000000000ull);
}

static void *hold(void *v)
{
	pthread_mutex_lock(v);
	pthread_barrier_wait(&bar);
	pthread_barrier_wait(&bar);
	pthread_mutex_unlock(v);
	return 0;
}

TEST(mutex_kinds)
{
	pthread_mutexattr_t a;
	pthread_mutex_t m;
	pthread_t t;
	struct timespec ts;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&m, &a);
	SAME(pthread_mutex_unlock(&m), EPERM);
	SAME(pthread_mutex_lock(&m), 0);
	SAME(pthread_mutex_lock(&m), EDEADLK);
	SAME(pthread_mutex_unlock(&m), 0);
	pthread_barrier_init(&bar, 0, 2);
	pthread_create(&t, 0, hold, &m);
	pthread_barrier_wait(&bar);
	SAME(pthread_mutex_trylock(&m), EBUSY);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec--;
	SAME(pthread_mutex_timedlock(&m, &ts), ETIMEDOUT);
	pthread_barrier_wait(&bar);
	pthread_join(t, 0);
	SAME(pthread_mutex_lock(&m), 0);
	SAME(pthread_mutex_unlock(&m), 0);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&m, &a);
	for (int i = 0; i < 100; i++)
		SAME(pthread_mutex_lock(&m), 0);
	for (int i = 0; i < 100; i++)
		SAME(pthread_mutex_unlock(&m), 0);
	pthread_barrier_destroy(&bar);
}

static void *die_holding(void *v)
{
	pthread_mutex_lock(v);
	return 0;
}

#ifdef __GLIBC__
/* The kernel alone cleans up here; musl's join would wait for ever. */
static void *exit_holding(void *v)
{
	pthread_mutex_lock(v);
	syscall(SYS_exit, 0);
	return 0;
}
#endif

static void robust(void *(*f)(void *), int shared)
{
	pthread_mutexattr_t a;
	pthread_mutex_t m;
	pthread_t t;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	if (shared)
		pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&m, &a);
	pthread_create(&t, 0, f, &m);
	pthread_join(t, 0);
	SAME(pthread_mutex_lock(&m), EOWNERDEAD);
	SAME(pthread_mutex_consistent(&m), 0);
	SAME(pthread_mutex_unlock(&m), 0);
	SAME(pthread_mutex_lock(&m), 0);
	SAME(pthread_mutex_unlock(&m), 0);
	pthread_create(&t, 0, f, &m);
	pthread_join(t, 0);
	SAME(pthread_mutex_lock(&m), EOWNERDEAD);
	SAME(pthread_mutex_unlock(&m), 0);
	SAME(pthread_mutex_lock(&m), ENOTRECOVERABLE);
}

TEST(robust_mutex)
{
	robust(die_holding, 0);
#ifdef __GLIBC__
	robust(exit_holding, 0);
	robust(exit_holding, 1);
#endif
}

static pthread_mutex_t robust_mu;
static int robust_result;

static void *robust_waiter(void *v)
{
	pthread_barrier_wait(&bar);
	robust_result = pthread_mutex_lock(&robust_mu);
	if (robust_result == EOWNERDEAD) {
		pthread_mutex_consistent(&robust_mu);
		pthread_mutex_unlock(&robust_mu);
	}
	return v;
}

static void *robust_dier(void *v)
{
	pthread_mutex_lock(&robust_mu);
	pthread_barrier_wait(&bar);
	sleep_ms(30);
	return v;
}

TEST(robust_mutex_wakes_waiter)
{
	pthread_mutexattr_t a;
	pthread_t t, u;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust_mu, &a);
	pthread_barrier_init(&bar, 0, 2);
	pthread_create(&t, 0, robust_dier, 0);
	pthread_create(&u, 0, robust_waiter, 0);
	pthread_join(t, 0);
	pthread_join(u, 0);
	SAME(robust_result, EOWNERDEAD);
}

TEST(pi_mutex)
{
	pthread_mutexattr_t a;
	pthread_mutex_t m;
	pthread_t t[8];
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	NEED(pthread_mutex_init(&m, &a) == 0);
	SAME(pthread_mutex_lock(&m), 0);
	pthread_barrier_init(&bar, 0, 2);
	for (int i = 0; i < 1; i++)
		pthread_create(&t[i], 0, hold, &m);
	sleep_ms(20);
	SAME(pthread_mutex_unlock(&m), 0);
	pthread_barrier_wait(&bar);
	SAME(pthread_mutex_trylock(&m), EBUSY);
	pthread_barrier_wait(&bar);
	pthread_join(t[0], 0);
	SAME(pthread_mutex_lock(&m), 0);
	SAME(pthread_mutex_unlock(&m), 0);
}

static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static long rw_a, rw_b;
static volatile int rw_bad;

static void *rw_thread(void *v)
{
	for (int i = 0; i < 300; i++) {
		if ((long)v % 4 == 0) {
			pthread_rwlock_wrlock(&rw);
			rw_a++;
			if (i % 16 == 0)
				sched_yield();
			rw_b++;
			pthread_rwlock_unlock(&rw);
		} else {
			pthread_rwlock_rdlock(&rw);
			if (rw_a != rw_b)
				rw_bad = 1;
			pthread_rwlock_unlock(&rw);
		}
	}
	return 0;
}

TEST(rwlock)
{
	pthread_t t[16];
	for (long i = 0; i < 16; i++)
		pthread_create(&t[i], 0, rw_thread, (void *)i);
	for (int i = 0; i < 16; i++)
		pthread_join(t[i], 0);
	SAME(rw_a, 4 * 300);
	SAME(rw_b, 4 * 300);
	SAME(rw_bad, 0);
}

static sem_t sem_a, sem_b;

static void *sem_echo(void *v)
{
	for (long i = 0; i < (long)v; i++) {
		sem_wait(&sem_a);
		sem_post(&sem_b);
	}
	return 0;
}

TEST(semaphore_pingpong)
{
	pthread_t t;
	sem_init(&sem_a, 0, 0);
	sem_init(&sem_b, 0, 0);
	pthread_create(&t, 0, sem_echo, (void *)2000);
	for (int i = 0; i < 2000; i++) {
		sem_post(&sem_a);
		sem_wait(&sem_b);
	}
	pthread_join(t, 0);
	int v = -1;
	sem_getvalue(&sem_a, &v);
	SAME(v, 0);
	EXPECT(sem_trywait(&sem_a), EAGAIN);
}

static volatile int cleaned;
static void cleanup(void *v)
{
	(void)v;
	__atomic_add_fetch(&cleaned, 1, __ATOMIC_SEQ_CST);
}

static void *sleep_forever(void *v)
{
	pthread_cleanup_push(cleanup, 0);
	pthread_barrier_wait(&bar);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return v;
}

static void *spin_forever(void *v)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, 0);
	pthread_cleanup_push(cleanup, 0);
	pthread_barrier_wait(&bar);
	for (volatile long i = 0;; i++)
		;
	pthread_cleanup_pop(0);
	return v;
}

static void unlock_queue(void *v)
{
	pthread_mutex_unlock(v);
}

static void *wait_cond_forever(void *v)
{
	pthread_cleanup_push(cleanup, 0);
	pthread_barrier_wait(&bar);
	pthread_mutex_lock(&q.mu);
	pthread_cleanup_push(unlock_queue, &q.mu);
	for (;;)
		pthread_cond_wait(&q.notempty, &q.mu);
	pthread_cleanup_pop(1);
	pthread_cleanup_pop(0);
	return v;
}

static void cancel_one(void *(*f)(void *))
{
	pthread_t t;
	void *r = 0;
	cleaned = 0;
	pthread_barrier_init(&bar, 0, 2);
	NEED(pthread_create(&t, 0, f, 0) == 0);
	pthread_barrier_wait(&bar);
	sleep_ms(5);
	CHECK(pthread_cancel(t) == 0);
	CHECK(pthread_join(t, &r) == 0);
	CHECK(r == PTHREAD_CANCELED);
	SAME(cleaned, 1);
}

TEST(cancel_in_pause) { cancel_one(sleep_forever); }
TEST(cancel_async_spinning) { cancel_one(spin_forever); }
TEST(cancel_in_cond_wait) { cancel_one(wait_cond_forever); }

static volatile long got_from;
static volatile int got_sig;
static void on_usr(int s)
{
	got_sig = s;
	got_from = (long)pthread_self();
}

static void *wait_signal(void *v)
{
	pthread_barrier_wait(&bar);
	while (!__atomic_load_n(&got_sig, __ATOMIC_SEQ_CST))
		if (v)
			sched_yield();
	return 0;
}

TEST(pthread_kill_reaches_the_thread)
{
	struct sigaction sa = {.sa_handler = on_usr};
	sigaction(SIGUSR1, &sa, 0);
	for (long yield = 0; yield < 2; yield++) {
		pthread_t t;
		got_sig = 0;
		pthread_barrier_init(&bar, 0, 2);
		pthread_create(&t, 0, wait_signal, (void *)yield);
		pthread_barrier_wait(&bar);
		CHECK(pthread_kill(t, SIGUSR1) == 0);
		pthread_join(t, 0);
		SAME(got_sig, SIGUSR1);
		SAME(got_from, (long)t);
	}
	signal(SIGUSR1, SIG_DFL);
}

static volatile int detached_done;
static void *detached(void *v)
{
	pthread_detach(pthread_self());
	__atomic_add_fetch(&detached_done, 1, __ATOMIC_SEQ_CST);
	return v;
}

TEST(detached_200)
{
	for (int i = 0; i < N; i++) {
		pthread_t t;
		NEED(pthread_create(&t, 0, detached, 0) == 0);
	}
	for (int i = 0; i < 10000 && detached_done != N; i++)
		sleep_ms(1);
	SAME(detached_done, N);
}

static pthread_key_t key;
static volatile long destroyed;
static void destroy(void *v)
{
	__atomic_add_fetch(&destroyed, (long)v, __ATOMIC_SEQ_CST);
}

static void *use_key(void *v)
{
	pthread_setspecific(key, v);
	sched_yield();
	return (void *)(long)(pthread_getspecific(key) == v);
}

TEST(specific_data)
{
	pthread_t t[20];
	pthread_key_create(&key, destroy);
	for (long i = 0; i < 20; i++)
		pthread_create(&t[i], 0, use_key, (void *)(i + 1));
	for (int i = 0; i < 20; i++) {
		void *r;
		pthread_join(t[i], &r);
		CHECK(r);
	}
	SAME(destroyed, 210);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static volatile int once_n;
static void once_fn(void)
{
	sleep_ms(2);
	__atomic_add_fetch(&once_n, 1, __ATOMIC_SEQ_CST);
}
static void *once_thread(void *v)
{
	pthread_once(&once, once_fn);
	return (void *)(long)(once_n == 1 ? (long)v : -1);
}

TEST(once_runs_once)
{
	pthread_t t[20];
	for (long i = 0; i < 20; i++)
		pthread_create(&t[i], 0, once_thread, 0);
	for (int i = 0; i < 20; i++) {
		void *r;
		pthread_join(t[i], &r);
		CHECK(!r);
	}
	SAME(once_n, 1);
}

static int __attribute__((noinline)) deep(int n)
{
	volatile char b[1024];
	b[0] = (char)n;
	return n ? deep(n - 1) + b[0] - (char)n + 1 : 0;
}

static void *deep_thread(void *v)
{
	return (void *)(long)deep((int)(long)v);
}

TEST(stack_sizes)
{
	pthread_attr_t a;
	pthread_t t;
	void *r;
	pthread_attr_init(&a);
	NEED(pthread_attr_setstacksize(&a, 64 << 20) == 0);
	NEED(pthread_create(&t, &a, deep_thread, (void *)50000) == 0);
	pthread_join(t, &r);
	SAME((long)r, 50000);
	long min = sysconf(_SC_THREAD_STACK_MIN);
	NEED(pthread_attr_setstacksize(&a, (size_t)min) == 0);
	NEED(pthread_create(&t, &a, deep_thread, (void *)1) == 0);
	pthread_join(t, &r);
	SAME((long)r, 1);
}

static void *tid_thread(void *v)
{
	*(int *)v = (int)syscall(SYS_gettid);
	return 0;
}

TEST(ids)
{
	pthread_t t;
	int tid = 0;
	SAME(syscall(SYS_gettid), getpid());
	pthread_create(&t, 0, tid_thread, &tid);
	pthread_join(t, 0);
	CHECK(tid > 0 && tid != getpid());
	/* Soon after the join the thread is gone: signals to it fail. */
	for (int i = 0; i < 5000 && syscall(SYS_tgkill, getpid(), tid, 0) == 0; i++)
		sleep_ms(1);
	EXPECT(syscall(SYS_tgkill, getpid(), tid, 0), ESRCH);
	EXPECT(syscall(SYS_tgkill, getpid(), getpid(), 0), 0);
	EXPECT(syscall(SYS_tgkill, getpid(), -1, 0), EINVAL);
	EXPECT(syscall(SYS_tgkill, getpid() + 1, getpid(), 0), ESRCH);
}

TEST(names)
{
	char b[16] = "";
	CHECK(pthread_setname_np(pthread_self(), "fifteen-letters") == 0);
	CHECK(syscall(SYS_prctl, 16 /* PR_GET_NAME */, b, 0, 0, 0) == 0);
	CHECK(!strcmp(b, "fifteen-letters"));
	SAME(pthread_setname_np(pthread_self(), "sixteen-letters!"), ERANGE);
}
