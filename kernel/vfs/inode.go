package vfs

import (
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
)

// Dirent is one entry of a directory listing.
type Dirent struct {
	Name string
	Ino  uint64
	// Mode holds the type bits.
	Mode uint32
	// Next is the offset behind the entry: larger than that of all before it, at least 3.
	Next int64
}

// NewNode says what Create is to make.
type NewNode struct {
	Mode     uint32 // type and permission bits
	UID, GID uint32
	Rdev     uint64
	Target   string // of a symbolic link
	// Flags are the O_ flags that the file is going to be opened with at once, if Opens.
	Flags int
	Opens bool
}

// InodeOps is what a file system does for its inodes. InodeDefaults is to be embedded.
type InodeOps interface {
	// Lookup returns the inode that name stands for in dir, or ENOENT. It is not
	// asked in Resident file systems, and its answer is kept in Cached ones only.
	Lookup(ctx *Context, dir *Dentry, name string) (*Inode, error)
	// Readdir calls emit for the entries behind offset off until it returns
	// false. It is not asked in Resident file systems; . and .. are not its business.
	Readdir(ctx *Context, dir *Dentry, off int64, emit func(Dirent) bool) error
	// Create makes a file; name is unused and stays so until it returns. An empty name
	// asks for a file without one (O_TMPFILE).
	Create(dir *Inode, name string, n *NewNode) (*Inode, error)
	// MayChange is asked before dir's entries change by link, unlink, rename.
	MayChange(dir *Inode) error
	// MaySetAttr is asked before mode, owner, times or size change, flags apart (FlagOps).
	MaySetAttr(i *Inode) error
	// Readlink returns the target of a symbolic link.
	Readlink(ctx *Context, i *Inode) (string, error)
	// Follow returns the place that a magic link (/proc/PID/fd/N) leads to;
	// an invalid Path means that i is an ordinary link.
	Follow(ctx *Context, i *Inode) (Path, error)
	// Open returns the operations of a new open file; nil means those of the file's type.
	Open(ctx *Context, f *File) (FileOps, error)
	// Evict is called when the last name and the last user are gone.
	Evict(i *Inode)
}

// InodeDefaults is the InodeOps of a file system that nobody can change.
type InodeDefaults struct{}

// Lookup finds nothing.
func (*InodeDefaults) Lookup(*Context, *Dentry, string) (*Inode, error) { return nil, unix.ENOENT }

// Readdir lists nothing.
func (*InodeDefaults) Readdir(*Context, *Dentry, int64, func(Dirent) bool) error { return nil }

// Create is refused.
func (*InodeDefaults) Create(*Inode, string, *NewNode) (*Inode, error) { return nil, unix.EPERM }

// MayChange says no.
func (*InodeDefaults) MayChange(*Inode) error { return unix.EPERM }

// MaySetAttr says no.
func (*InodeDefaults) MaySetAttr(*Inode) error { return unix.EPERM }

// Readlink returns the target given at creation.
func (*InodeDefaults) Readlink(_ *Context, i *Inode) (string, error) { return i.target, nil }

// Follow leads nowhere.
func (*InodeDefaults) Follow(*Context, *Inode) (Path, error) { return Path{}, nil }

// Open leaves it to the type.
func (*InodeDefaults) Open(*Context, *File) (FileOps, error) { return nil, nil }

// Evict frees the pages.
func (*InodeDefaults) Evict(i *Inode) {
	if i.cache != nil {
		i.cache.Release()
	}
}

// An Inode is a file, whatever its type.
type Inode struct {
	Ino  uint64
	Rdev uint64

	fs     *FS
	ops    InodeOps
	cache  *mem.Cache // of a regular file
	target string     // of a symbolic link
	// Private belongs to the file system, or to the pipe of a FIFO and the socket of a
	// socket; guarded by mu.
	Private any

	// The attributes are changed with mu held, and may be read without.
	mode, uid, gid, nlink      atomic.Uint32
	atime, mtime, ctime, btime atomic.Int64
	mu                         sync.Mutex
	users                      atomic.Int32 // open files; negative once evicted
	writers                    atomic.Int32 // files open for writing; negative: programs being executed
	rare                       atomic.Pointer[rare]
	seals                      atomic.Uint32
	flags                      atomic.Uint32 // that are enforced: see SetFlags
	linkable                   atomic.Bool   // made without a name, to be given one (O_TMPFILE)
}

// rare is what few inodes have.
type rare struct {
	mu     sync.Mutex
	xattrs map[string][]byte // guarded by mu
	// watchers is replaced, never changed; guarded by mu.
	watchers []InodeWatcher
	locks    lockTable
}

func (i *Inode) getRare() *rare {
	if r := i.rare.Load(); r != nil {
		return r
	}
	i.rare.CompareAndSwap(nil, new(rare))
	return i.rare.Load()
}

// NewInode returns an inode with one link (a directory: two) and the next free number.
// cache may be nil; it is needed for a regular file whose contents are pages.
func (fs *FS) NewInode(ops InodeOps, n *NewNode, cache *mem.Cache) *Inode {
	i := &Inode{Ino: fs.ino.Add(1), Rdev: n.Rdev, fs: fs, ops: ops, cache: cache, target: n.Target}
	i.mode.Store(n.Mode)
	i.uid.Store(n.UID)
	i.gid.Store(n.GID)
	i.nlink.Store(1)
	if i.IsDir() {
		i.nlink.Store(2)
	}
	now := fs.now()
	i.atime.Store(now)
	i.mtime.Store(now)
	i.ctime.Store(now)
	i.btime.Store(now)
	return i
}

// FS returns the file system that i belongs to.
func (i *Inode) FS() *FS { return i.fs }

// Ops returns the file system's part.
func (i *Inode) Ops() InodeOps { return i.ops }

// Cache returns the page cache, nil when there is none.
func (i *Inode) Cache() *mem.Cache { return i.cache }

// Target returns the target given to NewInode.
func (i *Inode) Target() string { return i.target }

// Mode returns type and permission bits.
func (i *Inode) Mode() uint32 { return i.mode.Load() }

// UID returns the owner.
func (i *Inode) UID() uint32 { return i.uid.Load() }

// GID returns the group.
func (i *Inode) GID() uint32 { return i.gid.Load() }

// Nlink returns the number of links.
func (i *Inode) Nlink() uint32 { return i.nlink.Load() }

// Type returns the type bits of the mode.
func (i *Inode) Type() uint32 { return i.mode.Load() & unix.S_IFMT }

// IsDir reports whether i is a directory.
func (i *Inode) IsDir() bool { return i.Type() == unix.S_IFDIR }

// Lock locks the contents and attributes, for the owner of Private.
//
// +checklocksacquire:i.mu
func (i *Inode) Lock() { i.mu.Lock() }

// Unlock ends Lock.
//
// +checklocksrelease:i.mu
func (i *Inode) Unlock() { i.mu.Unlock() }

// Size returns the size in bytes, as stat(2) shows it.
func (i *Inode) Size() int64 {
	if i.cache != nil {
		return i.cache.Size()
	}
	if o, ok := i.ops.(AttrOps); ok {
		size, _ := o.Space(i)
		return size
	}
	return int64(len(i.target))
}

// SetTimes sets the time stamps that are not negative, in ns; for file systems that restore them.
func (i *Inode) SetTimes(atime, mtime, ctime int64) {
	for _, t := range [...]struct {
		at *atomic.Int64
		ns int64
	}{{&i.atime, atime}, {&i.mtime, mtime}, {&i.ctime, ctime}} {
		if t.ns >= 0 {
			t.at.Store(t.ns)
		}
	}
}

// Times returns the time stamps in ns.
func (i *Inode) Times() (atime, mtime, ctime int64) {
	return i.atime.Load(), i.mtime.Load(), i.ctime.Load()
}

// RestoreTimes sets all time stamps, of which any may be negative, as the file system has them on record.
func (i *Inode) RestoreTimes(atime, mtime, ctime, btime int64) {
	i.atime.Store(atime)
	i.mtime.Store(mtime)
	i.ctime.Store(ctime)
	i.btime.Store(btime)
}

// SetAttr sets permission bits and owner, no rights checked; for file systems and those that build trees.
func (i *Inode) SetAttr(mode, uid, gid uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mode.Store(i.mode.Load()&unix.S_IFMT | mode&0o7777)
	i.uid.Store(uid)
	i.gid.Store(gid)
	i.touchAttr()
}

// Restore sets what the file system has on record; the type bits of mode must stay what they are.
func (i *Inode) Restore(mode, uid, gid, nlink uint32) {
	i.mode.Store(mode)
	i.uid.Store(uid)
	i.gid.Store(gid)
	i.nlink.Store(nlink)
}

// SetNlink sets the number of links; for file systems.
func (i *Inode) SetNlink(n uint32) { i.nlink.Store(n) }

// touch stamps a change of the contents (mtime and ctime).
func (i *Inode) touch() {
	now := i.fs.now()
	i.mtime.Store(now)
	i.ctime.Store(now)
}

// touchAttr stamps a change of attributes (ctime).
func (i *Inode) touchAttr() { i.ctime.Store(i.fs.now()) }

const day = 24 * 3600 * 1_000_000_000

// accessed stamps a read, by the rules of relatime (mount(8)).
func (i *Inode) accessed(m *Mount) {
	flags := m.flags.Load()
	if i.fs.NoAtime || flags&(unix.MS_NOATIME|unix.MS_RDONLY) != 0 || i.HasFlags(FlagNoatime) {
		return
	}
	a := i.atime.Load()
	now := i.fs.now()
	if flags&unix.MS_STRICTATIME != 0 || a <= i.mtime.Load() || a <= i.ctime.Load() || now-a >= day {
		i.atime.Store(now)
	}
}

const evicted = math.MinInt32 / 2

// hold counts a user; false when the inode is evicted.
func (i *Inode) hold() bool {
	if i.users.Add(1) > 0 {
		return true
	}
	i.users.Add(-1)
	return false
}

// holdOpen is hold for an open file. A directory that was removed can still be opened by those who are in it.
func (i *Inode) holdOpen() bool {
	if i.hold() {
		return true
	}
	if i.IsDir() {
		i.users.Add(1)
		return true
	}
	return false
}

// drop ends a hold.
func (i *Inode) drop() {
	if i.users.Add(-1) == 0 && i.nlink.Load() == 0 {
		i.evict()
	}
}

// evict gives up an inode without names and users.
func (i *Inode) evict() {
	if i.users.CompareAndSwap(0, evicted) {
		if watched.Load() != 0 {
			i.tell(unix.IN_DELETE_SELF|i.dirFlag(), 0, "")
		}
		i.dropXattrs()
		i.ops.Evict(i)
	}
}

// unlinked takes n links away; the caller holds the directory's lock.
func (i *Inode) unlinked(n uint32) {
	i.touchAttr()
	left := i.nlink.Add(-n)
	if left == 0 && i.users.Load() == 0 {
		i.evict()
	} else if c, ok := i.ops.(NameCounter); ok && left != 0 && !i.IsDir() {
		_ = c.CountName(-1) // giving up is never refused
	}
}

// A NameCounter is InodeOps of a Resident file system that bounds how many names its files have.
type NameCounter interface {
	// CountName is told of by names more, or less, for a file that has one: ENOSPC.
	CountName(by int) error
}

// linked gives a file a name more: ENOSPC. The caller holds the lock of the directory, and has or holds a name of it.
func (i *Inode) linked() error {
	if i.nlink.Add(1) == 1 {
		return nil
	}
	c, ok := i.ops.(NameCounter)
	if !ok {
		return nil
	}
	err := c.CountName(1)
	if err != nil {
		i.nlink.Add(^uint32(0))
	}
	return err
}

// getWrite counts a writer; ETXTBSY while the file is executed.
func (i *Inode) getWrite() error {
	for {
		n := i.writers.Load()
		if n < 0 {
			return unix.ETXTBSY
		}
		if i.writers.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// Rights to a file, the bits of access(2).
const (
	MayExec  = 1
	MayWrite = 2
	MayRead  = 4
)

// Access checks rights to i by mode, owner and capabilities (path_resolution(7)): EACCES; EPERM for writing to an immutable file.
func (i *Inode) Access(c *cred.Cred, want uint32) error {
	if want&MayWrite != 0 && i.HasFlags(FlagImmutable) {
		return unix.EPERM
	}
	mode := i.mode.Load()
	perm := mode
	switch {
	case c.FSUID == i.uid.Load():
		perm >>= 6
	case c.InGroup(i.gid.Load()):
		perm >>= 3
	}
	if perm&want == want {
		return nil
	}
	return i.override(c, mode, want)
}

// A Permitter lets callers in whom its mode refuses.
type Permitter interface {
	Permit(ctx *Context) bool
}

// permits checks ctx's rights to i: EACCES.
func (i *Inode) permits(ctx *Context, want uint32) error {
	err := i.Access(ctx.Cred, want)
	if err == nil {
		return nil
	}
	if p, ok := i.Ops().(Permitter); ok && p.Permit(ctx) {
		return nil
	}
	return err
}

// capable reports whether a capability counts for i (Linux's capable_wrt_inode_uidgid).
func (i *Inode) capable(c *cred.Cred, capability int) bool {
	return c.CapableOver(i.uid.Load(), i.gid.Load(), capability)
}

// override lets capabilities decide where the mode says no.
func (i *Inode) override(c *cred.Cred, mode, want uint32) error {
	dir := mode&unix.S_IFMT == unix.S_IFDIR
	if i.capable(c, unix.CAP_DAC_OVERRIDE) && (dir || want&MayExec == 0 || mode&0o111 != 0) {
		return nil
	}
	if i.capable(c, unix.CAP_DAC_READ_SEARCH) && (want == MayRead || dir && want&MayWrite == 0) {
		return nil
	}
	return unix.EACCES
}

// owns reports whether c may do what only the owner may.
func (i *Inode) owns(c *cred.Cred) bool {
	return c.FSUID == i.uid.Load() || c.CapableOverUser(i.uid.Load(), unix.CAP_FOWNER)
}
