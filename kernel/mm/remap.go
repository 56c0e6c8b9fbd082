package mm

import (
	"golang.org/x/sys/unix"
)

// Remap is mremap(2): it returns the address of the newLength bytes into which the
// oldLength bytes at addr turned. EINVAL, EFAULT: the old range is not in one area; EAGAIN: locked memory beyond the
// limit; ENOMEM: no room in place and MREMAP_MAYMOVE not given, or none anywhere.
func (as *AddressSpace) Remap(addr, oldLength, newLength uint64, mremapFlags int, newAddr uint64, by Caller) (uint64, error) {
	r := remap{as: as, addr: addr, old: pageUp(oldLength), length: pageUp(newLength), flags: mremapFlags, to: newAddr}
	if err := r.check(); err != nil {
		return 0, err
	}
	got, fill, err := r.do()
	if fill {
		_ = as.populate(got+r.old, got+r.length, by) // like Linux, which does not report it
	}
	return got, err
}

// remap is one call of mremap(2).
type remap struct {
	as    *AddressSpace
	addr  uint64
	old   uint64 // length in bytes
	to    uint64 // MREMAP_FIXED, or a hint for MREMAP_DONTUNMAP
	flags int

	length uint64 // the new one
}

// check validates what does not depend on the areas.
func (r *remap) check() error {
	const known = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED | unix.MREMAP_DONTUNMAP
	moves := r.flags&unix.MREMAP_MAYMOVE != 0
	switch {
	case r.flags&^known != 0 || r.addr&pageMask != 0 || r.length == 0:
		return unix.EINVAL
	case r.flags&(unix.MREMAP_FIXED|unix.MREMAP_DONTUNMAP) != 0 && !moves:
		return unix.EINVAL
	case r.flags&unix.MREMAP_DONTUNMAP != 0 && r.old != r.length:
		return unix.EINVAL
	case r.addr >= userTop || r.old > userTop-r.addr:
		return unix.EFAULT
	case r.length > userTop:
		return unix.ENOMEM
	}
	if r.flags&unix.MREMAP_FIXED != 0 {
		if r.to&pageMask != 0 || r.to > userTop-r.length || r.to < r.addr+r.old && r.addr < r.to+r.length {
			return unix.EINVAL
		}
		if r.to < minAddr {
			return unix.EPERM
		}
	}
	return nil
}

// do does it, and reports whether the new pages are to be filled.
func (r *remap) do() (got uint64, fill bool, err error) {
	as := r.as
	as.mu.Lock()
	defer as.unlock()
	if got, err = r.run(); err != nil || r.length <= r.old {
		return got, false, err
	}
	return got, as.find(got).flags&(flagLocked|flagOnFault) == flagLocked, nil
}

// run chooses how. as.mu is held.
//
// +checklocks:r.as.mu
func (r *remap) run() (uint64, error) {
	as := r.as
	a := as.find(r.addr)
	if a == nil {
		return 0, unix.EFAULT
	}
	if a.hugeTLB() {
		if err := r.checkHuge(); err != nil {
			return 0, err
		}
	}
	switch {
	case r.old == 0 && !a.shared(): // a second mapping of shared memory
		return 0, unix.EINVAL
	case r.flags&unix.MREMAP_DONTUNMAP != 0 && a.cache != nil && a.shared():
		return 0, unix.EINVAL
	case r.addr+r.old > a.end && r.length >= r.old:
		return 0, unix.EFAULT
	case r.flags&unix.MREMAP_FIXED != 0 && r.to == r.addr: // r.old is 0: the room that is made takes what was to be mapped
		if err := as.removeRange(r.to, r.to+r.length); err != nil {
			return 0, err
		}
		return 0, unix.EFAULT
	}
	if r.flags&(unix.MREMAP_FIXED|unix.MREMAP_DONTUNMAP) != 0 {
		return r.move()
	}
	if r.length <= r.old {
		return r.addr, as.removeRange(r.addr+r.length, r.addr+r.old)
	}
	if ok, err := r.growInPlace(a); ok || err != nil {
		return r.addr, err
	}
	if r.flags&unix.MREMAP_MAYMOVE == 0 {
		return 0, unix.ENOMEM
	}
	return r.move()
}

// growInPlace makes a longer when the addresses behind it are free.
//
// +checklocks:r.as.mu
func (r *remap) growInPlace(a *area) (bool, error) {
	as, end := r.as, r.addr+r.length
	if r.old == 0 || r.addr+r.old != a.end || end > userTop || !as.free(a.end, end) {
		return false, nil
	}
	more := (r.length - r.old) / pageSize
	if err := as.mayRemap(a, more); err != nil {
		return false, err
	}
	if a.flags&flagCharged != 0 {
		if err := as.pool.Commit(more, a.flags&flagNoReserve != 0); err != nil {
			return false, err
		}
	}
	as.count(a, int64(more))
	a.end = end
	as.merge(a.start, end)
	return true, nil
}

// mayRemap checks the limits for so many more pages of a's kind.
//
// +checklocks:as.mu
func (as *AddressSpace) mayRemap(a *area, more uint64) error {
	if a.flags&flagLocked != 0 && as.mayLock(more) != nil {
		return unix.EAGAIN
	}
	return as.mayGrow(more, a.isData())
}

// move maps the range anew elsewhere, and takes its pages along.
//
// +checklocks:r.as.mu
func (r *remap) move() (uint64, error) {
	as := r.as
	if r.length < r.old {
		if err := as.removeRange(r.addr+r.length, r.addr+r.old); err != nil {
			return 0, err
		}
		r.old = r.length
	}
	if len(as.areas)+4 > MaxAreas() {
		return 0, unix.ENOMEM
	}
	a := as.find(r.addr)
	if a == nil || r.addr+r.old > a.end {
		return 0, unix.EFAULT
	}
	keep := r.flags&unix.MREMAP_DONTUNMAP != 0 || r.old == 0
	more := r.length / pageSize
	if !keep {
		more -= r.old / pageSize
	}
	if err := as.mayRemap(a, more); err != nil {
		return 0, err
	}
	p := plan{end: r.length, prot: a.prot, maxProt: a.maxProt, flags: a.flags &^ flagCharged,
		object: a.object, cache: a.cache}
	if a.cache != nil {
		p.page = a.index(r.addr)
	}
	to, err := r.target(&p)
	if err != nil {
		return 0, err
	}
	if err := r.mapLike(a, &p, to); err != nil {
		return 0, err
	}
	if r.old == 0 {
		return to, nil
	}
	if err := as.movePages(r.addr, to, r.old); err != nil {
		_ = as.removeRange(to, to+r.length) // nothing is mapped there; no area is cut in two
		return 0, err
	}
	if p.flags&flagHugeTLB != 0 {
		if err := as.moveReservation(r.addr, to, r.old); err != nil {
			return 0, err
		}
	}
	if keep {
		return to, nil
	}
	return to, as.removeRange(r.addr, r.addr+r.old)
}

// mapLike adds the area that p describes at to, with what a has besides: ENOMEM.
//
// +checklocks:r.as.mu
func (r *remap) mapLike(a *area, p *plan, to uint64) error {
	as := r.as
	charged, copied, split := a.flags&flagCharged != 0, a.copied.Load(), a.split
	if charged && !chargeable(p.prot, p.flags) {
		// Charged when it was writable: the copy must be charged alike.
		if err := as.pool.Commit(r.length/pageSize, p.flags&flagNoReserve != 0); err != nil {
			return err
		}
		p.flags |= flagCharged
	}
	if err := as.add(p, to); err != nil {
		return err
	}
	b := as.find(to)
	b.split = b.split || split
	if copied {
		b.copied.Store(true)
	}
	return nil
}

// target returns where the range goes, and makes room there.
//
// +checklocks:r.as.mu
func (r *remap) target(p *plan) (uint64, error) {
	if r.flags&unix.MREMAP_FIXED != 0 {
		return r.to, r.as.removeRange(r.to, r.to+r.length)
	}
	hint := uint64(0)
	if r.flags&unix.MREMAP_DONTUNMAP != 0 {
		hint = r.to
	}
	return r.as.place(p, hint, 0)
}

// movePages makes the pages of length bytes at from appear at to instead. ENOMEM, and then
// nothing has changed.
//
// +checklocks:as.mu
func (as *AddressSpace) movePages(from, to, length uint64) error {
	if a := as.find(from); a != nil && a.hugeTLB() {
		return as.moveHuge(from, to, length)
	}
	for va, ok := as.nextMapped(from, from+length); ok; va, ok = as.nextMapped(va+pageSize, from+length) {
		f, acc, _ := as.space.Lookup(va)
		if as.space.Map(va-from+to, f, acc) != nil {
			as.space.Unmap(to, length, nil)
			return unix.ENOMEM
		}
	}
	as.space.Unmap(from, length, nil)
	return nil
}
