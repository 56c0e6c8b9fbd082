package loader

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/fs/ramfs"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/mm"
	"gosv/kernel/uio"
	"gosv/kernel/vdso"
	"gosv/kernel/vfs"
	"gosv/machine"
	"gosv/machine/fake"
)

// world is a machine with a file system.
type world struct {
	t    testing.TB
	m    *fake.Machine
	pool *mem.Pool
	ctx  *vfs.Context
}

func newWorld(t testing.TB) *world {
	m := fake.ForTest(t, fake.Config{Frames: 16384})
	w := &world{t: t, m: m, pool: mem.NewPool(m)}
	t.Cleanup(w.pool.Close)
	fs := ramfs.New(w.pool, func() int64 { return 0 }, ramfs.Options{Mode: 0o755})
	ns := vfs.NewNamespace(fs, w.pool)
	w.ctx = &vfs.Context{Root: ns.Root(), Cwd: ns.Root(), Cred: cred.Root()}
	return w
}

// put writes a file into the root directory, for the time of the test.
func (w *world) put(name string, b []byte) {
	w.t.Helper()
	f, err := vfs.Open(w.ctx, vfs.Path{}, name, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY, 0o755)
	if err != nil {
		w.t.Fatal(err)
	}
	src := uio.Buffer(b)
	if _, err := f.Write(&src); err != nil {
		w.t.Fatal(err)
	}
	f.DecRef()
	w.t.Cleanup(func() { vfs.Unlink(w.ctx, vfs.Path{}, name) })
}

func (w *world) open(path string) (*vfs.File, error) {
	return vfs.Open(w.ctx, vfs.Path{}, path, unix.O_RDONLY, 0)
}

func (w *world) program(name string, argv ...string) *Program {
	return &Program{
		Open: w.open, Filename: name, Argv: argv, Envp: []string{"PATH=/bin"},
		Cred:    func(*vfs.File) (*cred.Cred, bool) { return cred.Root(), false },
		Entropy: func(b []byte) { copy(b, "0123456789abcdef") }, StackLimit: 8 << 20,
		HWCap: 0x1234, HWCap2: 2, MinSigStack: 3000,
	}
}

// load loads p into a new address space, which lives as long as the test.
func (w *world) load(p *Program) (*mm.AddressSpace, *Image, error) {
	w.t.Helper()
	as, err := mm.New(w.m, w.pool)
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := Load(as, p)
	if err != nil {
		as.Release()
		return nil, nil, err
	}
	w.t.Cleanup(func() {
		as.Release()
		img.File.DecRef()
	})
	return as, img, nil
}

// An exe describes an ELF file to be made.
type exe struct {
	typ    elf.Type
	entry  uint64
	interp string
	stackX int // 0: no PT_GNU_STACK, 1: not executable, 2: executable
	segs   []elf.ProgHeader
	data   map[uint64]string // file offset to contents
	size   int
	edit   func(b []byte)
}

func (e exe) bytes() []byte {
	le := binary.LittleEndian
	segs := slices.Clone(e.segs)
	size := max(e.size, 8192)
	b := make([]byte, size)
	if e.interp != "" {
		copy(b[1024:], e.interp+"\x00")
		segs = append([]elf.ProgHeader{{Type: elf.PT_INTERP, Off: 1024, Filesz: uint64(len(e.interp) + 1)}}, segs...)
	}
	if e.stackX != 0 {
		flags := elf.PF_R | elf.PF_W
		if e.stackX == 2 {
			flags |= elf.PF_X
		}
		segs = append(segs, elf.ProgHeader{Type: elf.PT_GNU_STACK, Flags: flags})
	}
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], uint16(e.typ))
	le.PutUint16(b[18:], uint16(elf.EM_X86_64))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], e.entry)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], uint16(len(segs)))
	for i, s := range segs {
		p := b[64+56*i:]
		le.PutUint32(p, uint32(s.Type))
		le.PutUint32(p[4:], uint32(s.Flags))
		for j, v := range []uint64{s.Off, s.Vaddr, s.Vaddr, s.Filesz, s.Memsz, s.Align} {
			le.PutUint64(p[8+8*j:], v)
		}
	}
	for off, s := range e.data {
		copy(b[off:], s)
	}
	if e.edit != nil {
		e.edit(b)
	}
	return b
}

const rx, rw = elf.PF_R | elf.PF_X, elf.PF_R | elf.PF_W

func static() exe {
	return exe{typ: elf.ET_EXEC, entry: 0x400800, stackX: 1, segs: []elf.ProgHeader{
		{Type: elf.PT_LOAD, Flags: rx, Off: 0, Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Align: 0x1000},
		{Type: elf.PT_LOAD, Flags: rw, Off: 0x1010, Vaddr: 0x602010, Filesz: 0x100, Memsz: 0x3000, Align: 0x1000},
	}, data: map[uint64]string{0x1010: "initialised", 0x1110: "not the program's"}}
}

func read(t *testing.T, as *mm.AddressSpace, va uint64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := as.CopyIn(b, va); err != nil {
		t.Fatalf("read %#x: %v", va, err)
	}
	return b
}

func TestStatic(t *testing.T) {
	w := newWorld(t)
	w.put("prog", static().bytes())
	as, img, err := w.load(w.program("/prog", "prog", "one"))
	if err != nil {
		t.Fatal(err)
	}
	if img.Entry != 0x400800 || img.StartCode != 0x400000 || img.EndCode != 0x401000 {
		t.Errorf("image %+v", img)
	}
	if got := string(read(t, as, 0x602010, 11)); got != "initialised" {
		t.Errorf("data is %q", got)
	}
	if b := read(t, as, 0x602110, 0x2f00); len(bytes.Trim(b, "\x00")) != 0 {
		t.Errorf("bss is not zero")
	}
	if got := as.Brk(0, nil); got != 0x606000 {
		t.Errorf("the heap starts at %#x", got)
	}
	for _, a := range as.Areas() {
		if a.End > machine.UserTop {
			t.Errorf("area %+v", a)
		}
	}
	if err := as.Fault(img.SP, machine.Exec); err == nil {
		t.Error("the stack is executable")
	}
}

func TestExecutableStack(t *testing.T) {
	for _, c := range []struct {
		stackX int
		want   bool
	}{{0, false}, {1, false}, {2, true}} {
		w := newWorld(t)
		e := static()
		e.stackX = c.stackX
		w.put("prog", e.bytes())
		as, img, err := w.load(w.program("/prog"))
		if err != nil {
			t.Fatal(err)
		}
		if got := as.Fault(img.SP, machine.Exec) == nil; got != c.want {
			t.Errorf("PT_GNU_STACK %d: executable %v", c.stackX, got)
		}
	}
}

func TestInitialStack(t *testing.T) {
	w := newWorld(t)
	e := static()
	w.put("prog", e.bytes())
	p := w.program("/prog", "prog", "two words", "")
	p.Envp = []string{"A=1", "B=2"}
	as, img, err := w.load(p)
	if err != nil {
		t.Fatal(err)
	}
	if img.SP%16 != 0 {
		t.Errorf("stack pointer %#x", img.SP)
	}
	at := img.SP
	next := func() uint64 {
		v, err := as.Load64(at)
		if err != nil {
			t.Fatal(err)
		}
		at += 8
		return v
	}
	str := func(va uint64) string {
		s, ok, err := as.ReadString(va, 4096)
		if err != nil || !ok {
			t.Fatalf("string at %#x: %v", va, err)
		}
		return s
	}
	if n := next(); n != 3 {
		t.Errorf("argc %d", n)
	}
	var got []string
	for v := next(); v != 0; v = next() {
		got = append(got, str(v))
	}
	for v := next(); v != 0; v = next() {
		got = append(got, str(v))
	}
	if want := []string{"prog", "two words", "", "A=1", "B=2"}; !slices.Equal(got, want) {
		t.Errorf("strings %q", got)
	}
	aux := map[uint64]uint64{}
	start := at
	for {
		k, v := next(), next()
		aux[k] = v
		if k == 0 {
			break
		}
	}
	if !bytes.Equal(img.Auxv, read(t, as, start, int(at-start))) {
		t.Error("Auxv is not what is on the stack")
	}
	for k, want := range map[uint64]uint64{
		atPAGESZ: 4096, atPHDR: 0x400040, atPHENT: 56, atPHNUM: 3, atENTRY: 0x400800, atBASE: 0, atCLKTCK: 100,
		atHWCAP: 0x1234, atHWCAP2: 2, atMINSIGSTKSZ: 3000, atSECURE: 0, atUID: 0, atFLAGS: 0,
	} {
		if v, ok := aux[k]; !ok || v != want {
			t.Errorf("auxv[%d] = %#x, want %#x", k, v, want)
		}
	}
	if s := str(aux[atEXECFN]); s != "/prog" {
		t.Errorf("AT_EXECFN %q", s)
	}
	if s := str(aux[atPLATFORM]); s != "x86_64" {
		t.Errorf("AT_PLATFORM %q", s)
	}
	if s := read(t, as, aux[atRANDOM], 16); string(s) != "0123456789abcdef" {
		t.Errorf("AT_RANDOM %q", s)
	}
	if s := read(t, as, img.ArgStart, int(img.EnvEnd-img.ArgStart)); string(s) != "prog\x00two words\x00\x00A=1\x00B=2\x00" {
		t.Errorf("arguments and environment lie as %q", s)
	}
	if img.ArgEnd != img.EnvStart {
		t.Error("environment does not follow the arguments")
	}
}

func pie(interp string) exe {
	e := static()
	e.typ, e.interp, e.entry = elf.ET_DYN, interp, 0x800
	for i := range e.segs {
		e.segs[i].Vaddr -= 0x400000
	}
	return e
}

func TestDynamic(t *testing.T) {
	w := newWorld(t)
	w.put("prog", pie("/ld.so").bytes())
	ld := pie("")
	ld.entry = 0x900
	w.put("ld.so", ld.bytes())
	p := w.program("/prog", "prog")
	v, err := vdso.New(w.pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Free)
	p.VDSO = v
	bits := uint64(0x9e3779b97f4a7c15)
	p.Random = func() uint64 { bits = bits*6364136223846793005 + 1442695040888963407; return bits }
	as, img, err := w.load(p)
	if err != nil {
		t.Fatal(err)
	}
	aux := map[uint64]uint64{}
	for b := img.Auxv; len(b) >= 16; b = b[16:] {
		aux[binary.LittleEndian.Uint64(b)] = binary.LittleEndian.Uint64(b[8:])
	}
	base := aux[atBASE]
	if img.Entry != base+0x900 || base == 0 {
		t.Errorf("entry %#x, linker at %#x", img.Entry, base)
	}
	bias := aux[atENTRY] - 0x800
	if bias&0xfff != 0 || bias == base || aux[atPHDR] != bias+64 {
		t.Errorf("program at %#x, headers at %#x", bias, aux[atPHDR])
	}
	if bias < machine.UserTop/3 {
		t.Errorf("program at %#x", bias)
	}
	for _, b := range []uint64{bias, base} {
		if got := string(read(t, as, b+0x202010, 11)); got != "initialised" {
			t.Errorf("data at %#x is %q", b, got)
		}
	}
	if got := string(read(t, as, aux[atSYSINFO_EHDR], 4)); got != "\x7fELF" {
		t.Errorf("vDSO is %q", got)
	}
	names := map[string]bool{}
	for _, a := range as.Areas() {
		names[a.Name] = true
	}
	for _, n := range []string{"/prog", "/ld.so", "[vdso]", "[vvar]", "[stack]"} {
		if !names[n] {
			t.Errorf("no area %s in %v", n, names)
		}
	}
	if err := as.Fault(aux[atSYSINFO_EHDR], machine.Write); err == nil {
		t.Error("the vDSO can be written")
	}
}

func TestAlignment(t *testing.T) {
	w := newWorld(t)
	e := pie("")
	for i := range e.segs {
		e.segs[i].Align = 2 << 20
	}
	w.put("prog", e.bytes())
	_, img, err := w.load(w.program("/prog"))
	if err != nil {
		t.Fatal(err)
	}
	if (img.Entry-0x800)%(2<<20) != 0 {
		t.Errorf("entry %#x", img.Entry)
	}
}

func TestScripts(t *testing.T) {
	w := newWorld(t)
	w.put("prog", static().bytes())
	w.put("s1", []byte("#! /prog  -x y \nrest"))
	w.put("s2", []byte("#!/s1\n"))
	for i := range 5 {
		w.put("deep"+string(rune('0'+i)), []byte("#!/deep"+string(rune('1'+i))+"\n"))
	}
	w.put("deep5", []byte("#!/prog\n"))
	w.put("loop", []byte("#!/loop"))
	argv := func(name string) (string, error) {
		as, img, err := w.load(w.program(name, "argv0", "arg"))
		if err != nil {
			return "", err
		}
		return strings.ReplaceAll(string(read(t, as, img.ArgStart, int(img.ArgEnd-img.ArgStart))), "\x00", "|"), nil
	}
	for _, c := range []struct {
		name, want string
		err        error
	}{
		{"/prog", "argv0|arg|", nil},
		{"/s1", "/prog|-x y|/s1|arg|", nil},
		{"/s2", "/prog|-x y|/s1|/s2|arg|", nil},
		{"/deep1", "/prog|/deep5|/deep4|/deep3|/deep2|/deep1|arg|", nil},
		{"/deep0", "", unix.ELOOP},
		{"/loop", "", unix.ELOOP},
		{"/none", "", unix.ENOENT},
	} {
		if got, err := argv(c.name); got != c.want || err != c.err {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestParseScript(t *testing.T) {
	long := "#!" + strings.Repeat("x", 300)
	for _, c := range []struct {
		in, interp, arg string
		err             error
	}{
		{"#!/bin/sh\n", "/bin/sh", "", nil},
		{"#!/bin/sh", "/bin/sh", "", nil},
		{"#!  \t/bin/sh\t -e  x \t\nmore", "/bin/sh", "-e  x", nil},
		{"#!/bin/sh\x00junk", "/bin/sh", "", nil},
		{"#!\n/bin/sh", "", "", unix.ENOEXEC},
		{"#!", "", "", unix.ENOEXEC},
		{"#!   ", "", "", unix.ENOEXEC},
		{long[:256], "", "", unix.ENOEXEC},
		{("#!/bin/sh " + strings.Repeat("y", 300))[:256], "/bin/sh", strings.Repeat("y", 246), nil},
	} {
		interp, arg, err := parseScript([]byte(c.in))
		if interp != c.interp || arg != c.arg || err != c.err {
			t.Errorf("%.20q: %q %q %v", c.in, interp, arg, err)
		}
	}
}

func TestRefused(t *testing.T) {
	le := binary.LittleEndian
	seg := func(f func(*elf.ProgHeader)) func() exe {
		return func() exe { e := static(); f(&e.segs[1]); return e }
	}
	edit := func(f func(b []byte)) func() exe {
		return func() exe { e := static(); e.edit = f; return e }
	}
	for name, c := range map[string]struct {
		make func() exe
		want error
	}{
		"magic":               {edit(func(b []byte) { b[1] = 'X' }), unix.ENOEXEC},
		"32 bits":             {edit(func(b []byte) { b[4] = 1 }), unix.ENOEXEC},
		"big endian":          {edit(func(b []byte) { b[5] = 2 }), unix.ENOEXEC},
		"object file":         {edit(func(b []byte) { b[16] = 1 }), unix.ENOEXEC},
		"machine":             {edit(func(b []byte) { b[18] = 3 }), unix.ENOEXEC},
		"header size":         {edit(func(b []byte) { b[54] = 32 }), unix.ENOEXEC},
		"no headers":          {edit(func(b []byte) { le.PutUint16(b[56:], 0) }), unix.ENOEXEC},
		"too many headers":    {edit(func(b []byte) { le.PutUint16(b[56:], 0xffff) }), unix.ENOEXEC},
		"headers beyond EOF":  {edit(func(b []byte) { le.PutUint64(b[32:], 1<<40) }), unix.EIO},
		"headers negative":    {edit(func(b []byte) { le.PutUint64(b[32:], 1<<63) }), unix.EINVAL},
		"file > memory":       {seg(func(p *elf.ProgHeader) { p.Memsz = 1 }), unix.EINVAL},
		"kernel address":      {seg(func(p *elf.ProgHeader) { p.Vaddr = 0xffffffff80000010 }), unix.EINVAL},
		"address wraps":       {seg(func(p *elf.ProgHeader) { p.Vaddr = ^uint64(0)&^0xfff | 0x10 }), unix.EINVAL},
		"ends above top":      {seg(func(p *elf.ProgHeader) { p.Vaddr = machine.UserTop - 0x1000 + 0x10 }), unix.EINVAL},
		"huge":                {seg(func(p *elf.ProgHeader) { p.Memsz = 1 << 63 }), unix.EINVAL},
		"more than memory":    {seg(func(p *elf.ProgHeader) { p.Memsz = 1 << 46; p.Flags = elf.PF_R }), unix.ENOMEM},
		"misaligned":          {seg(func(p *elf.ProgHeader) { p.Off++ }), unix.EINVAL},
		"entry in the kernel": {func() exe { e := static(); e.entry = 0xffffffff80200000; return e }, unix.EINVAL},
		"page zero":           {seg(func(p *elf.ProgHeader) { p.Vaddr = 0x10 }), unix.EPERM},
		"no segments":         {func() exe { e := static(); e.segs = nil; return e }, unix.ENOEXEC},
		"interpreter missing": {func() exe { return pie("/none") }, unix.ENOENT},
		"interpreter no ELF":  {func() exe { return pie("/text") }, unix.ELIBBAD},
		"interpreter unnamed": {func() exe {
			e := pie("/ld.so")
			e.edit = func(b []byte) { b[1024+6] = 'x' }
			return e
		}, unix.ENOEXEC},
	} {
		w := newWorld(t)
		w.put("text", []byte("hello"))
		w.put("prog", c.make().bytes())
		if _, _, err := w.load(w.program("/prog")); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestArgumentLimits(t *testing.T) {
	long := strings.Repeat("x", 131072)
	many := make([]string, 100000)
	for i := range many {
		many[i] = "0123456789"
	}
	for _, c := range []struct {
		name string
		argv []string
		lim  uint64
		want error
	}{
		{"longest string", []string{long[1:]}, 8 << 20, nil},
		{"too long string", []string{long}, 8 << 20, unix.E2BIG},
		{"1.9 MB of 2", many, 8 << 20, nil},
		{"1.9 MB of 1", many, 4 << 20, unix.E2BIG},
		{"least", []string{long[:120000]}, 4096, nil},
		{"6 MB at most", append(slices.Repeat(many, 3), many...), unix.RLIM_INFINITY, unix.E2BIG},
	} {
		if err := CheckArgs(c.argv, nil, "f", c.lim); err != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestHostProgram loads a real program with its dynamic linker, and compares
// the memory with the files.
func TestHostProgram(t *testing.T) {
	b, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil || f.Machine != elf.EM_X86_64 {
		t.Skip("no program for x86-64")
	}
	w := newWorld(t)
	w.put("true", b)
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name := make([]byte, p.Filesz-1)
			if _, err := p.ReadAt(name, 0); err != nil {
				t.Fatal(err)
			}
			ld, err := os.ReadFile(string(name))
			if err != nil {
				t.Skip(err)
			}
			for i, c := range name {
				if c == '/' && i > 0 {
					vfs.Mkdir(w.ctx, vfs.Path{}, string(name[:i]), 0o755)
				}
			}
			w.put(string(name), ld)
		}
	}
	as, img, err := w.load(w.program("/true", "true"))
	if err != nil {
		t.Fatal(err)
	}
	var bias uint64
	for b := img.Auxv; len(b) >= 16; b = b[16:] {
		if binary.LittleEndian.Uint64(b) == atENTRY {
			bias = binary.LittleEndian.Uint64(b[8:]) - f.Entry
		}
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		want := make([]byte, p.Memsz)
		if _, err := p.ReadAt(want[:p.Filesz], 0); err != nil {
			t.Fatal(err)
		}
		if got := read(t, as, bias+p.Vaddr, int(p.Memsz)); !bytes.Equal(got, want) {
			t.Errorf("segment at %#x differs", p.Vaddr)
		}
	}
}

// FuzzELF feeds the loader with forged programs: it may refuse them, but never
// panic, leak a frame or map what is not the program's.
func FuzzELF(f *testing.F) {
	f.Add(static().bytes()[:2048])
	f.Add(pie("").bytes()[:2048])
	f.Add(pie("/ld.so").bytes()[:2048])
	f.Add([]byte("#!/prog x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t)
		w.put("ld.so", pie("").bytes())
		w.put("prog", b)
		as, _, err := w.load(w.program("/prog", "prog"))
		if err != nil {
			return
		}
		for _, a := range as.Areas() {
			if a.End > machine.UserTop || a.Start < 65536 {
				t.Errorf("area %#x-%#x", a.Start, a.End)
			}
		}
	})
}
