package tcp

import (
	"encoding/binary"
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A segment of a connection differs little from the one before, and no table of rules looks at it: it is a frame within a hundred
// instructions. By the layers of netstack it takes some thousands, most of them for keeping its parts and for locks.

// quick is what an Endpoint makes frames in; guarded by the endpoint's mu.
type quick struct {
	header [header.EthernetMinimumSize + header.IPv4MinimumSize + header.TCPHeaderMaximumSize]byte
	parts  [][]byte
	hold   bool            // more segments follow at once
	held   stack.QuickLink // has segments that it was not told of
}

// flush ends what hold began.
func (q *quick) flush() {
	q.hold = false
	if q.held != nil {
		q.held.FlushSegments()
		q.held = nil
	}
}

// quickFlags are those of segments that go the short way.
const quickFlags = header.TCPFlagAck | header.TCPFlagPsh

// sendQuick sends a segment, with the data of pkt when there is one, by a stack.QuickLink. It returns false when it cannot, and nothing was done.
//
// +checklocks:e.mu
func (e *Endpoint) sendQuick(pkt *stack.PacketBuffer, flags header.TCPFlags, seq, ack seqnum.Value, rcvWnd seqnum.Size) (bool, tcpip.Error) {
	r := e.route
	if flags&^quickFlags != 0 || e.pmtud == tcpip.PMTUDiscoveryDont || r.NetProto() != header.IPv4ProtocolNumber || e.urgentMode() {
		return false, nil
	}
	link, to, ok := r.Quick()
	if !ok || e.ops.GetExperimentOptionValue() != 0 {
		return false, nil
	}
	q := &e.quick
	q.parts = append(q.parts[:0], nil)
	size, mss := 0, 0
	if pkt != nil {
		size = pkt.Data().Size()
		q.parts = pkt.AppendData(q.parts)
	}
	open := e.gso.Type == stack.GSOTCPv4 && e.gso.NeedsCsum
	if e.gso.Type != stack.GSONone && size > int(e.gso.MSS) {
		if mss = int(e.gso.MSS); !open {
			return false, nil
		}
	}
	n := e.quickHeader(to, flags, seq, ack, rcvWnd, size, open)
	if total := n - header.EthernetMinimumSize + size; total > math.MaxUint16 || mss == 0 && total > int(r.MTU())+header.IPv4MinimumSize {
		return false, nil
	}
	q.parts[0] = q.header[:n]
	done, err := link.SendSegment(q.parts, mss, open)
	clear(q.parts)
	if q.held = link; !q.hold {
		q.flush()
	}
	switch {
	case !done:
		return false, nil
	case err != nil:
		r.Stats().TCP.SegmentSendErrors.Increment()
		e.stats.SendErrors.SegmentSendToNetworkFailed.Increment()
		return true, err
	}
	r.Sent(n - header.EthernetMinimumSize + size)
	r.Stats().TCP.SegmentsSent.Increment()
	e.stats.SegmentsSent.Increment()
	return true, nil
}

// quickHeader makes the headers of a frame in e.quick, in front of size bytes in its parts, and returns their length.
//
// +checklocks:e.mu
func (e *Endpoint) quickHeader(to tcpip.LinkAddress, flags header.TCPFlags, seq, ack seqnum.Value, rcvWnd seqnum.Size, size int, open bool) int {
	const ip, tcp = header.EthernetMinimumSize, header.EthernetMinimumSize + header.IPv4MinimumSize
	r, b := e.route, e.quick.header[:]
	var blocks []header.SACKBlock
	if e.EndpointState() == StateEstablished && e.rcv.pendingRcvdSegments.Len() > 0 {
		blocks = e.sack.Blocks[:e.sack.NumBlocks]
	}
	options := e.makeOptions(blocks)
	n := tcp + header.TCPMinimumSize + copy(b[tcp+header.TCPMinimumSize:], options)
	putOptions(options)
	copy(b, to)
	copy(b[header.EthernetAddressSize:], r.LocalLinkAddress())
	binary.BigEndian.PutUint16(b[ip-2:], uint16(header.IPv4ProtocolNumber))

	local, remote := r.LocalAddress().As4(), r.RemoteAddress().As4()
	b[ip], b[ip+1] = 4<<4|header.IPv4MinimumSize/4, e.sendTOS
	binary.BigEndian.PutUint16(b[ip+2:], uint16(n-ip+size))
	binary.BigEndian.PutUint32(b[ip+4:], header.IPv4FlagDontFragment<<13)
	b[ip+8], b[ip+9] = calculateTTL(r, e.ipv4TTL, e.ipv6HopLimit), uint8(ProtocolNumber)
	binary.BigEndian.PutUint16(b[ip+10:], 0)
	copy(b[ip+12:], local[:])
	copy(b[ip+16:], remote[:])
	binary.BigEndian.PutUint16(b[ip+10:], ^sum16(b[ip:tcp], 0))

	binary.BigEndian.PutUint16(b[tcp:], e.ID.LocalPort)
	binary.BigEndian.PutUint16(b[tcp+2:], e.ID.RemotePort)
	binary.BigEndian.PutUint32(b[tcp+4:], uint32(seq))
	binary.BigEndian.PutUint32(b[tcp+8:], uint32(ack))
	b[tcp+12], b[tcp+13] = uint8(n-tcp)/4<<4, uint8(flags)
	binary.BigEndian.PutUint16(b[tcp+14:], uint16(min(rcvWnd, math.MaxUint16)))
	binary.BigEndian.PutUint32(b[tcp+16:], 0) // sum, urgent pointer
	xsum := sum16(b[ip+12:tcp], uint32(ProtocolNumber)+uint32(n-tcp+size))
	if !open {
		xsum = ^e.quickSum(b[tcp:n], xsum)
	}
	binary.BigEndian.PutUint16(b[tcp+16:], xsum)
	return n
}

// quickSum is the sum over a TCP header and the data in e.quick.parts.
//
// +checklocks:e.mu
func (e *Endpoint) quickSum(h []byte, initial uint16) uint16 {
	var data checksum.Checksumer
	for _, p := range e.quick.parts[1:] {
		data.Add(p)
	}
	return checksum.Combine(checksum.Checksum(h, initial), data.Checksum())
}

// sum16 is the sum of RFC 1071 over b, whose length is even and below 64 KiB, and initial.
func sum16(b []byte, initial uint32) uint16 {
	s := initial
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}
