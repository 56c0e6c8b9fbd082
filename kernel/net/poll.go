package net

import (
	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"gosv/kernel/socket"
	"gosv/kernel/wait"
)

// Events of poll(2).
const (
	readable = wait.Mask(unix.EPOLLIN | unix.EPOLLRDNORM)
	writable = wait.Mask(unix.EPOLLOUT | unix.EPOLLWRNORM)
)

// Poll implements socket.Ops, as Linux's tcp_poll and datagram_poll have it.
func (k *sock) Poll() wait.Mask {
	if ready, ok := k.pollPlain(); ok {
		return ready
	}
	k.collectError()
	var ready wait.Mask
	if k.s.HasError() || k.copies.waiting() {
		ready |= unix.EPOLLERR
		if k.s.Is(socket.SelectErrQueue) && !k.s.HasError() && !k.stream() {
			ready |= unix.EPOLLPRI
		}
	}
	if !k.stream() {
		return ready | k.pollDatagram()
	}
	if h := k.fast.Load(); h != nil {
		return ready | h.poll()
	}
	return ready | k.pollStream()
}

// A plainPoller is a TCP endpoint of the kernel's netstack (third_party/netstack/_add).
type plainPoller interface {
	// Flowing says whether an established connection may be read and written; ok is false in all other states, and when one direction has ended.
	Flowing() (read, write, ok bool)
}

// pollPlain is Poll for an established connection with nothing out of the ordinary, which is asked for three times for each request; ok is false
// for any other socket.
func (k *sock) pollPlain() (ready wait.Mask, ok bool) {
	if k.plain == nil || k.special.Load() || k.fast.Load() != nil || k.s.HasError() || k.notsent.Load() != 0 || k.s.RecvLowat() > 1 {
		return 0, false
	}
	read, write, ok := k.plain.Flowing()
	if read {
		ready = readable
	}
	if write {
		ready |= writable
	}
	return ready, ok
}

// collectError takes the endpoint's error, which only its own call shows, to where all calls see it.
func (k *sock) collectError() {
	if k.fast.Load() != nil || k.s.HasError() {
		return
	}
	if s := k.state; k.stream() && s() != tcp.StateError && s() != tcp.StateClose {
		return
	}
	e, ok := errno(k.ep.LastError()).(unix.Errno)
	if !ok {
		return
	}
	k.s.SetError(e)
	if k.stream() {
		k.ep.LastError() // netstack keeps why a connection failed twice
	}
}

func (k *sock) pollDatagram() wait.Mask {
	ready := wait.Mask(k.ep.Readiness(waiter.ReadableEvents | waiter.WritableEvents).ToLinux())
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rshut {
		ready |= unix.EPOLLRDHUP | readable
		if k.wshut {
			ready |= unix.EPOLLHUP
		}
	}
	return ready
}

func (k *sock) pollStream() wait.Mask {
	ready := wait.Mask(k.ep.Readiness(waiter.ReadableEvents|waiter.WritableEvents).ToLinux()) & (readable | writable | unix.EPOLLRDHUP)
	switch k.state() {
	case tcp.StateInitial, tcp.StateBound:
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.rshut {
			return readable | writable | unix.EPOLLRDHUP | unix.EPOLLHUP
		}
		return writable | unix.EPOLLHUP
	case tcp.StateListen:
		k.fastMu.Lock()
		if len(k.pending) > 0 {
			ready |= readable
		}
		k.fastMu.Unlock()
		return ready & readable
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return 0
	case tcp.StateError, tcp.StateClose, tcp.StateTimeWait, tcp.StateLastAck, tcp.StateClosing:
		return readable | writable | unix.EPOLLRDHUP | unix.EPOLLHUP
	case tcp.StateCloseWait:
		ready |= readable | unix.EPOLLRDHUP
	}
	if ready&writable != 0 && k.tooMuchUnsent() {
		ready &^= writable
	}
	k.markMu.Lock()
	urgent, least := k.mark.poll(k.s.Is(socket.OOBInline))
	k.markMu.Unlock()
	ready |= urgent
	if least += k.s.RecvLowat(); least > 1 && ready&(readable|unix.EPOLLRDHUP) == readable && k.queued() < least {
		ready &^= readable
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rshut {
		ready |= readable | unix.EPOLLRDHUP
		if k.wshut {
			ready |= unix.EPOLLHUP
		}
	}
	if k.wshut {
		ready |= writable
	}
	return ready
}

// queued is how many bytes of a stream wait to be read.
func (k *sock) queued() int {
	if e, ok := k.ep.(interface{ Queued() int }); ok {
		return e.Queued()
	}
	return 1<<31 - 1
}

// setNotsent sets TCP_NOTSENT_LOWAT in bytes, 0 or -1 for none. The short cut sends everything at once, and needs none.
func (k *sock) setNotsent(n int) {
	if e, ok := k.ep.(interface{ SetNotsentLowat(uint32) }); ok {
		n = max(n, 0)
		e.SetNotsentLowat(uint32(n))
		k.notsent.Store(int32(n))
	}
}

// tooMuchUnsent reports whether as much waits to be sent as TCP_NOTSENT_LOWAT allows.
func (k *sock) tooMuchUnsent() bool {
	limit := k.notsent.Load()
	if limit == 0 {
		return false
	}
	e, ok := k.ep.(interface{ Unsent() int })
	return ok && e.Unsent() >= int(limit)
}
