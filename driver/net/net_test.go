package net

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/driver/virtio/virtiotest"
	"gosv/kernel/netdev"
	"gosv/machine"
	"gosv/machine/fake"
)

// nic is the host's side of a device: it sends back what it is sent.
type nic struct {
	*virtiotest.Device
	sent  [][]byte // with headers
	echo  bool
	pairs int // that the driver is to use

	patience time.Duration // of the driver with the control queue

	commands [][]byte                       // of the control queue
	answer   func(command []byte) (ack int) // below 0: none
	active   int                            // pairs that the driver has said that it uses
	by       map[int]int                    // packets by the queue that sent them
}

// devPairs is how many pairs a device with control queue has.
const devPairs = 4

const allFeatures = featureCsum | featureGuestCsum | featureMTU | featureMAC | featureHostTSO4 | featureHostTSO6 | featureMergeable |
	featureStatus | featureGuestTSO4 | featureGuestTSO6

const usoFeatures = featureGuestUSO4 | featureGuestUSO6 | featureHostUSO

const controlFeatures = featureCtrlQueue | featureCtrlRX | featureCtrlMAC | featureMQ

// b0 is the first byte, if there is one.
func b0(b []byte) byte {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func newNIC(m *fake.Machine, cleanup func(func()), features uint64, async bool) *nic {
	n := &nic{pairs: 1, patience: time.Minute, active: 1, by: map[int]int{}}
	queues, control := 2, 2
	if features&featureCtrlQueue != 0 {
		queues = 3
		if features&featureMQ != 0 {
			n.pairs, control, queues = devPairs, 2*devPairs, 2*devPairs+1
		}
	}
	n.Device = &virtiotest.Device{Machine: m, GSI: 6, Type: virtio.TypeNet, Features: virtiotest.FeatureVersion1 | features, MaxQueue: 256, Queues: queues,
		Async: async, Space: []byte{0x52, 0x54, 0, 1, 2, 3, 1, 0, devPairs, 0, 0xdc, 0x05, 0, 0}}
	n.Notified = func(q *virtiotest.Queue) {
		switch {
		case q.Index == control && queues > 2:
			n.control(q)
			return
		case q.Index%2 != txQueue:
			return
		}
		for e := q.Pop(); e != nil; e = q.Pop() {
			b := e.Bytes()
			n.sent = append(n.sent, b)
			n.by[q.Index]++
			q.Push(e, 0)
			if n.echo {
				n.receiveBy(q.Index-1, b)
			}
		}
		q.Notify()
		n.Queue(q.Index - 1).Notify()
	}
	n.Init(cleanup)
	return n
}

// control does what the control queue says, or what answer does. The device is locked.
func (n *nic) control(q *virtiotest.Queue) {
	for e := q.Pop(); e != nil; e = q.Pop() {
		b := bytes.Clone(e.Bytes())
		n.commands = append(n.commands, b)
		ack := ackOK
		if n.answer != nil {
			ack = n.answer(b)
		}
		if ack < 0 {
			continue
		}
		if b[0] == classMQ && ack == ackOK {
			n.active = int(binary.LittleEndian.Uint16(b[2:]))
		}
		e.In[0][0] = byte(ack)
		q.Push(e, 1)
	}
	q.Notify()
}

// receive gives a packet with its header to the driver, in as many buffers as it needs. The device is locked.
func (n *nic) receive(b []byte) { n.receiveBy(rxQueue, b) }

func (n *nic) receiveBy(queue int, b []byte) {
	q := n.Queue(queue)
	b = bytes.Clone(b)
	if q.Avail() < 1 || q.Avail()*bufferSize < len(b) { // there may be room in large ones nevertheless
		return
	}
	var taken []*virtiotest.Element
	for room := 0; room < len(b) || room == 0; {
		e := q.Pop()
		taken = append(taken, e)
		room += len(e.In[0])
	}
	if len(b) >= headerSize {
		binary.LittleEndian.PutUint16(b[hdrBuffers:], uint16(len(taken)))
	}
	var used [][2]uint32 // all of a packet come at once (§5.1.6.4)
	for _, e := range taken {
		k := e.Fill(b)
		used = append(used, [2]uint32{e.ID, uint32(k)})
		b = b[k:]
	}
	q.PushAll(used)
}

// awaitRoom waits until the driver has posted buffers for a packet of size bytes: the device drops what finds none, and those
// of the last packet may be on their way back.
func (n *nic) awaitRoom(size int) {
	for {
		n.Lock()
		a := n.Queue(rxQueue).Avail()
		n.Unlock()
		if a > 0 && a*bufferSize >= headerSize+size {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (n *nic) try() (*Device, error) {
	tr, err := virtio.NewMMIO(n, n.Machine, 0xfeb00000, n.GSI)
	if err != nil {
		return nil, err
	}
	return open(tr, n.Machine, n.pairs, n.patience)
}

func (n *nic) open(t testing.TB) *Device {
	t.Helper()
	d, err := n.try()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type frame struct {
	b []byte
	o netdev.Offload
}

func start(t testing.TB, d *Device) <-chan frame {
	t.Helper()
	got := make(chan frame, 1000)
	if err := d.Start(func(parts [][]byte, o netdev.Offload) { got <- frame{bytes.Join(parts, nil), o} }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return got
}

func next(t *testing.T, got <-chan frame) frame {
	t.Helper()
	select {
	case f := <-got:
		return f
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was received")
	}
	return frame{}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func TestEcho(t *testing.T) {
	for _, k := range []struct {
		name     string
		features uint64
		async    bool
		sizes    []int
	}{
		{"tcg", virtiotest.FeatureRing | allFeatures, false, []int{14, 60, 1514, 4084, 4085, 65550}},
		{"kvm", virtiotest.FeatureRing | allFeatures, true, []int{14, 60, 1514, 4084, 4085, 65550}},
		{"plain", featureMAC, false, []int{14, 60, 1514}},
		{"plain-kvm", featureMAC, true, []int{14, 60, 1514}},
	} {
		t.Run(k.name, func(t *testing.T) {
			m := fake.New(fake.Config{RealClock: true})
			t.Cleanup(m.Close)
			n := newNIC(m, t.Cleanup, k.features, k.async)
			n.echo = true
			d := n.open(t)
			if d.MAC() != [6]byte{0x52, 0x54, 0, 1, 2, 3} || d.MTU() != 1500 || !d.Up() {
				t.Errorf("MAC %x, MTU %d", d.MAC(), d.MTU())
			}
			got := start(t, d)
			want := netdev.Offload{}
			if d.Features().TCPv4 {
				want = netdev.Offload{Checksum: true, Start: 34, Offset: 16, Segment: netdev.TCPv4, Size: 1460, Header: 54}
			}
			rounds := 0
			for range 100 {
				for _, size := range k.sizes {
					b := pattern(size)
					n.awaitRoom(size)
					if err := d.Send([][]byte{b[:5], nil, b[5:]}, want); err != nil {
						t.Fatal(err)
					}
					d.Flush()
					f := next(t, got)
					if !bytes.Equal(f.b, b) || f.o != want {
						t.Fatalf("%d bytes: %d came back, %+v", size, len(f.b), f.o)
					}
					rounds++
				}
			}
			if s := d.Stats(); s.TxPackets != uint64(rounds) || s.RxPackets != uint64(rounds) || s.RxBytes != s.TxBytes || s.RxErrors+s.TxErrors != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// lazy returns a device that takes nothing, and what it would do.
func lazy(t *testing.T) (n *nic, d *Device, work func(*virtiotest.Queue)) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	n = newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures, false)
	work = n.Notified
	n.Notified = func(*virtiotest.Queue) {}
	d = n.open(t)
	start(t, d)
	return n, d, work
}

// A device that takes nothing makes Send give up, and one that wakes up later is used again.
func TestFull(t *testing.T) {
	n, d, work := lazy(t)
	b := pattern(1000)
	sent := 0
	for ; sent < 1000; sent++ {
		if err := d.Send([][]byte{b}, netdev.Offload{}); err != nil {
			if err != unix.ENOBUFS {
				t.Fatal(err)
			}
			break
		}
	}
	if sent != ringSize {
		t.Errorf("%d packets fitted, not %d", sent, ringSize)
	}
	n.Lock()
	n.Notified = work
	n.Notified(n.Queue(txQueue))
	n.Unlock()
	if err := d.Send([][]byte{b}, netdev.Offload{}); err != nil {
		t.Error(err)
	}
	if err := d.Send([][]byte{make([]byte, maxFrame+1)}, netdev.Offload{}); err != unix.EMSGSIZE {
		t.Errorf("too large: %v", err)
	}
	if s := d.Stats(); s.TxDropped != 1 {
		t.Errorf("%+v", s)
	}
}

// Drain waits for a device that is slow, and not for one that is dead.
func TestDrain(t *testing.T) {
	n, d, work := lazy(t)
	if err := d.Send([][]byte{pattern(1000)}, netdev.Offload{}); err != nil {
		t.Fatal(err)
	}
	d.Drain(20 * time.Millisecond)
	if n.unsent(work, false) != 1 {
		t.Error("the packet is gone")
	}
	var taken atomic.Bool
	time.AfterFunc(50*time.Millisecond, func() {
		taken.Store(true)
		n.unsent(work, true)
	})
	d.Drain(time.Minute)
	if !taken.Load() || n.unsent(work, false) != 0 {
		t.Error("Drain did not wait")
	}
}

// unsent returns how many packets wait to be sent, and has the device send them.
func (n *nic) unsent(work func(*virtiotest.Queue), now bool) (waiting int) {
	n.Lock()
	defer n.Unlock()
	q := n.Queue(txQueue)
	waiting = q.Avail()
	if now {
		work(q)
	}
	return waiting
}

// Buffers grow in number when packets come in bursts.
func TestBurst(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures, false)
	d := n.open(t)
	got := start(t, d)
	count, q := 0, d.pairs[0]
	buffers := func() int {
		q.rxMu.Lock()
		defer q.rxMu.Unlock()
		return q.rx.buffers
	}
	for bursts := 0; buffers() < ringSize; bursts++ {
		if bursts == 1000 {
			t.Fatalf("%d buffers", buffers())
		}
		n.Lock()
		for n.Queue(rxQueue).Avail() > 0 {
			n.receive(append(make([]byte, headerSize), pattern(64)...))
			count++
		}
		n.Queue(rxQueue).Notify()
		n.Unlock()
		for count > 0 {
			next(t, got)
			count--
		}
		n.awaitRoom(0)
	}
}

// A device that lies loses its packet or its queue, and nothing else.
func TestLies(t *testing.T) {
	good := append(make([]byte, headerSize), pattern(100)...)
	for _, test := range []struct {
		name   string
		lie    func(n *nic)
		broken bool
	}{
		{"more buffers than there are", func(n *nic) {
			q := n.Queue(rxQueue)
			e := q.Pop()
			b := bytes.Clone(good)
			binary.LittleEndian.PutUint16(b[hdrBuffers:], 9)
			q.Push(e, e.Fill(b))
		}, false},
		{"no header", func(n *nic) { q := n.Queue(rxQueue); q.Push(q.Pop(), headerSize-1) }, false},
		{"no buffers, it says, and there is one", func(n *nic) {
			q := n.Queue(rxQueue)
			e := q.Pop()
			q.Push(e, e.Fill(good))
		}, false},
		{"more bytes than the largest packet has", func(n *nic) {
			q := n.Queue(rxQueue)
			b := bytes.Clone(good)
			binary.LittleEndian.PutUint16(b[hdrBuffers:], 18)
			for i := range 18 {
				e := q.Pop()
				if i == 0 {
					e.Fill(b)
				}
				q.PushRaw(e.ID, bufferSize)
			}
		}, false},
		{"nothing", func(n *nic) { q := n.Queue(rxQueue); q.Push(q.Pop(), 0) }, false},
		{"too long", func(n *nic) { q := n.Queue(rxQueue); q.PushRaw(q.Pop().ID, 0xffffffff) }, false},
		{"unknown chain", func(n *nic) { n.Queue(rxQueue).PushRaw(200, 50) }, true},
		{"index beyond what it has", func(n *nic) { n.Queue(rxQueue).SetUsed(1000) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := fake.New(fake.Config{RealClock: true})
			t.Cleanup(m.Close)
			n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures, false)
			d := n.open(t)
			got := start(t, d)
			n.Lock()
			test.lie(n)
			n.Queue(rxQueue).Notify()
			n.Unlock()
			if test.broken {
				<-d.pairs[0].done
				return
			}
			for d.Stats().RxErrors == 0 && d.Stats().RxPackets == 0 {
				time.Sleep(time.Millisecond)
			}
			n.awaitRoom(0) // the lie may have taken all
			n.Lock()
			n.receive(good)
			n.Queue(rxQueue).Notify()
			n.Unlock()
			for f := next(t, got); !bytes.Equal(f.b, good[headerSize:]); f = next(t, got) {
				if len(f.b) < ethernetHdr {
					t.Errorf("a frame of %d bytes was handed on", len(f.b))
				}
			}
		})
	}
}

// What a device says of checksums and segments is handed on as it is, and no field of it makes the driver look outside of the frame.
func TestLyingHeaders(t *testing.T) {
	t.Run("1.2", func(t *testing.T) { lyingHeaders(t, allFeatures, netdev.Unknown) })
	t.Run("USO", func(t *testing.T) { lyingHeaders(t, allFeatures|usoFeatures, netdev.UDP) })
	t.Run("USO of one family", func(t *testing.T) { lyingHeaders(t, allFeatures|featureGuestUSO6, netdev.UDP) })
	t.Run("USO sent only", func(t *testing.T) { lyingHeaders(t, allFeatures|featureHostUSO, netdev.Unknown) })
}

// lyingHeaders is TestLyingHeaders, with what a large packet of UDP is with some features.
func lyingHeaders(t *testing.T, features uint64, udp netdev.Segment) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|features, false)
	d := n.open(t)
	got := start(t, d)
	body := pattern(100)
	for _, test := range []struct {
		name                        string
		flags, gso                  byte
		length, size, start, offset uint16
		segment                     netdev.Segment
	}{
		{"sum far outside", flagCsum, gsoNone, 0, 0, 0xffff, 0xffff, netdev.Whole},
		{"sum at the end", flagCsum, gsoNone, 0, 0, 99, 2, netdev.Whole},
		{"header longer than the frame", flagCsum, gsoTCPv4, 0xffff, 1, 34, 16, netdev.TCPv4},
		{"segments of nothing", flagCsum, gsoTCPv6, 54, 0, 34, 16, netdev.TCPv6},
		{"fragments of UDP, which were not agreed on", flagCsum, 3, 42, 1472, 34, 6, netdev.Unknown},
		{"UDP", flagCsum, gsoUDP, 42, 1472, 34, 6, udp},
		{"datagrams of nothing", flagValid, gsoUDP, 0xffff, 0, 0xffff, 6, udp},
		{"no kind of segments", 0, 0x7f, 0, 0, 0, 0, netdev.Unknown},
		{"all at once", 0xff, 0xff, 0xffff, 0xffff, 0xffff, 0xffff, netdev.Unknown},
	} {
		b := append(make([]byte, headerSize), body...)
		b[hdrFlags], b[hdrGSOType] = test.flags, test.gso
		binary.LittleEndian.PutUint16(b[hdrLength:], test.length)
		binary.LittleEndian.PutUint16(b[hdrGSOSize:], test.size)
		binary.LittleEndian.PutUint16(b[hdrStart:], test.start)
		binary.LittleEndian.PutUint16(b[hdrOffset:], test.offset)
		n.Lock()
		n.receive(b)
		n.Queue(rxQueue).Notify()
		n.Unlock()
		f := next(t, got)
		want := netdev.Offload{Checksum: test.flags&flagCsum != 0, Valid: test.flags&flagValid != 0, Start: test.start, Offset: test.offset,
			Segment: test.segment, Size: test.size, Header: test.length}
		if !bytes.Equal(f.b, body) || f.o != want {
			t.Errorf("%s: %d bytes, %+v", test.name, len(f.b), f.o)
		}
	}
}

// A large packet of UDP goes to a device that cuts those, and says how; only to one that makes checksums, too.
func TestUSO(t *testing.T) {
	for _, test := range []struct {
		name     string
		features uint64
		works    bool
	}{
		{"offered", allFeatures | usoFeatures, true},
		{"not offered", allFeatures, false},
		{"without checksums", (allFeatures | usoFeatures) &^ featureCsum, false},
		{"received only", allFeatures | featureGuestUSO4 | featureGuestUSO6, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := fake.New(fake.Config{RealClock: true})
			t.Cleanup(m.Close)
			n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|test.features, false)
			d := n.open(t)
			start(t, d)
			if d.Features().UDP != test.works {
				t.Fatalf("%+v", d.Features())
			}
			if !test.works {
				return
			}
			b := pattern(65000)
			if err := d.Send([][]byte{b[:42], b[42:]}, netdev.Offload{Checksum: true, Start: 34, Offset: 6, Segment: netdev.UDP, Size: 1400, Header: 42}); err != nil {
				t.Fatal(err)
			}
			d.Flush()
			n.Lock()
			defer n.Unlock()
			want := []byte{flagCsum, 5, 42, 0, 1400 & 0xff, 1400 >> 8, 34, 0, 6, 0, 0, 0}
			if len(n.sent) != 1 || !bytes.Equal(n.sent[0][:headerSize], want) || !bytes.Equal(n.sent[0][headerSize:], b) {
				t.Errorf("%d packets, %x", len(n.sent), n.sent[0][:headerSize])
			}
		})
	}
}

// A device without buffers that merge, or that may not leave sums open, is not asked for large packets.
func TestUSONeeds(t *testing.T) {
	for _, without := range []uint64{featureMergeable, featureGuestCsum} {
		m := fake.New(fake.Config{RealClock: true})
		t.Cleanup(m.Close)
		n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|(allFeatures|usoFeatures)&^without, false)
		d := n.open(t)
		start(t, d)
		if d.dev.Features&(featureGuestUSO4|featureGuestUSO6) != 0 || d.large || d.uso {
			t.Errorf("%x", d.dev.Features)
		}
	}
}

func TestNoMemory(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true, Frames: 64})
	t.Cleanup(m.Close)
	n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures, false)
	d := n.open(t)
	var held []machine.Frame
	for f, err := m.Alloc(); err == nil; f, err = m.Alloc() {
		held = append(held, f)
	}
	if err := d.Start(nil); err != unix.ENOMEM {
		t.Errorf("Start: %v", err)
	}
	for _, f := range held[:40] {
		m.Free(f, 1)
	}
	start(t, d)
	full := 0
	for range 100 {
		if err := d.Send([][]byte{pattern(60000)}, netdev.Offload{}); err == unix.ENOBUFS {
			full++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if full == 0 {
		t.Error("memory never ran out")
	}
}

// FuzzUsed lets the device put anything into its used rings and its packets.
func FuzzUsed(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 1, 1, 2, 0})
	f.Add([]byte{0x70, 4, 0, 0, 0, 0, 0xff, 1})
	f.Add([]byte{0x0c, 0, 1, 0, 0x08, 0, 0, 0, 0x7c, 9, 0, 0, 0x04, 200, 50, 0})  // the control queue
	f.Add([]byte{0x62, 0, 0, 0, 0x82, 0, 200, 0, 0x73, 0, 1, 0, 0x83, 3, 255, 9}) // the second pair
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 256)] // each send to a device that takes nothing waits a tenth of a second
		m := fake.New(fake.Config{RealClock: true, Frames: 512})
		defer m.Close()
		var ends []func()
		defer func() {
			for _, end := range ends {
				end()
			}
		}()
		n := newNIC(m, func(end func()) { ends = append(ends, end) }, virtiotest.FeatureRing|allFeatures|controlFeatures, false)
		work := n.Notified
		n.patience = controlTime
		n.Notified = func(q *virtiotest.Queue) {
			if q.Index == 2*devPairs && len(b) > 0 && b[0]&4 == 0 { // else what the fuzzer makes of it; the device that says nothing has a test
				n.answer = func([]byte) int { return int(b[len(b)-1] & 1) }
				work(q)
			} else if q.Index == 2*devPairs {
				q.PushRaw(uint32(b0(b)), 1)
				q.Notify()
			}
		}
		d := n.open(t)
		total := 0
		var mu sync.Mutex
		if err := d.Start(func(parts [][]byte, _ netdev.Offload) {
			mu.Lock()
			defer mu.Unlock()
			for _, p := range parts {
				total += len(p)
			}
		}); err != nil {
			t.Fatal(err)
		}
		for ; len(b) >= 4; b = b[4:] {
			n.Lock()
			q := n.Queue(int(b[0]&1) + int(b[0]&8)>>2)
			for e := q.Pop(); e != nil && b[0]&2 != 0; e = q.Pop() {
				if len(e.In) > 0 {
					copy(e.In[0], b)
				}
			}
			switch b[0] & 0x70 {
			case 0x70:
				q.SetUsed(uint16(b[1])<<8 | uint16(b[2]))
			case 0x60:
				work(q)
			default:
				q.PushRaw(uint32(b[1]), uint32(b[2])<<(b[3]&31))
			}
			n.Unlock()
			if b[0]&0x80 != 0 {
				_ = d.Send([][]byte{pattern(int(b[2]) + 1)}, netdev.Offload{})
				d.Flush()
			}
			d.interrupt()
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}
