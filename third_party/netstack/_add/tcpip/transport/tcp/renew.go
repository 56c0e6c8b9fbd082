package tcp

import "gvisor.dev/gvisor/pkg/tcpip/stack"

// Renew makes an endpoint whose connect failed as it was at first, but for its options: Linux's connect(2) may be called again. It
// reports false when the endpoint is in another state, or was connected once.
func (e *Endpoint) Renew() bool {
	e.LockUser()
	defer e.UnlockUser()
	if s := e.EndpointState(); s != StateError && s != StateClose || e.snd != nil || e.rcv != nil || e.closed {
		return false
	}
	e.lastErrorMu.Lock()
	e.lastError = nil
	e.lastErrorMu.Unlock()
	e.hardError, e.h = nil, nil
	e.TransportEndpointInfo.ID = stack.TransportEndpointID{}
	e.effectiveNetProtos, e.boundNICID = nil, 0
	e.isConnectNotified, e.alsoBindToV4 = false, false
	e.shutdownFlags = 0
	e.connectionDirectionState.Store(uint32(connDirectionStateOpen))
	e.rcvQueueMu.Lock()
	e.RcvClosed = false
	e.rcvQueueMu.Unlock()
	e.sndQueueInfo.sndQueueMu.Lock()
	e.sndQueueInfo.SndClosed = false
	e.sndQueueInfo.sndQueueMu.Unlock()
	e.segmentQueue.thaw()
	e.keepalive.timer.init(e.stack.Clock(), timerHandler(e, e.keepaliveTimerExpired))
	e.setEndpointState(StateInitial)
	return true
}
