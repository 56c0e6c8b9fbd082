package tcp

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// Delayed acknowledgements (RFC 9293 §3.8.6.3, RFC 5681 §4.2): netstack acknowledges whatever comes at once, and so sends two segments
// for each request: the acknowledgement and the answer. As on Linux, a connection on which the program has answered what came
// lets the answer carry the acknowledgement; when none comes in time, or half a segment is owed, it is sent by itself.

const (
	delayTime     = 40 * time.Millisecond // Linux's TCP_DELACK_MIN
	delayAnswered = 3                     // answers in a row before acknowledgements wait
)

// delayedAck is what an Endpoint knows of it; guarded by the endpoint's mu.
type delayedAck struct {
	sent      seqnum.Value        // SndNxt when data came last
	answered  int                 // how many times in a row data was sent between data that came
	since     tcpip.MonotonicTime // when the acknowledgement began to wait
	watched   bool                // the endpoint is on the list of a delayTimer
	confirmed tcpip.MonotonicTime // when the neighbour was last said to be reachable
}

// delayAck says whether the acknowledgement that is owed may wait.
//
// +checklocks:e.mu
func (e *Endpoint) delayAck() bool {
	d := &e.delayed
	if d.sent == e.snd.SndNxt {
		d.answered = 0
	} else {
		d.answered = min(d.answered+1, delayAnswered)
	}
	d.sent = e.snd.SndNxt
	if d.answered < delayAnswered || e.EndpointState() != StateEstablished || len(e.rcv.pendingRcvdSegments) != 0 ||
		e.snd.MaxSentAck.Size(e.rcv.RcvNxt) >= seqnum.Size(e.amss)/2 {
		return false
	}
	d.since = e.rcv.lastRcvdAckTime
	if !d.watched {
		d.watched = true
		delays.watch(e)
	}
	return true
}

// delays is one timer for all connections: with one for each, a server with many would see to little else.
var delays delayTimer

type delayTimer struct {
	mu   sync.Mutex
	list []*Endpoint // that have let an acknowledgement wait; guarded by mu
}

// watch puts e on the list. The timer runs while there is one.
func (t *delayTimer) watch(e *Endpoint) {
	t.mu.Lock()
	t.list = append(t.list, e)
	first := len(t.list) == 1
	t.mu.Unlock()
	if first {
		e.stack.Clock().AfterFunc(delayTime, t.expired)
	}
}

// expired looks at those on the list, which so wait between once and twice delayTime.
func (t *delayTimer) expired() {
	t.mu.Lock()
	list := t.list
	t.list = nil
	t.mu.Unlock()
	for _, e := range list {
		e.LockUser()
		e.delayed.watched = false
		e.delayExpired()
		e.UnlockUser()
	}
}

// delayExpired sends the acknowledgement that no answer has carried. The program is slow: those that follow are sent at once.
//
// +checklocks:e.mu
func (e *Endpoint) delayExpired() {
	d := &e.delayed
	if !e.EndpointState().connected() || e.rcv.RcvNxt == e.snd.MaxSentAck {
		return
	}
	if e.stack.Clock().NowMonotonic().Sub(d.since) < delayTime {
		d.watched = true
		delays.watch(e)
		return
	}
	d.answered = 0
	e.snd.sendAck()
}

// confirmDue says whether the neighbour is to be told that it is reachable, which it knows for half a minute.
//
// +checklocks:e.mu
func (e *Endpoint) confirmDue() bool {
	now := e.rcv.lastRcvdAckTime
	if now.Sub(e.delayed.confirmed) < time.Second && e.delayed.confirmed != (tcpip.MonotonicTime{}) {
		return false
	}
	e.delayed.confirmed = now
	return true
}
