package mm

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// FaultError says which signal a page fault deserves.
type FaultError struct {
	Signal unix.Signal // SIGSEGV or SIGBUS
	Code   int32       // si_code
}

func (e *FaultError) Error() string { return e.Signal.String() }

// The codes of sigaction(2).
const (
	SEGV_MAPERR = 1 // nothing is mapped there
	SEGV_ACCERR = 2 // what is mapped does not allow it
	BUS_ADRERR  = 2 // beyond the end of the file, or it could not be read
)

var (
	errUnmapped = &FaultError{unix.SIGSEGV, SEGV_MAPERR}
	errAccess   = &FaultError{unix.SIGSEGV, SEGV_ACCERR}
	errBus      = &FaultError{unix.SIGBUS, BUS_ADRERR}
)

// AccessOf translates machine.Context.Error of a page fault.
func AccessOf(code uint64) machine.Access {
	switch {
	case code&machine.FaultFetch != 0:
		return machine.Exec
	case code&machine.FaultWrite != 0:
		return machine.Write
	}
	return machine.Read
}

// Faults on pages of one 64 KiB block are served one after the other.
const (
	blockShift  = 16
	blockPages  = 1 << blockShift / pageSize
	stripeCount = 64
)

func (as *AddressSpace) stripe(va uint64) *sync.Mutex {
	return &as.stripes[va>>blockShift%stripeCount]
}

// Fault serves a page fault: the program did what access says at addr. Nil
// means that the instruction may be tried again. Otherwise it is a *FaultError, or ENOMEM when there
// is no memory for the page.
func (as *AddressSpace) Fault(addr uint64, access machine.Access) error {
	if addr >= userTop {
		return errUnmapped
	}
	va := pageDown(addr)
	small := false // a large page was tried in vain
	short := false // so was taking one back from children
	for {
		switch err := as.faultOnce(va, access, small); err {
		case errNoArea:
			if err := as.growStack(va); err != nil {
				return err
			}
		case errTryHuge:
			small = !as.faultHuge(va)
		case errHugeTLB:
			err := as.faultHugeTLB(va, access)
			if err != errHugeShort {
				return err
			}
			if short || !as.retakeHuge(va) {
				return errBus
			}
			short = true
		case errTryWhole:
			small = !as.grantWhole(va)
		case mem.ErrNotLoaded:
			if err := as.load(va); err != nil {
				return faultError(err)
			}
		default:
			return faultError(err)
		}
	}
}

// What faultOnce asks for, besides mem.ErrNotLoaded.
var (
	errNoArea   = errors.New("no area")
	errTryHuge  = errors.New("large page wanted")
	errTryWhole = errors.New("large page may be written again")
	errHugeTLB  = errors.New("a large page of the pool")
)

// errHugeShort is what faultHugeTLB returns when a page must be copied and the pool is empty.
var errHugeShort = errors.New("no large page for a copy")

// faultOnce serves a fault if that can be done at once; otherwise its error says what must
// happen first. small: do not ask for anything with large pages.
func (as *AddressSpace) faultOnce(va uint64, access machine.Access, small bool) error {
	as.mu.RLock()
	defer as.mu.RUnlock()
	a := as.find(va)
	switch {
	case a == nil:
		return errNoArea
	case a.access&access != access:
		return errAccess
	case a.hugeTLB():
		return errHugeTLB
	case a.cache != nil:
		return as.faultCached(a, va, access)
	case access&machine.Write != 0 && !small && a.end-a.start >= machine.HugeSize && as.wantsHuge(a, va):
		return errTryHuge
	case access&machine.Write != 0 && !small && a.split && as.sole(a, va):
		return errTryWhole
	}
	return as.faultAnonymous(a, va, access)
}

// load brings the page of a file at va into memory, and some behind it.
func (as *AddressSpace) load(va uint64) error {
	as.mu.RLock()
	a := as.find(va)
	if a == nil || a.cache == nil {
		as.mu.RUnlock()
		return nil // unmapped meanwhile: the next try will tell
	}
	cache, object, index := a.cache, a.object, a.index(va)
	object.IncRef()
	as.mu.RUnlock()
	defer object.DecRef()
	return cache.LoadAt(index)
}

// faultError turns an error of a cache into what Fault returns.
func faultError(err error) error {
	switch err {
	case nil, unix.ENOMEM, errAccess:
		return err
	}
	return errBus
}

// faultAnonymous serves a fault on private anonymous memory. as.mu is held shared.
func (as *AddressSpace) faultAnonymous(a *area, va uint64, access machine.Access) error {
	stripe := as.stripe(va)
	stripe.Lock()
	defer stripe.Unlock()
	if f, acc, ok := as.space.Lookup(va); ok {
		return as.faultPresent(a, va, f, acc, access)
	}
	if access&machine.Write == 0 {
		f, err := as.pool.Zero()
		if err != nil {
			return err
		}
		return as.enter(va, f, a.access&^machine.Write)
	}
	f, err := as.pool.Alloc()
	if err != nil {
		return err
	}
	return as.enter(va, f, a.access)
}

// enter maps f, whose reference it takes over, at va where nothing is; ENOMEM.
func (as *AddressSpace) enter(va uint64, f machine.Frame, acc machine.Access) error {
	if as.space.Map(va, f, acc) != nil {
		as.pool.Unref(f)
		return unix.ENOMEM
	}
	as.rss[as.pool.Kind(f)].Add(1)
	return nil
}

// faultPresent serves a fault on f, which is mapped at va with the rights acc. The
// stripe is held.
func (as *AddressSpace) faultPresent(a *area, va uint64, f machine.Frame, acc, access machine.Access) error {
	if acc&access == access {
		return nil // another thread was faster
	}
	if access&machine.Write == 0 {
		return as.grant(a, va, f, a.access&(acc|^machine.Write))
	}
	if a.shared() {
		// A page of a file becomes dirty.
		g, err := a.cache.Cached(a.index(va), true)
		if err != nil {
			return err
		}
		as.pool.Unref(g)
		a.written()
		return as.grant(a, va, f, a.access)
	}
	if as.pool.Exclusive(f) {
		return as.grant(a, va, f, a.access)
	}
	return as.unshare(a, va, f)
}

// written tells the object of a store.
func (a *area) written() {
	if w, ok := a.object.(Watcher); ok {
		w.MapWritten()
	}
}

// grant gives the page f at va more rights.
func (as *AddressSpace) grant(a *area, va uint64, f machine.Frame, acc machine.Access) error {
	if a.split {
		as.space.Protect(va, pageSize, acc)
		return nil
	}
	if as.space.Map(va, f, acc) != nil {
		return unix.ENOMEM
	}
	return nil
}

// unshare replaces f at va, which others hold too, by a copy that may be written
// (copy on write). The stripe is held.
func (as *AddressSpace) unshare(a *area, va uint64, f machine.Frame) error {
	g, err := as.copyOf(f)
	if err != nil {
		return err
	}
	// Other CPUs must not go on reading f, so it is unmapped first.
	as.space.Unmap(va, pageSize, nil)
	if as.space.Map(va, g, a.access) != nil {
		// The page table was there a moment ago: only a machine without any
		// memory left gets here, and the program is about to be killed.
		as.pool.Unref(g)
		as.rss[as.pool.Kind(f)].Add(-1)
		as.pool.Unref(f)
		return unix.ENOMEM
	}
	as.rss[as.pool.Kind(f)].Add(-1)
	as.rss[mem.Anonymous].Add(1)
	as.pool.Unref(f)
	if a.cache != nil && !a.copied.Load() {
		a.copied.Store(true)
	}
	return nil
}

// copyOf returns a private copy of f; ENOMEM.
func (as *AddressSpace) copyOf(f machine.Frame) (machine.Frame, error) {
	g, err := as.pool.Alloc()
	if err == nil && !as.pool.IsZero(f) {
		copy(as.pool.Bytes(g), as.pool.Bytes(f))
	}
	return g, err
}

// faultCached serves a fault on a page of a cache. ErrNotLoaded: the page must be loaded
// first, without locks. as.mu is held shared.
func (as *AddressSpace) faultCached(a *area, va uint64, access machine.Access) error {
	stripe := as.stripe(va)
	stripe.Lock()
	defer stripe.Unlock()
	if f, acc, ok := as.space.Lookup(va); ok {
		return as.faultPresent(a, va, f, acc, access)
	}
	if access&machine.Write == 0 {
		return as.faultAround(a, va)
	}
	f, err := a.cache.Cached(a.index(va), a.shared())
	if err != nil {
		return err
	}
	if a.shared() {
		a.written()
		return as.enter(va, f, a.access)
	}
	g, err := as.copyOf(f)
	as.pool.Unref(f)
	if err != nil {
		return err
	}
	if !a.copied.Load() {
		a.copied.Store(true)
	}
	return as.enter(va, g, a.access)
}

// faultAround maps the page at va for reading, and those of its block that are in memory
// too. The stripe is held.
func (as *AddressSpace) faultAround(a *area, va uint64) error {
	f, err := a.cache.Cached(a.index(va), false)
	if err != nil {
		return err
	}
	if err := as.enter(va, f, a.cached()); err != nil {
		return err
	}
	start := max(va>>blockShift<<blockShift, a.start)
	end := min((va>>blockShift+1)<<blockShift, a.end)
	var frames [blockPages]machine.Frame
	n := (end - start) / pageSize
	a.cache.CachedRun(a.index(start), frames[:n])
	left := frames
	as.space.Fill(start, left[:n], a.cached()) // the page asked for is there; these are extra
	var entered mem.Tally
	for i, f := range frames[:n] {
		switch {
		case f == machine.NoFrame:
		case left[i] == machine.NoFrame:
			entered[as.pool.Kind(f)]++
		default:
			as.pool.Unref(f)
		}
	}
	as.countRSS(&entered, 1)
	return nil
}

const (
	// hugeAreaMin is the size in bytes from which areas get large pages unasked.
	hugeAreaMin = 8 << 20
	// hugeFreeMin is how many frames must be free for that.
	hugeFreeMin = 16 * mem.HugeFrames
)

// hugeBlock returns the aligned 2 MiB that va is in; ok is false when they are not all in a.
func (a *area) hugeBlock(va uint64) (start uint64, ok bool) {
	start = va &^ (machine.HugeSize - 1)
	return start, start >= a.start && start+machine.HugeSize <= a.end
}

// wantsHuge reports whether a large page should be tried for a write at va: the area is large
// or madvise(2) asked for it, nothing is mapped around va, and memory is plentiful. as.mu is held
// shared.
func (as *AddressSpace) wantsHuge(a *area, va uint64) bool {
	block, ok := a.hugeBlock(va)
	if !ok || a.access&machine.Write == 0 || a.flags&(flagNoHuge|flagGrowsDown) != 0 ||
		a.flags&flagHuge == 0 && a.end-a.start < hugeAreaMin {
		return false
	}
	if _, some := as.space.Next(block, block+machine.HugeSize); some {
		return false
	}
	total, free := as.pool.Usage()
	return free >= hugeFreeMin && free >= total/4
}

// faultHuge maps a large page around va, and reports whether it did. The caller saw that
// wantsHuge, but holds no lock any more.
func (as *AddressSpace) faultHuge(va uint64) bool {
	f, err := as.pool.AllocHuge()
	if err != nil {
		return false
	}
	as.mu.Lock()
	defer as.unlock()
	a := as.find(va)
	if a != nil && a.cache == nil && as.wantsHuge(a, va) {
		block, _ := a.hugeBlock(va)
		if as.space.MapHuge(block, f, a.access) == nil {
			a.split = true
			as.rss[mem.Anonymous].Add(mem.HugeFrames)
			return true
		}
	}
	var unused mem.Tally
	as.pool.UnrefRun(f, mem.HugeFrames, &unused)
	return false
}

// sole reports whether the large page around va, which fork(2) took the right to write from, is
// this address space's alone again. It may err if the page is not large any more. as.mu is held,
// maybe shared.
func (as *AddressSpace) sole(a *area, va uint64) bool {
	block, ok := a.hugeBlock(va)
	if !ok {
		return false
	}
	first, acc, ok := as.space.Lookup(block)
	if !ok || acc&machine.Write != 0 {
		return false
	}
	if f, _, ok := as.space.Lookup(va); !ok || f != first+machine.Frame((va-block)/pageSize) {
		return false
	}
	for i := range machine.Frame(mem.HugeFrames) {
		if !as.pool.Exclusive(first + i) {
			return false
		}
	}
	return true
}

// grantWhole lets the program write to the large page around va again, and reports whether
// that was possible.
func (as *AddressSpace) grantWhole(va uint64) bool {
	as.mu.Lock()
	defer as.unlock()
	a := as.find(va)
	if a == nil || a.cache != nil || a.access&machine.Write == 0 || !as.sole(a, va) {
		return false
	}
	block, _ := a.hugeBlock(va)
	first, _, _ := as.space.Lookup(block)
	for i := range uint64(mem.HugeFrames) {
		if f, _, ok := as.space.Lookup(block + i*pageSize); !ok || f != first+machine.Frame(i) {
			return false
		}
	}
	as.space.Protect(block, machine.HugeSize, a.access)
	return true
}
