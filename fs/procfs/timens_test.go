package procfs

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
)

func TestParseTimeOffsets(t *testing.T) {
	for _, c := range []struct {
		s    string
		want []task.TimeOffset
	}{
		{"monotonic 1000 0", []task.TimeOffset{{Clock: unix.CLOCK_MONOTONIC, Sec: 1000}}},
		{" 7  -3 999999999 more\n1 2 3\n", []task.TimeOffset{{Clock: unix.CLOCK_BOOTTIME, Sec: -3, Nsec: 999999999}, {Clock: unix.CLOCK_MONOTONIC, Sec: 2, Nsec: 3}}},
		{"", nil}, {"\n", nil}, {"monotonic 1", nil}, {"realtime 1 0", nil}, {"monotonic 1 1000000000", nil}, {"monotonic 1 -1", nil},
		{"monotonic 1 0\n\n", nil}, {"boottime 99999999999999999999 0", nil},
	} {
		got, err := parseTimeOffsets(c.s)
		if (err != nil) != (c.want == nil) || len(got) != len(c.want) {
			t.Errorf("%q: %v %v", c.s, got, err)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%q: %v", c.s, got)
			}
		}
	}
}

func FuzzTimeOffsets(f *testing.F) {
	f.Add("monotonic 1000 0\n7 -5 1")
	f.Add("boottime x 0")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseTimeOffsets(s)
		if err == nil && (len(list) == 0 || len(list) > strings.Count(s, "\n")+1) {
			t.Errorf("%q: %v", s, list)
		}
		for _, o := range list {
			if o.Nsec < 0 || o.Nsec >= 1e9 || o.Clock != unix.CLOCK_MONOTONIC && o.Clock != unix.CLOCK_BOOTTIME {
				t.Errorf("%q: %v", s, o)
			}
		}
	})
}
