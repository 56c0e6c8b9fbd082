package vfs

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// An InodeWatcher is told what happens to an inode (inotify(7)).
type InodeWatcher interface {
	// Event tells of events, a set of IN_ flags with IN_ISDIR for a directory. name is the entry of the
	// watched directory that they are about, "" for the inode itself; cookie joins the two halves
	// of a renaming. EventUnlinked says that the entry has been removed. IN_DELETE_SELF is the last
	// event of an inode. Event may be called with locks of this package held: it must not
	// block or call back.
	Event(mask, cookie uint32, name string)
}

// EventUnlinked is a bit of InodeWatcher.Event's mask beside those of inotify(7).
const EventUnlinked = 1 << 22

// watched counts the watches on all inodes, so that nothing is done for events when there are none.
var watched atomic.Int32

// lastCookie is the cookie of the last renaming.
var lastCookie atomic.Uint32

// AddWatcher has w told of i's events.
func (i *Inode) AddWatcher(w InodeWatcher) {
	r := i.getRare()
	r.mu.Lock()
	r.watchers = append(slices.Clip(r.watchers), w)
	r.mu.Unlock()
	watched.Add(1)
}

// RemoveWatcher ends it. An Event may be on its way still.
func (i *Inode) RemoveWatcher(w InodeWatcher) {
	r := i.getRare()
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := slices.Index(r.watchers, w); at >= 0 {
		r.watchers = slices.Delete(slices.Clone(r.watchers), at, at+1)
		watched.Add(-1)
	}
}

// tell tells i's watchers.
func (i *Inode) tell(mask, cookie uint32, name string) {
	r := i.rare.Load()
	if r == nil {
		return
	}
	r.mu.Lock()
	list := r.watchers
	r.mu.Unlock()
	for _, w := range list {
		w.Event(mask, cookie, name)
	}
}

// dirFlag is IN_ISDIR for a directory.
func (i *Inode) dirFlag() uint32 {
	if i.IsDir() {
		return unix.IN_ISDIR
	}
	return 0
}

// happened tells the watchers of d's inode, and those of the directory it is in. FS.rename must not be held.
//
//go:noinline
func (d *Dentry) happened(mask uint32) {
	mask |= d.inode.dirFlag()
	d.inode.tell(mask, 0, "")
	if d.parent.Load() == nil {
		return
	}
	fs := d.inode.fs
	fs.rename.RLock()
	parent, name := d.parent.Load(), d.name
	fs.rename.RUnlock()
	if d.gone.Load() {
		mask |= EventUnlinked
	}
	parent.inode.tell(mask, 0, name)
}

// notify is happened when there is anybody to tell.
func (d *Dentry) notify(mask uint32) {
	if watched.Load() != 0 {
		d.happened(mask)
	}
}

// moved tells of a move of i from one directory to another, and what it replaced.
func moved(from, to *Dentry, oldName, newName string, i *Inode, replaced *Dentry) {
	if watched.Load() == 0 {
		return
	}
	cookie := lastCookie.Add(1)
	from.inode.tell(unix.IN_MOVED_FROM|i.dirFlag(), cookie, oldName)
	to.inode.tell(unix.IN_MOVED_TO|i.dirFlag(), cookie, newName)
	if replaced != nil {
		replaced.inode.tell(unix.IN_ATTRIB|replaced.inode.dirFlag(), 0, "")
	}
	i.tell(unix.IN_MOVE_SELF|i.dirFlag(), 0, "")
}

// accessed and modified are notify for a transfer of n bytes.
func (f *File) accessed(n int64) {
	if n > 0 && watched.Load() != 0 {
		f.path.Dentry.happened(unix.IN_ACCESS)
	}
}

func (f *File) modified(n int64) {
	if n > 0 && watched.Load() != 0 {
		f.path.Dentry.happened(unix.IN_MODIFY)
	}
}

// closed tells of the end of an open file.
func (f *File) closed() {
	if watched.Load() == 0 || f.kind&pathOnly != 0 {
		return
	}
	if f.kind&canWrite != 0 {
		f.path.Dentry.happened(unix.IN_CLOSE_WRITE)
	} else {
		f.path.Dentry.happened(unix.IN_CLOSE_NOWRITE)
	}
}
