package bare

import (
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
}

// spaces hands out the parts of spaces that the floor looks at; they lie
// outside the Go heap, since the floor remembers their addresses.
var spaces struct {
	mu   sync.Mutex
	free []*floor.Space // guarded by mu
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
	s := &space{m: m, hot: hot, root: tableAt(uint64(f) * machine.PageSize)}
	copy(s.root[256:], tableAt(floor.KernelRoot())[256:])
	hot.Init(uint64(f) * machine.PageSize)
	return s, nil
}

func (m *Machine) newHot() (*floor.Space, error) {
	spaces.mu.Lock()
	defer spaces.mu.Unlock()
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
		v = atomic.LoadUint64(e)
	}
	return tableAt(v), nil
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
		s.m.Free(machine.Frame(v&frameBits/machine.PageSize), 1)
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

// frameOf returns the first frame that an entry maps, and how many.
func frameOf(v uint64, whole bool) (machine.Frame, int) {
	f := machine.Frame(v & frameBits / machine.PageSize)
	if whole {
		return f &^ 511, 512
	}
	return f, 1
}

// A run of frames that Unmap took out.
type run struct {
	va uint64
	f  machine.Frame
	n  int
}

// Unmap implements machine.Space.
func (s *space) Unmap(va, length uint64, freed func(va uint64, f machine.Frame, n int)) {
	check(va, length)
	var first [16]run
	runs := first[:0]
	live := uint64(0)
	for at, end := va, va+length; at < end; {
		e, stop := s.block(at, end)
		if e != nil {
			entries, whole := s.pages(e, at, stop)
			for i := range entries {
				if entries[i] == 0 {
					continue
				}
				v := atomic.SwapUint64(&entries[i], 0)
				live |= v
				f, n := frameOf(v, whole)
				p := at + uint64(i)*machine.PageSize
				if k := len(runs) - 1; k >= 0 && runs[k].f+machine.Frame(runs[k].n) == f && runs[k].va+uint64(runs[k].n)*machine.PageSize == p {
					runs[k].n += n
				} else {
					runs = append(runs, run{p, f, n})
				}
			}
		}
		at = stop
	}
	if live&present != 0 {
		floor.Flush(s.hot, va, length)
	}
	if freed != nil {
		for i := range runs {
			freed(runs[i].va, runs[i].f, runs[i].n)
		}
	}
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
	var to []uint64
	for i := range entries {
		v := entries[i]
		if v == 0 {
			continue
		}
		if to == nil {
			if to, err = c.room(va, stop, whole); err != nil {
				return had, err
			}
		}
		had |= v
		if v&writable != 0 {
			v &^= writable
			atomic.StoreUint64(&entries[i], v)
		}
		atomic.StoreUint64(&to[i], v)
		if shared != nil {
			shared(frameOf(v, whole))
		}
	}
	return had, nil
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
	for _, e3 := range s.root[:256] {
		if e3 == 0 {
			continue
		}
		for _, e2 := range tableAt(e3) {
			if e2 == 0 {
				continue
			}
			for _, e1 := range tableAt(e2) {
				if e1 != 0 && e1&large == 0 {
					s.freeTable(e1)
				}
			}
			s.freeTable(e2)
		}
		s.freeTable(e3)
	}
	s.freeTable(s.hot.Root())
	spaces.mu.Lock()
	spaces.free = append(spaces.free, s.hot)
	spaces.mu.Unlock()
	s.hot, s.root = nil, nil
}

func (s *space) freeTable(e uint64) {
	s.m.Free(machine.Frame(e&frameBits/machine.PageSize), 1)
}
