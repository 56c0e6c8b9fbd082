package procfs

import (
	"gosv/kernel/mem"
	"gosv/kernel/mm"
)

// A resident is what smaps says of an area, or of all.
type resident struct {
	mm.Residence
	hugeShared, hugePrivate uint64
	locked                  uint64 // as Residence.Share
}

// residentOf looks at one area.
func residentOf(as *mm.AddressSpace, a *mm.AreaInfo) (r resident) {
	if a.HugeTLB {
		r.hugeShared, r.hugePrivate = as.ResidentHuge(a.Start, a.End)
		return r
	}
	if r.Residence = as.Resident(a.Start, a.End); a.Locked {
		r.locked = r.all()
	}
	return r
}

func (r *resident) add(o *resident) {
	r.Residence.Add(&o.Residence)
	r.hugeShared += o.hugeShared
	r.hugePrivate += o.hugePrivate
	r.locked += o.locked
}

// all is the share of all kinds.
func (r *resident) all() (n uint64) {
	for _, s := range r.Share {
		n += s
	}
	return n
}

// A field is a line of smaps.
type field struct {
	name string
	kib  uint64
}

// show writes the lines in Linux's order (__show_smap in fs/proc/task_mmu.c), rollup with those of smaps_rollup alone.
func (r *resident) show(b *out, rollup bool) {
	share := func(name string, n uint64) field { return field{name, n >> (10 + mm.ShareShift)} }
	pages := func(name string, n uint64) field { return field{name, n * 4} }
	lines := []field{pages("Rss", r.Pages), share("Pss", r.all()), share("Pss_Dirty", r.all()-r.Share[mem.File])}
	if rollup {
		lines = append(lines, share("Pss_Anon", r.Share[mem.Anonymous]), share("Pss_File", r.Share[mem.File]), share("Pss_Shmem", r.Share[mem.Shmem]))
	}
	lines = append(lines, pages("Shared_Clean", r.SharedClean), pages("Shared_Dirty", r.SharedDirty), pages("Private_Clean", r.PrivateClean),
		pages("Private_Dirty", r.PrivateDirty), pages("Referenced", r.Pages), pages("Anonymous", r.Anonymous), pages("AnonHugePages", r.Large),
		pages("Shared_Hugetlb", r.hugeShared), pages("Private_Hugetlb", r.hugePrivate), field{"Swap", 0}, field{"SwapPss", 0}, share("Locked", r.locked))
	for _, l := range lines {
		b.kib(l.name, l.kib, 16)
	}
}

// smapsRecord is that of maps with what of the area is in memory.
var smapsRecord = areaRecord(func(as *mm.AddressSpace, a *mm.AreaInfo, b *out) {
	mapsLine(b, a)
	page := uint64(1)
	if a.HugeTLB {
		page = mem.HugeFrames
	}
	b.kb("Size", (a.End-a.Start)/4096, 16)
	b.kb("KernelPageSize", page, 16)
	b.kb("MMUPageSize", page, 16)
	r := residentOf(as, a)
	r.show(b, false)
})

// showRollup is the sum of smaps.
func showRollup(v *view, b *out) error {
	v.memory(func(as *mm.AddressSpace) {
		var sum resident
		var all mm.AreaInfo // from the first to the last
		for i, a := range as.Areas() {
			if i == 0 {
				all.Start = a.Start
			}
			all.End = a.End
			r := residentOf(as, &a)
			sum.add(&r)
		}
		all.Name = "[rollup]"
		mapsLine(b, &all)
		sum.show(b, true)
	})
	return nil
}
