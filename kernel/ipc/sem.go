package ipc

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/share"
	"gosv/kernel/wait"
)

// Commands of semctl(2) and the flag of semop(2).
const (
	GetPID     = 11
	GetVal     = 12
	GetAll     = 13
	GetNCnt    = 14
	GetZCnt    = 15
	SetVal     = 16
	SetAll     = 17
	SemStat    = 18
	SemInfo    = 19
	SemStatAny = 20

	SemUndo = 0x1000
)

// Limits of semget(2) and semop(2).
const (
	SemMaxSet   = 32000 // SEMMSL
	SemMaxValue = 32767 // SEMVMX
	SemMaxOps   = 500   // SEMOPM
)

// SemOp is struct sembuf.
type SemOp struct {
	Num   uint16
	Op    int16
	Flags int16
}

type semaphore struct {
	value      int32
	pid        int32 // who changed it last
	more, zero int32 // how many wait for it to rise, and for 0
}

// What a semaphore and a process's part of a set take of share.IPC, in bytes.
const (
	semCost = 16
	adjCost = 4  // for each semaphore
	mapCost = 64 // once
)

// Semaphores is a semaphore set.
type Semaphores struct {
	space *Space
	id    int32
	queue wait.Queue // told of every change

	mu           sync.Mutex
	p            Perm          // guarded by mu
	sems         []semaphore   // guarded by mu
	undo         map[int32]adj // by process; guarded by mu
	dead         bool          // removed; guarded by mu
	otime, ctime int64         // guarded by mu
}

// adj is what is added to each semaphore when a process ends (semop(2), SEM_UNDO).
type adj []int32

func (s *Semaphores) perm() *Perm       { return &s.p }
func (s *Semaphores) lock() *sync.Mutex { return &s.mu }
func (s *Semaphores) setID(id int32)    { s.id = id }

// Semget is semget(2): EINVAL and what get gives.
func (sp *Space) Semget(key int32, n int32, flags uint32, c *cred.Cred) (int32, error) {
	if n < 0 || n > SemMaxSet {
		return 0, unix.EINVAL
	}
	return sp.Sem.get(key, flags, c,
		func(s *Semaphores) error {
			if int(n) > len(s.sems) {
				return unix.EINVAL
			}
			return nil
		},
		func() (*Semaphores, error) {
			if n == 0 {
				return nil, unix.EINVAL
			}
			if !share.IPC.Take(semCost * int64(n)) {
				return nil, unix.ENOSPC
			}
			s := &Semaphores{space: sp, sems: make([]semaphore, n), ctime: sp.now()}
			return s, nil
		})
}

// Try is semop(2) without waiting: all operations are done or none. EAGAIN when one would
// have to wait; blocked is that one. EIDRM, EFBIG, ERANGE, EACCES, ENOMEM for what is to be undone.
func (s *Semaphores) Try(ops []SemOp, c *cred.Cred, pid int32) (blocked int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return 0, unix.EIDRM
	}
	want := uint32(Read)
	for _, o := range ops {
		if int(o.Num) >= len(s.sems) {
			return 0, unix.EFBIG
		}
		if o.Op != 0 {
			want = Write
		}
	}
	if err := s.p.allows(c, want); err != nil {
		return 0, err
	}
	for i, o := range ops {
		if err := s.apply(o, pid); err != nil {
			for j := i - 1; j >= 0; j-- {
				done := ops[j]
				s.sems[done.Num].value -= int32(done.Op)
				_ = s.adjust(done, pid, int32(done.Op)) // back to what it was
			}
			return i, err
		}
	}
	changed := false
	for _, o := range ops {
		s.sems[o.Num].pid = pid
		changed = changed || o.Op != 0
	}
	s.otime = s.space.now()
	if changed {
		s.queue.Notify(unix.POLLIN)
	}
	return 0, nil
}

// apply does one operation. s.mu is held.
//
// +checklocks:s.mu
func (s *Semaphores) apply(o SemOp, pid int32) error {
	v := &s.sems[o.Num]
	switch {
	case o.Op == 0:
		if v.value != 0 {
			return unix.EAGAIN
		}
		return nil
	case v.value+int32(o.Op) < 0:
		return unix.EAGAIN
	case v.value+int32(o.Op) > SemMaxValue:
		return unix.ERANGE
	}
	if err := s.adjust(o, pid, -int32(o.Op)); err != nil {
		return err
	}
	v.value += int32(o.Op)
	return nil
}

// adjust changes what the end of process pid undoes: ERANGE, ENOMEM. s.mu is held.
//
// +checklocks:s.mu
func (s *Semaphores) adjust(o SemOp, pid int32, by int32) error {
	if o.Flags&SemUndo == 0 {
		return nil
	}
	a := s.undo[pid]
	if a == nil {
		if !share.IPC.Take(s.undoCost(1)) {
			return unix.ENOMEM
		}
		if s.undo == nil {
			s.undo = make(map[int32]adj)
		}
		a = make(adj, len(s.sems))
		s.undo[pid] = a
	}
	if n := a[o.Num] + by; n < -SemMaxValue-1 || n > SemMaxValue {
		return unix.ERANGE
	}
	a[o.Num] += by
	return nil
}

// undoCost is what the parts of n processes take. s.mu is held.
//
// +checklocks:s.mu
func (s *Semaphores) undoCost(n int) int64 { return int64(n) * int64(adjCost*len(s.sems)+mapCost) }

// Exited undoes what process pid did with SEM_UNDO, at its end.
func (sp *Space) Exited(pid int32) {
	if sp.Sem.count.Load() == 0 {
		return
	}
	sp.Sem.mu.Lock()
	sets := slices.Clone(sp.Sem.table)
	sp.Sem.mu.Unlock()
	for _, s := range sets {
		if s != nil {
			s.exited(pid)
		}
	}
}

func (s *Semaphores) exited(pid int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.undo[pid]
	if a == nil {
		return
	}
	delete(s.undo, pid)
	share.IPC.Give(s.undoCost(1))
	for i, n := range a {
		if n != 0 {
			s.sems[i].value = min(max(s.sems[i].value+n, 0), SemMaxValue)
			s.sems[i].pid = pid
		}
	}
	s.queue.Notify(unix.POLLIN)
}

// Wait counts a waiter for operation o in or, with by −1, out (GETNCNT, GETZCNT).
func (s *Semaphores) Wait(o SemOp, by int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(o.Num) >= len(s.sems) {
		return
	}
	if o.Op == 0 {
		s.sems[o.Num].zero += by
	} else {
		s.sems[o.Num].more += by
	}
}

// Register has e told of changes; Unregister ends it.
func (s *Semaphores) Register(e *wait.Entry)   { s.queue.Add(e) }
func (s *Semaphores) Unregister(e *wait.Entry) { s.queue.Remove(e) }

// Get is GETVAL, GETPID, GETNCNT and GETZCNT of semaphore n: EINVAL, EACCES, EIDRM.
func (s *Semaphores) Get(cmd int32, n int32, c *cred.Cred) (int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(c, Read); err != nil {
		return 0, err
	}
	if n < 0 || int(n) >= len(s.sems) {
		return 0, unix.EINVAL
	}
	v := &s.sems[n]
	switch cmd {
	case GetPID:
		return v.pid, nil
	case GetNCnt:
		return v.more, nil
	case GetZCnt:
		return v.zero, nil
	}
	return v.value, nil
}

// usable: EIDRM, EACCES. s.mu is held.
//
// +checklocks:s.mu
func (s *Semaphores) usable(c *cred.Cred, want uint32) error {
	if s.dead {
		return unix.EIDRM
	}
	return s.p.allows(c, want)
}

// All is GETALL: EACCES, EIDRM.
func (s *Semaphores) All(c *cred.Cred) ([]uint16, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(c, Read); err != nil {
		return nil, err
	}
	list := make([]uint16, len(s.sems))
	for i := range s.sems {
		list[i] = uint16(s.sems[i].value)
	}
	return list, nil
}

// Len returns how many semaphores the set has.
func (s *Semaphores) Len() int { return len(s.sems) }

// Assign is SETVAL (of semaphore n) and SETALL (n is −1): EINVAL, ERANGE, EACCES, EIDRM.
func (s *Semaphores) Assign(n int32, values []uint16, c *cred.Cred, pid int32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(c, Write); err != nil {
		return err
	}
	first := 0
	if n >= 0 {
		if first = int(n); first >= len(s.sems) {
			return unix.EINVAL
		}
	} else if n < -1 {
		return unix.EINVAL
	}
	for _, v := range values {
		if v > SemMaxValue {
			return unix.ERANGE
		}
	}
	for i, v := range values {
		s.sems[first+i].value, s.sems[first+i].pid = int32(v), pid
		for _, a := range s.undo {
			a[first+i] = 0
		}
	}
	s.ctime = s.space.now()
	s.queue.Notify(unix.POLLIN)
	return nil
}

// Remove is IPC_RMID: EPERM. Who waits gets EIDRM.
func (s *Semaphores) Remove(c *cred.Cred) error {
	r := &s.space.Sem
	r.mu.Lock()
	defer r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return unix.EIDRM
	}
	if err := s.p.owned(c); err != nil {
		return err
	}
	s.dead = true
	share.IPC.Give(s.undoCost(len(s.undo)) + semCost*int64(len(s.sems)))
	s.undo = nil
	r.drop(s.id)
	s.queue.Notify(unix.POLLIN)
	return nil
}

// SetPerm is IPC_SET: EPERM, EINVAL, EIDRM.
func (s *Semaphores) SetPerm(c *cred.Cred, n *Perm) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return unix.EIDRM
	}
	if err := s.p.owned(c); err != nil {
		return err
	}
	s.ctime = s.space.now()
	return s.p.set(n)
}

// SemDS is struct semid64_ds.
type SemDS struct {
	Perm
	OTime, CTime int64
	Count        uint64
}

// Stat is IPC_STAT; any: without a look at the rights (SEM_STAT_ANY). EACCES, EIDRM.
func (s *Semaphores) Stat(c *cred.Cred, any bool) (ds SemDS, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return ds, unix.EIDRM
	}
	if !any {
		if err := s.p.allows(c, Read); err != nil {
			return ds, err
		}
	}
	return SemDS{s.p, s.otime, s.ctime, uint64(len(s.sems))}, nil
}

// SemCount returns how many semaphores all sets have.
func (sp *Space) SemCount() (n int32) {
	r := &sp.Sem
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.table {
		if s != nil {
			n += int32(len(s.sems))
		}
	}
	return n
}
