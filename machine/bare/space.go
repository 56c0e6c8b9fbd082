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

// walk calls visit for each entry that maps something in [va, end): a small
// page, or a large page that lies wholly inside; others are split first.
func (s *space) walk(va, end uint64, visit func(va uint64, e *uint64, pages int)) {
	for va < end {
		d := s.directory(va)
		if d == nil {
			va = (va>>30 + 1) << 30
			continue
		}
		e := &d[va>>21&511]
		v := atomic.LoadUint64(e)
		stop := min((va>>21+1)<<21, end)
		switch {
		case v == 0:
		case v&large != 0 && va&(machine.HugeSize-1) == 0 && stop-va == machine.HugeSize:
			visit(va, e, 512)
		default:
			if v&large != 0 {
				if s.split(e) != nil {
					panic("machine: no memory to split a large page")
				}
				v = atomic.LoadUint64(e)
			}
			t := tableAt(v)
			for ; va < stop; va += machine.PageSize {
				if p := &t[va>>12&511]; *p != 0 {
					visit(va, p, 1)
				}
			}
		}
		va = stop
	}
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
	var first [8]run
	runs := first[:0]
	live := false
	s.walk(va, va+length, func(va uint64, e *uint64, pages int) {
		v := atomic.SwapUint64(e, 0)
		live = live || v&present != 0
		f := machine.Frame(v & frameBits / machine.PageSize)
		if pages == 512 {
			f &^= 511
		}
		if n := len(runs); n > 0 && runs[n-1].f+machine.Frame(runs[n-1].n) == f && runs[n-1].va+uint64(runs[n-1].n)*machine.PageSize == va {
			runs[n-1].n += pages
			return
		}
		runs = append(runs, run{va, f, pages})
	})
	if live {
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
	live := false
	s.walk(va, va+length, func(_ uint64, e *uint64, pages int) {
		v := *e
		n := v&(frameBits|large) | parked
		if acc != 0 {
			n = v&(frameBits|large) | rights(acc)
		}
		if pages == 1 {
			n &^= large
		}
		atomic.StoreUint64(e, n)
		live = live || v&present != 0
	})
	if live {
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
	live := false
	s.walk(va, va+length, func(va uint64, e *uint64, pages int) {
		if err != nil {
			return
		}
		v := *e &^ writable
		if err = c.enter(va, v, pages); err != nil {
			return
		}
		live = live || *e&writable != 0
		atomic.StoreUint64(e, v)
		f := machine.Frame(v & frameBits / machine.PageSize)
		if pages == 512 {
			f &^= 511
		}
		if shared != nil {
			shared(f, pages)
		}
	})
	if live {
		floor.Flush(s.hot, va, length)
	}
	return err
}

// enter stores an entry as another space has it.
func (s *space) enter(va, v uint64, pages int) error {
	d, err := s.makeDirectory(va)
	if err != nil {
		return err
	}
	e := &d[va>>21&511]
	if pages == 512 {
		atomic.StoreUint64(e, v)
		return nil
	}
	t, err := s.next(e)
	if err != nil {
		return err
	}
	atomic.StoreUint64(&t[va>>12&511], v)
	return nil
}

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
