package net

import (
	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// disconnect is connect(2) of a stream with AF_UNSPEC: an attempt, a connection or listening ends, and the socket can be connected
// again from the same port, as on Linux. EAFNOSUPPORT where netstack had a connection, since its endpoints serve for one.
func (k *sock) disconnect() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.fast.Load(); h != nil {
		switch h.state() {
		case tcp.StateClose, tcp.StateTimeWait:
		default:
			k.s.SetError(unix.ECONNRESET)
			k.cut = true
		}
		h.close(true)
		k.fast.Store(nil)
		k.renew()
		return nil
	}
	switch k.state() {
	case tcp.StateListen:
		return k.endListening(unix.SHUT_RD)
	case tcp.StateInitial, tcp.StateBound:
		return nil
	case tcp.StateConnecting, tcp.StateSynSent:
		if err := k.ep.Shutdown(tcpip.ShutdownWrite); err != nil {
			return errno(err)
		}
		if !k.renew() {
			return unix.EAFNOSUPPORT
		}
		k.s.SetError(unix.ECONNRESET)
		k.cut = true
		return nil
	case tcp.StateError, tcp.StateClose:
		if k.renew() {
			return nil
		}
	}
	return unix.EAFNOSUPPORT
}

// renew makes the endpoint as it was at first, on the port that it had; false when it cannot be. k.mu is held.
func (k *sock) renew() bool {
	at := k.named
	if a, err := k.ep.GetLocalAddress(); err == nil {
		at.Port = a.Port
	}
	e, ok := k.ep.(interface{ Renew() bool })
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
