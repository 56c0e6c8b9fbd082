package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gosv/image/pvh"
	"gosv/internal/fakeqemu"
	"gosv/vmm/qemu"
)

func TestMain(m *testing.M) {
	fakeqemu.Main()
	if inBackground() {
		main()
	}
	os.Exit(m.Run())
}

// kernelFile writes a file that passes for a kernel.
func kernelFile(t *testing.T) string {
	t.Helper()
	return writeFile(t, "kernel.elf", string(pvh.Stub(0x2a)), 0o644)
}

func writeFile(t *testing.T, name, text string, perm os.FileMode) string {
	t.Helper()
	full := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(full, []byte(text), perm); err != nil {
		t.Fatal(err)
	}
	return full
}

// gosv runs the command and returns its status and what it put out.
func gosv(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	begin := time.Now()
	status = execute(args, streams{in: strings.NewReader(stdin), out: &out, err: &errs})
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("gosv %q took %v", args, d)
	}
	return status, out.String(), errs.String()
}

func TestRunConnectsTheProgram(t *testing.T) {
	fakeqemu.Install(t, fakeqemu.Echo)
	status, stdout, stderr := gosv(t, "in\x00put\n", "run", "--accel", "tcg", "--kernel", kernelFile(t), "/bin/ls", "--help", "-m")
	if status != 7 || stdout != "in\x00put\n" || stderr != "7 bytes\n" {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}

func TestFailures(t *testing.T) {
	kernel := kernelFile(t)
	corrupt := writeFile(t, "corrupt.elf", string(pvh.Stub(1)[:5000]), 0o644)
	text := writeFile(t, "text", "hello\n", 0o755)
	plain := writeFile(t, "plain", "#!/bin/sh\n", 0o644)
	script := writeFile(t, "script", "#!/no/such/interpreter\n", 0o755)
	arm := []byte("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 57))
	arm[16], arm[18] = 2, 183
	foreign := writeFile(t, "foreign", string(arm), 0o755)
	short := writeFile(t, "short", "\x7fELF\x02\x01\x01", 0o755)
	long := strings.Repeat("x", 128<<10)
	run := func(args ...string) []string {
		return append([]string{"run", "--accel", "tcg", "--kernel", kernel}, args...)
	}
	tests := []struct {
		name   string
		fake   string
		args   []string
		status int
		want   string
	}{
		{"no program", "", []string{"run"}, 125, "gosv run ls -l /"},
		{"unknown flag", "", []string{"run", "--nonsense", "ls"}, 125, "--help"},
		{"unknown command", "", []string{"walk"}, 125, "walk"},
		{"not found", "", run("no-such-program"), 127, "no such program in PATH"},
		{"not found by path", "", run("/no/such/program"), 127, "/no/such/program: not found"},
		{"directory", "", run("/etc"), 126, "directory"},
		{"not executable", "", run(plain), 126, "permission denied"},
		{"neither ELF nor script", "", run(text), 126, "#!"},
		{"interpreter missing", "", run(script), 127, "/no/such/interpreter"},
		{"foreign architecture", "", run(foreign), 126, "64-bit ARM"},
		{"truncated", "", run(short), 126, "truncated"},
		{"argument too long", "", run("/bin/ls", long), 126, "argument list too long"},
		{"environment too long", "", run("-e", "X="+long, "/bin/ls"), 126, "argument list too long"},
		{"arguments too many", "", run(append([]string{"/bin/ls"}, make([]string, 250_000)...)...), 126, "argument list too long"},
		{"volume without guest", "", run("-v", "/etc/passwd", "/bin/ls"), 125, "HOST:GUEST"},
		{"volume missing", "", run("-v", "/no/file:/x", "/bin/ls"), 125, "/no/file"},
		{"relative workdir", "", run("-w", "x", "/bin/ls"), 125, "absolute"},
		{"memory without unit", "", run("-m", "128", "/bin/ls"), 125, "64M or 2G"},
		{"negative memory", "", run("-m", "-1M", "/bin/ls"), 125, "--memory"},
		{"3 MiB", "", run("-m", "3M", "/bin/ls"), 125, "raise --memory"},
		{"no processors", "", run("--cpus", "0", "/bin/ls"), 125, "--cpus"},
		{"bad machine", "", run("--machine", "amiga", "/bin/ls"), 125, "microvm"},
		{"bad name", "", run("--name", "a b", "/bin/ls"), 125, "letters, digits"},
		{"environment without a name", "", run("-e", "=x", "/bin/ls"), 125, "KEY=VALUE"},
		{"bad network", "", run("--net", "fast", "/bin/ls"), 125, "tap:IFNAME"},
		{"network without a name", "", run("--net", "bridge", "/bin/ls"), 125, "bridge:NAME"},
		{"network with a name", "", run("--net", "user:x", "/bin/ls"), 125, "say user"},
		{"bad accelerator", "", []string{"run", "--accel", "magic", "--kernel", kernel, "/bin/ls"}, 125, "kvm or tcg"},
		{"kernel missing", "", []string{"run", "--kernel", "/no/kernel", "/bin/ls"}, 125, "/no/kernel"},
		{"kernel corrupt", "", []string{"run", "--kernel", corrupt, "/bin/ls"}, 125, "no bootable kernel"},
		{"kernel foreign", "", []string{"run", "--kernel", "/bin/ls", "/bin/ls"}, 125, "no bootable kernel"},
		{"QEMU dies", fakeqemu.Die, run("/bin/ls"), 125, "could not do it"},
		{"QEMU is killed", fakeqemu.Crash, run("/bin/ls"), 125, "signal: killed"},
		{"kernel panic", fakeqemu.Panic, run("/bin/ls"), 125, "registers and stack"},
		{"kernel says not found", fakeqemu.Missing, run("/bin/ls"), 127, "/bin/gone"},
		{"kernel hangs", fakeqemu.Hang, run("--boot-timeout", "200ms", "/bin/ls"), 125, "did not start the program"},
		{"time limit", fakeqemu.Stubborn, run("--timeout", "300ms", "/bin/ls"), 124, "after 300ms the time limit"},
		{"not QEMU's end", "", run("/bin/ls"), 125, "without giving an exit status"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.fake != "" {
				fakeqemu.Install(t, test.fake)
			}
			status, _, stderr := gosv(t, "", test.args...)
			if status != test.status || !strings.Contains(stderr, test.want) || !strings.HasPrefix(stderr, "gosv: ") {
				t.Errorf("status %d, want %d with %q:\n%s", status, test.status, test.want, stderr)
			}
		})
	}
}

func TestQEMUMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	status, _, stderr := gosv(t, "", "run", "--kernel", kernelFile(t), "/bin/ls")
	if status != 125 || !strings.Contains(stderr, "apt-get install qemu-system-x86") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// A probe passes only with the right answer, in time.
func TestProbe(t *testing.T) {
	tests := []struct{ fake, want string }{
		{fakeqemu.Echo, "answered 7 instead of 42"}, {fakeqemu.Die, "could not do it"}, {fakeqemu.Panic, "floor fault"},
		{fakeqemu.Hang, "did not answer within 300ms"}, {fakeqemu.Answer, ""},
	}
	for _, test := range tests {
		t.Run(test.fake, func(t *testing.T) {
			kernel, err := os.Open(kernelFile(t))
			if err != nil {
				t.Fatal(err)
			}
			defer kernel.Close()
			a := accelerator{monitor: qemu.New(fakeqemu.Install(t, test.fake)), kernel: kernel, patience: time.Minute}
			if test.fake == fakeqemu.Hang {
				a.patience = 300 * time.Millisecond
			}
			begin := time.Now()
			err = a.probe(t.Context(), "kvm")
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if d := time.Since(begin); d > 30*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// The program that a probe runs ends on Linux as it is to end on gosv.
func TestProbeProgram(t *testing.T) {
	err := exec.Command(writeFile(t, "probe", string(probeProgram()), 0o755)).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != probeAnswer {
		t.Error(err)
	}
}

// auto must not trust a KVM whose machines do not run, and must say so.
func TestAutoFallsBack(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	kernel := kernelFile(t)
	fakeqemu.Install(t, fakeqemu.Echo) // not the answer of a probe
	for range 2 {
		status, _, stderr := gosv(t, "", "run", "--kernel", kernel, "/bin/ls")
		if status != 7 || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, "no KVM (") {
			t.Errorf("status %d: %s", status, stderr)
		}
	}
}

func TestProbeIsRemembered(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	cache := probeCache("/bin/ls", "/bin/cat")
	if _, ok := readProbe(cache); ok {
		t.Error("remembered before it was made")
	}
	for _, fault := range []string{"it hangs", ""} {
		writeProbe(cache, fault)
		if got, ok := readProbe(cache); got != fault || !ok {
			t.Errorf("%q became %q, %v", fault, got, ok)
		}
	}
	if probeCache("/bin/sh", "/bin/cat") == cache || probeCache("/bin/ls", "/bin/sh") == cache {
		t.Error("two emulators, or two kernels, share one answer")
	}
	writeProbe(cache, "it hangs")
	old := time.Now().Add(-refusalAge - time.Hour)
	if err := os.Chtimes(cache, old, old); err != nil {
		t.Fatal(err)
	}
	if _, ok := readProbe(cache); ok {
		t.Error("a refusal never expires")
	}
}

func TestDryRun(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	status, stdout, stderr := gosv(t, "", "run", "--accel", "tcg", "--kernel", kernelFile(t), "--machine", "q35", "-m", "64M",
		"--qemu-arg", "-name", "--qemu-arg", "two words", "--dry-run", "/bin/ls")
	if status != 0 || !strings.Contains(stdout, "-M q35 ") || !strings.HasSuffix(stdout, " -name 'two words'\n") {
		t.Errorf("status %d, %s, %s", status, stdout, stderr)
	}
	words := strings.Fields(stdout)
	for i, w := range words {
		if w == "-kernel" || w == "-initrd" {
			if st, err := os.Stat(words[i+1]); err != nil || st.Size() == 0 {
				t.Errorf("%s: %v", w, err)
			}
		}
	}
	if !strings.Contains(stderr, "remove it when you are done") {
		t.Errorf("%q", stderr)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"gosv run ls -l /"}},
		{[]string{"help"}, []string{"run ", "version "}},
		{[]string{"run", "--help"}, []string{"gosv run [FLAGS] WHAT [ARGS…]\n", "--dry-run", "Exit status", "128M"}},
		{[]string{"version"}, []string{"gosv " + version, "kernel:", "QEMU:"}},
	} {
		status, stdout, stderr := gosv(t, "", test.args...)
		for _, want := range test.want {
			if status != 0 || stderr != "" || !strings.Contains(stdout, want) {
				t.Errorf("gosv %q: status %d, no %q in\n%s%s", test.args, status, want, stdout, stderr)
			}
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"64M": 64 << 20, "1g": 1 << 30, "512K": 512 << 10, "": 0, "M": 0, "12": 0, "-1M": 0, "0M": 0,
		"1.5G": 0, "9999999999G": 0, "12MB": 0} {
		got, err := parseSize(s)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for s, want := range map[string]string{"a-b/c,d=1": "a-b/c,d=1", "": "''", "two words": "'two words'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := shellQuote(s); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
}

func TestGuestEnv(t *testing.T) {
	t.Setenv("FROM_HOST", "yes")
	t.Setenv("LD_LIBRARY_PATH", "/x:/y")
	got := fmt.Sprint(guestEnv([]string{"A=1", "FROM_HOST", "NOT_SET_ANYWHERE", "A=2", "HOME=/h"}))
	if want := "[PATH=" + guestPath + " LD_LIBRARY_PATH=/x:/y FROM_HOST=yes A=2 HOME=/h]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
