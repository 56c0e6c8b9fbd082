package blockdev

import (
	"encoding/binary"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// Loop devices (loop(4)): disks whose contents are a file. They are made by /dev/loop-control.

// Sizes of struct loop_info64 and loop_config, and the most loop devices there are.
const (
	loopInfoSize   = 232
	loopConfigSize = 304
	maxLoops       = 256

	loAutoclear = 4
	loPartScan  = 8
	loReadOnly  = 1
	loSettable  = loAutoclear | loPartScan
)

// loops are the loop devices that were made.
type loops struct {
	control sync.Mutex // held while one is made or taken away; taken before all others

	mu sync.Mutex
	// list is by number.
	list map[int]*loop // +checklocks:mu
}

// loop is one; without a file it has no size.
type loop struct {
	number int
	disk   *block.Disk // set before it is in the list

	mu sync.Mutex
	// gone: it is taken away.
	gone bool // +checklocks:mu
	// file is nil when it is free.
	file *vfs.File // +checklocks:mu
	// offset and limit are of the file's part.
	offset    int64    // +checklocks:mu
	limit     int64    // +checklocks:mu
	flags     uint32   // +checklocks:mu
	blockSize int      // +checklocks:mu
	name      [64]byte // +checklocks:mu
}

// Limits implements block.Device.
func (l *loop) Limits() block.Limits {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := block.Limits{BlockSize: 512, PhysicalSize: 512, Queues: 1, Cached: true, MaxDiscard: 1 << 30, DiscardAlign: 4096, MaxZeroes: 1 << 30}
	if l.file == nil {
		return b
	}
	b.BlockSize, b.PhysicalSize = l.blockSize, l.blockSize
	b.Size = max(sizeOf(l.file)-l.offset, 0)
	if l.limit > 0 {
		b.Size = min(b.Size, l.limit)
	}
	b.Size &^= int64(b.BlockSize - 1)
	b.ReadOnly = l.flags&loReadOnly != 0
	return b
}

func sizeOf(f *vfs.File) int64 {
	if n, err := f.Ops().Seek(f, 0, unix.SEEK_END); err == nil {
		return n
	}
	return 0
}

// Do implements block.Device.
func (l *loop) Do(r *block.Request) error {
	l.mu.Lock()
	f, off := l.file, l.offset+r.Off
	if f != nil {
		f.IncRef()
	}
	l.mu.Unlock()
	if f == nil {
		return unix.EIO
	}
	defer f.DecRef()
	switch r.Op {
	case block.Flush:
		return f.Sync()
	case block.Discard, block.WriteZeroes:
		return punch(f, off, r)
	}
	for _, s := range r.Data {
		for b := s.Bytes; len(b) > 0; {
			buf := uio.Buffer(b)
			var n int64
			var err error
			if r.Op == block.Read {
				n, err = f.Ops().Read(f, &buf, off)
			} else {
				n, err = f.Ops().Write(f, &buf, off)
			}
			if err != nil || n == 0 {
				if err == unix.ENOSPC {
					return err
				}
				return unix.EIO
			}
			b, off = b[n:], off+n
		}
	}
	if r.Durable {
		return f.Sync()
	}
	return nil
}

// punch makes a part of the file a hole; where that cannot be, zeros are written.
func punch(f *vfs.File, off int64, r *block.Request) error {
	err := f.Ops().Allocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, r.Len)
	if err == nil || r.Op == block.Discard {
		return err
	}
	var zeros [4096]byte
	for left := r.Len; left > 0; {
		buf := uio.Buffer(zeros[:min(left, int64(len(zeros)))])
		n, err := f.Ops().Write(f, &buf, off)
		if err != nil || n == 0 {
			return unix.EIO
		}
		off, left = off+n, left-n
	}
	return nil
}

// loop returns the loop device that a disk is, or nil.
func (b *Files) loop(d *block.Disk) *loop {
	if d.Major != block.MajorLoop {
		return nil
	}
	l := b.loopNumber(int(d.Minor))
	if l == nil { // it is known as a disk before it is listed here
		b.loops.control.Lock()
		l = b.loopNumber(int(d.Minor))
		b.loops.control.Unlock()
	}
	if l == nil || l.disk != d {
		return nil
	}
	return l
}

func (b *Files) loopNumber(n int) *loop {
	b.loops.mu.Lock()
	defer b.loops.mu.Unlock()
	return b.loops.list[n]
}

// addLoop makes loop device n: EEXIST, ENOSPC.
func (b *Files) addLoop(n int) error {
	if n < 0 || n >= maxLoops {
		return unix.ENOSPC
	}
	b.loops.control.Lock()
	defer b.loops.control.Unlock()
	if b.loopNumber(n) != nil {
		return unix.EEXIST
	}
	l := &loop{number: n, blockSize: 512}
	l.disk = b.disks.AddNumber(block.Loop, n, l)
	b.loops.mu.Lock()
	defer b.loops.mu.Unlock()
	if b.loops.list == nil {
		b.loops.list = map[int]*loop{}
	}
	b.loops.list[n] = l
	return nil
}

// freeLoop returns the number of a loop device that has no file, made if need be: ENOSPC.
func (b *Files) freeLoop() (int, error) {
	for n := range maxLoops {
		l := b.loopNumber(n)
		if l == nil {
			if err := b.addLoop(n); err != unix.EEXIST {
				return n, err
			}
			continue // somebody made it just now, to use it
		}
		l.mu.Lock()
		free := l.file == nil && !l.gone
		l.mu.Unlock()
		if free {
			return n, nil
		}
	}
	return 0, unix.ENOSPC
}

// removeLoop takes loop device n away: ENODEV, EBUSY.
func (b *Files) removeLoop(n int) error {
	b.loops.control.Lock()
	defer b.loops.control.Unlock()
	l := b.loopNumber(n)
	if l == nil {
		return unix.ENODEV
	}
	l.mu.Lock()
	busy := l.file != nil
	l.gone = !busy
	l.mu.Unlock()
	if busy {
		return unix.EBUSY
	}
	if err := b.disks.Remove(l.disk); err != nil {
		l.mu.Lock()
		l.gone = false
		l.mu.Unlock()
		return err
	}
	b.loops.mu.Lock()
	delete(b.loops.list, n)
	b.loops.mu.Unlock()
	return nil
}

// loopControl is /dev/loop-control.
type loopControl struct {
	vfs.FileDefaults
	files *Files
}

// OpenLoopControl opens /dev/loop-control.
func (b *Files) OpenLoopControl(*vfs.Context, *vfs.File) (vfs.FileOps, error) {
	return &loopControl{files: b}, nil
}

func (c *loopControl) Ioctl(_ *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	if !a.Ctx.Cred.Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	n := int(int32(a.Arg))
	switch a.Cmd {
	case unix.LOOP_CTL_GET_FREE:
		n, err := c.files.freeLoop()
		return uint64(n), err
	case unix.LOOP_CTL_ADD:
		if n < 0 {
			n, err := c.files.freeLoop()
			return uint64(n), err
		}
		return uint64(n), c.files.addLoop(n)
	case unix.LOOP_CTL_REMOVE:
		return uint64(n), c.files.removeLoop(n)
	}
	return 0, unix.ENOTTY
}

// loopIoctl carries out a request to a loop device: EBUSY, ENXIO without a file, EBADF, EINVAL, EFAULT, EPERM.
func (b *Files) loopIoctl(l *loop, f *vfs.File, a *vfs.IoctlArgs) error {
	switch a.Cmd {
	case unix.LOOP_SET_FD:
		return b.bind(l, f, a, int(int32(a.Arg)), 0, nil)
	case unix.LOOP_CONFIGURE:
		var c [loopConfigSize]byte
		if _, err := a.Mem.CopyIn(c[:], a.Arg); err != nil {
			return err
		}
		le := binary.LittleEndian
		return b.bind(l, f, a, int(int32(le.Uint32(c[:]))), int(le.Uint32(c[4:])), c[8:8+loopInfoSize])
	case unix.LOOP_CLR_FD:
		return b.unbind(l)
	case unix.LOOP_GET_STATUS64:
		info, err := l.status()
		if err != nil {
			return err
		}
		return put(a, info)
	case unix.LOOP_SET_STATUS64:
		info := make([]byte, loopInfoSize)
		if _, err := a.Mem.CopyIn(info, a.Arg); err != nil {
			return err
		}
		if err := l.bound(); err != nil {
			return err
		}
		if err := b.bdev(l.disk).forget(); err != nil {
			return err
		}
		if err := l.setStatus(info, false); err != nil {
			return err
		}
		return b.resized(l)
	case unix.LOOP_SET_CAPACITY:
		if err := l.bound(); err != nil {
			return err
		}
		return b.resized(l)
	case unix.LOOP_SET_BLOCK_SIZE:
		n := int(a.Arg)
		if n < 512 || n > 4096 || n&(n-1) != 0 {
			return unix.EINVAL
		}
		if err := l.bound(); err != nil {
			return err
		}
		l.mu.Lock()
		l.blockSize = n
		l.mu.Unlock()
		return b.resized(l)
	case unix.LOOP_SET_DIRECT_IO:
		if a.Arg != 0 {
			return unix.EINVAL // the file's page cache is always used
		}
		return l.bound()
	}
	return unix.ENOTTY
}

// bound is ENXIO when l has no file.
func (l *loop) bound() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return unix.ENXIO
	}
	return nil
}

// bind gives l a file: EBADF, EINVAL for what is no file or disk, EBUSY.
func (b *Files) bind(l *loop, dev *vfs.File, a *vfs.IoctlArgs, fd, blockSize int, info []byte) error {
	f, err := b.fd(a.Task, fd)
	if err != nil {
		return err
	}
	typ := f.Inode().Type()
	if f.PathOnly() || typ != unix.S_IFREG && typ != unix.S_IFBLK || f.Inode() == dev.Inode() || blockSize != 0 && (blockSize < 512 || blockSize > 4096 || blockSize&(blockSize-1) != 0) {
		f.DecRef()
		return unix.EINVAL
	}
	l.mu.Lock()
	if l.file != nil || l.gone {
		err := unix.EBUSY
		if l.gone {
			err = unix.ENXIO
		}
		l.mu.Unlock()
		f.DecRef()
		return err
	}
	l.file, l.offset, l.limit, l.flags, l.blockSize, l.name = f, 0, 0, 0, max(blockSize, 512), [64]byte{}
	if !f.Writable() || !dev.Writable() {
		l.flags = loReadOnly
	}
	l.mu.Unlock()
	if info != nil {
		if err := l.setStatus(info, true); err != nil {
			_ = b.unbind(l)
			return err
		}
	}
	return b.resized(l)
}

// setStatus takes over offset, limit, flags and name: EINVAL, EOPNOTSUPP for encryption.
func (l *loop) setStatus(info []byte, fresh bool) error {
	le := binary.LittleEndian
	off, limit, flags := int64(le.Uint64(info[24:])), int64(le.Uint64(info[32:])), le.Uint32(info[52:])
	switch {
	case off < 0 || limit < 0:
		return unix.EINVAL
	case le.Uint32(info[44:]) != 0:
		return unix.EOPNOTSUPP
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offset, l.limit = off, limit
	l.flags = l.flags&^loSettable | flags&loSettable
	if fresh && flags&loReadOnly != 0 {
		l.flags |= loReadOnly
	}
	l.name = [64]byte(info[56:120])
	l.name[63] = 0
	return nil
}

// status is struct loop_info64: ENXIO.
func (l *loop) status() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil, unix.ENXIO
	}
	le := binary.LittleEndian
	b := make([]byte, loopInfoSize)
	i := l.file.Inode()
	le.PutUint64(b, i.FS().Dev)
	le.PutUint64(b[8:], i.Ino)
	le.PutUint64(b[16:], i.Rdev)
	le.PutUint64(b[24:], uint64(l.offset))
	le.PutUint64(b[32:], uint64(l.limit))
	le.PutUint32(b[40:], uint32(l.number))
	le.PutUint32(b[52:], l.flags)
	copy(b[56:], l.name[:])
	return b, nil
}

// resized makes the disk's size, cache and partitions what they are now.
func (b *Files) resized(l *loop) error {
	l.disk.Refresh()
	d := b.bdev(l.disk)
	d.cache.Drop(0, 1<<63)
	if err := d.cache.Truncate(l.disk.Size()); err != nil {
		return err
	}
	l.mu.Lock()
	bound := l.file != nil
	scan := l.flags&loPartScan != 0 && l.file != nil
	l.mu.Unlock()
	if b.sys != nil {
		if bound {
			b.showLoop(l.disk)
		} else {
			b.sys.Remove(place(l.disk) + "/loop")
		}
	}
	if scan || len(l.disk.Parts()) > 0 {
		if err := b.disks.Rescan(l.disk); err != nil && err != unix.EBUSY {
			return err
		}
	}
	return nil
}

// unbind takes l's file away: ENXIO, EBUSY while it is mounted.
func (b *Files) unbind(l *loop) error {
	if err := l.bound(); err != nil {
		return err
	}
	d := b.bdev(l.disk)
	if err := l.disk.Claim(d); err != nil {
		// In use: it goes when the last user does.
		l.mu.Lock()
		l.flags |= loAutoclear
		l.mu.Unlock()
		return nil
	}
	defer l.disk.Release()
	_ = d.flush() // what cannot be written is lost with the file
	l.mu.Lock()
	f := l.file
	l.file, l.flags = nil, 0
	l.mu.Unlock()
	err := b.resized(l)
	if f != nil {
		f.DecRef()
	}
	return err
}

// Idle is called when a disk was closed or unmounted: a loop device that is to be cleared then loses its file.
func (b *Files) Idle(d *block.Disk) {
	l := b.loop(d)
	if l == nil {
		return
	}
	l.mu.Lock()
	auto := l.file != nil && l.flags&loAutoclear != 0
	l.mu.Unlock()
	s := b.bdev(d)
	s.count.Lock()
	auto = auto && s.opens == 0
	s.count.Unlock()
	if auto && !d.Claimed() {
		_ = b.unbind(l)
	}
}

// BackingFile is the name of a loop device's file, for /sys; empty when it has none.
func (b *Files) BackingFile(d *block.Disk) string {
	l := b.loop(d)
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return ""
	}
	return l.file.MapName()
}

// showLoop adds what /sys has of a loop device with a file beside what all disks have.
func (b *Files) showLoop(d *block.Disk) {
	at := place(d) + "/loop/"
	num := func(name string, of func(offset, limit int64, flags uint32) int64) {
		b.sys.Add(at+name, 0o444, func() string {
			l := b.loop(d)
			if l == nil {
				return ""
			}
			l.mu.Lock()
			offset, limit, flags := l.offset, l.limit, l.flags
			l.mu.Unlock()
			return strconv.FormatInt(of(offset, limit, flags), 10) + "\n"
		}, nil)
	}
	b.sys.Add(at+"backing_file", 0o444, func() string { return b.BackingFile(d) + "\n" }, nil)
	num("offset", func(offset, _ int64, _ uint32) int64 { return offset })
	num("sizelimit", func(_, limit int64, _ uint32) int64 { return limit })
	num("autoclear", func(_, _ int64, flags uint32) int64 { return int64(flags & loAutoclear / loAutoclear) })
	num("partscan", func(_, _ int64, flags uint32) int64 { return int64(flags & loPartScan / loPartScan) })
	num("dio", func(_, _ int64, _ uint32) int64 { return 0 })
}
