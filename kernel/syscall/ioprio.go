package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
)

// I/O priorities (ioprio_set(2)): disks here serve all alike; the values are checked and kept.

func ioprioRows(r *table) {
	aWho := choice("which", []flagName{{1, "IOPRIO_WHO_PROCESS"}, {2, "IOPRIO_WHO_PGRP"}, {3, "IOPRIO_WHO_USER"}})
	r.set(unix.SYS_IOPRIO_GET, call2("ioprio_get", aWho, aWhoID, func(t *task.Task, which, who int32) (uint64, error) {
		v, err := t.IOPriority(which-1, whom(t, which-1, who))
		return value(v, err)
	}))
	r.set(unix.SYS_IOPRIO_SET, call3("ioprio_set", aWho, aWhoID, aInt, ioprioSet).partly("kept, but all are served alike"))
}

func ioprioSet(t *task.Task, which, who, prio int32) (uint64, error) {
	const none, realTime, bestEffort, idle = 0, 1, 2, 3
	class, level := prio>>13, prio&0x1fff
	switch class {
	case realTime:
		if !t.Cred().Capable(unix.CAP_SYS_ADMIN) && !t.Cred().Capable(unix.CAP_SYS_NICE) {
			return 0, unix.EPERM
		}
		fallthrough
	case bestEffort:
		if level >= 8 {
			return 0, unix.EINVAL
		}
	case idle:
	case none:
		if level != 0 {
			return 0, unix.EINVAL
		}
	default:
		return 0, unix.EINVAL
	}
	return done(t.SetIOPriority(which-1, whom(t, which-1, who), prio))
}
