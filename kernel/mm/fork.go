package mm

import (
	"slices"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// Fork returns a copy of the address space, as fork(2) makes it: pages are shared until one of
// the two writes. MADV_DONTFORK areas are not in it, those of MADV_WIPEONFORK are empty, and
// memory locks are not inherited. Pages that a fault can find again, of shared mappings and of files, are left to
// faults. ENOMEM.
func (as *AddressSpace) Fork() (*AddressSpace, error) {
	child, err := New(as.machine, as.pool)
	if err != nil {
		return nil, err
	}
	as.mu.Lock()
	err = as.forkInto(child)
	as.unlock()
	if err != nil {
		child.Release()
		return nil, err
	}
	return child, nil
}

// forkInto fills the new address space child. as.mu is held; nobody knows child yet.
//
// +checklocks:as.mu
func (as *AddressSpace) forkInto(child *AddressSpace) error {
	child.mu.Lock()
	defer child.unlock()
	child.layout, child.brk, child.limits = as.layout, as.brk, as.limits
	child.areas = make([]*area, 0, len(as.areas)+4)
	copies := make([]area, len(as.areas))
	for i, a := range as.areas {
		if a.flags&flagDontFork != 0 {
			continue
		}
		if a.flags&flagCharged != 0 {
			if err := as.pool.Commit(a.pages(), a.flags&flagNoReserve != 0); err != nil {
				return err
			}
		}
		child.inherit(&copies[i], a)
	}
	child.maxRSS, child.peak = 0, child.size
	return as.sharePages(child)
}

// inherit makes b the child's copy of the parent's area a.
//
// +checklocks:child.mu
func (child *AddressSpace) inherit(b, a *area) {
	b.as, b.start, b.end = child, a.start, a.end
	b.flags = a.flags &^ (flagLocked | flagOnFault)
	b.prot, b.maxProt, b.access = a.prot, a.maxProt, a.access
	b.object, b.cache, b.page, b.split = a.object, a.cache, a.page, a.split
	b.copied.Store(a.copied.Load())
	if b.cache != nil {
		b.mapping = mem.Mapping{Mapper: b, Writable: a.mapping.Writable}
		b.cache.CopyMapping(&b.mapping)
		b.object.IncRef()
	}
	child.areas = append(child.areas, b)
	child.count(b, int64(b.pages()))
}

// sharePages maps the pages that only page tables know of into child too.
//
// +checklocks:as.mu
func (as *AddressSpace) sharePages(child *AddressSpace) error {
	var count mem.Tally
	err := as.shareAreas(child, func(f machine.Frame, n int) { as.pool.RefRun(f, n, &count) })
	child.countRSS(&count, 1)
	return err
}

// shareAreas is sharePages; shared is told of each run of pages. Areas near each other are done in one call.
//
// +checklocks:as.mu
func (as *AddressSpace) shareAreas(child *AddressSpace, shared func(f machine.Frame, n int)) error {
	needed := func(a *area) bool {
		return (a.cache == nil || a.copied.Load()) && a.flags&(flagDontFork|flagWipeOnFork) == 0
	}
	for rest := as.areas; ; {
		i := slices.IndexFunc(rest, needed)
		if i < 0 {
			return nil
		}
		rest = rest[i:]
		n := slices.IndexFunc(rest, func(a *area) bool { return !needed(a) })
		if n < 0 {
			n = len(rest)
		}
		n = cluster(rest[:n])
		start, end := rest[0].start, rest[n-1].end
		if as.space.Share(child.space, start, end-start, shared) != nil {
			return unix.ENOMEM
		}
		rest = rest[n:]
	}
}
