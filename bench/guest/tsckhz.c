/* Prints the rate of this machine's TSC in kHz, measured for 0.3 s against CLOCK_MONOTONIC_RAW. */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static double since(const struct timespec *a)
{
	struct timespec b;
	clock_gettime(CLOCK_MONOTONIC_RAW, &b);
	return (double)(b.tv_sec - a->tv_sec) * 1e9 + (double)(b.tv_nsec - a->tv_nsec);
}

int main(void)
{
	struct timespec a;
	double ns;
	clock_gettime(CLOCK_MONOTONIC_RAW, &a);
	unsigned long long t = __rdtsc();
	do
		ns = since(&a);
	while (ns < 3e8);
	printf("%.0f\n", (double)(__rdtsc() - t) * 1e6 / ns);
	return 0;
}
