package net

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"gosv/kernel/serial"
)

// routerWatch turns what IPv6 routers on eth0 announce into routes (RFC 4861 §6.3.4, RFC 4191). What is at other interfaces, which programs may have made, does
// not configure the machine.
//
// Netstack tells of it with an endpoint's lock held, which it takes within the routes' lock elsewhere: routes change on a goroutine, in the order in which
// routers have spoken.
type routerWatch struct {
	n    *Network
	work serial.Queue[func()]
}

func newRouterWatch(n *Network) *routerWatch {
	return &routerWatch{n: n, work: serial.Queue[func()]{Do: func(f func()) { f() }}}
}

// hears says whether what a router at an interface says counts.
func (w *routerWatch) hears(nic tcpip.NICID) bool { return w.n.cfg.SLAAC && nic == Ethernet }

// later has f done after what was to be done before.
func (w *routerWatch) later(f func()) { w.work.Add(f, 0) }

var _ ipv6.NDPDispatcher = (*routerWatch)(nil)

// OnOffLinkRouteUpdated implements ipv6.NDPDispatcher.
func (w *routerWatch) OnOffLinkRouteUpdated(nic tcpip.NICID, dst tcpip.Subnet, router tcpip.Address, _ header.NDPRoutePreference) {
	if w.hears(nic) {
		w.later(func() { w.n.stack.ReplaceRoute(tcpip.Route{Destination: dst, Gateway: router, NIC: nic}) })
	}
}

// OnOffLinkRouteInvalidated implements ipv6.NDPDispatcher.
func (w *routerWatch) OnOffLinkRouteInvalidated(nic tcpip.NICID, dst tcpip.Subnet, router tcpip.Address) {
	if w.hears(nic) {
		w.later(func() {
			w.n.stack.RemoveRoutes(func(r tcpip.Route) bool { return r.Destination == dst && r.Gateway == router && r.NIC == nic })
		})
	}
}

// OnOnLinkPrefixDiscovered implements ipv6.NDPDispatcher.
func (w *routerWatch) OnOnLinkPrefixDiscovered(nic tcpip.NICID, prefix tcpip.Subnet) {
	if w.hears(nic) {
		w.later(func() { w.n.stack.ReplaceRoute(tcpip.Route{Destination: prefix, NIC: nic}) })
	}
}

// OnOnLinkPrefixInvalidated implements ipv6.NDPDispatcher.
func (w *routerWatch) OnOnLinkPrefixInvalidated(nic tcpip.NICID, prefix tcpip.Subnet) {
	if w.hears(nic) {
		w.later(func() {
			w.n.stack.RemoveRoutes(func(r tcpip.Route) bool {
				return r.Destination == prefix && r.Gateway == tcpip.Address{} && r.NIC == nic
			})
		})
	}
}

// OnAutoGenAddress implements ipv6.NDPDispatcher.
func (*routerWatch) OnAutoGenAddress(tcpip.NICID, tcpip.AddressWithPrefix) stack.AddressDispatcher {
	return nil
}

// OnDuplicateAddressDetectionResult implements ipv6.NDPDispatcher.
func (w *routerWatch) OnDuplicateAddressDetectionResult(nic tcpip.NICID, a tcpip.Address, r stack.DADResult) {
	switch r.(type) {
	case *stack.DADDupAddrDetected:
		w.n.log("network: somebody else has the address " + a.String())
	case *stack.DADSucceeded:
		if s := w.n.setup; s != nil && nic == Ethernet && !header.IsV6LinkLocalUnicastAddress(a) {
			s.arrived(waitV6)
		}
	}
}

// OnAutoGenAddressDeprecated implements ipv6.NDPDispatcher.
func (*routerWatch) OnAutoGenAddressDeprecated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnAutoGenAddressInvalidated implements ipv6.NDPDispatcher.
func (*routerWatch) OnAutoGenAddressInvalidated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnRecursiveDNSServerOption implements ipv6.NDPDispatcher.
func (w *routerWatch) OnRecursiveDNSServerOption(nic tcpip.NICID, list []tcpip.Address, life time.Duration) {
	if s := w.n.setup; s != nil && w.hears(nic) {
		s.routerDNS(list, life)
	}
}

// OnDNSSearchListOption implements ipv6.NDPDispatcher.
func (w *routerWatch) OnDNSSearchListOption(nic tcpip.NICID, names []string, life time.Duration) {
	if s := w.n.setup; s != nil && w.hears(nic) {
		s.routerSearch(names, life)
	}
}

// OnDHCPv6Configuration implements ipv6.NDPDispatcher.
func (w *routerWatch) OnDHCPv6Configuration(nic tcpip.NICID, c ipv6.DHCPv6ConfigurationFromNDPRA) {
	if s := w.n.setup; s != nil && w.hears(nic) {
		s.flags(c)
	}
}
