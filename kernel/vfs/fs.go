package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
)

// FSOps is what the driver of a file system does for a whole instance.
type FSOps interface {
	// Statfs fills in what statfs(2) tells; Fsid, Namelen and Flags are set already.
	Statfs(s *unix.Statfs_t)
	// Sync writes everything to where it is kept.
	Sync() error
	// Unmounted is called when the last mount is gone and no file is open.
	Unmounted()
}

// An FS is one instance of a file system, Linux's super_block.
type FS struct {
	// Type is its name in /proc/filesystems.
	Type string
	// Dev is the device number that stat(2) reports.
	Dev uint64
	// Resident says that the dentries are the file system: a name that has
	// none does not exist, and nothing needs to be asked.
	Resident bool
	// Cached says that names, once found, are kept as dentries; directories that can be changed have NameOps. Without
	// Resident and Cached, the file system is asked for each name each time.
	Cached bool
	// Options are the mount options that /proc/mounts shows.
	Options string
	// MaxXattrs is the most bytes that extended attributes kept in memory may take; 0: no limit.
	MaxXattrs int64
	// Keep is how many dentries a Cached file system keeps that nobody uses, 0 for the default.
	Keep int
	// ReadOnly says that nothing here can be changed, whatever a mount says.
	ReadOnly bool
	// Bindable says that files of a mount that is in no tree may be bound to places.
	Bindable bool
	// Revealing says that it tells of the kernel, whoever mounts it: see mayReveal.
	Revealing bool
	// Owner is the user namespace of who mounted it: device files on it mean nothing, and set-user-ID nothing outside, unless that is the initial one.
	Owner *namespace.User
	// NoAtime says that times of access are not stamped here.
	NoAtime bool

	kept    keeper
	anchors anchors
	handles handles
	xattrs  atomic.Int64 // bytes that extended attributes take
	ops     FSOps
	now     func() int64
	root    *Dentry
	ino     atomic.Uint64
	mounts  atomic.Int32
	// readOnly is MS_RDONLY while the file system was mounted or remounted read-only, which holds for all mounts of it; else 0.
	readOnly atomic.Uint64
	writers  atomic.Int32 // open regular files that can be written
	changing sync.Mutex   // held while options and readOnly change

	// rename serialises renames, and keeps names and parents as they are for
	// those who hold it for reading.
	rename sync.RWMutex
}

var lastDev atomic.Uint32

// NewFS returns an instance without a root. now tells the wall clock in ns.
func NewFS(typ string, ops FSOps, now func() int64) *FS {
	return &FS{Type: typ, Dev: unix.Mkdev(0, lastDev.Add(1)), ops: ops, now: now}
}

// SetRoot makes dir the root directory, once.
func (fs *FS) SetRoot(dir *Inode) { fs.root = newDentry(nil, "", dir) }

// letGo lets go of the inodes when nobody uses the file system any more. Clean-ups that the collector calls for an inode may reach the
// file system, and would keep it, and so the inode, for ever.
func (fs *FS) letGo() {
	fs.DropNames()
	fs.root = nil
}

// Root returns the root directory.
func (fs *FS) Root() *Dentry { return fs.root }

// Ops returns the driver's part.
func (fs *FS) Ops() FSOps { return fs.ops }

// Now returns the time for time stamps, in ns since 1970.
func (fs *FS) Now() int64 { return fs.now() }

// Sync writes everything to where it is kept.
func (fs *FS) Sync() error { return fs.ops.Sync() }

// EvictAll gives up every inode below the root; for Resident file systems that were unmounted.
func (fs *FS) EvictAll() { fs.root.evictAll() }

func (d *Dentry) evictAll() {
	if d.dir != nil {
		d.dir.mu.Lock()
		list := d.dir.order
		d.dir.children, d.dir.order, d.dir.dead = nil, nil, true
		d.dir.mu.Unlock()
		for _, e := range list {
			if e.dentry != nil {
				e.dentry.evictAll()
			}
		}
	}
	if n := d.inode.nlink.Swap(0); n != 0 {
		if c, ok := d.inode.ops.(NameCounter); ok && !d.inode.IsDir() && n > 1 {
			_ = c.CountName(1 - int(n)) // giving up is never refused
		}
		d.inode.evict()
	}
}
