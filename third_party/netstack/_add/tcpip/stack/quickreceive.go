package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// DeliverQuick delivers a packet, whose link's header is consumed, when it is a whole segment of TCP over IPv4 without options for
// a connection. It returns false when it is not, and nothing was done. That the addresses are good was found out when
// the connection was made: what remains is to look it up, a fraction of what all layers do for each packet.
func (n *nic) DeliverQuick(pkt *PacketBuffer) bool {
	if pkt.PktType != tcpip.PacketHost || !n.Enabled() {
		return false
	}
	list := pkt.buf.AsViewList()
	front := list.Front()
	if front == nil || front.Size() <= pkt.consumed || pkt.reserved != 0 {
		return false
	}
	total, h, ok := quickSegment(front.AsSlice()[pkt.consumed:], int(pkt.buf.Size())-pkt.consumed)
	if !ok {
		return false
	}
	b := front.AsSlice()[pkt.consumed:]
	id := TransportEndpointID{
		LocalPort: binary.BigEndian.Uint16(b[header.IPv4MinimumSize+2:]), LocalAddress: tcpip.AddrFrom4([4]byte(b[16:20])),
		RemotePort: binary.BigEndian.Uint16(b[header.IPv4MinimumSize:]), RemoteAddress: tcpip.AddrFrom4([4]byte(b[12:16])),
	}
	protocol, ep := n.quickEndpoint(id)
	if ep == nil {
		return false
	}
	s := n.stack
	n.stats.rx.packets.Increment()
	n.stats.rx.bytes.IncrementBy(uint64(pkt.buf.Size()) - uint64(pkt.consumed))
	s.stats.IP.PacketsReceived.Increment()
	s.stats.IP.ValidPacketsReceived.Increment()
	s.stats.IP.PacketsDelivered.Increment()
	if extra := int64(pkt.consumed + total); extra < pkt.buf.Size() {
		pkt.buf.Truncate(extra)
	}
	pkt.headers[networkHeader] = headerInfo{offset: pkt.consumed, length: header.IPv4MinimumSize}
	pkt.headers[transportHeader] = headerInfo{offset: pkt.consumed + header.IPv4MinimumSize, length: h}
	pkt.consumed += header.IPv4MinimumSize + h
	pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber, pkt.NICID = header.IPv4ProtocolNumber, header.TCPProtocolNumber, n.id
	// No lock is held, and whoever queues it may keep it.
	data := total - header.IPv4MinimumSize - h
	pkt.Quick, pkt.Small = true, data > 0 && data < smallSegment
	protocol.QueuePacket(ep, id, pkt)
	return true
}

// smallSegment is more than a request has, and less than a full segment, in bytes.
const smallSegment = 1200

// quickSegment checks the headers at the start of b, whose packet has size bytes, and returns how many of them are the packet's, and
// the length of the header of TCP.
func quickSegment(b []byte, size int) (total, h int, ok bool) {
	if len(b) < header.IPv4MinimumSize+header.TCPMinimumSize || b[0] != 4<<4|header.IPv4MinimumSize/4 || b[9] != uint8(header.TCPProtocolNumber) {
		return 0, 0, false
	}
	const fragment = header.IPv4FlagMoreFragments<<13 | 1<<13 - 1
	if binary.BigEndian.Uint16(b[6:])&fragment != 0 {
		return 0, 0, false
	}
	sum := uint32(0)
	for i := 0; i < header.IPv4MinimumSize; i += 4 {
		w := binary.BigEndian.Uint32(b[i:])
		sum += w>>16 + w&0xffff
	}
	if sum = sum>>16 + sum&0xffff; sum>>16+sum&0xffff != 0xffff {
		return 0, 0, false
	}
	total, h = int(binary.BigEndian.Uint16(b[2:])), int(b[header.IPv4MinimumSize+12]>>4)*4
	if h < header.TCPMinimumSize || total < header.IPv4MinimumSize+h || total > size || header.IPv4MinimumSize+h > len(b) {
		return 0, 0, false
	}
	return total, h, true
}

// quickEndpoint finds a connection; nil when there is none, or a raw socket wants to see what it gets.
func (n *nic) quickEndpoint(id TransportEndpointID) (queuedTransportProtocol, TransportEndpoint) {
	d := n.stack.demux
	ids := protocolIDs{header.IPv4ProtocolNumber, header.TCPProtocolNumber}
	eps, protocol := d.protocol[ids], d.queuedProtocols[ids]
	if eps == nil || protocol == nil {
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
	return protocol, m.endpoints[0]
}
