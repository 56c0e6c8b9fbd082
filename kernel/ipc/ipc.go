// Package ipc is System V's interprocess communication (sysvipc(7)): shared memory
// segments, semaphore sets and message queues, found by key.
//
// Lock order: registry.mu → Segment.mu, Set.mu or Messages.mu → the locks of mem and wait.
package ipc

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/namespace"
	"gosv/kernel/share"
)

// Commands, flags and modes that golang.org/x/sys/unix lacks (sys/ipc.h).
const (
	Private = 0
	Creat   = 0o1000
	Excl    = 0o2000

	RMID    = 0
	SetPerm = 1
	Stat    = 2
	Info    = 3

	modeBits = 0o777
	Read     = 0o444
	Write    = 0o222
)

// MaxObjects is how many objects of a kind there may be (SHMMNI, SEMMNI: Linux's defaults are 4096 and 32000).
const MaxObjects = 4096

// Space holds the objects of a kernel.
type Space struct {
	Shm registry[*Segment]
	Sem registry[*Semaphores]
	Msg registry[*Messages]

	pool  *mem.Pool
	now   func() int64 // wall time in seconds
	owner *namespace.User
}

// New returns an empty space, which belongs to a user namespace. now tells the wall time in seconds.
func New(pool *mem.Pool, now func() int64, owner *namespace.User) *Space {
	s := &Space{pool: pool, now: now, owner: owner}
	s.Shm.init(owner)
	s.Sem.init(owner)
	s.Msg.init(owner)
	return s
}

// A Holder is an IPC namespace.
type Holder interface {
	SysV() *Space
}

// Clear removes all objects: nobody can name them any more.
func (s *Space) Clear() {
	each(&s.Shm, func(o *Segment) { _ = o.Remove(cred.Root()) })
	each(&s.Sem, func(o *Semaphores) { _ = o.Remove(cred.Root()) })
	each(&s.Msg, func(o *Messages) { _ = o.Remove(cred.Root()) })
}

func each[T object](r *registry[T], f func(T)) {
	for last, _ := r.Last(); last >= 0; last-- {
		if o, _, err := r.At(last); err == nil {
			f(o)
		}
	}
}

// Perm is struct ipc64_perm.
type Perm struct {
	Key                  int32
	UID, GID, CUID, CGID uint32
	Mode                 uint32
	Seq                  uint16
	owner                *namespace.User // of the space
}

// allows checks mode bits (as Read, Write) that a program asks for: EACCES. It is Linux's ipcperms.
func (p *Perm) allows(c *cred.Cred, want uint32) error {
	granted := p.Mode
	switch {
	case c.EUID == p.CUID || c.EUID == p.UID:
		granted >>= 6
	case c.InEffectiveGroup(p.CGID) || c.InEffectiveGroup(p.GID):
		granted >>= 3
	}
	want = want>>6 | want>>3 | want
	if want&^granted&7 != 0 && !c.CapableIn(p.owner, unix.CAP_IPC_OWNER) {
		return unix.EACCES
	}
	return nil
}

// owned checks that a program may change or remove the object: EPERM.
func (p *Perm) owned(c *cred.Cred) error {
	if c.EUID != p.CUID && c.EUID != p.UID && !c.CapableIn(p.owner, unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	return nil
}

// set changes what IPC_SET may: EINVAL for no user or group.
func (p *Perm) set(n *Perm) error {
	if n.UID == cred.Keep || n.GID == cred.Keep {
		return unix.EINVAL
	}
	p.UID, p.GID = n.UID, n.GID
	p.Mode = p.Mode&^modeBits | n.Mode&modeBits
	return nil
}

// object is what a registry holds.
type object interface {
	comparable
	perm() *Perm
	lock() *sync.Mutex
	setID(id int32)
}

// registry finds objects by identifier and key. An identifier has the place in the table below and a
// number above that changes with each use of the place, so that an old one is noticed.
type registry[T object] struct {
	mu    sync.Mutex
	table []T // nil where free; guarded by mu
	seq   []uint16
	keys  map[int32]int32 // identifiers by key; guarded by mu
	count atomic.Int32
	owner *namespace.User
	next  atomic.Int32 // the identifier that the next object gets if it can, −1: any
}

func (r *registry[T]) init(owner *namespace.User) {
	r.owner = owner
	r.next.Store(-1)
}

// Next returns what SetNext set (/proc/sys/kernel/msg_next_id and its like), −1 when nothing is set.
func (r *registry[T]) Next() int32 { return r.next.Load() }

// SetNext asks for an identifier for the next object.
func (r *registry[T]) SetNext(id int32) { r.next.Store(id) }

const (
	places     = 1 << 15
	objectCost = 384 // bytes of share.IPC that an object takes, beside what it holds
)

// get is the common part of shmget(2) and semget(2): it finds the object of key, or has create make
// one. check looks at one that was found. ENOENT, EEXIST, EACCES, ENOSPC.
func (r *registry[T]) get(key int32, flags uint32, c *cred.Cred, check func(T) error, create func() (T, error)) (int32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key != Private {
		if id, ok := r.keys[key]; ok {
			if flags&(Creat|Excl) == Creat|Excl {
				return 0, unix.EEXIST
			}
			o := r.table[id%places]
			mu := o.lock()
			mu.Lock()
			defer mu.Unlock()
			if err := check(o); err != nil {
				return 0, err
			}
			return id, o.perm().allows(c, flags&modeBits)
		}
		if flags&Creat == 0 {
			return 0, unix.ENOENT
		}
	}
	if r.count.Load() >= MaxObjects {
		return 0, unix.ENOSPC
	}
	if !share.IPC.Take(objectCost) {
		return 0, unix.ENOSPC
	}
	o, err := create()
	if err != nil {
		share.IPC.Give(objectCost)
		return 0, err
	}
	p := o.perm()
	*p = Perm{Key: key, UID: c.EUID, GID: c.EGID, CUID: c.EUID, CGID: c.EGID, Mode: flags & modeBits, owner: r.owner}
	id := r.place(o)
	if key != Private {
		if r.keys == nil {
			r.keys = make(map[int32]int32)
		}
		r.keys[key] = id
	}
	return id, nil
}

// place puts o into the table and returns its identifier. r.mu is held.
//
// +checklocks:r.mu
func (r *registry[T]) place(o T) int32 {
	var none T
	i, next := 0, r.next.Swap(-1)
	if next >= 0 {
		i = int(next % places)
	}
	for i < len(r.table) && r.table[i] != none {
		i++
	}
	if i >= places { // all behind the wanted one are taken, and there is room before
		i = slices.Index(r.table, none)
	}
	for i >= len(r.table) {
		r.table, r.seq = append(r.table, none), append(r.seq, 0)
	}
	if next >= 0 {
		r.seq[i] = uint16(next / places)
	}
	r.table[i] = o
	o.perm().Seq = r.seq[i]
	r.count.Add(1)
	id := int32(r.seq[i])*places + int32(i)
	o.setID(id)
	return id
}

// find returns an object: EINVAL. r.mu is held.
//
// +checklocks:r.mu
func (r *registry[T]) find(id int32) (o T, err error) {
	var none T
	if i := int(id % places); id >= 0 && i < len(r.table) && r.table[i] != none && int32(r.seq[i]) == id/places {
		return r.table[i], nil
	}
	return none, unix.EINVAL
}

// Find returns the object of an identifier: EINVAL.
func (r *registry[T]) Find(id int32) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(id)
}

// At returns the object at a place of the table and its identifier (SHM_STAT, SEM_STAT): EINVAL.
func (r *registry[T]) At(place int32) (o T, id int32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var none T
	if place < 0 || int(place) >= len(r.table) || r.table[place] == none {
		return none, 0, unix.EINVAL
	}
	return r.table[place], int32(r.seq[place])*places + place, nil
}

// Last returns the highest place in use, 0 when none is, and how many objects there are.
func (r *registry[T]) Last() (place, count int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var none T
	for i, o := range r.table {
		if o != none {
			place = int32(i)
		}
	}
	return place, r.count.Load()
}

// forgetKey makes the object private: nobody finds it by its key any more. r.mu is held.
func (r *registry[T]) forgetKey(o T) {
	if p := o.perm(); p.Key != Private {
		delete(r.keys, p.Key)
		p.Key = Private
	}
}

// drop takes the object of an identifier out. r.mu is held.
func (r *registry[T]) drop(id int32) {
	var none T
	i := id % places
	r.forgetKey(r.table[i])
	r.table[i] = none
	r.seq[i] = (r.seq[i] + 1) & 0x7fff
	r.count.Add(-1)
	share.IPC.Give(objectCost)
}
