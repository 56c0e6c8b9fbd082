/* args.c - prints argv, the environment and the working directory, each in full. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
	char dir[4096];
	size_t n = 0;
	while (environ[n])
		n++;
	qsort(environ, n, sizeof *environ, cmp);
	printf("argc=%d\n", argc);
	for (int i = 1; i < argc; i++) {
		if (strlen(argv[i]) > 200)
			printf("argv[%d] has %zu bytes\n", i, strlen(argv[i]));
		else
			printf("argv[%d]=[%s]\n", i, argv[i]);
	}
	for (char **e = environ; *e; e++)
		printf("env [%s]\n", *e);
	printf("cwd=%s\n", getcwd(dir, sizeof dir) ? dir : "?");
	return argv[argc] != 0;
}
