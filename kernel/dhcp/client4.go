package dhcp

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// Client4 keeps an address of IPv4 (RFC 2131 §4.4).
type Client4 struct {
	cfg   Config
	bound func(*Lease4)
	w     waiter[message4]
	begun time.Time // when the client began to ask
	lease *Lease4   // of Run's goroutine
}

// New4 returns a client. bound is called on Run's goroutine with each lease, also with one that was renewed, and with
// nil when it was lost.
func New4(cfg Config, bound func(*Lease4)) *Client4 {
	return &Client4{cfg: cfg, bound: bound, w: newWaiter[message4]()}
}

// Receive takes a datagram that Parse gave.
func (c *Client4) Receive(d Datagram) {
	if m, ok := parse4(d.Payload); ok && m.chaddr == c.cfg.MAC {
		m.from = d.From
		c.w.put(m)
	}
}

// Stop makes Run end, which gives the address back.
func (c *Client4) Stop() { close(c.w.stop) }

// Run asks for an address and keeps it until Stop.
func (c *Client4) Run() {
	for !c.w.stopped() {
		c.begun = time.Now()
		o := c.discover()
		if o == nil {
			return
		}
		if l, at := c.request(o); l != nil {
			c.keep(l, at)
		}
	}
	if l := c.lease; l != nil {
		c.send(&ask{typ: release, xid: rand.Uint32(), mine: l.Address, server: l.Server}, l.mac, l.Server)
	}
}

// send sends a message: from the address that is in use, to all or to one server.
func (c *Client4) send(a *ask, mac [6]byte, to IPv4) {
	a.secs = uint16(min(time.Since(c.begun)/time.Second, 0xffff))
	a.hostname = c.cfg.Hostname
	c.cfg.Send(frame4(c.cfg.MAC, mac, a.mine, to, a.bytes(c.cfg.MAC)))
}

var broadcast = IPv4{255, 255, 255, 255}

// discover looks for a server until one offers something; nil when the client is to stop.
func (c *Client4) discover() *Lease4 {
	xid := rand.Uint32()
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		c.send(&ask{typ: discover, xid: xid}, broadcastMAC, broadcast)
		var l *Lease4
		if c.w.await(jitter(wait), func(m *message4) (ok bool) {
			if m.xid == xid && m.typ == offer {
				l, ok = m.lease()
			}
			return ok
		}) != nil {
			return l
		}
		if c.w.stopped() {
			return nil
		}
		if wait == 8*firstWait {
			c.cfg.log("no server answers yet")
		}
	}
}

// request takes an offer: what the server says, and when the client asked for it; nil when the server refuses, or says nothing any more.
func (c *Client4) request(o *Lease4) (*Lease4, time.Time) {
	xid := rand.Uint32()
	for wait := firstWait; wait <= 8*firstWait; wait *= 2 {
		at := time.Now()
		c.send(&ask{typ: request, xid: xid, requested: o.Address, server: o.Server}, broadcastMAC, broadcast)
		l, done := c.answer(jitter(wait), xid)
		if done {
			if l == nil { // refused: not again at once
				c.w.pause(jitter(firstWait))
			}
			return l, at
		}
	}
	return nil, time.Time{}
}

// answer waits for what a server says to a request: nil when it refuses. done is false when it says nothing.
func (c *Client4) answer(wait time.Duration, xid uint32) (l *Lease4, done bool) {
	m := c.w.await(wait, func(m *message4) (ok bool) {
		if m.xid == xid && m.typ == ack {
			l, ok = m.lease()
		}
		return ok || m.xid == xid && m.typ == nak
	})
	return l, m != nil || c.w.stopped()
}

// keep renews a lease until it is lost, or the client is to stop.
func (c *Client4) keep(l *Lease4, at time.Time) {
	for {
		c.lease = l
		c.cfg.log("address " + l.Address.String() + "/" + strconv.Itoa(l.Bits) + " of " + l.Server.String())
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
			c.cfg.log("the address " + l.Address.String() + " is lost")
			c.lease = nil
			c.bound(nil)
			if next == nil {
				return
			}
		}
		l, at = next, since
	}
}

// renew asks the server, and after T2 all, for more time; nil when it is lost.
func (c *Client4) renew(l *Lease4, at time.Time) (*Lease4, time.Time) {
	for _, phase := range []struct {
		until time.Duration
		mac   [6]byte
		to    IPv4
	}{{l.T2, l.mac, l.Server}, {l.Time, broadcastMAC, broadcast}} {
		for {
			left := time.Until(at.Add(phase.until))
			if left <= 0 {
				break
			}
			since, xid := time.Now(), rand.Uint32()
			c.send(&ask{typ: request, xid: xid, mine: l.Address}, phase.mac, phase.to)
			if next, done := c.answer(min(max(left/2, leastAgain), left), xid); done {
				return next, since
			}
		}
	}
	return nil, time.Time{}
}

func (a IPv4) String() string {
	return strconv.Itoa(int(a[0])) + "." + strconv.Itoa(int(a[1])) + "." + strconv.Itoa(int(a[2])) + "." + strconv.Itoa(int(a[3]))
}
