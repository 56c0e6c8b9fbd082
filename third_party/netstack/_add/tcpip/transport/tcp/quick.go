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
	header [header.EthernetMinimumSize + header.IPv6MinimumSize + header.TCPHeaderMaximumSize]byte
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
	ip, offload := header.IPv6MinimumSize, stack.GSOTCPv6
	if r.NetProto() == header.IPv4ProtocolNumber {
		if e.pmtud == tcpip.PMTUDiscoveryDont {
			return false, nil
		}
		ip, offload = header.IPv4MinimumSize, stack.GSOTCPv4
	}
	if flags&^quickFlags != 0 || e.urgentMode() {
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
	open := e.gso.Type == offload && e.gso.NeedsCsum
	if e.gso.Type != stack.GSONone && size > int(e.gso.MSS) {
		if mss = int(e.gso.MSS); !open {
			return false, nil
		}
	}
	n := e.quickHeader(to, ip, flags, seq, ack, rcvWnd, size, open)
	if total := n - header.EthernetMinimumSize + size; total > math.MaxUint16 || mss == 0 && total > int(r.MTU())+ip {
		return false, nil
	}
	q.parts[0] = q.header[:n]
	done, err := link.SendSegment(r.NetProto(), q.parts, mss, open)
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

// quickHeader makes the headers of a frame in e.quick, IP's with network bytes, in front of size bytes in its parts, and returns their length.
//
// +checklocks:e.mu
func (e *Endpoint) quickHeader(to tcpip.LinkAddress, network int, flags header.TCPFlags, seq, ack seqnum.Value, rcvWnd seqnum.Size, size int, open bool) int {
	const ip = header.EthernetMinimumSize
	tcp := ip + network
	r, b := e.route, e.quick.header[:]
	var blocks []header.SACKBlock
	if e.EndpointState() == StateEstablished && e.rcv.pendingRcvdSegments.Len() > 0 {
		blocks = e.sack.Blocks[:e.sack.NumBlocks]
	}
	n := tcp + header.TCPMinimumSize
	if len(blocks) == 0 {
		if e.SendTSOk {
			binary.BigEndian.PutUint32(b[n:], timestampOption)
			binary.BigEndian.PutUint32(b[n+4:], e.tsVal(e.snd.LastSendTime)) // which is now
			binary.BigEndian.PutUint32(b[n+8:], e.RecentTS)
			n += 12
		}
	} else {
		options := e.makeOptions(blocks)
		n += copy(b[n:], options)
		putOptions(options)
	}
	copy(b, to)
	copy(b[header.EthernetAddressSize:], r.LocalLinkAddress())
	binary.BigEndian.PutUint16(b[ip-2:], uint16(r.NetProto()))
	addresses := e.quickIP(b[ip:tcp], n-tcp+size)

	binary.BigEndian.PutUint16(b[tcp:], e.ID.LocalPort)
	binary.BigEndian.PutUint16(b[tcp+2:], e.ID.RemotePort)
	binary.BigEndian.PutUint32(b[tcp+4:], uint32(seq))
	binary.BigEndian.PutUint32(b[tcp+8:], uint32(ack))
	b[tcp+12], b[tcp+13] = uint8(n-tcp)/4<<4, uint8(flags)
	binary.BigEndian.PutUint16(b[tcp+14:], uint16(min(rcvWnd, math.MaxUint16)))
	binary.BigEndian.PutUint32(b[tcp+16:], 0) // sum, urgent pointer
	xsum := sum16(addresses, uint32(ProtocolNumber)+uint32(n-tcp+size))
	if !open {
		xsum = ^e.quickSum(b[tcp:n], xsum)
	}
	binary.BigEndian.PutUint16(b[tcp+16:], xsum)
	return n
}

// quickIP makes the header of IP in b, in front of size bytes, and returns its part with the addresses.
//
// +checklocks:e.mu
func (e *Endpoint) quickIP(b []byte, size int) []byte {
	r := e.route
	ttl := calculateTTL(r, e.ipv4TTL, e.ipv6HopLimit)
	if len(b) == header.IPv6MinimumSize {
		local, remote := r.LocalAddress().As16(), r.RemoteAddress().As16()
		binary.BigEndian.PutUint32(b, header.IPv6Version<<28|uint32(e.sendTOS)<<20)
		binary.BigEndian.PutUint16(b[4:], uint16(size))
		b[6], b[7] = uint8(ProtocolNumber), ttl
		copy(b[8:], local[:])
		copy(b[24:], remote[:])
		return b[8:]
	}
	local, remote := r.LocalAddress().As4(), r.RemoteAddress().As4()
	binary.BigEndian.PutUint32(b, 4<<28|header.IPv4MinimumSize/4<<24|uint32(e.sendTOS)<<16|uint32(len(b)+size))
	binary.BigEndian.PutUint32(b[4:], header.IPv4FlagDontFragment<<13)
	binary.BigEndian.PutUint32(b[8:], uint32(ttl)<<24|uint32(ProtocolNumber)<<16) // the sum is 0 at first
	copy(b[12:], local[:])
	copy(b[16:], remote[:])
	binary.BigEndian.PutUint16(b[10:], ^sum16(b, 0))
	return b[12:]
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

// sum16 is the sum of RFC 1071 over b, whose length is a multiple of 4 and below 64 KiB, and initial.
func sum16(b []byte, initial uint32) uint16 {
	s := uint64(initial)
	for ; len(b) >= 4; b = b[4:] {
		s += uint64(binary.BigEndian.Uint32(b))
	}
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}
