package task

import (
	"encoding/binary"
	"strconv"

	"gosv/kernel/cred"
	"gosv/kernel/namespace"
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

func itoa(n int32) string { return strconv.Itoa(int(n)) }

func kernelInfo(sig unix.Signal) (info signal.Info) {
	info.SetHead(sig, 0, signal.Kernel)
	return info
}

// userInfo is the siginfo of kill(2) and tgkill(2).
func (t *Task) userInfo(sig unix.Signal, code int32) (info signal.Info) {
	info.SetHead(sig, 0, code)
	info.SetSender(t.proc.own, t.Cred().UID)
	return info
}

// send sends info to the process in the kernel's name. Kernel.mu may be held.
func (p *Process) send(info *signal.Info) error {
	p.mu.Lock()
	err := p.post(nil, info, !stops(info))
	p.mu.Unlock()
	return err
}

// stops reports whether info is one of the signals that process 1 is deaf to even when it
// or the kernel sends them.
func stops(info *signal.Info) bool { return signal.Stops.Has(info.Signo()) }

// sendFrom sends info, to the thread t if that is not nil, on behalf of another task.
func (p *Process) sendFrom(from *Task, t *Task, info *signal.Info) error {
	forced := from.proc == p && !stops(info) && !p.nsInit
	if namespace.Made() {
		info = p.translateUID(from, info)
	}
	if p.pids.parent != nil && p.pids.Local(from.PID()) == 0 { // from outside
		theirs := *info
		theirs.SetSender(0, info.UID())
		info, forced = &theirs, true
	}
	p.mu.Lock()
	err := p.post(t, info, forced)
	p.mu.Unlock()
	return err
}

// translateUID returns info with the sender's user ID as p's user namespace calls it. That of kill(2) is the kernel's own number, that in what
// rt_sigqueueinfo(2) got is one of the sender's namespace.
func (p *Process) translateUID(from *Task, info *signal.Info) *signal.Info {
	mine, theirs := from.Cred().User, p.user()
	uid := info.UID()
	switch code := info.Code(); {
	case code == signal.User || code == signal.TKill:
	case code >= 0 || code == signal.Timer || code == signal.SigIO || mine == theirs: // no user ID, or the right one
		return info
	default:
		uid = mine.RealUID(uid)
	}
	c := *info
	if uid = theirs.ShowUID(uid); uid == namespace.None {
		uid = namespace.Overflow
	}
	c.SetSender(info.PID(), uid)
	return &c
}

// Send sends a signal to the process, without asking for permission: from a timer, a terminal, SIGIO.
// EAGAIN when it is a real-time signal and the queue is full.
func (p *Process) Send(info *signal.Info) error { return p.send(info) }

// SendSignal sends sig in the kernel's own name.
func (p *Process) SendSignal(sig unix.Signal) {
	info := kernelInfo(sig)
	p.send(&info)
}

// Send sends a signal to the thread, without asking for permission.
func (t *Task) Send(info *signal.Info) error {
	p := t.proc
	if t.borrowed { // has no program; Linux's workers take no signals either
		if info.Signo() == unix.SIGPIPE {
			return p.send(info)
		}
		return nil
	}
	p.mu.Lock()
	err := p.post(t, info, !stops(info))
	p.mu.Unlock()
	return err
}

// SendSignal sends sig to the thread in the kernel's own name (SIGPIPE, SIGXFSZ).
func (t *Task) SendSignal(sig unix.Signal) {
	info := kernelInfo(sig)
	t.Send(&info)
}

// SignalInit sends sig from outside the machine to process 1, where also its default action applies.
func (k *Kernel) SignalInit(sig unix.Signal) {
	p := k.init
	if p == nil || !signal.Valid(sig) {
		return
	}
	var info signal.Info
	info.SetHead(sig, 0, signal.User)
	p.mu.Lock()
	p.post(nil, &info, true)
	p.mu.Unlock()
}

// post queues info for the process, or for its thread t, and wakes who is to
// take it. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) post(t *Task, info *signal.Info, forced bool) error {
	if !p.accepts(t, info.Signo(), forced) {
		return nil
	}
	sig := info.Signo()
	q := p.queueOf(t)
	if sig < signal.RTMin && q.Set().Has(sig) {
		return nil
	}
	switch {
	case p.queued < p.limits.pending() || sig < signal.RTMin:
		q.Add(info, forced)
		p.queued++
	case info.Code() != signal.User && info.Code() != signal.Kernel:
		return unix.EAGAIN
	default:
		q.AddBare(sig)
	}
	p.wakeFor(t, sig, forced)
	return nil
}

// postEntry is post for the entry of a timer.
//
// +checklocks:p.mu
func (p *Process) postEntry(t *Task, e *signal.Entry) {
	sig := e.Info.Signo()
	if e.Queued() || t != nil && t.exiting || !p.accepts(t, sig, true) {
		return
	}
	e.Forced = true
	p.queueOf(t).AddEntry(e)
	p.wakeFor(t, sig, true)
}

// +checklocks:p.mu
func (p *Process) queueOf(t *Task) *signal.Pending {
	if t != nil {
		return &t.pending
	}
	return &p.pending
}

// accepts does what a signal does already when it is sent (stop signals and
// SIGCONT drop each other), and says whether it is to be queued. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) accepts(t *Task, sig unix.Signal, forced bool) bool {
	if sig == unix.SIGKILL {
		p.endFinalStops()
		p.dump.abort()
	}
	if p.exiting || len(p.threads) == 0 {
		return false
	}
	switch {
	case signal.Stops.Has(sig):
		p.flush(signal.Of(unix.SIGCONT))
	case sig == unix.SIGCONT:
		p.flush(signal.Stops)
		for _, o := range p.threads {
			o.mayStop = false
		}
		p.resume()
	}
	if t == nil {
		t = p.leader
	}
	return t.blocked.Has(sig) || t.trace.by != nil && sig != unix.SIGKILL || !p.ignores(sig, forced)
}

// endFinalStops lets threads go that are in the stop at their end. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) endFinalStops() {
	for _, t := range p.threads {
		if t.trace.final && t.trace.stopped {
			t.trace.final = false
			t.Wake()
		}
	}
}

// ignores reports whether sig, not blocked, would do nothing. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) ignores(sig unix.Signal, forced bool) bool {
	switch p.Handlers().Handler(sig) {
	case signal.IGN:
		return true
	case signal.DFL:
		return p.deaf(sig, forced) || signal.Default(sig) == signal.Ignore || signal.Default(sig) == signal.Continue
	}
	return false
}

// +checklocks:p.mu
func (p *Process) flush(s signal.Set) {
	p.queued -= p.pending.Flush(s)
	for _, t := range p.threads {
		p.queued -= t.pending.Flush(s)
	}
}

// wakeFor finds a thread that takes the signal just queued for t or, if that is nil, for
// any thread, and wakes it. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) wakeFor(t *Task, sig unix.Signal, forced bool) {
	p.sigfd.Notify(unix.POLLIN)
	if t == nil {
		t = p.taker(sig)
	} else if !t.wants(sig) {
		t = nil
	}
	switch {
	case t == nil:
	case t.waitSet.Has(sig):
		t.Wake()
	case p.deadly(sig, forced) && (t.trace.by == nil || sig == unix.SIGKILL):
		p.exit(int32(sig))
	default:
		t.ask(workSignal)
	}
}

// deaf reports whether the default action of sig is not for p, the first process of a PID namespace. That of one below the first hears only what
// cannot be ignored, and that from outside and from the kernel. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) deaf(sig unix.Signal, forced bool) bool {
	if p.nsInit && sig != unix.SIGKILL && sig != unix.SIGSTOP {
		return p.tame
	}
	return p.tame && !forced
}

// deadly reports whether sig, when delivered, ends the process. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) deadly(sig unix.Signal, forced bool) bool {
	if p.Handlers().Handler(sig) != signal.DFL || p.deaf(sig, forced) {
		return false
	}
	a := signal.Default(sig)
	return a == signal.Terminate || a == signal.Core && !p.dumps() // the thread that takes it is to be seen in the dump
}

// taker chooses the thread that takes a signal sent to the process: the leader if it can, else one after
// the other. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) taker(sig unix.Signal) *Task {
	if p.leader.wants(sig) {
		return p.leader
	}
	for range p.threads {
		p.next++
		if t := p.threads[p.next%len(p.threads)]; t.wants(sig) {
			return t
		}
	}
	return nil
}

func (t *Task) wants(sig unix.Signal) bool {
	return !t.exiting && (!t.blocked.Has(sig) || t.waitSet.Has(sig))
}

// exit begins the end of the whole process, with a status as wait(2) encodes it. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) exit(status int32) {
	if p.exiting {
		return
	}
	p.exiting, p.exitCode = true, status
	p.stop.active = false
	for _, t := range p.threads {
		t.ask(workKill)
	}
}

// kill ends the process as by the default action of sig, whatever it thinks of it.
func (p *Process) kill(sig unix.Signal) {
	p.end(int32(sig))
}

// Force sends a signal that the thread's own instruction caused: it cannot be
// blocked or ignored, and kills process 1 too.
func (t *Task) Force(info *signal.Info) {
	p, sig := t.proc, info.Signo()
	p.mu.Lock()
	h := p.Handlers().Handler(sig)
	if blocked := t.blocked.Has(sig); blocked || h == signal.IGN {
		p.Handlers().SetDefault(sig)
		t.blocked &^= signal.Of(sig)
		h = signal.DFL
	}
	if h == signal.DFL && t.trace.by == nil {
		p.tame = false
	}
	p.post(t, info, true)
	p.recalc(t)
	p.mu.Unlock()
}

// mayKill is the permission check of kill(2).
func (t *Task) mayKill(p *Process, sig unix.Signal) bool {
	if p == t.proc {
		return true
	}
	mine, theirs := t.Cred(), p.Cred()
	if theirs == nil || sameUser(mine, theirs) || mine.CapableIn(theirs.User, unix.CAP_KILL) {
		return true
	}
	return sig == unix.SIGCONT && p.SID() == t.proc.SID()
}

func sameUser(a, b *cred.Cred) bool {
	return a.EUID == b.SUID || a.EUID == b.UID || a.UID == b.SUID || a.UID == b.UID
}

// user returns the user namespace of the leader.
func (p *Process) user() *namespace.User { return p.Cred().User }

// Cred returns the credentials of the leader.
func (p *Process) Cred() *cred.Cred { return p.Leader().Cred() }

// Kill is kill(2): ESRCH, EPERM, EINVAL; signal 0 checks only.
func (t *Task) Kill(pid int32, sig unix.Signal) error {
	if sig < 0 || sig > signal.Max {
		return unix.EINVAL
	}
	info := t.userInfo(sig, signal.User)
	return t.killInfo(pid, sig, &info)
}

func (t *Task) killInfo(pid int32, sig unix.Signal, info *signal.Info) error {
	k := t.k
	switch {
	case pid > 0:
		p := k.Process(pid)
		if p == nil {
			if o := k.Task(pid); o != nil { // a thread's ID stands for its process
				p = o.proc
			} else {
				return unix.ESRCH
			}
		}
		return t.killOne(p, sig, info)
	case pid == -1:
		return t.killMany(t.others(), sig, info)
	case pid == 0:
		return t.killMany(k.groupMembers(t.proc.PGID()), sig, info)
	case pid == -1<<31:
		return unix.ESRCH
	}
	return t.killMany(k.groupMembers(-pid), sig, info)
}

func (t *Task) killOne(p *Process, sig unix.Signal, info *signal.Info) error {
	if !t.mayKill(p, sig) {
		return unix.EPERM
	}
	if sig == 0 {
		return nil
	}
	return p.sendFrom(t, nil, info)
}

// killMany succeeds when one of the processes could be signalled.
func (t *Task) killMany(ps []*Process, sig unix.Signal, info *signal.Info) error {
	err, sent := error(unix.ESRCH), false
	for _, p := range ps {
		if e := t.killOne(p, sig, info); e == nil {
			sent = true
		} else {
			err = e
		}
	}
	if sent {
		return nil
	}
	return err
}

// others returns all processes that t knows but process 1 and its own.
func (t *Task) others() (ps []*Process) {
	for _, q := range t.k.Processes() {
		if q != t.proc && t.Number(q.PID) > 1 {
			ps = append(ps, q)
		}
	}
	return ps
}

func (k *Kernel) groupMembers(pgid int32) []*Process {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if e := k.ids[pgid]; e != nil && e.group != nil {
		return append([]*Process(nil), e.group.members...)
	}
	return nil
}

// SignalGroup sends info to every member of a process group, without asking for
// permission (terminals); ESRCH when there is no such group.
func (k *Kernel) SignalGroup(pgid int32, info *signal.Info) error {
	ps := k.groupMembers(pgid)
	if ps == nil {
		return unix.ESRCH
	}
	for _, p := range ps {
		p.send(info)
	}
	return nil
}

// Tgkill is tgkill(2) and, with tgid 0, tkill(2): ESRCH, EPERM, EINVAL, EAGAIN.
func (t *Task) Tgkill(tgid, tid int32, sig unix.Signal) error {
	if sig < 0 || sig > signal.Max || tid <= 0 || tgid < 0 {
		return unix.EINVAL
	}
	info := t.userInfo(sig, signal.TKill)
	return t.toThread(tgid, tid, sig, &info)
}

func (t *Task) toThread(tgid, tid int32, sig unix.Signal, info *signal.Info) error {
	to := t
	if tid != t.TID() {
		to = t.k.Task(tid)
	}
	if to == nil || tgid != 0 && to.PID() != tgid {
		return unix.ESRCH
	}
	if !t.mayKill(to.proc, sig) {
		return unix.EPERM
	}
	if sig == 0 {
		return nil
	}
	return to.proc.sendFrom(t, to, info)
}

// QueueInfo is rt_sigqueueinfo(2) and TgQueueInfo rt_tgsigqueueinfo(2): EPERM when the information claims to come
// from the kernel or from kill and is sent to somebody else.
func (t *Task) QueueInfo(pid int32, sig unix.Signal, info *signal.Info) error {
	if err := t.checkInfo(pid, sig, info); err != nil {
		return err
	}
	if pid <= 0 {
		return unix.ESRCH
	}
	return t.killInfo(pid, sig, info)
}

// TgQueueInfo sends to a thread; see QueueInfo.
func (t *Task) TgQueueInfo(tgid, tid int32, sig unix.Signal, info *signal.Info) error {
	if tgid <= 0 || tid <= 0 {
		return unix.EINVAL
	}
	if err := t.checkInfo(tgid, sig, info); err != nil {
		return err
	}
	return t.toThread(tgid, tid, sig, info)
}

func (t *Task) checkInfo(pid int32, sig unix.Signal, info *signal.Info) error {
	if sig < 0 || sig > signal.Max {
		return unix.EINVAL
	}
	if (info.Code() >= 0 || info.Code() == signal.TKill) && pid != t.PID() {
		return unix.EPERM
	}
	info.SetHead(sig, int32(le.Uint32(info[4:])), info.Code())
	return nil
}
