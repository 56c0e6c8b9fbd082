package mm

import (
	"gosv/kernel/mem"
	"gosv/machine"
)

// A Residence is what is in the page tables at some addresses, in pages, as /proc/PID/smaps tells it (proc(5)). The memory of programs
// and of tmpfs is dirty, the pages of other files are clean: which of them were written to only their file knows.
type Residence struct {
	Pages, Anonymous           uint64
	Large                      uint64 // in large pages that nobody asked for by name
	SharedClean, SharedDirty   uint64 // mapped by others too
	PrivateClean, PrivateDirty uint64
	Share                      [mem.Kinds]uint64 // of each page by its kind, divided by how many map it: in bytes << ShareShift
}

// ShareShift keeps the sum of many small shares right.
const ShareShift = 12

// Add adds what o counts.
func (r *Residence) Add(o *Residence) {
	r.Pages += o.Pages
	r.Anonymous += o.Anonymous
	r.Large += o.Large
	r.SharedClean += o.SharedClean
	r.SharedDirty += o.SharedDirty
	r.PrivateClean += o.PrivateClean
	r.PrivateDirty += o.PrivateDirty
	for k := range r.Share {
		r.Share[k] += o.Share[k]
	}
}

// Resident returns what is in the page tables at start..end.
func (as *AddressSpace) Resident(start, end uint64) (r Residence) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	start, end = pageDown(start), min(pageUp(end), userTop)
	for va, ok := as.nextMapped(start, end); ok; va, ok = as.nextMapped(va+pageSize, end) {
		f, _, ok := as.space.Lookup(va)
		if !ok || as.pool.IsZero(f) {
			continue
		}
		r.count(as.pool.Kind(f), as.pool.Refs(f))
		if as.space.Large(va) {
			r.Large++
		}
	}
	return r
}

// count counts a page that has refs references, of which one is the file's own.
func (r *Residence) count(k mem.Kind, refs int32) {
	r.Pages++
	if k == mem.Anonymous {
		r.Anonymous++
	} else {
		refs--
	}
	r.Share[k] += machine.PageSize << ShareShift / uint64(max(refs, 1))
	switch clean := k == mem.File; {
	case refs > 1 && clean:
		r.SharedClean++
	case refs > 1:
		r.SharedDirty++
	case clean:
		r.PrivateClean++
	default:
		r.PrivateDirty++
	}
}
