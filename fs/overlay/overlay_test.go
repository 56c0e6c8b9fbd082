package overlay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func check(tb testing.TB, what string, got, want error) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: %v, want %v", what, got, want)
	}
}

// world is a tree with /l1, /l2 (lower), /u and /w, and /m for the overlay.
type world struct {
	*vfstest.Tree
	t *testing.T
}

func newWorld(t *testing.T) *world {
	w := &world{vfstest.New(t), t}
	w.NS.AddType(Type(func() int64 { return w.Now.Add(1000) }))
	for _, d := range []string{"/l1", "/l2", "/u", "/w", "/m"} {
		w.mkdir(d)
	}
	return w
}

func (w *world) mkdir(name string) {
	w.t.Helper()
	must(w.t, vfs.Mkdir(w.Ctx, vfs.Path{}, name, 0o755))
}

func (w *world) at(name string) vfs.Path {
	w.t.Helper()
	p, err := vfs.Lookup(w.Ctx, vfs.Path{}, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return p
}

func (w *world) mount(options string) {
	w.t.Helper()
	must(w.t, vfs.DoMount(w.Ctx, "overlay", w.at("/m"), "overlay", 0, options))
	w.t.Cleanup(w.umount)
}

func (w *world) umount() {
	p, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/m", 0)
	if err == nil && p.Dentry == p.Mount.Root {
		must(w.t, vfs.Unmount(w.Ctx, p, 0))
	}
}

func (w *world) list(name string) string {
	w.t.Helper()
	var names []string
	must(w.t, vfs.ReadDir(w.Ctx, w.at(name), func(e vfs.Dirent) bool {
		names = append(names, e.Name)
		p := w.at(name + "/" + e.Name)
		if p.Inode().Ino != e.Ino {
			w.t.Errorf("%s/%s: listed as inode %#x, is %#x", name, e.Name, e.Ino, p.Inode().Ino)
		}
		return true
	}))
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (w *world) same(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

const both = "lowerdir=/l1:/l2,upperdir=/u,workdir=/w"

func sample(t *testing.T) *world {
	w := newWorld(t)
	w.Write(t, "/l1/a", "a of l1")
	w.Write(t, "/l2/a", "a of l2")
	w.Write(t, "/l2/b", "b of l2")
	w.mkdir("/l1/d")
	w.mkdir("/l2/d")
	w.Write(t, "/l1/d/one", "1")
	w.Write(t, "/l2/d/two", "2")
	w.mkdir("/l2/only")
	w.Write(t, "/l2/only/file", "x")
	must(t, vfs.Symlink(w.Ctx, "a", vfs.Path{}, "/l2/link"))
	must(t, vfs.Setxattr(w.Ctx, w.at("/l2/b"), "user.colour", []byte("red"), 0))
	w.mount(both)
	return w
}

func TestMerge(t *testing.T) {
	w := sample(t)
	w.same("list", w.list("/m"), "a b d link only")
	w.same("merged", w.list("/m/d"), "one two")
	w.same("a", w.Read(t, "/m/a"), "a of l1")
	w.same("link", w.Read(t, "/m/link"), "a of l1")
	w.same("lower", w.Read(t, "/m/only/file"), "x")
}

func TestCopyUp(t *testing.T) {
	w := sample(t)
	must(t, vfs.Utimes(w.Ctx, w.at("/l2/b"), &[2]unix.Timespec{{Sec: 5}, {Sec: 6}}))
	must(t, vfs.Chown(w.Ctx, w.at("/l2/b"), 7, 8))
	reader, err := vfs.Open(w.Ctx, vfs.Path{}, "/m/b", unix.O_RDONLY, 0)
	must(t, err)
	before := w.at("/m/b").Inode().Ino
	must(t, vfs.Chmod(w.Ctx, w.at("/m/b"), 0o600))
	var st unix.Stat_t
	must(t, vfs.Stat(w.Ctx, vfs.Path{}, "/m/b", 0, &st))
	if st.Mode != unix.S_IFREG|0o600 || st.Uid != 7 || st.Gid != 8 || st.Mtim.Sec != 6 || st.Ino != before || st.Size != 7 || st.Dev != w.at("/m").Mount.FS.Dev {
		t.Errorf("%+v", st)
	}
	if v, err := vfs.Getxattr(w.Ctx, w.at("/m/b"), "user.colour"); err != nil || string(v) != "red" {
		t.Errorf("%q, %v", v, err)
	}
	if v, err := vfs.Listxattr(w.Ctx, w.at("/m/b")); err != nil || string(v) != "user.colour\x00" {
		t.Errorf("%q, %v", v, err)
	}
	w.Write(t, "/m/b", "B")
	w.same("upper", w.Read(t, "/u/b"), "B")
	w.same("lower", w.Read(t, "/l2/b"), "b of l2")
	b := make([]byte, 10)
	dst := uio.Buffer(b)
	n, err := reader.Pread(&dst, 0)
	must(t, err)
	w.same("opened before", string(b[:n]), "B")
	reader.DecRef()
	w.same("list", w.list("/m"), "a b d link only")
	// In a directory that is below only.
	w.Write(t, "/m/only/file", "y")
	w.same("upper", w.Read(t, "/u/only/file"), "y")
	w.umount()
	w.mount(both)
	must(t, vfs.Stat(w.Ctx, vfs.Path{}, "/m/b", 0, &st))
	if st.Ino != before {
		t.Error("another number after the next mount")
	}
	w.same("again", w.Read(t, "/m/only/file"), "y")
}

func TestSparseCopy(t *testing.T) {
	w := newWorld(t)
	f, err := vfs.Open(w.Ctx, vfs.Path{}, "/l1/f", unix.O_RDWR|unix.O_CREAT, 0o644)
	must(t, err)
	src := uio.Buffer("end")
	_, err = f.Pwrite(&src, 10<<20)
	must(t, err)
	must(t, f.Truncate(20<<20))
	f.DecRef()
	w.mount("lowerdir=/l1,upperdir=/u,workdir=/w")
	must(t, vfs.Chmod(w.Ctx, w.at("/m/f"), 0o600))
	var st unix.Stat_t
	must(t, vfs.Stat(w.Ctx, vfs.Path{}, "/m/f", 0, &st))
	if st.Size != 20<<20 || st.Blocks != 8 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	must(t, vfs.Truncate(w.Ctx, "/m/f", 1))
	if size := w.at("/u/f").Inode().Size(); size != 1 {
		t.Error(size)
	}
}

func TestWhiteouts(t *testing.T) {
	w := sample(t)
	must(t, vfs.Unlink(w.Ctx, vfs.Path{}, "/m/a"))
	w.same("list", w.list("/m"), "b d link only")
	check(t, "gone", vfs.Unlink(w.Ctx, vfs.Path{}, "/m/a"), unix.ENOENT)
	if i := w.at("/u/a").Inode(); i.Type() != unix.S_IFCHR || i.Rdev != 0 {
		t.Error("no whiteout")
	}
	w.Write(t, "/m/a", "new")
	w.same("new", w.Read(t, "/m/a"), "new")
	check(t, "not empty", vfs.Rmdir(w.Ctx, vfs.Path{}, "/m/d"), unix.ENOTEMPTY)
	must(t, vfs.Unlink(w.Ctx, vfs.Path{}, "/m/d/one"))
	must(t, vfs.Unlink(w.Ctx, vfs.Path{}, "/m/d/two"))
	w.same("empty", w.list("/m/d"), "")
	must(t, vfs.Rmdir(w.Ctx, vfs.Path{}, "/m/d"))
	w.same("list", w.list("/m"), "a b link only")
	w.mkdir("/m/d")
	w.same("opaque", w.list("/m/d"), "")
	w.Write(t, "/m/d/three", "3")
	w.umount()
	w.mount(both)
	w.same("after the next mount", w.list("/m"), "a b d link only")
	w.same("opaque still", w.list("/m/d"), "three")
	check(t, "a whiteout by hand", vfs.Mknod(w.Ctx, vfs.Path{}, "/m/x", unix.S_IFCHR, 0, nil), unix.EPERM)
	w.same("lower", w.list("/l1"), "a d")
}

func TestRename(t *testing.T) {
	w := sample(t)
	mv := func(a, b string, flags uint) error {
		return vfs.Rename(w.Ctx, vfs.Path{}, "/m/"+a, vfs.Path{}, "/m/"+b, flags)
	}
	check(t, "a merged directory", mv("d", "e", 0), unix.EXDEV)
	check(t, "a lower directory", mv("only", "e", 0), unix.EXDEV)
	must(t, mv("a", "c", 0))
	w.same("list", w.list("/m"), "b c d link only")
	w.same("c", w.Read(t, "/m/c"), "a of l1")
	must(t, mv("c", "b", 0))
	w.same("list", w.list("/m"), "b d link only")
	w.same("b", w.Read(t, "/m/b"), "a of l1")
	must(t, mv("b", "d/one", 0))
	w.same("d/one", w.Read(t, "/m/d/one"), "a of l1")
	w.same("list", w.list("/m"), "d link only")
	w.mkdir("/m/new")
	w.Write(t, "/m/new/f", "f")
	must(t, mv("new", "a", 0)) // over a whiteout: it must not become merged
	w.same("a", w.list("/m/a"), "f")
	must(t, vfs.Unlink(w.Ctx, vfs.Path{}, "/m/only/file"))
	must(t, mv("a", "only", 0)) // over an empty directory with a whiteout in it
	w.same("only", w.list("/m/only"), "f")
	w.Write(t, "/m/x", "x")
	must(t, mv("x", "link", unix.RENAME_EXCHANGE))
	w.same("link", w.Read(t, "/m/link"), "x")
	if s, err := vfs.Readlink(w.Ctx, vfs.Path{}, "/m/x"); err != nil || s != "a" {
		t.Error(s, err)
	}
	check(t, "noreplace", mv("x", "link", unix.RENAME_NOREPLACE), unix.EEXIST)
	w.umount()
	w.mount(both)
	w.same("after the next mount", w.list("/m")+"; "+w.list("/m/only")+"; "+w.list("/m/d"), "d link only x; f; one two")
	w.same("lower", w.list("/l2"), "a b d link only")
	w.same("work", w.list("/w/work"), "")
}

func TestHardLinks(t *testing.T) {
	w := newWorld(t)
	w.Write(t, "/l1/a", "text")
	must(t, vfs.Link(w.Ctx, vfs.Path{}, "/l1/a", vfs.Path{}, "/l1/b", 0))
	w.mkdir("/l1/d")
	must(t, vfs.Link(w.Ctx, vfs.Path{}, "/l1/a", vfs.Path{}, "/l1/d/c", 0))
	w.mount("lowerdir=/l1,upperdir=/u,workdir=/w")
	w.Write(t, "/m/a", "changed")
	w.same("b", w.Read(t, "/m/b"), "changed")
	if a, b := w.at("/m/a").Inode(), w.at("/m/d/c").Inode(); a != b || a.Nlink() != 3 {
		t.Errorf("%d links", a.Nlink())
	}
	must(t, vfs.Unlink(w.Ctx, vfs.Path{}, "/m/a"))
	w.same("b", w.Read(t, "/m/b"), "changed")
	must(t, vfs.Rename(w.Ctx, vfs.Path{}, "/m/b", vfs.Path{}, "/m/d/e", 0))
	w.same("e", w.Read(t, "/m/d/e"), "changed")
	must(t, vfs.Link(w.Ctx, vfs.Path{}, "/m/d/c", vfs.Path{}, "/m/f", 0))
	if n := w.at("/m/f").Inode().Nlink(); n != 3 {
		t.Error(n, "links")
	}
	for _, name := range []string{"/m/f", "/m/d/c", "/m/d/e"} {
		must(t, vfs.Unlink(w.Ctx, vfs.Path{}, name))
	}
	w.same("list", w.list("/m")+w.list("/m/d"), "d")
	w.same("work", w.list("/w/work"), "")
}

func TestTemporaryAndUnlinked(t *testing.T) {
	w := sample(t)
	f, err := vfs.Open(w.Ctx, w.at("/m/d"), ".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	must(t, err)
	src := uio.Buffer("tmp")
	_, err = f.Write(&src)
	must(t, err)
	must(t, vfs.Link(w.Ctx, f.Path(), "", w.at("/m/d"), "kept", unix.AT_EMPTY_PATH))
	f.DecRef()
	w.same("kept", w.Read(t, "/m/d/kept"), "tmp")

	g, err := vfs.Open(w.Ctx, vfs.Path{}, "/m/a", unix.O_RDONLY, 0)
	must(t, err)
	must(t, vfs.Unlink(w.Ctx, vfs.Path{}, "/m/a"))
	var st unix.Stat_t
	must(t, g.Stat(&st))
	if st.Nlink != 0 {
		t.Error(st.Nlink, "links")
	}
	must(t, vfs.Chmod(w.Ctx, g.Path(), 0o400))
	must(t, g.Stat(&st))
	if st.Mode&0o777 != 0o400 {
		t.Errorf("%o", st.Mode)
	}
	g.DecRef()
	w.same("list", w.list("/m"), "b d link only")
}

func TestReadOnly(t *testing.T) {
	w := newWorld(t)
	w.Write(t, "/l1/a", "a")
	w.mount("lowerdir=/l1:/l2")
	check(t, "chmod", vfs.Chmod(w.Ctx, w.at("/m/a"), 0), unix.EROFS)
	check(t, "mkdir", vfs.Mkdir(w.Ctx, vfs.Path{}, "/m/x", 0o755), unix.EROFS)
	check(t, "unlink", vfs.Unlink(w.Ctx, vfs.Path{}, "/m/a"), unix.EROFS)
	_, err := vfs.Open(w.Ctx, vfs.Path{}, "/m/a", unix.O_RDWR, 0)
	check(t, "open", err, unix.EROFS)
}

func TestOptions(t *testing.T) {
	w := newWorld(t)
	w.Write(t, "/file", "")
	w.mkdir("/u/sub")
	for options, want := range map[string]error{
		"": unix.EINVAL, "upperdir=/u,workdir=/w": unix.EINVAL, "lowerdir=/l1,upperdir=/u": unix.EINVAL, "lowerdir=/none": unix.ENOENT,
		"lowerdir=/file:/l1": unix.ENOTDIR, "lowerdir=/l1": unix.EINVAL, "lowerdir=/l1::/l2": unix.EINVAL, "lowerdir=/l1,lowerdir=/l2": unix.EINVAL,
		"lowerdir=/l1:/l1": unix.ELOOP, "lowerdir=/u/sub:/l1,upperdir=/u,workdir=/w": unix.ELOOP, "lowerdir=/:/l1": unix.ELOOP, "lowerdir=/w,upperdir=/u,workdir=/w": unix.ELOOP,
		"lowerdir=/l1,upperdir=/u,workdir=/u/sub": unix.EINVAL, "lowerdir=/l1,strange": unix.EINVAL,
		"lowerdir=/l1,redirect_dir=on": unix.EINVAL, "lowerdir=/l1,metacopy=on": unix.EINVAL,
	} {
		check(t, options, vfs.DoMount(w.Ctx, "o", w.at("/m"), "overlay", 0, options), want)
	}
	w.mkdir("/co:lon")
	w.Write(t, "/co:lon/x", "x")
	w.mount(`lowerdir=/co\:lon:/l1,index=on,xino=auto,redirect_dir=nofollow,volatile`)
	w.same("list", w.list("/m"), "x")
}

// A listing that goes on while its entries are removed misses none.
func TestListingWhileRemoving(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.Write(t, fmt.Sprintf("/l1/f%d", i), "")
		w.Write(t, fmt.Sprintf("/u/g%d", i), "")
	}
	w.mount("lowerdir=/l1,upperdir=/u,workdir=/w")
	d, err := vfs.Open(w.Ctx, vfs.Path{}, "/m", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer d.DecRef()
	b := make([]byte, 256)
	removed := 0
	for {
		dst := uio.Buffer(b)
		n, err := d.Getdents(w.Ctx, &dst, false)
		must(t, err)
		if n == 0 {
			break
		}
		for at := 0; at < int(n); at += int(b[at+16]) {
			name := unix.ByteSliceToString(b[at+19 : at+int(b[at+16])])
			if name != "." && name != ".." {
				must(t, vfs.Unlink(w.Ctx, vfs.Path{}, "/m/"+name))
				removed++
			}
		}
	}
	if removed != 200 || w.list("/m") != "" {
		t.Errorf("%d removed, left: %s", removed, w.list("/m"))
	}
}

// TestLikeTheHost makes the same calls at random on the host's tmpfs and on an overlay; then what came of it is the lower
// layer of another, on which they go on, and so on.
func TestLikeTheHost(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			r := rand.New(rand.NewPCG(seed, 2))
			var p *vfstest.Pair
			lowers, mode, uid, gid := "/l1", uint32(0o755), uint32(0), uint32(0)
			// Hard links of a lower file are lost when one is changed and the overlay mounted again, as on Linux with index=off.
			mounts, without := 4, "link"
			if seed%2 == 1 {
				mounts, without = 2, ""
			}
			for n := range mounts {
				up, work := fmt.Sprint("/up", n), fmt.Sprint("/work", n)
				w.mkdir(up)
				w.mkdir(work)
				// The attributes of the root are the uppermost layer's.
				must(t, vfs.Chown(w.Ctx, w.at(up), uid, gid))
				must(t, vfs.Chmod(w.Ctx, w.at(up), mode))
				must(t, vfs.DoMount(w.Ctx, "o", w.at("/m"), "overlay", 0, "lowerdir="+lowers+",upperdir="+up+",workdir="+work))
				ctx := *w.Ctx
				ctx.Root, ctx.Cwd = w.at("/m"), w.at("/m")
				if p == nil {
					p = vfstest.NewPair(t, &ctx)
					p.Without(without)
					p.NoLinks() // those of merged directories, and names that are hidden in the lower layers
				}
				p.Switch(&ctx)
				p.Run(r.IntN, 200, nil)
				root := w.at("/m").Inode()
				mode, uid, gid = root.Mode(), root.UID(), root.GID()
				must(t, vfs.Unmount(w.Ctx, w.at("/m"), 0))
				if t.Failed() {
					return
				}
				lowers = up + ":" + lowers
			}
		})
	}
}
