/* seccomp.c - seccomp(2): strict mode and filters. */
#include "check.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RET(v) BPF_STMT(BPF_RET | BPF_K, v)
#define ON(call, v) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), RET(v)
#define PROG(...) struct sock_filter code[] = {__VA_ARGS__}; struct sock_fprog prog = {sizeof code / sizeof *code, code}

static long seccomp(unsigned op, unsigned flags, void *a) { return syscall(SYS_seccomp, op, flags, a); }

/* The filter: call gets action, all else is allowed. */
static int filter(long call, u32 action, unsigned flags)
{
	PROG(LOAD(nr), ON(call, action), RET(SECCOMP_RET_ALLOW));
	return seccomp(SECCOMP_SET_MODE_FILTER, flags, &prog);
}

static int nnp(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

/* What becomes of a child that runs f. */
static int child(void (*f)(void))
{
	pid_t p = fork();
	int s;
	if (p == 0) {
		f();
		_exit(0);
	}
	return waitpid(p, &s, 0) == p ? s : -1;
}

#define EXITED(n) ((n) << 8)

static void bad_args(void)
{
	PROG(RET(SECCOMP_RET_ALLOW));
	EXPECT(seccomp(99, 0, 0), EINVAL);
	EXPECT(seccomp(SECCOMP_SET_MODE_STRICT, 1, 0), EINVAL);
	EXPECT(seccomp(SECCOMP_SET_MODE_FILTER, 0, (void *)8), EFAULT);
	EXPECT(seccomp(SECCOMP_SET_MODE_FILTER, 1 << 20, &prog), EINVAL);
	EXPECT(prctl(PR_SET_SECCOMP, 7, &prog), EINVAL);
	EXPECT(prctl(PR_GET_SECCOMP), 0);
	u32 a = SECCOMP_RET_LOG;
	EXPECT(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &a), 0);
	a = 0x12340000;
	EXPECT(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &a), EOPNOTSUPP);
	prog.len = 0;
	EXPECT(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog), EINVAL);
	struct sock_filter odd[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 3), RET(0)}, none[] = {LOAD(nr)};
	prog = (struct sock_fprog){2, odd};
	EXPECT(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog), EINVAL);
	prog = (struct sock_fprog){1, none};
	EXPECT(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog), EINVAL);
	prog = (struct sock_fprog){1, code};
	EXPECT(setresuid(1000, 1000, 1000), 0);
	EXPECT(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog), EACCES);
	EXPECT(nnp(), 0);
	EXPECT(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog), 0);
	EXPECT(prctl(PR_GET_SECCOMP), 0 * 2);
	SAME(prctl(PR_GET_SECCOMP), 2);
	EXPECT(seccomp(SECCOMP_SET_MODE_STRICT, 0, 0), EINVAL);
	char b[4096] = "", *s;
	int fd = open("/proc/self/status", O_RDONLY);
	if (read(fd, b, sizeof b - 1) <= 0 || !(s = strstr(b, "Seccomp:\t")))
		FAIL("no status");
	else
		SAME(s[9], '2');
	_exit(check_failures ? 1 : 0);
}

TEST(arguments) { SAME(child(bad_args), 0); }

static void strict_ok(void)
{
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	syscall(SYS_exit, 5);
}
static void strict_bad(void)
{
	seccomp(SECCOMP_SET_MODE_STRICT, 0, 0);
	syscall(SYS_getpid);
	syscall(SYS_exit, 5);
}

TEST(strict)
{
	SAME(child(strict_ok), EXITED(5));
	SAME(child(strict_bad), SIGKILL);
}

static void errnos(void)
{
	nnp();
	EXPECT(filter(SYS_getppid, SECCOMP_RET_ERRNO | 77, 0), 0);
	EXPECT(syscall(SYS_getppid), 77);
	EXPECT(filter(SYS_getppid, SECCOMP_RET_ERRNO | 78, 0), 0); /* the newest counts */
	EXPECT(syscall(SYS_getppid), 78);
	EXPECT(filter(SYS_getppid, SECCOMP_RET_LOG, SECCOMP_FILTER_FLAG_LOG), 0);
	EXPECT(syscall(SYS_getppid), 78);
	EXPECT(filter(SYS_getpgid, SECCOMP_RET_ERRNO | 0xffff, 0), 0);
	SAME(syscall(SYS_getpgid, 0), -1);
	SAME(errno, 4095);
	EXPECT(filter(SYS_getsid, SECCOMP_RET_ERRNO | 0, 0), 0);
	SAME(syscall(SYS_getsid, 0), 0);
	EXPECT(filter(SYS_gettid, SECCOMP_RET_TRACE | 5, 0), 0);
	EXPECT(syscall(SYS_gettid), ENOSYS); /* no tracer */
	/* a child and a program that it starts inherit */
	pid_t p = fork();
	if (p == 0) {
		EXPECT(syscall(SYS_getppid), 78);
		_exit(check_failures);
	}
	int s;
	waitpid(p, &s, 0);
	SAME(s, 0);
	/* the arguments count: an argument that the filter looks at */
	PROG(LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 1, 0), RET(SECCOMP_RET_ALLOW), LOAD(args[0]),
	     BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 1000, 0, 1), RET(SECCOMP_RET_ERRNO | 33), LOAD(arch),
	     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0), RET(SECCOMP_RET_ERRNO | 34), RET(SECCOMP_RET_ALLOW));
	EXPECT(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog), 0);
	EXPECT(dup(1000), 33);
	EXPECT(dup(999), EBADF);
	_exit(check_failures ? 1 : 0);
}

TEST(errnos) { SAME(child(errnos), 0); }

static void kill_process(void)
{
	nnp();
	filter(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0);
	syscall(SYS_getppid);
}
static void kill_thread_alone(void)
{
	nnp();
	filter(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
	syscall(SYS_getppid);
}
static void *victim(void *p)
{
	filter(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
	syscall(SYS_getppid);
	_exit(9);
	return p;
}
static void kill_thread(void)
{
	pthread_t t;
	nnp();
	pthread_create(&t, 0, victim, 0);
	sleep_ms(50);
	pthread_join(t, 0); /* its word is cleared */
	_exit(6);
}

TEST(kills)
{
	SAME(child(kill_process), SIGSYS);
	SAME(child(kill_thread_alone), SIGSYS);
	SAME(child(kill_thread), EXITED(6));
}

static siginfo_t seen;
static volatile long result;
static void onsys(int sig, siginfo_t *i, void *u)
{
	(void)sig;
	seen = *i;
	result = ((ucontext_t *)u)->uc_mcontext.gregs[REG_RAX];
	((ucontext_t *)u)->uc_mcontext.gregs[REG_RAX] = 4711;
}
static void traps(void)
{
	struct sigaction a = {.sa_sigaction = onsys, .sa_flags = SA_SIGINFO};
	sigaction(SIGSYS, &a, 0);
	nnp();
	filter(SYS_getppid, SECCOMP_RET_TRAP | 99, 0);
	SAME(syscall(SYS_getppid), 4711);
	SAME(result, SYS_getppid);
	SAME(seen.si_signo, SIGSYS);
	SAME(seen.si_code, 1);
	SAME(seen.si_errno, 99);
	SAME(seen.si_syscall, SYS_getppid);
	SAME(seen.si_arch, AUDIT_ARCH_X86_64);
	CHECK(seen.si_call_addr != 0);
	signal(SIGSYS, SIG_IGN);
	if (check_failures)
		_exit(1);
	syscall(SYS_getppid); /* cannot be ignored */
}

TEST(traps) { SAME(child(traps), SIGSYS); }

static volatile int go, ready;
static void *waits(void *p)
{
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	while (!go)
		sched_yield();
	errno = 0;
	return (void *)(long)(syscall(SYS_getppid) == -1 && errno == 44 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	(void)p;
}
static void *own(void *p)
{
	filter(SYS_getpgid, SECCOMP_RET_ALLOW, 0);
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	while (!go)
		sched_yield();
	return p;
}
static void tsync(void)
{
	pthread_t t[3];
	void *r;
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], 0, waits, 0);
	while (ready < 3)
		sched_yield();
	nnp();
	EXPECT(filter(SYS_getppid, SECCOMP_RET_ERRNO | 44, SECCOMP_FILTER_FLAG_TSYNC), 0);
	go = 1;
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], &r);
		SAME((long)r, 1);
	}
	go = ready = 0;
	pthread_create(&t[0], 0, own, 0);
	while (ready < 1)
		sched_yield();
	CHECK(filter(SYS_getppid, SECCOMP_RET_ERRNO | 45, SECCOMP_FILTER_FLAG_TSYNC) > 0);
	EXPECT(filter(SYS_getppid, SECCOMP_RET_ERRNO | 45, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH), ESRCH);
	go = 1;
	pthread_join(t[0], &r);
	EXPECT(syscall(SYS_getppid), 44);
	_exit(check_failures ? 1 : 0);
}

TEST(tsync) { SAME(child(tsync), 0); }

TEST(trace)
{
	long was = syscall(SYS_getpriority, 0, 0);
	pid_t p = fork();
	int s;
	if (p == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		filter(SYS_getpriority, SECCOMP_RET_TRACE | 21, 0);
		long a = syscall(SYS_getpriority, 0, 0), b = syscall(SYS_getpriority, 0, 0);
		_exit(a == 17 && b == was);
	}
	SAME(waitpid(p, &s, 0), p);
	EXPECT(ptrace(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACESECCOMP), 0);
	EXPECT(ptrace(PTRACE_CONT, p, 0, 0), 0);
	SAME(waitpid(p, &s, 0), p);
	SAME(s >> 8, SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
	unsigned long m = 0;
	EXPECT(ptrace(PTRACE_GETEVENTMSG, p, 0, &m), 0);
	SAME(m, 21);
	struct user_regs_struct r;
	EXPECT(ptrace(PTRACE_GETREGS, p, 0, &r), 0);
	SAME(r.orig_rax, SYS_getpriority);
	r.orig_rax = -1;
	r.rax = 17;
	EXPECT(ptrace(PTRACE_SETREGS, p, 0, &r), 0);
	EXPECT(ptrace(PTRACE_CONT, p, 0, 0), 0);
	SAME(waitpid(p, &s, 0), p);
	SAME(s >> 8, SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
	EXPECT(ptrace(PTRACE_CONT, p, 0, 0), 0); /* made as it is */
	SAME(waitpid(p, &s, 0), p);
	SAME(s, EXITED(1));
}

/* What a filter is can be asked for by ptrace(2), with CAP_SYS_ADMIN; index 0 is the oldest. */
static long tracef(int request, pid_t p, unsigned long n, void *data) { return syscall(SYS_ptrace, request, p, n, data); }

TEST(trace_filters)
{
	struct sock_filter got[16] = {{0}};
	struct { u64 off, flags; } meta = {0, 99};
	int s, go[2];
	EXPECT(pipe(go), 0);
	pid_t p = fork();
	if (p == 0) {
		char c;
		filter(SYS_getsid, SECCOMP_RET_ERRNO | 33, SECCOMP_FILTER_FLAG_LOG);
		filter(SYS_getpgid, SECCOMP_RET_ERRNO | 34, 0);
		PROG(RET(SECCOMP_RET_ALLOW));
		seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(read(go[0], &c, 1) != 1 || syscall(SYS_getsid, 0) == -1);
	}
	SAME(waitpid(p, &s, 0), p);
	SAME(tracef(PTRACE_SECCOMP_GET_FILTER, p, 0, 0), 4);
	SAME(tracef(PTRACE_SECCOMP_GET_FILTER, p, 0, got), 4);
	SAME(got[0].code, BPF_LD | BPF_W | BPF_ABS);
	SAME(got[1].code, BPF_JMP | BPF_JEQ | BPF_K);
	SAME(got[1].k, SYS_getsid);
	SAME(got[1].jf, 1);
	SAME(got[2].k, SECCOMP_RET_ERRNO | 33);
	SAME(tracef(PTRACE_SECCOMP_GET_FILTER, p, 2, got), 1);
	SAME(got[0].k, SECCOMP_RET_ALLOW);
	EXPECT(tracef(PTRACE_SECCOMP_GET_FILTER, p, 3, 0), ENOENT);
	EXPECT(tracef(PTRACE_SECCOMP_GET_FILTER, p, 0, (void *)8), EFAULT);
	EXPECT(tracef(PTRACE_SECCOMP_GET_FILTER, getpid(), 0, 0), ESRCH);
	SAME(tracef(PTRACE_SECCOMP_GET_METADATA, p, sizeof meta, &meta), 16);
	SAME(meta.flags, SECCOMP_FILTER_FLAG_LOG);
	meta.off = 1;
	SAME(tracef(PTRACE_SECCOMP_GET_METADATA, p, 100, &meta), 16);
	SAME(meta.flags, 0);
	meta.off = 3;
	EXPECT(tracef(PTRACE_SECCOMP_GET_METADATA, p, sizeof meta, &meta), ENOENT);
	EXPECT(tracef(PTRACE_SECCOMP_GET_METADATA, p, 4, &meta), EINVAL);
	/* and the filters can be kept from being asked */
	EXPECT(ptrace(PTRACE_SETOPTIONS, p, 0, PTRACE_O_SUSPEND_SECCOMP), 0);
	EXPECT(ptrace(PTRACE_CONT, p, 0, 0), 0);
	SAME(write(go[1], "x", 1), 1);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	close(go[0]), close(go[1]);
}

static void trace_none(void)
{
	int s;
	pid_t p = fork();
	if (p == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(p, &s, 0);
	EXPECT(tracef(PTRACE_SECCOMP_GET_FILTER, p, 0, 0), EINVAL);
	EXPECT(ptrace(PTRACE_SETOPTIONS, p, 0, 1 << 25), EINVAL);
	EXPECT(setresuid(1000, 1000, 1000), 0);
	EXPECT(tracef(PTRACE_SECCOMP_GET_FILTER, p, 0, 0), EACCES);
	EXPECT(ptrace(PTRACE_SETOPTIONS, p, 0, PTRACE_O_SUSPEND_SECCOMP), EPERM);
	_exit(check_failures ? 1 : 0);
}

TEST(trace_no_filters) { SAME(child(trace_none), 0); }

/* Listeners (seccomp_unotify(2)). */
static struct seccomp_notif asked;
static struct seccomp_notif_resp resp;

static int receive(int fd)
{
	memset(&asked, 0, sizeof asked);
	return ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &asked);
}

static int answer(int fd, long val, int error, unsigned flags)
{
	resp = (struct seccomp_notif_resp){.id = asked.id, .val = val, .error = error, .flags = flags};
	return ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

static void listeners(void)
{
	alarm(20); /* rather than wait for ever */
	struct seccomp_notif_sizes sizes = {0};
	struct seccomp_notif_addfd add = {0};
	int s, p[2], end[2];
	char c = 'y';
	EXPECT(seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes), 0);
	SAME(sizes.seccomp_notif, sizeof asked);
	SAME(sizes.seccomp_notif_resp, sizeof resp);
	SAME(sizes.seccomp_data, sizeof(struct seccomp_data));
	int l = filter(SYS_getppid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	CHECK(l > 0);
	SAME(fcntl(l, F_GETFD), FD_CLOEXEC);
	EXPECT(filter(SYS_getppid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER), EBUSY);
	EXPECT(pipe(p), 0);
	EXPECT(pipe(end), 0);
	struct pollfd pf = {.fd = l, .events = POLLIN | POLLOUT};
	SAME(poll(&pf, 1, 0), 0);
	pid_t parent = getpid(), child = fork();
	if (child == 0) {
		alarm(20);
		close(l);
		long a = syscall(SYS_getppid), b = syscall(SYS_getppid);
		int e = errno;
		long kept = syscall(SYS_getppid), fd = syscall(SYS_getppid), sent = syscall(SYS_getppid);
		if (a != 4711 || b != -1 || e != 77 || kept != parent || fd != 5)
			_exit(1);
		if (write(150, &c, 1) != 1 || fcntl(150, F_GETFD) != FD_CLOEXEC || write(sent, &c, 1) != 1)
			_exit(2);
		close(end[1]);
		_exit(read(end[0], &c, 1) != 1 || syscall(SYS_getppid) != -1 || errno != ENOSYS); /* nobody listens any more */
	}
	SAME(poll(&pf, 1, 10000), 1);
	SAME(pf.revents, POLLIN);
	EXPECT(receive(l), 0);
	SAME(asked.pid, child);
	SAME(asked.data.nr, SYS_getppid);
	SAME(asked.data.arch, AUDIT_ARCH_X86_64);
	SAME(poll(&pf, 1, 0), 1);
	SAME(pf.revents, POLLOUT);
	EXPECT(ioctl(l, SECCOMP_IOCTL_NOTIF_ID_VALID, &asked.id), 0);
	EXPECT(answer(l, 4711, 0, 0), 0);
	EXPECT(receive(l), 0);
	EXPECT(answer(l, 0, -77, 8), EINVAL);
	EXPECT(answer(l, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE), EINVAL);
	EXPECT(answer(l, 0, -77, 0), 0);
	EXPECT(receive(l), 0);
	EXPECT(answer(l, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE), 0);
	/* a descriptor for it, at a place of its own, then one that is the answer */
	EXPECT(receive(l), 0);
	add = (struct seccomp_notif_addfd){.id = asked.id, .srcfd = p[1], .newfd = 150, .newfd_flags = O_CLOEXEC};
	EXPECT(ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &add), EINVAL); /* without the flag */
	add.flags = SECCOMP_ADDFD_FLAG_SETFD;
	SAME(ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &add), 150);
	add.srcfd = 999;
	EXPECT(ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &add), EBADF);
	EXPECT(answer(l, 5, 0, 0), 0);
	EXPECT(ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &add), EBADF);
	EXPECT(receive(l), 0);
	add = (struct seccomp_notif_addfd){.id = asked.id, .srcfd = p[1], .flags = SECCOMP_ADDFD_FLAG_SEND};
	CHECK(ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &add) > 2);
	SAME(read(p[0], &c, 1), 1);
	SAME(read(p[0], &c, 1), 1);
	EXPECT(ioctl(l, 0x5401, &c), EINVAL);
	close(l);
	SAME(write(end[1], &c, 1), 1);
	SAME(waitpid(child, &s, 0), child);
	SAME(s, 0);
	_exit(check_failures ? 1 : 0);
}

TEST(listeners) { SAME(child(listeners), 0); }

/* A question that a signal interrupts is taken back; a listener whose tasks are all gone hangs up. */
static void nothing(int sig) { (void)sig; }
static void *ends(void *l)
{
	struct pollfd pf = {.fd = *(int *)l, .events = POLLIN};
	pid_t p = fork();
	if (p == 0) {
		struct sigaction a = {.sa_handler = nothing};
		alarm(20);
		sigaction(SIGUSR1, &a, 0);
		SAME(filter(SYS_getppid, SECCOMP_RET_ALLOW, 0), 0);
		EXPECT(syscall(SYS_getppid), EINTR);
		_exit(check_failures ? 1 : 0);
	}
	int s;
	SAME(poll(&pf, 1, 10000), 1);
	EXPECT(receive(pf.fd), 0);
	EXPECT(kill(p, SIGUSR1), 0);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	EXPECT(ioctl(pf.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &asked.id), ENOENT);
	EXPECT(answer(pf.fd, 0, 0, 0), ENOENT);
	return 0;
}
static void interrupted(void)
{
	alarm(20); /* rather than wait for ever */
	int l = filter(SYS_getppid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	ends(&l);
	_exit(check_failures ? 1 : 0);
}

TEST(listener_interrupted) { SAME(child(interrupted), 0); }

static void hangup(void)
{
	alarm(20); /* rather than wait for ever */
	int sp[2], l = -1, s;
	EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, sp), 0);
	pid_t p = fork();
	if (p == 0) { /* gives its listener away and ends */
		l = filter(SYS_getppid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
		struct iovec v = {"x", 1};
		union { char b[CMSG_SPACE(4)]; struct cmsghdr h; } u = {0};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
		u.h = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&u.h), &l, 4);
		_exit(sendmsg(sp[0], &m, 0) != 1);
	}
	char c;
	struct iovec v = {&c, 1};
	union { char b[CMSG_SPACE(4)]; struct cmsghdr h; } u = {0};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
	SAME(recvmsg(sp[1], &m, 0), 1);
	memcpy(&l, CMSG_DATA(&u.h), 4);
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	struct pollfd pf = {.fd = l, .events = POLLIN};
	SAME(poll(&pf, 1, 10000), 1);
	SAME(pf.revents, POLLHUP);
	_exit(check_failures ? 1 : 0);
}

TEST(listener_hangup) { SAME(child(hangup), 0); }
