/* uring.c - io_uring(7), by the bare system calls. */
#include "check.h"
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

struct ring {
	int fd;
	struct io_uring_params p;
	u8 *mem;
	struct io_uring_sqe *sqes;
	u32 queued;
};

#define WORD(r, off) (*(u32 *)((r)->mem + (off)))
#define LOAD(r, off) __atomic_load_n(&WORD(r, off), __ATOMIC_ACQUIRE)
#define STORE(r, off, v) __atomic_store_n(&WORD(r, off), v, __ATOMIC_RELEASE)

static int enter(struct ring *r, u32 submit, u32 min, u32 flags)
{
	return syscall(SYS_io_uring_enter, r->fd, submit, min, flags, 0, 0);
}

static int reg(struct ring *r, u32 op, void *arg, u32 n) { return syscall(SYS_io_uring_register, r->fd, op, arg, n); }

static void open_ring(struct ring *r, u32 entries, u32 flags)
{
	memset(r, 0, sizeof *r);
	r->p.flags = flags;
	r->fd = syscall(SYS_io_uring_setup, entries, &r->p);
	CHECK(r->fd >= 0);
	size_t n = r->p.sq_off.array + 4 * r->p.sq_entries;
	r->mem = mmap(0, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
	r->sqes = mmap(0, 64 * r->p.sq_entries, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
	CHECK(r->mem != MAP_FAILED && (void *)r->sqes != MAP_FAILED);
}

static void close_ring(struct ring *r)
{
	munmap(r->sqes, 64 * r->p.sq_entries);
	munmap(r->mem, r->p.sq_off.array + 4 * r->p.sq_entries);
	close(r->fd);
}

static struct io_uring_sqe *sqe(struct ring *r, int op, int fd, void *addr, u32 len, u64 off, u64 data)
{
	u32 mask = r->p.sq_entries - 1, tail = LOAD(r, r->p.sq_off.tail), i = tail & mask;
	struct io_uring_sqe *s = r->sqes + i;
	memset(s, 0, sizeof *s);
	s->opcode = op, s->fd = fd, s->addr = (uintptr_t)addr, s->len = len, s->off = off, s->user_data = data;
	((u32 *)(r->mem + r->p.sq_off.array))[i] = i;
	r->queued++;
	STORE(r, r->p.sq_off.tail, tail + 1); /* the kernel looks at enter only */
	return s;
}

static int submit(struct ring *r, u32 min)
{
	u32 n = r->queued;
	r->queued = 0;
	return enter(r, n, min, min ? IORING_ENTER_GETEVENTS : 0);
}

static int have(struct ring *r) { return LOAD(r, r->p.cq_off.tail) - LOAD(r, r->p.cq_off.head); }

static struct io_uring_cqe cqe(struct ring *r)
{
	struct io_uring_cqe none = {.res = -9999};
	if (!have(r) && enter(r, 0, 1, IORING_ENTER_GETEVENTS) < 0)
		return none;
	u32 head = LOAD(r, r->p.cq_off.head);
	none = ((struct io_uring_cqe *)(r->mem + r->p.cq_off.cqes))[head & (r->p.cq_entries - 1)];
	STORE(r, r->p.cq_off.head, head + 1);
	return none;
}

static void expect(struct ring *r, u64 data, int res)
{
	struct io_uring_cqe c = cqe(r);
	SAME(c.user_data, data);
	SAME(c.res, res);
}

static int temporary(void)
{
	char name[] = "/tmp/uringXXXXXX";
	int fd = mkstemp(name);
	CHECK(fd >= 0);
	unlink(name);
	return fd;
}

TEST(setup)
{
	struct io_uring_params p = {0};
	struct ring r;
	EXPECT(syscall(SYS_io_uring_setup, 0, &p), EINVAL);
	EXPECT(syscall(SYS_io_uring_setup, 1 << 20, &p), EINVAL);
	EXPECT(syscall(SYS_io_uring_setup, 4, (void *)8), EFAULT);
	p.flags = 1u << 31;
	EXPECT(syscall(SYS_io_uring_setup, 4, &p), EINVAL);
	memset(&p, 0, sizeof p), p.resv[1] = 1;
	EXPECT(syscall(SYS_io_uring_setup, 4, &p), EINVAL);
	open_ring(&r, 5, 0);
	SAME(r.p.sq_entries, 8);
	SAME(r.p.cq_entries, 16);
	CHECK(r.p.features & IORING_FEAT_SINGLE_MMAP && r.p.features & IORING_FEAT_NODROP && r.p.features & IORING_FEAT_EXT_ARG);
	SAME(WORD(&r, r.p.sq_off.ring_mask), 7);
	SAME(WORD(&r, r.p.cq_off.ring_entries), 16);
	SAME(fcntl(r.fd, F_GETFD), FD_CLOEXEC);
	u8 *cq = mmap(0, 4096, PROT_READ, MAP_SHARED, r.fd, IORING_OFF_CQ_RING);
	CHECK(cq != MAP_FAILED);
	SAME(*(u32 *)(cq + r.p.cq_off.ring_entries), 16);
	munmap(cq, 4096);
	SAME(enter(&r, 0, 0, 0), 0);
	EXPECT(enter(&r, 0, 0, 1 << 20), EINVAL);
	int p0 = open("/dev/null", O_RDONLY), fd = r.fd;
	r.fd = p0;
	EXPECT(enter(&r, 0, 0, 0), EOPNOTSUPP);
	r.fd = fd;
	close(p0);
	close_ring(&r);
}

TEST(read_and_write)
{
	struct ring r;
	char out[5000], in[5000];
	int fd = temporary();
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 1);
	SAME(submit(&r, 1), 1);
	expect(&r, 1, 0);
	memset(out, 'x', sizeof out);
	sqe(&r, IORING_OP_WRITE, fd, out, sizeof out, 100, 2);
	SAME(submit(&r, 1), 1);
	expect(&r, 2, sizeof out);
	struct iovec v[2] = {{in, 1000}, {in + 1000, 4000}};
	sqe(&r, IORING_OP_READV, fd, v, 2, 100, 3);
	SAME(submit(&r, 1), 1);
	expect(&r, 3, 5000);
	CHECK(memcmp(in, out, 5000) == 0);
	SAME(lseek(fd, 0, SEEK_CUR), 0);
	sqe(&r, IORING_OP_READ, fd, in, 60, -1, 4);
	sqe(&r, IORING_OP_READ, fd, in, 60, -1, 5);
	SAME(submit(&r, 2), 2);
	expect(&r, 4, 60);
	expect(&r, 5, 60);
	SAME(lseek(fd, 0, SEEK_CUR), 120);
	CHECK(in[40] == 'x');
	sqe(&r, IORING_OP_FSYNC, fd, 0, 0, 0, 6);
	SAME(submit(&r, 1), 1);
	expect(&r, 6, 0);
	sqe(&r, IORING_OP_READ, -1, in, 60, 0, 7);
	SAME(submit(&r, 1), 1);
	expect(&r, 7, -EBADF);
	sqe(&r, IORING_OP_READ, fd, (void *)4096, 60, 0, 8);
	SAME(submit(&r, 1), 1);
	expect(&r, 8, -EFAULT);
	sqe(&r, 200, fd, in, 60, 0, 9);
	SAME(submit(&r, 1), 1);
	expect(&r, 9, -EINVAL);
	close_ring(&r);
	close(fd);
}

static void *later(void *v)
{
	sleep_ms(30);
	SAME(write(*(int *)v, "hello", 5), 5);
	return 0;
}

TEST(waits_for_a_pipe)
{
	struct ring r;
	int p[2];
	char in[16];
	pthread_t t;
	NEED(pipe(p) == 0);
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_READ, p[0], in, 16, 0, 1);
	SAME(submit(&r, 0), 1);
	SAME(have(&r), 0);
	pthread_create(&t, 0, later, &p[1]);
	expect(&r, 1, 5);
	CHECK(memcmp(in, "hello", 5) == 0);
	pthread_join(t, 0);
	sqe(&r, IORING_OP_READ, p[0], in, 16, 0, 2)->flags = IOSQE_ASYNC;
	SAME(submit(&r, 0), 1);
	SAME(write(p[1], "abc", 3), 3);
	expect(&r, 2, 3);
	sqe(&r, IORING_OP_READ, p[0], in, 16, 0, 3)->rw_flags = RWF_NOWAIT;
	SAME(submit(&r, 0), 1);
	struct io_uring_cqe c = cqe(&r);
	CHECK(c.res == -EAGAIN || c.res == -EOPNOTSUPP);
	close_ring(&r);
	close(p[0]), close(p[1]);
}

TEST(polls)
{
	struct ring r;
	int p[2];
	char b[8];
	NEED(pipe(p) == 0);
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_POLL_ADD, p[1], 0, 0, 0, 1)->poll32_events = POLLOUT;
	SAME(submit(&r, 0), 1);
	expect(&r, 1, POLLOUT);
	sqe(&r, IORING_OP_POLL_ADD, p[0], 0, 0, 0, 2)->poll32_events = POLLIN;
	SAME(submit(&r, 0), 1);
	SAME(have(&r), 0);
	SAME(write(p[1], "x", 1), 1);
	expect(&r, 2, POLLIN);
	SAME(read(p[0], b, 8), 1);
	sqe(&r, IORING_OP_POLL_ADD, p[0], 0, 0, 0, 3)->poll32_events = POLLIN;
	SAME(submit(&r, 0), 1);
	sqe(&r, IORING_OP_POLL_REMOVE, -1, (void *)3, 0, 0, 4);
	SAME(submit(&r, 2), 1);
	int seen = 0;
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe c = cqe(&r);
		SAME(c.res, c.user_data == 3 ? -ECANCELED : 0);
		seen |= 1 << c.user_data;
	}
	SAME(seen, 1 << 3 | 1 << 4);
	sqe(&r, IORING_OP_POLL_REMOVE, -1, (void *)3, 0, 0, 5);
	SAME(submit(&r, 1), 1);
	expect(&r, 5, -ENOENT);
	/* multishot */
	sqe(&r, IORING_OP_POLL_ADD, p[0], 0, IORING_POLL_ADD_MULTI, 0, 6)->poll32_events = POLLIN;
	SAME(submit(&r, 0), 1);
	for (int i = 0; i < 3; i++) {
		SAME(write(p[1], "x", 1), 1);
		struct io_uring_cqe c = cqe(&r);
		SAME(c.user_data, 6);
		SAME(c.res, POLLIN);
		CHECK(c.flags & IORING_CQE_F_MORE);
		SAME(read(p[0], b, 8), 1);
	}
	sqe(&r, IORING_OP_ASYNC_CANCEL, -1, (void *)6, 0, 0, 7);
	SAME(submit(&r, 2), 1);
	SAME(have(&r), 2);
	close_ring(&r);
	close(p[0]), close(p[1]);
}

TEST(timeouts)
{
	struct ring r;
	struct __kernel_timespec ts = {0, 20000000}, far = {100, 0};
	open_ring(&r, 8, 0);
	u64 start = now_ns(CLOCK_MONOTONIC);
	sqe(&r, IORING_OP_TIMEOUT, -1, &ts, 1, 0, 1);
	SAME(submit(&r, 1), 1);
	expect(&r, 1, -ETIME);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 20000000);
	sqe(&r, IORING_OP_TIMEOUT, -1, &far, 1, 2, 2);
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 3);
	SAME(submit(&r, 0), 2);
	expect(&r, 3, 0);
	SAME(have(&r), 0);
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 4);
	SAME(submit(&r, 2), 1);
	expect(&r, 4, 0);
	expect(&r, 2, 0);
	sqe(&r, IORING_OP_TIMEOUT, -1, &far, 1, 0, 5);
	SAME(submit(&r, 0), 1);
	sqe(&r, IORING_OP_TIMEOUT_REMOVE, -1, (void *)5, 0, 0, 6);
	SAME(submit(&r, 2), 1);
	int seen = 0;
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe c = cqe(&r);
		SAME(c.res, c.user_data == 5 ? -ECANCELED : 0);
		seen |= 1 << c.user_data;
	}
	SAME(seen, 1 << 5 | 1 << 6);
	/* io_uring_enter's own */
	struct io_uring_getevents_arg arg = {.ts = (uintptr_t)&ts};
	EXPECT(syscall(SYS_io_uring_enter, r.fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg), ETIME);
	close_ring(&r);
}

TEST(links)
{
	struct ring r;
	int p[2];
	char in[16];
	struct __kernel_timespec ts = {0, 20000000};
	NEED(pipe(p) == 0);
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_WRITE, p[1], "abc", 3, 0, 1)->flags = IOSQE_IO_LINK;
	sqe(&r, IORING_OP_READ, p[0], in, 3, 0, 2)->flags = IOSQE_IO_LINK;
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 3);
	SAME(submit(&r, 3), 3);
	expect(&r, 1, 3);
	expect(&r, 2, 3);
	expect(&r, 3, 0);
	sqe(&r, IORING_OP_READ, -1, in, 3, 0, 4)->flags = IOSQE_IO_LINK;
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 5)->flags = IOSQE_IO_LINK;
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 6);
	SAME(submit(&r, 3), 3);
	expect(&r, 4, -EBADF);
	expect(&r, 5, -ECANCELED);
	expect(&r, 6, -ECANCELED);
	/* what waits goes on when it is ready */
	sqe(&r, IORING_OP_READ, p[0], in, 3, 0, 7)->flags = IOSQE_IO_LINK;
	sqe(&r, IORING_OP_WRITE, p[1], "xyz", 3, 0, 8);
	SAME(submit(&r, 0), 2);
	SAME(have(&r), 0);
	SAME(write(p[1], "123", 3), 3);
	expect(&r, 7, 3);
	expect(&r, 8, 3);
	SAME(read(p[0], in, 16), 3);
	/* link timeout */
	sqe(&r, IORING_OP_READ, p[0], in, 3, 0, 9)->flags = IOSQE_IO_LINK;
	sqe(&r, IORING_OP_LINK_TIMEOUT, -1, &ts, 1, 0, 10);
	SAME(submit(&r, 2), 2);
	int seen = 0;
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe c = cqe(&r);
		SAME(c.res, c.user_data == 9 ? -ECANCELED : -ETIME);
		seen |= 1 << c.user_data;
	}
	SAME(seen, 1 << 9 | 1 << 10);
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 11)->flags = IOSQE_IO_LINK;
	sqe(&r, IORING_OP_LINK_TIMEOUT, -1, &ts, 1, 0, 12);
	SAME(submit(&r, 2), 2);
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe c = cqe(&r);
		SAME(c.res, c.user_data == 11 ? 0 : -ECANCELED);
	}
	close_ring(&r);
	close(p[0]), close(p[1]);
}

TEST(drains)
{
	struct ring r;
	int p[2];
	char in[16];
	NEED(pipe(p) == 0);
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_READ, p[0], in, 3, 0, 1);
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 2)->flags = IOSQE_IO_DRAIN;
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 3);
	SAME(submit(&r, 0), 3);
	SAME(have(&r), 0);
	SAME(write(p[1], "123", 3), 3);
	expect(&r, 1, 3);
	expect(&r, 2, 0);
	expect(&r, 3, 0);
	close_ring(&r);
	close(p[0]), close(p[1]);
}

TEST(overflow)
{
	struct ring r;
	open_ring(&r, 4, 0);
	for (int i = 0; i < 12; i++) {
		sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, i);
		SAME(submit(&r, 0), 1);
	}
	SAME(have(&r), 8);
	CHECK(LOAD(&r, r.p.sq_off.flags) & IORING_SQ_CQ_OVERFLOW);
	for (int i = 0; i < 12; i++)
		expect(&r, i, 0);
	SAME(have(&r), 0);
	/* an index beyond the ring is dropped */
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 1);
	u32 i = (LOAD(&r, r.p.sq_off.tail) - 1) & 3;
	((u32 *)(r.mem + r.p.sq_off.array))[i] = 99;
	SAME(submit(&r, 0), 0);
	SAME(LOAD(&r, r.p.sq_off.dropped), 1);
	close_ring(&r);
}

TEST(files)
{
	struct ring r;
	struct statx st;
	struct stat s;
	char in[8];
	int dir = open("/tmp", O_RDONLY | O_DIRECTORY);
	open_ring(&r, 8, 0);
	mkdir("/tmp/uring.d", 0700);
	sqe(&r, IORING_OP_OPENAT, dir, "uring.d/f", 0600, 0, 1)->open_flags = O_CREAT | O_RDWR;
	SAME(submit(&r, 1), 1);
	int fd = cqe(&r).res;
	CHECK(fd >= 0);
	sqe(&r, IORING_OP_FALLOCATE, fd, (void *)4096, 0, 0, 2);
	SAME(submit(&r, 1), 1);
	expect(&r, 2, 0);
	sqe(&r, IORING_OP_STATX, dir, "uring.d/f", STATX_SIZE, (uintptr_t)&st, 3);
	SAME(submit(&r, 1), 1);
	expect(&r, 3, 0);
	SAME(st.stx_size, 4096);
	sqe(&r, IORING_OP_MKDIRAT, dir, "uring.d/sub", 0700, 0, 4);
	SAME(submit(&r, 1), 1);
	expect(&r, 4, 0);
	sqe(&r, IORING_OP_RENAMEAT, dir, "uring.d/f", dir, (uintptr_t) "uring.d/sub/g", 5);
	SAME(submit(&r, 1), 1);
	expect(&r, 5, 0);
	sqe(&r, IORING_OP_SYMLINKAT, dir, "sub/g", 0, (uintptr_t) "uring.d/link", 6);
	SAME(submit(&r, 1), 1);
	expect(&r, 6, 0);
	SAME(stat("/tmp/uring.d/link", &s), 0);
	SAME(s.st_size, 4096);
	sqe(&r, IORING_OP_LINKAT, dir, "uring.d/sub/g", dir, (uintptr_t) "uring.d/hard", 7);
	SAME(submit(&r, 1), 1);
	expect(&r, 7, 0);
	sqe(&r, IORING_OP_CLOSE, fd, 0, 0, 0, 8);
	SAME(submit(&r, 1), 1);
	expect(&r, 8, 0);
	EXPECT(read(fd, in, 1), EBADF);
	for (char **n = (char *[]){"uring.d/hard", "uring.d/link", "uring.d/sub/g", 0}; *n; n++) {
		sqe(&r, IORING_OP_UNLINKAT, dir, *n, 0, 0, 9);
		SAME(submit(&r, 1), 1);
		expect(&r, 9, 0);
	}
	sqe(&r, IORING_OP_UNLINKAT, dir, "uring.d/sub", 0, 0, 10)->unlink_flags = AT_REMOVEDIR;
	SAME(submit(&r, 1), 1);
	expect(&r, 10, 0);
	rmdir("/tmp/uring.d");
	close_ring(&r);
	close(dir);
}

TEST(splices)
{
	struct ring r;
	int p[2], q[2], fd = temporary();
	char in[16];
	NEED(pipe(p) == 0 && pipe(q) == 0);
	open_ring(&r, 8, 0);
	SAME(write(fd, "0123456789", 10), 10);
	struct io_uring_sqe *s = sqe(&r, IORING_OP_SPLICE, p[1], (void *)2, 5, -1, 1);
	s->splice_fd_in = fd;
	SAME(submit(&r, 1), 1);
	expect(&r, 1, 5);
	s = sqe(&r, IORING_OP_TEE, q[1], 0, 5, 0, 2);
	s->splice_fd_in = p[0];
	SAME(submit(&r, 1), 1);
	expect(&r, 2, 5);
	SAME(read(q[0], in, 16), 5);
	CHECK(memcmp(in, "23456", 5) == 0);
	SAME(read(p[0], in, 16), 5);
	close_ring(&r);
	close(fd), close(p[0]), close(p[1]), close(q[0]), close(q[1]);
}

TEST(registered)
{
	struct ring r;
	int fd = temporary(), ev = eventfd(0, EFD_NONBLOCK), list[2] = {fd, -1};
	char *buf = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec v = {buf, 8192};
	u64 n;
	open_ring(&r, 8, 0);
	EXPECT(reg(&r, IORING_UNREGISTER_FILES, 0, 0), ENXIO);
	SAME(reg(&r, IORING_REGISTER_FILES, list, 2), 0);
	EXPECT(reg(&r, IORING_REGISTER_FILES, list, 2), EBUSY);
	SAME(reg(&r, IORING_REGISTER_BUFFERS, &v, 1), 0);
	SAME(reg(&r, IORING_REGISTER_EVENTFD, &ev, 1), 0);
	sqe(&r, IORING_OP_WRITE_FIXED, 0, buf + 100, 1000, 0, 1)->flags = IOSQE_FIXED_FILE;
	SAME(submit(&r, 1), 1);
	expect(&r, 1, 1000);
	struct pollfd told = {ev, POLLIN, 0};
	SAME(poll(&told, 1, 20000), 1); /* Linux tells a moment later */
	SAME(read(ev, &n, 8), 8);
	SAME(n, 1);
	sqe(&r, IORING_OP_READ_FIXED, 0, buf + 8000, 1000, 0, 2)->flags = IOSQE_FIXED_FILE;
	SAME(submit(&r, 1), 1);
	expect(&r, 2, -EFAULT);
	sqe(&r, IORING_OP_READ, 1, buf, 10, 0, 3)->flags = IOSQE_FIXED_FILE;
	SAME(submit(&r, 1), 1);
	expect(&r, 3, -EBADF);
	struct io_uring_files_update up = {.offset = 1, .fds = (uintptr_t)&fd};
	SAME(reg(&r, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	close(fd); /* the ring has it */
	sqe(&r, IORING_OP_READ, 1, buf, 10, 0, 4)->flags = IOSQE_FIXED_FILE;
	SAME(submit(&r, 1), 1);
	expect(&r, 4, 10);
	SAME(reg(&r, IORING_UNREGISTER_EVENTFD, 0, 0), 0);
	SAME(reg(&r, IORING_UNREGISTER_BUFFERS, 0, 0), 0);
	SAME(reg(&r, IORING_UNREGISTER_FILES, 0, 0), 0);
	struct {
		struct io_uring_probe p;
		struct io_uring_probe_op ops[256];
	} probe = {0};
	SAME(reg(&r, IORING_REGISTER_PROBE, &probe, 256), 0);
	CHECK(probe.ops[IORING_OP_READ].flags & IO_URING_OP_SUPPORTED);
	CHECK(probe.p.last_op >= IORING_OP_LINKAT);
	close_ring(&r);
	close(ev);
}

TEST(provided_buffers)
{
	struct ring r;
	int p[2];
	static char bufs[4][64];
	NEED(pipe(p) == 0);
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_PROVIDE_BUFFERS, 4, bufs, 64, 10, 1)->buf_group = 7;
	SAME(submit(&r, 1), 1);
	expect(&r, 1, 0);
	for (int i = 0; i < 5; i++) {
		SAME(write(p[1], "hey", 3), 3);
		struct io_uring_sqe *s = sqe(&r, IORING_OP_READ, p[0], 0, 64, 0, 2);
		s->flags = IOSQE_BUFFER_SELECT, s->buf_group = 7;
		SAME(submit(&r, 1), 1);
		struct io_uring_cqe c = cqe(&r);
		if (i == 4) {
			SAME(c.res, -ENOBUFS);
			break;
		}
		SAME(c.res, 3);
		CHECK(c.flags & IORING_CQE_F_BUFFER);
		int id = c.flags >> IORING_CQE_BUFFER_SHIFT;
		CHECK(id >= 10 && id < 14 && memcmp(bufs[id - 10], "hey", 3) == 0);
	}
	sqe(&r, IORING_OP_REMOVE_BUFFERS, 1, 0, 0, 0, 3)->buf_group = 8;
	SAME(submit(&r, 1), 1);
	expect(&r, 3, -ENOENT);
	close_ring(&r);
	close(p[0]), close(p[1]);
}

TEST(restricted)
{
	struct ring r;
	open_ring(&r, 8, IORING_SETUP_R_DISABLED);
	EXPECT(enter(&r, 0, 0, 0), EBADFD);
	struct io_uring_restriction l[2] = {{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_NOP},
	                                    {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_ENABLE_RINGS}};
	SAME(reg(&r, IORING_REGISTER_RESTRICTIONS, l, 2), 0);
	SAME(reg(&r, IORING_REGISTER_ENABLE_RINGS, 0, 0), 0);
	sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, 1);
	SAME(submit(&r, 1), 1);
	expect(&r, 1, 0);
	sqe(&r, IORING_OP_CLOSE, 0, 0, 0, 0, 2);
	SAME(submit(&r, 1), 1);
	expect(&r, 2, -EACCES);
	EXPECT(reg(&r, IORING_UNREGISTER_FILES, 0, 0), EACCES);
	close_ring(&r);
}

TEST(link_timeout_without_completion)
{
	struct ring r;
	int p[2];
	char in[8];
	struct __kernel_timespec ts = {0, 1000000};
	NEED(pipe(p) == 0);
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_READ, p[0], in, 8, 0, 1)->flags = IOSQE_IO_LINK;
	sqe(&r, IORING_OP_LINK_TIMEOUT, -1, &ts, 1, 0, 2)->flags = IOSQE_CQE_SKIP_SUCCESS;
	SAME(submit(&r, 0), 2);
	expect(&r, 1, -ECANCELED);
	sleep_ms(20);
	SAME(have(&r), 0);
	close_ring(&r);
	close(p[0]), close(p[1]);
}

TEST(free_slots)
{
	struct ring r;
	int fd = temporary(), list[4] = {-1, fd, -1, -1}, put[3] = {fd, fd, fd};
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_FILES_UPDATE, -1, put, 1, ~0u, 1);
	SAME(submit(&r, 1), 1);
	expect(&r, 1, -ENXIO);
	SAME(reg(&r, IORING_REGISTER_FILES, list, 4), 0);
	sqe(&r, IORING_OP_FILES_UPDATE, -1, put, 2, ~0u, 2);
	SAME(submit(&r, 1), 1);
	expect(&r, 2, 2);
	CHECK(put[0] != put[1] && put[0] != 1 && put[1] != 1 && put[0] < 4 && put[1] < 4);
	put[0] = put[1] = fd;
	sqe(&r, IORING_OP_FILES_UPDATE, -1, put, 3, ~0u, 3);
	SAME(submit(&r, 1), 1);
	expect(&r, 3, 1);
	sqe(&r, IORING_OP_FILES_UPDATE, -1, put + 1, 1, ~0u, 4);
	SAME(submit(&r, 1), 1);
	expect(&r, 4, -ENFILE);
	close_ring(&r);
	close(fd);
}

/* stream makes a connection over TCP. */
static void stream(int s[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(l, (void *)&a, n) == 0 && listen(l, 1) == 0 && getsockname(l, (void *)&a, &n) == 0);
	s[0] = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(s[0], (void *)&a, n) == 0);
	s[1] = accept(l, 0, 0);
	CHECK(s[1] >= 0);
	close(l);
}

static void provide(struct ring *r, void *bufs, u32 size, u32 n, int group)
{
	sqe(r, IORING_OP_PROVIDE_BUFFERS, n, bufs, size, 0, 99)->buf_group = group;
	SAME(submit(r, 1), 1);
	expect(r, 99, 0);
}

static void selecting(struct io_uring_sqe *s, int group) { s->flags = IOSQE_BUFFER_SELECT, s->buf_group = group; }

TEST(receives_all)
{
	struct ring r;
	int s[2];
	char in[12], other[4];
	stream(s);
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_RECV, s[1], in, 10, 0, 1)->msg_flags = MSG_WAITALL;
	SAME(submit(&r, 0), 1);
	SAME(write(s[0], "01234", 5), 5);
	sleep_ms(20);
	SAME(have(&r), 0);
	SAME(write(s[0], "56789", 5), 5);
	expect(&r, 1, 10);
	CHECK(memcmp(in, "0123456789", 10) == 0);
	/* the header may change once it is submitted */
	struct iovec v[2] = {{in, 3}, {other, 4}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	sqe(&r, IORING_OP_RECVMSG, s[1], &m, 1, 0, 2)->msg_flags = MSG_WAITALL;
	SAME(submit(&r, 0), 1);
	memset(v, 0xff, sizeof v);
	SAME(write(s[0], "abcd", 4), 4);
	sleep_ms(20);
	SAME(have(&r), 0);
	SAME(write(s[0], "efg", 3), 3);
	expect(&r, 2, 7);
	CHECK(memcmp(in, "abc", 3) == 0 && memcmp(other, "defg", 4) == 0);
	/* what came before the end counts */
	sqe(&r, IORING_OP_RECV, s[1], in, 10, 0, 3)->msg_flags = MSG_WAITALL;
	SAME(submit(&r, 0), 1);
	SAME(write(s[0], "xyz", 3), 3);
	sleep_ms(20);
	close(s[0]);
	expect(&r, 3, 3);
	close_ring(&r);
	close(s[1]);
}

TEST(receives_into_provided_buffers)
{
	struct ring r;
	int s[2];
	static char bufs[4][64];
	struct iovec v = {0, 2};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	stream(s);
	open_ring(&r, 8, 0);
	provide(&r, bufs, 64, 4, 3);
	selecting(sqe(&r, IORING_OP_RECVMSG, s[1], &m, 1, 0, 1), 3);
	SAME(submit(&r, 0), 1);
	SAME(write(s[0], "abcd", 4), 4);
	struct io_uring_cqe c = cqe(&r);
	SAME(c.res, 2);
	CHECK(c.flags & IORING_CQE_F_BUFFER && memcmp(bufs[c.flags >> IORING_CQE_BUFFER_SHIFT], "ab", 2) == 0);
	struct io_uring_sqe *e = sqe(&r, IORING_OP_RECV, s[1], 0, 0, 0, 2);
	selecting(e, 3);
	e->ioprio = IORING_RECV_MULTISHOT;
	SAME(submit(&r, 0), 1);
	c = cqe(&r);
	SAME(c.res, 2);
	CHECK(c.flags & IORING_CQE_F_BUFFER && c.flags & IORING_CQE_F_MORE);
	shutdown(s[0], SHUT_WR);
	c = cqe(&r);
	SAME(c.res, 0);
	SAME(c.flags & (IORING_CQE_F_BUFFER | IORING_CQE_F_MORE), 0);
	close_ring(&r);
	close(s[0]), close(s[1]);
}

TEST(receives_messages_without_end)
{
	struct ring r;
	int s[2];
	static char bufs[3][128];
	struct msghdr m = {.msg_namelen = 32, .msg_controllen = 16};
	NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
	open_ring(&r, 8, 0);
	provide(&r, bufs, 128, 3, 5);
	struct io_uring_sqe *e = sqe(&r, IORING_OP_RECVMSG, s[1], &m, 1, 0, 1);
	selecting(e, 5);
	e->ioprio = IORING_RECV_MULTISHOT;
	SAME(submit(&r, 0), 1);
	m.msg_namelen = 0;
	for (int i = 1; i <= 3; i++) {
		SAME(send(s[0], "hello", i, 0), i);
		struct io_uring_cqe c = cqe(&r);
		SAME(c.res, 64 + i);
		CHECK(c.flags & IORING_CQE_F_BUFFER && c.flags & IORING_CQE_F_MORE);
		char *b = bufs[c.flags >> IORING_CQE_BUFFER_SHIFT];
		SAME(((struct io_uring_recvmsg_out *)b)->payloadlen, i);
		CHECK(memcmp(b + 64, "hello", i) == 0);
	}
	SAME(send(s[0], "x", 1, 0), 1);
	struct io_uring_cqe c = cqe(&r);
	SAME(c.res, -ENOBUFS);
	SAME(c.flags & IORING_CQE_F_MORE, 0);
	close_ring(&r);
	close(s[0]), close(s[1]);
}

TEST(sends_without_copy)
{
	struct ring r;
	int s[2], u[2];
	char in[8];
	struct iovec v = {"efgh", 4};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	stream(s);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, u) == 0);
	open_ring(&r, 8, 0);
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			sqe(&r, IORING_OP_SEND_ZC, s[0], "abcd", 4, 0, 1);
		else
			sqe(&r, IORING_OP_SENDMSG_ZC, s[0], &m, 1, 0, 1);
		SAME(submit(&r, 1), 1);
		struct io_uring_cqe c = cqe(&r);
		SAME(c.res, 4);
		CHECK(c.flags & IORING_CQE_F_MORE);
		SAME(read(s[1], in, 4), 4);
		CHECK(memcmp(in, i ? "efgh" : "abcd", 4) == 0);
		c = cqe(&r);
		SAME(c.user_data, 1);
		CHECK(c.flags & IORING_CQE_F_NOTIF && !(c.flags & IORING_CQE_F_MORE));
	}
	sqe(&r, IORING_OP_SEND_ZC, u[0], "abcd", 4, 0, 2);
	SAME(submit(&r, 1), 1);
	expect(&r, 2, -EOPNOTSUPP);
	close_ring(&r);
	close(s[0]), close(s[1]), close(u[0]), close(u[1]);
}

TEST(polled_submissions)
{
	struct ring r;
	struct io_uring_params p = {.flags = IORING_SETUP_SQPOLL | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER};
	EXPECT(syscall(SYS_io_uring_setup, 4, &p), EINVAL);
	p.flags = IORING_SETUP_SQ_AFF;
	EXPECT(syscall(SYS_io_uring_setup, 4, &p), EINVAL);
	open_ring(&r, 8, IORING_SETUP_SQPOLL);
	CHECK(r.p.features & IORING_FEAT_SQPOLL_NONFIXED);
	for (int i = 0; i < 20; i++) {
		sqe(&r, IORING_OP_NOP, -1, 0, 0, 0, i);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (LOAD(&r, r.p.sq_off.flags) & IORING_SQ_NEED_WAKEUP)
			SAME(enter(&r, 1, 0, IORING_ENTER_SQ_WAKEUP), 1);
		expect(&r, i, 0);
	}
	close_ring(&r);
}

TEST(ends_with_the_process)
{
	int p[2], status;
	NEED(pipe(p) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct ring r;
		static char in[8];
		open_ring(&r, 4, 0);
		sqe(&r, IORING_OP_READ, p[0], in, 8, 0, 1);
		_exit(submit(&r, 0) != 1);
	}
	SAME(waitpid(pid, &status, 0), pid);
	SAME(status, 0);
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < 200 && write(p[1], "x", 1) == 1; i++)
		sleep_ms(10); /* Linux ends a ring in the background */
	EXPECT(write(p[1], "x", 1), EPIPE);
	close(p[1]);
}

static void nothing(int s) { (void)s; }

TEST(signal_ends_the_wait)
{
	struct ring r;
	open_ring(&r, 4, 0);
	struct sigaction a = {.sa_handler = nothing};
	sigaction(SIGALRM, &a, 0);
	alarm(1);
	EXPECT(enter(&r, 0, 1, IORING_ENTER_GETEVENTS), EINTR);
	close_ring(&r);
}

/* IORING_SETUP_DEFER_TASKRUN: what completes later comes into the ring when it is asked for, and the eventfd, poll(2) and the ring's flags tell of it before. */
TEST(completes_when_asked)
{
	for (int flagged = 0; flagged < 2; flagged++) {
		struct ring r;
		char in[16];
		int p[2], e = eventfd(0, EFD_NONBLOCK);
		u64 v;
		NEED(pipe(p) == 0 && e >= 0);
		open_ring(&r, 8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | (flagged ? IORING_SETUP_TASKRUN_FLAG : 0));
		SAME(reg(&r, IORING_REGISTER_EVENTFD, &e, 1), 0);
		sqe(&r, IORING_OP_READ, p[0], in, 16, 0, 1);
		SAME(submit(&r, 0), 1);
		EXPECT(read(e, &v, 8), EAGAIN);
		sqe(&r, IORING_OP_NOP, 0, 0, 0, 0, 2);
		SAME(submit(&r, 0), 1);
		SAME(have(&r), 1); /* what completes at once is there */
		expect(&r, 2, 0);
		SAME(read(e, &v, 8), 8);
		SAME(write(p[1], "later", 5), 5);
		struct pollfd f[2] = {{.fd = e, .events = POLLIN}, {.fd = r.fd, .events = POLLIN}};
		SAME(poll(f, 1, 20000), 1);
		SAME(poll(f + 1, 1, 20000), 1);
		SAME(have(&r), 0);
		SAME(!!(LOAD(&r, r.p.sq_off.flags) & IORING_SQ_TASKRUN), flagged);
		SAME(enter(&r, 0, 0, IORING_ENTER_GETEVENTS), 0);
		SAME(have(&r), 1);
		SAME(LOAD(&r, r.p.sq_off.flags) & IORING_SQ_TASKRUN, 0);
		expect(&r, 1, 5);
		close_ring(&r);
		close(p[0]), close(p[1]), close(e);
	}
}

/* A timeout that ends lets go who waits for more than that. */
TEST(timeout_ends_the_wait)
{
	struct ring r;
	struct __kernel_timespec t = {1, 0}; /* if it ended before the wait has begun, that would go on */
	open_ring(&r, 8, 0);
	sqe(&r, IORING_OP_TIMEOUT, -1, &t, 1, 0, 1);
	SAME(submit(&r, 4), 1);
	SAME(have(&r), 1);
	expect(&r, 1, -ETIME);
	/* by its count too */
	t.tv_sec = 100;
	sqe(&r, IORING_OP_TIMEOUT, -1, &t, 1, 1, 2);
	sqe(&r, IORING_OP_NOP, 0, 0, 0, 0, 3);
	SAME(submit(&r, 2), 2);
	expect(&r, 3, 0);
	expect(&r, 2, 0);
	/* Less than was asked for until the deadline is no error, nothing is. */
	struct __kernel_timespec soon = {0, 20000000};
	struct io_uring_getevents_arg arg = {.ts = (uintptr_t)&soon};
	sqe(&r, IORING_OP_NOP, 0, 0, 0, 0, 4);
	SAME(submit(&r, 0), 1);
	SAME(syscall(SYS_io_uring_enter, r.fd, 0, 2, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg), 0);
	expect(&r, 4, 0);
	EXPECT(syscall(SYS_io_uring_enter, r.fd, 0, 2, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg), ETIME);
	close_ring(&r);
}

/* A request of many completions ends with the first for which there is no room, also where they come when they are asked for. */
TEST(no_room_for_more)
{
	for (int deferred = 0; deferred < 2; deferred++) {
		struct ring r;
		int p[2], e = eventfd(0, EFD_NONBLOCK);
		u64 v;
		NEED(pipe(p) == 0 && e >= 0);
		memset(&r, 0, sizeof r);
		open_ring(&r, 1, IORING_SETUP_SINGLE_ISSUER | (deferred ? IORING_SETUP_DEFER_TASKRUN : 0)); /* room for two */
		SAME(r.p.cq_entries, 2);
		sqe(&r, IORING_OP_POLL_ADD, p[0], 0, IORING_POLL_ADD_MULTI, 0, 1)->poll32_events = POLLIN;
		SAME(submit(&r, 0), 1);
		for (int i = 0; i < 2; i++) {
			sqe(&r, IORING_OP_NOP, 0, 0, 0, 0, 2);
			SAME(submit(&r, 0), 1);
		}
		SAME(reg(&r, IORING_REGISTER_EVENTFD, &e, 1), 0);
		SAME(write(p[1], "x", 1), 1);
		if (deferred) {
			struct pollfd f = {.fd = e, .events = POLLIN};
			SAME(poll(&f, 1, 20000), 1);
			SAME(read(e, &v, 8), 8);
			enter(&r, 0, 0, IORING_ENTER_GETEVENTS);
		} else
			for (int i = 0; i < 20000 && !(LOAD(&r, r.p.sq_off.flags) & IORING_SQ_CQ_OVERFLOW); i++)
				sleep_ms(1);
		CHECK(LOAD(&r, r.p.sq_off.flags) & IORING_SQ_CQ_OVERFLOW);
		expect(&r, 2, 0);
		expect(&r, 2, 0);
		enter(&r, 0, 0, IORING_ENTER_GETEVENTS);
		struct io_uring_cqe c = cqe(&r);
		SAME(c.user_data, 1);
		SAME(c.res & POLLIN, POLLIN);
		SAME(c.flags & IORING_CQE_F_MORE, 0);
		sqe(&r, IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 3);
		SAME(submit(&r, 1), 1);
		expect(&r, 3, -ENOENT);
		close_ring(&r);
		close(p[0]), close(p[1]), close(e);
	}
}

/* IORING_MSG_SEND_FD: a registered file goes to another ring. */
static void send_file(struct ring *from, struct ring *to, u32 slot, u32 at, u32 flags, int res)
{
	struct io_uring_sqe *s = sqe(from, IORING_OP_MSG_RING, to->fd, (void *)1, 0, 99, 5);
	s->addr3 = slot, s->file_index = at, s->msg_ring_flags = flags;
	SAME(submit(from, 1), 1);
	expect(from, 5, res);
}

TEST(sends_files)
{
	struct ring a, b;
	char in[4];
	int fd = temporary(), list[4] = {-1, fd, -1, -1}, none[4] = {-1, -1, -1, -1};
	SAME(write(fd, "abc", 3), 3);
	open_ring(&a, 8, 0);
	open_ring(&b, 8, 0);
	SAME(reg(&a, IORING_REGISTER_FILES, list, 4), 0);
	send_file(&a, &b, 1, 1, 0, -ENXIO); /* it has no table */
	SAME(reg(&b, IORING_REGISTER_FILES, none, 4), 0);
	send_file(&a, &b, 0, 1, 0, -EBADF);
	send_file(&a, &b, 9, 1, 0, -EBADF);
	send_file(&a, &b, 1, 9, 0, -EINVAL);
	send_file(&a, &a, 1, 1, 0, -EINVAL);
	send_file(&a, &b, 1, 1, 8, -EINVAL);
	SAME(have(&b), 0);
	send_file(&a, &b, 1, 3, 0, 0);
	expect(&b, 99, 0);
	struct io_uring_sqe *q = sqe(&a, IORING_OP_MSG_RING, b.fd, (void *)1, 0, 99, 6);
	q->addr3 = 1, q->file_index = IORING_FILE_INDEX_ALLOC, q->msg_ring_flags = IORING_MSG_RING_CQE_SKIP;
	SAME(submit(&a, 1), 1);
	int chosen = cqe(&a).res;
	CHECK(chosen == 0 || chosen == 1 || chosen == 3);
	SAME(have(&b), 0);
	close(fd);
	SAME(reg(&a, IORING_UNREGISTER_FILES, 0, 0), 0);
	for (int slot = 0; slot < 4; slot++) {
		sqe(&b, IORING_OP_READ, slot, in, 4, 0, slot)->flags = IOSQE_FIXED_FILE;
		SAME(submit(&b, 1), 1);
		expect(&b, slot, slot == chosen || slot == 2 ? 3 : -EBADF);
	}
	close_ring(&a);
	close_ring(&b);
}

/* A ring that lies in the queue of a socket that is registered in it: nobody can reach either, and both go, with what else the ring holds. */
TEST(circle)
{
	struct ring r;
	int sp[2], p[2];
	char c = 'x';
	EXPECT(socketpair(AF_UNIX, SOCK_DGRAM, 0, sp), 0);
	EXPECT(pipe(p), 0);
	open_ring(&r, 8, 0);
	union {
		char b[CMSG_SPACE(4)];
		struct cmsghdr h;
	} u = {0};
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
	u.h = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(&u.h), &r.fd, 4);
	int sent = sendmsg(sp[0], &m, 0);
	if (sent < 0 && errno == EINVAL)
		return; /* Linux from 6.8 on lets nobody send a ring */
	SAME(sent, 1);
	int list[3] = {p[1], sp[0], sp[1]}, ring = dup(r.fd);
	SAME(reg(&r, IORING_REGISTER_FILES, list, 3), 0);
	close(p[1]), close(sp[0]), close(sp[1]);
	close_ring(&r);
	/* a descriptor still leads to the ring, and so to all of it */
	close(socket(AF_UNIX, SOCK_DGRAM, 0));
	struct pollfd pf = {.fd = p[0], .events = POLLIN};
	SAME(poll(&pf, 1, 200), 0);
	close(ring);
	close(socket(AF_UNIX, SOCK_DGRAM, 0)); /* makes the kernel look */
	SAME(poll(&pf, 1, 10000), 1);
	SAME(pf.revents, POLLHUP);
	close(p[0]);
}

/* The time that the process's threads but this one have used, in us. */
static long others(void)
{
	struct rusage all, own;
	getrusage(RUSAGE_THREAD, &own);
	getrusage(RUSAGE_SELF, &all);
#define US(t) ((t).tv_sec * 1000000l + (t).tv_usec)
	return US(all.ru_utime) + US(all.ru_stime) - US(own.ru_utime) - US(own.ru_stime);
}

/* What workers use is the process's time. */
TEST(time_of_workers)
{
	enum { N = 8, SIZE = 1 << 20 };
	struct ring r;
	u8 *b = malloc(SIZE);
	int f = open("/dev/urandom", O_RDONLY);
	open_ring(&r, N, 0);
	long before = others();
	for (int i = 0; i < N; i++)
		sqe(&r, IORING_OP_READ, f, b, SIZE, 0, i)->flags = IOSQE_ASYNC;
	SAME(submit(&r, N), N);
	for (int i = 0; i < N; i++)
		SAME(cqe(&r).res, SIZE);
	CHECK(others() - before > 1000);
	close_ring(&r);
	close(f);
	free(b);
}

/* Where there may be no more workers work waits for one, until it is cancelled or more are allowed. */
TEST(bounds_of_workers)
{
	struct ring r;
	int a[2], b[2], c[2], cancelled = 0, ended = 0;
	u32 most[2] = {0, 2};
	NEED(pipe(a) == 0 && pipe(b) == 0 && pipe(c) == 0);
	open_ring(&r, 16, 0);
	NEED(reg(&r, IORING_REGISTER_IOWQ_MAX_WORKERS, most, 2) == 0);
	CHECK(most[0] > 0 && most[1] > 0);
	most[0] = most[1] = 0;
	NEED(reg(&r, IORING_REGISTER_IOWQ_MAX_WORKERS, most, 2) == 0);
	SAME(most[1], 2);
	EXPECT(reg(&r, IORING_REGISTER_IOWQ_MAX_WORKERS, most, 1), EINVAL);
	for (int i = 0; i < 4; i++)
		sqe(&r, IORING_OP_SPLICE, b[1], (void *)-1, 1, -1, i)->splice_fd_in = a[0];
	SAME(submit(&r, 0), 4);
	for (int i = 0; i < 4; i++) { /* whether they wait for the pipe or for a worker */
		sqe(&r, IORING_OP_ASYNC_CANCEL, -1, (void *)(long)i, 0, 0, 10);
		SAME(submit(&r, 2), 1);
		for (int j = 0; j < 2; j++) {
			struct io_uring_cqe q = cqe(&r);
			cancelled += q.user_data == 10 ? q.res == 0 || q.res == -EALREADY : q.res == -ECANCELED || q.res == -EINTR;
		}
	}
	SAME(cancelled, 8);
	for (int i = 0; i < 4; i++)
		sqe(&r, IORING_OP_SPLICE, b[1], (void *)-1, 1, -1, i)->splice_fd_in = i < 3 ? a[0] : c[0];
	SAME(submit(&r, 0), 4);
	most[1] = 8;
	NEED(reg(&r, IORING_REGISTER_IOWQ_MAX_WORKERS, most, 2) == 0);
	write(c[1], "xy", 2);
	sqe(&r, IORING_OP_SPLICE, b[1], (void *)-1, 1, -1, 5)->splice_fd_in = c[0];
	SAME(submit(&r, 1), 1);
	write(a[1], "abc", 3);
	for (int i = 0; i < 5; i++)
		ended += cqe(&r).res == 1;
	SAME(ended, 5);
	close_ring(&r);
}

/* A registered file is no descriptor while it is spliced: there need be none free. */
TEST(splices_registered)
{
	struct ring r;
	int a[2], b[2];
	u8 got[3];
	struct rlimit before, none;
	NEED(pipe(a) == 0 && pipe(b) == 0);
	open_ring(&r, 4, 0);
	SAME(reg(&r, IORING_REGISTER_FILES, a, 1), 0);
	write(a[1], "abc", 3);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &none);
	struct io_uring_sqe *s = sqe(&r, IORING_OP_SPLICE, b[1], (void *)-1, 3, -1, 1);
	s->splice_fd_in = 0;
	s->splice_flags = SPLICE_F_FD_IN_FIXED;
	SAME(submit(&r, 1), 1);
	SAME(cqe(&r).res, 3);
	setrlimit(RLIMIT_NOFILE, &before);
	SAME(read(b[0], got, 3), 3);
	close_ring(&r);
}
