/* inet.c - sockets of AF_INET and AF_INET6 on the loopback interface (tcp(7), udp(7), ip(7), ipv6(7)). */
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/icmp6.h>
#include <linux/errqueue.h>
#include <linux/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define SA(a) ((struct sockaddr *)&(a))

static struct sockaddr_in addr4(uint32_t a, int port)
{
	struct sockaddr_in s = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(a)};
	return s;
}

static int ready(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
	if (poll(&p, 1, 0) < 0)
		return -1;
	return p.revents;
}

/* awaited waits until fd has the events, and returns all that it has. */
static int awaited(int fd, int events)
{
	struct pollfd p = {fd, events, 0};
	if (poll(&p, 1, 5000) != 1)
		return -1;
	return ready(fd);
}

static int listener(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l < 0 || bind(l, SA(*a), n) || listen(l, 5) || getsockname(l, SA(*a), &n))
		return -1;
	return l;
}

/* pair connects two sockets; s is the accepted one. */
static int pair(int *c, int *s)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
	int l = listener(&a);
	if (l < 0)
		return -1;
	*c = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(*c, SA(a), sizeof a))
		return -1;
	*s = accept(l, 0, 0);
	close(l);
	return *s < 0 ? -1 : 0;
}

static char v_byte;

static int err(int fd)
{
	int e = -1;
	socklen_t n = sizeof e;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) ? -1 : e;
}

enum { TCP_ESTABLISHED = 1, TCP_CLOSE = 7, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_LISTEN };

static int state(int fd)
{
	struct tcp_info i;
	socklen_t n = sizeof i;
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n) ? -1 : i.tcpi_state;
}

TEST(fresh)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);
	char b[4];
	NEED(s >= 0);
	SAME(ready(s), POLLOUT | POLLHUP);
	SAME(state(s), TCP_CLOSE);
	EXPECT(read(s, b, 4), ENOTCONN);
	EXPECT(send(s, b, 4, MSG_NOSIGNAL), EPIPE);
	EXPECT(shutdown(s, SHUT_WR), ENOTCONN);
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	EXPECT(getpeername(s, SA(a), &n), ENOTCONN);
	EXPECT(accept(s, 0, 0), EINVAL);
	EXPECT(lseek(s, 0, SEEK_SET), ESPIPE);
	close(s);
	EXPECT(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
	EXPECT(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
}

TEST(names)
{
	int c, s;
	NEED(pair(&c, &s) == 0);
	struct sockaddr_in a, b;
	socklen_t n = sizeof a, m = sizeof b;
	CHECK(getsockname(c, SA(a), &n) == 0 && getpeername(s, SA(b), &m) == 0);
	SAME(n, sizeof a);
	CHECK(memcmp(&a, &b, sizeof a) == 0);
	SAME(ntohl(a.sin_addr.s_addr), INADDR_LOOPBACK);
	CHECK(getsockname(s, SA(a), &n) == 0 && getpeername(c, SA(b), &m) == 0 && memcmp(&a, &b, sizeof a) == 0);
	EXPECT(connect(c, SA(b), sizeof b), EISCONN);
	SAME(state(c), TCP_ESTABLISHED);
	close(c);
	close(s);
}

TEST(bytes)
{
	int c, s, n = 0;
	char b[64] = "";
	NEED(pair(&c, &s) == 0);
	SAME(ready(c), POLLOUT);
	EXPECT(recv(c, b, 1, MSG_DONTWAIT), EAGAIN);
	SAME(write(c, "hello", 5), 5);
	SAME(awaited(s, POLLIN), POLLIN | POLLOUT);
	CHECK(ioctl(s, FIONREAD, &n) == 0);
	SAME(n, 5);
	SAME(recv(s, b, 2, MSG_PEEK), 2);
	SAME(recv(s, b, 3, MSG_TRUNC), 3);
	SAME(read(s, b, sizeof b), 2);
	CHECK(memcmp(b, "lo", 2) == 0);
	struct iovec v[2] = {{"ab", 2}, {"cd", 2}};
	SAME(writev(s, v, 2), 4);
	SAME(recv(c, b, 4, MSG_WAITALL), 4);
	CHECK(memcmp(b, "abcd", 4) == 0);
	close(c);
	close(s);
}

TEST(half_close)
{
	int c, s;
	char b[8];
	NEED(pair(&c, &s) == 0);
	SAME(write(c, "x", 1), 1);
	CHECK(shutdown(c, SHUT_WR) == 0);
	SAME(awaited(s, POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	SAME(read(s, b, 8), 1);
	SAME(read(s, b, 8), 0);
	SAME(read(s, b, 8), 0);
	EXPECT(send(c, "y", 1, MSG_NOSIGNAL), EPIPE);
	SAME(write(s, "back", 4), 4);
	SAME(recv(c, b, 4, MSG_WAITALL), 4);
	SAME(state(s), TCP_CLOSE_WAIT);
	CHECK(shutdown(s, SHUT_WR) == 0);
	SAME(awaited(c, POLLHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
	SAME(awaited(s, POLLHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
	close(c);
	close(s);
}

static volatile int pipes;
static void on_pipe(int sig) { pipes += sig == SIGPIPE; }

TEST(peer_gone)
{
	int c, s;
	char b[8];
	NEED(pair(&c, &s) == 0);
	close(s);
	SAME(awaited(c, POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	SAME(read(c, b, 8), 0);
	SAME(write(c, "x", 1), 1); /* answered by a reset */
	SAME(awaited(c, POLLERR) & POLLERR, POLLERR);
	SAME(err(c), EPIPE);
	pipes = 0;
	signal(SIGPIPE, on_pipe);
	EXPECT(write(c, "x", 1), EPIPE);
	SAME(pipes, 1);
	signal(SIGPIPE, SIG_DFL);
	close(c);
}

TEST(reset)
{
	int c, s;
	char b[8];
	NEED(pair(&c, &s) == 0);
	SAME(write(c, "unread", 6), 6);
	CHECK(awaited(s, POLLIN) > 0);
	close(s); /* with bytes not read */
	SAME(awaited(c, POLLERR), POLLIN | POLLOUT | POLLRDHUP | POLLHUP | POLLERR);
	EXPECT(read(c, b, 8), ECONNRESET);
	SAME(read(c, b, 8), 0);
	SAME(ready(c), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
	close(c);

	NEED(pair(&c, &s) == 0);
	struct linger l = {1, 0};
	CHECK(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l) == 0);
	close(s);
	CHECK(awaited(c, POLLERR) > 0);
	SAME(err(c), ECONNRESET);
	SAME(err(c), 0);
	close(c);
}

TEST(refused)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
	int l = listener(&a);
	NEED(l >= 0);
	close(l);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	EXPECT(connect(c, SA(a), sizeof a), ECONNREFUSED);
	close(c);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	EXPECT(connect(c, SA(a), sizeof a), EINPROGRESS);
	SAME(awaited(c, POLLOUT) & (POLLERR | POLLHUP), POLLERR | POLLHUP);
	SAME(err(c), ECONNREFUSED);
	close(c);
}

/* bind_free binds a socket to a port that is free and named: one that bind(2) chooses is given back when connect(2) fails. */
static int bind_free(int fd, struct sockaddr_in *a)
{
	int r = -1;
	for (int i = 0; i < 20 && r < 0; i++) {
		socklen_t n = sizeof *a;
		int other = socket(AF_INET, SOCK_STREAM, 0);
		a->sin_port = 0;
		r = bind(other, SA(*a), n);
		if (r == 0)
			r = getsockname(other, SA(*a), &n);
		close(other);
		if (r == 0)
			r = bind(fd, SA(*a), n);
	}
	return r;
}

/* After a connection failed the socket may try again, from the port that it is bound to. */
TEST(again)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0), b = a, e;
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
	NEED(bind(l, SA(a), n) == 0 && getsockname(l, SA(a), &n) == 0);
	NEED(bind_free(c, &b) == 0);
	EXPECT(connect(c, SA(a), sizeof a), ECONNREFUSED);
	EXPECT(connect(c, SA(a), sizeof a), ECONNREFUSED);
	CHECK(listen(l, 5) == 0);
	CHECK(connect(c, SA(a), sizeof a) == 0);
	int s = accept(l, SA(e), &n);
	NEED(s >= 0);
	SAME(e.sin_port, b.sin_port);
	SAME(send(c, "x", 1, 0), 1);
	SAME(recv(s, &v_byte, 1, 0), 1);
	close(c), close(s), close(l);

	a = addr4(INADDR_LOOPBACK, 0);
	l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	NEED(bind(l, SA(a), n) == 0 && getsockname(l, SA(a), &n) == 0);
	EXPECT(connect(c, SA(a), sizeof a), EINPROGRESS);
	CHECK(awaited(c, POLLOUT) > 0);
	EXPECT(connect(c, SA(a), sizeof a), ECONNREFUSED);
	EXPECT(connect(c, SA(a), sizeof a), EINPROGRESS);
	CHECK(awaited(c, POLLOUT) > 0);
	SAME(err(c), ECONNREFUSED);
	EXPECT(connect(c, SA(a), sizeof a), ECONNABORTED);
	CHECK(listen(l, 5) == 0);
	EXPECT(connect(c, SA(a), sizeof a), EINPROGRESS);
	SAME(awaited(c, POLLOUT), POLLOUT);
	SAME(err(c), 0);
	close(c), close(l);
}

TEST(nonblocking)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
	int l = listener(&a);
	NEED(l >= 0);
	SAME(ready(l), 0);
	int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	EXPECT(connect(c, SA(a), sizeof a), EINPROGRESS);
	SAME(awaited(c, POLLOUT), POLLOUT);
	SAME(err(c), 0);
	CHECK(connect(c, SA(a), sizeof a) == 0);
	EXPECT(connect(c, SA(a), sizeof a), EISCONN);
	SAME(awaited(l, POLLIN), POLLIN);
	int s = accept4(l, 0, 0, SOCK_NONBLOCK);
	NEED(s >= 0);
	fcntl(l, F_SETFL, O_NONBLOCK);
	EXPECT(accept(l, 0, 0), EAGAIN);
	static char big[1 << 16];
	long sent = 0, got = 0, n;
	while ((n = write(c, big, sizeof big)) > 0)
		sent += n;
	SAME(n, -1);
	SAME(errno, EAGAIN);
	SAME(ready(c) & POLLOUT, 0);
	while (got < sent) {
		if (awaited(s, POLLIN) < 0)
			break;
		while ((n = read(s, big, sizeof big)) > 0)
			got += n;
	}
	SAME(got, sent);
	SAME(awaited(c, POLLOUT), POLLOUT);
	close(c);
	close(s);
	close(l);
}

TEST(epoll_edges)
{
	int c, s, e = epoll_create1(0);
	char b[8];
	NEED(pair(&c, &s) == 0 && e >= 0);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = s}, got;
	CHECK(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev) == 0);
	SAME(epoll_wait(e, &got, 1, 0), 0);
	SAME(write(c, "a", 1), 1);
	SAME(epoll_wait(e, &got, 1, 5000), 1);
	SAME(epoll_wait(e, &got, 1, 0), 0);
	SAME(write(c, "b", 1), 1);
	SAME(epoll_wait(e, &got, 1, 5000), 1);
	SAME(got.events, EPOLLIN);
	SAME(read(s, b, 8), 2);
	SAME(epoll_wait(e, &got, 1, 0), 0);
	close(c);
	SAME(epoll_wait(e, &got, 1, 5000), 1);
	SAME(got.events, EPOLLIN | EPOLLRDHUP);
	close(s);
	close(e);
}

TEST(options)
{
	int c, s, v;
	socklen_t n;
	NEED(pair(&c, &s) == 0);
	static const struct { int level, name, value; } o[] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1}, {SOL_SOCKET, SO_REUSEADDR, 1}, {SOL_SOCKET, SO_REUSEPORT, 1}, {IPPROTO_TCP, TCP_NODELAY, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 77}, {IPPROTO_TCP, TCP_KEEPINTVL, 7}, {IPPROTO_TCP, TCP_KEEPCNT, 5}, {IPPROTO_TCP, TCP_CORK, 1},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, 3000}, {IPPROTO_IP, IP_TOS, 0x10}, {IPPROTO_IP, IP_TTL, 33}, {SOL_SOCKET, SO_PRIORITY, 3},
	};
	for (size_t i = 0; i < sizeof o / sizeof *o; i++) {
		CHECK(setsockopt(c, o[i].level, o[i].name, &o[i].value, sizeof(int)) == 0);
		v = -1, n = sizeof v;
		CHECK(getsockopt(c, o[i].level, o[i].name, &v, &n) == 0);
		SAME(v, o[i].value);
	}
	v = 1;
	EXPECT(setsockopt(c, IPPROTO_TCP, 9999, &v, sizeof v), ENOPROTOOPT);
	EXPECT(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, 2), EINVAL);
	v = 0;
	EXPECT(setsockopt(c, IPPROTO_TCP, TCP_KEEPIDLE, &v, sizeof v), EINVAL);
	n = sizeof v;
	CHECK(getsockopt(c, SOL_SOCKET, SO_TYPE, &v, &n) == 0);
	SAME(v, SOCK_STREAM);
	CHECK(getsockopt(c, SOL_SOCKET, SO_PROTOCOL, &v, &n) == 0);
	SAME(v, IPPROTO_TCP);
	v = 16384;
	CHECK(setsockopt(c, SOL_SOCKET, SO_RCVBUF, &v, sizeof v) == 0 && getsockopt(c, SOL_SOCKET, SO_RCVBUF, &v, &n) == 0);
	SAME(v, 32768);
	char cc[16] = "";
	n = sizeof cc;
	CHECK(getsockopt(c, IPPROTO_TCP, TCP_CONGESTION, cc, &n) == 0);
	SAME(n, 16);
	close(c);
	close(s);
}

/* What a program asks for as buffers bounds what lies between two ends, also within the machine. */
TEST(buffers)
{
	int c, s, v = 4096;
	long sent = 0, n;
	static char b[1 << 16];
	NEED(pair(&c, &s) == 0);
	CHECK(setsockopt(c, SOL_SOCKET, SO_SNDBUF, &v, sizeof v) == 0 && setsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, sizeof v) == 0);
	while ((n = send(c, b, sizeof b, MSG_DONTWAIT)) > 0)
		sent += n;
	CHECK(sent > 0 && sent < 100000);
	SAME(ready(c) & POLLOUT, 0);
	for (long got = 0; got < sent; got += n)
		if ((n = read(s, b, sizeof b)) <= 0)
			break;
	SAME(awaited(c, POLLOUT), POLLOUT);
	close(s);
	/* What is sent to who is gone does not go whole. */
	static char big[8 << 20];
	n = send(c, big, sizeof big, MSG_NOSIGNAL);
	CHECK(n < (long)sizeof big);
	SAME(awaited(c, POLLERR | POLLHUP) & POLLHUP, POLLHUP);
	EXPECT(send(c, big, 1, MSG_NOSIGNAL), EPIPE);
	close(c);
}

TEST(nagle)
{
	int c, s, v = -1;
	socklen_t n = sizeof v;
	NEED(pair(&c, &s) == 0);
	CHECK(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &n) == 0);
	SAME(v, 0);
	CHECK(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, &n) == 0);
	SAME(v, 0);
	close(c);
	close(s);
}

TEST(ports)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
	int l = listener(&a), v = 1;
	NEED(l >= 0);
	int d = socket(AF_INET, SOCK_STREAM, 0);
	EXPECT(bind(d, SA(a), sizeof a), EADDRINUSE);
	struct sockaddr_in far = addr4(0x0a636363, 0);
	EXPECT(bind(d, SA(far), sizeof far), EADDRNOTAVAIL);
	EXPECT(bind(d, SA(a), 8), EINVAL);
	close(d);
	close(l);
	int p[2];
	struct sockaddr_in b = addr4(INADDR_LOOPBACK, 0);
	for (int i = 0; i < 2; i++) {
		socklen_t n = sizeof b;
		p[i] = socket(AF_INET, SOCK_STREAM, 0);
		CHECK(setsockopt(p[i], SOL_SOCKET, SO_REUSEPORT, &v, sizeof v) == 0 && bind(p[i], SA(b), n) == 0 && listen(p[i], 5) == 0);
		CHECK(getsockname(p[i], SA(b), &n) == 0);
	}
	close(p[0]);
	close(p[1]);
}

TEST(datagrams)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0), from;
	socklen_t n = sizeof a;
	char b[16];
	int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	NEED(s >= 0 && c >= 0 && bind(s, SA(a), n) == 0 && getsockname(s, SA(a), &n) == 0);
	SAME(ready(s), POLLOUT);
	EXPECT(send(c, "x", 1, 0), EDESTADDRREQ);
	EXPECT(sendto(c, "x", 1, 0, SA(a), 1), EINVAL);
	EXPECT(sendto(c, "x", 1, 0, SA(a), sizeof a - 1), EINVAL);
	struct msghdr cut = {.msg_name = &a, .msg_namelen = 1};
	EXPECT(sendmsg(c, &cut, 0), EINVAL);
	SAME(sendto(c, "hello", 5, 0, SA(a), sizeof a), 5);
	SAME(sendto(c, "", 0, 0, SA(a), sizeof a), 0);
	CHECK(awaited(s, POLLIN) > 0);
	SAME(recv(s, b, 2, MSG_PEEK | MSG_TRUNC), 5);
	struct iovec v = {b, 2};
	struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1};
	SAME(recvmsg(s, &m, 0), 2);
	SAME(m.msg_flags, MSG_TRUNC);
	SAME(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
	SAME(recv(s, b, 16, 0), 0);
	EXPECT(recv(s, b, 16, MSG_DONTWAIT), EAGAIN);
	CHECK(connect(c, SA(a), sizeof a) == 0);
	SAME(send(c, "y", 1, 0), 1);
	SAME(recv(s, b, 16, 0), 1);
	close(s);
	SAME(send(c, "z", 1, 0), 1);
	CHECK(awaited(c, POLLERR) > 0);
	EXPECT(recv(c, b, 16, 0), ECONNREFUSED);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	CHECK(connect(c, &none, sizeof none) == 0);
	EXPECT(send(c, "x", 1, 0), EDESTADDRREQ);
	static char big[70000];
	EXPECT(sendto(c, big, sizeof big, 0, SA(a), sizeof a), EMSGSIZE);
	close(c);
}

/* Ancillary data says from which address a datagram goes (IP_PKTINFO of ip(7)): servers answer from the one that was asked. */
TEST(source)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0), from;
	socklen_t n = sizeof a;
	char b[16], control[CMSG_SPACE(sizeof(struct in_pktinfo))] = {0};
	int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	NEED(s >= 0 && c >= 0 && bind(s, SA(a), n) == 0 && getsockname(s, SA(a), &n) == 0);
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = IPPROTO_IP, h->cmsg_type = IP_PKTINFO, h->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
	struct in_pktinfo *p = (void *)CMSG_DATA(h);
	p->ipi_spec_dst.s_addr = htonl(0x7f000005);
	for (int connected = 0; connected < 2; connected++) {
		SAME(sendmsg(c, &m, 0), 1);
		n = sizeof from;
		CHECK(awaited(s, POLLIN) > 0);
		SAME(recvfrom(s, b, sizeof b, MSG_DONTWAIT, SA(from), &n), 1);
		SAME(ntohl(from.sin_addr.s_addr), 0x7f000005);
		p->ipi_ifindex = if_nametoindex("lo");
		if (!connected) {
			CHECK(connect(c, SA(a), sizeof a) == 0);
			m.msg_name = 0, m.msg_namelen = 0;
		}
	}
	/* The address is for one datagram only. */
	SAME(send(c, "y", 1, 0), 1);
	n = sizeof from;
	CHECK(awaited(s, POLLIN) > 0);
	SAME(recvfrom(s, b, sizeof b, MSG_DONTWAIT, SA(from), &n), 1);
	SAME(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
	h->cmsg_len = CMSG_LEN(4);
	EXPECT(sendmsg(c, &m, 0), EINVAL);
	close(s), close(c);
}

/* A raw socket takes the packets of any protocol (raw(7)). */
TEST(raw)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0), from;
	socklen_t n = sizeof from;
	unsigned char b[64];
	int s = socket(AF_INET, SOCK_RAW, 253), c = socket(AF_INET, SOCK_RAW, 253), w = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	NEED(s >= 0 && c >= 0 && w >= 0);
	close(c);
	SAME(sendto(s, "experiment", 10, 0, SA(a), sizeof a), 10);
	CHECK(awaited(s, POLLIN) > 0);
	SAME(recvfrom(s, b, sizeof b, MSG_DONTWAIT, SA(from), &n), 30);
	SAME(b[9], 253);
	CHECK(memcmp(b + 20, "experiment", 10) == 0);
	SAME(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
	SAME(sendto(w, b, 30, 0, SA(a), sizeof a), 30); /* with its header */
	CHECK(awaited(s, POLLIN) > 0);
	SAME(recv(s, b, sizeof b, MSG_DONTWAIT), 30);
	EXPECT(recv(w, b, 1, MSG_DONTWAIT), EAGAIN);
	close(s), close(w);
	s = socket(AF_INET6, SOCK_RAW, 253);
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	SAME(sendto(s, "six", 3, 0, SA(six), sizeof six), 3);
	CHECK(awaited(s, POLLIN) > 0);
	SAME(recv(s, b, sizeof b, MSG_DONTWAIT), 3);
	close(s);
}

/* accept(2) gives a socket that has the listener's options. */
TEST(inherited)
{
	for (int path = 0; path < 2; path++) {
		struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
		int l = listener(&a), v;
		NEED(l >= 0);
		static const struct { int level, name, value; } o[] = {
			{SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_NODELAY, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 77}, {IPPROTO_TCP, TCP_KEEPCNT, 5},
			{IPPROTO_TCP, TCP_USER_TIMEOUT, 3000}, {IPPROTO_IP, IP_TTL, 33}, {SOL_SOCKET, SO_OOBINLINE, 1},
			{IPPROTO_TCP, TCP_LINGER2, 7}, {SOL_SOCKET, SO_RCVLOWAT, 3},
		};
		for (size_t i = 0; i < sizeof o / sizeof *o; i++)
			CHECK(setsockopt(l, o[i].level, o[i].name, &o[i].value, sizeof(int)) == 0);
		struct timeval t = {9, 0};
		CHECK(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
		int c = socket(AF_INET, SOCK_STREAM, 0);
		if (path)
			CHECK(setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
		CHECK(connect(c, SA(a), sizeof a) == 0);
		int s = accept(l, 0, 0);
		NEED(s >= 0);
		for (size_t i = 0; i < sizeof o / sizeof *o; i++) {
			socklen_t n = sizeof v;
			CHECK(getsockopt(s, o[i].level, o[i].name, &v, &n) == 0);
			SAME(v, o[i].value);
		}
		socklen_t n = sizeof t;
		CHECK(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, &n) == 0);
		SAME(t.tv_sec, 9);
		close(c), close(s), close(l);
	}
}

/* TCP_INFO of a connection that has carried data, within the machine and through the stack. */
TEST(info)
{
	for (int path = 0; path < 2; path++) {
		struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
		struct tcp_info i;
		socklen_t n = sizeof i;
		static char b[10000];
		int l = listener(&a);
		NEED(l >= 0);
		int c = socket(AF_INET, SOCK_STREAM, 0);
		CHECK(getsockopt(c, IPPROTO_TCP, TCP_INFO, &i, &n) == 0);
		SAME(i.tcpi_state, TCP_CLOSE);
		SAME(i.tcpi_rto, 1000000);
		SAME(i.tcpi_snd_cwnd, 10);
		SAME(i.tcpi_snd_ssthresh, 0x7fffffff);
		if (path)
			CHECK(setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
		CHECK(connect(c, SA(a), sizeof a) == 0);
		SAME(awaited(l, POLLIN), POLLIN);
		CHECK(getsockopt(l, IPPROTO_TCP, TCP_INFO, &i, &n) == 0);
		SAME(i.tcpi_state, TCP_LISTEN);
		SAME(i.tcpi_unacked, 1);
		SAME(i.tcpi_sacked, 5);
		int s = accept(l, 0, 0), v;
		NEED(s >= 0);
		SAME(write(c, b, sizeof b), sizeof b);
		SAME(recv(s, b, sizeof b, MSG_WAITALL), sizeof b);
		SAME(write(s, b, 77), 77);
		SAME(recv(c, b, 77, MSG_WAITALL), 77);
		sleep_ms(50);
		n = sizeof i;
		CHECK(getsockopt(c, IPPROTO_TCP, TCP_INFO, &i, &n) == 0);
		CHECK(n >= 232);
		SAME(i.tcpi_state, TCP_ESTABLISHED);
		CHECK(i.tcpi_bytes_acked == sizeof b || i.tcpi_bytes_acked == sizeof b + 1); /* with the SYN */
		SAME(i.tcpi_bytes_received, 77);
		SAME(i.tcpi_bytes_sent, sizeof b);
		SAME(i.tcpi_bytes_retrans, 0);
		SAME(i.tcpi_total_retrans, 0);
		SAME(i.tcpi_unacked, 0);
		SAME(i.tcpi_notsent_bytes, 0);
		SAME(i.tcpi_data_segs_in, 1);
		SAME(i.tcpi_ca_state, 0);
		CHECK(i.tcpi_data_segs_out > 0 && i.tcpi_segs_out >= i.tcpi_data_segs_out && i.tcpi_segs_in >= i.tcpi_data_segs_in && i.tcpi_delivered > 0);
		CHECK(i.tcpi_snd_mss > 1000 && i.tcpi_rcv_mss > 0 && i.tcpi_advmss > 1000 && i.tcpi_snd_wnd > 10000 && i.tcpi_pmtu >= 1500);
		CHECK(i.tcpi_rto >= 200000 && i.tcpi_rtt > 0 && i.tcpi_rtt < i.tcpi_rto && i.tcpi_min_rtt <= i.tcpi_rtt + 1000);
		CHECK(i.tcpi_snd_cwnd >= 10 && i.tcpi_snd_ssthresh > 0);
		SAME(i.tcpi_options, TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE);
		CHECK(i.tcpi_snd_wscale > 0 && i.tcpi_rcv_wscale > 0);
		CHECK(i.tcpi_last_data_sent >= 40 || !path);
		n = sizeof v;
		CHECK(getsockopt(c, IPPROTO_TCP, TCP_MAXSEG, &v, &n) == 0 && v > 1000);
		close(c), close(s), close(l);
	}
}

/* TCP_NOTSENT_LOWAT: a socket is not writable while so much was not sent. TCP_INQ: each read tells what is left. */
TEST(unsent)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
	int l = listener(&a), v = 4096, one = 1;
	static char b[1 << 20];
	NEED(l >= 0);
	CHECK(setsockopt(l, SOL_SOCKET, SO_RCVBUF, &v, sizeof v) == 0);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0 && connect(c, SA(a), sizeof a) == 0);
	int s = accept(l, 0, 0);
	NEED(s >= 0);
	v = 1000;
	CHECK(setsockopt(c, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &v, sizeof v) == 0);
	SAME(ready(c), POLLOUT);
	long n, sent = 0, got = 0;
	do /* what was not sent may be a moment later */
		while ((n = send(c, b, 20000, MSG_DONTWAIT)) > 0)
			sent += n;
	while (sent < 100000 && ready(c));
	CHECK(sent < 100000);
	CHECK(setsockopt(s, IPPROTO_TCP, TCP_INQ, &one, sizeof one) == 0);
	while (got < sent) {
		char control[64];
		struct iovec io = {b, 1000};
		struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		if ((n = recvmsg(s, &m, 0)) <= 0)
			break;
		got += n;
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		NEED(h && h->cmsg_level == IPPROTO_TCP && h->cmsg_type == TCP_CM_INQ);
		memcpy(&v, CMSG_DATA(h), 4);
		CHECK(v >= 0 && v <= sent - got);
	}
	SAME(got, sent);
	SAME(v, 0);
	SAME(awaited(c, POLLOUT), POLLOUT);
	close(c), close(s), close(l);
}

/* What was sent with MSG_MORE waits for the rest, and so does what TCP_CORK holds; the end of the stream takes it along. */
TEST(more)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
	int l = listener(&a), one = 1, zero = 0;
	char b[64];
	NEED(l >= 0);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0 && connect(c, SA(a), sizeof a) == 0);
	int s = accept(l, 0, 0);
	NEED(s >= 0);
	SAME(send(c, "head", 4, MSG_MORE), 4);
	SAME(send(c, "body", 4, 0), 4);
	SAME(recv(s, b, 64, 0), 8); /* in one segment */
	CHECK(setsockopt(c, IPPROTO_TCP, TCP_CORK, &one, sizeof one) == 0);
	SAME(send(c, "12", 2, 0), 2);
	SAME(send(c, "34", 2, 0), 2);
	CHECK(setsockopt(c, IPPROTO_TCP, TCP_CORK, &zero, sizeof zero) == 0);
	SAME(recv(s, b, 64, 0), 4);
	SAME(send(c, "late", 4, MSG_MORE), 4);
	CHECK(awaited(s, POLLIN) > 0); /* after 200 ms */
	SAME(recv(s, b, 64, 0), 4);
	SAME(send(c, "last", 4, MSG_MORE), 4);
	close(c);
	SAME(recv(s, b, 64, MSG_WAITALL), 4);
	close(s), close(l);
}

/* Sends with MSG_MORE make one datagram, which goes where the first said. */
TEST(more_datagrams)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, b = a;
	socklen_t n = sizeof a;
	int r = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	static char buf[70000];
	EXPECT(bind(r, (void *)&a, sizeof a), 0);
	EXPECT(getsockname(r, (void *)&a, &n), 0);
	b.sin_port = htons(1);
	EXPECT(send(c, "x", 1, MSG_MORE), EDESTADDRREQ);
	SAME(sendto(c, "one ", 4, MSG_MORE, (void *)&a, sizeof a), 4);
	SAME(sendto(c, "two ", 4, MSG_MORE, (void *)&b, sizeof b), 4);
	EXPECT(recv(r, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
	SAME(send(c, "three", 5, 0), 5);
	SAME(recv(r, buf, sizeof buf, 0), 13);
	SAME(memcmp(buf, "one two three", 13), 0);
	EXPECT(connect(c, (void *)&a, sizeof a), 0);
	SAME(send(c, "a", 1, MSG_MORE), 1);
	SAME(send(c, "", 0, 0), 0);
	SAME(recv(r, buf, sizeof buf, 0), 1);
	/* what gets too long is lost */
	SAME(send(c, buf, 60000, MSG_MORE), 60000);
	EXPECT(send(c, buf, 10000, 0), EMSGSIZE);
	SAME(send(c, "after", 5, 0), 5);
	SAME(recv(r, buf, sizeof buf, 0), 5);
	close(r), close(c);
}

/* TCP_DEFER_ACCEPT: who has sent nothing is not accepted. */
TEST(deferred)
{
	for (int path = 0; path < 2; path++) {
		struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
		int l = listener(&a), v = 5;
		char b[8];
		NEED(l >= 0);
		CHECK(setsockopt(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, &v, sizeof v) == 0);
		int c = socket(AF_INET, SOCK_STREAM, 0);
		if (path)
			CHECK(setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
		CHECK(connect(c, SA(a), sizeof a) == 0);
		SAME(ready(c), POLLOUT);
		sleep_ms(50);
		SAME(ready(l), 0);
		SAME(send(c, "now", 3, 0), 3);
		SAME(awaited(l, POLLIN), POLLIN);
		int s = accept(l, 0, 0);
		NEED(s >= 0);
		SAME(awaited(s, POLLIN), POLLIN | POLLOUT);
		SAME(recv(s, b, 8, 0), 3);
		close(c), close(s), close(l);
	}
}

TEST(six)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6}, b;
	socklen_t n = sizeof a, m = sizeof b;
	char t[8];
	int l = socket(AF_INET6, SOCK_STREAM, 0);
	NEED(l >= 0 && bind(l, SA(a), n) == 0 && listen(l, 5) == 0 && getsockname(l, SA(a), &n) == 0);
	SAME(n, sizeof a);
	a.sin6_addr = in6addr_loopback;
	int c = socket(AF_INET6, SOCK_STREAM, 0);
	CHECK(connect(c, SA(a), sizeof a) == 0);
	int s = accept(l, SA(b), &m);
	NEED(s >= 0);
	CHECK(IN6_IS_ADDR_LOOPBACK(&b.sin6_addr));
	SAME(write(c, "six", 3), 3);
	SAME(read(s, t, 8), 3);
	close(c);
	close(s);
	struct sockaddr_in four = addr4(INADDR_LOOPBACK, ntohs(a.sin6_port));
	c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(c, SA(four), sizeof four) == 0);
	m = sizeof b;
	s = accept(l, SA(b), &m);
	NEED(s >= 0);
	CHECK(IN6_IS_ADDR_V4MAPPED(&b.sin6_addr));
	SAME(write(s, "four", 4), 4);
	SAME(read(c, t, 8), 4);
	close(c);
	close(s);
	close(l);
}

TEST(interfaces)
{
	struct ifreq r = {.ifr_name = "lo"};
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(ioctl(s, SIOCGIFINDEX, &r) == 0);
	SAME(r.ifr_ifindex, 1);
	CHECK(ioctl(s, SIOCGIFFLAGS, &r) == 0);
	SAME(r.ifr_flags & (IFF_UP | IFF_LOOPBACK | IFF_RUNNING), IFF_UP | IFF_LOOPBACK | IFF_RUNNING);
	CHECK(ioctl(s, SIOCGIFADDR, &r) == 0);
	SAME(ntohl(((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr), INADDR_LOOPBACK);
	strcpy(r.ifr_name, "none0");
	EXPECT(ioctl(s, SIOCGIFMTU, &r), ENODEV);
	EXPECT(ioctl(s, 0x89f1, &r), ENODEV); /* SIOCADDTUNNEL of a driver that is not there */
	strcpy(r.ifr_name, "lo");
	EXPECT(ioctl(s, 0x89f1, &r), EOPNOTSUPP);
	close(s);
}

/* connect(2) with AF_UNSPEC ends a connection of TCP, and the socket can be connected again. */
TEST(disconnect)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0), to;
	socklen_t n = sizeof a;
	char b[8];
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), s = -1;
	NEED(l >= 0 && c >= 0 && bind(l, SA(a), n) == 0 && listen(l, 5) == 0 && getsockname(l, SA(a), &n) == 0);
	CHECK(connect(c, &none, sizeof none) == 0);
	CHECK(connect(c, SA(a), n) == 0 && (s = accept(l, 0, 0)) >= 0);
	SAME(send(c, "abc", 3, 0), 3);
	SAME(send(s, "xyz", 3, 0), 3);
	CHECK(awaited(s, POLLIN) > 0);
	CHECK(connect(c, &none, sizeof none) == 0);
	CHECK(awaited(s, POLLHUP) > 0);
	SAME(recv(s, b, 8, 0), 3);
	EXPECT(recv(s, b, 8, 0), ECONNRESET);
	EXPECT(send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
	close(s);
	EXPECT(recv(c, b, 8, MSG_DONTWAIT), ECONNRESET);
	EXPECT(recv(c, b, 8, MSG_DONTWAIT), ENOTCONN);
	EXPECT(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
	SAME(ready(c), POLLOUT | POLLHUP);
	EXPECT(getpeername(c, SA(to), &n), ENOTCONN);
	for (int i = 0; i < 3; i++) { /* with an error that nobody asked for */
		CHECK(connect(c, SA(a), sizeof a) == 0 && (s = accept(l, 0, 0)) >= 0);
		EXPECT(connect(c, SA(a), sizeof a), EISCONN);
		SAME(send(c, "abc", 3, 0), 3);
		SAME(recv(s, b, 8, 0), 3);
		CHECK(connect(c, &none, sizeof none) == 0);
		EXPECT(recv(s, b, 8, 0), ECONNRESET);
		SAME(recv(s, b, 8, 0), 0);
		close(s);
	}
	CHECK(connect(c, SA(a), sizeof a) == 0 && (s = accept(l, 0, 0)) >= 0);
	CHECK(connect(s, &none, sizeof none) == 0);
	EXPECT(recv(c, b, 8, 0), ECONNRESET);
	close(s);
	CHECK(connect(l, &none, sizeof none) == 0);
	EXPECT(accept(l, 0, 0), EINVAL);
	close(c);
	c = socket(AF_INET, SOCK_STREAM, 0);
	EXPECT(connect(c, SA(a), sizeof a), ECONNREFUSED);
	close(l);
	to = addr4(INADDR_LOOPBACK, 0), n = sizeof to;
	l = socket(AF_INET, SOCK_STREAM, 0);
	NEED(l >= 0 && bind(l, SA(to), n) == 0 && listen(l, 5) == 0 && getsockname(l, SA(to), &n) == 0);
	CHECK(connect(c, &none, sizeof none) == 0 && connect(c, SA(to), sizeof to) == 0);
	EXPECT(connect(c, &none, 1), EINVAL);
	close(c);
	close(l);
}

/* The numbers of sends with MSG_ZEROCOPY that are done, of which the error queue tells: how many, or -1 where they are not those from next on. */
static int copied(int s, unsigned next)
{
	struct sock_extended_err *e;
	char control[128], b[8];
	struct iovec io = {b, sizeof b};
	struct sockaddr_storage name;
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control, .msg_name = &name, .msg_namelen = sizeof name};
	if (awaited(s, POLLERR) <= 0)
		return -1;
	SAME(recvmsg(s, &m, MSG_ERRQUEUE), 0);
	SAME(m.msg_flags, MSG_ERRQUEUE);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (!c)
		return -1;
	int six = c->cmsg_level == IPPROTO_IPV6;
	SAME(c->cmsg_type, six ? IPV6_RECVERR : IP_RECVERR);
	SAME(c->cmsg_len, CMSG_LEN(sizeof *e + (six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in))));
	e = (void *)CMSG_DATA(c);
	SAME(e->ee_errno, 0);
	SAME(e->ee_origin, SO_EE_ORIGIN_ZEROCOPY);
	SAME(e->ee_code, SO_EE_CODE_ZEROCOPY_COPIED);
	SAME(SO_EE_OFFENDER(e)->sa_family, AF_UNSPEC);
	return e->ee_info == next && e->ee_data >= next ? (int)(e->ee_data - next + 1) : -1;
}

/* MSG_ZEROCOPY: within the machine it copies all the same, and says so. */
TEST(zerocopy)
{
	struct sockaddr_in a = addr4(INADDR_LOOPBACK, 0);
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t n;
	static char b[40000];
	int one = 1, v;
	for (int kind = 0; kind < 4; kind++) {
		int type = kind & 1 ? SOCK_DGRAM : SOCK_STREAM, six = kind >> 1;
		int l = socket(six ? AF_INET6 : AF_INET, type, 0), c = socket(six ? AF_INET6 : AF_INET, type, 0), s = l;
		struct sockaddr *to = six ? SA(a6) : SA(a);
		n = six ? sizeof a6 : sizeof a;
		NEED(bind(l, to, n) == 0 && getsockname(l, to, &n) == 0);
		if (type == SOCK_STREAM)
			NEED(listen(l, 5) == 0);
		CHECK(connect(c, to, n) == 0);
		if (type == SOCK_STREAM)
			NEED((s = accept(l, 0, 0)) >= 0);
		n = sizeof v;
		CHECK(getsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &v, &n) == 0 && v == 0);
		SAME(send(c, "abc", 3, MSG_ZEROCOPY), 3); /* without the option: no word of it */
		SAME(ready(c), POLLOUT);
		v = 2;
		EXPECT(setsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &v, sizeof v), EINVAL);
		CHECK(setsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one) == 0);
		CHECK(getsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &v, &n) == 0 && v == 1);
		EXPECT(recv(c, b, 8, MSG_ERRQUEUE), EAGAIN);
		SAME(recv(s, b, sizeof b, 0), 3);
		unsigned done = 0;
		for (int i = 0; i < 3; i++) {
			SAME(send(c, b, sizeof b, MSG_ZEROCOPY), (long)sizeof b);
			for (long got = 0, r; got < (long)sizeof b; got += r)
				if ((r = recv(s, b, sizeof b, 0)) <= 0)
					NEED(r > 0);
			if (i == 0)
				continue; /* two may be told of at once */
			while (done <= (unsigned)i) {
				int more = copied(c, done);
				NEED(more > 0);
				done += more;
			}
		}
		SAME(send(c, "abc", 3, 0), 3);
		SAME(ready(c), POLLOUT);
		n = sizeof v;
		CHECK(getsockopt(c, SOL_SOCKET, SO_ERROR, &v, &n) == 0 && v == 0);
		if (s != l)
			close(s);
		close(c);
		close(l);
	}
	int u = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(setsockopt(u, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one) < 0 && (errno == EOPNOTSUPP || errno == 524)); /* ENOTSUPP, until Linux 6.9 */
	close(u);
}

/* As ping6 of busybox does it: a raw socket that takes answers only (ICMP6_FILTER). */
TEST(echo6)
{
	int s = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), at = 2;
	struct icmp6_filter f, g;
	socklen_t n = sizeof g;
	NEED(s >= 0);
	CHECK(getsockopt(s, IPPROTO_ICMPV6, ICMP6_FILTER, &g, &n) == 0 && n == sizeof g && ICMP6_FILTER_WILLPASS(ICMP6_ECHO_REQUEST, &g));
	ICMP6_FILTER_SETBLOCKALL(&f);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &f);
	CHECK(setsockopt(s, IPPROTO_ICMPV6, ICMP6_FILTER, &f, sizeof f) == 0);
	CHECK(getsockopt(s, IPPROTO_ICMPV6, ICMP6_FILTER, &g, &n) == 0 && memcmp(&f, &g, sizeof f) == 0);
	CHECK(setsockopt(s, SOL_RAW, IPV6_CHECKSUM, &at, sizeof at) == 0);
	EXPECT(setsockopt(s, IPPROTO_ICMPV6, 99, &at, sizeof at), ENOPROTOOPT);
	struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct icmp6_hdr h = {.icmp6_type = ICMP6_ECHO_REQUEST, .icmp6_id = htons(4711), .icmp6_seq = htons(1)}, r = {0};
	SAME(sendto(s, &h, sizeof h, 0, SA(to), sizeof to), sizeof h);
	CHECK(awaited(s, POLLIN) > 0);
	SAME(recv(s, &r, sizeof r, MSG_DONTWAIT), sizeof r);
	SAME(r.icmp6_type, ICMP6_ECHO_REPLY);
	SAME(ntohs(r.icmp6_id), 4711);
	EXPECT(recv(s, &r, sizeof r, MSG_DONTWAIT), EAGAIN);
	ICMP6_FILTER_SETBLOCK(ICMP6_ECHO_REPLY, &f);
	CHECK(setsockopt(s, IPPROTO_ICMPV6, ICMP6_FILTER, &f, sizeof f) == 0);
	SAME(sendto(s, &h, sizeof h, 0, SA(to), sizeof to), sizeof h);
	usleep(20000);
	EXPECT(recv(s, &r, sizeof r, MSG_DONTWAIT), EAGAIN);
	close(s);
	NEED((s = socket(AF_INET6, SOCK_RAW, 253)) >= 0);
	EXPECT(setsockopt(s, IPPROTO_ICMPV6, ICMP6_FILTER, &f, sizeof f), EOPNOTSUPP);
	CHECK(setsockopt(s, SOL_RAW, IPV6_CHECKSUM, &at, sizeof at) == 0 && getsockopt(s, IPPROTO_IPV6, IPV6_CHECKSUM, &at, &(socklen_t){sizeof at}) == 0 && at == 2);
	close(s);
}

static void *echo(void *p)
{
	int s = *(int *)p, n;
	static char b[4096];
	while ((n = read(s, b, sizeof b)) > 0)
		for (int o = 0, k; o < n; o += k)
			if ((k = write(s, b + o, n - o)) <= 0)
				return 0;
	shutdown(s, SHUT_WR);
	return 0;
}

TEST(a_million)
{
	int c, s;
	pthread_t th;
	NEED(pair(&c, &s) == 0 && pthread_create(&th, 0, echo, &s) == 0);
	static unsigned char b[8192];
	unsigned sent = 0, got = 0, bad = 0;
	for (;;) {
		int n = sent < 1000000 ? 1 + sent % 7919 : 0;
		for (int i = 0; i < n; i++)
			b[i] = (sent + i) * 31;
		if (n && write(c, b, n) != n)
			break;
		sent += n;
		if (sent >= 1000000 && n)
			shutdown(c, SHUT_WR);
		if ((n = recv(c, b, sizeof b, sent < 1000000 ? MSG_DONTWAIT : 0)) > 0)
			for (int i = 0; i < n; i++, got++)
				bad += b[i] != (unsigned char)(got * 31);
		else if (n == 0)
			break;
	}
	SAME(bad, 0);
	SAME(got, sent);
	pthread_join(th, 0);
	close(c);
	close(s);
}
