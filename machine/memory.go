package machine

import (
	"sync/atomic"
	"unsafe"
)

// Memory is a piece of memory that somebody else reads and writes too: a
// device's registers or a ring shared with it. Each access is one load or store
// of the stated size, not reordered by the compiler with other accesses to a Memory;
// stores are visible in order, and a Store is a full barrier (but see Settle).
// An access outside the piece or not naturally aligned panics.
type Memory struct {
	p unsafe.Pointer
	n uint64
}

// MemoryOf makes a Memory of a byte slice, which must stay alive and in place.
func MemoryOf(b []byte) Memory {
	return Memory{unsafe.Pointer(unsafe.SliceData(b)), uint64(len(b))}
}

// Len returns the length in bytes.
func (m Memory) Len() uint64 { return m.n }

// Slice returns the n bytes at off as a Memory.
func (m Memory) Slice(off, n uint64) Memory {
	if off > m.n || n > m.n-off {
		panic("machine: Memory slice out of range")
	}
	return Memory{unsafe.Add(m.p, off), n}
}

func (m Memory) at(off, size uint64) unsafe.Pointer {
	if off >= m.n || m.n-off < size || (uint64(uintptr(m.p))+off)&(size-1) != 0 {
		panic("machine: bad Memory access")
	}
	return unsafe.Add(m.p, off)
}

// Load8 reads one byte.
func (m Memory) Load8(off uint64) uint8 { return load8((*uint8)(m.at(off, 1))) }

// Load16 reads two bytes.
func (m Memory) Load16(off uint64) uint16 { return load16((*uint16)(m.at(off, 2))) }

// Load32 reads four bytes.
func (m Memory) Load32(off uint64) uint32 { return atomic.LoadUint32((*uint32)(m.at(off, 4))) }

// Load64 reads eight bytes.
func (m Memory) Load64(off uint64) uint64 { return atomic.LoadUint64((*uint64)(m.at(off, 8))) }

// Store8 writes one byte.
func (m Memory) Store8(off uint64, v uint8) { store8((*uint8)(m.at(off, 1)), v) }

// Store16 writes two bytes.
func (m Memory) Store16(off uint64, v uint16) { store16((*uint16)(m.at(off, 2)), v) }

// Store32 writes four bytes.
func (m Memory) Store32(off uint64, v uint32) { atomic.StoreUint32((*uint32)(m.at(off, 4)), v) }

// Store64 writes eight bytes.
func (m Memory) Store64(off uint64, v uint64) { atomic.StoreUint64((*uint64)(m.at(off, 8)), v) }

func load8(p *uint8) uint8
func load16(p *uint16) uint16
func store8(p *uint8, v uint8)
func store16(p *uint16, v uint16)
