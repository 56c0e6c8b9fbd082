package tcp

// Flowing says whether an established connection may be read and written, as Readiness does; ok is false in all other states, and when one
// direction has ended.
func (e *Endpoint) Flowing() (read, write, ok bool) {
	if e.EndpointState() != StateEstablished {
		return false, false, false
	}
	e.sndQueueInfo.sndQueueMu.Lock()
	write = e.sndQueueInfo.SndBufUsed < e.getSendBufferSize()
	closed := e.sndQueueInfo.SndClosed
	e.sndQueueInfo.sndQueueMu.Unlock()
	e.rcvQueueMu.Lock()
	read = e.RcvBufUsed > 0
	closed = closed || e.RcvClosed
	e.rcvQueueMu.Unlock()
	return read, write, !closed
}

// ModerateRecvBuf is nothing to do: Read did it.
func (*Endpoint) ModerateRecvBuf(int) {}
