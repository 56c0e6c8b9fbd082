/* urgent.c - urgent data of TCP (tcp(7), sockatmark(3)), within the machine and, with the client bound to lo, through the stack. */
#include "check.h"
#include "lo.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>

#define SA(a) ((struct sockaddr *)&(a))

/* pair connects two sockets; with far the way is that of packets. */
static int pair(int far, int *c, int *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || bind(l, SA(a), n) || listen(l, 5) || getsockname(l, SA(a), &n))
		return -1;
	*c = socket(AF_INET, SOCK_STREAM, 0);
	if (far && setsockopt(*c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3))
		return -1;
	if (connect(*c, SA(a), sizeof a))
		return -1;
	*s = accept(l, 0, 0);
	close(l);
	return *s < 0 ? -1 : 0;
}

static void settle(void) { settle_lo(4, 10); }

static int awaited(int fd, int events)
{
	struct pollfd p = {fd, events, 0};
	if (poll(&p, 1, 5000) != 1)
		return -1;
	p.events = POLLIN | POLLPRI | POLLRDHUP;
	poll(&p, 1, 0);
	return p.revents;
}

static int mark(int fd)
{
	int v = -1;
	return ioctl(fd, SIOCATMARK, &v) ? -1 : v;
}

static int waiting(int fd)
{
	int v = -1;
	return ioctl(fd, FIONREAD, &v) ? -1 : v;
}

static void basic(int far)
{
	int c, s;
	char b[32];
	NEED(pair(far, &c, &s) == 0);
	SAME(mark(s), 0);
	EXPECT(recv(s, b, 1, MSG_OOB), EINVAL);
	SAME(send(c, "abc", 3, 0), 3);
	SAME(send(c, "deX", 3, MSG_OOB), 3);
	SAME(send(c, "fgh", 3, 0), 3);
	SAME(awaited(s, POLLPRI), POLLIN | POLLPRI);
	settle(); /* for what came last */
	SAME(waiting(s), 5);
	SAME(recv(s, b, 1, MSG_OOB | MSG_PEEK), 1);
	SAME(b[0], 'X');
	SAME(recv(s, b, 2, 0), 2);
	SAME(mark(s), 0);
	struct iovec v = {b, sizeof b};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	SAME(recvmsg(s, &m, MSG_OOB), 1);
	SAME(m.msg_flags, MSG_OOB);
	SAME(b[0], 'X');
	EXPECT(recv(s, b, 1, MSG_OOB), EINVAL); /* once only */
	SAME(awaited(s, POLLIN), POLLIN);
	SAME(recv(s, b, sizeof b, MSG_PEEK), 3);
	SAME(recv(s, b, sizeof b, 0), 3); /* up to the mark */
	CHECK(memcmp(b, "cde", 3) == 0);
	SAME(mark(s), 1);
	SAME(recv(s, b, sizeof b, MSG_PEEK), 3);
	CHECK(memcmp(b, "fgh", 3) == 0);
	SAME(mark(s), 1);
	SAME(recv(s, b, sizeof b, 0), 3);
	CHECK(memcmp(b, "fgh", 3) == 0);
	SAME(mark(s), 0);
	EXPECT(recv(s, b, 1, MSG_DONTWAIT), EAGAIN);
	/* The other way too. */
	SAME(send(s, "!", 1, MSG_OOB), 1);
	SAME(awaited(c, POLLPRI), POLLPRI); /* the urgent byte alone does not make it readable */
	SAME(mark(c), 1);
	EXPECT(recv(c, b, 1, MSG_DONTWAIT), EAGAIN); /* which drops it */
	SAME(mark(c), 0);
	close(c);
	close(s);
}

TEST(basic) { basic(0); }
TEST(basic_far) { basic(1); }

static void inl(int far)
{
	int c, s, one = 1;
	char b[32];
	NEED(pair(far, &c, &s) == 0 && setsockopt(s, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one) == 0);
	SAME(send(c, "abX", 3, MSG_OOB), 3);
	SAME(send(c, "cd", 2, 0), 2);
	CHECK(awaited(s, POLLPRI) > 0);
	settle();
	EXPECT(recv(s, b, 1, MSG_OOB), EINVAL);
	SAME(waiting(s), 5);
	SAME(recv(s, b, sizeof b, 0), 2);
	SAME(mark(s), 1);
	SAME(awaited(s, POLLIN), POLLIN | POLLPRI);
	SAME(recv(s, b, sizeof b, 0), 3);
	CHECK(memcmp(b, "Xcd", 3) == 0);
	SAME(mark(s), 0);
	SAME(send(c, "Y", 1, MSG_OOB), 1);
	SAME(awaited(s, POLLPRI), POLLIN | POLLPRI);
	SAME(mark(s), 1);
	SAME(recv(s, b, 1, 0), 1);
	SAME(b[0], 'Y');
	close(c);
	close(s);
}

TEST(inlined) { inl(0); }
TEST(inlined_far) { inl(1); }

/* Of two urgent bytes the later counts; the earlier stays in the stream unless it was next. */
static void twice(int far)
{
	int c, s;
	char b[32];
	NEED(pair(far, &c, &s) == 0);
	SAME(send(c, "aX", 2, MSG_OOB), 2);
	CHECK(awaited(s, POLLPRI) > 0);
	SAME(send(c, "bY", 2, MSG_OOB), 2);
	settle();
	SAME(recv(s, b, 1, MSG_OOB), 1);
	SAME(b[0], 'Y');
	SAME(recv(s, b, sizeof b, 0), 3);
	CHECK(memcmp(b, "aXb", 3) == 0);
	SAME(mark(s), 1);
	SAME(send(c, "Z", 1, MSG_OOB), 1);
	settle();
	SAME(send(c, "end", 3, 0), 3);
	settle();
	SAME(recv(s, b, 1, MSG_OOB), 1);
	SAME(b[0], 'Z');
	SAME(recv(s, b, sizeof b, 0), 3);
	CHECK(memcmp(b, "end", 3) == 0);
	close(c);
	close(s);
}

TEST(twice) { twice(0); }
TEST(twice_far) { twice(1); }

static volatile int urged;
static void on_urg(int sig) { urged += sig == SIGURG; }

static void signalled(int far)
{
	int c, s, v = -1;
	char b[8];
	NEED(pair(far, &c, &s) == 0);
	urged = 0;
	signal(SIGURG, on_urg);
	SAME(send(c, "1", 1, MSG_OOB), 1);
	CHECK(awaited(s, POLLPRI) > 0);
	SAME(urged, 0); /* nobody asked for it */
	SAME(recv(s, b, 1, MSG_OOB), 1);
	CHECK(fcntl(s, F_SETOWN, getpid()) == 0);
	CHECK(ioctl(s, SIOCGPGRP, &v) == 0);
	SAME(v, getpid());
	SAME(send(c, "2", 1, MSG_OOB), 1);
	for (int i = 0; i < 500 && !urged; i++)
		sleep_ms(10);
	SAME(urged, 1);
	SAME(recv(s, b, 1, MSG_OOB), 1);
	SAME(b[0], '2');
	signal(SIGURG, SIG_DFL);
	close(c);
	close(s);
}

TEST(signalled) { signalled(0); }
TEST(signalled_far) { signalled(1); }

static void edges(int far)
{
	int c, s, e = epoll_create1(0);
	char b[8];
	NEED(pair(far, &c, &s) == 0 && e >= 0);
	struct epoll_event ev = {.events = EPOLLPRI | EPOLLET, .data.fd = s}, got;
	CHECK(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev) == 0);
	SAME(send(c, "in band", 7, 0), 7);
	SAME(epoll_wait(e, &got, 1, 50), 0);
	SAME(send(c, "U", 1, MSG_OOB), 1);
	SAME(epoll_wait(e, &got, 1, 5000), 1);
	SAME(got.events, EPOLLPRI);
	SAME(recv(s, b, 1, MSG_OOB), 1);
	SAME(epoll_wait(e, &got, 1, 0), 0);
	/* It is still to be had after the other end is gone. */
	SAME(send(c, "V", 1, MSG_OOB), 1);
	SAME(epoll_wait(e, &got, 1, 5000), 1);
	close(c);
	CHECK(awaited(s, POLLRDHUP) > 0);
	SAME(recv(s, b, 1, MSG_OOB), 1);
	SAME(b[0], 'V');
	SAME(recv(s, b, sizeof b, 0), 8); /* what was urgent first was not next when the second came */
	CHECK(memcmp(b, "in bandU", 8) == 0);
	SAME(recv(s, b, sizeof b, 0), 0);
	close(s);
	close(e);
}

TEST(edges) { edges(0); }
TEST(edges_far) { edges(1); }

/* The urgent byte behind much that is in band. */
static void behind(int far)
{
	int c, s;
	static char b[50000];
	NEED(pair(far, &c, &s) == 0);
	SAME(send(c, b, sizeof b, 0), sizeof b);
	SAME(send(c, "U", 1, MSG_OOB), 1);
	SAME(send(c, b, 100, 0), 100);
	CHECK(awaited(s, POLLPRI) > 0);
	settle();
	long n, got = 0;
	while (!mark(s) && (n = read(s, b, 777)) > 0)
		got += n;
	SAME(got, sizeof b);
	SAME(recv(s, b, 1, MSG_OOB), 1);
	SAME(b[0], 'U');
	SAME(read(s, b, 777), 100);
	close(c);
	close(s);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	EXPECT(send(s, "x", 1, MSG_OOB), EOPNOTSUPP);
	close(s);
}

TEST(behind) { behind(0); }
TEST(behind_far) { behind(1); }
