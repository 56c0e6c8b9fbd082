// Package dnotify tells a program by signals what happens to the entries of a directory: F_NOTIFY of fcntl(2), which inotify(7) has replaced.
//
// An open directory has one watch, which ends when the directory is closed for good. (On Linux it ends as soon as a process that asked closes
// one of its descriptors.)
//
// Lock order: registry.mu → watch.mu → the lock of an inode's watchers.
package dnotify

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// The bits of F_NOTIFY (fcntl(2)); with Multishot a watch stays after an event.
const (
	Access    = 1
	Modify    = 2
	Create    = 4
	Delete    = 8
	Rename    = 16
	Attrib    = 32
	Multishot = 0x80000000
)

// events are those of inotify(7) that each bit asks for.
var events = [...]struct{ bit, mask uint32 }{
	{Access, unix.IN_ACCESS}, {Modify, unix.IN_MODIFY}, {Attrib, unix.IN_ATTRIB},
	{Create, unix.IN_CREATE | unix.IN_MOVED_TO}, {Delete, unix.IN_DELETE | unix.IN_MOVED_FROM}, {Rename, unix.IN_MOVED_FROM},
}

// watch is the interest of an open directory. It satisfies vfs.InodeWatcher and vfs.Watcher.
type watch struct {
	f    *vfs.File // without a reference; FileClosed ends the watch
	owed atomic.Int32

	mu   sync.Mutex
	bits uint32 // DN_, 0: the watch has ended; guarded by mu, as send is
	send func(f *vfs.File)
}

// registry finds the watch of an open directory.
var registry = struct {
	mu   sync.Mutex
	list map[*vfs.File]*watch // guarded by mu
}{list: map[*vfs.File]*watch{}}

// Watch is F_NOTIFY: bits are added to those that f is watched for, and none but Multishot ends the watch. send is to signal f's owner; it is
// called on a goroutine of its own, once for each event. ENOTDIR.
func Watch(f *vfs.File, bits uint32, send func(f *vfs.File)) error {
	if bits&^Multishot == 0 {
		if w := take(f); w != nil {
			f.RemoveWatcher(w)
		}
		return nil
	}
	if !f.Inode().IsDir() {
		return unix.ENOTDIR
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	w := registry.list[f]
	if w == nil {
		w = &watch{f: f}
		registry.list[f] = w
		f.AddWatcher(w)
		f.Inode().AddWatcher(w)
	}
	w.mu.Lock()
	w.bits, w.send = w.bits|bits, send
	w.mu.Unlock()
	return nil
}

// take ends the watch of f, and returns it.
func take(f *vfs.File) *watch {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	w := registry.list[f]
	if w == nil {
		return nil
	}
	delete(registry.list, f)
	f.Inode().RemoveWatcher(w)
	w.mu.Lock()
	w.bits = 0
	w.mu.Unlock()
	return w
}

// FileClosed implements vfs.Watcher.
func (w *watch) FileClosed(f *vfs.File) { take(f) }

// Event implements vfs.InodeWatcher. Only what happens to entries counts.
func (w *watch) Event(mask, _ uint32, name string) {
	if name == "" {
		return
	}
	w.mu.Lock()
	hit := false
	for _, e := range events {
		hit = hit || w.bits&e.bit != 0 && mask&e.mask != 0
	}
	if hit && w.bits&Multishot == 0 {
		w.bits = 0
	}
	w.mu.Unlock()
	if hit && w.owed.Add(1) == 1 { // what is told takes locks that the caller has
		go w.tell()
	}
}

// tell signals what is owed.
func (w *watch) tell() {
	for {
		n := w.owed.Load()
		w.mu.Lock()
		send := w.send
		w.mu.Unlock()
		for range n {
			send(w.f)
		}
		if w.owed.Add(-n) == 0 {
			return
		}
	}
}
