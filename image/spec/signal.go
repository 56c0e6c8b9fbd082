package spec

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal reads a signal's name, with or without SIG, or its number (signal(7)).
func Signal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= 64 {
		return syscall.Signal(n), nil
	}
	if above, ok := strings.CutPrefix(strings.TrimPrefix(strings.ToUpper(s), "SIG"), "RTMIN+"); ok {
		if n, err := strconv.Atoi(above); err == nil && n >= 0 && n <= 30 {
			return syscall.Signal(34 + n), nil
		}
	}
	if n := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no signal", s)
}

var hostname = regexp.MustCompile(`^[A-Za-z0-9_]([-A-Za-z0-9_.]{0,62}[A-Za-z0-9_])?$`)

// Hostname reports whether s may be a machine's name (hostname(7), with underscores, which containers have): at most 64 bytes.
func Hostname(s string) error {
	if !hostname.MatchString(s) {
		return fmt.Errorf("%q is no host name: up to 64 letters, digits, hyphens and points", s)
	}
	return nil
}
