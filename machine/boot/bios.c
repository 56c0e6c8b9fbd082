// The BIOS loader: reads the kernel from the disk it was booted from.
#include "load.h"

struct params params = {.magic = "gosv boot params"};
struct start_info start;
extern uint8_t drive;

// Registers of a call, as PUSHAL leaves them, and the flags afterwards.
struct registers {
	uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax, flags;
};
extern void bios(int n, struct registers *r);

enum { CARRY = 1, MAX_RANGES = 128, SECTOR = 512, BOUNCE = 0x20000, BOUNCE_SECTORS = 64 };

static struct memory_range map[MAX_RANGES];
static uint8_t head[MAX_HEADERS];

static void __attribute__((noreturn)) fail(const char *message) {
	for (const char *p = message; *p; p++) {
		struct registers r = {.eax = 0x0e00 | (uint8_t)*p, .ebx = 7};
		bios(0x10, &r);
		while (!(({ uint8_t v; __asm__ volatile("inb %w1, %0" : "=a"(v) : "Nd"(0x3fd)); v; }) & 0x20))
			;
		__asm__ volatile("outb %0, %w1" : : "a"(*p), "Nd"(0x3f8));
	}
	for (;;)
		__asm__ volatile("cli; hlt");
}

// sectors reads sectors of the disk to the bounce buffer.
static void sectors(uint64_t first, uint16_t count) {
	static struct {
		uint8_t size, zero;
		uint16_t count, offset, segment;
		uint64_t first;
	} packet;
	for (int tries = 3; tries > 0; tries--) {
		packet.size = sizeof packet;
		packet.count = count;
		packet.offset = 0;
		packet.segment = BOUNCE >> 4;
		packet.first = first;
		struct registers r = {.eax = 0x4200, .edx = drive, .esi = (uintptr_t)&packet};
		bios(0x13, &r);
		if (!(r.flags & CARRY))
			return;
	}
	fail("gosv: the disk cannot be read\r\n");
}

// file reads bytes of the kernel's file.
static void file(uint64_t offset, uint8_t *to, uint32_t n) {
	while (n > 0) {
		uint32_t within = offset % SECTOR, most = BOUNCE_SECTORS * SECTOR - within, part = n < most ? n : most;
		sectors(params.kernel + (offset >> 9), (within + part + SECTOR - 1) / SECTOR);
		copy(to, (uint8_t *)BOUNCE + within, part);
		offset += part;
		to += part;
		n -= part;
	}
}

// memory asks for the memory map (ACPI 6.4 §15.1).
static int memory(void) {
	static struct memory_range range;
	struct registers r = {0};
	int n = 0;
	do {
		r.eax = 0xe820;
		r.edx = 0x534d4150;
		r.ecx = 20;
		r.edi = (uintptr_t)&range;
		bios(0x15, &r);
		if (r.flags & CARRY || r.eax != 0x534d4150)
			break;
		if (range.size > 0)
			map[n++] = range;
	} while (r.ebx != 0 && n < MAX_RANGES);
	return n;
}

// fits says whether memory has room for a segment.
static int fits(const struct elf_segment *s, int ranges) {
	for (int i = 0; i < ranges; i++)
		if (map[i].type == RAM && map[i].addr <= s->paddr && s->paddr + s->memsz <= map[i].addr + map[i].size)
			return 1;
	return 0;
}

static uintptr_t scan(uintptr_t from, uintptr_t to) {
	for (; from < to; from += 16) {
		const uint8_t *p = (const uint8_t *)from;
		uint8_t sum = 0;
		for (int i = 0; i < 20; i++)
			sum += p[i];
		if (sum == 0 && equal(p, "RSD PTR ", 8))
			return from;
	}
	return 0;
}

// rsdp looks for the root of the ACPI tables (ACPI 6.4 §5.2.5.1).
static uintptr_t rsdp(void) {
	volatile uint16_t *ebda = (uint16_t *)0x40e;
	__asm__("" : "+r"(ebda)); // an address below the first page is meant
	uintptr_t area = (uintptr_t)*ebda << 4, found = 0;
	if (area >= 0x80000 && area < 0xa0000)
		found = scan(area, area + 1024);
	return found ? found : scan(0xe0000, 0x100000);
}

uint32_t load(void) {
	const struct elf_header *h = (const void *)head;
	int ranges = memory();
	if (ranges == 0)
		fail("gosv: the BIOS has no memory map\r\n");
	file(0, head, MAX_HEADERS);
	if (!headers(head, params.size))
		fail("gosv: the kernel on the disk is damaged\r\n");
	const struct elf_segment *s = (const void *)(head + h->phoff);
	for (int i = 0; i < h->phnum; i++, s++) {
		if (s->type != PT_LOAD)
			continue;
		if (!fits(s, ranges))
			fail("gosv: not enough memory for the kernel\r\n");
		file(s->offset, (uint8_t *)(uintptr_t)s->paddr, s->filesz);
		zero((uint8_t *)(uintptr_t)(s->paddr + s->filesz), s->memsz - s->filesz);
	}
	describe(&start, map, ranges, (uintptr_t)params.command_line, rsdp());
	return h->entry;
}
