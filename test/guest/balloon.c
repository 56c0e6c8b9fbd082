// Uses memory, gives it back, and uses it again, as told by words on standard input.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

int main(int argc, char **argv) {
	size_t n = argc > 1 ? (size_t)atoi(argv[1]) << 20 : 1 << 20;
	volatile char *p = NULL;
	char word[16];
	while (scanf("%15s", word) == 1) {
		struct sysinfo s;
		if (!strcmp(word, "use")) {
			p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (p == MAP_FAILED)
				return 1;
			for (size_t i = 0; i < n; i += 64) {
				if (p[i] != 0)
					return 2;
				p[i] = i >> 12 | 1;
			}
		} else if (!strcmp(word, "drop")) {
			for (size_t i = 0; i < n; i += 64)
				if (p[i] != (char)(i >> 12 | 1))
					return 3;
			munmap((void *)p, n);
		} else {
			sysinfo(&s);
			printf("%lu ", s.freeram >> 20);
		}
		puts(word);
		fflush(stdout);
	}
	return 0;
}
