package bare

import (
	"sync/atomic"

	"gosv/machine"
)

// Next implements machine.Space.
func (s *space) Next(va, end uint64) (at uint64, ok bool) {
	check(va, end-va)
	for va < end {
		e, stop := s.block(va, end)
		if e != nil {
			switch v := atomic.LoadUint64(e); {
			case v&large != 0:
				return va, true
			case v != 0:
				t := tableAt(v)
				for p := va; p < stop; p += machine.PageSize {
					if atomic.LoadUint64(&t[p>>12&511]) != 0 {
						return p, true
					}
				}
			}
		}
		va = stop
	}
	return end, false
}
