package tty

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/wait"
)

// A Stream is the far side of a terminal: a port to the host. Its operations do not block.
type Stream interface {
	ReadTo(dst uio.Sink) (int64, error)
	WriteFrom(src uio.Source) (int64, error)
	Register(e *wait.Entry)
}

// host is the far side of a terminal that is a stream.
type host struct {
	s     Stream
	bell  wait.Bell
	waits bool // for room to put input; guarded by Terminal.mu
}

// NewHost returns a terminal whose far side is s, in UTF-8 as all are now. It is served until s ends, when it hangs up.
func NewHost(jobs Jobs, s Stream, major, minor uint32) *Terminal {
	t := newTerminal(jobs, major, minor)
	t.mu.Lock()
	t.iflag |= unix.IUTF8
	t.mu.Unlock()
	t.host = &host{s: s, bell: wait.NewBell()}
	s.Register(&wait.Entry{Waiter: t.host.bell, Events: readable | writable | unix.POLLHUP | unix.POLLERR})
	go t.host.serve(t)
	return t
}

// serve moves bytes whenever the stream or the terminal asks.
func (h *host) serve(t *Terminal) {
	for h.input(t) {
		t.mu.Lock()
		h.send(t)
		t.unlock()
		<-h.bell
	}
	t.Hangup()
}

// input takes what the stream has and the terminal has room for; false at its end.
func (h *host) input(t *Terminal) bool {
	for {
		t.mu.Lock()
		h.waits = t.pending.len() > 0
		full := h.waits
		t.mu.Unlock()
		if full {
			return true
		}
		var b [64]byte
		buf := uio.Buffer(b[:])
		n, err := h.s.ReadTo(&buf)
		if err == unix.EAGAIN {
			return true
		}
		if err != nil || n == 0 {
			return false
		}
		t.mu.Lock()
		t.pending.put(b[:n]...)
		t.unlock()
	}
}

// send gives the stream as much output as it takes.
//
// +checklocks:t.mu
func (h *host) send(t *Terminal) {
	if t.out.len() == 0 {
		return
	}
	src := uio.Buffer(t.out.bytes())
	n, err := h.s.WriteFrom(&src)
	t.out.drop(int(n))
	if err != nil && err != unix.EAGAIN {
		t.out.clear() // nobody is there
	}
	t.drained()
}

// Idle reports whether the host has all output.
func (t *Terminal) Idle() bool {
	t.mu.Lock()
	v := t.out.len() == 0
	t.mu.Unlock()
	return v
}
