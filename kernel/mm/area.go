package mm

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// flags are what an area is beyond its rights (Linux: vm_flags).
type flags uint32

const (
	flagShared     flags = 1 << iota // MAP_SHARED: writes go to the cache
	flagGrowsDown                    // MAP_GROWSDOWN
	flagLocked                       // mlock(2)
	flagOnFault                      // … MLOCK_ONFAULT
	flagDontFork                     // madvise(2): not in children
	flagWipeOnFork                   // … empty in children
	flagHuge                         // … large pages wanted
	flagNoHuge                       // … or not
	flagDontDump                     // … not in core dumps
	flagNoReserve                    // MAP_NORESERVE
	flagCharged                      // its pages are in mem.Pool.Commit
	flagHugeTLB                      // of large pages of mem.HugePool only
	flagHugeLost                     // … some of which its parent has taken back
)

// An area is a range of addresses that maps one thing with one set of rights
// (Linux: vm_area_struct). Its fields are guarded by as.mu.
type area struct {
	as         *AddressSpace
	start, end uint64 // whole pages
	flags      flags
	prot       int            // PROT_*
	maxProt    int            // the most that mprotect(2) may give
	access     machine.Access // what prot means to the page tables
	object     Mappable       // nil: private anonymous memory
	cache      *mem.Cache     // object's; nil once the area is gone
	page       uint64         // the cache's page at start
	mapping    mem.Mapping    // in the cache's list
	split      bool           // may hold large pages, which Protect splits but Map does not
	resv       *reservation   // of a private mapping with flagHugeTLB, or nil

	// copied: there may be private copies of the cache's pages. Faults set it with mu
	// held shared.
	copied atomic.Bool
}

// accessOf returns what the page tables must allow for prot. On x86 whatever may
// be written or executed can be read.
func accessOf(prot int) machine.Access {
	var a machine.Access
	if prot&(unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC) != 0 {
		a = machine.Read
	}
	if prot&unix.PROT_WRITE != 0 {
		a |= machine.Write
	}
	if prot&unix.PROT_EXEC != 0 {
		a |= machine.Exec
	}
	return a
}

func (a *area) pages() uint64 { return (a.end - a.start) / pageSize }

func (a *area) shared() bool { return a.flags&flagShared != 0 }

// index returns the cache's page at va.
func (a *area) index(va uint64) uint64 { return a.page + (va-a.start)/pageSize }

// cached returns the rights with which a page of the cache itself may be mapped
// by a read: no right to write if the write must be noticed.
func (a *area) cached() machine.Access {
	if a.shared() && !a.cache.Backed() {
		return a.access
	}
	return a.access &^ machine.Write
}

// isData reports whether the area counts for RLIMIT_DATA.
func (a *area) isData() bool {
	return a.prot&unix.PROT_WRITE != 0 && a.flags&(flagShared|flagGrowsDown) == 0
}

// chargeable reports whether pages of the area are memory promised to the program.
func chargeable(prot int, f flags) bool {
	return prot&unix.PROT_WRITE != 0 && f&(flagShared|flagHugeTLB) == 0
}

// writableMapping reports whether the cache's own pages may ever be written through the area.
func (a *area) writableMapping() bool {
	return a.shared() && a.maxProt&unix.PROT_WRITE != 0
}

// search returns the index of the first area that ends above addr. as.mu is held.
//
// +checklocksread:as.mu
func (as *AddressSpace) search(addr uint64) int {
	low, high := 0, len(as.areas)
	for low < high {
		mid := int(uint(low+high) / 2)
		if as.areas[mid].end > addr {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// find returns the area with addr in it, or nil. as.mu is held, maybe shared.
//
// +checklocksread:as.mu
func (as *AddressSpace) find(addr uint64) *area {
	if i := int(as.recent.Load()); i < len(as.areas) {
		if a := as.areas[i]; addr-a.start < a.end-a.start {
			return a
		}
	}
	i := as.search(addr)
	if i == len(as.areas) || as.areas[i].start > addr {
		return nil
	}
	as.recent.Store(uint32(i))
	return as.areas[i]
}

// newArea returns an empty area.
//
// +checklocks:as.mu
func (as *AddressSpace) newArea() *area {
	if n := len(as.spare); n > 0 {
		a := as.spare[n-1]
		as.spare = as.spare[:n-1]
		return a
	}
	return &area{as: as}
}

// maxSpare is how many areas are kept for reuse.
const maxSpare = 4

// attach makes a, whose fields are set, hold its object and appear in the cache's list; EPERM
// when the object is sealed against writing.
func (a *area) attach() error {
	if a.cache == nil {
		return nil
	}
	a.mapping = mem.Mapping{Mapper: a, Writable: a.writableMapping()}
	if err := a.cache.AddMapping(&a.mapping); err != nil {
		return err
	}
	a.object.IncRef()
	return nil
}

// detach undoes a's attach; the object is released by unlock. The area is not used again,
// or as something new.
//
// +checklocks:as.mu
func (as *AddressSpace) detach(a *area) {
	if a.cache != nil {
		a.cache.RemoveMapping(&a.mapping)
		as.released = append(as.released, a.object)
		a.cache, a.object, a.resv = nil, nil, nil
	} else if len(as.spare) < maxSpare {
		// Nobody else knows an anonymous area. One that mapped a cache may still
		// be called as a Mapper, and is left to the garbage collector.
		a.flags, a.prot, a.maxProt, a.access, a.page, a.split = 0, 0, 0, 0, 0, false
		a.copied.Store(false)
		as.spare = append(as.spare, a)
	}
}

// count adds pages of a to the counters; they are subtracted when negative.
//
// +checklocks:as.mu
func (as *AddressSpace) count(a *area, pages int64) {
	as.size += uint64(pages)
	if as.size > as.peak {
		as.peak = as.size
	}
	if a.isData() {
		as.data += uint64(pages)
	}
	if a.flags&flagLocked != 0 {
		as.locked += uint64(pages)
	}
}

// splitAt cuts areas[i] at addr, which is inside, in two. The limit on areas was
// checked.
//
// +checklocks:as.mu
func (as *AddressSpace) splitAt(i int, addr uint64) {
	low, high := as.areas[i], as.newArea()
	high.start, high.end = addr, low.end
	high.flags, high.prot, high.maxProt, high.access = low.flags, low.prot, low.maxProt, low.access
	high.object, high.cache, high.split, high.resv = low.object, low.cache, low.split, low.resv
	high.copied.Store(low.copied.Load())
	if low.cache != nil {
		high.page = low.index(addr)
		high.mapping = mem.Mapping{Mapper: high, Writable: low.mapping.Writable}
		high.cache.CopyMapping(&high.mapping)
		high.object.IncRef()
	}
	low.end = addr
	as.areas = slices.Insert(as.areas, i+1, high)
}

// cut makes addr a border between areas, if one covers it; ENOMEM when there would be too many, EINVAL inside a large page
// of the pool.
//
// +checklocks:as.mu
func (as *AddressSpace) cut(addr uint64) error {
	i := as.search(addr)
	if i == len(as.areas) || as.areas[i].start >= addr {
		return nil
	}
	if len(as.areas) >= MaxAreas() {
		return unix.ENOMEM
	}
	if as.areas[i].cutsHuge(addr) {
		return unix.EINVAL
	}
	as.splitAt(i, addr)
	return nil
}

// mergeable reports whether b continues a.
func mergeable(a, b *area) bool {
	return a.end == b.start && a.flags == b.flags && a.prot == b.prot && a.maxProt == b.maxProt &&
		a.resv == b.resv && a.cache == b.cache && (a.cache == nil || a.object == b.object && a.index(b.start) == b.page)
}

// merge joins the areas from..to with their neighbours and each other where they
// continue each other.
//
// +checklocks:as.mu
func (as *AddressSpace) merge(from, to uint64) {
	i := as.search(from)
	if i > 0 {
		i--
	}
	for i+1 < len(as.areas) && as.areas[i].start < to {
		a, b := as.areas[i], as.areas[i+1]
		if !mergeable(a, b) {
			i++
			continue
		}
		a.end = b.end
		a.split = a.split || b.split
		if b.copied.Load() {
			a.copied.Store(true)
		}
		as.areas = slices.Delete(as.areas, i+1, i+2)
		as.detach(b)
	}
}

// insert puts a, whose fields are set and which is attached, in its place, merging it
// with its neighbours. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) insert(a *area) {
	as.count(a, int64(a.pages()))
	i := as.search(a.start)
	as.areas = slices.Insert(as.areas, i, a)
	as.merge(a.start, a.end)
}

// removeAreas takes areas[i:j] away with their pages. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) removeAreas(i, j int) {
	for rest := as.areas[i:j]; len(rest) > 0; {
		n := cluster(rest)
		as.zap(rest[0].start, rest[n-1].end)
		rest = rest[n:]
	}
	as.forget(i, j)
}

// cluster returns how many of areas, from the first on, are near enough to each other that
// one walk through the page tables is cheaper than two.
func cluster(areas []*area) int {
	const near = 1 << 30
	n := 1
	for n < len(areas) && areas[n].start-areas[n-1].end < near {
		n++
	}
	return n
}

// forget takes areas[i:j], of which nothing is mapped any more, out of the list.
//
// +checklocks:as.mu
func (as *AddressSpace) forget(i, j int) {
	as.gaps.freed(as, j)
	for _, a := range as.areas[i:j] {
		as.count(a, -int64(a.pages()))
		a.leave(a.start, a.end)
		as.detach(a)
	}
	as.areas = slices.Delete(as.areas, i, j)
}

func (a *area) uncharge(pages uint64) {
	if a.flags&flagCharged != 0 {
		a.as.pool.Uncommit(pages)
	}
}

// zap takes the pages start..end out of the page tables. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) zap(start, end uint64) {
	as.maxRSS = max(as.maxRSS, as.resident())
	as.space.Unmap(start, end-start, as.giveBack)
	as.countRSS(&as.gone, -1)
	as.gone = mem.Tally{}
	as.emptied += int((end-start)/machine.HugeSize) + 1
}

// countRSS adds what t counts, times sign, to the resident pages.
func (as *AddressSpace) countRSS(t *mem.Tally, sign int64) {
	for k, n := range t {
		if n != 0 {
			as.rss[k].Add(sign * n)
		}
	}
}

// resident returns the number of resident pages.
func (as *AddressSpace) resident() uint64 {
	n := as.rss[mem.Anonymous].Load() + as.rss[mem.File].Load() + as.rss[mem.Shmem].Load()
	return uint64(max(n, 0))
}

// removeRange unmaps start..end, which need not be mapped; ENOMEM when an area
// would be cut in two and there are too many, EINVAL when a large page of the pool would be. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) removeRange(start, end uint64) error {
	i := as.search(start)
	if i == len(as.areas) || as.areas[i].start >= end {
		return nil
	}
	if as.cutsHuge(start) || as.cutsHuge(end) {
		return unix.EINVAL
	}
	if a := as.areas[i]; a.start < start {
		if a.end > end {
			if len(as.areas) >= MaxAreas() {
				return unix.ENOMEM
			}
			as.splitAt(i, end)
		}
		gone := (a.end - start) / pageSize
		as.zap(start, a.end)
		as.count(a, -int64(gone))
		a.leave(start, a.end)
		a.end = start
		i++
		as.gaps.freed(as, i)
	}
	j := i
	for j < len(as.areas) && as.areas[j].end <= end {
		j++
	}
	if j > i {
		as.removeAreas(i, j)
	}
	if i < len(as.areas) && as.areas[i].start < end {
		a := as.areas[i]
		gone := (end - a.start) / pageSize
		as.zap(a.start, end)
		as.count(a, -int64(gone))
		a.leave(a.start, end)
		if a.cache != nil {
			a.page += gone
		}
		a.start = end
		as.gaps.freed(as, i)
	}
	return nil
}

// covered reports whether start..end is mapped without a gap. as.mu is held, maybe
// shared.
//
// +checklocksread:as.mu
func (as *AddressSpace) covered(start, end uint64) bool {
	for i := as.search(start); start < end; i++ {
		if i == len(as.areas) || as.areas[i].start > start {
			return false
		}
		start = as.areas[i].end
	}
	return true
}

// Unmap implements mem.Mapper.
func (a *area) Unmap(c *mem.Cache, first, last uint64, private bool) {
	as := a.as
	as.mu.Lock()
	defer as.unlock()
	start, end, ok := a.range_(c, first, last)
	switch {
	case !ok:
	case private || a.shared():
		as.zap(start, end)
	case a.hugeTLB():
		a.unmapHuge(c, start, end)
	default:
		for va, ok := as.nextMapped(start, end); ok; va, ok = as.nextMapped(va+pageSize, end) {
			if f, _, _ := as.space.Lookup(va); as.pool.Kind(f) != mem.Anonymous {
				as.zap(va, va+pageSize)
			}
		}
	}
}

// WriteProtect implements mem.Mapper.
func (a *area) WriteProtect(c *mem.Cache, first, last uint64) {
	as := a.as
	as.mu.Lock()
	defer as.unlock()
	if start, end, ok := a.range_(c, first, last); ok && a.shared() && a.access&machine.Write != 0 {
		as.space.Protect(start, end-start, a.access&^machine.Write)
	}
}

// range_ returns the addresses at which a maps the pages first to last of c.
func (a *area) range_(c *mem.Cache, first, last uint64) (start, end uint64, ok bool) {
	if a.cache != c || last < a.page || first >= a.page+a.pages() {
		return 0, 0, false
	}
	first = max(first, a.page)
	last = min(last, a.page+a.pages()-1)
	return a.start + (first-a.page)*pageSize, a.start + (last+1-a.page)*pageSize, true
}

// nextMapped returns the first page at or above va, below end, that is in the
// page tables.
func (as *AddressSpace) nextMapped(va, end uint64) (uint64, bool) {
	if va < end {
		return as.space.Next(va, end)
	}
	return end, false
}
