package vm

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// places are machines with virtio devices on MMIO and on PCI.
var sharePlaces = []place{{"microvm", 2}, {"q35", 1}}

// TestShareIsLikeLinux has programs that test files at work in a shared folder.
func TestShareIsLikeLinux(t *testing.T) {
	t.Parallel()
	if strings.HasPrefix(guestDir, "/tmp/") {
		t.Skip("the programs lie in /tmp, which the shared folder hides")
	}
	for i, name := range []string{"files.static", "mmap.static", "inotify.dyn"} {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o1777); err != nil {
			t.Fatal(err)
		}
		j := job{program: guestPath(name)}
		want, err := onLinux(j)
		if err != nil || want.status != 0 {
			t.Fatalf("%s on Linux: %v, %v", name, err, want)
		}
		j.flags = []string{"-v", dir + ":/tmp"}
		o := run(t, j, sharePlaces[i%2])
		if o.status != 0 || o.stdout != want.stdout {
			t.Errorf("%s: %s: %v", name, diff(want.stdout, o.stdout), o)
		}
	}
}

// shareDir makes a folder with files of the host.
func shareDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestShare: what each side writes, the other sees.
func TestShare(t *testing.T) {
	t.Parallel()
	for _, p := range sharePlaces {
		dir := shareDir(t, map[string]string{"from": "the host\n"})
		script := `read x </mnt/from && echo "$x" && echo "the guest" >/mnt/back && [ /mnt/back -nt /mnt/from ]; echo $?
			(echo no >/mnt/nowhere/x) 2>&1; cd /mnt; for i in *; do echo $i; done`
		o := run(t, job{program: "/bin/bash", args: []string{"-c", script}, flags: []string{"-v", dir + ":/mnt"}}, p)
		want := "the host\n0\n/bin/bash: line 2: /mnt/nowhere/x: No such file or directory\nback\nfrom\n"
		if o.status != 0 || o.stdout != want {
			t.Errorf("%s: %s: %v", p, diff(want, o.stdout), o)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(b) != "the guest\n" {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
}

// TestShareReadOnly: the guest changes nothing, whatever it is allowed to try.
func TestShareReadOnly(t *testing.T) {
	t.Parallel()
	dir := shareDir(t, map[string]string{"f": "as it was"})
	script := `for c in 'echo x >/mnt/f' 'echo x >/mnt/new' 'echo x >>/mnt/f'; do (eval "$c") 2>/dev/null && echo "$c worked"; done; echo $(</mnt/f)`
	o := run(t, job{program: "/bin/bash", args: []string{"-c", script}, flags: []string{"-v", dir + ":/mnt:ro"}}, small)
	if o.status != 0 || o.stdout != "as it was\n" {
		t.Errorf("%v", o)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "as it was" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestShareSeesTheHostsChanges has the host change a file that the guest has read, and has open.
func TestShareSeesTheHostsChanges(t *testing.T) {
	t.Parallel()
	slots <- struct{}{}
	defer func() { <-slots }()
	dir := shareDir(t, map[string]string{"f": "one\n"})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	script := `exec 3</mnt/f; read -u 3 x; echo $x; while read y; do while [ "$(</mnt/f)" != "$y" ]; do :; done; echo saw $y; done; read -u 3 x; echo $x`
	c := exec.CommandContext(ctx, gosv, "run", "--accel", "tcg", "-v", dir+":/mnt", "/bin/bash", "-c", script)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("%q, want %q", lines.Text(), want)
		}
	}
	expect("one")
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("two\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "two\n")
	expect("saw two")
	if err := os.WriteFile(filepath.Join(dir, "g"), []byte("other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "g"), filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "other\n")
	expect("saw other")
	in.Close()
	if err := c.Wait(); err != nil && !strings.Contains(err.Error(), "already closed") {
		t.Errorf("%v", err)
	}
}

// TestRootIsTheHosts: --root runs what the host has, and changes nothing there.
func TestRootIsTheHosts(t *testing.T) {
	t.Parallel()
	dir := shareDir(t, map[string]string{"here": "text\n"})
	script := `cat ` + dir + `/here && echo changed >` + dir + `/here && cat ` + dir + `/here && echo x >/etc/gosv-was-here && ls /etc/gosv-was-here /proc/self/status && mount | grep -c overlay`
	for _, p := range sharePlaces {
		o := run(t, job{program: "bash", args: []string{"-c", script}, flags: []string{"--root", "/"}}, p)
		if o.status != 0 || o.stdout != "text\nchanged\n/etc/gosv-was-here\n/proc/self/status\n1\n" {
			t.Errorf("%s: %v", p, o)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "here")); err != nil || string(b) != "text\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Stat("/etc/gosv-was-here"); err == nil {
		t.Error("the host was changed")
	}
	o := run(t, job{program: "no-such-program", flags: []string{"--root", "/"}}, small)
	if o.status != 127 {
		t.Errorf("%v", o)
	}
}

// TestShareConforms runs what every writable file system must pass, but for device files: those would be the host's.
func TestShareConforms(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	conf := guestPath("fsconf.static")
	list, err := exec.Command(conf, "-l").Output()
	if err != nil {
		t.Fatal(err)
	}
	var tests []string
	for _, name := range strings.Fields(string(list)) {
		if name != "special_files" {
			tests = append(tests, name)
		}
	}
	dir := t.TempDir()
	flags := []string{"-v", dir + ":/m"}
	o := run(t, job{program: conf, args: tests, env: []string{fsDir + "/m"}, flags: flags, limit: 2 * time.Minute}, small)
	if o.status != 0 || !strings.Contains(o.stdout, "PASSED") {
		t.Errorf("%v", o)
	}
	o = run(t, job{program: guestPath("fsx.static"), args: []string{"-p", "2", "/m/x", "1500", "4"}, flags: flags, limit: 2 * time.Minute}, place{"q35", 2})
	if o.status != 0 || !strings.Contains(o.stdout, "the same") {
		t.Errorf("%v", o)
	}
}

// TestVirtiofsd has the real server serve, and end in the middle.
func TestVirtiofsd(t *testing.T) {
	t.Parallel()
	const program = "/usr/lib/qemu/virtiofsd"
	if _, err := os.Stat(program); err != nil || os.Getuid() != 0 {
		t.Skip("needs virtiofsd, and root")
	}
	slots <- struct{}{}
	defer func() { <-slots }()
	dir := shareDir(t, map[string]string{"f": "one\n"})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	script := `read x </mnt/f; echo $x; echo back >/mnt/b; while read y </mnt/b; do :; done 2>/dev/null; echo gone; (echo x >/mnt/c) 2>/dev/null || echo refused`
	c := exec.CommandContext(ctx, gosv, "run", "--accel", "tcg", "--virtiofsd", program, "-v", dir+":/mnt", "/bin/bash", "-c", script)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("%q, want %q", lines.Text(), want)
		}
	}
	expect("one")
	for b := ""; b != "back\n"; time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(filepath.Join(dir, "b"))
		b = string(text)
		if ctx.Err() != nil {
			t.Fatal("the guest writes nothing")
		}
	}
	killed := 0
	for _, pid := range descendants(t, c.Process.Pid) {
		if exe, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); exe == program {
			_ = syscall.Kill(pid, syscall.SIGKILL) // one may have ended with the other
			killed++
		}
	}
	if killed == 0 {
		t.Error("no virtiofsd is running")
	}
	expect("gone")
	expect("refused")
	_ = c.Wait() // gosv says what became of the server
}

// descendants are the processes that a process has started, with theirs.
func descendants(t *testing.T, pid int) (list []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f) // a thread may have ended
		for _, w := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(w)
			if err != nil {
				t.Fatal(err)
			}
			list = append(append(list, child), descendants(t, child)...)
		}
	}
	return list
}
