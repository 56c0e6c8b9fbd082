package vfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
)

// Flags that package unix has not, or has as 0.
const (
	largeFile     = 0x8000 // O_LARGEFILE
	resolveCached = 0x20   // RESOLVE_CACHED
)

// Open is openat(2) with at as the directory. Errors are those of open(2). The caller
// looks at File.Opened before it uses the file.
func Open(ctx *Context, at Path, path string, flags int, mode uint32) (*File, error) {
	w := newWalk(ctx)
	return w.open(ctx.start(at), path, flags, mode)
}

// OpenHow is openat2(2), whose struct is how: EINVAL for flags it does not know.
func OpenHow(ctx *Context, at Path, path string, how *unix.OpenHow) (*File, error) {
	const known = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_APPEND | unix.O_NONBLOCK |
		unix.O_DSYNC | unix.O_SYNC | unix.O_ASYNC | unix.O_DIRECT | largeFile | unix.O_DIRECTORY | unix.O_NOFOLLOW |
		unix.O_NOATIME | unix.O_CLOEXEC | unix.O_PATH | unix.O_TMPFILE
	const resolve = unix.RESOLVE_BENEATH | resolveCached | unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS |
		unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
	creates := how.Flags&unix.O_CREAT != 0 || how.Flags&unix.O_TMPFILE == unix.O_TMPFILE
	switch {
	case how.Flags&^known != 0 || how.Resolve&^resolve != 0:
		return nil, unix.EINVAL
	case how.Mode&^0o7777 != 0 || how.Mode != 0 && !creates:
		return nil, unix.EINVAL
	case how.Resolve&unix.RESOLVE_BENEATH != 0 && how.Resolve&unix.RESOLVE_IN_ROOT != 0:
		return nil, unix.EINVAL
	case how.Flags&unix.O_PATH != 0 && how.Flags&^(unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC) != 0:
		return nil, unix.EINVAL
	case how.Resolve&resolveCached != 0 && (creates || how.Flags&unix.O_TRUNC != 0):
		return nil, unix.EAGAIN
	}
	w := newWalk(ctx)
	start := ctx.start(at)
	w.resolve = how.Resolve
	if how.Resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 {
		w.root = start
	}
	return w.open(start, path, int(how.Flags), uint32(how.Mode))
}

func (w *walk) open(start Path, path string, flags int, mode uint32) (*File, error) {
	if flags&unix.O_PATH != 0 {
		flags &= unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	}
	switch {
	case flags&unix.O_TMPFILE == unix.O_TMPFILE:
		return w.openTemp(start, path, flags, mode)
	case flags&unix.O_CREAT != 0:
		return w.openCreate(start, path, flags, mode)
	}
	how := follow
	if flags&unix.O_NOFOLLOW != 0 {
		how = 0
	}
	p, _, err := w.walk(start, path, how)
	if err != nil {
		return nil, err
	}
	return openAt(w.ctx, p, flags)
}

// mostTries bounds how often a name may be found missing and then there: a file server can say so for ever.
const mostTries = 100

// openCreate opens path and makes it a regular file when there is none.
func (w *walk) openCreate(start Path, path string, flags int, mode uint32) (*File, error) {
	if flags&unix.O_DIRECTORY != 0 {
		return nil, unix.EINVAL
	}
	tries := 0
	for {
		dir, last, err := w.walk(start, path, parent)
		switch {
		case err != nil:
			return nil, err
		case special(last) && flags&unix.O_EXCL != 0:
			return nil, unix.EEXIST
		case special(last) || w.slash:
			return nil, unix.EISDIR
		}
		p, err := w.step(dir, last)
		if err == unix.ENOENT {
			var f *File
			f, err = createOpen(w.ctx, dir, last, flags, mode)
			if err == unix.EEXIST && flags&unix.O_EXCL == 0 && tries < mostTries {
				tries++
				continue // somebody made it just now
			}
			return f, err
		}
		switch {
		case err != nil:
			return nil, err
		case flags&unix.O_EXCL != 0:
			return nil, unix.EEXIST
		case p.Inode().Type() != unix.S_IFLNK || flags&unix.O_NOFOLLOW != 0:
			if err := w.mayOpenInSticky(dir.Inode(), p.Inode()); err != nil {
				return nil, err
			}
			return openAt(w.ctx, p, flags)
		}
		target, err := w.readlink(dir, p)
		if err != nil {
			return nil, err
		}
		if target.jump.Valid() {
			return openAt(w.ctx, target.jump, flags)
		}
		start, path = dir, target.text
	}
}

// mayOpenInSticky keeps O_CREAT from opening others' devices, sockets and links in sticky
// directories that all may write to, as Linux does (may_create_in_sticky): EACCES. Files and
// FIFOs are let pass, as with protected_regular and protected_fifos at 0.
func (w *walk) mayOpenInSticky(dir, i *Inode) error {
	switch i.Type() {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFDIR:
		return nil
	}
	const open = unix.S_ISVTX | unix.S_IWOTH
	owner := i.uid.Load()
	if dir.mode.Load()&open != open || owner == dir.uid.Load() || owner == w.ctx.Cred.FSUID {
		return nil
	}
	return unix.EACCES
}

// createOpen makes a regular file and opens it, whatever its mode says.
func createOpen(ctx *Context, dir Path, name string, flags int, mode uint32) (*File, error) {
	if err := RoomForFiles(1); err != nil {
		return nil, err
	}
	d, err := create(ctx, dir, name, &NewNode{Mode: unix.S_IFREG | mode&0o7777&^ctx.Umask, Flags: flags, Opens: true})
	if err != nil {
		return nil, err
	}
	return finishOpen(ctx, Path{dir.Mount, d}, flags&^unix.O_TRUNC)
}

// openTemp makes a regular file without a name (O_TMPFILE).
func (w *walk) openTemp(start Path, path string, flags int, mode uint32) (*File, error) {
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return nil, unix.EINVAL
	}
	dir, _, err := w.walk(start, path, follow)
	if err != nil {
		return nil, err
	}
	if !dir.Inode().IsDir() {
		return nil, unix.ENOTDIR
	}
	if err := mayCreate(w.ctx, dir); err != nil {
		return nil, err
	}
	if err := RoomForFiles(1); err != nil {
		return nil, err
	}
	n := &NewNode{Mode: unix.S_IFREG | mode&0o7777&^w.ctx.Umask, Flags: flags, Opens: true}
	inherit(w.ctx.Cred, dir.Inode(), n)
	p, err := dir.MakeNameless(n)
	if err != nil {
		return nil, err
	}
	f, err := finishOpen(w.ctx, p, flags)
	if err != nil {
		p.Inode().evict()
	}
	return f, err
}

// openAt opens what p leads to, after checking that it may be.
func openAt(ctx *Context, p Path, flags int) (*File, error) {
	i := p.Inode()
	mode := i.mode.Load()
	if flags&unix.O_DIRECTORY != 0 && mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	if flags&unix.O_PATH != 0 {
		return finishOpen(ctx, p, flags)
	}
	writes := flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0
	switch mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return nil, unix.ELOOP
	case unix.S_IFDIR:
		if writes || flags&unix.O_CREAT != 0 {
			return nil, unix.EISDIR
		}
	case unix.S_IFREG:
		if writes && p.Mount.Flags()&unix.MS_RDONLY != 0 {
			return nil, unix.EROFS
		}
	}
	if err := i.permits(ctx, wanted(flags)); err != nil {
		return nil, err
	}
	if i.HasFlags(FlagAppend) && (flags&unix.O_ACCMODE != unix.O_RDONLY && flags&unix.O_APPEND == 0 || flags&unix.O_TRUNC != 0) {
		return nil, unix.EPERM
	}
	if flags&unix.O_NOATIME != 0 && !i.owns(ctx.Cred) {
		return nil, unix.EPERM
	}
	return finishOpen(ctx, p, flags)
}

// wanted returns the rights that flags ask for.
func wanted(flags int) (want uint32) {
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		want = MayRead
	case unix.O_WRONLY:
		want = MayWrite
	default:
		want = MayRead | MayWrite
	}
	if flags&unix.O_TRUNC != 0 {
		want |= MayWrite
	}
	return want
}

// finishOpen makes the File: also ENFILE.
func finishOpen(ctx *Context, p Path, flags int) (*File, error) {
	if err := RoomForFiles(1); err != nil {
		return nil, err
	}
	i := p.Inode()
	if !i.holdOpen() {
		return nil, unix.ENOENT
	}
	f := newFile(p, ctx.Cred, flags)
	if f.kind&pathOnly != 0 {
		f.ops = &pathFile{}
		return f, nil
	}
	if f.kind&canWrite != 0 {
		if err := f.countWriter(); err != nil {
			f.kind &^= canWrite
			f.abandon()
			return nil, err
		}
	}
	if err := f.begin(ctx, flags); err != nil {
		f.abandon()
		return nil, err
	}
	return f, nil
}

// countWriter counts f among those that can write its inode and its mount: ETXTBSY, EROFS.
func (f *File) countWriter() error {
	if err := f.inode.getWrite(); err != nil {
		return err
	}
	if f.inode.Type() != unix.S_IFREG {
		return nil
	}
	err := f.path.Mount.beginWrite()
	if err != nil {
		f.inode.writers.Add(-1)
	}
	return err
}

// abandon undoes a File that never opened.
func (f *File) abandon() {
	f.ops = &FileDefaults{}
	f.kind |= pathOnly // so that nobody is told of its end
	f.DecRef()
}

// begin finds the operations for f, and truncates.
func (f *File) begin(ctx *Context, flags int) (err error) {
	i := f.inode
	if f.ops, err = i.ops.Open(ctx, f); err != nil {
		return err
	}
	if f.ops == nil {
		if f.ops, err = f.opsByType(ctx); err != nil {
			return err
		}
	}
	f.path.Dentry.notify(unix.IN_OPEN)
	if flags&unix.O_TRUNC != 0 && i.Type() == unix.S_IFREG {
		if err = f.empty(ctx); err != nil {
			f.ops.Release(f)
		}
	}
	return err
}

// empty does what O_TRUNC asks for.
func (f *File) empty(ctx *Context) error {
	i := f.inode
	if _, ok := i.ops.(AttrOps); i.cache == nil && !ok {
		return f.ops.Truncate(f, 0)
	}
	if err := i.mayTruncate(); err != nil {
		return err
	}
	if err := i.truncate(ctx.Cred, 0); err != nil {
		return err
	}
	f.modified(1)
	return nil
}

// opsByType returns the operations that the type of the file alone decides.
func (f *File) opsByType(ctx *Context) (FileOps, error) {
	ns := f.path.Mount.ns
	switch f.inode.Type() {
	case unix.S_IFREG:
		return cached, nil
	case unix.S_IFDIR:
		return directory, nil
	case unix.S_IFCHR, unix.S_IFBLK:
		return ns.openDevice(ctx, f)
	case unix.S_IFIFO:
		if ns.OpenFIFO != nil {
			return ns.OpenFIFO(f)
		}
	}
	return nil, unix.ENXIO
}

// A pathFile is a File opened with O_PATH.
type pathFile struct{ FileDefaults }

// Reopen opens the file that p leads to, for the kernel's own use: no rights are checked.
func Reopen(p Path, c *cred.Cred, flags int) (*File, error) {
	return finishOpen(&Context{Root: p, Cwd: p, Cred: c}, p, flags)
}
