package task

import "golang.org/x/sys/unix"

// Scheduling policies (sched(7)).
const (
	SchedNormal   = 0
	SchedFIFO     = 1
	SchedRR       = 2
	SchedBatch    = 3
	SchedIdle     = 5
	SchedDeadline = 6
)

// sched is what a thread has asked of the scheduler: for the affinity see place, for the rest turns. Guarded by proc.mu.
type sched struct {
	policy      int32
	priority    int32 // of SCHED_FIFO and SCHED_RR
	nice        int32
	resetOnFork bool
	affinity    CPUSet
}

// CPUSet is a set of processors, one bit each.
type CPUSet [4]uint64

// AllCPUs returns the set of the first n processors.
func AllCPUs(n int) (s CPUSet) {
	for i := range min(n, len(s)*64) {
		s[i/64] |= 1 << (i % 64)
	}
	return s
}

func (s *sched) init(k *Kernel) { s.affinity = AllCPUs(k.Machine.CPUs()) }

func (s *sched) clone() sched {
	n := *s
	if s.resetOnFork {
		n.resetOnFork = false
		if s.realTime() {
			n.policy, n.priority, n.nice = SchedNormal, 0, 0
		}
		n.nice = max(n.nice, 0)
	}
	return n
}

// find returns the thread with the given ID, t for 0; ESRCH.
func (t *Task) find(tid int32) (*Task, error) {
	if tid == 0 || tid == t.TID() {
		return t, nil
	}
	if tid < 0 {
		return nil, unix.EINVAL
	}
	if o := t.k.Task(tid); o != nil {
		return o, nil
	}
	return nil, unix.ESRCH
}

// mayChange is the rule of sched_setscheduler(2): the same user or CAP_SYS_NICE.
func (t *Task) mayChange(o *Task) bool {
	c, d := t.Cred(), o.Cred()
	return c.EUID == d.EUID || c.EUID == d.UID || c.CapableIn(d.User, unix.CAP_SYS_NICE)
}

// Affinity is sched_getaffinity(2): ESRCH, EINVAL.
func (t *Task) Affinity(tid int32) (CPUSet, error) {
	if tid < 0 {
		return CPUSet{}, unix.ESRCH
	}
	o, err := t.find(tid)
	if err != nil {
		return CPUSet{}, err
	}
	o.proc.mu.Lock()
	defer o.proc.mu.Unlock()
	return o.sched.affinity, nil
}

// SetAffinity is sched_setaffinity(2): EINVAL when no processor is left, ESRCH, EPERM.
func (t *Task) SetAffinity(tid int32, set CPUSet) error {
	if tid < 0 {
		return unix.ESRCH
	}
	o, err := t.find(tid)
	if err != nil {
		return err
	}
	if !t.mayChange(o) {
		return unix.EPERM
	}
	all := AllCPUs(t.k.Machine.CPUs())
	any := false
	for i := range set {
		set[i] &= all[i]
		any = any || set[i] != 0
	}
	if !any {
		return unix.EINVAL
	}
	o.proc.mu.Lock()
	defer o.proc.mu.Unlock()
	o.sched.affinity = set
	if !o.exiting {
		o.ask(workPlace)
		t.k.turns.changed(o)
	}
	return nil
}

// PriorityRange is sched_get_priority_min(2) and _max(2): EINVAL.
func PriorityRange(policy int32) (low, high int32, err error) {
	switch policy {
	case SchedFIFO, SchedRR:
		return 1, 99, nil
	case SchedNormal, SchedBatch, SchedIdle, SchedDeadline:
		return 0, 0, nil
	}
	return 0, 0, unix.EINVAL
}

// Scheduler is sched_getscheduler(2) and sched_getparam(2), with the nice value.
func (t *Task) Scheduler(tid int32) (policy, priority, nice int32, resetOnFork bool, err error) {
	o, err := t.find(tid)
	if err != nil {
		return 0, 0, 0, false, err
	}
	o.proc.mu.Lock()
	defer o.proc.mu.Unlock()
	s := &o.sched
	return s.policy, s.priority, s.nice, s.resetOnFork, nil
}

// RealTimePriority returns the real-time priority that t runs with, its own or that of who waits for its PI futexes; 0 for none.
func (t *Task) RealTimePriority() int32 { return t.pi.Priority() }

// SetScheduler is sched_setscheduler(2); policy -1 keeps the policy (sched_setparam(2)). EINVAL, ESRCH, EPERM.
func (t *Task) SetScheduler(tid, policy, priority int32, resetOnFork bool) error {
	o, err := t.find(tid)
	if err != nil {
		return err
	}
	o.proc.mu.Lock()
	old := o.sched
	limit := o.proc.limits[rlimitRtprio].Cur
	o.proc.mu.Unlock()
	if policy < 0 {
		policy, resetOnFork = old.policy, old.resetOnFork
	}
	low, high, err := PriorityRange(policy)
	if err != nil || policy == SchedDeadline || priority < low || priority > high {
		return unix.EINVAL
	}
	if !t.Cred().Capable(unix.CAP_SYS_NICE) && (!t.mayChange(o) || priority > old.priority && uint64(priority) > limit) {
		return unix.EPERM
	}
	o.proc.mu.Lock()
	o.sched.policy, o.sched.priority, o.sched.resetOnFork = policy, priority, resetOnFork
	if !o.exiting {
		t.k.turns.changed(o)
	}
	o.proc.mu.Unlock()
	t.k.turns.settle()
	return nil
}

// priorityTargets finds whom getpriority(2) is about: PRIO_PROCESS (0), PRIO_PGRP (1), PRIO_USER (2). EINVAL, ESRCH.
func (t *Task) priorityTargets(which int, who int32) ([]*Task, error) {
	var ts []*Task
	switch which {
	case unix.PRIO_PROCESS:
		o, err := t.find(who)
		if err != nil {
			return nil, unix.ESRCH
		}
		return []*Task{o}, nil
	case unix.PRIO_PGRP:
		if who == 0 {
			who = t.proc.PGID()
		}
		for _, p := range t.k.groupMembers(who) {
			ts = append(ts, p.Threads()...)
		}
	case unix.PRIO_USER:
		uid := uint32(who)
		if who == 0 {
			uid = t.Cred().UID
		}
		for _, p := range t.k.Processes() {
			if p.Cred().UID == uid {
				ts = append(ts, p.Threads()...)
			}
		}
	default:
		return nil, unix.EINVAL
	}
	if len(ts) == 0 {
		return nil, unix.ESRCH
	}
	return ts, nil
}

// Priority is getpriority(2): the lowest nice value.
func (t *Task) Priority(which int, who int32) (nice int32, err error) {
	ts, err := t.priorityTargets(which, who)
	if err != nil {
		return 0, err
	}
	nice = 19
	for _, o := range ts {
		o.proc.mu.Lock()
		nice = min(nice, o.sched.nice)
		o.proc.mu.Unlock()
	}
	return nice, nil
}

// SetPriority is setpriority(2): EINVAL, ESRCH, EPERM, EACCES.
func (t *Task) SetPriority(which int, who, nice int32) error {
	ts, err := t.priorityTargets(which, who)
	if err != nil {
		return err
	}
	nice = max(-20, min(nice, 19))
	for _, o := range ts {
		if e := t.setNice(o, nice); e != nil {
			err = e
		}
	}
	t.k.turns.settle()
	return err
}

func (t *Task) setNice(o *Task, nice int32) error {
	if !t.mayChange(o) {
		return unix.EPERM
	}
	o.proc.mu.Lock()
	defer o.proc.mu.Unlock()
	if nice < o.sched.nice && uint64(20-nice) > o.proc.limits[rlimitNice].Cur && !t.Cred().Capable(unix.CAP_SYS_NICE) {
		return unix.EACCES
	}
	o.sched.nice = nice
	if !o.exiting {
		t.k.turns.changed(o)
	}
	return nil
}

// ioNone is the I/O priority of a thread that has set none: as its nice value says, in the class best-effort.
const ioNone = 2<<13 | 4

// IOPriority is ioprio_get(2), with which as of getpriority(2): the highest. EINVAL, ESRCH.
func (t *Task) IOPriority(which, who int32) (int32, error) {
	ts, err := t.priorityTargets(int(which), who)
	if err != nil {
		return 0, err
	}
	best := int32(0)
	for _, o := range ts {
		o.proc.mu.Lock()
		v := o.attr.ioPriority
		o.proc.mu.Unlock()
		if v == 0 && len(ts) > 1 {
			v = ioNone
		}
		if best == 0 || v < best {
			best = v
		}
	}
	return best, nil
}

// SetIOPriority is ioprio_set(2): EINVAL, ESRCH, EPERM.
func (t *Task) SetIOPriority(which, who, v int32) error {
	ts, err := t.priorityTargets(int(which), who)
	if err != nil {
		return err
	}
	for _, o := range ts {
		if !t.mayChange(o) {
			return unix.EPERM
		}
		o.proc.mu.Lock()
		o.attr.ioPriority = v
		o.proc.mu.Unlock()
	}
	return nil
}
