package mm

import (
	"sync"
	"sync/atomic"
	"testing"

	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/machine"
)

func uioBuffer(b []byte) uio.Buffer { return uio.Buffer(b) }

func mustPage(t testing.TB, c *mem.Cache, index uint64) machine.Frame {
	t.Helper()
	f, err := c.Page(index, false)
	if err != nil {
		t.Fatal(err)
	}
	c.Pool().Unref(f)
	return f
}

// lockedStore is a store for several goroutines.
type lockedStore struct {
	mu sync.Mutex
	store
}

func (s *lockedStore) ReadPage(index uint64, page []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.ReadPage(index, page)
}

func (s *lockedStore) WritePage(index uint64, page []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pages == nil {
		s.pages = map[uint64][]byte{}
	}
	return s.store.WritePage(index, page)
}

// countedFile is a file for several goroutines.
type countedFile struct {
	*file
	refs atomic.Int32
}

func (f *countedFile) IncRef() { f.refs.Add(1) }
func (f *countedFile) DecRef() { f.refs.Add(-1) }
