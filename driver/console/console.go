// Package console drives virtio console devices with their ports, each a byte
// stream to the host with a name (virtio 1.2 §5.3).
//
// Promises: bytes are neither changed nor lost nor reordered; a port that the
// host has not opened takes no data yet (EAGAIN); a port that the host closed gives what
// came before, then end of file, and EPIPE to writers; both directions hold
// back a side that is faster than the other. Nothing blocks but Flush, WriteAll
// and New, which have deadlines.
//
// Lock order: Port.reader or Port.writer, then Console.mu, then Port.mu. The first two are held while
// a program's memory is copied; interrupts never take them.
package console

import (
	"encoding/binary"
	"errors"
	"gosv/driver/virtio"
	"gosv/machine"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Features and control events (§5.3.3, §5.3.6.2).
const (
	featureMultiport = 1 << 1

	eventDeviceReady = 0
	eventPortAdd     = 1
	eventPortRemove  = 2
	eventPortReady   = 3
	eventConsolePort = 4
	eventPortOpen    = 6
	eventPortName    = 7
)

const (
	// maxPorts bounds the ports that are used. Each costs twenty device accesses and half a
	// page at boot: give QEMU's device max_ports=8 or so.
	maxPorts = 16
	// ringSize is the size wanted for all queues.
	ringSize = 32

	controlIn, controlOut = 2, 3 // queue numbers

	configMaxPorts = 4 // offset in the configuration space
	controlHeader  = 8 // bytes of struct virtio_console_control
	controlBuffer  = machine.PageSize / ringSize / 2

	// discoverTime bounds New, in nanoseconds.
	discoverTime = 2e9
	// readyBatch is how many ports are readied at a time: QEMU answers each
	// with up to three messages, and drops those that find no buffer.
	readyBatch = ringSize / 3
)

var (
	errSilent = errors.New("virtio console does not answer")
	errConfig = errors.New("virtio console has a bad configuration space")
)

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	Monotonic() int64
}

// A Console is one device with its ports.
type Console struct {
	dev   *virtio.Device
	m     Machine
	ports []*Port // by port number

	// armed has a bit for each direction of each port that asked for an interrupt: 2·number for input,
	// 2·number+1 for output.
	armed atomic.Uint64

	mu      sync.Mutex // guards what follows
	in, out *virtio.Queue
	buffers []byte // ringSize buffers for in, then ringSize for out
	pa      uint64
	inSlot  [ringSize]uint8 // buffer of each chain
	outSlot [ringSize]uint8
	outFree []uint8  // buffers for out that are free
	answer  []uint16 // numbers of the ports that were added and wait for PORT_READY
	ready   bool     // interrupts are served

	emergency machine.Frame // for EmergencyWrite
}

// New starts the device behind t and finds its ports. It takes about 20 device
// accesses for each possible port.
func New(t virtio.Transport, m Machine) (*Console, error) {
	dev, err := virtio.New(t, m, featureMultiport)
	if err != nil {
		return nil, err
	}
	c := &Console{dev: dev, m: m}
	if err := c.start(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *Console) start() error {
	multiport := c.dev.Features&featureMultiport != 0
	n := 1
	if multiport {
		cfg := c.dev.Config()
		if cfg == nil || cfg.Len() < configMaxPorts+4 {
			return errConfig
		}
		n = int(min(cfg.Load32(configMaxPorts), maxPorts))
		if n == 0 {
			return errConfig
		}
	}
	if err := c.dev.Interrupt(c.interrupt); err != nil {
		return err
	}
	if err := c.makeQueues(n, multiport); err != nil {
		return err
	}
	c.dev.Start()
	if !multiport {
		c.ports[0].added = true
		c.ports[0].setHost(hostOpen)
		return nil
	}
	return c.discover()
}

// makeQueues sets up the queues of n ports and the control queues.
func (c *Console) makeQueues(n int, multiport bool) error {
	for i := range n {
		first := 0
		if i > 0 {
			first = 2 + 2*i
		}
		rx, err := c.dev.Queue(first, ringSize, 0)
		if err != nil {
			return err
		}
		tx, err := c.dev.Queue(first+1, ringSize, 0)
		if err != nil {
			return err
		}
		rx.Disarm()
		tx.Disarm()
		c.ports = append(c.ports, &Port{c: c, number: i, rx: rx, tx: tx})
	}
	var err error
	if c.emergency, err = c.m.Alloc(); err != nil || !multiport {
		return err
	}
	if c.in, err = c.dev.Queue(controlIn, ringSize, 0); err != nil {
		return err
	}
	if c.out, err = c.dev.Queue(controlOut, ringSize, 0); err != nil {
		return err
	}
	c.out.Disarm()
	f, err := c.m.Alloc()
	if err != nil {
		return err
	}
	c.buffers, c.pa = c.m.Bytes(f, 1), uint64(f)*machine.PageSize
	for i := range c.in.Size() {
		c.post(uint8(i))
	}
	for i := range c.out.Size() {
		c.outFree = append(c.outFree, uint8(ringSize+i))
	}
	c.in.Disarm()
	return nil
}

// close gives up a device that did not start.
func (c *Console) close() {
	if c.dev.Close() != nil {
		return // it may still write to its buffers
	}
	if c.emergency != machine.NoFrame {
		c.m.Free(c.emergency, 1)
	}
	if c.buffers != nil {
		c.m.Free(machine.Frame(c.pa/machine.PageSize), 1)
	}
}

// discover greets the device and learns its ports. A device handles a control message, and sends what it
// has to say about it, before it gives the message's buffer back; so all is known when none is out.
func (c *Console) discover() error {
	deadline := c.m.Monotonic() + discoverTime
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.Kick()
	c.send(0, eventDeviceReady, 1)
	for {
		c.out.Kick()
		if err := c.settle(deadline); err != nil {
			return err
		}
		if len(c.answer) == 0 {
			c.ready = true
			c.serve()
			return nil
		}
		n := min(len(c.answer), readyBatch)
		for _, number := range c.answer[:n] {
			c.send(uint32(number), eventPortReady, 1)
		}
		c.answer = append(c.answer[:0], c.answer[n:]...)
	}
}

// settle waits until the device has taken all control messages, and reads its own.
//
// +checklocks:c.mu
func (c *Console) settle(deadline int64) error {
	for {
		late := c.m.Monotonic() > deadline // asked before the queue: a machine that stood still looks once more
		c.reclaim()
		done := c.out.InFlight() == 0
		c.receive()
		switch {
		case c.out.Broken() || c.in.Broken():
			return errSilent
		case done:
			return nil
		case late:
			return errSilent
		}
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
}

// slot returns a control buffer and its address.
func (c *Console) slot(i uint8) ([]byte, virtio.Buffer) {
	at := int(i) * controlBuffer
	return c.buffers[at : at+controlBuffer], virtio.Buffer{Addr: c.pa + uint64(at), Len: controlBuffer}
}

// post gives control buffer i to the device.
func (c *Console) post(i uint8) {
	_, b := c.slot(i)
	if id, ok := c.in.Add(nil, []virtio.Buffer{b}); ok {
		c.inSlot[id] = i
	}
}

// reclaim takes back the buffers of control messages that the device has read.
func (c *Console) reclaim() {
	for {
		id, _, ok := c.out.Take()
		if !ok {
			return
		}
		c.outFree = append(c.outFree, c.outSlot[id])
	}
}

// send queues a control message; it reports false when the device is behind with them.
func (c *Console) send(port uint32, event, value uint16) bool {
	c.reclaim()
	last := len(c.outFree) - 1
	if last < 0 {
		return false
	}
	i := c.outFree[last]
	msg, b := c.slot(i)
	binary.LittleEndian.PutUint32(msg, port)
	binary.LittleEndian.PutUint16(msg[4:], event)
	binary.LittleEndian.PutUint16(msg[6:], value)
	b.Len = controlHeader
	id, ok := c.out.Add([]virtio.Buffer{b}, nil)
	if !ok {
		return false
	}
	c.outFree, c.outSlot[id] = c.outFree[:last], i
	return true
}

// receive handles the control messages that the device has sent.
func (c *Console) receive() {
	for {
		id, n, ok := c.in.Take()
		if !ok {
			break
		}
		i := c.inSlot[id]
		msg, _ := c.slot(i)
		c.control(msg[:n])
		c.post(i)
	}
	c.in.Kick()
}

// serve handles control messages until there are none, readies ports that
// were plugged in, and asks for an interrupt for the next message.
func (c *Console) serve() {
	for {
		c.receive()
		for _, number := range c.answer {
			c.send(uint32(number), eventPortReady, 1)
		}
		c.answer = c.answer[:0]
		c.out.Kick()
		if !c.in.Arm(1) {
			return
		}
	}
}

// control handles one message. What makes no sense is ignored, as §5.3.6.2 wants of unknown events.
func (c *Console) control(msg []byte) {
	if len(msg) < controlHeader {
		return
	}
	number := binary.LittleEndian.Uint32(msg)
	value := binary.LittleEndian.Uint16(msg[6:])
	if number >= uint32(len(c.ports)) {
		return
	}
	p := c.ports[number]
	switch binary.LittleEndian.Uint16(msg[4:]) {
	case eventPortAdd:
		if !p.added {
			p.added = true
			c.answer = append(c.answer, uint16(number))
		}
	case eventPortRemove:
		p.setHost(hostGone)
	case eventPortName:
		p.setName(msg[controlHeader:])
	case eventPortOpen:
		if value != 0 {
			p.setHost(hostOpen)
		} else {
			p.setHost(hostClosed)
		}
	}
}

// interrupt serves the device's interrupts.
func (c *Console) interrupt() {
	if c.in != nil {
		c.mu.Lock()
		if c.ready && c.in.Pending() > 0 {
			c.serve()
		}
		c.mu.Unlock()
	}
	armed := c.armed.Load()
	for _, p := range c.ports {
		if both := armed >> (2 * p.number) & 3; both != 0 {
			p.interrupt(both&1 != 0, both&2 != 0)
		}
	}
}

// Ports returns the ports that the device has.
func (c *Console) Ports() []*Port {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ports []*Port
	for _, p := range c.ports {
		if p.added {
			ports = append(ports, p)
		}
	}
	return ports
}

// Port returns the port with a name, or nil.
func (c *Console) Port(name string) *Port {
	for _, p := range c.Ports() {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// pause lets others run during the nth round of waiting for the host.
func pause(n int) {
	if n < 100 {
		runtime.Gosched()
		return
	}
	time.Sleep(100 * time.Microsecond)
}
