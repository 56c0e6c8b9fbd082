package tcp

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/waiter"
)

// counts are what TCP_INFO tells and the endpoint does not keep otherwise. The endpoint's mu guards them, but for lowat.
type counts struct {
	acked, received, sent, resent uint64 // bytes
	dataIn, dataOut, delivered    uint32 // segments
	lastIn, lastOut               tcpip.MonotonicTime

	rate      uint64 // bytes per second that were delivered in the last round trip
	rateBegin tcpip.MonotonicTime
	rateAcked uint64

	lowat atomic.Uint32 // TCP_NOTSENT_LOWAT; 0 for none
}

// reset makes all of them 0, but for the option.
func (c *counts) reset() {
	c.acked, c.received, c.sent, c.resent = 0, 0, 0, 0
	c.dataIn, c.dataOut, c.delivered = 0, 0, 0
	c.lastIn, c.lastOut = tcpip.MonotonicTime{}, tcpip.MonotonicTime{}
	c.rate, c.rateBegin, c.rateAcked = 0, tcpip.MonotonicTime{}, 0
}

// noteSent counts a segment that is about to be sent.
// +checklocks:s.ep.mu
func (s *sender) noteSent(seg *segment) {
	c, n := &s.ep.counts, uint64(seg.payloadSize())
	if n == 0 {
		return
	}
	c.sent += n
	c.dataOut += uint32(s.pCount(seg, s.MaxPayloadSize))
	c.lastOut = seg.xmitTime
	if seg.xmitCount > 0 {
		c.resent += n
	}
}

// noteAcked counts what the other end has acknowledged.
// +checklocks:s.ep.mu
func (s *sender) noteAcked(bytes, segments int) {
	c, now := &s.ep.counts, s.ep.rcv.lastRcvdAckTime
	c.acked += uint64(bytes)
	c.delivered += uint32(max(segments, 0))
	s.rtt.Lock()
	round := s.rtt.TCPRTTState.SRTT
	s.rtt.Unlock()
	round = max(round, time.Microsecond)
	if passed := now.Sub(c.rateBegin); passed >= round {
		if passed >= 2*round { // there was a pause
			c.rate = uint64(bytes) * uint64(time.Second) / uint64(round)
		} else {
			c.rate = (c.acked - c.rateAcked) * uint64(time.Second) / uint64(passed)
		}
		c.rateBegin, c.rateAcked = now, c.acked
	}
}

// noteReceived counts a segment that is to be read.
// +checklocks:e.mu
func (e *Endpoint) noteReceived(s *segment) {
	if n := s.payloadSize(); n > 0 {
		e.counts.received += uint64(n)
		e.counts.dataIn++
		e.counts.lastIn = s.rcvdTime
	}
}

// SetNotsentLowat sets TCP_NOTSENT_LOWAT: below how many bytes that are not sent the endpoint is writable; 0 for any number.
func (e *Endpoint) SetNotsentLowat(n uint32) { e.counts.lowat.Store(n) }

// Unacked is how many bytes were written and not acknowledged.
func (e *Endpoint) Unacked() int {
	e.sndQueueInfo.sndQueueMu.Lock()
	defer e.sndQueueInfo.sndQueueMu.Unlock()
	return e.sndQueueInfo.SndBufUsed
}

// Unsent is how many bytes wait to be sent the first time.
func (e *Endpoint) Unsent() int {
	e.LockUser()
	defer e.UnlockUser()
	return e.unsentLocked()
}

// +checklocks:e.mu
func (e *Endpoint) unsentLocked() int {
	if e.snd == nil {
		return 0
	}
	e.sndQueueInfo.sndQueueMu.Lock()
	used := e.sndQueueInfo.SndBufUsed
	e.sndQueueInfo.sndQueueMu.Unlock()
	return max(used-int(e.snd.SndUna.Size(e.snd.SndNxt)), 0)
}

// noteUnsent tells writers who wait for TCP_NOTSENT_LOWAT.
// +checklocks:e.mu
func (e *Endpoint) noteUnsent() {
	if n := e.counts.lowat.Load(); n != 0 && e.unsentLocked() < int(n) {
		e.waiterQueue.Notify(waiter.WritableEvents)
	}
}

// Metrics are fields of struct tcp_info by name, in Linux's units.
func (e *Endpoint) Metrics() map[string]uint64 {
	e.LockUser()
	defer e.UnlockUser()
	m := map[string]uint64{
		"segs_out": e.stats.SegmentsSent.Value(), "segs_in": e.stats.SegmentsReceived.Value(),
		"total_retrans": e.stats.SendErrors.Retransmits.Value(), "total_rto": e.stats.SendErrors.Timeouts.Value(),
	}
	if e.EndpointState() == StateListen {
		e.acceptMu.Lock()
		m["unacked"], m["sacked"] = uint64(e.acceptQueue.endpoints.Len()), uint64(e.acceptQueue.capacity)
		e.acceptMu.Unlock()
	}
	s, r := e.snd, e.rcv
	if s == nil || r == nil {
		return m
	}
	now := e.stack.Clock().NowMonotonic()
	micro := func(d time.Duration) uint64 { return uint64(max(d/time.Microsecond, 0)) }
	milli := func(t tcpip.MonotonicTime) uint64 {
		if t == (tcpip.MonotonicTime{}) {
			return 0
		}
		return uint64(max(now.Sub(t)/time.Millisecond, 0))
	}
	c := &e.counts
	m["bytes_acked"], m["bytes_received"], m["bytes_sent"], m["bytes_retrans"] = c.acked, c.received, c.sent, c.resent
	m["data_segs_in"], m["data_segs_out"], m["delivered"] = uint64(c.dataIn), uint64(c.dataOut), uint64(c.delivered)
	m["last_data_recv"], m["last_data_sent"], m["last_ack_recv"] = milli(c.lastIn), milli(c.lastOut), milli(r.lastRcvdAckTime)
	m["delivery_rate"] = c.rate
	m["unacked"], m["sacked"] = uint64(s.Outstanding), uint64(s.SackedOut)
	for seg := s.writeList.Front(); seg != nil && seg != s.writeNext; seg = seg.Next() {
		if seg.lost {
			m["lost"] += uint64(s.pCount(seg, s.MaxPayloadSize))
		}
		if seg.xmitCount > 1 && !seg.acked {
			m["retrans"] += uint64(s.pCount(seg, s.MaxPayloadSize))
		}
	}
	if seg := s.writeList.Front(); seg != nil && seg.xmitCount > 1 && s.state == tcpip.RTORecovery {
		m["retransmits"] = min(uint64(seg.xmitCount-1), 255)
		m["backoff"] = m["retransmits"]
	}
	m["probes"] = min(uint64(s.unackZeroWindowProbes), 255)
	m["notsent_bytes"] = uint64(e.unsentLocked())
	m["snd_mss"], m["advmss"] = uint64(s.MaxPayloadSize), uint64(e.amss)
	m["snd_wnd"], m["rcv_wnd"] = uint64(s.SndWnd), uint64(r.rcvWnd)
	m["snd_wscale"], m["rcv_wscale"] = uint64(s.SndWndScale), uint64(r.RcvWndScale)
	m["min_rtt"] = micro(s.rc.minRTT)
	if e.SendTSOk {
		m["options"] |= 1 // TCPI_OPT_TIMESTAMPS
	}
	if e.SACKPermitted {
		m["options"] |= 2 // TCPI_OPT_SACK
	}
	if s.SndWndScale != 0 || r.RcvWndScale != 0 {
		m["options"] |= 4 // TCPI_OPT_WSCALE
	}
	e.rcvQueueMu.Lock()
	m["rcv_rtt"], m["rcv_space"] = micro(e.RcvAutoParams.RTT), uint64(e.RcvAutoParams.PrevCopiedBytes)
	e.rcvQueueMu.Unlock()
	m["rcv_ssthresh"] = uint64(seqnum.Size(r.RcvNxt.Size(r.RcvAcc)))
	return m
}
