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

// An object is the shared object that is being made.
type object struct {
	symbols         []symbol
	names           []uint32 // of the symbols, in the string table
	nameSo, nameVer uint32

	hash, gnu, dynsym, dynstr, versym, verdef, dynamic, note, frameHeader, frames, text, shstr *section

	sections []*section
	shnames  []uint32 // of the sections, in shstr
	end      uint64   // of the last section
}

const phnum = 4

// image makes the shared object: headers, then the sections, one read-only,
// executable segment at address 0 (ELF-64 object file format; System V ABI,
// AMD64 supplement; Linux Standard Base for the GNU parts).
func image() []byte {
	o := newObject()
	prog := program()
	o.text.data, _ = prog.assemble(0) // for its length
	o.place()
	body, labels := prog.assemble(o.text.addr)
	o.text.data = body
	o.fill(labels)
	b := o.bytes()
	if len(b) > 4096 {
		panic("vdso: the image is larger than a page")
	}
	return b
}

// newObject makes the sections; what holds addresses is only as long as it will be.
func newObject() *object {
	o := &object{symbols: symbols()}
	var strtab table
	o.nameSo, o.nameVer = strtab.add(soname), strtab.add(version)
	for _, s := range o.symbols {
		o.names = append(o.names, strtab.add(s.name))
	}
	n := len(o.symbols)
	const rx, r = elf.SHF_ALLOC | elf.SHF_EXECINSTR, elf.SHF_ALLOC
	const dynsym, dynstr = 3, 4 // numbers of sections
	o.hash = &section{name: ".hash", typ: elf.SHT_HASH, flags: r, link: dynsym, align: 8, entry: 4, data: sysvTable(o.symbols)}
	o.gnu = &section{name: ".gnu.hash", typ: elf.SHT_GNU_HASH, flags: r, link: dynsym, align: 8, data: gnuTable(o.symbols)}
	o.dynsym = &section{name: ".dynsym", typ: elf.SHT_DYNSYM, flags: r, link: dynstr, info: 1, align: 8, entry: 24, data: make([]byte, 24*(n+1))}
	o.dynstr = &section{name: ".dynstr", typ: elf.SHT_STRTAB, flags: r, align: 1, data: strtab}
	o.versym = &section{name: ".gnu.version", typ: elf.SHT_GNU_VERSYM, flags: r, link: dynsym, align: 2, entry: 2, data: versions(n)}
	o.verdef = &section{name: ".gnu.version_d", typ: elf.SHT_GNU_VERDEF, flags: r, link: dynstr, info: 2, align: 8, data: definitions(o.nameSo, o.nameVer)}
	o.dynamic = &section{name: ".dynamic", typ: elf.SHT_DYNAMIC, flags: r, link: dynstr, align: 8, entry: 16, data: make([]byte, 16*11)}
	o.note = &section{name: ".note", typ: elf.SHT_NOTE, flags: r, align: 4, data: linuxNote()}
	o.frameHeader = &section{name: ".eh_frame_hdr", typ: elf.SHT_PROGBITS, flags: r, align: 4, data: make([]byte, 20)}
	o.frames = &section{name: ".eh_frame", typ: elf.SHT_PROGBITS, flags: r, align: 8, data: make([]byte, 52)}
	o.text = &section{name: ".text", typ: elf.SHT_PROGBITS, flags: rx, align: 64}
	o.shstr = &section{name: ".shstrtab", typ: elf.SHT_STRTAB, align: 1}
	o.sections = []*section{o.hash, o.gnu, o.dynsym, o.dynstr, o.versym, o.verdef, o.dynamic, o.note, o.frameHeader, o.frames, o.text, o.shstr}
	var names table
	for _, s := range o.sections {
		o.shnames = append(o.shnames, names.add(s.name))
	}
	o.shstr.data = names
	return o
}

// place gives the sections their addresses, which are their places in the file.
func (o *object) place() {
	at := uint64(64 + 56*phnum)
	for _, s := range o.sections {
		at = (at + s.align - 1) &^ (s.align - 1)
		s.addr = at
		at += uint64(len(s.data))
	}
	o.end = at
}

// fill writes what holds addresses.
func (o *object) fill(labels map[string]uint64) {
	fillSymbols(o.dynsym.data, o.symbols, o.names, labels, len(o.text.data), o.text.addr)
	o.fillDynamic()
	fillFrames(o.frameHeader, o.frames, o.text)
}

// bytes puts it together.
func (o *object) bytes() []byte {
	b := header((o.end+7)&^7, phnum, uint16(len(o.sections)+1))
	segment := func(typ elf.ProgType, flags elf.ProgFlag, off, n, align uint64) {
		b.u32(uint32(typ), uint32(flags))
		b.u64(off, off, off, n, n, align)
	}
	segment(elf.PT_LOAD, elf.PF_R|elf.PF_X, 0, o.shstr.addr, 4096)
	segment(elf.PT_DYNAMIC, elf.PF_R, o.dynamic.addr, uint64(len(o.dynamic.data)), 8)
	segment(elf.PT_NOTE, elf.PF_R, o.note.addr, uint64(len(o.note.data)), 4)
	segment(elf.PT_GNU_EH_FRAME, elf.PF_R, o.frameHeader.addr, uint64(len(o.frameHeader.data)), 4)
	for _, s := range o.sections {
		b = append(b, make([]byte, s.addr-uint64(len(b)))...)
		b = append(b, s.data...)
	}
	b.pad(8)
	b = append(b, make([]byte, 64)...) // section 0
	for i, s := range o.sections {
		addr := s.addr
		if s.flags == 0 {
			addr = 0
		}
		b.u32(o.shnames[i], uint32(s.typ))
		b.u64(uint64(s.flags), addr, s.addr, uint64(len(s.data)))
		b.u32(s.link, s.info)
		b.u64(s.align, s.entry)
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

func (o *object) fillDynamic() {
	var b buffer
	for _, d := range []struct {
		tag elf.DynTag
		v   uint64
	}{
		{elf.DT_SONAME, uint64(o.nameSo)},
		{elf.DT_HASH, o.hash.addr},
		{elf.DT_GNU_HASH, o.gnu.addr},
		{elf.DT_STRTAB, o.dynstr.addr},
		{elf.DT_SYMTAB, o.dynsym.addr},
		{elf.DT_STRSZ, uint64(len(o.dynstr.data))},
		{elf.DT_SYMENT, 24},
		{elf.DT_VERSYM, o.versym.addr},
		{elf.DT_VERDEF, o.verdef.addr},
		{elf.DT_VERDEFNUM, 2},
		{elf.DT_NULL, 0},
	} {
		b.u64(uint64(d.tag), d.v)
	}
	copy(o.dynamic.data, b)
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
