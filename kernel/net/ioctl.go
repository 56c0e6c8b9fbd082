package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"gosv/kernel/socket"
	"gosv/kernel/sorting"
	"gosv/kernel/vfs"
)

// Ioctl implements socket.Ops.
func (k *sock) Ioctl(a *vfs.IoctlArgs) (uint64, error) {
	if h := k.fast.Load(); h != nil {
		switch a.Cmd {
		case unix.SIOCINQ:
			return 0, a.PutInt32(int32(h.queued()))
		case unix.SIOCOUTQ, siocoutqnsd:
			return 0, a.PutInt32(0) // the other end has it
		}
	}
	switch a.Cmd {
	case unix.SIOCINQ:
		if k.stream() && k.state() == tcp.StateListen {
			return 0, unix.EINVAL
		}
		n, err := k.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
		if k.deafened.Load() {
			n, err = 0, nil
		}
		if err != nil {
			return 0, errno(err)
		}
		k.markMu.Lock()
		n = k.mark.limit(n, k.s.Is(socket.OOBInline))
		k.markMu.Unlock()
		return 0, a.PutInt32(int32(n))
	case unix.SIOCOUTQ, siocoutqnsd:
		switch {
		case !k.stream() && a.Cmd == siocoutqnsd:
			return 0, unix.ENOTTY
		case k.stream() && k.state() == tcp.StateListen:
			return 0, unix.EINVAL
		}
		return 0, a.PutInt32(int32(k.unacked(a.Cmd == siocoutqnsd)))
	case unix.SIOCATMARK:
		if !k.stream() {
			break
		}
		at := int32(0)
		if k.atMark() {
			at = 1
		}
		return 0, a.PutInt32(at)
	case unix.SIOCADDRT, unix.SIOCDELRT:
		if k.s.Family == unix.AF_INET {
			return 0, k.net.routeRequest(a)
		}
	}
	return k.net.Ioctl(a)
}

// siocoutqnsd is SIOCOUTQNSD, what was not sent.
const siocoutqnsd = 0x894b

// unacked is how many bytes of a stream were not acknowledged, or with unsent were not even sent. Datagrams go at once.
func (k *sock) unacked(unsent bool) int {
	e, ok := k.ep.(interface {
		Unacked() int
		Unsent() int
	})
	switch {
	case !ok:
		return 0
	case unsent:
		return e.Unsent()
	}
	return e.Unacked()
}

// An iface is an interface.
type iface struct {
	index tcpip.NICID
	link  *link // nil for lo
	stack.NICInfo
}

// interfaces returns all, by index.
func (n *Network) interfaces() []iface {
	var all []iface
	for id, info := range n.Stack().NICInfo() {
		l := n.link(id)
		if l != nil {
			info.Flags.Promiscuous = l.filter.flag.Load()
		}
		all = append(all, iface{id, l, info})
	}
	sorting.Sort(all, func(a, b iface) int { return int(a.index) - int(b.index) })
	return all
}

// iface returns an interface.
func (n *Network) iface(nic tcpip.NICID) (i iface, ok bool) {
	for _, i := range n.interfaces() {
		if i.index == nic {
			return i, true
		}
	}
	return i, false
}

// index returns the number of an interface.
func (n *Network) index(name string) (tcpip.NICID, bool) {
	for _, i := range n.interfaces() {
		if i.Name == name {
			return i.index, true
		}
	}
	return 0, false
}

// name returns the name of an interface; "" when there is none.
func (n *Network) name(id tcpip.NICID) string { return n.Stack().FindNICNameFromID(id) }

// flags are those of SIOCGIFFLAGS.
func (i *iface) flags() uint32 {
	f := uint32(unix.IFF_MULTICAST | unix.IFF_BROADCAST)
	switch {
	case i.Flags.Loopback:
		f = unix.IFF_LOOPBACK
	case i.link != nil && i.link.bare:
		f = unix.IFF_MULTICAST | unix.IFF_POINTOPOINT | unix.IFF_NOARP
	case i.link != nil && i.link.plug != nil && i.link.plug.NoARP:
		f = unix.IFF_BROADCAST | unix.IFF_NOARP
	}
	if i.Flags.Running { // to netstack, all interfaces are up, and those that were brought down do not run
		f |= unix.IFF_UP
		if i.link.carrier() {
			f |= unix.IFF_RUNNING | unix.IFF_LOWER_UP
		}
	}
	if i.Flags.Promiscuous {
		f |= unix.IFF_PROMISC
	}
	return f
}

// hardware is the type of an interface as ARPHRD_ has it.
func (i *iface) hardware() uint16 {
	if i.Flags.Loopback {
		return unix.ARPHRD_LOOPBACK
	}
	if i.link == nil {
		return unix.ARPHRD_ETHER
	}
	return i.link.hardware()
}

// queueLength is how many packets may wait, as is shown.
func (i *iface) queueLength() int {
	if i.link != nil && i.link.plug != nil {
		return i.link.plug.QueueLength
	}
	return queueLength
}

// inet returns the first IPv4 address.
func (i *iface) inet() (tcpip.AddressWithPrefix, bool) {
	for _, a := range i.ProtocolAddresses {
		if a.Protocol == header.IPv4ProtocolNumber {
			return a.AddressWithPrefix, true
		}
	}
	return tcpip.AddressWithPrefix{}, false
}

// Sizes of struct ifreq and of what is in front of its union.
const (
	sizeIfreq = 40
	nameSize  = unix.IFNAMSIZ
)

// Ioctl is netdevice(7): the requests about interfaces that every socket of the Internet takes.
func (n *Network) Ioctl(a *vfs.IoctlArgs) (uint64, error) {
	switch a.Cmd {
	case unix.SIOCGIFCONF:
		return 0, n.ifconf(a)
	case unix.SIOCGIFNAME, unix.SIOCGIFINDEX, unix.SIOCGIFFLAGS, unix.SIOCGIFADDR, unix.SIOCGIFNETMASK, unix.SIOCGIFBRDADDR, unix.SIOCGIFDSTADDR,
		unix.SIOCGIFHWADDR, unix.SIOCGIFMTU, unix.SIOCGIFMETRIC, unix.SIOCGIFTXQLEN, unix.SIOCGIFMAP:
		return 0, n.getInterface(a)
	case unix.SIOCSIFADDR, unix.SIOCSIFDSTADDR, unix.SIOCSIFNETMASK, unix.SIOCSIFFLAGS, unix.SIOCSIFMTU, unix.SIOCSIFHWADDR:
		if !a.Ctx.Cred.CapableIn(n.cfg.Owner, unix.CAP_NET_ADMIN) {
			return 0, unix.EPERM
		}
		return 0, n.setInterface(a)
	case unix.SIOCETHTOOL:
		return 0, unix.EOPNOTSUPP
	}
	if a.Cmd >= unix.SIOCDEVPRIVATE && a.Cmd < unix.SIOCDEVPRIVATE+16 {
		return 0, n.private(a)
	}
	return 0, unix.ENOTTY
}

// private are the requests of drivers (SIOCDEVPRIVATE), of which none has any here: ENODEV, EOPNOTSUPP.
func (n *Network) private(a *vfs.IoctlArgs) error {
	var req [sizeIfreq]byte
	if _, err := a.Mem.CopyIn(req[:], a.Arg); err != nil {
		return err
	}
	if _, err := n.find(req[:]); err != nil {
		return err
	}
	return unix.EOPNOTSUPP
}

// find returns the interface that struct ifreq names: ENODEV. A name may have a label behind a colon.
func (n *Network) find(req []byte) (iface, error) {
	name := unix.ByteSliceToString(req[:nameSize])
	for _, i := range n.interfaces() {
		if i.Name == name {
			return i, nil
		}
	}
	return iface{}, unix.ENODEV
}

func (n *Network) getInterface(a *vfs.IoctlArgs) error {
	var req [sizeIfreq]byte
	if _, err := a.Mem.CopyIn(req[:], a.Arg); err != nil {
		return err
	}
	if a.Cmd == unix.SIOCGIFNAME {
		name := n.name(tcpip.NICID(int32(binary.LittleEndian.Uint32(req[nameSize:]))))
		if name == "" {
			return unix.ENODEV
		}
		clear(req[:nameSize])
		copy(req[:nameSize-1], name)
		_, err := a.Mem.CopyOut(a.Arg, req[:])
		return err
	}
	i, err := n.find(req[:])
	if err != nil {
		return err
	}
	u := req[nameSize:]
	clear(u)
	switch a.Cmd {
	case unix.SIOCGIFINDEX:
		binary.LittleEndian.PutUint32(u, uint32(i.index))
	case unix.SIOCGIFFLAGS:
		binary.LittleEndian.PutUint16(u, uint16(i.flags()))
	case unix.SIOCGIFMTU:
		binary.LittleEndian.PutUint32(u, uint32(i.MTU))
	case unix.SIOCGIFTXQLEN:
		binary.LittleEndian.PutUint32(u, uint32(i.queueLength()))
	case unix.SIOCGIFHWADDR:
		binary.LittleEndian.PutUint16(u, i.hardware())
		copy(u[2:], i.LinkAddress)
	case unix.SIOCGIFMETRIC, unix.SIOCGIFMAP:
	default:
		if err := n.addressOf(&i, a.Cmd, u); err != nil {
			return err
		}
	}
	_, err = a.Mem.CopyOut(a.Arg, req[:])
	return err
}

// queueLength is that of eth0 and lo.
const queueLength = 1000

// addressOf puts one of the addresses of an interface into u: EADDRNOTAVAIL.
func (n *Network) addressOf(i *iface, cmd uint32, u []byte) error {
	p, ok := i.inet()
	if !ok {
		return unix.EADDRNOTAVAIL
	}
	to := n.network(i.index, p)
	sub := to.prefix().Subnet()
	address := p.Address
	switch cmd {
	case unix.SIOCGIFDSTADDR:
		address = to.Addr
	case unix.SIOCGIFNETMASK:
		mask := sub.Mask()
		address = tcpip.AddrFromSlice(mask.AsSlice())
	case unix.SIOCGIFBRDADDR:
		address = sub.Broadcast()
		if i.flags()&unix.IFF_BROADCAST == 0 {
			address = header.IPv4Any
		}
	}
	copy(u, formatAddr(unix.AF_INET, tcpip.FullAddress{Addr: address}))
	return nil
}

// ifconf is SIOCGIFCONF: the interfaces that have an IPv4 address.
func (n *Network) ifconf(a *vfs.IoctlArgs) error {
	var conf [16]byte
	if _, err := a.Mem.CopyIn(conf[:], a.Arg); err != nil {
		return err
	}
	room, at := int(int32(binary.LittleEndian.Uint32(conf[:]))), binary.LittleEndian.Uint64(conf[8:])
	var out []byte
	for _, i := range n.interfaces() {
		p, ok := i.inet()
		if !ok {
			continue
		}
		var req [sizeIfreq]byte
		copy(req[:nameSize-1], i.Name)
		copy(req[nameSize:], formatAddr(unix.AF_INET, tcpip.FullAddress{Addr: p.Address}))
		if at != 0 && len(out)+sizeIfreq > room {
			break
		}
		out = append(out, req[:]...)
	}
	if at != 0 {
		if _, err := a.Mem.CopyOut(at, out); err != nil {
			return err
		}
	}
	return a.PutInt32(int32(len(out)))
}

// setInterface changes an interface.
func (n *Network) setInterface(a *vfs.IoctlArgs) (err error) {
	var req [sizeIfreq]byte
	if _, err := a.Mem.CopyIn(req[:], a.Arg); err != nil {
		return err
	}
	defer exclusively()()
	i, err := n.find(req[:])
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			n.tell(Change{}, i.index)
		}
	}()
	u := req[nameSize:]
	switch a.Cmd {
	case unix.SIOCSIFHWADDR:
		if binary.LittleEndian.Uint16(u) != i.hardware() {
			return unix.EINVAL
		}
		return n.setHardwareAddress(i.index, u[2:2+header.EthernetAddressSize])
	case unix.SIOCSIFFLAGS:
		if i.link != nil {
			i.link.setPromiscuousFlag(binary.LittleEndian.Uint16(u)&unix.IFF_PROMISC != 0)
		}
		return n.setUp(i.index, binary.LittleEndian.Uint16(u)&unix.IFF_UP != 0)
	case unix.SIOCSIFMTU:
		return n.setMTU(i.index, int(int32(binary.LittleEndian.Uint32(u))))
	case unix.SIOCSIFADDR:
		v, err := parseAddr(unix.AF_INET, u)
		if err != nil {
			return err
		}
		bits := classBits(v.Addr)
		if i.flags()&unix.IFF_POINTOPOINT != 0 {
			bits = v.Addr.BitLen()
		}
		return n.replaceAddress(&i, Prefix{v.Addr, bits}, tcpip.Address{})
	}
	p, ok := i.inet()
	if !ok {
		return unix.EADDRNOTAVAIL
	}
	to := n.network(i.index, p)
	if a.Cmd == unix.SIOCSIFDSTADDR {
		v, err := parseAddr(unix.AF_INET, u)
		if err != nil {
			return err
		}
		return n.replaceAddress(&i, Prefix{p.Address, to.Bits}, v.Addr)
	}
	// SIOCSIFNETMASK
	bits := 0
	for _, b := range u[4:8] {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
		if b != 0 {
			return unix.EINVAL
		}
	}
	return n.replaceAddress(&i, Prefix{p.Address, bits}, to.Addr)
}

// maxMTU is the most that the header of IP can say, in bytes.
const maxMTU = 65535

// setMTU changes the size of packets, in bytes: EINVAL, ENODEV.
func (n *Network) setMTU(nic tcpip.NICID, mtu int) error {
	most := maxMTU
	switch l := n.link(nic); {
	case nic == Loopback:
		most++
	case l != nil && l.plug != nil && l.plug.MaxMTU != 0:
		most = l.plug.MaxMTU
	}
	if mtu < header.IPv4MinimumMTU || mtu > most {
		return unix.EINVAL
	}
	return errno(n.Stack().SetNICMTU(nic, uint32(mtu)))
}

// classBits is the length of the network of an address by its class, as inet_abc_len of Linux has it.
func classBits(a tcpip.Address) int {
	if a.Len() == 0 {
		return 0
	}
	switch b := a.As4()[0]; {
	case b < 128:
		return 8
	case b < 192:
		return 16
	}
	return 24
}

// replaceAddress puts p, with a peer unless that is empty, in place of the first IPv4 address of an interface; the empty address takes it away.
func (n *Network) replaceAddress(i *iface, p Prefix, peer tcpip.Address) error {
	if old, ok := i.inet(); ok {
		if err := n.takeAddress(i.index, old); err != nil {
			return err
		}
	}
	if p.Addr.Len() == 0 {
		return nil
	}
	return n.putAddress(i.index, p, peer, true)
}
