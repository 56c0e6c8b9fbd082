/* pipe_restart.c - blocking reads and writes of a pipe under signals: SA_RESTART, EINTR, partial writes, SIGPIPE. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/time.h>

static volatile int handled, fd_to_feed = -1;
static void on_alarm(int s)
{
	(void)s;
	handled++;
	if (fd_to_feed >= 0 && handled == 2 && write(fd_to_feed, "x", 1) < 0)
		_exit(9);
}

static void every(long ms, int flags)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = flags};
	struct itimerval it = {{0, ms * 1000}, {0, ms * 1000}};
	handled = 0;
	sigaction(SIGALRM, &sa, 0);
	setitimer(ITIMER_REAL, &it, 0);
}

static void quiet(void)
{
	struct itimerval it = {{0, 0}, {0, 0}};
	setitimer(ITIMER_REAL, &it, 0);
	fd_to_feed = -1;
}

TEST(read)
{
	int p[2];
	char c = 0;
	NEED(pipe(p) == 0);
	every(20, 0);
	EXPECT(read(p[0], &c, 1), EINTR);
	quiet();
	fd_to_feed = p[1];
	every(20, SA_RESTART);
	SAME(read(p[0], &c, 1), 1);
	quiet();
	SAME(c, 'x');
	CHECK(handled >= 2);
	close(p[0]);
	close(p[1]);
}

TEST(partial_write)
{
	static char big[200000];
	int p[2];
	NEED(pipe(p) == 0);
	every(20, 0);
	long n = write(p[1], big, sizeof big);
	quiet();
	/* What went in before the signal counts. */
	SAME(n, 65536);
	every(20, 0);
	EXPECT(write(p[1], big, 10), EINTR);
	quiet();
	close(p[0]);
	close(p[1]);
}

static volatile int piped;
static void on_pipe(int s)
{
	piped = s;
}

TEST(sigpipe)
{
	int p[2];
	NEED(pipe(p) == 0);
	close(p[0]);
	signal(SIGPIPE, on_pipe);
	EXPECT(write(p[1], "x", 1), EPIPE);
	SAME(piped, SIGPIPE);
	signal(SIGPIPE, SIG_IGN);
	EXPECT(write(p[1], "x", 1), EPIPE);
	close(p[1]);
}

TEST(end_of_file)
{
	int p[2];
	char b[8];
	NEED(pipe(p) == 0);
	SAME(write(p[1], "abc", 3), 3);
	close(p[1]);
	SAME(read(p[0], b, 8), 3);
	SAME(read(p[0], b, 8), 0);
	close(p[0]);
}

TEST(nonblocking)
{
	int p[2];
	char b[4096] = {0};
	long total = 0, n;
	NEED(pipe2(p, O_NONBLOCK) == 0);
	EXPECT(read(p[0], b, 8), EAGAIN);
	while ((n = write(p[1], b, sizeof b)) > 0)
		total += n;
	SAME(errno, EAGAIN);
	SAME(total, 65536);
	SAME(fcntl(p[0], F_GETPIPE_SZ), 65536);
	close(p[0]);
	close(p[1]);
}
