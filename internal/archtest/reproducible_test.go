package archtest

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gosv/image/pvh"
)

// copyTree copies what a build of the kernel reads.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && strings.HasPrefix(d.Name(), ".") || rel == "bin" || rel == "build" {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() || strings.HasSuffix(name, ".elf") {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Two builds of the kernel in two folders, the second one from nothing, give the
// same bytes.
func TestKernelIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the kernel and what it uses of the standard library")
	}
	if _, err := os.Stat(filepath.Join(root, "cmd/kernel")); err != nil {
		t.Skip("no cmd/kernel yet")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	var images [2][]byte
	for i, sub := range []string{"one", "another/folder"} {
		dir := filepath.Join(t.TempDir(), sub)
		copyTree(t, root, dir)
		if i == 1 {
			t.Setenv("GOCACHE", t.TempDir())
		}
		executable := buildKernel(t, dir, "-trimpath", "-buildvcs=false", "-ldflags=-T -2145382400 -E gosv/machine/floor.boot64 -buildid= -funcalign=4 -s -w")
		image, err := pvh.Link(executable)
		if err != nil {
			t.Fatal(err)
		}
		images[i] = image
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Errorf("images of %d and %d bytes differ", len(images[0]), len(images[1]))
	}
}
