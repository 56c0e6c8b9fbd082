package net

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"gosv/kernel/netdev"
)

// link is an Ethernet interface of netstack over a device: a stack.LinkEndpoint.
//
// TCP leaves checksums and segmentation to the device where that can do both for
// both families; else netstack makes segments itself, out of one pass of TCP. All other checksums are netstack's.
//
// One that is bare carries packets of IP alone: the header of its frames has nothing but the protocol, and
// neither the program behind the device nor packet sockets see it.
type link struct {
	nic  tcpip.NICID
	bare bool
	plug *Plug // nil for eth0
	taps *taps
	dev  netdev.Device
	mac  atomic.Pointer[tcpip.LinkAddress]
	mtu  uint32
	gso  stack.SupportedGSO
	udp  bool      // large packets of UDP are left to the device, too
	wall *firewall // nil without rules
	// asked, when not nil, takes the answers that the kernel itself has asked for, which so pass the firewall.
	asked      func(frame []byte, checked bool) bool
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	filter     filter
}

var _ stack.LinkEndpoint = (*link)(nil)
var _ stack.GSOEndpoint = (*link)(nil)

func newLink(dev netdev.Device, t *taps) *link {
	mac := dev.MAC()
	l := &link{nic: Ethernet, dev: dev, taps: t, mtu: uint32(dev.MTU()), gso: stack.GVisorGSOSupported}
	if f := dev.Features(); f.Checksum && f.TCPv4 && f.TCPv6 {
		l.gso = stack.HostGSOSupported
	}
	l.udp = dev.Features().Checksum && dev.Features().UDP
	l.SetLinkAddress(tcpip.LinkAddress(mac[:]))
	return l
}

// maxSegments bounds a large packet, in bytes: an IP packet's length has 16 bits.
const maxSegments = 65535 - header.IPv6MinimumSize - header.TCPHeaderMaximumSize

// GSOMaxSize implements stack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return maxSegments }

// SupportedGSO implements stack.GSOEndpoint.
func (l *link) SupportedGSO() stack.SupportedGSO { return l.gso }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return atomic.LoadUint32(&l.mtu) }

// SetMTU implements stack.LinkEndpoint; a device that takes less will say so when something is sent.
func (l *link) SetMTU(mtu uint32) { atomic.StoreUint32(&l.mtu, mtu) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (*link) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress implements stack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return *l.mac.Load() }

// SetLinkAddress implements stack.LinkEndpoint.
func (l *link) SetLinkAddress(a tcpip.LinkAddress) { l.mac.Store(&a) }

// Capabilities implements stack.LinkEndpoint.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	if l.bare || l.plug != nil && l.plug.NoARP {
		return stack.CapabilityNone
	}
	return stack.CapabilityResolutionRequired
}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// Wait implements stack.LinkEndpoint.
func (*link) Wait() {}

// Close implements stack.LinkEndpoint.
func (*link) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (*link) SetOnCloseAction(func()) {}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType {
	if l.bare {
		return header.ARPHardwareNone
	}
	return header.ARPHardwareEther
}

// hardware is its type as ARPHRD_ has it.
func (l *link) hardware() uint16 {
	if l.bare {
		return unix.ARPHRD_NONE
	}
	return unix.ARPHRD_ETHER
}

// AddHeader implements stack.LinkEndpoint.
func (*link) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress, DstAddr: pkt.EgressRoute.RemoteLinkAddress, Type: pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (*link) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// WritePackets implements stack.LinkEndpoint.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	sent := 0
	for _, pkt := range pkts.AsSlice() {
		if l.wall != nil && !l.wall.pass(pkt.NetworkProtocolNumber, behindLink(pkt), false) {
			sent++ // to the stack it is one that was lost
			continue
		}
		if l.taps.any() {
			l.sent(pkt)
		}
		if err := l.dev.Send(pkt.AsSlices(), offload(pkt)); err != nil {
			break
		}
		sent++
	}
	l.dev.Flush()
	if sent == 0 {
		return 0, &tcpip.ErrNoBufferSpace{}
	}
	return sent, nil
}

// SendSegment takes segments that are frames already: it is the stack.QuickLink of scripts/netstack. Who looks at frames, or chooses among
// them, does so in WritePackets.
func (l *link) SendSegment(protocol tcpip.NetworkProtocolNumber, parts [][]byte, mss int, open bool) (bool, tcpip.Error) {
	if l.wall != nil || l.taps.any() {
		return false, nil
	}
	var o netdev.Offload
	if open {
		o.Checksum, o.Start, o.Offset = true, header.EthernetMinimumSize+header.IPv4MinimumSize, header.TCPChecksumOffset
		if protocol == header.IPv6ProtocolNumber {
			o.Start = header.EthernetMinimumSize + header.IPv6MinimumSize
		}
	}
	if mss > 0 {
		o.Segment, o.Size, o.Header = netdev.TCPv4, uint16(mss), uint16(len(parts[0]))
		if protocol == header.IPv6ProtocolNumber {
			o.Segment = netdev.TCPv6
		}
	}
	if l.dev.Send(parts, o) != nil {
		return true, &tcpip.ErrNoBufferSpace{}
	}
	return true, nil
}

// FlushSegments makes the device look.
func (l *link) FlushSegments() { l.dev.Flush() }

// behindLink returns the headers of a packet that is sent, and a little more.
func behindLink(pkt *stack.PacketBuffer) []byte {
	b := pkt.ToBuffer()
	defer b.Release()
	b.TrimFront(int64(len(pkt.LinkHeader().Slice())))
	head := make([]byte, min(b.Size(), 256))
	n, _ := b.ReadAt(head, 0) // it says io.EOF at the end
	return head[:n]
}

// offload says what of pkt is left to the device.
func offload(pkt *stack.PacketBuffer) (o netdev.Offload) {
	g := &pkt.GSOOptions
	if g.Type != stack.GSOTCPv4 && g.Type != stack.GSOTCPv6 && g.Type != gsoUDP || !g.NeedsCsum {
		return o
	}
	o.Checksum = true
	o.Start = header.EthernetMinimumSize + uint16(len(pkt.NetworkHeader().Slice()))
	o.Offset = g.CsumOffset
	if pkt.Data().Size() <= int(g.MSS) {
		return o
	}
	o.Segment, o.Size = netdev.TCPv4, g.MSS
	switch g.Type {
	case stack.GSOTCPv6:
		o.Segment = netdev.TCPv6
	case gsoUDP:
		o.Segment = netdev.UDP
	}
	o.Header = o.Start + uint16(len(pkt.TransportHeader().Slice()))
	return o
}

// A quickReceiver is an interface of netstack with what scripts/netstack adds: it says false, and has done nothing, of all but segments of
// connections.
type quickReceiver interface {
	DeliverQuick(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) bool
}

// tooLong says that a frame of so many bytes is more than the interface takes of one that it is joined with: its MTU, and a tag of a VLAN.
func (l *link) tooLong(size int, o netdev.Offload) bool {
	const tag = 4
	return l.plug != nil && l.plug.Peer != nil && o.Segment == netdev.Whole && size > int(l.MTU())+header.EthernetMinimumSize+tag
}

// receive takes a frame from the device. What the device says of segments is not needed of TCP, which takes segments
// of any size; datagrams are what was sent. What it says of checksums is believed, since whoever can forge that can forge the sum as well.
func (l *link) receive(parts [][]byte, o netdev.Offload) {
	d := l.dispatcher.Load()
	if d == nil || len(parts) == 0 {
		return
	}
	if o.Segment == netdev.UDP {
		l.receiveUDP(parts, o)
		return
	}
	size := sizeOf(parts)
	if l.tooLong(size, o) {
		return
	}
	v := buffer.NewView(size)
	for _, p := range parts {
		_, _ = v.Write(p) // there is room
	}
	if l.asked != nil && l.asked(v.AsSlice(), o.Checksum || o.Valid) {
		v.Release()
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	defer pkt.DecRef()
	b, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	if !ok {
		return
	}
	eth := header.Ethernet(b)
	dst := eth.DestinationAddress()
	switch {
	case l.bare:
		pkt.PktType = tcpip.PacketHost
	case dst == header.EthernetBroadcastAddress:
		pkt.PktType = tcpip.PacketBroadcast
	case header.IsMulticastEthernetAddress(dst):
		pkt.PktType = tcpip.PacketMulticast
	case dst == l.LinkAddress():
		pkt.PktType = tcpip.PacketHost
	default:
		pkt.PktType = tcpip.PacketOtherHost
	}
	if l.taps.any() {
		l.received(v.AsSlice(), pkt.PktType, o.Checksum, o.Valid)
	}
	if l.wall != nil && !l.wall.pass(eth.Type(), v.AsSlice()[header.EthernetMinimumSize:], true) {
		return
	}
	pkt.RXChecksumValidated = o.Checksum || o.Valid
	if q, ok := (*d).(quickReceiver); ok && q.DeliverQuick(eth.Type(), pkt) {
		return
	}
	(*d).DeliverNetworkPacket(eth.Type(), pkt)
}
