package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/bpf"
	"gosv/kernel/seccomp"
	"gosv/kernel/task"
)

func seccompRows(r *table) {
	r.set(unix.SYS_SECCOMP, call3("seccomp", choice("operation", seccompOps), flags("flags", 1<<32-1, seccompFlags), aAddr, sysSeccomp))
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
		{unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"},
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
	case unix.SECCOMP_GET_NOTIF_SIZES:
		if flags != 0 {
			return 0, unix.EINVAL
		}
		return done(copyOut(t, args, []byte{80, 0, 24, 0, 64, 0})) // struct seccomp_notif_sizes
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
	const (
		sync, esrch      = unix.SECCOMP_FILTER_FLAG_TSYNC, unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
		listen, killable = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	)
	has := func(bits uint32) bool { return flags&bits == bits }
	if flags&^(sync|esrch|listen|killable|unix.SECCOMP_FILTER_FLAG_LOG|unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW) != 0 ||
		has(sync|listen) && !has(esrch) || has(killable) && !has(listen) {
		return 0, unix.EINVAL
	}
	var b [16]byte
	if err := copyIn(t, b[:], addr); err != nil {
		return 0, err
	}
	n := int(le.Uint16(b[:]))
	if n == 0 || n > bpf.MaxLength {
		return 0, unix.EINVAL
	}
	code := make([]byte, n*bpf.Size)
	if err := copyIn(t, code, le.Uint64(b[8:])); err != nil {
		return 0, err
	}
	prog := make([]bpf.Insn, n)
	for i := range prog {
		prog[i] = bpf.GetInsn(code[i*bpf.Size:])
	}
	f, err := t.AddFilter(prog, task.FilterOptions{Sync: has(sync), Log: has(unix.SECCOMP_FILTER_FLAG_LOG), Listen: has(listen), Killable: has(killable)})
	if other, ok := err.(*task.SeccompError); ok {
		if has(esrch) {
			return 0, unix.ESRCH
		}
		return uint64(other.TID), nil
	}
	if err != nil || f == nil {
		return 0, err
	}
	return install(t, f, unix.O_CLOEXEC)
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
