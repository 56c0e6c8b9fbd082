package mm

import (
	"golang.org/x/sys/unix"

	"gosv/machine"
)

// A Caller is the thread that asks for pages. Filling a range can take minutes, so it ends early, with EINTR, when the thread was
// killed. A nil Caller never is.
type Caller interface{ Killed() bool }

func ended(by Caller) bool { return by != nil && by.Killed() }

// populate makes the pages of start..end present, so that the program need not fault. ENOMEM when
// a page is not mapped or there is no memory; EINTR; pages that allow no access are left out.
func (as *AddressSpace) populate(start, end uint64, by Caller) error {
	for at := start; at < end; {
		as.mu.RLock()
		a := as.find(at)
		if a == nil {
			as.mu.RUnlock()
			return unix.ENOMEM
		}
		stop, access := min(a.end, end), a.access&machine.Read
		if a.access&machine.Write != 0 && !a.shared() {
			access = machine.Write
		}
		as.mu.RUnlock()
		for ; access != 0 && at < stop; at += pageSize {
			if ended(by) {
				return unix.EINTR
			}
			if as.Fault(at, access) != nil {
				return unix.ENOMEM
			}
		}
		at = stop
	}
	return nil
}

// populateAs is MADV_POPULATE_READ and MADV_POPULATE_WRITE: faults ahead of use. EINVAL when an area
// does not allow the access; EFAULT for a page beyond the end of its file.
func (as *AddressSpace) populateAs(start, end uint64, write bool, by Caller) error {
	access := accessOf(unix.PROT_READ)
	if write {
		access = accessOf(unix.PROT_WRITE)
	}
	for va := start; va < end; va += pageSize {
		if ended(by) {
			return unix.EINTR
		}
		switch err := as.Fault(va, access); err {
		case nil:
		case errAccess:
			return unix.EINVAL
		case errBus:
			return unix.EFAULT
		default:
			return unix.ENOMEM
		}
	}
	return nil
}
