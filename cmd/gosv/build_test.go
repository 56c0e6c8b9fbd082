package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gosv/image/disk"
	"gosv/image/rootfs"
)

// buildImage builds an image, or skips the test when the loaders are missing.
func buildImage(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	status, stdout, stderr := gosv(t, "", append([]string{"build", "--kernel", kernelFile(t)}, args...)...)
	if strings.Contains(stderr, disk.ErrNoLoader.Error()) {
		t.Skip(stderr)
	}
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	return stdout, stderr
}

// root makes a folder that can be a root file system.
func root(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"bin/app": "\x7fELF", "etc/passwd": "root:x:0:0::/root:\nweb:x:33:34::/srv:\n", "etc/group": "web:x:34:\nmore:x:50:web\n",
		"srv/.env": "PASSWORD=x\n", "usr/share/odd\x1b[31mname": "x"} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("app", filepath.Join(dir, "bin/link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBuildIsReproducible(t *testing.T) {
	dir, out := root(t), t.TempDir()
	a, b, c := filepath.Join(out, "a.img"), filepath.Join(out, "b.img"), filepath.Join(out, "c.qcow2")
	buildImage(t, "-o", a, dir, "app", "-x")
	buildImage(t, "-o", b, dir, "app", "-x")
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	if y, err := os.ReadFile(b); err != nil || !bytes.Equal(x, y) {
		t.Errorf("two images of one folder differ, %v", err)
	}
	buildImage(t, "-o", c, dir, "app", "-x")
	if status, stdout, stderr := gosv(t, "", "image", "diff", a, c); status != 0 || stdout != "" {
		t.Errorf("raw and qcow2 differ: %d %s %s", status, stdout, stderr)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1000000000")
	buildImage(t, "-o", b, dir, "app", "-x")
	_, stdout, _ := gosv(t, "", "image", "ls", "--json", b, "/srv")
	if !strings.Contains(stdout, "2001-09-09T01:46:40Z") {
		t.Errorf("SOURCE_DATE_EPOCH is not heeded: %s", stdout)
	}
}

func TestImageCommands(t *testing.T) {
	dir, out := root(t), filepath.Join(t.TempDir(), "app.img")
	_, warnings := buildImage(t, "-o", out, "-u", "web", "-e", "A=b c", "-m", "64M", "--cpus", "2", "--expose", "80", "--read-only", dir, "app", "x y")
	if !strings.Contains(warnings, "/srv/.env in the image looks like") {
		t.Errorf("no warning of a secret: %q", warnings)
	}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"ls", out}, []string{"-rwxr-xr-x", "/bin/app\n", "/bin/link -> app", `"/usr/share/odd\x1b[31mname"`, "/proc\n"}},
		{[]string{"ls", out, "/bin/app"}, []string{" 4 /bin/app\ntotal 4 B"}},
		{[]string{"inspect", out}, []string{"gosv-root", "program    app\n", "arguments  'x y'", "user       web", "memory     64M", "ports      80/tcp", "cpus       2", "env        A=b c", "read-only"}},
	} {
		status, stdout, stderr := gosv(t, "", append([]string{"image"}, test.args...)...)
		for _, want := range test.want {
			if status != 0 || !strings.Contains(stdout, want) {
				t.Errorf("%v: status %d %s, want %q in\n%s", test.args, status, stderr, want, stdout)
			}
		}
	}
	var v inspected
	_, stdout, _ := gosv(t, "", "image", "inspect", "--json", out)
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || len(v.Partitions) != 3 || v.Image.User != "web" || v.Files["links"] != 1 {
		t.Errorf("%v: %s", err, stdout)
	}
	to := filepath.Join(t.TempDir(), "out")
	if status, _, stderr := gosv(t, "", "image", "extract", out, to); status != 0 {
		t.Fatal(stderr)
	}
	run, err := os.ReadFile(filepath.Join(to, ".gosv/run"))
	if err != nil || !strings.Contains(string(run), "exe=/bin/app\x00arg=app\x00arg=x y\x00") || !strings.Contains(string(run), "\x00user=web\x00") || !strings.Contains(string(run), "HOME=/srv") {
		t.Errorf("%q, %v", run, err)
	}
	if target, err := os.Readlink(filepath.Join(to, "bin/link")); target != "app" {
		t.Error(target, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/app"), []byte("\x7fELG"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "bin/link")); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.img")
	buildImage(t, "-o", other, "-u", "web", "-e", "A=b c", "-m", "64M", "--cpus", "2", "--expose", "80", "--read-only", dir, "app", "x y")
	status, stdout, _ := gosv(t, "", "image", "diff", out, other)
	if status != 1 || !strings.Contains(stdout, "C /bin/app  ") || !strings.Contains(stdout, "contents\n") || !strings.Contains(stdout, "D /bin/link\n") {
		t.Errorf("status %d: %s", status, stdout)
	}
}

func TestBuildFailures(t *testing.T) {
	dir := root(t)
	yaml := writeFile(t, "gosv.yaml", "program: /bin/ls\nprot: 80\n", 0o600)
	text := writeFile(t, "x.img", strings.Repeat("no image ", 1000), 0o600)
	out := filepath.Join(t.TempDir(), "x.img")
	buildImage(t, "-o", out, dir, "app")
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	short := writeFile(t, "short.img", string(b[:1<<20]), 0o600)
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"build"}, 125, "build what?"},
		{[]string{"build", "-o", out, dir}, 125, "which program runs"},
		{[]string{"build", "-o", out, dir, "nothing"}, 127, "no such program in the image's PATH"},
		{[]string{"build", "-o", out, dir, "/etc/passwd/x"}, 127, "not found"},
		{[]string{"build", "-o", out, "-u", "nobody", dir, "app"}, 125, "user nobody: not in the image's /etc/passwd"},
		{[]string{"build", "-o", out, "--strict", dir, "app"}, 125, "1 files look like secrets"},
		{[]string{"build", "-o", out, "-e", "HOME", dir, "app"}, 125, "KEY=VALUE"},
		{[]string{"build", "-o", out, "-f", yaml}, 125, `gosv.yaml:2: unknown key "prot"`},
		{[]string{"build", "-o", out, "--cpus", "1000", dir, "app"}, 125, "1 to 255 processors"},
		{[]string{"build", "-o", out, "--expose", "99999", dir, "app"}, 125, "say PORT or PORT/udp"},
		{[]string{"run", "--accel", "tcg", yaml}, 126, "gosv build -f"},
		{[]string{"build", "-o", out, "no-such-program"}, 127, "no such program"},
		{[]string{"build", "-o", "/no/such/folder/x.img", dir, "app"}, 125, "/no/such/folder"},
		{[]string{"build", "-o", dir, dir, "app"}, 125, "is a folder"},
		{[]string{"build", "-o", out, "--hostname", "a b", dir, "app"}, 125, "no host name"},
		{[]string{"image", "ls", text}, 125, "neither an image"},
		{[]string{"image", "ls", short}, 125, "truncated"},
		{[]string{"image", "ls", "/no/image"}, 125, "/no/image"},
		{[]string{"image", "ls", out, "/nothing"}, 125, "/nothing"},
		{[]string{"image", "extract", out, dir}, 125, "exists"},
	} {
		args := test.args
		if args[0] == "build" {
			args = append([]string{"build", "--kernel", kernelFile(t)}, args[1:]...)
		}
		if status, _, stderr := gosv(t, "", args...); status != test.status || !strings.Contains(stderr, test.want) {
			t.Errorf("%v: status %d, want %d with %q:\n%s", test.args, status, test.status, test.want, stderr)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".*")); len(left) > 0 {
		t.Errorf("%v were left behind", left)
	}
}

// A file that was changed and has its size and its time as before is packed anew: tools that build reproducibly give all files one time.
func TestTreeKeySeesChanges(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "app")
	key := func() string {
		tree := rootfs.New(rootfs.Options{Owners: true})
		if err := tree.Copy(dir, "/"); err != nil {
			t.Fatal(err)
		}
		h, err := treeKey(tree, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		return string(h.Sum(nil))
	}
	write := func(text string) {
		then := time.Unix(1, 0)
		if err := errors.Join(os.WriteFile(name, []byte(text), 0o755), os.Chtimes(name, then, then), os.Chtimes(dir, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	before := key()
	if key() != before {
		t.Error("the key of an unchanged folder is another")
	}
	for began := time.Now(); key() == before; { // the kernel's clock for files is coarse
		if write("two"); time.Since(began) > 10*time.Second {
			t.Fatal("the key of another file is the same")
		}
	}
}
