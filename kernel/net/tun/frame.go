package tun

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/netdev"
	"gosv/kernel/uio"
)

// Sizes in bytes.
const (
	etherHeader = 14
	infoHeader  = 4 // struct tun_pi
	maxPacket   = 65535
	maxTag      = 4 // of a VLAN
)

// packetStripped is TUN_PKT_STRIP: not all of the packet has fitted.
const packetStripped = 1

// What struct virtio_net_hdr says (virtio 1.3 section 5.1.6).
const (
	needsChecksum = 1
	gsoNone       = 0
	gsoTCPv4      = 1
	gsoUDPv4      = 3 // one datagram, to be sent in fragments
	gsoTCPv6      = 4
	gsoUDP        = 5
	gsoECN        = 0x80
)

// flow returns what is the same in all packets of a flow: protocol, addresses and ports, and less of what is neither TCP nor UDP.
func flow(frame []byte) []byte {
	b := frame[min(etherHeader, len(frame)):min(flowBytes, len(frame))]
	switch {
	case len(b) >= 24 && b[0] == 0x45 && (b[9] == unix.IPPROTO_TCP || b[9] == unix.IPPROTO_UDP):
		return b[12:24]
	case len(b) >= 20 && b[0]>>4 == 4:
		return b[12:20]
	case len(b) >= 44 && b[0]>>4 == 6 && (b[6] == unix.IPPROTO_TCP || b[6] == unix.IPPROTO_UDP):
		return b[8:44]
	case len(b) >= 40 && b[0]>>4 == 6:
		return b[8:40]
	}
	return nil
}

// deliver gives a packet to a program, with the headers that it has asked for, and returns how much fitted: EINVAL, EFAULT.
func (d *device) deliver(dst uio.Sink, p packet) (int64, error) {
	flags, room := d.flags.Load(), dst.Left()
	head, data := make([]byte, 0, infoHeader+headerSize), p.frame
	if !d.tap {
		data = data[etherHeader:]
	}
	if flags&unix.IFF_VNET_HDR != 0 {
		head = append(head, make([]byte, d.header.Load())...)
	}
	if flags&unix.IFF_NO_PI == 0 {
		var info [infoHeader]byte
		if room < infoHeader+len(head)+len(data) {
			binary.LittleEndian.PutUint16(info[:], packetStripped)
		}
		copy(info[2:], p.frame[etherHeader-2:etherHeader])
		head = append(info[:], head...)
	}
	if room < len(head) {
		return 0, unix.EINVAL
	}
	d.Sent(len(data))
	data = data[:min(len(data), room-len(head))]
	for _, b := range [][]byte{head, data} {
		if n, err := dst.Put(b); n < len(b) {
			return 0, err
		}
	}
	return int64(len(head) + len(data)), nil
}

// accept takes a packet of a program and gives it to the network.
func (d *device) accept(src uio.Source) (int64, error) {
	total := src.Left()
	flags, head := d.flags.Load(), 0
	if flags&unix.IFF_NO_PI == 0 {
		head += infoHeader
	}
	virtio := head
	if flags&unix.IFF_VNET_HDR != 0 {
		head += int(d.header.Load())
	}
	most := maxPacket
	if d.tap {
		most += etherHeader + maxTag
	}
	switch {
	case total < head:
		return 0, unix.EINVAL
	case total-head > most:
		return 0, unix.EMSGSIZE
	}
	room := etherHeader - min(head, etherHeader) // so that a header of Ethernet can be made in front
	b := make([]byte, room+total)
	if n, err := src.Take(b[room:]); n < total {
		if err == nil {
			err = unix.EFAULT
		}
		return 0, err
	}
	given, frame := b[room:room+head], b[room+head:]
	var protocol uint16
	if flags&unix.IFF_NO_PI == 0 {
		protocol = binary.BigEndian.Uint16(given[2:])
	} else if len(frame) > 0 {
		protocol = protocolOf(frame[0])
	}
	var o netdev.Offload
	if flags&unix.IFF_VNET_HDR != 0 {
		var ok bool
		if o, ok = offload(given[virtio:], len(frame)); !ok {
			d.Count.RxErrors.Add(1)
			return 0, unix.EINVAL
		}
	}
	if d.tap && len(frame) < etherHeader || !d.tap && flags&unix.IFF_NO_PI != 0 && protocol == 0 {
		d.Count.RxDropped.Add(1)
		return 0, unix.EINVAL
	}
	if !d.net.Running(&d.plug) {
		d.Count.RxDropped.Add(1)
		return 0, unix.EIO
	}
	d.Received(len(frame))
	if !d.tap {
		frame = b[room+head-etherHeader:]
		clear(frame[:etherHeader])
		binary.BigEndian.PutUint16(frame[etherHeader-2:], protocol)
	}
	if r := d.receiver.Load(); r != nil {
		d.receiving.Lock()
		(*r)([][]byte{frame}, o)
		d.receiving.Unlock()
	}
	return int64(total), nil
}

// protocolOf is the protocol of a packet of IP by its first byte; 0 for none.
func protocolOf(first byte) uint16 {
	switch first >> 4 {
	case 4:
		return unix.ETH_P_IP
	case 6:
		return unix.ETH_P_IPV6
	}
	return 0
}

// offload reads struct virtio_net_hdr in front of a packet of so many bytes: false when it makes no sense. Where sums and headers lie, the
// network finds out itself.
func offload(b []byte, size int) (o netdev.Offload, ok bool) {
	header, segment, start, sum := le.Uint16(b[2:]), le.Uint16(b[4:]), le.Uint16(b[6:]), le.Uint16(b[8:])
	o.Checksum = b[0]&needsChecksum != 0
	if o.Checksum && int(start)+int(sum)+2 > size || int(header) > size {
		return o, false
	}
	o.Size = segment
	switch b[1] &^ gsoECN {
	case gsoNone:
		o.Size = 0
		return o, true
	case gsoTCPv4:
		o.Segment = netdev.TCPv4
	case gsoTCPv6:
		o.Segment = netdev.TCPv6
	case gsoUDP:
		o.Segment = netdev.UDP
	case gsoUDPv4:
	default:
		return o, false
	}
	return o, o.Size > 0
}
