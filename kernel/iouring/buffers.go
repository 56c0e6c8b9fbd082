package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/mm"
)

// maxBuffers is how many buffers may be registered.
const maxBuffers = 1 << 14

// A Range is a registered buffer.
type Range = mm.Range

// RegisterBuffers is IORING_REGISTER_BUFFERS: EBUSY, EINVAL.
func (r *Ring) RegisterBuffers(list []Range) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.buffers != nil:
		return unix.EBUSY
	case len(list) == 0 || len(list) > maxBuffers:
		return unix.EINVAL
	}
	s.buffers = list
	return nil
}

// UnregisterBuffers undoes RegisterBuffers: ENXIO.
func (r *Ring) UnregisterBuffers() error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buffers == nil {
		return unix.ENXIO
	}
	s.buffers = nil
	return nil
}

// CheckBuffer sees to it that n bytes at addr lie in a registered buffer: EFAULT.
func (r *Ring) CheckBuffer(index uint16, addr, n uint64) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(index) >= len(s.buffers) {
		return unix.EFAULT
	}
	b := s.buffers[index]
	if addr < b.Addr || n > b.Len || addr-b.Addr > b.Len-n {
		return unix.EFAULT
	}
	return nil
}
