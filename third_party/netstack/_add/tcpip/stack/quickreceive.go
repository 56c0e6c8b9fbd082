package stack

import (
	"encoding/binary"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// An Expecter is an endpoint that may know what comes next.
type Expecter interface {
	// TakeExpected takes a segment that is as expected, whose transport header is h, and reports whether it was.
	TakeExpected(pkt *PacketBuffer, h []byte) bool
}

// DeliverQuick delivers a packet of protocol, whose link's header is consumed, when it is a whole segment of TCP for a connection, over IPv4 or IPv6
// without options. It returns false when it is not, and nothing was done. That the addresses are good was found out when
// the connection was made: what remains is to look it up, a fraction of what all layers do for each packet.
func (n *nic) DeliverQuick(protocol tcpip.NetworkProtocolNumber, pkt *PacketBuffer) bool {
	if pkt.PktType != tcpip.PacketHost || !n.Enabled() {
		return false
	}
	list := pkt.buf.AsViewList()
	front := list.Front()
	if front == nil || front.Size() <= pkt.consumed || pkt.reserved != 0 {
		return false
	}
	b := front.AsSlice()[pkt.consumed:]
	g, ok := quickSegment(protocol, b, int(pkt.buf.Size())-pkt.consumed)
	if !ok || ofThisHost(g.id.LocalAddress) || ofThisHost(g.id.RemoteAddress) || g.id.LocalAddress == g.id.RemoteAddress {
		return false
	}
	queue, ep := n.quickEndpoint(protocol, g.id)
	if ep == nil {
		return false
	}
	s := n.stack
	n.stats.rx.packets.Increment()
	n.stats.rx.bytes.IncrementBy(uint64(pkt.buf.Size()) - uint64(pkt.consumed))
	s.stats.IP.PacketsReceived.Increment()
	s.stats.IP.ValidPacketsReceived.Increment()
	s.stats.IP.PacketsDelivered.Increment()
	if extra := int64(pkt.consumed + g.total); extra < pkt.buf.Size() {
		pkt.buf.Truncate(extra)
	}
	pkt.headers[networkHeader] = headerInfo{offset: pkt.consumed, length: g.network}
	pkt.headers[transportHeader] = headerInfo{offset: pkt.consumed + g.network, length: g.transport}
	pkt.consumed += g.network + g.transport
	pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber, pkt.NICID = protocol, header.TCPProtocolNumber, n.id
	// No lock is held, and whoever queues it may keep it.
	data := g.total - g.network - g.transport
	pkt.Quick, pkt.Small = true, data > 0 && data < smallSegment
	if x, ok := ep.(Expecter); ok && pkt.Small && pkt.RXChecksumValidated && x.TakeExpected(pkt, b[g.network:g.network+g.transport]) {
		return true
	}
	queue.QueuePacket(ep, g.id, pkt)
	return true
}

// smallSegment is more than a request has, and less than a full segment, in bytes.
const smallSegment = 1200

// A quickHeaders is what the headers of a segment say: the lengths of the packet and of its headers in bytes, and whose it is.
type quickHeaders struct {
	total, network, transport int
	id                        TransportEndpointID
}

// quickSegment checks the headers at the start of b, whose packet has size bytes.
func quickSegment(protocol tcpip.NetworkProtocolNumber, b []byte, size int) (g quickHeaders, ok bool) {
	switch protocol {
	case header.IPv4ProtocolNumber:
		if len(b) < header.IPv4MinimumSize+header.TCPMinimumSize || !quickIPv4(b) {
			return g, false
		}
		g.total, g.network = int(binary.BigEndian.Uint16(b[2:])), header.IPv4MinimumSize
		g.id.LocalAddress, g.id.RemoteAddress = tcpip.AddrFrom4([4]byte(b[16:20])), tcpip.AddrFrom4([4]byte(b[12:16]))
	case header.IPv6ProtocolNumber:
		if len(b) < header.IPv6MinimumSize+header.TCPMinimumSize || b[0]>>4 != header.IPv6Version || b[6] != uint8(header.TCPProtocolNumber) {
			return g, false
		}
		g.total, g.network = header.IPv6MinimumSize+int(binary.BigEndian.Uint16(b[4:])), header.IPv6MinimumSize
		g.id.LocalAddress, g.id.RemoteAddress = tcpip.AddrFrom16([16]byte(b[24:40])), tcpip.AddrFrom16([16]byte(b[8:24]))
	default:
		return g, false
	}
	h := b[g.network:]
	g.transport = int(h[12]>>4) * 4
	if g.transport < header.TCPMinimumSize || g.total < g.network+g.transport || g.total > size || g.transport > len(h) {
		return g, false
	}
	g.id.RemotePort, g.id.LocalPort = binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:])
	return g, true
}

// ofThisHost says that an address is none that may come by a wire (RFC 1122 section 3.2.1.3 g, RFC 4291 section 2.5.3): the layers drop it.
func ofThisHost(a tcpip.Address) bool {
	return header.IsV4LoopbackAddress(a) || a == header.IPv6Loopback
}

// quickIPv4 says whether b begins with a header of IPv4 without options, in front of TCP in one piece, whose sum is right.
func quickIPv4(b []byte) bool {
	const fragment = header.IPv4FlagMoreFragments<<13 | 1<<13 - 1
	if b[0] != 4<<4|header.IPv4MinimumSize/4 || b[9] != uint8(header.TCPProtocolNumber) || binary.BigEndian.Uint16(b[6:])&fragment != 0 {
		return false
	}
	// The sum may be taken of wider words, and folded in the end (RFC 1071 section 2).
	sum := uint64(binary.BigEndian.Uint32(b)) + uint64(binary.BigEndian.Uint32(b[4:])) + uint64(binary.BigEndian.Uint32(b[8:])) +
		uint64(binary.BigEndian.Uint32(b[12:])) + uint64(binary.BigEndian.Uint32(b[16:]))
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return sum>>16+sum&0xffff == 0xffff
}

// A quickTable is where connections of one network protocol are looked up.
type quickTable struct {
	eps   *transportEndpoints
	queue queuedTransportProtocol
}

// quickTables are those of IPv4 and IPv6, which are found once.
type quickTables [2]atomic.Pointer[quickTable]

func (d *transportDemuxer) quickTable(protocol tcpip.NetworkProtocolNumber) *quickTable {
	at := &d.quick[0]
	if protocol == header.IPv6ProtocolNumber {
		at = &d.quick[1]
	}
	t := at.Load()
	if t == nil {
		ids := protocolIDs{protocol, header.TCPProtocolNumber}
		t = &quickTable{d.protocol[ids], d.queuedProtocols[ids]}
		at.Store(t)
	}
	return t
}

// quickEndpoint finds a connection; nil when there is none, or a raw socket wants to see what it gets.
func (n *nic) quickEndpoint(protocol tcpip.NetworkProtocolNumber, id TransportEndpointID) (queuedTransportProtocol, TransportEndpoint) {
	t := n.stack.demux.quickTable(protocol)
	eps := t.eps
	if eps == nil || t.queue == nil {
		return nil, nil
	}
	eps.mu.RLock()
	byNIC := eps.endpoints[id]
	if len(eps.rawEndpoints) != 0 {
		byNIC = nil
	}
	eps.mu.RUnlock()
	if byNIC == nil {
		return nil, nil
	}
	byNIC.mu.RLock()
	m, ok := byNIC.endpoints[n.id]
	if !ok {
		m, ok = byNIC.endpoints[0]
	}
	byNIC.mu.RUnlock()
	if !ok {
		return nil, nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.endpoints) != 1 {
		return nil, nil
	}
	return t.queue, m.endpoints[0]
}
