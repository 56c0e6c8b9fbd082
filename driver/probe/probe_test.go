package probe

import (
	"encoding/binary"
	"gosv/driver/pci"
	"gosv/driver/virtio"
	"gosv/machine/fake"
	"slices"
	"testing"
)

// addSlot puts the registers of a virtio-mmio device into the machine; type 0 is an empty slot.
func addSlot(m *fake.Machine, pa uint64, version, typ uint32) {
	regs := make([]byte, 0x200)
	binary.LittleEndian.PutUint32(regs, 0x74726976)
	binary.LittleEndian.PutUint32(regs[4:], version)
	binary.LittleEndian.PutUint32(regs[8:], typ)
	m.AddRegisters(pa, regs)
}

func names(t *testing.T, m *fake.Machine) (found []string, problems int) {
	t.Helper()
	for _, tr := range Devices(m, func(err error) { t.Log(err); problems++ }, func(*pci.Function) {}) {
		found = append(found, tr.Name())
	}
	return found, problems
}

func newMachine(t *testing.T, cfg fake.Config) *fake.Machine {
	m := fake.New(cfg)
	t.Cleanup(m.Close)
	return m
}

func TestCommandLine(t *testing.T) {
	m := newMachine(t, fake.Config{CommandLine: "quiet virtio_mmio.device=512@0xfeb00e00:12 a=b virtio_mmio.device=4K@0xd0000000:5:0 " +
		"virtio_mmio.device= virtio_mmio.device=512@0xfeb00c00:11 virtio_mmio.device=x@y:z virtio_mmio.device=1@0xd0000000:5 virtio_mmio.device=99999999999999999G@1:1"})
	addSlot(m, 0xfeb00c00, 1, 3)
	addSlot(m, 0xfeb00e00, 2, 3)
	regs := make([]byte, 4096)
	copy(regs, "virt\x02\x00\x00\x00\x04")
	m.AddRegisters(0xd0000000, regs)
	found, problems := names(t, m)
	if !slices.Equal(found, []string{"virtio-mmio@0xfeb00e00", "virtio-mmio@0xd0000000"}) || problems != 2 {
		t.Errorf("%v, %d problems", found, problems)
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		spec     string
		size, pa uint64
		gsi      uint32
		ok       bool
	}{
		{"512@0xfeb00000:5", 512, 0xfeb00000, 5, true},
		{"0x200@4276092928:0x10:7", 512, 4276092928, 16, true},
		{"4K@0xd0000000:5", 4096, 0xd0000000, 5, true},
		{"1M@1:1", 1 << 20, 1, 1, true},
		{"512@0xfeb00000", 0, 0, 0, false},
		{"512:5", 0, 0, 0, false},
		{"K@1:1", 0, 0, 0, false},
		{"512@1:4294967296", 0, 0, 0, false},
		{"", 0, 0, 0, false},
	} {
		size, pa, gsi, ok := parseMMIO(test.spec)
		if ok != test.ok || ok && (size != test.size || pa != test.pa || gsi != test.gsi) {
			t.Errorf("%s: %d, %#x, %d, %v", test.spec, size, pa, gsi, ok)
		}
	}
}

func TestSlots(t *testing.T) {
	m := newMachine(t, fake.Config{})
	for i := range uint64(8) {
		typ := uint32(0)
		if i >= 6 {
			typ = 3
		}
		addSlot(m, 0xfeb00000+512*i, 2, typ)
	}
	found, problems := names(t, m)
	if !slices.Equal(found, []string{"virtio-mmio@0xfeb00c00", "virtio-mmio@0xfeb00e00"}) || problems != 0 {
		t.Errorf("%v, %d problems", found, problems)
	}
}

// config plays PCI configuration mechanism #1 with one function, 0:3.0.
type config struct {
	address uint32
	space   [256]byte
	size    uint32 // of BAR 4
}

func (c *config) In(port uint16, _ int) uint32 {
	switch {
	case port == 0xcf8:
		return c.address
	case c.address>>8&0xffff != 3<<3:
		return ^uint32(0)
	}
	return binary.LittleEndian.Uint32(c.space[c.address&0xfc:])
}

func (c *config) Out(port uint16, _ int, v uint32) {
	if port == 0xcf8 {
		c.address = v
		return
	}
	off := c.address & 0xfc
	switch off {
	case 4:
		v &= 0xffff
		v |= 1 << 20
	case 0x20:
		v &= -c.size
	case 0x50:
	default:
		return
	}
	binary.LittleEndian.PutUint32(c.space[off:], v)
}

func (c *config) capability(at, next, typ, bar byte, off, size uint32) {
	copy(c.space[at:], []byte{9, next, 20, typ, bar, 0, 0, 0})
	binary.LittleEndian.PutUint32(c.space[at+8:], off)
	binary.LittleEndian.PutUint32(c.space[at+12:], size)
	binary.LittleEndian.PutUint32(c.space[at+16:], 4)
}

func newConfig(id uint32) *config {
	c := &config{size: 0x4000}
	binary.LittleEndian.PutUint32(c.space[:], id)
	c.space[0x2e] = 3 // subsystem of a transitional device
	c.space[6] = 1 << 4
	binary.LittleEndian.PutUint32(c.space[0x20:], 0xfe000000)
	c.space[0x34] = 0x50
	copy(c.space[0x50:], []byte{0x11, 0x60, 1, 0, 4, 0x30, 0, 0}) // MSI-X, table at 0x3000 of BAR 4
	c.capability(0x60, 0x80, 1, 4, 0, 0x38)
	c.capability(0x80, 0xa0, 4, 4, 0x2000, 0x1000)
	c.capability(0xa0, 0, 2, 4, 0x1000, 0x1000)
	return c
}

func TestPCI(t *testing.T) {
	for _, test := range []struct {
		name   string
		id     uint32
		change func(c *config)
		ok     bool
	}{
		{"modern", 0x10431af4, func(*config) {}, true},
		{"transitional", 0x10031af4, func(*config) {}, true},
		{"first of a type counts", 0x10431af4, func(c *config) { c.space[0xa1] = 0xc0; c.capability(0xc0, 0, 1, 0, 0, 0) }, true},
		{"loop", 0x10431af4, func(c *config) { c.space[0xa1] = 0x50 }, true},
		{"no common", 0x10431af4, func(c *config) { c.space[0x63] = 9 }, false},
		{"no notify", 0x10431af4, func(c *config) { c.space[0x81] = 0 }, false},
		{"short common", 0x10431af4, func(c *config) { c.space[0x6c] = 0x37 }, false},
		{"short capability", 0x10431af4, func(c *config) { c.space[0x62] = 8 }, false},
		{"outside the BAR", 0x10431af4, func(c *config) { c.capability(0x60, 0x80, 1, 4, 0x3fe0, 0x38) }, false},
		{"overflow", 0x10431af4, func(c *config) { c.capability(0x60, 0x80, 1, 4, 0xffffffff, 0xffffffff) }, false},
		{"no such BAR", 0x10431af4, func(c *config) { c.space[0x64] = 7 }, false},
		{"no address", 0x10431af4, func(c *config) { clear(c.space[0x20:0x24]) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newConfig(test.id)
			test.change(c)
			m := newMachine(t, fake.Config{})
			m.AddPort(0xcf8, 0xcff, c)
			regs := make([]byte, 0x4000)
			m.AddRegisters(0xfe000000, regs)
			var problems int
			found := Devices(m, func(err error) { t.Log(err); problems++ }, func(*pci.Function) {})
			if !test.ok {
				if len(found) != 0 || problems != 1 {
					t.Errorf("%d found, %d problems", len(found), problems)
				}
				return
			}
			if len(found) != 1 || problems != 0 || found[0].Type() != virtio.TypeConsole || found[0].Name() != "virtio-pci@0:3.0" {
				t.Fatalf("%d found, %d problems", len(found), problems)
			}
			if err := found[0].Interrupt(func() {}); err != nil {
				t.Error(err)
			}
			if c.space[0x53]&0x80 == 0 || binary.LittleEndian.Uint64(regs[0x3000:]) == 0 {
				t.Error("MSI-X is not set up")
			}
			binary.LittleEndian.PutUint16(regs[0x1e:], 0x400)
			if err := found[0].SetQueue(0, 8, 64, 128, 192); err == nil {
				t.Error("notification register out of range")
			}
			if cfg := found[0].Config(); cfg == nil || cfg.Len() != 0x1000 {
				t.Error("no configuration space")
			}
		})
	}
}

func TestNothing(t *testing.T) {
	m := newMachine(t, fake.Config{RSDP: 0xf0000}) // where there is nothing
	found, problems := names(t, m)
	if len(found) != 0 || problems != slots {
		t.Errorf("%v, %d problems", found, problems)
	}
}
