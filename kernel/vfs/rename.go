package vfs

import (
	"sync"

	"golang.org/x/sys/unix"
)

// A renaming is one rename(2) under way, with FS.rename and the locks of both directories held.
type renaming struct {
	ctx              *Context
	from, to         Path   // directories
	oldName, newName string // in them
	oldSlash         bool   // a slash stood behind oldName: it must be a directory
	newSlash         bool
	flags            uint
	old, victim      *Dentry
}

// Rename is renameat2(2). flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT.
func Rename(ctx *Context, oldAt Path, oldPath string, newAt Path, newPath string, flags uint) error {
	const known = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE | unix.RENAME_WHITEOUT
	if flags&^known != 0 || flags&unix.RENAME_EXCHANGE != 0 && flags != unix.RENAME_EXCHANGE {
		return unix.EINVAL
	}
	if flags&unix.RENAME_WHITEOUT != 0 && !ctx.Cred.Capable(unix.CAP_MKNOD) {
		return unix.EPERM
	}
	w1, from, oldName, err := lookupParent(ctx, oldAt, oldPath)
	if err != nil {
		return err
	}
	w2, to, newName, err := lookupParent(ctx, newAt, newPath)
	switch {
	case err != nil:
		return err
	case from.Mount != to.Mount:
		return unix.EXDEV
	case special(oldName):
		return unix.EBUSY
	case special(newName) && flags&unix.RENAME_NOREPLACE != 0:
		return unix.EEXIST
	case special(newName):
		return unix.EBUSY
	}
	if from.Dentry.fixed() || to.Dentry.fixed() {
		return readonlyError(ctx, from.Dentry, oldName)
	}
	r := renaming{ctx: ctx, from: from, to: to, oldName: oldName, newName: newName, oldSlash: w1.slash, newSlash: w2.slash, flags: flags}
	fs := from.Mount.FS
	fs.rename.Lock()
	defer fs.rename.Unlock()
	unlock := lockBoth(from.Dentry, to.Dentry)
	if from.Dentry.names != nil {
		err = r.runCached()
	} else {
		err = r.run()
	}
	unlock()
	return err
}

// fixed reports whether d is in a file system whose names nobody can change.
func (d *Dentry) fixed() bool { return d.dir == nil && d.names == nil }

// changing returns the lock that is held for writing while the names in the directory d change.
func (d *Dentry) changing() *sync.RWMutex {
	if d.names != nil {
		return &d.names.mu
	}
	return &d.dir.mu
}

// deadLocked reports whether the directory d takes no more entries.
func (d *Dentry) deadLocked() bool {
	if d.names != nil {
		return d.names.dead
	}
	return d.dir.dead
}

func special(name string) bool { return name == "" || name == "." || name == ".." }

// lockBoth locks two directories, the upper one first.
//
// +checklocksignore
func lockBoth(a, b *Dentry) (unlock func()) {
	if a == b {
		a.changing().Lock()
		return a.changing().Unlock
	}
	if a.within(b) {
		a, b = b, a
	}
	a.changing().Lock()
	b.changing().Lock()
	return func() {
		b.changing().Unlock()
		a.changing().Unlock()
	}
}

func (r *renaming) run() error {
	from, to := r.from.Dentry, r.to.Dentry
	r.old, r.victim = from.dir.children[r.oldName], to.dir.children[r.newName]
	if nothing, err := r.check(); nothing || err != nil {
		return err
	}
	if r.flags&unix.RENAME_EXCHANGE != 0 {
		r.exchange()
		return nil
	}
	return r.move()
}

// check says whether the renaming can and may be, and whether it changes nothing.
func (r *renaming) check() (nothing bool, err error) {
	from, to := r.from.Dentry, r.to.Dentry
	exchange := r.flags&unix.RENAME_EXCHANGE != 0
	switch {
	case r.old == nil || to.deadLocked() || exchange && r.victim == nil:
		return false, unix.ENOENT
	case r.victim != nil && r.flags&unix.RENAME_NOREPLACE != 0:
		return false, unix.EEXIST
	case r.notDir(exchange):
		return false, unix.ENOTDIR
	case to.within(r.old):
		return false, unix.EINVAL // into itself
	case r.victim != nil && from.within(r.victim) && exchange:
		return false, unix.EINVAL
	case r.victim != nil && from.within(r.victim):
		return false, unix.ENOTEMPTY
	}
	if r.victim != nil && r.victim.inode == r.old.inode {
		return true, nil // two names of one file: nothing happens (rename(2))
	}
	return false, r.allowed()
}

// notDir reports whether a slash stands behind the name of what is no directory.
func (r *renaming) notDir(exchange bool) bool {
	if exchange && r.newSlash && !r.victim.inode.IsDir() {
		return true
	}
	return !r.old.inode.IsDir() && (r.oldSlash || r.newSlash && !exchange)
}

// allowed checks the rights, and that a directory replaces a directory only:
// EACCES, EPERM, EROFS, ENOTDIR, EISDIR, EBUSY.
func (r *renaming) allowed() error {
	if err := r.mayTake(r.from, r.old); err != nil {
		return err
	}
	if err := r.mayTake(r.to, r.victim); err != nil {
		return err
	}
	isDir := r.old.inode.IsDir()
	if v := r.victim; v != nil && r.flags&unix.RENAME_EXCHANGE == 0 && v.inode.IsDir() != isDir {
		if isDir {
			return unix.ENOTDIR
		}
		return unix.EISDIR
	}
	if r.from.Dentry != r.to.Dentry {
		if err := r.mayMove(r.old); err != nil {
			return err
		}
		if r.flags&unix.RENAME_EXCHANGE != 0 {
			if err := r.mayMove(r.victim); err != nil {
				return err
			}
		}
	}
	if r.old.mounts.Load() != 0 || r.victim != nil && r.victim.mounts.Load() != 0 {
		return unix.EBUSY
	}
	return nil
}

// mayTake checks that dir may lose entry d, or if that is nil gain one.
func (r *renaming) mayTake(dir Path, d *Dentry) error {
	if err := mayChange(r.ctx, dir); err != nil {
		return err
	}
	i := dir.Inode()
	if d == nil {
		return i.ops.MayChange(i)
	}
	return mayRemove(r.ctx.Cred, i, d.inode)
}

// mayMove checks that d may change its directory, which changes what .. is in it.
func (r *renaming) mayMove(d *Dentry) error {
	if !d.inode.IsDir() {
		return nil
	}
	return d.inode.Access(r.ctx.Cred, MayWrite)
}

// move gives old its new place, where victim goes if there is one: ENOTEMPTY, EBUSY.
func (r *renaming) move() error {
	isDir := r.old.inode.IsDir()
	var whiteout *Inode
	if r.flags&unix.RENAME_WHITEOUT != 0 {
		n := NewNode{Mode: unix.S_IFCHR, UID: r.ctx.Cred.FSUID, GID: r.ctx.Cred.FSGID}
		var err error
		if whiteout, err = r.from.Inode().ops.Create(r.from.Inode(), r.oldName, &n); err != nil {
			return err
		}
	}
	if v := r.victim; v != nil {
		if isDir {
			if err := v.kill(); err != nil {
				if whiteout != nil {
					whiteout.unlinked(1)
				}
				return err
			}
			r.to.Inode().nlink.Add(^uint32(0))
		}
		r.to.Dentry.dir.remove(v)
		v.gone.Store(true)
	}
	r.from.Dentry.dir.remove(r.old)
	r.place(r.old, r.to.Dentry, r.newName)
	if whiteout != nil {
		r.from.Dentry.dir.insert(newDentry(r.from.Dentry, r.oldName, whiteout))
	}
	if isDir {
		r.from.Inode().nlink.Add(^uint32(0))
		r.to.Inode().nlink.Add(1)
	}
	r.stamp()
	moved(r.from.Dentry, r.to.Dentry, r.oldName, r.newName, r.old.inode, r.victim)
	if v := r.victim; v != nil {
		links := uint32(1)
		if isDir {
			links = 2
		}
		v.inode.unlinked(links)
	}
	return nil
}

// place enters d, which is in no directory, into dir.
func (r *renaming) place(d, dir *Dentry, name string) {
	d.name = name
	d.parent.Store(dir)
	dir.dir.insert(d)
}

func (r *renaming) exchange() {
	a, b := r.old, r.victim
	r.from.Dentry.dir.remove(a)
	r.to.Dentry.dir.remove(b)
	r.place(a, r.to.Dentry, r.newName)
	r.place(b, r.from.Dentry, r.oldName)
	if a.inode.IsDir() != b.inode.IsDir() {
		gains, loses := r.to.Inode(), r.from.Inode()
		if b.inode.IsDir() {
			gains, loses = loses, gains
		}
		gains.nlink.Add(1)
		loses.nlink.Add(^uint32(0))
	}
	b.inode.touchAttr()
	r.stamp()
	moved(r.from.Dentry, r.to.Dentry, r.oldName, r.newName, a.inode, nil)
	moved(r.to.Dentry, r.from.Dentry, r.newName, r.oldName, b.inode, nil)
}

func (r *renaming) stamp() {
	r.old.inode.touchAttr()
	r.from.Inode().touch()
	r.to.Inode().touch()
}
