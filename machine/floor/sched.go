package floor

import "sync/atomic"

// Threads and CPUs: a run queue a CPU, first come first served; a woken thread
// goes to an idle CPU if there is one, its last one first; an idle CPU takes work
// from the others before it halts.

const timeSlice = 5000000 // ns

var idleCPUs uint64 // bit set of halted CPUs that nobody has called yet

// A waitq is a list of blocked threads. A thread leaves it once: by wake or by
// time-out, whoever takes it off the list.
type waitq struct {
	lock uint32
	head uint32
	tail uint32
}

func waitqAt(p uint64) *waitq { return (*waitq)(pointer(p)) }

func (q *waitq) add(t *thread) {
	t.wnext, t.wprev = 0, q.tail
	if q.tail != 0 {
		byID(q.tail).wnext = t.id
	} else {
		q.head = t.id
	}
	q.tail = t.id
	t.queue = q.addr()
}

func (q *waitq) remove(t *thread) {
	if t.wprev != 0 {
		byID(t.wprev).wnext = t.wnext
	} else {
		q.head = t.wnext
	}
	if t.wnext != 0 {
		byID(t.wnext).wprev = t.wprev
	} else {
		q.tail = t.wprev
	}
	t.queue = 0
}

// newThread returns a zeroed thread with its id; 0 threads left gives nil.
func newThread(c *cpu) *thread {
	lock(c, &freeLock)
	id := freeHead
	if id != 0 {
		freeHead = byID(id).next
	} else if nthread+1 < maxThread {
		nthread++
		id = nthread
	}
	unlock(&freeLock)
	if id == 0 {
		return nil
	}
	if threads[id] == 0 {
		threads[id] = DirectMap + kernelFrame(c)
	} else {
		zero(threads[id], 4096)
	}
	t := byID(id)
	t.id = id
	t.resume = addr(ptr(&t.ctx))
	st16(addr(ptr(&t.ctx.float[0])), 0x37f)
	st32(addr(ptr(&t.ctx.float[24])), 0x1f80)
	return t
}

func freeThread(c *cpu, t *thread) {
	lock(c, &freeLock)
	atomic.StoreUint32(&t.state, threadFree)
	t.next = freeHead
	freeHead = t.id
	unlock(&freeLock)
}

func push(o *cpu, t *thread) {
	t.next = 0
	if o.tail != 0 {
		byID(o.tail).next = t.id
	} else {
		o.head = t.id
	}
	o.tail = t.id
	o.queued++
}

// pop takes the first thread off o's queue that c may run; nil for none.
func pop(c, o *cpu) *thread {
	prev := uint32(0)
	for id := o.head; id != 0; id = byID(id).next {
		t := byID(id)
		if !t.may(c) {
			prev = id
			continue
		}
		if prev == 0 {
			o.head = t.next
		} else {
			byID(prev).next = t.next
		}
		if o.tail == id {
			o.tail = prev
		}
		o.queued--
		return t
	}
	return nil
}

// ready makes t, which block has put to sleep, runnable. The caller has taken t off its wait queue. A deadline may
// pass while somebody else wakes t, which may be on its way into the next sleep by then: whoever changes the
// state has woken it, and nobody twice.
func ready(c *cpu, t *thread) {
	if !atomic.CompareAndSwapUint32(&t.state, threadBlocked, threadReady) {
		return
	}
	cancel(c, t)
	o := cpuAt(cpuTable[t.cpu])
	if !t.may(o) {
		o = cpuAt(cpuTable[lowest(t.allowed)])
	}
	if idle := atomic.LoadUint64(&idleCPUs) & t.places(); idle != 0 {
		if idle&o.bit == 0 {
			o = cpuAt(cpuTable[lowest(idle)])
		}
	}
	lock(c, &o.lock)
	push(o, t)
	first := o.queued == 1
	unlock(&o.lock)
	if o != c && (claimIdle(o) || first) {
		sendIPI(o) // it must arm its time slice
	}
}

// places is the set of CPUs that may run t.
func (t *thread) places() uint64 {
	if t.allowed == 0 {
		return ^uint64(0)
	}
	return t.allowed
}

func (t *thread) may(c *cpu) bool { return t.places()&c.bit != 0 }

// bind restricts t, which c runs, to the CPUs in set (0: all); false when it has to go on elsewhere.
func bind(c *cpu, t *thread, set uint64) (mine bool) {
	t.allowed = set & (1<<ncpu - 1)
	if t.may(c) {
		return true
	}
	atomic.StoreUint32(&t.state, threadBlocked)
	ready(c, t)
	return false
}

// claimIdle takes o out of the set of idle CPUs; false if somebody else did.
func claimIdle(o *cpu) bool {
	for {
		v := atomic.LoadUint64(&idleCPUs)
		if v&o.bit == 0 {
			return false
		}
		if atomic.CompareAndSwapUint64(&idleCPUs, v, v&^o.bit) {
			return true
		}
	}
}

func setIdle(c *cpu) {
	for {
		v := atomic.LoadUint64(&idleCPUs)
		if atomic.CompareAndSwapUint64(&idleCPUs, v, v|c.bit) {
			return
		}
	}
}

func lowest(v uint64) uint64 {
	n := uint64(0)
	for v&1 == 0 {
		v >>= 1
		n++
	}
	return n
}

// block puts the running thread to sleep on q (whose lock is held, and released
// here) or, without q, for the time only.
func block(c *cpu, t *thread, q *waitq, deadline uint64) {
	atomic.AddUint32(&t.waits, 1)
	atomic.StoreUint32(&t.state, threadBlocked)
	if deadline != 0 {
		lock(c, &c.lock)
		heapAdd(c, t, deadline)
		unlock(&c.lock)
	}
	if q != nil {
		q.add(t)
		unlock(&q.lock)
	}
}

// timedOut wakes t, whose deadline for its sleep number waits passed and which is off the timer heap;
// false when somebody else has just woken it.
func timedOut(c *cpu, t *thread, waits uint32) bool {
	for {
		if atomic.LoadUint32(&t.waits) != waits {
			return false
		}
		qa := atomic.LoadUint64(&t.queue)
		if qa == 0 {
			break
		}
		q := waitqAt(qa)
		lock(c, &q.lock)
		if t.queue != qa {
			unlock(&q.lock)
			continue
		}
		q.remove(t)
		unlock(&q.lock)
		if q == &pollQueue {
			t.ctx.RAX = 0
		} else {
			t.ctx.RAX = errno(etimedout)
		}
		ready(c, t)
		return true
	}
	if t.key != 0 { // was on a queue, and left it
		return false
	}
	ready(c, t)
	return true
}

// next chooses what this CPU runs now: cur if it is still ours to run and keep is
// set, else the head of the queue, else cur, else work of another CPU, else nothing.
func next(c *cpu, cur *thread, mine, keep bool) *thread {
	if mine && (keep || c.queued == 0) {
		return cur
	}
	lock(c, &c.lock)
	t := pop(c, c)
	if t != nil && mine {
		atomic.StoreUint32(&cur.state, threadReady)
		push(c, cur)
	}
	unlock(&c.lock)
	if t == nil && mine {
		return cur
	}
	if t == nil {
		t = steal(c)
	}
	for t == nil {
		setIdle(c)
		if !work(c) || !claimIdle(c) {
			break // whoever adds work now finds us idle
		}
		t = steal(c)
	}
	return t
}

// work reports whether any run queue has a thread for c.
func work(c *cpu) bool {
	for i := uint64(0); i < ncpu; i++ {
		if o := cpuTable[i]; o != 0 && atomic.LoadUint32(&cpuAt(o).queued) != 0 && hasFor(c, cpuAt(o)) {
			return true
		}
	}
	return false
}

// hasFor reports whether o's queue has a thread that c may run.
func hasFor(c, o *cpu) bool {
	lock(c, &o.lock)
	found := false
	for id := o.head; id != 0 && !found; id = byID(id).next {
		found = byID(id).may(c)
	}
	unlock(&o.lock)
	return found
}

// steal takes a thread from a run queue, this CPU's first.
func steal(c *cpu) *thread {
	for i := uint64(0); i < ncpu; i++ {
		p := cpuTable[(c.index+i)%ncpu]
		if p == 0 || cpuAt(p).queued == 0 {
			continue
		}
		o := cpuAt(p)
		lock(c, &o.lock)
		t := pop(c, o)
		unlock(&o.lock)
		if t != nil {
			return t
		}
	}
	return nil
}

// dispatch ends a visit to the floor: it picks the next thread, arms the timer
// and says how to resume. mine: cur has not blocked or ended; keep: it may go on.
func dispatch(c *cpu, cur *thread, mine, keep bool) (*context, uint64) {
	t := next(c, cur, mine, keep)
	if t == nil {
		t = threadAt(c.idle)
	}
	if t != cur {
		if t.state == threadIdle { // what passes meanwhile is nobody's time
			c.rest = rdtsc() - c.given
			atomic.StoreUint64(&c.rested, uptime()-c.rested|resting)
		} else if cur.state == threadIdle {
			c.given = rdtsc() - c.rest
			atomic.StoreUint64(&c.rested, uptime()-c.rested&^resting)
		}
		switchTo(c, t)
	} else if t.state == threadReady { // woken before it was away, or ended and begun anew
		atomic.StoreUint32(&t.state, threadRunning)
		c.thrFS = t.fs
	}
	if t.pending&^t.mask != 0 {
		deliver(c, t)
	}
	c.arm(t)
	if t.state == threadIdle {
		atomic.StoreUint64(&c.halted, 1)
		passDevices(c)
	}
	return resume(c, t, t != cur)
}

// resting marks a cpu.rested that is the uptime at which the CPU would have become idle, had it not been before.
const resting = 1 << 63

// uptime is the ticks since the clock's zero.
func uptime() uint64 { return rdtsc() - zeroTSC }

// adopt loads the space that a thread had loaded when it last ran, unless it is
// being destroyed: the mask first, then the look at the mark, so that forget
// either sees this CPU in the mask or is seen here.
func adopt(c *cpu, sa uint64) {
	if sa == 0 || sa == c.space {
		return
	}
	s := spaceAt(sa)
	atomic.OrUint64(&s.cpus, c.bit)
	if atomic.LoadUint64(&s.dead) != 0 {
		atomic.AndUint64(&s.cpus, ^c.bit)
		return
	}
	setSpace(sa)
}

// switchTo makes t this CPU's thread.
func switchTo(c *cpu, t *thread) {
	c.slice = 0
	if t.state != threadIdle {
		// In this order: sendSignal sees the state with its CPU, or dispatch the signal.
		t.cpu = uint32(c.index)
		atomic.StoreUint32(&t.state, threadRunning)
		claimIdle(c)
		adopt(c, t.space)
	}
	c.current = t.addr()
	c.thrTop = addr(ptr(&t.ctx)) + contextTop
	c.thrFS = t.fs
}

// arm sets the timer: for the end of the time slice when others wait, for the
// first deadline, for the alarm.
func (c *cpu) arm(t *thread) {
	at := uint64(0)
	nw := uint64(0)
	if c.queued != 0 && t.state != threadIdle {
		if c.slice == 0 {
			nw = now()
			c.slice = nw + timeSlice
		}
		at = c.slice
	}
	if c.timers != 0 {
		lock(c, &c.lock) // other CPUs take threads out, and the heap is none while they do
		if c.timers != 0 {
			if e := byID(c.heap[0]).expires; at == 0 || e < at {
				at = e
			}
		}
		unlock(&c.lock)
	}
	if a := alarm; a != 0 && alarmCPU == c.index && (at == 0 || a < at) {
		at = a
	}
	if at == 0 || c.armed != 0 && c.armed <= at {
		return
	}
	if nw == 0 {
		nw = now()
	}
	arm(c, at, nw)
}

// resume says how to go on with t, which has not run for a while if away: see floorExit.
func resume(c *cpu, t *thread, away bool) (*context, uint64) {
	x := contextAt(t.resume)
	if t.user == 0 {
		return x, 0
	}
	atomic.StoreUint64(&x.cpu, c.index+1)
	if atomic.LoadUint64(&x.flag) != 0 || devicePending != 0 {
		atomic.StoreUint64(&x.flag, 0)
		return x, 2
	}
	if away && x.want != 0 {
		return x, 3
	}
	return x, 1
}
