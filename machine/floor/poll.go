package floor

import "sync/atomic"

// The runtime's network poller: one epoll instance with two members, the
// runtime's own eventfd and the descriptor that stands for device interrupts.

const (
	fdEpoll  = 4
	fdEvent  = 5
	fdDevice = 6
)

var (
	pollQueue  waitq
	eventCount uint64
	eventData  uint64 // epoll_event.data of fdEvent
	deviceData uint64 // epoll_event.data of fdDevice; 0: not a member
	deviceEdge uint32 // an interrupt came since the last report
)

// Bits in deviceBits below the vectors of devices: the alarm, and a shortage of memory.
const (
	alarmBit = iota
	shortageBit
)

// raise notes a device interrupt and sees to it that a goroutine learns of it:
// through a thread that waits in epoll_wait, through this CPU's Enter (see
// resume), or through that of some other CPU.
func raise(c *cpu, bit uint64) {
	w := &deviceBits[bit>>6]
	for {
		v := atomic.LoadUint64(w)
		if atomic.CompareAndSwapUint64(w, v, v|1<<(bit&63)) {
			break
		}
	}
	atomic.StoreUint64(&devicePending, 1)
	atomic.StoreUint32(&deviceEdge, 1)
	if !wakePoller(c) && c.thread().state == threadIdle {
		interruptOthers(c)
	}
}

// interruptOthers ends the Enter of all other CPUs. Halted ones are left alone: two that become idle would wake
// each other for ever.
func interruptOthers(c *cpu) {
	for i := uint64(0); i < ncpu; i++ {
		if cpuTable[i] == 0 || i == c.index {
			continue
		}
		if o := cpuAt(cpuTable[i]); atomic.LoadUint64(&o.halted) == 0 {
			sendIPI(o)
		}
	}
}

// passDevices is for a CPU that becomes idle: an interrupt that came while it ran the runtime's code, behind that code's
// last look at the poller, is left to the others.
func passDevices(c *cpu) {
	if atomic.LoadUint64(&devicePending) != 0 && pollQueue.head == 0 {
		interruptOthers(c)
	}
}

// wakePoller hands the events that are due to a waiting thread.
func wakePoller(c *cpu) bool {
	lock(c, &pollQueue.lock) // as in futexWake
	id := pollQueue.head
	if id != 0 {
		t := byID(id)
		pollQueue.remove(t)
		t.ctx.RAX = pollEvents(t.events)
	}
	unlock(&pollQueue.lock)
	if id != 0 {
		ready(c, byID(id))
	}
	return id != 0
}

// pollEvents writes struct epoll_event (12 bytes, packed) for all that is due.
func pollEvents(p uint64) uint64 {
	n := uint64(0)
	if atomic.LoadUint64(&eventCount) != 0 {
		st32(p, 1)
		st64(p+4, eventData)
		p += 12
		n++
	}
	if deviceData != 0 && atomic.SwapUint32(&deviceEdge, 0) != 0 {
		st32(p, 1)
		st64(p+4, deviceData)
		n++
	}
	return n
}

// epollWait returns whether t blocked.
func epollWait(c *cpu, t *thread, events uint64, timeout int32) bool {
	touchRange(c, events, 24)
	lock(c, &pollQueue.lock)
	n := pollEvents(events)
	t.ctx.RAX = n
	if n != 0 || timeout == 0 {
		unlock(&pollQueue.lock)
		return false
	}
	t.events = events
	t.key = 1
	deadline := uint64(0)
	if timeout > 0 {
		deadline = now() + uint64(timeout)*1000000
	}
	block(c, t, &pollQueue, deadline)
	return true
}

func epollControl(op, fd, event uint64) uint64 {
	if op == 2 { // EPOLL_CTL_DEL
		return 0
	}
	data := ld64(event + 4)
	switch fd {
	case fdEvent:
		eventData = data
	case fdDevice:
		deviceData = data
	default:
		return errno(eperm)
	}
	return 0
}
