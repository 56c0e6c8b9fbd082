package stack

import (
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// otherRaw are the raw endpoints of transport protocols that the stack does not have itself (raw(7): any protocol may be asked for).
type otherRaw struct {
	mu        sync.RWMutex
	endpoints map[protocolIDs][]RawTransportEndpoint // the slices are never changed; guarded by mu
}

func (o *otherRaw) of(ids protocolIDs) []RawTransportEndpoint {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.endpoints[ids]
}

func (o *otherRaw) change(ids protocolIDs, f func([]RawTransportEndpoint) []RawTransportEndpoint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.endpoints == nil {
		o.endpoints = map[protocolIDs][]RawTransportEndpoint{}
	}
	o.endpoints[ids] = f(slices.Clone(o.endpoints[ids]))
}

func (d *transportDemuxer) deliverRawPacket(protocol tcpip.TransportProtocolNumber, pkt *PacketBuffer) bool {
	ids := protocolIDs{pkt.NetworkProtocolNumber, protocol}
	if _, ok := d.protocol[ids]; ok {
		return d.deliverOwnRaw(protocol, pkt)
	}
	list := d.other.of(ids)
	for _, ep := range list {
		clone := pkt.Clone()
		ep.HandlePacket(clone)
		clone.DecRef()
	}
	return len(list) != 0
}

func (d *transportDemuxer) registerRawEndpoint(network tcpip.NetworkProtocolNumber, protocol tcpip.TransportProtocolNumber, ep RawTransportEndpoint) tcpip.Error {
	ids := protocolIDs{network, protocol}
	if _, ok := d.protocol[ids]; ok {
		return d.registerOwnRaw(network, protocol, ep)
	}
	d.other.change(ids, func(l []RawTransportEndpoint) []RawTransportEndpoint { return append(l, ep) })
	return nil
}

func (d *transportDemuxer) unregisterRawEndpoint(network tcpip.NetworkProtocolNumber, protocol tcpip.TransportProtocolNumber, ep RawTransportEndpoint) {
	ids := protocolIDs{network, protocol}
	if _, ok := d.protocol[ids]; ok {
		d.unregisterOwnRaw(network, protocol, ep)
		return
	}
	d.other.change(ids, func(l []RawTransportEndpoint) []RawTransportEndpoint {
		return slices.DeleteFunc(l, func(o RawTransportEndpoint) bool { return o == ep })
	})
}

// takesOther reports whether somebody takes packets of a protocol that the stack does not have.
func (d *transportDemuxer) takesOther(network tcpip.NetworkProtocolNumber, protocol tcpip.TransportProtocolNumber) bool {
	return len(d.other.of(protocolIDs{network, protocol})) != 0
}
