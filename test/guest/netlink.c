/* netlink.c - netlink(7), rtnetlink(7), sock_diag(7), and what getifaddrs(3) makes of them. */
#include "check.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/netlink_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define NL(a) ((struct sockaddr *)&(a))

static int nl(int protocol)
{
	struct timeval tv = {10, 0};
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	return s;
}

struct request {
	struct nlmsghdr h;
	char body[256];
};

/* Sends a request and calls each for the messages of the answer; returns the error, negative, or 0. */
static int ask(int s, int type, int flags, const void *body, size_t n, void (*each)(struct nlmsghdr *))
{
	static char b[32768] __attribute__((aligned(8)));
	struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(n), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = 7}};
	memcpy(r.body, body, n);
	if (send(s, &r, r.h.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		long got = recv(s, b, sizeof b, 0);
		if (got < 0)
			return -errno;
		for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
			if (h->nlmsg_seq != 7)
				continue;
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (each)
				each(h);
			if (!(h->nlmsg_flags & NLM_F_MULTI))
				return 0;
		}
	}
}

static int found;

static void is_lo(struct nlmsghdr *h)
{
	struct ifinfomsg *i = NLMSG_DATA(h);
	long n = (long)IFLA_PAYLOAD(h);
	if (h->nlmsg_type != RTM_NEWLINK)
		return;
	for (struct rtattr *a = IFLA_RTA(i); RTA_OK(a, n); a = RTA_NEXT(a, n))
		if (a->rta_type == IFLA_IFNAME && strcmp(RTA_DATA(a), "lo") == 0 && i->ifi_flags & IFF_LOOPBACK)
			found = i->ifi_index;
}

static void is_localhost(struct nlmsghdr *h)
{
	struct ifaddrmsg *i = NLMSG_DATA(h);
	long n = (long)IFA_PAYLOAD(h);
	if (h->nlmsg_type != RTM_NEWADDR || i->ifa_family != AF_INET)
		return;
	for (struct rtattr *a = IFA_RTA(i); RTA_OK(a, n); a = RTA_NEXT(a, n))
		if (a->rta_type == IFA_LOCAL && *(u32 *)RTA_DATA(a) == htonl(INADDR_LOOPBACK) && i->ifa_prefixlen == 8)
			found++;
}

TEST(links)
{
	int s = nl(NETLINK_ROUTE);
	NEED(s >= 0);
	struct ifinfomsg i = {.ifi_family = AF_UNSPEC};
	found = 0;
	SAME(ask(s, RTM_GETLINK, NLM_F_DUMP, &i, sizeof i, is_lo), 0);
	SAME(found, 1);
	i.ifi_index = 1;
	found = 0;
	SAME(ask(s, RTM_GETLINK, 0, &i, sizeof i, is_lo), 0);
	SAME(found, 1);
	i.ifi_index = 9999;
	SAME(ask(s, RTM_GETLINK, 0, &i, sizeof i, is_lo), -ENODEV);
	struct ifaddrmsg a = {.ifa_family = AF_INET};
	found = 0;
	SAME(ask(s, RTM_GETADDR, NLM_F_DUMP, &a, sizeof a, is_localhost), 0);
	SAME(found, 1);
	SAME(ask(s, RTM_GETLINK, 0, &i, 4, 0), -EINVAL);
	SAME(ask(s, 4242, NLM_F_ACK, &i, 4, 0), -EOPNOTSUPP);
	close(s);
}

static u32 ways[64];
static unsigned order;

/* Attributes in their order, four bits each. */
static void is_way(struct nlmsghdr *h)
{
	struct rtmsg *r = NLMSG_DATA(h);
	long n = (long)RTM_PAYLOAD(h);
	found = h->nlmsg_type == RTM_NEWROUTE && r->rtm_type == RTN_LOCAL ? (int)r->rtm_dst_len : -1;
	ways[0] = r->rtm_flags;
	for (struct rtattr *a = RTM_RTA(r); RTA_OK(a, n); a = RTA_NEXT(a, n))
		if (a->rta_type > 0 && a->rta_type < 64) {
			ways[a->rta_type] = a->rta_type == RTA_PREF ? 1 : *(u32 *)RTA_DATA(a);
			order = order << 4 | (a->rta_type & 15);
		}
}

/* What nmap needs: an interface is told before the last four bytes of the answer. */
TEST(way_to_an_address)
{
	struct {
		struct rtmsg r;
		struct rtattr a;
		unsigned char addr[16];
	} q = {.r = {.rtm_family = AF_INET, .rtm_dst_len = 32}, .a = {.rta_len = RTA_LENGTH(4), .rta_type = RTA_DST}, .addr = {127, 0, 0, 1}};
	int s = nl(NETLINK_ROUTE);
	NEED(s >= 0);
	SAME(ask(s, RTM_GETROUTE, 0, &q, sizeof q.r + RTA_LENGTH(4), is_way), 0);
	SAME(found, 32);
	SAME(ways[0], RTM_F_CLONED | 0x80000000);
	SAME(ways[RTA_TABLE], RT_TABLE_MAIN);
	SAME(ways[RTA_OIF], 1);
	SAME(ways[RTA_PREFSRC], htonl(INADDR_LOOPBACK));
	SAME(ways[RTA_UID], getuid());
	SAME(order, 0xf1479c);
	memcpy(q.addr, &in6addr_loopback, 16);
	q.r.rtm_family = AF_INET6;
	q.r.rtm_dst_len = 128;
	q.a.rta_len = RTA_LENGTH(16);
	order = 0;
	if (access("/proc/net/if_inet6", F_OK) == 0) { /* some hosts of containers have no IPv6 */
		SAME(ask(s, RTM_GETROUTE, 0, &q, sizeof q.r + RTA_LENGTH(16), is_way), 0);
		SAME(found, 128);
		SAME(ways[RTA_TABLE], RT_TABLE_LOCAL);
		SAME(order, 0xf12764c4);
	}
	close(s);
}

TEST(names_and_addresses)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK}, b;
	socklen_t len = sizeof b;
	int s = nl(NETLINK_ROUTE), t = nl(NETLINK_ROUTE);
	NEED(bind(s, NL(a), sizeof a) == 0);
	NEED(getsockname(s, NL(b), &len) == 0);
	SAME(len, sizeof b);
	SAME(b.nl_pid, getpid());
	EXPECT(bind(t, NL(b), sizeof b), EADDRINUSE);
	NEED(bind(t, NL(a), sizeof a) == 0);
	NEED(getsockname(t, NL(b), &len) == 0);
	CHECK(b.nl_pid != (u32)getpid() && b.nl_pid != 0);
	EXPECT(bind(s, NL(a), 5), EINVAL);
	EXPECT(socket(AF_NETLINK, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
	EXPECT(socket(AF_NETLINK, SOCK_RAW, 31), EPROTONOSUPPORT);
	int on = 1;
	NEED(setsockopt(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int[]){RTNLGRP_LINK}, 4) == 0);
	EXPECT(setsockopt(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int[]){0}, 4), EINVAL);
	NEED(setsockopt(s, SOL_NETLINK, NETLINK_EXT_ACK, &on, 4) == 0);
	EXPECT(recv(s, &on, 4, MSG_DONTWAIT), EAGAIN);
	close(s);
	close(t);
}

/* How libraries find out how large a buffer must be. */
TEST(peek_and_truncate)
{
	int s = nl(NETLINK_ROUTE);
	static char b[32768];
	struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
	SAME(send(s, &r, r.h.nlmsg_len, 0), r.h.nlmsg_len);
	long n = recv(s, b, 1, MSG_PEEK | MSG_TRUNC);
	CHECK(n > 100);
	SAME(recv(s, b, sizeof b, 0), n);
	close(s);
}

TEST(getifaddrs)
{
	struct ifaddrs *list, *i;
	int lo = 0;
	NEED(getifaddrs(&list) == 0);
	for (i = list; i; i = i->ifa_next)
		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && strcmp(i->ifa_name, "lo") == 0)
			lo += ((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
	SAME(lo, 1);
	freeifaddrs(list);
	SAME(if_nametoindex("lo"), 1);
	char name[IF_NAMESIZE];
	CHECK(if_indextoname(1, name) && strcmp(name, "lo") == 0);
}

TEST(unprivileged)
{
	int s = nl(NETLINK_ROUTE);
	struct ifinfomsg i = {.ifi_family = AF_UNSPEC, .ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	if (geteuid() == 0)
		NEED(setresuid(4321, 4321, 4321) == 0);
	SAME(ask(s, RTM_NEWLINK, NLM_F_ACK, &i, sizeof i, 0), -EPERM);
	close(s);
}

static ino_t wanted;

static void is_wanted(struct nlmsghdr *h)
{
	struct unix_diag_msg *m = NLMSG_DATA(h);
	if (m->udiag_ino == wanted && m->udiag_type == SOCK_STREAM && m->udiag_state == 1)
		found++;
}

TEST(diag_unix)
{
	int s = nl(NETLINK_SOCK_DIAG), p[2];
	struct stat st;
	NEED(s >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && fstat(p[0], &st) == 0);
	wanted = st.st_ino;
	struct unix_diag_req q = {.sdiag_family = AF_UNIX, .udiag_states = -1, .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER};
	found = 0;
	SAME(ask(s, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &q, sizeof q, is_wanted), 0);
	SAME(found, 1);
	close(s);
	close(p[0]);
	close(p[1]);
}

static void is_itself(struct nlmsghdr *h)
{
	struct netlink_diag_msg *m = NLMSG_DATA(h);
	if (m->ndiag_ino == wanted && m->ndiag_type == SOCK_RAW && m->ndiag_protocol == NETLINK_ROUTE && m->ndiag_portid == (u32)getpid())
		found++;
}

/* How strace finds out what a netlink socket speaks. */
TEST(diag_netlink)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK};
	struct stat st;
	int route = nl(NETLINK_ROUTE), s = nl(NETLINK_SOCK_DIAG);
	NEED(s >= 0 && bind(route, NL(a), sizeof a) == 0 && fstat(route, &st) == 0);
	wanted = st.st_ino;
	struct netlink_diag_req q = {.sdiag_family = AF_NETLINK, .sdiag_protocol = NDIAG_PROTO_ALL};
	for (int i = 0; i < 2; i++) {
		found = 0;
		SAME(ask(s, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &q, sizeof q, is_itself), 0);
		SAME(found, i == 0);
		q.sdiag_protocol = NETLINK_SOCK_DIAG;
	}
	close(s);
	close(route);
}

/* A filter lets the first 16 bytes of an answer in, or nothing of it. */
TEST(filter)
{
	int s = nl(NETLINK_ROUTE);
	NEED(s >= 0);
	struct sock_filter take = {BPF_RET | BPF_K, 0, 0, 16};
	struct sock_fprog p = {1, &take};
	struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(0), .nlmsg_type = 9999, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK, .nlmsg_seq = 7}};
	char b[256];
	EXPECT(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &p, sizeof p), ENOENT);
	CHECK(!setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p));
	SAME(send(s, &r, r.h.nlmsg_len, 0), (long)r.h.nlmsg_len);
	SAME(recv(s, b, sizeof b, MSG_DONTWAIT), 16);
	take.k = 0;
	CHECK(!setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p));
	SAME(send(s, &r, r.h.nlmsg_len, 0), (long)r.h.nlmsg_len);
	EXPECT(recv(s, b, sizeof b, MSG_DONTWAIT), EAGAIN);
	CHECK(!setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &p, sizeof p));
	SAME(send(s, &r, r.h.nlmsg_len, 0), (long)r.h.nlmsg_len);
	CHECK(recv(s, b, sizeof b, MSG_DONTWAIT) > 16);
	take.code = BPF_LD;
	EXPECT(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p), EINVAL);
	take.code = BPF_RET | BPF_K;
	CHECK(!setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p));
	int on = 5, off = 0;
	socklen_t n = sizeof on;
	CHECK(!setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &off, sizeof off));
	CHECK(!setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
	CHECK(!getsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &on, &n));
	SAME(on, 1);
	EXPECT(setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &off, sizeof off), EPERM);
	CHECK(!setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
	EXPECT(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &p, sizeof p), EPERM);
	take.code = BPF_LD;
	EXPECT(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p), EPERM);
	close(s);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(!getsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &off, &n));
	SAME(off, 0);
	CHECK(!setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
	EXPECT(setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &off, sizeof off), EPERM);
	close(s);
}
