package acpi

import "bytes"

// Opcodes of AML (§20.2).
const (
	amlZero    = 0x00
	amlOne     = 0x01
	amlName    = 0x08
	amlByte    = 0x0a
	amlWord    = 0x0b
	amlDWord   = 0x0c
	amlString  = 0x0d
	amlQWord   = 0x0e
	amlBuffer  = 0x11
	amlPackage = 0x12
	amlOnes    = 0xff
	amlRoot    = '\\'
)

// findS5 looks for Name(_S5, Package(){a, b, …}) in AML. Bytes in front of a name may belong to
// anything, so the first place where all fits counts.
func findS5(aml []byte) (a, b uint8, ok bool) {
	for from := 0; ; {
		i := bytes.Index(aml[from:], []byte("_S5_"))
		if i < 0 {
			return 0, 0, false
		}
		i += from
		from = i + 4
		if !named(aml, i) {
			continue
		}
		if a, b, ok := s5Package(aml[from:]); ok {
			return a, b, true
		}
	}
}

// named reports whether a name at i is what a Name operator defines.
func named(aml []byte, i int) bool {
	if i > 0 && aml[i-1] == amlRoot {
		i--
	}
	return i > 0 && aml[i-1] == amlName
}

func s5Package(p []byte) (a, b uint8, ok bool) {
	if len(p) == 0 || p[0] != amlPackage {
		return 0, 0, false
	}
	body, ok := enclosed(p[1:])
	if !ok || len(body) < 1 || body[0] < 1 {
		return 0, 0, false
	}
	count, body := body[0], body[1:]
	va, body, ok := integer(body)
	if !ok || va > 7 {
		return 0, 0, false
	}
	vb := va
	if count > 1 {
		if vb, _, ok = integer(body); !ok || vb > 7 {
			return 0, 0, false
		}
	}
	return uint8(va), uint8(vb), true
}

// enclosed returns what a PkgLength at the start of p encloses (§20.2.4), without the length itself.
func enclosed(p []byte) ([]byte, bool) {
	if len(p) == 0 {
		return nil, false
	}
	more := int(p[0] >> 6)
	n := int(p[0] & 0x3f)
	if more > 0 {
		n &= 0x0f
	}
	if len(p) < 1+more {
		return nil, false
	}
	for i := range more {
		n |= int(p[1+i]) << (4 + 8*i)
	}
	if n < 1+more || n > len(p) {
		return nil, false
	}
	return p[1+more : n], true
}

// integer reads a constant and returns what is behind it.
func integer(p []byte) (v uint64, rest []byte, ok bool) {
	if len(p) == 0 {
		return 0, nil, false
	}
	size := 0
	switch p[0] {
	case amlZero, amlOne:
		return uint64(p[0]), p[1:], true
	case amlOnes:
		return ^uint64(0), p[1:], true
	case amlByte:
		size = 1
	case amlWord:
		size = 2
	case amlDWord:
		size = 4
	case amlQWord:
		size = 8
	default:
		return 0, nil, false
	}
	if len(p) < 1+size {
		return 0, nil, false
	}
	for i := range size {
		v |= uint64(p[1+i]) << (8 * i)
	}
	return v, p[1+size:], true
}

// A VirtioMMIO is a virtio-mmio device that the DSDT describes.
type VirtioMMIO struct {
	Address, Size uint64
	GSI           uint32
}

// maxDevices bounds what VirtioMMIO returns.
const maxDevices = 64

// VirtioMMIO looks in the DSDT for devices with _HID "LNRO0005" whose _CRS is constant.
func (t *Tables) VirtioMMIO() ([]VirtioMMIO, error) {
	fadt, err := t.Table("FACP")
	if err != nil {
		return nil, err
	}
	dsdt, err := t.dsdt(fadt)
	if err != nil {
		return nil, err
	}
	return findVirtio(dsdt[headerSize:]), nil
}

func findVirtio(aml []byte) []VirtioMMIO {
	var found []VirtioMMIO
	hid := append([]byte{amlString}, "LNRO0005\x00"...)
	for len(found) < maxDevices {
		i := bytes.Index(aml, hid)
		if i < 0 {
			break
		}
		aml = aml[i+len(hid):]
		device := aml
		if next := bytes.Index(aml, hid); next >= 0 {
			device = aml[:next]
		}
		if d, ok := resources(device); ok {
			found = append(found, d)
		}
	}
	return found
}

// resources reads Name(_CRS, ResourceTemplate(){Memory32Fixed, Interrupt}) of a device.
func resources(aml []byte) (d VirtioMMIO, ok bool) {
	i := bytes.Index(aml, []byte("\x08_CRS\x11"))
	if i < 0 {
		return d, false
	}
	body, ok := enclosed(aml[i+6:])
	if !ok {
		return d, false
	}
	_, list, ok := integer(body)
	if !ok {
		return d, false
	}
	const memory32, interrupt, large = 0x86, 0x89, 0x80
	for len(list) >= 3 && list[0]&large != 0 {
		n := int(list[1]) | int(list[2])<<8
		if len(list) < 3+n {
			return d, false
		}
		r := list[3 : 3+n]
		switch {
		case list[0] == memory32 && n >= 9:
			d.Address, d.Size = uint64(le32(r[1:])), uint64(le32(r[5:]))
		case list[0] == interrupt && n >= 6 && r[1] >= 1:
			d.GSI = le32(r[2:])
		}
		list = list[3+n:]
	}
	return d, d.Address != 0 && d.Size != 0
}
