package syscall

import (
	"math/bits"
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
)

// by makes a writer by value of one by reference.
func by[T any](put func([]byte, *T)) func([]byte, T) {
	return func(b []byte, v T) { put(b, &v) }
}

func field(b []byte, name string, v int64) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ", "...)
	}
	b = append(append(b, name...), '=')
	return appendInt(b, v)
}

func showTimespec(b []byte, t unix.Timespec) []byte {
	b = field(append(b, '{'), "tv_sec", t.Sec)
	return append(field(b, "tv_nsec", t.Nsec), '}')
}

func showTimeval(b []byte, t unix.Timeval) []byte {
	b = field(append(b, '{'), "tv_sec", t.Sec)
	return append(field(b, "tv_usec", t.Usec), '}')
}

func showRlimit(b []byte, r unix.Rlimit) []byte {
	limit := func(b []byte, v uint64) []byte {
		if v == unix.RLIM_INFINITY {
			return append(b, "RLIM64_INFINITY"...)
		}
		return strconv.AppendUint(b, v, 10)
	}
	b = limit(append(b, "{rlim_cur="...), r.Cur)
	b = limit(append(b, ", rlim_max="...), r.Max)
	return append(b, '}')
}

func showStat(b []byte, s unix.Stat_t) []byte {
	b = showOctal(append(b, "{st_mode="...), uint64(s.Mode))
	return append(field(b, "st_size", s.Size), ", ...}"...)
}

func showSigAction(b []byte, a abi.SigAction) []byte {
	b = append(b, "{sa_handler="...)
	switch a.Handler {
	case 0:
		b = append(b, "SIG_DFL"...)
	case 1:
		b = append(b, "SIG_IGN"...)
	default:
		b = appendHex(b, a.Handler)
	}
	b = showSigset(append(b, ", sa_mask="...), a.Mask)
	b = appendFlags(append(b, ", sa_flags="...), a.Flags, sigActionFlags)
	return append(b, '}')
}

func showSigset(b []byte, set uint64) []byte {
	if bits.OnesCount64(set) > 32 {
		b, set = append(b, '~'), ^set
	}
	b = append(b, '[')
	for first := true; set != 0; set &= set - 1 {
		if !first {
			b = append(b, ' ')
		}
		b, first = append(b, signalName(uint64(bits.TrailingZeros64(set)) + 1)[3:]...), false
	}
	return append(b, ']')
}

// The structures. A call that reads one uses in or inOpt, one that fills it out.
var (
	lTimespec   = &layout[unix.Timespec]{"timespec", abi.SizeofTimespec, abi.GetTimespec, abi.PutTimespec, showTimespec}
	lTimeval    = &layout[unix.Timeval]{"timeval", abi.SizeofTimeval, abi.GetTimeval, abi.PutTimeval, showTimeval}
	lItimerspec = &layout[abi.Itimerspec]{"itimerspec", abi.SizeofItimerspec, abi.GetItimerspec, abi.PutItimerspec, func(b []byte, t abi.Itimerspec) []byte {
		b = showTimespec(append(b, "{it_interval="...), t.Interval)
		return append(showTimespec(append(b, ", it_value="...), t.Value), '}')
	}}
	lItimerval = &layout[unix.Itimerval]{"itimerval", abi.SizeofItimerval, abi.GetItimerval, abi.PutItimerval, func(b []byte, t unix.Itimerval) []byte {
		b = showTimeval(append(b, "{it_interval="...), t.Interval)
		return append(showTimeval(append(b, ", it_value="...), t.Value), '}')
	}}
	lTms        = &layout[unix.Tms]{"tms", abi.SizeofTms, nil, abi.PutTms, nil}
	lStat       = &layout[unix.Stat_t]{"stat", abi.SizeofStat, abi.GetStat, by(abi.PutStat), showStat}
	lStatx      = &layout[unix.Statx_t]{"statx", abi.SizeofStatx, nil, by(abi.PutStatx), nil}
	lStatfs     = &layout[unix.Statfs_t]{"statfs", abi.SizeofStatfs, nil, by(abi.PutStatfs), nil}
	lSysinfo    = &layout[unix.Sysinfo_t]{"sysinfo", abi.SizeofSysinfo, nil, by(abi.PutSysinfo), nil}
	lUtsname    = &layout[unix.Utsname]{"utsname", abi.SizeofUtsname, nil, by(abi.PutUtsname), nil}
	lRusage     = &layout[unix.Rusage]{"rusage", abi.SizeofRusage, nil, by(abi.PutRusage), nil}
	lRlimit     = &layout[unix.Rlimit]{"rlimit", abi.SizeofRlimit, abi.GetRlimit, abi.PutRlimit, showRlimit}
	lSigAction  = &layout[abi.SigAction]{"sigaction", abi.SizeofSigAction, abi.GetSigAction, abi.PutSigAction, showSigAction}
	lSigset     = &layout[uint64]{"sigset", 8, getUint64, putUint64, showSigset}
	lSigInfo    = &layout[abi.SigInfo]{"siginfo", abi.SizeofSigInfo, func(b []byte) abi.SigInfo { return abi.SigInfo(b) }, func(b []byte, s abi.SigInfo) { copy(b, s[:]) }, showSigInfo}
	lStackT     = &layout[abi.StackT]{"stack_t", abi.SizeofStackT, abi.GetStackT, abi.PutStackT, nil}
	lSigEvent   = &layout[abi.SigEvent]{"sigevent", abi.SizeofSigEvent, abi.GetSigEvent, nil, nil}
	lEpollEvent = &layout[abi.EpollEvent]{"epoll_event", abi.SizeofEpollEvent, abi.GetEpollEvent, abi.PutEpollEvent, func(b []byte, e abi.EpollEvent) []byte {
		b = appendFlags(append(b, "{events="...), uint64(e.Events), epollEvents)
		return append(appendHex(append(b, ", data="...), e.Data), '}')
	}}
	lFlock     = &layout[unix.Flock_t]{"flock", abi.SizeofFlock, abi.GetFlock, abi.PutFlock, nil}
	lFOwnerEx  = &layout[abi.FOwnerEx]{"f_owner_ex", abi.SizeofFOwnerEx, abi.GetFOwnerEx, abi.PutFOwnerEx, nil}
	lCapHeader = &layout[unix.CapUserHeader]{"cap_user_header", abi.SizeofCapUserHeader, abi.GetCapUserHeader, nil, nil}
	lInt32     = &layout[int32]{"int", 4, func(b []byte) int32 { return int32(le.Uint32(b)) }, func(b []byte, v int32) { le.PutUint32(b, uint32(v)) }, func(b []byte, v int32) []byte {
		return append(appendInt(append(b, '['), int64(v)), ']')
	}}
	lUint32 = &layout[uint32]{"unsigned", 4, le.Uint32, le.PutUint32, func(b []byte, v uint32) []byte {
		return append(appendInt(append(b, '['), int64(v)), ']')
	}}
	lInt64 = &layout[int64]{"long", 8, func(b []byte) int64 { return int64(le.Uint64(b)) }, func(b []byte, v int64) { le.PutUint64(b, uint64(v)) }, func(b []byte, v int64) []byte {
		return append(appendInt(append(b, '['), v), ']')
	}}
	lUint64 = &layout[uint64]{"unsigned long", 8, getUint64, putUint64, func(b []byte, v uint64) []byte {
		return append(appendHex(append(b, '['), v), ']')
	}}
	// two descriptors or two times
	lPair = &layout[[2]int32]{"int[2]", 8,
		func(b []byte) [2]int32 { return [2]int32{int32(le.Uint32(b)), int32(le.Uint32(b[4:]))} },
		func(b []byte, v [2]int32) { le.PutUint32(b, uint32(v[0])); le.PutUint32(b[4:], uint32(v[1])) },
		func(b []byte, v [2]int32) []byte {
			b = append(appendInt(append(b, '['), int64(v[0])), ", "...)
			return append(appendInt(b, int64(v[1])), ']')
		}}
	lTimes = &layout[[2]unix.Timespec]{"timespec[2]", 32,
		func(b []byte) [2]unix.Timespec {
			return [2]unix.Timespec{abi.GetTimespec(b), abi.GetTimespec(b[16:])}
		}, nil,
		func(b []byte, v [2]unix.Timespec) []byte {
			b = append(showTimespec(append(b, '['), v[0]), ", "...)
			return append(showTimespec(b, v[1]), ']')
		}}
	lTimevals = &layout[[2]unix.Timeval]{"timeval[2]", 32,
		func(b []byte) [2]unix.Timeval { return [2]unix.Timeval{abi.GetTimeval(b), abi.GetTimeval(b[16:])} }, nil, nil}
)

func getUint64(b []byte) uint64    { return le.Uint64(b) }
func putUint64(b []byte, v uint64) { le.PutUint64(b, v) }

func showSigInfo(b []byte, s abi.SigInfo) []byte {
	b = append(append(b, "{si_signo="...), signalName(uint64(s.Signo()))...)
	b = field(b, "si_code", int64(s.Code()))
	return append(field(b, "si_pid", int64(s.PID())), ", ...}"...)
}
