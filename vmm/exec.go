package vmm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"gosv/internal/frames"
)

// Exec is a further program in a machine that runs, and what of this process it is connected with.
type Exec struct {
	Argv           []string
	Env            []string
	Dir            string // "" for that of the machine's own program
	User           string // NAME|UID[:GROUP|GID], "" for root
	Terminal       bool   // Stdin and Stdout are the far side of a terminal
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal
	WindowSize     func() (rows, cols int, ok bool)
}

// Run has the program run, over a connection that Relay.Serve serves, and returns its outcome. The connection is closed.
func (e *Exec) Run(conn net.Conn) Result {
	defer conn.Close()
	r := &execRun{Exec: *e, conn: conn, credit: frames.Window}
	r.room = sync.NewCond(&r.mu)
	start, err := e.request()
	if err != nil {
		return Result{StatusNotExec, err}
	}
	r.send(frames.Start, start)
	go r.input()
	done := make(chan struct{})
	defer close(done)
	go r.signals(done)
	return r.serve()
}

// request encodes a Start frame's payload.
func (e *Exec) request() ([]byte, error) {
	var b []byte
	var bad error
	put := func(key, value string) {
		for _, c := range []byte(value) {
			if c == 0 {
				bad = fmt.Errorf("a NUL byte in %q", value)
			}
		}
		b = append(append(append(append(b, key...), '='), value...), 0)
	}
	for _, a := range e.Argv {
		put("arg", a)
	}
	for _, v := range e.Env {
		put("env", v)
	}
	if e.Dir != "" {
		put("cwd", e.Dir)
	}
	if e.User != "" {
		put("user", e.User)
	}
	if e.Terminal {
		put("tty", "1")
		if e.WindowSize != nil {
			if rows, cols, ok := e.WindowSize(); ok {
				put("winsize", fmt.Sprintf("%d %d", rows, cols))
			}
		}
	}
	if len(b) > frames.MaxPayload {
		bad = errors.New("argument list too long")
	}
	return b, bad
}

// execRun is the state of Exec.Run.
type execRun struct {
	Exec
	conn net.Conn

	write sync.Mutex // one frame at a time

	room *sync.Cond // on mu
	mu   sync.Mutex
	// credit is how many bytes of input may be sent.
	credit int // +checklocks:mu
}

func (r *execRun) send(kind frames.Kind, payload []byte) {
	r.sendRaw(frames.Append(nil, frames.Frame{Kind: kind, Payload: payload}))
}

func (r *execRun) sendRaw(b []byte) {
	r.write.Lock()
	defer r.write.Unlock()
	_, _ = r.conn.Write(b) // the reader notices the end of the connection
}

// input sends standard input as far as credit goes. It may stay blocked in a read when the program has ended.
func (r *execRun) input() {
	b := make([]byte, frames.MaxPayload)
	for r.Stdin != nil {
		r.mu.Lock()
		for r.credit == 0 {
			r.room.Wait()
		}
		n := min(r.credit, len(b))
		r.mu.Unlock()
		n, err := r.Stdin.Read(b[:n])
		if n > 0 {
			r.mu.Lock()
			r.credit -= n
			r.mu.Unlock()
			r.send(frames.Input, b[:n])
		}
		if err != nil {
			break
		}
	}
	r.send(frames.InputEnd, nil)
}

// signals passes signals and the window's size on.
func (r *execRun) signals(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case sig := <-r.Signals:
			n, ok := sig.(syscall.Signal)
			switch {
			case !ok || n == syscall.SIGPIPE:
			case n == syscall.SIGWINCH:
				if r.WindowSize == nil {
					continue
				}
				if rows, cols, ok := r.WindowSize(); ok {
					r.send(frames.Resize, frames.AppendSize(nil, uint16(rows), uint16(cols)))
				}
			default:
				r.send(frames.Signal, []byte{byte(n)})
			}
		}
	}
}

// serve writes the program's output until its end.
func (r *execRun) serve() Result {
	result := Result{StatusFailed, errors.New("the machine ended")}
	var d frames.Decoder
	var lost error
	take := func(f frames.Frame) {
		switch f.Kind {
		case frames.Output, frames.Errors:
			out := r.Stdout
			if f.Kind == frames.Errors {
				out = r.Stderr
			}
			if lost == nil {
				if _, lost = out.Write(f.Payload); lost != nil {
					r.send(frames.Hangup, nil) // nobody reads any more
				}
			}
			r.sendRaw(frames.AppendCredit(nil, 0, f.Kind, len(f.Payload)))
		case frames.Credit:
			if kind, n, ok := frames.ParseCredit(f.Payload); ok && kind == frames.Input {
				r.mu.Lock()
				r.credit = min(r.credit+n, frames.Window)
				r.room.Signal()
				r.mu.Unlock()
			}
		case frames.Exit:
			if len(f.Payload) == 1 {
				result = Result{Status: int(f.Payload[0])}
			}
		case frames.Failed:
			if len(f.Payload) > 0 {
				result = Result{int(f.Payload[0]), errors.New(printable(string(f.Payload[1:])))}
			}
		}
	}
	b := make([]byte, 64<<10)
	for {
		n, err := r.conn.Read(b)
		if n > 0 && d.Feed(b[:n], take) != nil {
			return Result{StatusFailed, errors.New("the machine sent what is no part of the protocol")}
		}
		if err != nil {
			break
		}
	}
	if lost != nil && !errors.Is(lost, syscall.EPIPE) && result.Err == nil {
		return Result{StatusFailed, fmt.Errorf("the program's output is incomplete: %w", lost)}
	}
	return result
}
