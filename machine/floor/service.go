package floor

import "sync/atomic"

// Services of the floor for the rest of the kernel: SYSCALL with a number that Linux
// does not have.

const (
	serviceBase = 0x10000 + iota
	serviceRefill
	serviceDrain
	serviceTakeRun
	serviceFreeRun
	serviceKick
	serviceFlush
	serviceForget
	serviceAlarm
	serviceWindow
	serviceStop
	serviceReserve
	serviceBind
	serviceTakeFree
	serviceMemory
)

// service serves one; it reports whether the thread goes on.
func service(c *cpu, t *thread, x *context) bool {
	a, b, d := x.RDI, x.RSI, x.RDX
	nr := x.RAX
	x.RAX = 0
	switch nr {
	case serviceRefill:
		touchRange(c, a, b*8)
		x.RAX = refill(c, a, b)
	case serviceDrain:
		touchRange(c, a, b*8)
		drain(c, a, b)
	case serviceTakeRun:
		x.RAX = takeRun(c, a)
	case serviceFreeRun:
		freeFrames(c, a, b)
	case serviceKick:
		kick(c, contextAt(a))
	case serviceFlush:
		flushSpace(c, spaceAt(a), b, d)
	case serviceForget:
		forget(c, spaceAt(a))
	case serviceAlarm:
		setAlarm(c, a)
	case serviceWindow:
		x.RAX = mapWindow(c, a, b)
	case serviceMemory:
		mapMemoryOf(c, a, b)
	case serviceTakeFree:
		x.RAX = takeFree(c, a)
	case serviceBind:
		return bind(c, t, a)
	case serviceReserve:
		lock(c, &frameLock)
		x.RAX = takeBlock(0)
		unlock(&frameLock)
	case serviceStop:
		stop(a)
	default:
		x.RAX = errno(enosys)
	}
	return true
}

// kick calls the CPU that runs x, whose flag is set.
func kick(c *cpu, x *context) {
	if n := atomic.LoadUint64(&x.cpu); n != 0 && n-1 != c.index {
		sendIPI(cpuAt(cpuTable[n-1]))
	}
}
