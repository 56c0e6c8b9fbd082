// Package nsfs is the file system that namespaces are files of (namespaces(7), "The /proc/pid/ns/ directory"; ioctl_ns(2)): what the links
// there lead to, what is opened, bound to a place by mount(2), and given to setns(2). A file or a mount keeps its namespace alive.
package nsfs

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/namespace"
	"gosv/kernel/vfs"
)

// Requests of ioctl_ns(2).
const (
	getUserNS   = 0xb701
	getParent   = 0xb702
	getType     = 0xb703
	getOwnerUID = 0xb704
)

// FS is the file system. Install gives a task (vfs.IoctlArgs.Task) a descriptor of a file, and takes over the reference. Both are set once, before use.
type FS struct {
	Install func(task any, f *vfs.File) (uint64, error)
	mount   *vfs.Mount
}

// New returns the file system; now tells the wall clock in ns.
func New(now func() int64) *FS {
	s := &FS{}
	fs := vfs.NewFS("nsfs", s, now)
	fs.Bindable = true
	fs.SetRoot(fs.NewInode(&vfs.InodeDefaults{}, &vfs.NewNode{Mode: unix.S_IFDIR | 0o500}, nil))
	s.mount = vfs.PseudoMount(fs)
	return s
}

// Statfs implements vfs.FSOps.
func (s *FS) Statfs(st *unix.Statfs_t) { st.Type = 0x6e736673 }

// Sync implements vfs.FSOps.
func (s *FS) Sync() error { return nil }

// Unmounted implements vfs.FSOps.
func (s *FS) Unmounted() {}

// Mounted implements vfs.MountWatcher.
func (s *FS) Mounted(root *vfs.Dentry) {
	if n, ok := root.Inode().Ops().(*inode); ok {
		n.object.NS().Hold()
	}
}

// Gone implements vfs.MountWatcher.
func (s *FS) Gone(root *vfs.Dentry) {
	if n, ok := root.Inode().Ops().(*inode); ok {
		n.object.NS().Put()
	}
}

// inode is the file that a namespace is.
type inode struct {
	vfs.InodeDefaults
	fs     *FS
	object namespace.Object
}

// Name is how a link to the namespace reads.
func Name(o namespace.Object) string {
	h := o.NS()
	return h.Kind().Name() + ":[" + strconv.FormatUint(h.ID(), 10) + "]"
}

// Path returns the place of a namespace.
func (s *FS) Path(o namespace.Object) vfs.Path {
	h := o.NS()
	p := h.Node.Load()
	if p == nil {
		i := s.mount.FS.NewInode(&inode{fs: s, object: o}, &vfs.NewNode{Mode: unix.S_IFREG | 0o444}, nil)
		i.Ino = h.ID()
		var d any = vfs.NewPseudo(Name(o), i)
		h.Node.CompareAndSwap(nil, &d)
		p = h.Node.Load()
	}
	return vfs.Path{Mount: s.mount, Dentry: (*p).(*vfs.Dentry)}
}

// Open implements vfs.InodeOps.
func (n *inode) Open(_ *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	if f.Writable() {
		return nil, unix.EPERM
	}
	if !n.object.NS().Get() {
		return nil, unix.ENOENT
	}
	return &file{fs: n.fs, object: n.object}, nil
}

// file is an open namespace.
type file struct {
	vfs.FileDefaults
	fs     *FS
	object namespace.Object
}

// Of returns the namespace that f is; ok is false for other files.
func Of(f *vfs.File) (o namespace.Object, ok bool) {
	n, ok := f.Ops().(*file)
	if !ok {
		return nil, false
	}
	return n.object, true
}

// Release implements vfs.FileOps.
func (n *file) Release(*vfs.File) { n.object.NS().Put() }

// A Nested is a namespace of a kind that has parents.
type Nested interface {
	namespace.Object
	// ParentFor returns the parent, if the caller's own namespace is that or lies above: EPERM.
	ParentFor(task any) (namespace.Object, error)
}

// Ioctl implements vfs.FileOps: ioctl_ns(2).
func (n *file) Ioctl(_ *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	h := n.object.NS()
	switch a.Cmd {
	case getType:
		return h.Kind().Flag(), nil
	case getOwnerUID:
		u, ok := n.object.(*namespace.User)
		if !ok {
			return 0, unix.EINVAL
		}
		uid, _ := u.Creator()
		var b [4]byte
		id := a.Ctx.Cred.User.ShowUID(uid)
		for i := range b {
			b[i] = byte(id >> (8 * i))
		}
		_, err := a.Mem.CopyOut(a.Arg, b[:])
		return 0, err
	case getUserNS:
		owner := h.Owner()
		if u, ok := n.object.(*namespace.User); ok {
			if u.IsFirst() {
				return 0, unix.EPERM
			}
			owner = u.Parent()
		}
		if !owner.Within(a.Ctx.Cred.User) {
			return 0, unix.EPERM
		}
		return n.fs.give(a, owner.Object())
	case getParent:
		if u, ok := n.object.(*namespace.User); ok {
			if u.IsFirst() || !u.Parent().Within(a.Ctx.Cred.User) {
				return 0, unix.EPERM
			}
			return n.fs.give(a, u.Parent().Object())
		}
		o, ok := n.object.(Nested)
		if !ok {
			return 0, unix.EINVAL
		}
		up, err := o.ParentFor(a.Task)
		if err != nil {
			return 0, err
		}
		return n.fs.give(a, up)
	}
	return 0, unix.ENOTTY
}

// give opens a namespace and gives the caller a descriptor of it.
func (s *FS) give(a *vfs.IoctlArgs, o namespace.Object) (uint64, error) {
	f, err := s.Open(o, a.Ctx.Cred)
	if err != nil {
		return 0, err
	}
	return s.Install(a.Task, f)
}

// Open opens a namespace: ENOENT when it has ended.
func (s *FS) Open(o namespace.Object, c *cred.Cred) (*vfs.File, error) {
	return vfs.OpenPlace(&vfs.Context{Cred: c}, s.Path(o), unix.O_RDONLY)
}
