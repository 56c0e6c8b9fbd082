/* tun.c - /dev/net/tun in a network namespace of its own: needs CAP_SYS_ADMIN and CAP_NET_ADMIN. */
#include "check.h"
#include "bulk.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define SA(a) ((struct sockaddr *)&(a))
#define ME "10.77.0.1"
#define PEER "10.77.0.2"

static u32 ip(const char *s) { return inet_addr(s); }

__attribute__((constructor)) static void apart(void)
{
	signal(SIGALRM, SIG_DFL);
	alarm(120);
	if (unshare(CLONE_NEWNET) < 0) {
		say("FAIL unshare (errno %d)", errno);
		_exit(1);
	}
}

static int tun_open(void) { return open("/dev/net/tun", O_RDWR | O_CLOEXEC); }

static int tun_set(int fd, const char *name, int flags, char *got)
{
	struct ifreq r = {.ifr_flags = flags};
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	int e = ioctl(fd, TUNSETIFF, &r);
	if (got)
		strcpy(got, r.ifr_name);
	return e;
}

/* An interface without IPv6, so that nothing comes that nobody asked for. */
static int make(const char *name, int flags, char *got)
{
	char b[IFNAMSIZ], path[80];
	int fd = tun_open();
	if (fd < 0 || tun_set(fd, name, flags, b) < 0)
		return -1;
	if (got)
		strcpy(got, b);
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", b);
	int f = open(path, O_WRONLY);
	if (f >= 0) {
		if (write(f, "1", 1) != 1)
			say("cannot switch IPv6 off");
		close(f);
	}
	return fd;
}

static int ctl(int request, const char *name, void *value, size_t n)
{
	struct ifreq r = {0};
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	memcpy(&r.ifr_addr, value, n);
	int e = ioctl(s, request, &r);
	memcpy(value, &r.ifr_addr, n);
	int saved = errno;
	close(s);
	errno = saved;
	return e;
}

static int flags_of(const char *name)
{
	short f = 0;
	return ctl(SIOCGIFFLAGS, name, &f, sizeof f) < 0 ? -1 : (u16)f;
}

static int up(const char *name, int on)
{
	short f = flags_of(name);
	f = on ? f | IFF_UP : f & ~IFF_UP;
	return ctl(SIOCSIFFLAGS, name, &f, sizeof f);
}

static int addressed(const char *name, const char *addr)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = ip(addr)}, m = {.sin_family = AF_INET, .sin_addr.s_addr = ip("255.255.255.0")};
	if (ctl(SIOCSIFADDR, name, &a, sizeof a) < 0 || ctl(SIOCSIFNETMASK, name, &m, sizeof m) < 0)
		return -1;
	return up(name, 1);
}

static u16 sum(const void *p, size_t n, u32 s)
{
	const u8 *b = p;
	for (size_t i = 0; i + 1 < n; i += 2)
		s += b[i] << 8 | b[i + 1];
	if (n & 1)
		s += b[n - 1] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return htons(~s & 0xffff);
}

struct ip4 {
	u8 vihl, tos;
	u16 len, id, frag;
	u8 ttl, proto;
	u16 sum;
	u32 src, dst;
} __attribute__((packed));

static void put_ip(struct ip4 *h, int proto, size_t payload, u32 src, u32 dst)
{
	*h = (struct ip4){.vihl = 0x45, .len = htons(sizeof *h + payload), .ttl = 64, .proto = proto, .src = src, .dst = dst};
	h->sum = sum(h, sizeof *h, 0);
}

static u32 pseudo(const struct ip4 *h, size_t n)
{
	const u8 *b = (void *)&h->src;
	u32 s = h->proto + n;
	for (int i = 0; i < 8; i += 2)
		s += b[i] << 8 | b[i + 1];
	return s;
}

/* A datagram; returns its size. */
static size_t put_udp(u8 *b, u32 src, int sport, u32 dst, int dport, const char *text)
{
	size_t n = 8 + strlen(text);
	struct ip4 *h = (void *)b;
	put_ip(h, IPPROTO_UDP, n, src, dst);
	u16 u[4] = {htons(sport), htons(dport), htons(n), 0};
	memcpy(b + 20, u, 8);
	memcpy(b + 28, text, n - 8);
	u16 c = sum(b + 20, n, pseudo(h, n));
	memcpy(b + 26, &c, 2);
	return 20 + n;
}

static int bound(int port)
{
	struct timeval t = {20, 0};
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = ip(ME)};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	CHECK(!bind(s, SA(a), sizeof a));
	return s;
}

static long send_to(int s, const char *host, int port, const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = ip(host)};
	return sendto(s, text, strlen(text), 0, SA(a), sizeof a);
}

static int events(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};
	poll(&p, 1, 0);
	return p.revents;
}

TEST(unattached)
{
	char b[64];
	unsigned f = 0;
	int fd = tun_open(), one = 1;
	struct ifreq r = {0};
	NEED(fd >= 0);
	CHECK(!ioctl(fd, TUNGETFEATURES, &f));
	CHECK((f & (IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR | IFF_MULTI_QUEUE)) == (IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR | IFF_MULTI_QUEUE));
	EXPECT(read(fd, b, sizeof b), EBADFD);
	EXPECT(write(fd, b, sizeof b), EBADFD);
	SAME(events(fd), POLLERR);
	EXPECT(ioctl(fd, TUNGETIFF, &r), EBADFD);
	EXPECT(ioctl(fd, TUNSETPERSIST, 1), EBADFD);
	EXPECT(ioctl(fd, TUNSETOWNER, 1), EBADFD);
	EXPECT(ioctl(fd, TUNSETVNETHDRSZ, &one), EBADFD);
	EXPECT(ioctl(fd, TUNSETQUEUE, &r), EINVAL);
	EXPECT(ioctl(fd, TUNSETIFF, 1), EFAULT);
	EXPECT(lseek(fd, 0, SEEK_SET), ESPIPE);
	struct epoll_event e = {EPOLLIN, {0}};
	int ep = epoll_create1(0);
	EXPECT(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), 0);
	SAME(epoll_wait(ep, &e, 1, 1000), 1);
	SAME(e.events, EPOLLERR);
	close(ep);
	close(fd);
}

TEST(names)
{
	char n[IFNAMSIZ];
	int fd = tun_open();
	EXPECT(tun_set(fd, "", 0, 0), EINVAL);
	EXPECT(tun_set(fd, "a/b", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(fd, "a b", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(fd, "a:b", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(fd, ".", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(fd, "a%s", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(fd, "a%d%d", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(fd, "lo", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(fd, "", IFF_TUN | IFF_NO_PI, n), 0);
	CHECK(!strcmp(n, "tun0"));
	EXPECT(tun_set(fd, "", IFF_TUN, 0), EEXIST);
	int two = tun_open();
	EXPECT(tun_set(two, "", IFF_TAP | IFF_NO_PI, n), 0);
	CHECK(!strcmp(n, "tap0"));
	int three = tun_open();
	EXPECT(tun_set(three, "tap0", IFF_TAP, 0), EBUSY);
	EXPECT(tun_set(three, "tap0", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(three, "tap0", 0, 0), EINVAL);
	EXPECT(tun_set(three, "tap0", IFF_TUN | IFF_TAP, 0), EBUSY);
	EXPECT(tun_set(three, "tap0", IFF_TAP | IFF_MULTI_QUEUE, 0), EINVAL);
	EXPECT(tun_set(three, "tun0", IFF_TUN | IFF_TUN_EXCL, 0), EBUSY);
	EXPECT(tun_set(three, "my%dnet", IFF_TAP | IFF_VNET_HDR, n), 0);
	CHECK(!strcmp(n, "my0net"));
	struct ifreq r = {0};
	CHECK(!ioctl(three, TUNGETIFF, &r));
	CHECK(!strcmp(r.ifr_name, "my0net"));
	SAME((u16)r.ifr_flags, IFF_TAP | IFF_VNET_HDR | IFF_NOFILTER);
	EXPECT(ioctl(three, 0x1234, &r), EINVAL);
	close(three);
	SAME(if_nametoindex("my0net"), 0);
	int index = 77, four = tun_open();
	EXPECT(ioctl(four, TUNSETIFINDEX, &index), 0);
	EXPECT(tun_set(four, "seven", IFF_TUN, 0), 0);
	SAME(if_nametoindex("seven"), 77);
	EXPECT(ioctl(four, TUNSETIFINDEX, &index), EPERM);
	close(four);
	close(two);
	close(fd);
	SAME(if_nametoindex("tun0"), 0);
}

TEST(packets)
{
	u8 b[2000];
	int fd = make("tun0", IFF_TUN | IFF_NO_PI, 0);
	NEED(fd >= 0);
	int mtu = 0;
	CHECK(!ctl(SIOCGIFMTU, "tun0", &mtu, sizeof mtu));
	SAME(mtu, 1500);
	SAME(flags_of("tun0"), IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST);
	struct sockaddr hw;
	CHECK(!ctl(SIOCGIFHWADDR, "tun0", &hw, sizeof hw));
	SAME(hw.sa_family, 0xfffe);
	b[0] = 0x45;
	EXPECT(write(fd, b, 20), EIO);
	SAME(events(fd) & (POLLOUT | POLLIN), 0);
	CHECK(!addressed("tun0", ME));
	SAME(flags_of("tun0"), IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST | IFF_UP | IFF_RUNNING);
	SAME(events(fd), POLLOUT);
	b[0] = 0;
	EXPECT(write(fd, b, 20), EINVAL);
	EXPECT(write(fd, b, 0), EINVAL);

	int s = bound(4711);
	SAME(send_to(s, PEER, 9, "out"), 3);
	SAME(events(fd), POLLIN | POLLOUT);
	SAME(read(fd, b, 0), 0);
	SAME(read(fd, b, sizeof b), 20 + 8 + 3);
	struct ip4 *h = (void *)b;
	CHECK(h->vihl == 0x45 && h->proto == IPPROTO_UDP && h->src == ip(ME) && h->dst == ip(PEER) && !memcmp(b + 28, "out", 3));
	SAME(sum(b, 20, 0), 0);
	SAME(sum(b + 20, 11, pseudo(h, 11)), 0);
	fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	EXPECT(read(fd, b, sizeof b), EAGAIN);

	size_t n = put_udp(b, ip(PEER), 9, ip(ME), 4711, "and in");
	SAME(write(fd, b, n), n);
	char text[100];
	SAME(recv(s, text, sizeof text, 0), 6);
	CHECK(!memcmp(text, "and in", 6));

	/* Who pings gets an answer. */
	put_ip(h, IPPROTO_ICMP, 16, ip(PEER), ip(ME));
	u8 echo[16] = {8, 0, 0, 0, 1, 2, 3, 4, 'e', 'c', 'h', 'o'};
	u16 c = sum(echo, sizeof echo, 0);
	memcpy(echo + 2, &c, 2);
	struct iovec v[2] = {{b, 20}, {echo, 16}};
	SAME(writev(fd, v, 2), 36);
	struct pollfd p = {fd, POLLIN, 0};
	SAME(poll(&p, 1, 20000), 1);
	SAME(readv(fd, v, 2), 36);
	CHECK(h->src == ip(ME) && h->dst == ip(PEER) && echo[0] == 0 && !memcmp(echo + 8, "echo", 4));

	/* What does not fit is lost. */
	send_to(s, PEER, 9, "a long text");
	send_to(s, PEER, 9, "short");
	SAME(read(fd, b, 24), 24);
	SAME(read(fd, b, sizeof b), 33);
	close(s);
	close(fd);
}

TEST(info)
{
	u8 b[2000];
	int fd = make("tun0", IFF_TUN, 0);
	NEED(fd >= 0 && !addressed("tun0", ME));
	int s = bound(4711);
	SAME(send_to(s, PEER, 9, "out"), 3);
	SAME(read(fd, b, sizeof b), 4 + 31);
	SAME(b[0] | b[1], 0);
	SAME(b[2] << 8 | b[3], ETH_P_IP);
	send_to(s, PEER, 9, "out");
	SAME(read(fd, b, 20), 20);
	SAME(*(u16 *)b, TUN_PKT_STRIP);
	send_to(s, PEER, 9, "out");
	EXPECT(read(fd, b, 3), EINVAL);
	EXPECT(write(fd, b, 3), EINVAL);
	memcpy(b, "\0\0\x08\0", 4);
	size_t n = put_udp(b + 4, ip(PEER), 9, ip(ME), 4711, "in");
	SAME(write(fd, b, n + 4), n + 4);
	SAME(recv(s, b, sizeof b, 0), 2);
	close(s);
	close(fd);
}

static void *reader(void *p)
{
	static u8 b[100];
	return (void *)read(*(int *)p, b, sizeof b);
}

TEST(waiting)
{
	int fd = make("tun0", IFF_TUN | IFF_NO_PI, 0);
	NEED(fd >= 0 && !addressed("tun0", ME));
	pthread_t t;
	void *got;
	int s = bound(4711);
	pthread_create(&t, 0, reader, &fd);
	sleep_ms(20);
	send_to(s, PEER, 9, "out");
	pthread_join(t, &got);
	SAME((long)got, 31);
	close(s);
	close(fd);
}

static u32 inet(int request, const char *name, const char *set)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = set ? ip(set) : 0};
	return ctl(request, name, &a, sizeof a) < 0 ? (u32)-1 : set ? 0 : ntohl(a.sin_addr.s_addr);
}

/* An address of this end and one of the other: what is for that goes there, whatever the networks are. */
TEST(peer)
{
	u8 b[100];
	int fd = make("tun0", IFF_TUN | IFF_NO_PI, 0);
	NEED(fd >= 0);
	SAME(inet(SIOCSIFADDR, "tun0", ME), 0);
	SAME(inet(SIOCGIFDSTADDR, "tun0", 0), ntohl(ip(ME)));
	SAME(inet(SIOCSIFDSTADDR, "tun0", "192.168.44.1"), 0);
	CHECK(!up("tun0", 1));
	SAME(inet(SIOCGIFADDR, "tun0", 0), ntohl(ip(ME)));
	SAME(inet(SIOCGIFDSTADDR, "tun0", 0), ntohl(ip("192.168.44.1")));
	SAME(inet(SIOCGIFNETMASK, "tun0", 0), 0xffffffff);
	SAME(inet(SIOCGIFBRDADDR, "tun0", 0), 0);
	int s = bound(4711);
	SAME(send_to(s, "192.168.44.1", 9, "there"), 5);
	SAME(read(fd, b, sizeof b), 33);
	CHECK(((struct ip4 *)b)->src == ip(ME) && ((struct ip4 *)b)->dst == ip("192.168.44.1"));
	EXPECT(send_to(s, "192.168.44.2", 9, "nowhere"), ENETUNREACH);
	SAME(inet(SIOCSIFNETMASK, "tun0", "255.255.255.0"), 0);
	SAME(send_to(s, "192.168.44.2", 9, "there"), 5);
	SAME(read(fd, b, sizeof b), 33);
	SAME(inet(SIOCGIFDSTADDR, "tun0", 0), ntohl(ip("192.168.44.1")));
	close(s);
	close(fd);
}

static int route(int request, const char *to, const char *mask, const char *via, int flags, const char *dev)
{
	struct rtentry r = {.rt_flags = RTF_UP | flags, .rt_dev = (char *)dev};
	const char *text[] = {to, mask, via};
	struct sockaddr *at[] = {&r.rt_dst, &r.rt_genmask, &r.rt_gateway};
	for (int i = 0; i < 3; i++) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = text[i] ? ip(text[i]) : 0};
		memcpy(at[i], &a, sizeof a);
	}
	int s = socket(AF_INET, SOCK_DGRAM, 0), e = ioctl(s, request, &r), saved = errno;
	close(s);
	errno = saved;
	return e;
}

/* Ways by ioctls, as route(8) and VPNs have them. */
TEST(ways)
{
	u8 b[100];
	int fd = make("tun0", IFF_TUN | IFF_NO_PI, 0);
	NEED(fd >= 0 && !addressed("tun0", ME));
	int s = bound(4711);
	EXPECT(send_to(s, "192.0.2.1", 9, "far"), ENETUNREACH);
	EXPECT(route(SIOCADDRT, "0.0.0.0", 0, PEER, RTF_GATEWAY, 0), 0);
	EXPECT(route(SIOCADDRT, "0.0.0.0", 0, PEER, RTF_GATEWAY, 0), EEXIST);
	SAME(send_to(s, "192.0.2.1", 9, "far"), 3);
	SAME(read(fd, b, sizeof b), 31);
	EXPECT(route(SIOCDELRT, "0.0.0.0", 0, PEER, RTF_GATEWAY, 0), 0);
	EXPECT(route(SIOCDELRT, "0.0.0.0", 0, PEER, RTF_GATEWAY, 0), ESRCH);
	EXPECT(send_to(s, "192.0.2.1", 9, "far"), ENETUNREACH);
	EXPECT(route(SIOCADDRT, "192.0.2.0", "255.255.255.0", 0, 0, "tun0"), 0);
	SAME(send_to(s, "192.0.2.1", 9, "far"), 3);
	SAME(read(fd, b, sizeof b), 31);
	EXPECT(route(SIOCADDRT, "192.0.2.7", "255.255.255.0", 0, 0, "tun0"), EINVAL);
	EXPECT(route(SIOCADDRT, "192.0.3.0", "255.0.255.0", 0, 0, "tun0"), EINVAL);
	EXPECT(route(SIOCADDRT, "192.0.3.0", "255.255.255.0", 0, RTF_GATEWAY, "tun0"), EINVAL);
	EXPECT(route(SIOCADDRT, "192.0.3.0", "255.255.255.0", 0, 0, "none"), ENODEV);
	EXPECT(route(SIOCADDRT, "192.0.3.9", 0, 0, RTF_HOST, "tun0"), 0);
	EXPECT(route(SIOCDELRT, "192.0.3.9", 0, 0, RTF_HOST, 0), 0);
	close(s);
	close(fd);
}

static void *writable(void *p)
{
	struct pollfd f = {*(int *)p, POLLOUT, 0};
	return (void *)(long)poll(&f, 1, 20000);
}

/* Who waits to write is woken when the interface comes up. */
TEST(comes_up)
{
	int fd = make("tun0", IFF_TUN | IFF_NO_PI, 0);
	pthread_t t;
	void *got;
	NEED(fd >= 0);
	pthread_create(&t, 0, writable, &fd);
	sleep_ms(20);
	CHECK(!up("tun0", 1));
	pthread_join(t, &got);
	SAME((long)got, 1);
	close(fd);
}

/* Ethernet: who is asked for is found, and gets the datagram. */
TEST(frames)
{
	u8 b[2000], mac[6] = {2, 1, 2, 3, 4, 5}, peer[6] = {2, 9, 9, 9, 9, 9};
	int fd = make("tap%d", IFF_TAP | IFF_NO_PI, 0);
	NEED(fd >= 0);
	struct ifreq r = {.ifr_hwaddr.sa_family = ARPHRD_ETHER};
	memcpy(r.ifr_hwaddr.sa_data, mac, 6);
	CHECK(!ioctl(fd, SIOCSIFHWADDR, &r));
	r.ifr_hwaddr.sa_data[0] = 1;
	EXPECT(ioctl(fd, SIOCSIFHWADDR, &r), EADDRNOTAVAIL);
	CHECK(!ioctl(fd, SIOCGIFHWADDR, &r));
	CHECK(!*r.ifr_name && r.ifr_hwaddr.sa_family == ARPHRD_ETHER && !memcmp(r.ifr_hwaddr.sa_data, mac, 6));
	SAME(flags_of("tap0"), IFF_BROADCAST | IFF_MULTICAST);
	NEED(!addressed("tap0", ME));
	struct sockaddr hw;
	CHECK(!ctl(SIOCGIFHWADDR, "tap0", &hw, sizeof hw));
	CHECK(!memcmp(hw.sa_data, mac, 6));
	EXPECT(write(fd, b, 13), EINVAL);
	int s = bound(4711);
	SAME(send_to(s, PEER, 9, "out"), 3);
	long n;
	do
		n = read(fd, b, sizeof b);
	while (n > 0 && (b[12] != 8 || b[13] != 6));
	SAME(n, 14 + 28);
	CHECK(!memcmp(b, "\xff\xff\xff\xff\xff\xff", 6) && !memcmp(b + 6, mac, 6) && b[21] == 1 && !memcmp(b + 22, mac, 6));
	u32 who;
	memcpy(&who, b + 38, 4);
	SAME(who, ip(PEER));
	memcpy(b, mac, 6);
	memcpy(b + 6, peer, 6);
	b[21] = 2;
	memcpy(b + 32, mac, 6);
	who = ip(ME);
	memcpy(b + 38, &who, 4);
	memcpy(b + 22, peer, 6);
	who = ip(PEER);
	memcpy(b + 28, &who, 4);
	SAME(write(fd, b, 42), 42);
	do
		n = read(fd, b, sizeof b);
	while (n > 0 && (b[12] != 8 || b[13] != 0));
	SAME(n, 14 + 31);
	CHECK(!memcmp(b, peer, 6) && !memcmp(b + 6, mac, 6) && !memcmp(b + 14 + 28, "out", 3));
	memcpy(b, mac, 6);
	memcpy(b + 6, peer, 6);
	n = 14 + put_udp(b + 14, ip(PEER), 9, ip(ME), 4711, "in");
	SAME(write(fd, b, n), n);
	SAME(recv(s, b, sizeof b, 0), 2);
	close(s);
	close(fd);
}

/* What is left to the network by struct virtio_net_hdr. */
TEST(offload)
{
	u8 b[4000] = {0};
	int fd = make("tun0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, 0), size = 0;
	NEED(fd >= 0 && !addressed("tun0", ME));
	CHECK(!ioctl(fd, TUNGETVNETHDRSZ, &size));
	SAME(size, 10);
	size = 9;
	EXPECT(ioctl(fd, TUNSETVNETHDRSZ, &size), EINVAL);
	size = 12;
	EXPECT(ioctl(fd, TUNSETVNETHDRSZ, &size), 0);
	EXPECT(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6), 0);
	EXPECT(ioctl(fd, TUNSETOFFLOAD, TUN_F_TSO4), EINVAL);
	EXPECT(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO_ECN), EINVAL);
	EXPECT(ioctl(fd, TUNSETOFFLOAD, 0x40000000), EINVAL);
	EXPECT(ioctl(fd, TUNSETOFFLOAD, 0), 0);
	int s = bound(4711);
	SAME(send_to(s, PEER, 9, "out"), 3);
	SAME(read(fd, b, sizeof b), 12 + 31);
	SAME(b[1], VIRTIO_NET_HDR_GSO_NONE);
	SAME(sum(b + 32, 11, pseudo((void *)(b + 12), 11)), 0);
	EXPECT(write(fd, b, 11), EINVAL);

	/* A sum that is not there yet. */
	struct virtio_net_hdr *v = (void *)b;
	memset(b, 0, 12);
	size_t n = put_udp(b + 12, ip(PEER), 9, ip(ME), 4711, "partial");
	u16 c = ~sum(b, 0, pseudo((void *)(b + 12), n - 20));
	memcpy(b + 12 + 26, &c, 2);
	v->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	v->csum_start = 20;
	v->csum_offset = 6;
	SAME(write(fd, b, 12 + n), 12 + n);
	SAME(recv(s, b + 2000, 100, 0), 7);
	/* Headers that make no sense. */
	v->csum_start = 2000;
	EXPECT(write(fd, b, 12 + n), EINVAL);
	v->csum_start = 20;
	v->gso_type = 77;
	v->gso_size = 100;
	EXPECT(write(fd, b, 12 + n), EINVAL);
	v->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	v->gso_size = 0;
	EXPECT(write(fd, b, 12 + n), EINVAL);
	v->gso_size = 100;
	v->hdr_len = 2000;
	EXPECT(write(fd, b, 12 + n), EINVAL);
	/* A wrong sum is one. */
	memset(b, 0, 12);
	b[12 + 26] ^= 0x55;
	SAME(write(fd, b, 12 + n), 12 + n);
	n = put_udp(b + 12, ip(PEER), 9, ip(ME), 4711, "good");
	SAME(write(fd, b, 12 + n), 12 + n);
	SAME(recv(s, b + 2000, 100, 0), 4);
	close(s);
	close(fd);
}

TEST(persistence)
{
	int fd = tun_open();
	NEED(!tun_set(fd, "keep", IFF_TAP | IFF_NO_PI, 0));
	CHECK(!ioctl(fd, TUNSETPERSIST, 1));
	int index = if_nametoindex("keep");
	CHECK(!up("keep", 1));
	CHECK(flags_of("keep") & IFF_RUNNING);
	int off = 0;
	CHECK(!ioctl(fd, TUNSETCARRIER, &off));
	for (int i = 0; i < 2000 && flags_of("keep") & IFF_RUNNING; i++)
		sleep_ms(10);
	SAME(flags_of("keep"), IFF_UP | IFF_BROADCAST | IFF_MULTICAST);
	off = 1;
	CHECK(!ioctl(fd, TUNSETCARRIER, &off));
	close(fd);
	SAME(if_nametoindex("keep"), index);
	for (int i = 0; i < 2000 && flags_of("keep") & IFF_RUNNING; i++)
		sleep_ms(10);
	SAME(flags_of("keep"), IFF_UP | IFF_BROADCAST | IFF_MULTICAST);
	fd = tun_open();
	EXPECT(tun_set(fd, "keep", IFF_TUN, 0), EINVAL);
	EXPECT(tun_set(fd, "keep", IFF_TAP, 0), 0);
	struct ifreq r = {0};
	CHECK(!ioctl(fd, TUNGETIFF, &r));
	SAME((u16)r.ifr_flags, IFF_TAP | IFF_PERSIST | IFF_NOFILTER);
	CHECK(!ioctl(fd, TUNSETPERSIST, 0));
	close(fd);
	SAME(if_nametoindex("keep"), 0);
}

/* The errno of who takes an interface as another user; root has opened the device for it. */
static int as_user(int uid, const char *name)
{
	int status, pid = fork();
	if (!pid) {
		int fd = tun_open();
		if (fd < 0 || setgid(uid) || setuid(uid))
			_exit(99);
		_exit(tun_set(fd, name, IFF_TUN, 0) < 0 ? errno : 0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

TEST(owners)
{
	int fd = tun_open();
	NEED(!tun_set(fd, "keep", IFF_TUN, 0));
	CHECK(!ioctl(fd, TUNSETPERSIST, 1) && !ioctl(fd, TUNSETOWNER, 1000));
	close(fd);
	SAME(as_user(1000, "keep"), 0);
	SAME(as_user(1001, "keep"), EPERM);
	SAME(as_user(1000, "other"), EPERM);
	fd = tun_open();
	CHECK(!tun_set(fd, "keep", IFF_TUN, 0) && !ioctl(fd, TUNSETPERSIST, 0));
	close(fd);
	SAME(if_nametoindex("keep"), 0);
}

TEST(queues)
{
	u8 b[200];
	int a = make("many", IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE, 0), c = tun_open();
	NEED(a >= 0 && c >= 0);
	EXPECT(tun_set(c, "many", IFF_TUN | IFF_NO_PI, 0), EINVAL);
	EXPECT(tun_set(c, "many", IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE, 0), 0);
	NEED(!addressed("many", ME));
	fcntl(a, F_SETFL, O_RDWR | O_NONBLOCK);
	fcntl(c, F_SETFL, O_RDWR | O_NONBLOCK);
	int s = bound(4711), got = 0, first = 0;
	for (int i = 0; i < 64; i++)
		send_to(s, PEER, 1000 + i, "x");
	for (; read(a, b, sizeof b) > 0; got++)
		first++;
	for (; read(c, b, sizeof b) > 0; got++)
		;
	SAME(got, 64);
	CHECK(first > 0 && first < 64);
	struct ifreq r = {.ifr_flags = IFF_ATTACH_QUEUE};
	int on = 1;
	EXPECT(ioctl(a, TUNSETQUEUE, &r), EINVAL);
	r.ifr_flags = IFF_DETACH_QUEUE;
	EXPECT(ioctl(a, TUNSETQUEUE, &r), 0);
	CHECK(!ioctl(a, TUNGETIFF, &r));
	CHECK(r.ifr_flags & IFF_DETACH_QUEUE);
	for (int i = 0; i < 64; i++)
		send_to(s, PEER, 1000 + i, "x");
	EXPECT(read(a, b, sizeof b), EAGAIN);
	for (got = 0; read(c, b, sizeof b) > 0; got++)
		;
	SAME(got, 64);
	r.ifr_flags = IFF_DETACH_QUEUE;
	EXPECT(ioctl(c, TUNSETQUEUE, &r), 0);
	EXPECT(ioctl(c, TUNSETCARRIER, &on), EPERM);
	r.ifr_flags = IFF_ATTACH_QUEUE;
	EXPECT(ioctl(a, TUNSETQUEUE, &r), 0);
	close(c);
	send_to(s, PEER, 9, "x");
	SAME(read(a, b, sizeof b), 29);
	close(a);
	SAME(if_nametoindex("many"), 0);
	close(s);
}

/* rtnetlink tells of it, and removes it. */
TEST(netlink)
{
	static char b[16384] __attribute__((aligned(8)));
	struct timeval t = {20, 0};
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), fd = tun_open();
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	NEED(!bind(s, SA(a), sizeof a) && !tun_set(fd, "tun0", IFF_TUN | IFF_NO_PI, 0));
	int index = if_nametoindex("tun0"), kind = 0;
	long n = recv(s, b, sizeof b, 0);
	struct nlmsghdr *h = (void *)b;
	CHECK(n > 0 && h->nlmsg_type == RTM_NEWLINK);
	struct ifinfomsg *m = NLMSG_DATA(h);
	CHECK(m->ifi_index == index && m->ifi_type == 0xfffe);
	n = IFLA_PAYLOAD(h);
	for (struct rtattr *r = IFLA_RTA(m); RTA_OK(r, n); r = RTA_NEXT(r, n)) {
		if (r->rta_type == IFLA_IFNAME)
			CHECK(!strcmp(RTA_DATA(r), "tun0"));
		if (r->rta_type == IFLA_LINKINFO) {
			struct rtattr *k = RTA_DATA(r);
			kind = k->rta_type == IFLA_INFO_KIND && !strcmp(RTA_DATA(k), "tun");
		}
	}
	CHECK(kind);
	struct { struct nlmsghdr h; struct ifinfomsg m; } r = {{sizeof r, RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 7, 0}, {.ifi_index = index}};
	CHECK(send(s, &r, sizeof r, 0) == sizeof r);
	int gone = 0, acked = 0;
	while (!(gone && acked) && (n = recv(s, b, sizeof b, 0)) > 0)
		for (h = (void *)b; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			gone |= h->nlmsg_type == RTM_DELLINK && ((struct ifinfomsg *)NLMSG_DATA(h))->ifi_index == index;
			if (h->nlmsg_type == NLMSG_ERROR) {
				acked = 1;
				SAME(((struct nlmsgerr *)NLMSG_DATA(h))->error, 0);
			}
		}
	CHECK(gone && acked);
	SAME(if_nametoindex("tun0"), 0);
	EXPECT(read(fd, b, sizeof b), EBADFD);
	EXPECT(tun_set(fd, "again", IFF_TUN, 0), 0);
	close(fd);
	close(s);
}

/* Packet sockets see packets without a header, and learn that the interface is gone. */
TEST(watched)
{
	u8 b[200];
	int fd = make("tun0", IFF_TUN | IFF_NO_PI, 0), s = socket(AF_PACKET, SOCK_RAW, 0);
	NEED(fd >= 0 && s >= 0 && !addressed("tun0", ME));
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex("tun0")};
	struct timeval t = {20, 0};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	CHECK(!bind(s, SA(a), sizeof a));
	int u = bound(4711);
	send_to(u, PEER, 9, "out");
	socklen_t n = sizeof a;
	SAME(recvfrom(s, b, sizeof b, 0, SA(a), &n), 31);
	CHECK(b[0] == 0x45 && a.sll_hatype == 0xfffe && a.sll_pkttype == PACKET_OUTGOING && a.sll_protocol == htons(ETH_P_IP) && a.sll_halen == 0);
	size_t k = put_udp(b, ip(PEER), 9, ip(ME), 4711, "in");
	CHECK(write(fd, b, k) == (long)k);
	SAME(recvfrom(s, b, sizeof b, 0, SA(a), &n), 30);
	SAME(a.sll_pkttype, PACKET_HOST);
	CHECK(read(fd, b, sizeof b) == 31);
	/* And send them. */
	a = (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex("tun0")};
	k = put_udp(b, ip(ME), 9, ip(PEER), 9, "raw");
	CHECK(sendto(s, b, k, 0, SA(a), sizeof a) == (long)k);
	SAME(read(fd, b, sizeof b), 31);
	CHECK(!memcmp(b + 28, "raw", 3));
	CHECK(!up("tun0", 0));
	EXPECT(sendto(s, b, k, 0, SA(a), sizeof a), ENETDOWN);
	EXPECT(recv(s, b, sizeof b, 0), ENETDOWN);
	while (recv(s, b, sizeof b, MSG_DONTWAIT) >= 0)
		;
	SAME(errno, EAGAIN);
	CHECK(!up("tun0", 1));
	close(fd);
	EXPECT(recv(s, b, sizeof b, 0), ENETDOWN);
	close(u);
	close(s);
}

static void pass(int s, int fd)
{
	char c[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	*h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	if (sendmsg(s, &m, 0) != 1)
		_exit(98);
}

static int passed(int s)
{
	char c[CMSG_SPACE(sizeof(int))], x;
	struct iovec v = {&x, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	int fd = -1;
	if (recvmsg(s, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

/* In another namespace: one end of a connection over a tap. */
static int endpoint(int parent, const char *me, const char *peer)
{
	if (unshare(CLONE_NEWNET) < 0)
		return 10;
	int fd = make("tap0", IFF_TAP | IFF_NO_PI, 0);
	if (fd < 0 || addressed("tap0", me) < 0)
		return 11;
	pass(parent, fd);
	close(fd);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = ip(peer ? peer : me)};
	if (!peer) {
		if (bind(s, SA(a), sizeof a) || listen(s, 1))
			return 12;
		int c = accept(s, 0, 0);
		return c < 0 ? 13 : bulk(c, 0) ? 14 : bulk(c, 1) ? 15 : 0;
	}
	for (int i = 0; connect(s, SA(a), sizeof a); i++) {
		if (i == 1000)
			return 16;
		sleep_ms(20);
		close(s);
		s = socket(AF_INET, SOCK_STREAM, 0);
	}
	return bulk(s, 1) ? 17 : bulk(s, 0) ? 18 : 0;
}

/* Two namespaces, and this process as the wire between them. The taps outlive what made them. */
TEST(wire)
{
	int sv[2], pids[2], fds[2], left = 2, bad = 0;
	NEED(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	for (int i = 0; i < 2; i++) {
		if (!(pids[i] = fork()))
			_exit(endpoint(sv[1], i ? PEER : ME, i ? ME : 0));
		fds[i] = passed(sv[0]);
		NEED(fds[i] >= 0);
	}
	static u8 b[70000];
	while (left > 0) {
		struct pollfd p[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
		poll(p, 2, 20);
		for (int i = 0; i < 2; i++) {
			int status;
			if (pids[i] && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
				pids[i] = 0;
				left--;
				bad |= status;
				SAME(status, 0);
			}
			if (!(p[i].revents & POLLIN))
				continue;
			long n = read(fds[i], b, sizeof b);
			if (n > 0 && write(fds[!i], b, n) != n && errno != EIO)
				bad = 1;
		}
	}
	SAME(bad, 0);
	struct ifreq r = {0};
	CHECK(!ioctl(fds[0], TUNGETIFF, &r));
	CHECK(!strcmp(r.ifr_name, "tap0"));
	close(fds[0]);
	close(fds[1]);
	close(sv[0]);
	close(sv[1]);
}
