package net

import (
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/kernel/netdev"
	"gosv/machine"
)

// maxSpare bounds the frames that are kept for sending when nothing is on its way.
const maxSpare = ringSize

// A large block holds nearly every large packet in one descriptor, each of which the device maps apart. There are at most maxLarge, so that a
// device that sends nothing holds no more than 2 MiB in them; when they are out, packets take frames.
const (
	largePages = 16
	maxLarge   = 32
)

// block is contiguous memory of one descriptor.
type block struct {
	frame machine.Frame
	pages int
}

// transmitter is the sending side: each packet is copied to blocks, one descriptor each.
type transmitter struct {
	q     *virtio.Queue
	chain [ringSize][]block // blocks of each chain that the device has
	spare []machine.Frame
	large []machine.Frame // spare blocks of largePages
	count int             // large blocks that there are
}

// reap takes back what the device has sent.
func (t *transmitter) reap(m Machine) {
	for {
		id, _, ok := t.q.Take()
		if !ok {
			return
		}
		t.giveBack(m, t.chain[id])
		t.chain[id] = t.chain[id][:0]
	}
}

// giveBack keeps blocks for later packets.
func (t *transmitter) giveBack(m Machine, blocks []block) {
	for _, b := range blocks {
		switch {
		case b.pages == largePages:
			t.large = append(t.large, b.frame)
		case len(t.spare) < maxSpare:
			t.spare = append(t.spare, b.frame)
		default:
			m.Free(b.frame, 1)
		}
	}
}

// block returns memory for what is left of a packet, size bytes; false when memory is short.
func (t *transmitter) block(m Machine, size int) (block, bool) {
	if size > 2*machine.PageSize {
		if n := len(t.large); n > 0 {
			f := t.large[n-1]
			t.large = t.large[:n-1]
			return block{f, largePages}, true
		}
		if t.count < maxLarge {
			if f, err := m.AllocRaw(largePages); err == nil {
				t.count++
				return block{f, largePages}, true
			}
		}
	}
	f := t.frame(m)
	return block{f, 1}, f != machine.NoFrame
}

// frame returns a frame to send from; NoFrame when memory is short.
func (t *transmitter) frame(m Machine) machine.Frame {
	if n := len(t.spare); n > 0 {
		f := t.spare[n-1]
		t.spare = t.spare[:n-1]
		return f
	}
	f, err := m.Alloc()
	if err != nil {
		return machine.NoFrame
	}
	return f
}

// Send implements netdev.Device.
func (d *Device) Send(parts [][]byte, o netdev.Offload) error {
	size := headerSize
	for _, p := range parts {
		size += len(p)
	}
	if size-headerSize > maxFrame || size == headerSize {
		return unix.EMSGSIZE
	}
	count := (size + machine.PageSize - 1) / machine.PageSize
	q := d.pairs[0]
	if n := d.sending(); n > 1 {
		q = d.pairs[flow(parts)%uint32(n)]
	}
	q.txMu.Lock()
	defer q.txMu.Unlock()
	if err := q.awaitRoom(count); err != nil {
		if err == unix.EIO {
			d.stats.txErrors.Add(1)
		} else {
			d.stats.txDropped.Add(1)
		}
		return err
	}
	if err := q.submit(parts, &o, size); err != nil {
		d.stats.txDropped.Add(1)
		return err
	}
	d.stats.txPackets.Add(1)
	d.stats.txBytes.Add(uint64(size - headerSize))
	return nil
}

// submit copies a packet into blocks and makes them available. There is room, for frames alone.
//
// +checklocks:q.txMu
func (q *pair) submit(parts [][]byte, o *netdev.Offload, size int) error {
	t, d := &q.tx, q.d
	var blocks [maxFrame/machine.PageSize + 2]block
	var buffers [maxFrame/machine.PageSize + 2]virtio.Buffer
	n := 0
	for left := size; left > 0; n++ {
		var ok bool
		if blocks[n], ok = t.block(d.m, left); !ok {
			t.giveBack(d.m, blocks[:n])
			return unix.ENOBUFS
		}
		used := min(left, blocks[n].pages*machine.PageSize)
		buffers[n] = virtio.Buffer{Addr: uint64(blocks[n].frame) * machine.PageSize, Len: uint32(used)}
		left -= used
	}
	b := d.m.Bytes(blocks[0].frame, blocks[0].pages)
	header(b, o)
	at, next := headerSize, 1
	for _, p := range parts {
		for len(p) > 0 {
			if at == len(b) {
				b, at = d.m.Bytes(blocks[next].frame, blocks[next].pages), 0
				next++
			}
			n := copy(b[at:], p)
			at, p = at+n, p[n:]
		}
	}
	id, ok := t.q.Add(buffers[:n], nil)
	if !ok {
		t.giveBack(d.m, blocks[:n])
		return unix.EIO
	}
	t.chain[id] = append(t.chain[id], blocks[:n]...)
	return nil
}

// awaitRoom waits until count descriptors are free, for at most sendTime.
//
// +checklocks:q.txMu
func (q *pair) awaitRoom(count int) error {
	t, d := &q.tx, q.d
	if t.q.Free() < ringSize/2 {
		t.reap(d.m)
	}
	if t.q.Free() >= count && !t.q.Broken() {
		return nil
	}
	if count > t.q.Size() {
		return unix.EMSGSIZE
	}
	deadline := d.m.Monotonic() + int64(sendTime)
	q.waiting.Add(1)
	defer q.endWait()
	for {
		t.q.Kick()
		t.reap(d.m)
		switch {
		case t.q.Broken():
			return unix.EIO
		case t.q.Free() >= count:
			return nil
		case d.m.Monotonic() >= deadline:
			return unix.ENOBUFS
		}
		if t.q.Arm(max(t.q.InFlight()/2, 1)) {
			continue
		}
		q.txMu.Unlock()
		select {
		case <-q.room:
		case <-time.After(sendTime / 10):
		}
		q.txMu.Lock()
	}
}

// endWait ends what awaitRoom began.
//
// +checklocks:q.txMu
func (q *pair) endWait() {
	q.waiting.Add(-1)
	q.tx.q.Disarm()
}

// Flush implements netdev.Device.
func (d *Device) Flush() {
	for _, q := range d.pairs {
		q.txMu.Lock()
		q.tx.q.Kick()
		q.txMu.Unlock()
	}
}

// drainStep is how often Drain looks.
const drainStep = time.Millisecond

// Drain implements netdev.Device.
func (d *Device) Drain(most time.Duration) {
	end := d.m.Monotonic() + int64(most)
	for _, q := range d.pairs {
		for q.unsent() && d.m.Monotonic() < end {
			time.Sleep(drainStep)
		}
	}
}

// unsent tells the device of what it may not have seen, and reports whether it still has packets to send.
func (q *pair) unsent() bool {
	q.txMu.Lock()
	defer q.txMu.Unlock()
	q.tx.q.Kick()
	q.tx.reap(q.d.m)
	return q.tx.q.InFlight() > 0 && !q.tx.q.Broken()
}
