package mm

import "golang.org/x/sys/unix"

// SetBrk says where the heap starts, in bytes: behind the program's data.
func (as *AddressSpace) SetBrk(start uint64) {
	as.mu.Lock()
	defer as.unlock()
	as.layout.BrkStart, as.brk = start, start
}

// Brk is the system call brk(2): it makes the heap end at addr if that is possible,
// and returns where it ends.
func (as *AddressSpace) Brk(addr uint64, by Caller) uint64 {
	old, brk, populate := as.setBrk(addr)
	if populate {
		_ = as.populate(pageUp(old), pageUp(brk), by) // like Linux, which does not report it
	}
	return brk
}

// setBrk moves the break if it can, and returns where it was and is; populate says that the
// pages in between are to be filled.
func (as *AddressSpace) setBrk(addr uint64) (old, brk uint64, populate bool) {
	as.mu.Lock()
	defer as.unlock()
	old = as.brk
	populate = as.moveBrk(addr)
	return old, as.brk, populate
}

// moveBrk does it. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) moveBrk(addr uint64) (populate bool) {
	heap := as.layout.BrkStart
	if addr < heap || addr > userTop {
		return false
	}
	start, end := pageUp(as.brk), pageUp(addr)
	switch {
	case end < start:
		if as.removeRange(end, start) != nil {
			return false
		}
	case end > start:
		if as.limits.Data != unix.RLIM_INFINITY && addr-heap > as.limits.Data || !as.free(start, end) {
			return false
		}
		p := plan{end: end - start, prot: unix.PROT_READ | unix.PROT_WRITE, maxProt: protAll, flags: as.future}
		pages := p.end / pageSize
		if p.flags&flagLocked != 0 && as.mayLock(pages) != nil ||
			as.mayGrow(pages, true) != nil || len(as.areas) >= MaxAreas() || as.add(&p, start) != nil {
			return false
		}
		populate = p.flags&(flagLocked|flagOnFault) == flagLocked
	}
	as.brk = addr
	return populate
}
