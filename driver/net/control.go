package net

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/machine"
)

// Commands of the control queue (§5.1.6.5).
const (
	classRX         = 0
	cmdPromiscuous  = 0
	cmdAllMulticast = 1
	classMAC        = 1
	cmdSetMAC       = 1
	classMQ         = 4
	cmdPairs        = 0

	ackOK = 0

	ctrlSize   = 16
	ackAt      = 256 // where in its frame the device's answer is
	commandMax = ackAt - 2

	// controlTime bounds how long a command takes. QEMU's devices answer within the notification.
	controlTime = time.Second
)

// control is the control queue.
type control struct {
	m    machine.Frames
	wake chan struct{} // holds an element when the device may have answered

	patience time.Duration // as controlTime

	mu    sync.Mutex
	q     *virtio.Queue // +checklocks:mu
	frame machine.Frame // +checklocks:mu
	// ready: frame is there.
	ready bool // +checklocks:mu
	// dead: the device did not answer, and may still.
	dead bool // +checklocks:mu
}

func (c *control) ring() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// command has the device do something, for which it is given a byte, a number or an address: EOPNOTSUPP when it refuses, EIO when it does not answer or breaks the
// rules, ENOMEM.
func (c *control) command(class, cmd byte, data any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.q.Broken() {
		return unix.EIO
	}
	if !c.ready {
		f, err := c.m.Alloc()
		if err != nil {
			return unix.ENOMEM
		}
		c.frame, c.ready = f, true
	}
	b := c.m.Bytes(c.frame, 1)
	n := 2
	b[0], b[1] = class, cmd
	switch v := data.(type) {
	case byte:
		b[2] = v
		n++
	case uint16:
		binary.LittleEndian.PutUint16(b[2:], v)
		n += 2
	case [6]byte:
		n += copy(b[2:commandMax], v[:])
	}
	b[ackAt] = 0xff
	at := uint64(c.frame) * machine.PageSize
	if _, ok := c.q.Add([]virtio.Buffer{{Addr: at, Len: uint32(n)}}, []virtio.Buffer{{Addr: at + ackAt, Len: 1}}); !ok {
		return unix.EIO
	}
	c.q.Kick()
	if !c.answered() {
		c.dead = true
		return unix.EIO
	}
	if machine.MemoryOf(b).Load8(ackAt) != ackOK {
		return unix.EOPNOTSUPP
	}
	return nil
}

// answered waits for the device.
//
// +checklocks:c.mu
func (c *control) answered() bool {
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	for late := false; ; {
		if c.q.Pending() > 0 || c.q.Arm(1) {
			_, _, ok := c.q.Take()
			c.q.Disarm()
			return ok
		}
		if late || c.q.Broken() {
			return false
		}
		select {
		case <-c.wake:
		case <-timer.C:
			late = true // a machine that stood still finds the answer nevertheless
		}
	}
}

// Promiscuous implements netdev.Filter.
func (d *Device) Promiscuous(on bool) error {
	if d.dev.Features&featureCtrlRX == 0 {
		return unix.EOPNOTSUPP
	}
	v := byte(0)
	if on {
		v = 1
	}
	return d.control.command(classRX, cmdPromiscuous, v)
}

// SetMAC implements netdev.Filter.
func (d *Device) SetMAC(mac [6]byte) error {
	if d.dev.Features&featureCtrlMAC == 0 {
		return unix.EOPNOTSUPP
	}
	return d.control.command(classMAC, cmdSetMAC, mac)
}
