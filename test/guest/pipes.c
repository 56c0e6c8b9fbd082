/* pipes.c - pipe(7) between processes: data, end of file, atomic writes, fifos. */
#include "check.h"
#include <sys/uio.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

TEST(between_processes)
{
	int p[2];
	static u8 b[4096];
	NEED(pipe(p) == 0);
	pid_t c = fork();
	if (c == 0) {
		close(p[0]);
		for (int i = 0; i < 500; i++) {
			memset(b, i, sizeof b);
			if (write(p[1], b, sizeof b) != sizeof b)
				_exit(1);
		}
		_exit(0);
	}
	close(p[1]);
	long total = 0, n;
	while ((n = read(p[0], b, sizeof b)) > 0) {
		for (long i = 0; i < n; i++)
			if (b[i] != (u8)((total + i) / 4096)) {
				FAIL("byte %ld", total + i);
				i = n;
			}
		total += n;
	}
	SAME(n, 0);
	SAME(total, 500 * 4096);
	close(p[0]);
	int st;
	waitpid(c, &st, 0);
	SAME(st, 0);
}

/* Writes up to PIPE_BUF never mix. */
TEST(atomic_writes)
{
	int p[2];
	char b[512];
	NEED(pipe(p) == 0);
	for (int w = 0; w < 4; w++)
		if (fork() == 0) {
			memset(b, 'a' + w, sizeof b);
			for (int i = 0; i < 100; i++)
				if (write(p[1], b, sizeof b) != sizeof b)
					_exit(1);
			_exit(0);
		}
	close(p[1]);
	int count[4] = {0};
	for (;;) {
		long have = 0, n;
		while (have < 512 && (n = read(p[0], b + have, 512 - (size_t)have)) > 0)
			have += n;
		if (have == 0)
			break;
		SAME(have, 512);
		for (int i = 1; i < 512; i++)
			if (b[i] != b[0]) {
				FAIL("writes are mixed");
				break;
			}
		if (b[0] >= 'a' && b[0] < 'e')
			count[b[0] - 'a']++;
	}
	for (int w = 0; w < 4; w++)
		SAME(count[w], 100);
	close(p[0]);
	while (wait(0) > 0)
		;
}

TEST(fifo)
{
	char b[8];
	unlink("/tmp/pipes.fifo");
	NEED(mkfifo("/tmp/pipes.fifo", 0600) == 0);
	EXPECT(open("/tmp/pipes.fifo", O_WRONLY | O_NONBLOCK), ENXIO);
	pid_t c = fork();
	if (c == 0) {
		int fd = open("/tmp/pipes.fifo", O_WRONLY);
		_exit(fd < 0 || write(fd, "through", 7) != 7);
	}
	int fd = open("/tmp/pipes.fifo", O_RDONLY);
	SAME(read(fd, b, 8), 7);
	SAME(read(fd, b, 8), 0);
	close(fd);
	int st;
	waitpid(c, &st, 0);
	SAME(st, 0);
	unlink("/tmp/pipes.fifo");
}

static void nothing(int sig) { (void)sig; }

/* Whoever opens alone waits, also where there is something to read, and a signal ends that. */
TEST(fifo_alone)
{
	const char *name = "/tmp/pipes.fifo";
	struct itimerval often = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
	struct sigaction sa = {.sa_handler = nothing};
	unlink(name);
	NEED(mkfifo(name, 0600) == 0);
	NEED(sigaction(SIGALRM, &sa, 0) == 0);
	setitimer(ITIMER_REAL, &often, 0);
	EXPECT(open(name, O_WRONLY), EINTR);
	EXPECT(creat(name, 0600), EINTR);
	EXPECT(open(name, O_RDONLY), EINTR);
	setitimer(ITIMER_REAL, &never, 0);
	int r = open(name, O_RDONLY | O_NONBLOCK), w = open(name, O_WRONLY);
	SAME(write(w, "x", 1), 1);
	close(w);
	setitimer(ITIMER_REAL, &often, 0);
	EXPECT(open(name, O_RDONLY), EINTR);
	setitimer(ITIMER_REAL, &never, 0);
	close(r);
	pid_t c = fork();
	if (c == 0)
		_exit(open(name, O_WRONLY) >= 0);
	usleep(20000);
	kill(c, SIGKILL);
	int st;
	SAME(waitpid(c, &st, 0), c);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
	unlink(name);
}

TEST(sizes)
{
	int p[2], n = -1;
	NEED(pipe(p) == 0);
	SAME(write(p[1], "12345", 5), 5);
	CHECK(ioctl(p[0], FIONREAD, &n) == 0);
	SAME(n, 5);
	SAME(fcntl(p[1], F_SETPIPE_SZ, 100000), 131072);
	SAME(fcntl(p[0], F_GETPIPE_SZ), 131072);
	EXPECT(lseek(p[0], 0, SEEK_CUR), ESPIPE);
	EXPECT(pread(p[0], &n, 1, 0), ESPIPE);
	EXPECT(write(p[0], "x", 1), EBADF);
	EXPECT(read(p[1], &n, 1), EBADF);
	struct stat st;
	fstat(p[0], &st);
	CHECK(S_ISFIFO(st.st_mode));
	EXPECT(pipe2(p, 0x40000000), EINVAL);
}

TEST(splice_and_tee)
{
	int a[2], b[2];
	char t[8] = "";
	NEED(pipe(a) == 0 && pipe(b) == 0);
	SAME(write(a[1], "abcdef", 6), 6);
	SAME(tee(a[0], b[1], 3, 0), 3);
	SAME(splice(a[0], 0, b[1], 0, 100, 0), 6);
	SAME(read(b[0], t, 8), 8);
	CHECK(!memcmp(t, "abcabcde", 8));
	SAME(read(b[0], t, 8), 1);

	/* From a file into a pipe and back, with and without offsets. */
	FILE *f = tmpfile();
	NEED(f && fputs("0123456789", f) >= 0 && fflush(f) == 0);
	int fd = fileno(f);
	loff_t off = 3;
	SAME(splice(fd, &off, a[1], 0, 4, 0), 4);
	SAME(off, 7);
	SAME(lseek(fd, 8, SEEK_SET), 8);
	SAME(splice(fd, 0, a[1], 0, 100, SPLICE_F_MOVE), 2);
	SAME(splice(fd, 0, a[1], 0, 100, 0), 0);
	off = 0;
	SAME(splice(a[0], 0, fd, &off, 100, 0), 6);
	SAME(pread(fd, t, 8, 0), 8);
	CHECK(!memcmp(t, "34568967", 8));
	EXPECT(splice(a[0], 0, fd, 0, 10, SPLICE_F_NONBLOCK), EAGAIN);
	EXPECT(splice(a[0], &off, fd, 0, 10, 0), ESPIPE);
	EXPECT(splice(fd, 0, fd, 0, 10, 0), EINVAL);
	EXPECT(splice(a[0], 0, a[1], 0, 10, 0), EINVAL);
	EXPECT(splice(a[0], 0, b[1], 0, 10, 0x40), EINVAL);
	EXPECT(tee(a[0], b[1], 10, SPLICE_F_NONBLOCK), EAGAIN);
	EXPECT(tee(fd, b[1], 10, 0), EINVAL);
	fclose(f);

	struct iovec v[2] = {{"vm", 2}, {"splice", 6}};
	SAME(vmsplice(a[1], v, 2, 0), 8);
	struct iovec w[2] = {{t, 3}, {t + 3, 5}};
	SAME(vmsplice(a[0], w, 2, 0), 8);
	CHECK(!memcmp(t, "vmsplice", 8));
	close(b[0]);
	signal(SIGPIPE, SIG_IGN);
	SAME(write(a[1], "x", 1), 1);
	EXPECT(splice(a[0], 0, b[1], 0, 1, 0), EPIPE);
	close(a[1]);
	SAME(read(a[0], t, 8), 1);
	close(b[1]);
	NEED(pipe(b) == 0);
	SAME(splice(a[0], 0, b[1], 0, 1, 0), 0);
}
