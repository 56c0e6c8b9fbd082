package rofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	writer "gosv/image/rofs"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

type disk []byte

func (d disk) Size() int64 { return int64(len(d)) }
func (d disk) ReadAt(p []byte, off int64) error {
	if off < 0 || off%512 != 0 || len(p)%512 != 0 || off+int64(len(p)) > int64(len(d)) {
		return unix.EIO
	}
	copy(p, d[off:])
	return nil
}

// WriteAt implements io.WriterAt.
func (d *disk) grow(p []byte, off int64) (int, error) {
	if need := off + int64(len(p)); need > int64(len(*d)) {
		*d = append(*d, make([]byte, need-int64(len(*d)))...)
	}
	return copy((*d)[off:], p), nil
}

type out struct{ *disk }

func (o out) WriteAt(p []byte, off int64) (int, error) { return o.grow(p, off) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func regular(s string) *writer.Node {
	return &writer.Node{Size: int64(len(s)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }}
}

func image(tb testing.TB) disk {
	many := &writer.Node{Entries: map[string]*writer.Node{}}
	for i := range 500 {
		many.Entries[fmt.Sprint("file", i)] = regular(fmt.Sprint(i))
	}
	root := &writer.Node{Entries: map[string]*writer.Node{
		"empty": regular(""), "small": regular("hello"), "block": regular(strings.Repeat("b", 512)), "big": regular(strings.Repeat("0123456789", 2000)),
		"dir":  {Entries: map[string]*writer.Node{"sub": {Entries: map[string]*writer.Node{}}, "f": regular("in dir")}},
		"link": {Target: "dir/f"}, "many": many,
	}}
	var d disk
	n, err := writer.Write(out{&d}, root)
	must(tb, err)
	if n != int64(len(d)) || n%512 != 0 {
		tb.Errorf("%d bytes, said to be %d", len(d), n)
	}
	return d
}

func mount(tb testing.TB, d disk) (*vfs.Context, error) {
	tr := vfstest.New(tb)
	r := &vfs.MountRequest{}
	closed := false
	fs, err := New(d, tr.Pool, func() int64 { return 1 }, r, func() { closed = true })
	if err != nil {
		if r.Problem == "" {
			tb.Error("no reason for", err)
		}
		return nil, err
	}
	must(tb, tr.NS.MountFS(tr.NS.Root(), fs, "x", 0))
	tb.Cleanup(func() {
		if err := vfs.Unmount(tr.Ctx, tr.NS.Top(), 0); err != nil || !closed {
			tb.Error("unmount:", err)
		}
	})
	ctx := *tr.Ctx
	ctx.Root, ctx.Cwd = tr.NS.Top(), tr.NS.Top()
	return &ctx, nil
}

func read(tb testing.TB, ctx *vfs.Context, name string) string {
	tb.Helper()
	f, err := vfs.Open(ctx, vfs.Path{}, name, unix.O_RDONLY, 0)
	must(tb, err)
	defer f.DecRef()
	b := make([]byte, f.Inode().Size()+10)
	dst := uio.Buffer(b)
	n, err := f.Read(&dst)
	must(tb, err)
	return string(b[:n])
}

func TestImage(t *testing.T) {
	ctx, err := mount(t, image(t))
	must(t, err)
	for name, want := range map[string]string{
		"/empty": "", "/small": "hello", "/block": strings.Repeat("b", 512), "/big": strings.Repeat("0123456789", 2000), "/link": "in dir", "/many/file499": "499",
	} {
		if got := read(t, ctx, name); got != want {
			t.Errorf("%s: %.50q", name, got)
		}
	}
	var names []string
	for _, dir := range []string{"/", "/dir", "/dir/sub", "/many"} {
		p, err := vfs.Lookup(ctx, vfs.Path{}, dir, 0)
		must(t, err)
		n := 0
		must(t, vfs.ReadDir(ctx, p, func(e vfs.Dirent) bool {
			n++
			names = append(names, e.Name)
			c, err := vfs.Lookup(ctx, p, e.Name, unix.AT_SYMLINK_NOFOLLOW)
			if err != nil || c.Inode().Ino != e.Ino || c.Inode().Type() != e.Mode {
				t.Errorf("%s: %v", e.Name, err)
			}
			return true
		}))
		if want := map[string]int{"/": 7, "/dir": 2, "/dir/sub": 0, "/many": 500}[dir]; n != want {
			t.Errorf("%s: %d entries", dir, n)
		}
	}
	var st unix.Stat_t
	must(t, vfs.Stat(ctx, vfs.Path{}, "/small", 0, &st))
	if st.Mode != unix.S_IFREG|0o555 || st.Size != 5 || st.Uid != 0 || st.Nlink != 1 {
		t.Errorf("%+v", st)
	}
	if err := vfs.Mkdir(ctx, vfs.Path{}, "/x", 0o755); err != unix.EROFS {
		t.Error(err)
	}
}

func TestDamaged(t *testing.T) {
	good := image(t)
	first := int(binary.LittleEndian.Uint64(good[24:])) * 512
	put := func(at int, v uint64) func(disk) disk {
		return func(d disk) disk { binary.LittleEndian.PutUint64(d[at:], v); return d }
	}
	for name, c := range map[string]struct {
		change func(disk) disk
		want   error
	}{
		"magic": {put(0, 1), unix.EINVAL}, "version": {put(8, 2), unix.EOPNOTSUPP}, "block size": {put(16, 1024), unix.EOPNOTSUPP},
		"first": {put(24, 1<<40), unix.EUCLEAN}, "count": {put(32, 1<<60), unix.EUCLEAN}, "entries": {put(40, 1<<60), unix.EUCLEAN},
		"fewer entries": {put(40, 3), unix.EUCLEAN}, "targets": {put(48, 77), unix.EUCLEAN}, "inodes": {put(56, 1<<59), unix.EUCLEAN},
		"no inodes": {put(56, 0), unix.EUCLEAN}, "an entry's inode": {put(first, 1<<33), unix.EUCLEAN}, "the root again": {put(first, 1), unix.EUCLEAN},
		"a slash": {func(d disk) disk { d[first+11] = '/'; return d }, unix.EUCLEAN}, "cut": {func(d disk) disk { return d[:len(d)-512] }, unix.EUCLEAN},
		"short": {func(d disk) disk { return d[:100] }, unix.EINVAL},
	} {
		if _, err := mount(t, c.change(bytes.Clone(good))); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, n := range map[string]*writer.Node{
		"no directory": regular("x"), "bad name": {Entries: map[string]*writer.Node{"..": regular("")}},
		"long target": {Entries: map[string]*writer.Node{"l": {Target: strings.Repeat("x", 5000)}}},
		"shrunk":      {Entries: map[string]*writer.Node{"f": {Size: 10, Open: regular("short").Open}}},
	} {
		var d disk
		if _, err := writer.Write(out{&d}, n); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if a, b := image(t), image(t); !bytes.Equal(a, b) {
		t.Error("the same tree gives different bytes")
	}
}

func FuzzRofs(f *testing.F) {
	var d disk
	_, err := writer.Write(out{&d}, &writer.Node{Entries: map[string]*writer.Node{"f": regular("text"), "d": {Entries: map[string]*writer.Node{"l": {Target: "f"}}}}})
	must(f, err)
	f.Add([]byte(d))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr := vfstest.New(t)
		fs, err := New(disk(b), tr.Pool, func() int64 { return 1 }, &vfs.MountRequest{}, func() {})
		if err != nil {
			return
		}
		must(t, tr.NS.MountFS(tr.NS.Root(), fs, "x", 0))
		ctx := *tr.Ctx
		ctx.Root, ctx.Cwd = tr.NS.Top(), tr.NS.Top()
		left := 100
		walk(&ctx, ctx.Root, &left)
		must(t, vfs.Unmount(tr.Ctx, tr.NS.Top(), 0))
	})
}

func walk(ctx *vfs.Context, at vfs.Path, left *int) {
	_ = vfs.ReadDir(ctx, at, func(e vfs.Dirent) bool {
		p, err := vfs.Lookup(ctx, at, e.Name, unix.AT_SYMLINK_NOFOLLOW)
		if *left--; *left < 0 || err != nil {
			return false
		}
		if p.Inode().IsDir() {
			walk(ctx, p, left)
		} else if f, err := vfs.Open(ctx, at, e.Name, unix.O_RDONLY, 0); err == nil {
			dst := uio.Buffer(make([]byte, 5000))
			_, _ = f.Read(&dst)
			f.DecRef()
		}
		return true
	})
}

// The clean-ups of inodes reach the file system, which reaches its root: unmounting must cut that.
func TestUnmountedIsCollected(t *testing.T) {
	var d disk
	_, err := writer.Write(out{&d}, &writer.Node{Entries: map[string]*writer.Node{"f": regular("text"), "d": {}}})
	must(t, err)
	tr := vfstest.New(t)
	gone := func() weak.Pointer[vfs.FS] {
		fs, err := New(d, tr.Pool, func() int64 { return 1 }, &vfs.MountRequest{}, func() {})
		must(t, err)
		must(t, tr.NS.MountFS(tr.NS.Root(), fs, "x", 0))
		ctx := *tr.Ctx
		ctx.Root, ctx.Cwd = tr.NS.Top(), tr.NS.Top()
		left := 10
		walk(&ctx, ctx.Root, &left)
		must(t, vfs.Unmount(tr.Ctx, tr.NS.Top(), 0))
		return weak.Make(fs)
	}()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) { // what the collector has others do takes its time
		if runtime.GC(); gone.Value() == nil {
			return
		}
	}
	t.Error("a file system that was unmounted stays in memory")
}
