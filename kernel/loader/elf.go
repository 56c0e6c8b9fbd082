package loader

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// Sizes of an ELF64 file's structures, and how much of a program the kernel
// looks at to know what it is (BINPRM_BUF_SIZE).
const (
	headerSize = 64
	phdrSize   = 56
	maxPhdrs   = 65536 / phdrSize
	firstBytes = 256
	maxInterp  = 4096
	machineX86 = 62
	typeExec   = 2
	typeDyn    = 3
	ptLoad     = 1
	ptInterp   = 3
	ptGNUStack = 0x6474e551
	pfX        = 1
	pfW        = 2
	pfR        = 4
	pageMask   = machine.PageSize - 1
)

// A segment is a PT_LOAD program header.
type segment struct {
	flags                       uint32
	offset, vaddr, filesz, msiz uint64
}

func (s *segment) prot() int {
	p := 0
	if s.flags&pfR != 0 {
		p |= unix.PROT_READ
	}
	if s.flags&pfW != 0 {
		p |= unix.PROT_WRITE
	}
	if s.flags&pfX != 0 {
		p |= unix.PROT_EXEC
	}
	return p
}

// object is what the headers of an ELF file say, validated: all segments lie
// below machine.UserTop and in ascending order is NOT promised.
type object struct {
	dyn       bool
	entry     uint64
	phdrs     uint64 // virtual address of the program headers, unbiased; 0: not loaded
	phnum     uint64
	segments  []segment
	align     uint64 // largest p_align that is a power of two
	interpOff uint64
	interpLen uint64 // 0: no PT_INTERP
	execStack bool
}

// A header is the part of the ELF header that is needed to find the program headers.
type header struct {
	dyn          bool
	entry, phoff uint64
	phnum        int
}

// parseHeader reads the ELF header. It fails with ENOEXEC when b is no ELF64
// program for x86-64.
func parseHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:4]) != "\x7fELF" || b[4] != 2 || b[5] != 1 {
		return header{}, unix.ENOEXEC
	}
	typ, phnum := le.Uint16(b[16:]), int(le.Uint16(b[56:]))
	if typ != typeExec && typ != typeDyn || le.Uint16(b[18:]) != machineX86 ||
		le.Uint16(b[54:]) != phdrSize || phnum == 0 || phnum > maxPhdrs {
		return header{}, unix.ENOEXEC
	}
	return header{typ == typeDyn, le.Uint64(b[24:]), le.Uint64(b[32:]), phnum}, nil
}

// parseProgram reads the program headers b, h.phnum of them. The errors are
// those of Linux: ENOEXEC for what cannot be a program, EINVAL for segments that
// cannot be mapped.
func parseProgram(h header, b []byte) (*object, error) {
	if len(b) < h.phnum*phdrSize {
		return nil, unix.ENOEXEC
	}
	le := binary.LittleEndian
	o := &object{dyn: h.dyn, entry: h.entry, phnum: uint64(h.phnum), align: machine.PageSize}
	for ; len(b) >= phdrSize && h.phnum > 0; b, h.phnum = b[phdrSize:], h.phnum-1 {
		flags := le.Uint32(b[4:])
		offset, vaddr, filesz := le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[32:])
		memsz, align := le.Uint64(b[40:]), le.Uint64(b[48:])
		switch le.Uint32(b) {
		case ptInterp:
			if o.interpLen != 0 {
				continue // the first one counts
			}
			if filesz < 2 || filesz > maxInterp {
				return nil, unix.ENOEXEC
			}
			o.interpOff, o.interpLen = offset, filesz
		case ptGNUStack:
			o.execStack = flags&pfX != 0
		case ptLoad:
			s := segment{flags, offset, vaddr, filesz, memsz}
			if err := s.check(); err != nil {
				return nil, err
			}
			if memsz == 0 {
				continue
			}
			if h.phoff >= offset && h.phoff-offset < filesz && o.phdrs == 0 {
				o.phdrs = h.phoff - offset + vaddr
			}
			if align > o.align && align&(align-1) == 0 && align < machine.UserTop/4 {
				o.align = align
			}
			o.segments = append(o.segments, s)
		}
	}
	if len(o.segments) == 0 {
		return nil, unix.ENOEXEC
	}
	return o, nil
}

// check says whether the segment can be mapped at all: file offset and
// address must agree within the page, and neither sum may overflow.
func (s *segment) check() error {
	switch {
	case s.filesz > s.msiz,
		s.msiz > machine.UserTop, s.vaddr > machine.UserTop-s.msiz,
		s.filesz > 1<<62, s.offset > 1<<62,
		s.filesz != 0 && (s.offset^s.vaddr)&pageMask != 0:
		return unix.EINVAL
	}
	return nil
}

// span returns the lowest and the highest address used, page-aligned.
func (o *object) span() (lo, hi uint64) {
	lo = machine.UserTop
	for i := range o.segments {
		s := &o.segments[i]
		lo = min(lo, s.vaddr&^pageMask)
		hi = max(hi, (s.vaddr+s.msiz+pageMask)&^pageMask)
	}
	return lo, hi
}
