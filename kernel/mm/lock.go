package mm

import "golang.org/x/sys/unix"

// Nothing is ever swapped out, so a locked page is one that was made present
// and is counted.

// mayLock checks RLIMIT_MEMLOCK for so many more pages: EPERM when nothing may be locked at all,
// EAGAIN beyond the limit. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) mayLock(pages uint64) error {
	switch {
	case as.limits.IPCLock:
		return nil
	case as.limits.Memlock == 0:
		return unix.EPERM
	case as.locked+pages > as.limits.Memlock/pageSize:
		return unix.EAGAIN
	}
	return nil
}

// Lock is mlock2(2); flags is MLOCK_ONFAULT or 0. EINVAL; EPERM; ENOMEM: beyond the limit, or not all is mapped.
func (as *AddressSpace) Lock(addr, length uint64, mlockFlags int, by Caller) error {
	if mlockFlags&^unix.MLOCK_ONFAULT != 0 {
		return unix.EINVAL
	}
	f := flagLocked
	if mlockFlags != 0 {
		f |= flagOnFault
	}
	return as.lockRange(addr, length, f, by)
}

// Unlock is munlock(2). EINVAL; ENOMEM: not all is mapped.
func (as *AddressSpace) Unlock(addr, length uint64) error {
	return as.lockRange(addr, length, 0, nil)
}

// lockRange gives the areas of a range the flags f in place of flagLocked and flagOnFault.
func (as *AddressSpace) lockRange(addr, length uint64, f flags, by Caller) error {
	if addr+length < addr {
		return unix.EINVAL
	}
	start, end, ok := span(pageDown(addr), length+addr&pageMask)
	if !ok {
		return unix.ENOMEM
	}
	if err := as.lockAreas(start, end, f); err != nil || f != flagLocked {
		return err
	}
	return as.populate(start, end, by)
}

func (as *AddressSpace) lockAreas(start, end uint64, f flags) error {
	as.mu.Lock()
	defer as.unlock()
	return as.setLocked(start, end, f)
}

// setLocked sets the lock flags of start..end. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) setLocked(start, end uint64, f flags) error {
	const mask = flagLocked | flagOnFault
	if f&flagLocked != 0 {
		more := uint64(0)
		for i := as.search(start); i < len(as.areas) && as.areas[i].start < end; i++ {
			if a := as.areas[i]; a.flags&(flagLocked|flagHugeTLB) == 0 {
				more += (min(a.end, end) - max(a.start, start)) / pageSize
			}
		}
		if err := as.mayLock(more); err == unix.EAGAIN {
			return unix.ENOMEM
		} else if err != nil {
			return err
		}
	}
	var err error
	for at := start; at < end; {
		var a *area
		var affected bool
		if a, affected, err = as.part(at, end, func(a *area) bool { return a.flags&mask != f && !a.hugeTLB() }); err != nil {
			break
		}
		if affected {
			as.lockArea(a, f)
		}
		at = a.end
	}
	as.merge(start, end)
	return err
}

// lockArea gives a the lock flags f.
//
// +checklocks:as.mu
func (as *AddressSpace) lockArea(a *area, f flags) {
	if a.flags&flagLocked != 0 {
		as.locked -= a.pages()
	}
	a.flags = a.flags&^(flagLocked|flagOnFault) | f
	if f&flagLocked != 0 {
		as.locked += a.pages()
	}
}

// LockAll is mlockall(2) with MCL_*, and munlockall(2) with 0. EINVAL; EPERM; ENOMEM: beyond the limit.
func (as *AddressSpace) LockAll(mcl int, by Caller) error {
	const known = unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT
	if mcl&^known != 0 || mcl == unix.MCL_ONFAULT {
		return unix.EINVAL
	}
	f := flags(0)
	if mcl != 0 {
		f = flagLocked
		if mcl&unix.MCL_ONFAULT != 0 {
			f |= flagOnFault
		}
	}
	all, err := as.lockAll(mcl, f)
	if err == nil && f == flagLocked {
		for _, r := range all {
			_ = as.populate(r.Addr, r.Addr+r.Len, by) // like Linux, which does not report it
		}
	}
	return err
}

// lockAll sets the lock flags of all areas, for MCL_CURRENT or munlockall(2), and of future
// ones. It returns the former.
func (as *AddressSpace) lockAll(mcl int, f flags) ([]Range, error) {
	as.mu.Lock()
	defer as.unlock()
	if mcl != 0 && !as.limits.IPCLock {
		if as.limits.Memlock == 0 {
			return nil, unix.EPERM
		}
		if mcl&unix.MCL_CURRENT != 0 && as.size > as.limits.Memlock/pageSize {
			return nil, unix.ENOMEM
		}
	}
	as.future = 0
	if mcl&unix.MCL_FUTURE != 0 {
		as.future = f
	}
	if mcl != 0 && mcl&unix.MCL_CURRENT == 0 {
		return nil, nil
	}
	var all []Range
	for _, a := range as.areas {
		all = append(all, Range{a.start, a.end - a.start})
	}
	for _, r := range all {
		// Whole areas, within the limit: nothing can fail.
		_ = as.setLocked(r.Addr, r.Addr+r.Len, f)
	}
	return all, nil
}
