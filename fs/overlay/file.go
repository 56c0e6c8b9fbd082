package overlay

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// Open implements vfs.InodeOps.
func (n *node) Open(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	i := f.Inode()
	if i.Type() != unix.S_IFREG {
		return nil, nil
	}
	if f.Writable() {
		if err := n.copyUp(i, -1); err != nil {
			return nil, err
		}
	}
	x := &openFile{n: n}
	if err := x.open(f, f.Flags()); err != nil {
		return nil, err
	}
	return x, nil
}

// openFile is an open regular file: it hands everything to the real one.
type openFile struct {
	vfs.FileDefaults
	n *node

	mu   sync.Mutex
	real *vfs.File // guarded by mu; replaced when the file is copied up
	up   bool      // guarded by mu; real is in the upper layer
	old  []*vfs.File
}

// openFlags are the flags that the real file is opened with, too.
const openFlags = unix.O_ACCMODE | unix.O_APPEND | unix.O_NOATIME | unix.O_DIRECT | unix.O_SYNC | unix.O_DSYNC | unix.O_NONBLOCK

func (x *openFile) open(f *vfs.File, flags int) error {
	up := x.n.upper.Load() != nil
	real, err := vfs.Reopen(x.n.real(), f.Cred(), flags&openFlags)
	if err == nil {
		x.real, x.up = real, up
	}
	return err
}

// file returns the real file, that in the upper layer if there is one by now.
func (x *openFile) file(f *vfs.File) *vfs.File {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.up && x.n.upper.Load() != nil {
		old := x.real
		if x.open(f, f.Flags()) == nil {
			// Somebody may be reading from it.
			x.old = append(x.old, old)
		}
	}
	return x.real
}

// Read implements vfs.FileOps.
func (x *openFile) Read(f *vfs.File, dst uio.Sink, off int64) (int64, error) {
	return x.file(f).Pread(dst, off)
}

// Write implements vfs.FileOps.
func (x *openFile) Write(f *vfs.File, src uio.Source, off int64) (int64, error) {
	return x.file(f).Pwrite(src, off)
}

// Append implements vfs.Appender.
func (x *openFile) Append(f *vfs.File, src uio.Source) (int64, error) {
	return x.file(f).Append(src, false)
}

// Seek implements vfs.FileOps.
func (x *openFile) Seek(f *vfs.File, off int64, whence int) (int64, error) {
	return x.file(f).Seek(off, whence)
}

// Ioctl implements vfs.FileOps.
func (x *openFile) Ioctl(f *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	if a.Cmd == unix.TIOCINQ { // which depends on the position
		pos, err := f.Seek(0, unix.SEEK_CUR)
		if err != nil {
			return 0, err
		}
		return 0, a.PutInt32(int32(min(max(f.Inode().Size()-pos, 0), math.MaxInt32)))
	}
	return x.file(f).Ioctl(a)
}

// Map implements vfs.FileOps.
func (x *openFile) Map(f *vfs.File) *mem.Cache { return x.file(f).MapCache() }

// MapRead implements vfs.Mapped: Map has told the real file, whose times Refresh shows.
func (x *openFile) MapRead(*vfs.File) {}

// MapWritten implements vfs.Mapped: who stores has opened the upper file.
func (x *openFile) MapWritten(*vfs.File) {
	x.mu.Lock()
	real := x.real
	x.mu.Unlock()
	real.MapWritten()
}

// Truncate implements vfs.FileOps.
func (x *openFile) Truncate(f *vfs.File, size int64) error {
	err := x.file(f).Truncate(size)
	x.n.refresh(f.Inode())
	return err
}

// Allocate implements vfs.FileOps.
func (x *openFile) Allocate(f *vfs.File, mode uint32, off, n int64) error {
	return x.file(f).Allocate(mode, off, n)
}

// Sync implements vfs.FileOps.
func (x *openFile) Sync(f *vfs.File) error { return x.file(f).Sync() }

// SetFlags implements vfs.FileOps.
func (x *openFile) SetFlags(f *vfs.File, flags uint32) error {
	return x.file(f).SetFlags(f.Cred(), int(flags))
}

// Release implements vfs.FileOps.
func (x *openFile) Release(*vfs.File) {
	x.mu.Lock()
	all := append(x.old, x.real)
	x.mu.Unlock()
	for _, f := range all {
		f.DecRef()
	}
}
