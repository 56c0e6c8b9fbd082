package console

import (
	"bytes"
	"encoding/binary"
	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
	"gosv/machine"
	"gosv/machine/fake"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var kinds = []struct {
	name     string
	features uint64
	async    bool
	start    func(testing.TB, *virtiotest.Console) *Console
}{
	{"tcg", virtiotest.FeatureRing, false, start},
	{"kvm", virtiotest.FeatureRing, true, start},
	{"plain", 0, false, start},
	{"plain-kvm", 0, true, start},
	{"pci", virtiotest.FeatureRing, true, startPCI},
	{"pci-line", virtiotest.FeatureRing, true, startLine},
}

// each runs a test with every kind of device. The clock stands still: no device is too slow.
func each(t *testing.T, test func(t *testing.T, h *virtiotest.Console, c *Console), names ...string) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			m := fake.New(fake.Config{})
			t.Cleanup(m.Close)
			h := virtiotest.NewConsole(m, t.Cleanup, k.features, k.async, names...)
			test(t, h, k.start(t, h))
			h.Lock()
			defer h.Unlock()
			if h.Complaints > 0 {
				t.Errorf("the device complained %d times", h.Complaints)
			}
		})
	}
}

func start(t testing.TB, h *virtiotest.Console) *Console {
	t.Helper()
	tr, err := virtio.NewMMIO(h, h.Machine, 0xfeb00000, h.GSI)
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, tr, h)
}

func startPCI(t testing.TB, h *virtiotest.Console) *Console {
	t.Helper()
	regs, connect := h.PCI()
	tr, err := virtio.NewPCI(regs, h.Type, "virtio-pci", connect)
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, tr, h)
}

func startLine(t testing.TB, h *virtiotest.Console) *Console {
	t.Helper()
	regs, connect := h.LinePCI()
	tr, err := virtio.NewLinePCI(regs, h.Type, "virtio-pci", connect)
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, tr, h)
}

func startOn(t testing.TB, tr virtio.Transport, h *virtiotest.Console) *Console {
	t.Helper()
	c, err := New(tr, h.Machine)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t testing.TB, c *Console, name string, dir Direction) *Port {
	t.Helper()
	p := c.Port(name)
	if p == nil {
		t.Fatalf("no port %q", name)
	}
	if err := p.Open(dir); err != nil {
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

// await waits until the port is ready for one of events.
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

func later() int64 { return 1 << 62 }

func readAll(t testing.TB, p *Port) []byte {
	t.Helper()
	var all []byte
	buf := make([]byte, 10000)
	for {
		n, err := p.Read(buf)
		all = append(all, buf[:n]...)
		switch {
		case err == unix.EAGAIN:
			await(t, p, unix.POLLIN)
		case err != nil:
			t.Fatal(err)
		case n == 0:
			return all
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func TestNames(t *testing.T) {
	names := []string{"gosv.stdin", "gosv.stdout", "gosv.stderr", "gosv.log", "gosv.control", "a", "b", "c", "d", "e", "f", "g"}
	each(t, func(t *testing.T, h *virtiotest.Console, c *Console) {
		if n := len(c.Ports()); n != len(names) {
			t.Fatalf("%d ports of %d", n, len(names))
		}
		for _, name := range names {
			if c.Port(name) == nil {
				t.Errorf("no port %s", name)
			}
		}
		if c.Port("x") != nil {
			t.Error("found a port that is not there")
		}
	}, names...)
}

func TestBootCost(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "1", "2", "3", "4", "5")
	start(t, h)
	h.Lock()
	defer h.Unlock()
	if h.Accesses > 190 || h.Notifications > 3 || h.Interrupts > 0 {
		t.Errorf("%d register accesses, %d notifications, %d interrupts", h.Accesses, h.Notifications, h.Interrupts)
	}
	if n := m.InUse(); n > 6 {
		t.Errorf("%d frames in use", n)
	}
}

func TestWrite(t *testing.T) {
	each(t, func(t *testing.T, h *virtiotest.Console, c *Console) {
		p := open(t, c, "out", Output)
		var want []byte
		for _, n := range []int{1, 0, 6, 4096, 4097, 65536, 300000, 1 << 20, 3} {
			b := noise(n)
			want = append(want, b...)
			for len(b) > 0 {
				n, err := p.Write(b)
				b = b[n:]
				if err == unix.EAGAIN {
					await(t, p, unix.POLLOUT)
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := p.Flush(later()); err != nil {
			t.Fatal(err)
		}
		if got := h.Port("out").Sent(); !bytes.Equal(got, want) {
			t.Fatalf("host got %d bytes of %d, or others", len(got), len(want))
		}
	}, "in", "out")
}

func TestWriteCost(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "out")
	p := open(t, start(t, h), "out", Output)
	if n, err := p.Write(noise(1)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	h.Lock()
	before := h.Accesses
	h.Unlock()
	b := noise(256 << 10)
	if n, err := p.Write(b); n != len(b) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(b), err)
	}
	h.Lock()
	defer h.Unlock()
	if n := h.Accesses - before; n > 2 {
		t.Errorf("%d register accesses for 256 KiB", n)
	}
	if h.Interrupts > 0 {
		t.Errorf("%d interrupts", h.Interrupts)
	}
}

func TestBackpressureOut(t *testing.T) {
	each(t, func(t *testing.T, h *virtiotest.Console, c *Console) {
		p, host := open(t, c, "out", Output), h.Port("out")
		host.Take(0)
		var want []byte
		for {
			b := noise(5000)
			n, err := p.Write(b)
			want = append(want, b[:n]...)
			if err == unix.EAGAIN {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if p.Readiness(unix.POLLOUT)&unix.POLLOUT != 0 {
			t.Error("writable though full")
		}
		if err := p.Flush(h.Machine.Monotonic()); err != unix.ETIMEDOUT {
			t.Errorf("Flush: %v", err)
		}
		done := make(chan bool)
		go func() {
			await(t, p, unix.POLLOUT)
			close(done)
		}()
		for range 10 {
			host.Take(777)
		}
		host.Take(-1)
		<-done
		more := noise(1 << 20)
		want = append(want, more...)
		if err := p.WriteAll(more, later()); err != nil {
			t.Fatal(err)
		}
		if err := p.Flush(later()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(host.Sent(), want) {
			t.Fatal("the host got something else")
		}
	}, "out")
}

func TestRead(t *testing.T) {
	each(t, func(t *testing.T, h *virtiotest.Console, c *Console) {
		host := h.Port("in")
		var want []byte
		early := noise(10)
		host.Send(early) // before the guest opens the port
		p := open(t, c, "in", Input)
		want = append(want, early...)
		done := make(chan []byte)
		go func() { done <- readAll(t, p) }()
		for _, n := range []int{1, 4096, 100000, 5, 1 << 20} {
			b := noise(n)
			want = append(want, b...)
			host.Send(b)
			time.Sleep(time.Millisecond)
		}
		host.Close()
		if got := <-done; !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes of %d, or others", len(got), len(want))
		}
		if r := p.Readiness(unix.POLLIN); r != unix.POLLIN|unix.POLLHUP {
			t.Errorf("readiness at end of file: %#x", r)
		}
	}, "x", "in")
}

func TestBackpressureIn(t *testing.T) {
	each(t, func(t *testing.T, h *virtiotest.Console, c *Console) {
		host := h.Port("in")
		p := open(t, c, "in", Input)
		want := noise(1 << 20)
		host.Send(want)
		host.Close()
		before := h.Machine.InUse()
		time.Sleep(5 * time.Millisecond)
		if h.Machine.InUse() != before {
			t.Error("memory grows though nobody reads")
		}
		if got := readAll(t, p); !bytes.Equal(got, want) {
			t.Fatal("got something else")
		}
		if n := h.Machine.InUse() - before; n > maxBuffers {
			t.Errorf("%d frames for input", n)
		}
	}, "in")
}

func TestNotOpenedByHost(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "both")
	host := h.Port("both")
	host.SetOpen(false)
	p := open(t, start(t, h), "both", Input|Output)
	if n, err := p.Write([]byte("early")); n != 0 || err != unix.EAGAIN {
		t.Errorf("Write: %d, %v", n, err)
	}
	if n, err := p.Read(make([]byte, 1)); n != 0 || err != unix.EAGAIN {
		t.Errorf("Read: %d, %v", n, err)
	}
	if r := p.Readiness(unix.POLLIN | unix.POLLOUT); r != 0 {
		t.Errorf("readiness %#x", r)
	}
	go host.SetOpen(true)
	await(t, p, unix.POLLOUT)
	if err := p.WriteAll([]byte("hello"), later()); err != nil {
		t.Fatal(err)
	}
	if got := string(host.Sent()); got != "hello" {
		t.Errorf("host got %q", got)
	}
	host.Take(2)
	if err := p.WriteAll([]byte("lost to the host's close"), later()); err != nil {
		t.Fatal(err)
	}
	host.SetOpen(false)
	await(t, p, unix.POLLHUP)
	if _, err := p.Write([]byte("x")); err != unix.EPIPE {
		t.Errorf("Write after the host closed: %v", err)
	}
	if n, err := p.Read(make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("Read after the host closed: %d, %v", n, err)
	}
	if err := p.Flush(later()); err != unix.EPIPE {
		t.Errorf("Flush after the host closed: %v", err)
	}
	host.Take(-1)
	before := len(host.Sent())
	host.SetOpen(true)
	for p.Readiness(0)&unix.POLLHUP != 0 {
		time.Sleep(time.Millisecond)
	}
	want := noise(1 << 20)
	if err := p.WriteAll(want, later()); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(later()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(host.Sent()[before:], want) {
		t.Error("the host got something else after it came back")
	}
}

func TestPartialSink(t *testing.T) {
	each(t, func(t *testing.T, h *virtiotest.Console, c *Console) {
		p := open(t, c, "in", Input)
		h.Port("in").Send([]byte("abcdef"))
		await(t, p, unix.POLLIN)
		if n, err := p.ReadTo(&faulty{left: 10, room: 0}); n != 0 || err != unix.EFAULT {
			t.Errorf("%d, %v", n, err)
		}
		f := &faulty{left: 10, room: 2}
		if n, err := p.ReadTo(f); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		b := make([]byte, 10)
		if n, err := p.Read(b); string(b[:n]) != "cdef" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
	}, "in")
}

// faulty is program memory that ends early.
type faulty struct{ left, room int }

func (f *faulty) Left() int { return f.left }
func (f *faulty) Put(p []byte) (int, error) {
	n := min(len(p), f.room)
	f.left, f.room = f.left-n, f.room-n
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

func (f *faulty) Take(p []byte) (int, error)      { return f.Put(p) }
func (f *faulty) PutWord(v uint64) error          { return uio.WordTo(f, v) }
func (f *faulty) TakeWord(uint64) (uint64, error) { return uio.WordFrom(f) }

func TestPartialSource(t *testing.T) {
	each(t, func(t *testing.T, h *virtiotest.Console, c *Console) {
		p := open(t, c, "out", Output)
		if n, err := p.WriteFrom(&faulty{left: 10000, room: 0}); n != 0 || err != unix.EFAULT {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := p.WriteFrom(&faulty{left: 10000, room: 5000}); n != 5000 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := p.Flush(later()); err != nil {
			t.Fatal(err)
		}
		if n := len(h.Port("out").Sent()); n != 5000 {
			t.Errorf("the host got %d bytes", n)
		}
	}, "out")
}

func TestNoMemory(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "both")
	c := start(t, h)
	p := c.Port("both")
	m.FailAfter(0)
	if err := p.Open(Input); err != unix.ENOMEM {
		t.Errorf("Open: %v", err)
	}
	if err := p.Open(Output); err != nil {
		t.Errorf("Open: %v", err)
	}
	if _, err := p.Write([]byte("x")); err != unix.ENOMEM {
		t.Errorf("Write: %v", err)
	}
	m.FailAfter(1) // the small ring, not the large one
	b := noise(20000)
	if err := p.WriteAll(b, later()); err != nil {
		t.Errorf("Write: %v", err)
	}
	if !bytes.Equal(h.Port("both").Sent(), b) {
		t.Error("the host got something else")
	}
}

func TestNewNoMemory(t *testing.T) {
	for n := range 8 {
		m := fake.New(fake.Config{})
		t.Cleanup(m.Close)
		h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "a", "b", "c")
		tr, err := virtio.NewMMIO(h, m, 0, 5)
		if err != nil {
			t.Fatal(err)
		}
		m.FailAfter(n)
		if _, err := New(tr, m); err == nil {
			return
		}
		if m.InUse() != 0 {
			t.Errorf("%d frames leaked after %d", m.InUse(), n)
		}
	}
	t.Error("New always fails")
}

func TestEmergency(t *testing.T) {
	each(t, func(t *testing.T, h *virtiotest.Console, c *Console) {
		p, host := open(t, c, "log", Output), h.Port("log")
		if err := p.WriteAll([]byte("before\n"), later()); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock() // somebody died with it
		defer p.mu.Unlock()
		p.writer.Lock()
		defer p.writer.Unlock()
		text := noise(10000)
		p.EmergencyWrite(text)
		if got := host.Sent(); !bytes.Equal(got, append([]byte("before\n"), text...)) {
			t.Errorf("the host got %d bytes", len(got))
		}
		host.Take(0) // nobody listens any more
		given := make(chan struct{})
		go func() {
			p.EmergencyWrite(text)
			close(given)
		}()
		for waits := true; waits; {
			select {
			case <-given:
				waits = false
			default:
				h.Machine.Advance(emergencyTime)
				time.Sleep(time.Millisecond)
			}
		}
	}, "log")
}

// TestStandstill: a machine that stands still for long while the device works finds what that has done.
func TestStandstill(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "log")
	work := h.Notified
	h.Notified = func(q *virtiotest.Queue) {
		m.Advance(10 * discoverTime)
		work(q)
	}
	p, text := open(t, start(t, h), "log", Output), noise(10000)
	p.EmergencyWrite(text)
	if got := h.Port("log").Sent(); !bytes.Equal(got, text) {
		t.Errorf("the host got %d bytes", len(got))
	}
}

func TestHotplug(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, true, "a")
	c := start(t, h)
	p := open(t, c, "a", Input|Output)
	h.Lock()
	h.Control(1, eventPortRemove, 1, nil)
	h.Unlock()
	await(t, p, unix.POLLHUP)
	if _, err := p.Write([]byte("x")); err != unix.EPIPE {
		t.Errorf("Write: %v", err)
	}
	if n, err := p.Read(make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("Read: %d, %v", n, err)
	}
	if err := p.Open(Input); err != unix.ENODEV {
		t.Errorf("Open: %v", err)
	}
}

func TestSinglePort(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false)
	h.Features &^= featureMultiport
	h.Space = nil
	var got []byte
	h.Notified = func(q *virtiotest.Queue) {
		for e := q.Pop(); q.Index == 1 && e != nil; e = q.Pop() {
			got = append(got, e.Bytes()...)
			q.Push(e, 0)
		}
	}
	c := start(t, h)
	p := open(t, c, "", Input|Output)
	if err := p.WriteAll([]byte("hello"), later()); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMute(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "a")
	h.Mute = true
	tr, _ := virtio.NewMMIO(h, m, 0, 5)
	if _, err := New(tr, m); err != errSilent {
		t.Errorf("New: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	for _, n := range []uint32{0, 1, 16, 17, 31, 1 << 31, 1<<32 - 1} {
		m := fake.New(fake.Config{RealClock: true})
		t.Cleanup(m.Close)
		h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "a")
		h.Space = binary.LittleEndian.AppendUint32([]byte{0, 0, 0, 0}, n)
		tr, _ := virtio.NewMMIO(h, m, 0, 5)
		_, err := New(tr, m)
		if (err == nil) != (n == 1) { // it has queues for two ports
			t.Errorf("%d ports: %v", n, err)
		}
	}
}

// TestLies has the device say what cannot be of a port's rings: the port gives EIO from then on, and nobody waits for ever.
func TestLies(t *testing.T) {
	for name, lie := range map[string]func(q *virtiotest.Queue, e *virtiotest.Element){
		"another chain":    func(q *virtiotest.Queue, _ *virtiotest.Element) { q.PushRaw(ringSize-1, 1) },
		"beyond the queue": func(q *virtiotest.Queue, _ *virtiotest.Element) { q.PushRaw(1<<16, 1) },
		"twice":            func(q *virtiotest.Queue, e *virtiotest.Element) { q.Push(e, 1); q.Push(e, 1) },
		"index ahead":      func(q *virtiotest.Queue, _ *virtiotest.Element) { q.SetUsed(50) },
		"index behind":     func(q *virtiotest.Queue, _ *virtiotest.Element) { q.SetUsed(0xffff) },
	} {
		t.Run(name, func(t *testing.T) {
			m := fake.New(fake.Config{RealClock: true})
			t.Cleanup(m.Close)
			h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "a")
			h.Port("a").Take(0)
			p := open(t, start(t, h), "a", Input|Output)
			if err := p.WriteAll([]byte("text"), later()); err != nil {
				t.Fatal(err)
			}
			h.Lock()
			for _, n := range []int{4, 5} {
				q := h.Queue(n)
				lie(q, q.Pop())
			}
			h.Interrupt()
			h.Unlock()
			await(t, p, unix.POLLIN)
			n, err := p.Read(make([]byte, 10))
			if name == "twice" { // the second is for the buffer that was given back after the first
				if n < 1 || n > 2 || err != nil {
					t.Errorf("Read: %d, %v", n, err)
				}
			} else if err != unix.EIO {
				t.Errorf("Read: %d, %v", n, err)
			}
			if err := p.Flush(later()); err != unix.EIO {
				t.Errorf("Flush: %v", err)
			}
			if n, err := p.Write([]byte("more")); err != unix.EIO {
				t.Errorf("Write: %d, %v", n, err)
			}
		})
	}
}

// TestLengths: what the device says that it wrote is never more than it was given room for.
func TestLengths(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	h := virtiotest.NewConsole(m, t.Cleanup, virtiotest.FeatureRing, false, "a")
	p := open(t, start(t, h), "a", Input)
	h.Lock()
	for range firstBuffers {
		q := h.Queue(4)
		q.PushRaw(q.Pop().ID, 1<<32-1)
	}
	h.Interrupt()
	h.Unlock()
	b := make([]byte, 10*machine.PageSize)
	if n, err := p.Read(b); n != firstBuffers*machine.PageSize || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// FuzzControl lets the device send any control messages.
func FuzzControl(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 1, 0, 1, 0})
	f.Add([]byte{1, 0, 0, 0, 7, 0, 1, 0, 'n', 'a', 0})
	f.Add([]byte{1, 0, 0, 0, 6, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fake.New(fake.Config{RealClock: true, Frames: 64})
		defer m.Close()
		var ends []func()
		defer func() {
			for _, end := range ends {
				end()
			}
		}()
		h := virtiotest.NewConsole(m, func(end func()) { ends = append(ends, end) }, virtiotest.FeatureRing, false, "a", "b")
		c := start(t, h)
		h.Lock()
		for len(b) >= 8 {
			n := min(len(b), 8+int(b[3]&63))
			h.Control(binary.LittleEndian.Uint32(b)&0xff0000ff, binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]), b[8:n])
			b = b[n:]
		}
		h.Unlock()
		c.interrupt()
		for _, p := range c.Ports() {
			_ = p.Open(Input | Output)
			_, _ = p.Write([]byte("x"))
			_, _ = p.Read(make([]byte, 10))
			_ = p.Readiness(unix.POLLIN | unix.POLLOUT)
		}
	})
}

// FuzzUsed lets the device put anything into the used rings of a port.
func FuzzUsed(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 5, 0, 0, 0})
	f.Add([]byte{4, 0xff, 0xff, 0xff, 0xff, 0, 1, 1, 1, 1, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fake.New(fake.Config{RealClock: true, Frames: 256})
		defer m.Close()
		var ends []func()
		defer func() {
			for _, end := range ends {
				end()
			}
		}()
		h := virtiotest.NewConsole(m, func(end func()) { ends = append(ends, end) }, virtiotest.FeatureRing, false, "a")
		c := start(t, h)
		p := open(t, c, "a", Input|Output)
		h.Port("a").Take(0)
		dst := uio.Buffer(make([]byte, 1<<20))
		for len(b) >= 4 {
			q := h.Queue(2 + int(b[0]&3)) // a control queue or one of the port's
			id, n := uint32(b[1]), uint32(b[2])<<8
			if b[3]&1 != 0 {
				id |= uint32(b[3]) << 24
			}
			if b[0]&0x80 == 0 {
				_, _ = p.Write(make([]byte, int(b[2])))
			}
			h.Lock()
			if b[0]&0x70 == 0x70 {
				q.SetUsed(uint16(b[1])<<8 | uint16(b[2]))
			} else {
				q.PushRaw(id, n)
			}
			h.Unlock()
			c.interrupt()
			_, _ = p.ReadTo(&dst)
			_ = p.Readiness(unix.POLLIN | unix.POLLOUT)
			b = b[4:]
		}
		_ = p.Flush(0)
	})
}
