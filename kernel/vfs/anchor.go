package vfs

import (
	"sync"
	"sync/atomic"
)

// anchors are the dentries that mounts lie on, and those above them, in a file system that is asked for each name each time: there the place of a
// mount must be found again. A file system that nothing is mounted in has none, and pays one load.
type anchors struct {
	n  atomic.Int32 // len(at)
	mu sync.Mutex   // a leaf
	at map[anchorKey]*Dentry
	// most is how many there may be before those are dropped that no mount needs; guarded by mu, as at is.
	most int
}

// anchorKey is a name below the root or another anchor.
type anchorKey struct {
	parent *Dentry
	name   string
}

// anchored returns the anchor for the name of d, or d.
func (d *Dentry) anchored() *Dentry {
	a := &d.inode.fs.anchors
	if a.n.Load() == 0 {
		return d
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.find(d); c != nil {
		return c
	}
	return d
}

// find returns the anchor for the name of d, nil when it has none. a.mu is held.
func (a *anchors) find(d *Dentry) *Dentry {
	p := d.parent.Load()
	if p == nil {
		return d
	}
	if p = a.find(p); p == nil {
		return nil
	}
	return a.at[anchorKey{p, d.name}]
}

// anchor returns the dentry that stands for the name of d while a mount is at or below it: d itself where dentries stay. ns.mu is held.
func (ns *Namespace) anchor(d *Dentry) *Dentry {
	if !d.fixed() || d.parent.Load() == nil {
		return d
	}
	a := &d.inode.fs.anchors
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.at) >= a.most {
		a.sweep(ns.all)
	}
	return a.add(d)
}

// add is find, with a new anchor where there is none. a.mu is held.
func (a *anchors) add(d *Dentry) *Dentry {
	p := d.parent.Load()
	if p == nil {
		return d
	}
	key := anchorKey{a.add(p), d.name}
	if c := a.at[key]; c != nil {
		return c
	}
	if key.parent != p {
		d = newDentry(key.parent, d.name, d.inode)
	}
	if a.at == nil {
		a.at = map[anchorKey]*Dentry{}
	}
	a.at[key] = d
	a.n.Store(int32(len(a.at)))
	return d
}

// minAnchors is how many anchors are kept before it is asked which are needed.
const minAnchors = 64

// sweep drops the anchors that no mount lies on, or begins with, or below. a.mu is held.
func (a *anchors) sweep(mounts []*Mount) {
	needed := map[*Dentry]bool{}
	for _, m := range mounts {
		for _, d := range [...]*Dentry{m.point, m.Root} {
			for ; d != nil && &d.inode.fs.anchors == a && !needed[d]; d = d.parent.Load() {
				needed[d] = true
			}
		}
	}
	for key, d := range a.at {
		if !needed[d] {
			delete(a.at, key)
		}
	}
	a.most = max(minAnchors, 2*len(a.at))
	a.n.Store(int32(len(a.at)))
}
