package coredump

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxPattern is the longest pattern (/proc/sys/kernel/core_pattern), in bytes.
const MaxPattern = 127

// Values are what the specifiers of a pattern stand for (core(5)).
type Values struct {
	PID, GlobalPID, TID, GlobalTID int32 // %p %P %i %I
	UID, GID                       uint32
	Signal                         int32
	Time                           int64 // since 1970, in seconds
	Limit                          uint64
	Host, Comm, Exe                string // %h %e %E
	UsesPID                        bool   // core_uses_pid: .PID at the end, unless the pattern has %p
}

// CheckPattern says whether a pattern can be used: EINVAL for one that is too long, and for a pipe to a program.
func CheckPattern(pattern string) error {
	if len(pattern) > MaxPattern || strings.HasPrefix(pattern, "|") {
		return unix.EINVAL
	}
	return nil
}

// Name returns the name of the file, "" when there is to be none.
func Name(pattern string, v *Values) string {
	if pattern == "" {
		return ""
	}
	var b []byte
	pid := false
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		if c != '%' {
			b = append(b, c)
			continue
		}
		if i++; i == len(pattern) {
			break
		}
		pid = pid || pattern[i] == 'p'
		b = append(b, v.expand(pattern[i])...)
	}
	if v.UsesPID && !pid {
		b = append(b, "."+v.expand('p')...)
	}
	return string(b)
}

// expand returns what %c stands for, nothing for an unknown c. The names have no way out of the directory that the pattern says.
func (v *Values) expand(c byte) string {
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	switch c {
	case '%':
		return "%"
	case 'p':
		return n(int64(v.PID))
	case 'P':
		return n(int64(v.GlobalPID))
	case 'i':
		return n(int64(v.TID))
	case 'I':
		return n(int64(v.GlobalTID))
	case 'u':
		return n(int64(v.UID))
	case 'g':
		return n(int64(v.GID))
	case 'd':
		return "1" // what is not dumpable is not dumped
	case 's':
		return n(int64(v.Signal))
	case 't':
		return n(v.Time)
	case 'c':
		return strconv.FormatUint(v.Limit, 10)
	case 'h':
		return flat(v.Host)
	case 'e':
		return flat(v.Comm)
	case 'f':
		return flat(v.Exe[strings.LastIndexByte(v.Exe, '/')+1:])
	case 'E':
		return strings.ReplaceAll(v.Exe, "/", "!")
	}
	return ""
}

// flat makes s a name that stays in its directory: "/" becomes "!", and "." and ".." begin with it (Linux's cn_esc_printf).
func flat(s string) string {
	s = strings.ReplaceAll(s, "/", "!")
	switch s {
	case "":
		return "!"
	case ".", "..":
		return "!" + s[1:]
	}
	return s
}
