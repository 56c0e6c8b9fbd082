package acpi

// MADT is the multiple APIC description table (§5.2.12).
type MADT struct {
	LocalAPIC uint64
	// CPUs are the local APIC identifiers of the processors that can run.
	CPUs      []uint32
	IOAPICs   []IOAPIC
	Overrides []Override
}

// IOAPIC is an I/O APIC; its inputs are the global system interrupts from Base on.
type IOAPIC struct {
	Address uint64
	Base    uint32
}

// Override says that an ISA interrupt is at another global system interrupt.
type Override struct {
	IRQ       uint8
	GSI       uint32
	Level     bool
	ActiveLow bool
}

// MADT reads the table.
func (t *Tables) MADT() (*MADT, error) {
	b, err := t.Table("APIC")
	if err != nil {
		return nil, err
	}
	const entries = headerSize + 8
	if len(b) < entries {
		return nil, errLength
	}
	m := &MADT{LocalAPIC: uint64(le32(b[headerSize:]))}
	for b = b[entries:]; len(b) >= 2; {
		n := int(b[1])
		if n < 2 || n > len(b) {
			return nil, errLength
		}
		m.entry(b[:n])
		b = b[n:]
	}
	return m, nil
}

func (m *MADT) entry(e []byte) {
	const enabled, onlineCapable = 1, 2
	switch kind := e[0]; {
	case kind == 0 && len(e) >= 8:
		if le32(e[4:])&(enabled|onlineCapable) != 0 {
			m.CPUs = append(m.CPUs, uint32(e[3]))
		}
	case kind == 1 && len(e) >= 12:
		m.IOAPICs = append(m.IOAPICs, IOAPIC{Address: uint64(le32(e[4:])), Base: le32(e[8:])})
	case kind == 2 && len(e) >= 10:
		m.Overrides = append(m.Overrides, Override{IRQ: e[3], GSI: le32(e[4:]),
			Level: e[8]>>2&3 == 3, ActiveLow: e[8]&3 == 3})
	case kind == 5 && len(e) >= 12:
		m.LocalAPIC = le64(e[4:])
	case kind == 9 && len(e) >= 16:
		if le32(e[8:])&(enabled|onlineCapable) != 0 {
			m.CPUs = append(m.CPUs, le32(e[4:]))
		}
	}
}

// ECAM is a range of PCI buses whose configuration space is in memory (PCI Firmware Specification §4.1.2).
type ECAM struct {
	Address     uint64 // of bus First
	Segment     uint16
	First, Last uint8
}

// MCFG reads the table.
func (t *Tables) MCFG() ([]ECAM, error) {
	b, err := t.Table("MCFG")
	if err != nil {
		return nil, err
	}
	const entries, size = headerSize + 8, 16
	if len(b) < entries {
		return nil, errLength
	}
	var all []ECAM
	for b = b[entries:]; len(b) >= size; b = b[size:] {
		e := ECAM{Segment: uint16(le32(b[8:])), First: b[10], Last: b[11]}
		if e.Last < e.First {
			return nil, errLength
		}
		// The address in the table is that of bus 0.
		e.Address = le64(b) + uint64(e.First)<<20
		all = append(all, e)
	}
	return all, nil
}
