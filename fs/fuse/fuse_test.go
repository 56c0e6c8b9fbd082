package fuse_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/fs/fuse"
	"gosv/internal/fuseabi"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/machine"
	"gosv/vmm/hostfs"
)

// wire is a Transport to a server in this process.
type wire struct {
	m       machine.Frames
	handle  func(readable, writable [][]byte) uint32
	pages   int
	closed  atomic.Bool
	calls   atomic.Int64
	calling sync.RWMutex // held for reading by calls under way
}

func (w *wire) Call(out, in []byte, frames []machine.Frame, off, n int, give bool) (int, error) {
	w.calling.RLock()
	defer w.calling.RUnlock()
	if w.closed.Load() {
		return 0, unix.ENOTCONN
	}
	w.calls.Add(1)
	var data [][]byte
	for _, f := range frames {
		b := w.m.Bytes(f, 1)[off:]
		b = b[:min(len(b), n)]
		n, off = n-len(b), 0
		if len(b) > 0 {
			data = append(data, b)
		}
	}
	readable, writable := [][]byte{out}, [][]byte{in}
	if give {
		readable = append(readable, data...)
	} else {
		writable = append(writable, data...)
	}
	return int(w.handle(readable, writable)), nil
}

func (w *wire) Forget(out []byte) { w.handle([][]byte{out}, nil) }
func (w *wire) MaxPages() int     { return w.pages }
func (w *wire) Close()            { w.closed.Store(true) }

// stop is Close, and waits for calls under way.
func (w *wire) stop() {
	w.calling.Lock()
	defer w.calling.Unlock()
	w.Close()
}

// world is a directory of the host, mounted at /mnt.
type world struct {
	*vfstest.Tree
	t    *testing.T
	host string
	wire *wire
	now  atomic.Int64 // of timeouts
	fs   *vfs.FS
}

func newWorld(t *testing.T, c hostfs.Config) *world {
	t.Helper()
	c.Dir = t.TempDir()
	s, err := hostfs.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close) // after the world has ended
	w := newWorldOf(t, s.Handle)
	w.host = c.Dir
	return w
}

func newWorldOf(t *testing.T, handle func(readable, writable [][]byte) uint32) *world {
	w := &world{Tree: vfstest.New(t), t: t}
	before := w.Machine.InUse()
	w.wire = &wire{m: w.Machine, handle: handle, pages: 16}
	var err error
	w.fs, err = fuse.New(fuse.Config{Transport: w.wire, Pool: w.Pool, Type: "virtiofs",
		Wall: func() int64 { return time.Now().UnixNano() }, Monotonic: w.now.Load})
	if err != nil {
		t.Fatal(err)
	}
	w.must(vfs.Mkdir(w.Ctx, vfs.Path{}, "/mnt", 0o755))
	at, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/mnt", 0)
	w.must(err)
	w.must(w.NS.MountFS(at, w.fs, "tag", 0))
	t.Cleanup(func() { // frames of the page caches go back with the inodes
		at, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/mnt", 0)
		w.must(err)
		w.must(vfs.Unmount(w.Ctx, at, unix.MNT_DETACH))
		w.fs, at = nil, vfs.Path{}
		defer w.wire.stop()
		for end := time.Now().Add(time.Minute); w.Machine.InUse() > before && time.Now().Before(end); {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) check(what string, got, want error) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// onHost writes a file on the host.
func (w *world) onHost(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.host, name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// changeOnHost is onHost that gives a file which is there another time of change: the clock for those is coarse.
func (w *world) changeOnHost(name, text string) {
	w.t.Helper()
	var before, st unix.Stat_t
	w.must(unix.Stat(filepath.Join(w.host, name), &before))
	for st = before; st.Mtim == before.Mtim; time.Sleep(time.Millisecond) {
		w.onHost(name, text)
		w.must(unix.Stat(filepath.Join(w.host, name), &st))
	}
}

func (w *world) hostText(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.host, name))
	if err != nil {
		w.t.Error(err)
	}
	return string(b)
}

func (w *world) open(path string, flags int, mode uint32) *vfs.File {
	w.t.Helper()
	f, err := vfs.Open(w.Ctx, vfs.Path{}, path, flags, mode)
	if err != nil {
		w.t.Fatalf("open %s: %v", path, err)
	}
	return f
}

func (w *world) stat(path string) (st unix.Stat_t) {
	w.t.Helper()
	if err := vfs.Stat(w.Ctx, vfs.Path{}, path, unix.AT_SYMLINK_NOFOLLOW, &st); err != nil {
		w.t.Errorf("stat %s: %v", path, err)
	}
	return st
}

func write(f *vfs.File, text string, off int64) (int64, error) {
	b := uio.Buffer(text)
	return f.Pwrite(&b, off)
}

func TestFiles(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Second})
	w.onHost("a", "from the host")
	if got := w.Read(t, "/mnt/a"); got != "from the host" {
		t.Errorf("%q", got)
	}
	big := strings.Repeat("0123456789abcdef", 20000)
	w.Write(t, "/mnt/big", big)
	if w.hostText("big") != big || w.Read(t, "/mnt/big") != big {
		t.Error("a large file differs")
	}
	f := w.open("/mnt/b", unix.O_CREAT|unix.O_RDWR, 0o444) // written in spite of its mode
	if n, err := write(f, "hello", 5000); n != 5 || err != nil {
		t.Error(n, err)
	}
	if got := w.hostText("b"); got != strings.Repeat("\x00", 5000)+"hello" {
		t.Errorf("%d bytes", len(got))
	}
	w.must(f.Truncate(5002))
	w.must(f.Truncate(5010))
	if got := vfstest.ReadAll(t, f); got != strings.Repeat("\x00", 5000)+"he"+strings.Repeat("\x00", 8) {
		t.Errorf("%q", got[4990:])
	}
	w.must(f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 5001))
	w.must(f.Sync())
	if st := w.stat("/mnt/b"); st.Size != 5010 || st.Mode != unix.S_IFREG|0o444 || st.Nlink != 1 {
		t.Errorf("%+v", st)
	}
	f.DecRef()
	f = w.open("/mnt/b", unix.O_WRONLY|unix.O_APPEND, 0)
	b := uio.Buffer("end")
	if n, err := f.Write(&b); n != 3 || err != nil {
		t.Error(n, err)
	}
	f.DecRef()
	if got := w.hostText("b"); got[5000:] != "\x00e"+strings.Repeat("\x00", 8)+"end" {
		t.Errorf("%q", got[5000:])
	}
	f = w.open("/mnt/b", unix.O_RDWR|unix.O_DIRECT, 0)
	if n, err := write(f, "direct", 5000); n != 6 || err != nil {
		t.Error(n, err)
	}
	if got := vfstest.ReadAll(t, f); len(got) != 5013 || got[5000:5006] != "direct" {
		t.Errorf("%d bytes", len(got))
	}
	f.DecRef()
	w.must(vfs.Truncate(w.Ctx, "/mnt/b", 1))
	f = w.open("/mnt/big", unix.O_RDWR|unix.O_TRUNC, 0)
	f.DecRef()
	if len(w.hostText("b")) != 1 || len(w.hostText("big")) != 0 {
		t.Error("truncation did not reach the host")
	}
}

// A crowded server has room for so many nodes at a time, and EMFILE for whatever is asked when it has them.
type crowded struct {
	mu     sync.Mutex
	honest func(readable, writable [][]byte) uint32
	room   int
	held   map[uint64]uint64 // lookups, by node
	full   int               // refusals
}

func (c *crowded) handle(readable, writable [][]byte) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, le := readable[0], binary.LittleEndian
	op := le.Uint32(r[4:])
	if op == fuseabi.OpBatchForget {
		for b := r[fuseabi.InHeaderSize+8:]; len(b) >= 16; b = b[16:] {
			if node, n := le.Uint64(b), le.Uint64(b[8:]); c.held[node] > n {
				c.held[node] -= n
			} else {
				delete(c.held, node)
			}
		}
	} else if op != fuseabi.OpRelease && op != fuseabi.OpReleasedir && len(c.held) >= c.room {
		c.full++
		w := writable[0]
		le.PutUint32(w, fuseabi.OutHeaderSize)
		le.PutUint32(w[4:], ^uint32(unix.EMFILE)+1)
		copy(w[8:16], r[8:16])
		return fuseabi.OutHeaderSize
	}
	n := c.honest(readable, writable)
	if op == fuseabi.OpLookup || op == fuseabi.OpMkdir || op == fuseabi.OpCreate {
		if w := writable[0]; le.Uint32(w[4:]) == 0 {
			c.held[le.Uint64(w[fuseabi.OutHeaderSize:])]++
		}
	}
	return n
}

// TestNoRoom: what a server without descriptors refuses is done when it was told to forget what nobody uses, whatever was asked.
func TestNoRoom(t *testing.T) {
	s, err := hostfs.New(hostfs.Config{Dir: t.TempDir(), Valid: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := &crowded{honest: s.Handle, room: 20, held: map[uint64]uint64{}}
	w := newWorldOf(t, c.handle)
	for i := range 50 {
		d := fmt.Sprintf("/mnt/%d", i)
		w.must(vfs.Mkdir(w.Ctx, vfs.Path{}, d, 0o755))
		w.Write(t, d+"/f", d)
	}
	for i := range 50 {
		d := fmt.Sprintf("/mnt/%d", i)
		if got := w.List(t, d); !slices.Equal(got, []string{".", "..", "f"}) {
			t.Errorf("%s has %q", d, got)
		}
		if got := w.Read(t, d+"/f"); got != d {
			t.Errorf("%s/f is %q", d, got)
		}
	}
	if c.full == 0 {
		t.Error("the server always had room")
	}
}

func TestMapping(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Second})
	w.onHost("m", strings.Repeat("x", 10000))
	f := w.open("/mnt/m", unix.O_RDWR, 0)
	c := f.MapCache()
	frame, err := c.Page(2, true) // what a store through a shared mapping does
	w.must(err)
	copy(w.Pool.Bytes(frame), "mapped")
	w.Pool.Unref(frame)
	b := uio.Buffer(make([]byte, 6))
	whole := b
	if _, err := f.Pread(&b, 8192); err != nil || string(whole) != "mapped" {
		t.Errorf("%q, %v", whole, err)
	}
	w.must(f.Sync())
	if got := w.hostText("m"); got[8192:8198] != "mapped" || len(got) != 10000 {
		t.Errorf("%q", got[8180:8200])
	}
	if n, err := write(f, "W", 8193); n != 1 || err != nil {
		t.Error(n, err)
	}
	frame, err = c.Page(2, true)
	w.must(err)
	if got := w.Pool.Bytes(frame)[:3]; string(got) != "mWp" {
		t.Errorf("%q", got)
	}
	copy(w.Pool.Bytes(frame), "last")
	w.Pool.Unref(frame)
	f.DecRef() // writes what is dirty
	if got := w.hostText("m"); got[8192:8198] != "lasted" {
		t.Errorf("%q", got[8192:8198])
	}
}

// TestWriteBackUnderWay has what the server is asked for meet a page that is being written, changed through a mapping before: the page
// must not come last.
func TestWriteBackUnderWay(t *testing.T) {
	old := strings.Repeat("x", 10000)
	mapped := old[:4096] + "mapped" + old[4102:]
	for name, c := range map[string]struct {
		what func(w *world, f *vfs.File) string // returns what a program sees
		want string
	}{
		"write": {func(w *world, f *vfs.File) string {
			_, err := write(f, "written", 4096)
			w.check("write", err, nil)
			return vfstest.ReadAll(t, f)
		}, old[:4096] + "written" + old[4103:]},
		"direct read": {func(w *world, f *vfs.File) string {
			d := w.open("/mnt/m", unix.O_RDONLY|unix.O_DIRECT, 0)
			defer d.DecRef()
			return vfstest.ReadAll(t, d)
		}, mapped},
		"direct write": {func(w *world, f *vfs.File) string {
			d := w.open("/mnt/m", unix.O_RDWR|unix.O_DIRECT, 0)
			defer d.DecRef()
			_, err := write(d, "direct", 4096)
			w.check("write", err, nil)
			return vfstest.ReadAll(t, f)
		}, old[:4096] + "direct" + old[4102:]},
		"truncate": {func(w *world, f *vfs.File) string {
			w.check("truncate", f.Truncate(10), nil)
			return vfstest.ReadAll(t, f)
		}, old[:10]},
		"punch": {func(w *world, f *vfs.File) string {
			w.check("punch", f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 100), nil)
			return vfstest.ReadAll(t, f)
		}, old[:4096] + strings.Repeat("\x00", 100) + old[4196:]},
		"fsync": {func(w *world, f *vfs.File) string {
			w.check("fsync", f.Sync(), nil)
			return w.hostText("m")
		}, mapped},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, hostfs.Config{Valid: time.Second})
			began, release, other := make(chan bool, 1), make(chan bool), make(chan bool, 100)
			honest := w.wire.handle
			w.wire.handle = func(readable, writable [][]byte) uint32 {
				if r := readable[0]; r[4] == 16 && r[60]&1 != 0 { // WRITE with FUSE_WRITE_CACHE
					select {
					case began <- true:
					default:
					}
					<-release
				} else {
					defer func() { other <- true }()
				}
				return honest(readable, writable)
			}
			w.onHost("m", old)
			f := w.open("/mnt/m", unix.O_RDWR, 0)
			defer f.DecRef()
			frame, err := f.MapCache().Page(1, true)
			w.must(err)
			copy(w.Pool.Bytes(frame), "mapped")
			w.Pool.Unref(frame)
			synced, done := make(chan error, 1), make(chan string, 1)
			go func() { synced <- f.Sync() }()
			<-began
			for len(other) > 0 {
				<-other
			}
			go func() { done <- c.what(w, f); other <- true }()
			select { // what does not wait has its chance to be wrong
			case <-other:
			case <-time.After(20 * time.Millisecond):
			}
			close(release)
			w.must(<-synced)
			if got := <-done; got != c.want {
				t.Errorf("a program sees %d bytes, not %d that it should", len(got), len(c.want))
			}
			w.must(f.Sync())
			if got := w.hostText("m"); got != c.want {
				t.Errorf("the server has %d bytes, not %d that it should", len(got), len(c.want))
			}
		})
	}
}

func TestHostChanges(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Second})
	later := func() { w.now.Add(int64(2 * time.Second)) }
	w.now.Store(1)
	w.onHost("a", "one")
	if got := w.Read(t, "/mnt/a"); got != "one" {
		t.Errorf("%q", got)
	}
	held := w.open("/mnt/a", unix.O_RDONLY, 0)
	w.changeOnHost("a", "two")
	later()
	if got := w.Read(t, "/mnt/a"); got != "two" {
		t.Errorf("%q", got)
	}
	w.onHost("a", "longer")
	later()
	if got := vfstest.ReadAll(t, held); got != "longer" {
		t.Errorf("%q", got)
	}
	w.check("there", vfs.Access(w.Ctx, vfs.Path{}, "/mnt/a", 0, 0), nil)
	w.must(os.Remove(filepath.Join(w.host, "a")))
	w.check("at once", vfs.Access(w.Ctx, vfs.Path{}, "/mnt/a", 0, 0), nil)
	later()
	w.check("removed", vfs.Access(w.Ctx, vfs.Path{}, "/mnt/a", 0, 0), unix.ENOENT)
	w.onHost("a", "new")
	w.check("known not to be there", vfs.Access(w.Ctx, vfs.Path{}, "/mnt/a", 0, 0), unix.ENOENT)
	later()
	if got := w.Read(t, "/mnt/a"); got != "new" {
		t.Errorf("%q", got)
	}
	held.DecRef()
	both := w.open("/mnt/a", unix.O_RDWR, 0)
	_ = vfstest.ReadAll(t, both)
	if _, err := write(both, "N", 0); err != nil {
		t.Error(err)
	}
	w.changeOnHost("a", "Now") // the same size, behind a write of ours
	later()
	b := uio.Buffer(make([]byte, 3))
	whole := b
	if _, err := both.Pread(&b, 0); err != nil || string(whole) != "Now" {
		t.Errorf("%q, %v", whole, err)
	}
	both.DecRef()
	w.must(os.Mkdir(filepath.Join(w.host, "d"), 0o755))
	w.onHost("d/x", "x")
	if got := w.Read(t, "/mnt/d/x"); got != "x" {
		t.Errorf("%q", got)
	}
	w.must(os.Rename(filepath.Join(w.host, "d"), filepath.Join(w.host, "e")))
	later()
	w.check("moved away", vfs.Access(w.Ctx, vfs.Path{}, "/mnt/d/x", 0, 0), unix.ENOENT)
	if got := w.Read(t, "/mnt/e/x"); got != "x" {
		t.Errorf("%q", got)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Second})
	c := w.Ctx
	w.must(vfs.Mkdir(c, vfs.Path{}, "/mnt/d", 0o750))
	w.Write(t, "/mnt/d/f", "f")
	w.must(vfs.Symlink(c, "d/f", vfs.Path{}, "/mnt/l"))
	w.must(vfs.Link(c, vfs.Path{}, "/mnt/l", vfs.Path{}, "/mnt/h", unix.AT_SYMLINK_FOLLOW))
	w.must(vfs.Mknod(c, vfs.Path{}, "/mnt/p", unix.S_IFIFO|0o600, 0, nil))
	w.check("device", vfs.Mknod(c, vfs.Path{}, "/mnt/dev", unix.S_IFCHR|0o600, 0x103, nil), unix.EPERM)
	w.check("again", vfs.Mkdir(c, vfs.Path{}, "/mnt/d", 0o750), unix.EEXIST)
	if got := w.Read(t, "/mnt/l"); got != "f" {
		t.Errorf("%q", got)
	}
	if st := w.stat("/mnt/h"); st.Nlink != 2 {
		t.Errorf("%d links", st.Nlink)
	}
	if to, err := vfs.Readlink(c, vfs.Path{}, "/mnt/l"); to != "d/f" || err != nil {
		t.Error(to, err)
	}
	w.check("not empty", vfs.Rmdir(c, vfs.Path{}, "/mnt/d"), unix.ENOTEMPTY)
	w.check("is a directory", vfs.Unlink(c, vfs.Path{}, "/mnt/d"), unix.EISDIR)
	w.must(vfs.Rename(c, vfs.Path{}, "/mnt/d/f", vfs.Path{}, "/mnt/g", 0))
	w.check("no replacing", vfs.Rename(c, vfs.Path{}, "/mnt/g", vfs.Path{}, "/mnt/h", unix.RENAME_NOREPLACE), unix.EEXIST)
	w.must(vfs.Rename(c, vfs.Path{}, "/mnt/l", vfs.Path{}, "/mnt/p", unix.RENAME_EXCHANGE))
	w.must(vfs.Rmdir(c, vfs.Path{}, "/mnt/d"))
	w.must(vfs.Unlink(c, vfs.Path{}, "/mnt/g"))
	if st := w.stat("/mnt/h"); st.Nlink != 1 {
		t.Errorf("%d links", st.Nlink)
	}
	f := w.open("/mnt/h", unix.O_RDWR, 0)
	w.must(vfs.Unlink(c, vfs.Path{}, "/mnt/h"))
	if got := vfstest.ReadAll(t, f); got != "f" {
		t.Errorf("%q", got)
	}
	if n, err := write(f, "more", 0); n != 4 || err != nil {
		t.Error(n, err)
	}
	var st unix.Stat_t
	if err := f.Stat(&st); err != nil || st.Size != 4 || st.Nlink != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	f.DecRef()
	if got := strings.Join(w.List(t, "/mnt"), " "); got != ". .. l p" && got != ". .. p l" {
		t.Errorf("%q", got)
	}
	f = w.open("/mnt", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if _, err := write(f, "hidden", 0); err != nil {
		t.Error(err)
	}
	w.must(vfs.Link(c, f.Path(), "", vfs.Path{}, "/mnt/named", unix.AT_EMPTY_PATH))
	f.DecRef()
	if got := w.Read(t, "/mnt/named"); got != "hidden" {
		t.Errorf("%q", got)
	}
	odd := []string{"ä ö\n\t", "-rf", strings.Repeat("n", 255), "...", "\xff\xfe", "a'b\"c\\"}
	for _, name := range odd {
		w.Write(t, "/mnt/"+name, name)
		if got := w.Read(t, "/mnt/"+name); got != name || w.hostText(name) != name {
			t.Errorf("%q", name)
		}
	}
	w.check("too long", vfs.Mkdir(c, vfs.Path{}, "/mnt/"+strings.Repeat("n", 256), 0o755), unix.ENAMETOOLONG)
}

func TestAttributes(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Second})
	w.Write(t, "/mnt/f", "x")
	p, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/mnt/f", 0)
	w.must(err)
	w.must(vfs.Chmod(w.Ctx, p, 0o4711))
	w.must(vfs.Utimes(w.Ctx, p, &[2]unix.Timespec{{Sec: 5, Nsec: 6}, {Sec: 1 << 31, Nsec: 7}}))
	if os.Geteuid() == 0 {
		w.must(vfs.Chown(w.Ctx, p, 12, 34))
		w.must(vfs.Chmod(w.Ctx, p, 0o4711))
	}
	var st, host unix.Stat_t
	w.must(vfs.Stat(w.Ctx, vfs.Path{}, "/mnt/f", 0, &st))
	w.must(unix.Stat(filepath.Join(w.host, "f"), &host))
	if st.Mode != host.Mode || st.Mode&0o7777 != 0o4711 || st.Uid != host.Uid || st.Gid != host.Gid || st.Mtim != host.Mtim || st.Atim != host.Atim ||
		st.Ino != host.Ino || st.Mtim.Sec != 1<<31 || st.Atim.Nsec != 6 {
		t.Errorf("%+v, on the host %+v", st, host)
	}
	w.must(vfs.Setxattr(w.Ctx, p, "user.a", []byte("value"), 0))
	v, err := vfs.Getxattr(w.Ctx, p, "user.a")
	if string(v) != "value" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if list, err := vfs.Listxattr(w.Ctx, p); string(list) != "user.a\x00" || err != nil {
		t.Errorf("%q, %v", list, err)
	}
	w.check("other", vfs.Setxattr(w.Ctx, p, "security.a", []byte("1"), 0), unix.EOPNOTSUPP)
	w.must(vfs.Setxattr(w.Ctx, p, "trusted.a", []byte("1"), 0))
	if list, err := vfs.Listxattr(w.Ctx, p); err != nil || !strings.Contains(string(list), "trusted.a\x00") || strings.Contains(string(list), "gosv") {
		t.Errorf("%q, %v", list, err)
	}
	w.must(vfs.Removexattr(w.Ctx, p, "user.a"))
	_, err = vfs.Getxattr(w.Ctx, p, "user.a")
	w.check("removed", err, unix.ENODATA)
	var fs unix.Statfs_t
	vfs.Statfs(p, &fs)
	if fs.Blocks == 0 || fs.Namelen != 255 {
		t.Errorf("%+v", fs)
	}
	user := w.As(1000, 1000)
	_, err = vfs.Open(user, vfs.Path{}, "/mnt/f", unix.O_RDWR, 0)
	w.check("somebody else's", err, unix.EACCES)
}

func TestManyFiles(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Hour})
	w.fs.Keep = 100
	w.now.Store(1)
	const n = 3000
	for i := range n {
		w.onHost(fmt.Sprint("f", i), "x")
	}
	if got := len(w.List(t, "/mnt")); got != n+2 {
		t.Errorf("%d entries", got)
	}
	before := w.wire.calls.Load()
	for i := n - 50; i < n; i++ {
		w.stat(fmt.Sprint("/mnt/f", i))
	}
	for range 3 {
		for i := range n {
			w.stat(fmt.Sprint("/mnt/f", i))
		}
		runtime.GC()
	}
	t.Logf("%d calls", w.wire.calls.Load()-before)
	deep := "/mnt"
	for range 60 {
		deep += "/sub"
		w.must(vfs.Mkdir(w.Ctx, vfs.Path{}, deep, 0o755))
	}
	w.Write(t, deep+"/file", "deep")
	if got := w.Read(t, deep+"/file"); got != "deep" {
		t.Errorf("%q", got)
	}
}

// TestForgetsEndWithTheSession has inodes collected after the file system was unmounted: the server, which forgot all with DESTROY,
// must hear nothing of them, for it gives their numbers to other files in the next session.
func TestForgetsEndWithTheSession(t *testing.T) {
	var destroyed atomic.Bool
	var late atomic.Int64
	t.Cleanup(func() { // after the world has ended
		for range 20 {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		if !destroyed.Load() || late.Load() != 0 {
			t.Errorf("destroyed: %v; %d requests afterwards", destroyed.Load(), late.Load())
		}
	})
	w := newWorld(t, hostfs.Config{Valid: time.Hour})
	honest := w.wire.handle
	w.wire.handle = func(readable, writable [][]byte) uint32 {
		if destroyed.Load() {
			late.Add(1)
		}
		n := honest(readable, writable)
		if readable[0][4] == 38 { // DESTROY
			destroyed.Store(true)
		}
		return n
	}
	for i := range 200 {
		w.onHost(fmt.Sprint("f", i), "x")
		w.stat(fmt.Sprint("/mnt/f", i))
	}
}

// TestContradiction has a server that knows no file, and lets none be made.
func TestContradiction(t *testing.T) {
	w := newWorld(t, hostfs.Config{})
	honest := w.wire.handle
	w.wire.handle = func(readable, writable [][]byte) uint32 {
		e := unix.ENOENT
		switch readable[0][4] {
		case 35: // CREATE
			e = unix.EEXIST
		case 1: // LOOKUP
		default:
			return honest(readable, writable)
		}
		copy(writable[0], []byte{16, 0, 0, 0, byte(256 - int(e)), 0xff, 0xff, 0xff})
		copy(writable[0][8:16], readable[0][8:16])
		return 16
	}
	_, err := vfs.Open(w.Ctx, vfs.Path{}, "/mnt/f", unix.O_CREAT|unix.O_RDWR, 0o600)
	w.check("open", err, unix.EEXIST)
}

// TestFullServer has a server that knows no more files than a program may have open.
func TestFullServer(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Hour})
	w.now.Store(1)
	const room, n = 40, 300
	var mu sync.Mutex
	known := 0
	honest := w.wire.handle
	w.wire.handle = func(readable, writable [][]byte) uint32 {
		op := readable[0][4]
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op == 42: // BATCH_FORGET
			known -= int(readable[0][40])
		case op == 1 && known >= room:
			copy(writable[0], []byte{16, 0, 0, 0, byte(256 - int(unix.ENFILE)), 0xff, 0xff, 0xff})
			copy(writable[0][8:16], readable[0][8:16])
			return 16
		case op == 1:
			known++
		}
		return honest(readable, writable)
	}
	for i := range n {
		w.onHost(fmt.Sprint("f", i), "x")
		w.stat(fmt.Sprint("/mnt/f", i))
	}
}

// TestRequests counts what the server is asked for.
func TestRequests(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Hour})
	w.now.Store(1)
	w.onHost("f", strings.Repeat("x", 10000))
	count := func(what string, want int64, f func()) {
		t.Helper()
		before := w.wire.calls.Load()
		f()
		for deadline := time.Now().Add(time.Minute); w.wire.calls.Load()-before < want && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if got := w.wire.calls.Load() - before; got != want {
			t.Errorf("%s: %d requests, want %d", what, got, want)
		}
	}
	count("the first stat", 1, func() { w.stat("/mnt/f") })
	count("stat", 0, func() { w.stat("/mnt/f") })
	count("open, read, close", 3, func() { w.Read(t, "/mnt/f") })
	count("the same with the contents known", 2, func() { w.Read(t, "/mnt/f") })
	count("create, write, close", 4, func() { w.Write(t, "/mnt/g", "text") })
	f := w.open("/mnt/f", unix.O_RDWR, 0)
	count("reads and writes by turns", 6, func() { // one GETATTR at most: the rest is WRITE
		for i := range 5 {
			_, _ = write(f, "y", int64(i*1000))
			b := uio.Buffer(make([]byte, 100))
			_, _ = f.Pread(&b, int64(i*1000))
		}
		w.stat("/mnt/f")
	})
	count("close", 1, f.DecRef)
	count("what is not there", 1, func() { _ = vfs.Access(w.Ctx, vfs.Path{}, "/mnt/none", 0, 0) })
	count("what is known not to be there", 0, func() { _ = vfs.Access(w.Ctx, vfs.Path{}, "/mnt/none", 0, 0) })
}

func TestReadOnlyServer(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Second, ReadOnly: true})
	w.onHost("f", "text")
	if got := w.Read(t, "/mnt/f"); got != "text" {
		t.Errorf("%q", got)
	}
	c, p := w.Ctx, vfs.Path{}
	_, err := vfs.Open(c, p, "/mnt/f", unix.O_RDWR, 0)
	w.check("open", err, unix.EROFS)
	_, err = vfs.Open(c, p, "/mnt/f", unix.O_RDONLY|unix.O_TRUNC, 0)
	w.check("O_TRUNC", err, unix.EROFS)
	_, err = vfs.Open(c, p, "/mnt/new", unix.O_CREAT|unix.O_RDWR, 0o600)
	w.check("create", err, unix.EROFS)
	w.check("mkdir", vfs.Mkdir(c, p, "/mnt/d", 0o700), unix.EROFS)
	w.check("unlink", vfs.Unlink(c, p, "/mnt/f"), unix.EROFS)
	w.check("rename", vfs.Rename(c, p, "/mnt/f", p, "/mnt/g", 0), unix.EROFS)
	w.check("link", vfs.Link(c, p, "/mnt/f", p, "/mnt/g", 0), unix.EROFS)
	w.check("truncate", vfs.Truncate(c, "/mnt/f", 0), unix.EROFS)
	f, err := vfs.Lookup(c, p, "/mnt/f", 0)
	w.must(err)
	w.check("chmod", vfs.Chmod(c, f, 0o600), unix.EROFS)
	w.check("setxattr", vfs.Setxattr(c, f, "user.a", nil, 0), unix.EROFS)
	if w.hostText("f") != "text" {
		t.Error("changed")
	}
}

// TestDeadServer has the server vanish.
func TestDeadServer(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: 0})
	w.Write(t, "/mnt/f", "text")
	f := w.open("/mnt/f", unix.O_RDWR, 0)
	w.wire.Close()
	_, err := write(f, "x", 0)
	w.check("write", err, unix.ENOTCONN)
	b := uio.Buffer(make([]byte, 10))
	_, err = f.Pread(&b, 0)
	w.check("read", err, unix.ENOTCONN)
	w.check("sync", f.Sync(), unix.ENOTCONN)
	_, err = vfs.Open(w.Ctx, vfs.Path{}, "/mnt/g", unix.O_CREAT|unix.O_RDWR, 0o600)
	w.check("open", err, unix.ENOTCONN)
	f.DecRef()
}

// TestSideBySide has several programs at work in one directory.
func TestSideBySide(t *testing.T) {
	w := newWorld(t, hostfs.Config{Valid: time.Second})
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 60 {
				name := fmt.Sprintf("/mnt/g%d", (g+i)%4)
				f, err := vfs.Open(w.Ctx, vfs.Path{}, name, unix.O_CREAT|unix.O_RDWR, 0o600)
				if err != nil {
					continue
				}
				_, _ = write(f, strings.Repeat("z", 5000*(i%3)), int64(i*100))
				b := uio.Buffer(make([]byte, 3000))
				_, _ = f.Pread(&b, int64(i*50))
				_ = f.Truncate(int64(i * 90))
				f.DecRef()
				if i%3 == 0 {
					_ = vfs.Unlink(w.Ctx, vfs.Path{}, name)
				}
				if i%5 == 0 {
					_ = vfs.Rename(w.Ctx, vfs.Path{}, name, vfs.Path{}, fmt.Sprintf("/mnt/g%d", (g+i+1)%4), 0)
				}
			}
		})
	}
	wg.Wait()
	for _, name := range w.List(t, "/mnt") {
		if strings.HasPrefix(name, "g") {
			if w.Read(t, "/mnt/"+name) != w.hostText(name) {
				t.Errorf("%s differs", name)
			}
		}
	}
}
