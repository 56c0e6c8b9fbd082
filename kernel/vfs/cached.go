package vfs

import (
	"sync"
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"
)

// NameOps is the InodeOps of a directory in a Cached file system that can be changed. The rights
// were checked when it is called; changes of one directory come one at a time. Attributes of the
// directories and files concerned are its own business. It may block until a disk or a server answers.
type NameOps interface {
	// Link enters another name for a file that is no directory: EEXIST, EMLINK, EPERM.
	Link(i, dir *Inode, name string) error
	// Unlink removes the name of i, be it a directory or not: ENOTEMPTY.
	Unlink(dir *Inode, name string, i *Inode) error
	// Rename is renameat2(2); what is already under newName may take the place (it has the right type) if it is
	// not a directory with entries (ENOTEMPTY).
	Rename(from *Inode, oldName string, to *Inode, newName string, flags uint) error
}

// Replacer is a NameOps that does not find out by itself what a Rename replaced.
type Replacer interface {
	// Replaced says that victim lost a name to a Rename.
	Replaced(victim *Inode)
}

// Revalidator is the InodeOps of a directory in a Cached file system that others change too: what
// was found is asked for again after some time. The times are by a clock of its own.
type Revalidator interface {
	// Expiry returns until when the entry that Lookup or Create just found i behind is good.
	Expiry(i *Inode) int64
	// Revalidate reports whether the entry still leads to i. expires is the Expiry known; the new one is returned.
	Revalidate(ctx *Context, dir *Dentry, name string, i *Inode, expires int64) (int64, bool)
}

// nameCache holds what is known of a directory of a Cached file system. The dentries in it stay as
// long as anybody uses them, or their FS keeps them.
type nameCache struct {
	// mu is held for reading while a name is looked up, and for writing while names change.
	mu   sync.RWMutex
	dead bool // guarded by mu; removed: takes no more entries

	changes atomic.Uint64 // of names, made here

	look  sync.Mutex                      // leaf
	found map[string]weak.Pointer[Dentry] // guarded by look
	sweep int                             // size of found at which what is gone is cleaned out; guarded by look
}

// get returns the dentry known under a name, or nil.
func (n *nameCache) get(name string) *Dentry {
	n.look.Lock()
	c := n.found[name].Value()
	n.look.Unlock()
	return c
}

// set enters c under its name.
func (n *nameCache) set(name string, c *Dentry) {
	const least = 64
	n.look.Lock()
	defer n.look.Unlock()
	if n.found == nil {
		n.found, n.sweep = make(map[string]weak.Pointer[Dentry]), least
	}
	n.found[name] = weak.Make(c)
	if len(n.found) < n.sweep {
		return
	}
	for name, p := range n.found {
		if p.Value() == nil {
			delete(n.found, name)
		}
	}
	n.sweep = max(2*len(n.found), least)
}

// forget takes c out, if it is what is known under the name.
func (n *nameCache) forget(name string, c *Dentry) {
	n.look.Lock()
	if n.found[name].Value() == c {
		delete(n.found, name)
	}
	n.look.Unlock()
}

// keeper holds the dentries of a Cached file system that were used last, by the clock algorithm.
type keeper struct {
	mu   sync.Mutex
	ring []*Dentry // guarded by mu
	hand int       // guarded by mu
}

// defaultKeep is how many dentries a Cached file system keeps that nobody uses.
const defaultKeep = 8192

func (k *keeper) keep(d *Dentry, most int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ring) == 0 {
		d.inode.fs.keeps()
	}
	if len(k.ring) < most {
		k.ring = append(k.ring, d)
		return
	}
	for {
		k.hand = (k.hand + 1) % len(k.ring)
		if p := &k.ring[k.hand]; !(*p).used.Swap(false) {
			*p = d
			return
		}
	}
}

// DropNames lets go of all dentries that nobody uses, and with them their inodes.
func (fs *FS) DropNames() {
	keepers.mu.Lock()
	delete(keepers.list, fs)
	keepers.mu.Unlock()
	fs.kept.mu.Lock()
	fs.kept.ring, fs.kept.hand = nil, 0
	fs.kept.mu.Unlock()
}

// findCached is lookup in a directory of a Cached file system.
func (d *Dentry) findCached(ctx *Context, name string) (*Dentry, error) {
	if c := d.names.get(name); c != nil && d.fresh(ctx, name, c) {
		return c, nil
	}
	d.names.mu.RLock()
	defer d.names.mu.RUnlock()
	return d.findLocked(ctx, name)
}

// findLocked finds an entry; d.names.mu is held.
func (d *Dentry) findLocked(ctx *Context, name string) (*Dentry, error) {
	if d.names.dead {
		return nil, unix.ENOENT
	}
	if len(name) > NameMax {
		return nil, unix.ENAMETOOLONG
	}
	if c := d.names.get(name); c != nil && d.fresh(ctx, name, c) {
		return c, nil
	}
	i, err := d.inode.ops.Lookup(ctx, d, name)
	if err != nil {
		return nil, err
	}
	return d.enter(name, i), nil
}

// fresh reports whether the entry c is still what the file system has. If not, it is forgotten.
func (d *Dentry) fresh(ctx *Context, name string, c *Dentry) bool {
	r, ok := d.inode.ops.(Revalidator)
	if !ok {
		c.used.Store(true)
		return true
	}
	expires, ok := r.Revalidate(ctx, d, name, c.inode, c.expires.Load())
	if ok {
		c.expires.Store(expires)
		c.used.Store(true)
		return true
	}
	if c.mounts.Load() != 0 {
		return true // what is mounted there must stay within reach
	}
	d.names.forget(name, c)
	c.gone.Store(true)
	return false
}

// enter returns the dentry for a name that was found to stand for i.
func (d *Dentry) enter(name string, i *Inode) *Dentry {
	c := d.names.get(name)
	if c == nil || c.inode != i || c.gone.Load() {
		c = newDentry(d, name, i)
		d.names.set(name, c)
		most := d.inode.fs.Keep
		if most == 0 {
			most = defaultKeep
		}
		d.inode.fs.kept.keep(c, most)
	}
	if r, ok := d.inode.ops.(Revalidator); ok {
		c.expires.Store(r.Expiry(i))
	}
	return c
}

// Changes counts the changes of names in a directory of a Cached file system.
func (d *Dentry) Changes() uint64 { return d.names.changes.Load() }

// Prime enters a name that came along with something else, as a listing, unless names changed in the directory since
// Changes returned seen. The file system's Expiry must say what holds for i.
func (d *Dentry) Prime(name string, i *Inode, seen uint64) {
	d.names.mu.RLock()
	defer d.names.mu.RUnlock()
	if !d.names.dead && d.names.changes.Load() == seen {
		d.enter(name, i)
	}
}

// makeCached creates a file in a directory of a Cached file system.
func (d *Dentry) makeCached(name string, n *NewNode) (*Dentry, error) {
	d.names.mu.Lock()
	defer d.names.mu.Unlock()
	if d.names.dead {
		return nil, unix.ENOENT
	}
	d.names.changes.Add(1)
	i, err := d.inode.ops.Create(d.inode, name, n)
	if err != nil {
		return nil, err
	}
	return d.enter(name, i), nil
}

// nameOps returns what changes names in d: EPERM when nothing does.
func (d *Dentry) nameOps() (NameOps, error) {
	if o, ok := d.inode.ops.(NameOps); ok {
		return o, nil
	}
	return nil, unix.EPERM
}

// linkCached enters another name for i in a directory of a Cached file system.
func (d *Dentry) linkCached(name string, i *Inode) error {
	ops, err := d.nameOps()
	if err != nil {
		return err
	}
	d.names.mu.Lock()
	defer d.names.mu.Unlock()
	if d.names.dead {
		return unix.ENOENT
	}
	d.names.changes.Add(1)
	if err := ops.Link(i, d.inode, name); err != nil {
		return err
	}
	d.enter(name, i)
	if watched.Load() != 0 {
		i.tell(unix.IN_ATTRIB, 0, "")
		d.inode.tell(unix.IN_CREATE, 0, name)
	}
	return nil
}

// removeCached removes an entry, a directory or something else as isDir says, from a directory of a Cached file system.
func (d *Dentry) removeCached(ctx *Context, name string, isDir bool) error {
	ops, err := d.nameOps()
	if err != nil {
		return err
	}
	d.names.mu.Lock()
	defer d.names.mu.Unlock()
	c, err := d.findLocked(ctx, name)
	if err != nil {
		return err
	}
	if err := mayRemove(ctx.Cred, d.inode, c.inode); err != nil {
		return err
	}
	switch {
	case isDir && !c.inode.IsDir():
		return unix.ENOTDIR
	case !isDir && c.inode.IsDir():
		return unix.EISDIR
	case c.mounts.Load() != 0:
		return unix.EBUSY
	}
	d.names.changes.Add(1)
	if err := ops.Unlink(d.inode, name, c.inode); err != nil {
		return err
	}
	d.names.forget(name, c)
	c.bury()
	if watched.Load() != 0 {
		c.inode.tell(unix.IN_ATTRIB|c.inode.dirFlag(), 0, "")
		d.inode.tell(unix.IN_DELETE|c.inode.dirFlag(), 0, name)
	}
	c.inode.evictUnnamed()
	return nil
}

// bury marks a dentry as removed from its parent, whose lock is held; a directory takes no more entries.
func (d *Dentry) bury() {
	if d.names != nil {
		d.names.mu.Lock()
		defer d.names.mu.Unlock()
		d.names.dead = true
	}
	d.gone.Store(true)
}

// evictUnnamed gives i up if it has neither names nor users.
func (i *Inode) evictUnnamed() {
	if i.nlink.Load() == 0 && i.users.Load() == 0 {
		i.evict()
	}
}

// runCached is run in a Cached file system.
func (r *renaming) runCached() (err error) {
	from, to := r.from.Dentry, r.to.Dentry
	ops, err := from.nameOps()
	if err != nil {
		return err
	}
	if r.old, err = from.findLocked(r.ctx, r.oldName); err != nil {
		return err
	}
	if r.victim, err = to.findLocked(r.ctx, r.newName); err != nil && err != unix.ENOENT {
		return err
	}
	if nothing, err := r.check(); nothing || err != nil {
		return err
	}
	from.names.changes.Add(1)
	to.names.changes.Add(1)
	if err := ops.Rename(from.inode, r.oldName, to.inode, r.newName, r.flags); err != nil {
		return err
	}
	from.names.forget(r.oldName, r.old)
	if r.victim != nil {
		to.names.forget(r.newName, r.victim)
	}
	r.settle(r.old, to, r.newName)
	if r.flags&unix.RENAME_EXCHANGE != 0 {
		r.settle(r.victim, from, r.oldName)
		moved(to, from, r.newName, r.oldName, r.victim.inode, nil)
		moved(from, to, r.oldName, r.newName, r.old.inode, nil)
		return nil
	}
	moved(from, to, r.oldName, r.newName, r.old.inode, r.victim)
	if r.victim != nil {
		if o, ok := ops.(Replacer); ok {
			o.Replaced(r.victim.inode)
		}
		r.victim.bury()
		r.victim.inode.evictUnnamed()
	}
	return nil
}

// settle gives d its new place.
func (r *renaming) settle(d, dir *Dentry, name string) {
	d.name = name
	d.parent.Store(dir)
	dir.names.set(name, d)
}

// An InodeTable finds the inodes of a Cached file system by their numbers, as long as they are used.
// The zero table is empty.
type InodeTable[K comparable] struct {
	mu    sync.Mutex
	known map[K]weak.Pointer[Inode] // guarded by mu
}

// Get returns the inode with a key, and makes it if it is not known. make must not use the table.
func (t *InodeTable[K]) Get(key K, make func() *Inode) *Inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.known[key].Value(); i != nil {
		return i
	}
	i := make()
	if t.known == nil {
		t.known = map[K]weak.Pointer[Inode]{}
	}
	t.known[key] = weak.Make(i)
	return i
}

// Put makes i, which is new, the inode with a key.
func (t *InodeTable[K]) Put(key K, i *Inode) {
	t.Drop(key, nil)
	t.Get(key, func() *Inode { return i })
}

// Peek returns the inode with a key if it is known.
func (t *InodeTable[K]) Peek(key K) *Inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[key].Value()
}

// Drop forgets i, unless the key has another inode by now; with nil, what nobody uses any more.
func (t *InodeTable[K]) Drop(key K, i *Inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.known[key]; ok && p.Value() == i {
		delete(t.known, key)
	}
}
