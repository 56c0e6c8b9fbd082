package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

func changeRows(r *table) {
	const cwd = unix.AT_FDCWD
	r.set(unix.SYS_MKDIR, call2("mkdir", aPath, aMode, func(t *task.Task, p string, mode uint32) (uint64, error) { return sysMkdirat(t, cwd, p, mode) }))
	r.set(unix.SYS_MKDIRAT, call3("mkdirat", aDirFD, aPath, aMode, sysMkdirat))
	r.set(unix.SYS_RMDIR, call1("rmdir", aPath, func(t *task.Task, p string) (uint64, error) { return sysUnlinkat(t, cwd, p, unix.AT_REMOVEDIR) }))
	r.set(unix.SYS_UNLINK, call1("unlink", aPath, func(t *task.Task, p string) (uint64, error) { return sysUnlinkat(t, cwd, p, 0) }))
	r.set(unix.SYS_UNLINKAT, call3("unlinkat", aDirFD, aPath, flags("flags", unix.AT_REMOVEDIR, unlinkNames), sysUnlinkat))
	r.set(unix.SYS_RENAME, call2("rename", aPath, aPath, func(t *task.Task, old, new string) (uint64, error) { return sysRenameat2(t, cwd, old, cwd, new, 0) }))
	r.set(unix.SYS_RENAMEAT, call4("renameat", aDirFD, aPath, aDirFD, aPath, func(t *task.Task, fd1 int32, old string, fd2 int32, new string) (uint64, error) {
		return sysRenameat2(t, fd1, old, fd2, new, 0)
	}))
	r.set(unix.SYS_RENAMEAT2, call5("renameat2", aDirFD, aPath, aDirFD, aPath,
		flags("flags", unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE|unix.RENAME_WHITEOUT, renameNames), sysRenameat2))
	r.set(unix.SYS_LINK, call2("link", aPath, aPath, func(t *task.Task, old, new string) (uint64, error) { return sysLinkat(t, cwd, old, cwd, new, 0) }))
	r.set(unix.SYS_LINKAT, call5("linkat", aDirFD, aPath, aDirFD, aPath, flags("flags", unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH, atNames), sysLinkat))
	r.set(unix.SYS_SYMLINK, call2("symlink", aPath, aPath, func(t *task.Task, target, p string) (uint64, error) { return sysSymlinkat(t, target, cwd, p) }))
	r.set(unix.SYS_SYMLINKAT, call3("symlinkat", aPath, aDirFD, aPath, sysSymlinkat))
	r.set(unix.SYS_MKNOD, call3("mknod", aPath, aMode, aUint, func(t *task.Task, p string, mode, dev uint32) (uint64, error) {
		return sysMknodat(t, cwd, p, mode, dev)
	}))
	r.set(unix.SYS_MKNODAT, call4("mknodat", aDirFD, aPath, aMode, aUint, sysMknodat))
	r.set(unix.SYS_CHMOD, call2("chmod", aPath, aMode, func(t *task.Task, p string, mode uint32) (uint64, error) { return sysFchmodat(t, cwd, p, mode) }))
	r.set(unix.SYS_FCHMOD, call2("fchmod", aFD, aMode, func(t *task.Task, fd int32, mode uint32) (uint64, error) {
		return onFile(t, fd, func(ctx *vfs.Context, p vfs.Path) error { return vfs.Chmod(ctx, p, mode) })
	}))
	r.set(unix.SYS_FCHMODAT, call3("fchmodat", aDirFD, aPath, aMode, sysFchmodat))
	r.set(unix.SYS_FCHMODAT2, call4("fchmodat2", aDirFD, aPath, aMode, flags("flags", unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, atNames),
		func(t *task.Task, fd int32, path string, mode, flags uint32) (uint64, error) {
			return onPath(t, fd, path, int(flags), func(ctx *vfs.Context, p vfs.Path) error { return vfs.Chmod(ctx, p, mode) })
		}))
	r.set(unix.SYS_CHOWN, call3("chown", aPath, aUID, aGID, func(t *task.Task, p string, u, g uint32) (uint64, error) { return sysFchownat(t, cwd, p, u, g, 0) }))
	r.set(unix.SYS_LCHOWN, call3("lchown", aPath, aUID, aGID, func(t *task.Task, p string, u, g uint32) (uint64, error) {
		return sysFchownat(t, cwd, p, u, g, unix.AT_SYMLINK_NOFOLLOW)
	}))
	r.set(unix.SYS_FCHOWN, call3("fchown", aFD, aUID, aGID, func(t *task.Task, fd int32, u, g uint32) (uint64, error) {
		return onFile(t, fd, func(ctx *vfs.Context, p vfs.Path) error { return vfs.Chown(ctx, p, u, g) })
	}))
	r.set(unix.SYS_FCHOWNAT, call5("fchownat", aDirFD, aPath, aUID, aGID, flags("flags", unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, atNames), sysFchownat))
	r.set(unix.SYS_UTIME, call2("utime", aPath, inOpt(lUtimbuf), func(t *task.Task, p string, times opt[[2]int64]) (uint64, error) {
		return setTimes(t, cwd, p, 0, times.ok, unix.Timespec{Sec: times.v[0]}, unix.Timespec{Sec: times.v[1]})
	}))
	r.set(unix.SYS_UTIMES, call2("utimes", aPath, inOpt(lTimevals), func(t *task.Task, p string, times opt[[2]unix.Timeval]) (uint64, error) {
		return sysFutimesat(t, cwd, optPath{p, true}, times)
	}))
	r.set(unix.SYS_FUTIMESAT, call3("futimesat", aDirFD, aOptPath, inOpt(lTimevals), sysFutimesat))
	r.set(unix.SYS_UTIMENSAT, call4("utimensat", aDirFD, aOptPath, inOpt(lTimes), flags("flags", unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, atNames), sysUtimensat))
	r.set(unix.SYS_MOUNT, call5("mount", aOptPath, aPath, aOptPath, aHex, aOptPath, sysMount))
	r.set(unix.SYS_UMOUNT2, call2("umount2", aPath, flags("flags", unix.MNT_FORCE|unix.MNT_DETACH|unix.MNT_EXPIRE|unix.UMOUNT_NOFOLLOW, umountNames), sysUmount2))
	xattrRows(r)
}

var lUtimbuf = &layout[[2]int64]{"utimbuf", 16,
	func(b []byte) [2]int64 { return [2]int64{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))} }, nil, nil}

func sysMkdirat(t *task.Task, dirfd int32, path string, mode uint32) (uint64, error) {
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	defer p.done()
	return done(vfs.Mkdir(view(t), p.Path, path, mode))
}

func sysUnlinkat(t *task.Task, dirfd int32, path string, flags uint32) (uint64, error) {
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	defer p.done()
	if flags&unix.AT_REMOVEDIR != 0 {
		return done(vfs.Rmdir(view(t), p.Path, path))
	}
	return done(vfs.Unlink(view(t), p.Path, path))
}

func sysRenameat2(t *task.Task, oldFD int32, old string, newFD int32, new string, flags uint32) (uint64, error) {
	from, err := at(t, oldFD, old)
	if err != nil {
		return 0, err
	}
	defer from.done()
	to, err := at(t, newFD, new)
	if err != nil {
		return 0, err
	}
	defer to.done()
	return done(vfs.Rename(view(t), from.Path, old, to.Path, new, uint(flags)))
}

func sysLinkat(t *task.Task, oldFD int32, old string, newFD int32, new string, flags uint32) (uint64, error) {
	if flags&unix.AT_EMPTY_PATH != 0 && !t.Cred().Capable(unix.CAP_DAC_READ_SEARCH) {
		return 0, unix.ENOENT
	}
	from, err := at(t, oldFD, old)
	if err != nil {
		return 0, err
	}
	defer from.done()
	to, err := at(t, newFD, new)
	if err != nil {
		return 0, err
	}
	defer to.done()
	return done(vfs.Link(view(t), from.Path, old, to.Path, new, int(flags)))
}

func sysSymlinkat(t *task.Task, target string, dirfd int32, path string) (uint64, error) {
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	defer p.done()
	return done(vfs.Symlink(view(t), target, p.Path, path))
}

func sysMknodat(t *task.Task, dirfd int32, path string, mode, dev uint32) (uint64, error) {
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	defer p.done()
	// The 32-bit number of the call is glibc's without the upper halves.
	rdev := unix.Mkdev(dev>>8&0xfff, dev&0xff|dev>>12&0xfff00)
	return done(vfs.Mknod(view(t), p.Path, path, mode, rdev, nil))
}

// onPath does something to the file that a path leads to.
func onPath(t *task.Task, dirfd int32, path string, flags int, do func(*vfs.Context, vfs.Path) error) (uint64, error) {
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	defer p.done()
	ctx := view(t)
	target, err := vfs.Lookup(ctx, p.Path, path, flags)
	if err != nil {
		return 0, err
	}
	return done(do(ctx, target))
}

// onFile does something to an open file, not one opened with O_PATH.
func onFile(t *task.Task, fd int32, do func(*vfs.Context, vfs.Path) error) (uint64, error) {
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return done(do(view(t), f.Path()))
}

func sysFchmodat(t *task.Task, dirfd int32, path string, mode uint32) (uint64, error) {
	return onPath(t, dirfd, path, 0, func(ctx *vfs.Context, p vfs.Path) error { return vfs.Chmod(ctx, p, mode) })
}

func sysFchownat(t *task.Task, dirfd int32, path string, uid, gid, flags uint32) (uint64, error) {
	return onPath(t, dirfd, path, int(flags), func(ctx *vfs.Context, p vfs.Path) error { return vfs.Chown(ctx, p, uid, gid) })
}

// setTimes sets both times of a file, to now when the program gave none.
func setTimes(t *task.Task, dirfd int32, path string, flags int, given bool, times ...unix.Timespec) (uint64, error) {
	var set *[2]unix.Timespec
	if given {
		set = &[2]unix.Timespec{times[0], times[1]}
		if set[0].Nsec == unix.UTIME_OMIT && set[1].Nsec == unix.UTIME_OMIT {
			return 0, nil // nothing is looked at then (utimensat(2))
		}
	}
	return onPath(t, dirfd, path, flags, func(ctx *vfs.Context, p vfs.Path) error { return vfs.Utimes(ctx, p, set) })
}

func sysFutimesat(t *task.Task, dirfd int32, path optPath, times opt[[2]unix.Timeval]) (uint64, error) {
	var ts [2]unix.Timespec
	for i, v := range times.v {
		if v.Usec < 0 || v.Usec >= 1e6 {
			return 0, unix.EINVAL
		}
		ts[i] = unix.Timespec{Sec: v.Sec, Nsec: v.Usec * 1000}
	}
	flags := 0
	if !path.ok {
		if dirfd == unix.AT_FDCWD {
			return 0, unix.EFAULT
		}
		flags = unix.AT_EMPTY_PATH
	}
	return setTimes(t, dirfd, path.path, flags, times.ok, ts[:]...)
}

func sysUtimensat(t *task.Task, dirfd int32, path optPath, times opt[[2]unix.Timespec], flags uint32) (uint64, error) {
	if !path.ok {
		if dirfd == unix.AT_FDCWD {
			return 0, unix.EFAULT
		}
		if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
			return 0, unix.EINVAL
		}
		f, err := realFile(t, dirfd) // futimens(3), for which O_PATH is not enough
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		flags |= unix.AT_EMPTY_PATH
	}
	return setTimes(t, dirfd, path.path, int(flags), times.ok, times.v[:]...)
}

func sysMount(t *task.Task, source optPath, target string, typ optPath, flags uint64, data optPath) (uint64, error) {
	const magic, magicMask = 0xc0ed0000, 0xffff0000 // MS_MGC_VAL
	if flags&magicMask == magic {
		flags &^= magicMask
	}
	ctx := view(t)
	p, err := vfs.Lookup(ctx, vfs.Path{}, target, 0)
	if err != nil {
		return 0, err
	}
	const noType = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_MOVE | unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE
	if !typ.ok && flags&noType == 0 {
		return 0, unix.EINVAL
	}
	return done(vfs.DoMount(ctx, source.path, p, typ.path, flags, data.path))
}

func sysUmount2(t *task.Task, target string, flags uint32) (uint64, error) {
	return done(vfs.UnmountAt(view(t), target, int(flags)))
}

// Limits of extended attributes (xattr(7)).
const (
	xattrNameMax = 255
	xattrSizeMax = 64 << 10
)

// aXattr is the name of an extended attribute: ERANGE when it is empty or too long.
var aXattr = newKind(func(t *task.Task, addr uint64) (string, error) {
	s, err := readString(t, addr, xattrNameMax+1)
	if err == errTooLong || err == nil && s == "" {
		err = unix.ERANGE
	}
	return s, err
}, &formatter{name: "xattr name", in: showString})

// A target is the file that a call of one of the families X, lX and fX is about.
type target struct {
	vfs.Path
	ctx *vfs.Context
	f   *vfs.File
}

func (x target) done() {
	if x.f != nil {
		x.f.DecRef()
	}
}

// The three ways to name a target, as kinds: through symbolic links, not through the last, by descriptor.
var (
	aFollow   = newKind(named(0), aPath.formatter)
	aNoFollow = newKind(named(unix.AT_SYMLINK_NOFOLLOW), aPath.formatter)
	aOpenFile = newKind(func(_ *task.Task, raw uint64) (func(*task.Task) (target, error), error) {
		return func(t *task.Task) (target, error) {
			f, err := realFile(t, int32(raw))
			if err != nil {
				return target{}, err
			}
			return target{f.Path(), view(t), f}, nil
		}, nil
	}, aFD.formatter)
)

func named(flags int) func(*task.Task, uint64) (func(*task.Task) (target, error), error) {
	return func(t *task.Task, raw uint64) (func(*task.Task) (target, error), error) {
		path, err := decodePath(t, raw)
		return func(t *task.Task) (target, error) {
			ctx := view(t)
			p, err := vfs.Lookup(ctx, vfs.Path{}, path, flags)
			return target{p, ctx, nil}, err
		}, err
	}
}

func xattrRows(r *table) {
	for i, k := range []kind[func(*task.Task) (target, error)]{aFollow, aNoFollow, aOpenFile} {
		prefix := []string{"", "l", "f"}[i]
		r.set(unix.SYS_SETXATTR+i, call5(prefix+"setxattr", k, aXattr, aSource, aSize, flags("flags", unix.XATTR_CREATE|unix.XATTR_REPLACE, nil), sysSetxattr))
		r.set(unix.SYS_GETXATTR+i, call4(prefix+"getxattr", k, aXattr, aSink, aSize, sysGetxattr))
		r.set(unix.SYS_LISTXATTR+i, call3(prefix+"listxattr", k, aSink, aSize, sysListxattr))
		r.set(unix.SYS_REMOVEXATTR+i, call2(prefix+"removexattr", k, aXattr, sysRemovexattr))
	}
}

func sysSetxattr(t *task.Task, find func(*task.Task) (target, error), name string, addr, n uint64, flags uint32) (uint64, error) {
	if n > xattrSizeMax {
		return 0, unix.E2BIG
	}
	v := make([]byte, n)
	if err := copyIn(t, v, addr); err != nil {
		return 0, err
	}
	x, err := find(t)
	if err != nil {
		return 0, err
	}
	defer x.done()
	return done(vfs.Setxattr(x.ctx, x.Path, name, v, int(flags)))
}

// putAll stores all of b, or with size 0 only tells how much there is: ERANGE.
func putAll(t *task.Task, addr, size uint64, b []byte) (uint64, error) {
	n := uint64(len(b))
	if size == 0 {
		return n, nil
	}
	if n > size {
		return 0, unix.ERANGE
	}
	return n, copyOut(t, addr, b)
}

func sysGetxattr(t *task.Task, find func(*task.Task) (target, error), name string, addr, size uint64) (uint64, error) {
	x, err := find(t)
	if err != nil {
		return 0, err
	}
	defer x.done()
	v, err := vfs.Getxattr(x.ctx, x.Path, name)
	if err != nil {
		return 0, err
	}
	return putAll(t, addr, size, v)
}

func sysListxattr(t *task.Task, find func(*task.Task) (target, error), addr, size uint64) (uint64, error) {
	x, err := find(t)
	if err != nil {
		return 0, err
	}
	defer x.done()
	list, err := vfs.Listxattr(x.ctx, x.Path)
	if err != nil {
		return 0, err
	}
	return putAll(t, addr, size, list)
}

func sysRemovexattr(t *task.Task, find func(*task.Task) (target, error), name string) (uint64, error) {
	x, err := find(t)
	if err != nil {
		return 0, err
	}
	defer x.done()
	return done(vfs.Removexattr(x.ctx, x.Path, name))
}
