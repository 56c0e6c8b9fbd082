package vfs

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
)

// Files without a name live on a mount that is in no namespace's tree: those
// of one kind share an inode (Linux's anon_inodefs), pipes and sockets have their own.

type anonOps struct{}

func (*anonOps) Statfs(s *unix.Statfs_t) { s.Type = unix.ANON_INODE_FS_MAGIC }
func (*anonOps) Sync() error             { return nil }
func (*anonOps) Unmounted()              {}

// anonInode keeps what Linux's anonymous files allow: nothing through their name.
type anonInode struct{ InodeDefaults }

func (*anonInode) MaySetAttr(*Inode) error { return nil }

func (*anonInode) Open(ctx *Context, f *File) (FileOps, error) {
	f.inode.mu.Lock()
	private := f.inode.Private
	f.inode.mu.Unlock()
	if r, ok := private.(Reopener); ok {
		return r.Reopen(f)
	}
	return nil, unix.ENXIO
}

// A Reopener in Inode.Private of a file without a name serves open(2) of /proc/PID/fd/N.
type Reopener interface {
	Reopen(f *File) (FileOps, error)
}

var anon = struct {
	once  sync.Once
	mount *Mount

	mu     sync.Mutex
	shared map[string]*Dentry // guarded by mu
}{shared: make(map[string]*Dentry)}

// anonClock tells the time for files without a name: that of the first namespace.
var anonClock atomic.Pointer[func() int64]

func anonNow() int64 {
	if now := anonClock.Load(); now != nil {
		return (*now)()
	}
	return 0
}

func anonMount() *Mount {
	anon.once.Do(func() {
		fs := NewFS("anon_inodefs", &anonOps{}, anonNow)
		fs.SetRoot(fs.NewInode(&anonInode{}, &NewNode{Mode: unix.S_IFDIR | 0o500}, nil))
		anon.mount = PseudoMount(fs)
	})
	return anon.mount
}

// PseudoMount returns a mount of fs that is in no tree: files on it show by the names of their dentries.
func PseudoMount(fs *FS) *Mount {
	m := newNamespace(fs, nil).first.root
	m.pseudo = true
	return m
}

// NewPseudo returns the dentry of a file on such a mount.
func NewPseudo(name string, i *Inode) *Dentry { return newDentry(nil, name, i) }

// OpenPlace opens what is at p.
func OpenPlace(ctx *Context, p Path, flags int) (*File, error) { return openAt(ctx, p, flags) }

// NewAnon returns an open file without a name that shows as "anon_inode:[name]".
// It has no position. flags: O_RDWR, O_NONBLOCK; O_CLOEXEC is for the descriptor.
func NewAnon(name string, ops FileOps, c *cred.Cred, flags int) *File {
	m := anonMount()
	anon.mu.Lock()
	d := anon.shared[name]
	if d == nil {
		d = newDentry(nil, "anon_inode:["+name+"]", m.FS.NewInode(&anonInode{}, &NewNode{Mode: 0o600}, nil))
		anon.shared[name] = d
	}
	anon.mu.Unlock()
	return openAnon(d, ops, c, flags)
}

// NewNameless returns a dentry for a file with its own inode that shows as "kind:[inode]":
// mode is its type (S_IFIFO, S_IFSOCK) and rights, now its time, private its Inode.Private.
func NewNameless(kind string, mode uint32, now int64, c *cred.Cred, private any) *Dentry {
	fs := anonMount().FS
	i := &Inode{Ino: fs.ino.Add(1), fs: fs, ops: &anonInode{}, Private: private}
	i.mode.Store(mode)
	i.uid.Store(c.FSUID)
	i.gid.Store(c.FSGID)
	i.nlink.Store(1)
	i.SetTimes(now, now, now)
	i.btime.Store(now)
	d := &Dentry{inode: i, name: kind}
	return d
}

// OpenNameless returns an open file of a dentry that NewNameless made. It has no position.
func OpenNameless(d *Dentry, ops FileOps, c *cred.Cred, flags int) *File {
	return openAnon(d, ops, c, flags)
}

func openAnon(d *Dentry, ops FileOps, c *cred.Cred, flags int) *File {
	d.inode.hold()
	f := newFile(Path{anonMount(), d}, c, flags)
	if f.kind&canWrite != 0 {
		d.inode.writers.Add(1)
	}
	f.kind |= stream
	f.ops = ops
	return f
}

// anonName returns the name of a file without a name, "" for others.
func (p Path) anonName() string {
	if !p.Mount.pseudo {
		return ""
	}
	if strings.HasSuffix(p.Dentry.name, "]") || p.Inode().cache != nil {
		return p.Dentry.name
	}
	return p.Dentry.name + ":[" + itoa(p.Inode().Ino) + "]"
}

// LinkName is what /proc/PID/fd/N and the like show for p to a task whose root is root.
func LinkName(p, root Path) string {
	if name := p.anonName(); name != "" {
		return name
	}
	name, err := PathName(p, root)
	if err != nil {
		name, err = PathName(p, root.Mount.Root0())
	}
	if err != nil { // detached, or memfd
		return "/" + p.Dentry.name + deletedMark
	}
	return name
}
