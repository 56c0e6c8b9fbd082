package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/socket"
	"gosv/kernel/uio"
)

// sendControl takes what the message's ancillary data says of one packet (ip(7), ipv6(7)): EINVAL.
func (k *sock) sendControl(m *socket.Message, o *tcpip.WriteOptions) error {
	for _, c := range m.Control {
		if c.Level == unix.SOL_SOCKET && c.Type == unix.SCM_TIMESTAMPING {
			continue
		}
		v, _ := socket.ParseInt(c.Data) // 0 for those that are no int
		cm := &o.ControlMessages
		switch {
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_TTL:
			if v < 1 || v > 255 {
				return unix.EINVAL
			}
			cm.HasTTL, cm.TTL = true, uint8(v)
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO:
			if len(c.Data) < unix.SizeofInet4Pktinfo {
				return unix.EINVAL
			}
			if k.s.Family == unix.AF_INET {
				pktinfoSource(c.Data, &cm.IPv6PacketInfo)
				cm.HasIPv6PacketInfo = cm.IPv6PacketInfo != (tcpip.IPv6PacketInfo{}) // netstack's field serves both
			}
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_TOS:
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_HOPLIMIT:
			if v < -1 || v > 255 {
				return unix.EINVAL
			}
			if v >= 0 {
				cm.HasHopLimit, cm.HopLimit = true, uint8(v)
			}
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO:
			if len(c.Data) < unix.SizeofInet6Pktinfo {
				return unix.EINVAL
			}
			cm.HasIPv6PacketInfo = true
			cm.IPv6PacketInfo.Addr = tcpip.AddrFrom16([16]byte(c.Data[:16]))
			cm.IPv6PacketInfo.NIC = tcpip.NICID(binary.LittleEndian.Uint32(c.Data[16:]))
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_TCLASS:
		default:
			return unix.EINVAL
		}
	}
	m.Control = nil
	return nil
}

// pktinfoSource reads interface and source address of struct in_pktinfo (ip(7)).
func pktinfoSource(b []byte, to *tcpip.IPv6PacketInfo) {
	to.NIC = tcpip.NICID(binary.LittleEndian.Uint32(b))
	if a := [4]byte(b[4:8]); a != [4]byte{} {
		to.Addr = tcpip.AddrFrom4(a)
	}
}

// receivedControl adds the ancillary data that the options ask for.
func (k *sock) receivedControl(m *socket.Message, c *tcpip.ReceivableControlMessages) {
	add := func(level, typ int, data []byte) {
		m.Control = append(m.Control, socket.Control{Level: level, Type: typ, Data: data})
	}
	if !k.stream() {
		ns := c.Timestamp.UnixNano()
		if k.s.Is(socket.Timestamp) {
			m.AddTime(unix.SCM_TIMESTAMP, ns/1e9, ns%1e9/1000)
		}
		if k.s.Is(socket.TimestampNS) {
			m.AddTime(unix.SCM_TIMESTAMPNS, ns/1e9, ns%1e9)
		}
	}
	if c.HasTOS {
		add(unix.IPPROTO_IP, unix.IP_TOS, []byte{c.TOS})
	}
	if c.HasTTL {
		add(unix.IPPROTO_IP, unix.IP_TTL, socket.Int(int(c.TTL)))
	}
	if c.HasIPPacketInfo {
		add(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo(&c.PacketInfo))
	}
	if c.HasOriginalDstAddress {
		level, typ := unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR
		if k.s.Family == unix.AF_INET6 {
			level, typ = unix.IPPROTO_IPV6, unix.IPV6_RECVORIGDSTADDR
		}
		add(level, typ, formatAddr(k.s.Family, c.OriginalDstAddress))
	}
	if c.HasTClass {
		add(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, socket.Int(int(c.TClass)))
	}
	if c.HasHopLimit {
		add(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, socket.Int(int(c.HopLimit)))
	}
	if c.HasIPv6PacketInfo {
		b := make([]byte, unix.SizeofInet6Pktinfo)
		copy(b, in6(c.IPv6PacketInfo.Addr))
		binary.LittleEndian.PutUint32(b[16:], uint32(c.IPv6PacketInfo.NIC))
		add(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, b)
	}
}

// pktinfo lays out struct in_pktinfo.
func pktinfo(p *tcpip.IPPacketInfo) []byte {
	b := make([]byte, unix.SizeofInet4Pktinfo)
	binary.LittleEndian.PutUint32(b, uint32(p.NIC))
	copy(b[4:], p.LocalAddr.AsSlice())
	copy(b[8:], p.DestinationAddr.AsSlice())
	return b
}

// in6 is an address of either kind as an IPv6 address.
func in6(a tcpip.Address) []byte {
	if a.Len() == header.IPv4AddressSize {
		a = mapped(a)
	}
	return a.AsSlice()
}

// sizeExtendedErr is sizeof(struct sock_extended_err).
const sizeExtendedErr = 16

// receiveError is recvmsg(2) with MSG_ERRQUEUE: the packet that an error is about, and the error (ip(7), IP_RECVERR).
func (k *sock) receiveError(m *socket.Message, dst uio.Sink) (int64, error) {
	if k.receiveCopied(m) {
		return 0, nil
	}
	e := k.ep.SocketOptions().DequeueErr()
	if e == nil {
		m.Nonblock = true // nobody waits for an error
		return 0, unix.EAGAIN
	}
	data := make([]byte, sizeExtendedErr)
	if n, ok := errno(e.Err).(unix.Errno); ok {
		binary.LittleEndian.PutUint32(data, uint32(n))
	}
	data[4], data[5], data[6] = uint8(e.Cause.Origin()), e.Cause.Type(), e.Cause.Code()
	binary.LittleEndian.PutUint32(data[8:], e.Cause.Info())
	level, typ := unix.IPPROTO_IP, unix.IP_RECVERR
	if k.s.Family == unix.AF_INET6 {
		level, typ = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	data = append(data, formatAddr(k.s.Family, e.Offender)...)
	m.Control = append(m.Control, socket.Control{Level: level, Type: typ, Data: data})
	m.Out |= unix.MSG_ERRQUEUE
	if m.WantAddr {
		m.Addr = append(m.Addr, formatAddr(k.s.Family, e.Dst)...)
	}
	b := e.Payload.AsSlice()
	n, err := dst.Put(b)
	if err != nil {
		return 0, err
	}
	if n < len(b) {
		m.Out |= unix.MSG_TRUNC
	}
	return int64(n), nil
}
