/* procmisc.c - small calls around processes: kcmp, set_tid, I/O priorities, memory policies, adjtimex, process_madvise, nice, load, core dumps, what /proc looks like to programs that insist. */
#include "check.h"
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>

static long kcmp(pid_t a, pid_t b, int what, long x, long y) { return syscall(SYS_kcmp, a, b, what, x, y); }

TEST(kcmp)
{
	pid_t me = getpid();
	int a = dup(1), b = open("/dev/null", O_RDWR);
	SAME(kcmp(me, me, KCMP_FILE, 1, a), 0);
	CHECK(kcmp(me, me, KCMP_FILE, 1, b) > 0);
	EXPECT(kcmp(me, me, KCMP_FILE, 1, 999), EBADF);
	EXPECT(kcmp(me, me, 99, 0, 0), EINVAL);
	EXPECT(kcmp(me, 999999, KCMP_VM, 0, 0), ESRCH);
	SAME(kcmp(me, me, KCMP_VM, 0, 0), 0);
	pid_t p = fork();
	if (p == 0)
		for (;;)
			pause();
	CHECK(kcmp(me, p, KCMP_VM, 0, 0) > 0);
	CHECK(kcmp(me, p, KCMP_FILES, 0, 0) > 0);
	CHECK(kcmp(me, p, KCMP_FS, 0, 0) > 0);
	CHECK(kcmp(me, p, KCMP_SIGHAND, 0, 0) > 0);
	SAME(kcmp(me, p, KCMP_FILE, a, a), 0);
	kill(p, SIGKILL);
	waitpid(p, 0, 0);
	close(a);
	close(b);
}

static pid_t with_tid(pid_t want, size_t n)
{
	struct clone_args a = {.exit_signal = SIGCHLD, .set_tid = (u64)(uintptr_t)&want, .set_tid_size = n};
	pid_t p = syscall(SYS_clone3, &a, sizeof a);
	if (p == 0)
		_exit(getpid() == want ? 0 : 1);
	return p;
}

TEST(set_tid)
{
	EXPECT(with_tid(getpid(), 1), EEXIST);
	EXPECT(with_tid(0, 1), EINVAL);
	EXPECT(with_tid(-5, 1), EINVAL);
	pid_t want = 29123;
	int s = -1;
	pid_t p = with_tid(want, 1);
	SAME(p, want);
	if (p > 0)
		waitpid(p, &s, 0);
	SAME(s, 0);
}

TEST(ioprio)
{
	SAME(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7), 0);
	SAME(syscall(SYS_ioprio_get, 1, 0), 2 << 13 | 7);
	EXPECT(syscall(SYS_ioprio_set, 1, 0, 5 << 13), EINVAL);
	EXPECT(syscall(SYS_ioprio_set, 7, 0, 0), EINVAL);
	EXPECT(syscall(SYS_ioprio_get, 1, 999999), ESRCH);
	SAME(syscall(SYS_ioprio_set, 1, 0, 3 << 13), 0);
	pid_t p = fork();
	if (p == 0)
		_exit(syscall(SYS_ioprio_get, 1, 0) != 3 << 13);
	int s;
	waitpid(p, &s, 0);
	SAME(s, 0);
	SAME(syscall(SYS_ioprio_set, 1, 0, 0), 0);
}

TEST(mempolicy)
{
	int mode = -1;
	unsigned long mask[16] = {0}, none = 0, two = 2, one = 1;
	SAME(syscall(SYS_get_mempolicy, &mode, mask, sizeof mask * 8, 0, 0), 0);
	SAME(mode, 0);
	SAME(syscall(SYS_get_mempolicy, 0, mask, sizeof mask * 8, 0, 4), 0);
	SAME(mask[0], 1);
	EXPECT(syscall(SYS_get_mempolicy, &mode, 0, 0, &mode, 0), EINVAL);
	SAME(syscall(SYS_set_mempolicy, 2, &one, 64), 0);
	SAME(syscall(SYS_get_mempolicy, &mode, mask, sizeof mask * 8, 0, 0), 0);
	SAME(mode, 2);
	SAME(mask[0], 1);
	EXPECT(syscall(SYS_set_mempolicy, 2, &two, 64), EINVAL);
	EXPECT(syscall(SYS_set_mempolicy, 2, &none, 64), EINVAL);
	EXPECT(syscall(SYS_set_mempolicy, 77, &one, 64), EINVAL);
	SAME(syscall(SYS_set_mempolicy, 0, 0, 0), 0);
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	SAME(syscall(SYS_mbind, m, 8192, 2, &one, 64, 0), 0);
	EXPECT(syscall(SYS_mbind, m + 1, 8192, 2, &one, 64, 0), EINVAL);
	m[0] = 1;
	void *pages[2] = {m, (void *)8};
	int st[2] = {9, 9};
	SAME(syscall(SYS_move_pages, 0, 2, pages, 0, st, 0), 0);
	SAME(st[0], 0);
	SAME(st[1], -EFAULT);
	munmap(m, 8192);
}

TEST(adjtimex)
{
	struct timex t = {.modes = 0};
	CHECK(adjtimex(&t) >= 0);
	SAME(t.tick, 10000);
	CHECK(labs(t.time.tv_sec - time(0)) <= 1);
	pid_t p = fork();
	if (p == 0) {
		if (setresuid(1000, 1000, 1000))
			_exit(2);
		t.modes = ADJ_MAXERROR;
		_exit(adjtimex(&t) == -1 && errno == EPERM ? 0 : 1);
	}
	int s;
	waitpid(p, &s, 0);
	SAME(s, 0);
}

/* A process may look at its own descriptors, whoever it has become (Linux's proc_fd_permission). */
TEST(own_descriptors)
{
	pid_t p = fork();
	if (p == 0) {
		int fd = open("/etc/passwd", O_PATH);
		char name[32], b[256];
		if (fd < 0 || setresuid(-1, 65534, -1))
			_exit(2);
		snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
		if (readlink(name, b, sizeof b) != strlen("/etc/passwd") || access("/proc/self/fd", R_OK | X_OK))
			_exit(3);
		int again = open(name, O_RDONLY), d = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
		if (again < 0 || d < 0 || syscall(SYS_getdents64, d, b, sizeof b) <= 0)
			_exit(4);
		snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
		if ((fd = open(name, O_RDONLY)) < 0 || read(fd, b, sizeof b) <= 0)
			_exit(5);
		snprintf(name, sizeof name, "/proc/%d/fd", getppid());
		_exit(open(name, O_RDONLY) == -1 && errno == EACCES ? 0 : 6);
	}
	int s;
	waitpid(p, &s, 0);
	SAME(s, 0);
}

TEST(process_madvise)
{
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = syscall(SYS_pidfd_open, getpid(), 0);
	struct iovec v = {m, 8192};
	SAME(syscall(SYS_process_madvise, fd, &v, 1, 20 /* MADV_COLD */, 0), 8192);
	EXPECT(syscall(SYS_process_madvise, fd, &v, 1, 20, 1), EINVAL);
	EXPECT(syscall(SYS_process_madvise, 0, &v, 1, 20, 0), EBADF);
	close(fd);
	munmap(m, 8192);
}

/* A nice process gets less of a processor that it shares. */
TEST(nice)
{
	volatile u64 *n = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cpu_set_t all, one;
	sched_getaffinity(0, sizeof all, &all);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof one, &one);
	pid_t p[2];
	for (int i = 0; i < 2; i++)
		if ((p[i] = fork()) == 0) {
			setpriority(PRIO_PROCESS, 0, i ? 19 : 0);
			while (!n[2])
				;
			for (;;)
				n[i]++;
		}
	sleep_ms(20);
	n[2] = 1;
	sleep_ms(1000);
	for (int i = 0; i < 2; i++) {
		kill(p[i], SIGKILL);
		waitpid(p[i], 0, 0);
	}
	CHECK(n[1] < n[0]);
	sched_setaffinity(0, sizeof all, &all);
}

TEST(load)
{
	struct sysinfo i;
	double a, b, c;
	EXPECT(sysinfo(&i), 0);
	FILE *f = fopen("/proc/loadavg", "r");
	NEED(f);
	SAME(fscanf(f, "%lf %lf %lf", &a, &b, &c), 3);
	fclose(f);
	CHECK(a >= 0 && a < 1000 && i.loads[0] < 1000ul << 16);
}

static void first_line(const char *path, char *s, int size)
{
	FILE *f = fopen(path, "r");
	NEED(f);
	NEED(fgets(s, size, f));
	fclose(f);
	s[strcspn(s, "\n")] = 0;
}

/* One line of smaps, for the area at start, or of smaps_rollup, for 0: in KiB, -1 when it is not there. */
static long smaps(unsigned long start, const char *name)
{
	FILE *f = fopen(start ? "/proc/self/smaps" : "/proc/self/smaps_rollup", "r");
	char line[400], want[40];
	unsigned long from, to;
	long kib, found = -1;
	int here = 0;
	snprintf(want, sizeof want, "%s: %%ld kB", name);
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = !start || from == start;
		else if (here && sscanf(line, want, &kib) == 1)
			found = kib;
	if (f)
		fclose(f);
	return found;
}

/* Pss is what a process would give back: its share of what others map too. */
TEST(shares)
{
	char *all = mmap(0, 6 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p = all + 4096;
	unsigned long at = (unsigned long)p;
	NEED(mprotect(p, 4 * 4096, PROT_READ | PROT_WRITE) == 0);
	memset(p, 1, 4 * 4096);
	SAME(smaps(at, "Pss"), 16);
	SAME(smaps(at, "Private_Dirty"), 16);
	int go[2];
	NEED(pipe(go) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		char c;
		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	}
	SAME(smaps(at, "Rss"), 16);
	SAME(smaps(at, "Pss"), 8);
	SAME(smaps(at, "Pss_Dirty"), 8);
	SAME(smaps(at, "Shared_Dirty"), 16);
	SAME(smaps(at, "Private_Dirty"), 0);
	SAME(smaps(at, "Anonymous"), 16);
	CHECK(smaps(0, "Pss_Anon") >= 8 && smaps(0, "Rss") >= 16 && smaps(0, "Pss") >= smaps(0, "Pss_Anon"));
	close(go[0]);
	close(go[1]);
	waitpid(pid, 0, 0);
	SAME(smaps(at, "Pss"), 16);
	munmap(all, 6 * 4096);
}

/* What /proc says of core dumps holds: core(5). */
/* A group that was orphaned all the time gets no SIGHUP when a member ends while another is stopped. */
TEST(orphaned_before)
{
	pid_t p = fork();
	int s;
	if (p == 0) {
		setsid();
		pid_t stopped = fork();
		if (stopped == 0)
			for (;;)
				pause();
		kill(stopped, SIGSTOP);
		waitpid(stopped, &s, WUNTRACED);
		pid_t other = fork();
		if (other == 0)
			_exit(0);
		waitpid(other, &s, 0);
		kill(stopped, SIGKILL);
		_exit(5);
	}
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 5 << 8);
}

TEST(core)
{
	char pattern[200], uses[8], dir[] = "/tmp/coreXXXXXX";
	first_line("/proc/sys/kernel/core_pattern", pattern, sizeof pattern);
	first_line("/proc/sys/kernel/core_uses_pid", uses, sizeof uses);
	NEED(mkdtemp(dir));
	pid_t p = fork();
	if (p == 0) {
		struct rlimit l;
		getrlimit(RLIMIT_CORE, &l);
		l.rlim_cur = l.rlim_max;
		if (chdir(dir) || setrlimit(RLIMIT_CORE, &l))
			_exit(1);
		abort();
	}
	int s, none = !pattern[0] && !strcmp(uses, "0"), file = !strcmp(pattern, "core") && !strcmp(uses, "0");
	NEED(waitpid(p, &s, 0) == p);
	CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGABRT);
	char path[40];
	snprintf(path, sizeof path, "%s/core", dir);
	if (none)
		CHECK(!WCOREDUMP(s));
	if (none || file)
		SAME(access(path, F_OK) == 0, WCOREDUMP(s) != 0);
	unlink(path);
	EXPECT(rmdir(dir), 0);
}

static void *wait_for(void *lock)
{
	pthread_mutex_lock(lock);
	return NULL;
}

/* Chromium counts its threads by the links of their directory. */
TEST(links)
{
	struct stat st;
	NEED(!stat("/proc/self/task", &st));
	SAME(st.st_nlink, 3);
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_t t;
	pthread_mutex_lock(&lock);
	NEED(!pthread_create(&t, NULL, wait_for, &lock));
	NEED(!stat("/proc/self/task", &st));
	SAME(st.st_nlink, 4);
	pthread_mutex_unlock(&lock);
	pthread_join(t, NULL);
	NEED(!stat("/proc", &st));
	CHECK(st.st_nlink > 3);
	NEED(!stat("/proc/self/fd", &st));
	SAME(st.st_nlink, 2);
}

/* Crashpad wants a space behind the inode of an area without a name. */
TEST(maps_lines)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[4400];
	int bare = 0, vdso = 0;
	NEED(f);
	while (fgets(line, sizeof line, f)) {
		size_t n = strlen(line);
		bare += n > 4 && !strcmp(line + n - 4, " 0 \n");
		vdso += strstr(line, "[vdso]") && strstr(line, " r-xp ");
		CHECK(strcmp(line + n - 3, " 0\n"));
	}
	CHECK(bare > 0);
	SAME(vdso, 1);
	fclose(f);
}

/* /proc/PID/net shows the process's network namespace, /proc/net that of who looks. */
TEST(net)
{
	char link[20] = "", mine[8192], its[8192];
	SAME(readlink("/proc/net", link, sizeof link - 1), 8);
	CHECK(!strcmp(link, "self/net"));
	int ready[2], s;
	NEED(!pipe(ready));
	pid_t p = fork();
	if (p == 0) {
		char c = unshare(CLONE_NEWNET) ? errno : 0;
		if (write(ready[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	char c = 1;
	SAME(read(ready[0], &c, 1), 1);
	char path[40];
	snprintf(path, sizeof path, "/proc/%d/net/dev", p);
	int a = open("/proc/net/dev", O_RDONLY), b = open(path, O_RDONLY);
	NEED(a >= 0 && b >= 0);
	long n = read(a, mine, sizeof mine), m = read(b, its, sizeof its);
	CHECK(n > 0 && m > 0 && m <= n);
	int lines = 0;
	for (long i = 0; i < m; i++)
		lines += its[i] == '\n';
	if (c == 0)
		SAME(lines, 3); /* two of head, and lo */
	kill(p, SIGKILL);
	waitpid(p, &s, 0);
	close(a);
	close(b);
}

/* map_files has a link to the file of each mapping; only root may follow it. */
TEST(map_files)
{
	char name[] = "/tmp/mapXXXXXX", path[100], link[200] = "", b[4] = "";
	int fd = mkstemp(name), f;
	NEED(fd >= 0 && write(fd, "abc", 3) == 3);
	char *p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0), *q = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != MAP_FAILED && q != MAP_FAILED);
	close(fd);
	snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)p, (long)p + 8192);
	SAME(readlink(path, link, sizeof link - 1), (long)strlen(name));
	CHECK(!strcmp(link, name));
	struct stat st;
	NEED(!lstat(path, &st));
	SAME(st.st_mode, S_IFLNK | 0600);
	f = open(path, O_RDONLY);
	CHECK(f >= 0 && read(f, b, 3) == 3 && !strcmp(b, "abc"));
	close(f);
	snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)p, (long)p + 4096);
	EXPECT(readlink(path, link, sizeof link), ENOENT);
	snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)q, (long)q + 4096);
	EXPECT(readlink(path, link, sizeof link), ENOENT);
	unlink(name);
	munmap(p, 8192);
	munmap(q, 4096);
}

/* has_line counts the lines of a file that show such a lock. */
static int has_line(const char *name, const char *kind, pid_t pid, const char *mode, ino_t ino, const char *range)
{
	char line[512], head[128], tail[128];
	snprintf(head, sizeof head, ": %sADVISORY  %s%d ", kind, mode, pid);
	snprintf(tail, sizeof tail, ":%lu %s\n", (unsigned long)ino, range);
	FILE *f = fopen(name, "r");
	if (!f)
		return -1;
	int n = 0;
	while (fgets(line, sizeof line, f)) {
		char *h = strstr(line, head);
		n += h && strstr(h, tail);
	}
	fclose(f);
	return n;
}

TEST(locks)
{
	char name[64];
	int f = memfd_create("locks", 0), g = dup(f);
	struct stat st;
	NEED(f >= 0 && fstat(f, &st) == 0);
	struct flock own = {.l_type = F_RDLCK, .l_start = 10, .l_len = 5}, file = {.l_type = F_WRLCK, .l_start = 100};
	CHECK(flock(f, LOCK_EX) == 0);
	CHECK(fcntl(f, F_SETLK, &own) == 0);
	CHECK(fcntl(f, F_OFD_SETLK, &file) == 0);
	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", f);
	for (int i = 0; i < 2; i++) {
		const char *from = i ? name : "/proc/locks";
		SAME(has_line(from, "FLOCK  ", getpid(), "WRITE ", st.st_ino, "0 EOF"), 1);
		SAME(has_line(from, "POSIX  ", getpid(), "READ ", st.st_ino, "10 14"), 1);
		SAME(has_line(from, "OFDLCK ", -1, "WRITE ", st.st_ino, "100 EOF"), 1);
	}
	close(g); /* ends the POSIX lock alone */
	SAME(has_line("/proc/locks", "POSIX  ", getpid(), "READ ", st.st_ino, "10 14"), 0);
	SAME(has_line("/proc/locks", "FLOCK  ", getpid(), "WRITE ", st.st_ino, "0 EOF"), 1);
	close(f);
	SAME(has_line("/proc/locks", "FLOCK  ", getpid(), "WRITE ", st.st_ino, "0 EOF"), 0);
}

/* Closing a descriptor that has only the path of a file leaves the locks on it. */
TEST(locks_opath)
{
	char path[] = "/tmp/locksXXXXXX";
	int fd = mkstemp(path), status;
	NEED(fd >= 0);
	struct flock l = {.l_type = F_WRLCK};
	EXPECT(fcntl(fd, F_SETLK, &l), 0);
	close(open(path, O_PATH));
	pid_t p = fork();
	if (p == 0)
		_exit(fcntl(fd, F_SETLK, &l) == -1 && errno == EAGAIN ? 0 : 1);
	waitpid(p, &status, 0);
	SAME(status, 0);
	close(open(path, O_RDONLY));
	p = fork();
	if (p == 0)
		_exit(fcntl(fd, F_SETLK, &l) == 0 ? 0 : 1);
	waitpid(p, &status, 0);
	SAME(status, 0);
	close(fd);
	unlink(path);
}

static long number_in(const char *path, const char *name)
{
	FILE *f = fopen(path, "r");
	char line[400];
	long n = -1;
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, name, strlen(name)) == 0)
			n = atol(line + strlen(name));
	if (f)
		fclose(f);
	return n;
}

/* What pidstat, sar and vmstat count. */
TEST(switches)
{
	long own = number_in("/proc/self/status", "voluntary_ctxt_switches:"), all = number_in("/proc/stat", "ctxt "), faults = number_in("/proc/vmstat", "pgfault ");
	CHECK(number_in("/proc/self/status", "nonvoluntary_ctxt_switches:") >= 0);
	for (int i = 0; i < 20; i++)
		usleep(1000);
	pid_t p = fork();
	if (p == 0) {
		for (int i = 0; i < 20; i++)
			usleep(1000);
		_exit(0);
	}
	waitpid(p, 0, 0);
	CHECK(number_in("/proc/self/status", "voluntary_ctxt_switches:") >= own + 20);
	CHECK(number_in("/proc/stat", "ctxt ") >= all + 40);
	CHECK(number_in("/proc/vmstat", "pgfault ") > faults);
}

/* busy is how many ticks a processor has worked: for programs, for nice ones, and in the kernel. */
static long busy(const char *cpu)
{
	FILE *f = fopen("/proc/stat", "r");
	char line[4096];
	long user, nice, system, sum = -1;
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, cpu, strlen(cpu)) == 0 && sscanf(line + strlen(cpu), "%ld %ld %ld", &user, &nice, &system) == 3)
			sum = user + nice + system;
	if (f)
		fclose(f);
	return sum;
}

/* What a processor does is that one's in /proc/stat, and interrupts come to it. */
TEST(processors)
{
	cpu_set_t all, one;
	char cpu[16], line[4096] = "";
	sched_getaffinity(0, sizeof all, &all);
	int n = CPU_SETSIZE - 1;
	while (!CPU_ISSET(n, &all))
		n--;
	CPU_ZERO(&one);
	CPU_SET(n, &one);
	CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
	snprintf(cpu, sizeof cpu, "cpu%d ", n);
	long before = busy(cpu), interrupts = number_in("/proc/stat", "intr ");
	struct timespec from, t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	do
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	while ((t.tv_sec - from.tv_sec) * 1000000000l + t.tv_nsec - from.tv_nsec < 400000000);
	usleep(50000);
	CHECK(before >= 0 && busy(cpu) - before >= 20);
	CHECK(number_in("/proc/stat", "intr ") > interrupts);
	sched_setaffinity(0, sizeof all, &all);
	FILE *f = fopen("/proc/interrupts", "r");
	NEED(f && fgets(line, sizeof line, f));
	CHECK(strstr(line, "CPU0"));
	while (fgets(line, sizeof line, f) && strncmp(line, "LOC: ", 5))
		;
	CHECK(strstr(line, "Local timer interrupts") && atol(line + 5) > 0);
	fclose(f);
}

/* lsblk wants them, also when there is no device. */
TEST(sys_dev)
{
	CHECK(access("/sys/dev/block", F_OK) == 0 && access("/sys/dev/char", F_OK) == 0);
}

/* Files about a process's memory are about that which it had when they were opened: not about that of a program with more rights. */
TEST(memory_files_and_exec)
{
	static const char *const name[] = {"maps", "smaps", "pagemap", "environ", "mem"};
	enum { N = sizeof name / sizeof *name };
	static int word = 5;
	int fd[N], go[2], st;
	char b[64], path[64];
	NEED(pipe(go) == 0);
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		if (read(go[0], b, 1) == 1 && ptrace(PTRACE_TRACEME, 0, 0, 0) == 0)
			execl("/proc/self/exe", "procmisc", "-l", (char *)0);
		_exit(9);
	}
	for (int i = 0; i < N; i++) {
		snprintf(path, sizeof path, "/proc/%d/%s", pid, name[i]);
		NEED((fd[i] = open(path, i == N - 1 ? O_RDWR : O_RDONLY)) >= 0);
		off_t at = i == N - 1 ? (off_t)&word : 0;
		CHECK(pread(fd[i], b, 64, at) > 0);
		SAME(lseek(fd[i], 0, SEEK_SET), 0);
	}
	SAME(write(go[1], "x", 1), 1);
	SAME(waitpid(pid, &st, 0), pid);
	NEED(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP);
	SAME(pread(fd[N - 1], b, 4, (off_t)&word), 0);
	SAME(pwrite(fd[N - 1], b, 4, (off_t)&word), 0);
	for (int i = 0; i < N - 1; i++)
		SAME(pread(fd[i], b, 64, 0), 0);
	kill(pid, SIGKILL);
	SAME(waitpid(pid, &st, 0), pid);
	for (int i = 0; i < N; i++)
		close(fd[i]);
	close(go[0]);
	close(go[1]);
}
