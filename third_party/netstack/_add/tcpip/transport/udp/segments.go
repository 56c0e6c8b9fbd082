package udp

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// WriteSegments writes p as one large packet, which the link cuts into datagrams of size bytes of data, and of which it makes the checksums. It
// returns false, and has read nothing of p, when the link does not do that, or such a datagram finds no room in a packet.
func (e *endpoint) WriteSegments(p tcpip.Payloader, opts tcpip.WriteOptions, size int) (bool, tcpip.Error) {
	if err := e.LastError(); err != nil {
		return true, err
	}
	to, err := e.prepareForWrite(p, opts)
	if err != nil {
		return true, err
	}
	defer to.ctx.Release()
	if !to.ctx.SegmentsUDP() || size+header.UDPMinimumSize > int(to.ctx.MTU()) {
		return false, nil
	}
	info := to.ctx.PacketInfo()
	pkt, err := to.ctx.TryNewPacketBufferFromPayloader(header.UDPMinimumSize+int(info.MaxHeaderLength), p)
	if err != nil {
		return true, err
	}
	defer pkt.DecRef()
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	pkt.TransportProtocolNumber = ProtocolNumber
	length := uint16(pkt.Size())
	h.Encode(&header.UDPFields{SrcPort: to.localPort, DstPort: to.remotePort, Length: length,
		Checksum: header.PseudoHeaderChecksum(ProtocolNumber, info.LocalAddress, info.RemoteAddress, length)})
	const checksum = 6 // where it is in the header
	pkt.GSOOptions = stack.GSO{Type: stack.GSOUDP, NeedsCsum: true, CsumOffset: checksum, MSS: uint16(size)}
	if err := to.ctx.WritePacket(pkt, false); err != nil {
		e.stack.Stats().UDP.PacketSendErrors.Increment()
		e.stats.SendErrors.SendToNetworkFailed.Increment()
		return true, err
	}
	e.stack.Stats().UDP.PacketsSent.Increment()
	e.stats.PacketsSent.Increment()
	return true, nil
}
