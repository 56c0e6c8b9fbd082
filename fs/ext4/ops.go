package ext4

import (
	"weak"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/vfs"
)

// directory is an open directory.
type directory struct {
	vfs.Directory
	n *node
}

// Sync implements vfs.FileOps.
func (o *directory) Sync(f *vfs.File) error { return o.n.sync(f.Inode()) }

// Lookup implements vfs.InodeOps.
func (n *node) Lookup(_ *vfs.Context, _ *vfs.Dentry, name string) (_ *vfs.Inode, err error) {
	n.fs.trim()
	if err := n.know(); err != nil {
		return nil, err
	}
	defer n.fs.caught(&err)
	n.fs.mu.RLock()
	defer n.fs.mu.RUnlock()
	f, err := n.lookup(name)
	if err != nil {
		if err == unix.ENOENT {
			missed := name // so that only this one is kept
			n.missing.Store(&missed)
		}
		return nil, err
	}
	i, err := n.fs.inode(f.ino)
	if err == unix.ENOENT || err == nil && i.Nlink() == 0 {
		return nil, unix.EUCLEAN // a name of a free inode
	}
	return i, err
}

// Readdir implements vfs.InodeOps.
func (n *node) Readdir(_ *vfs.Context, _ *vfs.Dentry, off int64, emit func(vfs.Dirent) bool) error {
	if err := n.know(); err != nil {
		return err
	}
	var room [64]vfs.Dirent
	for {
		n.fs.trim()
		list, err := n.listed(off, room[:0])
		if len(list) == 0 {
			return err
		}
		for _, d := range list {
			if !emit(d) {
				return nil
			}
			off = d.Next
		}
	}
}

// listed is list without a lock held.
func (n *node) listed(off int64, room []vfs.Dirent) (list []vfs.Dirent, err error) {
	defer n.fs.caught(&err)
	n.fs.mu.RLock()
	defer n.fs.mu.RUnlock()
	return n.list(off, room)
}

// Readlink implements vfs.InodeOps.
func (n *node) Readlink(_ *vfs.Context, i *vfs.Inode) (_ string, err error) {
	if n.fast {
		return i.Target(), nil
	}
	if err := n.know(); err != nil {
		return "", err
	}
	defer n.fs.caught(&err)
	n.fs.mu.RLock()
	defer n.fs.mu.RUnlock()
	e := n.tree.find(0)
	if e.pblock == 0 || n.size >= int64(n.fs.blockSize) {
		return "", unix.EUCLEAN
	}
	b, err := n.fs.read(e.pblock, anyKind, nil)
	if err != nil {
		return "", err
	}
	return string(b.data[:n.size]), nil
}

// MayChange implements vfs.InodeOps.
func (n *node) MayChange(*vfs.Inode) error { return n.mayChange() }

// MaySetAttr implements vfs.InodeOps.
func (n *node) MaySetAttr(*vfs.Inode) error { return n.mayChange() }

func (n *node) mayChange() error {
	n.fs.mu.RLock()
	defer n.fs.mu.RUnlock()
	return n.fs.writable()
}

// Refresh implements vfs.AttrOps: nobody else changes the disk.
func (n *node) Refresh(*vfs.Inode) error { return nil }

// Space implements vfs.AttrOps.
func (n *node) Space(*vfs.Inode) (size, blocks int64) {
	n.fs.mu.RLock()
	size, blocks = n.size, int64(n.blocks)+int64(len(n.delayed))<<(n.fs.blockBits-9)
	n.fs.mu.RUnlock()
	if n.cache != nil {
		size = n.cache.Size()
	}
	return size, blocks
}

// SetAttr implements vfs.AttrOps.
func (n *node) SetAttr(c *cred.Cred, i *vfs.Inode, a *vfs.Attr) error {
	if i.HasFlags(flagImmutable) {
		return unix.EPERM // opened before it was
	}
	if a.Valid&vfs.AttrSize != 0 {
		i.DropPrivileges(c)
		if err := n.resize(i, a.Size); err != nil {
			return err
		}
	}
	return n.fs.update(func() error {
		a.Apply(i)
		return n.store()
	})
}

// resize sets the length of a regular file: EFBIG. The inode is locked.
func (n *node) resize(i *vfs.Inode, size int64) error {
	fs := n.fs
	if size > fs.maxSize() {
		return unix.EFBIG
	}
	if err := n.zeroTail(size); err != nil {
		return err
	}
	old := n.cache.Size()
	fs.mu.Lock()
	fs.hold(n, i)
	fs.mu.Unlock()
	if err := n.cache.Truncate(size); err != nil {
		return err
	}
	if size >= old {
		fs.mu.Lock()
		n.size = size
		fs.mu.Unlock()
		return nil
	}
	// The new size first, on the list of orphans, so that a crash in between is made good.
	if err := fs.update(func() error {
		n.size = min(n.size, size)
		return fs.addOrphan(n)
	}); err != nil {
		return err
	}
	if err := n.release((uint64(size)+uint64(fs.blockSize)-1)>>fs.blockBits, 1<<32); err != nil {
		return err
	}
	return fs.update(func() error {
		if i.Nlink() == 0 {
			return nil // it stays an orphan
		}
		return fs.dropOrphan(n)
	})
}

// Create implements vfs.InodeOps.
func (n *node) Create(dir *vfs.Inode, name string, nn *vfs.NewNode) (made *vfs.Inode, err error) {
	err = n.fs.update(func() error {
		if err := n.ready(); err != nil {
			return err
		}
		if name != "" {
			if dir.Nlink() == 0 {
				return unix.ENOENT
			}
			if err := n.mustMiss(name); err != nil {
				return err
			}
		}
		if nn.Mode&unix.S_IFMT == unix.S_IFDIR && !n.fs.moreLinks(dir) {
			return unix.EMLINK
		}
		made, err = n.create(dir, name, nn)
		return err
	})
	if err == nil {
		n.fs.tie(made)
	}
	return made, n.fs.synced(err, dir)
}

// mustMiss checks that a directory has not a name: EEXIST, EUCLEAN, EIO. fs.mu is held for writing.
func (n *node) mustMiss(name string) error {
	if m := n.missing.Load(); m != nil && *m == name {
		return nil
	}
	_, err := n.lookup(name)
	switch err {
	case nil:
		return unix.EEXIST
	case unix.ENOENT:
		return nil
	}
	return err
}

// moreLinks reports whether a directory can have one more subdirectory.
func (fs *fileSystem) moreLinks(dir *vfs.Inode) bool {
	return dir.Nlink() < linkMax || fs.roCompat&roDirNlink != 0
}

func (n *node) create(dir *vfs.Inode, name string, nn *vfs.NewNode) (*vfs.Inode, error) {
	fs := n.fs
	if fs.freeBlocks < 8 && nn.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil, unix.ENOSPC
	}
	isDir := nn.Mode&unix.S_IFMT == unix.S_IFDIR
	ino, err := fs.allocateInode((n.ino-1)/fs.inodesGroup, isDir)
	if err != nil {
		return nil, err
	}
	i, err := fs.newInode(ino, nn, n)
	if err == nil && name != "" {
		err = n.add(name, ino, fs.fileType(nn.Mode))
	}
	if err != nil {
		// Undo: what the new inode has is freed again.
		if i != nil {
			fs.table.Drop(ino, i)
			m := of(i)
			m.deleted = true
			for _, e := range m.tree.cut(0, 1<<32, fs.leafRoom()) {
				_ = fs.free(e.pblock, e.length, true)
			}
			if b, raw, rerr := fs.rawInode(ino); rerr == nil {
				clear(raw)
				fs.change(b)
			}
		}
		_ = fs.freeInode(ino, isDir)
		return nil, err
	}
	now := fs.vfs.Now()
	if name == "" {
		i.SetNlink(0)
		if err := fs.addOrphan(of(i)); err != nil {
			return nil, err
		}
		return i, of(i).store()
	}
	if isDir {
		dir.SetNlink(dir.Nlink() + 1)
	}
	dir.SetTimes(-1, now, now)
	return i, n.store()
}

// newInode makes an inode with a number that was just allocated; up is the directory that it is made in. An inode comes back with an error
// too, once there is one.
func (fs *fileSystem) newInode(ino uint32, nn *vfs.NewNode, up *node) (*vfs.Inode, error) {
	b, raw, err := fs.rawInode(ino)
	if err != nil {
		return nil, err
	}
	generation := le.Uint32(raw[iGeneration:]) + 1
	clear(raw)
	n := &node{fs: fs, ino: ino, generation: generation, seed: fs.inodeSeed(ino, generation), flags: up.inherit(nn.Mode)}
	if fs.inodeSize > goodInode {
		le.PutUint16(raw[iExtraSize:], uint16(min(max(fs.wantExtra, 32), fs.inodeSize-goodInode)))
	}
	var cache *mem.Cache
	if nn.Mode&unix.S_IFMT == unix.S_IFREG {
		cache = mem.NewCache(fs.pool, &pages{n})
	}
	i := fs.vfs.NewInode(n, nn, cache)
	i.Ino = uint64(ino)
	n.cache, n.vfs = cache, weak.Make(i)
	i.SetFlags(n.flags & enforcedFlags)
	fs.table.Put(ino, i)
	n.mapped.Store(true)
	_, _, n.crtime = i.Times()
	if fs.extra(raw) >= iCrtimeExtra+4-goodInode {
		fs.encodeTime(raw, iCrtime, iCrtimeExtra, n.crtime)
	}
	n.initMap(raw, nn)
	fs.change(b)
	if err := n.firstBlock(nn, up.ino); err != nil {
		return i, err
	}
	return i, n.store()
}

// initMap fills i_block of a new inode: a short target, a device's number, or a map without entries.
func (n *node) initMap(raw []byte, nn *vfs.NewNode) {
	typ := nn.Mode & unix.S_IFMT
	n.fast = typ == unix.S_IFLNK && len(nn.Target) < iBlockSize
	switch {
	case n.fast:
		copy(raw[iBlock:], nn.Target)
		n.size = int64(len(nn.Target))
	case typ == unix.S_IFREG || typ == unix.S_IFDIR || typ == unix.S_IFLNK:
		if n.fs.extents {
			n.flags |= flagExtents
			header(raw[iBlock:], 0, inlineExtents, 0)
		} else {
			n.tree.indirect = true
		}
	case typ == unix.S_IFCHR || typ == unix.S_IFBLK:
		encodeDev(raw, nn.Rdev)
	}
}

// firstBlock writes what is in a new inode from the beginning: . and .., or a long target. ENAMETOOLONG, ENOSPC, EIO.
func (n *node) firstBlock(nn *vfs.NewNode, up uint32) error {
	fs := n.fs
	switch typ := nn.Mode & unix.S_IFMT; {
	case typ == unix.S_IFDIR:
		_, buf, err := n.grow()
		if err != nil {
			return err
		}
		t := fs.fileType(unix.S_IFDIR)
		putRecord(buf.data, n.ino, 12, t, ".")
		putRecord(buf.data[12:], up, fs.records()-12, t, "..")
		n.sumDir(buf.data)
	case typ == unix.S_IFLNK && !n.fast:
		if len(nn.Target) >= fs.blockSize {
			return unix.ENAMETOOLONG
		}
		_, buf, err := n.grow()
		if err != nil {
			return err
		}
		clear(buf.data)
		copy(buf.data, nn.Target)
		n.size = int64(len(nn.Target))
	}
	return nil
}

// Link implements vfs.NameOps.
func (n *node) Link(i, dir *vfs.Inode, name string) error {
	m, d := of(i), of(dir)
	return n.fs.synced(n.fs.update(func() error {
		if err := d.ready(); err != nil {
			return err
		}
		if err := d.mustMiss(name); err != nil {
			return err
		}
		switch {
		case i.Nlink() >= linkMax:
			return unix.EMLINK
		case m.deleted || dir.Nlink() == 0:
			return unix.ENOENT
		}
		if err := d.add(name, m.ino, n.fs.fileType(i.Mode())); err != nil {
			return err
		}
		now := n.fs.vfs.Now()
		i.SetNlink(i.Nlink() + 1)
		i.SetTimes(-1, -1, now)
		dir.SetTimes(-1, now, now)
		if err := n.fs.dropOrphan(m); err != nil {
			return err
		}
		if err := m.store(); err != nil {
			return err
		}
		return d.store()
	}), dir)
}

// Unlink implements vfs.NameOps.
func (n *node) Unlink(dir *vfs.Inode, name string, i *vfs.Inode) error {
	return n.fs.synced(n.fs.update(func() error {
		d, m := of(dir), of(i)
		if err := d.ready(); err != nil {
			return err
		}
		f, err := d.lookup(name)
		if err != nil {
			return err
		}
		if f.ino != m.ino {
			return unix.EUCLEAN
		}
		if err := m.mayGo(i); err != nil {
			return err
		}
		d.remove(f)
		now := n.fs.vfs.Now()
		dir.SetTimes(-1, now, now)
		if err := m.loseName(i, dir); err != nil {
			return err
		}
		return d.store()
	}), dir)
}

// mayGo checks that a directory is empty: ENOTEMPTY.
func (n *node) mayGo(i *vfs.Inode) error {
	if !i.IsDir() {
		return nil
	}
	if err := n.ready(); err != nil {
		return err
	}
	empty, err := n.isEmpty()
	if err == nil && !empty {
		err = unix.ENOTEMPTY
	}
	return err
}

// loseName takes a link away from n, which a directory has in dir no more.
func (n *node) loseName(i, dir *vfs.Inode) error {
	i.SetTimes(-1, -1, n.fs.vfs.Now())
	if i.IsDir() {
		i.SetNlink(0)
		if dir.Nlink() > 2 {
			dir.SetNlink(dir.Nlink() - 1)
		}
	} else if i.Nlink() > 0 {
		i.SetNlink(i.Nlink() - 1)
	}
	if i.Nlink() == 0 {
		n.fs.hold(n, i)
		return n.fs.addOrphan(n)
	}
	return n.store()
}

// Rename implements vfs.NameOps.
func (n *node) Rename(from *vfs.Inode, oldName string, to *vfs.Inode, newName string, flags uint) error {
	var whiteout *vfs.Inode
	if flags&unix.RENAME_WHITEOUT != 0 {
		// Without a name first, as an orphan, so that nothing is left of it whatever fails.
		err := n.fs.update(func() (err error) {
			whiteout, err = of(from).create(from, "", &vfs.NewNode{Mode: unix.S_IFCHR})
			return err
		})
		if err != nil {
			return err
		}
	}
	r := renaming{fs: n.fs, from: from, to: to, oldName: oldName, newName: newName, exchange: flags&unix.RENAME_EXCHANGE != 0, whiteout: whiteout}
	err := n.fs.update(func() error {
		if err := r.find(); err != nil {
			return err
		}
		if err := r.allowed(flags&unix.RENAME_NOREPLACE != 0); err != nil {
			return err
		}
		return r.do()
	})
	if err != nil && whiteout != nil {
		of(whiteout).Evict(whiteout)
	}
	return n.fs.synced(err, from, to)
}

// A renaming is one rename, in one transaction. Its methods are called with fs.mu held for writing.
type renaming struct {
	fs               *fileSystem
	from, to         *vfs.Inode
	oldName, newName string
	exchange         bool
	whiteout         *vfs.Inode // takes the old name, when not nil

	i, victim  *vfs.Inode // what moves, and what has the new name: nil for none
	old, there *found     // their records
}

// find looks both names up: ENOENT, EUCLEAN, EIO.
func (r *renaming) find() (err error) {
	d, e := of(r.from), of(r.to)
	for _, n := range [...]*node{d, e} {
		if err := n.ready(); err != nil {
			return err
		}
	}
	if r.old, err = d.lookup(r.oldName); err != nil {
		return err
	}
	if r.i, err = r.fs.inode(r.old.ino); err != nil {
		return err
	}
	r.victim = nil
	if r.there, err = e.lookup(r.newName); err == unix.ENOENT {
		return nil
	} else if err == nil {
		r.victim, err = r.fs.inode(r.there.ino)
	}
	return err
}

// allowed says why it cannot be done: EEXIST, ENOENT, ENOTEMPTY, EMLINK.
func (r *renaming) allowed(noReplace bool) error {
	switch {
	case r.victim != nil && noReplace:
		return unix.EEXIST
	case r.victim == nil && r.exchange:
		return unix.ENOENT
	case r.victim != nil && !r.exchange:
		if err := of(r.victim).mayGo(r.victim); err != nil {
			return err
		}
	}
	if r.i.IsDir() && r.from != r.to && (r.victim == nil || !r.victim.IsDir()) && !r.fs.moreLinks(r.to) {
		return unix.EMLINK
	}
	return nil
}

// do changes the names and what hangs on them.
func (r *renaming) do() error {
	if err := r.names(); err != nil {
		return err
	}
	now := r.fs.vfs.Now()
	r.i.SetTimes(-1, -1, now)
	r.from.SetTimes(-1, now, now)
	r.to.SetTimes(-1, now, now)
	if err := r.fs.moved(r.i, r.from, r.to); err != nil {
		return err
	}
	if err := r.victimGoes(now); err != nil {
		return err
	}
	for _, n := range [...]*node{of(r.i), of(r.from), of(r.to)} {
		if err := n.store(); err != nil {
			return err
		}
	}
	return nil
}

// names changes the records in both directories.
func (r *renaming) names() error {
	d, e := of(r.from), of(r.to)
	ino, typ := r.old.ino, r.old.typ
	if r.victim != nil {
		victimIno, victimType := r.there.ino, r.there.typ
		e.replace(r.there, ino, typ)
		if r.exchange {
			d.replace(r.old, victimIno, victimType)
			return nil
		}
	} else if err := e.add(r.newName, ino, typ); err != nil {
		return err
	}
	old, err := d.lookup(r.oldName) // adding may have moved it
	if err != nil {
		return err
	}
	if r.whiteout == nil {
		d.remove(old)
		return nil
	}
	w := of(r.whiteout)
	d.replace(old, w.ino, r.fs.fileType(unix.S_IFCHR))
	r.whiteout.SetNlink(1)
	return r.fs.dropOrphan(w)
}

// victimGoes has what had the new name move to the old one, or lose a link.
func (r *renaming) victimGoes(now int64) error {
	switch {
	case r.victim == nil:
		return nil
	case !r.exchange:
		return of(r.victim).loseName(r.victim, r.to)
	}
	r.victim.SetTimes(-1, -1, now)
	if err := r.fs.moved(r.victim, r.to, r.from); err != nil {
		return err
	}
	return of(r.victim).store()
}

// moved makes .. of a directory lead to its new parent.
func (fs *fileSystem) moved(i, from, to *vfs.Inode) error {
	if !i.IsDir() || from == to {
		return nil
	}
	n := of(i)
	if err := n.ready(); err != nil {
		return err
	}
	up, err := n.lookup("..")
	if err != nil {
		return unix.EUCLEAN
	}
	n.replace(up, of(to).ino, up.typ)
	from.SetNlink(max(from.Nlink(), 3) - 1)
	to.SetNlink(to.Nlink() + 1)
	return nil
}

// Evict implements vfs.InodeOps: the last name and the last user are gone.
func (n *node) Evict(i *vfs.Inode) {
	n.fs.table.Drop(n.ino, i)
	if n.cache != nil {
		n.cache.Release()
	}
	if n.fs.readOnly.Load() {
		return
	}
	if err := n.erase(i); err != nil {
		n.fs.problem("inode " + utoa(uint64(n.ino)) + " could not be freed: " + err.Error())
	}
}

// erase frees an inode and all that it has. On the list of orphans already, it can be done in several transactions.
func (n *node) erase(i *vfs.Inode) error {
	fs := n.fs
	typ := i.Type()
	if !n.fast && (typ == unix.S_IFREG || typ == unix.S_IFDIR || typ == unix.S_IFLNK) {
		if err := n.release(0, 1<<32); err != nil {
			return err
		}
	}
	return fs.update(func() error {
		fs.unhold(n)
		if err := n.dropAttrBlock(false); err != nil {
			return err
		}
		if err := fs.dropOrphan(n); err != nil {
			return err
		}
		n.deleted, n.size = true, 0
		if err := n.store(); err != nil {
			return err
		}
		b, raw, err := fs.rawInode(n.ino)
		if err != nil {
			return err
		}
		le.PutUint32(raw[iDtime:], uint32(fs.vfs.Now()/1e9))
		n.sumInode(raw)
		fs.change(b)
		return fs.freeInode(n.ino, typ == unix.S_IFDIR)
	})
}

// addOrphan puts n on the list of inodes that a crash leaves something to do for, in the superblock and their dtime fields.
func (fs *fileSystem) addOrphan(n *node) error {
	if n.orphan {
		return n.store()
	}
	n.orphan, n.next = true, le.Uint32(fs.raw[sOrphans:])
	fs.orphans = append(fs.orphans, n)
	le.PutUint32(fs.raw[sOrphans:], n.ino)
	fs.tx.super = true
	return n.store()
}

// dropOrphan takes n off the list; n must be stored then or now.
func (fs *fileSystem) dropOrphan(n *node) error {
	if !n.orphan {
		return nil
	}
	at := -1
	for i, o := range fs.orphans {
		if o == n {
			at = i
		}
	}
	if at < 0 {
		return unix.EUCLEAN
	}
	if at == len(fs.orphans)-1 {
		le.PutUint32(fs.raw[sOrphans:], n.next)
		fs.tx.super = true
	} else {
		before := fs.orphans[at+1] // its next is n
		before.next = n.next
		if err := before.store(); err != nil {
			return err
		}
	}
	fs.orphans = append(fs.orphans[:at], fs.orphans[at+1:]...)
	n.orphan, n.next = false, 0
	return n.store()
}
