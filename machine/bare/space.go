package bare

import (
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"gosv/machine"
	"gosv/machine/floor"
)

// Page table entries (Intel SDM vol. 3 §4.5). A page without access keeps its
// frame in a not-present entry that has bit 9 set.
const (
	present   = 1 << 0
	writable  = 1 << 1
	user      = 1 << 2
	large     = 1 << 7
	parked    = 1 << 9
	noExec    = 1 << 63
	frameBits = 0x000ffffffffff000
)

type table [512]uint64

func tableAt(pa uint64) *table { return (*table)(direct(pa & frameBits)) }

// space implements machine.Space: the lower half of one PML4.
type space struct {
	m    *Machine
	hot  *floor.Space
	root *table

	mu     sync.Mutex
	tables []machine.Frame // all below root; guarded by mu
}

// spaces hands out the parts of spaces that the floor looks at; they lie
// outside the Go heap, since the floor remembers their addresses.
var spaces struct {
	mu   sync.Mutex
	free []*floor.Space // guarded by mu
	any  bool           // one was made; guarded by mu
}

// NewSpace implements machine.Spaces.
func (m *Machine) NewSpace() (machine.Space, error) {
	f, err := m.Alloc()
	if err != nil {
		return nil, err
	}
	hot, err := m.newHot()
	if err != nil {
		m.Free(f, 1)
		return nil, err
	}
	s := &space{m: m, hot: hot, root: tableAt(uint64(f) * machine.PageSize), tables: make([]machine.Frame, 0, 16)}
	// newHot came first: what DeviceMemory adds to the highest table is there.
	copy(s.root[256:], tableAt(floor.KernelRoot())[256:])
	hot.Init(uint64(f) * machine.PageSize)
	return s, nil
}

func (m *Machine) newHot() (*floor.Space, error) {
	spaces.mu.Lock()
	defer spaces.mu.Unlock()
	spaces.any = true
	if len(spaces.free) == 0 {
		f, err := m.Alloc()
		if err != nil {
			return nil, err
		}
		page := unsafe.Slice((*floor.Space)(direct(uint64(f)*machine.PageSize)), machine.PageSize/unsafe.Sizeof(floor.Space{}))
		for i := range page {
			spaces.free = append(spaces.free, &page[i])
		}
	}
	n := len(spaces.free) - 1
	hot := spaces.free[n]
	spaces.free = spaces.free[:n]
	return hot, nil
}

func check(va, length uint64) {
	if (va|length)&(machine.PageSize-1) != 0 || va >= machine.UserTop || length > machine.UserTop-va {
		panic("machine: bad range of user addresses")
	}
}

// next returns the table below e, making one if need be.
func (s *space) next(e *uint64) (*table, error) {
	v := atomic.LoadUint64(e)
	if v != 0 {
		return tableAt(v), nil
	}
	f, err := s.m.Alloc()
	if err != nil {
		return nil, err
	}
	v = uint64(f)*machine.PageSize | present | writable | user
	if !atomic.CompareAndSwapUint64(e, 0, v) {
		s.m.Free(f, 1) // another thread was quicker
		return tableAt(atomic.LoadUint64(e)), nil
	}
	s.addTable(f)
	return tableAt(v), nil
}

func (s *space) addTable(f machine.Frame) {
	s.mu.Lock()
	s.tables = append(s.tables, f)
	s.mu.Unlock()
}

// Tables implements machine.Space.
func (s *space) Tables() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.tables)) + 1
}

// dropTable frees a table that no entry points to any more.
func (s *space) dropTable(f machine.Frame) {
	s.mu.Lock()
	i := slices.Index(s.tables, f)
	last := len(s.tables) - 1
	s.tables[i] = s.tables[last]
	s.tables = s.tables[:last]
	s.mu.Unlock()
	s.m.Free(f, 1)
}

// directory returns the page directory that covers va, or nil.
func (s *space) directory(va uint64) *table {
	v := atomic.LoadUint64(&s.root[va>>39&511])
	if v == 0 {
		return nil
	}
	v = atomic.LoadUint64(&tableAt(v)[va>>30&511])
	if v == 0 {
		return nil
	}
	return tableAt(v)
}

func (s *space) makeDirectory(va uint64) (*table, error) {
	t, err := s.next(&s.root[va>>39&511])
	if err != nil {
		return nil, err
	}
	return s.next(&t[va>>30&511])
}

func leaf(f machine.Frame, acc machine.Access) uint64 {
	e := uint64(f) * machine.PageSize
	if acc == 0 {
		return e | parked
	}
	return e | rights(acc)
}

func rights(acc machine.Access) uint64 {
	e := uint64(present | user)
	if acc&machine.Write != 0 {
		e |= writable
	}
	if acc&machine.Exec == 0 {
		e |= noExec
	}
	return e
}

func access(e uint64) machine.Access {
	if e&present == 0 {
		return 0
	}
	acc := machine.Read
	if e&writable != 0 {
		acc |= machine.Write
	}
	if e&noExec == 0 {
		acc |= machine.Exec
	}
	return acc
}

// Map implements machine.Space.
func (s *space) Map(va uint64, f machine.Frame, acc machine.Access) error {
	check(va, machine.PageSize)
	d, err := s.makeDirectory(va)
	if err != nil {
		return err
	}
	e := &d[va>>21&511]
	if atomic.LoadUint64(e)&large != 0 {
		if err := s.split(e); err != nil {
			return err
		}
	}
	t, err := s.next(e)
	if err != nil {
		return err
	}
	old := atomic.SwapUint64(&t[va>>12&511], leaf(f, acc))
	if old&present != 0 {
		floor.Flush(s.hot, va, machine.PageSize)
	}
	return nil
}

// Fill implements machine.Space.
func (s *space) Fill(va uint64, frames []machine.Frame, acc machine.Access) {
	length := uint64(len(frames)) * machine.PageSize
	check(va, length)
	if va/machine.HugeSize != (va+length-1)/machine.HugeSize {
		panic("machine: Fill across page tables")
	}
	d, err := s.makeDirectory(va)
	if err != nil {
		return
	}
	e := &d[va>>21&511]
	if atomic.LoadUint64(e)&large != 0 {
		return
	}
	t, err := s.next(e)
	if err != nil {
		return
	}
	bits := leaf(0, acc)
	entries := t[va>>12&511:][:len(frames)]
	for i, f := range frames {
		if f != machine.NoFrame && entries[i] == 0 {
			atomic.StoreUint64(&entries[i], uint64(f)*machine.PageSize|bits)
			frames[i] = machine.NoFrame
		}
	}
}

// MapHuge implements machine.Space.
func (s *space) MapHuge(va uint64, f machine.Frame, acc machine.Access) error {
	check(va, machine.HugeSize)
	if va&(machine.HugeSize-1) != 0 || f&511 != 0 {
		panic("machine: large page not aligned")
	}
	d, err := s.makeDirectory(va)
	if err != nil {
		return err
	}
	e := &d[va>>21&511]
	if v := atomic.LoadUint64(e); v != 0 && v&large == 0 {
		// An empty table may be left over: it goes, once no CPU can walk it.
		atomic.StoreUint64(e, 0)
		floor.Flush(s.hot, va, machine.HugeSize)
		s.dropTable(machine.Frame(v & frameBits / machine.PageSize))
	}
	atomic.StoreUint64(e, leaf(f, acc)|large)
	return nil
}

// split turns a large page into 512 small ones with the same rights.
func (s *space) split(e *uint64) error {
	f, err := s.m.Alloc()
	if err != nil {
		r := floor.TakeReserve()
		if r == 0 {
			return err
		}
		f = machine.Frame(r)
	}
	v := atomic.LoadUint64(e)
	t := tableAt(uint64(f) * machine.PageSize)
	for i := range t {
		t[i] = v&^large + uint64(i)*machine.PageSize
	}
	s.addTable(f)
	atomic.StoreUint64(e, uint64(f)*machine.PageSize|present|writable|user)
	return nil
}

// block returns the entry of the page directory that covers va and the end of
// what it covers, at most end; e is nil where there is no directory.
func (s *space) block(va, end uint64) (e *uint64, stop uint64) {
	v := atomic.LoadUint64(&s.root[va>>39&511])
	if v == 0 {
		return nil, min((va>>39+1)<<39, end)
	}
	v = atomic.LoadUint64(&tableAt(v)[va>>30&511])
	if v == 0 {
		return nil, min((va>>30+1)<<30, end)
	}
	return &tableAt(v)[va>>21&511], min((va>>21+1)<<21, end)
}

// pages returns the entries of [va, stop), which lies within one entry e of a
// page directory: those of its small pages, or e itself if it is a large page
// that is wanted whole. A large page that is wanted in part is split first.
func (s *space) pages(e *uint64, va, stop uint64) (entries []uint64, whole bool) {
	v := atomic.LoadUint64(e)
	if v == 0 {
		return nil, false
	}
	if v&large != 0 {
		if stop-va == machine.HugeSize {
			return unsafe.Slice(e, 1), true
		}
		if s.split(e) != nil {
			panic("machine: no memory to split a large page")
		}
		v = atomic.LoadUint64(e)
	}
	i := va >> 12 & 511
	return tableAt(v)[i : i+(stop-va)>>12], false
}

// used returns the index of the first entry from i on that is not empty, len(entries) when there is none. Most tables are
// nearly empty.
func used(entries []uint64, i int) int {
	for i+8 <= len(entries) {
		e := (*[8]uint64)(entries[i:])
		if e[0]|e[1]|e[2]|e[3]|e[4]|e[5]|e[6]|e[7] != 0 {
			break
		}
		i += 8
	}
	for i < len(entries) && entries[i] == 0 {
		i++
	}
	return i
}

// hugeFrame returns the first frame of a large page.
func hugeFrame(v uint64) machine.Frame { return machine.Frame(v&frameBits/machine.PageSize) &^ 511 }

// A run of frames that Unmap took out.
type run struct {
	va uint64
	f  machine.Frame
	n  int
}

// A runList joins frames that follow each other both in memory and in the address space. It is handed on by value, so that
// a short one stays on the stack.
type runList struct {
	runs []run
	last run
}

func (l runList) add(va uint64, f machine.Frame, n int) runList {
	if k := l.last; f != k.f+machine.Frame(k.n) || va != k.va+uint64(k.n)*machine.PageSize {
		if k.n != 0 {
			l.runs = append(l.runs, k)
		}
		l.last = run{va, f, n}
		return l
	}
	l.last.n += n
	return l
}

// take takes the entries of small pages out that begin at va, and returns the bits that they had.
func (l runList) take(entries []uint64, va uint64) (_ runList, had uint64) {
	for i := used(entries, 0); i < len(entries); i = used(entries, i) {
		first, f := i, entries[i]&frameBits
		for next := f; i < len(entries) && entries[i]&frameBits == next; i++ {
			had |= atomic.SwapUint64(&entries[i], 0)
			next += machine.PageSize
		}
		l = l.add(va+uint64(first)*machine.PageSize, machine.Frame(f/machine.PageSize), i-first)
	}
	return l, had
}

// Unmap implements machine.Space.
func (s *space) Unmap(va, length uint64, freed func(va uint64, f machine.Frame, n int)) {
	check(va, length)
	var first [16]run
	l := runList{runs: first[:0]}
	live := uint64(0)
	for at, end := va, va+length; at < end; {
		e, stop := s.block(at, end)
		if e != nil {
			entries, whole := s.pages(e, at, stop)
			if whole {
				v := atomic.SwapUint64(e, 0)
				live |= v
				l = l.add(at, hugeFrame(v), machine.HugeSize/machine.PageSize)
			} else {
				var had uint64
				l, had = l.take(entries, at)
				live |= had
			}
		}
		at = stop
	}
	if live&present != 0 {
		floor.Flush(s.hot, va, length)
	}
	if freed == nil || l.last.n == 0 {
		return
	}
	for i := range l.runs {
		freed(l.runs[i].va, l.runs[i].f, l.runs[i].n)
	}
	freed(l.last.va, l.last.f, l.last.n)
}

// Protect implements machine.Space.
func (s *space) Protect(va, length uint64, acc machine.Access) {
	check(va, length)
	bits := uint64(parked)
	if acc != 0 {
		bits = rights(acc)
	}
	live := uint64(0)
	for at, end := va, va+length; at < end; {
		e, stop := s.block(at, end)
		if e != nil {
			keep := uint64(frameBits)
			entries, whole := s.pages(e, at, stop)
			if whole {
				keep |= large
			}
			for i := range entries {
				if v := entries[i]; v != 0 {
					live |= v
					atomic.StoreUint64(&entries[i], v&keep|bits)
				}
			}
		}
		at = stop
	}
	if live&present != 0 {
		floor.Flush(s.hot, va, length)
	}
}

// Lookup implements machine.Space.
func (s *space) Lookup(va uint64) (machine.Frame, machine.Access, bool) {
	if va >= machine.UserTop {
		return 0, 0, false
	}
	d := s.directory(va)
	if d == nil {
		return 0, 0, false
	}
	v := atomic.LoadUint64(&d[va>>21&511])
	if v == 0 {
		return 0, 0, false
	}
	if v&large != 0 {
		return machine.Frame(v&frameBits/machine.PageSize)&^511 + machine.Frame(va>>12&511), access(v), true
	}
	v = atomic.LoadUint64(&tableAt(v)[va>>12&511])
	return machine.Frame(v & frameBits / machine.PageSize), access(v), v != 0
}

// Large implements machine.Space.
func (s *space) Large(va uint64) bool {
	if va >= machine.UserTop {
		return false
	}
	d := s.directory(va)
	return d != nil && atomic.LoadUint64(&d[va>>21&511])&large != 0
}

// Share implements machine.Space.
func (s *space) Share(child machine.Space, va, length uint64, shared func(f machine.Frame, n int)) error {
	check(va, length)
	c := child.(*space)
	var err error
	live := uint64(0)
	for at, end := va, va+length; at < end && err == nil; {
		e, stop := s.block(at, end)
		if e != nil {
			var had uint64
			had, err = s.shareBlock(c, e, at, stop, shared)
			live |= had
		}
		at = stop
	}
	if live&writable != 0 {
		floor.Flush(s.hot, va, length)
	}
	return err
}

// shareBlock is Share within one entry of a page directory; it returns the bits
// that the entries had.
func (s *space) shareBlock(c *space, e *uint64, va, stop uint64, shared func(f machine.Frame, n int)) (had uint64, err error) {
	entries, whole := s.pages(e, va, stop)
	i := used(entries, 0)
	if i == len(entries) {
		return 0, nil
	}
	to, err := c.room(va, stop, whole)
	if err != nil {
		return 0, err
	}
	if whole {
		had = shareRun(entries, to)
		shared(hugeFrame(had), machine.HugeSize/machine.PageSize)
		return had, nil
	}
	for ; i < len(entries); i = used(entries, i) {
		n := runLength(entries[i:])
		had |= shareRun(entries[i:i+n], to[i:i+n])
		shared(machine.Frame(entries[i]&frameBits/machine.PageSize), n)
		i += n
	}
	return had, nil
}

// runLength returns how many entries of small pages map frames that follow each other.
func runLength(entries []uint64) int {
	next := entries[0] & frameBits
	for i, v := range entries {
		if v&frameBits != next {
			return i
		}
		next += machine.PageSize
	}
	return len(entries)
}

// shareRun copies entries without the right to write, which it takes away in from too, and returns the bits that they had.
// Nobody runs in the space of to yet.
func shareRun(from, to []uint64) (had uint64) {
	to = to[:len(from)]
	for i, v := range from {
		had |= v
		if v&writable != 0 {
			v &^= writable
			atomic.StoreUint64(&from[i], v)
		}
		to[i] = v
	}
	return had
}

// room returns the entries of [va, stop), which lies within one entry of a page
// directory; the tables are made. whole: the entry itself, for a large page.
func (s *space) room(va, stop uint64, whole bool) ([]uint64, error) {
	d, err := s.makeDirectory(va)
	if err != nil {
		return nil, err
	}
	e := &d[va>>21&511]
	if whole {
		return unsafe.Slice(e, 1), nil
	}
	t, err := s.next(e)
	if err != nil {
		return nil, err
	}
	i := va >> 12 & 511
	return t[i : i+(stop-va)>>12], nil
}

// Barrier implements machine.Space: the call is a barrier on this CPU.
func (s *space) Barrier() { floor.Barrier(s.hot) }

// Destroy implements machine.Space.
func (s *space) Destroy() {
	floor.Forget(s.hot)
	for _, f := range s.tables {
		s.m.Free(f, 1)
	}
	s.m.Free(machine.Frame(s.hot.Root()/machine.PageSize), 1)
	spaces.mu.Lock()
	spaces.free = append(spaces.free, s.hot)
	spaces.mu.Unlock()
	s.hot, s.root, s.tables = nil, nil, nil
}
