/*
 * copy.c - standard input to standard output, binary-clean, with read(2) and write(2).
 *   copy [BLOCK [echo]]   BLOCK bytes at a time (65536); "echo" also reports the count on stderr
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	size_t block = argc > 1 ? strtoul(argv[1], 0, 0) : 65536;
	char *b = malloc(block);
	unsigned long total = 0;
	ssize_t n;
	if (!b)
		return 2;
	while ((n = read(0, b, block)) > 0) {
		for (ssize_t o = 0; o < n;) {
			ssize_t w = write(1, b + o, (size_t)(n - o));
			if (w < 0) {
				perror("write");
				return 1;
			}
			o += w;
		}
		total += (unsigned long)n;
	}
	if (n < 0) {
		perror("read");
		return 1;
	}
	if (read(0, b, block) != 0) {
		fprintf(stderr, "data after end of file\n");
		return 1;
	}
	if (argc > 2)
		fprintf(stderr, "%lu bytes\n", total);
	return 0;
}
