package vfs

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
)

// A Mount is a directory of an FS (usually its root) placed in a Namespace.
type Mount struct {
	FS     *FS
	Root   *Dentry
	Source string // as given to mount(2)
	ID     uint64
	ns     *Namespace
	flags  atomic.Uint64 // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, MS_STRICTATIME
	users  atomic.Int32  // open files

	// Guarded by ns.mu; parent is nil for the root of the tree and for detached mounts.
	parent   *Mount
	point    *Dentry
	detached bool
}

// Flags returns the MS_ flags in force.
func (m *Mount) Flags() uint64 { return m.flags.Load() }

// setFlags changes the flags in force; a file system that cannot be changed stays read-only.
func (m *Mount) setFlags(flags uint64) {
	if m.FS.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	m.flags.Store(flags & mountFlags)
}

// mountFlags are the flags that belong to a mount.
const mountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME |
	unix.MS_RELATIME | unix.MS_STRICTATIME | unix.MS_NOSYMFOLLOW

// A Namespace is a tree of mounts, with the devices that its device files stand for.
type Namespace struct {
	// OpenFIFO returns the operations of a newly opened FIFO (fifo(7)). Set once, before use.
	OpenFIFO func(f *File) (FileOps, error)

	// Log takes a line for the kernel's log; nil: nobody listens. Set once, before use.
	Log func(line string)
	// SyncDevices writes what programs wrote to device files of disks. Set once, before use; may be nil.
	SyncDevices func()

	// Pool is where things that are in no file system (pipes) get their pages.
	Pool *mem.Pool

	mu      sync.RWMutex
	mounts  map[Path]*Mount // topmost mount at each place
	all     []*Mount        // in the order of mounting
	types   map[string]Type
	devices map[deviceKey]OpenDevice
	root    *Mount
	lastID  uint64
}

// NewNamespace returns a tree with one mount, fs at its root.
func NewNamespace(fs *FS, pool *mem.Pool) *Namespace {
	anonClock.CompareAndSwap(nil, &fs.now)
	return newNamespace(fs, pool)
}

func newNamespace(fs *FS, pool *mem.Pool) *Namespace {
	ns := &Namespace{
		Pool: pool, mounts: make(map[Path]*Mount), types: make(map[string]Type), devices: make(map[deviceKey]OpenDevice),
	}
	ns.root = ns.newMount(fs, fs.root, "rootfs", unix.MS_RELATIME)
	ns.all = append(ns.all, ns.root)
	return ns
}

// Root returns the root directory of the tree, below whatever is mounted over it.
func (ns *Namespace) Root() Path { return Path{ns.root, ns.root.Root} }

// Top returns what is mounted over the root directory of the tree last: where programs begin.
func (ns *Namespace) Top() Path { return ns.top(ns.Root()) }

// Now returns the wall clock in ns.
func (ns *Namespace) Now() int64 { return ns.root.FS.now() }

func (ns *Namespace) newMount(fs *FS, root *Dentry, source string, flags uint64) *Mount {
	ns.lastID++
	m := &Mount{FS: fs, Root: root, Source: source, ID: ns.lastID, ns: ns}
	m.setFlags(flags)
	fs.mounts.Add(1)
	return m
}

// MountFS places fs at a directory of the tree; for the kernel's own mounts.
func (ns *Namespace) MountFS(at Path, fs *FS, source string, flags uint64) error {
	_, err := ns.attach(at, fs, fs.root, source, flags)
	return err
}

// attach mounts root of fs at a place: ENOTDIR, ENOENT, EBUSY.
func (ns *Namespace) attach(at Path, fs *FS, root *Dentry, source string, flags uint64) (*Mount, error) {
	if at.Inode().IsDir() != root.inode.IsDir() {
		return nil, unix.ENOTDIR
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	at = ns.topLocked(at)
	if err := at.Dentry.pin(); err != nil {
		return nil, err
	}
	m := ns.newMount(fs, root, source, flags)
	m.parent, m.point = at.Mount, at.Dentry
	ns.mounts[Path{at.Mount, at.Dentry}] = m
	ns.all = append(ns.all, m)
	return m, nil
}

// pin counts a mount on d: ENOENT when d was removed.
func (d *Dentry) pin() error {
	if !d.fixed() {
		d.changing().Lock()
		defer d.changing().Unlock()
	}
	if d.gone.Load() {
		return unix.ENOENT
	}
	d.mounts.Add(1)
	return nil
}

// top returns the root of what is mounted over p, or p.
func (ns *Namespace) top(p Path) Path {
	ns.mu.RLock()
	p = ns.topLocked(p)
	ns.mu.RUnlock()
	return p
}

func (ns *Namespace) topLocked(p Path) Path {
	for p.Dentry.mounts.Load() != 0 {
		m := ns.mounts[p]
		if m == nil {
			break
		}
		p = Path{m, m.Root}
	}
	return p
}

// above returns the place that p, the root of a mount, is mounted on; ok is
// false at the top of the tree.
func (ns *Namespace) above(m *Mount) (p Path, ok bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return Path{m.parent, m.point}, m.parent != nil
}

// DoMount is mount(2). The source of a bind mount is a path, else it only names the mount.
func DoMount(ctx *Context, source string, at Path, typ string, flags uint64, data string) error {
	if !ctx.Cred.Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	ns := at.Mount.ns
	const propagation = unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_SHARED | unix.MS_UNBINDABLE
	switch {
	case flags&unix.MS_REMOUNT != 0:
		return at.remount(&MountRequest{Ctx: ctx, Source: source, Options: data, Flags: flags})
	case flags&unix.MS_BIND != 0:
		return ns.bind(ctx, source, at, flags)
	case flags&propagation == unix.MS_PRIVATE || flags&propagation == unix.MS_SLAVE:
		return nil // no mount has peers, so each is private already
	case flags&propagation != 0:
		return unix.EINVAL // shared and unbindable mounts are not here
	case flags&unix.MS_MOVE != 0:
		from, err := Lookup(ctx, Path{}, source, 0)
		if err != nil {
			return err
		}
		return ns.move(from, at)
	}
	fs, err := ns.NewFS(typ, &MountRequest{Ctx: ctx, Source: source, Options: data, Flags: flags})
	if err != nil {
		return err
	}
	if source == "" {
		source = "none"
	}
	if fs.mounts.Load() == 0 { // nobody has it yet
		fs.Options = data
	}
	_, err = ns.attach(at, fs, fs.root, source, defaultAtime(flags))
	return err
}

func defaultAtime(flags uint64) uint64 {
	if flags&(unix.MS_NOATIME|unix.MS_STRICTATIME) == 0 {
		flags |= unix.MS_RELATIME
	}
	return flags
}

// A Remounter is the FSOps of a file system whose options can be changed while it is mounted.
type Remounter interface {
	// Remount takes the options in r, which are new or changed: EINVAL, EBUSY; then nothing has changed.
	Remount(r *MountRequest) error
}

// remount is MS_REMOUNT: EINVAL when p is not the root of a mount. With MS_BIND only the mount's flags change.
func (p Path) remount(r *MountRequest) error {
	if p.Dentry != p.Mount.Root {
		return unix.EINVAL
	}
	if o, ok := p.Mount.FS.ops.(Remounter); r.Flags&unix.MS_BIND == 0 && r.Options != "" {
		err := unix.EINVAL
		r.Problem = "it has no options that can be changed"
		if ok {
			r.Problem = ""
			err, _ = o.Remount(r).(unix.Errno)
		}
		if err != 0 {
			p.Mount.ns.complain(p.Mount.FS.Type, r)
			return err
		}
	}
	p.Mount.setFlags(defaultAtime(r.Flags))
	return nil
}

// move is MS_MOVE: EINVAL when from is not the root of a mount that lies on another, ELOOP into itself.
func (ns *Namespace) move(from, at Path) error {
	if from.Inode().IsDir() != at.Inode().IsDir() {
		return unix.ENOTDIR
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	m := from.Mount
	if from.Dentry != m.Root || m.parent == nil || m.detached {
		return unix.EINVAL
	}
	at = ns.topLocked(at)
	for up := at.Mount; up != nil; up = up.parent {
		if up == m {
			return unix.ELOOP
		}
	}
	if err := at.Dentry.pin(); err != nil {
		return err
	}
	delete(ns.mounts, Path{m.parent, m.point})
	m.point.mounts.Add(-1)
	m.parent, m.point = at.Mount, at.Dentry
	ns.mounts[at] = m
	return nil
}

func (ns *Namespace) bind(ctx *Context, source string, at Path, flags uint64) error {
	from, err := Lookup(ctx, Path{}, source, 0)
	if err != nil {
		return err
	}
	m, err := ns.attach(at, from.Mount.FS, from.Dentry, from.Mount.Source, from.Mount.Flags())
	if err != nil || flags&unix.MS_REC == 0 {
		return err
	}
	return ns.bindBelow(from, Path{m, m.Root})
}

// bindBelow repeats the mounts below from at to.
func (ns *Namespace) bindBelow(from, to Path) error {
	ns.mu.RLock()
	var below []*Mount
	for _, m := range ns.all {
		if m.parent == from.Mount && m != to.Mount && m.point.within(from.Dentry) {
			below = append(below, m)
		}
	}
	ns.mu.RUnlock()
	for _, m := range below {
		n, err := ns.attach(Path{to.Mount, m.point}, m.FS, m.Root, m.Source, m.Flags())
		if err != nil {
			return err
		}
		if err := ns.bindBelow(Path{m, m.Root}, Path{n, n.Root}); err != nil {
			return err
		}
	}
	return nil
}

// Unmount is umount2(2); at is what the path leads to: EINVAL when that is not the root of a
// mount, EBUSY. MNT_DETACH and MNT_FORCE are honoured; UMOUNT_NOFOLLOW is for the lookup.
func Unmount(ctx *Context, at Path, flags int) error {
	if !ctx.Cred.Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	m := at.Mount
	if at.Dentry != m.Root || m.parent == nil {
		return unix.EINVAL
	}
	gone, err := m.ns.detach(m, flags&unix.MNT_DETACH != 0)
	for _, m := range gone {
		m.unused()
	}
	return err
}

// detach takes m, and when lazy all below it, out of the tree.
func (ns *Namespace) detach(m *Mount, lazy bool) (gone []*Mount, err error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if m.detached {
		return nil, unix.EINVAL
	}
	gone = []*Mount{m}
	for i := 0; i < len(gone); i++ {
		for _, c := range ns.all {
			if c.parent == gone[i] {
				gone = append(gone, c)
			}
		}
	}
	if !lazy && (len(gone) > 1 || m.users.Load() > 0) {
		return nil, unix.EBUSY
	}
	for _, g := range gone {
		delete(ns.mounts, Path{g.parent, g.point})
		g.point.mounts.Add(-1)
		g.parent, g.point, g.detached = nil, nil, true
	}
	ns.all = slices.DeleteFunc(ns.all, func(m *Mount) bool { return m.detached })
	return gone, nil
}

// unused tells the file system when it lost its last mount and file. It is called
// when m was detached, and when the last file of a detached mount is closed.
func (m *Mount) unused() {
	m.ns.mu.Lock()
	last := m.detached && m.users.Load() == 0
	if last {
		m.detached = false // once
	}
	m.ns.mu.Unlock()
	if last && m.FS.mounts.Add(-1) == 0 {
		m.FS.ops.Unmounted()
		m.FS.letGo()
	}
}

// drop ends the use of m by an open file.
func (m *Mount) drop() {
	if m.users.Add(-1) == 0 && m != m.ns.root {
		m.ns.mu.RLock()
		detached := m.detached
		m.ns.mu.RUnlock()
		if detached {
			m.unused()
		}
	}
}

// withinFS is the name of d from the root of its file system.
func (d *Dentry) withinFS() string {
	name := ""
	for p := d.parent.Load(); p != nil; d, p = p, p.parent.Load() {
		name = "/" + d.Name() + name
	}
	if name == "" {
		return "/"
	}
	return name
}

// MountInfo describes a mount for /proc/self/mounts and mountinfo.
type MountInfo struct {
	ID, ParentID uint64
	Dev          uint64
	Root, Point  string // the part of its file system, and where it is seen from root
	Source, Type string
	Flags        uint64
	Options      string // the file system's
}

// Mounts lists the mounts that can be reached from root, in the order of mounting.
func (ns *Namespace) Mounts(root Path) []MountInfo {
	ns.mu.RLock()
	all := slices.Clone(ns.all)
	ns.mu.RUnlock()
	var list []MountInfo
	for _, m := range all {
		point, err := PathName(Path{m, m.Root}, root)
		if err != nil {
			continue
		}
		within := m.Root.withinFS()
		info := MountInfo{
			ID: m.ID, ParentID: m.ID, Dev: m.FS.Dev, Root: within, Point: point, Source: m.Source, Type: m.FS.Type, Flags: m.Flags(), Options: m.FS.Options,
		}
		if p, ok := ns.above(m); ok {
			info.ParentID = p.Mount.ID
		}
		list = append(list, info)
	}
	return list
}

// Sync writes what all mounted file systems hold to where it is kept (sync(2)).
func (ns *Namespace) Sync() {
	ns.mu.RLock()
	all := slices.Clone(ns.all)
	ns.mu.RUnlock()
	for _, m := range all {
		m.FS.Sync()
	}
	if ns.SyncDevices != nil {
		ns.SyncDevices()
	}
}

// Shutter is the FSOps of file systems that leave a mark where they are kept while they are mounted.
type Shutter interface {
	// Shutdown leaves the file system as after an unmount. It is called at the end, when nobody uses it any more.
	Shutdown()
}

// Shutdown is Sync, and Shutdown of the file systems that have one.
func (ns *Namespace) Shutdown() {
	ns.Sync()
	ns.mu.RLock()
	all := slices.Clone(ns.all)
	ns.mu.RUnlock()
	done := map[*FS]bool{}
	for _, m := range all {
		if s, ok := m.FS.ops.(Shutter); ok && !done[m.FS] {
			done[m.FS] = true
			s.Shutdown()
		}
	}
}
