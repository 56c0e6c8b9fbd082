/* ptrace.c - ptrace(2): what strace and gdb need. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/elf.h>
#include <linux/ptrace.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

static long pt(long req, pid_t pid, long addr, long data)
{
	return syscall(SYS_ptrace, req, pid, addr, data);
}

/* A child that asks to be traced, stops, and then runs f. */
static pid_t traced(int (*f)(void))
{
	pid_t p = fork();
	if (p == 0) {
		if (pt(PTRACE_TRACEME, 0, 0, 0) != 0)
			_exit(90);
		raise(SIGSTOP);
		_exit(f());
	}
	int s;
	if (waitpid(p, &s, 0) != p || !WIFSTOPPED(s) || WSTOPSIG(s) != SIGSTOP)
		FAIL("child did not stop: %#x", s);
	return p;
}

static int next(pid_t p, int req, int sig)
{
	int s = -1;
	if (pt(req, p, 0, sig) != 0)
		FAIL("resume %d: errno %d", req, errno);
	if (waitpid(p, &s, __WALL) != p)
		FAIL("wait: errno %d", errno);
	return s;
}

#define EXITED(n) ((n) << 8)
#define STOPPED(sig) ((sig) << 8 | 0x7f)
#define EVENT(e) ((SIGTRAP | (e) << 8) << 8 | 0x7f)

static volatile long word = 0x1122334455667788;
static int ret7(void) { return 7; }
static int getppids(void)
{
	long r = syscall(SYS_getpriority, 1, 2, 3, 4, 5, 6);
	return r == 99 ? 1 : r == -1 && errno == ENOSYS ? 2 : 3;
}

TEST(traceme)
{
	pid_t p = traced(ret7);
	SAME(next(p, PTRACE_CONT, 0), EXITED(7));
	EXPECT(pt(PTRACE_CONT, p, 0, 0), ESRCH);
	EXPECT(pt(PTRACE_CONT, getpid(), 0, 0), ESRCH);
	EXPECT(pt(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
	EXPECT(pt(PTRACE_ATTACH, 999999, 0, 0), ESRCH);
}

TEST(memory)
{
	pid_t p = traced(ret7);
	long v = 0;
	EXPECT(pt(PTRACE_PEEKDATA, p, (long)&word, (long)&v), 0);
	SAME(v, word);
	EXPECT(pt(PTRACE_POKEDATA, p, (long)&word, 42), 0);
	EXPECT(pt(PTRACE_PEEKTEXT, p, (long)&word, (long)&v), 0);
	SAME(v, 42);
	EXPECT(pt(PTRACE_PEEKDATA, p, 8, (long)&v), EIO);
	EXPECT(pt(PTRACE_POKEDATA, p, 8, 1), EIO);
	/* text is read-only to the program, but not to its tracer */
	EXPECT(pt(PTRACE_PEEKTEXT, p, (long)ret7, (long)&v), 0);
	EXPECT(pt(PTRACE_POKETEXT, p, (long)ret7, (v & ~0xffL) | 0xcc), 0);
	SAME(*(u8 *)ret7 == 0xcc, 0);
	char name[64];
	snprintf(name, sizeof name, "/proc/%d/mem", p);
	int fd = open(name, O_RDWR);
	CHECK(fd >= 0);
	u8 byte = 0;
	SAME(pread(fd, &byte, 1, (off_t)(uintptr_t)ret7), 1);
	SAME(byte, 0xcc);
	SAME(pwrite(fd, &v, 8, (off_t)(uintptr_t)ret7), 8);
	close(fd);
	struct iovec l = {&v, 8}, r = {(void *)&word, 8};
	SAME(process_vm_readv(p, &l, 1, &r, 1, 0), 8);
	SAME(v, 42);
	SAME(next(p, PTRACE_CONT, 0), EXITED(7));
}

TEST(registers)
{
	pid_t p = traced(ret7);
	struct user_regs_struct r, q;
	memset(&r, 0, sizeof r);
	EXPECT(pt(PTRACE_GETREGS, p, 0, (long)&r), 0);
	SAME(r.cs, 0x33);
	SAME(r.ss, 0x2b);
	SAME(r.rax, 0); /* tgkill has succeeded */
	SAME(r.orig_rax, SYS_tgkill);
	struct iovec v = {&q, sizeof q + 100};
	EXPECT(pt(PTRACE_GETREGSET, p, NT_PRSTATUS, (long)&v), EINVAL); /* no multiple of 8 */
	v.iov_len = sizeof q + 8;
	EXPECT(pt(PTRACE_GETREGSET, p, NT_PRSTATUS, (long)&v), 0);
	SAME(v.iov_len, sizeof q);
	CHECK(memcmp(&r, &q, sizeof r) == 0);
	v.iov_len = sizeof q;
	EXPECT(pt(PTRACE_SETREGSET, p, NT_PRSTATUS, (long)&v), 0);
	EXPECT(pt(PTRACE_GETREGSET, p, 0x999, (long)&v), EINVAL);
	long x = 0;
	EXPECT(pt(PTRACE_PEEKUSR, p, offsetof(struct user, regs.rip), (long)&x), 0);
	SAME(x, r.rip);
	EXPECT(pt(PTRACE_PEEKUSR, p, offsetof(struct user, regs.rip) + 1, (long)&x), EIO);
	EXPECT(pt(PTRACE_POKEUSR, p, offsetof(struct user, regs.rbx), 1234), 0);
	EXPECT(pt(PTRACE_PEEKUSR, p, offsetof(struct user, regs.rbx), (long)&x), 0);
	SAME(x, 1234);
	EXPECT(pt(PTRACE_POKEUSR, p, offsetof(struct user, regs.rbx), r.rbx), 0);
	q = r;
	q.fs_base = 1ul << 63;
	EXPECT(pt(PTRACE_SETREGS, p, 0, (long)&q), EIO);
	EXPECT(pt(PTRACE_SETREGS, p, 0, (long)&r), 0);
	struct user_fpregs_struct f, g;
	EXPECT(pt(PTRACE_GETFPREGS, p, 0, (long)&f), 0);
	f.xmm_space[60] = 0xabcdef;
	EXPECT(pt(PTRACE_SETFPREGS, p, 0, (long)&f), 0);
	EXPECT(pt(PTRACE_GETFPREGS, p, 0, (long)&g), 0);
	SAME(g.xmm_space[60], 0xabcdef);
	static u8 big[8192];
	v = (struct iovec){big, sizeof big};
	EXPECT(pt(PTRACE_GETREGSET, p, NT_X86_XSTATE, (long)&v), 0);
	CHECK(v.iov_len >= 576 && v.iov_len < sizeof big);
	SAME(*(u32 *)(big + 160 + 240), 0xabcdef);
	CHECK((*(u64 *)(big + 464) & 3) == 3); /* XCR0 */
	EXPECT(pt(PTRACE_SETREGSET, p, NT_X86_XSTATE, (long)&v), 0);
	SAME(next(p, PTRACE_CONT, 0), EXITED(7));
}

TEST(syscalls)
{
	pid_t p = traced(getppids);
	struct user_regs_struct r;
	struct ptrace_syscall_info i;
	EXPECT(pt(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACESYSGOOD), 0);
	SAME(pt(PTRACE_GET_SYSCALL_INFO, p, sizeof i, (long)&i), 24);
	SAME(i.op, PTRACE_SYSCALL_INFO_NONE);
	SAME(next(p, PTRACE_SYSCALL, 0), STOPPED(SIGTRAP | 0x80));
	for (int n = 0; n < 20; n++) { /* what the C library does first */
		EXPECT(pt(PTRACE_GETREGS, p, 0, (long)&r), 0);
		if (r.orig_rax == SYS_getpriority)
			break;
		next(p, PTRACE_SYSCALL, 0);
		SAME(next(p, PTRACE_SYSCALL, 0), STOPPED(SIGTRAP | 0x80));
	}
	SAME(r.orig_rax, SYS_getpriority);
	SAME(r.rax, -ENOSYS);
	SAME(r.rdi, 1);
	SAME(r.r9, 6);
	memset(&i, 0, sizeof i);
	SAME(pt(PTRACE_GET_SYSCALL_INFO, p, sizeof i, (long)&i), 80);
	SAME(i.op, PTRACE_SYSCALL_INFO_ENTRY);
	SAME(i.entry.nr, SYS_getpriority);
	SAME(i.entry.args[3], 4);
	SAME(i.instruction_pointer, r.rip);
	siginfo_t s;
	EXPECT(pt(PTRACE_GETSIGINFO, p, 0, (long)&s), 0);
	SAME(s.si_signo, SIGTRAP);
	SAME(s.si_code, SIGTRAP | 0x80);
	/* no call at all, and a result of ours */
	r.orig_rax = -1;
	EXPECT(pt(PTRACE_SETREGS, p, 0, (long)&r), 0);
	SAME(next(p, PTRACE_SYSCALL, 0), STOPPED(SIGTRAP | 0x80));
	SAME(pt(PTRACE_GET_SYSCALL_INFO, p, sizeof i, (long)&i), 33);
	SAME(i.op, PTRACE_SYSCALL_INFO_EXIT);
	SAME(i.exit.rval, -ENOSYS);
	SAME(i.exit.is_error, 1);
	EXPECT(pt(PTRACE_GETREGS, p, 0, (long)&r), 0);
	r.rax = 99;
	EXPECT(pt(PTRACE_SETREGS, p, 0, (long)&r), 0);
	SAME(next(p, PTRACE_CONT, 0), EXITED(1));
}

TEST(emulation)
{
	pid_t p = traced(getppids);
	struct user_regs_struct r;
	for (int n = 0; n < 20; n++) {
		SAME(next(p, PTRACE_SYSEMU, 0), STOPPED(SIGTRAP));
		EXPECT(pt(PTRACE_GETREGS, p, 0, (long)&r), 0);
		if (r.orig_rax == SYS_getpriority)
			break;
		r.rax = 0;
		EXPECT(pt(PTRACE_SETREGS, p, 0, (long)&r), 0);
	}
	SAME(next(p, PTRACE_CONT, 0), EXITED(2));
}

__attribute__((noinline)) static int steps(void)
{
	int r;
	__asm__ volatile("int3; nop; nop; mov $39, %%eax; syscall; nop; nop; int3; mov $5, %0" : "=&r"(r) : : "rax", "rcx", "r11");
	return r;
}

TEST(steps)
{
	pid_t p = traced(steps);
	struct user_regs_struct r;
	siginfo_t s;
	SAME(next(p, PTRACE_CONT, 0), STOPPED(SIGTRAP)); /* int3 */
	EXPECT(pt(PTRACE_GETSIGINFO, p, 0, (long)&s), 0);
	SAME(s.si_code, SI_KERNEL);
	EXPECT(pt(PTRACE_GETREGS, p, 0, (long)&r), 0);
	SAME(r.orig_rax, -1);
	u64 ip = r.rip;
	const int want[] = {1, 2, 7, 9, 10, 11}; /* behind each instruction */
	for (unsigned n = 0; n < sizeof want / sizeof *want; n++) {
		SAME(next(p, PTRACE_SINGLESTEP, 0), STOPPED(SIGTRAP));
		EXPECT(pt(PTRACE_GETREGS, p, 0, (long)&r), 0);
		SAME(r.rip - ip, want[n]);
		SAME(r.eflags & 0x100, 0);
		if (n == 3)
			SAME(r.rax, p);
		else if (n < 3) {
			EXPECT(pt(PTRACE_GETSIGINFO, p, 0, (long)&s), 0);
			SAME(s.si_code, TRAP_TRACE);
			SAME((u64)s.si_addr, r.rip);
		}
	}
	SAME(next(p, PTRACE_CONT, 0), STOPPED(SIGTRAP)); /* the second int3 */
	SAME(next(p, PTRACE_CONT, 0), EXITED(5));
}

static volatile int caught;
static void on(int sig) { caught = sig; }
static int signals(void)
{
	signal(SIGUSR1, on);
	signal(SIGUSR2, on);
	raise(SIGUSR1);
	int a = caught;
	caught = 0;
	raise(SIGCHLD); /* ignored by default, but the tracer sees it */
	raise(SIGUSR1);
	return a == SIGUSR2 && caught == 0 ? 3 : 4;
}

TEST(signals)
{
	pid_t p = traced(signals);
	siginfo_t s;
	SAME(next(p, PTRACE_CONT, 0), STOPPED(SIGUSR1));
	EXPECT(pt(PTRACE_GETSIGINFO, p, 0, (long)&s), 0);
	SAME(s.si_signo, SIGUSR1);
	SAME(s.si_code, SI_TKILL);
	SAME(s.si_pid, p);
	u64 m = 0;
	EXPECT(pt(PTRACE_GETSIGMASK, p, 8, (long)&m), 0);
	EXPECT(pt(PTRACE_GETSIGMASK, p, 4, (long)&m), EINVAL);
	SAME(next(p, PTRACE_CONT, SIGUSR2), STOPPED(SIGCHLD)); /* another one instead */
	SAME(next(p, PTRACE_CONT, SIGCHLD), STOPPED(SIGUSR1));
	EXPECT(pt(PTRACE_CONT, p, 0, 65), EIO);
	SAME(next(p, PTRACE_CONT, 0), EXITED(3)); /* taken away */
	p = traced(signals);
	SAME(next(p, PTRACE_CONT, SIGKILL), SIGKILL);
	p = traced(signals);
	SAME(next(p, PTRACE_CONT, 0), STOPPED(SIGUSR1));
	kill(p, SIGKILL);
	int st;
	SAME(waitpid(p, &st, 0), p);
	SAME(st, SIGKILL);
}

static int forks(void)
{
	pid_t p = fork();
	if (p == 0)
		_exit(11);
	int s;
	waitpid(p, &s, 0);
	p = vfork();
	if (p == 0)
		_exit(12);
	waitpid(p, &s, 0);
	return s >> 8;
}

TEST(fork_events)
{
	pid_t p = traced(forks);
	EXPECT(pt(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT), 0);
	EXPECT(pt(PTRACE_SETOPTIONS, p, 0, 1 << 15), EINVAL);
	SAME(next(p, PTRACE_CONT, 0), EVENT(PTRACE_EVENT_FORK));
	long c = 0, v = 0;
	int s;
	EXPECT(pt(PTRACE_GETEVENTMSG, p, 0, (long)&c), 0);
	SAME(waitpid(c, &s, __WALL), c);
	SAME(s, STOPPED(SIGSTOP));
	SAME(next(c, PTRACE_CONT, 0), EVENT(PTRACE_EVENT_EXIT));
	EXPECT(pt(PTRACE_GETEVENTMSG, c, 0, (long)&v), 0);
	SAME(v, EXITED(11));
	SAME(next(c, PTRACE_CONT, 0), EXITED(11));
	s = next(p, PTRACE_CONT, 0);
	if (s == STOPPED(SIGCHLD))
		s = next(p, PTRACE_CONT, SIGCHLD);
	SAME(s, EVENT(PTRACE_EVENT_VFORK));
	EXPECT(pt(PTRACE_GETEVENTMSG, p, 0, (long)&c), 0);
	SAME(waitpid(c, &s, __WALL), c);
	SAME(s, STOPPED(SIGSTOP));
	EXPECT(pt(PTRACE_DETACH, c, 0, 0), 0);
	s = next(p, PTRACE_CONT, 0);
	if (s == STOPPED(SIGCHLD))
		s = next(p, PTRACE_CONT, SIGCHLD);
	SAME(s, EVENT(PTRACE_EVENT_VFORK_DONE));
	s = next(p, PTRACE_CONT, 0);
	if (s == STOPPED(SIGCHLD))
		s = next(p, PTRACE_CONT, SIGCHLD);
	SAME(s, EVENT(PTRACE_EVENT_EXIT));
	SAME(next(p, PTRACE_CONT, 0), EXITED(12));
}

static int execs(void)
{
	execl("/proc/self/exe", "ptrace", "exec-child", (char *)0);
	return 91;
}

TEST(exec_event)
{
	pid_t p = traced(execs);
	SAME(next(p, PTRACE_CONT, 0), STOPPED(SIGTRAP)); /* the old way: a signal */
	SAME(next(p, PTRACE_CONT, 0), EXITED(23));
	p = traced(execs);
	EXPECT(pt(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACEEXEC), 0);
	SAME(next(p, PTRACE_CONT, 0), EVENT(PTRACE_EVENT_EXEC));
	long v = 0;
	EXPECT(pt(PTRACE_GETEVENTMSG, p, 0, (long)&v), 0);
	SAME(v, p);
	SAME(next(p, PTRACE_CONT, 0), EXITED(23));
}

static int pfd[2];
static void *thread(void *a)
{
	char c;
	if (read(pfd[0], &c, 1) != 1)
		_exit(92);
	return a;
}

static pid_t threads(int n)
{
	if (pipe(pfd))
		return -1;
	pid_t p = fork();
	if (p)
		return p;
	pthread_t t[8];
	for (int i = 0; i < n; i++)
		pthread_create(&t[i], 0, thread, 0);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], 0);
	_exit(31);
}

TEST(seize_interrupt)
{
	pid_t p = threads(0); /* exits at once, unless stopped */
	int s;
	SAME(waitpid(p, &s, 0), p);
	pid_t q = fork();
	if (q == 0)
		for (;;)
			pause();
	EXPECT(pt(PTRACE_SEIZE, q, 0, PTRACE_O_TRACESYSGOOD), 0);
	EXPECT(pt(PTRACE_SEIZE, q, 0, 0), EPERM);
	EXPECT(pt(PTRACE_GETREGS, q, 0, (long)&s), ESRCH); /* it runs */
	sleep_ms(20);
	EXPECT(pt(PTRACE_INTERRUPT, q, 0, 0), 0);
	SAME(waitpid(q, &s, 0), q);
	SAME(s, (SIGTRAP | PTRACE_EVENT_STOP << 8) << 8 | 0x7f);
	siginfo_t i;
	EXPECT(pt(PTRACE_GETSIGINFO, q, 0, (long)&i), 0);
	SAME(i.si_code, SIGTRAP | PTRACE_EVENT_STOP << 8);
	/* group stop, listening, and its end */
	EXPECT(pt(PTRACE_CONT, q, 0, 0), 0);
	kill(q, SIGSTOP);
	SAME(waitpid(q, &s, 0), q);
	SAME(s, STOPPED(SIGSTOP));
	SAME(next(q, PTRACE_CONT, SIGSTOP), (SIGSTOP | PTRACE_EVENT_STOP << 8) << 8 | 0x7f);
	EXPECT(pt(PTRACE_LISTEN, q, 0, 0), 0);
	EXPECT(pt(PTRACE_GETSIGINFO, q, 0, (long)&i), ESRCH);
	kill(q, SIGCONT);
	SAME(waitpid(q, &s, 0), q);
	SAME(s, (SIGTRAP | PTRACE_EVENT_STOP << 8) << 8 | 0x7f);
	SAME(next(q, PTRACE_CONT, 0), STOPPED(SIGCONT));
	EXPECT(pt(PTRACE_DETACH, q, 0, SIGTERM), 0);
	SAME(waitpid(q, &s, 0), q);
	SAME(s, SIGTERM);
}

TEST(attach)
{
	pid_t p = fork();
	if (p == 0)
		for (;;)
			pause();
	int s;
	EXPECT(pt(PTRACE_ATTACH, p, 0, 0), 0);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, STOPPED(SIGSTOP));
	char name[64], b[4096];
	snprintf(name, sizeof name, "/proc/%d/status", p);
	int fd = open(name, O_RDONLY);
	ssize_t n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n > 0 ? n : 0] = 0;
	CHECK(strstr(b, "State:\tt (tracing stop)"));
	char want[64];
	snprintf(want, sizeof want, "TracerPid:\t%d\n", getpid());
	CHECK(strstr(b, want));
	/* not seized */
	EXPECT(pt(PTRACE_INTERRUPT, p, 0, 0), EIO);
	EXPECT(pt(PTRACE_LISTEN, p, 0, 0), EIO);
	/* a group stop has no siginfo */
	EXPECT(pt(PTRACE_CONT, p, 0, SIGSTOP), 0);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, STOPPED(SIGSTOP));
	siginfo_t i;
	EXPECT(pt(PTRACE_GETSIGINFO, p, 0, (long)&i), EINVAL);
	EXPECT(pt(PTRACE_DETACH, p, 0, 0), 0);
	/* now it is stopped as by anybody */
	SAME(waitpid(p, &s, WUNTRACED), p);
	SAME(s, STOPPED(SIGSTOP));
	kill(p, SIGCONT);
	SAME(waitpid(p, &s, WCONTINUED), p);
	SAME(s, 0xffff);
	kill(p, SIGKILL);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, SIGKILL);
}

TEST(threads)
{
	pid_t p = threads(2);
	int s, ended = 0, seen = 0;
	char name[64];
	snprintf(name, sizeof name, "/proc/%d/task", p);
	for (int i = 0; i < 2000; i++) { /* until both are there */
		int n = 0;
		DIR *d = opendir(name);
		while (d && readdir(d))
			n++;
		closedir(d);
		if (n == 3 + 2) /* with . and .. */
			break;
		sleep_ms(5);
	}
	EXPECT(pt(PTRACE_SEIZE, p, 0, PTRACE_O_TRACECLONE), 0);
	for (int i = 1; i < 40 && seen < 2; i++) {
		snprintf(name, sizeof name, "/proc/%d/task/%d", p, p + i);
		if (access(name, F_OK) == 0 && pt(PTRACE_SEIZE, p + i, 0, 0) == 0)
			seen++;
	}
	SAME(seen, 2);
	if (write(pfd[1], "xy", 2) != 2)
		FAIL("write");
	for (;;) {
		pid_t w = waitpid(-1, &s, __WALL);
		if (w < 0)
			break;
		if (w == p) {
			SAME(ended, 2);
			SAME(s, EXITED(31));
			continue;
		}
		CHECK(s == 0 || s == EXITED(31)); /* the process may end before the thread has quite */
		ended++;
	}
	SAME(errno, ECHILD);
	SAME(ended, 2);
}

/* The end of the tracer lets the tracee go, or kills it. */
static void orphan(long options)
{
	int fds[2], s;
	NEED(pipe(fds) == 0);
	pid_t p = fork();
	if (p == 0) {
		close(fds[1]);
		char c;
		_exit(read(fds[0], &c, 1) == 1 ? 41 : 42);
	}
	pid_t t = fork();
	if (t == 0) {
		if (pt(PTRACE_SEIZE, p, 0, options) != 0)
			_exit(1);
		pt(PTRACE_INTERRUPT, p, 0, 0);
		waitpid(p, &s, 0);
		_exit(0);
	}
	SAME(waitpid(t, &s, 0), t);
	SAME(s, 0);
	if (write(fds[1], "x", 1) != 1)
		FAIL("write");
	SAME(waitpid(p, &s, 0), p);
	SAME(s, options ? SIGKILL : EXITED(41));
	close(fds[0]);
	close(fds[1]);
}

TEST(tracer_ends)
{
	orphan(0);
	orphan(PTRACE_O_EXITKILL);
}

/* A process that somebody else traces is reaped by the tracer first, then by its parent. */
TEST(foreign_zombie)
{
	int fds[2], s;
	NEED(pipe(fds) == 0);
	pid_t p = fork();
	if (p == 0) {
		char c;
		_exit(read(fds[0], &c, 1) == 1 ? 51 : 52);
	}
	pid_t t = fork();
	if (t == 0) {
		if (pt(PTRACE_SEIZE, p, 0, 0) != 0 || write(fds[1], "x", 1) != 1)
			_exit(1);
		sleep_ms(30);
		if (waitpid(p, &s, 0) != p || s != EXITED(51))
			_exit(2);
		_exit(waitpid(p, &s, 0) == -1 && errno == ECHILD ? 0 : 3);
	}
	SAME(waitpid(t, &s, 0), t);
	SAME(s, 0);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, EXITED(51));
	close(fds[0]);
	close(fds[1]);
}

TEST(pending)
{
	pid_t p = traced(ret7);
	union sigval v = {.sival_int = 5};
	u64 m = 1ull << (SIGUSR1 - 1);
	EXPECT(pt(PTRACE_SETSIGMASK, p, 8, (long)&m), 0);
	EXPECT(sigqueue(p, SIGUSR1, v), 0);
	siginfo_t s[4];
	struct { u64 off; u32 flags; int nr; } a = {0, 1, 4};
	SAME(pt(PTRACE_PEEKSIGINFO, p, (long)&a, (long)s), 1);
	SAME(s[0].si_signo, SIGUSR1);
	SAME(s[0].si_value.sival_int, 5);
	a.flags = 0;
	SAME(pt(PTRACE_PEEKSIGINFO, p, (long)&a, (long)s), 0);
	SAME(next(p, PTRACE_CONT, 0), EXITED(7));
}

__attribute__((constructor(101))) static void child(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "exec-child"))
		_exit(23);
}

static volatile long watched;
static int touches(void)
{
	watched = 1;
	long x = watched;
	watched = 2;
	char b[8] = "ab";
	int fds[2];
	if (pipe(fds) || write(fds[1], b, 8) != 8 || read(fds[0], (void *)&watched, 8) != 8) /* the kernel's own touch */
		return 1;
	watched = x;
	return 8;
}

#define DR(n) offsetof(struct user, u_debugreg[n])
TEST(watchpoints)
{
	pid_t p = traced(touches);
	long v = 0;
	siginfo_t s;
	EXPECT(pt(PTRACE_POKEUSR, p, DR(0), -4096L), EINVAL);
	EXPECT(pt(PTRACE_POKEUSR, p, DR(4), 1), EIO);
	EXPECT(pt(PTRACE_POKEUSR, p, DR(0), (long)&watched), 0);
	EXPECT(pt(PTRACE_POKEUSR, p, DR(7), 1 | 2 << 16), EINVAL); /* ports */
	EXPECT(pt(PTRACE_POKEUSR, p, DR(7), 1 | 0x9 << 16), 0);    /* writes, 8 bytes */
	EXPECT(pt(PTRACE_PEEKUSR, p, DR(0), (long)&v), 0);
	SAME(v, (long)&watched);
	for (int n = 0; n < 2; n++) {
		SAME(next(p, PTRACE_CONT, 0), STOPPED(SIGTRAP));
		EXPECT(pt(PTRACE_GETSIGINFO, p, 0, (long)&s), 0);
		SAME(s.si_code, TRAP_HWBKPT);
		EXPECT(pt(PTRACE_PEEKUSR, p, DR(6), (long)&v), 0);
		SAME(v & 0xf, 1);
		EXPECT(pt(PTRACE_POKEUSR, p, DR(6), 0), 0);
		EXPECT(pt(PTRACE_PEEKDATA, p, (long)&watched, (long)&v), 0);
		SAME(v, n + 1);
	}
	EXPECT(pt(PTRACE_POKEUSR, p, DR(7), 0), 0);
	SAME(next(p, PTRACE_CONT, 0), EXITED(8));
	/* a breakpoint on an instruction */
	p = traced(ret7);
	EXPECT(pt(PTRACE_POKEUSR, p, DR(1), (long)ret7), 0);
	EXPECT(pt(PTRACE_POKEUSR, p, DR(7), 4), 0);
	SAME(next(p, PTRACE_CONT, 0), STOPPED(SIGTRAP));
	EXPECT(pt(PTRACE_PEEKUSR, p, offsetof(struct user, regs.rip), (long)&v), 0);
	SAME(v, (long)ret7);
	SAME(next(p, PTRACE_CONT, 0), EXITED(7));
}
