// Package rng drives virtio entropy devices (virtio 1.2 §5.4).
package rng

import (
	"errors"
	"gosv/driver/virtio"
	"gosv/machine"
	"runtime"
	"sync"
	"time"
)

// ErrNoEntropy says that the device gave nothing in time.
var ErrNoEntropy = errors.New("virtio entropy device gives nothing")

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	Monotonic() int64
}

// A Device is a source of random bytes that come from the host. What it gives is to be mixed
// with other entropy, not used alone: the host need not be honest.
type Device struct {
	m Machine

	mu    sync.Mutex // guards what follows
	queue *virtio.Queue
	frame machine.Frame
	asked bool // the frame is with the device
}

// New starts the device behind t.
func New(t virtio.Transport, m Machine) (*Device, error) {
	dev, err := virtio.New(t, m, 0)
	if err != nil {
		return nil, err
	}
	d := &Device{m: m}
	if d.queue, err = dev.Queue(0, 2, 0); err == nil {
		d.frame, err = m.Alloc()
	}
	if err != nil {
		_ = dev.Close() // what it still holds stays lost; err says why
		return nil, err
	}
	d.queue.Disarm()
	dev.Start()
	return d, nil
}

// Read fills b with up to a page of random bytes and returns how many came until the
// deadline, a monotonic time in nanoseconds: ErrNoEntropy when none did.
func (d *Device) Read(b []byte, deadline int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	d.ask(min(len(b), machine.PageSize))
	for round := 0; ; round++ {
		late := d.m.Monotonic() >= deadline // asked before the queue: a machine that stood still looks once more
		if _, n, ok := d.queue.Take(); ok {
			d.asked = false
			page := d.m.Bytes(d.frame, 1)[:n]
			n := copy(b, page)
			clear(page)
			if n == 0 {
				return 0, ErrNoEntropy
			}
			return n, nil
		}
		if d.queue.Broken() || late {
			return 0, ErrNoEntropy
		}
		pause(round)
	}
}

// ask gives the frame to the device, unless a Read that gave up did.
func (d *Device) ask(n int) {
	if d.asked {
		return
	}
	b := [1]virtio.Buffer{{Addr: uint64(d.frame) * machine.PageSize, Len: uint32(n)}}
	_, d.asked = d.queue.Add(nil, b[:])
	d.queue.Kick()
}

func pause(round int) {
	if round < 100 {
		runtime.Gosched()
	} else {
		time.Sleep(100 * time.Microsecond)
	}
}
