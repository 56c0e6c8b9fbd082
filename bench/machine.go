package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuModel is the same for every kernel. With ERMS advertised, kernels copy
// with rep movsb, which TCG executes byte by byte.
const cpuModel = "max,-erms,-fsrm,-la57"

// icount makes the TSC count instructions: one is one nanosecond, and idle time
// is skipped over at once, but counted.
const icount = "shift=0,sleep=off"

// A machine is one guest under QEMU's TCG with its serial line on our side.
type machine struct {
	kernel string
	initrd string
	append string
	memory string // MiB
	icount bool
	acpi   bool     // Debian's Linux finds virtio-mmio devices by ACPI only
	flags  []string // more of QEMU's
}

// command is the QEMU command line.
func (m machine) command() []string {
	model := "microvm,acpi=off"
	if m.acpi {
		model = "microvm"
	}
	c := []string{"qemu-system-x86_64", "-M", model, "-accel", "tcg", "-cpu", cpuModel,
		"-smp", "1", "-m", m.memory, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", m.kernel}
	if m.icount {
		c = append(c, "-icount", icount)
	}
	if m.initrd != "" {
		c = append(c, "-initrd", m.initrd)
	}
	if m.append != "" {
		c = append(c, "-append", m.append)
	}
	return append(c, m.flags...)
}

// shell shows a command so that it can be pasted.
func shell(c []string) string {
	var s []string
	for _, w := range c {
		if strings.ContainsAny(w, " '\"$&;()<>|*?") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		s = append(s, w)
	}
	return strings.Join(s, " ")
}

// A result is what one run gave.
type result struct {
	output []byte
	wall   time.Duration
	cpu    time.Duration // user and system time of the process and its children
	rss    int64         // bytes, of the largest process
}

var (
	errTimeout = errors.New("ran into its time limit")
	waitEnd    = (*regexp.Regexp)(nil)
)

// run starts the machine and waits until it ends or, when until is not nil,
// until the serial line shows a match; then it is killed.
func (m machine) run(until *regexp.Regexp, limit time.Duration) (result, error) {
	return runCommand(m.command(), until, limit)
}

func runCommand(c []string, until *regexp.Regexp, limit time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c[0], c[1:]...)
	w := &watcher{until: until, found: cancel}
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &errs
	cmd.WaitDelay = time.Second
	start := time.Now()
	err := cmd.Run()
	r := result{output: w.buf.Bytes(), wall: time.Since(start)}
	if cmd.ProcessState != nil {
		r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			r.rss = u.Maxrss << 10
		}
	}
	switch {
	case w.matched:
		return r, nil
	case ctx.Err() != nil:
		return r, fmt.Errorf("%s: %w of %v; output ends in %q", shell(c), errTimeout, limit, tail(r.output))
	case until != nil:
		return r, fmt.Errorf("%s: ended (%v) without %v; output ends in %q, errors in %q", shell(c), err, until, tail(r.output), tail(errs.Bytes()))
	}
	return r, nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-600):] }

// watcher keeps what is written and calls found at the first match.
type watcher struct {
	buf     bytes.Buffer
	until   *regexp.Regexp
	found   func()
	matched bool
}

func (w *watcher) Write(p []byte) (int, error) {
	w.buf.Write(p)
	if w.until != nil && !w.matched && w.until.Match(w.buf.Bytes()) {
		w.matched = true
		w.found()
	}
	return len(p), nil
}

// tscKHz measures the host's TSC against CLOCK_MONOTONIC_RAW with a small
// program in C: Linux cannot calibrate it on a microvm, which has no PIT
// channel 2 gate.
func tscKHz(program string) (int, error) {
	out, err := exec.Command(program).Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// loadAverage is the host's, for the report.
func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	return strings.Fields(string(b) + " ?")[0]
}
