package mm

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// Peek reads like CopyIn, whatever the rights to the pages: for ptrace(2) and
// /proc/PID/mem. EFAULT where nothing is mapped, or a page cannot be had.
func (as *AddressSpace) Peek(dst []byte, va uint64) (int, error) {
	return as.force(len(dst), va, machine.Read, func(done int, page []byte) int { return copy(dst[done:], page) })
}

// Poke writes like CopyOut, even where the program itself may only read: then it gets
// a private copy of the page, as a debugger's breakpoints need. EFAULT where nothing is mapped,
// in shared memory that the program may not write, or when a page cannot be had.
func (as *AddressSpace) Poke(va uint64, src []byte) (int, error) {
	return as.force(len(src), va, machine.Write, func(done int, page []byte) int { return copy(page, src[done:]) })
}

// force hands n bytes at va to move, page by page; move returns how many it moved.
func (as *AddressSpace) force(n int, va uint64, access machine.Access, move func(done int, page []byte) int) (done int, err error) {
	for done < n {
		at := va + uint64(done)
		f, err := as.forcePage(pageDown(at), access)
		if err != nil {
			return done, unix.EFAULT
		}
		done += move(done, as.pool.Bytes(f)[at&pageMask:])
		as.pool.Unref(f)
	}
	return done, nil
}

// forcePage returns the page at va, referenced and, for Write, private or shared by intent.
func (as *AddressSpace) forcePage(va uint64, access machine.Access) (machine.Frame, error) {
	for {
		f, err := as.forceOnce(va, access)
		if err == errHugeTLB {
			if err := as.Fault(va, access); err != nil {
				return machine.NoFrame, err
			}
			continue
		}
		if err != mem.ErrNotLoaded {
			return f, err
		}
		if err := as.load(va); err != nil {
			return machine.NoFrame, err
		}
	}
}

func (as *AddressSpace) forceOnce(va uint64, access machine.Access) (machine.Frame, error) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	a := as.find(va)
	if a == nil || access == machine.Write && a.shared() && a.access&machine.Write == 0 {
		return machine.NoFrame, unix.EFAULT
	}
	if a.hugeTLB() {
		return as.forceHuge(a, va, access)
	}
	serve := as.faultAnonymous
	if a.cache != nil {
		serve = as.faultCached
	}
	if err := serve(a, va, access); err != nil {
		return machine.NoFrame, err
	}
	stripe := as.stripe(va)
	stripe.Lock()
	defer stripe.Unlock()
	f, _, ok := as.space.Lookup(va)
	if !ok {
		return machine.NoFrame, unix.EFAULT
	}
	as.pool.Ref(f)
	return f, nil
}

// forceHuge is forceOnce for large pages of the pool, whose rights Linux does not pass over either: errHugeTLB asks for a fault.
func (as *AddressSpace) forceHuge(a *area, va uint64, access machine.Access) (machine.Frame, error) {
	f, acc, ok := as.space.Lookup(va)
	switch {
	case a.access&access != access:
		return machine.NoFrame, unix.EFAULT
	case !ok || acc&access != access:
		return machine.NoFrame, errHugeTLB
	}
	as.pool.Ref(f)
	return f, nil
}
