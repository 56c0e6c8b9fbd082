package dhcp

import "encoding/binary"

var be = binary.BigEndian

// Sizes and numbers of what carries the messages.
const (
	ethernetSize = 14
	ipv4Size     = 20
	ipv6Size     = 40
	udpSize      = 8

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoUDP  = 17

	client4Port, server4Port = 68, 67
	client6Port, server6Port = 546, 547
)

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A Datagram is one of UDP that is for a client.
type Datagram struct {
	From    [6]byte // address of Ethernet of who sent it
	V6      bool
	Payload []byte
}

// Parse reads the frame of a datagram for a client: ok is false for all other frames, for fragments, and for those with a wrong sum
// unless the device has checked them.
func Parse(frame []byte, checked bool) (d Datagram, ok bool) {
	if len(frame) < ethernetSize {
		return d, false
	}
	copy(d.From[:], frame[6:])
	b := frame[ethernetSize:]
	var pseudo uint32
	switch be.Uint16(frame[12:]) {
	case etherIPv4:
		if len(b) < ipv4Size || b[0]>>4 != 4 || b[9] != protoUDP || be.Uint16(b[6:])&0x3fff != 0 {
			return d, false
		}
		n, total := int(b[0]&15)*4, int(be.Uint16(b[2:]))
		if n < ipv4Size || total < n+udpSize || total > len(b) || sum(0, b[:n]) != 0xffff {
			return d, false
		}
		pseudo = pseudoSum(b[12:20], total-n)
		b = b[n:total]
	case etherIPv6:
		if len(b) < ipv6Size || b[0]>>4 != 6 || b[6] != protoUDP {
			return d, false
		}
		total := int(be.Uint16(b[4:]))
		if total < udpSize || ipv6Size+total > len(b) {
			return d, false
		}
		pseudo = pseudoSum(b[8:40], total)
		b, d.V6 = b[ipv6Size:ipv6Size+total], true
	default:
		return d, false
	}
	from, to := uint16(server4Port), uint16(client4Port)
	if d.V6 {
		from, to = server6Port, client6Port
	}
	n := int(be.Uint16(b[4:]))
	if be.Uint16(b) != from && !d.V6 || be.Uint16(b[2:]) != to || n < udpSize || n > len(b) {
		return d, false
	}
	if !checked && (d.V6 || be.Uint16(b[6:]) != 0) && sum(pseudo, b[:n]) != 0xffff {
		return d, false
	}
	d.Payload = b[udpSize:n]
	return d, true
}

// sum adds the words of b to s (RFC 1071).
func sum(s uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(be.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// pseudoSum is the sum over the pseudo-header of UDP: both addresses, the protocol and the length.
func pseudoSum(addresses []byte, size int) uint32 {
	return uint32(sum(protoUDP+uint32(size), addresses))
}

// frame4 makes a frame of a message to a server.
func frame4(src, dst [6]byte, from, to IPv4, payload []byte) []byte {
	b := make([]byte, ethernetSize+ipv4Size+udpSize, ethernetSize+ipv4Size+udpSize+len(payload))
	ethernet(b, src, dst, etherIPv4)
	h := b[ethernetSize:]
	h[0], h[8], h[9] = 0x45, 64, protoUDP
	be.PutUint16(h[2:], uint16(ipv4Size+udpSize+len(payload)))
	copy(h[12:], from[:])
	copy(h[16:], to[:])
	be.PutUint16(h[10:], ^sum(0, h[:ipv4Size]))
	return udp(b, ethernetSize+ipv4Size, client4Port, server4Port, pseudoSum(h[12:20], udpSize+len(payload)), payload)
}

// frame6 makes a frame of a message to all servers and relays (ff02::1:2, RFC 8415 §7.1).
func frame6(src [6]byte, payload []byte) []byte {
	b := make([]byte, ethernetSize+ipv6Size+udpSize, ethernetSize+ipv6Size+udpSize+len(payload))
	ethernet(b, src, [6]byte{0x33, 0x33, 0, 1, 0, 2}, etherIPv6)
	h := b[ethernetSize:]
	h[0], h[6], h[7] = 0x60, protoUDP, 1
	be.PutUint16(h[4:], uint16(udpSize+len(payload)))
	from := LinkLocal(src)
	copy(h[8:], from[:])
	to := IPv6{0: 0xff, 1: 2, 13: 1, 15: 2}
	copy(h[24:], to[:])
	return udp(b, ethernetSize+ipv6Size, client6Port, server6Port, pseudoSum(h[8:40], udpSize+len(payload)), payload)
}

func ethernet(b []byte, src, dst [6]byte, typ uint16) {
	copy(b, dst[:])
	copy(b[6:], src[:])
	be.PutUint16(b[12:], typ)
}

// udp fills the header of UDP at a place of b and puts the payload behind it.
func udp(b []byte, at int, from, to uint16, pseudo uint32, payload []byte) []byte {
	h := b[at:]
	be.PutUint16(h, from)
	be.PutUint16(h[2:], to)
	be.PutUint16(h[4:], uint16(udpSize+len(payload)))
	b = append(b, payload...)
	s := ^sum(pseudo, b[at:])
	if s == 0 {
		s = 0xffff // 0 would say that there is none
	}
	be.PutUint16(b[at+6:], s)
	return b
}

// LinkLocal is the address that an interface has by its MAC (RFC 4862 §5.3, RFC 4291 appendix A).
func LinkLocal(mac [6]byte) IPv6 {
	return IPv6{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
}
