package hostfs

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
)

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}

// TestClose: nothing that the server opened stays open.
func TestClose(t *testing.T) {
	before := 0
	t.Cleanup(func() { // behind the one that closes
		if n := descriptors(t); n != before {
			t.Errorf("%d descriptors are open, %d were before", n, before)
		}
	})
	before = descriptors(t)
	s := serve(t, Config{Valid: time.Second})
	file, _ := s.lookup(fuseabi.RootID, "file")
	dir, _ := s.lookup(fuseabi.RootID, "dir")
	inner, _ := s.lookup(dir, "inner")
	for _, c := range []struct {
		op   uint32
		node uint64
	}{{fuseabi.OpOpen, file}, {fuseabi.OpOpen, inner}, {fuseabi.OpOpendir, dir}, {fuseabi.OpOpendir, fuseabi.RootID}, {fuseabi.OpGetattr, fuseabi.RootID}} {
		if _, err := s.call(c.op, c.node, words(unix.O_RDONLY, 0)); err != 0 {
			t.Errorf("operation %d on %d: %v", c.op, c.node, err)
		}
	}
}

// TestReleaseInUse: a file that the guest releases while a request uses it is closed behind that request, and neither waits for the
// other: one that names the file twice (copy_file_range) would wait for the release, which waits for it.
func TestReleaseInUse(t *testing.T) {
	s := serve(t, Config{})
	file, _ := s.lookup(fuseabi.RootID, "file")
	before := descriptors(t)
	b, errno := s.call(fuseabi.OpOpen, file, words(unix.O_RDWR, 0))
	if errno != 0 {
		t.Fatal(errno)
	}
	fh := le.Uint64(b)
	h, err := s.file(fh)
	if err != nil {
		t.Fatal(err)
	}
	if _, errno := s.call(fuseabi.OpRelease, file, words(fh, 0, 0)); errno != 0 {
		t.Errorf("release: %v", errno)
	}
	if _, err := s.file(fh); err != unix.EBADF {
		t.Errorf("a file that was released: %v", err)
	}
	if err := unix.Fsync(h.fd); err != nil {
		t.Errorf("the request that uses it: %v", err)
	}
	h.drop()
	if n := descriptors(t); n != before {
		t.Errorf("%d descriptors are open, %d were before", n, before)
	}
}
