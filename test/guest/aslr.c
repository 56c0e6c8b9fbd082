/* aslr.c - prints where things lie; two runs must differ. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int here;
	void *m = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *r = (unsigned char *)getauxval(AT_RANDOM);
	printf("stack %p\nmmap %p\ncode %p\nbrk %p\nvdso %p\nrandom ", (void *)&here, m, (void *)main, sbrk(0),
	       (void *)getauxval(AT_SYSINFO_EHDR));
	for (int i = 0; i < 16; i++)
		printf("%02x", r[i]);
	printf("\n");
	return 0;
}
