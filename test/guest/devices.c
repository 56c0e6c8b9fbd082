/* devices.c - null(4), zero, full, random(4), tty, getrandom(2), and standard input and output. */
#include "check.h"
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sched.h>

static char b[70000];

TEST(null)
{
	int fd = open("/dev/null", O_RDWR);
	NEED(fd >= 0);
	SAME(read(fd, b, 10), 0);
	SAME(write(fd, b, sizeof b), sizeof b);
	SAME(write(fd, 0, 0), 0);
	SAME(lseek(fd, 100, SEEK_SET), 0);	/* the offset stays */
	EXPECT(mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
	EXPECT(ioctl(fd, TCGETS, b), ENOTTY);
	close(fd);
	fd = open("/dev/null", O_WRONLY | O_TRUNC | O_CREAT, 0666);
	CHECK(fd >= 0);
	close(fd);
}

TEST(zero)
{
	int fd = open("/dev/zero", O_RDWR);
	NEED(fd >= 0);
	memset(b, 1, sizeof b);
	SAME(read(fd, b, sizeof b), sizeof b);
	for (unsigned i = 0; i < sizeof b; i++)
		if (b[i]) {
			FAIL("byte %u", i);
			break;
		}
	SAME(write(fd, b, 5), 5);
	close(fd);
}

TEST(full)
{
	int fd = open("/dev/full", O_RDWR);
	NEED(fd >= 0);
	EXPECT(write(fd, b, 1), ENOSPC);
	memset(b, 1, 10);
	SAME(read(fd, b, 10), 10);
	SAME(b[9], 0);
	close(fd);
}

/* plausible: no byte value is missing or far too frequent in 65536. */
static int plausible(const char *p)
{
	int n[256] = {0};
	for (int i = 0; i < 65536; i++)
		n[(u8)p[i]]++;
	for (int i = 0; i < 256; i++)
		if (n[i] < 128 || n[i] > 512)
			return 0;
	return 1;
}

TEST(random)
{
	for (int i = 0; i < 2; i++) {
		int fd = open(i ? "/dev/random" : "/dev/urandom", O_RDWR);
		NEED(fd >= 0);
		memset(b, 0, sizeof b);
		SAME(read(fd, b, 65536), 65536);
		CHECK(plausible(b));
		SAME(write(fd, b, 8), 8);
		close(fd);
	}
	memset(b, 0, sizeof b);
	long n = 0;
	while (n < 65536) {
		long k = getrandom(b + n, 65536 - (size_t)n, 0);
		NEED(k > 0);
		n += k;
	}
	CHECK(plausible(b));
	SAME(getrandom(b, 256, GRND_NONBLOCK), 256);
	SAME(getrandom(b, 16, GRND_RANDOM), 16);
	SAME(getrandom(b, 0, 0), 0);
	EXPECT(getrandom(b, 8, 0x100), EINVAL);
	char c[32], d[32];
	getrandom(c, 32, 0);
	getrandom(d, 32, 0);
	CHECK(memcmp(c, d, 32));
}

TEST(standard_streams)
{
	struct stat st;
	for (int i = 0; i < 3; i++)
		CHECK(fstat(i, &st) == 0);
	/* Standard output is no terminal in this test. */
	SAME(isatty(1), 0);
	EXPECT(lseek(1, 0, SEEK_CUR), ESPIPE);
	SAME(write(1, b, 0), 0);
	char *volatile nowhere = (char *)8;
	EXPECT(write(1, nowhere, 1), EFAULT);
}

TEST(uname_and_friends)
{
	struct utsname u;
	CHECK(uname(&u) == 0);
	CHECK(!strcmp(u.sysname, "Linux") && !strcmp(u.machine, "x86_64"));
	CHECK(u.nodename[0] && u.release[0] >= '4' && u.version[0]);
	struct sysinfo si;
	CHECK(sysinfo(&si) == 0);
	CHECK(si.totalram > 0 && si.freeram <= si.totalram && si.mem_unit >= 1 && si.procs >= 1);
	cpu_set_t set;
	CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
	SAME(CPU_COUNT(&set), sysconf(_SC_NPROCESSORS_ONLN));
	CHECK(getppid() >= 0 && getpid() > 0);
	SAME(getuid(), geteuid());
	SAME(getgid(), getegid());
	SAME(sysconf(_SC_PAGESIZE), 4096);
	SAME(sysconf(_SC_CLK_TCK), 100);
}
