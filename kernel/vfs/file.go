package vfs

import (
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
)

// UserMemory is the memory of the program that makes a call.
type UserMemory interface {
	// CopyIn and CopyOut return the number of bytes copied, and EFAULT when that is not all.
	CopyIn(dst []byte, va uint64) (int, error)
	CopyOut(va uint64, src []byte) (int, error)
}

// IoctlArgs are the arguments of ioctl(2), with the caller they come from.
type IoctlArgs struct {
	Cmd uint32
	Arg uint64
	Mem UserMemory
	Ctx *Context
	// Task is the caller as the task layer knows it, for terminals.
	Task any
}

// FileOps is what one kind of open file does. FileDefaults is to be embedded.
// None of them blocks; what would have to wait returns EAGAIN.
type FileOps interface {
	// Read and Write move bytes at an offset, which streams ignore. A Read at
	// the end returns 0. They return an error only when nothing was moved.
	Read(f *File, dst uio.Sink, off int64) (int64, error)
	Write(f *File, src uio.Source, off int64) (int64, error)
	// Seek returns the position that lseek(2) asks for, when whence is not SEEK_SET or SEEK_CUR.
	Seek(f *File, off int64, whence int) (int64, error)
	// Readdir is InodeOps.Readdir for an open directory, with . and .. included.
	Readdir(ctx *Context, f *File, off int64, emit func(Dirent) bool) error
	// Ioctl is ioctl(2): ENOTTY for an unknown request.
	Ioctl(f *File, a *IoctlArgs) (uint64, error)
	// Poll returns which of the events in mask are true now; POLLERR and POLLHUP always count.
	Poll(f *File, mask wait.Mask) wait.Mask
	// Register puts e on the queue that is notified when Poll may have changed.
	Register(f *File, e *wait.Entry)
	// Unregister takes e off.
	Unregister(f *File, e *wait.Entry)
	// Map returns the cache that a mapping of the file shows, nil when there is none.
	Map(f *File) *mem.Cache
	// Truncate is ftruncate(2): EINVAL.
	Truncate(f *File, size int64) error
	// Allocate is fallocate(2): ENODEV, EOPNOTSUPP.
	Allocate(f *File, mode uint32, off, n int64) error
	// Sync is fsync(2): EINVAL.
	Sync(f *File) error
	// SetFlags is told of F_SETFL before it happens.
	SetFlags(f *File, flags uint32) error
	// Release is called when the last reference is gone.
	Release(f *File)
}

// FileDefaults is the FileOps of a file that can do nothing, and is always ready.
type FileDefaults struct{}

// Read is refused.
func (*FileDefaults) Read(*File, uio.Sink, int64) (int64, error) { return 0, unix.EINVAL }

// Write is refused.
func (*FileDefaults) Write(*File, uio.Source, int64) (int64, error) { return 0, unix.EINVAL }

// Seek is refused.
func (*FileDefaults) Seek(*File, int64, int) (int64, error) { return 0, unix.EINVAL }

// Readdir is refused.
func (*FileDefaults) Readdir(*Context, *File, int64, func(Dirent) bool) error { return unix.ENOTDIR }

// Ioctl knows no request.
func (*FileDefaults) Ioctl(*File, *IoctlArgs) (uint64, error) { return 0, unix.ENOTTY }

// Poll is always ready to read and write (poll(2) on regular files).
func (*FileDefaults) Poll(_ *File, mask wait.Mask) wait.Mask {
	return mask & (unix.POLLIN | unix.POLLOUT | unix.EPOLLRDNORM | unix.EPOLLWRNORM)
}

// Register has no queue to put e on, as nothing changes.
func (*FileDefaults) Register(*File, *wait.Entry) {}

// Unregister undoes Register.
func (*FileDefaults) Unregister(*File, *wait.Entry) {}

// Map is refused.
func (*FileDefaults) Map(*File) *mem.Cache { return nil }

// Truncate is refused.
func (*FileDefaults) Truncate(*File, int64) error { return unix.EINVAL }

// Allocate is refused.
func (*FileDefaults) Allocate(*File, uint32, int64, int64) error { return unix.ENODEV }

// Sync is refused.
func (*FileDefaults) Sync(*File) error { return unix.EINVAL }

// SetFlags takes all flags.
func (*FileDefaults) SetFlags(*File, uint32) error { return nil }

// Release has nothing to do.
func (*FileDefaults) Release(*File) {}

// Kinds of open file.
const (
	canRead   = 1 << iota
	canWrite  // counted in Inode.writers
	stream    // has no position: pread and lseek give ESPIPE
	pathOnly  // O_PATH
	denyWrite // holds off writers while it is executed
	terminal  // read(2) and write(2) go through task.TerminalFile
	still     // has a position that is always 0
	sock      // read(2) and write(2) go through the calls of sockets
	exclusive // opened with O_EXCL and without O_CREAT
	closer    // its FileOps are a Closer
)

// Owner is who gets SIGIO and SIGURG (F_SETOWN_EX, F_SETSIG).
type Owner struct {
	Type   int32 // F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP
	ID     int32
	Signal int32
}

// A File is an open file description (open(2)).
type File struct {
	// Data belongs to the FileOps.
	Data any

	path  Path
	inode *Inode
	ops   FileOps
	cred  *cred.Cred
	refs  atomic.Int32
	flags atomic.Uint32 // O_ flags, without those of creation
	kind  uint32

	mu    sync.Mutex // a read or write at the position
	pos   int64      // guarded by mu
	owner atomic.Pointer[Owner]
	watch atomic.Pointer[watchers]
	async atomic.Pointer[async]
	locks atomic.Bool // may hold flock or OFD locks
}

// creationFlags are forgotten after open.
const creationFlags = unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_CLOEXEC

// settable are the flags that F_SETFL changes.
const settable = unix.O_APPEND | unix.O_ASYNC | unix.O_DIRECT | unix.O_NOATIME | unix.O_NONBLOCK

// newFile returns a File with one reference, which counts in path's mount; the
// inode is held for it already.
func newFile(path Path, c *cred.Cred, flags int) *File {
	files.open.Add(1)
	f := &File{path: path, inode: path.Dentry.inode, cred: c}
	f.refs.Store(1)
	f.flags.Store(uint32(flags &^ creationFlags))
	switch {
	case flags&unix.O_PATH != 0:
		f.kind = pathOnly
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		f.kind = canRead
	case flags&unix.O_ACCMODE == unix.O_WRONLY:
		f.kind = canWrite
	default:
		f.kind = canRead | canWrite
	}
	if flags&(unix.O_EXCL|unix.O_CREAT) == unix.O_EXCL {
		f.kind |= exclusive
	}
	path.Mount.users.Add(1)
	return f
}

// IncRef takes a reference.
func (f *File) IncRef() { f.refs.Add(1) }

// gone are the references of a file that is closed: so few that no tryRef makes them positive.
const gone = -1 << 30

// tryRef takes a reference unless the file is closed. Between the end of the last reference and the closing it may yet
// succeed: then the file stays open.
func (f *File) tryRef() bool {
	if f.refs.Add(1) > 0 {
		return true
	}
	f.refs.Add(-1)
	return false
}

// Refs returns how many references there are just now.
func (f *File) Refs() int { return int(f.refs.Load()) }

// DecRef gives a reference back; the last one closes the file.
func (f *File) DecRef() {
	if f.refs.Add(-1) == 0 {
		f.release()
	}
}

func (f *File) release() {
	if !f.refs.CompareAndSwap(0, gone) {
		return // somebody took a reference from a descriptor, and gives it back, or has done so and closed the file
	}
	if w := f.watch.Load(); w != nil {
		w.closed(f)
	}
	if f.locks.Load() {
		f.inode.unlockFile(f)
	}
	f.closed()
	f.endAsync(f.async.Swap(nil))
	f.ops.Release(f)
	if f.kind&canWrite != 0 {
		f.inode.writers.Add(-1)
		if f.inode.Type() == unix.S_IFREG {
			f.path.Mount.endWrite()
		}
	}
	if f.kind&denyWrite != 0 {
		f.inode.writers.Add(1)
	}
	f.inode.drop()
	f.path.Mount.drop()
	files.open.Add(-1)
}

// Path returns where the file was opened.
func (f *File) Path() Path { return f.path }

// Namespace returns the tree that the file was opened in; that of a file without a name has no pool.
func (f *File) Namespace() *Namespace { return f.path.Mount.ns }

// Inode returns the file itself.
func (f *File) Inode() *Inode { return f.inode }

// Ops returns what the file does.
func (f *File) Ops() FileOps { return f.ops }

// Cred returns the credentials that the file was opened with.
func (f *File) Cred() *cred.Cred { return f.cred }

// Flags returns the O_ flags as F_GETFL shows them.
func (f *File) Flags() int { return int(f.flags.Load()) | largeFile }

// Nonblock reports O_NONBLOCK.
func (f *File) Nonblock() bool { return f.flags.Load()&unix.O_NONBLOCK != 0 }

// Readable reports whether the file is open for reading.
func (f *File) Readable() bool { return f.kind&canRead != 0 }

// Writable reports whether the file is open for writing.
func (f *File) Writable() bool { return f.kind&canWrite != 0 }

// Exclusive reports whether the file was opened with O_EXCL and without O_CREAT, which claims a block device.
func (f *File) Exclusive() bool { return f.kind&exclusive != 0 }

// PathOnly reports whether the file was opened with O_PATH; most calls give EBADF then.
func (f *File) PathOnly() bool { return f.kind&pathOnly != 0 }

// SetStream says, while the file is being opened, that it has no position.
func (f *File) SetStream() { f.kind |= stream }

// SetTerminal says, while the file is being opened, that it is a terminal: it has no position, and its operations are a
// task.TerminalFile.
func (f *File) SetTerminal() { f.kind |= stream | terminal }

// Terminal reports whether SetTerminal was called.
func (f *File) Terminal() bool { return f.kind&terminal != 0 }

// SetSocket says, while the file is being opened, that it is a socket.
func (f *File) SetSocket() { f.kind |= stream | sock }

// Special reports whether read(2) and write(2) are other calls for this file: it is a terminal or a socket.
func (f *File) Special() bool { return f.kind&(terminal|sock) != 0 }

// A Closer is the FileOps of a file that wants to know of each descriptor that is closed, not of the last only.
type Closer interface {
	// Closed is told that a descriptor of the file in t was closed. No lock of t is held.
	Closed(t *FDTable)
}

// SetCloser says, while the file is being opened, that its operations are a Closer.
func (f *File) SetCloser() { f.kind |= closer }

// SetStill says, while the file is being opened, that its position is always 0, as that of /dev/null.
func (f *File) SetStill() { f.kind |= still }

// Stream reports whether the file has no position.
func (f *File) Stream() bool { return f.kind&stream != 0 }

// SetFlags is F_SETFL: EPERM for O_NOATIME on somebody else's file, and for O_APPEND on a file that only grows.
func (f *File) SetFlags(c *cred.Cred, flags int) error {
	old := f.flags.Load()
	now := old&^settable | uint32(flags)&settable
	if now&^old&unix.O_NOATIME != 0 && !f.inode.owns(c) || (now^old)&unix.O_APPEND != 0 && f.inode.HasFlags(FlagAppend) {
		return unix.EPERM
	}
	if err := f.ops.SetFlags(f, now); err != nil {
		return err
	}
	f.flags.Store(now)
	return nil
}

// SetNonblock is FIONBIO.
func (f *File) SetNonblock(on bool) {
	if on {
		f.flags.Or(unix.O_NONBLOCK)
	} else {
		f.flags.And(^uint32(unix.O_NONBLOCK))
	}
}

// Owner returns who gets SIGIO.
func (f *File) Owner() Owner {
	if o := f.owner.Load(); o != nil {
		return *o
	}
	return Owner{}
}

// SetOwner changes who gets SIGIO.
func (f *File) SetOwner(o Owner) { f.owner.Store(&o) }

// Read reads at the position and moves it: EBADF, EISDIR, EAGAIN, EFAULT.
func (f *File) Read(dst uio.Sink) (int64, error) {
	if f.kind&(canRead|stream) == canRead|stream {
		return f.ops.Read(f, dst, 0)
	}
	return f.read(dst)
}

func (f *File) read(dst uio.Sink) (int64, error) {
	if f.kind&canRead == 0 {
		return 0, unix.EBADF
	}
	f.mu.Lock()
	n, err := f.ops.Read(f, dst, f.pos)
	f.pos += n
	f.mu.Unlock()
	f.accessed(n)
	return n, err
}

// Pread reads at off: also ESPIPE, EINVAL.
func (f *File) Pread(dst uio.Sink, off int64) (int64, error) {
	if err := f.at(off, canRead); err != nil {
		return 0, err
	}
	n, err := f.ops.Read(f, dst, off)
	f.accessed(n)
	return n, err
}

// Write writes at the position, or with O_APPEND at the end, and moves it: EBADF, EPIPE, EAGAIN, EFAULT, ENOSPC, EFBIG.
func (f *File) Write(src uio.Source) (int64, error) {
	if f.kind&(canWrite|stream) == canWrite|stream {
		return f.ops.Write(f, src, 0)
	}
	return f.write(src)
}

func (f *File) write(src uio.Source) (int64, error) {
	if f.kind&canWrite == 0 {
		return 0, unix.EBADF
	}
	f.mu.Lock()
	n, err := f.ops.Write(f, src, f.pos)
	if n > 0 && f.flags.Load()&unix.O_APPEND != 0 {
		f.pos = f.inode.Size()
	} else {
		f.pos += n
	}
	f.mu.Unlock()
	f.modified(n)
	return n, err
}

// Pwrite writes at off, or with O_APPEND at the end: also ESPIPE, EINVAL.
func (f *File) Pwrite(src uio.Source, off int64) (int64, error) {
	if err := f.at(off, canWrite); err != nil {
		return 0, err
	}
	n, err := f.ops.Write(f, src, off)
	f.modified(n)
	return n, err
}

// An Appender is the FileOps of a file that can be written at its end whatever its flags.
type Appender interface {
	// Append is Write as with O_APPEND.
	Append(f *File, src uio.Source) (int64, error)
}

// Append is pwritev2(2) with RWF_APPEND on what has an end: EBADF, and EOPNOTSUPP when the file system cannot. With move, the position is behind what was
// written.
func (f *File) Append(src uio.Source, move bool) (n int64, err error) {
	if f.kind&canWrite == 0 {
		return 0, unix.EBADF
	}
	a, ok := f.ops.(Appender)
	if !ok {
		return 0, unix.EOPNOTSUPP
	}
	if move {
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	n, err = a.Append(f, src)
	if n > 0 && move {
		f.pos = f.inode.Size()
	}
	f.modified(n)
	return n, err
}

func (f *File) at(off int64, kind uint32) error {
	switch {
	case f.kind&pathOnly != 0:
		return unix.EBADF
	case off < 0:
		return unix.EINVAL
	case f.kind&stream != 0:
		return unix.ESPIPE
	case f.kind&kind == 0:
		return unix.EBADF
	}
	return nil
}

// Seek is lseek(2): ESPIPE, EINVAL, ENXIO, EBADF.
func (f *File) Seek(off int64, whence int) (int64, error) {
	if f.kind&pathOnly != 0 {
		return 0, unix.EBADF
	}
	if f.kind&stream != 0 {
		return 0, unix.ESPIPE
	}
	if f.kind&still != 0 {
		return 0, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pos := off
	switch whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		if off > 0 && f.pos > math.MaxInt64-off {
			return 0, unix.EINVAL
		}
		pos = f.pos + off
	default:
		var err error
		if pos, err = f.ops.Seek(f, off, whence); err != nil {
			return 0, err
		}
	}
	if pos < 0 {
		return 0, unix.EINVAL
	}
	f.pos = pos
	return pos, nil
}

// Ioctl is ioctl(2); what concerns the descriptor (FIOCLEX) is not its business.
func (f *File) Ioctl(a *IoctlArgs) (uint64, error) {
	if f.kind&pathOnly != 0 {
		return 0, unix.EBADF
	}
	if a.Cmd == unix.FS_IOC_GETFLAGS || a.Cmd == unix.FS_IOC_SETFLAGS {
		return 0, f.flagsIoctl(a)
	}
	return f.ops.Ioctl(f, a)
}

// Readiness returns which of the events in mask are true now, and POLLERR and POLLHUP.
func (f *File) Readiness(mask wait.Mask) wait.Mask {
	return f.ops.Poll(f, mask|unix.POLLERR|unix.POLLHUP)
}

// Register has e told when Readiness may have changed.
func (f *File) Register(e *wait.Entry) { f.ops.Register(f, e) }

// Unregister ends Register.
func (f *File) Unregister(e *wait.Entry) { f.ops.Unregister(f, e) }

// OpenWaiter is a FileOps whose open(2) may have to wait (fifo(7)).
type OpenWaiter interface {
	// Opened reports whether the open is complete; Register tells when it may have become so.
	Opened(f *File) bool
}

// Opened reports whether the open is complete. If not, the caller waits for POLLIN|POLLOUT on the file and
// asks again, before the file gets a descriptor.
func (f *File) Opened() bool {
	w, ok := f.ops.(OpenWaiter)
	return !ok || w.Opened(f)
}

// MapCache returns the cache that a mapping of the file shows, nil when it cannot be mapped (ENODEV).
// Whether the file is open for what the mapping wants is the caller's business. To map a file is to read it, as far as its times go.
func (f *File) MapCache() *mem.Cache {
	c := f.ops.Map(f)
	if m, ok := f.ops.(Mapped); ok && c != nil && f.flags.Load()&unix.O_NOATIME == 0 {
		m.MapRead(f)
	}
	return c
}

// MapWritten implements mm.Watcher.
func (f *File) MapWritten() {
	if m, ok := f.ops.(Mapped); ok {
		m.MapWritten(f)
	}
}

// Mapped is the FileOps of files whose times follow what mappings do with them. Its methods may not block.
type Mapped interface {
	// MapRead says that the file is mapped, which is to read it.
	MapRead(f *File)
	// MapWritten says that something is stored through a mapping, which is to write it.
	MapWritten(f *File)
}

// MapName is the name of the file for /proc/PID/maps.
func (f *File) MapName() string { return LinkName(f.path, f.path.Mount.Root0()) }

// MapInode is the inode for /proc/PID/maps.
func (f *File) MapInode() (major, minor uint32, ino uint64) {
	dev := f.inode.fs.Dev
	return unix.Major(dev), unix.Minor(dev), f.inode.Ino
}

// Truncate is ftruncate(2): EINVAL, EPERM.
func (f *File) Truncate(size int64) error {
	if f.kind&canWrite == 0 {
		return unix.EINVAL
	}
	if size < 0 {
		return unix.EINVAL
	}
	if f.inode.HasFlags(FlagAppend) && f.inode.Type() == unix.S_IFREG {
		return unix.EPERM
	}
	err := f.ops.Truncate(f, size)
	if err == nil {
		f.modified(1)
	}
	return err
}

// Allocate is fallocate(2): EBADF, EINVAL, EFBIG, ESPIPE, ENODEV, EOPNOTSUPP.
func (f *File) Allocate(mode uint32, off, n int64) error {
	switch {
	case f.kind&canWrite == 0:
		return unix.EBADF
	case off < 0 || n <= 0:
		return unix.EINVAL
	case off > math.MaxInt64-n:
		return unix.EFBIG
	case f.kind&stream != 0:
		return unix.ESPIPE
	case f.inode.HasFlags(FlagImmutable), mode&^unix.FALLOC_FL_KEEP_SIZE != 0 && f.inode.HasFlags(FlagAppend):
		return unix.EPERM
	}
	err := f.ops.Allocate(f, mode, off, n)
	if err == nil {
		f.modified(1)
	}
	return err
}

// Sync is fsync(2): EINVAL, EBADF.
func (f *File) Sync() error {
	if f.kind&pathOnly != 0 {
		return unix.EBADF
	}
	return f.ops.Sync(f)
}

// Stat is fstat(2): an error only where somebody else must be asked.
func (f *File) Stat(st *unix.Stat_t) error {
	if err := f.inode.Refresh(); err != nil {
		return err
	}
	f.inode.Stat(st)
	return nil
}

// DenyWrite keeps the file from being opened for writing as long as f is open: ETXTBSY
// when it is open for writing already. For the program loader.
func (f *File) DenyWrite() error {
	for {
		n := f.inode.writers.Load()
		if n > 0 {
			return unix.ETXTBSY
		}
		if f.inode.writers.CompareAndSwap(n, n-1) {
			f.kind |= denyWrite
			return nil
		}
	}
}
