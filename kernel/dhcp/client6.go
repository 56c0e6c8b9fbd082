package dhcp

import (
	"bytes"
	"math/rand/v2"
	"time"
)

// Client6 keeps an address of IPv6, or only asks for name servers (RFC 8415 §18.2).
type Client6 struct {
	cfg      Config
	stateful bool
	bound    func(*Lease6)
	w        waiter[message6]
	begun    time.Time
	iaid     uint32
	duid     []byte
	lease    *Lease6 // of Run's goroutine
}

// New6 returns a client, which asks for an address when it is stateful. bound is called as New4 has it.
func New6(cfg Config, stateful bool, bound func(*Lease6)) *Client6 {
	return &Client6{cfg: cfg, stateful: stateful, bound: bound, w: newWaiter[message6](), iaid: be.Uint32(cfg.MAC[2:]),
		duid: append([]byte{0, 3, 0, hardwareEther}, cfg.MAC[:]...)} // DUID-LL (§11.4)
}

// Receive takes a datagram that Parse gave.
func (c *Client6) Receive(d Datagram) {
	if m, ok := parse6(d.Payload, c.iaid); ok && m.server != nil && bytes.Equal(m.client, c.duid) {
		m.client = nil // it is foreign memory
		c.w.put(m)
	}
}

// Stop makes Run end, which gives the address back.
func (c *Client6) Stop() { close(c.w.stop) }

// Run asks until Stop.
func (c *Client6) Run() {
	c.w.pause(time.Duration(rand.Int64N(int64(firstWait)))) // SOL_MAX_DELAY, INF_MAX_DELAY
	for !c.w.stopped() {
		c.begun = time.Now()
		if !c.stateful {
			c.inform()
		} else if l, at := c.acquire(); l != nil {
			c.keep(l, at)
		}
	}
	if l := c.lease; l != nil {
		c.send(&ask6{typ: release6, xid: rand.Uint32(), server: l.server, address: l.Address})
	}
}

func (c *Client6) send(a *ask6) {
	a.elapsed, a.iaid, a.duid = time.Since(c.begun), c.iaid, c.duid
	c.cfg.Send(frame6(c.cfg.MAC, a.bytes()))
}

// inform asks for what is no address, and returns when it is to be asked for again.
func (c *Client6) inform() {
	xid := rand.Uint32() & 0xffffff
	for wait := firstWait; !c.w.stopped(); wait = min(2*wait, mostWait) {
		c.send(&ask6{typ: information, xid: xid})
		if m := c.w.await(jitter(wait), func(m *message6) bool { return m.xid == xid && m.typ == reply && m.status == 0 }); m != nil {
			c.bound(&m.lease)
			c.w.pause(m.lease.Time)
			return
		}
	}
}

// acquire asks for an address until there is one; nil when the server that offered one does not give it, and when the client is to stop.
func (c *Client6) acquire() (*Lease6, time.Time) {
	xid := rand.Uint32() & 0xffffff
	for wait := firstWait; !c.w.stopped(); wait = min(2*wait, 2*mostWait) {
		at := time.Now()
		c.send(&ask6{typ: solicit, xid: xid})
		best := c.offers(xid, jitter(wait))
		switch {
		case best == nil:
		case best.typ == reply:
			return &best.lease, at
		default:
			return c.request(best)
		}
	}
	return nil, time.Time{}
}

// offers collects what servers offer for a while: the one with the highest preference, at once when it has the most or has committed itself (§18.2.1, §18.2.9).
func (c *Client6) offers(xid uint32, wait time.Duration) (best *message6) {
	c.w.await(wait, func(m *message6) bool {
		if m.xid != xid || m.typ != advertise && m.typ != reply || m.status != 0 || m.lease.Address == (IPv6{}) {
			return false
		}
		if best == nil || m.typ == reply || m.preference > best.preference {
			best = m
		}
		return m.typ == reply || m.preference == mostPreference
	})
	return best
}

// request takes an offer.
func (c *Client6) request(o *message6) (*Lease6, time.Time) {
	xid := rand.Uint32() & 0xffffff
	for wait := firstWait; wait <= 8*firstWait && !c.w.stopped(); wait *= 2 {
		at := time.Now()
		c.send(&ask6{typ: request6, xid: xid, server: o.server, address: o.lease.Address})
		if l, done := c.answer(jitter(wait), xid); done {
			if l == nil {
				c.w.pause(jitter(firstWait))
			}
			return l, at
		}
	}
	return nil, time.Time{}
}

// answer waits for a reply: nil when the server gives nothing. done is false when it says nothing.
func (c *Client6) answer(wait time.Duration, xid uint32) (l *Lease6, done bool) {
	m := c.w.await(wait, func(m *message6) bool { return m.xid == xid && m.typ == reply })
	if m == nil {
		return nil, c.w.stopped()
	}
	if m.status != 0 || m.lease.Address == (IPv6{}) {
		return nil, true
	}
	return &m.lease, true
}

// keep renews a lease until it is lost, or the client is to stop.
func (c *Client6) keep(l *Lease6, at time.Time) {
	for {
		c.lease = l
		c.bound(l)
		if l.Forever {
			<-c.w.stop
			return
		}
		if !c.w.pause(time.Until(at.Add(l.T1))) {
			return
		}
		next, since := c.renew(l, at)
		if c.w.stopped() {
			return
		}
		if next == nil || next.Address != l.Address {
			c.cfg.log("the address of IPv6 is lost")
			c.lease = nil
			c.bound(nil)
			if next == nil {
				return
			}
		}
		l, at = next, since
	}
}

// renew asks the server, and after T2 all, for more time (§18.2.4, §18.2.5); nil when it is lost.
func (c *Client6) renew(l *Lease6, at time.Time) (*Lease6, time.Time) {
	for _, phase := range []struct {
		typ    byte
		until  time.Duration
		server []byte
	}{{renew6, l.T2, l.server}, {rebind6, l.Time, nil}} {
		for wait := 10 * firstWait; ; wait = min(2*wait, 600*time.Second) {
			left := time.Until(at.Add(phase.until))
			if left <= 0 {
				break
			}
			since, xid := time.Now(), rand.Uint32()&0xffffff
			c.begun = since
			c.send(&ask6{typ: phase.typ, xid: xid, server: phase.server, address: l.Address})
			if next, done := c.answer(min(jitter(wait), left), xid); done {
				return next, since
			}
		}
	}
	return nil, time.Time{}
}
