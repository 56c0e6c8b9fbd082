// Package log stands in for gVisor's logging when netstack is built into the
// kernel: what it says goes to one function, without a formatter for files, JSON and
// regular expressions, which the kernel has no use for.
package log

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// Target takes what netstack says; nil: nobody listens.
var target atomic.Pointer[func(string)]

// SetTarget says where messages go.
func SetTarget(f func(string)) { target.Store(&f) }

func say(format string, v []any) {
	if f := target.Load(); f != nil {
		(*f)("netstack: " + fmt.Sprintf(format, v...))
	}
}

// A Logger takes messages.
type Logger interface {
	Debugf(format string, v ...any)
	Infof(format string, v ...any)
	Warningf(format string, v ...any)
	IsLogging(level Level) bool
}

// A Level is how urgent a message is.
type Level uint32

// The levels.
const (
	Warning Level = iota
	Info
	Debug
)

// limited passes on one warning in every span of time.
type limited struct {
	every time.Duration
	next  atomic.Int64 // Unix nanoseconds
}

// BasicRateLimitedLogger passes on one message in every span of time.
func BasicRateLimitedLogger(every time.Duration) Logger { return &limited{every: every} }

func (l *limited) Debugf(string, ...any) {}
func (l *limited) Infof(string, ...any)  {}
func (l *limited) Warningf(format string, v ...any) {
	now, next := time.Now().UnixNano(), l.next.Load()
	if now >= next && l.next.CompareAndSwap(next, now+int64(l.every)) {
		say(format, v)
	}
}
func (l *limited) IsLogging(level Level) bool { return level == Warning }

// Debugf drops a message.
func Debugf(string, ...any) {}

// Infof drops a message: netstack says one for each packet that it refuses.
func Infof(string, ...any) {}

// Warningf passes a message on.
func Warningf(format string, v ...any) { say(format, v) }

// IsLogging reports whether messages of a level are passed on.
func IsLogging(level Level) bool { return level == Warning }

// BugTraceback passes on that there is a fault, and where.
func BugTraceback(err error) { say("%v\n%s", []any{err, LocalStack(1)}) }

// LocalStack returns the stack of the caller.
func LocalStack(int) []byte {
	buf := make([]byte, 4<<10)
	return buf[:runtime.Stack(buf, false)]
}

type plain struct{}

func (plain) Debugf(string, ...any)            {}
func (plain) Infof(string, ...any)             {}
func (plain) Warningf(format string, v ...any) { say(format, v) }
func (plain) IsLogging(level Level) bool       { return level == Warning }

// Log returns the Logger behind the functions of this package.
func Log() Logger { return plain{} }
