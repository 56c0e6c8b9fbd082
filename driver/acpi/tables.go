package acpi

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
