// Package agent runs further programs in the machine at the host's request, as
// `docker exec` does in a container. The protocol is that of internal/frames,
// on one stream.
//
// A session is one program: a process beside process 1 (task.Kernel.Spawn) whose
// standard streams are pipes, or a pseudo-terminal, and whose other ends the
// agent holds. Each stream is moved by a goroutine of its own, as far as credit
// goes. The host is told of the program's end when all that it wrote has been sent.
//
// The host is trusted with what it may do, everything, but not to be right:
// malformed frames end the port, and with it all sessions; unknown records and
// sessions are refused.
//
// Agent.mu, session.mu and stream.mu are leaves, but that a terminal is resized under session.mu.
package agent

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/internal/frames"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// maxSessions bounds what the host can have at a time.
const maxSessions = 64

// Stream is the port to the host. Its operations do not block.
type Stream interface {
	ReadTo(dst uio.Sink) (int64, error)
	WriteFrom(src uio.Source) (int64, error)
	Register(e *wait.Entry)
}

// Config is what an Agent works with.
type Config struct {
	Kernel *task.Kernel
	Port   Stream
	Root   vfs.Path // of the programs
	Env    []string // what a program has unless its request says otherwise
	Dir    string   // working directory, likewise
}

// Agent serves the exec port.
type Agent struct {
	Config

	mu       sync.Mutex
	sessions map[uint32]*session // guarded by mu
	out      []byte              // for the host; guarded by mu
	writer   wait.Bell           // there is something in out, or room on the port
}

// Serve starts to serve the port. It goes on until the host closes it.
func Serve(c Config) {
	a := &Agent{Config: c, sessions: make(map[uint32]*session), writer: wait.NewBell()}
	reader := wait.NewBell()
	c.Port.Register(&wait.Entry{Waiter: reader, Events: unix.POLLIN | unix.POLLHUP})
	c.Port.Register(&wait.Entry{Waiter: a.writer, Events: unix.POLLOUT | unix.POLLHUP | unix.POLLERR})
	go a.read(reader)
	go a.write()
}

// read takes frames from the port until it ends.
func (a *Agent) read(ready wait.Bell) {
	var d frames.Decoder
	b := make([]byte, 4096)
	for {
		buf := uio.Buffer(b)
		n, err := a.Port.ReadTo(&buf)
		if err == unix.EAGAIN {
			<-ready
			continue
		}
		if n == 0 || err != nil || d.Feed(b[:n], a.take) != nil {
			a.hangUp()
			return
		}
	}
}

// write sends what is in out until the port fails.
func (a *Agent) write() {
	for range a.writer {
		for {
			a.mu.Lock()
			b := a.out
			a.mu.Unlock()
			if len(b) == 0 {
				break
			}
			src := uio.Buffer(b)
			n, err := a.Port.WriteFrom(&src)
			a.mu.Lock()
			if a.out = a.out[n:]; len(a.out) == 0 {
				a.out = nil
			}
			a.mu.Unlock()
			if err == unix.EAGAIN || n == 0 && err == nil {
				break
			}
			if err != nil {
				a.hangUp()
				return
			}
		}
	}
}

// send queues a frame. What is queued is bounded by the credit of all sessions.
func (a *Agent) send(f frames.Frame) {
	a.mu.Lock()
	a.out = frames.Append(a.out, f)
	a.mu.Unlock()
	a.writer.Ring()
}

// grant tells the host that it may send n bytes more.
func (a *Agent) grant(id uint32, kind frames.Kind, n int) {
	a.mu.Lock()
	a.out = frames.AppendCredit(a.out, id, kind, n)
	a.mu.Unlock()
	a.writer.Ring()
}

// hangUp ends all sessions.
func (a *Agent) hangUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		s.hangUp()
	}
}

// take serves one frame of the host.
func (a *Agent) take(f frames.Frame) {
	a.mu.Lock()
	s := a.sessions[f.Session]
	isNew := f.Kind == frames.Start && s == nil
	full := len(a.sessions) >= maxSessions
	if isNew && !full {
		s = newSession(a, f.Session)
		a.sessions[f.Session] = s
	}
	a.mu.Unlock()
	switch {
	case isNew && full:
		a.fail(f.Session, statusFailed, "too many programs at a time")
	case isNew:
		payload := append([]byte(nil), f.Payload...)
		go func() { // it may have to read from a disk
			if err := s.run(payload); err != nil {
				a.fail(f.Session, statusOf(err), err.Error())
			}
		}()
	case s != nil:
		s.take(f)
	}
}

// drop forgets a session.
func (a *Agent) drop(id uint32) {
	a.mu.Lock()
	delete(a.sessions, id)
	a.mu.Unlock()
}

// Statuses as Docker has them.
const (
	statusFailed        = 125
	statusNotExecutable = 126
	statusNotFound      = 127
	statusSignal        = 128
)

// fail tells the host why there is no program.
func (a *Agent) fail(id uint32, status byte, why string) {
	text := why[:min(len(why), frames.MaxPayload-1)]
	a.send(frames.Frame{Session: id, Kind: frames.Failed, Payload: append([]byte{status}, text...)})
}
