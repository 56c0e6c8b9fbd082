// Command gotest runs `go test -json` with its arguments, and prints what a
// person wants to see: one line for each package and, with -v, what the tests
// print as they go on. At the end it prints what the tests that failed printed,
// so that the last lines of a long log say what is wrong. Its exit status is
// that of go test.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	args := os.Args[1:]
	verbose := len(args) > 0 && args[0] == "-v"
	if verbose {
		args = args[1:]
	}
	c := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
	failed := follow(out, os.Stdout, verbose)
	err = c.Wait()
	for _, f := range failed {
		fmt.Printf("\nFAILED %s\n%s", f.name, f.output)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

// An event is a line of `go test -json`, see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
}

// A failure is a test or, when none of its tests failed, a package.
type failure struct {
	name   string
	output string
}

// follow reads events from r, writes the packages' output to w, or that of tests
// too, and returns the failures. A line that is no event is copied as it is.
func follow(r io.Reader, w io.Writer, verbose bool) []failure {
	var failed []failure
	output := map[string]string{} // by package and test, of those that run
	blamed := map[string]bool{}   // packages with a test that failed
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if len(line) > 0 && json.Unmarshal(line, &e) != nil {
			_, _ = w.Write(line)
		}
		name := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			output[name] += e.Output
			if (verbose || e.Test == "") && !frame(e.Output) {
				_, _ = io.WriteString(w, e.Output)
			}
		case "pass", "skip":
			delete(output, name)
		case "fail":
			if e.Test == "" {
				failed = append(failed, cutShort(output, e.Package)...)
			}
			if e.Test != "" || !blamed[e.Package] {
				failed = append(failed, failure{name, output[name]})
			}
			blamed[e.Package] = true
			delete(output, name)
		case "build-output":
			_, _ = io.WriteString(w, e.Output)
		}
		if err != nil {
			return failed
		}
	}
}

// cutShort returns the tests of a package that neither passed nor failed: they
// ran when its process crashed, and one of them printed why.
func cutShort(output map[string]string, pkg string) (tests []failure) {
	for name, out := range output {
		if p, test, _ := strings.Cut(name, " "); p == pkg && test != "" {
			tests = append(tests, failure{name, out})
		}
	}
	return tests
}

// frame reports whether a line only says that a test begins, goes on or passes.
func frame(line string) bool {
	line = strings.TrimLeft(line, " ")
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- PASS") || line == "PASS\n"
}
