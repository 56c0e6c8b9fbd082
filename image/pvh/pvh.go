// Package pvh turns the executable that the Go linker makes of the kernel into
// an image that a virtual machine monitor can start directly.
//
// The image is an ELF64 file with a Xen PVH entry note (type 18,
// XEN_ELFNOTE_PHYS32_ENTRY, see xen/include/public/elfnote.h and
// docs/misc/pvh in Xen). QEMU, Firecracker and Cloud Hypervisor all start such
// a file in 32-bit protected mode with paging off and EBX = physical address
// of struct hvm_start_info. Link adds a low segment that enters long mode and
// jumps to the executable's own entry point; every other segment keeps its
// virtual address and gets the physical address p_vaddr − KernelBase, or, behind the gap that
// the small tables of functions leave, whole large pages less.
//
// Link is a pure function of its input: equal input gives equal bytes.
package pvh

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// KernelBase is the virtual address at which physical address 0 is mapped
	// for the kernel's own text and data.
	KernelBase = 0xffffffff80000000

	// LinkAddress is the lowest virtual address the kernel may be linked at:
	// 2 MiB above KernelBase, clear of the BIOS area and of the trampoline.
	LinkAddress = KernelBase + 0x200000

	mappedBytes = 1 << 30 // what the boot page tables map
	pageSize    = 4096
	largePage   = 2 << 20

	noteType = 18 // XEN_ELFNOTE_PHYS32_ENTRY
	noteName = "Xen\x00"
)

// segment is a program header and the bytes it covers.
type segment struct {
	elf.Prog64
	data []byte
}

// Link returns the PVH image of a statically linked Go executable for
// linux/amd64. The executable's entry point must be the kernel's 64-bit entry
// (linker flag -E) and its lowest address LinkAddress or above (linker flag
// -T). It returns an error that says what is wrong with any other file.
func Link(executable []byte) ([]byte, error) {
	entry, loads, gap, err := parse(executable)
	if err != nil {
		return nil, err
	}
	note := encodeNote(trampolineBase)
	boot := trampoline(entry, gap)
	segments := []segment{
		{elf.Prog64{Type: uint32(elf.PT_NOTE), Flags: uint32(elf.PF_R), Filesz: uint64(len(note)), Memsz: uint64(len(note)), Align: 4}, note},
		load(elf.PF_R|elf.PF_X, trampolineBase, trampolineBase, boot[:codeSize]),
		load(elf.PF_R|elf.PF_W, trampolineBase+codeSize, trampolineBase+codeSize, boot[codeSize:]),
	}
	return encode(append(segments, loads...), trampolineBase), nil
}

func load(flags elf.ProgFlag, vaddr, paddr uint64, data []byte) segment {
	return segment{elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(flags), Vaddr: vaddr, Paddr: paddr,
		Filesz: uint64(len(data)), Memsz: uint64(len(data)), Align: pageSize}, data}
}

// hole is physical memory within the image that holds nothing. The segments behind it lie shift bytes, a multiple of the size of a large page, lower than
// in front of it.
type hole struct{ from, to, shift uint64 }

// parse checks that file is an executable Link can use and returns its entry
// point and loadable segments with their physical addresses filled in.
func parse(file []byte) (entry uint64, loads []segment, gap hole, err error) {
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return 0, nil, gap, fmt.Errorf("not a usable ELF file: %w", err)
	}
	switch {
	case f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Machine != elf.EM_X86_64:
		return 0, nil, gap, fmt.Errorf("%v %v: the kernel must be built with GOARCH=amd64", f.Class, f.Machine)
	case f.Type != elf.ET_EXEC:
		return 0, nil, gap, fmt.Errorf("%v: the kernel must be an ordinary executable (-buildmode=exe)", f.Type)
	}
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_INTERP, elf.PT_DYNAMIC:
			return 0, nil, gap, errors.New("dynamically linked: build the kernel with CGO_ENABLED=0")
		case elf.PT_LOAD:
			s, err := kernelSegment(file, p)
			if err != nil {
				return 0, nil, gap, err
			}
			loads = append(loads, s)
		}
	}
	if err := checkPlacement(f.Entry, loads); err != nil {
		return 0, nil, gap, err
	}
	loads, gap, err = withSmallTables(f, loads)
	return f.Entry, loads, gap, err
}

func kernelSegment(file []byte, p *elf.Prog) (segment, error) {
	size := uint64(len(file))
	switch {
	case p.Off > size || p.Filesz > size-p.Off:
		return segment{}, fmt.Errorf("segment at %#x lies outside the file: the file is truncated", p.Vaddr)
	case p.Filesz > p.Memsz:
		return segment{}, fmt.Errorf("segment at %#x has more bytes in the file than in memory", p.Vaddr)
	case p.Vaddr < LinkAddress:
		return segment{}, fmt.Errorf("segment at %#x lies below %#x: link the kernel with -T %d", p.Vaddr, uint64(LinkAddress), linkerFlag())
	case p.Memsz > mappedBytes || p.Vaddr-KernelBase > mappedBytes-p.Memsz:
		return segment{}, fmt.Errorf("segment at %#x with %#x bytes ends above the first GiB that the boot page tables map", p.Vaddr, p.Memsz)
	case p.Flags&elf.PF_W != 0 && p.Flags&elf.PF_X != 0:
		return segment{}, fmt.Errorf("segment at %#x is both writable and executable", p.Vaddr)
	}
	s := load(p.Flags, p.Vaddr, p.Vaddr-KernelBase, file[p.Off:p.Off+p.Filesz])
	s.Memsz = p.Memsz
	return s, nil
}

// linkerFlag is LinkAddress as the Go linker's -T wants it: a signed number.
// (The file header page precedes the text by 0x1000 bytes.)
func linkerFlag() int64 {
	const text = LinkAddress + 0x1000
	return -int64(^uint64(text) + 1)
}

func checkPlacement(entry uint64, loads []segment) error {
	if len(loads) == 0 {
		return errors.New("nothing to load: no PT_LOAD segment")
	}
	entryFound := false
	for i, s := range loads {
		if elf.ProgFlag(s.Flags)&elf.PF_X != 0 && entry >= s.Vaddr && entry-s.Vaddr < s.Filesz {
			entryFound = true
		}
		for _, other := range loads[:i] {
			if s.Vaddr < other.Vaddr+other.Memsz && other.Vaddr < s.Vaddr+s.Memsz {
				return fmt.Errorf("segments at %#x and %#x overlap", other.Vaddr, s.Vaddr)
			}
		}
	}
	if !entryFound {
		return fmt.Errorf("entry point %#x is not in an executable segment: link the kernel with -E and its boot symbol", entry)
	}
	return nil
}

func encodeNote(entry uint32) []byte {
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, uint32(len(noteName)))
	b = binary.LittleEndian.AppendUint32(b, 4)
	b = binary.LittleEndian.AppendUint32(b, noteType)
	b = append(b, noteName...)
	return binary.LittleEndian.AppendUint32(b, entry)
}

// encode lays the segments out one after the other, each at a file offset
// congruent to its address modulo its alignment.
func encode(segments []segment, entry uint64) []byte {
	const headerSize, progSize = 64, 56
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: entry, Phoff: headerSize, Ehsize: headerSize, Phentsize: progSize,
		Phnum: uint16(len(segments)), Shentsize: 64,
	}
	copy(header.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)})

	offset := uint64(headerSize + progSize*len(segments))
	for i := range segments {
		s := &segments[i]
		offset += (s.Vaddr - offset) & (s.Align - 1)
		s.Off = offset
		offset += s.Filesz
	}
	b := new(bytes.Buffer)
	b.Grow(int(offset))
	put := func(v any) {
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err) // fixed-size structs into memory
		}
	}
	put(&header)
	for i := range segments {
		put(&segments[i].Prog64)
	}
	for i := range segments {
		b.Write(make([]byte, int(segments[i].Off)-b.Len()))
		b.Write(segments[i].data)
	}
	return b.Bytes()
}
