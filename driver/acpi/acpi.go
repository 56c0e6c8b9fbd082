// Package acpi reads what a small kernel needs of the ACPI tables (ACPI Specification 6.5): how to power off, PCI
// configuration space, and virtio-mmio devices. The processors in the MADT are read by machine/floor, before this can run.
//
// The tables are foreign bytes: lengths and checksums are checked, and nothing is
// interpreted. AML is only searched for two shapes that firmware writes as constants.
package acpi

import (
	"encoding/binary"
	"errors"
)

// Reader gives access to physical memory, as machine.Firmware.Physical does.
type Reader func(pa, n uint64) ([]byte, error)

var (
	errNoRSDP   = errors.New("acpi: no root pointer")
	errChecksum = errors.New("acpi: bad checksum")
	errLength   = errors.New("acpi: bad table length")
	errNoTable  = errors.New("acpi: no such table")
)

const (
	headerSize = 36
	maxTable   = 4 << 20 // bytes
	maxTables  = 256
)

// Tables are the ACPI tables of a machine.
type Tables struct {
	read  Reader
	addrs []uint64
}

// le32 and le64 read words where the length was checked.
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func sum(b []byte) (s uint8) {
	for _, v := range b {
		s += v
	}
	return s
}

// Load reads the list of tables that the root pointer at rsdp leads to (§5.2.5).
func Load(read Reader, rsdp uint64) (*Tables, error) {
	const size1, size2 = 20, 36
	if rsdp == 0 {
		return nil, errNoRSDP
	}
	p, err := read(rsdp, size1)
	if err != nil {
		return nil, err
	}
	if len(p) < size1 || string(p[:8]) != "RSD PTR " {
		return nil, errNoRSDP
	}
	if sum(p[:size1]) != 0 {
		return nil, errChecksum
	}
	root, entry := uint64(le32(p[16:])), 4
	if p[15] >= 2 {
		if p, err = read(rsdp, size2); err != nil {
			return nil, err
		}
		if len(p) < size2 || sum(p[:size2]) != 0 {
			return nil, errChecksum
		}
		if x := le64(p[24:]); x != 0 {
			root, entry = x, 8
		}
	}
	t := &Tables{read: read}
	sig := "RSDT"
	if entry == 8 {
		sig = "XSDT"
	}
	list, err := t.table(root, sig)
	if err != nil {
		return nil, err
	}
	for list = list[headerSize:]; len(list) >= entry && len(t.addrs) < maxTables; list = list[entry:] {
		if entry == 8 {
			t.addrs = append(t.addrs, le64(list))
		} else {
			t.addrs = append(t.addrs, uint64(le32(list)))
		}
	}
	return t, nil
}

// table reads the table at pa, with its header, and checks it.
func (t *Tables) table(pa uint64, sig string) ([]byte, error) {
	h, err := t.read(pa, headerSize)
	if err != nil {
		return nil, err
	}
	if len(h) < headerSize || string(h[:4]) != sig {
		return nil, errNoTable
	}
	n := uint64(le32(h[4:]))
	if n < headerSize || n > maxTable || pa+n < pa {
		return nil, errLength
	}
	b, err := t.read(pa, n)
	if err != nil {
		return nil, err
	}
	if uint64(len(b)) < n {
		return nil, errLength
	}
	if b = b[:n]; sum(b) != 0 {
		return nil, errChecksum
	}
	return b, nil
}

// Table returns the first table with a signature, its header included.
func (t *Tables) Table(sig string) ([]byte, error) {
	err := errNoTable
	for _, pa := range t.addrs {
		b, e := t.table(pa, sig)
		if e == nil {
			return b, nil
		}
		if e != errNoTable {
			err = e
		}
	}
	return nil, err
}

// dsdt returns the DSDT, which the FADT leads to.
func (t *Tables) dsdt(fadt []byte) ([]byte, error) {
	const at, at64 = 40, 140
	if len(fadt) >= at64+8 {
		if pa := le64(fadt[at64:]); pa != 0 {
			return t.table(pa, "DSDT")
		}
	}
	if len(fadt) < at+4 {
		return nil, errLength
	}
	return t.table(uint64(le32(fadt[at:])), "DSDT")
}
