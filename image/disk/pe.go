package disk

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
)

// application is the EFI application: the loader's two segments, the kernel's
// file, and an empty table of relocations, since the loader needs none.
type application struct {
	image        []byte // the file
	data         []byte // of image: the segment with the parameters
	kernelOffset int64  // of the kernel in the file, a multiple of SectorSize
}

const (
	pePage   = 4096
	peHeader = 1024 // of the file, all headers
	peOffset = 64   // of the signature
	optional = 240
	// Characteristics of sections.
	peCode     = 0x60000020 // code, execute, read
	peWritable = 0xc0000040 // initialised data, read, write
	peReadOnly = 0x40000040
	peDiscard  = 0x42000040
)

type section struct {
	name  string
	flags uint32
	addr  uint64 // relative to the image's base
	size  uint64 // in memory
	data  []byte
	file  uint64
}

// newApplication makes the application for a kernel. Its command line is empty.
func newApplication(kernel []byte) (*application, error) {
	code, err := loader("efi.elf")
	if err != nil {
		return nil, err
	}
	sections, entry, err := loaderSections(code)
	if err != nil {
		return nil, fmt.Errorf("the EFI loader: %w", err)
	}
	next := func() uint64 {
		last := sections[len(sections)-1]
		return (last.addr + last.size + pePage - 1) &^ (pePage - 1)
	}
	relocations := le.AppendUint32(le.AppendUint32(nil, uint32(sections[0].addr)), 12) // one block
	relocations = append(relocations, 0, 0, 0, 0)                                      // with nothing to do
	sections = append(sections, section{name: ".reloc", flags: peDiscard, addr: next(), size: uint64(len(relocations)), data: relocations})
	sections = append(sections, section{name: ".kernel", flags: peReadOnly, addr: next(), size: uint64(len(kernel)), data: kernel})
	offset := uint64(peHeader)
	for i := range sections {
		sections[i].file = offset
		offset += uint64(sectors(int64(len(sections[i].data)))) * SectorSize
	}
	image := make([]byte, offset)
	putHeaders(image, sections, uint32(entry), uint32(next()))
	for _, s := range sections {
		copy(image[s.file:], s.data)
	}
	data, k := sections[1], sections[len(sections)-1]
	a := &application{image: image, data: image[data.file:][:len(data.data)], kernelOffset: int64(k.file)}
	return a, patchParams(a.data, int64(k.addr), int64(len(kernel)))
}

func (a *application) setCommandLine(line string) error { return patchCommandLine(a.data, line) }

// loaderSections takes the two segments out of the loader, which is linked at 0.
func loaderSections(code []byte) ([]section, uint64, error) {
	f, err := elf.NewFile(bytes.NewReader(code))
	if err != nil {
		return nil, 0, err
	}
	var list []section
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		s := section{name: ".text", flags: peCode, addr: p.Vaddr, size: p.Memsz, data: code[p.Off : p.Off+p.Filesz]}
		if p.Flags&elf.PF_W != 0 {
			s.name, s.flags = ".data", peWritable
		}
		list = append(list, s)
	}
	if len(list) != 2 || list[0].name != ".text" || list[1].name != ".data" {
		return nil, 0, errors.New("not the two segments that machine/boot/efi.ld makes")
	}
	return list, f.Entry, nil
}

// putHeaders writes the headers of a PE32+ image ("PE Format", Microsoft).
func putHeaders(b []byte, sections []section, entry, size uint32) {
	copy(b, "MZ")
	le.PutUint32(b[60:], peOffset)
	h := b[peOffset:]
	copy(h, "PE\x00\x00")
	le.PutUint16(h[4:], 0x8664)
	le.PutUint16(h[6:], uint16(len(sections)))
	le.PutUint16(h[20:], optional)
	le.PutUint16(h[22:], 0x22) // executable, large addresses
	o := h[24:]
	le.PutUint16(o, 0x20b)
	for _, s := range sections {
		raw := uint32(sectors(int64(len(s.data))) * SectorSize)
		if s.flags == peCode {
			le.PutUint32(o[4:], raw)
			le.PutUint32(o[20:], uint32(s.addr))
		} else {
			le.PutUint32(o[8:], le.Uint32(o[8:])+raw)
		}
	}
	le.PutUint32(o[16:], entry)
	le.PutUint32(o[32:], pePage)
	le.PutUint32(o[36:], SectorSize)
	le.PutUint32(o[56:], size)
	le.PutUint32(o[60:], peHeader)
	le.PutUint16(o[68:], 10) // an EFI application
	le.PutUint32(o[108:], 16)
	table := o[optional:]
	for i, s := range sections {
		t := table[40*i:]
		copy(t[:8], s.name)
		le.PutUint32(t[8:], uint32(s.size))
		le.PutUint32(t[12:], uint32(s.addr))
		le.PutUint32(t[16:], uint32(sectors(int64(len(s.data)))*SectorSize))
		le.PutUint32(t[20:], uint32(s.file))
		le.PutUint32(t[36:], s.flags)
		if s.name == ".reloc" {
			le.PutUint32(o[112+8*5:], uint32(s.addr))
			le.PutUint32(o[112+8*5+4:], uint32(s.size))
		}
	}
}
