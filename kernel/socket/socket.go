// Package socket is what all kinds of socket share (socket(7)): the file that
// a program holds, options of level SOL_SOCKET, messages with their ancillary
// data, and the list of address families.
//
// A family (AF_UNIX, AF_INET, …) lies in a package of its own. It gives the
// kernel a Family, whose New makes sockets, and for each socket an Ops:
//
//   - No operation blocks. What would have to wait returns EAGAIN, and the
//     system-call layer waits for the socket's Poll, or for what the operation put into
//     Message.Wait, and calls again with the same Message. Connect returns EINPROGRESS; the layer then
//     waits for POLLOUT and takes SO_ERROR.
//   - Bytes come from a uio.Source and go to a uio.Sink. An operation may take from or put to
//     them with its own locks held, as long as page faults do not need those.
//     A datagram must not be taken from its Source before there is room for it.
//   - Addresses are bytes as programs lay them out (struct sockaddr, family
//     first), at least two of them, at most 128. Names that are not set are nil.
//   - Options are bytes too. The layer asks the family first and falls back on
//     Options for SOL_SOCKET when it says ENOPROTOOPT, so a family overrides what it must know.
//   - After a change that Poll shows the family calls Socket.Queue.Notify.
//
// SIGPIPE, MSG_WAITALL, MSG_DONTWAIT and the timeouts are the layer's business (kernel/syscall).
// Lock order: a family's locks → Socket.Queue's.
package socket

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/namespace"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// MaxAddr is the size of struct sockaddr_storage, the longest address.
const MaxAddr = 128

// A Mailbox is the Ops of a socket into which the kernel itself can put a datagram.
type Mailbox interface {
	// Deliver puts b, which stays the caller's, there; when there is no room, the program learns so from its next read.
	Deliver(b []byte)
}

// Ops is what a family does for one socket. Defaults is to be embedded. All errors are unix.Errno values.
type Ops interface {
	// Bind is bind(2).
	Bind(c *Caller, addr []byte) error
	// Listen is listen(2); the backlog is between 0 and SOMAXCONN.
	Listen(c *Caller, backlog int) error
	// Connect is connect(2). EAGAIN: wait and call again; EINPROGRESS or
	// EALREADY: wait for POLLOUT, SO_ERROR is the result.
	Connect(c *Caller, addr []byte) error
	// Accept is accept(2): EAGAIN when nobody has connected.
	Accept(c *Caller) (*Socket, error)
	// Name is getsockname(2), or with peer getpeername(2).
	Name(peer bool) ([]byte, error)
	// Send is sendmsg(2). It returns how many bytes went; a stream may take a part. EPIPE makes the layer
	// send SIGPIPE when the socket is a stream. What it used of m.Control it removes.
	Send(m *Message, src uio.Source) (int64, error)
	// Receive is recvmsg(2): 0 at the end of a stream. For a datagram it returns the
	// length that the program is told (with MSG_TRUNC its whole length) and sets MSG_TRUNC in m.Out when it was cut.
	Receive(m *Message, dst uio.Sink) (int64, error)
	// Shutdown is shutdown(2): how is SHUT_RD, SHUT_WR or SHUT_RDWR.
	Shutdown(how int) error
	// Option is getsockopt(2): the whole value, which the layer cuts. ENOPROTOOPT: not the family's.
	Option(c *Caller, level, name int) ([]byte, error)
	// SetOption is setsockopt(2).
	SetOption(c *Caller, level, name int, value []byte) error
	// Ioctl is ioctl(2): ENOTTY for an unknown request.
	Ioctl(a *vfs.IoctlArgs) (uint64, error)
	// Poll returns all events that are true now.
	Poll() wait.Mask
	// Close is called once, when the last descriptor is gone.
	Close()
}

// Defaults is the Ops of a socket that can do nothing.
type Defaults struct{}

// Bind is refused.
func (*Defaults) Bind(*Caller, []byte) error { return unix.EOPNOTSUPP }

// Listen is refused.
func (*Defaults) Listen(*Caller, int) error { return unix.EOPNOTSUPP }

// Connect is refused.
func (*Defaults) Connect(*Caller, []byte) error { return unix.EOPNOTSUPP }

// Accept is refused.
func (*Defaults) Accept(*Caller) (*Socket, error) { return nil, unix.EOPNOTSUPP }

// Name is refused.
func (*Defaults) Name(bool) ([]byte, error) { return nil, unix.EOPNOTSUPP }

// Send is refused.
func (*Defaults) Send(*Message, uio.Source) (int64, error) { return 0, unix.EOPNOTSUPP }

// Receive is refused.
func (*Defaults) Receive(*Message, uio.Sink) (int64, error) { return 0, unix.EOPNOTSUPP }

// Shutdown is refused.
func (*Defaults) Shutdown(int) error { return unix.EOPNOTSUPP }

// Option knows none.
func (*Defaults) Option(*Caller, int, int) ([]byte, error) { return nil, unix.ENOPROTOOPT }

// SetOption knows none.
func (*Defaults) SetOption(*Caller, int, int, []byte) error { return unix.ENOPROTOOPT }

// Ioctl knows none.
func (*Defaults) Ioctl(*vfs.IoctlArgs) (uint64, error) { return 0, unix.ENOTTY }

// Poll shows nothing.
func (*Defaults) Poll() wait.Mask { return 0 }

// Close has nothing to do.
func (*Defaults) Close() {}

// Pollable is what can be waited for: task.Pollable.
type Pollable interface {
	Readiness(mask wait.Mask) wait.Mask
	Register(e *wait.Entry)
	Unregister(e *wait.Entry)
}

// A Caller is who makes a call.
type Caller struct {
	Cred *cred.Cred
	PID  int32
	// Ctx is the caller's view of the tree; it is there when the call has an address.
	Ctx *vfs.Context
	// Files are the caller's descriptors, nil when the kernel itself calls.
	Files *vfs.FDTable
	// MaxFiles is RLIMIT_NOFILE.
	MaxFiles int
	// Value is what the program's buffer holds when it asks for an option of SOL_PACKET, some of which it asks with.
	Value []byte
	// Room is how many bytes the program takes of an option.
	Room int
	// Nonblock says that the call will not wait: O_NONBLOCK or MSG_DONTWAIT.
	Nonblock bool
	// Wait is set by an operation that returns EAGAIN to what is to be waited for in place of the socket.
	Wait Pollable
	// WaitFor is for which events; POLLERR and POLLHUP count always.
	WaitFor wait.Mask
}

// A Family is an address family.
type Family struct {
	// New is socket(2): EPROTONOSUPPORT, ESOCKTNOSUPPORT, EPERM, … typ is without its flags.
	New func(c *Caller, typ, protocol int) (*Socket, error)
	// Pair is socketpair(2), nil when the family has none (EOPNOTSUPP).
	Pair func(c *Caller, typ, protocol int) (a, b *Socket, err error)
}

// maxFamily is AF_MAX.
const maxFamily = 46

// Families are the address families of a kernel by number. They are set before the first program starts.
type Families [maxFamily]*Family

// A Holder is a network namespace.
type Holder interface {
	namespace.Object
	Families() *Families
}

// New makes a socket: EAFNOSUPPORT, EINVAL for a type that cannot be, and the family's errors.
func (l *Families) New(c *Caller, family, typ, protocol int) (*Socket, error) {
	f, err := l.find(family, typ)
	if err != nil {
		return nil, err
	}
	return f.New(c, typ, protocol)
}

// Pair makes two sockets that are connected.
func (l *Families) Pair(c *Caller, family, typ, protocol int) (a, b *Socket, err error) {
	f, err := l.find(family, typ)
	if err != nil {
		return nil, nil, err
	}
	if f.Pair == nil {
		return nil, nil, unix.EOPNOTSUPP
	}
	return f.Pair(c, typ, protocol)
}

// sockPacket is SOCK_PACKET, the highest type.
const sockPacket = 10

func (l *Families) find(family, typ int) (*Family, error) {
	switch {
	case family < 0 || family >= maxFamily:
		return nil, unix.EAFNOSUPPORT
	case typ < 0 || typ > sockPacket:
		return nil, unix.EINVAL
	case l[family] == nil:
		return nil, unix.EAFNOSUPPORT
	}
	return l[family], nil
}

// A Socket is one socket, and the operations of its file.
type Socket struct {
	vfs.FileDefaults
	Options
	// Space is the network namespace that the socket keeps alive, nil for none; it is set before there is a file.
	Space *namespace.Head
	// Family, Type and Protocol are SO_DOMAIN, SO_TYPE and SO_PROTOCOL.
	Family, Type, Protocol int
	// Queue is notified by the family.
	Queue wait.Queue

	ops    Ops
	file   atomic.Pointer[vfs.File]
	urgent atomic.Pointer[func()]
}

// Init makes s a socket without a file; it is for families that embed their sockets in a structure of their own.
func (s *Socket) Init(family, typ, protocol int, ops Ops) {
	s.Family, s.Type, s.Protocol, s.ops = family, typ, protocol, ops
	s.Options.init()
}

// Ops returns the family's part.
func (s *Socket) Ops() Ops { return s.ops }

// Open returns s's file. flags: SOCK_NONBLOCK; SOCK_CLOEXEC is for the descriptor. It is called once.
func (s *Socket) Open(now int64, c *cred.Cred, flags int) *vfs.File {
	d := vfs.NewNameless("socket", unix.S_IFSOCK|0o777, now, c, nil)
	f := vfs.OpenNameless(d, s, c, unix.O_RDWR|flags&unix.SOCK_NONBLOCK)
	f.SetSocket()
	s.file.Store(f)
	return f
}

// File returns the file, nil when nobody has opened the socket (yet). It is not to be used longer than the socket's
// user knows it to be open.
func (s *Socket) File() *vfs.File { return s.file.Load() }

// OnUrgent has f called, on a goroutine of its own, when the other end sends urgent data.
func (s *Socket) OnUrgent(f func()) { s.urgent.Store(&f) }

// Urgent is called by the family when urgent data comes. It does not block.
func (s *Socket) Urgent() {
	if f := s.urgent.Load(); f != nil {
		go (*f)()
	}
}

// Discard ends a socket that has no file.
func (s *Socket) Discard() { s.ops.Close() }

// Of returns the socket that f is: ENOTSOCK.
func Of(f *vfs.File) (*Socket, error) {
	if s, ok := f.Ops().(*Socket); ok {
		return s, nil
	}
	return nil, unix.ENOTSOCK
}

// Read implements vfs.FileOps for callers that are no task (splice).
func (s *Socket) Read(f *vfs.File, dst uio.Sink, _ int64) (int64, error) {
	m := Message{Caller: Caller{Cred: f.Cred(), Nonblock: f.Nonblock()}}
	n, err := s.ops.Receive(&m, dst)
	m.Drop()
	return n, err
}

// Write implements vfs.FileOps for callers that are no task.
func (s *Socket) Write(f *vfs.File, src uio.Source, _ int64) (int64, error) {
	return s.ops.Send(&Message{Caller: Caller{Cred: f.Cred(), Nonblock: f.Nonblock()}}, src)
}

// Poll implements vfs.FileOps.
func (s *Socket) Poll(_ *vfs.File, mask wait.Mask) wait.Mask { return s.ops.Poll() & mask }

// Register implements vfs.FileOps.
func (s *Socket) Register(_ *vfs.File, e *wait.Entry) { s.Queue.Add(e) }

// Unregister implements vfs.FileOps.
func (s *Socket) Unregister(_ *vfs.File, e *wait.Entry) { s.Queue.Remove(e) }

// A ZeroCopier is an Ops whose socket tells when sends with MSG_ZEROCOPY are done, while SO_ZEROCOPY is on.
type ZeroCopier interface {
	// Copied notes that a call has sent bytes, and that they were copied.
	Copied()
}

// A Mapper is an Ops whose socket can be mapped.
type Mapper interface {
	// Map returns the cache that a mapping shows, nil when there is none.
	Map() *mem.Cache
}

// Map implements vfs.FileOps.
func (s *Socket) Map(*vfs.File) *mem.Cache {
	if m, ok := s.ops.(Mapper); ok {
		return m.Map()
	}
	return nil
}

// Ioctl implements vfs.FileOps.
func (s *Socket) Ioctl(_ *vfs.File, a *vfs.IoctlArgs) (uint64, error) { return s.ops.Ioctl(a) }

// Release implements vfs.FileOps.
func (s *Socket) Release(*vfs.File) {
	s.ops.Close()
	if s.Space != nil {
		s.Space.Put()
	}
}
