package acpi

import (
	"encoding/binary"
	"errors"
	"gosv/machine/fake"
	"slices"
	"testing"
)

// firmware is physical memory with tables in it.
type firmware map[uint64][]byte

func (f firmware) read(pa, n uint64) ([]byte, error) {
	for at, b := range f {
		if pa >= at && pa-at <= uint64(len(b)) && n <= uint64(len(b))-(pa-at) {
			return b[pa-at:][:n], nil
		}
	}
	return nil, errors.New("no memory")
}

// seal sets a table's length and checksum.
func seal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	b[9] = 0
	b[9] = -sum(b)
	return b
}

func table(sig string, body ...byte) []byte {
	b := make([]byte, headerSize)
	copy(b, sig)
	return seal(append(b, body...))
}

func words(n int, v ...uint64) []byte {
	var b []byte
	for _, x := range v {
		b = append(b, binary.LittleEndian.AppendUint64(nil, x)[:n]...)
	}
	return b
}

// rsdp makes a root pointer; it has an XSDT if xsdt is not 0.
func rsdp(rsdt uint32, xsdt uint64) []byte {
	b := make([]byte, 36)
	copy(b, "RSD PTR ")
	binary.LittleEndian.PutUint32(b[16:], rsdt)
	if xsdt != 0 {
		b[15] = 2
		binary.LittleEndian.PutUint64(b[24:], xsdt)
	}
	b[8] = -sum(b[:20])
	b[32] = -sum(b)
	return b
}

// q35DSDT has \_S5 and, before it, bytes that look like it.
var q35DSDT = "_S5_\x08_S5_\x12\x02\x10\x00\x5c\x08_S5_\x12\x07\x04\x0a\x05\x0a\x06\x00\x00"

const virtioDSDT = "\x5b\x82\x41\x05VR00\x08_HID\x0dLNRO0005\x00\x08_UID\x00\x08_CCA\x01" +
	"\x08_CRS\x11\x1a\x0a\x17\x86\x09\x00\x01\x00\x00\xb0\xfe\x00\x02\x00\x00\x89\x06\x00\x09\x01\x10\x00\x00\x00\x79\x00" +
	"\x5b\x82\x41\x05VR03\x08_HID\x0dLNRO0005\x00\x08_CRS\x11\x03\x0a\x00" +
	"\x5b\x82\x41\x05VR07\x08_HID\x0dLNRO0005\x00\x08_UID\x0a\x07\x08_CCA\x01" +
	"\x08_CRS\x11\x1a\x0a\x17\x86\x09\x00\x01\x00\x0e\xb0\xfe\x00\x02\x00\x00\x89\x06\x00\x09\x01\x17\x00\x00\x00\x79\x00"

func fadt(flags uint32, edit func(b []byte)) []byte {
	b := make([]byte, 276-headerSize)
	f := table("FACP", b...)
	binary.LittleEndian.PutUint32(f[fadtFlags:], flags)
	binary.LittleEndian.PutUint32(f[40:], 0x5000)
	edit(f)
	return seal(f)
}

func gas(b []byte, space, width uint8, address uint64) {
	b[0], b[1] = space, width
	binary.LittleEndian.PutUint64(b[4:], address)
}

func machineOf(fadt []byte, dsdt string) firmware {
	return firmware{
		0xf0000: rsdp(0x2000, 0),
		0x2000:  table("RSDT", words(4, 0x3000, 0x9999, 0x4000)...),
		0x3000:  table("APIC", words(4, 0xfee00000, 1)...),
		0x4000:  fadt,
		0x5000:  table("DSDT", []byte(dsdt)...),
	}
}

func load(t *testing.T, f firmware) *Tables {
	t.Helper()
	tables, err := Load(f.read, 0xf0000)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

type port struct{ port, size, v uint32 }

type ports []port

func (p *ports) In(uint16, int) uint32 { return 0 }
func (p *ports) Out(a uint16, size int, v uint32) {
	*p = append(*p, port{uint32(a), uint32(size), v})
}

func TestPowerPM1(t *testing.T) {
	f := fadt(0, func(b []byte) {
		binary.LittleEndian.PutUint32(b[fadtPM1A:], 0x604)
		binary.LittleEndian.PutUint32(b[fadtPM1B:], 0x804)
	})
	p, err := load(t, machineOf(f, q35DSDT)).Power()
	if err != nil {
		t.Fatal(err)
	}
	var log ports
	m := fake.New(fake.Config{})
	defer m.Close()
	m.AddPort(0, 0xffff, &log)
	p.PowerOff(m)
	want := ports{{0x604, 2, 5<<10 | 1<<13}, {0x804, 2, 6<<10 | 1<<13}}
	if !slices.Equal(log, want) {
		t.Errorf("%v, not %v", log, want)
	}
}

func TestPowerReduced(t *testing.T) {
	f := fadt(flagHWReduced, func(b []byte) {
		binary.LittleEndian.PutUint32(b[fadtPM1A:], 0x604)
		gas(b[fadtSleep:], SystemMemory, 8, 0xfea00200)
	})
	p, err := load(t, machineOf(f, "\x10\x0f\x5c\x08\x5c_S5_\x12\x06\x04\x0a\x05\x00\x00\x00")).Power()
	if err != nil {
		t.Fatal(err)
	}
	m := fake.New(fake.Config{})
	defer m.Close()
	var regs [8]byte
	m.AddRegisters(0xfea00200, regs[:])
	p.PowerOff(m)
	if regs[0] != 5<<2|1<<5 {
		t.Errorf("%x", regs)
	}
}

func TestNoS5(t *testing.T) {
	f := fadt(0, func(b []byte) { binary.LittleEndian.PutUint32(b[fadtPM1A:], 0x604) })
	for _, aml := range []string{"", "_S5_", "\x08_S5_", "\x08_S5_\x12", "\x08_S5_\x12\x02\x04", "\x08_S5_\x12\x04\x04\x0a\x08", "\x08_S5_\x12\xff\xff\xff\xff\x04\x00"} {
		p, err := load(t, machineOf(f, aml)).Power()
		if err != nil {
			t.Fatal(err)
		}
		var log ports
		m := fake.New(fake.Config{})
		m.AddPort(0, 0xffff, &log)
		p.PowerOff(m)
		m.Close()
		if len(log) > 0 {
			t.Errorf("%q: %v", aml, log)
		}
	}
}

func TestVirtio(t *testing.T) {
	got, err := load(t, machineOf(fadt(0, func([]byte) {}), virtioDSDT)).VirtioMMIO()
	want := []VirtioMMIO{{0xfeb00000, 512, 16}, {0xfeb00e00, 512, 23}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestXSDT(t *testing.T) {
	f := firmware{
		0xf0000:     rsdp(0, 0x100002000),
		0x100002000: table("XSDT", words(8, 0x100003000)...),
		0x100003000: table("MCFG", slices.Concat(words(8, 0), words(8, 0xb0000000), []byte{0, 0, 0, 255, 0, 0, 0, 0})...),
	}
	got, err := load(t, f).MCFG()
	if err != nil || !slices.Equal(got, []ECAM{{Address: 0xb0000000, Last: 255}}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestDamaged(t *testing.T) {
	whole := func() firmware { return machineOf(fadt(0, func([]byte) {}), q35DSDT) }
	for name, damage := range map[string]func(firmware){
		"root pointer":   func(f firmware) { f[0xf0000][17]++ },
		"root signature": func(f firmware) { f[0xf0000][0]++ },
		"list":           func(f firmware) { f[0x2000][headerSize]++ },
		"list length":    func(f firmware) { f[0x2000][5]++ },
		"short list":     func(f firmware) { f[0x2000][4] = 8 },
		"FADT":           func(f firmware) { f[0x4000][200]++ },
		"DSDT":           func(f firmware) { f[0x5000][headerSize]++ },
		"no DSDT":        func(f firmware) { delete(f, 0x5000) },
	} {
		f := whole()
		damage(f)
		tables, err := Load(f.read, 0xf0000)
		if err == nil {
			_, err = tables.Power()
		}
		if err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
	if _, err := Load(whole().read, 0); err == nil {
		t.Error("no root pointer: not noticed")
	}
}

// FuzzACPI reads tables of any bytes, with checksums made right so that the fuzzer gets further.
func FuzzACPI(f *testing.F) {
	f.Add([]byte(q35DSDT), fadt(0, func([]byte) {})[headerSize:], words(4, 0xfee00000, 1))
	f.Add([]byte(virtioDSDT), fadt(flagHWReduced, func([]byte) {})[headerSize:], words(8, 0, 0xb0000000, 0xff000000))
	f.Fuzz(func(t *testing.T, dsdt, fadt, other []byte) {
		fw := machineOf(table("FACP", fadt...), string(dsdt))
		fw[0x9999] = table("MCFG", other...)
		tables, err := Load(fw.read, 0xf0000)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := tables.Power(); err == nil && (p.typeA > 7 || p.typeB > 7) {
			t.Error("impossible sleep type")
		}
		_, _ = tables.VirtioMMIO()
		_, _ = tables.MCFG()
		_, _ = Load(func(pa, n uint64) ([]byte, error) { return fw.read(pa-0xf0000, n) }, 0xf0000)
		raw := firmware{0: append(fadt, make([]byte, 64)...)}
		if tables, err := Load(raw.read, 1); err == nil {
			_, _ = tables.Power()
		}
	})
}
