package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/task"
)

// maxGroup is how many buffers a group may have.
const maxGroup = 1 << 16

// group is a group of provided buffers: a list, or a ring that the program fills.
type group struct {
	list  []Buffer // of a ring: those that were given back
	first int      // of list: those before it are taken
	room  int      // buffers for which memory was taken from share.Rings

	ring    uint64 // address, 0 for a list
	entries uint32
	head    uint16
}

// groupCost and bufferCost are what a group and a buffer take of share.Rings, in bytes: a list has up to as many places in front of those in
// use, and half as many behind them.
const (
	groupCost  = 128
	bufferCost = 64
)

// A Buffer is a provided buffer.
type Buffer struct {
	Addr uint64
	Len  uint32
	ID   uint16
}

// Limit makes b n bytes long, if it is longer.
func (b *Buffer) Limit(n uint64) { b.Len = uint32(min(uint64(b.Len), n)) }

func (g *group) len() int { return len(g.list) - g.first }

// grow takes memory for n buffers in all: false when there is none.
func (g *group) grow(n int) bool {
	if n > g.room {
		if !share.Rings.Take(int64(n-g.room) * bufferCost) {
			return false
		}
		g.room = n
	}
	return true
}

// take takes the first buffer, of which there is one.
func (g *group) take() Buffer {
	b := g.list[g.first]
	g.first++
	return b
}

// compact takes the places of buffers that were taken off the list when they are most of it.
func (g *group) compact() {
	if g.first > g.len() {
		g.list = append(g.list[:0], g.list[g.first:]...)
		g.first = 0
	}
}

// group returns a group, which is made if need be: nil when there is no memory, or the ring has ended.
//
// +checklocks:s.mu
func (s *resources) group(gid uint16) *group {
	g := s.groups[gid]
	if g == nil && !s.gone && share.Rings.Take(groupCost) {
		if s.groups == nil {
			s.groups = make(map[uint16]*group)
		}
		g = &group{}
		s.groups[gid] = g
	}
	return g
}

// removeGroup forgets a group.
//
// +checklocks:s.mu
func (s *resources) removeGroup(gid uint16) {
	share.Rings.Give(s.groups[gid].cost())
	delete(s.groups, gid)
}

func (g *group) cost() int64 { return groupCost + int64(g.room)*bufferCost }

// Provide adds n buffers of length bytes each, one behind the other from addr on, with IDs from id on: ENOMEM, EINVAL.
func (r *Ring) Provide(gid uint16, addr uint64, length uint32, id uint16, n int) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(gid)
	switch {
	case g == nil:
		return unix.ENOMEM
	case g.ring != 0:
		return unix.EINVAL
	case g.len()+n > maxGroup || !g.grow(g.len()+n):
		return unix.ENOMEM
	}
	g.compact()
	for i := range n {
		g.list = append(g.list, Buffer{addr + uint64(i)*uint64(length), length, id + uint16(i)})
	}
	return nil
}

// Unprovide takes up to n buffers back and returns how many: ENOENT, EINVAL.
func (r *Ring) Unprovide(gid uint16, n int) (uint64, error) {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[gid]
	switch {
	case g == nil:
		return 0, unix.ENOENT
	case g.ring != 0:
		return 0, unix.EINVAL
	}
	n = min(n, g.len())
	if g.first += n; g.len() == 0 {
		s.removeGroup(gid)
	}
	return uint64(n), nil
}

// RegisterGroup makes a ring of entries buffers at addr the group gid: EINVAL, EEXIST, ENOMEM.
func (r *Ring) RegisterGroup(gid uint16, addr uint64, entries uint32) error {
	if addr == 0 || addr&4095 != 0 || entries == 0 || entries&(entries-1) != 0 || entries >= maxGroup {
		return unix.EINVAL
	}
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(gid)
	switch {
	case g == nil:
		return unix.ENOMEM
	case g.ring != 0 || g.len() > 0:
		return unix.EEXIST
	}
	g.ring, g.entries, g.head = addr, entries, 0
	return nil
}

// UnregisterGroup undoes RegisterGroup: ENOENT, EINVAL.
func (r *Ring) UnregisterGroup(gid uint16) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[gid]
	switch {
	case g == nil:
		return unix.ENOENT
	case g.ring == 0:
		return unix.EINVAL
	}
	s.removeGroup(gid)
	return nil
}

// Select takes a buffer of a group: ENOBUFS, EFAULT. Unselect gives it back.
func (r *Ring) Select(t *task.Task, gid uint16) (Buffer, error) {
	s := &r.res
	for {
		s.mu.Lock()
		g := s.groups[gid]
		if g == nil || g.len() == 0 && g.ring == 0 {
			s.mu.Unlock()
			return Buffer{}, unix.ENOBUFS
		}
		if g.len() > 0 {
			b := g.take()
			s.mu.Unlock()
			return b, nil
		}
		at, entries, head := g.ring, g.entries, g.head
		s.mu.Unlock() // the program's memory may be slow
		b, err := bufferAt(t, at, entries, head)
		if err != nil {
			return Buffer{}, err
		}
		s.mu.Lock()
		mine := s.groups[gid] == g && g.ring == at && g.head == head
		if mine {
			g.head++
		}
		s.mu.Unlock()
		if mine {
			return b, nil
		}
	}
}

// sizeofBuf is the size of a struct io_uring_buf; the tail lies in what the first has reserved.
const (
	sizeofBuf = 16
	bufTail   = 12
)

// bufferAt reads the buffer at head of a ring that the program fills: ENOBUFS when the tail is there, EFAULT.
func bufferAt(t *task.Task, ring uint64, entries uint32, head uint16) (b Buffer, err error) {
	v, err := t.Mem().Load32(ring + bufTail)
	if err != nil {
		return b, err
	}
	if uint16(v>>16) == head {
		return b, unix.ENOBUFS
	}
	at := ring + sizeofBuf*uint64(uint32(head)&(entries-1))
	if b.Addr, err = t.Mem().Load64(at); err != nil {
		return b, err
	}
	if b.Len, err = t.Mem().Load32(at + 8); err != nil {
		return b, err
	}
	v, err = t.Mem().Load32(at + 12)
	b.ID = uint16(v)
	return b, err
}

// Unselect gives back what Select took. Another request may have taken the next one of a ring meanwhile.
func (r *Ring) Unselect(gid uint16, b Buffer) {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[gid]
	switch {
	case g == nil || g.len() >= maxGroup || !g.grow(g.len()+1):
		// The group is another one by now, or has ended: the buffer is the program's.
	case g.first > 0:
		g.first--
		g.list[g.first] = b
	default:
		g.list = append([]Buffer{b}, g.list...)
	}
}
