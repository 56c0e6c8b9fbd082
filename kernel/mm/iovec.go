package mm

import "gosv/kernel/uio"

// Range is a piece of a program's memory: one iovec.
type Range struct{ Addr, Len uint64 }

// IOVec is memory of a program that a system call reads or writes, as a uio.Sink and
// uio.Source. The zero value is empty. A task keeps one and sets it for each call, so
// that none is allocated. It belongs to one goroutine.
type IOVec struct {
	as   *AddressSpace
	cur  Range   // what is left of the range in use
	rest []Range // those after it
	left int     // bytes in cur and rest
}

// NewIOVec returns an IOVec over the ranges, one after the other.
func NewIOVec(as *AddressSpace, ranges []Range) *IOVec {
	v := &IOVec{}
	v.SetRanges(as, ranges)
	return v
}

// Set makes v stand for n bytes at addr.
func (v *IOVec) Set(as *AddressSpace, addr, n uint64) {
	v.as, v.cur.Addr, v.cur.Len, v.left = as, addr, n, int(n)
	v.rest = nil
}

// SetRanges makes v stand for the ranges, one after the other. Their total length must fit
// an int; v keeps the slice but does not change it.
func (v *IOVec) SetRanges(as *AddressSpace, ranges []Range) {
	*v = IOVec{as: as, rest: ranges}
	for _, r := range ranges {
		v.left += int(r.Len)
	}
}

// Left implements uio.Sink and uio.Source.
func (v *IOVec) Left() int { return v.left }

// Ranges returns a new list of what is left.
func (v *IOVec) Ranges() []Range {
	var list []Range
	if v.cur.Len > 0 {
		list = append(list, v.cur)
	}
	return append(list, v.rest...)
}

// Limit makes v end after n more bytes at most.
func (v *IOVec) Limit(n int) { v.left = min(v.left, n) }

// piece returns how many of n bytes are in the range in use, moving on to the next when
// it is used up.
func (v *IOVec) piece(n int) int {
	for v.cur.Len == 0 && len(v.rest) > 0 {
		v.cur, v.rest = v.rest[0], v.rest[1:]
	}
	return int(min(uint64(n), uint64(v.left), v.cur.Len))
}

func (v *IOVec) advance(n int) {
	v.cur.Addr += uint64(n)
	v.cur.Len -= uint64(n)
	v.left -= n
}

// Put implements uio.Sink.
func (v *IOVec) Put(p []byte) (done int, err error) {
	for err == nil && done < len(p) && v.left > 0 {
		n := v.piece(len(p) - done)
		n, err = v.as.CopyOut(v.cur.Addr, p[done:done+n])
		v.advance(n)
		done += n
	}
	return done, err
}

// Take implements uio.Source.
func (v *IOVec) Take(p []byte) (done int, err error) {
	for err == nil && done < len(p) && v.left > 0 {
		n := v.piece(len(p) - done)
		n, err = v.as.CopyIn(p[done:done+n], v.cur.Addr)
		v.advance(n)
		done += n
	}
	return done, err
}

// PutWord implements uio.Sink.
func (v *IOVec) PutWord(w uint64) error {
	if v.cur.Len >= 8 && v.left >= 8 && v.as.space.Store64(v.cur.Addr, w) {
		v.advance(8)
		return nil
	}
	return uio.WordTo(v, w)
}

// TakeWord implements uio.Source.
func (v *IOVec) TakeWord(most uint64) (uint64, error) {
	if v.cur.Len >= 8 && v.left >= 8 {
		if w, ok := v.as.space.Load64(v.cur.Addr); ok {
			if w <= most {
				v.advance(8)
			}
			return w, nil
		}
	}
	return v.takeWord(most)
}

func (v *IOVec) takeWord(most uint64) (uint64, error) {
	rest := *v
	w, err := uio.WordFrom(&rest)
	if err == nil && w <= most {
		*v = rest
	}
	return w, err
}
