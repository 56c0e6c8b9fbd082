// What both loaders do: place the kernel's segments and describe the machine to
// it (Xen docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h).
#include <stdint.h>

// params is filled in by the builder of an image, which finds it by its magic.
struct params {
	char magic[16];
	uint64_t kernel; // bios: first sector on the disk; efi: offset in the loaded image
	uint64_t size;   // bytes of the kernel's file
	char command_line[2048];
};
extern struct params params;

struct elf_header {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, phoff, shoff;
	uint32_t flags;
	uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_segment {
	uint32_t type, flags;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

enum { PT_LOAD = 1, MAX_HEADERS = 4096 };

struct memory_range {
	uint64_t addr, size;
	uint32_t type, reserved;
};

// E820 types.
enum { RAM = 1, RESERVED = 2, ACPI = 3, NVS = 4, UNUSABLE = 5 };

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, command_line, rsdp, memory_map;
	uint32_t memory_ranges, reserved;
};

enum { START_MAGIC = 0x336ec578 };

static inline void copy(void *to, const void *from, uintptr_t n) {
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static inline void zero(void *to, uintptr_t n) {
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0) : "memory");
}

static inline int equal(const void *a, const void *b, uintptr_t n) {
	const uint8_t *x = a, *y = b;
	while (n--)
		if (*x++ != *y++)
			return 0;
	return 1;
}

// headers checks the first bytes of the kernel's file, which hold all headers,
// and says whether the segments can be placed: inside the file, between 1 MiB
// and 1 GiB.
static inline int headers(const uint8_t *file, uint64_t size) {
	const struct elf_header *h = (const void *)file;
	if (size < MAX_HEADERS || !equal(h->ident, "\177ELF\2\1\1", 7) || h->machine != 62 || h->phentsize != sizeof(struct elf_segment) ||
	    h->phoff > MAX_HEADERS || h->phnum > (uint32_t)(MAX_HEADERS - h->phoff) / sizeof(struct elf_segment))
		return 0;
	const struct elf_segment *s = (const void *)(file + h->phoff);
	for (int i = 0; i < h->phnum; i++, s++) {
		if (s->type != PT_LOAD)
			continue;
		if (s->offset > size || s->filesz > size - s->offset || s->filesz > s->memsz || s->paddr < 1 << 20 || s->paddr > 1 << 30 ||
		    s->memsz > (1 << 30) - s->paddr)
			return 0;
	}
	return 1;
}

static inline void describe(struct start_info *info, const struct memory_range *map, int ranges, uintptr_t command_line, uint64_t rsdp) {
	zero(info, sizeof *info);
	info->magic = START_MAGIC;
	info->version = 1;
	info->command_line = command_line;
	info->rsdp = rsdp;
	info->memory_map = (uintptr_t)map;
	info->memory_ranges = ranges;
}
