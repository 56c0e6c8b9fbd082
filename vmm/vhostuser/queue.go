package vhostuser

import (
	"os"
	"sync"
)

const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
	descSize     = 16

	noInterrupt = 1 // in the avail ring's flags

	// maxChain bounds the buffers of a request.
	maxChain = 1024
)

// queue is one split virtqueue (virtio 1.2 §2.7). What follows up to running is set while the queue is stopped.
type queue struct {
	b     *Backend
	index int

	size                    uint16
	descAt, availAt, usedAt uint64 // in the monitor's memory
	next                    uint16 // index in the avail ring to look at

	kick    *os.File       // while it runs
	stopped chan struct{}  // closed when it has ended
	busy    sync.WaitGroup // requests under way

	mu   sync.Mutex // guards the used ring and call
	used uint16     // index to fill
	call *os.File
}

func (q *queue) setCall(f *os.File) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.call != nil {
		q.call.Close()
	}
	q.call = f
}

// stop stops the queue, and waits for the requests that are under way.
func (q *queue) stop() {
	if q.kick == nil {
		return
	}
	q.kick.Close()
	<-q.stopped
	q.busy.Wait()
	q.kick = nil
}

// start serves the queue; kick tells when to look.
func (q *queue) start(kick *os.File) error {
	q.stop()
	if kick == nil {
		return errNoFile
	}
	if q.size == 0 {
		kick.Close()
		return errBadQueue
	}
	// A file of our own, that waits by the poller, so that closing it wakes the reader.
	f, err := pollable(kick)
	if err != nil {
		return err
	}
	q.b.mem.hold()
	r := q.rings()
	if r.desc != nil {
		q.used = load16(r.used[2:])
	}
	q.b.mem.letGo()
	if r.desc == nil {
		f.Close()
		return errBadQueue
	}
	q.kick, q.stopped = f, make(chan struct{})
	go q.run(f, q.stopped)
	return nil
}

type rings struct{ desc, avail, used []byte }

// rings returns the rings where the monitor said that they are, no desc when that is nowhere. The memory is held.
func (q *queue) rings() (r rings) {
	n := uint64(q.size)
	desc, avail, used := q.b.mem.user(q.descAt, descSize*n), q.b.mem.user(q.availAt, 6+2*n), q.b.mem.user(q.usedAt, 6+8*n)
	if desc == nil || avail == nil || used == nil {
		return rings{}
	}
	return rings{desc, avail, used}
}

// run takes requests until kick is closed or the guest breaks the rules.
func (q *queue) run(kick *os.File, stopped chan struct{}) {
	defer close(stopped)
	var count [8]byte
	for {
		for q.serveOne() {
		}
		if _, err := kick.Read(count[:]); err != nil {
			return
		}
	}
}

// chain is a request of the guest.
type chain struct {
	id                 uint16
	readable, writable [][]byte
}

// serveOne takes a request, if there is one, and has it served; false when there is none.
func (q *queue) serveOne() bool {
	q.b.workers <- struct{}{}
	q.b.mem.hold()
	c, ok := q.pop()
	if !ok {
		q.b.mem.letGo()
		<-q.b.workers
		return false
	}
	q.busy.Go(func() {
		n := q.b.handle(q.index, c.readable, c.writable)
		q.push(c.id, n)
		q.b.mem.letGo()
		<-q.b.workers
	})
	return true
}

// pop takes the next chain. The memory is held. A chain that is against the rules stays, and so the queue stands still.
func (q *queue) pop() (c chain, ok bool) {
	r := q.rings()
	if r.desc == nil || load16(r.avail[2:]) == q.next {
		return c, false
	}
	c.id = load16(r.avail[4+2*(q.next&(q.size-1)):])
	if c.id >= q.size || !q.collect(&c, r.desc, c.id, q.size, true) {
		return c, false
	}
	q.next++
	return c, true
}

// collect adds the buffers of a chain that begins at descriptor i of a table of n; false when it breaks the rules.
func (q *queue) collect(c *chain, table []byte, i, n uint16, direct bool) bool {
	for range n {
		if i >= n {
			return false
		}
		d := table[descSize*uint64(i):]
		addr, length, flags, next := load64(d), load32(d[8:]), load16(d[12:]), load16(d[14:])
		if flags&descIndirect != 0 {
			inner := q.b.mem.guest(addr, uint64(length))
			return direct && flags&descNext == 0 && inner != nil && length%descSize == 0 && length/descSize <= maxChain && length > 0 &&
				q.collect(c, inner, 0, uint16(length/descSize), false)
		}
		if !q.add(c, addr, length, flags&descWrite != 0) {
			return false
		}
		if flags&descNext == 0 {
			return true
		}
		i = next
	}
	return false // a loop
}

func (q *queue) add(c *chain, addr uint64, length uint32, write bool) bool {
	if length == 0 {
		return true
	}
	b := q.b.mem.guest(addr, uint64(length))
	if b == nil || len(c.readable)+len(c.writable) >= maxChain || !write && len(c.writable) > 0 {
		return false
	}
	if write {
		c.writable = append(c.writable, b)
	} else {
		c.readable = append(c.readable, b)
	}
	return true
}

// push gives a chain back, n bytes of which were written. The memory is held.
func (q *queue) push(id uint16, n uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.rings()
	if r.desc == nil {
		return
	}
	at := r.used[4+8*uint64(q.used&(q.size-1)):]
	store32(at, uint32(id))
	store32(at[4:], n)
	q.used++
	store16(r.used[2:], q.used)
	fence()
	if q.call != nil && load16(r.avail)&noInterrupt == 0 {
		one := [8]byte{1}
		_, _ = q.call.Write(one[:]) // a counter that is full has been heard of
	}
}
