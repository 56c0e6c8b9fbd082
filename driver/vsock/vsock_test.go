package vsock

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/machine/fake"
)

// host is the host's side of a device: it sends back what it is sent.
type host struct {
	*virtiotest.Device
	lie uint32 // added to the length that it says it wrote
}

func newHost(m *fake.Machine, cleanup func(func()), features uint64, async bool) *host {
	h := &host{}
	h.Device = &virtiotest.Device{Machine: m, GSI: 6, Type: virtio.TypeVsock, Features: virtiotest.FeatureVersion1 | features, MaxQueue: 128, Queues: 3,
		Async: async, Space: []byte{42, 0, 0, 0, 0, 0, 0, 0}}
	h.Notified = func(q *virtiotest.Queue) {
		if q.Index != txQueue {
			return
		}
		for e := q.Pop(); e != nil; e = q.Pop() {
			b := e.Bytes()
			q.Push(e, 0)
			h.receive(b)
		}
		q.Notify()
		h.Queue(rxQueue).Notify()
	}
	h.Init(cleanup)
	return h
}

// receive gives a packet to the driver, in pieces that fit its buffers, as vhost does.
func (h *host) receive(b []byte) {
	q := h.Queue(rxQueue)
	for rest := b[headerSize:]; ; {
		e := q.Pop()
		if e == nil {
			return
		}
		n := min(len(rest), 4096-headerSize)
		header := bytes.Clone(b[:headerSize])
		binary.LittleEndian.PutUint32(header[lengthAt:], uint32(n))
		k := e.Fill(append(header, rest[:n]...))
		q.PushRaw(e.ID, uint32(k)+h.lie)
		if rest = rest[n:]; len(rest) == 0 {
			return
		}
	}
}

func (h *host) open(t testing.TB) (*Device, chan []byte, chan struct{}) {
	t.Helper()
	tr, err := virtio.NewMMIO(h, h.Machine, 0xfeb00000, h.GSI)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(tr, h.Machine)
	if err != nil {
		t.Fatal(err)
	}
	got, resets := make(chan []byte, 10000), make(chan struct{}, 10)
	err = d.Start(func(header, payload []byte) { got <- append(bytes.Clone(header), payload...) }, func() { resets <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, got, resets
}

func packet(n int) (header, payload []byte) {
	header, payload = make([]byte, headerSize), make([]byte, n)
	binary.LittleEndian.PutUint32(header[lengthAt:], uint32(n))
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	return header, payload
}

func next[T any](t *testing.T, c chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

func TestEcho(t *testing.T) {
	for _, async := range []bool{false, true} {
		for _, features := range []uint64{0, virtiotest.FeatureRing} {
			m := fake.ForTest(t, fake.Config{Frames: 4096, RealClock: true})
			h := newHost(m, t.Cleanup, features, async)
			d, got, _ := h.open(t)
			if d.CID() != 42 {
				t.Fatal(d.CID())
			}
			for _, n := range []int{0, 1, 4000, 4096, 60000, maxPayload} {
				header, payload := packet(n)
				if err := d.Send(header, payload); err != nil {
					t.Fatal(n, err)
				}
				var back []byte
				for first := true; first || len(back) < n; first = false {
					p := next(t, got)
					back = append(back, p[headerSize:]...)
				}
				if !bytes.Equal(back, payload) {
					t.Fatalf("%d bytes came back wrong", n)
				}
			}
			for range 500 { // more than the queue has room for
				header, payload := packet(3000)
				if err := d.Send(header, payload); err != nil {
					t.Fatal(err)
				}
				next(t, got)
			}
			if err := d.Send(make([]byte, headerSize), make([]byte, maxPayload+1)); err != unix.EMSGSIZE {
				t.Fatal(err)
			}
		}
	}
}

// A packet whose header says another length than came is dropped.
func TestLengths(t *testing.T) {
	m := fake.ForTest(t, fake.Config{Frames: 1024, RealClock: true})
	h := newHost(m, t.Cleanup, 0, false)
	d, got, _ := h.open(t)
	h.Lock()
	h.lie = 5
	h.Unlock()
	header, payload := packet(10)
	if err := d.Send(header, payload); err != nil {
		t.Fatal(err)
	}
	h.Lock()
	h.lie = 0
	h.Unlock()
	header, payload = packet(11)
	if err := d.Send(header, payload); err != nil {
		t.Fatal(err)
	}
	if p := next(t, got); len(p) != headerSize+11 {
		t.Fatal(len(p))
	}
}

func TestEvents(t *testing.T) {
	m := fake.ForTest(t, fake.Config{Frames: 1024, RealClock: true})
	h := newHost(m, t.Cleanup, 0, true)
	d, _, resets := h.open(t)
	for i := range 2 * events {
		h.Lock()
		h.Space[0] = byte(50 + i)
		q := h.Queue(eventQueue)
		e := q.Pop()
		for e == nil { // the driver has not given it back yet
			h.Unlock()
			time.Sleep(time.Millisecond)
			h.Lock()
			e = q.Pop()
		}
		q.Push(e, e.Fill(make([]byte, eventSize)))
		q.Notify()
		h.Unlock()
		next(t, resets)
		if d.CID() != uint64(50+i) {
			t.Fatal(i, d.CID())
		}
	}
}

// A device that lies about a chain is not used any more: the connections end, and Send says so.
func TestLiar(t *testing.T) {
	m := fake.ForTest(t, fake.Config{Frames: 1024, RealClock: true})
	h := newHost(m, t.Cleanup, 0, false)
	d, _, resets := h.open(t)
	h.Lock()
	h.Queue(rxQueue).PushRaw(9999, 44)
	h.Queue(txQueue).PushRaw(9999, 44)
	h.Queue(rxQueue).Notify()
	h.Unlock()
	next(t, resets)
	header, payload := packet(1)
	if err := d.Send(header, payload); err != unix.EIO {
		t.Fatal(err)
	}
}
