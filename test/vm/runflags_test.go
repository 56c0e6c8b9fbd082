package vm

import (
	"path/filepath"
	"strings"
	"testing"
)

// What flags of gosv run change in the machine.
func TestRunFlags(t *testing.T) {
	for _, test := range []struct {
		name    string
		flags   []string
		program string
		args    []string
		status  int
		stdout  string
		stderr  string // part of it
	}{
		{"user by number", []string{"--user", "1000:50"}, "/usr/bin/id", nil, 0, "uid=1000 gid=50 groups=50\n", ""},
		{"user by name", []string{"--user", "nobody", "-e", "PATH=x"}, "/usr/bin/env", nil, 0, "PATH=x\nHOME=/nonexistent\n", ""},
		{"no such user", []string{"--user", "nix"}, "/usr/bin/env", nil, 126, "", "user nix: no such user"},
		{"read-only", []string{"--read-only"}, "/bin/bash", []string{"-c", "echo x >/tmp/x && read y </tmp/x && echo $y; echo x >/etc/x"}, 1, "x\n", "Read-only file system"},
		{"missing files", []string{"--missing-files"}, "/bin/bash", []string{"-c", "cd /etc; . ./b; . /a/../c; : <passwd"}, 0, "", "found:\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := run(t, job{program: test.program, args: test.args, flags: test.flags}, small)
			if o.status != test.status || o.stdout != test.stdout || !strings.Contains(o.stderr, test.stderr) {
				t.Error(o)
			}
			if test.name == "missing files" && (!strings.Contains(o.stderr, "  /c\n") || !strings.Contains(o.stderr, "  /etc/b\n") || strings.Contains(o.stderr, "passwd")) {
				t.Error(o)
			}
		})
	}
}

// reboot(2) ends the machine, with status 0, whichever way it is called.
func TestReboot(t *testing.T) {
	for _, how := range []string{"off", "halt", "restart", "restart2"} {
		if o := run(t, job{program: filepath.Join(guestDir, "exits.static"), args: []string{"reboot", how}}, small); o.status != 0 || o.stdout+o.stderr != "" {
			t.Error(how, o)
		}
	}
}
