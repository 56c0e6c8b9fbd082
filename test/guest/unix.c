/* unix.c - sockets of AF_UNIX (unix(7)). */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#define SUN(n) ((struct sockaddr *)&(n))

static struct sockaddr_un name(const char *s)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof a.sun_path, "/tmp/gosv-%d-%s", (int)getpid(), s);
	unlink(a.sun_path);
	return a;
}

static int ready(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
	if (poll(&p, 1, 0) < 0)
		return -1;
	return p.revents;
}

TEST(pair)
{
	int s[2];
	char b[16] = "";
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	SAME(ready(s[0]), POLLOUT);
	SAME(write(s[0], "hello", 5), 5);
	SAME(ready(s[1]), POLLIN | POLLOUT);
	int n = 0;
	CHECK(ioctl(s[1], FIONREAD, &n) == 0);
	SAME(n, 5);
	SAME(recv(s[1], b, 2, MSG_PEEK), 2);
	SAME(read(s[1], b, 16), 5);
	CHECK(memcmp(b, "hello", 5) == 0);
	EXPECT(recv(s[1], b, 16, MSG_DONTWAIT), EAGAIN);
	struct stat st;
	CHECK(fstat(s[0], &st) == 0 && st.st_mode == (S_IFSOCK | 0777));
	EXPECT(lseek(s[0], 0, SEEK_SET), ESPIPE);
	char link[64], want[64];
	snprintf(want, sizeof want, "/proc/self/fd/%d", s[0]);
	n = readlink(want, link, sizeof link - 1);
	link[n > 0 ? n : 0] = 0;
	snprintf(want, sizeof want, "socket:[%lu]", (unsigned long)st.st_ino);
	CHECK(strcmp(link, want) == 0);
	close(s[1]);
	SAME(ready(s[0]), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	SAME(read(s[0], b, 16), 0);
	signal(SIGPIPE, SIG_IGN);
	EXPECT(write(s[0], "x", 1), EPIPE);
	signal(SIGPIPE, SIG_DFL);
	EXPECT(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	close(s[0]);
}

TEST(sigpipe)
{
	pid_t c = fork();
	if (c == 0) {
		int s[2];
		socketpair(AF_UNIX, SOCK_STREAM, 0, s);
		close(s[1]);
		write(s[0], "x", 1);
		_exit(1);
	}
	int st;
	waitpid(c, &st, 0);
	SAME(WIFSIGNALED(st) ? WTERMSIG(st) : 0, SIGPIPE);
}

TEST(listener)
{
	struct sockaddr_un a = name("listener"), b;
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	SAME(ready(l), POLLOUT | POLLHUP);
	EXPECT(listen(l, 3), EINVAL);
	EXPECT(connect(c, SUN(a), sizeof a), ENOENT);
	NEED(bind(l, SUN(a), sizeof a) == 0);
	EXPECT(bind(l, SUN(a), sizeof a), EADDRINUSE);
	EXPECT(bind(c, SUN(a), sizeof a), EADDRINUSE);
	EXPECT(connect(c, SUN(a), sizeof a), ECONNREFUSED);
	EXPECT(accept(l, 0, 0), EINVAL);
	NEED(listen(l, 1) == 0);
	SAME(ready(l), 0);
	NEED(connect(c, SUN(a), sizeof a) == 0);
	EXPECT(connect(c, SUN(a), sizeof a), EISCONN);
	SAME(ready(l), POLLIN);
	SAME(write(c, "early", 5), 5);
	socklen_t len = sizeof b;
	int s = accept(l, SUN(b), &len);
	NEED(s >= 0);
	SAME(len, 2);
	SAME(b.sun_family, AF_UNIX);
	len = sizeof b;
	NEED(getpeername(c, SUN(b), &len) == 0);
	SAME(len, offsetof(struct sockaddr_un, sun_path) + strlen(a.sun_path) + 1);
	CHECK(strcmp(a.sun_path, b.sun_path) == 0);
	len = sizeof b;
	NEED(getsockname(s, SUN(b), &len) == 0);
	CHECK(strcmp(a.sun_path, b.sun_path) == 0);
	struct ucred u;
	len = sizeof u;
	NEED(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0);
	SAME(u.pid, getpid());
	SAME(u.uid, geteuid());
	char buf[8];
	SAME(read(s, buf, 8), 5);
	int on = -1;
	len = sizeof on;
	NEED(getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0);
	SAME(on, 1);
	/* the backlog: one more than was asked for */
	int w[3];
	for (int i = 0; i < 3; i++) {
		w[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		EXPECT(connect(w[i], SUN(a), sizeof a), i < 2 ? 0 : EAGAIN);
	}
	close(l);
	SAME(ready(w[0]), POLLIN | POLLOUT | POLLRDHUP | POLLHUP | POLLERR);
	EXPECT(read(w[0], buf, 8), ECONNRESET);
	SAME(read(w[0], buf, 8), 0);
	for (int i = 0; i < 3; i++)
		close(w[i]);
	struct stat st;
	CHECK(stat(a.sun_path, &st) == 0 && S_ISSOCK(st.st_mode));
	EXPECT(open(a.sun_path, O_RDWR), ENXIO);
	unlink(a.sun_path);
	close(s);
	close(c);
}

TEST(blocking_accept_and_connect)
{
	struct sockaddr_un a = name("block");
	int l = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(bind(l, SUN(a), sizeof a) == 0 && listen(l, 0) == 0);
	pid_t p = fork();
	if (p == 0) {
		for (int i = 0; i < 20; i++) {
			int c = socket(AF_UNIX, SOCK_STREAM, 0);
			if (connect(c, SUN(a), sizeof a) < 0)
				_exit(2);
			char ch = i;
			if (write(c, &ch, 1) != 1 || read(c, &ch, 1) != 1 || ch != i + 1)
				_exit(3);
			close(c);
		}
		_exit(0);
	}
	for (int i = 0; i < 20; i++) {
		int s = accept(l, 0, 0);
		char ch;
		NEED(s >= 0);
		SAME(read(s, &ch, 1), 1);
		ch++;
		SAME(write(s, &ch, 1), 1);
		SAME(read(s, &ch, 1), 0);
		close(s);
	}
	int st;
	waitpid(p, &st, 0);
	SAME(st, 0);
	unlink(a.sun_path);
	close(l);
}

TEST(dgram)
{
	struct sockaddr_un a = name("dgram"), b = {.sun_family = AF_UNIX}, from;
	int s = socket(AF_UNIX, SOCK_DGRAM, 0), c = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	char buf[16];
	NEED(bind(s, SUN(a), sizeof a) == 0);
	EXPECT(send(c, "x", 1, 0), ENOTCONN);
	EXPECT(listen(s, 1), EOPNOTSUPP);
	EXPECT(accept(s, 0, 0), EOPNOTSUPP);
	SAME(sendto(c, "abcdef", 6, 0, SUN(a), sizeof a), 6);
	socklen_t len = sizeof from;
	SAME(recvfrom(s, buf, 3, MSG_TRUNC, SUN(from), &len), 6);
	SAME(len, 0);
	NEED(bind(c, SUN(b), sizeof(sa_family_t)) == 0);	/* a name of its own */
	SAME(sendto(c, "", 0, 0, SUN(a), sizeof a), 0);
	len = sizeof from;
	SAME(recvfrom(s, buf, 16, 0, SUN(from), &len), 0);
	SAME(len, 8);
	SAME(from.sun_path[0], 0);
	NEED(connect(s, SUN(from), len) == 0);	/* s takes from c only */
	int d = socket(AF_UNIX, SOCK_DGRAM, 0);
	EXPECT(sendto(d, "x", 1, 0, SUN(a), sizeof a), EPERM);
	SAME(ready(s), POLLOUT);
	close(c);
	EXPECT(send(s, "x", 1, 0), ECONNREFUSED);
	EXPECT(send(s, "x", 1, 0), ENOTCONN);
	/* how many fit */
	int n = 0;
	NEED(connect(d, SUN(a), sizeof a) == 0);
	while (send(d, "x", 1, MSG_DONTWAIT) == 1)
		n++;
	SAME(errno, EAGAIN);
	int most = 10;
	int f = open("/proc/sys/net/unix/max_dgram_qlen", O_RDONLY);
	if (f >= 0 && (len = read(f, buf, 15)) > 0) {
		buf[len] = 0;
		most = atoi(buf);
	}
	close(f);
	if (most < 100) {
		SAME(n, most + 1);
		SAME(ready(d), 0);
		SAME(read(s, buf, 16), 1);
		SAME(ready(d), POLLOUT);
	}
	close(s);
	close(d);
	unlink(a.sun_path);
}

TEST(seqpacket)
{
	int s[2];
	char b[8];
	NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s) == 0);
	SAME(write(s[0], "abcdef", 6), 6);
	SAME(write(s[0], "gh", 2), 2);
	struct iovec v = {b, 4};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	SAME(recvmsg(s[1], &m, 0), 4);
	SAME(m.msg_flags & MSG_TRUNC, MSG_TRUNC);
	SAME(read(s[1], b, 8), 2);
	close(s[0]);
	SAME(read(s[1], b, 8), 0);
	SAME(ready(s[1]), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	close(s[1]);
}

/* How much a sender may have under way, and what poll says meanwhile. */
TEST(buffers)
{
	static char b[100000];
	int sizes[] = {1, 100, 1000, 4096, 20000, 100000};
	long want[] = {278, 278, 139 * 1000, 0, 0, 0};
	for (unsigned i = 0; i < 6; i++) {
		int s[2], n, r;
		NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) == 0);
		long total = 0;
		while ((r = write(s[0], b, sizes[i])) > 0)
			total += r;
		if (i == 0)
			SAME(total, want[i]);
		CHECK(total < 250000);
		SAME(ready(s[0]), 0);
		CHECK(ioctl(s[0], TIOCOUTQ, &n) == 0 && n >= 212992 && n < 300000);
		while ((r = read(s[1], b, sizeof b)) > 0)
			total -= r;
		SAME(total, 0);
		SAME(ready(s[0]), POLLOUT);
		CHECK(ioctl(s[0], TIOCOUTQ, &n) == 0 && n == 0);
		close(s[0]);
		close(s[1]);
	}
}

TEST(shutdown_halves)
{
	int s[2];
	char b[8];
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	EXPECT(shutdown(s[0], 3), EINVAL);
	SAME(write(s[0], "abc", 3), 3);
	NEED(shutdown(s[0], SHUT_WR) == 0);
	SAME(ready(s[0]), POLLOUT);
	SAME(ready(s[1]), POLLIN | POLLOUT | POLLRDHUP);
	EXPECT(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	SAME(read(s[1], b, 8), 3);
	SAME(read(s[1], b, 8), 0);
	SAME(write(s[1], "de", 2), 2);
	SAME(read(s[0], b, 8), 2);
	NEED(shutdown(s[1], SHUT_WR) == 0);
	SAME(ready(s[0]), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
	close(s[0]);
	close(s[1]);
}

TEST(timeouts)
{
	int s[2];
	char b[8];
	struct timeval tv = {0, 50000};
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	NEED(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
	u64 t = now_ns(CLOCK_MONOTONIC);
	EXPECT(read(s[0], b, 8), EAGAIN);
	CHECK(now_ns(CLOCK_MONOTONIC) - t >= 40000000);
	tv.tv_usec = 1000000;
	EXPECT(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), EDOM);
	close(s[0]);
	close(s[1]);
}

TEST(waitall)
{
	int s[2];
	char b[8] = "";
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	pid_t c = fork();
	if (c == 0) {
		for (int i = 0; i < 4; i++) {
			write(s[0], "abcd" + i, 1);
			sleep_ms(10);
		}
		_exit(0);
	}
	SAME(recv(s[1], b, 4, MSG_WAITALL), 4);
	CHECK(memcmp(b, "abcd", 4) == 0);
	waitpid(c, 0, 0);
	close(s[0]);
	SAME(recv(s[1], b, 4, MSG_WAITALL), 0);
	close(s[1]);
}

TEST(abstract)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int n = snprintf(a.sun_path + 1, 50, "gosv-test-%d", (int)getpid()) + 3;
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(bind(l, SUN(a), n) == 0 && listen(l, 1) == 0);
	EXPECT(connect(c, SUN(a), n + 1), ECONNREFUSED);
	EXPECT(bind(c, SUN(a), n), EADDRINUSE);
	NEED(connect(c, SUN(a), n) == 0);
	close(l);
	int d = socket(AF_UNIX, SOCK_STREAM, 0);
	EXPECT(connect(d, SUN(a), n), ECONNREFUSED);
	NEED(bind(d, SUN(a), n) == 0);
	close(c);
	close(d);
}

TEST(mmsg_and_sendfile)
{
	int s[2];
	char b[4][8];
	struct iovec v[4];
	struct mmsghdr m[4];
	memset(m, 0, sizeof m);
	memset(b, 'x', sizeof b);
	for (int i = 0; i < 4; i++) {
		v[i] = (struct iovec){b[i], (size_t)i + 1};
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
	SAME(sendmmsg(s[0], m, 3, 0), 3);
	SAME(m[2].msg_len, 3);
	for (int i = 0; i < 4; i++)
		v[i].iov_len = 8;
	SAME(recvmmsg(s[1], m, 4, MSG_WAITFORONE, 0), 3);
	SAME(m[1].msg_len, 2);
	close(s[0]);
	close(s[1]);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	int f = open("/proc/self/exe", O_RDONLY);
	off_t off = 1;
	SAME(sendfile(s[0], f, &off, 3), 3);
	SAME(read(s[1], b, 8), 3);
	CHECK(memcmp(b, "ELF", 3) == 0);
	int p[2];
	NEED(pipe(p) == 0);
	SAME(write(p[1], "spliced", 7), 7);
	SAME(splice(p[0], 0, s[0], 0, 7, 0), 7);
	SAME(splice(s[1], 0, p[1], 0, 100, 0), 7);
	SAME(read(p[0], b, 8), 7);
	close(f);
	close(p[0]);
	close(p[1]);
	close(s[0]);
	close(s[1]);
}

TEST(errors)
{
	int s = socket(AF_UNIX, SOCK_STREAM, 0), p[2];
	struct sockaddr_un a = name("errors");
	socklen_t *bad = (void *)1;
	EXPECT(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT);
	EXPECT(socket(AF_UNIX, SOCK_STREAM, 7), EPROTONOSUPPORT);
	EXPECT(socket(77, SOCK_STREAM, 0), EAFNOSUPPORT);
	EXPECT(socket(AF_UNIX, 99, 0), EINVAL);
	EXPECT(bind(s, SUN(a), 1), EINVAL);
	EXPECT(bind(s, SUN(a), 200), EINVAL);
	EXPECT(read(s, p, 1), EINVAL);
	EXPECT(write(s, p, 1), ENOTCONN);
	EXPECT(connect(s, (void *)1, 10), EFAULT);
	EXPECT(getpeername(s, SUN(a), (void *)1), ENOTCONN);
	EXPECT(shutdown(s, SHUT_RDWR), 0);
	EXPECT(getsockopt(s, SOL_SOCKET, 9999, 0, bad), EFAULT);
	EXPECT(setsockopt(s, SOL_SOCKET, 9999, p, 8), ENOPROTOOPT);
	NEED(pipe(p) == 0);
	EXPECT(listen(p[0], 1), ENOTSOCK);
	EXPECT(recv(p[0], p, 1, 0), ENOTSOCK);
	EXPECT(listen(999, 1), EBADF);
	close(p[0]);
	close(p[1]);
	close(s);
}

/* A connection for which there is no descriptor waits on. */
TEST(accept_without_descriptors)
{
	struct sockaddr_un a = name("emfile");
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	struct rlimit old, few;
	NEED(bind(l, SUN(a), sizeof a) == 0 && listen(l, 1) == 0 && connect(c, SUN(a), sizeof a) == 0);
	NEED(getrlimit(RLIMIT_NOFILE, &old) == 0);
	few = old;
	few.rlim_cur = 3;
	NEED(setrlimit(RLIMIT_NOFILE, &few) == 0);
	EXPECT(accept(l, 0, 0), EMFILE);
	NEED(setrlimit(RLIMIT_NOFILE, &old) == 0);
	int s = accept(l, 0, 0);
	CHECK(s >= 0);
	SAME(write(c, "x", 1), 1);
	close(s);
	close(c);
	close(l);
	unlink(a.sun_path);
}

static volatile int io_signals, io_fd, io_band;

static void on_io(int sig, siginfo_t *i, void *u)
{
	(void)u;
	io_signals++;
	if (sig != SIGIO) {
		io_fd = i->si_fd;
		io_band = (int)i->si_band;
	}
}

/* fcntl(2): O_ASYNC, F_SETOWN, F_SETSIG. */
TEST(async_io)
{
	int s[2], on = 1;
	struct sigaction a = {.sa_sigaction = on_io, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigaction(SIGIO, &a, 0);
	sigaction(SIGRTMIN, &a, 0);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	NEED(ioctl(s[1], FIOASYNC, &on) == 0);
	SAME(fcntl(s[1], F_GETFL) & O_ASYNC, O_ASYNC);
	NEED(fcntl(s[1], F_SETOWN, getpid()) == 0);
	SAME(fcntl(s[1], F_GETOWN), getpid());
	SAME(write(s[0], "x", 1), 1);
	for (int i = 0; i < 500 && io_signals == 0; i++)
		sleep_ms(10);
	SAME(io_signals, 1);
	NEED(fcntl(s[1], F_SETSIG, SIGRTMIN) == 0);
	SAME(write(s[0], "x", 1), 1);
	for (int i = 0; i < 500 && io_signals == 1; i++)
		sleep_ms(10);
	SAME(io_signals, 2);
	SAME(io_fd, s[1]);
	CHECK(io_band & POLLIN);
	NEED(fcntl(s[1], F_SETFL, 0) == 0);
	SAME(write(s[0], "x", 1), 1);
	sleep_ms(50);
	SAME(io_signals, 2);
	int f = open("/proc/self/exe", O_RDONLY);
	EXPECT(ioctl(f, FIOASYNC, &on), ENOTTY);
	close(f);
	close(s[0]);
	close(s[1]);
}
