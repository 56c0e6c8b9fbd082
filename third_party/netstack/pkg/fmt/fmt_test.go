package fmt

import (
	"errors"
	std "fmt"
	"io"
	"testing"
	"time"
)

// What it knows, it formats as the standard library does.
func TestLikeTheStandard(t *testing.T) {
	for _, c := range []struct {
		format string
		args   []any
	}{
		{"%d.%d.%d.%d", []any{uint8(192), uint8(0), uint8(2), uint8(255)}},
		{"%02x:%02x|%x|%#x|%04d|%-4d|%4d", []any{uint8(1), uint8(0xab), uint16(0x20), uint64(1 << 40), 7, 7, -7}},
		{"%s %v %q %x %t %%", []any{"text", 2 * time.Second, "a\"b", []byte{0, 255}, true}},
		{"%v %v", []any{nil, io.EOF}},
		{"%c%d", []any{'x', int64(-1 << 63)}},
	} {
		if got, want := Sprintf(c.format, c.args...), std.Sprintf(c.format, c.args...); got != want {
			t.Errorf("%q: %q, want %q", c.format, got, want)
		}
	}
	if err := Errorf("reading: %w", io.EOF); !errors.Is(err, io.EOF) || err.Error() != "reading: EOF" {
		t.Error(err)
	}
	if got := Sprintf("%v %d", struct{}{}); got != "? %!(MISSING)" {
		t.Errorf("%q", got)
	}
}
