package gostd

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"
)

// packages are those of Go's standard library whose tests ask most of a kernel.
var packages = []string{
	"os", "os/exec", "os/signal", "os/user", "syscall", "time", "runtime", "runtime/debug", "sync", "io", "io/fs", "path/filepath", "bufio", "context",
	"net", "net/http", "net/netip", "crypto/tls", "internal/poll", "testing", "testing/fstest", "testing/iotest", "testing/quick", "testing/slogtest", "sync/atomic",
}

// Limits for one package, on Linux and in a machine. The longest takes 2.5 minutes on a quiet Linux.
const (
	linuxLimit = 30 * time.Minute
	vmLimit    = 2 * time.Hour
)

func TestGo(t *testing.T) {
	gosv := os.Getenv("GOSV")
	if os.Getenv("GOSV_CONFORMANCE") == "" || gosv == "" {
		t.Skip("make test-conformance runs this")
	}
	known, err := readKnown("known-differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	// What the go command builds within the tests on Linux, it finds built in the machine, whose root shows this machine's files.
	cache := t.TempDir()
	for _, pkg := range packages {
		t.Run(strings.ReplaceAll(pkg, "/", "_"), func(t *testing.T) {
			dir := filepath.Join(root, "src", pkg)
			program := filepath.Join(t.TempDir(), "go.test")
			build := exec.Command("go", "test", "-c", "-o", program, pkg)
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=") // some tests read their own source: no -trimpath
			if text, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			flags := []string{"-test.v"}
			if os.Getenv("GOSV_GO_WHOLE") == "" {
				flags = append(flags, "-test.short")
			}
			if only := os.Getenv("GOSV_GO_RUN"); only != "" {
				flags = append(flags, "-test.run", only)
			}
			linuxText := run(t, linuxLimit, dir, environment(root, cache), program, flags...)
			keep(t, pkg+".linux", linuxText)
			linux := results(linuxText)
			args := []string{"run", "--root", "/", "--accel", "tcg", "--cpus", "2", "-m", "7G", "--timeout", vmLimit.String(), "-w", dir}
			for _, e := range environment(root, cache) {
				args = append(args, "-e", e)
			}
			text := run(t, vmLimit+time.Minute, dir, os.Environ(), gosv, append(append(args, program), flags...)...)
			keep(t, pkg+".gosv", text)
			vm := results(text)
			if len(linux) == 0 {
				t.Fatal("nothing ran on Linux")
			}
			for _, line := range compare(linux, vm) {
				name, _, _ := strings.Cut(line, ":")
				if why := known[pkg+" "+name]; why != "" {
					t.Logf("known: %s (%s)", line, why)
					continue
				}
				t.Errorf("%s %s\n%s", pkg, line, about(text, name))
			}
		})
	}
}

// environment is what the tests see, on Linux and in the machine. Those of runtime build programs with the go command.
func environment(root, cache string) []string {
	return []string{
		"HOME=/root", "PATH=" + root + "/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOROOT=" + root, "TMPDIR=/tmp",
		"GOCACHE=" + cache, "GOTOOLCHAIN=local", "GOPROXY=off",
	}
}

// keep writes what a run said to the directory that GOSV_GO_LOGS names, if any.
func keep(t *testing.T, name string, text []byte) {
	dir := os.Getenv("GOSV_GO_LOGS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "_")), text, 0o644); err != nil {
		t.Error(err)
	}
}

// run runs a program in dir and returns its output, whatever its status.
func run(t *testing.T, limit time.Duration, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.WaitDelay = 5 * time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, _ := cmd.CombinedOutput() // what it says counts
	return out
}

var resultLine = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+)`)

// results are the verdicts by test; of several with a name, the worst.
func results(output []byte) map[string]string {
	worst := map[string]int{"PASS": 1, "SKIP": 2, "FAIL": 3}
	m := map[string]string{}
	for _, f := range resultLine.FindAllSubmatch(output, -1) {
		name, verdict := string(f[2]), string(f[1])
		if worst[verdict] > worst[m[name]] {
			m[name] = verdict
		}
	}
	return m
}

// compare returns a line for each test that ends otherwise in the machine; what is within a differing test is left out.
func compare(linux, vm map[string]string) (lines []string) {
	differs := map[string]bool{}
	var names []string
	for name := range linux {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		have := vm[name]
		if have == "" {
			have = "did not end"
		}
		if have == linux[name] || have == "PASS" && linux[name] == "SKIP" {
			continue
		}
		differs[name] = true
		if parent, _, ok := strings.Cut(name, "/"); ok && (differs[parent] || vm[parent] != linux[parent]) {
			continue
		}
		lines = append(lines, name+": "+have+", on Linux "+linux[name])
	}
	return lines
}

// about returns what the output says of a test.
func about(output []byte, name string) string {
	at := bytes.Index(output, []byte("=== RUN   "+name+"\n"))
	if at < 0 {
		return string(output[max(len(output)-2000, 0):])
	}
	return string(output[at:min(at+1500, len(output))])
}

// readKnown reads lines "PACKAGE TEST REASON…".
func readKnown(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.SplitN(s.Text(), " ", 3); len(w) == 3 && !strings.HasPrefix(w[0], "#") {
			m[w[0]+" "+w[1]] = w[2]
		}
	}
	return m, nil
}

func TestCompare(t *testing.T) {
	linux := results([]byte("--- PASS: TestA (0.00s)\n--- PASS: TestB (0.00s)\n    --- PASS: TestB/x (0.00s)\n--- SKIP: TestC\n--- PASS: TestD\n"))
	vm := results([]byte("--- PASS: TestA (0.00s)\n--- FAIL: TestB (0.00s)\n    --- FAIL: TestB/x (0.00s)\n--- SKIP: TestC\n"))
	got := strings.Join(compare(linux, vm), "\n")
	if want := "TestB: FAIL, on Linux PASS\nTestD: did not end, on Linux PASS"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
