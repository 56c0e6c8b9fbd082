package procfs

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// A file about a process is not one about the next process with its number.
func TestNumberAgain(t *testing.T) {
	w := start(t)
	f, err := vfs.Open(w.ctx, vfs.Path{}, "/proc/1", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.DecRef()
	n := f.Inode().Ops().(*node)
	if p, ok := n.Process(); !ok || p != w.k.Process(1) {
		t.Error("the directory is not of the process", p, ok)
	}
	other := *n
	other.born-- // as if it were of one before
	if p, ok := other.Process(); !ok || p != nil {
		t.Error("the directory is one of another process", p, ok)
	}
	if _, err := other.view(w.ctx); err != unix.ENOENT {
		t.Error(err)
	}
	root, err := vfs.Lookup(w.ctx, vfs.Path{}, "/proc", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := root.Inode().Ops().(*node).Process(); ok {
		t.Error("/proc is of a process")
	}
}
