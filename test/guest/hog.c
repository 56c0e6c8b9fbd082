/*
 * hog.c - takes memory until there is none; the system must survive it.
 *   hog map     mmap and touch a MiB at a time; prints how it ended
 *   hog again   takes what it can three times, giving it back in between
 *   hog threads creates threads until that fails
 *   hog crowd   creates threads until that fails, of whom nothing but memory refuses any, and then takes all memory: all are killed
 *   hog files   fills the root file system until ENOSPC, or ENOMEM
 *   hog bomb    forks for ever, and so do its children; a process that looks on then ends them
 *   hog victim  one process takes all memory and is killed; another keeps what it has; before both, one is that asks for it
 *   hog objects [FROM [TO]] what the kernel holds for a program, of each kind until there may be no more: an error, not the machine's end, and
 *               another process has what it had
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ul << 20)
static char *taken[1 << 16];

static int take(void)
{
	int n = 0;
	while (n < (int)(sizeof taken / sizeof *taken)) {
		char *p = mmap(0, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (p == MAP_FAILED)
			break;
		for (size_t o = 0; o < MIB; o += 4096)
			p[o] = (char)n;
		taken[n++] = p;
	}
	return n;
}

static void give(int n)
{
	for (int i = 0; i < n; i++) {
		for (size_t o = 0; o < MIB; o += 4096)
			if (taken[i][o] != (char)i) {
				printf("memory changed\n");
				exit(1);
			}
		munmap(taken[i], MIB);
	}
}

static void *wait_for_ever(void *v)
{
	for (;;)
		pause();
	return v;
}

/* Creates threads until that fails with the error that it returns, and says in n how many. */
static int create(int *n)
{
	pthread_attr_t a;
	pthread_t t;
	int e = 0;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 65536);
	for (*n = 0; *n < 100000 && !(e = pthread_create(&t, &a, wait_for_ever, 0)); ++*n)
		;
	return e;
}

static int crowd(void)
{
	int status, n;
	int fd = open("/proc/sys/kernel/threads-max", O_WRONLY);
	if (write(fd, "30000\n", 6) != 6)
		return 1;
	pid_t pid = fork();
	if (pid == 0) {
		create(&n);
		for (;;) {
			char *p = mmap(0, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
			if (p == MAP_FAILED)
				_exit(1);
			memset(p, 1, MIB);
		}
	}
	waitpid(pid, &status, 0);
	printf("ended with %#x\nalive\n", status);
	return !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) && status != 1 << 8;
}

static int bomb(void)
{
	int *refused = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t first = fork();
	if (first == 0) {
		setpgid(0, 0);
		for (;;)
			if (fork() < 0) {
				__atomic_add_fetch(refused, 1, __ATOMIC_RELAXED);
				sleep(1);
			}
	}
	for (int i = 0; i < 200 && __atomic_load_n(refused, __ATOMIC_RELAXED) < 20; i++)
		usleep(50000);
	int reached = *refused >= 20, ended = 0;
	for (int i = 0; i < 2000 && !ended; i++) {
		ended = kill(-first, SIGKILL) < 0 && errno == ESRCH;
		while (waitpid(-1, 0, WNOHANG) > 0)
			;
		usleep(1000);
	}
	pid_t pid = fork(); /* there is room again */
	if (pid == 0)
		_exit(0);
	printf("%s, %s\nalive\n", reached ? "refused" : "not refused", ended ? "ended" : "not ended");
	return pid < 0 || !ended;
}

static int victim(void)
{
	int status, n = 0;
	for (; n < 4; n++) {
		char *p = mmap(0, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (size_t o = 0; o < MIB; o += 4096)
			p[o] = (char)n;
		taken[n] = p;
	}
	pid_t volunteer = fork();
	if (volunteer == 0) {
		int fd = open("/proc/self/oom_score_adj", O_WRONLY);
		if (write(fd, "1000", 4) != 4)
			_exit(1);
		for (;;)
			pause();
	}
	usleep(300000);
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();
		if (pid == 0)
			for (;;) { /* without MAP_POPULATE: the faults find no memory */
				char *p = mmap(0, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
				if (p == MAP_FAILED)
					_exit(1);
				memset(p, 1, MIB);
			}
		waitpid(pid, &status, 0);
		if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) && status != 1 << 8) {
			printf("the hog ended with %#x\n", status);
			return 1;
		}
		if (i == 0 && (waitpid(volunteer, &status, WNOHANG) != volunteer || !WIFSIGNALED(status))) {
			printf("who should go first lives\n");
			return 1;
		}
	}
	give(n);
	printf("alive\n");
	return 0;
}

/* Each makes one more of something that only the kernel holds, and returns 0 when there may be no more. */
static int one_eventfd(void) { return eventfd(0, 0) >= 0; }
static int one_epoll(void) { return epoll_create1(0) >= 0; }
static int one_timerfd(void) { return timerfd_create(CLOCK_MONOTONIC, 0) >= 0; }
static int one_pipe(void) { int p[2]; return pipe(p) == 0; }
static int one_pair(void) { int p[2]; return socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0; }
static int one_dir(void) { return mkdir("d", 0700) == 0 && chdir("d") == 0; }
static int one_pty(void)
{
	static char b[4000];
	int f = open("/dev/ptmx", O_RDWR | O_NONBLOCK), zero = 0;
	return f >= 0 && ioctl(f, TIOCSPTLCK, &zero) == 0 && write(f, b, sizeof b) > 0;
}
static int one_flight(void)
{
	static int p[2];
	static int left;
	char control[CMSG_SPACE(253 * sizeof(int))] = {0};
	struct iovec iov = {"x", 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (left-- == 0) {
		left = 100;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) < 0)
			return 0;
	}
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(253 * sizeof(int));
	for (int i = 0; i < 253; i++)
		((int *)CMSG_DATA(c))[i] = p[0];
	return sendmsg(p[1], &m, 0) >= 0;
}

static char filler[65536];

/* Fills what fd leads to. */
static int fill(int fd)
{
	while (write(fd, filler, sizeof filler) > 0)
		;
	return fd >= 0;
}
static int one_full_pair(void) { int p[2]; return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) == 0 && fill(p[1]); }
static int one_full_pipe(void) { int p[2]; return pipe2(p, O_NONBLOCK) == 0 && fill(p[1]); }
static int one_full_udp(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t l = sizeof a;
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (s < 0 || bind(s, (void *)&a, l) < 0 || getsockname(s, (void *)&a, &l) < 0 || connect(s, (void *)&a, l) < 0)
		return 0;
	for (int i = 0; i < 20; i++)
		send(s, filler, 60000, 0);
	return 1;
}
static int one_full_tcp(void)
{
	static int listener = -1;
	static struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t l = sizeof a;
	if (listener < 0) {
		a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		listener = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(listener, (void *)&a, l) < 0 || listen(listener, 10) < 0 || getsockname(listener, (void *)&a, &l) < 0)
			return 0;
	}
	int s = socket(AF_INET, SOCK_STREAM, 0);
	if (s < 0 || connect(s, (void *)&a, l) < 0 || fcntl(s, F_SETFL, O_NONBLOCK) < 0 || accept(listener, 0, 0) < 0)
		return 0;
	return fill(s);
}
static int one_message(void)
{
	struct { long type; char text[8192]; } m = {1};
	int q = msgget(IPC_PRIVATE, 0600);
	while (q >= 0 && msgsnd(q, &m, sizeof m.text, IPC_NOWAIT) == 0)
		;
	return q >= 0;
}
static int one_posix_message(void)
{
	static int n;
	char name[16];
	struct mq_attr a = {.mq_maxmsg = 10, .mq_msgsize = 8192};
	struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY};
	snprintf(name, sizeof name, "/q%d", n++);
	setrlimit(RLIMIT_MSGQUEUE, &r);
	mqd_t q = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &a);
	while (q >= 0 && mq_send(q, filler, 8192, 0) == 0)
		;
	return q >= 0;
}
static int one_sem(void) { return semget(IPC_PRIVATE, 1000, 0600) >= 0; }
static int one_interest(void)
{
	static int ep, ev;
	struct epoll_event e = {.events = EPOLLIN};
	if (ep == 0)
		ep = epoll_create1(0), ev = eventfd(0, 0);
	int fd = dup(ev);
	return fd >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0;
}
static int one_name(void)
{
	static int n;
	char name[300];
	if (n == 0)
		close(creat("f", 0600));
	snprintf(name, sizeof name, "%0250d", n++);
	return link("f", name) == 0;
}
static int one_watch(void)
{
	static int f, n;
	char name[16];
	if (n == 0)
		f = inotify_init();
	snprintf(name, sizeof name, "%d", n++);
	return mkdir(name, 0700) == 0 && inotify_add_watch(f, name, IN_ALL_EVENTS) >= 0;
}
static int one_xattr(void)
{
	static int n;
	char name[16];
	snprintf(name, sizeof name, "%d", n++);
	return mkdir(name, 0700) == 0 && setxattr(name, "user.x", filler, 60000, 0) == 0;
}
static int one_lock(void)
{
	static int f;
	static long n;
	if (n == 0)
		f = open("l", O_CREAT | O_RDWR, 0600);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2 * n++, .l_len = 1};
	return fcntl(f, F_SETLK, &l) == 0;
}
static int one_memfd(void)
{
	int f = memfd_create("x", 0);
	long n = f < 0 ? -1 : write(f, filler, sizeof filler);
	if (n >= 0 && n < (long)sizeof filler)
		errno = ENOSPC;
	return n == sizeof filler;
}
static int one_tmpfs(void)
{
	static int n;
	char name[16];
	snprintf(name, sizeof name, "%d", n++);
	if (mkdir(name, 0700) < 0 || mount("x", name, "tmpfs", 0, "") < 0 || chdir(name) < 0)
		return 0;
	int f = creat("f", 0600);
	for (int i = 0; i < 16; i++) {
		long n = write(f, filler, sizeof filler);
		if (n >= 0 && n < (long)sizeof filler)
			errno = ENOSPC;
		if (n != sizeof filler)
			return 0;
	}
	return close(f) == 0;
}
static int one_segment(void)
{
	int i = shmget(IPC_PRIVATE, MIB, 0600 | IPC_CREAT);
	char *p = i < 0 ? (char *)-1 : shmat(i, 0, 0);
	return p != (char *)-1 && memset(p, 1, MIB) && shmdt(p) == 0;
}
static int one_timer(void)
{
	struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY};
	struct sigevent s = {.sigev_notify = SIGEV_NONE};
	timer_t t;
	setrlimit(RLIMIT_SIGPENDING, &r);
	return timer_create(CLOCK_MONOTONIC, &s, &t) == 0;
}
static int one_network(void)
{
	return unshare(CLONE_NEWNET) == 0 && open("/proc/self/ns/net", O_RDONLY) >= 0;
}

/* Sends a fragment of a datagram to this machine: n bytes from off on, with more behind them or not. */
static int fragment(int raw, unsigned id, const void *data, int n, int off, int more)
{
	static unsigned char p[65535];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	unsigned short *w = (unsigned short *)p;
	w[0] = htons(0x4500), w[1] = htons(20 + n), w[2] = htons(id), w[3] = htons((more ? 0x2000 : 0) | off / 8), w[4] = htons(64 << 8 | IPPROTO_UDP);
	w[5] = 0, w[6] = w[8] = htons(0x7f00), w[7] = w[9] = htons(1);
	memcpy(p + 20, data, n);
	return sendto(raw, p, 20 + n, 0, (void *)&to, sizeof to) == 20 + n;
}
/* A network whose datagrams never become whole, behind one that does. */
static int one_network_of_fragments(void)
{
	if (unshare(CLONE_NEWNET) < 0 || open("/proc/self/ns/net", O_RDONLY) < 0)
		return 0;
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(7)};
	int s = socket(AF_INET, SOCK_DGRAM, 0), raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	struct timeval patience = {60, 0};
	unsigned short d[12] = {htons(7), htons(7), htons(24), 0, 1, 2, 3, 4, 5, 6, 7, 8}, got[8] = {0};
	if (ioctl(s, SIOCSIFFLAGS, &r) < 0 || bind(s, (void *)&a, sizeof a) < 0 || setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
	    !fragment(raw, 1, d + 8, 8, 16, 0) || !fragment(raw, 1, d, 16, 0, 1) || recv(s, got, sizeof got, 0) != 16 || memcmp(got, d + 4, 16) != 0) {
		printf("fragments: %s\n", strerror(errno));
		errno = EIO;
		return 0;
	}
	close(s);
	for (int i = 2; i < 70; i++)
		fragment(raw, i, filler, 60000, 0, 1);
	return close(raw) == 0;
}

static const struct {
	const char *name;
	int (*one)(void);
	int error; /* below 0: a signal */
} kinds[] = {
	{"eventfd", one_eventfd, ENFILE}, {"epoll", one_epoll, ENFILE}, {"timerfd", one_timerfd, ENFILE}, {"pipe", one_pipe, ENFILE},
	{"socketpair", one_pair, ENFILE}, {"mkdir", one_dir, ENOSPC}, {"pty", one_pty, ENOSPC}, {"in flight", one_flight, ETOOMANYREFS},
	{"full socketpair", one_full_pair, ENFILE}, {"udp", one_full_udp, ENOBUFS}, {"tcp", one_full_tcp, ENOBUFS},
	{"System V message", one_message, ENOSPC}, {"POSIX message", one_posix_message, ENOSPC}, {"semaphore", one_sem, ENOSPC},
	{"interest", one_interest, ENOSPC}, {"name", one_name, ENOSPC}, {"watch", one_watch, ENOSPC}, {"xattr", one_xattr, ENOSPC},
	{"lock", one_lock, ENOLCK}, {"memfd", one_memfd, ENOSPC}, {"tmpfs", one_tmpfs, ENOSPC}, {"segment", one_segment, -SIGBUS},
	{"timer", one_timer, EAGAIN}, {"network", one_network, ENOSPC}, {"full pipe", one_full_pipe, ENFILE},
	{"fragment", one_network_of_fragments, ENOSPC},
};
static const int nkinds = sizeof kinds / sizeof *kinds;

/* Another process, which keeps its memory and says so when it is asked. */
static int ask[2], answer[2];
static void witness(void)
{
	char c, *p = malloc(MIB);
	memset(p, 5, MIB);
	while (read(ask[0], &c, 1) == 1) {
		for (unsigned long i = 0; i < MIB; i++)
			c += p[i] != 5;
		write(answer[1], &c, 1);
	}
	_exit(0);
}

/* What the kernel holds for a program ends with an error, or the program's end, for each kind; then there is room for others. */
static int objects(int from, int to)
{
	if (pipe(ask) < 0 || pipe(answer) < 0)
		return 1;
	pid_t other = fork();
	if (other == 0)
		witness();
	for (int i = from; i < to && i < nkinds; i++) {
		pid_t pid = fork();
		int status;
		if (pid == 0) {
			struct rlimit r = {1 << 20, 1 << 20};
			long n = 0;
			setrlimit(RLIMIT_NOFILE, &r);
			if (unshare(CLONE_NEWIPC | CLONE_NEWNS) < 0 || mount("tmp", "/tmp", "tmpfs", 0, "size=100%") < 0)
				printf("unshare, mount: %s\n", strerror(errno));
			chdir("/tmp");
			while (n < 3000000 && kinds[i].one())
				n++;
			if (errno != kinds[i].error)
				printf("%s: %ld, then %s\n", kinds[i].name, n, strerror(errno));
			_exit(errno != kinds[i].error);
		}
		waitpid(pid, &status, 0);
		if (status != 0 && status != SIGKILL && status != -kinds[i].error) {
			printf("%s: ended with %#x\n", kinds[i].name, status);
			return 1;
		}
		char c = 'a';
		if (write(ask[1], &c, 1) != 1 || read(answer[0], &c, 1) != 1 || c != 'a') {
			printf("%s: another process lost what it had\n", kinds[i].name);
			return 1;
		}
	}
	kill(other, SIGKILL);
	printf("alive\n");
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "map";
	setvbuf(stdout, 0, _IOLBF, 0);
	if (!strcmp(what, "map")) {
		int n = take();
		printf("mmap: %s\n", strerror(errno));
		give(n);
		printf("alive\n");
		return n < 4;
	}
	if (!strcmp(what, "again")) {
		int first = take();
		give(first);
		for (int i = 0; i < 3; i++) {
			int n = take();
			give(n);
			/* Freed memory really returns. */
			if (n < first - first / 10 - 2) {
				printf("round %d: %d MiB, first %d\n", i, n, first);
				return 1;
			}
		}
		printf("alive\n");
		return 0;
	}
	if (!strcmp(what, "threads")) {
		int n, e = create(&n);
		printf("pthread_create: %s after %d\nalive\n", strerror(e), n);
		return n < 20;
	}
	if (!strcmp(what, "crowd"))
		return crowd();
	if (!strcmp(what, "bomb"))
		return bomb();
	if (!strcmp(what, "objects"))
		return objects(argc > 2 ? atoi(argv[2]) : 0, argc > 3 ? atoi(argv[3]) : nkinds);
	if (!strcmp(what, "victim"))
		return victim();
	if (!strcmp(what, "files")) {
		static char b[65536];
		int fd = open("/tmp/hog", O_RDWR | O_CREAT | O_TRUNC, 0600);
		memset(b, 7, sizeof b);
		long n = 0;
		while (n < 1 << 20 && write(fd, b, sizeof b) == sizeof b)
			n++;
		int e = errno;
		printf("write: %s\n", e == ENOSPC || e == ENOMEM ? "no room" : strerror(e));
		close(fd);
		unlink("/tmp/hog");
		fd = open("/tmp/hog2", O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (fd < 0 || write(fd, b, 4096) != 4096)
			printf("no room after unlink: %s\n", strerror(errno));
		unlink("/tmp/hog2");
		printf("alive\n");
		return n < 16;
	}
	return 2;
}
