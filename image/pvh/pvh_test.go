package pvh

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gosv/image/pclntab"
)

// tinyKernel is a Go program with an entry point of its own, as the kernel has.
var tinyKernel = map[string]string{
	"go.mod":       "module tiny\n\ngo 1.26\n",
	"main.go":      "package main\n\nvar sink = make([]byte, 100)\n\nfunc main() { println(len(sink)) }\n",
	"boot_amd64.s": "TEXT ·boot64(SB), 4, $0-0\n\tHLT\n\tRET\n",
}

// buildTiny links a small Go program the way the kernel is linked.
func buildTiny(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	for name, text := range tinyKernel {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if args == nil {
		args = []string{"-ldflags=-T -2145382400 -E main.boot64 -s -w -buildid="}
	}
	args = append([]string{"build", "-trimpath", "-buildvcs=false", "-o", "tiny"}, args...)
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "tiny"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLinkKeepsTheProgram(t *testing.T) {
	in := buildTiny(t, t.TempDir())
	out, err := Link(in)
	if err != nil {
		t.Fatal(err)
	}
	src, err := elf.NewFile(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	dst, err := elf.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	byAddress := map[uint64]*elf.Prog{}
	for _, p := range dst.Progs {
		if p.Type == elf.PT_LOAD {
			byAddress[p.Vaddr] = p
		}
		if p.Flags&elf.PF_W != 0 && p.Flags&elf.PF_X != 0 {
			t.Errorf("segment at %#x is writable and executable", p.Vaddr)
		}
		if p.Type == elf.PT_LOAD && (p.Off-p.Vaddr)%pageSize != 0 {
			t.Errorf("segment at %#x: file offset %#x is not congruent", p.Vaddr, p.Off)
		}
	}
	loads := 0
	for _, p := range src.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		loads++
		q := byAddress[p.Vaddr]
		if q == nil {
			t.Errorf("segment at %#x is missing", p.Vaddr)
			continue
		}
		if m := src.Section(pclntab.Module); m != nil && m.Addr >= p.Vaddr && m.Addr < p.Vaddr+p.Memsz {
			was, is := in[p.Off:p.Off+p.Filesz], out[q.Off:q.Off+q.Filesz] // says where the tables are
			clear(was[m.Addr-p.Vaddr:][:m.Size])
			clear(is[m.Addr-p.Vaddr:][:m.Size])
		}
		if lines := src.Section(pclntab.Section); lines != nil && lines.Addr >= p.Vaddr && lines.Addr < p.Vaddr+p.Memsz {
			if q.Filesz >= p.Filesz || q.Flags != p.Flags { // pclntab tests the rest
				t.Errorf("segment at %#x: got %+v, made from %+v", p.Vaddr, q.ProgHeader, p.ProgHeader)
			}
			continue
		}
		if q.Paddr != p.Vaddr-KernelBase || q.Filesz != p.Filesz || q.Memsz != p.Memsz || q.Flags != p.Flags {
			t.Errorf("segment at %#x: got %+v, made from %+v", p.Vaddr, q.ProgHeader, p.ProgHeader)
		}
		if !bytes.Equal(in[p.Off:p.Off+p.Filesz], out[q.Off:q.Off+q.Filesz]) {
			t.Errorf("segment at %#x: bytes differ", p.Vaddr)
		}
	}
	if loads < 2 {
		t.Errorf("the test program has %d segments, expected text and data", loads)
	}
	info, err := Inspect(out)
	if err != nil {
		t.Fatal(err)
	}
	if info.Entry != trampolineBase || info.Top <= 0x200000 || info.Memory < info.Top {
		t.Errorf("Inspect: %+v", info)
	}
}

// The kernel and the tests of machine/ rely on this layout.
func TestTrampolineLayout(t *testing.T) {
	const entry = 0xffffffff80234560
	page := trampoline(entry, hole{0x8e2000, 0x905000, 0x200000})
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(page[off:]) }
	if len(page) != 0x6000 {
		t.Fatalf("%#x bytes", len(page))
	}
	if u64(0xe08) != 0x00af9b000000ffff || u64(0xe10) != 0x00cf93000000ffff || u64(0xe18) != 0x00cf9b000000ffff {
		t.Errorf("GDT: %x", page[0xe00:0xe20])
	}
	if got := binary.LittleEndian.Uint32(page[0xf02:]); got != 0x100e00 {
		t.Errorf("GDTR base %#x", got)
	}
	for _, slot := range []int{0, 256, 511} {
		want := uint64(0x102003)
		if slot == 511 {
			want = 0x103003
		}
		if got := u64(0x1000 + 8*slot); got != want {
			t.Errorf("PML4[%d] = %#x, want %#x", slot, got, want)
		}
	}
	if u64(0x2000) != 0x104003 || u64(0x3000+8*510) != 0x105003 {
		t.Errorf("PDPT entries %#x, %#x", u64(0x2000), u64(0x3000+8*510))
	}
	for i := range 512 {
		if got := u64(0x4000 + 8*i); got != uint64(i)<<21|0x83 {
			t.Fatalf("PD[%d] = %#x", i, got)
		}
		want := uint64(i)<<21 | 0x83
		if i >= 5 { // virtual 0xb05000 is in here
			want -= 0x200000
		}
		if got := u64(0x5000 + 8*i); got != want {
			t.Fatalf("the image's PD[%d] = %#x", i, got)
		}
	}
	if u64(0xfe8) != 0x8e2000 || u64(0xff0) != 0x905000 || u64(0xff8) != 0x200000 {
		t.Errorf("gap: %x", page[0xfe8:0x1000])
	}
	if c := enterLongMode(entry); len(c) > gdtOffset || !bytes.Contains(c, binary.LittleEndian.AppendUint64(nil, entry)) {
		t.Errorf("code of %d bytes does not mention the entry point", len(c))
	}
}

// What is behind a gap of two large pages and a bit moves down by both, what is in front of it stays.
func TestClose(t *testing.T) {
	loads := []segment{load(elf.PF_R, 0, 0x200000, nil), load(elf.PF_R, 0, 0x7ff000+0x402000, nil), load(elf.PF_W, 0, 0xd00000, nil)}
	gap := hole{from: 0x7ff000, to: 0x7ff000 + 0x402000}
	gap.close(loads)
	if want := (hole{0x7ff000, 0x801000, 0x400000}); gap != want {
		t.Errorf("%#x, not %#x", gap, want)
	}
	if loads[0].Paddr != 0x200000 || loads[1].Paddr != 0x801000 || loads[2].Paddr != 0x900000 {
		t.Errorf("%#x %#x %#x", loads[0].Paddr, loads[1].Paddr, loads[2].Paddr)
	}
}

func TestLinkIsReproducible(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "another", "folder")
	var images [][]byte
	for _, dir := range []string{a, b} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		image, err := Link(buildTiny(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, image)
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two builds in two folders differ")
	}
}

func TestLinkRefuses(t *testing.T) {
	good := encode([]segment{
		load(elf.PF_R|elf.PF_X, LinkAddress, 0, make([]byte, 64)),
		load(elf.PF_R|elf.PF_W, LinkAddress+0x1000, 0, make([]byte, 64)),
	}, LinkAddress)
	if _, err := Link(good); err != nil {
		t.Fatal(err)
	}
	const first, second = 64, 64 + 56
	put := binary.LittleEndian
	tests := []struct {
		name, want string
		change     func(b []byte) []byte
	}{
		{"empty", "not a usable ELF", func([]byte) []byte { return nil }},
		{"text", "not a usable ELF", func([]byte) []byte { return []byte("#!/bin/sh\necho hello\n") }},
		{"header only", "not a usable ELF", func(b []byte) []byte { return b[:64] }},
		{"truncated", "truncated", func(b []byte) []byte { return b[:len(b)-1] }},
		{"arm", "GOARCH=amd64", func(b []byte) []byte { put.PutUint16(b[18:], uint16(elf.EM_AARCH64)); return b }},
		{"pie", "ordinary executable", func(b []byte) []byte { put.PutUint16(b[16:], uint16(elf.ET_DYN)); return b }},
		{"dynamic", "CGO_ENABLED=0", func(b []byte) []byte { put.PutUint32(b[first:], uint32(elf.PT_INTERP)); return b }},
		{"no loads", "nothing to load", func(b []byte) []byte {
			put.PutUint32(b[first:], uint32(elf.PT_NULL))
			put.PutUint32(b[second:], uint32(elf.PT_NULL))
			return b
		}},
		{"low", "-T -2145382400", func(b []byte) []byte { put.PutUint64(b[first+16:], 0x400000); return b }},
		{"huge memory", "first GiB", func(b []byte) []byte { put.PutUint64(b[second+40:], 1<<62); return b }},
		{"wrapping", "first GiB", func(b []byte) []byte { put.PutUint64(b[second+16:], ^uint64(0xfff)); return b }},
		{"file larger than memory", "more bytes in the file", func(b []byte) []byte { put.PutUint64(b[first+40:], 1); return b }},
		{"offset wraps", "ELF", func(b []byte) []byte { put.PutUint64(b[first+8:], ^uint64(0)); return b }},
		{"overlap", "overlap", func(b []byte) []byte { put.PutUint64(b[second+16:], LinkAddress); return b }},
		{"write and execute", "writable and executable", func(b []byte) []byte { put.PutUint32(b[first+4:], 7); return b }},
		{"entry outside", "entry point", func(b []byte) []byte { put.PutUint64(b[24:], LinkAddress+0x1000); return b }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Link(test.change(bytes.Clone(good)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestLinkRefusesOrdinaryPrograms(t *testing.T) {
	for _, path := range []string{"/bin/ls", "/proc/self/exe"} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Skip(err)
		}
		if _, err := Link(b); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	probe := Stub(1)
	tests := map[string][]byte{
		"empty":     nil,
		"truncated": probe[:len(probe)-3],
		"no note":   encode([]segment{load(elf.PF_R, LinkAddress, 0, make([]byte, 9))}, LinkAddress),
		"cut note":  bytes.Replace(probe, []byte("Xen\x00"), []byte("Xfn\x00"), 1),
	}
	for name, image := range tests {
		if info, err := Inspect(image); err == nil {
			t.Errorf("%s: accepted as %+v", name, info)
		}
	}
}

// The stub must run: it shows that the trampoline reaches 64-bit code.
func TestStubBoots(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("needs qemu-system-x86_64")
	}
	image := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(image, Stub(0x2a), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, machine := range []string{"microvm,acpi=off", "microvm", "q35", "pc"} {
		t.Run(machine, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, qemu, "-M", machine, "-accel", "tcg", "-cpu", "max", "-m", "16M", "-nodefaults",
				"-no-user-config", "-display", "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", image).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 0x2a<<1|1 {
				t.Errorf("QEMU ended with %v\n%s", err, out)
			}
		})
	}
}

func FuzzLink(f *testing.F) {
	f.Add(Stub(3))
	f.Add(encode([]segment{load(elf.PF_R|elf.PF_X, LinkAddress, 0, []byte{1})}, LinkAddress))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Inspect(b)
		image, err := Link(b)
		if err != nil {
			return
		}
		if _, err := Inspect(image); err != nil {
			t.Errorf("Link made an image that Inspect refuses: %v", err)
		}
	})
}
