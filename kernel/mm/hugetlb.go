package mm

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// Mappings of hugetlbfs and of MAP_HUGETLB have large pages only, from a pool of their own (mem.HugePool), which was asked
// for them when they were made: shared ones by their file, private ones by the area. So all of it is aligned to
// machine.HugeSize, and a fault that finds the pool empty is a SIGBUS
// (Documentation/mm/hugetlbfs_reserv.rst in Linux's source).

const hugeMask = machine.HugeSize - 1

func hugeUp(n uint64) uint64 { return (n + hugeMask) &^ hugeMask }

// HugeSizeKnown reports whether flags, of mmap(2), shmget(2) or memfd_create(2), ask for large pages of a size that there
// is: 2 MiB, which is also the default.
func HugeSizeKnown(flags int) bool {
	log := flags >> unix.MAP_HUGE_SHIFT & unix.MAP_HUGE_MASK
	return log == 0 || 1<<log == machine.HugeSize
}

// A reservation is the pages that the pool has promised to a private mapping, and that it has not taken yet. Areas into which the
// mapping was cut share it; a child of fork(2) has none. Guarded by the address space's mu, held alone.
type reservation struct {
	pool *mem.HugePool
	held map[uint64]struct{} // by the cache's page
}

// newReservation promises the pages from page on, count small ones in all: ENOMEM.
func newReservation(pool *mem.HugePool, page, count uint64) (*reservation, error) {
	if err := pool.Reserve(count / mem.HugeFrames); err != nil {
		return nil, err
	}
	r := &reservation{pool, make(map[uint64]struct{}, count/mem.HugeFrames)}
	for at := page; at < page+count; at += mem.HugeFrames {
		r.held[at] = struct{}{}
	}
	return r, nil
}

// release takes the promise of the pages from first up to end back.
func (r *reservation) release(first, end uint64) {
	n := uint64(0)
	for at := range r.held {
		if at >= first && at < end {
			delete(r.held, at)
			n++
		}
	}
	if n > 0 {
		r.pool.Unreserve(n)
	}
}

// take returns a page for the one at index: promised if r is not nil and has it. ENOMEM.
func (r *reservation) take(pool *mem.HugePool, index uint64) (machine.Frame, error) {
	if r == nil {
		return pool.Take(false)
	}
	_, promised := r.held[index]
	delete(r.held, index)
	return pool.Take(promised)
}

// hugeTLB reports whether a has large pages only.
func (a *area) hugeTLB() bool { return a.flags&flagHugeTLB != 0 }

// cutsHuge reports whether addr lies inside a large page of a.
func (a *area) cutsHuge(addr uint64) bool {
	return a.hugeTLB() && addr&hugeMask != 0 && addr > a.start && addr < a.end
}

// cutsHuge reports whether addr lies inside a large page of the pool. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) cutsHuge(addr uint64) bool {
	a := as.find(addr)
	return a != nil && a.cutsHuge(addr)
}

// leave gives up what was promised to a for the pages from..to, which are unmapped.
func (a *area) leave(from, to uint64) {
	a.uncharge((to - from) / pageSize)
	if a.resv != nil {
		a.resv.release(a.index(from), a.index(to))
	}
}

// hugeMemory is the object of an area of MAP_HUGETLB.
type hugeMemory struct{ sharedMemory }

func newHugeMemory(pool *mem.Pool, length uint64) (*hugeMemory, error) {
	m := &hugeMemory{sharedMemory{cache: mem.NewHuge(pool)}}
	m.refs.Store(1)
	return m, m.cache.Truncate(int64(length))
}

func (*hugeMemory) MapName() string { return "/anon_hugepage (deleted)" }

// hugeTLB reports whether p, which is checked otherwise, is to be of large pages of the pool.
func (args *MapArgs) hugeTLB(p *plan) bool {
	if args.Object == nil {
		return args.Flags&unix.MAP_HUGETLB != 0
	}
	return p.cache != nil && p.cache.IsHuge()
}

// mapHuge is the rest of Map for large pages of the pool.
func (as *AddressSpace) mapHuge(args MapArgs, p plan) (uint64, error) {
	done, err := args.planHuge(as.pool, &p)
	if err != nil {
		return 0, err
	}
	addr, populate, err := as.mapPlan(&p, args.Addr, args.Flags)
	done(err == nil)
	if populate {
		_ = as.populate(addr, addr+p.end, args.Caller)
	}
	return addr, err
}

// planHuge makes p one of large pages: EINVAL, ENOMEM. The caller calls done with whether p was mapped.
func (args *MapArgs) planHuge(pool *mem.Pool, p *plan) (done func(mapped bool), err error) {
	switch {
	case args.Object == nil && (!HugeSizeKnown(args.Flags) || args.Flags&unix.MAP_GROWSDOWN != 0),
		args.Object != nil && args.Offset&hugeMask != 0,
		args.Flags&mapFixed != 0 && args.Addr&hugeMask != 0:
		return nil, unix.EINVAL
	}
	p.end = hugeUp(p.end)
	p.flags = p.flags&^flagNoHuge | flagHugeTLB
	drop := func() {}
	if p.cache == nil {
		m, err := newHugeMemory(pool, p.end)
		if err != nil {
			return nil, err
		}
		p.object, p.cache = m, m.cache
		drop = m.DecRef
	}
	undo, err := p.reserve(pool)
	if err != nil {
		drop()
		return nil, err
	}
	return func(mapped bool) {
		if mapped && args.Object != nil && p.prot&unix.PROT_WRITE != 0 {
			p.cache.Grow(int64(args.Offset + p.end)) // as hugetlbfs_file_mmap
		}
		if !mapped {
			undo()
		}
		drop()
	}, nil
}

// reserve promises p its pages: ENOMEM.
func (p *plan) reserve(pool *mem.Pool) (undo func(), err error) {
	count := p.end / pageSize
	switch {
	case p.flags&flagNoReserve != 0:
		return func() {}, nil
	case p.shared():
		return p.cache.Promise(p.page, count)
	}
	if p.resv, err = newReservation(pool.Huge(), p.page, count); err != nil {
		return nil, err
	}
	return func() { p.resv.release(p.page, p.page+count) }, nil
}

// faultHugeTLB serves a fault on large pages of the pool. The errors are those of Fault, or errHugeShort.
func (as *AddressSpace) faultHugeTLB(va uint64, access machine.Access) error {
	as.mu.Lock()
	defer as.unlock()
	a := as.find(va)
	switch {
	case a == nil || !a.hugeTLB():
		return nil // it changed meanwhile: the next try will tell
	case a.access&access != access:
		return errAccess
	}
	block := va &^ hugeMask
	if f, acc, ok := as.space.Lookup(block); ok {
		return as.hugePresent(a, block, f, acc, access)
	}
	if a.flags&flagHugeLost != 0 {
		return errBus
	}
	f, err := a.cache.HugePage(a.index(block), a.shared())
	if err != nil {
		return errBus
	}
	if f != machine.NoFrame && (a.shared() || access&machine.Write == 0) {
		acc := a.access
		if !a.shared() {
			acc &^= machine.Write
		}
		return as.enterHuge(block, f, acc)
	}
	g, err := a.resv.take(as.pool.Huge(), a.index(block))
	if f != machine.NoFrame {
		if err == nil {
			copy(as.pool.BytesRun(g, mem.HugeFrames), as.pool.BytesRun(f, mem.HugeFrames))
		}
		as.dropHuge(f)
	}
	if err != nil {
		return errBus
	}
	a.copied.Store(true)
	return as.enterHuge(block, g, a.access)
}

// dropHuge gives back a reference to each frame of a large page that is not mapped here.
func (as *AddressSpace) dropHuge(f machine.Frame) {
	var unused mem.Tally
	as.pool.UnrefRun(f, mem.HugeFrames, &unused)
}

// enterHuge maps the page f, whose references it takes over, at block where nothing is; ENOMEM. as.mu is held.
func (as *AddressSpace) enterHuge(block uint64, f machine.Frame, acc machine.Access) error {
	if as.space.MapHuge(block, f, acc) != nil {
		as.dropHuge(f)
		return unix.ENOMEM
	}
	as.rss[mem.Huge].Add(mem.HugeFrames)
	return nil
}

// hugePresent serves a fault on the page f, which is mapped at block with the rights acc: errHugeShort when it must be copied
// and there is no page for that.
//
// +checklocks:as.mu
func (as *AddressSpace) hugePresent(a *area, block uint64, f machine.Frame, acc, access machine.Access) error {
	switch {
	case acc&access == access:
		return nil
	case access&machine.Write == 0:
		as.space.Protect(block, machine.HugeSize, a.access&(acc|^machine.Write))
		return nil
	case a.shared() || as.pool.ExclusiveRun(f, mem.HugeFrames):
		as.space.Protect(block, machine.HugeSize, a.access)
		return nil
	}
	g, err := a.resv.take(as.pool.Huge(), a.index(block))
	if err != nil {
		return errHugeShort
	}
	copy(as.pool.BytesRun(g, mem.HugeFrames), as.pool.BytesRun(f, mem.HugeFrames))
	as.zap(block, block+machine.HugeSize)
	a.copied.Store(true)
	return as.enterHuge(block, g, a.access)
}

// retakeHuge makes the page at va, which the owner of the mapping must copy and cannot, its own by taking it from the
// children of fork(2), who get SIGBUS if they ever touch it, as on Linux. It reports whether it did.
func (as *AddressSpace) retakeHuge(va uint64) bool {
	block := va &^ hugeMask
	as.mu.RLock()
	a := as.find(va)
	if a == nil || !a.hugeTLB() || a.resv == nil || a.shared() {
		as.mu.RUnlock()
		return false
	}
	f, _, ok := as.space.Lookup(block)
	cache, object, index := a.cache, a.object, a.index(block)
	if !ok || cache.Frame(index) == f {
		as.mu.RUnlock()
		return false
	}
	object.IncRef()
	as.mu.RUnlock()
	defer object.DecRef()
	cache.EachMapper(func(m mem.Mapper) {
		if o := m.(*area); o.as != as {
			o.loseHuge(cache, index, f)
		}
	})
	return true
}

// loseHuge unmaps the page f of the private mapping a, where it shows index of c.
func (a *area) loseHuge(c *mem.Cache, index uint64, f machine.Frame) {
	as := a.as
	as.mu.Lock()
	defer as.unlock()
	start, end, ok := a.range_(c, index, index+mem.HugeFrames-1)
	if !ok || a.shared() {
		return
	}
	if g, _, ok := as.space.Lookup(start); ok && f == g {
		as.zap(start, end)
		a.flags |= flagHugeLost
	}
}

// unmapHuge takes the pages start..end of a private mapping out, but for the copies that it made.
//
// +checklocks:a.as.mu
func (a *area) unmapHuge(c *mem.Cache, start, end uint64) {
	for block := start &^ hugeMask; block < end; block += machine.HugeSize {
		if f, _, ok := a.as.space.Lookup(block); ok && c.Frame(a.index(block)) == f {
			a.as.zap(block, block+machine.HugeSize)
		}
	}
}

// moveHuge is movePages for large pages of the pool.
func (as *AddressSpace) moveHuge(from, to, length uint64) error {
	for at := uint64(0); at < length; at += machine.HugeSize {
		f, acc, ok := as.space.Lookup(from + at)
		if ok && as.space.MapHuge(to+at, f, acc) != nil {
			as.space.Unmap(to, length, nil)
			return unix.ENOMEM
		}
	}
	as.space.Unmap(from, length, nil)
	return nil
}

// moveReservation gives what was promised to the area of length bytes at from to the one at to. ENOMEM: too many areas, which
// the caller has made sure of.
//
// +checklocks:as.mu
func (as *AddressSpace) moveReservation(from, to, length uint64) error {
	if err := as.cut(from); err != nil {
		return err
	}
	if err := as.cut(from + length); err != nil {
		return err
	}
	old := as.find(from)
	as.find(to).resv, old.resv = old.resv, nil
	as.merge(to, to+length)
	return nil
}

// checkHuge makes r a call about large pages of the pool: EINVAL. They cannot grow.
func (r *remap) checkHuge() error {
	r.old, r.length = hugeUp(r.old), hugeUp(r.length)
	if (r.addr|r.to)&hugeMask != 0 || r.length > r.old || r.old == 0 || r.flags&unix.MREMAP_DONTUNMAP != 0 {
		return unix.EINVAL
	}
	return nil
}

// ResidentHuge counts the pages of the area at start..end that are in the page tables, for smaps of large pages of the pool:
// those that other mappings have too, and the others.
func (as *AddressSpace) ResidentHuge(start, end uint64) (shared, private uint64) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	for block := start &^ hugeMask; block < end; block += machine.HugeSize {
		a := as.find(block)
		f, _, ok := as.space.Lookup(block)
		if a == nil || !a.hugeTLB() || !ok {
			continue
		}
		mapped := as.pool.Refs(f)
		if a.cache.Frame(a.index(block)) == f {
			mapped-- // the file's own
		}
		if mapped > 1 {
			shared += mem.HugeFrames
		} else {
			private += mem.HugeFrames
		}
	}
	return shared, private
}

// adviseHuge checks advice about large pages of the pool, and makes end one of a whole page: EINVAL. done: there is nothing more to do.
func adviseHuge(start uint64, end *uint64, advice int) (done bool, err error) {
	switch advice {
	case unix.MADV_DONTNEED, unix.MADV_DONTNEED_LOCKED:
		if start&hugeMask != 0 {
			return false, unix.EINVAL
		}
		*end &^= hugeMask
		return *end == start, nil
	case unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE:
		return true, nil // the pages are large as it is
	}
	return false, nil
}
