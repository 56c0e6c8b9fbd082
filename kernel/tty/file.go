package tty

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// file is an open terminal.
type file struct {
	vfs.FileDefaults
	t       *Terminal
	hangups uint32 // how many there had been when it opened
}

// Open makes f, which is being opened, an open file of t: EBUSY when another has it for itself (TIOCEXCL), EIO when it is the slave of
// a pseudo-terminal that is locked or has no master.
func (t *Terminal) Open(f *vfs.File) (vfs.FileOps, error) {
	t.mu.Lock()
	defer t.unlock()
	if t.exclusive && !f.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return nil, unix.EBUSY
	}
	if p := t.pty; p != nil {
		if p.locked || p.closed {
			return nil, unix.EIO
		}
		p.slaves++
		p.slaveGone = false
	}
	f.SetTerminal()
	return &file{t: t, hangups: t.hangups}, nil
}

// Terminal implements task.TerminalFile.
func (f *file) Terminal() task.Terminal { return f.t }

// hung reports whether the terminal hung up since f was opened.
//
// +checklocks:f.t.mu
func (f *file) hung() bool { return f.hangups != f.t.hangups }

// Release implements vfs.FileOps.
func (f *file) Release(*vfs.File) {
	t := f.t
	t.mu.Lock()
	if p := t.pty; p != nil {
		if p.slaves--; p.slaves == 0 {
			p.packet = false
			p.slaveGone = true
			t.masterReady |= readable | writable | unix.EPOLLHUP
		}
	}
	t.unlock()
}

// jobControl checks that tk may use the terminal; sig is what a background process gets. EIO, ERESTARTSYS.
func (t *Terminal) jobControl(tk *task.Task, sig unix.Signal) error {
	if tk == nil || tk.Process().InForeground(t) {
		return nil
	}
	return tk.TTYStop(sig)
}

// MayWrite implements task.TerminalFile: it applies TOSTOP.
func (f *file) MayWrite(tk *task.Task) error {
	f.t.mu.Lock()
	stops := f.t.l(unix.TOSTOP) && !f.hung()
	f.t.mu.Unlock()
	if !stops {
		return nil
	}
	return f.t.jobControl(tk, unix.SIGTTOU)
}

// Write implements vfs.FileOps: EAGAIN when there is no room, or output is stopped, EIO after a hangup.
func (f *file) Write(_ *vfs.File, src uio.Source, _ int64) (n int64, err error) {
	t := f.t
	t.writer.Lock()
	defer t.writer.Unlock()
	for err == nil {
		t.mu.Lock()
		t.flushEcho()
		room := t.writeRoom()
		if room == 0 {
			t.push()
			room = t.writeRoom()
		}
		hung := f.hung()
		t.unlock()
		if hung {
			err = unix.EIO
			break
		}
		if src.Left() == 0 {
			break
		}
		if room == 0 {
			err = unix.EAGAIN
			break
		}
		var m int
		if m, err = src.Take(t.wbuf[:min(room, len(t.wbuf))]); m > 0 {
			t.mu.Lock()
			t.write(t.wbuf[:m])
			t.unlock()
			n += int64(m)
		}
	}
	t.mu.Lock()
	t.push()
	t.unlock()
	if n > 0 {
		err = nil
	}
	return n, err
}

// pass is one look for input.
type pass struct {
	n    int64
	some bool // there was input, though perhaps no byte of it: an end of file
	done bool // a line was read
	end  bool // there will be no more
}

// Read implements vfs.FileOps for readers that are no task: what is there now, or EAGAIN.
func (f *file) Read(_ *vfs.File, dst uio.Sink, _ int64) (int64, error) {
	p, err := f.read(dst)
	if err == nil && !p.some && !p.end {
		err = unix.EAGAIN
	}
	return p.n, err
}

// read moves what is there to dst.
func (f *file) read(dst uio.Sink) (p pass, err error) {
	t := f.t
	t.reader.Lock()
	defer t.reader.Unlock()
	for dst.Left() > 0 && !p.done && err == nil {
		t.mu.Lock()
		if f.hung() {
			p.end = true
			t.mu.Unlock()
			break
		}
		if !t.available(1) {
			if t.pty != nil && t.pty.closed && !p.some {
				err = unix.EIO
			}
			t.mu.Unlock()
			break
		}
		p.some = true
		canonical := t.canonical()
		want := min(dst.Left(), len(t.rbuf))
		n, end := t.take(t.rbuf[:want])
		t.unlock()
		var m int
		if n > 0 {
			m, err = dst.Put(t.rbuf[:n])
			p.n += int64(m)
		}
		p.done = canonical && (end || n < want)
	}
	if p.n > 0 {
		err = nil
	}
	return p, err
}

// timing is how a read waits in non-canonical mode (termios(3), MIN and TIME).
type timing struct {
	least int64 // bytes
	first int64 // for the first byte: ns, 0 without limit, negative not at all
	next  int64 // between bytes: ns, 0 without limit
}

const tenth = 100_000_000 // the unit of TIME in ns

func (t *Terminal) timing() timing {
	t.mu.Lock()
	defer t.mu.Unlock()
	time := int64(t.cc[unix.VTIME]) * tenth
	switch {
	case t.l(unix.ICANON):
		return timing{}
	case t.cc[unix.VMIN] > 0:
		return timing{least: int64(t.cc[unix.VMIN]), next: time}
	case time == 0:
		return timing{least: 1, first: -1}
	}
	return timing{least: 1, first: time}
}

// ReadBy implements task.TerminalFile.
func (f *file) ReadBy(tk *task.Task, vf *vfs.File, dst uio.Sink) (n int64, err error) {
	f.t.mu.Lock()
	hung := f.hung()
	f.t.mu.Unlock()
	if hung {
		return 0, nil
	}
	if err := f.t.jobControl(tk, unix.SIGTTIN); err != nil {
		return 0, err
	}
	clock := tk.Kernel().Clock
	how := f.t.timing()
	deadline := int64(0)
	if how.first > 0 {
		deadline = clock.After(how.first)
	}
	for dst.Left() > 0 {
		p, err := f.read(dst)
		n += p.n
		switch {
		case p.n > 0 || p.some:
			if p.done || n >= how.least {
				return n, nil
			}
			if how.next > 0 {
				deadline = clock.After(how.next)
			}
			continue
		case p.end || err != nil:
		case how.first < 0:
		case vf.Nonblock():
			err = unix.EAGAIN
		default:
			if err = tk.WaitFor((*inputOf)(f), readable, deadline); err == nil {
				continue
			}
			if err == unix.ETIMEDOUT {
				err = nil
			}
		}
		if n > 0 {
			err = nil
		}
		return n, err
	}
	return n, nil
}

// inputOf is what a reader waits for: any input at all, which Poll does not tell.
type inputOf file

// Readiness implements task.Pollable.
func (f *inputOf) Readiness(wait.Mask) wait.Mask {
	t := f.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.available(1) || (*file)(f).hung() || t.pty != nil && t.pty.closed {
		return unix.POLLIN
	}
	return 0
}

// Register implements task.Pollable.
func (f *inputOf) Register(e *wait.Entry) { f.t.queue.Add(e) }

// Unregister implements task.Pollable.
func (f *inputOf) Unregister(e *wait.Entry) { f.t.queue.Remove(e) }

// drainOf is what waits for all output to be sent.
type drainOf file

// Readiness implements task.Pollable.
func (f *drainOf) Readiness(wait.Mask) wait.Mask {
	t := f.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pty != nil || (*file)(f).hung() || t.out.len() == 0 {
		return unix.POLLOUT
	}
	return 0
}

// Register implements task.Pollable.
func (f *drainOf) Register(e *wait.Entry) { f.t.queue.Add(e) }

// Unregister implements task.Pollable.
func (f *drainOf) Unregister(e *wait.Entry) { f.t.queue.Remove(e) }

// drain waits until the far side has all output (tcdrain(3)); what a pseudo-terminal was
// given its master has: ERESTARTSYS.
func (f *file) drain(tk *task.Task) error {
	if tk == nil {
		return nil
	}
	return tk.WaitFor((*drainOf)(f), writable, 0)
}

// Poll implements vfs.FileOps.
func (f *file) Poll(_ *vfs.File, mask wait.Mask) (ready wait.Mask) {
	t := f.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.hung() {
		return (readable | writable | unix.EPOLLHUP | unix.EPOLLERR) & mask
	}
	least := 1
	if t.cc[unix.VTIME] == 0 && t.cc[unix.VMIN] > 1 {
		least = int(t.cc[unix.VMIN])
	}
	if t.available(least) {
		ready |= readable
	}
	if t.writeRoom() > 0 {
		ready |= writable
	}
	if t.pty != nil && t.pty.closed {
		ready |= unix.EPOLLHUP
	}
	return ready & mask
}

// Register implements vfs.FileOps.
func (f *file) Register(_ *vfs.File, e *wait.Entry) { f.t.queue.Add(e) }

// Unregister implements vfs.FileOps.
func (f *file) Unregister(_ *vfs.File, e *wait.Entry) { f.t.queue.Remove(e) }
