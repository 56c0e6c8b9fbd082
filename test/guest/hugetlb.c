/*
 * hugetlb.c - the pool of large pages: vm.nr_hugepages, MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB, hugetlbfs.
 *
 * Each test sets the pool up for itself. Where that is not allowed, or somebody else uses the pool, there is
 * nothing to test and all pass.
 */
#include "check.h"
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HUGE (2ul << 20)
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB)
#define SHARED (MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB)
#define BAD ((char *)MAP_FAILED)

static long get(const char *path)
{
	char b[32] = "";
	int fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, b, sizeof b - 1) <= 0)
		b[0] = 0;
	close(fd);
	return b[0] ? strtol(b, 0, 10) : -1;
}

static int put(const char *path, long n)
{
	char b[32];
	int len = snprintf(b, sizeof b, "%ld\n", n), fd = open(path, O_WRONLY), ok;
	ok = write(fd, b, len) == len;
	close(fd);
	return ok;
}

/* field returns a number of /proc/self/FILE or /proc/meminfo. */
static long field(const char *file, const char *name)
{
	static char b[1 << 16];
	int fd = open(file, O_RDONLY);
	long n = 0, k;
	while ((k = read(fd, b + n, sizeof b - 1 - n)) > 0)
		n += k;
	close(fd);
	b[n] = 0;
	char *p = strstr(b, name);
	return p ? strtol(p + strlen(name) + 1, 0, 10) : -1;
}

#define TOTAL field("/proc/meminfo", "HugePages_Total")
#define FREE field("/proc/meminfo", "HugePages_Free")
#define RSVD field("/proc/meminfo", "HugePages_Rsvd")
#define SURP field("/proc/meminfo", "HugePages_Surp")
#define NR "/proc/sys/vm/nr_hugepages"
#define OVER "/proc/sys/vm/nr_overcommit_hugepages"
#define SYSFS "/sys/kernel/mm/hugepages/hugepages-2048kB/"

/* pool makes n pages, and reports whether it could. */
static int usable = -1;

static void restore(void)
{
	put(OVER, 0);
	put(NR, 0);
}

static int pool(long n)
{
	if (usable < 0) {
		usable = TOTAL == 0 && get(OVER) == 0 && put(NR, 8) && TOTAL == 8;
		if (usable)
			atexit(restore);
	}
	if (!usable)
		return 0;
	put(OVER, 0);
	put(NR, n);
	return TOTAL == n;
}

TEST(counters)
{
	if (!pool(4))
		return;
	SAME(get(NR), 4);
	SAME(get(SYSFS "nr_hugepages"), 4);
	SAME(get(SYSFS "free_hugepages"), 4);
	SAME(field("/proc/meminfo", "Hugepagesize"), 2048);
	SAME(field("/proc/meminfo", "Hugetlb"), 4 * 2048);
	CHECK(put(SYSFS "nr_hugepages", 3));
	SAME(get(NR), 3);
	SAME(FREE, 3);
	CHECK(put(NR, 0));
	SAME(FREE, 0);
	CHECK(!put("/proc/sys/vm/nr_hugepages", -1) || get(NR) >= 0);
	put(NR, 0);
}

TEST(private)
{
	if (!pool(4))
		return;
	char *p = mmap(0, 3 * HUGE, RW, ANON, -1, 0);
	NEED(p != BAD);
	SAME((u64)p % HUGE, 0);
	SAME(FREE, 4);
	SAME(RSVD, 3);
	EXPECT(mmap(0, 2 * HUGE, RW, ANON, -1, 0), ENOMEM);
	p[HUGE + 5] = 7;
	SAME(p[HUGE + 6], 0);
	SAME(FREE, 3);
	SAME(RSVD, 2);
	SAME(p[0], 0);	/* a read takes a page too */
	SAME(FREE, 2);
	SAME(RSVD, 1);
	SAME(field("/proc/self/status", "HugetlbPages"), 2 * 2048);
	unsigned char vec[512];
	CHECK(mincore(p, HUGE, vec) == 0 && vec[0] & 1 && vec[511] & 1);
	SAME(munmap(p + HUGE, HUGE), 0);
	SAME(FREE, 3);
	SAME(RSVD, 1);
	SAME(munmap(p, 3 * HUGE), 0);
	SAME(FREE, 4);
	SAME(RSVD, 0);
}

TEST(sizes)
{
	if (!pool(2))
		return;
	char *p = mmap(0, 100, RW, ANON | 21 << 26, -1, 0);	/* rounded up */
	NEED(p != BAD);
	p[HUGE - 1] = 1;
	EXPECT(munmap(p, 4096), EINVAL);
	EXPECT(munmap(p + 4096, HUGE - 4096), EINVAL);
	SAME(p[HUGE - 1], 1);
	EXPECT(mprotect(p + 4096, 4096, PROT_READ), EINVAL);
	EXPECT(madvise(p + 4096, HUGE - 4096, MADV_DONTNEED), EINVAL);
	EXPECT(madvise(p, HUGE, MADV_FREE), EINVAL);
	SAME(p[HUGE - 1], 1);
	SAME(madvise(p, HUGE, MADV_DONTNEED), 0);
	SAME(p[HUGE - 1], 0);
	SAME(munmap(p, HUGE), 0);
	EXPECT(mmap(0, 0, RW, ANON, -1, 0), EINVAL);
	EXPECT(mmap(0, HUGE, RW, ANON | 20 << 26, -1, 0), EINVAL);
	p = mmap(0, 4 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != BAD);
	EXPECT(mmap((char *)(((u64)p + HUGE - 1) & -HUGE) + 4096, HUGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
	SAME(munmap(p, 4 * HUGE), 0);
	int fd = open("/proc/self/exe", O_RDONLY);
	EXPECT(mmap(0, HUGE, PROT_READ, MAP_PRIVATE | MAP_HUGETLB, fd, 0), EINVAL);
	close(fd);
	SAME(RSVD, 0);
}

TEST(protection)
{
	if (!pool(2))
		return;
	char *p = mmap(0, 2 * HUGE, RW, ANON, -1, 0);
	NEED(p != BAD);
	p[HUGE] = 1;
	SAME(mprotect(p + HUGE, HUGE, PROT_READ), 0);
	SAME(p[HUGE], 1);
	TRAPS(p[HUGE] = 2, SIGSEGV, SEGV_ACCERR);
	SAME(mprotect(p, 2 * HUGE, PROT_NONE), 0);
	TRAPS((void)*(volatile char *)(p + HUGE), SIGSEGV, SEGV_ACCERR);
	SAME(mprotect(p, 2 * HUGE, RW), 0);
	p[HUGE]++;
	SAME(p[HUGE], 2);
	SAME(mlock(p, 2 * HUGE), 0);
	SAME(munmap(p, 2 * HUGE), 0);
}

TEST(no_reserve)
{
	if (!pool(1))
		return;
	char *p = mmap(0, 4 * HUGE, RW, ANON | MAP_NORESERVE, -1, 0);
	NEED(p != BAD);
	SAME(RSVD, 0);
	p[0] = 1;
	TRAPS(p[HUGE] = 1, SIGBUS, BUS_ADRERR);
	char b = 1;
	int fd[2];
	NEED(pipe(fd) == 0 && write(fd[1], &b, 1) == 1);
	EXPECT(read(fd[0], p + 2 * HUGE, 1), EFAULT);
	close(fd[0]);
	close(fd[1]);
	SAME(munmap(p, 4 * HUGE), 0);
	SAME(FREE, 1);
}

TEST(overcommit)
{
	if (!pool(1))
		return;
	CHECK(put(OVER, 2));
	char *p = mmap(0, 3 * HUGE, RW, ANON, -1, 0);
	NEED(p != BAD);
	SAME(TOTAL, 3);
	SAME(SURP, 2);
	EXPECT(mmap(0, HUGE, RW, ANON, -1, 0), ENOMEM);
	memset(p, 1, 3 * HUGE);
	SAME(FREE, 0);
	SAME(munmap(p, 3 * HUGE), 0);
	SAME(TOTAL, 1);
	SAME(SURP, 0);
	/* A pool that gets smaller keeps what is in use, as surplus. */
	put(OVER, 0);
	p = mmap(0, HUGE, RW, ANON, -1, 0);
	NEED(p != BAD);
	p[0] = 1;
	put(NR, 0);
	SAME(TOTAL, 1);
	SAME(SURP, 1);
	munmap(p, HUGE);
	SAME(TOTAL, 0);
	SAME(SURP, 0);
}

static int child(void (*f)(char *), char *p)
{
	int status;
	int before = check_failures;
	pid_t pid = fork();
	if (!pid) {
		f(p);
		_exit(check_failures != before);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void copies(char *p)
{
	SAME(p[9], 5);
	p[9] = 6;
	SAME(p[9], 6);
	SAME(p[HUGE - 1], 3);
	SAME(FREE, 0);
}

static void starves(char *p)
{
	TRAPS(p[9] = 6, SIGBUS, BUS_ADRERR);
	SAME(p[9], 5);
}

static int to_child[2], to_parent[2];

static void loses(char *p)
{
	char b;
	SAME(p[9], 5);
	CHECK(write(to_parent[1], "x", 1) == 1 && read(to_child[0], &b, 1) == 1);
	TRAPS((void)*(volatile char *)(p + 9), SIGBUS, BUS_ADRERR);
}

TEST(fork)
{
	if (!pool(2))
		return;
	char *p = mmap(0, HUGE, RW, ANON, -1, 0);
	NEED(p != BAD);
	p[9] = 5;
	p[HUGE - 1] = 3;
	SAME(child(copies, p), 0);
	SAME(p[9], 5);
	SAME(FREE, 1);
	p[10] = 1;
	put(NR, 1);
	SAME(child(starves, p), 0);
	p[10] = 2;
	/* The owner must copy and cannot: its child loses the page. */
	int status;
	char b;
	int before = check_failures;
	NEED(pipe(to_child) == 0 && pipe(to_parent) == 0);
	pid_t pid = fork();
	if (!pid) {
		loses(p);
		_exit(check_failures != before);
	}
	CHECK(read(to_parent[0], &b, 1) == 1);
	SAME(TRAP(p[9] = 7), 0);
	CHECK(write(to_child[1], "x", 1) == 1);
	waitpid(pid, &status, 0);
	SAME(status, 0);
	SAME(p[9], 7);
	SAME(p[HUGE - 1], 3);
	SAME(munmap(p, HUGE), 0);
	SAME(FREE, 1);
}

static void writes(char *p)
{
	p[1] = 8;
	p[HUGE + 1] = 9;
}

TEST(shared)
{
	if (!pool(2))
		return;
	char *p = mmap(0, 2 * HUGE, RW, SHARED, -1, 0);
	NEED(p != BAD);
	SAME(RSVD, 2);
	p[0] = 1;
	SAME(child(writes, p), 0);
	SAME(p[1], 8);
	SAME(p[HUGE + 1], 9);
	SAME(FREE, 0);
	SAME(munmap(p, HUGE), 0);
	SAME(FREE, 0);	/* the memory is there until the last mapping goes */
	SAME(munmap(p + HUGE, HUGE), 0);
	SAME(FREE, 2);
}

TEST(remap)
{
	if (!pool(3))
		return;
	char *p = mmap(0, 3 * HUGE, RW, ANON, -1, 0);
	char *to = mmap(0, 8 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != BAD && to != BAD);
	munmap(to, 8 * HUGE);
	to = (char *)(((u64)to + HUGE - 1) & -HUGE);
	p[0] = 1;
	p[HUGE] = 2;
	EXPECT(mremap(p, 2 * HUGE, 3 * HUGE, MREMAP_MAYMOVE), EINVAL);
	EXPECT(mremap(p + 4096, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), EINVAL);
	EXPECT(mremap(p, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 4096), EINVAL);
	CHECK(mremap(p, 3 * HUGE, 3 * HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	SAME(to[0], 1);
	SAME(to[HUGE], 2);
	SAME(RSVD, 1);
	to[2 * HUGE] = 3;
	SAME(FREE, 0);
	SAME(RSVD, 0);
	CHECK(mremap(to, 3 * HUGE, HUGE, 0) == to);
	SAME(FREE, 2);
	SAME(to[0], 1);
	SAME(munmap(to, HUGE), 0);
	SAME(FREE, 3);
}

TEST(memfd)
{
	if (!pool(3))
		return;
	int fd = memfd_create("big", MFD_HUGETLB | MFD_HUGE_2MB | MFD_CLOEXEC);
	NEED(fd >= 0);
	struct stat st;
	EXPECT(ftruncate(fd, 4096), EINVAL);
	SAME(ftruncate(fd, 2 * HUGE), 0);
	SAME(fstat(fd, &st), 0);
	SAME(st.st_size, 2 * HUGE);
	EXPECT(write(fd, "x", 1), EINVAL);
	EXPECT(mmap(0, HUGE, RW, MAP_SHARED, fd, 4096), EINVAL);
	char *p = mmap(0, 2 * HUGE, RW, MAP_SHARED, fd, 0), b[4] = "";
	NEED(p != BAD);
	SAME(RSVD, 2);
	strcpy(p + HUGE, "abc");
	SAME(pread(fd, b, 4, HUGE), 4);
	SAME(strcmp(b, "abc"), 0);
	SAME(pread(fd, b, 4, 0), 4);	/* a hole */
	SAME(b[0], 0);
	/* A private mapping sees the file's page until it writes. */
	char *q = mmap(0, HUGE, RW, MAP_PRIVATE, fd, HUGE);
	NEED(q != BAD);
	SAME(q[0], 'a');
	q[0] = 'z';
	SAME(p[HUGE], 'a');
	SAME(q[1], 'b');
	SAME(FREE, 1);
	SAME(munmap(q, HUGE), 0);
	SAME(FREE, 2);
	SAME(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, HUGE), 0);
	SAME(FREE, 3);
	SAME(p[HUGE], 0);
	SAME(ftruncate(fd, HUGE), 0);
	TRAPS((void)*(volatile char *)(p + HUGE), SIGBUS, BUS_ADRERR);
	SAME(fallocate(fd, 0, 0, HUGE), 0);
	SAME(FREE, 2);
	munmap(p, 2 * HUGE);
	close(fd);
	SAME(FREE, 3);
	SAME(RSVD, 0);
	EXPECT(memfd_create("odd", MFD_HUGETLB | 20 << 26), ENODEV);
}

TEST(sysv)
{
	if (!pool(2))
		return;
	int id = shmget(IPC_PRIVATE, HUGE + 1, SHM_HUGETLB | IPC_CREAT | 0600);
	NEED(id >= 0);
	SAME(RSVD, 2);
	EXPECT(shmget(IPC_PRIVATE, HUGE, SHM_HUGETLB | IPC_CREAT | 0600), ENOMEM);
	char *p = shmat(id, 0, 0);
	NEED(p != BAD);
	SAME((u64)p % HUGE, 0);
	p[2 * HUGE - 1] = 4;
	SAME(FREE, 1);
	SAME(shmctl(id, IPC_RMID, 0), 0);
	SAME(p[2 * HUGE - 1], 4);
	SAME(shmdt(p), 0);
	SAME(FREE, 2);
	SAME(RSVD, 0);
}

TEST(hugetlbfs)
{
	char dir[] = "/tmp/hugetlb.XXXXXX", name[64];
	if (!pool(3) || !mkdtemp(dir))
		return;
	if (mount("none", dir, "hugetlbfs", 0, "pagesize=2M,size=4M,mode=0700") < 0) {
		CHECK(errno == EPERM);
		rmdir(dir);
		return;
	}
	struct statfs sf;
	SAME(statfs(dir, &sf), 0);
	SAME(sf.f_type, 0x958458f6);
	SAME(sf.f_bsize, HUGE);
	SAME(sf.f_blocks, 2);
	snprintf(name, sizeof name, "%s/f", dir);
	int fd = open(name, O_RDWR | O_CREAT, 0600);
	NEED(fd >= 0);
	char *p = mmap(0, 2 * HUGE, RW, MAP_SHARED, fd, 0);	/* which makes the file longer */
	NEED(p != BAD);
	struct stat st;
	SAME(fstat(fd, &st), 0);
	SAME(st.st_size, 2 * HUGE);
	SAME(st.st_blksize, HUGE);
	memset(p, 3, 2 * HUGE);
	SAME(FREE, 1);
	EXPECT(mmap(0, HUGE, RW, MAP_SHARED, fd, 2 * HUGE), ENOMEM);	/* size=4M */
	SAME(munmap(p, 2 * HUGE), 0);
	SAME(FREE, 1);
	p = mmap(0, HUGE, PROT_READ, MAP_SHARED, fd, HUGE);
	NEED(p != BAD);
	SAME(p[77], 3);
	munmap(p, HUGE);
	SAME(unlink(name), 0);
	SAME(FREE, 1);
	close(fd);
	SAME(FREE, 3);
	SAME(umount(dir), 0);
	EXPECT(mount("none", dir, "hugetlbfs", 0, "pagesize=3M"), EINVAL);
	EXPECT(mount("none", dir, "hugetlbfs", 0, "colour=red"), EINVAL);
	rmdir(dir);
}

TEST(others)
{
	/* Other processes and system calls reach the pages. */
	if (!pool(2))
		return;
	char *p = mmap(0, HUGE, RW, ANON, -1, 0), b[8] = "";
	NEED(p != BAD);
	int fd[2], mem = open("/proc/self/mem", O_RDWR);
	NEED(pipe(fd) == 0 && write(fd[1], "pipe", 4) == 4);
	SAME(read(fd[0], p + 4094, 4), 4);
	SAME(pread(mem, b, 4, (off_t)(u64)p + 4094), 4);
	SAME(memcmp(b, "pipe", 4), 0);
	SAME(pwrite(mem, "mem", 3, (off_t)(u64)p + HUGE - 3), 3);
	SAME(p[HUGE - 1], 'm');
	close(mem);
	close(fd[0]);
	close(fd[1]);
	munmap(p, HUGE);
	SAME(FREE, 2);
}
