package vm

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// capabilities are parts of Linux that a program of the table may need. What
// the kernel does not have yet is false: such a program runs on Linux only.
var capabilities = map[string]bool{
	"fork":    true, // fork, exec, wait
	"pipe":    true,
	"poll":    true, // poll, select, epoll
	"eventfd": true, // eventfd, timerfd, signalfd
	"socket":  true,
	"proc":    true, // /proc
	"pty":     true,
	"shm":     true, // shared memory between processes
	"timer":   true, // timer_create
}

// missing returns the first need that the kernel does not meet.
func (p program) missing() string {
	for _, n := range strings.Fields(p.needs) {
		if !capabilities[n] {
			return n
		}
	}
	return ""
}

// TestPrograms runs the table: each program on Linux, then in each of its
// places, where it must do the same.
func TestPrograms(t *testing.T) {
	k, err := readKnown()
	if err != nil {
		t.Fatal(err)
	}
	places, err := matrix(os.Getenv("GOSV_MATRIX"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range programs() {
		if seen[p.name] {
			t.Errorf("two programs are named %s", p.name)
		}
		seen[p.name] = true
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			want := reference(t, p)
			if n := p.missing(); n != "" {
				t.Skipf("passes on Linux; the kernel has no %s yet", n)
			}
			for _, at := range places(p.where) {
				t.Run(at.String(), func(t *testing.T) { compare(t, p, at, want, k) })
			}
		})
	}
}

// reference runs the program on Linux, up to three times while it fails: that
// is no fault of the kernel's, but of a busy host or of the program.
func reference(t *testing.T, p program) outcome {
	t.Helper()
	for try := 1; ; try++ {
		got, err := onLinux(p.job)
		if err != nil {
			t.Fatalf("on Linux: %v", err)
		}
		if !got.hung && got.status == p.status {
			return got
		}
		if try == 3 {
			t.Fatalf("on Linux: want status %d, have %v", p.status, got)
		}
		t.Logf("fails on Linux; once more: %v", got)
	}
}

// compare runs the program in a virtual machine and checks it against Linux.
func compare(t *testing.T, p program, at place, want outcome, k known) {
	got, err := inVM(p.job, at)
	if err != nil {
		t.Fatal(err)
	}
	if k.whole[p.name] == "" && len(k.checks[p.name]) == 0 && !p.like(got, want) && mayRetry() {
		t.Logf("differs from Linux; once more: %v", got)
		if got, err = inVM(p.job, at); err != nil {
			t.Fatal(err)
		}
	}
	defer progress(t, got)
	complain := t.Errorf
	if reason := k.whole[p.name]; reason != "" {
		bad := false
		complain = func(format string, args ...any) {
			bad = true
			t.Logf("known difference (%s): "+format, append([]any{reason}, args...)...)
		}
		defer func() {
			if !bad {
				t.Errorf("is like Linux now: take %s out of %s", p.name, knownFile)
			}
		}()
	}
	checks := k.checks[p.name]
	wantOut, _ := without(checks, p.normal(want.stdout))
	gotOut, passed := without(checks, p.normal(got.stdout))
	for _, c := range passed {
		t.Errorf("check %s passes now: take it out of %s", c, knownFile)
	}
	if got.hung || (got.status == 124 && want.status != 124) {
		complain("hangs: %v", got)
		return
	}
	if got.status != want.status && len(checks) == 0 {
		complain("exit status %d, on Linux %d\n%v", got.status, want.status, got)
	}
	if wantOut != gotOut {
		complain("stdout differs: %s\nsha256 on Linux %.8x, here %.8x\n%v", diff(wantOut, gotOut), sha256.Sum256([]byte(wantOut)), sha256.Sum256([]byte(gotOut)), got)
	}
	if w, g := p.normal(want.stderr), p.normal(got.stderr); w != g && !p.anyStderr {
		complain("stderr differs: %s\n%v", diff(w, g), got)
	}
}

// like reports whether a run in a virtual machine shows what Linux showed.
func (p program) like(got, want outcome) bool {
	return !got.hung && got.status == want.status && p.normal(got.stdout) == p.normal(want.stdout) &&
		(p.anyStderr || p.normal(got.stderr) == p.normal(want.stderr))
}

// retries is how many runs of the whole table may be repeated: many programs
// measure times, and the host may be busy. What fails again fails.
const retries = 3

var retried atomic.Int32

func mayRetry() bool { return retried.Add(1) <= retries }

func (p program) normal(s string) string {
	if p.normalise == nil {
		return s
	}
	return p.normalise(s)
}

// A breadth says in how many places a program runs.
type breadth int

const (
	once       breadth = iota // one place
	smp                       // one, two and four processors
	everywhere                // and both machines with each
)

// matrix returns the function from breadth to places; s is GOSV_MATRIX.
func matrix(s string) (func(breadth) []place, error) {
	all := []place{{"microvm", 1}, {"microvm", 2}, {"microvm", 4}, {"q35", 1}, {"q35", 2}, {"q35", 4}}
	switch s {
	case "":
		return func(b breadth) []place {
			switch b {
			case once:
				return []place{{"microvm", 2}}
			case smp:
				return []place{{"microvm", 1}, {"q35", 2}, {"microvm", 4}}
			}
			return all
		}, nil
	case "full":
		return func(breadth) []place { return all }, nil
	case "quick":
		return func(breadth) []place { return all[1:2] }, nil
	}
	var list []place
	for _, w := range strings.Split(s, ",") {
		var p place
		machine, cpus, _ := strings.Cut(w, "/")
		if _, err := fmt.Sscan(cpus, &p.cpus); err != nil || p.cpus < 1 {
			return nil, fmt.Errorf("GOSV_MATRIX=%s: want full, quick or a list as microvm/1,q35/4", s)
		}
		p.machine = machine
		list = append(list, p)
	}
	return func(breadth) []place { return list }, nil
}
