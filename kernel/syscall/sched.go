package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/task"
)

// schedResetOnFork is SCHED_RESET_ON_FORK.
const schedResetOnFork = 0x40000000

func schedRows(r *table) {
	aWhich := choice("which", []flagName{{unix.PRIO_PROCESS, "PRIO_PROCESS"}, {unix.PRIO_PGRP, "PRIO_PGRP"}, {unix.PRIO_USER, "PRIO_USER"}})
	aPolicy := choice("policy", []flagName{{task.SchedNormal, "SCHED_OTHER"}, {task.SchedFIFO, "SCHED_FIFO"}, {task.SchedRR, "SCHED_RR"},
		{task.SchedBatch, "SCHED_BATCH"}, {task.SchedIdle, "SCHED_IDLE"}, {task.SchedDeadline, "SCHED_DEADLINE"}})
	r.set(unix.SYS_SCHED_YIELD, call0("sched_yield", func(t *task.Task) (uint64, error) { t.Yield(); return 0, nil }))
	r.set(unix.SYS_SCHED_GETAFFINITY, call3("sched_getaffinity", aPID, aSize, aAddr, sysGetaffinity))
	r.set(unix.SYS_SCHED_SETAFFINITY, call3("sched_setaffinity", aPID, aSize, aAddr, sysSetaffinity))
	r.set(unix.SYS_GETPRIORITY, call2("getpriority", aWhich, aWhoID, func(t *task.Task, which, who int32) (uint64, error) {
		nice, err := t.Priority(int(which), whom(t, which, who))
		return value(20-nice, err)
	}))
	r.set(unix.SYS_SETPRIORITY, call3("setpriority", aWhich, aWhoID, aInt, func(t *task.Task, which, who, nice int32) (uint64, error) {
		return done(t.SetPriority(int(which), whom(t, which, who), nice))
	}))
	r.set(unix.SYS_SCHED_GETSCHEDULER, call1("sched_getscheduler", aPID, func(t *task.Task, pid int32) (uint64, error) {
		policy, _, _, reset, err := t.Scheduler(pid)
		if reset {
			policy |= schedResetOnFork
		}
		return value(policy, err)
	}))
	r.set(unix.SYS_SCHED_SETSCHEDULER, call3("sched_setscheduler", aPID, aPolicy, inOpt(lInt32), func(t *task.Task, pid, policy int32, priority opt[int32]) (uint64, error) {
		if policy < 0 || !priority.ok {
			return 0, unix.EINVAL
		}
		return done(t.SetScheduler(pid, policy&^schedResetOnFork, priority.v, policy&schedResetOnFork != 0))
	}))
	r.set(unix.SYS_SCHED_GETPARAM, call2("sched_getparam", aPID, out(lInt32), func(t *task.Task, pid int32, to dest[int32]) (uint64, error) {
		if to.Addr == 0 {
			return 0, unix.EINVAL
		}
		_, priority, _, _, err := t.Scheduler(pid)
		if err != nil {
			return 0, err
		}
		return done(to.put(t, priority))
	}))
	r.set(unix.SYS_SCHED_SETPARAM, call2("sched_setparam", aPID, inOpt(lInt32), func(t *task.Task, pid int32, priority opt[int32]) (uint64, error) {
		if !priority.ok {
			return 0, unix.EINVAL
		}
		return done(t.SetScheduler(pid, -1, priority.v, false))
	}))
	r.set(unix.SYS_SCHED_GETATTR, call4("sched_getattr", aPID, aAddr, aUint, flags("flags", 0, nil), sysGetattr))
	r.set(unix.SYS_SCHED_SETATTR, call3("sched_setattr", aPID, aAddr, flags("flags", 0, nil), sysSetattr).partly("SCHED_DEADLINE is never admitted: EBUSY"))
	priority := func(pick func(low, high int32) int32) func(*task.Task, int32) (uint64, error) {
		return func(_ *task.Task, policy int32) (uint64, error) {
			low, high, err := task.PriorityRange(policy)
			return value(pick(low, high), err)
		}
	}
	r.set(unix.SYS_SCHED_GET_PRIORITY_MAX, call1("sched_get_priority_max", aPolicy, priority(func(_, high int32) int32 { return high })))
	r.set(unix.SYS_SCHED_GET_PRIORITY_MIN, call1("sched_get_priority_min", aPolicy, priority(func(low, _ int32) int32 { return low })))
	r.set(unix.SYS_SCHED_RR_GET_INTERVAL, call2("sched_rr_get_interval", aPID, out(lTimespec), func(t *task.Task, pid int32, to dest[unix.Timespec]) (uint64, error) {
		policy, _, _, _, err := t.Scheduler(pid)
		if err != nil {
			return 0, err
		}
		slice := int64(4e6) // a tick
		switch policy {
		case task.SchedFIFO:
			slice = 0
		case task.SchedRR:
			_, _, slice = t.Kernel().RealTime()
		}
		return done(to.put(t, unix.NsecToTimespec(slice)))
	}))
}

func sysGetaffinity(t *task.Task, tid int32, size, addr uint64) (uint64, error) {
	cpus := t.Kernel().Machine.CPUs()
	if size*8 < uint64(cpus) || size&7 != 0 {
		return 0, unix.EINVAL
	}
	set, err := t.Affinity(tid)
	if err != nil {
		return 0, err
	}
	n := min(size, uint64(cpus+63)/64*8, uint64(len(set)*8))
	b := t.Scratch[:len(set)*8]
	for i, w := range set {
		le.PutUint64(b[8*i:], w)
	}
	return n, copyOut(t, addr, b[:n])
}

func sysSetaffinity(t *task.Task, tid int32, size, addr uint64) (uint64, error) {
	var set task.CPUSet
	b := t.Scratch[:len(set)*8]
	clear(b)
	if err := copyIn(t, b[:min(size, uint64(len(b)))], addr); err != nil {
		return 0, err
	}
	for i := range set {
		set[i] = le.Uint64(b[8*i:])
	}
	return done(t.SetAffinity(tid, set))
}

// sizeofAttr0 is SCHED_ATTR_SIZE_VER0.
const sizeofAttr0 = 48

func sysGetattr(t *task.Task, tid int32, addr uint64, size, _ uint32) (uint64, error) {
	if addr == 0 || size < sizeofAttr0 || size > 4096 || tid < 0 {
		return 0, unix.EINVAL
	}
	policy, priority, nice, reset, err := t.Scheduler(tid)
	if err != nil {
		return 0, err
	}
	n := min(size, abi.SizeofSchedAttr)
	b := t.Scratch[:abi.SizeofSchedAttr]
	abi.PutSchedAttr(b, unix.SchedAttr{
		Size: n, Policy: uint32(policy), Nice: nice, Priority: uint32(priority), Flags: bit(reset) * unix.SCHED_FLAG_RESET_ON_FORK,
		Util_max: 1024,
	})
	return done(copyOut(t, addr, b[:n]))
}

func sysSetattr(t *task.Task, tid int32, addr uint64, _ uint32) (uint64, error) {
	if addr == 0 || tid < 0 {
		return 0, unix.EINVAL
	}
	size, err := lUint32.load(t, addr)
	if err != nil {
		return 0, err
	}
	if size == 0 {
		size = sizeofAttr0
	}
	if size < sizeofAttr0 {
		_ = lUint32.store(t, addr, abi.SizeofSchedAttr) // what would be right, as Linux tells
		return 0, unix.E2BIG
	}
	var b [abi.SizeofSchedAttr]byte
	if err := extensible(t, b[:], addr, uint64(size)); err != nil {
		return 0, err
	}
	a := abi.GetSchedAttr(b[:])
	if a.Flags&^unix.SCHED_FLAG_RESET_ON_FORK != 0 || int32(a.Policy) < 0 {
		return 0, unix.EINVAL
	}
	if a.Policy == task.SchedDeadline {
		return 0, deadlineError(t, tid, &a)
	}
	if err := t.SetScheduler(tid, int32(a.Policy), int32(a.Priority), a.Flags != 0); err != nil {
		return 0, err
	}
	if a.Policy == task.SchedNormal || a.Policy == task.SchedBatch {
		return done(t.SetPriority(unix.PRIO_PROCESS, tid, a.Nice))
	}
	return 0, nil
}

// whom is who of getpriority(2) and its like as the kernel knows it.
func whom(t *task.Task, which, who int32) int32 {
	if which == unix.PRIO_USER {
		if who == 0 {
			return 0
		}
		return int32(t.Cred().User.RealUID(uint32(who)))
	}
	return t.Process().PIDs().Argument(who)
}

// deadlineError is what sched_setattr(2) says to SCHED_DEADLINE, which finds all processors taken: EINVAL, ESRCH, EPERM, or EBUSY.
func deadlineError(t *task.Task, tid int32, a *unix.SchedAttr) error {
	const least = 1024 // ns
	period := a.Period
	if period == 0 {
		period = a.Deadline
	}
	if a.Runtime < least || a.Runtime > a.Deadline || a.Deadline > period || (a.Deadline|period)>>63 != 0 {
		return unix.EINVAL
	}
	if _, _, _, _, err := t.Scheduler(tid); err != nil {
		return err
	}
	if !t.Cred().Capable(unix.CAP_SYS_NICE) {
		return unix.EPERM
	}
	return unix.EBUSY
}
