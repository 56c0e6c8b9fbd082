package bare

import (
	"sync/atomic"

	"gosv/machine"
	"gosv/machine/floor"
)

// What one entry of a table covers, as a power of two.
const (
	dirShift   = 21 // of a page directory
	topShift   = 39 // of the PML4
	levelShift = 9  // what one level more adds
)

// Trim implements machine.Space. The tables are taken out first, and are free once no processor can be walking them.
func (s *space) Trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := parting{list: s.tables, kept: len(s.tables)}
	p.part(s.root[:256], topShift)
	if p.gone == 0 {
		return
	}
	floor.Flush(s.hot, 0, machine.HugeSize) // so much that all is forgotten, the ways to tables too
	for _, f := range s.tables[:p.gone] {
		s.m.Free(f, 1)
	}
	s.tables = s.tables[:copy(s.tables, s.tables[p.kept:])]
}

// A parting puts the tables of a space in order, in the list that they are in already: those that are gone, and those that are kept.
type parting struct {
	list       []machine.Frame
	gone, kept int // list[:gone] and list[kept:]
}

// part takes the empty tables out that entries, which cover 1<<shift bytes each, lead to, and reports whether anything is left.
func (p *parting) part(entries []uint64, shift uint) (left bool) {
	for i := used(entries, 0); i < len(entries); i = used(entries, i+1) {
		v := atomic.LoadUint64(&entries[i])
		if shift == dirShift && v&large != 0 {
			left = true
			continue
		}
		t, f := tableAt(v)[:], machine.Frame(v&frameBits/machine.PageSize)
		if shift > dirShift && p.part(t, shift-levelShift) || shift == dirShift && used(t, 0) < len(t) {
			left = true
			p.kept--
			p.list[p.kept] = f
			continue
		}
		atomic.StoreUint64(&entries[i], 0)
		p.list[p.gone] = f
		p.gone++
	}
	return left
}
