package virtiotest

import (
	"bytes"
	"encoding/binary"
	"gosv/machine/fake"
)

// Console is a virtio console with ports 1, 2, …, as QEMU's virtio-serial with virtserialport.
type Console struct {
	Device
	// Mute makes the device ignore control messages.
	Mute bool
	// Answer, if not nil, replaces what the device does with a control message.
	Answer func(id uint32, event, value uint16)

	// Complaints counts messages and notifications about ports that are not there; guarded by the device's lock.
	Complaints int

	ports map[uint32]*HostPort
}

// HostPort is the host's end of a port.
type HostPort struct {
	Name string

	c         *Console
	id        uint32
	open      bool // the host has it open
	GuestOpen bool // guarded by the device's lock
	throttled int  // bytes that the host takes before it stops; -1 all
	partial   *Element
	sent      bytes.Buffer // by the guest
	pending   []byte       // for the guest
	ended     bool         // close when pending is through
}

// NewConsole makes a console with named ports that the host has open.
func NewConsole(m *fake.Machine, cleanup func(func()), features uint64, async bool, names ...string) *Console {
	c := &Console{ports: map[uint32]*HostPort{}}
	max := uint32(len(names) + 1)
	c.Device = Device{Machine: m, GSI: 5, Type: 3, Features: FeatureVersion1 | 1<<1 | 1<<2 | features,
		MaxQueue: 128, Queues: int(2 + 2*max), Async: async,
		Space: binary.LittleEndian.AppendUint32([]byte{0, 0, 0, 0}, max)}
	c.Notified = c.notified
	c.Init(cleanup)
	for i, name := range names {
		id := uint32(i + 1)
		c.ports[id] = &HostPort{Name: name, c: c, id: id, open: true, throttled: -1}
	}
	return c
}

// Port returns the host's end of a port.
func (c *Console) Port(name string) *HostPort {
	for _, p := range c.ports {
		if p.Name == name {
			return p
		}
	}
	panic("virtiotest: no port " + name)
}

// Control sends a control message with more bytes behind it.
func (c *Console) Control(id uint32, event, value uint16, more []byte) {
	q := c.Queue(2)
	e := q.Pop()
	if e == nil {
		return // QEMU drops it
	}
	msg := binary.LittleEndian.AppendUint32(nil, id)
	msg = binary.LittleEndian.AppendUint16(msg, event)
	msg = append(binary.LittleEndian.AppendUint16(msg, value), more...)
	e.Fill(msg)
	q.Push(e, len(msg))
	q.Notify()
}

func (c *Console) notified(q *Queue) {
	switch i := uint32(q.Index); {
	case i == 2:
	case i == 3:
		c.commands(q)
	default:
		port := i / 2
		if i >= 4 {
			port--
		} else if i > 1 {
			return
		}
		p := c.ports[port]
		if p == nil {
			c.Complaints++
			return
		}
		if i%2 == 0 {
			p.pump()
		} else {
			p.drain()
		}
	}
}

func (c *Console) commands(q *Queue) {
	if c.Mute {
		return
	}
	for e := q.Pop(); e != nil; e = q.Pop() {
		b := e.Bytes()
		id, event, value := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])
		if c.Answer != nil {
			c.Answer(id, event, value)
		} else {
			c.command(id, event, value)
		}
		q.Push(e, 0)
	}
	q.Notify()
}

func (c *Console) command(id uint32, event, value uint16) {
	p := c.ports[id]
	switch {
	case event == 0:
		for id := range c.ports {
			c.Control(id, 1, 1, nil)
		}
	case p == nil:
		c.Complaints++
	case event == 3:
		c.Control(id, 7, 1, append([]byte(p.Name), 0))
		if p.open {
			c.Control(id, 6, 1, nil)
		}
	case event == 6:
		p.GuestOpen = value != 0
		p.pump()
	}
}

func (p *HostPort) in() *Queue  { return p.c.Queue(int(2*p.id + 2)) }
func (p *HostPort) out() *Queue { return p.c.Queue(int(2*p.id + 3)) }

// pump gives pending bytes to the guest, at most 4 KiB for each buffer.
func (p *HostPort) pump() {
	q := p.in()
	for p.GuestOpen && len(p.pending) > 0 {
		e := q.Pop()
		if e == nil {
			break
		}
		n := e.Fill(p.pending[:min(len(p.pending), 4096)])
		p.pending = p.pending[n:]
		q.Push(e, n)
	}
	q.Notify()
	if p.ended && len(p.pending) == 0 {
		p.ended = false
		p.close()
	}
}

// drain takes what the guest sends, as far as the host wants it.
func (p *HostPort) drain() {
	q := p.out()
	for p.throttled != 0 || !p.open {
		e := p.partial
		p.partial = nil
		if e == nil {
			if e = q.Pop(); e == nil {
				break
			}
		}
		if !p.open {
			q.Push(e, 0) // lost
			continue
		}
		b := e.Bytes()
		if p.throttled > 0 && len(b) > p.throttled {
			p.sent.Write(b[:p.throttled])
			p.partial = &Element{ID: e.ID, Out: [][]byte{b[p.throttled:]}}
			p.throttled = 0
			break
		}
		p.sent.Write(b)
		if p.throttled > 0 {
			p.throttled -= len(b)
		}
		q.Push(e, 0)
	}
	q.Notify()
}

func (p *HostPort) close() {
	p.open = false
	p.partial = nil // QEMU forgets it
	p.drain()
	p.c.Control(p.id, 6, 0, nil)
}

// Send has the host write b.
func (p *HostPort) Send(b []byte) {
	p.c.Lock()
	defer p.c.Unlock()
	p.pending = append(p.pending, b...)
	p.pump()
}

// Close has the host close the port when the guest has taken all that was sent.
func (p *HostPort) Close() {
	p.c.Lock()
	defer p.c.Unlock()
	p.ended = true
	p.pump()
}

// SetOpen has the host open or close the port now. Before the driver starts it just says what it will find.
func (p *HostPort) SetOpen(open bool) {
	p.c.Lock()
	defer p.c.Unlock()
	if p.c.status == 0 {
		p.open = open
		return
	}
	if open {
		p.open = true
		p.c.Control(p.id, 6, 1, nil)
	} else {
		p.close()
	}
}

// Take has the host accept n more bytes, then none; -1 all.
func (p *HostPort) Take(n int) {
	p.c.Lock()
	defer p.c.Unlock()
	p.throttled = n
	p.drain()
}

// Sent returns what the guest has written so far.
func (p *HostPort) Sent() []byte {
	p.c.Lock()
	defer p.c.Unlock()
	return bytes.Clone(p.sent.Bytes())
}

// IsGuestOpen reports whether the guest has opened the port.
func (p *HostPort) IsGuestOpen() bool {
	p.c.Lock()
	defer p.c.Unlock()
	return p.GuestOpen
}
