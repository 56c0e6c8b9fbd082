package task

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestTimeOffsets(t *testing.T) {
	first := &TimeNamespace{initial: true, frozen: true}
	mono := func(sec, ns int64) []TimeOffset { return []TimeOffset{{unix.CLOCK_MONOTONIC, sec, ns}} }
	if err := first.SetOffsets(mono(1, 0), 0); err != unix.EACCES {
		t.Error("the first namespace:", err)
	}
	n, err := first.newTime(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Put()
	const now = 100e9
	for _, c := range []struct {
		list []TimeOffset
		err  error
	}{
		{mono(-101, 0), unix.ERANGE},
		{mono(-100, 0), nil},
		{mono(maxTime, 0), unix.ERANGE},
		{mono(-1<<63, 0), unix.ERANGE},
		{mono(1<<62, 999999999), unix.ERANGE},
		{append(mono(-3, 1), TimeOffset{unix.CLOCK_BOOTTIME, 5, 6}), nil},
	} {
		if err := n.SetOffsets(c.list, now); err != c.err {
			t.Errorf("%v: %v, want %v", c.list, err, c.err)
		}
	}
	if o := n.Offsets(); o != [2]TimeOffset{{unix.CLOCK_MONOTONIC, -3, 1}, {unix.CLOCK_BOOTTIME, 5, 6}} {
		t.Error(o)
	}
	if n.ahead(unix.CLOCK_MONOTONIC_RAW) != -3e9+1 || n.ahead(unix.CLOCK_BOOTTIME_ALARM) != 5e9+6 || n.ahead(unix.CLOCK_REALTIME) != 0 {
		t.Error("a clock is ahead by another's offset")
	}
	const end = 1<<63 - 1
	if behind(end, -5) != end || behind(3, -5) != 8 || behind(3, 5) != -2 || behind(end, 5) != end-5 {
		t.Error("behind")
	}
	m, err := n.newTime(nil)
	if err != nil || m.Offsets() != n.Offsets() {
		t.Error("offsets are not inherited", err)
	}
	m.Put()
}
