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

/* every lets SIGALRM arrive each ms milliseconds: a busy host may come to what it shall interrupt only after the first. 0 ends that. */
static void every(long ms)
{
	struct itimerval it = {{0, ms * 1000}, {0, ms * 1000}};
	setitimer(ITIMER_REAL, &it, 0);
}

/* after lets SIGALRM arrive in ms milliseconds, and again, handled with flags. */
static void after(long ms, int flags)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = flags};
	handled = 0;
	sigaction(SIGALRM, &sa, 0);
	every(ms);
}

/* ignored is after with a signal that is ignored. */
static void ignored(long ms)
{
	handled = 0;
	signal(SIGALRM, SIG_IGN);
	every(ms);
}

TEST(nanosleep_is_interrupted_even_with_restart)
{
	struct timespec t = {100, 0}, left = {900, 9};
	u64 start = now_ns(CLOCK_MONOTONIC);
	after(100, SA_RESTART);
	EXPECT(nanosleep(&t, &left), EINTR);
	u64 took = now_ns(CLOCK_MONOTONIC) - start, rest = left.tv_sec * 1000000000ull + left.tv_nsec;
	CHECK(handled > 0);
	CHECK(took >= 100000000);
	CHECK(rest > 0 && rest < 100000000000 && rest + took >= 100000000000);
	/* A sleep without a place for the rest, and one that nothing interrupts. */
	EXPECT(nanosleep(&t, 0), EINTR);
	every(0);
	t = (struct timespec){0, 20000000};
	EXPECT(nanosleep(&t, &left), 0);
}

TEST(ignored_signal_does_not_interrupt)
{
	struct timespec t = {0, 60000000};
	u64 start = now_ns(CLOCK_MONOTONIC);
	ignored(20);
	EXPECT(nanosleep(&t, 0), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 60000000);
	SAME(handled, 0);
	every(0);
}

TEST(clock_nanosleep)
{
	struct timespec t, left = {9, 9};
	after(20, SA_RESTART);
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 100;
	/* Absolute: the rest is not written. */
	SAME(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, &left), EINTR);
	SAME(left.tv_sec, 9);
	every(0);
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
	struct timespec t = {100, 0};
	/* With a timeout no flag makes it go on after a handler; without one SA_RESTART does: the next test. */
	after(20, 0);
	EXPECT(futex(FUTEX_WAIT_PRIVATE, 0, 0), EINTR);
	after(20, SA_RESTART);
	EXPECT(futex(FUTEX_WAIT_PRIVATE, 0, &t), EINTR);
	CHECK(handled > 0);
	/* A signal that is ignored does not end the wait. */
	t = (struct timespec){0, 80000000};
	u64 start = now_ns(CLOCK_MONOTONIC);
	ignored(20);
	EXPECT(futex(FUTEX_WAIT_PRIVATE, 0, &t), ETIMEDOUT);
	u64 took = now_ns(CLOCK_MONOTONIC) - start;
	CHECK(took >= 80000000 && took < 20000000000ull);
	every(0);
}

static void *waker(void *v)
{
	while (!handled)
		sleep_ms(1);
	every(0);	/* or an alarm between the store and the wake-up would have the other look at the word again */
	sleep_ms(40);
	asleep(getpid());	/* the other waits again */
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
	word = handled = 0;
	pthread_sigmask(SIG_BLOCK, &s, &old);	/* the other thread does not take it */
	pthread_create(&t, 0, waker, 0);
	pthread_sigmask(SIG_SETMASK, &old, 0);
	after(20, SA_RESTART);
	EXPECT(futex(FUTEX_WAIT_PRIVATE, 0, 0), 0);
	CHECK(handled > 0);
	every(0);
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
	EXPECT(sigtimedwait(&s, 0, &(struct timespec){100, 0}), EINTR);
	every(0);
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
	CHECK(handled > 0);
	every(0);
	pthread_mutex_unlock(&mu);
	pthread_join(t, 0);
}
