package net

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/netdev"
	"gosv/kernel/share"
	"gosv/kernel/socket/netlink"
)

func init() { leftOpen = netdev.Features{} }

// linkOf returns the interface of a name; its Index is 0 when there is none.
func linkOf(n *Network, name string) netlink.Link {
	all := n.Netlink().Links()
	if i := slices.IndexFunc(all, func(l netlink.Link) bool { return l.Name == name }); i >= 0 {
		return all[i]
	}
	return netlink.Link{}
}

// bring gives an interface an address of 10.0.0.0/24 and brings it up.
func bring(t *testing.T, n *Network, name string, last byte) {
	t.Helper()
	index := linkOf(n, name).Index
	if err := n.Netlink().AddAddress(netlink.Address{Index: index, Addr: []byte{10, 0, 0, last}, Bits: 24}); err != nil {
		t.Fatal(err)
	}
	if err := n.Netlink().SetLink(index, netlink.LinkChange{Flags: unix.IFF_UP, Mask: unix.IFF_UP}); err != nil {
		t.Fatal(err)
	}
}

// joinedNetworks are two networks, of which a has the interface x and b the interface y.
func joinedNetworks(t *testing.T) (a, b *Network) {
	t.Helper()
	a, b = New(Config{Bare: true, Memory: 128 << 20}), New(Config{Bare: true, Memory: 128 << 20})
	t.Cleanup(func() { a.End(func() {}) })
	t.Cleanup(func() { b.End(func() {}) })
	if err := a.Netlink().AddLink(&netlink.NewLink{Kind: "veth", Name: "x", Peer: &netlink.NewLink{Name: "y", In: b.Netlink()}}); err != nil {
		t.Fatal(err)
	}
	bring(t, a, "x", 1)
	if f := linkOf(a, "x").Flags; f&unix.IFF_RUNNING != 0 {
		t.Errorf("one end is down, the other runs: %#x", f)
	}
	bring(t, b, "y", 2)
	for _, l := range []netlink.Link{linkOf(a, "x"), linkOf(b, "y")} {
		if l.Flags&unix.IFF_RUNNING == 0 || l.Kind != "veth" || l.Peer != 0 {
			t.Errorf("%+v", l)
		}
	}
	return a, b
}

// until waits for what happens soon.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 30 s: " + what)
		}
	}
}

// What a closed connection has not sent yet arrives although its network has ended; then both ends are gone, and cost nothing.
func TestPair(t *testing.T) {
	before, packets := share.Sockets.Used(), share.Datagrams.Used()
	a, b := joinedNetworks(t)
	l, at := serving(t, b)
	c, s := l.meet(a, at)
	c.send([]byte("there"), 0, nil)
	if got := s.recv(10); string(got) != "there" {
		t.Errorf("%q", got)
	}
	text := bytes.Repeat([]byte("and back"), 1<<13)
	s.send(text, 0, nil)
	s.close()
	l.close()
	b.End(func() {})
	var got []byte
	for {
		p := c.recv(1 << 16)
		if len(p) == 0 {
			break
		}
		got = append(got, p...)
	}
	if !bytes.Equal(got, text) {
		t.Errorf("%d of %d bytes came", len(got), len(text))
	}
	c.close()
	until(t, "the ends are gone", func() bool { return linkOf(a, "x").Index == 0 && linkOf(b, "y").Index == 0 })
	// What earlier tests took may come back, too.
	until(t, "nothing is taken", func() bool { return share.Sockets.Used() <= before && share.Datagrams.Used() <= packets })
}

func TestMove(t *testing.T) {
	a, b := joinedNetworks(t)
	x, y := linkOf(a, "x"), linkOf(b, "y")
	if err := b.Netlink().RemoveRoute(netlink.Route{Family: unix.AF_INET, Dst: []byte{10, 0, 0, 0}, Bits: 24}); err != nil {
		t.Error("a route in a network without eth0:", err)
	}
	if _, err := a.Netlink().MoveLink(x.Index, b.Netlink(), "a/b"); err != unix.EINVAL || linkOf(a, "x").Index == 0 || linkOf(b, "y").Index == 0 {
		t.Error("a bad name:", err)
	}
	if err := b.Netlink().AddLink(&netlink.NewLink{Kind: "dummy", Name: "x", Index: x.Index + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Netlink().MoveLink(x.Index, b.Netlink(), ""); err != unix.EEXIST {
		t.Error("the name is taken:", err)
	}
	if _, err := a.Netlink().MoveLink(Loopback, b.Netlink(), ""); err != unix.EINVAL {
		t.Error("lo:", err)
	}
	to, err := a.Netlink().MoveLink(x.Index, b.Netlink(), "z")
	if err != nil {
		t.Fatal(err)
	}
	z := linkOf(b, "z")
	if z.Index != to || to == y.Index || z.Peer != y.Index || z.Flags&unix.IFF_UP != 0 || !bytes.Equal(z.Address, x.Address) || linkOf(a, "x").Index != 0 {
		t.Errorf("%+v, %d", z, to)
	}
	if linkOf(b, "y").Flags&unix.IFF_RUNNING != 0 {
		t.Error("y runs, z is down")
	}
	for name, want := range map[string]error{"y": unix.EEXIST, "a b": unix.EINVAL, "a%s": unix.EINVAL} {
		if err := b.Netlink().SetLink(to, netlink.LinkChange{Name: name}); err != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := b.Netlink().SetLink(to, netlink.LinkChange{Name: "new%d"}); err != nil {
		t.Error(err)
	}
	if err := b.Netlink().SetLink(linkOf(b, "y").Index, netlink.LinkChange{Name: "other"}); err != unix.EBUSY {
		t.Error("up:", err)
	}
	if err := b.Netlink().RemoveLink(linkOf(b, "y").Index); err != nil {
		t.Error(err)
	}
	if linkOf(b, "new0").Index != 0 {
		t.Error("one end is left")
	}
}

func TestNewLinks(t *testing.T) {
	n := New(Config{Bare: true})
	t.Cleanup(func() { n.End(func() {}) })
	for _, c := range []struct {
		l    netlink.NewLink
		want error
	}{
		{netlink.NewLink{Kind: "bridge", Name: "b"}, unix.EOPNOTSUPP},
		{netlink.NewLink{Kind: "veth", Name: "lo"}, unix.EEXIST},
		{netlink.NewLink{Kind: "veth", Name: "a", Peer: &netlink.NewLink{Name: "a"}}, unix.EEXIST},
		{netlink.NewLink{Kind: "veth", Name: "a", MTU: 67}, unix.EINVAL},
		{netlink.NewLink{Kind: "dummy", Name: "a", Address: []byte{1, 2, 3, 4, 5, 6}}, unix.EADDRNOTAVAIL},
		{netlink.NewLink{Kind: "dummy", Name: "a", Index: Loopback}, unix.EBUSY},
		{netlink.NewLink{Kind: "dummy", Name: "a/b"}, unix.EINVAL},
		{netlink.NewLink{Kind: "dummy", MTU: 9000, Address: []byte{2, 2, 3, 4, 5, 6}, Up: true}, nil},
	} {
		if err := n.Netlink().AddLink(&c.l); err != c.want {
			t.Errorf("%+v: %v, want %v", c.l, err, c.want)
		}
	}
	all := n.Netlink().Links()
	if len(all) != 2 || all[1].Name != "dummy0" || all[1].MTU != 9000 || all[1].Address[1] != 2 || all[1].Flags&unix.IFF_UP == 0 {
		t.Errorf("%+v", all)
	}
}

// Ends are made, moved, removed and used at the same time.
func TestPairRaces(t *testing.T) {
	nets := [2]*Network{New(Config{Bare: true}), New(Config{Bare: true})}
	var all sync.WaitGroup
	for i := range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := range 100 {
				in, to := nets[i%2].Netlink(), nets[(i+j)%2].Netlink()
				_ = in.AddLink(&netlink.NewLink{Kind: "veth", Name: "p", Up: true, Peer: &netlink.NewLink{Up: true, In: to}})
				for _, l := range in.Links() {
					if l.Kind != "veth" {
						continue
					}
					if k := nets[i%2].link(0); k != nil {
						t.Error("a link without a number")
					}
					if d := nets[i%2].link(2); d != nil {
						_ = d.dev.Send([][]byte{make([]byte, header.EthernetMinimumSize+20)}, noOffload)
					}
					if j%3 == 0 {
						_, _ = in.MoveLink(l.Index, to, "q")
					} else if j%3 == 1 {
						_ = in.RemoveLink(l.Index)
					}
				}
			}
		}()
	}
	all.Wait()
	nets[0].End(func() {})
	until(t, "all ends are gone", func() bool {
		return !slices.ContainsFunc(nets[0].Netlink().Links(), func(l netlink.Link) bool { return l.Kind == "veth" })
	})
	nets[1].End(func() {})
}
