package net

import (
	"gosv/driver/virtio"
	"gosv/kernel/netdev"
	"gosv/machine"
)

// Buffers to receive into are one frame each. Their number doubles while the device runs out of them, which
// it does when it has fewer than the largest packet needs. When large packets come, blocks that hold one each take their place: each buffer
// costs the driver and the device the same. They go when no large packet has come for long.
const (
	firstBuffers = 8
	largePacket  = (headerSize+maxFrame)/bufferSize + 1
	manyBuffers  = 4    // of one packet, which make it a large one
	smallInRow   = 1024 // packets, after which large ones are not expected
)

// least is how many buffers the largest packet needs.
func (d *Device) least() int {
	if d.large {
		return largePacket
	}
	return 1
}

// receiver is the receiving side of a pair of queues.
type receiver struct {
	q       *virtio.Queue
	blocks  [ringSize]block // buffer of each chain that the device has
	buffers int             // how many there are
	blocked int             // how many of them are large
	large   bool            // large packets are expected
	small   int             // packets since the last large one
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
		r.post(block{f, 1})
	}
	return n
}

// post gives a buffer to the device.
func (r *receiver) post(k block) {
	b := [1]virtio.Buffer{{Addr: uint64(k.frame) * machine.PageSize, Len: uint32(k.pages * machine.PageSize)}}
	if id, ok := r.q.Add(nil, b[:]); ok {
		r.blocks[id] = k
	}
}

// note learns of a packet what buffers the next ones need.
func (r *receiver) note(p *packet) {
	if len(p.blocks) >= manyBuffers || p.bytes > manyBuffers*bufferSize {
		r.large, r.small = true, 0
	} else if r.small++; r.small > smallInRow {
		r.large = false
	}
}

// again gives a buffer that is read back to the device, or one of the other kind.
func (r *receiver) again(m Machine, k block, least int) {
	switch {
	case r.large && k.pages == 1 && r.blocked < maxLarge:
		// Zeroed, as all that is received into: the device may say that it wrote what it did not.
		if f, err := m.AllocRun(largePages); err == nil {
			m.Free(k.frame, 1)
			r.blocked++
			k = block{f, largePages}
		}
	case r.large && k.pages == 1 && r.buffers > max(least, r.blocked):
		m.Free(k.frame, 1)
		r.buffers--
		return
	case !r.large && k.pages > 1:
		if f, err := m.Alloc(); err == nil {
			m.Free(k.frame, k.pages)
			r.blocked--
			k = block{f, 1}
		}
	}
	r.post(k)
}

// packet is what the device has received: a header and a frame in buffers.
type packet struct {
	offload netdev.Offload
	blocks  []block
	parts   [][]byte
	bytes   int
}

// take returns the next packet in p, whose slices are used again; false when there is none. q.rxMu is held.
//
// +checklocks:q.rxMu
func (q *pair) take(p *packet) bool {
	p.blocks, p.parts, p.bytes = p.blocks[:0], p.parts[:0], 0
	r, d := &q.rx, q.d
	id, n, ok := r.q.Take()
	if !ok {
		return false
	}
	first := r.blocks[id]
	p.blocks = append(p.blocks, first)
	b := d.m.Bytes(first.frame, first.pages)
	if n < headerSize {
		return true // no parts: it is dropped
	}
	var count int
	p.offload, count = parseHeader(b, d.uso)
	if d.dev.Features&featureMergeable == 0 {
		count = 1
	}
	p.add(b[headerSize:n])
	if p.bytes > maxFrame {
		p.spoil()
		return true
	}
	// All buffers of a packet come at once (§5.1.6.4).
	for i := 1; i < count; i++ {
		id, n, ok = r.q.Take()
		if !ok || p.bytes+int(n) > maxFrame {
			p.spoil()
			if ok {
				p.blocks = append(p.blocks, r.blocks[id])
			}
			return true
		}
		k := r.blocks[id]
		p.blocks = append(p.blocks, k)
		p.add(d.m.Bytes(k.frame, k.pages)[:n])
	}
	return true
}

func (p *packet) add(b []byte) {
	if len(b) > 0 {
		p.parts = append(p.parts, b)
		p.bytes += len(b)
	}
}

// spoil leaves nothing of a packet to hand on.
func (p *packet) spoil() { p.parts, p.bytes = p.parts[:0], 0 }

// batch is how many packets are taken before their buffers are shown to the device again.
const batch = 32

// receive hands what comes in to r, until the device breaks the rules.
func (q *pair) receive(r netdev.Receiver) {
	d := q.d
	defer close(q.done)
	var p packet
	for !d.closing.Load() {
		q.rxMu.Lock()
		dry := q.rx.q.InFlight()-q.rx.q.Pending() < d.least() && q.rx.blocked == 0
		n := 0
		for ; n < batch && !d.closing.Load() && q.take(&p); n++ {
			q.rxMu.Unlock()
			d.deliver(&p, r)
			q.rxMu.Lock()
			q.rx.note(&p)
			for _, k := range p.blocks {
				q.rx.again(d.m, k, d.least())
			}
		}
		if dry && n > 0 {
			q.rx.grow(d.m, q.rx.buffers)
		}
		q.rx.q.Kick()
		idle := n == 0 && !q.rx.q.Arm(1)
		if n > 0 {
			q.rx.q.Disarm()
		}
		broken := q.rx.q.Broken()
		q.rxMu.Unlock()
		if broken {
			d.stats.rxErrors.Add(1)
			return
		}
		if idle {
			q.wake.Park()
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
