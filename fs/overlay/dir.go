package overlay

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// listing is the merged list of a directory. A name keeps its offset as long as the directory's inode lives, so that a
// listing that goes on while the directory changes misses and repeats nothing.
type listing struct {
	mu      sync.Mutex
	entries []vfs.Dirent     // by offset; guarded by mu
	offsets map[string]int64 // guarded by mu
	last    int64            // guarded by mu
	valid   bool             // guarded by mu
}

// changed says that the directory has changed.
func (l *listing) changed() {
	l.mu.Lock()
	l.valid = false
	l.mu.Unlock()
}

// firstOffset is behind those that package vfs uses itself.
const firstOffset = 3

// Readdir implements vfs.InodeOps.
func (n *node) Readdir(_ *vfs.Context, _ *vfs.Dentry, off int64, emit func(vfs.Dirent) bool) error {
	entries, err := n.entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Next > off && !emit(e) {
			break
		}
	}
	return nil
}

// empty reports whether a directory has no entries.
func (n *node) empty() (bool, error) {
	entries, err := n.entries()
	return len(entries) == 0, err
}

// entries returns the merged list, which the caller must not change.
func (n *node) entries() ([]vfs.Dirent, error) {
	l := &n.list
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.valid {
		return l.entries, nil
	}
	merged, err := n.merge()
	if err != nil {
		return nil, err
	}
	if l.offsets == nil {
		l.last = firstOffset
	}
	offsets := make(map[string]int64, len(merged))
	var known, fresh []vfs.Dirent
	for _, e := range merged {
		if e.Next = l.offsets[e.Name]; e.Next == 0 {
			l.last++
			e.Next = l.last
			fresh = append(fresh, e)
		} else {
			known = append(known, e)
		}
		offsets[e.Name] = e.Next
	}
	// The known ones in the order of their offsets, which is that of the list before.
	byName := make(map[string]vfs.Dirent, len(known))
	for _, e := range known {
		byName[e.Name] = e
	}
	list := make([]vfs.Dirent, 0, len(merged))
	for _, old := range l.entries {
		if e, ok := byName[old.Name]; ok {
			list = append(list, e)
		}
	}
	l.entries, l.offsets, l.valid = append(list, fresh...), offsets, true
	return l.entries, nil
}

// merge lists what is seen of the layers.
func (n *node) merge() (list []vfs.Dirent, err error) {
	seen := make(map[string]bool)
	add := func(dir vfs.Path, upper bool) error {
		return vfs.ReadDir(n.o.ctx, dir, func(e vfs.Dirent) bool {
			if seen[e.Name] {
				return true
			}
			seen[e.Name] = true
			number := e.Ino ^ n.o.layers[dir.Mount.FS]<<48
			if e.Mode == unix.S_IFCHR || upper && len(n.lowers) > 0 {
				// Perhaps a whiteout, perhaps copied up.
				p, failure := n.o.child(dir, e.Name)
				if failure != nil || isWhiteout(p) {
					return true
				}
				number = n.o.origin(p)
			}
			e.Ino = number
			list = append(list, e)
			return true
		})
	}
	if up := n.upper.Load(); up != nil {
		if err := add(*up, true); err != nil {
			return nil, err
		}
	}
	for _, dir := range n.lowers {
		if err := add(dir, false); err != nil {
			return nil, err
		}
	}
	return list, nil
}
