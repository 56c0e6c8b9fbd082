package rtc

import (
	"testing"
	"time"
)

// chip is a clock whose registers stand still, but for updates.
type chip struct {
	index   uint8
	regs    [128]uint8
	updates int // reads of register A that still show an update; -1 always
	tick    int // reads until the second changes
}

func (c *chip) In(port uint16, _ int) uint32 {
	if port != portData {
		return 0xff
	}
	if c.tick--; c.tick == 0 {
		c.regs[regSecond]++
	}
	v := c.regs[c.index]
	if c.index == regA && c.updates != 0 {
		c.updates--
		v |= updating
	}
	return uint32(v)
}

func (c *chip) Out(port uint16, _ int, v uint32) {
	if port == portIndex {
		c.index = uint8(v)
	}
}

func TestRead(t *testing.T) {
	type regs map[uint8]uint8
	bcd := regs{regSecond: 0x59, regMinute: 0x34, regHour: 0x12, regDay: 0x31, regMonth: 0x12, regYear: 0x26, regCentury: 0x20, regB: hours24}
	with := func(changes regs) regs {
		all := regs{}
		for k, v := range bcd {
			all[k] = v
		}
		for k, v := range changes {
			all[k] = v
		}
		return all
	}
	for _, test := range []struct {
		name string
		regs regs
		want string
	}{
		{"BCD", bcd, "2026-12-31T12:34:59Z"},
		{"no century", with(regs{regCentury: 0}), "2026-12-31T12:34:59Z"},
		{"19", with(regs{regCentury: 0x19, regYear: 0x99}), "1999-12-31T12:34:59Z"},
		{"binary", regs{regSecond: 59, regMinute: 34, regHour: 23, regDay: 31, regMonth: 12, regYear: 26, regCentury: 20, regB: hours24 | binary}, "2026-12-31T23:34:59Z"},
		{"midnight", with(regs{regB: 0, regHour: 0x12}), "2026-12-31T00:34:59Z"},
		{"noon", with(regs{regB: 0, regHour: 0x92}), "2026-12-31T12:34:59Z"},
		{"evening", with(regs{regB: 0, regHour: 0x91}), "2026-12-31T23:34:59Z"},
		{"hour 0 of 12", with(regs{regB: 0, regHour: 0x00}), ""},
		{"not BCD", with(regs{regSecond: 0x1a}), ""},
		{"month", with(regs{regMonth: 0x13}), ""},
		{"day", with(regs{regDay: 0}), ""},
		{"hour", with(regs{regHour: 0x24}), ""},
		{"none", with(regs{regA: 0xff}), ""},
	} {
		c := &chip{updates: 3, tick: 12}
		for r, v := range test.regs {
			c.regs[r] = v
		}
		c.regs[regSecond]-- // it changes while it is read
		got, err := Read(c)
		if test.want == "" {
			if err != ErrNone {
				t.Errorf("%s: %v, %v", test.name, got, err)
			}
		} else if err != nil || time.Unix(got, 0).UTC().Format(time.RFC3339) != test.want {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
	if _, err := Read(&chip{updates: -1}); err != ErrNone {
		t.Errorf("always updating: %v", err)
	}
}
