package task

import (
	"slices"

	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// Exit is exit(2): the thread ends when it is about to go back to its program. status is 0 to 255.
func (t *Task) Exit(status int32) {
	t.exitCode = status & 0xff << 8
	t.flags.Or(workKill)
}

// ExitGroup is exit_group(2).
func (t *Task) ExitGroup(status int32) {
	p := t.proc
	p.mu.Lock()
	p.exit(status & 0xff << 8)
	p.mu.Unlock()
	t.flags.Or(workKill)
}

// end is the end of a task, on its own goroutine.
func (t *Task) end() {
	k, p := t.k, t.proc
	t.joinDump()
	t.ending = true
	t.traceExit()
	k.exits.enter(t)
	t.stopTaking()
	m := t.detachMemory()
	k.exits.leave()
	t.releaseMemory(m)
	t.Files.DecRef()
	t.FS.users.Add(-1)
	t.setFiles(nil)
	useFilters(t.filter.Swap(nil), -1)
	t.unplace()
	k.turns.leave(t)
	t.claim()
	t.cpu.FreeContext(t.Ctx) // nobody kicks a task that is exiting
	t.Ctx = nil
	if !t.leave() {
		t.dropNamespaces()
		return
	}
	p.stopTimers()
	if k.Ended != nil {
		k.Ended(t)
	}
	switch {
	case p == k.init:
		t.killAll()
	case p.nsInit:
		t.killNamespace()
	}
	t.dropNamespaces()
	p.dropExe()
	k.mu.Lock()
	k.ended(p)
	k.mu.Unlock()
	if p == k.init {
		status, sig := p.status>>8, unix.Signal(p.status&0x7f)
		k.OnExit(int(status), sig)
	}
}

// dropExe gives up the file that p executes.
func (p *Process) dropExe() {
	p.mu.Lock()
	exe := p.exe
	p.exe = nil
	p.mu.Unlock()
	if exe != nil {
		exe.DecRef()
	}
}

// stopTaking gives the signals that t would take to other threads.
func (t *Task) stopTaking() {
	p := t.proc
	p.mu.Lock()
	t.exiting = true
	p.queued -= t.pending.Flush(^signal.Set(0))
	if lost := p.pending.Set() &^ t.blocked; lost != 0 {
		t.retarget(lost)
	}
	if p.stop.active && !p.exiting && !t.counted {
		p.stopOne() // unlocks
		return
	}
	p.mu.Unlock()
}

// leave takes t out of its process; last: no thread is left.
func (t *Task) leave() (last bool) {
	k, p := t.k, t.proc
	t.waits()
	k.mu.Lock()
	defer k.mu.Unlock()
	p.mu.Lock()
	p.threads = slices.DeleteFunc(p.threads, func(o *Task) bool { return o == t })
	p.dead.addTask(t)
	last = len(p.threads) == 0
	if last && !p.exiting {
		p.exiting, p.exitCode = true, t.exitCode // the status of a process is that of its last thread
	}
	if last { // a zombie keeps no signals: they may be all the memory there is
		p.queued -= p.pending.Flush(^signal.Set(0))
	}
	if p.execer != nil {
		p.execer.Wake()
	}
	p.mu.Unlock()
	id := t.TID()
	k.ids[id].task = nil
	k.endTraced(t, k.ids[id])
	k.dropID(id)
	k.orphanOf(t)
	k.untraceAll(t)
	return last
}

// orphanOf sends the parent-death signals of processes that t made (prctl(2), PR_SET_PDEATHSIG). k.mu is held.
func (k *Kernel) orphanOf(t *Task) {
	for _, c := range t.proc.children {
		if c.parentTask != t {
			continue
		}
		c.parentTask = nil
		if sig := unix.Signal(c.leader.attr.deathSignal); sig != 0 && !c.zombie {
			info := kernelInfo(sig)
			info.SetHead(sig, 0, signal.User)
			info.SetSender(c.pids.Local(t.proc.PID), 0)
			c.send(&info)
		}
	}
}

// killAll kills all processes but the first and waits until they are gone.
func (t *Task) killAll() {
	k := t.k
	k.mu.Lock()
	k.dying, k.initTask = true, t
	var ps []*Process
	for _, e := range k.ids {
		if e.proc != nil && e.proc != k.init {
			ps = append(ps, e.proc)
		}
	}
	k.mu.Unlock()
	for _, p := range ps {
		p.kill(unix.SIGKILL)
	}
	deadline := k.Clock.After(killTime)
	for late := false; ; late = !t.sleepUntil(deadline) {
		k.mu.RLock()
		n := k.procs
		k.mu.RUnlock()
		if n == 1 {
			return
		}
		if late {
			k.Log("processes that do not end: " + itoa(int32(n-1)))
			return
		}
	}
}

// killNamespace kills all other processes of the PID namespace whose first process t's is, reaps its children, and waits until the
// others are gone (pid_namespaces(7)).
func (t *Task) killNamespace() {
	k, p := t.k, t.proc
	ns := p.pids
	k.mu.Lock()
	ns.dead, ns.ending = true, t
	var ps []*Process
	for _, e := range k.ids {
		if q := e.proc; q != nil && q != p && q.pids.Within(ns) {
			ps = append(ps, q)
		}
	}
	k.mu.Unlock()
	for _, q := range ps {
		q.kill(unix.SIGKILL)
	}
	for {
		k.mu.Lock()
		for _, c := range append([]*Process(nil), p.children...) {
			if c.zombie && !c.otherTracer() && c.unreaped == 0 {
				k.reap(c)
			}
		}
		n := ns.procs
		if n <= 1 {
			ns.init, ns.ending = nil, nil
		}
		k.mu.Unlock()
		if n <= 1 {
			return
		}
		t.sleep()
	}
}

// dropNamespaces ends t's use of its namespaces.
func (t *Task) dropNamespaces() {
	t.proc.mu.Lock()
	ns := t.ns
	t.ns = nil
	t.proc.mu.Unlock()
	ns.drop()
}

// killTime is how long process 1 waits for the others' end, in nanoseconds.
const killTime = 5_000_000_000

// ended makes p, whose last thread has ended, a zombie: children get a new parent, the parent is told, and the zombie is
// reaped when nobody is going to wait for it (exit(3), wait(2)). k.mu is held.
func (k *Kernel) ended(p *Process) {
	p.mu.Lock()
	p.status = p.exitCode
	p.mu.Unlock()
	g := p.group
	before := g.orphaned(nil)
	p.zombie = true
	if s := g.session; s.leader == p {
		k.leaderEnded(s)
		s.leader = nil
	}
	k.forsake(p)
	if !before {
		k.groupOrphaned(g, p)
	}
	p.exited.Notify(unix.POLLIN)
	if p.onEnd != nil {
		go p.onEnd(p.status)
	}
	k.procs--
	p.pids.count(-1)
	if k.procs == 1 && k.initTask != nil {
		k.initTask.Wake()
	}
	if p.unreaped == 0 {
		k.announce(p)
	}
}

// announce tells of the end of p. k.mu is held.
func (k *Kernel) announce(p *Process) {
	switch {
	case p == k.init:
	case p.otherTracer(): // the parent is told when that has waited
		code, status := endOf(p.status)
		p.leader.tell(p.leader.trace.by.proc, code, status)
	default:
		k.tellEnd(p)
	}
}

// endOf returns si_code and si_status for a status of wait(2).
func endOf(status int32) (code, si int32) {
	if s := status & 0x7f; s != 0 {
		if status&coreFlag != 0 {
			return cldDumped, s
		}
		return cldKilled, s
	}
	return cldExited, status >> 8
}

// forsake gives p's children to the next subreaper above, or to process 1. k.mu is held.
func (k *Kernel) forsake(p *Process) {
	heir := k.reaper(p.pids)
	for a := p.parent; a != nil && a.pids == p.pids && a != heir; a = a.parent {
		if a.subreaper && !a.zombie {
			heir = a
			break
		}
	}
	children := p.children
	p.children = nil
	if p == k.init {
		return // nothing is left of them but zombies, which nobody sees any more
	}
	for _, c := range children {
		g := c.group
		before := g.orphaned(nil)
		c.parent, c.parentTask = heir, nil
		c.ppid.Store(heir.PID)
		c.exitSignal = unix.SIGCHLD
		c.adopted = heir == k.init && !heir.subreaper
		heir.children = append(heir.children, c)
		if c.zombie && c.unreaped == 0 && !c.otherTracer() {
			k.tellEnd(c)
		} else if !c.zombie && !before {
			k.groupOrphaned(g, nil)
		}
	}
}

// tellEnd tells p's parent of its end, or reaps p when the parent does not care. k.mu is held.
func (k *Kernel) tellEnd(p *Process) {
	parent := p.parent
	ignored := p.adopted || k.dying
	if sig := p.exitSignal; sig != 0 && !ignored {
		if sig == unix.SIGCHLD {
			a := parent.Handlers().Get(sig)
			ignored = a.Handler == signal.IGN || a.Flags&signal.NoCldWait != 0
		}
		code, status := endOf(p.status)
		info := p.childInfo(parent, sig, code, status)
		parent.send(&info)
	}
	if ignored {
		k.reap(p)
	}
	parent.childEvents.Notify(unix.POLLIN)
}
