/* timers.c - timer_create(2): signals, overruns, threads, all clocks. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>

static volatile int ticks, value;
static void on_tick(int s, siginfo_t *si, void *uc)
{
	(void)s;
	(void)uc;
	value = si->si_value.sival_int;
	if (si->si_code == SI_TIMER)
		ticks++;
}

TEST(periodic)
{
	struct sigaction sa = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 31};
	struct itimerspec it = {{0, 5000000}, {0, 5000000}}, now;
	static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
	sigaction(SIGRTMIN, &sa, 0);
	for (unsigned i = 0; i < 3; i++) {
		timer_t t;
		ticks = 0;
		NEED(timer_create(clocks[i], &ev, &t) == 0);
		CHECK(timer_settime(t, 0, &it, 0) == 0);
		while (ticks < 5)
			pause();
		SAME(value, 31);
		CHECK(timer_gettime(t, &now) == 0);
		SAME(now.it_interval.tv_nsec, 5000000);
		CHECK(timer_delete(t) == 0);
		EXPECT(timer_delete(t), EINVAL);
		int n = ticks;
		sleep_ms(20);
		SAME(ticks, n);
	}
}

TEST(overrun)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	struct itimerspec it = {{0, 2000000}, {0, 2000000}};
	sigset_t s, old;
	timer_t t;
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &s, &old);
	NEED(timer_create(CLOCK_MONOTONIC, &ev, &t) == 0);
	timer_settime(t, 0, &it, 0);
	sleep_ms(50);
	ticks = 0;
	siginfo_t si;
	SAME(sigwaitinfo(&s, &si), SIGRTMIN);
	CHECK(si.si_overrun >= 10);
	CHECK(timer_getoverrun(t) >= 10);
	timer_delete(t);
	sigprocmask(SIG_SETMASK, &old, 0);
}

static volatile pthread_t where;
static void on_where(int s)
{
	(void)s;
	where = pthread_self();
}

static void *sleeper(void *v)
{
	*(volatile int *)v = (int)syscall(SYS_gettid);
	while (!where)
		pause();
	return 0;
}

TEST(to_a_thread)
{
	pthread_t th;
	volatile int tid = 0;
	signal(SIGUSR1, on_where);
	pthread_create(&th, 0, sleeper, (void *)&tid);
	while (!tid)
		sleep_ms(1);
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	ev._sigev_un._tid = tid;
	struct itimerspec it = {{0, 10000000}, {0, 10000000}};
	timer_t t;
	NEED(timer_create(CLOCK_MONOTONIC, &ev, &t) == 0);
	timer_settime(t, 0, &it, 0);
	pthread_join(th, 0);
	CHECK(pthread_equal(where, th));
	timer_delete(t);
	signal(SIGUSR1, SIG_DFL);
}

TEST(cpu_clock)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 5};
	struct itimerspec it = {{0, 0}, {0, 20000000}};
	timer_t t;
	ticks = 0;
	NEED(timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &t) == 0);
	timer_settime(t, 0, &it, 0);
	for (u64 start = now_ns(CLOCK_MONOTONIC); !ticks && now_ns(CLOCK_MONOTONIC) - start < 20000000000ull;)
		;
	SAME(ticks, 1);
	timer_delete(t);
	EXPECT(timer_create(99, &ev, &t), EINVAL);
}

/* A timer that tells nobody: its time is asked for. */
static void silent(clockid_t clock)
{
	struct sigevent e = {.sigev_notify = SIGEV_NONE};
	struct itimerspec i = {.it_value = {0, 1}}, left;
	timer_t t;
	NEED(timer_create(clock, &e, &t) == 0);
	EXPECT(timer_settime(t, 0, &i, 0), 0);
	for (volatile int n = 0; n < 1000000; n++)
		;
	EXPECT(timer_gettime(t, &left), 0);
	SAME(left.it_value.tv_sec, 0);
	EXPECT(timer_delete(t), 0);
}

TEST(silent_timers)
{
	silent(CLOCK_PROCESS_CPUTIME_ID);
	silent(CLOCK_REALTIME);
	silent(CLOCK_MONOTONIC);
}

static u64 childrens_ns(void)
{
	struct rusage u;
	getrusage(RUSAGE_CHILDREN, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000ull + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000ull;
}

/* Who waits for a processor uses none: all together use no more time than the processors have. busy is what they do. */
static void share_processors(void (*busy)(void))
{
	int n = sysconf(_SC_NPROCESSORS_ONLN);
	u64 before = childrens_ns(), start = now_ns(CLOCK_MONOTONIC);
	for (int i = 0; i < 4 * n; i++) {
		pid_t p = fork();
		NEED(p >= 0);
		if (p == 0) {
			while (now_ns(CLOCK_MONOTONIC) - start < 1000000000)
				busy();
			_exit(0);
		}
	}
	while (wait(0) > 0)
		;
	u64 wall = now_ns(CLOCK_MONOTONIC) - start, used = childrens_ns() - before;
	if (used > (wall + 150000000) * n)
		say("%d processors had %lu ms, %lu ms were used", n, wall / 1000000, used / 1000000);
	CHECK(used <= (wall + 150000000) * n);
}

static void compute(void)
{
	for (volatile int k = 0; k < 10000; k++)
		;
}

static void call(void)
{
	for (int k = 0; k < 1000; k++)
		syscall(SYS_getppid);
}

/* Calls that take long: most are interrupted in the kernel. */
static void copy(void)
{
	static char b[1 << 20];
	static int fd = -1;
	if (fd < 0)
		NEED((fd = open("/dev/zero", O_RDONLY)) >= 0);
	CHECK(read(fd, b, sizeof b) == sizeof b);
}

TEST(shared_processors_computing) { share_processors(compute); }
TEST(shared_processors_calling) { share_processors(call); }
TEST(shared_processors_copying) { share_processors(copy); }

/* The interval of a CPU timer that is not armed is told, as Linux does. */
TEST(itimer_interval_alone)
{
	struct itimerval it = {.it_interval = {10, 20}}, old;
	EXPECT(setitimer(ITIMER_PROF, &it, 0), 0);
	EXPECT(getitimer(ITIMER_PROF, &old), 0);
	SAME(old.it_interval.tv_sec, 10);
	SAME(old.it_value.tv_sec, 0);
	EXPECT(setitimer(ITIMER_PROF, &(struct itimerval){0}, 0), 0);
	EXPECT(setitimer(ITIMER_REAL, &it, 0), 0);
	EXPECT(getitimer(ITIMER_REAL, &old), 0);
	SAME(old.it_interval.tv_sec, 0);
}

static atomic_int enough;

static void *work(void *calls)
{
	while (!enough)
		calls ? call() : compute();
	return 0;
}

/* A thread's CPU clock does not go back, whoever reads it. */
TEST(cpu_clock_of_another)
{
	for (long calls = 0; calls < 2; calls++) {
		pthread_t t;
		clockid_t c;
		struct timespec now;
		long long last = 0, back = 0;
		enough = 0;
		NEED(pthread_create(&t, 0, work, (void *)calls) == 0);
		NEED(pthread_getcpuclockid(t, &c) == 0);
		for (int i = 0; i < 20000; i++) {
			clock_gettime(c, &now);
			long long n = now.tv_sec * 1000000000ll + now.tv_nsec;
			back += n < last;
			last = n;
			if (i % 100 == 0)
				usleep(1000);
		}
		enough = 1;
		pthread_join(t, 0);
		SAME(back, 0);
	}
}
