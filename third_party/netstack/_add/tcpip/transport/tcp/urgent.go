package tcp

import (
	"io"
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// urgent is what an endpoint knows of urgent data (RFC 9293 section 3.8.5; the pointer is taken as everybody takes it, RFC 6093). The
// endpoint's mu guards it.
type urgent struct {
	// Received: where the byte is, the byte or -1 while it has not come, and who wants to know.
	came bool
	at   seqnum.Value
	b    int
	tell func(at, copied, next uint32, b int)
	// Sent: the byte after the urgent one, while it is not acknowledged.
	sending bool
	end     seqnum.Value
}

// OnUrgent has f called for urgent data, with the endpoint locked, and at once for what has come already. f must not call the endpoint.
func (e *Endpoint) OnUrgent(f func(at, copied, next uint32, b int)) {
	e.LockUser()
	defer e.UnlockUser()
	e.urgent.tell = f
	if e.urgent.came && e.rcv != nil {
		copied := e.copiedLocked()
		f(uint32(e.urgent.at), uint32(copied), uint32(copied), e.urgent.b)
	}
}

// copiedLocked is the sequence number of the first byte that was not read.
// +checklocks:e.mu
func (e *Endpoint) copiedLocked() seqnum.Value {
	e.rcvQueueMu.Lock()
	used := e.RcvBufUsed
	e.rcvQueueMu.Unlock()
	if e.rcv.closed {
		used++ // the FIN
	}
	return e.rcv.RcvNxt - seqnum.Value(used)
}

// urgentSegment looks at a segment that may be, or bring, urgent data, before it is consumed.
// +checklocks:e.mu
func (e *Endpoint) urgentSegment(s *segment) {
	u := &e.urgent
	if s.flags.Contains(header.TCPFlagUrg) {
		if p := header.TCP(s.pkt.TransportHeader().Slice()).UrgentPointer(); p != 0 {
			at := s.sequenceNumber.Add(seqnum.Size(p - 1))
			if !at.LessThan(e.rcv.RcvNxt) && (!u.came || u.at.LessThan(at)) {
				u.came, u.at, u.b = true, at, -1
			}
		}
	}
	if !u.came || u.b >= 0 {
		return
	}
	if off := int(s.sequenceNumber.Size(u.at)); !u.at.LessThan(s.sequenceNumber) && off < s.payloadSize() {
		u.b = int(s.pkt.Data().AsRange().SubRange(off).Capped(1).ToSlice()[0])
	}
	if u.tell != nil {
		u.tell(uint32(u.at), uint32(e.copiedLocked()), uint32(e.rcv.RcvNxt), u.b)
	}
}

// beginRead tells who reads where the bytes begin that it will get, when there has been urgent data.
// +checklocks:e.mu
func (e *Endpoint) beginRead(dst io.Writer) {
	if !e.urgent.came || e.rcv == nil {
		return
	}
	if b, ok := dst.(interface{ Begin(copied uint32) }); ok {
		b.Begin(uint32(e.copiedLocked()))
	}
}

// noteUrgent makes the last byte that was queued urgent, if the writer says so.
// +checklocks:e.mu
func (e *Endpoint) noteUrgent(p tcpip.Payloader) {
	if _, ok := p.(interface{ Urgent() bool }); !ok {
		return
	}
	e.sndQueueInfo.sndQueueMu.Lock()
	used := e.sndQueueInfo.SndBufUsed
	e.sndQueueInfo.sndQueueMu.Unlock()
	e.urgent.sending, e.urgent.end = true, e.snd.SndUna.Add(seqnum.Size(used))
}

// urgentMode reports whether urgent data was sent, or is to be, that is not acknowledged.
// +checklocks:e.mu
func (e *Endpoint) urgentMode() bool {
	if e.urgent.sending && !e.snd.SndUna.LessThan(e.urgent.end) {
		e.urgent.sending = false
	}
	return e.urgent.sending
}

// urgentPointer is what a segment says of urgent data, 0 for nothing. One that will be cut further must say nothing, since each part would
// say the same.
// +checklocks:e.mu
func (e *Endpoint) urgentPointer(pkt *stack.PacketBuffer, seq seqnum.Value) uint16 {
	if e.snd == nil || !e.urgentMode() || !seq.LessThan(e.urgent.end) || pkt.Data().Size() > e.snd.MaxPayloadSize {
		return 0
	}
	return uint16(min(seq.Size(e.urgent.end), math.MaxUint16))
}

// urgentFlag is the flag that goes with it.
func urgentFlag(pointer uint16) header.TCPFlags {
	if pointer == 0 {
		return 0
	}
	return header.TCPFlagUrg
}

// Queued is how many bytes wait to be read. It may be called with any lock held that Readiness may.
func (e *Endpoint) Queued() int {
	e.rcvQueueMu.Lock()
	defer e.rcvQueueMu.Unlock()
	return e.RcvBufUsed
}
