package task

import (
	"encoding/binary"
	"strconv"
	"sync/atomic"

	"gosv/kernel/abi"
	"gosv/kernel/signal"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"

	"golang.org/x/sys/unix"
)

// signalfd is the file of signalfd(2). A read takes the signals of whoever reads; poll and
// epoll look at those of the thread that made the file.
type signalfd struct {
	vfs.FileDefaults
	t    *Task
	mask atomic.Uint64
}

// NewSignalfd is signalfd(2) without the descriptor, for the signals of mask; flags may hold O_NONBLOCK.
func (t *Task) NewSignalfd(mask signal.Set, flags int) *vfs.File {
	s := &signalfd{t: t}
	s.mask.Store(uint64(mask &^ signal.Unblockable))
	f := vfs.NewAnon("signalfd", s, t.Cred(), unix.O_RDWR|flags&unix.O_NONBLOCK)
	f.SetTerminal() // it is none, but read(2) tells it too who reads
	return f
}

// SetSignalfd changes the signals of a file that NewSignalfd made: EINVAL for others.
func SetSignalfd(f *vfs.File, mask signal.Set) error {
	s, ok := f.Ops().(*signalfd)
	if !ok {
		return unix.EINVAL
	}
	s.mask.Store(uint64(mask &^ signal.Unblockable))
	s.t.proc.sigfd.Notify(unix.POLLIN)
	return nil
}

// Terminal implements TerminalFile.
func (s *signalfd) Terminal() Terminal { return nil }

// MayWrite implements TerminalFile.
func (s *signalfd) MayWrite(*Task) error { return unix.EINVAL }

// ReadBy implements TerminalFile: as many signals as there are and dst has room for. EINVAL when that is none.
func (s *signalfd) ReadBy(t *Task, f *vfs.File, dst uio.Sink) (n int64, err error) {
	if dst.Left() < sizeofSignalfdInfo {
		return 0, unix.EINVAL
	}
	for dst.Left() >= sizeofSignalfdInfo {
		info, err := t.Sigtimedwait(signal.Set(s.mask.Load()), 0, n > 0 || f.Nonblock())
		if err != nil {
			if n > 0 {
				break
			}
			if err == unix.EINTR {
				err = abi.ERESTARTSYS
			}
			return 0, err
		}
		b := signalfdInfo(info)
		m, err := dst.Put(b[:])
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Poll implements vfs.FileOps.
func (s *signalfd) Poll(_ *vfs.File, mask wait.Mask) wait.Mask {
	if s.t.HasSignal(signal.Set(s.mask.Load())) {
		return mask & (unix.POLLIN | abi.POLLRDNORM)
	}
	return 0
}

// Register implements vfs.FileOps.
func (s *signalfd) Register(_ *vfs.File, e *wait.Entry) { s.t.proc.sigfd.Add(e) }

// Unregister implements vfs.FileOps.
func (s *signalfd) Unregister(_ *vfs.File, e *wait.Entry) { s.t.proc.sigfd.Remove(e) }

// FDInfo is what /proc/PID/fdinfo shows.
func (s *signalfd) FDInfo() string {
	set := strconv.FormatUint(s.mask.Load(), 16)
	return "sigmask:\t" + "0000000000000000"[len(set):] + set + "\n"
}

const sizeofSignalfdInfo = 128

// Values of si_code (sigaction(2)).
const (
	siTimer = -2
	siSigIO = -5
)

// signalfdInfo is struct signalfd_siginfo of a signal (signalfd(2)).
func signalfdInfo(info *signal.Info) (b [sizeofSignalfdInfo]byte) {
	le := binary.LittleEndian
	copy(b[:12], info[:12]) // si_signo, si_errno, si_code
	word := func(to, from int) { copy(b[to:to+4], info[from:from+4]) }
	long := func(to, from int) { copy(b[to:to+8], info[from:from+8]) }
	code := info.Code()
	switch sig := info.Signo(); {
	case code == siTimer:
		word(24, 16) // ssi_tid
		word(32, 20) // ssi_overrun
		word(44, 24) // ssi_int
		long(48, 24) // ssi_ptr
	case code == siSigIO || code > 0 && code < 0x80 && sig == unix.SIGIO:
		word(28, 16) // ssi_band
		word(20, 24) // ssi_fd
	case code > 0 && code < 0x80 && sig == unix.SIGCHLD:
		word(12, 16) // ssi_pid
		word(16, 20) // ssi_uid
		word(40, 24) // ssi_status
		long(56, 32) // ssi_utime
		long(64, 40) // ssi_stime
	case code > 0 && code < 0x80:
		le.PutUint64(b[72:], info.Addr())
	default:
		word(12, 16)
		word(16, 20)
		if code < 0 {
			word(44, 24)
			long(48, 24)
		}
	}
	return b
}
