package vfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
)

// Bits of Attr.Valid.
const (
	AttrMode = 1 << iota
	AttrUID
	AttrGID
	AttrSize
	AttrAtime
	AttrMtime
	AttrCtime
	AttrAtimeNow // with AttrAtime: the time is now
	AttrMtimeNow // with AttrMtime
)

// Attr are attributes that are to be changed: those that Valid names.
type Attr struct {
	Valid               uint32
	Mode, UID, GID      uint32 // Mode: permission bits
	Size                int64  // bytes
	Atime, Mtime, Ctime int64  // ns since 1970
}

// Apply stores the change in the inode's fields, but for the size.
func (a *Attr) Apply(i *Inode) {
	if a.Valid&AttrMode != 0 {
		i.mode.Store(i.mode.Load()&unix.S_IFMT | a.Mode&0o7777)
	}
	if a.Valid&AttrUID != 0 {
		i.uid.Store(a.UID)
	}
	if a.Valid&AttrGID != 0 {
		i.gid.Store(a.GID)
	}
	if a.Valid&AttrAtime != 0 {
		i.atime.Store(a.Atime)
	}
	if a.Valid&AttrMtime != 0 {
		i.mtime.Store(a.Mtime)
	}
	if a.Valid&AttrCtime != 0 {
		i.ctime.Store(a.Ctime)
	}
}

// Refresher is the InodeOps of files whose attributes change without a call to this package.
type Refresher interface {
	// Refresh brings what Stat shows up to date.
	Refresh(i *Inode) error
}

// AttrOps is the InodeOps of files whose attributes are kept on a disk or by a server. It may block.
type AttrOps interface {
	Refresher
	// SetAttr stores a change that the caller may make, with the size the contents too, and Applies it or
	// what became of it. The inode is locked.
	SetAttr(c *cred.Cred, i *Inode, a *Attr) error
	// Space returns the size in bytes and the space taken in units of 512 bytes.
	Space(i *Inode) (size, blocks int64)
}

// XattrOps is the InodeOps of files whose extended attributes are kept on a disk or by a server. The
// rights have been checked. Errors are those of getxattr(2) and its like; a value or list may be changed by the caller.
type XattrOps interface {
	Getxattr(i *Inode, name string) ([]byte, error)
	Setxattr(i *Inode, name string, value []byte, flags int) error
	Removexattr(i *Inode, name string) error
	// Listxattr returns the names, each with a NUL behind it.
	Listxattr(i *Inode) ([]byte, error)
}

// Refresh brings what Stat shows up to date, where others may change it.
func (i *Inode) Refresh() error {
	if o, ok := i.ops.(Refresher); ok {
		return o.Refresh(i)
	}
	return nil
}

// setAttr makes a change; i.mu is held.
//
// +checklocks:i.mu
func (i *Inode) setAttr(c *cred.Cred, a *Attr) error {
	if o, ok := i.ops.(AttrOps); ok {
		return o.SetAttr(c, i, a)
	}
	a.Apply(i)
	return nil
}

// Change makes a change of attributes or size, no rights checked; for file systems that lie over others. c decides about what
// a change of the contents takes away (set-user-ID).
func (i *Inode) Change(c *cred.Cred, a *Attr) error {
	if a.Valid&AttrSize != 0 {
		if err := i.truncate(c, a.Size); err != nil {
			return err
		}
		rest := *a
		rest.Valid &^= AttrSize
		a = &rest
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.setAttr(c, a)
}
