package afunix

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// maxRights is SCM_MAX_FD, how many files one message carries.
const maxRights = 253

// ancillary is what sendmsg(2) hands over beside the bytes.
type ancillary struct {
	cred   socket.Ucred
	user   uint32
	rights []*vfs.File // in flight once gather has returned
}

// drop gives the files back.
func (n *Network) drop(a *ancillary) {
	if a.rights != nil {
		n.flights.land(a.user, a.rights)
		n.closeAll(a.rights)
		a.rights = nil
	}
}

// ride puts the files and credentials into a packet; once only for the files.
func (a *ancillary) ride(p *packet) {
	p.cred, p.user, p.rights = a.cred, a.user, a.rights
	a.rights = nil
}

// leave is ride undone.
func (a *ancillary) leave(p *packet) { a.rights, p.rights = p.rights, nil }

// gather checks ancillary data: EINVAL, EBADF, EPERM for credentials that are not the caller's, ETOOMANYREFS.
func (n *Network) gather(m *socket.Message) (a ancillary, err error) {
	a.cred, a.user = socket.Ucred{PID: m.PID, UID: m.Cred.UID, GID: m.Cred.GID}, m.Cred.UID
	if m.Control == nil {
		return a, nil
	}
	if err = a.parse(m); err == nil && a.rights != nil {
		err = n.flights.launch(m, a.rights)
	}
	if err != nil {
		for _, f := range a.rights {
			f.DecRef()
		}
		a.rights = nil
	}
	return a, err
}

func (a *ancillary) parse(m *socket.Message) (err error) {
	for _, c := range m.Control {
		if c.Level != unix.SOL_SOCKET {
			continue
		}
		switch c.Type {
		case unix.SCM_RIGHTS:
			err = a.addRights(m, c.Data)
		case unix.SCM_CREDENTIALS:
			if a.cred, err = socket.GetUcred(c.Data); err == nil {
				err = mayClaim(m, a.cred)
			}
		default:
			err = unix.EINVAL
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *ancillary) addRights(m *socket.Message, fds []byte) error {
	if len(fds)/4+len(a.rights) > maxRights {
		return unix.EINVAL
	}
	for ; len(fds) >= 4; fds = fds[4:] {
		fd, _ := socket.ParseInt(fds)
		if fd < 0 || m.Files == nil {
			return unix.EBADF
		}
		f, err := m.Files.Get(fd)
		if err != nil {
			return err
		}
		a.rights = append(a.rights, f)
	}
	return nil
}

// mayClaim checks credentials that a program says it has (unix(7), SCM_CREDENTIALS): EPERM.
func mayClaim(m *socket.Message, u socket.Ucred) error {
	c := m.Cred
	switch {
	case u.UID == ^uint32(0) || u.GID == ^uint32(0):
		return unix.EINVAL
	case u.PID != m.PID && !c.CapableOwn(unix.CAP_SYS_ADMIN),
		u.UID != c.UID && u.UID != c.EUID && u.UID != c.SUID && !c.CapableOwn(unix.CAP_SETUID),
		u.GID != c.GID && u.GID != c.EGID && u.GID != c.SGID && !c.CapableOwn(unix.CAP_SETGID):
		return unix.EPERM
	}
	return nil
}

// Send implements socket.Ops.
func (k *sock) Send(m *socket.Message, src uio.Source) (int64, error) {
	if k.s.Type == unix.SOCK_STREAM {
		return k.sendStream(m, src)
	}
	return k.sendDgram(m, src)
}

// sendStream puts the bytes into the peer's queue, in packets of the size that Linux chooses. Files go with the first.
func (k *sock) sendStream(m *socket.Message, src uio.Source) (done int64, err error) {
	urgent := m.Flags&unix.MSG_OOB != 0 // the last byte is
	if urgent && src.Left() == 0 {
		return 0, unix.EOPNOTSUPP
	}
	peer := k.peer.Load()
	switch {
	case m.Addr != nil && peer != nil:
		return 0, unix.EISCONN
	case m.Addr != nil:
		return 0, unix.EOPNOTSUPP
	}
	a, err := k.net.gather(m)
	if err != nil {
		return 0, err
	}
	if peer == nil {
		k.net.drop(&a)
		return 0, unix.ENOTCONN
	}
	if k.shut.Load()&shutWrite != 0 {
		err = unix.EPIPE
	}
	for src.Left() > 0 && err == nil {
		var n int
		n, err = k.sendPiece(peer, &a, src, urgent)
		done += int64(n)
		if n > 0 {
			m.Control = nil
		}
	}
	k.net.drop(&a)
	if done > 0 {
		err = nil
	}
	return done, err
}

// sendPiece sends one packet of a stream. urgent: the last byte of src goes in a packet of its own, with a mark.
func (k *sock) sendPiece(peer *sock, a *ancillary, src uio.Source, urgent bool) (int, error) {
	sndbuf := k.s.SendBuffer()
	switch {
	case k.shut.Load()&shutWrite != 0:
		return 0, unix.EPIPE
	case k.s.HasError():
		return 0, k.s.TakeError()
	case int(k.wmem.Load()) >= sndbuf:
		return 0, unix.EAGAIN
	}
	n := min(src.Left(), sndbuf/2-64, skbHead+skbPages)
	if urgent {
		n = max(min(n, src.Left()-1), 1)
		urgent = src.Left() == 1
	}
	p, err := k.net.fill(src, n)
	if err != nil {
		return 0, err
	}
	p.charge, p.urgent = charge(n, skbHead), urgent
	a.ride(p)
	if !peer.take(k, p) {
		a.leave(p)
		k.net.free(p)
		return 0, unix.EPIPE
	}
	return n, nil
}

// take puts p, that from sends, into k's queue; false when k reads no more.
func (k *sock) take(from *sock, p *packet) bool {
	k.mu.Lock()
	if k.dead || k.shut.Load()&shutRead != 0 {
		k.mu.Unlock()
		return false
	}
	p.from = from
	from.wmem.Add(p.charge)
	k.queue.push(p)
	if p.urgent {
		k.queue.oob = p
	}
	k.mu.Unlock()
	k.s.Queue.Notify(readable)
	return true
}

// sendDgram sends one datagram or packet.
func (k *sock) sendDgram(m *socket.Message, src uio.Source) (int64, error) {
	seq := k.s.Type == unix.SOCK_SEQPACKET
	if seq {
		if k.s.HasError() {
			return 0, k.s.TakeError()
		}
		k.mu.Lock()
		st := k.state
		k.mu.Unlock()
		if st != connected {
			return 0, unix.ENOTCONN
		}
	}
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	addr := m.Addr
	if seq {
		addr = nil
	}
	if addr != nil {
		if _, err := checkAddr(addr); err != nil {
			return 0, err
		}
	} else if k.peer.Load() == nil {
		return 0, unix.ENOTCONN
	}
	if k.s.Is(socket.PassCred) {
		if err := k.autobind(); err != nil {
			return 0, err
		}
	}
	n := src.Left()
	if n > k.s.SendBuffer()-32 {
		return 0, unix.EMSGSIZE
	}
	a, err := k.net.gather(m)
	if err != nil {
		return 0, err
	}
	if err = k.deliver(m, addr, &a, src, n); err != nil {
		k.net.drop(&a)
		return 0, err
	}
	return int64(n), nil
}

// deliver finds the receiver of a datagram and puts it into its queue.
func (k *sock) deliver(m *socket.Message, addr []byte, a *ancillary, src uio.Source, n int) error {
	switch {
	case k.s.HasError():
		return k.s.TakeError()
	case k.shut.Load()&shutWrite != 0:
		return unix.EPIPE
	case int(k.wmem.Load()) >= k.s.SendBuffer():
		return unix.EAGAIN
	}
	to, err := k.receiver(m, addr)
	if err != nil {
		return err
	}
	p, err := k.net.fill(src, n)
	if err != nil {
		return err
	}
	p.charge = charge(n, skbAlloc)
	a.ride(p)
	if to.s.Is(socket.Timestamp) || to.s.Is(socket.TimestampNS) {
		p.when = k.net.now()
	}
	if !to.take(k, p) {
		a.leave(p)
		k.net.free(p)
		return unix.EPIPE
	}
	return nil
}

// receiver returns the socket that a datagram goes to when there is room in its queue: EAGAIN, EPERM when it is
// connected to another, EPIPE when it reads no more.
func (k *sock) receiver(m *socket.Message, addr []byte) (*sock, error) {
	for {
		to := k.peer.Load()
		if addr != nil {
			var err error
			if to, err = k.net.find(k.space, &m.Caller, addr, k.s.Type); err != nil {
				return nil, err
			}
		}
		if to == nil {
			return nil, unix.ECONNRESET
		}
		to.mu.Lock()
		dead, full := to.dead, to.full()
		to.mu.Unlock()
		switch {
		case dead && k.connects():
			return nil, unix.EPIPE
		case dead && k.peer.Load() == to:
			k.mu.Lock()
			if k.peer.CompareAndSwap(to, nil) {
				k.state = closed
				k.disconnectRelay()
			}
			k.mu.Unlock()
			k.disconnected(to)
			return nil, unix.ECONNREFUSED
		case dead:
			continue
		case !to.takesFrom(k):
			return nil, unix.EPERM
		case to.shut.Load()&shutRead != 0:
			return nil, unix.EPIPE
		case full && to != k && to.peer.Load() != k:
			m.Wait, m.WaitFor = &roomIn{to}, writable
			return nil, unix.EAGAIN
		}
		return to, nil
	}
}
