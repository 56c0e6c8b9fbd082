/* packet.c - AF_PACKET on the loopback interface (packet(7)): needs CAP_NET_RAW. */
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PORT 4711

static struct sockaddr_ll on(int protocol)
{
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = if_nametoindex("lo")};
	return a;
}

/* What lets datagrams to PORT pass, of frames with and without an Ethernet header. */
static void filter(int s, int raw)
{
	u32 eth = raw ? 14 : 0;
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, eth + 9),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 4),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, eth),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, eth + 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PORT, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 100),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog p = {sizeof f / sizeof *f, f};
	CHECK(!setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p));
}

static void datagram(const char *text)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CHECK(sendto(s, text, strlen(text), 0, (struct sockaddr *)&a, sizeof a) == (ssize_t)strlen(text));
	close(s);
}

/* A socket that sees what filter lets pass on lo. */
static int watch(int type, int protocol)
{
	int s = socket(AF_PACKET, type, 0);
	if (s < 0)
		return s;
	filter(s, type == SOCK_RAW);
	struct sockaddr_ll a = on(protocol);
	CHECK(!bind(s, (struct sockaddr *)&a, sizeof a));
	struct timeval t = {5, 0};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	return s;
}

TEST(frames)
{
	int s = watch(SOCK_RAW, ETH_P_ALL);
	NEED(s >= 0);
	datagram("hello");
	/* Twice: on the way out and in. */
	for (int i = 0; i < 2; i++) {
		u8 b[200];
		struct sockaddr_ll a;
		socklen_t n = sizeof a;
		SAME(recvfrom(s, b, sizeof b, 0, (struct sockaddr *)&a, &n), 14 + 20 + 8 + 5);
		CHECK(b[12] == 8 && b[13] == 0 && b[14] == 0x45 && !memcmp(b + 42, "hello", 5));
		SAME(n, sizeof a);
		SAME(a.sll_family, AF_PACKET);
		SAME(ntohs(a.sll_protocol), ETH_P_IP);
		SAME(a.sll_ifindex, (int)if_nametoindex("lo"));
		SAME(a.sll_hatype, 772);
		SAME(a.sll_pkttype, i ? PACKET_HOST : PACKET_OUTGOING);
		SAME(a.sll_halen, 6);
	}
	char c;
	EXPECT(recv(s, &c, 1, MSG_DONTWAIT), EAGAIN);
	struct tpacket_stats st;
	socklen_t n = sizeof st;
	CHECK(!getsockopt(s, SOL_PACKET, PACKET_STATISTICS, &st, &n));
	SAME(st.tp_packets, 2);
	SAME(st.tp_drops, 0);
	CHECK(!getsockopt(s, SOL_PACKET, PACKET_STATISTICS, &st, &n));
	SAME(st.tp_packets, 0);
	close(s);
}

TEST(cooked)
{
	int s = watch(SOCK_DGRAM, ETH_P_IP), on1 = 1;
	NEED(s >= 0);
	CHECK(!setsockopt(s, SOL_PACKET, PACKET_AUXDATA, &on1, sizeof on1));
	datagram("cooked, and longer than the filter wants of it: it lets a hundred bytes pass, and those that are behind them are cut off and never seen");
	u8 b[400], control[200];
	struct iovec v = {b, sizeof b};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	SAME(recvmsg(s, &m, 0), 100);
	CHECK(b[0] == 0x45 && !memcmp(b + 28, "cooked", 6));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	NEED(c && c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA);
	struct tpacket_auxdata x;
	memcpy(&x, CMSG_DATA(c), sizeof x);
	CHECK(x.tp_status & TP_STATUS_USER);
	CHECK(x.tp_len > 120);
	SAME(x.tp_snaplen, 100);
	/* Of one protocol only what comes in is seen. */
	EXPECT(recv(s, b, sizeof b, MSG_DONTWAIT), EAGAIN);
	datagram("short");
	SAME(recv(s, b, 10, MSG_TRUNC), 33);
	close(s);
}

/* What a program makes by hand is seen by others, and by itself on the way in only. */
TEST(sends)
{
	enum { TYPE = 0x88b5 };	/* for experiments */
	int in = socket(AF_PACKET, SOCK_DGRAM, htons(TYPE)), s = socket(AF_PACKET, SOCK_DGRAM, 0), raw = socket(AF_PACKET, SOCK_RAW, 0);
	NEED(in >= 0 && s >= 0 && raw >= 0);
	struct timeval t = {5, 0};
	setsockopt(in, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	struct sockaddr_ll to = on(TYPE), from;
	to.sll_halen = 6;
	SAME(sendto(s, "abc", 3, 0, (struct sockaddr *)&to, sizeof to), 3);
	char b[100];
	socklen_t n = sizeof from;
	SAME(recvfrom(in, b, sizeof b, 0, (struct sockaddr *)&from, &n), 3);
	CHECK(!memcmp(b, "abc", 3));
	SAME(ntohs(from.sll_protocol), TYPE);
	SAME(from.sll_pkttype, PACKET_HOST);
	char frame[60] = {[12] = (char)(TYPE >> 8), [13] = (char)(TYPE & 255), [14] = 'x'};
	CHECK(!bind(raw, (struct sockaddr *)&to, sizeof to));
	SAME(send(raw, frame, sizeof frame, 0), sizeof frame);
	SAME(recv(in, b, sizeof b, 0), 46);
	SAME(b[0], 'x');
	EXPECT(send(raw, frame, 13, 0), EINVAL);
	n = sizeof from;
	CHECK(!getsockname(raw, (struct sockaddr *)&from, &n));
	SAME(n, 18);
	SAME(from.sll_hatype, 772);
	SAME(from.sll_halen, 6);
	to.sll_ifindex = 9999;
	EXPECT(sendto(s, "abc", 3, 0, (struct sockaddr *)&to, sizeof to), ENXIO);
	EXPECT(bind(s, (struct sockaddr *)&to, sizeof to), ENODEV);
	struct sockaddr_in a = {.sin_family = AF_INET};
	EXPECT(bind(s, (struct sockaddr *)&a, sizeof a), EINVAL);
	close(in), close(s), close(raw);
}

/* A ring of memory, as tcpdump reads it. */
TEST(ring)
{
	int s = watch(SOCK_RAW, ETH_P_ALL), version = TPACKET_V2, reserve = 4;
	NEED(s >= 0);
	int len = TPACKET_V2;
	socklen_t n = sizeof len;
	CHECK(!getsockopt(s, SOL_PACKET, PACKET_HDRLEN, &len, &n));
	SAME(len, sizeof(struct tpacket2_hdr));
	CHECK(!setsockopt(s, SOL_PACKET, PACKET_VERSION, &version, sizeof version));
	CHECK(!setsockopt(s, SOL_PACKET, PACKET_RESERVE, &reserve, sizeof reserve));
	struct tpacket_req r = {.tp_block_size = 8192, .tp_block_nr = 2, .tp_frame_size = 2048, .tp_frame_nr = 7};
	EXPECT(setsockopt(s, SOL_PACKET, PACKET_RX_RING, &r, sizeof r), EINVAL);
	r.tp_frame_nr = 8;
	NEED(!setsockopt(s, SOL_PACKET, PACKET_RX_RING, &r, sizeof r));
	u8 *ring = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, s, 0);
	NEED(ring != MAP_FAILED);
	struct pollfd p = {s, POLLIN, 0};
	SAME(poll(&p, 1, 0), 0);
	for (int round = 0; round < 3; round++) {
		/* Four times two frames fill it; the next finds no room. */
		char text[20];
		for (int i = 0; i < 5; i++) {
			snprintf(text, sizeof text, "number %d", i);
			datagram(text);
		}
		SAME(poll(&p, 1, 5000), 1);
		for (int i = 0; i < 8; i++) {
			volatile struct tpacket2_hdr *h = (void *)(ring + i * 2048);
			for (int k = 0; k < 1000 && !(h->tp_status & TP_STATUS_USER); k++)
				sleep_ms(1);
			NEED(h->tp_status & TP_STATUS_USER);
			SAME(h->tp_len, 14 + 20 + 8 + 8);
			SAME(h->tp_snaplen, 50);
			SAME(h->tp_net - h->tp_mac, 14);
			SAME(h->tp_mac, 70);
			snprintf(text, sizeof text, "number %d", i / 2);
			CHECK(!memcmp((u8 *)h + h->tp_mac + 42, text, 8));
			struct sockaddr_ll *a = (void *)((u8 *)h + TPACKET_ALIGN(sizeof *h));
			SAME(a->sll_pkttype, i % 2 ? PACKET_HOST : PACKET_OUTGOING);
			CHECK(labs((long)h->tp_sec - (long)time(0)) < 100);
			h->tp_status = TP_STATUS_KERNEL;
		}
		SAME(poll(&p, 1, 0), 0);
		struct tpacket_stats st;
		n = sizeof st;
		CHECK(!getsockopt(s, SOL_PACKET, PACKET_STATISTICS, &st, &n));
		SAME(st.tp_packets, 10);
		SAME(st.tp_drops, 2);
	}
	struct tpacket_req none = {0};
	EXPECT(setsockopt(s, SOL_PACKET, PACKET_RX_RING, &none, sizeof none), EBUSY);
	munmap(ring, 16384);
	CHECK(!setsockopt(s, SOL_PACKET, PACKET_RX_RING, &none, sizeof none));
	close(s);
}

/* TCP within the machine is seen too. */
TEST(tcp)
{
	int s = socket(AF_PACKET, SOCK_DGRAM, 0), l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 0, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 22),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PORT + 1, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 65535),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = {sizeof f / sizeof *f, f};
	struct sockaddr_ll ll = on(ETH_P_IP);
	NEED(s >= 0 && !setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog) && !bind(s, (struct sockaddr *)&ll, sizeof ll));
	int one = 1;
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT + 1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	NEED(!bind(l, (struct sockaddr *)&a, sizeof a) && !listen(l, 5) && !connect(c, (struct sockaddr *)&a, sizeof a));
	int d = accept(l, 0, 0);
	CHECK(write(c, "some text", 9) == 9);
	u8 b[200];
	struct timeval t = {5, 0};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	SAME(recv(s, b, sizeof b, 0) >= 40, 1);
	CHECK(b[33] & 2); /* SYN */
	int found = 0;
	for (int i = 0; i < 10 && !found; i++) {
		ssize_t n = recv(s, b, sizeof b, 0);
		found = n > 9 && !memcmp(b + n - 9, "some text", 9);
	}
	CHECK(found);
	close(s), close(l), close(c), close(d);
}

TEST(errors)
{
	EXPECT(socket(AF_PACKET, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
	int s = socket(AF_PACKET, SOCK_RAW, 0);
	char c;
	EXPECT(recv(s, &c, 1, MSG_DONTWAIT), EAGAIN);
	EXPECT(send(s, &c, 1, 0), ENXIO);
	struct sock_filter bad[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
	struct sock_fprog p = {1, bad};
	EXPECT(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p), EINVAL);
	EXPECT(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &p, sizeof p), ENOENT);
	int member[4] = {9999, PACKET_MR_PROMISC};
	EXPECT(setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, member, sizeof member), ENODEV);
	member[0] = if_nametoindex("lo");
	EXPECT(setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, member, sizeof member), 0);
	EXPECT(setsockopt(s, SOL_PACKET, PACKET_DROP_MEMBERSHIP, member, sizeof member), 0);
	close(s);
	NEED(!setresuid(1000, 1000, 1000));
	EXPECT(socket(AF_PACKET, SOCK_RAW, 0), EPERM);
}
