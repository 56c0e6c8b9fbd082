package vm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var small = place{"microvm", 1}

// run runs a guest program in a VM and fails the test when that cannot be done.
func run(t *testing.T, j job, p place) outcome {
	t.Helper()
	o, err := inVM(j, p)
	if err != nil {
		t.Fatal(err)
	}
	progress(t, o)
	if o.hung {
		t.Fatalf("hangs: %v", o)
	}
	return o
}

func guestPath(name string) string { return filepath.Join(guestDir, name) }

// TestMachines starts on every kind of machine there is.
func TestMachines(t *testing.T) {
	for _, m := range []string{"microvm", "microvm,acpi=on", "q35", "pc"} {
		t.Run(m, func(t *testing.T) {
			t.Parallel()
			o := run(t, job{program: guestPath("hello.static")}, place{m, 1})
			if o.status != 0 || !strings.HasPrefix(o.stdout, "hello from user space") {
				t.Errorf("%v", o)
			}
		})
	}
}

// TestEightProcessors: a machine has at least so many.
func TestEightProcessors(t *testing.T) {
	t.Parallel()
	for _, m := range []string{"microvm", "q35"} {
		o := run(t, job{program: "/usr/bin/nproc"}, place{m, 8})
		if o.status != 0 || o.stdout != "8\n" {
			t.Errorf("%s: nproc: %v", m, o)
		}
	}
}

// TestLayoutIsRandom compares where things lie in two runs: nothing may be in
// the same place (ASLR), and AT_RANDOM must differ.
func TestLayoutIsRandom(t *testing.T) {
	for _, v := range []string{"dyn", "static"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			a := run(t, job{program: guestPath("aslr." + v)}, small)
			b := run(t, job{program: guestPath("aslr." + v)}, small)
			la, lb := strings.Split(strings.TrimSpace(a.stdout), "\n"), strings.Split(strings.TrimSpace(b.stdout), "\n")
			if a.status != 0 || len(la) != 6 || len(lb) != 6 {
				t.Fatalf("%v\n%v", a, b)
			}
			for i := range la {
				fixed := v == "static" && strings.HasPrefix(la[i], "code ")
				if (la[i] == lb[i]) != fixed {
					t.Errorf("two runs: %s and %s", la[i], lb[i])
				}
			}
		})
	}
}

// TestLittleMemory: 12 MiB are enough for a static program with all its devices, and too little is
// said clearly and at once.
func TestLittleMemory(t *testing.T) {
	t.Run("12M", func(t *testing.T) {
		t.Parallel()
		o := run(t, job{program: guestPath("hello.static"), flags: []string{"-m", "12M"}}, small)
		if o.status != 0 || !strings.HasPrefix(o.stdout, "hello from user space") {
			t.Errorf("%v", o)
		}
	})
	for _, m := range []string{"1M", "3M", "5M"} {
		t.Run(m, func(t *testing.T) {
			t.Parallel()
			o := run(t, job{program: guestPath("hello.static"), flags: []string{"-m", m}, limit: time.Minute}, small)
			if o.status != 125 || !strings.Contains(o.stderr, "memory") || o.stdout != "" {
				t.Errorf("want status 125 and a word about memory: %v", o)
			}
		})
	}
}

// TestMemoryRunsOut: programs get ENOMEM (or are killed), the kernel lives.
func TestMemoryRunsOut(t *testing.T) {
	for _, what := range []string{"map", "again", "threads", "crowd", "files", "bomb", "victim"} {
		for _, memory := range []string{"32M", "96M"} {
			t.Run(what+"-"+memory, func(t *testing.T) {
				t.Parallel()
				o := run(t, job{program: guestPath("hog.static"), args: []string{what}, flags: []string{"-m", memory}, limit: 90 * time.Second}, place{"microvm", 2})
				lives := o.status == 0 && strings.HasSuffix(o.stdout, "alive\n")
				killed := o.status == 128+int(syscall.SIGKILL)
				if !lives && !killed {
					t.Errorf("want a program that lives, or is killed: %v", o)
				}
			})
		}
	}
}

// TestObjectsRunOut: what the kernel holds for programs has bounds, kind by kind (docs/limits.md): none of them ends the machine, has
// process 1 killed, or another process.
func TestObjectsRunOut(t *testing.T) {
	for _, kinds := range [][]string{{"0", "8"}, {"8", "14"}, {"14", "19"}, {"19", "99"}} {
		t.Run(kinds[0], func(t *testing.T) {
			t.Parallel()
			o := run(t, job{program: guestPath("hog.static"), args: append([]string{"objects"}, kinds...), flags: []string{"-m", "32M"}, limit: 5 * time.Minute}, place{"microvm", 1})
			if o.status != 0 || o.stdout != "alive\n" {
				t.Errorf("want a program that lives: %v", o)
			}
		})
	}
}

// TestFlags: what gosv run promises about the guest's surroundings.
func TestFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		j      job
		stdout string
	}{
		{"workdir", job{program: "/bin/pwd", flags: []string{"-w", "/a/new/place"}}, "/a/new/place\n"},
		{"hostname", job{program: "/bin/uname", args: []string{"-n"}, flags: []string{"--hostname", "island"}}, "island\n"},
		{"volume", job{program: "/bin/cat", args: []string{"/in/there"}, flags: []string{"-v", "./known-differences.txt:/in/there"}}, knownText(t)},
		{"env", job{program: "/usr/bin/env", env: []string{"ONLY=this"}}, strings.Join(baseEnv, "\n") + "\nONLY=this\n"},
	} {
		o := run(t, c.j, small)
		if o.status != 0 || o.stdout != c.stdout {
			t.Errorf("%s: want %q, %v", c.name, c.stdout, o)
		}
	}
}

func knownText(t *testing.T) string {
	out, err := exec.Command("cat", knownFile).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestTimeout: a program that does not end is ended, by gosv and within reason.
func TestTimeout(t *testing.T) {
	t.Parallel()
	o := run(t, job{program: "/bin/sleep", args: []string{"1000"}, limit: 3 * time.Second}, small)
	if o.status != 124 || o.took > time.Minute {
		t.Errorf("want status 124: %v", o)
	}
}

// TestSignalsReachTheProgram sends signals to gosv.
func TestSignalsReachTheProgram(t *testing.T) {
	t.Parallel()
	slots <- struct{}{}
	defer func() { <-slots }()
	c := exec.Command(gosv, "run", "--accel", "tcg", "--timeout", "3m", guestPath("waitsig.static"))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("want %q, have %q; stderr %q", want, lines.Text(), errs.String())
		}
	}
	expect("ready")
	for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGTERM} {
		if err := c.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		n := strconv.Itoa(int(s))
		expect("handled " + "0"[:2-len(n)] + n)
	}
	_ = c.Wait() // its status is looked at below
	if got := statusOf(c.ProcessState); got != 3 {
		t.Errorf("status %d, want 3; stderr %q", got, errs.String())
	}
}

// TestSignalEndsTheProgram: without a handler the default action is taken.
func TestSignalEndsTheProgram(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			c := exec.Command(gosv, "run", "--accel", "tcg", "--timeout", "3m", guestPath("copy.static"))
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			// An echo shows that the program runs.
			if _, err := io.WriteString(in, "hello\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
				t.Fatal(err)
			}
			if err := c.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait() // its status is looked at below
			if got := statusOf(c.ProcessState); got != 128+int(s) {
				t.Errorf("status %d, want %d", got, 128+int(s))
			}
		})
	}
}

// slowReader takes a little at a time, so that the guest must wait for us.
type slowReader struct {
	n    int
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (s *slowReader) Write(p []byte) (int, error) {
	if s.n/(256<<10) != (s.n+len(p))/(256<<10) {
		time.Sleep(20 * time.Millisecond)
	}
	s.n += len(p)
	return s.hash.Write(p)
}

// TestFlowControl: a slow reader loses nothing, in either direction.
func TestFlowControl(t *testing.T) {
	t.Parallel()
	const size = 6 << 20
	r := &slowReader{hash: sha256.New()}
	o := run(t, job{program: guestPath("copy.static"), args: []string{"65536"}, stdin: noise(size), stdout: r}, place{"microvm", 2})
	want := sha256.New()
	if _, err := io.Copy(want, noise(size)()); err != nil {
		t.Fatal(err)
	}
	if o.status != 0 || r.n != size || !bytes.Equal(r.hash.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes of %d came back, or others; %v", r.n, size, o)
	}
}

// TestReaderGoesAway: when standard output is closed the program ends soon.
func TestReaderGoesAway(t *testing.T) {
	t.Parallel()
	slots <- struct{}{}
	defer func() { <-slots }()
	c := exec.Command(gosv, "run", "--accel", "tcg", "--timeout", "3m", "/usr/bin/seq", "1", "100000000")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	start := time.Now()
	_ = c.Wait() // any status will do that is not a time-out
	if got := statusOf(c.ProcessState); got == 124 || time.Since(start) > time.Minute {
		t.Errorf("status %d after %v", got, time.Since(start))
	}
}
