// Package blk drives virtio block devices (virtio 1.2 §5.2).
//
// Requests of many goroutines are in flight at once, spread over the device's queues; each goes out as one chain with
// an indirect table. A device that breaks the rules of its queue is reset, and every request, those that wait and
// those that come, ends with EIO.
//
// Lock order: queue.mu alone. It is held while rings are touched, never while a goroutine waits.
package blk

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/kernel/block"
	"gosv/machine"
)

// Feature bits (§5.2.3).
const (
	featureSizeMax  = 1 << 1
	featureSegMax   = 1 << 2
	featureReadOnly = 1 << 5
	featureBlkSize  = 1 << 6
	featureFlush    = 1 << 9
	featureTopology = 1 << 10
	featureWCE      = 1 << 11
	featureMQ       = 1 << 12
	featureDiscard  = 1 << 13
	featureZeroes   = 1 << 14

	wanted = featureSizeMax | featureSegMax | featureReadOnly | featureBlkSize | featureFlush | featureTopology |
		featureWCE | featureMQ | featureDiscard | featureZeroes | virtio.FeatureIndirect
)

// Offsets in the configuration space (§5.2.4).
const (
	confCapacity     = 0
	confSizeMax      = 8
	confSegMax       = 12
	confBlkSize      = 20
	confPhysicalExp  = 24
	confOptimal      = 28
	confWriteback    = 32
	confQueues       = 34
	confMaxDiscard   = 36
	confDiscardAlign = 44
	confMaxZeroes    = 48
	confZeroesSegs   = 52
	confEnd          = 60
	confLeast        = 8
)

// Request types and status values (§5.2.6).
const (
	typeIn      = 0
	typeOut     = 1
	typeFlush   = 4
	typeGetID   = 8
	typeDiscard = 11
	typeZeroes  = 13

	statusOK          = 0
	statusUnsupported = 2

	flagUnmap = 1
)

const (
	// depth is how many requests a queue holds, and maxSegments how many pieces of memory each may have.
	depth       = 32
	maxSegments = 128
	// maxBytes is the most that a request moves.
	maxBytes = 4 << 20
	// A slot is the memory of a request that is neither data nor descriptors.
	slotSize   = 64
	slotRange  = 16 // offset of the range of a discard
	slotStatus = 32
	slotID     = 40 // and of the device's name
	idLen      = 20
	maxQueues  = 16
	maxSectors = 1<<31 - 1 // of one discard
)

var errConfig = errors.New("virtio block device has a bad configuration space")

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	CPUs() int
	Number() int
}

// A Device is one disk. It implements block.Device.
type Device struct {
	m      Machine
	dev    *virtio.Device
	limits block.Limits
	queues []*queue
	dead   atomic.Bool
}

// New starts the device behind t.
func New(t virtio.Transport, m Machine) (*Device, error) {
	dev, err := virtio.New(t, m, wanted)
	if err != nil {
		return nil, err
	}
	d := &Device{m: m, dev: dev}
	if err := d.start(); err != nil {
		_ = dev.Close() // what it still holds stays lost; err says why
		for _, q := range d.queues {
			m.Free(q.frame, 1)
		}
		return nil, err
	}
	return d, nil
}

func (d *Device) start() error {
	queues, err := d.readConfig()
	if err != nil {
		return err
	}
	if err := d.dev.Interrupt(d.interrupt); err != nil {
		return err
	}
	for i := range queues {
		q, err := d.newQueue(i)
		if err != nil {
			return err
		}
		d.queues = append(d.queues, q)
	}
	d.limits.Queues = len(d.queues)
	d.limits.MaxSegments = min(d.limits.MaxSegments, d.queues[0].segments)
	d.dev.Start()
	return nil
}

// readConfig fills in the limits, and returns how many queues to use.
func (d *Device) readConfig() (queues int, err error) {
	c := d.dev.Config()
	if c == nil || c.Len() < confLeast {
		return 0, errConfig
	}
	has := func(feature uint64, end uint64) bool { return d.dev.Features&feature != 0 && c.Len() >= end }
	sectors := uint64(c.Load32(confCapacity)) | uint64(c.Load32(confCapacity+4))<<32
	if sectors > 1<<54 {
		return 0, errConfig
	}
	l := &d.limits
	*l = block.Limits{BlockSize: block.SectorSize, MaxSegments: maxSegments, MaxBytes: maxBytes}
	if has(featureBlkSize, confBlkSize+4) {
		if n := c.Load32(confBlkSize); n >= 512 && n <= 4096 && n&(n-1) == 0 {
			l.BlockSize = int(n)
		}
	}
	l.Size = int64(sectors) * block.SectorSize &^ int64(l.BlockSize-1)
	l.PhysicalSize = l.BlockSize
	if has(featureTopology, confOptimal+4) {
		if exp := c.Load8(confPhysicalExp); exp <= 12 {
			l.PhysicalSize = l.BlockSize << exp
		}
		l.OptimalSize = int(min(c.Load32(confOptimal), 1<<16)) * l.BlockSize
	}
	if has(featureSegMax, confSegMax+4) {
		l.MaxSegments = int(max(1, min(c.Load32(confSegMax), maxSegments)))
	}
	if has(featureSizeMax, confSizeMax+4) {
		n := int64(c.Load32(confSizeMax)) &^ int64(l.BlockSize-1)
		if n == 0 {
			return 0, errConfig
		}
		l.MaxBytes = min(l.MaxBytes, n) // then no segment is longer either
	}
	l.ReadOnly = d.dev.Features&featureReadOnly != 0
	l.Cached = d.dev.Features&featureFlush != 0
	if has(featureWCE, confWriteback+1) && c.Load8(confWriteback) == 0 {
		l.Cached = false
	}
	sector := int64(block.SectorSize)
	if has(featureDiscard, confDiscardAlign+4) {
		l.MaxDiscard = min(int64(c.Load32(confMaxDiscard)), maxSectors) * sector &^ int64(l.BlockSize-1)
		l.DiscardAlign = max(int64(c.Load32(confDiscardAlign))*sector, int64(l.BlockSize))
	}
	if has(featureZeroes, confZeroesSegs+4) {
		l.MaxZeroes = min(int64(c.Load32(confMaxZeroes)), maxSectors) * sector &^ int64(l.BlockSize-1)
	}
	queues = 1
	if has(featureMQ, confQueues+2) {
		queues = max(1, min(int(c.Load16(confQueues)), d.m.CPUs(), maxQueues))
	}
	return queues, nil
}

// Limits implements block.Device.
func (d *Device) Limits() block.Limits { return d.limits }

// Do implements block.Device.
func (d *Device) Do(r *block.Request) error {
	var err error
	switch r.Op {
	case block.Read:
		err = d.queue().run(typeIn, r, r.Data)
	case block.Write:
		if err = d.queue().run(typeOut, r, r.Data); err == nil && r.Durable && d.limits.Cached {
			err = d.queue().run(typeFlush, &block.Request{}, nil)
		}
	case block.Flush:
		err = d.queue().run(typeFlush, r, nil)
	case block.Discard:
		err = d.queue().run(typeDiscard, r, nil)
	case block.WriteZeroes:
		err = d.queue().run(typeZeroes, r, nil)
	default:
		err = unix.EOPNOTSUPP
	}
	return err
}

// queue returns the queue of the processor that runs the caller.
func (d *Device) queue() *queue { return d.queues[d.m.Number()%len(d.queues)] }

// Serial asks the device for its name, up to 20 characters; empty when it has none.
func (d *Device) Serial() string {
	q := d.queues[0]
	s := <-q.free
	defer func() { q.free <- s }()
	if q.submit(s, typeGetID, &block.Request{}, nil) != nil {
		return ""
	}
	id := q.memory(s)[slotID : slotID+idLen]
	for n, b := range id {
		if b < 0x20 || b > 0x7e {
			id = id[:n]
			break
		}
	}
	return string(id)
}

// interrupt takes what the device is done with.
func (d *Device) interrupt() {
	for _, q := range d.queues {
		q.collect()
	}
}

// fail gives the device up: it is reset, so that it touches no memory any more, and all requests fail.
func (d *Device) fail() {
	if d.dead.Swap(true) {
		return
	}
	d.dev.SetStatus(0)
	for _, q := range d.queues {
		q.abort()
	}
}

// queue is one virtqueue with the requests in it.
type queue struct {
	d        *Device
	frame    machine.Frame // holds the slots
	segments int
	free     chan int // slots that nobody uses

	mu   sync.Mutex
	ring *virtio.Queue // +checklocks:mu
	// owner is the slot of each chain, by id.
	owner [depth]int     // +checklocks:mu
	slots [depth]request // done is guarded by mu
	// out is scratch.
	out []virtio.Buffer // +checklocks:mu
	in  []virtio.Buffer // +checklocks:mu
}

// request is a request under way.
type request struct {
	parker machine.Parker
	busy   bool // the device has it
	ok     bool // it came back
}

func (d *Device) newQueue(i int) (*queue, error) {
	ring, err := d.dev.Queue(i, depth, maxSegments+2)
	if err != nil {
		return nil, err
	}
	frame, err := d.m.AllocRun(1)
	if err != nil {
		return nil, err
	}
	q := &queue{d: d, frame: frame, ring: ring, segments: maxSegments, free: make(chan int, depth)}
	slots := ring.Size()
	if d.dev.Features&virtio.FeatureIndirect == 0 {
		// A chain must fit into the ring whatever else is in it.
		q.segments = max(1, min(maxSegments, ring.Size()/4-2))
		slots = max(1, ring.Size()/(q.segments+2))
	}
	for s := range min(slots, depth) {
		q.free <- s
	}
	q.out, q.in = make([]virtio.Buffer, 0, maxSegments+2), make([]virtio.Buffer, 0, maxSegments+2)
	ring.Arm(1)
	return q, nil
}

// memory is slot s, and address where the device finds it.
func (q *queue) memory(s int) []byte { return q.d.m.Bytes(q.frame, 1)[s*slotSize:][:slotSize] }

func (q *queue) address(s int) uint64 { return uint64(q.frame)*machine.PageSize + uint64(s*slotSize) }

// run carries out one request and waits for its end: EIO, EOPNOTSUPP.
func (q *queue) run(typ uint32, r *block.Request, data []block.Segment) error {
	s := <-q.free
	err := q.submit(s, typ, r, data)
	q.free <- s
	return err
}

func (q *queue) submit(s int, typ uint32, r *block.Request, data []block.Segment) error {
	memory, at := q.memory(s), q.address(s)
	header := machine.MemoryOf(memory)
	header.Store32(0, typ)
	header.Store32(4, 0)
	sector := uint64(r.Off) / block.SectorSize
	if typ == typeDiscard || typ == typeZeroes {
		header.Store64(8, 0)
		header.Store64(slotRange, sector)
		header.Store32(slotRange+8, uint32(r.Len/block.SectorSize))
		flags := uint32(0)
		if typ == typeZeroes && !r.Allocated {
			flags = flagUnmap
		}
		header.Store32(slotRange+12, flags)
	} else {
		header.Store64(8, sector)
	}
	memory[slotStatus] = 0xff
	if !q.send(s, typ, at, data) {
		return unix.EIO
	}
	for !q.wait(s) {
		q.slots[s].parker.Park()
	}
	q.mu.Lock()
	came := q.slots[s].ok
	q.mu.Unlock()
	switch status := header.Load8(slotStatus); {
	case !came:
		return unix.EIO
	case status == statusOK:
		return nil
	case status == statusUnsupported:
		return unix.EOPNOTSUPP
	}
	return unix.EIO
}

// send gives the request in slot s to the device; false when the device is dead.
func (q *queue) send(s int, typ uint32, at uint64, data []block.Segment) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.d.dead.Load() {
		return false
	}
	q.out = append(q.out[:0], virtio.Buffer{Addr: at, Len: slotRange})
	q.in = q.in[:0]
	switch typ {
	case typeIn:
		q.in = buffers(q.in, data)
	case typeOut:
		q.out = buffers(q.out, data)
	case typeDiscard, typeZeroes:
		q.out = append(q.out, virtio.Buffer{Addr: at + slotRange, Len: 16})
	case typeGetID:
		q.in = append(q.in, virtio.Buffer{Addr: at + slotID, Len: idLen})
	}
	q.in = append(q.in, virtio.Buffer{Addr: at + slotStatus, Len: 1})
	id, ok := q.ring.Add(q.out, q.in)
	if !ok {
		return false
	}
	q.owner[id] = s
	q.slots[s].busy, q.slots[s].ok = true, false
	q.slots[s].parker.Drop()
	q.ring.Kick()
	return true
}

// buffers appends segments, joining neighbours.
func buffers(list []virtio.Buffer, data []block.Segment) []virtio.Buffer {
	first := len(list)
	for _, seg := range data {
		n := uint32(len(seg.Bytes))
		if len(list) > first {
			if last := &list[len(list)-1]; last.Addr+uint64(last.Len) == seg.Addr {
				last.Len += n
				continue
			}
		}
		list = append(list, virtio.Buffer{Addr: seg.Addr, Len: n})
	}
	return list
}

// wait reports whether the request in slot s has ended.
func (q *queue) wait(s int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.slots[s].busy
}

// collect wakes those whose requests the device is done with.
func (q *queue) collect() {
	q.mu.Lock()
	for {
		for id, _, ok := q.ring.Take(); ok; id, _, ok = q.ring.Take() {
			s := &q.slots[q.owner[id]]
			s.busy, s.ok = false, true
			s.parker.Wake()
		}
		if q.ring.Broken() || !q.ring.Arm(1) {
			break
		}
	}
	broken := q.ring.Broken()
	q.mu.Unlock()
	if broken {
		q.d.fail()
	}
}

// abort ends all requests.
func (q *queue) abort() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.slots {
		if s := &q.slots[i]; s.busy {
			s.busy = false
			s.parker.Wake()
		}
	}
}
