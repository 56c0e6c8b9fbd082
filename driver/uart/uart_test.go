package uart

import (
	"bytes"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
	"gosv/machine/fake"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// chip plays a 16550 as QEMU has it.
type chip struct {
	m *fake.Machine

	mu      sync.Mutex // guards what follows
	fifo    bool
	noFIFO  bool // it has none
	dlab    bool
	ier     uint8
	in      []byte // received, not read
	pending []byte // on the line
	out     []byte
	busy    int // bytes taken before the line stops; -1 never
	level   bool
	irq     chan struct{}
}

func newChip(t testing.TB, noFIFO bool) *chip {
	m := fake.New(fake.Config{RealClock: true})
	c := &chip{m: m, noFIFO: noFIFO, busy: -1, irq: make(chan struct{}, 1)}
	m.AddPort(COM1, COM1+7, c)
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-done; m.Close() })
	go func() {
		defer close(done)
		for {
			select {
			case <-c.irq:
				m.RaiseGSI(COM1IRQ)
			case <-stop:
				return
			}
		}
	}()
	return c
}

// update moves input in and raises the line. c.mu is held.
func (c *chip) update() {
	room := 1
	if c.fifo {
		room = 16
	}
	if n := min(room-len(c.in), len(c.pending)); n > 0 {
		c.in = append(c.in, c.pending[:n]...)
		c.pending = c.pending[n:]
	}
	was := c.level
	c.level = c.ier&1 != 0 && len(c.in) > 0 || c.ier&2 != 0 && c.busy != 0
	if c.level && !was {
		select {
		case c.irq <- struct{}{}:
		default:
		}
	}
}

func (c *chip) In(port uint16, _ int) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch port - COM1 {
	case regData:
		if len(c.in) == 0 {
			return 0
		}
		v := c.in[0]
		c.in = c.in[1:]
		c.level = c.level && len(c.in) > 0 // the line falls, and rises with new input
		c.update()
		return uint32(v)
	case regIdentify:
		if c.fifo {
			return fifoIsOn | 1
		}
		return 1
	case regLineStatus:
		v := uint32(0)
		if len(c.in) > 0 {
			v |= statusData
		}
		if c.busy != 0 {
			v |= statusEmpty
		}
		return v
	}
	return 0
}

func (c *chip) Out(port uint16, _ int, v uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch port - COM1 {
	case regData:
		if c.dlab {
			return
		}
		c.out = append(c.out, byte(v))
		if c.busy > 0 {
			c.busy--
		}
	case regEnable:
		if c.dlab {
			return
		}
		c.ier = uint8(v)
	case regFIFO:
		if on := v&1 != 0 && !c.noFIFO; on != c.fifo {
			c.fifo, c.in = on, nil
		}
	case regLine:
		c.dlab = v&lineDLAB != 0
	}
	c.update()
}

func (c *chip) send(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, b...)
	c.update()
}

func (c *chip) take(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = n
	c.update()
}

func (c *chip) sent() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.out)
}

func openPort(t testing.TB, c *chip) *Port {
	t.Helper()
	p, err := Open(c.m, COM1, COM1IRQ)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type signal chan struct{}

func (s signal) Ready(*wait.Entry, wait.Mask) {
	select {
	case s <- struct{}{}:
	default:
	}
}

func await(t testing.TB, p *Port, events wait.Mask) {
	t.Helper()
	s := make(signal, 1)
	e := &wait.Entry{Waiter: s, Events: events}
	p.Register(e)
	defer p.Unregister(e)
	for p.Readiness(events)&events == 0 {
		select {
		case <-s:
		case <-time.After(time.Minute):
			t.Fatal("no notification")
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	return b
}

func TestNone(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	if _, err := Open(m, COM1, COM1IRQ); err != ErrNone {
		t.Error(err)
	}
}

func TestReadWrite(t *testing.T) {
	for _, noFIFO := range []bool{false, true} {
		c := newChip(t, noFIFO)
		c.send([]byte("e")) // before the driver starts
		p := openPort(t, c)
		want := append([]byte("e"), noise(20000)...)
		c.send(want[1:])
		var got []byte
		buf := make([]byte, 999)
		for len(got) < len(want) {
			n, err := p.Read(buf)
			got = append(got, buf[:n]...)
			if err == unix.EAGAIN {
				await(t, p, unix.POLLIN)
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatal("read something else")
		}
		if n, err := p.Read(buf); n != 0 || err != unix.EAGAIN {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := p.Read(nil); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := p.Write(want); n != len(want) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if !bytes.Equal(c.sent(), want) {
			t.Fatal("wrote something else")
		}
	}
}

func TestBusy(t *testing.T) {
	c := newChip(t, false)
	p := openPort(t, c)
	c.take(16)
	if n, err := p.Write(noise(40)); n != 16 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := p.Write(noise(40)); n != 0 || err != unix.EAGAIN {
		t.Errorf("%d, %v", n, err)
	}
	if err := p.Flush(c.m.Monotonic() + 1e6); err != unix.ETIMEDOUT {
		t.Error(err)
	}
	if p.Readiness(unix.POLLOUT) != 0 {
		t.Error("writable though busy")
	}
	go c.take(-1)
	await(t, p, unix.POLLOUT)
	if err := p.Flush(c.m.Monotonic() + 60e9); err != nil {
		t.Error(err)
	}
}

// full is program memory that cannot be written.
type full struct{ room int }

func (f *full) Left() int              { return 100 }
func (f *full) PutWord(v uint64) error { return uio.WordTo(f, v) }
func (f *full) Put(b []byte) (int, error) {
	n := min(len(b), f.room)
	f.room -= n
	if n < len(b) {
		return n, unix.EFAULT
	}
	return n, nil
}

func TestFault(t *testing.T) {
	c := newChip(t, false)
	p := openPort(t, c)
	c.send([]byte("abcdef"))
	await(t, p, unix.POLLIN)
	if n, err := p.ReadTo(&full{}); n != 0 || err != unix.EFAULT {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := p.ReadTo(&full{2}); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	b := make([]byte, 10)
	if n, err := p.Read(b); string(b[:n]) != "cdef" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
}
