package vfs_test

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

func check(t *testing.T, what string, got, want error) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTree makes the trees of the tests.
var newTree = func(tb testing.TB) *vfstest.Tree { return vfstest.New(tb) }

// TestCached makes other tests again, in a Cached file system.
func TestCached(t *testing.T) {
	old := newTree
	newTree = func(tb testing.TB) *vfstest.Tree { return vfstest.NewCached(tb) }
	defer func() { newTree = old }()
	for name, test := range map[string]func(*testing.T){
		"Lookup": TestLookup, "ChrootKeepsDotDotInside": TestChrootKeepsDotDotInside, "Open": TestOpen, "OpenHow": TestOpenHow,
		"ReadWrite": TestReadWrite, "AppendIsAtomic": TestAppendIsAtomic, "TextBusy": TestTextBusy, "LikeTheHost": TestLikeTheHost,
		"UnlinkedFileLivesUntilClosed": TestUnlinkedFileLivesUntilClosed, "Mounts": TestMounts, "RecursiveBind": TestRecursiveBind,
		"CachedNames": testCachedNames,
	} {
		t.Run(name, test)
	}
}

// testCachedNames has more names than the file system keeps, and looks for places that are held.
func testCachedNames(t *testing.T) {
	tr := sample(t)
	held, err := vfs.Lookup(tr.Ctx, vfs.Path{}, "/d/e", 0)
	must(t, err)
	for i := range 200 {
		tr.Write(t, "/tmp/f"+strings.Repeat("x", i), "v")
	}
	runtime.GC()
	for range 3 {
		again, err := vfs.Lookup(tr.Ctx, vfs.Path{}, "/d/e", 0)
		must(t, err)
		if again != held {
			t.Fatal("a place that is held was forgotten")
		}
		tr.FS.DropNames()
		runtime.GC()
	}
	if n := len(tr.List(t, "/tmp")); n != 202 {
		t.Errorf("%d names", n)
	}
	for i := range 200 {
		must(t, vfs.Unlink(tr.Ctx, vfs.Path{}, "/tmp/f"+strings.Repeat("x", i)))
	}
	must(t, vfs.Rmdir(tr.Ctx, vfs.Path{}, "/tmp"))
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			name, other := "/d/n"+string(rune('0'+n)), "/d/n"+string(rune('0'+(n+1)%4))
			for range 300 {
				f, err := vfs.Open(tr.Ctx, vfs.Path{}, name, unix.O_CREAT|unix.O_RDWR, 0o600)
				if err == nil {
					f.DecRef()
				}
				_ = vfs.Rename(tr.Ctx, vfs.Path{}, name, vfs.Path{}, other, 0) // may be gone
				_ = vfs.Link(tr.Ctx, vfs.Path{}, other, vfs.Path{}, "/d/e/"+name[3:], 0)
				_ = vfs.Unlink(tr.Ctx, vfs.Path{}, "/d/e/"+name[3:])
				_ = vfs.Unlink(tr.Ctx, vfs.Path{}, other)
			}
		})
	}
	wg.Wait()
}

// sample makes /d/e/f, /d/l -> e, /abs -> /d, /dangling -> nowhere, /loop -> loop, /tmp sticky.
func sample(t *testing.T) *vfstest.Tree {
	tr := newTree(t)
	c := tr.Ctx
	must(t, vfs.Mkdir(c, vfs.Path{}, "/d", 0o755))
	must(t, vfs.Mkdir(c, vfs.Path{}, "/d/e", 0o755))
	tr.Write(t, "/d/e/f", "hello")
	must(t, vfs.Symlink(c, "e", vfs.Path{}, "/d/l"))
	must(t, vfs.Symlink(c, "/d", vfs.Path{}, "/abs"))
	must(t, vfs.Symlink(c, "nowhere", vfs.Path{}, "/dangling"))
	must(t, vfs.Symlink(c, "loop", vfs.Path{}, "/loop"))
	must(t, vfs.Mkdir(c, vfs.Path{}, "/tmp", 0o777))
	p, err := vfs.Lookup(c, vfs.Path{}, "/tmp", 0)
	must(t, err)
	must(t, vfs.Chmod(c, p, 0o1777))
	return tr
}

func TestLookup(t *testing.T) {
	tr := sample(t)
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		path string
		err  error
		name string
	}{
		{"/", nil, "/"},
		{"///", nil, "/"},
		{"/d/e/f", nil, "/d/e/f"},
		{"d//e/./f", nil, "/d/e/f"},
		{"/d/l/f", nil, "/d/e/f"},
		{"/d/l", nil, "/d/e"},
		{"/d/l/", nil, "/d/e"},
		{"/abs/l/../l/f", nil, "/d/e/f"},
		{"/../../d", nil, "/d"},
		{"/d/..", nil, "/"},
		{"", unix.ENOENT, ""},
		{"/x", unix.ENOENT, ""},
		{"/x/..", unix.ENOENT, ""},
		{"/d/e/f/", unix.ENOTDIR, ""},
		{"/d/e/f/x", unix.ENOTDIR, ""},
		{"/d/e/f/..", unix.ENOTDIR, ""},
		{"/dangling", unix.ENOENT, ""},
		{"/loop", unix.ELOOP, ""},
		{"/loop/x", unix.ELOOP, ""},
		{"/" + long, unix.ENAMETOOLONG, ""},
		{"/" + long[1:], unix.ENOENT, ""},
		{strings.Repeat("/d/..", 1000), unix.ENAMETOOLONG, ""},
		{strings.Repeat("/d/..", 800), nil, "/"},
	} {
		p, err := vfs.Lookup(tr.Ctx, vfs.Path{}, c.path, 0)
		check(t, c.path, err, c.err)
		if err != nil {
			continue
		}
		if name, err := vfs.PathName(p, tr.Ctx.Root); name != c.name {
			t.Errorf("%q is called %q (%v), want %q", c.path, name, err, c.name)
		}
	}
	for path, want := range map[string]error{"/d/l": nil, "/dangling": nil, "/loop": nil, "/dangling/": unix.ENOENT} {
		_, err := vfs.Lookup(tr.Ctx, vfs.Path{}, path, unix.AT_SYMLINK_NOFOLLOW)
		check(t, "nofollow "+path, err, want)
	}
}

func TestLinkLimit(t *testing.T) {
	tr := sample(t)
	prev := "/d"
	for i := range 41 {
		name := "/s" + string(rune('A'+i))
		must(t, vfs.Symlink(tr.Ctx, prev, vfs.Path{}, name))
		prev = name
		_, err := vfs.Lookup(tr.Ctx, vfs.Path{}, name+"/e", 0)
		if want := error(unix.ELOOP); i < 40 && err != nil || i == 40 && err != want {
			t.Errorf("%d links: %v", i+1, err)
		}
	}
}

func TestChrootKeepsDotDotInside(t *testing.T) {
	tr := sample(t)
	d, err := vfs.Lookup(tr.Ctx, vfs.Path{}, "/d", 0)
	must(t, err)
	jail := *tr.Ctx
	jail.Root, jail.Cwd = d, d
	for path, want := range map[string]error{"/../../d": unix.ENOENT, "../e/f": nil, "/e/../../e": nil, "/l/f": nil} {
		_, err := vfs.Lookup(&jail, vfs.Path{}, path, 0)
		check(t, path, err, want)
	}
	must(t, vfs.Symlink(tr.Ctx, "/e/f", vfs.Path{}, "/d/inner"))
	_, err = vfs.Lookup(&jail, vfs.Path{}, "inner", 0)
	check(t, "absolute link in a jail", err, nil)
	jail.Cwd = tr.Ctx.Root
	name, err := vfs.Getcwd(&jail)
	if err != nil || name != "(unreachable)/" {
		t.Errorf("cwd outside: %q, %v", name, err)
	}
}

func TestOpen(t *testing.T) {
	tr := sample(t)
	user := tr.As(1000, 1000)
	tr.Write(t, "/secret", "x")
	secret, err := vfs.Lookup(tr.Ctx, vfs.Path{}, "/secret", 0)
	must(t, err)
	must(t, vfs.Chmod(tr.Ctx, secret, 0o600))
	for _, c := range []struct {
		ctx   *vfs.Context
		path  string
		flags int
		err   error
	}{
		{tr.Ctx, "/d/e/f", unix.O_RDWR, nil},
		{tr.Ctx, "/d", unix.O_RDONLY, nil},
		{tr.Ctx, "/d", unix.O_WRONLY, unix.EISDIR},
		{tr.Ctx, "/d", unix.O_RDONLY | unix.O_CREAT, unix.EISDIR},
		{tr.Ctx, "/d/e/f", unix.O_RDONLY | unix.O_DIRECTORY, unix.ENOTDIR},
		{tr.Ctx, "/d/l", unix.O_RDONLY | unix.O_NOFOLLOW, unix.ELOOP},
		{tr.Ctx, "/d/l", unix.O_PATH | unix.O_NOFOLLOW, nil},
		{tr.Ctx, "/d/e/f", unix.O_CREAT | unix.O_EXCL | unix.O_RDWR, unix.EEXIST},
		{tr.Ctx, "/dangling", unix.O_CREAT | unix.O_EXCL | unix.O_RDWR, unix.EEXIST},
		{tr.Ctx, "/new/", unix.O_CREAT | unix.O_RDWR, unix.EISDIR},
		{tr.Ctx, "/new", unix.O_CREAT | unix.O_DIRECTORY, unix.EINVAL},
		{tr.Ctx, "/nodir/new", unix.O_CREAT | unix.O_RDWR, unix.ENOENT},
		{tr.Ctx, "/dangling", unix.O_CREAT | unix.O_RDWR, nil},
		{tr.Ctx, "/nowhere", unix.O_RDONLY, nil},
		{tr.Ctx, "/secret", unix.O_RDWR, nil},
		{user, "/secret", unix.O_RDONLY, unix.EACCES},
		{user, "/secret", unix.O_PATH, nil},
		{user, "/d/e/f", unix.O_RDONLY, nil},
		{user, "/d/e/f", unix.O_RDONLY | unix.O_TRUNC, unix.EACCES},
		{user, "/d/e/f", unix.O_RDONLY | unix.O_NOATIME, unix.EPERM},
		{user, "/d/new", unix.O_CREAT | unix.O_RDWR, unix.EACCES},
		{user, "/tmp/new", unix.O_CREAT | unix.O_RDWR, nil},
		{tr.Ctx, "/tmp", unix.O_TMPFILE | unix.O_RDWR, nil},
		{tr.Ctx, "/tmp", unix.O_TMPFILE | unix.O_RDONLY, unix.EINVAL},
		{tr.Ctx, "/d/e/f", unix.O_TMPFILE | unix.O_RDWR, unix.ENOTDIR},
	} {
		f, err := vfs.Open(c.ctx, vfs.Path{}, c.path, c.flags, 0o666)
		check(t, c.path, err, c.err)
		if err == nil {
			f.DecRef()
		}
	}
	var st unix.Stat_t
	must(t, vfs.Stat(tr.Ctx, vfs.Path{}, "/tmp/new", 0, &st))
	if st.Uid != 1000 || st.Gid != 1000 || st.Mode != unix.S_IFREG|0o644 {
		t.Errorf("new file has owner %d:%d, mode %o", st.Uid, st.Gid, st.Mode)
	}
}

func TestOpenHow(t *testing.T) {
	tr := sample(t)
	d, err := vfs.Lookup(tr.Ctx, vfs.Path{}, "/d", 0)
	must(t, err)
	must(t, vfs.Symlink(tr.Ctx, "..", vfs.Path{}, "/d/up"))
	must(t, vfs.Symlink(tr.Ctx, "/e/f", vfs.Path{}, "/d/root"))
	for _, c := range []struct {
		path    string
		resolve uint64
		err     error
	}{
		{"e/f", unix.RESOLVE_BENEATH, nil},
		{"l/f", unix.RESOLVE_BENEATH, nil},
		{"l/f", unix.RESOLVE_NO_SYMLINKS, unix.ELOOP},
		{"../d/e/f", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"e/../e/f", unix.RESOLVE_BENEATH, nil},
		{"up/d/e/f", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"/d/e/f", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"root", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"root", unix.RESOLVE_IN_ROOT, nil},
		{"up/e/f", unix.RESOLVE_IN_ROOT, nil},
		{"e/f", unix.RESOLVE_IN_ROOT | unix.RESOLVE_BENEATH, unix.EINVAL},
		{"e/f", 1 << 40, unix.EINVAL},
	} {
		f, err := vfs.OpenHow(tr.Ctx, d, c.path, &unix.OpenHow{Flags: unix.O_RDONLY, Resolve: c.resolve})
		check(t, c.path, err, c.err)
		if err == nil {
			f.DecRef()
		}
	}
	_, err = vfs.OpenHow(tr.Ctx, d, "e/f", &unix.OpenHow{Mode: 0o644})
	check(t, "mode without O_CREAT", err, unix.EINVAL)
}

func TestReadWrite(t *testing.T) {
	tr := sample(t)
	f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDWR, 0)
	must(t, err)
	defer f.DecRef()
	if got := vfstest.ReadAll(t, f); got != "hello" {
		t.Errorf("read %q", got)
	}
	b := uio.Buffer(" world")
	if n, err := f.Write(&b); n != 6 || err != nil {
		t.Errorf("write: %d, %v", n, err)
	}
	if pos, _ := f.Seek(0, unix.SEEK_CUR); pos != 11 {
		t.Errorf("position %d", pos)
	}
	b = uio.Buffer("J")
	if _, err := f.Pwrite(&b, 0); err != nil {
		t.Error(err)
	}
	if got := tr.Read(t, "/d/e/f"); got != "Jello world" {
		t.Errorf("contents %q", got)
	}
	for _, c := range []struct {
		off    int64
		whence int
		pos    int64
		err    error
	}{
		{-3, unix.SEEK_END, 8, nil}, {-9, unix.SEEK_CUR, 0, unix.EINVAL}, {1 << 62, unix.SEEK_SET, 1 << 62, nil},
		{1 << 62, unix.SEEK_CUR, 0, unix.EINVAL}, {0, 99, 0, unix.EINVAL}, {0, unix.SEEK_HOLE, 11, nil},
		{0, unix.SEEK_DATA, 0, nil}, {11, unix.SEEK_DATA, 0, unix.ENXIO}, {4, unix.SEEK_SET, 4, nil},
	} {
		pos, err := f.Seek(c.off, c.whence)
		if pos != c.pos || err != c.err {
			t.Errorf("seek %d,%d: %d, %v", c.off, c.whence, pos, err)
		}
	}
	must(t, f.Truncate(3))
	if got := tr.Read(t, "/d/e/f"); got != "Jel" {
		t.Errorf("contents %q", got)
	}
	check(t, "negative truncate", f.Truncate(-1), unix.EINVAL)
	r, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDONLY, 0)
	must(t, err)
	defer r.DecRef()
	b = uio.Buffer("x")
	_, err = r.Write(&b)
	check(t, "write to a read-only file", err, unix.EBADF)
	_, err = r.Pread(&b, -1)
	check(t, "pread at -1", err, unix.EINVAL)
}

func TestAppendIsAtomic(t *testing.T) {
	tr := sample(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/log", unix.O_CREAT|unix.O_APPEND|unix.O_WRONLY, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.DecRef()
			for range 50 {
				b := uio.Buffer(strings.Repeat(string(rune('a'+i)), 9) + "\n")
				if _, err := f.Write(&b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSpace(tr.Read(t, "/log")), "\n")
	if len(lines) != 200 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, l := range lines {
		if len(l) != 9 || strings.Trim(l, l[:1]) != "" {
			t.Errorf("mixed line %q", l)
		}
	}
}

func TestListing(t *testing.T) {
	tr := sample(t)
	if got, want := tr.List(t, "/d"), []string{".", "..", "e", "l"}; !slices.Equal(got, want) {
		t.Errorf("list: %v", got)
	}
	// A listing that goes on while its directory changes: all that stays is seen once.
	must(t, vfs.Mkdir(tr.Ctx, vfs.Path{}, "/many", 0o755))
	name := func(i int) string { return "/many/" + string(rune('a'+i/26)) + string(rune('a'+i%26)) }
	for i := range 200 {
		tr.Write(t, name(i), "")
	}
	f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/many", unix.O_RDONLY, 0)
	must(t, err)
	defer f.DecRef()
	seen := map[string]int{}
	for round := 0; ; round++ {
		buf := make([]byte, 200)
		b := uio.Buffer(buf)
		n, err := f.Getdents(tr.Ctx, &b, round%2 == 1)
		must(t, err)
		if n == 0 {
			break
		}
		for rest := buf[:n]; len(rest) > 0; {
			head := 19 - round%2
			size := int(rest[16])
			seen[unix.ByteSliceToString(rest[head:size])]++
			rest = rest[size:]
		}
		if i := 2 * round; i < 200 {
			must(t, vfs.Unlink(tr.Ctx, vfs.Path{}, name(i)))
		}
	}
	for i := 1; i < 200; i += 2 {
		if n := seen[name(i)[6:]]; n != 1 {
			t.Errorf("%s seen %d times", name(i), n)
		}
	}
	small := uio.Buffer(make([]byte, 10))
	if _, err := f.Seek(0, unix.SEEK_SET); err != nil {
		t.Error(err)
	}
	_, err = f.Getdents(tr.Ctx, &small, false)
	check(t, "small buffer", err, unix.EINVAL)
}

func TestUnlinkedFileLivesUntilClosed(t *testing.T) {
	tr := sample(t)
	f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDONLY, 0)
	must(t, err)
	must(t, vfs.Unlink(tr.Ctx, vfs.Path{}, "/d/e/f"))
	if got := vfstest.ReadAll(t, f); got != "hello" {
		t.Errorf("read %q", got)
	}
	if got := f.MapName(); got != "/d/e/f (deleted)" {
		t.Errorf("name %q", got)
	}
	if tr.Evicted.Load() != 0 {
		t.Error("evicted while open")
	}
	f.DecRef()
	if tr.Evicted.Load() != 1 {
		t.Error("not evicted at last close")
	}
}

func TestTextBusy(t *testing.T) {
	tr := sample(t)
	x, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDONLY, 0)
	must(t, err)
	must(t, x.DenyWrite())
	_, err = vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_WRONLY, 0)
	check(t, "writing a running program", err, unix.ETXTBSY)
	check(t, "truncating it", vfs.Truncate(tr.Ctx, "/d/e/f", 0), unix.ETXTBSY)
	x.DecRef()
	w, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_WRONLY, 0)
	must(t, err)
	x, err = vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDONLY, 0)
	must(t, err)
	check(t, "running what is written", x.DenyWrite(), unix.ETXTBSY)
	x.DecRef()
	w.DecRef()
}

func TestStatAllocatesNothing(t *testing.T) {
	tr := sample(t)
	var st unix.Stat_t
	if n := testing.AllocsPerRun(100, func() {
		if err := vfs.Stat(tr.Ctx, vfs.Path{}, "/d/e/f", 0, &st); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("stat: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", 0, 0)
		if err != nil {
			t.Error(err)
		}
		f.DecRef()
	}); n != 1 {
		t.Errorf("open: %v allocations", n)
	}
	if st.Size != 5 || st.Nlink != 1 || st.Blocks != 8 {
		t.Errorf("%+v", st)
	}
}

func TestFDTable(t *testing.T) {
	tr := sample(t)
	open := func() *vfs.File {
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", 0, 0)
		must(t, err)
		return f
	}
	tab := vfs.NewFDTable()
	for i := range 200 {
		fd, err := tab.Install(open(), 0, 0, 1024)
		if fd != i || err != nil {
			t.Fatalf("install: %d, %v", fd, err)
		}
	}
	must(t, tab.Close(70))
	must(t, tab.Close(3))
	for _, want := range []int{3, 70, 200} {
		if fd, _ := tab.Install(open(), unix.O_CLOEXEC, 0, 1024); fd != want {
			t.Errorf("got %d, want %d", fd, want)
		}
	}
	f := open()
	if _, err := tab.Install(f, 0, 0, 201); err != unix.EMFILE {
		t.Error(err)
	}
	if fd, _ := tab.Install(f, 0, 500, 1024); fd != 500 {
		t.Errorf("got %d", fd)
	}
	must(t, tab.InstallAt(open(), 300, 0, 1024))
	must(t, tab.InstallAt(open(), 5, 0, 1024))
	f = open()
	check(t, "dup beyond the limit", tab.InstallAt(f, 1024, 0, 1024), unix.EBADF)
	f.DecRef()
	child := tab.Fork()
	child.CloseOnExec()
	for fd, want := range map[int]error{3: unix.EBADF, 70: unix.EBADF, 200: unix.EBADF, 5: nil, 300: nil, 500: nil, 501: unix.EBADF, -1: unix.EBADF} {
		f, err := child.Get(fd)
		check(t, "get", err, want)
		if err == nil {
			f.DecRef()
		}
	}
	if on, err := tab.Cloexec(3); !on || err != nil {
		t.Error("cloexec lost")
	}
	child.CloseRange(100, 400)
	if n := len(child.List()); n != 100-2+1 {
		t.Errorf("%d left", n)
	}
	child.DecRef()
	tab.DecRef()
}

func TestFDTableRaces(t *testing.T) {
	tr := sample(t)
	tab := vfs.NewFDTable()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 500 {
				f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", 0, 0)
				if err != nil {
					t.Error(err)
					return
				}
				fd, _ := tab.Install(f, 0, 0, 1024)
				if g, err := tab.Get(fd); err == nil {
					g.Stat(new(unix.Stat_t))
					g.DecRef()
				}
				tab.Close(fd)
			}
		})
	}
	wg.Wait()
	if len(tab.List()) != 0 {
		t.Error("descriptors left")
	}
}

func TestXattrsAreBounded(t *testing.T) {
	tr := sample(t)
	tr.FS.MaxXattrs = 10_000
	tr.Write(t, "/f", "")
	p := place(t, tr, "/f")
	must(t, vfs.Setxattr(tr.Ctx, p, "user.a", make([]byte, 6000), 0))
	check(t, "another", vfs.Setxattr(tr.Ctx, p, "user.b", make([]byte, 6000), 0), unix.ENOSPC)
	must(t, vfs.Setxattr(tr.Ctx, p, "user.a", make([]byte, 9000), 0))
	must(t, vfs.Removexattr(tr.Ctx, p, "user.a"))
	must(t, vfs.Setxattr(tr.Ctx, p, "user.b", make([]byte, 9000), 0))
	must(t, vfs.Unlink(tr.Ctx, vfs.Path{}, "/f"))
	tr.Write(t, "/g", "")
	must(t, vfs.Setxattr(tr.Ctx, place(t, tr, "/g"), "user.c", make([]byte, 9000), 0))
}
