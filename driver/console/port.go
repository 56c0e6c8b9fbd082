package console

import (
	"gosv/driver/virtio"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What the host does with a port.
const (
	hostNever  = iota // it has not opened it yet
	hostOpen          // it is there
	hostClosed        // it was there
	hostGone          // the port was unplugged
)

// Events of each direction.
const (
	inEvents  = unix.POLLIN | unix.EPOLLRDNORM
	outEvents = unix.POLLOUT | unix.EPOLLWRNORM
)

// Direction says which ways a port is used.
type Direction uint8

// The directions.
const (
	Input  Direction = 1 << iota // from the host
	Output                       // to the host
)

// A Port is a byte stream to and from the host. Its methods may be called from any goroutine.
type Port struct {
	c      *Console
	number int
	added  bool                   // guarded by Console.mu
	name   atomic.Pointer[string] // set once the device told it
	host   atomic.Int32
	queue  wait.Queue

	reader sync.Mutex // serialises ReadTo
	writer sync.Mutex // serialises WriteFrom

	mu     sync.Mutex // guards what follows
	opened bool
	rx, tx *virtio.Queue
	receiver
	transmitter
}

// Name is the port's name on the host, "" if it has none.
func (p *Port) Name() string {
	if s := p.name.Load(); s != nil {
		return *s
	}
	return ""
}

// setName takes the name from a control message, which may end in NUL.
func (p *Port) setName(b []byte) {
	for i, ch := range b {
		if ch == 0 {
			b = b[:i]
			break
		}
	}
	name := string(b)
	p.name.CompareAndSwap(nil, &name)
}

// setHost notes what the host does, and tells those who wait.
func (p *Port) setHost(state int32) {
	if p.host.Load() == hostGone || state == hostClosed && p.host.Load() == hostNever {
		return
	}
	if p.host.Swap(state) == hostClosed && state == hostOpen {
		p.mu.Lock()
		p.abandon()
		p.mu.Unlock()
	}
	if state == hostOpen {
		p.queue.Notify(outEvents)
	} else {
		p.queue.Notify(inEvents | outEvents | unix.POLLHUP | unix.POLLERR)
	}
}

// Open tells the host that the port is used from now on, and readies it for dir. It may be called again
// for the other direction. ENOMEM, ENODEV.
func (p *Port) Open(dir Direction) error {
	if p.host.Load() == hostGone {
		return unix.ENODEV
	}
	p.mu.Lock()
	err := p.open(dir)
	tell := err == nil && !p.opened
	p.opened = p.opened || tell
	p.mu.Unlock()
	if tell && p.c.in != nil {
		p.c.mu.Lock()
		defer p.c.mu.Unlock()
		if !p.c.send(uint32(p.number), eventPortOpen, 1) {
			return unix.EIO
		}
		p.c.out.Kick()
	}
	return err
}

func (p *Port) open(dir Direction) error {
	if dir&Input != 0 && p.rx.InFlight() == 0 {
		return p.postFirst()
	}
	return nil
}

// interrupt wakes those who wait for a direction that became ready.
func (p *Port) interrupt(in, out bool) {
	var ready wait.Mask
	p.mu.Lock()
	if in && (p.rx.Pending() > 0 || p.rx.Broken()) {
		p.disarm(0)
		p.rx.Disarm()
		ready |= inEvents
	}
	if out && (p.tx.Pending() > 0 || p.tx.Broken()) {
		p.disarm(1)
		p.tx.Disarm()
		ready |= outEvents
	}
	p.mu.Unlock()
	p.queue.Notify(ready)
}

// arm and disarm say whether the interrupt handler looks at a direction.
func (p *Port) arm(dir int)    { p.c.armed.Or(1 << (2*p.number + dir)) }
func (p *Port) disarm(dir int) { p.c.armed.And(^uint64(1 << (2*p.number + dir))) }

// Read is ReadTo a slice.
func (p *Port) Read(b []byte) (int, error) {
	dst := uio.Buffer(b)
	n, err := p.ReadTo(&dst)
	return int(n), err
}

// Write is WriteFrom a slice.
func (p *Port) Write(b []byte) (int, error) {
	src := uio.Buffer(b)
	n, err := p.WriteFrom(&src)
	return int(n), err
}

// Readiness returns which of the poll(2) events in mask are true now, and POLLHUP and POLLERR. After
// an event was missing, its Notify will come.
func (p *Port) Readiness(mask wait.Mask) wait.Mask {
	var ready wait.Mask
	p.mu.Lock()
	defer p.mu.Unlock()
	if mask&inEvents != 0 && p.readable() {
		ready |= mask & inEvents
	}
	if mask&outEvents != 0 && p.writable() {
		ready |= mask & outEvents
	}
	if p.rx.Broken() || p.tx.Broken() {
		ready |= unix.POLLERR
	}
	if p.host.Load() >= hostClosed {
		ready |= unix.POLLHUP
	}
	return ready
}

// Register has e told of the port's events; Unregister ends that.
func (p *Port) Register(e *wait.Entry) { p.queue.Add(e) }

// Unregister takes back Register.
func (p *Port) Unregister(e *wait.Entry) { p.queue.Remove(e) }
