package bare

import (
	"sync/atomic"

	"gosv/machine"
)

// Next returns the first address at or above va, below end, where a page is mapped;
// ok is false when there is none. Package mm looks for this method.
func (s *space) Next(va, end uint64) (at uint64, ok bool) {
	check(va, end-va)
	for va < end {
		if atomic.LoadUint64(&s.root[va>>39&511]) == 0 {
			va = (va>>39 + 1) << 39
			continue
		}
		d := s.directory(va)
		if d == nil {
			va = (va>>30 + 1) << 30
			continue
		}
		stop := min((va>>21+1)<<21, end)
		if v := atomic.LoadUint64(&d[va>>21&511]); v&large != 0 {
			return va, true
		} else if v != 0 {
			t := tableAt(v)
			for ; va < stop; va += machine.PageSize {
				if atomic.LoadUint64(&t[va>>12&511]) != 0 {
					return va, true
				}
			}
		}
		va = stop
	}
	return end, false
}
