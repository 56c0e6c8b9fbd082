package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These are set by TestMain.
var (
	gosv     string // the command under test
	guestDir string // programs of test/guest, built
	slots    chan struct{}
	begin    = time.Now()
	vmsRun   int
	vmsRunMu sync.Mutex
)

func TestMain(m *testing.M) {
	plain()
	if err := prepare(); err != nil {
		fmt.Fprintf(os.Stderr, "test/vm cannot run: %v\n", err)
		os.Exit(1)
	}
	status := m.Run()
	fmt.Fprintf(os.Stderr, "test/vm: %d virtual machines in %v\n", vmsRun, time.Since(begin).Round(time.Second))
	os.Exit(status)
}

// plain makes what programs on Linux inherit from the test what they have in a
// virtual machine: no signal ignored (as under nohup, or behind a script's &), no
// core dumps, a stack of 8 MiB, and the umask 022.
func plain() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	for resource, soft := range map[int]uint64{syscall.RLIMIT_CORE: 0, syscall.RLIMIT_STACK: 8 << 20} {
		var r syscall.Rlimit
		if syscall.Getrlimit(resource, &r) == nil {
			r.Cur = min(soft, r.Max)
			_ = syscall.Setrlimit(resource, &r) // the programs tell what is wrong then
		}
	}
	syscall.Umask(0o022)
}

// prepare finds the tools and builds the guest programs.
func prepare() error {
	for tool, pkg := range map[string]string{
		"qemu-system-x86_64": "qemu-system-x86", "make": "make", "gcc": "gcc", "g++": "g++", "musl-gcc": "musl-tools",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing: apt-get install %s", tool, pkg)
		}
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	gosv = os.Getenv("GOSV")
	if gosv == "" {
		gosv = filepath.Join(root, "bin", "gosv")
	}
	if _, err := os.Stat(gosv); err != nil {
		return fmt.Errorf("%w: run `make build` first, or set GOSV to the command", err)
	}
	jobs := 2
	if s := os.Getenv("GOSV_JOBS"); s != "" {
		if jobs, err = strconv.Atoi(s); err != nil || jobs < 1 {
			return fmt.Errorf("GOSV_JOBS=%s: want a number from 1", s)
		}
	}
	slots = make(chan struct{}, jobs)
	guestDir = filepath.Join(root, "build", "guest")
	out, err := exec.Command("make", "-s", "-j2", "-C", filepath.Join(root, "test", "guest"), "OUT="+guestDir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the guest programs: %w\n%s", err, out)
	}
	return nil
}

// A place is a machine to run on.
type place struct {
	machine string
	cpus    int
}

func (p place) String() string { return p.machine + "-" + strconv.Itoa(p.cpus) }

// A job is one run of a program, on Linux or in a virtual machine.
type job struct {
	program string // absolute path
	args    []string
	env     []string
	stdin   func() io.Reader // nil: empty
	flags   []string         // for gosv run
	limit   time.Duration    // 0: defaultLimit
	stdout  io.Writer        // nil: kept in outcome
}

const defaultLimit = time.Minute

// outcome is what a program did.
type outcome struct {
	stdout, stderr string
	status         int // 128+n when killed by signal n
	took           time.Duration
	hung           bool
}

func (o outcome) String() string {
	return fmt.Sprintf("status %d after %v\n--- stdout\n%s--- stderr\n%s---", o.status, o.took.Round(time.Millisecond), shorten(o.stdout), shorten(o.stderr))
}

// baseEnv is the environment that gosv gives to a program by itself.
var baseEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}

// onLinux runs the job on this machine.
func onLinux(j job) (outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), j.timeLimit())
	defer cancel()
	c := exec.CommandContext(ctx, j.program, j.args...)
	c.Env = append(append([]string{}, baseEnv...), j.env...)
	c.Dir = "/"
	return j.wait(ctx, c)
}

// inVM runs the job under gosv.
func inVM(j job, p place) (outcome, error) {
	slots <- struct{}{}
	defer func() { <-slots }()
	vmsRunMu.Lock()
	vmsRun++
	vmsRunMu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), j.timeLimit()+20*time.Second)
	defer cancel()
	args := []string{"run", "--accel", "tcg", "--machine", p.machine, "--cpus", strconv.Itoa(p.cpus), "--timeout", j.timeLimit().String()}
	for _, e := range j.env {
		args = append(args, "-e", e)
	}
	args = append(args, j.flags...)
	args = append(append(args, "--", j.program), j.args...)
	return j.wait(ctx, exec.CommandContext(ctx, gosv, args...))
}

func (j job) timeLimit() time.Duration {
	if j.limit == 0 {
		return defaultLimit
	}
	return j.limit
}

func (j job) wait(ctx context.Context, c *exec.Cmd) (outcome, error) {
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if j.stdout != nil {
		c.Stdout = j.stdout
	}
	if j.stdin != nil {
		c.Stdin = j.stdin()
	}
	c.WaitDelay = 2 * time.Second
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // gosv ends its QEMU
	start := time.Now()
	err := c.Run()
	o := outcome{stdout: out.String(), stderr: errs.String(), took: time.Since(start), hung: ctx.Err() != nil}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		o.status = statusOf(exit.ProcessState)
	case errors.Is(err, exec.ErrWaitDelay):
		o.status = statusOf(c.ProcessState)
	default:
		return o, err
	}
	return o, nil
}

// statusOf is the exit status as a shell shows it.
func statusOf(s *os.ProcessState) int {
	if s.Exited() {
		return s.ExitCode()
	}
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return -1
}

func shorten(s string) string {
	const most = 3000
	if len(s) <= most {
		return s
	}
	return s[:most/2] + fmt.Sprintf("\n[… %d bytes …]\n", len(s)-most) + s[len(s)-most/2:]
}

// progress shows on the terminal, at once, what has been done.
func progress(t *testing.T, o outcome) {
	t.Helper()
	word := "ok"
	if t.Failed() {
		word = "FAILED"
	}
	fmt.Fprintf(os.Stderr, "%6.0fs %-6s %s (%v)\n", time.Since(begin).Seconds(), word, t.Name(), o.took.Round(10*time.Millisecond))
}

// diff shows the first line in which two texts differ.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := 0; i < len(w) || i < len(g); i++ {
		a, b := "(nothing)", "(nothing)"
		if i < len(w) {
			a = strconv.Quote(w[i])
		}
		if i < len(g) {
			b = strconv.Quote(g[i])
		}
		if a != b {
			return fmt.Sprintf("line %d\n    Linux %s\n    gosv  %s", i+1, shorten(a), shorten(b))
		}
	}
	return "no line differs"
}
