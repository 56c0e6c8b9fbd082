/* mmap.c - mmap(2), munmap, mprotect, mremap, madvise, brk, private and shared file mappings. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGE 4096ul
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static char *map(size_t n, int prot)
{
	char *p = mmap(0, n, prot, ANON, -1, 0);
	if (p == MAP_FAILED)
		FAIL("mmap of %zu", n);
	return p;
}

/* mapped says whether the page is mapped at all, without touching it. */
static int mapped(void *p)
{
	return madvise(p, PAGE, MADV_NORMAL) == 0;
}

/* readable says whether the kernel may read the byte for us. */
static int readable(const void *p)
{
	int fd = open("/dev/random", O_WRONLY);
	long n = write(fd, p, 1);
	close(fd);
	return n == 1;
}

/* Page tables of what was unmapped go too: here they would need more than the memory of a small machine. */
TEST(page_tables)
{
	char *base = (char *)(1ul << 40), *keep = 0;
	for (unsigned long i = 0; i < 40000; i++) {
		char *p = mmap(base + i * (2ul << 20), PAGE, RW, ANON | MAP_FIXED, -1, 0);
		if (p == MAP_FAILED) {
			FAIL("mmap %lu", i);
			return;
		}
		*p = 5;
		if (i == 300)
			keep = p;
		else
			munmap(p, PAGE);
	}
	SAME(*keep, 5);
	munmap(keep, PAGE);
}

TEST(anonymous_is_zero)
{
	size_t n = 4 << 20;
	char *p = map(n, RW);
	for (size_t i = 0; i < n; i += 512)
		if (p[i]) {
			FAIL("byte %zu is %d", i, p[i]);
			break;
		}
	memset(p, 0xa5, n);
	munmap(p, n);
	/* Freed memory comes back zeroed. */
	p = map(n, RW);
	u64 sum = 0;
	for (size_t i = 0; i < n; i += 8)
		sum |= *(u64 *)(p + i);
	SAME(sum, 0);
	munmap(p, n);
}

TEST(errors)
{
	char *p = map(4 * PAGE, RW);
	EXPECT(mmap(0, 0, RW, ANON, -1, 0), EINVAL);
	EXPECT(mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
	EXPECT(mmap(p + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
	EXPECT(mmap(0, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
	EXPECT(mmap(0, PAGE, RW, MAP_PRIVATE, 99, 0), EBADF);
	EXPECT(syscall(SYS_mmap, 0, PAGE, RW, ANON, -1, 1), EINVAL);
	EXPECT(mmap((void *)0x7ffffffff000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	EXPECT(mmap((void *)0xffff800000000000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	EXPECT(mmap(0, 1ul << 47, RW, ANON, -1, 0), ENOMEM);
	EXPECT(mmap(0, ~0ul, RW, ANON, -1, 0), ENOMEM);
	EXPECT(munmap(p + 1, PAGE), EINVAL);
	EXPECT(munmap(p, 0), EINVAL);
	EXPECT(munmap((void *)0x7ffffffff000, 2 * PAGE), EINVAL);
	EXPECT(syscall(SYS_mprotect, p + 1, PAGE, PROT_READ), EINVAL);	/* musl's mprotect rounds */
	EXPECT(mprotect(p, PAGE, 0x1000), EINVAL);
	EXPECT(mprotect(p, 0, PROT_READ), 0);
	EXPECT(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
	EXPECT(madvise(p, PAGE, 9999), EINVAL);
	munmap(p + PAGE, PAGE);
	EXPECT(mprotect(p, 3 * PAGE, PROT_READ), ENOMEM);
	EXPECT(madvise(p, 3 * PAGE, MADV_DONTNEED), ENOMEM);
	EXPECT(msync(p, 3 * PAGE, MS_SYNC), ENOMEM);
	/* Unmapping what is not mapped is no error. */
	EXPECT(munmap(p, 4 * PAGE), 0);
	EXPECT(munmap(p, 4 * PAGE), 0);
}

/* To map a file is to read it, as far as its times go: where reading changes them, as it does not on every file system. */
TEST(access_time)
{
	struct stat st;
	struct timespec long_ago[2] = {{1000, 0}, {2000, 0}};
	char name[] = "/tmp/mmap.XXXXXX", b;
	int fd = mkstemp(name);
	NEED(fd >= 0 && unlink(name) == 0 && ftruncate(fd, PAGE) == 0);
	NEED(futimens(fd, long_ago) == 0 && read(fd, &b, 1) == 1 && fstat(fd, &st) == 0);
	int changes = st.st_atime > 2000;
	NEED(futimens(fd, long_ago) == 0);
	char *p = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED && fstat(fd, &st) == 0);
	SAME(st.st_atime > 2000, changes);
	NEED(munmap(p, PAGE) == 0 && futimens(fd, long_ago) == 0 && fcntl(fd, F_SETFL, O_NOATIME) == 0);
	p = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED && fstat(fd, &st) == 0);
	SAME(st.st_atime, 1000);
	close(fd);
}

TEST(munmap_makes_holes)
{
	char *p = map(10 * PAGE, RW);
	for (int i = 0; i < 10; i++)
		p[i * PAGE] = (char)(i + 1);
	munmap(p + 3 * PAGE, 2 * PAGE);
	munmap(p + 7 * PAGE, PAGE - 1);
	for (int i = 0; i < 10; i++) {
		int hole = i == 3 || i == 4 || i == 7;
		SAME(mapped(p + i * PAGE), !hole);
		if (hole)
			TRAPS((void)*(volatile char *)(p + i * PAGE), SIGSEGV, SEGV_MAPERR);
		else
			SAME(p[i * PAGE], i + 1);
	}
	munmap(p, 10 * PAGE);
}

TEST(fixed_replaces)
{
	char *p = map(5 * PAGE, RW);
	memset(p, 'a', 5 * PAGE);
	NEED(mmap(p + PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0) == p + PAGE);
	SAME(p[0], 'a');
	SAME(p[PAGE], 0);
	SAME(p[3 * PAGE - 1], 0);
	SAME(p[3 * PAGE], 'a');
	munmap(p, 5 * PAGE);
}

TEST(fixed_noreplace)
{
	char *p = map(3 * PAGE, RW);
	EXPECT(mmap(p + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
	munmap(p + PAGE, PAGE);
	CHECK(mmap(p + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == p + PAGE);
	munmap(p, 3 * PAGE);
}

TEST(hint)
{
	char *p = map(16 * PAGE, RW);
	munmap(p, 16 * PAGE);
	char *q = mmap(p + 4 * PAGE, PAGE, RW, ANON, -1, 0);
	CHECK(q == p + 4 * PAGE);
	/* A hint that is taken gives another place. */
	char *r = mmap(q, PAGE, RW, ANON, -1, 0);
	CHECK(r != q && r != MAP_FAILED);
	munmap(q, PAGE);
	munmap(r, PAGE);
	r = mmap(0, PAGE, RW, ANON | MAP_32BIT, -1, 0);
	CHECK(r != MAP_FAILED && (u64)r < 1ul << 31);
	munmap(r, PAGE);
}

TEST(mprotect_splits_and_merges)
{
	char *p = map(9 * PAGE, RW);
	memset(p, 1, 9 * PAGE);
	for (int i = 0; i < 9; i += 2)
		mprotect(p + i * PAGE, PAGE, PROT_READ);
	for (int i = 0; i < 9; i++) {
		if (i % 2 == 0)
			TRAPS(*(volatile char *)(p + i * PAGE) = 2, SIGSEGV, SEGV_ACCERR);
		else
			TRAPS(*(volatile char *)(p + i * PAGE) = 2, 0, 0);
	}
	mprotect(p, 9 * PAGE, RW);
	for (int i = 0; i < 9; i++)
		SAME(p[i * PAGE], i % 2 ? 2 : 1);
	memset(p, 3, 9 * PAGE);
	mprotect(p + 2 * PAGE, 3 * PAGE, PROT_NONE);
	TRAPS((void)*(volatile char *)(p + 4 * PAGE), SIGSEGV, SEGV_ACCERR);
	CHECK(!readable(p + 4 * PAGE));
	mprotect(p + 2 * PAGE, 3 * PAGE, PROT_READ);
	SAME(p[4 * PAGE], 3);
	CHECK(readable(p + 4 * PAGE));
	munmap(p, 9 * PAGE);
}

TEST(prot_write_implies_read_on_x86)
{
	char *p = map(PAGE, PROT_WRITE);
	TRAPS(p[5] = 7, 0, 0);
	TRAPS((void)*(volatile char *)(p + 5), 0, 0);
	munmap(p, PAGE);
}

TEST(many_areas)
{
	enum { N = 2000 };
	char *p = map(2 * N * PAGE, PROT_NONE);
	for (int i = 0; i < N; i++)
		if (mprotect(p + 2 * i * PAGE, PAGE, RW)) {
			FAIL("mprotect %d: errno %d", i, errno);
			break;
		}
	for (int i = 0; i < N; i++)
		*(int *)(p + 2 * i * PAGE) = i;
	for (int i = 0; i < N; i++)
		if (*(int *)(p + 2 * i * PAGE) != i)
			FAIL("page %d", i);
	for (int i = 0; i < N; i += 2)
		munmap(p + 2 * i * PAGE, PAGE);
	for (int i = 1; i < N; i += 2)
		if (*(int *)(p + 2 * i * PAGE) != i)
			FAIL("page %d", i);
	munmap(p, 2 * N * PAGE);
	CHECK(!mapped(p + 2 * PAGE));
}

TEST(mremap_grow_shrink_move)
{
	char *p = map(8 * PAGE, RW);
	for (int i = 0; i < 8; i++)
		p[i * PAGE] = (char)(i + 1);
	/* Shrink in place. */
	CHECK(mremap(p, 8 * PAGE, 4 * PAGE, 0) == p);
	CHECK(!mapped(p + 4 * PAGE));
	/* Grow in place into the hole. */
	CHECK(mremap(p, 4 * PAGE, 6 * PAGE, 0) == p);
	SAME(p[3 * PAGE], 4);
	SAME(p[5 * PAGE], 0);
	/* Blocked: must move. */
	char *wall = mmap(p + 6 * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	NEED(wall == p + 6 * PAGE);
	EXPECT(mremap(p, 6 * PAGE, 9 * PAGE, 0), ENOMEM);
	char *q = mremap(p, 6 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
	NEED(q != MAP_FAILED);
	CHECK(q != p);
	CHECK(!mapped(p));
	for (int i = 0; i < 4; i++)
		SAME(q[i * PAGE], i + 1);
	SAME(q[99 * PAGE], 0);
	/* To a fixed place. */
	char *at = map(100 * PAGE, RW);
	memset(at, 'z', 100 * PAGE);
	char *r = mremap(q, 100 * PAGE, 50 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at);
	CHECK(r == at);
	SAME(r[2 * PAGE], 3);
	SAME(r[30 * PAGE], 0);
	SAME(at[60 * PAGE], 'z');
	CHECK(!mapped(q));
	EXPECT(mremap(at + 1, PAGE, PAGE, 0), EINVAL);
	EXPECT(mremap(at, PAGE, 0, 0), EINVAL);
	EXPECT(mremap(at, PAGE, PAGE, 0x80), EINVAL);
	EXPECT(mremap(at, PAGE, PAGE, MREMAP_FIXED, q), EINVAL);
	EXPECT(mremap(at, 10 * PAGE, 10 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE), EINVAL);
	munmap(at, 100 * PAGE);
	/* Shared memory to its own place: it goes before it is to be mapped. */
	char *shared = mmap(0, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(mremap(shared, 0, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, shared), EFAULT);
	CHECK(!mapped(shared) && mapped(shared + 2 * PAGE));
	munmap(shared, 4 * PAGE);
	munmap(wall, PAGE);
	EXPECT(mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
}

TEST(madvise_dontneed_zeroes)
{
	char *p = map(8 * PAGE, RW);
	memset(p, 5, 8 * PAGE);
	CHECK(madvise(p + 2 * PAGE, 3 * PAGE, MADV_DONTNEED) == 0);
	for (int i = 0; i < 8; i++)
		SAME(p[i * PAGE + 9], i >= 2 && i < 5 ? 0 : 5);
	CHECK(madvise(p, 8 * PAGE, MADV_FREE) == 0);
	memset(p, 6, 8 * PAGE);
	SAME(p[PAGE], 6);
	CHECK(madvise(p, 8 * PAGE, MADV_WILLNEED) == 0);
	CHECK(madvise(p, 8 * PAGE, MADV_RANDOM) == 0);
	CHECK(madvise(p, 8 * PAGE, MADV_SEQUENTIAL) == 0);
	CHECK(madvise(p, 8 * PAGE, MADV_DONTFORK) == 0);
	munmap(p, 8 * PAGE);
}

static int file_of(size_t n)
{
	int fd = open("/tmp/mmap.test", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char b[PAGE];
	if (fd < 0) {
		FAIL("open");
		return -1;
	}
	unlink("/tmp/mmap.test");
	for (size_t o = 0; o < n; o += PAGE) {
		memset(b, (int)('A' + o / PAGE), PAGE);
		size_t k = n - o < PAGE ? n - o : PAGE;
		if (write(fd, b, k) != (long)k)
			FAIL("write");
	}
	return fd;
}

TEST(private_file_mapping)
{
	int fd = file_of(3 * PAGE + 100);
	char *p = mmap(0, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	SAME(p[0], 'A');
	SAME(p[PAGE], 'B');
	SAME(p[3 * PAGE + 99], 'D');
	SAME(p[3 * PAGE + 100], 0);
	p[PAGE] = 'x';
	p[3 * PAGE + 100] = 'y';
	char c = 0;
	SAME(pread(fd, &c, 1, PAGE), 1);
	SAME(c, 'B');
	/* DONTNEED throws the copy away: the file shows again. */
	madvise(p, 4 * PAGE, MADV_DONTNEED);
	SAME(p[PAGE], 'B');
	SAME(p[3 * PAGE + 100], 0);
	char *q = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 2 * PAGE);
	NEED(q != MAP_FAILED);
	SAME(q[0], 'C');
	TRAPS(*(volatile char *)q = 1, SIGSEGV, SEGV_ACCERR);
	munmap(q, PAGE);
	/* The mapping outlives the descriptor. */
	close(fd);
	SAME(p[2 * PAGE + 7], 'C');
	munmap(p, 4 * PAGE);
}

TEST(private_mapping_sees_unmodified_file_pages)
{
	int fd = file_of(2 * PAGE);
	char *p = mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	/* Linux: a write to the file shows through pages that are not yet copied. */
	SAME(p[0], 'A');
	SAME(pwrite(fd, "Q", 1, 0), 1);
	SAME(p[0], 'Q');
	p[1] = 'w';
	SAME(pwrite(fd, "R", 1, 0), 1);
	SAME(p[0], 'Q');
	close(fd);
	munmap(p, 2 * PAGE);
}

TEST(remap_file_pages)
{
	int fd = file_of(4 * PAGE);
	char *p = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0);
	NEED(p != MAP_FAILED);
	for (int i = 0; i < 4; i++)
		p[i * PAGE] = (char)('a' + i);
	SAME(remap_file_pages(p, PAGE, 0, 3, 0), 0);
	SAME(remap_file_pages(p + 3 * PAGE + 5, PAGE + 7, 0, 0, 0), 0); /* rounded down */
	SAME(p[0], 'd');
	SAME(p[PAGE], 'b');
	SAME(p[3 * PAGE], 'a');
	p[0] = 'D';
	char c = 0;
	SAME(pread(fd, &c, 1, 3 * PAGE), 1);
	SAME(c, 'D');
	SAME(remap_file_pages(p, 4 * PAGE, 0, 0, 0), 0); /* over several mappings of the file */
	SAME(p[0], 'a');
	EXPECT(remap_file_pages(p, PAGE, PROT_READ, 0, 0), EINVAL);
	EXPECT(remap_file_pages(p, 0, 0, 0, 0), EINVAL);
	munmap(p + 2 * PAGE, PAGE);
	EXPECT(remap_file_pages(p, 4 * PAGE, 0, 0, 0), EINVAL);
	munmap(p, 4 * PAGE);
	EXPECT(remap_file_pages(p, PAGE, 0, 0, 0), EINVAL);
	p = mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	EXPECT(remap_file_pages(p, PAGE, 0, 0, 0), EINVAL);
	munmap(p, PAGE);
	close(fd);
}

TEST(readonly_descriptor)
{
	int fd = open("/tmp/mmap.ro", O_RDWR | O_CREAT | O_TRUNC, 0600);
	NEED(fd >= 0);
	SAME(write(fd, "text", 4), 4);
	close(fd);
	fd = open("/tmp/mmap.ro", O_RDONLY);
	NEED(fd >= 0);
	EXPECT(mmap(0, PAGE, RW, MAP_SHARED, fd, 0), EACCES);
	char *p = mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	p[0] = 'T';
	CHECK(!memcmp(p, "Text", 4));
	munmap(p, PAGE);
	close(fd);
	fd = open("/tmp/mmap.ro", O_WRONLY);
	EXPECT(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EACCES);
	close(fd);
	unlink("/tmp/mmap.ro");
}

TEST(shared_anonymous)
{
	char *p = mmap(0, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(p != MAP_FAILED);
	SAME(p[PAGE], 0);
	memset(p, 7, 4 * PAGE);
	SAME(p[4 * PAGE - 1], 7);
	munmap(p, 4 * PAGE);
}

TEST(dev_zero)
{
	int fd = open("/dev/zero", O_RDWR);
	NEED(fd >= 0);
	char *p = mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	SAME(p[0], 0);
	p[0] = 1;
	SAME(p[0], 1);
	munmap(p, 2 * PAGE);
	close(fd);
}

TEST(brk_grows_and_shrinks)
{
	char *b0 = sbrk(0);
	char *b = (char *)(((u64)b0 + PAGE - 1) & ~(PAGE - 1));
	/* Raw calls: libc's malloc may use the break meanwhile, but does not here. */
	SAME(syscall(SYS_brk, b + 20 * PAGE), b + 20 * PAGE);
	for (int i = 0; i < 20; i++)
		SAME(b[i * PAGE], 0);
	memset(b, 9, 20 * PAGE);
	SAME(syscall(SYS_brk, b + 5 * PAGE), b + 5 * PAGE);
	TRAPS((void)*(volatile char *)(b + 5 * PAGE), SIGSEGV, SEGV_MAPERR);
	SAME(b[4 * PAGE], 9);
	SAME(syscall(SYS_brk, b + 20 * PAGE), b + 20 * PAGE);
	SAME(b[5 * PAGE], 0);
	SAME(b[4 * PAGE], 9);
	/* Impossible requests leave the break where it is. */
	SAME(syscall(SYS_brk, 0), b + 20 * PAGE);
	SAME(syscall(SYS_brk, 4096), b + 20 * PAGE);
	SAME(syscall(SYS_brk, 0xffff800000000000), b + 20 * PAGE);
	/* Unaligned values are kept to the byte. */
	SAME(syscall(SYS_brk, b + 5 * PAGE + 3), b + 5 * PAGE + 3);
	SAME(syscall(SYS_brk, b0), b0);
}

TEST(populate_and_noreserve)
{
	char *p = mmap(0, 256 * PAGE, RW, ANON | MAP_POPULATE, -1, 0);
	NEED(p != MAP_FAILED);
	SAME(p[255 * PAGE], 0);
	munmap(p, 256 * PAGE);
	/* Address space is not memory: 8 GiB of it, one page used. */
	p = mmap(0, 8ul << 30, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
	NEED(p != MAP_FAILED);
	CHECK(mprotect(p + (4ul << 30), PAGE, RW) == 0);
	p[4ul << 30] = 1;
	SAME(p[4ul << 30], 1);
	munmap(p, 8ul << 30);
}

/* Who fills terabytes can be killed meanwhile. */
TEST(populate_killed)
{
	pid_t pid = fork();
	if (pid == 0) {
		mmap(0, 8ul << 40, PROT_READ, ANON | MAP_NORESERVE | MAP_POPULATE, -1, 0);
		_exit(1);
	}
	usleep(50000);
	kill(pid, SIGKILL);
	int st = 0;
	SAME(waitpid(pid, &st, 0), pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
}

TEST(mincore_and_msync)
{
	unsigned char v[4];
	char *p = map(4 * PAGE, RW);
	p[PAGE] = 1;
	CHECK(mincore(p, 4 * PAGE, v) == 0);
	SAME(v[0] & 1, 0);
	SAME(v[1] & 1, 1);
	SAME(v[2] & 1, 0);
	EXPECT(mincore(p + 1, PAGE, v), EINVAL);
	EXPECT(msync(p, PAGE, MS_SYNC), 0);
	EXPECT(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	munmap(p, 4 * PAGE);
	EXPECT(mincore(p, PAGE, v), ENOMEM);
}

/* Pages of shared memory that fallocate made count as a hole until they are touched or written; reading changes nothing. */
TEST(mincore_of_fallocated)
{
	unsigned char v[8];
	char c;
	int fd = memfd_create("m", 0);
	NEED(fd >= 0);
	CHECK(fallocate(fd, 0, 0, 8 * PAGE) == 0);
	char *p = mmap(0, 8 * PAGE, RW, MAP_SHARED, fd, 0);
	NEED(p != MAP_FAILED);
	EXPECT(lseek(fd, 0, SEEK_DATA), ENXIO);
	SAME(pread(fd, &c, 1, 2 * PAGE), 1);
	p[4 * PAGE] = 1;
	SAME(pwrite(fd, "x", 1, 6 * PAGE), 1);
	CHECK(mincore(p, 8 * PAGE, v) == 0);
	for (int i = 0; i < 8; i++)
		SAME(v[i] & 1, i == 4 || i == 6);
	SAME(lseek(fd, 0, SEEK_DATA), 4 * PAGE);
	SAME(lseek(fd, 4 * PAGE, SEEK_HOLE), 5 * PAGE);
	struct stat st;
	CHECK(fstat(fd, &st) == 0);
	SAME(st.st_blocks, 8 * PAGE / 512);
	munmap(p, 8 * PAGE);
	close(fd);
}

/* Several threads map, touch and unmap; nobody sees another's bytes. */
static void *churn(void *v)
{
	long bad = 0, seed = (long)v;
	for (int i = 0; i < 300; i++) {
		size_t n = (size_t)(1 + (seed * 7 + i) % 17) * PAGE;
		char *p = mmap(0, n, RW, ANON, -1, 0);
		if (p == MAP_FAILED)
			return (void *)-1;
		for (size_t o = 0; o < n; o += PAGE)
			if (*(long *)(p + o))
				bad++;
		for (size_t o = 0; o < n; o += PAGE)
			*(long *)(p + o) = seed;
		for (size_t o = 0; o < n; o += PAGE)
			if (*(long *)(p + o) != seed)
				bad++;
		munmap(p, n);
	}
	return (void *)bad;
}

TEST(threads_churn)
{
	pthread_t t[8];
	for (long i = 0; i < 8; i++)
		pthread_create(&t[i], 0, churn, (void *)(i + 1));
	for (int i = 0; i < 8; i++) {
		void *r;
		pthread_join(t[i], &r);
		SAME((long)r, 0);
	}
}

/* After mprotect or munmap in one thread no other may use an old translation. */
static char *shoot;
static volatile int shoot_stop;
static volatile long shoot_writes;
static sigjmp_buf shoot_jmp;
static void on_shot(int s)
{
	siglongjmp(shoot_jmp, s);
}

static void *shooter(void *v)
{
	while (!shoot_stop) {
		if (!sigsetjmp(shoot_jmp, 1)) {
			for (;;) {
				if (shoot_stop)
					break;
				++*(volatile long *)shoot;
				shoot_writes++;
			}
		}
	}
	return v;
}

TEST(shootdown)
{
	pthread_t t;
	struct sigaction sa = {.sa_handler = on_shot}, old;
	sigaction(SIGSEGV, &sa, &old);
	shoot = map(PAGE, RW);
	pthread_create(&t, 0, shooter, 0);
	while (!shoot_writes)
		;
	for (int i = 0; i < 200; i++) {
		mprotect(shoot, PAGE, PROT_READ);
		long a = *(volatile long *)shoot;
		for (volatile int k = 0; k < 2000; k++)
			;
		long b = *(volatile long *)shoot;
		if (a != b)
			FAIL("round %d: written after mprotect", i);
		mprotect(shoot, PAGE, RW);
		for (volatile int k = 0; k < 500; k++)
			;
	}
	shoot_stop = 1;
	pthread_join(t, 0);
	sigaction(SIGSEGV, &old, 0);
	munmap(shoot, PAGE);
}

TEST(rlimit_as)
{
	struct rlimit rl, old;
	getrlimit(RLIMIT_AS, &old);
	rl = old;
	rl.rlim_cur = 512 << 20;
	NEED(setrlimit(RLIMIT_AS, &rl) == 0);
	EXPECT(mmap(0, 600 << 20, RW, ANON, -1, 0), ENOMEM);
	setrlimit(RLIMIT_AS, &old);
}
