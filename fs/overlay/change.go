package overlay

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

var whiteout = vfs.NewNode{Mode: unix.S_IFCHR}

// indexName is the name in the work directory that keeps a file with several names while they go.
func (o *overlay) indexName(i *vfs.Inode) string { return "index-" + strconv.FormatUint(i.Ino, 16) }

// up brings a directory to the upper layer and returns it there.
func (n *node) up() (vfs.Path, error) {
	if err := n.copyUpDir(); err != nil {
		return vfs.Path{}, err
	}
	return *n.upper.Load(), nil
}

// Create implements vfs.InodeOps.
func (n *node) Create(dir *vfs.Inode, name string, made *vfs.NewNode) (*vfs.Inode, error) {
	if err := n.o.writable(); err != nil {
		return nil, err
	}
	if made.Mode&unix.S_IFMT == unix.S_IFCHR && made.Rdev == 0 {
		return nil, unix.EPERM // it would be a whiteout
	}
	up, err := n.up()
	if err != nil {
		return nil, err
	}
	if name == "" {
		anonymous := *made
		anonymous.Flags &^= unix.O_EXCL // whether it may get a name is decided above
		p, err := up.MakeNameless(&anonymous)
		if err != nil {
			return nil, err
		}
		return n.o.inode(n, "", p, nil, n.o.number(p)), nil
	}
	e, err := n.find(name)
	if err != nil {
		return nil, err
	}
	if e.visible() {
		return nil, unix.EEXIST
	}
	p, err := n.make(up, name, made, &e)
	if err != nil {
		return nil, err
	}
	n.changed(dir)
	return n.o.inode(n, name, p, nil, n.o.number(p)), nil
}

// make makes a file in the upper layer, in place of a whiteout if there is one.
func (n *node) make(up vfs.Path, name string, made *vfs.NewNode, e *entry) (vfs.Path, error) {
	if !e.upper.Valid() && !e.below {
		return up.Make(name, made)
	}
	o := n.o
	temp := o.tempName()
	p, err := o.work.Make(temp, made)
	if err == nil && p.Inode().IsDir() {
		err = o.setOpaque(p)
	}
	if err == nil {
		err = o.swap(temp, up, name, e.upper.Valid())
	}
	if err != nil {
		_ = o.remove(o.work, temp)
	}
	return p, err
}

func (o *overlay) setOpaque(p vfs.Path) error {
	return vfs.Setxattr(o.ctx, p, o.prefix+"opaque", []byte("y"), 0)
}

// swap puts what is in the work directory in place; what was there, if replaces, goes.
func (o *overlay) swap(temp string, dir vfs.Path, name string, replaces bool) error {
	if !replaces {
		return vfs.Rename(o.ctx, o.work, temp, dir, name, unix.RENAME_NOREPLACE)
	}
	if err := vfs.Rename(o.ctx, o.work, temp, dir, name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	return o.remove(o.work, temp)
}

// changed brings the attributes of a directory whose entries changed up to date.
func (n *node) changed(dir *vfs.Inode) {
	n.list.changed()
	n.refresh(dir)
}

// Link implements vfs.NameOps.
func (n *node) Link(i, dir *vfs.Inode, name string) error {
	target := nodeOf(i)
	if err := target.copyUp(i, -1); err != nil {
		return err
	}
	up, err := n.up()
	if err != nil {
		return err
	}
	e, err := n.find(name)
	switch {
	case err != nil:
		return err
	case e.visible():
		return unix.EEXIST
	}
	where, as := up, name
	if e.upper.Valid() {
		where, as = n.o.work, n.o.tempName()
	}
	if err := vfs.Link(n.o.ctx, target.real(), "", where, as, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if e.upper.Valid() {
		if err := n.o.swap(as, up, name, true); err != nil {
			_ = n.o.remove(n.o.work, as)
			return err
		}
	}
	target.mu.Lock()
	if target.links > 0 {
		target.links++
	}
	if target.name == "" {
		target.parent, target.name = n, name
	}
	target.mu.Unlock()
	target.refresh(i)
	n.changed(dir)
	return nil
}

// Unlink implements vfs.NameOps.
func (n *node) Unlink(dir *vfs.Inode, name string, i *vfs.Inode) error {
	if err := n.o.writable(); err != nil {
		return err
	}
	if i.IsDir() {
		if empty, err := nodeOf(i).empty(); err != nil {
			return err
		} else if !empty {
			return unix.ENOTEMPTY
		}
	}
	up, err := n.up()
	if err != nil {
		return err
	}
	e, err := n.find(name)
	if err != nil {
		return err
	}
	if err := n.hide(up, name, &e); err != nil {
		return err
	}
	n.lost(i)
	n.changed(dir)
	return nil
}

// hide takes a name away: with a whiteout when the lower layers have it, too.
func (n *node) hide(up vfs.Path, name string, e *entry) error {
	o := n.o
	if !e.below {
		return o.remove(up, name)
	}
	if !e.upper.Valid() {
		_, err := up.Make(name, &whiteout)
		return err
	}
	temp := o.tempName()
	if _, err := o.work.Make(temp, &whiteout); err != nil {
		return err
	}
	return o.swap(temp, up, name, true)
}

// lost counts a name less of i.
func (n *node) lost(i *vfs.Inode) {
	x := nodeOf(i)
	if i.IsDir() {
		i.SetNlink(0)
		return
	}
	x.mu.Lock()
	indexed := x.links > 0
	if indexed {
		x.links--
	}
	gone := indexed && x.links == 0
	if x.upper.Load() == nil {
		x.hidden++
	}
	x.mu.Unlock()
	switch {
	case gone:
		_ = vfs.Unlink(n.o.ctx, n.o.work, n.o.indexName(i)) // else the next mount removes it
		n.o.pins.let(i)
		i.SetNlink(0)
	default:
		x.refresh(i)
	}
}

// Rename implements vfs.NameOps.
func (n *node) Rename(fromDir *vfs.Inode, oldName string, toDir *vfs.Inode, newName string, flags uint) error {
	if err := n.o.writable(); err != nil {
		return err
	}
	from, to := nodeOf(fromDir), nodeOf(toDir)
	old, err := from.moving(oldName)
	if err != nil {
		return err
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		return n.exchange(from, to, fromDir, toDir, oldName, newName, old)
	}
	e, err := to.find(newName)
	if err != nil {
		return err
	}
	var victim *vfs.Inode
	if e.visible() {
		victim = n.o.inode(to, newName, e.upper, e.lowers, e.number)
		if victim.IsDir() {
			if empty, err := nodeOf(victim).empty(); err != nil {
				return err
			} else if !empty {
				return unix.ENOTEMPTY
			}
		}
	}
	if err := n.move(from, to, oldName, newName, old, &e); err != nil {
		return err
	}
	if victim != nil {
		n.lost(victim)
	}
	nodeOf(old).moved(to, newName)
	nodeOf(old).refresh(old)
	from.changed(fromDir)
	to.changed(toDir)
	return nil
}

// moving brings an entry that is to be renamed, and its directory, to the upper layer: EXDEV for a directory with a lower part.
func (n *node) moving(name string) (*vfs.Inode, error) {
	e, err := n.find(name)
	if err != nil {
		return nil, err
	}
	if !e.visible() {
		return nil, unix.ENOENT
	}
	i := n.o.inode(n, name, e.upper, e.lowers, e.number)
	if i.IsDir() && len(e.lowers) > 0 {
		return nil, unix.EXDEV
	}
	x := nodeOf(i)
	x.moved(n, name) // it has this name among others: the one that is copied up
	if err := x.copyUp(i, -1); err != nil {
		return nil, err
	}
	if _, err := n.up(); err != nil {
		return nil, err
	}
	// A file that was copied up under another of its names is not in the upper layer under this one yet.
	if e, err = n.find(name); err == nil && !i.IsDir() && (!e.upper.Valid() || e.upper.Inode() != x.real().Inode()) {
		err = vfs.Link(n.o.ctx, x.real(), "", *n.upper.Load(), name, unix.AT_EMPTY_PATH)
	}
	return i, err
}

// moved remembers where a file is now.
func (n *node) moved(parent *node, name string) {
	n.mu.Lock()
	n.parent, n.name = parent, name
	n.mu.Unlock()
}

// move renames in the upper layer, and hides what the lower layers have under the old name.
func (n *node) move(from, to *node, oldName, newName string, old *vfs.Inode, e *entry) error {
	o := n.o
	up, err := to.up()
	if err != nil {
		return err
	}
	at := *from.upper.Load()
	if old.IsDir() && e.below {
		if err := o.setOpaque(nodeOf(old).real()); err != nil {
			return err
		}
	}
	before, err := from.find(oldName)
	if err != nil {
		return err
	}
	flags := uint(0)
	if before.below {
		flags = unix.RENAME_WHITEOUT
	}
	if e.upper.Valid() && (old.IsDir() || e.upper.Inode().IsDir()) {
		// A whiteout, or a directory that may have whiteouts in it: out of the way first.
		temp := o.tempName()
		if err := vfs.Rename(o.ctx, up, newName, o.work, temp, 0); err != nil {
			return err
		}
		if err := vfs.Rename(o.ctx, at, oldName, up, newName, flags); err != nil {
			_ = vfs.Rename(o.ctx, o.work, temp, up, newName, 0)
			return err
		}
		return o.remove(o.work, temp)
	}
	return vfs.Rename(o.ctx, at, oldName, up, newName, flags)
}

// exchange is Rename with RENAME_EXCHANGE.
func (n *node) exchange(from, to *node, fromDir, toDir *vfs.Inode, oldName, newName string, old *vfs.Inode) error {
	other, err := to.moving(newName)
	if err != nil {
		return err
	}
	for _, x := range [...]struct {
		i    *vfs.Inode
		dir  *node
		name string
	}{{old, to, newName}, {other, from, oldName}} {
		if e, err := x.dir.find(x.name); err != nil {
			return err
		} else if x.i.IsDir() && e.below {
			if err := n.o.setOpaque(nodeOf(x.i).real()); err != nil {
				return err
			}
		}
	}
	if err := vfs.Rename(n.o.ctx, *from.upper.Load(), oldName, *to.upper.Load(), newName, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	nodeOf(old).moved(to, newName)
	nodeOf(other).moved(from, oldName)
	for _, i := range []*vfs.Inode{old, other} {
		nodeOf(i).refresh(i)
	}
	from.changed(fromDir)
	to.changed(toDir)
	return nil
}
