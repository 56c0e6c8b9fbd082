package net

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/sorting"
)

// A group is a multicast group that an interface is in, and how many want it.
type group struct {
	addr  tcpip.Address
	users int
}

// groups returns those of an interface and an address family: what every host is in, what sockets have joined.
func (n *Network) groups(i *iface, family tcpip.NetworkProtocolNumber) []group {
	var list []group
	add := func(a tcpip.Address) {
		for j := range list {
			if list[j].addr == a {
				list[j].users++
				return
			}
		}
		if in, err := n.Stack().IsInGroup(i.index, a); err == nil && in {
			list = append(list, group{a, 1})
		}
	}
	if family == header.IPv4ProtocolNumber {
		add(header.IPv4AllSystems)
	} else {
		add(header.IPv6AllNodesMulticastAddress)
		for _, a := range i.ProtocolAddresses {
			if a.Protocol == family {
				add(header.SolicitedNodeAddr(a.AddressWithPrefix.Address))
			}
		}
	}
	for _, m := range n.joined() {
		if m.NIC == i.index && protocolOf(m.MulticastAddr) == family {
			add(m.MulticastAddr)
		}
	}
	return list
}

// joined are the memberships of all sockets.
func (n *Network) joined() (list []tcpip.MembershipOption) {
	n.mu.Lock()
	var all []*sock
	for k := range n.all {
		all = append(all, k)
	}
	n.mu.Unlock()
	sorting.Sort(all, func(a, b *sock) int { return int(int64(a.id - b.id)) })
	for _, k := range all {
		k.mu.Lock()
		list = append(list, k.opts.groups...)
		k.mu.Unlock()
	}
	return list
}

// Most memberships of a socket: igmp_max_memberships, and what fits into optmem_max.
const (
	maxGroups  = 20
	maxGroups6 = 300
)

// mayJoin says whether the socket may join one more group: ENOBUFS, ENOMEM.
func (k *sock) mayJoin(m tcpip.MembershipOption) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch four := protocolOf(m.MulticastAddr) == header.IPv4ProtocolNumber; {
	case four && len(k.opts.groups) >= maxGroups:
		return unix.ENOBUFS
	case len(k.opts.groups) >= maxGroups6:
		return unix.ENOMEM
	}
	return nil
}

// member notes that the socket joined a group, or left it.
func (k *sock) member(m tcpip.MembershipOption, in bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m.NIC == 0 {
		m.NIC = k.net.groupInterface(m)
	}
	if in {
		k.opts.groups = append(k.opts.groups, m)
		return
	}
	for i, o := range k.opts.groups {
		if o.MulticastAddr == m.MulticastAddr && (o.NIC == m.NIC || m.NIC == 0) {
			k.opts.groups = append(k.opts.groups[:i:i], k.opts.groups[i+1:]...)
			return
		}
	}
}

// groupInterface is the interface that netstack has chosen for a membership that names none.
func (n *Network) groupInterface(m tcpip.MembershipOption) tcpip.NICID {
	s := n.Stack()
	if m.InterfaceAddr.Len() != 0 {
		return s.CheckLocalAddress(0, protocolOf(m.InterfaceAddr), m.InterfaceAddr)
	}
	r, err := s.FindRoute(0, tcpip.Address{}, m.MulticastAddr, protocolOf(m.MulticastAddr), false)
	if err != nil {
		return 0
	}
	defer r.Release()
	return r.NICID()
}

// procIGMP is /proc/net/igmp.
func (n *Network) procIGMP() string {
	var b strings.Builder
	b.WriteString("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n")
	for _, i := range n.interfaces() {
		list := n.groups(&i, header.IPv4ProtocolNumber)
		b.WriteString(strconv.Itoa(int(i.index)) + "\t" + i.Name + strings.Repeat(" ", max(10-len(i.Name), 0)) + ": ")
		pad(&b, strconv.Itoa(len(list)), 5)
		b.WriteString("      V3\n")
		for _, g := range list {
			b.WriteString("\t\t\t\t" + hexN(uint64(binary.LittleEndian.Uint32(g.addr.AsSlice())), 8) + " ")
			pad(&b, strconv.Itoa(g.users), 5)
			b.WriteString(" 0:00000000\t\t0\n")
		}
	}
	return b.String()
}

// procIGMP6 is /proc/net/igmp6.
func (n *Network) procIGMP6() string {
	var b strings.Builder
	for _, i := range n.interfaces() {
		for _, g := range n.groups(&i, header.IPv6ProtocolNumber) {
			index := strconv.Itoa(int(i.index))
			b.WriteString(index + strings.Repeat(" ", max(5-len(index), 1)) + i.Name + strings.Repeat(" ", max(16-len(i.Name), 1)) + hex.EncodeToString(g.addr.AsSlice()) + " ")
			pad(&b, strconv.Itoa(g.users), 5)
			b.WriteString(" 00000004 0\n") // MAF_LAST_REPORTER
		}
	}
	return b.String()
}
