// Package net drives virtio network devices (OASIS virtio 1.2 §5.1): checksums and
// segmentation are left to the device where it can do them, large packets are
// received in several buffers, and the queues run with event indices. A device that has several pairs of queues gets
// as many used as there are processors; a flow of packets keeps to one of them.
//
// The device is not trusted. Lengths, chains and buffer counts are checked; a
// device that breaks the rules makes its queue broken, after which nothing is
// received, and Send says EIO. What a received header says of checksums and segments is
// handed on as foreign data.
//
// Memory: frames of their own for what is on its way; buffers to receive into grow in number
// while the device runs out of them. What is sent is copied once, from the stack's buffers into frames;
// what is received is copied out once, by the Receiver.
//
// Locks: of each pair, rxMu guards the receive queue, txMu the send queue; neither is held when
// the Receiver is called, and neither is taken within the other. The control queue's is none of them.
package net

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/kernel/netdev"
	"gosv/machine"
)

// Feature bits (§5.1.3).
const (
	featureCsum      = 1 << 0
	featureGuestCsum = 1 << 1
	featureMTU       = 1 << 3
	featureMAC       = 1 << 5
	featureGuestTSO4 = 1 << 7
	featureGuestTSO6 = 1 << 8
	featureGuestECN  = 1 << 9
	featureHostTSO4  = 1 << 11
	featureHostTSO6  = 1 << 12
	featureMergeable = 1 << 15
	featureStatus    = 1 << 16
	featureCtrlQueue = 1 << 17
	featureCtrlRX    = 1 << 18
	featureMQ        = 1 << 22
	featureCtrlMAC   = 1 << 23
	featureGuestUSO4 = 1 << 54 // those of UDP are virtio 1.3's
	featureGuestUSO6 = 1 << 55
	featureHostUSO   = 1 << 56
)

// Fields of the configuration space (§5.1.4), which are there with their features.
const (
	configMAC    = 0
	configStatus = 6
	configPairs  = 8
	configMTU    = 10
	configSize   = 12

	statusLinkUp = 1
)

// The header in front of each packet (§5.1.6).
const (
	headerSize = 12

	hdrFlags    = 0
	hdrGSOType  = 1
	hdrLength   = 2
	hdrGSOSize  = 4
	hdrStart    = 6
	hdrOffset   = 8
	hdrBuffers  = 10
	flagCsum    = 1
	flagValid   = 2
	gsoNone     = 0
	gsoTCPv4    = 1
	gsoTCPv6    = 4
	gsoUDP      = 5 // UDP_L4
	gsoECN      = 0x80
	ethernetHdr = 14
)

const (
	rxQueue   = 0 // of the first pair
	txQueue   = 1
	ctrlQueue = 2 // without multiqueue, else behind all pairs that the device has
	maxPairs  = 8 // that are used

	ringSize   = 256
	defaultMTU = 1500
	minMTU     = 68
	maxFrame   = 64<<10 + ethernetHdr // of a packet that the device cuts into segments
	bufferSize = machine.PageSize
)

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	Monotonic() int64
}

// Device is a virtio network device. It implements netdev.Device.
type Device struct {
	m     Machine
	dev   *virtio.Device
	mac   [6]byte // as it was at first
	mtu   int
	works netdev.Features
	large bool // large packets are received
	uso   bool // of UDP, too

	pairs   []*pair      // that are there
	active  atomic.Int32 // of them, those that the device uses
	control *control

	stats   counters
	closing atomic.Bool
}

// A pair is two queues, to receive and to send.
type pair struct {
	d *Device

	rxMu sync.Mutex
	rx   receiver // +checklocks:rxMu

	txMu sync.Mutex
	tx   transmitter // +checklocks:txMu

	wake    machine.Parker // of the receiving goroutine
	room    chan struct{}  // holds an element when the device may have sent something
	waiting atomic.Int32   // senders that wait for room
	done    chan struct{}  // closed when nothing is received any more
}

type counters struct {
	rxPackets, rxBytes, rxErrors, rxDropped atomic.Uint64
	txPackets, txBytes, txErrors, txDropped atomic.Uint64
}

// New takes over the device behind t, of which it uses at most so many pairs of queues. It reads what the device is; nothing is received before Start.
func New(t virtio.Transport, m Machine, pairs int) (*Device, error) {
	return open(t, m, pairs, controlTime)
}

func open(t virtio.Transport, m Machine, pairs int, patience time.Duration) (*Device, error) {
	want := uint64(featureCsum | featureGuestCsum | featureMTU | featureMAC | featureHostTSO4 | featureHostTSO6 | featureMergeable | featureStatus)
	offered := t.Offered()
	// A large packet needs buffers that merge, and its checksum is left open.
	if offered&featureMergeable != 0 && offered&featureGuestCsum != 0 {
		want |= featureGuestTSO4 | featureGuestTSO6 | featureGuestECN | featureGuestUSO4 | featureGuestUSO6
	}
	if offered&featureCsum != 0 {
		want |= featureHostUSO
	}
	// What needs the control queue is not there without it (§5.1.3.1).
	if offered&featureCtrlQueue != 0 {
		want |= featureCtrlQueue | featureCtrlRX | featureCtrlMAC | featureMQ
	}
	dev, err := virtio.New(t, m, want)
	if err != nil {
		return nil, err
	}
	d := &Device{m: m, dev: dev}
	d.uso = dev.Features&(featureGuestUSO4|featureGuestUSO6) != 0
	d.large = d.uso || dev.Features&(featureGuestTSO4|featureGuestTSO6) != 0
	csum := dev.Features&featureCsum != 0
	d.works = netdev.Features{Checksum: csum, TCPv4: csum && dev.Features&featureHostTSO4 != 0, TCPv6: csum && dev.Features&featureHostTSO6 != 0,
		UDP: csum && dev.Features&featureHostUSO != 0}
	d.readConfig()
	if err := d.setUp(t, pairs, patience); err != nil {
		// A device that does not let itself be closed is not told to use
		// the queues either.
		_ = dev.Close()
		return nil, err
	}
	return d, nil
}

// setUp makes the queues.
func (d *Device) setUp(t virtio.Transport, pairs int, patience time.Duration) error {
	if err := t.Interrupt(d.interrupt); err != nil {
		return &virtio.DeviceError{Device: t.Name(), Err: err}
	}
	has := d.devicePairs()
	for i := range min(max(pairs, 1), has, maxPairs) {
		q, err := d.newPair(i)
		if err != nil {
			return err
		}
		d.pairs = append(d.pairs, q)
	}
	if d.dev.Features&featureCtrlQueue == 0 {
		return nil
	}
	q, err := d.dev.Queue(2*has, ctrlSize, 1)
	if err != nil {
		return err
	}
	d.control = &control{q: q, m: d.m, wake: make(chan struct{}, 1), patience: patience}
	return nil
}

// devicePairs is how many pairs of queues the device has. It has the control queue behind them.
func (d *Device) devicePairs() int {
	c := d.dev.Config()
	if d.dev.Features&featureMQ == 0 || c == nil || c.Len() < configSize {
		return 1
	}
	return max(int(min(c.Load16(configPairs), 0x8000)), 1)
}

func (d *Device) newPair(i int) (*pair, error) {
	q := &pair{d: d, room: make(chan struct{}, 1), done: make(chan struct{})}
	q.rxMu.Lock()
	defer q.rxMu.Unlock()
	q.txMu.Lock()
	defer q.txMu.Unlock()
	var err error
	if q.rx.q, err = d.dev.Queue(2*i+rxQueue, ringSize, 1); err != nil {
		return nil, err
	}
	q.tx.q, err = d.dev.Queue(2*i+txQueue, ringSize, 1)
	return q, err
}

// readConfig takes address and MTU from the configuration space.
func (d *Device) readConfig() {
	d.mtu = defaultMTU
	c := d.dev.Config()
	has := func(feature uint64) bool { return c != nil && c.Len() >= configSize && d.dev.Features&feature != 0 }
	for i := range d.mac {
		if has(featureMAC) {
			d.mac[i] = c.Load8(configMAC + uint64(i))
		}
	}
	if has(featureMTU) {
		if mtu := int(c.Load16(configMTU)); mtu >= minMTU {
			d.mtu = mtu
		}
	}
	if d.dev.Features&featureMergeable == 0 {
		d.mtu = min(d.mtu, bufferSize-headerSize-ethernetHdr)
	}
	if d.mac == [6]byte{} || d.mac[0]&1 != 0 {
		d.mac = [6]byte{0x52, 0x54, 0, 0x67, 0x6f, 0x73} // locally administered; there is one such device
	}
}

// MAC implements netdev.Device.
func (d *Device) MAC() [6]byte { return d.mac }

// MTU implements netdev.Device.
func (d *Device) MTU() int { return d.mtu }

// Features implements netdev.Device.
func (d *Device) Features() netdev.Features { return d.works }

// Up implements netdev.Device.
func (d *Device) Up() bool {
	c := d.dev.Config()
	if d.dev.Features&featureStatus == 0 || c == nil || c.Len() < configSize {
		return true
	}
	return c.Load16(configStatus)&statusLinkUp != 0
}

// Stats implements netdev.Device.
func (d *Device) Stats() netdev.Stats {
	c := &d.stats
	return netdev.Stats{
		RxPackets: c.rxPackets.Load(), RxBytes: c.rxBytes.Load(), RxErrors: c.rxErrors.Load(), RxDropped: c.rxDropped.Load(),
		TxPackets: c.txPackets.Load(), TxBytes: c.txBytes.Load(), TxErrors: c.txErrors.Load(), TxDropped: c.txDropped.Load(),
	}
}

// interrupt is called for all queues.
func (d *Device) interrupt() {
	for _, q := range d.pairs {
		q.wake.Wake()
		if q.waiting.Load() > 0 {
			q.ring()
		}
	}
	if d.control != nil {
		d.control.ring()
	}
}

func (q *pair) ring() {
	select {
	case q.room <- struct{}{}:
	default:
	}
}

// Start implements netdev.Device: ENOMEM. A device that does not do what it is asked by the control queue is used as it is then.
func (d *Device) Start(r netdev.Receiver) error {
	for i, q := range d.pairs {
		if n := q.fill(); n < d.least() {
			if i == 0 {
				return unix.ENOMEM
			}
			d.pairs = d.pairs[:i] // memory is short
			break
		}
	}
	d.dev.Start()
	for _, q := range d.pairs {
		q.rxMu.Lock()
		q.rx.q.Kick()
		q.rxMu.Unlock()
		go q.receive(r)
	}
	d.usePairs(1)
	if n := len(d.pairs); n > 1 && d.control.command(classMQ, cmdPairs, uint16(n)) == nil {
		d.usePairs(n)
	}
	if d.dev.Features&featureCtrlRX != 0 {
		_ = d.Promiscuous(false)                                 // it begins with it on
		_ = d.control.command(classRX, cmdAllMulticast, byte(1)) // the stack knows which groups
	}
	return nil
}

// fill gives the device its first buffers and returns how many.
func (q *pair) fill() int {
	q.rxMu.Lock()
	defer q.rxMu.Unlock()
	return q.rx.grow(q.d.m, max(firstBuffers, q.d.least()+1))
}

// Close resets the device. Nothing is received after it, and Send must not be called. Start was called before.
func (d *Device) Close() error {
	d.closing.Store(true)
	for _, q := range d.pairs {
		q.wake.Wake()
		<-q.done
	}
	return d.dev.Close()
}

// sendTime bounds how long Send waits for room.
const sendTime = 100 * time.Millisecond

// header writes the header of a packet.
func header(b []byte, o *netdev.Offload) {
	clear(b[:headerSize])
	if o.Checksum {
		b[hdrFlags] = flagCsum
		binary.LittleEndian.PutUint16(b[hdrStart:], o.Start)
		binary.LittleEndian.PutUint16(b[hdrOffset:], o.Offset)
	}
	switch o.Segment {
	case netdev.TCPv4:
		b[hdrGSOType] = gsoTCPv4
	case netdev.TCPv6:
		b[hdrGSOType] = gsoTCPv6
	case netdev.UDP:
		b[hdrGSOType] = gsoUDP
	default:
		return
	}
	binary.LittleEndian.PutUint16(b[hdrLength:], o.Header)
	binary.LittleEndian.PutUint16(b[hdrGSOSize:], o.Size)
}

// parseHeader reads what a received header says. Large packets of UDP were agreed on, or not.
func parseHeader(b []byte, uso bool) (o netdev.Offload, buffers int) {
	o.Checksum, o.Valid = b[hdrFlags]&flagCsum != 0, b[hdrFlags]&flagValid != 0
	o.Start, o.Offset = binary.LittleEndian.Uint16(b[hdrStart:]), binary.LittleEndian.Uint16(b[hdrOffset:])
	o.Header, o.Size = binary.LittleEndian.Uint16(b[hdrLength:]), binary.LittleEndian.Uint16(b[hdrGSOSize:])
	switch kind := b[hdrGSOType] &^ gsoECN; {
	case kind == gsoNone:
	case kind == gsoTCPv4:
		o.Segment = netdev.TCPv4
	case kind == gsoTCPv6:
		o.Segment = netdev.TCPv6
	case kind == gsoUDP && uso:
		o.Segment = netdev.UDP
	default:
		o.Segment = netdev.Unknown
	}
	return o, int(binary.LittleEndian.Uint16(b[hdrBuffers:]))
}
