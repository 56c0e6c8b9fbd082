package mem

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// HugePool is the pool of large pages that programs ask for by name: MAP_HUGETLB, SHM_HUGETLB, MFD_HUGETLB and
// hugetlbfs (Documentation/admin-guide/mm/hugetlbpage.rst in Linux's source). Its pages are set apart by the administrator
// and serve nothing else. A mapping is promised its pages when it is made, so that it fails then and not later.
//
// The frames of a page are of kind Huge and are counted one by one, since a reader may hold one of them; the page comes
// back when none is held any more.
type HugePool struct {
	pool *Pool
	used []atomic.Int32 // by number of large page: how many of its frames are held

	mu         sync.Mutex // guards the fields below; nothing is locked under it
	free       []machine.Frame
	total      uint64 // pages, those in surplus too
	reserved   uint64 // promised, and not used yet: at most len(free)
	surplus    uint64 // beyond what the administrator asked for
	overcommit uint64 // the most of surplus
	group      uint32 // may use SHM_HUGETLB
}

// HugeStats are the counters of /proc/meminfo, in large pages.
type HugeStats struct{ Total, Free, Reserved, Surplus, Overcommit uint64 }

// Huge returns the pool of large pages.
func (p *Pool) Huge() *HugePool { return &p.huge }

func (h *HugePool) init(p *Pool) {
	h.pool = p
	h.used = make([]atomic.Int32, p.frames.Limit()/HugeFrames+1)
}

// Stats returns the counters.
func (h *HugePool) Stats() HugeStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return HugeStats{h.total, uint64(len(h.free)), h.reserved, h.surplus, h.overcommit}
}

// SetOvercommit sets how many pages beyond the pool's size may be taken from the other memory (vm.nr_overcommit_hugepages).
func (h *HugePool) SetOvercommit(n uint64) {
	h.mu.Lock()
	h.overcommit = n
	h.mu.Unlock()
}

// Group returns the group that may use SHM_HUGETLB without CAP_IPC_LOCK (vm.hugetlb_shm_group).
func (h *HugePool) Group() uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.group
}

// SetGroup sets it.
func (h *HugePool) SetGroup(gid uint32) {
	h.mu.Lock()
	h.group = gid
	h.mu.Unlock()
}

// SetTotal sets the pool's size in pages (vm.nr_hugepages). Like Linux it takes what there is when that is less, and leaves
// pages in use or promised in the pool, as surplus, until they are given up.
func (h *HugePool) SetTotal(n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.surplus > 0 && h.total-h.surplus < n {
		h.surplus--
	}
	for h.total-h.surplus < n && h.grow() {
	}
	for h.total-h.surplus > n && uint64(len(h.free)) > h.reserved {
		h.shrink()
	}
	for h.total-h.surplus > n {
		h.surplus++
	}
}

// grow adds a page from the machine's memory. h.mu is held.
func (h *HugePool) grow() bool {
	f, err := h.pool.frames.AllocRaw(HugeFrames)
	if err != nil {
		return false
	}
	h.free = append(h.free, f)
	h.total++
	return true
}

// shrink gives a free page to the machine. h.mu is held.
func (h *HugePool) shrink() {
	last := len(h.free) - 1
	h.pool.frames.Free(h.free[last], HugeFrames)
	h.free = h.free[:last]
	h.total--
}

// gather makes sure that want pages are free, with surplus ones if it must and may. h.mu is held.
func (h *HugePool) gather(want uint64) bool {
	have := uint64(len(h.free))
	if want > have && want-have > h.overcommit-min(h.surplus, h.overcommit) {
		return false
	}
	for n := have; n < want; n++ {
		if !h.grow() {
			for ; n > have; n-- {
				h.shrink()
				h.surplus--
			}
			return false
		}
		h.surplus++
	}
	return true
}

// Reserve promises n pages: ENOMEM.
func (h *HugePool) Reserve(n uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.gather(h.reserved + n) {
		return unix.ENOMEM
	}
	h.reserved += n
	return nil
}

// Unreserve takes the promise of n pages back.
func (h *HugePool) Unreserve(n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reserved -= n
	for ; n > 0 && h.surplus > 0 && uint64(len(h.free)) > h.reserved; n-- {
		h.shrink()
		h.surplus--
	}
}

// Take returns the first frame of a zeroed page, each with one reference; promised: of those that Reserve promised. ENOMEM.
func (h *HugePool) Take(promised bool) (machine.Frame, error) {
	h.mu.Lock()
	switch {
	case promised:
		h.reserved--
	case !h.gather(h.reserved + 1):
		h.mu.Unlock()
		return machine.NoFrame, unix.ENOMEM
	}
	last := len(h.free) - 1
	f := h.free[last]
	h.free = h.free[:last]
	h.mu.Unlock()
	clear(h.pool.BytesRun(f, HugeFrames))
	h.used[f/HugeFrames].Store(HugeFrames)
	for i := range machine.Frame(HugeFrames) {
		h.pool.refs[f+i].Store(uint32(Huge)<<kindShift | 1)
	}
	return f, nil
}

// put notes that nobody holds f any more; its page may be free with it.
func (h *HugePool) put(f machine.Frame) {
	if h.used[f/HugeFrames].Add(-1) > 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free = append(h.free, f&^(HugeFrames-1))
	if h.surplus > 0 {
		h.shrink()
		h.surplus--
	}
}

// ExclusiveRun reports whether n frames of a large page have one reference each.
func (p *Pool) ExclusiveRun(f machine.Frame, n int) bool {
	for i := range machine.Frame(n) {
		if p.Refs(f+i) != 1 {
			return false
		}
	}
	return true
}

// NewHuge returns the cache of a file in large pages: of hugetlbfs, or memory without a name. It is never written by
// write(2), and its size is a multiple of machine.HugeSize.
func NewHuge(p *Pool) *Cache {
	c := newCache(p, nil, Huge)
	c.promised = map[uint64]struct{}{}
	return c
}

// IsHuge reports whether the cache is one of NewHuge.
func (c *Cache) IsHuge() bool { return c.kind == Huge }

// Promise reserves the pages of a shared mapping: those from index on, count in all, that are neither there nor promised yet. Both
// are multiples of HugeFrames. The promise ends when the file gets shorter or goes; undo takes it back at once. ENOMEM, or
// what SetCharge's function says.
func (c *Cache) Promise(index, count uint64) (undo func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var added []uint64
	for at := index; at < index+count; at += HugeFrames {
		if len(added) > len(c.pool.huge.used) {
			return nil, unix.ENOMEM // more than the machine could ever have
		}
		if _, ok := c.promised[at]; !ok && c.pages.get(at) == machine.NoFrame {
			added = append(added, at)
		}
	}
	pages := int64(len(added)) * HugeFrames
	if c.charge != nil && pages > 0 {
		if err := c.charge(pages); err != nil {
			return nil, unix.ENOMEM
		}
	}
	if err := c.pool.huge.Reserve(uint64(len(added))); err != nil {
		if c.charge != nil {
			_ = c.charge(-pages) // giving up is never refused
		}
		return nil, err
	}
	for _, at := range added {
		c.promised[at] = struct{}{}
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.unpromise(func(at uint64) bool { return slices.Contains(added, at) })
	}, nil
}

// unpromise takes the promises back that gone chooses. c.mu is held.
func (c *Cache) unpromise(gone func(at uint64) bool) {
	n := 0
	for at := range c.promised {
		if gone(at) {
			delete(c.promised, at)
			n++
		}
	}
	if n == 0 {
		return
	}
	c.pool.huge.Unreserve(uint64(n))
	if c.charge != nil {
		_ = c.charge(-int64(n) * HugeFrames) // giving up is never refused
	}
}

// createHuge puts a page where none is, around index, and returns the frame there. c.mu is held.
func (c *Cache) createHuge(index uint64) (machine.Frame, error) {
	at := index &^ (HugeFrames - 1)
	_, promised := c.promised[at]
	if !promised && c.charge != nil {
		if err := c.charge(HugeFrames); err != nil {
			return machine.NoFrame, err
		}
	}
	f, err := c.pool.huge.Take(promised)
	if err != nil {
		if c.charge != nil {
			_ = c.charge(-HugeFrames) // giving up is never refused
		}
		return machine.NoFrame, err
	}
	delete(c.promised, at)
	for i := range uint64(HugeFrames) {
		c.pages.set(at+i, f+machine.Frame(i))
	}
	c.count += HugeFrames
	return f + machine.Frame(index-at), nil
}

// HugePage returns the first frame of the page at index, a multiple of HugeFrames, with a reference to each of its frames. Where
// none is, it makes one, or returns NoFrame. ErrBeyondEOF; ENOMEM, or what SetCharge's function says.
func (c *Cache) HugePage(index uint64, make bool) (machine.Frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index >= uint64(c.size)/machine.PageSize {
		return machine.NoFrame, ErrBeyondEOF
	}
	f := c.pages.get(index)
	if f == machine.NoFrame {
		if !make {
			return f, nil
		}
		var err error
		if f, err = c.createHuge(index); err != nil {
			return machine.NoFrame, err
		}
	}
	var count Tally
	c.pool.RefRun(f, HugeFrames, &count)
	return f, nil
}

// Grow makes the file size bytes long if it is shorter.
func (c *Cache) Grow(size int64) {
	c.mu.Lock()
	c.size = max(c.size, size)
	c.mu.Unlock()
}

// Frame returns the page at index without a reference, NoFrame if there is none: to be compared with one that is mapped.
func (c *Cache) Frame(index uint64) machine.Frame {
	c.mu.Lock()
	f := c.pages.get(index)
	c.mu.Unlock()
	return f
}

// punchHuge is PunchHole for large pages: those wholly inside go, and the rest is zeroed.
func (c *Cache) punchHuge(off, n int64) error {
	first := (off + machine.HugeSize - 1) &^ (machine.HugeSize - 1)
	end := (off + n) &^ (machine.HugeSize - 1)
	if first >= end {
		return c.zeroPages(off, off+n)
	}
	from, last := uint64(first)/machine.PageSize, uint64(end)/machine.PageSize-1
	c.EachMapper(func(m Mapper) { m.Unmap(c, from, last, false) })
	c.mu.Lock()
	c.dropRange(from, last)
	c.mu.Unlock()
	if err := c.zeroPages(off, first); err != nil {
		return err
	}
	return c.zeroPages(end, off+n)
}

// zeroPages clears the bytes from..to.
func (c *Cache) zeroPages(from, to int64) error {
	for from < to {
		stop := min(to, (from+machine.PageSize)&^(machine.PageSize-1))
		if err := c.zero(from, stop); err != nil {
			return err
		}
		from = stop
	}
	return nil
}
