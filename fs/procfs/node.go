package procfs

import (
	"math"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/mm"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// node is the file of a row.
type node struct {
	vfs.InodeDefaults
	fs  *FS
	row *row
	subject
	born int64 // when the process was started, which another with its number was not; 0: there is none
}

// view is what a file is shown of, and to whom.
type view struct {
	*FS
	ctx *vfs.Context
	subject
	// p and t are set in files about a process.
	p *task.Process
	t *task.Task
	// bound says that memory is about space only, see row.bound.
	bound bool
	space *mm.AddressSpace
}

// bind makes memory be about the address space that the process has now.
func (v *view) bind() {
	v.memory(func(as *mm.AddressSpace) { v.space = as })
	v.bound = true
}

// view finds the subject: ENOENT when it is gone. ctx may be nil.
func (n *node) view(ctx *vfs.Context) (*view, error) {
	v := &view{FS: n.fs, ctx: ctx, subject: n.subject}
	if err := v.resolve(); err != nil {
		return v, err
	}
	if v.p != nil && v.p.Started() != n.born {
		return v, unix.ENOENT
	}
	return v, nil
}

func (v *view) resolve() error {
	if v.pid == 0 {
		return nil
	}
	if v.p = v.Kernel.Process(v.pid); v.p == nil {
		return unix.ENOENT
	}
	v.t = v.p.Leader()
	if v.tid != v.pid {
		if v.t = v.Kernel.Task(v.tid); v.t == nil || v.t.PID() != v.pid {
			return unix.ENOENT
		}
	}
	return nil
}

// asker returns the task that looks, nil when it is not known.
func (v *view) asker() *task.Task {
	if v.ctx == nil || v.ctx.TID == 0 {
		return nil
	}
	return v.Kernel.Task(v.ctx.TID)
}

// allowed checks a private row: EACCES.
func (n *node) allowed(v *view) error {
	if !n.row.private || v.ctx == nil || v.ctx.TID == 0 {
		return nil
	}
	t := v.Kernel.Task(v.ctx.TID)
	if t == nil || t.MayAccess(v.p) != nil {
		return unix.EACCES
	}
	return nil
}

// Permit implements vfs.Permitter: a process may always look at its own descriptors, whoever it is by now (proc_pid_fd(5)).
func (n *node) Permit(ctx *vfs.Context) bool {
	_, ok := n.row.more.(descriptors)
	return ok && ctx.PID == n.pid
}

// inode makes the inode of a row about s.
func (v *view) inode(r *row, s subject) *vfs.Inode {
	nn := vfs.NewNode{Mode: r.mode}
	born := int64(0)
	if s.pid != 0 {
		if p := v.Kernel.Process(s.pid); p != nil {
			born = p.Started()
			if p.Dumpable() {
				c := p.Cred()
				nn.UID, nn.GID = c.EUID, c.EGID
			}
		}
	}
	i := v.fs.NewInode(&node{fs: v.FS, row: r, subject: s, born: born}, &nn, nil)
	i.Ino = number64(r, s)
	return i
}

// number64 makes an inode number that stays the same from look to look.
func number64(r *row, s subject) uint64 {
	return uint64(uint32(s.tid))<<38 ^ uint64(uint32(s.fd+1))<<14 ^ s.start<<2 ^ r.id
}

// Process returns the process whose directory n is, nil when that is gone; ok is false for everything else.
func (n *node) Process() (p *task.Process, ok bool) {
	if n.row != processRow {
		return nil, false
	}
	v, err := n.view(nil)
	if err != nil {
		return nil, true
	}
	return v.p, true
}

// IsHollow implements vfs.Hollow.
func (n *node) IsHollow(i *vfs.Inode) bool {
	return i.IsDir() && n.row.more == nil && n.row.named == nil && len(n.fs.entries(n.row)) == 0
}

// Lookup implements vfs.InodeOps.
func (n *node) Lookup(ctx *vfs.Context, _ *vfs.Dentry, name string) (*vfs.Inode, error) {
	v, err := n.view(ctx)
	if err != nil {
		return nil, err
	}
	if n.pid != 0 && !v.mayLook(v.p) {
		return nil, unix.EPERM
	}
	if r := find(n.fs.entries(n.row), name); r != nil && n.shows(r) {
		return v.inode(r, n.subject), nil
	}
	if n.row.more == nil && n.row.named == nil {
		return nil, unix.ENOENT
	}
	if err := n.allowed(v); err != nil {
		return nil, err
	}
	if n.row.named != nil {
		r, s, err := n.row.named.findName(v, name)
		if err != nil {
			return nil, err
		}
		return v.inode(r, s), nil
	}
	num, err := strconv.ParseInt(name, 10, 32)
	if err != nil || num < 0 || strconv.FormatInt(num, 10) != name {
		return nil, unix.ENOENT
	}
	r, s, err := n.row.more.find(v, int32(num))
	if err != nil {
		return nil, err
	}
	return v.inode(r, s), nil
}

// Refresh implements vfs.Refresher: a directory has a link for each directory in it.
func (n *node) Refresh(i *vfs.Inode) error {
	if !i.IsDir() {
		return nil
	}
	links := uint32(2)
	for _, r := range n.fs.entries(n.row) {
		if r.mode&unix.S_IFMT == unix.S_IFDIR && n.shows(r) {
			links++
		}
	}
	switch n.row.more.(type) {
	case processes, threads:
		if v, err := n.view(nil); err == nil {
			list, _ := n.row.more.list(v)
			links += uint32(len(list))
		}
	}
	i.SetNlink(links)
	return nil
}

// shows reports whether the mount shows r, an entry of n: with subset=pid only processes, and what leads to them.
func (n *node) shows(r *row) bool {
	return n.row != n.fs.root || !n.fs.opts.Load().pidOnly || r.path == "self" || r.path == "thread-self"
}

// firstNumber is the offset behind the fixed entries, from which on the
// offset of a numbered entry is its number.
const firstNumber = 1 << 20

// Readdir implements vfs.InodeOps.
func (n *node) Readdir(ctx *vfs.Context, _ *vfs.Dentry, off int64, emit func(vfs.Dirent) bool) error {
	v, err := n.view(ctx)
	if err != nil {
		return err
	}
	const first = 3
	for k, r := range n.fs.entries(n.row) {
		next := int64(first + k)
		if !n.shows(r) {
			continue
		}
		if next > off && !emit(vfs.Dirent{Name: r.path, Ino: number64(r, n.subject), Mode: r.mode, Next: next}) {
			return nil
		}
	}
	if n.row.more == nil && n.row.named == nil {
		return nil
	}
	if err := n.allowed(v); err != nil {
		return err
	}
	if n.row.named != nil {
		return n.readNamed(v, off, emit)
	}
	list, err := n.row.more.list(v)
	if err != nil {
		return err
	}
	for _, num := range list {
		next := firstNumber + int64(num)
		if next <= off {
			continue
		}
		r, s, err := n.row.more.find(v, num)
		if err != nil {
			continue // gone meanwhile
		}
		if !emit(vfs.Dirent{Name: strconv.Itoa(int(num)), Ino: number64(r, s), Mode: r.mode, Next: next}) {
			return nil
		}
	}
	return nil
}

// readNamed is Readdir for the entries of n.row.named.
func (n *node) readNamed(v *view, off int64, emit func(vfs.Dirent) bool) error {
	for k, name := range n.row.named.names(v) {
		next := firstNumber + int64(k)
		if next <= off {
			continue
		}
		r, s, err := n.row.named.findName(v, name)
		if err != nil {
			continue // gone meanwhile
		}
		if !emit(vfs.Dirent{Name: name, Ino: number64(r, s), Mode: r.mode, Next: next}) {
			return nil
		}
	}
	return nil
}

// Readlink implements vfs.InodeOps.
func (n *node) Readlink(ctx *vfs.Context, _ *vfs.Inode) (string, error) {
	v, err := n.view(ctx)
	if err != nil {
		return "", err
	}
	if n.row.text != nil {
		return n.row.text(v)
	}
	p, err := n.target(v)
	if err != nil {
		return "", err
	}
	return vfs.LinkName(p, ctx.Root), nil
}

func (n *node) target(v *view) (vfs.Path, error) {
	if err := n.allowed(v); err != nil {
		return vfs.Path{}, err
	}
	return n.row.jump(v)
}

// Follow implements vfs.InodeOps.
func (n *node) Follow(ctx *vfs.Context, _ *vfs.Inode) (vfs.Path, error) {
	if n.row.jump == nil {
		return vfs.Path{}, nil
	}
	v, err := n.view(ctx)
	if err != nil {
		return vfs.Path{}, err
	}
	if n.row.follow != nil {
		if err := n.row.follow(v); err != nil {
			return vfs.Path{}, err
		}
	}
	return n.target(v)
}

// Open implements vfs.InodeOps: EACCES for writing what cannot be written.
func (n *node) Open(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	if n.row.mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	v, err := n.view(ctx)
	if err != nil {
		return nil, err
	}
	if n.row.bound { // before the check: it may have executed another program by then, which then is not that to be shown
		v.bind()
	}
	if err := n.allowed(v); err != nil {
		return nil, err
	}
	if n.row.open != nil {
		return n.row.open(v)
	}
	if f.Writable() && n.row.store == nil {
		return nil, unix.EACCES
	}
	return &shown{node: n, tid: ctx.TID, space: v.space}, nil
}

// Evict implements vfs.InodeOps.
func (n *node) Evict(*vfs.Inode) {}

// shown is an open file: its contents as they were when it was last read from the start.
type shown struct {
	vfs.FileDefaults
	node  *node
	tid   int32            // of who opened it
	space *mm.AddressSpace // that it is bound to

	mu   sync.Mutex
	b    []byte // replaced, never changed; guarded by mu
	made bool   // guarded by mu
}

// contents returns what a read at off is to see: a read of the start makes it anew. ENOENT when what it is about is gone.
func (s *shown) contents(f *vfs.File, off int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off == 0 || !s.made {
		v, err := s.node.view(&vfs.Context{Cred: f.Cred(), TID: s.tid})
		if err != nil {
			return nil, err
		}
		v.bound, v.space = s.node.row.bound, s.space
		b := out{}
		if err := s.node.row.show(v, &b); err != nil {
			return nil, err
		}
		s.b, s.made = b.b, true
	}
	return s.b, nil
}

// Read implements vfs.FileOps.
func (s *shown) Read(f *vfs.File, dst uio.Sink, off int64) (int64, error) {
	b, err := s.contents(f, off)
	if err != nil || off >= int64(len(b)) {
		return 0, err
	}
	n, err := dst.Put(b[off:])
	if n > 0 {
		err = nil
	}
	return int64(n), err
}

// maxStore is the most that one write may bring.
const maxStore = 4096

// Write implements vfs.FileOps: one write is one value.
func (s *shown) Write(f *vfs.File, src uio.Source, _ int64) (int64, error) {
	if src.Left() > maxStore {
		return 0, unix.EINVAL
	}
	buf := make([]byte, src.Left())
	n, err := src.Take(buf)
	if err != nil {
		return 0, err
	}
	v, err := s.node.view(&vfs.Context{Cred: f.Cred(), TID: s.tid})
	if err != nil {
		return 0, err
	}
	if err := s.node.row.store(v, string(buf[:n])); err != nil {
		return 0, err
	}
	return int64(n), nil
}

// Truncate implements vfs.FileOps: the shell's > means nothing here.
func (s *shown) Truncate(*vfs.File, int64) error { return nil }

// Seek implements vfs.FileOps.
func (s *shown) Seek(_ *vfs.File, off int64, whence int) (int64, error) {
	if whence != unix.SEEK_END || off > math.MaxInt32 {
		return 0, unix.EINVAL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.b)) + off, nil
}
