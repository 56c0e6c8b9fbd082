/* klog.c - the kernel's log: syslog(2) and /dev/kmsg. Where the log is closed to root too (containers) only the refusals are seen. */
#include "check.h"
#include <fcntl.h>
#include <sys/klog.h>

static int closed(void) { return klogctl(10, 0, 0) < 0 && errno == EPERM; }

TEST(actions)
{
	static char b[1 << 20];
	if (closed())
		return;
	EXPECT(klogctl(-1, 0, 0), EINVAL);
	EXPECT(klogctl(11, 0, 0), EINVAL);
	EXPECT(klogctl(3, 0, 10), EINVAL);
	EXPECT(klogctl(3, b, -1), EINVAL);
	EXPECT(klogctl(3, (char *)8, sizeof b), EFAULT);
	SAME(klogctl(3, b, 0), 0);
	SAME(klogctl(2, b, 0), 0);
	SAME(klogctl(0, 0, 0), 0);
	SAME(klogctl(1, 0, 0), 0);
	CHECK(klogctl(10, 0, 0) >= 16384);
	CHECK(klogctl(9, 0, 0) > 0);
	int all = klogctl(3, b, sizeof b), priority;
	long seconds, micros;
	CHECK(all > 20 && b[all - 1] == '\n');
	SAME(sscanf(b, "<%d>[%ld.%ld] ", &priority, &seconds, &micros), 3);
	/* what fits is whole lines, the last ones */
	int some = klogctl(3, b, all / 2);
	CHECK(some <= all / 2 && (some == 0 || (b[0] == '<' && b[some - 1] == '\n')));
}

TEST(device)
{
	char b[8192];
	if (closed())
		return;
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	NEED(fd >= 0);
	EXPECT(read(fd, b, 5), EINVAL);
	for (int i = 0; i < 2; i++) {
		long n = read(fd, b, sizeof b - 1);
		unsigned priority, micros;
		unsigned long sequence;
		NEED(n > 0);
		b[n] = 0;
		SAME(sscanf(b, "%u,%lu,%u", &priority, &sequence, &micros), 3);
		CHECK(strchr(b, ';') && b[n - 1] == '\n');
		SAME(lseek(fd, 0, SEEK_SET), 0);
	}
	EXPECT(lseek(fd, 5, SEEK_END), ESPIPE);
	SAME(lseek(fd, 0, SEEK_DATA), 0);
	SAME(lseek(fd, 0, SEEK_END), 0);
	close(fd);
}

TEST(unprivileged)
{
	char b[100];
	NEED(geteuid() != 0 || setresuid(4321, 4321, 4321) == 0);
	EXPECT(klogctl(5, 0, 0), EPERM);
	EXPECT(klogctl(2, b, sizeof b), EPERM);
	EXPECT(klogctl(8, 0, 3), EPERM);
	EXPECT(open("/dev/kmsg", O_WRONLY), EACCES);
}
