package net

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"gosv/kernel/netdev"
)

// filter is who wants an interface to receive all frames on its wire. A device that is no netdev.Filter does so anyway.
type filter struct {
	mu    sync.Mutex
	users int         // +checklocks:mu
	flag  atomic.Bool // IFF_PROMISC, one of the users; changed with mu held
}

// promiscuous counts a user of the mode that comes or goes. What the device does not do it was asked in vain, as on Linux.
func (l *link) promiscuous(on bool) {
	l.filter.mu.Lock()
	defer l.filter.mu.Unlock()
	l.promiscuousLocked(on)
}

// +checklocks:l.filter.mu
func (l *link) promiscuousLocked(on bool) {
	before := l.filter.users > 0
	if on {
		l.filter.users++
	} else {
		l.filter.users--
	}
	if f, ok := l.dev.(netdev.Filter); ok && before != (l.filter.users > 0) {
		_ = f.Promiscuous(on)
	}
}

// setPromiscuousFlag is IFF_PROMISC of SIOCSIFFLAGS.
func (l *link) setPromiscuousFlag(on bool) {
	l.filter.mu.Lock()
	defer l.filter.mu.Unlock()
	if l.filter.flag.Swap(on) != on {
		l.promiscuousLocked(on)
	}
}

// setHardwareAddress gives an interface another address: EADDRNOTAVAIL for one of a group or none, EOPNOTSUPP where the device keeps its own.
func (n *Network) setHardwareAddress(nic tcpip.NICID, mac []byte) error {
	a := tcpip.LinkAddress(mac)
	l := n.link(nic)
	if l == nil {
		return unix.EOPNOTSUPP
	}
	to, can := l.dev.(netdev.Filter)
	switch {
	case !can || l.bare:
		return unix.EOPNOTSUPP
	case len(mac) != header.EthernetAddressSize:
		return unix.EINVAL
	case header.IsMulticastEthernetAddress(a) || [6]byte(mac) == [6]byte{}:
		return unix.EADDRNOTAVAIL
	}
	if err := to.SetMAC([6]byte(mac)); err != nil {
		return err
	}
	if err := n.Stack().SetNICAddress(nic, a); err != nil {
		return errno(err)
	}
	if l.Capabilities()&stack.CapabilityResolutionRequired == 0 {
		return nil
	}
	// Neighbours learn of it when they are asked for theirs again.
	for _, protocol := range []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber, header.IPv6ProtocolNumber} {
		if err := n.Stack().ClearNeighbors(nic, protocol); err != nil {
			return errno(err)
		}
	}
	return nil
}

// A membership is what a packet socket has asked an interface to receive (packet(7)).
type membership struct {
	nic  int32
	typ  uint16
	addr [8]byte
	size uint16 // of addr
	at   *link  // that it is with; nil for lo
}

const (
	sizeMembership = 16 // of struct packet_mreq
	maxMemberships = 256
)

// wide says that it needs the promiscuous mode: for other addresses of one host too, since one filter serves all. Groups come anyway.
func (m *membership) wide() bool {
	return m.typ == unix.PACKET_MR_PROMISC || m.typ == unix.PACKET_MR_UNICAST
}

// member is PACKET_ADD_MEMBERSHIP and PACKET_DROP_MEMBERSHIP, which lets one pass that is not there, as Linux: ENODEV, EINVAL, ENOBUFS.
func (p *packetSock) member(value []byte, add bool) error {
	if len(value) < sizeMembership {
		return unix.EINVAL
	}
	le := binary.LittleEndian
	m := membership{nic: int32(le.Uint32(value)), typ: le.Uint16(value[4:]), size: le.Uint16(value[6:])}
	if m.typ > unix.PACKET_MR_UNICAST || int(m.size) > len(m.addr) {
		return unix.EINVAL
	}
	copy(m.addr[:m.size], value[8:])
	p.membersMu.Lock()
	defer p.membersMu.Unlock()
	if !add {
		for i, old := range p.members {
			if m.at = old.at; old == m {
				p.members = append(p.members[:i], p.members[i+1:]...)
				p.leave(&m)
				return nil
			}
		}
		return nil
	}
	switch {
	case p.net.device(tcpip.NICID(m.nic)) != nil:
		return unix.ENODEV
	case m.size > header.EthernetAddressSize:
		return unix.EINVAL
	case len(p.members) == maxMemberships:
		return unix.ENOBUFS
	case p.gone:
		return unix.EBADF
	}
	if m.at = p.net.link(tcpip.NICID(m.nic)); m.at != nil && m.wide() {
		m.at.promiscuous(true)
	}
	p.members = append(p.members, m)
	return nil
}

// leave undoes a membership.
func (p *packetSock) leave(m *membership) {
	if m.at != nil && m.wide() {
		m.at.promiscuous(false)
	}
}

// leaveAll ends those that a closed socket still has.
func (p *packetSock) leaveAll() {
	p.membersMu.Lock()
	defer p.membersMu.Unlock()
	p.gone = true
	for i := range p.members {
		p.leave(&p.members[i])
	}
	p.members = nil
}
