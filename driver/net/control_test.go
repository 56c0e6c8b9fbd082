package net

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio/virtiotest"
	"gosv/kernel/netdev"
	"gosv/machine/fake"
)

// tcp is a frame of a TCP connection from a port.
func tcp(port byte, size int) []byte {
	b := pattern(size)
	clear(b[:54])
	b[12], b[14], b[23], b[35] = 8, 0x45, 6, port
	return b
}

// The flows of packets are spread over the pairs of queues, each by one of them, and all that comes by any of them is received.
func TestPairs(t *testing.T) {
	for _, async := range []bool{false, true} {
		m := fake.New(fake.Config{RealClock: true})
		t.Cleanup(m.Close)
		n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures|controlFeatures, async)
		n.echo = true
		d := n.open(t)
		got := start(t, d)
		n.Lock()
		active := n.active
		n.Unlock()
		if active != devPairs || d.sending() != devPairs {
			t.Fatalf("%d pairs, and the device knows of %d", d.sending(), active)
		}
		for port := range 64 {
			b := tcp(byte(port), 1000)
			// The headers may be in several parts.
			if err := d.Send([][]byte{b[:14], b[14:34], b[34:]}, netdev.Offload{}); err != nil {
				t.Fatal(err)
			}
			d.Flush()
			if f := next(t, got); !bytes.Equal(f.b, b) {
				t.Fatalf("another packet came for port %d", port)
			}
			if whole := flow([][]byte{b}); whole != flow([][]byte{b[:14], b[14:34], b[34:]}) {
				t.Error("the flow depends on the parts")
			}
		}
		n.Lock()
		if len(n.by) != devPairs {
			t.Errorf("packets by queue: %v", n.by)
		}
		n.Unlock()
	}
}

// One processor uses one pair of a device that has more, with the control queue behind all of them.
func TestOnePair(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures|controlFeatures, false)
	n.pairs, n.echo = 1, true
	d := n.open(t)
	got := start(t, d)
	for port := range byte(8) {
		if err := d.Send([][]byte{tcp(port, 100)}, netdev.Offload{}); err != nil {
			t.Fatal(err)
		}
		d.Flush()
		next(t, got)
	}
	if len(n.by) != 1 || n.active != 1 {
		t.Errorf("by %v, %d active", n.by, n.active)
	}
}

func TestControl(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures|controlFeatures, true)
	d := n.open(t)
	start(t, d)
	if err := d.SetMAC([6]byte{2, 1, 1, 1, 1, 9}); err != nil {
		t.Error(err)
	}
	if err := d.Promiscuous(true); err != nil {
		t.Error(err)
	}
	n.Lock()
	defer n.Unlock()
	want := [][]byte{{classMQ, cmdPairs, devPairs, 0}, {classRX, cmdPromiscuous, 0}, {classRX, cmdAllMulticast, 1},
		{classMAC, cmdSetMAC, 2, 1, 1, 1, 1, 9}, {classRX, cmdPromiscuous, 1}}
	if len(n.commands) != len(want) {
		t.Fatalf("%v", n.commands)
	}
	for i, c := range n.commands {
		if !bytes.Equal(c, want[i]) {
			t.Errorf("command %v, not %v", c, want[i])
		}
	}
}

// A control queue that refuses, lies or says nothing costs what it was asked for, and not the packets.
func TestControlLies(t *testing.T) {
	for _, test := range []struct {
		name string
		lie  func(n *nic, q *virtiotest.Queue)
		err  error
	}{
		{"refuses", func(n *nic, q *virtiotest.Queue) { n.answer = func([]byte) int { return 1 }; n.control(q) }, unix.EOPNOTSUPP},
		{"says nothing", func(*nic, *virtiotest.Queue) {}, unix.EIO},
		{"no answer in the buffer", func(_ *nic, q *virtiotest.Queue) { q.PushRaw(q.Pop().ID, 0); q.Notify() }, unix.EOPNOTSUPP},
		{"more than there is room for", func(_ *nic, q *virtiotest.Queue) { q.PushRaw(q.Pop().ID, 1<<31); q.Notify() }, unix.EOPNOTSUPP},
		{"unknown chain", func(_ *nic, q *virtiotest.Queue) { q.PushRaw(ctrlSize-1, 1); q.Notify() }, unix.EIO},
		{"chain beyond the ring", func(_ *nic, q *virtiotest.Queue) { q.PushRaw(1<<20, 1); q.Notify() }, unix.EIO},
		{"index beyond what it has", func(_ *nic, q *virtiotest.Queue) { q.SetUsed(1000); q.Notify() }, unix.EIO},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := fake.New(fake.Config{RealClock: true})
			t.Cleanup(m.Close)
			n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures|controlFeatures, false)
			n.echo = true
			if test.name == "says nothing" {
				n.patience = 50 * time.Millisecond
			}
			work := n.Notified
			n.Notified = func(q *virtiotest.Queue) {
				if q.Index == 2*devPairs {
					test.lie(n, q)
				} else {
					work(q)
				}
			}
			d := n.open(t)
			got := start(t, d)
			if d.sending() != 1 {
				t.Errorf("%d pairs are used", d.sending())
			}
			if err := d.Promiscuous(true); err != test.err {
				t.Errorf("%v, not %v", err, test.err)
			}
			if err := d.Send([][]byte{tcp(1, 100)}, netdev.Offload{}); err != nil {
				t.Fatal(err)
			}
			d.Flush()
			next(t, got)
		})
	}
}

// A device that says that it has pairs that are not there is refused, and one that says none has one.
func TestPairsThatAreNot(t *testing.T) {
	for pairs, works := range map[byte]bool{0: true, 1: false, 200: false} {
		m := fake.New(fake.Config{RealClock: true})
		t.Cleanup(m.Close)
		n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures|featureMQ|featureCtrlQueue, false)
		n.Space[configPairs] = pairs
		n.Queues = 2*devPairs + 1
		d, err := n.try()
		switch {
		case pairs == 200 && err == nil:
			t.Error("a device with 9 queues was believed to have 401")
		case pairs != 200 && err != nil:
			t.Errorf("%d pairs: %v", pairs, err)
		case err == nil:
			start(t, d)
			if works && len(d.pairs) != 1 {
				t.Errorf("%d pairs", len(d.pairs))
			}
		}
	}
}

// Large packets are received in blocks of their own once they come, and small ones in frames again when no more do.
func TestLargeBuffers(t *testing.T) {
	m := fake.New(fake.Config{RealClock: true})
	t.Cleanup(m.Close)
	n := newNIC(m, t.Cleanup, virtiotest.FeatureRing|allFeatures, false)
	n.echo = true
	d := n.open(t)
	got := start(t, d)
	echo := func(count, size int) {
		t.Helper()
		b := pattern(size)
		for range count {
			n.awaitRoom(maxFrame)
			if err := d.Send([][]byte{b}, netdev.Offload{}); err != nil {
				t.Fatal(err)
			}
			d.Flush()
			if f := next(t, got); !bytes.Equal(f.b, b) {
				t.Fatalf("%d bytes: %d others came back", size, len(f.b))
			}
		}
	}
	kinds := func() (large, all int) {
		n.awaitRoom(maxFrame)
		q := d.pairs[0]
		q.rxMu.Lock()
		defer q.rxMu.Unlock()
		return q.rx.blocked, q.rx.buffers
	}
	echo(200, 65000)
	if large, all := kinds(); large != maxLarge || all > maxLarge+largePacket {
		t.Errorf("%d of %d buffers are large", large, all)
	}
	echo(smallInRow+3*maxLarge, 100)
	if large, all := kinds(); large != 0 || all == 0 {
		t.Errorf("%d of %d buffers are large still", large, all)
	}
	echo(50, 65000)
}
