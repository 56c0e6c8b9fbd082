package afunix

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/socket"
	"gosv/kernel/uio"
)

// Receive implements socket.Ops.
func (k *sock) Receive(m *socket.Message, dst uio.Sink) (int64, error) {
	if k.s.Type == unix.SOCK_STREAM {
		return k.receiveStream(m, dst)
	}
	return k.receiveDgram(m, dst)
}

// receiveStream reads what there is, up to a boundary that ancillary data makes (unix(7)).
func (k *sock) receiveStream(m *socket.Message, dst uio.Sink) (done int64, err error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return k.receiveUrgent(m, dst)
	}
	k.mu.Lock()
	done, user, used, err := k.takeStream(m, dst)
	k.mu.Unlock()
	if m.Rights != nil && m.Flags&unix.MSG_PEEK == 0 {
		k.net.flights.land(user, m.Rights)
	}
	k.net.freeList(used)
	return done, err
}

// takeStream is receiveStream under the lock: user sent the descriptors in m.Rights, if there are any, and used is a list of packets
// to be freed when k is unlocked.
//
// +checklocks:k.mu
func (k *sock) takeStream(m *socket.Message, dst uio.Sink) (done int64, user uint32, used *packet, err error) {
	if k.state != connected {
		return 0, 0, nil, unix.EINVAL
	}
	if k.queue.head != nil && k.queue.head.urgent && k.queue.head.n == 0 {
		used = k.skipUrgent(used) // its byte was read already
	}
	if k.queue.n == 0 {
		return 0, 0, used, k.nothing(m)
	}
	if m.Flags&unix.MSG_PEEK != 0 {
		done, err = k.peekStream(m, dst)
		return done, 0, used, err
	}
	used = k.skipUrgent(used)
	first := k.queue.head
	if first == nil {
		return 0, 0, used, k.nothing(m)
	}
	creds := k.s.Is(socket.PassCred)
	for p := first; p != nil; p = k.queue.head {
		if p != first && (creds && p.cred != first.cred || p == k.queue.oob) {
			break
		}
		var n int
		n, err = k.net.put(p, dst, 0, p.n)
		p.off += n
		p.n -= n
		k.queue.bytes -= n
		done += int64(n)
		k.s.MovePeekOffset(-n)
		if err != nil {
			break
		}
		if p == first {
			k.describe(m, p)
		}
		if p.rights != nil {
			m.Rights, user, p.rights = p.rights, p.user, nil
		}
		if p.n > 0 {
			break
		}
		k.queue.pop()
		p.next, used = used, p
		if m.Rights != nil || dst.Left() == 0 {
			break
		}
	}
	if done > 0 {
		err = nil
	}
	return done, user, used, err
}

// skipUrgent does what a read at the mark of urgent data does first: the byte is taken out of the stream, or
// with SO_OOBINLINE becomes a part of it. A byte that was read already goes too. Packets taken go on the list used.
// k.mu is held.
//
// +checklocks:k.mu
func (k *sock) skipUrgent(used *packet) *packet {
	p := k.queue.head
	if p.n > 0 && p == k.queue.oob && k.s.Is(socket.OOBInline) {
		k.queue.oob = nil
		return used
	}
	if p.urgent && p.n == 0 || p == k.queue.oob {
		k.queue.pop()
		p.next = used
		return p
	}
	return used
}

// receiveUrgent is recv(2) with MSG_OOB: EINVAL when there is no urgent byte, or it belongs to the stream.
func (k *sock) receiveUrgent(m *socket.Message, dst uio.Sink) (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.queue.oob
	if p == nil || k.s.Is(socket.OOBInline) {
		return 0, unix.EINVAL
	}
	n, err := k.net.put(p, dst, 0, 1)
	if err != nil {
		return 0, err
	}
	if m.Flags&unix.MSG_PEEK == 0 {
		k.queue.oob = nil
		p.off, p.n = p.off+1, 0
		k.queue.bytes--
	}
	m.Out |= unix.MSG_OOB
	return int64(n), nil
}

// nothing is what a read of an empty queue gives: EAGAIN, an error that is kept, nil at the end. k.mu is held.
//
// +checklocks:k.mu
func (k *sock) nothing(m *socket.Message) error {
	switch {
	case k.s.HasError():
		return k.s.TakeError()
	case k.shut.Load()&shutRead == 0:
		return unix.EAGAIN
	case k.s.Type == unix.SOCK_DGRAM && m.Nonblock:
		return unix.EAGAIN
	}
	return nil
}

// peekStream is receiveStream with MSG_PEEK; k.mu is held.
//
// +checklocks:k.mu
func (k *sock) peekStream(m *socket.Message, dst uio.Sink) (done int64, err error) {
	skip := max(k.s.PeekOffset(), 0)
	creds := k.s.Is(socket.PassCred)
	var first *packet
	for p := k.queue.head; p != nil && err == nil; p = p.next {
		if skip >= p.n {
			skip -= p.n
			continue
		}
		if first == nil {
			first = p
			k.describe(m, p)
		} else if creds && p.cred != first.cred {
			break
		}
		var n int
		n, err = k.net.put(p, dst, skip, p.n-skip)
		skip = 0
		done += int64(n)
		if p.rights != nil {
			k.share(m, p) // even when dst was full before, as on Linux
			break
		}
	}
	k.s.MovePeekOffset(int(done))
	switch {
	case done > 0:
		err = nil
	case first == nil && err == nil:
		err = k.nothing(m)
	}
	return done, err
}

// describe tells who sent p.
func (k *sock) describe(m *socket.Message, p *packet) {
	if m.WantAddr && p.from != nil {
		if nm := p.from.name.Load(); nm != nil {
			m.Addr = append(m.Addr, nm.addr...)
		}
	}
	if k.s.Is(socket.PassCred) {
		m.Control = append(m.Control, socket.Control{Level: unix.SOL_SOCKET, Type: unix.SCM_CREDENTIALS, Data: p.cred.Bytes()})
	}
}

// share gives the reader of a packet that stays in the queue its files.
func (k *sock) share(m *socket.Message, p *packet) {
	for _, f := range p.rights {
		f.IncRef()
		m.Rights = append(m.Rights, f)
	}
}

// receiveDgram reads one datagram or packet; what does not fit is lost.
func (k *sock) receiveDgram(m *socket.Message, dst uio.Sink) (int64, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	k.mu.Lock()
	if k.s.Type == unix.SOCK_SEQPACKET && k.state != connected {
		k.mu.Unlock()
		return 0, unix.ENOTCONN
	}
	if k.s.HasError() {
		k.mu.Unlock()
		return 0, k.s.TakeError()
	}
	p, skip := k.queue.head, 0
	peek := m.Flags&unix.MSG_PEEK != 0
	if peek {
		for skip = max(k.s.PeekOffset(), 0); p != nil && skip > 0 && skip >= p.n; p = p.next {
			skip -= p.n
		}
	}
	if p == nil {
		err := k.nothing(m)
		k.mu.Unlock()
		return 0, err
	}
	if peek {
		defer k.mu.Unlock()
		n, err := k.put(m, p, dst, skip)
		k.share(m, p)
		return n, err
	}
	full := k.full()
	k.queue.pop()
	freed := full && !k.full()
	k.mu.Unlock()
	if freed {
		k.room.Notify(writable)
	}
	n, err := k.put(m, p, dst, 0)
	if err == nil {
		m.Rights = k.net.takeRights(p)
	}
	k.net.free(p)
	return n, err
}

// put copies a datagram out and tells about it.
func (k *sock) put(m *socket.Message, p *packet, dst uio.Sink, skip int) (int64, error) {
	whole := p.n - skip
	n, err := k.net.put(p, dst, skip, whole)
	if err != nil {
		return 0, err
	}
	if n < whole {
		m.Out |= unix.MSG_TRUNC
	}
	k.stamp(m, p)
	k.describe(m, p)
	if m.Flags&unix.MSG_PEEK != 0 {
		k.s.MovePeekOffset(n)
	} else {
		k.s.MovePeekOffset(-p.n)
	}
	if m.Flags&unix.MSG_TRUNC != 0 {
		n = whole
	}
	return int64(n), nil
}

// stamp adds the time of a datagram (socket(7), SO_TIMESTAMP).
func (k *sock) stamp(m *socket.Message, p *packet) {
	ns := p.when
	if ns == 0 {
		ns = k.net.now()
	}
	if k.s.Is(socket.Timestamp) {
		m.AddTime(unix.SCM_TIMESTAMP, ns/1e9, ns%1e9/1000)
	}
	if k.s.Is(socket.TimestampNS) {
		m.AddTime(unix.SCM_TIMESTAMPNS, ns/1e9, ns%1e9)
	}
}
