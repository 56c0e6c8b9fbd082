package netlink

import (
	"cmp"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/socket/afunix"
	"gosv/kernel/sorting"
)

// Requests and answers of sock_diag(7).
const (
	sockDiagByFamily = 20

	inetRequestSize    = 56
	unixRequestSize    = 24
	netlinkRequestSize = 20

	inetDiagInfo     = 2
	inetDiagShutdown = 8

	unixDiagName     = 0
	unixDiagPeer     = 2
	unixDiagQueue    = 4
	unixDiagShutdown = 6

	unixShowName  = 1
	unixShowPeer  = 4
	unixShowQueue = 16

	netlinkAll        = 255 // for sdiag_protocol
	netlinkShowGroups = 2
	netlinkGroups     = 1
)

// diag serves NETLINK_SOCK_DIAG.
func (r *request) diag() (done bool, err error) {
	switch {
	case r.typ != sockDiagByFamily:
		return false, unix.EINVAL
	case len(r.body) < 2:
		return false, unix.EINVAL
	}
	switch family := int(r.body[0]); family {
	case unix.AF_INET, unix.AF_INET6:
		return r.diagInet(family)
	case unix.AF_UNIX:
		return r.diagUnix()
	case unix.AF_NETLINK:
		return r.diagNetlink()
	}
	return false, unix.ENOENT
}

func (r *request) diagInet(family int) (bool, error) {
	if len(r.body) < inetRequestSize {
		return false, unix.EINVAL
	}
	if !r.isDump() {
		return false, unix.EOPNOTSUPP
	}
	protocol, extensions, states := int(r.body[1]), r.body[2], le.Uint32(r.body[4:])
	localPort, remotePort := binary.BigEndian.Uint16(r.body[8:]), binary.BigEndian.Uint16(r.body[10:])
	stack := r.k.net.stack()
	return true, r.startDump(func() table {
		list := stack.Sockets(family, protocol)
		return table{len(list), func(b []byte, i int) []byte {
			s := &list[i]
			if states>>s.State&1 == 0 || localPort != 0 && localPort != s.LocalPort || remotePort != 0 && remotePort != s.RemotePort {
				return b
			}
			return putSocket(b, s, extensions)
		}}
	})
}

// putSocket lays out struct inet_diag_msg.
func putSocket(b []byte, s *Socket, extensions byte) []byte {
	fixed := []byte{byte(s.Family), byte(s.State), s.Timer, s.Retransmissions}
	fixed = binary.BigEndian.AppendUint16(fixed, s.LocalPort)
	fixed = binary.BigEndian.AppendUint16(fixed, s.RemotePort)
	for _, a := range [][]byte{s.Local, s.Remote} {
		var addr [16]byte
		copy(addr[:], a)
		fixed = append(fixed, addr[:]...)
	}
	fixed = le.AppendUint32(fixed, uint32(s.Index))
	fixed = le.AppendUint64(fixed, s.Ino) // the cookie
	for _, v := range []uint32{s.Expires, uint32(s.ReadQueue), uint32(s.WriteQueue), s.UID, uint32(s.Ino)} {
		fixed = le.AppendUint32(fixed, v)
	}
	return frame(b, sockDiagByFamily, fixed, func(b []byte) []byte {
		if extensions>>(inetDiagInfo-1)&1 != 0 && s.Info != nil {
			b = attr(b, inetDiagInfo, s.Info)
		}
		return Attr8(b, inetDiagShutdown, 0)
	})
}

func (r *request) diagUnix() (bool, error) {
	if len(r.body) < unixRequestSize {
		return false, unix.EINVAL
	}
	states, ino, show := le.Uint32(r.body[4:]), uint64(le.Uint32(r.body[8:])), le.Uint32(r.body[12:])
	if r.isDump() {
		return true, r.startDump(func() table {
			list := r.k.net.local.List(r.k.net.Space)
			return table{len(list), func(b []byte, i int) []byte {
				if s := &list[i]; states>>s.State&1 == 0 || s.Ino == 0 {
					return b
				}
				return putUnix(b, &list[i], show)
			}}
		})
	}
	for _, s := range r.k.net.local.List(r.k.net.Space) {
		if s.Ino == ino && ino != 0 {
			r.reply(putUnix(nil, &s, show))
			return false, nil
		}
	}
	return false, unix.ENOENT
}

// putUnix lays out struct unix_diag_msg.
func putUnix(b []byte, s *afunix.Info, show uint32) []byte {
	fixed := []byte{unix.AF_UNIX, byte(s.Type), byte(s.State), 0}
	fixed = le.AppendUint32(fixed, uint32(s.Ino))
	fixed = le.AppendUint64(fixed, s.Ino)
	return frame(b, sockDiagByFamily, fixed, func(b []byte) []byte {
		if show&unixShowName != 0 && len(s.Name) > 0 {
			b = attr(b, unixDiagName, s.Name)
		}
		if show&unixShowPeer != 0 && s.Peer != 0 {
			b = Attr32(b, unixDiagPeer, uint32(s.Peer))
		}
		if show&unixShowQueue != 0 {
			read, write := s.Queue, s.Sent
			if s.State == afunix.Listening {
				write = s.Backlog
			}
			b = attr(b, unixDiagQueue, le.AppendUint32(le.AppendUint32(nil, uint32(read)), uint32(write)))
		}
		return Attr8(b, unixDiagShutdown, byte(s.Shutdown))
	})
}

// A diagSock is what is shown of a netlink socket.
type diagSock struct {
	typ, protocol int
	id, peer      uint32
	ino           uint64
	groups        []byte
}

func (r *request) diagNetlink() (bool, error) {
	if len(r.body) < netlinkRequestSize {
		return false, unix.EINVAL
	}
	if !r.isDump() {
		return false, unix.EOPNOTSUPP
	}
	protocol, show, n := int(r.body[1]), le.Uint32(r.body[8:]), r.k.net
	return true, r.startDump(func() table {
		list := n.list()
		return table{len(list), func(b []byte, i int) []byte {
			if s := &list[i]; protocol == netlinkAll || protocol == s.protocol {
				return putNetlink(b, s, show)
			}
			return b
		}}
	})
}

// list shows all sockets.
func (n *Network) list() (all []diagSock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range n.all {
		k.mu.Lock()
		s := diagSock{typ: k.s.Type, protocol: k.s.Protocol, id: k.id, peer: k.peer}
		for _, g := range k.groups {
			s.groups = le.AppendUint64(s.groups, g)
		}
		k.mu.Unlock()
		if f := k.s.File(); f != nil {
			s.ino = f.Inode().Ino
		}
		all = append(all, s)
	}
	sorting.Sort(all, func(a, b diagSock) int { return cmp.Compare(a.ino, b.ino) }) // for who asks again for the rest
	return all
}

// putNetlink lays out struct netlink_diag_msg.
func putNetlink(b []byte, s *diagSock, show uint32) []byte {
	const connected = 1
	state := byte(0)
	if s.peer != 0 {
		state = connected
	}
	fixed := []byte{unix.AF_NETLINK, byte(s.typ), byte(s.protocol), state}
	for _, v := range []uint32{s.id, s.peer, 0, uint32(s.ino)} {
		fixed = le.AppendUint32(fixed, v)
	}
	return frame(b, sockDiagByFamily, le.AppendUint64(fixed, s.ino), func(b []byte) []byte {
		if show&netlinkShowGroups != 0 && s.groups != nil {
			b = attr(b, netlinkGroups, s.groups)
		}
		return b
	})
}
