package fake

import (
	"fmt"
	"gosv/machine"
	"math/bits"
)

// frameState says what a frame is used for.
type frameState struct {
	used   bool
	mapped int32 // page table entries, in all spaces, that point here
}

// poison fills free frames, so that a use after free shows.
const poison = 0xdb

// FailAfter makes the allocation after the next n fail with ErrNoMemory, and all
// later ones too, until FailAfter(-1). Frames, page tables and spaces count as
// allocations.
func (m *Machine) FailAfter(n int) {
	m.failIn.Store(int64(n))
	m.failing.Store(n >= 0)
}

func (m *Machine) fails() bool {
	return m.failing.Load() && m.failIn.Add(-1) < 0
}

// InUse returns the number of frames that are allocated now.
func (m *Machine) InUse() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cfg.Frames - m.free
}

func (m *Machine) firstUsed() machine.Frame {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.state {
		if m.state[i].used {
			return machine.Frame(i)
		}
	}
	return machine.NoFrame
}

// Mapped returns how many page table entries of all spaces point to f.
func (m *Machine) Mapped(f machine.Frame) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int(m.state[f].mapped)
}

// Alloc implements machine.Frames.
func (m *Machine) Alloc() (machine.Frame, error) { return m.AllocRun(1) }

// AllocRun implements machine.Frames.
func (m *Machine) AllocRun(n int) (machine.Frame, error) {
	f, err := m.take(n)
	if err == nil {
		clear(m.Bytes(f, n))
	}
	return f, err
}

// AllocRaw implements machine.Frames. What was in the frames is poison.
func (m *Machine) AllocRaw(n int) (machine.Frame, error) {
	f, err := m.take(n)
	if err == nil {
		m.poison(f, n)
	}
	return f, err
}

// take takes n frames.
func (m *Machine) take(n int) (machine.Frame, error) {
	if n < 1 || n > 512 {
		panic("fake: AllocRun of a bad number of frames")
	}
	if m.fails() {
		return machine.NoFrame, machine.ErrNoMemory
	}
	m.mu.Lock()
	f := m.findRun(n)
	if f == machine.NoFrame {
		m.mu.Unlock()
		return f, machine.ErrNoMemory
	}
	for i := range n {
		m.state[int(f)+i].used = true
	}
	m.free -= n
	m.next = int(f) + n
	m.mu.Unlock()
	return f, nil
}

// findRun looks for n free frames from where the last search ended. m.mu is held.
func (m *Machine) findRun(n int) machine.Frame {
	align := 1 << bits.Len(uint(n-1))
	if m.free < n {
		return machine.NoFrame
	}
	for pass, from := 0, m.next; pass < 2; pass, from = pass+1, 1 {
	candidates:
		for f := (from + align - 1) &^ (align - 1); f+n <= len(m.state); f += align {
			if f == 0 {
				continue
			}
			for i := range n {
				if m.state[f+i].used {
					continue candidates
				}
			}
			return machine.Frame(f)
		}
	}
	return machine.NoFrame
}

// Free implements machine.Frames.
func (m *Machine) Free(f machine.Frame, n int) {
	m.poison(f, n)
	m.release(f, n)
	m.mu.Lock()
	tell := m.freed(n)
	m.mu.Unlock()
	if tell != nil {
		tell()
	}
}

func (m *Machine) poison(f machine.Frame, n int) {
	b := m.Bytes(f, n)
	for i := range b {
		b[i] = poison
	}
}

func (m *Machine) release(f machine.Frame, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range n {
		s := &m.state[int(f)+i]
		if !s.used {
			panic(fmt.Sprintf("fake: frame %d is freed but not in use", int(f)+i))
		}
		if s.mapped != 0 {
			panic(fmt.Sprintf("fake: frame %d is freed but mapped %d times", int(f)+i, s.mapped))
		}
		s.used = false
	}
	m.free += n
}

// Bytes implements machine.Frames.
func (m *Machine) Bytes(f machine.Frame, n int) []byte {
	if f == machine.NoFrame || n < 0 || uint64(f)+uint64(n) > uint64(len(m.state)+m.cfg.DeviceFrames) {
		panic(fmt.Sprintf("fake: there are no %d frames at %d", n, f))
	}
	from, to := uint64(f)*machine.PageSize, (uint64(f)+uint64(n))*machine.PageSize
	return m.slab[from:to:to]
}

// Limit implements machine.Frames.
func (m *Machine) Limit() machine.Frame { return machine.Frame(len(m.state)) }

// OnShortage implements machine.Frames: the fake machine's heap is the host's.
func (m *Machine) OnShortage(func()) {}

// Usage implements machine.Frames.
func (m *Machine) Usage() (total, free uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(m.cfg.Frames), uint64(m.free)
}

// mapCount changes the number of entries that point to n frames from f on.
func (m *Machine) mapCount(f machine.Frame, n int, delta int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range n {
		if int(f)+i >= len(m.state) {
			break // a device's memory
		}
		s := &m.state[int(f)+i]
		if delta > 0 && !s.used {
			panic(fmt.Sprintf("fake: frame %d is mapped but not in use", int(f)+i))
		}
		s.mapped += delta
	}
}

// TakeFree implements machine.FreeBlocks. Memory is never short.
func (m *Machine) TakeFree(f machine.Frame) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	const n = machine.BlockFrames
	if f == 0 || f%n != 0 || int(f)+n > len(m.state) {
		return 0
	}
	for i := range machine.Frame(n) {
		if m.state[f+i].used {
			return 0
		}
	}
	for i := range machine.Frame(n) {
		m.state[f+i].used = true
	}
	m.free -= n
	return n
}

// OnFreed implements machine.FreeBlocks.
func (m *Machine) OnFreed(n int, tell func()) {
	m.mu.Lock()
	m.watched, m.tell = n, tell
	m.mu.Unlock()
}

// freed counts frames that were freed. m.mu is held; the caller calls what it returns without.
func (m *Machine) freed(n int) (tell func()) {
	if m.watched -= n; m.watched <= 0 {
		tell, m.tell = m.tell, nil
	}
	return tell
}
