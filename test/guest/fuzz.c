/*
 * fuzz.c - random system calls with random and interesting arguments, by several processes and threads,
 * for some seconds; the machine and the process that watches must live.
 *
 *   fuzz [SEED [SECONDS [PROCESSES]]]
 *
 * Every worker's calls follow from SEED, its slot and how often the slot was filled: "fuzz SEED 0 SLOT
 * GENERATION" makes the calls of one worker alone, and prints each before it is made.
 *
 * The watcher counts what the workers do in shared memory, replaces those that died or got stuck, and sees that a
 * fork, a pipe and a wait still work. Of four workers one is root, and one is root in namespaces of its own. It ends with 0,
 * or 1 when a worker does not die, or with SIGALRM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;

#define CALLS 463
#define MAXPROC 16
#define PAGE 4096

struct slot {
	volatile u64 calls;
	volatile pid_t pid;
	volatile int generation;
	volatile u64 now[2][7]; /* the calls that its threads are in */
	u64 seen;
	int stuck;
};

static struct slot *slots;
static u64 seed;
static int replay;

static u64 next(u64 *s)
{
	u64 z = (*s += 0x9e3779b97f4a7c15ull);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Calls that would end the watcher, the worker or the machine, or that never come back by design. */
static const int never[] = {SYS_exit, SYS_exit_group, SYS_vfork, SYS_reboot, SYS_rt_sigreturn, SYS_pause, SYS_kexec_load, SYS_kexec_file_load, SYS_vhangup, SYS_seccomp};
/* Calls by which root would reach the watcher, or take the tree of files away. */
static const int notroot[] = {SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_ptrace, SYS_process_vm_writev,
                              SYS_prlimit64, SYS_umount2, SYS_mount, SYS_pivot_root, SYS_chroot, SYS_setrlimit, SYS_settimeofday, SYS_clock_settime, SYS_pidfd_getfd,
                              SYS_move_mount, SYS_setpriority, SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr, SYS_swapon, SYS_swapoff};

/* Root would have the watcher sent the signals of its descriptors: fcntl's F_SETOWN and F_SETOWN_EX, ioctl's FIOSETOWN and SIOCSPGRP. */
static int owns(int nr, u64 request)
{
	return (nr == SYS_fcntl && (request == F_SETOWN || request == 15)) || (nr == SYS_ioctl && (request == 0x8901 || request == 0x8902));
}

static int in(const int *l, int n, int nr)
{
	for (int i = 0; i < n; i++)
		if (l[i] == nr)
			return 1;
	return 0;
}
#define IN(l, nr) in(l, sizeof l / sizeof *l, nr)

static char *pages; /* readable and writable, read-only, and nothing */

static const char *const paths[] = {"/tmp/fz/a", "/tmp/fz/b", "/tmp/fz/d", "/tmp/fz", "", ".", "..", "/", "/proc/self/maps", "/proc/self/fd/3", "/proc/1/stat", "/dev/null", "/dev/zero", "/dev/ptmx", "/tmp/fz/a/b", "a", "user.x", "tmpfs", "proc", "size", "/proc/self/uid_map", "/proc/self/ns/user", "/proc/sys/vm/nr_hugepages"};

/* What certain calls know in certain arguments: three times of four one of these, in place of anything. */
static const u64 ioctls[] = {0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5406, 0x540b, 0x540d, 0x540e, 0x540f, 0x5410, 0x5411, 0x5412, 0x5413, 0x5414, 0x541b, 0x5420, 0x5421, 0x5422,
                             0x5424, 0x5429, 0x5441, 0x5450, 0x5451, 0x5452, 0x5460, 0x80045430, 0x40045431, 0x80045432, 0x80045438, 0x8901, 0x8903, 0x8905, 0x8910, 0x8912, 0x8913,
                             0x8914, 0x8915, 0x8916, 0x8919, 0x891b, 0x891c, 0x8921, 0x8922, 0x8924, 0x8927, 0x8933, 0x8942, 0x8946, 0x80086601, 0x40086602, 0x801c581f, 0x401c5820,
                             0x40049409, 0x4020940d, 0xc020660b, 0xc0045877, 0xc0045878, 1, 2, 0xb701, 0xb702, 0xb703, 0xb704, 0x400454ca, 0x400454cb, 0x400454cc, 0x400454ce, 0x800454cf, 0x400454d0, 0x800454d2, 0x400454d4, 0x400454d8, 0x400454d9, 0x400454da,
                             0x400454dc, 0x400454e2, 0xc018aa3f, 0xc020aa00, 0x40086610, 0x80081272, 0x4c82};
static const u64 fcntls[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 17, 36, 37, 38, 1024, 1025, 1026, 1030, 1031, 1032, 1033, 1034, 1035, 1036, 1037, 1038};
static const u64 families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK};
static const u64 kinds[] = {1, 2, 3, 5, 1 | O_NONBLOCK, 2 | O_NONBLOCK, 3 | O_NONBLOCK, 5 | O_NONBLOCK};
static const u64 protocols[] = {0, 1, 4, 6, 9, 12, 15, 16, 17, 58, 255, 0x300, 0x800};
static const u64 levels[] = {0, 1, 6, 17, 41, 58, 255, 263, 270, 277};
static const u64 lengths[] = {0, 1, 4, 8, 12, 16, 28, 64, 128, 256};
static const u64 advices[] = {0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 100, 101};
static const u64 futexes[] = {0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 128, 129, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 256, 265, 393};
static const u64 maps[] = {1, 2, 3, 0x11, 0x12, 0x21, 0x22, 0x122, 0x4022, 0x8021, 0x2022, 0x40021, 0x40022, 0x100012, 0x100022, 0x32};
static const u64 protections[] = {0, 1, 2, 3, 4, 5, 7, 0x1000003, 0x2000003};
static const u64 sizes[] = {1, PAGE, 2 * PAGE, 3 * PAGE, 16 * PAGE, 1 << 20, 1 << 21, 1 << 22, 1 << 26};
/* Without MS_BIND | MS_REC, to be put back when random calls no longer end a machine of 512 MiB now and then (kernel memory exhausted), which they do without it too. */
static const u64 mountflags[] = {0, 1, 2, 4, 8, 14, 16, 32, 33, 128, 1024, 4096, 4097, 20480, 8192, 16384, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 0x44000, 0x84000, 0x104000, 1 << 24};
static const u64 clones[] = {SIGCHLD, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x10020000, 0x30020000, 0x7e020000, 0x80, 0x200, 0x400, 0x40000};
static const u64 traces[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 24, 31, 32, 0x4200, 0x4201, 0x4202, 0x4203, 0x4204, 0x4205, 0x4206, 0x4207, 0x4208, 0x4209, 0x420a, 0x420b, 0x420c, 0x420d, 0x420e};
static const char *const filesystems[] = {"tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2", "overlay", "ext4", "fuse", "ramfs"};
static const char *const options[] = {"", "size=1m", "lowerdir=/tmp/fz/d,upperdir=/tmp/fz/u,workdir=/tmp/fz/w", "lowerdir=/proc:/tmp/fz/d", "newinstance,ptmxmode=666", "hidepid=2,subset=pid", "mode=0700,uid=1,gid=1", "fd=3,rootmode=40000,user_id=0,group_id=0"};

#define FROM(nr, at, l) {nr, at, sizeof l / sizeof *l, l, 0}
#define WORDS(nr, at, l) {nr, at, sizeof l / sizeof *l, 0, l}
#define BELOW(nr, at, n) {nr, at, n, 0, 0}
static const struct hint {
	int nr, at, n;
	const u64 *values;
	const char *const *words;
} hints[] = {
    FROM(SYS_ioctl, 1, ioctls), BELOW(SYS_prctl, 0, 75), BELOW(SYS_prctl, 1, 70), FROM(SYS_fcntl, 1, fcntls), FROM(SYS_socket, 0, families),
    FROM(SYS_socket, 1, kinds), FROM(SYS_socket, 2, protocols), FROM(SYS_socketpair, 0, families), FROM(SYS_socketpair, 1, kinds),
    FROM(SYS_socketpair, 2, protocols), FROM(SYS_setsockopt, 1, levels), BELOW(SYS_setsockopt, 2, 80), FROM(SYS_setsockopt, 4, lengths),
    FROM(SYS_getsockopt, 1, levels), BELOW(SYS_getsockopt, 2, 80), FROM(SYS_bind, 2, lengths), FROM(SYS_connect, 2, lengths), FROM(SYS_futex, 1, futexes),
    FROM(SYS_madvise, 1, sizes), FROM(SYS_madvise, 2, advices), FROM(SYS_mmap, 1, sizes), FROM(SYS_mmap, 2, protections), FROM(SYS_mmap, 3, maps),
    FROM(SYS_mremap, 1, sizes), FROM(SYS_mremap, 2, sizes), BELOW(SYS_mremap, 3, 8), FROM(SYS_mprotect, 2, protections), WORDS(SYS_mount, 0, paths),
    WORDS(SYS_mount, 1, paths), WORDS(SYS_mount, 2, filesystems), FROM(SYS_mount, 3, mountflags), WORDS(SYS_mount, 4, options), WORDS(SYS_umount2, 0, paths),
    BELOW(SYS_umount2, 1, 16), WORDS(SYS_pivot_root, 0, paths), WORDS(SYS_pivot_root, 1, paths), WORDS(SYS_chroot, 0, paths), WORDS(SYS_fsopen, 0, filesystems),
    BELOW(SYS_fsconfig, 1, 9), WORDS(SYS_open_tree, 1, paths), WORDS(SYS_move_mount, 3, paths), FROM(SYS_unshare, 0, clones), FROM(SYS_clone, 0, clones),
    FROM(SYS_setns, 1, clones), FROM(SYS_ptrace, 0, traces), BELOW(SYS_sched_setscheduler, 1, 8), BELOW(SYS_fallocate, 1, 128), FROM(SYS_shmget, 1, sizes),
    BELOW(SYS_shmctl, 1, 16), BELOW(SYS_semctl, 2, 20), BELOW(SYS_msgctl, 1, 14), BELOW(SYS_io_uring_register, 1, 34), BELOW(SYS_waitid, 0, 4),
};

static void hint(u64 *s, int nr, u64 *a)
{
	for (const struct hint *h = hints; h < hints + sizeof hints / sizeof *hints; h++) {
		if (h->nr != nr)
			continue;
		u64 r = next(s), i = (r >> 8) % h->n;
		if (r % 4)
			a[h->at] = h->values ? h->values[i] : h->words ? (uintptr_t)h->words[i] : i;
	}
}

static const u64 numbers[] = {0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 64, 100, 127, 128, 255, 256, 511, 512, 1000, 1024, 4095, 4096, 4097, 8192, 65535, 65536, 1 << 20, 1 << 21, 0x7fffffff, 0x80000000, 0xffffffff,
                              0x100000000, 0x7fffffffffff, 0x7ffffffff000, 0x7fffffffffffffff, 0x8000000000000000, -1, -2, -100, -4096, -4095};

static const u64 bad[] = {0, 8, 4096, 0x7fffffffefff, 0x7ffffffff000, 0x800000000000, 0xffff800000000000, 0xffffffff80200000, 0xffffffffffffffff, 0xfffffffffffff000};

static u64 argument(u64 *s)
{
	u64 r = next(s);
	switch (r >> 8 & 15) {
	case 0:
	case 1:
	case 2:
		return numbers[(r >> 16) % (sizeof numbers / sizeof *numbers)];
	case 3:
	case 4:
	case 5:
		return (r >> 16) % 36; /* a descriptor, perhaps */
	case 6:
		return bad[(r >> 16) % (sizeof bad / sizeof *bad)];
	case 7:
		return (uintptr_t)paths[(r >> 16) % (sizeof paths / sizeof *paths)];
	case 8:
		return (uintptr_t)pages + PAGE - (r >> 16) % 80; /* ends in what cannot be written */
	case 9:
		return (uintptr_t)pages + 2 * PAGE - (r >> 16) % 80; /* ends in nothing */
	case 10:
		return 1ull << (r >> 16) % 64;
	case 11:
		return next(s) & next(s);
	case 12:
		return (r >> 16) & 1 ? getpid() : getppid();
	default:
		return (uintptr_t)pages + ((r >> 16) % (PAGE - 512) & ~7ull);
	}
}

static void fill(u64 *s)
{
	u64 *w = (u64 *)pages;
	for (int i = 0; i < 24; i++) {
		u64 r = next(s);
		w[r % (PAGE / 8)] = argument(s);
	}
}

static void nothing(int x) { (void)x; }

/* The descriptors that calls find. */
static void furnish(void)
{
	int p[2], s[2];
	mkdir("/tmp/fz", 0777), mkdir("/tmp/fz/d", 0777);
	for (int i = 3; i < 48; i++)
		close(i);
	if (pipe2(p, O_NONBLOCK) || pipe(p) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s)) {
	}
	open("/tmp/fz/a", O_RDWR | O_CREAT, 0666);
	open("/tmp/fz", O_RDONLY | O_DIRECTORY);
	open("/dev/null", O_RDWR);
	open("/proc/self/maps", O_RDONLY);
	eventfd(1, EFD_NONBLOCK);
	epoll_create1(0);
	timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	memfd_create("fz", MFD_ALLOW_SEALING);
	char params[120] = {0};
	syscall(SYS_io_uring_setup, 8, params);
	syscall(SYS_inotify_init1, O_NONBLOCK);
	socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	syscall(SYS_pidfd_open, getpid(), 0);
	socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0);
	int c = syscall(SYS_fsopen, "tmpfs", 0); /* root's, as what follows */
	if (c >= 0) {
		syscall(SYS_fsconfig, c, 6, 0, 0, 0); /* FSCONFIG_CMD_CREATE */
		syscall(SYS_fsmount, c, 0, 0);
	}
	socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0) < 0) /* root's */
		socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	open("/proc/self/ns/user", O_RDONLY);
	open("/proc/self/ns/mnt", O_RDONLY);
	open("/proc/self/ns/pid_for_children", O_RDONLY);
	memfd_create("fz", MFD_HUGETLB | MFD_ALLOW_SEALING);
	open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	struct ifreq r = {.ifr_name = "fz%d", .ifr_flags = IFF_TAP | IFF_VNET_HDR};
	int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (!ioctl(tap, TUNSETIFF, &r)) { /* root's */
		r.ifr_flags = IFF_UP;
		ioctl(s[0], SIOCSIFFLAGS, &r);
	}
}

struct work {
	struct slot *slot;
	u64 state;
	int root, chosen;
};

static int alone; /* the pid of the worker: whoever else returns from a call is a child */

static void one(struct work *w, int nr, const u64 *a)
{
	if (IN(never, nr) || (w->root && (IN(notroot, nr) || owns(nr, (uint32_t)a[1]))))
		return;
	if (nr == SYS_clone && a[0] & CLONE_VM) /* two on one stack */
		return;
	if (replay) {
		char b[160];
		int n = snprintf(b, sizeof b, "%d(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)\n", nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		if (write(2, b, n) < 0)
			_exit(9);
	}
	volatile u64 *now = w->slot->now[!w->chosen];
	for (int i = 0; i < 6; i++)
		now[i + 1] = a[i];
	now[0] = nr;
	syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (getpid() != alone)
		_exit(0);
	w->slot->calls++;
}

/* Submits up to four random requests to the worker's ring, a descriptor that is one by chance: what lies in its memory is random too. */
static void submit(struct work *w)
{
	u64 s = w->state;
	for (int fd = 3; fd < 32; fd++) {
		char *sq = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		char *sqes = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0x10000000);
		if (sq != MAP_FAILED && sqes != MAP_FAILED) {
			uint32_t n = next(&s) % 5, *tail = (uint32_t *)(sq + 64);
			for (uint32_t i = 0; i < n; i++) {
				u64 *e = (u64 *)(sqes + 64 * (i % 8));
				for (int k = 0; k < 8; k++)
					e[k] = argument(&s);
				e[0] = next(&s) % 56 | (next(&s) & next(&s) & next(&s) & 0x3f) << 8 | (next(&s) % 4 ? 0 : next(&s) % 8) << 16 | (next(&s) % 28) << 32;
				e[3] &= 0xfff;                /* length and flags */
				if (next(&s) % 2)
					e[3] &= 0xffffffff, e[5] = next(&s) % 4; /* the buffer's number */
			}
			*tail += n;
			u64 a[6] = {fd, n, next(&s) % 2, next(&s) % 4 ? 0 : 1, 0, 0};
			w->state = s;
			one(w, SYS_io_uring_enter, a);
		}
		if (sq != MAP_FAILED)
			munmap(sq, PAGE);
		if (sqes != MAP_FAILED)
			munmap(sqes, PAGE);
	}
}

static void *thread(void *v)
{
	struct work *w = v;
	u64 a[6];
	for (int n = 0;; n++) {
		if (n % 8 == 0)
			fill(&w->state);
		if (n % 512 == 0 && w->chosen)
			furnish();
		if (n % 64 == 32 && w->chosen)
			submit(w);
		for (int i = 0; i < 6; i++)
			a[i] = argument(&w->state);
		u64 r = next(&w->state);
		int nr = r % 4 ? (int)((r >> 8) % CALLS) : hints[(r >> 8) % (sizeof hints / sizeof *hints)].nr;
		hint(&w->state, nr, a);
		one(w, nr, a);
	}
	return 0;
}

/* Every bad pointer in every argument of every call. */
static void pointers(struct work *w)
{
	u64 a[6];
	int share = w->slot - slots;
	for (int nr = share; nr < CALLS; nr += MAXPROC)
		for (int at = 0; at < 6; at++)
			for (unsigned k = 0; k < sizeof bad / sizeof *bad; k++) {
				for (int i = 0; i < 6; i++)
					a[i] = argument(&w->state);
				a[at] = bad[k];
				one(w, nr, a);
			}
}

/* The watcher ignores what it can: a worker may join its process group, be stopped there and be orphaned, and the group gets SIGHUP. */
static void ignore(void (*how)(int))
{
	for (int i = 1; i <= SIGRTMAX; i++)
		if (i != SIGALRM && i != SIGCHLD && i != SIGSEGV && i != SIGBUS && i != SIGILL && i != SIGFPE && i != SIGABRT)
			signal(i, how);
}

static void say(const char *what)
{
	if (write(1, what, strlen(what)) < 0)
		_exit(6);
}

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		say("fuzz: no user namespace\n");
	close(fd);
}

/* Makes the worker, an ordinary user, root in namespaces of its own, where it may mount, umount and the like. */
static void apart(u64 choice)
{
	prctl(PR_SET_DUMPABLE, 1);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | (choice & 1 ? CLONE_NEWNET : 0) | (choice & 2 ? CLONE_NEWPID : 0)))
		return;
	put("/proc/self/setgroups", "deny");
	put("/proc/self/uid_map", "0 65534 1");
	put("/proc/self/gid_map", "0 65534 1");
}

static void worker(struct slot *slot)
{
	ignore(SIG_DFL);
	int n = slot - slots;
	struct work w[2];
	struct itimerval often = {{0, 20000}, {0, 20000}};
	struct sigaction sa = {.sa_handler = nothing};
	struct rlimit few = {64, 64}, files = {256, 256}, size = {64 << 20, 64 << 20};
	pthread_t t;
	for (int i = 0; i < 2; i++)
		w[i] = (struct work){slot, seed + 1000003ull * n + 7919ull * slot->generation + 31 * i, n % 4 == 3, i == 0};
	alone = getpid();
	pages = mmap((void *)0x10000000, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mprotect(pages + PAGE, PAGE, PROT_READ);
	mprotect(pages + 2 * PAGE, PAGE, PROT_NONE);
	sigaction(SIGALRM, &sa, 0);
	setitimer(ITIMER_REAL, &often, 0);
	furnish();
	setrlimit(RLIMIT_NPROC, &few), setrlimit(RLIMIT_NOFILE, &files), setrlimit(RLIMIT_FSIZE, &size);
	if (!w[0].root && (setgid(65534) || setuid(65534)))
		_exit(8);
	if (n % 4 == 2)
		apart(slot->generation);
	if (slot->generation == 0)
		pointers(&w[0]);
	if (!replay)
		pthread_create(&t, 0, thread, &w[1]);
	thread(&w[0]);
}

/* Says that a worker does not die, and in which calls it is. */
static void immortal(struct slot *s)
{
	char b[300];
	for (int i = 0; i < 2; i++) {
		volatile u64 *n = s->now[i];
		snprintf(b, sizeof b, "\nfuzz: worker %d, generation %d, does not die: thread %d is in call %lu(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)\n", (int)(s - slots), s->generation, i, n[0], n[1], n[2], n[3],
		         n[4], n[5], n[6]);
		say(b);
	}
	snprintf(b, sizeof b, "/proc/%d/status", s->pid);
	int fd = open(b, O_RDONLY), n;
	while ((n = read(fd, b, sizeof b)) > 0)
		if (write(1, b, n) < 0)
			break;
	_exit(1);
}

static void start(struct slot *s)
{
	s->seen = s->calls, s->stuck = 0;
	pid_t p = fork();
	if (p == 0) {
		if (setpgid(0, 0))
			_exit(7);
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0), dup2(null, 1);
		if (!replay)
			dup2(null, 2);
		worker(s);
	}
	s->pid = p;
	if (p < 0)
		s->pid = 0;
}

static void alive(void)
{
	int p[2];
	char c = 'x';
	if (pipe(p) != 0)
		return; /* the workers may have all of it */
	pid_t pid = fork();
	if (pid == 0)
		_exit(write(p[1], &c, 1) != 1);
	if (pid > 0) {
		if (read(p[0], &c, 1) != 1)
			say("fuzz: a child wrote nothing\n");
		while (waitpid(pid, 0, 0) < 0 && errno == EINTR)
			;
	}
	close(p[0]), close(p[1]);
}

int main(int argc, char **argv)
{
	char b[100];
	int seconds = argc > 2 ? atoi(argv[2]) : 10, procs = argc > 3 ? atoi(argv[3]) : 4;
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	seed = argc > 1 ? strtoull(argv[1], 0, 0) : 0;
	if (seed == 0)
		seed = t.tv_nsec * 1000003ull ^ t.tv_sec;
	slots = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(b, sizeof b, "fuzz: seed %#lx\n", seed);
	say(b);
	if (argc > 4) {
		replay = 1;
		slots[procs].generation = atoi(argv[4]);
		worker(&slots[procs]);
	}
	if (procs > MAXPROC)
		procs = MAXPROC;
	ignore(SIG_IGN);
	for (int i = 0; i < procs; i++)
		start(&slots[i]);
	u64 calls = 0, deaths = 0;
	clock_gettime(CLOCK_MONOTONIC, &t);
	for (long tick = 0, end = t.tv_sec + seconds; t.tv_sec < end; tick++, clock_gettime(CLOCK_MONOTONIC, &t)) {
		alarm(120);
		usleep(250000);
		pid_t pid;
		int status;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			for (int i = 0; i < procs; i++)
				if (slots[i].pid == pid) {
					deaths++;
					slots[i].generation++;
					start(&slots[i]);
				}
		for (int i = 0; i < procs; i++) {
			struct slot *s = &slots[i];
			if (!s->pid)
				start(s);
			else if (s->calls != s->seen)
				s->seen = s->calls, s->stuck = 0;
			else if (++s->stuck == 8) /* waits for something that does not come, or is stopped */
				kill(s->pid, SIGKILL);
			else if (s->stuck > 120)
				immortal(s);
		}
		if (tick % 4 == 0)
			alive();
	}
	alarm(60);
	for (int i = 0; i < procs; i++) {
		calls += slots[i].calls;
		if (slots[i].pid > 0)
			kill(slots[i].pid, SIGKILL);
	}
	/* Whoever asked to be traced is the watcher's to wait for too, a thread before its process. */
	for (int left = procs, n = 0; left > 0; n++, usleep(100000)) {
		for (pid_t pid; (pid = waitpid(-1, 0, WNOHANG)) > 0;)
			for (int i = 0; i < procs; i++)
				if (slots[i].pid == pid)
					slots[i].pid = 0;
		left = 0;
		for (int i = 0; i < procs; i++)
			if (slots[i].pid > 0) {
				left++;
				if (n > 300)
					immortal(&slots[i]);
			}
	}
	snprintf(b, sizeof b, "\nfuzz: %lu calls, %lu workers died\nfuzz: done\n", calls, deaths);
	say(b);
	return calls < 1000;
}
