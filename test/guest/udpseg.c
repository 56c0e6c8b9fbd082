/* udpseg.c - many datagrams with one call: UDP_SEGMENT and UDP_GRO. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static char data[65536], got[65536];

/* Two sockets, the second of which is connected to the first. */
static void pair(int family, int *in, int *out)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *a = family == AF_INET ? (void *)&four : (void *)&six;
	socklen_t len = family == AF_INET ? sizeof four : sizeof six;
	NEED((*in = socket(family, SOCK_DGRAM, 0)) >= 0);
	NEED((*out = socket(family, SOCK_DGRAM, 0)) >= 0);
	NEED(!bind(*in, a, len));
	NEED(!getsockname(*in, a, &len));
	NEED(!connect(*out, a, len));
}

/* Sends n bytes of data with a size of segments in the ancillary data, of length bytes, unless that is 0. */
static ssize_t emit(int s, size_t n, unsigned size, size_t length)
{
	struct iovec v = {data, n};
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(4)];
	} c = {.h = {.cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(length)}};
	memcpy(CMSG_DATA(&c.h), &size, length);
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = length ? &c : 0, .msg_controllen = length ? CMSG_SPACE(length) : 0};
	return sendmsg(s, &m, 0);
}

/* Receives, and says in *size what the segments have, 0 when it was not told. */
static ssize_t hear(int s, size_t room, int *size)
{
	struct pollfd p = {s, POLLIN, 0};
	CHECK(poll(&p, 1, 10000) == 1);
	struct iovec v = {got, room};
	char control[256];
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(s, &m, 0);
	*size = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			CHECK(c->cmsg_len == CMSG_LEN(sizeof(int)));
			memcpy(size, CMSG_DATA(c), sizeof *size);
		}
	return n;
}

/* What is sent in segments comes as that many datagrams. */
static void in_segments(int family)
{
	int in, out, size;
	pair(family, &in, &out);
	SAME(emit(out, 5123, 500, 2), 5123);
	for (int at = 0; at < 5123; at += 500) {
		ssize_t n = hear(in, sizeof got, &size);
		SAME(n, at < 5000 ? 500 : 123);
		CHECK(!size && !memcmp(got, data + at, n));
	}
	CHECK(!setsockopt(out, IPPROTO_UDP, UDP_SEGMENT, (int[]){1000}, 4));
	SAME(send(out, data, 3000, 0), 3000);
	SAME(emit(out, 1000, 700, 2), 1000); /* what the message says counts */
	SAME(send(out, data, 900, 0), 900);
	int want[] = {1000, 1000, 1000, 700, 300, 900};
	for (int i = 0; i < 6; i++)
		SAME(hear(in, sizeof got, &size), want[i]);
	SAME(emit(out, 64 * 100, 100, 2), 64 * 100);
	for (int i = 0; i < 64; i++)
		SAME(hear(in, sizeof got, &size), 100);
	EXPECT(emit(out, 128 * 100 + 1, 100, 2), EINVAL);
	EXPECT(emit(out, 100, 10, 4), EINVAL);
	EXPECT(recv(in, got, sizeof got, MSG_DONTWAIT), EAGAIN);
	CHECK(!setsockopt(out, IPPROTO_UDP, UDP_SEGMENT, (int[]){0}, 4));
	SAME(send(out, data, 3000, 0), 3000);
	SAME(hear(in, sizeof got, &size), 3000);
	close(in);
	close(out);
}

/* With UDP_GRO they come together, with their size, in order and not more than there is. */
static void as_one(int family)
{
	int in, out, size, told = 0;
	pair(family, &in, &out);
	CHECK(!setsockopt(in, IPPROTO_UDP, UDP_GRO, (int[]){1}, 4));
	for (int round = 0; round < 20; round++) {
		SAME(emit(out, 5123, 500, 2), 5123);
		for (int at = 0; at < 5123;) {
			ssize_t n = hear(in, sizeof got, &size);
			CHECK(n > 0 && at + n <= 5123 && !memcmp(got, data + at, n));
			CHECK(size ? size == 500 && n > 500 : n == 500 || n == 123);
			told += size != 0;
			if (n <= 0)
				return;
			at += n;
		}
	}
	CHECK(told > 0);
	/* A datagram by itself, and those of others, come by themselves. */
	SAME(send(out, data, 700, 0), 700);
	SAME(hear(in, sizeof got, &size), 700);
	SAME(size, 0);
	close(in);
	close(out);
}

__attribute__((constructor)) static void fill(void)
{
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = i * 7 + i / 251;
}

TEST(segments)
{
	in_segments(AF_INET);
	in_segments(AF_INET6);
}

TEST(together)
{
	as_one(AF_INET);
	as_one(AF_INET6);
}

TEST(others)
{
	int t = socket(AF_INET, SOCK_STREAM, 0);
	EXPECT(setsockopt(t, IPPROTO_UDP, UDP_SEGMENT, (int[]){100}, 4), ENOPROTOOPT);
}
