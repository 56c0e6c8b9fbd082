package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gosv/vmm"
	"gosv/vmm/registry"
	"gosv/vmm/remote"
)

// attendance makes a machine known to the user's other gosv commands for as long
// as it runs: ps, exec, stop and the others find it.
type attendance struct {
	machine *registry.Machine
	log     *registry.Log // nil in the foreground
	control net.Listener
	sent    chan syscall.Signal
	kill    context.CancelCauseFunc
	relay   *vmm.Relay
}

// attend enters the machine. In the foreground and without a name of its own
// it goes without when there is no place for it: then it returns nil.
func attend(o *runOptions, args []string, c vmm.Config, kill context.CancelCauseFunc) (*attendance, error) {
	rec := registry.Record{
		Name: o.name, Command: args, Memory: c.Memory, CPUs: c.CPUs, Machine: c.Machine, Accel: c.Accel,
		Ports: o.network.published(), Exposed: o.ports, Volumes: o.volumes, StopSignal: o.signal,
		Background: o.background, Terminal: o.tty, Transient: o.remove || !o.background && o.name == "",
	}
	a, err := enter(rec, kill)
	if err != nil && rec.Transient && !o.background {
		return nil, nil
	}
	return a, err
}

func enter(rec registry.Record, kill context.CancelCauseFunc) (*attendance, error) {
	reg, err := registry.Open()
	if err != nil {
		return nil, err
	}
	m, err := reg.Create(rec)
	if err != nil {
		return nil, err
	}
	a := &attendance{machine: m, sent: make(chan syscall.Signal), kill: kill}
	if a.control, err = m.Listen(); err == nil && rec.Background {
		a.log, err = m.OpenLog()
	}
	if err != nil {
		a.leave()
		return nil, err
	}
	return a, nil
}

// connect lets others act on the machine, which has been started. In the background its output goes to the log.
func (a *attendance) connect(s *vmm.Session, vm vmm.VM) {
	a.machine.VMPID = vm.PID()
	a.relay = vmm.NewRelay(vm.Port(vmm.PortExec))
	go remote.Serve(a.control, a)
	s.Sent, s.Started = a.sent, a.started
	if a.log != nil {
		s.Stdin, s.Stdout, s.Stderr = nil, a.log.Writer("stdout"), a.log.Writer("stderr")
		if s.Log != nil {
			s.Log = s.Stderr
		}
	}
}

// started notes that the program is about to run.
func (a *attendance) started() {
	a.machine.Started = time.Now()
	_ = a.machine.Save() // else the machine is only said to be starting
	if a.machine.Background {
		tellStarted(a.machine.ID)
	}
}

// ended notes how the machine ended.
func (a *attendance) ended(r vmm.Result) {
	m := a.machine
	m.Finished, m.Status, m.PID, m.VMPID = time.Now(), r.Status, 0, 0
	if r.Err != nil {
		m.Error = r.Err.Error()
	}
	if !m.Transient {
		_ = m.Save() // else the machine is said to have ended for reasons unknown
	}
	a.leave()
}

// leave takes the machine off the list, or leaves its record there.
func (a *attendance) leave() {
	if a.control != nil {
		a.control.Close()
	}
	if a.log != nil {
		a.log.Close()
	}
	if a.machine.Transient {
		_ = a.machine.Remove() // else `gosv ps` removes it
	}
	a.machine.Close()
}

// Signal implements remote.Handler.
func (a *attendance) Signal(n syscall.Signal) {
	select {
	case a.sent <- n:
	case <-time.After(time.Second): // the machine is ending
	}
}

// Kill implements remote.Handler.
func (a *attendance) Kill() { a.kill(vmm.ErrKilled) }

// Exec implements remote.Handler.
func (a *attendance) Exec(conn net.Conn) { a.relay.Serve(conn) }

// The environment of a process in the background, and the descriptor by which it says that its machine runs.
const (
	backgroundVariable = "GOSV_BACKGROUND"
	backgroundPipe     = 3
)

// inBackground says whether this process was started by startBackground.
func inBackground() bool { return os.Getenv(backgroundVariable) != "" }

// startBackground runs this same command in a process of its own session, waits
// until its machine runs, and prints the machine's ID.
func startBackground(std streams) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", std.args...)
	cmd.Env = append(os.Environ(), backgroundVariable+"=1")
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	messages, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	w.Close()
	if err != nil {
		return err
	}
	_, _ = io.Copy(std.err, messages) // until the machine runs, or the process has ended
	var id string
	if _, err := fmt.Fscanln(r, &id); err == nil {
		_, err = fmt.Fprintln(std.out, id)
		return err
	}
	_ = cmd.Wait() // its status is in ProcessState; it has said why
	if status := cmd.ProcessState.ExitCode(); status > 0 {
		return &statusError{status, nil}
	}
	return &statusError{vmm.StatusFailed, fmt.Errorf("the process in the background ended: %v", cmd.ProcessState)}
}

// tellStarted tells startBackground that the machine runs, and lets go of its terminal.
func tellStarted(id string) {
	pipe := os.NewFile(backgroundPipe, "pipe")
	fmt.Fprintln(pipe, id)
	pipe.Close()
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		for fd := range 3 {
			_ = unix.Dup3(int(null.Fd()), fd, 0) // fails only for descriptors that are none
		}
		null.Close()
	}
}
