/*
 * iflags.c - random calls on files with the flags of chattr(1), and what they return:
 *
 *   iflags DIRECTORY SEED COUNT
 *
 * Half of the calls come from an ordinary user. What is printed is the same on every file system that has the same flags; a probe says
 * with status 77 that there are none, or that the caller must not set them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define GETFLAGS 0x80086601
#define SETFLAGS 0x40086602
#define SYNC 8
#define IMMUTABLE 0x10
#define APPEND 0x20
#define NODUMP 0x40
#define NOATIME 0x80
#define DIRSYNC 0x10000
#define TOPDIR 0x20000
#define USER 4242

static uint64_t state;

static unsigned pick(unsigned n)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (state >> 11) % n;
}

#define ONE(list) list[pick(sizeof list / sizeof *list)]

static const char *names[] = {"f", "g", "l", "d", "d/f", "d/e", "d/x", "p", "new"};
static int fds[6] = {-1, -1, -1, -1, -1, -1};

static void as(uid_t u)
{
	if (seteuid(0) || seteuid(u))
		_exit(97);
}

/* The flags of chattr, without those that say how a file lies on the disk. */
static int getflags(const char *name, unsigned *flags)
{
	int fd = open(name, O_RDONLY | O_NONBLOCK), r, e;
	if (fd < 0)
		return -1;
	r = ioctl(fd, GETFLAGS, flags);
	e = errno;
	close(fd);
	errno = e;
	*flags &= SYNC | IMMUTABLE | APPEND | NODUMP | NOATIME | DIRSYNC | TOPDIR;
	return r;
}

/* setflags does what chattr does: it changes the flags among all that are there. */
static int setflags(const char *name, unsigned flags)
{
	unsigned all = 0;
	int fd = open(name, O_RDONLY | O_NONBLOCK), r, e;
	if (fd < 0)
		return -1;
	r = ioctl(fd, GETFLAGS, &all);
	if (!r) {
		all = (all & ~(SYNC | IMMUTABLE | APPEND | NODUMP | NOATIME | DIRSYNC | TOPDIR)) | flags;
		r = ioctl(fd, SETFLAGS, &all);
	}
	e = errno;
	close(fd);
	errno = e;
	return r;
}

static int reset(const char *name, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)f;
	if (type == FTW_F || type == FTW_D)
		setflags(name, 0);
	return 0;
}

static int drop(const char *name, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type;
	if (f->level)
		remove(name);
	return 0;
}

static void clean(void)
{
	as(0);
	for (int i = 0; i < 6; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
	nftw(".", reset, 8, FTW_PHYS);
	nftw(".", drop, 8, FTW_PHYS | FTW_DEPTH);
}

static void begin(void)
{
	for (int i = 0; i < 2; i++) {
		int fd = open(names[i], O_CREAT | O_RDWR, i ? 0644 : 0666);
		if (fd < 0 || write(fd, "hello, world\n", 13) != 13)
			_exit(96);
		close(fd);
	}
	if (chmod("f", 0666) || mkdir("d", 0777) || chmod("d", 0777) || mkdir("d/e", 0755) || chown("d/e", USER, USER) || link("f", "l") ||
	    mkfifo("p", 0666) || close(open("d/f", O_CREAT | O_WRONLY, 0644)) || chown("d/f", USER, USER))
		_exit(95);
}

static int statx_(const char *name, struct statx *x) { return statx(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, x); }

static long call(unsigned op, const char *a, const char *b, int *fd, char *what)
{
	static const int modes[] = {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_APPEND, O_WRONLY | O_TRUNC, O_RDONLY | O_TRUNC,
		O_RDWR | O_CREAT, O_WRONLY | O_CREAT | O_APPEND, O_WRONLY | O_CREAT | O_EXCL, O_RDONLY | O_NOATIME, O_WRONLY | O_APPEND | O_TRUNC};
	static const unsigned flags[] = {0, 0, 0, IMMUTABLE, APPEND, IMMUTABLE | APPEND, NODUMP, NOATIME, NODUMP | APPEND, IMMUTABLE | NOATIME};
	static const int falloc[] = {0, 1, 3};
	struct timespec t[2] = {{1000, 0}, {2000, 0}};
	struct iovec v = {(void *)"wxyz", 1 + pick(4)};
	struct statx x;
	unsigned u = 0;
	long r;
	int m;
	*what = 0;
	switch (op) {
	case 0:
	case 1:
	case 2:
		u = ONE(flags);
		sprintf(what, "setflags %s %x", a, u);
		return setflags(a, u);
	case 3:
		if ((r = getflags(a, &u)) == 0)
			r = u;
		sprintf(what, "getflags %s", a);
		return r;
	case 4:
	case 5:
	case 6:
		m = ONE(modes);
		if (*fd >= 0)
			close(*fd);
		sprintf(what, "open %s %x", a, m);
		*fd = open(a, m | O_NONBLOCK, 0644);
		return *fd < 0 ? -1 : 0;
	case 7:
		strcpy(what, "write");
		return write(*fd, "abc", 3);
	case 8:
		m = pick(20);
		sprintf(what, "pwrite %d", m);
		return pwrite(*fd, "ABCD", 4, m);
	case 9:
		m = pick(3) ? -1 : (int)pick(8);
		sprintf(what, "pwritev2 append %d", m);
		r = pwritev2(*fd, &v, 1, m, RWF_APPEND);
		sprintf(what + strlen(what), " at %ld", (long)lseek(*fd, 0, SEEK_CUR));
		return r;
	case 10:
		m = pick(30);
		sprintf(what, "ftruncate %d", m);
		return ftruncate(*fd, m);
	case 11:
		m = ONE(falloc);
		sprintf(what, "fallocate %d", m);
		return fallocate(*fd, m, pick(3) * 4096, 4096);
	case 12:
		m = pick(2) ? O_APPEND : 0;
		sprintf(what, "setfl %x", m);
		return fcntl(*fd, F_SETFL, m | O_NONBLOCK);
	case 13:
		strcpy(what, "fchmod");
		return fchmod(*fd, 0666);
	case 14:
		sprintf(what, "truncate %s", a);
		return truncate(a, pick(30));
	case 15:
		sprintf(what, "chmod %s", a);
		return chmod(a, 0666 | (pick(2) ? 0111 : 0));
	case 16:
		sprintf(what, "chown %s", a);
		return lchown(a, pick(2) ? USER : 0, -1);
	case 17:
		m = pick(5);
		if (m == 1)
			t[0].tv_nsec = t[1].tv_nsec = UTIME_NOW;
		else if (m == 2)
			t[0].tv_nsec = UTIME_OMIT;
		else if (m == 3)
			t[1].tv_nsec = UTIME_NOW, t[0].tv_nsec = UTIME_OMIT;
		sprintf(what, "utimens %s %d", a, m);
		return utimensat(AT_FDCWD, a, m == 4 ? 0 : t, 0);
	case 18:
		sprintf(what, "link %s %s", a, b);
		return link(a, b);
	case 19:
		sprintf(what, "unlink %s", a);
		return unlink(a);
	case 20:
		sprintf(what, "rename %s %s", a, b);
		return rename(a, b);
	case 21:
		sprintf(what, "mkdir %s", a);
		return mkdir(a, 0777);
	case 22:
		sprintf(what, "rmdir %s", a);
		return rmdir(a);
	case 23:
		sprintf(what, "setxattr %s", a);
		return lsetxattr(a, "trusted.x", "1", 1, 0);
	case 24:
		sprintf(what, "removexattr %s", a);
		return lremovexattr(a, "trusted.x");
	case 25:
		sprintf(what, "access %s", a);
		return faccessat(AT_FDCWD, a, pick(2) ? W_OK : R_OK | W_OK, AT_EACCESS);
	case 26:
		sprintf(what, "statx %s", a);
		if ((r = statx_(a, &x)) == 0)
			sprintf(what + strlen(what), " mode %o uid %d attributes %llx of %llx", x.stx_mode, x.stx_uid,
				(unsigned long long)x.stx_attributes & 0x70, (unsigned long long)x.stx_attributes_mask & 0x70);
		if (r == 0 && (x.stx_mode & S_IFMT) == S_IFREG)
			sprintf(what + strlen(what), " size %lld", (long long)x.stx_size);
		return r;
	case 27:
		sprintf(what, "mknod %s", a);
		return mknod(a, S_IFIFO | 0666, 0);
	case 28:
		m = open(a, O_TMPFILE | O_RDWR, 0600);
		sprintf(what, "tmpfile %s", a);
		if (m >= 0)
			close(m);
		return m < 0 ? -1 : 0;
	case 29:
		m = pick(2) ? *fd : -1;
		sprintf(what, "copy_file_range %d", m == *fd);
		return copy_file_range(fds[0], &(loff_t){0}, m, &(loff_t){1}, 2, 0);
	case 30:
		sprintf(what, "rename2 exchange %s %s", a, b);
		return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 4 || chdir(argv[1]) || (mkdir("iflags", 0755) && errno != EEXIST) || chdir("iflags"))
		return 98;
	state = strtoull(argv[2], 0, 0) * 2654435761u + 88172645463325252u;
	umask(0);
	clean();
	begin();
	if (setflags("f", IMMUTABLE) || setflags("f", 0)) {
		clean();
		return 77;
	}
	for (int i = atoi(argv[3]), k = 0; k < i; k++) {
		char what[300];
		const char *a = ONE(names), *b = ONE(names);
		int slot = pick(6);
		unsigned op = pick(31);
		int user = pick(2);
		as(user ? USER : 0);
		errno = 0;
		long r = call(op, a, b, &fds[slot], what);
		int e = errno;
		as(0);
		printf("%d %s %s: %ld %s\n", k, user ? "user" : "root", what, r, r < 0 ? strerrorname_np(e) : "");
		if (k % 60 == 59) {
			clean();
			begin();
		}
	}
	clean();
	return 0;
}
