package balloon

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/machine"
	"gosv/machine/fake"
)

// A host is the device's side. Its fields are guarded by the device's lock.
type host struct {
	*virtiotest.Device
	frames   *fake.Machine
	has      map[uint32]bool // frames that the guest gave
	bad      string
	reported map[machine.Frame]int // blocks: bytes
	silent   bool
	lie      func(q *virtiotest.Queue, e *virtiotest.Element) // in place of an answer
}

// n is how many frames the host is told that it has.
func (h *host) n() uint32 {
	h.Lock()
	defer h.Unlock()
	return binary.LittleEndian.Uint32(h.Space[4:])
}

func newHost(t *testing.T, features uint64, queues int) (*host, *Device) {
	t.Helper()
	m := fake.New(fake.Config{RealClock: true, Frames: 4096})
	t.Cleanup(m.Close)
	h := &host{frames: m, has: map[uint32]bool{}, reported: map[machine.Frame]int{}}
	h.Device = &virtiotest.Device{Machine: m, GSI: 6, Type: virtio.TypeBalloon, Features: virtiotest.FeatureVersion1 | virtiotest.FeatureRing | features,
		MaxQueue: 32, Queues: queues, Async: true, Space: make([]byte, 16), Notified: h.notified}
	h.Init(t.Cleanup)
	tr, err := virtio.NewMMIO(h, m, 0xfeb00000, 6)
	if err != nil {
		t.Fatal(err)
	}
	d, err := start(tr, m, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.end(t, d) })
	return h, d
}

// end has the driver give the device up, so that nothing of it uses the memory of a machine that is gone.
func (h *host) end(t *testing.T, d *Device) {
	h.Lock()
	h.lie = func(q *virtiotest.Queue, _ *virtiotest.Element) { q.PushRaw(1<<16, 0) }
	binary.LittleEndian.PutUint32(h.Space, binary.LittleEndian.Uint32(h.Space[4:])^1)
	h.ConfigChanged()
	h.Unlock()
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		t.Error("the driver goes on")
	}
}

func (h *host) notified(q *virtiotest.Queue) {
	for e := q.Pop(); e != nil && !h.silent; e = q.Pop() {
		if h.lie != nil {
			h.lie(q, e)
			h.Interrupt() // whether the driver asked for it or not
			return
		}
		switch q.Index {
		case 0, 1:
			b := bytes.Join(e.Out, nil)
			for ; len(b) >= 4; b = b[4:] {
				pfn := binary.LittleEndian.Uint32(b)
				if h.has[pfn] != (q.Index == 1) {
					h.bad = "a frame is given twice, or taken that was not given"
				}
				if q.Index == 0 {
					h.has[pfn] = true
				} else {
					delete(h.has, pfn)
				}
			}
		default:
			for _, b := range e.In {
				clear(b) // what a host does
			}
			h.reported[machine.Frame(len(h.reported)+1)] = len(e.In)
		}
		q.Push(e, 0)
	}
	q.Notify()
}

// ask sets the balloon's size and waits until n frames are given.
func (h *host) ask(t *testing.T, size, n uint32) {
	t.Helper()
	h.Lock()
	binary.LittleEndian.PutUint32(h.Space, size)
	h.ConfigChanged()
	h.Unlock()
	h.until(t, func() bool { return uint32(len(h.has)) == n && binary.LittleEndian.Uint32(h.Space[4:]) == n })
}

func (h *host) until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		h.Lock()
		done, bad, has, actual := ok(), h.bad, len(h.has), binary.LittleEndian.Uint32(h.Space[4:])
		h.Unlock()
		if bad != "" {
			t.Fatal(bad)
		}
		if done {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the host has %d frames, and is told of %d", has, actual)
		}
	}
}

// The guest gives what the host asks for, all that there is when it asks for more, and gets it back.
func TestInflate(t *testing.T) {
	h, _ := newHost(t, 0, 2)
	before := h.frames.InUse()
	h.ask(t, 100, 100)
	if got := h.frames.InUse(); got != before+100 {
		t.Errorf("%d frames are in use, %d were", got, before)
	}
	h.ask(t, 2500, 2500)
	h.ask(t, 1, 1)
	h.ask(t, 0, 0)
	if got := h.frames.InUse(); got != before {
		t.Errorf("%d frames are in use, %d were", got, before)
	}
	_, free := h.frames.Usage()
	all := uint32(free)
	h.ask(t, all+1000, all)
	h.ask(t, 0, 0)
	f, err := h.frames.AllocRun(512)
	if err != nil {
		t.Fatal(err)
	}
	h.frames.Free(f, 512)
}

// What is freed in quantity is reported, on the queue whose number depends on what the device offers, and can be had again.
func TestReport(t *testing.T) {
	for _, test := range []struct {
		features uint64
		queues   int
	}{{featureReporting, 3}, {featureReporting | featureStats, 4}, {featureReporting | featureStats | featureHint, 5}} {
		h, _ := newHost(t, test.features, test.queues)
		before := h.frames.InUse()
		for range reportAfter/512 + 1 {
			f, err := h.frames.AllocRun(512)
			if err != nil {
				t.Fatal(err)
			}
			h.frames.Free(f, 512)
		}
		h.until(t, func() bool { return len(h.reported) > 0 })
		h.until(t, func() bool { return h.frames.InUse() == before })
	}
}

// A device that breaks the rules, or says nothing, costs nobody but itself.
func TestBadDevice(t *testing.T) {
	h, d := newHost(t, featureReporting, 3)
	h.Lock()
	h.silent = true
	binary.LittleEndian.PutUint32(h.Space, 10)
	h.ConfigChanged()
	h.Unlock()
	h.until(t, func() bool { return h.Queue(0).Avail() == 0 && h.Notifications > 0 })
	h.Lock()
	h.Queue(0).PushRaw(1, 9)
	h.Queue(0).Notify()
	h.Unlock()
	h.until(t, func() bool { return d.inflate.InFlight() == 1 })

	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	small := &virtiotest.Device{Machine: m, GSI: 6, Type: virtio.TypeBalloon, Features: virtiotest.FeatureVersion1, MaxQueue: 8, Queues: 1, Space: make([]byte, 8)}
	small.Init(t.Cleanup)
	tr, err := virtio.NewMMIO(small, m, 0xfeb00000, 6)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(tr, m); err == nil {
		t.Error("a balloon without a second queue started")
	}
}

// TestLies has the device say what cannot be of what it was given: nothing of it is used again, and the driver stops.
func TestLies(t *testing.T) {
	for name, lie := range map[string]func(q *virtiotest.Queue, e *virtiotest.Element){
		"another chain":    func(q *virtiotest.Queue, e *virtiotest.Element) { q.PushRaw(e.ID^1, 0) },
		"beyond the queue": func(q *virtiotest.Queue, _ *virtiotest.Element) { q.PushRaw(1<<16, 0) },
		"index ahead":      func(q *virtiotest.Queue, _ *virtiotest.Element) { q.SetUsed(50) },
		"index behind":     func(q *virtiotest.Queue, _ *virtiotest.Element) { q.SetUsed(0xffff) },
	} {
		t.Run(name, func(t *testing.T) {
			h, d := newHost(t, featureReporting, 3)
			before := h.frames.InUse()
			h.Lock()
			h.lie = lie
			binary.LittleEndian.PutUint32(h.Space, 10)
			h.ConfigChanged()
			h.Unlock()
			select {
			case <-d.ended:
			case <-time.After(10 * time.Second):
				t.Fatal("the driver goes on")
			}
			h.Lock()
			binary.LittleEndian.PutUint32(h.Space, 1<<32-1)
			h.ConfigChanged()
			h.Unlock()
			if got := h.frames.InUse(); got != before+10 {
				t.Errorf("%d frames are in use, %d were", got, before)
			}
			if h.n() != 0 {
				t.Errorf("the host is told of %d frames", h.n())
			}
		})
	}
}

// TestGreed: a host that asks for more than there is, and changes its mind all the time, gets what there is, and all of it is back in the end.
func TestGreed(t *testing.T) {
	h, _ := newHost(t, 0, 2)
	before := h.frames.InUse()
	for i := range uint32(200) {
		h.Lock()
		binary.LittleEndian.PutUint32(h.Space, 1<<32-1-i*7<<(i%32))
		h.ConfigChanged()
		h.Unlock()
	}
	h.ask(t, 0, 0) // true from the beginning, if the driver has not come to it
	h.until(t, func() bool { return h.frames.InUse() == before })
}
