package mem

import (
	"errors"
	"math"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/machine"
)

// ErrBeyondEOF says that a page lies wholly beyond the end of the file: a
// program that touches it gets SIGBUS.
var ErrBeyondEOF = errors.New("page beyond the end of the file")

// ErrNotLoaded says that a page must be read from its backing first, which takes
// time: see Cached and Page.
var ErrNotLoaded = errors.New("page not in memory")

// Backing is where the pages of a cache come from and go to. Its methods are
// called without any lock of the cache, for different pages at the same time.
type Backing interface {
	// ReadPage fills page with the file's bytes from index*PageSize on; what
	// lies beyond the end of the file is ignored.
	ReadPage(index uint64, page []byte) error
	// WritePage stores a page; bytes beyond the end of the file are zero.
	WritePage(index uint64, page []byte) error
}

// InPlace is a Backing that has pages in memory already.
type InPlace interface {
	// Frame returns the frame of a page, with a reference for the caller, or NoFrame for one that must be read. Nobody
	// changes it, and what lies beyond the end of the file is zero.
	Frame(index uint64) machine.Frame
}

// RangeBacking is a Backing that moves several pages at a time, and is asked to do so only.
type RangeBacking interface {
	Backing
	// ReadPages fills frames with the pages from index on. Those behind the first may lie beyond what was asked for, read
	// ahead. What was in the frames is somebody else's: all of it that lies before the end of the file must be overwritten.
	ReadPages(index uint64, frames []machine.Frame) error
	// WritePages is WritePage for them.
	WritePages(index uint64, frames []machine.Frame) error
}

// Cache is the page cache of one file, or of one piece of shared anonymous
// memory. Without a Backing it is all there is of the file: holes read as zeros and
// pages live until they are truncated.
//
// The cache does not order calls that change the file (WriteAt, Truncate,
// PunchHole) among each other: the inode's lock does. A program that writes
// through a mapping meanwhile is on its own, as on Linux.
type Cache struct {
	pool    *Pool
	backing Backing
	ranged  RangeBacking // backing, if it is one
	inPlace InPlace      // and if it is this
	kind    Kind
	charge  func(pages int64) error
	place   int // in Pool.caches; guarded by Pool.mu

	truncating sync.Mutex // serialises Truncate and PunchHole
	syncing    sync.Mutex // held while pages are written, so that no two writes of a page overlap

	mu       sync.Mutex // guards the fields below
	size     int64
	pages    tree
	count    uint64 // pages in memory
	dirty    uint64 // those of them that are dirty
	unused   uint64 // those of them that Allocate made, without a backing, and nobody has mapped or written
	epoch    uint64 // changes when pages are taken out on purpose
	loading  []*load
	ahead    readAhead
	failed   error   // of a write that nobody was told of
	mappings Mapping // ring
	added    uint64  // number of AddMapping calls
	writers  int     // mappings that may be written through
	sealed   bool    // no more of them

	promised map[uint64]struct{} // NewHuge: first pages of the large ones that were promised
}

// NewCache returns the empty cache of an empty file. backing may be nil.
func NewCache(p *Pool, backing Backing) *Cache {
	return newCache(p, backing, File)
}

// NewShmem returns the cache of shared memory without a backing: of tmpfs,
// memfd_create(2), System V segments, shared anonymous mappings.
func NewShmem(p *Pool) *Cache { return newCache(p, nil, Shmem) }

func newCache(p *Pool, backing Backing, k Kind) *Cache {
	c := &Cache{pool: p, backing: backing, kind: k}
	c.mappings.prev, c.mappings.next = &c.mappings, &c.mappings
	if backing != nil {
		c.ranged, _ = backing.(RangeBacking)
		c.inPlace, _ = backing.(InPlace)
		p.addCache(c)
	}
	return c
}

// SetCharge makes the cache ask charge before it takes pages (a positive
// number; an error, as ENOSPC, refuses them) and tell it of pages that it gave up. charge is
// called with the cache's lock held. Call it before the cache is used.
func (c *Cache) SetCharge(charge func(pages int64) error) { c.charge = charge }

// Pool returns the pool of the cache's pages.
func (c *Cache) Pool() *Pool { return c.pool }

// Backed reports whether the cache has a Backing.
func (c *Cache) Backed() bool { return c.backing != nil }

// Kind returns the kind of the cache's pages.
func (c *Cache) Kind() Kind { return c.kind }

// Size returns the length of the file in bytes.
func (c *Cache) Size() int64 {
	c.mu.Lock()
	v := c.size
	c.mu.Unlock()
	return v
}

// Pages returns the number of pages in memory.
func (c *Cache) Pages() uint64 {
	c.mu.Lock()
	v := c.count
	c.mu.Unlock()
	return v
}

// Dirty returns the number of pages that Sync would write.
func (c *Cache) Dirty() uint64 {
	c.mu.Lock()
	v := c.dirty
	c.mu.Unlock()
	return v
}

// pagesIn returns how many pages n bytes from a page's beginning on touch.
func pagesIn(n int) int { return int((uint(n) + machine.PageSize - 1) / machine.PageSize) }

// pagesOf returns the number of pages that size bytes need.
func pagesOf(size int64) uint64 { return (uint64(size) + machine.PageSize - 1) / machine.PageSize }

// Page returns the page at index with a reference for the caller, reading it
// from the backing when necessary; write makes it dirty. ErrBeyondEOF; ENOMEM;
// the backing's error.
func (c *Cache) Page(index uint64, write bool) (machine.Frame, error) {
	for {
		f, err := c.Cached(index, write)
		if err != ErrNotLoaded {
			return f, err
		}
		if err := c.load(index, 1); err != nil {
			return machine.NoFrame, err
		}
	}
}

// Cached is Page without waiting: ErrNotLoaded when the backing has the page.
func (c *Cache) Cached(index uint64, write bool) (machine.Frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index >= pagesOf(c.size) {
		return machine.NoFrame, ErrBeyondEOF
	}
	f := c.pages.get(index)
	if f == machine.NoFrame {
		if c.backing != nil {
			return f, ErrNotLoaded
		}
		var err error
		if f, err = c.create(index); err != nil {
			return machine.NoFrame, err
		}
	}
	if write {
		c.touch(index)
	}
	c.use(index)
	c.pool.Ref(f)
	if c.reached(index, 1) {
		c.loadAhead()
	}
	return f, nil
}

// CachedRun stores into dst the pages from index on, each with a reference, and NoFrame for
// those that are not in memory, that nobody has used, or that lie beyond the end.
func (c *Cache) CachedRun(index uint64, dst []machine.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := pagesOf(c.size)
	var n *node
	for i := range dst {
		dst[i] = machine.NoFrame
		at := index + uint64(i)
		if at >= end {
			continue
		}
		slot := int(at % fan)
		if i == 0 || slot == 0 {
			n = c.pages.leaf(at)
		}
		if n != nil && slot < len(n.frames) {
			if f := n.frames[slot]; f != machine.NoFrame && (c.unused == 0 || n.dirty>>slot&1 == 0) {
				c.pool.Ref(f)
				dst[i] = f
			}
		}
	}
}

// Resident reports whether the page at index is in memory. One that nobody has used since fallocate(2) made it does not count, as on Linux.
func (c *Cache) Resident(index uint64) bool {
	c.mu.Lock()
	v := c.pages.get(index) != machine.NoFrame && !c.isUnused(index)
	c.mu.Unlock()
	return v
}

// isUnused reports whether nobody has used the page at index since Allocate made it. c.mu is held.
func (c *Cache) isUnused(index uint64) bool { return c.unused != 0 && c.pages.marked(index) }

// use notes that somebody maps or writes the page at index. c.mu is held.
func (c *Cache) use(index uint64) {
	if c.unused != 0 && c.pages.mark(index, false) {
		c.unused--
	}
}

// create puts a zeroed page at index, where none is. c.mu is held.
func (c *Cache) create(index uint64) (machine.Frame, error) {
	if c.kind == Huge {
		return c.createHuge(index)
	}
	f, err := c.pool.Alloc()
	if err != nil {
		return machine.NoFrame, err
	}
	if err := c.insert(index, f); err != nil {
		c.pool.Unref(f)
		return machine.NoFrame, err
	}
	return f, nil
}

// insert puts f at index, where none is, taking over the caller's reference. c.mu is held.
func (c *Cache) insert(index uint64, f machine.Frame) error {
	if c.charge != nil {
		if err := c.charge(1); err != nil {
			return err
		}
	}
	c.pool.setKind(f, c.kind)
	c.pages.set(index, f)
	c.count++
	return nil
}

// touch makes the page at index dirty. c.mu is held.
func (c *Cache) touch(index uint64) {
	if c.backing != nil && c.pages.mark(index, true) {
		c.dirty++
		c.pool.dirtied(1)
	}
}

// drop takes the page f at index out. c.mu is held.
func (c *Cache) drop(index uint64, f machine.Frame) {
	if c.backing != nil && c.pages.mark(index, false) {
		c.dirty--
		c.pool.dirtied(-1)
	}
	c.use(index)
	c.pages.remove(index)
	c.count--
	if c.charge != nil {
		_ = c.charge(-1) // giving up is never refused
	}
	c.pool.Unref(f)
}

// clearTail zeroes what of page index lies beyond the end of the file. c.mu is held.
func (c *Cache) clearTail(index uint64, f machine.Frame) {
	if start := int64(index) * machine.PageSize; c.size-start < machine.PageSize {
		clear(c.pool.Bytes(f)[max(c.size-start, 0):])
	}
}

// Adopt makes n frames, which the machine handed out in some other way and
// nobody else uses, the pages from index on. EEXIST when one is there already, and
// what SetCharge's function says; then no frame was taken. The bytes that will lie beyond the end of the
// file must be zero. The frames are given back to the machine like any others.
func (c *Cache) Adopt(index uint64, f machine.Frame, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, _, ok := c.pages.next(index); ok && at-index < uint64(n) {
		return unix.EEXIST
	}
	if c.charge != nil {
		if err := c.charge(int64(n)); err != nil {
			return err
		}
	}
	for i := range n {
		c.pool.adopt(f+machine.Frame(i), c.kind)
		c.pages.set(index+uint64(i), f+machine.Frame(i))
		c.count++
	}
	return nil
}

// Alias makes the n pages from index from on appear from index on too: memory that a device shows twice. ENXIO when one
// is missing.
func (c *Cache) Alias(index, from, n uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range n {
		f := c.pages.get(from + i)
		if f == machine.NoFrame {
			return unix.ENXIO
		}
		c.pool.Ref(f)
		c.pages.set(index+i, f)
		c.count++
	}
	return nil
}

// ReadAt copies from the file at off to dst until dst is full or the file ends.
// It returns the number of bytes copied, and an error only when that is 0: EFAULT from dst,
// ENOMEM, the backing's.
func (c *Cache) ReadAt(dst uio.Sink, off int64) (done int64, err error) {
	for off < math.MaxInt64 {
		want := dst.Left()
		if want <= 0 {
			break
		}
		f, n, err := c.readable(off, want)
		if n == 0 || err != nil {
			return done, unlessDone(done, err)
		}
		start := int(uint64(off) % machine.PageSize)
		var got int
		if f == machine.NoFrame {
			got, err = dst.Put(zeros[:n])
		} else {
			pages := pagesIn(start + n)
			got, err = dst.Put(c.pool.BytesRun(f, pages)[start : start+n])
			for i := range machine.Frame(pages) {
				c.pool.Unref(f + i)
			}
		}
		done += int64(got)
		off += int64(got)
		if err != nil {
			return done, unlessDone(done, err)
		}
		if got < n || got == want {
			break
		}
	}
	return done, nil
}

// zeros is what a hole reads as. Nobody writes to it.
var zeros [machine.PageSize]byte

func unlessDone(done int64, err error) error {
	if done > 0 {
		return nil
	}
	return err
}

// readable returns the first of the frames with the bytes from off on, as far as they follow each other, each referenced, and how many
// bytes of them from off on are in the file, at most want or what one page has; NoFrame for a hole.
func (c *Cache) readable(off int64, want int) (machine.Frame, int, error) {
	index, start := uint64(off)/machine.PageSize, int64(uint64(off)%machine.PageSize)
	for {
		c.mu.Lock()
		left := c.size - off
		if left <= 0 {
			c.mu.Unlock()
			return machine.NoFrame, 0, nil
		}
		f, pages := c.pages.run(index, pagesIn(int(min(start+min(left, int64(want)), fan*machine.PageSize))))
		ahead := false
		if f != machine.NoFrame {
			for i := range machine.Frame(pages) {
				c.pool.Ref(f + i)
			}
			ahead = c.reached(index, pages)
		}
		c.mu.Unlock()
		if ahead {
			c.loadAhead()
			runtime.Gosched() // the request goes out now, not when this goroutine has to wait for it
		}
		if f != machine.NoFrame || c.backing == nil {
			return f, int(min(int64(max(pages, 1))*machine.PageSize-start, left)), nil
		}
		if err := c.load(index, int(min((start+int64(want)+machine.PageSize-1)/machine.PageSize, maxAhead))); err != nil {
			return machine.NoFrame, 0, err
		}
	}
}

// WriteAt copies from src to the file at off until src is empty, making the
// file longer when it must. It returns the number of bytes copied, and an error only
// when that is 0: EFAULT from src, ENOMEM, EFBIG, the backing's, SetCharge's.
func (c *Cache) WriteAt(src uio.Source, off int64) (done int64, err error) {
	for src.Left() > 0 {
		if off == math.MaxInt64 {
			return done, unlessDone(done, unix.EFBIG)
		}
		if c.backing != nil {
			c.pool.throttle(c)
			n, err := c.writeWhole(src, off)
			done, off = done+int64(n), off+int64(n)
			if err != nil {
				return done, unlessDone(done, err)
			}
			if n > 0 {
				continue
			}
		}
		f, err := c.writable(off)
		if err != nil {
			return done, unlessDone(done, err)
		}
		start := int(off % machine.PageSize)
		n := int(min(machine.PageSize-int64(start), int64(src.Left()), math.MaxInt64-off))
		got, err := src.Take(c.pool.Bytes(f)[start : start+n])
		if got > 0 {
			off += int64(got)
			done += int64(got)
			c.wrote(f, off)
		}
		c.pool.Unref(f)
		if got == 0 {
			c.dropBeyond(uint64(off) / machine.PageSize)
			return done, unlessDone(done, err)
		}
		if err != nil {
			return done, nil
		}
	}
	return done, nil
}

// writable returns the page for the byte at off, referenced, making it when it is not
// there.
func (c *Cache) writable(off int64) (machine.Frame, error) {
	index := uint64(off) / machine.PageSize
	for {
		c.mu.Lock()
		f := c.pages.get(index)
		var err error
		if f == machine.NoFrame && (c.backing == nil || index >= pagesOf(c.size)) {
			f, err = c.create(index)
		}
		if f != machine.NoFrame {
			c.use(index)
			c.pool.Ref(f)
		}
		c.mu.Unlock()
		if f != machine.NoFrame || err != nil {
			return f, err
		}
		if err := c.load(index, 1); err != nil {
			return machine.NoFrame, err
		}
	}
}

// writeWhole writes a whole page that is not in memory without reading it first; it returns 0 when that is not
// what src and off are about.
func (c *Cache) writeWhole(src uio.Source, off int64) (int, error) {
	index := uint64(off) / machine.PageSize
	if off%machine.PageSize != 0 || src.Left() < machine.PageSize || off > math.MaxInt64-machine.PageSize || c.Resident(index) {
		return 0, nil
	}
	f, err := c.pool.Alloc()
	if err != nil {
		return 0, err
	}
	got, err := src.Take(c.pool.Bytes(f))
	if got == machine.PageSize && err == nil {
		c.mu.Lock()
		if c.loadOf(index) == nil && c.pages.get(index) == machine.NoFrame {
			if err = c.insert(index, f); err == nil {
				c.touch(index)
				c.size = max(c.size, off+machine.PageSize)
				f = machine.NoFrame
			}
			c.mu.Unlock()
			c.release(f)
			if err != nil {
				return 0, err
			}
			return got, nil
		}
		c.mu.Unlock()
	}
	// A part only, or somebody was faster: the way through the page, with the bytes that were taken.
	taken := uio.Buffer(c.pool.Bytes(f)[:got])
	n := 0
	for len(taken) > 0 {
		page, perr := c.writable(off + int64(n))
		if perr != nil {
			c.release(f)
			return n, perr
		}
		m := copy(c.pool.Bytes(page)[n:], taken)
		taken = taken[m:]
		n += m
		c.wrote(page, off+int64(n))
		c.pool.Unref(page)
	}
	c.release(f)
	return n, err
}

// release gives a frame back if it is one.
func (c *Cache) release(f machine.Frame) {
	if f != machine.NoFrame {
		c.pool.Unref(f)
	}
}

// wrote records that bytes up to end were written, the last of them in page f.
func (c *Cache) wrote(f machine.Frame, end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index := uint64(end-1) / machine.PageSize; c.pages.get(index) == f {
		c.touch(index)
	}
	c.size = max(c.size, end)
}

// dropBeyond gives up the page at index, which a write made and then did not write, if the
// file ends before it.
func (c *Cache) dropBeyond(index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.pages.get(index); f != machine.NoFrame && index >= pagesOf(c.size) && c.pool.Refs(f) == 1 {
		c.drop(index, f)
	}
}

// Truncate sets the file's length in bytes: pages beyond it are unmapped
// everywhere and given up, and the rest of the last page is zeroed, for the file may grow
// again. EINVAL for a negative size; the backing's error if the last page cannot be read.
func (c *Cache) Truncate(size int64) error {
	if size < 0 || c.kind == Huge && size%machine.HugeSize != 0 {
		return unix.EINVAL
	}
	c.truncating.Lock()
	defer c.truncating.Unlock()
	c.syncing.Lock()
	defer c.syncing.Unlock()
	c.mu.Lock()
	shrink := size < c.size
	c.size = size
	c.epoch++
	c.mu.Unlock()
	if !shrink {
		return nil
	}
	first := pagesOf(size)
	c.EachMapper(func(m Mapper) { m.Unmap(c, first, math.MaxUint64, true) })
	c.mu.Lock()
	c.dropRange(first, math.MaxUint64)
	c.unpromise(func(at uint64) bool { return at >= first })
	c.mu.Unlock()
	if size%machine.PageSize == 0 || c.backing == nil && !c.Resident(first-1) {
		return nil
	}
	f, err := c.Page(first-1, true)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.clearTail(first-1, f)
	c.mu.Unlock()
	c.pool.Unref(f)
	return nil
}

// Rearrange calls do, which changes in the backing what the pages from first on hold, and gives the file its new size if that succeeds. The
// pages are dropped, dirty ones too, as what is in them is somewhere else then, and none is written meanwhile.
func (c *Cache) Rearrange(first uint64, size int64, do func() error) error {
	c.truncating.Lock()
	defer c.truncating.Unlock()
	c.syncing.Lock()
	defer c.syncing.Unlock()
	old := c.Size()
	c.forget(first, old)
	err := do()
	if err != nil {
		size = old
	}
	c.forget(first, size) // what was read meanwhile
	return err
}

// forget takes out the pages from first on, and gives the file a size.
func (c *Cache) forget(first uint64, size int64) {
	c.mu.Lock()
	c.size = size
	c.epoch++
	c.mu.Unlock()
	c.EachMapper(func(m Mapper) { m.Unmap(c, first, math.MaxUint64, true) })
	c.mu.Lock()
	c.dropRange(first, math.MaxUint64)
	c.mu.Unlock()
}

// dropRange takes the pages first to last out. c.mu is held.
func (c *Cache) dropRange(first, last uint64) {
	for {
		at, f, ok := c.pages.next(first)
		if !ok || at > last {
			break
		}
		c.drop(at, f)
		first = at
	}
	if c.count == 0 {
		c.pages = tree{}
	}
}

// PunchHole makes n bytes from off on read as zeros and gives up the pages wholly
// inside (fallocate(2), FALLOC_FL_PUNCH_HOLE); the size stays, and so do the copies that private
// mappings made. A Backing must have its own hole before. EINVAL for a bad range.
func (c *Cache) PunchHole(off, n int64) error {
	if off < 0 || n <= 0 || off > math.MaxInt64-n {
		return unix.EINVAL
	}
	c.truncating.Lock()
	defer c.truncating.Unlock()
	c.syncing.Lock()
	defer c.syncing.Unlock()
	if c.kind == Huge {
		return c.punchHuge(off, n)
	}
	first, end := pagesOf(off), uint64(off+n)/machine.PageSize
	if first < end {
		c.mu.Lock()
		c.epoch++
		c.mu.Unlock()
		c.EachMapper(func(m Mapper) { m.Unmap(c, first, end-1, false) })
		c.mu.Lock()
		c.dropRange(first, end-1)
		c.mu.Unlock()
	}
	// The pages at the ends, in part.
	if head := int64(first) * machine.PageSize; off < head {
		if err := c.zero(off, min(head, off+n)); err != nil {
			return err
		}
	}
	if tail := int64(end) * machine.PageSize; end >= first && tail < off+n {
		return c.zero(tail, off+n)
	}
	return nil
}

// zero clears the bytes from..to, which lie in one page, if they are in the file.
func (c *Cache) zero(from, to int64) error {
	f, n, err := c.readable(from, 1)
	if f == machine.NoFrame {
		return err
	}
	start := from % machine.PageSize
	clear(c.pool.Bytes(f)[start : start+min(int64(n), to-from)])
	c.wrote(f, from+min(int64(n), to-from))
	c.pool.Unref(f)
	return nil
}

// Allocate makes sure that the pages of the bytes off..off+n, as far as they are in
// the file, are in memory (fallocate(2) of a file without backing, MADV_WILLNEED of one with). ENOMEM, ENOSPC.
func (c *Cache) Allocate(off, n int64) error {
	if off < 0 || n <= 0 || off > math.MaxInt64-n {
		return unix.EINVAL
	}
	for index := uint64(off) / machine.PageSize; index < pagesOf(off+n); index++ {
		err := c.provide(index)
		if err == ErrBeyondEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// provide makes sure that the page at index is in memory; one that it makes is not used yet. The errors are those of Page.
func (c *Cache) provide(index uint64) error {
	if c.backing != nil || c.kind == Huge {
		f, err := c.Page(index, false)
		if err == nil {
			c.pool.Unref(f)
		}
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if index >= pagesOf(c.size) {
		return ErrBeyondEOF
	}
	if c.pages.get(index) != machine.NoFrame {
		return nil
	}
	if _, err := c.create(index); err != nil {
		return err
	}
	c.pages.mark(index, true)
	c.unused++
	return nil
}

// NextData returns the first offset at or after off where there is a page that was used
// (lseek(2), SEEK_DATA); ENXIO when there is none or off is beyond the end. Without a Backing only.
func (c *Cache) NextData(off int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < 0 || off >= c.size {
		return 0, unix.ENXIO
	}
	at, _, ok := c.pages.next(uint64(off) / machine.PageSize)
	for ok && c.isUnused(at) {
		at, _, ok = c.pages.next(at + 1)
	}
	if !ok || at >= pagesOf(c.size) {
		return 0, unix.ENXIO
	}
	return max(off, int64(at)*machine.PageSize), nil
}

// NextHole returns the first offset at or after off that is in a hole, the end of
// the file at last (SEEK_HOLE); ENXIO when off is beyond the end. Without a Backing only.
func (c *Cache) NextHole(off int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < 0 || off >= c.size {
		return 0, unix.ENXIO
	}
	index := uint64(off) / machine.PageSize
	for index < pagesOf(c.size) && c.pages.get(index) != machine.NoFrame && !c.isUnused(index) {
		index++
	}
	return min(max(off, int64(index)*machine.PageSize), c.size), nil
}

// Release gives all pages up: the file is gone. No mapping may be left.
func (c *Cache) Release() {
	if c.backing != nil {
		c.pool.removeCache(c)
		c.mu.Lock()
		c.ahead.ended = true
		c.mu.Unlock()
		c.ahead.loads.Wait()
		c.syncing.Lock()
		defer c.syncing.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mappings.next != &c.mappings {
		panic("mem: Release of a cache that is mapped")
	}
	c.epoch++
	c.dropRange(0, math.MaxUint64)
	c.unpromise(func(uint64) bool { return true })
	c.size = 0
}
