/*
 * entry.c - no C library: what the kernel hands to a program at its first
 * instruction. System V ABI for x86-64, 3.4; getauxval(3).
 */
typedef unsigned long u64;
typedef unsigned int u32;

__asm__(".globl _start\n_start:\n"
	"mov %rsp, %r12\n"
	"pushfq\npop regs+0(%rip)\n"
	"mov %rax, regs+8(%rip)\nmov %rbx, regs+16(%rip)\nmov %rcx, regs+24(%rip)\nmov %rdx, regs+32(%rip)\n"
	"mov %rsi, regs+40(%rip)\nmov %rdi, regs+48(%rip)\nmov %rbp, regs+56(%rip)\nmov %r8, regs+64(%rip)\n"
	"mov %r15, regs+72(%rip)\n"
	"fnstcw fpucw(%rip)\nstmxcsr mxcsr(%rip)\n"
	"mov %cs, %eax\nmov %eax, sel+0(%rip)\nmov %ss, %eax\nmov %eax, sel+4(%rip)\n"
	"mov %ds, %eax\nmov %eax, sel+8(%rip)\nmov %fs, %eax\nmov %eax, sel+12(%rip)\n"
	"mov %r12, %rdi\nand $-16, %rsp\ncall check\nmov %eax, %edi\nmov $231, %eax\nsyscall\n");

u64 regs[10];
unsigned short fpucw;
u32 mxcsr, sel[4];
static int failures;

static long call3(long n, long a, long b, long c)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}

static u64 length(const char *s)
{
	u64 n = 0;
	while (s[n])
		n++;
	return n;
}

static void put(const char *s)
{
	call3(1, 1, (long)s, (long)length(s));
}

static void ok(int good, const char *what)
{
	put(good ? "ok " : "FAIL ");
	put(what);
	put("\n");
	if (!good)
		failures++;
}

static int equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static u64 aux(u64 *v, u64 type, int *found)
{
	*found = 0;
	for (; v[0]; v += 2)
		if (v[0] == type) {
			*found = 1;
			return v[1];
		}
	return 0;
}

int check(u64 *sp)
{
	extern char _start[], __ehdr_start[];
	int found;
	ok(((u64)sp & 15) == 0, "stack pointer is a multiple of 16");
	ok((regs[0] & 0xdd5) == 0, "arithmetic flags, direction and trap flag are clear");
	ok((regs[0] & 0x3200) == 0x200, "interrupts on, IOPL 0");
	ok(regs[3 + 1] == 0, "rdx is 0: no function for atexit");
	ok(regs[2] == 0 && regs[5] == 0 && regs[6] == 0 && regs[7] == 0 && regs[8] == 0 && regs[9] == 0, "other registers are 0");
	ok(fpucw == 0x37f, "x87 control word is 0x37f");
	ok(mxcsr == 0x1f80, "mxcsr is 0x1f80");
	ok(sel[0] == 0x33 && sel[1] == 0x2b && sel[2] == 0 && sel[3] == 0, "selectors are Linux's");

	u64 argc = sp[0];
	char **argv = (char **)sp + 1, **env = argv + argc + 1, **e = env;
	ok(argc == 3 && argv[3] == 0 && equal(argv[1], "one") && equal(argv[2], ""), "argv");
	while (*e)
		e++;
	ok(e > env, "environment");
	u64 *av = (u64 *)(e + 1);
	ok(aux(av, 6, &found) == 4096, "AT_PAGESZ");
	ok(aux(av, 9, &found) == (u64)_start, "AT_ENTRY");
	ok(aux(av, 3, &found) == (u64)__ehdr_start + *(u64 *)(__ehdr_start + 32), "AT_PHDR");
	ok(aux(av, 4, &found) == 56, "AT_PHENT");
	ok(aux(av, 5, &found) == *(unsigned short *)(__ehdr_start + 56), "AT_PHNUM");
	ok(aux(av, 7, &found) == 0 && found, "AT_BASE is 0 without an interpreter");
	ok(aux(av, 8, &found) == 0 && found, "AT_FLAGS");
	ok(aux(av, 11, &found) == (u64)call3(102, 0, 0, 0) && found, "AT_UID");
	ok(aux(av, 12, &found) == (u64)call3(107, 0, 0, 0) && found, "AT_EUID");
	ok(aux(av, 13, &found) == (u64)call3(104, 0, 0, 0) && found, "AT_GID");
	ok(aux(av, 14, &found) == (u64)call3(108, 0, 0, 0) && found, "AT_EGID");
	ok(aux(av, 17, &found) == 100, "AT_CLKTCK");
	ok(aux(av, 23, &found) == 0 && found, "AT_SECURE");
	u64 random = aux(av, 25, &found);
	ok(random > (u64)sp && (((u64 *)random)[0] | ((u64 *)random)[1]) != 0, "AT_RANDOM points to 16 bytes on the stack");
	char *platform = (char *)aux(av, 15, &found);
	ok(found && equal(platform, "x86_64"), "AT_PLATFORM");
	char *execfn = (char *)aux(av, 31, &found);
	ok(found && equal(execfn, argv[0]), "AT_EXECFN");
	u64 hwcap;
	u32 eax = 1, ebx, ecx, edx;
	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
	hwcap = aux(av, 16, &found);
	ok(found && hwcap == edx, "AT_HWCAP is cpuid 1 edx");
	aux(av, 51, &found);
	ok(found, "AT_MINSIGSTKSZ");
	u64 vdso = aux(av, 33, &found);
	ok(found && (vdso & 4095) == 0 && *(u32 *)vdso == 0x464c457f, "AT_SYSINFO_EHDR is an ELF image");
	/* Strings lie above the vectors, in order, and the file name last. */
	ok(argv[0] > (char *)av && argv[1] == argv[0] + length(argv[0]) + 1 && argv[2] == argv[1] + 4, "strings follow each other");
	ok(env[0] == argv[2] + 1, "environment strings follow the arguments");
	ok(*(u64 *)(execfn + length(execfn) + 1) == 0, "eight zero bytes end the stack");
	u64 end = ((u64)execfn + length(execfn) + 1 + 8);
	ok((end & 4095) == 0, "the stack ends at a page boundary");
	put(failures ? "FAILED\n" : "PASSED\n");
	return failures != 0;
}
