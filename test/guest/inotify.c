/* inotify.c - inotify(7): each step prints the events that it makes. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static int in;

static const struct { u32 bit; const char *name; } names[] = {
	{IN_ACCESS, "ACCESS"}, {IN_MODIFY, "MODIFY"}, {IN_ATTRIB, "ATTRIB"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"},
	{IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"}, {IN_OPEN, "OPEN"}, {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"},
	{IN_CREATE, "CREATE"}, {IN_DELETE, "DELETE"}, {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
	{IN_UNMOUNT, "UNMOUNT"}, {IN_Q_OVERFLOW, "OVERFLOW"}, {IN_IGNORED, "IGNORED"}, {IN_ISDIR, "ISDIR"},
};

static void events(const char *what)
{
	char b[8192];
	say("%s:", what);
	u32 cookie = 0;
	struct pollfd p = {in, POLLIN, 0};
	while (poll(&p, 1, 0) == 1) {
		ssize_t n = read(in, b, sizeof b);
		if (n <= 0) {
			FAIL("read: %zd", n);
			return;
		}
		for (char *at = b; at < b + n;) {
			struct inotify_event *e = (void *)at;
			char line[200];
			int l = snprintf(line, sizeof line, "  wd %d", e->wd);
			for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
				if (e->mask & names[i].bit)
					l += snprintf(line + l, sizeof line - l, " %s", names[i].name);
			say("%s len %u %s%s", line, e->len, e->len ? e->name : "",
			    !e->cookie ? "" : e->cookie == cookie ? " second half" : " first half");
			cookie = e->cookie;
			at += sizeof *e + e->len;
		}
	}
}

static char dir[] = "/tmp/inotifyXXXXXX";

TEST(directory)
{
	NEED(mkdtemp(dir));
	NEED(chdir(dir) == 0);
	in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	NEED(in >= 0);
	SAME(inotify_add_watch(in, ".", IN_ALL_EVENTS), 1);
	int f = open("a", O_CREAT | O_RDWR, 0600);
	events("create");
	SAME(write(f, "abc", 3), 3);
	events("write");
	char c;
	SAME(pread(f, &c, 1, 0), 1);
	events("read");
	SAME(ftruncate(f, 1), 0);
	events("truncate");
	fchmod(f, 0640);
	events("chmod");
	close(f);
	events("close");
	close(open("a", O_RDONLY));
	events("open and close");
	close(open("a", O_WRONLY | O_TRUNC));
	events("open to truncate");
	link("a", "b");
	events("link");
	symlink("a", "s");
	events("symlink");
	mkdir("d", 0700);
	events("mkdir");
	rename("a", "d/x");
	events("rename away");
	rename("d/x", "b2");
	events("rename here");
	rename("b2", "c");
	events("rename within");
	utimensat(AT_FDCWD, "c", 0, 0);
	events("touch");
	unlink("s");
	unlink("b");
	events("unlink");
	rmdir("d");
	events("rmdir");
	closedir(opendir("."));
	events("opendir");
}

TEST(file)
{
	close(open("f", O_CREAT | O_RDWR, 0600));
	events("made");
	SAME(inotify_add_watch(in, "f", IN_ALL_EVENTS), 2);
	SAME(inotify_add_watch(in, ".", IN_DELETE | IN_MOVED_TO), 1);
	int f = open("f", O_RDWR | O_APPEND);
	SAME(write(f, "x", 1), 1);
	SAME(write(f, "x", 1), 1);
	events("two writes are one event");
	rename("f", "g");
	events("rename");
	unlink("g");
	events("unlink while open");
	close(f);
	events("last close");
	EXPECT(inotify_rm_watch(in, 2), EINVAL);
	close(open("h", O_CREAT | O_RDWR, 0600));
	close(open("i", O_CREAT | O_RDWR, 0600));
	SAME(inotify_add_watch(in, "h", IN_ALL_EVENTS), 3);
	rename("i", "h");
	events("replaced");
	unlink("h");
	events("unlink");
}

TEST(options)
{
	close(open("o", O_CREAT | O_RDWR, 0600));
	EXPECT(inotify_add_watch(in, "o", 0), EINVAL);
	EXPECT(inotify_add_watch(in, "none", IN_OPEN), ENOENT);
	EXPECT(inotify_add_watch(in, "o", IN_OPEN | IN_ONLYDIR), ENOTDIR);
	EXPECT(inotify_add_watch(0, "o", IN_OPEN), EINVAL);
	EXPECT(inotify_add_watch(99, "o", IN_OPEN), EBADF);
	int w = inotify_add_watch(in, "o", IN_OPEN | IN_ONESHOT);
	EXPECT(inotify_add_watch(in, "o", IN_OPEN | IN_MASK_CREATE), EEXIST);
	close(open("o", O_RDONLY));
	close(open("o", O_RDONLY));
	events("one shot");
	EXPECT(inotify_rm_watch(in, w), EINVAL);
	w = inotify_add_watch(in, "o", IN_OPEN);
	SAME(inotify_add_watch(in, "o", IN_CLOSE | IN_MASK_ADD), w);
	close(open("o", O_RDONLY));
	int n = 0;
	EXPECT(ioctl(in, FIONREAD, &n), 0);
	SAME(n, 32);
	char small[15];
	EXPECT(read(in, small, sizeof small), EINVAL);
	events("open and close");
	EXPECT(inotify_rm_watch(in, w), 0);
	events("removed");
	EXPECT(read(in, small, sizeof small), EAGAIN);
	SAME(inotify_add_watch(in, ".", IN_MODIFY | IN_EXCL_UNLINK), 1);
	int f = open("o", O_RDWR);
	SAME(write(f, "x", 1), 1);
	unlink("o");
	SAME(write(f, "x", 1), 1);
	close(f);
	events("unlinked entries");
	chdir("/");
	rmdir(dir);
	events("the directory goes");
	close(in);
}

/* A directory tells by signals (F_NOTIFY): sig waits for one that must come, none takes those that must not have. */
static int sig(siginfo_t *i, sigset_t *s)
{
	struct timespec t = {30, 0};
	return sigtimedwait(s, i, &t);
}

TEST(dnotify)
{
	char dir[] = "/tmp/dnotifyXXXXXX";
	NEED(mkdtemp(dir) && chdir(dir) == 0);
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGIO);
	sigaddset(&s, SIGRTMIN + 3);
	sigprocmask(SIG_BLOCK, &s, NULL);
	int d = open(".", O_RDONLY);
	SAME(fcntl(d, F_NOTIFY, DN_CREATE), 0);
	SAME(fcntl(d, F_GETOWN), getpid());
	siginfo_t i;
	close(open("a", O_CREAT | O_RDWR, 0600));
	SAME(sig(&i, &s), SIGIO);
	SAME(i.si_code, SI_KERNEL);
	close(open("b", O_CREAT | O_RDWR, 0600)); /* it was for once */
	SAME(fcntl(d, F_SETSIG, SIGRTMIN + 3), 0);
	SAME(fcntl(d, F_NOTIFY, DN_MULTISHOT | DN_DELETE | DN_RENAME | DN_MODIFY), 0);
	unlink("a");
	SAME(sig(&i, &s), SIGRTMIN + 3);
	SAME(i.si_fd, d);
	SAME(i.si_code, POLL_MSG);
	SAME(i.si_band, 0x441); /* POLLIN, POLLRDNORM, POLLMSG */
	int f = open("b", O_RDWR);
	SAME(write(f, "x", 1), 1);
	SAME(sig(&i, &s), SIGRTMIN + 3);
	SAME(fcntl(d, F_NOTIFY, 0), 0);
	SAME(write(f, "x", 1), 1);
	EXPECT(fcntl(f, F_NOTIFY, DN_CREATE), ENOTDIR);
	close(f);
	unlink("b");
	SAME(fcntl(d, F_NOTIFY, DN_MULTISHOT | DN_CREATE), 0);
	close(d);
	close(open("c", O_CREAT | O_RDWR, 0600));
	struct timespec none = {0, 0};
	EXPECT(sigtimedwait(&s, &i, &none), EAGAIN);
	unlink("c");
	chdir("/");
	rmdir(dir);
}
