package net

import (
	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"

	"gosv/kernel/share"
	"gosv/kernel/socket/netlink"
)

// AddLink implements netlink.Stack: interfaces of the kinds veth and dummy are made.
func (r routes) AddLink(l *netlink.NewLink) error {
	defer exclusively()()
	switch l.Kind {
	case "veth":
		return r.n.addPair(l)
	case "dummy":
		d := newDummy()
		d.plug.Name = l.Name
		return r.n.place(l, &d.plug, "dummy%d")
	}
	return unix.EOPNOTSUPP
}

// where is the network that l is to be in.
func (n *Network) where(l *netlink.NewLink) *Network {
	if to, ok := l.In.(routes); ok {
		return to.n
	}
	return n
}

// place plugs in what l describes, with another name when it has none: EINVAL, EADDRNOTAVAIL, and Plug's.
func (n *Network) place(l *netlink.NewLink, p *Plug, name string) error {
	if p.Name == "" {
		p.Name = name
	}
	p.Index = l.Index
	to := n.where(l)
	if err := to.Plug(p); err != nil {
		return err
	}
	if err := to.prepare(l, p); err != nil {
		to.Unplug(p)
		return err
	}
	return nil
}

// prepare makes a new interface what l says.
func (n *Network) prepare(l *netlink.NewLink, p *Plug) error {
	nic := tcpip.NICID(p.NIC())
	if l.MTU != 0 {
		if err := n.setMTU(nic, l.MTU); err != nil {
			return err
		}
	}
	if l.Address != nil {
		if err := n.setHardwareAddress(nic, l.Address); err != nil {
			return err
		}
	}
	if l.Up {
		return n.setUp(nic, true)
	}
	return nil
}

// rename gives an interface that Plug has added another name: EOPNOTSUPP for others, EBUSY for one that is up, EINVAL, EEXIST, ENFILE.
// It is called exclusively.
func (n *Network) rename(nic tcpip.NICID, pattern string) error {
	l := n.link(nic)
	switch {
	case l == nil || l.plug == nil:
		return unix.EOPNOTSUPP
	case n.Running(l.plug):
		return unix.EBUSY
	}
	name, err := n.freeName(pattern)
	if err != nil {
		return err
	}
	if err := n.Stack().SetNICName(nic, name); err != nil {
		return errno(err)
	}
	was := n.NameOf(l.plug)
	n.setName(l.plug, name)
	n.tell(Change{Was: was}, nic)
	return nil
}

// MoveLink implements netlink.Stack.
func (r routes) MoveLink(index int, to netlink.Stack, pattern string) (int, error) {
	defer exclusively()()
	l, dst := r.n.link(tcpip.NICID(index)), to.(routes).n
	if l == nil || l.plug == nil || l.plug.Moved == nil {
		return 0, unix.EINVAL
	}
	p := l.plug
	if pattern == "" {
		pattern = r.n.NameOf(p)
	}
	name, err := dst.freeName(pattern)
	if err != nil {
		return 0, err
	}
	r.n.unplug(p)
	p.Moved(dst)
	r.n.setName(p, name)
	if p.Index = index; index == Ethernet || dst.link(tcpip.NICID(index)) != nil {
		p.Index = 0
	}
	if err := dst.plug(p); err != nil { // there is no way back
		share.Sockets.Give(plugCost)
		p.Removed()
		return 0, err
	}
	if mtu := l.MTU(); mtu != uint32(p.Device.MTU()) {
		if err := dst.setMTU(tcpip.NICID(p.NIC()), int(mtu)); err != nil {
			return 0, err
		}
	}
	return p.NIC(), nil
}
