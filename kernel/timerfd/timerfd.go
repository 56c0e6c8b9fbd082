// Package timerfd makes the timers of timerfd_create(2), whose expirations are read from
// a file.
//
// Lock order: timer.mu is above the clock's and the queue's locks.
package timerfd

import (
	"encoding/binary"
	"math"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

const readable = unix.EPOLLIN | unix.EPOLLRDNORM

type timer struct {
	vfs.FileDefaults
	clock *clock.Clock
	id    int32
	wall  bool
	queue wait.Queue
	alarm clock.Timer
	// forget ends clockSet's calls; nil when there are none.
	forget func()

	// All below is guarded by mu.
	mu        sync.Mutex
	when      int64 // the next expiration on the timer's clock, 0: disarmed
	step      int64 // interval, ns
	count     uint64
	cancel    bool  // TFD_TIMER_CANCEL_ON_SET
	cancelled bool  // the clock was set since
	flags     int32 // of the last setting
}

// New is timerfd_create(2) without the descriptor. flags: TFD_NONBLOCK; TFD_CLOEXEC is for the descriptor; the caller
// has checked them. EINVAL for a clock without timers, EPERM for one that wakes the machine without CAP_WAKE_ALARM.
func New(cl *clock.Clock, c *cred.Cred, id int32, flags int) (*vfs.File, error) {
	switch id {
	case unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
		if !c.Capable(unix.CAP_WAKE_ALARM) {
			return nil, unix.EPERM
		}
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME:
	default:
		return nil, unix.EINVAL
	}
	t := &timer{clock: cl, id: id}
	t.wall, _ = clock.Base(id)
	t.alarm.Init(cl, t.expired)
	if t.wall {
		t.forget = cl.OnSet(t.clockSet)
	}
	return vfs.NewAnon("timerfd", t, c, unix.O_RDWR|flags&unix.O_NONBLOCK), nil
}

func of(f *vfs.File) (*timer, error) {
	if t, ok := f.Ops().(*timer); ok {
		return t, nil
	}
	return nil, unix.EINVAL
}

// ClockOf returns the clock that New was given: EINVAL when f is no timer.
func ClockOf(f *vfs.File) (int32, error) {
	t, err := of(f)
	if err != nil {
		return 0, err
	}
	return t.id, nil
}

// Set is timerfd_settime(2) in ns: value 0 disarms. It returns what Get would have. EINVAL: f is no
// timer or flags are unknown.
func Set(f *vfs.File, value, interval int64, flags int) (oldValue, oldInterval int64, err error) {
	t, err := of(f)
	if err != nil || flags&^(unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET) != 0 {
		return 0, 0, unix.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	oldValue, oldInterval = t.left(), t.step
	t.alarm.Stop()
	t.when, t.step, t.count, t.flags = 0, interval, 0, int32(flags)
	t.cancel = t.wall && flags == unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET
	t.cancelled = false
	switch {
	case value == 0:
	case flags&unix.TFD_TIMER_ABSTIME != 0:
		t.when = value
		t.arm()
	default:
		// A relative time does not follow the setting of the clock.
		if t.when = t.now() + value; t.when < 0 {
			t.when = math.MaxInt64
		}
		t.alarm.Set(t.clock.After(value))
	}
	return oldValue, oldInterval, nil
}

// Get is timerfd_gettime(2) in ns: EINVAL when f is no timer.
func Get(f *vfs.File) (value, interval int64, err error) {
	t, err := of(f)
	if err != nil {
		return 0, 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left(), t.step, nil
}

func (t *timer) now() int64 {
	if t.wall {
		return t.clock.Wall()
	}
	return t.clock.Now()
}

// arm has the timer expire at when. t.mu is held.
//
// +checklocks:t.mu
func (t *timer) arm() {
	if t.wall {
		t.alarm.SetWall(t.when)
	} else {
		t.alarm.Set(t.when)
	}
}

// left returns the ns until the next expiration, 0 when disarmed. t.mu is held.
//
// +checklocks:t.mu
func (t *timer) left() int64 {
	if t.when == 0 {
		return 0
	}
	now, when := t.now(), t.when
	if now >= when {
		if t.step == 0 {
			return 0
		}
		when += ((now-when)/t.step + 1) * t.step
	}
	return when - now
}

// expired is the alarm's function. The next alarm of an interval is set when the count is read, so
// that a timer that nobody reads costs nothing.
func (t *timer) expired() {
	t.mu.Lock()
	if at, _ := t.alarm.When(); at != 0 || t.when == 0 {
		t.mu.Unlock()
		return // set anew meanwhile
	}
	t.count = 1
	if t.step == 0 {
		t.when = 0
	}
	t.mu.Unlock()
	t.queue.Notify(readable)
}

// clockSet is called after the wall clock was set.
func (t *timer) clockSet() {
	t.mu.Lock()
	t.cancelled = t.cancel
	hit := t.cancel
	t.mu.Unlock()
	if hit {
		t.queue.Notify(readable)
	}
}

// Read implements vfs.FileOps: the number of expirations since the last read. EINVAL for less than 8 bytes, ECANCELED
// when the clock was set.
func (t *timer) Read(_ *vfs.File, dst uio.Sink, _ int64) (int64, error) {
	if dst.Left() < 8 {
		return 0, unix.EINVAL
	}
	n, err := t.take()
	if err != nil {
		return 0, err
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	if m, err := dst.Put(b[:]); err != nil || m < len(b) {
		return 0, unix.EFAULT
	}
	return 8, nil
}

func (t *timer) take() (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancelled {
		t.cancelled = false
		return 0, unix.ECANCELED
	}
	if t.count == 0 {
		return 0, unix.EAGAIN
	}
	n := t.count
	t.count = 0
	if t.step != 0 && t.when != 0 {
		if now := t.now(); now >= t.when {
			passed := (now-t.when)/t.step + 1
			n = uint64(passed)
			t.when += passed * t.step
		}
		t.arm()
	}
	return n, nil
}

// Poll implements vfs.FileOps.
func (t *timer) Poll(_ *vfs.File, mask wait.Mask) wait.Mask {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count > 0 || t.cancelled {
		return mask & readable
	}
	return 0
}

// Register implements vfs.FileOps.
func (t *timer) Register(_ *vfs.File, e *wait.Entry) { t.queue.Add(e) }

// Unregister implements vfs.FileOps.
func (t *timer) Unregister(_ *vfs.File, e *wait.Entry) { t.queue.Remove(e) }

// Release implements vfs.FileOps.
func (t *timer) Release(*vfs.File) {
	t.mu.Lock()
	t.when = 0
	t.alarm.Stop()
	t.mu.Unlock()
	if t.forget != nil {
		t.forget()
	}
}

// FDInfo is what /proc/PID/fdinfo shows.
func (t *timer) FDInfo() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return "clockid: " + strconv.Itoa(int(t.id)) + "\nticks: " + strconv.FormatUint(t.count, 10) +
		"\nsettime flags: 0" + strconv.FormatInt(int64(t.flags), 8) +
		"\nit_value: " + secondsOf(t.left()) + "it_interval: " + secondsOf(t.step)
}

// secondsOf writes a time in ns as seconds and the rest.
func secondsOf(ns int64) string {
	return "(" + strconv.FormatInt(ns/1e9, 10) + ", " + strconv.FormatInt(ns%1e9, 10) + ")\n"
}
