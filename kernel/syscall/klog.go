package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/klog"
	"gosv/kernel/task"
)

var syslogActions = []flagName{
	{klog.ActionClose, "SYSLOG_ACTION_CLOSE"}, {klog.ActionOpen, "SYSLOG_ACTION_OPEN"}, {klog.ActionRead, "SYSLOG_ACTION_READ"},
	{klog.ActionReadAll, "SYSLOG_ACTION_READ_ALL"}, {klog.ActionReadClear, "SYSLOG_ACTION_READ_CLEAR"}, {klog.ActionClear, "SYSLOG_ACTION_CLEAR"},
	{klog.ActionConsoleOff, "SYSLOG_ACTION_CONSOLE_OFF"}, {klog.ActionConsoleOn, "SYSLOG_ACTION_CONSOLE_ON"},
	{klog.ActionConsoleLevel, "SYSLOG_ACTION_CONSOLE_LEVEL"}, {klog.ActionSizeUnread, "SYSLOG_ACTION_SIZE_UNREAD"},
	{klog.ActionSizeBuffer, "SYSLOG_ACTION_SIZE_BUFFER"},
}

// sysSyslog is syslog(2): EINVAL, EPERM without CAP_SYSLOG (as where dmesg_restrict is 1), EFAULT.
func (s *Calls) sysSyslog(t *task.Task, action int32, addr uint64, n int32) (uint64, error) {
	if !t.Cred().Capable(unix.CAP_SYSLOG) {
		return 0, unix.EPERM
	}
	l := s.o.Log
	switch action {
	case klog.ActionClose, klog.ActionOpen:
		return 0, nil
	case klog.ActionRead, klog.ActionReadAll, klog.ActionReadClear:
		if addr == 0 || n < 0 {
			return 0, unix.EINVAL
		}
		return readSyslog(t, l, action, addr, int(n))
	case klog.ActionClear:
		l.Clear()
		return 0, nil
	case klog.ActionConsoleOff, klog.ActionConsoleOn, klog.ActionConsoleLevel:
		return 0, unix.EPERM
	case klog.ActionSizeUnread:
		return uint64(l.Unread()), nil
	case klog.ActionSizeBuffer:
		return klog.Capacity, nil
	}
	return 0, unix.EINVAL
}

// readSyslog stores what is read of the log; SYSLOG_ACTION_READ waits for something.
func readSyslog(t *task.Task, l *klog.Log, action int32, addr uint64, n int) (uint64, error) {
	var b []byte
	if action == klog.ActionRead {
		err := t.Retry(l, unix.POLLIN, func() (err error) {
			b, err = l.Take(n)
			return err
		})
		if err != nil {
			return 0, err
		}
	} else {
		b = l.Last(n, action == klog.ActionReadClear)
	}
	return uint64(len(b)), copyOut(t, addr, b)
}
