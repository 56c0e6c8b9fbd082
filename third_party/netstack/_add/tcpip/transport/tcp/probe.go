package tcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// timeoutMin is what Linux adds to its shortest timers, those of tail loss probes and of reordering (TCP_TIMEOUT_MIN, two jiffies of 4 ms). Without it,
// a round trip of a millisecond makes a probe of each moment for which the other end does not run.
const timeoutMin = 8 * time.Millisecond

// probeDone says whether an acknowledgement ends the wait for what came of a probe (RFC 8985 §7.4.2). One that covers the probe and
// nothing beyond it may be for the data sent first: whether the probe was needed is known when one says that it came twice, or one
// for later data does not.
//
// +checklocks:s.ep.mu
func (s *sender) probeDone(ack seqnum.Value, seg *segment) bool {
	return s.rc.tlpHighRxt.LessThan(ack) || s.rc.tlpHighRxt == ack && checkDSACK(seg)
}
