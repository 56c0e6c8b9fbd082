/* check.c - main of a self-checking guest program; see check.h. */
#include "check.h"
#include <sys/mman.h>
#include <ucontext.h>

struct check_test check_tests[256];
int check_ntests;
const char *check_current = "start";
int check_failures;

sigjmp_buf trap_jmp;
siginfo_t trap_info;
u64 trap_regs[23];

static const int trap_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
#define NTRAP (int)(sizeof trap_signals / sizeof *trap_signals)
static struct sigaction trap_old[NTRAP];
static stack_t trap_oldstack;

static void on_trap(int sig, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	/* Linux leaves AC as it was: an unaligned access in here would trap again. */
	__asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
	trap_info = *si;
	for (int i = 0; i < 23; i++)
		trap_regs[i] = (u64)uc->uc_mcontext.gregs[i];
	siglongjmp(trap_jmp, sig);
}

int trap_begin(void)
{
	static char *stack;
	if (!stack) {
		stack = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (stack == MAP_FAILED)
			_exit(98);
	}
	stack_t ss = {.ss_sp = stack, .ss_size = 65536};
	sigaltstack(&ss, &trap_oldstack);
	struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	memset(&trap_info, 0, sizeof trap_info);
	for (int i = 0; i < NTRAP; i++)
		sigaction(trap_signals[i], &sa, &trap_old[i]);
	return 0;
}

void trap_end(void)
{
	/* A forged frame may have left a strange flag behind. */
	__asm__ volatile("cld" ::: "memory");
	for (int i = 0; i < NTRAP; i++)
		sigaction(trap_signals[i], &trap_old[i], 0);
	sigaltstack(&trap_oldstack, 0);
}

static int wanted(int argc, char **argv, const char *name)
{
	if (argc < 2)
		return 1;
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "-l")) {
		for (int i = 0; i < check_ntests; i++)
			say("%s", check_tests[i].name);
		return 0;
	}
	int ran = 0;
	for (int i = 0; i < check_ntests; i++) {
		if (!wanted(argc, argv, check_tests[i].name))
			continue;
		int before = check_failures;
		check_current = check_tests[i].name;
		if (getenv("CHECK_VERBOSE"))
			say("# %s", check_current);
		check_tests[i].fn();
		ran++;
		if (check_failures == before)
			say("ok %s", check_current);
	}
	if (!ran) {
		say("no such test");
		return 2;
	}
	say("%s: %d tests, %d failures", check_failures ? "FAILED" : "PASSED", ran, check_failures);
	return check_failures ? 1 : 0;
}
