package acpi

import (
	"encoding/binary"
	"gosv/machine"
)

// Address spaces of a register (§5.2.3.2).
const (
	SystemMemory = 0
	SystemIO     = 1
)

// A Register is a generic address structure; the zero value is no register.
type Register struct {
	Space   uint8
	Width   uint8 // bits
	Address uint64
}

// write stores v into the register. It reports whether it could.
func (r Register) write(bus machine.Bus, v uint32) bool {
	size := uint64(max(r.Width, 8) / 8)
	if r.Address == 0 || size > 4 || size == 3 {
		return false
	}
	switch r.Space {
	case SystemIO:
		if r.Address > 0xffff {
			return false
		}
		bus.Out(uint16(r.Address), int(size), v)
		return true
	case SystemMemory:
		m, err := bus.Registers(r.Address, size)
		if err != nil || r.Address%size != 0 {
			return false
		}
		switch size {
		case 1:
			m.Store8(0, uint8(v))
		case 2:
			m.Store16(0, uint16(v))
		case 4:
			m.Store32(0, v)
		}
		return true
	}
	return false
}

// Offsets in the FADT (§5.2.9) and bits of its flags.
const (
	fadtPM1A      = 64
	fadtPM1B      = 68
	fadtFlags     = 112
	fadtPM1A64    = 172
	fadtPM1B64    = 184
	fadtSleep     = 244
	fadtMinimum   = 116
	flagHWReduced = 1 << 20

	sleepTypeShift = 10 // PM1 control (§4.8.3.2.1)
	sleepEnable    = 1 << 13
	reducedShift   = 2 // sleep control (§4.8.3.7)
	reducedEnable  = 1 << 5
)

// Power is what it takes to power the machine off.
type Power struct {
	pm1a, pm1b   Register
	sleep        Register
	typeA, typeB uint8
	off          bool
}

// Power reads the FADT, and the DSDT for \_S5 (§7.4.2). Without \_S5 PowerOff does nothing; that is no error.
func (t *Tables) Power() (*Power, error) {
	fadt, err := t.Table("FACP")
	if err != nil {
		return nil, err
	}
	if len(fadt) < fadtMinimum {
		return nil, errLength
	}
	p := &Power{}
	flags := le32(fadt[fadtFlags:])
	if flags&flagHWReduced != 0 {
		p.sleep = register(fadt, fadtSleep)
	} else {
		p.pm1a = pm1(fadt, fadtPM1A64, fadtPM1A)
		p.pm1b = pm1(fadt, fadtPM1B64, fadtPM1B)
	}
	dsdt, err := t.dsdt(fadt)
	if err != nil {
		return nil, err
	}
	p.typeA, p.typeB, p.off = findS5(dsdt[headerSize:])
	return p, nil
}

// register reads a generic address structure, the zero value when the table is too short.
func register(b []byte, at int) Register {
	if len(b) < at+12 {
		return Register{}
	}
	return Register{Space: b[at], Width: b[at+1], Address: binary.LittleEndian.Uint64(b[at+4:])}
}

// pm1 reads a PM1 control register: the extended form, or the old one, a port.
func pm1(fadt []byte, extended, old int) Register {
	if r := register(fadt, extended); r.Address != 0 {
		return r
	}
	return Register{Space: SystemIO, Width: 16, Address: uint64(le32(fadt[old:]))}
}

// PowerOff enters state S5; it returns when the machine does not do so, or says no way.
func (p *Power) PowerOff(bus machine.Bus) {
	if !p.off {
		return
	}
	p.sleep.write(bus, uint32(p.typeA)<<reducedShift|reducedEnable)
	p.pm1a.write(bus, uint32(p.typeA)<<sleepTypeShift|sleepEnable)
	p.pm1b.write(bus, uint32(p.typeB)<<sleepTypeShift|sleepEnable)
}
