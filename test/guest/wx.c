/* wx.c - what is writable and executable: code, data, stack, heap, the program's own pages. */
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>

static u8 ret42[] = {0xb8, 42, 0, 0, 0, 0xc3};	/* mov eax, 42; ret */
static const u8 constant[16] = {1};

static int call(void *p)
{
	return ((int (*)(void))p)();
}

TEST(code_is_not_writable)
{
	TRAPS(*(volatile u8 *)(u64)call = 0xcc, SIGSEGV, SEGV_ACCERR);
	TRAPS(*(volatile u8 *)constant = 2, SIGSEGV, SEGV_ACCERR);
}

TEST(data_stack_and_heap_are_not_executable)
{
	u8 here[16];
	u8 *h = malloc(16);
	memcpy(here, ret42, sizeof ret42);
	memcpy(h, ret42, sizeof ret42);
	TRAPS(call(ret42), SIGSEGV, SEGV_ACCERR);
	SAME((u64)trap_info.si_addr, (u64)ret42);
	TRAPS(call(here), SIGSEGV, SEGV_ACCERR);
	TRAPS(call(h), SIGSEGV, SEGV_ACCERR);
	free(h);
}

TEST(just_in_time)
{
	u8 *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != MAP_FAILED);
	memcpy(p, ret42, sizeof ret42);
	CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
	volatile int got = 0;
	TRAPS(got = call(p), 0, 0);
	SAME(got, 42);
	TRAPS(*(volatile u8 *)p = 0xcc, SIGSEGV, SEGV_ACCERR);
	/* New code at the same place is seen. */
	CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
	p[1] = 43;
	CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
	TRAPS(got = call(p), 0, 0);
	SAME(got, 43);
	munmap(p, 4096);
}

TEST(writable_and_executable_when_asked_for)
{
	u8 *p = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != MAP_FAILED);
	volatile int got = 0;
	for (int i = 0; i < 100; i++) {
		memcpy(p, ret42, sizeof ret42);
		p[1] = (u8)i;
		TRAPS(got = call(p), 0, 0);
		SAME(got, i);
	}
	munmap(p, 4096);
}

/* Each PT_LOAD has exactly its rights. */
TEST(segments_have_their_rights)
{
	const Elf64_Phdr *ph = (void *)getauxval(AT_PHDR);
	u64 n = getauxval(AT_PHNUM), base = 0;
	for (u64 i = 0; i < n; i++)
		if (ph[i].p_type == PT_PHDR)
			base = (u64)ph - ph[i].p_vaddr;
	int relro = 0;
	for (u64 i = 0; i < n; i++) {
		if (ph[i].p_type == PT_GNU_RELRO)
			relro = 1;
		if (ph[i].p_type == PT_GNU_STACK)
			CHECK(!(ph[i].p_flags & PF_X));
		if (ph[i].p_type != PT_LOAD)
			continue;
		u8 *p = (u8 *)(base + ph[i].p_vaddr);
		TRAPS((void)*(volatile u8 *)p, 0, 0);
		if (!(ph[i].p_flags & PF_W))
			TRAPS(*(volatile u8 *)p = *p, SIGSEGV, SEGV_ACCERR);
		if (!(ph[i].p_flags & PF_X))
			TRAPS(call(p), SIGSEGV, SEGV_ACCERR);
	}
	(void)relro;
}
