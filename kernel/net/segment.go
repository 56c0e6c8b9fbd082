package net

import (
	"encoding/binary"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/socket"
	"gosv/kernel/uio"
)

// UDP_SEGMENT sends many datagrams of one size with one call, UDP_GRO receives them so (Linux 6.1's udp(7) has neither;
// net/ipv4/udp.c, udp_send_skb and udp_gro_receive).

// maxSegmentsUDP is UDP_MAX_SEGMENTS, 64 until Linux 6.8.
const maxSegmentsUDP = 128

// udpSegment takes UDP_SEGMENT out of a message's ancillary data, or what the option says; 0 for none: EINVAL.
func (k *sock) udpSegment(m *socket.Message) (int, error) {
	size, rest := int(k.segment.Load()), m.Control[:0:0]
	for _, c := range m.Control {
		switch {
		case c.Level != unix.IPPROTO_UDP:
			rest = append(rest, c)
		case c.Type != unix.UDP_SEGMENT || len(c.Data) != 2:
			return 0, unix.EINVAL
		default:
			size = int(binary.LittleEndian.Uint16(c.Data))
		}
	}
	if len(rest) != len(m.Control) {
		m.Control = rest
	}
	return size, nil
}

// sendSegments sends src as datagrams of size bytes, the last of which may have less: EINVAL for more than 128, or larger ones than a packet holds. When one behind the first
// fails it returns how many bytes were sent before. A device's queue waits for room; what finds none nevertheless fails with IP_RECVERR only (net/ipv4/udp.c).
func (k *sock) sendSegments(src uio.Source, o *tcpip.WriteOptions, size int) (int64, error) {
	total := src.Left()
	if k.ep.SocketOptions().GetNoChecksum() || total > size*maxSegmentsUDP || size > k.datagramRoom(o) {
		return 0, unix.EINVAL
	}
	if n, done, err := k.leaveSegments(src, o, size); done {
		return n, err
	}
	b := make([]byte, size)
	for sent := 0; sent < total; sent += size {
		part := b[:min(size, total-sent)]
		if n, err := src.Take(part); n < len(part) {
			if err == nil {
				err = unix.EFAULT
			}
			return 0, err
		}
		all := uio.Buffer(part)
		switch _, err := k.ep.Write(source{&all}, *o); {
		case err != nil && sent == 0:
			return 0, errno(err)
		case err != nil:
			return int64(sent), nil
		}
	}
	return int64(total), nil
}

// datagramRoom is how much data a packet to where o says holds; more than any datagram has when that is not known, which is for the send to say.
func (k *sock) datagramRoom(o *tcpip.WriteOptions) int {
	to, err := k.ep.GetRemoteAddress()
	if o.To != nil {
		to = *o.To
	} else if err != nil {
		return maxDatagram
	}
	protocol := header.IPv4ProtocolNumber
	if a := to.Addr; a.Len() == header.IPv6AddressSize {
		if v4 := a.As16(); header.IsV4MappedAddress(a) {
			to.Addr = tcpip.AddrFrom4Slice(v4[12:])
		} else {
			protocol = header.IPv6ProtocolNumber
		}
	}
	r, err := k.net.Stack().FindRoute(to.NIC, tcpip.Address{}, to.Addr, protocol, false)
	if err != nil {
		return maxDatagram
	}
	defer r.Release()
	return int(r.MTU()) - header.UDPMinimumSize
}

// receiveGRO receives a datagram, and with it those behind it that are like it (UDP_GRO).
func (k *sock) receiveGRO(m *socket.Message, dst uio.Sink) (int64, error) {
	k.groMu.Lock()
	defer k.groMu.Unlock()
	var r tcpip.ReadResult
	n, err := k.receiveOne(m, dst, true, &r)
	if err != nil || m.Flags&unix.MSG_PEEK != 0 || n != r.Total {
		return int64(n), err
	}
	return k.receiveMore(m, dst, &r, n), nil
}

// receiveMore adds the datagrams behind one of n bytes that are like it (r) to what was received, as long as they have as many bytes and there is
// room; one with less ends it. k.groMu is held.
//
// +checklocks:k.groMu
func (k *sock) receiveMore(m *socket.Message, dst uio.Sink, r *tcpip.ReadResult, n int) int64 {
	size, total, count := n, n, 1
	for ; count < maxSegmentsUDP && size > 0 && dst.Left() > 0; count++ {
		next, err := k.ep.Read(io.Discard, tcpip.ReadOptions{Peek: true, NeedRemoteAddr: true})
		if err != nil || next.Total == 0 || next.Total > min(size, dst.Left()) || total+next.Total > maxDatagram || !alike(r, &next) {
			break
		}
		got, err := k.ep.Read(datagram{dst}, tcpip.ReadOptions{})
		if err != nil {
			break // the program's memory: the datagram is lost, as the only one would be
		}
		total += got.Total
		if got.Total < size {
			count++
			break
		}
	}
	if count > 1 {
		m.Control = append(m.Control, socket.Control{Level: unix.IPPROTO_UDP, Type: unix.UDP_GRO, Data: socket.Int(size)})
	}
	return int64(total)
}

// alike says that two datagrams differ in their data and time only.
func alike(a, b *tcpip.ReadResult) bool {
	x, y := a.ControlMessages, b.ControlMessages
	x.Timestamp, y.Timestamp = time.Time{}, time.Time{}
	return a.RemoteAddr == b.RemoteAddr && x.HasTOS == y.HasTOS && x.TOS == y.TOS && x.HasTTL == y.HasTTL && x.TTL == y.TTL && x.HasHopLimit == y.HasHopLimit && x.HopLimit == y.HopLimit &&
		x.HasTClass == y.HasTClass && x.TClass == y.TClass && x.HasIPPacketInfo == y.HasIPPacketInfo && x.PacketInfo == y.PacketInfo &&
		x.HasIPv6PacketInfo == y.HasIPv6PacketInfo && x.IPv6PacketInfo == y.IPv6PacketInfo &&
		x.HasOriginalDstAddress == y.HasOriginalDstAddress && x.OriginalDstAddress == y.OriginalDstAddress
}
