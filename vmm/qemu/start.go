package qemu

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"gosv/vmm"
)

// firstFile is the descriptor that the first of exec.Cmd.ExtraFiles has in the
// emulator.
const firstFile = 3

// machine is a running emulator.
type machine struct {
	cmd      *exec.Cmd
	ports    map[string]*net.UnixConn
	messages tail
	done     chan struct{}
	exit     vmm.Exit
}

// Start implements vmm.Monitor.
func (m *Monitor) Start(c vmm.Config) (vmm.VM, error) {
	vm := &machine{ports: map[string]*net.UnixConn{}, done: make(chan struct{})}
	vm.messages.limit = 16 << 10

	var files, guestEnds []*os.File
	defer func() {
		for _, f := range guestEnds {
			f.Close()
		}
	}()
	inherit := func(f *os.File) int {
		files = append(files, f)
		return firstFile + len(files) - 1
	}
	path := func(f *os.File) string {
		if f == nil {
			return ""
		}
		return fmt.Sprintf("/proc/self/fd/%d", inherit(f))
	}
	shares := map[string]*os.File{}
	for i, s := range c.Shares {
		shares[shareID(i)] = s.Socket
	}
	var portErr error
	args, err := arguments(c, path(c.Kernel), path(c.Initrd), func(id string) string {
		if f := shares[id]; f != nil {
			return fmt.Sprintf("socket,id=%s,fd=%d", id, inherit(f))
		}
		host, guest, err := socketPair(id)
		if err != nil {
			portErr = err
			return ""
		}
		vm.ports[id] = host
		guestEnds = append(guestEnds, guest)
		return fmt.Sprintf("socket,id=%s,fd=%d", id, inherit(guest))
	}, func() []int {
		numbers := []int{inherit(c.Net.File)}
		for _, f := range c.Net.Queues {
			numbers = append(numbers, inherit(f))
		}
		return numbers
	})
	if err == nil {
		err = portErr
	}
	if err != nil {
		vm.closePorts()
		return nil, err
	}
	vm.cmd = exec.Command(m.path, append(args, c.Extra...)...)
	vm.cmd.ExtraFiles = files
	vm.cmd.Stdout, vm.cmd.Stderr = &vm.messages, &vm.messages
	vm.cmd.WaitDelay = time.Second // should anything else still hold its standard error
	vm.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go vm.run(started)
	if err := <-started; err != nil {
		vm.closePorts()
		return nil, fmt.Errorf("starting %s: %w", m.path, err)
	}
	return vm, nil
}

// run starts the emulator and waits for it, on one thread: PR_SET_PDEATHSIG
// takes the end of the thread that started a process for the end of its parent.
func (vm *machine) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := vm.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = vm.cmd.Wait() // what it says stands in ProcessState too
	state := vm.cmd.ProcessState
	vm.exit = vmm.Exit{Status: state.ExitCode(), Messages: vm.messages.String()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		vm.exit.Signal = ws.Signal().String()
	}
	close(vm.done)
}

func (vm *machine) Port(name string) *net.UnixConn { return vm.ports[name] }
func (vm *machine) Serial() *net.UnixConn          { return vm.ports[serialID] }
func (vm *machine) PID() int                       { return vm.cmd.Process.Pid }
func (vm *machine) Done() <-chan struct{}          { return vm.done }
func (vm *machine) Exit() vmm.Exit                 { return vm.exit }

func (vm *machine) Kill() {
	_ = vm.cmd.Process.Kill() // fails only when it has ended
}

func (vm *machine) closePorts() {
	for _, c := range vm.ports {
		c.Close()
	}
}

// socketPair returns the two ends of a port: ours as a connection, the
// emulator's as a file to inherit.
func socketPair(name string) (*net.UnixConn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	guest := os.NewFile(uintptr(fds[1]), name)
	file := os.NewFile(uintptr(fds[0]), name)
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		guest.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), guest, nil
}

// tail is a writer that keeps the end of what is written.
type tail struct {
	limit int

	mu sync.Mutex
	b  []byte // +checklocks:mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if extra := len(t.b) - t.limit; extra > 0 {
		t.b = append(t.b[:0], t.b[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
