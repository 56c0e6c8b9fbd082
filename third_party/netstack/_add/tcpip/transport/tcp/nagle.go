package tcp

import "gvisor.dev/gvisor/pkg/tcpip/seqnum"

// holdSmall is Nagle's algorithm (RFC 1122 section 4.2.3.4) as Minshall mended it and Linux has it: what does not fill a segment waits
// while another that was not full is on its way, unless the stream ends with it or urgent data hurries.
// +checklocks:s.ep.mu
func (s *sender) holdSmall(seg *segment) bool {
	if !s.ep.ops.GetDelayOption() || s.ep.urgentMode() || seg.payloadSize() >= s.MaxPayloadSize || !s.SndUna.LessThan(s.small) {
		return false
	}
	next := seg.Next()
	return next == nil || next.payloadSize() != 0
}

// noteSmall remembers where a segment ends that is not full, or does not end with one that is.
// +checklocks:s.ep.mu
func (s *sender) noteSmall(seg *segment, end seqnum.Value) {
	if n := seg.payloadSize(); n > 0 && n%s.MaxPayloadSize != 0 {
		s.small = end
	}
}
