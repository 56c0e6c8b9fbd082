package netlink

import (
	"bytes"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/socket"
	"gosv/kernel/socket/afunix"
	"gosv/kernel/uio"
	"gosv/machine/fake"
)

// fakeStack is a network of two interfaces.
type fakeStack struct {
	links  []Link
	addrs  []Address
	routes []Route
	neigh  []Neighbour
	socks  []Socket
	net    *Network
}

func (f *fakeStack) Links() []Link { return f.links }
func (f *fakeStack) SetLink(index int, c LinkChange) error {
	for i := range f.links {
		if l := &f.links[i]; l.Index == index {
			l.Flags = l.Flags&^c.Mask | c.Flags&c.Mask
			if c.MTU != 0 {
				l.MTU = c.MTU
			}
			f.net.LinkChanged(*l, false)
			return nil
		}
	}
	return unix.ENODEV
}
func (f *fakeStack) AddLink(l *NewLink) error {
	f.links = append(f.links, Link{Index: len(f.links) + 1, Name: l.Name, Kind: l.Kind})
	return nil
}
func (f *fakeStack) MoveLink(int, Stack, string) (int, error) { return 0, unix.EINVAL }
func (f *fakeStack) RemoveLink(index int) error {
	for i, l := range f.links {
		if l.Index == index {
			f.links = append(f.links[:i:i], f.links[i+1:]...)
			return nil
		}
	}
	return unix.ENODEV
}
func (f *fakeStack) Addresses() []Address { return f.addrs }
func (f *fakeStack) AddAddress(a Address) error {
	if slices.ContainsFunc(f.addrs, func(b Address) bool { return bytes.Equal(a.Addr, b.Addr) }) {
		return unix.EEXIST
	}
	f.addrs = append(f.addrs, a)
	return nil
}
func (f *fakeStack) RemoveAddress(a Address) error {
	n := len(f.addrs)
	f.addrs = slices.DeleteFunc(f.addrs, func(b Address) bool { return bytes.Equal(a.Addr, b.Addr) })
	if len(f.addrs) == n {
		return unix.EADDRNOTAVAIL
	}
	return nil
}
func (f *fakeStack) Routes() []Route                       { return f.routes }
func (f *fakeStack) AddRoute(r Route) error                { f.routes = append(f.routes, r); return nil }
func (f *fakeStack) RemoveRoute(Route) error               { return unix.ESRCH }
func (f *fakeStack) RouteTo([]byte, int) (Route, error)    { return f.routes[0], nil }
func (f *fakeStack) Neighbours() []Neighbour               { return f.neigh }
func (f *fakeStack) AddNeighbour(n Neighbour) error        { f.neigh = append(f.neigh, n); return nil }
func (f *fakeStack) RemoveNeighbour(Neighbour) error       { return unix.ENOENT }
func (f *fakeStack) Sockets(family, protocol int) []Socket { return f.socks }

func newFake() *fakeStack {
	return &fakeStack{
		links: []Link{
			{Index: 1, Name: "lo", Type: unix.ARPHRD_LOOPBACK, Flags: unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING, MTU: 65536, Address: make([]byte, 6), Broadcast: make([]byte, 6)},
			{Index: 2, Name: "eth0", Type: unix.ARPHRD_ETHER, Flags: unix.IFF_UP | unix.IFF_BROADCAST, MTU: 1500, Address: []byte{2, 0, 0, 0, 0, 1}, Broadcast: bytes.Repeat([]byte{255}, 6)},
		},
		addrs:  []Address{{Index: 1, Addr: []byte{127, 0, 0, 1}, Bits: 8, Label: "lo"}, {Index: 2, Addr: []byte{10, 0, 2, 15}, Bits: 24, Label: "eth0"}},
		routes: []Route{{Family: unix.AF_INET, Gateway: []byte{10, 0, 2, 2}, Index: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}},
	}
}

type client struct {
	tb testing.TB
	s  *socket.Socket
	c  *cred.Cred
}

func dial(tb testing.TB, n *Network, protocol int) *client {
	c := &client{tb: tb, c: cred.Root()}
	s, err := n.Family().New(c.caller(), unix.SOCK_RAW, protocol)
	if err != nil {
		tb.Fatal(err)
	}
	c.s = s
	return c
}

func (c *client) caller() *socket.Caller { return &socket.Caller{Cred: c.c, PID: 7, Nonblock: true} }

func (c *client) send(b []byte) error {
	src := uio.Buffer(b)
	_, err := c.s.Ops().Send(&socket.Message{Caller: *c.caller()}, &src)
	return err
}

// receive returns the messages of one datagram.
func (c *client) receive(room int) ([]syscall.NetlinkMessage, error) {
	b := make([]byte, room)
	dst := uio.Buffer(b)
	n, err := c.s.Ops().Receive(&socket.Message{Caller: *c.caller()}, &dst)
	if err != nil {
		return nil, err
	}
	list, err := syscall.ParseNetlinkMessage(b[:n])
	if err != nil {
		c.tb.Fatal(err)
	}
	return list, nil
}

// call sends a request and returns the messages of its answer without NLMSG_DONE and NLMSG_ERROR, and the error.
func (c *client) call(typ, flags int, body []byte) (got []syscall.NetlinkMessage, err error) {
	c.tb.Helper()
	b := finish(append(begin(nil, typ, flags|unix.NLM_F_REQUEST, 77, 0), body...), 0)
	if err := c.send(b); err != nil {
		c.tb.Fatal(err)
	}
	for {
		list, rerr := c.receive(8192)
		if rerr == unix.EAGAIN {
			return got, err
		}
		if rerr != nil {
			c.tb.Fatal(rerr)
		}
		for _, m := range list {
			if m.Header.Seq != 77 || m.Header.Pid != 7 {
				c.tb.Fatalf("header %+v", m.Header)
			}
			switch m.Header.Type {
			case unix.NLMSG_DONE:
			case unix.NLMSG_ERROR:
				if e := -int32(le.Uint32(m.Data)); e != 0 {
					err = unix.Errno(e)
				}
			default:
				got = append(got, m)
			}
		}
	}
}

func newNetwork(tb testing.TB, f *fakeStack) *Network {
	pool := mem.NewPool(fake.ForTest(tb, fake.Config{Frames: 64}))
	f.net = New(func() Stack { return f }, afunix.New(pool, func() int64 { return 0 }))
	return f.net
}

func TestDumps(t *testing.T) {
	f := newFake()
	c := dial(t, newNetwork(t, f), unix.NETLINK_ROUTE)
	links, err := c.call(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, ifinfoSize))
	if err != nil || len(links) != 2 {
		t.Fatal(links, err)
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(&links[1])
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_IFNAME && string(a.Value) == "eth0\x00" {
			names++
		}
	}
	if names != 1 {
		t.Errorf("no name in %v", attrs)
	}
	for i := range 2000 { // a table of many packets
		f.addrs = append(f.addrs, Address{Index: 2, Addr: []byte{10, 1, byte(i >> 8), byte(i)}, Bits: 24})
	}
	addrs, err := c.call(unix.RTM_GETADDR, unix.NLM_F_DUMP, []byte{unix.AF_INET})
	if err != nil || len(addrs) != 2002 {
		t.Fatal(len(addrs), err)
	}
	addrs, err = c.call(unix.RTM_GETADDR, unix.NLM_F_DUMP, []byte{unix.AF_INET6})
	if err != nil || len(addrs) != 0 {
		t.Fatal(len(addrs), err)
	}
	if rules, err := c.call(unix.RTM_GETRULE, unix.NLM_F_DUMP, []byte{unix.AF_INET}); err != nil || len(rules) != 3 {
		t.Fatal(len(rules), err)
	}
	if _, err := c.call(unix.RTM_GETSTATS, unix.NLM_F_DUMP, []byte{0}); err != unix.EOPNOTSUPP {
		t.Fatal(err)
	}
}

func TestAddressesComeAndGo(t *testing.T) {
	f := newFake()
	n := newNetwork(t, f)
	c := dial(t, n, unix.NETLINK_ROUTE)
	if err := c.s.Ops().Bind(c.caller(), formatAddr(0, 0)); err != nil {
		t.Fatal(err)
	}
	watch := dial(t, n, unix.NETLINK_ROUTE)
	if err := watch.s.Ops().Bind(watch.caller(), formatAddr(0, 1<<(unix.RTNLGRP_IPV4_IFADDR-1)|1<<(unix.RTNLGRP_LINK-1))); err != nil {
		t.Fatal(err)
	}
	body := append([]byte{unix.AF_INET, 24, 0, 0, 2, 0, 0, 0}, attr(nil, unix.IFA_LOCAL, []byte{10, 9, 8, 7})...)
	for i, want := range []error{nil, unix.EEXIST} {
		if _, err := c.call(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, body); err != want {
			t.Fatal(i, err)
		}
	}
	if l, err := watch.receive(4096); err != nil || len(l) != 1 || l[0].Header.Type != unix.RTM_NEWADDR {
		t.Fatal(l, err)
	}
	for i, want := range []error{nil, unix.EADDRNOTAVAIL} {
		if _, err := c.call(unix.RTM_DELADDR, unix.NLM_F_ACK, body); err != want {
			t.Fatal(i, err)
		}
	}
	if l, err := watch.receive(4096); err != nil || l[0].Header.Type != unix.RTM_DELADDR {
		t.Fatal(l, err)
	}
	link := make([]byte, ifinfoSize)
	le.PutUint32(link[4:], 2)
	le.PutUint32(link[12:], unix.IFF_UP) // down
	if _, err := c.call(unix.RTM_NEWLINK, unix.NLM_F_ACK, link); err != nil || f.links[1].Flags&unix.IFF_UP != 0 {
		t.Fatal(err, f.links[1])
	}
	if l, err := watch.receive(4096); err != nil || l[0].Header.Type != unix.RTM_NEWLINK {
		t.Fatal(l, err)
	}
	le.PutUint32(link[4:], 9)
	if _, err := c.call(unix.RTM_NEWLINK, unix.NLM_F_ACK, link); err != unix.ENODEV {
		t.Fatal(err)
	}
	c.c = &cred.Cred{UID: 1, EUID: 1}
	if _, err := c.call(unix.RTM_DELADDR, unix.NLM_F_ACK, body); err != unix.EPERM {
		t.Fatal(err)
	}
	if l, err := c.call(unix.RTM_GETROUTE, 0, append([]byte{unix.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, attr(nil, unix.RTA_DST, []byte{1, 1, 1, 1})...)); err != nil || len(l) != 1 {
		t.Fatal(l, err)
	}
}

func TestDiag(t *testing.T) {
	f := newFake()
	for i := range 300 {
		f.socks = append(f.socks, Socket{Family: unix.AF_INET, State: 1 + i%2*9, LocalPort: uint16(i), Ino: uint64(i)})
	}
	c := dial(t, newNetwork(t, f), unix.NETLINK_SOCK_DIAG)
	body := make([]byte, inetRequestSize)
	body[0], body[1] = unix.AF_INET, unix.IPPROTO_TCP
	le.PutUint32(body[4:], 1<<10)
	if l, err := c.call(sockDiagByFamily, unix.NLM_F_DUMP, body); err != nil || len(l) != 150 {
		t.Fatal(len(l), err)
	}
	body = make([]byte, unixRequestSize)
	body[0] = unix.AF_UNIX
	if l, err := c.call(sockDiagByFamily, unix.NLM_F_DUMP, body); err != nil || len(l) != 0 {
		t.Fatal(len(l), err)
	}
	body[0] = unix.AF_PACKET
	if _, err := c.call(sockDiagByFamily, unix.NLM_F_DUMP, body); err != unix.ENOENT {
		t.Fatal(err)
	}
}

// A reader that is too slow learns that it has missed something.
func TestOverrun(t *testing.T) {
	f := newFake()
	n := newNetwork(t, f)
	c := dial(t, n, unix.NETLINK_ROUTE)
	if err := c.s.Ops().SetOption(c.caller(), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, socket.Int(unix.RTNLGRP_LINK)); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		n.LinkChanged(f.links[0], false)
	}
	if _, err := c.receive(8192); err != unix.ENOBUFS {
		t.Fatal(err)
	}
	if _, err := c.receive(8192); err != nil {
		t.Fatal(err)
	}
}

func FuzzRequests(fz *testing.F) {
	fz.Add(0, finish(append(begin(nil, unix.RTM_GETLINK, unix.NLM_F_DUMP|unix.NLM_F_REQUEST, 1, 0), make([]byte, ifinfoSize)...), 0))
	fz.Add(0, finish(append(begin(nil, unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_REQUEST, 1, 0), append([]byte{unix.AF_INET, 24, 0, 0, 2, 0, 0, 0}, attr(nil, unix.IFA_LOCAL, []byte{10, 9, 8, 7})...)...), 0))
	fz.Add(0, finish(append(begin(nil, unix.RTM_NEWROUTE, unix.NLM_F_ACK|unix.NLM_F_REQUEST, 1, 0), append([]byte{unix.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, attr(nil, unix.RTA_DST, []byte{1, 1, 1, 1})...)...), 0))
	fz.Add(0, finish(append(begin(nil, unix.RTM_NEWNEIGH, unix.NLM_F_ACK|unix.NLM_F_REQUEST, 1, 0), append(make([]byte, ndmsgSize), attr(nil, unix.NDA_DST, []byte{1, 1, 1, 1})...)...), 0))
	fz.Add(0, finish(append(begin(nil, unix.RTM_SETLINK, unix.NLM_F_ACK|unix.NLM_F_REQUEST, 1, 0), append(make([]byte, ifinfoSize), attrString(nil, unix.IFLA_IFNAME, "eth0")...)...), 0))
	fz.Add(1, finish(append(begin(nil, sockDiagByFamily, unix.NLM_F_DUMP|unix.NLM_F_REQUEST, 1, 0), append([]byte{unix.AF_INET, 6}, make([]byte, inetRequestSize)...)...), 0))
	fz.Add(1, finish(append(begin(nil, sockDiagByFamily, unix.NLM_F_REQUEST, 1, 0), append([]byte{unix.AF_UNIX, 6}, make([]byte, unixRequestSize)...)...), 0))
	fz.Fuzz(func(t *testing.T, protocol int, b []byte) {
		f := newFake()
		p := unix.NETLINK_ROUTE
		if protocol&1 != 0 {
			p = unix.NETLINK_SOCK_DIAG
		}
		c := dial(t, newNetwork(t, f), p)
		if err := c.send(b); err != nil {
			return
		}
		for range 1000 {
			if _, err := c.receive(4096); err == unix.EAGAIN {
				return
			}
		}
		t.Error("answers without end")
	})
}

// What asks for something about another network, or for what there is not, does not change an interface of this one.
func TestLinksElsewhere(t *testing.T) {
	f := newFake()
	c := dial(t, newNetwork(t, f), unix.NETLINK_ROUTE)
	link := make([]byte, ifinfoSize)
	le.PutUint32(link[4:], 2)
	for _, a := range []struct {
		typ  int
		want error
	}{{unix.IFLA_TARGET_NETNSID, unix.EOPNOTSUPP}, {unix.IFLA_MASTER, unix.EOPNOTSUPP}, {unix.IFLA_NET_NS_PID, unix.EINVAL}, {unix.IFLA_NET_NS_FD, unix.EINVAL}} {
		if _, err := c.call(unix.RTM_SETLINK, unix.NLM_F_ACK, Attr32(link[:ifinfoSize:ifinfoSize], a.typ, 1)); err != a.want {
			t.Error(a.typ, err)
		}
	}
	if _, err := c.call(unix.RTM_DELLINK, unix.NLM_F_ACK, Attr32(link[:ifinfoSize:ifinfoSize], unix.IFLA_TARGET_NETNSID, 1)); err != unix.EOPNOTSUPP || len(f.links) != 2 {
		t.Error(err)
	}
	for flags, want := range map[int]error{unix.NLM_F_EXCL: unix.EEXIST, unix.NLM_F_REPLACE: unix.EOPNOTSUPP} {
		if _, err := c.call(unix.RTM_NEWLINK, unix.NLM_F_ACK|unix.NLM_F_CREATE|flags, link); err != want {
			t.Errorf("flags %#x: %v", flags, err)
		}
	}
	for b, want := range map[string]error{"": unix.EINVAL, string(Attr32(nil, unix.NETNSA_NSID, 0)): unix.ENOENT, string(Attr32(nil, unix.NETNSA_FD, 0)): unix.EINVAL} {
		if _, err := c.call(unix.RTM_GETNSID, unix.NLM_F_ACK, append(make([]byte, 4), b...)); err != want {
			t.Errorf("number of a namespace, %x: %v", b, err)
		}
	}
	if _, err := c.call(unix.RTM_DELLINK, unix.NLM_F_ACK, link); err != nil || len(f.links) != 1 {
		t.Error(err)
	}
}
