package pmem

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/kernel/block"
	"gosv/machine"
	"gosv/machine/fake"
)

const pages = 64

// host is the device's side: what was in memory at the last flush.
type host struct {
	*virtiotest.Device
	durable []byte // guarded by the device's lock
}

// transport makes a device whose memory is at start and has size bytes; answer answers each request.
func transport(t *testing.T, m *fake.Machine, start, size uint64, answer func(h *host, q *virtiotest.Queue, e *virtiotest.Element)) (*host, virtio.Transport) {
	t.Helper()
	space := make([]byte, 16)
	binary.LittleEndian.PutUint64(space, start)
	binary.LittleEndian.PutUint64(space[8:], size)
	h := &host{}
	h.Device = &virtiotest.Device{Machine: m, GSI: 6, Type: 27, Features: virtiotest.FeatureVersion1 | virtiotest.FeatureRing, Space: space,
		MaxQueue: 8, Queues: 1, Async: true, Notified: func(q *virtiotest.Queue) {
			for e := q.Pop(); e != nil; e = q.Pop() {
				answer(h, q, e)
			}
			q.Notify()
		}}
	h.Init(t.Cleanup)
	tr, err := virtio.NewMMIO(h.Device, m, 0xfeb00000, 6)
	if err != nil {
		t.Fatal(err)
	}
	return h, tr
}

// flush is what an honest device does.
func flush(h *host, q *virtiotest.Queue, e *virtiotest.Element) {
	if b := e.Bytes(); len(b) != 4 || binary.LittleEndian.Uint32(b) != 0 || len(e.In) != 1 || len(e.In[0]) != 4 {
		panic("pmem: bad request")
	}
	h.durable = bytes.Clone(memory(h.Machine))
	q.Push(e, e.Fill(make([]byte, 4)))
}

// saved is what a loss of the machine leaves.
func (h *host) saved() []byte {
	h.Lock()
	defer h.Unlock()
	return h.durable
}

// memory is all of the memory that devices bring.
func memory(m *fake.Machine) []byte {
	return m.Bytes(machine.Frame(m.DeviceAddress()/machine.PageSize), pages)
}

func machineOf(t *testing.T) *fake.Machine {
	m := fake.New(fake.Config{Frames: 64, DeviceFrames: pages, RealClock: true})
	t.Cleanup(m.Close)
	return m
}

func TestDisk(t *testing.T) {
	m := machineOf(t)
	h, tr := transport(t, m, m.DeviceAddress(), pages*machine.PageSize, flush)
	d, err := New(tr, m)
	if err != nil {
		t.Fatal(err)
	}
	if d.First() != machine.Frame(m.DeviceAddress()/machine.PageSize) {
		t.Errorf("first frame %d", d.First())
	}
	disk := block.NewDisk("pmem0", d, m, m.Monotonic)
	text := make([]byte, pages*machine.PageSize)
	for i := range text {
		text[i] = byte(rand.Uint32())
	}
	if err := disk.WriteAt(text, 0, false); err != nil || !bytes.Equal(memory(m), text) {
		t.Fatal("write:", err)
	}
	got := make([]byte, 5*512)
	if err := disk.ReadAt(got, 7*512); err != nil || !bytes.Equal(got, text[7*512:][:len(got)]) {
		t.Error("read:", err)
	}
	if err := disk.Zero(3*512, 20*512); err != nil {
		t.Error(err)
	}
	clear(text[3*512:][:20*512])
	if err := disk.Flush(); err != nil || !bytes.Equal(h.saved(), text) {
		t.Error("flush:", err)
	}
	text[512*9] ^= 1
	if err := disk.WriteAt(text[512*9:512*10], 512*9, true); err != nil || !bytes.Equal(h.saved(), text) {
		t.Error("durable write:", err)
	}
	if err := disk.Discard(0, 512); err != unix.EOPNOTSUPP {
		t.Error("discard:", err)
	}
	if err := disk.ReadAt(got, int64(len(text))-512); err != unix.EIO {
		t.Error("beyond the end:", err)
	}
}

// TestManyFlush has many goroutines write and flush at once: after a flush, what its goroutine wrote is durable.
func TestManyFlush(t *testing.T) {
	m := machineOf(t)
	h, tr := transport(t, m, m.DeviceAddress(), pages*machine.PageSize, flush)
	d, err := New(tr, m)
	if err != nil {
		t.Fatal(err)
	}
	disk := block.NewDisk("pmem0", d, m, m.Monotonic)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for round := range 20 {
				b := bytes.Repeat([]byte{byte(round + 1)}, 512)
				off := int64(g) * machine.PageSize
				if err := disk.WriteAt(b, off, false); err != nil {
					t.Error(err)
				}
				if err := disk.Flush(); err != nil {
					t.Error(err)
				}
				if !bytes.Equal(h.saved()[off:][:512], b) {
					t.Error("not durable after a flush")
				}
			}
		})
	}
	all.Wait()
}

// TestLies has devices say what cannot be.
func TestLies(t *testing.T) {
	m := machineOf(t)
	start, size := m.DeviceAddress(), uint64(pages*machine.PageSize)
	for name, where := range map[string][2]uint64{
		"nothing": {start, 0}, "half a page": {start, 2048}, "not a page": {start + 512, 4096}, "the machine's memory": {4096, size},
		"part of the machine's memory": {start - 4096, size}, "too long": {start, size + 4096}, "wraps": {^uint64(4095), 8192}, "huge": {start, ^uint64(0)},
	} {
		before := m.InUse()
		_, tr := transport(t, m, where[0], where[1], flush)
		if d, err := New(tr, m); err == nil {
			t.Errorf("%s: %+v", name, d.Limits())
		}
		if m.InUse() != before {
			t.Errorf("%s: frames are lost", name)
		}
	}
	for name, answer := range map[string]func(h *host, q *virtiotest.Queue, e *virtiotest.Element){
		"failure":       func(_ *host, q *virtiotest.Queue, e *virtiotest.Element) { q.Push(e, e.Fill([]byte{1, 0, 0, 0})) },
		"no answer":     func(_ *host, q *virtiotest.Queue, e *virtiotest.Element) { q.Push(e, 0) },
		"another":       func(_ *host, q *virtiotest.Queue, _ *virtiotest.Element) { q.PushRaw(7, 4) },
		"out of range":  func(_ *host, q *virtiotest.Queue, _ *virtiotest.Element) { q.PushRaw(1<<20, 4) },
		"too many":      func(_ *host, q *virtiotest.Queue, _ *virtiotest.Element) { q.SetUsed(77) },
		"twice":         func(_ *host, q *virtiotest.Queue, e *virtiotest.Element) { q.Push(e, 4); q.Push(e, 4) },
		"long answer":   func(_ *host, q *virtiotest.Queue, e *virtiotest.Element) { q.PushRaw(e.ID, 1<<31) },
		"used backward": func(_ *host, q *virtiotest.Queue, _ *virtiotest.Element) { q.SetUsed(0xffff) },
	} {
		_, tr := transport(t, m, start, size, func(h *host, q *virtiotest.Queue, e *virtiotest.Element) {
			answer(h, q, e)
			h.Interrupt() // whether the driver asked for it or not
		})
		d, err := New(tr, m)
		if err != nil {
			t.Fatal(name, err)
		}
		for range 2 {
			if err := d.Do(&block.Request{Op: block.Flush}); err != unix.EIO {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := d.Do(&block.Request{Op: block.Read, Len: 512, Data: []block.Segment{{Bytes: make([]byte, 512)}}}); err != nil {
			t.Errorf("%s: the memory is there nevertheless: %v", name, err)
		}
	}
}
