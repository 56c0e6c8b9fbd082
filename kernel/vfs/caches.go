package vfs

import (
	"runtime"
	"sync"

	"gosv/kernel/mem"
)

// Caches gives back the page caches of a Cached file system's inodes: each when nobody uses its inode any more, which the
// garbage collector finds out, and all that are left when the file system is unmounted. Only for contents
// that are kept elsewhere and are never changed here.
type Caches struct {
	mu   sync.Mutex
	live map[*mem.Cache]struct{} // guarded by mu
}

// Tie makes i's cache end with i.
func (s *Caches) Tie(i *Inode) {
	s.mu.Lock()
	if s.live == nil {
		s.live = make(map[*mem.Cache]struct{})
	}
	s.live[i.cache] = struct{}{}
	s.mu.Unlock()
	runtime.AddCleanup(i, s.release, i.cache)
}

// release ends a cache, once.
func (s *Caches) release(c *mem.Cache) {
	s.mu.Lock()
	_, live := s.live[c]
	delete(s.live, c)
	s.mu.Unlock()
	if live {
		c.Release()
	}
}

// ReleaseAll ends all caches that are left.
func (s *Caches) ReleaseAll() {
	s.mu.Lock()
	left := s.live
	s.live = nil
	s.mu.Unlock()
	for c := range left {
		c.Release()
	}
}
