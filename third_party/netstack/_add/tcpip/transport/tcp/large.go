package tcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// windowShare is Linux's tcp_tso_win_divisor: who may send that part of the window does not wait for more.
const windowShare = 3

// deferLarge says that more data waits than may be sent now, and that acknowledgements which are on their way will let more of it go in one
// packet for the link to cut. Sent as each lets it, packets are as small as what each acknowledges, and each costs as much as
// a large one. As Linux's tcp_tso_should_defer.
//
// +checklocks:s.ep.mu
func (s *sender) deferLarge(seg *segment, limit int, end seqnum.Value) bool {
	if !s.gso || s.Outstanding == 0 || s.FastRecovery.Active || s.state != tcpip.Open || s.isAssignedSequenceNumber(seg) {
		return false
	}
	room := min(limit, int(s.SndNxt.Size(end)))
	if !s.SndNxt.LessThan(end) || room >= s.largest() {
		return false
	}
	waiting := 0
	for n := seg; n != nil && waiting <= room; n = n.Next() {
		if n.payloadSize() == 0 {
			break
		}
		waiting += n.payloadSize()
	}
	return waiting > room && room < min(int(s.SndWnd), s.SndCwnd*s.MaxPayloadSize)/windowShare
}

// largest is how much data a packet that the link cuts may have: full segments, as those that Linux makes.
//
// +checklocks:s.ep.mu
func (s *sender) largest() int {
	n := int(s.ep.gso.MaxSize - header.TCPTotalHeaderMaximumSize - 1)
	return max(n-n%s.MaxPayloadSize, min(n, s.MaxPayloadSize))
}

// fill cuts next, the segment behind seg, so that what is merged makes seg as large as it may be. (What a program writes in one piece is one
// segment of any size, whose rest would be a packet by itself.)
//
// +checklocks:s.ep.mu
func (s *sender) fill(seg, next *segment, available int) {
	if room := available - available%s.MaxPayloadSize - seg.payloadSize(); s.gso && !s.ep.urgentMode() && room > 0 {
		s.splitSeg(next, room)
	}
}

// fullOnly makes of what may be sent of seg full segments, when there are some, and leaves the rest to a packet to come.
//
// +checklocks:s.ep.mu
func (s *sender) fullOnly(seg *segment, available int) int {
	if s.gso && available > s.MaxPayloadSize && seg.payloadSize() > available {
		return available - available%s.MaxPayloadSize
	}
	return available
}

const (
	tailTime = time.Millisecond // how long a tail waits at most, and how soon the next write follows in bulk
	tailBulk = 4                // writes in a row that make bulk
)

// A tail is what a write leaves behind the large packets made of it, less than a large one; guarded by the endpoint's mu.
type tail struct {
	waits bool
	timer timer
	row   int                 // tails in a row, each soon after the one before, while nothing was received
	last  tcpip.MonotonicTime // when the last was left
	rcv   seqnum.Value        // RcvNxt then
}

// deferTail says that seg is a tail that waits; large, that large packets went before it just now. A packet for a tail costs as much as a large one, and
// whoever writes in bulk goes on at once: it goes with the next write, or after tailTime. Who answers requests does not wait. (Linux lets it wait for the device
// to be done with what is before it, tcp_should_autocork.)
//
// +checklocks:s.ep.mu
func (s *sender) deferTail(seg *segment, large bool) bool {
	t := &s.tail
	if n := seg.payloadSize(); !s.gso || seg.Next() != nil || n == 0 || n >= s.largest() || s.isAssignedSequenceNumber(seg) || s.FastRecovery.Active {
		t.waits = false
		return false
	}
	if !large {
		return t.waits
	}
	if now, rcv := s.LastSendTime, s.ep.rcv.RcvNxt; now.Sub(t.last) < tailTime && rcv == t.rcv {
		t.row++
	} else {
		t.row, t.rcv = 0, rcv
	}
	t.last = s.LastSendTime
	if t.waits = t.row >= tailBulk; t.waits {
		t.timer.enable(tailTime)
	}
	return t.waits
}

// tailExpired sends what waits.
//
// +checklocks:s.ep.mu
func (s *sender) tailExpired() tcpip.Error {
	t := &s.tail
	if !t.timer.isUninitialized() && t.timer.checkExpiration() && t.waits {
		t.waits, t.row = false, 0
		s.sendData()
	}
	return nil
}

// renumber makes what was split off a segment as it was sent, and was not sent itself, as one that was never looked at: more may be merged into it.
//
// +checklocks:s.ep.mu
func (s *sender) renumber(seg *segment) {
	if s.gso && seg.xmitCount == 0 && seg.payloadSize() > 0 {
		seg.flags = 0
	}
}
