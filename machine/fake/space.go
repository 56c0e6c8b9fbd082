package fake

import (
	"fmt"
	"gosv/machine"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// A space is a map from page address to entry. A huge page is 512 entries that
// say so.
type space struct {
	m *Machine

	mu     sync.RWMutex // guards the fields below; user copies hold it shared, as a shootdown waits for them
	pages  map[uint64]entry
	tables map[uint64]machine.Frame // the page table of a 2 MiB region
	dead   bool
}

type entry struct {
	frame machine.Frame
	acc   machine.Access
	huge  bool
}

// NewSpace implements machine.Spaces. A space takes a frame of memory, and
// one more for each region of 2 MiB that pages were mapped in.
func (m *Machine) NewSpace() (machine.Space, error) {
	root, err := m.Alloc()
	if err != nil {
		return nil, err
	}
	return &space{m: m, pages: map[uint64]entry{}, tables: map[uint64]machine.Frame{rootTable: root}}, nil
}

// rootTable is the key of the top-level table: no region's address.
const rootTable = 1

func checkRange(va, length uint64) {
	if va%machine.PageSize != 0 || length%machine.PageSize != 0 || va >= machine.UserTop || length > machine.UserTop-va {
		panic(fmt.Sprintf("fake: bad range of pages %#x+%#x", va, length))
	}
}

func (s *space) alive() {
	if s.dead {
		panic("fake: use of a destroyed space")
	}
}

// Tables implements machine.Space.
func (s *space) Tables() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return uint64(len(s.tables))
}

// table makes sure that va's region has a page table. s.mu is held.
func (s *space) table(va uint64) error {
	region := va &^ (machine.HugeSize - 1)
	if _, ok := s.tables[region]; ok {
		return nil
	}
	f, err := s.m.Alloc()
	if err != nil {
		return err
	}
	s.tables[region] = f
	return nil
}

// Map implements machine.Space.
func (s *space) Map(va uint64, f machine.Frame, acc machine.Access) error {
	checkRange(va, machine.PageSize)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive()
	old, present := s.pages[va]
	switch {
	case present && old.huge:
		panic(fmt.Sprintf("fake: Map of %#x inside a large page", va))
	case present && old.acc != 0 && (old.frame != f || old.acc&^acc != 0):
		panic(fmt.Sprintf("fake: Map replaces a live mapping of %#x without Unmap", va))
	}
	if err := s.table(va); err != nil {
		return err
	}
	s.m.mapCount(f, 1, 1)
	if present {
		s.m.mapCount(old.frame, 1, -1)
	}
	s.pages[va] = entry{frame: f, acc: acc}
	return nil
}

// Fill implements machine.Space.
func (s *space) Fill(va uint64, frames []machine.Frame, acc machine.Access) {
	length := uint64(len(frames)) * machine.PageSize
	checkRange(va, length)
	if va/machine.HugeSize != (va+length-1)/machine.HugeSize {
		panic("fake: Fill across page tables")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive()
	if s.table(va) != nil {
		return
	}
	for i, f := range frames {
		at := va + uint64(i)*machine.PageSize
		if _, present := s.pages[at]; !present && f != machine.NoFrame {
			s.m.mapCount(f, 1, 1)
			s.pages[at] = entry{frame: f, acc: acc}
			frames[i] = machine.NoFrame
		}
	}
}

// MapHuge implements machine.Space.
func (s *space) MapHuge(va uint64, f machine.Frame, acc machine.Access) error {
	checkRange(va, machine.HugeSize)
	if va%machine.HugeSize != 0 || f%512 != 0 {
		panic("fake: MapHuge of an unaligned page")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive()
	for i := range uint64(512) {
		if _, ok := s.pages[va+i*machine.PageSize]; ok {
			panic(fmt.Sprintf("fake: MapHuge over a page at %#x", va+i*machine.PageSize))
		}
	}
	if err := s.table(va); err != nil {
		return err
	}
	s.m.mapCount(f, 512, 1)
	for i := range uint64(512) {
		s.pages[va+i*machine.PageSize] = entry{frame: f + machine.Frame(i), acc: acc, huge: true}
	}
	return nil
}

// in returns the sorted addresses of the pages mapped in a range. s.mu is held.
func (s *space) in(va, length uint64) []uint64 {
	var found []uint64
	if length/machine.PageSize < uint64(len(s.pages)) {
		for p := va; p < va+length; p += machine.PageSize {
			if _, ok := s.pages[p]; ok {
				found = append(found, p)
			}
		}
		return found
	}
	for p := range s.pages {
		if p >= va && p-va < length {
			found = append(found, p)
		}
	}
	slices.Sort(found)
	return found
}

// split makes small pages of the large ones that a range ends within.
func (s *space) split(va, length uint64) {
	for _, end := range [2]uint64{va, va + length} {
		region := end &^ (machine.HugeSize - 1)
		if end == region {
			continue
		}
		for p := region; p < region+machine.HugeSize; p += machine.PageSize {
			e, ok := s.pages[p]
			if !ok || !e.huge {
				break
			}
			e.huge = false
			s.pages[p] = e
		}
	}
}

// run is n pages from va on whose frames follow each other from f on.
type run struct {
	va uint64
	f  machine.Frame
	n  int
}

func appendPage(runs []run, va uint64, f machine.Frame) []run {
	if k := len(runs) - 1; k >= 0 {
		r := &runs[k]
		if r.va+uint64(r.n)*machine.PageSize == va && r.f+machine.Frame(r.n) == f {
			r.n++
			return runs
		}
	}
	return append(runs, run{va, f, 1})
}

// Unmap implements machine.Space.
func (s *space) Unmap(va, length uint64, freed func(va uint64, f machine.Frame, n int)) {
	checkRange(va, length)
	s.mu.Lock()
	s.alive()
	s.split(va, length)
	var runs []run
	for _, p := range s.in(va, length) {
		runs = appendPage(runs, p, s.pages[p].frame)
		s.m.mapCount(s.pages[p].frame, 1, -1)
		delete(s.pages, p)
	}
	s.mu.Unlock()
	if freed == nil {
		return
	}
	for _, r := range runs {
		freed(r.va, r.f, r.n)
	}
}

// Protect implements machine.Space.
func (s *space) Protect(va, length uint64, acc machine.Access) {
	checkRange(va, length)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive()
	s.split(va, length)
	for _, p := range s.in(va, length) {
		e := s.pages[p]
		e.acc = acc
		s.pages[p] = e
	}
}

// Lookup implements machine.Space.
func (s *space) Lookup(va uint64) (machine.Frame, machine.Access, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.alive()
	e, ok := s.pages[va&^(machine.PageSize-1)]
	return e.frame, e.acc, ok
}

// Large implements machine.Space.
func (s *space) Large(va uint64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pages[va&^(machine.PageSize-1)].huge
}

// Next returns the address of the first page at or above va, and below end,
// that is mapped.
func (s *space) Next(va, end uint64) (uint64, bool) {
	checkRange(va, end-va)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if found := s.in(va, end-va); len(found) > 0 {
		return found[0], true
	}
	return end, false
}

// Share implements machine.Space.
func (s *space) Share(child machine.Space, va, length uint64, shared func(f machine.Frame, n int)) error {
	checkRange(va, length)
	c := child.(*space)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.alive()
	c.alive()
	s.split(va, length)
	for _, p := range s.in(va, length) {
		if _, ok := c.pages[p]; ok {
			panic(fmt.Sprintf("fake: Share over a page of the child at %#x", p))
		}
		if err := c.table(p); err != nil {
			return err
		}
		e := s.pages[p]
		e.acc &^= machine.Write
		s.pages[p], c.pages[p] = e, e
		s.m.mapCount(e.frame, 1, 1)
		shared(e.frame, 1)
	}
	return nil
}

// Trim implements machine.Space.
func (s *space) Trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive()
	used := map[uint64]bool{rootTable: true}
	for va := range s.pages {
		used[va&^(machine.HugeSize-1)] = true
	}
	for region, f := range s.tables {
		if !used[region] {
			s.m.Free(f, 1)
			delete(s.tables, region)
		}
	}
}

// Barrier implements machine.Space.
func (s *space) Barrier() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive()
}

// Destroy implements machine.Space.
func (s *space) Destroy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive()
	if len(s.pages) != 0 {
		panic(fmt.Sprintf("fake: Destroy of a space with %d pages mapped", len(s.pages)))
	}
	for _, f := range s.tables {
		s.m.Free(f, 1)
	}
	s.tables, s.dead = nil, true
}

// at returns the rest of the page that va lies in, or nil when it may not be
// accessed. s.mu is held.
func (s *space) at(va uint64, acc machine.Access) []byte {
	if va >= machine.UserTop {
		return nil
	}
	e, ok := s.pages[va&^(machine.PageSize-1)]
	if !ok || e.acc&acc != acc {
		return nil
	}
	return s.m.Bytes(e.frame, 1)[va%machine.PageSize:]
}

// CopyIn implements machine.Space.
func (s *space) CopyIn(dst []byte, va uint64) (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for n < len(dst) {
		b := s.at(va+uint64(n), machine.Read)
		if b == nil {
			break
		}
		n += copy(dst[n:], b)
	}
	return n
}

// CopyOut implements machine.Space.
func (s *space) CopyOut(va uint64, src []byte) (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for n < len(src) {
		b := s.at(va+uint64(n), machine.Write)
		if b == nil {
			break
		}
		n += copy(b, src[n:])
	}
	return n
}

// ZeroOut implements machine.Space.
func (s *space) ZeroOut(va, n uint64) (done uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for done < n {
		b := s.at(va+done, machine.Write)
		if b == nil {
			break
		}
		b = b[:min(n-done, uint64(len(b)))]
		clear(b)
		done += uint64(len(b))
	}
	return done
}

// word returns the address of an aligned word of size bytes, or nil. s.mu is held.
func (s *space) word(va, size uint64, acc machine.Access) unsafe.Pointer {
	if va%size != 0 {
		return nil
	}
	return unsafe.Pointer(unsafe.SliceData(s.at(va, acc)))
}

// Load32 implements machine.Space.
func (s *space) Load32(va uint64) (uint32, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.word(va, 4, machine.Read)
	if p == nil {
		return 0, false
	}
	return atomic.LoadUint32((*uint32)(p)), true
}

// Load64 implements machine.Space.
func (s *space) Load64(va uint64) (uint64, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.word(va, 8, machine.Read)
	if p == nil {
		return 0, false
	}
	return atomic.LoadUint64((*uint64)(p)), true
}

// Store32 implements machine.Space.
func (s *space) Store32(va uint64, v uint32) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.word(va, 4, machine.Write)
	if p == nil {
		return false
	}
	atomic.StoreUint32((*uint32)(p), v)
	return true
}

// Store64 implements machine.Space.
func (s *space) Store64(va uint64, v uint64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.word(va, 8, machine.Write)
	if p == nil {
		return false
	}
	atomic.StoreUint64((*uint64)(p), v)
	return true
}

// CompareAndSwap32 implements machine.Space.
func (s *space) CompareAndSwap32(va uint64, old, new uint32) (uint32, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := (*uint32)(s.word(va, 4, machine.Write))
	if p == nil {
		return 0, false
	}
	for {
		if atomic.CompareAndSwapUint32(p, old, new) {
			return old, true
		}
		if found := atomic.LoadUint32(p); found != old {
			return found, true
		}
	}
}
