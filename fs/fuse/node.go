package fuse

import (
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/vfs"
)

// node is the vfs.InodeOps of one inode.
type node struct {
	vfs.InodeDefaults
	*contents
}

// contents is what is known of a node. It does not lead to the vfs.Inode, so that it can outlive it: the page cache and
// open handles refer to it.
type contents struct {
	k       *conn
	id, gen uint64
	typ     uint32 // type bits of the mode
	cache   *mem.Cache
	lookups atomic.Uint64 // how often the server told of the node

	attrExpires  atomic.Int64 // when the attributes are to be fetched again
	dataExpires  atomic.Int64 // the same for the size, and whether somebody else wrote: what is done here keeps both right
	entryExpires atomic.Int64 // of the entry that was found last
	size         atomic.Int64 // of what has no cache
	blocks       atomic.Int64
	changed      atomic.Uint64 // conn.changes at the last change of the size here
	ahead        atomic.Bool   // names were looked up here: the next listing is to bring attributes
	bad          atomic.Bool   // the server contradicted itself

	sizing sync.Mutex // held while the cache gets the size that the server has, or what was written

	mu      sync.Mutex
	mtime   int64            // of the cached contents, as the server has it; guarded by mu
	known   bool             // mtime is; guarded by mu
	handles []*handle        // open ones, of a regular file; guarded by mu
	spare   *handle          // that CREATE opened, for the open(2) that follows; guarded by mu
	link    string           // target of a symbolic link; guarded by mu
	absent  map[string]int64 // names that are not there, and until when; guarded by mu
}

func nodeOf(i *vfs.Inode) *node { return i.Ops().(*node) }

// inode returns the inode that an entry leads to, and counts the lookup. at is conn.changes before the request.
func (k *conn) inode(e *entry, at uint64) (*vfs.Inode, error) {
	i := k.nodes.Get(nodeKey{e.node, e.generation}, func() *vfs.Inode { return k.newInode(e) })
	n := nodeOf(i)
	n.lookups.Add(1)
	n.entryExpires.Store(k.deadline(e.entryValid))
	if err := n.update(i, &e.attr, e.attrValid, at); err != nil {
		return nil, err
	}
	return i, nil
}

// deadline returns the time when something that stays valid for ns expires.
func (k *conn) deadline(ns int64) int64 {
	if ns == 0 {
		return 0
	}
	return k.clock() + ns
}

func (k *conn) newInode(e *entry) *vfs.Inode {
	c := &contents{k: k, id: e.node, gen: e.generation, typ: e.attr.mode & unix.S_IFMT}
	if c.typ == unix.S_IFREG {
		c.cache = mem.NewCache(k.pool, &pages{c})
	}
	i := k.fs.NewInode(&node{contents: c}, &vfs.NewNode{Mode: e.attr.mode, UID: e.attr.uid, GID: e.attr.gid, Rdev: e.attr.rdev}, c.cache)
	i.Ino = e.attr.ino
	runtime.AddCleanup(i, (*contents).collected, c)
	return i
}

// collected is called when nobody has the inode any more.
func (c *contents) collected() {
	c.dropSpare()
	if c.cache != nil {
		c.cache.Release()
	}
	c.k.forget(c.id, c.lookups.Load())
}

// Evict implements vfs.InodeOps: the last name and user are gone. The server may use the number again.
func (n *node) Evict(i *vfs.Inode) {
	n.k.nodes.Drop(nodeKey{n.id, n.gen}, i)
	n.dropSpare()
	if n.cache != nil {
		n.cache.Release()
	}
}

// update stores attributes that the server gave in the reply to a request made when conn.changes was at.
func (n *node) update(i *vfs.Inode, a *attr, valid int64, at uint64) error {
	if a.mode&unix.S_IFMT != n.typ {
		n.bad.Store(true)
	}
	if n.bad.Load() {
		return unix.EIO
	}
	i.Restore(a.mode, a.uid, a.gid, a.nlink)
	i.SetTimes(max(a.atime, 0), max(a.mtime, 0), max(a.ctime, 0))
	n.blocks.Store(a.blocks)
	if n.cache == nil {
		n.size.Store(a.size)
		n.attrExpires.Store(n.k.deadline(valid))
		return nil
	}
	n.sizing.Lock()
	defer n.sizing.Unlock()
	if n.changed.Load() > at { // the reply may be older than what was done here
		n.attrExpires.Store(0)
		return nil
	}
	n.mu.Lock()
	other := n.known && n.mtime != a.mtime && n.k.inval
	n.mtime, n.known = a.mtime, true
	n.mu.Unlock()
	if other || n.cache.Size() != a.size {
		n.cache.Invalidate()
		n.cache.Resize(a.size)
	}
	n.attrExpires.Store(n.k.deadline(valid))
	n.dataExpires.Store(n.k.deadline(valid))
	return nil
}

// refreshData brings the size up to date, and lets go of contents that somebody else changed.
func (n *node) refreshData(i *vfs.Inode) error {
	if e := n.dataExpires.Load(); e != 0 && n.k.clock() < e && !n.bad.Load() {
		return nil
	}
	return n.Refresh(i)
}

// touched says that the size or the time of change moved here, so that older replies are not believed. What is cached will be
// let go of with the next attributes, as Linux does: the server's time of change does not tell who made it.
func (c *contents) touched() {
	c.changed.Store(c.k.changes.Add(1))
	c.attrExpires.Store(0)
}

// acceptTime has the server's next time of change taken as that of the cached contents.
func (c *contents) acceptTime() {
	c.mu.Lock()
	c.known = false
	c.mu.Unlock()
}

// Refresh implements vfs.AttrOps.
func (n *node) Refresh(i *vfs.Inode) error {
	if n.bad.Load() {
		return unix.EIO
	}
	if e := n.attrExpires.Load(); e != 0 && n.k.clock() < e {
		return nil
	}
	return n.fetch(i)
}

// fetch asks for the attributes, through an open handle where there is one: the name may be gone.
func (n *node) fetch(i *vfs.Inode) error {
	at := n.k.changes.Load()
	var m message
	if h := n.take(func(*handle) bool { return true }); h != nil {
		defer h.drop()
		m.u32(fuseabi.GetattrFH, 0)
		m.u64(h.fh)
	} else {
		m.u32(0, 0)
		m.u64(0)
	}
	in := make([]byte, fuseabi.AttrOutSize)
	if err := n.k.exact(fuseabi.OpGetattr, n.id, caller{}, m.b, in); err != nil {
		return err
	}
	a, valid, err := parseAttrOut(in)
	if err != nil {
		return err
	}
	return n.update(i, &a, valid, at)
}

// SetAttr implements vfs.AttrOps.
func (n *node) SetAttr(c *cred.Cred, i *vfs.Inode, a *vfs.Attr) error {
	if a.Valid&vfs.AttrSize != 0 {
		if err := n.dropPrivileges(c, i); err != nil {
			return err
		}
	}
	return n.setAttr(c, i, a, nil)
}

// setAttr changes attributes, through h if that is not nil.
func (n *node) setAttr(c *cred.Cred, i *vfs.Inode, a *vfs.Attr, h *handle) error {
	if n.bad.Load() {
		return unix.EIO
	}
	if a.Valid&vfs.AttrSize != 0 {
		if err := n.flush(); err != nil {
			return err
		}
		if n.cache != nil {
			n.cache.HoldSync() // pages behind the new end must not be written when it is cut already
			defer n.cache.ReleaseSync()
		}
	}
	var fh uint64
	valid := setattrValid(a.Valid)
	if h != nil {
		valid |= fuseabi.FattrFH
		fh = h.fh
	}
	asec, ansec := split(a.Atime)
	msec, mnsec := split(a.Mtime)
	var m message
	m.u32(valid, 0)
	m.u64(fh, uint64(a.Size), 0, asec, msec, 0)
	m.u32(ansec, mnsec, 0, n.typ|a.Mode&0o7777, 0, a.UID, a.GID, 0)
	in := make([]byte, fuseabi.AttrOutSize)
	if err := n.k.exact(fuseabi.OpSetattr, n.id, callerCred(c), m.b, in); err != nil {
		return err
	}
	got, expires, err := parseAttrOut(in)
	if err != nil {
		return err
	}
	if a.Valid&vfs.AttrSize != 0 {
		if n.cache == nil || got.size != a.Size {
			return unix.EIO
		}
		n.sizing.Lock()
		n.cache.Resize(got.size)
		n.touched()
		n.sizing.Unlock()
	} else {
		n.touched()
	}
	n.acceptTime() // this reply's
	return n.update(i, &got, expires, n.k.changes.Load())
}

func setattrValid(v uint32) (valid uint32) {
	for _, p := range [...][2]uint32{
		{vfs.AttrMode, fuseabi.FattrMode}, {vfs.AttrUID, fuseabi.FattrUID}, {vfs.AttrGID, fuseabi.FattrGID}, {vfs.AttrSize, fuseabi.FattrSize},
		{vfs.AttrAtime, fuseabi.FattrAtime}, {vfs.AttrMtime, fuseabi.FattrMtime}, {vfs.AttrAtimeNow, fuseabi.FattrAtimeNow}, {vfs.AttrMtimeNow, fuseabi.FattrMtimeNow},
	} {
		if v&p[0] != 0 {
			valid |= p[1]
		}
	}
	if v&vfs.AttrSize != 0 {
		valid &^= fuseabi.FattrMtime | fuseabi.FattrMtimeNow // the server stamps what it truncates
	}
	return valid
}

func split(ns int64) (sec uint64, nsec uint32) {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return uint64(s), uint32(n)
}

// Space implements vfs.AttrOps.
func (n *node) Space(*vfs.Inode) (size, blocks int64) {
	if n.cache != nil {
		return n.cache.Size(), n.blocks.Load()
	}
	return n.size.Load(), n.blocks.Load()
}

// MayChange implements vfs.InodeOps: the server decides.
func (n *node) MayChange(*vfs.Inode) error { return nil }

// MaySetAttr implements vfs.InodeOps.
func (n *node) MaySetAttr(*vfs.Inode) error { return nil }

// Readlink implements vfs.InodeOps.
func (n *node) Readlink(ctx *vfs.Context, _ *vfs.Inode) (string, error) {
	if e := n.attrExpires.Load(); e != 0 && n.k.clock() < e {
		n.mu.Lock()
		link := n.link
		n.mu.Unlock()
		if link != "" {
			return link, nil
		}
	}
	b, err := n.k.variable(fuseabi.OpReadlink, n.id, callerOf(ctx), nil, vfs.PathMax)
	if err != nil {
		return "", err
	}
	for _, c := range b {
		if c == 0 {
			return "", unix.EIO
		}
	}
	if len(b) == 0 {
		return "", unix.EIO
	}
	n.mu.Lock()
	n.link = string(b)
	n.mu.Unlock()
	return string(b), nil
}
