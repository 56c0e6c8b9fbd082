package vm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A session is `gosv run -it` at a pseudo-terminal of the host, whose master we hold.
type session struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	slave  *os.File
	before unix.Termios
	screen string // what has come and was not expected yet
	output chan string
}

func newSession(t *testing.T, flags ...string) *session {
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
	s := &session{t: t, output: make(chan string, 100)}
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { s.master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if s.slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.slave.Close() })
	s.resize(24, 80)
	s.before = s.modes()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	s.cmd = exec.CommandContext(ctx, gosv, append([]string{"run", "--accel", "tcg", "-it"}, flags...)...)
	s.cmd.Env = append(os.Environ(), "TERM=xterm")
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.slave, s.slave, s.slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := s.master.Read(b)
			if err != nil {
				return
			}
			s.output <- string(b[:n])
		}
	}()
	return s
}

func (s *session) modes() unix.Termios {
	s.t.Helper()
	m, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *m
}

func (s *session) resize(rows, cols uint16) {
	if err := unix.IoctlSetWinsize(int(s.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) send(keys string) {
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// expect waits for a regular expression on the screen.
func (s *session) expect(pattern string) {
	s.t.Helper()
	s.expectOf("", pattern)
}

// expectOf is expect that sends keys again each second.
func (s *session) expectOf(keys, pattern string) {
	s.t.Helper()
	re := regexp.MustCompile("(?s)" + pattern)
	limit, again := time.After(90*time.Second), time.NewTicker(time.Second)
	defer again.Stop()
	for {
		if at := re.FindStringIndex(s.screen); at != nil {
			s.screen = s.screen[at[1]:]
			return
		}
		select {
		case part := <-s.output:
			s.screen += part
		case <-again.C:
			if keys != "" {
				s.send(keys)
			}
		case <-limit:
			_ = s.cmd.Process.Kill()
			s.t.Fatalf("no %q on the screen:\n%q", pattern, s.screen)
		}
	}
}

// end waits for the end and checks status and modes.
func (s *session) end(status int) {
	s.t.Helper()
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.t.Errorf("exit status %d, should be %d; the screen: %q", got, status, s.screen)
	}
	if after := s.modes(); after != s.before {
		s.t.Errorf("the terminal's modes are\n%+v, were\n%+v", after, s.before)
	}
}

// debianTool returns the flags that bring a program of this machine along.
func debianTool(t *testing.T, names ...string) (flags []string) {
	for _, n := range names {
		path, err := exec.LookPath(n)
		if err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "-v", path+":/usr/bin/"+n)
	}
	return flags
}

func TestInteractiveShell(t *testing.T) {
	t.Parallel()
	s := newSession(t, append(debianTool(t, "sleep", "stty", "cat", "tty"), "-e", "PS1=<\\!> ", "bash", "--norc")...)
	const again = "again:" // until it is seen: the shell does not say when the program has come so far
	const prompt = `<\d+> $`
	s.expect(prompt)
	if m := s.modes(); m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("the host's terminal is not in raw mode: %o", m.Lflag)
	}
	for _, step := range []struct{ keys, want string }{
		{"stty size; tty\r", `24 80\r\n/dev/console\r\n.*` + prompt},
		{"bash -c 'trap \"echo on\" CONT; echo u\"\"p; sleep 100 & wait; wait'\r", `up\r\n`}, // is in the foreground when it says so
		{"\x1a", `\^Z.*Stopped.*` + prompt},
		{"jobs -r; jobs\r", `Stopped.*sleep 100 & wait; wait'\r\n.*` + prompt},
		{"fg\r", `\rbash -c .*\r\non\r\n`}, // is continued in the foreground
		{"\x03", `\^C\r\n.*` + prompt},
		{"echo $?\r", `\r130\r\n.*` + prompt},
		{"cat &\r", prompt},
		{again + "\r", `Stopped +cat.*` + prompt}, // it reads in the background
		{"kill %1; echo gone\r", `\sgone\r\n.*` + prompt},
		{"bash -c 'echo u\"\"p; exec cat'\r", `up\r\n`}, // the shell's own modes are over when it says so
		{"li\x7fine\r", `li\x08 \x08ine\r\nline\r\n`},
		{"\x04", prompt},
		{"trap 'echo size $LINES' WINCH\r", prompt},
	} {
		if keys, ok := strings.CutPrefix(step.keys, again); ok {
			s.expectOf(keys, step.want)
			continue
		}
		s.send(step.keys)
		s.expect(step.want)
	}
	s.resize(30, 100)
	s.send("\r")
	s.expect(prompt)
	s.send("stty size\r")
	s.expect(`30 100\r\n.*` + prompt)
	s.send("exit 7\r")
	s.end(7)
}

// What ends the machine from outside leaves the host's terminal as it was.
func TestTerminalIsRestored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		flags  []string
		signal syscall.Signal
		status int
	}{
		{"timeout", []string{"--timeout", "4s", "sleep", "100"}, 0, 124},
		{"signal", []string{"sleep", "100"}, syscall.SIGTERM, 143},
		{"program is missing", []string{"/no/such/program"}, 0, 127},
		{"not executable", []string{"/etc/passwd"}, 0, 126},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t, c.flags...)
			if c.signal != 0 {
				time.Sleep(4 * time.Second)
				if err := s.cmd.Process.Signal(c.signal); err != nil {
					t.Fatal(err)
				}
			}
			s.end(c.status)
		})
	}
}

func TestNoTerminal(t *testing.T) {
	out, err := exec.Command(gosv, "run", "-it", "true").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 125 || !strings.Contains(string(out), "not a TTY") {
		t.Errorf("%v: %s", err, out)
	}
}
