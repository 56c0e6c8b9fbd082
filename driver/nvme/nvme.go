// Package nvme drives NVM Express disks on PCI (NVM Express Base Specification 1.4): the first namespace of a controller, one pair of
// queues for commands and one for requests, an interrupt for both.
//
// The controller is not trusted: a completion that makes no sense disables it, and every request ends with EIO. One that does not answer while
// the disk is opened is given up; later a request waits for as long as it takes.
//
// Lock order: queue.mu alone. It is held while rings are touched, never while a goroutine waits.
package nvme

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/pci"
	"gosv/driver/virtio"
	"gosv/kernel/block"
	"gosv/machine"
)

// Registers (§3.1) and their parts.
const (
	regCAP    = 0x00
	regCC     = 0x14
	regCSTS   = 0x1c
	regAQA    = 0x24
	regASQ    = 0x28
	regACQ    = 0x30
	regBells  = 0x1000
	barLength = 0x2000

	ccEnable = 1 | 6<<16 | 4<<20 // entries of 64 and 16 bytes
	ready    = 1
	fatal    = 2
)

// Commands (§5, §6).
const (
	adminCreateSQ = 0x01
	adminCreateCQ = 0x05
	adminIdentify = 0x06

	opFlush  = 0x00
	opWrite  = 0x01
	opRead   = 0x02
	opZeroes = 0x08
	opDSM    = 0x09

	forceUnit  = 1 << 30
	deallocate = 1 << 25 // of write zeroes
	dsmDiscard = 1 << 2
)

const (
	depth      = 1 << slotBits // commands of a queue
	sqEntry    = 64
	cqEntry    = 16
	maxEntries = 256 // of a list of pages
	maxBytes   = (maxEntries - 1) * machine.PageSize
	maxBlocks  = 1 << 16 // of one command
	namespace  = 1
	// waitTime bounds what a controller may take to start or stop, or for a command of the first queue.
	waitTime = 10 * time.Second
)

var (
	errRegisters = errors.New("nvme: registers are missing")
	errSilent    = errors.New("nvme: controller does not get ready")
	errNamespace = errors.New("nvme: namespace 1 is missing, or has blocks of an unusual size")
)

// class is mass storage, non-volatile memory, NVM Express.
const class = 0x010802

// IsNVMe reports whether a function is an NVM Express controller.
func IsNVMe(f *pci.Function) bool { return f.Read32(8)>>8 == class }

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	machine.Bus
	machine.Interrupts
	Monotonic() int64
}

// A Device is the first namespace of a controller. It implements block.Device.
type Device struct {
	m        Machine
	regs     virtio.Registers
	stride   uint64 // between doorbells
	limits   block.Limits
	serial   string
	patience time.Duration // as waitTime
	admin    *queue
	io       atomic.Pointer[queue]
	dead     atomic.Bool
}

// Open starts a controller that IsNVMe.
func Open(f *pci.Function, m Machine) (*Device, error) {
	regs, err := f.Region(m, 0, 0, barLength)
	if err != nil {
		return nil, errRegisters
	}
	f.Enable()
	return New(regs, m, func(handler func()) error {
		v, err := m.Vector("nvme", handler)
		if err != nil {
			return err
		}
		return f.MSIX(m, m, v)
	})
}

// New is Open for registers that are mapped; connect is what brings interrupt 0 to a handler.
func New(regs virtio.Registers, m Machine, connect func(handler func()) error) (*Device, error) {
	return open(regs, m, connect, waitTime)
}

func open(regs virtio.Registers, m Machine, connect func(handler func()) error, patience time.Duration) (*Device, error) {
	d := &Device{m: m, regs: regs, patience: patience, stride: 4 << (regs.Load32(regCAP+4) & 15)}
	if d.stride*4 > barLength-regBells || regs.Load32(regCAP)&0xffff < depth-1 {
		return nil, errRegisters
	}
	if err := d.start(connect); err != nil {
		d.regs.Store32(regCC, 0)
		if d.wait(0) == nil {
			d.admin.close()
			d.io.Load().close()
		}
		return nil, err
	}
	return d, nil
}

func (d *Device) start(connect func(func()) error) (err error) {
	d.regs.Store32(regCC, 0)
	if err := d.wait(0); err != nil {
		return err
	}
	if d.admin, err = d.newQueue(0); err != nil {
		return err
	}
	if err := connect(d.interrupt); err != nil {
		return err
	}
	d.regs.Store32(regAQA, (depth-1)<<16|(depth-1))
	d.store64(regASQ, d.admin.pa)
	d.store64(regACQ, d.admin.pa+machine.PageSize)
	d.regs.Store32(regCC, ccEnable)
	if err := d.wait(ready); err != nil {
		return err
	}
	if err := d.identify(); err != nil {
		return err
	}
	q, err := d.newQueue(1)
	if err != nil {
		return err
	}
	d.io.Store(q)
	const contiguous, interrupts = 1, 2
	size := uint32(depth-1)<<16 | 1
	if err := d.admin.run(&command{op: adminCreateCQ, prp1: q.pa + machine.PageSize, dw10: size, dw11: contiguous | interrupts}); err != nil {
		return err
	}
	return d.admin.run(&command{op: adminCreateSQ, prp1: q.pa, dw10: size, dw11: contiguous | 1<<16})
}

func (d *Device) store64(off, v uint64) {
	d.regs.Store32(off, uint32(v))
	d.regs.Store32(off+4, uint32(v>>32))
}

// wait waits until the controller is ready, or is not any more.
func (d *Device) wait(want uint32) error {
	end := d.m.Monotonic() + int64(d.patience)
	for {
		switch status := d.regs.Load32(regCSTS); {
		case status&ready == want:
			return nil
		case status&fatal != 0 || d.m.Monotonic() > end:
			return errSilent
		}
		runtime.Gosched()
	}
}

// identify asks for what the controller and the namespace are like (§5.15).
func (d *Device) identify() error {
	f, err := d.m.AllocRun(1)
	if err != nil {
		return err
	}
	defer d.m.Free(f, 1)
	page := machine.MemoryOf(d.m.Bytes(f, 1))
	at := uint64(f) * machine.PageSize
	if err := d.admin.run(&command{op: adminIdentify, prp1: at, dw10: 1}); err != nil {
		return err
	}
	name := make([]byte, 0, 20)
	for i := range uint64(20) {
		if c := page.Load8(4 + i); c > 0x20 && c < 0x7f {
			name = append(name, c)
		}
	}
	d.serial = string(name)
	transfer, optional, cached := page.Load8(77), page.Load16(520), page.Load8(525)&1 != 0
	if err := d.admin.run(&command{op: adminIdentify, nsid: namespace, prp1: at}); err != nil {
		return err
	}
	blocks := page.Load64(0)
	format := page.Load32(128 + 4*uint64(page.Load8(26)&15))
	shift := format >> 16 & 0xff
	if blocks == 0 || shift < 9 || shift > 12 || format&0xffff != 0 || blocks > 1<<(62-shift) {
		return errNamespace
	}
	size := int64(1) << shift
	l := &d.limits
	*l = block.Limits{Size: int64(blocks) * size, BlockSize: int(size), PhysicalSize: int(size), MaxBytes: min(maxBytes, maxBlocks*size),
		Cached: cached, Queues: 1}
	if transfer > 0 && transfer < 20 {
		l.MaxBytes = min(l.MaxBytes, machine.PageSize<<transfer)
	}
	if optional&(1<<2) != 0 {
		l.MaxDiscard, l.DiscardAlign = min(1<<31*size, 1<<40), size
	}
	if optional&(1<<3) != 0 {
		l.MaxZeroes = maxBlocks * size
	}
	return nil
}

// Serial is the controller's serial number.
func (d *Device) Serial() string { return d.serial }

// Limits implements block.Device.
func (d *Device) Limits() block.Limits { return d.limits }

// Do implements block.Device.
func (d *Device) Do(r *block.Request) error {
	size := int64(d.limits.BlockSize)
	first, n := uint64(r.Off/size), uint32(r.Len/size-1)
	c := command{nsid: namespace, dw10: uint32(first), dw11: uint32(first >> 32), dw12: n}
	switch r.Op {
	case block.Read, block.Write:
		c.op, c.data = opRead, r.Data
		if r.Op == block.Write {
			c.op = opWrite
			if r.Durable {
				c.dw12 |= forceUnit
			}
		}
	case block.Flush:
		c = command{op: opFlush, nsid: namespace}
	case block.WriteZeroes:
		c.op = opZeroes
		if !r.Allocated {
			c.dw12 |= deallocate
		}
	case block.Discard:
		c = command{op: opDSM, nsid: namespace, dw11: dsmDiscard, discard: true, first: first, blocks: n + 1}
	default:
		return unix.EOPNOTSUPP
	}
	return d.io.Load().run(&c)
}

// interrupt takes what the controller is done with.
func (d *Device) interrupt() {
	d.admin.collect()
	if q := d.io.Load(); q != nil {
		q.collect()
	}
}

// fail gives the controller up.
func (d *Device) fail() {
	if !d.dead.Swap(true) {
		d.stop()
	}
}

// stop ends the controller and all commands. It is called once, by who made d.dead true.
func (d *Device) stop() {
	d.regs.Store32(regCC, 0)
	_ = d.wait(0) // one that does not even stop cannot be helped
	d.admin.abort()
	if q := d.io.Load(); q != nil {
		q.abort()
	}
}

// command is what goes into the submission queue.
type command struct {
	op               uint8
	nsid             uint32
	prp1             uint64
	dw10, dw11, dw12 uint32
	data             []block.Segment

	discard bool // of a range, whose description goes into the slot's memory
	first   uint64
	blocks  uint32
}

// queueFrames are for the submission queue and the completion queue, which begin at pages.
const queueFrames = 2

// queue is a submission queue with its completion queue, and a list of pages for each command.
type queue struct {
	d     *Device
	id    uint64
	pa    uint64
	first machine.Frame
	lists machine.Frame
	free  chan int // slots that nobody uses

	mu    sync.Mutex
	sq    machine.Memory // +checklocks:mu
	cq    machine.Memory // +checklocks:mu
	tail  uint32         // +checklocks:mu
	head  uint32         // +checklocks:mu
	phase uint32         // +checklocks:mu
	slots [depth]slot
}

type slot struct {
	parker machine.Parker
	// turn is different for commands that follow each other in a slot, so that one which is answered twice does not end the next; guarded by queue.mu,
	// as is what follows.
	turn   uint32
	busy   bool
	ok     bool
	status uint32
}

// A command's number is its slot, and the slot's turn above.
const (
	slotBits = 5
	turnMask = 1<<(16-slotBits) - 1
)

// listBytes is the memory of a slot's list, and listFrames that of all.
const (
	listBytes  = maxEntries * 8
	listFrames = depth * listBytes / machine.PageSize
)

func (d *Device) newQueue(id uint64) (*queue, error) {
	f, err := d.m.AllocRun(queueFrames)
	if err != nil {
		return nil, err
	}
	lists, err := d.m.AllocRun(listFrames)
	if err != nil {
		d.m.Free(f, queueFrames)
		return nil, err
	}
	all := machine.MemoryOf(d.m.Bytes(f, queueFrames))
	q := &queue{d: d, id: id, pa: uint64(f) * machine.PageSize, first: f, lists: lists, free: make(chan int, depth),
		sq: all.Slice(0, depth*sqEntry), cq: all.Slice(machine.PageSize, depth*cqEntry), phase: 1}
	for s := range depth - 1 { // one entry stays empty, or full would look like empty
		q.free <- s
	}
	return q, nil
}

func (q *queue) close() {
	if q != nil {
		q.d.m.Free(q.first, queueFrames)
		q.d.m.Free(q.lists, listFrames)
	}
}

// run carries out a command and waits for its end: EIO, EOPNOTSUPP, EINVAL for memory that is not in pages.
func (q *queue) run(c *command) error {
	s := <-q.free
	defer func() { q.free <- s }()
	prp2, err := q.prepare(s, c)
	if err != nil {
		return err
	}
	if !q.send(s, c, prp2) {
		return unix.EIO
	}
	if q.id == 0 {
		defer time.AfterFunc(q.d.patience, q.d.fail).Stop()
	}
	for {
		q.mu.Lock()
		busy, ok, status := q.slots[s].busy, q.slots[s].ok, q.slots[s].status
		q.mu.Unlock()
		if busy {
			q.slots[s].parker.Park()
			continue
		}
		const invalidOpcode = 1
		switch {
		case ok && status == 0:
			return nil
		case ok && status&0x7ff == invalidOpcode:
			return unix.EOPNOTSUPP
		}
		return unix.EIO
	}
}

// prepare writes the list of pages of a command (§4.3): the first may begin anywhere in its page, and all but the last end with theirs.
func (q *queue) prepare(s int, c *command) (prp2 uint64, err error) {
	list := machine.MemoryOf(q.d.m.Bytes(q.lists, listFrames)).Slice(uint64(s)*listBytes, listBytes)
	at := uint64(q.lists)*machine.PageSize + uint64(s)*listBytes
	if c.discard {
		list.Store32(0, 0)
		list.Store32(4, c.blocks)
		list.Store64(8, c.first)
		c.prp1 = at
		return 0, nil
	}
	n, last := uint64(0), uint64(0)
	for i, seg := range c.data {
		addr, end := seg.Addr, seg.Addr+uint64(len(seg.Bytes))
		if i > 0 && (addr%machine.PageSize != 0 || last%machine.PageSize != 0) {
			return 0, unix.EINVAL
		}
		for ; addr < end; addr = addr&^(machine.PageSize-1) + machine.PageSize {
			if n == 0 {
				c.prp1 = addr
			} else if n <= maxEntries {
				list.Store64((n-1)*8, addr)
			} else {
				return 0, unix.EINVAL
			}
			n++
		}
		last = end
	}
	switch {
	case n <= 1:
		return 0, nil
	case n == 2:
		return list.Load64(0), nil
	}
	return at, nil
}

// send puts a command into the queue; false when the controller is dead.
func (q *queue) send(s int, c *command, prp2 uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.d.dead.Load() {
		return false
	}
	e := q.sq.Slice(uint64(q.tail)*sqEntry, sqEntry)
	q.slots[s].turn = (q.slots[s].turn + 1) & turnMask
	e.Store32(0, uint32(c.op)|(uint32(s)|q.slots[s].turn<<slotBits)<<16)
	e.Store32(4, c.nsid)
	e.Store64(8, 0)
	e.Store64(16, 0)
	e.Store64(24, c.prp1)
	e.Store64(32, prp2)
	e.Store32(40, c.dw10)
	e.Store32(44, c.dw11)
	e.Store32(48, c.dw12)
	e.Store32(52, 0)
	e.Store64(56, 0)
	q.slots[s].busy, q.slots[s].ok = true, false
	q.slots[s].parker.Drop()
	q.tail = (q.tail + 1) % depth
	q.d.regs.Store32(regBells+2*q.id*q.d.stride, q.tail)
	return true
}

// collect wakes those whose commands are done.
func (q *queue) collect() {
	q.mu.Lock()
	broken, any := false, false
	for range depth {
		e := q.cq.Slice(uint64(q.head)*cqEntry, cqEntry)
		word := e.Load32(12)
		if word>>16&1 != q.phase {
			break
		}
		s := word & (depth - 1)
		if !q.slots[s].busy || q.slots[s].turn != word>>slotBits&turnMask {
			broken = true
			break
		}
		q.slots[s].busy, q.slots[s].ok, q.slots[s].status = false, true, word>>17&0x7fff
		q.slots[s].parker.Wake()
		any = true
		if q.head++; q.head == depth {
			q.head, q.phase = 0, q.phase^1
		}
	}
	if any {
		q.d.regs.Store32(regBells+(2*q.id+1)*q.d.stride, q.head)
	}
	stop := broken && !q.d.dead.Swap(true) // with q.mu: what is sent later could make a lie true
	q.mu.Unlock()
	if stop {
		q.d.stop()
	}
}

// abort ends all commands.
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
