package main

import (
	"debug/elf"
	"encoding/binary"
	"slices"
)

// The functions, as vdso(7) lists them for x86-64. Each has a plain, weak alias.
var functions = []string{"clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"}

const (
	soname  = "linux-vdso.so.1"
	version = "LINUX_2.6"
)

// A section is one part of the image; all but the section names are loaded.
type section struct {
	name       string
	typ        elf.SectionType
	flags      elf.SectionFlag
	link, info uint32
	align      uint64
	entry      uint64
	data       []byte
	addr       uint64
}

type symbol struct {
	name string
	weak bool
	at   string
}

// symbols are sorted by their bucket of the GNU hash table, as that demands.
func symbols() []symbol {
	var s []symbol
	for _, f := range functions {
		s = append(s, symbol{"__vdso_" + f, false, f}, symbol{f, true, f})
	}
	slices.SortStableFunc(s, func(a, b symbol) int {
		return int(gnuHash(a.name)%buckets) - int(gnuHash(b.name)%buckets)
	})
	return s
}

const buckets = 4

func sysvHash(s string) uint32 {
	var h uint32
	for _, c := range []byte(s) {
		h = h<<4 + uint32(c)
		h = (h ^ h>>24&0xf0) & 0x0fffffff
	}
	return h
}

func gnuHash(s string) uint32 {
	h := uint32(5381)
	for _, c := range []byte(s) {
		h = h*33 + uint32(c)
	}
	return h
}

type buffer []byte

func (b *buffer) u16(v ...uint16) {
	for _, x := range v {
		*b = binary.LittleEndian.AppendUint16(*b, x)
	}
}
func (b *buffer) u32(v ...uint32) {
	for _, x := range v {
		*b = binary.LittleEndian.AppendUint32(*b, x)
	}
}
func (b *buffer) u64(v ...uint64) {
	for _, x := range v {
		*b = binary.LittleEndian.AppendUint64(*b, x)
	}
}
func (b *buffer) pad(n int) {
	for len(*b)%n != 0 {
		*b = append(*b, 0)
	}
}

// table is a string table.
type table []byte

func (t *table) add(s string) uint32 {
	if len(*t) == 0 {
		*t = append(*t, 0)
	}
	n := uint32(len(*t))
	*t = append(append(*t, s...), 0)
	return n
}

// image lays out the shared object: headers, then the sections, one read-only,
// executable segment at address 0 (ELF-64 object file format; System V ABI,
// AMD64 supplement; Linux Standard Base for the GNU parts).
func image() []byte {
	syms := symbols()
	var strtab table
	nameSo, nameVer := strtab.add(soname), strtab.add(version)
	var names []uint32
	for _, s := range syms {
		names = append(names, strtab.add(s.name))
	}

	const rx, r = elf.SHF_ALLOC | elf.SHF_EXECINSTR, elf.SHF_ALLOC
	hash := &section{name: ".hash", typ: elf.SHT_HASH, flags: r, align: 8, entry: 4, data: sysvTable(syms)}
	gnu := &section{name: ".gnu.hash", typ: elf.SHT_GNU_HASH, flags: r, align: 8, data: gnuTable(syms)}
	dynsym := &section{name: ".dynsym", typ: elf.SHT_DYNSYM, flags: r, align: 8, entry: 24, info: 1,
		data: make([]byte, 24*(len(syms)+1))}
	dynstr := &section{name: ".dynstr", typ: elf.SHT_STRTAB, flags: r, align: 1, data: strtab}
	versym := &section{name: ".gnu.version", typ: elf.SHT_GNU_VERSYM, flags: r, align: 2, entry: 2, data: versions(len(syms))}
	verdef := &section{name: ".gnu.version_d", typ: elf.SHT_GNU_VERDEF, flags: r, align: 8, info: 2, data: definitions(nameSo, nameVer)}
	dynamic := &section{name: ".dynamic", typ: elf.SHT_DYNAMIC, flags: r, align: 8, entry: 16, data: make([]byte, 16*11)}
	note := &section{name: ".note", typ: elf.SHT_NOTE, flags: r, align: 4, data: linuxNote()}
	ehhdr := &section{name: ".eh_frame_hdr", typ: elf.SHT_PROGBITS, flags: r, align: 4, data: make([]byte, 20)}
	eh := &section{name: ".eh_frame", typ: elf.SHT_PROGBITS, flags: r, align: 8, data: make([]byte, 52)}
	text := &section{name: ".text", typ: elf.SHT_PROGBITS, flags: rx, align: 64}
	shstr := &section{name: ".shstrtab", typ: elf.SHT_STRTAB, align: 1}
	sections := []*section{hash, gnu, dynsym, dynstr, versym, verdef, dynamic, note, ehhdr, eh, text, shstr}

	prog := program()
	body, _ := prog.assemble(0)
	text.data = body
	var shnames table
	nameOf := map[*section]uint32{}
	for _, s := range sections {
		nameOf[s] = shnames.add(s.name)
	}
	shstr.data = shnames

	const phnum = 4
	at := uint64(64 + 56*phnum)
	for _, s := range sections {
		at = (at + s.align - 1) &^ (s.align - 1)
		s.addr = at
		at += uint64(len(s.data))
	}
	loaded := shstr.addr

	body, labels := prog.assemble(text.addr)
	text.data = body
	fillSymbols(dynsym.data, syms, names, labels, len(body), text.addr)
	fillDynamic(dynamic.data, nameSo, hash, gnu, dynstr, dynsym, versym, verdef)
	fillFrames(ehhdr, eh, text)
	for _, s := range []*section{hash, gnu, versym} {
		s.link = 3 // .dynsym
	}
	for _, s := range []*section{dynsym, verdef, dynamic} {
		s.link = 4 // .dynstr
	}

	at = (at + 7) &^ 7
	b := header(at, phnum, uint16(len(sections)+1))
	program := func(typ elf.ProgType, flags elf.ProgFlag, off, n, align uint64) {
		b.u32(uint32(typ), uint32(flags))
		b.u64(off, off, off, n, n, align)
	}
	program(elf.PT_LOAD, elf.PF_R|elf.PF_X, 0, loaded, 4096)
	program(elf.PT_DYNAMIC, elf.PF_R, dynamic.addr, uint64(len(dynamic.data)), 8)
	program(elf.PT_NOTE, elf.PF_R, note.addr, uint64(len(note.data)), 4)
	program(elf.PT_GNU_EH_FRAME, elf.PF_R, ehhdr.addr, uint64(len(ehhdr.data)), 4)
	for _, s := range sections {
		for uint64(len(b)) < s.addr {
			b = append(b, 0)
		}
		b = append(b, s.data...)
	}
	b.pad(8)
	b = append(b, make([]byte, 64)...) // section 0
	for _, s := range sections {
		addr := s.addr
		if s.flags == 0 {
			addr = 0
		}
		b.u32(nameOf[s], uint32(s.typ))
		b.u64(uint64(s.flags), addr, s.addr, uint64(len(s.data)))
		b.u32(s.link, s.info)
		b.u64(s.align, s.entry)
	}
	if len(b) > 4096 {
		panic("vdso: the image is larger than a page")
	}
	return b
}

func header(shoff uint64, phnum, shnum uint16) buffer {
	b := buffer("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	b.u16(uint16(elf.ET_DYN), uint16(elf.EM_X86_64))
	b.u32(1)
	b.u64(0, 64, shoff)
	b.u32(0)
	b.u16(64, 56, phnum, 64, shnum, shnum-1)
	return b
}

func sysvTable(syms []symbol) []byte {
	heads, chain := make([]uint32, buckets), make([]uint32, len(syms)+1)
	for i, s := range syms {
		h := sysvHash(s.name) % buckets
		chain[i+1], heads[h] = heads[h], uint32(i+1)
	}
	var b buffer
	b.u32(buckets, uint32(len(chain)))
	b.u32(heads...)
	b.u32(chain...)
	return b
}

func gnuTable(syms []symbol) []byte {
	heads, chain := make([]uint32, buckets), make([]uint32, len(syms))
	const shift = 6
	var bloom uint64
	for i, s := range syms {
		h := gnuHash(s.name)
		bloom |= 1<<(h%64) | 1<<(h>>shift%64)
		if heads[h%buckets] == 0 {
			heads[h%buckets] = uint32(i + 1)
		}
		chain[i] = h &^ 1
		if i+1 == len(syms) || gnuHash(syms[i+1].name)%buckets != h%buckets {
			chain[i] |= 1
		}
	}
	var b buffer
	b.u32(buckets, 1, 1, shift)
	b.u64(bloom)
	b.u32(heads...)
	b.u32(chain...)
	return b
}

func fillSymbols(dst []byte, syms []symbol, names []uint32, labels map[string]uint64, textLen int, textAddr uint64) {
	const textIndex = 11
	var b buffer
	b = append(b, make([]byte, 24)...)
	for i, s := range syms {
		bind := elf.STB_GLOBAL
		if s.weak {
			bind = elf.STB_WEAK
		}
		start := labels[s.at]
		end := textAddr + uint64(textLen)
		for _, f := range functions {
			if a := labels[f]; a > start && a < end {
				end = a
			}
		}
		b.u32(names[i])
		b = append(b, elf.ST_INFO(bind, elf.STT_FUNC), byte(elf.STV_DEFAULT))
		b.u16(textIndex)
		b.u64(start, end-start)
	}
	copy(dst, b)
}

func versions(n int) []byte {
	var b buffer
	b.u16(0)
	for range n {
		b.u16(2)
	}
	return b
}

// definitions declares the base version, which is the file, and LINUX_2.6.
func definitions(nameSo, nameVer uint32) []byte {
	var b buffer
	for i, v := range []struct {
		flags uint16
		hash  uint32
		name  uint32
		next  uint32
	}{{1, sysvHash(soname), nameSo, 28}, {0, sysvHash(version), nameVer, 0}} {
		b.u16(1, v.flags, uint16(i+1), 1)
		b.u32(v.hash, 20, v.next)
		b.u32(v.name, 0)
	}
	return b
}

func fillDynamic(dst []byte, nameSo uint32, hash, gnu, dynstr, dynsym, versym, verdef *section) {
	var b buffer
	for _, d := range []struct {
		tag elf.DynTag
		v   uint64
	}{
		{elf.DT_SONAME, uint64(nameSo)},
		{elf.DT_HASH, hash.addr},
		{elf.DT_GNU_HASH, gnu.addr},
		{elf.DT_STRTAB, dynstr.addr},
		{elf.DT_SYMTAB, dynsym.addr},
		{elf.DT_STRSZ, uint64(len(dynstr.data))},
		{elf.DT_SYMENT, 24},
		{elf.DT_VERSYM, versym.addr},
		{elf.DT_VERDEF, verdef.addr},
		{elf.DT_VERDEFNUM, 2},
		{elf.DT_NULL, 0},
	} {
		b.u64(uint64(d.tag), d.v)
	}
	copy(dst, b)
}

// linuxNote says which kernel's interface this is: LINUX_VERSION_CODE of 6.1.0.
func linuxNote() []byte {
	var b buffer
	b.u32(6, 4, 0)
	b = append(b, "Linux\x00\x00\x00"...)
	b.u32(6<<16 | 1<<8)
	return b
}

// fillFrames lets debuggers and unwinders step out of the functions: none of
// them touches the stack, so the CFA is rsp+8 throughout (DWARF 4 §6.4, LSB).
func fillFrames(hdr, eh, text *section) {
	var b buffer
	b.u32(20, 0) // CIE
	b = append(b, "\x01zR\x00\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\x00\x00"...)
	fde := uint64(len(b))
	b.u32(20, uint32(fde+4))
	pc := eh.addr + uint64(len(b))
	b.u32(uint32(text.addr-pc), uint32(len(text.data)))
	b = append(b, make([]byte, 8)...) // no augmentation data, DW_CFA_nop
	b.u32(0)
	copy(eh.data, b)

	b = buffer{1, 0x1b, 0x03, 0x3b}
	b.u32(uint32(eh.addr - (hdr.addr + 4)))
	b.u32(1, uint32(text.addr-hdr.addr), uint32(eh.addr+fde-hdr.addr))
	copy(hdr.data, b)
}
