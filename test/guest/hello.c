/* hello.c - prints its name, arguments and one environment variable. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	printf("hello from user space, %d arguments\n", argc);
	for (int i = 1; i < argc; i++)
		printf("argv[%d]=%s\n", i, argv[i]);
	const char *e = getenv("GREETING");
	if (e)
		printf("GREETING=%s\n", e);
	fprintf(stderr, "and one line to stderr\n");
	return 0;
}
