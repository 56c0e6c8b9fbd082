/* events.c - poll(2), select, epoll(7), eventfd(2), timerfd_create(2), signalfd(2). */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static void *write_later(void *v)
{
	sleep_ms(30);
	if (write(*(int *)v, "x", 1) != 1)
		FAIL("write");
	return 0;
}

TEST(poll_waits)
{
	int p[2];
	pthread_t t;
	NEED(pipe(p) == 0);
	struct pollfd f[3] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {-1, POLLIN, 7}};
	SAME(poll(f, 3, 0), 1);
	SAME(f[0].revents, 0);
	SAME(f[1].revents, POLLOUT);
	SAME(f[2].revents, 0);
	u64 start = now_ns(CLOCK_MONOTONIC);
	SAME(poll(f, 1, 30), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
	pthread_create(&t, 0, write_later, &p[1]);
	SAME(poll(f, 1, -1), 1);
	SAME(f[0].revents, POLLIN);
	pthread_join(t, 0);
	close(p[1]);
	SAME(poll(f, 1, 0), 1);
	SAME(f[0].revents, POLLIN | POLLHUP);
	char c;
	SAME(read(p[0], &c, 1), 1);
	SAME(poll(f, 1, 0), 1);
	SAME(f[0].revents, POLLHUP);
	close(p[0]);
	SAME(poll(f, 1, 0), 1);
	SAME(f[0].revents, POLLNVAL);
	struct pollfd *volatile nowhere = (void *)8;
	EXPECT(poll(nowhere, 1, 0), EFAULT);
	SAME(poll(0, 0, 5), 0);
}

TEST(select_waits)
{
	int p[2];
	fd_set r, w;
	NEED(pipe(p) == 0);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(p[0], &r);
	FD_SET(p[1], &w);
	struct timeval tv = {0, 20000};
	SAME(select(p[1] + 1, &r, &w, 0, &tv), 1);
	CHECK(!FD_ISSET(p[0], &r) && FD_ISSET(p[1], &w));
	FD_SET(p[0], &r);
	tv = (struct timeval){0, 20000};
	SAME(select(p[0] + 1, &r, 0, 0, &tv), 0);
	SAME(tv.tv_usec, 0);
	SAME(write(p[1], "x", 1), 1);
	FD_SET(p[0], &r);
	SAME(select(p[0] + 1, &r, 0, 0, 0), 1);
	close(p[0]), close(p[1]);
	FD_SET(p[0], &r);
	EXPECT(select(p[0] + 1, &r, 0, 0, 0), EBADF);
}

static int add(int ep, int fd, u32 events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};
	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

TEST(epoll_level_edge_oneshot)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), p[2];
	struct epoll_event e[4];
	NEED(ep >= 0 && pipe(p) == 0);
	EXPECT(add(ep, p[0], EPOLLIN), 0);
	EXPECT(add(ep, p[0], EPOLLIN), EEXIST);
	EXPECT(add(ep, ep, EPOLLIN), EINVAL);
	EXPECT(add(ep, 999, EPOLLIN), EBADF);
	EXPECT(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], e), ENOENT);
	int file = open("/tmp/events.file", O_RDWR | O_CREAT, 0600);
	unlink("/tmp/events.file");
	EXPECT(add(ep, file, EPOLLIN), EPERM);
	close(file);
	SAME(epoll_wait(ep, e, 4, 0), 0);
	EXPECT(epoll_wait(ep, e, 0, 0), EINVAL);
	SAME(write(p[1], "ab", 2), 2);
	for (int i = 0; i < 3; i++) {	/* level: again and again */
		SAME(epoll_wait(ep, e, 4, 0), 1);
		SAME(e[0].events, EPOLLIN);
		SAME(e[0].data.fd, p[0]);
	}
	struct epoll_event m = {.events = EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788};
	EXPECT(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &m), 0);
	SAME(epoll_wait(ep, e, 4, 0), 1);
	SAME(e[0].data.u64, 0x1122334455667788);
	SAME(epoll_wait(ep, e, 4, 0), 0);	/* edge: once */
	SAME(write(p[1], "c", 1), 1);
	SAME(epoll_wait(ep, e, 4, 0), 1);
	m.events = EPOLLIN | EPOLLONESHOT;
	EXPECT(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &m), 0);
	SAME(epoll_wait(ep, e, 4, 0), 1);
	SAME(epoll_wait(ep, e, 4, 0), 0);
	EXPECT(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &m), 0);
	SAME(epoll_wait(ep, e, 4, 0), 1);
	EXPECT(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], 0), 0);
	EXPECT(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], 0), ENOENT);
	/* A closed descriptor leaves the set by itself. */
	add(ep, p[0], EPOLLIN);
	close(p[0]);
	SAME(epoll_wait(ep, e, 4, 0), 0);
	close(p[1]), close(ep);
}

TEST(epoll_nested_and_threads)
{
	int outer = epoll_create1(0), inner = epoll_create1(0), p[2];
	struct epoll_event e;
	pthread_t t;
	NEED(pipe(p) == 0);
	add(inner, p[0], EPOLLIN);
	add(outer, inner, EPOLLIN);
	EXPECT(add(inner, outer, EPOLLIN), ELOOP);
	pthread_create(&t, 0, write_later, &p[1]);
	SAME(epoll_wait(outer, &e, 1, 10000), 1);
	SAME(e.data.fd, inner);
	SAME(epoll_wait(inner, &e, 1, 0), 1);
	pthread_join(t, 0);
	close(p[0]), close(p[1]), close(inner), close(outer);
}

TEST(eventfd_counts)
{
	u64 v = 5;
	int fd = eventfd(3, EFD_NONBLOCK);
	NEED(fd >= 0);
	SAME(write(fd, &v, 8), 8);
	SAME(read(fd, &v, 8), 8);
	SAME(v, 8);
	EXPECT(read(fd, &v, 8), EAGAIN);
	EXPECT(read(fd, &v, 4), EINVAL);
	v = ~0ull;
	EXPECT(write(fd, &v, 8), EINVAL);
	v = ~0ull - 1;
	SAME(write(fd, &v, 8), 8);
	v = 1;
	EXPECT(write(fd, &v, 8), EAGAIN);
	close(fd);
	fd = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
	for (int i = 0; i < 3; i++) {
		SAME(read(fd, &v, 8), 8);
		SAME(v, 1);
	}
	EXPECT(read(fd, &v, 8), EAGAIN);
	close(fd);
}

static void *take_later(void *fd)
{
	u64 v;
	sleep_ms(50);
	return (void *)(read(*(int *)fd, &v, 8) == 8 ? v : 0);
}

/* A number that does not fit is waited with, though the descriptor is ready to write. */
TEST(eventfd_waits)
{
	u64 v = ~0ull - 3;
	int fd = eventfd(5, 0);
	void *taken;
	pthread_t t;
	NEED(fd >= 0);
	struct pollfd f = {fd, POLLOUT, 0};
	SAME(poll(&f, 1, 0), 1);
	SAME(pthread_create(&t, 0, take_later, &fd), 0);
	SAME(write(fd, &v, 8), 8);
	SAME(pthread_join(t, &taken), 0);
	SAME((u64)taken, 5);
	SAME(read(fd, &v, 8), 8);
	SAME(v, ~0ull - 3);
	close(fd);
}

/* Numbers and events at addresses that are odd, cross into another page, are not there yet, or never. */
TEST(eventfd_addresses)
{
	long page = sysconf(_SC_PAGESIZE);
	char *m = mmap(0, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *end = m + 2 * page;
	NEED(m != MAP_FAILED);
	NEED(mprotect(end, page, PROT_NONE) == 0);
	int fd = eventfd(0, EFD_NONBLOCK), ep = epoll_create1(0);
	struct epoll_event e = {EPOLLIN, {.u64 = 0x1122334455667788}}, got;
	NEED(fd >= 0 && ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
	char *at[] = {m + page - 3, m + page + 1, m + page - 8, end - 12};
	for (int i = 0; i < 4; i++) {
		u64 v = 0x0102030405060708 + i, w;
		if (i > 1)
			SAME(madvise(m, 2 * page, MADV_DONTNEED), 0);
		memcpy(at[i], &v, 8);
		SAME(write(fd, at[i], 8), 8);
		if (i > 1)
			SAME(madvise(m, 2 * page, MADV_DONTNEED), 0);
		SAME(epoll_wait(ep, (void *)at[i], 1, 0), 1);
		memcpy(&got, at[i], sizeof got);
		SAME(got.events, EPOLLIN);
		SAME(got.data.u64, e.data.u64);
		SAME(madvise(m, 2 * page, MADV_DONTNEED), 0);
		SAME(read(fd, at[i], 8), 8);
		memcpy(&w, at[i], 8);
		SAME(w, v);
	}
	EXPECT(write(fd, end - 4, 8), EFAULT);
	EXPECT(read(fd, end - 4, 8), EAGAIN);
	SAME(write(fd, memset(m, 1, 8), 8), 8);
	EXPECT(epoll_wait(ep, (void *)(end - 8), 1, 0), EFAULT);
	EXPECT(epoll_wait(ep, (void *)(end - 4), 1, 0), EFAULT);
	EXPECT(read(fd, (void *)-4096l, 8), EFAULT);
	EXPECT(read(fd, end - 4, 8), EFAULT); /* and it is gone */
	EXPECT(read(fd, m, 8), EAGAIN);
	close(fd), close(ep), munmap(m, 3 * page);
}

TEST(timerfd)
{
	u64 v = 0;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	NEED(fd >= 0);
	struct itimerspec it = {{0, 10000000}, {0, 20000000}}, now;
	EXPECT(read(fd, &v, 8), EAGAIN);
	u64 start = now_ns(CLOCK_MONOTONIC);
	EXPECT(timerfd_settime(fd, 0, &it, 0), 0);
	struct pollfd f = {fd, POLLIN, 0};
	SAME(poll(&f, 1, 10000), 1);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 20000000);
	sleep_ms(35);
	SAME(read(fd, &v, 8), 8);
	CHECK(v >= 4);
	EXPECT(timerfd_gettime(fd, &now), 0);
	SAME(now.it_interval.tv_nsec, 10000000);
	memset(&it, 0, sizeof it);
	EXPECT(timerfd_settime(fd, 0, &it, 0), 0);
	sleep_ms(15);
	EXPECT(read(fd, &v, 8), EAGAIN);
	close(fd);
	EXPECT(timerfd_create(99, 0), EINVAL);
}

TEST(signalfd_reads_signals)
{
	sigset_t s, old;
	struct signalfd_siginfo si;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &s, &old);
	int fd = signalfd(-1, &s, SFD_NONBLOCK);
	NEED(fd >= 0);
	EXPECT(read(fd, &si, sizeof si), EAGAIN);
	union sigval v = {.sival_int = 99};
	sigqueue(getpid(), SIGRTMIN, v);
	kill(getpid(), SIGUSR1);
	struct pollfd f = {fd, POLLIN, 0};
	SAME(poll(&f, 1, 0), 1);
	SAME(read(fd, &si, sizeof si), sizeof si);
	SAME(si.ssi_signo, SIGUSR1);
	SAME(read(fd, &si, sizeof si), sizeof si);
	SAME(si.ssi_signo, SIGRTMIN);
	SAME(si.ssi_int, 99);
	EXPECT(read(fd, &si, sizeof si), EAGAIN);
	EXPECT(read(fd, &si, 10), EINVAL);
	close(fd);
	sigprocmask(SIG_SETMASK, &old, 0);
}

static void on_alarm(int s)
{
	(void)s;
}

TEST(masks_while_waiting)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	sigset_t block, none, old;
	sigaction(SIGALRM, &sa, 0);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	sigprocmask(SIG_BLOCK, &block, &old);
	raise(SIGALRM);
	struct timespec t = {5, 0};
	EXPECT(ppoll(0, 0, &t, &none), EINTR);
	raise(SIGALRM);
	EXPECT(pselect(0, 0, 0, 0, &t, &none), EINTR);
	raise(SIGALRM);
	int ep = epoll_create1(0);
	struct epoll_event e;
	EXPECT(epoll_pwait(ep, &e, 1, 5000, &none), EINTR);
	close(ep);
	sigprocmask(SIG_SETMASK, &old, 0);
}
