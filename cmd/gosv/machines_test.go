package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"gosv/internal/fakeqemu"
)

func TestMachineInBackground(t *testing.T) {
	t.Setenv("GOSV_HOME", t.TempDir())
	fakeqemu.Install(t, fakeqemu.Talk)
	must := func(want string, args ...string) string {
		t.Helper()
		status, stdout, stderr := gosv(t, "", args...)
		if status != 0 || !regexp.MustCompile("(?s)^"+want+"$").MatchString(stdout) {
			t.Fatalf("gosv %q: status %d, %q, %q", args, status, stdout, stderr)
		}
		return strings.TrimSpace(stdout)
	}
	must("ID +NAME +COMMAND +CREATED +STATUS +PORTS\n", "ps", "-a")
	id := must("[0-9a-f]{12}\n", "run", "-d", "--name", "fake", "--accel", "tcg", "--kernel", kernelFile(t), "/bin/ls", "a b")
	must(id+"\n", "ps", "-q")
	must(".*"+id+" +fake +/bin/ls 'a b' +[0-9]+ seconds? ago +Up [0-9]+ seconds? *\n", "ps")
	if status, _, stderr := gosv(t, "", "run", "-d", "--name", "fake", "--accel", "tcg", "--kernel", kernelFile(t), "/bin/ls"); status != 125 || !strings.Contains(stderr, "name is taken") {
		t.Errorf("the same name again: %d, %q", status, stderr)
	}
	if status, _, stderr := gosv(t, "", "rm", "fake"); status != 125 || !strings.Contains(stderr, "gosv stop fake") {
		t.Errorf("rm of a running machine: %d, %q", status, stderr)
	}
	must("fake\n", "kill", "-s", "usr1", "fake")
	must("138\n", "wait", id[:6])
	must("talk\nsignal 10\n", "logs", "-f", "fake")
	must("signal 10\n", "logs", "-n", "1", "fake")
	must(`.*Exited \(138\) .* ago *\n`, "ps", "-a")
	must("ID +.*PORTS\n", "ps")
	var list []struct {
		ID         string
		Running    bool
		ExitStatus int
	}
	if err := json.Unmarshal([]byte(must(".*", "inspect", "fake")), &list); err != nil || len(list) != 1 || list[0].ID != id || list[0].Running || list[0].ExitStatus != 138 {
		t.Errorf("inspect: %+v, %v", list, err)
	}
	if status, _, stderr := gosv(t, "", "exec", "fake", "ls"); status != 125 || !strings.Contains(stderr, "not running") {
		t.Errorf("exec: %d, %q", status, stderr)
	}
	must("fake\n", "rm", "fake")
	must("", "ps", "-aq")
}

func TestStopIsNotPatientForEver(t *testing.T) {
	t.Setenv("GOSV_HOME", t.TempDir())
	fakeqemu.Install(t, fakeqemu.Stubborn)
	kernel := kernelFile(t)
	for _, rm := range [][]string{{"--rm"}, {}} {
		args := append([]string{"run", "-d", "--name", "x", "--accel", "tcg", "--kernel", kernel}, append(rm, "/bin/ls")...)
		if status, _, stderr := gosv(t, "", args...); status != 0 {
			t.Fatalf("%d, %q", status, stderr)
		}
		begin := time.Now()
		if status, out, stderr := gosv(t, "", "stop", "-t", "1", "x"); status != 0 || out != "x\n" {
			t.Errorf("%d, %q, %q", status, out, stderr)
		}
		if d := time.Since(begin); d < time.Second || d > 30*time.Second {
			t.Errorf("it took %v", d)
		}
	}
	if _, out, _ := gosv(t, "", "wait", "x"); out != "137\n" {
		t.Errorf("status %q", out)
	}
}

func TestBackgroundTellsFailure(t *testing.T) {
	t.Setenv("GOSV_HOME", t.TempDir())
	fakeqemu.Install(t, fakeqemu.Die)
	if status, out, stderr := gosv(t, "", "run", "-d", "--accel", "tcg", "--kernel", kernelFile(t), "/bin/ls"); status != 125 || out != "" || !strings.Contains(stderr, "could not do it") {
		t.Errorf("%d, %q, %q", status, out, stderr)
	}
	if status, _, stderr := gosv(t, "", "run", "-d", "/no/such"); status != 127 || !strings.Contains(stderr, "/no/such") {
		t.Errorf("%d, %q", status, stderr)
	}
}

func TestMachineCommandsRefuse(t *testing.T) {
	t.Setenv("GOSV_HOME", t.TempDir())
	for _, c := range []struct {
		want string
		args []string
	}{
		{"no such machine", []string{"logs", "x"}},
		{"which machine", []string{"stop"}},
		{"gosv exec MACHINE PROGRAM", []string{"exec", "x"}},
		{"KEY=VALUE", []string{"exec", "-e", "=x", "x", "ls"}},
		{"no signal", []string{"kill", "-s", "nonsense", "x"}},
		{"a name is", []string{"run", "--name", "a/b", "--accel", "tcg", "--kernel", kernelFile(t), "/bin/ls"}},
	} {
		if status, _, stderr := gosv(t, "", c.args...); status != 125 || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: %d, %q", c.args, status, stderr)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 seconds", time.Second: "1 second", 119 * time.Second: "119 seconds", 2 * time.Minute: "2 minutes", 90 * time.Minute: "1 hour", 49 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
