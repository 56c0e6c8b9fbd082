package tty

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// request is one ioctl(2) on a terminal, through a file of its own or through the master.
type request struct {
	*vfs.IoctlArgs
	t    *Terminal
	file *file      // nil: through the master
	vf   *vfs.File  // the open file
	task *task.Task // nil: the kernel itself
}

// Ioctl implements vfs.FileOps (ioctl_tty(2)): EIO after a hangup, ENOTTY for what it does not know.
func (f *file) Ioctl(vf *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	f.t.mu.Lock()
	hung := f.hung()
	f.t.mu.Unlock()
	if hung {
		if a.Cmd == unix.TIOCSPGRP {
			return 0, unix.ENOTTY
		}
		return 0, unix.EIO
	}
	r := request{IoctlArgs: a, t: f.t, file: f, vf: vf}
	r.task, _ = a.Task.(*task.Task)
	if err := r.mayChange(); err != nil {
		return 0, err
	}
	return r.serve()
}

// Ioctl implements vfs.FileOps: the modes are the slave's.
func (m *master) Ioctl(vf *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	r := request{IoctlArgs: a, t: m.Slave, vf: vf}
	r.task, _ = a.Task.(*task.Task)
	switch a.Cmd {
	case unix.TIOCGPTN:
		return 0, a.PutInt32(int32(m.Index))
	case unix.TIOCSPTLCK, unix.TIOCPKT:
		on, err := r.int32()
		if err != nil {
			return 0, err
		}
		return 0, m.set(a.Cmd, on != 0)
	case unix.TIOCGPTLCK, unix.TIOCGPKT:
		m.Slave.mu.Lock()
		on := m.locked
		if a.Cmd == unix.TIOCGPKT {
			on = m.packet
		}
		m.Slave.mu.Unlock()
		return r.putFlag(on)
	case unix.TIOCSIG:
		return 0, m.signal(unix.Signal(a.Arg))
	case unix.TIOCGPTPEER:
		return m.openPeer(&r)
	case unix.TIOCINQ:
		m.Slave.mu.Lock()
		n := m.Slave.out.len()
		m.Slave.mu.Unlock()
		return 0, a.PutInt32(int32(n))
	case unix.TCFLSH:
		return 0, m.flush(int(a.Arg))
	case unix.TCSBRK, unix.TCSBRKP, unix.TIOCSBRK, unix.TIOCCBRK:
		return 0, nil // it has no line: there is nothing to wait for, or to break
	case unix.TCXONC, unix.TIOCNOTTY, unix.TIOCVHANGUP:
		return 0, unix.ENOTTY
	}
	return r.serve()
}

// set changes a flag of the master.
func (m *master) set(cmd uint32, on bool) error {
	m.Slave.mu.Lock()
	defer m.Slave.unlock()
	if cmd == unix.TIOCSPTLCK {
		m.locked = on
		return nil
	}
	if on && !m.packet {
		m.status = 0
	}
	m.packet = on
	return nil
}

// signal is TIOCSIG: EINVAL for other signals than those of the keyboard.
func (m *master) signal(sig unix.Signal) error {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP:
	default:
		return unix.EINVAL
	}
	m.Slave.jobs.SignalForeground(m.Slave, sig)
	return nil
}

// flush is TCFLSH as the master sees it: its output is the slave's input.
func (m *master) flush(what int) error {
	t := m.Slave
	t.mu.Lock()
	defer t.unlock()
	switch what {
	case unix.TCIFLUSH:
		t.out.clear()
	case unix.TCOFLUSH:
		t.pending.clear()
	case unix.TCIOFLUSH:
		t.out.clear()
		t.pending.clear()
	default:
		return unix.EINVAL
	}
	t.drained()
	t.masterReady |= writable
	return nil
}

// openPeer is TIOCGPTPEER: it opens the slave, wherever devpts is mounted.
func (m *master) openPeer(r *request) (uint64, error) {
	if r.task == nil {
		return 0, unix.ENOTTY
	}
	flags := int(r.Arg)
	f, err := m.peer(r.task.Cred(), flags)
	if err != nil {
		return 0, err
	}
	limit := min(r.task.Process().Limit(unix.RLIMIT_NOFILE).Cur, 1<<20)
	fd, err := r.task.Files.Install(f, flags, 0, int(limit))
	if err != nil {
		f.DecRef()
		return 0, err
	}
	return uint64(fd), nil
}

// mayChange stops a background process that asks for a change (tty_check_change of Linux): EIO, ERESTARTSYS.
func (r *request) mayChange() error {
	switch r.Cmd {
	case unix.TIOCSETD, unix.TIOCSBRK, unix.TIOCCBRK, unix.TCSBRK, unix.TCSBRKP, unix.TCFLSH, unix.TCXONC, unix.TIOCSPGRP,
		unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TCSETS2, unix.TCSETSW2, unix.TCSETSF2, unix.TCSETA, unix.TCSETAW, unix.TCSETAF:
		err := r.t.jobControl(r.task, unix.SIGTTOU)
		if err == unix.EIO && r.Cmd == unix.TIOCSPGRP {
			err = unix.ENOTTY
		}
		return err
	}
	return nil
}

// serve carries out what every terminal knows: what changes how it works, or what it holds.
func (r *request) serve() (uint64, error) {
	t := r.t
	switch r.Cmd {
	case unix.TCGETS, unix.TCGETS2, unix.TCGETA:
		return 0, r.getModes()
	case unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TCSETS2, unix.TCSETSW2, unix.TCSETSF2, unix.TCSETA, unix.TCSETAW, unix.TCSETAF:
		return 0, r.setModes()
	case unix.TIOCGWINSZ:
		return 0, r.getSize()
	case unix.TIOCSWINSZ:
		return 0, r.setSize()
	case unix.TCFLSH:
		return 0, r.flush()
	case unix.TCXONC:
		return 0, r.flow()
	case unix.TCSBRK, unix.TCSBRKP, unix.TIOCSBRK:
		return 0, r.file.drain(r.task) // a break means nothing to the far side
	case unix.TIOCCBRK:
		return 0, nil
	case unix.TIOCEXCL, unix.TIOCNXCL:
		t.mu.Lock()
		t.exclusive = r.Cmd == unix.TIOCEXCL
		t.mu.Unlock()
		return 0, nil
	case unix.TIOCSETD:
		n, err := r.int32()
		if err == nil && n != 0 {
			err = unix.EINVAL
		}
		return 0, err
	case unix.TIOCSTI:
		return 0, unix.EIO // as with Linux's dev.tty.legacy_tiocsti=0
	case unix.TIOCVHANGUP:
		if !r.vf.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		t.Hangup()
		return 0, nil
	}
	return r.tell()
}

// tell carries out what only asks.
func (r *request) tell() (uint64, error) {
	t := r.t
	switch r.Cmd {
	case unix.TIOCINQ:
		t.mu.Lock()
		n := t.unread()
		t.mu.Unlock()
		return 0, r.PutInt32(int32(n))
	case unix.TIOCOUTQ:
		n := 0
		if t.pty == nil {
			t.mu.Lock()
			n = t.out.len()
			t.mu.Unlock()
		}
		return 0, r.PutInt32(int32(n))
	case unix.TIOCGEXCL:
		t.mu.Lock()
		on := t.exclusive
		t.mu.Unlock()
		return r.putFlag(on)
	case unix.TIOCGETD:
		return 0, r.PutInt32(0) // N_TTY
	case unix.TIOCGDEV:
		major, minor := t.Device()
		return 0, r.PutInt32(int32(minor&0xff | major<<8 | minor&^0xff<<12))
	case unix.TIOCGSOFTCAR:
		t.mu.Lock()
		local := t.cflag & unix.CLOCAL / unix.CLOCAL
		t.mu.Unlock()
		return 0, r.PutInt32(int32(local))
	}
	return r.serveSession()
}

// serveSession carries out the requests about the session that the terminal controls.
func (r *request) serveSession() (uint64, error) {
	if r.task == nil {
		return 0, unix.ENOTTY
	}
	p := r.task.Process()
	own, _ := p.Terminal()
	mine := own == task.Terminal(r.t)
	switch r.Cmd {
	case unix.TIOCSCTTY:
		admin := r.task.Cred().Capable(unix.CAP_SYS_ADMIN)
		if !r.vf.Readable() && !admin {
			return 0, unix.EPERM
		}
		return 0, p.SetTerminal(r.t, r.Arg == 1 && admin)
	case unix.TIOCNOTTY:
		return 0, p.DropTerminal(r.t)
	case unix.TIOCSPGRP:
		id, err := r.int32()
		if err == nil && id < 0 {
			err = unix.EINVAL
		}
		if err == nil {
			err = p.SetForeground(r.t, p.PIDs().Global(id))
		}
		return 0, err
	case unix.TIOCGPGRP, unix.TIOCGSID:
		sid, fg := r.task.Kernel().SessionOf(r.t)
		if r.file != nil && !mine || sid == 0 && r.Cmd == unix.TIOCGSID {
			return 0, unix.ENOTTY
		}
		if r.Cmd == unix.TIOCGSID {
			fg = sid
		}
		return 0, r.PutInt32(p.PIDs().Local(fg))
	}
	return 0, unix.ENOTTY
}

// int32 reads the number that Arg points to: EFAULT.
func (r *request) int32() (int32, error) {
	var b [4]byte
	if _, err := r.Mem.CopyIn(b[:], r.Arg); err != nil {
		return 0, err
	}
	return int32(binary.LittleEndian.Uint32(b[:])), nil
}

func (r *request) putFlag(on bool) (uint64, error) {
	v := int32(0)
	if on {
		v = 1
	}
	return 0, r.PutInt32(v)
}

func (r *request) put(b []byte) error {
	_, err := r.Mem.CopyOut(r.Arg, b)
	return err
}

func (r *request) getModes() error {
	r.t.mu.Lock()
	m := r.t.termios
	r.t.mu.Unlock()
	if r.Cmd == unix.TCGETA {
		var b [sizeofTermio]byte
		m.encodeOld(&b)
		return r.put(b[:])
	}
	var b [sizeofTermios2]byte
	m.encode(&b)
	if r.Cmd == unix.TCGETS {
		return r.put(b[:sizeofTermios])
	}
	return r.put(b[:])
}

// setModes is tcsetattr(3): EFAULT, ERESTARTSYS.
func (r *request) setModes() error {
	size := sizeofTermios
	switch r.Cmd {
	case unix.TCSETS2, unix.TCSETSW2, unix.TCSETSF2:
		size = sizeofTermios2
	case unix.TCSETA, unix.TCSETAW, unix.TCSETAF:
		size = sizeofTermio
	}
	var b [sizeofTermios2]byte
	if _, err := r.Mem.CopyIn(b[:size], r.Arg); err != nil {
		return err
	}
	t := r.t
	switch r.Cmd {
	case unix.TCSETSF, unix.TCSETSF2, unix.TCSETAF:
		t.mu.Lock()
		t.flushInput()
		t.packet(unix.TIOCPKT_FLUSHREAD, 0)
		t.unlock()
		fallthrough
	case unix.TCSETSW, unix.TCSETSW2, unix.TCSETAW:
		if r.file != nil {
			if err := r.file.drain(r.task); err != nil {
				return err
			}
		}
	}
	t.mu.Lock()
	defer t.unlock()
	m := t.termios
	if size == sizeofTermio {
		m.decodeOld(b[:size])
	} else {
		m.decode(b[:size])
	}
	m.setSpeeds()
	t.setTermios(m)
	return nil
}

func (r *request) getSize() error {
	r.t.mu.Lock()
	s := r.t.size
	r.t.mu.Unlock()
	var b [sizeofWinsize]byte
	for i, v := range [...]uint16{s.Row, s.Col, s.Xpixel, s.Ypixel} {
		binary.LittleEndian.PutUint16(b[2*i:], v)
	}
	return r.put(b[:])
}

func (r *request) setSize() error {
	var b [sizeofWinsize]byte
	if _, err := r.Mem.CopyIn(b[:], r.Arg); err != nil {
		return err
	}
	le := binary.LittleEndian
	r.t.SetSize(unix.Winsize{Row: le.Uint16(b[:]), Col: le.Uint16(b[2:]), Xpixel: le.Uint16(b[4:]), Ypixel: le.Uint16(b[6:])})
	return nil
}

// flush is tcflush(3): EINVAL.
func (r *request) flush() error {
	t := r.t
	if r.Arg > unix.TCIOFLUSH {
		return unix.EINVAL
	}
	t.mu.Lock()
	defer t.unlock()
	if r.Arg != unix.TCOFLUSH {
		t.pending.clear()
		t.flushInput()
		t.packet(unix.TIOCPKT_FLUSHREAD, 0)
		t.masterReady |= writable
	}
	if r.Arg != unix.TCIFLUSH {
		t.flushOutput()
	}
	return nil
}

// flow is tcflow(3): EINVAL.
func (r *request) flow() error {
	t := r.t
	t.mu.Lock()
	defer t.unlock()
	switch r.Arg {
	case unix.TCOOFF:
		if !t.stoppedByCall {
			t.stoppedByCall = true
			t.stop()
		}
	case unix.TCOON:
		if t.stoppedByCall {
			t.stoppedByCall = false
			t.start()
		}
	case unix.TCIOFF, unix.TCION:
		c := t.cc[unix.VSTOP]
		if r.Arg == unix.TCION {
			c = t.cc[unix.VSTART]
		}
		if c != disabled {
			t.out.put(c)
			t.push()
		}
	default:
		return unix.EINVAL
	}
	return nil
}
