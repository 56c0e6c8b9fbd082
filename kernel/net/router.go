package net

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// routerWatch turns what IPv6 routers announce into routes (RFC 4861 §6.3.4, RFC 4191).
type routerWatch struct{ n *Network }

var _ ipv6.NDPDispatcher = (*routerWatch)(nil)

// OnOffLinkRouteUpdated implements ipv6.NDPDispatcher.
func (w *routerWatch) OnOffLinkRouteUpdated(nic tcpip.NICID, dst tcpip.Subnet, router tcpip.Address, _ header.NDPRoutePreference) {
	if w.n.cfg.SLAAC {
		w.n.stack.ReplaceRoute(tcpip.Route{Destination: dst, Gateway: router, NIC: nic})
	}
}

// OnOffLinkRouteInvalidated implements ipv6.NDPDispatcher.
func (w *routerWatch) OnOffLinkRouteInvalidated(nic tcpip.NICID, dst tcpip.Subnet, router tcpip.Address) {
	w.n.stack.RemoveRoutes(func(r tcpip.Route) bool { return r.Destination == dst && r.Gateway == router && r.NIC == nic })
}

// OnOnLinkPrefixDiscovered implements ipv6.NDPDispatcher.
func (w *routerWatch) OnOnLinkPrefixDiscovered(nic tcpip.NICID, prefix tcpip.Subnet) {
	if w.n.cfg.SLAAC {
		w.n.stack.ReplaceRoute(tcpip.Route{Destination: prefix, NIC: nic})
	}
}

// OnOnLinkPrefixInvalidated implements ipv6.NDPDispatcher.
func (w *routerWatch) OnOnLinkPrefixInvalidated(nic tcpip.NICID, prefix tcpip.Subnet) {
	w.n.stack.RemoveRoutes(func(r tcpip.Route) bool {
		return r.Destination == prefix && r.Gateway == tcpip.Address{} && r.NIC == nic
	})
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
func (w *routerWatch) OnRecursiveDNSServerOption(_ tcpip.NICID, list []tcpip.Address, life time.Duration) {
	if s := w.n.setup; s != nil && w.n.cfg.SLAAC {
		s.routerDNS(list, life)
	}
}

// OnDNSSearchListOption implements ipv6.NDPDispatcher.
func (w *routerWatch) OnDNSSearchListOption(_ tcpip.NICID, names []string, life time.Duration) {
	if s := w.n.setup; s != nil && w.n.cfg.SLAAC {
		s.routerSearch(names, life)
	}
}

// OnDHCPv6Configuration implements ipv6.NDPDispatcher.
func (w *routerWatch) OnDHCPv6Configuration(_ tcpip.NICID, c ipv6.DHCPv6ConfigurationFromNDPRA) {
	if s := w.n.setup; s != nil && w.n.cfg.SLAAC {
		s.flags(c)
	}
}
