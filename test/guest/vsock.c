/* vsock.c - AF_VSOCK within the machine: CID 1 means the machine itself (vsock(7)). */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/vm_sockets.h>

static struct sockaddr_vm at(u32 cid, u32 port)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
	return a;
}
#define ADDR(a) (struct sockaddr *)&(a), sizeof(a)

static int make(void) { return socket(AF_VSOCK, SOCK_STREAM, 0); }

/* A listener on a free port of the machine. */
static int listener(struct sockaddr_vm *a)
{
	int l = make();
	socklen_t n = sizeof *a;
	*a = at(VMADDR_CID_LOCAL, VMADDR_PORT_ANY);
	if (l < 0 || bind(l, (struct sockaddr *)a, n) || listen(l, 8) || getsockname(l, (struct sockaddr *)a, &n))
		return -1;
	return l;
}

TEST(names)
{
	struct sockaddr_vm a, b;
	socklen_t n = sizeof b;
	int l = listener(&a), c = make();
	NEED(l >= 0 && c >= 0);
	CHECK(a.svm_family == AF_VSOCK && a.svm_cid == VMADDR_CID_LOCAL && a.svm_port >= 1024);
	EXPECT(getpeername(c, (struct sockaddr *)&b, &n), ENOTCONN);
	NEED(!connect(c, ADDR(a)));
	CHECK(!getpeername(c, (struct sockaddr *)&b, &n));
	CHECK(b.svm_cid == a.svm_cid && b.svm_port == a.svm_port);
	n = sizeof b;
	int s = accept(l, (struct sockaddr *)&b, &n);
	NEED(s >= 0);
	CHECK(b.svm_family == AF_VSOCK && b.svm_cid == VMADDR_CID_LOCAL);
	EXPECT(connect(c, ADDR(a)), EISCONN);
	close(s), close(c), close(l);
}

TEST(errors)
{
	struct sockaddr_vm a = at(VMADDR_CID_LOCAL, 3999);
	int c = make();
	EXPECT(connect(c, ADDR(a)), ECONNRESET);
	close(c);
	EXPECT(socket(AF_VSOCK, SOCK_STREAM, 77), EPROTONOSUPPORT);
	c = make();
	EXPECT(send(c, "x", 1, MSG_NOSIGNAL), ENOTCONN);
	EXPECT(listen(c, 1), EINVAL);
	a = at(77, 5);
	EXPECT(bind(c, ADDR(a)), EADDRNOTAVAIL);
	a = at(VMADDR_CID_LOCAL, 4000);
	CHECK(!bind(c, ADDR(a)));
	int d = make();
	EXPECT(bind(d, ADDR(a)), EADDRINUSE);
	close(c), close(d);
}

static void *reader(void *arg)
{
	int s = *(int *)arg;
	static u8 b[30000];
	u64 sum = 0;
	for (ssize_t n; (n = read(s, b, sizeof b)) > 0;)
		for (ssize_t i = 0; i < n; i++)
			sum = sum * 31 + b[i];
	return (void *)sum;
}

/* Four megabytes arrive in order, far more than the buffers hold, and the end is seen. */
TEST(stream)
{
	struct sockaddr_vm a;
	int l = listener(&a), c = make();
	NEED(l >= 0 && !connect(c, ADDR(a)));
	int s = accept(l, 0, 0);
	pthread_t t;
	pthread_create(&t, 0, reader, &s);
	static u8 b[1 << 16];
	u64 sum = 0;
	for (int r = 0; r < 64; r++) {
		for (unsigned i = 0; i < sizeof b; i++)
			sum = sum * 31 + (b[i] = (u8)(i * 7 + r));
		for (unsigned done = 0; done < sizeof b;) {
			ssize_t n = write(c, b + done, sizeof b - done);
			NEED(n > 0);
			done += n;
		}
	}
	CHECK(!shutdown(c, SHUT_WR));
	void *got;
	pthread_join(t, &got);
	CHECK((u64)got == sum);
	EXPECT(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
	CHECK(write(s, "back", 4) == 4);
	char back[8];
	SAME(recv(c, back, sizeof back, MSG_WAITALL | MSG_PEEK) > 0, 1);
	close(s);
	SAME(read(c, back, sizeof back), 4);
	SAME(read(c, back, sizeof back), 0);
	close(c), close(l);
}

TEST(nonblocking)
{
	struct sockaddr_vm a;
	int l = listener(&a), c = make();
	NEED(l >= 0);
	fcntl(l, F_SETFL, O_NONBLOCK);
	EXPECT(accept(l, 0, 0), EAGAIN);
	struct pollfd p = {l, POLLIN, 0};
	SAME(poll(&p, 1, 0), 0);
	NEED(!connect(c, ADDR(a)));
	SAME(poll(&p, 1, 5000), 1);
	int s = accept(l, 0, 0);
	NEED(s >= 0);
	char b[4];
	EXPECT(recv(s, b, 4, MSG_DONTWAIT), EAGAIN);
	p = (struct pollfd){s, POLLIN | POLLOUT, 0};
	SAME(poll(&p, 1, 0), 1);
	SAME(p.revents, POLLOUT);
	close(c);
	p = (struct pollfd){s, POLLIN, 0};
	SAME(poll(&p, 1, 5000), 1);
	SAME(read(s, b, 4), 0);
	close(s), close(l);
}

TEST(options)
{
	int c = make();
	u64 v = 0;
	socklen_t n = sizeof v;
	CHECK(!getsockopt(c, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, &n));
	SAME(v, 262144);
	v = 65536;
	CHECK(!setsockopt(c, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, sizeof v));
	CHECK(!getsockopt(c, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, &n));
	SAME(v, 65536);
	int domain = 0;
	n = sizeof domain;
	CHECK(!getsockopt(c, SOL_SOCKET, SO_DOMAIN, &domain, &n));
	SAME(domain, AF_VSOCK);
	close(c);
}
