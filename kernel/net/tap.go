package net

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// taps are the packet sockets that look at what interfaces send and receive.
type taps struct {
	count atomic.Int32 // of list
	mu    sync.RWMutex
	list  []*packetSock // guarded by mu
}

func (t *taps) add(p *packetSock) {
	t.mu.Lock()
	t.list = append(t.list[:len(t.list):len(t.list)], p)
	t.count.Store(int32(len(t.list)))
	t.mu.Unlock()
}

func (t *taps) remove(p *packetSock) {
	t.mu.Lock()
	var list []*packetSock
	for _, q := range t.list {
		if q != p {
			list = append(list, q)
		}
	}
	t.list = list
	t.count.Store(int32(len(list)))
	t.mu.Unlock()
}

// any reports whether somebody looks.
func (t *taps) any() bool { return t.count.Load() > 0 }

// A sight is a frame as taps see it.
type sight struct {
	nic      tcpip.NICID
	hardware uint16
	frame    []byte
	bare     bool  // the frame's header is made up
	typ      uint8 // PACKET_HOST and so on
	status   uint32
	from     *packetSock // who sent it and does not see it; nil: the stack
}

// show shows a frame to all who look.
func (t *taps) show(s *sight) {
	if len(s.frame) < header.EthernetMinimumSize {
		return
	}
	t.mu.RLock()
	list := t.list
	t.mu.RUnlock()
	for _, p := range list {
		if p != s.from {
			p.see(s)
		}
	}
}

// whole returns all bytes of a packet that is sent, with its Ethernet header.
func whole(pkt *stack.PacketBuffer) []byte {
	b := make([]byte, 0, pkt.Size())
	for _, s := range pkt.AsSlices() {
		b = append(b, s...)
	}
	return b
}

// sent shows a frame that the interface sends.
func (l *link) sent(pkt *stack.PacketBuffer) {
	s := sight{nic: l.nic, hardware: l.hardware(), bare: l.bare, frame: whole(pkt), typ: unix.PACKET_OUTGOING}
	if g := &pkt.GSOOptions; g.Type != stack.GSONone && g.NeedsCsum {
		s.status = unix.TP_STATUS_CSUMNOTREADY
	}
	l.taps.show(&s)
}

// received shows a frame that the interface has received.
func (l *link) received(frame []byte, typ tcpip.PacketType, open, valid bool) {
	s := sight{nic: l.nic, hardware: l.hardware(), bare: l.bare, frame: frame}
	switch typ {
	case tcpip.PacketBroadcast:
		s.typ = unix.PACKET_BROADCAST
	case tcpip.PacketMulticast:
		s.typ = unix.PACKET_MULTICAST
	case tcpip.PacketOtherHost:
		s.typ = unix.PACKET_OTHERHOST
	}
	switch {
	case open:
		s.status = unix.TP_STATUS_CSUMNOTREADY
	case valid:
		s.status = unix.TP_STATUS_CSUM_VALID
	}
	l.taps.show(&s)
}

// transmit sends a frame of a packet socket, which the firewall sees as all others: ENXIO, EMSGSIZE, ENETDOWN, ENOBUFS.
func (n *Network) transmit(nic tcpip.NICID, frame []byte, from *packetSock) error {
	protocol := tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(frame[12:]))
	if !n.stack.CheckNIC(nic) && (nic == Loopback || n.link(nic) != nil) {
		return unix.ENETDOWN
	}
	if nic == Loopback {
		n.lo.shown(frame, from)
		n.lo.deliver(protocol, buffer.MakeWithData(frame[header.EthernetMinimumSize:]))
		return nil
	}
	l := n.link(nic)
	if l == nil {
		return unix.ENXIO
	}
	if len(frame) > int(l.MTU())+header.EthernetMinimumSize {
		return unix.EMSGSIZE
	}
	n.taps.show(&sight{nic: nic, hardware: l.hardware(), bare: l.bare, frame: frame, typ: unix.PACKET_OUTGOING, from: from})
	if l.wall != nil && !l.wall.pass(protocol, frame[header.EthernetMinimumSize:], false) {
		return nil // to the sender it is one that was lost
	}
	err := l.dev.Send([][]byte{frame}, noOffload)
	l.dev.Flush()
	return err
}

// lo is the loopback interface, at which taps may look: frames have an Ethernet header of zeroes there.
type lo struct {
	stack.LinkEndpoint
	taps *taps
	to   atomic.Pointer[stack.NetworkDispatcher]
}

func newLo(t *taps) *lo { return &lo{LinkEndpoint: loopback.New(), taps: t} }

// Attach implements stack.LinkEndpoint.
func (l *lo) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.to.Store(nil)
	} else {
		l.to.Store(&d)
	}
	l.LinkEndpoint.Attach(d)
}

// WritePackets implements stack.LinkEndpoint.
func (l *lo) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	if l.taps.any() {
		for _, pkt := range pkts.AsSlice() {
			frame := append(make([]byte, header.EthernetMinimumSize), whole(pkt)...)
			binary.BigEndian.PutUint16(frame[12:], uint16(pkt.NetworkProtocolNumber))
			l.shown(frame, nil)
		}
	}
	return l.LinkEndpoint.WritePackets(pkts)
}

// shown shows a frame as it is sent and as it is received.
func (l *lo) shown(frame []byte, from *packetSock) {
	s := sight{nic: Loopback, hardware: unix.ARPHRD_LOOPBACK, frame: frame, typ: unix.PACKET_OUTGOING, status: unix.TP_STATUS_CSUMNOTREADY, from: from}
	l.taps.show(&s)
	s.typ, s.from = unix.PACKET_HOST, nil
	l.taps.show(&s)
}

// deliver gives a packet to the stack.
func (l *lo) deliver(protocol tcpip.NetworkProtocolNumber, b buffer.Buffer) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: b})
	defer pkt.DecRef()
	if d := l.to.Load(); d != nil {
		(*d).DeliverNetworkPacket(protocol, pkt)
	}
}
