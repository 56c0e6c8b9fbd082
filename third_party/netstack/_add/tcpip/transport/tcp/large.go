package tcp

import (
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

// largest is how much data a packet that the link cuts may have.
//
// +checklocks:s.ep.mu
func (s *sender) largest() int { return int(s.ep.gso.MaxSize - header.TCPTotalHeaderMaximumSize - 1) }
