// Package netlink makes sockets of AF_NETLINK (netlink(7)), by which programs ask the kernel about the network and
// change it: NETLINK_ROUTE (rtnetlink(7)) for links, addresses, routes and neighbours, NETLINK_SOCK_DIAG
// (sock_diag(7)) for ss(8), and NETLINK_KOBJECT_UEVENT, on which nothing is ever said.
//
// What the network is comes from a Stack. A request is answered while it is sent: its answers
// lie in the socket's queue when send returns. A dump is made piece by piece as it is
// read, so that it needs no more memory than the socket's buffer.
//
// Lock order: Network.mu → sock.mu → the queue's. Neither is held while the Stack is asked.
package netlink

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/bpf"
	"gosv/kernel/namespace"
	"gosv/kernel/share"
	"gosv/kernel/socket"
	"gosv/kernel/socket/afunix"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

var le = binary.LittleEndian

// A Network is the netlink of one kernel.
type Network struct {
	stack func() Stack
	local *afunix.Network
	// Space is the number of the network namespace, and Owner the user namespace whose root may change it. They are set before the first socket is made.
	Space uint64
	Owner *namespace.User
	// Spaces returns the network of a process, or of a network namespace that is open, and the namespace, with a use that the caller is to end: ESRCH,
	// EBADF, EINVAL. nil: there are no others.
	Spaces func(c *socket.Caller, pid, fd int32, byFD bool) (Stack, *namespace.Head, error)
	// Ioctl serves the SIOC requests about interfaces (netdevice(7)); nil: ENOTTY.
	Ioctl func(a *vfs.IoctlArgs) (uint64, error)

	mu    sync.Mutex
	ports map[port]*sock     // guarded by mu
	all   map[*sock]struct{} // guarded by mu
	auto  uint32             // last number given to a second socket of a process; guarded by mu
}

// port is what a socket is bound to.
type port struct {
	protocol int
	id       uint32
}

// New returns a Network. stack is called when a program first asks for something; local is AF_UNIX, for ss(8).
func New(stack func() Stack, local *afunix.Network) *Network {
	return &Network{stack: stack, local: local, ports: make(map[port]*sock), all: make(map[*sock]struct{})}
}

// Family is what the kernel knows AF_NETLINK by.
func (n *Network) Family() *socket.Family { return &socket.Family{New: n.create} }

// A sock is one socket.
type sock struct {
	socket.Defaults
	s      socket.Socket
	net    *Network
	filter socket.Filter

	// All below is guarded by mu.
	mu      sync.Mutex
	id      uint32 // nl_pid
	bound   bool
	peer    uint32   // where connect(2) points, 0: the kernel
	groups  []uint64 // bits by number, from 1 on
	queue   []packet
	bytes   int // charged for queue
	dump    *dump
	largest int // buffer that a program offered
	flags   map[int]bool
}

// packet is one datagram for the program.
type packet struct {
	b     []byte
	group int // 0: an answer
}

// overhead is what a packet costs beside its bytes.
const overhead = 768

func (n *Network) create(_ *socket.Caller, typ, protocol int) (*socket.Socket, error) {
	if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	switch protocol {
	case unix.NETLINK_ROUTE, unix.NETLINK_SOCK_DIAG, unix.NETLINK_KOBJECT_UEVENT:
	default:
		return nil, unix.EPROTONOSUPPORT
	}
	k := &sock{net: n, flags: make(map[int]bool)}
	k.s.Init(unix.AF_NETLINK, typ, protocol, k)
	n.mu.Lock()
	n.all[k] = struct{}{}
	n.mu.Unlock()
	return &k.s, nil
}

// addrSize is sizeof(struct sockaddr_nl).
const addrSize = unix.SizeofSockaddrNetlink

func parseAddr(b []byte) (id, groups uint32, err error) {
	if len(b) < addrSize || le.Uint16(b) != unix.AF_NETLINK {
		return 0, 0, unix.EINVAL
	}
	return le.Uint32(b[4:]), le.Uint32(b[8:]), nil
}

func formatAddr(id, groups uint32) []byte {
	b := make([]byte, addrSize)
	le.PutUint16(b, unix.AF_NETLINK)
	le.PutUint32(b[4:], id)
	le.PutUint32(b[8:], groups)
	return b
}

// Bind implements socket.Ops.
func (k *sock) Bind(c *socket.Caller, addr []byte) error {
	id, groups, err := parseAddr(addr)
	if err != nil {
		return err
	}
	k.mu.Lock()
	bound, have := k.bound, k.id
	k.mu.Unlock()
	switch {
	case bound && id != 0 && id != have:
		return unix.EINVAL
	case !bound && id != 0:
		err = k.take(id)
	case !bound:
		err = k.autobind(c.PID)
	}
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.groups) == 0 {
		k.groups = make([]uint64, 1)
	}
	k.groups[0] = k.groups[0]&^0xffffffff | uint64(groups)
	return nil
}

// take gives the socket a number: EADDRINUSE, EINVAL when it has one.
func (k *sock) take(id uint32) error {
	n := k.net
	n.mu.Lock()
	defer n.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	p := port{k.s.Protocol, id}
	switch {
	case k.bound:
		return unix.EINVAL
	case n.ports[p] != nil:
		return unix.EADDRINUSE
	}
	n.ports[p] = k
	k.id, k.bound = id, true
	return nil
}

// firstAuto is above the numbers that autobind gives when the process's own is taken.
const firstAuto = 1<<32 - 4096

// autobind gives the socket the number of the process, or when that is taken some number that is none.
func (k *sock) autobind(pid int32) error {
	id := uint32(pid)
	for range 1 << 16 {
		switch err := k.take(id); err {
		case unix.EADDRINUSE:
		case unix.EINVAL: // bound meanwhile
			return nil
		default:
			return err
		}
		k.net.mu.Lock()
		k.net.auto++
		id = firstAuto - k.net.auto
		k.net.mu.Unlock()
	}
	return unix.EADDRINUSE
}

// Connect implements socket.Ops.
func (k *sock) Connect(c *socket.Caller, addr []byte) error {
	if le.Uint16(addr) == unix.AF_UNSPEC {
		k.mu.Lock()
		k.peer = 0
		k.mu.Unlock()
		return nil
	}
	id, groups, err := parseAddr(addr)
	if err != nil {
		return err
	}
	if (id != 0 || groups != 0) && !c.Cred.CapableIn(k.net.Owner, unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	k.mu.Lock()
	bound := k.bound
	k.mu.Unlock()
	if !bound {
		if err := k.autobind(c.PID); err != nil {
			return err
		}
	}
	k.mu.Lock()
	k.peer = id
	k.mu.Unlock()
	return nil
}

// Name implements socket.Ops.
func (k *sock) Name(peer bool) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if peer {
		return formatAddr(k.peer, 0), nil
	}
	groups := uint32(0)
	if len(k.groups) > 0 {
		groups = uint32(k.groups[0])
	}
	return formatAddr(k.id, groups), nil
}

// Send implements socket.Ops: requests to the kernel. Programs do not talk to each other.
func (k *sock) Send(m *socket.Message, src uio.Source) (int64, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	k.mu.Lock()
	to, groups, bound := k.peer, uint32(0), k.bound
	k.mu.Unlock()
	if m.Addr != nil {
		var err error
		if to, groups, err = parseAddr(m.Addr); err != nil {
			return 0, err
		}
		if (to != 0 || groups != 0) && !m.Cred.CapableIn(k.net.Owner, unix.CAP_NET_ADMIN) {
			return 0, unix.EPERM
		}
	}
	if !bound {
		if err := k.autobind(m.PID); err != nil {
			return 0, err
		}
	}
	n := src.Left()
	if n > k.s.SendBuffer()-32 {
		return 0, unix.EMSGSIZE
	}
	b := make([]byte, n)
	if got, err := src.Take(b); got < n {
		if err == nil {
			err = unix.EFAULT
		}
		return 0, err
	}
	if to != 0 || k.s.Protocol == unix.NETLINK_KOBJECT_UEVENT {
		return 0, unix.ECONNREFUSED
	}
	k.requests(m, b)
	return int64(n), nil
}

// Receive implements socket.Ops.
func (k *sock) Receive(m *socket.Message, dst uio.Sink) (int64, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if k.s.HasError() {
		return 0, k.s.TakeError()
	}
	k.mu.Lock()
	k.largest = max(k.largest, dst.Left())
	if len(k.queue) == 0 {
		k.mu.Unlock()
		return 0, unix.EAGAIN
	}
	p := k.queue[0]
	if m.Flags&unix.MSG_PEEK == 0 {
		k.queue = k.queue[1:]
		k.bytes -= len(p.b) + overhead
		share.Datagrams.Give(int64(len(p.b) + overhead))
	}
	d, packetInfo := k.dump, k.flags[unix.NETLINK_PKTINFO]
	k.mu.Unlock()
	n, err := dst.Put(p.b)
	if err != nil {
		return 0, err
	}
	if n < len(p.b) {
		m.Out |= unix.MSG_TRUNC
	}
	if m.WantAddr {
		groups := uint32(0)
		if p.group > 0 && p.group <= 32 {
			groups = 1 << (p.group - 1)
		}
		m.Addr = append(m.Addr, formatAddr(0, groups)...)
	}
	if packetInfo {
		m.Control = append(m.Control, socket.Control{Level: unix.SOL_NETLINK, Type: unix.NETLINK_PKTINFO, Data: socket.Int(p.group)})
	}
	if k.s.Is(socket.PassCred) {
		m.Control = append(m.Control, socket.Control{Level: unix.SOL_SOCKET, Type: unix.SCM_CREDENTIALS, Data: socket.Ucred{}.Bytes()})
	}
	if d != nil && m.Flags&unix.MSG_PEEK == 0 {
		k.goOn(d)
	}
	if m.Flags&unix.MSG_TRUNC != 0 {
		n = len(p.b)
	}
	return int64(n), nil
}

// put puts a datagram into the queue, if the filter wants it: ENOBUFS when it is full. mu is held.
//
// +checklocks:k.mu
func (k *sock) put(b []byte, group int) error {
	want, ok := k.filter.Wants(&bpf.Packet{Data: b, Len: len(b), Protocol: uint32(k.s.Protocol)})
	if !ok {
		return nil
	}
	b = b[:want]
	if k.bytes > 0 && k.bytes+len(b)+overhead > k.s.RecvBuffer() {
		return unix.ENOBUFS
	}
	if !share.Datagrams.Take(int64(len(b) + overhead)) {
		return unix.ENOBUFS
	}
	k.queue = append(k.queue, packet{b, group})
	k.bytes += len(b) + overhead
	return nil
}

// Deliver implements socket.Mailbox.
func (k *sock) Deliver(b []byte) { k.answer(append([]byte(nil), b...)) }

// answer puts an answer into the queue. When there is no room the program learns so from its next read.
func (k *sock) answer(b []byte) {
	k.mu.Lock()
	err := k.put(b, 0)
	k.mu.Unlock()
	k.tell(err)
}

func (k *sock) tell(err error) {
	if err != nil {
		k.mu.Lock()
		quiet := k.flags[unix.NETLINK_NO_ENOBUFS]
		k.mu.Unlock()
		if !quiet {
			k.s.SetError(unix.ENOBUFS)
		}
	}
	k.s.Queue.Notify(unix.EPOLLIN | unix.EPOLLRDNORM | unix.EPOLLERR)
}

// Broadcast sends a message to all sockets of a protocol that are members of a group.
func (n *Network) Broadcast(protocol, group int, b []byte) {
	n.mu.Lock()
	var list []*sock
	for k := range n.all {
		if k.s.Protocol == protocol && k.member(group) {
			list = append(list, k)
		}
	}
	n.mu.Unlock()
	for _, k := range list {
		k.mu.Lock()
		err := k.put(b, group)
		k.mu.Unlock()
		k.tell(err)
	}
}

func (k *sock) member(group int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := (group - 1) / 64
	return group > 0 && w < len(k.groups) && k.groups[w]>>((group-1)%64)&1 != 0
}

// Poll implements socket.Ops.
func (k *sock) Poll() wait.Mask {
	ready := wait.Mask(unix.EPOLLOUT | unix.EPOLLWRNORM | unix.EPOLLWRBAND)
	if k.s.HasError() {
		ready |= unix.EPOLLERR
	}
	k.mu.Lock()
	if len(k.queue) > 0 {
		ready |= unix.EPOLLIN | unix.EPOLLRDNORM
	}
	k.mu.Unlock()
	return ready
}

// Close implements socket.Ops.
func (k *sock) Close() {
	n := k.net
	n.mu.Lock()
	delete(n.all, k)
	k.mu.Lock()
	if k.bound {
		delete(n.ports, port{k.s.Protocol, k.id})
	}
	share.Datagrams.Give(int64(k.bytes))
	k.queue, k.bytes, k.dump = nil, 0, nil
	k.mu.Unlock()
	n.mu.Unlock()
}

// Ioctl implements socket.Ops: those about interfaces.
func (k *sock) Ioctl(a *vfs.IoctlArgs) (uint64, error) {
	if k.net.Ioctl == nil {
		return 0, unix.ENOTTY
	}
	return k.net.Ioctl(a)
}

// maxGroup is the highest number of a group.
const maxGroup = 64

// Option implements socket.Ops.
func (k *sock) Option(_ *socket.Caller, level, name int) ([]byte, error) {
	if level != unix.SOL_NETLINK {
		return nil, unix.ENOPROTOOPT
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch name {
	case unix.NETLINK_LIST_MEMBERSHIPS:
		var b []byte
		for _, w := range k.groups {
			b = le.AppendUint64(b, w)
		}
		return b, nil
	case unix.NETLINK_PKTINFO, unix.NETLINK_BROADCAST_ERROR, unix.NETLINK_NO_ENOBUFS, unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK:
		if k.flags[name] {
			return socket.Int(1), nil
		}
		return socket.Int(0), nil
	}
	return nil, unix.ENOPROTOOPT
}

// SetOption implements socket.Ops.
func (k *sock) SetOption(c *socket.Caller, level, name int, value []byte) error {
	switch level {
	case unix.SOL_SOCKET:
		return k.filter.SetOption(&k.s.Options, name, value)
	case unix.SOL_NETLINK:
	default:
		return unix.ENOPROTOOPT
	}
	v, err := socket.ParseInt(value)
	if err != nil {
		return err
	}
	switch name {
	case unix.NETLINK_ADD_MEMBERSHIP, unix.NETLINK_DROP_MEMBERSHIP:
		if v < 1 || v > maxGroup {
			return unix.EINVAL
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.groups) == 0 {
			k.groups = make([]uint64, 1)
		}
		if bit := uint64(1) << (v - 1); name == unix.NETLINK_ADD_MEMBERSHIP {
			k.groups[0] |= bit
		} else {
			k.groups[0] &^= bit
		}
	case unix.NETLINK_PKTINFO, unix.NETLINK_BROADCAST_ERROR, unix.NETLINK_NO_ENOBUFS, unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK:
		k.mu.Lock()
		k.flags[name] = v != 0
		k.mu.Unlock()
	case unix.NETLINK_LISTEN_ALL_NSID: // namespaces have no numbers for each other
		if !c.Cred.CapableIn(k.net.Owner, unix.CAP_NET_ADMIN) {
			return unix.EPERM
		}
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}
