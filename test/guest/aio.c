/* aio.c - io_setup(2), io_submit(2), io_getevents(2), io_pgetevents(2), io_cancel(2), io_destroy(2). */
#include "check.h"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

static int setup(unsigned n, aio_context_t *c) { return syscall(SYS_io_setup, n, c); }
static int destroy(aio_context_t c) { return syscall(SYS_io_destroy, c); }
static int submit(aio_context_t c, long n, struct iocb **l) { return syscall(SYS_io_submit, c, n, l); }
static int cancel(aio_context_t c, struct iocb *i, struct io_event *e) { return syscall(SYS_io_cancel, c, i, e); }
static int getevents(aio_context_t c, long min, long n, struct io_event *e, struct timespec *t)
{
	return syscall(SYS_io_getevents, c, min, n, e, t);
}

static struct iocb op(int opcode, int fd, void *buf, size_t n, long long off, u64 data)
{
	return (struct iocb){.aio_lio_opcode = opcode, .aio_fildes = fd, .aio_buf = (uintptr_t)buf, .aio_nbytes = n, .aio_offset = off, .aio_data = data};
}

static int temporary(void)
{
	char name[] = "/tmp/aioXXXXXX";
	int fd = mkstemp(name);
	CHECK(fd >= 0);
	unlink(name);
	return fd;
}

static struct io_event one(aio_context_t c)
{
	struct io_event e = {0};
	SAME(getevents(c, 1, 1, &e, 0), 1);
	return e;
}

TEST(contexts)
{
	aio_context_t c = 0, d = 0;
	NEED(setup(4, &c) == 0);
	CHECK(c != 0);
	EXPECT(setup(4, &c), EINVAL);
	EXPECT(setup(0, &d), EINVAL);
	EXPECT(setup(4, (void *)8), EFAULT);
	EXPECT(setup(1u << 30, &d), EINVAL);
	SAME(destroy(c), 0);
	EXPECT(destroy(c), EINVAL);
	EXPECT(submit(c, 0, 0), EINVAL);
	struct io_event e;
	EXPECT(getevents(c, 0, 1, &e, 0), EINVAL);
	EXPECT(destroy(0), EINVAL);
}

TEST(read_write_sync)
{
	aio_context_t c = 0;
	char out[8192], in[8192];
	int fd = temporary();
	NEED(setup(8, &c) == 0);
	memset(out, 'a', 4096), memset(out + 4096, 'b', 4096);
	struct iovec v[2] = {{in, 100}, {in + 100, 8092}};
	struct iocb w = op(IOCB_CMD_PWRITE, fd, out, 8192, 4096, 1), s = op(IOCB_CMD_FDSYNC, fd, 0, 0, 0, 2);
	struct iocb r = op(IOCB_CMD_PREADV, fd, v, 2, 4096, 3), z = op(IOCB_CMD_PREAD, fd, in, 10, 1 << 20, 4);
	struct iocb *l[] = {&w, &s, &r, &z};
	SAME(submit(c, 1, l), 1);
	struct io_event e = one(c);
	SAME(e.data, 1);
	SAME(e.res, 8192);
	SAME(e.res2, 0);
	CHECK(e.obj == (uintptr_t)&w);
	SAME(submit(c, 1, l + 1), 1);
	e = one(c);
	SAME(e.data, 2);
	SAME(e.res, 0);
	SAME(submit(c, 2, l + 2), 2);
	struct io_event two[2];
	SAME(getevents(c, 2, 2, two, 0), 2);
	for (int i = 0; i < 2; i++)
		SAME(two[i].res, two[i].data == 3 ? 8192 : 0);
	CHECK(memcmp(in, out, 8192) == 0);
	SAME(destroy(c), 0);
	close(fd);
}

TEST(refused)
{
	aio_context_t c = 0;
	char b[8];
	int fd = temporary(), ro = open("/dev/null", O_RDONLY);
	NEED(setup(4, &c) == 0);
	struct iocb good = op(IOCB_CMD_PWRITE, fd, b, 8, 0, 1), i, *l[] = {&good, &i};
	i = op(IOCB_CMD_PREAD, -1, b, 8, 0, 0);
	EXPECT(submit(c, 1, l + 1), EBADF);
	SAME(submit(c, 2, l), 1); /* the first was accepted */
	SAME(one(c).res, 8);
	i = op(IOCB_CMD_PWRITE, ro, b, 8, 0, 0);
	EXPECT(submit(c, 1, l + 1), EBADF);
	i = op(77, fd, b, 8, 0, 0);
	EXPECT(submit(c, 1, l + 1), EINVAL);
	i = op(IOCB_CMD_PREAD, fd, b, -1, 0, 0);
	EXPECT(submit(c, 1, l + 1), EINVAL);
	i = op(IOCB_CMD_PREAD, fd, b, 8, 0, 0);
	i.aio_reserved2 = 1;
	EXPECT(submit(c, 1, l + 1), EINVAL);
	i.aio_reserved2 = 0, i.aio_flags = IOCB_FLAG_RESFD, i.aio_resfd = fd;
	EXPECT(submit(c, 1, l + 1), EINVAL);
	EXPECT(submit(c, 1, (void *)8), EFAULT);
	EXPECT(submit(c, -1, l), EINVAL);
	SAME(submit(c, 0, l), 0);
	struct io_event e;
	EXPECT(getevents(c, 2, 1, &e, 0), EINVAL);
	EXPECT(getevents(c, -1, 1, &e, 0), EINVAL);
	SAME(destroy(c), 0);
	close(fd), close(ro);
}

TEST(bad_buffer)
{
	aio_context_t c = 0;
	int fd = temporary();
	NEED(setup(4, &c) == 0);
	NEED(ftruncate(fd, 4096) == 0);
	struct iocb i = op(IOCB_CMD_PREAD, fd, (void *)4096, 100, 0, 5), *l[] = {&i};
	SAME(submit(c, 1, l), 1);
	SAME(one(c).res, -EFAULT);
	SAME(destroy(c), 0);
	close(fd);
}

TEST(timeouts)
{
	aio_context_t c = 0;
	struct io_event e;
	NEED(setup(4, &c) == 0);
	struct timespec zero = {0, 0}, soon = {0, 20000000};
	SAME(getevents(c, 1, 1, &e, &zero), 0);
	SAME(getevents(c, 0, 1, &e, 0), 0);
	u64 start = now_ns(CLOCK_MONOTONIC);
	SAME(getevents(c, 1, 1, &e, &soon), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 20000000);
	SAME(destroy(c), 0);
}

static void *later(void *v)
{
	sleep_ms(30);
	SAME(write(*(int *)v, "hello", 5), 5);
	return 0;
}

TEST(poll_and_eventfd)
{
	aio_context_t c = 0;
	int p[2], ev = eventfd(0, 0);
	pthread_t t;
	NEED(pipe(p) == 0 && ev >= 0);
	NEED(setup(4, &c) == 0);
	struct iocb i = op(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0, 9), *l[] = {&i};
	i.aio_flags = IOCB_FLAG_RESFD, i.aio_resfd = ev;
	SAME(submit(c, 1, l), 1);
	struct timespec zero = {0, 0};
	struct io_event e;
	SAME(getevents(c, 1, 1, &e, &zero), 0);
	pthread_create(&t, 0, later, &p[1]);
	u64 n = 0;
	SAME(read(ev, &n, 8), 8);
	SAME(n, 1);
	e = one(c);
	SAME(e.data, 9);
	CHECK(e.res & POLLIN); /* POLLRDNORM too, when Linux is quick */
	pthread_join(t, 0);
	SAME(destroy(c), 0);
	close(p[0]), close(p[1]), close(ev);
}

TEST(cancels)
{
	aio_context_t c = 0;
	int p[2];
	NEED(pipe(p) == 0);
	NEED(setup(4, &c) == 0);
	struct iocb i = op(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0, 9), *l[] = {&i};
	struct io_event e;
	EXPECT(cancel(c, &i, &e), EINVAL);
	SAME(submit(c, 1, l), 1);
	EXPECT(cancel(c, &i, &e), EINPROGRESS);
	CHECK(one(c).obj == (uintptr_t)&i);
	EXPECT(cancel(c, &i, &e), EINVAL);
	SAME(submit(c, 1, l), 1);
	SAME(destroy(c), 0); /* with one on its way */
	close(p[0]), close(p[1]);
}

/* What libaio does: it takes results from the mapped ring. */
struct ring {
	u32 id, nr, head, tail, magic, compat, incompat, size;
	struct io_event events[];
};

TEST(ring_in_user_space)
{
	aio_context_t c = 0;
	char b[16];
	int fd = temporary();
	NEED(setup(3, &c) == 0);
	struct ring *r = (void *)c;
	SAME(r->magic, 0xa10a10a1);
	SAME(r->size, 32);
	CHECK(r->nr >= 4);
	struct iocb i = op(IOCB_CMD_PWRITE, fd, b, 16, 0, 0), *l[] = {&i};
	for (u32 n = 0; n < 3 * r->nr; n++) {
		i.aio_data = n;
		SAME(submit(c, 1, l), 1);
		while (__atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) == r->head)
			;
		struct io_event e = r->events[r->head];
		SAME(e.data, n);
	SAME(e.res, 16);
		__atomic_store_n(&r->head, (r->head + 1) % r->nr, __ATOMIC_RELEASE);
	}
	u32 n;
	for (n = 0; submit(c, 1, l) == 1; n++)
		;
	CHECK(errno == EAGAIN && n >= 3 && n < r->nr);
	r->head = 0xffffffff; /* a program may write what it likes */
	struct io_event e;
	struct timespec zero = {0, 0};
	getevents(c, 0, 1, &e, &zero);
	SAME(destroy(c), 0);
	close(fd);
}

TEST(ends_with_the_process)
{
	int p[2], status;
	NEED(pipe(p) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		aio_context_t c = 0;
		struct iocb i = op(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0, 9), *l[] = {&i};
		_exit(setup(4, &c) != 0 || submit(c, 1, l) != 1);
	}
	SAME(waitpid(pid, &status, 0), pid);
	SAME(status, 0);
	close(p[0]);
	char c = 0;
	signal(SIGPIPE, SIG_IGN);
	EXPECT(write(p[1], &c, 1), EPIPE); /* no operation holds the other end */
	close(p[1]);
}

static void nothing(int s) { (void)s; }

TEST(pgetevents_mask)
{
	aio_context_t c = 0;
	struct io_event e;
	sigset_t usr, none;
	struct {
		sigset_t *mask;
		size_t size;
	} arg = {&none, 8};
	NEED(setup(4, &c) == 0);
	sigemptyset(&none), sigemptyset(&usr), sigaddset(&usr, SIGUSR1);
	signal(SIGUSR1, nothing);
	sigprocmask(SIG_BLOCK, &usr, 0);
	raise(SIGUSR1);
	EXPECT(syscall(SYS_io_pgetevents, c, 1, 1, &e, 0, &arg), EINTR);
	sigset_t now;
	sigprocmask(SIG_SETMASK, 0, &now);
	CHECK(sigismember(&now, SIGUSR1));
	SAME(destroy(c), 0);
}
