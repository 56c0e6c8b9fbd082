package mem

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
	"testing"

	"gosv/kernel/uio"
	"gosv/machine"
)

// ranged is a disk that is read in runs of pages.
type ranged struct {
	disk
	pool   *Pool
	asked  [][2]uint64    // first page and number of each read; guarded by mu
	reader chan chan bool // if not nil, a read behind the first says so here and waits for an answer
}

func (r *ranged) ReadPages(index uint64, frames []machine.Frame) error {
	r.mu.Lock()
	r.asked = append(r.asked, [2]uint64{index, uint64(len(frames))})
	r.mu.Unlock()
	if r.reader != nil && index > 0 {
		c := make(chan bool)
		r.reader <- c
		<-c
	}
	for i, f := range frames {
		if err := r.ReadPage(index+uint64(i), r.pool.Bytes(f)); err != nil {
			return err
		}
	}
	return nil
}

func (r *ranged) WritePages(index uint64, frames []machine.Frame) error {
	for i, f := range frames {
		if err := r.WritePage(index+uint64(i), r.pool.Bytes(f)); err != nil {
			return err
		}
	}
	return nil
}

func newRanged(t *testing.T, frames int, size int64) (*ranged, *Cache) {
	_, p := newPool(t, frames)
	r := &ranged{pool: p}
	c := NewCache(p, r)
	t.Cleanup(c.Release)
	if err := c.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return r, c
}

// want is what a ranged reads as.
func want(off int64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((off+int64(i))/pageSize) + 1
	}
	return b
}

// A file that is read in order is read in ever longer runs, whose frames follow each other, and its end shows nothing of what was in
// its last frame.
func TestSequentialRead(t *testing.T) {
	const pages, tail = 1000, 100
	r, c := newRanged(t, 8192, pages*pageSize+tail)
	const piece = 10 * pageSize
	for off := int64(0); ; off += piece {
		b := read(t, c, off, piece)
		if len(b) == 0 {
			break
		}
		if !bytes.Equal(b, want(off, len(b))) {
			t.Fatalf("wrong bytes at page %d", off/pageSize)
		}
	}
	f, err := c.Page(pages, false)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.pool.Bytes(f)[tail:], make([]byte, pageSize-tail)) {
		t.Error("what lies behind the end of the file can be seen")
	}
	c.pool.Unref(f)
	r.mu.Lock()
	defer r.mu.Unlock()
	next, most := uint64(0), uint64(0)
	for _, a := range r.asked {
		if a[0] != next {
			t.Errorf("read of %d pages at %d, want at %d", a[1], a[0], next)
		}
		next, most = a[0]+a[1], max(most, a[1])
	}
	if next != pages+1 || most != maxAhead || len(r.asked) > 10 {
		t.Errorf("reads %v", r.asked)
	}
	if _, n := c.pages.run(300, 64); n < 16 {
		t.Errorf("only %d frames follow each other", n)
	}
}

// The next run is asked for while the one before is used: who reads does not wait for it.
func TestReadAhead(t *testing.T) {
	r, c := newRanged(t, 8192, 100*pageSize)
	r.reader = make(chan chan bool)
	read(t, c, 0, pageSize) // loads the first run
	read(t, c, pageSize, (firstAhead-1)*pageSize)
	release := <-r.reader // the second is under way
	again := read(t, c, 0, firstAhead*pageSize)
	if !bytes.Equal(again, want(0, firstAhead*pageSize)) {
		t.Error("wrong bytes")
	}
	go func() {
		for range 3 {
			runtime.Gosched()
		}
		for {
			close(release)
			release = <-r.reader
			if release == nil {
				return
			}
		}
	}()
	rest := read(t, c, firstAhead*pageSize, 84*pageSize)
	if !bytes.Equal(rest, want(firstAhead*pageSize, 84*pageSize)) {
		t.Error("wrong bytes in the end")
	}
	c.ahead.loads.Wait()
	r.reader <- nil
}

// A page fault anywhere in a file reads some pages behind it too, in one piece, up to the file's end and what is there already.
func TestLoadAt(t *testing.T) {
	r, c := newRanged(t, 8192, 100*pageSize)
	for _, index := range []uint64{50, 40, 50, 95, 101} {
		if err := c.LoadAt(index); err != nil {
			t.Fatal(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if asked := [][2]uint64{{50, firstAhead}, {40, 10}, {95, 5}}; !slices.Equal(r.asked, asked) {
		t.Errorf("read %v, want %v", r.asked, asked)
	}
	if !c.Resident(50+firstAhead-1) || c.Resident(50+firstAhead) {
		t.Error("other pages are in memory")
	}
}

// While a load ahead was on its way to start, another reader loaded the file's last page: nothing behind the end is read.
func TestReadAheadPastEnd(t *testing.T) {
	r, c := newRanged(t, 8192, 20*pageSize)
	read(t, c, 0, pageSize)
	c.mu.Lock()
	if !c.reached(0, firstAhead) {
		t.Error("no load ahead is wanted")
	}
	c.mu.Unlock()
	if err := c.load(firstAhead, 4); err != nil {
		t.Fatal(err)
	}
	c.loadAhead()
	c.ahead.loads.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.asked {
		if a[0]+a[1] > 20 {
			t.Errorf("read of %d pages at %d of 20", a[1], a[0])
		}
	}
}

// Readers of one file from many goroutines, and reclaim, see the file.
func TestReadersAndReclaim(t *testing.T) {
	const pages = 600
	_, c := newRanged(t, 1024, pages*pageSize)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				off := int64((i*37+g*150)%pages) * pageSize
				b := make([]byte, 5*pageSize+123)
				dst := uio.Buffer(b)
				n, err := c.ReadAt(&dst, off)
				if err != nil || !bytes.Equal(b[:n], want(off, int(n))) {
					t.Errorf("page %d: %d, %v", off/pageSize, n, err)
				}
				if i%20 == 0 {
					c.pool.Reclaim(100)
				}
			}
		})
	}
	wg.Wait()
}

// What a backing took less of than it was given shows nothing of the rest behind the end of the file.
func TestStoreInPart(t *testing.T) {
	_, p := newPool(t, 64)
	c := NewCache(p, &disk{})
	defer c.Release()
	f, err := p.Alloc()
	if err != nil {
		t.Fatal(err)
	}
	copy(p.Bytes(f), bytes.Repeat([]byte("x"), pageSize))
	c.Store(0, 100, []machine.Frame{f}, true)
	p.Unref(f)
	if got := read(t, c, 0, pageSize); !bytes.Equal(got, bytes.Repeat([]byte("x"), 100)) {
		t.Errorf("%d bytes", len(got))
	}
	page, err := c.Page(0, false)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.Bytes(page)[100:], make([]byte, pageSize-100)) {
		t.Error("what lies behind the end of the file can be seen")
	}
	p.Unref(page)
}
