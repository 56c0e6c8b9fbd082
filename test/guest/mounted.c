/*
 * mounted.c - runs a program with a file system mounted:
 *
 *   mounted TYPE SOURCE OPTIONS DIRECTORY [MORE-DIRECTORIES…] -- PROGRAM [ARGUMENTS…]
 *
 * The directories are made first.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int i = 4;
	for (; i < argc && strcmp(argv[i], "--"); i++)
		if (mkdir(argv[i], 0755) && errno != EEXIST) {
			perror(argv[i]);
			return 99;
		}
	if (i >= argc - 1)
		return 99;
	if (mount(argv[2], argv[4], argv[1], 0, argv[3])) {
		perror("mount");
		return 98;
	}
	execv(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 97;
}
