package bare

import (
	"unsafe"

	"gosv/machine"
	"gosv/machine/floor"
)

// within returns how much of [va, va+n) lies below machine.UserTop.
func within(va, n uint64) uint64 {
	if va >= machine.UserTop {
		return 0
	}
	return min(n, machine.UserTop-va)
}

func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// CopyIn implements machine.Space.
func (s *space) CopyIn(dst []byte, va uint64) int {
	n := within(va, uint64(len(dst)))
	return int(n - floor.CopyUser(address(dst), va, n, s.hot))
}

// CopyOut implements machine.Space.
func (s *space) CopyOut(va uint64, src []byte) int {
	n := within(va, uint64(len(src)))
	return int(n - floor.CopyUser(va, address(src), n, s.hot))
}

// ZeroOut implements machine.Space.
func (s *space) ZeroOut(va, n uint64) uint64 {
	n = within(va, n)
	return n - floor.ZeroUser(va, n, s.hot)
}

// Load32 implements machine.Space.
func (s *space) Load32(va uint64) (uint32, bool) {
	if va&3 != 0 || va > machine.UserTop-4 {
		return 0, false
	}
	v, ok := floor.LoadUser32(va, s.hot)
	return uint32(v), ok
}

// Load64 implements machine.Space.
func (s *space) Load64(va uint64) (uint64, bool) {
	if va > machine.UserTop-8 {
		return 0, false
	}
	return floor.LoadUser64(va, s.hot)
}

// Store32 implements machine.Space.
func (s *space) Store32(va uint64, v uint32) bool {
	_, ok := s.word(va, uint64(v), 0, floor.Store32)
	return ok
}

// Store64 implements machine.Space.
func (s *space) Store64(va, v uint64) bool {
	if va > machine.UserTop-8 {
		return false
	}
	return floor.StoreUser64(va, v, s.hot)
}

// CompareAndSwap32 implements machine.Space.
func (s *space) CompareAndSwap32(va uint64, old, v uint32) (uint32, bool) {
	found, ok := s.word(va, uint64(v), uint64(old), floor.Swap32)
	return uint32(found), ok
}

func (s *space) word(va, v, old, op uint64) (uint64, bool) {
	if va&3 != 0 || va > machine.UserTop-4 {
		return 0, false
	}
	return floor.WordUser(va, v, old, op, s.hot)
}
