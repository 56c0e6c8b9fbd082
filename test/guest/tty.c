/* tty.c - terminals: pseudo-terminals, modes, job control, hangup (pty(7), termios(3), ioctl_tty(2), setpgid(2)). */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

/* pair opens a pseudo-terminal; the slave is nobody's controlling terminal. */
static int pair(int *m, int *s)
{
	*m = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*m < 0 || grantpt(*m) || unlockpt(*m))
		return -1;
	*s = open(ptsname(*m), O_RDWR | O_NOCTTY | O_CLOEXEC);
	return *s < 0 ? -1 : 0;
}

#define PAIR                                                           \
	int m = -1, s = -1;                                            \
	NEED(pair(&m, &s) == 0)
#define DONE                                                           \
	do {                                                           \
		close(s);                                              \
		close(m);                                              \
	} while (0)

/* ready waits up to ms for input, and returns the events. */
static int ready(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, ms) > 0 ? p.revents : 0;
}

/* gives: what can be read from fd now is this text, and no more. */
static void gives(int line, int fd, const char *want, int n)
{
	char b[9000];
	int have = 0;
	while (have < (int)sizeof b && (ready(fd, have < n ? 2000 : 20) & POLLIN)) {
		int k = (int)read(fd, b + have, sizeof b - (size_t)have);
		if (k <= 0)
			break;
		have += k;
	}
	if (have != n || memcmp(b, want, (size_t)n)) {
		char text[330], *p = text;
		for (int i = 0; i < have && i < 80; i++)
			p += sprintf(p, b[i] > 32 && b[i] < 127 ? "%c" : "<%02x>", (u8)b[i]);
		*p = 0;
		FAIL("line %d: %d bytes %s, should be %d", line, have, text, n);
	}
}
#define GIVES(fd, text) gives(__LINE__, fd, text, sizeof(text) - 1)

#define PUT(fd, text) SAME(write(fd, text, sizeof(text) - 1), (long)sizeof(text) - 1)

static void modes(int fd, tcflag_t off, tcflag_t on)
{
	struct termios t;
	tcgetattr(fd, &t);
	t.c_lflag = (t.c_lflag & ~off) | on;
	if (tcsetattr(fd, TCSANOW, &t))
		FAIL("tcsetattr: %d", errno);
}

static void raw(int fd, int min, int time)
{
	struct termios t;
	tcgetattr(fd, &t);
	cfmakeraw(&t);
	t.c_cc[VMIN] = (cc_t)min;
	t.c_cc[VTIME] = (cc_t)time;
	if (tcsetattr(fd, TCSANOW, &t))
		FAIL("tcsetattr: %d", errno);
}

TEST(names)
{
	PAIR;
	unsigned n;
	struct stat st, st2;
	struct statfs fs;
	SAME(ioctl(m, TIOCGPTN, &n), 0);
	char name[40], link[40], path[40];
	snprintf(name, sizeof name, "/dev/pts/%u", n);
	CHECK(!strcmp(ptsname(m), name));
	SAME(stat(name, &st), 0);
	SAME(fstat(s, &st2), 0);
	SAME(st.st_ino, st2.st_ino);
	SAME(S_ISCHR(st.st_mode), 1);
	SAME(major(st.st_rdev), 136);
	SAME(minor(st.st_rdev), n);
	SAME(st.st_uid, getuid());
	SAME(statfs("/dev/pts", &fs), 0);
	SAME(fs.f_type, 0x1cd1);
	SAME(isatty(s), 1);
	SAME(isatty(m), 1);
	CHECK(!strcmp(ttyname(s), name));
	snprintf(link, sizeof link, "/proc/self/fd/%d", s);
	int k = (int)readlink(link, path, sizeof path - 1);
	NEED(k > 0);
	path[k] = 0;
	CHECK(!strcmp(path, name));
	EXPECT(lseek(s, 0, SEEK_SET), ESPIPE);
	EXPECT(mkdir("/dev/pts/x", 0700), EPERM);
	EXPECT(unlink(name), EPERM);
	DONE;
	/* Another program on the same Linux may take the number at once. */
	int gone = 0;
	for (int i = 0; i < 20 && !gone; i++) {
		NEED(pair(&m, &s) == 0);
		NEED(ptsname_r(m, name, sizeof name) == 0);
		DONE;
		gone = stat(name, &st) == -1 && errno == ENOENT;
	}
	CHECK(gone);
	EXPECT(ioctl(0, TIOCGPTN, &n), ENOTTY);
}

TEST(lock)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY), on = 0;
	NEED(m >= 0);
	char *name = ptsname(m);
	EXPECT(open(name, O_RDWR | O_NOCTTY), EIO);
	SAME(ioctl(m, TIOCGPTLCK, &on), 0);
	SAME(on, 1);
	unlockpt(m);
	int s = open(name, O_RDWR | O_NOCTTY);
	CHECK(s >= 0);
	SAME(fcntl(s, F_GETFL) & O_ACCMODE, O_RDWR);
	int p = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	CHECK(p >= 0);
	PUT(p, "peer");
	GIVES(m, "peer");
	close(p);
	SAME(ioctl(s, TIOCEXCL), 0);
	SAME(ioctl(s, TIOCGEXCL, &on), 0);
	SAME(on, 1);
	SAME(ioctl(s, TIOCNXCL), 0);
	DONE;
}

TEST(canonical)
{
	PAIR;
	int n = -1;
	PUT(m, "hello\rwor");
	GIVES(m, "hello\r\nwor");
	SAME(ioctl(s, FIONREAD, &n), 0);
	SAME(n, 6);
	GIVES(s, "hello\n");
	PUT(m, "k\x7fld\n");
	GIVES(m, "k\b \bld\r\n");
	GIVES(s, "world\n");
	PUT(m, "one two\x17three\x15" "four\n");
	GIVES(m, "one two\b \b\b \b\b \bthree\b \b\b \b\b \b\b \b\b \b\b \b\b \b\b \b\b \bfour\r\n");
	GIVES(s, "four\n");
	PUT(m, "a\tb\x7f\x7f" "c\x16\x03\x01\n");
	GIVES(m, "a\tb\b \b\b\b\b\b\b\b\b" "c^\b^C^A\r\n");
	GIVES(s, "ac\x03\x01\n");
	PUT(m, "again\x12\n");
	GIVES(m, "again^R\r\nagain\r\n");
	GIVES(s, "again\n");
	char b[10];
	PUT(m, "abcdefg\n\n");	/* a line is read in pieces; the next read gives the next */
	GIVES(m, "abcdefg\r\n\r\n");
	SAME(read(s, b, 3), 3);
	SAME(read(s, b, 10), 5);
	SAME(b[4], '\n');
	SAME(read(s, b, 10), 1);
	PUT(s, "x\ty\nz");
	GIVES(m, "x\ty\r\nz");
	DONE;
}

TEST(end_of_file)
{
	PAIR;
	char b[10];
	modes(s, ECHO, 0);
	PUT(m, "\x04");
	SAME(ready(s, 1000), POLLIN);
	SAME(read(s, b, 10), 0);
	PUT(m, "abc\x04" "de\n");
	SAME(read(s, b, 10), 3);
	SAME(read(s, b, 10), 3);
	PUT(m, "abc\x04");
	SAME(ready(s, 1000), POLLIN);
	SAME(read(s, b, 3), 3);
	SAME(ready(s, 20), 0);	/* the end of file went with what it followed */
	DONE;
}

TEST(long_line)
{
	PAIR;
	static char b[6000];
	modes(s, ECHO, 0);
	memset(b, 'x', sizeof b);
	SAME(write(m, b, 5000), 5000);
	PUT(m, "\n");
	SAME(ready(s, 1000), POLLIN);
	SAME(read(s, b, sizeof b), 4096);
	SAME(b[4095], '\n');
	SAME(b[4094], 'x');
	DONE;
}

TEST(min_and_time)
{
	PAIR;
	char b[10];
	raw(s, 0, 0);
	SAME(read(s, b, 10), 0);
	raw(s, 0, 2);
	u64 t = now_ns(CLOCK_MONOTONIC);
	SAME(read(s, b, 10), 0);
	t = (now_ns(CLOCK_MONOTONIC) - t) / 1000000;
	CHECK(t >= 180 && t < 2000);
	PUT(m, "ab");
	SAME(read(s, b, 10), 2);
	raw(s, 3, 0);
	PUT(m, "ab");
	SAME(ready(s, 30), 0);	/* not enough */
	PUT(m, "c");
	SAME(ready(s, 1000), POLLIN);
	SAME(read(s, b, 10), 3);
	raw(s, 5, 1);	/* gives up a tenth of a second after the last byte */
	PUT(m, "xy");
	SAME(read(s, b, 10), 2);
	fcntl(s, F_SETFL, O_NONBLOCK);
	EXPECT(read(s, b, 10), EAGAIN);
	raw(s, 0, 0);
	SAME(read(s, b, 10), 0);
	modes(s, 0, ICANON);
	EXPECT(read(s, b, 10), EAGAIN);
	DONE;
}

TEST(raw_bytes)
{
	PAIR;
	static u8 b[256];
	raw(s, 1, 0);
	for (int i = 0; i < 256; i++)
		b[i] = (u8)i;
	SAME(write(m, b, 256), 256);
	gives(__LINE__, s, (char *)b, 256);
	SAME(write(s, b, 256), 256);
	gives(__LINE__, m, (char *)b, 256);
	DONE;
}

TEST(flow_control)
{
	PAIR;
	fcntl(s, F_SETFL, O_NONBLOCK);
	PUT(m, "\x13");
	for (int i = 0; i < 100 && write(s, "", 0) == 0; i++) {
		struct pollfd p = {.fd = s, .events = POLLOUT};
		if (poll(&p, 1, 0) == 0)
			break;
		sleep_ms(10);
	}
	EXPECT(write(s, "x", 1), EAGAIN);
	PUT(m, "\x11");
	struct pollfd p = {.fd = s, .events = POLLOUT};
	SAME(poll(&p, 1, 1000), 1);
	PUT(s, "x");
	GIVES(m, "x");
	SAME(tcflow(s, TCOOFF), 0);
	EXPECT(write(s, "x", 1), EAGAIN);
	SAME(tcflow(s, TCOON), 0);
	PUT(s, "y");
	GIVES(m, "y");
	SAME(tcflow(s, TCIOFF), 0);
	GIVES(m, "\x13");
	SAME(tcflow(s, TCION), 0);
	GIVES(m, "\x11");
	DONE;
}

TEST(flush)
{
	PAIR;
	int n = -1;
	modes(s, ECHO, 0);
	PUT(m, "abc\n");
	SAME(ready(s, 1000), POLLIN);
	SAME(tcflush(s, TCIFLUSH), 0);
	SAME(ready(s, 20), 0);
	PUT(m, "abc\n");
	SAME(ready(s, 1000), POLLIN);
	struct termios t;
	tcgetattr(s, &t);
	SAME(tcsetattr(s, TCSAFLUSH, &t), 0);
	SAME(ioctl(s, FIONREAD, &n), 0);
	SAME(n, 0);
	EXPECT(tcflush(s, 3), EINVAL);
	SAME(tcdrain(s), 0);
	SAME(ioctl(s, TIOCOUTQ, &n), 0);
	SAME(n, 0);
	SAME(tcsendbreak(s, 0), 0);
	DONE;
}

TEST(speeds)
{
	PAIR;
	struct termios t;
	SAME(tcgetattr(s, &t), 0);
	SAME(cfgetospeed(&t), B38400);
	SAME(t.c_cflag & CSIZE, CS8);
	cfsetspeed(&t, B115200);
	t.c_cflag = (t.c_cflag & ~(tcflag_t)CSIZE) | CS7 | PARENB;
	SAME(tcsetattr(s, TCSANOW, &t), 0);
	SAME(tcgetattr(m, &t), 0);	/* the master shows the slave's */
	SAME(cfgetospeed(&t), B115200);
	SAME(t.c_cflag & (CSIZE | PARENB), CS8);
	struct {
		u32 i, o, c, l;
		u8 line, cc[19];
		u32 ispeed, ospeed;
	} t2;
	SAME(ioctl(s, 0x802c542a, &t2), 0);	/* TCGETS2 */
	SAME(t2.ospeed, 115200);
	SAME(t2.ispeed, 115200);
	t2.c = (t2.c & ~(u32)CBAUD) | 010000;	/* BOTHER */
	t2.ospeed = t2.ispeed = 12345;
	SAME(ioctl(s, 0x402c542b, &t2), 0);
	t2.ospeed = 0;
	SAME(ioctl(s, 0x802c542a, &t2), 0);
	SAME(t2.ospeed, 12345);
	int n = -1;
	SAME(ioctl(s, TIOCGETD, &n), 0);
	SAME(n, 0);
	EXPECT(ioctl(s, TIOCGWINSZ, 8), EFAULT);
	EXPECT(ioctl(s, TCGETS, 8), EFAULT);
	EXPECT(ioctl(s, 0x54ff, 0), ENOTTY);
	DONE;
}

TEST(packet)
{
	PAIR;
	int on = 1;
	SAME(ioctl(m, TIOCPKT, &on), 0);
	PUT(s, "data");
	GIVES(m, "\0data");
	SAME(tcflow(s, TCOOFF), 0);
	struct pollfd p = {.fd = m, .events = POLLIN | POLLPRI};
	SAME(poll(&p, 1, 1000), 1);
	SAME(p.revents, POLLIN | POLLPRI);
	GIVES(m, "\x04");
	SAME(tcflow(s, TCOON), 0);
	GIVES(m, "\x08");
	raw(s, 1, 0);
	GIVES(m, "\x10");
	SAME(tcflush(s, TCIOFLUSH), 0);
	GIVES(m, "\x03");
	DONE;
}

TEST(last_close)
{
	PAIR;
	char b[10];
	PUT(s, "bye");
	close(s);
	SAME(ready(m, 1000), POLLIN | POLLHUP);
	SAME(read(m, b, 10), 3);
	EXPECT(read(m, b, 10), EIO);
	SAME(ready(m, 0), POLLHUP);
	s = open(ptsname(m), O_RDWR | O_NOCTTY);	/* and back */
	NEED(s >= 0);
	SAME(ready(m, 0), 0);
	PUT(s, "hi");
	GIVES(m, "hi");
	DONE;
}

TEST(master_gone)
{
	PAIR;
	char b[10];
	struct termios t;
	PUT(m, "line\n");
	close(m);
	SAME(read(s, b, 10), 0);
	EXPECT(write(s, b, 1), EIO);
	EXPECT(tcgetattr(s, &t), EIO);
	struct pollfd p = {.fd = s, .events = POLLIN | POLLOUT};
	SAME(poll(&p, 1, 0), 1);
	SAME(p.revents, POLLIN | POLLOUT | POLLERR | POLLHUP);
	close(s);
}

/* Children of a terminal of their own. */

static int told[2];	/* what the child tells, one byte each */

static void tell(char c)
{
	if (write(told[1], &c, 1) != 1)
		_exit(97);
}

/* hear waits up to two seconds for the next byte, '-' when there is none. */
static char hear(void)
{
	char c = '-';
	if ((ready(told[0], 2000) & POLLIN) && read(told[0], &c, 1) != 1)
		c = '.';
	return c;
}

/* session runs fn in a session of its own whose terminal is the slave of m. */
static pid_t session(int m, int s, void (*fn)(int tty))
{
	if (pipe(told))
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		close(told[0]);
		close(m);
		if (setsid() < 0 || ioctl(s, TIOCSCTTY, 0))
			_exit(96);
		fn(s);
		_exit(0);
	}
	close(told[1]);
	return pid;
}

static int ends(pid_t pid)
{
	int st = -1;
	waitpid(pid, &st, 0);
	close(told[0]);
	return st;
}

static void on_signal(int sig)
{
	tell(sig == SIGINT ? 'I' : sig == SIGQUIT ? 'Q' : sig == SIGWINCH ? 'W' : sig == SIGHUP ? 'H' : sig == SIGCONT ? 'C' : sig == SIGTSTP ? 'Z' : '?');
}

static void catch(int sig)
{
	struct sigaction sa = {.sa_handler = on_signal};
	sigaction(sig, &sa, 0);
}

static void controlling(int tty)
{
	int n = -1;
	tell(tcgetsid(tty) == getpid() ? '1' : '0');
	tell(tcgetpgrp(tty) == getpgrp() ? '1' : '0');
	tell(ioctl(tty, TIOCSCTTY, 0) == 0 ? '1' : '0');	/* it is ours already */
	int fd = open("/dev/tty", O_RDWR);
	tell(fd >= 0 && isatty(fd) ? '1' : '0');
	tell(tcgetpgrp(fd) == getpgrp() ? '1' : '0');
	close(fd);
	tell(setsid() < 0 && errno == EPERM ? '1' : '0');
	tell(tcsetpgrp(tty, 1) < 0 ? '1' : '0');
	n = -5;
	tell(ioctl(tty, TIOCSPGRP, &n) < 0 && errno == EINVAL ? '1' : '0');
	signal(SIGHUP, SIG_IGN);
	tell(ioctl(tty, TIOCNOTTY) == 0 ? '1' : '0');
	tell(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO ? '1' : '0');
	tell(tcgetpgrp(tty) < 0 && errno == ENOTTY ? '1' : '0');
	tell(ioctl(tty, TIOCNOTTY) < 0 && errno == ENOTTY ? '1' : '0');
	fd = open(ttyname(tty), O_RDWR);	/* a leader without a terminal takes what it opens */
	tell(tcgetpgrp(fd) == getpgrp() ? '1' : '0');
}

TEST(controlling_terminal)
{
	PAIR;
	pid_t pid = session(m, s, controlling);
	for (int i = 0; i < 13; i++) {
		char c = hear();
		if (c != '1')
			FAIL("step %d: %c", i, c);
	}
	SAME(ends(pid), 0);
	EXPECT(tcgetpgrp(s), ENOTTY);
	pid = fork();
	if (pid == 0)	/* who leads no session cannot have one */
		_exit(ioctl(s, TIOCSCTTY, 0) < 0 && errno == EPERM ? 7 : 8);
	int st = -1;
	waitpid(pid, &st, 0);
	SAME(st, 7 << 8);
	DONE;
}

static void keys(int tty)
{
	(void)tty;
	catch(SIGINT);
	catch(SIGQUIT);
	catch(SIGWINCH);
	catch(SIGTSTP);
	tell('r');
	for (;;)
		pause();
}

TEST(keyboard_signals)
{
	PAIR;
	pid_t pid = session(m, s, keys);
	SAME(hear(), 'r');
	/* Each signal's key throws away the output that has not arrived yet: the echo is read before the next. */
	PUT(m, "\x03");
	SAME(hear(), 'I');
	GIVES(m, "^C");
	PUT(m, "\x1c");
	SAME(hear(), 'Q');
	GIVES(m, "^\\");
	PUT(m, "\x1a");
	SAME(hear(), 'Z');
	GIVES(m, "^Z");
	struct winsize w = {.ws_row = 10, .ws_col = 20};
	SAME(ioctl(m, TIOCSWINSZ, &w), 0);
	SAME(hear(), 'W');
	SAME(ioctl(s, TIOCSWINSZ, &w), 0);	/* no change, no signal */
	w.ws_row = 0;
	SAME(ioctl(s, TIOCGWINSZ, &w), 0);
	SAME(w.ws_row, 10);
	SAME(ioctl(m, TIOCSIG, SIGINT), 0);
	SAME(hear(), 'I');
	EXPECT(ioctl(m, TIOCSIG, SIGKILL), EINVAL);
	int fg = -1;
	SAME(ioctl(m, TIOCGPGRP, &fg), 0);
	SAME(fg, pid);
	modes(s, ISIG, 0);
	PUT(m, "\x03\n");
	GIVES(s, "\x03\n");
	kill(pid, SIGKILL);
	SAME(ends(pid), SIGKILL);
	DONE;
}

static int status_of(pid_t pid, int flags)
{
	int st = -1;
	if (waitpid(pid, &st, flags) != pid)
		return -1;
	return st;
}

static int stopped_by(int st) { return WIFSTOPPED(st) ? WSTOPSIG(st) : -1; }

static pid_t background(int tty, void (*fn)(int))
{
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		fn(tty);
		_exit(0);
	}
	setpgid(pid, pid);
	return pid;
}

static void do_read(int tty)
{
	char b[10];
	_exit((int)read(tty, b, 10));
}
static void do_write(int tty) { _exit(write(tty, "w", 1) == 1 ? 7 : 8); }
static void do_modes(int tty)
{
	struct termios t;
	tcgetattr(tty, &t);
	_exit(tcsetattr(tty, TCSANOW, &t) == 0 ? 7 : 8);
}
static void do_foreground(int tty) { _exit(tcsetpgrp(tty, getpgrp()) == 0 ? 7 : 8); }
static void do_ignored(int tty)
{
	char b[10];
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	if (read(tty, b, 10) != -1 || errno != EIO)
		_exit(1);
	if (tcsetpgrp(tty, getpgrp()))
		_exit(2);
	_exit(tcgetpgrp(tty) == getpgrp() ? 7 : 8);
}

static void job_control(int tty)
{
	signal(SIGTTOU, SIG_IGN);
	pid_t p = background(tty, do_read);
	tell(stopped_by(status_of(p, WUNTRACED)) == SIGTTIN ? '1' : '0');
	tcsetpgrp(tty, p);
	kill(-p, SIGCONT);
	tell('r');	/* the other side types now */
	tell(status_of(p, 0) == 5 << 8 ? '1' : '0');
	int gone = p;
	tell(tcgetpgrp(tty) == gone ? '1' : '0');	/* also when nobody is in it */
	tcsetpgrp(tty, getpgrp());
	signal(SIGTTOU, SIG_DFL);

	p = background(tty, do_write);
	tell(status_of(p, WUNTRACED) == 7 << 8 ? '1' : '0');	/* without TOSTOP */
	modes(tty, 0, TOSTOP);
	p = background(tty, do_write);
	tell(stopped_by(status_of(p, WUNTRACED)) == SIGTTOU ? '1' : '0');
	modes(tty, TOSTOP, 0);
	kill(-p, SIGCONT);
	tell(status_of(p, 0) == 7 << 8 ? '1' : '0');
	p = background(tty, do_modes);
	tell(stopped_by(status_of(p, WUNTRACED)) == SIGTTOU ? '1' : '0');
	kill(-p, SIGKILL);
	status_of(p, 0);
	p = background(tty, do_foreground);
	tell(stopped_by(status_of(p, WUNTRACED)) == SIGTTOU ? '1' : '0');
	kill(-p, SIGKILL);
	status_of(p, 0);
	p = background(tty, do_ignored);
	tell(status_of(p, WUNTRACED) == 7 << 8 ? '1' : '0');
}

TEST(job_control)
{
	PAIR;
	pid_t pid = session(m, s, job_control);
	SAME(hear(), '1');
	SAME(hear(), 'r');
	PUT(m, "line\n");
	for (int i = 0; i < 8; i++) {
		char c = hear();
		if (c != '1')
			FAIL("step %d: %c", i, c);
	}
	SAME(ends(pid), 0);
	DONE;
}

static void suspend(int tty)
{
	signal(SIGTTOU, SIG_IGN);
	pid_t p = fork();
	if (p == 0) {
		setpgid(0, 0);
		tcsetpgrp(tty, getpid());
		signal(SIGTTOU, SIG_DFL);
		tell('r');
		for (;;)
			pause();
	}
	tell(stopped_by(status_of(p, WUNTRACED)) == SIGTSTP ? '1' : '0');
	kill(p, SIGCONT);
	tell(WIFCONTINUED(status_of(p, WCONTINUED)) ? '1' : '0');
	tell('r');
	int st = status_of(p, 0);
	tell(WIFSIGNALED(st) && WTERMSIG(st) == SIGINT ? '1' : '0');
}

TEST(suspend_and_continue)
{
	PAIR;
	pid_t pid = session(m, s, suspend);
	SAME(hear(), 'r');
	PUT(m, "\x1a");
	SAME(hear(), '1');
	SAME(hear(), '1');
	SAME(hear(), 'r');
	PUT(m, "\x03");
	SAME(hear(), '1');
	SAME(ends(pid), 0);
	DONE;
}

static void hangup(int tty)
{
	char b[10];
	catch(SIGHUP);
	catch(SIGCONT);
	tell('r');
	while (read(tty, b, 10) < 0 && errno == EINTR)
		;
	tell(read(tty, b, 10) == 0 ? '0' : '1');
	tell(write(tty, b, 1) < 0 && errno == EIO ? 'E' : '-');
	tell(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO ? 'X' : '-');
}

TEST(hangup)
{
	PAIR;
	pid_t pid = session(m, s, hangup);
	close(s);
	SAME(hear(), 'r');
	sleep_ms(50);
	close(m);
	char got[3] = {hear(), hear()};
	CHECK(!strcmp(got, "HC") || !strcmp(got, "CH"));
	SAME(hear(), '0');
	SAME(hear(), 'E');
	SAME(hear(), 'X');
	SAME(ends(pid), 0);
}

static void leader(int tty)
{
	(void)tty;
	int p[2];
	char c;
	if (pipe(p))
		return;
	if (fork() == 0) {	/* stays in the foreground group */
		catch(SIGHUP);
		tell('r');
		if (write(p[1], "r", 1) == 1)
			pause();
		sleep_ms(20);
		tell(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO ? 'X' : '-');
		_exit(0);
	}
	if (read(p[0], &c, 1) == 1)
		sleep_ms(100);
}

TEST(leader_ends)
{
	PAIR;
	pid_t pid = session(m, s, leader);
	SAME(hear(), 'r');
	SAME(hear(), 'H');
	SAME(hear(), 'X');
	SAME(ends(pid), 0);
	PUT(s, "up");	/* the pseudo-terminal itself stays */
	GIVES(m, "up");
	DONE;
}

static void not_leader(int tty)
{
	pid_t p = fork();
	if (p == 0) {	/* gives the terminal up for itself alone */
		tell(ioctl(tty, TIOCNOTTY) == 0 ? '1' : '0');
		tell(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO ? '1' : '0');
		_exit(0);
	}
	status_of(p, 0);
	tell(open("/dev/tty", O_RDWR) >= 0 ? '1' : '0');
	p = fork();
	if (p == 0) {
		setsid();
		tell(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO ? '1' : '0');
		tell(ioctl(tty, TIOCSCTTY, 0) < 0 && errno == EPERM ? '1' : '0');	/* it is another session's */
		_exit(0);
	}
	status_of(p, 0);
}

TEST(not_leader)
{
	PAIR;
	pid_t pid = session(m, s, not_leader);
	for (int i = 0; i < 5; i++) {
		char c = hear();
		if (c != '1')
			FAIL("step %d: %c", i, c);
	}
	SAME(ends(pid), 0);
	DONE;
}

static void interrupted(int tty)
{
	char b[10];
	catch(SIGINT);
	tell('r');
	tell(read(tty, b, 10) < 0 && errno == EINTR ? 'E' : '-');
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigaction(SIGINT, &sa, 0);
	tell('r');
	tell(read(tty, b, 10) == 3 ? '3' : '-');
}

TEST(interrupted_read)
{
	PAIR;
	pid_t pid = session(m, s, interrupted);
	SAME(hear(), 'r');
	sleep_ms(30);
	PUT(m, "lost\x03");
	SAME(hear(), 'I');
	SAME(hear(), 'E');
	SAME(hear(), 'r');
	sleep_ms(30);
	PUT(m, "\x03");
	SAME(hear(), 'I');
	PUT(m, "ok\n");
	SAME(hear(), '3');
	SAME(ends(pid), 0);
	DONE;
}

TEST(blocked_writer)
{
	PAIR;
	static char b[60000];
	memset(b, 'x', sizeof b);
	pid_t p = fork();
	if (p == 0)
		_exit(write(s, b, sizeof b) == sizeof b ? 7 : 8);
	int n = 0;
	while (n < (int)sizeof b && (ready(m, 2000) & POLLIN)) {
		char c[1000];
		int k = (int)read(m, c, sizeof c);
		if (k <= 0)
			break;
		n += k;
	}
	SAME(n, sizeof b);
	SAME(status_of(p, 0), 7 << 8);
	DONE;
}

TEST(many)
{
	int m[20], s[20];
	for (int i = 0; i < 20; i++)
		NEED(pair(&m[i], &s[i]) == 0);
	for (int i = 0; i < 20; i++) {
		char c = (char)('a' + i), d = 0;
		SAME(write(s[i], &c, 1), 1);
		SAME(read(m[i], &d, 1), 1);
		SAME(d, c);
	}
	for (int i = 0; i < 20; i++) {
		close(m[i]);
		close(s[i]);
	}
}
