// Package vsock makes sockets of AF_VSOCK (vsock(7)), which connect the machine with its host, and programs in
// the machine with each other: streams over a virtio socket device (virtio 1.2 §5.10).
//
// Packets for the machine itself never reach the device. All others go out on one goroutine, in
// order, which may wait for the device; a socket has only so much under way there.
//
// The host is not trusted: lengths are checked by the driver, credits here. A peer that sends more than it
// has credit for loses its connection. What sockets hold is bounded by each one's buffer, and all of them
// together by heapMost.
//
// Lock order: Network.mu → sock.mu → the queues'.
package vsock

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/serial"
	"gosv/kernel/share"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// A Device is the way to the host.
type Device interface {
	// CID is the machine's number.
	CID() uint64
	// Start begins to receive: the parts of a packet are valid during the call only, one at a time. reset is called when
	// the host was exchanged for another (live migration): all connections are lost.
	Start(receive func(header, payload []byte), reset func()) error
	// Send hands over a packet and waits for room: EIO when the device is broken.
	Send(header, payload []byte) error
}

// A Network is all sockets of AF_VSOCK of one kernel.
type Network struct {
	open func() Device
	once sync.Once
	dev  Device // nil: there is none
	heap atomic.Int64

	mu    sync.Mutex
	bound map[uint32]*sock     // by local port, but for accepted ones; guarded by mu
	conns map[connection]*sock // guarded by mu
	next  uint32               // port to try next; guarded by mu

	out serial.Queue[outgoing]
}

// outgoing is a packet on its way, from a socket that counts it, or from none.
type outgoing struct {
	h       Header
	payload []byte
	from    *sock
}

// connection is what tells one from all others.
type connection struct {
	port       uint32
	cid        uint64
	remotePort uint32
}

// heapMost is how many bytes all sockets together hold.
func heapMost() int64 { return min(16<<20, share.Streams.Most()) }

// Bounds.
const (
	defaultBuffer = 256 << 10
	leastBuffer   = 128
	mostBuffer    = 1 << 20
	maxPayload    = 64 << 10 // VIRTIO_VSOCK_MAX_PKT_BUF_SIZE
	maxUnsent     = 128 << 10
	maxOut        = 4096 // packets that wait for the device; answers to strangers are dropped beyond
	firstPort     = 1024 // below, CAP_NET_BIND_SERVICE is needed
	connectTime   = 2 * time.Second
)

// New returns a Network. open is called when the first socket is made; it returns nil when there is no device.
func New(open func() Device) *Network {
	n := &Network{open: open, bound: make(map[uint32]*sock), conns: make(map[connection]*sock), next: firstPort}
	n.out.Do = n.transmit
	return n
}

// Family is what the kernel knows AF_VSOCK by.
func (n *Network) Family() *socket.Family { return &socket.Family{New: n.create} }

func (n *Network) start() {
	n.once.Do(func() {
		if d := n.open(); d != nil {
			if err := d.Start(n.receive, n.reset); err == nil {
				n.dev = d
			}
		}
	})
}

// CID is the machine's own number; without a device that which always means the machine itself.
func (n *Network) CID() uint64 {
	n.start()
	if n.dev != nil {
		return n.dev.CID()
	}
	return unix.VMADDR_CID_LOCAL
}

// local reports whether a number means this machine.
func (n *Network) local(cid uint64) bool { return cid == unix.VMADDR_CID_LOCAL || cid == n.CID() }

type state uint8

const (
	closed state = iota
	listening
	connecting
	connected
)

const (
	shutRead  = 1 // as in the packets: nothing more is received
	shutWrite = 2
	shutBoth  = shutRead | shutWrite

	readable = unix.EPOLLIN | unix.EPOLLRDNORM
	writable = unix.EPOLLOUT | unix.EPOLLWRNORM
	anything = readable | writable | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
)

// A sock is one socket.
type sock struct {
	socket.Defaults
	s      socket.Socket
	net    *Network
	unsent atomic.Int32 // bytes that wait for the device

	// All below is guarded by mu.
	mu       sync.Mutex
	state    state
	was      bool // connected once
	named    bool // has a local port
	local    uint64
	port     uint32
	remote   connection // of a connection, when it is or was one
	shut     uint32     // what we have shut
	peerShut uint32     // what the peer has shut
	backlog  int
	pending  []*sock // to be accepted
	timer    *time.Timer

	queue         [][]byte
	bytes         int    // in queue
	buffer        uint32 // the most that may lie there
	forwarded     uint32 // bytes that were read, ever
	told          uint32 // forwarded as the peer knows it
	sent          uint32 // bytes sent, ever
	peerForwarded uint32
	peerBuffer    uint32
}

func (n *Network) create(_ *socket.Caller, typ, protocol int) (*socket.Socket, error) {
	n.start()
	if protocol != 0 && protocol != unix.AF_VSOCK {
		return nil, unix.EPROTONOSUPPORT
	}
	if typ != unix.SOCK_STREAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	return &n.newSock().s, nil
}

func (n *Network) newSock() *sock {
	k := &sock{net: n, buffer: defaultBuffer}
	k.s.Init(unix.AF_VSOCK, unix.SOCK_STREAM, 0, k)
	return k
}

const addrSize = unix.SizeofSockaddrVM

func parseAddr(b []byte) (cid, port uint32, err error) {
	if len(b) < addrSize || le.Uint16(b) != unix.AF_VSOCK || le.Uint16(b[2:]) != 0 {
		return 0, 0, unix.EINVAL
	}
	return le.Uint32(b[8:]), le.Uint32(b[4:]), nil
}

func formatAddr(cid uint64, port uint32) []byte {
	b := make([]byte, addrSize)
	le.PutUint16(b, unix.AF_VSOCK)
	le.PutUint32(b[4:], port)
	le.PutUint32(b[8:], uint32(cid))
	return b
}

// Bind implements socket.Ops.
func (k *sock) Bind(c *socket.Caller, addr []byte) error {
	cid, port, err := parseAddr(addr)
	if err != nil {
		return err
	}
	if cid != unix.VMADDR_CID_ANY && !k.net.local(uint64(cid)) {
		return unix.EADDRNOTAVAIL
	}
	if port < firstPort && !c.Cred.Capable(unix.CAP_NET_BIND_SERVICE) {
		return unix.EACCES
	}
	k.net.mu.Lock()
	defer k.net.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.named {
		return unix.EINVAL
	}
	return k.bind(uint64(cid), port)
}

// bind gives k a port, any when it is VMADDR_PORT_ANY; both locks are held.
func (k *sock) bind(cid uint64, port uint32) error {
	n := k.net
	if port == unix.VMADDR_PORT_ANY {
		for range 1 << 16 {
			if port = n.next; n.bound[port] == nil {
				break
			}
			n.bump()
		}
		n.bump()
	}
	if n.bound[port] != nil {
		return unix.EADDRINUSE
	}
	n.bound[port] = k
	k.named, k.local, k.port = true, cid, port
	return nil
}

func (n *Network) bump() {
	if n.next++; n.next == unix.VMADDR_PORT_ANY {
		n.next = firstPort
	}
}

// Listen implements socket.Ops.
func (k *sock) Listen(_ *socket.Caller, backlog int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.named || k.state != closed && k.state != listening {
		return unix.EINVAL
	}
	k.state, k.backlog = listening, backlog
	return nil
}

// Connect implements socket.Ops.
func (k *sock) Connect(_ *socket.Caller, addr []byte) error {
	cid, port, err := parseAddr(addr)
	if err != nil {
		return err
	}
	n := k.net
	n.mu.Lock()
	defer n.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.state == connected:
		return unix.EISCONN
	case k.state == connecting:
		return unix.EALREADY
	case k.state == listening || cid == unix.VMADDR_CID_ANY || port == unix.VMADDR_PORT_ANY:
		return unix.EINVAL
	case n.dev == nil && !n.local(uint64(cid)):
		return unix.ENODEV
	}
	if !k.named {
		if err := k.bind(n.CID(), unix.VMADDR_PORT_ANY); err != nil {
			return err
		}
	}
	key := connection{k.port, uint64(cid), port}
	if n.conns[key] != nil {
		return unix.EADDRINUSE
	}
	n.conns[key] = k
	k.remote, k.state, k.shut, k.peerShut = key, connecting, 0, 0
	k.timer = time.AfterFunc(connectTime, func() { n.timeout(k) })
	k.send(opRequest, 0, nil)
	return unix.EINPROGRESS
}

// timeout ends an attempt to connect.
func (n *Network) timeout(k *sock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state == connecting {
		k.fail(unix.ETIMEDOUT)
	}
}

// fail ends an attempt to connect with an error; both locks are held.
func (k *sock) fail(err unix.Errno) {
	k.disconnect()
	k.s.SetError(err)
	k.s.Queue.Notify(anything)
}

// disconnect takes k out of the connections; both locks are held.
func (k *sock) disconnect() {
	if k.net.conns[k.remote] == k {
		delete(k.net.conns, k.remote)
	}
	k.state = closed
	if k.timer != nil {
		k.timer.Stop()
	}
}

// Accept implements socket.Ops.
func (k *sock) Accept(*socket.Caller) (*socket.Socket, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != listening {
		return nil, unix.EINVAL
	}
	if len(k.pending) == 0 {
		return nil, unix.EAGAIN
	}
	c := k.pending[0]
	k.pending = k.pending[1:]
	return &c.s, nil
}

// Name implements socket.Ops.
func (k *sock) Name(peer bool) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case peer && k.state != connected:
		return nil, unix.ENOTCONN
	case peer:
		return formatAddr(k.remote.cid, k.remote.remotePort), nil
	case !k.named:
		return formatAddr(unix.VMADDR_CID_ANY, unix.VMADDR_PORT_ANY), nil
	}
	return formatAddr(k.local, k.port), nil
}

// space is how many bytes the peer takes now; mu is held.
//
// +checklocks:k.mu
func (k *sock) space() int {
	under := k.sent - k.peerForwarded
	if under >= k.peerBuffer {
		return 0
	}
	return min(int(k.peerBuffer-under), max(maxUnsent-int(k.unsent.Load()), 0))
}

// Send implements socket.Ops.
func (k *sock) Send(m *socket.Message, src uio.Source) (done int64, err error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case m.Addr != nil && k.state == connected:
		return 0, unix.EISCONN
	case m.Addr != nil:
		return 0, unix.EOPNOTSUPP
	case k.s.HasError():
		return 0, k.s.TakeError()
	case k.shut&shutWrite != 0 || k.was && k.state != connected:
		return 0, unix.EPIPE
	case k.state != connected:
		return 0, unix.ENOTCONN
	}
	for src.Left() > 0 && err == nil {
		if k.peerShut&shutRead != 0 {
			err = unix.EPIPE
			break
		}
		n := min(src.Left(), k.space(), maxPayload)
		if n == 0 || k.net.heap.Load() > heapMost() {
			err = unix.EAGAIN
			break
		}
		b := make([]byte, n)
		n, err = src.Take(b)
		if n > 0 {
			k.sent += uint32(n)
			k.unsent.Add(int32(n))
			k.net.heap.Add(int64(n))
			k.send(opRW, 0, b[:n])
			done += int64(n)
		}
	}
	if done > 0 {
		err = nil
	}
	return done, err
}

// Receive implements socket.Ops.
func (k *sock) Receive(m *socket.Message, dst uio.Sink) (done int64, err error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.state != connected && !k.was:
		return 0, unix.ENOTCONN
	case k.shut&shutRead != 0 || dst.Left() == 0:
		return 0, nil
	case k.bytes > 0:
	case k.s.HasError():
		return 0, k.s.TakeError()
	case k.peerShut&shutWrite != 0 || k.state != connected:
		return 0, nil
	default:
		return 0, unix.EAGAIN
	}
	if m.Flags&unix.MSG_PEEK != 0 {
		for i := 0; i < len(k.queue) && dst.Left() > 0 && err == nil; i++ {
			var n int
			n, err = dst.Put(k.queue[i])
			done += int64(n)
		}
	} else {
		done, err = k.take(dst)
	}
	if done > 0 {
		err = nil
	}
	return done, err
}

// take reads from the queue, and gives the peer credit again in time; mu is held.
//
// +checklocks:k.mu
func (k *sock) take(dst uio.Sink) (done int64, err error) {
	for len(k.queue) > 0 && dst.Left() > 0 && err == nil {
		var n int
		n, err = dst.Put(k.queue[0])
		if k.queue[0] = k.queue[0][n:]; len(k.queue[0]) == 0 {
			k.queue = k.queue[1:]
		}
		done += int64(n)
	}
	k.bytes -= int(done)
	k.net.heap.Add(-done)
	k.forwarded += uint32(done)
	if k.state == connected && k.forwarded-k.told >= k.buffer/4 {
		k.send(opCreditUpdate, 0, nil)
	}
	return done, err
}

// Shutdown implements socket.Ops.
func (k *sock) Shutdown(how int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != connected {
		return unix.ENOTCONN
	}
	k.shut |= uint32(how + 1)
	k.send(opShutdown, k.shut, nil)
	k.s.Queue.Notify(anything)
	return nil
}

// Close implements socket.Ops.
func (k *sock) Close() {
	n := k.net
	n.mu.Lock()
	k.mu.Lock()
	pending := k.pending
	k.pending = nil
	if k.state == connected {
		k.send(opShutdown, shutBoth, nil)
	}
	k.disconnect()
	if n.bound[k.port] == k {
		delete(n.bound, k.port)
	}
	n.heap.Add(-int64(k.bytes))
	k.queue, k.bytes = nil, 0
	k.mu.Unlock()
	n.mu.Unlock()
	for _, c := range pending {
		c.Close()
	}
}

// Poll implements socket.Ops.
func (k *sock) Poll() (ready wait.Mask) {
	if k.s.HasError() {
		ready |= unix.EPOLLERR
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	gone := k.was && k.state == closed
	if k.shut == shutBoth || k.shut&shutWrite != 0 && k.peerShut&shutWrite != 0 {
		ready |= unix.EPOLLHUP
	}
	if k.shut&shutRead != 0 || k.peerShut&shutWrite != 0 || gone {
		ready |= unix.EPOLLRDHUP | readable
	}
	if k.bytes > 0 || len(k.pending) > 0 {
		ready |= readable
	}
	switch {
	case k.state == connected && k.shut&shutWrite == 0 && k.space() > 0, k.state == closed && k.shut&shutWrite == 0:
		ready |= writable
	}
	return ready
}

// Ioctl implements socket.Ops: IOCTL_VM_SOCKETS_GET_LOCAL_CID, FIONREAD.
func (k *sock) Ioctl(a *vfs.IoctlArgs) (uint64, error) {
	switch a.Cmd {
	case unix.IOCTL_VM_SOCKETS_GET_LOCAL_CID:
		return 0, a.PutInt32(int32(k.net.CID()))
	case unix.SIOCINQ:
		k.mu.Lock()
		n := k.bytes
		k.mu.Unlock()
		return 0, a.PutInt32(int32(n))
	}
	return 0, unix.ENOTTY
}

// Options of the level AF_VSOCK (include/uapi/linux/vm_sockets.h).
const (
	bufferSize    = unix.SO_VM_SOCKETS_BUFFER_SIZE
	bufferMinSize = unix.SO_VM_SOCKETS_BUFFER_MIN_SIZE
	bufferMaxSize = unix.SO_VM_SOCKETS_BUFFER_MAX_SIZE
)

// Option implements socket.Ops.
func (k *sock) Option(_ *socket.Caller, level, name int) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case level == unix.SOL_SOCKET && name == unix.SO_ACCEPTCONN && k.state == listening:
		return socket.Int(1), nil
	case level != unix.AF_VSOCK:
	case name == bufferSize:
		return le.AppendUint64(nil, uint64(k.buffer)), nil
	case name == bufferMinSize:
		return le.AppendUint64(nil, leastBuffer), nil
	case name == bufferMaxSize:
		return le.AppendUint64(nil, mostBuffer), nil
	}
	return nil, unix.ENOPROTOOPT
}

// SetOption implements socket.Ops.
func (k *sock) SetOption(_ *socket.Caller, level, name int, value []byte) error {
	if level != unix.AF_VSOCK || name != bufferSize {
		return unix.ENOPROTOOPT
	}
	if len(value) < 8 {
		return unix.EINVAL
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.buffer = uint32(max(min(le.Uint64(value), mostBuffer), leastBuffer))
	if k.state == connected {
		k.send(opCreditUpdate, 0, nil)
	}
	return nil
}
