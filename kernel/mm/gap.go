package mm

import "golang.org/x/sys/unix"

// stackGap is the room that is kept free below a stack (stack_guard_gap).
const stackGap = 256 * pageSize

// gapHint saves the search for free addresses from looking at all areas: between
// top and the layout's MmapBase no gap is larger than hole.
type gapHint struct {
	top  uint64 // 0: start at MmapBase
	hole uint64
}

// freed notes that the addresses below areas[next] became free.
//
// +checklocks:as.mu
func (h *gapHint) freed(as *AddressSpace, next int) {
	top := as.layout.MmapBase
	if next < len(as.areas) {
		top = min(top, as.areas[next].floor())
	}
	h.top = max(h.top, top)
}

// floor returns the address that whatever comes below a must end at.
func (a *area) floor() uint64 {
	if a.flags&flagGrowsDown != 0 {
		return a.start - min(a.start, stackGap)
	}
	return a.start
}

// findGap returns the highest free range of length bytes below the mmap base, or else
// anywhere; ENOMEM. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) findGap(length, align uint64) (uint64, error) {
	h := &as.gaps
	if h.top == 0 || length <= h.hole {
		h.top, h.hole = as.layout.MmapBase, 0
	}
	for {
		full := h.top == as.layout.MmapBase
		if addr, ok := as.gapBelow(length, align); ok {
			h.top = addr
			return addr, nil
		}
		h.top, h.hole = as.layout.MmapBase, 0
		if full {
			return as.findGapIn(minAddr, userTop, length, align)
		}
	}
}

// gapBelow looks below the hint's top and keeps the hint's hole up to date.
//
// +checklocks:as.mu
func (as *AddressSpace) gapBelow(length, align uint64) (uint64, bool) {
	h, top := &as.gaps, as.gaps.top
	i := as.search(top - 1)
	if i < len(as.areas) && as.areas[i].start < top {
		i++
	}
	if i < len(as.areas) {
		top = min(top, as.areas[i].floor())
	}
	for ; ; i-- {
		low := uint64(minAddr)
		if i > 0 {
			low = max(low, as.areas[i-1].end)
		}
		if top > low {
			if top-low >= length {
				if addr := (top - length) &^ (align - 1); addr >= low {
					h.hole = max(h.hole, top-addr-length)
					return addr, true
				}
			}
			h.hole = max(h.hole, top-low)
		}
		if i == 0 {
			return 0, false
		}
		top = min(top, as.areas[i-1].floor())
	}
}

// findGapIn returns the lowest free range of length bytes in low..high that is aligned; ENOMEM.
//
// +checklocks:as.mu
func (as *AddressSpace) findGapIn(low, high, length, align uint64) (uint64, error) {
	for i := as.search(low); ; i++ {
		low = (low + align - 1) &^ (align - 1)
		top := high
		if i < len(as.areas) {
			top = min(top, as.areas[i].floor())
		}
		if top > low && top-low >= length {
			return low, nil
		}
		if i == len(as.areas) || as.areas[i].end >= high {
			return 0, unix.ENOMEM
		}
		low = max(low, as.areas[i].end)
	}
}

// free reports whether nothing is mapped in start..end and no stack too near above.
//
// +checklocks:as.mu
func (as *AddressSpace) free(start, end uint64) bool {
	i := as.search(start)
	return i == len(as.areas) || as.areas[i].floor() >= end
}
