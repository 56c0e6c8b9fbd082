package procfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/mm"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// pagemap is /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst): a word for each page of the address space, by position: whether
// it is present, and for those who may know, its frame.
type pagemap struct {
	vfs.FileDefaults
	v *view
}

const (
	pagemapPresent = 1 << 63
	pagemapFrame   = 1<<55 - 1
	pagemapChunk   = 512 // words made at a time
)

func openPagemap(v *view) (vfs.FileOps, error) { return &pagemap{v: v}, nil }

// Seek implements vfs.FileOps.
func (*pagemap) Seek(*vfs.File, int64, int) (int64, error) { return 0, unix.EINVAL }

// Read implements vfs.FileOps: EINVAL when the position or the length is no multiple of 8.
func (p *pagemap) Read(f *vfs.File, dst uio.Sink, off int64) (done int64, err error) {
	if off%8 != 0 || dst.Left()%8 != 0 {
		return 0, unix.EINVAL
	}
	frames := f.Cred().Capable(unix.CAP_SYS_ADMIN)
	p.v.memory(func(as *mm.AddressSpace) {
		var b [8 * pagemapChunk]byte
		for dst.Left() > 0 && err == nil {
			n := 0
			for ; n < min(len(b), dst.Left()); n += 8 {
				va := uint64(off+done+int64(n)) / 8 * machine.PageSize
				if va >= machine.UserTop {
					break
				}
				binary.LittleEndian.PutUint64(b[n:], pageWord(as, va, frames))
			}
			if n == 0 {
				return // behind the end
			}
			n, err = dst.Put(b[:n])
			done += int64(n)
		}
	})
	if done > 0 {
		err = nil
	}
	return done, err
}

func pageWord(as *mm.AddressSpace, va uint64, frames bool) uint64 {
	frame, _, ok := as.Space().Lookup(va)
	switch {
	case !ok:
		return 0
	case frames:
		return pagemapPresent | uint64(frame)&pagemapFrame
	}
	return pagemapPresent
}
