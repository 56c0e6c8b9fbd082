package timerfd_test

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/timerfd"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// hands is a clock that moves when told to.
type hands struct {
	machine.Clock
	mono, wall int64
	alarm      int64
	ring       func()
}

func (h *hands) Monotonic() int64  { return h.mono }
func (h *hands) Wall() int64       { return h.wall }
func (h *hands) SetWall(ns int64)  { h.wall = ns }
func (h *hands) SetAlarm(ns int64) { h.alarm = ns }
func (h *hands) OnAlarm(f func())  { h.ring = f }
func (h *hands) pass(ns int64) {
	h.mono += ns
	h.wall += ns
	if h.alarm != 0 && h.alarm <= h.mono {
		h.alarm = 0
		h.ring()
	}
}

func read(f *vfs.File) (uint64, error) {
	b := make([]byte, 8)
	u := uio.Buffer(b)
	_, err := f.Read(&u)
	return binary.LittleEndian.Uint64(b), err
}

func open(t *testing.T, id int32) (*hands, *clock.Clock, *vfs.File) {
	h := &hands{mono: 1e9, wall: 1e18}
	c := clock.New(h)
	f, err := timerfd.New(c, cred.Root(), id, unix.TFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.DecRef)
	return h, c, f
}

func expect(t *testing.T, f *vfs.File, n uint64, err error) {
	t.Helper()
	ready := f.Readiness(unix.POLLIN)
	if (ready != 0) != (err != unix.EAGAIN) {
		t.Errorf("readiness %#x before a read that should give %v", ready, err)
	}
	if got, e := read(f); got != n || e != err {
		t.Errorf("read %d, %v; want %d, %v", got, e, n, err)
	}
}

func TestOneShot(t *testing.T) {
	h, _, f := open(t, unix.CLOCK_MONOTONIC)
	expect(t, f, 0, unix.EAGAIN)
	if _, _, err := timerfd.Set(f, 1000, 0, 0); err != nil {
		t.Fatal(err)
	}
	h.pass(999)
	expect(t, f, 0, unix.EAGAIN)
	if v, _, _ := timerfd.Get(f); v != 1 {
		t.Errorf("%d ns left", v)
	}
	h.pass(1)
	expect(t, f, 1, nil)
	expect(t, f, 0, unix.EAGAIN)
	h.pass(1e9)
	expect(t, f, 0, unix.EAGAIN)
	// A time that is past expires at once.
	timerfd.Set(f, 1, 0, unix.TFD_TIMER_ABSTIME)
	h.pass(0)
	expect(t, f, 1, nil)
}

func TestInterval(t *testing.T) {
	h, _, f := open(t, unix.CLOCK_MONOTONIC)
	timerfd.Set(f, 100, 10, 0)
	h.pass(145)
	expect(t, f, 5, nil)
	if v, i, _ := timerfd.Get(f); v != 5 || i != 10 {
		t.Errorf("left %d, interval %d", v, i)
	}
	h.pass(4)
	expect(t, f, 0, unix.EAGAIN)
	h.pass(1)
	expect(t, f, 1, nil)
	if v, i, err := timerfd.Set(f, 0, 0, 0); v != 10 || i != 10 || err != nil {
		t.Errorf("disarming: %d, %d, %v", v, i, err)
	}
	h.pass(100)
	expect(t, f, 0, unix.EAGAIN)
}

func TestClockSet(t *testing.T) {
	h, c, f := open(t, unix.CLOCK_REALTIME)
	timerfd.Set(f, h.wall+1e9, 0, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET)
	c.SetWall(h.wall + 5)
	expect(t, f, 0, unix.ECANCELED)
	timerfd.Set(f, h.wall+1e9, 0, unix.TFD_TIMER_ABSTIME)
	c.SetWall(h.wall + 2e9)
	h.pass(1)
	expect(t, f, 1, nil)
	timerfd.Set(f, 1e9, 0, 0)
	c.SetWall(h.wall + 5e9)
	h.pass(1)
	expect(t, f, 0, unix.EAGAIN)
	h.pass(1e9)
	expect(t, f, 1, nil)
}

func TestErrors(t *testing.T) {
	_, c, f := open(t, unix.CLOCK_BOOTTIME)
	if _, err := timerfd.New(c, cred.Root(), unix.CLOCK_THREAD_CPUTIME_ID, 0); err != unix.EINVAL {
		t.Error(err)
	}
	if _, err := timerfd.New(c, &cred.Cred{}, unix.CLOCK_REALTIME_ALARM, 0); err != unix.EPERM {
		t.Error(err)
	}
	if _, _, err := timerfd.Set(f, 1, 0, 8); err != unix.EINVAL {
		t.Error(err)
	}
	b := uio.Buffer(make([]byte, 7))
	if _, err := f.Read(&b); err != unix.EINVAL {
		t.Error(err)
	}
}
