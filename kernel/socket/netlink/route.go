package netlink

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// Sizes of the fixed parts of messages (rtnetlink(7)).
const (
	ifinfoSize = unix.SizeofIfInfomsg
	ifaddrSize = unix.SizeofIfAddrmsg
	rtmsgSize  = unix.SizeofRtMsg
	ndmsgSize  = unix.SizeofNdMsg
)

func familyOf(addr []byte) int {
	if len(addr) == 4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addressSize is the length of a family's addresses, 0 for other families.
func addressSize(family int) int {
	switch family {
	case unix.AF_INET:
		return 4
	case unix.AF_INET6:
		return 16
	}
	return 0
}

// isDump reports whether a whole table is asked for. NLM_F_DUMP is two bits, and Linux takes one of them for it.
func (r *request) isDump() bool { return r.flags&unix.NLM_F_DUMP != 0 }

// route serves NETLINK_ROUTE. Types come in fours: new, delete, get, set.
func (r *request) route() (done bool, err error) {
	if r.typ < unix.RTM_BASE || r.typ > unix.RTM_MAX {
		return false, unix.EOPNOTSUPP
	}
	if r.typ%4 != unix.RTM_GETLINK%4 {
		if !r.m.Cred.CapableIn(r.k.net.Owner, unix.CAP_NET_ADMIN) {
			return false, unix.EPERM
		}
		return false, r.change()
	}
	if len(r.body) < 1 {
		return false, unix.EINVAL
	}
	if r.isDump() {
		return true, r.dumpOf(int(r.body[0]))
	}
	switch r.typ {
	case unix.RTM_GETLINK:
		return r.getLink()
	case unix.RTM_GETROUTE:
		return r.getRoute()
	case unix.RTM_GETNSID:
		return false, r.getNSID()
	}
	return false, unix.EOPNOTSUPP
}

// dumpOf begins a dump of what one family has of a table.
func (r *request) dumpOf(family int) error {
	stack := r.k.net.stack()
	strict := r.k.strict()
	switch r.typ {
	case unix.RTM_GETLINK:
		return r.startDump(func() table {
			list := stack.Links()
			return table{len(list), func(b []byte, i int) []byte { return putLink(b, unix.RTM_NEWLINK, &list[i]) }}
		})
	case unix.RTM_GETADDR:
		index := 0
		if strict && len(r.body) >= ifaddrSize {
			index = int(le.Uint32(r.body[4:]))
		}
		return r.startDump(func() table {
			list := stack.Addresses()
			return table{len(list), func(b []byte, i int) []byte {
				if a := &list[i]; family != unix.AF_UNSPEC && family != familyOf(a.Addr) || index != 0 && index != a.Index {
					return b
				}
				return putAddress(b, unix.RTM_NEWADDR, &list[i])
			}}
		})
	case unix.RTM_GETROUTE:
		return r.startDump(func() table {
			list := stack.Routes()
			return table{len(list), func(b []byte, i int) []byte {
				if family != unix.AF_UNSPEC && family != list[i].Family {
					return b
				}
				return putRoute(b, unix.RTM_NEWROUTE, &list[i])
			}}
		})
	case unix.RTM_GETNEIGH:
		return r.startDump(func() table {
			list := stack.Neighbours()
			return table{len(list), func(b []byte, i int) []byte {
				if family != unix.AF_UNSPEC && family != familyOf(list[i].Addr) {
					return b
				}
				return putNeighbour(b, unix.RTM_NEWNEIGH, &list[i])
			}}
		})
	case unix.RTM_GETRULE:
		return r.startDump(func() table {
			return table{len(rules), func(b []byte, i int) []byte {
				if family != unix.AF_UNSPEC && family != rules[i].family {
					return b
				}
				return putRule(b, rules[i])
			}}
		})
	}
	return unix.EOPNOTSUPP
}

// strict reports NETLINK_GET_STRICT_CHK: the header of a dump request says what to leave out.
func (k *sock) strict() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.flags[unix.NETLINK_GET_STRICT_CHK]
}

// --- links

// frame appends a message's header and fixed part, with room for the latter, and calls fill for the attributes.
func frame(b []byte, typ int, fixed []byte, fill func(b []byte) []byte) []byte {
	at := len(b)
	b = append(begin(b, typ, 0, 0, 0), fixed...)
	return finish(fill(b), at)
}

// What State says (RFC 2863, IF_OPER_): unknown, down, down since another interface is, up.
const (
	Unknown   = 0
	Down      = 2
	LowerDown = 3
	Up        = 6
)

// State is the state of an interface, which IFLA_OPERSTATE tells.
func (l *Link) State() uint8 {
	switch {
	case l.Joined && l.Flags&(unix.IFF_RUNNING|unix.IFF_UP) == unix.IFF_UP:
		return LowerDown
	case l.Flags&unix.IFF_LOOPBACK != 0 && l.Flags&unix.IFF_RUNNING != 0:
		return Unknown
	case l.Flags&unix.IFF_RUNNING == 0:
		return Down
	case l.Unsettled:
		return Unknown
	}
	return Up
}

func putLink(b []byte, typ int, l *Link) []byte {
	fixed := make([]byte, ifinfoSize)
	le.PutUint16(fixed[2:], uint16(l.Type))
	le.PutUint32(fixed[4:], uint32(l.Index))
	le.PutUint32(fixed[8:], l.Flags)
	carrier := uint8(1)
	if l.Flags&(unix.IFF_UP|unix.IFF_LOWER_UP) == unix.IFF_UP {
		carrier = 0
	}
	qdisc := "fq_codel"
	if l.Flags&unix.IFF_LOOPBACK != 0 || l.Kind == "veth" || l.Kind == "dummy" {
		qdisc = "noqueue"
	}
	return frame(b, typ, fixed, func(b []byte) []byte {
		b = attrString(b, unix.IFLA_IFNAME, l.Name)
		b = Attr32(b, unix.IFLA_TXQLEN, uint32(l.QueueLen))
		b = Attr8(b, unix.IFLA_OPERSTATE, l.State())
		b = Attr8(b, unix.IFLA_LINKMODE, 0)
		b = Attr32(b, unix.IFLA_MTU, uint32(l.MTU))
		b = Attr32(b, unix.IFLA_GROUP, 0)
		b = Attr32(b, unix.IFLA_PROMISCUITY, 0)
		b = Attr32(b, unix.IFLA_NUM_TX_QUEUES, 1)
		b = Attr32(b, unix.IFLA_NUM_RX_QUEUES, 1)
		b = Attr8(b, unix.IFLA_CARRIER, carrier)
		b = attrString(b, unix.IFLA_QDISC, qdisc)
		if len(l.Address) > 0 {
			b = attr(b, unix.IFLA_ADDRESS, l.Address)
			b = attr(b, unix.IFLA_BROADCAST, l.Broadcast)
		}
		b = attr(b, unix.IFLA_STATS64, l.Stats.bytes(8))
		b = attr(b, unix.IFLA_STATS, l.Stats.bytes(4))
		if l.Peer != 0 {
			b = Attr32(b, unix.IFLA_LINK, uint32(l.Peer))
		}
		if l.Kind == "" {
			return b
		}
		info := attrString(nil, unix.IFLA_INFO_KIND, l.Kind)
		if len(l.Info) > 0 {
			info = attr(info, unix.IFLA_INFO_DATA, l.Info)
		}
		return attr(b, unix.IFLA_LINKINFO, info)
	})
}

// bytes lays out struct rtnl_link_stats64, or with 4 bytes a number rtnl_link_stats.
func (s *Stats) bytes(size int) []byte {
	all := [24]uint64{s.RxPackets, s.TxPackets, s.RxBytes, s.TxBytes, s.RxErrors, s.TxErrors, s.RxDropped, s.TxDropped, s.Multicast}
	b := make([]byte, 0, len(all)*size)
	for _, v := range all {
		if size == 8 {
			b = le.AppendUint64(b, v)
		} else {
			b = le.AppendUint32(b, uint32(v))
		}
	}
	return b
}

// findLink finds the interface that a message of links is about, by number or name, and returns its attributes with ENODEV too: EINVAL, ENODEV.
func (r *request) findLink() (l Link, a attributes, err error) {
	if len(r.body) < ifinfoSize {
		return l, nil, unix.EINVAL
	}
	if a, err = parseAttributes(r.body[ifinfoSize:]); err != nil {
		return l, nil, err
	}
	index := int(int32(le.Uint32(r.body[4:])))
	name := a.text(unix.IFLA_IFNAME)
	if name == "" {
		name = a.text(unix.IFLA_ALT_IFNAME)
	}
	if index <= 0 && name == "" {
		if r.typ == unix.RTM_NEWLINK {
			return l, a, unix.ENODEV // by which ip(8) knows that there is the request
		}
		return l, nil, unix.EINVAL
	}
	for _, l = range r.k.net.stack().Links() {
		if index > 0 && l.Index == index || index <= 0 && l.Name == name {
			return l, a, nil
		}
	}
	return Link{}, a, unix.ENODEV
}

func (r *request) getLink() (bool, error) {
	l, _, err := r.findLink()
	if err != nil {
		return false, err
	}
	r.reply(putLink(nil, unix.RTM_NEWLINK, &l))
	return false, nil
}

// reply answers with one message.
func (r *request) reply(b []byte) {
	r.k.mu.Lock()
	le.PutUint32(b[12:], r.k.id)
	r.k.mu.Unlock()
	le.PutUint32(b[8:], r.seq)
	r.k.answer(b)
}

// --- addresses

func putAddress(b []byte, typ int, a *Address) []byte {
	fixed := make([]byte, ifaddrSize)
	fixed[0], fixed[1], fixed[2], fixed[3] = byte(familyOf(a.Addr)), byte(a.Bits), byte(a.Flags), a.Scope
	le.PutUint32(fixed[4:], uint32(a.Index))
	return frame(b, typ, fixed, func(b []byte) []byte {
		to := a.Addr
		if a.Peer != nil {
			to = a.Peer
		}
		b = attr(b, unix.IFA_ADDRESS, to)
		if len(a.Addr) == 4 || a.Peer != nil {
			b = attr(b, unix.IFA_LOCAL, a.Addr)
		}
		if len(a.Addr) == 4 {
			if a.Broadcast != nil {
				b = attr(b, unix.IFA_BROADCAST, a.Broadcast)
			}
			b = attrString(b, unix.IFA_LABEL, a.Label)
		}
		var c []byte
		for _, v := range []uint32{a.Preferred, a.Valid, 0, 0} {
			c = le.AppendUint32(c, v)
		}
		return Attr32(attr(b, unix.IFA_CACHEINFO, c), unix.IFA_FLAGS, a.Flags)
	})
}

// parseAddress reads a message about an address: EINVAL.
func (r *request) parseAddress() (a Address, err error) {
	if len(r.body) < ifaddrSize {
		return a, unix.EINVAL
	}
	list, err := parseAttributes(r.body[ifaddrSize:])
	if err != nil {
		return a, err
	}
	size := addressSize(int(r.body[0]))
	a = Address{Index: int(le.Uint32(r.body[4:])), Bits: int(r.body[1]), Scope: r.body[3], Flags: uint32(r.body[2]) | unix.IFA_F_PERMANENT, Preferred: ^uint32(0), Valid: ^uint32(0)}
	a.Addr = list[unix.IFA_LOCAL]
	if to := list[unix.IFA_ADDRESS]; a.Addr == nil {
		a.Addr = to
	} else if to != nil && !bytes.Equal(to, a.Addr) {
		a.Peer = bytes.Clone(to)
	}
	switch {
	case size == 0:
		return a, unix.EAFNOSUPPORT
	case len(a.Addr) != size || a.Bits > 8*size:
		return a, unix.EINVAL
	}
	a.Addr = bytes.Clone(a.Addr)
	if v := list[unix.IFA_BROADCAST]; len(v) == size {
		a.Broadcast = bytes.Clone(v)
	}
	a.Label = list.text(unix.IFA_LABEL)
	if v, ok := list.uint32(unix.IFA_FLAGS); ok {
		a.Flags = v | unix.IFA_F_PERMANENT
	}
	if v := list[unix.IFA_CACHEINFO]; len(v) >= 8 {
		a.Preferred, a.Valid = le.Uint32(v), le.Uint32(v[4:])
		if a.Valid != ^uint32(0) {
			a.Flags &^= unix.IFA_F_PERMANENT
		}
	}
	return a, nil
}

// --- routes

func putRoute(b []byte, typ int, r *Route) []byte {
	fixed := make([]byte, rtmsgSize)
	fixed[0], fixed[1] = byte(r.Family), byte(r.Bits)
	fixed[4] = byte(r.Table)
	if r.Table > 255 {
		fixed[4] = unix.RT_TABLE_COMPAT
	}
	fixed[5], fixed[6], fixed[7] = r.Protocol, r.Scope, r.Type
	if r.LinkDown {
		le.PutUint32(fixed[8:], unix.RTNH_F_LINKDOWN)
	}
	return frame(b, typ, fixed, func(b []byte) []byte {
		b = Attr32(b, unix.RTA_TABLE, uint32(r.Table))
		if r.Bits > 0 {
			b = attr(b, unix.RTA_DST, r.Dst)
		}
		if r.Metric != 0 {
			b = Attr32(b, unix.RTA_PRIORITY, r.Metric)
		}
		if r.Source != nil {
			b = attr(b, unix.RTA_PREFSRC, r.Source)
		}
		if r.Gateway != nil {
			b = attr(b, unix.RTA_GATEWAY, r.Gateway)
		}
		if r.Index != 0 {
			b = Attr32(b, unix.RTA_OIF, uint32(r.Index))
		}
		return b
	})
}

// parseRoute reads a message about a route: EINVAL, EAFNOSUPPORT.
func (r *request) parseRoute() (t Route, err error) {
	if len(r.body) < rtmsgSize {
		return t, unix.EINVAL
	}
	list, err := parseAttributes(r.body[rtmsgSize:])
	if err != nil {
		return t, err
	}
	f := r.body
	t = Route{Family: int(f[0]), Bits: int(f[1]), Table: int(f[4]), Protocol: f[5], Scope: f[6], Type: f[7]}
	size := addressSize(t.Family)
	if size == 0 {
		return t, unix.EAFNOSUPPORT
	}
	for _, a := range []struct {
		typ int
		to  *[]byte
	}{{unix.RTA_DST, &t.Dst}, {unix.RTA_GATEWAY, &t.Gateway}, {unix.RTA_PREFSRC, &t.Source}} {
		if v, ok := list[a.typ]; ok {
			if len(v) != size {
				return t, unix.EINVAL
			}
			*a.to = bytes.Clone(v)
		}
	}
	if t.Bits > 8*size || t.Bits > 0 && t.Dst == nil {
		return t, unix.EINVAL
	}
	if v, ok := list.uint32(unix.RTA_OIF); ok {
		t.Index = int(v)
	}
	if v, ok := list.uint32(unix.RTA_TABLE); ok {
		t.Table = int(v)
	}
	t.Metric, _ = list.uint32(unix.RTA_PRIORITY)
	return t, nil
}

func (r *request) getRoute() (bool, error) {
	t, err := r.parseRoute()
	if err != nil {
		return false, err
	}
	if t.Dst == nil {
		return false, unix.EINVAL
	}
	found, err := r.k.net.stack().RouteTo(t.Dst, t.Index)
	if err != nil {
		return false, err
	}
	found.Dst, found.Bits = t.Dst, 8*len(t.Dst)
	if found.Family == unix.AF_INET {
		r.reply(putWay(nil, &found, r.m.Cred.UID))
	} else {
		r.reply(putWay6(nil, &found))
	}
	return false, nil
}

// localWay is RTCF_LOCAL, a flag that Linux shows of a way to an address of the host.
const localWay = 0x8000_0000

// cacheInfo is a struct rta_cacheinfo of a route that nothing is remembered of.
var cacheInfo = make([]byte, 32)

// putWay is how IPv4 goes to an address: Linux's cached copy of a route, which belongs to the main table whatever table it came from,
// with the attributes in Linux's order.
func putWay(b []byte, r *Route, uid uint32) []byte {
	fixed, flags := []byte{unix.AF_INET, byte(r.Bits), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_UNSPEC, unix.RT_SCOPE_UNIVERSE, r.Type}, uint32(unix.RTM_F_CLONED)
	if r.Type == unix.RTN_LOCAL {
		flags |= localWay
	}
	return frame(b, unix.RTM_NEWROUTE, le.AppendUint32(fixed, flags), func(b []byte) []byte {
		b = attr(Attr32(b, unix.RTA_TABLE, unix.RT_TABLE_MAIN), unix.RTA_DST, r.Dst)
		b = attr(Attr32(b, unix.RTA_OIF, uint32(r.Index)), unix.RTA_PREFSRC, r.Source)
		if r.Gateway != nil {
			b = attr(b, unix.RTA_GATEWAY, r.Gateway)
		}
		return attr(Attr32(b, unix.RTA_UID, uid), unix.RTA_CACHEINFO, cacheInfo)
	})
}

// putWay6 is how IPv6 goes to an address: the route itself, narrowed to the address, from any source.
func putWay6(b []byte, r *Route) []byte {
	fixed := []byte{unix.AF_INET6, byte(r.Bits), 128, 0, byte(r.Table), r.Protocol, unix.RT_SCOPE_UNIVERSE, r.Type, 0, 0, 0, 0}
	return frame(b, unix.RTM_NEWROUTE, fixed, func(b []byte) []byte {
		b = attr(Attr32(b, unix.RTA_TABLE, uint32(r.Table)), unix.RTA_DST, r.Dst)
		b = attr(attr(b, unix.RTA_SRC, make([]byte, 16)), unix.RTA_PREFSRC, r.Source)
		b = Attr32(b, unix.RTA_PRIORITY, r.Metric)
		if r.Gateway != nil {
			b = attr(b, unix.RTA_GATEWAY, r.Gateway)
		}
		return Attr8(attr(Attr32(b, unix.RTA_OIF, uint32(r.Index)), unix.RTA_CACHEINFO, cacheInfo), unix.RTA_PREF, 0)
	})
}

// --- neighbours

func putNeighbour(b []byte, typ int, n *Neighbour) []byte {
	fixed := make([]byte, ndmsgSize)
	fixed[0] = byte(familyOf(n.Addr))
	le.PutUint32(fixed[4:], uint32(n.Index))
	le.PutUint16(fixed[8:], n.State)
	fixed[10], fixed[11] = n.Flags, unix.RTN_UNICAST
	return frame(b, typ, fixed, func(b []byte) []byte {
		b = attr(b, unix.NDA_DST, n.Addr)
		if n.Address != nil {
			b = attr(b, unix.NDA_LLADDR, n.Address)
		}
		return b
	})
}

func (r *request) parseNeighbour() (n Neighbour, err error) {
	if len(r.body) < ndmsgSize {
		return n, unix.EINVAL
	}
	list, err := parseAttributes(r.body[ndmsgSize:])
	if err != nil {
		return n, err
	}
	n = Neighbour{Index: int(le.Uint32(r.body[4:])), State: le.Uint16(r.body[8:]), Flags: r.body[10], Addr: bytes.Clone(list[unix.NDA_DST]), Address: bytes.Clone(list[unix.NDA_LLADDR])}
	if size := addressSize(int(r.body[0])); size == 0 || len(n.Addr) != size {
		return n, unix.EINVAL
	}
	return n, nil
}

// --- rules: those that Linux has at first, which cannot be changed

type rule struct {
	family, table int
	priority      uint32
}

var rules = []rule{
	{unix.AF_INET, unix.RT_TABLE_LOCAL, 0}, {unix.AF_INET, unix.RT_TABLE_MAIN, 32766}, {unix.AF_INET, unix.RT_TABLE_DEFAULT, 32767},
	{unix.AF_INET6, unix.RT_TABLE_LOCAL, 0}, {unix.AF_INET6, unix.RT_TABLE_MAIN, 32766},
}

// Attributes and the action of rules (include/uapi/linux/fib_rules.h).
const (
	fraPriority   = 6
	fraTable      = 15
	frActToTable  = 1
	ruleHeaderLen = 12
)

func putRule(b []byte, r rule) []byte {
	fixed := make([]byte, ruleHeaderLen)
	fixed[0], fixed[4], fixed[7] = byte(r.family), byte(r.table), frActToTable
	return frame(b, unix.RTM_NEWRULE, fixed, func(b []byte) []byte {
		b = Attr32(b, fraTable, uint32(r.table))
		if r.priority != 0 {
			b = Attr32(b, fraPriority, r.priority)
		}
		return b
	})
}
