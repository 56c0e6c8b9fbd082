package bare

import (
	"encoding/binary"
	"unsafe"

	"gosv/machine"
	"gosv/machine/floor"
)

func whole(c *machine.Context) *floor.Context { return (*floor.Context)(unsafe.Pointer(c)) }

// NewContext implements machine.CPU. A context is a page outside the Go heap:
// interrupts store into it.
func (m *Machine) NewContext() (*machine.Context, error) {
	f, err := m.Alloc()
	if err != nil {
		return nil, err
	}
	c := (*machine.Context)(direct(uint64(f) * machine.PageSize))
	c.CS, c.SS, c.RFLAGS = 0x33, 0x2b, 0x202
	m.ResetFloat(c)
	return c, nil
}

// FreeContext implements machine.CPU.
func (m *Machine) FreeContext(c *machine.Context) {
	m.Free(machine.Frame((uint64(uintptr(unsafe.Pointer(c)))-floor.DirectMap)/machine.PageSize), 1)
}

// SetSpace implements machine.CPU.
func (m *Machine) SetSpace(c *machine.Context, s machine.Space) {
	whole(c).SetSpace(s.(*space).hot)
}

// SetDebug implements machine.CPU.
func (m *Machine) SetDebug(c *machine.Context, dr [4]uint64, dr7 uint64) { whole(c).SetDebug(dr, dr7) }

// Expect implements machine.CPU.
func (m *Machine) Expect(c *machine.Context, cpu int) { whole(c).Expect(cpu) }

// Bind implements machine.CPU.
func (m *Machine) Bind(set uint64) { floor.Bind(set) }

// Enter implements machine.CPU.
func (m *Machine) Enter(c *machine.Context) machine.Trap {
	t := floor.Enter(c)
	if t == machine.Interrupted && floor.DevicePending() {
		m.interrupts.serve()
	}
	return t
}

// Kick implements machine.CPU.
func (m *Machine) Kick(c *machine.Context) { floor.Kick(c) }

// Unkick implements machine.CPU.
func (m *Machine) Unkick(c *machine.Context) { floor.Unkick(c) }

// Begin implements machine.CPU.
func (m *Machine) Begin(c *machine.Context) { floor.Begin(c) }

// Claim implements machine.CPU.
func (m *Machine) Claim(c *machine.Context) uint64 { return floor.Claim(c) }

// Unclaimed implements machine.CPU.
func (m *Machine) Unclaimed(c *machine.Context) uint64 { return floor.Unclaimed(c) }

// BeginMeter implements machine.CPU.
func (m *Machine) BeginMeter(w *machine.Meter) { floor.BeginMeter(w) }

// ClaimMeter implements machine.CPU.
func (m *Machine) ClaimMeter(w *machine.Meter) uint64 { return floor.ClaimMeter(w) }

// Spent implements machine.CPU.
func (m *Machine) Spent(n int) (claimed, idle uint64) { return floor.Claimed(n), floor.Idle(n) }

// Inside implements machine.CPU.
func (m *Machine) Inside(c *machine.Context) bool { return floor.Inside(c) }

// Number implements machine.CPU.
func (m *Machine) Number() int { return int(floor.ThisCPU()) }

// The vector state of a context is in the XSAVE standard format: 512 bytes
// legacy, a header of 64 bytes that begins with XSTATE_BV, the rest (Intel SDM
// vol. 1 §13.4). Without XSAVE there is only the first part.
const (
	legacySize = 512
	headerSize = 64
	mxcsrMask  = 0xffff
)

// FloatSize implements machine.CPU.
func (*Machine) FloatSize() int {
	switch mask := floor.FloatMask(); {
	case !floor.HasXSAVE():
		return legacySize
	case mask&0xe0 != 0:
		return 2688
	case mask&4 != 0:
		return 832
	}
	return legacySize + headerSize
}

// FloatMask implements machine.CPU.
func (*Machine) FloatMask() uint64 { return floor.FloatMask() }

// component i of the standard format: where it is.
var components = [8]struct{ offset, size int }{
	2: {576, 256}, 5: {1088, 64}, 6: {1152, 512}, 7: {1664, 1024},
}

// SaveFloat implements machine.CPU.
func (m *Machine) SaveFloat(c *machine.Context, dst []byte) {
	src := whole(c).Float()
	copy(dst[:m.FloatSize()], src)
	if !floor.HasXSAVE() {
		return
	}
	have, mask := binary.LittleEndian.Uint64(src[legacySize:]), floor.FloatMask()
	if have&1 == 0 { // x87 in its initial state
		clear(dst[:24])
		clear(dst[32:160])
		dst[0], dst[1] = 0x7f, 3
	}
	if have&2 == 0 {
		clear(dst[160:416])
	}
	if have&6 == 0 {
		binary.LittleEndian.PutUint32(dst[24:], 0x1f80)
	}
	for i, p := range components {
		if p.size != 0 && mask>>i&1 != 0 && have>>i&1 == 0 {
			clear(dst[p.offset : p.offset+p.size])
		}
	}
	binary.LittleEndian.PutUint64(dst[legacySize:], mask)
}

// LoadFloat implements machine.CPU.
func (m *Machine) LoadFloat(c *machine.Context, src []byte) bool {
	if len(src) < legacySize || binary.LittleEndian.Uint32(src[24:])&^mxcsrMask != 0 {
		return false
	}
	dst := whole(c).Float()
	if !floor.HasXSAVE() {
		copy(dst[:legacySize], src)
		return true
	}
	have := uint64(3)
	if n := m.FloatSize(); len(src) >= n {
		have = binary.LittleEndian.Uint64(src[legacySize:])
		if have&^floor.FloatMask() != 0 {
			return false
		}
		reserved := uint64(0) // XCOMP_BV and what lies behind it
		for h := src[legacySize+8 : legacySize+headerSize]; len(h) >= 8; h = h[8:] {
			reserved |= binary.LittleEndian.Uint64(h)
		}
		if reserved != 0 {
			return false
		}
		copy(dst[legacySize+headerSize:n], src[legacySize+headerSize:])
	}
	copy(dst[:legacySize], src)
	clear(dst[legacySize : legacySize+headerSize])
	binary.LittleEndian.PutUint64(dst[legacySize:], have)
	return true
}

// ResetFloat implements machine.CPU.
func (*Machine) ResetFloat(c *machine.Context) {
	b := whole(c).Float()
	clear(b[:legacySize+headerSize])
	b[0], b[1] = 0x7f, 3
	binary.LittleEndian.PutUint32(b[24:], 0x1f80)
}

// CopyFloat implements machine.CPU.
func (m *Machine) CopyFloat(dst, src *machine.Context) {
	copy(whole(dst).Float(), whole(src).Float()[:m.FloatSize()])
}

// HWCap implements machine.CPU.
func (*Machine) HWCap() (hwcap, hwcap2 uint64) {
	_, _, _, d := floor.CPUID(1, 0)
	if floor.HasBase() {
		hwcap2 = 2 // HWCAP2_FSGSBASE
	}
	return uint64(d), hwcap2
}
