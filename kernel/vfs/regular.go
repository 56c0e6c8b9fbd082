package vfs

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/machine"
)

// cachedFile is a regular file whose contents are its page cache.
type cachedFile struct{ FileDefaults }

var cached FileOps = &cachedFile{}

// CachedFile is the FileOps of a regular file whose contents are its page cache, for file systems to embed.
type CachedFile = cachedFile

// Reserver is the InodeOps of regular files that need room elsewhere for what is written to their cache.
type Reserver interface {
	// Reserve is called before n bytes at off are written, with i locked: ENOSPC.
	Reserve(i *Inode, off, n int64) error
}

func (*cachedFile) Read(f *File, dst uio.Sink, off int64) (int64, error) {
	n, err := f.inode.cache.ReadAt(dst, off)
	if f.flags.Load()&unix.O_NOATIME == 0 {
		f.inode.accessed(f.path.Mount)
	}
	return n, err
}

func (o *cachedFile) Write(f *File, src uio.Source, off int64) (int64, error) {
	return o.write(f, src, off, f.flags.Load()&unix.O_APPEND != 0)
}

// Append implements Appender.
func (o *cachedFile) Append(f *File, src uio.Source) (int64, error) { return o.write(f, src, 0, true) }

func (*cachedFile) write(f *File, src uio.Source, off int64, atEnd bool) (int64, error) {
	i := f.inode
	if i.cache.IsHuge() {
		return 0, unix.EINVAL // hugetlbfs has no write(2)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if atEnd {
		off = i.cache.Size()
	}
	if src.Left() == 0 {
		return 0, nil
	}
	if err := i.mayWriteLocked(off, int64(src.Left())); err != nil {
		return 0, err
	}
	if r, ok := i.ops.(Reserver); ok {
		if err := r.Reserve(i, off, int64(src.Left())); err != nil {
			return 0, err
		}
	}
	i.dropPrivileges(f.cred)
	n, err := i.cache.WriteAt(src, off)
	if n > 0 {
		i.touch()
	}
	return n, noSpace(err)
}

// noSpace says ENOSPC where a file cannot grow because memory is full, as tmpfs(5) does.
func noSpace(err error) error {
	if err == unix.ENOMEM {
		return unix.ENOSPC
	}
	return err
}

// mayWriteLocked checks a write of n bytes at off: EINVAL, EPERM.
func (i *Inode) mayWriteLocked(off, n int64) error {
	if off > math.MaxInt64-n {
		return unix.EINVAL
	}
	return i.sealed(off, n)
}

// dropPrivileges takes set-user-ID and set-group-ID away from a file that
// changes, unless c may keep them (inode(7)); i.mu is held.
func (i *Inode) dropPrivileges(c *cred.Cred) {
	if i.mode.Load()&(unix.S_ISUID|unix.S_ISGID) != 0 && !i.capable(c, unix.CAP_FSETID) {
		i.mode.Store(i.WithoutPrivileges(c))
	}
}

// DropPrivileges takes set-user-ID and set-group-ID away from a file whose contents c changes, unless c may keep them. The inode is
// locked.
func (i *Inode) DropPrivileges(c *cred.Cred) { i.dropPrivileges(c) }

// WithoutPrivileges is the mode without set-user-ID and, if the group may execute
// or c is not in the group, set-group-ID.
func (i *Inode) WithoutPrivileges(c *cred.Cred) uint32 {
	mode := i.mode.Load() &^ unix.S_ISUID
	if mode&unix.S_IXGRP != 0 || !c.InGroup(i.gid.Load()) && !i.capable(c, unix.CAP_FSETID) {
		mode &^= unix.S_ISGID
	}
	return mode
}

func (*cachedFile) Seek(f *File, off int64, whence int) (int64, error) {
	c := f.inode.cache
	switch whence {
	case unix.SEEK_END:
		if off > 0 && c.Size() > math.MaxInt64-off {
			return 0, unix.EINVAL // as Linux; lseek(2) has EOVERFLOW
		}
		return c.Size() + off, nil
	case unix.SEEK_DATA, unix.SEEK_HOLE:
		return seekHole(c, off, whence)
	}
	return 0, unix.EINVAL
}

func seekHole(c *mem.Cache, off int64, whence int) (int64, error) {
	size := c.Size()
	switch {
	case off < 0 || off >= size:
		return 0, unix.ENXIO
	case c.Backed() && whence == unix.SEEK_DATA:
		return off, nil
	case c.Backed():
		return size, nil
	case whence == unix.SEEK_DATA:
		return c.NextData(off)
	}
	return c.NextHole(off)
}

func (*cachedFile) Ioctl(f *File, a *IoctlArgs) (uint64, error) {
	if a.Cmd != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	f.mu.Lock()
	left := f.inode.cache.Size() - f.pos
	f.mu.Unlock()
	return 0, a.PutInt32(int32(min(max(left, 0), math.MaxInt32)))
}

// PutInt32 stores the result that Arg points to: EFAULT.
func (a *IoctlArgs) PutInt32(v int32) error {
	b := [4]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}
	_, err := a.Mem.CopyOut(a.Arg, b[:])
	return err
}

func (*cachedFile) Map(f *File) *mem.Cache { return f.inode.cache }

// MapRead implements Mapped.
func (*cachedFile) MapRead(f *File) { f.inode.accessed(f.path.Mount) }

// MapWritten implements Mapped.
func (*cachedFile) MapWritten(f *File) { f.inode.touch() }

func (*cachedFile) Truncate(f *File, size int64) error { return f.inode.truncate(f.cred, size) }

func (*cachedFile) Allocate(f *File, mode uint32, off, n int64) error {
	i := f.inode
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.sealed(off, n); err != nil {
		return err
	}
	if i.cache.IsHuge() && mode&unix.FALLOC_FL_ZERO_RANGE != 0 {
		return unix.EOPNOTSUPP
	}
	var err error
	switch mode {
	case 0, unix.FALLOC_FL_KEEP_SIZE:
		err = i.allocate(off, n, mode == 0)
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE:
		err = i.cache.PunchHole(off, n)
	case unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE:
		if err = i.cache.PunchHole(off, n); err == nil {
			err = i.allocate(off, n, mode&unix.FALLOC_FL_KEEP_SIZE == 0)
		}
	default:
		return unix.EOPNOTSUPP
	}
	if err == nil {
		i.touch()
	}
	return noSpace(err)
}

// allocate puts pages behind a range, which grows the file unless it keeps its size.
func (i *Inode) allocate(off, n int64, grow bool) error {
	old := i.cache.Size()
	if grow && off+n > old {
		size := off + n
		if i.cache.IsHuge() {
			size = (size + machine.HugeSize - 1) &^ (machine.HugeSize - 1)
		}
		if err := i.cache.Truncate(size); err != nil {
			return err
		}
	}
	err := i.cache.Allocate(off, n)
	if err != nil && i.cache.Size() > old {
		i.cache.Truncate(old)
	}
	return err
}

func (*cachedFile) Sync(f *File) error {
	if f.inode.cache.Backed() {
		if err := f.inode.cache.Sync(0, math.MaxUint64); err != nil {
			return err
		}
	}
	return f.inode.fs.ops.Sync()
}

// mayTruncate checks what open(2) with O_TRUNC and truncate(2) need besides rights: ETXTBSY.
func (i *Inode) mayTruncate() error {
	if i.writers.Load() < 0 {
		return unix.ETXTBSY
	}
	return i.ops.MaySetAttr(i)
}

// truncate sets the size: EINVAL for what is not a regular file, EPERM, EFBIG.
func (i *Inode) truncate(c *cred.Cred, size int64) error {
	if i.Type() != unix.S_IFREG {
		return unix.EINVAL
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if o, ok := i.ops.(AttrOps); ok {
		now := i.fs.now()
		a := &Attr{Valid: AttrSize | AttrMtime | AttrCtime | AttrMtimeNow, Size: size, Mtime: now, Ctime: now}
		if i.mode.Load()&(unix.S_ISUID|unix.S_ISGID) != 0 && !i.capable(c, unix.CAP_FSETID) {
			a.Valid, a.Mode = a.Valid|AttrMode, i.WithoutPrivileges(c)
		}
		return o.SetAttr(c, i, a)
	}
	if i.cache == nil {
		return unix.EINVAL
	}
	if err := i.sealedSize(size); err != nil {
		return err
	}
	i.dropPrivileges(c)
	if err := i.cache.Truncate(size); err != nil {
		return err
	}
	i.touch()
	return nil
}
