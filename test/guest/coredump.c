/* coredump.c - core files: core(5), elf(5). Where the pattern names a program or another directory, as on some hosts, the tests say nothing. */
#include "check.h"
#include <elf.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/procfs.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGE 4096ul

/* What the program that dies tells the one that looks. */
static struct shared {
	char *text, *hidden, *file, *stack;	/* addresses */
	int threads, spinning[3];
	pid_t died, others[3];
} *told;

#define ROOM (16ul << 20)
static char dir[64], *image;	/* which is not in the children */
static long length;

static int usable(void)
{
	char b[64] = "";
	for (int i = 0; i < 2; i++) {
		int fd = open(i ? "/proc/sys/kernel/core_uses_pid" : "/proc/sys/kernel/core_pattern", O_RDONLY);
		memset(b, 0, sizeof b);
		if (fd < 0 || read(fd, b, sizeof b - 1) < 0 || strcmp(b, i ? "0\n" : "core\n"))
			return 0;
		close(fd);
	}
	struct rlimit l;
	return getrlimit(RLIMIT_CORE, &l) == 0 && l.rlim_max == RLIM_INFINITY;
}

/* In a directory of its own, a child with the limit calls f, which dies. The result is its status; image is the file, length -1 for none. */
static int crash(rlim_t limit, void (*f)(void))
{
	if (!told) {
		told = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		image = mmap(0, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		madvise(image, ROOM, MADV_DONTFORK);
	}
	if (!dir[0]) {
		strcpy(dir, "/tmp/dumpXXXXXX");
		if (!mkdtemp(dir))
			return -1;
	}
	pid_t p = fork();
	if (p == 0) {
		struct rlimit l = {limit, limit};
		if (chdir(dir) || setrlimit(RLIMIT_CORE, &l))
			_exit(1);
		f();
		_exit(2);
	}
	siginfo_t info = {0};
	waitid(P_PID, p, &info, WEXITED | WNOWAIT);
	int s;
	if (waitpid(p, &s, 0) != p)
		return -1;
	if (WIFSIGNALED(s))
		SAME(info.si_code, WCOREDUMP(s) ? CLD_DUMPED : CLD_KILLED);
	char path[80];
	snprintf(path, sizeof path, "%s/core", dir);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	length = -1;
	if (fd >= 0) {
		length = read(fd, image, ROOM);
		close(fd);
	}
	return s;
}

static void leave(void)
{
	char path[80];
	snprintf(path, sizeof path, "%s/core", dir);
	unlink(path);
	EXPECT(rmdir(dir), 0);
	dir[0] = 0;
}

static Elf64_Phdr *phdr(int i) { return (Elf64_Phdr *)(image + ((Elf64_Ehdr *)image)->e_phoff) + i; }

/* The bytes at an address, as far as the file has them. */
static char *memory(void *addr)
{
	for (int i = 0; i < ((Elf64_Ehdr *)image)->e_phnum; i++) {
		Elf64_Phdr *p = phdr(i);
		u64 a = (u64)addr;
		if (p->p_type == PT_LOAD && a >= p->p_vaddr && a < p->p_vaddr + p->p_filesz && p->p_offset + (a - p->p_vaddr) < (u64)length)
			return image + p->p_offset + (a - p->p_vaddr);
	}
	return NULL;
}

/* The nth note of a type. */
static void *note(u32 type, int n, u32 *size)
{
	Elf64_Phdr *p = phdr(0);
	if (p->p_type != PT_NOTE)
		return NULL;
	for (char *at = image + p->p_offset, *end = at + p->p_filesz; at < end;) {
		Elf64_Nhdr *h = (Elf64_Nhdr *)at;
		char *desc = at + sizeof *h + ((h->n_namesz + 3) & ~3u);
		if (h->n_type == type && n-- == 0) {
			*size = h->n_descsz;
			return desc;
		}
		at = desc + ((h->n_descsz + 3) & ~3u);
	}
	return NULL;
}

static pthread_barrier_t started;

static char stacks[3][1 << 16] __attribute__((aligned(64)));

static void *spin(void *arg)
{
	told->others[(long)arg] = syscall(SYS_gettid);
	pthread_barrier_wait(&started);
	__asm__ volatile("mov %0, %%r12; movl $1, (%1); 1: pause; jmp 1b" : : "r"(0x1234560 + (long)arg), "r"(&told->spinning[(long)arg]) : "r12", "memory");
	return NULL;
}

static void die(void)
{
	char here[32] = "on the stack";
	told->stack = here;
	told->text = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	strcpy(told->text + 40 * PAGE, "in memory");
	told->hidden = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	strcpy(told->hidden, "hidden");
	madvise(told->hidden, PAGE, MADV_DONTDUMP);
	mprotect(told->text, 1 << 20, PROT_NONE);	/* is dumped all the same */
	memset(told->spinning, 0, sizeof told->spinning);
	pthread_barrier_init(&started, NULL, told->threads + 1);
	for (long i = 0; i < told->threads; i++) {
		pthread_t t;
		pthread_attr_t a;
		pthread_attr_init(&a);
		pthread_attr_setstack(&a, stacks[i], sizeof stacks[i]);
		pthread_create(&t, &a, spin, (void *)i);
	}
	pthread_barrier_wait(&started);
	for (int i = 0; i < told->threads; i++)
		while (!__atomic_load_n(&told->spinning[i], __ATOMIC_SEQ_CST))
			sleep_ms(1);
	told->died = syscall(SYS_gettid);
	__asm__ volatile("mov %0, %%r12; movl $1, 0x123" : : "r"(0x7654321l) : "r12", "memory");
}

static void die_alone(void)
{
	told->threads = 0;
	die();
}

TEST(registers_and_memory)
{
	if (!usable())
		return;
	crash(0, die_alone);
	told->threads = 3;
	int s = crash(RLIM_INFINITY, die);
	SAME(s, SIGSEGV | 0x80);
	NEED(length > 0);
	Elf64_Ehdr *e = (Elf64_Ehdr *)image;
	CHECK(!memcmp(e->e_ident, ELFMAG, SELFMAG) && e->e_type == ET_CORE && e->e_machine == EM_X86_64);
	int found = 0;
	u32 size;
	for (int i = 0; i < 4; i++) {
		struct elf_prstatus *r = note(NT_PRSTATUS, i, &size);
		NEED(r && size == sizeof *r);
		struct user_regs_struct regs;
		memcpy(&regs, r->pr_reg, sizeof regs);
		SAME(r->pr_cursig, SIGSEGV);
		if (i == 0) {
			SAME(r->pr_pid, told->died);
			SAME(regs.r12, 0x7654321);
		}
		for (int j = 0; i > 0 && j < 3; j++)
			found += r->pr_pid == told->others[j] && regs.r12 == 0x1234560u + j;
		CHECK(note(NT_FPREGSET, i, &size) && size == 512);
	}
	SAME(found, 3);
	CHECK(!note(NT_PRSTATUS, 4, &size));
	siginfo_t *info = note(NT_SIGINFO, 0, &size);
	NEED(info && size == sizeof *info);
	SAME(info->si_signo, SIGSEGV);
	SAME(info->si_code, SEGV_MAPERR);
	SAME(info->si_addr, 0x123);
	struct elf_prpsinfo *ps = note(NT_PRPSINFO, 0, &size);
	NEED(ps && size == sizeof *ps);
	SAME(ps->pr_uid, getuid());
	CHECK(!strncmp(ps->pr_fname, "coredump", 8) && strstr(ps->pr_psargs, "coredump"));
	CHECK(note(NT_AUXV, 0, &size) && size > 16);
	CHECK(note(NT_FILE, 0, &size) && size > 16);
	char *m = memory(told->text + 40 * PAGE);
	CHECK(m && !strcmp(m, "in memory"));
	m = memory(told->text + 39 * PAGE);
	CHECK(m && !*m);
	m = memory(told->stack);
	CHECK(m && !strcmp(m, "on the stack"));
	CHECK(!memory(told->hidden));
	leave();
}

static void aborts(void) { abort(); }
static void undumpable(void) { prctl(PR_SET_DUMPABLE, 0); abort(); }
static void terminated(void) { raise(SIGTERM); }

static void filtered(void)
{
	struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog p = {4, f};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p);
	syscall(SYS_getppid);
}

TEST(when)
{
	if (!usable())
		return;
	SAME(crash(0, aborts), SIGABRT);
	SAME(length, -1);
	SAME(crash(RLIM_INFINITY, undumpable), SIGABRT);
	SAME(length, -1);
	SAME(crash(RLIM_INFINITY, terminated), SIGTERM);
	SAME(length, -1);
	SAME(crash(PAGE - 1, aborts), SIGABRT);
	SAME(length, -1);
	SAME(crash(2 * PAGE, aborts), SIGABRT | 0x80);	/* cut */
	CHECK(length > 0 && length < (long)(4 * PAGE));	/* holes do not count */
	SAME(crash(RLIM_INFINITY, aborts), SIGABRT | 0x80);
	CHECK(length > 0);
	SAME(crash(RLIM_INFINITY, filtered), SIGSYS | 0x80);
	u32 size;
	siginfo_t *info = note(NT_SIGINFO, 0, &size);
	NEED(info);
	SAME(info->si_syscall, SYS_getppid);
	leave();
}

TEST(where)
{
	if (!usable())
		return;
	crash(RLIM_INFINITY, aborts);
	char core[80], other[80];
	snprintf(core, sizeof core, "%s/core", dir);
	snprintf(other, sizeof other, "%s/other", dir);
	struct stat st;
	EXPECT(stat(core, &st), 0);
	SAME(st.st_mode, S_IFREG | 0600);
	EXPECT(link(core, other), 0);
	ino_t before = st.st_ino;
	SAME(crash(RLIM_INFINITY, aborts), SIGABRT | 0x80);	/* a new file each time */
	EXPECT(stat(other, &st), 0);
	CHECK(st.st_ino == before && st.st_nlink == 1);
	EXPECT(truncate(other, 0), 0);
	EXPECT(unlink(core), 0);
	EXPECT(symlink("other", core), 0);
	SAME(crash(RLIM_INFINITY, aborts), SIGABRT | 0x80);
	CHECK(length > 0);
	EXPECT(stat(other, &st), 0);
	SAME(st.st_size, 0);
	EXPECT(unlink(core), 0);
	EXPECT(unlink(other), 0);
	EXPECT(mkfifo(core, 0600), 0);
	SAME(crash(RLIM_INFINITY, aborts), SIGABRT | 0x80);
	CHECK(length > 0);
	EXPECT(unlink(core), 0);
	EXPECT(mkdir(core, 0700), 0);
	SAME(crash(RLIM_INFINITY, aborts), SIGABRT);
	EXPECT(rmdir(core), 0);
	leave();
}

static void set_filter(const char *bits)
{
	int fd = open("/proc/self/coredump_filter", O_WRONLY);
	if (write(fd, bits, strlen(bits)) < 0)
		_exit(1);
	close(fd);
}

static void without_memory(void)
{
	set_filter("0x10");
	die_alone();
}

static void in_child(void)
{
	char b[16] = "";
	set_filter("0x133\n");
	pid_t p = fork();
	if (p == 0) {
		int fd = open("/proc/self/coredump_filter", O_RDONLY);
		if (read(fd, b, 15) != 9)
			_exit(1);
		_exit(strcmp(b, "00000133\n") != 0);
	}
	int s;
	waitpid(p, &s, 0);
	_exit(WEXITSTATUS(s));
}

TEST(filter)
{
	SAME(crash(0, in_child), 0);
	if (!usable()) {
		leave();
		return;
	}
	SAME(crash(RLIM_INFINITY, without_memory), SIGSEGV | 0x80);
	CHECK(!memory(told->text + 40 * PAGE) && !memory(told->stack));
	u32 size;
	CHECK(note(NT_PRSTATUS, 0, &size));
	leave();
}

static void die_apart(void)
{
	told = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	told->threads = 3;
	die();
}

/* SIGKILL ends threads that wait for a dump, and others go on meanwhile. */
TEST(many_at_once)
{
	if (!usable())
		return;
	crash(RLIM_INFINITY, aborts);
	leave();
	pid_t p[12];
	char d[12][24], core[320];
	for (int i = 0; i < 12; i++) {
		strcpy(d[i], "/tmp/dumpXXXXXX");
		NEED(mkdtemp(d[i]));
		if ((p[i] = fork()) == 0) {
			struct rlimit l = {RLIM_INFINITY, RLIM_INFINITY};
			setrlimit(RLIMIT_CORE, &l);
			if (chdir(d[i]))
				_exit(1);
			if (i % 2 == 0)
				die_apart();
			if (fork() == 0)
				die_apart();
			wait(NULL);
			_exit(0);
		}
		kill(p[i], i % 6 == 0 ? SIGKILL : 0);
	}
	for (int i = 0; i < 12; i++) {
		int s;
		SAME(waitpid(p[i], &s, 0), p[i]);
		CHECK(i % 2 ? s == 0 : WIFSIGNALED(s) && (WTERMSIG(s) == SIGSEGV || (i % 6 == 0 && WTERMSIG(s) == SIGKILL)));
		snprintf(core, sizeof core, "%s/core", d[i]);
		unlink(core);
		EXPECT(rmdir(d[i]), 0);
	}
}
