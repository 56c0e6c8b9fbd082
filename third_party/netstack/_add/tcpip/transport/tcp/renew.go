package tcp

import (
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Renew makes an endpoint that is bound, or whose connection ended or never began, as it was at first, but for its options: Linux's
// connect(2) may be called again. It reports false when the endpoint is in another state.
func (e *Endpoint) Renew() bool {
	e.LockUser()
	defer e.UnlockUser()
	if s := e.EndpointState(); s != StateError && s != StateClose && s != StateBound || e.closed {
		return false
	}
	if e.EndpointState() == StateBound && e.isPortReserved {
		e.stack.ReleasePort(ports.Reservation{
			Networks:     e.effectiveNetProtos,
			Transport:    ProtocolNumber,
			Addr:         e.reservedAddress(),
			Port:         e.TransportEndpointInfo.ID.LocalPort,
			Flags:        e.boundPortFlags,
			BindToDevice: e.boundBindToDevice,
			Dest:         e.boundDest,
		})
		e.isPortReserved = false
		e.boundBindToDevice, e.boundPortFlags = 0, ports.Flags{}
	}
	e.drainClosingSegmentQueue() // what is still to be processed is answered as where nobody listens
	e.forget()
	e.lastErrorMu.Lock()
	e.lastError = nil
	e.lastErrorMu.Unlock()
	e.hardError, e.h = nil, nil
	e.TransportEndpointInfo.ID = stack.TransportEndpointID{}
	e.effectiveNetProtos, e.boundNICID = nil, 0
	e.isConnectNotified, e.alsoBindToV4, e.boundAny = false, false, false
	e.shutdownFlags = 0
	e.connectionDirectionState.Store(uint32(connDirectionStateOpen))
	e.rcvQueueMu.Lock()
	e.RcvClosed = false
	e.rcvQueueMu.Unlock()
	e.sndQueueInfo.sndQueueMu.Lock()
	e.sndQueueInfo.SndClosed = false
	e.sndQueueInfo.sndQueueMu.Unlock()
	e.segmentQueue.thaw()
	e.keepalive.Lock()
	e.keepalive.unacked = 0
	e.keepalive.timer.init(e.stack.Clock(), timerHandler(e, e.keepaliveTimerExpired))
	e.keepalive.Unlock()
	e.setEndpointState(StateInitial)
	return true
}

// forget drops what there was of a connection. Its timers have been stopped, and those that run all the same find nothing to do.
//
// +checklocks:e.mu
func (e *Endpoint) forget() {
	if e.snd == nil && e.rcv == nil {
		return
	}
	e.purgePendingRcvQueue()
	e.purgeReadQueue()
	e.purgeWriteQueue()
	e.rcvQueueMu.Lock()
	e.rcv = nil
	e.RcvAutoParams = RcvBufAutoTuneParams{Disabled: e.RcvAutoParams.Disabled}
	e.rcvQueueMu.Unlock()
	e.sndQueueInfo.sndQueueMu.Lock()
	e.snd = nil
	e.sndQueueInfo.PacketTooBigCount, e.sndQueueInfo.SndMTU = 0, math.MaxInt32
	e.sndQueueInfo.sndQueueMu.Unlock()
	e.TCPEndpointStateInner = TCPEndpointStateInner{}
	e.sack, e.scoreboard, e.gso, e.amss = SACKInfo{}, nil, stack.GSO{}, 0
	e.recentTSTime, e.lastOutOfWindowAckTime = tcpip.MonotonicTime{}, tcpip.MonotonicTime{}
	e.finWait2Timer, e.timeWaitTimer = nil, nil
	e.urgent = urgent{tell: e.urgent.tell}
	e.delayed = delayedAck{watched: e.delayed.watched}
	e.counts.reset()
}

// Met reports whether the endpoint has been connected since it was made or renewed.
func (e *Endpoint) Met() bool {
	e.LockUser()
	defer e.UnlockUser()
	return e.snd != nil
}

// Cut ends a connection at once, as connect(2) with AF_UNSPEC does: the other end is told so unless both had said that they were done. It
// reports false when there is none.
func (e *Endpoint) Cut() bool {
	defer e.drainClosingSegmentQueue()
	e.LockUser()
	defer e.UnlockUser()
	switch e.EndpointState() {
	case StateEstablished, StateCloseWait, StateFinWait1, StateFinWait2:
		e.resetConnectionLocked(&tcpip.ErrAborted{})
	case StateClosing, StateLastAck, StateTimeWait:
		e.transitionToStateCloseLocked()
	default:
		return false
	}
	return true
}
