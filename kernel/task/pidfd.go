package task

import (
	"gosv/kernel/signal"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"

	"golang.org/x/sys/unix"
)

// pidfd is the file of pidfd_open(2) and CLONE_PIDFD: it becomes readable when the process has ended.
type pidfd struct {
	vfs.FileDefaults
	p *Process
}

// NewPidfd returns a file that stands for p; flags may hold O_NONBLOCK (PIDFD_NONBLOCK).
func (p *Process) NewPidfd(t *Task, flags int) *vfs.File {
	return vfs.NewAnon("pidfd", &pidfd{p: p}, t.Cred(), unix.O_RDWR|flags)
}

// PidfdProcess returns the process that f stands for, nil when f is no pidfd.
func PidfdProcess(f *vfs.File) *Process {
	if fd, ok := f.Ops().(*pidfd); ok {
		return fd.p
	}
	return nil
}

// FDInfo is what /proc/PID/fdinfo shows in a /proc of the PID namespace ns.
func (fd *pidfd) FDInfo(ns *PIDNamespace) string {
	if fd.p.State() == 'X' {
		return "Pid:\t-1\nNSpid:\t-1\n"
	}
	s := "Pid:\t" + itoa(ns.Local(fd.p.PID)) + "\nNSpid:"
	list := ns.Chain(fd.p.PID, fd.p.pids)
	if list == nil {
		list = []int32{0}
	}
	for _, n := range list {
		s += "\t" + itoa(n)
	}
	return s + "\n"
}

// Poll implements vfs.FileOps.
func (fd *pidfd) Poll(_ *vfs.File, mask wait.Mask) wait.Mask {
	if fd.p.Zombie() {
		return mask & (unix.POLLIN | 0x40) // and POLLRDNORM
	}
	return 0
}

// Register implements vfs.FileOps.
func (fd *pidfd) Register(_ *vfs.File, e *wait.Entry) { fd.p.exited.Add(e) }

// Unregister implements vfs.FileOps.
func (fd *pidfd) Unregister(_ *vfs.File, e *wait.Entry) { fd.p.exited.Remove(e) }

// KillProcess is pidfd_send_signal(2); info is nil for that of kill(2). ESRCH when p has been reaped, EPERM, EINVAL.
func (t *Task) KillProcess(p *Process, sig unix.Signal, info *signal.Info) error {
	if sig < 0 || sig > signal.Max {
		return unix.EINVAL
	}
	if p.State() == 'X' {
		return unix.ESRCH
	}
	if info == nil {
		i := t.userInfo(sig, signal.User)
		return t.killOne(p, sig, &i)
	}
	if err := t.checkInfo(p.PID, sig, info); err != nil {
		return err
	}
	return t.killOne(p, sig, info)
}
