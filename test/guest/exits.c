/*
 * exits.c - ways to end.
 *   exits N          exit(N)
 *   exits group N    exit_group from a second thread while the others block
 *   exits thread N   main thread leaves with exit(2); the last thread ends the process with N
 *   exits kill SIG   kill(getpid(), SIG)
 *   exits raise SIG  tgkill(self), the default action
 *   exits fault WHAT segv | bus | ill | fpe | trap | gp | abort | stack
 *   exits reboot HOW off | halt | restart | restart2: reboot(2) in a child; only as the first process, which tests on Linux never are
 *   exits segvloop   a SIGSEGV handler that faults again with the signal blocked
 *   exits return     return from main through atexit handlers
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/reboot.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int status;
static volatile unsigned never;
static pthread_barrier_t bar;
static pthread_mutex_t locked = PTHREAD_MUTEX_INITIALIZER;

static void *blocked(void *how)
{
	pthread_barrier_wait(&bar);
	switch ((long)how % 3) {
	case 0: pthread_mutex_lock(&locked); break;
	case 1: for (;;) pause();
	case 2: for (;;) never++;
	}
	return 0;
}

static void *leaver(void *v)
{
	(void)v;
	pthread_barrier_wait(&bar);
	usleep(20000);
	syscall(SYS_exit_group, status);
	return 0;
}

static void *lastone(void *v)
{
	(void)v;
	usleep(50000);
	if (write(1, "last thread\n", 12) < 0)
		_exit(3);
	syscall(SYS_exit, status);
	return 0;
}

static void segv_again(int s)
{
	(void)s;
	*(volatile int *)8 = 1;
}

#pragma GCC diagnostic ignored "-Winfinite-recursion"
static int __attribute__((noinline)) overflow(int n)
{
	volatile char pad[4096];
	pad[0] = (char)n;
	return overflow(n + 1) + pad[0];
}

static void bye(void)
{
	printf("atexit ran\n");
}

static int fault(const char *w)
{
	volatile int zero = 0;
	if (!strcmp(w, "segv")) *(volatile int *)16 = 1;
	if (!strcmp(w, "gp")) *(volatile long *)0x8000000000000000ul = 1;
	if (!strcmp(w, "ill")) __asm__ volatile("ud2");
	if (!strcmp(w, "fpe")) zero = 5 / zero;
	if (!strcmp(w, "trap")) __asm__ volatile("int3");
	if (!strcmp(w, "abort")) abort();
	if (!strcmp(w, "stack")) return overflow(zero);
	if (!strcmp(w, "bus")) {
		int fd = open("/tmp/exits.bus", O_RDWR | O_CREAT | O_TRUNC, 0600);
		char *p = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
		unlink("/tmp/exits.bus");
		if (p == MAP_FAILED)
			return 3;
		return *(volatile char *)p + 3;
	}
	return 2;
}

static int reboot_(const char *how)
{
	unsigned command = !strcmp(how, "off") ? LINUX_REBOOT_CMD_POWER_OFF : !strcmp(how, "halt") ? LINUX_REBOOT_CMD_HALT :
		!strcmp(how, "restart2") ? LINUX_REBOOT_CMD_RESTART2 : LINUX_REBOOT_CMD_RESTART;
	if (getpid() != 1)
		return 99;
	if (syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF, 0) != 0)
		return 98;
	if (fork() == 0) {
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, "for a reason");
		_exit(97);
	}
	pause();
	return 96;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "0";
	pthread_t t;
	status = atoi(argv[argc - 1]);
	setvbuf(stdout, 0, _IOLBF, 0);
	if (!strcmp(what, "return")) {
		atexit(bye);
		printf("returning\n");
		return 5;
	}
	if (!strcmp(what, "group")) {
		pthread_mutex_lock(&locked);
		pthread_barrier_init(&bar, 0, 8);
		for (long i = 0; i < 6; i++)
			pthread_create(&t, 0, blocked, (void *)i);
		pthread_create(&t, 0, leaver, 0);
		pthread_barrier_wait(&bar);
		pthread_mutex_lock(&locked);
		return 3;
	}
	if (!strcmp(what, "thread")) {
		pthread_create(&t, 0, lastone, 0);
		syscall(SYS_exit, 9);
	}
	if (!strcmp(what, "kill")) {
		kill(getpid(), status);
		usleep(100000);
		printf("alive\n");
		return 0;
	}
	if (!strcmp(what, "raise")) {
		raise(status);
		printf("alive\n");
		return 0;
	}
	if (!strcmp(what, "fault"))
		return fault(argv[2]);
	if (!strcmp(what, "reboot"))
		return reboot_(argv[2]);
	if (!strcmp(what, "segvloop")) {
		signal(SIGSEGV, segv_again);
		*(volatile int *)16 = 1;
	}
	exit(status);
}
