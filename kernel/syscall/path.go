package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Flags that the calls of the at family take.
const (
	statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH | unix.AT_NO_AUTOMOUNT
	syncFlags = (unix.AT_STATX_FORCE_SYNC | unix.AT_STATX_DONT_SYNC)
)

var (
	aOpenFlags = aInt.as(show("open flags", func(b []byte, v uint64) []byte {
		if v&unix.O_ACCMODE == unix.O_RDONLY {
			b = append(b, "O_RDONLY"...)
			if v = uint64(uint32(v)); v == 0 {
				return b
			}
			b = append(b, '|')
		}
		return appendFlags(b, uint64(uint32(v)), openNames)
	}))
	aOpenMode = aUint.as(&formatter{name: "mode", in: func(b []byte, _ *task.Task, a *args, i int) []byte {
		if a[i-1]&unix.O_CREAT == 0 && a[i-1]&unix.O_TMPFILE != unix.O_TMPFILE {
			return append(b, '0') // not looked at
		}
		return showOctal(b, a[i])
	}})
	aAccessMode = choice("access mode", accessNames)
)

func pathRows(r *table) {
	r.set(unix.SYS_OPEN, call3("open", aPath, aOpenFlags, aOpenMode, func(t *task.Task, p string, flags int32, mode uint32) (uint64, error) {
		return sysOpenat(t, unix.AT_FDCWD, p, flags, mode)
	}))
	r.set(unix.SYS_OPENAT, call4("openat", aDirFD, aPath, aOpenFlags, aOpenMode, sysOpenat))
	r.set(unix.SYS_CREAT, call2("creat", aPath, aMode, func(t *task.Task, p string, mode uint32) (uint64, error) {
		return sysOpenat(t, unix.AT_FDCWD, p, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, mode)
	}))
	r.set(unix.SYS_OPENAT2, call4("openat2", aDirFD, aPath, aAddr, aSize, sysOpenat2))
	r.set(unix.SYS_STAT, call2("stat", aPath, out(lStat), func(t *task.Task, p string, to dest[unix.Stat_t]) (uint64, error) {
		return sysFstatat(t, unix.AT_FDCWD, p, to, 0)
	}))
	r.set(unix.SYS_LSTAT, call2("lstat", aPath, out(lStat), func(t *task.Task, p string, to dest[unix.Stat_t]) (uint64, error) {
		return sysFstatat(t, unix.AT_FDCWD, p, to, unix.AT_SYMLINK_NOFOLLOW)
	}))
	r.set(unix.SYS_FSTAT, call2("fstat", aFD, out(lStat), sysFstat))
	r.set(unix.SYS_NEWFSTATAT, call4("newfstatat", aDirFD, aPath, out(lStat), flags("flags", statFlags|syncFlags, atNames), sysFstatat))
	r.set(unix.SYS_STATX, call5("statx", aDirFD, aPath, flags("flags", statFlags|syncFlags, atNames), aHex, out(lStatx), sysStatx))
	r.set(unix.SYS_ACCESS, call2("access", aPath, aAccessMode, func(t *task.Task, p string, mode int32) (uint64, error) {
		return sysFaccessat2(t, unix.AT_FDCWD, p, mode, 0)
	}))
	r.set(unix.SYS_FACCESSAT, call3("faccessat", aDirFD, aPath, aAccessMode, func(t *task.Task, fd int32, p string, mode int32) (uint64, error) {
		return sysFaccessat2(t, fd, p, mode, 0)
	}))
	r.set(unix.SYS_FACCESSAT2, call4("faccessat2", aDirFD, aPath, aAccessMode,
		flags("flags", unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, faccessatNames), sysFaccessat2))
	r.set(unix.SYS_READLINK, call3("readlink", aPath, aSink, aInt, func(t *task.Task, p string, addr uint64, n int32) (uint64, error) {
		return sysReadlinkat(t, unix.AT_FDCWD, p, addr, n)
	}))
	r.set(unix.SYS_READLINKAT, call4("readlinkat", aDirFD, aPath, aSink, aInt, sysReadlinkat))
	r.set(unix.SYS_CHDIR, call1("chdir", aPath, sysChdir))
	r.set(unix.SYS_FCHDIR, call1("fchdir", aFD, sysFchdir))
	r.set(unix.SYS_CHROOT, call1("chroot", aPath, sysChroot))
	r.set(unix.SYS_GETCWD, call2("getcwd", aSink, aSize, sysGetcwd))
	r.set(unix.SYS_UMASK, call1("umask", aMode, func(t *task.Task, mask uint32) (uint64, error) {
		return uint64(t.FS.SetUmask(mask)), nil
	}))
	r.set(unix.SYS_STATFS, call2("statfs", aPath, out(lStatfs), sysStatfs))
	r.set(unix.SYS_FSTATFS, call2("fstatfs", aFD, out(lStatfs), sysFstatfs))
	r.set(unix.SYS_TRUNCATE, call2("truncate", aPath, aOffset, sysTruncate))
	r.set(unix.SYS_SYNC, call0("sync", func(t *task.Task) (uint64, error) {
		t.Kernel().Namespace.Sync()
		return 0, nil
	}))
	r.set(unix.SYS_SYNCFS, call1("syncfs", aFD, sysSyncfs))
}

func sysOpenat(t *task.Task, dirfd int32, path string, flags int32, mode uint32) (uint64, error) {
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	f, err := vfs.Open(view(t), p.Path, path, int(flags), mode)
	p.done()
	return opened(t, f, err, int(flags))
}

// opened gives a new file its descriptor, after waiting for the other end of a FIFO.
func opened(t *task.Task, f *vfs.File, err error, flags int) (uint64, error) {
	if err != nil {
		return 0, err
	}
	if !f.Opened() { // though it may be ready: to write is an error without readers, which POLLERR says
		err := t.Retry(f, wait.Mask(unix.POLLIN|unix.POLLOUT), func() error {
			if !f.Opened() {
				return unix.EAGAIN
			}
			return nil
		})
		if err != nil {
			f.DecRef()
			return 0, err
		}
	}
	if flags&(unix.O_NOCTTY|unix.O_PATH) == 0 && f.Inode().Type() == unix.S_IFCHR {
		t.OpenedTerminal(f)
	}
	return install(t, f, flags)
}

func sysOpenat2(t *task.Task, dirfd int32, path string, addr, size uint64) (uint64, error) {
	if size < abi.SizeofOpenHow {
		return 0, unix.EINVAL
	}
	var b [abi.SizeofOpenHow]byte
	if err := extensible(t, b[:], addr, size); err != nil {
		return 0, err
	}
	how := abi.GetOpenHow(b[:])
	from := path
	if how.Resolve&(unix.RESOLVE_IN_ROOT|unix.RESOLVE_BENEATH) != 0 {
		from = "" // dirfd counts for an absolute path, too
	}
	p, err := at(t, dirfd, from)
	if err != nil {
		return 0, err
	}
	f, err := vfs.OpenHow(view(t), p.Path, path, &how)
	p.done()
	return opened(t, f, err, int(how.Flags))
}

// extensible reads a structure whose size the program tells, because it grew
// over time (copy_struct_from_user): missing fields are 0, unknown ones must be 0, else
// E2BIG; E2BIG also for more than a page.
func extensible(t *task.Task, b []byte, addr, size uint64) error {
	if size > 4096 {
		return unix.E2BIG
	}
	n := min(size, uint64(len(b)))
	if err := copyIn(t, b[:n], addr); err != nil {
		return err
	}
	for rest := addr + n; rest < addr+size; {
		buf := t.Scratch[:min(addr+size-rest, uint64(len(t.Scratch)))]
		if err := copyIn(t, buf, rest); err != nil {
			return err
		}
		for _, c := range buf {
			if c != 0 {
				return unix.E2BIG
			}
		}
		rest += uint64(len(buf))
	}
	return nil
}

func sysFstat(t *task.Task, fd int32, to dest[unix.Stat_t]) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	err = f.Stat(&st)
	f.DecRef()
	if err != nil {
		return 0, err
	}
	if u := t.Cred().User; u != nil {
		st.Uid, st.Gid = u.ShowUID(st.Uid), u.ShowGID(st.Gid)
	}
	return done(to.put(t, st))
}

func sysFstatat(t *task.Task, dirfd int32, path string, to dest[unix.Stat_t], flags uint32) (uint64, error) {
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	err = vfs.Stat(view(t), p.Path, path, int(flags), &st)
	p.done()
	if err != nil {
		return 0, err
	}
	if u := t.Cred().User; u != nil {
		st.Uid, st.Gid = u.ShowUID(st.Uid), u.ShowGID(st.Gid)
	}
	return done(to.put(t, st))
}

func sysStatx(t *task.Task, dirfd int32, path string, flags uint32, mask uint64, to dest[unix.Statx_t]) (uint64, error) {
	if mask&unix.STATX__RESERVED != 0 || flags&syncFlags == syncFlags {
		return 0, unix.EINVAL
	}
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	var st unix.Statx_t
	err = vfs.Statx(view(t), p.Path, path, int(flags), uint32(mask), &st)
	p.done()
	if err != nil {
		return 0, err
	}
	if u := t.Cred().User; u != nil {
		st.Uid, st.Gid = u.ShowUID(st.Uid), u.ShowGID(st.Gid)
	}
	return done(to.put(t, st))
}

func sysFaccessat2(t *task.Task, dirfd int32, path string, mode int32, flags uint32) (uint64, error) {
	if mode&^7 != 0 {
		return 0, unix.EINVAL
	}
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	defer p.done()
	return done(vfs.Access(view(t), p.Path, path, uint32(mode), int(flags)))
}

func sysReadlinkat(t *task.Task, dirfd int32, path string, addr uint64, n int32) (uint64, error) {
	if n <= 0 {
		return 0, unix.EINVAL
	}
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	target, err := vfs.Readlink(view(t), p.Path, path)
	p.done()
	if err != nil {
		return 0, err
	}
	if len(target) > int(n) {
		target = target[:n]
	}
	return uint64(len(target)), copyOut(t, addr, []byte(target))
}

// directory finds a directory that may be searched: ENOENT, ENOTDIR, EACCES.
func directory(t *task.Task, path string) (vfs.Path, error) {
	ctx := view(t)
	p, err := vfs.Lookup(ctx, vfs.Path{}, path, 0)
	if err == nil {
		err = searchable(ctx, p)
	}
	return p, err
}

func searchable(ctx *vfs.Context, p vfs.Path) error {
	if !p.Inode().IsDir() {
		return unix.ENOTDIR
	}
	return p.Inode().Access(ctx.Cred, vfs.MayExec)
}

func sysChdir(t *task.Task, path string) (uint64, error) {
	p, err := directory(t, path)
	if err != nil {
		return 0, err
	}
	t.FS.SetCwd(p)
	return 0, nil
}

func sysFchdir(t *task.Task, fd int32) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if err := searchable(view(t), f.Path()); err != nil {
		return 0, err
	}
	t.FS.SetCwd(f.Path())
	return 0, nil
}

func sysChroot(t *task.Task, path string) (uint64, error) {
	p, err := directory(t, path)
	if err != nil {
		return 0, err
	}
	if !t.Cred().CapableOwn(unix.CAP_SYS_CHROOT) {
		return 0, unix.EPERM
	}
	t.FS.SetRoot(p)
	return 0, nil
}

func sysGetcwd(t *task.Task, addr, size uint64) (uint64, error) {
	name, err := vfs.Getcwd(view(t))
	if err != nil {
		return 0, err
	}
	n := uint64(len(name)) + 1
	if n > abi.PathMax {
		return 0, unix.ENAMETOOLONG
	}
	if n > size {
		return 0, unix.ERANGE
	}
	return n, copyOut(t, addr, append([]byte(name), 0))
}

func sysStatfs(t *task.Task, path string, to dest[unix.Statfs_t]) (uint64, error) {
	p, err := vfs.Lookup(view(t), vfs.Path{}, path, 0)
	if err != nil {
		return 0, err
	}
	var st unix.Statfs_t
	vfs.Statfs(p, &st)
	return done(to.put(t, st))
}

func sysFstatfs(t *task.Task, fd int32, to dest[unix.Statfs_t]) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	var st unix.Statfs_t
	vfs.Statfs(f.Path(), &st)
	return done(to.put(t, st))
}

func sysTruncate(t *task.Task, path string, size int64) (uint64, error) {
	if size < 0 {
		return 0, unix.EINVAL
	}
	ctx := view(t)
	if t.Process().Limit(unix.RLIMIT_FSIZE).Cur != unix.RLIM_INFINITY {
		p, err := vfs.Lookup(ctx, vfs.Path{}, path, 0)
		if err != nil {
			return 0, err
		}
		if err := mayGrow(t, p.Inode(), size); err != nil {
			return 0, err
		}
	}
	return done(vfs.Truncate(ctx, path, size))
}

func sysSyncfs(t *task.Task, fd int32) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return done(f.Inode().FS().Sync())
}
