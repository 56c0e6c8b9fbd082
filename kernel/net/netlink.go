package net

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"gosv/kernel/socket/netlink"
	"gosv/kernel/sorting"
)

// Netlink is the network as AF_NETLINK shows and changes it.
func (n *Network) Netlink() netlink.Stack { return routes{n} }

type routes struct{ n *Network }

var noAddress = make([]byte, header.EthernetAddressSize)

// Links implements netlink.Stack.
func (r routes) Links() (all []netlink.Link) {
	for _, i := range r.n.interfaces() {
		all = append(all, r.n.describe(&i))
	}
	return all
}

// describe is an interface as netlink shows it.
func (n *Network) describe(i *iface) netlink.Link {
	s := n.deviceStats(i)
	l := netlink.Link{Index: int(i.index), Name: i.Name, Type: int(i.hardware()), Flags: i.flags(), MTU: int(i.MTU), QueueLen: i.queueLength(),
		Unsettled: !i.settled(), Address: noAddress, Broadcast: noAddress,
		Stats: netlink.Stats{RxPackets: s.RxPackets, TxPackets: s.TxPackets, RxBytes: s.RxBytes, TxBytes: s.TxBytes,
			RxErrors: s.RxErrors, TxErrors: s.TxErrors, RxDropped: s.RxDropped, TxDropped: s.TxDropped}}
	switch {
	case i.Flags.Loopback:
	case i.link != nil && i.link.bare:
		l.Address, l.Broadcast = nil, nil
	case i.LinkAddress != "":
		l.Address, l.Broadcast = []byte(i.LinkAddress), []byte(header.EthernetBroadcastAddress)
	}
	if i.link != nil && i.link.plug != nil {
		l.Kind, l.Info = i.link.plug.Kind, i.link.plug.Info()
		if i.link.plug.Peer != nil {
			in, index := i.link.plug.Peer()
			if l.Joined = true; in == n {
				l.Peer = index
			}
		}
	}
	return l
}

// RemoveLink implements netlink.Stack.
func (r routes) RemoveLink(index int) error {
	defer exclusively()()
	l := r.n.link(tcpip.NICID(index))
	switch {
	case l == nil && tcpip.NICID(index) != Loopback:
		return unix.ENODEV
	case l == nil || l.plug == nil:
		return unix.EOPNOTSUPP
	}
	r.n.Unplug(l.plug)
	l.plug.Removed()
	return nil
}

// SetLink implements netlink.Stack: up, down, promiscuous, MTU and address.
func (r routes) SetLink(index int, c netlink.LinkChange) error {
	id := tcpip.NICID(index)
	defer exclusively()()
	if !r.n.Stack().HasNIC(id) {
		return unix.ENODEV
	}
	if c.Name != "" {
		if err := r.n.rename(id, c.Name); err != nil {
			return err
		}
	}
	if c.MTU != 0 {
		if err := r.n.setMTU(id, c.MTU); err != nil {
			return err
		}
	}
	if c.Address != nil {
		if err := r.n.setHardwareAddress(id, c.Address); err != nil {
			return err
		}
	}
	if l := r.n.link(id); l != nil && c.Mask&unix.IFF_PROMISC != 0 {
		l.setPromiscuousFlag(c.Flags&unix.IFF_PROMISC != 0)
	}
	if c.Mask&unix.IFF_UP != 0 {
		if err := r.n.setUp(id, c.Flags&unix.IFF_UP != 0); err != nil {
			return err
		}
	}
	r.n.tell(Change{}, id)
	return nil
}

// Addresses implements netlink.Stack.
func (r routes) Addresses() (all []netlink.Address) {
	for _, i := range r.n.interfaces() {
		for _, p := range i.ProtocolAddresses {
			a := netlink.Address{Index: int(i.index), Addr: p.AddressWithPrefix.Address.AsSlice(), Bits: p.AddressWithPrefix.PrefixLen,
				Label: i.Name, Flags: unix.IFA_F_PERMANENT, Preferred: ^uint32(0), Valid: ^uint32(0)}
			switch {
			case i.Flags.Loopback:
				a.Scope = unix.RT_SCOPE_HOST
			case header.IsV6LinkLocalUnicastAddress(p.AddressWithPrefix.Address):
				a.Scope = unix.RT_SCOPE_LINK
			}
			if to, ok := r.n.peer(i.index, p.AddressWithPrefix.Address); ok {
				a.Peer, a.Bits = to.Addr.AsSlice(), to.Bits
			} else if p.Protocol == header.IPv4ProtocolNumber && i.flags()&unix.IFF_BROADCAST != 0 {
				sub := p.AddressWithPrefix.Subnet()
				b := sub.Broadcast()
				a.Broadcast = b.AsSlice()
			}
			all = append(all, a)
		}
	}
	return all
}

// ip makes an address of bytes; ok is false unless there are 4 or 16.
func ip(b []byte) (a tcpip.Address, ok bool) {
	if len(b) != header.IPv4AddressSize && len(b) != header.IPv6AddressSize {
		return a, false
	}
	return tcpip.AddrFromSlice(b), true
}

// AddAddress implements netlink.Stack.
func (r routes) AddAddress(a netlink.Address) error {
	defer exclusively()()
	addr, ok := ip(a.Addr)
	id := tcpip.NICID(a.Index)
	switch {
	case !ok || a.Bits < 0 || a.Bits > addr.BitLen():
		return unix.EINVAL
	case !r.n.Stack().HasNIC(id):
		return unix.ENODEV
	}
	peer := tcpip.Address{}
	if a.Peer != nil {
		if peer, ok = ip(a.Peer); !ok || peer.Len() != addr.Len() {
			return unix.EINVAL
		}
	}
	return r.n.putAddress(id, Prefix{addr, a.Bits}, peer, id != Loopback)
}

// RemoveAddress implements netlink.Stack.
func (r routes) RemoveAddress(a netlink.Address) error {
	defer exclusively()()
	addr, ok := ip(a.Addr)
	id := tcpip.NICID(a.Index)
	if !ok || a.Bits < 0 || a.Bits > addr.BitLen() {
		return unix.EINVAL
	}
	if to, has := r.n.peer(id, addr); has && a.Peer != nil && string(a.Peer) != string(to.Addr.AsSlice()) {
		return unix.EADDRNOTAVAIL
	}
	if r.n.takeAddress(id, Prefix{addr, a.Bits}.prefix()) != nil {
		return unix.EADDRNOTAVAIL
	}
	return nil
}

// route makes an entry of netstack one of netlink.
func (r routes) route(o *tcpip.Route) netlink.Route {
	id := o.Destination.ID()
	e := netlink.Route{Family: unix.AF_INET, Bits: o.Destination.Prefix(), Index: int(o.NIC), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT,
		Scope: unix.RT_SCOPE_LINK, Type: unix.RTN_UNICAST, LinkDown: !r.n.link(o.NIC).carrier()}
	if id.Len() == header.IPv6AddressSize {
		e.Family, e.Scope = unix.AF_INET6, unix.RT_SCOPE_UNIVERSE
	}
	if e.Bits > 0 {
		e.Dst = id.AsSlice()
	}
	if o.Gateway.Len() > 0 {
		e.Gateway, e.Scope = o.Gateway.AsSlice(), unix.RT_SCOPE_UNIVERSE
	} else {
		e.Protocol = unix.RTPROT_KERNEL
		if own, ok := r.n.ownOf(o); ok && e.Family == unix.AF_INET {
			e.Source = own.AsSlice()
		} else if a, err := r.n.Stack().GetMainNICAddress(o.NIC, protocolOf(id)); err == nil && e.Family == unix.AF_INET && o.Destination.Contains(a.Address) {
			e.Source = a.Address.AsSlice()
		}
	}
	return e
}

// Routes implements netlink.Stack.
func (r routes) Routes() (all []netlink.Route) {
	for _, o := range r.n.routeTable() {
		if o.NIC != Loopback {
			all = append(all, r.route(&o))
		}
	}
	return all
}

// routeTable is the table in the order in which Linux shows it: IPv4 by address, the default route so being the first, and longer
// prefixes in front of shorter ones; then IPv6 as it is looked up.
func (n *Network) routeTable() []tcpip.Route {
	table := n.Stack().GetRouteTable()
	at := make(map[tcpip.Subnet]int, len(table))
	for i, r := range table {
		if _, ok := at[r.Destination]; !ok {
			at[r.Destination] = i
		}
	}
	sorting.Sort(table, func(a, b tcpip.Route) int {
		x, y := a.Destination.ID(), b.Destination.ID()
		switch {
		case x.Len() != y.Len():
			return x.Len() - y.Len()
		case x.Len() == header.IPv4AddressSize && x != y:
			return bytes.Compare(x.AsSlice(), y.AsSlice())
		case x.Len() == header.IPv4AddressSize:
			return b.Destination.Prefix() - a.Destination.Prefix()
		}
		return at[a.Destination] - at[b.Destination]
	})
	return table
}

// entry makes a route of netlink one of netstack: EINVAL, ENODEV, ENETUNREACH.
func (r routes) entry(e *netlink.Route) (o tcpip.Route, err error) {
	size := header.IPv4AddressSize
	if e.Family == unix.AF_INET6 {
		size = header.IPv6AddressSize
	}
	dst := make([]byte, size)
	if e.Dst != nil && len(e.Dst) != size || e.Gateway != nil && len(e.Gateway) != size || e.Bits < 0 || e.Bits > 8*size {
		return o, unix.EINVAL
	}
	copy(dst, e.Dst)
	o.Destination = tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(dst), PrefixLen: e.Bits}.Subnet()
	if id := o.Destination.ID(); id != tcpip.AddrFromSlice(dst) {
		return o, unix.EINVAL // bits behind the prefix
	}
	o.NIC = tcpip.NICID(e.Index)
	if e.Gateway != nil {
		o.Gateway = tcpip.AddrFromSlice(e.Gateway)
		if o.NIC == 0 {
			way, err := r.RouteTo(e.Gateway, 0)
			if err != nil {
				return o, err
			}
			o.NIC = tcpip.NICID(way.Index)
		}
	}
	if !r.n.Stack().HasNIC(o.NIC) {
		return o, unix.ENODEV
	}
	return o, nil
}

// AddRoute implements netlink.Stack.
func (r routes) AddRoute(e netlink.Route) error {
	defer exclusively()()
	if e.Type != unix.RTN_UNICAST && e.Type != unix.RTN_UNSPEC {
		return unix.EOPNOTSUPP
	}
	o, err := r.entry(&e)
	if err != nil {
		return err
	}
	for _, have := range r.n.Stack().GetRouteTable() {
		if have.Destination == o.Destination && have.Gateway == o.Gateway && have.NIC == o.NIC {
			return unix.EEXIST
		}
	}
	r.n.Stack().AddRoute(o)
	return nil
}

// RemoveRoute implements netlink.Stack.
func (r routes) RemoveRoute(e netlink.Route) error {
	defer exclusively()()
	anywhere := e.Index == 0
	if anywhere && e.Gateway == nil {
		e.Index = Loopback // some interface that is there
	}
	o, err := r.entry(&e)
	if err != nil {
		return unix.ESRCH
	}
	if r.n.Stack().RemoveRoutes(func(have tcpip.Route) bool {
		return have.Destination == o.Destination && (e.Gateway == nil || have.Gateway == o.Gateway) && (anywhere || have.NIC == o.NIC)
	}) == 0 {
		return unix.ESRCH
	}
	return nil
}

// RouteTo implements netlink.Stack.
func (r routes) RouteTo(dst []byte, oif int) (e netlink.Route, err error) {
	a, ok := ip(dst)
	if !ok {
		return e, unix.EINVAL
	}
	way, terr := r.n.Stack().FindRoute(tcpip.NICID(oif), tcpip.Address{}, a, protocolOf(a), false)
	if terr != nil {
		return e, unix.ENETUNREACH
	}
	defer way.Release()
	e = netlink.Route{Family: unix.AF_INET, Dst: dst, Bits: a.BitLen(), Index: int(way.NICID()), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}
	local := r.n.isLocal(a)
	if len(dst) == header.IPv6AddressSize {
		e.Family, e.Protocol = unix.AF_INET6, unix.RTPROT_KERNEL
		if table := r.n.Stack().GetRouteTable(); !local {
			if i := slices.IndexFunc(table, func(o tcpip.Route) bool { return o.Destination.Contains(a) && o.NIC == way.NICID() }); i >= 0 {
				o := r.route(&table[i])
				e.Protocol, e.Metric = o.Protocol, o.Metric
			}
		}
	}
	if local {
		e.Index, e.Table, e.Type = Loopback, unix.RT_TABLE_LOCAL, unix.RTN_LOCAL
	}
	if hop := way.NextHop(); hop != a && hop.Len() > 0 {
		e.Gateway = hop.AsSlice()
	}
	source := way.LocalAddress()
	e.Source = source.AsSlice()
	return e, nil
}

// neighbourStates are Linux's names of netstack's states (RFC 4861 §7.3.2).
var neighbourStates = map[stack.NeighborState]uint16{
	stack.Incomplete: unix.NUD_INCOMPLETE, stack.Reachable: unix.NUD_REACHABLE, stack.Stale: unix.NUD_STALE, stack.Delay: unix.NUD_DELAY,
	stack.Probe: unix.NUD_PROBE, stack.Static: unix.NUD_PERMANENT, stack.Unreachable: unix.NUD_FAILED,
}

// Neighbours implements netlink.Stack.
func (r routes) Neighbours() (all []netlink.Neighbour) {
	for _, p := range []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber, header.IPv6ProtocolNumber} {
		for _, i := range r.n.interfaces() {
			for _, e := range r.n.neighbours(&i, p) {
				o := netlink.Neighbour{Index: int(i.index), Addr: e.Addr.AsSlice(), State: neighbourStates[e.State]}
				if e.LinkAddr != "" {
					o.Address = []byte(e.LinkAddr)
				}
				all = append(all, o)
			}
		}
	}
	return all
}

// neighbours are the hosts on an interface that were asked for; none on one without hardware addresses.
func (n *Network) neighbours(i *iface, p tcpip.NetworkProtocolNumber) []stack.NeighborEntry {
	if i.link == nil || i.link.bare {
		return nil
	}
	list, err := n.Stack().Neighbors(i.index, p)
	if err != nil {
		return nil // it is gone
	}
	return list
}

// AddNeighbour implements netlink.Stack.
func (r routes) AddNeighbour(e netlink.Neighbour) error {
	a, ok := ip(e.Addr)
	if !ok || len(e.Address) != header.EthernetAddressSize {
		return unix.EINVAL
	}
	return errno(r.n.Stack().AddStaticNeighbor(tcpip.NICID(e.Index), protocolOf(a), a, tcpip.LinkAddress(e.Address)))
}

// RemoveNeighbour implements netlink.Stack.
func (r routes) RemoveNeighbour(e netlink.Neighbour) error {
	a, ok := ip(e.Addr)
	if !ok {
		return unix.EINVAL
	}
	if r.n.Stack().RemoveNeighbor(tcpip.NICID(e.Index), protocolOf(a), a) != nil {
		return unix.ENOENT
	}
	return nil
}

// Sockets implements netlink.Stack.
func (r routes) Sockets(family, protocol int) (all []netlink.Socket) {
	typ := unix.SOCK_RAW
	switch protocol {
	case unix.IPPROTO_TCP:
		typ = unix.SOCK_STREAM
	case unix.IPPROTO_UDP:
		typ = unix.SOCK_DGRAM
	}
	for _, k := range r.n.sockets(family, typ) {
		if k.s.Protocol == protocol {
			if s, ok := k.diag(); ok {
				all = append(all, s)
			}
		}
	}
	return all
}

// diag is what ss(8) shows of a socket; false for one without a name, as on Linux.
func (k *sock) diag() (s netlink.Socket, ok bool) {
	o := k.observe()
	if o.local.Port == 0 && k.s.Type != unix.SOCK_RAW {
		return s, false
	}
	s = netlink.Socket{Family: k.s.Family, State: int(o.state), LocalPort: o.local.Port, RemotePort: o.remote.Port,
		Local: k.wide(o.local.Addr), Remote: k.wide(o.remote.Addr), Index: int(k.ep.SocketOptions().GetBindToDevice()),
		ReadQueue: o.rx, WriteQueue: o.tx, UID: o.uid, Ino: o.ino}
	if k.stream() {
		if k.state() == tcp.StateListen {
			k.fastMu.Lock()
			s.ReadQueue, s.WriteQueue = len(k.pending), k.backlog
			k.fastMu.Unlock()
		} else if b, err := k.tcpInfo(); err == nil {
			s.Info = b
		}
	}
	return s, true
}

// wide is an address in as many bytes as the socket's family has.
func (k *sock) wide(a tcpip.Address) []byte {
	if k.s.Family == unix.AF_INET {
		b := make([]byte, header.IPv4AddressSize)
		copy(b, a.AsSlice())
		return b
	}
	if a.Len() == 0 {
		return make([]byte, header.IPv6AddressSize)
	}
	return in6(a)
}
