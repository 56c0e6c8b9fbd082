package stress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// Exit statuses of stress-ng(1), and those of gosv.
const (
	passed    = 0
	noneRun   = 1 // it takes --pathological
	failed    = 2
	skipped   = 3 // not enough resources, or not for this machine
	unknown   = 4 // not built for this system
	hung      = 124
	broken    = 125
	wantEnds  = 240
	perRun    = 2 * time.Minute
	perClass  = 5 * time.Minute
	inVM      = "1m30s"
	inVMClass = "4m30s"
)

var words = map[int]string{passed: "ends", noneRun: "not run", failed: "fails", skipped: "skipped", unknown: "not built", hung: "HANGS", broken: "KERNEL FAULT"}

func word(status int) string {
	if w := words[status]; w != "" {
		return w
	}
	return fmt.Sprintf("status %d", status)
}

// run runs stress-ng in a machine.
func run(limit time.Duration, timeout, memory string, args ...string) (status int, output string, err error) {
	gosv, err := filepath.Abs(os.Getenv("GOSV"))
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, gosv, append([]string{"run", "--accel", "tcg", "--cpus", "4", "-m", memory, "--timeout", timeout, "-w", "/tmp", "stress-ng"}, args...)...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		status = hung
	case errors.As(err, &exit):
		status = exit.ExitCode()
	case err != nil:
		return 0, "", err
	}
	if s := out.String(); strings.Contains(s, "kernel panic") || strings.Contains(s, "fatal error") {
		status = broken
	}
	return status, out.String(), nil
}

func ready(t *testing.T) {
	if os.Getenv("GOSV_STRESS") == "" {
		t.Skip("GOSV_STRESS is not set: make test-stress runs stress-ng")
	}
	if os.Getenv("GOSV") == "" {
		t.Fatal("GOSV is not set")
	}
}

func TestStressors(t *testing.T) {
	ready(t)
	list, err := exec.Command("stress-ng", "--stressors").Output()
	if err != nil {
		t.Fatalf("stress-ng: %v: apt-get install stress-ng", err)
	}
	names := strings.Fields(string(list))
	results := map[string]int{}
	var mu sync.Mutex
	slots := make(chan struct{}, 2)
	t.Run("each", func(t *testing.T) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				status, out, err := run(perRun, inVM, "768M", "--"+name, "4", "-t", "2", "--temp-path", "/tmp")
				if err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				results[name] = status
				mu.Unlock()
				if status == hung || status == broken {
					t.Errorf("%s\n%s", word(status), out)
				}
			})
		}
	})
	by := map[string][]string{}
	for name, status := range results {
		by[word(status)] = append(by[word(status)], name)
	}
	for w, names := range by {
		sort.Strings(names)
		fmt.Printf("%-12s %3d  %s\n", w, len(names), strings.Join(names, " "))
	}
	if n := len(by[word(passed)]); n < wantEnds && len(results) == len(names) {
		t.Errorf("%d of %d stressors run to their end, at least %d should", n, len(names), wantEnds)
	}
}

// without are the stressors that fail on Linux too, and with them a class would end before its time: io-uring asks for the status of a file
// that it has removed.
const without = "io-uring"

func TestClasses(t *testing.T) {
	ready(t)
	for _, class := range []string{"cpu", "vm", "memory", "os", "scheduler", "pipe", "interrupt"} {
		t.Run(class, func(t *testing.T) {
			begin := time.Now()
			status, out, err := run(perClass, inVMClass, "2G", "--class", class, "--all", "1", "-t", "30", "--temp-path", "/tmp", "-x", without)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("class %-10s %s after %v\n", class, word(status), time.Since(begin).Round(time.Second))
			if status == hung || status == broken {
				t.Errorf("%s\n%s", word(status), out)
			} else if status != passed {
				t.Logf("%s\n%s", word(status), out)
			}
		})
	}
}
