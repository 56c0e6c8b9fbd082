/* reboot(2) in PID namespaces, which end by it. What ends the machine is "exits reboot". */
#include "check.h"
#include <linux/reboot.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static long reboot_(unsigned magic, unsigned magic2, unsigned command, const void *arg)
{
	return syscall(SYS_reboot, magic, magic2, command, arg);
}

/* ended is the status of a namespace whose second process says so. */
static int ended(unsigned command)
{
	int status = -1;
	pid_t p = fork();
	if (p == 0) {
		if (unshare(CLONE_NEWPID) != 0)
			_exit(99);
		pid_t first = fork();
		if (first == 0) {
			if (getpid() != 1)
				_exit(98);
			pid_t second = fork();
			if (second == 0 && getpid() == 2)
				reboot_(LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, "");
			for (;;)
				pause();
		}
		if (waitpid(first, &status, 0) != first)
			_exit(97);
		_exit(WIFSIGNALED(status) ? WTERMSIG(status) : 96);
	}
	if (waitpid(p, &status, 0) != p || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST(checks)
{
	EXPECT(reboot_(LINUX_REBOOT_MAGIC1, 1, LINUX_REBOOT_CMD_CAD_OFF, 0), EINVAL);
	EXPECT(reboot_(1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF, 0), EINVAL);
	EXPECT(reboot_(LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, 77, 0), EINVAL);
	pid_t p = fork();
	if (p == 0) {
		if (setuid(1000) != 0)
			_exit(2);
		_exit(reboot_(1, 1, 77, 0) == -1 && errno == EPERM ? 0 : 1);
	}
	int status;
	CHECK(waitpid(p, &status, 0) == p && status == 0);
}

TEST(namespaces)
{
	SAME(ended(LINUX_REBOOT_CMD_RESTART), SIGHUP);
	SAME(ended(LINUX_REBOOT_CMD_RESTART2), SIGHUP);
	SAME(ended(LINUX_REBOOT_CMD_HALT), SIGINT);
	SAME(ended(LINUX_REBOOT_CMD_POWER_OFF), SIGINT);
}
