/* mountapi.c - fsopen(2) and its kin, pivot_root(2), shared mounts (mount_namespaces(7)). As root; on Linux in a mount namespace of its own. */
#include "check.h"
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define AT_REC 0x8000
#define D "/tmp/mapi"

static int fsopen_(const char *t, unsigned f) { return syscall(SYS_fsopen, t, f); }
static int config(int fd, unsigned cmd, const char *k, const void *v, int aux) { return syscall(SYS_fsconfig, fd, cmd, k, v, aux); }
static int fsmount_(int fd, unsigned f, unsigned a) { return syscall(SYS_fsmount, fd, f, a); }
static int pick(int d, const char *p, unsigned f) { return syscall(SYS_fspick, d, p, f); }
static int tree(int d, const char *p, unsigned f) { return syscall(SYS_open_tree, d, p, f); }
static int move(int d, const char *p, int e, const char *q, unsigned f) { return syscall(SYS_move_mount, d, p, e, q, f); }
struct attr { u64 set, clear, propagation, userns; };
static int setattr(int d, const char *p, unsigned f, struct attr a) { return syscall(SYS_mount_setattr, d, p, f, &a, sizeof a); }
enum { FLAG, STRING, BINARY, PATH, PATH_EMPTY, FD, CREATE, RECONFIGURE };
enum { F_EMPTY = 4, T_EMPTY = 0x40 };

/* Whether /proc/self/mountinfo has a line about a point, with a word in it. */
static int info(const char *point, const char *word)
{
	static char b[1 << 16];
	int fd = open("/proc/self/mountinfo", O_RDONLY), n = 0, k, found = 0;
	char p[100], *save;
	while ((k = read(fd, b + n, sizeof b - 1 - n)) > 0)
		n += k;
	close(fd);
	b[n] = 0;
	snprintf(p, sizeof p, " %s ", point);
	for (char *l = strtok_r(b, "\n", &save); l; l = strtok_r(0, "\n", &save))
		if (strstr(l, p) && (!word || strstr(l, word)))
			found++;
	return found;
}

static int there(const char *p) { return access(p, F_OK) == 0; }
static void touch(const char *p) { close(open(p, O_CREAT | O_WRONLY, 0644)); }

/* A tmpfs that lies nowhere. */
static int loose(unsigned attr)
{
	int c = fsopen_("tmpfs", 1);
	config(c, STRING, "size", "1m", 0);
	config(c, CREATE, 0, 0, 0);
	int m = fsmount_(c, 1, attr);
	close(c);
	return m;
}

TEST(begin)
{
	if (unshare(CLONE_NEWNS) && errno != EINVAL && errno != ENOSYS)
		FAIL("no mount namespace");
	EXPECT(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), 0);
	mkdir(D, 0755);
	EXPECT(mount("mapi", D, "tmpfs", 0, "size=4m"), 0);
	const char *dirs[] = {"a", "b", "c", "d", "e", "root"};
	for (int i = 0; i < 6; i++) {
		char p[64];
		snprintf(p, sizeof p, D "/%s", dirs[i]);
		EXPECT(mkdir(p, 0755), 0);
	}
}

TEST(contexts)
{
	char b[200];
	EXPECT(fsopen_("nosuchfs", 0), ENODEV);
	EXPECT(fsopen_("tmpfs", 8), EINVAL);
	EXPECT(fsopen_((char *)8, 0), EFAULT);
	int c = fsopen_("tmpfs", 1);
	CHECK(c >= 0);
	SAME(fcntl(c, F_GETFD), FD_CLOEXEC);
	EXPECT(read(c, b, sizeof b), ENODATA);
	EXPECT(config(c, 99, 0, 0, 0), EOPNOTSUPP);
	EXPECT(config(c, FLAG, "ro", "x", 0), EINVAL);
	EXPECT(config(c, STRING, "source", 0, 0), EINVAL);
	EXPECT(config(c, CREATE, "x", 0, 0), EINVAL);
	EXPECT(config(0, CREATE, 0, 0, 0), EINVAL);
	EXPECT(config(-1, CREATE, 0, 0, 0), EINVAL);
	EXPECT(config(999, CREATE, 0, 0, 0), EBADF);
	EXPECT(fsmount_(c, 1, 0), EINVAL); /* nothing made yet */
	EXPECT(config(c, STRING, "source", "mine", 0), 0);
	EXPECT(config(c, STRING, "source", "twice", 0), EINVAL);
	EXPECT(config(c, STRING, "size", "1m", 0), 0);
	EXPECT(config(c, STRING, "mode", "0750", 0), 0);
	EXPECT(config(c, RECONFIGURE, 0, 0, 0), EBUSY);
	EXPECT(config(c, CREATE, 0, 0, 0), 0);
	EXPECT(config(c, CREATE, 0, 0, 0), EBUSY);
	EXPECT(config(c, STRING, "size", "2m", 0), EBUSY);
	EXPECT(fsmount_(c, 2, 0), EINVAL);
	EXPECT(fsmount_(c, 1, 0x40000000), EINVAL);
	EXPECT(fsmount_(c, 1, 0x30), EINVAL);
	int m = fsmount_(c, 1, 2 | 8 | 0x10);
	CHECK(m >= 0);
	SAME(fcntl(m, F_GETFD), FD_CLOEXEC);
	EXPECT(fsmount_(c, 1, 0), EBUSY);
	/* it can be used before it has a place */
	int f = openat(m, "file", O_CREAT | O_RDWR, 0644);
	CHECK(f >= 0);
	SAME(write(f, "abc", 3), 3);
	close(f);
	EXPECT(read(m, b, 1), EBADF);
	EXPECT(umount2(D "/a", 0), EINVAL);
	EXPECT(move(m, "", AT_FDCWD, D "/a", 0), ENOENT);
	EXPECT(move(m, "", AT_FDCWD, D "/nowhere", F_EMPTY), ENOENT);
	EXPECT(move(m, "", AT_FDCWD, D "/a", F_EMPTY | 0x10000), EINVAL);
	EXPECT(move(m, "", AT_FDCWD, D "/a", F_EMPTY), 0);
	CHECK(there(D "/a/file"));
	SAME(info(D "/a", " mine "), 1);
	SAME(info(D "/a", "nosuid,noexec,noatime"), 1);
	struct stat s;
	EXPECT(stat(D "/a", &s), 0);
	SAME(s.st_mode & 07777, 0750);
	close(m);
	CHECK(there(D "/a/file"));
	/* the context now changes what it made */
	EXPECT(config(c, STRING, "size", "2m", 0), 0);
	EXPECT(config(c, RECONFIGURE, 0, 0, 0), 0);
	struct statvfs v;
	EXPECT(statvfs(D "/a", &v), 0);
	SAME(v.f_blocks * v.f_frsize, 2 << 20);
	close(c);
	/* and so does one of fspick(2) */
	EXPECT(pick(AT_FDCWD, D "/b", 1), EINVAL);
	EXPECT(pick(AT_FDCWD, D "/a", 0x100), EINVAL);
	c = pick(AT_FDCWD, D "/a", 1);
	CHECK(c >= 0);
	EXPECT(config(c, CREATE, 0, 0, 0), EBUSY);
	EXPECT(config(c, FLAG, "ro", 0, 0), 0);
	EXPECT(config(c, RECONFIGURE, 0, 0, 0), 0);
	EXPECT(open(D "/a/new", O_CREAT | O_WRONLY, 0644), EROFS);
	EXPECT(config(c, FLAG, "rw", 0, 0), 0);
	EXPECT(config(c, RECONFIGURE, 0, 0, 0), 0);
	touch(D "/a/new");
	CHECK(there(D "/a/new"));
	close(c);
	EXPECT(umount2(D "/a", 0), 0);
}

/* Who works in a directory that is unmounted learns so. */
TEST(getcwd_unmounted)
{
	char b[100], old[200];
	NEED(getcwd(old, sizeof old));
	mkdir(D "/gone", 0755);
	EXPECT(mount("gone", D "/gone", "tmpfs", 0, 0), 0);
	EXPECT(mkdir(D "/gone/sub", 0755), 0);
	EXPECT(chdir(D "/gone/sub"), 0);
	EXPECT(umount2(D "/gone", MNT_DETACH), 0);
	EXPECT(syscall(SYS_getcwd, b, 1), ERANGE);
	SAME(syscall(SYS_getcwd, b, sizeof b), (long)sizeof "(unreachable)/sub");
	CHECK(strcmp(b, "(unreachable)/sub") == 0);
	EXPECT(chdir(".."), 0);
	SAME(syscall(SYS_getcwd, b, sizeof b), (long)sizeof "(unreachable)/");
	EXPECT(chdir(old), 0);
	rmdir(D "/gone");
}

TEST(unplaced)
{
	/* what nobody gave a place ends with its descriptor, and with the files that are open in it */
	int m = loose(0), f = openat(m, "x", O_CREAT | O_RDWR, 0644);
	CHECK(m >= 0 && f >= 0);
	close(m);
	SAME(write(f, "abc", 3), 3);
	close(f);
	/* a failed option is told of, at the latest when the file system is made */
	int c = fsopen_("tmpfs", 1);
	CHECK(config(c, STRING, "nosuchoption", "1", 0) || config(c, CREATE, 0, 0, 0));
	char b[200];
	CHECK(read(c, b, sizeof b) > 2 && b[0] == 'e');
	close(c);
	/* mounts that lie nowhere cannot be mounted on by mount(2) */
	m = loose(0);
	EXPECT(mkdirat(m, "sub", 0755), 0);
	char p[64];
	snprintf(p, sizeof p, "/proc/self/fd/%d/sub", m);
	EXPECT(mount("x", p, "tmpfs", 0, 0), EINVAL);
	snprintf(p, sizeof p, "/proc/self/fd/%d", m);
	EXPECT(umount2(p, 0), EINVAL);
	close(m);
	/* nor can what has no name, a pipe, be mounted on, or from */
	int fds[2];
	EXPECT(pipe(fds), 0);
	touch(D "/file");
	snprintf(p, sizeof p, "/proc/self/fd/%d", fds[0]);
	CHECK(mount(D "/file", p, 0, MS_BIND, 0) == -1);
	EXPECT(mount(p, D "/file", 0, MS_BIND, 0), EINVAL);
	EXPECT(tree(fds[0], "", 1 | AT_EMPTY_PATH), EINVAL);
	close(fds[0]), close(fds[1]);
	EXPECT(unlink(D "/file"), 0);
	pid_t pid = fork();
	if (pid == 0) {
		EXPECT(setresuid(1000, 1000, 1000), 0);
		EXPECT(fsopen_("tmpfs", 0), EPERM);
		EXPECT(pick(AT_FDCWD, D, 0), EPERM);
		EXPECT(tree(AT_FDCWD, D, 1), EPERM);
		EXPECT(move(AT_FDCWD, D "/a", AT_FDCWD, D "/b", 0), EPERM);
		EXPECT(setattr(AT_FDCWD, D, 0, (struct attr){.set = 1}), EPERM);
		EXPECT(syscall(SYS_pivot_root, D, D), EPERM);
		_exit(check_failures ? 1 : 0);
	}
	int s;
	waitpid(pid, &s, 0);
	SAME(s, 0);
}

TEST(trees)
{
	EXPECT(mkdir(D "/a/sub", 0755), 0);
	EXPECT(mount("s", D "/a/sub", "tmpfs", 0, 0), 0);
	touch(D "/a/sub/f");
	EXPECT(tree(AT_FDCWD, D "/a", AT_REC), EINVAL);
	EXPECT(tree(AT_FDCWD, D "/a", 1 << 20), EINVAL);
	EXPECT(tree(AT_FDCWD, D "/nowhere", 0), ENOENT);
	int fd = tree(AT_FDCWD, D "/a", O_CLOEXEC); /* as with O_PATH */
	CHECK(fd >= 0);
	SAME(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
	close(fd);
	int one = tree(AT_FDCWD, D "/a", 1), all = tree(AT_FDCWD, D "/a", 1 | AT_REC);
	CHECK(one >= 0 && all >= 0);
	SAME(faccessat(one, "sub/f", F_OK, 0), -1);
	SAME(faccessat(all, "sub/f", F_OK, 0), 0);
	EXPECT(setattr(all, "", AT_EMPTY_PATH | AT_REC, (struct attr){.set = 1}), 0);
	EXPECT(move(all, "", AT_FDCWD, D "/b", F_EMPTY), 0);
	CHECK(there(D "/b/sub/f"));
	EXPECT(open(D "/b/sub/g", O_CREAT | O_WRONLY, 0644), EROFS);
	touch(D "/a/sub/g");
	CHECK(there(D "/b/sub/g"));
	close(one), close(all);
	CHECK(there(D "/b/sub/f"));
	/* a mount that has a place moves */
	EXPECT(move(AT_FDCWD, D "/b/sub", AT_FDCWD, D "/c", 0), 0);
	CHECK(there(D "/c/f") && !there(D "/b/sub/f"));
	EXPECT(move(AT_FDCWD, D "/b", AT_FDCWD, D "/b", 0), ELOOP);
	EXPECT(move(AT_FDCWD, D "/d", AT_FDCWD, D "/e", 0), EINVAL); /* no mount */
	EXPECT(umount2(D "/c", 0), 0);
	EXPECT(umount2(D "/b", 0), 0);
	EXPECT(umount2(D "/a/sub", 0), 0);
}

TEST(attributes)
{
	EXPECT(mount("s", D "/a", "tmpfs", 0, 0), 0);
	EXPECT(setattr(AT_FDCWD, D "/a", 0, (struct attr){.set = 1 | 2 | 4 | 8}), 0);
	SAME(info(D "/a", "ro,nosuid,nodev,noexec,relatime"), 1);
	EXPECT(setattr(AT_FDCWD, D "/a", 0, (struct attr){.set = 0x10, .clear = 1 | 0x70}), 0);
	SAME(info(D "/a", "rw,nosuid,nodev,noexec,noatime"), 1);
	EXPECT(setattr(AT_FDCWD, D "/a", 0, (struct attr){.set = 0x20}), EINVAL); /* the old mode is not cleared */
	EXPECT(setattr(AT_FDCWD, D "/a", 0, (struct attr){.clear = 0x10}), EINVAL);
	EXPECT(setattr(AT_FDCWD, D "/a", 0, (struct attr){.set = 1ull << 40}), EINVAL);
	EXPECT(setattr(AT_FDCWD, D "/a", 0, (struct attr){.propagation = MS_SHARED | MS_SLAVE}), EINVAL);
	EXPECT(setattr(AT_FDCWD, D "/d", 0, (struct attr){.set = 1}), EINVAL); /* no mount */
	EXPECT(setattr(AT_FDCWD, D "/d", 0, (struct attr){0}), 0);
	EXPECT(setattr(AT_FDCWD, D "/a", 1, (struct attr){.set = 1}), EINVAL);
	struct attr a = {.set = 1};
	EXPECT(syscall(SYS_mount_setattr, AT_FDCWD, D "/a", 0, &a, 8), EINVAL);
	EXPECT(syscall(SYS_mount_setattr, AT_FDCWD, D "/a", 0, &a, 8192), E2BIG);
	EXPECT(syscall(SYS_mount_setattr, AT_FDCWD, D "/a", 0, (void *)8, sizeof a), EFAULT);
	EXPECT(umount2(D "/a", 0), 0);
}

/* umount2(2) with MNT_EXPIRE: only what nobody used since the call before. */
TEST(expire)
{
	struct stat st;
	int fd;
	mkdir(D "/expire", 0755);
	EXPECT(mount("x", D "/expire", "tmpfs", 0, 0), 0);
	mkdir(D "/expire/d", 0755);
	EXPECT(umount2(D "/expire", MNT_EXPIRE | MNT_DETACH), EINVAL);
	EXPECT(umount2(D "/expire", MNT_EXPIRE | MNT_FORCE), EINVAL);
	EXPECT(umount2(D "/expire/d", MNT_EXPIRE), EINVAL);
	fd = open(D "/expire", O_RDONLY);
	EXPECT(umount2(D "/expire", MNT_EXPIRE), EBUSY);
	close(fd);
	EXPECT(umount2(D "/expire", MNT_EXPIRE), EAGAIN);
	EXPECT(stat(D "/expire/d", &st), 0);
	EXPECT(umount2(D "/expire", MNT_EXPIRE), EAGAIN);
	touch(D "/expire/f");
	EXPECT(umount2(D "/expire", MNT_EXPIRE), EAGAIN);
	EXPECT(umount2(D "/expire", MNT_EXPIRE), 0);
	EXPECT(umount2(D "/expire", MNT_EXPIRE), EINVAL);
	EXPECT(rmdir(D "/expire"), 0);
}

TEST(shared)
{
	EXPECT(mount("s", D "/a", "tmpfs", 0, 0), 0);
	EXPECT(mkdir(D "/a/x", 0755), 0);
	EXPECT(mkdir(D "/a/y", 0755), 0);
	EXPECT(mount(0, D "/a", 0, MS_SHARED | MS_SLAVE, 0), EINVAL);
	EXPECT(mount(0, D "/d", 0, MS_SHARED, 0), EINVAL); /* no mount */
	EXPECT(mount(0, D "/a", 0, MS_SHARED, 0), 0);
	SAME(info(D "/a", " shared:"), 1);
	EXPECT(mount(D "/a", D "/b", 0, MS_BIND, 0), 0);
	SAME(info(D "/b", " shared:"), 1);
	EXPECT(mount(D "/a", D "/c", 0, MS_BIND, 0), 0);
	EXPECT(mount(0, D "/c", 0, MS_SLAVE, 0), 0);
	SAME(info(D "/c", " master:"), 1);
	SAME(info(D "/c", " shared:"), 0);
	/* what comes on one comes on its peer and its slave, and goes with it */
	EXPECT(mount("t", D "/b/x", "tmpfs", 0, 0), 0);
	touch(D "/b/x/f");
	CHECK(there(D "/a/x/f") && there(D "/b/x/f") && there(D "/c/x/f"));
	SAME(info(D "/a/x", " shared:"), 1);
	SAME(info(D "/c/x", " master:"), 1);
	EXPECT(mount(D "/b/x", D "/e", 0, MS_MOVE, 0), EINVAL); /* from a shared mount */
	EXPECT(umount2(D "/a/x", 0), 0);
	CHECK(!there(D "/a/x/f") && !there(D "/b/x/f") && !there(D "/c/x/f"));
	/* what comes on a slave stays there */
	EXPECT(mount("t", D "/c/x", "tmpfs", 0, 0), 0);
	touch(D "/c/x/f");
	CHECK(!there(D "/a/x/f") && there(D "/c/x/f"));
	EXPECT(umount2(D "/c/x", 0), 0);
	/* a slave that is shared hands on */
	EXPECT(mount(0, D "/c", 0, MS_SHARED, 0), 0);
	SAME(info(D "/c", " shared:"), 1);
	SAME(info(D "/c", " master:"), 1);
	EXPECT(mount(D "/c", D "/d", 0, MS_BIND, 0), 0);
	EXPECT(mount("t", D "/a/y", "tmpfs", 0, 0), 0);
	touch(D "/a/y/f");
	CHECK(there(D "/b/y/f") && there(D "/c/y/f") && there(D "/d/y/f"));
	EXPECT(umount2(D "/b/y", MNT_DETACH), 0);
	CHECK(!there(D "/a/y/f") && !there(D "/c/y/f") && !there(D "/d/y/f"));
	/* a private mount has no peers any more; an unbindable one is no source */
	EXPECT(mount(0, D "/b", 0, MS_PRIVATE, 0), 0);
	EXPECT(mount("t", D "/a/y", "tmpfs", 0, 0), 0);
	touch(D "/a/y/f");
	CHECK(!there(D "/b/y/f") && there(D "/d/y/f"));
	EXPECT(umount2(D "/a/y", 0), 0);
	EXPECT(mount(0, D "/b", 0, MS_UNBINDABLE, 0), 0);
	SAME(info(D "/b", " unbindable"), 1);
	EXPECT(mount(D "/b", D "/e", 0, MS_BIND, 0), EINVAL);
	/* a tree comes as a whole */
	EXPECT(mount("s", D "/e", "tmpfs", 0, 0), 0);
	EXPECT(mkdir(D "/e/in", 0755), 0);
	EXPECT(mount("t", D "/e/in", "tmpfs", 0, 0), 0);
	touch(D "/e/in/f");
	EXPECT(mount(D "/e", D "/a/x", 0, MS_BIND | MS_REC, 0), 0);
	CHECK(there(D "/a/x/in/f") && there(D "/c/x/in/f") && there(D "/d/x/in/f"));
	SAME(info(D "/a/x/in", 0), 1);
	EXPECT(umount2(D "/a/x", MNT_DETACH), 0);
	CHECK(!there(D "/c/x/in") && there(D "/e/in/f"));
	for (const char **p = (const char *[]){D "/e/in", D "/e", D "/d", D "/c", D "/b", D "/a", 0}; *p; p++)
		EXPECT(umount2(*p, 0), 0);
}

/* Recursive binds of what is shared do not mount themselves in themselves. */
TEST(shared_into_itself)
{
	EXPECT(mount("s", D "/a", "tmpfs", 0, 0), 0);
	EXPECT(mount(0, D "/a", 0, MS_SHARED, 0), 0);
	EXPECT(mkdir(D "/a/in", 0755), 0);
	EXPECT(mkdir(D "/a/sub", 0755), 0);
	EXPECT(mount("t", D "/a/sub", "tmpfs", 0, 0), 0);
	EXPECT(mount(D "/a", D "/a/in", 0, MS_BIND | MS_REC, 0), 0);
	SAME(info(D "/a/in", 0), 1);
	SAME(info(D "/a/sub", 0), 1);
	SAME(info(D "/a/in/sub", 0), 1);
	SAME(info(D "/a/in/in", 0), 0);
	EXPECT(umount2(D "/a", MNT_DETACH), 0);
	SAME(info(D "/a", 0), 0);
}

static void pivot(void)
{
	char b[100];
	EXPECT(mount("newroot", D "/root", "tmpfs", 0, 0), 0);
	EXPECT(mkdir(D "/root/old", 0755), 0);
	EXPECT(mkdir(D "/root/proc", 0755), 0);
	touch(D "/root/here");
	EXPECT(syscall(SYS_pivot_root, D "/d", D "/root/old"), EINVAL); /* no mount */
	EXPECT(syscall(SYS_pivot_root, D "/root", D "/d"), EINVAL);     /* not below */
	EXPECT(syscall(SYS_pivot_root, D "/root", D "/root/here"), ENOTDIR);
	EXPECT(chroot(D), 0);
	EXPECT(chdir("/"), 0);
	/* as container runtimes do it */
	EXPECT(chdir("/root"), 0);
	EXPECT(syscall(SYS_pivot_root, ".", "old"), 0);
	CHECK(there("/here") && there("/old/a"));
	SAME(!!getcwd(b, sizeof b), 1);
	SAME(strcmp(b, "/"), 0);
	EXPECT(umount2("/old", MNT_DETACH), 0);
	CHECK(!there("/old/a"));
	_exit(check_failures ? 1 : 0);
}

/* The caller's root must be a mount: D is. Both go back, as the child's namespace is the parent's where there is only one. */
TEST(pivot_root)
{
	int s, root = open("/", O_RDONLY | O_DIRECTORY), here = open(D, O_RDONLY | O_DIRECTORY);
	pid_t p = fork();
	if (p == 0) {
		check_failures = 0;
		fchdir(here);
		pivot();
	}
	waitpid(p, &s, 0);
	SAME(s, 0);
	close(here);
	EXPECT(fchdir(root), 0);
	close(root);
	SAME(info(D, " newroot "), 1); /* it took the place of D */
	EXPECT(umount2(D, MNT_DETACH), 0);
	EXPECT(rmdir(D), 0);
}
