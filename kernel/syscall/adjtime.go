package syscall

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
)

// Adjtimex(2). The clock follows the host's, and cannot be slewed: what would, gives EOPNOTSUPP. It can be set off at once, and
// keeps for programs what they say of its quality.

// clockState is what is kept, as in struct timex.
type clockState struct {
	mu                 sync.Mutex
	maxError, estError int64 // µs; guarded by mu, as is all below
	status             int32
	constant           int64
	tai                int32
}

// Modes and states of adjtimex(2).
const (
	adjOffset     = 0x0001
	adjFrequency  = 0x0002
	adjMaxError   = 0x0004
	adjEstError   = 0x0008
	adjStatus     = 0x0010
	adjTimeConst  = 0x0020
	adjTAI        = 0x0080
	adjSetOffset  = 0x0100
	adjMicro      = 0x1000
	adjNano       = 0x2000
	adjTick       = 0x4000
	adjSingleshot = 0x8001
	adjReadOnly   = 0xa001
	staUnsync     = 0x0040
	staNano       = 0x2000
	staReadOnly   = 0xff00
	timeOK        = 0
	timeError     = 5
	sizeofTimex   = 208
)

func (s *Calls) timexRows(r *table) {
	note := "the clock cannot be slewed"
	r.set(unix.SYS_ADJTIMEX, call1("adjtimex", aAddr, s.adjtimex).partly(note))
	r.set(unix.SYS_CLOCK_ADJTIME, call2("clock_adjtime", choice("clock", clockNames), aAddr, func(t *task.Task, id int32, addr uint64) (uint64, error) {
		if id != unix.CLOCK_REALTIME {
			return 0, unix.EOPNOTSUPP
		}
		return s.adjtimex(t, addr)
	}).partly(note))
}

func (s *Calls) adjtimex(t *task.Task, addr uint64) (uint64, error) {
	var b [sizeofTimex]byte
	if err := copyIn(t, b[:], addr); err != nil {
		return 0, err
	}
	modes := le.Uint32(b[:])
	if modes == adjReadOnly {
		modes = 0
	}
	if modes != 0 && !t.Cred().Capable(unix.CAP_SYS_TIME) {
		return 0, unix.EPERM
	}
	c := &s.timex
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.change(t, modes, b[:]); err != nil {
		return 0, err
	}
	now := t.Kernel().Clock.Wall()
	unit := int64(1000)
	if c.status&staNano != 0 {
		unit = 1
	}
	for _, f := range [...]struct {
		at int
		v  int64
	}{{8, 0}, {16, 0}, {24, c.maxError}, {32, c.estError}, {40, int64(c.status)}, {48, c.constant}, {56, 1}, {64, 32768000},
		{72, now / 1e9}, {80, now % 1e9 / unit}, {88, 10000}} {
		le.PutUint64(b[f.at:], uint64(f.v))
	}
	clear(b[96:160])
	le.PutUint32(b[160:], uint32(c.tai))
	if err := copyOut(t, addr, b[:]); err != nil {
		return 0, err
	}
	if c.status&staUnsync != 0 {
		return timeError, nil
	}
	return timeOK, nil
}

// change does what modes say. c.mu is held.
func (c *clockState) change(t *task.Task, modes uint32, b []byte) error {
	field := func(at int) int64 { return int64(le.Uint64(b[at:])) }
	switch {
	case modes&adjSingleshot == adjSingleshot, modes&adjOffset != 0 && field(8) != 0, modes&adjFrequency != 0 && field(16) != 0:
		return unix.EOPNOTSUPP
	case modes&adjTick != 0 && field(88) != 10000:
		if v := field(88); v < 9000 || v > 11000 {
			return unix.EINVAL
		}
		return unix.EOPNOTSUPP
	}
	if modes&adjSetOffset != 0 {
		sec, sub, most := field(72), field(80), int64(1e6)
		unit := int64(1000)
		if modes&adjNano != 0 {
			unit, most = 1, 1e9
		}
		if sub < 0 || sub >= most {
			return unix.EINVAL
		}
		k := t.Kernel()
		to := k.Clock.Wall() + sec*1e9 + sub*unit
		if to < 0 || sec > 1<<33 || sec < -1<<33 {
			return unix.EINVAL
		}
		k.Clock.SetWall(to)
	}
	if modes&adjMaxError != 0 {
		c.maxError = field(24)
	}
	if modes&adjEstError != 0 {
		c.estError = field(32)
	}
	if modes&adjStatus != 0 {
		c.status = c.status&staReadOnly | int32(field(40))&^staReadOnly
	}
	if modes&adjTimeConst != 0 {
		c.constant = min(max(field(48), 0), 10)
	}
	if modes&adjTAI != 0 {
		c.tai = int32(field(48))
	}
	if modes&adjNano != 0 {
		c.status |= staNano
	}
	if modes&adjMicro != 0 {
		c.status &^= staNano
	}
	return nil
}
