package net

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"gosv/kernel/netdev"
	"gosv/kernel/uio"
)

// gsoUDP marks a large packet of UDP, as stack.GSOTCPv4 does one of TCP: it is the stack.GSOUDP of scripts/netstack.
const gsoUDP stack.GSOType = 16

// SegmentsUDP reports whether the link cuts large packets of UDP, of both families: it is the stack.UDPSegmenter of scripts/netstack.
func (l *link) SegmentsUDP() bool { return l.udp }

// largestUDP bounds the data of a large packet, in bytes: with any header of IP, its length has 16 bits.
const largestUDP = 65535 - header.IPv6MinimumSize - header.UDPMinimumSize

// A segmentWriter is an endpoint of netstack with what scripts/netstack adds: it says false, and has done nothing, when the link that the
// datagrams would take does not cut packets.
type segmentWriter interface {
	WriteSegments(p tcpip.Payloader, o tcpip.WriteOptions, size int) (bool, tcpip.Error)
}

// leaveSegments sends src as one large packet, which the link cuts into datagrams of size bytes; done says that it did, or why it
// could not.
func (k *sock) leaveSegments(src uio.Source, o *tcpip.WriteOptions, size int) (n int64, done bool, err error) {
	w, ok := k.ep.(segmentWriter)
	total := src.Left()
	if !ok || total > largestUDP {
		return 0, false, nil
	}
	done, e := w.WriteSegments(source{src}, *o, size)
	if e != nil {
		return 0, true, errno(e)
	}
	return int64(total), done, nil
}

// A largeUDP is a large packet of UDP that was received (virtio 1.3 section 5.1.6).
type largeUDP struct {
	head []byte   // headers of Ethernet, IP and UDP
	data [][]byte // what is behind them, and perhaps a frame's padding
	size int      // of the data, in bytes
	udp  int      // where in head the header of UDP begins
	v6   bool
}

// maxHeadUDP is the most that its headers have, in bytes.
const maxHeadUDP = header.EthernetMinimumSize + header.IPv4MaximumHeaderSize + header.UDPMinimumSize

// parseLargeUDP takes a frame apart; false when it is no whole datagram over IPv4 or over IPv6 without extensions, or a length or the sum of a
// header is wrong.
func parseLargeUDP(parts [][]byte) (p largeUDP, ok bool) {
	size, head := 0, make([]byte, 0, maxHeadUDP)
	for _, b := range parts {
		size += len(b)
		head = append(head, b[:min(len(b), maxHeadUDP-len(head))]...)
	}
	if len(head) < header.EthernetMinimumSize {
		return p, false
	}
	b, length := head[header.EthernetMinimumSize:], 0 // of the datagram
	switch header.Ethernet(head).Type() {
	case header.IPv4ProtocolNumber:
		h := header.IPv4(b)
		if !h.IsValid(size-header.EthernetMinimumSize) || len(b) < int(h.HeaderLength()) || !h.IsChecksumValid() ||
			h.TransportProtocol() != header.UDPProtocolNumber || h.More() || h.FragmentOffset() != 0 {
			return p, false
		}
		p.udp, length = header.EthernetMinimumSize+int(h.HeaderLength()), int(h.PayloadLength())
	case header.IPv6ProtocolNumber:
		h := header.IPv6(b)
		if !h.IsValid(size-header.EthernetMinimumSize) || tcpip.TransportProtocolNumber(h.NextHeader()) != header.UDPProtocolNumber {
			return p, false
		}
		p.udp, length, p.v6 = header.EthernetMinimumSize+header.IPv6MinimumSize, int(h.PayloadLength()), true
	default:
		return p, false
	}
	at := p.udp + header.UDPMinimumSize
	if length <= header.UDPMinimumSize || len(head) < at || int(header.UDP(head[p.udp:]).Length()) != length {
		return p, false
	}
	p.head, p.size = head[:at], length-header.UDPMinimumSize
	p.data = skip(parts, at)
	return p, true
}

// skip returns the parts b without their first n bytes, as a list of its own.
func skip(b [][]byte, n int) (rest [][]byte) {
	for _, p := range b {
		k := min(n, len(p))
		n -= k
		rest = append(rest, p[k:])
	}
	return rest
}

// cut calls f with each datagram of size bytes, the last of which may have less: its frame, as parts that are valid during the call, and where
// its sum is left open. It is false, and does nothing, when they would be more than UDP_SEGMENT can send, or without data. It is called once.
func (p *largeUDP) cut(size int, f func(parts [][]byte, o netdev.Offload)) bool {
	if size == 0 || p.size > size*maxSegmentsUDP {
		return false
	}
	o := netdev.Offload{Checksum: true, Start: uint16(p.udp), Offset: udpChecksum}
	id := uint16(0)
	if !p.v6 {
		id = header.IPv4(p.head[header.EthernetMinimumSize:]).ID()
	}
	var parts [][]byte
	rest := p.data
	for left := p.size; left > 0; {
		n := min(left, size)
		p.describe(n, id)
		parts = append(parts[:0], p.head)
		for want := n; want > 0; {
			b := rest[0][:min(want, len(rest[0]))]
			parts = append(parts, b)
			want -= len(b)
			if rest[0] = rest[0][len(b):]; len(rest[0]) == 0 {
				rest = rest[1:]
			}
		}
		f(parts, o)
		left -= n
		id++
	}
	return true
}

// udpChecksum is where in a header of UDP its sum is.
const udpChecksum = 6

// describe makes head that of a datagram with n bytes of data.
func (p *largeUDP) describe(n int, id uint16) {
	b, length := p.head[header.EthernetMinimumSize:], uint16(n+header.UDPMinimumSize)
	var src, dst tcpip.Address
	if p.v6 {
		h := header.IPv6(b)
		h.SetPayloadLength(length)
		src, dst = h.SourceAddress(), h.DestinationAddress()
	} else {
		h := header.IPv4(b)
		h.SetTotalLength(uint16(h.HeaderLength()) + length)
		h.SetID(id)
		h.SetChecksum(0)
		h.SetChecksum(^h.CalculateChecksum())
		src, dst = h.SourceAddress(), h.DestinationAddress()
	}
	u := header.UDP(p.head[p.udp:])
	u.SetLength(length)
	u.SetChecksum(header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, length))
}

// receiveUDP takes a large packet of UDP from the device, as the datagrams in it. One whose sum the device does not vouch for is dropped,
// as are those that make no sense.
func (l *link) receiveUDP(parts [][]byte, o netdev.Offload) {
	if p, ok := parseLargeUDP(parts); ok && (o.Checksum || o.Valid) {
		p.cut(int(o.Size), l.receive)
	}
}
