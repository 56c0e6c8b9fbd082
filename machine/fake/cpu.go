package fake

import (
	"encoding/binary"
	"gosv/machine"
	"sync"
)

// The floating-point state image: x87 and SSE (512 bytes), the XSAVE header,
// and AVX's upper halves (Intel SDM vol. 1 §13.4).
const (
	fxSize    = 512
	headerEnd = fxSize + 64
	floatSize = headerEnd + 256
	floatMask = 7
)

type contextState struct {
	mu      sync.Mutex
	known   map[*machine.Context]*contextExtra // guarded by mu
	given   uint64                             // ticks that were claimed; guarded by mu
	claimed uint64                             // in sum; guarded by mu
}

// contextExtra is what a context has beyond what the kernel may touch.
type contextExtra struct {
	float  [floatSize]byte
	space  machine.Space // of the goroutine that enters
	kicked chan struct{} // holds a value from Kick until Enter returns for it
	inside bool          // guarded by contextState.mu
	since  uint64        // ticks at the last Begin or Claim; guarded by contextState.mu
}

// NewContext implements machine.CPU.
func (m *Machine) NewContext() (*machine.Context, error) {
	if m.fails() {
		return nil, machine.ErrNoMemory
	}
	c := &machine.Context{}
	c.CS, c.SS, c.RFLAGS = 0x33, 0x2b, 0x202
	x := &contextExtra{kicked: make(chan struct{}, 1)}
	x.float = initialFloat()
	m.contexts.mu.Lock()
	m.contexts.known[c] = x
	m.contexts.mu.Unlock()
	return c, nil
}

func initialFloat() (b [floatSize]byte) {
	binary.LittleEndian.PutUint16(b[0:], 0x37f)
	binary.LittleEndian.PutUint32(b[24:], 0x1f80)
	binary.LittleEndian.PutUint32(b[28:], 0xffff)
	return b
}

func (m *Machine) extra(c *machine.Context) *contextExtra {
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	x := m.contexts.known[c]
	if x == nil {
		panic("fake: not a context of this machine")
	}
	return x
}

// FreeContext implements machine.CPU.
func (m *Machine) FreeContext(c *machine.Context) {
	x := m.extra(c)
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	if x.inside {
		panic("fake: FreeContext while Enter runs")
	}
	delete(m.contexts.known, c)
}

// Contexts returns how many contexts exist.
func (m *Machine) Contexts() int {
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	return len(m.contexts.known)
}

// SetSpace implements machine.CPU.
func (m *Machine) SetSpace(c *machine.Context, s machine.Space) { m.extra(c).space = s }

// SetDebug implements machine.CPU: nothing here watches.
func (m *Machine) SetDebug(c *machine.Context, dr [4]uint64, dr7 uint64) {
	m.extra(c)
	for _, a := range dr {
		if a >= machine.UserTop {
			panic("fake: SetDebug with a kernel address")
		}
	}
	if dr7&^0xffff0355 != 0 {
		panic("fake: SetDebug with bits that are not for programs")
	}
}

// Expect implements machine.CPU: there is one processor.
func (m *Machine) Expect(c *machine.Context, cpu int) {
	if m.extra(c); cpu < -1 || cpu > 0 {
		panic("fake: Expect of another processor")
	}
}

// Bind implements machine.CPU.
func (m *Machine) Bind(uint64) {}

// Enter implements machine.CPU by Config.Enter. A pending Kick makes it return
// at once; a Kick while Config.Enter runs, when that returns, unless it consumed the Kick
// from Kicked itself.
func (m *Machine) Enter(c *machine.Context) machine.Trap {
	if m.cfg.Enter == nil {
		panic("fake: Enter without Config.Enter")
	}
	x := m.extra(c)
	select {
	case <-x.kicked:
		return machine.Interrupted
	default:
	}
	m.setInside(x, true)
	defer m.setInside(x, false)
	trap := m.cfg.Enter(c, x.space)
	if trap == machine.Syscall {
		c.OrigRAX = c.RAX
	}
	return trap
}

func (m *Machine) setInside(x *contextExtra, inside bool) {
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	if inside && x.inside {
		panic("fake: two Enter calls on one context")
	}
	x.inside = inside
}

// Kick implements machine.CPU.
func (m *Machine) Kick(c *machine.Context) {
	select {
	case m.extra(c).kicked <- struct{}{}:
	default:
	}
}

// Unkick implements machine.CPU.
func (m *Machine) Unkick(c *machine.Context) {
	select {
	case <-m.extra(c).kicked:
	default:
	}
}

// Begin implements machine.CPU.
func (m *Machine) Begin(c *machine.Context) {
	x, now := m.extra(c), m.Ticks()
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	x.since = now
}

// Claim implements machine.CPU: there is one processor, which always has something to do.
func (m *Machine) Claim(c *machine.Context) uint64 {
	x, now := m.extra(c), m.Ticks()
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	n := m.contexts.unclaimed(x, now)
	x.since = max(x.since, now)
	m.contexts.given += n
	m.contexts.claimed += n
	return n
}

// BeginMeter implements machine.CPU.
func (m *Machine) BeginMeter(w *machine.Meter) { w.Since = m.Ticks() }

// ClaimMeter implements machine.CPU.
func (m *Machine) ClaimMeter(w *machine.Meter) uint64 {
	now := m.Ticks()
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	n := min(now-min(w.Since, now), now-min(m.contexts.given, now))
	w.Since = max(w.Since, now)
	m.contexts.given += n
	m.contexts.claimed += n
	return n
}

// Spent implements machine.CPU: all is processor 0's, the others are idle.
func (m *Machine) Spent(n int) (claimed, idle uint64) {
	if n > 0 {
		return 0, m.Ticks()
	}
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	return m.contexts.claimed, 0
}

// Unclaimed implements machine.CPU.
func (m *Machine) Unclaimed(c *machine.Context) uint64 {
	x, now := m.extra(c), m.Ticks()
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	if !x.inside {
		return 0
	}
	return m.contexts.unclaimed(x, now)
}

// unclaimed returns what there is for x to claim. s.mu is held.
func (s *contextState) unclaimed(x *contextExtra, now uint64) uint64 {
	return min(now-min(x.since, now), now-min(s.given, now))
}

// Inside implements machine.CPU.
func (m *Machine) Inside(c *machine.Context) bool {
	x := m.extra(c)
	m.contexts.mu.Lock()
	defer m.contexts.mu.Unlock()
	return x.inside
}

// Number implements machine.CPU.
func (m *Machine) Number() int { return 0 }

// Kicked is for Config.Enter functions that play a program which runs on: it
// yields a value when Kick was called, upon which the function returns
// Interrupted.
func (m *Machine) Kicked(c *machine.Context) <-chan struct{} { return m.extra(c).kicked }

// FloatSize implements machine.CPU.
func (m *Machine) FloatSize() int { return floatSize }

// FloatMask implements machine.CPU.
func (m *Machine) FloatMask() uint64 { return floatMask }

// SaveFloat implements machine.CPU.
func (m *Machine) SaveFloat(c *machine.Context, dst []byte) {
	x := m.extra(c)
	copy(dst[:floatSize], x.float[:])
	binary.LittleEndian.PutUint64(dst[fxSize:], floatMask)
}

// LoadFloat implements machine.CPU.
func (m *Machine) LoadFloat(c *machine.Context, src []byte) bool {
	x := m.extra(c)
	if len(src) < fxSize || binary.LittleEndian.Uint32(src[24:])>>16 != 0 {
		return false
	}
	state := initialFloat()
	copy(state[:], src[:fxSize])
	if len(src) >= floatSize {
		present := binary.LittleEndian.Uint64(src[fxSize:])
		if present&^floatMask != 0 {
			return false
		}
		for _, b := range src[fxSize+8 : headerEnd] {
			if b != 0 {
				return false
			}
		}
		if present&4 != 0 {
			copy(state[headerEnd:], src[headerEnd:floatSize])
		}
	}
	x.float = state
	return true
}

// ResetFloat implements machine.CPU.
func (m *Machine) ResetFloat(c *machine.Context) { m.extra(c).float = initialFloat() }

// CopyFloat implements machine.CPU.
func (m *Machine) CopyFloat(dst, src *machine.Context) { m.extra(dst).float = m.extra(src).float }

// HWCap implements machine.CPU.
func (m *Machine) HWCap() (hwcap, hwcap2 uint64) { return 0x178bfbff, 2 }
