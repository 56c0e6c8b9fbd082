/*
 * sockpoll.c - what poll(2) and the calls of sockets say in every state of a TCP socket: each operation is made on a fresh
 * socket in each state, once with a connection within the machine and once, with the client bound to lo, through the stack.
 * It prints what it finds, which the harness compares with Linux.
 */
#include "check.h"
#include "lo.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SA(a) ((struct sockaddr *)&(a))

static int far; /* the way of packets */
static struct sockaddr_in where;

static void settle(void) { settle_lo(3, far ? 4 : 1); }

static int listening(int backlog)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || bind(l, SA(a), n) || listen(l, backlog) || getsockname(l, SA(a), &n))
		return -1;
	where = a;
	return l;
}

static int client(int flags)
{
	int c = socket(AF_INET, SOCK_STREAM | flags, 0);
	if (far)
		setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
	return c;
}

/* pair leaves the other end in peer. */
static int peer;

static int pair(void)
{
	int l = listening(5), c = client(0);
	if (l < 0 || connect(c, SA(where), sizeof where))
		return -1;
	peer = accept(l, 0, 0);
	close(l);
	return c;
}

static int fresh(void) { return client(0); }

static int bound(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int c = client(0);
	bind(c, SA(a), sizeof a);
	return c;
}

static int listens(void) { return listening(5); }

static int awaited(void) /* a connection waits to be accepted */
{
	int l = listening(5);
	peer = client(0);
	connect(peer, SA(where), sizeof where);
	return l;
}

static int unlistened(void)
{
	int l = awaited();
	shutdown(l, SHUT_RD);
	return l;
}

static int refused(void)
{
	int l = listening(5), c = client(SOCK_NONBLOCK);
	close(l);
	connect(c, SA(where), sizeof where);
	return c;
}

static int refused_told(void)
{
	int c = refused(), e;
	socklen_t n = sizeof e;
	settle();
	getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &n);
	return c;
}

static int nonblocking(void) /* connected, which nobody has been told */
{
	int l = listening(5), c = client(SOCK_NONBLOCK);
	connect(c, SA(where), sizeof where);
	peer = accept(l, 0, 0);
	close(l);
	return c;
}

static int data(void)
{
	int c = pair();
	send(peer, "hello", 5, 0);
	return c;
}

static int filled(void)
{
	static char b[1 << 16];
	int c = pair(), v = 8192;
	setsockopt(c, SOL_SOCKET, SO_SNDBUF, &v, sizeof v);
	setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &v, sizeof v);
	while (send(c, b, sizeof b, MSG_DONTWAIT) > 0)
		;
	settle();
	while (send(c, b, sizeof b, MSG_DONTWAIT) > 0)
		;
	return c;
}

/* drain reads at the other end until this one may write. */
static void drain(int c, char *b, int n)
{
	struct pollfd p = {c, POLLOUT, 0};
	for (int i = 0; i < 1000 && poll(&p, 1, 5) == 0; i++)
		while (recv(peer, b, n, MSG_DONTWAIT) > 0)
			;
}

static int drained(void)
{
	static char b[1 << 16];
	int c = filled();
	drain(c, b, sizeof b);
	return c;
}

static int ended(void)
{
	int c = data();
	shutdown(peer, SHUT_WR);
	return c;
}

static int ended_read(void)
{
	char b[8];
	int c = ended();
	settle();
	recv(c, b, 8, 0);
	return c;
}

static int shut(void)
{
	int c = pair();
	shutdown(c, SHUT_WR);
	return c;
}

static int shut_read(void)
{
	int c = data();
	shutdown(c, SHUT_RD);
	return c;
}

static int shut_both(void)
{
	int c = pair();
	shutdown(c, SHUT_RDWR);
	return c;
}

static int closed_both(void)
{
	int c = shut();
	shutdown(peer, SHUT_WR);
	return c;
}

static int gone(void)
{
	int c = data();
	close(peer);
	peer = -1;
	return c;
}

static int gone_written(void) /* what was written is answered by a reset */
{
	int c = gone();
	settle();
	send(c, "x", 1, MSG_NOSIGNAL);
	return c;
}

static int reset(void)
{
	struct linger l = {1, 0};
	int c = pair();
	setsockopt(peer, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(peer);
	peer = -1;
	return c;
}

static int reset_data(void) /* with bytes that were not read here */
{
	struct linger l = {1, 0};
	int c = data();
	settle();
	setsockopt(peer, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(peer);
	peer = -1;
	return c;
}

static int reset_unread(void) /* with bytes that were not read there */
{
	int c = pair();
	send(c, "unread", 6, 0);
	settle();
	close(peer);
	peer = -1;
	return c;
}

static int reset_told(void)
{
	int c = reset(), e;
	socklen_t n = sizeof e;
	settle();
	getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &n);
	return c;
}

static int reset_shut(void) /* after the end was sent */
{
	struct linger l = {1, 0};
	int c = shut();
	settle();
	setsockopt(peer, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(peer);
	peer = -1;
	return c;
}

#define S(f) {f, #f}
static const struct { int (*make)(void); const char *name; } states[] = {
	S(fresh), S(bound), S(listens), S(awaited), S(unlistened), S(refused), S(refused_told), S(nonblocking), S(pair), S(data), S(filled), S(drained), S(ended),
	S(ended_read), S(shut), S(shut_read), S(shut_both), S(closed_both), S(gone), S(gone_written), S(reset), S(reset_data), S(reset_unread), S(reset_told), S(reset_shut),
};

static int events(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

static char *result(char *b, const char *what, long r)
{
	return b + (r < 0 ? sprintf(b, " %s=E%d", what, errno) : sprintf(b, " %s=%ld", what, r));
}

static long operate(int op, int fd)
{
	char b[64];
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	int e = 0;
	struct tcp_info i;
	switch (op) {
	case 0: return recv(fd, b, 3, MSG_DONTWAIT);
	case 1: return recv(fd, b, sizeof b, MSG_DONTWAIT | MSG_PEEK);
	case 2: return send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	case 3: return shutdown(fd, SHUT_WR);
	case 4: return shutdown(fd, SHUT_RD);
	case 5: return getpeername(fd, SA(a), &n);
	case 6: n = sizeof e; return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) ? -1 : e;
	case 7: return fcntl(fd, F_SETFL, O_NONBLOCK) ? -1 : accept(fd, 0, 0) < 0 ? -1 : 1;
	case 8: return listen(fd, 3);
	case 9: /* 5, FIN_WAIT2, as 4, FIN_WAIT1: the acknowledgement between them may be delayed */
		n = sizeof i;
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n))
			return -1;
		return i.tcpi_state == 5 ? 4 : i.tcpi_state;
	case 10: return ioctl(fd, FIONREAD, &e) ? -1 : e;
	case 11: n = sizeof e; return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &e, &n) ? -1 : e;
	}
	return -1;
}

static const char *const names[] = {"recv", "peek", "send", "shut_wr", "shut_rd", "peername", "error", "accept", "listen", "state", "inq", "accepts"};

/* Those that change nothing share a socket. */
static const int looks[] = {5, 9, 10, 11, 6}, acts[] = {0, 1, 2, 3, 4, 7, 8};

static void table(void)
{
	for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
		char line[800], *b = line;
		for (int act = -1; act < (int)(sizeof acts / sizeof *acts); act++) {
			peer = -1;
			int fd = states[i].make();
			NEED(fd >= 0);
			settle();
			if (act < 0) {
				b += sprintf(b, "%s: poll=%#x", states[i].name, events(fd));
				for (size_t k = 0; k < sizeof looks / sizeof *looks; k++)
					b = result(b, names[looks[k]], operate(looks[k], fd));
				b += sprintf(b, ":%#x", events(fd));
			} else {
				b = result(b, names[acts[act]], operate(acts[act], fd));
				settle();
				b += sprintf(b, ":%#x", events(fd));
			}
			close(fd);
			if (peer >= 0)
				close(peer);
		}
		say("%s", line);
	}
}

TEST(near_table) { far = 0; table(); }
TEST(far_table) { far = 1; table(); }

static int edge(int e)
{
	struct epoll_event got = {0};
	return epoll_wait(e, &got, 1, 60) == 1 ? (int)got.events : 0;
}

static void twice(const char *what, int e)
{
	int first = edge(e), second = edge(e);
	say("%s%#x again %#x", what, first, second);
}

/* Edges: one event for each thing that happens, whatever is left unread. */
static void edges(void)
{
	char b[16];
	int c = pair(), e = epoll_create1(0);
	NEED(c >= 0);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	CHECK(epoll_ctl(e, EPOLL_CTL_ADD, c, &ev) == 0);
	twice("added ", e);
	send(peer, "12345", 5, 0);
	twice("data ", e);
	recv(c, b, 2, 0);
	say("part read %#x", edge(e));
	send(peer, "6", 1, 0);
	say("more data %#x", edge(e));
	recv(c, b, 16, 0);
	say("all read %#x", edge(e));
	CHECK(epoll_ctl(e, EPOLL_CTL_MOD, c, &ev) == 0);
	say("modified %#x", edge(e));
	shutdown(peer, SHUT_WR);
	twice("end ", e);
	shutdown(c, SHUT_WR);
	say("both ends %#x", edge(e));
	close(c), close(peer), close(e);

	c = filled(), e = epoll_create1(0);
	CHECK(epoll_ctl(e, EPOLL_CTL_ADD, c, &ev) == 0);
	say("full %#x", edge(e));
	static char big[1 << 16];
	drain(c, big, sizeof big);
	twice("drained ", e);
	struct linger l = {1, 0};
	setsockopt(peer, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(peer);
	twice("reset ", e);
	close(c), close(e);

	int s = listening(5);
	e = epoll_create1(0);
	CHECK(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev) == 0);
	say("listens %#x", edge(e));
	int d[3];
	for (int i = 0; i < 3; i++) {
		d[i] = client(0);
		CHECK(connect(d[i], SA(where), sizeof where) == 0);
		say("connection %#x", edge(e));
	}
	for (int i = 0; i < 3; i++)
		close(accept(s, 0, 0));
	say("accepted %#x", edge(e));
	for (int i = 0; i < 3; i++)
		close(d[i]);
	close(s), close(e);

	c = client(SOCK_NONBLOCK), e = epoll_create1(0);
	CHECK(epoll_ctl(e, EPOLL_CTL_ADD, c, &ev) == 0);
	say("fresh %#x", edge(e));
	connect(c, SA(where), sizeof where); /* nobody listens */
	twice("refused ", e);
	close(c), close(e);
}

TEST(near_edges) { far = 0; edges(); }
TEST(far_edges) { far = 1; edges(); }
