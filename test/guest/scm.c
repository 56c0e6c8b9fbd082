/* scm.c - ancillary data of AF_UNIX sockets: files and credentials (unix(7), cmsg(3)). */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static long send_fds(int s, const int *fds, int n, int flags)
{
	char b[4096] = "", data = 'x';
	struct iovec v = {&data, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = b, .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)n);
	return sendmsg(s, &m, flags);
}

/* Returns how many descriptors came, msg_flags in *out. */
static int recv_fds(int s, int *fds, size_t room, int flags, int *out)
{
	char b[4096], data[64];
	struct iovec v = {data, sizeof data};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = b, .msg_controllen = room};
	if (recvmsg(s, &m, flags) < 0)
		return -1;
	if (out)
		*out = m.msg_flags;
	int n = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
		}
	return n;
}

TEST(rights)
{
	int s[2], p[2], got[8], flags;
	char b[4];
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0);
	SAME(send_fds(s[0], p, 2, 0), 1);
	close(p[0]);
	close(p[1]);
	SAME(recv_fds(s[1], got, 256, MSG_CMSG_CLOEXEC, &flags), 2);
	SAME(flags & ~MSG_CMSG_CLOEXEC, 0);
	SAME(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	SAME(write(got[1], "hi", 2), 2);
	SAME(read(got[0], b, 4), 2);
	/* room for one only */
	SAME(send_fds(s[0], got, 2, 0), 1);
	int one[8];
	SAME(recv_fds(s[1], one, CMSG_LEN(sizeof(int)), 0, &flags), 1);
	SAME(flags, MSG_CTRUNC);
	SAME(fcntl(one[0], F_GETFD), 0);
	close(one[0]);
	/* none at all */
	SAME(send_fds(s[0], got, 2, 0), 1);
	SAME(recv_fds(s[1], one, 0, 0, &flags), 0);
	SAME(flags, MSG_CTRUNC);
	/* read(2) drops them */
	SAME(send_fds(s[0], got, 2, 0), 1);
	SAME(read(s[1], b, 4), 1);
	/* a read stops behind a message with files */
	SAME(send_fds(s[0], got, 1, 0), 1);
	SAME(write(s[0], "abc", 3), 3);
	SAME(recv(s[1], b, 4, 0), 1);
	SAME(recv(s[1], b, 4, 0), 3);
	int bad = 999;
	EXPECT(send_fds(s[0], &bad, 1, 0), EBADF);
	/* peeking gives descriptors of their own */
	SAME(send_fds(s[0], got, 1, 0), 1);
	SAME(recv_fds(s[1], one, 256, MSG_PEEK, &flags), 1);
	SAME(recv_fds(s[1], one + 1, 256, 0, &flags), 1);
	CHECK(one[0] != one[1]);
	struct stat x, y;
	CHECK(fstat(one[0], &x) == 0 && fstat(got[0], &y) == 0 && x.st_ino == y.st_ino);
	close(one[0]);
	close(one[1]);
	close(got[0]);
	close(got[1]);
	close(s[0]);
	close(s[1]);
}

TEST(too_many)
{
	int s[2], fds[300];
	NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
	for (int i = 0; i < 300; i++)
		fds[i] = s[0];
	EXPECT(send_fds(s[0], fds, 254, 0), EINVAL);
	EXPECT(send_fds(s[0], fds, 253, MSG_DONTWAIT), 0);
	int got[300], flags;
	SAME(recv_fds(s[1], got, 4096, 0, &flags), 253);
	for (int i = 0; i < 253; i++)
		close(got[i]);
	close(s[0]);
	close(s[1]);
}

/* Files in flight count against RLIMIT_NOFILE. */
TEST(limit)
{
	pid_t c = fork();
	if (c == 0) {
		struct rlimit l = {64, 64};
		int s[2], one[40], sent = 0;
		if (setresuid(4321, 4321, 4321) < 0 || setrlimit(RLIMIT_NOFILE, &l) < 0)
			_exit(10);
		socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
		for (int i = 0; i < 40; i++)
			one[i] = 0;
		while (sent < 10 && send_fds(s[0], one, 40, MSG_DONTWAIT) == 1)
			sent++;
		_exit(errno == ETOOMANYREFS ? sent : 20);
	}
	int st;
	waitpid(c, &st, 0);
	if (geteuid() == 0)
		SAME(WEXITSTATUS(st), 2);
}

static int eof_within(int fd, int ms)
{
	struct pollfd p = {fd, POLLIN, 0};
	return poll(&p, 1, ms) == 1 && p.revents & POLLHUP;
}

/* A socket that only its own queue holds is lost; what it holds is closed. */
TEST(cycles)
{
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		int s[2], p[2], both[2];
		NEED(socketpair(AF_UNIX, type, 0, s) == 0 && pipe(p) == 0);
		both[0] = s[0];
		both[1] = p[1];
		SAME(send_fds(s[1], both, 2, 0), 1);	/* s[0] lies in its own queue */
		both[0] = s[1];
		SAME(send_fds(s[0], both, 1, 0), 1);	/* and s[1] in its own */
		close(p[1]);
		close(s[0]);
		CHECK(!eof_within(p[0], 0));
		close(s[1]);
		int t = socket(AF_UNIX, SOCK_STREAM, 0);	/* Linux looks when a socket is closed */
		close(t);
		CHECK(eof_within(p[0], 5000));
		close(p[0]);
	}
	/* two pairs that hold each other; one end outside keeps all */
	int a[2], b[2], p[2], x[2];
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, b) == 0 && pipe(p) == 0);
	x[0] = b[0], x[1] = p[1];
	SAME(send_fds(a[0], x, 2, 0), 1);	/* a[1] holds b[0] */
	x[0] = a[1];
	SAME(send_fds(b[1], x, 1, 0), 1);	/* b[0] holds a[1] */
	close(p[1]);
	close(a[0]);
	close(a[1]);
	close(b[1]);
	int t = socket(AF_UNIX, SOCK_STREAM, 0);
	close(t);
	CHECK(!eof_within(p[0], 100));
	int got[4], flags;
	SAME(recv_fds(b[0], got, 256, 0, &flags), 1);
	SAME(recv_fds(got[0], got + 1, 256, 0, &flags), 2);
	close(got[0]);
	close(got[1]);
	close(got[2]);
	CHECK(eof_within(p[0], 5000));
	close(p[0]);
	close(b[0]);
}

/* A long chain of sockets, each in the queue of the next, is closed from one end. */
TEST(chain)
{
	int n = 300, p[2], s[2], last = -1;
	NEED(pipe(p) == 0);
	for (int i = 0; i < n; i++) {
		NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
		int fd = i == 0 ? p[1] : last;
		SAME(send_fds(s[0], &fd, 1, 0), 1);
		close(fd);
		close(s[0]);
		last = s[1];
	}
	CHECK(!eof_within(p[0], 0));
	close(last);
	CHECK(eof_within(p[0], 5000));
	close(p[0]);
}

static int creds(int s, struct ucred *u, int *flags)
{
	char b[256], data[64];
	struct iovec v = {data, sizeof data};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = b, .msg_controllen = sizeof b};
	long n = recvmsg(s, &m, 0);
	*flags = m.msg_flags;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(u, CMSG_DATA(c), sizeof *u);
			return (int)n;
		}
	return -1;
}

TEST(credentials)
{
	int s[2], on = 1, flags;
	struct ucred u = {0, 0, 0};
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	NEED(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
	SAME(write(s[0], "a", 1), 1);
	SAME(creds(s[1], &u, &flags), 1);
	SAME(u.pid, getpid());
	SAME(u.uid, getuid());
	SAME(u.gid, getgid());
	SAME(flags, 0);
	/* messages of different writers are not glued together */
	SAME(write(s[0], "a", 1), 1);
	pid_t c = fork();
	if (c == 0)
		_exit(write(s[0], "bb", 2) == 2 ? 0 : 1);
	waitpid(c, 0, 0);
	SAME(creds(s[1], &u, &flags), 1);
	SAME(creds(s[1], &u, &flags), 2);
	SAME(u.pid, c);
	/* claimed ones */
	char b[256] = "", data = 'x';
	struct iovec v = {&data, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = b, .msg_controllen = CMSG_SPACE(sizeof u)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_CREDENTIALS;
	h->cmsg_len = CMSG_LEN(sizeof u);
	u = (struct ucred){getpid(), getuid(), getgid()};
	memcpy(CMSG_DATA(h), &u, sizeof u);
	SAME(sendmsg(s[0], &m, 0), 1);
	SAME(creds(s[1], &u, &flags), 1);
	h->cmsg_len = CMSG_LEN(sizeof u - 1);
	EXPECT(sendmsg(s[0], &m, 0), EINVAL);
	h->cmsg_len = 3;
	EXPECT(sendmsg(s[0], &m, 0), EINVAL);
	c = fork();
	if (c == 0) {
		if (geteuid() == 0 && setresuid(4321, 4321, 4321) < 0)
			_exit(1);
		h->cmsg_len = CMSG_LEN(sizeof u);
		u = (struct ucred){1, 0, 0};
		memcpy(CMSG_DATA(h), &u, sizeof u);
		_exit(sendmsg(s[0], &m, 0) < 0 && errno == EPERM ? 0 : 2);
	}
	int st;
	waitpid(c, &st, 0);
	SAME(st, 0);
	close(s[0]);
	close(s[1]);
}

TEST(autobind_with_passcred)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int on = 1, s = socket(AF_UNIX, SOCK_DGRAM, 0), d = socket(AF_UNIX, SOCK_DGRAM, 0);
	socklen_t len = sizeof a;
	NEED(bind(s, (struct sockaddr *)&a, sizeof(sa_family_t)) == 0);
	NEED(getsockname(s, (struct sockaddr *)&a, &len) == 0);
	SAME(len, 8);
	NEED(setsockopt(d, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
	SAME(sendto(d, "x", 1, 0, (struct sockaddr *)&a, len), 1);
	struct sockaddr_un from;
	len = sizeof from;
	char b[4];
	SAME(recvfrom(s, b, 4, 0, (struct sockaddr *)&from, &len), 1);
	SAME(len, 8);
	close(s);
	close(d);
}

TEST(urgent)
{
	int s[2], mark = -1;
	char b[8];
	NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) == 0);
	if (send(s[0], "abc", 3, MSG_OOB) < 0 && errno == EOPNOTSUPP)
		return;	/* a Linux built without it */
	struct pollfd p = {s[1], POLLPRI, 0};
	SAME(poll(&p, 1, 0), 1);
	SAME(p.revents, POLLPRI);
	SAME(read(s[1], b, 8), 2);
	CHECK(ioctl(s[1], SIOCATMARK, &mark) == 0 && mark == 1);
	SAME(recv(s[1], b, 8, MSG_OOB), 1);
	SAME(b[0], 'c');
	EXPECT(recv(s[1], b, 8, MSG_OOB), EINVAL);
	EXPECT(read(s[1], b, 8), EAGAIN);
	SAME(write(s[0], "de", 2), 2);
	SAME(read(s[1], b, 8), 2);
	int on = 1;
	NEED(setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on) == 0);
	SAME(send(s[0], "fg", 2, MSG_OOB), 2);
	SAME(read(s[1], b, 8), 1);
	SAME(read(s[1], b, 8), 1);
	SAME(b[0], 'g');
	EXPECT(send(s[0], "", 0, MSG_OOB), EOPNOTSUPP);
	close(s[0]);
	close(s[1]);
}

TEST(control_errors)
{
	int s[2];
	char b[64] = "", data = 'x';
	struct iovec v = {&data, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = b};
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	m.msg_controllen = 8;	/* no header fits: nothing is there */
	SAME(sendmsg(s[0], &m, 0), 1);
	struct cmsghdr *h = (struct cmsghdr *)b;
	m.msg_controllen = 32;
	*h = (struct cmsghdr){.cmsg_len = 20, .cmsg_level = SOL_SOCKET, .cmsg_type = 77};
	EXPECT(sendmsg(s[0], &m, 0), EINVAL);
	h->cmsg_level = 9999;	/* not for a socket: let be */
	SAME(sendmsg(s[0], &m, 0), 1);
	h->cmsg_len = 100;
	EXPECT(sendmsg(s[0], &m, 0), EINVAL);
	m.msg_control = (void *)8;
	EXPECT(sendmsg(s[0], &m, 0), EFAULT);
	m.msg_control = 0;
	m.msg_controllen = 0;
	m.msg_iovlen = 2000;
	EXPECT(sendmsg(s[0], &m, 0), EMSGSIZE);
	m.msg_iovlen = 1;
	m.msg_name = b;
	m.msg_namelen = (socklen_t)-1;
	EXPECT(sendmsg(s[0], &m, 0), EINVAL);
	EXPECT(sendmsg(s[0], (void *)8, 0), EFAULT);
	close(s[0]);
	close(s[1]);
}
