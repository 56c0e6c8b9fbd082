package elfdeps

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
)

// Limits on what is read of a file before it has shown itself to be sane.
const (
	headerSize     = 64
	progHeaderSize = 56
	maxProgHeaders = 64 << 10 / progHeaderSize // Linux: ELF_MIN_ALIGN, fs/binfmt_elf.c load_elf_phdrs
	maxInterp      = 4096                      // PATH_MAX
	maxDynamic     = 1 << 20
	maxStrings     = 16 << 20
)

// object is what the loader would read of an ELF file: program headers only,
// since section headers need not be there.
type object struct {
	Interp    string
	Soname    string
	Needed    []string
	Rpath     []string
	Runpath   []string
	NoDefault bool // DF_1_NODEFLIB: only the paths that the object names
}

// parseELF reads the headers of an x86-64 executable or shared object of size
// bytes. A file that is none gives an error wrapping ErrNotExecutable.
func parseELF(r io.ReaderAt, size int64) (*object, error) {
	progs, err := programHeaders(r, size)
	if err != nil {
		return nil, err
	}
	var o object
	for _, p := range progs {
		switch elf.ProgType(p.Type) {
		case elf.PT_INTERP:
			if o.Interp, err = interpreter(r, p); err != nil {
				return nil, err
			}
		case elf.PT_DYNAMIC:
			if err := o.dynamic(r, p, progs); err != nil {
				return nil, err
			}
		}
	}
	return &o, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotExecutable, fmt.Sprintf(format, args...))
}

func programHeaders(r io.ReaderAt, size int64) ([]elf.Prog64, error) {
	var b [headerSize]byte
	if n, _ := r.ReadAt(b[:], 0); n < headerSize {
		return nil, malformed("truncated ELF file of %d bytes", size)
	}
	le := binary.LittleEndian
	class, machine := elf.Class(b[elf.EI_CLASS]), elf.Machine(le.Uint16(b[18:]))
	if b[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
		machine = elf.Machine(binary.BigEndian.Uint16(b[18:]))
	}
	if machine != elf.EM_X86_64 || class != elf.ELFCLASS64 || b[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return nil, malformed("made for %s; gosv runs 64-bit x86-64 programs", describe(class, machine))
	}
	if kind := elf.Type(le.Uint16(b[16:])); kind != elf.ET_EXEC && kind != elf.ET_DYN {
		return nil, malformed("the ELF file is no program (%v)", kind)
	}
	offset, entry, count := le.Uint64(b[32:]), le.Uint16(b[54:]), int(le.Uint16(b[56:]))
	if entry != progHeaderSize || count == 0 || count > maxProgHeaders {
		return nil, malformed("malformed ELF file (%d program headers of %d bytes)", count, entry)
	}
	table := make([]byte, count*progHeaderSize)
	if offset > uint64(size) || uint64(len(table)) > uint64(size)-offset {
		return nil, malformed("truncated ELF file: its program headers lie past its end")
	}
	if _, err := r.ReadAt(table, int64(offset)); err != nil {
		return nil, malformed("truncated ELF file: %v", err)
	}
	progs := make([]elf.Prog64, count)
	for i := range progs {
		t := table[i*progHeaderSize:]
		progs[i] = elf.Prog64{Type: le.Uint32(t), Flags: le.Uint32(t[4:]), Off: le.Uint64(t[8:]), Vaddr: le.Uint64(t[16:]),
			Paddr: le.Uint64(t[24:]), Filesz: le.Uint64(t[32:]), Memsz: le.Uint64(t[40:]), Align: le.Uint64(t[48:])}
	}
	return progs, checkSegments(progs, uint64(size))
}

func describe(class elf.Class, machine elf.Machine) string {
	name := machine.String()
	switch machine {
	case elf.EM_X86_64:
		name = "x86-64 with 32-bit pointers (x32)"
	case elf.EM_386:
		name = "32-bit x86"
	case elf.EM_AARCH64:
		name = "64-bit ARM (aarch64)"
	case elf.EM_ARM:
		name = "32-bit ARM"
	case elf.EM_RISCV:
		name = "RISC-V"
	}
	if class != elf.ELFCLASS32 && class != elf.ELFCLASS64 {
		return fmt.Sprintf("an unknown ELF class (%d)", class)
	}
	return name
}

func checkSegments(progs []elf.Prog64, size uint64) error {
	loads := 0
	for _, p := range progs {
		if elf.ProgType(p.Type) != elf.PT_LOAD {
			continue
		}
		loads++
		switch {
		case p.Off > size || p.Filesz > size-p.Off:
			return malformed("truncated ELF file: a segment ends at byte %d of %d", p.Off+p.Filesz, size)
		case p.Filesz > p.Memsz:
			return malformed("malformed ELF file: a segment has more bytes in the file than in memory")
		case p.Vaddr+p.Memsz < p.Vaddr:
			return malformed("malformed ELF file: a segment wraps around the address space")
		}
	}
	if loads == 0 {
		return malformed("malformed ELF file: nothing to load")
	}
	return nil
}

func interpreter(r io.ReaderAt, p elf.Prog64) (string, error) {
	if p.Filesz < 2 || p.Filesz > maxInterp {
		return "", malformed("malformed ELF file: interpreter name of %d bytes", p.Filesz)
	}
	b := make([]byte, p.Filesz)
	if _, err := r.ReadAt(b, int64(p.Off)); err != nil {
		return "", malformed("truncated ELF file: its interpreter's name lies past its end")
	}
	name := cString(b)
	if len(name) == len(b) || name == "" {
		return "", malformed("malformed ELF file: unterminated interpreter name")
	}
	return name, nil
}

// dynamic reads the dynamic section that p holds (ELF gABI, chapter 5).
func (o *object) dynamic(r io.ReaderAt, p elf.Prog64, progs []elf.Prog64) error {
	if p.Filesz > maxDynamic {
		return malformed("malformed ELF file: dynamic section of %d bytes", p.Filesz)
	}
	table := make([]byte, p.Filesz)
	if _, err := r.ReadAt(table, int64(p.Off)); err != nil {
		return malformed("truncated ELF file: its dynamic section lies past its end")
	}
	var needed, rpath, runpath, soname []uint64
	var strtab, strsz uint64
	for ; len(table) >= 16; table = table[16:] {
		tag, value := elf.DynTag(binary.LittleEndian.Uint64(table)), binary.LittleEndian.Uint64(table[8:])
		if tag == elf.DT_NULL {
			break
		}
		switch tag {
		case elf.DT_NEEDED:
			needed = append(needed, value)
		case elf.DT_RPATH:
			rpath = []uint64{value}
		case elf.DT_RUNPATH:
			runpath = []uint64{value}
		case elf.DT_SONAME:
			soname = []uint64{value}
		case elf.DT_STRTAB:
			strtab = value
		case elf.DT_STRSZ:
			strsz = value
		case elf.DT_FLAGS_1:
			o.NoDefault = elf.DynFlag1(value)&elf.DF_1_NODEFLIB != 0
		}
	}
	if len(needed)+len(rpath)+len(runpath)+len(soname) == 0 {
		return nil
	}
	strings, err := stringTable(r, strtab, strsz, progs)
	if err != nil {
		return err
	}
	var names [4][]string
	for i, offsets := range [][]uint64{needed, rpath, runpath, soname} {
		for _, off := range offsets {
			if off >= uint64(len(strings)) {
				return malformed("malformed ELF file: a name lies outside its string table")
			}
			names[i] = append(names[i], cString(strings[off:]))
		}
	}
	o.Needed, o.Rpath, o.Runpath = names[0], splitPaths(names[1]), splitPaths(names[2])
	if len(names[3]) > 0 {
		o.Soname = names[3][0]
	}
	return nil
}

// stringTable reads size bytes at virtual address addr.
func stringTable(r io.ReaderAt, addr, size uint64, progs []elf.Prog64) ([]byte, error) {
	if size > maxStrings {
		return nil, malformed("malformed ELF file: string table of %d bytes", size)
	}
	for _, p := range progs {
		if elf.ProgType(p.Type) != elf.PT_LOAD || addr < p.Vaddr || addr-p.Vaddr >= p.Filesz {
			continue
		}
		b := make([]byte, min(size, p.Filesz-(addr-p.Vaddr)))
		if _, err := r.ReadAt(b, int64(p.Off+addr-p.Vaddr)); err != nil {
			return nil, malformed("truncated ELF file: its string table lies past its end")
		}
		return b, nil
	}
	return nil, malformed("malformed ELF file: its string table is in no segment")
}
