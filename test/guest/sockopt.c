/*
 * sockopt.c - the options that Linux and gosv have for sockets of AF_INET and AF_INET6: what it is at first, what setsockopt(2)
 * makes of several values, and of values that are too short (socket(7), tcp(7), udp(7), ip(7), ipv6(7)). It prints what it
 * finds, which the harness compares with Linux.
 */
#include "check.h"
#include <arpa/inet.h>
#include <linux/in6.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define O(l, n, ...) {l, n, #n, {__VA_ARGS__}}
#define END INT32_MIN

/* Names that Debian's headers lack, or hide. */
#ifndef IP_FREEBIND
#define IP_FREEBIND 15
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#endif

static const struct option {
	int level, name;
	const char *text;
	int values[8];
} options[] = {
	O(SOL_SOCKET, SO_DEBUG, 1, 0, END), O(SOL_SOCKET, SO_REUSEADDR, 1, 2, 0, END), O(SOL_SOCKET, SO_DONTROUTE, 1, 0, END),
	O(SOL_SOCKET, SO_BROADCAST, 1, 0, END), O(SOL_SOCKET, SO_KEEPALIVE, 1, -1, 0, END), O(SOL_SOCKET, SO_OOBINLINE, 1, 5, 0, END),
	O(SOL_SOCKET, SO_NO_CHECK, 1, 0, END), O(SOL_SOCKET, SO_PRIORITY, 3, 6, 0, END), O(SOL_SOCKET, SO_REUSEPORT, 1, 0, END),
	O(SOL_SOCKET, SO_TIMESTAMP, 1, 0, END), O(SOL_SOCKET, SO_TIMESTAMPNS, 1, 0, END),
	O(SOL_SOCKET, SO_RCVLOWAT, 5, 0, 1, END), O(SOL_SOCKET, SO_SNDLOWAT, 5, END), O(SOL_SOCKET, SO_MARK, 7, 0, END),
	O(SOL_SOCKET, SO_RXQ_OVFL, 1, 0, END), O(SOL_SOCKET, SO_WIFI_STATUS, 1, 0, END),
	O(SOL_SOCKET, SO_NOFCS, 1, 0, END), O(SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1, 0, END),
	O(SOL_SOCKET, SO_BUSY_POLL, 50, 0, -1, END), O(SOL_SOCKET, SO_INCOMING_CPU, 0, END),
	O(SOL_SOCKET, SO_INCOMING_NAPI_ID, 1, END), O(SOL_SOCKET, SO_TYPE, 1, END), O(SOL_SOCKET, SO_PROTOCOL, 1, END),
	O(SOL_SOCKET, SO_DOMAIN, 1, END), O(SOL_SOCKET, SO_ERROR, 1, END), O(SOL_SOCKET, SO_ACCEPTCONN, 1, END), O(SOL_SOCKET, SO_BSDCOMPAT, 1, END),
	O(SOL_SOCKET, SO_SNDBUF, 20000, 100, END), O(SOL_SOCKET, SO_RCVBUF, 20000, 100, END), O(SOL_SOCKET, SO_DETACH_FILTER, 0, END),
	O(SOL_SOCKET, SO_PREFER_BUSY_POLL, 0, END), O(SOL_SOCKET, 999, 1, END),
	O(IPPROTO_TCP, TCP_NODELAY, 1, 2, 0, END), O(IPPROTO_TCP, TCP_MAXSEG, 1000, 87, 88, 40000, 0, END), O(IPPROTO_TCP, TCP_CORK, 1, 0, END),
	O(IPPROTO_TCP, TCP_KEEPIDLE, 77, 0, 32767, 32768, END), O(IPPROTO_TCP, TCP_KEEPINTVL, 7, 0, 32768, END), O(IPPROTO_TCP, TCP_KEEPCNT, 5, 0, 127, 128, END),
	O(IPPROTO_TCP, TCP_SYNCNT, 3, 0, 127, 128, END), O(IPPROTO_TCP, TCP_LINGER2, 7, 0, -1, 1000, END), O(IPPROTO_TCP, TCP_DEFER_ACCEPT, 1, 5, 30, 0, -1, END),
	O(IPPROTO_TCP, TCP_WINDOW_CLAMP, 10000, 1, 0, END), O(IPPROTO_TCP, TCP_QUICKACK, 0, 1, END), O(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1, 2, 0, END),
	O(IPPROTO_TCP, TCP_THIN_DUPACK, 1, 2, 0, END), O(IPPROTO_TCP, TCP_USER_TIMEOUT, 3000, -1, 0, END),
	O(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0, 2, END),
	O(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384, 0, -1, END), O(IPPROTO_TCP, TCP_INQ, 1, 2, 0, END),
	O(IPPROTO_TCP, 999, 1, END),
	O(IPPROTO_UDP, 103 /* UDP_SEGMENT */, 1000, 0, 65535, 65536, -1, END), O(IPPROTO_UDP, 104 /* UDP_GRO */, 1, 2, 0, END),
	O(IPPROTO_UDP, 999, 1, END),
	O(IPPROTO_IP, IP_TOS, 0x10, 0xb8, 0, 256, END), O(IPPROTO_IP, IP_TTL, 33, 0, 256, -1, END), O(IPPROTO_IP, IP_HDRINCL, 1, 0, END),
	O(IPPROTO_IP, IP_RECVOPTS, 1, 0, END), O(IPPROTO_IP, IP_RETOPTS, 1, 0, END), O(IPPROTO_IP, IP_PKTINFO, 1, 0, END), O(IPPROTO_IP, IP_MTU_DISCOVER, 2, 3, 4, 5, 0, 6, -1, END),
	O(IPPROTO_IP, IP_RECVERR, 1, 0, END), O(IPPROTO_IP, IP_RECVTTL, 1, 0, END), O(IPPROTO_IP, IP_RECVTOS, 1, 0, END), O(IPPROTO_IP, IP_MTU, END),
	O(IPPROTO_IP, IP_FREEBIND, 1, 0, END), O(IPPROTO_IP, IP_PASSSEC, 1, 0, END), O(IPPROTO_IP, IP_RECVORIGDSTADDR, 1, 0, END),
	O(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, 0, END),
	O(IPPROTO_IP, IP_MULTICAST_TTL, 5, 0, -1, 256, END), O(IPPROTO_IP, IP_MULTICAST_LOOP, 0, 2, 1, END), O(IPPROTO_IP, IP_MULTICAST_ALL, 0, 2, 1, END),
	 O(IPPROTO_IP, 999, 1, END),
	O(IPPROTO_IPV6, IPV6_V6ONLY, 1, 2, 0, END), O(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, 0, END),
	O(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1, 0, END),
	O(IPPROTO_IPV6, IPV6_TCLASS, 0x20, 255, 256, -1, -2, END),
	O(IPPROTO_IPV6, IPV6_RECVTCLASS, 1, 0, END),
	O(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 5, 0, 255, 256, -1, -2, END),
	O(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 5, 0, 255, 256, -1, -2, END), O(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0, 1, 2, END), O(IPPROTO_IPV6, IPV6_MULTICAST_IF, 1, 99, 0, END),
	O(IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0, 1, END), O(IPPROTO_IPV6, IPV6_MTU_DISCOVER, 2, 3, 4, 5, 0, 6, -1, END),
	O(IPPROTO_IPV6, IPV6_MTU, 1300, 100, 0, END), O(IPPROTO_IPV6, IPV6_RECVERR, 1, 0, END),
	O(IPPROTO_IPV6, IPV6_DONTFRAG, 1, 0, END),
	O(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 1, 0, END), O(IPPROTO_IPV6, IPV6_FREEBIND, 1, 0, END),
	O(IPPROTO_IPV6, IPV6_CHECKSUM, 2, -1, 3, END), O(IPPROTO_IPV6, 999, 1, END),
};
#define COUNT (sizeof options / sizeof *options)

static int setting(int fd, const struct option *o, int v, int size)
{
	return setsockopt(fd, o->level, o->name, &v, size) ? errno : 0;
}

/* got writes what getsockopt says: length and value, or the error. */
static char *got(char *b, int fd, const struct option *o, int room)
{
	union { int i; unsigned char c[16]; } v = {.c = {[0 ... 15] = 0xaa}};
	socklen_t n = room;
	if (getsockopt(fd, o->level, o->name, &v, &n))
		return b + sprintf(b, "E%d", errno);
	if (n == 4)
		return b + sprintf(b, "%d", v.i);
	if (n == 1)
		return b + sprintf(b, "%d/1", v.c[0]);
	return b + sprintf(b, "%u bytes", n);
}

static const struct { int family, type, protocol; const char *name; } kinds[] = {
	{AF_INET, SOCK_STREAM, 0, "tcp"}, {AF_INET6, SOCK_STREAM, 0, "tcp6"}, {AF_INET, SOCK_DGRAM, 0, "udp"}, {AF_INET6, SOCK_DGRAM, 0, "udp6"},
	{AF_INET, SOCK_RAW, 253, "raw"}, {AF_INET6, SOCK_RAW, 253, "raw6"},
};

static void all(int k)
{
	for (size_t i = 0; i < COUNT; i++) {
		const struct option *o = &options[i];
		char line[400], *b = line;
		int fd = socket(kinds[k].family, kinds[k].type, kinds[k].protocol);
		NEED(fd >= 0);
		b += sprintf(b, "%s %d %s: ", kinds[k].name, o->level, o->text);
		if (o->name != SO_SNDBUF && o->name != SO_RCVBUF)
			b = got(b, fd, o, 16);
		for (int j = 0; o->values[j] != END; j++) {
			b += sprintf(b, " %d=", o->values[j]);
			int e = setting(fd, o, o->values[j], 4);
			b += e ? sprintf(b, "E%d", e) : sprintf(b, ">");
			if (!e)
				b = got(b, fd, o, 16);
		}
		for (int n = 0; n < 4; n++)
			b += sprintf(b, "%s%d", n ? "," : " short ", setting(fd, o, 0, n));
		b += sprintf(b, " room ");
		got(b, fd, o, 2);
		say("%s", line);
		close(fd);
	}
}

TEST(tcp) { all(0); }
TEST(tcp6) { all(1); }
TEST(udp) { all(2); }
TEST(udp6) { all(3); }
TEST(raw) { all(4); }
TEST(raw6) { all(5); }
