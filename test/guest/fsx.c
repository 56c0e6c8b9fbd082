/*
 * fsx.c - files against models of them in memory: reads, writes, mappings, truncations, holes, copies, at random places of
 * random lengths, by several descriptors. After every operation the sizes, and where data was read the contents, must be the same.
 *
 *   fsx.static [-p PROCESSES] [-t SECONDS] [FILE[:FILE…] [OPERATIONS [SEED]]]
 *
 * FILE is $FSX_FILE or /tmp/fsx by default. With -p each FILE has so many processes at work, on a file of their own each, and two
 * more that share one, where bytes of the one lie between bytes of the other. -t ends after SECONDS, whatever OPERATIONS says.
 * A failure prints the last operations. What the file system has not (EOPNOTSUPP, O_DIRECT) is left out, but for reading and writing.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4 << 20, LONGEST = 80 << 10, PIPE = 32 << 10, PAGE = 4096, KEPT = 32 };

static unsigned char model[MOST];
static unsigned char buf[LONGEST + PAGE] __attribute__((aligned(PAGE)));
static off_t size;
static off_t low, high; /* this process's part of the file: all of it but when it is shared */
static int shared;
static int fds[2];
static unsigned char *window; /* the file mapped from its start, as long as it may get */
static char name[4096], other[4096];
static uint64_t state;
static long done;
static struct {
	const char *what;
	long off, len;
} last[KEPT]; /* the operations made last, by number modulo KEPT */

static uint32_t rnd(uint32_t below)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return below ? (uint32_t)(state >> 33) % below : 0;
}

static void bad(const char *what, long a, long b)
{
	int e = errno;
	for (long n = done < KEPT ? 0 : done - KEPT + 1; n <= done; n++)
		printf("fsx: %ld %s at %ld, %ld bytes\n", n, last[n % KEPT].what, last[n % KEPT].off, last[n % KEPT].len);
	printf("fsx: %s: operation %ld, %s: %s: %ld, should be %ld (size %ld, errno %d)\n", name, done, last[done % KEPT].what, what, a, b, (long)size, e);
	fflush(stdout);
	_exit(1);
}

static void same(const char *what, long a, long b)
{
	if (a != b)
		bad(what, a, b);
}

static void doing(const char *what, long off, long len)
{
	last[done % KEPT].what = what, last[done % KEPT].off = off, last[done % KEPT].len = len;
}

/* place chooses a range below limit: often at page boundaries, often small. */
static void place(off_t limit, off_t *off, size_t *len)
{
	uint32_t kind = rnd(8);
	*off = low + rnd(limit - low + 1);
	if (rnd(4) == 0)
		*off &= ~(PAGE - 1l);
	if (*off < low)
		*off = low;
	*len = rnd(kind == 0 ? LONGEST : kind < 3 ? 64 : 5000) + 1;
	if (rnd(4) == 0)
		*len = (*len + PAGE - 1) & ~(PAGE - 1ul);
	if (*len > LONGEST)
		*len = LONGEST;
	if (*off + (off_t)*len > limit)
		*len = limit - *off;
}

/* fill makes bytes that no other operation made. */
static void fill(size_t len)
{
	uint64_t x = state ^ (uint64_t)done << 20;
	for (size_t i = 0; i < len; i += 8) {
		x = x * 0x9e3779b97f4a7c15ull + i;
		uint64_t word = x ^ x >> 29;
		memcpy(buf + i, &word, 8);
	}
}

static void compare(const unsigned char *got, off_t off, size_t len)
{
	if (memcmp(got, model + off, len) == 0)
		return;
	for (size_t i = 0; i < len; i++)
		if (got[i] != model[off + i]) {
			printf("fsx: the byte at %ld differs\n", (long)(off + i));
			bad("byte", got[i], model[off + i]);
		}
	bad("the bytes changed while they were looked at: first", got[0], model[off]);
}

static void grow(off_t to)
{
	if (to > size)
		size = to;
}

/* wrote takes over into the model what was written from buf. */
static void wrote(off_t off, size_t len)
{
	memcpy(model + off, buf, len);
	if (len)
		grow(off + len);
}

/* there is how much of a range the file has. */
static size_t there(off_t off, size_t len)
{
	return off >= size ? 0 : size - off < (off_t)len ? (size_t)(size - off) : len;
}

static void opened(int flags)
{
	for (int i = 0; i < 2; i++, flags = 0)
		if ((fds[i] = open(name, O_RDWR | flags, 0644)) < 0)
			bad("open", -1, 0);
	window = mmap(0, MOST, PROT_READ | PROT_WRITE, MAP_SHARED, fds[rnd(2)], 0);
	if (window == MAP_FAILED)
		bad("mmap", -1, 0);
}

static void closed(void)
{
	munmap(window, MOST);
	close(fds[0]), close(fds[1]);
}

/* map maps the pages of a range and returns where the range is. */
static unsigned char *map(off_t off, size_t len, int prot, int flags, unsigned char **start, size_t *n)
{
	off_t page = off & ~(PAGE - 1l);
	*n = off - page + len;
	*start = mmap(0, *n, prot, flags, fds[rnd(2)], page);
	if (*start == MAP_FAILED)
		bad("mmap", -1, 0);
	return *start + (off - page);
}

static int allocate(int fd, int mode, off_t off, size_t len)
{
	if (fallocate(fd, mode, off, len) == 0)
		return 1;
	if (errno != EOPNOTSUPP)
		bad("fallocate", -1, 0);
	return 0;
}

static void reads(int fd)
{
	off_t off;
	size_t len;
	place(high, &off, &len);
	if (len == 0)
		return;
	doing("read", off, len);
	size_t n = there(off, len);
	same("count", pread(fd, buf, len, off), n);
	compare(buf, off, n);
}

static void writes(int fd)
{
	off_t off;
	size_t len;
	place(high, &off, &len);
	doing("write", off, len);
	fill(len);
	same("count", pwrite(fd, buf, len, off), len);
	wrote(off, len);
}

static void vector(int fd)
{
	off_t off;
	size_t len;
	place(high, &off, &len);
	size_t n = rnd(len + 1);
	struct iovec v[3] = {{buf, n}, {buf, 0}, {buf + n, len - n}};
	if (rnd(2)) {
		doing("preadv", off, len);
		same("count", preadv(fd, v, 3, off), there(off, len));
		compare(buf, off, there(off, len));
		return;
	}
	doing("pwritev", off, len);
	fill(len);
	same("count", pwritev(fd, v, 3, off), len);
	wrote(off, len);
}

/* direct reads or writes whole pages past the cache, through a descriptor that lives as long. */
static void direct(void)
{
	off_t off;
	size_t len;
	place(high, &off, &len);
	off &= ~(PAGE - 1l), len = (len + PAGE - 1) & ~(PAGE - 1ul);
	int writing = rnd(2), fd;
	if (len == 0 || off + (off_t)len > high || (fd = open(name, (writing ? O_WRONLY : O_RDONLY) | O_DIRECT)) < 0)
		return;
	doing(writing ? "direct write" : "direct read", off, len);
	if (writing) {
		fill(len);
		same("count", pwrite(fd, buf, len, off), len);
		wrote(off, len);
	} else {
		same("count", pread(fd, buf, len, off), there(off, len));
		compare(buf, off, there(off, len));
	}
	close(fd);
}

/* mapped reads, or writes, through a mapping made for it or the one that is always there. */
static void mapped(int writing)
{
	off_t off;
	size_t len, n = 0;
	unsigned char *m, *p = 0;
	place(size < high ? size : high, &off, &len);
	if (len == 0)
		return;
	doing(writing ? "write by mapping" : "read by mapping", off, len);
	if (writing)
		fill(len);
	m = rnd(2) ? window + off : map(off, len, writing ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, &p, &n);
	if (writing) {
		memcpy(m, buf, len);
		wrote(off, len);
		if (p && rnd(4) == 0)
			same("msync", msync(p, n, MS_SYNC), 0);
	} else {
		compare(m, off, len);
		for (off_t at = size; !shared && off + (off_t)len == size && at % PAGE; at++)
			same("byte behind the end", m[at - off], 0);
	}
	if (p)
		munmap(p, n);
}

/* private writes to a mapping of its own, of which the file must not learn. */
static void private(void)
{
	off_t off;
	size_t len, n;
	unsigned char *p;
	place(size < high ? size : high, &off, &len);
	if (len == 0)
		return;
	doing("private mapping", off, len);
	unsigned char *m = map(off, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, &p, &n);
	compare(m, off, len);
	memset(m, 0x5a, len);
	munmap(p, n);
	same("count", pread(fds[0], buf, len, off), len);
	compare(buf, off, len);
}

static void truncates(int fd)
{
	off_t to = rnd(4) ? rnd(high + 1) : size > 5000 ? size - rnd(5000) : 0;
	doing("truncate", to, 0);
	same("result", rnd(2) ? ftruncate(fd, to) : truncate(name, to), 0);
	if (to < size)
		memset(model + to, 0, size - to);
	size = to;
}

/* hole has a range zero, or only allocated. */
static void hole(int fd)
{
	static const struct {
		const char *what;
		int mode;
	} kinds[] = {{"punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
	             {"zero", FALLOC_FL_ZERO_RANGE},
	             {"zero, keeping the size", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE},
	             {"allocate", 0},
	             {"allocate, keeping the size", FALLOC_FL_KEEP_SIZE}};
	off_t off;
	size_t len;
	int k = rnd(2) ? 0 : rnd(5);
	place(high, &off, &len);
	doing(kinds[k].what, off, len);
	if (len == 0 || !allocate(fd, kinds[k].mode, off, len))
		return;
	if (k < 3)
		memset(model + off, 0, k == 1 ? len : there(off, len));
	if (!(kinds[k].mode & FALLOC_FL_KEEP_SIZE))
		grow(off + len);
}

/* shifts takes pages out of the file, or puts pages in. */
static void shifts(int fd)
{
	off_t off = rnd(size / PAGE + 1) * (off_t)PAGE, len = (1 + rnd(8)) * (off_t)PAGE;
	if (rnd(2)) {
		doing("collapse", off, len);
		if (off + len >= size || !allocate(fd, FALLOC_FL_COLLAPSE_RANGE, off, len))
			return;
		memmove(model + off, model + off + len, size - off - len);
		memset(model + size - len, 0, len);
		size -= len;
		return;
	}
	doing("insert", off, len);
	if (off >= size || size + len > high || !allocate(fd, FALLOC_FL_INSERT_RANGE, off, len))
		return;
	memmove(model + off + len, model + off, size - off);
	memset(model + off, 0, len);
	size += len;
}

static void copies(int fd)
{
	off_t off, to = low + rnd(high - low);
	size_t len;
	place(size < high ? size : high, &off, &len);
	doing("copy_file_range", off, len);
	if (len == 0 || to + (off_t)len > high || (to < off + (off_t)len && off < to + (off_t)len))
		return;
	for (off_t a = off, b = to; a < off + (off_t)len;) {
		ssize_t k = copy_file_range(fd, &a, fds[rnd(2)], &b, off + len - a, 0);
		if (k <= 0)
			bad("copy_file_range", k, len);
	}
	memmove(model + to, model + off, len);
	grow(to + len);
}

/* pipes moves bytes out of the file by sendfile or splice, or into it by splice. */
static void pipes(int fd)
{
	off_t off;
	size_t len;
	int p[2], way = rnd(3);
	place(way == 2 || high < size ? high : size, &off, &len);
	if (len > PIPE)
		len = PIPE;
	if (len == 0)
		return;
	doing(way == 0 ? "sendfile" : way == 1 ? "splice" : "splice into the file", off, len);
	same("pipe", pipe(p), 0);
	off_t at = off;
	if (way == 2) {
		fill(len);
		same("count", write(p[1], buf, len), len);
	}
	for (size_t k = 0; k < len;) {
		ssize_t n = way == 0 ? sendfile(p[1], fd, &at, len - k) : way == 1 ? splice(fd, &at, p[1], 0, len - k, 0) : splice(p[0], 0, fd, &at, len - k, 0);
		if (n <= 0)
			bad("count", n, len - k);
		k += n;
		same("offset", at, off + k);
	}
	if (way == 2) {
		wrote(off, len);
	} else {
		for (size_t k = 0; k < len;) {
			ssize_t n = read(p[0], buf + k, len - k);
			if (n <= 0)
				bad("count from the pipe", n, len - k);
			k += n;
		}
		compare(buf, off, len);
	}
	close(p[0]), close(p[1]);
}

static void appends(int fd)
{
	if (size + 5000 > high)
		return;
	size_t len = rnd(5000) + 1;
	doing("append", size, len);
	fill(len);
	same("F_SETFL", fcntl(fd, F_SETFL, O_APPEND), 0);
	same("count", write(fd, buf, len), len);
	same("F_SETFL", fcntl(fd, F_SETFL, 0), 0);
	wrote(size, len);
}

/* flushes has the file written, or what is in memory of it forgotten. */
static void flushes(int fd)
{
	off_t off;
	size_t len;
	place(high, &off, &len);
	int how = rnd(8);
	doing(how == 0 ? "fsync" : how == 1 ? "fdatasync" : how == 2 ? "sync_file_range" : how < 7 ? "DONTNEED" : "MADV_DONTNEED", off, len);
	switch (how) {
	case 0:
		same("result", fsync(fd), 0);
		break;
	case 1:
		same("result", fdatasync(fd), 0);
		break;
	case 2:
		same("result", sync_file_range(fd, off, len, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER), 0);
		break;
	case 7:
		same("result", madvise(window, MOST, MADV_DONTNEED), 0);
		break;
	default: /* what is written only: all of it, or the range */
		if (how < 5)
			same("result", fdatasync(fd), 0), off = 0, len = 0;
		same("result", posix_fadvise(fd, off, len, POSIX_FADV_DONTNEED), 0);
	}
}

/* reopens closes the file and opens it by its name, or by one that it gets for it, or starts anew. */
static void reopens(void)
{
	int how = shared ? 0 : rnd(8), flags = 0;
	doing(how == 0 ? "reopen" : how == 1 ? "make anew" : how == 2 ? "O_TRUNC" : how < 5 ? "rename" : "reopen", 0, 0);
	closed();
	if (how == 1 || how == 2) {
		if (how == 1)
			same("unlink", unlink(name), 0);
		flags = how == 1 ? O_CREAT | O_EXCL : O_TRUNC;
		memset(model, 0, size);
		size = 0;
	} else if (how == 3 || how == 4) {
		same("rename", rename(name, other), 0);
		char was[sizeof name];
		strcpy(was, name), strcpy(name, other), strcpy(other, was);
	}
	opened(flags);
}

static void step(void)
{
	int fd = fds[rnd(2)];
	doing("nothing", 0, 0);
	switch (rnd(shared ? 20 : 28)) {
	case 0 ... 3:
		reads(fd);
		break;
	case 4 ... 7:
		writes(fd);
		break;
	case 8 ... 9:
		mapped(0);
		break;
	case 10 ... 11:
		mapped(1);
		break;
	case 12:
		private();
		break;
	case 13:
		vector(fd);
		break;
	case 14:
		pipes(fd);
		break;
	case 15:
		copies(fd);
		break;
	case 16:
		hole(fd);
		break;
	case 17:
		flushes(fd);
		break;
	case 18:
		if (rnd(4) == 0)
			reopens();
		break;
	case 19:
		hole(fd);
		break;
	case 20 ... 21:
		direct();
		break;
	case 22 ... 24:
		truncates(fd);
		break;
	case 25:
		shifts(fd);
		break;
	default:
		appends(fd);
	}
	struct stat s;
	same("fstat", fstat(fds[rnd(2)], &s), 0);
	same("size", s.st_size, size);
}

/* whole reads all that is this process's. */
static void whole(void)
{
	doing("whole", 0, size);
	for (off_t at = low; at < size && at < high; at += LONGEST) {
		size_t n = there(at, high - at < LONGEST ? high - at : LONGEST);
		same("count", pread(fds[0], buf, n, at), n);
		compare(buf, at, n);
	}
}

/* holes checks that what SEEK_DATA passes over is zero. */
static void holes(void)
{
	doing("holes", 0, size);
	for (off_t at = 0; at < size;) {
		off_t data = lseek(fds[1], at, SEEK_DATA);
		off_t end = data < 0 ? size : data;
		for (; at < end; at++)
			if (model[at])
				bad("data in a hole at", at, -1);
		if (data < 0)
			break;
		at = lseek(fds[1], data, SEEK_HOLE);
		if (at <= data || at > size)
			bad("SEEK_HOLE", at, size);
	}
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* work makes operations on a file. Of one that is shared the process has the part-th half, which ends within a page. */
static long work(const char *file, int part, long operations, uint64_t seed, double end)
{
	static const off_t sizes[] = {512 << 10, 512 << 10, 48 << 10, MOST};
	state = seed * 2 + 1;
	shared = part >= 0;
	low = 0, high = shared ? 256 << 10 : sizes[seed % 4];
	snprintf(name, sizeof name, "%s", file);
	snprintf(other, sizeof other, "%s.renamed", file);
	doing("open", 0, 0);
	opened(O_CREAT | (shared ? 0 : O_TRUNC));
	if (shared) {
		same("result", ftruncate(fds[0], high), 0);
		size = high;
		if (part == 0)
			high = 100123;
		else
			low = 100123;
	}
	for (; done < operations && (end == 0 || done % 64 || now() < end); done++) {
		step();
		if (done % 256 == 255) {
			whole();
			if (!shared)
				holes();
		}
	}
	whole();
	closed();
	if (!shared && unlink(name))
		bad("unlink", -1, 0);
	return done;
}

/* start has a process work on a file, and tell how much it did. */
static void start(int out, const char *file, int part, long operations, uint64_t seed, double end)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid > 0)
		return;
	long n = work(file, part, operations, seed, end);
	_exit(write(out, &n, sizeof n) != sizeof n);
}

/* many has several processes work for each name at a time, and returns whether one failed. */
static int many(char *files, int processes, long operations, uint64_t seed, double end)
{
	int failed = 0, status, p[2], n = 0, roots = 0;
	long sum = 0, some;
	char file[4000], *names[16];
	if (pipe(p))
		return 2;
	for (char *f = strtok(files, ":"); f && roots < 16; f = strtok(0, ":")) {
		names[roots++] = f;
		for (int i = 0; i < processes; i++, n++) {
			snprintf(file, sizeof file, "%s.%d", f, i);
			start(p[1], file, -1, operations, seed + n, end);
		}
		snprintf(file, sizeof file, "%s.shared", f);
		for (int i = 0; i < 2; i++, n++)
			start(p[1], file, i, operations, seed + n, end);
	}
	for (; n > 0; n--)
		if (wait(&status) > 0 && status != 0)
			failed = 1;
		else if (read(p[0], &some, sizeof some) == sizeof some)
			sum += some;
	while (roots-- > 0) {
		snprintf(file, sizeof file, "%s.shared", names[roots]);
		failed |= unlink(file) != 0;
	}
	if (!failed)
		printf("fsx: %ld operations, seed %llu: the same\n", sum, (unsigned long long)seed);
	return failed;
}

int main(int argc, char **argv)
{
	int processes = 0, opt;
	double end = 0;
	while ((opt = getopt(argc, argv, "p:t:")) != -1)
		if (opt == 'p')
			processes = atoi(optarg);
		else if (opt == 't')
			end = now() + atof(optarg);
		else
			return 2;
	argv += optind, argc -= optind;
	char *file = argc > 0 ? argv[0] : getenv("FSX_FILE") ? getenv("FSX_FILE") : "/tmp/fsx";
	long operations = argc > 1 ? atol(argv[1]) : end ? INT64_MAX : 2000;
	uint64_t seed = argc > 2 ? strtoull(argv[2], 0, 0) : 1;
	if (processes)
		return many(file, processes, operations, seed, end);
	work(file, -1, operations, seed, end);
	printf("fsx: %ld operations, seed %llu: the same\n", done, (unsigned long long)seed);
	return 0;
}
