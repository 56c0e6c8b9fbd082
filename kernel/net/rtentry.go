package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/socket/netlink"
	"gosv/kernel/vfs"
)

// Where the fields of struct rtentry lie (route(7), <net/route.h>).
const (
	rtDst     = 8
	rtGateway = 24
	rtMask    = 40
	rtFlags   = 56
	rtDev     = 88
	sizeRT    = 120
)

// routeRequest is SIOCADDRT and SIOCDELRT: EPERM, EINVAL, EAFNOSUPPORT, ENODEV, EEXIST, ENETUNREACH, ESRCH.
func (n *Network) routeRequest(a *vfs.IoctlArgs) error {
	if !a.Ctx.Cred.CapableIn(n.cfg.Owner, unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	var b [sizeRT]byte
	if _, err := a.Mem.CopyIn(b[:], a.Arg); err != nil {
		return err
	}
	r, err := parseRouteEntry(b[:])
	if err != nil {
		return err
	}
	if at := binary.LittleEndian.Uint64(b[rtDev:]); at != 0 {
		var name [nameSize]byte
		if _, err := a.Mem.CopyIn(name[:], at); err != nil {
			return err
		}
		i, err := n.find(name[:])
		if err != nil {
			return err
		}
		r.Index = int(i.index)
	}
	if a.Cmd == unix.SIOCDELRT {
		return routes{n}.RemoveRoute(r)
	}
	return routes{n}.AddRoute(r)
}

// parseRouteEntry reads all of struct rtentry but the name of the interface: EINVAL, EAFNOSUPPORT.
func parseRouteEntry(b []byte) (r netlink.Route, err error) {
	r = netlink.Route{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}
	if familyOf(b[rtDst:]) != unix.AF_INET {
		return r, unix.EAFNOSUPPORT
	}
	inet := func(at int) []byte { return b[at+4 : at+8] }
	dst, mask, flags := binary.BigEndian.Uint32(inet(rtDst)), binary.BigEndian.Uint32(inet(rtMask)), binary.LittleEndian.Uint16(b[rtFlags:])
	r.Bits = 8 * header.IPv4AddressSize
	if flags&unix.RTF_HOST == 0 {
		if f := familyOf(b[rtMask:]); f != unix.AF_INET && (mask != 0 || f != 0) {
			return r, unix.EAFNOSUPPORT
		}
		if hosts := ^mask; hosts&(hosts+1) != 0 || dst&hosts != 0 {
			return r, unix.EINVAL
		}
		for r.Bits = 0; mask<<r.Bits != 0; {
			r.Bits++
		}
	}
	r.Dst = inet(rtDst)
	if familyOf(b[rtGateway:]) == unix.AF_INET && binary.BigEndian.Uint32(inet(rtGateway)) != 0 {
		r.Gateway = inet(rtGateway)
	}
	if flags&unix.RTF_GATEWAY != 0 && r.Gateway == nil {
		return r, unix.EINVAL
	}
	return r, nil
}
