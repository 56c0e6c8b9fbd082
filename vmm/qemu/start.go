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
	h := &heritage{config: &c, ports: vm.ports}
	defer h.closeGuestEnds()
	args, err := arguments(c, h.path(c.Kernel), h.path(c.Initrd), h.socket, h.network)
	if err == nil {
		err = h.err
	}
	if err != nil {
		vm.closePorts()
		return nil, err
	}
	vm.cmd = exec.Command(m.path, append(args, c.Extra...)...)
	vm.cmd.ExtraFiles = h.files
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

// A heritage is the files that the emulator inherits, which its arguments name by their numbers.
type heritage struct {
	config    *vmm.Config
	ports     map[string]*net.UnixConn // our ends of the sockets that were made
	files     []*os.File
	guestEnds []*os.File // of files, those to be closed here
	err       error      // the last of making a socket
}

// add returns the descriptor that f will have.
func (h *heritage) add(f *os.File) int {
	h.files = append(h.files, f)
	return firstFile + len(h.files) - 1
}

// path returns the name of f for the emulator, "" for nil.
func (h *heritage) path(f *os.File) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("/proc/self/fd/%d", h.add(f))
}

// socket returns the chardev with that ID: a shared folder's, or a port, whose other end we have.
func (h *heritage) socket(id string) string {
	f := h.share(id)
	if f == nil {
		host, guest, err := socketPair(id)
		if err != nil {
			h.err = err
			return ""
		}
		h.ports[id] = host
		h.guestEnds = append(h.guestEnds, guest)
		f = guest
	}
	return fmt.Sprintf("socket,id=%s,fd=%d", id, h.add(f))
}

// share returns the socket of the folder with that ID, or nil.
func (h *heritage) share(id string) *os.File {
	for i, s := range h.config.Shares {
		if shareID(i) == id {
			return s.Socket
		}
	}
	return nil
}

// network returns the descriptors of the network device's queues.
func (h *heritage) network() []int {
	numbers := []int{h.add(h.config.Net.File)}
	for _, f := range h.config.Net.Queues {
		numbers = append(numbers, h.add(f))
	}
	return numbers
}

func (h *heritage) closeGuestEnds() {
	for _, f := range h.guestEnds {
		f.Close()
	}
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
