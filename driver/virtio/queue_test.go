package virtio_test

import (
	"bytes"
	"errors"
	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/machine"
	"gosv/machine/fake"
	"math/rand/v2"
	"testing"
)

// device makes a device with one queue and its driver.
func device(t testing.TB, features, want uint64) (*virtiotest.Device, *virtio.Device) {
	t.Helper()
	m := fake.New(fake.Config{Frames: 256})
	t.Cleanup(m.Close)
	h := &virtiotest.Device{Machine: m, GSI: 5, Type: 4, Features: virtiotest.FeatureVersion1 | features, MaxQueue: 64, Queues: 2,
		Notified: func(*virtiotest.Queue) {}}
	h.Init(t.Cleanup)
	tr, err := virtio.NewMMIO(h, m, 0xfeb00000, 5)
	if err != nil {
		t.Fatal(err)
	}
	d, err := virtio.New(tr, m, want)
	if err != nil {
		t.Fatal(err)
	}
	return h, d
}

// memory returns a buffer for DMA.
func memory(t testing.TB, m *fake.Machine) (uint64, []byte) {
	t.Helper()
	f, err := m.Alloc()
	if err != nil {
		t.Fatal(err)
	}
	return uint64(f) * machine.PageSize, m.Bytes(f, 1)
}

var ringKinds = []struct {
	name     string
	features uint64
	segments int
}{{"event", virtiotest.FeatureRing, 0}, {"indirect", virtiotest.FeatureRing, 8}, {"plain", 0, 8}}

// TestChains sends chains of all shapes through a queue and has the device give
// them back out of order.
func TestChains(t *testing.T) {
	for _, k := range ringKinds {
		t.Run(k.name, func(t *testing.T) {
			h, d := device(t, k.features, virtio.FeatureIndirect)
			q, err := d.Queue(0, 16, k.segments)
			if err != nil {
				t.Fatal(err)
			}
			d.Start()
			pa, mem := memory(t, h.Machine)
			random := rand.New(rand.NewPCG(1, 2))
			type sent struct {
				out []byte
				in  int
			}
			known := map[uint16]sent{}
			var held []*virtiotest.Element
			for range 20000 {
				var out, in []virtio.Buffer
				var s sent
				for range random.IntN(4) {
					at, n := random.IntN(2000), random.IntN(50)+1
					out = append(out, virtio.Buffer{Addr: pa + uint64(at), Len: uint32(n)})
					s.out = append(s.out, mem[at:at+n]...)
				}
				for range random.IntN(4) {
					n := random.IntN(50) + 1
					in = append(in, virtio.Buffer{Addr: pa + 2048, Len: uint32(n)})
					s.in += n
				}
				before := q.Free()
				if id, ok := q.Add(out, in); ok {
					if _, twice := known[id]; twice {
						t.Fatal("id in use")
					}
					known[id] = s
				} else if n := len(out) + len(in); n > 0 && n <= before {
					t.Fatalf("no room for %d buffers in %d", n, before)
				}
				q.Kick()
				h.Lock()
				for e := h.Queue(0).Pop(); e != nil; e = h.Queue(0).Pop() {
					s, ok := known[uint16(e.ID)]
					n := 0
					for _, b := range e.In {
						n += len(b)
					}
					if !ok || !bytes.Equal(e.Bytes(), s.out) || n != s.in {
						t.Fatal("the device sees another chain")
					}
					held = append(held, e)
				}
				for len(held) > random.IntN(8) {
					i := random.IntN(len(held))
					h.Queue(0).Push(held[i], 7)
					held = append(held[:i], held[i+1:]...)
				}
				h.Unlock()
				for {
					id, n, ok := q.Take()
					if !ok {
						break
					}
					if int(n) != min(7, known[id].in) {
						t.Fatalf("%d bytes of %d", n, known[id].in)
					}
					delete(known, id)
				}
				if q.Broken() || q.InFlight() != len(known) {
					t.Fatal("broken, or lost a chain")
				}
			}
		})
	}
}

// TestEvents checks that notifications and interrupts come when they must, and not more often with event indices.
func TestEvents(t *testing.T) {
	for _, k := range ringKinds {
		t.Run(k.name, func(t *testing.T) {
			h, d := device(t, k.features, 0)
			irqs := make(chan bool, 10)
			if err := d.Interrupt(func() { irqs <- true }); err != nil {
				t.Fatal(err)
			}
			q, err := d.Queue(0, 16, 0)
			if err != nil {
				t.Fatal(err)
			}
			q.Disarm()
			d.Start()
			pa, _ := memory(t, h.Machine)
			add := func() {
				if _, ok := q.Add([]virtio.Buffer{{Addr: pa, Len: 1}}, nil); !ok {
					t.Fatal("no room")
				}
				q.Kick()
			}
			give := func(n int) {
				h.Lock()
				for range n {
					h.Queue(0).Push(h.Queue(0).Pop(), 0)
				}
				h.Queue(0).Notify()
				h.Unlock()
			}
			interrupts := func() int {
				h.Lock()
				defer h.Unlock()
				return h.Interrupts
			}
			for range 70000 { // past the end of the index
				add()
				give(1)
				q.Take()
			}
			before := interrupts()
			for range before {
				<-irqs
			}
			add()
			add()
			add()
			if q.Arm(2) {
				t.Error("armed though nothing is there")
			}
			give(2)
			<-irqs
			q.Disarm()
			give(1)
			if n := interrupts(); before > 1 || n != before+1 { // an event index left behind is met again after 65536 chains
				t.Errorf("%d interrupts, and %d of them too early", n, before)
			}
			if !q.Arm(1) || !q.Arm(3) || q.Arm(4) {
				t.Error("Arm does not see what is pending")
			}
			h.Lock()
			defer h.Unlock()
			if k.features != 0 && h.Notifications < 70000 {
				t.Errorf("%d notifications", h.Notifications)
			}
		})
	}
}

func TestLyingDevice(t *testing.T) {
	tests := []struct {
		name string
		lie  func(q *virtiotest.Queue)
		want bool // broken
	}{
		{"id too large", func(q *virtiotest.Queue) { q.PushRaw(16, 0) }, true},
		{"id far too large", func(q *virtiotest.Queue) { q.PushRaw(0x10000, 0) }, true},
		{"id not in flight", func(q *virtiotest.Queue) { q.PushRaw(5, 0) }, true},
		{"twice", func(q *virtiotest.Queue) { q.PushRaw(0, 0); q.PushRaw(0, 0) }, true},
		{"index ahead", func(q *virtiotest.Queue) { q.SetUsed(3) }, true},
		{"index behind", func(q *virtiotest.Queue) { q.SetUsed(0xffff) }, true},
		{"length", func(q *virtiotest.Queue) { q.PushRaw(0, 1<<31) }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, d := device(t, virtiotest.FeatureRing, 0)
			q, err := d.Queue(0, 16, 0)
			if err != nil {
				t.Fatal(err)
			}
			d.Start()
			pa, _ := memory(t, h.Machine)
			for range 2 {
				q.Add(nil, []virtio.Buffer{{Addr: pa, Len: 100}})
			}
			q.Kick()
			h.Lock()
			test.lie(h.Queue(0))
			h.Unlock()
			for range 20 {
				if _, n, ok := q.Take(); ok && n > 100 {
					t.Errorf("%d bytes in a buffer of 100", n)
				}
			}
			if q.Broken() != test.want {
				t.Errorf("broken: %v", q.Broken())
			}
			if _, ok := q.Add(nil, []virtio.Buffer{{Addr: pa, Len: 1}}); ok && test.want {
				t.Error("Add works on a broken queue")
			}
		})
	}
}

// stubborn is a device that does not do what it is told.
type stubborn struct {
	virtiotest.Device
	status uint32
}

func (s *stubborn) Load32(off uint64) uint32 {
	if off == 0x70 {
		return s.status
	}
	return s.Device.Load32(off)
}

func TestNegotiation(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	for _, test := range []struct {
		name     string
		status   uint32
		features uint64
	}{
		{"no reset", 1, virtiotest.FeatureVersion1},
		{"refuses", 0, virtiotest.FeatureVersion1},
		{"legacy", 0, virtiotest.FeatureRing},
	} {
		h := &stubborn{Device: virtiotest.Device{Machine: m, Type: 4, Features: test.features}, status: test.status}
		h.Init(t.Cleanup)
		tr, err := virtio.NewMMIO(h, m, 0, 5)
		if err != nil {
			t.Fatal(err)
		}
		var de *virtio.DeviceError
		if _, err := virtio.New(tr, m, 0); !errors.As(err, &de) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestMMIOIdentity(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	empty := &virtiotest.Device{Machine: m}
	empty.Init(t.Cleanup)
	if _, err := virtio.NewMMIO(empty, m, 0, 5); err != virtio.ErrNoDevice {
		t.Errorf("empty slot: %v", err)
	}
	old := &virtiotest.Device{Machine: m, Type: 3, Version: 1}
	old.Init(t.Cleanup)
	if _, err := virtio.NewMMIO(old, m, 0xfeb00000, 5); err == nil || err == virtio.ErrNoDevice {
		t.Errorf("legacy device: %v", err)
	}
	for _, bad := range []struct{ pa, size uint64 }{{0xfeb00000, 0x80}, {1 << 60, 512}, {2, 512}, {0xfeb00000, 512}} {
		if _, err := virtio.OpenMMIO(m, m, bad.pa, bad.size, 5); err == nil {
			t.Errorf("found a device of %d bytes at %#x", bad.size, bad.pa)
		}
	}
}

func TestQueueErrors(t *testing.T) {
	h, d := device(t, 0, 0)
	if _, err := d.Queue(7, 16, 0); err == nil {
		t.Error("a queue that is not there")
	}
	if q, err := d.Queue(0, 1024, 0); err != nil || q.Size() != 64 {
		t.Errorf("%v", err)
	}
	h.MaxQueue = 0
	if _, err := d.Queue(1, 16, 0); err == nil {
		t.Error("a queue of size 0")
	}
	h.Machine.FailAfter(0)
	h.MaxQueue = 64
	if _, err := d.Queue(1, 64, 200); err != nil {
		t.Error("indirect tables without the feature need memory")
	}
	n := h.Machine.InUse()
	if err := d.Close(); err != nil || n == 0 || h.Machine.InUse() != 0 {
		t.Errorf("Close: %v, %d frames of %d left", err, h.Machine.InUse(), n)
	}
}

// FuzzVirtqueue has the device write anything anywhere in the rings while a driver uses them.
func FuzzVirtqueue(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5})
	f.Add(bytes.Repeat([]byte{0x10, 0x80, 3, 0xff, 0xff}, 20))
	m := fake.New(fake.Config{Frames: 64})
	f.Cleanup(m.Close)
	f.Fuzz(func(t *testing.T, b []byte) {
		h := &virtiotest.Device{Machine: m, Type: 4, Features: virtiotest.FeatureVersion1 | virtiotest.FeatureRing,
			MaxQueue: 16, Queues: 1, Notified: func(*virtiotest.Queue) {}}
		var end func()
		h.Init(func(f func()) { end = f })
		defer func() { end() }()
		tr, _ := virtio.NewMMIO(h, m, 0, 5)
		d, err := virtio.New(tr, m, virtio.FeatureIndirect)
		if err != nil {
			t.Fatal(err)
		}
		q, err := d.Queue(0, 8, 3)
		if err != nil {
			t.Fatal(err)
		}
		d.Start()
		ring := m.Bytes(1, 1) // the only frame in use
		held := 0
		for len(b) >= 3 {
			op, at, v := b[0], int(b[1])|int(b[0]&0x70)<<4, b[2]
			b = b[3:]
			switch op & 3 {
			case 0:
				if _, ok := q.Add([]virtio.Buffer{{Addr: 1, Len: 1}}, make([]virtio.Buffer, v%4)); ok {
					held++
				}
				q.Kick()
			case 1:
				ring[at] = v
			case 2:
				h.Lock()
				h.Queue(0).PushRaw(uint32(v)%16, uint32(at)<<8)
				h.Unlock()
			case 3:
				if id, _, ok := q.Take(); ok {
					held--
					if int(id) >= q.Size() {
						t.Fatal("impossible id")
					}
				}
				q.Arm(int(v%8) + 1)
			}
			if held != q.InFlight() || q.Free() > q.Size() || q.InFlight()+q.Free() > q.Size() {
				t.Fatal("the queue lost count")
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
