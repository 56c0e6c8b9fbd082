// Package tty makes terminals: the line discipline N_TTY, which termios(3)
// describes and which is Linux's drivers/tty/n_tty.c in behaviour, pseudo-terminals (pty(7)), and the terminal
// that is a stream to the host. The requests are those of ioctl_tty(2).
//
// A Terminal holds two buffers. Input is edited and echoed as it comes, and kept
// until a program reads it. Output waits until the far side (the master of a
// pseudo-terminal, or the host) takes it. Nothing here blocks but ReadBy and
// the requests that wait for output to drain.
//
// Lock order: Terminal.reader, Terminal.writer → Terminal.mu → the host's stream. Wait queues and the
// layer of processes are told when Terminal.mu is free again (unlock).
package tty

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Jobs is what a terminal asks of the layer of processes: a task.Kernel.
type Jobs interface {
	// SignalForeground sends a signal to the foreground group of the session that tty controls.
	SignalForeground(tty task.Terminal, sig unix.Signal)
	// HangUp takes tty away from the session that it controls.
	HangUp(tty task.Terminal)
}

// Events of poll(2).
const (
	readable = unix.EPOLLIN | unix.EPOLLRDNORM
	writable = unix.EPOLLOUT | unix.EPOLLWRNORM
)

const (
	inputSize  = 4096 // N_TTY_BUF_SIZE: a line has at most 4095 bytes and its end
	outputSize = 8192 // what waits for the far side before writers do
	echoSize   = 4096 // echoes that wait while output is stopped
)

// A Terminal is a terminal as programs see it: the slave of a pseudo-terminal, or the host's.
type Terminal struct {
	jobs  Jobs
	major uint32
	minor uint32
	pty   *Pty // nil: the far side is host
	host  *host

	queue wait.Queue // of those who wait to read or write

	reader sync.Mutex // one read at a time moves bytes
	// +checklocks:reader
	rbuf   [256]byte
	writer sync.Mutex // one write at a time moves bytes
	// +checklocks:writer
	wbuf [1024]byte

	mu sync.Mutex
	// +checklocks:mu
	termios
	// +checklocks:mu
	size unix.Winsize
	// +checklocks:mu
	exclusive bool // TIOCEXCL
	// +checklocks:mu
	hangups uint32 // files opened before the last hangup are dead
	// +checklocks:mu
	input
	// +checklocks:mu
	output

	// What to tell when mu is free again.

	// +checklocks:mu
	ready wait.Mask // on queue
	// +checklocks:mu
	masterReady wait.Mask // on the master's queue
	// +checklocks:mu
	signals uint32 // bit n: signal n to the foreground group
}

func newTerminal(jobs Jobs, major, minor uint32) *Terminal {
	return &Terminal{jobs: jobs, major: major, minor: minor, termios: defaultTermios()}
}

// Device returns the number of the terminal's device file.
func (t *Terminal) Device() (major, minor uint32) { return t.major, t.minor }

// unlock takes what the far side has for us and now has room, gives up mu, and tells what has happened.
//
// +checklocksrelease:t.mu
func (t *Terminal) unlock() {
	t.refill()
	ready, master, signals := t.ready, t.masterReady, t.signals
	t.ready, t.masterReady, t.signals = 0, 0, 0
	t.mu.Unlock()
	for sig := unix.Signal(1); signals>>sig != 0; sig++ {
		if signals>>sig&1 != 0 {
			t.jobs.SignalForeground(t, sig)
		}
	}
	if ready != 0 {
		t.queue.Notify(ready)
	}
	if master != 0 {
		t.pty.queue.Notify(master)
	}
}

// raise has sig sent to the foreground group.
//
// +checklocks:t.mu
func (t *Terminal) raise(sig unix.Signal) { t.signals |= 1 << sig }

// SetSize is TIOCSWINSZ: the foreground group gets SIGWINCH when the size changes.
func (t *Terminal) SetSize(size unix.Winsize) {
	t.mu.Lock()
	if t.size != size {
		t.size = size
		t.raise(unix.SIGWINCH)
	}
	t.unlock()
}

// Hangup is vhangup(2): files that are open now read end-of-file and fail otherwise, and
// the session loses its terminal. Its signals come first: who reads the end-of-file has them already.
func (t *Terminal) Hangup() { t.hangUp(false) }

// hangUp is Hangup; masterEnds: because the master is closed.
func (t *Terminal) hangUp(masterEnds bool) {
	t.jobs.HangUp(t)
	t.mu.Lock()
	if masterEnds {
		t.pty.closed, t.pty.packet = true, false
		t.pending.clear()
		t.out.clear()
	}
	t.hangups++
	t.flushInput()
	t.echo.clear()
	t.stopped, t.stoppedByCall = false, false
	t.setTermios(defaultTermios())
	t.ready |= readable | writable | unix.EPOLLHUP | unix.EPOLLERR
	t.unlock()
}

// LeaderEnded implements task.Terminal: a terminal hangs up with its session, a pseudo-terminal does not.
func (t *Terminal) LeaderEnded() {
	if t.pty == nil {
		t.Hangup()
	}
}

// OpenControlling returns the device /dev/tty: the controlling terminal of who opens it, ENXIO without one.
func OpenControlling(k *task.Kernel) vfs.OpenDevice {
	return func(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
		tk := k.Task(ctx.TID)
		if tk == nil {
			return nil, unix.ENXIO
		}
		own, _ := tk.Process().Terminal()
		t, ok := own.(*Terminal)
		if !ok {
			return nil, unix.ENXIO
		}
		return t.Open(f)
	}
}

// OpenDevice returns the device that t is.
func (t *Terminal) OpenDevice(_ *vfs.Context, f *vfs.File) (vfs.FileOps, error) { return t.Open(f) }
