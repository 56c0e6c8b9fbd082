package pvh

import "encoding/binary"

// The physical layout of the trampoline. The kernel relies on it: it restarts
// application processors at trampolineBase with EBX = 0xffffffff, so the code
// keeps no state and may run any number of times.
const (
	trampolineBase = 0x100000
	gdtOffset      = 0xe00
	gdtrOffset     = 0xf00
	gapOffset      = 0xfe8 // three 64-bit words: a gap's from and to, and by how much what is behind it lies lower
	pml4Offset     = 0x1000
	pdptLowOffset  = 0x2000
	pdptHighOffset = 0x3000
	pdOffset       = 0x4000
	pdImageOffset  = 0x5000
	trampolineSize = 0x6000
	codeSize       = pml4Offset // the page of code and GDT; tables follow
)

// Control bits, Intel SDM volume 3 §2.5 (CR0, CR4) and §2.2.1 (IA32_EFER).
const (
	cr0PE = 1 << 0
	cr0MP = 1 << 1
	cr0EM = 1 << 2
	cr0TS = 1 << 3
	cr0NE = 1 << 5
	cr0WP = 1 << 16
	cr0NW = 1 << 29
	cr0CD = 1 << 30
	cr0PG = 1 << 31

	cr4PAE        = 1 << 5
	cr4OSFXSR     = 1 << 9
	cr4OSXMMEXCPT = 1 << 10

	msrEFER = 0xc0000080
	eferSCE = 1 << 0
	eferLME = 1 << 8
	eferNXE = 1 << 11
)

// Page-table entry bits, Intel SDM volume 3 §4.5.
const (
	ptePresent  = 1 << 0
	pteWritable = 1 << 1
	pteLarge    = 1 << 7
)

// GDT selectors the kernel finds.
const (
	selCode64 = 0x08
	selData   = 0x10
)

// code assembles bytes that run at trampolineBase.
type code struct{ b []byte }

func (c *code) op(b ...byte)      { c.b = append(c.b, b...) }
func (c *code) imm32(v uint32)    { c.b = binary.LittleEndian.AppendUint32(c.b, v) }
func (c *code) imm64(v uint64)    { c.b = binary.LittleEndian.AppendUint64(c.b, v) }
func (c *code) here() uint32      { return uint32(trampolineBase + len(c.b)) }
func (c *code) orEAX(bits uint32) { c.op(0x0d); c.imm32(bits) }

// trampoline returns the pages at trampolineBase: 32-bit code that enters long
// mode and jumps to entry with RDI = EBX, a GDT, and page tables that map the
// first GiB at 0, at 0xffff800000000000 and at KernelBase; there, what is behind the gap lies gap.shift lower.
func trampoline(entry uint64, gap hole) []byte {
	page := make([]byte, trampolineSize)
	copy(page, enterLongMode(entry))
	putTable(page[gdtOffset:], map[int]uint64{
		1: 0x00af9b000000ffff, // 08: 64-bit code
		2: 0x00cf93000000ffff, // 10: flat data
		3: 0x00cf9b000000ffff, // 18: 32-bit code
	})
	binary.LittleEndian.PutUint16(page[gdtrOffset:], 4*8-1)
	binary.LittleEndian.PutUint32(page[gdtrOffset+2:], trampolineBase+gdtOffset)
	binary.LittleEndian.PutUint64(page[gapOffset:], gap.from)
	binary.LittleEndian.PutUint64(page[gapOffset+8:], gap.to)
	binary.LittleEndian.PutUint64(page[gapOffset+16:], gap.shift)

	const table = ptePresent | pteWritable
	putTable(page[pml4Offset:], map[int]uint64{
		0:   trampolineBase + pdptLowOffset | table,
		256: trampolineBase + pdptLowOffset | table,
		511: trampolineBase + pdptHighOffset | table,
	})
	putTable(page[pdptLowOffset:], map[int]uint64{0: trampolineBase + pdOffset | table})
	putTable(page[pdptHighOffset:], map[int]uint64{510: trampolineBase + pdImageOffset | table})
	for i := range uint64(512) {
		at := i * largePage
		binary.LittleEndian.PutUint64(page[pdOffset+8*i:], at|table|pteLarge)
		if at >= (gap.to+gap.shift)&^(largePage-1) {
			at -= gap.shift
		}
		binary.LittleEndian.PutUint64(page[pdImageOffset+8*i:], at|table|pteLarge)
	}
	return page
}

func putTable(page []byte, entries map[int]uint64) {
	for i, v := range entries {
		binary.LittleEndian.PutUint64(page[8*i:], v)
	}
}

func enterLongMode(entry uint64) []byte {
	var c code
	c.op(0xfa) // cli
	c.op(0xfc) // cld
	c.op(0xb8) // mov eax, PML4
	c.imm32(trampolineBase + pml4Offset)
	c.op(0x0f, 0x22, 0xd8) // mov cr3, eax
	c.op(0x0f, 0x20, 0xe0) // mov eax, cr4
	c.orEAX(cr4PAE | cr4OSFXSR | cr4OSXMMEXCPT)
	c.op(0x0f, 0x22, 0xe0) // mov cr4, eax
	c.op(0xb9)             // mov ecx, IA32_EFER
	c.imm32(msrEFER)
	c.op(0x0f, 0x32) // rdmsr
	c.orEAX(eferNXE | eferLME | eferSCE)
	c.op(0x0f, 0x30)       // wrmsr
	c.op(0x0f, 0x20, 0xc0) // mov eax, cr0
	c.op(0x25)             // and eax, ~(EM|TS|NW|CD)
	c.imm32(^uint32(cr0EM | cr0TS | cr0NW | cr0CD))
	c.orEAX(cr0PG | cr0WP | cr0NE | cr0MP | cr0PE)
	c.op(0x0f, 0x22, 0xc0) // mov cr0, eax
	c.op(0x0f, 0x01, 0x15) // lgdt [GDTR]
	c.imm32(trampolineBase + gdtrOffset)
	c.op(0xea) // jmp selCode64:next
	c.imm32(c.here() + 6)
	c.op(selCode64, 0)
	c.op(0x66, 0xb8, selData, 0) // mov ax, selData
	c.op(0x8e, 0xd8)             // mov ds, ax
	c.op(0x8e, 0xc0)             // mov es, ax
	c.op(0x8e, 0xd0)             // mov ss, ax
	c.op(0x8e, 0xe0)             // mov fs, ax
	c.op(0x8e, 0xe8)             // mov gs, ax
	c.op(0x89, 0xdf)             // mov edi, ebx: start_info, zero-extended
	c.op(0x48, 0xb8)             // mov rax, entry
	c.imm64(entry)
	c.op(0xff, 0xe0) // jmp rax
	return c.b
}
