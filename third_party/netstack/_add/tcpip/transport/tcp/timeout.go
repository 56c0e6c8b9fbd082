package tcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// again sets the timer for the next SYN, or says that enough were sent: TCP_SYNCNT of an attempt to connect, or TCP_USER_TIMEOUT, which
// counts once a SYN was sent again, as on Linux (tcp(7), tcp_timer.c). An answer to a SYN has netstack's own limit.
//
// +checklocks:h.ep.mu
func (h *handshake) again() tcpip.Error {
	if !h.active {
		return h.retransmitTimer.reset()
	}
	e, t := h.ep, h.retransmitTimer
	elapsed := e.stack.Clock().NowMonotonic().Sub(h.startTime)
	limit := e.userTimeout
	if h.resent >= e.maxSynRetries || limit != 0 && h.resent > 0 && elapsed >= limit {
		return &tcpip.ErrTimeout{}
	}
	h.resent++
	t.timeout = min(max(2*t.timeout, 2*InitialRTO), t.maxTimeout) // also after one that was sent early, since something old had come
	next := t.timeout
	if limit != 0 {
		next = min(next, max(limit-elapsed, time.Millisecond))
	}
	t.t.Reset(next)
	return nil
}

// stale reports whether an endpoint's handshake is another now, or done.
//
// +checklocks:e.mu
func (e *Endpoint) stale(h *handshake) bool { return !e.EndpointState().connecting() || e.h != h }

// keepaliveFailed reports whether enough probes were not answered: TCP_USER_TIMEOUT alone counts when it is set (tcp(7)).
//
// +checklocks:e.mu
func (e *Endpoint) keepaliveFailed() bool {
	return e.userTimeout == 0 && e.keepalive.unacked >= e.keepalive.count
}
