package fuse

import (
	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
	"gosv/kernel/vfs"
)

// mostAbsent bounds the names of a directory that are known not to be there.
const mostAbsent = 256

// Lookup implements vfs.InodeOps.
func (n *node) Lookup(ctx *vfs.Context, dir *vfs.Dentry, name string) (*vfs.Inode, error) {
	if n.isAbsent(name) {
		return nil, unix.ENOENT
	}
	at := n.k.changes.Load()
	e, err := n.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if e.node == 0 {
		n.setAbsent(name, e.entryValid)
		return nil, unix.ENOENT
	}
	return n.k.inode(&e, at)
}

func (n *node) lookup(ctx *vfs.Context, name string) (entry, error) {
	var m message
	m.name(name)
	n.ahead.Store(true)
	return n.k.entry(fuseabi.OpLookup, n.id, callerOf(ctx), m.b)
}

// entry makes a request whose reply is struct fuse_entry_out.
func (k *conn) entry(op uint32, node uint64, who caller, args []byte) (entry, error) {
	in := make([]byte, fuseabi.EntrySize)
	if err := k.exact(op, node, who, args, in); err != nil {
		return entry{}, err
	}
	return parseEntry(in)
}

func (n *node) isAbsent(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	until, ok := n.absent[name]
	if ok && n.k.clock() >= until {
		delete(n.absent, name)
		ok = false
	}
	return ok
}

func (n *node) setAbsent(name string, valid int64) {
	if valid == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.absent == nil || len(n.absent) >= mostAbsent {
		n.absent = make(map[string]int64)
	}
	n.absent[name] = n.k.deadline(valid)
}

// appeared says that name is there, or may be.
func (n *node) appeared(name string) {
	n.mu.Lock()
	delete(n.absent, name)
	n.mu.Unlock()
	n.attrExpires.Store(0) // of the directory
}

// Expiry implements vfs.Revalidator.
func (n *node) Expiry(i *vfs.Inode) int64 { return nodeOf(i).entryExpires.Load() }

// Revalidate implements vfs.Revalidator.
func (n *node) Revalidate(ctx *vfs.Context, _ *vfs.Dentry, name string, i *vfs.Inode, expires int64) (int64, bool) {
	c := nodeOf(i)
	if c.bad.Load() {
		return 0, false
	}
	if expires != 0 && n.k.clock() < expires {
		return expires, true
	}
	at := n.k.changes.Load()
	e, err := n.lookup(ctx, name)
	if err != nil || e.node == 0 {
		return 0, false
	}
	if e.node != c.id {
		n.k.forget(e.node, 1)
		return 0, false
	}
	found, err := n.k.inode(&e, at)
	return c.entryExpires.Load(), err == nil && found == i
}

// Create implements vfs.InodeOps.
func (n *node) Create(dir *vfs.Inode, name string, nn *vfs.NewNode) (*vfs.Inode, error) {
	who := caller{uid: nn.UID, gid: nn.GID}
	at := n.k.changes.Load()
	defer n.appeared(name)
	switch t := nn.Mode & unix.S_IFMT; {
	case name == "":
		return n.createNameless(who, nn)
	case t == unix.S_IFREG && nn.Opens:
		return n.createOpen(who, name, nn)
	case t == unix.S_IFDIR:
		var m message
		m.u32(nn.Mode&0o7777, 0)
		m.name(name)
		return n.made(fuseabi.OpMkdir, who, m.b, nn, at)
	case t == unix.S_IFLNK:
		return n.symlink(who, name, nn, at)
	}
	var m message
	m.u32(nn.Mode, encodeDev(nn.Rdev), 0, 0)
	m.name(name)
	return n.made(fuseabi.OpMknod, who, m.b, nn, at)
}

// made makes a request that creates what nn describes.
func (n *node) made(op uint32, who caller, args []byte, nn *vfs.NewNode, at uint64) (*vfs.Inode, error) {
	e, err := n.k.entry(op, n.id, who, args)
	return n.madeEntry(&e, err, nn, at)
}

func (n *node) madeEntry(e *entry, err error, nn *vfs.NewNode, at uint64) (*vfs.Inode, error) {
	if err != nil {
		return nil, err
	}
	if e.node == 0 || e.attr.mode&unix.S_IFMT != nn.Mode&unix.S_IFMT {
		return nil, unix.EIO
	}
	return n.k.inode(e, at)
}

// symlink creates a symbolic link. The target may be long, so it goes in frames.
func (n *node) symlink(who caller, name string, nn *vfs.NewNode, at uint64) (*vfs.Inode, error) {
	var m message
	m.name(name)
	d, err := n.k.dataOf(append([]byte(nn.Target), 0))
	if err != nil {
		return nil, err
	}
	defer d.free()
	in := make([]byte, fuseabi.EntrySize)
	got, err := n.k.callData(fuseabi.OpSymlink, n.id, who, m.b, in, d.frames, 0, d.n, true)
	if err != nil {
		return nil, err
	}
	if got != fuseabi.EntrySize {
		return nil, unix.EIO
	}
	e, err := parseEntry(in)
	return n.madeEntry(&e, err, nn, at)
}

// openFlags are the flags of open(2) that concern the server.
func openFlags(flags int) uint32 {
	return uint32(flags) &^ (unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_CLOEXEC | unix.O_NOFOLLOW)
}

// createOpen creates and opens a regular file in one, so that its mode does not hinder the opening.
func (n *node) createOpen(who caller, name string, nn *vfs.NewNode) (*vfs.Inode, error) {
	at := n.k.changes.Load()
	flags := openFlags(nn.Flags)
	var m message
	m.u32(flags|unix.O_CREAT|unix.O_EXCL, nn.Mode, 0, 0)
	m.name(name)
	return n.opened(fuseabi.OpCreate, who, m.b, nn, flags, at)
}

// opened makes a request whose reply is an entry and an open handle.
func (n *node) opened(op uint32, who caller, args []byte, nn *vfs.NewNode, flags uint32, at uint64) (*vfs.Inode, error) {
	in := make([]byte, fuseabi.EntrySize+fuseabi.OpenOutSize)
	if err := n.k.exact(op, n.id, who, args, in); err != nil {
		return nil, err
	}
	e, err := parseEntry(in)
	i, err := n.madeEntry(&e, err, nn, at)
	if err != nil {
		return nil, err
	}
	c := nodeOf(i).contents
	h := c.newHandle(in[fuseabi.EntrySize:], flags)
	c.dropSpare()
	c.mu.Lock()
	c.spare = h
	c.mu.Unlock()
	return i, nil
}

// createNameless makes a file without a name (O_TMPFILE): EOPNOTSUPP when the server does not.
func (n *node) createNameless(who caller, nn *vfs.NewNode) (*vfs.Inode, error) {
	if n.k.noTmpfile.Load() {
		return nil, unix.EOPNOTSUPP
	}
	at := n.k.changes.Load()
	flags := uint32(nn.Flags) &^ (unix.O_CREAT | unix.O_NOCTTY | unix.O_TRUNC | unix.O_CLOEXEC)
	var m message
	m.u32(flags, nn.Mode, 0, 0)
	m.name("")
	i, err := n.opened(fuseabi.OpTmpfile, who, m.b, nn, openFlags(nn.Flags)&^unix.O_TMPFILE, at)
	if err == unix.ENOSYS {
		n.k.noTmpfile.Store(true)
		err = unix.EOPNOTSUPP
	}
	return i, err
}

// Link implements vfs.NameOps.
func (n *node) Link(i, dir *vfs.Inode, name string) error {
	at := n.k.changes.Load()
	var m message
	m.u64(nodeOf(i).id)
	m.name(name)
	e, err := n.k.entry(fuseabi.OpLink, n.id, caller{}, m.b)
	if err != nil {
		return err
	}
	n.appeared(name)
	if e.node != nodeOf(i).id {
		if e.node != 0 {
			n.k.forget(e.node, 1)
		}
		return unix.EIO
	}
	_, err = n.k.inode(&e, at)
	return err
}

// Unlink implements vfs.NameOps.
func (n *node) Unlink(dir *vfs.Inode, name string, i *vfs.Inode) error {
	op := uint32(fuseabi.OpUnlink)
	if i.IsDir() {
		op = fuseabi.OpRmdir
	}
	var m message
	m.name(name)
	if _, err := n.k.call(op, n.id, caller{}, m.b, nil); err != nil {
		return err
	}
	n.attrExpires.Store(0)
	lost(i)
	return nil
}

// lost takes a link from an inode whose name is gone, until the server says how many there are.
func lost(i *vfs.Inode) {
	links := i.Nlink()
	switch {
	case i.IsDir():
		links = 0
	case links > 0:
		links--
	}
	i.SetNlink(links)
	nodeOf(i).attrExpires.Store(0)
}

// Replaced implements vfs.Replacer.
func (n *node) Replaced(victim *vfs.Inode) { lost(victim) }

// Rename implements vfs.NameOps.
func (n *node) Rename(from *vfs.Inode, oldName string, to *vfs.Inode, newName string, flags uint) error {
	var m message
	op := uint32(fuseabi.OpRename)
	m.u64(nodeOf(to).id)
	if flags != 0 {
		if n.k.noRename2.Load() {
			return unix.EINVAL
		}
		op = fuseabi.OpRename2
		m.u32(uint32(flags), 0)
	}
	m.name(oldName)
	m.name(newName)
	_, err := n.k.call(op, n.id, caller{}, m.b, nil)
	if err == unix.ENOSYS && flags != 0 {
		n.k.noRename2.Store(true)
		err = unix.EINVAL
	}
	if err != nil {
		return err
	}
	n.attrExpires.Store(0)
	nodeOf(to).appeared(newName)
	return nil
}
