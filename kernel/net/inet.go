package net

import (
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	netraw "gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"gosv/kernel/share"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
)

// INET and INET6 are the families AF_INET and AF_INET6.
func (n *Network) INET() *socket.Family { return n.family(unix.AF_INET) }

// INET6 is the family AF_INET6.
func (n *Network) INET6() *socket.Family { return n.family(unix.AF_INET6) }

func (n *Network) family(family int) *socket.Family {
	return &socket.Family{New: func(c *socket.Caller, typ, protocol int) (*socket.Socket, error) {
		k, err := n.newSock(c, family, typ, protocol)
		if err != nil {
			return nil, err
		}
		return &k.s, nil
	}}
}

// A sock is one socket of AF_INET or AF_INET6 over an endpoint of netstack.
type sock struct {
	socket.Defaults
	s     socket.Socket
	net   *Network
	ep    tcpip.Endpoint
	wq    *waiter.Queue
	entry waiter.Entry
	id    uint64      // set once
	plain plainPoller // the endpoint, nil when it is none; set once
	own   transfer

	mu     sync.Mutex
	waited bool              // guarded by mu: connect(2) was called and blocks until it is done
	told   bool              // guarded by mu: connect(2) has said how it ended
	cut    bool              // guarded by mu: the last connection was ended by connect(2) with AF_UNSPEC
	rshut  bool              // guarded by mu: shutdown(2) for reading
	wshut  bool              // guarded by mu: shutdown(2) for writing
	opts   options           // guarded by mu
	named  tcpip.FullAddress // guarded by mu: what bind(2) asked for

	copies copies

	groMu sync.Mutex // who receives several datagrams as one looks at them first

	heldMu sync.Mutex
	held   *held // guarded by heldMu: a datagram of which more is to come

	markMu sync.Mutex
	mark   mark // guarded by markMu; the short cut has its own

	fast                 atomic.Pointer[half] // the connection, when it goes by the short cut; connect(2) with AF_UNSPEC takes it away
	deafened             atomic.Bool          // it listened until shutdown(2)
	corked               atomic.Bool          // TCP_CORK is on because of MSG_MORE
	inq                  atomic.Bool          // TCP_INQ
	special              atomic.Bool          // there was urgent data, or shutdown(2): Poll has more to look at
	segment              atomic.Int32         // UDP_SEGMENT in bytes, 0 for none
	gro                  atomic.Bool          // UDP_GRO
	notsent              atomic.Int32         // TCP_NOTSENT_LOWAT in bytes, 0 for none
	sendAsked, recvAsked atomic.Int32         // SO_SNDBUF and SO_RCVBUF in bytes as they were asked for, 0 when they were not

	listens bool // guarded by net.mu, with bound
	bound   tcpip.FullAddress

	fastMu     sync.Mutex
	pending    []*conn // came by the short cut and were not accepted; guarded by fastMu, with all below
	backlog    int
	deferred   bool // TCP_DEFER_ACCEPT
	fastClosed bool
}

// NotifyEvent implements waiter.EventListener: masks have Linux's numbers.
func (k *sock) NotifyEvent(m waiter.EventMask) { k.s.Queue.Notify(wait.Mask(m.ToLinux())) }

func (n *Network) newSock(c *socket.Caller, family, typ, protocol int) (*sock, error) {
	_, raw, err := transportOf(family, typ, protocol)
	if err != nil {
		return nil, err
	}
	if raw && !c.Cred.CapableIn(n.cfg.Owner, unix.CAP_NET_RAW) {
		return nil, unix.EPERM
	}
	return n.newEndpoint(family, typ, protocol)
}

// sockCost is what a socket takes of share.Sockets, in bytes: with netstack's endpoint, about as much as was measured.
const sockCost = 4 << 10

// newEndpoint makes a socket whose maker has been checked.
func (n *Network) newEndpoint(family, typ, protocol int) (*sock, error) {
	transport, raw, err := transportOf(family, typ, protocol)
	if err != nil {
		return nil, err
	}
	if !share.Sockets.Take(sockCost) {
		return nil, unix.ENOBUFS
	}
	network := header.IPv4ProtocolNumber
	if family == unix.AF_INET6 {
		network = header.IPv6ProtocolNumber
	}
	wq := &waiter.Queue{}
	var ep tcpip.Endpoint
	var terr tcpip.Error
	switch {
	case raw && protocol == unix.IPPROTO_RAW: // raw(7): only sends, with the header
		ep, terr = n.Stack().NewRawEndpoint(transport, network, wq, false)
	case raw:
		ep, terr = netraw.NewEndpoint(n.Stack(), network, transport, wq)
	default:
		ep, terr = n.Stack().NewEndpoint(transport, network, wq)
	}
	if terr != nil {
		share.Sockets.Give(sockCost)
		return nil, errno(terr)
	}
	if protocol == 0 {
		protocol = int(transport)
	}
	return n.wrap(ep, wq, family, typ, protocol), nil
}

// wrap makes a socket of an endpoint.
func (n *Network) wrap(ep tcpip.Endpoint, wq *waiter.Queue, family, typ, protocol int) *sock {
	k := &sock{net: n, ep: ep, wq: wq}
	k.plain, _ = ep.(plainPoller)
	k.s.Init(family, typ, protocol, k)
	k.opts.discover = unix.IP_PMTUDISC_WANT
	if typ == unix.SOCK_RAW {
		k.s.SetFlag(socket.ReuseAddr, true)
	}
	k.entry.Init(k, waiter.AllEvents)
	wq.EventRegister(&k.entry)
	n.enter(k)
	return k
}

// maxProtocol is Linux's greatest number of a protocol, IPPROTO_MPTCP.
const maxProtocol = unix.IPPROTO_MPTCP

// transportOf says which of netstack's protocols a socket is: ESOCKTNOSUPPORT, EPROTONOSUPPORT.
func transportOf(family, typ, protocol int) (t tcpip.TransportProtocolNumber, raw bool, err error) {
	ping := unix.IPPROTO_ICMP
	if family == unix.AF_INET6 {
		ping = unix.IPPROTO_ICMPV6
	}
	switch {
	case protocol < 0 || protocol > maxProtocol:
		return 0, false, unix.EINVAL
	case protocol > 255:
		return 0, false, unix.EPROTONOSUPPORT // IPPROTO_MPTCP among them
	case typ == unix.SOCK_STREAM && (protocol == 0 || protocol == unix.IPPROTO_TCP):
		return tcp.ProtocolNumber, false, nil
	case typ == unix.SOCK_DGRAM && (protocol == 0 || protocol == unix.IPPROTO_UDP):
		return udp.ProtocolNumber, false, nil
	case typ == unix.SOCK_DGRAM && protocol == ping:
		if family == unix.AF_INET6 {
			return icmp.ProtocolNumber6, false, nil
		}
		return icmp.ProtocolNumber4, false, nil
	case typ == unix.SOCK_RAW && protocol != 0:
		return tcpip.TransportProtocolNumber(protocol), true, nil
	case typ == unix.SOCK_STREAM || typ == unix.SOCK_DGRAM || typ == unix.SOCK_RAW:
		return 0, false, unix.EPROTONOSUPPORT
	}
	return 0, false, unix.ESOCKTNOSUPPORT
}

func (k *sock) stream() bool { return k.s.Type == unix.SOCK_STREAM }

// Bind implements socket.Ops.
func (k *sock) Bind(c *socket.Caller, addr []byte) error {
	a, err := parseAddr(k.s.Family, addr)
	if err == unix.EAFNOSUPPORT && k.s.Family == unix.AF_INET && familyOf(addr) == unix.AF_UNSPEC && len(addr) >= sizeInet4 && [4]byte(addr[4:8]) == [4]byte{} {
		err = nil // an old way to say INADDR_ANY (bind(2), ip(7))
	}
	if err != nil {
		return err
	}
	if k.s.Family == unix.AF_INET6 && familyOf(addr) == unix.AF_INET {
		return unix.EINVAL
	}
	if a.Port != 0 && int32(a.Port) < k.net.tunables.unprivileged.Load() && k.s.Type != unix.SOCK_RAW && !c.Cred.CapableIn(k.net.cfg.Owner, unix.CAP_NET_BIND_SERVICE) {
		return unix.EACCES
	}
	if k.s.Type == unix.SOCK_RAW {
		a.Port = 0
	}
	err = errno(k.ep.Bind(a))
	if err == nil {
		k.mu.Lock()
		k.named = a
		k.mu.Unlock()
	}
	return err
}

// Listen implements socket.Ops.
func (k *sock) Listen(_ *socket.Caller, backlog int) error {
	if !k.stream() {
		return unix.EOPNOTSUPP
	}
	if k.fast.Load() != nil {
		return unix.EINVAL
	}
	if err := k.ep.Listen(backlog); err != nil {
		return errno(err)
	}
	k.fastMu.Lock()
	k.backlog, k.fastClosed = backlog, false
	k.fastMu.Unlock()
	k.deafened.Store(false)
	k.net.listening(k)
	return nil
}

// Connect implements socket.Ops.
func (k *sock) Connect(c *socket.Caller, addr []byte) error {
	if familyOf(addr) == unix.AF_UNSPEC {
		if k.stream() {
			return k.disconnect()
		}
		err := k.ep.Disconnect()
		if _, ok := err.(*tcpip.ErrNotSupported); ok {
			return unix.EAFNOSUPPORT
		}
		return errno(err)
	}
	a, err := parseAddr(k.s.Family, addr)
	if err != nil {
		return err
	}
	a.Addr = orLoopback(k.s.Family, a.Addr)
	if k.stream() {
		return k.connectStream(c, a)
	}
	err = errno(k.ep.Connect(a))
	if err == unix.EADDRNOTAVAIL && k.s.Type == unix.SOCK_DGRAM {
		err = unix.EAGAIN
	}
	return err
}

// orLoopback is where a connection to no address in particular goes, as on Linux: to this machine.
func orLoopback(family int, a tcpip.Address) tcpip.Address {
	switch {
	case a.Len() == 0 && family == unix.AF_INET:
		return tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a.Len() == 0:
		return header.IPv6Loopback
	case family == unix.AF_INET6 && a == mapped(header.IPv4Any):
		return mapped(tcpip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return a
}

func (k *sock) connectStream(c *socket.Caller, a tcpip.FullAddress) error {
	if header.IsV4MulticastAddress(a.Addr) || header.IsV6MulticastAddress(a.Addr) || a.Addr == header.IPv4Broadcast {
		return unix.ENETUNREACH
	}
	k.collectError()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		k.cut = false
		_ = k.s.TakeError() // of the last connection
	}
	if k.fast.Load() == nil && (k.waited || k.told) && k.met() {
		return unix.EISCONN // also when it has failed since
	}
	if k.s.HasError() {
		k.told = true
		return k.s.TakeError()
	}
	if k.fast.Load() != nil {
		if k.waited || k.told {
			return unix.EISCONN
		}
		k.told = true
		return nil
	}
	switch k.state() {
	case tcp.StateListen:
		return unix.EISCONN
	case tcp.StateError, tcp.StateClose:
		if err := k.again(); err != nil {
			return err
		}
	}
	switch k.state() {
	case tcp.StateInitial, tcp.StateBound:
		if k.shortcut(a) {
			if k.waited = !c.Nonblock; k.waited {
				return nil
			}
			return unix.EINPROGRESS // as on Linux, where the answer comes a moment later
		}
	}
	k.expectUrgent()
	err := k.ep.Connect(a)
	switch err.(type) {
	case *tcpip.ErrConnectStarted:
		k.waited, k.told = !c.Nonblock, false
	case nil:
		if k.waited || k.told {
			return unix.EISCONN
		}
		k.told = true
	}
	return errno(err)
}

// again prepares another attempt after a connection failed: ECONNABORTED when no connect(2) has said so yet, as on Linux. k.mu is held.
func (k *sock) again() error {
	untold := !k.waited && !k.told
	var err error
	if e, ok := k.ep.(renewable); ok && e.Renew() {
		k.waited, k.told, k.rshut, k.wshut = false, false, false, false
		if k.named != (tcpip.FullAddress{}) {
			err = errno(k.ep.Bind(k.named))
		}
	} else { // netstack says what is wrong
		k.told = true
	}
	if untold {
		return unix.ECONNABORTED
	}
	return err
}

// state is the state of a TCP endpoint.
func (k *sock) state() tcp.EndpointState {
	if h := k.fast.Load(); h != nil {
		return h.state()
	}
	s := tcp.EndpointState(k.ep.State())
	if s == tcp.StateListen && k.deafened.Load() {
		return tcp.StateBound
	}
	return s
}

// Accept implements socket.Ops.
func (k *sock) Accept(*socket.Caller) (*socket.Socket, error) {
	if !k.stream() {
		return nil, unix.EOPNOTSUPP
	}
	if n, err := k.acceptFast(); n != nil {
		n.told = true // nobody else knows it yet
		return &n.s, nil
	} else if err != nil {
		return nil, err
	}
	if !share.Sockets.Take(sockCost) {
		return nil, unix.ENOBUFS
	}
	ep, wq, err := k.ep.Accept(nil)
	if err != nil {
		share.Sockets.Give(sockCost)
		return nil, errno(err)
	}
	n := k.net.wrap(ep, wq, k.s.Family, k.s.Type, k.s.Protocol)
	n.inherit(k)
	n.expectUrgent()
	n.mu.Lock()
	n.told = true
	n.mu.Unlock()
	return &n.s, nil
}

// Name implements socket.Ops.
func (k *sock) Name(peer bool) ([]byte, error) {
	if h := k.fast.Load(); h != nil {
		return h.name(k.s.Family, peer)
	}
	if !peer {
		a, err := k.ep.GetLocalAddress()
		if err != nil {
			return nil, errno(err)
		}
		return formatAddr(k.s.Family, a), nil
	}
	if k.stream() {
		switch s := k.state(); s {
		case tcp.StateInitial, tcp.StateBound, tcp.StateListen, tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv, tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
			return nil, unix.ENOTCONN
		}
	}
	a, err := k.ep.GetRemoteAddress()
	if err != nil {
		return nil, unix.ENOTCONN
	}
	return formatAddr(k.s.Family, a), nil
}

// A transfer is what a call needs to hand a program's memory to netstack. A socket has one, for the call that comes first.
type transfer struct {
	taken atomic.Bool
	source
	sink
}

// transfer returns one for a call, which gives it back.
func (k *sock) transfer() *transfer {
	if k.own.taken.CompareAndSwap(false, true) {
		return &k.own
	}
	return new(transfer)
}

func (t *transfer) done() {
	t.source, t.sink = source{}, sink{}
	t.taken.Store(false)
}

// source is a uio.Source as a tcpip.Payloader.
type source struct{ src uio.Source }

func (p source) Len() int { return p.src.Left() }
func (p source) Read(b []byte) (int, error) {
	if p.src.Left() == 0 {
		return 0, io.EOF
	}
	if len(b) == 0 {
		return 0, nil // netstack asks whether there is more
	}
	n, err := p.src.Take(b)
	if n > 0 {
		err = nil
	} else if err == nil {
		err = unix.EFAULT // there is more, and it cannot be had: netstack would try for ever
	}
	return n, err
}

// Send implements socket.Ops.
func (k *sock) Send(m *socket.Message, src uio.Source) (int64, error) {
	if k.stream() {
		return k.sendStream(m, src)
	}
	return k.sendDatagram(m, src)
}

func (k *sock) sendStream(m *socket.Message, src uio.Source) (int64, error) {
	k.collectError()
	if k.s.HasError() {
		return 0, k.s.TakeError()
	}
	urgent := m.Flags&unix.MSG_OOB != 0
	if h := k.fast.Load(); h != nil {
		return h.send(src, urgent)
	}
	o := tcpip.WriteOptions{More: m.Flags&unix.MSG_MORE != 0, EndOfRecord: m.Flags&unix.MSG_EOR != 0}
	if err := k.sendControl(m, &o); err != nil {
		return 0, err
	}
	switch {
	case src.Left() == 0:
		return 0, k.mayWrite()
	case k.tooMuchUnsent():
		return 0, unix.EAGAIN
	}
	want := int64(src.Left())
	x := k.transfer()
	defer x.done()
	x.source.src = src
	var p tcpip.Payloader = &x.source
	if urgent {
		if _, ok := k.ep.(urgentEndpoint); !ok {
			return 0, unix.EOPNOTSUPP
		}
		p = urgentSource{source{src}}
	}
	if o.More {
		k.cork()
	}
	n, err := k.ep.Write(p, o)
	if !o.More && k.corked.Swap(false) {
		k.ep.SocketOptions().SetCorkOption(false)
	}
	if err != nil {
		return 0, k.streamError(err)
	}
	if n < want && k.ep.Readiness(waiter.WritableEvents) != 0 {
		// Room was made while the bytes were copied, of which netstack tells only whom it has told that there is none. Who has
		// sent a part waits for it to be told (epoll(7), EPOLLET).
		k.s.Queue.Notify(writable)
	}
	return n, nil
}

func (k *sock) sendDatagram(m *socket.Message, src uio.Source) (int64, error) {
	if k.s.HasError() {
		return 0, k.s.TakeError()
	}
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	o := tcpip.WriteOptions{More: m.Flags&unix.MSG_MORE != 0, EndOfRecord: m.Flags&unix.MSG_EOR != 0, Atomic: true}
	segment, said := 0, m.Control
	if k.udp() {
		var err error
		if segment, err = k.udpSegment(m); err != nil {
			return 0, err
		}
	}
	if err := k.sendControl(m, &o); err != nil {
		return 0, err
	}
	if m.Addr != nil {
		a, err := parseAddr(k.s.Family, m.Addr)
		if err != nil {
			return 0, err
		}
		a.Addr = orLoopback(k.s.Family, a.Addr)
		o.To = &a
	}
	if k.udp() {
		if n, done, err := k.hold(src, &o); done {
			return n, err
		}
		if segment > 0 && src.Left() > segment {
			n, err := k.sendSegments(src, &o, segment)
			if err == unix.EAGAIN {
				m.Control = said // for the next try
			}
			return n, err
		}
	}
	x := k.transfer()
	defer x.done()
	x.source.src = src
	n, err := k.ep.Write(&x.source, o)
	if err != nil {
		return 0, errno(err)
	}
	return n, nil
}

// cork holds what does not fill a segment until a send without MSG_MORE, or 200 ms (send(2)).
func (k *sock) cork() {
	if o := k.ep.SocketOptions(); !o.GetCorkOption() {
		o.SetCorkOption(true)
		k.corked.Store(true)
	}
}

// streamError is what a send on a stream says when it failed.
func (k *sock) streamError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrNotConnected, *tcpip.ErrInvalidEndpointState:
		return unix.EPIPE
	}
	switch k.state() {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return unix.EAGAIN
	}
	return errno(err)
}

// mayWrite says what a write of nothing to a stream gives.
func (k *sock) mayWrite() error {
	switch k.state() {
	case tcp.StateInitial, tcp.StateBound, tcp.StateListen, tcp.StateClose, tcp.StateError:
		return unix.EPIPE
	}
	return nil
}

// Receive implements socket.Ops.
func (k *sock) Receive(m *socket.Message, dst uio.Sink) (int64, error) {
	switch {
	case m.Flags&unix.MSG_ERRQUEUE != 0:
		return k.receiveError(m, dst)
	case m.Flags&unix.MSG_OOB != 0:
		return k.receiveUrgent(m, dst)
	case k.stream():
		return k.receiveStream(m, dst)
	}
	if k.s.HasError() {
		return 0, k.s.TakeError()
	}
	if k.gro.Load() {
		return k.receiveGRO(m, dst)
	}
	var r tcpip.ReadResult
	n, err := k.receiveOne(m, dst, m.WantAddr, &r)
	return int64(n), err
}

// receiveOne receives a datagram and says in r what was read: its length is what there was room for, with MSG_TRUNC its own. EAGAIN; a
// socket that was shut down gives 0 bytes.
func (k *sock) receiveOne(m *socket.Message, dst uio.Sink, wantAddr bool, r *tcpip.ReadResult) (n int, _ error) {
	room := dst.Left()
	var err tcpip.Error
	*r, err = k.ep.Read(datagram{dst}, tcpip.ReadOptions{Peek: m.Flags&unix.MSG_PEEK != 0, NeedRemoteAddr: wantAddr})
	if err != nil {
		if _, closed := err.(*tcpip.ErrClosedForReceive); closed {
			if m.Nonblock {
				return 0, unix.EAGAIN
			}
			return 0, nil
		}
		return 0, errno(err)
	}
	n = room - dst.Left()
	if n < r.Total {
		m.Out |= unix.MSG_TRUNC
		if m.Flags&unix.MSG_TRUNC != 0 {
			n = r.Total
		}
	}
	if m.WantAddr {
		m.Addr = append(m.Addr, formatAddr(k.s.Family, r.RemoteAddr)...)
	}
	k.receivedControl(m, &r.ControlMessages)
	return n, nil
}

// datagram is a uio.Sink as an io.Writer which takes what fits, and says that it took all, so that the rest is dropped.
type datagram struct{ dst uio.Sink }

func (w datagram) Write(b []byte) (int, error) {
	if n, err := w.dst.Put(b); err != nil {
		return n, err
	}
	return len(b), nil
}

// discard is a uio.Sink that forgets what it takes (MSG_TRUNC on a stream, tcp(7)).
type discard struct{ n int }

func (d *discard) Put(b []byte) (int, error) {
	n := min(len(b), d.n)
	d.n -= n
	return n, nil
}
func (d *discard) PutWord(v uint64) error { return uio.WordTo(d, v) }
func (d *discard) Left() int              { return d.n }

func (k *sock) receiveStream(m *socket.Message, dst uio.Sink) (int64, error) {
	if m.Flags&unix.MSG_TRUNC != 0 {
		dst = &discard{dst.Left()}
	}
	if k.inq.Load() {
		defer k.tellQueued(m)
	}
	if h := k.fast.Load(); h != nil {
		return h.receive(m, dst)
	}
	if dst.Left() == 0 {
		return 0, k.mayRead()
	}
	k.collectError() // which comes after what is left to read
	peek := m.Flags&unix.MSG_PEEK != 0
	x := k.transfer()
	defer x.done()
	w := &x.sink
	w.dst, w.k, w.peek = dst, k, peek
	r, err := k.ep.Read(w, tcpip.ReadOptions{Peek: peek})
	switch err.(type) {
	case nil:
		if !peek {
			k.ep.ModerateRecvBuf(r.Count)
		}
		if w.skipped > 0 && r.Count == w.skipped { // the urgent byte alone
			if peek {
				return 0, unix.EAGAIN
			}
			return k.receiveStream(m, dst)
		}
		k.receivedControl(m, &r.ControlMessages)
		return int64(r.Count - w.skipped), nil
	case *tcpip.ErrClosedForReceive:
		return 0, k.readError()
	case *tcpip.ErrAborted:
		return 0, nil // see readError
	case *tcpip.ErrNotConnected, *tcpip.ErrInvalidEndpointState:
		if k.s.HasError() {
			return 0, k.readError()
		}
		return 0, unix.ENOTCONN
	case *tcpip.ErrWouldBlock:
		if k.s.HasError() {
			return 0, k.readError()
		}
		k.mu.Lock()
		ended := k.rshut
		k.mu.Unlock()
		if ended {
			return 0, nil
		}
	}
	return 0, errno(err)
}

// readError is the error that a read of a stream gives that has no more bytes; nil at the end. A reset after the other end's end is EPIPE, and no
// reader's business, as on Linux.
func (k *sock) readError() error {
	err := k.s.TakeError()
	if err == unix.EPIPE {
		k.s.SetError(unix.EPIPE)
		return nil
	}
	return err
}

// tellQueued adds how many bytes are left to read (TCP_INQ).
func (k *sock) tellQueued(m *socket.Message) {
	var n int
	if h := k.fast.Load(); h != nil {
		n = h.queued()
	} else if v, err := k.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err == nil {
		n = v
	}
	const cmInq = unix.TCP_CM_INQ
	for i := range m.Control {
		if m.Control[i].Level == unix.IPPROTO_TCP && m.Control[i].Type == cmInq { // of an earlier part
			m.Control[i].Data = socket.Int(n)
			return
		}
	}
	m.Control = append(m.Control, socket.Control{Level: unix.IPPROTO_TCP, Type: cmInq, Data: socket.Int(n)})
}

func (k *sock) mayRead() error {
	switch k.state() {
	case tcp.StateInitial, tcp.StateBound, tcp.StateListen:
		return unix.ENOTCONN
	}
	return nil
}

// Shutdown implements socket.Ops.
func (k *sock) Shutdown(how int) error {
	if h := k.fast.Load(); h != nil {
		return h.shutdown(how)
	}
	if k.stream() && k.state() == tcp.StateListen {
		return k.endListening(how)
	}
	f := tcpip.ShutdownFlags(0)
	k.special.Store(true)
	k.mu.Lock()
	if how != unix.SHUT_WR {
		k.rshut = true
		if !k.stream() { // of a stream what comes is taken all the same, as on Linux; netstack would reset it
			f |= tcpip.ShutdownRead
		}
	}
	if how != unix.SHUT_RD {
		f |= tcpip.ShutdownWrite
		k.wshut = true
	}
	k.mu.Unlock()
	var err error
	if k.stream() {
		switch k.state() {
		case tcp.StateInitial, tcp.StateBound, tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
			err = unix.ENOTCONN
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			f |= tcpip.ShutdownWrite // any ends the attempt
		}
	}
	if f&tcpip.ShutdownWrite != 0 {
		k.uncork()
	}
	if err == nil && f != 0 {
		err = errno(k.ep.Shutdown(f))
	}
	k.s.Queue.Notify(anything)
	return err
}

// endListening is shutdown(2) of a socket that listens, which ends that when it is for reading.
func (k *sock) endListening(how int) error {
	if how == unix.SHUT_WR {
		return nil
	}
	k.net.deaf(k)
	k.closePending()
	err := errno(k.ep.Shutdown(tcpip.ShutdownRead))
	k.deafened.Store(true)
	k.s.Queue.Notify(anything)
	return err
}

// Close implements socket.Ops.
func (k *sock) Close() {
	k.wq.EventUnregister(&k.entry)
	k.net.leave(k)
	on, sec := k.s.Linger()
	if h := k.fast.Load(); h != nil {
		h.close(on && sec == 0)
	}
	if k.stream() {
		k.net.deaf(k)
		k.closePending()
	}
	if on {
		k.setLinger(on, sec)
	}
	k.uncork()
	k.heldMu.Lock()
	k.letGo()
	k.heldMu.Unlock()
	k.ep.Close()
	share.Sockets.Give(sockCost)
}

// uncork sends what TCP_CORK and MSG_MORE hold, since no more will come.
func (k *sock) uncork() {
	if o := k.ep.SocketOptions(); k.stream() && o.GetCorkOption() {
		o.SetCorkOption(false)
	}
}

const anything = wait.Mask(unix.EPOLLIN | unix.EPOLLRDNORM | unix.EPOLLOUT | unix.EPOLLWRNORM | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR)
