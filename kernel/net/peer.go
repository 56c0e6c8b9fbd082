package net

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// peers are the addresses at the other ends of links (ip-address(8), "peer"): the network that such an address of this end leads to is the
// peer's.
type peers struct {
	mu sync.Mutex
	of map[endAddress]Prefix // +checklocks:mu
}

// endAddress is an address of an interface.
type endAddress struct {
	nic  tcpip.NICID
	addr tcpip.Address
}

// peer returns the other end of an address, with the length of its network.
func (n *Network) peer(nic tcpip.NICID, addr tcpip.Address) (p Prefix, ok bool) {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	p, ok = n.peers.of[endAddress{nic, addr}]
	return p, ok
}

// setPeer notes the other end of an address; the empty one takes it back.
func (n *Network) setPeer(nic tcpip.NICID, addr tcpip.Address, p Prefix) {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	if p.Addr.Len() == 0 {
		delete(n.peers.of, endAddress{nic, addr})
		return
	}
	if n.peers.of == nil {
		n.peers.of = map[endAddress]Prefix{}
	}
	n.peers.of[endAddress{nic, addr}] = p
}

// network is what an address of an interface leads to.
func (n *Network) network(nic tcpip.NICID, a tcpip.AddressWithPrefix) Prefix {
	if p, ok := n.peer(nic, a.Address); ok {
		return p
	}
	return Prefix{a.Address, a.PrefixLen}
}

// putAddress gives an interface an address, which may have a peer: then the length is that of the peer's network. The way there is added if
// routed says so. EEXIST, ENODEV. It is called exclusively, as takeAddress is.
func (n *Network) putAddress(nic tcpip.NICID, own Prefix, peer tcpip.Address, routed bool) error {
	host, to := own, own
	if peer.Len() != 0 && peer != own.Addr {
		host.Bits, to.Addr = own.Addr.BitLen(), peer
	}
	a := tcpip.ProtocolAddress{Protocol: protocolOf(own.Addr), AddressWithPrefix: host.prefix()}
	if err := n.Stack().AddProtocolAddress(nic, a, stack.AddressProperties{}); err != nil {
		return errno(err)
	}
	if to.Addr != own.Addr {
		n.setPeer(nic, own.Addr, to)
	}
	if routed {
		n.stack.AddRoute(tcpip.Route{Destination: to.prefix().Subnet(), NIC: nic})
	}
	return nil
}

// takeAddress takes an address away, with the way that came with it: EADDRNOTAVAIL.
func (n *Network) takeAddress(nic tcpip.NICID, a tcpip.AddressWithPrefix) error {
	to := n.network(nic, a).prefix().Subnet()
	if err := n.Stack().RemoveAddress(nic, a.Address); err != nil {
		return errno(err)
	}
	n.setPeer(nic, a.Address, Prefix{})
	n.stack.RemoveRoutes(func(r tcpip.Route) bool { return r.NIC == nic && r.Destination == to && r.Gateway.Len() == 0 })
	return nil
}

// forgetPeers forgets the peers of an interface that is gone.
func (n *Network) forgetPeers(nic tcpip.NICID) {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	for e := range n.peers.of {
		if e.nic == nic {
			delete(n.peers.of, e)
		}
	}
}

// ownOf returns the address of this end that a route to a peer came with.
func (n *Network) ownOf(r *tcpip.Route) (own tcpip.Address, ok bool) {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	for e, p := range n.peers.of {
		if e.nic == r.NIC && p.prefix().Subnet() == r.Destination {
			return e.addr, true
		}
	}
	return own, false
}
