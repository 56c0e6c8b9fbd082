package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func TestSource(t *testing.T) {
	faults, err := CheckSource(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// Every rule must be able to fail.
func TestSourceFindsFaults(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"go.mod":                  "module gosv\n",
		"kernel/a/a.go":           "// Package a is fine.\npackage a\n\nimport _ \"gosv/kernel/b\"\n",
		"kernel/b/b.go":           "package b\n\nimport _ \"unsafe\"\n",
		"kernel/c/c.go":           "// Package c is c.\npackage c\n\nimport (\n\t_ \"gosv/machine/bare\"\n\t_ \"gosv/fs/x\"\n\t_ \"fmt\"\n)\n",
		"kernel/c/c_test.go":      "package c\n\nimport (\n\t_ \"fmt\"\n\t_ \"gosv/machine/fake\"\n)\n",
		"kernel/c/unsafe_test.go": "package c\n\nimport _ \"unsafe\"\n",
		"kernel/abi/abi.go":       "// Package abi is abi.\npackage abi\n",
		"kernel/abi/abi_test.go":  "package abi\n\nimport _ \"unsafe\"\n",
		"fs/x/x.go":               "// Package x is x.\npackage x\n\nimport (\n\t_ \"gosv/fs/y\"\n\t_ \"gosv/kernel/a\"\n\t_ \"gosv/fs/x/deep\"\n)\n",
		"fs/x/deep/d.go":          "// Package deep is deep.\npackage deep\n",
		"driver/d/d.go":           "// Package d is d.\npackage d\n\nimport _ \"gosv/kernel/a\"\n\n//go:linkname f runtime.f\nfunc f()\n",
		"driver/d/stub.s":         "// nothing\n",
		"machine/m/m.go":          "// Package m is m.\npackage m\n\nimport _ \"unsafe\"\n\n//go:linkname f runtime.f\nfunc f()\n",
		"machine/m/m.s":           "// nothing\n",
		"machine/i.go":            "// Package machine is machine.\npackage machine\n\nimport _ \"gosv/machine/m\"\n",
		"vmm/v/v.go":              "// Package v is v.\npackage v\n\nimport _ \"gosv/image/i\"\n\nimport \"C\"\n",
		"attic/z.go":              "// Package z has no room.\npackage z\n",
		"test/prog/hello.s":       "# a program under test\n",
		"kernel/net/n.go":         "// Package net is net.\npackage net\n\nimport _ \"gvisor.dev/gvisor/pkg/tcpip/stack\"\n",
		"kernel/vfs/v.go":         "// Package vfs is vfs.\npackage vfs\n\nimport _ \"gvisor.dev/gvisor/pkg/tcpip/stack\"\n",
		"tools/go.mod":            "module gosv/tools\n",
		"tools/t.go":              "package tools\n\nimport _ \"unsafe\"\n",
		"kernel/a/lock.go":        "package a\n\ntype t struct {\n\ta int // +checklocks:mu\n\tb int // held; +checklocks:mu\n\tc, d int\n\te int // +checklocks:mu\n}\n",
		"kernel/a/testdata/t.go":  "package broken !\n",
	}
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	faults, err := CheckSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"gosv/kernel/b: no package comment", "b.go:3:8: unsafe outside machine/", "unsafe_test.go:3:8: unsafe",
		"gosv/kernel/c may not import gosv/machine/bare", "gosv/kernel/c may not import gosv/fs/x", "fmt is too large for the guest",
		"gosv/fs/x may not import gosv/fs/y",
		"gosv/driver/d may not import gosv/kernel/a", "d.go:6:1: go:linkname outside machine/", "stub.s: assembly outside machine/",
		"gosv/machine may not import gosv/machine/m",
		"gosv/kernel/vfs may not import gvisor.dev/gvisor/pkg/tcpip/stack of another module",
		"gosv/vmm/v may not import gosv/image/i", "cgo", "no room for gosv/attic",
		"lock.go:5:8: +checklocks does not begin", "lock.go:7:2: a field with +checklocks has a line of several fields before it",
	}
	for _, w := range want {
		found := false
		for _, f := range faults {
			found = found || strings.Contains(f, w)
		}
		if !found {
			t.Errorf("not found: %s", w)
		}
	}
	if len(faults) != len(want) {
		t.Errorf("%d faults, want %d:\n%s", len(faults), len(want), strings.Join(faults, "\n"))
	}
}

func build(t *testing.T, dir, pkg string, flags ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// buildKernel builds cmd/kernel of the module in dir as the Makefile does.
func buildKernel(t *testing.T, dir string, flags ...string) []byte {
	t.Helper()
	prepare := exec.Command("bash", "scripts/netstack", "build")
	prepare.Dir = dir
	if text, err := prepare.CombinedOutput(); err != nil {
		t.Fatalf("scripts/netstack: %v\n%s", err, text)
	}
	return build(t, dir, "./cmd/kernel", append([]string{"-modfile=build/kernel.mod"}, flags...)...)
}

// The Makefile hands over the kernel that it built, with symbols; without it the
// test builds one.
func TestFloor(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "cmd/kernel")); err != nil {
		t.Skip("no cmd/kernel yet")
	}
	var kernel []byte
	if name := os.Getenv("GOSV_KERNEL_SYM"); name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		kernel = b
	} else {
		kernel = buildKernel(t, root, "-ldflags=-T -2145382400 -E gosv/machine/floor.boot64 -funcalign=4")
	}
	faults, err := CheckFloor(kernel, FloorPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

func TestFloorFindsFaults(t *testing.T) {
	faults, err := CheckFloor(build(t, "testdata/badfloor", "."), "main.floor")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(faults, "\n")
	for _, want := range []string{
		"main.floorAppend → runtime.growslice", "main.floorNew → runtime.newobject", "main.floorMake → runtime.makeslice",
		"main.floorMap → ", "main.floorStore → runtime.gcWriteBarrier", "main.floorConcat → runtime.concatstring",
		"main.floorDefer → runtime.deferproc", "main.floorIndirectly → main.helper → runtime.newobject",
		"main.floorString → runtime.slicebytetostring", "main.floorInterface → runtime.convT",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("not found: %s", want)
		}
	}
	if strings.Contains(all, "main.floorFine") {
		t.Errorf("index panics and stack growth are allowed:\n%s", all)
	}
	t.Log("\n" + all)
}

func TestFloorNeedsSomethingToCheck(t *testing.T) {
	if _, err := CheckFloor(build(t, "testdata/badfloor", "."), "main.cellar"); err == nil {
		t.Error("no function was checked and no error given")
	}
	if _, err := CheckFloor(build(t, "testdata/badfloor", ".", "-ldflags=-s"), "main.floor"); err == nil {
		t.Error("a stripped executable was accepted")
	}
}
