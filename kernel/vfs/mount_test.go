package vfs_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

func place(t *testing.T, tr *vfstest.Tree, path string) vfs.Path {
	t.Helper()
	p, err := vfs.Lookup(tr.Ctx, vfs.Path{}, path, 0)
	must(t, err)
	return p
}

func TestMounts(t *testing.T) {
	tr := sample(t)
	tr.NS.AddType(vfs.Type{Name: "tmpfs", New: func(*vfs.MountRequest) (*vfs.FS, error) { return tr.NewFS(), nil }})
	check(t, "unknown type", vfs.DoMount(tr.Ctx, "x", place(t, tr, "/tmp"), "zfs", 0, ""), unix.ENODEV)
	check(t, "as a user", vfs.DoMount(tr.As(1, 1), "x", place(t, tr, "/tmp"), "tmpfs", 0, ""), unix.EPERM)
	check(t, "on a file", vfs.DoMount(tr.Ctx, "x", place(t, tr, "/d/e/f"), "tmpfs", 0, ""), unix.ENOTDIR)
	if tr.Evicted.Load() != 1 {
		t.Error("a file system that found no place is still there")
	}
	must(t, vfs.DoMount(tr.Ctx, "x", place(t, tr, "/tmp"), "tmpfs", unix.MS_NOEXEC, ""))
	tr.Write(t, "/tmp/file", "inside")
	if name, _ := vfs.PathName(place(t, tr, "/tmp/../tmp/file"), tr.Ctx.Root); name != "/tmp/file" {
		t.Error(name)
	}
	check(t, "removing a mount point", vfs.Rmdir(tr.Ctx, vfs.Path{}, "/tmp"), unix.EBUSY)
	check(t, "renaming it", vfs.Rename(tr.Ctx, vfs.Path{}, "/tmp", vfs.Path{}, "/x", 0), unix.EBUSY)
	check(t, "renaming out of it", vfs.Rename(tr.Ctx, vfs.Path{}, "/tmp/file", vfs.Path{}, "/x", 0), unix.EXDEV)
	check(t, "linking out of it", vfs.Link(tr.Ctx, vfs.Path{}, "/tmp/file", vfs.Path{}, "/x", 0), unix.EXDEV)
	check(t, "no execution", vfs.Access(tr.Ctx, vfs.Path{}, "/tmp/file", vfs.MayExec, 0), unix.EACCES)

	must(t, vfs.Mkdir(tr.Ctx, vfs.Path{}, "/bound", 0o755))
	must(t, vfs.DoMount(tr.Ctx, "/tmp", place(t, tr, "/bound"), "", unix.MS_BIND, ""))
	if got := tr.Read(t, "/bound/file"); got != "inside" {
		t.Error(got)
	}
	must(t, vfs.DoMount(tr.Ctx, "", place(t, tr, "/bound"), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	for what, err := range map[string]error{
		"mkdir":  vfs.Mkdir(tr.Ctx, vfs.Path{}, "/bound/x", 0o755),
		"chmod":  vfs.Chmod(tr.Ctx, place(t, tr, "/bound/file"), 0),
		"unlink": vfs.Unlink(tr.Ctx, vfs.Path{}, "/bound/file"),
		"access": vfs.Access(tr.Ctx, vfs.Path{}, "/bound/file", vfs.MayWrite, 0),
	} {
		check(t, what+" read-only", err, unix.EROFS)
	}
	_, err := vfs.Open(tr.Ctx, vfs.Path{}, "/bound/file", unix.O_RDWR, 0)
	check(t, "open read-only", err, unix.EROFS)
	tr.Write(t, "/tmp/file", "changed") // the other mount is not

	f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/tmp/file", unix.O_RDONLY, 0)
	must(t, err)
	check(t, "busy", vfs.Unmount(tr.Ctx, place(t, tr, "/tmp"), 0), unix.EBUSY)
	check(t, "no mount", vfs.Unmount(tr.Ctx, place(t, tr, "/d"), 0), unix.EINVAL)
	must(t, vfs.Unmount(tr.Ctx, place(t, tr, "/bound"), 0))
	must(t, vfs.Unmount(tr.Ctx, place(t, tr, "/tmp"), unix.MNT_DETACH))
	if got := vfstest.ReadAll(t, f); got != "changed" {
		t.Error(got)
	}
	if tr.Evicted.Load() != 1 {
		t.Error("evicted while open")
	}
	f.DecRef() // the last use: the file system goes (vfstest looks for leaked frames)
	if tr.Evicted.Load() != 3 {
		t.Errorf("%d evicted", tr.Evicted.Load())
	}
	if n := len(tr.NS.Mounts(tr.Ctx.Root)); n != 1 {
		t.Errorf("%d mounts left", n)
	}
}

// TestBoundPart: a mount of a part of a file system says which.
func TestBoundPart(t *testing.T) {
	tr := sample(t)
	must(t, vfs.Mkdir(tr.Ctx, vfs.Path{}, "/bound", 0o755))
	must(t, vfs.DoMount(tr.Ctx, "/d/e", place(t, tr, "/bound"), "", unix.MS_BIND, ""))
	list := tr.NS.Mounts(tr.Ctx.Root)
	if m := list[len(list)-1]; m.Root != "/d/e" || m.Point != "/bound" || list[0].Root != "/" {
		t.Errorf("%+v", list)
	}
}

func TestRecursiveBind(t *testing.T) {
	tr := sample(t)
	tr.NS.AddType(vfs.Type{Name: "tmpfs", New: func(*vfs.MountRequest) (*vfs.FS, error) { return tr.NewFS(), nil }})
	must(t, vfs.DoMount(tr.Ctx, "x", place(t, tr, "/d/e"), "tmpfs", 0, ""))
	tr.Write(t, "/d/e/deep", "deep")
	must(t, vfs.DoMount(tr.Ctx, "/d", place(t, tr, "/tmp"), "", unix.MS_BIND|unix.MS_REC, ""))
	if got := tr.Read(t, "/tmp/e/deep"); got != "deep" {
		t.Error(got)
	}
	must(t, vfs.Unmount(tr.Ctx, place(t, tr, "/tmp"), unix.MNT_DETACH))
	must(t, vfs.Unmount(tr.Ctx, place(t, tr, "/d/e"), 0))
}

func TestXattrs(t *testing.T) {
	tr := sample(t)
	f, user := place(t, tr, "/d/e/f"), tr.As(1000, 1000)
	set := func(c *vfs.Context, p vfs.Path, name, value string, flags int) error {
		return vfs.Setxattr(c, p, name, []byte(value), flags)
	}
	check(t, "replace nothing", set(tr.Ctx, f, "user.a", "1", unix.XATTR_REPLACE), unix.ENODATA)
	check(t, "create", set(tr.Ctx, f, "user.a", "1", unix.XATTR_CREATE), nil)
	check(t, "create again", set(tr.Ctx, f, "user.a", "1", unix.XATTR_CREATE), unix.EEXIST)
	check(t, "no namespace", set(tr.Ctx, f, "a", "1", 0), unix.EOPNOTSUPP)
	check(t, "trusted", set(tr.Ctx, f, "trusted.t", "1", 0), nil)
	check(t, "trusted as user", set(user, f, "trusted.t", "1", 0), unix.EPERM)
	check(t, "not the owner", set(user, f, "user.b", "1", 0), unix.EACCES)
	check(t, "too large", set(tr.Ctx, f, "user.c", string(make([]byte, 65537)), 0), unix.E2BIG)
	for n := range 4 {
		check(t, "large", set(tr.Ctx, f, "user.large"+string(rune('0'+n)), string(make([]byte, 65000)), 0), nil)
	}
	check(t, "full", set(tr.Ctx, f, "user.large4", string(make([]byte, 65536)), 0), unix.ENOSPC)
	if v, err := vfs.Getxattr(user, f, "user.a"); string(v) != "1" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	_, err := vfs.Getxattr(user, f, "trusted.t")
	check(t, "hidden", err, unix.ENODATA)
	if list, err := vfs.Listxattr(user, f); err != nil || string(list) != "user.a\x00user.large0\x00user.large1\x00user.large2\x00user.large3\x00" {
		t.Errorf("%q, %v", list, err)
	}
	check(t, "remove", vfs.Removexattr(tr.Ctx, f, "user.a"), nil)
	check(t, "remove again", vfs.Removexattr(tr.Ctx, f, "user.a"), unix.ENODATA)
}

func TestMemfd(t *testing.T) {
	tr := sample(t)
	f, err := vfs.NewMemfd(tr.NS, tr.Ctx.Cred, "x", unix.MFD_ALLOW_SEALING)
	must(t, err)
	write := func(s string, off int64) error {
		b := uio.Buffer(s)
		_, err := f.Pwrite(&b, off)
		return err
	}
	must(t, write("hello", 0))
	if f.MapName() != "/memfd:x (deleted)" || f.MapCache() == nil {
		t.Error(f.MapName())
	}
	must(t, f.AddSeals(unix.F_SEAL_GROW|unix.F_SEAL_SHRINK))
	check(t, "grow", f.Truncate(10), unix.EPERM)
	check(t, "shrink", f.Truncate(1), unix.EPERM)
	check(t, "write beyond", write("x", 5), unix.EPERM)
	check(t, "write within", write("H", 0), nil)
	must(t, f.AddSeals(unix.F_SEAL_WRITE|unix.F_SEAL_SEAL))
	check(t, "write", write("H", 0), unix.EPERM)
	check(t, "seal", f.AddSeals(unix.F_SEAL_GROW), unix.EPERM)
	if s, err := f.Seals(); err != nil || s != unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL {
		t.Errorf("%x, %v", s, err)
	}
	f.DecRef()
	g, err := vfs.NewMemfd(tr.NS, tr.Ctx.Cred, "", 0)
	must(t, err)
	check(t, "not sealable", g.AddSeals(unix.F_SEAL_WRITE), unix.EPERM)
	g.DecRef()
	_, err = vfs.NewMemfd(tr.NS, tr.Ctx.Cred, "", unix.MFD_HUGETLB|unix.MFD_HUGE_1GB)
	check(t, "huge pages of 1 GiB", err, unix.ENODEV)
}

func TestAllocate(t *testing.T) {
	tr := sample(t)
	f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDWR, 0)
	must(t, err)
	defer f.DecRef()
	size := func() int64 {
		var st unix.Stat_t
		f.Stat(&st)
		return st.Size
	}
	must(t, f.Allocate(0, 0, 10000))
	if size() != 10000 || f.MapCache().Pages() != 3 {
		t.Errorf("size %d, %d pages", size(), f.MapCache().Pages())
	}
	must(t, f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 8192))
	if size() != 10000 || f.MapCache().Pages() != 1 {
		t.Errorf("size %d, %d pages", size(), f.MapCache().Pages())
	}
	if pos, err := f.Seek(0, unix.SEEK_DATA); err != unix.ENXIO { // nobody has written it
		t.Error(pos, err)
	}
	b := uio.Buffer("x")
	if _, err := f.Pwrite(&b, 9000); err != nil {
		t.Error(err)
	}
	if pos, err := f.Seek(0, unix.SEEK_DATA); pos != 8192 || err != nil {
		t.Error(pos, err)
	}
	check(t, "zero length", f.Allocate(0, 0, 0), unix.EINVAL)
	check(t, "overflow", f.Allocate(0, 1<<62, 1<<62), unix.EFBIG)
	check(t, "collapse", f.Allocate(unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096), unix.EOPNOTSUPP)
	check(t, "too much", f.Allocate(0, 0, 1<<40), unix.ENOSPC)
	if size() != 10000 {
		t.Errorf("size %d after a failure", size())
	}
}

func TestMove(t *testing.T) {
	tr := sample(t)
	tr.NS.AddType(vfs.Type{Name: "tmpfs", New: func(*vfs.MountRequest) (*vfs.FS, error) { return tr.NewFS(), nil }})
	for _, d := range []string{"/a", "/b"} {
		must(t, vfs.Mkdir(tr.Ctx, vfs.Path{}, d, 0o755))
	}
	must(t, vfs.DoMount(tr.Ctx, "x", place(t, tr, "/a"), "tmpfs", 0, ""))
	must(t, vfs.Mkdir(tr.Ctx, vfs.Path{}, "/a/sub", 0o755))
	must(t, vfs.DoMount(tr.Ctx, "x", place(t, tr, "/a/sub"), "tmpfs", 0, ""))
	tr.Write(t, "/a/sub/file", "deep")
	check(t, "no mount", vfs.DoMount(tr.Ctx, "/d", place(t, tr, "/b"), "", unix.MS_MOVE, ""), unix.EINVAL)
	check(t, "the root", vfs.DoMount(tr.Ctx, "/", place(t, tr, "/b"), "", unix.MS_MOVE, ""), unix.EINVAL)
	check(t, "into itself", vfs.DoMount(tr.Ctx, "/a", place(t, tr, "/a/sub"), "", unix.MS_MOVE, ""), unix.ELOOP)
	check(t, "onto a file", vfs.DoMount(tr.Ctx, "/a", place(t, tr, "/d/e/f"), "", unix.MS_MOVE, ""), unix.ENOTDIR)
	must(t, vfs.DoMount(tr.Ctx, "/a", place(t, tr, "/b"), "", unix.MS_MOVE, ""))
	if got := tr.Read(t, "/b/sub/file"); got != "deep" {
		t.Error(got)
	}
	must(t, vfs.Rmdir(tr.Ctx, vfs.Path{}, "/a"))
	check(t, "the point", vfs.Rmdir(tr.Ctx, vfs.Path{}, "/b"), unix.EBUSY)
	if name, _ := vfs.PathName(place(t, tr, "/b/sub/file"), tr.Ctx.Root); name != "/b/sub/file" {
		t.Error(name)
	}
	check(t, "options that cannot change", vfs.DoMount(tr.Ctx, "", place(t, tr, "/b"), "", unix.MS_REMOUNT, "size=1m"), unix.EINVAL)
	must(t, vfs.Unmount(tr.Ctx, place(t, tr, "/b"), unix.MNT_DETACH))
}

func TestHandles(t *testing.T) {
	tr := sample(t)
	tr.Write(t, "/f", "text")
	p := place(t, tr, "/f")
	h, err := p.Handle()
	must(t, err)
	must(t, vfs.Rename(tr.Ctx, vfs.Path{}, "/f", vfs.Path{}, "/g", 0))
	f, err := vfs.OpenHandle(tr.Ctx, tr.Ctx.Root, h[:], unix.O_RDONLY)
	must(t, err)
	if f.Path() != place(t, tr, "/g") {
		t.Error("another file")
	}
	f.DecRef()
	_, err = vfs.OpenHandle(tr.As(1, 1), tr.Ctx.Root, h[:], unix.O_RDONLY)
	check(t, "as a user", err, unix.EPERM)
	must(t, vfs.Unlink(tr.Ctx, vfs.Path{}, "/g"))
	_, err = vfs.OpenHandle(tr.Ctx, tr.Ctx.Root, h[:], unix.O_RDONLY)
	check(t, "removed", err, unix.ESTALE)
	h[0]++
	_, err = vfs.OpenHandle(tr.Ctx, tr.Ctx.Root, h[:], unix.O_RDONLY)
	check(t, "another number", err, unix.ESTALE)
}

// TestReadOnlyFS: a file system that is read-only is so through all its mounts, and cannot become so while a file that can be written is open.
func TestReadOnlyFS(t *testing.T) {
	tr := sample(t)
	tr.NS.AddType(vfs.Type{Name: "tmpfs", New: func(*vfs.MountRequest) (*vfs.FS, error) { return tr.NewFS(), nil }})
	must(t, vfs.Mkdir(tr.Ctx, vfs.Path{}, "/bound", 0o755))
	remount := func(path string, flags uint64, data string) error {
		return vfs.DoMount(tr.Ctx, "", place(t, tr, path), "", unix.MS_REMOUNT|flags, data)
	}
	write := func(path string) error {
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, path, unix.O_CREAT|unix.O_RDWR, 0o600)
		if err == nil {
			f.DecRef()
		}
		return err
	}
	must(t, vfs.DoMount(tr.Ctx, "x", place(t, tr, "/tmp"), "tmpfs", 0, "ro"))
	must(t, vfs.DoMount(tr.Ctx, "/tmp", place(t, tr, "/bound"), "", unix.MS_BIND, ""))
	check(t, "bind cannot undo it", remount("/bound", unix.MS_BIND, ""), nil)
	check(t, "write", write("/bound/a"), unix.EROFS)
	must(t, remount("/tmp", 0, ""))
	must(t, write("/bound/a"))
	f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/bound/a", unix.O_WRONLY, 0)
	must(t, err)
	check(t, "a writer elsewhere", remount("/tmp", unix.MS_RDONLY, ""), unix.EBUSY)
	check(t, "a writer elsewhere, by a word", remount("/tmp", 0, "ro"), unix.EBUSY)
	must(t, remount("/tmp", unix.MS_BIND|unix.MS_RDONLY, ""))
	must(t, remount("/tmp", unix.MS_BIND, ""))
	check(t, "a writer here", vfs.ChangeMount(tr.Ctx, place(t, tr, "/bound"), vfs.MountChange{Set: unix.MS_RDONLY}), unix.EBUSY)
	must(t, write("/bound/a"))
	must(t, vfs.Mknod(tr.Ctx, vfs.Path{}, "/bound/fifo", unix.S_IFIFO|0o600, 0, nil))
	f.DecRef()
	must(t, remount("/bound", unix.MS_RDONLY, ""))
	check(t, "write", write("/tmp/b"), unix.EROFS)
	check(t, "mkdir", vfs.Mkdir(tr.Ctx, vfs.Path{}, "/tmp/d", 0o755), unix.EROFS)
	must(t, remount("/tmp", 0, ""))
	must(t, write("/tmp/b"))
	check(t, "the mount that asked for it", write("/bound/b"), unix.EROFS)
}

// TestNoXdevLinks: an absolute link leads to the root, which may be another mount (openat2(2)).
func TestNoXdevLinks(t *testing.T) {
	tr := sample(t)
	tr.NS.AddType(vfs.Type{Name: "tmpfs", New: func(*vfs.MountRequest) (*vfs.FS, error) { return tr.NewFS(), nil }})
	must(t, vfs.DoMount(tr.Ctx, "x", place(t, tr, "/tmp"), "tmpfs", 0, ""))
	must(t, vfs.Symlink(tr.Ctx, "/", vfs.Path{}, "/tmp/abs"))
	must(t, vfs.Symlink(tr.Ctx, "/d", vfs.Path{}, "/rootabs"))
	for _, c := range []struct {
		at, path       string
		flags, resolve uint64
		want           error
	}{
		{"/tmp", "abs", 0, unix.RESOLVE_NO_XDEV, unix.EXDEV}, {"/tmp", "abs/d/e/f", 0, unix.RESOLVE_NO_XDEV, unix.EXDEV}, {"/tmp", "abs", 0, 0, nil},
		{"/", "rootabs", 0, unix.RESOLVE_NO_XDEV, nil}, {"/tmp", "/d", 0, unix.RESOLVE_NO_XDEV, nil}, {"/tmp", "..", 0, unix.RESOLVE_NO_XDEV, unix.EXDEV},
		{"/d", "../tmp", 0, unix.RESOLVE_NO_XDEV, unix.EXDEV}, {"/tmp", "abs", 0, unix.RESOLVE_NO_XDEV | unix.RESOLVE_IN_ROOT, nil},
		{"/tmp", ".", unix.O_TMPFILE | unix.O_RDWR, 0x20, unix.EAGAIN}, // RESOLVE_CACHED
	} {
		f, err := vfs.OpenHow(tr.Ctx, place(t, tr, c.at), c.path, &unix.OpenHow{Flags: c.flags, Resolve: c.resolve})
		if err == nil {
			f.DecRef()
		}
		check(t, c.at+" "+c.path, err, c.want)
	}
}

// TestXattrNames: a name is a namespace, a dot and more (xattr(7)).
func TestXattrNames(t *testing.T) {
	tr := sample(t)
	for name, want := range map[string]error{
		"user.": unix.EINVAL, "trusted.": unix.EINVAL, "security.": unix.EINVAL, "user": unix.EOPNOTSUPP, "strange.": unix.EOPNOTSUPP, "user.x": nil, "user..": nil,
	} {
		check(t, name, vfs.Setxattr(tr.Ctx, place(t, tr, "/d/e/f"), name, []byte("v"), 0), want)
	}
}
