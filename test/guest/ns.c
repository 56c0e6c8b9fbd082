/* Namespaces: of process IDs, names, mounts; their files; setns(2), unshare(2), clone3(2). */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <grp.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>

/* child runs f in a process with new namespaces and returns its status, or -errno. */
static pid_t start(u64 flags, void (*f)(void))
{
	struct clone_args a = {.flags = flags, .exit_signal = SIGCHLD};
	pid_t pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid == 0) {
		f();
		_exit(check_failures != 0);
	}
	return pid;
}

static int end(pid_t pid)
{
	int status;
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void in(u64 flags, void (*f)(void))
{
	pid_t pid = start(flags, f);
	NEED(pid > 0);
	SAME(end(pid), 0);
}

static char *slurp(const char *path)
{
	static char b[65536];
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return NULL;
	int n = 0, r;
	while ((r = read(fd, b + n, sizeof b - 1 - n)) > 0)
		n += r;
	close(fd);
	b[n] = 0;
	return b;
}

static long field(const char *path, const char *name)
{
	char *p = slurp(path);
	p = p ? strstr(p, name) : NULL;
	return p ? strtol(p + strlen(name), NULL, 10) : -1;
}

static void first(void)
{
	SAME(getpid(), 1);
	SAME(gettid(), 1);
	SAME(getppid(), 0);
	SAME(syscall(SYS_set_tid_address, NULL), 1);
	SAME(getpgid(0), 0); /* that of the parent */
	SAME(getsid(0), 0);
	SAME(kill(1, 0), 0);
	EXPECT(kill(2, 0), ESRCH);
	SAME(setsid(), 1);
	SAME(getpgrp(), 1);
	pid_t pid = fork();
	if (pid == 0) {
		if (getpid() != 2 || getppid() != 1 || getpgrp() != 1)
			_exit(1);
		_exit(setpgid(0, 0) || getpgrp() != 2 || getpgid(1) != 1);
	}
	SAME(pid, 2);
	siginfo_t i;
	SAME(waitid(P_PID, 2, &i, WEXITED | WNOWAIT), 0);
	SAME(i.si_pid, 2);
	SAME(i.si_status, 0);
	SAME(end(2), 0);
	EXPECT(kill(2, 0), ESRCH);
}

TEST(pid_numbers) { in(CLONE_NEWPID, first); }

static volatile sig_atomic_t got, from;
static void note(int sig, siginfo_t *i, void *c)
{
	(void)c;
	got = sig;
	from = i->si_pid;
}

static int sync_pipe[2];
static void tell(void) { if (write(sync_pipe[1], "x", 1) != 1) _exit(98); }
static void hear(void) { char c; if (read(sync_pipe[0], &c, 1) != 1) _exit(97); }

static void deaf(void)
{
	struct sigaction a = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &a, NULL);
	kill(1, SIGTERM); /* it has no handler */
	kill(1, SIGKILL);
	pid_t pid = fork();
	if (pid == 0) {
		kill(1, SIGKILL);
		kill(1, SIGTERM);
		kill(1, SIGSTOP);
		kill(1, SIGUSR1);
		_exit(0);
	}
	end(pid);
	SAME(got, SIGUSR1);
	SAME(from, pid);
	got = from = 0;
	tell();
	while (!got)
		usleep(1000);
	SAME(from, 0); /* from outside */
	tell();
	for (;;)
		pause();
}

TEST(pid_init_signals)
{
	NEED(pipe(sync_pipe) == 0);
	pid_t pid = start(CLONE_NEWPID, deaf);
	NEED(pid > 0);
	hear();
	SAME(kill(pid, SIGTERM), 0); /* from outside, and ignored too */
	SAME(kill(pid, SIGUSR1), 0);
	hear();
	SAME(kill(pid, SIGKILL), 0);
	SAME(end(pid), SIGKILL);
	close(sync_pipe[0]), close(sync_pipe[1]);
}

static void orphans(void)
{
	int p[2];
	NEED(pipe(p) == 0);
	if (fork() == 0) {
		pid_t me = getpid();
		if (fork() == 0) {
			while (getppid() == me)
				usleep(1000);
			int pp = getppid();
			_exit(write(p[1], &pp, sizeof pp) != sizeof pp);
		}
		_exit(7);
	}
	int pp = 0, status, n = 0;
	SAME(read(p[0], &pp, sizeof pp), sizeof pp);
	SAME(pp, 1);
	while (wait(&status) > 0)
		n++;
	SAME(n, 2);
}

TEST(pid_orphans) { in(CLONE_NEWPID, orphans); }

static void leaves_many(void)
{
	for (int i = 0; i < 10; i++)
		if (fork() == 0)
			for (;;)
				pause();
	_exit(5);
}

TEST(pid_init_kills)
{
	pid_t pid = start(CLONE_NEWPID, leaves_many);
	NEED(pid > 0);
	SAME(end(pid), 5 << 8);
}

TEST(pid_dead_namespace)
{
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(unshare(CLONE_NEWPID) == 0);
		EXPECT(unshare(CLONE_NEWPID), EINVAL);
		EXPECT(clone(NULL, NULL, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, NULL), EINVAL);
		SAME(access("/proc/self/ns/pid_for_children", F_OK), -1); /* there is none yet */
		pid_t c = fork();
		if (c == 0)
			_exit(getpid() != 1);
		SAME(end(c), 0);
		EXPECT(fork(), ENOMEM);
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
}

static void nested2(void)
{
	SAME(getpid(), 1);
	for (;;)
		pause();
}

static void nested1(void)
{
	CHECK(fork() != 0 || (pause(), 0));
	pid_t pid = start(CLONE_NEWPID, nested2);
	SAME(pid, 3);
	tell();
	end(pid);
}

TEST(pid_nested)
{
	NEED(pipe(sync_pipe) == 0);
	pid_t pid = start(CLONE_NEWPID, nested1);
	NEED(pid > 0);
	hear();
	char path[64], *s;
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
	/* Of the inner one's numbers the last is 1, the one before 3. */
	int found = 0;
	for (int n = pid + 1; n < pid + 20; n++) {
		snprintf(path, sizeof path, "/proc/%d/status", n);
		if ((s = slurp(path)) && (s = strstr(s, "NSpid:"))) {
			int a, b, c;
			if (sscanf(s, "NSpid:\t%d\t%d\t%d", &a, &b, &c) == 3 && a == n && b == 3 && c == 1) {
				found = n;
				break;
			}
		}
	}
	CHECK(found);
	SAME(kill(found, SIGKILL), 0);
	SAME(end(pid), 0);
	close(sync_pipe[0]), close(sync_pipe[1]);
}

TEST(pid_level)
{
	pid_t pid = fork();
	if (pid == 0) {
		int level = 0;
		for (;;) { /* each is the only child of the one before */
			if (unshare(CLONE_NEWPID) < 0)
				_exit(errno == ENOSPC ? 100 + level : 1);
			pid_t c = fork();
			if (c != 0) {
				int s;
				waitpid(c, &s, 0);
				_exit(WEXITSTATUS(s));
			}
			level++;
		}
	}
	int s = end(pid);
	CHECK(WEXITSTATUS(s) > 120 && WEXITSTATUS(s) <= 132);
}

static void threads_of(void)
{
	pid_t want[] = {31, 0};
	struct clone_args a = {.exit_signal = SIGCHLD, .set_tid = (u64)want, .set_tid_size = 1};
	pid_t pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid == 0)
		_exit(getpid() != 31);
	SAME(pid, 31);
	SAME(end(pid), 0);
	a.set_tid_size = 3;
	want[1] = 31999;
	EXPECT(syscall(SYS_clone3, &a, sizeof a), EINVAL);
}

TEST(pid_set_tid) { in(CLONE_NEWPID, threads_of); }

static void own_proc(void)
{
	NEED(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	NEED(mount("proc", "/proc", "proc", 0, NULL) == 0);
	SAME(field("/proc/self/status", "NSpid:"), 1);
	SAME(field("/proc/self/stat", ""), 1);
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	int n = 0, other = 0;
	DIR *d = opendir("/proc");
	NEED(d);
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9') {
			n++;
			if (strcmp(e->d_name, "1") && strcmp(e->d_name, "2"))
				other++;
		}
	closedir(d);
	SAME(n, 2);
	SAME(other, 0);
	char b[16] = "";
	SAME(readlink("/proc/self", b, sizeof b), 1);
	CHECK(b[0] == '1');
	SAME(field("/proc/2/status", "PPid:\t"), 1);
	SAME(umount("/proc"), 0);
	kill(pid, SIGKILL);
	end(pid);
}

TEST(pid_proc) { in(CLONE_NEWPID | CLONE_NEWNS, own_proc); }

static int pair[2];
static void sends_creds(void)
{
	SAME(write(pair[1], "x", 1), 1);
	char c;
	SAME(read(pair[1], &c, 1), 1);
}

TEST(pid_credentials)
{
	int on = 1;
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	NEED(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
	pid_t pid = start(CLONE_NEWPID, sends_creds);
	NEED(pid > 0);
	char c, control[64];
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	SAME(recvmsg(pair[0], &m, 0), 1);
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	NEED(h && h->cmsg_type == SCM_CREDENTIALS);
	struct ucred u;
	memcpy(&u, CMSG_DATA(h), sizeof u);
	SAME(u.pid, pid);
	SAME(write(pair[0], "x", 1), 1);
	SAME(end(pid), 0);
	close(pair[0]), close(pair[1]);
}

static void names(void)
{
	struct utsname u;
	SAME(sethostname("inner", 5), 0);
	SAME(setdomainname("example", 7), 0);
	uname(&u);
	SAME(strcmp(u.nodename, "inner"), 0);
	SAME(strcmp(u.domainname, "example"), 0);
	SAME(strcmp(slurp("/proc/sys/kernel/hostname"), "inner\n"), 0);
}

TEST(uts)
{
	struct utsname a, b;
	uname(&a);
	in(CLONE_NEWUTS, names);
	uname(&b);
	SAME(strcmp(a.nodename, b.nodename), 0);
}

TEST(links)
{
	static const char *kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "user", "uts"};
	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		char path[64], b[64] = "";
		snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
		CHECK(readlink(path, b, sizeof b - 1) > 0);
		struct stat s;
		NEED(stat(path, &s) == 0);
		char want[64];
		snprintf(want, sizeof want, "%s:[%lu]", i == 5 ? "pid" : kinds[i], (unsigned long)s.st_ino);
		SAME(strcmp(b, want), 0);
		SAME(s.st_mode & ~0777u, S_IFREG);
		int fd = open(path, O_RDONLY);
		NEED(fd >= 0);
		struct statfs f;
		SAME(fstatfs(fd, &f), 0);
		SAME(f.f_type, 0x6e736673);
		CHECK(ioctl(fd, NS_GET_NSTYPE) > 0);
		EXPECT(ioctl(fd, NS_GET_OWNER_UID, b), i == 6 ? 0 : EINVAL);
		close(fd);
		CHECK(open(path, O_RDWR) < 0);
	}
}

static u64 ino(const char *path)
{
	struct stat s;
	return stat(path, &s) ? 0 : s.st_ino;
}

TEST(setns)
{
	struct utsname u;
	int self = open("/proc/self/ns/uts", O_RDONLY);
	NEED(self >= 0);
	u64 before = ino("/proc/self/ns/uts");
	NEED(unshare(CLONE_NEWUTS) == 0);
	CHECK(ino("/proc/self/ns/uts") != before);
	SAME(sethostname("other", 5), 0);
	EXPECT(setns(self, CLONE_NEWPID), EINVAL);
	EXPECT(setns(-1, 0), EBADF);
	EXPECT(setns(0, 0), EINVAL);
	SAME(setns(self, CLONE_NEWUTS), 0);
	SAME(ino("/proc/self/ns/uts"), before);
	uname(&u);
	CHECK(strcmp(u.nodename, "other"));
	close(self);
}

static void waits(void)
{
	sethostname("there", 5);
	tell();
	pause();
}

TEST(setns_pidfd)
{
	NEED(pipe(sync_pipe) == 0);
	pid_t pid = start(CLONE_NEWUTS | CLONE_NEWPID, waits);
	NEED(pid > 0);
	hear();
	int fd = syscall(SYS_pidfd_open, pid, 0);
	NEED(fd >= 0);
	pid_t c = fork();
	if (c == 0) {
		struct utsname u;
		EXPECT(setns(fd, 0), EINVAL);
		CHECK(setns(fd, CLONE_NEWUTS | CLONE_NEWPID) == 0);
		uname(&u);
		SAME(strcmp(u.nodename, "there"), 0);
		CHECK(ino("/proc/self/ns/pid_for_children") != ino("/proc/self/ns/pid"));
		pid_t g = fork();
		if (g == 0)
			_exit(getpid() != 2 || getppid() != 0);
		_exit(end(g) != 0 || check_failures);
	}
	SAME(end(c), 0);
	kill(pid, SIGKILL);
	end(pid);
	EXPECT(setns(fd, CLONE_NEWUTS), ESRCH);
	close(fd);
	close(sync_pipe[0]), close(sync_pipe[1]);
}

static void mounts(void)
{
	NEED(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	NEED(mount("inner", "/tmp", "tmpfs", 0, NULL) == 0);
	CHECK(mkdir("/tmp/x", 0700) == 0);
	CHECK(strstr(slurp("/proc/self/mounts"), "inner /tmp"));
}

TEST(mount_private)
{
	in(CLONE_NEWNS, mounts);
	CHECK(access("/tmp/x", F_OK) != 0);
	CHECK(!strstr(slurp("/proc/self/mounts"), "inner /tmp"));
}

static void propagates(void)
{
	NEED(mount("below", "/tmp/ns-shared/in", "tmpfs", 0, NULL) == 0);
	tell();
	pause();
}

static void sharing(void)
{
	NEED(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	NEED(mount("t", "/tmp", "tmpfs", 0, NULL) == 0);
	mkdir("/tmp/ns-shared", 0700);
	NEED(mount("s", "/tmp/ns-shared", "tmpfs", 0, NULL) == 0);
	NEED(mount(NULL, "/tmp/ns-shared", NULL, MS_SHARED, NULL) == 0);
	mkdir("/tmp/ns-shared/in", 0700);
	NEED(pipe(sync_pipe) == 0);
	pid_t pid = start(CLONE_NEWNS, propagates);
	hear();
	CHECK(strstr(slurp("/proc/self/mounts"), "below /tmp/ns-shared/in"));
	int fd = syscall(SYS_pidfd_open, pid, 0);
	pid_t c = fork();
	if (c == 0)
		_exit(setns(fd, CLONE_NEWNS) != 0 || access("/tmp/ns-shared/in", F_OK));
	SAME(end(c), 0);
	kill(pid, SIGKILL);
	end(pid);
	/* What it mounted stays here, with its namespace gone. */
	CHECK(strstr(slurp("/proc/self/mounts"), "below /tmp/ns-shared/in"));
}

TEST(mount_propagates) { in(CLONE_NEWNS, sharing); }

static void binds(void)
{
	NEED(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	NEED(mount("t", "/tmp", "tmpfs", 0, NULL) == 0);
	close(open("/tmp/uts", O_CREAT | O_RDWR, 0600));
	NEED(unshare(CLONE_NEWUTS) == 0);
	sethostname("kept", 4);
	NEED(mount("/proc/self/ns/uts", "/tmp/uts", NULL, MS_BIND, NULL) == 0);
	u64 n = ino("/proc/self/ns/uts");
	NEED(unshare(CLONE_NEWUTS) == 0);
	sethostname("else", 4);
	SAME(ino("/tmp/uts"), n);
	int fd = open("/tmp/uts", O_RDONLY);
	NEED(setns(fd, 0) == 0);
	struct utsname u;
	uname(&u);
	SAME(strcmp(u.nodename, "kept"), 0);
	close(fd);
	SAME(umount("/tmp/uts"), 0);
}

TEST(bound) { in(CLONE_NEWNS, binds); }

static void hidden(void)
{
	NEED(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	struct stat a, b;
	NEED(stat("/proc", &a) == 0);
	NEED(mount("proc", "/proc", "proc", 0, "subset=pid") == 0);
	NEED(stat("/proc", &b) == 0);
	CHECK(a.st_dev != b.st_dev);
	CHECK(access("/proc/self/status", R_OK) == 0);
	EXPECT(access("/proc/meminfo", R_OK), ENOENT);
	EXPECT(mount("proc", "/proc", "proc", 0, "hidepid=7"), EINVAL);
	NEED(umount("/proc") == 0);
	NEED(mount("proc", "/proc", "proc", 0, "hidepid=invisible") == 0);
	char path[32];
	snprintf(path, sizeof path, "/proc/%d", getppid());
	CHECK(access(path, F_OK) == 0);
	NEED(setresgid(5, 5, 5) == 0 && setresuid(5, 5, 5) == 0);
	EXPECT(access(path, F_OK), ENOENT);
	CHECK(access("/proc/self", F_OK) == 0);
}

TEST(proc_options) { in(CLONE_NEWNS, hidden); }

TEST(needs_rights)
{
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(setresuid(5, 5, 5) == 0);
		EXPECT(unshare(CLONE_NEWPID), EPERM);
		EXPECT(unshare(CLONE_NEWUTS), EPERM);
		EXPECT(unshare(CLONE_NEWNS), EPERM);
		EXPECT(start(CLONE_NEWPID, first), EPERM);
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
	EXPECT(unshare(0x10000000 | 1), EINVAL);
	EXPECT(start(CLONE_NEWNS | CLONE_FS, first), EINVAL);
}

static int put(const char *path, const char *s)
{
	int fd = open(path, O_WRONLY);
	if (fd < 0)
		return -1;
	int r = write(fd, s, strlen(s)) == (ssize_t)strlen(s) ? 0 : -1, e = errno;
	close(fd);
	errno = e;
	return r;
}

static void as_user(void (*f)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		if (setgroups(0, NULL) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000) || prctl(PR_SET_DUMPABLE, 1))
			_exit(9);
		f();
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
}

static void maps(void)
{
	NEED(unshare(CLONE_NEWUSER) == 0);
	SAME(getuid(), 65534);
	SAME(getgid(), 65534);
	EXPECT(unshare(CLONE_NEWUSER), EPERM); /* its user has no number */
	EXPECT(put("/proc/self/uid_map", "0 0 1"), EPERM);
	EXPECT(put("/proc/self/uid_map", "0 1000 2"), EPERM);
	EXPECT(put("/proc/self/uid_map", "0 1000"), EINVAL);
	EXPECT(put("/proc/self/gid_map", "0 1000 1"), EPERM); /* while setgroups is allowed */
	SAME(put("/proc/self/setgroups", "deny"), 0);
	SAME(put("/proc/self/gid_map", "0 1000 1"), 0);
	SAME(put("/proc/self/uid_map", "0 1000 1"), 0);
	EXPECT(put("/proc/self/uid_map", "0 1000 1"), EPERM);
	SAME(getuid(), 0);
	SAME(getegid(), 0);
	SAME(strcmp(slurp("/proc/self/uid_map"), "         0       1000          1\n"), 0);
	SAME(strcmp(slurp("/proc/self/setgroups"), "deny\n"), 0);
	EXPECT(setgroups(0, NULL), EPERM);
	EXPECT(setuid(1), EINVAL);
	EXPECT(setresuid(0, -1, 5), EINVAL);
	SAME(setuid(0), 0);
	struct stat s;
	NEED(stat("/proc/1", &s) == 0); /* of root, which has no number */
	SAME(s.st_uid, 65534);
	/* What belongs to the machine is out of reach. */
	EXPECT(sethostname("x", 1), EPERM);
	EXPECT(mount("x", "/tmp", "tmpfs", 0, NULL), EPERM);
	EXPECT(chroot("/proc"), 0);
}

TEST(user_maps) { as_user(maps); }

static void power(void)
{
	struct utsname u;
	NEED(unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWPID) == 0);
	SAME(put("/proc/self/setgroups", "deny"), 0);
	SAME(put("/proc/self/gid_map", "5 1000 1"), 0);
	SAME(put("/proc/self/uid_map", "5 1000 1"), 0);
	SAME(getuid(), 5);
	SAME(sethostname("mine", 4), 0);
	uname(&u);
	SAME(strcmp(u.nodename, "mine"), 0);
	EXPECT(mknod("/dev/shm/ns-dev", S_IFCHR | 0666, 0x105), EPERM);
	EXPECT(chown("/dev/null", 5, 5), EPERM);
	EXPECT(chmod("/proc/1", 0777), EPERM);
	EXPECT(kill(getppid(), 0), EPERM);
	NEED(mount("t", "/tmp", "tmpfs", 0, "mode=755") == 0);
	struct stat s;
	NEED(stat("/tmp", &s) == 0);
	SAME(s.st_uid, 5);
	EXPECT(mount("t", "/tmp", "tmpfs", 0, "uid=7"), EINVAL);
	EXPECT(mount("/dev/vda", "/tmp", "ext4", 0, NULL), EPERM);
	SAME(mkdir("/tmp/d", 0700), 0);
	SAME(mount("/tmp/d", "/tmp/d", NULL, MS_BIND, NULL), 0);
	SAME(umount("/tmp/d"), 0);
	EXPECT(umount("/proc"), EINVAL); /* it came with the copy */
	EXPECT(mount("proc", "/tmp/d", "proc", 0, NULL), EPERM); /* of a PID namespace that is not its own */
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(mount("proc", "/tmp/d", "proc", 0, NULL) == 0);
		SAME(getpid(), 1);
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
}

TEST(user_power) { as_user(power); }

static void locked(void)
{
	NEED(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	NEED(mount("t", "/tmp", "tmpfs", 0, NULL) == 0);
	NEED(mkdir("/tmp/a", 0755) == 0 && mkdir("/tmp/b", 0777) == 0 && mkdir("/tmp/a/secret", 0755) == 0);
	NEED(mount("cover", "/tmp/a", "tmpfs", 0, NULL) == 0);
	NEED(mount("/tmp/b", "/tmp/b", NULL, MS_BIND, NULL) == 0);
	NEED(mount(NULL, "/tmp/b", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID, NULL) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		NEED(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
		NEED(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
		EXPECT(umount("/tmp/a"), EINVAL);
		EXPECT(umount2("/tmp/a", MNT_DETACH), EINVAL);
		EXPECT(mount("/tmp", "/dev", NULL, MS_BIND, NULL), EINVAL); /* would show what lies under a */
		EXPECT(mount(NULL, "/tmp/b", NULL, MS_BIND | MS_REMOUNT | MS_NOSUID, NULL), EPERM);
		EXPECT(mount(NULL, "/tmp/b", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), EPERM);
		EXPECT(mount(NULL, "/tmp/b", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL), 0);
		SAME(mount("/tmp", "/dev", NULL, MS_BIND | MS_REC, NULL), 0);
		CHECK(access("/dev/a/secret", F_OK) != 0);
		EXPECT(umount("/dev/a"), EINVAL);
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
}

TEST(user_locked_mounts) { in(CLONE_NEWNS, locked); }

static void outside(void)
{
	NEED(pipe(sync_pipe) == 0);
	int back[2];
	NEED(pipe(back) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		char c;
		CHECK(unshare(CLONE_NEWUSER) == 0);
		tell();
		SAME(read(back[0], &c, 1), 1);
		SAME(getuid(), 65534);
		SAME(setresgid(10, 10, 10), 0);
		SAME(setresuid(10, 10, 10), 0);
		_exit(check_failures != 0);
	}
	hear();
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
	SAME(put(path, "0 200000 1000\n2000 300000 5\n"), 0);
	SAME(strcmp(slurp(path), "         0     200000       1000\n      2000     300000          5\n"), 0);
	snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
	EXPECT(put(path, "0 200000 1000\n999 300000 5\n"), EINVAL);
	SAME(put(path, "0 200000 1000\n"), 0);
	snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
	int fd = open(path, O_RDONLY);
	NEED(fd >= 0);
	uid_t owner = 77;
	SAME(ioctl(fd, NS_GET_OWNER_UID, &owner), 0);
	SAME(owner, 0);
	int up = ioctl(fd, NS_GET_PARENT);
	NEED(up >= 0);
	EXPECT(ioctl(up, NS_GET_PARENT), EPERM);
	SAME(write(back[1], "x", 1), 1);
	pid_t c = fork();
	if (c == 0) {
		CHECK(setns(fd, CLONE_NEWUSER) == 0);
		SAME(getuid(), 65534);
		SAME(setuid(0), 0);
		SAME(getuid(), 0);
		EXPECT(setns(fd, CLONE_NEWUSER), EINVAL);
		EXPECT(setns(up, CLONE_NEWUSER), EPERM);
		_exit(check_failures != 0);
	}
	SAME(end(c), 0);
	siginfo_t i;
	SAME(waitid(P_PID, pid, &i, WEXITED), 0);
	SAME(i.si_status, 0);
	SAME(i.si_uid, 200010);
}

TEST(user_mapped_by_root)
{
	pid_t pid = fork();
	if (pid == 0) {
		outside();
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
}

static void rootless(void)
{
	NEED(unshare(CLONE_NEWUSER) == 0);
	tell();
	pause();
}

TEST(user_root_keeps_groups)
{
	NEED(pipe(sync_pipe) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		rootless();
		_exit(1);
	}
	hear();
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
	SAME(put(path, "0 0 1"), 0); /* one line, its own group, and setgroups stays allowed */
	snprintf(path, sizeof path, "/proc/%d/setgroups", pid);
	SAME(strcmp(slurp(path), "allow\n"), 0);
	kill(pid, SIGKILL);
	end(pid);
	close(sync_pipe[0]), close(sync_pipe[1]);
}

TEST(user_level)
{
	pid_t pid = fork();
	if (pid == 0) {
		for (int level = 0; level < 100; level++) {
			if (unshare(CLONE_NEWUSER) < 0)
				_exit(errno == ENOSPC ? level : 200);
			put("/proc/self/setgroups", "deny");
			if (put("/proc/self/uid_map", "0 0 1") || put("/proc/self/gid_map", "0 0 1"))
				_exit(201);
		}
		_exit(202);
	}
	int s = end(pid);
	CHECK(WEXITSTATUS(s) > 20 && WEXITSTATUS(s) <= 33);
}

static void identifiers(void)
{
	EXPECT(shmget(0x6e73, 0, 0), ENOENT);
	EXPECT(mq_unlink("/ns-queue"), ENOENT);
	int m = msgget(0x6e73, IPC_CREAT | 0600), s = semget(0x6e73, 1, IPC_CREAT | 0600), h = shmget(0x6e73, 4096, IPC_CREAT | 0600);
	SAME(m, 0);
	SAME(s, 0);
	SAME(h, 0);
	CHECK(shmat(h, NULL, 0) != (void *)-1);
	mqd_t q = mq_open("/ns-queue", O_CREAT | O_RDWR, 0600, NULL);
	CHECK(q >= 0);
	SAME(field("/proc/sys/fs/mqueue/msg_max", ""), 10);
	SAME(put("/proc/sys/fs/mqueue/msg_max", "77"), 0);
	SAME(field("/proc/sys/fs/mqueue/msg_max", ""), 77);
	EXPECT(put("/proc/sys/fs/mqueue/msgsize_max", "5"), EINVAL);
	SAME(put("/proc/sys/kernel/msg_next_id", "98305"), 0);
	SAME(msgget(IPC_PRIVATE, 0600), 98305);
	SAME(field("/proc/sys/kernel/msg_next_id", ""), -1);
	EXPECT(put("/proc/sys/kernel/msg_next_id", "-5"), EINVAL);
}

TEST(ipc)
{
	int h = shmget(0x6e73, 4096, IPC_CREAT | 0600);
	mqd_t q = mq_open("/ns-queue", O_CREAT | O_RDWR, 0600, NULL);
	NEED(h >= 0 && q >= 0);
	in(CLONE_NEWIPC, identifiers);
	SAME(mq_unlink("/ns-queue"), 0);
	SAME(shmctl(h, IPC_RMID, NULL), 0);
	EXPECT(msgget(0x6e73, 0), ENOENT);
}

static int dial(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_STREAM, 0);
	int e = connect(s, (void *)&a, sizeof a) ? errno : 0;
	close(s);
	return e;
}

static int lo_up(void)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	int e = ioctl(s, SIOCSIFFLAGS, &r);
	close(s);
	return e;
}

static struct sockaddr_un hidden_name = {.sun_family = AF_UNIX, .sun_path = "\0ns-abstract"};

static void alone(void)
{
	char *dev = slurp("/proc/net/dev");
	CHECK(dev && strstr(dev, "lo:") && !strstr(dev, "eth0"));
	SAME(strcmp(slurp("/proc/net/unix"), "Num       RefCount Protocol Flags    Type St Inode Path\n"), 0);
	int e = dial();
	CHECK(e == ENETUNREACH || e == EHOSTUNREACH);
	SAME(lo_up(), 0);
	SAME(dial(), ECONNREFUSED);
	/* A listener, and who connects to it, in here. */
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	SAME(bind(l, (void *)&a, sizeof a), 0);
	SAME(listen(l, 5), 0);
	SAME(connect(c, (void *)&a, sizeof a), 0);
	int s = accept(l, NULL, NULL);
	CHECK(s >= 0);
	char b[4] = "";
	SAME(write(c, "ping", 4), 4);
	SAME(read(s, b, 4), 4);
	SAME(memcmp(b, "ping", 4), 0);
	/* Abstract names are the namespace's own. */
	int u = socket(AF_UNIX, SOCK_STREAM, 0);
	EXPECT(connect(u, (void *)&hidden_name, sizeof hidden_name), ECONNREFUSED);
	SAME(bind(u, (void *)&hidden_name, sizeof hidden_name), 0);
}

static void alone_as_user(void)
{
	NEED(unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0);
	alone();
}

TEST(net)
{
	int u = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(bind(u, (void *)&hidden_name, sizeof hidden_name) == 0 && listen(u, 5) == 0);
	in(CLONE_NEWNET, alone);
	as_user(alone_as_user);
	/* A socket keeps its namespace. */
	pid_t pid = fork();
	if (pid == 0) {
		int self = open("/proc/self/ns/net", O_RDONLY);
		NEED(unshare(CLONE_NEWNET) == 0);
		int s = socket(AF_INET, SOCK_DGRAM, 0);
		NEED(setns(self, CLONE_NEWNET) == 0);
		struct ifreq r = {.ifr_name = "lo"};
		SAME(ioctl(s, SIOCGIFFLAGS, &r), 0);
		CHECK(!(r.ifr_flags & IFF_UP));
		int v = socket(AF_UNIX, SOCK_STREAM, 0);
		SAME(connect(v, (void *)&hidden_name, sizeof hidden_name), 0);
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
	/* Many, one after the other. */
	for (int i = 0; i < 100; i++) {
		pid_t c = fork();
		if (c == 0)
			_exit(unshare(CLONE_NEWNET) || lo_up() || dial() != ECONNREFUSED);
		SAME(end(c), 0);
	}
	close(u);
}

/* raw and vdso tell what a clock shows, in seconds, by the call and by the C library. */
static long raw(clockid_t c)
{
	struct timespec t;
	syscall(SYS_clock_gettime, c, &t);
	return t.tv_sec;
}

static long vdso(clockid_t c)
{
	struct timespec t;
	clock_gettime(c, &t);
	return t.tv_sec;
}

static long btime;
static int offsets(const char *s)
{
	int fd = open("/proc/self/timens_offsets", O_WRONLY);
	int n = write(fd, s, strlen(s)), e = n < 0 ? errno : 0;
	close(fd);
	return e;
}

static ino_t inode(const char *path)
{
	struct stat s;
	return stat(path, &s) ? 0 : s.st_ino;
}

enum { DAYS = 864000 }; /* ten, and twenty for CLOCK_BOOTTIME; no test runs that long */

static int ahead(clockid_t c) { return raw(c) / DAYS * 10 + vdso(c) / DAYS; }

/* shifted are the checks in the namespace; base is what the machine's clocks showed before, in days. */
static struct { int mono, boot; } base;
static void shifted(void)
{
	int mono = (base.mono + 1) * 11, boot = (base.boot + 2) * 11;
	SAME(ahead(CLOCK_MONOTONIC), mono);
	SAME(ahead(CLOCK_MONOTONIC_RAW), mono);
	SAME(ahead(CLOCK_MONOTONIC_COARSE), mono);
	SAME(ahead(CLOCK_BOOTTIME), boot);
	SAME(raw(CLOCK_PROCESS_CPUTIME_ID) / DAYS, 0);
	SAME(time(NULL) - raw(CLOCK_REALTIME) < 2, 1);
	SAME(inode("/proc/self/ns/time"), inode("/proc/self/ns/time_for_children"));
	SAME(offsets("monotonic 5 0"), EACCES);
	SAME(atol(slurp("/proc/uptime")) / DAYS, boot / 11);
	SAME(field("/proc/stat", "btime "), btime - 2 * DAYS);
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	SAME(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
	t.tv_sec -= DAYS;
	SAME(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
}

static void time_inside(void)
{
	shifted();
	pid_t pid = fork();
	if (pid == 0) {
		shifted();
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
}

static void in_time(void)
{
	ino_t first = inode("/proc/self/ns/time");
	int self = open("/proc/self/ns/time", O_RDONLY);
	SAME(offsets("monotonic 1 0"), EACCES);
	NEED(unshare(CLONE_NEWTIME) == 0);
	SAME(inode("/proc/self/ns/time"), first);
	CHECK(inode("/proc/self/ns/time_for_children") != first);
	SAME(offsets("monotonic 1"), EINVAL);
	SAME(offsets("realtime 1 0"), EINVAL);
	SAME(offsets("monotonic 1 1000000000"), EINVAL);
	SAME(offsets("monotonic -99999999 0"), ERANGE);
	SAME(offsets("monotonic 9999999999 0"), ERANGE);
	SAME(offsets("monotonic 864000 7\nboottime 1728000 0\n"), 0);
	SAME(strcmp(slurp("/proc/self/timens_offsets"), "monotonic      864000         7\nboottime      1728000         0\n"), 0);
	SAME(ahead(CLOCK_MONOTONIC), base.mono * 11); /* its children only */
	pid_t pid = fork();
	if (pid == 0) {
		time_inside();
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
	SAME(offsets("boottime 5 0"), EACCES);
	/* A child in the same memory enters with execve(2); Linux 6.1 refuses to make it. */
	char days[64];
	snprintf(days, sizeof days, "DAYS=%d %d %ld", base.mono, base.boot, btime);
	pid = vfork();
	if (pid == 0) {
		char *argv[] = {"ns", "time_entered", NULL}, *envp[] = {days, NULL};
		execve("/proc/self/exe", argv, envp);
		_exit(99);
	}
	if (pid > 0)
		SAME(end(pid), 0);
	else
		SAME(errno, EINVAL);
	SAME(ahead(CLOCK_MONOTONIC), base.mono * 11);
	/* There, and back. */
	int there = open("/proc/self/ns/time_for_children", O_RDONLY);
	NEED(setns(there, CLONE_NEWTIME) == 0);
	shifted();
	NEED(setns(self, 0) == 0);
	SAME(inode("/proc/self/ns/time"), first);
	SAME(ahead(CLOCK_BOOTTIME), base.boot * 11);
	SAME(ahead(CLOCK_MONOTONIC), base.mono * 11);
}

/* fresh is what a new namespace has. */
static void fresh(void)
{
	SAME(ahead(CLOCK_MONOTONIC), base.mono * 11);
	SAME(inode("/proc/self/ns/time"), inode("/proc/self/ns/time_for_children"));
	SAME(offsets("monotonic 1 0"), EACCES);
}

/* time_entered is what TEST(time) runs by execve(2). */
TEST(time_entered)
{
	char *days = getenv("DAYS");
	if (days && sscanf(days, "%d %d %ld", &base.mono, &base.boot, &btime) == 3)
		shifted();
}

TEST(time)
{
	base.mono = raw(CLOCK_MONOTONIC) / DAYS, base.boot = raw(CLOCK_BOOTTIME) / DAYS;
	btime = field("/proc/stat", "btime ");
	pid_t pid = fork();
	if (pid == 0) {
		in_time();
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
	in(CLONE_NEWTIME, fresh);
}

static long length(const char *path)
{
	char *s = slurp(path);
	return s ? (long)strlen(s) : -1;
}

/* Mounts over entries of proc hold, as containers' masks. */
static void masks(void)
{
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	long before = length("/proc/meminfo");
	CHECK(before > 0);
	NEED(mount("/dev/null", "/proc/meminfo", NULL, MS_BIND, NULL) == 0);
	SAME(length("/proc/meminfo"), 0);
	int dir = open("/proc", O_PATH), fd = openat(dir, "meminfo", O_RDONLY);
	struct statfs s;
	SAME(fstatfs(fd, &s), 0);
	CHECK(s.f_type != 0x9fa0);
	close(fd);
	close(dir);
	NEED(mount("none", "/proc/sys/vm", "tmpfs", MS_RDONLY, NULL) == 0);
	EXPECT(open("/proc/sys/vm/overcommit_memory", O_RDONLY), ENOENT);
	EXPECT(open("/proc/sys/../sys/vm/overcommit_memory", O_RDONLY), ENOENT);
	EXPECT(open("/proc/self/root/proc/sys/vm/overcommit_memory", O_RDONLY), ENOENT);
	SAME(umount("/proc/sys/vm"), 0);
	CHECK(length("/proc/sys/vm/overcommit_memory") > 0);
	NEED(mount("/proc/sys", "/proc/sys", NULL, MS_BIND, NULL) == 0);
	SAME(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
	EXPECT(open("/proc/sys/vm/overcommit_memory", O_WRONLY), EROFS);
	CHECK(length("/proc/sys/vm/overcommit_memory") > 0);
	NEED(mount("none", "/proc/sys/vm", "tmpfs", 0, NULL) == 0);
	EXPECT(open("/proc/sys/vm/overcommit_memory", O_RDONLY), ENOENT);
	pid_t pid = fork();
	if (pid == 0) { /* so do they in a copy */
		if (unshare(CLONE_NEWNS))
			_exit(1);
		_exit(length("/proc/meminfo") != 0 || open("/proc/sys/vm/overcommit_memory", O_RDONLY) >= 0 ? 2 : 0);
	}
	SAME(end(pid), 0);
	/* Of a process that ends. */
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	char name[64];
	snprintf(name, sizeof name, "/proc/%d/status", pid);
	NEED(mount("/dev/null", name, NULL, MS_BIND, NULL) == 0);
	SAME(length(name), 0);
	kill(pid, SIGKILL);
	end(pid);
	SAME(length(name), -1);
	for (int i = 0; i < 300; i++) { /* many, which go again */
		if (mount("/dev/null", "/proc/self/stat", NULL, MS_BIND, NULL) || length("/proc/self/stat") || umount("/proc/self/stat"))
			FAIL("round %d: errno %d", i, errno);
	}
}

TEST(masks)
{
	pid_t pid = fork();
	if (pid == 0) {
		NEED(unshare(CLONE_NEWNS) == 0);
		masks();
		_exit(check_failures != 0);
	}
	SAME(end(pid), 0);
}

/* Who sees proc in part only may not mount a whole one. */
static int mount_proc(u64 flags)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID))
			_exit(200);
		pid = fork();
		if (pid == 0)
			_exit(mount("proc", "/proc", "proc", flags, NULL) ? errno : 0);
		int status = end(pid);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 201);
	}
	int status = end(pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 202;
}

TEST(revealing)
{
	pid_t pid = fork();
	if (pid == 0) {
		NEED(unshare(CLONE_NEWNS | CLONE_NEWPID) == 0);
		pid = fork();
		if (pid == 0) {
			mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
			NEED(mount("proc", "/proc", "proc", 0, NULL) == 0);
			SAME(mount_proc(0), 0);
			SAME(mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
			SAME(mount_proc(0), EPERM);
			SAME(mount_proc(MS_RDONLY), 0);
			SAME(mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND, NULL), 0);
			SAME(mount_proc(0), 0);
			NEED(mount("/dev/null", "/proc/meminfo", NULL, MS_BIND, NULL) == 0);
			SAME(mount_proc(0), EPERM);
			SAME(umount("/proc/meminfo"), 0);
			SAME(mount_proc(0), 0);
			_exit(check_failures != 0);
		}
		_exit(end(pid) != 0);
	}
	SAME(end(pid), 0);
}

/* sigqueue sends a signal that says a user ID, and sigtaken takes one and tells what it says. */
static int sigqueue_uid(pid_t pid, int uid)
{
	siginfo_t i = {.si_code = SI_QUEUE};
	i.si_uid = uid;
	return syscall(SYS_rt_sigqueueinfo, pid, SIGRTMIN, &i);
}

static int sigtaken(void)
{
	sigset_t s;
	siginfo_t i;
	struct timespec t = {30, 0};
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN);
	return sigtimedwait(&s, &i, &t) == SIGRTMIN ? (int)i.si_uid : -1;
}

/* User IDs in signals are those of who gets them. */
TEST(signal_users)
{
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &s, NULL);
	NEED(pipe(sync_pipe) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		NEED(unshare(CLONE_NEWUSER) == 0);
		SAME(put("/proc/self/uid_map", "7 0 1"), 0);
		SAME(sigqueue_uid(getppid(), 7), 0);
		SAME(sigqueue_uid(getppid(), 55), 0);
		tell();
		SAME(sigtaken(), 7);
		SAME(sigtaken(), 65534);
		SAME(sigqueue_uid(getpid(), 55), 0); /* within one namespace a number is but a number */
		SAME(sigtaken(), 55);
		_exit(check_failures != 0);
	}
	hear();
	SAME(sigtaken(), 0);
	SAME(sigtaken(), 65534);
	SAME(sigqueue_uid(pid, 0), 0);
	SAME(sigqueue_uid(pid, 1234), 0);
	SAME(end(pid), 0);
	close(sync_pipe[0]);
	close(sync_pipe[1]);
}
