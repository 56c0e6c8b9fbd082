package mm

import "golang.org/x/sys/unix"

// growStack makes the area above va, if it grows down, begin at va: within RLIMIT_STACK
// and the gap to the area below. Nil when va is mapped now. mmap(2), MAP_GROWSDOWN.
func (as *AddressSpace) growStack(va uint64) error {
	as.mu.RLock()
	i := as.search(va)
	hopeless := i == len(as.areas) || as.areas[i].start > va && as.areas[i].flags&flagGrowsDown == 0
	as.mu.RUnlock()
	if hopeless || va < minAddr {
		return errUnmapped
	}
	as.mu.Lock()
	defer as.unlock()
	i = as.search(va)
	if i == len(as.areas) {
		return errUnmapped
	}
	a := as.areas[i]
	if a.start <= va {
		return nil
	}
	if a.flags&flagGrowsDown == 0 || a.end-va > as.limits.Stack {
		return errUnmapped
	}
	if i > 0 {
		below := as.areas[i-1]
		gap := va - below.end
		if below.flags&flagGrowsDown == 0 && below.access != 0 && gap < stackGap {
			return errUnmapped
		}
	}
	pages := (a.start - va) / pageSize
	if as.mayGrow(pages, false) != nil || a.flags&flagLocked != 0 && as.mayLock(pages) != nil {
		return errUnmapped
	}
	if a.flags&flagCharged != 0 && as.pool.Commit(pages, false) != nil {
		return errUnmapped
	}
	a.start = va
	as.count(a, int64(pages))
	return nil
}

// MapStack maps the main thread's stack: size bytes that end at Layout.StackTop and grow
// down as far as RLIMIT_STACK allows. exec is PT_GNU_STACK's PF_X. ENOMEM.
func (as *AddressSpace) MapStack(size uint64, exec bool) error {
	prot := unix.PROT_READ | unix.PROT_WRITE
	if exec {
		prot |= unix.PROT_EXEC
	}
	_, err := as.Map(MapArgs{
		Addr:   as.Layout().StackTop - pageUp(size),
		Length: size,
		Prot:   prot,
		Flags:  unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_GROWSDOWN | unix.MAP_FIXED,
	})
	return err
}
