package vfs

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// BlockSize is st_blksize of all files.
const BlockSize = 4096

// Stat fills in struct stat.
func (i *Inode) Stat(st *unix.Stat_t) {
	*st = unix.Stat_t{
		Dev: i.fs.Dev, Ino: i.Ino, Nlink: uint64(i.nlink.Load()), Mode: i.mode.Load(), Uid: i.uid.Load(), Gid: i.gid.Load(),
		Rdev: i.Rdev, Size: i.statSize(), Blksize: int64(i.blockSize()), Blocks: i.blocks(),
		Atim: timespec(i.atime.Load()), Mtim: timespec(i.mtime.Load()), Ctim: timespec(i.ctime.Load()),
	}
}

// statSize is Size, of what is not a regular file too.
func (i *Inode) statSize() int64 {
	if o, ok := i.ops.(AttrOps); ok {
		n, _ := o.Space(i)
		return n
	}
	return i.Size()
}

// blocks returns the space that the contents take, in units of 512 bytes.
func (i *Inode) blocks() int64 {
	if o, ok := i.ops.(AttrOps); ok {
		_, n := o.Space(i)
		return n
	}
	switch {
	case i.cache == nil:
		return 0
	case i.cache.Backed():
		return (i.cache.Size() + BlockSize - 1) / BlockSize * (BlockSize / 512)
	}
	return int64(i.cache.Pages()) * (BlockSize / 512)
}

func timespec(ns int64) unix.Timespec {
	s, n := split1e9(ns)
	return unix.Timespec{Sec: s, Nsec: n}
}

func split1e9(ns int64) (s, n int64) {
	s, n = ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return s, n
}

// Stat is newfstatat(2). flags: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_NO_AUTOMOUNT.
func Stat(ctx *Context, at Path, path string, flags int, st *unix.Stat_t) error {
	p, err := Lookup(ctx, at, path, flags)
	if err != nil {
		return err
	}
	if err := p.Inode().Refresh(); err != nil {
		return err
	}
	p.Inode().Stat(st)
	return nil
}

// StatxOps is the InodeOps of files that statx(2) says more of.
type StatxOps interface {
	// Statx fills in what is asked for in want, beside what all files have.
	Statx(i *Inode, want uint32, st *unix.Statx_t)
}

// StatxMask is what Statx always fills in.
const StatxMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID

// Statx is statx(2), with the flags of Stat; the fields of StatxMask are filled in whatever the caller wants.
func Statx(ctx *Context, at Path, path string, flags int, want uint32, st *unix.Statx_t) error {
	p, err := Lookup(ctx, at, path, flags)
	if err != nil {
		return err
	}
	if err := p.Inode().Refresh(); err != nil {
		return err
	}
	p.Statx(want, st)
	return nil
}

// Statx fills in struct statx.
func (p Path) Statx(want uint32, st *unix.Statx_t) {
	i := p.Inode()
	*st = unix.Statx_t{
		Mask: StatxMask, Blksize: i.blockSize(), Nlink: i.nlink.Load(), Uid: i.uid.Load(), Gid: i.gid.Load(),
		Mode: uint16(i.mode.Load()), Ino: i.Ino, Size: uint64(i.statSize()), Blocks: uint64(i.blocks()),
		Attributes_mask: unix.STATX_ATTR_MOUNT_ROOT | unix.STATX_ATTR_AUTOMOUNT | unix.STATX_ATTR_DAX,
		Atime:           statxTime(i.atime.Load()), Btime: statxTime(i.btime.Load()),
		Ctime: statxTime(i.ctime.Load()), Mtime: statxTime(i.mtime.Load()),
		Rdev_major: unix.Major(i.Rdev), Rdev_minor: unix.Minor(i.Rdev),
		Dev_major: unix.Major(i.fs.Dev), Dev_minor: unix.Minor(i.fs.Dev), Mnt_id: p.Mount.ID,
	}
	if p.Dentry == p.Mount.Root {
		st.Attributes = unix.STATX_ATTR_MOUNT_ROOT
	}
	if _, ok := i.ops.(FlagOps); ok {
		st.Attributes |= i.statxFlags()
		st.Attributes_mask |= unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND | unix.STATX_ATTR_NODUMP
	}
	if o, ok := i.ops.(StatxOps); ok {
		o.Statx(i, want, st)
	}
	if want&unix.STATX_DIOALIGN != 0 && i.Type() == unix.S_IFBLK {
		if size := p.Mount.ns.BlockSize; size != nil {
			DirectAlign(st, size(i.Rdev))
		}
	}
}

// DirectAlign fills in what O_DIRECT asks for on a disk with a logical block of n bytes, unless that is 0. Memory may lie anywhere, but programs
// allocate it by what is said here: Linux says 512.
func DirectAlign(st *unix.Statx_t, n int) {
	if n != 0 {
		st.Mask |= unix.STATX_DIOALIGN
		st.Dio_mem_align, st.Dio_offset_align = 512, uint32(n)
	}
}

func statxTime(ns int64) unix.StatxTimestamp {
	s, n := split1e9(ns)
	return unix.StatxTimestamp{Sec: s, Nsec: uint32(n)}
}

// Statfs is statfs(2) of the file system that p is on.
func Statfs(p Path, st *unix.Statfs_t) {
	const valid = 0x20 // ST_VALID
	fs := p.Mount.FS
	*st = unix.Statfs_t{Bsize: BlockSize, Frsize: BlockSize, Namelen: NameMax, Flags: valid | int64(p.Mount.statfsFlags())}
	st.Fsid.Val = [2]int32{int32(fs.Dev), int32(fs.Dev >> 32)}
	fs.ops.Statfs(st)
}

// statfsFlags turns MS_ flags into ST_ flags (statfs(2)).
func (m *Mount) statfsFlags() uint64 {
	const (
		noAtime, noDirAtime, relatime, noSymfollow = 0x400, 0x800, 0x1000, 0x2000
	)
	f := m.flags.Load()
	st := f & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	for _, p := range [...][2]uint64{
		{unix.MS_NOATIME, noAtime}, {unix.MS_NODIRATIME, noDirAtime}, {unix.MS_RELATIME, relatime}, {unix.MS_NOSYMFOLLOW, noSymfollow},
	} {
		if f&p[0] != 0 {
			st |= p[1]
		}
	}
	return st
}

// Access is faccessat2(2): mode is of R_OK, W_OK, X_OK; flags are those of
// Lookup and AT_EACCESS.
func Access(ctx *Context, at Path, path string, mode uint32, flags int) error {
	if flags&unix.AT_EACCESS == 0 {
		if real := ctx.Cred.RealView(); real != ctx.Cred {
			as := *ctx
			as.Cred = real
			ctx = &as
		}
	}
	p, err := Lookup(ctx, at, path, flags)
	if err != nil || mode == 0 {
		return err
	}
	i := p.Inode()
	if mode&MayExec != 0 && i.Type() == unix.S_IFREG && p.Mount.Flags()&unix.MS_NOEXEC != 0 {
		return unix.EACCES
	}
	if err := i.permits(ctx, mode); err != nil {
		return err
	}
	if mode&MayWrite != 0 && p.Mount.Flags()&unix.MS_RDONLY != 0 && !i.special() {
		return unix.EROFS
	}
	return nil
}

// special reports whether writing to i does not change its file system.
func (i *Inode) special() bool {
	switch i.Type() {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return false
	}
	return true
}

// Readlink is readlinkat(2): EINVAL when the path does not end in a symbolic link.
func Readlink(ctx *Context, at Path, path string) (string, error) {
	p, err := Lookup(ctx, at, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	if err != nil {
		return "", err
	}
	if p.Inode().Type() != unix.S_IFLNK {
		if path == "" {
			return "", unix.ENOENT
		}
		return "", unix.EINVAL
	}
	p.Inode().accessed(p.Mount)
	return p.Inode().ops.Readlink(ctx, p.Inode())
}

// blockSize is the unit of reading and writing that stat(2) advises.
func (i *Inode) blockSize() uint32 {
	if i.cache != nil && i.cache.IsHuge() {
		return machine.HugeSize
	}
	return BlockSize
}
