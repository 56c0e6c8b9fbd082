package tcp

import (
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Renew makes an endpoint that is bound, or whose connect failed, as it was at first, but for its options: Linux's connect(2) may be
// called again. It reports false when the endpoint is in another state, or was connected once.
func (e *Endpoint) Renew() bool {
	e.LockUser()
	defer e.UnlockUser()
	if s := e.EndpointState(); s != StateError && s != StateClose && s != StateBound || e.snd != nil || e.rcv != nil || e.closed {
		return false
	}
	if e.EndpointState() == StateBound && e.isPortReserved {
		e.stack.ReleasePort(ports.Reservation{
			Networks:     e.effectiveNetProtos,
			Transport:    ProtocolNumber,
			Addr:         e.TransportEndpointInfo.ID.LocalAddress,
			Port:         e.TransportEndpointInfo.ID.LocalPort,
			Flags:        e.boundPortFlags,
			BindToDevice: e.boundBindToDevice,
			Dest:         e.boundDest,
		})
		e.isPortReserved = false
		e.boundBindToDevice, e.boundPortFlags = 0, ports.Flags{}
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
