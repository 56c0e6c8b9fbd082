/* signals.c - handlers, masks, nesting, waiting, queues, timers. signal(7), sigaction(2). */
#include "check.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile int order[64];
static volatile int norder;

static void reset(void)
{
	norder = 0;
}

static void record(int s)
{
	if (norder < 64)
		order[norder++] = s;
}

static void install(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa = {.sa_handler = fn, .sa_flags = flags};
	if (sigaction(sig, &sa, 0))
		FAIL("sigaction %d", sig);
}

static siginfo_t info;
static volatile int info_sig;
static void on_info(int s, siginfo_t *si, void *uc)
{
	(void)uc;
	info = *si;
	info_sig = s;
	record(s);
}

static void install_info(int sig, int flags)
{
	struct sigaction sa = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | flags};
	if (sigaction(sig, &sa, 0))
		FAIL("sigaction %d", sig);
}

static sigset_t set_of(int a, int b)
{
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, a);
	if (b)
		sigaddset(&s, b);
	return s;
}

TEST(raise_runs_handler_before_return)
{
	reset();
	install(SIGUSR1, record, 0);
	raise(SIGUSR1);
	SAME(norder, 1);
	SAME(order[0], SIGUSR1);
	kill(getpid(), SIGUSR1);
	SAME(norder, 2);
}

TEST(handler_sees_siginfo)
{
	install_info(SIGUSR1, 0);
	memset(&info, 0, sizeof info);
	kill(getpid(), SIGUSR1);
	SAME(info.si_signo, SIGUSR1);
	SAME(info.si_code, SI_USER);
	SAME(info.si_pid, getpid());
	SAME(info.si_uid, getuid());
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
	SAME(info.si_code, SI_TKILL);
	union sigval v = {.sival_int = 1234};
	CHECK(sigqueue(getpid(), SIGUSR1, v) == 0);
	SAME(info.si_code, SI_QUEUE);
	SAME(info.si_value.sival_int, 1234);
}

TEST(blocked_signal_waits)
{
	reset();
	install(SIGUSR1, record, 0);
	sigset_t s = set_of(SIGUSR1, 0), old, p;
	sigprocmask(SIG_BLOCK, &s, &old);
	raise(SIGUSR1);
	raise(SIGUSR1);
	SAME(norder, 0);
	sigpending(&p);
	CHECK(sigismember(&p, SIGUSR1));
	sigprocmask(SIG_SETMASK, &old, 0);
	/* Standard signals do not queue. */
	SAME(norder, 1);
	sigpending(&p);
	CHECK(!sigismember(&p, SIGUSR1));
}

TEST(realtime_signals_queue_in_order)
{
	reset();
	int a = SIGRTMIN, b = SIGRTMIN + 1;
	install_info(a, 0);
	install_info(b, 0);
	sigset_t s = set_of(a, b), old;
	/* While a handler runs, block the other, so that the order shows. */
	struct sigaction sa = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO, .sa_mask = s};
	sigaction(a, &sa, 0);
	sigaction(b, &sa, 0);
	sigprocmask(SIG_BLOCK, &s, &old);
	union sigval v;
	for (int i = 0; i < 3; i++) {
		v.sival_int = i;
		CHECK(sigqueue(getpid(), b, v) == 0);
		CHECK(sigqueue(getpid(), a, v) == 0);
	}
	sigprocmask(SIG_SETMASK, &old, 0);
	SAME(norder, 6);
	for (int i = 0; i < 6; i++)
		SAME(order[i], i < 3 ? a : b);
	SAME(info.si_value.sival_int, 2);
}

static volatile int depth, maxdepth;
static void nested(int s)
{
	record(s);
	depth++;
	if (depth > maxdepth)
		maxdepth = depth;
	if (s == SIGUSR1)
		raise(SIGUSR2);
	if (s == SIGUSR2)
		raise(SIGUSR1);	/* blocked meanwhile */
	depth--;
	record(-s);
}

TEST(nested_handlers)
{
	reset();
	depth = maxdepth = 0;
	install(SIGUSR1, nested, SA_RESETHAND);
	install(SIGUSR2, record, 0);
	raise(SIGUSR1);
	SAME(order[0], SIGUSR1);
	SAME(order[1], SIGUSR2);
	SAME(order[2], -SIGUSR1);
}

static void count_down(int s)
{
	record(s);
	if (norder < 4)
		raise(s);
	record(-s);
}

TEST(same_signal_blocked_in_its_handler)
{
	reset();
	install(SIGUSR1, count_down, 0);
	raise(SIGUSR1);
	/* Each handler ends before the next begins. */
	SAME(order[0], SIGUSR1);
	SAME(order[1], -SIGUSR1);
	SAME(order[2], SIGUSR1);
	SAME(order[3], -SIGUSR1);
}

TEST(sa_nodefer)
{
	reset();
	install(SIGUSR1, count_down, SA_NODEFER);
	raise(SIGUSR1);
	for (int i = 0; i < 4; i++)
		SAME(order[i], SIGUSR1);
	for (int i = 4; i < 8; i++)
		SAME(order[i], -SIGUSR1);
}

TEST(sa_resethand)
{
	reset();
	struct sigaction sa;
	install(SIGUSR1, record, SA_RESETHAND);
	raise(SIGUSR1);
	SAME(norder, 1);
	sigaction(SIGUSR1, 0, &sa);
	CHECK(sa.sa_handler == SIG_DFL);
}

TEST(sa_mask_in_handler)
{
	reset();
	struct sigaction sa = {.sa_handler = nested};
	sigaddset(&sa.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &sa, 0);
	install(SIGUSR2, record, 0);
	raise(SIGUSR1);
	SAME(order[0], SIGUSR1);
	SAME(order[1], -SIGUSR1);
	SAME(order[2], SIGUSR2);
	sigset_t now;
	sigprocmask(SIG_SETMASK, 0, &now);
	CHECK(!sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2));
}

static void look_at_mask(int s, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	(void)si;
	record(sigismember(&uc->uc_sigmask, SIGTERM));
	/* A changed mask in the context takes effect at return. */
	sigaddset(&uc->uc_sigmask, SIGHUP);
	record(s);
}

TEST(ucontext_mask)
{
	reset();
	sigset_t s = set_of(SIGTERM, 0), old, now;
	struct sigaction sa = {.sa_sigaction = look_at_mask, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &sa, 0);
	sigprocmask(SIG_BLOCK, &s, &old);
	raise(SIGUSR1);
	SAME(order[0], 1);
	sigprocmask(SIG_SETMASK, &old, &now);
	CHECK(sigismember(&now, SIGHUP));
	CHECK(sigismember(&now, SIGTERM));
	CHECK(!sigismember(&now, SIGUSR1));
}

static void change_rax(int s, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	(void)s;
	(void)si;
	uc->uc_mcontext.gregs[REG_RAX] = 77;
	uc->uc_mcontext.gregs[REG_RBX] = 88;
	uc->uc_mcontext.gregs[REG_R15] = 99;
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

TEST(handler_changes_registers)
{
	struct sigaction sa = {.sa_sigaction = change_rax, .sa_flags = SA_SIGINFO};
	sigaction(SIGILL, &sa, 0);
	register long r15 __asm__("r15") = 3;
	long rax = 1, rbx = 2, rdx = 4;
	__asm__ volatile("ud2" : "+a"(rax), "+b"(rbx), "+r"(r15), "+d"(rdx)::"memory");
	signal(SIGILL, SIG_DFL);
	SAME(rax, 77);
	SAME(rbx, 88);
	SAME(r15, 99);
	SAME(rdx, 4);
}

TEST(ignored_signals_vanish)
{
	signal(SIGUSR1, SIG_IGN);
	sigset_t s = set_of(SIGUSR1, 0), old, p;
	sigprocmask(SIG_BLOCK, &s, &old);
	raise(SIGUSR1);
	sigpending(&p);
	/* Blocked and ignored: Linux keeps it pending when it is blocked. */
	CHECK(sigismember(&p, SIGUSR1));
	signal(SIGUSR1, SIG_IGN);	/* setting to ignore discards */
	sigpending(&p);
	CHECK(!sigismember(&p, SIGUSR1));
	sigprocmask(SIG_SETMASK, &old, 0);
	/* Ignored by default. */
	signal(SIGCHLD, SIG_DFL);
	raise(SIGCHLD);
	raise(SIGURG);
	raise(SIGWINCH);
	raise(SIGCONT);
}

TEST(sigsuspend_waits_with_mask)
{
	reset();
	install(SIGALRM, record, 0);
	sigset_t s = set_of(SIGALRM, 0), old, none, now;
	sigprocmask(SIG_BLOCK, &s, &old);
	struct itimerval it = {.it_value = {0, 20000}};
	setitimer(ITIMER_REAL, &it, 0);
	sigemptyset(&none);
	EXPECT(sigsuspend(&none), EINTR);
	SAME(norder, 1);
	sigprocmask(SIG_SETMASK, &old, &now);
	CHECK(sigismember(&now, SIGALRM));
	signal(SIGALRM, SIG_DFL);
}

TEST(sigsuspend_pending_already)
{
	reset();
	install(SIGUSR1, record, 0);
	sigset_t s = set_of(SIGUSR1, 0), old, none;
	sigprocmask(SIG_BLOCK, &s, &old);
	raise(SIGUSR1);
	sigemptyset(&none);
	EXPECT(sigsuspend(&none), EINTR);
	SAME(norder, 1);
	sigprocmask(SIG_SETMASK, &old, 0);
}

TEST(sigtimedwait_takes_and_times_out)
{
	reset();
	install(SIGUSR1, record, 0);
	sigset_t s = set_of(SIGUSR1, SIGRTMIN + 2), old;
	siginfo_t si;
	struct timespec t20 = {0, 20000000}, t0 = {0, 0}, bad = {0, 1000000000};
	sigprocmask(SIG_BLOCK, &s, &old);
	u64 t = now_ns(CLOCK_MONOTONIC);
	EXPECT(sigtimedwait(&s, &si, &t20), EAGAIN);
	CHECK(now_ns(CLOCK_MONOTONIC) - t >= 19000000);
	EXPECT(sigtimedwait(&s, &si, &t0), EAGAIN);
	EXPECT(sigtimedwait(&s, &si, &bad), EINVAL);
	raise(SIGUSR1);
	SAME(sigtimedwait(&s, &si, &t20), SIGUSR1);
	SAME(si.si_signo, SIGUSR1);
	union sigval v = {.sival_int = 5};
	sigqueue(getpid(), SIGRTMIN + 2, v);
	SAME(sigwaitinfo(&s, &si), SIGRTMIN + 2);
	SAME(si.si_value.sival_int, 5);
	int sig = 0;
	raise(SIGUSR1);
	SAME(sigwait(&s, &sig), 0);
	SAME(sig, SIGUSR1);
	SAME(norder, 0);
	sigprocmask(SIG_SETMASK, &old, 0);
}

static void *wait_in_thread(void *v)
{
	int sig = 0;
	sigwait(v, &sig);
	return (void *)(long)sig;
}

TEST(sigwait_in_another_thread)
{
	sigset_t s = set_of(SIGUSR1, SIGUSR2), old;
	pthread_t t;
	void *r;
	pthread_sigmask(SIG_BLOCK, &s, &old);
	pthread_create(&t, 0, wait_in_thread, &s);
	sleep_ms(10);
	kill(getpid(), SIGUSR2);
	pthread_join(t, &r);
	SAME((long)r, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &old, 0);
}

static volatile pthread_t who;
static void on_who(int s)
{
	(void)s;
	who = pthread_self();
}

static volatile int stop;
static void *spin(void *v)
{
	while (!stop)
		;
	return v;
}

TEST(process_signal_goes_to_a_thread_that_wants_it)
{
	sigset_t s = set_of(SIGUSR1, 0), old;
	pthread_t t;
	install(SIGUSR1, on_who, 0);
	who = 0;
	stop = 0;
	pthread_create(&t, 0, spin, 0);
	pthread_sigmask(SIG_BLOCK, &s, &old);
	kill(getpid(), SIGUSR1);
	for (int i = 0; i < 5000 && !who; i++)
		sleep_ms(1);
	CHECK(pthread_equal(who, t));
	stop = 1;
	pthread_join(t, 0);
	pthread_sigmask(SIG_SETMASK, &old, 0);
}

TEST(alarm_and_itimers)
{
	reset();
	install(SIGALRM, record, 0);
	install(SIGVTALRM, record, 0);
	install(SIGPROF, record, 0);
	struct itimerval it = {.it_value = {0, 10000}, .it_interval = {0, 10000}}, old;
	CHECK(setitimer(ITIMER_REAL, &it, 0) == 0);
	while (norder < 5)
		pause();
	memset(&it, 0, sizeof it);
	CHECK(setitimer(ITIMER_REAL, &it, &old) == 0);
	SAME(old.it_interval.tv_usec, 10000);
	for (int i = 0; i < 5; i++)
		SAME(order[i], SIGALRM);
	CHECK(getitimer(ITIMER_REAL, &old) == 0);
	SAME(old.it_value.tv_sec, 0);
	SAME(old.it_value.tv_usec, 0);
	SAME(alarm(100), 0);
	unsigned left = alarm(0);
	CHECK(left >= 99 && left <= 100);
	reset();
	it.it_value.tv_usec = 20000;
	CHECK(setitimer(ITIMER_VIRTUAL, &it, 0) == 0);
	for (u64 t = now_ns(CLOCK_MONOTONIC); !norder && now_ns(CLOCK_MONOTONIC) - t < 20000000000ull;)
		;
	SAME(norder, 1);
	SAME(order[0], SIGVTALRM);
	reset();
	CHECK(setitimer(ITIMER_PROF, &it, 0) == 0);
	for (u64 t = now_ns(CLOCK_MONOTONIC); !norder && now_ns(CLOCK_MONOTONIC) - t < 20000000000ull;)
		;
	SAME(order[0], SIGPROF);
	it.it_value.tv_usec = 1000000;
	EXPECT(setitimer(ITIMER_REAL, &it, 0), EINVAL);
	it.it_value.tv_usec = 0;
	EXPECT(setitimer(17, &it, 0), EINVAL);
}

static volatile int on_alt;
static char altstack[65536] __attribute__((aligned(16)));
static void where(int s)
{
	char here;
	(void)s;
	stack_t ss;
	sigaltstack(0, &ss);
	on_alt = &here >= altstack && &here < altstack + sizeof altstack ? 1 : 0;
	if (on_alt && !(ss.ss_flags & SS_ONSTACK))
		on_alt = 2;
}

TEST(sigaltstack_rules)
{
	stack_t ss = {.ss_sp = altstack, .ss_size = sizeof altstack}, old;
	CHECK(sigaltstack(&ss, 0) == 0);
	install(SIGUSR1, where, SA_ONSTACK);
	raise(SIGUSR1);
	SAME(on_alt, 1);
	install(SIGUSR1, where, 0);
	raise(SIGUSR1);
	SAME(on_alt, 0);
	CHECK(sigaltstack(0, &old) == 0);
	CHECK(old.ss_sp == altstack && old.ss_size == sizeof altstack && old.ss_flags == 0);
	ss.ss_size = 1000;
	EXPECT(sigaltstack(&ss, 0), ENOMEM);
	ss.ss_size = sizeof altstack;
	ss.ss_flags = 0x1234;
	EXPECT(sigaltstack(&ss, 0), EINVAL);
	ss.ss_flags = SS_DISABLE;
	CHECK(sigaltstack(&ss, 0) == 0);
	CHECK(sigaltstack(0, &old) == 0);
	SAME(old.ss_flags, SS_DISABLE);
	install(SIGUSR1, where, SA_ONSTACK);
	raise(SIGUSR1);
	SAME(on_alt, 0);
}

static void change_stack(int s)
{
	stack_t ss = {.ss_sp = altstack, .ss_size = sizeof altstack};
	(void)s;
	record(sigaltstack(&ss, 0) ? errno : 0);
}

TEST(sigaltstack_busy)
{
	reset();
	stack_t ss = {.ss_sp = altstack, .ss_size = sizeof altstack};
	sigaltstack(&ss, 0);
	install(SIGUSR1, change_stack, SA_ONSTACK);
	raise(SIGUSR1);
	SAME(order[0], EPERM);
	/* SS_AUTODISARM lets the handler change it. */
	ss.ss_flags = (int)(1u << 31);
	CHECK(sigaltstack(&ss, 0) == 0);
	raise(SIGUSR1);
	SAME(order[1], 0);
	ss.ss_flags = SS_DISABLE;
	sigaltstack(&ss, 0);
}

static sigjmp_buf jb;
static void jump(int s)
{
	siglongjmp(jb, s);
}

TEST(siglongjmp_restores_mask)
{
	install(SIGUSR1, jump, 0);
	for (int i = 0; i < 3; i++) {
		int s = sigsetjmp(jb, 1);
		if (!s) {
			raise(SIGUSR1);
			FAIL("raise returned");
		}
		SAME(s, SIGUSR1);
	}
	sigset_t now;
	sigprocmask(SIG_SETMASK, 0, &now);
	CHECK(!sigismember(&now, SIGUSR1));
}

TEST(errors)
{
	struct sigaction sa = {.sa_handler = record};
	EXPECT(sigaction(SIGKILL, &sa, 0), EINVAL);
	EXPECT(sigaction(SIGSTOP, &sa, 0), EINVAL);
	EXPECT(syscall(SYS_rt_sigaction, 0, 0, 0, 8), EINVAL);
	EXPECT(syscall(SYS_rt_sigaction, 65, 0, 0, 8), EINVAL);
	EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, 0, 0, 7), EINVAL);
	EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, 8, 0, 8), EFAULT);
	EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, 0, 8, 8), EFAULT);
	EXPECT(syscall(SYS_rt_sigprocmask, 7, &sa, 0, 8), EINVAL);
	EXPECT(syscall(SYS_rt_sigprocmask, 0, 8, 0, 8), EFAULT);
	EXPECT(syscall(SYS_rt_sigprocmask, 0, 0, 0, 16), EINVAL);
	EXPECT(kill(getpid(), 65), EINVAL);
	EXPECT(kill(getpid(), -1), EINVAL);
	EXPECT(kill(getpid(), 0), 0);
	EXPECT(kill(0x3fffffff, 0), ESRCH);
	/* KILL and STOP cannot be blocked. */
	sigset_t all, old, now;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	sigprocmask(SIG_SETMASK, &old, &now);
	CHECK(!sigismember(&now, SIGKILL) && !sigismember(&now, SIGSTOP));
	CHECK(sigismember(&now, SIGTERM));
	/* Nobody may forge SI_USER to another; to oneself one may. */
	siginfo_t si = {.si_code = SI_USER};
	install_info(SIGUSR1, 0);
	EXPECT(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &si), 0);
	EXPECT(syscall(SYS_rt_sigqueueinfo, getpid(), 65, &si), EINVAL);
	EXPECT(syscall(SYS_rt_sigqueueinfo, 0x3fffffff, SIGUSR1, &si), si.si_code >= 0 ? EPERM : ESRCH);
}

/* Registers survive a storm of signals: a tight loop with known values. */
static volatile long storm;
static void on_storm(int s)
{
	(void)s;
	storm++;
	__asm__ volatile("xor %%eax, %%eax; mov $-1, %%rdx; mov $-2, %%r8; mov $-3, %%r9; mov $-4, %%r10; mov $-5, %%r11; std; cld"
			 ::: "rax", "rdx", "r8", "r9", "r10", "r11", "cc");
}

TEST(registers_survive_signals)
{
	install(SIGALRM, on_storm, 0);
	struct itimerval it = {.it_value = {0, 1000}, .it_interval = {0, 1000}};
	storm = 0;
	setitimer(ITIMER_REAL, &it, 0);
	long bad = 0;
	while (storm < 200 && !bad) {
		long n = 200000;
		__asm__ volatile("mov $11, %%rax; mov $12, %%rbx; mov $13, %%rdx; mov $14, %%rsi; mov $15, %%rdi;"
				 "mov $18, %%r8; mov $19, %%r9; mov $20, %%r10; mov $21, %%r11; mov $22, %%r12; mov $23, %%r13; mov $24, %%r14; mov $25, %%r15; stc;"
				 "1: jnc 2f;"
				 "cmp $11, %%rax; jne 2f; cmp $12, %%rbx; jne 2f; cmp $13, %%rdx; jne 2f; cmp $14, %%rsi; jne 2f; cmp $15, %%rdi; jne 2f;"
				 "cmp $18, %%r8; jne 2f; cmp $19, %%r9; jne 2f; cmp $20, %%r10; jne 2f; cmp $21, %%r11; jne 2f; cmp $22, %%r12; jne 2f;"
				 "cmp $23, %%r13; jne 2f; cmp $24, %%r14; jne 2f; cmp $25, %%r15; jne 2f; stc; dec %%rcx; jnz 1b; 2:"
				 : "+c"(n)::"rax", "rbx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
		bad = n;
	}
	memset(&it, 0, sizeof it);
	setitimer(ITIMER_REAL, &it, 0);
	SAME(bad, 0);
	CHECK(storm >= 200);
}
