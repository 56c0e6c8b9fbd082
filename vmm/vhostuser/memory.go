package vhostuser

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// region is a piece of the guest's memory.
type region struct {
	guest uint64 // physical address
	user  uint64 // address in the monitor, by which it names rings
	bytes []byte
}

func unmap(list []region) {
	for _, r := range list {
		_ = unix.Munmap(r.bytes) // it was mapped
	}
}

// memory is the guest's memory as it is shared.
type memory struct {
	mu      sync.RWMutex // held for reading while the memory is used, see hold
	regions []region     // guarded by mu
}

// set replaces the regions, once nobody uses the old ones.
func (m *memory) set(list []region) {
	m.mu.Lock()
	old := m.regions
	m.regions = list
	unmap(old)
	m.mu.Unlock()
}

func (m *memory) clear() { m.set(nil) }

// hold keeps the memory mapped until letGo, which may be another goroutine's.
//
// +checklocksignore
func (m *memory) hold() { m.mu.RLock() }

// letGo ends a hold.
//
// +checklocksignore
func (m *memory) letGo() { m.mu.RUnlock() }

// find returns n bytes at an address of the kind that base tells; nil when they are not all in one region.
func (m *memory) find(addr, n uint64, base func(*region) uint64) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		off := addr - base(r)
		if off < uint64(len(r.bytes)) && n <= uint64(len(r.bytes))-off {
			return r.bytes[off : off+n : off+n]
		}
	}
	return nil
}

func (m *memory) guest(addr, n uint64) []byte {
	return m.find(addr, n, func(r *region) uint64 { return r.guest })
}

func (m *memory) user(addr, n uint64) []byte {
	return m.find(addr, n, func(r *region) uint64 { return r.user })
}

// Accesses to rings are calls that the compiler does not look into, so that they happen, once, and in order; on
// x86-64, loads and stores are seen in order but for a store before a load, where fence stands.

//go:noinline
func load16(b []byte) uint16 { return le.Uint16(b) }

//go:noinline
func load32(b []byte) uint32 { return le.Uint32(b) }

//go:noinline
func load64(b []byte) uint64 { return le.Uint64(b) }

//go:noinline
func store16(b []byte, v uint16) { le.PutUint16(b, v) }

//go:noinline
func store32(b []byte, v uint32) { le.PutUint32(b, v) }

var fenceWord atomic.Uint32

// fence makes stores before it seen before loads behind it happen.
func fence() { fenceWord.Add(1) }
