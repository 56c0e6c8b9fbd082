package net

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// A stackClock is netstack's clock with the machine's monotonic time: netstack reads it some thirty times for a request and its
// answer, and by package time that takes a tenth of the work.
type stackClock struct {
	tcpip.Clock // the wall clock and timers
	monotonic   func() int64
}

// NowMonotonic implements tcpip.Clock.
func (c *stackClock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(time.Duration(c.monotonic()))
}

// clock returns what netstack is to use.
func (n *Network) clock() tcpip.Clock {
	std := tcpip.NewStdClock()
	if n.cfg.Monotonic == nil {
		return std
	}
	return &stackClock{std, n.cfg.Monotonic}
}
