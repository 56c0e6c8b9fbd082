/* readall.c - reads files, and says for each how many bytes there were and their sum, or the error. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static unsigned char b[65536];
	for (int i = 1; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY);
		unsigned long sum = 0, size = 0;
		ssize_t n = fd;
		while (n >= 0 && (n = read(fd, b, sizeof b)) > 0) {
			size += n;
			for (ssize_t k = 0; k < n; k++)
				sum = sum * 31 + b[k];
		}
		if (n < 0)
			printf("%s: %s after %lu bytes\n", argv[i], strerror(errno), size);
		else
			printf("%s: %lu bytes, sum %lx\n", argv[i], size, sum);
		close(fd);
	}
	return 0;
}
