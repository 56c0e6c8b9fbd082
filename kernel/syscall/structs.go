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

func showTimespec(b, mem []byte) []byte {
	t := abi.GetTimespec(mem)
	b = field(append(b, '{'), "tv_sec", t.Sec)
	return append(field(b, "tv_nsec", t.Nsec), '}')
}

func showTimeval(b, mem []byte) []byte {
	t := abi.GetTimeval(mem)
	b = field(append(b, '{'), "tv_sec", t.Sec)
	return append(field(b, "tv_usec", t.Usec), '}')
}

func showRlimit(b, mem []byte) []byte {
	r := abi.GetRlimit(mem)
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

func showStat(b, mem []byte) []byte {
	s := abi.GetStat(mem)
	b = showOctal(append(b, "{st_mode="...), uint64(s.Mode))
	return append(field(b, "st_size", s.Size), ", ...}"...)
}

func showSigAction(b, mem []byte) []byte {
	a := abi.GetSigAction(mem)
	b = append(b, "{sa_handler="...)
	switch a.Handler {
	case 0:
		b = append(b, "SIG_DFL"...)
	case 1:
		b = append(b, "SIG_IGN"...)
	default:
		b = appendHex(b, a.Handler)
	}
	b = appendSigset(append(b, ", sa_mask="...), a.Mask)
	b = appendFlags(append(b, ", sa_flags="...), a.Flags, sigActionFlags)
	return append(b, '}')
}

func showSigset(b, mem []byte) []byte { return appendSigset(b, le.Uint64(mem)) }

func appendSigset(b []byte, set uint64) []byte {
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
	lItimerspec = &layout[abi.Itimerspec]{"itimerspec", abi.SizeofItimerspec, abi.GetItimerspec, abi.PutItimerspec, showItimerspec}
	lItimerval  = &layout[unix.Itimerval]{"itimerval", abi.SizeofItimerval, abi.GetItimerval, abi.PutItimerval, showItimerval}
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
	lSigInfo    = &layout[abi.SigInfo]{"siginfo", abi.SizeofSigInfo, getSigInfo, putSigInfo, showSigInfo}
	lStackT     = &layout[abi.StackT]{"stack_t", abi.SizeofStackT, abi.GetStackT, abi.PutStackT, nil}
	lSigEvent   = &layout[abi.SigEvent]{"sigevent", abi.SizeofSigEvent, abi.GetSigEvent, nil, nil}
	lEpollEvent = &layout[abi.EpollEvent]{"epoll_event", abi.SizeofEpollEvent, abi.GetEpollEvent, abi.PutEpollEvent, showEpollEvent}
	lFlock      = &layout[unix.Flock_t]{"flock", abi.SizeofFlock, abi.GetFlock, abi.PutFlock, nil}
	lFOwnerEx   = &layout[abi.FOwnerEx]{"f_owner_ex", abi.SizeofFOwnerEx, abi.GetFOwnerEx, abi.PutFOwnerEx, nil}
	lCapHeader  = &layout[unix.CapUserHeader]{"cap_user_header", abi.SizeofCapUserHeader, abi.GetCapUserHeader, nil, nil}
	lInt32      = &layout[int32]{"int", 4, getInt32, putInt32, showWord32}
	lUint32     = &layout[uint32]{"unsigned", 4, getUint32, putUint32, showUword32}
	lInt64      = &layout[int64]{"long", 8, getInt64, putInt64, showWord64}
	lUint64     = &layout[uint64]{"unsigned long", 8, getUint64, putUint64, showUword64}
	// two descriptors or two times
	lPair     = &layout[[2]int32]{"int[2]", 8, getPair, putPair, showPair}
	lTimes    = &layout[[2]unix.Timespec]{"timespec[2]", 32, getTimes, nil, showTimes}
	lTimevals = &layout[[2]unix.Timeval]{"timeval[2]", 32, getTimevals, nil, nil}
)

func getInt32(b []byte) int32      { return int32(le.Uint32(b)) }
func putInt32(b []byte, v int32)   { le.PutUint32(b, uint32(v)) }
func getUint32(b []byte) uint32    { return le.Uint32(b) }
func putUint32(b []byte, v uint32) { le.PutUint32(b, v) }
func getInt64(b []byte) int64      { return int64(le.Uint64(b)) }
func putInt64(b []byte, v int64)   { le.PutUint64(b, uint64(v)) }
func getUint64(b []byte) uint64    { return le.Uint64(b) }
func putUint64(b []byte, v uint64) { le.PutUint64(b, v) }

func getPair(b []byte) [2]int32    { return [2]int32{getInt32(b), getInt32(b[4:])} }
func putPair(b []byte, v [2]int32) { putInt32(b, v[0]); putInt32(b[4:], v[1]) }

func getTimes(b []byte) [2]unix.Timespec {
	return [2]unix.Timespec{abi.GetTimespec(b), abi.GetTimespec(b[16:])}
}
func getTimevals(b []byte) [2]unix.Timeval {
	return [2]unix.Timeval{abi.GetTimeval(b), abi.GetTimeval(b[16:])}
}

func getSigInfo(b []byte) abi.SigInfo    { return abi.SigInfo(b) }
func putSigInfo(b []byte, s abi.SigInfo) { copy(b, s[:]) }

func showWord32(b, mem []byte) []byte {
	return append(appendInt(append(b, '['), int64(getInt32(mem))), ']')
}
func showUword32(b, mem []byte) []byte {
	return append(appendInt(append(b, '['), int64(getUint32(mem))), ']')
}
func showWord64(b, mem []byte) []byte  { return append(appendInt(append(b, '['), getInt64(mem)), ']') }
func showUword64(b, mem []byte) []byte { return append(appendHex(append(b, '['), le.Uint64(mem)), ']') }

func showPair(b, mem []byte) []byte {
	b = append(appendInt(append(b, '['), int64(getInt32(mem))), ", "...)
	return append(appendInt(b, int64(getInt32(mem[4:]))), ']')
}

func showTimes(b, mem []byte) []byte {
	b = append(showTimespec(append(b, '['), mem), ", "...)
	return append(showTimespec(b, mem[16:]), ']')
}

func showItimerspec(b, mem []byte) []byte { return showItimer(b, mem, showTimespec) }
func showItimerval(b, mem []byte) []byte  { return showItimer(b, mem, showTimeval) }

func showItimer(b, mem []byte, show func(b, mem []byte) []byte) []byte {
	b = show(append(b, "{it_interval="...), mem)
	return append(show(append(b, ", it_value="...), mem[16:]), '}')
}

func showEpollEvent(b, mem []byte) []byte {
	e := abi.GetEpollEvent(mem)
	b = appendFlags(append(b, "{events="...), uint64(e.Events), epollEvents)
	return append(appendHex(append(b, ", data="...), e.Data), '}')
}

func showSigInfo(b, mem []byte) []byte {
	s := getSigInfo(mem)
	b = append(append(b, "{si_signo="...), signalName(uint64(s.Signo()))...)
	b = field(b, "si_code", int64(s.Code()))
	return append(field(b, "si_pid", int64(s.PID())), ", ...}"...)
}
