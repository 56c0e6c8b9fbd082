package blk

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/kernel/block"
	"gosv/machine/fake"
)

// disk plays the device.
type disk struct {
	*virtiotest.Device
	bytes   []byte
	flushes int
	largest int // segments of a request
	status  byte
	raw     func(q *virtiotest.Queue, e *virtiotest.Element) bool // true: it dealt with the request
}

func (d *disk) notified(q *virtiotest.Queue) {
	for e := q.Pop(); e != nil; e = q.Pop() {
		if d.raw != nil && d.raw(q, e) {
			continue
		}
		q.Push(e, d.serve(e))
	}
	q.Notify()
}

func (d *disk) serve(e *virtiotest.Element) int {
	le := binary.LittleEndian
	h := e.Out[0]
	typ, at := le.Uint32(h), int(le.Uint64(h[8:]))*512
	status := &e.In[len(e.In)-1][0]
	*status = d.status
	d.largest = max(d.largest, len(e.Out)+len(e.In)-2)
	n := 1
	switch typ {
	case typeIn:
		for _, b := range e.In[:len(e.In)-1] {
			at += copy(b, d.bytes[at:])
			n += len(b)
		}
	case typeOut:
		for _, b := range e.Out[1:] {
			at += copy(d.bytes[at:], b)
		}
	case typeFlush:
		d.flushes++
	case typeGetID:
		n += copy(e.In[0], "serial-number\x00\x00\x00\x00\x00\x00\x00")
	case typeDiscard, typeZeroes:
		r := e.Out[1]
		at, n := int(le.Uint64(r))*512, int(le.Uint32(r[8:]))*512
		clear(d.bytes[at : at+n])
	default:
		*status = statusUnsupported
	}
	return n
}

func start(t *testing.T, features uint64, queues int) (*disk, *block.Disk, *Device) {
	t.Helper()
	m := fake.New(fake.Config{RealClock: true, CPUs: 2})
	t.Cleanup(m.Close)
	space := make([]byte, 60)
	le := binary.LittleEndian
	d := &disk{bytes: make([]byte, 4<<20)}
	le.PutUint64(space[confCapacity:], uint64(len(d.bytes)/512))
	le.PutUint32(space[confSegMax:], 62)
	le.PutUint32(space[confBlkSize:], 512)
	space[confPhysicalExp] = 3
	space[confWriteback] = 1
	le.PutUint16(space[confQueues:], uint16(queues))
	le.PutUint32(space[confMaxDiscard:], 1000)
	le.PutUint32(space[confDiscardAlign:], 8)
	le.PutUint32(space[confMaxZeroes:], 1000)
	le.PutUint32(space[confZeroesSegs:], 1)
	d.Device = &virtiotest.Device{Machine: m, GSI: 6, Type: 2, Features: virtiotest.FeatureVersion1 | features, Space: space,
		MaxQueue: 64, Queues: queues, Async: true, Notified: d.notified}
	d.Init(t.Cleanup)
	tr, err := virtio.NewMMIO(d, m, 0xfeb00000, 6)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := New(tr, m)
	if err != nil {
		t.Fatal(err)
	}
	var clock atomic.Int64
	return d, block.NewDisk("vda", dev, m, func() int64 { return clock.Add(1) }), dev
}

const all = virtiotest.FeatureRing | wanted&^(featureReadOnly|featureSizeMax)

func TestReadWrite(t *testing.T) {
	for name, features := range map[string]uint64{"all": all, "plain": 0, "direct": all &^ virtio.FeatureIndirect} {
		d, b, dev := start(t, features, 1)
		text := make([]byte, 1<<20)
		r := rand.NewChaCha8([32]byte{1})
		_, _ = r.Read(text)
		if err := b.WriteAt(text, 512, false); err != nil {
			t.Fatal(name, err)
		}
		got := make([]byte, len(text))
		if err := b.ReadAt(got, 512); err != nil || !bytes.Equal(got, text) {
			t.Fatal(name, err)
		}
		d.Lock()
		if !bytes.Equal(d.bytes[512:512+len(text)], text) {
			t.Error(name, "the disk has something else")
		}
		d.Unlock()
		if err := b.Zero(512, 600<<10); err != nil {
			t.Error(name, err)
		}
		if err := b.ReadAt(got[:4096], 600<<10-4096+512); err != nil || !bytes.Equal(got[:4096], make([]byte, 4096)) {
			t.Error(name, "zeros", err)
		}
		err := b.Discard(0, 512)
		if features&featureDiscard != 0 && err != nil || features&featureDiscard == 0 && err != unix.EOPNOTSUPP {
			t.Error(name, "discard", err)
		}
		if err := b.WriteAt(text[:512], 0, true); err != nil {
			t.Error(err)
		}
		if err := b.Flush(); err != nil {
			t.Error(name, err)
		}
		d.Lock()
		if want := features & featureFlush >> 9 * 2; d.flushes != int(want) {
			t.Errorf("%s: %d flushes, want %d", name, d.flushes, want)
		}
		d.Unlock()
		if s := dev.Serial(); s != "serial-number" {
			t.Errorf("%s: %q", name, s)
		}
	}
}

func TestLimits(t *testing.T) {
	_, b, _ := start(t, all|featureReadOnly, 4)
	l := b.Limits()
	if l.Size != 4<<20 || l.BlockSize != 512 || l.PhysicalSize != 4096 || l.MaxSegments != 62 || !l.Cached || !l.ReadOnly ||
		l.MaxDiscard != 1000*512 || l.DiscardAlign != 4096 || l.Queues != 2 {
		t.Errorf("%+v", l)
	}
	if err := b.WriteAt(make([]byte, 512), 0, false); err != unix.EROFS {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	_, b, _ := start(t, all, 2)
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte(g)}, 8192)
			for range 10 {
				if err := b.WriteAt(p, int64(g)*8192, false); err != nil {
					t.Error(err)
				}
				got := make([]byte, 8192)
				if err := b.ReadAt(got, int64(g)*8192); err != nil || !bytes.Equal(got, p) {
					t.Error("differs", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestErrors(t *testing.T) {
	d, b, _ := start(t, all, 1)
	for status, want := range map[byte]error{1: unix.EIO, statusUnsupported: unix.EOPNOTSUPP, 77: unix.EIO} {
		d.Lock()
		d.status = status
		d.Unlock()
		if err := b.ReadAt(make([]byte, 512), 0); err != want {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

// TestBroken checks that a device which breaks the rules fails every request and is left alone.
func TestBroken(t *testing.T) {
	d, b, _ := start(t, all, 1)
	n := 0
	d.raw = func(q *virtiotest.Queue, e *virtiotest.Element) bool {
		n++
		if n == 5 {
			q.PushRaw(1000, 1)
			q.Notify()
		}
		return true // and never answer
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := b.ReadAt(make([]byte, 512), 0); err != unix.EIO {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := b.ReadAt(make([]byte, 512), 0); err != unix.EIO {
		t.Error(err)
	}
}

// TestLies has the device say what cannot be of requests under way: all fail, those that come later too, and nobody waits for ever.
func TestLies(t *testing.T) {
	for name, lie := range map[string]func(q *virtiotest.Queue, e *virtiotest.Element){
		"another chain":    func(q *virtiotest.Queue, e *virtiotest.Element) { q.PushRaw(e.ID^1, 1) },
		"beyond the queue": func(q *virtiotest.Queue, _ *virtiotest.Element) { q.PushRaw(1<<16, 1) },
		"twice":            func(q *virtiotest.Queue, e *virtiotest.Element) { q.Push(e, 1); q.Push(e, 1) },
		"index ahead":      func(q *virtiotest.Queue, _ *virtiotest.Element) { q.SetUsed(50) },
		"index behind":     func(q *virtiotest.Queue, _ *virtiotest.Element) { q.SetUsed(0xffff) },
		"no status":        func(q *virtiotest.Queue, e *virtiotest.Element) { q.PushRaw(e.ID, 1<<31) },
	} {
		t.Run(name, func(t *testing.T) {
			d, b, dev := start(t, all, 1)
			d.Lock()
			d.raw = func(q *virtiotest.Queue, e *virtiotest.Element) bool {
				lie(q, e)
				d.Interrupt() // whether the driver asked for it or not
				return true
			}
			d.Unlock()
			for range 3 {
				if err := b.ReadAt(make([]byte, 4096), 512); err != unix.EIO {
					t.Error(err)
				}
			}
			if s := dev.Serial(); s != "" {
				t.Errorf("%q", s)
			}
		})
	}
}
