package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	writer "gosv/image/erofs"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/machine"
	"gosv/machine/fake"
)

// disk is an image that is read in pieces.
type disk []byte

func (d disk) Size() int64 { return int64(len(d)) }
func (d disk) ReadAt(p []byte, off int64) error {
	if off%512 != 0 || len(p)%512 != 0 || off < 0 || off+int64(len(p)) > int64(len(d)) {
		return unix.EINVAL
	}
	copy(p, d[off:])
	return nil
}

// source makes a directory with all sorts of files.
func source(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	write := func(name string, b []byte) {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(full, b, 0o640); err != nil {
			tb.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	text := func(n int) []byte {
		var b bytes.Buffer
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "line %d of a file that can be made smaller %d\n", i, r.IntN(1000))
		}
		return b.Bytes()[:n]
	}
	write("empty", nil)
	write("small", []byte("hello\n"))
	write("block", text(4096))
	write("inline", text(4096*3+100))
	write("noise", noise(100_000))
	write("text", text(300_000))
	write("zeros", make([]byte, 3_000_000))
	write("mixed", bytes.Join([][]byte{text(50_000), noise(50_000), make([]byte, 70_000), text(30_001), noise(20_000), text(5)}, nil))
	for i := range 300 {
		write(fmt.Sprintf("many/a-file-with-a-longish-name-%d", i), []byte(fmt.Sprint(i)))
	}
	write("deep/er/and/deeper/file", text(9000))
	must(tb, os.Symlink("small", filepath.Join(dir, "link")))
	must(tb, os.Symlink(strings.Repeat("x/", 1500), filepath.Join(dir, "longlink")))
	must(tb, os.Link(filepath.Join(dir, "text"), filepath.Join(dir, "hardlink")))
	must(tb, os.Chmod(filepath.Join(dir, "small"), 0o4755))
	must(tb, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	if os.Getuid() == 0 {
		must(tb, unix.Mknod(filepath.Join(dir, "device"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
		must(tb, os.Chown(filepath.Join(dir, "noise"), 100_000, 7))
	}
	for _, name := range []string{"small", "text", "many", "empty"} {
		must(tb, unix.Setxattr(filepath.Join(dir, name), "user.colour", []byte("green"), 0))
		must(tb, unix.Setxattr(filepath.Join(dir, name), "user.own-"+name, []byte(name), 0))
	}
	must(tb, os.Chtimes(filepath.Join(dir, "text"), time.Unix(5, 0), time.Unix(1_600_000_000, 0)))
	return dir
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func mkfs(tb testing.TB, dir string, options ...string) []byte {
	tb.Helper()
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		tb.Skip("needs mkfs.erofs")
	}
	image := filepath.Join(tb.TempDir(), "image")
	out, err := exec.Command("mkfs.erofs", append(append([]string{"--quiet"}, options...), image, dir)...).CombinedOutput()
	if err != nil {
		tb.Fatalf("mkfs.erofs %v: %v\n%s", options, err, out)
	}
	b, err := os.ReadFile(image)
	must(tb, err)
	return b
}

// mount mounts an image at the root of a tree.
func mount(tb testing.TB, image Image) (*vfstest.Tree, *vfs.Context, error) {
	tr := vfstest.New(tb)
	r := &vfs.MountRequest{Ctx: tr.Ctx}
	closed := false
	f, err := New(image, tr.Pool, func() int64 { return 1 }, r, func() { closed = true })
	if err != nil {
		if r.Problem == "" {
			tb.Error("no reason for", err)
		}
		return tr, nil, err
	}
	must(tb, tr.NS.MountFS(tr.NS.Root(), f, "x", 0))
	tb.Cleanup(func() {
		if err := vfs.Unmount(tr.Ctx, tr.NS.Top(), 0); err != nil || !closed {
			tb.Error("unmount:", err)
		}
	})
	ctx := *tr.Ctx
	ctx.Root, ctx.Cwd = tr.NS.Top(), tr.NS.Top()
	return tr, &ctx, nil
}

func TestImages(t *testing.T) {
	dir := source(t)
	for _, c := range []struct {
		name    string
		options []string
	}{
		{"plain", nil},
		{"compact inodes", []string{"-Eforce-inode-compact", "--all-root"}},
		{"extended inodes", []string{"-Eforce-inode-extended"}},
		{"no inline data", []string{"-Enoinline_data"}},
		{"chunks", []string{"--chunksize=16384"}},
		{"chunk indexes", []string{"--chunksize=4096", "-Eforce-chunk-indexes"}},
		{"all xattrs inline", []string{"-x1000"}},
		{"xattrs shared", []string{"-x1"}},
		{"no xattrs", []string{"-x-1"}},
		{"lz4", []string{"-zlz4"}},
		{"lz4hc, full indexes", []string{"-zlz4hc,9", "-Elegacy-compress"}},
		{"big pclusters", []string{"-zlz4hc", "-C65536"}},
		{"odd big pclusters", []string{"-zlz4", "-C16384", "-Eforce-inode-extended"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mkfs(t, dir, c.options...)
			xattrs := c.name != "no xattrs"
			owners := c.name != "compact inodes"
			t.Run("disk", func(t *testing.T) {
				_, ctx, err := mount(t, disk(b))
				must(t, err)
				compare(t, ctx, dir, xattrs, owners)
			})
		})
	}
}

// fromDisk makes the writer's tree of a directory.
func fromDisk(tb testing.TB, dir string, seen map[uint64]*writer.Inode) *writer.Inode {
	tb.Helper()
	var st unix.Stat_t
	must(tb, unix.Lstat(dir, &st))
	if i := seen[st.Ino]; i != nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return i
	}
	i := &writer.Inode{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Sec, Nanosec: uint32(st.Mtim.Nsec), Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev),
	}
	seen[st.Ino] = i
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		i.Entries = map[string]*writer.Inode{}
		list, err := os.ReadDir(dir)
		must(tb, err)
		for _, e := range list {
			i.Entries[e.Name()] = fromDisk(tb, filepath.Join(dir, e.Name()), seen)
		}
	case unix.S_IFREG:
		i.Size = st.Size
		i.Open = func() (io.ReadCloser, error) { return os.Open(dir) }
	case unix.S_IFLNK:
		i.Target, _ = os.Readlink(dir)
	}
	list := make([]byte, 4096)
	n, _ := unix.Llistxattr(dir, list) // none of a link
	for _, name := range strings.FieldsFunc(string(list[:max(n, 0)]), func(r rune) bool { return r == 0 }) {
		v := make([]byte, 100)
		if n, err := unix.Lgetxattr(dir, name, v); err == nil && strings.HasPrefix(name, "user.") {
			if i.Xattrs == nil {
				i.Xattrs = map[string]string{}
			}
			i.Xattrs[name] = string(v[:n])
		}
	}
	return i
}

// What gosv itself writes is read.
func TestOurImages(t *testing.T) {
	dir := source(t)
	for _, compress := range []bool{false, true} {
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		must(t, err)
		defer f.Close()
		n, err := writer.Write(f, fromDisk(t, dir, map[uint64]*writer.Inode{}), writer.Options{Label: "ours", Compress: compress})
		must(t, err)
		b := make([]byte, n)
		_, err = f.ReadAt(b, 0)
		if err != io.EOF {
			must(t, err)
		}
		if label, uuid := Identity(disk(b)); label != "ours" || len(uuid) != 36 {
			t.Errorf("label %q, UUID %q", label, uuid)
		}
		_, ctx, err := mount(t, disk(b))
		must(t, err)
		compare(t, ctx, dir, true, true)
	}
}

// compare checks every file of the mounted image against the source.
func compare(t *testing.T, ctx *vfs.Context, dir string, xattrs, owners bool) {
	count := 0
	inodes := map[uint64]uint64{}
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		must(t, err)
		count++
		name := strings.TrimPrefix(full, dir)
		p, err := vfs.Lookup(ctx, vfs.Path{}, "/"+name, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return nil
		}
		var want, got unix.Stat_t
		must(t, unix.Lstat(full, &want))
		p.Inode().Stat(&got)
		if got.Mode != want.Mode || owners && (got.Uid != want.Uid || got.Gid != want.Gid) || got.Rdev != want.Rdev || !d.IsDir() && (got.Size != want.Size || got.Nlink != want.Nlink) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if old, seen := inodes[want.Ino]; seen && old != got.Ino {
			t.Errorf("%s: two inodes for one", name)
		}
		inodes[want.Ino] = got.Ino
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := vfs.Readlink(ctx, vfs.Path{}, "/"+name)
			if text, _ := os.Readlink(full); err != nil || target != text {
				t.Errorf("%s: leads to %.50q, %v", name, target, err)
			}
		case d.Type().IsRegular():
			compareFile(t, ctx, "/"+name, full)
		}
		if xattrs && !strings.HasSuffix(name, "link") {
			compareXattrs(t, ctx, p, full)
		}
		return nil
	})
	must(t, err)
	if n := countEntries(t, ctx, ctx.Root); n+1 != count {
		t.Errorf("%d entries are listed, %d are there", n+1, count)
	}
}

func countEntries(t *testing.T, ctx *vfs.Context, at vfs.Path) (n int) {
	var dirs []string
	must(t, vfs.ReadDir(ctx, at, func(e vfs.Dirent) bool {
		n++
		if e.Mode == unix.S_IFDIR {
			dirs = append(dirs, e.Name)
		}
		return true
	}))
	for _, name := range dirs {
		p, err := vfs.Lookup(ctx, at, name, 0)
		must(t, err)
		n += countEntries(t, ctx, p)
	}
	return n
}

func compareFile(t *testing.T, ctx *vfs.Context, name, full string) {
	want, err := os.ReadFile(full)
	must(t, err)
	f, err := vfs.Open(ctx, vfs.Path{}, name, unix.O_RDONLY, 0)
	must(t, err)
	defer f.DecRef()
	got := make([]byte, len(want)+10)
	dst := uio.Buffer(got)
	n, err := f.Read(&dst)
	if err != nil || !bytes.Equal(got[:n], want) {
		t.Errorf("%s: contents differ, %v", name, err)
	}
	// Again from the middle, as it comes from the image.
	must(t, unlessEmpty(f.MapCache(), func(c *mem.Cache) error {
		frame, err := c.Page(uint64(c.Size())/2/machine.PageSize, false)
		if err == nil {
			c.Pool().Unref(frame)
		}
		return err
	}))
}

func unlessEmpty(c *mem.Cache, f func(*mem.Cache) error) error {
	if c.Size() == 0 {
		return nil
	}
	return f(c)
}

func compareXattrs(t *testing.T, ctx *vfs.Context, p vfs.Path, full string) {
	list, err := vfs.Listxattr(ctx, p)
	must(t, err)
	b := make([]byte, 4096)
	n, err := unix.Llistxattr(full, b)
	if err != nil {
		return
	}
	if want := strings.Count(string(b[:n]), "user."); strings.Count(string(list), "user.") != want {
		t.Errorf("%s: xattrs %q, want %q", full, list, b[:n])
	}
	for _, name := range strings.FieldsFunc(string(b[:n]), func(r rune) bool { return r == 0 }) {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		v := make([]byte, 100)
		n, err := unix.Lgetxattr(full, name, v)
		must(t, err)
		if got, err := vfs.Getxattr(ctx, p, name); err != nil || !bytes.Equal(got, v[:n]) {
			t.Errorf("%s: %s is %q, %v", full, name, got, err)
		}
	}
}

// ram is an image in the frames of a machine.
type ram struct {
	disk
	pool  *mem.Pool
	first machine.Frame
}

func (r ram) Bytes(off, n int64) ([]byte, error) { return r.disk[off : off+n], nil }
func (r ram) Frame(off int64) machine.Frame {
	f := r.first + machine.Frame(off/machine.PageSize)
	r.pool.Ref(f)
	return f
}

func TestInPlace(t *testing.T) {
	dir := source(t)
	b := mkfs(t, dir, "-zlz4")
	b = append(b, make([]byte, -len(b)&4095)...)
	plain := mkfs(t, dir)
	plain = append(plain, make([]byte, -len(plain)&4095)...)
	for _, image := range [][]byte{b, plain} {
		m := fake.ForTest(t, fake.Config{Initrd: image})
		tr := vfstest.NewOn(t, m)
		pages := len(image) / machine.PageSize
		first, _ := m.Initrd()
		tr.Pool.AdoptRun(first, pages)
		t.Cleanup(func() {
			for i := range pages {
				tr.Pool.Unref(first + machine.Frame(i))
			}
		})
		f, err := New(ram{m.Bytes(first, pages), tr.Pool, first}, tr.Pool, func() int64 { return 1 }, &vfs.MountRequest{}, func() {})
		must(t, err)
		must(t, tr.NS.MountFS(tr.NS.Root(), f, "x", 0))
		ctx := *tr.Ctx
		ctx.Root, ctx.Cwd = tr.NS.Top(), tr.NS.Top()
		compare(t, &ctx, dir, true, true)
		_, free := tr.Pool.Usage()
		compareFile(t, &ctx, "/noise", filepath.Join(dir, "noise"))
		if _, now := tr.Pool.Usage(); now != free {
			t.Error("a page was copied twice")
		}
		must(t, vfs.Unmount(tr.Ctx, tr.NS.Top(), 0))
		if !bytes.Equal(m.Bytes(first, pages), image) {
			t.Error("the image was changed")
		}
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	_, ctx, err := mount(t, disk(mkfs(t, source(t))))
	must(t, err)
	p, err := vfs.Lookup(ctx, vfs.Path{}, "/small", 0)
	must(t, err)
	for what, err := range map[string]error{
		"mkdir": vfs.Mkdir(ctx, vfs.Path{}, "/new", 0o755), "unlink": vfs.Unlink(ctx, vfs.Path{}, "/small"),
		"rename": vfs.Rename(ctx, vfs.Path{}, "/small", vfs.Path{}, "/x", 0), "chmod": vfs.Chmod(ctx, p, 0),
		"link": vfs.Link(ctx, vfs.Path{}, "/small", vfs.Path{}, "/x", 0), "xattr": vfs.Setxattr(ctx, p, "user.x", nil, 0),
		"truncate": vfs.Truncate(ctx, "/small", 0), "remount": remountRW(ctx),
	} {
		if err != unix.EROFS {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func remountRW(ctx *vfs.Context) error {
	if err := vfs.DoMount(ctx, "", ctx.Root, "", unix.MS_REMOUNT, ""); err != nil {
		return err
	}
	return vfs.Mkdir(ctx, vfs.Path{}, "/new", 0o755)
}

func TestRefusals(t *testing.T) {
	good := mkfs(t, source(t), "-zlz4")
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		err    error
	}{
		{"nothing", func(b []byte) []byte { return b[:1000] }, unix.EINVAL},
		{"magic", func(b []byte) []byte { b[1024]++; return b }, unix.EINVAL},
		{"checksum", func(b []byte) []byte { b[1024+64]++; return b }, unix.EUCLEAN},
		{"cut", func(b []byte) []byte { return b[:len(b)/2] }, unix.EUCLEAN},
		{"feature", func(b []byte) []byte { b[1024+80] |= 0x20; return b }, unix.EOPNOTSUPP},
		{"blocks", func(b []byte) []byte { b[1024+12] = 16; return b }, unix.EOPNOTSUPP},
		{"root", func(b []byte) []byte {
			b[1024+8] &^= 1
			binary.LittleEndian.PutUint16(b[1024+14:], 0xffff)
			return b
		}, unix.EUCLEAN},
	} {
		if _, _, err := mount(t, disk(c.change(bytes.Clone(good)))); err != c.err {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
	for _, options := range [][]string{{"-zlz4", "-Eztailpacking"}} {
		if _, _, err := mount(t, disk(mkfs(t, source(t), options...))); err != unix.EOPNOTSUPP {
			t.Errorf("%v: %v", options, err)
		}
	}
}

// An inode that nobody uses gives its pages back.
func TestUnusedInodes(t *testing.T) {
	tr, ctx, err := mount(t, disk(mkfs(t, source(t))))
	must(t, err)
	func() {
		f, err := vfs.Open(ctx, vfs.Path{}, "/noise", unix.O_RDONLY, 0)
		must(t, err)
		defer f.DecRef()
		must(t, f.MapCache().Allocate(0, f.Inode().Size()))
	}()
	_, before := tr.Pool.Usage()
	ctx.Root.Mount.FS.DropNames()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		runtime.GC()
		if _, now := tr.Pool.Usage(); now >= before+100_000/machine.PageSize {
			return
		}
	}
	t.Error("the pages are still there")
}

// readAll reads everything that can be reached, and says nothing about it.
func readAll(ctx *vfs.Context, at vfs.Path, left *int) {
	var names []string
	_ = vfs.ReadDir(ctx, at, func(e vfs.Dirent) bool {
		names = append(names, e.Name)
		return len(names) < 50
	})
	for _, name := range names {
		if *left--; *left < 0 {
			return
		}
		p, err := vfs.Lookup(ctx, at, name, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			continue
		}
		_, _ = vfs.Listxattr(ctx, p)
		_, _ = vfs.Getxattr(ctx, p, "user.colour")
		switch {
		case p.Inode().IsDir():
			readAll(ctx, p, left)
		case p.Inode().Type() == unix.S_IFREG:
			f, err := vfs.Open(ctx, at, name, unix.O_RDONLY, 0)
			if err != nil {
				continue
			}
			b := make([]byte, 30000)
			for _, off := range []int64{0, f.Inode().Size() / 2, f.Inode().Size() - 1} {
				dst := uio.Buffer(b)
				_, _ = f.Pread(&dst, max(off, 0))
			}
			f.DecRef()
		}
	}
}

func FuzzErofs(f *testing.F) {
	dir := f.TempDir()
	must(f, os.MkdirAll(filepath.Join(dir, "d/e"), 0o755))
	must(f, os.WriteFile(filepath.Join(dir, "text"), bytes.Repeat([]byte("some text that repeats\n"), 1000), 0o644))
	must(f, os.WriteFile(filepath.Join(dir, "d/small"), []byte("x"), 0o644))
	must(f, os.Symlink("text", filepath.Join(dir, "d/e/link")))
	must(f, unix.Setxattr(filepath.Join(dir, "text"), "user.colour", []byte("green"), 0))
	for _, options := range [][]string{{"-Enosbcrc"}, {"-Enosbcrc", "-zlz4"}, {"-Enosbcrc", "-zlz4hc", "-C16384"}, {"-Enosbcrc", "--chunksize=4096"}, {"-Enosbcrc", "-zlz4", "-Elegacy-compress"}} {
		f.Add(mkfs(f, dir, options...))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		if len(image) > 1<<17 {
			return
		}
		if len(image) > 1024+12 {
			image[1024+8] &^= 1 // no checksum
		}
		tr := vfstest.New(t)
		fs, err := New(disk(image[:len(image)&^511]), tr.Pool, func() int64 { return 1 }, &vfs.MountRequest{}, func() {})
		if err != nil {
			return
		}
		must(t, tr.NS.MountFS(tr.NS.Root(), fs, "x", 0))
		ctx := *tr.Ctx
		ctx.Root, ctx.Cwd = tr.NS.Top(), tr.NS.Top()
		left := 200
		readAll(&ctx, ctx.Root, &left)
		must(t, vfs.Unmount(tr.Ctx, tr.NS.Top(), 0))
	})
}

func FuzzLZ4(f *testing.F) {
	f.Add([]byte{0x14, 'a', 1, 0, 0x50, 'a', 'b', 'c', 'd', 'e'}, 20)
	f.Fuzz(func(t *testing.T, src []byte, n int) {
		if n < 0 || n > 1<<16 {
			return
		}
		lz4(make([]byte, n), src)
	})
}
