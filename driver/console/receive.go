package console

import (
	"gosv/driver/virtio"
	"gosv/kernel/uio"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// Input buffers are one frame each, as QEMU hands over at most 4 KiB at a time.
// They grow in number while the device runs out of them.
const (
	firstBuffers = 4
	maxBuffers   = ringSize
)

// receiver is the input side of a port. Port.mu guards it.
type receiver struct {
	frames  [ringSize]machine.Frame // input buffer of each chain that the device has
	buffers int                     // how many there are
	current machine.Frame           // the buffer being read, or NoFrame
	at, end int                     // its bytes not read yet
}

// postFirst gives the device its first input buffers.
func (p *Port) postFirst() error {
	if p.buffers == 0 && p.grow(firstBuffers) == 0 {
		return unix.ENOMEM
	}
	p.rx.Kick()
	return nil
}

// grow adds up to n input buffers and returns how many.
func (p *Port) grow(n int) int {
	for i := range n {
		if p.buffers == min(maxBuffers, p.rx.Size()) {
			return i
		}
		f, err := p.c.m.Alloc()
		if err != nil {
			return i
		}
		p.buffers++
		p.post(f)
	}
	return n
}

// post gives an input buffer to the device.
func (p *Port) post(f machine.Frame) {
	b := virtio.Buffer{Addr: uint64(f) * machine.PageSize, Len: machine.PageSize}
	if id, ok := p.rx.Add(nil, []virtio.Buffer{b}); ok {
		p.frames[id] = f
	}
}

// chunk returns bytes to read, nil when there are none now. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) chunk() []byte {
	for p.current == machine.NoFrame {
		dry := p.rx.Pending() == p.rx.InFlight()
		id, n, ok := p.rx.Take()
		if !ok {
			return nil
		}
		if n == 0 {
			p.post(p.frames[id])
			continue
		}
		p.current, p.at, p.end = p.frames[id], 0, int(n)
		if dry {
			p.grow(p.buffers)
		}
	}
	return p.c.m.Bytes(p.current, 1)[p.at:p.end]
}

// consume marks n bytes of the chunk as read and gives an empty buffer back to the device.
func (p *Port) consume(n int) {
	p.at += n
	if p.at == p.end {
		p.post(p.current)
		p.current = machine.NoFrame
	}
}

// readable reports whether ReadTo will not say EAGAIN; if it will, a notification is on the way. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) readable() bool {
	if p.hasInput() || p.host.Load() >= hostClosed {
		return true
	}
	p.arm(0)
	return p.rx.Arm(1) || p.rx.Broken() || p.host.Load() >= hostClosed
}

func (p *Port) hasInput() bool {
	return p.current != machine.NoFrame || p.rx.Pending() > 0 || p.rx.Broken()
}

// ReadTo moves what has come from the host to dst. 0 without an error is the end of file: the host has
// closed the port. EAGAIN when there is nothing yet, EIO when the device is broken, EFAULT.
func (p *Port) ReadTo(dst uio.Sink) (int64, error) {
	p.reader.Lock()
	defer p.reader.Unlock()
	var total int64
	for dst.Left() > 0 {
		ended := p.host.Load() >= hostClosed // asked before the queue: what came first is read first
		p.mu.Lock()
		b := p.chunk()
		if b == nil {
			p.rx.Kick()
			again := total == 0 && p.readable()
			broken := p.rx.Broken()
			p.mu.Unlock()
			switch {
			case total > 0:
				return total, nil
			case broken:
				return 0, unix.EIO
			case ended:
				return 0, nil
			case again:
				continue
			}
			return 0, unix.EAGAIN
		}
		p.mu.Unlock()
		n, err := dst.Put(b)
		total += int64(n)
		p.mu.Lock()
		p.consume(n)
		p.mu.Unlock()
		if n < len(b) {
			if total == 0 {
				return 0, err
			}
			break
		}
	}
	p.mu.Lock()
	p.rx.Kick()
	p.mu.Unlock()
	return total, nil
}
