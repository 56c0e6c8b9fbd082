package netdev

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Soft is what devices without hardware share; it is to be embedded, and Init to be called.
type Soft struct {
	mac atomic.Pointer[[6]byte]
	// Count is what Stats tells.
	Count struct{ RxPackets, RxBytes, RxErrors, RxDropped, TxPackets, TxBytes, TxDropped atomic.Uint64 }
}

// Init gives the device an address of one host that nobody was given (IEEE 802, "locally administered").
func (s *Soft) Init() {
	var mac [6]byte
	r := rand.Uint64()
	for i := range mac {
		mac[i] = byte(r >> (8 * i))
	}
	mac[0] = mac[0]&^1 | 2
	s.mac.Store(&mac)
}

// MAC implements Device.
func (s *Soft) MAC() [6]byte { return *s.mac.Load() }

// MTU implements Device.
func (*Soft) MTU() int { return 1500 }

// Flush implements Device.
func (*Soft) Flush() {}

// Drain implements Device.
func (*Soft) Drain(time.Duration) {}

// Promiscuous implements Filter: all that comes is received.
func (*Soft) Promiscuous(bool) error { return nil }

// SetMAC implements Filter.
func (s *Soft) SetMAC(mac [6]byte) error {
	s.mac.Store(&mac)
	return nil
}

// Stats implements Device.
func (s *Soft) Stats() Stats {
	c := &s.Count
	return Stats{RxPackets: c.RxPackets.Load(), RxBytes: c.RxBytes.Load(), RxErrors: c.RxErrors.Load(), RxDropped: c.RxDropped.Load(),
		TxPackets: c.TxPackets.Load(), TxBytes: c.TxBytes.Load(), TxDropped: c.TxDropped.Load()}
}

// Sent counts a frame of n bytes that was sent, and Received one that was received.
func (s *Soft) Sent(n int) {
	s.Count.TxPackets.Add(1)
	s.Count.TxBytes.Add(uint64(n))
}

// Received counts a frame of n bytes.
func (s *Soft) Received(n int) {
	s.Count.RxPackets.Add(1)
	s.Count.RxBytes.Add(uint64(n))
}
