package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// Statuses that gosv gives itself; all others are the program's.
const (
	StatusTimeout = 124 // the time limit was reached, as timeout(1)
	StatusFailed  = 125 // gosv, the monitor or the kernel failed
	StatusNotExec = 126 // the program cannot be executed
	StatusNoFile  = 127 // there is no such program
)

// signalStatus is the status of a program that signal n ended, as in a shell.
const signalStatus = 128

// Times that a machine gets.
const (
	// twice is how close two interrupts must be to end the machine at once.
	twice = 2 * time.Second
	// once is how close they must be to count as one: timeout(1), for one,
	// signals the process and then its group.
	once = 100 * time.Millisecond
	// flushTime is how long a machine may do nothing after it told the exit
	// status and before it powers off.
	flushTime = 5 * time.Second
	// drainTime is how long a reader of the output may take after the machine
	// was stopped.
	drainTime = time.Second
)

// Session connects one machine with the process that started it.
type Session struct {
	Terminal       bool // the program has a terminal: Stdin and Stdout are its other side, Stderr is not used
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Log            io.Writer // messages of the kernel, made safe for a terminal; nil drops them
	Signals        <-chan os.Signal
	BootTime       time.Duration                    // how long the program may take to start; 0 for no limit
	WindowSize     func() (rows, cols int, ok bool) // of the terminal; nil when there is none
	Missing        func(name string)                // takes the names of files that were not found; nil drops them
	Started        func()                           // called when the program is about to start; may be nil
	// Lost are the tags of shares whose servers have ended before the machine; nil for none.
	Lost <-chan string
	Sent <-chan syscall.Signal // signals for the program that have no further meaning
}

// Ports returns the ports a Session needs a machine to have.
func Ports() []string {
	return []string{PortStdin, PortStdout, PortStderr, PortLog, PortControl, PortExec}
}

// TerminalPorts returns those that it needs for a terminal.
func TerminalPorts() []string { return []string{PortTTY, PortLog, PortControl, PortExec} }

// Result is the outcome of a session.
type Result struct {
	Status int
	Err    error // says what went wrong when the status is not the program's own
}

// Run serves the machine until it has ended, and returns the outcome. When ctx
// ends, the machine is ended and the status is StatusTimeout. It never returns
// with the machine running.
func (s *Session) Run(ctx context.Context, vm VM) Result {
	r := &run{Session: s, vm: vm, events: make(chan event)}
	r.connect()
	result, forced := r.serve(ctx)
	vm.Kill()
	<-vm.Done()
	for range r.events { // the port ends with the machine
	}
	r.drain(ctx, forced)
	if err := r.outputs.lost(); err != nil && result.Err == nil {
		result.Err = fmt.Errorf("the program's output is incomplete: %w", err)
		if result.Status == 0 {
			result.Status = StatusFailed
		}
	}
	return result
}

// run is the state of Session.Run.
type run struct {
	*Session
	vm     VM
	events chan event

	outputs  pumps // of the program
	messages pumps // of the kernel
	serial   record
	log      record

	ready      bool
	lastSignal os.Signal
	lastTime   time.Time
}

// connect starts the goroutines that serve the ports. They end with the
// machine, except the one for standard input, which may be blocked in a read.
func (r *run) connect() {
	go r.feed()
	if r.Terminal {
		r.outputs.start(r.vm.Port(PortTTY), r.Stdout, r.brokenPipe)
	} else {
		r.outputs.start(r.vm.Port(PortStdout), r.Stdout, r.brokenPipe)
		r.outputs.start(r.vm.Port(PortStderr), r.Stderr, nil)
	}
	r.messages.start(r.vm.Port(PortLog), &cleaner{out: tee(&r.log, r.Log)}, nil)
	r.messages.start(r.vm.Serial(), &cleaner{out: tee(&r.serial, r.Log)}, nil)
	go readControl(r.vm.Port(PortControl), r.events)
}

// feed copies standard input. It ends with a half-close, since QEMU drops what
// it has not passed on yet when a socket is closed altogether.
func (r *run) feed() {
	if r.Terminal {
		if r.Stdin != nil {
			_, _ = io.Copy(r.vm.Port(PortTTY), r.Stdin)
		}
		return // a terminal's line stays up
	}
	port := r.vm.Port(PortStdin)
	if r.Stdin != nil {
		_, _ = io.Copy(port, r.Stdin) // an error on either side is the end of the input
	}
	_ = port.CloseWrite()
}

// brokenPipe tells the program that nobody reads its output any more.
func (r *run) brokenPipe() { r.signal(syscall.SIGPIPE) }

// serve handles events until the outcome is known and the machine has had the
// time to end by itself. It reports forced when the machine is to end although
// output may be under way.
func (r *run) serve(ctx context.Context) (result Result, forced bool) {
	var boot <-chan time.Time
	if r.BootTime > 0 {
		boot = time.After(r.BootTime)
	}
	for {
		select {
		case e, ok := <-r.events:
			switch {
			case !ok:
				return r.ended(ctx), false
			case e.kind == eventReady:
				r.ready, boot = true, nil
				r.resize()
				if r.Started != nil {
					r.Started()
				}
			case e.kind == eventMissing:
				if r.Missing != nil {
					r.Missing(e.text)
				}
			case e.kind == eventBad:
				return Result{StatusFailed, fmt.Errorf("the kernel sent %q on its control port", e.text)}, true
			default:
				forced = r.settle(ctx)
				return r.result(e), forced
			}
		case sig := <-r.Signals:
			if result, stop := r.forward(sig); stop {
				return result, true
			}
		case n := <-r.Sent:
			r.signal(n)
		case tag := <-r.Lost:
			r.send("gone " + tag + "\n")
		case <-boot:
			return Result{StatusFailed, r.explain(fmt.Sprintf("the kernel did not start the program within %v", r.BootTime))}, true
		case <-ctx.Done():
			return stopped(ctx), true
		}
	}
}

// ErrKilled is the cause with which the context of Session.Run is cancelled to end the machine at once.
var ErrKilled = errors.New("the virtual machine was killed")

// stopped is the outcome of a machine whose context has ended.
func stopped(ctx context.Context) Result {
	if err := context.Cause(ctx); errors.Is(err, ErrKilled) {
		return Result{signalStatus + int(syscall.SIGKILL), err}
	}
	return Result{StatusTimeout, fmt.Errorf("the time limit was reached, the virtual machine was stopped")}
}

// ended waits for a machine that closed its control port without a word.
func (r *run) ended(ctx context.Context) Result {
	select {
	case <-r.vm.Done():
	case <-time.After(flushTime):
	case <-ctx.Done():
		return stopped(ctx)
	}
	return Result{StatusFailed, r.explain("the virtual machine ended without giving an exit status")}
}

// settle waits for the machine to power off. It gives up, and reports so, when
// nothing has moved for flushTime; output that waits for its reader counts as
// moving.
func (r *run) settle(ctx context.Context) (forced bool) {
	go func() {
		for range r.events { // so that the reader of the control port can end
		}
	}()
	quiet := time.NewTicker(flushTime)
	defer quiet.Stop()
	moved := r.outputs.moved()
	for {
		select {
		case <-r.vm.Done():
			return false
		case <-ctx.Done():
			return true
		case sig := <-r.Signals:
			if isStop(sig) {
				return true // the program has ended, so nothing else can take the signal
			}
		case <-quiet.C:
			now := r.outputs.moved()
			if now == moved && !r.outputs.busy() {
				return true
			}
			moved = now
		}
	}
}

// drain waits until what the machine put out is written: as long as it takes,
// or drainTime when the machine was stopped by force.
func (r *run) drain(ctx context.Context, forced bool) {
	written := make(chan struct{})
	go func() {
		r.outputs.wait()
		r.messages.wait()
		close(written)
	}()
	for !forced {
		select {
		case <-written:
			return
		case <-ctx.Done():
			forced = true
		case sig := <-r.Signals:
			forced = isStop(sig)
		}
	}
	select {
	case <-written:
	case <-time.After(drainTime):
	}
}

func isStop(sig os.Signal) bool { return sig == os.Interrupt || sig == syscall.SIGTERM }

// result is the outcome that an event of the program's or the kernel's end means.
func (r *run) result(e event) Result {
	switch e.kind {
	case eventExit:
		return Result{Status: e.status}
	case eventError:
		return Result{e.status, fmt.Errorf("%s", e.text)}
	default:
		return Result{StatusFailed, r.explain("the kernel failed: " + e.text)}
	}
}

// forward sends a signal to the program. It reports stop when the machine is to
// end instead: before the program runs, and at the second of two in a row.
func (r *run) forward(sig os.Signal) (result Result, stop bool) {
	n, ok := sig.(syscall.Signal)
	switch {
	case !ok:
		return Result{}, false
	case n == syscall.SIGWINCH:
		r.resize()
		return Result{}, false
	case n == syscall.SIGPIPE:
		return Result{}, false // told by the write that failed
	}
	var since time.Duration
	if sig == r.lastSignal {
		if since = time.Since(r.lastTime); since < once {
			return Result{}, false
		}
	}
	again := since > 0 && since < twice
	if !r.ready || again && isStop(sig) {
		return Result{Status: signalStatus + int(n), Err: fmt.Errorf("%v: the virtual machine was stopped", n)}, true
	}
	r.lastSignal, r.lastTime = sig, time.Now()
	r.signal(n)
	return Result{}, false
}

func (r *run) signal(n syscall.Signal) { r.send(fmt.Sprintf("signal %d\n", int(n))) }

func (r *run) resize() {
	if r.WindowSize == nil {
		return
	}
	if rows, cols, ok := r.WindowSize(); ok {
		r.send(fmt.Sprintf("winsize %d %d\n", rows, cols))
	}
}

// send writes a line to the guest. A guest that does not read its control port
// loses it; the host does not wait. One that stood still when the time was over
// has not tried, and tries again.
func (r *run) send(line string) {
	port, b := r.vm.Port(PortControl), []byte(line)
	for range 3 {
		_ = port.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := port.Write(b)
		if b = b[n:]; !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// explain adds to what is known to have gone wrong all that the monitor and
// the kernel said about it.
func (r *run) explain(what string) error {
	var b strings.Builder
	b.WriteString(what)
	select {
	case <-r.vm.Done():
		r.messages.wait()
		exit := r.vm.Exit()
		fmt.Fprintf(&b, " (%v)", exit)
		section(&b, "the virtual machine monitor said", printable(exit.Messages))
	default:
	}
	if r.Log == nil { // else the user has seen it already
		section(&b, "the kernel's log ended with", r.log.String())
		section(&b, "the kernel's serial port said", r.serial.String())
	}
	return fmt.Errorf("%s", strings.TrimRight(b.String(), "\n"))
}

func section(b *strings.Builder, title, text string) {
	if text = strings.TrimSpace(text); text != "" {
		fmt.Fprintf(b, "\n%s:\n  %s", title, strings.ReplaceAll(text, "\n", "\n  "))
	}
}
