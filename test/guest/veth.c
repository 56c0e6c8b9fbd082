/* veth.c - veth(4) and dummy interfaces by rtnetlink(7), in network namespaces of their own: needs CAP_SYS_ADMIN and CAP_NET_ADMIN. */
#include "check.h"
#include "bulk.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define SA(a) ((struct sockaddr *)&(a))

__attribute__((constructor)) static void apart(void)
{
	alarm(120);
	if (unshare(CLONE_NEWNET) < 0) {
		say("FAIL unshare (errno %d)", errno);
		_exit(1);
	}
}

struct request {
	struct nlmsghdr h;
	struct ifinfomsg m;
	char room[512];
};

static void *tail(struct request *r) { return (char *)r + NLMSG_ALIGN(r->h.nlmsg_len); }

static struct rtattr *put(struct request *r, int type, const void *data, size_t n)
{
	struct rtattr *a = tail(r);
	*a = (struct rtattr){RTA_LENGTH(n), type};
	if (n)
		memcpy(RTA_DATA(a), data, n);
	r->h.nlmsg_len = NLMSG_ALIGN(r->h.nlmsg_len) + RTA_ALIGN(a->rta_len);
	return a;
}

static void end(struct request *r, struct rtattr *a) { a->rta_len = (char *)tail(r) - (char *)a; }

/* Sends a request and returns the error, 0 or above. */
static int ask(struct request *r)
{
	static char b[8192] __attribute__((aligned(8)));
	struct timeval t = {20, 0};
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), e = ETIMEDOUT;
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	r->h.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (send(s, r, r->h.nlmsg_len, 0) == (ssize_t)r->h.nlmsg_len && recv(s, b, sizeof b, 0) > 0)
		e = -((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)b))->error;
	close(s);
	return e;
}

static struct request begin(int type, const char *name)
{
	struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof r.m), .nlmsg_type = type}};
	if (name)
		put(&r, IFLA_IFNAME, name, strlen(name) + 1);
	return r;
}

/* A new interface, of veth with a peer that may be in the namespace of a process. */
static int make(const char *kind, const char *name, const char *peer, int pid)
{
	struct request r = begin(RTM_NEWLINK, name);
	r.h.nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	struct rtattr *info = put(&r, IFLA_LINKINFO, 0, 0);
	put(&r, IFLA_INFO_KIND, kind, strlen(kind));
	if (peer) {
		struct rtattr *data = put(&r, IFLA_INFO_DATA, 0, 0);
		struct ifinfomsg m = {0};
		struct rtattr *p = put(&r, VETH_INFO_PEER, &m, sizeof m);
		put(&r, IFLA_IFNAME, peer, strlen(peer) + 1);
		if (pid)
			put(&r, IFLA_NET_NS_PID, &pid, sizeof pid);
		end(&r, p);
		end(&r, data);
	}
	end(&r, info);
	return ask(&r);
}

static int change(const char *name, int type, const void *data, size_t n, const char *new)
{
	struct request r = begin(RTM_NEWLINK, new);
	r.m.ifi_index = if_nametoindex(name);
	if (type)
		put(&r, type, data, n);
	return ask(&r);
}

static int drop(const char *name)
{
	struct request r = begin(RTM_DELLINK, name);
	return ask(&r);
}

static int ctl(int request, const char *name, struct ifreq *r)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	strncpy(r->ifr_name, name, IFNAMSIZ - 1);
	int e = ioctl(s, request, r);
	close(s);
	return e;
}

static int flags_of(const char *name)
{
	struct ifreq r = {0};
	return ctl(SIOCGIFFLAGS, name, &r) < 0 ? -1 : (u16)r.ifr_flags;
}

static int up(const char *name, int on)
{
	struct ifreq r = {.ifr_flags = on ? IFF_UP : 0};
	return ctl(SIOCSIFFLAGS, name, &r);
}

static int addressed(const char *name, const char *addr)
{
	struct ifreq r = {0};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(addr)}, m = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("255.255.255.0")};
	memcpy(&r.ifr_addr, &a, sizeof a);
	if (ctl(SIOCSIFADDR, name, &r) < 0)
		return -1;
	memcpy(&r.ifr_addr, &m, sizeof m);
	return ctl(SIOCSIFNETMASK, name, &r) < 0 ? -1 : up(name, 1);
}

/* The flags come a moment later. */
static void running(const char *name, int on)
{
	for (int i = 0; i < 2000 && !(flags_of(name) & IFF_RUNNING) == !!on; i++)
		sleep_ms(10);
	SAME(!!(flags_of(name) & IFF_RUNNING), on);
}

TEST(pairs)
{
	SAME(make("veth", "a", "b", 0), 0);
	CHECK(if_nametoindex("a") && if_nametoindex("b"));
	SAME(make("veth", "a", "c", 0), EEXIST);
	SAME(make("veth", "c", "b", 0), EEXIST);
	SAME(if_nametoindex("c"), 0);
	SAME(make("nothing", "c", 0, 0), EOPNOTSUPP);
	SAME(make("veth", "c", "d", 99999999), ESRCH);
	SAME(make("veth", "c", "bad name", 0), EINVAL);
	SAME(flags_of("a"), IFF_BROADCAST | IFF_MULTICAST);
	CHECK(!up("a", 1));
	running("a", 0);
	CHECK(!up("b", 1));
	running("a", 1);
	running("b", 1);
	CHECK(!up("b", 0));
	running("a", 0);
	SAME(change("b", 0, 0, 0, "eth9"), 0);
	SAME(if_nametoindex("b"), 0);
	CHECK(if_nametoindex("eth9"));
	SAME(change("eth9", 0, 0, 0, "a"), EEXIST);
	SAME(change("eth9", 0, 0, 0, "x/y"), EINVAL);
	SAME(change("eth9", 0, 0, 0, "x%s"), EINVAL);
	SAME(change("eth9", 0, 0, 0, "n%d"), 0);
	CHECK(if_nametoindex("n0"));
	SAME(change("n0", 0, 0, 0, "eth9"), 0);
	SAME(drop("lo"), EOPNOTSUPP);
	SAME(drop("gone"), ENODEV);
	SAME(drop("a"), 0);
	SAME(if_nametoindex("eth9"), 0);
}

TEST(dummy)
{
	SAME(make("dummy", "nil", 0, 0), 0);
	SAME(flags_of("nil"), IFF_BROADCAST | IFF_NOARP);
	CHECK(!addressed("nil", "10.9.9.1"));
	SAME(flags_of("nil"), IFF_BROADCAST | IFF_NOARP | IFF_UP | IFF_RUNNING);
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = inet_addr("10.9.9.2")};
	SAME(sendto(s, "lost", 4, 0, SA(a), sizeof a), 4);
	close(s);
	SAME(drop("nil"), 0);
}

/* A process in a namespace of its own, which waits for an interface, gives it an address and serves one connection. */
static int served(int ready, int go)
{
	char c = 0;
	if (unshare(CLONE_NEWNET) < 0 || write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		return 10;
	if (addressed("inner", "10.8.0.2") < 0)
		return 11;
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = inet_addr("10.8.0.2")};
	if (bind(s, SA(a), sizeof a) || listen(s, 1) || write(ready, &c, 1) != 1)
		return 12;
	int k = accept(s, 0, 0);
	return k < 0 ? 13 : bulk(k, 0) ? 14 : bulk(k, 1) ? 15 : 0;
}

static void between(int moved)
{
	int ready[2], go[2], status;
	char c;
	NEED(!pipe(ready) && !pipe(go));
	int pid = fork();
	if (!pid)
		_exit(served(ready[1], go[0]));
	NEED(read(ready[0], &c, 1) == 1);
	if (moved) {
		SAME(make("veth", "outer", "then", 0), 0);
		char path[40];
		snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
		int fd = open(path, O_RDONLY), null = open("/dev/null", O_RDONLY), none = 99999999;
		SAME(change("then", IFLA_NET_NS_FD, &null, sizeof null, 0), EINVAL);
		SAME(change("then", IFLA_NET_NS_PID, &none, sizeof none, 0), ESRCH);
		SAME(change("lo", IFLA_NET_NS_FD, &fd, sizeof fd, 0), EINVAL);
		CHECK(if_nametoindex("then") && if_nametoindex("outer"));
		close(null);
		SAME(change("then", IFLA_NET_NS_FD, &fd, sizeof fd, "inner"), 0);
		close(fd);
		SAME(if_nametoindex("then") + if_nametoindex("inner"), 0);
	} else {
		SAME(make("veth", "outer", "inner", pid), 0);
	}
	CHECK(!addressed("outer", "10.8.0.1"));
	NEED(write(go[1], "", 1) == 1 && read(ready[0], &c, 1) == 1);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = inet_addr("10.8.0.2")};
	CHECK(!connect(s, SA(a), sizeof a));
	SAME(bulk(s, 1), 0);
	SAME(bulk(s, 0), 0);
	close(s);
	waitpid(pid, &status, 0);
	SAME(status, 0);
	/* With the namespace goes its end, and with that the other. */
	for (int i = 0; i < 2000 && if_nametoindex("outer"); i++)
		sleep_ms(10);
	SAME(if_nametoindex("outer"), 0);
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	close(go[1]);
}

TEST(made_there) { between(0); }

TEST(moved_there) { between(1); }
