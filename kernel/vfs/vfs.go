// Package vfs is the tree of files that programs see: names, permissions,
// mounts, open files and descriptor tables. What lies behind a name comes from
// the packages below fs/ and from those that make pipes, sockets and devices.
//
// A Dentry is a name in a directory, an Inode the file it stands for, a Mount
// an FS (or a part of one) placed somewhere, a Path a Dentry seen through a
// Mount, and a File an open file description. Dentries and paths need no reference
// counts; the garbage collector ends them. A File is counted, because its last
// close does something, and an Inode counts its open files, because its pages
// go back to the pool when it has neither names nor users.
//
// Names come from one of three kinds of file system: a Resident one is its dentries, of a Cached one the dentries are
// what was found so far, and the others are asked for each name each time.
//
// Nothing here blocks, but for disks and servers that a Cached file system asks: what would have to wait returns EAGAIN, and File.Register
// tells when to try again. All errors are unix.Errno values.
//
// Lock order, outermost first:
//
//	File.mu (position)
//	FS.rename, Namespace.mu
//	dirState.mu, nameCache.mu (a parent before its child)
//	a Cached file system's own, as far as NameOps and Lookup take them
//	Inode.mu (contents and attributes; user memory may be copied under it)
//	mm's locks, then the page cache's
//	lockTable.mu, FDTable.mu, nameCache.look, keeper.mu, InodeTable.mu (leaves)
//
// File.DecRef takes none of the locks above Inode.mu for files of page caches, so
// mm may call it with its own lock held; for other files it may not.
//
// It follows path_resolution(7), open(2), inode(7), mount_namespaces(7) and the
// Linux 6.1 sources' documentation (Documentation/filesystems/path-lookup.rst).
package vfs

import (
	"gosv/kernel/cred"
)

// Limits of names and paths (include/uapi/linux/limits.h).
const (
	NameMax  = 255
	PathMax  = 4096
	maxLinks = 40 // MAXSYMLINKS
)

// A Context is a task's view of the tree during one call.
type Context struct {
	Root, Cwd Path
	Cred      *cred.Cred
	Umask     uint32
	// PID and TID are the caller's, for /proc/self and locks.
	PID, TID int32
}

// A Path is a place in the tree. The zero Path means the current directory
// where a call takes one as the start of a relative path.
type Path struct {
	Mount  *Mount
	Dentry *Dentry
}

// Inode returns the file at p.
func (p Path) Inode() *Inode { return p.Dentry.inode }

// Valid reports whether p is a place at all.
func (p Path) Valid() bool { return p.Dentry != nil }

func (c *Context) start(at Path) Path {
	if at.Dentry == nil {
		return c.Cwd
	}
	return at
}
