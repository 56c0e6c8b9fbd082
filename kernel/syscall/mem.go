package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/iouring"
	"gosv/kernel/mm"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/machine"
)

func memRows(r *table) {
	aProt := flags("prot", 1<<32-1, protNames) // mm refuses unknown ones
	aAdvice := choice("advice", adviceNames)
	r.set(unix.SYS_MMAP, call6("mmap", aAddr, aSize, aProt, aUint.as(flags("map flags", 1<<32-1, mapNames).formatter), aFD, aHex, sysMmap).address())
	r.set(unix.SYS_MUNMAP, call2("munmap", aAddr, aSize, func(t *task.Task, addr, n uint64) (uint64, error) { return done(t.Mem().Unmap(addr, n)) }))
	r.set(unix.SYS_MPROTECT, call3("mprotect", aAddr, aSize, aProt, func(t *task.Task, addr, n uint64, prot uint32) (uint64, error) {
		return done(t.Mem().Protect(addr, n, int(prot)))
	}))
	r.set(unix.SYS_PKEY_MPROTECT, call4("pkey_mprotect", aAddr, aSize, aProt, aInt, func(t *task.Task, addr, n uint64, prot uint32, key int32) (uint64, error) {
		if key != -1 {
			return 0, unix.EINVAL
		}
		return done(t.Mem().Protect(addr, n, int(prot)))
	}).partly("there are no protection keys: only -1"))
	r.set(unix.SYS_PKEY_ALLOC, missing("pkey_alloc", unix.ENOSPC, "no protection keys, as on a processor without them"))
	r.set(unix.SYS_PKEY_FREE, missing("pkey_free", unix.EINVAL, "no protection keys, as on a processor without them"))
	r.set(unix.SYS_BRK, call1("brk", aAddr, func(t *task.Task, addr uint64) (uint64, error) { return t.Mem().Brk(addr, t), nil }).address())
	r.set(unix.SYS_MREMAP, call5("mremap", aAddr, aSize, aSize, flags("flags", unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED|unix.MREMAP_DONTUNMAP, mremapNames), aAddr,
		func(t *task.Task, addr, oldLen, newLen uint64, flags uint32, newAddr uint64) (uint64, error) {
			return t.Mem().Remap(addr, oldLen, newLen, int(flags), newAddr, t)
		}).address())
	r.set(unix.SYS_REMAP_FILE_PAGES, call5("remap_file_pages", aAddr, aSize, aInt, aSize, aUint.as(flags("map flags", 1<<32-1, mapNames).formatter),
		func(t *task.Task, addr, n uint64, prot int32, page uint64, flags uint32) (uint64, error) {
			if prot != 0 {
				return 0, unix.EINVAL
			}
			return done(t.Mem().RemapFilePages(addr, n, page, int(flags)))
		}))
	r.set(unix.SYS_MADVISE, call3("madvise", aAddr, aSize, aAdvice, func(t *task.Task, addr, n uint64, advice int32) (uint64, error) {
		return done(t.Mem().Advise(addr, n, int(advice), t))
	}))
	r.set(unix.SYS_MSYNC, call3("msync", aAddr, aSize, flags("flags", unix.MS_ASYNC|unix.MS_INVALIDATE|unix.MS_SYNC, msyncNames), func(t *task.Task, addr, n uint64, flags uint32) (uint64, error) {
		return done(t.Mem().Sync(addr, n, int(flags)))
	}))
	r.set(unix.SYS_MINCORE, call3("mincore", aAddr, aSize, aAddr, sysMincore))
	r.set(unix.SYS_MLOCK, call2("mlock", aAddr, aSize, func(t *task.Task, addr, n uint64) (uint64, error) { return done(t.Mem().Lock(addr, n, 0, t)) }))
	r.set(unix.SYS_MLOCK2, call3("mlock2", aAddr, aSize, flags("flags", unix.MLOCK_ONFAULT, mlockNames), func(t *task.Task, addr, n uint64, flags uint32) (uint64, error) {
		return done(t.Mem().Lock(addr, n, int(flags), t))
	}))
	r.set(unix.SYS_MUNLOCK, call2("munlock", aAddr, aSize, func(t *task.Task, addr, n uint64) (uint64, error) { return done(t.Mem().Unlock(addr, n)) }))
	r.set(unix.SYS_MLOCKALL, call1("mlockall", flags("flags", unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT, mlockall), func(t *task.Task, flags uint32) (uint64, error) {
		if flags == 0 || flags == unix.MCL_ONFAULT {
			return 0, unix.EINVAL
		}
		return done(t.Mem().LockAll(int(flags), t))
	}))
	r.set(unix.SYS_MUNLOCKALL, call0("munlockall", func(t *task.Task) (uint64, error) { return done(t.Mem().LockAll(0, t)) }))
	r.set(unix.SYS_MEMBARRIER, call3("membarrier", aInt, aUint, aInt, func(t *task.Task, cmd int32, flags uint32, cpu int32) (uint64, error) {
		return t.Membarrier(cmd, flags, cpu)
	}))
	r.set(unix.SYS_PROCESS_MADVISE, call5("process_madvise", aFD, aAddr, aUlong, aInt, flags("flags", 0, nil), processMadvise).
		partly("no MADV_COLLAPSE"))
	r.set(unix.SYS_RSEQ, call4("rseq", aAddr, aUint, aUint, aHex, sysRseq))
	r.set(unix.SYS_PROCESS_VM_READV, call6("process_vm_readv", aPID, aAddr, aUlong, aAddr, aUlong, aUlong, func(t *task.Task, pid int32, l, ln, rm, rn, flags uint64) (uint64, error) {
		return processVM(t, pid, l, ln, rm, rn, flags, false)
	}))
	r.set(unix.SYS_PROCESS_VM_WRITEV, call6("process_vm_writev", aPID, aAddr, aUlong, aAddr, aUlong, aUlong, func(t *task.Task, pid int32, l, ln, rm, rn, flags uint64) (uint64, error) {
		return processVM(t, pid, l, ln, rm, rn, flags, true)
	}))
}

// mapFlagsKnown are the flags that Linux knows; MAP_SHARED_VALIDATE refuses others (mmap(2)).
const mapFlagsKnown = unix.MAP_SHARED_VALIDATE | unix.MAP_FIXED | unix.MAP_ANONYMOUS | unix.MAP_GROWSDOWN | unix.MAP_DENYWRITE |
	unix.MAP_EXECUTABLE | unix.MAP_LOCKED | unix.MAP_NORESERVE | unix.MAP_POPULATE | unix.MAP_NONBLOCK | unix.MAP_STACK |
	unix.MAP_HUGETLB | unix.MAP_32BIT | unix.MAP_FIXED_NOREPLACE | 63<<26

func sysMmap(t *task.Task, addr, n uint64, prot, flags uint32, fd int32, off uint64) (uint64, error) {
	if off&(machine.PageSize-1) != 0 {
		return 0, unix.EINVAL
	}
	a := mm.MapArgs{Addr: addr, Length: n, Prot: int(prot), Flags: int(flags), Offset: off, Caller: t}
	if flags&unix.MAP_ANONYMOUS != 0 {
		return t.Mem().Map(a)
	}
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if err := mayMap(f, prot, &flags); err != nil {
		return 0, err
	}
	if r, e := iouring.Of(f); e == nil {
		if most, err := r.MapSize(off); err != nil || n > most {
			return 0, unix.EINVAL
		}
	}
	a.Flags = int(flags)
	if flags&unix.MAP_TYPE == unix.MAP_SHARED && !f.Writable() {
		a.MaxProt = unix.PROT_READ | unix.PROT_EXEC
	}
	if f.Path().Mount.Flags()&unix.MS_NOEXEC != 0 {
		if a.MaxProt == 0 {
			a.MaxProt = unix.PROT_READ | unix.PROT_WRITE
		}
		a.MaxProt &^= unix.PROT_EXEC
		if prot&unix.PROT_EXEC != 0 {
			return 0, unix.EPERM
		}
	}
	a.Object = f
	return t.Mem().Map(a)
}

// mayMap checks what mmap(2) asks of the open file: EACCES, EINVAL, EOPNOTSUPP. It turns
// MAP_SHARED_VALIDATE into MAP_SHARED.
func mayMap(f *vfs.File, prot uint32, flags *uint32) error {
	switch *flags & unix.MAP_TYPE {
	case unix.MAP_SHARED_VALIDATE:
		if *flags&^mapFlagsKnown != 0 {
			return unix.EOPNOTSUPP
		}
		*flags = *flags&^unix.MAP_TYPE | unix.MAP_SHARED
	case unix.MAP_SHARED, unix.MAP_PRIVATE:
	default:
		return unix.EINVAL
	}
	if !f.Readable() {
		return unix.EACCES
	}
	if *flags&unix.MAP_TYPE == unix.MAP_SHARED && prot&unix.PROT_WRITE != 0 && !f.Writable() {
		return unix.EACCES
	}
	if *flags&unix.MAP_HUGETLB != 0 && (f.Inode().Cache() == nil || !f.Inode().Cache().IsHuge()) {
		return unix.EINVAL
	}
	return nil
}

func sysMincore(t *task.Task, addr, n, vec uint64) (uint64, error) {
	if addr&(machine.PageSize-1) != 0 {
		return 0, unix.EINVAL
	}
	if addr > machine.UserTop || n > machine.UserTop-addr {
		return 0, unix.ENOMEM
	}
	pages := (n + machine.PageSize - 1) / machine.PageSize
	for pages > 0 {
		b := t.Scratch[:min(pages, uint64(len(t.Scratch)))]
		if err := t.Mem().Incore(addr, uint64(len(b))*machine.PageSize, b); err != nil {
			return 0, err
		}
		if err := copyOut(t, vec, b); err != nil {
			return 0, err
		}
		pages, vec, addr = pages-uint64(len(b)), vec+uint64(len(b)), addr+uint64(len(b))*machine.PageSize
	}
	return 0, nil
}

// processVM is process_vm_readv(2), and with write process_vm_writev(2): ESRCH, EPERM, EFAULT, EINVAL.
func processVM(t *task.Task, pid int32, local, nlocal, remote, nremote, flags uint64, write bool) (uint64, error) {
	if flags != 0 {
		return 0, unix.EINVAL
	}
	list, err := ranges(t, local, nlocal)
	if err != nil {
		return 0, err
	}
	mine := append([]mm.Range(nil), list...)
	theirs, err := ranges(t, remote, nremote)
	if err != nil {
		return 0, err
	}
	p := t.Kernel().Process(pid)
	if p == nil {
		return 0, unix.ESRCH
	}
	if err := t.MayAccess(p); err != nil {
		return 0, err
	}
	other := p.Memory()
	if other == nil {
		return 0, unix.ESRCH
	}
	defer other.Release()
	dst, src := mm.NewIOVec(t.Mem(), mine), mm.NewIOVec(other.AddressSpace, theirs)
	if write {
		dst, src = src, dst
	}
	total := uint64(0)
	var buf [1024]byte
	for dst.Left() > 0 && src.Left() > 0 {
		n, err := src.Take(buf[:min(len(buf), dst.Left(), src.Left())])
		put, err2 := 0, error(nil)
		if n > 0 {
			put, err2 = dst.Put(buf[:n])
		}
		total += uint64(put)
		if err == nil {
			err = err2
		}
		if err != nil || put == 0 {
			if total > 0 {
				return total, nil
			}
			return 0, efault(err)
		}
	}
	return total, nil
}

// sysRseq is rseq(2).
func sysRseq(t *task.Task, addr uint64, size, flags uint32, sig uint64) (uint64, error) {
	const unregister = 1
	if flags&^unregister != 0 {
		return 0, unix.EINVAL
	}
	return done(t.Rseq(addr, size, flags == unregister, uint32(sig)))
}

// processMadvise is process_madvise(2): it returns the bytes advised. EBADF, EINVAL, EPERM, ESRCH, ENOMEM.
func processMadvise(t *task.Task, fd int32, iov, n uint64, advice int32, _ uint32) (uint64, error) {
	list, err := ranges(t, iov, n)
	if err != nil {
		return 0, err
	}
	p, _, err := pidfd(t, fd)
	if err != nil {
		return 0, err
	}
	switch advice {
	case unix.MADV_COLD, unix.MADV_PAGEOUT, unix.MADV_WILLNEED:
	default:
		return 0, unix.EINVAL
	}
	m := p.Memory()
	if m == nil {
		return 0, unix.ESRCH
	}
	defer m.Release()
	if err := t.MayAccess(p); err != nil {
		return 0, err
	}
	if p != t.Process() && !t.Cred().Capable(unix.CAP_SYS_NICE) {
		return 0, unix.EPERM
	}
	total := uint64(0)
	for _, r := range list {
		if err := m.Advise(r.Addr, r.Len, int(advice), t); err != nil {
			if total > 0 {
				return total, nil
			}
			return 0, err
		}
		total += r.Len
	}
	return total, nil
}
