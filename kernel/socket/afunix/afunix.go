// Package afunix makes sockets of AF_UNIX (unix(7)): stream, datagram and
// sequenced packets, with names in the tree, abstract names and none.
//
// Each socket has a queue of the packets that were sent to it. A packet is charged to its
// sender until it is read, as Linux counts it, so a sender meets the same limits there and here.
// A stream is a queue of packets too, which one read may run through.
//
// Lock order: Network.mu, flights.mu → sock.mu, of two by rising number → the wait queues'. sock.mu may be held while
// user memory is copied.
//
// What a program sees follows Linux 6.1.
package afunix

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/socket"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

// A Network is all sockets of AF_UNIX of one kernel.
type Network struct {
	pool *mem.Pool
	now  func() int64 // wall time in ns
	// Ioctl serves the SIOC requests about interfaces (netdevice(7)); nil: ENOTTY. It is set before the first socket is made.
	Ioctl func(a *vfs.IoctlArgs) (uint64, error)
	heap  atomic.Int64 // bytes of packets that lie in the Go heap

	memory int64 // of the machine, in bytes

	qlen    atomic.Int32 // net.unix.max_dgram_qlen
	flights flights

	mu       sync.Mutex
	last     uint64           // number of the last socket; guarded by mu
	abstract map[string]*sock // by type and name; guarded by mu
	auto     uint32           // last number of autobind; guarded by mu
	all      *sock            // list of all; guarded by mu
}

// New returns a Network without sockets. now tells the wall time in ns.
func New(pool *mem.Pool, now func() int64) *Network {
	n := &Network{pool: pool, now: now, abstract: make(map[string]*sock)}
	n.qlen.Store(dgramBacklog)
	frames, _ := pool.Usage()
	n.memory = int64(frames) * machine.PageSize
	return n
}

// Family is what the kernel knows AF_UNIX by in the network namespace of that number: abstract names are its own.
func (n *Network) Family(space uint64) *socket.Family {
	return &socket.Family{
		New: func(_ *socket.Caller, typ, protocol int) (*socket.Socket, error) {
			return n.create(space, typ, protocol)
		},
		Pair: func(c *socket.Caller, typ, protocol int) (a, b *socket.Socket, err error) {
			return n.pair(space, c, typ, protocol)
		},
	}
}

// state is what a socket is to connect(2).
type state uint8

const (
	closed state = iota
	listening
	connected
)

// Halves of a connection that were shut down.
const (
	shutRead  = 1
	shutWrite = 2
	shutBoth  = shutRead | shutWrite
)

// Events of poll(2).
const (
	readable = unix.EPOLLIN | unix.EPOLLRDNORM
	writable = unix.EPOLLOUT | unix.EPOLLWRNORM | unix.EPOLLWRBAND
	anything = readable | writable | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLPRI
)

// A sock is one socket.
type sock struct {
	s     socket.Socket
	net   *Network
	space uint64 // the network namespace
	id    uint64
	// prev and next are guarded by Network.mu.
	prev, next *sock
	// wmem is what packets that it sent and nobody read yet are charged with, in bytes.
	wmem atomic.Int32
	peer atomic.Pointer[sock] // written with mu held
	name atomic.Pointer[name] // set once, with mu held
	shut atomic.Uint32        // shutRead|shutWrite; written with mu held

	// room is notified when the queue of a listener or of a datagram socket is no longer full.
	room wait.Queue

	// All below is guarded by mu.
	mu      sync.Mutex
	state   state
	dead    bool
	queue   queue
	backlog int // most packets or connections, but one
	// peerCred is SO_PEERCRED, peerGroups SO_PEERGROUPS; a listener's own, which its clients get, too.
	peerCred   socket.Ucred
	peerGroups []uint32
	relay      *relay // of a connected datagram socket
}

// dgramBacklog is net.unix.max_dgram_qlen at first.
const dgramBacklog = 10

func (n *Network) newSock(space uint64, typ int) *sock {
	k := &sock{net: n, space: space, peerCred: noCred, backlog: n.MaxQueue()}
	k.s.Init(unix.AF_UNIX, typ, 0, k)
	n.enter(k)
	return k
}

var noCred = socket.Ucred{PID: 0, UID: ^uint32(0), GID: ^uint32(0)}

func checkType(typ, protocol int) (int, error) {
	switch {
	case protocol != 0 && protocol != unix.AF_UNIX:
		return 0, unix.EPROTONOSUPPORT
	case typ == unix.SOCK_RAW:
		return unix.SOCK_DGRAM, nil
	case typ != unix.SOCK_STREAM && typ != unix.SOCK_DGRAM && typ != unix.SOCK_SEQPACKET:
		return 0, unix.ESOCKTNOSUPPORT
	}
	return typ, nil
}

func (n *Network) create(space uint64, typ, protocol int) (*socket.Socket, error) {
	typ, err := checkType(typ, protocol)
	if err != nil {
		return nil, err
	}
	return &n.newSock(space, typ).s, nil
}

func (n *Network) pair(space uint64, c *socket.Caller, typ, protocol int) (a, b *socket.Socket, err error) {
	typ, err = checkType(typ, protocol)
	if err != nil {
		return nil, nil, err
	}
	x, y := n.newSock(space, typ), n.newSock(space, typ)
	x.peer.Store(y)
	y.peer.Store(x)
	for _, k := range [...]*sock{x, y} {
		k.connectedBy(c)
	}
	return &x.s, &y.s, nil
}

// connectedBy makes a new socket one end of a connection.
func (k *sock) connectedBy(c *socket.Caller) {
	k.mu.Lock()
	k.state = connected
	k.setPeerCred(c)
	k.mu.Unlock()
}

// setPeerCred keeps who calls, as SO_PEERCRED shows it: the effective IDs. mu is held.
//
// +checklocks:k.mu
func (k *sock) setPeerCred(c *socket.Caller) {
	k.peerCred = socket.Ucred{PID: c.PID, UID: c.Cred.EUID, GID: c.Cred.EGID}
	k.peerGroups = c.Cred.Groups
}

// connects reports whether the socket is of a type that connects: all but datagrams.
func (k *sock) connects() bool { return k.s.Type != unix.SOCK_DGRAM }

// lockTwo locks a and b, which may be the same.
//
// +checklocksignore
func lockTwo(a, b *sock) {
	if a.id > b.id {
		a, b = b, a
	}
	a.mu.Lock()
	if a != b {
		b.mu.Lock()
	}
}

// unlockTwo undoes lockTwo.
//
// +checklocksignore
func unlockTwo(a, b *sock) {
	a.mu.Unlock()
	if a != b {
		b.mu.Unlock()
	}
}

// Poll implements socket.Ops.
func (k *sock) Poll() (ready wait.Mask) {
	if k.s.HasError() {
		ready |= unix.EPOLLERR
	}
	shut := k.shut.Load()
	if shut == shutBoth {
		ready |= unix.EPOLLHUP
	}
	if shut&shutRead != 0 {
		ready |= unix.EPOLLRDHUP | readable
	}
	k.mu.Lock()
	if k.queue.n > 0 {
		ready |= readable
	}
	if k.queue.oob != nil {
		ready |= unix.EPOLLPRI
	}
	st := k.state
	k.mu.Unlock()
	if k.connects() && st == closed {
		ready |= unix.EPOLLHUP
	}
	if st != listening && k.mayWrite() && !(k.s.Type != unix.SOCK_STREAM && k.peerFull()) {
		ready |= writable
	}
	return ready
}

// mayWrite reports whether poll(2) says that there is room for a write: a quarter of the buffer is used at most.
func (k *sock) mayWrite() bool { return int(k.wmem.Load())*4 <= k.s.SendBuffer() }

// peerFull reports whether the peer takes no more datagrams of ours. One that is connected to us takes them all.
func (k *sock) peerFull() bool {
	p := k.peer.Load()
	if p == nil || p == k || p.peer.Load() == k {
		return false
	}
	p.mu.Lock()
	full := p.full()
	p.mu.Unlock()
	return full
}

// full reports whether the queue takes no more; mu is held.
func (k *sock) full() bool { return k.queue.n > k.backlog }

// Shutdown implements socket.Ops: what is shut here is shut at the other end of a connection too.
func (k *sock) Shutdown(how int) error {
	mine := uint32(how + 1)
	k.mu.Lock()
	k.shut.Or(mine)
	p := k.peer.Load()
	k.mu.Unlock()
	k.s.Queue.Notify(anything)
	k.room.Notify(anything)
	if p != nil && k.connects() {
		theirs := mine&shutRead<<1 | mine&shutWrite>>1
		p.mu.Lock()
		p.shut.Or(theirs)
		p.mu.Unlock()
		p.s.Queue.Notify(anything)
	}
	return nil
}

// release ends the socket. embryo: nobody has accepted it.
func (k *sock) release(embryo bool) {
	k.unname()
	k.net.leave(k)
	k.mu.Lock()
	wasListening := k.state == listening
	k.state, k.dead = closed, true
	k.shut.Store(shutBoth)
	p := k.peer.Load()
	k.disconnectRelay()
	if k.connects() {
		k.peer.Store(nil)
	}
	unread := k.queue.n > 0
	rest := k.queue.takeAll()
	k.mu.Unlock()
	k.room.Notify(anything)
	k.s.Queue.Notify(anything)
	if p != nil && k.connects() {
		p.mu.Lock()
		p.shut.Store(shutBoth)
		p.mu.Unlock()
		if unread || embryo {
			p.s.SetError(unix.ECONNRESET)
		}
		p.s.Queue.Notify(anything)
	}
	for q := rest; q != nil; q = q.next {
		if wasListening {
			q.conn.release(true)
		}
		k.net.free(q)
	}
}

// Close implements socket.Ops.
func (k *sock) Close() {
	k.release(false)
	if k.net.flights.any.Load() {
		k.net.collect()
	}
}
