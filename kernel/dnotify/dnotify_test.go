package dnotify_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/dnotify"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

func TestWatch(t *testing.T) {
	w := vfstest.New(t)
	ctx := w.As(0, 0)
	open := func(path string, flags int) *vfs.File {
		f, err := vfs.Open(ctx, vfs.Path{}, path, flags, 0o755)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if err := vfs.Mkdir(ctx, vfs.Path{}, "/d", 0o755); err != nil {
		t.Fatal(err)
	}
	d := open("/d", unix.O_RDONLY)
	told := make(chan bool, 100)
	watch := func(bits uint32) {
		if err := dnotify.Watch(d, bits, func(*vfs.File) { told <- true }); err != nil {
			t.Fatal(err)
		}
	}
	// expect waits for the events that something gives.
	expect := func(what string, n int, do func()) {
		do()
		for range n {
			select {
			case <-told:
			case <-time.After(30 * time.Second):
				t.Fatal(what, "was not told")
			}
		}
		if len(told) != 0 {
			t.Error(what, "was told too often")
		}
	}
	create := func() { open("/d/f", unix.O_CREAT|unix.O_RDWR).DecRef() }
	watch(dnotify.Create)
	expect("a new file", 1, create)
	expect("a removed one", 0, func() { vfs.Unlink(ctx, vfs.Path{}, "/d/f") })
	expect("one after the first", 0, create)
	watch(dnotify.Delete | dnotify.Rename | dnotify.Multishot)
	expect("a name", 2, func() {
		vfs.Rename(ctx, vfs.Path{}, "/d/f", vfs.Path{}, "/d/g", 0)
		vfs.Unlink(ctx, vfs.Path{}, "/d/g")
	})
	watch(dnotify.Create) // as well
	expect("more", 2, func() { create(); vfs.Unlink(ctx, vfs.Path{}, "/d/f") })
	watch(dnotify.Multishot)
	expect("the end", 0, create)
	watch(dnotify.Create | dnotify.Multishot)
	d.DecRef()
	expect("a closed directory", 0, func() { vfs.Mkdir(ctx, vfs.Path{}, "/d/e", 0o755) })
	f := open("/d/f", unix.O_RDONLY)
	defer f.DecRef()
	if err := dnotify.Watch(f, dnotify.Create, nil); err != unix.ENOTDIR {
		t.Error(err)
	}
}
