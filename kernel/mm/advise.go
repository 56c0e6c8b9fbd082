package mm

import (
	"golang.org/x/sys/unix"
)

// Advise is madvise(2). EINVAL: unaligned, unknown advice, or not for this kind of
// area; ENOMEM: part of the range is not mapped (the rest is served); EACCES: MADV_REMOVE of what
// may not be written; EFAULT, ENOMEM: MADV_POPULATE_READ and MADV_POPULATE_WRITE could not.
func (as *AddressSpace) Advise(addr, length uint64, advice int, by Caller) error {
	if addr&pageMask != 0 || addr+pageUp(length) < addr || length != 0 && pageUp(length) == 0 {
		return unix.EINVAL
	}
	start, end, ok := span(addr, length)
	switch advice {
	case unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_COLD, unix.MADV_PAGEOUT,
		unix.MADV_DONTNEED, unix.MADV_DONTNEED_LOCKED, unix.MADV_FREE, unix.MADV_WILLNEED, unix.MADV_REMOVE,
		unix.MADV_DONTFORK, unix.MADV_DOFORK, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK,
		unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_DONTDUMP, unix.MADV_DODUMP,
		unix.MADV_POPULATE_READ, unix.MADV_POPULATE_WRITE:
	default: // also for MADV_MERGEABLE, MADV_COLLAPSE and MADV_HWPOISON: Linux without these options
		return unix.EINVAL
	}
	if length == 0 {
		return nil
	}
	if !ok {
		return unix.ENOMEM
	}
	switch advice {
	case unix.MADV_REMOVE:
		return as.punch(start, end)
	case unix.MADV_WILLNEED:
		return as.willNeed(start, end)
	case unix.MADV_POPULATE_READ, unix.MADV_POPULATE_WRITE:
		return as.populateAs(start, end, advice == unix.MADV_POPULATE_WRITE, by)
	}
	as.mu.Lock()
	defer as.unlock()
	gap := !as.covered(start, end)
	for i := as.search(start); i < len(as.areas) && as.areas[i].start < end; i++ {
		a := as.areas[i]
		if err := as.adviseArea(max(a.start, start), min(a.end, end), advice); err != nil {
			as.merge(start, end)
			return err
		}
		i = as.search(max(a.start, start)) // the area may have been cut
	}
	as.merge(start, end)
	if gap {
		return unix.ENOMEM
	}
	return nil
}

// adviseArea serves what of a range lies in one area. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) adviseArea(start, end uint64, advice int) error {
	a := as.areas[as.search(start)]
	if a.hugeTLB() {
		if done, err := adviseHuge(start, &end, advice); done || err != nil {
			return err
		}
	}
	switch advice {
	case unix.MADV_DONTNEED, unix.MADV_DONTNEED_LOCKED:
		if advice == unix.MADV_DONTNEED && a.flags&flagLocked != 0 {
			return unix.EINVAL
		}
		as.zap(start, end)
	case unix.MADV_FREE:
		// Freeing at once is one of the things that may happen.
		if a.cache != nil || a.flags&flagLocked != 0 {
			return unix.EINVAL
		}
		as.zap(start, end)
	case unix.MADV_DONTFORK:
		return as.setFlags(start, end, flagDontFork, 0)
	case unix.MADV_DOFORK:
		return as.setFlags(start, end, 0, flagDontFork)
	case unix.MADV_WIPEONFORK:
		if a.cache != nil {
			return unix.EINVAL
		}
		return as.setFlags(start, end, flagWipeOnFork, 0)
	case unix.MADV_KEEPONFORK:
		return as.setFlags(start, end, 0, flagWipeOnFork)
	case unix.MADV_HUGEPAGE:
		return as.setFlags(start, end, flagHuge, flagNoHuge)
	case unix.MADV_NOHUGEPAGE:
		return as.setFlags(start, end, flagNoHuge, flagHuge)
	case unix.MADV_DONTDUMP:
		return as.setFlags(start, end, flagDontDump, 0)
	case unix.MADV_DODUMP:
		return as.setFlags(start, end, 0, flagDontDump)
	}
	return nil
}

// setFlags sets and clears flags of the areas in start..end, which is mapped.
//
// +checklocks:as.mu
func (as *AddressSpace) setFlags(start, end uint64, set, drop flags) error {
	for at := start; at < end; {
		a, affected, err := as.part(at, end, func(a *area) bool { return a.flags&(set|drop) != set })
		if err != nil {
			return err
		}
		if affected {
			a.flags = a.flags&^drop | set
		}
		at = a.end
	}
	return nil
}

// pieces calls do for what of each area lies in start..end, without lock; the object
// is held meanwhile. do gets the area's fields as they were. ENOMEM, after all
// the rest was served, when there are gaps.
func (as *AddressSpace) pieces(start, end uint64, do func(p *plan, start, end uint64) error) error {
	gap := false
	for at := start; at < end; {
		as.mu.RLock()
		i := as.search(at)
		if i == len(as.areas) || as.areas[i].start >= end {
			as.mu.RUnlock()
			gap = true
			break
		}
		a := as.areas[i]
		gap = gap || a.start > at
		at = max(at, a.start)
		stop := min(a.end, end)
		p := plan{end: a.end, prot: a.prot, maxProt: a.maxProt, flags: a.flags, object: a.object, cache: a.cache}
		if p.object != nil {
			p.page = a.index(at)
			p.object.IncRef()
		}
		as.mu.RUnlock()
		err := do(&p, at, stop)
		if p.object != nil {
			p.object.DecRef()
		}
		if err != nil {
			return err
		}
		at = stop
	}
	if gap {
		return unix.ENOMEM
	}
	return nil
}

// punch is MADV_REMOVE: it makes holes in shared memory.
func (as *AddressSpace) punch(start, end uint64) error {
	return as.pieces(start, end, func(p *plan, start, end uint64) error {
		switch {
		case p.flags&flagLocked != 0 || p.cache == nil || p.cache.Backed():
			return unix.EINVAL
		case !p.shared() || p.prot&unix.PROT_WRITE == 0:
			return unix.EACCES
		}
		return p.cache.PunchHole(int64(p.page*pageSize), int64(end-start))
	})
}

// willNeed is MADV_WILLNEED: it reads pages of files in.
func (as *AddressSpace) willNeed(start, end uint64) error {
	return as.pieces(start, end, func(p *plan, start, end uint64) error {
		if p.cache != nil && p.cache.Backed() {
			_ = p.cache.Allocate(int64(p.page*pageSize), int64(end-start)) // only advice
		}
		return nil
	})
}
