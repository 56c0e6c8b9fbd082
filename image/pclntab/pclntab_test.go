package pclntab

import (
	"bytes"
	"debug/elf"
	"os"
	"slices"
	"strings"
	"testing"
)

// self returns the tables of this test's own executable.
func self(t testing.TB) (section []byte, addr uint64, module []byte) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if section, err = f.Section(Section).Data(); err != nil {
		t.Fatal(err)
	}
	if module, err = f.Section(Module).Data(); err != nil {
		t.Fatal(err)
	}
	return section, f.Section(Section).Addr, module
}

func shrunk(t testing.TB) (before, after *shrinker, size, used int) {
	section, addr, module := self(t)
	before, err := split(section, addr, module)
	if err != nil {
		t.Fatal(err)
	}
	if used, err = Shrink(section, addr, module); err != nil {
		t.Fatal(err)
	}
	if after, err = split(section[:used], addr, module); err != nil {
		t.Fatal(err)
	}
	return before, after, len(section), used
}

// What the runtime needs for more than tracebacks is the same for every function.
func TestShrink(t *testing.T) {
	before, after, size, used := shrunk(t)
	if used > size*2/3 {
		t.Errorf("%d of %d bytes are left", used, size)
	}
	if before.funcs != after.funcs || !bytes.HasPrefix(after.findfunc, before.findfunc) {
		t.Fatalf("%d functions, then %d; found by %d bytes, then %d", before.funcs, after.funcs, len(before.findfunc), len(after.findfunc))
	}
	if a, b := before.pcln[8*before.funcs:][:4], after.pcln[8*before.funcs:][:4]; !bytes.Equal(a, b) {
		t.Errorf("the end of the code is at %x, then %x", a, b)
	}
	trees := 0
	for i := range before.funcs {
		if !bytes.Equal(before.pcln[8*i:][:4], after.pcln[8*i:][:4]) {
			t.Fatalf("function %d begins elsewhere", i)
		}
		if sameFunction(t, i, before, after) {
			trees++
		}
	}
	if trees == 0 || trees > before.funcs/10 {
		t.Errorf("%d of %d functions keep what is inlined", trees, before.funcs)
	}
}

// sameFunction reports whether function i keeps the table of what is inlined in it.
func sameFunction(t *testing.T, i int, before, after *shrinker) (tree bool) {
	b, bpc, bdata, err := before.record(i)
	if err != nil {
		t.Fatal(err)
	}
	a, apc, adata, err := after.record(i)
	if err != nil {
		t.Fatal(err)
	}
	name := before.name(le.Uint32(b[funcName:]))
	if got, want := after.name(le.Uint32(a[funcName:])), Shorten(name); got != want {
		t.Fatalf("function %s is named %s, not %s", name, got, want)
	}
	for off := 0; off < funcFixed; off += 4 {
		if !slices.Contains([]int{funcName, funcPcsp, funcPcfile, funcPcln, funcNpcdata, funcCu, funcFuncdata &^ 3}, off) && !bytes.Equal(b[off:][:4], a[off:][:4]) {
			t.Fatalf("%s: field %d differs", name, off)
		}
	}
	if !bytes.Equal(b[funcCu+8:][:3], a[funcCu+8:][:3]) {
		t.Fatalf("%s: another kind of function", name)
	}
	tree = len(adata) > funcdataInlTree && adata[funcdataInlTree] != none
	if !bytes.Equal(table(t, before, le.Uint32(b[funcPcsp:])), table(t, after, le.Uint32(a[funcPcsp:]))) {
		t.Fatalf("%s: other stack depths", name)
	}
	for j, off := range bpc {
		if j != pcdataArgLive && (j != pcdataInlTree || tree) && !bytes.Equal(table(t, before, off), table(t, after, at(apc, j, 0))) {
			t.Fatalf("%s: another table %d", name, j)
		}
	}
	for j, off := range bdata {
		traceback := j == funcdataInlTree || j == funcdataArgInfo || j == funcdataArgLive || j == funcdataWrapInfo
		if !traceback && !bytes.HasPrefix(funcdata(after, at(adata, j, none)), funcdata(before, off)) {
			t.Fatalf("%s: other funcdata %d", name, j)
		}
	}
	if want := len(bdata) > funcdataInlTree && before.guards(name, bdata[funcdataInlTree]); want != tree {
		t.Fatalf("%s: keeps what is inlined: %v", name, tree)
	}
	if tree {
		sameTree(t, name, before, after, bdata[funcdataInlTree], adata[funcdataInlTree])
	}
	return tree
}

func sameTree(t *testing.T, name string, before, after *shrinker, b, a uint32) {
	old, now := before.data(b), after.data(a)
	for ; len(old) >= inlinedSize; old, now = old[inlinedSize:], now[inlinedSize:] {
		want := Shorten(before.name(le.Uint32(old[inlinedName:])))
		if got := after.name(le.Uint32(now[inlinedName:])); got != want || !bytes.Equal(old[8:inlinedSize], now[8:inlinedSize]) {
			t.Fatalf("%s: %s is inlined, not %s", name, got, want)
		}
	}
}

func at(list []uint32, j int, absent uint32) uint32 {
	if j < len(list) {
		return list[j]
	}
	return absent
}

func table(t *testing.T, s *shrinker, off uint32) []byte {
	if off == 0 {
		return nil
	}
	n, err := tableSize(s.pctab, off)
	if err != nil {
		t.Fatal(err)
	}
	return s.pctab[off:][:n]
}

func funcdata(s *shrinker, off uint32) []byte {
	if off == none {
		return nil
	}
	return s.data(off)
}

func TestShorten(t *testing.T) {
	for name, want := range map[string]string{
		"":                                       "",
		"runtime.main":                           "runtime.main",
		"gosv/kernel/syscall.(*Call).open.func1": "kernel/syscall.(*Call).open.func1",
		"sync/atomic.(*Pointer[go.shape.struct { gosv/kernel/vfs.x [3]int }]).Load": "sync/atomic.(*Pointer[...]).Load",
		"type:.eq.gvisor.dev/gvisor/pkg/tcpip.FullAddress":                          "type:.eq.tcpip.FullAddress",
		"odd]name[": "odd]name[",
	} {
		if got := Shorten(name); got != want {
			t.Errorf("%s becomes %s, not %s", name, got, want)
		}
	}
	for _, name := range []string{"runtime.x", "internal/runtime/maps.x", "reflect.x"} {
		if !unpreempted(Shorten(name)) || unpreempted(Shorten("gosv/"+name)) != unpreempted(name) && strings.HasPrefix(name, "gosv") {
			t.Errorf("the runtime would not know %s by its name", name)
		}
	}
}

// What is not such a table is refused, and stays as it is.
func TestShrinkRefuses(t *testing.T) {
	section, addr, module := self(t)
	tables := le.Uint64(section[headPcln:])
	for name, harm := range map[string]func(section, module []byte) ([]byte, []byte){
		"nothing":      func(s, m []byte) ([]byte, []byte) { return nil, nil },
		"header only":  func(s, m []byte) ([]byte, []byte) { return s[:headSize], m },
		"half":         func(s, m []byte) ([]byte, []byte) { return s[:len(s)/2], m },
		"magic":        func(s, m []byte) ([]byte, []byte) { s[0]++; return s, m },
		"many":         func(s, m []byte) ([]byte, []byte) { s[headFuncs+6]++; return s, m },
		"order":        func(s, m []byte) ([]byte, []byte) { le.PutUint64(s[headPctab:], 1<<40); return s, m },
		"short module": func(s, m []byte) ([]byte, []byte) { return s, m[:100] },
		"moved":        func(s, m []byte) ([]byte, []byte) { m[0]++; return s, m },
		"far record":   func(s, m []byte) ([]byte, []byte) { le.PutUint32(s[tables+4:], 1<<31); return s, m },
		"far name": func(s, m []byte) ([]byte, []byte) {
			le.PutUint32(s[tables+uint64(le.Uint32(s[tables+4:]))+funcName:], 1<<31)
			return s, m
		},
		"far table": func(s, m []byte) ([]byte, []byte) {
			le.PutUint32(s[tables+uint64(le.Uint32(s[tables+4:]))+funcPcsp:], 1<<31)
			return s, m
		},
	} {
		s, m := harm(bytes.Clone(section), bytes.Clone(module))
		was, wasModule := bytes.Clone(s), bytes.Clone(m)
		if _, err := Shrink(s, addr, m); err == nil {
			t.Errorf("%s: taken", name)
		}
		if !bytes.Equal(s, was) || !bytes.Equal(m, wasModule) {
			t.Errorf("%s: changed", name)
		}
	}
}
