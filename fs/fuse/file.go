package fuse

import (
	"math"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// handle is a regular file that the server has open for us.
type handle struct {
	c     *contents
	fh    uint64
	flags uint32 // of open(2)
	open  uint32 // FOPEN_ flags
	refs  atomic.Int32
}

// newHandle enters a handle from the reply to OPEN or CREATE.
func (c *contents) newHandle(b []byte, flags uint32) *handle {
	h := &handle{c: c, fh: le.Uint64(b), flags: flags, open: le.Uint32(b[8:])}
	h.refs.Store(1)
	if h.open&fuseabi.OpenKeepCache == 0 {
		c.cache.Invalidate()
	}
	c.mu.Lock()
	c.handles = append(c.handles, h)
	c.mu.Unlock()
	return h
}

func (h *handle) reads() bool { return h.flags&unix.O_ACCMODE != unix.O_WRONLY }

// stores reports whether h writes where it is told to: with O_APPEND, servers write at the end.
func (h *handle) stores() bool {
	return h.flags&unix.O_ACCMODE != unix.O_RDONLY && h.flags&unix.O_APPEND == 0
}

// take returns a handle that fits, to be dropped; nil when there is none.
func (c *contents) take(fits func(*handle) bool) *handle {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.handles {
		if fits(h) {
			h.refs.Add(1)
			return h
		}
	}
	return nil
}

// drop gives a reference back; with the last, the server closes the file.
func (h *handle) drop() {
	if h.refs.Add(-1) == 0 {
		h.c.k.release(fuseabi.OpRelease, h.c.id, h.fh, h.flags)
	}
}

// close ends the use of h by whom it was opened for.
func (h *handle) close() {
	h.c.mu.Lock()
	if i := slices.Index(h.c.handles, h); i >= 0 {
		h.c.handles = slices.Delete(h.c.handles, i, i+1)
	}
	h.c.mu.Unlock()
	h.drop()
}

// dropSpare closes what CREATE opened and open(2) did not take.
func (c *contents) dropSpare() {
	c.mu.Lock()
	h := c.spare
	c.spare = nil
	c.mu.Unlock()
	if h != nil {
		h.close()
	}
}

// Open implements vfs.InodeOps.
func (n *node) Open(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	switch n.typ {
	case unix.S_IFDIR:
		return n.openDir(ctx, f)
	case unix.S_IFREG:
		return n.openFile(ctx, f)
	}
	return nil, nil
}

func (n *node) openFile(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	flags := openFlags(f.Flags()) &^ unix.O_TMPFILE
	n.mu.Lock()
	h := n.spare
	if h != nil && (h.flags^flags)&(unix.O_ACCMODE|unix.O_APPEND|unix.O_DIRECT|unix.O_SYNC) == 0 {
		n.spare = nil
	} else {
		h = nil
	}
	n.mu.Unlock()
	if h == nil {
		var m message
		m.u32(flags, 0)
		in := make([]byte, fuseabi.OpenOutSize)
		if err := n.k.exact(fuseabi.OpOpen, n.id, callerOf(ctx), m.b, in); err != nil {
			return nil, err
		}
		h = n.newHandle(in, flags)
	}
	return &file{n: n, h: h}, nil
}

// file is an open regular file.
type file struct {
	vfs.FileDefaults
	n *node
	h *handle
}

// direct reports whether reads and writes pass by the page cache.
func (o *file) direct(f *vfs.File) bool {
	return o.h.open&fuseabi.OpenDirectIO != 0 || f.Flags()&unix.O_DIRECT != 0
}

// Read implements vfs.FileOps.
func (o *file) Read(f *vfs.File, dst uio.Sink, off int64) (int64, error) {
	if o.direct(f) {
		return o.readDirect(dst, off)
	}
	if err := o.n.refreshData(f.Inode()); err != nil {
		return 0, err
	}
	return o.n.cache.ReadAt(dst, off)
}

func (o *file) readDirect(dst uio.Sink, off int64) (done int64, err error) {
	if err := o.n.flush(); err != nil {
		return 0, err
	}
	for dst.Left() > 0 && off < math.MaxInt64 {
		want := int(min(int64(dst.Left()), int64(o.n.k.maxWrite), math.MaxInt64-off))
		d, err := o.n.k.newData(want)
		if err != nil {
			return done, unless(done, err)
		}
		got, err := o.h.read(d.frames, off, want)
		if err != nil {
			got = 0
		}
		d.each(0, got, func(p []byte) bool {
			var m int
			m, err = dst.Put(p)
			done, off = done+int64(m), off+int64(m)
			if m < len(p) && err == nil {
				got = 0
			}
			return m == len(p) && err == nil
		})
		d.free()
		if err != nil || got < want {
			return done, unless(done, err)
		}
	}
	return done, nil
}

func unless(done int64, err error) error {
	if done > 0 {
		return nil
	}
	return err
}

// read fills frames with n bytes of the file at off and returns how many there are.
func (h *handle) read(frames []machine.Frame, off int64, n int) (int, error) {
	var m message
	m.u64(h.fh, uint64(off))
	m.u32(uint32(n), 0)
	m.u64(0)
	m.u32(h.flags, 0)
	got, err := h.c.k.callData(fuseabi.OpRead, h.c.id, caller{}, m.b, nil, frames, 0, n, false)
	if err == nil && got > n {
		err = unix.EIO
	}
	return got, err
}

// write writes n bytes that stand in frames, from the place of off in the first on, and returns how many the server took. flags are
// WRITE's, mode those of open(2) as they are now.
func (h *handle) write(frames []machine.Frame, off int64, n int, flags, mode uint32) (int, error) {
	var m message
	m.u64(h.fh, uint64(off))
	m.u32(uint32(n), flags)
	m.u64(0)
	m.u32(mode, 0)
	in := make([]byte, 8)
	got, err := h.c.k.callData(fuseabi.OpWrite, h.c.id, caller{}, m.b, in, frames, int(off%machine.PageSize), n, true)
	switch {
	case err != nil:
		return 0, err
	case got != len(in) || le.Uint32(in) > uint32(n):
		return 0, unix.EIO
	}
	return int(le.Uint32(in)), nil
}

// Write implements vfs.FileOps.
func (o *file) Write(f *vfs.File, src uio.Source, off int64) (int64, error) {
	return o.write(f, src, off, f.Flags()&unix.O_APPEND != 0)
}

// Append implements vfs.Appender.
func (o *file) Append(f *vfs.File, src uio.Source) (int64, error) { return o.write(f, src, 0, true) }

func (o *file) write(f *vfs.File, src uio.Source, off int64, atEnd bool) (done int64, err error) {
	i := f.Inode()
	i.Lock()
	defer i.Unlock()
	if atEnd {
		if err := o.n.refreshData(i); err != nil {
			return 0, err
		}
		off = o.n.cache.Size()
	}
	if off > math.MaxInt64-int64(src.Left()) {
		return 0, unix.EFBIG
	}
	if o.direct(f) {
		if err := o.n.flush(); err != nil {
			return 0, err
		}
	}
	if err := o.n.dropPrivileges(f.Cred(), i); err != nil {
		return 0, err
	}
	for src.Left() > 0 {
		n, err := o.writeSome(f, src, off)
		done, off = done+int64(n), off+int64(n)
		if err != nil || n == 0 {
			return done, unless(done, err)
		}
	}
	return done, nil
}

// dropPrivileges takes set-user-ID and set-group-ID away from a file that c changes: the server may not do so
// for those who ask through it. The inode is locked.
func (n *node) dropPrivileges(c *cred.Cred, i *vfs.Inode) error {
	if i.Mode()&(unix.S_ISUID|unix.S_ISGID) == 0 || c.CapableOver(i.UID(), i.GID(), unix.CAP_FSETID) {
		return nil
	}
	mode := i.WithoutPrivileges(c)
	if mode == i.Mode() {
		return nil
	}
	return n.setAttr(c, i, &vfs.Attr{Valid: vfs.AttrMode, Mode: mode}, nil)
}

// writeSome writes as much as one request carries.
func (o *file) writeSome(f *vfs.File, src uio.Source, off int64) (int, error) {
	in := int(off % machine.PageSize) // place in the first page
	want := min(src.Left(), o.n.k.maxWrite-in)
	d, err := o.n.k.newData(in + want)
	if err != nil {
		return 0, err
	}
	defer d.free()
	got := 0
	var fault error
	d.each(in, want, func(p []byte) bool {
		var n int
		n, fault = src.Take(p)
		got += n
		return fault == nil && n == len(p)
	})
	if got == 0 {
		return 0, fault
	}
	n, err := o.n.store(o.h, d.frames, off, got, openFlags(f.Flags()), !o.direct(f))
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, unix.EIO
	}
	if n < got {
		return n, unix.EIO // bytes were taken from src that went nowhere
	}
	return n, fault
}

// store has the server and the cache take n bytes in frames, and returns how many the server took; keep has the cache keep whole pages.
func (c *contents) store(h *handle, frames []machine.Frame, off int64, n int, mode uint32, keep bool) (int, error) {
	c.cache.HoldSync() // a page that was changed through a mapping before must not be written after this
	defer c.cache.ReleaseSync()
	n, err := h.write(frames, off, n, 0, mode)
	if err != nil {
		return 0, err
	}
	c.sizing.Lock()
	defer c.sizing.Unlock()
	c.cache.Store(off, n, frames, keep)
	c.touched()
	return n, nil
}

// Seek implements vfs.FileOps.
func (o *file) Seek(f *vfs.File, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_END:
		if err := o.n.refreshData(f.Inode()); err != nil {
			return 0, err
		}
		if off > 0 && o.n.cache.Size() > math.MaxInt64-off {
			return 0, unix.EINVAL
		}
		return o.n.cache.Size() + off, nil
	case unix.SEEK_DATA, unix.SEEK_HOLE:
		return o.seekHole(f, off, whence)
	}
	return 0, unix.EINVAL
}

func (o *file) seekHole(f *vfs.File, off int64, whence int) (int64, error) {
	if err := o.n.refreshData(f.Inode()); err != nil {
		return 0, err
	}
	size := o.n.cache.Size()
	if off < 0 || off >= size {
		return 0, unix.ENXIO
	}
	if !o.n.k.noLseek.Load() {
		if err := o.n.flush(); err != nil {
			return 0, err
		}
		var m message
		m.u64(o.h.fh, uint64(off))
		m.u32(uint32(whence), 0)
		in := make([]byte, 8)
		err := o.n.k.exact(fuseabi.OpLseek, o.n.id, caller{}, m.b, in)
		if err != unix.ENOSYS {
			if err == nil && le.Uint64(in) > math.MaxInt64 {
				err = unix.EIO
			}
			return int64(le.Uint64(in)), err
		}
		o.n.k.noLseek.Store(true)
	}
	if whence == unix.SEEK_DATA {
		return off, nil
	}
	return size, nil
}

// Ioctl implements vfs.FileOps.
func (o *file) Ioctl(f *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	if a.Cmd != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	pos, err := f.Seek(0, unix.SEEK_CUR)
	if err != nil {
		return 0, err
	}
	return 0, a.PutInt32(int32(min(max(o.n.cache.Size()-pos, 0), math.MaxInt32)))
}

// Map implements vfs.FileOps.
func (o *file) Map(*vfs.File) *mem.Cache {
	if o.h.open&fuseabi.OpenDirectIO != 0 {
		return nil
	}
	return o.n.cache
}

// Truncate implements vfs.FileOps.
func (o *file) Truncate(f *vfs.File, size int64) error {
	i := f.Inode()
	i.Lock()
	defer i.Unlock()
	if err := o.n.dropPrivileges(f.Cred(), i); err != nil {
		return err
	}
	return o.n.setAttr(f.Cred(), i, &vfs.Attr{Valid: vfs.AttrSize, Size: size}, o.h)
}

// Allocate implements vfs.FileOps.
func (o *file) Allocate(f *vfs.File, mode uint32, off, n int64) error {
	i := f.Inode()
	i.Lock()
	defer i.Unlock()
	const zeroes = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if o.n.k.noFallocate.Load() || mode&^(unix.FALLOC_FL_KEEP_SIZE|zeroes) != 0 {
		return unix.EOPNOTSUPP
	}
	if err := o.n.flush(); err != nil {
		return err
	}
	o.n.cache.HoldSync()
	defer o.n.cache.ReleaseSync()
	var m message
	m.u64(o.h.fh, uint64(off), uint64(n))
	m.u32(mode, 0)
	_, err := o.n.k.call(fuseabi.OpFallocate, o.n.id, callerCred(f.Cred()), m.b, nil)
	if err == unix.ENOSYS {
		o.n.k.noFallocate.Store(true)
		return unix.EOPNOTSUPP
	}
	if err != nil {
		return err
	}
	o.n.sizing.Lock()
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		o.n.cache.Resize(max(o.n.cache.Size(), off+n))
	}
	if mode&zeroes != 0 {
		o.n.cache.Clear(off, n)
	}
	o.n.touched()
	o.n.sizing.Unlock()
	return nil
}

// Sync implements vfs.FileOps.
func (o *file) Sync(*vfs.File) error {
	if err := o.n.flush(); err != nil {
		return err
	}
	if o.n.k.noFsync.Load() {
		return nil
	}
	return missing(o.n.fsync(fuseabi.OpFsync, o.h.fh), &o.n.k.noFsync)
}

func (c *contents) fsync(op uint32, fh uint64) error {
	var m message
	m.u64(fh)
	m.u32(0, 0)
	_, err := c.k.call(op, c.id, caller{}, m.b, nil)
	return err
}

// Release implements vfs.FileOps.
func (o *file) Release(*vfs.File) {
	if o.n.cache.Dirty() > 0 {
		_ = o.n.flush() // close(2) has returned, or a program is gone; who must know calls fsync(2)
	}
	o.h.close()
}

// flush writes what was changed through mappings, and waits for what is being written.
func (c *contents) flush() error {
	if c.cache == nil {
		return nil
	}
	return c.cache.Sync(0, math.MaxUint64)
}
