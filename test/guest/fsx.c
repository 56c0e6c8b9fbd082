/*
 * fsx.c - a file against a model of it in memory: reads, writes, mappings, truncations, holes, copies, at random places of
 * random lengths. After every operation the sizes, and where data was read the contents, must be the same.
 *
 *   fsx.static [FILE [OPERATIONS [SEED]]]
 *
 * FILE is $FSX_FILE or /tmp/fsx by default. What the file system has not (EOPNOTSUPP) is left out, but for reading and writing.
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
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAX = 512 << 10, LONGEST = 80 << 10 };

static unsigned char model[MAX], buf[LONGEST];
static off_t size;
static int fd;
static const char *file;
static uint64_t state;
static long done;
static const char *doing;
static long counts[16];

static uint32_t rnd(uint32_t below)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return below ? (uint32_t)(state >> 33) % below : 0;
}

static void bad(const char *what, long a, long b)
{
	printf("fsx: operation %ld, %s: %s: %ld, should be %ld (errno %d)\n", done, doing, what, a, b, errno);
	exit(1);
}

static void same(const char *what, long a, long b)
{
	if (a != b)
		bad(what, a, b);
}

/* place chooses a range: often at page boundaries, often small. */
static void place(off_t limit, off_t *off, size_t *len)
{
	*off = rnd(limit + 1);
	if (rnd(4) == 0)
		*off &= ~4095l;
	*len = rnd(rnd(3) ? 5000 : LONGEST) + 1;
	if (rnd(4) == 0)
		*len = (*len + 4095) & ~4095ul;
	if (*len > LONGEST)
		*len = LONGEST;
	if (*off + (off_t)*len > limit)
		*len = limit - *off;
}

static void fill(size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (unsigned char)(done + i * 31 + (i >> 8));
}

static void compare(const unsigned char *got, off_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (got[i] != model[off + i])
			bad("byte", got[i], model[off + i]);
}

static void grow(off_t to)
{
	if (to > size)
		size = to;
}

/* map maps the pages of a range and returns where the range is. */
static unsigned char *map(off_t off, size_t len, int prot, unsigned char **start, size_t *n)
{
	off_t page = off & ~4095l;
	*n = off - page + len;
	*start = mmap(0, *n, prot, MAP_SHARED, fd, page);
	if (*start == MAP_FAILED)
		bad("mmap", -1, 0);
	return *start + (off - page);
}

static int punch(off_t off, size_t len, int mode)
{
	if (fallocate(fd, mode, off, len) == 0)
		return 1;
	if (errno != EOPNOTSUPP)
		bad("fallocate", -1, 0);
	return 0;
}

static void step(void)
{
	static const char *names[] = {"read", "write", "mapread", "mapwrite", "truncate", "punch", "zero", "allocate", "copy", "sync", "reopen", "append", "vector"};
	off_t off, to;
	size_t len, n;
	unsigned char *m, *p;
	static const unsigned char weight[] = {0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	int op = weight[rnd(sizeof weight)];
	doing = names[op];
	counts[op]++;
	switch (op) {
	case 0:
		place(MAX, &off, &len);
		if (len == 0)
			return;
		to = off >= size ? 0 : size - off < (off_t)len ? size - off : (off_t)len;
		same("count", pread(fd, buf, len, off), to);
		compare(buf, off, to);
		break;
	case 1:
		place(MAX, &off, &len);
		fill(len);
		same("count", pwrite(fd, buf, len, off), len);
		memcpy(model + off, buf, len);
		if (len)
			grow(off + len);
		break;
	case 2:
		if (size == 0)
			return;
		place(size, &off, &len);
		if (len == 0)
			return;
		m = map(off, len, PROT_READ, &p, &n);
		compare(m, off, len);
		munmap(p, n);
		break;
	case 3:
		if (size == 0)
			return;
		place(size, &off, &len);
		if (len == 0)
			return;
		fill(len);
		m = map(off, len, PROT_READ | PROT_WRITE, &p, &n);
		memcpy(m, buf, len);
		if (rnd(4) == 0)
			same("msync", msync(p, n, MS_SYNC), 0);
		munmap(p, n);
		memcpy(model + off, buf, len);
		break;
	case 4:
		off = rnd(MAX + 1);
		same("result", ftruncate(fd, off), 0);
		if (off < size)
			memset(model + off, 0, size - off);
		size = off;
		break;
	case 5:
	case 6:
		place(MAX, &off, &len);
		if (len == 0 || !punch(off, len, op == 5 ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE))
			return;
		memset(model + off, 0, len);
		if (op == 6)
			grow(off + len);
		break;
	case 7:
		place(MAX, &off, &len);
		to = rnd(2);
		if (len == 0 || !punch(off, len, to ? FALLOC_FL_KEEP_SIZE : 0))
			return;
		if (!to)
			grow(off + len);
		break;
	case 8:
		place(size, &off, &len);
		to = rnd(MAX - LONGEST);
		if (len == 0 || (to < off + (off_t)len && off < to + (off_t)len))
			return;
		for (off_t a = off, b = to; a < off + (off_t)len;) {
			ssize_t k = copy_file_range(fd, &a, fd, &b, off + len - a, 0);
			if (k <= 0)
				bad("copy_file_range", k, len);
		}
		memmove(model + to, model + off, len);
		grow(to + len);
		break;
	case 9:
		same("result", rnd(2) ? fsync(fd) : fdatasync(fd), 0);
		break;
	case 10:
		close(fd);
		if ((fd = open(file, O_RDWR)) < 0)
			bad("open", -1, 0);
		break;
	case 11:
		if (size + 5000 > MAX)
			return;
		len = rnd(5000) + 1;
		fill(len);
		same("F_SETFL", fcntl(fd, F_SETFL, O_APPEND), 0);
		same("count", write(fd, buf, len), len);
		same("F_SETFL", fcntl(fd, F_SETFL, 0), 0);
		memcpy(model + size, buf, len);
		grow(size + len);
		break;
	case 12:
		place(MAX, &off, &len);
		fill(len);
		n = rnd(len + 1);
		struct iovec v[3] = {{buf, n}, {buf, 0}, {buf + n, len - n}};
		same("count", pwritev(fd, v, 3, off), len);
		memcpy(model + off, buf, len);
		if (len)
			grow(off + len);
		break;
	}
	struct stat s;
	same("fstat", fstat(fd, &s), 0);
	same("size", s.st_size, size);
}

/* holes checks that what SEEK_DATA passes over is zero. */
static void holes(void)
{
	doing = "holes";
	for (off_t at = 0; at < size;) {
		off_t data = lseek(fd, at, SEEK_DATA);
		off_t end = data < 0 ? size : data;
		for (; at < end; at++)
			if (model[at])
				bad("data in a hole at", at, -1);
		if (data < 0)
			break;
		at = lseek(fd, data, SEEK_HOLE);
		if (at <= data || at > size)
			bad("SEEK_HOLE", at, size);
	}
}

int main(int argc, char **argv)
{
	file = argc > 1 ? argv[1] : getenv("FSX_FILE") ? getenv("FSX_FILE") : "/tmp/fsx";
	long operations = argc > 2 ? atol(argv[2]) : 2000;
	uint64_t seed = argc > 3 ? strtoull(argv[3], 0, 0) : 1;
	state = seed * 2 + 1;
	if ((fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0644)) < 0) {
		perror(file);
		return 2;
	}
	for (; done < operations; done++) {
		step();
		if (done % 200 == 199) {
			doing = "whole";
			for (off_t at = 0; at < size; at += LONGEST) {
				ssize_t n = pread(fd, buf, LONGEST, at);
				same("count", n, size - at < LONGEST ? size - at : LONGEST);
				compare(buf, at, n);
			}
			holes();
		}
	}
	close(fd);
	if (unlink(file))
		bad("unlink", -1, 0);
	printf("fsx: %ld operations, seed %llu: the same\n", operations, (unsigned long long)seed);
	return 0;
}
