package tcp

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A request is nearly always the segment that is expected: the next data, an acknowledgement of all that was sent, no options but the
// time, and nothing lost or out of order on either side. What the layers of receiver and sender come to then is written down here
// (header prediction, RFC 1323 appendix; as Linux's tcp_rcv_established): it takes a fifth of the instructions.

// timestampOption is how the option begins that a segment with a timestamp alone has (RFC 7323 appendix A).
const timestampOption = header.TCPOptionNOP<<24 | header.TCPOptionNOP<<16 | header.TCPOptionTS<<8 | header.TCPOptionTSLength

// TakeExpected implements stack.Expecter: it processes a segment whose header is h, if it is the one that the connection expects. When it
// returns false, nothing was done. The checksum was good.
func (e *Endpoint) TakeExpected(pkt *stack.PacketBuffer, h []byte) bool {
	if e.EndpointState() != StateEstablished || !e.TryLock() {
		return false
	}
	taken := e.takeExpected(pkt, h)
	e.mu.Unlock()
	return taken
}

// +checklocks:e.mu
func (e *Endpoint) takeExpected(pkt *stack.PacketBuffer, h header.TCP) bool {
	size := pkt.Data().Size()
	if !e.expects(h, size) {
		return false
	}
	s, r, now := e.snd, e.rcv, e.stack.Clock().NowMonotonic()
	g := newSegment()
	g.sequenceNumber, g.ackNumber, g.flags = r.RcvNxt, s.SndNxt, h.Flags()
	g.window = seqnum.Size(h.WindowSize()) << s.SndWndScale
	g.rcvdTime, g.csumValid = now, true
	g.pkt = pkt.IncRef()
	g.dataMemSize = pkt.MemSize()
	g.setOwner(e, recvQ)
	if e.SendTSOk {
		o := &g.parsedOptions
		o.TS, o.TSVal, o.TSEcr = true, binary.BigEndian.Uint32(h[header.TCPMinimumSize+4:]), binary.BigEndian.Uint32(h[header.TCPMinimumSize+8:])
		if seqnum.Value(e.RecentTS).LessThan(seqnum.Value(o.TSVal)) && g.sequenceNumber.LessThanEq(s.MaxSentAck) {
			e.RecentTS, e.recentTSTime = o.TSVal, now
		}
	}
	e.stack.Stats().TCP.ValidSegmentsReceived.Increment()
	e.stats.SegmentsReceived.Increment()
	r.lastRcvdAckTime = now
	s.SndWnd, s.DupAckCount = g.window, 0
	if s.SndUna != s.SndNxt {
		s.acknowledgedAll(g)
		if e.confirmDue() {
			e.route.ConfirmReachable()
		}
	}

	e.rcvQueueMu.Lock()
	e.RcvBufUsed += size
	e.noteReceived(g)
	e.rcvQueue.PushBack(g) // with our reference
	e.rcvQueueMu.Unlock()
	r.RcvNxt.UpdateForward(seqnum.Size(size))
	if r.RcvAcc.LessThan(r.RcvNxt) {
		r.RcvAcc = r.RcvNxt
	}
	r.updateRTT()
	if !e.delayAck() {
		s.sendAck()
	}
	e.resetKeepaliveTimer(true)
	e.waiterQueue.Notify(waiter.ReadableEvents)
	return true
}

// expects says whether a segment with size bytes is the one that is expected, and whatever needs more thought is at rest.
//
// +checklocks:e.mu
func (e *Endpoint) expects(h header.TCP, size int) bool {
	s, r := e.snd, e.rcv
	if e.EndpointState() != StateEstablished || s == nil || r == nil || e.probe != nil || size == 0 ||
		h.Flags()&^header.TCPFlagPsh != header.TCPFlagAck || seqnum.Value(h.SequenceNumber()) != r.RcvNxt || seqnum.Value(h.AckNumber()) != s.SndNxt {
		return false
	}
	if e.SendTSOk {
		if len(h) != header.TCPMinimumSize+header.TCPOptionTSLength+2 || binary.BigEndian.Uint32(h[header.TCPMinimumSize:]) != timestampOption {
			return false
		}
	} else if len(h) != header.TCPMinimumSize {
		return false
	}
	if r.closed || len(r.pendingRcvdSegments) != 0 || e.sack.NumBlocks != 0 || !r.acceptable(r.RcvNxt, seqnum.Size(size)) || e.urgent.came || e.urgentMode() {
		return false
	}
	if s.writeNext != nil || s.FastRecovery.Active || s.state != tcpip.Open || s.zeroWindowProbing || !s.FastRecovery.Last.LessThan(s.SndNxt) ||
		!e.scoreboard.Empty() || s.rc.tlpRxtOut || s.rc.Reord || s.rc.DSACKSeen || s.rc.ReoWndIncr != 1 {
		return false
	}
	if e.receiveMemUsed() > int(e.ops.GetReceiveBufferSize()) {
		return false
	}
	q := &e.segmentQueue
	q.mu.Lock()
	rest := q.list.Empty() && !q.frozen
	q.mu.Unlock()
	return rest
}

// acknowledgedAll is what sender.handleRcvdSegment does when g acknowledges all that was sent, and nothing waits to be sent.
//
// +checklocks:s.ep.mu
func (s *sender) acknowledgedAll(g *segment) {
	e, rtt := s.ep, unknownRTT
	switch {
	case !e.SendTSOk:
		if s.RTTMeasureSeqNum.LessThan(s.SndNxt) {
			rtt = g.rcvdTime.Sub(s.RTTMeasureTime)
			s.updateRTO(rtt)
			s.RTTMeasureSeqNum = s.SndNxt
		}
	case g.parsedOptions.TSEcr != 0:
		rtt = e.elapsed(g.rcvdTime, g.parsedOptions.TSEcr)
		s.sampleRTT(rtt)
	}
	acked, outstanding := int(s.SndUna.Size(s.SndNxt)), s.Outstanding
	s.SndUna = s.SndNxt
	rack := e.SACKPermitted && e.tcpRecovery&tcpip.TCPRACKLossDetection != 0
	for w := s.writeList.Front(); w != nil; w = s.writeList.Front() {
		if rack && !w.acked {
			s.rc.update(w, g)
			s.rc.detectReorder(w)
		}
		s.writeList.Remove(w)
		w.DecRef()
	}
	s.Outstanding = 0
	s.cc.Update(outstanding, rtt)
	s.noteAcked(acked, outstanding)
	e.updateSndBufferUsage(acked)
	s.firstRetransmittedSegXmitTime = tcpip.MonotonicTime{}
	s.reorderTimer.disable()
	s.resendTimer.disable()
	s.probeTimer.disable()
}

// sampleRTT is updateRTO for connections with timestamps; while one or two segments are on their way, which is when each acknowledgement is
// a sample (RFC 7323 appendix G), without fractions.
//
// +checklocks:s.ep.mu
func (s *sender) sampleRTT(rtt time.Duration) {
	s.rtt.Lock()
	t := &s.rtt.TCPRTTState
	if !t.SRTTInited || s.Outstanding < 1 || s.Outstanding > 2 {
		s.rtt.Unlock()
		s.updateRTO(rtt)
		return
	}
	t.RTTVar = (3*t.RTTVar + (t.SRTT - rtt).Abs()) / 4
	t.SRTT = max((7*t.SRTT+rtt)/8, MinSRTT)
	s.RTO = min(max(t.SRTT+4*t.RTTVar, s.minRTO), s.maxRTO)
	s.RTTState = *t
	s.rtt.Unlock()
}
