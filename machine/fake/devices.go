package fake

import (
	"errors"
	"gosv/machine"
	"runtime"
	"sync"
)

// firstVector is the first vector that is not the processor's own or the old interrupt
// controller's.
const firstVector = 0x30

// messageAddress is the local APIC's, where message-signalled interrupts go.
const messageAddress = 0xfee00000

type interruptState struct {
	mu       sync.Mutex // guards the fields below
	handlers []func()
	lines    []machine.Line
	came     []uint32
	routes   map[uint32]uint8
}

// Vector implements machine.Interrupts.
func (m *Machine) Vector(name string, handler func()) (uint8, error) {
	s := &m.interrupts
	s.mu.Lock()
	defer s.mu.Unlock()
	if firstVector+len(s.handlers) > 0xef {
		return 0, errors.New("fake: no interrupt vector left")
	}
	s.handlers = append(s.handlers, handler)
	s.came = append(s.came, 0)
	v := uint8(firstVector + len(s.handlers) - 1)
	s.lines = append(s.lines, machine.Line{Vector: v, Name: name, Input: -1})
	return v, nil
}

// Lines implements machine.Interrupts.
func (m *Machine) Lines() []machine.Line {
	s := &m.interrupts
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]machine.Line(nil), s.lines...)
}

// Came implements machine.Interrupts: all come to processor 0.
func (m *Machine) Came(n int, vector uint8) uint32 {
	s := &m.interrupts
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := int(vector) - firstVector; n == 0 && i >= 0 && i < len(s.came) {
		return s.came[i]
	}
	return 0
}

// Route implements machine.Interrupts.
func (m *Machine) Route(gsi uint32, vector uint8, levelTriggered, activeLow bool) error {
	s := &m.interrupts
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(vector)-firstVector >= len(s.handlers) || vector < firstVector {
		return errors.New("fake: Route to a vector that is not reserved")
	}
	if s.routes == nil {
		s.routes = map[uint32]uint8{}
	}
	s.routes[gsi] = vector
	l := &s.lines[int(vector)-firstVector]
	l.Input, l.Level = int(gsi), levelTriggered
	return nil
}

// Message implements machine.Interrupts.
func (m *Machine) Message(vector uint8) (address uint64, data uint32) {
	return messageAddress, uint32(vector)
}

// Raise runs the handler of an interrupt vector, as a device would that sends the data
// of Message; it reports whether there is one.
func (m *Machine) Raise(vector uint8) bool {
	s := &m.interrupts
	s.mu.Lock()
	var handler func()
	if i := int(vector) - firstVector; i >= 0 && i < len(s.handlers) {
		handler = s.handlers[i]
		s.came[i]++
	}
	s.mu.Unlock()
	if handler == nil {
		return false
	}
	handler()
	return true
}

// RaiseGSI raises the vector that a global system interrupt is routed to.
func (m *Machine) RaiseGSI(gsi uint32) bool {
	s := &m.interrupts
	s.mu.Lock()
	vector, ok := s.routes[gsi]
	s.mu.Unlock()
	return ok && m.Raise(vector)
}

// A Port plays a device behind I/O ports.
type Port interface {
	In(port uint16, size int) uint32
	Out(port uint16, size int, v uint32)
}

type portRange struct {
	first, last uint16
	device      Port
}

type memoryRange struct {
	pa    uint64
	bytes []byte
}

type busState struct {
	mu       sync.Mutex // guards the fields below
	ports    []portRange
	devices  []memoryRange
	physical []memoryRange
}

// AddPort puts a device behind the ports first to last.
func (m *Machine) AddPort(first, last uint16, device Port) {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	m.bus.ports = append(m.bus.ports, portRange{first, last, device})
}

// AddRegisters lets Registers find b, plain memory, at physical address pa. Make b of
// uint64s if words of it are to be accessed: it must be aligned.
func (m *Machine) AddRegisters(pa uint64, b []byte) {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	m.bus.devices = append(m.bus.devices, memoryRange{pa, b})
}

// AddPhysical lets Physical find b at physical address pa.
func (m *Machine) AddPhysical(pa uint64, b []byte) {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	m.bus.physical = append(m.bus.physical, memoryRange{pa, b})
}

func find(ranges []memoryRange, pa, n uint64) []byte {
	for _, r := range ranges {
		size := uint64(len(r.bytes))
		if pa >= r.pa && pa-r.pa <= size && n <= size-(pa-r.pa) {
			return r.bytes[pa-r.pa:][:n:n]
		}
	}
	return nil
}

// Registers implements machine.Bus.
func (m *Machine) Registers(pa, n uint64) (machine.Memory, error) {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	b := find(m.bus.devices, pa, n)
	if b == nil {
		return machine.Memory{}, errors.New("fake: no device there")
	}
	return machine.MemoryOf(b), nil
}

func (m *Machine) port(port uint16) Port {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	for _, r := range m.bus.ports {
		if port >= r.first && port <= r.last {
			return r.device
		}
	}
	return nil
}

// In implements machine.Bus; a port without a device reads as all ones.
func (m *Machine) In(port uint16, size int) uint32 {
	all := uint32(1<<(8*size) - 1)
	if d := m.port(port); d != nil {
		return d.In(port, size) & all
	}
	return all
}

// Out implements machine.Bus.
func (m *Machine) Out(port uint16, size int, v uint32) {
	if d := m.port(port); d != nil {
		d.Out(port, size, v)
	}
}

// CommandLine implements machine.Firmware.
func (m *Machine) CommandLine() string { return m.cfg.CommandLine }

// placeInitrd copies the initrd into frames that follow each other.
func (m *Machine) placeInitrd(b []byte) {
	n := (len(b) + machine.PageSize - 1) / machine.PageSize
	if n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.free < n {
		panic("fake: the initrd does not fit")
	}
	m.initrd = machine.Frame(m.next)
	for i := range n {
		m.state[m.next+i].used = true
	}
	m.next += n
	m.free -= n
	copy(m.Bytes(m.initrd, n), b)
}

// Initrd implements machine.Firmware.
func (m *Machine) Initrd() (first machine.Frame, length uint64) {
	return m.initrd, uint64(len(m.cfg.Initrd))
}

// RSDP implements machine.Firmware.
func (m *Machine) RSDP() uint64 { return m.cfg.RSDP }

// Physical implements machine.Firmware.
func (m *Machine) Physical(pa, n uint64) ([]byte, error) {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	if b := find(m.bus.physical, pa, n); b != nil {
		return b, nil
	}
	return nil, errors.New("fake: no memory there")
}

// CPUs implements machine.Firmware.
func (m *Machine) CPUs() int { return m.cfg.CPUs }

type powerState struct {
	mu     sync.Mutex // guards the fields below
	own    func()
	off    bool
	status int
	done   chan struct{} // closed by the first Off
}

// Off implements machine.Power: it records the status, runs the way given to OnOff and
// ends the calling goroutine.
func (m *Machine) Off(status int) {
	p := &m.power
	p.mu.Lock()
	own := p.own
	if !p.off {
		p.off, p.status = true, status
		defer close(p.done)
	}
	p.mu.Unlock()
	if own != nil {
		own()
	}
	runtime.Goexit()
}

// OnOff implements machine.Power.
func (m *Machine) OnOff(off func()) {
	m.power.mu.Lock()
	defer m.power.mu.Unlock()
	m.power.own = off
}

// Done is closed when the machine was powered off.
func (m *Machine) Done() <-chan struct{} { return m.power.done }

// Status returns the status of the first Off, and whether there was one.
func (m *Machine) Status() (status int, off bool) {
	m.power.mu.Lock()
	defer m.power.mu.Unlock()
	return m.power.status, m.power.off
}

type consoleState struct {
	mu   sync.Mutex
	said []byte // guarded by mu
}

// Emergency implements machine.Console.
func (m *Machine) Emergency(b []byte) {
	m.console.mu.Lock()
	defer m.console.mu.Unlock()
	m.console.said = append(m.console.said, b...)
}

// Said returns what Emergency was given so far.
func (m *Machine) Said() string {
	m.console.mu.Lock()
	defer m.console.mu.Unlock()
	return string(m.console.said)
}

// DeviceAddress is the physical address of the memory that devices bring, which follows the machine's own.
func (m *Machine) DeviceAddress() uint64 { return uint64(len(m.state)) * machine.PageSize }

// DeviceMemory implements machine.Bus.
func (m *Machine) DeviceMemory(pa, n uint64) (machine.Frame, error) {
	room := uint64(m.cfg.DeviceFrames) * machine.PageSize
	if off := pa - m.DeviceAddress(); n == 0 || (pa|n)%machine.PageSize != 0 || off >= room || n > room-off {
		return machine.NoFrame, errors.New("fake: there is no such memory of a device")
	}
	return machine.Frame(pa / machine.PageSize), nil
}
