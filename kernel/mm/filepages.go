package mm

import "golang.org/x/sys/unix"

// RemapFilePages is remap_file_pages(2): length bytes at addr, all in shared mappings of one file, show the file from page on. Like Linux
// since 4.0 it maps them anew. EINVAL: no length, or what is mapped there is not that; else the errors of Map.
func (as *AddressSpace) RemapFilePages(addr, length, page uint64, mapFlags int) error {
	addr, length = addr&^pageMask, length&^pageMask
	if addr+length <= addr || page+length/pageSize < page || page >= 1<<51 {
		return unix.EINVAL
	}
	a, err := as.sharedFile(addr, addr+length)
	if err != nil {
		return err
	}
	defer a.Object.DecRef()
	a.Addr, a.Length, a.Offset = addr, length, page*pageSize
	a.Flags |= unix.MAP_SHARED | unix.MAP_FIXED | unix.MAP_POPULATE | mapFlags&unix.MAP_NONBLOCK
	_, err = as.Map(a)
	return err
}

// sharedFile returns how the one file is mapped that start..end shows, with a reference to it: EINVAL.
func (as *AddressSpace) sharedFile(start, end uint64) (m MapArgs, err error) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	first := as.find(start)
	if first == nil || !first.shared() {
		return m, unix.EINVAL
	}
	for a := first; a.end < end; {
		next := as.find(a.end)
		if next == nil || next.object != first.object || next.flags != first.flags || next.prot != first.prot {
			return m, unix.EINVAL
		}
		a = next
	}
	first.object.IncRef()
	m = MapArgs{Object: first.object, Prot: first.prot, MaxProt: first.maxProt}
	if first.flags&flagLocked != 0 {
		m.Flags = unix.MAP_LOCKED
	}
	return m, nil
}
