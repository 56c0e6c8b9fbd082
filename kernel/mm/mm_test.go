package mm

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine/fake"
)

const (
	rw      = unix.PROT_READ | unix.PROT_WRITE
	anon    = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	sharedA = unix.MAP_SHARED | unix.MAP_ANONYMOUS
)

// world is a machine with a pool and an address space.
type world struct {
	t    testing.TB
	m    *fake.Machine
	pool *mem.Pool
	as   *AddressSpace

	caches []*mem.Cache // released at the end
}

func newWorld(t testing.TB, frames int) *world {
	t.Helper()
	m := fake.ForTest(t, fake.Config{Frames: frames})
	w := &world{t: t, m: m, pool: mem.NewPool(m)}
	t.Cleanup(func() {
		for _, c := range w.caches {
			c.Release()
		}
		w.pool.Close()
	})
	w.as = w.newSpace()
	return w
}

func (w *world) newSpace() *AddressSpace {
	w.t.Helper()
	as, err := New(w.m, w.pool)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		as.Release()
		checkEmpty(w.t, as)
	})
	return as
}

// checkEmpty checks that all counters of a released address space are back at zero.
func checkEmpty(t testing.TB, as *AddressSpace) {
	t.Helper()
	s := as.Stats()
	if s.Size != 0 || s.Locked != 0 || s.Data != 0 || s.RSSAnon != 0 || s.RSSFile != 0 || s.RSSShmem != 0 || s.Areas != 0 {
		t.Errorf("after Release: %+v", s)
	}
}

func (w *world) mmap(as *AddressSpace, args MapArgs) uint64 {
	w.t.Helper()
	addr, err := as.Map(args)
	if err != nil {
		w.t.Fatalf("Map(%+v): %v", args, err)
	}
	return addr
}

func (w *world) put(as *AddressSpace, va uint64, s string) {
	w.t.Helper()
	if n, err := as.CopyOut(va, []byte(s)); err != nil {
		w.t.Fatalf("CopyOut(%#x): %d, %v", va, n, err)
	}
}

func (w *world) want(as *AddressSpace, va uint64, s string) {
	w.t.Helper()
	b := make([]byte, len(s))
	if n, err := as.CopyIn(b, va); err != nil || string(b) != s {
		w.t.Fatalf("CopyIn(%#x): %q, %d, %v; want %q", va, b, n, err, s)
	}
}

func (w *world) check(what string, got, want error) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// file is a Mappable over a cache.
type file struct {
	cache *mem.Cache
	refs  int
	name  string
}

func (f *file) MapCache() *mem.Cache               { return f.cache }
func (f *file) IncRef()                            { f.refs++ }
func (f *file) DecRef()                            { f.refs-- }
func (f *file) MapName() string                    { return f.name }
func (f *file) MapInode() (uint32, uint32, uint64) { return 0, 1, 42 }

func TestAnonymous(t *testing.T) {
	w := newWorld(t, 256)
	addr := w.mmap(w.as, MapArgs{Length: 3 * pageSize, Prot: rw, Flags: anon})
	w.want(w.as, addr, "\x00\x00")
	w.put(w.as, addr+pageSize-2, "four")
	w.want(w.as, addr+pageSize-2, "four")
	w.want(w.as, addr+2*pageSize, string(make([]byte, pageSize)))
	if s := w.as.Stats(); s.RSSAnon != 2 || s.Size != 3 || s.Data != 3 {
		t.Errorf("%+v", s)
	}
	if err := w.as.Unmap(addr+pageSize, pageSize); err != nil {
		t.Fatal(err)
	}
	if n, err := w.as.CopyIn(make([]byte, 10), addr+pageSize-5); n != 5 || err != unix.EFAULT {
		t.Errorf("read over the hole: %d, %v", n, err)
	}
	w.put(w.as, addr+2*pageSize, "x")
	if n := len(w.as.Areas()); n != 2 {
		t.Errorf("%d areas", n)
	}
}

func TestFork(t *testing.T) {
	w := newWorld(t, 256)
	private := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: anon})
	shared := w.mmap(w.as, MapArgs{Length: pageSize, Prot: rw, Flags: sharedA})
	w.put(w.as, private, "parent")
	w.put(w.as, shared, "parent")
	child, err := w.as.Fork()
	if err != nil {
		t.Fatal(err)
	}
	defer child.Release()
	w.want(child, private, "parent")
	w.put(child, private, "child ")
	w.put(child, shared, "child ")
	w.want(w.as, private, "parent")
	w.want(w.as, shared, "child ")
	w.put(w.as, private, "PARENT")
	w.want(child, private, "child ")
	if _, free := w.pool.Usage(); free == 0 {
		t.Error("no memory left")
	}
}

func TestPrivateFile(t *testing.T) {
	w := newWorld(t, 256)
	f := newFile(w, 0)
	text := bytes.Repeat([]byte("0123456789abcdef"), 1024)
	src := uioBuffer(text)
	if n, err := f.cache.WriteAt(&src, 0); n != int64(len(text)) || err != nil {
		t.Fatal(n, err)
	}
	addr := w.mmap(w.as, MapArgs{Length: 8 * pageSize, Prot: rw, Flags: unix.MAP_PRIVATE, Object: f, Offset: pageSize})
	w.want(w.as, addr, "0123")
	w.put(w.as, addr+1, "X")
	w.want(w.as, addr, "0X23")
	if got := w.pool.Bytes(mustPage(t, f.cache, 1))[1]; got != '1' {
		t.Errorf("the file changed: %q", got)
	}
	if err := w.as.Fault(addr+4*pageSize, AccessOf(0)); err != errBus {
		t.Errorf("beyond the end: %v", err)
	}
	w.check("Truncate", f.cache.Truncate(pageSize), nil)
	if err := w.as.Fault(addr, AccessOf(0)); err != errBus {
		t.Errorf("after Truncate: %v", err)
	}
	w.check("Unmap", w.as.Unmap(addr, 8*pageSize), nil)
	if f.refs != 0 {
		t.Errorf("%d references left", f.refs)
	}
}
