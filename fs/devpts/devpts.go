// Package devpts is the file system of pseudo-terminals (pts(4), mounted at /dev/pts): ptmx
// makes one when it is opened, and its slave has a file here as long as the master is open.
//
// Each instance has numbers of its own, as on Linux. /dev/ptmx belongs to the instance
// that is mounted on the directory pts beside it.
//
// Lock order: FS.mu → the locks of package vfs for names.
package devpts

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/namespace"
	"gosv/kernel/tty"
	"gosv/kernel/vfs"
)

// maxPtys is /proc/sys/kernel/pty/max.
const maxPtys = 4096

// A terminal with full buffers takes as much memory as many open files: a small machine has fewer.
const (
	filesPerPty = 16
	leastPtys   = 16
)

// blockSize is what statfs(2) shows.
const blockSize = 1024

// options are those of mount(8), "Mount options for devpts".
type options struct {
	mode, ptmxMode uint32
	uid, gid       uint32
	hasUID, hasGID bool
	max            int
}

func parseOptions(data string) (o options, err error) {
	o = options{mode: 0o600, max: maxPtys}
	for word := range strings.SplitSeq(data, ",") {
		key, value, _ := strings.Cut(word, "=")
		number := func(base int) uint32 {
			n, bad := strconv.ParseUint(value, base, 32)
			if bad != nil {
				err = unix.EINVAL
			}
			return uint32(n)
		}
		switch key {
		case "", "newinstance":
		case "mode":
			o.mode = number(8) & 0o7777
		case "ptmxmode":
			o.ptmxMode = number(8) & 0o7777
		case "uid":
			o.uid, o.hasUID = number(10), true
		case "gid":
			o.gid, o.hasGID = number(10), true
		case "max":
			o.max = int(number(10))
		default:
			err = unix.EINVAL
		}
	}
	if o.max > maxPtys {
		err = unix.EINVAL
	}
	return o, err
}

// FS is one instance.
type FS struct {
	vfs.InodeDefaults // of the directory
	fs                *vfs.FS
	jobs              tty.Jobs
	options

	mu     sync.Mutex
	ptys   map[int]*tty.Pty // guarded by mu
	making atomic.Pointer[making]
}

// making is the file that the instance makes now; programs make nothing.
type making struct {
	vfs.NewNode
	pty *tty.Pty // nil: ptmx
}

// New returns an instance with the options in data: EINVAL. now tells the wall clock in ns.
func New(jobs tty.Jobs, now func() int64, data string) (*vfs.FS, error) {
	o, err := parseOptions(data)
	if err != nil {
		return nil, err
	}
	return newFS(jobs, now, o)
}

// inside takes the IDs as those of a user namespace: EINVAL.
func (o *options) inside(u *namespace.User) error {
	o.uid, o.gid = u.RealUID(o.uid), u.RealGID(o.gid)
	if o.hasUID && o.uid == namespace.None || o.hasGID && o.gid == namespace.None {
		return unix.EINVAL
	}
	return nil
}

func newFS(jobs tty.Jobs, now func() int64, o options) (*vfs.FS, error) {
	d := &FS{jobs: jobs, options: o, ptys: make(map[int]*tty.Pty)}
	d.fs = vfs.NewFS("devpts", d, now)
	d.fs.Resident = true
	d.fs.SetRoot(d.fs.NewInode(d, &vfs.NewNode{Mode: unix.S_IFDIR | 0o755}, nil))
	d.mu.Lock()
	defer d.mu.Unlock()
	n := vfs.NewNode{Mode: unix.S_IFCHR | o.ptmxMode, Rdev: unix.Mkdev(tty.AuxMajor, tty.MasterMinor)}
	return d.fs, d.makeLocked("ptmx", &making{n, nil})
}

// Type returns what makes instances for mount(2).
func Type(jobs tty.Jobs, now func() int64) vfs.Type {
	return vfs.Type{Name: "devpts", Anyone: true, New: func(r *vfs.MountRequest) (*vfs.FS, error) {
		o, err := parseOptions(r.Options)
		if err == nil && r.Ctx != nil && r.Ctx.Cred != nil {
			err = o.inside(r.Ctx.Cred.User)
		}
		if err != nil {
			return nil, err
		}
		return newFS(jobs, now, o)
	}}
}

func (d *FS) makeLocked(name string, m *making) error {
	d.making.Store(m)
	_, err := d.fs.Root().Make(name, &m.NewNode)
	d.making.Store(nil)
	return err
}

// Create implements vfs.InodeOps: EPERM for everybody but the instance itself.
func (d *FS) Create(_ *vfs.Inode, _ string, n *vfs.NewNode) (*vfs.Inode, error) {
	m := d.making.Load()
	if m == nil || n != &m.NewNode {
		return nil, unix.EPERM
	}
	return d.fs.NewInode(&node{d: d, pty: m.pty}, n, nil), nil
}

// MaySetAttr implements vfs.InodeOps.
func (d *FS) MaySetAttr(*vfs.Inode) error { return nil }

// Statfs implements vfs.FSOps.
func (d *FS) Statfs(s *unix.Statfs_t) {
	s.Type = unix.DEVPTS_SUPER_MAGIC
	s.Bsize, s.Frsize = blockSize, blockSize
}

// Sync implements vfs.FSOps.
func (d *FS) Sync() error { return nil }

// Unmounted implements vfs.FSOps.
func (d *FS) Unmounted() { d.fs.EvictAll() }

// node is a file of the instance.
type node struct {
	vfs.InodeDefaults
	d   *FS
	pty *tty.Pty // nil: ptmx
}

// MaySetAttr implements vfs.InodeOps.
func (n *node) MaySetAttr(*vfs.Inode) error { return nil }

// Open implements vfs.InodeOps.
func (n *node) Open(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	if f.Path().Mount.Flags()&unix.MS_NODEV != 0 {
		return nil, unix.EACCES
	}
	if n.pty == nil {
		return n.d.open(ctx, f, f.Path().Mount)
	}
	return n.pty.Slave.Open(f)
}

// open makes f the master of a new pseudo-terminal, whose slave is found at m: ENOSPC.
func (d *FS) open(ctx *vfs.Context, f *vfs.File, m *vfs.Mount) (vfs.FileOps, error) {
	files := vfs.MaxFiles()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ptys) >= d.max || files != 0 && int64(len(d.ptys)) >= max(files/filesPerPty, leastPtys) {
		return nil, unix.ENOSPC
	}
	index := 0
	for d.ptys[index] != nil {
		index++
	}
	p := tty.NewPty(d.jobs, index)
	n := vfs.NewNode{Mode: unix.S_IFCHR | d.mode, UID: ctx.Cred.FSUID, GID: ctx.Cred.FSGID, Rdev: unix.Mkdev(tty.SlaveMajor, uint32(index))}
	if d.hasUID {
		n.UID = d.uid
	}
	if d.hasGID {
		n.GID = d.gid
	}
	name := strconv.Itoa(index)
	if err := d.makeLocked(name, &making{n, p}); err != nil {
		return nil, err
	}
	d.ptys[index] = p
	slave := vfs.Path{Mount: m, Dentry: d.fs.Root().Child(name)}
	peer := func(c *cred.Cred, flags int) (*vfs.File, error) { return vfs.Reopen(slave, c, flags) }
	return p.Master(f, peer, func() { d.closed(index) }), nil
}

// closed follows the end of a master: the slave has no name any more.
func (d *FS) closed(index int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ptys, index)
	// Fails only when the instance was unmounted, names and all.
	_ = d.fs.Root().Drop(strconv.Itoa(index))
}

// OpenMaster is the device /dev/ptmx: ENODEV unless the directory pts beside it is a devpts.
func OpenMaster(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	at := f.Path()
	dir := at.Dentry.Parent()
	if dir == nil {
		return nil, unix.ENODEV
	}
	at.Dentry = dir
	here := vfs.Context{Root: f.Namespace().Root(), Cwd: at, Cred: cred.Root()}
	p, err := vfs.Lookup(&here, at, "pts", 0)
	if err != nil || p.Dentry != p.Mount.Root {
		return nil, unix.ENODEV
	}
	d, ok := p.Mount.FS.Ops().(*FS)
	if !ok {
		return nil, unix.ENODEV
	}
	return d.open(ctx, f, p.Mount)
}
