package vm

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// knownFile lists what the kernel is known to do otherwise than Linux. It only
// shrinks: an entry that no longer holds fails the tests until it is removed.
//
//	PROGRAM [CHECK] # reason
//
// PROGRAM is the name in the table, CHECK one TEST of a self-checking program.
const knownFile = "known-differences.txt"

type known struct {
	whole  map[string]string            // program → reason
	checks map[string]map[string]string // program → check → reason
}

func readKnown() (known, error) {
	k := known{whole: map[string]string{}, checks: map[string]map[string]string{}}
	f, err := os.Open(knownFile)
	if err != nil {
		return k, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		entry, reason, _ := strings.Cut(s.Text(), "#")
		w := strings.Fields(entry)
		reason = strings.TrimSpace(reason)
		switch {
		case len(w) == 0:
		case reason == "":
			return k, fmt.Errorf("%s:%d: no reason given", knownFile, n)
		case len(w) == 1:
			k.whole[w[0]] = reason
		case len(w) == 2:
			if k.checks[w[0]] == nil {
				k.checks[w[0]] = map[string]string{}
			}
			k.checks[w[0]][w[1]] = reason
		default:
			return k, fmt.Errorf("%s:%d: want PROGRAM [CHECK] # reason", knownFile, n)
		}
	}
	return k, s.Err()
}

var checkLine = regexp.MustCompile(`^(ok|FAIL) (\w+)`)

// without takes the named checks, and the summary that counts them, out of a
// self-checking program's output. passed are those among them that passed.
func without(checks map[string]string, output string) (rest string, passed []string) {
	if len(checks) == 0 {
		return output, nil
	}
	var b strings.Builder
	for line := range strings.Lines(output) {
		m := checkLine.FindStringSubmatch(line)
		switch {
		case m != nil && checks[m[2]] != "":
			if m[1] == "ok" {
				passed = append(passed, m[2])
			}
		case strings.HasPrefix(line, "PASSED: "), strings.HasPrefix(line, "FAILED: "):
		default:
			b.WriteString(line)
		}
	}
	return b.String(), passed
}

func TestKnownDifferencesNameTests(t *testing.T) {
	k, err := readKnown()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, p := range programs() {
		names[p.name] = true
	}
	for name := range k.whole {
		if !names[name] {
			t.Errorf("%s: no program %s in the table", knownFile, name)
		}
	}
	for name := range k.checks {
		if !names[name] {
			t.Errorf("%s: no program %s in the table", knownFile, name)
		}
	}
}

func TestWithout(t *testing.T) {
	rest, passed := without(map[string]string{"b": "x", "c": "x"}, "ok a\nFAIL b f.c:1: bad\nok c\nother\nFAILED: 3 tests, 1 failures\n")
	if rest != "ok a\nother\n" || len(passed) != 1 || passed[0] != "c" {
		t.Errorf("%q, %v", rest, passed)
	}
}
