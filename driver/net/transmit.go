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

// transmitter is the sending side: each packet is copied to frames, one descriptor each.
type transmitter struct {
	q     *virtio.Queue
	chain [ringSize][]machine.Frame // frames of each chain that the device has
	spare []machine.Frame
}

// reap takes back what the device has sent.
func (t *transmitter) reap(m Machine) {
	for {
		id, _, ok := t.q.Take()
		if !ok {
			return
		}
		for _, f := range t.chain[id] {
			if len(t.spare) < maxSpare {
				t.spare = append(t.spare, f)
			} else {
				m.Free(f, 1)
			}
		}
		t.chain[id] = t.chain[id][:0]
	}
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
	d.txMu.Lock()
	defer d.txMu.Unlock()
	if err := d.awaitRoom(count); err != nil {
		if err == unix.EIO {
			d.stats.txErrors.Add(1)
		} else {
			d.stats.txDropped.Add(1)
		}
		return err
	}
	if err := d.submit(parts, &o, size, count); err != nil {
		d.stats.txDropped.Add(1)
		return err
	}
	d.stats.txPackets.Add(1)
	d.stats.txBytes.Add(uint64(size - headerSize))
	return nil
}

// submit copies a packet into frames and makes them available. There is room.
//
// +checklocks:d.txMu
func (d *Device) submit(parts [][]byte, o *netdev.Offload, size, count int) error {
	t := &d.tx
	var frames [maxFrame/machine.PageSize + 2]machine.Frame
	var buffers [maxFrame/machine.PageSize + 2]virtio.Buffer
	for i := range count {
		if frames[i] = t.frame(d.m); frames[i] == machine.NoFrame {
			t.spare = append(t.spare, frames[:i]...)
			return unix.ENOBUFS
		}
	}
	b := d.m.Bytes(frames[0], 1)
	header(b, o)
	at, page := headerSize, 0
	for _, p := range parts {
		for len(p) > 0 {
			if at == machine.PageSize {
				page, at = page+1, 0
				b = d.m.Bytes(frames[page], 1)
			}
			n := copy(b[at:], p)
			at, p = at+n, p[n:]
		}
	}
	for i := range count {
		buffers[i] = virtio.Buffer{Addr: uint64(frames[i]) * machine.PageSize, Len: uint32(min(size-i*machine.PageSize, machine.PageSize))}
	}
	id, ok := t.q.Add(buffers[:count], nil)
	if !ok {
		t.spare = append(t.spare, frames[:count]...)
		return unix.EIO
	}
	t.chain[id] = append(t.chain[id], frames[:count]...)
	return nil
}

// awaitRoom waits until count descriptors are free, for at most sendTime.
//
// +checklocks:d.txMu
func (d *Device) awaitRoom(count int) error {
	t := &d.tx
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
	d.waiting.Add(1)
	defer func() {
		d.waiting.Add(-1)
		t.q.Disarm()
	}()
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
		d.txMu.Unlock()
		select {
		case <-d.room:
		case <-time.After(sendTime / 10):
		}
		d.txMu.Lock()
	}
}

// Flush implements netdev.Device.
func (d *Device) Flush() {
	d.txMu.Lock()
	d.tx.q.Kick()
	d.txMu.Unlock()
}
