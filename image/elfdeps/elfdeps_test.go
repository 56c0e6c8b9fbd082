package elfdeps

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gosv/image/sysroot"
)

// testELF describes a file for makeELF.
type testELF struct {
	interp, soname, rpath, runpath string
	needed                         []string
	flags1                         uint64
	static                         bool
}

// makeELF returns the smallest x86-64 ELF file with these headers. It has no
// section headers: the loader needs none.
func makeELF(e testELF) []byte {
	le := binary.LittleEndian
	const base, dynamicAt, interpAt, stringsAt = 0x400000, 0x200, 0x600, 0x800
	strs := []byte{0}
	name := func(s string) uint64 {
		strs = append(append(strs, s...), 0)
		return uint64(len(strs) - len(s) - 1)
	}
	var dyn []byte
	tag := func(t elf.DynTag, v uint64) { dyn = le.AppendUint64(le.AppendUint64(dyn, uint64(t)), v) }
	for _, n := range e.needed {
		tag(elf.DT_NEEDED, name(n))
	}
	for _, x := range []struct {
		tag elf.DynTag
		s   string
	}{{elf.DT_SONAME, e.soname}, {elf.DT_RPATH, e.rpath}, {elf.DT_RUNPATH, e.runpath}} {
		if x.s != "" {
			tag(x.tag, name(x.s))
		}
	}
	if e.flags1 != 0 {
		tag(elf.DT_FLAGS_1, e.flags1)
	}
	tag(elf.DT_STRTAB, base+stringsAt)
	tag(elf.DT_STRSZ, uint64(len(strs)))
	tag(elf.DT_NULL, 0)

	b := make([]byte, stringsAt+len(strs))
	copy(b[dynamicAt:], dyn)
	copy(b[interpAt:], e.interp)
	copy(b[stringsAt:], strs)
	progs := []elf.Prog64{{Type: uint32(elf.PT_LOAD), Flags: 5, Vaddr: base, Filesz: uint64(len(b)), Memsz: uint64(len(b)), Align: 4096}}
	if e.interp != "" {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: interpAt, Vaddr: base + interpAt, Filesz: uint64(len(e.interp) + 1)})
	}
	if !e.static {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Off: dynamicAt, Vaddr: base + dynamicAt, Filesz: uint64(len(dyn))})
	}
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs))}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var w bytes.Buffer
	for _, v := range append([]any{&h}, progs) {
		if err := binary.Write(&w, le, v); err != nil {
			panic(err)
		}
	}
	copy(b, w.Bytes())
	return b
}

const glibc, musl = "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"

// root makes a root with files; "->x" is a symbolic link.
func root(t *testing.T, files map[string][]byte) sysroot.Root {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(string(data), "->"); ok {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return sysroot.At(dir)
}

func paths(libs []Library) []string {
	var out []string
	for _, l := range libs {
		out = append(out, l.Path)
	}
	return out
}

func TestClosure(t *testing.T) {
	lib := func(needed ...string) []byte { return makeELF(testELF{needed: needed}) }
	prog := func(e testELF) []byte {
		if e.interp == "" {
			e.interp = glibc
		}
		return makeELF(e)
	}
	foreign := makeELF(testELF{})
	binary.LittleEndian.PutUint16(foreign[18:], uint16(elf.EM_AARCH64))
	base := map[string][]byte{
		glibc:                             makeELF(testELF{soname: "ld-linux-x86-64.so.2"}),
		"/lib/x86_64-linux-gnu/libc.so.6": makeELF(testELF{needed: []string{"ld-linux-x86-64.so.2"}, soname: "libc.so.6"}),
	}
	tests := []struct {
		name  string
		files map[string][]byte
		env   []string // LD_LIBRARY_PATH
		want  []string
	}{
		{"direct", map[string][]byte{"/p": prog(testELF{needed: []string{"libc.so.6"}})}, nil, []string{"/lib/x86_64-linux-gnu/libc.so.6"}},
		{"transitive, breadth first, each once", map[string][]byte{
			"/p":               prog(testELF{needed: []string{"liba.so", "libb.so"}}),
			"/usr/lib/liba.so": lib("libc.so.6", "libb.so", "libd.so"), "/usr/lib/libb.so": lib("libd.so", "libc.so.6"), "/usr/lib/libd.so": lib(),
		}, nil, []string{"/usr/lib/liba.so", "/usr/lib/libb.so", "/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/libd.so"}},
		{"by soname", map[string][]byte{
			"/p": prog(testELF{needed: []string{"liba.so", "liba.so.1"}}), "/usr/lib/liba.so": makeELF(testELF{soname: "liba.so.1"}),
		}, nil, []string{"/usr/lib/liba.so"}},
		{"runpath and origin", map[string][]byte{
			"/opt/x/bin/p":       prog(testELF{needed: []string{"liba.so"}, runpath: "/none:$ORIGIN/../lib"}),
			"/opt/x/lib/liba.so": lib(), "/usr/lib/liba.so": lib(),
			"/p": []byte("->/opt/x/bin/p"),
		}, nil, []string{"/opt/x/lib/liba.so"}},
		{"runpath is not inherited", map[string][]byte{
			"/p":           prog(testELF{needed: []string{"liba.so"}, runpath: "/own"}),
			"/own/liba.so": lib("libb.so"), "/own/libb.so": lib(), "/usr/lib/libb.so": lib(),
		}, nil, []string{"/own/liba.so", "/usr/lib/libb.so"}},
		{"rpath is inherited", map[string][]byte{
			"/p":           prog(testELF{needed: []string{"liba.so"}, rpath: "/own"}),
			"/own/liba.so": lib("libb.so"), "/own/libb.so": lib(), "/usr/lib/libb.so": lib(),
		}, nil, []string{"/own/liba.so", "/own/libb.so"}},
		{"rpath before the environment before runpath", map[string][]byte{
			"/p":         prog(testELF{needed: []string{"liba.so", "libb.so"}, rpath: "/r"}),
			"/r/liba.so": lib(), "/e/liba.so": lib(),
			"/e/libb.so": makeELF(testELF{needed: []string{"libc1.so"}, runpath: "/r"}), "/e/libc1.so": lib(), "/r/libc1.so": lib(),
		}, []string{"/e"}, []string{"/r/liba.so", "/e/libb.so", "/e/libc1.so"}},
		{"foreign libraries are passed over", map[string][]byte{
			"/p": prog(testELF{needed: []string{"liba.so"}}), "/e/liba.so": foreign, "/f/liba.so": []byte("text"), "/usr/lib/liba.so": lib(),
		}, []string{"/e", "/f"}, []string{"/usr/lib/liba.so"}},
		{"ld.so.conf", map[string][]byte{
			"/p":                       prog(testELF{needed: []string{"liba.so", "libb.so"}}),
			"/etc/ld.so.conf":          []byte("# comment\ninclude ld.so.conf.d/*.conf\n/two # more\n"),
			"/etc/ld.so.conf.d/1.conf": []byte("/one\ninclude /etc/ld.so.conf\n"), "/etc/ld.so.conf.d/x.bak": []byte("/bak\n"),
			"/one/liba.so": lib(), "/two/libb.so": lib(), "/bak/liba.so": lib(),
		}, nil, []string{"/one/liba.so", "/two/libb.so"}},
		{"no default directories", map[string][]byte{
			"/p": prog(testELF{needed: []string{"liba.so"}, runpath: "/own", flags1: uint64(elf.DF_1_NODEFLIB)}), "/own/liba.so": lib(),
		}, nil, []string{"/own/liba.so"}},
		{"a path", map[string][]byte{
			"/p": prog(testELF{needed: []string{"/own/liba.so"}}), "/own/liba.so": lib(),
		}, nil, []string{"/own/liba.so"}},
		{"musl", map[string][]byte{
			"/p": prog(testELF{interp: musl, needed: []string{"libc.so", "libm.so.6", "liba.so"}}), musl: lib(),
			MuslPathFile: []byte("/m1:/m2\n/m3\n"), "/m3/liba.so": lib("libc.so"), "/usr/lib/liba.so": lib(),
		}, nil, []string{"/m3/liba.so"}},
		{"musl without a path file", map[string][]byte{
			"/p": prog(testELF{interp: musl, needed: []string{"liba.so"}, rpath: "/own"}), musl: lib(),
			"/own/liba.so": lib("libb.so"), "/own/libb.so": lib(), "/usr/local/lib/libb.so": lib(),
		}, nil, []string{"/own/liba.so", "/own/libb.so"}},
		{"static", map[string][]byte{"/p": makeELF(testELF{static: true})}, nil, nil},
		{"static PIE", map[string][]byte{"/p": makeELF(testELF{})}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := map[string][]byte{}
			for _, m := range []map[string][]byte{base, test.files} {
				for k, v := range m {
					files[k] = v
				}
			}
			f := &Finder{Root: root(t, files), LibraryPath: test.env}
			c, err := f.Closure("/p")
			if err != nil {
				t.Fatal(err)
			}
			if got := paths(c.Libraries); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestScripts(t *testing.T) {
	r := root(t, map[string][]byte{
		"/bin/sh":      makeELF(testELF{static: true}),
		"/usr/bin/env": makeELF(testELF{static: true}),
		"/usr/bin/py":  makeELF(testELF{static: true}),
		"/plain":       []byte("#!/bin/sh\n"), "/arg": []byte("#! /bin/sh -e -u\n"), "/nested": []byte("#!/plain\n"),
		"/env": []byte("#!/usr/bin/env -S A=1 py -u\n"), "/loop": []byte("#!/loop\n"), "/none": []byte("#!\n"), "/rel": []byte("#!sh\n"),
		"/gone": []byte("#!/bin/gone\n"), "/envgone": []byte("#!/usr/bin/env gone\n"),
	})
	f := &Finder{Root: r, SearchPath: []string{"/bin", "/usr/bin"}}
	tests := []struct {
		name string
		want []string
		err  error
	}{
		{"/plain", []string{"/plain", "/bin/sh"}, nil},
		{"/arg", []string{"/arg", "/bin/sh"}, nil},
		{"/nested", []string{"/nested", "/plain", "/bin/sh"}, nil},
		{"/env", []string{"/env", "/usr/bin/env", "/usr/bin/py"}, nil},
		{"/loop", nil, ErrNotExecutable}, {"/none", nil, ErrNotExecutable}, {"/rel", nil, ErrNotExecutable},
		{"/gone", nil, ErrMissing}, {"/envgone", nil, ErrMissing},
	}
	for _, test := range tests {
		c, err := f.Closure(test.name)
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err == nil && !slices.Equal(c.Programs, test.want) {
			t.Errorf("%s: got %q", test.name, c.Programs)
		}
	}
}

func TestErrors(t *testing.T) {
	le := binary.LittleEndian
	good := makeELF(testELF{interp: glibc, needed: []string{"libc.so.6"}})
	change := func(f func(b []byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	files := map[string][]byte{
		glibc:             makeELF(testELF{}),
		"/lib/libok.so":   makeELF(testELF{needed: []string{"libdeep.so"}}),
		"/empty":          nil,
		"/text":           []byte("echo hello\n"),
		"/short":          good[:40],
		"/truncated":      good[:len(good)-1],
		"/cut":            good[:100],
		"/arm":            change(func(b []byte) { le.PutUint16(b[18:], uint16(elf.EM_AARCH64)) }),
		"/i386":           change(func(b []byte) { b[4] = 1; le.PutUint16(b[18:], uint16(elf.EM_386)) }),
		"/x32":            change(func(b []byte) { b[4] = 1 }),
		"/sparc":          change(func(b []byte) { b[5] = 2; binary.BigEndian.PutUint16(b[18:], uint16(elf.EM_SPARCV9)) }),
		"/object":         change(func(b []byte) { le.PutUint16(b[16:], uint16(elf.ET_REL)) }),
		"/core":           change(func(b []byte) { le.PutUint16(b[16:], uint16(elf.ET_CORE)) }),
		"/nophdr":         change(func(b []byte) { le.PutUint16(b[56:], 0) }),
		"/manyphdr":       change(func(b []byte) { le.PutUint16(b[56:], 0xffff) }),
		"/phdrsize":       change(func(b []byte) { le.PutUint16(b[54:], 1) }),
		"/phoff":          change(func(b []byte) { le.PutUint64(b[32:], ^uint64(0)) }),
		"/noload":         change(func(b []byte) { le.PutUint32(b[64:], uint32(elf.PT_NULL)) }),
		"/wrap":           change(func(b []byte) { le.PutUint64(b[64+16:], ^uint64(0)); le.PutUint64(b[64+40:], 1<<20) }),
		"/filesz":         change(func(b []byte) { le.PutUint64(b[64+40:], 1) }),
		"/interpoff":      change(func(b []byte) { le.PutUint64(b[64+56+8:], 1<<40) }),
		"/interpneg":      change(func(b []byte) { le.PutUint64(b[64+56+8:], 1<<63) }),
		"/interpbig":      change(func(b []byte) { le.PutUint64(b[64+56+32:], 1<<40) }),
		"/interpopen":     change(func(b []byte) { le.PutUint64(b[64+56+32:], 5) }),
		"/dynbig":         change(func(b []byte) { le.PutUint64(b[64+112+32:], 1<<40) }),
		"/dynoff":         change(func(b []byte) { le.PutUint64(b[64+112+8:], 1<<62) }),
		"/strbig":         change(func(b []byte) { le.PutUint64(b[0x200+16+16+8:], 1<<60) }),
		"/straddr":        change(func(b []byte) { le.PutUint64(b[0x200+16+8:], 1) }),
		"/stroff":         change(func(b []byte) { le.PutUint64(b[0x200+8:], 1<<32) }),
		"/lib/libonly.so": makeELF(testELF{needed: []string{"libc.so.6"}}),
		"/nointerp":       makeELF(testELF{interp: "/lib/ld-gone.so.1"}),
		"/nolib":          makeELF(testELF{interp: glibc, needed: []string{"libgone.so.3"}}),
		"/deep":           makeELF(testELF{interp: glibc, needed: []string{"libok.so"}}),
		"/slash":          makeELF(testELF{interp: glibc, needed: []string{"./rel/lib.so"}}),
		"/badinterp":      makeELF(testELF{interp: "/text"}),
		"/dir/x":          []byte("x"),
		"/dangling":       []byte("->/nowhere"),
	}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"/absent", ErrNotFound, "/absent: not found"}, {"/text/x", ErrNotFound, "not a directory"}, {"/dangling", ErrNotFound, ""},
		{"/dir", ErrNotExecutable, "directory"}, {"/empty", ErrNotExecutable, "neither"}, {"/text", ErrNotExecutable, "neither"},
		{"/short", ErrNotExecutable, "truncated"}, {"/truncated", ErrNotExecutable, "truncated"}, {"/cut", ErrNotExecutable, "truncated"},
		{"/arm", ErrNotExecutable, "64-bit ARM"}, {"/i386", ErrNotExecutable, "32-bit x86"}, {"/x32", ErrNotExecutable, "x32"},
		{"/sparc", ErrNotExecutable, "SPARC"}, {"/object", ErrNotExecutable, "no program"}, {"/core", ErrNotExecutable, "no program"},
		{"/nophdr", ErrNotExecutable, "malformed"}, {"/manyphdr", ErrNotExecutable, "malformed"}, {"/phdrsize", ErrNotExecutable, "malformed"},
		{"/phoff", ErrNotExecutable, "truncated"}, {"/noload", ErrNotExecutable, "nothing to load"}, {"/wrap", ErrNotExecutable, "wraps"},
		{"/filesz", ErrNotExecutable, "more bytes"}, {"/interpoff", ErrNotExecutable, "truncated"}, {"/interpneg", ErrNotExecutable, "truncated"},
		{"/interpbig", ErrNotExecutable, "interpreter"}, {"/interpopen", ErrNotExecutable, "unterminated"}, {"/dynbig", ErrNotExecutable, "dynamic"},
		{"/dynoff", ErrNotExecutable, "truncated"}, {"/strbig", ErrNotExecutable, "string table"}, {"/straddr", ErrNotExecutable, "string table"},
		{"/stroff", ErrNotExecutable, "string table"}, {"/lib/libonly.so", ErrNotExecutable, "shared library"},
		{"/nointerp", ErrMissing, "/lib/ld-gone.so.1, which is missing: install"}, {"/nolib", ErrMissing, "library libgone.so.3, which is missing: install"},
		{"/deep", ErrMissing, "/lib/libok.so, which needs the library libdeep.so"}, {"/slash", ErrMissing, "./rel/lib.so"},
		{"/badinterp", ErrNotExecutable, "dynamic loader"},
	}
	f := &Finder{Root: root(t, files)}
	for _, test := range tests {
		_, err := f.Closure(test.name)
		if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), test.name) {
			t.Errorf("%s: got %q, want %q and %q", test.name, err, test.err, test.want)
		}
	}
	if err := os.Chmod(f.Root.Host("/text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Closure("/text"); !errors.Is(err, ErrNotExecutable) || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("no x bit: %v", err)
	}
}

func TestOptionalLibrary(t *testing.T) {
	f := &Finder{Root: root(t, map[string][]byte{
		"/p": makeELF(testELF{interp: glibc}), glibc: makeELF(testELF{}),
		"/usr/lib/libnss_files.so.2": makeELF(testELF{needed: []string{"libx.so"}}), "/usr/lib/libx.so": makeELF(testELF{}),
	})}
	c, err := f.Closure("/p")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"libnss_files.so.2": true, "libnss_dns.so.2": false} {
		for range 2 {
			if found, err := f.Library(c, name); found != want || err != nil {
				t.Errorf("%s: %v, %v", name, found, err)
			}
		}
	}
	if got := paths(c.Libraries); !slices.Equal(got, []string{"/usr/lib/libnss_files.so.2", "/usr/lib/libx.so"}) {
		t.Errorf("%q", got)
	}
}

// Where there is an ldd, both must agree on this machine's programs.
func TestAgreesWithLdd(t *testing.T) {
	ldd, err := exec.LookPath("ldd")
	if err != nil {
		t.Skip("needs ldd")
	}
	var r sysroot.Root
	for _, name := range []string{"/bin/ls", "/usr/bin/perl", "/usr/bin/git", "/usr/bin/apt-get", "/usr/bin/python3", "/usr/bin/gcc"} {
		if _, err := os.Stat(name); err != nil {
			continue
		}
		out, err := exec.Command(ldd, name).Output()
		if err != nil {
			continue
		}
		var want []string
		for line := range strings.Lines(string(out)) {
			if _, rest, ok := strings.Cut(line, " => "); ok {
				path, _, _ := strings.Cut(rest, " (")
				real, _, err := r.Resolve(path)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, real)
			}
		}
		c, err := (&Finder{}).Closure(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, l := range c.Libraries {
			real, _, err := r.Resolve(l.Path)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, real)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, ldd says %q", name, got, want)
		}
	}
}

// ldconfig reads the cache that we write.
func TestCache(t *testing.T) {
	libs := []Library{{"liba.so.9", "/x/liba.so.9"}, {"liba.so.10", "/x/liba.so.10"}, {"libstdc++.so.6", "/y/libstdc++.so.6"}, {"libc.so.6", "/lib/libc.so.6"}}
	b := Cache(libs)
	if !bytes.Equal(b, Cache([]Library{libs[3], libs[1], libs[0], libs[2]})) {
		t.Error("the order of the libraries changes the cache")
	}
	ldconfig := "/sbin/ldconfig"
	if _, err := os.Stat(ldconfig); err != nil {
		t.Skip("needs ldconfig")
	}
	name := filepath.Join(t.TempDir(), "cache")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(ldconfig, "-p", "-C", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	at := -1
	for _, l := range []Library{libs[2], libs[3], libs[1], libs[0]} { // descending, numbers as such
		i := strings.Index(string(out), l.Name+" (libc6,x86-64) => "+l.Path)
		if i <= at {
			t.Errorf("%s is missing or out of order in\n%s", l.Name, out)
		}
		at = i
	}
}

func FuzzELF(f *testing.F) {
	f.Add(makeELF(testELF{interp: glibc, needed: []string{"libc.so.6"}, runpath: "$ORIGIN", soname: "x"}))
	f.Add(makeELF(testELF{static: true}))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseELF(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrNotExecutable) {
				t.Errorf("unclassified error %v", err)
			}
			return
		}
		for _, s := range slices.Concat(o.Needed, o.Rpath, o.Runpath, []string{o.Interp, o.Soname}) {
			if len(s) > len(b) || strings.ContainsRune(s, 0) {
				t.Errorf("impossible name of %d bytes", len(s))
			}
		}
	})
}

func FuzzScript(f *testing.F) {
	f.Add([]byte("#!/bin/sh\n"))
	f.Add([]byte("#!/usr/bin/env -S x=1 sh"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "p"), b, 0o755); err != nil {
			t.Fatal(err)
		}
		c, err := (&Finder{Root: sysroot.At(dir), SearchPath: []string{"/"}}).Closure("/p")
		if err == nil && len(c.Programs) == 0 {
			t.Error("a closure without a program")
		}
	})
}
