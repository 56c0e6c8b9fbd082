package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/signal"
	"gosv/kernel/task"
)

func sigRows(r *table) {
	r.set(unix.SYS_RT_SIGACTION, call4("rt_sigaction", aSignal, inOpt(lSigAction), out(lSigAction), aSize, sysSigaction))
	r.set(unix.SYS_RT_SIGPROCMASK, call4("rt_sigprocmask", choice("how", sigmaskHow), inOpt(lSigset), out(lSigset), aSize, sysSigprocmask))
	r.set(unix.SYS_RT_SIGPENDING, call2("rt_sigpending", out(lSigset), aSize, func(t *task.Task, to dest[uint64], size uint64) (uint64, error) {
		if size > abi.SigSetSize {
			return 0, unix.EINVAL
		}
		return done(to.put(t, uint64(t.Sigpending())))
	}))
	r.set(unix.SYS_RT_SIGSUSPEND, call2("rt_sigsuspend", in(lSigset), aSize, func(t *task.Task, set, size uint64) (uint64, error) {
		if size != abi.SigSetSize {
			return 0, unix.EINVAL
		}
		return done(t.Sigsuspend(signal.Set(set)))
	}))
	r.set(unix.SYS_RT_SIGTIMEDWAIT, call4("rt_sigtimedwait", in(lSigset), out(lSigInfo), inOpt(lTimespec), aSize, sysSigtimedwait))
	r.set(unix.SYS_RT_SIGRETURN, call0("rt_sigreturn", func(t *task.Task) (uint64, error) { return t.Sigreturn(), nil }))
	r.set(unix.SYS_RT_SIGQUEUEINFO, call3("rt_sigqueueinfo", aPID, aSignal, in(lSigInfo), func(t *task.Task, pid int32, sig unix.Signal, info abi.SigInfo) (uint64, error) {
		return done(t.QueueInfo(pid, sig, withSigno(&info, sig)))
	}))
	r.set(unix.SYS_RT_TGSIGQUEUEINFO, call4("rt_tgsigqueueinfo", aPID, aPID, aSignal, in(lSigInfo), func(t *task.Task, tgid, tid int32, sig unix.Signal, info abi.SigInfo) (uint64, error) {
		return done(t.TgQueueInfo(tgid, tid, sig, withSigno(&info, sig)))
	}))
	r.set(unix.SYS_SIGALTSTACK, call2("sigaltstack", inOpt(lStackT), out(lStackT), sysSigaltstack))
	r.set(unix.SYS_KILL, call2("kill", aPID, aSignal, func(t *task.Task, pid int32, sig unix.Signal) (uint64, error) { return done(t.Kill(pid, sig)) }))
	r.set(unix.SYS_TKILL, call2("tkill", aPID, aSignal, func(t *task.Task, tid int32, sig unix.Signal) (uint64, error) {
		if tid <= 0 {
			return 0, unix.EINVAL
		}
		return done(t.Tgkill(0, tid, sig))
	}))
	r.set(unix.SYS_TGKILL, call3("tgkill", aPID, aPID, aSignal, sysTgkill))
	r.set(unix.SYS_PAUSE, call0("pause", func(t *task.Task) (uint64, error) { return done(t.Pause()) }))
	r.set(unix.SYS_RESTART_SYSCALL, call0("restart_syscall", func(t *task.Task) (uint64, error) { return t.RestartSyscall() }))
}

func sysTgkill(t *task.Task, tgid, tid int32, sig unix.Signal) (uint64, error) {
	if tgid <= 0 || tid <= 0 {
		return 0, unix.EINVAL
	}
	return done(t.Tgkill(tgid, tid, sig))
}

// withSigno makes the number in a program's own siginfo the real one.
func withSigno(info *abi.SigInfo, sig unix.Signal) *abi.SigInfo {
	le.PutUint32(info[:], uint32(sig))
	return info
}

func sysSigaction(t *task.Task, sig unix.Signal, set opt[abi.SigAction], old dest[abi.SigAction], size uint64) (uint64, error) {
	if size != abi.SigSetSize {
		return 0, unix.EINVAL
	}
	var to *abi.SigAction
	if set.ok {
		to = &set.v
	}
	was, err := t.Sigaction(sig, to)
	if err != nil {
		return 0, err
	}
	return done(old.putOpt(t, was))
}

func sysSigprocmask(t *task.Task, how int32, set opt[uint64], old dest[uint64], size uint64) (uint64, error) {
	if size != abi.SigSetSize {
		return 0, unix.EINVAL
	}
	was := uint64(t.Mask())
	if set.ok {
		if err := t.Procmask(how, signal.Set(set.v)); err != nil {
			return 0, err
		}
	}
	return done(old.putOpt(t, was))
}

func sysSigtimedwait(t *task.Task, set uint64, to dest[abi.SigInfo], timeout opt[unix.Timespec], size uint64) (uint64, error) {
	if size != abi.SigSetSize {
		return 0, unix.EINVAL
	}
	deadline, poll, err := deadlineOf(t, timeout)
	if err != nil {
		return 0, err
	}
	info, err := t.Sigtimedwait(signal.Set(set), deadline, poll)
	if err != nil {
		return 0, err
	}
	return uint64(info.Signo()), to.putOpt(t, *info)
}

// deadlineOf turns a relative timeout into a monotonic deadline, 0 for none; now says that it
// is not to wait at all. EINVAL.
func deadlineOf(t *task.Task, timeout opt[unix.Timespec]) (deadline int64, now bool, err error) {
	if !timeout.ok {
		return 0, false, nil
	}
	if !abi.ValidTimespec(timeout.v) {
		return 0, false, unix.EINVAL
	}
	ns := abi.TimespecToNsec(timeout.v)
	return t.Kernel().Clock.After(ns), ns == 0, nil
}

func sysSigaltstack(t *task.Task, set opt[abi.StackT], old dest[abi.StackT]) (uint64, error) {
	var to *abi.StackT
	if set.ok {
		to = &set.v
	}
	was, err := t.Sigaltstack(to)
	if err != nil {
		return 0, err
	}
	return done(old.putOpt(t, was))
}
