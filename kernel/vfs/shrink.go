package vfs

import "sync"

// keepers are the Cached file systems that keep names nobody uses.
var keepers struct {
	mu   sync.Mutex
	list map[*FS]struct{} // guarded by mu
}

// keeps says that fs has begun to keep names.
func (fs *FS) keeps() {
	keepers.mu.Lock()
	if keepers.list == nil {
		keepers.list = make(map[*FS]struct{})
	}
	keepers.list[fs] = struct{}{}
	keepers.mu.Unlock()
}

// Shrink lets go of all names and inodes that are kept though nobody uses them, when memory is short, and
// reports whether there were any. The collector frees them, and then their pages.
func Shrink() bool {
	keepers.mu.Lock()
	list := keepers.list
	keepers.list = nil
	keepers.mu.Unlock()
	for fs := range list {
		fs.DropNames()
	}
	return len(list) > 0
}
