package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/task"
)

// Operations of futex(2) (include/uapi/linux/futex.h).
const (
	futexWait          = 0
	futexWake          = 1
	futexRequeue       = 3
	futexCmpRequeue    = 4
	futexWakeOp        = 5
	futexLockPI        = 6
	futexUnlockPI      = 7
	futexTrylockPI     = 8
	futexWaitBitset    = 9
	futexWakeBitset    = 10
	futexWaitRequeuePI = 11
	futexCmpRequeuePI  = 12
	futexLockPI2       = 13
	futexPrivate       = 128
	futexClockRealtime = 256
	futexAny           = 1<<32 - 1
	// Of futex_waitv(2).
	futex32         = 2
	futexvMax       = 128
	sizeofFutexWaiv = 24
)

func futexRows(r *table) {
	aOp := aUint.as(show("operation", func(b []byte, v uint64) []byte {
		b = appendChoice(b, v&^(futexPrivate|futexClockRealtime), futexNames)
		if v&futexPrivate != 0 {
			b = append(b, "_PRIVATE"...)
		}
		if v&futexClockRealtime != 0 {
			b = append(b, "|FUTEX_CLOCK_REALTIME"...)
		}
		return b
	}))
	r.set(unix.SYS_FUTEX, call6("futex", aAddr, aOp, aUint, aHex, aAddr, aUint, sysFutex))
	r.set(unix.SYS_FUTEX_WAITV, call5("futex_waitv", aAddr, aUint, flags("flags", 0, nil), inOpt(lTimespec), choice("clock", clockNames), sysFutexWaitv))
	r.set(unix.SYS_SET_ROBUST_LIST, call2("set_robust_list", aAddr, aSize, func(t *task.Task, addr, size uint64) (uint64, error) {
		if size != abi.SizeofRobustListHead {
			return 0, unix.EINVAL
		}
		t.SetRobustList(addr)
		return 0, nil
	}))
	r.set(unix.SYS_GET_ROBUST_LIST, call3("get_robust_list", aPID, out(lUint64), out(lUint64), sysGetRobustList))
}

// sysFutex is futex(2). The fourth argument is a timeout or a number, by operation.
func sysFutex(t *task.Task, addr uint64, op, val uint32, arg, addr2 uint64, val3 uint32) (uint64, error) {
	private := op&futexPrivate != 0
	realtime := op&futexClockRealtime != 0
	cmd := op &^ (futexPrivate | futexClockRealtime)
	if realtime {
		switch cmd {
		case futexWake, futexRequeue, futexCmpRequeue, futexWakeOp, futexWakeBitset, futexUnlockPI, futexTrylockPI, futexLockPI, futexCmpRequeuePI:
			return 0, unix.ENOSYS
		}
	}
	switch cmd {
	case futexWait, futexWaitBitset:
		bitset := uint32(futexAny)
		if cmd == futexWaitBitset {
			bitset = val3
		}
		if arg == 0 {
			return done(t.FutexWait(addr, val, bitset, private, 0, false))
		}
		return futexSleep(t, addr, val, bitset, private, arg, cmd == futexWait, realtime)
	case futexWake:
		return value(t.FutexWake(addr, int(int32(val)), futexAny, private))
	case futexWakeBitset:
		return value(t.FutexWake(addr, int(int32(val)), val3, private))
	case futexRequeue:
		return value(t.FutexRequeue(addr, addr2, int(int32(val)), int(int32(arg)), nil, private))
	case futexCmpRequeue:
		return value(t.FutexRequeue(addr, addr2, int(int32(val)), int(int32(arg)), &val3, private))
	case futexWakeOp:
		return value(t.FutexWakeOp(addr, addr2, int(int32(val)), int(int32(arg)), val3, private))
	case futexLockPI, futexLockPI2:
		wall := cmd == futexLockPI || realtime
		deadline, err := futexDeadline(t, arg, futexClock(wall))
		if err != nil {
			return 0, err
		}
		return done(t.FutexLockPI(addr, private, deadline, wall, false))
	case futexWaitRequeuePI:
		deadline, err := futexDeadline(t, arg, futexClock(realtime))
		if err != nil {
			return 0, err
		}
		return done(t.FutexWaitRequeuePI(addr, addr2, val, private, deadline, realtime))
	case futexCmpRequeuePI:
		return value(t.FutexRequeuePI(addr, addr2, int(int32(val)), int(int32(arg)), val3, private))
	case futexTrylockPI:
		return done(t.FutexLockPI(addr, private, 0, false, true))
	case futexUnlockPI:
		return done(t.FutexUnlockPI(addr, private))
	}
	return 0, unix.ENOSYS
}

// futexDeadline reads a timeout, which may be missing (0), that is a time of a clock: EFAULT, EINVAL.
func futexDeadline(t *task.Task, addr uint64, clock int32) (int64, error) {
	if addr == 0 {
		return 0, nil
	}
	ts, err := lTimespec.load(t, addr)
	if err != nil {
		return 0, err
	}
	if !abi.ValidTimespec(ts) {
		return 0, unix.EINVAL
	}
	return t.MachineTime(clock, abi.TimespecToNsec(ts)), nil
}

// futexClock is the clock of a timeout.
func futexClock(wall bool) int32 {
	if wall {
		return unix.CLOCK_REALTIME
	}
	return unix.CLOCK_MONOTONIC
}

// futexSleep is FUTEX_WAIT, whose timeout is relative, and FUTEX_WAIT_BITSET.
func futexSleep(t *task.Task, addr uint64, val, bitset uint32, private bool, timeout uint64, relative, wall bool) (uint64, error) {
	deadline, err := futexDeadline(t, timeout, futexClock(relative || wall)) // a relative time is the same everywhere
	if err != nil {
		return 0, err
	}
	if deadline != 0 && relative {
		deadline, wall = t.Kernel().Clock.After(deadline), false
	}
	err = t.FutexWait(addr, val, bitset, private, deadline, wall)
	if err == abi.ERESTARTSYS && deadline != 0 {
		err = restartFutex(t, addr, val, bitset, private, deadline, wall)
	}
	return 0, err
}

// restartFutex makes an interrupted wait go on until the same deadline.
func restartFutex(t *task.Task, addr uint64, val, bitset uint32, private bool, deadline int64, wall bool) error {
	return t.SetRestart(func(t *task.Task) (uint64, error) {
		err := t.FutexWait(addr, val, bitset, private, deadline, wall)
		if err == abi.ERESTARTSYS {
			err = restartFutex(t, addr, val, bitset, private, deadline, wall)
		}
		return 0, err
	})
}

func sysFutexWaitv(t *task.Task, addr uint64, n, _ uint32, timeout opt[unix.Timespec], clockID int32) (uint64, error) {
	if n == 0 || n > futexvMax {
		return 0, unix.EINVAL
	}
	deadline := int64(0)
	if timeout.ok {
		if clockID != unix.CLOCK_REALTIME && clockID != unix.CLOCK_MONOTONIC || !abi.ValidTimespec(timeout.v) {
			return 0, unix.EINVAL
		}
		deadline = t.MachineTime(clockID, abi.TimespecToNsec(timeout.v))
	}
	list := make([]task.FutexVector, n)
	for i := range list {
		b := t.Scratch[:sizeofFutexWaiv]
		if err := copyIn(t, b, addr+uint64(i)*sizeofFutexWaiv); err != nil {
			return 0, err
		}
		val, word, flags := le.Uint64(b), le.Uint64(b[8:]), le.Uint32(b[16:])
		if flags&^futexPrivate != futex32 || le.Uint32(b[20:]) != 0 || val>>32 != 0 {
			return 0, unix.EINVAL
		}
		list[i] = task.FutexVector{Addr: word, Val: uint32(val), Private: flags&futexPrivate != 0}
	}
	return value(t.FutexWaitv(list, deadline, clockID == unix.CLOCK_REALTIME))
}

func sysGetRobustList(t *task.Task, tid int32, head, size dest[uint64]) (uint64, error) {
	other := t
	if tid != 0 {
		if other = t.Kernel().Task(tid); other == nil {
			return 0, unix.ESRCH
		}
		if err := t.MayAccess(other.Process()); err != nil {
			return 0, err
		}
	}
	if err := size.put(t, abi.SizeofRobustListHead); err != nil {
		return 0, err
	}
	return done(head.put(t, other.RobustList()))
}
