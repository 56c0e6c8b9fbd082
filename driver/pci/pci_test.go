package pci

import (
	"encoding/binary"
	"gosv/machine"
	"gosv/machine/fake"
	"slices"
	"testing"
)

// host plays configuration mechanism #1.
type host struct {
	address   uint32
	functions map[Address]*function
}

// function is a function's configuration space; registers in masks are writable there only.
type function struct {
	space [256]byte
	masks map[uint16]uint32
}

func (h *host) In(port uint16, size int) uint32 {
	if port == portAddress {
		return h.address
	}
	f := h.functions[h.current()]
	if f == nil {
		return ^uint32(0)
	}
	return binary.LittleEndian.Uint32(f.space[h.address&0xfc:])
}

func (h *host) current() Address {
	return Address{uint8(h.address >> 16), uint8(h.address >> 11 & 31), uint8(h.address >> 8 & 7)}
}

func (h *host) Out(port uint16, size int, v uint32) {
	if port == portAddress {
		h.address = v
		return
	}
	if f := h.functions[h.current()]; f != nil {
		off := uint16(h.address & 0xfc)
		mask, ok := f.masks[off]
		if !ok {
			mask = ^uint32(0)
		}
		old := binary.LittleEndian.Uint32(f.space[off:])
		binary.LittleEndian.PutUint32(f.space[off:], old&^mask|v&mask)
	}
}

func (f *function) put(off int, v ...byte) { copy(f.space[off:], v) }

func newFunction(id uint32) *function {
	f := &function{masks: map[uint16]uint32{0: 0, 4: 0xffff}}
	binary.LittleEndian.PutUint32(f.space[:], id)
	return f
}

// bar makes a base address register of a size.
func (f *function) bar(i int, pa, size uint64, wide bool) {
	off := uint16(regBAR0 + 4*i)
	low := uint32(pa)
	f.masks[off] = uint32(-size) &^ 15
	if wide {
		low |= bar64
		f.masks[off+4] = uint32(-size >> 32)
		binary.LittleEndian.PutUint32(f.space[off+4:], uint32(pa>>32))
	}
	binary.LittleEndian.PutUint32(f.space[off:], low)
}

func newHost(t testing.TB) (*host, *fake.Machine) {
	h := &host{functions: map[Address]*function{}}
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	m.AddPort(portAddress, portData+3, h)
	return h, m
}

func scan(t testing.TB, m *fake.Machine) []*Function {
	t.Helper()
	c := ByPorts(m)
	if c == nil {
		t.Fatal("no PCI")
	}
	var all []*Function
	Scan(c, func(f *Function) { all = append(all, f) })
	return all
}

func TestNoPCI(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	if ByPorts(m) != nil {
		t.Error("found PCI where there is none")
	}
}

func TestScan(t *testing.T) {
	h, m := newHost(t)
	h.functions[Address{0, 0, 0}] = newFunction(0x12378086)
	multi := newFunction(0x70008086)
	multi.put(regHeader, headerMulti)
	h.functions[Address{0, 31, 0}] = multi
	h.functions[Address{0, 31, 3}] = newFunction(0x71138086)
	h.functions[Address{0, 5, 1}] = newFunction(0xdead)                                         // no function 0: not there
	for i, buses := range [][4]byte{{0, 1, 2, 0}, {0, 1, 2, 0}, {0, 0, 255, 0}, {0, 9, 8, 0}} { // one good, one twice, two bad
		b := newFunction(0x000c1b36)
		b.put(regHeader, headerBridge)
		b.put(regClass, 0x04, 0x06)
		b.put(regBuses, buses[:]...)
		h.functions[Address{0, uint8(10 + i), 0}] = b
	}
	inner := newFunction(0x000c1b36)
	inner.put(regHeader, headerBridge)
	inner.put(regClass, 0x04, 0x06)
	inner.put(regBuses, 1, 3, 3) // beyond what its parent has
	h.functions[Address{1, 1, 0}] = inner
	h.functions[Address{1, 0, 0}] = newFunction(0x10431af4)
	h.functions[Address{3, 0, 0}] = newFunction(0xbad)
	var got []Address
	for _, f := range scan(t, m) {
		got = append(got, f.Address)
	}
	want := []Address{{0, 0, 0}, {1, 0, 0}, {0, 31, 0}, {0, 31, 3}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

func TestBAR(t *testing.T) {
	h, m := newHost(t)
	f := newFunction(0x10431af4)
	f.bar(0, 0xfebf0000, 0x1000, false)
	f.put(regBAR0+4, 0x01, 0xc0) // I/O
	f.bar(2, 0x8000000000, 0x4000, true)
	f.bar(4, 0, 0x1000, false) // not given an address
	f.bar(5, 0xfebf1000, 0x1000, true)
	f.put(regCommand, 2)
	h.functions[Address{}] = f
	before := f.space
	g := scan(t, m)[0]
	for i, want := range []struct{ pa, size uint64 }{{0xfebf0000, 0x1000}, {}, {0x8000000000, 0x4000}, {}, {}, {}} {
		pa, size, err := g.BAR(i)
		if pa != want.pa || size != want.size || (err == nil) != (size != 0) {
			t.Errorf("BAR %d: %#x, %#x, %v", i, pa, size, err)
		}
	}
	if f.space != before {
		t.Error("the configuration space is not as it was")
	}
	regs := make([]uint64, 512)
	m.AddRegisters(0xfebf0000, bytesOf(regs))
	for _, r := range []struct {
		off, n uint64
		ok     bool
	}{{0, 0x1000, true}, {0xff0, 16, true}, {0xff0, 17, false}, {0, 0, false}, {1 << 63, 1 << 63, false}} {
		if _, err := g.Region(m, 0, r.off, r.n); (err == nil) != r.ok {
			t.Errorf("region %#x+%#x: %v", r.off, r.n, err)
		}
	}
	g.Enable()
	if c := binary.LittleEndian.Uint16(f.space[regCommand:]); c != commandMemory|commandMaster|commandNoINTx {
		t.Errorf("command %#x", c)
	}
}

func bytesOf(words []uint64) []byte {
	b := make([]byte, 0, 8*len(words)+8)
	return b[:8*len(words)]
}

func TestINTx(t *testing.T) {
	h, m := newHost(t)
	f := newFunction(0x10021af4)
	h.functions[Address{}] = f
	calls := 0
	v, err := m.Vector("test", func() { calls++ })
	if err != nil {
		t.Fatal(err)
	}
	g := scan(t, m)[0]
	g.Enable()
	for _, where := range [][2]byte{{11, 0}, {0, 1}, {255, 1}} { // line and pin
		f.put(regLine, where[0], where[1])
		if err := g.INTx(m, v); err != errNoINTx {
			t.Errorf("line %d, pin %d: %v", where[0], where[1], err)
		}
	}
	f.put(regLine, 11, 1)
	if err := g.INTx(m, v); err != nil {
		t.Fatal(err)
	}
	if c := binary.LittleEndian.Uint16(f.space[regCommand:]); c&commandNoINTx != 0 {
		t.Errorf("command %#x: the pin is silent", c)
	}
	if m.RaiseGSI(11); calls != 1 {
		t.Errorf("%d interrupts", calls)
	}
	if g.HasMSIX() {
		t.Error("there is no MSI-X")
	}
}

func TestMSIX(t *testing.T) {
	h, m := newHost(t)
	f := newFunction(0x10431af4)
	f.bar(1, 0xfebf0000, 0x1000, false)
	f.put(regStatus, statusCapable)
	f.put(regCapability, 0x98)
	f.put(0x98, CapMSIX, 0, 1, 0, 0x01, 0x08, 0, 0) // table at 0x800 of BAR 1
	h.functions[Address{}] = f
	table := make([]byte, 0x1000)
	m.AddRegisters(0xfebf0000, table)
	v, err := m.Vector("test", func() {})
	if err != nil {
		t.Fatal(err)
	}
	if err := scan(t, m)[0].MSIX(m, m, v); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 16)
	address, data := m.Message(v)
	binary.LittleEndian.PutUint64(want, address)
	binary.LittleEndian.PutUint32(want[8:], data)
	if !slices.Equal(table[0x800:0x810], want) {
		t.Errorf("table entry %x", table[0x800:0x810])
	}
	if c := binary.LittleEndian.Uint16(f.space[0x9a:]); c != msixEnable|1 {
		t.Errorf("control %#x", c)
	}
	f.put(0x98+4, 0x02) // a BAR that is not there
	if err := scan(t, m)[0].MSIX(m, m, v); err != errBadMSIX {
		t.Error(err)
	}
	f.put(regCapability, 0)
	if err := scan(t, m)[0].MSIX(m, m, v); err != errNoMSIX {
		t.Error(err)
	}
}

func TestECAM(t *testing.T) {
	words := make([]byte, 2<<20)
	e := ECAM{Regs: machine.MemoryOf(words), First: 1}
	binary.LittleEndian.PutUint32(words[1<<20|3<<15|2<<12|0x40:], 77)
	if v := e.Read(Address{2, 3, 2}, 0x40); v != 77 {
		t.Error(v)
	}
	e.Write(Address{1, 0, 0}, 4, 5)
	if words[4] != 5 {
		t.Error("not written")
	}
	for _, bus := range []uint8{0, 3} {
		e.Write(Address{bus, 0, 0}, 0, 1)
		if v := e.Read(Address{bus, 0, 0}, 0); v != ^uint32(0) {
			t.Errorf("bus %d: %#x", bus, v)
		}
	}
}

// FuzzPCI reads configuration spaces of any bytes.
func FuzzPCI(f *testing.F) {
	f.Add([]byte{0xf4, 0x1a, 0x43, 0x10, 6, 0, 0x10, 0}, uint8(0x40))
	f.Add([]byte{0x36, 0x1b, 12, 0, 6, 0, 0x10, 0, 0, 0, 4, 6, 0, 0, 1, 0}, uint8(0x19))
	m := fake.New(fake.Config{})
	f.Cleanup(m.Close)
	h := &host{functions: map[Address]*function{}}
	m.AddPort(portAddress, portData+3, h)
	f.Fuzz(func(t *testing.T, b []byte, bus uint8) {
		fn := &function{masks: map[uint16]uint32{0: 0}}
		for i := range fn.space {
			if len(b) > 0 {
				fn.space[i] = b[i%len(b)]
			}
		}
		copy(fn.space[:], b)
		clear(h.functions)
		h.functions[Address{0, 1, 0}] = fn
		h.functions[Address{bus, 2, 3}] = fn
		h.functions[Address{bus, 2, 0}] = fn
		for _, g := range scan(t, m) {
			n := 0
			g.Capabilities(func(c Capability) bool {
				if n++; n > maxCapabilities || c.Offset < firstCapability || c.Offset%4 != 0 {
					t.Fatal("bad list of capabilities")
				}
				return true
			})
			for i := range 6 {
				if pa, size, err := g.BAR(i); err == nil && (size == 0 || size&(size-1) != 0 || pa%size != 0) {
					t.Fatalf("BAR of %#x bytes at %#x", size, pa)
				}
			}
			_ = g.MSIX(m, m, 0x30)
			g.Enable()
		}
	})
}
