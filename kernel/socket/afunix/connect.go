package afunix

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/socket"
	"gosv/kernel/wait"
)

// Listen implements socket.Ops.
func (k *sock) Listen(c *socket.Caller, backlog int) error {
	if !k.connects() {
		return unix.EOPNOTSUPP
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.name.Load() == nil || k.state == connected || k.dead {
		return unix.EINVAL
	}
	if backlog > k.backlog {
		k.room.Notify(anything)
	}
	k.backlog, k.state = backlog, listening
	k.setPeerCred(c)
	return nil
}

// Connect implements socket.Ops.
func (k *sock) Connect(c *socket.Caller, addr []byte) error {
	if !k.connects() {
		return k.connectDgram(c, addr)
	}
	if _, err := checkAddr(addr); err != nil {
		return err
	}
	if k.s.Is(socket.PassCred) {
		if err := k.autobind(); err != nil {
			return err
		}
	}
	for {
		l, err := k.net.find(k.space, c, addr, k.s.Type)
		if err != nil {
			return err
		}
		if again, err := k.connectTo(c, l); !again {
			return err
		}
	}
}

// connectTo puts a connection into the queue of l. again: l was closed meanwhile, its name may lead to another.
func (k *sock) connectTo(c *socket.Caller, l *sock) (again bool, err error) {
	n := k.net.newSock(k.space, k.s.Type)
	n.connectedBy(c)
	n.peer.Store(k)
	lockTwo(k, l)
	defer unlockTwo(k, l)
	switch {
	case l.dead:
		return true, nil
	case l.state != listening || l.shut.Load()&shutRead != 0:
		return false, unix.ECONNREFUSED
	case l.full():
		c.Wait, c.WaitFor = &roomIn{l}, writable
		return false, unix.EAGAIN
	case k.state == connected:
		return false, unix.EISCONN
	case k.state != closed:
		return false, unix.EINVAL
	}
	if nm := l.name.Load(); nm != nil {
		n.name.Store(&name{addr: nm.addr})
	}
	k.peerCred, k.peerGroups = l.peerCred, l.peerGroups
	k.peer.Store(n)
	k.state = connected
	l.queue.push(&packet{conn: n})
	l.s.Queue.Notify(readable)
	k.s.Queue.Notify(writable)
	return false, nil
}

// roomIn is what a sender or client waits for: room in another socket's queue, or its end.
type roomIn struct{ k *sock }

// Readiness implements socket.Pollable.
func (r *roomIn) Readiness(mask wait.Mask) wait.Mask {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	if r.k.full() && !r.k.dead && r.k.shut.Load()&shutRead == 0 {
		return 0
	}
	return mask & writable
}

// Register implements socket.Pollable.
func (r *roomIn) Register(e *wait.Entry) { r.k.room.Add(e) }

// Unregister implements socket.Pollable.
func (r *roomIn) Unregister(e *wait.Entry) { r.k.room.Remove(e) }

// Accept implements socket.Ops.
func (k *sock) Accept(*socket.Caller) (*socket.Socket, error) {
	if !k.connects() {
		return nil, unix.EOPNOTSUPP
	}
	k.mu.Lock()
	if k.state != listening {
		k.mu.Unlock()
		return nil, unix.EINVAL
	}
	if k.queue.n == 0 {
		defer k.mu.Unlock()
		if k.shut.Load()&shutRead != 0 {
			return nil, unix.EINVAL
		}
		return nil, unix.EAGAIN
	}
	full := k.full()
	p := k.queue.pop()
	freed := full && !k.full()
	k.mu.Unlock()
	if freed {
		k.room.Notify(writable)
	}
	return &p.conn.s, nil
}

// A relay tells a datagram socket that its peer has room again.
type relay struct {
	k     *sock
	peer  *sock
	entry wait.Entry
}

// Ready implements wait.Waiter.
func (r *relay) Ready(*wait.Entry, wait.Mask) { r.k.s.Queue.Notify(writable) }

// connectRelay begins to listen for room in the peer's queue; k.mu is held.
func (k *sock) connectRelay(peer *sock) {
	k.disconnectRelay()
	if peer != k {
		k.relay = &relay{k: k, peer: peer}
		k.relay.entry = wait.Entry{Waiter: k.relay, Events: anything}
		peer.room.Add(&k.relay.entry)
	}
}

// disconnectRelay ends it; k.mu is held.
func (k *sock) disconnectRelay() {
	if k.relay != nil {
		k.relay.peer.room.Remove(&k.relay.entry)
		k.relay = nil
	}
}

// connectDgram sets, or with AF_UNSPEC clears, where datagrams go and whom they are taken from.
func (k *sock) connectDgram(c *socket.Caller, addr []byte) error {
	if family(addr) == unix.AF_UNSPEC {
		k.mu.Lock()
		old := k.peer.Swap(nil)
		k.state = closed
		k.disconnectRelay()
		k.mu.Unlock()
		if old != nil {
			k.disconnected(old)
		}
		return nil
	}
	if _, err := checkAddr(addr); err != nil {
		return err
	}
	if k.s.Is(socket.PassCred) {
		if err := k.autobind(); err != nil {
			return err
		}
	}
	for {
		p, err := k.net.find(k.space, c, addr, k.s.Type)
		if err != nil {
			return err
		}
		lockTwo(k, p)
		if p.dead {
			unlockTwo(k, p)
			continue
		}
		if !p.takesFrom(k) {
			unlockTwo(k, p)
			return unix.EPERM
		}
		old := k.peer.Swap(p)
		k.state = connected
		k.connectRelay(p)
		unlockTwo(k, p)
		if old != nil && old != p {
			k.disconnected(old)
		}
		return nil
	}
}

// takesFrom reports whether k takes datagrams from a sender: a connected socket does so from its peer only.
func (k *sock) takesFrom(from *sock) bool {
	p := k.peer.Load()
	return p == nil || p == from
}

// disconnected is what follows when k leaves its old peer: what lies in k's queue is lost, and a peer that was
// connected to it learns of that.
func (k *sock) disconnected(old *sock) {
	k.mu.Lock()
	had := k.queue.n > 0
	rest := k.queue.takeAll()
	k.mu.Unlock()
	if !had {
		return
	}
	k.net.freeList(rest)
	k.room.Notify(writable)
	old.mu.Lock()
	dead := old.dead
	old.mu.Unlock()
	if !dead && old.peer.Load() == k {
		old.s.SetError(unix.ECONNRESET)
		old.s.Queue.Notify(anything)
	}
}
