// Package blockdev makes device files of disks: reading, writing and mapping through a page cache that all openers of a
// disk share, O_DIRECT past it, and the ioctls of disks (linux/fs.h, linux/hdreg.h).
//
// Lock order: bdev.use → the locks of package mem. It keeps direct writes and discards apart from cached writes, so that no write of a
// part of a page brings back what was beside it before; direct writes go side by side.
package blockdev

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// Files makes device files of the disks of a registry.
type Files struct {
	disks *block.Registry
	pool  *mem.Pool
	fd    func(caller any, fd int) (*vfs.File, error)
	loops loops
	sys   Tree // nil: there is no /sys
}

// New returns a Files over a registry. fd returns the open file, with a reference, that a descriptor of the caller of
// an ioctl (vfs.IoctlArgs.Task) stands for.
func New(disks *block.Registry, pool *mem.Pool, fd func(caller any, fd int) (*vfs.File, error)) *Files {
	return &Files{disks: disks, pool: pool, fd: fd}
}

// bdev is what the open files of one disk share.
type bdev struct {
	disk  *block.Disk
	pool  *mem.Pool
	cache *mem.Cache

	use   sides
	opens int // guarded by count
	count sync.Mutex
}

func (b *Files) bdev(d *block.Disk) *bdev {
	return d.Private(func() any {
		s := &bdev{disk: d, pool: b.pool}
		s.cache = mem.NewCache(b.pool, &pages{d, b.pool})
		_ = s.cache.Truncate(d.Size()) // an empty cache of a valid size: nothing can fail
		return s
	}).(*bdev)
}

// Open returns what opens the device files of a disk: EBUSY with O_EXCL when somebody claims it. As on Linux, a read-only one can be opened for
// writing.
func (b *Files) Open(d *block.Disk) vfs.OpenDevice {
	return func(_ *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
		o := &file{files: b, bdev: b.bdev(d)}
		if f.Exclusive() {
			if err := d.Claim(o); err != nil {
				return nil, err
			}
			o.claimed = true
		}
		o.count.Lock()
		o.opens++
		o.count.Unlock()
		return o, nil
	}
}

// BlockSize returns the logical block of the disk that a device number stands for, 0 for none.
func (b *Files) BlockSize(rdev uint64) int {
	if d := b.disks.ByNumber(unix.Major(rdev), unix.Minor(rdev)); d != nil {
		return d.Limits().BlockSize
	}
	return 0
}

// Flush writes a disk's cached pages and makes them durable.
func (b *bdev) flush() error {
	if err := b.cache.Sync(0, math.MaxUint64); err != nil {
		return err
	}
	return b.disk.Flush()
}

// forget writes the cached pages and gives them up, so that others may change the disk below the cache.
func (b *bdev) forget() error {
	err := b.flush()
	b.cache.Drop(0, math.MaxUint64)
	return err
}

// Forget writes what programs wrote to the disk's device file and drops its cache; for file systems that are
// to be mounted from it.
func (b *Files) Forget(d *block.Disk) error { return b.bdev(d).forget() }

// SyncAll writes the cached pages of all disks (sync(2)).
func (b *Files) SyncAll() {
	for _, d := range b.disks.Disks() {
		_ = b.bdev(d).flush() // fsync(2) tells of it
	}
}

// pages is the mem.RangeBacking of a disk.
type pages struct {
	d    *block.Disk
	pool *mem.Pool
}

func (p *pages) ReadPage(index uint64, page []byte) error {
	return p.d.ReadAt(page[:p.inside(index, 1)], int64(index)*machine.PageSize)
}

func (p *pages) WritePage(index uint64, page []byte) error {
	return p.d.WriteAt(page[:p.inside(index, 1)], int64(index)*machine.PageSize, false)
}

// inside is how many bytes of n pages from index on are on the disk.
func (p *pages) inside(index uint64, n int) int64 {
	return min(int64(n)*machine.PageSize, p.d.Size()-int64(index)*machine.PageSize)
}

func (p *pages) ReadPages(index uint64, frames []machine.Frame) error {
	return p.move(block.Read, index, frames)
}

func (p *pages) WritePages(index uint64, frames []machine.Frame) error {
	return p.move(block.Write, index, frames)
}

func (p *pages) move(op block.Op, index uint64, frames []machine.Frame) error {
	n := p.inside(index, len(frames))
	r := block.Request{Op: op, Off: int64(index) * machine.PageSize, Len: n, Data: Segments(p.pool, frames, n)}
	return p.d.Do(&r)
}

// Segments returns n bytes in the frames of pages as segments of a request, neighbours joined.
func Segments(pool *mem.Pool, frames []machine.Frame, n int64) []block.Segment {
	list := make([]block.Segment, 0, len(frames))
	for i := 0; i < len(frames) && n > 0; {
		run := 1
		for i+run < len(frames) && frames[i+run] == frames[i]+machine.Frame(run) {
			run++
		}
		size := min(int64(run)*machine.PageSize, n)
		list = append(list, block.Segment{Bytes: pool.BytesRun(frames[i], run)[:size], Addr: uint64(frames[i]) * machine.PageSize})
		n -= size
		i += run
	}
	return list
}

// file is an open device file of a disk.
type file struct {
	vfs.FileDefaults
	*bdev
	files   *Files
	claimed bool
}

func (o *file) Release(*vfs.File) {
	o.count.Lock()
	o.opens--
	last := o.opens == 0
	o.count.Unlock()
	if last {
		_ = o.flush() // fsync(2) would have told of an error
	}
	if o.claimed {
		o.disk.Release()
	}
	if last {
		o.files.Idle(o.disk)
	}
}

const directFlag = unix.O_DIRECT

func (o *file) Read(f *vfs.File, dst uio.Sink, off int64) (int64, error) {
	if f.Flags()&directFlag != 0 {
		return o.readDirect(dst, off)
	}
	return o.cache.ReadAt(dst, off)
}

// limited is a Source cut to n bytes.
type limited struct {
	uio.Source
	n int
}

func (l *limited) Left() int { return min(l.n, l.Source.Left()) }

func (l *limited) Take(p []byte) (int, error) {
	n, err := l.Source.Take(p[:min(len(p), l.n)])
	l.n -= n
	return n, err
}

func (l *limited) TakeWord(most uint64) (uint64, error) {
	if l.n < 8 {
		return 0, unix.EFAULT
	}
	v, err := l.Source.TakeWord(most)
	if err == nil && v <= most {
		l.n -= 8
	}
	return v, err
}

func (o *file) Write(f *vfs.File, src uio.Source, off int64) (n int64, err error) {
	left := o.disk.Size() - off
	switch {
	case o.disk.ReadOnly():
		return 0, unix.EPERM
	case src.Left() == 0:
		return 0, nil
	case left <= 0:
		return 0, unix.ENOSPC
	case int64(src.Left()) > left:
		src = &limited{src, int(left)}
	}
	if f.Flags()&directFlag != 0 {
		n, err = o.writeDirect(src, off)
	} else {
		o.use.enter(cached)
		n, err = o.cache.WriteAt(src, off)
		o.use.leave(cached)
	}
	if n > 0 && f.Flags()&unix.O_DSYNC != 0 {
		if serr := o.flush(); serr != nil {
			return 0, serr
		}
	}
	return n, err
}

// Append implements vfs.Appender: nothing fits behind the end of a disk.
func (o *file) Append(f *vfs.File, src uio.Source) (int64, error) {
	return o.Write(f, src, o.disk.Size())
}

// aligned checks the offset and length of a direct transfer: EINVAL.
func (o *file) aligned(off int64, n int) error {
	if mask := int64(o.disk.Limits().BlockSize - 1); (off|int64(n))&mask != 0 {
		return unix.EINVAL
	}
	return nil
}

func (o *file) readDirect(dst uio.Sink, off int64) (done int64, err error) {
	if err := o.aligned(off, dst.Left()); err != nil {
		return 0, err
	}
	left := min(int64(dst.Left()), o.disk.Size()-off)
	if left <= 0 {
		return 0, nil
	}
	if err := o.cache.Sync(uint64(off)/machine.PageSize, uint64(off+left-1)/machine.PageSize); err != nil {
		return 0, err
	}
	b, err := o.disk.Bounce(int(min(left, block.MaxBounce*machine.PageSize)))
	if err != nil {
		return 0, err
	}
	defer b.Close()
	for left > 0 {
		want := int(min(left, int64(len(b.Bytes))))
		if err := b.Move(block.Read, want, off, false); err != nil {
			return done, unlessDone(done, err)
		}
		n, err := dst.Put(b.Bytes[:want])
		done, off, left = done+int64(n), off+int64(n), left-int64(n)
		if err != nil || n < want {
			return done, unlessDone(done, err)
		}
	}
	return done, nil
}

func (o *file) writeDirect(src uio.Source, off int64) (done int64, err error) {
	if err := o.aligned(off, src.Left()); err != nil {
		return 0, err
	}
	o.use.enter(direct)
	defer o.use.leave(direct)
	first, last := uint64(off)/machine.PageSize, uint64(off+int64(src.Left())-1)/machine.PageSize
	if err := o.cache.Sync(first, last); err != nil {
		return 0, err
	}
	defer o.cache.Drop(first, last)
	b, err := o.disk.Bounce(min(src.Left(), block.MaxBounce*machine.PageSize))
	if err != nil {
		return 0, err
	}
	defer b.Close()
	for src.Left() > 0 {
		n, err := src.Take(b.Bytes[:min(src.Left(), len(b.Bytes))])
		n &^= o.disk.Limits().BlockSize - 1
		if n > 0 {
			if werr := b.Move(block.Write, n, off, false); werr != nil {
				return done, unlessDone(done, werr)
			}
		}
		done, off = done+int64(n), off+int64(n)
		if err != nil || n == 0 {
			return done, unlessDone(done, err)
		}
	}
	return done, nil
}

func unlessDone(done int64, err error) error {
	if done > 0 {
		return nil
	}
	return err
}

func (o *file) Seek(_ *vfs.File, off int64, whence int) (int64, error) {
	size := o.disk.Size()
	switch whence {
	case unix.SEEK_END:
		if off > math.MaxInt64-size {
			return 0, unix.EOVERFLOW
		}
		return size + off, nil
	case unix.SEEK_DATA, unix.SEEK_HOLE:
		if off < 0 || off >= size {
			return 0, unix.ENXIO
		}
		if whence == unix.SEEK_HOLE {
			return size, nil
		}
		return off, nil
	}
	return 0, unix.EINVAL
}

func (o *file) Map(*vfs.File) *mem.Cache { return o.cache }

func (o *file) Sync(*vfs.File) error { return o.flush() }

// Allocate is fallocate(2) of a block device: punching a hole and zeroing only.
func (o *file) Allocate(_ *vfs.File, mode uint32, off, n int64) error {
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE:
	default:
		return unix.EOPNOTSUPP
	}
	if mode == unix.FALLOC_FL_PUNCH_HOLE {
		return unix.EOPNOTSUPP // it needs KEEP_SIZE (fallocate(2))
	}
	size := o.disk.Size()
	if off >= size {
		return unix.EINVAL
	}
	if n > size-off {
		if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
			return unix.EINVAL
		}
		n = size - off
	}
	return o.change(&block.Request{Op: block.WriteZeroes, Off: off, Len: n, Allocated: mode&unix.FALLOC_FL_ZERO_RANGE != 0})
}

// change carries out a request that changes the disk below the cache: EINVAL, EPERM.
func (o *file) change(r *block.Request) error {
	if err := o.aligned(r.Off, int(r.Len)); err != nil {
		return err
	}
	if o.disk.ReadOnly() {
		return unix.EPERM
	}
	o.use.enter(direct)
	defer o.use.leave(direct)
	first, last := uint64(r.Off)/machine.PageSize, uint64(r.Off+r.Len-1)/machine.PageSize
	if err := o.cache.Sync(first, last); err != nil {
		return err
	}
	if err := o.disk.Do(r); err != nil {
		return err
	}
	o.cache.Drop(first, last)
	return nil
}
