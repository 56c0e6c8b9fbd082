// The UEFI loader (UEFI specification 2.10). The kernel's file lies in a section
// of the same image, so the firmware has read it, and checked its signature,
// before this begins.
#include "load.h"

#define EFIAPI __attribute__((ms_abi))

struct params params = {.magic = "gosv boot params"};
extern uint8_t image_base[] __attribute__((visibility("hidden")));
extern uint8_t handoff[] __attribute__((visibility("hidden"))), handoff_end[] __attribute__((visibility("hidden")));

struct guid { uint32_t a; uint16_t b, c; uint8_t d[8]; };

struct text_output {
	void *reset;
	uint64_t (EFIAPI *output)(struct text_output *, const uint16_t *);
};

struct descriptor {
	uint32_t type, pad;
	uint64_t physical, virtual, pages, attribute;
};

struct boot_services {
	uint8_t header[24];
	void *tpl[2];
	uint64_t (EFIAPI *allocate_pages)(int how, int type, uint64_t pages, uint64_t *address);
	void *free_pages;
	uint64_t (EFIAPI *memory_map)(uint64_t *size, void *map, uint64_t *key, uint64_t *descriptor, uint32_t *version);
	void *others[21];
	uint64_t (EFIAPI *exit)(void *image, uint64_t key);
};
_Static_assert(__builtin_offsetof(struct boot_services, exit) == 232, "EFI_BOOT_SERVICES");

struct system_table {
	uint8_t header[24];
	void *vendor;
	uint64_t revision;
	void *input_handle, *input, *output_handle;
	struct text_output *output;
	void *error_handle, *error, *runtime;
	struct boot_services *boot;
	uint64_t tables;
	struct { struct guid id; uint64_t address; } *table;
};
_Static_assert(__builtin_offsetof(struct system_table, table) == 112, "EFI_SYSTEM_TABLE");

enum {
	ALLOCATE_MAX = 1, LOADER_CODE = 1, // EFI_ALLOCATE_TYPE, EFI_MEMORY_TYPE
	LOAD_ERROR = 1, MAX_RANGES = 128, PAGE = 4096,
	AREA_PAGES = 32, CODE = 0, COMMAND = 1 * PAGE, INFO = 2 * PAGE, RANGES = 3 * PAGE, EFI_MAP = 6 * PAGE,
};

// kind is the E820 type of a type of memory once the firmware has left.
static uint32_t kind(uint32_t type) {
	switch (type) {
	case 1: case 2: case 3: case 4: case 7:
		return RAM;
	case 8:
		return UNUSABLE;
	case 9:
		return ACPI;
	case 10:
		return NVS;
	}
	return RESERVED;
}

// add puts a range into the map, which is sorted, and joins equal neighbours.
static int add(struct memory_range *map, int n, uint64_t addr, uint64_t size, uint32_t type) {
	int i = n;
	while (i > 0 && map[i - 1].addr > addr)
		i--;
	if (i > 0 && map[i - 1].type == type && map[i - 1].addr + map[i - 1].size == addr) {
		map[i - 1].size += size;
		if (i < n && map[i].type == type && map[i - 1].addr + map[i - 1].size == map[i].addr) {
			map[i - 1].size += map[i].size;
			for (n--; i < n; i++)
				map[i] = map[i + 1];
		}
		return n;
	}
	if (i < n && map[i].type == type && addr + size == map[i].addr) {
		map[i].addr = addr;
		map[i].size += size;
		return n;
	}
	if (n == MAX_RANGES)
		return n;
	for (int j = n; j > i; j--)
		map[j] = map[j - 1];
	map[i] = (struct memory_range){addr, size, type, 0};
	return n + 1;
}

// convert makes an E820 map of the firmware's. What it keeps for its own wake
// from sleep in the first 16 MiB is memory: the kernel, which is linked there, does not sleep.
static int convert(struct memory_range *map, const uint8_t *from, uint64_t size, uint64_t step) {
	int n = 0;
	for (uint64_t at = 0; at + step <= size; at += step) {
		const struct descriptor *d = (const void *)(from + at);
		uint32_t type = kind(d->type);
		if (type == NVS && d->physical + d->pages * PAGE <= 16 << 20)
			type = RAM;
		n = add(map, n, d->physical, d->pages * PAGE, type);
	}
	return n;
}

static int overlaps(const struct elf_segment *s, const void *from, uint64_t size) {
	uint64_t a = (uintptr_t)from;
	return a < s->paddr + s->memsz && s->paddr < a + size;
}

static int fits(const struct elf_segment *s, const struct memory_range *map, int n) {
	for (int i = 0; i < n; i++)
		if (map[i].type == RAM && map[i].addr <= s->paddr && s->paddr + s->memsz <= map[i].addr + map[i].size)
			return 1;
	return 0;
}

static uint64_t rsdp(const struct system_table *st) {
	static const struct guid acpi2 = {0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81}};
	static const struct guid acpi1 = {0xeb9d2d30, 0x2d88, 0x11d3, {0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d}};
	uint64_t found = 0;
	for (uint64_t i = 0; i < st->tables; i++) {
		if (equal(&st->table[i].id, &acpi2, sizeof acpi2))
			return st->table[i].address;
		if (equal(&st->table[i].id, &acpi1, sizeof acpi1))
			found = st->table[i].address;
	}
	return found;
}

uint64_t EFIAPI efi_main(void *image, struct system_table *st) {
	const uint8_t *file = image_base + params.kernel;
	const struct elf_header *h = (const void *)file;
	const struct elf_segment *segments = (const void *)(file + h->phoff);
	uint64_t area = (1 << 30) - 1, key, size, step, status;
	uint32_t version;
	if (!headers(file, params.size)) {
		st->output->output(st->output, u"gosv: the kernel in this image is damaged\r\n");
		return LOAD_ERROR | 1ull << 63;
	}
	// The kernel's boot page tables show the first GiB.
	if (st->boot->allocate_pages(ALLOCATE_MAX, LOADER_CODE, AREA_PAGES, &area)) {
		st->output->output(st->output, u"gosv: no memory below 1 GiB\r\n");
		return LOAD_ERROR | 1ull << 63;
	}
	uint8_t *base = (uint8_t *)area;
	struct memory_range *map = (void *)(base + RANGES);
	int n = 0;
	// Until the firmware has left it may still be told, so everything is looked at first.
	size = (AREA_PAGES * PAGE) - EFI_MAP;
	if (st->boot->memory_map(&size, base + EFI_MAP, &key, &step, &version)) {
		st->output->output(st->output, u"gosv: no memory map\r\n");
		return LOAD_ERROR | 1ull << 63;
	}
	n = convert(map, base + EFI_MAP, size, step);
	for (int i = 0; i < h->phnum; i++) {
		const struct elf_segment *s = &segments[i];
		if (s->type != PT_LOAD)
			continue;
		if (!fits(s, map, n) || overlaps(s, file, params.size) || overlaps(s, base, AREA_PAGES * PAGE) ||
		    overlaps(s, (uint8_t *)efi_main - PAGE, 8 * PAGE) || overlaps(s, (uint8_t *)&status - 16 * PAGE, 32 * PAGE)) {
			st->output->output(st->output, u"gosv: the memory that the kernel is linked for is in use\r\n");
			return LOAD_ERROR | 1ull << 63;
		}
	}
	uint64_t tables = rsdp(st);
	for (int tries = 2;; tries--) { // the map may change once in between (§7.4.6)
		size = (AREA_PAGES * PAGE) - EFI_MAP;
		status = st->boot->memory_map(&size, base + EFI_MAP, &key, &step, &version);
		if (!status)
			status = st->boot->exit(image, key);
		if (!status)
			break;
		if (!tries)
			return status;
	}
	__asm__ volatile("cli");
	n = convert(map, base + EFI_MAP, size, step);
	for (int i = 0; i < h->phnum; i++) {
		const struct elf_segment *s = &segments[i];
		if (s->type != PT_LOAD)
			continue;
		copy((void *)s->paddr, file + s->offset, s->filesz);
		zero((void *)(s->paddr + s->filesz), s->memsz - s->filesz);
	}
	copy(base + COMMAND, params.command_line, sizeof params.command_line);
	struct start_info *info = (void *)(base + INFO);
	describe(info, map, n, (uintptr_t)base + COMMAND, tables);
	copy(base + CODE, handoff, handoff_end - handoff);
	((void (*)(void *, uint64_t, void *))base)(info, h->entry, base);
	__builtin_unreachable();
}
