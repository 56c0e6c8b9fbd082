package rng

import (
	"bytes"
	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/machine/fake"
	"testing"
	"time"
)

func start(t *testing.T, notified func(q *virtiotest.Queue)) (*virtiotest.Device, *Device) {
	t.Helper()
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	h := &virtiotest.Device{Machine: m, GSI: 6, Type: 4, Features: virtiotest.FeatureVersion1 | virtiotest.FeatureRing,
		MaxQueue: 8, Queues: 1, Async: true, Notified: notified}
	return h, open(t, h)
}

func open(t *testing.T, h *virtiotest.Device) *Device {
	t.Helper()
	h.Init(t.Cleanup)
	tr, err := virtio.NewMMIO(h, h.Machine, 0xfeb00000, 6)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(tr, h.Machine)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRead(t *testing.T) {
	text := bytes.Repeat([]byte("entropy!"), 1000)
	h, d := start(t, func(q *virtiotest.Queue) {
		for e := q.Pop(); e != nil; e = q.Pop() {
			q.Push(e, e.Fill(text))
		}
	})
	for _, n := range []int{1, 8, 4096, 5000, 0} {
		b := make([]byte, n)
		got, err := d.Read(b, h.Machine.Monotonic()+60e9)
		if got != min(n, 4096) || err != nil || !bytes.Equal(b[:got], text[:got]) {
			t.Errorf("%d of %d, %v", got, n, err)
		}
	}
}

func TestDeviceGivesNothing(t *testing.T) {
	for name, notified := range map[string]func(q *virtiotest.Queue){
		"silent":           func(*virtiotest.Queue) {},
		"empty":            func(q *virtiotest.Queue) { q.Push(q.Pop(), 0) },
		"another chain":    func(q *virtiotest.Queue) { q.PushRaw(q.Pop().ID^1, 8) },
		"beyond the queue": func(q *virtiotest.Queue) { q.PushRaw(1<<16, 8) },
		"index ahead":      func(q *virtiotest.Queue) { q.SetUsed(50) },
		"index behind":     func(q *virtiotest.Queue) { q.SetUsed(0xffff) },
	} {
		h, d := start(t, notified)
		for range 3 {
			if n, err := d.Read(make([]byte, 8), h.Machine.Monotonic()+5e6); n != 0 || err != ErrNoEntropy {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
	}
}

// TestLengths: a device that says it wrote more than it was asked for gives what it was asked for; one that answers twice is not heard again.
func TestLengths(t *testing.T) {
	h, d := start(t, func(q *virtiotest.Queue) {
		e := q.Pop()
		e.Fill([]byte("entropy!"))
		q.PushRaw(e.ID, 1<<31)
	})
	b := make([]byte, 100)
	if n, err := d.Read(b[:8], h.Machine.Monotonic()+60e9); n != 8 || err != nil || string(b[:8]) != "entropy!" {
		t.Errorf("%d, %q, %v", n, b[:8], err)
	}
	h, d = start(t, func(q *virtiotest.Queue) {
		if e := q.Pop(); e != nil {
			q.Push(e, e.Fill([]byte("entropy!")))
			q.PushRaw(e.ID, 8)
		}
	})
	_, _ = d.Read(b[:8], h.Machine.Monotonic()+60e9) // the first answer may be seen before the second
	if n, err := d.Read(b[:8], h.Machine.Monotonic()+5e6); n > 8 || err != nil && err != ErrNoEntropy {
		t.Errorf("%d, %v", n, err)
	}
}

// TestStandstill: a machine that stands still for long while the device works finds what that has done.
func TestStandstill(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	h := &virtiotest.Device{Machine: m, GSI: 6, Type: 4, Features: virtiotest.FeatureVersion1, MaxQueue: 8, Queues: 1}
	h.Notified = func(q *virtiotest.Queue) {
		m.Advance(1e9)
		e := q.Pop()
		q.Push(e, e.Fill([]byte("entropy!")))
	}
	d := open(t, h)
	b := make([]byte, 8)
	if n, err := d.Read(b, m.Monotonic()+5e6); n != 8 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestLate checks that bytes that come too late go to the next Read.
func TestLate(t *testing.T) {
	var late *virtiotest.Element
	h, d := start(t, func(q *virtiotest.Queue) { late = q.Pop() })
	if _, err := d.Read(make([]byte, 4), h.Machine.Monotonic()+5e6); err != ErrNoEntropy {
		t.Fatal(err)
	}
	h.Lock()
	for late == nil { // the device has not come to it
		h.Unlock()
		time.Sleep(time.Millisecond)
		h.Lock()
	}
	h.Queue(0).Push(late, late.Fill([]byte("late")))
	h.Unlock()
	b := make([]byte, 8)
	if n, err := d.Read(b, h.Machine.Monotonic()+60e9); string(b[:n]) != "late" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
}
