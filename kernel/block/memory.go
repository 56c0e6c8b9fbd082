package block

import (
	"slices"
	"sync"
)

// Memory is a device in memory, for tests: it counts what is asked of it, and can lose what was not flushed.
type Memory struct {
	limits Limits

	mu    sync.Mutex
	bytes []byte // +checklocks:mu
	// durable is what is left after a loss of power; nil: not kept.
	durable []byte // +checklocks:mu
	// counts are the requests by Op.
	counts [5]int               // +checklocks:mu
	fault  func(*Request) error // +checklocks:mu
}

// NewMemory returns a device with the given contents, which it keeps; blockSize is the logical block's.
func NewMemory(contents []byte, blockSize int) *Memory {
	size := int64(len(contents)) &^ int64(blockSize-1)
	return &Memory{bytes: contents, limits: Limits{Size: size, BlockSize: blockSize, PhysicalSize: blockSize,
		MaxDiscard: 1 << 30, DiscardAlign: int64(blockSize), MaxZeroes: 1 << 30, Cached: true, Queues: 1}}
}

// SetLimits changes what Limits says; before the device is used.
func (m *Memory) SetLimits(change func(*Limits)) { change(&m.limits) }

// Limits implements Device.
func (m *Memory) Limits() Limits { return m.limits }

// SetFault makes fault decide the fate of each request; nil: none fails.
func (m *Memory) SetFault(fault func(*Request) error) {
	m.mu.Lock()
	m.fault = fault
	m.mu.Unlock()
}

// KeepDurable makes the device remember what a loss of power would leave: Durable.
func (m *Memory) KeepDurable() {
	m.mu.Lock()
	m.durable = slices.Clone(m.bytes)
	m.mu.Unlock()
}

// Durable returns a copy of what a loss of power leaves, with none of the writes since the last Flush.
func (m *Memory) Durable() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.durable)
}

// Bytes returns a copy of the contents.
func (m *Memory) Bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.bytes)
}

// Count returns how many requests of a kind there were.
func (m *Memory) Count(op Op) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[op]
}

// Do implements Device.
func (m *Memory) Do(r *Request) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[r.Op]++
	if m.fault != nil {
		if err := m.fault(r); err != nil {
			return err
		}
	}
	off := r.Off
	switch r.Op {
	case Read:
		for _, s := range r.Data {
			copy(s.Bytes, m.bytes[off:off+int64(len(s.Bytes))])
			off += int64(len(s.Bytes))
		}
	case Write:
		for _, s := range r.Data {
			copy(m.bytes[off:off+int64(len(s.Bytes))], s.Bytes)
			off += int64(len(s.Bytes))
		}
		if r.Durable && m.durable != nil {
			copy(m.durable[r.Off:off], m.bytes[r.Off:off])
		}
	case Flush:
		if m.durable != nil {
			copy(m.durable, m.bytes)
		}
	case WriteZeroes, Discard:
		clear(m.bytes[off : off+r.Len])
	}
	return nil
}
