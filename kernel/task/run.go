package task

import (
	"runtime"
	"sync"

	"gosv/kernel/abi"
	"gosv/kernel/mm"
	"gosv/kernel/signal"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// Bits of Task.flags.
const (
	workSignal = 1 << iota // look at signals, stops
	workKill               // end
	workPlace              // the affinity has changed
	workTurn               // wait for a turn; written under turns.mu
	work       = workSignal | workKill | workPlace | workTurn
)

// ask sets a work bit and makes t see it. proc.mu is held: a task that has begun to end, and may have
// freed its context, is marked exiting under it.
func (t *Task) ask(bits uint32) {
	t.flags.Or(bits)
	t.Wake()
	if bits&workKill != 0 {
		t.turn.park.Wake()
	}
	if !t.exiting {
		t.cpu.Kick(t.Ctx)
	}
}

// loop runs the program until the task ends.
func (t *Task) loop() {
	t.resumeRseq()
	for {
		if t.flags.Load() != 0 {
			if !t.work() {
				return
			}
			continue
		}
		trap := t.cpu.Enter(t.Ctx)
		if trap == machine.Syscall {
			t.syscall = true
			if t.calls++; t.calls%sampling == 0 {
				t.sampled()
				continue
			}
			// As in call, but in the loop itself: this is the way of most calls.
			if nr := uint32(t.Ctx.OrigRAX); nr < tableSize {
				if f := t.table.Load()[nr]; f != nil {
					v, err := f(t)
					if err != nil {
						v = t.k.Failed(err)
					}
					t.Ctx.RAX = v
					continue
				}
			}
			t.otherCall()
			continue
		}
		t.syscall = false
		switch trap {
		case machine.PageFault:
			t.pageFault()
		case machine.Exception:
			t.exception()
		case machine.Interrupted:
			t.yield()
		}
		t.resumeRseq()
	}
}

// call serves the system call that the context describes.
func (t *Task) call() {
	if nr := uint32(t.Ctx.OrigRAX); nr < tableSize {
		if f := t.table.Load()[nr]; f != nil {
			v, err := f(t)
			if err != nil {
				v = t.k.Failed(err)
			}
			t.Ctx.RAX = v
			return
		}
	}
	t.otherCall()
}

// otherCall serves a system call that is not in the table.
func (t *Task) otherCall() {
	if t.hooks.Load() != 0 {
		t.Ctx.RAX, _ = t.hookedCall()
		return
	}
	t.k.Dispatch(t)
}

// A callTable has the system calls by number, nil for those that go to Dispatch.
type callTable [tableSize]func(t *Task) (uint64, error)

// tableSize is more than the calls that there are.
const tableSize = 512

// setHooks adds and takes away hooks: while there are any, all system calls are hookedCalls. proc.mu is held.
func (t *Task) setHooks(add, remove uint32) {
	h := t.hooks.Load()&^remove | add
	t.hooks.Store(h)
	if h != 0 {
		t.table.Store(&t.k.hooked)
	} else {
		t.table.Store(&t.k.table)
	}
}

// yield lets the goroutines run that an interrupt has woken, and other tasks. Sched_yield(2) is the same.
func (t *Task) yield() {
	if t.flags.Load()&work != 0 { // kicked: to be handled first
		return
	}
	t.stepsBack()
	if t.turn.held.Load() {
		t.turn.seen.Store(true)
	}
	runtime.Gosched()
	t.begin()
}

// Yield is sched_yield(2).
func (t *Task) Yield() {
	if !t.turn.held.Load() || !t.k.turns.yield(t) {
		t.yield()
	}
}

// work does what others asked for; false when the task has ended.
func (t *Task) work() bool {
	t.cpu.Unkick(t.Ctx) // before the look: whoever asks sets the flag first
	f := t.flags.Load()
	if f&workPlace != 0 {
		t.place()
	}
	if f&workKill == 0 && f&workSignal != 0 {
		t.deliver()
		f = t.flags.Load()
	}
	if f&workKill != 0 {
		t.end()
		return false
	}
	if f&workTurn != 0 {
		t.takeTurn()
	}
	return true
}

// pageFault serves a page fault of the program.
func (t *Task) pageFault() {
	t.usage.minflt.Add(1)
	addr, code := t.Ctx.FaultAddr, t.Ctx.Error
	if addr >= machine.UserTop {
		code |= machine.FaultPresent // what is mapped there is not for programs to know
	}
	if code&machine.FaultUser == 0 { // the processor's own access: no page that is missing makes it better
		t.trap = trapInfo{vector: vectorPF, code: code, addr: addr}
		var info signal.Info
		info.SetHead(unix.SIGSEGV, 0, signal.Kernel)
		t.Force(&info)
		return
	}
	err := t.mem.Fault(addr, mm.AccessOf(code))
	if err == nil {
		return
	}
	t.trap = trapInfo{vector: vectorPF, code: code, addr: addr}
	fault, ok := err.(*mm.FaultError)
	if !ok { // no memory; the instruction is tried again
		t.starved()
		return
	}
	var info signal.Info
	info.SetHead(fault.Signal, 0, fault.Code)
	info.SetAddr(addr)
	t.Force(&info)
}

// trapInfo is the last exception, for sigcontext.
type trapInfo struct{ vector, code, addr uint64 }

// Vectors of exceptions (Intel SDM vol. 3 §6.15).
const (
	vectorDE = 0
	vectorDB = 1
	vectorBP = 3
	vectorUD = 6
	vectorNP = 11
	vectorSS = 12
	vectorGP = 13
	vectorPF = 14
	vectorMF = 16
	vectorAC = 17
	vectorXM = 19
)

// exception turns a processor exception into its signal, as Linux's arch/x86/kernel/traps.c.
func (t *Task) exception() {
	c := t.Ctx
	t.trap.vector, t.trap.code = c.Vector, c.Error
	sig, code, addr := unix.SIGSEGV, int32(signal.Kernel), uint64(0)
	switch c.Vector {
	case vectorDE:
		sig, code, addr = unix.SIGFPE, fpeIntDiv, c.RIP
	case vectorDB:
		if sig, code, addr = unix.SIGTRAP, t.debugged(c.FaultAddr), c.RIP; code == 0 {
			return
		}
	case vectorBP:
		sig = unix.SIGTRAP
	case vectorUD:
		sig, code, addr = unix.SIGILL, illIllOpn, c.RIP
	case vectorNP, vectorSS:
		sig = unix.SIGBUS
	case vectorMF, vectorXM:
		sig, code, addr = unix.SIGFPE, t.floatCode(c.Vector == vectorXM), c.RIP
		if code == 0 { // spurious
			return
		}
	case vectorAC:
		sig, code = unix.SIGBUS, busAdrAln
	}
	var info signal.Info
	info.SetHead(sig, 0, code)
	info.SetAddr(addr)
	t.Force(&info)
}

// Values of si_code (include/uapi/asm-generic/siginfo.h).
const (
	illIllOpn  = 2
	fpeIntDiv  = 1
	fpeFltDiv  = 3
	fpeFltOvf  = 4
	fpeFltUnd  = 5
	fpeFltRes  = 6
	fpeFltInv  = 7
	busAdrAln  = 1
	trapBrkpt  = 1
	trapTrace  = 2
	trapHwBkpt = 4
)

// floatCode finds out which unmasked floating-point exception happened: 0 for none.
func (t *Task) floatCode(sse bool) int32 {
	b := t.floatImage()
	var status, masked uint32
	if sse {
		mxcsr := le.Uint32(b[24:])
		status, masked = mxcsr, mxcsr>>7
	} else {
		status, masked = uint32(le.Uint16(b[2:])), uint32(le.Uint16(b))
	}
	switch e := status &^ masked; {
	case e&0x01 != 0:
		return fpeFltInv
	case e&0x04 != 0:
		return fpeFltDiv
	case e&0x08 != 0:
		return fpeFltOvf
	case e&0x12 != 0: // denormal operand, underflow
		return fpeFltUnd
	case e&0x20 != 0:
		return fpeFltRes
	}
	return 0
}

// floatImage stores the floating-point state into the task's buffer and returns that.
func (t *Task) floatImage() []byte {
	n := t.cpu.FloatSize()
	b := t.buffer(n)[:n]
	t.cpu.SaveFloat(t.Ctx, b)
	return b
}

// buffer returns n bytes that are free until the next call.
func (t *Task) buffer(n int) []byte {
	if cap(t.frame) < n {
		t.frame = make([]byte, n)
	}
	return t.frame[:n]
}

// A worker is a goroutine that runs tasks one after the other: its stack has
// grown to what tasks need, which is the larger part of the cost of a new one.
type worker struct {
	next *worker
	task *Task
	park machine.Parker
}

// workers are the idle ones.
type workers struct {
	mu   sync.Mutex
	idle *worker // guarded by mu
	n    int     // guarded by mu
}

// maxIdle is how many idle workers are kept.
const maxIdle = 16

// run starts a task that is ready.
func (k *Kernel) run(t *Task) {
	if k.turns.active.Load() {
		k.turns.woken(t)
	}
	t.usage.active.Store(true)
	p := &k.pool
	p.mu.Lock()
	w := p.idle
	if w != nil {
		p.idle = w.next
		p.n--
	}
	p.mu.Unlock()
	if w == nil {
		go k.serve(&worker{task: t})
		return
	}
	w.task = t
	w.park.Wake()
}

func (k *Kernel) serve(w *worker) {
	p := &k.pool
	for {
		t := w.task
		t.begin()
		for !t.guarded() {
		}
		p.mu.Lock()
		if p.n >= maxIdle {
			p.mu.Unlock()
			return
		}
		w.task = nil
		w.next, p.idle = p.idle, w
		p.n++
		p.mu.Unlock()
		w.park.Park()
	}
}

// guarded runs the loop; a panic of the kernel in it kills the process, not the machine.
func (t *Task) guarded() (ended bool) {
	defer func() {
		if r := recover(); r != nil {
			t.panicked(r)
		}
	}()
	t.loop()
	return true
}

// panicked logs a panic with the stack it came from, and has the process killed. A panic in the
// end of a task, or with the process's lock held, leaves nothing to go on with: that one is passed on.
func (t *Task) panicked(r any) {
	b := make([]byte, 8192)
	b = b[:runtime.Stack(b, false)]
	t.k.Log("kernel panic in process " + itoa(t.PID()) + " (" + t.Comm() + "): " + panicText(r) + "\n" + string(b))
	if t.ending || !t.proc.unlocked() {
		panic(r)
	}
	t.proc.kill(unix.SIGKILL)
}

// unlocked reports whether p's lock and that of the kernel become free within a second.
func (p *Process) unlocked() bool {
	for _, mu := range []interface {
		TryLock() bool
		Unlock()
	}{&p.k.mu, &p.mu} {
		deadline := p.k.Clock.Now() + 1e9
		for !mu.TryLock() {
			if p.k.Clock.Now() > deadline {
				return false
			}
			runtime.Gosched()
		}
		mu.Unlock()
	}
	return true
}

func panicText(r any) string {
	switch r := r.(type) {
	case error:
		return r.Error()
	case string:
		return r
	}
	return "?"
}

// RestartSyscall is restart_syscall(2): it goes on with a call that SetRestart was used for.
func (t *Task) RestartSyscall() (uint64, error) {
	f := t.restart
	t.restart = nil
	if f == nil {
		return 0, unix.EINTR
	}
	return f(t)
}

// SetRestart says how an interrupted call goes on, and returns the error that the
// call is to return: ERESTART_RESTARTBLOCK.
func (t *Task) SetRestart(f func(*Task) (uint64, error)) error {
	t.restart = f
	return abi.ERESTART_RESTARTBLOCK
}
