package clock

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gosv/machine/fake"

	"golang.org/x/sys/unix"
)

func newClock(t *testing.T) (*fake.Machine, *Clock) {
	m := fake.ForTest(t, fake.Config{})
	return m, New(m)
}

func TestTimersFireInOrder(t *testing.T) {
	m, c := newClock(t)
	var got, want []int64
	for range 200 {
		when := c.Now() + 1 + rand.Int64N(1000)
		tm := c.NewTimer(func() { got = append(got, c.Now()) })
		tm.Set(when)
		switch rand.IntN(4) {
		case 0:
			if !tm.Stop() || tm.Stop() {
				t.Error("Stop")
			}
		case 1:
			when++
			tm.Set(when)
			fallthrough
		default:
			want = append(want, when)
		}
	}
	slices.Sort(want)
	for m.Alarm() != 0 {
		m.Advance(m.Alarm() - c.Now())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestTimerSetsItselfAgain(t *testing.T) {
	m, c := newClock(t)
	n := 0
	var tm Timer
	tm.Init(c, func() {
		if n++; n < 5 {
			tm.Set(c.Now() + 10)
		}
	})
	tm.Set(c.Now() + 10)
	m.Advance(1000)
	if n != 5 {
		t.Errorf("%d calls", n)
	}
	if when, _ := tm.When(); when != 0 {
		t.Error("still set")
	}
}

// TestWallTimers: a timer in wall time moves with the wall clock, others do not.
func TestWallTimers(t *testing.T) {
	m, c := newClock(t)
	var mono, wall atomic.Int32 // a timer that is due already is called on another goroutine
	sets := 0
	c.OnSet(func() { sets++ })
	tm, tw := c.NewTimer(func() { mono.Add(1) }), c.NewTimer(func() { wall.Add(1) })
	tm.Set(c.Now() + 1000)
	tw.SetWall(c.Wall() + 1000)
	c.SetWall(c.Wall() - 500)
	m.Advance(1100)
	if mono.Load() != 1 || wall.Load() != 0 || sets != 1 {
		t.Errorf("after 1100 ns: %d, %d, %d", mono.Load(), wall.Load(), sets)
	}
	c.SetWall(c.Wall() + 1000)
	m.Advance(1)
	for limit := time.Now().Add(time.Minute); wall.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("setting the clock ahead did not fire")
		}
	}
}

func TestClocks(t *testing.T) {
	m, c := newClock(t)
	m.Advance(5e9)
	for _, id := range []int32{unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_MONOTONIC_COARSE, unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM} {
		if n, err := c.Read(id); n != c.Now() || err != nil {
			t.Errorf("clock %d: %d, %v", id, n, err)
		}
	}
	for _, id := range []int32{unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_REALTIME_ALARM, ClockTAI} {
		if n, err := c.Read(id); n != c.Wall() || err != nil {
			t.Errorf("clock %d: %d, %v", id, n, err)
		}
	}
	for _, id := range []int32{-1, unix.CLOCK_PROCESS_CPUTIME_ID, unix.CLOCK_THREAD_CPUTIME_ID, 10, 12, 99} {
		_, e1 := c.Read(id)
		_, e2 := Resolution(id)
		_, e3 := Base(id)
		if e1 != unix.EINVAL || e2 != unix.EINVAL || e3 != unix.EINVAL {
			t.Errorf("clock %d: %v %v %v", id, e1, e2, e3)
		}
	}
	if _, err := Base(unix.CLOCK_MONOTONIC_RAW); err != unix.EOPNOTSUPP {
		t.Errorf("timers on CLOCK_MONOTONIC_RAW: %v", err)
	}
}

func TestAfterDoesNotOverflow(t *testing.T) {
	_, c := newClock(t)
	if n := c.After(1<<63 - 1); n != 1<<63-1 {
		t.Errorf("%d", n)
	}
	if n := c.After(-5); n < 1 {
		t.Errorf("%d", n)
	}
}
