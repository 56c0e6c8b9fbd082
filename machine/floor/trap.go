package floor

import "gosv/machine"

const (
	selCode = 0x10
	selData = 0x18

	vectorSyscall = 0x100

	machineInterrupted = machine.Interrupted
)

// trap is the way in for everything; x is where the registers of what ran are.
func trap(c *cpu, x *context) (*context, uint64) {
	awake(c)
	t := c.thread()
	t.space = c.space
	t.resume, t.user = addr(ptr(x)), 0
	if x.CS&3 != 0 {
		t.user = t.resume
		charge(x)
	}
	mine, keep := t.state != threadIdle, true
	if v := x.Vector; v < vectorSpurious {
		c.came[v]++
	}
	switch v := x.Vector; {
	case v == vectorSyscall:
		mine, keep = serve(c, t, x)
	case v < 32:
		exception(c, t, x)
	case v == vectorTimer:
		apicWrite(apicEOI, 0)
		c.armed = 0
		keep = !expire(c, now())
	case v == vectorSpurious:
	default:
		apicWrite(apicEOI, 0)
		if v >= vectorDevice {
			raise(c, v)
		}
	}
	if keep && c.slice != 0 && c.queued != 0 && now() >= c.slice {
		keep = false
	}
	return dispatch(c, t, mine, keep)
}

// exception handles one from ring 0 outside the floor: a missing page of the
// heap, a program's memory that cannot be reached, or a fault in Go code, which the runtime turns into a
// panic.
func exception(c *cpu, t *thread, x *context) {
	fault := uint64(0)
	if x.Vector == 1 { // the kernel has touched what a debugger watches: only the program itself is to stop
		clearDR6()
		return
	}
	if x.Vector == 14 {
		fault = rdcr2()
		if x.Error&machine.FaultPresent == 0 && fault >= heapBase && heapFault(c, fault) {
			return
		}
	}
	if x.Vector == 14 || x.Vector == 13 || x.Vector == 12 {
		for i := 0; i < len(landing); i += 3 {
			if x.RIP >= landing[i] && x.RIP < landing[i+1] {
				x.RIP = landing[i+2]
				return
			}
		}
	}
	sig, code := uint64(sigSEGV), int32(1)
	switch x.Vector {
	case 0:
		sig, code, fault = sigFPE, 1, x.RIP
	case 3:
		sig, code = sigTRAP, 0x80
	case 6:
		sig, code, fault = sigILL, 2, x.RIP
	case 14:
	case 16, 19:
		sig, code, fault = sigFPE, 7, x.RIP
	case 17:
		sig = sigBUS
	default:
		code = 0x80
	}
	if t.mask>>(sig-1)&1 != 0 || actions[sig].handler < 2 || t.altFlag&2 != 0 {
		puts("\ngosv: fault in the kernel, with no handler\n")
		dump(c, x)
		stop(statusPanic)
	}
	pushFrame(c, t, sig, code, fault)
}

// landing: start, end and landing of each piece of code that touches programs' memory.
var landing [24]uint64
