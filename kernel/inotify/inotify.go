// Package inotify tells programs what happens to files (inotify(7)).
//
// Lock order: locks of vfs → instance.mu → the lock of an inode's watchers, the queue's lock.
package inotify

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/share"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// MaxEvents is /proc/sys/fs/inotify's max_queued_events. All events and watches together have share.Watches.
const MaxEvents = 16384

// What a watch, and an event beside its name, take of it, in bytes.
const (
	watchCost = 256
	eventCost = 64
)

// MaxWatches is max_user_watches, which are all users' here.
func MaxWatches() int64 { return share.Watches.Most() / watchCost }

// options are the bits of a watch's mask that are no events.
const options = unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK | unix.IN_MASK_CREATE | unix.IN_MASK_ADD | unix.IN_ONESHOT

const readable = unix.EPOLLIN | unix.EPOLLRDNORM

// sizeofEvent is the size of struct inotify_event without the name.
const sizeofEvent = unix.SizeofInotifyEvent

type event struct {
	wd           int32
	mask, cookie uint32
	name         string
}

// size is the event's length when read: the name is padded with NULs.
func (e *event) size() int {
	if e.name == "" {
		return sizeofEvent
	}
	return sizeofEvent + (len(e.name)+sizeofEvent)/sizeofEvent*sizeofEvent
}

// cost is what it takes of share.Watches.
func (e *event) cost() int64 { return eventCost + int64(len(e.name)) }

type instance struct {
	vfs.FileDefaults
	queue wait.Queue

	// All below is guarded by mu.
	mu      sync.Mutex
	events  []event
	watches map[int32]*watch
	inodes  map[*vfs.Inode]*watch
	last    int32 // watch descriptor given last
	closed  bool
}

// watch is an instance's interest in an inode. It satisfies vfs.InodeWatcher.
type watch struct {
	of    *instance
	inode *vfs.Inode
	wd    int32
	mask  uint32 // guarded by of.mu
	gone  bool   // guarded by of.mu
}

// New is inotify_init1(2) without the descriptor. flags: IN_NONBLOCK; IN_CLOEXEC is for the descriptor. The
// caller has checked them.
func New(c *cred.Cred, flags int) *vfs.File {
	n := &instance{watches: make(map[int32]*watch), inodes: make(map[*vfs.Inode]*watch)}
	return vfs.NewAnon("inotify", n, c, unix.O_RDONLY|flags&unix.O_NONBLOCK)
}

func of(f *vfs.File) (*instance, error) {
	if n, ok := f.Ops().(*instance); ok {
		return n, nil
	}
	return nil, unix.EINVAL
}

// AddWatch is inotify_add_watch(2) for the file path in ctx's view: EINVAL, EEXIST, ENOSPC, EACCES and
// those of a lookup.
func AddWatch(f *vfs.File, ctx *vfs.Context, path string, mask uint32) (int32, error) {
	if mask&unix.IN_ALL_EVENTS == 0 || mask&^(unix.IN_ALL_EVENTS|options|unix.IN_UNMOUNT) != 0 ||
		mask&(unix.IN_MASK_ADD|unix.IN_MASK_CREATE) == unix.IN_MASK_ADD|unix.IN_MASK_CREATE {
		return 0, unix.EINVAL
	}
	n, err := of(f)
	if err != nil {
		return 0, err
	}
	how := 0
	if mask&unix.IN_DONT_FOLLOW != 0 {
		how = unix.AT_SYMLINK_NOFOLLOW
	}
	p, err := vfs.Lookup(ctx, vfs.Path{}, path, how)
	if err != nil {
		return 0, err
	}
	i := p.Inode()
	if mask&unix.IN_ONLYDIR != 0 && !i.IsDir() {
		return 0, unix.ENOTDIR
	}
	if err := i.Access(ctx.Cred, vfs.MayRead); err != nil {
		return 0, err
	}
	return n.add(i, mask)
}

func (n *instance) add(i *vfs.Inode, mask uint32) (int32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := mask & (unix.IN_ALL_EVENTS | unix.IN_EXCL_UNLINK | unix.IN_ONESHOT)
	if w := n.inodes[i]; w != nil {
		switch {
		case mask&unix.IN_MASK_CREATE != 0:
			return 0, unix.EEXIST
		case mask&unix.IN_MASK_ADD != 0:
			w.mask |= kept
		default:
			w.mask = kept
		}
		return w.wd, nil
	}
	if !share.Watches.Take(watchCost) {
		return 0, unix.ENOSPC
	}
	for n.last++; n.last <= 0 || n.watches[n.last] != nil; n.last++ {
		n.last = max(n.last, 0)
	}
	w := &watch{of: n, inode: i, wd: n.last, mask: kept}
	n.watches[w.wd], n.inodes[i] = w, w
	i.AddWatcher(w)
	return w.wd, nil
}

// RemoveWatch is inotify_rm_watch(2): EINVAL.
func RemoveWatch(f *vfs.File, wd int32) error {
	n, err := of(f)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.watches[wd]
	if w == nil {
		return unix.EINVAL
	}
	n.drop(w)
	return nil
}

// drop ends a watch and says so. n.mu is held.
//
// +checklocks:n.mu
func (n *instance) drop(w *watch) {
	w.gone = true
	share.Watches.Give(watchCost)
	delete(n.watches, w.wd)
	delete(n.inodes, w.inode)
	w.inode.RemoveWatcher(w)
	n.put(event{wd: w.wd, mask: unix.IN_IGNORED})
}

// Event implements vfs.InodeWatcher.
func (w *watch) Event(mask, cookie uint32, name string) {
	n := w.of
	n.mu.Lock()
	defer n.mu.Unlock()
	if w.gone {
		return
	}
	wanted := mask&w.mask&unix.IN_ALL_EVENTS != 0
	if mask&vfs.EventUnlinked != 0 && name != "" && w.mask&unix.IN_EXCL_UNLINK != 0 {
		wanted = false
	}
	if wanted {
		n.put(event{w.wd, mask & (unix.IN_ALL_EVENTS | unix.IN_ISDIR), cookie, name})
	}
	if wanted && w.mask&unix.IN_ONESHOT != 0 || mask&unix.IN_DELETE_SELF != 0 {
		n.drop(w)
	}
}

// put queues an event unless it is the same as the last. n.mu is held.
//
// +checklocks:n.mu
func (n *instance) put(e event) {
	if n.closed {
		return
	}
	// An inode's own events do not show that it is a directory but where it ends or moves.
	if e.name == "" && e.mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 {
		e.mask &^= unix.IN_ISDIR
	}
	if n.isLast(e) {
		return
	}
	if len(n.events) >= MaxEvents || !share.Watches.Take(e.cost()) {
		if e = (event{wd: -1, mask: unix.IN_Q_OVERFLOW}); n.isLast(e) {
			return
		}
		share.Watches.Force(e.cost()) // there is one behind others only
	}
	n.events = append(n.events, e)
	n.queue.Notify(readable)
}

// isLast reports whether e was queued last. n.mu is held.
//
// +checklocks:n.mu
func (n *instance) isLast(e event) bool {
	last := len(n.events) - 1
	return last >= 0 && n.events[last] == e
}

// forget takes the first events off the queue. n.mu is held.
//
// +checklocks:n.mu
func (n *instance) forget(first int) {
	for i := range n.events[:first] {
		share.Watches.Give(n.events[i].cost())
	}
	if n.events = n.events[first:]; len(n.events) == 0 {
		n.events = nil
	}
}

// Read implements vfs.FileOps: as many events as dst has room for; EINVAL when that is none.
func (n *instance) Read(_ *vfs.File, dst uio.Sink, _ int64) (done int64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.events) == 0 {
		return 0, unix.EAGAIN
	}
	used := 0
	for used < len(n.events) {
		e := &n.events[used]
		if e.size() > dst.Left() {
			if used == 0 {
				return 0, unix.EINVAL
			}
			break
		}
		if m, err := dst.Put(e.bytes()); err != nil || m < e.size() {
			if used == 0 {
				return 0, unix.EFAULT
			}
			break
		}
		done += int64(e.size())
		used++
	}
	n.forget(used)
	return done, nil
}

func (e *event) bytes() []byte {
	b := make([]byte, e.size())
	le := binary.LittleEndian
	le.PutUint32(b, uint32(e.wd))
	le.PutUint32(b[4:], e.mask)
	le.PutUint32(b[8:], e.cookie)
	le.PutUint32(b[12:], uint32(len(b)-sizeofEvent))
	copy(b[sizeofEvent:], e.name)
	return b
}

// Ioctl implements vfs.FileOps: FIONREAD.
func (n *instance) Ioctl(_ *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	if a.Cmd != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	n.mu.Lock()
	size := 0
	for i := range n.events {
		size += n.events[i].size()
	}
	n.mu.Unlock()
	return 0, a.PutInt32(int32(size))
}

// Poll implements vfs.FileOps.
func (n *instance) Poll(_ *vfs.File, mask wait.Mask) wait.Mask {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.events) > 0 {
		return mask & readable
	}
	return 0
}

// Register implements vfs.FileOps.
func (n *instance) Register(_ *vfs.File, e *wait.Entry) { n.queue.Add(e) }

// Unregister implements vfs.FileOps.
func (n *instance) Unregister(_ *vfs.File, e *wait.Entry) { n.queue.Remove(e) }

// Release implements vfs.FileOps.
func (n *instance) Release(*vfs.File) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, w := range n.watches {
		n.drop(w)
	}
	n.forget(len(n.events))
}
