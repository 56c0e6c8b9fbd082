package inotify_test

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/inotify"
	"gosv/kernel/share"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

func open(t *testing.T) *vfs.File {
	f := inotify.New(cred.Root(), unix.IN_NONBLOCK)
	t.Cleanup(f.DecRef)
	return f
}

func watch(t *testing.T, tr *vfstest.Tree, f *vfs.File, path string, mask uint32) int32 {
	t.Helper()
	wd, err := inotify.AddWatch(f, tr.Ctx, path, mask)
	if err != nil {
		t.Fatal(err)
	}
	return wd
}

// next returns the masks of up to n bytes of events.
func next(f *vfs.File, n int) (masks []uint32, err error) {
	buf := make([]byte, n)
	b := uio.Buffer(buf)
	got, err := f.Read(&b)
	for at := 0; at < int(got); {
		masks = append(masks, binary.LittleEndian.Uint32(buf[at+4:]))
		at += unix.SizeofInotifyEvent + int(binary.LittleEndian.Uint32(buf[at+12:]))
	}
	return masks, err
}

func mkdir(t *testing.T, tr *vfstest.Tree, path string) {
	t.Helper()
	if err := vfs.Mkdir(tr.Ctx, vfs.Path{}, path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestReadGivesWholeEvents(t *testing.T) {
	tr := vfstest.New(t)
	f := open(t)
	watch(t, tr, f, "/", unix.IN_CREATE)
	mkdir(t, tr, "/a")
	mkdir(t, tr, "/a-name-of-sixteen")
	if _, err := next(f, 31); err != unix.EINVAL {
		t.Errorf("a read without room for an event: %v", err)
	}
	for range 2 {
		// The first event takes 32 bytes, the second 48.
		if masks, err := next(f, 79); len(masks) != 1 || err != nil || masks[0] != unix.IN_CREATE|unix.IN_ISDIR {
			t.Errorf("%x, %v", masks, err)
		}
	}
	if _, err := next(f, 100); err != unix.EAGAIN || f.Readiness(unix.POLLIN) != 0 {
		t.Error("no end", err)
	}
}

func TestOverflow(t *testing.T) {
	tr := vfstest.New(t)
	f := open(t)
	mkdir(t, tr, "/d")
	watch(t, tr, f, "/", unix.IN_MOVE)
	for i := range inotify.MaxEvents {
		from, to := "/d", "/e"
		if i%2 == 1 {
			from, to = to, from
		}
		if err := vfs.Rename(tr.Ctx, vfs.Path{}, from, vfs.Path{}, to, 0); err != nil {
			t.Fatal(err)
		}
	}
	masks, err := next(f, 1<<20)
	if err != nil || len(masks) != inotify.MaxEvents+1 || masks[len(masks)-1] != unix.IN_Q_OVERFLOW {
		t.Errorf("%d events, %v", len(masks), err)
	}
}

// TestClosed has events happen after the end of the instance.
func TestClosed(t *testing.T) {
	tr := vfstest.New(t)
	f := inotify.New(cred.Root(), 0)
	watch(t, tr, f, "/", unix.IN_ALL_EVENTS)
	f.DecRef()
	mkdir(t, tr, "/a")
	g := open(t)
	wd := watch(t, tr, g, "/a", unix.IN_ALL_EVENTS)
	if err := vfs.Rmdir(tr.Ctx, vfs.Path{}, "/a"); err != nil {
		t.Fatal(err)
	}
	if masks, _ := next(g, 100); len(masks) != 3 || masks[2] != unix.IN_IGNORED {
		t.Errorf("events of a directory's end: %x", masks)
	}
	if err := inotify.RemoveWatch(g, wd); err != unix.EINVAL {
		t.Error(err)
	}
}

// TestShort: all watches and events together have a bound, beyond which events are lost and the reader is told.
func TestShort(t *testing.T) {
	tr := vfstest.New(t)
	before := share.Watches.Used()
	share.Watches.SetMost(before + 256 + 3*(64+1))
	defer share.Watches.SetMost(math.MaxInt64)
	f := inotify.New(cred.Root(), unix.IN_NONBLOCK)
	watch(t, tr, f, "/", unix.IN_CREATE)
	mkdir(t, tr, "/a")
	if _, err := inotify.AddWatch(f, tr.Ctx, "/a", unix.IN_CREATE); err != unix.ENOSPC {
		t.Errorf("another watch: %v", err)
	}
	for _, name := range []string{"/b", "/c", "/d", "/e"} {
		mkdir(t, tr, name)
	}
	const created = unix.IN_CREATE | unix.IN_ISDIR
	masks, err := next(f, 4096)
	if want := []uint32{created, created, created, unix.IN_Q_OVERFLOW}; err != nil || !slices.Equal(masks, want) {
		t.Errorf("%#x, %v; want %#x", masks, err, want)
	}
	mkdir(t, tr, "/f")
	if masks, err := next(f, 4096); err != nil || !slices.Equal(masks, []uint32{created}) {
		t.Errorf("after all was read: %#x, %v", masks, err)
	}
	mkdir(t, tr, "/g")
	f.DecRef()
	if n := share.Watches.Used() - before; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}
