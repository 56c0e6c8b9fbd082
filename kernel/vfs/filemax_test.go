package vfs_test

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

// TestMaxFiles: at the limit nothing more is opened, nor made for it, by root either; a close makes room.
func TestMaxFiles(t *testing.T) {
	tr := vfstest.New(t)
	tr.Write(t, "/there", "x")
	before := vfs.OpenFiles()
	defer func() {
		if err := vfs.SetMaxFiles(math.MaxInt64); err != nil {
			t.Error(err)
		}
	}()
	if err := vfs.SetMaxFiles(0); err != unix.EINVAL {
		t.Error(err)
	}
	if err := vfs.SetMaxFiles(before + 1); err != nil {
		t.Fatal(err)
	}
	a, err := vfs.Open(tr.Ctx, vfs.Path{}, "/there", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for path, flags := range map[string]int{"/there": unix.O_RDONLY, "/new": unix.O_CREAT | unix.O_WRONLY, "/": unix.O_TMPFILE | unix.O_RDWR} {
		if f, err := vfs.Open(tr.Ctx, vfs.Path{}, path, flags, 0o600); err != unix.ENFILE {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
	if _, err := vfs.Lookup(tr.Ctx, vfs.Path{}, "/new", 0); err != unix.ENOENT {
		t.Errorf("a file that could not be opened was made: %v", err)
	}
	a.IncRef() // another way to hold it is not another file
	if n := vfs.OpenFiles(); n != before+1 {
		t.Errorf("%d open, before %d", n, before)
	}
	a.DecRef()
	a.DecRef()
	b, err := vfs.Open(tr.Ctx, vfs.Path{}, "/new", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	b.DecRef()
	if n := vfs.OpenFiles(); n != before {
		t.Errorf("%d open, before %d", n, before)
	}
}

func TestLimitFiles(t *testing.T) {
	for pages, want := range map[uint64]int64{1: 256, 4000: 2000, 1 << 20: 1 << 19} {
		if vfs.LimitFiles(pages); vfs.MaxFiles() != want {
			t.Errorf("%d pages: %d", pages, vfs.MaxFiles())
		}
	}
	if err := vfs.SetMaxFiles(math.MaxInt64); err != nil {
		t.Error(err)
	}
}
