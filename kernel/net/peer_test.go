package net

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/socket/netlink"
)

// The network of an address with a peer is the peer's.
func TestPeer(t *testing.T) {
	n := New(Config{Bare: true})
	t.Cleanup(func() { n.End(func() {}) })
	if err := n.Netlink().AddLink(&netlink.NewLink{Kind: "dummy", Name: "d", Up: true}); err != nil {
		t.Fatal(err)
	}
	index := linkOf(n, "d").Index
	own, peer, other := []byte{10, 8, 0, 1}, []byte{192, 168, 5, 2}, []byte{192, 168, 5, 3}
	a := netlink.Address{Index: index, Addr: own, Peer: peer, Bits: 24}
	if err := n.Netlink().AddAddress(a); err != nil {
		t.Fatal(err)
	}
	if err := n.Netlink().AddAddress(netlink.Address{Index: index, Addr: own, Peer: make([]byte, 16), Bits: 24}); err != unix.EINVAL {
		t.Error("a peer of another family:", err)
	}
	got := n.Netlink().Addresses()
	i := slices.IndexFunc(got, func(a netlink.Address) bool { return a.Index == index && len(a.Addr) == 4 })
	if i < 0 || !bytes.Equal(got[i].Addr, own) || !bytes.Equal(got[i].Peer, peer) || got[i].Bits != 24 || got[i].Broadcast != nil {
		t.Fatalf("%+v", got)
	}
	if way, err := n.Netlink().RouteTo(other, 0); err != nil || way.Index != index || !bytes.Equal(way.Source, own) {
		t.Errorf("%+v, %v", way, err)
	}
	if r := n.Netlink().Routes(); len(r) != 1 || !bytes.Equal(r[0].Dst, []byte{192, 168, 5, 0}) || !bytes.Equal(r[0].Source, own) {
		t.Errorf("%+v", r)
	}
	a.Peer = other
	if err := n.Netlink().RemoveAddress(a); err != unix.EADDRNOTAVAIL {
		t.Error("another peer:", err)
	}
	a.Peer = peer
	if err := n.Netlink().RemoveAddress(a); err != nil {
		t.Error(err)
	}
	if len(n.Netlink().Routes()) != 0 {
		t.Error("something is left")
	}
	if err := n.Netlink().AddAddress(netlink.Address{Index: index, Addr: own, Peer: peer, Bits: 32}); err != nil {
		t.Fatal(err)
	}
	if err := n.Netlink().RemoveLink(index); err != nil {
		t.Fatal(err)
	}
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	if len(n.peers.of) != 0 {
		t.Error("a peer of an interface that is gone is left")
	}
}

// What struct rtentry says: masks with holes and hosts behind networks are refused.
func TestRouteEntry(t *testing.T) {
	entry := func(dst, gateway, mask [4]byte, flags byte) []byte {
		b := make([]byte, sizeRT)
		for at, a := range map[int][4]byte{rtDst: dst, rtGateway: gateway, rtMask: mask} {
			b[at] = unix.AF_INET
			copy(b[at+4:], a[:])
		}
		b[rtFlags] = flags
		return b
	}
	none := [4]byte{}
	for _, c := range []struct {
		b    []byte
		bits int
		want error
	}{
		{entry([4]byte{10, 0, 0, 0}, none, [4]byte{255, 0, 0, 0}, 1), 8, nil},
		{entry(none, [4]byte{10, 0, 0, 1}, none, 3), 0, nil},
		{entry([4]byte{10, 0, 0, 7}, none, none, 5), 32, nil},
		{entry([4]byte{10, 0, 0, 7}, none, [4]byte{255, 255, 255, 255}, 1), 32, nil},
		{entry([4]byte{10, 0, 0, 7}, none, [4]byte{255, 0, 0, 0}, 1), 0, unix.EINVAL},
		{entry([4]byte{10, 0, 0, 0}, none, [4]byte{255, 0, 255, 0}, 1), 0, unix.EINVAL},
		{entry(none, none, none, 3), 0, unix.EINVAL},
		{make([]byte, sizeRT), 0, unix.EAFNOSUPPORT},
	} {
		if r, err := parseRouteEntry(c.b); err != c.want || err == nil && r.Bits != c.bits {
			t.Errorf("% x: %+v, %v", c.b, r, err)
		}
	}
}
