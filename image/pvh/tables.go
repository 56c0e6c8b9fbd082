package pvh

import (
	"debug/elf"
	"slices"

	"gosv/image/pclntab"
)

// withSmallTables makes the tables of functions small in an executable's segments. The pages that become free are left out
// of the image, and what is behind them moves down; those that still are between are for the kernel to use. An executable without such tables stays as it is.
func withSmallTables(f *elf.File, loads []segment) (out []segment, gap hole, err error) {
	tables, module := f.Section(pclntab.Section), f.Section(pclntab.Module)
	if tables == nil || module == nil {
		return loads, gap, nil
	}
	out = slices.Clone(loads)
	t, m := holder(out, tables), holder(out, module)
	if t < 0 || m < 0 || t == m || out[t].Filesz != out[t].Memsz {
		return nil, gap, pclntab.ErrFormat
	}
	for _, i := range []int{t, m} {
		out[i].data = slices.Clone(out[i].data)
	}
	start := tables.Addr - out[t].Vaddr
	used, err := pclntab.Shrink(out[t].data[start:][:tables.Size], tables.Addr, out[m].data[module.Addr-out[m].Vaddr:][:module.Size])
	if err != nil {
		return nil, gap, err
	}
	s := out[t]
	from := (s.Vaddr+start+uint64(used)+pageSize-1)&^(pageSize-1) - s.Vaddr
	to := (s.Vaddr+start+tables.Size)&^(pageSize-1) - s.Vaddr
	if from >= to {
		return out, gap, nil
	}
	flags := elf.ProgFlag(s.Flags)
	out = slices.Replace(out, t, t+1, load(flags, s.Vaddr, s.Paddr, s.data[:from]), load(flags, s.Vaddr+to, s.Paddr+to, s.data[to:]))
	gap = hole{s.Paddr + from, s.Paddr + to, 0}
	gap.close(out)
	return out, gap, nil
}

// close moves what is behind the gap, as far as large pages can map it.
func (h *hole) close(loads []segment) {
	h.shift = (h.to - h.from) &^ (largePage - 1)
	for i := range loads {
		if s := &loads[i]; s.Paddr >= h.to {
			s.Paddr -= h.shift
		}
	}
	h.to -= h.shift
}

// holder is the index of the segment that holds the section, or -1.
func holder(loads []segment, section *elf.Section) int {
	return slices.IndexFunc(loads, func(s segment) bool {
		return section.Addr >= s.Vaddr && section.Addr-s.Vaddr <= s.Filesz && section.Size <= s.Filesz-(section.Addr-s.Vaddr)
	})
}
