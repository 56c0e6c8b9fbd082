// Package pclntab makes small the tables of functions in a Go executable.
//
// The Go runtime (Go 1.26: runtime/symtab.go, types moduledata and pcHeader; runtime/runtime2.go, type _func;
// internal/abi/symtab.go) has for each function a record, its name, and small tables: by program counter from code to stack depth and to what the collector needs, and
// "funcdata", which the program counter does not choose. Half of all this is for tracebacks alone: files, lines, arguments,
// and which functions were inlined where. Shrink leaves it out, writes names short, and packs the rest together.
//
// What the collector, panics, defers and preemption read stays as it was. A traceback names the functions that were called, not those
// that were inlined, without files and lines; `go tool addr2line` with the same executable unshrunk tells them.
package pclntab

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// Section and Module are the sections of an executable that Shrink changes.
const (
	Section = ".gopclntab"
	Module  = ".go.module"
)

const (
	magic = 0xfffffff1 // Go 1.20 and later

	// pcHeader: offsets of its fields, and its size.
	headFuncs    = 8
	headFuncname = 32
	headCutab    = 40
	headFiletab  = 48
	headPctab    = 56
	headPcln     = 64
	headSize     = 72

	// _func: offsets of its fields, and the size of the fixed part.
	funcName     = 4
	funcPcsp     = 16
	funcPcfile   = 20
	funcPcln     = 24
	funcNpcdata  = 28
	funcCu       = 32
	funcFuncdata = 43
	funcFixed    = 44

	// moduledata: 8-byte words of its fields; a slice has three.
	modHeader   = 0
	modFuncname = 1
	modCutab    = 4
	modFiletab  = 7
	modPctab    = 10
	modPclntab  = 13
	modFtab     = 16
	modFindfunc = 19
	modGofunc   = 40
	modEnd      = 41
	modWords    = 42

	// Tables by program counter (internal/abi, PCDATA_…), and their number.
	pcdataInlTree = 2
	pcdataArgLive = 3

	// What the program counter does not choose (internal/abi, FUNCDATA_…).
	funcdataInlTree  = 3
	funcdataArgInfo  = 5
	funcdataArgLive  = 6
	funcdataWrapInfo = 7

	inlinedSize = 16 // runtime/symtabinl.go, type inlinedCall
	inlinedName = 4

	none = 0xffffffff // a funcdata that is not there
)

// ErrFormat says that the tables are not as Go 1.26 makes them.
var ErrFormat = errors.New("the tables of functions (.gopclntab) are not as Go 1.26 makes them")

var le = binary.LittleEndian

// shrinker has the parts of the old section, and of the new one.
type shrinker struct {
	names, pctab, pcln, gofunc, findfunc []byte
	funcs                                int
	starts                               []uint32 // where in gofunc something begins, ascending

	newNames, newPctab, newPcln, newGofunc []byte
	nameAt, pcAt, dataAt                   map[string]uint32 // where in the new parts something is already

	err error
}

// Shrink rewrites section, the contents of .gopclntab at the virtual address addr, and the runtime's description of it in module (.go.module).
// It returns how many bytes of section are in use then; the rest is zero. The error is ErrFormat, and both are as before then.
func Shrink(section []byte, addr uint64, module []byte) (used int, err error) {
	s, err := split(section, addr, module)
	if err != nil {
		return 0, err
	}
	s.functions()
	if s.err != nil {
		return 0, s.err
	}
	return s.write(section, addr, module)
}

// split finds the parts of the section.
func split(section []byte, addr uint64, module []byte) (*shrinker, error) {
	size := uint64(len(section))
	if size < headSize || le.Uint32(section) != magic || section[7] != 8 || len(module) < 8*modWords {
		return nil, ErrFormat
	}
	word := func(i int) uint64 { return le.Uint64(module[8*i:]) - addr }
	names, cutab, pctab, pcln := le.Uint64(section[headFuncname:]), le.Uint64(section[headCutab:]), le.Uint64(section[headPctab:]), le.Uint64(section[headPcln:])
	gofunc, findfunc, end := word(modGofunc), word(modFindfunc), word(modEnd)
	order := []uint64{0, headSize, names, cutab, pctab, pcln, gofunc, findfunc, end, size}
	funcs := le.Uint64(section[headFuncs:])
	if !slices.IsSorted(order) || word(modHeader) != 0 || word(modFuncname) != names || word(modPctab) != pctab || word(modFtab) != pcln || word(modPclntab) != pcln ||
		funcs == 0 || funcs > (gofunc-pcln)/8 {
		return nil, ErrFormat
	}
	part := func(from, to uint64) []byte { return slices.Clone(section[from:to]) }
	s := &shrinker{
		names: part(names, cutab), pctab: part(pctab, pcln), pcln: part(pcln, gofunc), gofunc: part(gofunc, findfunc), findfunc: part(findfunc, end),
		funcs: int(funcs), nameAt: map[string]uint32{}, pcAt: map[string]uint32{}, dataAt: map[string]uint32{},
		newNames: []byte{0}, newPctab: []byte{0}, // offset 0 is no name, and no table
	}
	return s, s.findStarts()
}

// record returns the record of function i from its first byte on, its tables by program counter, and its funcdata.
func (s *shrinker) record(i int) (f []byte, pcdata, funcdata []uint32, err error) {
	off := le.Uint32(s.pcln[8*i+4:])
	if int64(off) > int64(len(s.pcln))-funcFixed {
		return nil, nil, nil, ErrFormat
	}
	f = s.pcln[off:]
	n, m := le.Uint32(f[funcNpcdata:]), uint32(f[funcFuncdata])
	if n > 16 || uint32(len(f)) < funcFixed+4*(n+m) {
		return nil, nil, nil, ErrFormat
	}
	for j := range n + m {
		v := le.Uint32(f[funcFixed+4*j:])
		if j < n {
			pcdata = append(pcdata, v)
		} else {
			funcdata = append(funcdata, v)
		}
	}
	return f, pcdata, funcdata, nil
}

func (s *shrinker) findStarts() error {
	for i := range s.funcs {
		_, _, data, err := s.record(i)
		if err != nil {
			return err
		}
		for _, off := range data {
			if off != none && int64(off) >= int64(len(s.gofunc)) {
				return ErrFormat
			}
			if off != none {
				s.starts = append(s.starts, off)
			}
		}
	}
	slices.Sort(s.starts)
	s.starts = slices.Compact(s.starts)
	return nil
}

// functions writes the new records.
func (s *shrinker) functions() {
	const entry = 8
	s.newPcln = make([]byte, entry*s.funcs+4, len(s.pcln))
	copy(s.newPcln, s.pcln) // where the code of each begins; and its end
	for i := range s.funcs {
		f, pcdata, funcdata, err := s.record(i)
		if err != nil {
			s.err = err
			return
		}
		le.PutUint32(s.newPcln[entry*i+4:], uint32(len(s.newPcln)))
		s.function(f[:funcFixed], pcdata, funcdata)
	}
}

// function appends one record.
func (s *shrinker) function(old []byte, pcdata, funcdata []uint32) {
	f := slices.Clone(old)
	own := s.name(le.Uint32(old[funcName:]))
	keepTree := len(funcdata) > funcdataInlTree && s.guards(own, funcdata[funcdataInlTree])
	le.PutUint32(f[funcName:], s.addName(own))
	le.PutUint32(f[funcPcsp:], s.addTable(le.Uint32(old[funcPcsp:])))
	for _, field := range []int{funcPcfile, funcPcln, funcCu} {
		le.PutUint32(f[field:], 0)
	}
	for j := range pcdata {
		if j == pcdataArgLive || j == pcdataInlTree && !keepTree {
			pcdata[j] = 0
		}
		pcdata[j] = s.addTable(pcdata[j])
	}
	for j := range funcdata {
		switch {
		case j == funcdataArgInfo, j == funcdataArgLive, j == funcdataWrapInfo, j == funcdataInlTree && !keepTree:
			funcdata[j] = none
		case j == funcdataInlTree && funcdata[j] != none:
			funcdata[j] = s.addTree(funcdata[j])
		default:
			funcdata[j] = s.addData(funcdata[j])
		}
	}
	pcdata, funcdata = trim(pcdata, 0), trim(funcdata, none)
	le.PutUint32(f[funcNpcdata:], uint32(len(pcdata)))
	f[funcFuncdata] = byte(len(funcdata))
	for _, v := range append(pcdata, funcdata...) {
		f = le.AppendUint32(f, v)
	}
	s.newPcln = append(s.newPcln, f...)
}

// trim leaves out what is absent at the end.
func trim(list []uint32, absent uint32) []uint32 {
	for len(list) > 0 && list[len(list)-1] == absent {
		list = list[:len(list)-1]
	}
	return list
}

// name is the name at off.
func (s *shrinker) name(off uint32) string {
	if int64(off) >= int64(len(s.names)) {
		s.err = ErrFormat
		return ""
	}
	name, _, ok := strings.Cut(string(s.names[off:]), "\x00")
	if !ok {
		s.err = ErrFormat
	}
	return name
}

// Shorten makes a function's name short: type arguments are dots, as tracebacks show them, and the longest beginnings of
// packages' paths are left out.
func Shorten(name string) string {
	if i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); i >= 0 && j > i {
		name = name[:i] + "[...]" + name[j+1:]
	}
	return prefixes.Replace(name)
}

var prefixes = strings.NewReplacer("gvisor.dev/gvisor/pkg/", "", "gosv/", "", "github.com/", "", "golang.org/x/", "")

func (s *shrinker) addName(name string) uint32 {
	if name == "" {
		return 0
	}
	name = Shorten(name)
	at, ok := s.nameAt[name]
	if !ok {
		at = uint32(len(s.newNames))
		s.newNames = append(append(s.newNames, name...), 0)
		s.nameAt[name] = at
	}
	return at
}

// addTable adds the table by program counter at off.
func (s *shrinker) addTable(off uint32) uint32 {
	if off == 0 || s.err != nil {
		return 0
	}
	n, err := tableSize(s.pctab, off)
	if err != nil {
		s.err = err
		return 0
	}
	table := string(s.pctab[off:][:n])
	at, ok := s.pcAt[table]
	if !ok {
		at = uint32(len(s.newPctab))
		s.newPctab = append(s.newPctab, table...)
		s.pcAt[table] = at
	}
	return at
}

// tableSize is the length of the table at off: pairs of numbers in base 128, the first 0 that does not begin it ends it.
func tableSize(b []byte, off uint32) (int, error) {
	if uint64(off) >= uint64(len(b)) {
		return 0, ErrFormat
	}
	at := b[off:]
	for n := 0; ; {
		v, k := binary.Uvarint(at[n:])
		if k <= 0 {
			return 0, ErrFormat
		}
		if v == 0 && n > 0 {
			return n + k, nil
		}
		_, l := binary.Uvarint(at[n+k:])
		if l <= 0 {
			return 0, ErrFormat
		}
		n += k + l
	}
}

// data is what begins at off in gofunc, padding included.
func (s *shrinker) data(off uint32) []byte {
	i, ok := slices.BinarySearch(s.starts, off)
	switch {
	case !ok:
		return nil
	case i+1 < len(s.starts):
		return s.gofunc[off:s.starts[i+1]]
	}
	return s.gofunc[off:]
}

func (s *shrinker) addData(off uint32) uint32 {
	if off == none {
		return none
	}
	return s.add(s.data(off), off)
}

// add appends data at an address that is aligned as off is.
func (s *shrinker) add(data []byte, off uint32) uint32 {
	key := string(append(slices.Clone(data), byte(off%8)))
	at, ok := s.dataAt[key]
	if !ok {
		for uint32(len(s.newGofunc))%8 != off%8 {
			s.newGofunc = append(s.newGofunc, 0)
		}
		at = uint32(len(s.newGofunc))
		s.newGofunc = append(s.newGofunc, data...)
		s.dataAt[key] = at
	}
	return at
}

// guards reports whether the functions inlined in the function named own stop the runtime from preempting it: the
// innermost function's name decides (runtime/preempt.go, isAsyncSafePoint), and here the two differ.
func (s *shrinker) guards(own string, tree uint32) bool {
	if tree == none || unpreempted(own) {
		return false
	}
	data := s.data(tree)
	for ; len(data) >= inlinedSize; data = data[inlinedSize:] {
		if unpreempted(s.name(le.Uint32(data[inlinedName:]))) {
			return true
		}
	}
	return false
}

func unpreempted(name string) bool {
	return strings.HasPrefix(name, "runtime.") || strings.HasPrefix(name, "internal/runtime/") || strings.HasPrefix(name, "reflect.")
}

// addTree adds a table of inlined functions.
func (s *shrinker) addTree(off uint32) uint32 {
	data := slices.Clone(s.data(off))
	for at := data; len(at) >= inlinedSize; at = at[inlinedSize:] {
		le.PutUint32(at[inlinedName:], s.addName(s.name(le.Uint32(at[inlinedName:]))))
	}
	return s.add(data, off)
}

// write lays the new parts out and tells the runtime where they are.
func (s *shrinker) write(section []byte, addr uint64, module []byte) (used int, err error) {
	out := slices.Clone(section[:headSize])
	place := func(part []byte) uint64 {
		for len(out)%8 != 0 {
			out = append(out, 0)
		}
		at := uint64(len(out))
		out = append(out, part...)
		return at
	}
	names, pctab, pcln := place(s.newNames), place(s.newPctab), place(s.newPcln)
	gofunc, findfunc := place(s.newGofunc), place(s.findfunc)
	if len(out) > len(section) {
		return 0, ErrFormat
	}
	le.PutUint64(out[headFuncname:], names)
	le.PutUint64(out[headCutab:], pctab) // no files: empty
	le.PutUint64(out[headFiletab:], pctab)
	le.PutUint64(out[headPctab:], pctab)
	le.PutUint64(out[headPcln:], pcln)
	word := func(i int, v uint64) { le.PutUint64(module[8*i:], v) }
	list := func(i int, at uint64, n int) {
		word(i, addr+at)
		word(i+1, uint64(n))
		word(i+2, uint64(n))
	}
	list(modFuncname, names, len(s.newNames))
	list(modCutab, pctab, 0)
	list(modFiletab, pctab, 0)
	list(modPctab, pctab, len(s.newPctab))
	list(modPclntab, pcln, len(s.newPcln))
	word(modFtab, addr+pcln)
	word(modFindfunc, addr+findfunc)
	word(modGofunc, addr+gofunc)
	word(modEnd, addr+uint64(len(out)))
	clear(section[copy(section, out):])
	return len(out), nil
}
