package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"

	"gosv/kernel/socket"
)

// Options of raw sockets of IPv6 (RFC 3542 §3): which messages of ICMPv6 they take, and IPV6_CHECKSUM as programs may name it too, at SOL_RAW.

const (
	solRaw       = 255 // SOL_RAW
	icmp6Filter  = 1   // ICMP6_FILTER, ICMPV6_FILTER
	sizeFilter   = 32  // struct icmp6_filter: a bit for each type that is not wanted
	icmp6Checked = 2   // where a message of ICMPv6 has its checksum
)

// raw6 reports whether these are options of a raw socket of IPv6.
func (k *sock) raw6(level int) bool {
	return k.s.Family == unix.AF_INET6 && k.s.Type == unix.SOCK_RAW && (level == solRaw || level == unix.IPPROTO_ICMPV6)
}

// filterError is what a socket says that has no filter for messages.
func (k *sock) filterError(name int) error {
	switch {
	case k.s.Protocol != unix.IPPROTO_ICMPV6:
		return unix.EOPNOTSUPP
	case name != icmp6Filter:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (k *sock) setRaw6(level, name int, value []byte) error {
	if level == unix.IPPROTO_ICMPV6 {
		if err := k.filterError(name); err != nil {
			return err
		}
		var f tcpip.ICMPv6Filter
		if err := k.ep.GetSockOpt(&f); err != nil {
			return errno(err)
		}
		for i := 0; i < sizeFilter/4 && len(value) >= 4; i, value = i+1, value[4:] {
			f.DenyType[i] = binary.LittleEndian.Uint32(value)
		}
		return errno(k.ep.SetSockOpt(&f))
	}
	v, err := socket.ParseInt(value)
	switch {
	case err != nil:
		return err
	case name != unix.IPV6_CHECKSUM:
		return unix.ENOPROTOOPT
	case k.s.Protocol != unix.IPPROTO_ICMPV6:
		return k.setOption(nil, unix.IPPROTO_IPV6, name, value)
	case v != icmp6Checked: // netstack always writes it, and there
		return unix.EINVAL
	}
	return nil
}

func (k *sock) getRaw6(level, name int) ([]byte, error) {
	if level == unix.IPPROTO_ICMPV6 {
		if err := k.filterError(name); err != nil {
			return nil, err
		}
		var f tcpip.ICMPv6Filter
		if err := k.ep.GetSockOpt(&f); err != nil {
			return nil, errno(err)
		}
		b := make([]byte, 0, sizeFilter)
		for _, w := range f.DenyType {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		return b, nil
	}
	switch {
	case name != unix.IPV6_CHECKSUM:
		return nil, unix.ENOPROTOOPT
	case k.s.Protocol == unix.IPPROTO_ICMPV6:
		return socket.Int(icmp6Checked), nil
	}
	return k.option(unix.IPPROTO_IPV6, name)
}
