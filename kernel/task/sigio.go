package task

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/signal"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// PollMsg is what SIGIO tells of for a directory that F_NOTIFY watches.
const PollMsg wait.Mask = 0x400 // POLLMSG

// ioEvents are the events that SIGIO tells of, with si_code; the first that is there counts.
var ioEvents = []struct {
	events wait.Mask
	code   int32
}{
	{PollMsg, 3},
	{unix.POLLPRI, 5}, {unix.POLLIN | unix.EPOLLRDNORM, 1}, {unix.POLLERR, 4}, {unix.POLLHUP | unix.POLLRDHUP, 6}, {unix.POLLOUT | unix.EPOLLWRNORM, 2},
}

// Types of vfs.Owner.
const (
	ownerTID = iota
	ownerPID
	ownerPGRP
)

// SendIO sends SIGIO, or the signal that F_SETSIG chose, because of events on a file to whom F_SETOWN named, if that one may
// be signalled with the credentials c of whoever asked for it (fcntl(2)).
func (k *Kernel) SendIO(o vfs.Owner, c *cred.Cred, fd int32, events wait.Mask) {
	info := kernelInfo(unix.SIGIO)
	if sig := unix.Signal(o.Signal); sig != 0 {
		for _, e := range ioEvents {
			if e.events&events != 0 {
				info.SetHead(sig, 0, e.code)
				band := events & e.events
				if band == PollMsg {
					band |= unix.POLLIN | unix.EPOLLRDNORM // as Linux's table of bands
				}
				info.SetPoll(int64(band), fd)
				break
			}
		}
	}
	k.sendOwner(o, c, &info)
}

// SendUrgent sends SIGURG to whom F_SETOWN named, as SendIO does SIGIO.
func (k *Kernel) SendUrgent(o vfs.Owner, c *cred.Cred) {
	if o.ID != 0 {
		info := kernelInfo(unix.SIGURG)
		k.sendOwner(o, c, &info)
	}
}

// sendOwner sends a signal to the owner of a file.
func (k *Kernel) sendOwner(o vfs.Owner, c *cred.Cred, info *signal.Info) {
	may := func(p *Process) bool {
		theirs := p.Cred()
		return c.EUID == 0 || theirs == nil || sameUser(c, theirs)
	}
	switch o.Type {
	case ownerTID:
		if t := k.Task(o.ID); t != nil && may(t.proc) {
			t.Send(info)
		}
	case ownerPID:
		if p := k.Process(o.ID); p != nil && may(p) {
			p.send(info)
		}
	case ownerPGRP:
		for _, p := range k.groupMembers(o.ID) {
			if may(p) {
				p.send(info)
			}
		}
	}
}
