/* restart.c - signal(7), "Interruption of system calls": which go on after a handler with SA_RESTART, which return EINTR. */
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>

static volatile int handled;
static void on_alarm(int s)
{
	(void)s;
	handled++;
}

/* after lets SIGALRM arrive in ms milliseconds, handled with flags. */
static void after(long ms, int flags)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = flags};
	struct itimerval it = {{0, 0}, {0, ms * 1000}};
	handled = 0;
	sigaction(SIGALRM, &sa, 0);
	setitimer(ITIMER_REAL, &it, 0);
}

TEST(nanosleep_is_interrupted_even_with_restart)
{
	struct timespec t = {0, 500000000}, left = {9, 9};
	u64 start = now_ns(CLOCK_MONOTONIC);
	after(100, SA_RESTART);	/* a busy host may need long to come to the sleep */
	EXPECT(nanosleep(&t, &left), EINTR);
	SAME(handled, 1);
	SAME(left.tv_sec, 0);
	u64 took = now_ns(CLOCK_MONOTONIC) - start;
	CHECK(took >= 100000000);
	CHECK(left.tv_nsec > 0 && left.tv_nsec < 500000000 && (u64)left.tv_nsec + took >= 500000000);
	/* The rest, and a sleep without a place for the rest. */
	EXPECT(nanosleep(&left, 0), 0);
	after(100, 0);
	EXPECT(nanosleep(&t, 0), EINTR);
}

TEST(ignored_signal_does_not_interrupt)
{
	struct timespec t = {0, 60000000};
	u64 start = now_ns(CLOCK_MONOTONIC);
	after(20, 0);
	signal(SIGALRM, SIG_IGN);
	EXPECT(nanosleep(&t, 0), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 60000000);
	SAME(handled, 0);
}

TEST(clock_nanosleep)
{
	struct timespec t, left = {9, 9};
	after(20, SA_RESTART);
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 1;
	/* Absolute: the rest is not written. */
	SAME(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, &left), EINTR);
	SAME(left.tv_sec, 9);
	clock_gettime(CLOCK_MONOTONIC, &t);
	u64 start = now_ns(CLOCK_MONOTONIC);
	t.tv_nsec += 30000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	SAME(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
	t.tv_sec = 0;
	SAME(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0), 0);
	t.tv_nsec = -1;
	SAME(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, 0), EINVAL);
	t.tv_nsec = 1000000000;
	SAME(clock_nanosleep(CLOCK_REALTIME, 0, &t, 0), EINVAL);
	t.tv_nsec = 0;
	SAME(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, 0), EINVAL);
	SAME(clock_nanosleep(77, 0, &t, 0), EINVAL);
}

static u32 word;
static long futex(int op, u32 val, struct timespec *t)
{
	return syscall(SYS_futex, &word, op, val, t, 0, 0xffffffff);
}

TEST(futex_wait)
{
	struct timespec t = {0, 80000000};
	/* With a timeout no flag makes it go on after a handler; without one SA_RESTART does: the next test. */
	after(20, 0);
	EXPECT(futex(FUTEX_WAIT_PRIVATE, 0, 0), EINTR);
	after(20, SA_RESTART);
	EXPECT(futex(FUTEX_WAIT_PRIVATE, 0, &t), EINTR);
	SAME(handled, 1);
	/* A signal that is ignored does not end the wait. */
	u64 start = now_ns(CLOCK_MONOTONIC);
	after(20, 0);
	signal(SIGALRM, SIG_IGN);
	EXPECT(futex(FUTEX_WAIT_PRIVATE, 0, &t), ETIMEDOUT);
	u64 took = now_ns(CLOCK_MONOTONIC) - start;
	CHECK(took >= 80000000 && took < 20000000000ull);
}

static void *waker(void *v)
{
	sleep_ms(60);
	__atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
	return v;
}

TEST(futex_wait_restarts)
{
	pthread_t t;
	sigset_t s, old;
	sigemptyset(&s);
	sigaddset(&s, SIGALRM);
	word = 0;
	pthread_sigmask(SIG_BLOCK, &s, &old);	/* the other thread does not take it */
	pthread_create(&t, 0, waker, 0);
	pthread_sigmask(SIG_SETMASK, &old, 0);
	after(20, SA_RESTART);
	EXPECT(futex(FUTEX_WAIT_PRIVATE, 0, 0), 0);
	SAME(handled, 1);
	pthread_join(t, 0);
	word = 0;
}

TEST(pause_and_sigwait)
{
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, 0);
	after(20, SA_RESTART);
	EXPECT(pause(), EINTR);
	after(20, SA_RESTART);
	EXPECT(sigwaitinfo(&s, 0), EINTR);
	after(20, SA_RESTART);
	EXPECT(sigtimedwait(&s, 0, &(struct timespec){5, 0}), EINTR);
	sigprocmask(SIG_UNBLOCK, &s, 0);
}

/* A mutex of glibc is a futex without a timeout: it never shows EINTR. */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static void *hold(void *v)
{
	pthread_mutex_lock(&mu);
	*(volatile int *)v = 1;
	for (int i = 0; i < 400 && !handled; i++)
		sleep_ms(5);
	sleep_ms(20);	/* the other waits again */
	pthread_mutex_unlock(&mu);
	return 0;
}

TEST(mutex_survives_signals)
{
	pthread_t t;
	volatile int held = 0;
	sigset_t s, old;
	sigemptyset(&s);
	sigaddset(&s, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &s, &old);
	handled = 0;
	pthread_create(&t, 0, hold, (void *)&held);
	pthread_sigmask(SIG_SETMASK, &old, 0);
	while (!held)
		;
	after(20, 0);
	SAME(pthread_mutex_lock(&mu), 0);
	SAME(handled, 1);
	pthread_mutex_unlock(&mu);
	pthread_join(t, 0);
}
