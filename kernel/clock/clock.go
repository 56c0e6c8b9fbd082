// Package clock gives the time and wakes whoever asked to be woken.
//
// It stands on the one alarm of machine.Clock and promises nanosecond
// resolution, no ticks, and no allocation for a Timer that its user embeds.
// Clocks are those of clock_gettime(2); the clocks of processes and threads
// belong to package task, which knows who ran.
//
// Lock order: Clock.mu is a leaf. Callbacks of timers run without it, on the
// interrupt goroutine, and must not block.
package clock

import (
	"slices"
	"sync"

	"gosv/machine"

	"golang.org/x/sys/unix"
)

// ClockTAI is CLOCK_TAI; gosv knows no leap seconds, so that it equals CLOCK_REALTIME,
// as on a Linux whose time daemon has not set the offset.
const ClockTAI = 11

// Clock is the time of one machine.
type Clock struct {
	m machine.Clock

	mu    sync.Mutex
	mono  heap      // timers in monotonic time; guarded by mu
	wall  heap      // timers in wall time; guarded by mu
	alarm int64     // the monotonic time that the machine was last asked for, 0 none; guarded by mu
	onSet []*func() // replaced, never changed; guarded by mu
}

// New makes the clock of m and takes over m's alarm.
func New(m machine.Clock) *Clock {
	c := &Clock{m: m}
	m.OnAlarm(c.expire)
	return c
}

// Now returns the monotonic time in nanoseconds since power-on.
func (c *Clock) Now() int64 { return c.m.Monotonic() }

// Wall returns the nanoseconds since 1970-01-01 UTC.
func (c *Clock) Wall() int64 { return c.m.Wall() }

// Timebase tells how the vDSO computes the time.
func (c *Clock) Timebase() machine.Timebase { return c.m.Timebase() }

// SetWall sets the wall clock; timers in wall time move with it.
func (c *Clock) SetWall(ns int64) {
	c.m.SetWall(ns)
	c.mu.Lock()
	hooks := c.onSet
	c.rearm()
	c.mu.Unlock()
	for _, f := range hooks {
		(*f)()
	}
}

// OnSet has f called after each SetWall (TFD_TIMER_CANCEL_ON_SET, the vDSO's data page),
// until remove is called.
func (c *Clock) OnSet(f func()) (remove func()) {
	c.mu.Lock()
	c.onSet = append(slices.Clip(c.onSet), &f)
	c.mu.Unlock()
	return func() {
		c.mu.Lock()
		c.onSet = slices.DeleteFunc(slices.Clone(c.onSet), func(o *func()) bool { return o == &f })
		c.mu.Unlock()
	}
}

// Read returns the time of a system-wide clock in nanoseconds; EINVAL for any
// other clock.
func (c *Clock) Read(id int32) (int64, error) {
	switch id {
	case unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_MONOTONIC_COARSE,
		unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return c.m.Monotonic(), nil
	case unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_REALTIME_ALARM, ClockTAI:
		return c.m.Wall(), nil
	}
	return 0, unix.EINVAL
}

// Resolution returns the resolution of a system-wide clock in nanoseconds
// (clock_getres(2)); EINVAL for any other clock.
func Resolution(id int32) (int64, error) {
	switch id {
	case unix.CLOCK_MONOTONIC_COARSE, unix.CLOCK_REALTIME_COARSE:
		return 4000000, nil // one tick of a Linux at 250 Hz
	case unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM,
		unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_ALARM, ClockTAI:
		return 1, nil
	}
	return 0, unix.EINVAL
}

// Base tells on which of the two time lines a clock that timers may use lies:
// monotonic or wall time. EOPNOTSUPP for a clock that can only be read, EINVAL for no clock.
func Base(id int32) (wall bool, err error) {
	switch id {
	case unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return false, nil
	case unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_ALARM, ClockTAI:
		return true, nil
	case unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_MONOTONIC_COARSE, unix.CLOCK_REALTIME_COARSE:
		return false, unix.EOPNOTSUPP
	}
	return false, unix.EINVAL
}

// expire is the alarm handler: it runs the callbacks of all timers that are due.
func (c *Clock) expire() {
	c.mu.Lock()
	c.alarm = 0
	for {
		t := c.due()
		if t == nil {
			break
		}
		f := t.f
		c.mu.Unlock()
		f()
		c.mu.Lock()
	}
	c.rearm()
	c.mu.Unlock()
}

// due takes one expired timer off its heap; nil when there is none. c.mu is held.
//
// +checklocks:c.mu
func (c *Clock) due() *Timer {
	if len(c.mono) > 0 && c.mono[0].when <= c.m.Monotonic() {
		return c.mono.remove(0)
	}
	if len(c.wall) > 0 && c.wall[0].when <= c.m.Wall() {
		return c.wall.remove(0)
	}
	return nil
}

// rearm makes the machine's alarm that of the earliest timer. An alarm that is
// earlier than needed stays: it costs one idle expire, setting it anew costs
// the hardware's time. c.mu is held.
//
// +checklocks:c.mu
func (c *Clock) rearm() {
	var next int64
	if len(c.mono) > 0 {
		next = c.mono[0].when
	}
	if len(c.wall) > 0 {
		w := c.wallToMono(c.wall[0].when)
		if next == 0 || w < next {
			next = w
		}
	}
	if next == 0 || c.alarm != 0 && c.alarm <= next {
		return
	}
	c.alarm = next
	c.m.SetAlarm(next)
}

// wallToMono translates a moment of wall time under today's offset; the result is at least 1.
func (c *Clock) wallToMono(w int64) int64 {
	return max(1, add(c.m.Monotonic(), w-c.m.Wall()))
}

// add returns a+b for a ≥ 0, at most the largest int64.
func add(a, b int64) int64 {
	if s := a + b; b <= 0 || s >= a {
		return s
	}
	return 1<<63 - 1
}

// After returns the moment d nanoseconds after now; a sum that would overflow is the end of time,
// and the result is never 0, so that it may serve as a deadline.
func (c *Clock) After(d int64) int64 { return max(1, add(c.Now(), max(d, 0))) }
