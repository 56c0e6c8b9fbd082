package agent

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/internal/frames"
	"gosv/kernel/passwd"
	"gosv/kernel/pipe"
	"gosv/kernel/syscall"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// session is one program and the agent's ends of its streams.
type session struct {
	a  *Agent
	id uint32

	input, output, errors stream

	over   chan struct{} // closed when the program has ended
	status byte          // of the program; set before over is closed
	gone   chan struct{} // closed when nobody is there any more
	once   sync.Once     // closes gone

	mu   sync.Mutex
	proc *task.Process // nil before it runs; guarded by mu
	tty  *vfs.File     // the master, nil without a terminal; guarded by mu
}

func newSession(a *Agent, id uint32) *session {
	s := &session{a: a, id: id, over: make(chan struct{}), gone: make(chan struct{})}
	s.input.init()
	s.output.init()
	s.errors.init()
	return s
}

// refusal is an error that is the program's fault, or its name's.
type refusal struct {
	what string
	err  error
}

func (r *refusal) Error() string { return r.what + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// statusOf gives an error in starting a program its exit status.
func statusOf(err error) byte {
	var r *refusal
	switch {
	case !errors.As(err, &r):
		return statusFailed
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return statusNotFound
	}
	return statusNotExecutable
}

// run runs the program that the payload of a Start frame asks for, and returns when it has ended and the host
// has been told.
func (s *session) run(payload []byte) error {
	defer s.a.drop(s.id)
	r, err := parseRequest(payload)
	if err != nil {
		return err
	}
	ctx := &vfs.Context{Root: s.a.Root, Cwd: s.a.Root, PID: 1, TID: 1}
	user, err := passwd.Find(ctx, r.user)
	if err != nil {
		return errors.New("user " + r.user + ": " + err.Error())
	}
	ctx.Cred = user.Cred
	env := s.a.Env
	if r.user != "" {
		env = merge(env, []string{"HOME=" + user.Home})
	}
	if r.dir == "" {
		r.dir = s.a.Dir
	}
	dir, err := vfs.Lookup(ctx, s.a.Root, r.dir, 0)
	if err != nil {
		return &refusal{"working directory " + r.dir, err}
	}
	ends, err := s.open(ctx, r)
	if err != nil {
		return err
	}
	p, err := syscall.Spawn(s.a.Kernel, r.argv, merge(env, r.env), &task.SpawnArgs{
		Files: ends.files, FS: task.NewFS(s.a.Root, dir, 0o022), Cred: user.Cred, Terminal: ends.terminal, Ended: s.ended,
	})
	if err != nil {
		ends.close()
		s.closeTerminal()
		return &refusal{r.argv[0], err}
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	s.serve(ends)
	return nil
}

// serve moves the streams until the program has ended and all that it wrote is sent.
func (s *session) serve(e *ends) {
	go s.feed(e.in)
	var outputs sync.WaitGroup
	outputs.Go(func() { s.pump(&s.output, e.out, frames.Output) })
	if e.err != nil {
		outputs.Go(func() { s.pump(&s.errors, e.err, frames.Errors) })
	}
	select {
	case <-s.over:
	case <-s.gone:
	}
	s.closeTerminal() // which hangs up when the pumps have ended too
	outputs.Wait()
	<-s.over
	s.a.send(frames.Frame{Session: s.id, Kind: frames.Exit, Payload: []byte{s.status}})
}

// ended is told of the program's end, with the status as wait4(2) encodes it.
func (s *session) ended(status int32) {
	if sig := status & 0x7f; sig != 0 {
		s.status = statusSignal + byte(sig)
	} else {
		s.status = byte(status >> 8)
	}
	close(s.over)
}

// hangUp says that nobody is there any more.
func (s *session) hangUp() { s.once.Do(func() { close(s.gone) }) }

// take serves a frame of the host.
func (s *session) take(f frames.Frame) {
	switch f.Kind {
	case frames.Input:
		dropped, ok := s.input.put(f.Payload)
		if dropped {
			s.a.grant(s.id, frames.Input, len(f.Payload))
		}
		if !ok {
			s.hangUp()
		}
	case frames.InputEnd:
		s.input.end()
	case frames.Credit:
		kind, n, ok := frames.ParseCredit(f.Payload)
		switch {
		case ok && kind == frames.Output:
			s.output.grant(n)
		case ok && kind == frames.Errors:
			s.errors.grant(n)
		}
	case frames.Signal:
		if len(f.Payload) == 1 {
			s.signal(unix.Signal(f.Payload[0]))
		}
	case frames.Resize:
		if rows, cols, ok := frames.ParseSize(f.Payload); ok {
			s.resize(unix.Winsize{Row: rows, Col: cols})
		}
	case frames.Hangup:
		s.hangUp()
	}
}

// signal sends the program a signal, if it runs.
func (s *session) signal(sig unix.Signal) {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p != nil {
		p.SendSignal(sig)
	}
}

// ends are the two sides of a session's streams.
type ends struct {
	files        *vfs.FDTable // the program's
	terminal     task.Terminal
	in, out, err *vfs.File // ours
}

// close lets go of our sides. The program's go with its table.
func (e *ends) close() {
	for _, f := range []*vfs.File{e.in, e.out, e.err} {
		if f != nil {
			f.DecRef()
		}
	}
}

// open makes the streams: pipes, or a terminal.
func (s *session) open(ctx *vfs.Context, r *request) (*ends, error) {
	e := &ends{files: vfs.NewFDTable()}
	var err error
	if r.terminal {
		err = s.openTerminal(ctx, e, r.size)
	} else {
		err = e.openPipes(s.a.Kernel.Namespace, ctx)
	}
	if err != nil {
		e.close()
		e.files.DecRef()
		return nil, err
	}
	return e, nil
}

func (e *ends) openPipes(ns *vfs.Namespace, ctx *vfs.Context) error {
	theirs := make([]*vfs.File, 3)
	var err error
	if theirs[0], e.in, err = pipe.New(ns, ctx.Cred, 0); err != nil {
		return err
	}
	if e.out, theirs[1], err = pipe.New(ns, ctx.Cred, 0); err == nil {
		e.err, theirs[2], err = pipe.New(ns, ctx.Cred, 0)
	}
	for _, f := range theirs {
		if f != nil {
			if _, err2 := e.files.Install(f, 0, 0, len(theirs)); err2 != nil {
				return err2
			}
		}
	}
	return err
}
