package mm

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// A Mappable is what mmap(2) maps: an open file with a page cache.
type Mappable interface {
	// MapCache returns the page cache, or nil when the file cannot be mapped
	// (ENODEV). It is called once for each mapping.
	MapCache() *mem.Cache
	// IncRef and DecRef hold the file while it is mapped. IncRef may be called
	// with locks of this package held and must not block; DecRef is called without.
	IncRef()
	DecRef()
	// MapName returns the path that /proc/PID/maps shows.
	MapName() string
	// MapInode returns device and inode number, for the same.
	MapInode() (major, minor uint32, ino uint64)
}

// A Watcher is a Mappable that is told of stores.
type Watcher interface {
	// MapWritten says that a store through a shared mapping is about to change a page that none could change until now. It is called
	// with locks of this package held and must not block.
	MapWritten()
}

// MapArgs are the arguments of mmap(2).
type MapArgs struct {
	Addr   uint64 // the address with MAP_FIXED, else a hint
	Length uint64 // in bytes
	Prot   int    // PROT_*
	Flags  int    // MAP_*
	// Object is the file, nil for anonymous memory.
	Object Mappable
	Offset uint64 // in bytes, a multiple of the page size
	// MaxProt is the most that mprotect(2) may give later: what the file was
	// opened for. 0 means everything.
	MaxProt int
	Caller  Caller // for what is to be filled at once
}

const (
	protAll  = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	mapFixed = unix.MAP_FIXED | unix.MAP_FIXED_NOREPLACE
	// mapKnown are the flags that MAP_SHARED_VALIDATE accepts: all but MAP_SYNC, which needs DAX.
	mapKnown = unix.MAP_TYPE | unix.MAP_FIXED | unix.MAP_ANONYMOUS | unix.MAP_DENYWRITE | unix.MAP_EXECUTABLE |
		unix.MAP_GROWSDOWN | unix.MAP_LOCKED | unix.MAP_NORESERVE | unix.MAP_POPULATE | unix.MAP_NONBLOCK |
		unix.MAP_STACK | unix.MAP_HUGETLB | unix.MAP_32BIT | unix.MAP_FIXED_NOREPLACE | 63<<unix.MAP_HUGE_SHIFT
)

// Map is mmap(2): it returns the address at which a.Length bytes, rounded up to pages, are
// mapped. EINVAL: no length, unaligned address or offset, unknown type; EOVERFLOW: the
// offset; ENOMEM: no addresses, memory or areas left, or a limit; EPERM: an address below vm.mmap_min_addr,
// MAP_LOCKED forbidden, a sealed file; EAGAIN: MAP_LOCKED beyond the limit; EACCES: Prot exceeds MaxProt; ENODEV: the file
// cannot be mapped; EEXIST: MAP_FIXED_NOREPLACE; EOPNOTSUPP: MAP_SHARED_VALIDATE with a flag not known.
// With MAP_HUGETLB, and of a file in large pages, ENOMEM also says that the pool has too few of them, and EINVAL that
// something is not aligned to them.
func (as *AddressSpace) Map(args MapArgs) (uint64, error) {
	a, err := args.check()
	if err != nil {
		return 0, err
	}
	if args.hugeTLB(&a) {
		return as.mapHuge(args, a)
	}
	if a.object == nil && a.shared() {
		shm, err := newSharedMemory(as.pool, a.end, args.Flags&unix.MAP_NORESERVE != 0)
		if err != nil {
			return 0, err
		}
		defer shm.DecRef()
		a.object, a.cache = shm, shm.cache
	}
	addr, populate, err := as.mapPlan(&a, args.Addr, args.Flags)
	if populate {
		_ = as.populate(addr, addr+a.end, args.Caller) // like Linux, which does not report it
	}
	return addr, err
}

// mapPlan maps p and reports whether it is to get its pages at once.
func (as *AddressSpace) mapPlan(p *plan, hint uint64, mapFlags int) (addr uint64, populate bool, err error) {
	as.mu.Lock()
	defer as.unlock()
	if addr, err = as.mapArea(p, hint, mapFlags); err != nil {
		return 0, false, err
	}
	return addr, as.wantsPages(addr, mapFlags), nil
}

// plan is an area that has no address yet: end is its length.
type plan struct {
	end           uint64
	prot, maxProt int
	flags         flags
	object        Mappable
	cache         *mem.Cache
	page          uint64
	resv          *reservation
}

func (p *plan) shared() bool { return p.flags&flagShared != 0 }

// check validates what can be validated without looking at the address space.
func (args *MapArgs) check() (p plan, err error) {
	switch args.Flags & unix.MAP_TYPE {
	case unix.MAP_PRIVATE:
	case unix.MAP_SHARED:
		p.flags = flagShared
	case unix.MAP_SHARED_VALIDATE:
		if args.Flags&^mapKnown != 0 {
			return p, unix.EOPNOTSUPP
		}
		p.flags = flagShared
	default:
		return p, unix.EINVAL
	}
	switch {
	case args.Length == 0 || args.Offset&pageMask != 0:
		return p, unix.EINVAL
	case args.Length > userTop:
		return p, unix.ENOMEM
	case args.Offset+pageUp(args.Length) < args.Offset || args.Offset+args.Length > math.MaxInt64:
		return p, unix.EOVERFLOW
	case args.Flags&mapFixed != 0 && args.Addr&pageMask != 0:
		return p, unix.EINVAL
	case args.Flags&unix.MAP_GROWSDOWN != 0 && p.shared():
		return p, unix.EINVAL
	}
	p.end = pageUp(args.Length)
	p.prot, p.maxProt = args.Prot&protAll, args.MaxProt&protAll
	if args.MaxProt == 0 {
		p.maxProt = protAll
	}
	if p.prot&^p.maxProt != 0 {
		return p, unix.EACCES
	}
	if args.Object != nil {
		if p.cache = args.Object.MapCache(); p.cache == nil {
			return p, unix.ENODEV
		}
		p.object, p.page = args.Object, args.Offset/pageSize
	}
	if args.Flags&unix.MAP_GROWSDOWN != 0 {
		p.flags |= flagGrowsDown
	}
	if args.Flags&unix.MAP_STACK != 0 {
		p.flags |= flagNoHuge // a thread's stack is large and mostly never touched
	}
	if args.Flags&unix.MAP_NORESERVE != 0 {
		p.flags |= flagNoReserve
	}
	return p, nil
}

// mapArea finds a place for p and puts an area there. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) mapArea(p *plan, hint uint64, mapFlags int) (uint64, error) {
	p.flags |= as.future
	if mapFlags&unix.MAP_LOCKED != 0 {
		p.flags |= flagLocked
	}
	if p.flags&flagLocked != 0 {
		if err := as.mayLock(p.end / pageSize); err != nil {
			return 0, err
		}
	}
	if p.flags&flagHugeTLB != 0 {
		p.flags &^= flagLocked | flagOnFault // large pages of the pool are never swapped out, on Linux either
	}
	addr, err := as.place(p, hint, mapFlags)
	if err != nil {
		return 0, err
	}
	replaced := uint64(0)
	if mapFlags&mapFixed != 0 {
		replaced = as.mapped(addr, addr+p.end)
	}
	if err := as.mayGrow(p.end/pageSize-replaced, p.isData()); err != nil {
		return 0, err
	}
	if len(as.areas) >= MaxAreas() {
		return 0, unix.ENOMEM
	}
	if mapFlags&mapFixed != 0 {
		if err := as.removeRange(addr, addr+p.end); err != nil {
			return 0, err
		}
	}
	if err := as.add(p, addr); err != nil {
		return 0, err
	}
	return addr, nil
}

func (p *plan) isData() bool {
	return p.prot&unix.PROT_WRITE != 0 && p.flags&(flagShared|flagGrowsDown) == 0
}

// add maps p at addr, which is free and within the limits. ENOMEM, EPERM. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) add(p *plan, addr uint64) error {
	if chargeable(p.prot, p.flags) {
		noReserve := p.flags&flagNoReserve != 0
		if err := as.pool.Commit(p.end/pageSize, noReserve); err != nil {
			return err
		}
		p.flags |= flagCharged
	}
	if p.cache == nil && as.extend(p, addr) {
		return nil
	}
	a := as.newArea()
	a.start, a.end = addr, addr+p.end
	a.flags, a.prot, a.maxProt, a.access = p.flags, p.prot, p.maxProt, accessOf(p.prot)
	a.object, a.cache, a.page, a.resv = p.object, p.cache, p.page, p.resv
	a.split = p.flags&flagHugeTLB != 0
	if err := a.attach(); err != nil {
		a.uncharge(a.pages())
		return err
	}
	as.insert(a)
	return nil
}

// extend makes a neighbour of addr, of which p is a continuation, larger, and reports
// whether there is one. It is what insert and merge would come to, without a new area.
//
// +checklocks:as.mu
func (as *AddressSpace) extend(p *plan, addr uint64) bool {
	i := as.search(addr)
	switch {
	case i < len(as.areas) && as.areas[i].start == addr+p.end && p.like(as.areas[i]):
		as.count(as.areas[i], int64(p.end/pageSize))
		as.areas[i].start = addr
		if i > 0 && as.areas[i-1].end == addr {
			as.merge(addr, addr+p.end)
		}
	case i > 0 && as.areas[i-1].end == addr && p.like(as.areas[i-1]):
		as.count(as.areas[i-1], int64(p.end/pageSize))
		as.areas[i-1].end += p.end
	default:
		return false
	}
	return true
}

// like reports whether a is anonymous memory as p will be.
func (p *plan) like(a *area) bool {
	return a.cache == nil && a.flags == p.flags && a.prot == p.prot && a.maxProt == p.maxProt
}

// place returns the address for p. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) place(p *plan, hint uint64, mapFlags int) (uint64, error) {
	length := p.end
	if mapFlags&mapFixed != 0 {
		switch {
		case hint > userTop || length > userTop-hint:
			return 0, unix.ENOMEM
		case hint < minAddr:
			return 0, unix.EPERM
		case mapFlags&unix.MAP_FIXED_NOREPLACE != 0 && !as.vacant(hint, hint+length):
			return 0, unix.EEXIST
		}
		return hint, nil
	}
	align := uint64(pageSize)
	if p.flags&flagHugeTLB != 0 {
		align = machine.HugeSize
	}
	if hint = (hint + align - 1) &^ (align - 1); hint != 0 {
		hint = max(hint, minAddr)
		if hint < userTop && length <= userTop-hint && as.free(hint, hint+length) &&
			(mapFlags&unix.MAP_32BIT == 0 || hint+length <= 1<<31) {
			return hint, nil
		}
	}
	if mapFlags&unix.MAP_32BIT != 0 {
		return as.findGapIn(1<<30, 1<<31, length, align)
	}
	if p.cache == nil && length%machine.HugeSize == 0 {
		align = machine.HugeSize
	}
	return as.findGap(length, align)
}

// vacant reports whether nothing is mapped in start..end.
//
// +checklocks:as.mu
func (as *AddressSpace) vacant(start, end uint64) bool {
	i := as.search(start)
	return i == len(as.areas) || as.areas[i].start >= end
}

// mapped returns how many pages of start..end are in areas.
//
// +checklocks:as.mu
func (as *AddressSpace) mapped(start, end uint64) (pages uint64) {
	for i := as.search(start); i < len(as.areas) && as.areas[i].start < end; i++ {
		a := as.areas[i]
		pages += (min(a.end, end) - max(a.start, start)) / pageSize
	}
	return pages
}

// mayGrow checks RLIMIT_AS, and RLIMIT_DATA for data, for so many more pages; ENOMEM.
//
// +checklocks:as.mu
func (as *AddressSpace) mayGrow(pages uint64, data bool) error {
	if as.size+pages > as.limits.AS/pageSize || data && as.data+pages > as.limits.Data/pageSize {
		return unix.ENOMEM
	}
	return nil
}

// wantsPages reports whether the new area at addr is to get its pages at once.
//
// +checklocks:as.mu
func (as *AddressSpace) wantsPages(addr uint64, mapFlags int) bool {
	if mapFlags&(unix.MAP_POPULATE|unix.MAP_NONBLOCK) == unix.MAP_POPULATE {
		return true
	}
	a := as.find(addr)
	return a != nil && a.flags&(flagLocked|flagOnFault) == flagLocked
}

// Unmap is munmap(2). EINVAL: unaligned, no length or not the user's; ENOMEM: too
// many areas.
func (as *AddressSpace) Unmap(addr, length uint64) error {
	start, end, ok := span(addr, length)
	if !ok || length == 0 {
		return unix.EINVAL
	}
	as.mu.Lock()
	defer as.unlock()
	return as.removeRange(start, end)
}

// sharedMemory is the object of a MAP_SHARED|MAP_ANONYMOUS area.
type sharedMemory struct {
	cache *mem.Cache
	pages uint64 // promised
	refs  atomic.Int32
}

// newSharedMemory returns length bytes of shared memory with one reference; ENOMEM.
func newSharedMemory(pool *mem.Pool, length uint64, noReserve bool) (*sharedMemory, error) {
	pages := length / pageSize
	if err := pool.Commit(pages, noReserve); err != nil {
		return nil, err
	}
	s := &sharedMemory{cache: mem.NewShmem(pool), pages: pages}
	s.refs.Store(1)
	return s, s.cache.Truncate(int64(length))
}

func (s *sharedMemory) MapCache() *mem.Cache { return s.cache }
func (s *sharedMemory) IncRef()              { s.refs.Add(1) }
func (s *sharedMemory) MapName() string      { return "/dev/zero (deleted)" }

func (s *sharedMemory) MapInode() (major, minor uint32, ino uint64) { return 0, 1, 0 }

func (s *sharedMemory) DecRef() {
	if s.refs.Add(-1) == 0 {
		s.cache.Pool().Uncommit(s.pages)
		s.cache.Release()
	}
}

// special is memory of the kernel's that every process may map.
type special struct {
	name  string
	cache *mem.Cache
}

// NewSpecial returns a Mappable for memory of the kernel's that every process may
// map, as "[vdso]". name is shown in /proc/PID/maps; cache lives as long as the kernel.
func NewSpecial(name string, cache *mem.Cache) Mappable { return &special{name, cache} }

func (s *special) MapCache() *mem.Cache { return s.cache }
func (s *special) IncRef()              {}
func (s *special) DecRef()              {}
func (s *special) MapName() string      { return s.name }

func (s *special) MapInode() (major, minor uint32, ino uint64) { return 0, 0, 0 }
