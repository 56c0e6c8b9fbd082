package vm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// command runs the gosv command with a limit and returns what it put out.
func command(t *testing.T, stdin io.Reader, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, gosv, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("gosv %q: %v, %v", args, err, ctx.Err())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// A machine in the background, and further programs in it.
func TestExec(t *testing.T) {
	t.Setenv("GOSV_HOME", t.TempDir())
	slots <- struct{}{}
	defer func() { <-slots }()
	args := []string{"run", "--accel", "tcg", "-d", "--name", "m", "--cpus", "2"}
	for _, program := range []string{"bash", "cat", "ls", "sleep", "tty", "id", "head"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "-v", path+":/usr/bin/"+program)
	}
	users := t.TempDir() + "/passwd"
	if err := os.WriteFile(users, []byte("root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args = append(args, "-v", users+":/etc/passwd", "-e", "COLOUR=blue", "bash", "-c",
		`echo up; trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done`)
	if status, _, stderr := command(t, nil, args...); status != 0 {
		t.Fatalf("run -d: %d, %s", status, stderr)
	}
	defer command(t, nil, "rm", "-f", "m")
	t.Setenv("FLAVOUR", "sour")

	for _, c := range []struct {
		args           []string
		stdin          string
		status         int
		stdout, stderr string
	}{
		{[]string{"m", "bash", "-c", "echo $COLOUR $PPID; echo e >&2; exit 5"}, "", 5, "blue 1\n", "e\n"},
		{[]string{"-i", "m", "cat"}, "through", 0, "through", ""},
		{[]string{"m", "cat"}, "not passed on", 0, "", ""},
		{[]string{"-e", "COLOUR=red", "-w", "/tmp", "m", "bash", "-c", "echo $COLOUR; pwd"}, "", 0, "red\n/tmp\n", ""},
		{[]string{"-e", "FLAVOUR", "-e", "GOSV_NOT_SET", "m", "bash", "-c", "echo $FLAVOUR${GOSV_NOT_SET-unset}"}, "", 0, "sourunset\n", ""},
		{[]string{"-u", "anna", "m", "bash", "-c", "id -u; id -g; echo $HOME; cat /etc/shadow"}, "", 1, "1000\n1000\n/home/anna\n", "cat: /etc/shadow: "},
		{[]string{"-u", "2:3", "m", "bash", "-c", "id -u; id -g"}, "", 0, "2\n3\n", ""},
		{[]string{"-u", "otto", "m", "ls"}, "", 125, "", "gosv: user otto: no such user\n"},
		{[]string{"m", "nonsense"}, "", 127, "", "gosv: nonsense: no such file or directory\n"},
		{[]string{"m", "/etc/passwd"}, "", 126, "", "gosv: /etc/passwd: permission denied\n"},
		{[]string{"-w", "/none", "m", "ls"}, "", 127, "", "gosv: working directory /none: no such file or directory\n"},
		{[]string{"m", "bash", "-c", "kill -9 $$"}, "", 137, "", ""},
		{[]string{"m", "bash", "-c", "sleep 100 & echo left behind"}, "", 0, "left behind\n", ""},
		{[]string{"-t", "m", "tty"}, "", 0, "/dev/pts/0\r\n", ""},
	} {
		status, stdout, stderr := command(t, strings.NewReader(c.stdin), append([]string{"exec"}, c.args...)...)
		if status != c.status || stdout != c.stdout || !strings.HasPrefix(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("exec %q: status %d, %q, %q; want %d, %q, %q", c.args, status, stdout, stderr, c.status, c.stdout, c.stderr)
		}
	}
	execSideBySide(t)

	if status, _, stderr := command(t, nil, "stop", "-t", "60", "m"); status != 0 {
		t.Errorf("stop: %d, %s", status, stderr)
	}
	if _, stdout, _ := command(t, nil, "wait", "m"); stdout != "7\n" {
		t.Errorf("its status is %q", stdout)
	}
	if _, stdout, _ := command(t, nil, "logs", "m"); stdout != "up\nbye\n" {
		t.Errorf("its log is %q", stdout)
	}
}

// execSideBySide runs programs that pass data at the same time as one whose output nobody reads.
func execSideBySide(t *testing.T) {
	stuck := exec.Command(gosv, "exec", "m", "head", "-c", "10000000", "/dev/zero")
	out, err := stuck.StdoutPipe()
	if err == nil {
		err = stuck.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			data := make([]byte, 300_000)
			rand.Read(data)
			if status, stdout, stderr := command(t, bytes.NewReader(data), "exec", "-i", "m", "cat"); status != 0 || stdout != string(data) {
				t.Errorf("cat: status %d, %d bytes, %s", status, len(stdout), stderr)
			}
		})
	}
	wg.Wait()
	if n, err := io.Copy(io.Discard, out); n != 10_000_000 || err != nil {
		t.Errorf("head: %d bytes, %v", n, err)
	}
	if err := stuck.Wait(); err != nil {
		t.Errorf("head: %v", err)
	}
}
