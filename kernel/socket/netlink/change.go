package netlink

import (
	"slices"

	"golang.org/x/sys/unix"
)

// change serves the requests that change the network; the caller may.
func (r *request) change() error {
	n, stack := r.k.net, r.k.net.stack()
	switch r.typ {
	case unix.RTM_NEWLINK, unix.RTM_SETLINK:
		return r.setLink()
	case unix.RTM_DELLINK:
		return r.removeLink()
	case unix.RTM_NEWADDR:
		a, err := r.parseAddress()
		if err == nil {
			err = r.addAddress(stack, &a)
		}
		return err
	case unix.RTM_DELADDR:
		a, err := r.parseAddress()
		if err == nil {
			err = stack.RemoveAddress(a)
		}
		if err == nil {
			n.AddressChanged(a, true)
		}
		return err
	case unix.RTM_NEWROUTE:
		t, err := r.parseRoute()
		if err == nil {
			err = r.addRoute(stack, &t)
		}
		return err
	case unix.RTM_DELROUTE:
		t, err := r.parseRoute()
		if err == nil {
			err = stack.RemoveRoute(t)
		}
		if err == nil {
			n.RouteChanged(t, true)
		}
		return err
	case unix.RTM_NEWNEIGH:
		e, err := r.parseNeighbour()
		if err == nil {
			err = stack.AddNeighbour(e)
		}
		if err == nil {
			n.NeighbourChanged(e, false)
		}
		return err
	case unix.RTM_DELNEIGH:
		e, err := r.parseNeighbour()
		if err == nil {
			err = stack.RemoveNeighbour(e)
		}
		if err == nil {
			n.NeighbourChanged(e, true)
		}
		return err
	}
	return unix.EOPNOTSUPP
}

// setLink changes an interface, or makes one.
func (r *request) setLink() error {
	l, a, err := r.findLink()
	switch {
	case a.unsupported():
		return unix.EOPNOTSUPP
	case r.typ == unix.RTM_NEWLINK && err == unix.ENODEV && r.flags&unix.NLM_F_CREATE != 0:
		return r.addLink(a)
	case r.typ == unix.RTM_NEWLINK && err == nil && r.flags&unix.NLM_F_EXCL != 0:
		return unix.EEXIST
	case r.typ == unix.RTM_NEWLINK && err == nil && r.flags&unix.NLM_F_REPLACE != 0:
		return unix.EOPNOTSUPP
	case err != nil:
		return err
	}
	if len(a.text(unix.IFLA_IFNAME)) >= unix.IFNAMSIZ {
		return unix.EINVAL
	}
	stack := r.k.net.stack()
	to, err := r.space(a)
	if err != nil {
		return err
	}
	if to != nil && to != stack {
		name := a.text(unix.IFLA_IFNAME)
		if l.Index, err = stack.MoveLink(l.Index, to, name); err != nil {
			return err
		}
		if stack = to; name != "" {
			l.Name = name
		}
	}
	c := LinkChange{Flags: le.Uint32(r.body[8:]), Mask: le.Uint32(r.body[12:])}
	if v, ok := a.uint32(unix.IFLA_MTU); ok {
		c.MTU = int(int32(v))
		if c.MTU <= 0 {
			return unix.EINVAL
		}
	}
	if name := a.text(unix.IFLA_IFNAME); name != l.Name {
		c.Name = name
	}
	if b := a[unix.IFLA_ADDRESS]; len(b) > 0 {
		if len(b) != len(l.Address) {
			return unix.EINVAL
		}
		c.Address = slices.Clone(b)
	}
	return stack.SetLink(l.Index, c)
}

// unsupported reports whether a message of a link asks for what there is not, and would be about another one without it.
func (a attributes) unsupported() bool {
	return a[unix.IFLA_TARGET_NETNSID] != nil || a[unix.IFLA_MASTER] != nil || a[unix.IFLA_NEW_IFINDEX] != nil
}

// removeLink removes an interface, of which the Stack tells.
func (r *request) removeLink() error {
	l, a, err := r.findLink()
	switch {
	case a.unsupported():
		return unix.EOPNOTSUPP
	case err != nil:
		return err
	}
	return r.k.net.stack().RemoveLink(l.Index)
}

// addAddress adds an address, or with NLM_F_REPLACE lets one be that is there: EEXIST, ENODEV.
func (r *request) addAddress(stack Stack, a *Address) error {
	links := stack.Links()
	at := slices.IndexFunc(links, func(l Link) bool { return l.Index == a.Index })
	if at < 0 {
		return unix.ENODEV
	}
	if a.Label == "" {
		a.Label = links[at].Name
	}
	err := stack.AddAddress(*a)
	if err == unix.EEXIST && r.flags&unix.NLM_F_REPLACE != 0 {
		return nil
	}
	if err == nil {
		r.k.net.AddressChanged(*a, false)
	}
	return err
}

// addRoute adds a route: EEXIST unless NLM_F_REPLACE says to put it in place of the other.
func (r *request) addRoute(stack Stack, t *Route) error {
	if t.Table == unix.RT_TABLE_UNSPEC {
		t.Table = unix.RT_TABLE_MAIN
	}
	err := stack.AddRoute(*t)
	if err == unix.EEXIST && r.flags&unix.NLM_F_REPLACE != 0 {
		old := *t
		old.Gateway, old.Index, old.Source, old.Protocol, old.Scope, old.Type = nil, 0, nil, 0, unix.RT_SCOPE_NOWHERE, 0
		if err = stack.RemoveRoute(old); err == nil {
			err = stack.AddRoute(*t)
		}
	}
	if err != nil {
		return err
	}
	if t.Index == 0 { // the gateway's
		if way, err := stack.RouteTo(t.Gateway, 0); err == nil {
			t.Index = way.Index
		}
	}
	r.k.net.RouteChanged(*t, false)
	return nil
}

// LinkChanged tells members of RTNLGRP_LINK of an interface that is new or another, or gone.
func (n *Network) LinkChanged(l Link, gone bool) {
	n.Broadcast(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, putLink(nil, either(gone, unix.RTM_NEWLINK), &l))
}

// either is the type of a message about something new or gone.
func either(gone bool, typ int) int {
	if gone {
		return typ + 1 // RTM_DELx follows RTM_NEWx
	}
	return typ
}

// AddressChanged tells of an address that is new or gone.
func (n *Network) AddressChanged(a Address, gone bool) {
	group := unix.RTNLGRP_IPV4_IFADDR
	if len(a.Addr) != 4 {
		group = unix.RTNLGRP_IPV6_IFADDR
	}
	n.Broadcast(unix.NETLINK_ROUTE, group, putAddress(nil, either(gone, unix.RTM_NEWADDR), &a))
}

// RouteChanged tells of a route that is new or gone.
func (n *Network) RouteChanged(t Route, gone bool) {
	group := unix.RTNLGRP_IPV4_ROUTE
	if t.Family != unix.AF_INET {
		group = unix.RTNLGRP_IPV6_ROUTE
	}
	n.Broadcast(unix.NETLINK_ROUTE, group, putRoute(nil, either(gone, unix.RTM_NEWROUTE), &t))
}

// NeighbourChanged tells of a neighbour that is new or gone.
func (n *Network) NeighbourChanged(e Neighbour, gone bool) {
	n.Broadcast(unix.NETLINK_ROUTE, unix.RTNLGRP_NEIGH, putNeighbour(nil, either(gone, unix.RTM_NEWNEIGH), &e))
}
