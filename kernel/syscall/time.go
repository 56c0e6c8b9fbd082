package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/clock"
	"gosv/kernel/task"
)

func timeRows(r *table) {
	aClock := choice("clock", clockNames)
	r.set(unix.SYS_CLOCK_GETTIME, call2("clock_gettime", aClock, out(lTimespec), sysClockGettime))
	r.set(unix.SYS_CLOCK_GETRES, call2("clock_getres", aClock, out(lTimespec), func(t *task.Task, id int32, to dest[unix.Timespec]) (uint64, error) {
		ns, err := t.ClockResolution(id)
		if err != nil {
			return 0, err
		}
		return done(to.putOpt(t, abi.NsecToTimespec(ns)))
	}))
	r.set(unix.SYS_CLOCK_SETTIME, call2("clock_settime", aClock, in(lTimespec), func(t *task.Task, id int32, ts unix.Timespec) (uint64, error) {
		if id != unix.CLOCK_REALTIME || !abi.ValidTimespec(ts) {
			return 0, unix.EINVAL
		}
		return setClock(t, abi.TimespecToNsec(ts))
	}))
	r.set(unix.SYS_CLOCK_NANOSLEEP, call4("clock_nanosleep", aClock, flags("flags", 1<<32-1, timerNames), in(lTimespec), out(lTimespec), sysClockNanosleep))
	r.set(unix.SYS_NANOSLEEP, call2("nanosleep", in(lTimespec), out(lTimespec), func(t *task.Task, ts unix.Timespec, rest dest[unix.Timespec]) (uint64, error) {
		if !abi.ValidTimespec(ts) {
			return 0, unix.EINVAL
		}
		return sleep(t, t.Kernel().Clock.After(abi.TimespecToNsec(ts)), rest)
	}))
	r.set(unix.SYS_GETTIMEOFDAY, call2("gettimeofday", out(lTimeval), out(lUint64), func(t *task.Task, to dest[unix.Timeval], zone dest[uint64]) (uint64, error) {
		if err := to.putOpt(t, abi.NsecToTimeval(t.Kernel().Clock.Wall())); err != nil {
			return 0, err
		}
		return done(zone.putOpt(t, 0))
	}))
	r.set(unix.SYS_SETTIMEOFDAY, call2("settimeofday", inOpt(lTimeval), inOpt(lUint64), func(t *task.Task, tv opt[unix.Timeval], _ opt[uint64]) (uint64, error) {
		if !tv.ok {
			return 0, nil // the time zone is the programs' own business
		}
		if !abi.ValidTimeval(tv.v) {
			return 0, unix.EINVAL
		}
		return setClock(t, abi.TimevalToNsec(tv.v))
	}))
	r.set(unix.SYS_TIME, call1("time", out(lInt64), func(t *task.Task, to dest[int64]) (uint64, error) {
		s := t.Kernel().Clock.Wall() / 1e9
		return uint64(s), to.putOpt(t, s)
	}))
	r.set(unix.SYS_ALARM, call1("alarm", aUint, sysAlarm))
	r.set(unix.SYS_SETITIMER, call3("setitimer", choice("which", itimerNames), inOpt(lItimerval), out(lItimerval), sysSetitimer))
	r.set(unix.SYS_GETITIMER, call2("getitimer", choice("which", itimerNames), out(lItimerval), func(t *task.Task, which int32, to dest[unix.Itimerval]) (uint64, error) {
		v, i, err := t.Getitimer(int(which))
		if err != nil {
			return 0, err
		}
		return done(to.put(t, unix.Itimerval{Interval: abi.NsecToTimeval(i), Value: abi.NsecToTimeval(v)}))
	}))
	r.set(unix.SYS_TIMER_CREATE, call3("timer_create", aClock, inOpt(lSigEvent), out(lInt32), sysTimerCreate))
	r.set(unix.SYS_TIMER_SETTIME, call4("timer_settime", aInt, flags("flags", 1<<32-1, timerNames), in(lItimerspec), out(lItimerspec), sysTimerSettime))
	r.set(unix.SYS_TIMER_GETTIME, call2("timer_gettime", aInt, out(lItimerspec), func(t *task.Task, id int32, to dest[abi.Itimerspec]) (uint64, error) {
		v, i, err := t.TimerGettime(id)
		if err != nil {
			return 0, err
		}
		return done(to.put(t, itimerspec(v, i)))
	}))
	r.set(unix.SYS_TIMER_GETOVERRUN, call1("timer_getoverrun", aInt, func(t *task.Task, id int32) (uint64, error) { return value(t.Process().TimerGetoverrun(id)) }))
	r.set(unix.SYS_TIMER_DELETE, call1("timer_delete", aInt, func(t *task.Task, id int32) (uint64, error) { return done(t.Process().TimerDelete(id)) }))
}

func sysClockGettime(t *task.Task, id int32, to dest[unix.Timespec]) (uint64, error) {
	ns, err := t.ClockRead(id)
	if err != nil {
		return 0, err
	}
	return done(to.put(t, abi.NsecToTimespec(ns)))
}

func itimerspec(value, interval int64) abi.Itimerspec {
	return abi.Itimerspec{Interval: abi.NsecToTimespec(interval), Value: abi.NsecToTimespec(value)}
}

func setClock(t *task.Task, ns int64) (uint64, error) {
	if !t.Cred().Capable(unix.CAP_SYS_TIME) {
		return 0, unix.EPERM
	}
	t.Kernel().Clock.SetWall(ns)
	return 0, nil
}

// sleep sleeps until a monotonic time. After a signal it tells what is left, and the
// call goes on when no handler ran (restart_syscall(2)).
func sleep(t *task.Task, deadline int64, rest dest[unix.Timespec]) (uint64, error) {
	if err := t.Sleep(deadline); err == nil {
		return 0, nil
	}
	left := max(deadline-t.Kernel().Clock.Now(), 0)
	if err := rest.putOpt(t, abi.NsecToTimespec(left)); err != nil {
		return 0, err
	}
	return 0, t.SetRestart(func(t *task.Task) (uint64, error) { return sleep(t, deadline, rest) })
}

func sysClockNanosleep(t *task.Task, id int32, flags uint32, ts unix.Timespec, rest dest[unix.Timespec]) (uint64, error) {
	wall, err := clock.Base(id)
	if err != nil {
		return 0, err
	}
	if !abi.ValidTimespec(ts) {
		return 0, unix.EINVAL
	}
	ns := abi.TimespecToNsec(ts)
	if flags&unix.TIMER_ABSTIME == 0 {
		return sleep(t, t.Kernel().Clock.After(ns), rest)
	}
	if wall {
		err = t.SleepWall(ns)
	} else {
		err = t.Sleep(t.MachineTime(id, ns))
	}
	if err != nil {
		err = abi.ERESTARTNOHAND
	}
	return 0, err
}

func sysAlarm(t *task.Task, seconds uint32) (uint64, error) {
	old, _, err := t.Setitimer(0, int64(seconds)*1e9, 0)
	if err != nil {
		return 0, err
	}
	// Rounded to the nearest second, but never to none.
	if old > 0 && old < 1e9 {
		return 1, nil
	}
	return uint64((old + 5e8) / 1e9), nil
}

func sysSetitimer(t *task.Task, which int32, set opt[unix.Itimerval], old dest[unix.Itimerval]) (uint64, error) {
	if !abi.ValidTimeval(set.v.Value) || !abi.ValidTimeval(set.v.Interval) {
		return 0, unix.EINVAL
	}
	v, i, err := t.Setitimer(int(which), abi.TimevalToNsec(set.v.Value), abi.TimevalToNsec(set.v.Interval))
	if err != nil {
		return 0, err
	}
	return done(old.putOpt(t, unix.Itimerval{Interval: abi.NsecToTimeval(i), Value: abi.NsecToTimeval(v)}))
}

func sysTimerCreate(t *task.Task, id int32, ev opt[abi.SigEvent], to dest[int32]) (uint64, error) {
	var e *abi.SigEvent
	if ev.ok {
		e = &ev.v
	}
	timer, err := t.TimerCreate(id, e)
	if err != nil {
		return 0, err
	}
	if err := to.put(t, timer); err != nil {
		t.Process().TimerDelete(timer)
		return 0, err
	}
	return 0, nil
}

func sysTimerSettime(t *task.Task, id int32, flags uint32, set abi.Itimerspec, old dest[abi.Itimerspec]) (uint64, error) {
	if !abi.ValidTimespec(set.Value) || !abi.ValidTimespec(set.Interval) {
		return 0, unix.EINVAL
	}
	v, i, err := t.TimerSettime(id, abi.TimespecToNsec(set.Value), abi.TimespecToNsec(set.Interval), flags&unix.TIMER_ABSTIME != 0)
	if err != nil {
		return 0, err
	}
	return done(old.putOpt(t, itimerspec(v, i)))
}
