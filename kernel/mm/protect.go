package mm

import (
	"golang.org/x/sys/unix"

	"gosv/machine"
)

// Protect is mprotect(2). EINVAL: unaligned, unknown bits; ENOMEM: part of the range is not
// mapped, a limit, too many areas; EACCES: more than the file was opened for.
func (as *AddressSpace) Protect(addr, length uint64, prot int) error {
	const grows = unix.PROT_GROWSDOWN | unix.PROT_GROWSUP
	const sem = 8 // PROT_SEM, which means nothing on x86
	if prot&^(protAll|grows|sem) != 0 || prot&grows == grows || addr&pageMask != 0 {
		return unix.EINVAL
	}
	if length == 0 {
		return nil
	}
	start, end, ok := span(addr, length)
	if !ok {
		return unix.ENOMEM
	}
	as.mu.Lock()
	defer as.unlock()
	if prot&grows != 0 {
		i := as.search(start)
		if i == len(as.areas) || as.areas[i].start > start || prot&unix.PROT_GROWSUP != 0 ||
			as.areas[i].flags&flagGrowsDown == 0 {
			return unix.EINVAL
		}
		start = as.areas[i].start
	}
	var err error
	for at := start; at < end && err == nil; {
		var a *area
		var affected bool
		if a, affected, err = as.part(at, end, func(a *area) bool { return a.prot != prot&protAll }); err != nil {
			break
		}
		if affected {
			err = as.protect(a, prot&protAll)
		}
		at = a.end
	}
	as.merge(start, end)
	return err
}

// part returns the area at the address at, after cutting it there and at end if it lies across them and affects says that it will be
// changed, which affected tells: ENOMEM when nothing is there. Who goes through a range with it merges when all is done.
//
// +checklocks:as.mu
func (as *AddressSpace) part(at, end uint64, affects func(*area) bool) (a *area, affected bool, err error) {
	i := as.search(at)
	if i == len(as.areas) || as.areas[i].start > at {
		return nil, false, unix.ENOMEM
	}
	if a = as.areas[i]; !affects(a) {
		return a, false, nil
	}
	if err := as.cut(at); err != nil {
		return nil, false, err
	}
	if err := as.cut(end); err != nil {
		return nil, false, err
	}
	return as.areas[as.search(at)], true, nil
}

// protect gives all of a the rights prot.
//
// +checklocks:as.mu
func (as *AddressSpace) protect(a *area, prot int) error {
	if prot&^a.maxProt != 0 {
		return unix.EACCES
	}
	data := !a.isData() && prot&unix.PROT_WRITE != 0 && a.flags&(flagShared|flagGrowsDown) == 0
	if data && as.data+a.pages() > as.limits.Data/pageSize {
		return unix.ENOMEM
	}
	if chargeable(prot, a.flags) && a.flags&flagCharged == 0 {
		if err := as.pool.Commit(a.pages(), a.flags&flagNoReserve != 0); err != nil {
			return err
		}
		a.flags |= flagCharged
	}
	wasData := a.isData()
	old := a.access
	a.prot, a.access = prot, accessOf(prot)
	if a.isData() != wasData {
		if wasData {
			as.data -= a.pages()
		} else {
			as.data += a.pages()
		}
	}
	as.reprotect(a, old)
	return nil
}

// regrantMax is up to how many pages mprotect gives the right to write back at once,
// instead of leaving it to faults.
const regrantMax = 16

// reprotect brings the page tables in line with a's rights, which were old. Pages
// whose writes must be noticed do not become writable here.
func (as *AddressSpace) reprotect(a *area, old machine.Access) {
	if a.shared() && !a.cache.Backed() {
		as.space.Protect(a.start, a.end-a.start, a.access)
		return
	}
	readable := a.access &^ machine.Write
	if old != readable {
		as.space.Protect(a.start, a.end-a.start, readable)
	}
	if a.access&machine.Write == 0 || a.shared() || a.split || a.pages() > regrantMax {
		return
	}
	for va := a.start; va < a.end; va += pageSize {
		if f, _, ok := as.space.Lookup(va); ok && as.pool.Exclusive(f) {
			_ = as.space.Map(va, f, a.access) // without it the next write faults
		}
	}
}
