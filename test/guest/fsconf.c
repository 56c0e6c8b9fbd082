/*
 * fsconf.c - what a file system must do: names, rights, links, renaming, attributes, extended attributes, locks, holes,
 * mappings. It works in a directory of its own below $FSCONF_DIR (default /tmp), as root, and passes on Linux's tmpfs and ext4.
 */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <linux/falloc.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

static char top[PATH_MAX];

static int rename2(const char *a, const char *b, unsigned flags)
{
	return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}

/* in makes a fresh directory and goes there. */
static void in(void)
{
	static int n;
	char name[PATH_MAX + 100];
	if (!top[0]) {
		const char *d = getenv("FSCONF_DIR");
		snprintf(top, sizeof top, "%s/fsconf.%d", d ? d : "/tmp", getpid());
		if (mkdir(top, 0755)) {
			say("cannot make %s", top);
			_exit(97);
		}
	}
	umask(022);
	snprintf(name, sizeof name, "%s/%s.%d", top, check_current, n++);
	if (mkdir(name, 0777) || chmod(name, 0777) || chdir(name)) {
		say("cannot make %s", name);
		_exit(97);
	}
}

static int create(const char *name, mode_t mode)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL, mode);
	if (fd < 0)
		FAIL("create %s: errno %d", name, errno);
	return fd;
}

static void touch(const char *name)
{
	close(create(name, 0644));
}

static void put(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	SAME(write(fd, text, strlen(text)), (long)strlen(text));
	close(fd);
}

static const char *get(const char *name)
{
	static char b[4096];
	int fd = open(name, O_RDONLY);
	ssize_t n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n > 0 ? n : 0] = 0;
	return b;
}

static struct stat lst(const char *name)
{
	struct stat s;
	memset(&s, 0, sizeof s);
	EXPECT(lstat(name, &s), 0);
	return s;
}

#define MODE(name) (lst(name).st_mode & 07777)

/* become changes the effective user and group; become(0, 0) goes back. */
static void become(uid_t u, gid_t g)
{
	if (geteuid() != 0 && seteuid(0))
		_exit(96);
	gid_t none[1];
	if (setgroups(0, none) || setegid(g) || seteuid(u))
		_exit(96);
}

/* newer reports whether a is later than b. */
static int newer(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

static int same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* tick waits until the clock of the file system has moved. */
static void tick(void)
{
	sleep_ms(15);
}

static char long255[256], long256[257];

static void names(void)
{
	memset(long255, 'n', 255);
	memset(long256, 'n', 256);
}

/* open(2) */

TEST(open_create)
{
	in();
	names();
	int fd = create("a", 0644);
	EXPECT(open("a", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
	EXPECT(open("none", O_RDONLY), ENOENT);
	EXPECT(open("", O_RDONLY), ENOENT);
	EXPECT(open("a/b", O_RDONLY), ENOTDIR);
	EXPECT(open("a/", O_RDONLY), ENOTDIR);
	EXPECT(open("none/b", O_CREAT | O_RDWR, 0644), ENOENT);
	EXPECT(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
	EXPECT(open(".", O_RDWR), EISDIR);
	EXPECT(open(".", O_RDONLY | O_CREAT, 0644), EISDIR);
	EXPECT(open("none/", O_CREAT | O_RDWR, 0644), EISDIR);
	EXPECT(open(long256, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
	EXPECT(open(long256, O_RDONLY), ENAMETOOLONG);
	EXPECT(close(create(long255, 0644)), 0);
	SAME(lst(long255).st_nlink, 1);
	EXPECT(unlink(long255), 0);
	SAME(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	EXPECT(close(fd), 0);
	static const char *odd[] = {"sp ace", "new\nline", "\xff\xfe", "-", "...", "a\\b", "\xc3\xbc", "*", " ", "tab\t"};
	for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
		touch(odd[i]);
		SAME(lst(odd[i]).st_size, 0);
		EXPECT(unlink(odd[i]), 0);
	}
}

TEST(open_modes)
{
	in();
	static const struct { mode_t mode, mask, want; } m[] = {
		{0777, 0, 0777}, {0777, 022, 0755}, {0666, 077, 0600}, {0000, 0, 0}, {04755, 0, 04755}, {02644, 0, 02644}, {01777, 0, 01777}, {0777, 0777, 0},
	};
	for (unsigned i = 0; i < sizeof m / sizeof *m; i++) {
		umask(m[i].mask);
		int fd = create("f", m[i].mode);
		SAME(MODE("f"), m[i].want);
		SAME(write(fd, "x", 1), 1); /* whatever the mode says */
		close(fd);
		unlink("f");
		EXPECT(mkdir("d", m[i].mode), 0);
		SAME(MODE("d") & 01777, m[i].want & 01777);
		rmdir("d");
		EXPECT(mkfifo("p", m[i].mode), 0);
		SAME(MODE("p"), m[i].want);
		unlink("p");
	}
	umask(022);
}

TEST(open_trunc_append)
{
	in();
	put("a", "0123456789");
	int fd = open("a", O_WRONLY | O_TRUNC);
	SAME(lst("a").st_size, 0);
	close(fd);
	put("a", "0123456789");
	fd = open("a", O_RDWR | O_APPEND);
	SAME(lseek(fd, 0, SEEK_CUR), 0);
	SAME(write(fd, "ab", 2), 2);
	SAME(lseek(fd, 0, SEEK_CUR), 12);
	SAME(pwrite(fd, "cd", 2, 0), 2); /* appends on Linux (BUGS of pwrite(2)) */
	CHECK(!strcmp(get("a"), "0123456789abcd"));
	int other = open("a", O_WRONLY | O_APPEND);
	SAME(write(other, "x", 1), 1);
	SAME(write(fd, "y", 1), 1);
	CHECK(!strcmp(get("a"), "0123456789abcdxy"));
	close(other);
	EXPECT(fcntl(fd, F_SETFL, 0), 0);
	SAME(pwrite(fd, "Z", 1, 0), 1);
	SAME(get("a")[0], 'Z');
	close(fd);
	fd = open("a", O_RDONLY);
	EXPECT(write(fd, "x", 1), EBADF);
	EXPECT(ftruncate(fd, 0), EINVAL);
	close(fd);
	fd = open("a", O_WRONLY);
	char c;
	EXPECT(read(fd, &c, 1), EBADF);
	close(fd);
}

TEST(open_path)
{
	in();
	put("a", "text");
	symlink("a", "l");
	int fd = open("a", O_PATH);
	char c;
	EXPECT(read(fd, &c, 1), EBADF);
	EXPECT(write(fd, &c, 1), EBADF);
	EXPECT(fchmod(fd, 0), EBADF);
	EXPECT(fchown(fd, 0, 0), EBADF);
	EXPECT(ftruncate(fd, 0), EBADF);
	EXPECT(fgetxattr(fd, "user.x", &c, 1), EBADF);
	struct stat s;
	EXPECT(fstat(fd, &s), 0);
	SAME(s.st_size, 4);
	char p[64];
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	int again = open(p, O_RDONLY);
	SAME(read(again, &c, 1), 1);
	close(again);
	close(fd);
	fd = open("l", O_PATH | O_NOFOLLOW);
	EXPECT(fstat(fd, &s), 0);
	CHECK(S_ISLNK(s.st_mode));
	SAME(readlinkat(fd, "", p, sizeof p), 1);
	close(fd);
	EXPECT(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
	fd = open(".", O_PATH);
	again = openat(fd, "a", O_RDONLY);
	SAME(read(again, p, 4), 4);
	EXPECT(openat(again, "b", O_RDONLY), ENOTDIR);
	close(again);
	EXPECT(fchdir(fd), 0);
	close(fd);
}

TEST(tmpfile_linkat)
{
	in();
	int fd = open(".", O_TMPFILE | O_RDWR, 0640);
	NEED(fd >= 0);
	SAME(write(fd, "hidden", 6), 6);
	struct stat s;
	fstat(fd, &s);
	SAME(s.st_nlink, 0);
	SAME(s.st_mode & 07777, 0640);
	char p[64];
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	EXPECT(linkat(AT_FDCWD, p, AT_FDCWD, "seen", AT_SYMLINK_FOLLOW), 0);
	CHECK(!strcmp(get("seen"), "hidden"));
	fstat(fd, &s);
	SAME(s.st_nlink, 1);
	EXPECT(linkat(AT_FDCWD, p, AT_FDCWD, "seen", AT_SYMLINK_FOLLOW), EEXIST);
	close(fd);
	fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	NEED(fd >= 0);
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	EXPECT(linkat(AT_FDCWD, p, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
	close(fd);
	EXPECT(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
	EXPECT(open("seen", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
	fd = open("seen", O_RDONLY);
	EXPECT(unlink("seen"), 0);
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	EXPECT(linkat(AT_FDCWD, p, AT_FDCWD, "back", AT_SYMLINK_FOLLOW), ENOENT); /* it had a name */
	close(fd);
}

/* mkdir(2), rmdir(2) */

TEST(directories)
{
	in();
	names();
	EXPECT(mkdir("d", 0755), 0);
	EXPECT(mkdir("d", 0755), EEXIST);
	EXPECT(mkdir("d/", 0755), EEXIST);
	EXPECT(mkdir("x/y", 0755), ENOENT);
	EXPECT(mkdir(".", 0755), EEXIST);
	EXPECT(mkdir("..", 0755), EEXIST);
	EXPECT(mkdir(long256, 0755), ENAMETOOLONG);
	EXPECT(mkdir("e/", 0755), 0);
	touch("f");
	EXPECT(mkdir("f", 0755), EEXIST);
	EXPECT(mkdir("f/x", 0755), ENOTDIR);
	EXPECT(rmdir("f"), ENOTDIR);
	EXPECT(rmdir("none"), ENOENT);
	EXPECT(rmdir("."), EINVAL);
	EXPECT(rmdir("d/."), EINVAL);
	EXPECT(rmdir("d/.."), ENOTEMPTY);
	EXPECT(mkdir("d/s", 0755), 0);
	EXPECT(rmdir("d"), ENOTEMPTY);
	EXPECT(unlink("d"), EISDIR);
	EXPECT(unlink("d/"), EISDIR);
	EXPECT(rmdir("d/s"), 0);
	int fd = open("d", O_RDONLY | O_DIRECTORY);
	EXPECT(rmdir("d/"), 0);
	EXPECT(openat(fd, "x", O_CREAT | O_RDWR, 0644), ENOENT);
	EXPECT(mkdirat(fd, "x", 0755), ENOENT);
	struct stat s;
	EXPECT(fstat(fd, &s), 0);
	SAME(s.st_nlink, 0);
	close(fd);
	symlink("e", "l");
	EXPECT(mkdir("l", 0755), EEXIST);
	EXPECT(rmdir("l"), ENOTDIR);
	EXPECT(unlink("l"), 0);
	symlink("nowhere", "l");
	EXPECT(mkdir("l", 0755), EEXIST);
	EXPECT(mkdir("gone", 0755), 0);
	EXPECT(chdir("gone"), 0);
	EXPECT(rmdir("../gone"), 0);
	char b[100];
	EXPECT(getcwd(b, sizeof b) ? 0 : -1, ENOENT);
	EXPECT(open("x", O_CREAT | O_RDWR, 0644), ENOENT);
	EXPECT(open(".", O_RDONLY), 0);
	EXPECT(chdir(".."), 0);
}

TEST(directory_links)
{
	in();
	mkdir("d", 0755);
	SAME(lst("d").st_nlink, 2);
	mkdir("d/a", 0755);
	mkdir("d/b", 0755);
	SAME(lst("d").st_nlink, 4);
	rmdir("d/a");
	SAME(lst("d").st_nlink, 3);
	mkdir("e", 0755);
	EXPECT(rename("d/b", "e/b"), 0);
	SAME(lst("d").st_nlink, 2);
	SAME(lst("e").st_nlink, 3);
	SAME(lst("e/b/..").st_ino, lst("e").st_ino);
	SAME(lst("e/b/.").st_ino, lst("e/b").st_ino);
	EXPECT(link("d", "x"), EPERM);
}

static int listed(const char *dir, const char *name)
{
	DIR *d = opendir(dir);
	int n = 0;
	for (struct dirent *e; d && (e = readdir(d));)
		n += name ? !strcmp(e->d_name, name) : 1;
	if (d)
		closedir(d);
	return n;
}

TEST(readdir_entries)
{
	in();
	char n[300];
	mkdir("d", 0755);
	enum { many = 300 };
	for (int i = 0; i < many; i++) {
		snprintf(n, sizeof n, "d/file-with-some-length-%d", i);
		touch(n);
	}
	mkdir("d/sub", 0755);
	symlink("x", "d/link");
	mkfifo("d/fifo", 0644);
	SAME(listed("d", 0), many + 5);
	SAME(listed("d", "."), 1);
	SAME(listed("d", ".."), 1);
	SAME(listed("d", "file-with-some-length-299"), 1);
	DIR *d = opendir("d");
	int bad = 0;
	for (struct dirent *e; (e = readdir(d));) {
		struct stat s;
		if (fstatat(dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW))
			bad++;
		else if (s.st_ino != e->d_ino && strcmp(e->d_name, ".."))
			bad++;
		else if (e->d_type != DT_UNKNOWN && e->d_type != IFTODT(s.st_mode))
			bad++;
	}
	SAME(bad, 0);
	/* Removing while listing. */
	rewinddir(d);
	int removed = 0;
	for (struct dirent *e; (e = readdir(d));)
		if (!strncmp(e->d_name, "file", 4)) {
			EXPECT(unlinkat(dirfd(d), e->d_name, 0), 0);
			removed++;
		}
	SAME(removed, many);
	SAME(listed("d", 0), 5);
	/* telldir and seekdir. */
	rewinddir(d);
	readdir(d);
	readdir(d);
	long at = telldir(d);
	struct dirent *e = readdir(d);
	NEED(e);
	snprintf(n, sizeof n, "%s", e->d_name);
	while (readdir(d))
		;
	seekdir(d, at);
	e = readdir(d);
	NEED(e);
	CHECK(!strcmp(n, e->d_name));
	closedir(d);
}

/* link(2), unlink(2), symlink(2) */

TEST(hard_links)
{
	in();
	names();
	put("a", "text");
	EXPECT(link("a", "b"), 0);
	SAME(lst("a").st_nlink, 2);
	SAME(lst("a").st_ino, lst("b").st_ino);
	EXPECT(link("a", "b"), EEXIST);
	EXPECT(link("none", "c"), ENOENT);
	EXPECT(link("a", "none/c"), ENOENT);
	EXPECT(link("a", "b/c"), ENOTDIR);
	EXPECT(link("a/", "c"), ENOTDIR);
	EXPECT(link("a", "c/"), ENOENT);
	EXPECT(link("a", long256), ENAMETOOLONG);
	EXPECT(link(".", "c"), EPERM);
	struct stat before = lst("a"), dir = lst(".");
	tick();
	EXPECT(link("a", "c"), 0);
	CHECK(newer(lst("a").st_ctim, before.st_ctim));
	CHECK(same_time(lst("a").st_mtim, before.st_mtim));
	CHECK(newer(lst(".").st_mtim, dir.st_mtim));
	CHECK(newer(lst(".").st_ctim, dir.st_ctim));
	put("b", "other");
	CHECK(!strcmp(get("c"), "other"));
	before = lst("b");
	tick();
	EXPECT(unlink("a"), 0);
	SAME(lst("b").st_nlink, 2);
	CHECK(newer(lst("b").st_ctim, before.st_ctim));
	EXPECT(unlink("a"), ENOENT);
	EXPECT(unlink("b/"), ENOTDIR);
	EXPECT(unlink("b/x"), ENOTDIR);
	int fd = open("b", O_RDWR);
	EXPECT(unlink("b"), 0);
	EXPECT(unlink("c"), 0);
	struct stat s;
	EXPECT(fstat(fd, &s), 0);
	SAME(s.st_nlink, 0);
	char b[8];
	SAME(pread(fd, b, 8, 0), 5);
	SAME(pwrite(fd, "after", 5, 5), 5);
	fstat(fd, &s);
	SAME(s.st_size, 10);
	close(fd);
	symlink("nowhere", "l");
	EXPECT(link("l", "l2"), 0);
	CHECK(S_ISLNK(lst("l2").st_mode));
	EXPECT(linkat(AT_FDCWD, "l", AT_FDCWD, "l3", AT_SYMLINK_FOLLOW), ENOENT);
	mkfifo("p", 0600);
	EXPECT(link("p", "q"), 0);
	SAME(lst("q").st_nlink, 2);
}

TEST(symlinks)
{
	in();
	char b[PATH_MAX + 10];
	put("a", "text");
	EXPECT(symlink("a", "l"), 0);
	EXPECT(symlink("a", "l"), EEXIST);
	EXPECT(symlink("", "e"), ENOENT);
	EXPECT(symlink("x", "none/l"), ENOENT);
	SAME(readlink("l", b, sizeof b), 1);
	SAME(lst("l").st_size, 1);
	SAME(MODE("l"), 0777);
	EXPECT(readlink("a", b, sizeof b), EINVAL);
	EXPECT(readlink("none", b, sizeof b), ENOENT);
	CHECK(!strcmp(get("l"), "text"));
	put("l", "through");
	CHECK(!strcmp(get("a"), "through"));
	SAME(readlink("l", b, 0 + 1), 1);
	memset(b, 'x', sizeof b);
	b[4095] = 0;
	EXPECT(symlink(b, "long"), 0);
	SAME(lst("long").st_size, 4095);
	SAME(readlink("long", b, sizeof b), 4095);
	memset(b, 'x', sizeof b);
	b[4096] = 0;
	EXPECT(symlink(b, "longer"), ENAMETOOLONG);
	symlink("loop2", "loop1");
	symlink("loop1", "loop2");
	struct stat s;
	EXPECT(stat("loop1", &s), ELOOP);
	EXPECT(open("loop1", O_CREAT | O_RDWR, 0644), ELOOP);
	symlink("made", "to");
	EXPECT(close(open("to", O_CREAT | O_RDWR, 0644)), 0);
	CHECK(S_ISREG(lst("made").st_mode));
	EXPECT(open("to", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
	mkdir("d", 0755);
	symlink("d", "dl");
	CHECK(S_ISDIR(lst("dl/").st_mode));
	CHECK(S_ISLNK(lst("dl").st_mode));
	touch("dl/f");
	SAME(lst("d/f").st_size, 0);
	for (int i = 0; i < 41; i++) {
		char x[16], y[16];
		snprintf(x, sizeof x, "c%d", i);
		snprintf(y, sizeof y, "c%d", i + 1);
		symlink(y, x);
	}
	touch("c41");
	EXPECT(stat("c0", &s), ELOOP);
	EXPECT(stat("c1", &s), 0);
	EXPECT(lchown("l", 5, 6), 0);
	SAME(lst("l").st_uid, 5);
	SAME(lst("a").st_uid, 0);
	EXPECT(unlink("l"), 0);
	SAME(lst("a").st_size, 7);
}

/* rename(2) */

TEST(rename_files)
{
	in();
	names();
	put("a", "a");
	struct stat s = lst("a"), dir = lst(".");
	tick();
	EXPECT(rename("a", "b"), 0);
	SAME(lst("b").st_ino, s.st_ino);
	CHECK(same_time(lst("b").st_mtim, s.st_mtim));
	CHECK(newer(lst(".").st_mtim, dir.st_mtim));
	EXPECT(access("a", F_OK), ENOENT);
	EXPECT(rename("a", "c"), ENOENT);
	EXPECT(rename("b", "none/c"), ENOENT);
	EXPECT(rename("b", "b/c"), ENOTDIR);
	EXPECT(rename("b", long256), ENAMETOOLONG);
	EXPECT(rename("b", "b"), 0);
	EXPECT(rename("b/", "c"), ENOTDIR);
	EXPECT(rename("b", "c/"), ENOTDIR);
	put("c", "c");
	int fd = open("c", O_RDONLY);
	EXPECT(rename("b", "c"), 0);
	CHECK(!strcmp(get("c"), "a"));
	char x;
	SAME(read(fd, &x, 1), 1);
	SAME(x, 'c');
	struct stat o;
	fstat(fd, &o);
	SAME(o.st_nlink, 0);
	close(fd);
	EXPECT(link("c", "d"), 0);
	EXPECT(rename("c", "d"), 0); /* one file: nothing happens */
	SAME(lst("c").st_nlink, 2);
	EXPECT(rename(".", "x"), EBUSY);
	EXPECT(rename("..", "x"), EBUSY);
	EXPECT(rename("c", "."), EBUSY);
	mkdir("dir", 0755);
	EXPECT(rename("c", "dir"), EISDIR);
	EXPECT(rename("dir", "c"), ENOTDIR);
	symlink("c", "l");
	EXPECT(rename("l", "m"), 0);
	CHECK(S_ISLNK(lst("m").st_mode));
	EXPECT(rename("c", "m"), 0);
	CHECK(S_ISREG(lst("m").st_mode));
	mkfifo("p", 0600);
	EXPECT(rename("p", "dir/p"), 0);
	CHECK(S_ISFIFO(lst("dir/p").st_mode));
}

TEST(rename_directories)
{
	in();
	mkdir("a", 0755);
	mkdir("a/b", 0755);
	put("a/b/f", "f");
	EXPECT(rename("a", "a/b/c"), EINVAL);
	EXPECT(rename("a", "a/c"), EINVAL);
	EXPECT(rename("a/b", "a"), ENOTEMPTY);
	mkdir("e", 0755);
	EXPECT(rename("a", "e"), 0);
	CHECK(!strcmp(get("e/b/f"), "f"));
	mkdir("full", 0755);
	touch("full/x");
	errno = 0;
	CHECK(rename("e", "full") == -1 && (errno == ENOTEMPTY || errno == EEXIST));
	EXPECT(rename("e/", "g"), 0);
	EXPECT(rename("g", "h/"), 0);
	EXPECT(rename("h/b", "b"), 0);
	SAME(lst("b/..").st_ino, lst(".").st_ino);
	EXPECT(chdir("b"), 0);
	EXPECT(rename("../b", "../moved"), 0);
	char b[PATH_MAX];
	CHECK(getcwd(b, sizeof b) && strlen(b) > 6 && !strcmp(b + strlen(b) - 6, "/moved"));
	CHECK(!strcmp(get("f"), "f"));
	EXPECT(chdir(".."), 0);
}

TEST(rename_flags)
{
	in();
	put("a", "a");
	put("b", "b");
	EXPECT(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
	EXPECT(rename2("a", "c", RENAME_NOREPLACE), 0);
	EXPECT(rename2("c", "b", RENAME_EXCHANGE), 0);
	CHECK(!strcmp(get("b"), "a"));
	CHECK(!strcmp(get("c"), "b"));
	EXPECT(rename2("c", "none", RENAME_EXCHANGE), ENOENT);
	EXPECT(rename2("c", "b", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	EXPECT(rename2("c", "b", 0x100), EINVAL);
	mkdir("d", 0755);
	mkdir("d/s", 0755);
	put("d/s/f", "f");
	EXPECT(rename2("d/s", "b", RENAME_EXCHANGE), 0);
	CHECK(!strcmp(get("b/f"), "f"));
	CHECK(!strcmp(get("d/s"), "a"));
	SAME(lst("d").st_nlink, 2);
	EXPECT(rename2("d", "d/s", RENAME_EXCHANGE), EINVAL);
	EXPECT(rename2("d/s", "d", RENAME_EXCHANGE), EINVAL);
}

/* Rights. */

TEST(permissions_files)
{
	in();
	static const mode_t bits[] = {0400, 0200, 0100, 0040, 0020, 0010, 0004, 0002, 0001};
	put("f", "x");
	for (int who = 0; who < 3; who++) {
		chown("f", who == 0 ? 1000 : 0, who == 1 ? 1000 : 0);
		for (unsigned i = 0; i < 9; i++) {
			chmod("f", bits[i]);
			int r = bits[i] == (mode_t)(0400 >> 3 * who), w = bits[i] == (mode_t)(0200 >> 3 * who), x = bits[i] == (mode_t)(0100 >> 3 * who);
			become(1000, 1000);
			int fd = open("f", O_RDONLY);
			SAME(fd >= 0, r);
			close(fd);
			fd = open("f", O_WRONLY);
			SAME(fd >= 0, w);
			close(fd);
			SAME(faccessat(AT_FDCWD, "f", X_OK, AT_EACCESS) == 0, x);
			become(0, 0);
		}
	}
	chmod("f", 0);
	int fd = open("f", O_RDWR);
	CHECK(fd >= 0);
	close(fd);
	EXPECT(access("f", X_OK), EACCES);
	chmod("f", 0010);
	EXPECT(access("f", X_OK), 0);
}

TEST(permissions_directories)
{
	in();
	mkdir("d", 0755);
	put("d/f", "x");
	chmod("d/f", 0666);
	struct stat s;
	static const struct { mode_t mode; int list, look, add; } m[] = {
		{0700, 0, 0, 0}, {0704, 1, 0, 0}, {0701, 0, 1, 0}, {0702, 0, 0, 0}, {0703, 0, 1, 1}, {0707, 1, 1, 1},
	};
	for (unsigned i = 0; i < sizeof m / sizeof *m; i++) {
		chmod("d", m[i].mode);
		become(1000, 1000);
		DIR *d = opendir("d");
		SAME(d != 0, m[i].list);
		if (d)
			closedir(d);
		EXPECT(stat("d/f", &s), m[i].look ? 0 : EACCES);
		EXPECT(stat("d/none", &s), m[i].look ? ENOENT : EACCES);
		EXPECT(mkdir("d/new", 0755), m[i].add ? 0 : EACCES);
		EXPECT(symlink("x", "d/link"), m[i].add ? 0 : EACCES);
		EXPECT(rename("d/f", "d/g"), m[i].add ? 0 : EACCES);
		EXPECT(rename("d/g", "d/f"), m[i].add ? 0 : m[i].look ? ENOENT : EACCES);
		EXPECT(mkfifo("d/fifo", 0600), m[i].add ? 0 : EACCES);
		EXPECT(rmdir("d/new"), m[i].add ? 0 : m[i].look ? ENOENT : EACCES);
		EXPECT(unlink("d/link"), m[i].add ? 0 : m[i].look ? ENOENT : EACCES);
		EXPECT(unlink("d/fifo"), m[i].add ? 0 : m[i].look ? ENOENT : EACCES);
		become(0, 0);
	}
}

TEST(sticky)
{
	in();
	mkdir("t", 0777);
	chmod("t", 01777);
	put("t/root", "x");
	chmod("t/root", 0666);
	become(1000, 1000);
	put("t/mine", "m");
	EXPECT(unlink("t/root"), EPERM);
	EXPECT(rename("t/root", "t/x"), EPERM);
	EXPECT(rename("t/mine", "t/root"), EPERM);
	EXPECT(rename("t/mine", "t/mine2"), 0);
	become(1001, 1001);
	EXPECT(unlink("t/mine2"), EPERM);
	become(0, 0);
	chown("t", 1001, 0);
	become(1001, 1001);
	EXPECT(unlink("t/mine2"), 0); /* the directory is his */
	become(0, 0);
}

TEST(set_group_id)
{
	in();
	mkdir("d", 0777);
	chown("d", 0, 500);
	chmod("d", 02777);
	become(1000, 1000);
	touch("d/f");
	mkdir("d/s", 0755);
	become(0, 0);
	SAME(lst("d/f").st_gid, 500);
	SAME(lst("d/f").st_uid, 1000);
	SAME(lst("d/s").st_gid, 500);
	SAME(MODE("d/s"), 02755);
	SAME(MODE("d/f"), 0644);
	mkdir("plain", 0777);
	chmod("plain", 0777);
	become(1000, 1000);
	touch("plain/f");
	become(0, 0);
	SAME(lst("plain/f").st_gid, 1000);
}

TEST(chmod_chown)
{
	in();
	put("f", "x");
	EXPECT(chmod("f", 07777), 0);
	SAME(MODE("f"), 07777);
	EXPECT(chmod("none", 0), ENOENT);
	struct stat s = lst("f");
	tick();
	EXPECT(chmod("f", 0644), 0);
	CHECK(newer(lst("f").st_ctim, s.st_ctim));
	CHECK(same_time(lst("f").st_mtim, s.st_mtim));
	EXPECT(chown("f", 1000, 1000), 0);
	become(1001, 1001);
	EXPECT(chmod("f", 0600), EPERM);
	EXPECT(chown("f", 1001, -1), EPERM);
	become(1000, 1000);
	EXPECT(chmod("f", 0600), 0);
	EXPECT(chown("f", 1000, 1000), 0);
	EXPECT(chown("f", -1, -1), 0);
	EXPECT(chown("f", 1001, -1), EPERM);
	EXPECT(chown("f", -1, 0), EPERM);
	become(0, 0);
	chmod("f", 06755);
	EXPECT(chown("f", 0, 0), 0);
	SAME(MODE("f"), 0755);
	chmod("f", 06644);
	EXPECT(chown("f", 0, 0), 0);
	SAME(MODE("f"), 02644); /* mandatory locking's old mark stays */
	mkdir("d", 0755);
	chmod("d", 06755);
	EXPECT(chown("d", 5, 5), 0);
	SAME(MODE("d"), 06755);
	chown("f", 1000, 50);
	become(1000, 1000);
	EXPECT(chmod("f", 02755), 0);
	become(0, 0);
	SAME(MODE("f"), 0755); /* not in the group */
	EXPECT(fchmodat(AT_FDCWD, "f", 0600, 0), 0);
	EXPECT(chown("f", 70000, 80000), 0);
	SAME(lst("f").st_uid, 70000);
	SAME(lst("f").st_gid, 80000);
	int fd = open("f", O_RDONLY);
	EXPECT(fchmod(fd, 0640), 0);
	EXPECT(fchown(fd, 1, 2), 0);
	SAME(lst("f").st_gid, 2);
	close(fd);
}

TEST(write_drops_set_user_id)
{
	in();
	put("f", "x");
	chown("f", 1000, 1000);
	chmod("f", 06777);
	become(1000, 1000);
	int fd = open("f", O_WRONLY);
	SAME(write(fd, "y", 1), 1);
	SAME(MODE("f"), 0777);
	chmod("f", 04777);
	EXPECT(ftruncate(fd, 5), 0);
	SAME(MODE("f"), 0777);
	close(fd);
	become(0, 0);
	chmod("f", 04777);
	fd = open("f", O_WRONLY);
	SAME(write(fd, "y", 1), 1);
	SAME(MODE("f"), 04777); /* CAP_FSETID */
	close(fd);
}

/* Times. */

TEST(times)
{
	in();
	put("f", "x");
	struct timespec t[2] = {{1000, 123456789}, {2000, 987654321}};
	EXPECT(utimensat(AT_FDCWD, "f", t, 0), 0);
	SAME(lst("f").st_atim.tv_sec, 1000);
	SAME(lst("f").st_mtim.tv_sec, 2000);
	SAME(lst("f").st_mtim.tv_nsec, 987654321);
	SAME(lst("f").st_atim.tv_nsec, 123456789);
	t[0].tv_nsec = UTIME_OMIT;
	t[1] = (struct timespec){3000, 5};
	EXPECT(utimensat(AT_FDCWD, "f", t, 0), 0);
	SAME(lst("f").st_atim.tv_sec, 1000);
	SAME(lst("f").st_mtim.tv_sec, 3000);
	t[0] = (struct timespec){0, 1000000000};
	EXPECT(utimensat(AT_FDCWD, "f", t, 0), EINVAL);
	time_t now = time(0);
	EXPECT(utimensat(AT_FDCWD, "f", 0, 0), 0);
	CHECK(lst("f").st_mtim.tv_sec >= now - 2);
	become(1000, 1000);
	t[0] = (struct timespec){5, 5};
	EXPECT(utimensat(AT_FDCWD, "f", t, 0), EPERM);
	EXPECT(utimensat(AT_FDCWD, "f", 0, 0), EACCES);
	become(0, 0);
	chmod("f", 0666);
	become(1000, 1000);
	EXPECT(utimensat(AT_FDCWD, "f", 0, 0), 0);
	become(0, 0);
	symlink("f", "l");
	t[1] = (struct timespec){77, 0};
	EXPECT(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW), 0);
	SAME(lst("l").st_mtim.tv_sec, 77);
	CHECK(lst("f").st_mtim.tv_sec != 77);
	int fd = open("f", O_RDWR);
	EXPECT(futimens(fd, t), 0);
	SAME(lst("f").st_mtim.tv_sec, 77);
	struct stat s = lst("f");
	tick();
	SAME(write(fd, "z", 1), 1);
	CHECK(newer(lst("f").st_mtim, s.st_mtim));
	CHECK(newer(lst("f").st_ctim, s.st_ctim));
	s = lst("f");
	tick();
	EXPECT(ftruncate(fd, 100), 0);
	CHECK(newer(lst("f").st_mtim, s.st_mtim));
	s = lst("f");
	tick();
	char c;
	SAME(pread(fd, &c, 1, 0), 1);
	CHECK(same_time(lst("f").st_mtim, s.st_mtim));
	CHECK(same_time(lst("f").st_ctim, s.st_ctim));
	close(fd);
	s = lst(".");
	tick();
	touch("new");
	CHECK(newer(lst(".").st_mtim, s.st_mtim));
	s = lst(".");
	tick();
	unlink("new");
	CHECK(newer(lst(".").st_mtim, s.st_mtim));
	s = lst("f");
	tick();
	EXPECT(setxattr("f", "user.t", "1", 1, 0) == 0 || errno == EOPNOTSUPP ? 0 : -1, 0);
	struct statx x;
	EXPECT(statx(AT_FDCWD, "f", 0, STATX_ALL, &x), 0);
	CHECK(x.stx_mask & STATX_BTIME ? x.stx_btime.tv_sec > now - 100 : 1);
	SAME(x.stx_size, 100);
	SAME(x.stx_nlink, 1);
	SAME(x.stx_ino, lst("f").st_ino);
	SAME(x.stx_mode, lst("f").st_mode);
}

/* Reading, writing, holes. */

TEST(read_write)
{
	in();
	int fd = create("f", 0644);
	char b[64];
	SAME(read(fd, b, 64), 0);
	SAME(write(fd, "0123456789", 10), 10);
	SAME(read(fd, b, 64), 0);
	SAME(lseek(fd, 3, SEEK_SET), 3);
	SAME(read(fd, b, 4), 4);
	CHECK(!memcmp(b, "3456", 4));
	SAME(lseek(fd, -2, SEEK_END), 8);
	SAME(read(fd, b, 64), 2);
	EXPECT(lseek(fd, -1, SEEK_SET), EINVAL);
	EXPECT(lseek(fd, -100, SEEK_CUR), EINVAL);
	EXPECT(lseek(fd, 0, 99), EINVAL);
	SAME(pread(fd, b, 3, 9), 1);
	SAME(pread(fd, b, 3, 10), 0);
	SAME(pread(fd, b, 3, 1000), 0);
	EXPECT(pread(fd, b, 3, -1), EINVAL);
	EXPECT(pwrite(fd, b, 3, -1), EINVAL);
	struct iovec v[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
	SAME(pwritev(fd, v, 3, 2), 5);
	char x[2], y[4];
	struct iovec r[2] = {{x, 2}, {y, 4}};
	SAME(preadv(fd, r, 2, 1), 6);
	CHECK(!memcmp(x, "1a", 2) && !memcmp(y, "bcde", 4));
	SAME(pwrite(fd, "end", 3, 100), 3);
	SAME(lst("f").st_size, 103);
	SAME(pread(fd, b, 64, 20), 64);
	int zero = 1;
	for (int i = 0; i < 64; i++)
		zero &= b[i] == 0;
	CHECK(zero);
	EXPECT(ftruncate(fd, 5), 0);
	SAME(lst("f").st_size, 5);
	EXPECT(ftruncate(fd, 50), 0);
	SAME(pread(fd, b, 64, 0), 50);
	zero = 1;
	for (int i = 5; i < 50; i++)
		zero &= b[i] == 0;
	CHECK(zero);
	EXPECT(ftruncate(fd, -1), EINVAL);
	EXPECT(truncate("f", 7), 0);
	SAME(lst("f").st_size, 7);
	EXPECT(truncate("none", 7), ENOENT);
	EXPECT(truncate(".", 7), EISDIR);
	char *nowhere = (char *)sysconf(_SC_PAGESIZE) - 100;
	EXPECT(pread(fd, nowhere, 5, 0), EFAULT);
	EXPECT(pwrite(fd, nowhere, 5, 0), EFAULT);
	SAME(write(fd, b, 0), 0);
	EXPECT(fsync(fd), 0);
	EXPECT(fdatasync(fd), 0);
	EXPECT(syncfs(fd), 0);
	EXPECT(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE), 0);
	int left = -1;
	lseek(fd, 2, SEEK_SET);
	EXPECT(ioctl(fd, FIONREAD, &left), 0);
	SAME(left, 5);
	close(fd);
	fd = open(".", O_RDONLY);
	EXPECT(read(fd, b, 1), EISDIR);
	EXPECT(fsync(fd), 0);
	close(fd);
}

TEST(sparse)
{
	in();
	int fd = create("f", 0644);
	enum { M = 1 << 20 };
	char b[4096];
	memset(b, 'd', sizeof b);
	SAME(pwrite(fd, b, 4096, M), 4096);
	SAME(pwrite(fd, b, 4096, 3 * M), 4096);
	EXPECT(ftruncate(fd, 5 * M), 0);
	struct stat s = lst("f");
	SAME(s.st_size, 5 * M);
	CHECK(s.st_blocks < 2000);
	SAME(lseek(fd, 0, SEEK_HOLE), 0);
	SAME(lseek(fd, 0, SEEK_DATA), M);
	SAME(lseek(fd, M, SEEK_DATA), M);
	SAME(lseek(fd, M, SEEK_HOLE), M + 4096);
	SAME(lseek(fd, M + 4096, SEEK_DATA), 3 * M);
	EXPECT(lseek(fd, 4 * M, SEEK_DATA), ENXIO);
	SAME(lseek(fd, 4 * M, SEEK_HOLE), 4 * M);
	EXPECT(lseek(fd, 5 * M, SEEK_HOLE), ENXIO);
	EXPECT(lseek(fd, 6 * M, SEEK_DATA), ENXIO);
	EXPECT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, M, 4096), 0);
	SAME(lseek(fd, 0, SEEK_DATA), 3 * M);
	SAME(pread(fd, b, 4096, M), 4096);
	SAME(b[0] | b[4095], 0);
	EXPECT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * M + 100, 200), 0);
	SAME(pread(fd, b, 4096, 3 * M), 4096);
	SAME(b[99], 'd');
	SAME(b[100] | b[299], 0);
	SAME(b[300], 'd');
	EXPECT(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
	EXPECT(fallocate(fd, 0, 0, 0), EINVAL);
	EXPECT(fallocate(fd, 0, -1, 10), EINVAL);
	EXPECT(fallocate(fd, 0, 4 * M, 2 * M), 0);
	SAME(lst("f").st_size, 6 * M);
	CHECK(lst("f").st_blocks >= 2 * M / 512);
	EXPECT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 6 * M, M), 0);
	SAME(lst("f").st_size, 6 * M);
	EXPECT(posix_fallocate(fd, 0, 100), 0);
	close(fd);
	fd = open("f", O_RDONLY);
	EXPECT(fallocate(fd, 0, 0, 100), EBADF);
	close(fd);
	fd = create("big", 0644);
	EXPECT(ftruncate(fd, 1ll << 40), 0);
	SAME(lst("big").st_size, 1ll << 40);
	CHECK(lst("big").st_blocks < 100);
	SAME(pwrite(fd, "x", 1, (1ll << 40) - 1), 1);
	SAME(pread(fd, b, 10, (1ll << 40) - 5), 5);
	SAME(b[4], 'x');
	close(fd);
	unlink("big");
}

TEST(copy_in_kernel)
{
	in();
	int a = create("a", 0644), b = create("b", 0644);
	char x[10000], y[10000];
	for (unsigned i = 0; i < sizeof x; i++)
		x[i] = (char)(i * 7);
	SAME(write(a, x, sizeof x), (long)sizeof x);
	off_t from = 100, to = 50;
	SAME(copy_file_range(a, &from, b, &to, 5000, 0), 5000);
	SAME(from, 5100);
	SAME(to, 5050);
	SAME(pread(b, y, 5000, 50), 5000);
	CHECK(!memcmp(x + 100, y, 5000));
	SAME(lst("b").st_size, 5050);
	SAME(copy_file_range(a, &(off_t){20000}, b, 0, 10, 0), 0);
	EXPECT(copy_file_range(a, 0, b, 0, 10, 1), EINVAL);
	EXPECT(copy_file_range(a, &(off_t){0}, a, &(off_t){10}, 100, 0), EINVAL);
	off_t off = 10;
	EXPECT(ftruncate(b, 0), 0);
	lseek(b, 0, SEEK_SET);
	SAME(sendfile(b, a, &off, 3000), 3000);
	SAME(off, 3010);
	SAME(pread(b, y, 3000, 0), 3000);
	CHECK(!memcmp(x + 10, y, 3000));
	int p[2];
	EXPECT(pipe(p), 0);
	off = 5;
	SAME(splice(a, &off, p[1], 0, 2000, 0), 2000);
	off = 1;
	SAME(splice(p[0], 0, b, &off, 2000, 0), 2000);
	SAME(pread(b, y, 2000, 1), 2000);
	CHECK(!memcmp(x + 5, y, 2000));
	close(p[0]);
	close(p[1]);
	close(a);
	close(b);
}

/* Mappings. */

/* A store through a shared mapping changes the file, and so its times, when it is written back at the latest. */
TEST(mapping_times)
{
	in();
	int fd = create("f", 0644);
	struct stat st;
	struct timespec long_ago[2] = {{1000, 0}, {2000, 0}};
	char b[8192] = "";
	SAME(write(fd, b, sizeof b), sizeof b);
	NEED(futimens(fd, long_ago) == 0);
	char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	p[0] = 'p';
	NEED(fstat(fd, &st) == 0);
	SAME(st.st_mtime, 2000);
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(m != MAP_FAILED);
	m[4096] = 'm';
	NEED(msync(m, 8192, MS_SYNC) == 0 && fstat(fd, &st) == 0);
	CHECK(st.st_mtime > 2000 && st.st_ctime >= st.st_mtime);
	SAME(st.st_size, 8192);
	munmap(p, 8192);
	munmap(m, 8192);
	close(fd);
}

TEST(mappings)
{
	in();
	int fd = create("f", 0644);
	char b[8192];
	memset(b, 'a', sizeof b);
	SAME(write(fd, b, 6000), 6000);
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(m != MAP_FAILED);
	SAME(m[0], 'a');
	SAME(m[5999], 'a');
	SAME(m[6000] | m[8191], 0);
	m[10] = 'm';
	SAME(pread(fd, b, 1, 10), 1);
	SAME(b[0], 'm');
	SAME(pwrite(fd, "w", 1, 20), 1);
	SAME(m[20], 'w');
	char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	SAME(p[10], 'm');
	p[11] = 'p';
	SAME(m[11], 'a');
	SAME(pwrite(fd, "q", 1, 12), 1);
	SAME(m[12], 'q');
	m[7000] = 'z'; /* behind the end: never seen */
	EXPECT(ftruncate(fd, 8192), 0);
	SAME(m[7000] == 0 || m[7000] == 'z', 1);
	SAME(pwrite(fd, "t", 1, 8191), 1);
	SAME(m[8191], 't');
	EXPECT(ftruncate(fd, 4096), 0);
	TRAPS((void)*(volatile char *)(m + 4096), SIGBUS, BUS_ADRERR);
	EXPECT(ftruncate(fd, 8192), 0);
	SAME(*(volatile char *)(m + 8191), 0);
	EXPECT(msync(m, 8192, MS_SYNC), 0);
	EXPECT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	SAME(m[10], 0);
	SAME(p[11], 'p');
	munmap(m, 8192);
	munmap(p, 4096);
	unlink("f");
	m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(m != MAP_FAILED);
	close(fd);
	m[0] = 'k'; /* neither a name nor a descriptor, but there */
	SAME(m[0], 'k');
	munmap(m, 4096);
	fd = open("g", O_RDONLY | O_CREAT, 0644);
	EXPECT(mmap(0, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, EACCES);
	close(fd);
	fd = open("g", O_WRONLY);
	EXPECT(mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, EACCES);
	close(fd);
	/* Two processes see one file. */
	fd = open("h", O_RDWR | O_CREAT, 0644);
	EXPECT(ftruncate(fd, 4096), 0);
	m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	pid_t child = fork();
	if (!child) {
		m[1] = 'c';
		_exit(pwrite(fd, "d", 1, 2) != 1);
	}
	int st;
	SAME(waitpid(child, &st, 0), child);
	SAME(st, 0);
	SAME(m[1], 'c');
	SAME(m[2], 'd');
	munmap(m, 4096);
	close(fd);
}

/* Extended attributes. */

TEST(xattrs)
{
	in();
	char b[300];
	put("f", "x");
	EXPECT(setxattr("f", "user.a", "value", 5, 0), 0);
	SAME(getxattr("f", "user.a", b, sizeof b), 5);
	CHECK(!memcmp(b, "value", 5));
	SAME(getxattr("f", "user.a", b, 0), 5);
	EXPECT(getxattr("f", "user.a", b, 3), ERANGE);
	EXPECT(getxattr("f", "user.none", b, sizeof b), ENODATA);
	EXPECT(setxattr("f", "user.a", "v", 1, XATTR_CREATE), EEXIST);
	EXPECT(setxattr("f", "user.b", "v", 1, XATTR_REPLACE), ENODATA);
	EXPECT(setxattr("f", "user.a", "", 0, XATTR_REPLACE), 0);
	SAME(getxattr("f", "user.a", b, sizeof b), 0);
	EXPECT(setxattr("f", "user.b", "bb", 2, XATTR_CREATE), 0);
	SAME(listxattr("f", b, sizeof b), 14);
	SAME(listxattr("f", b, 0), 14);
	EXPECT(listxattr("f", b, 3), ERANGE);
	EXPECT(removexattr("f", "user.a"), 0);
	EXPECT(removexattr("f", "user.a"), ENODATA);
	SAME(listxattr("f", b, sizeof b), 7);
	EXPECT(setxattr("f", "nonsense", "v", 1, 0), EOPNOTSUPP);
	EXPECT(setxattr("f", "strange.a", "v", 1, 0), EOPNOTSUPP);
	EXPECT(setxattr("f", "", "v", 1, 0), ERANGE);
	EXPECT(setxattr("f", "user.a", "v", 1, 99), EINVAL);
	EXPECT(setxattr("none", "user.a", "v", 1, 0), ENOENT);
	EXPECT(setxattr("f", "trusted.t", "v", 1, 0), 0);
	SAME(getxattr("f", "trusted.t", b, sizeof b), 1);
	EXPECT(removexattr("f", "trusted.t"), 0);
	struct stat s = lst("f");
	tick();
	EXPECT(setxattr("f", "user.c", "v", 1, 0), 0);
	CHECK(newer(lst("f").st_ctim, s.st_ctim));
	CHECK(same_time(lst("f").st_mtim, s.st_mtim));
	mkdir("d", 0755);
	EXPECT(setxattr("d", "user.d", "v", 1, 0), 0);
	SAME(getxattr("d", "user.d", b, sizeof b), 1);
	symlink("f", "l");
	SAME(getxattr("l", "user.c", b, sizeof b), 1);
	EXPECT(lsetxattr("l", "user.x", "v", 1, 0), EPERM);
	mkfifo("p", 0666);
	EXPECT(setxattr("p", "user.x", "v", 1, 0), EPERM);
	chmod("f", 0644);
	become(1000, 1000);
	EXPECT(setxattr("f", "user.x", "v", 1, 0), EACCES);
	SAME(getxattr("f", "user.c", b, sizeof b), 1);
	EXPECT(setxattr("f", "trusted.x", "v", 1, 0), EPERM);
	EXPECT(getxattr("f", "trusted.x", b, sizeof b), ENODATA);
	become(0, 0);
	chmod("f", 0600);
	become(1000, 1000);
	EXPECT(getxattr("f", "user.c", b, sizeof b), EACCES);
	become(0, 0);
	int fd = open("f", O_RDONLY);
	EXPECT(fsetxattr(fd, "user.fd", "1", 1, 0), 0);
	SAME(fgetxattr(fd, "user.fd", b, sizeof b), 1);
	EXPECT(fremovexattr(fd, "user.fd"), 0);
	SAME(flistxattr(fd, b, sizeof b), 14);
	close(fd);
	EXPECT(rename("f", "g"), 0);
	SAME(getxattr("g", "user.c", b, sizeof b), 1);
}

/* Locks. */

TEST(locks)
{
	in();
	int a = create("f", 0644), b = open("f", O_RDWR);
	EXPECT(flock(a, LOCK_EX), 0);
	EXPECT(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	EXPECT(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	EXPECT(flock(a, LOCK_SH), 0);
	EXPECT(flock(b, LOCK_SH | LOCK_NB), 0);
	EXPECT(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	EXPECT(flock(a, LOCK_UN), 0);
	EXPECT(flock(b, LOCK_UN), 0);
	EXPECT(flock(a, 0), EINVAL);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
	EXPECT(fcntl(a, F_SETLK, &l), 0);
	EXPECT(fcntl(b, F_SETLK, &l), 0); /* one process */
	pid_t child = fork();
	if (!child) {
		struct flock t = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1};
		int bad = fcntl(b, F_SETLK, &t) != -1 || (errno != EAGAIN && errno != EACCES);
		bad |= fcntl(b, F_GETLK, &t) != 0 || t.l_type != F_WRLCK || t.l_start != 10 || t.l_len != 10 || t.l_pid != getppid();
		t = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 5};
		bad |= fcntl(b, F_SETLK, &t) != 0;
		_exit(bad);
	}
	int st;
	waitpid(child, &st, 0);
	SAME(st, 0);
	l.l_type = F_UNLCK;
	EXPECT(fcntl(a, F_SETLK, &l), 0);
	l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
	EXPECT(fcntl(a, F_OFD_SETLK, &l), 0);
	EXPECT(fcntl(b, F_OFD_SETLK, &l), EAGAIN);
	l.l_type = F_RDLCK;
	EXPECT(fcntl(a, F_OFD_SETLK, &l), 0);
	EXPECT(fcntl(b, F_OFD_SETLK, &l), 0);
	close(a);
	l.l_type = F_WRLCK;
	EXPECT(fcntl(b, F_OFD_SETLK, &l), 0);
	int r = open("f", O_RDONLY);
	EXPECT(fcntl(r, F_SETLK, &l), EBADF);
	close(r);
	close(b);
}

/* Special files, statfs, openat2. */

TEST(special_files)
{
	in();
	EXPECT(mknod("null", S_IFCHR | 0666, makedev(1, 3)), 0);
	SAME(lst("null").st_rdev, makedev(1, 3));
	CHECK(S_ISCHR(lst("null").st_mode));
	EXPECT(mknod("blk", S_IFBLK | 0600, makedev(7, 77)), 0);
	SAME(lst("blk").st_rdev, makedev(7, 77));
	EXPECT(mknod("reg", S_IFREG | 0600, 0), 0);
	CHECK(S_ISREG(lst("reg").st_mode));
	EXPECT(mknod("dir", S_IFDIR | 0700, 0), EPERM);
	EXPECT(mknod("reg", S_IFREG | 0600, 0), EEXIST);
	EXPECT(mkfifo("fifo", 0600), 0);
	int r = open("fifo", O_RDONLY | O_NONBLOCK), w = open("fifo", O_WRONLY | O_NONBLOCK);
	CHECK(r >= 0 && w >= 0);
	SAME(write(w, "via", 3), 3);
	char b[8];
	SAME(read(r, b, 8), 3);
	close(r);
	EXPECT(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
	close(w);
	become(1000, 1000);
	EXPECT(mknod("no", S_IFCHR | 0666, makedev(1, 3)), EPERM);
	become(0, 0);
	int fd = open("null", O_RDWR);
	if (fd >= 0) { /* not on a mount without devices */
		SAME(write(fd, "x", 1), 1);
		close(fd);
	}
	struct statfs s;
	EXPECT(statfs(".", &s), 0);
	CHECK(s.f_bsize >= 512);
	SAME(s.f_namelen, 255);
	struct statvfs v;
	EXPECT(statvfs(".", &v), 0);
}

struct how { u64 flags, mode, resolve; };

static int openat2_(int dir, const char *path, u64 flags, u64 resolve)
{
	struct how h = {flags, 0, resolve};
	return syscall(437, dir, path, &h, sizeof h);
}

TEST(resolve)
{
	in();
	mkdir("d", 0755);
	mkdir("d/e", 0755);
	put("d/f", "f");
	put("out", "o");
	symlink("../out", "d/up");
	symlink("f", "d/in");
	symlink("/f", "d/abs");
	int dir = open("d", O_PATH), fd;
	enum { NO_XDEV = 1, NO_MAGIC = 2, NO_LINKS = 4, BENEATH = 8, IN_ROOT = 16 };
	CHECK((fd = openat2_(dir, "f", O_RDONLY, BENEATH)) >= 0);
	close(fd);
	CHECK((fd = openat2_(dir, "e/../f", O_RDONLY, BENEATH)) >= 0);
	close(fd);
	CHECK((fd = openat2_(dir, "in", O_RDONLY, BENEATH)) >= 0);
	close(fd);
	EXPECT(openat2_(dir, "../out", O_RDONLY, BENEATH), EXDEV);
	EXPECT(openat2_(dir, "up", O_RDONLY, BENEATH), EXDEV);
	EXPECT(openat2_(dir, "/f", O_RDONLY, BENEATH), EXDEV);
	EXPECT(openat2_(dir, "abs", O_RDONLY, BENEATH), EXDEV);
	CHECK((fd = openat2_(dir, "abs", O_RDONLY, IN_ROOT)) >= 0);
	close(fd);
	CHECK((fd = openat2_(dir, "/../../f", O_RDONLY, IN_ROOT)) >= 0);
	close(fd);
	EXPECT(openat2_(dir, "up", O_RDONLY, IN_ROOT), ENOENT);
	EXPECT(openat2_(dir, "in", O_RDONLY, NO_LINKS), ELOOP);
	EXPECT(openat2_(dir, "/proc/self/exe", O_RDONLY, NO_MAGIC), ELOOP);
	EXPECT(openat2_(dir, "/proc/self/status", O_RDONLY, NO_XDEV), EXDEV);
	EXPECT(openat2_(dir, "f", O_RDONLY, 0x1000), EINVAL);
	EXPECT(openat2_(dir, "f", O_RDONLY, BENEATH | IN_ROOT), EINVAL);
	close(dir);
}

TEST(handles)
{
	in();
	put("f", "h");
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int mount;
	u.h.handle_bytes = 0;
	if (name_to_handle_at(AT_FDCWD, "f", &u.h, &mount, 0) == -1 && errno == EOPNOTSUPP)
		return; /* not here */
	u.h.handle_bytes = 0;
	EXPECT(name_to_handle_at(AT_FDCWD, "f", &u.h, &mount, 0), EOVERFLOW);
	u.h.handle_bytes = MAX_HANDLE_SZ;
	EXPECT(name_to_handle_at(AT_FDCWD, "f", &u.h, &mount, 0), 0);
	int dir = open(".", O_RDONLY);
	int fd = open_by_handle_at(dir, &u.h, O_RDONLY);
	CHECK(fd >= 0);
	char c = 0;
	SAME(read(fd, &c, 1), 1);
	SAME(c, 'h');
	close(fd);
	EXPECT(unlink("f"), 0);
	EXPECT(open_by_handle_at(dir, &u.h, O_RDONLY), ESTALE);
	close(dir);
}

TEST(sockets)
{
	in();
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	if (s < 0)
		return;
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "sock"};
	EXPECT(bind(s, (void *)&a, sizeof a), 0);
	CHECK(S_ISSOCK(lst("sock").st_mode));
	EXPECT(open("sock", O_RDONLY), ENXIO);
	EXPECT(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, sizeof a), EADDRINUSE);
	EXPECT(unlink("sock"), 0);
	close(s);
}

TEST(deep_and_many)
{
	in();
	char n[64];
	for (int i = 0; i < 60; i++) {
		EXPECT(mkdir("deep", 0755), 0);
		EXPECT(chdir("deep"), 0);
	}
	touch("bottom");
	for (int i = 0; i < 60; i++)
		EXPECT(chdir(".."), 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(n, sizeof n, "f%d", i);
		int fd = open(n, O_CREAT | O_WRONLY, 0644);
		if (fd < 0 || write(fd, n, strlen(n)) != (ssize_t)strlen(n))
			FAIL("%s", n);
		close(fd);
	}
	SAME(listed(".", 0), 1003);
	int bad = 0;
	for (int i = 0; i < 1000; i++) {
		snprintf(n, sizeof n, "f%d", i);
		bad += strcmp(get(n), n) != 0;
		bad += unlink(n) != 0;
	}
	SAME(bad, 0);
	SAME(listed(".", 0), 3);
}

/* Last: nothing may be left. */
static int clean(int dir)
{
	DIR *d = fdopendir(dir);
	int bad = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) == 0)
			continue;
		int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		bad += sub < 0 || clean(sub);
		bad += unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) != 0;
	}
	closedir(d);
	return bad;
}

TEST(remove_all)
{
	in();
	EXPECT(chdir("/"), 0);
	SAME(clean(open(top, O_RDONLY | O_DIRECTORY)), 0);
	EXPECT(rmdir(top), 0);
	top[0] = 0;
}
