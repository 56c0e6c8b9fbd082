package mm

import "golang.org/x/sys/unix"

// Sync is msync(2): it stores what was written through shared mappings of files.
// EINVAL; EBUSY: MS_INVALIDATE of locked memory; ENOMEM: not all is mapped (the rest is
// stored); the backing's error.
func (as *AddressSpace) Sync(addr, length uint64, msFlags int) error {
	const known = unix.MS_ASYNC | unix.MS_INVALIDATE | unix.MS_SYNC
	const both = unix.MS_ASYNC | unix.MS_SYNC
	if msFlags&^known != 0 || msFlags&both == both || addr&pageMask != 0 {
		return unix.EINVAL
	}
	start, end, ok := span(addr, length)
	if !ok {
		return unix.ENOMEM
	}
	return as.pieces(start, end, func(p *plan, start, end uint64) error {
		if msFlags&unix.MS_INVALIDATE != 0 && p.flags&flagLocked != 0 {
			return unix.EBUSY
		}
		if msFlags&unix.MS_SYNC != 0 && p.cache != nil && p.shared() {
			return p.cache.Sync(p.page, p.page+(end-start)/pageSize-1)
		}
		return nil
	})
}

// Incore is mincore(2): it sets one byte of vec for each page to 1 when the page is in memory,
// else to 0. vec must have room. EINVAL: unaligned; ENOMEM: not all is mapped.
func (as *AddressSpace) Incore(addr, length uint64, vec []byte) error {
	start, end, ok := span(addr, length)
	if addr&pageMask != 0 {
		return unix.EINVAL
	}
	if !ok {
		return unix.ENOMEM
	}
	as.mu.RLock()
	defer as.mu.RUnlock()
	if !as.covered(start, end) {
		return unix.ENOMEM
	}
	for i := 0; start < end; start, i = start+pageSize, i+1 {
		vec[i] = 0
		if _, _, ok := as.space.Lookup(start); ok {
			vec[i] = 1
		} else if a := as.find(start); a.cache != nil && a.cache.Resident(a.index(start)) {
			vec[i] = 1
		}
	}
	return nil
}
