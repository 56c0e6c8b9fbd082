package vm

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSoak runs everything at once at four processors: 20 seconds, or as long
// as GOSV_SOAK says. Each worker checks its own results; none may stand still.
func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if s := os.Getenv("GOSV_SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("GOSV_SOAK: %v", err)
		}
	}
	j := job{program: guestPath("soak.static"), args: []string{strconv.Itoa(int(length.Seconds())), "8"}, flags: []string{"-m", "256M"}, limit: length + 90*time.Second}
	if want, err := onLinux(job{program: j.program, args: []string{"2", "8"}}); err != nil || want.status != 0 {
		t.Fatalf("on Linux: %v, %v", want, err)
	}
	o := run(t, j, place{"microvm", 4})
	if o.status != 0 || !strings.Contains(o.stdout, "soak: no loss") {
		t.Errorf("%v", o)
	}
	t.Logf("%s", o.stderr)
}
