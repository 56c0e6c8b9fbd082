package pvh

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// Info describes a PVH image.
type Info struct {
	Entry  uint32 // physical address of the 32-bit entry point
	Top    uint64 // first physical address above all bytes loaded from the file
	Memory uint64 // first physical address above all segments, zero-filled parts included
}

// Inspect reads an image's headers and returns an error that says what is
// wrong when no virtual machine could start it: not an ELF file, truncated, or
// without a PVH entry note.
func Inspect(image []byte) (Info, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return Info{}, fmt.Errorf("not a usable ELF file: %w", err)
	}
	if f.Machine != elf.EM_X86_64 {
		return Info{}, fmt.Errorf("made for %v, not x86-64", f.Machine)
	}
	var info Info
	noted, size := false, uint64(len(image))
	for _, p := range f.Progs {
		if p.Off > size || p.Filesz > size-p.Off {
			return Info{}, errors.New("truncated: a segment lies outside the file")
		}
		switch p.Type {
		case elf.PT_NOTE:
			if entry, ok := findNote(image[p.Off : p.Off+p.Filesz]); ok {
				info.Entry, noted = entry, true
			}
		case elf.PT_LOAD:
			if p.Filesz > p.Memsz || p.Paddr > 1<<32 || p.Memsz > 1<<32 {
				return Info{}, fmt.Errorf("segment at physical address %#x has a nonsensical size", p.Paddr)
			}
			info.Top = max(info.Top, p.Paddr+p.Filesz)
			info.Memory = max(info.Memory, p.Paddr+p.Memsz)
		}
	}
	switch {
	case !noted:
		return Info{}, errors.New("no PVH entry note: this is not a kernel made by mkkernel")
	case info.Top == 0:
		return Info{}, errors.New("nothing to load: no PT_LOAD segment")
	}
	return info, nil
}

// findNote looks through ELF notes for the PVH entry point.
func findNote(b []byte) (entry uint32, ok bool) {
	for len(b) >= 12 {
		nameLen := uint64(binary.LittleEndian.Uint32(b))
		descLen := uint64(binary.LittleEndian.Uint32(b[4:]))
		kind := binary.LittleEndian.Uint32(b[8:])
		desc := 12 + (nameLen+3)&^3
		end := desc + (descLen+3)&^3
		if end > uint64(len(b)) {
			return 0, false
		}
		if kind == noteType && string(b[12:12+nameLen]) == noteName && descLen >= 4 {
			return binary.LittleEndian.Uint32(b[desc:]), true
		}
		b = b[end:]
	}
	return 0, false
}
