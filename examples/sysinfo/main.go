// Command sysinfo prints what a program sees of the machine it runs on:
// processors, memory, kernel, and the time since power-on. It is an ordinary
// Linux program; run it with and without gosv.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	failed := false
	for _, row := range []struct {
		name string
		read func() (string, error)
	}{
		{"kernel", kernel}, {"processors", processors}, {"memory", memory}, {"since power-on", uptime}, {"process", process},
	} {
		text, err := row.read()
		if err != nil {
			failed, text = true, "unknown: "+err.Error()
		}
		printRow(os.Stdout, row.name, text)
	}
	if failed {
		os.Exit(1)
	}
}

func printRow(w io.Writer, name, text string) { fmt.Fprintf(w, "%-15s %s\n", name+":", text) }

// kernel is what uname(2) tells.
func kernel() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	text := unix.ByteSliceToString
	return fmt.Sprintf("%s %s on %s (host %s)", text(u.Sysname[:]), text(u.Release[:]), text(u.Machine[:]), text(u.Nodename[:])), nil
}

// processors is the number that sched_getaffinity(2) allows.
func processors() (string, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d (%s)", set.Count(), runtime.GOARCH), nil
}

// memory is what sysinfo(2) tells.
func memory() (string, error) {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return "", err
	}
	unit := uint64(max(si.Unit, 1))
	return fmt.Sprintf("%.1f MiB, %.1f MiB free", mib(si.Totalram*unit), mib(si.Freeram*unit)), nil
}

func mib(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// uptime is CLOCK_BOOTTIME, see clock_gettime(2).
func uptime() (string, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return "", err
	}
	return time.Duration(ts.Nano()).Round(10 * time.Microsecond).String(), nil
}

func process() (string, error) {
	return fmt.Sprintf("%d, user %d, made by %s", os.Getpid(), os.Getuid(), runtime.Version()), nil
}
