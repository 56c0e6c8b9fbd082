package ext4

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/machine/fake"
)

// mkfs makes an image of size bytes with mke2fs.
func mkfs(tb testing.TB, size int64, args ...string) []byte {
	tb.Helper()
	if _, err := os.Stat("/sbin/mke2fs"); err != nil {
		tb.Skip("no mke2fs here: apt-get install e2fsprogs")
	}
	file := filepath.Join(tb.TempDir(), "image")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		tb.Fatal(err)
	}
	out, err := exec.Command("/sbin/mke2fs", append(append([]string{"-q", "-F"}, args...), file)...).CombinedOutput()
	if err != nil {
		tb.Fatalf("mke2fs %q: %v\n%s", args, err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// fsck checks an image with e2fsck; with replay it may do what a mount does first.
func fsck(tb testing.TB, b []byte, replay bool) {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "image")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	if replay {
		if out, err := exec.Command("/sbin/e2fsck", "-p", file).CombinedOutput(); err != nil {
			if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() > 1 {
				tb.Fatalf("e2fsck -p: %v\n%s", err, out)
			}
		}
	}
	if out, err := exec.Command("/sbin/e2fsck", "-fn", file).CombinedOutput(); err != nil {
		keep := filepath.Join(os.TempDir(), "block-bad-image")
		_ = os.WriteFile(keep, b, 0o600)
		tb.Fatalf("e2fsck -fn: %v\n%s", err, out)
	}
}

// world is a namespace with the file system at /m.
type world struct {
	*vfstest.Tree
	disk *block.Disk
	mem  *block.Memory
	logs []string
}

func newWorld(tb testing.TB, image []byte) *world { return newWorldOf(tb, image, 65536) }

func newWorldOf(tb testing.TB, image []byte, frames int) *world {
	w := &world{Tree: vfstest.NewOn(tb, fake.ForTest(tb, fake.Config{Frames: frames})), mem: block.NewMemory(image, 512)}
	var clock atomic.Int64
	w.disk = block.NewDisk("vda", w.mem, w.Machine, func() int64 { return clock.Add(1) })
	if err := vfs.Mkdir(w.Ctx, vfs.Path{}, "/m", 0o755); err != nil {
		tb.Fatal(err)
	}
	for _, t := range Types(Config{Pool: w.Pool, Now: func() int64 { return w.Now.Add(1000) }, Log: func(s string) { w.logs = append(w.logs, s) },
		Find: func(*vfs.MountRequest) (Disk, string, func(), error) {
			if err := w.disk.Claim(w); err != nil {
				return nil, "", nil, err
			}
			return w.disk, "vda", w.disk.Release, nil
		}}) {
		w.NS.AddType(t)
	}
	w.NS.Log = func(s string) { w.logs = append(w.logs, s) }
	return w
}

func (w *world) mount(tb testing.TB, flags uint64, data string) {
	tb.Helper()
	if err := w.tryMount(flags, data); err != nil {
		tb.Fatalf("mount: %v %q", err, w.logs)
	}
}

func (w *world) tryMount(flags uint64, data string) error {
	at, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/m", 0)
	if err != nil {
		return err
	}
	return vfs.DoMount(w.Ctx, "/dev/vda", at, "ext4", flags, data)
}

func (w *world) unmount(tb testing.TB) {
	tb.Helper()
	at, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/m", 0)
	if err == nil {
		err = vfs.Unmount(w.Ctx, at, 0)
	}
	if err != nil {
		tb.Fatalf("unmount: %v", err)
	}
	if len(w.logs) > 0 {
		tb.Errorf("log: %q", w.logs)
	}
}

func (w *world) write(path string, b []byte, off int64, flags int) error {
	f, err := vfs.Open(w.Ctx, vfs.Path{}, path, unix.O_RDWR|flags, 0o644)
	if err != nil {
		return err
	}
	defer f.DecRef()
	for len(b) > 0 {
		buf := uio.Buffer(b)
		n, err := f.Pwrite(&buf, off)
		if err != nil {
			return err
		}
		b, off = b[n:], off+n
	}
	return nil
}

func (w *world) read(tb testing.TB, path string) []byte {
	tb.Helper()
	f, err := vfs.Open(w.Ctx, vfs.Path{}, path, unix.O_RDONLY, 0)
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	defer f.DecRef()
	var st unix.Stat_t
	f.Stat(&st)
	b := make([]byte, st.Size)
	buf := uio.Buffer(b)
	n, err := f.Pread(&buf, 0)
	if err != nil || n != st.Size {
		tb.Fatalf("%s: %d of %d bytes, %v", path, n, st.Size, err)
	}
	return b
}

// kinds are the ways to make a file system that are tested.
var kinds = map[string][]string{
	"ext4":       {"-t", "ext4"},
	"ext4-1k":    {"-t", "ext4", "-b", "1024"},
	"old":        {"-t", "ext4", "-O", "^metadata_csum,^64bit,^orphan_file,uninit_bg"},
	"nojournal":  {"-t", "ext4", "-O", "^has_journal"},
	"ext3":       {"-t", "ext3"},
	"ext2-1k":    {"-t", "ext2", "-b", "1024", "-I", "128"},
	"smallinode": {"-t", "ext4", "-I", "128"},
	"metabg":     {"-t", "ext4", "-O", "meta_bg,^resize_inode"},
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestReadWhatDebugfsWrote(t *testing.T) {
	all := maps.Clone(kinds)
	all["bigalloc"] = []string{"-t", "ext4", "-O", "bigalloc", "-b", "4096"} // read only
	all["bigalloc-1k"] = []string{"-t", "ext4", "-O", "bigalloc", "-b", "1024"}
	for name, args := range all {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := rand.New(rand.NewPCG(1, 2))
			want := map[string][]byte{}
			for i := range 400 {
				name := fmt.Sprintf("d/file-with-a-long-name-%03d", i)
				want[name] = noise(r, r.IntN(3000))
			}
			want["big"] = noise(r, 3<<20+77)
			want["empty"] = nil
			for n, b := range want {
				full := filepath.Join(dir, n)
				if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(full, b, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("short", filepath.Join(dir, "fast")); err != nil {
				t.Fatal(err)
			}
			long := strings.Repeat("long/", 30)
			if err := os.Symlink(long, filepath.Join(dir, "slow")); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, mkfs(t, 64<<20, append(slices.Clone(args), "-d", dir)...))
			if strings.HasPrefix(name, "bigalloc") {
				if err := w.tryMount(0, ""); err != unix.EROFS {
					t.Errorf("read and write: %v", err)
				}
				w.logs = nil
			}
			w.mount(t, unix.MS_RDONLY, "")
			for n, b := range want {
				if got := w.read(t, "/m/"+n); !bytes.Equal(got, b) {
					t.Errorf("%s differs: %d bytes, want %d", n, len(got), len(b))
				}
			}
			if got := len(w.List(t, "/m/d")); got != 402 {
				t.Errorf("%d entries", got)
			}
			for n, target := range map[string]string{"fast": "short", "slow": long} {
				if got, err := vfs.Readlink(w.Ctx, vfs.Path{}, "/m/"+n); err != nil || got != target {
					t.Errorf("%s: %q, %v", n, got, err)
				}
			}
			if err := w.write("/m/x", []byte("x"), 0, unix.O_CREAT); err != unix.EROFS {
				t.Errorf("read-only: %v", err)
			}
			if _, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/m/d/missing", 0); err != unix.ENOENT {
				t.Error(err)
			}
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
		})
	}
}

func TestWrite(t *testing.T) {
	for name, args := range kinds {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mkfs(t, 32<<20, args...))
			w.mount(t, 0, "")
			m := newModel(w, 42)
			for range 1500 {
				m.step(t)
			}
			m.check(t)
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
			w.mount(t, 0, "")
			m.check(t)
			for range 500 {
				m.step(t)
			}
			m.check(t)
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
		})
	}
}

// model makes random changes and remembers what there must be.
type model struct {
	w     *world
	r     *rand.Rand
	dirs  []string
	files map[string]*contents
	links map[string]string
	n     int
}

type contents struct {
	b     []byte
	attrs map[string][]byte
}

func newModel(w *world, seed uint64) *model {
	return &model{w: w, r: rand.New(rand.NewPCG(seed, 1)), dirs: []string{"/m"}, files: map[string]*contents{}, links: map[string]string{}}
}

func (m *model) dir() string { return m.dirs[m.r.IntN(len(m.dirs))] }

func (m *model) newName() string {
	m.n++
	pad := ""
	if m.r.IntN(3) == 0 {
		pad = strings.Repeat("n", m.r.IntN(200))
	}
	return fmt.Sprintf("%s/%d%s", m.dir(), m.n, pad)
}

// file picks one, in no order that a test can repeat; the seed is for the rest.
func (m *model) file() string {
	for n := range m.files {
		return n
	}
	return ""
}

func (m *model) step(t *testing.T) {
	t.Helper()
	ctx, r := m.w.Ctx, m.r
	var err error
	what := r.IntN(14)
	name := m.file()
	if name == "" || len(m.files) < 5 {
		what = 0
	}
	switch what {
	case 0, 1, 2: // make a file
		name = m.newName()
		b := noise(r, r.IntN(20000))
		if err = m.w.write(name, b, 0, unix.O_CREAT|unix.O_EXCL); err == nil {
			m.files[name] = &contents{b: b, attrs: map[string][]byte{}}
			if len(b) == 0 {
				err = m.w.write(name, nil, 0, unix.O_CREAT)
			}
		}
	case 3: // write somewhere
		c := m.files[name]
		off := r.IntN(60000)
		b := noise(r, r.IntN(9000)+1)
		if need := off + len(b); need > len(c.b) {
			c.b = append(c.b, make([]byte, need-len(c.b))...)
		}
		copy(c.b[off:], b)
		err = m.w.write(name, b, int64(off), 0)
	case 4: // truncate
		c := m.files[name]
		n := r.IntN(40000)
		if n <= len(c.b) {
			c.b = c.b[:n:n]
		} else {
			c.b = append(c.b, make([]byte, n-len(c.b))...)
		}
		err = vfs.Truncate(ctx, name, int64(n))
	case 5, 6: // unlink
		err = vfs.Unlink(ctx, vfs.Path{}, name)
		delete(m.files, name)
	case 7: // mkdir
		if len(m.dirs) < 12 {
			name = m.newName()
			err = vfs.Mkdir(ctx, vfs.Path{}, name, 0o755)
			m.dirs = append(m.dirs, name)
		}
	case 8: // rename
		to := m.newName()
		if r.IntN(3) == 0 {
			to = m.file()
		}
		if to != name && m.files[to] != m.files[name] {
			err = vfs.Rename(ctx, vfs.Path{}, name, vfs.Path{}, to, 0)
			m.files[to] = m.files[name]
			delete(m.files, name)
		}
	case 9: // link
		to := m.newName()
		err = vfs.Link(ctx, vfs.Path{}, name, vfs.Path{}, to, 0)
		m.files[to] = m.files[name]
	case 10: // symlink
		name = m.newName()
		target := strings.Repeat("t", 1+r.IntN(300))
		err = vfs.Symlink(ctx, target, vfs.Path{}, name)
		m.links[name] = target
	case 11: // punch or allocate
		var f *vfs.File
		if f, err = vfs.Open(ctx, vfs.Path{}, name, unix.O_RDWR, 0); err != nil {
			break
		}
		c := m.files[name]
		off, n := r.IntN(30000), r.IntN(20000)+1
		mode := uint32(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
		switch r.IntN(4) {
		case 0, 1: // not with the old map, which leaves all as it was
			mode = uint32(r.IntN(2)) * unix.FALLOC_FL_ZERO_RANGE
			if err = f.Allocate(mode, int64(off), int64(n)); err == unix.EOPNOTSUPP {
				err = nil
				break
			}
			if need := off + n; need > len(c.b) {
				c.b = append(c.b, make([]byte, need-len(c.b))...)
			}
			if mode != 0 {
				clear(c.b[off : off+n])
			}
		default:
			err = f.Allocate(mode, int64(off), int64(n))
			if off < len(c.b) {
				clear(c.b[off:min(len(c.b), off+n)])
			}
		}
		if r.IntN(4) == 0 && err == nil {
			err = f.Sync()
		}
		f.DecRef()
	case 12: // extended attribute
		var p vfs.Path
		if p, err = vfs.Lookup(ctx, vfs.Path{}, name, 0); err != nil {
			break
		}
		c := m.files[name]
		key := fmt.Sprintf("user.k%d", r.IntN(4))
		if _, ok := c.attrs[key]; ok && r.IntN(2) == 0 {
			err = vfs.Removexattr(ctx, p, key)
			delete(c.attrs, key)
		} else {
			v := noise(r, r.IntN(150))
			if err = vfs.Setxattr(ctx, p, key, v, 0); err == unix.ENOSPC {
				err = nil
			} else {
				c.attrs[key] = v
			}
		}
	case 13:
		m.w.NS.Sync()
		if r.IntN(4) == 0 {
			// as when memory is short
			p, _ := vfs.Lookup(ctx, vfs.Path{}, "/m", 0)
			p.Mount.FS.DropNames()
			m.w.Pool.Reclaim(1000)
		}
	}
	if err != nil {
		t.Fatalf("step %d on %s: %v %q", what, name, err, m.w.logs)
	}
}

func (m *model) check(t *testing.T) {
	t.Helper()
	for name, c := range m.files {
		if got := m.w.read(t, name); !bytes.Equal(got, c.b) {
			at := 0
			for at < len(got) && at < len(c.b) && got[at] == c.b[at] {
				at++
			}
			t.Fatalf("%s differs: %d bytes, want %d, first at %d", name, len(got), len(c.b), at)
		}
		p, err := vfs.Lookup(m.w.Ctx, vfs.Path{}, name, 0)
		if err != nil {
			t.Fatal(err)
		}
		for key, v := range c.attrs {
			if got, err := vfs.Getxattr(m.w.Ctx, p, key); err != nil || !bytes.Equal(got, v) {
				t.Fatalf("%s %s: %q, want %q, %v", name, key, got, v, err)
			}
		}
	}
	for name, target := range m.links {
		if got, err := vfs.Readlink(m.w.Ctx, vfs.Path{}, name); err != nil || got != target {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
	}
}

// TestManyNames fills a directory until its index has two levels, and empties it.
func TestManyNames(t *testing.T) {
	for name, args := range map[string][]string{"ext4-1k": kinds["ext4-1k"], "ext4": kinds["ext4"], "old": kinds["old"], "ext2-1k": kinds["ext2-1k"]} {
		t.Run(name, func(t *testing.T) {
			count := 6000
			w := newWorld(t, mkfs(t, 64<<20, append([]string{"-N", "20000"}, args...)...))
			w.mount(t, 0, "")
			long := strings.Repeat("x", 100)
			name := func(i int) string { return fmt.Sprintf("/m/%s%d", long, i*7919) }
			for i := range count {
				if err := vfs.Mknod(w.Ctx, vfs.Path{}, name(i), unix.S_IFIFO|0o644, 0, nil); err != nil {
					t.Fatal(i, err)
				}
			}
			if got := len(w.List(t, "/m")); got != count+3 {
				t.Errorf("%d names", got)
			}
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
			w.mount(t, 0, "")
			for i := range count {
				if err := vfs.Unlink(w.Ctx, vfs.Path{}, name(i)); err != nil {
					t.Fatal(i, err)
				}
			}
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
		})
	}
}

// power plays a disk whose cache loses writes: after a loss, any part of what was not flushed may be there.
type power struct {
	durable []byte
	pending []saved
}

type saved struct {
	off int64
	b   []byte
}

func (p *power) watch(r *block.Request) error {
	switch r.Op {
	case block.Write:
		s := saved{off: r.Off}
		for _, seg := range r.Data {
			s.b = append(s.b, seg.Bytes...)
		}
		if r.Durable {
			copy(p.durable[s.off:], s.b)
		}
		p.pending = append(p.pending, s)
	case block.Flush:
		for _, s := range p.pending {
			copy(p.durable[s.off:], s.b)
		}
		p.pending = nil
	}
	return nil
}

// lose returns what is on the disk after a loss of power now; each piece of 4 KiB is there or not.
func (p *power) lose(r *rand.Rand) []byte {
	b := bytes.Clone(p.durable)
	keep := r.IntN(101)
	for _, s := range p.pending {
		for at := 0; at < len(s.b); at += 4096 {
			if r.IntN(100) < keep {
				end := min(at+4096, len(s.b))
				copy(b[s.off+int64(at):], s.b[at:end])
			}
		}
	}
	return b
}

// TestPowerLoss stops at random moments: the file system must be consistent after its journal is replayed, by us and by e2fsck, and what
// was synced must be there.
func TestPowerLoss(t *testing.T) {
	for name, args := range map[string][]string{
		"ext4": kinds["ext4"], "ext3": kinds["ext3"], "ext4-4k": {"-t", "ext4", "-b", "4096", "-J", "size=4"}, "old": kinds["old"],
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, uint64(len(name))))
			for round := range rounds() {
				image := mkfs(t, 32<<20, args...)
				w := newWorld(t, image)
				p := &power{durable: bytes.Clone(image)}
				w.mem.SetFault(p.watch)
				w.mount(t, 0, "")
				m := newModel(w, uint64(round))
				synced := map[string][]byte{}
				var images [][]byte
				var expects []map[string][]byte
				for step := range 300 {
					m.step(t)
					if step%20 == 19 {
						name, b := fmt.Sprintf("/m/synced%d", step), noise(r, r.IntN(30000)+1)
						f, err := vfs.Open(w.Ctx, vfs.Path{}, name, unix.O_RDWR|unix.O_CREAT, 0o600)
						if err != nil {
							t.Fatal(err)
						}
						buf := uio.Buffer(b)
						if _, err := f.Write(&buf); err != nil {
							t.Fatal(err)
						}
						if err := f.Sync(); err != nil {
							t.Fatal(err)
						}
						f.DecRef()
						synced[name] = b
					}
					if r.IntN(60) == 0 {
						images = append(images, p.lose(r))
						e := map[string][]byte{}
						for n, b := range synced {
							e[n] = b
						}
						expects = append(expects, e)
					}
				}
				w.mem.SetFault(nil)
				w.unmount(t)
				for i, image := range images {
					fsck(t, bytes.Clone(image), true)
					w := newWorld(t, image)
					w.mount(t, 0, "")
					for name, b := range expects[i] {
						if got := w.read(t, name); !bytes.Equal(got, b) {
							t.Fatalf("%s was synced, and is not there after a loss of power", name)
						}
					}
					w.unmount(t)
					fsck(t, w.mem.Bytes(), false)
				}
			}
		})
	}
}

// rounds is how often TestPowerLoss goes through all: GOSV_ROUNDS, by default once.
func rounds() int {
	n, err := strconv.Atoi(os.Getenv("GOSV_ROUNDS"))
	if err != nil {
		return 1
	}
	return n
}
