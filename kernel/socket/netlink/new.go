package netlink

import (
	"slices"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
)

// vethPeer is VETH_INFO_PEER, a message of a link about the other one.
const vethPeer = 1

// addLink makes an interface: EINVAL, EOPNOTSUPP for an unknown kind, and the Stack's errors.
func (r *request) addLink(a attributes) error {
	l, info, err := r.newLink(r.body, a)
	if err != nil {
		return err
	}
	if b := info[unix.IFLA_INFO_DATA]; l.Kind == "veth" && len(b) > 0 {
		data, err := parseAttributes(b)
		if err != nil {
			return err
		}
		if p := data[vethPeer]; p != nil {
			if len(p) < ifinfoSize {
				return unix.EINVAL
			}
			of, err := parseAttributes(p[ifinfoSize:])
			if err != nil {
				return err
			}
			if l.Peer, _, err = r.newLink(p, of); err != nil {
				return err
			}
		}
	}
	return r.k.net.stack().AddLink(l)
}

// newLink reads what a message, whose attributes are a, says of a new interface, and returns the attributes about its kind too.
func (r *request) newLink(body []byte, a attributes) (l *NewLink, info attributes, err error) {
	if info, err = parseAttributes(a[unix.IFLA_LINKINFO]); err != nil {
		return nil, nil, err
	}
	if int32(le.Uint32(body[4:])) < 0 {
		return nil, nil, unix.EINVAL
	}
	l = &NewLink{Kind: info.text(unix.IFLA_INFO_KIND), Name: a.text(unix.IFLA_IFNAME), Index: int(le.Uint32(body[4:])),
		Address: slices.Clone(a[unix.IFLA_ADDRESS]), Up: le.Uint32(body[8:])&unix.IFF_UP != 0}
	if v, ok := a.uint32(unix.IFLA_MTU); ok {
		if l.MTU = int(int32(v)); l.MTU <= 0 {
			return nil, nil, unix.EINVAL
		}
	}
	if len(l.Name) >= unix.IFNAMSIZ {
		return nil, nil, unix.EINVAL
	}
	l.In, err = r.space(a)
	return l, info, err
}

// space is the network that a request names by a process or an open file, which it uses until it is served; nil for none: EPERM, EINVAL, ESRCH, EBADF.
func (r *request) space(a attributes) (Stack, error) {
	s, head, err := r.named(a, unix.IFLA_NET_NS_PID, unix.IFLA_NET_NS_FD)
	if err != nil || head == nil {
		return nil, err
	}
	if !r.m.Cred.CapableIn(head.Owner(), unix.CAP_NET_ADMIN) {
		return nil, unix.EPERM
	}
	return s, nil
}

// named is the network and the namespace that attributes of two types name, nil for none.
func (r *request) named(a attributes, pidType, fdType int) (Stack, *namespace.Head, error) {
	pid, byPID := a.uint32(pidType)
	fd, byFD := a.uint32(fdType)
	switch {
	case !byPID && !byFD:
		return nil, nil, nil
	case r.k.net.Spaces == nil:
		return nil, nil, unix.EINVAL
	}
	s, head, err := r.k.net.Spaces(&r.m.Caller, int32(pid), int32(fd), byFD)
	if err == nil {
		r.spaces = append(r.spaces, head)
	}
	return s, head, err
}

// getNSID tells which number another namespace has in this one, which is none: numbers are not given (rtnetlink, RTM_NEWNSID). EINVAL, ENOENT, and
// named's.
func (r *request) getNSID() error {
	const size = 4 // struct rtgenmsg, aligned
	if len(r.body) < size {
		return unix.EINVAL
	}
	a, err := parseAttributes(r.body[size:])
	if err != nil {
		return err
	}
	_, head, err := r.named(a, unix.NETNSA_PID, unix.NETNSA_FD)
	switch {
	case err != nil:
		return err
	case head != nil:
	case a[unix.NETNSA_NSID] != nil:
		return unix.ENOENT
	default:
		return unix.EINVAL
	}
	r.reply(frame(nil, unix.RTM_NEWNSID, make([]byte, size), func(b []byte) []byte { return Attr32(b, unix.NETNSA_NSID, ^uint32(0)) }))
	return nil
}
