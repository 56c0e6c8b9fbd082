package ext4

import (
	"bytes"
	"fmt"
	"math"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/vfs"
)

// fs returns the file system at /m.
func (w *world) fs(tb testing.TB) *fileSystem {
	p, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/m", 0)
	if err != nil {
		tb.Fatal(err)
	}
	return p.Mount.FS.Ops().(*fileSystem)
}

// TestTrim gives back what is free: what is not stays, and a second time there is nothing to do.
func TestTrim(t *testing.T) {
	for _, size := range []string{"1024", "4096"} {
		w := newWorld(t, mkfs(t, 32<<20, "-t", "ext4", "-b", size))
		w.mount(t, 0, "")
		fs := w.fs(t)
		data := bytes.Repeat([]byte("what stays "), 10000)
		for i := range 40 {
			if err := w.write(fmt.Sprintf("/m/%d", i), data, 0, unix.O_CREAT); err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; i < 40; i += 2 {
			if err := vfs.Unlink(w.Ctx, vfs.Path{}, fmt.Sprintf("/m/%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		w.NS.Sync()
		free := fs.freeBlocks << fs.blockBits
		for _, bad := range [][3]uint64{{0, uint64(fs.blockSize) - 1, 0}, {32 << 20, math.MaxUint64, 0}, {0, math.MaxUint64, 1 << 40}, {math.MaxUint64, 1, 0}} {
			if _, err := fs.trimFree(bad[0], bad[1], bad[2]); err != unix.EINVAL {
				t.Errorf("trim of %v: %v", bad, err)
			}
		}
		part, err := fs.trimFree(4<<20, 1<<20, 0)
		if err != nil || part > 1<<20 {
			t.Errorf("a part: %d, %v", part, err)
		}
		long, err := fs.trimFree(0, math.MaxUint64, 1<<20)
		if err != nil || long > free || long%uint64(fs.blockSize) != 0 {
			t.Errorf("long runs: %d of %d, %v", long, free, err)
		}
		all, err := fs.trimFree(0, math.MaxUint64, 0)
		if err != nil || all != free {
			t.Errorf("all: %d of %d, %v", all, free, err)
		}
		if again, err := fs.trimFree(0, math.MaxUint64, 0); again != 0 || err != nil {
			t.Errorf("again: %d, %v", again, err)
		}
		if again, err := fs.trimFree(0, math.MaxUint64, 1<<20); again != 0 || err != nil {
			t.Errorf("again, long runs only: %d, %v", again, err)
		}
		w.unmount(t)
		fsck(t, w.mem.Bytes(), false)
		w.mount(t, unix.MS_RDONLY, "")
		for i := 1; i < 40; i += 2 {
			if got := w.read(t, fmt.Sprintf("/m/%d", i)); !bytes.Equal(got, data) {
				t.Errorf("file %d is not what it was", i)
			}
		}
		w.unmount(t)
	}
}

// TestTrimWhileWriting has files come and go meanwhile.
func TestTrimWhileWriting(t *testing.T) {
	w := newWorld(t, mkfs(t, 32<<20, "-t", "ext4"))
	w.mount(t, 0, "")
	fs := w.fs(t)
	var all sync.WaitGroup
	stop := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := fs.trimFree(0, math.MaxUint64, 0); err != nil {
				t.Error(err)
				return
			}
		}
	})
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, 30000+i*10) }
	const rounds, last = 60, 50
	for i := range rounds {
		if err := w.write(fmt.Sprintf("/m/%d", i), content(i), 0, unix.O_CREAT); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			w.NS.Sync()
		}
		if i < last && i%2 == 0 {
			if err := vfs.Unlink(w.Ctx, vfs.Path{}, fmt.Sprintf("/m/%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	all.Wait()
	w.unmount(t)
	fsck(t, w.mem.Bytes(), false)
	w.mount(t, unix.MS_RDONLY, "")
	for i := range rounds {
		if i < last && i%2 == 0 {
			continue
		}
		if got := w.read(t, fmt.Sprintf("/m/%d", i)); !bytes.Equal(got, content(i)) {
			t.Errorf("file %d is not what was written", i)
		}
	}
	w.unmount(t)
}

// TestTrimFails says so when the disk does, and does it all the next time.
func TestTrimFails(t *testing.T) {
	w := newWorld(t, mkfs(t, 32<<20, "-t", "ext4"))
	w.mount(t, 0, "")
	fs := w.fs(t)
	free := fs.freeBlocks << fs.blockBits
	w.mem.SetFault(func(r *block.Request) error {
		if r.Op == block.Discard {
			return unix.EIO
		}
		return nil
	})
	if _, err := fs.trimFree(0, math.MaxUint64, 0); err != unix.EIO {
		t.Error(err)
	}
	w.mem.SetFault(nil)
	if n, err := fs.trimFree(0, math.MaxUint64, 0); n != free || err != nil {
		t.Errorf("%d of %d, %v", n, free, err)
	}
	w.unmount(t)
	fsck(t, w.mem.Bytes(), false)
}
