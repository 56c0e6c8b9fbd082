package task

import (
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// debugRegs are the debug registers that a tracer gave a thread (Intel SDM vol. 3 §17.2). They belong to the task, in Traced to the tracer.
type debugRegs struct {
	dr   [4]uint64
	hits uint64 // bits 0 to 3 of DR6: which was met, until the tracer clears them
	dr7  uint64
}

// Bits of DR6 and DR7.
const (
	dr6Hits    = 0xf
	dr6Step    = 1 << 14
	dr6Fixed   = 0xffff0ff0 // DR6 when nothing has happened
	dr7Locals  = 0x55
	drExecute  = 0
	drInOut    = 2
	flagResume = 1 << 16 // RFLAGS.RF
)

// DebugRegister returns debug register i, 0 to 7, in Traced.
func (o *Task) DebugRegister(i int) uint64 {
	d := o.debug
	if d == nil {
		d = new(debugRegs)
	}
	switch {
	case i < len(d.dr):
		return d.dr[i]
	case i == 6:
		return d.hits ^ dr6Fixed
	case i == 7:
		return d.dr7
	}
	return 0
}

// SetDebugRegister sets debug register i, in Traced: EIO for 4 and 5, EINVAL for what programs must not watch.
func (o *Task) SetDebugRegister(i int, v uint64) error {
	d := o.debug
	if d == nil {
		d = new(debugRegs)
	}
	n := *d
	switch {
	case i < len(n.dr):
		if v >= machine.UserTop {
			return unix.EINVAL
		}
		n.dr[i] = v
	case i == 6:
		n.hits = (v ^ dr6Fixed) & dr6Hits
	case i == 7:
		if !validDR7(v) {
			return unix.EINVAL
		}
		n.dr7 = v & 0xffff03ff
	default:
		return unix.EIO
	}
	*d = n
	o.debug = d
	o.loadDebug()
	return nil
}

// validDR7 refuses I/O breakpoints and breakpoints on instructions with a length, among those that are enabled.
func validDR7(v uint64) bool {
	for i := range 4 {
		if v>>(2*i)&3 == 0 {
			continue
		}
		kind, length := v>>(16+4*i)&3, v>>(18+4*i)&3
		if kind == drInOut || kind == drExecute && length != 0 {
			return false
		}
	}
	return true
}

// loadDebug makes the processor watch what the registers say. Global breakpoints are local ones: all are the thread's.
func (t *Task) loadDebug() {
	d := t.debug
	on := (d.dr7 | d.dr7>>1) & dr7Locals
	if on == 0 {
		t.cpu.SetDebug(t.Ctx, [4]uint64{}, 0)
		return
	}
	t.cpu.SetDebug(t.Ctx, d.dr, d.dr7&0xffff0000|on|0x300)
}

// dropDebug forgets the debug registers.
func (t *Task) dropDebug() {
	if t.debug != nil {
		t.debug = nil
		t.cpu.SetDebug(t.Ctx, [4]uint64{}, 0)
	}
}

// debugged notes what a debug exception was about, and returns its si_code; 0 for one that was not meant for t.
func (t *Task) debugged(dr6 uint64) int32 {
	hits, mine := dr6&dr6Hits, uint64(0)
	if hits != 0 {
		t.Ctx.RFLAGS |= flagResume // past the instruction the next time
	}
	if d := t.debug; d != nil {
		for i := range 4 {
			if d.dr7>>(2*i)&3 != 0 {
				mine |= hits & (1 << i)
			}
		}
		d.hits |= mine
	}
	if hits != 0 && mine == 0 && dr6&dr6Step == 0 {
		return 0 // left in this processor's registers by others, or from before t's were changed
	}
	switch {
	case dr6&dr6Step != 0:
		return trapTrace
	case mine != 0:
		return trapHwBkpt
	}
	return trapBrkpt
}
