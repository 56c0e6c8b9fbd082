package vm

import (
	"cmp"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFuzzSyscalls has eight processes make random system calls in a machine of four processors, never on Linux: for some seconds
// from always the same seed, or, with `make fuzz-syscalls`, for GOSV_FUZZ_TIME from GOSV_FUZZ_SEED or one by chance.
func TestFuzzSyscalls(t *testing.T) {
	length, seed := 8*time.Second, "1"
	if s := os.Getenv("GOSV_FUZZ_TIME"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("GOSV_FUZZ_TIME: %v", err)
		}
		seed = cmp.Or(os.Getenv("GOSV_FUZZ_SEED"), "0")
	}
	args := []string{seed, strconv.Itoa(int(length.Seconds())), "8"}
	o := run(t, job{program: guestPath("fuzz.static"), args: args, flags: []string{"-m", "512M", "--verbose"}, limit: 2*length + 3*time.Minute}, place{"microvm", 4})
	for line := range strings.Lines(o.stdout + "\n" + o.stderr) {
		if strings.HasPrefix(line, "fuzz: ") && !strings.Contains(line, "not implemented") {
			t.Log(strings.TrimSpace(line))
		}
	}
	for _, fault := range []string{"kernel panic", "fatal error", "fault in the kernel", "memory exhausted"} {
		if at := strings.Index(o.stderr, fault); at >= 0 {
			t.Errorf("%s", o.stderr[at:min(at+4000, len(o.stderr))])
		}
	}
	if o.status != 0 || !strings.Contains(o.stdout, "fuzz: done") {
		t.Errorf("status %d, the last words: %s", o.status, o.stderr[max(0, len(o.stderr)-1000):])
	}
}
