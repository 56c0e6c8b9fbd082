package syscall

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/bpf"
	"gosv/kernel/cred"
	"gosv/kernel/namespace"
	"gosv/kernel/socket"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// socketRows are the calls of sockets; what a socket does is its family's business (kernel/socket).
func (s *Calls) socketRows(r *table) {
	aFamily := choice("family", familyNames)
	aType := aInt.as(show("type", showSockType))
	aAddrIn := aAddr.as(&formatter{name: "sockaddr", in: showSockaddr})
	aMsgFlags := aUint.as(show("flags", func(b []byte, v uint64) []byte { return appendFlags(b, uint64(uint32(v)), msgNames) }))
	aLevel, aHow := choice("level", levelNames), choice("how", shutNames)
	r.set(unix.SYS_SOCKET, call3("socket", aFamily, aType, aInt, s.sysSocket))
	r.set(unix.SYS_SOCKETPAIR, call4("socketpair", aFamily, aType, aInt, out(lPair), s.sysSocketpair))
	r.set(unix.SYS_BIND, call3("bind", aFD, aAddrIn, aInt, sysBind))
	r.set(unix.SYS_LISTEN, call2("listen", aFD, aInt, sysListen))
	r.set(unix.SYS_ACCEPT, call3("accept", aFD, aAddr, aAddr, func(t *task.Task, fd int32, addr, size uint64) (uint64, error) {
		return sysAccept4(t, fd, addr, size, 0)
	}))
	r.set(unix.SYS_ACCEPT4, call4("accept4", aFD, aAddr, aAddr, flags("flags", unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, sockFlagNames), sysAccept4))
	r.set(unix.SYS_CONNECT, call3("connect", aFD, aAddrIn, aInt, sysConnect))
	r.set(unix.SYS_GETSOCKNAME, call3("getsockname", aFD, aAddr, aAddr, func(t *task.Task, fd int32, addr, size uint64) (uint64, error) {
		return sockName(t, fd, addr, size, false)
	}))
	r.set(unix.SYS_GETPEERNAME, call3("getpeername", aFD, aAddr, aAddr, func(t *task.Task, fd int32, addr, size uint64) (uint64, error) {
		return sockName(t, fd, addr, size, true)
	}))
	r.set(unix.SYS_SHUTDOWN, call2("shutdown", aFD, aHow, sysShutdown))
	r.set(unix.SYS_SENDTO, call6("sendto", aFD, aSource, aSize, aMsgFlags, aAddrIn, aInt, sysSendto))
	r.set(unix.SYS_RECVFROM, call6("recvfrom", aFD, aSink, aSize, aMsgFlags, aAddr, aAddr, sysRecvfrom))
	r.set(unix.SYS_SENDMSG, call3("sendmsg", aFD, aAddr, aMsgFlags, sysSendmsg))
	r.set(unix.SYS_RECVMSG, call3("recvmsg", aFD, aAddr, aMsgFlags, sysRecvmsg))
	r.set(unix.SYS_SENDMMSG, call4("sendmmsg", aFD, aAddr, aUint, aMsgFlags, sysSendmmsg))
	r.set(unix.SYS_RECVMMSG, call5("recvmmsg", aFD, aAddr, aUint, aMsgFlags, inOpt(lTimespec), sysRecvmmsg))
	r.set(unix.SYS_SETSOCKOPT, call5("setsockopt", aFD, aLevel, aInt, aAddr, aInt, sysSetsockopt))
	r.set(unix.SYS_GETSOCKOPT, call5("getsockopt", aFD, aLevel, aInt, aAddr, aAddr, sysGetsockopt))
}

const sockFlags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK

// sock returns the socket fd with a reference to its file: EBADF, ENOTSOCK.
func sock(t *task.Task, fd int32) (*vfs.File, *socket.Socket, error) {
	f, err := realFile(t, fd)
	if err != nil {
		return nil, nil, err
	}
	s, err := socket.Of(f)
	if err != nil {
		f.DecRef()
		return nil, nil, err
	}
	return f, s, nil
}

// message returns t's message for one call, empty but for who calls.
func message(t *task.Task) *socket.Message {
	m := &t.Sock
	*m = socket.Message{}
	m.Cred, m.PID, m.Files = t.Cred(), t.PID(), t.Files
	return m
}

// withAddr is message for a call that has an address.
func withAddr(t *task.Task) *socket.Message {
	m := message(t)
	m.Ctx = view(t)
	return m
}

// address reads a socket address: EINVAL for an impossible length, EFAULT. It lives until the call's end.
func address(t *task.Task, addr uint64, n int32) ([]byte, error) {
	if n < 0 || n > socket.MaxAddr {
		return nil, unix.EINVAL
	}
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, n)
	return b, copyIn(t, b, addr)
}

// putAddress stores an address as getsockname(2) does: cut to the size that the program gave, the real length where the
// size was. EFAULT, EINVAL for a negative size.
func putAddress(t *task.Task, addr, size uint64, b []byte) error {
	room, err := lInt32.load(t, size)
	if err != nil {
		return err
	}
	if room < 0 {
		return unix.EINVAL
	}
	if err := copyOut(t, addr, b[:min(len(b), int(room))]); err != nil {
		return err
	}
	return lInt32.store(t, size, int32(len(b)))
}

func openSocket(t *task.Task, s *socket.Socket, flags int) *vfs.File {
	return s.Open(t.Kernel().Clock.Wall(), t.Cred(), flags)
}

func (s *Calls) sysSocket(t *task.Task, family, typ, protocol int32) (uint64, error) {
	flags := int(typ) &^ 0xf
	if flags&^sockFlags != 0 {
		return 0, unix.EINVAL
	}
	families, space := s.families(t)
	so, err := families.New(&message(t).Caller, int(family), int(typ)&0xf, int(protocol))
	if err != nil {
		return 0, err
	}
	keep(so, space)
	return install(t, openSocket(t, so, flags), flags)
}

// families are those of t's network namespace, which a socket keeps alive; nil when there is only one.
func (s *Calls) families(t *task.Task) (*socket.Families, *namespace.Head) {
	if h, ok := t.Namespaces().List[namespace.Net].(socket.Holder); ok {
		return h.Families(), h.NS()
	}
	return &s.o.Families, nil
}

// keep makes a socket keep its network namespace alive.
func keep(s *socket.Socket, space *namespace.Head) {
	if space != nil {
		space.Hold()
		s.Space = space
	}
}

func (s *Calls) sysSocketpair(t *task.Task, family, typ, protocol int32, to dest[[2]int32]) (uint64, error) {
	flags := int(typ) &^ 0xf
	if flags&^sockFlags != 0 {
		return 0, unix.EINVAL
	}
	families, space := s.families(t)
	a, b, err := families.Pair(&message(t).Caller, int(family), int(typ)&0xf, int(protocol))
	if err != nil {
		return 0, err
	}
	keep(a, space)
	keep(b, space)
	return done(installPair(t, openSocket(t, a, flags), openSocket(t, b, flags), flags, to))
}

// installPair gives two files descriptors and stores these, or closes both: EMFILE, ENFILE, EFAULT.
func installPair(t *task.Task, a, b *vfs.File, flags int, to dest[[2]int32]) error {
	if err := vfs.RoomForFiles(0); err != nil {
		a.DecRef()
		b.DecRef()
		return err
	}
	limit := openLimit(t)
	x, err := t.Files.Install(a, flags, 0, limit)
	if err != nil {
		a.DecRef()
		b.DecRef()
		return err
	}
	y, err := t.Files.Install(b, flags, 0, limit)
	if err != nil {
		t.Files.Close(x)
		b.DecRef()
		return err
	}
	if err := to.put(t, [2]int32{int32(x), int32(y)}); err != nil {
		t.Files.Close(x)
		t.Files.Close(y)
		return err
	}
	return nil
}

func sysBind(t *task.Task, fd int32, addr uint64, n int32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	b, err := address(t, addr, n)
	if err != nil {
		return 0, err
	}
	if len(b) < 2 {
		return 0, unix.EINVAL
	}
	return done(s.Ops().Bind(&withAddr(t).Caller, b))
}

func sysListen(t *task.Task, fd, backlog int32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	n := int(min(uint32(backlog), uint32(socket.MaxBacklog.Load())))
	return done(s.Ops().Listen(&message(t).Caller, n))
}

func sysShutdown(t *task.Task, fd, how int32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return 0, unix.EINVAL
	}
	return done(s.Ops().Shutdown(int(how)))
}

// A patience is how long one call waits: until a signal, or a timeout of the socket has passed.
type patience struct {
	timeout  int64 // ns, 0: for ever
	deadline int64 // monotonic; 0: not known yet
}

// await waits until the socket has one of the events, or what c.Wait says: EAGAIN when the timeout has passed, EINTR or
// a restart error after a signal (signal(7): a call with a timeout is not restarted).
func (p *patience) await(t *task.Task, f *vfs.File, c *socket.Caller, events wait.Mask, exclusive bool) error {
	if p.timeout != 0 && p.deadline == 0 {
		p.deadline = t.Kernel().Clock.After(p.timeout)
	}
	var err error
	switch o := c.Wait; {
	case o != nil:
		c.Wait = nil
		err = t.WaitFor(o, c.WaitFor, p.deadline)
	case exclusive:
		err = t.WaitForExclusive(f, events, p.deadline)
	default:
		err = t.WaitFor(f, events, p.deadline)
	}
	switch {
	case err == unix.ETIMEDOUT:
		return unix.EAGAIN
	case err == abi.ERESTARTSYS && p.timeout != 0:
		return unix.EINTR
	}
	return err
}

const (
	sockIn  = wait.Mask(unix.POLLIN | abi.POLLRDNORM | unix.POLLRDHUP)
	sockOut = wait.Mask(unix.POLLOUT | abi.POLLWRNORM)
)

func sysAccept4(t *task.Task, fd int32, addr, size uint64, flags uint32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !t.Files.Room(openLimit(t)) { // the connection stays where it is
		return 0, unix.EMFILE
	}
	if err := vfs.RoomForFiles(1); err != nil {
		return 0, err
	}
	m := message(t)
	m.Nonblock = f.Nonblock()
	p := patience{timeout: s.RecvTimeout()}
	var n *socket.Socket
	for {
		if n, err = s.Ops().Accept(&m.Caller); err != unix.EAGAIN || m.Nonblock {
			break
		}
		if err = p.await(t, f, &m.Caller, sockIn, true); err != nil {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	keep(n, s.Space)
	file := openSocket(t, n, int(flags))
	if addr != 0 {
		b, err := n.Ops().Name(true)
		if err != nil {
			b, err = nil, unix.ECONNABORTED
		} else {
			err = putAddress(t, addr, size, b)
		}
		if err != nil {
			file.DecRef()
			return 0, err
		}
	}
	return install(t, file, int(flags))
}

func sysConnect(t *task.Task, fd int32, addr uint64, n int32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	b, err := address(t, addr, n)
	if err != nil {
		return 0, err
	}
	if len(b) < 2 {
		return 0, unix.EINVAL
	}
	m := withAddr(t)
	m.Nonblock = f.Nonblock()
	p := patience{timeout: s.SendTimeout()}
	for {
		err := s.Ops().Connect(&m.Caller, b)
		if m.Nonblock {
			return 0, err
		}
		switch err {
		case unix.EAGAIN:
			if err := p.await(t, f, &m.Caller, sockOut, false); err != nil {
				return 0, err
			}
		case unix.EINPROGRESS, unix.EALREADY:
			if err := p.await(t, f, &m.Caller, sockOut, false); err != nil {
				if err == unix.EAGAIN {
					err = unix.EINPROGRESS
				}
				return 0, err
			}
			return done(pendingError(m, s))
		default:
			return 0, err
		}
	}
}

// pendingError takes SO_ERROR.
func pendingError(m *socket.Message, s *socket.Socket) error {
	b, err := s.Option(&m.Caller, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if v, _ := socket.ParseInt(b); v != 0 {
		return unix.Errno(v)
	}
	return nil
}

func sockName(t *task.Task, fd int32, addr, size uint64, peer bool) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	b, err := s.Ops().Name(peer)
	if err != nil {
		return 0, err
	}
	return done(putAddress(t, addr, size, b))
}

// maxOption is the longest option that a program may hand over.
const maxOption = 64 << 10

func sysSetsockopt(t *task.Task, fd, level, name int32, addr uint64, n int32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if n < 0 {
		return 0, unix.EINVAL
	}
	b := make([]byte, min(n, maxOption))
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	if level == unix.SOL_SOCKET && name == unix.SO_ATTACH_FILTER {
		if b, err = filterProgram(t, b); err != nil {
			return 0, err
		}
	}
	return done(s.SetOption(&withAddr(t).Caller, int(level), int(name), b))
}

// filterProgram reads the instructions that struct sock_fprog points to: EINVAL.
func filterProgram(t *task.Task, b []byte) ([]byte, error) {
	if len(b) != 16 || le.Uint16(b) == 0 || le.Uint16(b) > bpf.MaxLength {
		return nil, unix.EINVAL
	}
	prog := make([]byte, int(le.Uint16(b))*bpf.Size)
	return prog, copyIn(t, prog, le.Uint64(b[8:]))
}

func sysGetsockopt(t *task.Task, fd, level, name int32, addr, size uint64) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	n, err := lInt32.load(t, size)
	if err != nil {
		return 0, err
	}
	if n < 0 {
		return 0, unix.EINVAL
	}
	c := &message(t).Caller
	c.Room = int(n)
	if level == unix.SOL_PACKET {
		c.Value = make([]byte, min(n, 4))
		if err := copyIn(t, c.Value, addr); err != nil {
			return 0, err
		}
	}
	b, err := s.Option(c, int(level), int(name))
	if err != nil {
		return 0, err
	}
	if level == unix.SOL_SOCKET && name == unix.SO_PEERCRED {
		showUcred(t, b)
	}
	if name == unix.SO_PEERGROUPS && level == unix.SOL_SOCKET && int(n) < len(b) {
		if err := lInt32.store(t, size, int32(len(b))); err != nil {
			return 0, err
		}
		return 0, unix.ERANGE
	}
	b = b[:min(len(b), int(n))]
	if err := copyOut(t, addr, b); err != nil {
		return 0, err
	}
	return done(lInt32.store(t, size, int32(len(b))))
}

// send sends what m and src hold, and waits when it may. A stream goes whole, if nothing happens; what was sent before an
// error counts.
func send(t *task.Task, f *vfs.File, s *socket.Socket, m *socket.Message, src uio.Source) (uint64, error) {
	p := patience{timeout: s.SendTimeout()}
	done := int64(0)
	for {
		n, err := s.Ops().Send(m, src)
		done += n
		switch {
		case err == unix.EAGAIN && !m.Nonblock, err == nil && n > 0 && src.Left() > 0 && !m.Nonblock && s.Type == unix.SOCK_STREAM:
			if err = p.await(t, f, &m.Caller, sockOut, false); err == nil {
				continue
			}
		case err == unix.EPIPE && done == 0 && s.Type == unix.SOCK_STREAM && m.Flags&unix.MSG_NOSIGNAL == 0:
			t.SendSignal(unix.SIGPIPE)
		}
		if done > 0 {
			if m.Flags&unix.MSG_ZEROCOPY != 0 && s.Is(socket.ZeroCopy) {
				if z, ok := s.Ops().(socket.ZeroCopier); ok {
					z.Copied()
				}
			}
			return uint64(done), nil
		}
		return value(n, err)
	}
}

// receive receives, and waits when it may. A stream gives as much as it has, once that is what SO_RCVLOWAT or MSG_WAITALL
// ask for.
func receive(t *task.Task, f *vfs.File, s *socket.Socket, m *socket.Message, dst uio.Sink) (uint64, error) {
	p := patience{timeout: s.RecvTimeout()}
	want := int64(1)
	if s.Type == unix.SOCK_STREAM && m.Flags&(unix.MSG_PEEK|unix.MSG_ERRQUEUE|unix.MSG_OOB) == 0 {
		want = int64(min(s.RecvLowat(), dst.Left()))
		if m.Flags&unix.MSG_WAITALL != 0 {
			want = int64(dst.Left())
		}
	}
	done := int64(0)
	for {
		n, err := s.Ops().Receive(m, dst)
		done += n
		switch {
		case err == nil && (n == 0 || done >= want || m.Rights != nil):
			return uint64(done), nil
		case m.Nonblock, err != nil && err != unix.EAGAIN:
		default:
			if err = p.await(t, f, &m.Caller, sockIn, false); err == nil {
				continue
			}
		}
		if done > 0 {
			return uint64(done), nil
		}
		return value(n, err)
	}
}

// nonblock says whether a call on f with these MSG_ flags does not wait.
func nonblock(f *vfs.File, flags uint32) bool {
	return f.Nonblock() || flags&unix.MSG_DONTWAIT != 0
}

// readSocket is read(2).
func readSocket(t *task.Task, f *vfs.File, s *socket.Socket, dst uio.Sink) (uint64, error) {
	if dst.Left() == 0 {
		return 0, nil
	}
	m := message(t)
	m.Nonblock = f.Nonblock()
	n, err := receive(t, f, s, m, dst)
	if m.Rights != nil {
		m.Drop()
	}
	return n, err
}

// writeSocket is write(2).
func writeSocket(t *task.Task, f *vfs.File, s *socket.Socket, src uio.Source) (uint64, error) {
	m := message(t)
	m.Nonblock = f.Nonblock()
	if s.Type == unix.SOCK_SEQPACKET {
		m.Flags = unix.MSG_EOR
	}
	return send(t, f, s, m, src)
}

func sysSendto(t *task.Task, fd int32, addr, n uint64, flags uint32, to uint64, toLen int32) (uint64, error) {
	if n, err := buffer(addr, n); err != nil {
		return 0, err
	} else {
		t.IO.Set(t.Mem(), addr, n)
	}
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	m := message(t)
	if to != 0 {
		m = withAddr(t)
		if m.Addr, err = address(t, to, toLen); err != nil {
			return 0, err
		}
	}
	m.Flags, m.Nonblock = int(flags), nonblock(f, flags)
	return send(t, f, s, m, &t.IO)
}

func sysRecvfrom(t *task.Task, fd int32, addr, n uint64, flags uint32, from, fromLen uint64) (uint64, error) {
	if n, err := buffer(addr, n); err != nil {
		return 0, err
	} else {
		t.IO.Set(t.Mem(), addr, n)
	}
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	m := message(t)
	m.Flags, m.Nonblock, m.WantAddr = int(flags), nonblock(f, flags), from != 0
	v, err := receive(t, f, s, m, &t.IO)
	m.Drop()
	if err == nil && from != 0 {
		err = putAddress(t, from, fromLen, m.Addr)
	}
	return v, err
}

// header reads a msghdr and sets t.IO to its ranges: EFAULT, EINVAL, EMSGSIZE for too many ranges.
func header(t *task.Task, at uint64) (h abi.Msghdr, err error) {
	b := t.Scratch[:abi.SizeofMsghdr]
	if err := copyIn(t, b, at); err != nil {
		return h, err
	}
	h = abi.GetMsghdr(b)
	switch {
	case h.Name == 0:
		h.Namelen = 0
	case h.Namelen < 0:
		return h, unix.EINVAL
	}
	h.Namelen = min(h.Namelen, socket.MaxAddr)
	if h.Iovlen > abi.MaxIOV {
		return h, unix.EMSGSIZE
	}
	list, err := ranges(t, h.Iov, h.Iovlen)
	if err != nil {
		return h, err
	}
	t.IO.SetRanges(t.Mem(), list)
	return h, nil
}

func sysSendmsg(t *task.Task, fd int32, at uint64, flags uint32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return sendMessage(t, f, s, at, flags)
}

func sendMessage(t *task.Task, f *vfs.File, s *socket.Socket, at uint64, flags uint32) (uint64, error) {
	o, err := outgoingAt(t, at)
	if err != nil {
		return 0, err
	}
	return o.send(t, f, s, flags)
}

// An outgoing is what a msghdr says of a message to be sent, the data apart.
type outgoing struct {
	addr    []byte
	control []socket.Control
}

// outgoingAt reads a msghdr, and sets t.IO to its data.
func outgoingAt(t *task.Task, at uint64) (o outgoing, err error) {
	h, err := header(t, at)
	if err != nil {
		return o, err
	}
	if h.Namelen > 0 {
		if o.addr, err = address(t, h.Name, h.Namelen); err != nil {
			return o, err
		}
	}
	if h.Controllen > socket.MaxControl {
		return o, unix.ENOBUFS
	}
	if h.Controllen > 0 {
		b := make([]byte, h.Controllen)
		if err := copyIn(t, b, h.Control); err != nil {
			return o, err
		}
		o.control, err = socket.ParseControl(b)
	}
	return o, err
}

// send sends it with the data that t.IO stands for.
func (o *outgoing) send(t *task.Task, f *vfs.File, s *socket.Socket, flags uint32) (uint64, error) {
	m := message(t)
	if o.addr != nil {
		m = withAddr(t)
		m.Addr = o.addr
	}
	for _, c := range o.control {
		if c.Level == unix.SOL_SOCKET && c.Type == unix.SCM_CREDENTIALS {
			if err := realUcred(t, c.Data); err != nil {
				return 0, err
			}
		}
	}
	m.Control = o.control
	m.MaxFiles = openLimit(t)
	m.Flags, m.Nonblock = int(flags), nonblock(f, flags)
	v, err := send(t, f, s, m, &t.IO)
	m.Control = nil
	return v, err
}

func sysRecvmsg(t *task.Task, fd int32, at uint64, flags uint32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return receiveMessage(t, f, s, at, flags)
}

// Offsets in struct msghdr of what recvmsg(2) stores.
const (
	namelenAt    = 8
	controllenAt = 40
	flagsAt      = 48
)

func receiveMessage(t *task.Task, f *vfs.File, s *socket.Socket, at uint64, flags uint32) (uint64, error) {
	h, err := header(t, at)
	if err != nil {
		return 0, err
	}
	return receiveFor(t, f, s, &h, at, flags)
}

// receiveFor receives into what t.IO stands for, and into where h says, and stores in the msghdr at at.
func receiveFor(t *task.Task, f *vfs.File, s *socket.Socket, h *abi.Msghdr, at uint64, flags uint32) (uint64, error) {
	m := message(t)
	m.Flags, m.Nonblock, m.WantAddr = int(flags), nonblock(f, flags), h.Name != 0
	v, err := receive(t, f, s, m, &t.IO)
	if err != nil {
		m.Drop()
		return 0, err
	}
	used, err := putControl(t, m, h)
	if err != nil {
		return 0, err
	}
	if h.Name != 0 {
		if err := copyOut(t, h.Name, m.Addr[:min(len(m.Addr), int(h.Namelen))]); err != nil {
			return 0, err
		}
		if err := lInt32.store(t, at+namelenAt, int32(len(m.Addr))); err != nil {
			return 0, err
		}
	}
	out := uint32(m.Out) | flags&unix.MSG_CMSG_CLOEXEC
	if err := lUint32.store(t, at+flagsAt, out); err != nil {
		return 0, err
	}
	return v, lUint64.store(t, at+controllenAt, uint64(used))
}

// showUcred makes struct ucred what t is to see.
func showUcred(t *task.Task, b []byte) {
	u, err := socket.GetUcred(b)
	if err != nil || u.UID == cred.Keep {
		return
	}
	ns := t.Cred().User
	u.PID, u.UID, u.GID = t.Number(u.PID), ns.ShowUID(u.UID), ns.ShowGID(u.GID)
	copy(b, u.Bytes())
}

// realUcred makes struct ucred that t sends what the kernel knows: EINVAL.
func realUcred(t *task.Task, b []byte) error {
	u, err := socket.GetUcred(b)
	if err != nil {
		return nil // the family says so
	}
	ns := t.Cred().User
	u.PID = t.Process().PIDs().Global(u.PID)
	if u.UID, err = realID(u.UID, ns.RealUID); err != nil {
		return err
	}
	if u.GID, err = realID(u.GID, ns.RealGID); err != nil {
		return err
	}
	copy(b, u.Bytes())
	return nil
}

// putControl stores the ancillary data that was received, and gives the files that came with it descriptors. It returns
// how many bytes were stored. What there is no room for is lost, and MSG_CTRUNC tells.
func putControl(t *task.Task, m *socket.Message, h *abi.Msghdr) (int, error) {
	defer m.Drop()
	if len(m.Control) == 0 && len(m.Rights) == 0 {
		return 0, nil
	}
	room := int(min(h.Controllen, 1<<20))
	if h.Control == 0 {
		room = 0
	}
	var b []byte
	for _, c := range m.Control {
		if c.Level == unix.SOL_SOCKET && c.Type == unix.SCM_CREDENTIALS {
			showUcred(t, c.Data)
		}
		var full bool
		if b, full = socket.AppendControl(b, room, c); full {
			m.Out |= unix.MSG_CTRUNC
		}
	}
	m.Control = nil
	if len(m.Rights) > 0 {
		b = putRights(t, m, b, room)
	}
	return len(b), copyOut(t, h.Control, b)
}

// putRights adds SCM_RIGHTS with as many descriptors as there is room for.
func putRights(t *task.Task, m *socket.Message, b []byte, room int) []byte {
	const head = 16 // sizeof(struct cmsghdr)
	flags := 0
	if m.Flags&unix.MSG_CMSG_CLOEXEC != 0 {
		flags = unix.O_CLOEXEC
	}
	limit := openLimit(t)
	var fds []byte
	for _, f := range m.Rights {
		if room-len(b) < head+len(fds)+4 {
			break
		}
		f.IncRef()
		fd, err := t.Files.Install(f, flags, 0, limit)
		if err != nil {
			f.DecRef()
			break
		}
		fds = le.AppendUint32(fds, uint32(fd))
	}
	if len(fds) < 4*len(m.Rights) {
		m.Out |= unix.MSG_CTRUNC
	}
	if len(fds) > 0 {
		b, _ = socket.AppendControl(b, room, socket.Control{Level: unix.SOL_SOCKET, Type: unix.SCM_RIGHTS, Data: fds})
	}
	return b
}

func sysSendmmsg(t *task.Task, fd int32, at uint64, n, flags uint32) (uint64, error) {
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	sent := uint64(0)
	for ; sent < uint64(min(n, abi.MaxIOV)); sent++ {
		v, err := sendMessage(t, f, s, at, flags)
		if err == nil {
			err = lUint32.store(t, at+abi.SizeofMsghdr, uint32(v))
		}
		if err != nil {
			if sent > 0 {
				return sent, nil
			}
			return 0, err
		}
		at += abi.SizeofMmsghdr
	}
	return sent, nil
}

func sysRecvmmsg(t *task.Task, fd int32, at uint64, n, flags uint32, timeout opt[unix.Timespec]) (uint64, error) {
	deadline, _, err := deadlineOf(t, timeout)
	if err != nil {
		return 0, err
	}
	f, s, err := sock(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	got := uint64(0)
	for ; got < uint64(min(n, abi.MaxIOV)); got++ {
		v, err := receiveMessage(t, f, s, at, flags&^unix.MSG_WAITFORONE)
		if err == nil {
			err = lUint32.store(t, at+abi.SizeofMsghdr, uint32(v))
		}
		if err != nil {
			if got == 0 {
				return 0, err
			}
			if e, ok := err.(unix.Errno); ok && e != unix.EAGAIN && e < abi.ERESTARTSYS {
				s.SetError(e)
			}
			break
		}
		at += abi.SizeofMmsghdr
		if flags&unix.MSG_WAITFORONE != 0 {
			flags |= unix.MSG_DONTWAIT
		}
		if deadline != 0 && t.Kernel().Clock.Now() >= deadline {
			got++
			break
		}
	}
	left(t, t.Ctx.R8, timeout.ok, deadline, func(ns int64) { lTimespec.store(t, t.Ctx.R8, abi.NsecToTimespec(ns)) })
	return got, nil
}

func showSockType(b []byte, raw uint64) []byte {
	b = appendChoice(b, raw&0xf, sockTypeNames)
	if f := uint64(uint32(raw)) &^ 0xf; f != 0 {
		b = appendFlags(append(b, '|'), f, sockFlagNames)
	}
	return b
}

// showSockaddr shows an address whose length is the next argument.
//
//go:noinline
func showSockaddr(b []byte, t *task.Task, a *args, i int) []byte {
	mem := make([]byte, min(uint64(uint32(a[i+1])), socket.MaxAddr))
	if n, _ := t.Mem().CopyIn(mem, a[i]); a[i] == 0 || n < len(mem) || n < 2 {
		return showAddr(b, a[i])
	}
	b = appendChoice(append(b, "{sa_family="...), uint64(le.Uint16(mem)), familyNames)
	b = strconv.AppendQuoteToASCII(append(b, ", "...), string(mem[2:]))
	return append(b, '}')
}
