/* files.c - open, read, write, seek, stat, directories, links, renames, truncation, descriptors, in a directory of its own. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* Tests run side by side on Linux: each process has its own directory. */
static char dir_name[64];

static int put(const char *name, const char *text)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) != (long)strlen(text))
		FAIL("cannot make %s", name);
	return fd;
}

static int has(const char *name, const char *text)
{
	char b[4096];
	int fd = open(name, O_RDONLY);
	if (fd < 0)
		return 0;
	long n = read(fd, b, sizeof b);
	close(fd);
	return n == (long)strlen(text) && !memcmp(b, text, (size_t)n);
}

static void make(const char *name, const char *text)
{
	close(put(name, text));
}

/* The first test; all others work below its directory. */
TEST(fresh_directory)
{
	snprintf(dir_name, sizeof dir_name, "/tmp/files.%d", (int)getpid());
	umask(022);
	CHECK(mkdir(dir_name, 0755) == 0);
	NEED(chdir(dir_name) == 0);
	char b[PATH_MAX];
	CHECK(getcwd(b, sizeof b) && !strcmp(b, dir_name));
	EXPECT(syscall(SYS_getcwd, b, 3), ERANGE);
}

TEST(open_flags)
{
	EXPECT(open("none", O_RDONLY), ENOENT);
	int fd = open("new", O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0);
	EXPECT(open("new", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	SAME(write(fd, "0123456789", 10), 10);
	SAME(lseek(fd, 0, SEEK_CUR), 10);
	close(fd);
	fd = open("new", O_RDONLY);
	EXPECT(write(fd, "x", 1), EBADF);
	close(fd);
	fd = open("new", O_WRONLY);
	char c;
	EXPECT(read(fd, &c, 1), EBADF);
	close(fd);
	fd = open("new", O_WRONLY | O_APPEND);
	SAME(write(fd, "ab", 2), 2);
	lseek(fd, 0, SEEK_SET);
	SAME(write(fd, "cd", 2), 2);
	close(fd);
	CHECK(has("new", "0123456789abcd"));
	fd = open("new", O_RDWR | O_TRUNC);
	close(fd);
	CHECK(has("new", ""));
	EXPECT(open(".", O_WRONLY), EISDIR);
	EXPECT(open("new", O_RDONLY | O_DIRECTORY), ENOTDIR);
	EXPECT(open("new/x", O_RDONLY), ENOTDIR);
	EXPECT(open("nodir/x", O_RDWR | O_CREAT, 0600), ENOENT);
	EXPECT(open("", O_RDONLY), ENOENT);
	EXPECT(openat(999, "new", O_RDONLY), EBADF);
	fd = open("new", O_RDONLY);
	EXPECT(openat(fd, "x", O_RDONLY), ENOTDIR);
	int fd2 = openat(fd, strcat(strcpy((char[100]){0}, dir_name), "/new"), O_RDONLY);
	CHECK(fd2 >= 0);
	close(fd);
	close(fd2);
	unlink("new");
}

TEST(lowest_descriptor)
{
	int a = put("f", "x"), b = dup(a), c = dup(a);
	SAME(b, a + 1);
	SAME(c, b + 1);
	close(b);
	SAME(dup(a), b);
	close(a);
	SAME(open("f", O_RDONLY), a);
	close(a);
	close(b);
	close(c);
	EXPECT(close(a), EBADF);
	EXPECT(close(-1), EBADF);
	unlink("f");
}

TEST(seek)
{
	int fd = put("f", "0123456789");
	char c;
	SAME(lseek(fd, 3, SEEK_SET), 3);
	SAME(read(fd, &c, 1), 1);
	SAME(c, '3');
	SAME(lseek(fd, 2, SEEK_CUR), 6);
	SAME(lseek(fd, -1, SEEK_END), 9);
	EXPECT(lseek(fd, -1, SEEK_SET), EINVAL);
	EXPECT(lseek(fd, 0, 99), EINVAL);
	SAME(lseek(fd, 100, SEEK_SET), 100);
	SAME(read(fd, &c, 1), 0);
	SAME(write(fd, "z", 1), 1);
	SAME(lseek(fd, 0, SEEK_END), 101);
	SAME(pread(fd, &c, 1, 50), 1);
	SAME(c, 0);
	SAME(pwrite(fd, "Q", 1, 0), 1);
	SAME(lseek(fd, 0, SEEK_CUR), 101);
	SAME(lseek(fd, 0, SEEK_DATA) >= 0, 1);
	EXPECT(lseek(fd, 1000, SEEK_DATA), ENXIO);
	SAME(lseek(fd, 0, SEEK_HOLE) <= 101, 1);
	close(fd);
	unlink("f");
}

TEST(vectors)
{
	int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct iovec w[3] = {{"ab", 2}, {0, 0}, {"cdef", 4}};
	char x[3], y[10];
	struct iovec r[2] = {{x, 3}, {y, 10}};
	SAME(writev(fd, w, 3), 6);
	lseek(fd, 0, SEEK_SET);
	SAME(readv(fd, r, 2), 6);
	CHECK(!memcmp(x, "abc", 3) && !memcmp(y, "def", 3));
	SAME(preadv(fd, r, 1, 2), 3);
	CHECK(!memcmp(x, "cde", 3));
	SAME(pwritev(fd, w, 1, 4), 2);
	CHECK(has("f", "abcdab"));
	SAME(writev(fd, w, 0), 0);
	close(fd);
	unlink("f");
}

TEST(truncate)
{
	int fd = put("f", "0123456789");
	SAME(ftruncate(fd, 4), 0);
	CHECK(has("f", "0123"));
	SAME(ftruncate(fd, 8), 0);
	CHECK(lseek(fd, 0, SEEK_END) == 8);
	char b[8];
	SAME(pread(fd, b, 8, 0), 8);
	CHECK(!memcmp(b, "0123\0\0\0\0", 8));
	SAME(truncate("f", 2), 0);
	CHECK(has("f", "01"));
	EXPECT(ftruncate(fd, -1), EINVAL);
	EXPECT(truncate(".", 0), EISDIR);
	EXPECT(truncate("none", 0), ENOENT);
	close(fd);
	fd = open("f", O_RDONLY);
	EXPECT(ftruncate(fd, 0), EINVAL);
	close(fd);
	unlink("f");
}

TEST(stat_fields)
{
	struct stat st, st2;
	int fd = put("f", "hello");
	CHECK(stat("f", &st) == 0);
	CHECK(S_ISREG(st.st_mode));
	SAME(st.st_mode & 07777, 0644);
	SAME(st.st_size, 5);
	SAME(st.st_nlink, 1);
	SAME(st.st_uid, getuid());
	CHECK(st.st_ino != 0);
	CHECK(st.st_blksize >= 512);
	CHECK(st.st_mtime > 1700000000);
	CHECK(fstat(fd, &st2) == 0);
	SAME(st.st_ino, st2.st_ino);
	SAME(st.st_dev, st2.st_dev);
	close(fd);
	CHECK(stat(".", &st) == 0);
	CHECK(S_ISDIR(st.st_mode));
	CHECK(st.st_nlink >= 1);
	CHECK(stat("/dev/null", &st) == 0);
	CHECK(S_ISCHR(st.st_mode));
	SAME(st.st_rdev, 0x103);
	CHECK(fstatat(AT_FDCWD, "f", &st, AT_SYMLINK_NOFOLLOW) == 0);
	EXPECT(fstatat(AT_FDCWD, "", &st, 0), ENOENT);
	CHECK(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH) == 0);
	EXPECT(fstatat(AT_FDCWD, "f", &st, 0x40000000), EINVAL);
	EXPECT(stat("f/", &st), ENOTDIR);
	CHECK(stat("./", &st) == 0);
	CHECK(chmod("f", 0600) == 0 && stat("f", &st) == 0);
	SAME(st.st_mode & 07777, 0600);
	struct timespec t[2] = {{1000, 5}, {2000, 7}};
	CHECK(utimensat(AT_FDCWD, "f", t, 0) == 0 && stat("f", &st) == 0);
	SAME(st.st_atim.tv_sec, 1000);
	SAME(st.st_mtim.tv_nsec, 7);
	unlink("f");
}

TEST(directories)
{
	struct stat st;
	CHECK(mkdir("d", 0700) == 0);
	EXPECT(mkdir("d", 0700), EEXIST);
	EXPECT(mkdir("x/y", 0700), ENOENT);
	make("d/f", "x");
	EXPECT(rmdir("d"), ENOTEMPTY);
	EXPECT(rmdir("d/f"), ENOTDIR);
	EXPECT(unlink("d"), EISDIR);
	EXPECT(rmdir("d/."), EINVAL);
	EXPECT(rmdir("d/.."), ENOTEMPTY);
	EXPECT(unlink("d/g"), ENOENT);
	CHECK(chdir("d") == 0);
	CHECK(stat("../d/f", &st) == 0);
	CHECK(chdir("..") == 0);
	int fd = open("d", O_RDONLY | O_DIRECTORY);
	CHECK(unlinkat(fd, "f", 0) == 0);
	CHECK(mkdirat(fd, "sub", 0755) == 0);
	CHECK(fchdir(fd) == 0);
	CHECK(stat("sub", &st) == 0);
	CHECK(chdir("..") == 0);
	CHECK(unlinkat(fd, "sub", AT_REMOVEDIR) == 0);
	char c;
	EXPECT(read(fd, &c, 1), EISDIR);
	close(fd);
	CHECK(rmdir("d") == 0);
	EXPECT(rmdir("d"), ENOENT);
	/* /.. is /. */
	struct stat a, b;
	CHECK(stat("/", &a) == 0 && stat("/../..", &b) == 0);
	SAME(a.st_ino, b.st_ino);
}

static int count(const char *dir, const char *wanted, int *types)
{
	DIR *d = opendir(dir);
	int n = 0;
	if (!d)
		return -1;
	for (struct dirent *e; (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		n++;
		if (wanted && !strcmp(e->d_name, wanted))
			*types = e->d_type;
	}
	closedir(d);
	return n;
}

TEST(getdents)
{
	char name[32];
	int type = -1;
	CHECK(mkdir("d", 0755) == 0);
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof name, "d/file-%d", i);
		make(name, "");
	}
	SAME(count("d", "file-499", &type), 500);
	SAME(type, DT_REG);
	/* Through a small buffer, with removal on the way: nothing is skipped. */
	int fd = open("d", O_RDONLY | O_DIRECTORY), total = 0;
	char b[300];
	for (long n; (n = syscall(SYS_getdents64, fd, b, sizeof b)) > 0;)
		for (long o = 0; o < n;) {
			struct { u64 ino; int64_t off; u16 len; u8 type; char name[]; } *e = (void *)(b + o);
			if (e->name[0] != '.') {
				snprintf(name, sizeof name, "d/%s", e->name);
				unlink(name);
				total++;
			}
			o += e->len;
		}
	SAME(total, 500);
	lseek(fd, 0, SEEK_SET);
	EXPECT(syscall(SYS_getdents64, fd, b, 4), EINVAL);
	close(fd);
	SAME(count("d", 0, 0), 0);
	CHECK(rmdir("d") == 0);
	fd = put("f", "");
	EXPECT(syscall(SYS_getdents64, fd, b, sizeof b), ENOTDIR);
	close(fd);
	unlink("f");
}

TEST(links)
{
	struct stat st;
	char b[64];
	make("f", "text");
	CHECK(link("f", "g") == 0);
	CHECK(stat("f", &st) == 0);
	SAME(st.st_nlink, 2);
	EXPECT(link("f", "g"), EEXIST);
	EXPECT(link("none", "h"), ENOENT);
	EXPECT(link(".", "h"), EPERM);
	CHECK(unlink("f") == 0);
	CHECK(has("g", "text"));
	CHECK(symlink("g", "s") == 0);
	SAME(readlink("s", b, sizeof b), 1);
	SAME(readlink("s", b, 0) == -1 ? errno : 0, EINVAL);
	CHECK(has("s", "text"));
	CHECK(lstat("s", &st) == 0 && S_ISLNK(st.st_mode));
	SAME(st.st_size, 1);
	EXPECT(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
	EXPECT(readlink("g", b, sizeof b), EINVAL);
	EXPECT(symlink("x", "s"), EEXIST);
	CHECK(symlink("loop", "loop") == 0);
	EXPECT(open("loop", O_RDONLY), ELOOP);
	CHECK(symlink("nowhere", "dangling") == 0);
	EXPECT(open("dangling", O_RDONLY), ENOENT);
	CHECK(access("nowhere", F_OK) == -1);
	int fd = open("dangling", O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && access("nowhere", F_OK) == 0);
	close(fd);
	CHECK(symlink(dir_name, "abs") == 0);
	CHECK(has("abs/g", "text"));
	CHECK(has("abs/./s", "text"));
	/* 40 links in a row are allowed, the 41st is not. */
	char from[16], to[16];
	make("l0", "end");
	for (int i = 1; i <= 41; i++) {
		snprintf(to, sizeof to, "l%d", i - 1);
		snprintf(from, sizeof from, "l%d", i);
		CHECK(symlink(to, from) == 0);
	}
	CHECK(has("l40", "end"));
	EXPECT(open("l41", O_RDONLY), ELOOP);
	for (int i = 0; i <= 41; i++) {
		snprintf(from, sizeof from, "l%d", i);
		unlink(from);
	}
	unlink("abs"), unlink("nowhere"), unlink("dangling"), unlink("loop"), unlink("s"), unlink("g");
}

TEST(rename_rules)
{
	struct stat a, b;
	make("f", "from");
	make("g", "to");
	stat("f", &a);
	CHECK(rename("f", "g") == 0);
	CHECK(has("g", "from"));
	stat("g", &b);
	SAME(a.st_ino, b.st_ino);
	EXPECT(rename("f", "h"), ENOENT);
	mkdir("d", 0755);
	mkdir("e", 0755);
	EXPECT(rename("g", "d"), EISDIR);
	EXPECT(rename("d", "g"), ENOTDIR);
	CHECK(rename("d", "e") == 0);
	mkdir("d", 0755);
	make("e/x", "");
	EXPECT(rename("d", "e"), ENOTEMPTY);
	EXPECT(rename("e", "e/inside"), EINVAL);
	CHECK(rename("g", "e/g") == 0);
	CHECK(has("e/g", "from"));
	CHECK(rename("e/g", "e/g") == 0);
	EXPECT(syscall(SYS_renameat2, AT_FDCWD, "e/g", AT_FDCWD, "e/x", 1 /* NOREPLACE */), EEXIST);
	CHECK(syscall(SYS_renameat2, AT_FDCWD, "e/g", AT_FDCWD, "e/x", 2 /* EXCHANGE */) == 0);
	CHECK(has("e/x", "from") && has("e/g", ""));
	unlink("e/x"), unlink("e/g"), rmdir("e"), rmdir("d");
}

TEST(deleted_file_lives_on)
{
	int fd = put("f", "ghost");
	char b[8];
	struct stat st;
	CHECK(unlink("f") == 0);
	CHECK(access("f", F_OK) == -1);
	SAME(pread(fd, b, 8, 0), 5);
	CHECK(fstat(fd, &st) == 0);
	SAME(st.st_nlink, 0);
	SAME(write(fd, "more", 4), 4);
	SAME(pread(fd, b, 8, 5), 4);
	close(fd);
}

TEST(dup_and_fcntl)
{
	int fd = put("f", "0123456789"), d = dup(fd);
	char c;
	lseek(fd, 5, SEEK_SET);
	SAME(read(d, &c, 1), 1);
	SAME(c, '5');	/* one offset for both */
	SAME(fcntl(fd, F_GETFD), 0);
	SAME(fcntl(fd, F_SETFD, FD_CLOEXEC), 0);
	SAME(fcntl(fd, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(d, F_GETFD), 0);
	SAME(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	SAME(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK), 0);
	SAME(fcntl(d, F_GETFL) & (O_APPEND | O_NONBLOCK), O_APPEND | O_NONBLOCK);
	SAME(fcntl(fd, F_DUPFD, 100), 100);
	SAME(fcntl(fd, F_DUPFD_CLOEXEC, 100), 101);
	SAME(fcntl(101, F_GETFD), FD_CLOEXEC);
	SAME(dup2(fd, 100), 100);
	SAME(dup2(fd, fd), fd);
	EXPECT(dup3(fd, fd, 0), EINVAL);
	SAME(dup3(fd, 102, O_CLOEXEC), 102);
	EXPECT(dup2(999, 5), EBADF);
	EXPECT(dup2(fd, -1), EBADF);
	EXPECT(fcntl(999, F_GETFD), EBADF);
	EXPECT(fcntl(fd, 9999), EINVAL);
	close(100), close(101), close(102), close(d), close(fd);
	unlink("f");
}

TEST(rlimit_nofile)
{
	struct rlimit old, rl;
	NEED(getrlimit(RLIMIT_NOFILE, &old) == 0);
	rl = old;
	rl.rlim_cur = 20;
	NEED(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	int fd, last = -1, n = 0;
	while ((fd = open("/dev/null", O_RDONLY)) >= 0) {
		last = fd;
		n++;
	}
	SAME(errno, EMFILE);
	SAME(last, 19);
	EXPECT(dup(0), EMFILE);
	EXPECT(dup2(0, 20), EBADF);
	for (int i = last; n-- > 0; i--)
		close(i);
	setrlimit(RLIMIT_NOFILE, &old);
}

TEST(access_and_modes)
{
	make("f", "");
	chmod("f", 0);
	SAME(access("f", F_OK), 0);
	if (geteuid() == 0)
		SAME(access("f", R_OK | W_OK), 0);
	EXPECT(access("f", X_OK), EACCES);
	EXPECT(access("f", 8), EINVAL);
	SAME(umask(077), 022);
	make("g", "");
	SAME(umask(022), 077);
	struct stat st;
	stat("g", &st);
	SAME(st.st_mode & 0777, 0600);
	unlink("f"), unlink("g");
}

TEST(ioctls_of_a_file)
{
	int fd = put("f", "12345"), n = -1;
	EXPECT(ioctl(fd, TCGETS, &n), ENOTTY);
	lseek(fd, 2, SEEK_SET);
	EXPECT(ioctl(fd, FIONREAD, &n), 0);
	SAME(n, 3);
	EXPECT(ioctl(fd, 0xdeadbeef, &n), ENOTTY);
	EXPECT(ioctl(999, FIONREAD, &n), EBADF);
	EXPECT(ioctl(fd, FIOCLEX), 0);
	SAME(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	unlink("f");
}

TEST(statfs_of_root)
{
	struct statfs s;
	CHECK(statfs("/", &s) == 0);
	CHECK(s.f_bsize >= 512 && s.f_namelen == 255);
	EXPECT(statfs("none", &s), ENOENT);
}

TEST(big_file)
{
	int fd = open("big", O_RDWR | O_CREAT | O_TRUNC, 0600);
	static char b[65536];
	for (int i = 0; i < 64; i++) {
		memset(b, i, sizeof b);
		if (write(fd, b, sizeof b) != sizeof b) {
			FAIL("write %d", i);
			break;
		}
	}
	for (int i = 63; i >= 0; i -= 7) {
		SAME(pread(fd, b, sizeof b, i * 65536L), sizeof b);
		CHECK(b[0] == i && b[65535] == i);
	}
	/* Sparse, far out. */
	SAME(pwrite(fd, "end", 3, 1L << 33), 3);
	struct stat st;
	fstat(fd, &st);
	SAME(st.st_size, (1L << 33) + 3);
	CHECK(st.st_blocks < (64l << 20) / 512);
	SAME(pread(fd, b, 4096, 1L << 32), 4096);
	SAME(b[100], 0);
	close(fd);
	unlink("big");
}

TEST(o_tmpfile_and_memfd)
{
	int fd = open(".", O_RDWR | O_TMPFILE, 0600);
	CHECK(fd >= 0);
	SAME(write(fd, "x", 1), 1);
	close(fd);
	fd = (int)syscall(SYS_memfd_create, "name", 0);
	CHECK(fd >= 0);
	SAME(write(fd, "abc", 3), 3);
	char b[4];
	SAME(pread(fd, b, 4, 0), 3);
	close(fd);
}

TEST(clean_up)
{
	CHECK(chdir("/") == 0);
	CHECK(rmdir(dir_name) == 0);
}
