package mm

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
)

// FutexKey identifies the memory word that a futex is: two addresses that mean the same
// word have the same key. It is comparable.
type FutexKey struct {
	Space  *AddressSpace // of a word that only this address space sees, else nil
	Cache  *mem.Cache    // that a shared word is in, else nil
	Offset uint64        // its address, or its offset in Cache
}

// FutexKey returns the key of the futex at addr; private is FUTEX_PRIVATE_FLAG.
// EFAULT when a word that may be shared is not mapped.
func (as *AddressSpace) FutexKey(addr uint64, private bool) (FutexKey, error) {
	if private {
		return FutexKey{Space: as, Offset: addr}, nil
	}
	as.mu.RLock()
	defer as.mu.RUnlock()
	a := as.find(addr)
	switch {
	case a == nil:
		return FutexKey{}, unix.EFAULT
	case a.shared():
		return FutexKey{Cache: a.cache, Offset: a.index(addr)*pageSize + addr&pageMask}, nil
	}
	return FutexKey{Space: as, Offset: addr}, nil
}

// AreaInfo describes an area, as /proc/PID/maps and smaps do.
type AreaInfo struct {
	Start, End   uint64
	Prot         int // PROT_*
	Shared       bool
	Offset       uint64 // in the file, in bytes
	Major, Minor uint32
	Inode        uint64
	Name         string // path, "[heap]", "[stack]", "[vdso]", or empty
	Locked       bool
	GrowsDown    bool
	HugeTLB      bool     // of large pages of mem.HugePool
	DontDump     bool     // MADV_DONTDUMP
	Special      bool     // made by the kernel, see NewSpecial
	Object       Mappable // what is mapped, without a reference; nil: anonymous memory
}

// Object returns what the area from start to end maps, with a reference; nil when there is no such area, and for anonymous memory.
func (as *AddressSpace) Object(start, end uint64) Mappable {
	as.mu.RLock()
	defer as.mu.RUnlock()
	a := as.find(start)
	if a == nil || a.start != start || a.end != end || a.object == nil {
		return nil
	}
	a.object.IncRef()
	return a.object
}

// Areas returns the areas in order of address.
func (as *AddressSpace) Areas() []AreaInfo { return as.AreasFrom(0, math.MaxInt) }

// AreasFrom returns the first areas, most of them at most, of those that end above addr.
func (as *AddressSpace) AreasFrom(addr uint64, most int) []AreaInfo {
	as.mu.RLock()
	defer as.mu.RUnlock()
	areas := as.areas[as.search(addr):]
	areas = areas[:min(len(areas), most)]
	infos := make([]AreaInfo, len(areas))
	for i, a := range areas {
		info := AreaInfo{Start: a.start, End: a.end, Prot: a.prot, Shared: a.shared(),
			Object: a.object, Locked: a.flags&flagLocked != 0, GrowsDown: a.flags&flagGrowsDown != 0, HugeTLB: a.hugeTLB(),
			DontDump: a.flags&flagDontDump != 0}
		if _, ok := a.object.(*special); ok {
			info.Special = true
			info.Shared = false // as Linux shows [vdso]: nobody can write to it
		}
		if a.object != nil {
			info.Offset = a.page * pageSize
			info.Major, info.Minor, info.Inode = a.object.MapInode()
			info.Name = a.object.MapName()
		} else {
			info.Name = as.anonymousName(a)
		}
		infos[i] = info
	}
	return infos
}

// +checklocksread:as.mu
func (as *AddressSpace) anonymousName(a *area) string {
	switch {
	case a.start < as.brk && a.end > as.layout.BrkStart:
		return "[heap]"
	case a.start < as.layout.StackTop && a.end >= as.layout.StackTop:
		return "[stack]"
	}
	return ""
}

// Stats are the numbers of /proc/PID/status and statm, in pages.
type Stats struct {
	Size, Peak, Locked         uint64
	RSS, MaxRSS                uint64
	RSSAnon, RSSFile, RSSShmem uint64
	Data, Stack, Exec          uint64
	Areas                      int
	Tables                     uint64 // of the page tables
	HugeTLB                    uint64 // pages of mem.HugePool, which RSS does not count
}

// MaxRSS returns the highest number of resident pages so far.
func (as *AddressSpace) MaxRSS() uint64 {
	as.mu.RLock()
	v := max(as.maxRSS, as.resident())
	as.mu.RUnlock()
	return v
}

// Stats returns them.
func (as *AddressSpace) Stats() Stats {
	as.mu.RLock()
	defer as.mu.RUnlock()
	s := Stats{
		Size: as.size, Peak: as.peak, Locked: as.locked, Data: as.data, Areas: len(as.areas),
		RSSAnon: as.residentOf(mem.Anonymous), RSSFile: as.residentOf(mem.File), RSSShmem: as.residentOf(mem.Shmem), HugeTLB: as.residentOf(mem.Huge),
	}
	s.Tables = as.space.Tables()
	s.RSS = s.RSSAnon + s.RSSFile + s.RSSShmem
	s.MaxRSS = max(as.maxRSS, s.RSS)
	for _, a := range as.areas {
		switch {
		case a.flags&flagGrowsDown != 0:
			s.Stack += a.pages()
		case a.prot&(unix.PROT_EXEC|unix.PROT_WRITE) == unix.PROT_EXEC:
			s.Exec += a.pages()
		}
	}
	return s
}

// residentOf returns how many pages of a kind are mapped; a count may be below nothing for a moment.
func (as *AddressSpace) residentOf(k mem.Kind) uint64 { return uint64(max(as.rss[k].Load(), 0)) }

// Mapped reports whether addr lies in an area.
func (as *AddressSpace) Mapped(addr uint64) bool {
	_, ok := as.AreaEnd(addr)
	return ok
}

// AreaEnd returns the first address behind the area that addr lies in; ok is false when there is none.
func (as *AddressSpace) AreaEnd(addr uint64) (end uint64, ok bool) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	if a := as.find(addr); a != nil {
		return a.end, true
	}
	return 0, false
}
