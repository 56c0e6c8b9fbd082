package vfs

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/namespace"
)

// A Mount is a directory of an FS (usually its root) placed in a Namespace.
type Mount struct {
	FS     *FS
	Root   *Dentry
	Source string // as given to mount(2)
	ID     uint64
	ns     *Namespace
	flags  atomic.Uint64 // its own: MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, MS_STRICTATIME
	users  atomic.Int32  // open files
	// expiring is set by umount2(2) with MNT_EXPIRE, and ends with the next use.
	expiring atomic.Bool
	// writers are the open regular files that can be written.
	writers atomic.Int32

	// Guarded by ns.mu; parent is nil for the root of the tree and for detached mounts.
	parent   *Mount
	point    *Dentry
	lying    ring     // the mounts that lie on it
	sibling  ringLink // in parent.lying
	in       *Tree    // that parents lead to, and that counts it; nil for those that lie nowhere
	detached bool
	group    *peers   // shared with these; nil: not shared
	master   *peers   // what they mount is mounted here too
	peer     ringLink // in group.members
	slave    ringLink // in master.slaves
	// unbindable mounts cannot be the source of a bind mount.
	unbindable bool
	loose      bool  // made by fsmount(2) or open_tree(2), and given no place yet
	tree       *Tree // of the root of a tree
	// A copy for a user namespace that has not the rights of the mount's keeps what that shows, and how: it cannot be taken away, and the flags in
	// keep cannot be lost.
	locked bool
	keep   atomic.Uint64

	pseudo bool // see PseudoMount
}

// Flags returns the MS_ flags in force.
func (m *Mount) Flags() uint64 { return m.flags.Load() | m.FS.readOnly.Load() }

// beginWrite counts a file that can be written from now on: EROFS.
func (m *Mount) beginWrite() error {
	m.writers.Add(1)
	m.FS.writers.Add(1)
	// Counted first, so that either this or whoever makes it read-only sees the other.
	if m.Flags()&unix.MS_RDONLY != 0 {
		m.endWrite()
		return unix.EROFS
	}
	return nil
}

func (m *Mount) endWrite() {
	m.writers.Add(-1)
	m.FS.writers.Add(-1)
}

// changeFlags is setFlags for a mount that may be in use: EBUSY when it is to be read-only and files that can be written are open.
func (m *Mount) changeFlags(flags uint64) error {
	old := m.flags.Load()
	m.setFlags(flags)
	if m.flags.Load()&^old&unix.MS_RDONLY != 0 && m.writers.Load() > 0 {
		m.flags.Store(old)
		return unix.EBUSY
	}
	return nil
}

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

// A Namespace is all trees of mounts, one for each mount namespace (Tree), with the devices that device files stand for.
type Namespace struct {
	// OpenFIFO returns the operations of a newly opened FIFO (fifo(7)). Set once, before use.
	OpenFIFO func(f *File) (FileOps, error)

	// Log takes a line for the kernel's log; nil: nobody listens. Set once, before use.
	Log func(line string)
	// SyncDevices writes what programs wrote to device files of disks. Set once, before use; may be nil.
	SyncDevices func()

	// BlockSize returns the logical block of the disk that a device number stands for, 0 for none. Set once, before use; may be nil.
	BlockSize func(rdev uint64) int

	// Pool is where things that are in no file system (pipes) get their pages.
	Pool *mem.Pool

	mu      sync.RWMutex
	mounts  map[Path]*Mount // topmost mount at each place
	all     []*Mount        // in the order of mounting
	types   map[string]Type
	devices map[deviceKey]OpenDevice
	first   *Tree
	lastID  uint64

	lastGroup uint64
	mountMax  atomic.Int32
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
	ns.mountMax.Store(defaultMountMax)
	ns.first = &Tree{ns: ns, root: ns.newMount(fs, fs.root, "rootfs", unix.MS_RELATIME)}
	ns.first.First(namespace.Mount)
	ns.first.root.tree = ns.first
	ns.first.root.count(ns.first)
	ns.all = append(ns.all, ns.first.root)
	return ns
}

// Root returns the root directory of the first tree, below whatever is mounted over it.
func (ns *Namespace) Root() Path { return ns.first.Root() }

// Top returns what is mounted over the root directory of the first tree last: where programs begin.
func (ns *Namespace) Top() Path { return ns.top(ns.Root()) }

// Now returns the wall clock in ns.
func (ns *Namespace) Now() int64 { return ns.first.root.FS.now() }

func (ns *Namespace) newMount(fs *FS, root *Dentry, source string, flags uint64) *Mount {
	ns.lastID++
	m := &Mount{FS: fs, Root: root, Source: source, ID: ns.lastID, ns: ns}
	m.sibling.m, m.peer.m, m.slave.m = m, m, m
	m.setFlags(flags)
	fs.mounts.Add(1)
	if w, ok := fs.ops.(MountWatcher); ok {
		w.Mounted(root)
	}
	return m
}

// A MountWatcher is the FSOps of a file system that knows what of it is mounted. It is called with locks held.
type MountWatcher interface {
	Mounted(root *Dentry)
	Gone(root *Dentry)
}

// gone tells the file system of the end of m.
func (m *Mount) gone() {
	if w, ok := m.FS.ops.(MountWatcher); ok {
		w.Gone(m.Root)
	}
}

// MountFS places fs at a directory of the tree; for the kernel's own mounts.
func (ns *Namespace) MountFS(at Path, fs *FS, source string, flags uint64) error {
	_, err := ns.attach(at, fs, fs.root, source, flags)
	return err
}

// attach mounts root of fs at a place: ENOTDIR, ENOENT, ENOSPC.
func (ns *Namespace) attach(at Path, fs *FS, root *Dentry, source string, flags uint64) (*Mount, error) {
	if at.Inode().IsDir() != root.inode.IsDir() {
		return nil, unix.ENOTDIR
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if err := ns.room(1); err != nil {
		return nil, err
	}
	m := ns.newMount(fs, root, source, flags)
	ns.all = append(ns.all, m)
	if err := ns.place(m, at); err != nil {
		ns.discard(m)
		return nil, err
	}
	return m, nil
}

// discard ends a tree of mounts that nobody uses and that was given no place. The file systems have other mounts, or holds. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) discard(m *Mount) {
	list := ns.remove(ns.below(m, true))
	for _, g := range list {
		g.FS.mounts.Add(-1)
	}
	go func() {
		for _, g := range list {
			g.gone() // which may take ns.mu
		}
	}()
}

// pin counts a mount on d: ENOENT when d was removed.
func (d *Dentry) pin() error {
	if d.fixed() {
		return d.pinLocked()
	}
	mu := d.changing()
	mu.Lock()
	defer mu.Unlock()
	return d.pinLocked()
}

func (d *Dentry) pinLocked() error {
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

// Top returns the root of what is mounted over p, or p; a path that ends in . does not lead there by itself.
func (p Path) Top() Path { return p.Mount.ns.topOf(p) }

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
	if !ctx.mayMount() {
		return unix.EPERM
	}
	ns := at.Mount.ns
	const propagation = unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_SHARED | unix.MS_UNBINDABLE
	switch {
	case !ctx.sees(at):
		return unix.EINVAL
	case flags&unix.MS_REMOUNT != 0:
		return at.remount(&MountRequest{Ctx: ctx, Source: source, Options: data, Flags: flags})
	case flags&unix.MS_BIND != 0:
		return ns.bind(ctx, source, at, flags)
	case flags&propagation != 0:
		how := flags & propagation
		if how&(how-1) != 0 || flags&^(propagation|unix.MS_REC|unix.MS_SILENT) != 0 {
			return unix.EINVAL
		}
		return ChangeMount(ctx, at, MountChange{Propagation: how, Recursive: flags&unix.MS_REC != 0})
	case flags&unix.MS_MOVE != 0:
		from, err := Lookup(ctx, Path{}, source, 0)
		if err != nil {
			return err
		}
		return ns.move(from, at)
	}
	fs, err := ns.newFS(typ, &MountRequest{Ctx: ctx, Source: source, Options: data, Flags: flags})
	if err != nil {
		return err
	}
	defer fs.drop()
	if err := ns.mayReveal(ctx, fs, flags); err != nil {
		return err
	}
	if source == "" {
		source = "none"
	}
	_, err = ns.attach(at, fs, fs.root, source, defaultAtime(flags))
	return err
}

// newFS is NewFS, with a hold on the file system, as if there were a mount: drop ends it.
func (ns *Namespace) newFS(typ string, r *MountRequest) (*FS, error) {
	fs, err := ns.NewFS(typ, r)
	if err == nil && !r.Held && fs.mounts.Add(1) == 1 { // nobody has it yet
		fs.Options = r.Options
		if r.Ctx != nil && r.Ctx.Cred != nil {
			fs.Owner = r.Ctx.Cred.User
		}
	}
	return fs, err
}

// Hold keeps a file system that is mounted, as one more mount would: false when it has ended, or is not mounted yet.
func (fs *FS) Hold() bool {
	for {
		n := fs.mounts.Load()
		if n <= 0 {
			return false
		}
		if fs.mounts.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// EndHold ends a Hold.
func (fs *FS) EndHold() { fs.drop() }

// ReadOnlyNow reports whether the file system was mounted or remounted read-only.
func (fs *FS) ReadOnlyNow() bool { return fs.readOnly.Load() != 0 }

// drop ends a mount or a hold; with the last the file system ends.
func (fs *FS) drop() {
	if fs.mounts.Add(-1) == 0 {
		fs.ops.Unmounted()
		fs.letGo()
	}
}

func defaultAtime(flags uint64) uint64 {
	if flags&(unix.MS_NOATIME|unix.MS_STRICTATIME) == 0 {
		flags |= unix.MS_RELATIME
	}
	return flags
}

// A Remounter is the FSOps of a file system whose options can be changed while it is mounted.
type Remounter interface {
	// Remount takes the options in r, which are new or changed, and whether it is read-only from now on: EINVAL, EBUSY, EROFS; then nothing has
	// changed. Nothing is changed through mounts until it returns when it is read-only before or afterwards, and no file is open for writing.
	Remount(r *MountRequest) error
}

// remount is MS_REMOUNT: EINVAL when p is not the root of a mount. With MS_BIND only the mount's flags change.
func (p Path) remount(r *MountRequest) error {
	if p.Dentry != p.Mount.Root {
		return unix.EINVAL
	}
	flags := r.Flags
	if flags&atimes == 0 {
		flags |= p.Mount.Flags() & atimes // what is not named stays
	}
	flags = defaultAtime(flags)
	if p.Mount.held(flags) {
		return unix.EPERM
	}
	if r.Flags&unix.MS_BIND == 0 && !r.Ctx.Cred.CapableIn(p.Mount.FS.Owner, unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	if r.Flags&unix.MS_BIND == 0 {
		if err := p.Mount.ns.reconfigure(p.Mount.FS, r); err != nil {
			return err
		}
	}
	return p.Mount.changeFlags(flags)
}

// reconfigure changes the options of a file system, and whether it is read-only, for all its mounts: EINVAL, EBUSY when files that can be
// written are open, and what the file system says.
func (ns *Namespace) reconfigure(fs *FS, r *MountRequest) error {
	r.takeFlags()
	fs.changing.Lock()
	defer fs.changing.Unlock()
	was, now := fs.readOnly.Load(), r.Flags&unix.MS_RDONLY
	if was == now && r.Options == "" {
		return nil
	}
	fs.readOnly.Store(was | now)
	if was == 0 && now != 0 && fs.writers.Load() > 0 {
		fs.readOnly.Store(was)
		return unix.EBUSY
	}
	var err error
	if o, ok := fs.ops.(Remounter); ok {
		err = o.Remount(r)
	} else if r.Options != "" {
		err = r.Fail(unix.EINVAL, "it has no options that can be changed")
	}
	if err != nil {
		fs.readOnly.Store(was)
		ns.complain(fs.Type, r)
		return err
	}
	fs.readOnly.Store(now)
	return nil
}

// move is MS_MOVE, also of a mount that lies nowhere: EINVAL when from is not the root of a mount, or that is the root of the tree, ELOOP into
// itself.
func (ns *Namespace) move(from, at Path) error {
	if from.Inode().IsDir() != at.Inode().IsDir() {
		return unix.ENOTDIR
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	m := from.Mount
	if from.Dentry != m.Root || m.tree != nil || !m.loose && m.base().tree == nil || at.Mount.ns != ns || at.Mount.base().tree == nil && at.Mount.base() != m {
		return unix.EINVAL
	}
	at = ns.topLocked(at)
	for up := at.Mount; up != nil; up = up.parent {
		if up == m {
			return unix.ELOOP
		}
	}
	if m.locked || m.parent != nil && m.parent.group != nil {
		return unix.EINVAL // its copies would stay behind
	}
	parent, point, loose := m.parent, m.point, m.loose
	if parent != nil {
		ns.take(m)
	}
	err := ns.place(m, at)
	if err != nil {
		if m.loose = loose; parent != nil {
			point.mounts.Add(1)
			ns.put(m, Path{parent, point})
		}
	}
	return err
}

func (ns *Namespace) bind(ctx *Context, source string, at Path, flags uint64) error {
	from, err := Lookup(ctx, Path{}, source, 0)
	if err != nil {
		return err
	}
	if from.Inode().IsDir() != at.Inode().IsDir() {
		return unix.ENOTDIR
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	m, err := ns.cloneTree(from, flags&unix.MS_REC != 0)
	if err != nil {
		return err
	}
	if err = ns.place(m, at); err != nil {
		ns.discard(m)
	}
	return err
}

// cloneTree copies the mount of from, from there on, and with recursive what lies on it: EINVAL when it may not be, ENOSPC. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) cloneTree(from Path, recursive bool) (*Mount, error) {
	m := from.Mount
	from.Dentry = ns.anchor(from.Dentry)
	if m.unbindable || (m.ns != ns || m.base().tree == nil) && !m.FS.Bindable {
		return nil, unix.EINVAL
	}
	if err := ns.room(len(ns.below(m, recursive))); err != nil {
		return nil, err
	}
	if !recursive && ns.hides(m, from.Dentry) {
		return nil, unix.EINVAL
	}
	return ns.copyTree(m, from.Dentry, recursive, peer), nil
}

// UnmountAt is umount2(2) of what a path leads to; looking it up is no use of the mount.
func UnmountAt(ctx *Context, path string, flags int) error {
	w, how := newWalk(ctx), follow
	w.umount = true
	if flags&unix.UMOUNT_NOFOLLOW != 0 {
		how = 0
	}
	at, _, err := w.walk(ctx.start(Path{}), path, how)
	if err != nil {
		return err
	}
	return Unmount(ctx, at.Top(), flags)
}

// Unmount is umount2(2); at is what the path leads to: EINVAL when that is not the root of a mount, EBUSY. With MNT_EXPIRE it is EAGAIN, unless
// nobody has used the mount since the last call that said so.
func Unmount(ctx *Context, at Path, flags int) error {
	if !ctx.mayMount() {
		return unix.EPERM
	}
	m := at.Mount
	if at.Dentry != m.Root || m.tree != nil || m.locked || !ctx.sees(at) {
		return unix.EINVAL
	}
	if flags&unix.MNT_EXPIRE != 0 && (flags&(unix.MNT_FORCE|unix.MNT_DETACH) != 0 || m == ctx.Root.Mount) {
		return unix.EINVAL
	}
	gone, err := m.ns.detach(m, flags&unix.MNT_DETACH != 0, flags&unix.MNT_EXPIRE != 0)
	for _, m := range gone {
		m.unused()
	}
	return err
}

// detach takes m, and when lazy all below it, out of the tree; with expire only if it was to be taken away before.
func (ns *Namespace) detach(m *Mount, lazy, expire bool) (gone []*Mount, err error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if m.base().tree == nil && !m.loose {
		return nil, unix.EINVAL
	}
	gone = ns.below(m, true)
	if !lazy && (len(gone) > 1 || m.users.Load() > 0) {
		return nil, unix.EBUSY
	}
	if expire && !m.expiring.Swap(true) {
		return nil, unix.EAGAIN
	}
	for _, f := range ns.followers(m) {
		tree := ns.below(f, true)
		switch {
		case lazy:
			gone = append(gone, tree...)
		case f.users.Load() > 0:
			return nil, unix.EBUSY
		case len(tree) == 1:
			gone = append(gone, f)
		}
	}
	return ns.remove(gone), nil
}

// remove takes mounts out of the tree. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) remove(gone []*Mount) []*Mount {
	for _, g := range gone {
		if g.detached {
			continue // twice in the list
		}
		if g.parent != nil {
			ns.take(g)
		}
		g.count(nil)
		g.detached, g.loose = true, false
		ns.propagate(g, unix.MS_PRIVATE)
	}
	ns.all = slices.DeleteFunc(ns.all, func(m *Mount) bool { return m.detached })
	return gone
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
	if last {
		m.gone()
		m.FS.drop()
	}
}

// drop ends the use of m by an open file.
func (m *Mount) drop() {
	if m.users.Add(-1) == 0 {
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
	switch {
	case name != "":
		return name
	case d.name != "":
		return d.name
	}
	return "/"
}

// MountInfo describes a mount for /proc/self/mounts and mountinfo.
type MountInfo struct {
	ID, ParentID uint64
	Dev          uint64
	Root, Point  string // the part of its file system, and where it is seen from root
	Source, Type string
	Flags        uint64
	Options      string // the file system's
	Shared       uint64 // the group that it is a peer in, 0: none
	Master       uint64 // the group that it is a slave of
	Unbindable   bool
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
		ns.mu.RLock()
		if m.parent != nil {
			info.ParentID = m.parent.ID
		}
		if info.Unbindable = m.unbindable; m.group != nil {
			info.Shared = m.group.id
		}
		if m.master != nil {
			info.Master = m.master.id
		}
		ns.mu.RUnlock()
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
