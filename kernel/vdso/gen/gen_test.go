package main

import (
	"bytes"
	"debug/elf"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestImageGoIsCurrent(t *testing.T) {
	have, err := os.ReadFile("../image.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, source()) {
		t.Error("image.go is stale: go generate ./kernel/vdso")
	}
}

// tool returns the path of a host tool, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name, "is not installed")
	}
	return path
}

// TestBytesAreTheInstructions has the assembler translate the text of each
// instruction and compares with the bytes written by hand.
func TestBytesAreTheInstructions(t *testing.T) {
	as, objcopy := tool(t, "as"), tool(t, "objcopy")
	dir := t.TempDir()
	var src strings.Builder
	src.WriteString(".intel_syntax noprefix\n")
	var want []byte
	for _, o := range program() {
		if o.bytes == nil || o.label != "" {
			continue // branches are checked by running them
		}
		src.WriteString(o.text + "\n")
		want = append(want, o.bytes...)
	}
	in, obj, bin := filepath.Join(dir, "a.s"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.bin")
	if err := os.WriteFile(in, []byte(src.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{exec.Command(as, "-o", obj, in), exec.Command(objcopy, "-O", "binary", "-j", ".text", obj, bin)} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	got, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("assembler and table disagree:\n%x\n%x", got, want)
	}
}

func TestELF(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(image()))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Progs) != 4 || f.Progs[0].Type != elf.PT_LOAD || f.Progs[0].Flags != elf.PF_R|elf.PF_X {
		t.Errorf("program headers: %+v", f.Progs)
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, s := range syms {
		if s.Version != "LINUX_2.6" {
			t.Errorf("%s has version %q", s.Name, s.Version)
		}
		have[s.Name] = true
	}
	for _, n := range functions {
		if !have[n] || !have["__vdso_"+n] {
			t.Errorf("%s is missing", n)
		}
	}
}

func TestDivisionByMultiplication(t *testing.T) {
	div := func(n uint64) uint64 {
		hi, _ := mul(n>>9, 0x44b82fa09b5a53)
		return hi >> 11
	}
	check := func(n uint64) {
		if got := div(n); got != n/1e9 {
			t.Fatalf("%d / 1e9 gives %d", n, got)
		}
	}
	for _, n := range []uint64{0, 1, 999999999, 1000000000, 1000000001, 1<<63 - 1, 1 << 63, 1<<64 - 1, (1<<64 - 1) / 1e9 * 1e9, (1<<64-1)/1e9*1e9 - 1} {
		check(n)
	}
	for range 1_000_000 {
		check(rand.Uint64())
		check(rand.Uint64() / 1e9 * 1e9)
		check(rand.Uint64()/1e9*1e9 - 1)
	}
	for n := uint64(0); n < 1e9; n += 1 + rand.Uint64N(2000) {
		if got := n * 274877907 >> 38; got != n/1000 {
			t.Fatalf("%d / 1000 gives %d", n, got)
		}
	}
}

func mul(a, b uint64) (hi, lo uint64) {
	al, ah, bl, bh := a&0xffffffff, a>>32, b&0xffffffff, b>>32
	t := ah*bl + al*bl>>32
	w1 := t&0xffffffff + al*bh
	return ah*bh + t>>32 + w1>>32, a * b
}

// TestOnHost runs the functions on the processor of this machine, with a data
// page that a C program calibrates, and compares with the host's clocks.
func TestOnHost(t *testing.T) {
	cc := tool(t, "gcc")
	dir := t.TempDir()
	so, exe := filepath.Join(dir, "vdso.so"), filepath.Join(dir, "run")
	if err := os.WriteFile(so, image(), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-O1", "-Wall", "-o", exe, "testdata/run.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(exe, so).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
