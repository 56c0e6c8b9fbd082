package syscall

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write docs/syscalls.md")

const docsFile = "../../docs/syscalls.md"

// docs is docs/syscalls.md.
func docs() []byte {
	rows := New(Options{}).rows
	var b bytes.Buffer
	full, part, none, unused := 0, 0, 0, 0
	for i := range rows {
		switch r := rows[i]; {
		case r.name == "":
			unused++
		case r.call == nil:
			none++
		case r.note != "":
			part++
		default:
			full++
		}
	}
	fmt.Fprintf(&b, `# System calls

Made from the table in kernel/syscall by `+"`go generate ./kernel/syscall`"+`; do not edit.

Of the %d system calls of Linux on x86-64 (numbers 0 to %d), %d are implemented, %d partly, %d not.
The numbers that are not listed do not exist; they give ENOSYS, as all higher ones do.
What a call does is in section 2 of Linux's manual pages.

| nr | call | arguments | state |
| --: | --- | --- | --- |
`, full+part+none, numbers-1, full, part, none)
	for i := range rows {
		r := rows[i]
		if r.name == "" {
			continue
		}
		var kinds []string
		for _, a := range r.args {
			kinds = append(kinds, a.name)
		}
		state := "yes"
		switch {
		case r.call == nil:
			state = "no: " + unix.ErrnoName(r.errno) + " (" + r.note + ")"
		case r.note != "":
			state = "partly: " + r.note
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", i, r.name, strings.Join(kinds, ", "), state)
	}
	return b.Bytes()
}

func TestDocs(t *testing.T) {
	if *update {
		if err := os.WriteFile(docsFile, docs(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, docs()) {
		t.Error("docs/syscalls.md is stale: go generate ./kernel/syscall")
	}
}

// TestEveryNumberHasItsName compares the table with the numbers of golang.org/x/sys/unix.
func TestEveryNumberHasItsName(t *testing.T) {
	rows := New(Options{}).rows
	src, err := os.ReadFile("testdata/numbers")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[int]bool{}
	for line := range strings.Lines(string(src)) {
		var nr int
		var name string
		if _, err := fmt.Sscan(line, &nr, &name); err != nil {
			t.Fatal(line, err)
		}
		listed[nr] = true
		if nr < numbers && rows[nr].name != name {
			t.Errorf("number %d is %s here and %s in Linux", nr, rows[nr].name, name)
		}
	}
	for nr := range rows {
		r := rows[nr]
		if listed[nr] != (r.name != "") {
			t.Errorf("number %d: %q", nr, r.name)
		}
		if r.call == nil && (r.errno == 0 || r.note == "") {
			t.Errorf("number %d has no errno or no reason", nr)
		}
		if r.call != nil && r.errno != 0 {
			t.Errorf("%s has a handler and an errno", r.name)
		}
	}
}
