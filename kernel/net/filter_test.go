package net

import (
	"encoding/binary"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/netdev"
	"gosv/kernel/socket/netlink"
)

// choosy is a device that can be told what it receives.
type choosy struct {
	wire
	mu    sync.Mutex
	wide  bool
	told  int // times that it was told
	mac   [6]byte
	fails error
}

func (c *choosy) Promiscuous(on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wide = on
	c.told++
	return c.fails
}

func (c *choosy) SetMAC(mac [6]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails == nil {
		c.mac = mac
	}
	return c.fails
}

func (c *choosy) state() (wide bool, told int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wide, c.told
}

func choosyHost(t *testing.T) (*Network, *choosy) {
	wa, _ := cable(t)
	dev := &choosy{}
	dev.wire.mac, dev.peer, dev.receiver, dev.done = wa.mac, wa.peer, wa.receiver, wa.done
	cfg := Config{Memory: 128 << 20, Open: func() (netdev.Device, error) { return dev, nil }}
	if err := cfg.Parse([]string{"10.0.0.1/24"}, nil); err != nil {
		t.Fatal(err)
	}
	n := New(cfg)
	n.Stack()
	return n, dev
}

// The device receives all frames while somebody wants it, and not longer.
func TestPromiscuous(t *testing.T) {
	n, dev := choosyHost(t)
	member := func(nic, typ, size int) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(nic))
		b = binary.LittleEndian.AppendUint16(b, uint16(typ))
		return append(binary.LittleEndian.AppendUint16(b, uint16(size)), make([]byte, 8)...)
	}
	set := func(k *fd, name int, value []byte) error {
		return k.Ops().SetOption(&k.caller, unix.SOL_PACKET, name, value)
	}
	is := func(what string, want bool, times int) {
		t.Helper()
		if wide, told := dev.state(); wide != want || told != times {
			t.Errorf("%s: %v, told %d times", what, wide, told)
		}
	}
	a, b := open(t, n, unix.AF_PACKET, unix.SOCK_RAW, 0), open(t, n, unix.AF_PACKET, unix.SOCK_RAW, 0)
	a.must(set(a, unix.PACKET_ADD_MEMBERSHIP, member(Loopback, unix.PACKET_MR_PROMISC, 0)))
	a.must(set(a, unix.PACKET_ADD_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_MULTICAST, 6)))
	is("lo, a group", false, 0)
	a.must(set(a, unix.PACKET_ADD_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_PROMISC, 0)))
	a.must(set(a, unix.PACKET_ADD_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_PROMISC, 0)))
	b.must(set(b, unix.PACKET_ADD_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_UNICAST, 6)))
	is("three", true, 1)
	a.must(set(a, unix.PACKET_DROP_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_PROMISC, 0)))
	b.close()
	is("one", true, 1)
	a.must(set(a, unix.PACKET_DROP_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_PROMISC, 0)))
	a.must(set(a, unix.PACKET_DROP_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_PROMISC, 0))) // not there
	is("none", false, 2)
	for what, err := range map[error]error{
		unix.ENODEV: set(a, unix.PACKET_ADD_MEMBERSHIP, member(9, unix.PACKET_MR_PROMISC, 0)),
		unix.EINVAL: set(a, unix.PACKET_ADD_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_PROMISC, 9)),
	} {
		if err != what {
			t.Errorf("%v, not %v", err, what)
		}
	}
	var err error
	for range maxMemberships {
		err = set(a, unix.PACKET_ADD_MEMBERSHIP, member(Ethernet, unix.PACKET_MR_PROMISC, 0))
	}
	if err != unix.ENOBUFS {
		t.Errorf("without end: %v", err)
	}
	a.close()
	is("closed", false, 4)
	n.eth.setPromiscuousFlag(true)
	n.eth.setPromiscuousFlag(true)
	is("flag", true, 5)
	for _, l := range (routes{n}).Links() {
		if l.Flags&unix.IFF_PROMISC != 0 != (l.Index == Ethernet) {
			t.Errorf("flags %#x of %s", l.Flags, l.Name)
		}
	}
	n.eth.setPromiscuousFlag(false)
	is("no flag", false, 6)
}

func TestHardwareAddress(t *testing.T) {
	n, dev := choosyHost(t)
	mac := []byte{2, 0, 0, 9, 9, 9}
	for _, test := range []struct {
		nic   int
		mac   []byte
		fails error
		want  error
	}{
		{Ethernet, []byte{1, 0, 0, 9, 9, 9}, nil, unix.EADDRNOTAVAIL}, {Ethernet, make([]byte, 6), nil, unix.EADDRNOTAVAIL},
		{Ethernet, mac[:5], nil, unix.EINVAL}, {Loopback, mac, nil, unix.EOPNOTSUPP}, {7, mac, nil, unix.ENODEV},
		{Ethernet, mac, unix.EIO, unix.EIO}, {Ethernet, mac, nil, nil},
	} {
		dev.mu.Lock()
		dev.fails = test.fails
		dev.mu.Unlock()
		if err := (routes{n}).SetLink(test.nic, netlink.LinkChange{Address: test.mac}); err != test.want {
			t.Errorf("%v: %v, not %v", test, err, test.want)
		}
	}
	if dev.mac != [6]byte(mac) || string(n.eth.LinkAddress()) != string(mac) || string(n.Stack().NICInfo()[Ethernet].LinkAddress) != string(mac) {
		t.Errorf("the device has %x, the interface %x", dev.mac, n.eth.LinkAddress())
	}
}
