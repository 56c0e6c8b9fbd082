package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// raw_skew sleeps two minutes, inconsistency-check counts ten seconds on each of eleven clocks.
const (
	linuxLimit = 10 * time.Minute
	vmLimit    = 20 * time.Minute
)

// Statuses of a test that does not end in time, and of gosv when the machine fails.
const (
	hung   = 124
	broken = 125
)

// A result is what a test did: its exit status, and its parts by their numbers in TAP: ok, not ok, skip. (Names have
// process IDs in them.)
type result struct {
	status int
	parts  map[string]string
	output string
}

// line is a line of TAP: "ok 3 name" or "not ok 3 name # SKIP why".
var line = regexp.MustCompile(`^(ok|not ok) (\d+) *(.*)$`)

func parse(output string) map[string]string {
	parts := map[string]string{}
	for _, l := range strings.Split(output, "\n") {
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		_, directive, _ := strings.Cut(m[3], "#")
		how := m[1]
		if d := strings.TrimSpace(strings.ToUpper(directive)); strings.HasPrefix(d, "SKIP") {
			how = "skip"
		}
		parts[m[2]] = how
	}
	return parts
}

// run runs a command; a test that does not end in time has the status hung.
func run(limit time.Duration, name string, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = filepath.Dir(name)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	r := result{output: out.String(), parts: parse(out.String())}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		r.status = hung
	case errors.As(err, &exit):
		if r.status = exit.ExitCode(); r.status < 0 {
			r.status = 128
		}
	case err != nil:
		return r, err
	}
	return r, nil
}

// worse lists what Linux passes and the machine does not; the test as a whole is "". That a machine hangs or fails is worse than any result.
func worse(linux, vm result) (names []string) {
	for name, how := range linux.parts {
		if how == "ok" && vm.parts[name] != "ok" {
			names = append(names, name)
		}
	}
	if (linux.status == 0 && vm.status != 0 || vm.status == hung || vm.status == broken) && len(names) == 0 {
		names = append(names, "")
	}
	slices.Sort(names)
	return names
}

// onDisk are tests about files that do not lie in memory as a whole, as those of the machine's own root do.
var onDisk = []string{"mincore-mincore_selftest"}

// command is how a test is started in a machine, as arguments of gosv run.
func command(t *testing.T, file string) []string {
	if !slices.Contains(onDisk, filepath.Base(file)) {
		return []string{file}
	}
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/mkfs.ext4", "-q", disk).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	return []string{"--disk", disk, "-v", "/bin/busybox:/bin/mount", "-v", "/bin/busybox:/bin/mkdir", "-v", file + ":/bin/selftest", "/bin/busybox", "sh", "-c",
		"mkdir -p /mnt && mount -t ext4 /dev/vda /mnt && cd /mnt && exec selftest"}
}

// inVM runs a test in a machine; what is worse there, and not known to be, is run again, twice at most, because many tests depend on time.
func inVM(t *testing.T, gosv, file string, linux result, known func(part string) bool) (vm result, bad []string, err error) {
	args := []string{"run", "--accel", "tcg", "--cpus", "4", "-m", "512M", "--timeout", (vmLimit - 10*time.Second).String()}
	for _, tool := range []string{"sleep", "sh"} { // some tests start these
		args = append(args, "-v", "/bin/busybox:/bin/"+tool)
	}
	args = append(args, "-v", filepath.Join(filepath.Dir(file), "tools", "true")+":/bin/true")
	for range 3 {
		if vm, err = run(vmLimit, gosv, append(args, command(t, file)...)...); err != nil {
			return vm, nil, err
		}
		if bad = worse(linux, vm); !slices.ContainsFunc(bad, func(part string) bool { return !known(part) }) {
			break
		}
	}
	return vm, bad, nil
}

// differences reads differences.txt: "test", "test/part" or "test/*" for some of its parts, then the reason.
func differences() (map[string]string, error) {
	b, err := os.ReadFile("differences.txt")
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimSpace(l); l == "" || l[0] == '#' {
			continue
		}
		name, reason, ok := strings.Cut(l, ": ")
		if !ok {
			return nil, fmt.Errorf("differences.txt: no reason in %q", l)
		}
		known[name] = reason
	}
	return known, nil
}

func full(test, part string) string {
	if part == "" {
		return test
	}
	return test + "/" + part
}

func TestSelftests(t *testing.T) {
	dir := os.Getenv("GOSV_CONFORMANCE")
	if dir == "" {
		t.Skip("GOSV_CONFORMANCE is not set: make test-conformance runs Linux's selftests")
	}
	gosv, err := filepath.Abs(os.Getenv("GOSV"))
	if err != nil || os.Getenv("GOSV") == "" {
		t.Fatal("GOSV is not set")
	}
	known, err := differences()
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "test\tLinux\tgosv\tworse\t")
	ran, same := 0, 0
	for _, e := range tests {
		name := e.Name()
		if info, err := e.Info(); err != nil || !info.Mode().IsRegular() || info.Mode()&0o100 == 0 { // what tests leave behind
			continue
		}
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			linux, err := run(linuxLimit, file)
			if err != nil {
				t.Fatal(err)
			}
			if linux.status == hung {
				t.Fatalf("does not end on Linux within %v: nothing to compare with", linuxLimit)
			}
			isKnown := func(part string) bool { return known[full(name, part)] != "" || known[name+"/*"] != "" }
			vm, bad, err := inVM(t, gosv, file, linux, isKnown)
			if err != nil {
				t.Fatal(err)
			}
			ran++
			unexpected := 0
			for _, part := range bad {
				if !isKnown(part) {
					unexpected++
					t.Errorf("%s is not as on Linux", full(name, part))
				}
			}
			for k := range known {
				if test, part, _ := strings.Cut(k, "/"); test == name && !slices.Contains(bad, part) && (part != "*" || len(bad) == 0) {
					t.Errorf("%s is as on Linux by now: take it out of differences.txt", k)
				}
			}
			if len(bad) == 0 {
				same++
			}
			if unexpected > 0 {
				t.Logf("status %d on Linux, %d in the machine\n%s", linux.status, vm.status, vm.output)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t\n", name, linux.summary(), vm.summary(), strings.Join(bad, ", "))
		})
	}
	table.Flush()
	fmt.Printf("%d selftests: %d give Linux's results\n", ran, same)
}

// summary is the status, and how many parts passed of how many.
func (r result) summary() string {
	s := fmt.Sprintf("%d", r.status)
	if len(r.parts) == 0 {
		return s
	}
	ok := 0
	for _, how := range r.parts {
		if how == "ok" {
			ok++
		}
	}
	return fmt.Sprintf("%s (%d/%d)", s, ok, len(r.parts))
}

func TestParse(t *testing.T) {
	got := parse("TAP version 13\nok 1 first\nnot ok 2 second part\nok 3 third # SKIP no reason\n# ok 4 comment\n")
	want := map[string]string{"1": "ok", "2": "not ok", "3": "skip"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
	vm := result{parts: map[string]string{"1": "not ok"}, status: 1}
	if w := worse(result{parts: want}, vm); len(w) != 1 || w[0] != "1" {
		t.Errorf("%q", w)
	}
	for _, status := range []int{hung, broken} {
		if w := worse(result{status: 1}, result{status: status}); len(w) != 1 || w[0] != "" {
			t.Errorf("status %d: %q", status, w)
		}
	}
	if w := worse(result{status: 1}, result{status: 2}); len(w) != 0 {
		t.Errorf("%q", w)
	}
}
