package pvh

import (
	"debug/elf"
	"encoding/binary"
	"errors"
)

// The Go runtime's table of functions (.gopclntab; runtime/symtab.go, type pcHeader, and runtime2.go, type _func, of Go 1.26) has
// for each function small tables from program counter to stack depth, to what the collector needs, to which arguments are live, to
// file and to line. The last three are for tracebacks alone, and a quarter of the whole. They are left out: a traceback of the kernel names
// functions and program counters, for which `go tool addr2line` with the kernel that has its symbols tells the lines.
//
// Nothing is moved but tables, to the end of their part of the section; what is before them becomes free, with
// the names of files that lie in front of it.

const (
	pclnSection = ".gopclntab"
	pclnMagic   = 0xfffffff1 // Go 1.20 and later

	// Offsets in pcHeader.
	headFuncs = 8
	headCutab = 40
	headPctab = 56
	headPcln  = 64
	headSize  = 72

	// Offsets in _func.
	funcPcsp    = 16
	funcPcfile  = 20
	funcPcln    = 24
	funcNpcdata = 28
	funcFixed   = 44

	// pcdataArgLive is the table of which arguments are live (internal/abi, PCDATA_ArgLiveIndex).
	pcdataArgLive = 3
)

var errPcln = errors.New("the table of functions (.gopclntab) is not as Go 1.26 makes it")

// dropLines takes the tables of files and lines out of tab and returns which bytes of it are free then.
func dropLines(tab []byte) (from, to uint64, err error) {
	le := binary.LittleEndian
	size := uint64(len(tab))
	if size < headSize || le.Uint32(tab) != pclnMagic || tab[7] != 8 {
		return 0, 0, errPcln
	}
	funcs, pctab, pcln := le.Uint64(tab[headFuncs:]), le.Uint64(tab[headPctab:]), le.Uint64(tab[headPcln:])
	cutab := le.Uint64(tab[headCutab:])
	if cutab > pctab || cutab < headSize || pctab > pcln || pcln > size || funcs > (size-pcln)/8 {
		return 0, 0, errPcln
	}
	old := append([]byte(nil), tab[pctab:pcln]...)
	var fresh []byte
	var fields [][]byte // that hold offsets in fresh
	moved := map[uint32]uint32{}
	move := func(at []byte) error {
		off := le.Uint32(at)
		if off == 0 { // no table
			return nil
		}
		fields = append(fields, at)
		to, ok := moved[off]
		if !ok {
			n, err := tableSize(old, off)
			if err != nil {
				return err
			}
			to = uint32(len(fresh))
			moved[off] = to
			fresh = append(fresh, old[off:][:n]...)
		}
		le.PutUint32(at, to)
		return nil
	}
	for i := range funcs {
		off := uint64(le.Uint32(tab[pcln+8*i+4:]))
		if off > size-pcln || size-pcln-off < funcFixed {
			return 0, 0, errPcln
		}
		f := tab[pcln+off:]
		le.PutUint32(f[funcPcfile:], 0)
		le.PutUint32(f[funcPcln:], 0)
		count := uint64(le.Uint32(f[funcNpcdata:]))
		if count > (uint64(len(f))-funcFixed)/4 {
			return 0, 0, errPcln
		}
		if err := move(f[funcPcsp:]); err != nil {
			return 0, 0, err
		}
		for j := range count {
			if j == pcdataArgLive {
				le.PutUint32(f[funcFixed+4*j:], 0)
				continue
			}
			if err := move(f[funcFixed+4*j:]); err != nil {
				return 0, 0, err
			}
		}
	}
	if len(fresh) >= len(old) {
		return 0, 0, errPcln
	}
	base := len(old) - len(fresh)
	for _, at := range fields {
		le.PutUint32(at, le.Uint32(at)+uint32(base))
	}
	to = pctab + uint64(base)
	copy(tab[to:pcln], fresh)
	clear(tab[cutab:to])
	return cutab, to, nil
}

// tableSize is the length of the table at off: pairs of numbers in base 128, the first 0 that does not begin it ends it.
func tableSize(b []byte, off uint32) (int, error) {
	if uint64(off) >= uint64(len(b)) {
		return 0, errPcln
	}
	at := b[off:]
	for n := 0; ; {
		v, k := binary.Uvarint(at[n:])
		if k <= 0 {
			return 0, errPcln
		}
		if v == 0 && n > 0 {
			return n + k, nil
		}
		_, l := binary.Uvarint(at[n+k:])
		if l <= 0 {
			return 0, errPcln
		}
		n += k + l
	}
}

// withoutLines drops the lines of an executable's segments; the pages that become free are left out of the image, and
// are for the kernel to use.
func withoutLines(f *elf.File, loads []segment) (out []segment, gap hole, err error) {
	section := f.Section(pclnSection)
	if section == nil {
		return loads, gap, nil
	}
	for _, s := range loads {
		if section.Addr < s.Vaddr || section.Addr-s.Vaddr > s.Filesz || section.Size > s.Filesz-(section.Addr-s.Vaddr) {
			out = append(out, s)
			continue
		}
		s.data = append([]byte(nil), s.data...)
		start := section.Addr - s.Vaddr
		from, to, err := dropLines(s.data[start:][:section.Size])
		if err != nil {
			return nil, gap, err
		}
		from = (s.Vaddr+start+from+pageSize-1)&^(pageSize-1) - s.Vaddr
		to = (s.Vaddr+start+to)&^(pageSize-1) - s.Vaddr
		if s.Filesz != s.Memsz || from >= to {
			out = append(out, s)
			continue
		}
		gap = hole{s.Paddr + from, s.Paddr + to}
		out = append(out, load(elf.ProgFlag(s.Flags), s.Vaddr, s.Paddr, s.data[:from]), load(elf.ProgFlag(s.Flags), s.Vaddr+to, s.Paddr+to, s.data[to:]))
	}
	return out, gap, nil
}
