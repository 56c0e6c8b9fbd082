// Package fmt stands in for the standard library's when netstack is built into the
// kernel: netstack formats addresses, and messages that hardly anybody reads. It
// does without reflection, and so without 200 KB: of types that it
// does not know, and that have neither String nor Error, it shows "?".
package fmt

import (
	"io"
	"os"
	"strconv"
)

// A Stringer can describe itself.
type Stringer interface{ String() string }

// Sprintf knows the verbs %v %s %d %x %X %q %t %c %p %T %w, the flags 0, #, + and -, and widths.
func Sprintf(format string, args ...any) string { return string(appendf(nil, format, args)) }

// Sprint formats its arguments as %v does, without spaces.
func Sprint(args ...any) string {
	var b []byte
	for _, a := range args {
		b = appendArg(b, a, verb{letter: 'v'})
	}
	return string(b)
}

// Fprintf writes what Sprintf returns.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	return w.Write(appendf(nil, format, args))
}

// Println writes to standard error.
func Println(args ...any) (int, error) {
	var b []byte
	for i, a := range args {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendArg(b, a, verb{letter: 'v'})
	}
	return os.Stderr.Write(append(b, '\n'))
}

// wrapped is the error of %w.
type wrapped struct {
	text string
	err  error
}

func (w *wrapped) Error() string { return w.text }
func (w *wrapped) Unwrap() error { return w.err }

// Errorf returns an error with Sprintf's text, which wraps the last argument that is one.
func Errorf(format string, args ...any) error {
	w := &wrapped{text: Sprintf(format, args...)}
	for _, a := range args {
		if err, ok := a.(error); ok {
			w.err = err
		}
	}
	return w
}

// verb is one directive.
type verb struct {
	letter            byte
	zero, sharp, left bool
	width             int
}

func appendf(b []byte, format string, args []any) []byte {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b = append(b, format[i])
			continue
		}
		var v verb
		for i++; i < len(format); i++ {
			c := format[i]
			switch {
			case c == '0' && v.width == 0:
				v.zero = true
			case c >= '0' && c <= '9':
				v.width = min(10*v.width+int(c-'0'), 100)
			case c == '#':
				v.sharp = true
			case c == '-':
				v.left = true
			case c != '+' && c != ' ' && c != '.':
				v.letter = c
			}
			if v.letter != 0 {
				break
			}
		}
		switch {
		case v.letter == '%' || v.letter == 0:
			b = append(b, '%')
		case len(args) == 0:
			b = append(b, "%!(MISSING)"...)
		default:
			b = appendArg(b, args[0], v)
			args = args[1:]
		}
	}
	return b
}

// appendArg formats one argument.
func appendArg(b []byte, arg any, v verb) []byte {
	start := len(b)
	b = appendPlain(b, arg, v)
	for pad := v.width - (len(b) - start); pad > 0; pad-- {
		fill := byte(' ')
		if v.zero {
			fill = '0'
		}
		b = append(b, fill)
		if !v.left {
			copy(b[start+1:], b[start:])
			b[start] = fill
		}
	}
	return b
}

func appendPlain(b []byte, arg any, v verb) []byte {
	if v.letter == 'T' || v.letter == 'p' {
		return append(b, '?')
	}
	switch a := arg.(type) {
	case nil:
		return append(b, "<nil>"...)
	case bool:
		return strconv.AppendBool(b, a)
	case string:
		return appendString(b, a, v)
	case []byte:
		return appendString(b, string(a), v)
	case int:
		return appendInt(b, int64(a), v)
	case int8:
		return appendInt(b, int64(a), v)
	case int16:
		return appendInt(b, int64(a), v)
	case int32:
		return appendInt(b, int64(a), v)
	case int64:
		return appendInt(b, a, v)
	case uint:
		return appendUint(b, uint64(a), v)
	case uint8:
		return appendUint(b, uint64(a), v)
	case uint16:
		return appendUint(b, uint64(a), v)
	case uint32:
		return appendUint(b, uint64(a), v)
	case uint64:
		return appendUint(b, a, v)
	case uintptr:
		return appendUint(b, uint64(a), v)
	case error:
		return append(b, a.Error()...)
	case Stringer:
		return appendString(b, a.String(), v)
	}
	return append(b, '?')
}

func appendString(b []byte, s string, v verb) []byte {
	switch v.letter {
	case 'x', 'X':
		for i := range len(s) {
			b = append(b, digits[s[i]>>4], digits[s[i]&15])
		}
		return b
	case 'q':
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

const digits = "0123456789abcdef"

func appendInt(b []byte, n int64, v verb) []byte {
	if n < 0 {
		return appendUint(append(b, '-'), uint64(-n), v)
	}
	return appendUint(b, uint64(n), v)
}

func appendUint(b []byte, n uint64, v verb) []byte {
	switch v.letter {
	case 'c':
		return append(b, string(rune(n))...)
	case 'x', 'X':
		if v.sharp {
			b = append(b, "0x"...)
		}
		return strconv.AppendUint(b, n, 16)
	case 'b':
		return strconv.AppendUint(b, n, 2)
	case 'o':
		return strconv.AppendUint(b, n, 8)
	}
	return strconv.AppendUint(b, n, 10)
}
