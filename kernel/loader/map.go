package loader

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/mm"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// mapObject maps the segments of o and returns what was added to its addresses. hint is
// where a position-independent object should go; 0 lets mm choose.
func mapObject(as *mm.AddressSpace, f *vfs.File, o *object, hint uint64) (bias uint64, err error) {
	if o.dyn {
		if bias, err = place(as, o, hint); err != nil {
			return 0, err
		}
	}
	for i := range o.segments {
		if err := mapSegment(as, f, &o.segments[i], bias); err != nil {
			return 0, err
		}
	}
	return bias, nil
}

// place finds room for all of o: ENOMEM.
func place(as *mm.AddressSpace, o *object, hint uint64) (bias uint64, err error) {
	lo, hi := o.span()
	lo &^= o.align - 1
	size := hi - lo
	if size+o.align > machine.UserTop {
		return 0, unix.ENOMEM
	}
	base := (hint + o.align - 1) &^ (o.align - 1)
	if hint == 0 || base+size > machine.UserTop {
		room := size + o.align - machine.PageSize
		at, err := as.Map(mm.MapArgs{Length: room, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE})
		if err != nil {
			return 0, err
		}
		if err := as.Unmap(at, room); err != nil {
			return 0, err
		}
		base = (at + o.align - 1) &^ (o.align - 1)
	}
	return base - lo, nil
}

// mapSegment maps one segment: pages of the file, then zeros.
func mapSegment(as *mm.AddressSpace, f *vfs.File, s *segment, bias uint64) error {
	start := s.vaddr + bias
	end := start + s.msiz
	if start > machine.UserTop || end > machine.UserTop || end < start {
		return unix.EINVAL
	}
	within := start & pageMask
	zeros := start &^ pageMask // where anonymous pages begin
	if s.filesz != 0 {
		_, err := as.Map(mm.MapArgs{
			Addr: start - within, Length: s.filesz + within, Prot: s.prot(),
			Flags: unix.MAP_PRIVATE | unix.MAP_FIXED, Object: f, Offset: s.offset - within,
		})
		if err != nil {
			return err
		}
		fileEnd := start + s.filesz
		zeros = (fileEnd + pageMask) &^ pageMask
		// What the file has behind the segment in its last page is not the
		// program's. A segment that nobody can write keeps it, as on Linux.
		if tail := min(zeros, end) - fileEnd; s.msiz > s.filesz && tail > 0 && s.flags&pfW != 0 {
			if err := as.Zero(fileEnd, zeros-fileEnd); err != nil {
				return err
			}
		}
	}
	if end <= zeros {
		return nil
	}
	// They may be written whatever the segment says, as on Linux, and so are accounted.
	_, err := as.Map(mm.MapArgs{
		Addr: zeros, Length: end - zeros, Prot: s.prot()&unix.PROT_EXEC | unix.PROT_READ | unix.PROT_WRITE,
		Flags: unix.MAP_PRIVATE | unix.MAP_FIXED | unix.MAP_ANONYMOUS,
	})
	return err
}

// code returns the addresses of the executable segments, mm_struct's start_code and end_code.
func (o *object) code(bias uint64) (start, end uint64) {
	start = machine.UserTop
	for i := range o.segments {
		if s := &o.segments[i]; s.flags&pfX != 0 {
			start, end = min(start, s.vaddr+bias), max(end, s.vaddr+s.filesz+bias)
		}
	}
	return min(start, end), end
}
