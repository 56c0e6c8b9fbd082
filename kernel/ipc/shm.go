package ipc

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/mm"
	"gosv/machine"
)

// Flags and commands of shmget(2), shmat(2) and shmctl(2).
const (
	ShmHugeTLB   = 0o4000
	ShmNoReserve = 0o10000

	ShmRdonly = 0o10000
	ShmRnd    = 0o20000
	ShmRemap  = 0o40000
	ShmExec   = 0o100000

	ShmLock    = 11
	ShmUnlock  = 12
	ShmStat    = 13
	ShmInfo    = 14
	ShmStatAny = 15

	shmDest   = 0o1000
	shmLocked = 0o2000
)

// ShmMax is the largest segment (SHMMAX).
const ShmMax = math.MaxInt64 &^ (1<<24 - 1)

// Segment is a shared memory segment. It satisfies mm.Mappable.
type Segment struct {
	space *Space
	id    int32
	cache *mem.Cache
	pages uint64 // promised
	size  uint64

	mu                  sync.Mutex
	p                   Perm  // guarded by mu
	attached            int64 // areas that map it; guarded by mu
	dead                bool  // removed; guarded by mu
	atime, dtime, ctime int64
	cpid, lpid          int32 // guarded by mu
}

func (s *Segment) perm() *Perm       { return &s.p }
func (s *Segment) lock() *sync.Mutex { return &s.mu }
func (s *Segment) setID(id int32)    { s.id = id }

// Shmget is shmget(2): EINVAL, ENOMEM and what get gives.
func (sp *Space) Shmget(key int32, size uint64, flags uint32, c *cred.Cred, pid int32) (int32, error) {
	return sp.Shm.get(key, flags, c,
		func(s *Segment) error {
			if size > s.size {
				return unix.EINVAL
			}
			return nil
		},
		func() (*Segment, error) {
			if size == 0 || size > ShmMax {
				return nil, unix.EINVAL
			}
			if flags&ShmHugeTLB != 0 {
				return sp.newHugeSegment(size, flags, c, pid)
			}
			pages := (size + machine.PageSize - 1) / machine.PageSize
			if err := sp.pool.Commit(pages, flags&ShmNoReserve != 0); err != nil {
				return nil, err
			}
			s := &Segment{space: sp, cache: mem.NewShmem(sp.pool), pages: pages, size: size, ctime: sp.now(), cpid: pid}
			s.cache.SetCharge(mem.Kept)
			return s, s.cache.Truncate(int64(pages * machine.PageSize))
		})
}

// Attach says that pid attaches s, the beginning of shmat(2): EACCES, EIDRM. The caller maps the segment and
// then calls DecRef.
func (s *Segment) Attach(c *cred.Cred, pid int32, want uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead && s.attached == 0 {
		return unix.EIDRM
	}
	if err := s.p.allows(c, want); err != nil {
		return err
	}
	s.attached++
	s.lpid, s.atime = pid, s.space.now()
	return nil
}

// Detached notes who detached s last.
func (s *Segment) Detached(pid int32) {
	s.mu.Lock()
	s.lpid, s.dtime = pid, s.space.now()
	s.mu.Unlock()
}

// Size returns the length in bytes.
func (s *Segment) Size() uint64 { return s.size }

// MapCache implements mm.Mappable.
func (s *Segment) MapCache() *mem.Cache { return s.cache }

// MapName implements mm.Mappable.
func (s *Segment) MapName() string {
	s.mu.Lock()
	v := "/SYSV" + hex8(uint32(s.p.Key)) + " (deleted)"
	s.mu.Unlock()
	return v
}

func hex8(v uint32) string {
	var b [8]byte
	for i := range b {
		b[i] = "0123456789abcdef"[v>>(28-4*i)&15]
	}
	return string(b[:])
}

// MapInode implements mm.Mappable.
func (s *Segment) MapInode() (major, minor uint32, ino uint64) { return 0, 1, uint64(s.id) }

// IncRef implements mm.Mappable: one more area.
func (s *Segment) IncRef() {
	s.mu.Lock()
	s.attached++
	s.mu.Unlock()
}

// DecRef implements mm.Mappable: one area less. A segment that was removed ends with the last.
func (s *Segment) DecRef() {
	r := &s.space.Shm
	r.mu.Lock()
	defer r.mu.Unlock()
	s.mu.Lock()
	s.attached--
	end := s.dead && s.attached == 0
	s.mu.Unlock()
	if end {
		s.destroy()
	}
}

// destroy gives up the memory. The registry's lock is held.
func (s *Segment) destroy() {
	s.space.Shm.drop(s.id)
	s.space.pool.Uncommit(s.pages)
	s.cache.Release()
}

// Remove is IPC_RMID: EPERM. The memory goes when nobody has it attached any more.
func (s *Segment) Remove(c *cred.Cred) error {
	r := &s.space.Shm
	r.mu.Lock()
	defer r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil
	}
	if err := s.p.owned(c); err != nil {
		return err
	}
	s.dead = true
	r.forgetKey(s)
	s.p.Mode |= shmDest
	if s.attached == 0 {
		s.destroy()
	}
	return nil
}

// SetPerm is IPC_SET: EPERM, EINVAL.
func (s *Segment) SetPerm(c *cred.Cred, n *Perm) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.p.owned(c); err != nil {
		return err
	}
	s.ctime = s.space.now()
	return s.p.set(n)
}

// Lock is SHM_LOCK and SHM_UNLOCK, which here only show: there is no swap. EPERM.
func (s *Segment) Lock(c *cred.Cred, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.Capable(unix.CAP_IPC_LOCK) && s.p.owned(c) != nil {
		return unix.EPERM
	}
	s.p.Mode &^= shmLocked
	if on {
		s.p.Mode |= shmLocked
	}
	return nil
}

// ShmDS is struct shmid64_ds.
type ShmDS struct {
	Perm
	Size                uint64
	ATime, DTime, CTime int64
	CPID, LPID          int32
	Attached            int64
}

// Stat is IPC_STAT; any: without a look at the rights (SHM_STAT_ANY). EACCES.
func (s *Segment) Stat(c *cred.Cred, any bool) (ds ShmDS, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !any {
		if err := s.p.allows(c, Read); err != nil {
			return ds, err
		}
	}
	return ShmDS{s.p, s.size, s.atime, s.dtime, s.ctime, s.cpid, s.lpid, s.attached}, nil
}

// ShmUsage sums the segments up: how many bytes and pages they have, and how many pages are in memory.
func (sp *Space) ShmUsage() (bytes, pages, resident uint64) {
	r := &sp.Shm
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.table {
		if s != nil {
			bytes += s.size
			pages += s.pages
			resident += s.cache.Pages()
		}
	}
	return bytes, pages, resident
}

// newHugeSegment is shmget(2) with SHM_HUGETLB: EINVAL; EPERM; ENOMEM: the pool has too few large pages.
func (sp *Space) newHugeSegment(size uint64, flags uint32, c *cred.Cred, pid int32) (*Segment, error) {
	if !mm.HugeSizeKnown(int(flags)) {
		return nil, unix.EINVAL
	}
	if !c.Capable(unix.CAP_IPC_LOCK) && !c.InGroup(sp.pool.Huge().Group()) {
		return nil, unix.EPERM
	}
	size = (size + machine.HugeSize - 1) &^ (machine.HugeSize - 1)
	s := &Segment{space: sp, cache: mem.NewHuge(sp.pool), size: size, ctime: sp.now(), cpid: pid}
	if err := s.cache.Truncate(int64(size)); err != nil {
		return nil, err
	}
	if flags&ShmNoReserve == 0 {
		if _, err := s.cache.Promise(0, size/machine.PageSize); err != nil {
			return nil, err
		}
	}
	return s, nil
}
