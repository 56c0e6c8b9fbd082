// Package net is the network: a TCP/IP stack (gVisor's netstack), its interfaces,
// and the sockets of AF_INET, AF_INET6 and AF_PACKET over it.
//
// The stack is made when it is first asked for, so that a program without a network does
// not pay for one. Interface 1 is lo, interface 2 eth0, when the machine has a device; others are plugged in and out while the
// network runs (/dev/net/tun, veth, dummy). Addresses, routes and name servers of eth0 are what the host said, and what IPv6 routers offer
// where it says so.
//
// Packets come in on the goroutine of the device's driver and go out on that
// of whoever sends; TCP has goroutines of its own, one for each processor. Sockets never
// block: they return EAGAIN, and their wait.Queue is notified out of the stack.
//
// Memory: a socket's buffers are bounded by SO_SNDBUF and SO_RCVBUF, whose greatest
// value is 8 MiB or a sixteenth of the machine's memory; datagrams that wait in all sockets together by share.Datagrams, beyond which they
// are lost. What is queued elsewhere in the stack (fragments, connections half open) has fixed limits in netstack; packets that wait for
// a neighbour to be found, or at an end of veth, count as datagrams.
//
// Packet sockets look at interfaces through taps, on the goroutine of whoever sends or receives.
//
// Lock order: changing (Exclusively); a socket's lock, then netstack's own, then those of a device; the
// locks of wait.Queue, of links and of peers are leaves.
package net

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"gosv/kernel/mem"
	"gosv/kernel/namespace"
	"gosv/kernel/netdev"
	"gosv/kernel/share"
)

// Interfaces, as if_nametoindex(3) has them.
const (
	Loopback = 1
	Ethernet = 2
)

// Network is the network of the machine.
type Network struct {
	cfg Config

	once  sync.Once
	stack *stack.Stack
	eth   *link  // nil without a device
	setup *setup // nil unless others say what eth0 is; set before once

	lo    *lo
	links links
	peers peers
	taps  taps

	tunables tunables

	mu  sync.Mutex
	all map[*sock]struct{} // +checklocks:mu
	// last is the number of the last socket.
	last   uint64    // +checklocks:mu
	listen listeners // +checklocks:mu
}

// New returns the network that cfg describes. Nothing happens before it is used.
func New(cfg Config) *Network {
	n := &Network{cfg: cfg}
	n.tunables.init()
	return n
}

// Stack returns netstack, which is made the first time.
func (n *Network) Stack() *stack.Stack {
	n.once.Do(n.start)
	return n.stack
}

// Buffer sizes of TCP, in bytes: those of Linux's tcp_rmem and tcp_wmem.
const (
	bufferMin      = 4 << 10
	receiveBuffer  = 128 << 10
	sendBuffer     = 64 << 10
	bufferMax      = 8 << 20
	datagramBuffer = 208 << 10 // of sockets that are not TCP's
	bufferFloor    = 256 << 10 // of the maximum, however small the machine is
)

func (n *Network) start() {
	// Only who is to take addresses from routers asks for them: the runtime looks at the clock at each switch of goroutines
	// while a timer is pending.
	solicitations := uint8(0)
	if n.cfg.SLAAC {
		solicitations = 3
	}
	n.stack = stack.New(stack.Options{
		Clock: n.clock(),
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{
				AutoGenLinkLocal: true,
				NDPConfigs: ipv6.NDPConfigurations{
					MaxRtrSolicitations: solicitations, RtrSolicitationInterval: 4 * time.Second, MaxRtrSolicitationDelay: time.Second,
					HandleRAs: ipv6.HandlingRAsEnabledWhenForwardingDisabled, DiscoverDefaultRouters: true, DiscoverMoreSpecificRoutes: true,
					DiscoverOnLinkPrefixes: true, AutoGenGlobalAddresses: n.cfg.SLAAC, AutoGenAddressConflictRetries: 1,
				},
				NDPDisp:    newRouterWatch(n),
				DADConfigs: stack.DADConfigurations{DupAddrDetectTransmits: 1, RetransmitTimer: time.Second},
				MLD:        ipv6.MLDOptions{Enabled: true},
			}),
			arp.NewProtocol,
		},
		TransportProtocols:       []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		RawFactory:               &raw.EndpointFactory{},
		AllowPacketEndpointWrite: true,
		HandleLocal:              true,
	})
	n.tune()
	bounded.Do(n.bound)
	n.loopback()
	n.ethernet()
}

// bounded: what is queued in all stacks together is.
var bounded sync.Once

// bound sets where datagrams that wait to be read lie, and fragments of them, if netstack is the kernel's (scripts/netstack).
func (n *Network) bound() {
	if s, ok := any(n.stack).(interface {
		SetRoom(take func(int64) bool, give func(int64))
	}); ok {
		s.SetRoom(share.Datagrams.Take, share.Datagrams.Give)
	}
	if s, ok := any(n.stack).(interface {
		SetFragments(charge func(int64) (over bool))
	}); ok {
		s.SetFragments(func(n int64) bool {
			share.Fragments.Force(n)
			return share.Fragments.Used() > share.Fragments.Most()
		})
	}
}

// tune sets what netstack has otherwise than Linux.
func (n *Network) tune() {
	s := n.stack
	limit := n.bufferLimit()
	sack, moderate, recovery, delay := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true), tcpip.TCPRACKLossDetection, tcpip.TCPDelayEnabled(true)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &moderate, &recovery, &delay,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: bufferMin, Default: receiveBuffer, Max: limit},
		&tcpip.TCPSendBufferSizeRangeOption{Min: bufferMin, Default: sendBuffer, Max: limit},
	} {
		n.must("TCP", s.SetTransportProtocolOption(tcp.ProtocolNumber, o))
	}
	// What datagrams' sockets have, and the most that they can ask for.
	n.must("datagrams", s.SetOption(tcpip.SendBufferSizeOption{Min: stack.MinBufferSize, Default: datagramBuffer, Max: 2 * bufferMax}))
	n.must("datagrams", s.SetOption(tcpip.ReceiveBufferSizeOption{Min: stack.MinBufferSize, Default: datagramBuffer, Max: 2 * bufferMax}))
	n.must("ports", s.SetPortRange(n.tunables.portRange()))
}

// bufferLimit is the greatest size of a buffer, in bytes.
func (n *Network) bufferLimit() int { return max(min(n.cfg.Memory/16, bufferMax), bufferFloor) }

// Ports that bind and connect choose from at first (ip_local_port_range).
const (
	firstPort = 32768
	lastPort  = 60999
)

// must logs what cannot go wrong while the stack is set up.
func (n *Network) must(what string, err tcpip.Error) {
	if err != nil {
		n.log("network: " + what + ": " + err.String())
	}
}

func (n *Network) log(s string) {
	if n.cfg.Log != nil {
		n.cfg.Log(s)
	}
}

// loopback makes lo.
func (n *Network) loopback() {
	n.lo = newLo(&n.taps)
	n.must("lo", n.stack.CreateNICWithOptions(Loopback, n.lo, stack.NICOptions{Name: "lo", Disabled: n.cfg.Bare}))
	n.trust(Loopback) // nobody else can have ::1
	if !n.cfg.Bare {
		n.ownAddresses()
	}
}

// trust has addresses of IPv6 usable at once: nobody is asked whether they have them.
func (n *Network) trust(nic tcpip.NICID) {
	if ep, err := n.stack.GetNetworkEndpoint(nic, header.IPv6ProtocolNumber); err == nil {
		if d, ok := ep.(stack.DuplicateAddressDetector); ok {
			d.SetDADConfigurations(stack.DADConfigurations{})
		}
	}
}

// ownAddresses gives lo what it has when it comes up.
func (n *Network) ownAddresses() {
	have := map[tcpip.Address]bool{}
	for _, a := range n.stack.NICInfo()[Loopback].ProtocolAddresses {
		have[a.AddressWithPrefix.Address] = true
	}
	for _, p := range [...]Prefix{{tcpip.AddrFrom4([4]byte{127, 0, 0, 1}), 8}, {header.IPv6Loopback, 128}} {
		if !have[p.Addr] {
			n.addAddress(Loopback, p)
		}
	}
	for _, to := range [...]tcpip.Subnet{header.IPv4LoopbackSubnet, header.IPv6Loopback.WithPrefix().Subnet()} {
		n.stack.RemoveRoutes(func(r tcpip.Route) bool { return r.NIC == Loopback && r.Destination == to })
		n.stack.AddRoute(tcpip.Route{Destination: to, NIC: Loopback})
	}
}

// setUp brings an interface up or down. It is called exclusively.
func (n *Network) setUp(id tcpip.NICID, up bool) error {
	s := n.Stack()
	set, was := s.DisableNIC, s.CheckNIC(id)
	if up {
		set = s.EnableNIC
	}
	if err := set(id); err != nil {
		return errno(err)
	}
	if l := n.link(id); l != nil && l.plug != nil && l.plug.Opened != nil {
		l.plug.Opened(up)
	}
	if !up {
		if was {
			n.taps.down(id)
		}
		return nil
	}
	if id == Loopback && n.cfg.Bare {
		n.ownAddresses()
	}
	return nil
}

// Owner is the user namespace whose root may change the network.
func (n *Network) Owner() *namespace.User { return n.cfg.Owner }

// End stops the stack, if there is one, when no socket and nobody else uses the network any more. What closed connections have not sent yet
// leaves first. done is called when all that is over.
func (n *Network) End(done func()) {
	n.once.Do(func() {})
	if n.stack == nil {
		done()
		return
	}
	go func() {
		defer done()
		for wait, all := orphanPause, time.Duration(0); n.orphans() && all < orphanTime; wait = min(2*wait, time.Second) {
			time.Sleep(wait)
			all += wait
		}
		n.unplugAll()
		n.stack.Close()
	}()
}

const (
	orphanPause = 5 * time.Millisecond
	orphanTime  = 100 * time.Second // as long as Linux tries to send what nobody has a socket of any more
)

// orphans reports whether connections to others still send.
func (n *Network) orphans() bool {
	if !n.links.any() {
		return false
	}
	for _, e := range append(n.stack.RegisteredEndpoints(), n.stack.CleanupEndpoints()...) {
		if c, ok := e.(*tcp.Endpoint); ok {
			switch c.EndpointState() {
			case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
				return true
			}
		}
	}
	return false
}

// ethernet makes eth0 of the device, if there is one.
func (n *Network) ethernet() {
	if n.cfg.Open == nil {
		return
	}
	dev, err := n.cfg.Open()
	if err != nil || dev == nil {
		if err != nil {
			n.log("network: " + err.Error())
		}
		return
	}
	n.eth = newLink(dev, &n.taps)
	if n.cfg.allowIn != nil || n.cfg.allowOut != nil {
		begin := time.Now()
		n.eth.wall = &firewall{in: n.cfg.allowIn, out: n.cfg.allowOut, log: n.log, flows: map[flow]int64{}, now: func() int64 { return int64(time.Since(begin)) }}
	}
	if n.setup != nil {
		n.setup.make()
		n.eth.asked = n.setup.receive
	}
	// First of all, since an interface sends as soon as it is there. What comes in before is dropped.
	if err := dev.Start(n.eth.receive); err != nil {
		n.log("network: " + err.Error())
		n.eth = nil
		return
	}
	n.links.put(n.eth)
	n.must("eth0", n.stack.CreateNICWithOptions(Ethernet, n.eth, stack.NICOptions{Name: "eth0"}))
	for _, p := range n.cfg.Addresses {
		n.addAddress(Ethernet, p)
		n.stack.AddRoute(tcpip.Route{Destination: p.prefix().Subnet(), NIC: Ethernet})
	}
	n.stack.AddRoute(tcpip.Route{Destination: linkLocal, NIC: Ethernet})
	for _, g := range n.cfg.Gateways {
		dst := header.IPv4EmptySubnet
		if g.Len() == header.IPv6AddressSize {
			dst = header.IPv6EmptySubnet
		}
		n.stack.AddRoute(tcpip.Route{Destination: dst, Gateway: g, NIC: Ethernet})
	}
	if n.setup != nil {
		n.setup.start()
	}
}

// linkLocal is fe80::/64.
var linkLocal = tcpip.AddressWithPrefix{Address: tcpip.AddrFrom16([16]byte{0xfe, 0x80}), PrefixLen: 64}.Subnet()

// addAddress gives an interface an address.
func (n *Network) addAddress(nic tcpip.NICID, p Prefix) {
	a := tcpip.ProtocolAddress{Protocol: protocolOf(p.Addr), AddressWithPrefix: p.prefix()}
	n.must("address "+p.Addr.String(), n.stack.AddProtocolAddress(nic, a, stack.AddressProperties{}))
}

// protocolOf is the protocol that an address belongs to.
func protocolOf(a tcpip.Address) tcpip.NetworkProtocolNumber {
	if a.Len() == header.IPv4AddressSize {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

// Config says what the network is.
type Config struct {
	// Open opens the device behind eth0; nil, and a nil device, when there is none.
	Open func() (netdev.Device, error)
	// Addresses of eth0, and the gateways of default routes.
	Addresses []Prefix
	Gateways  []tcpip.Address
	// DHCP: eth0 asks for an address of IPv4, which Hostname, when it is not empty, is sent with.
	DHCP     bool
	Hostname string
	// SLAAC: eth0 takes addresses and routes of IPv6 that routers offer (RFC 4862), and what servers have
	// where routers say so (DHCPv6).
	SLAAC bool
	// Pool is where rings of packet sockets come from; nil: they are refused.
	Pool *mem.Pool
	// Memory is how much the machine has, in bytes.
	Memory            int
	allowIn, allowOut []rule

	// Owner is the user namespace whose root may change the network.
	Owner *namespace.User
	// Bare: lo is down, without addresses, as that of a new network namespace is.
	Bare bool
	// Log takes messages.
	Log func(string)
	// Monotonic is the time in nanoseconds since some moment; nil: package time's.
	Monotonic func() int64
}

// Prefix is an address with the length of its network.
type Prefix struct {
	Addr tcpip.Address
	Bits int
}

func (p Prefix) prefix() tcpip.AddressWithPrefix {
	return tcpip.AddressWithPrefix{Address: p.Addr, PrefixLen: p.Bits}
}
