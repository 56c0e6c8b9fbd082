package fake

import (
	"gosv/machine"
	"sync"
	"time"
)

type clockState struct {
	real  bool
	start time.Time

	mu      sync.Mutex // guards the fields below
	now     int64
	wall    int64 // Wall minus Monotonic
	alarm   int64
	handler func()
	timer   *time.Timer
}

// Epoch is Wall at the machine's start: 2026-01-01 00:00 UTC.
const Epoch = 1767225600_000000000

func (c *clockState) init(real bool) {
	c.real, c.start, c.wall = real, time.Now(), Epoch
	if real {
		c.wall = c.start.UnixNano()
	}
}

func (c *clockState) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handler = nil
	if c.timer != nil {
		c.timer.Stop()
	}
}

// time returns the monotonic time. c.mu is held.
func (c *clockState) time() int64 {
	if c.real {
		return int64(time.Since(c.start)) + 1
	}
	return c.now
}

// Ticks implements machine.Clock: a tick is a nanosecond.
func (m *Machine) Ticks() uint64 { return uint64(m.Monotonic()) }

// TicksToNS implements machine.Clock.
func (m *Machine) TicksToNS(d uint64) int64 { return int64(d) }

// Monotonic implements machine.Clock.
func (m *Machine) Monotonic() int64 {
	c := &m.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time()
}

// Wall implements machine.Clock.
func (m *Machine) Wall() int64 {
	c := &m.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time() + c.wall
}

// SetWall implements machine.Clock.
func (m *Machine) SetWall(ns int64) {
	c := &m.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = ns - c.time()
}

// OnAlarm implements machine.Clock.
func (m *Machine) OnAlarm(handler func()) {
	c := &m.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handler = handler
}

// SetAlarm implements machine.Clock. An alarm that is due already runs on a goroutine
// of its own.
func (m *Machine) SetAlarm(ns int64) {
	c := &m.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm = ns
	if c.timer != nil {
		c.timer.Stop()
	}
	switch {
	case ns == 0:
	case c.real:
		c.timer = time.AfterFunc(time.Duration(ns-c.time()), m.ring)
	case ns <= c.now:
		go m.ring()
	}
}

// ring runs the handler when the alarm is due and reports whether it was.
func (m *Machine) ring() {
	m.ringIfDue()
}

func (m *Machine) ringIfDue() bool {
	c := &m.clock
	c.mu.Lock()
	due := c.alarm != 0 && c.alarm <= c.time()
	handler := c.handler
	if due {
		c.alarm = 0
	}
	c.mu.Unlock()
	if due && handler != nil {
		handler()
	}
	return due
}

// Alarm returns the time that the alarm is set to, or 0.
func (m *Machine) Alarm() int64 {
	c := &m.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alarm
}

// Advance moves the time on by ns nanoseconds. Alarms on the way run at their
// times, on the caller's goroutine, before it returns. Not for a RealClock.
func (m *Machine) Advance(ns int64) {
	c := &m.clock
	if c.real {
		panic("fake: Advance of a clock that runs by itself")
	}
	c.mu.Lock()
	end := c.now + ns
	c.mu.Unlock()
	for {
		c.mu.Lock()
		c.now = max(c.now, end)
		if c.alarm != 0 && c.alarm < end {
			c.now = c.alarm
		}
		c.mu.Unlock()
		if !m.ringIfDue() {
			return
		}
	}
}

// Timebase implements machine.Clock.
func (m *Machine) Timebase() machine.Timebase { return m.cfg.Timebase }
