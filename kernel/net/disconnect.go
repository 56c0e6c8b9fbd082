package net

import (
	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// An endpoint of TCP that the kernel's netstack has: it can be connected again.
type renewable interface {
	Renew() bool
	Cut() bool
	Met() bool
}

// disconnect is connect(2) of a stream with AF_UNSPEC: an attempt, a connection or listening ends, and the socket can be connected
// again from the same port, as on Linux.
func (k *sock) disconnect() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	state := k.state()
	if h := k.fast.Load(); h != nil {
		h.close(true)
		k.fast.Store(nil)
		k.wasCut(state)
		k.renew()
		return nil
	}
	switch state {
	case tcp.StateListen:
		return k.endListening(unix.SHUT_RD)
	case tcp.StateInitial, tcp.StateBound:
		return nil
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		if err := k.ep.Shutdown(tcpip.ShutdownWrite); err != nil {
			return errno(err)
		}
	default:
		e, ok := k.ep.(renewable)
		if !ok {
			return unix.EAFNOSUPPORT
		}
		e.Cut() // false when it has ended by itself
	}
	if !k.renew() {
		return unix.EAFNOSUPPORT
	}
	k.wasCut(state)
	return nil
}

// wasCut notes that a connection or attempt in a state was ended, which the socket tells as an error where the other end did not know that it
// was over (Linux's tcp_disconnect). k.mu is held.
func (k *sock) wasCut(s tcp.EndpointState) {
	k.markMu.Lock()
	k.mark = mark{}
	k.markMu.Unlock()
	switch s {
	case tcp.StateClose, tcp.StateError, tcp.StateTimeWait, tcp.StateClosing, tcp.StateLastAck:
	default:
		k.s.SetError(unix.ECONNRESET)
		k.cut = true
	}
}

// met reports whether netstack had the socket connected since it was made or disconnected.
func (k *sock) met() bool {
	e, ok := k.ep.(renewable)
	return ok && e.Met()
}

// renew makes the endpoint as it was at first, on the port that it had; false when it cannot be. k.mu is held.
func (k *sock) renew() bool {
	at := k.named
	if a, err := k.ep.GetLocalAddress(); err == nil {
		at.Port = a.Port
	}
	e, ok := k.ep.(renewable)
	if renewed := ok && e.Renew(); !renewed && k.state() != tcp.StateInitial {
		return false
	}
	k.waited, k.told, k.rshut, k.wshut = false, false, false, false
	if at.Port != 0 {
		_ = k.ep.Bind(at) // where the port is gone, connect(2) finds another
	}
	k.s.Queue.Notify(anything)
	return true
}
