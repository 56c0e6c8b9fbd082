package rootfs

import (
	"errors"
	"fmt"
	"strings"
)

// Run tells the kernel what to run.
type Run struct {
	Exe      string   // path of the program in the guest
	Args     []string // argv; the first is argv[0]
	Env      []string // KEY=VALUE
	Dir      string   // working directory; "" for "/"
	Hostname string
	Rows     int // of the terminal, in characters; 0 when there is none
	Columns  int
	Strace   bool // log every system call
	Verbose  bool // log what the kernel does
}

// Linux's limits on what execve(2) hands to a program: MAX_ARG_STRLEN for one
// string, and a quarter of the default 8 MiB stack for all, pointers included.
const (
	maxArgString = 128 << 10
	maxArgTotal  = 2 << 20
)

// ErrTooLong is E2BIG: the arguments and the environment exceed Linux's limits.
var ErrTooLong = errors.New("argument list too long")

// File returns the run file: NUL-terminated records of the form key=value.
func (r *Run) File() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	var b []byte
	record := func(key, value string) { b = append(append(append(append(b, key...), '='), value...), 0) }
	record("exe", r.Exe)
	for _, arg := range r.Args {
		record("arg", arg)
	}
	for _, env := range r.Env {
		record("env", env)
	}
	dir := r.Dir
	if dir == "" {
		dir = "/"
	}
	record("cwd", dir)
	if r.Hostname != "" {
		record("hostname", r.Hostname)
	}
	if r.Rows > 0 || r.Columns > 0 {
		record("winsize", fmt.Sprintf("%d %d", r.Rows, r.Columns))
	}
	if r.Strace {
		record("strace", "1")
	}
	if r.Verbose {
		record("verbose", "1")
	}
	return b, nil
}

func (r *Run) check() error {
	total := 0
	for _, list := range [][]string{{r.Exe, r.Dir, r.Hostname}, r.Args, r.Env} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("%.40q holds a NUL byte", s)
			}
			if len(s)+1 > maxArgString {
				return fmt.Errorf("%w: %.40q… has %d bytes, Linux allows %d in one argument or variable", ErrTooLong, s, len(s), maxArgString-1)
			}
			total += len(s) + 1 + 8
		}
	}
	if total > maxArgTotal {
		return fmt.Errorf("%w: arguments and environment take %d bytes, Linux allows %d", ErrTooLong, total, maxArgTotal)
	}
	return nil
}
