/* blkcalls.c - FITRIM, BLKROSET and the alignment that statx(2) tells of, on the disk /dev/vda with an ext4 of 64 MiB. As root. */
#include "check.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#define DISK "/dev/vda"
#define M "/m"
#define DIOALIGN 0x2000

struct align { u32 mask, memory, offset; };

static struct align align(const char *name, unsigned want)
{
	u32 x[64] = {0};
	struct align a = {0};
	if (syscall(SYS_statx, AT_FDCWD, name, 0, want, x))
		FAIL("statx %s: errno %d", name, errno);
	a.mask = x[0], a.memory = x[38], a.offset = x[39];
	return a;
}

static void on(void)
{
	mkdir(M, 0755);
	EXPECT(mount(DISK, M, "ext4", 0, 0), 0);
}

static void off(void) { EXPECT(umount(M), 0); }

static int power(u32 v) { return v && !(v & (v - 1)); }

TEST(direct_alignment)
{
	int fd, size;
	struct align a;
	fd = open(DISK, O_RDONLY);
	NEED(fd >= 0);
	EXPECT(ioctl(fd, BLKSSZGET, &size), 0);
	close(fd);
	a = align(DISK, DIOALIGN);
	CHECK(a.mask & DIOALIGN);
	CHECK(power(a.memory));
	SAME(a.offset, size);
	a = align(DISK, STATX_BASIC_STATS);
	CHECK(!(a.mask & DIOALIGN) && !a.memory && !a.offset);
	on();
	close(open(M "/file", O_CREAT | O_WRONLY, 0644));
	a = align(M "/file", DIOALIGN);
	CHECK(a.mask & DIOALIGN);
	CHECK(power(a.memory));
	SAME(a.offset, size);
	CHECK(!(align(M, DIOALIGN).mask & DIOALIGN));
	CHECK(!(align("/", DIOALIGN).mask & DIOALIGN));
	EXPECT(unlink(M "/file"), 0);
	off();
}

TEST(read_only)
{
	static char b[4096];
	u64 range[2] = {0, 4096};
	int yes = 1, no = 0, is = -1, old, fd = open(DISK, O_RDWR);
	NEED(fd >= 0);
	SAME(pread(fd, b, 512, 0), 512);
	EXPECT(ioctl(fd, BLKROGET, &is), 0);
	SAME(is, 0);
	EXPECT(ioctl(fd, BLKROSET, 0), EFAULT);
	EXPECT(seteuid(1), 0);
	EXPECT(ioctl(fd, BLKROSET, &yes), EACCES);
	EXPECT(seteuid(0), 0);
	EXPECT(ioctl(fd, BLKROSET, &yes), 0);
	EXPECT(ioctl(fd, BLKROGET, &is), 0);
	SAME(is, 1);
	EXPECT(pwrite(fd, b, 512, 0), EPERM);
	EXPECT(ioctl(fd, BLKDISCARD, range), EPERM);
	EXPECT(ioctl(fd, BLKZEROOUT, range), EPERM);
	EXPECT(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096), EPERM);
	old = fd;
	fd = open(DISK, O_RDWR);
	CHECK(fd >= 0);
	EXPECT(pwrite(fd, b, 512, 0), EPERM);
	mkdir(M, 0755);
	EXPECT(mount(DISK, M, "ext4", 0, 0), EACCES);
	EXPECT(mount(DISK, M, "ext4", MS_RDONLY, 0), 0);
	EXPECT(mount(0, M, 0, MS_REMOUNT, 0), EACCES);
	EXPECT(ioctl(fd, BLKROSET, &no), 0);
	EXPECT(mount(0, M, 0, MS_REMOUNT, 0), 0);
	/* What is mounted already goes on writing. */
	EXPECT(ioctl(fd, BLKROSET, &yes), 0);
	close(open(M "/written", O_CREAT | O_WRONLY, 0644));
	EXPECT(access(M "/written", F_OK), 0);
	off();
	EXPECT(ioctl(fd, BLKROSET, &no), 0);
	on();
	EXPECT(unlink(M "/written"), 0);
	off();
	close(fd);
	close(old);
}

static long trim(int fd, u64 start, u64 len, u64 least)
{
	struct fstrim_range r = {start, len, least};
	return ioctl(fd, FITRIM, &r) ? -1 : (long)r.len;
}

TEST(trim)
{
	static char b[1 << 20];
	struct statfs s;
	long n, block, all;
	int dir, fd;
	on();
	dir = open(M, O_RDONLY | O_DIRECTORY);
	NEED(dir >= 0);
	EXPECT(statfs(M, &s), 0);
	block = s.f_bsize;
	EXPECT(seteuid(1), 0);
	EXPECT(trim(dir, 0, -1, 0), EPERM);
	EXPECT(seteuid(0), 0);
	EXPECT(ioctl(dir, FITRIM, 0), EFAULT);
	EXPECT(trim(dir, 0, -1, 1 << 30), EINVAL);
	EXPECT(trim(dir, 1 << 30, -1, 0), EINVAL);
	EXPECT(trim(dir, 0, block - 1, 0), EINVAL);
	SAME(trim(dir, 0, block, 0), 0); /* the superblock is there */
	n = trim(dir, 20 << 20, 1 << 20, 0);
	CHECK(n > 0 && n <= 8 << 20); /* Linux goes on to the end of what begins in the range */
	all = trim(dir, 0, -1, 0);
	/* Nearly all that is free, and no more. */
	CHECK(all <= (long)s.f_bfree * block && all >= (long)s.f_bfree * block * 9 / 10);
	SAME(trim(dir, 0, -1, 0), 0); /* nothing became free since */
	fd = open(M "/file", O_CREAT | O_RDWR, 0644);
	memset(b, 7, sizeof b);
	for (int i = 0; i < 8; i++)
		SAME(write(fd, b, sizeof b), (long)sizeof b);
	EXPECT(fsync(fd), 0);
	SAME(trim(fd, 0, -1, 0), 0);
	for (int i = 0; i < 8; i++) {
		SAME(pread(fd, b, sizeof b, (long)i << 20), (long)sizeof b);
		CHECK(b[0] == 7 && b[sizeof b - 1] == 7);
	}
	EXPECT(unlink(M "/file"), 0);
	close(fd);
	sync();
	n = trim(dir, 0, -1, 6 << 20); /* few groups have so much in a row */
	CHECK(n == 0 || n >= 6 << 20);
	n = trim(dir, 0, -1, 0);
	CHECK(n >= 8 << 20);
	close(dir);
	off();
	dir = open("/tmp", O_RDONLY | O_DIRECTORY);
	EXPECT(trim(dir, 0, -1, 0), ENOTTY);
	close(dir);
}
