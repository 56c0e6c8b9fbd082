package tcp

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// reservedAddress is the address that the port was reserved with, and is given back with. A connection has a local address of its own, also
// when its port was bound for all: netstack gave those back with that address, and so never.
//
// +checklocks:e.mu
func (e *Endpoint) reservedAddress() tcpip.Address {
	if e.boundAny {
		return tcpip.Address{}
	}
	return e.TransportEndpointInfo.ID.LocalAddress
}

// otherNetwork is that of the two that a port was reserved for which a connection does not go by.
func otherNetwork(n tcpip.NetworkProtocolNumber) []tcpip.NetworkProtocolNumber {
	if n == header.IPv4ProtocolNumber {
		return []tcpip.NetworkProtocolNumber{header.IPv6ProtocolNumber}
	}
	return []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber}
}
