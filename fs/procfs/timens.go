package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
	"gosv/kernel/task"
)

// ahead is how far CLOCK_BOOTTIME is ahead of the machine's for who looks, in ns.
func (v *view) ahead() int64 {
	if t := v.asker(); t != nil {
		return t.Ahead(unix.CLOCK_BOOTTIME)
	}
	return 0
}

// childrenTime is the time namespace of the process's children: ESRCH.
func (v *view) childrenTime() (*task.TimeNamespace, error) {
	n, ok := v.t.NamespaceOf(namespace.Time, true).(*task.TimeNamespace)
	if !ok {
		return nil, unix.ESRCH
	}
	return n, nil
}

// showTimeOffsets is timens_offsets (time_namespaces(7)).
func showTimeOffsets(v *view, b *out) error {
	n, err := v.childrenTime()
	if err != nil {
		return err
	}
	for _, o := range n.Offsets() {
		name := "monotonic "
		if o.Clock == unix.CLOCK_BOOTTIME {
			name = "boottime  "
		}
		b.str(name, " ")
		sec := strconv.FormatInt(o.Sec, 10)
		b.str(strings.Repeat(" ", max(10-len(sec), 0)), sec, " ").right(uint64(o.Nsec), 9).nl()
	}
	return nil
}

// storeTimeOffsets takes lines of a clock, seconds, and nanoseconds: EINVAL, EPERM, and the errors of SetOffsets.
func storeTimeOffsets(v *view, s string) error {
	list, err := parseTimeOffsets(s)
	if err != nil {
		return err
	}
	n, err := v.childrenTime()
	if err != nil {
		return err
	}
	if !v.ctx.Cred.CapableIn(n.Owner(), unix.CAP_SYS_TIME) {
		return unix.EPERM
	}
	return n.SetOffsets(list, v.Clock.Now())
}

// parseTimeOffsets reads what is written to timens_offsets. Clocks have names or numbers; what follows on a line is ignored, as Linux does.
func parseTimeOffsets(s string) (list []task.TimeOffset, err error) {
	for l := range strings.Lines(s) {
		f := strings.Fields(l)
		if len(f) < 3 {
			return nil, unix.EINVAL
		}
		o := task.TimeOffset{}
		switch f[0] {
		case "monotonic", "1":
			o.Clock = unix.CLOCK_MONOTONIC
		case "boottime", "7":
			o.Clock = unix.CLOCK_BOOTTIME
		default:
			return nil, unix.EINVAL
		}
		if o.Sec, err = strconv.ParseInt(f[1], 10, 64); err == nil {
			o.Nsec, err = strconv.ParseInt(f[2], 10, 64)
		}
		if err != nil || o.Nsec < 0 || o.Nsec >= 1e9 {
			return nil, unix.EINVAL
		}
		list = append(list, o)
	}
	if list == nil {
		return nil, unix.EINVAL
	}
	return list, nil
}
