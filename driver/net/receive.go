package net

import (
	"gosv/driver/virtio"
	"gosv/kernel/netdev"
	"gosv/machine"
)

// Buffers to receive into are one frame each. Their number doubles while the device runs out of them, which
// it does when it has fewer than the largest packet needs.
const (
	firstBuffers = 8
	largePacket  = (headerSize+maxFrame)/bufferSize + 1
)

// least is how many buffers the largest packet needs.
func (d *Device) least() int {
	if d.tso {
		return largePacket
	}
	return 1
}

// receiver is the receiving side.
type receiver struct {
	q       *virtio.Queue
	frames  [ringSize]machine.Frame // buffer of each chain that the device has
	buffers int                     // how many there are
}

// grow gives the device up to n more buffers and returns how many.
func (r *receiver) grow(m Machine, n int) int {
	for i := range n {
		if r.buffers == r.q.Size() {
			return i
		}
		f, err := m.Alloc()
		if err != nil {
			return i
		}
		r.buffers++
		r.post(f)
	}
	return n
}

// post gives a buffer to the device.
func (r *receiver) post(f machine.Frame) {
	b := [1]virtio.Buffer{{Addr: uint64(f) * machine.PageSize, Len: bufferSize}}
	if id, ok := r.q.Add(nil, b[:]); ok {
		r.frames[id] = f
	}
}

// packet is what the device has received: a header and a frame in buffers.
type packet struct {
	offload netdev.Offload
	frames  []machine.Frame
	parts   [][]byte
	bytes   int
}

// take returns the next packet in p, whose slices are used again; false when there is none. d.rxMu is held.
//
// +checklocks:d.rxMu
func (d *Device) take(p *packet) bool {
	p.frames, p.parts, p.bytes = p.frames[:0], p.parts[:0], 0
	r := &d.rx
	id, n, ok := r.q.Take()
	if !ok {
		return false
	}
	first := r.frames[id]
	p.frames = append(p.frames, first)
	b := d.m.Bytes(first, 1)
	if n < headerSize {
		return true // no parts: it is dropped
	}
	var count int
	p.offload, count = parseHeader(b)
	if d.dev.Features&featureMergeable == 0 {
		count = 1
	}
	p.add(b[headerSize:n])
	// All buffers of a packet come at once (§5.1.6.4).
	for i := 1; i < count; i++ {
		id, n, ok = r.q.Take()
		if !ok || p.bytes+int(n) > maxFrame {
			d.stats.rxErrors.Add(1)
			p.parts = p.parts[:0]
			if ok {
				p.frames = append(p.frames, r.frames[id])
			}
			return true
		}
		p.frames = append(p.frames, r.frames[id])
		p.add(d.m.Bytes(r.frames[id], 1)[:n])
	}
	return true
}

func (p *packet) add(b []byte) {
	if len(b) > 0 {
		p.parts = append(p.parts, b)
		p.bytes += len(b)
	}
}

// batch is how many packets are taken before their buffers are shown to the device again.
const batch = 32

// receive hands what comes in to r, until the device breaks the rules.
func (d *Device) receive(r netdev.Receiver) {
	defer close(d.done)
	var p packet
	for !d.closing.Load() {
		d.rxMu.Lock()
		dry := d.rx.q.InFlight()-d.rx.q.Pending() < d.least()
		n := 0
		for ; n < batch && !d.closing.Load() && d.take(&p); n++ {
			d.rxMu.Unlock()
			d.deliver(&p, r)
			d.rxMu.Lock()
			for _, f := range p.frames {
				d.rx.post(f)
			}
		}
		if dry && n > 0 {
			d.rx.grow(d.m, d.rx.buffers)
		}
		d.rx.q.Kick()
		idle := n == 0 && !d.rx.q.Arm(1)
		if n > 0 {
			d.rx.q.Disarm()
		}
		broken := d.rx.q.Broken()
		d.rxMu.Unlock()
		if broken {
			d.stats.rxErrors.Add(1)
			return
		}
		if idle {
			d.wake.Park()
		}
	}
}

func (d *Device) deliver(p *packet, r netdev.Receiver) {
	if p.bytes < ethernetHdr {
		d.stats.rxErrors.Add(1)
		return
	}
	d.stats.rxPackets.Add(1)
	d.stats.rxBytes.Add(uint64(p.bytes))
	r(p.parts, p.offload)
}
