package virtiofs

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/machine"
	"gosv/machine/fake"
)

// newDevice starts a driver whose device has answer for each request.
func newDevice(t testing.TB, features uint64, answer func(d *virtiotest.Device, q *virtiotest.Queue)) (*fake.Machine, *Device, *virtiotest.Device) {
	t.Helper()
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	space := make([]byte, tagSize)
	copy(space, "home")
	h := &virtiotest.Device{Machine: m, GSI: 5, Type: virtio.TypeFS, Features: virtiotest.FeatureVersion1 | features, MaxQueue: 512, Queues: 2,
		Space: binary.LittleEndian.AppendUint32(space, 1)}
	h.Notified = func(q *virtiotest.Queue) { answer(h, q) }
	h.Init(t.Cleanup)
	tr, err := virtio.NewMMIO(h, m, 0, 5)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(tr, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return m, d, h
}

// echo answers with what it was given, but for the first 4 bytes.
func echo(_ *virtiotest.Device, q *virtiotest.Queue) {
	for e := q.Pop(); e != nil; e = q.Pop() {
		n := 0
		if q.Index == queueFirst {
			n = e.Fill(append([]byte("okay"), e.Bytes()...))
		}
		q.Push(e, n)
	}
	q.Notify()
}

func frames(t testing.TB, m *fake.Machine, n int) (list []machine.Frame) {
	t.Helper()
	for range n {
		f, err := m.Alloc()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

func TestCalls(t *testing.T) {
	for _, features := range []uint64{0, virtiotest.FeatureRing} {
		m, d, _ := newDevice(t, features, echo)
		if d.Tag() != "home" || d.MaxPages() != mostPages {
			t.Errorf("%q, %d pages", d.Tag(), d.MaxPages())
		}
		var wg sync.WaitGroup
		for g := range 50 {
			wg.Go(func() {
				for i := range 20 {
					out := bytes.Repeat([]byte{byte(g), byte(i)}, 1+g*20)
					in := make([]byte, 100)
					n, err := d.Call(out, in, nil, 0, 0, false)
					if want := append([]byte("okay"), out...); err != nil || n != min(len(want), 100) || !bytes.Equal(in[:n], want[:n]) {
						t.Errorf("%d, %v, %q", n, err, in)
						return
					}
				}
			})
		}
		wg.Wait()
		data := frames(t, m, 3)
		for i, f := range data {
			for j := range m.Bytes(f, 1) {
				m.Bytes(f, 1)[j] = byte('a' + i)
			}
		}
		in := make([]byte, 8)
		n, err := d.Call([]byte("head"), in, data, 4000, 4096+100, true)
		if err != nil || n != 8 || string(in) != "okayhead" {
			t.Errorf("%d, %v, %q", n, err, in)
		}
		// What does not fit into the reply goes to the frames.
		n, err = d.Call(bytes.Repeat([]byte("x"), 2000), in[:4], data, 4094, 1000, false)
		if err != nil || n != 1004 || m.Bytes(data[0], 1)[4093] != 'a' || m.Bytes(data[0], 1)[4095] != 'x' || m.Bytes(data[1], 1)[997] != 'x' ||
			m.Bytes(data[1], 1)[998] != 'b' {
			t.Errorf("%d, %v", n, err)
		}
		for range 1000 {
			d.Forget([]byte("bye"))
		}
		for _, bad := range []struct{ out, frames, off, n int }{{0, 0, 0, 0}, {outSize + 1, 0, 0, 0}, {1, 1, 0, 5000}, {1, mostPages + 1, 0, 1}} {
			if _, err := d.Call(make([]byte, bad.out), nil, make([]machine.Frame, bad.frames), bad.off, bad.n, false); err != unix.EINVAL {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	}
}

// TestSilence has a device that does nothing, one that breaks the rules, and one that is closed.
func TestSilence(t *testing.T) {
	for name, answer := range map[string]func(d *virtiotest.Device, q *virtiotest.Queue){
		"silent": func(*virtiotest.Device, *virtiotest.Queue) {},
		"lying":  func(_ *virtiotest.Device, q *virtiotest.Queue) { q.PushRaw(77, 5); q.Notify() },
		"racing": func(_ *virtiotest.Device, q *virtiotest.Queue) { q.SetUsed(500); q.Notify() },
	} {
		_, d, _ := newDevice(t, virtiotest.FeatureRing, answer)
		d.Silence = 200 * time.Millisecond
		var wg sync.WaitGroup
		for range slots + 10 {
			wg.Go(func() {
				if _, err := d.Call([]byte("x"), make([]byte, 10), nil, 0, 0, false); err != unix.ENOTCONN {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		if _, err := d.Call([]byte("x"), nil, nil, 0, 0, false); err != unix.ENOTCONN {
			t.Errorf("%s: %v", name, err)
		}
		d.Forget([]byte("x"))
	}
}

func TestBadSpace(t *testing.T) {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	for _, space := range []string{"", string(make([]byte, tagSize)) + "\x01\x00\x00\x00", "tag" + string(make([]byte, tagSize-3)) + "\x00\x00\x00\x00"} {
		h := &virtiotest.Device{Machine: m, GSI: 5, Type: virtio.TypeFS, Features: virtiotest.FeatureVersion1, MaxQueue: 64, Queues: 2, Space: []byte(space)}
		h.Init(t.Cleanup)
		tr, err := virtio.NewMMIO(h, m, 0, 5)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(tr, m); err == nil {
			t.Errorf("%q was taken", space)
		}
	}
}
