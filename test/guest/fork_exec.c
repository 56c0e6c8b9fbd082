/* fork_exec.c - fork(2), vfork, clone, execve, wait, exit statuses, process groups, inheritance. */
#include "check.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;
static char self[PATH_MAX];

/* This program called again: "fork_exec child WHAT". */
__attribute__((constructor(101))) static void as_child(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n <= 0 && argc > 0)
		strncpy(self, argv[0], sizeof self - 1);
	if (argc < 3 || strcmp(argv[1], "child"))
		return;
	if (!strcmp(argv[2], "exit"))
		_exit(atoi(argv[3]));
	if (!strcmp(argv[2], "fd"))	/* is the descriptor open? */
		_exit(fcntl(atoi(argv[3]), F_GETFD) >= 0);
	if (!strcmp(argv[2], "sig")) {	/* disposition: 0 default, 1 ignored, 2 handled; +4 when blocked */
		struct sigaction sa;
		sigset_t s;
		int sig = atoi(argv[3]);
		sigaction(sig, 0, &sa);
		sigprocmask(0, 0, &s);
		_exit((sa.sa_handler == SIG_DFL ? 0 : sa.sa_handler == SIG_IGN ? 1 : 2) + 4 * sigismember(&s, sig));
	}
	if (!strcmp(argv[2], "env"))
		_exit(getenv("FROM_PARENT") && !strcmp(getenv("FROM_PARENT"), "yes") ? 7 : 8);
	if (!strcmp(argv[2], "args"))
		_exit(argc & 0x7f);
	_exit(99);
}

static int wait_for(pid_t p)
{
	int st = -1;
	if (waitpid(p, &st, 0) != p)
		return -1;
	return st;
}

static int run_child(const char *a, const char *b)
{
	char *av[] = {self, "child", (char *)a, (char *)b, 0};
	pid_t p = fork();
	if (p == 0) {
		execve(self, av, environ);
		_exit(98);
	}
	int st = wait_for(p);
	return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
}

TEST(exit_status)
{
	for (int n = 0; n < 256; n += 51) {
		pid_t p = fork();
		if (p == 0)
			_exit(n);
		int st = wait_for(p);
		CHECK(WIFEXITED(st));
		SAME(WEXITSTATUS(st), n);
	}
	pid_t p = fork();
	if (p == 0)
		for (;;)
			pause();
	kill(p, SIGKILL);
	int st = wait_for(p);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
	p = fork();
	if (p == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		*(volatile int *)8 = 1;
		_exit(0);
	}
	st = wait_for(p);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGSEGV);
	EXPECT(waitpid(-1, &st, 0), ECHILD);
	EXPECT(waitpid(p, &st, 0), ECHILD);
	EXPECT(waitpid(-1, &st, 0x1000000), EINVAL);
}

TEST(memory_is_copied)
{
	static int data = 1;
	int *heap = malloc(sizeof *heap), stack = 3;
	int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *big = mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*heap = 2;
	memset(big, 5, 8 << 20);
	pid_t p = fork();
	if (p == 0) {
		int ok = data == 1 && *heap == 2 && stack == 3 && big[5 << 20] == 5;
		data = *heap = stack = 100;
		memset(big, 6, 8 << 20);
		*shared = 77;
		_exit(ok ? 0 : 1);
	}
	int st = wait_for(p);
	SAME(st, 0);
	SAME(data, 1);
	SAME(*heap, 2);
	SAME(stack, 3);
	SAME(*shared, 77);
	for (int i = 0; i < 8 << 20; i += 4096)
		if (big[i] != 5) {
			FAIL("page %d changed", i >> 12);
			break;
		}
	munmap(big, 8 << 20);
	munmap(shared, 4096);
}

TEST(many_children)
{
	pid_t p[60];
	for (int i = 0; i < 60; i++)
		if ((p[i] = fork()) == 0) {
			sleep_ms(5);
			_exit(i);
		}
	long sum = 0;
	for (int i = 0; i < 60; i++) {
		int st;
		CHECK(wait(&st) > 0);
		sum += WEXITSTATUS(st);
	}
	SAME(sum, 59 * 60 / 2);
	for (int i = 0; i < 300; i++) {
		pid_t c = fork();
		if (c == 0)
			_exit(3);
		SAME(WEXITSTATUS(wait_for(c)), 3);
	}
}

TEST(exec_basics)
{
	SAME(run_child("exit", "42"), 42);
	char *av[] = {self, "child", "exit", "1", 0};
	EXPECT(execve("/no/such/file", av, environ), ENOENT);
	EXPECT(execve("/tmp", av, environ), EACCES);
	EXPECT(execve("/dev/null", av, environ), EACCES);
	int fd = open("/tmp/fork_exec.txt", O_RDWR | O_CREAT | O_TRUNC, 0755);
	SAME(write(fd, "not a program", 13), 13);
	close(fd);
	EXPECT(execve("/tmp/fork_exec.txt", av, environ), ENOEXEC);
	chmod("/tmp/fork_exec.txt", 0644);
	EXPECT(execve("/tmp/fork_exec.txt", av, environ), EACCES);
	unlink("/tmp/fork_exec.txt");
	setenv("FROM_PARENT", "yes", 1);
	SAME(run_child("env", ""), 7);
	unsetenv("FROM_PARENT");
	SAME(run_child("env", ""), 8);
}

TEST(exec_script)
{
	char script[PATH_MAX + 64];
	int n = snprintf(script, sizeof script, "#!%s child\n", self);
	int fd = open("exit", O_RDWR | O_CREAT | O_TRUNC, 0755);
	if (fd < 0) {
		CHECK(chdir("/tmp") == 0);
		fd = open("exit", O_RDWR | O_CREAT | O_TRUNC, 0755);
	}
	NEED(fd >= 0);
	SAME(write(fd, script, (size_t)n), n);
	close(fd);
	pid_t p = fork();
	if (p == 0) {
		execl("exit", "ignored", "23", (char *)0);
		_exit(98);
	}
	/* The interpreter's arguments: its path, "child", the script's name, the rest. */
	SAME(WEXITSTATUS(wait_for(p)), 23);
	unlink("exit");
}

TEST(descriptors_across_exec)
{
	char n[12];
	int a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY | O_CLOEXEC);
	snprintf(n, sizeof n, "%d", a);
	SAME(run_child("fd", n), 1);
	snprintf(n, sizeof n, "%d", b);
	SAME(run_child("fd", n), 0);
	close(a);
	close(b);
}

static void nothing(int s)
{
	(void)s;
}

TEST(signals_across_exec)
{
	char n[12];
	sigset_t s, old;
	snprintf(n, sizeof n, "%d", SIGUSR1);
	signal(SIGUSR1, nothing);
	SAME(run_child("sig", n), 0);
	signal(SIGUSR1, SIG_IGN);
	SAME(run_child("sig", n), 1);
	signal(SIGUSR1, SIG_DFL);
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, &old);
	SAME(run_child("sig", n), 4);
	sigprocmask(SIG_SETMASK, &old, 0);
}

static volatile int spin_stop;
static void *spin(void *v)
{
	while (!spin_stop)
		++*(volatile int *)v;
	return 0;
}

static void *exec_from_thread(void *v)
{
	char *av[] = {self, "child", "exit", "55", 0};
	execve(self, av, environ);
	return v;
}

TEST(exec_ends_other_threads)
{
	pid_t p = fork();
	if (p == 0) {
		static int n;
		pthread_t t;
		for (int i = 0; i < 4; i++)
			pthread_create(&t, 0, spin, &n);
		pthread_create(&t, 0, exec_from_thread, 0);
		for (;;)
			pause();
	}
	SAME(WEXITSTATUS(wait_for(p)), 55);
}

TEST(fork_from_a_thread_has_one_thread)
{
	static int n;
	pthread_t t;
	pthread_create(&t, 0, spin, &n);
	pid_t p = fork();
	if (p == 0) {
		int before = __atomic_load_n(&n, __ATOMIC_SEQ_CST);
		sleep_ms(20);
		_exit(before == __atomic_load_n(&n, __ATOMIC_SEQ_CST) && getpid() == syscall(SYS_gettid) ? 0 : 1);
	}
	SAME(wait_for(p), 0);
	spin_stop = 1;
	pthread_join(t, 0);
}

TEST(vfork_and_spawn)
{
	volatile int shared = 1;
	pid_t p = vfork();
	if (p == 0) {
		shared = 2;
		_exit(9);
	}
	SAME(shared, 2);	/* memory is shared, and the parent waited */
	SAME(WEXITSTATUS(wait_for(p)), 9);
	char *av[] = {self, "child", "exit", "12", 0};
	NEED(posix_spawn(&p, self, 0, 0, av, environ) == 0);
	SAME(WEXITSTATUS(wait_for(p)), 12);
	SAME(posix_spawn(&p, "/no/such/file", 0, 0, av, environ), ENOENT);
	SAME(WEXITSTATUS(system("exit 3")), 3);
}

TEST(sigchld_and_waitid)
{
	siginfo_t si;
	sigset_t s, old;
	sigemptyset(&s);
	sigaddset(&s, SIGCHLD);
	sigprocmask(SIG_BLOCK, &s, &old);
	pid_t p = fork();
	if (p == 0)
		_exit(6);
	SAME(sigwaitinfo(&s, &si), SIGCHLD);
	SAME(si.si_pid, p);
	SAME(si.si_code, CLD_EXITED);
	SAME(si.si_status, 6);
	memset(&si, 0, sizeof si);
	CHECK(waitid(P_PID, (id_t)p, &si, WEXITED | WNOWAIT) == 0);
	SAME(si.si_pid, p);
	CHECK(waitid(P_PID, (id_t)p, &si, WEXITED) == 0);
	SAME(si.si_status, 6);
	EXPECT(waitid(P_PID, (id_t)p, &si, WEXITED), ECHILD);
	sigprocmask(SIG_SETMASK, &old, 0);
	p = fork();
	if (p == 0)
		for (;;)
			pause();
	int st;
	SAME(waitpid(p, &st, WNOHANG), 0);
	kill(p, SIGSTOP);
	SAME(waitpid(p, &st, WUNTRACED), p);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
	kill(p, SIGCONT);
	SAME(waitpid(p, &st, WCONTINUED), p);
	CHECK(WIFCONTINUED(st));
	kill(p, SIGTERM);
	CHECK(WTERMSIG(wait_for(p)) == SIGTERM);
	/* With SIGCHLD ignored nobody becomes a zombie. */
	signal(SIGCHLD, SIG_IGN);
	p = fork();
	if (p == 0)
		_exit(0);
	EXPECT(waitpid(p, &st, 0), ECHILD);
	signal(SIGCHLD, SIG_DFL);
}

TEST(parents_and_groups)
{
	pid_t me = getpid(), p = fork();
	if (p == 0)
		_exit(getppid() == me && getpgrp() == getpgid(me) ? 0 : 1);
	SAME(wait_for(p), 0);
	p = fork();
	if (p == 0) {
		if (setsid() != getpid() || getpgrp() != getpid() || getsid(0) != getpid())
			_exit(1);
		_exit(setsid() == -1 && errno == EPERM ? 0 : 2);
	}
	SAME(wait_for(p), 0);
	/* A signal to a whole group. */
	p = fork();
	if (p == 0) {
		setpgid(0, 0);
		for (int i = 0; i < 3; i++)
			if (fork() == 0)
				for (;;)
					pause();
		sleep_ms(20);
		signal(SIGTERM, SIG_IGN);
		kill(0, SIGTERM);
		int n = 0, st;
		while (wait(&st) > 0)
			n += WIFSIGNALED(st) && WTERMSIG(st) == SIGTERM;
		_exit(n);
	}
	SAME(WEXITSTATUS(wait_for(p)), 3);
}

TEST(clone3_with_pidfd)
{
	int fd = -1;
	struct clone_args a = {.flags = CLONE_PIDFD, .pidfd = (u64)&fd, .exit_signal = SIGCHLD};
	long p = syscall(SYS_clone3, &a, sizeof a);
	if (p == 0)
		_exit(21);
	CHECK(p > 0 && fd >= 0);
	siginfo_t si;
	CHECK(waitid(3 /* P_PIDFD */, (id_t)fd, &si, WEXITED) == 0);
	SAME(si.si_status, 21);
	EXPECT(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0), ESRCH);
	close(fd);
	a = (struct clone_args){.flags = CLONE_THREAD, .exit_signal = 0};
	EXPECT(syscall(SYS_clone3, &a, sizeof a), EINVAL);
	EXPECT(syscall(SYS_clone3, &a, 8), EINVAL);
}

TEST(rusage_of_children)
{
	struct rusage ru;
	pid_t p = fork();
	if (p == 0) {
		u64 start = now_ns(CLOCK_MONOTONIC);
		while (now_ns(CLOCK_MONOTONIC) - start < 60000000)
			;
		_exit(0);
	}
	int st;
	SAME(wait4(p, &st, 0, &ru), p);
	CHECK(ru.ru_utime.tv_sec > 0 || ru.ru_utime.tv_usec > 1000);
	CHECK(ru.ru_maxrss > 0);
}

/* A directory of /proc stands for a process, as a pidfd does. */
TEST(proc_directory_as_pidfd)
{
	char name[32];
	int status, null = open("/dev/null", O_RDONLY);
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	snprintf(name, sizeof name, "/proc/%d", pid);
	int fd = open(name, O_RDONLY | O_DIRECTORY);
	NEED(fd >= 0);
	EXPECT(syscall(SYS_pidfd_send_signal, null, 0, 0, 0), EBADF);
	SAME(syscall(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0), 0);
	SAME(waitpid(pid, &status, 0), pid);
	SAME(status, SIGKILL);
	close(fd);
	close(null);
}
