package vmm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gosv/internal/fakeqemu"
	"gosv/vmm"
	"gosv/vmm/qemu"
)

func TestMain(m *testing.M) {
	fakeqemu.Main()
	os.Exit(m.Run())
}

// output is a buffer that says when something was written.
type output struct {
	mu    sync.Mutex
	b     bytes.Buffer // +checklocks:mu
	wrote chan struct{}
}

func newOutput() *output { return &output{wrote: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// start starts a machine that behaves as told.
func start(t *testing.T, behaviour string) vmm.VM {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	vm, err := qemu.New(fakeqemu.Install(t, behaviour)).Start(vmm.Config{Kernel: null, Initrd: null, Memory: 1 << 20, CPUs: 1,
		Machine: vmm.MachineMicroVM, Accel: vmm.AccelTCG, Ports: vmm.Ports()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vm.Kill)
	return vm
}

// limit is how long anything here may take. Times that a machine gets in vain are shorter by far, but for one that never ends.
const limit = 30 * time.Second

// run serves a machine and fails the test when it takes unduly long or is left running.
func run(t *testing.T, s *vmm.Session, behaviour string) vmm.Result {
	t.Helper()
	vm := start(t, behaviour)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	result := s.Run(ctx, vm)
	if ctx.Err() != nil {
		t.Errorf("it took more than %v", limit)
	}
	select {
	case <-vm.Done():
	default:
		t.Error("the machine is still running")
	}
	return result
}

func TestStreamsAndStatus(t *testing.T) {
	text := strings.Repeat("\x00\x01\xff\r\n", 100_000)
	out, errs := newOutput(), newOutput()
	result := run(t, &vmm.Session{Stdin: strings.NewReader(text), Stdout: out, Stderr: errs}, fakeqemu.Echo)
	if result.Status != 7 || result.Err != nil {
		t.Errorf("%+v", result)
	}
	if out.String() != text {
		t.Errorf("%d of %d bytes came back as they were", len(out.String()), len(text))
	}
	if errs.String() != "500000 bytes\n" {
		t.Errorf("standard error: %q", errs.String())
	}
}

func TestOutcomes(t *testing.T) {
	tests := []struct {
		behaviour string
		status    int
		want      []string
	}{
		{fakeqemu.Die, 125, []string{"without giving an exit status", "status 1", "could not do it"}},
		{fakeqemu.Panic, 125, []string{"the kernel failed: floor fault at 0x10", "panic: registers and stack"}},
		{fakeqemu.Missing, 127, []string{"/bin/gone: no such file"}},
		{fakeqemu.Crash, 125, []string{"ended by signal: killed"}},
		{fakeqemu.Linger, 5, nil},
		{fakeqemu.Garbage, 125, []string{"?[2J0123456789"}},
		{fakeqemu.Hang, 125, []string{"did not start the program within"}},
	}
	for _, test := range tests {
		t.Run(test.behaviour, func(t *testing.T) {
			s := &vmm.Session{Stdout: newOutput(), Stderr: newOutput()}
			if test.behaviour == fakeqemu.Hang {
				s.BootTime = 100 * time.Millisecond
			}
			result := run(t, s, test.behaviour)
			if result.Status != test.status || (result.Err != nil) != (test.want != nil) {
				t.Fatalf("%+v", result)
			}
			for _, want := range test.want {
				if !strings.Contains(result.Err.Error(), want) {
					t.Errorf("no %q in %q", want, result.Err)
				}
			}
			if result.Err != nil && strings.ContainsAny(result.Err.Error(), "\x1b\x07\r") {
				t.Errorf("control characters in %q", result.Err)
			}
		})
	}
}

func TestLogIsSafeForATerminal(t *testing.T) {
	log := newOutput()
	run(t, &vmm.Session{Stdout: io.Discard, Stderr: io.Discard, Log: log}, fakeqemu.Garbage)
	if got := log.String(); got != "?]0;title?log\n" {
		t.Errorf("%q", got)
	}
}

func TestSignalIsForwarded(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		signals, out := make(chan os.Signal, 1), newOutput()
		s := &vmm.Session{Stdout: out, Stderr: io.Discard, Signals: signals,
			// asked for once the program runs
			WindowSize: func() (int, int, bool) { signals <- sig; return 24, 80, true }}
		result := run(t, s, fakeqemu.Signal)
		if result.Status != 128+int(sig) || result.Err != nil || !strings.HasPrefix(out.String(), "signal ") {
			t.Errorf("%v: %+v, %q", sig, result, out.String())
		}
	}
}

func TestSecondInterruptStops(t *testing.T) {
	signals, out := make(chan os.Signal, 2), newOutput()
	interrupt := func() (int, int, bool) {
		signals <- os.Interrupt
		signals <- os.Interrupt // at once: the same
		return 24, 80, true
	}
	go func() {
		for !strings.Contains(out.String(), "ignored signal 2") {
			<-out.wrote
		}
		time.Sleep(200 * time.Millisecond)
		signals <- os.Interrupt
	}()
	s := &vmm.Session{Stdout: out, Stderr: io.Discard, Signals: signals, WindowSize: interrupt}
	result := run(t, s, fakeqemu.Stubborn)
	if result.Status != 130 || result.Err == nil {
		t.Errorf("%+v", result)
	}
	if got := out.String(); got != "running\nignored winsize 24 80\nignored signal 2\n" {
		t.Errorf("%q", got)
	}
}

func TestInterruptBeforeTheProgramRuns(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	result := run(t, &vmm.Session{Stdout: io.Discard, Stderr: io.Discard, Signals: signals}, fakeqemu.Hang)
	if result.Status != 143 {
		t.Errorf("%+v", result)
	}
}

func TestTimeLimit(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	vm := start(t, fakeqemu.Stubborn)
	begin := time.Now()
	result := (&vmm.Session{Stdout: io.Discard, Stderr: io.Discard}).Run(ctx, vm)
	if result.Status != vmm.StatusTimeout || time.Since(begin) > limit {
		t.Errorf("%+v after %v", result, time.Since(begin))
	}
	<-vm.Done()
}

// A reader that has gone stops the program with SIGPIPE; output that fails
// otherwise does not block the machine, and is not passed over in silence.
func TestBrokenOutput(t *testing.T) {
	s := &vmm.Session{Stdout: failing{syscall.ENOSPC}, Stderr: io.Discard}
	if result := run(t, s, fakeqemu.Flood); result.Status != 125 || !errors.Is(result.Err, syscall.ENOSPC) {
		t.Errorf("%+v", result)
	}
	s = &vmm.Session{Stdout: failing{&os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}}, Stderr: io.Discard}
	if result := run(t, s, fakeqemu.Talk); result.Status != 128+int(syscall.SIGPIPE) {
		t.Errorf("%+v", result)
	}
}

// Slow readers get everything: the exit status does not cut the output off.
func TestSlowReader(t *testing.T) {
	r, w := io.Pipe()
	total := make(chan int64)
	go func() {
		time.Sleep(500 * time.Millisecond)
		n, _ := io.Copy(io.Discard, r)
		total <- n
	}()
	result := run(t, &vmm.Session{Stdout: w, Stderr: io.Discard}, fakeqemu.Flood)
	w.Close()
	if n := <-total; n != 8<<20 || result.Status != 0 {
		t.Errorf("%d bytes, %+v", n, result)
	}
}
