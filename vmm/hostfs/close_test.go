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
