package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/cred"
	"gosv/kernel/namespace"
	"gosv/kernel/task"
	"gosv/machine"
)

// tidIn is the number that glibc's and musl's pthreads begin with; nothing to do with clone's.
func procRows(r *table) {
	aWaitOptions := flags("options", unix.WNOHANG|unix.WUNTRACED|unix.WCONTINUED|unix.WNOTHREAD&0xffffffff|unix.WALL|unix.WCLONE&0xffffffff, waitNames)
	r.set(unix.SYS_CLONE, call5("clone", aUlong.as(show("clone flags", showClone)), aAddr, aAddr, aAddr, aAddr, sysClone))
	r.set(unix.SYS_CLONE3, call2("clone3", aAddr, aSize, sysClone3).partly("no cgroups (CLONE_INTO_CGROUP)"))
	r.set(unix.SYS_KCMP, call5("kcmp", aPID, aPID, choice("type", kcmpNames), aUlong, aUlong, sysKcmp).partly("no order among what differs, no KCMP_EPOLL_TFD"))
	r.set(unix.SYS_FORK, call0("fork", func(t *task.Task) (uint64, error) { return value(t.Clone(&task.CloneArgs{ExitSignal: unix.SIGCHLD})) }))
	r.set(unix.SYS_VFORK, call0("vfork", func(t *task.Task) (uint64, error) {
		return value(t.Clone(&task.CloneArgs{Flags: unix.CLONE_VM | unix.CLONE_VFORK, ExitSignal: unix.SIGCHLD}))
	}))
	r.set(unix.SYS_EXIT, call1("exit", aInt, func(t *task.Task, status int32) (uint64, error) { t.Exit(status); return 0, nil }).ends())
	r.set(unix.SYS_EXIT_GROUP, call1("exit_group", aInt, func(t *task.Task, status int32) (uint64, error) { t.ExitGroup(status); return 0, nil }).ends())
	r.set(unix.SYS_WAIT4, call4("wait4", aPID, out(lInt32), aWaitOptions, out(lRusage), sysWait4))
	r.set(unix.SYS_WAITID, call5("waitid", choice("id type", idTypeNames), aWhoID, out(lSigInfo),
		flags("options", unix.WNOHANG|unix.WEXITED|unix.WSTOPPED|unix.WCONTINUED|unix.WNOWAIT|unix.WNOTHREAD&0xffffffff|unix.WALL|unix.WCLONE&0xffffffff, waitNames),
		out(lRusage), sysWaitid))
	r.set(unix.SYS_GETPID, call0("getpid", func(t *task.Task) (uint64, error) { return uint64(t.Process().Own()), nil }))
	r.set(unix.SYS_GETTID, call0("gettid", func(t *task.Task) (uint64, error) { return uint64(t.OwnTID()), nil }))
	r.set(unix.SYS_GETPPID, call0("getppid", func(t *task.Task) (uint64, error) { return uint64(t.Number(t.Process().PPID())), nil }))
	r.set(unix.SYS_GETPGRP, call0("getpgrp", func(t *task.Task) (uint64, error) { return uint64(t.Number(t.Process().PGID())), nil }))
	r.set(unix.SYS_GETPGID, call1("getpgid", aPID, func(t *task.Task, pid int32) (uint64, error) {
		return ofProcess(t, pid, (*task.Process).PGID)
	}))
	r.set(unix.SYS_GETSID, call1("getsid", aPID, func(t *task.Task, pid int32) (uint64, error) {
		return ofProcess(t, pid, (*task.Process).SID)
	}))
	r.set(unix.SYS_SETPGID, call2("setpgid", aPID, aPID, func(t *task.Task, pid, pgid int32) (uint64, error) { return done(t.Setpgid(pid, pgid)) }))
	r.set(unix.SYS_SETSID, call0("setsid", func(t *task.Task) (uint64, error) { sid, err := t.Setsid(); return value(t.Number(sid), err) }))
	r.set(unix.SYS_SET_TID_ADDRESS, call1("set_tid_address", aAddr, func(t *task.Task, addr uint64) (uint64, error) {
		t.SetClearTID(addr)
		return uint64(t.OwnTID()), nil
	}))
	r.set(unix.SYS_UNSHARE, call1("unshare", flags("flags", 1<<32-1, cloneNames), func(t *task.Task, flags uint32) (uint64, error) { return done(t.Unshare(uint64(flags))) }))
	r.set(unix.SYS_SETNS, call2("setns", aFD, flags("type", 1<<32-1, cloneNames), sysSetns))
	r.set(unix.SYS_ARCH_PRCTL, call2("arch_prctl", choice("code", archNames), aAddr, sysArchPrctl))
	r.set(unix.SYS_PERSONALITY, call1("personality", aUint, sysPersonality).partly("only ADDR_NO_RANDOMIZE has an effect"))
	r.set(unix.SYS_PRCTL, call5("prctl", choice("option", prctlNames), aHex, aHex, aHex, aHex, sysPrctl).partly("the options that Debian's programs use; no PR_SET_MM"))
	r.set(unix.SYS_PRLIMIT64, call4("prlimit64", aPID, choice("resource", rlimitNames), inOpt(lRlimit), out(lRlimit), sysPrlimit))
	r.set(unix.SYS_GETRLIMIT, call2("getrlimit", choice("resource", rlimitNames), out(lRlimit), func(t *task.Task, res int32, to dest[unix.Rlimit]) (uint64, error) {
		old, err := t.Prlimit(0, int(res), nil)
		if err != nil {
			return 0, err
		}
		return done(to.put(t, old))
	}))
	r.set(unix.SYS_SETRLIMIT, call2("setrlimit", choice("resource", rlimitNames), in(lRlimit), func(t *task.Task, res int32, to unix.Rlimit) (uint64, error) {
		_, err := t.Prlimit(0, int(res), &to)
		return 0, err
	}))
	r.set(unix.SYS_GETRUSAGE, call2("getrusage", choice("who", rusageNames), out(lRusage), func(t *task.Task, who int32, to dest[unix.Rusage]) (uint64, error) {
		u, err := t.Rusage(int(who))
		if err != nil {
			return 0, err
		}
		return done(to.put(t, u))
	}))
	r.set(unix.SYS_TIMES, call1("times", out(lTms), func(t *task.Task, to dest[unix.Tms]) (uint64, error) {
		tms, ticks := t.Times()
		return uint64(ticks), to.putOpt(t, tms)
	}))
}

func showClone(b []byte, v uint64) []byte {
	b = appendFlags(b, v&^0xff, cloneNames)
	if sig := v & 0xff; sig != 0 {
		b = showSignal(append(b, '|'), sig)
	}
	return b
}

// sysClone is clone(2) in the order of arguments of x86-64.
func sysClone(t *task.Task, flags, stack, parentTID, childTID, tls uint64) (uint64, error) {
	const exitSignal = 0xff
	a := task.CloneArgs{
		Flags: uint64(uint32(flags)) &^ exitSignal, ExitSignal: unix.Signal(flags & exitSignal),
		ParentTID: parentTID, ChildTID: childTID, Stack: stack, TLS: tls,
	}
	if flags&unix.CLONE_PIDFD == 0 {
		return value(t.Clone(&a))
	}
	if flags&(unix.CLONE_PARENT_SETTID|unix.CLONE_DETACHED) != 0 {
		return 0, unix.EINVAL
	}
	return cloneWithPidfd(t, &a, parentTID)
}

func sysClone3(t *task.Task, addr, size uint64) (uint64, error) {
	if size < abi.CloneArgsVer0 {
		return 0, unix.EINVAL
	}
	var b [abi.CloneArgsVer2]byte
	if err := extensible(t, b[:], addr, size); err != nil {
		return 0, err
	}
	a := abi.GetCloneArgs(b[:])
	const known = unix.CLONE_CLEAR_SIGHAND<<1 - 1 // and CLONE_INTO_CGROUP, which is not
	switch {
	case a.Flags&^known != 0 || a.Flags&(unix.CLONE_DETACHED|unix.CSIGNAL&^unix.CLONE_NEWTIME) != 0,
		a.ExitSignal > abi.NSIG,
		(a.Stack == 0) != (a.StackSize == 0),
		a.Stack > machine.UserTop || a.StackSize > machine.UserTop-a.Stack,
		(a.SetTID == 0) != (a.SetTIDSize == 0), a.SetTIDSize > namespace.MaxLevel:
		return 0, unix.EINVAL
	}
	tids := make([]int32, a.SetTIDSize)
	for i := range tids {
		var err error
		if tids[i], err = lInt32.load(t, a.SetTID+4*uint64(i)); err != nil {
			return 0, err
		}
	}
	stack := uint64(0)
	if a.Stack != 0 {
		stack = a.Stack + a.StackSize
	}
	args := task.CloneArgs{
		Flags: a.Flags, ExitSignal: unix.Signal(a.ExitSignal), ParentTID: a.ParentTID, ChildTID: a.ChildTID, Stack: stack, TLS: a.TLS, TIDs: tids,
	}
	if a.Flags&unix.CLONE_PIDFD != 0 {
		return cloneWithPidfd(t, &args, a.Pidfd)
	}
	return value(t.Clone(&args))
}

func sysWait4(t *task.Task, pid int32, status dest[int32], options uint32, usage dest[unix.Rusage]) (uint64, error) {
	a := task.WaitArgs{Type: unix.P_PID, ID: pid, Options: int(options) | unix.WEXITED}
	switch {
	case pid == -1<<31:
		return 0, unix.ESRCH
	case pid < -1:
		a.Type, a.ID = unix.P_PGID, -pid
	case pid == -1:
		a.Type = unix.P_ALL
	case pid == 0:
		a.Type = unix.P_PGID
	}
	r, err := t.Wait(&a)
	if err != nil || r.PID == 0 {
		return 0, err
	}
	if err := status.putOpt(t, r.Status); err != nil {
		return 0, err
	}
	return uint64(r.PID), usage.putOpt(t, r.Usage)
}

func sysWaitid(t *task.Task, typ, id int32, info dest[abi.SigInfo], options uint32, usage dest[unix.Rusage]) (uint64, error) {
	if options&(unix.WEXITED|unix.WSTOPPED|unix.WCONTINUED) == 0 {
		return 0, unix.EINVAL
	}
	a := task.WaitArgs{Type: int(typ), ID: t.Process().PIDs().Argument(id), Options: int(options)}
	nonblock := false
	switch {
	case typ == unix.P_PID && id <= 0, (typ == unix.P_PGID || typ == unix.P_PIDFD) && id < 0, typ < unix.P_ALL, typ > unix.P_PIDFD:
		return 0, unix.EINVAL
	case typ == unix.P_PIDFD:
		var err error
		if a.Process, nonblock, err = pidfd(t, id); err != nil {
			return 0, err
		}
	}
	if nonblock {
		a.Options |= unix.WNOHANG
	}
	r, err := t.Wait(&a)
	if err == nil && nonblock && r.PID == 0 && options&unix.WNOHANG == 0 {
		err = unix.EAGAIN
	}
	if err != nil {
		return 0, err
	}
	var s abi.SigInfo
	if r.PID != 0 {
		s.SetHead(unix.SIGCHLD, 0, r.Code)
		s.SetChild(r.PID, r.UID, r.SigStatus(), 0, 0)
		if err := usage.putOpt(t, r.Usage); err != nil {
			return 0, err
		}
	}
	return done(info.putOpt(t, s))
}

// ofProcess applies get to the process pid, or the caller's for 0: ESRCH.
func ofProcess(t *task.Task, pid int32, get func(*task.Process) int32) (uint64, error) {
	p := t.Process()
	if pid != 0 {
		if p = t.Kernel().Process(pid); p == nil {
			return 0, unix.ESRCH
		}
	}
	return uint64(t.Number(get(p))), nil
}

func sysArchPrctl(t *task.Task, code int32, addr uint64) (uint64, error) {
	switch code {
	case archSetFS, archSetGS:
		if addr >= machine.UserTop {
			return 0, unix.EPERM
		}
		if code == archSetFS {
			t.Ctx.FSBase = addr
		} else {
			t.Ctx.GSBase = addr
		}
		return 0, nil
	case archGetFS:
		return done(lUint64.store(t, addr, t.Ctx.FSBase))
	case archGetGS:
		return done(lUint64.store(t, addr, t.Ctx.GSBase))
	}
	return 0, unix.EINVAL
}

func sysPersonality(t *task.Task, p uint32) (uint64, error) {
	old := t.Personality()
	if p != 1<<32-1 {
		t.SetPersonality(p)
	}
	return uint64(old), nil
}

func sysPrlimit(t *task.Task, pid, resource int32, set opt[unix.Rlimit], old dest[unix.Rlimit]) (uint64, error) {
	var to *unix.Rlimit
	if set.ok {
		to = &set.v
	}
	was, err := t.Prlimit(pid, int(resource), to)
	if err != nil {
		return 0, err
	}
	return done(old.putOpt(t, was))
}

// prctlRest says that the arguments of prctl(2) from the given one on must be 0.
func allZero(args ...uint64) error {
	for _, a := range args {
		if a != 0 {
			return unix.EINVAL
		}
	}
	return nil
}

func sysPrctl(t *task.Task, option int32, a, b, c, d uint64) (uint64, error) {
	switch option {
	case unix.PR_SET_NAME:
		return setName(t, a)
	case unix.PR_GET_NAME:
		var name [abi.TaskCommLen]byte
		copy(name[:], t.Comm())
		return done(copyOut(t, a, name[:]))
	case unix.PR_SET_PDEATHSIG:
		if a > abi.NSIG {
			return 0, unix.EINVAL
		}
		t.SetPDeathSignal(int32(a))
		return 0, nil
	case unix.PR_GET_PDEATHSIG:
		return done(lInt32.store(t, a, t.PDeathSignal()))
	case unix.PR_GET_DUMPABLE:
		return bit(t.Process().Dumpable()), nil
	case unix.PR_SET_DUMPABLE:
		if a > 1 {
			return 0, unix.EINVAL
		}
		t.Process().SetDumpable(a == 1)
		return 0, nil
	case unix.PR_SET_CHILD_SUBREAPER:
		t.Process().SetSubreaper(a != 0)
		return 0, nil
	case unix.PR_GET_CHILD_SUBREAPER:
		return done(lInt32.store(t, a, int32(bit(t.Process().Subreaper()))))
	case unix.PR_SET_TIMERSLACK:
		t.SetTimerSlack(int64(a))
		return 0, nil
	case unix.PR_GET_TIMERSLACK:
		return uint64(t.TimerSlack()), nil
	case unix.PR_SET_THP_DISABLE:
		if err := allZero(b, c, d); err != nil {
			return 0, err
		}
		t.SetTHPDisabled(a != 0)
		return 0, nil
	case unix.PR_GET_THP_DISABLE:
		return bit(t.THPDisabled()), allZero(a, b, c, d)
	case unix.PR_GET_SECCOMP:
		mode, _ := t.SeccompMode()
		return uint64(mode), nil
	case unix.PR_SET_SECCOMP:
		return prctlSeccomp(t, a, b)
	case unix.PR_GET_TIMING:
		return 0, nil // PR_TIMING_STATISTICAL
	}
	return prctlCred(t, option, a, b, c, d)
}

func bit(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}

func setName(t *task.Task, addr uint64) (uint64, error) {
	name, err := readString(t, addr, abi.TaskCommLen-1)
	if err == errTooLong {
		var b [abi.TaskCommLen - 1]byte
		err = copyIn(t, b[:], addr)
		name = string(b[:])
	}
	if err != nil {
		return 0, err
	}
	t.SetComm(name)
	return 0, nil
}

// prctlCred is the options that concern privileges (capabilities(7)).
func prctlCred(t *task.Task, option int32, a, b, c, d uint64) (uint64, error) {
	cr := t.Cred()
	switch option {
	case unix.PR_CAPBSET_READ:
		if a > unix.CAP_LAST_CAP {
			return 0, unix.EINVAL
		}
		return bit(cr.Bounding.Has(int(a))), nil
	case unix.PR_CAPBSET_DROP:
		if a > unix.CAP_LAST_CAP {
			return 0, unix.EINVAL
		}
		return setCred(t)(cr.DropBounding(int(a)))
	case unix.PR_GET_SECUREBITS:
		return uint64(cr.Securebits), nil
	case unix.PR_SET_SECUREBITS:
		return setCred(t)(cr.SetSecurebits(uint32(a)))
	case unix.PR_GET_KEEPCAPS:
		return bit(cr.Securebits&cred.SecureKeepCaps != 0), nil
	case unix.PR_SET_KEEPCAPS:
		if a > 1 {
			return 0, unix.EINVAL
		}
		return setCred(t)(cr.SetKeepCaps(a == 1))
	case unix.PR_SET_NO_NEW_PRIVS:
		if a != 1 {
			return 0, unix.EINVAL
		}
		if err := allZero(b, c, d); err != nil {
			return 0, err
		}
		t.SetCred(cr.SetNoNewPrivs())
		return 0, nil
	case unix.PR_GET_NO_NEW_PRIVS:
		return bit(cr.NoNewPrivs), allZero(a, b, c, d)
	case unix.PR_CAP_AMBIENT:
		return ambient(t, cr, a, b, c, d)
	}
	return 0, unix.EINVAL
}

func ambient(t *task.Task, c *cred.Cred, op, capability, x, y uint64) (uint64, error) {
	if err := allZero(x, y); err != nil {
		return 0, err
	}
	if op == unix.PR_CAP_AMBIENT_CLEAR_ALL {
		if capability != 0 {
			return 0, unix.EINVAL
		}
		return setCred(t)(c.ClearAmbient(), nil)
	}
	if capability > unix.CAP_LAST_CAP {
		return 0, unix.EINVAL
	}
	switch op {
	case unix.PR_CAP_AMBIENT_IS_SET:
		return bit(c.Ambient.Has(int(capability))), nil
	case unix.PR_CAP_AMBIENT_RAISE:
		return setCred(t)(c.RaiseAmbient(int(capability)))
	case unix.PR_CAP_AMBIENT_LOWER:
		return setCred(t)(c.LowerAmbient(int(capability)))
	}
	return 0, unix.EINVAL
}
