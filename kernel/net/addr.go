package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Sizes of socket addresses, in bytes (ip(7), ipv6(7)).
const (
	sizeInet4     = unix.SizeofSockaddrInet4
	sizeInet6     = unix.SizeofSockaddrInet6
	sizeInet6Old  = 24 // without sin6_scope_id: RFC 2133
	sizeLinkLayer = unix.SizeofSockaddrLinklayer
)

// familyOf returns the family of an address, -1 for one that is too short to have any.
func familyOf(b []byte) int {
	if len(b) < 2 {
		return -1
	}
	return int(binary.LittleEndian.Uint16(b))
}

// mapped is the IPv6 address that stands for an IPv4 address (RFC 4291 §2.5.5.2).
func mapped(a tcpip.Address) tcpip.Address {
	b := [16]byte{10: 0xff, 11: 0xff}
	v4 := a.As4()
	copy(b[12:], v4[:])
	return tcpip.AddrFrom16(b)
}

// parseAddr reads an address for a socket of a family: EINVAL when it is too short, EAFNOSUPPORT
// when it belongs to another. The unspecified address becomes the empty one.
func parseAddr(family int, b []byte) (a tcpip.FullAddress, err error) {
	f := familyOf(b)
	switch {
	case f < 0:
		return a, unix.EINVAL
	case f == unix.AF_INET:
		if len(b) < sizeInet4 {
			return a, unix.EINVAL
		}
		a.Port = binary.BigEndian.Uint16(b[2:])
		if v4 := [4]byte(b[4:8]); v4 != [4]byte{} {
			a.Addr = tcpip.AddrFrom4(v4)
		}
		if family == unix.AF_INET6 {
			// Netstack knows the unspecified address of IPv4 on a socket of IPv6 by its mapped form.
			if a.Addr.Len() == 0 {
				a.Addr = header.IPv4Any
			}
			a.Addr = mapped(a.Addr)
		}
		return a, nil
	case f == unix.AF_INET6 && family == unix.AF_INET6:
		if len(b) < sizeInet6Old {
			return a, unix.EINVAL
		}
		a.Port = binary.BigEndian.Uint16(b[2:])
		v6 := [16]byte(b[8:24])
		if v6 == [16]byte{} {
			return a, nil
		}
		a.Addr = tcpip.AddrFrom16(v6)
		if len(b) >= sizeInet6 && (header.IsV6LinkLocalUnicastAddress(a.Addr) || header.IsV6LinkLocalMulticastAddress(a.Addr)) {
			a.NIC = tcpip.NICID(binary.LittleEndian.Uint32(b[24:]))
		}
		return a, nil
	}
	return a, unix.EAFNOSUPPORT
}

// formatAddr lays out an address for a socket of a family.
func formatAddr(family int, a tcpip.FullAddress) []byte {
	if family == unix.AF_INET {
		b := make([]byte, sizeInet4)
		binary.LittleEndian.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], a.Port)
		if a.Addr.Len() == header.IPv4AddressSize {
			copy(b[4:], a.Addr.AsSlice())
		}
		return b
	}
	b := make([]byte, sizeInet6)
	binary.LittleEndian.PutUint16(b, unix.AF_INET6)
	binary.BigEndian.PutUint16(b[2:], a.Port)
	if a.Addr.Len() == header.IPv4AddressSize {
		a.Addr = mapped(a.Addr)
	}
	copy(b[8:], a.Addr.AsSlice())
	if header.IsV6LinkLocalUnicastAddress(a.Addr) {
		binary.LittleEndian.PutUint32(b[24:], uint32(a.NIC))
	}
	return b
}
