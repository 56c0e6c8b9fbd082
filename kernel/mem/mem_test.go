package mem

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/machine"
	"gosv/machine/fake"
)

const pageSize = machine.PageSize

func newPool(t testing.TB, frames int) (*fake.Machine, *Pool) {
	m := fake.ForTest(t, fake.Config{Frames: frames})
	p := NewPool(m)
	t.Cleanup(p.Close)
	return m, p
}

func TestPool(t *testing.T) {
	m, p := newPool(t, 2048)
	f, err := p.Alloc()
	if err != nil {
		t.Fatal(err)
	}
	if !p.Exclusive(f) || p.Refs(f) != 1 || p.Kind(f) != Anonymous {
		t.Error("a new frame is not exclusive")
	}
	p.Ref(f)
	if p.Exclusive(f) {
		t.Error("a shared frame is exclusive")
	}
	p.Unref(f)
	p.setKind(f, Shmem)
	if p.Exclusive(f) || p.Kind(f) != Shmem || p.Refs(f) != 1 {
		t.Error("a page of a cache is exclusive")
	}
	p.Unref(f)
	h, err := p.AllocHuge()
	if err != nil || h%HugeFrames != 0 {
		t.Fatal(h, err)
	}
	p.Ref(h + 5)
	var got Tally
	p.RefRun(h+100, 2, &got)
	p.UnrefRun(h, HugeFrames, &got)
	if got != (Tally{Anonymous: 514}) {
		t.Error(got)
	}
	if n := m.InUse(); n != 3 {
		t.Errorf("%d frames in use", n)
	}
	p.UnrefRun(h+100, 2, &got)
	p.Unref(h + 5)
	for _, misuse := range []func(){
		func() { p.Unref(f) },
		func() { p.Ref(f) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("misuse was not noticed")
				}
				p.refs[f].Store(0)
			}()
			misuse()
		}()
	}
	m.FailAfter(0)
	if _, err := p.Alloc(); err != unix.ENOMEM {
		t.Error(err)
	}
	if _, err := p.AllocHuge(); err != unix.ENOMEM {
		t.Error(err)
	}
	if _, err := p.Zero(); err != unix.ENOMEM {
		t.Error(err)
	}
	m.FailAfter(-1)
}

func TestZero(t *testing.T) {
	_, p := newPool(t, 64)
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 100 {
				f, err := p.Zero()
				if err != nil || !p.IsZero(f) {
					t.Error(f, err)
				}
				p.Unref(f)
			}
		}()
	}
	wg.Wait()
	f, _ := p.Zero()
	p.refs[f].Add(maxZeroRefs)
	g, err := p.Zero()
	if err != nil || p.IsZero(g) || g == f {
		t.Error("the count of the zero frame would overflow")
	}
	p.refs[f].Add(^uint32(maxZeroRefs - 1))
	p.Unref(g)
	p.Unref(f)
}

func TestTree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var tr tree
		frames, dirty := map[uint64]machine.Frame{}, map[uint64]bool{}
		limit := uint64(1) << (1 + r.IntN(63))
		for range 200 {
			i := r.Uint64N(limit)
			if f := tr.get(i); f != frames[i] {
				t.Fatalf("get(%d) = %d, want %d", i, f, frames[i])
			}
			switch r.IntN(4) {
			case 0, 1:
				if frames[i] == 0 {
					frames[i] = machine.Frame(1 + r.Uint64N(1000))
					tr.set(i, frames[i])
				}
			case 2:
				tr.remove(i)
				delete(frames, i)
				delete(dirty, i)
			case 3:
				if frames[i] != 0 {
					on := r.IntN(3) > 0
					if changed := tr.mark(i, on); changed != (dirty[i] != on) {
						t.Fatal("mark lies")
					}
					dirty[i] = on
				}
			}
			from := r.Uint64N(limit)
			for _, onlyDirty := range []bool{false, true} {
				best, found := uint64(math.MaxUint64), false
				for i := range frames {
					if i >= from && i <= best && (!onlyDirty || dirty[i]) {
						best, found = i, true
					}
				}
				next := tr.next
				if onlyDirty {
					next = tr.nextDirty
				}
				at, f, ok := next(from)
				if ok != found || ok && (at != best || f != frames[best]) {
					t.Fatalf("next(%d) = %d, %d, %v; want %d, %v", from, at, f, ok, best, found)
				}
			}
		}
	}
}

// disk is a Backing in memory.
type disk struct {
	mu    sync.Mutex
	pages map[uint64][]byte // guarded by mu
	fail  error
	gate  chan struct{} // if not nil, reads wait for it
	reads int           // guarded by mu
}

func (d *disk) ReadPage(index uint64, page []byte) error {
	if d.gate != nil {
		<-d.gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	if b, ok := d.pages[index]; ok {
		copy(page, b)
	} else {
		for i := range page {
			page[i] = byte(index) + 1 // also what lies beyond the end of the file
		}
	}
	return d.fail
}

func (d *disk) WritePage(index uint64, page []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	if d.pages == nil {
		d.pages = map[uint64][]byte{}
	}
	d.pages[index] = bytes.Clone(page)
	return nil
}

func read(t testing.TB, c *Cache, off int64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	dst := uio.Buffer(b)
	got, err := c.ReadAt(&dst, off)
	if err != nil {
		t.Fatalf("ReadAt(%d, %d): %v", off, n, err)
	}
	return b[:got]
}

func write(t testing.TB, c *Cache, off int64, b []byte) {
	t.Helper()
	src := uio.Buffer(b)
	if n, err := c.WriteAt(&src, off); n != int64(len(b)) || err != nil {
		t.Fatalf("WriteAt(%d, %d bytes): %d, %v", off, len(b), n, err)
	}
}

// FuzzCache compares a cache with a byte slice.
func FuzzCache(f *testing.F) {
	f.Add([]byte("000011112222333344445555"), true)
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		ops := make([]byte, 4*60)
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		f.Add(ops, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, ops []byte, backed bool) {
		_, p := newPool(t, 256)
		var d *disk
		c := NewCache(p, nil)
		if backed {
			d = &disk{pages: map[uint64][]byte{}}
			for i := range uint64(40) {
				d.pages[i] = make([]byte, pageSize)
			}
			c = NewCache(p, d)
		}
		defer c.Release()
		var want []byte
		for ; len(ops) >= 4; ops = ops[4:] {
			off := int(ops[1]) * 517
			n := int(ops[2])*67 + 1
			switch ops[0] % 6 {
			case 0, 1:
				b := bytes.Repeat(ops[3:4], n)
				write(t, c, int64(off), b)
				if end := off + n; end > len(want) {
					want = append(want, make([]byte, end-len(want))...)
				}
				copy(want[off:], b)
			case 2:
				got := read(t, c, int64(off), n)
				from := min(off, len(want))
				if !bytes.Equal(got, want[from:min(off+n, len(want))]) {
					t.Fatalf("ReadAt(%d, %d) differs", off, n)
				}
			case 3:
				if err := c.Truncate(int64(off)); err != nil {
					t.Fatal(err)
				}
				if d != nil {
					for i := range d.pages {
						if i >= pagesOf(int64(off)) {
							d.pages[i] = make([]byte, pageSize)
						}
					}
				}
				if off <= len(want) {
					want = want[:off:off]
				} else {
					want = append(want, make([]byte, off-len(want))...)
				}
			case 4:
				if d != nil {
					for i := pagesOf(int64(off)); i < uint64(off+n)/pageSize; i++ {
						d.pages[i] = make([]byte, pageSize)
					}
				}
				if err := c.PunchHole(int64(off), int64(n)); err != nil {
					t.Fatal(err)
				}
				if off < len(want) {
					clear(want[off:min(off+n, len(want))])
				}
			case 5:
				if err := c.Sync(0, math.MaxUint64); err != nil || c.Dirty() != 0 {
					t.Fatal(err)
				}
				p.Reclaim(int(ops[1]))
			}
			if c.Size() != int64(len(want)) {
				t.Fatalf("size %d, want %d", c.Size(), len(want))
			}
		}
		if got := read(t, c, 0, len(want)+1); !bytes.Equal(got, want) {
			i := 0
			for i < min(len(got), len(want)) && got[i] == want[i] {
				i++
			}
			t.Fatalf("the whole differs at %d of %d, %d", i, len(got), len(want))
		}
		if d != nil {
			if err := c.Sync(0, math.MaxUint64); err != nil {
				t.Fatal(err)
			}
			for i := range pagesOf(int64(len(want))) {
				part := want[i*pageSize : min(uint64(len(want)), (i+1)*pageSize)]
				if !bytes.Equal(d.pages[i][:len(part)], part) {
					t.Fatalf("page %d was not stored", i)
				}
			}
		}
	})
}

func TestCacheLimits(t *testing.T) {
	_, p := newPool(t, 64)
	c := NewCache(p, nil)
	defer c.Release()
	for _, err := range []error{
		c.Truncate(-1), c.PunchHole(-1, 1), c.PunchHole(0, 0), c.PunchHole(1, math.MaxInt64), c.Allocate(0, 0),
	} {
		if err != unix.EINVAL {
			t.Error(err)
		}
	}
	src := uio.Buffer("x")
	if _, err := c.WriteAt(&src, math.MaxInt64); err != unix.EFBIG {
		t.Error(err)
	}
	write(t, c, math.MaxInt64-1, []byte("x"))
	if c.Size() != math.MaxInt64 || c.Pages() != 1 {
		t.Error("the largest file")
	}
	if got := read(t, c, math.MaxInt64-2, 10); string(got) != "\x00x" {
		t.Errorf("%q", got)
	}
	if err := c.Truncate(0); err != nil || c.Pages() != 0 {
		t.Error(err)
	}
}

func TestHoles(t *testing.T) {
	_, p := newPool(t, 64)
	c := NewShmem(p)
	defer c.Release()
	write(t, c, 2*pageSize+5, []byte("data"))
	if err := c.Truncate(6 * pageSize); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ off, data, hole int64 }{
		{0, 2 * pageSize, 0},
		{2*pageSize + 7, 2*pageSize + 7, 3 * pageSize},
		{3 * pageSize, -1, 3 * pageSize},
		{6 * pageSize, -1, -1},
		{-1, -1, -1},
	} {
		data, err := c.NextData(test.off)
		if (err == nil) != (test.data >= 0) || err == nil && data != test.data {
			t.Errorf("NextData(%d) = %d, %v", test.off, data, err)
		}
		hole, err := c.NextHole(test.off)
		if (err == nil) != (test.hole >= 0) || err == nil && hole != test.hole {
			t.Errorf("NextHole(%d) = %d, %v", test.off, hole, err)
		}
	}
	if err := c.Allocate(0, 100*pageSize); err != nil || c.Pages() != 6 {
		t.Error(err, c.Pages())
	}
	check := func(page int64, resident bool, hole int64) {
		t.Helper()
		if c.Resident(uint64(page)) != resident {
			t.Errorf("page %d in memory: %v", page, !resident)
		}
		if got, err := c.NextHole(page * pageSize); got != hole*pageSize || err != nil {
			t.Errorf("NextHole(%d pages) = %d, %v", page, got, err)
		}
	}
	// What nobody has used is there, but counts as a hole, and is in no run that is mapped beforehand.
	check(1, false, 1)
	check(2, true, 3)
	if data, err := c.NextData(3 * pageSize); err != unix.ENXIO {
		t.Error(data, err)
	}
	var run [6]machine.Frame
	if c.CachedRun(0, run[:]); run[1] != machine.NoFrame || run[2] == machine.NoFrame {
		t.Error(run)
	}
	p.Unref(run[2])
	if got := read(t, c, 3*pageSize, 1); len(got) != 1 { // read(2) uses none
		t.Error(got)
	}
	check(3, false, 3)
	write(t, c, 4*pageSize, []byte("x"))
	f, err := c.Cached(5, false)
	if err != nil {
		t.Fatal(err)
	}
	p.Unref(f)
	for _, page := range []int64{4, 5} {
		check(page, true, 6)
	}
	if err := c.PunchHole(0, 2*pageSize); err != nil || c.Pages() != 4 || c.unused != 1 {
		t.Error(err, c.Pages(), c.unused)
	}
	if err := c.Truncate(0); err != nil || c.unused != 0 {
		t.Error(err, c.unused)
	}
}

func TestAdopt(t *testing.T) {
	m, p := newPool(t, 64)
	f, err := m.AllocRun(2)
	if err != nil {
		t.Fatal(err)
	}
	copy(m.Bytes(f, 2), "in place")
	c := NewCache(p, nil)
	if err := c.Adopt(3, f, 2); err != nil {
		t.Fatal(err)
	}
	if err := c.Truncate(5 * pageSize); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c, 3*pageSize, 8); string(got) != "in place" {
		t.Errorf("%q", got)
	}
	g, err := c.Page(3, false)
	if err != nil || g != f || p.Kind(f) != File {
		t.Error(g, err)
	}
	p.Unref(g)
	if err := c.Adopt(4, f, 1); err != unix.EEXIST {
		t.Error(err)
	}
	c.Release()
	if n := m.InUse(); n != 0 {
		t.Errorf("%d frames left", n)
	}
}

func TestCharge(t *testing.T) {
	_, p := newPool(t, 64)
	c := NewShmem(p)
	defer c.Release()
	used := int64(0)
	c.SetCharge(func(n int64) error {
		if used+n > 2 {
			return unix.ENOSPC
		}
		used += n
		return nil
	})
	src := uio.Buffer(make([]byte, 3*pageSize))
	if n, err := c.WriteAt(&src, 0); n != 2*pageSize || err != nil {
		t.Error(n, err)
	}
	if n, err := c.WriteAt(&src, 2*pageSize); n != 0 || err != unix.ENOSPC {
		t.Error(n, err)
	}
	if err := c.Truncate(pageSize); err != nil || used != 1 {
		t.Error(err, used)
	}
}

func TestLoad(t *testing.T) {
	_, p := newPool(t, 64)
	d := &disk{gate: make(chan struct{})}
	c := NewCache(p, d)
	defer c.Release()
	if err := c.Truncate(pageSize + 10); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cached(0, false); err != ErrNotLoaded {
		t.Error(err)
	}
	if _, err := c.Cached(2, false); err != ErrBeyondEOF {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f, err := c.Page(1, false)
			if err != nil {
				t.Error(err)
				return
			}
			if b := p.Bytes(f); b[9] != 2 || b[10] != 0 {
				t.Error("what lies beyond the end of the file is visible")
			}
			p.Unref(f)
		}()
	}
	close(d.gate)
	wg.Wait()
	if d.reads != 1 {
		t.Errorf("the page was read %d times", d.reads)
	}
	d.fail = unix.EIO
	if _, err := c.Page(0, false); err != unix.EIO {
		t.Error(err)
	}
	if _, err := c.ReadAt(&uio.Buffer{1}, 0); err != unix.EIO {
		t.Error(err)
	}
	d.fail = nil
	f, err := c.Page(0, true)
	if err != nil || c.Dirty() != 1 {
		t.Fatal(err)
	}
	p.Bytes(f)[0] = 'x'
	p.Unref(f)
	d.fail = unix.ENOSPC
	if err := c.Sync(0, 10); err != unix.ENOSPC || c.Dirty() != 1 {
		t.Error(err, c.Dirty())
	}
	d.fail = nil
	if err := c.Sync(1, 10); err != nil || c.Dirty() != 1 {
		t.Error(err, c.Dirty())
	}
	if err := c.Sync(0, 0); err != nil || c.Dirty() != 0 || d.pages[0][0] != 'x' {
		t.Error(err, c.Dirty())
	}
}

// A page that is truncated while it is on its way must not come back.
func TestTruncateWhileLoading(t *testing.T) {
	_, p := newPool(t, 64)
	d := &disk{gate: make(chan struct{})}
	c := NewCache(p, d)
	defer c.Release()
	if err := c.Truncate(pageSize); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		f, err := c.Page(0, false)
		if err == nil {
			p.Unref(f)
		}
		done <- err
	}()
	d.gate <- struct{}{} // the read is under way
	if err := c.Truncate(0); err != nil {
		t.Fatal(err)
	}
	close(d.gate)
	if err := <-done; err != nil && err != ErrBeyondEOF {
		t.Error(err)
	}
	if n := c.Pages(); n != 0 {
		t.Errorf("%d pages in an empty file", n)
	}
}

func TestReclaim(t *testing.T) {
	_, p := newPool(t, 32)
	d := &disk{}
	c := NewCache(p, d)
	defer c.Release()
	if err := c.Truncate(100 * pageSize); err != nil {
		t.Fatal(err)
	}
	held, err := c.Page(0, false)
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Page(1, true)
	if err != nil {
		t.Fatal(err)
	}
	p.Bytes(f)[0] = 'd'
	p.Unref(f)
	for i := range uint64(100) {
		f, err := c.Page(i, false)
		if err != nil {
			t.Fatalf("page %d: %v", i, err)
		}
		p.Unref(f)
	}
	if !c.Resident(0) || !c.Resident(1) {
		t.Error("a page in use or dirty was given up")
	}
	p.Unref(held)
	if n := p.Reclaim(1000); n == 0 {
		t.Error("nothing was given up")
	}
	if got := c.Pages(); got != 1 {
		t.Errorf("%d pages left, want the dirty one", got)
	}
}

// recorder is a Mapper that remembers.
type recorder struct {
	first, last uint64
	private     bool
	calls       int
	during      func()
}

func (r *recorder) Unmap(_ *Cache, first, last uint64, private bool) {
	r.first, r.last, r.private = first, last, private
	r.calls++
	if r.during != nil {
		f := r.during
		r.during = nil
		f()
	}
}

func (r *recorder) WriteProtect(_ *Cache, first, last uint64) {
	r.first, r.last = first, last
	r.calls++
}

func TestMappings(t *testing.T) {
	_, p := newPool(t, 64)
	c := NewCache(p, &disk{})
	defer c.Release()
	write(t, c, 0, make([]byte, 4*pageSize))
	late := &recorder{}
	lateMapping := Mapping{Mapper: late}
	r := &recorder{during: func() { c.CopyMapping(&lateMapping) }}
	m := Mapping{Mapper: r, Writable: true}
	if err := c.AddMapping(&m); err != nil {
		t.Fatal(err)
	}
	if err := c.Truncate(pageSize + 1); err != nil {
		t.Fatal(err)
	}
	if r.first != 2 || r.last != math.MaxUint64 || !r.private || r.calls != 2 || late.calls != 1 {
		t.Errorf("%+v, %+v", r, late)
	}
	if err := c.PunchHole(0, pageSize); err != nil {
		t.Fatal(err)
	}
	if r.first != 0 || r.last != 0 || r.private {
		t.Errorf("%+v", r)
	}
	if err := c.Sync(0, 10); err != nil {
		t.Fatal(err)
	}
	if r.first != 1 || r.last != 1 {
		t.Errorf("%+v", r)
	}
	if err := c.SealWrites(); err != unix.EBUSY {
		t.Error(err)
	}
	c.RemoveMapping(&m)
	if err := c.SealWrites(); err != nil {
		t.Error(err)
	}
	if err := c.AddMapping(&m); err != unix.EPERM {
		t.Error(err)
	}
	if !c.Mapped() {
		t.Error("not mapped")
	}
	c.RemoveMapping(&lateMapping)
	if c.Mapped() {
		t.Error("mapped")
	}
}

// broken is a Sink and Source that takes n bytes and then faults.
type broken struct{ n int }

func (b *broken) Left() int { return 1 << 20 }

func (b *broken) Put(p []byte) (int, error) {
	n := min(b.n, len(p))
	b.n -= n
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

func (b *broken) Take(p []byte) (int, error)      { return b.Put(p) }
func (b *broken) PutWord(v uint64) error          { return uio.WordTo(b, v) }
func (b *broken) TakeWord(uint64) (uint64, error) { return uio.WordFrom(b) }

func TestFaultingCopies(t *testing.T) {
	m, p := newPool(t, 64)
	c := NewCache(p, nil)
	defer c.Release()
	if n, err := c.WriteAt(&broken{}, 0); n != 0 || err != unix.EFAULT || c.Size() != 0 {
		t.Error(n, err, c.Size())
	}
	if n, err := c.WriteAt(&broken{pageSize + 3}, 1); n != pageSize+3 || err != nil || c.Size() != pageSize+4 {
		t.Error(n, err, c.Size())
	}
	if n, err := c.ReadAt(&broken{}, 0); n != 0 || err != unix.EFAULT {
		t.Error(n, err)
	}
	if n, err := c.ReadAt(&broken{pageSize + 3}, 0); n != pageSize+3 || err != nil {
		t.Error(n, err)
	}
	if n, err := c.WriteAt(&broken{}, 10*pageSize); n != 0 || !errors.Is(err, unix.EFAULT) {
		t.Error(n, err)
	}
	if n := c.Pages(); n != 2 {
		t.Errorf("the failed write left a page: %d", n)
	}
	m.FailAfter(0)
	if n, err := c.WriteAt(&broken{100}, 5*pageSize); n != 0 || err != unix.ENOMEM {
		t.Error(n, err)
	}
	m.FailAfter(-1)
}

func TestCommit(t *testing.T) {
	_, p := newPool(t, 100)
	if p.Commit(101, false) != unix.ENOMEM || p.Commit(101, true) != nil {
		t.Error("heuristic")
	}
	p.Uncommit(101)
	if p.SetOvercommit(OvercommitNever, 30) != nil || p.CommitLimit() != 30 {
		t.Error("limit")
	}
	if p.Commit(30, false) != nil || p.Commit(1, true) != unix.ENOMEM || p.Committed() != 30 {
		t.Error("never")
	}
	p.Uncommit(30)
	if p.SetOvercommit(OvercommitAlways, 30) != nil || p.Commit(1<<40, false) != nil {
		t.Error("always")
	}
	p.Uncommit(1 << 40)
	if p.SetOvercommit(-1, 30) != unix.EINVAL || p.SetOvercommit(0, -1) != unix.EINVAL {
		t.Error("bad values")
	}
	if mode, ratio := p.Overcommit(); mode != OvercommitAlways || ratio != 30 {
		t.Error(mode, ratio)
	}
}
