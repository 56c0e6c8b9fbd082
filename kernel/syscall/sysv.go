package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/ipc"
	"gosv/kernel/mm"
	"gosv/kernel/task"
	"gosv/kernel/wait"
	"gosv/machine"
)

// sysvRows are System V's shared memory and semaphores (sysvipc(7)).
func (s *Calls) sysvRows(r *table) {
	r.set(unix.SYS_SHMGET, call3("shmget", aInt, aSize, aUint, func(t *task.Task, key int32, size uint64, flags uint32) (uint64, error) {
		return value(s.space(t).Shmget(key, size, flags, t.Cred(), t.PID()))
	}))
	r.set(unix.SYS_SHMAT, call3("shmat", aInt, aAddr, aUint, s.shmat).address())
	r.set(unix.SYS_SHMDT, call1("shmdt", aAddr, sysShmdt))
	r.set(unix.SYS_SHMCTL, call3("shmctl", aInt, aInt, aAddr, s.shmctl))
	r.set(unix.SYS_SEMGET, call3("semget", aInt, aInt, aUint, func(t *task.Task, key, n int32, flags uint32) (uint64, error) {
		return value(s.space(t).Semget(key, n, flags, t.Cred()))
	}))
	r.set(unix.SYS_SEMOP, call3("semop", aInt, aAddr, aSize, func(t *task.Task, id int32, ops, n uint64) (uint64, error) {
		return s.semop(t, id, ops, n, opt[unix.Timespec]{})
	}))
	r.set(unix.SYS_SEMTIMEDOP, call4("semtimedop", aInt, aAddr, aSize, inOpt(lTimespec), s.semop))
	r.set(unix.SYS_SEMCTL, call4("semctl", aInt, aInt, aInt, aHex, s.semctl))
}

// space returns the System V objects that t knows.
func (s *Calls) space(t *task.Task) *ipc.Space { return ipcOf(t).SysV() }

func (s *Calls) shmat(t *task.Task, id int32, addr uint64, flags uint32) (uint64, error) {
	seg, err := s.space(t).Shm.Find(id)
	if err != nil {
		return 0, err
	}
	a := mm.MapArgs{Addr: addr, Length: seg.Size(), Flags: unix.MAP_SHARED, Object: seg, Prot: unix.PROT_READ | unix.PROT_WRITE, Caller: t}
	want := uint32(ipc.Read | ipc.Write)
	if flags&ipc.ShmRdonly != 0 {
		a.Prot, a.MaxProt, want = unix.PROT_READ, unix.PROT_READ|unix.PROT_EXEC, ipc.Read
	}
	if flags&ipc.ShmExec != 0 {
		a.Prot |= unix.PROT_EXEC
		want |= 0o111
	}
	if rest := a.Addr & (machine.PageSize - 1); rest != 0 {
		if flags&ipc.ShmRnd == 0 {
			return 0, unix.EINVAL
		}
		a.Addr -= rest
	}
	switch {
	case flags&ipc.ShmRemap != 0 && a.Addr == 0:
		return 0, unix.EINVAL
	case flags&ipc.ShmRemap != 0:
		a.Flags |= unix.MAP_FIXED
	case addr != 0:
		a.Flags |= unix.MAP_FIXED_NOREPLACE
	}
	if err := seg.Attach(t.Cred(), t.PID(), want); err != nil {
		return 0, err
	}
	defer seg.DecRef()
	at, err := t.Mem().Map(a)
	if err == unix.EEXIST {
		err = unix.EINVAL
	}
	return at, err
}

// sysShmdt takes away what is left of the segment that was attached at addr.
func sysShmdt(t *task.Task, addr uint64) (uint64, error) {
	var seg *ipc.Segment
	for _, a := range t.Mem().Areas() {
		s, ok := a.Object.(*ipc.Segment)
		if !ok || a.Start-a.Offset != addr || seg != nil && s != seg {
			continue
		}
		seg = s
		if err := t.Mem().Unmap(a.Start, a.End-a.Start); err != nil {
			return 0, err
		}
	}
	if seg == nil {
		return 0, unix.EINVAL
	}
	seg.Detached(t.PID())
	return 0, nil
}

// Structures of System V IPC; each begins with ipc64_perm.
const (
	sizeofIPCPerm = 48
	sizeofShmDS   = 112
	sizeofSemDS   = 104
	sizeofSemBuf  = 6
)

// putPerm writes ipc64_perm to b.
func putPerm(t *task.Task, b []byte, p *ipc.Perm) {
	u := t.Cred().User
	for i, v := range [...]uint32{uint32(p.Key), u.ShowUID(p.UID), u.ShowGID(p.GID), u.ShowUID(p.CUID), u.ShowGID(p.CGID), p.Mode, uint32(p.Seq)} {
		le.PutUint32(b[4*i:], v)
	}
}

// ipcPerm reads what IPC_SET may change of a structure at addr: EFAULT.
func ipcPerm(t *task.Task, addr uint64) (*ipc.Perm, error) {
	b := t.Scratch[:sizeofIPCPerm]
	if err := copyIn(t, b, addr); err != nil {
		return nil, err
	}
	u := t.Cred().User
	return &ipc.Perm{UID: u.RealUID(le.Uint32(b[4:])), GID: u.RealGID(le.Uint32(b[8:])), Mode: le.Uint32(b[20:])}, nil
}

// putWords writes 64-bit words at addr: EFAULT.
func putWords(t *task.Task, addr uint64, words ...uint64) error {
	b := t.Scratch[:8*len(words)]
	for i, w := range words {
		le.PutUint64(b[8*i:], w)
	}
	return copyOut(t, addr, b)
}

func (s *Calls) shmctl(t *task.Task, id, cmd int32, addr uint64) (uint64, error) {
	sp := s.space(t)
	last, used := sp.Shm.Last()
	switch cmd {
	case ipc.Info:
		return uint64(last), putWords(t, addr, ipc.ShmMax, 1, 4096, 4096, ipc.ShmMax, 0, 0, 0, 0)
	case ipc.ShmInfo:
		_, pages, resident := sp.ShmUsage()
		return uint64(last), putWords(t, addr, uint64(used), pages, resident, 0, 0, 0)
	case ipc.ShmStat, ipc.ShmStatAny:
		seg, id, err := sp.Shm.At(id)
		if err != nil {
			return 0, err
		}
		return uint64(id), putShm(t, seg, addr, cmd == ipc.ShmStatAny)
	}
	seg, err := sp.Shm.Find(id)
	if err != nil {
		return 0, err
	}
	switch cmd {
	case ipc.Stat:
		return done(putShm(t, seg, addr, false))
	case ipc.SetPerm:
		p, err := ipcPerm(t, addr)
		if err != nil {
			return 0, err
		}
		return done(seg.SetPerm(t.Cred(), p))
	case ipc.RMID:
		return done(seg.Remove(t.Cred()))
	case ipc.ShmLock, ipc.ShmUnlock:
		return done(seg.Lock(t.Cred(), cmd == ipc.ShmLock))
	}
	return 0, unix.EINVAL
}

func putShm(t *task.Task, seg *ipc.Segment, addr uint64, any bool) error {
	ds, err := seg.Stat(t.Cred(), any)
	if err != nil {
		return err
	}
	var b [sizeofShmDS]byte
	putPerm(t, b[:], &ds.Perm)
	for i, v := range [...]uint64{ds.Size, uint64(ds.ATime), uint64(ds.DTime), uint64(ds.CTime),
		uint64(uint32(t.Number(ds.CPID))) | uint64(t.Number(ds.LPID))<<32, uint64(ds.Attached)} {
		le.PutUint64(b[sizeofIPCPerm+8*i:], v)
	}
	return copyOut(t, addr, b[:])
}

// ipcNowait is IPC_NOWAIT.
const ipcNowait = 0o4000

func (s *Calls) semop(t *task.Task, id int32, addr, n uint64, timeout opt[unix.Timespec]) (uint64, error) {
	switch {
	case n == 0:
		return 0, unix.EINVAL
	case n > ipc.SemMaxOps:
		return 0, unix.E2BIG
	}
	b := make([]byte, n*sizeofSemBuf)
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	deadline, now, err := deadlineOf(t, timeout)
	if err != nil {
		return 0, err
	}
	set, err := s.space(t).Sem.Find(id)
	if err != nil {
		return 0, err
	}
	ops := make([]ipc.SemOp, n)
	for i := range ops {
		f := b[i*sizeofSemBuf:]
		ops[i] = ipc.SemOp{Num: le.Uint16(f), Op: int16(le.Uint16(f[2:])), Flags: int16(le.Uint16(f[4:]))}
	}
	e := wait.Entry{Waiter: t, Events: unix.POLLIN}
	set.Register(&e)
	defer set.Unregister(&e)
	for {
		i, err := set.Try(ops, t.Cred(), t.PID())
		if err != unix.EAGAIN || ops[i].Flags&ipcNowait != 0 || now {
			return 0, err
		}
		set.Wait(ops[i], 1)
		err = t.Block(deadline)
		set.Wait(ops[i], -1)
		switch err {
		case nil:
		case unix.ETIMEDOUT:
			return 0, unix.EAGAIN
		case abi.ERESTARTSYS:
			return 0, unix.EINTR // semop(2) is never restarted
		default:
			return 0, err
		}
	}
}

func (s *Calls) semctl(t *task.Task, id, n, cmd int32, arg uint64) (uint64, error) {
	sp := s.space(t)
	switch cmd {
	case ipc.Info, ipc.SemInfo:
		return s.seminfo(t, cmd, arg)
	case ipc.SemStat, ipc.SemStatAny:
		set, id, err := sp.Sem.At(id)
		if err != nil {
			return 0, err
		}
		return uint64(id), putSem(t, set, arg, cmd == ipc.SemStatAny)
	}
	set, err := sp.Sem.Find(id)
	if err != nil {
		return 0, err
	}
	switch cmd {
	case ipc.GetPID:
		pid, err := set.Get(cmd, n, t.Cred())
		return value(t.Number(pid), err)
	case ipc.GetVal, ipc.GetNCnt, ipc.GetZCnt:
		return value(set.Get(cmd, n, t.Cred()))
	case ipc.GetAll:
		return done(getAllSems(t, set, arg))
	case ipc.SetVal:
		if v := int32(arg); v < 0 || v > ipc.SemMaxValue {
			return 0, unix.ERANGE
		}
		if n < 0 {
			return 0, unix.EINVAL
		}
		return done(set.Assign(n, []uint16{uint16(arg)}, t.Cred(), t.PID()))
	case ipc.SetAll:
		return done(setAllSems(t, set, arg))
	case ipc.Stat:
		return done(putSem(t, set, arg, false))
	case ipc.SetPerm:
		p, err := ipcPerm(t, arg)
		if err != nil {
			return 0, err
		}
		return done(set.SetPerm(t.Cred(), p))
	case ipc.RMID:
		return done(set.Remove(t.Cred()))
	}
	return 0, unix.EINVAL
}

// getAllSems is GETALL: it stores the values of all semaphores at addr.
func getAllSems(t *task.Task, set *ipc.Semaphores, addr uint64) error {
	list, err := set.All(t.Cred())
	if err != nil {
		return err
	}
	b := make([]byte, 2*len(list))
	for i, v := range list {
		le.PutUint16(b[2*i:], v)
	}
	return copyOut(t, addr, b)
}

// setAllSems is SETALL: it takes the values of all semaphores from addr.
func setAllSems(t *task.Task, set *ipc.Semaphores, addr uint64) error {
	b := make([]byte, 2*set.Len())
	if err := copyIn(t, b, addr); err != nil {
		return err
	}
	list := make([]uint16, set.Len())
	for i := range list {
		list[i] = le.Uint16(b[2*i:])
	}
	return set.Assign(-1, list, t.Cred(), t.PID())
}

// seminfo is IPC_INFO and SEM_INFO of semctl(2).
func (s *Calls) seminfo(t *task.Task, cmd int32, addr uint64) (uint64, error) {
	sp := s.space(t)
	last, used := sp.Sem.Last()
	sizeofUndo, maxAdjust := int32(20), int32(ipc.SemMaxValue)
	if cmd == ipc.SemInfo {
		sizeofUndo, maxAdjust = used, sp.SemCount()
	}
	const many = ipc.SemMaxSet * 4096
	b := t.Scratch[:40]
	for i, v := range [...]int32{many, 4096, many, many, ipc.SemMaxSet, ipc.SemMaxOps, ipc.SemMaxOps, sizeofUndo, ipc.SemMaxValue, maxAdjust} {
		le.PutUint32(b[4*i:], uint32(v))
	}
	return uint64(last), copyOut(t, addr, b)
}

func putSem(t *task.Task, set *ipc.Semaphores, addr uint64, any bool) error {
	ds, err := set.Stat(t.Cred(), any)
	if err != nil {
		return err
	}
	var b [sizeofSemDS]byte
	putPerm(t, b[:], &ds.Perm)
	for i, v := range [...]uint64{uint64(ds.OTime), 0, uint64(ds.CTime), 0, ds.Count} {
		le.PutUint64(b[sizeofIPCPerm+8*i:], v)
	}
	return copyOut(t, addr, b[:])
}
