package vfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
)

// mayChange checks that entries of dir may be made and removed: EACCES, EROFS.
func mayChange(ctx *Context, dir Path) error {
	if err := dir.Inode().Access(ctx.Cred, MayWrite|MayExec); err != nil {
		return err
	}
	if dir.Mount.Flags()&unix.MS_RDONLY != 0 {
		return unix.EROFS
	}
	return nil
}

// mayCreate is mayChange for a new entry.
func mayCreate(ctx *Context, dir Path) error {
	if dir.Dentry.gone.Load() {
		return unix.ENOENT
	}
	return mayChange(ctx, dir)
}

// inherit fills in the owner of a new file, with what set-group-ID of the directory does (inode(7)).
func inherit(c *cred.Cred, dir *Inode, n *NewNode) {
	n.UID, n.GID = c.FSUID, c.FSGID
	if dir.mode.Load()&unix.S_ISGID == 0 {
		return
	}
	n.GID = dir.gid.Load()
	switch {
	case n.Mode&unix.S_IFMT == unix.S_IFDIR:
		n.Mode |= unix.S_ISGID
	case n.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP && !c.InGroup(n.GID) && !dir.capable(c, unix.CAP_FSETID):
		n.Mode &^= unix.S_ISGID
	}
}

// create makes a new file with a name: EEXIST, EACCES, EROFS, ENOENT, ENOSPC.
func create(ctx *Context, dir Path, name string, n *NewNode) (*Dentry, error) {
	d := dir.Dentry
	if d.fixed() {
		return nil, unix.EACCES // directories that ask for each name cannot be added to
	}
	if err := mayCreate(ctx, dir); err != nil {
		return nil, err
	}
	inherit(ctx.Cred, d.inode, n)
	c, err := d.Make(name, n)
	if err == nil && watched.Load() != 0 {
		d.inode.tell(unix.IN_CREATE|c.inode.dirFlag(), 0, name)
	}
	return c, err
}

// lookupNew finds where a new file is to go: EEXIST, ENOENT.
func lookupNew(ctx *Context, at Path, path string, isDir bool) (Path, string, error) {
	w, dir, last, err := lookupParent(ctx, at, path)
	switch {
	case err != nil:
		return dir, "", err
	case special(last):
		return dir, "", unix.EEXIST
	}
	switch _, err := dir.Dentry.lookup(ctx, last); {
	case err == nil:
		return dir, "", unix.EEXIST
	case err != unix.ENOENT:
		return dir, "", err
	case w.slash && !isDir:
		return dir, "", unix.ENOENT
	}
	return dir, last, nil
}

// Mkdir is mkdirat(2).
func Mkdir(ctx *Context, at Path, path string, mode uint32) error {
	dir, last, err := lookupNew(ctx, at, path, true)
	if err == nil {
		_, err = create(ctx, dir, last, &NewNode{Mode: unix.S_IFDIR | mode&0o1777&^ctx.Umask})
	}
	return err
}

// Mknod is mknodat(2); for a socket, private is what bind(2) puts into Inode.Private.
func Mknod(ctx *Context, at Path, path string, mode uint32, rdev uint64, private any) error {
	if mode&unix.S_IFMT == 0 {
		mode |= unix.S_IFREG
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
		rdev = 0
	case unix.S_IFCHR, unix.S_IFBLK:
	case unix.S_IFDIR:
		return unix.EPERM
	default:
		return unix.EINVAL
	}
	dir, last, err := lookupNew(ctx, at, path, false)
	if err != nil {
		return err
	}
	if t := mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
		if err := mayCreate(ctx, dir); err != nil {
			return err
		}
		if !ctx.Cred.Capable(unix.CAP_MKNOD) {
			return unix.EPERM
		}
	}
	d, err := create(ctx, dir, last, &NewNode{Mode: mode & (unix.S_IFMT | 0o7777) &^ ctx.Umask, Rdev: rdev})
	if err == nil && private != nil {
		d.inode.mu.Lock()
		d.inode.Private = private
		d.inode.mu.Unlock()
	}
	return err
}

// Symlink is symlinkat(2): ENOENT for an empty target.
func Symlink(ctx *Context, target string, at Path, path string) error {
	switch {
	case target == "":
		return unix.ENOENT
	case len(target) >= PathMax:
		return unix.ENAMETOOLONG
	}
	dir, last, err := lookupNew(ctx, at, path, false)
	if err == nil {
		_, err = create(ctx, dir, last, &NewNode{Mode: unix.S_IFLNK | 0o777, Target: target})
	}
	return err
}

// Link is linkat(2). flags: AT_SYMLINK_FOLLOW, AT_EMPTY_PATH.
func Link(ctx *Context, oldAt Path, oldPath string, newAt Path, newPath string, flags int) error {
	how := unix.AT_SYMLINK_NOFOLLOW
	if flags&unix.AT_SYMLINK_FOLLOW != 0 {
		how = 0
	}
	if flags&unix.AT_EMPTY_PATH != 0 && oldPath == "" && !ctx.Cred.Capable(unix.CAP_DAC_READ_SEARCH) {
		return unix.ENOENT
	}
	from, err := Lookup(ctx, oldAt, oldPath, how|flags&unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	dir, last, err := lookupNew(ctx, newAt, newPath, false)
	switch {
	case err != nil:
		return err
	case dir.Mount != from.Mount:
		return unix.EXDEV
	}
	if err := mayLink(ctx.Cred, from.Inode()); err != nil {
		return err
	}
	return link(ctx, dir, last, from.Inode())
}

// mayLink keeps users from making links to what others own (proc(5), protected_hardlinks): EPERM.
func mayLink(c *cred.Cred, i *Inode) error {
	if !ProtectHardlinks.Load() || i.owns(c) {
		return nil
	}
	mode := i.mode.Load()
	const setgid = unix.S_ISGID | unix.S_IXGRP
	if mode&unix.S_IFMT != unix.S_IFREG || mode&unix.S_ISUID != 0 || mode&setgid == setgid || i.Access(c, MayRead|MayWrite) != nil {
		return unix.EPERM
	}
	return nil
}

func link(ctx *Context, dir Path, name string, i *Inode) (err error) {
	d := dir.Dentry
	if d.fixed() {
		return unix.EPERM
	}
	if err := mayCreate(ctx, dir); err != nil {
		return err
	}
	if i.IsDir() {
		return unix.EPERM
	}
	if i.HasFlags(FlagImmutable | FlagAppend) {
		return unix.EPERM
	}
	if err := d.inode.ops.MayChange(d.inode); err != nil {
		return err
	}
	if !i.hold() {
		return unix.ENOENT
	}
	defer i.drop()
	if i.nlink.Load() == 0 && !i.linkable.Load() {
		return unix.ENOENT
	}
	defer func() {
		if err == nil {
			i.linkable.Store(false) // once
		}
	}()
	if d.names != nil {
		return d.linkCached(name, i)
	}
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	switch {
	case d.dir.dead:
		return unix.ENOENT
	case d.dir.children[name] != nil:
		return unix.EEXIST
	case i.nlink.Load() == 0 && !i.linkable.Load():
		return unix.ENOENT
	case i.nlink.Load() >= maxLink:
		return unix.EMLINK
	}
	if err := i.linked(); err != nil {
		return err
	}
	d.dir.insert(newDentry(d, name, i))
	i.touchAttr()
	d.inode.touch()
	if watched.Load() != 0 {
		i.tell(unix.IN_ATTRIB, 0, "")
		d.inode.tell(unix.IN_CREATE, 0, name)
	}
	return nil
}

const maxLink = 1 << 31

// mayRemove checks that the entry of dir that stands for i may go: sticky
// directories keep what others own, those that only grow everything (EPERM).
func mayRemove(c *cred.Cred, dir, i *Inode) error {
	if err := dir.ops.MayChange(dir); err != nil {
		return err
	}
	if dir.HasFlags(FlagAppend) || i.HasFlags(FlagImmutable|FlagAppend) {
		return unix.EPERM
	}
	if dir.mode.Load()&unix.S_ISVTX != 0 && c.FSUID != i.uid.Load() && c.FSUID != dir.uid.Load() && !i.capable(c, unix.CAP_FOWNER) {
		return unix.EPERM
	}
	return nil
}

// Unlink is unlinkat(2) without AT_REMOVEDIR.
func Unlink(ctx *Context, at Path, path string) error {
	w, dir, last, err := lookupParent(ctx, at, path)
	switch {
	case err != nil:
		return err
	case special(last):
		return unix.EISDIR
	}
	if w.slash {
		return slashError(ctx, dir.Dentry, last)
	}
	return remove(ctx, dir, last, false)
}

// mayRemoveFrom is mayChange, but a name that does not exist is ENOENT whatever the rights.
func mayRemoveFrom(ctx *Context, dir Path, name string) error {
	err := mayChange(ctx, dir)
	if err == nil {
		return nil
	}
	if _, missing := dir.Dentry.lookup(ctx, name); missing != nil {
		return missing
	}
	return err
}

// slashError is what unlink of a name with a slash behind it gives.
func slashError(ctx *Context, d *Dentry, name string) error {
	c, err := d.lookup(ctx, name)
	switch {
	case err != nil:
		return err
	case c.inode.IsDir():
		return unix.EISDIR
	}
	return unix.ENOTDIR
}

// readonlyError is what removing from a directory that nobody changes gives.
func readonlyError(ctx *Context, d *Dentry, name string) error {
	if _, err := d.lookup(ctx, name); err != nil {
		return err
	}
	return unix.EPERM
}

// Rmdir is unlinkat(2) with AT_REMOVEDIR.
func Rmdir(ctx *Context, at Path, path string) error {
	_, dir, last, err := lookupParent(ctx, at, path)
	switch {
	case err != nil:
		return err
	case last == "":
		return unix.EBUSY
	case last == ".":
		return unix.EINVAL
	case last == "..":
		return unix.ENOTEMPTY
	}
	return remove(ctx, dir, last, true)
}

// remove takes a name out of dir: a directory for rmdir, else anything else. EISDIR, ENOTDIR.
func remove(ctx *Context, dir Path, name string, rmdir bool) error {
	d := dir.Dentry
	if d.fixed() {
		return readonlyError(ctx, d, name)
	}
	if err := mayRemoveFrom(ctx, dir, name); err != nil {
		return err
	}
	if d.names != nil {
		return d.removeCached(ctx, name, rmdir)
	}
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	c := d.dir.children[name]
	if c == nil {
		return unix.ENOENT
	}
	if err := mayRemove(ctx.Cred, d.inode, c.inode); err != nil {
		return err
	}
	switch isDir := c.inode.IsDir(); {
	case rmdir && !isDir:
		return unix.ENOTDIR
	case rmdir:
		return d.dropDirLocked(c)
	case isDir:
		return unix.EISDIR
	}
	return d.dropFileLocked(c)
}

// kill marks an empty directory as removed, so that it takes no more entries and mounts:
// ENOTEMPTY, EBUSY. The parent's lock is held.
func (d *Dentry) kill() error {
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	switch {
	case d.mounts.Load() != 0:
		return unix.EBUSY
	case len(d.dir.children) != 0:
		return unix.ENOTEMPTY
	}
	d.dir.dead = true
	d.gone.Store(true)
	return nil
}
