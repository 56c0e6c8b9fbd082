package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/seccomp"
	"gosv/kernel/task"
)

func seccompRows(r *table) {
	r.set(unix.SYS_SECCOMP, call3("seccomp", choice("operation", seccompOps), flags("flags", 1<<32-1, seccompFlags), aAddr, sysSeccomp).
		partly("no listeners (SECCOMP_FILTER_FLAG_NEW_LISTENER)"))
}

var (
	seccompOps = []flagName{
		{unix.SECCOMP_SET_MODE_STRICT, "SECCOMP_SET_MODE_STRICT"}, {unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"},
		{unix.SECCOMP_GET_ACTION_AVAIL, "SECCOMP_GET_ACTION_AVAIL"}, {unix.SECCOMP_GET_NOTIF_SIZES, "SECCOMP_GET_NOTIF_SIZES"},
	}
	seccompFlags = []flagName{
		{unix.SECCOMP_FILTER_FLAG_TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"}, {unix.SECCOMP_FILTER_FLAG_LOG, "SECCOMP_FILTER_FLAG_LOG"},
		{unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"},
		{unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, "SECCOMP_FILTER_FLAG_NEW_LISTENER"},
		{unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH, "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"},
	}
)

// sysSeccomp is seccomp(2).
func sysSeccomp(t *task.Task, op int32, flags uint32, args uint64) (uint64, error) {
	switch op {
	case unix.SECCOMP_SET_MODE_STRICT:
		if flags != 0 || args != 0 {
			return 0, unix.EINVAL
		}
		return done(t.SetSeccompStrict())
	case unix.SECCOMP_SET_MODE_FILTER:
		return addFilter(t, flags, args)
	case unix.SECCOMP_GET_ACTION_AVAIL:
		if flags != 0 {
			return 0, unix.EINVAL
		}
		action, err := lUint32.load(t, args)
		if err == nil && !seccomp.Known(action) {
			err = unix.EOPNOTSUPP
		}
		return 0, err
	}
	return 0, unix.EINVAL
}

// addFilter reads struct sock_fprog and makes it a filter.
func addFilter(t *task.Task, flags uint32, addr uint64) (uint64, error) {
	const known = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	if flags&^known != 0 {
		return 0, unix.EINVAL
	}
	var b [16]byte
	if err := copyIn(t, b[:], addr); err != nil {
		return 0, err
	}
	n := int(le.Uint16(b[:]))
	if n == 0 || n > seccomp.MaxLength {
		return 0, unix.EINVAL
	}
	code := make([]byte, n*seccomp.InsnSize)
	if err := copyIn(t, code, le.Uint64(b[8:])); err != nil {
		return 0, err
	}
	prog := make([]seccomp.Insn, n)
	for i := range prog {
		prog[i] = seccomp.GetInsn(code[i*seccomp.InsnSize:])
	}
	err := t.AddFilter(prog, flags&unix.SECCOMP_FILTER_FLAG_TSYNC != 0, flags&unix.SECCOMP_FILTER_FLAG_LOG != 0)
	if other, ok := err.(*task.SeccompError); ok {
		if flags&unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH != 0 {
			return 0, unix.ESRCH
		}
		return uint64(other.TID), nil
	}
	return done(err)
}

// prctlSeccomp is PR_SET_SECCOMP.
func prctlSeccomp(t *task.Task, mode, args uint64) (uint64, error) {
	switch mode {
	case unix.SECCOMP_MODE_STRICT:
		return done(t.SetSeccompStrict())
	case unix.SECCOMP_MODE_FILTER:
		return addFilter(t, 0, args)
	}
	return 0, unix.EINVAL
}
