package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const fsDir = "FSCONF_DIR="

// TestFileSystems runs the conformance program and fsx on each writable file system; both pass on Linux's first.
func TestFileSystems(t *testing.T) {
	conf, fsx, mounted := guestPath("fsconf.static"), guestPath("fsx.static"), guestPath("mounted.static")
	check := func(t *testing.T, o outcome, word string) {
		t.Helper()
		if o.status != 0 || !strings.Contains(o.stdout, word) {
			t.Errorf("%v", o)
		}
	}
	t.Run("linux", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root")
		}
		o, err := onLinux(job{program: conf, env: []string{fsDir + t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		check(t, o, "PASSED")
		if o, err = onLinux(job{program: fsx, args: []string{filepath.Join(t.TempDir(), "x"), "5000"}}); err != nil {
			t.Fatal(err)
		}
		check(t, o, "the same")
	})
	mounts := map[string][]string{
		"tmpfs":   {"tmpfs", "x", "size=64m", "/m"},
		"overlay": {"overlay", "x", "lowerdir=/etc:/lower,upperdir=/up,workdir=/work", "/m", "/lower", "/up", "/work"},
	}
	for name, m := range mounts {
		for i, program := range []string{conf, fsx} {
			args := append(append([]string{}, m...), "--", program)
			word := "PASSED"
			if i == 1 {
				args = append(args, "/m/x", "3000", strconv.Itoa(len(name)))
				word = "the same"
			}
			t.Run(name+"/"+filepath.Base(program), func(t *testing.T) {
				t.Parallel()
				o := run(t, job{program: mounted, args: args, env: []string{fsDir + "/m"}, flags: []string{"-v", program + ":" + program}, limit: 2 * time.Minute}, small)
				check(t, o, word)
			})
		}
	}
}

// TestErofsRoot boots with an initial RAM disk that is an EROFS image, and a private layer over it; the image's own run file
// says what to run.
func TestErofsRoot(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		t.Skip("needs mkfs.erofs")
	}
	dir := t.TempDir()
	root, image := filepath.Join(dir, "root"), filepath.Join(dir, "image")
	conf, err := os.ReadFile(guestPath("fsconf.static"))
	if err != nil {
		t.Fatal(err)
	}
	run := "exe=/bin/fsconf\x00overlay=tmpfs\x00env=FSCONF_DIR=/lower\x00"
	for name, b := range map[string][]byte{"bin/fsconf": conf, ".gosv/run": []byte(run), "lower/file": nil} {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.erofs", "--quiet", "-zlz4hc", image, root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out := bootImage(t, image, "gosv.verbose")
	if !strings.Contains(out, "PASSED") {
		t.Errorf("%s", shorten(out))
	}
}

// bootImage starts the kernel with an initial RAM disk, and returns what comes out of the serial port.
func bootImage(t *testing.T, initrd, line string) string {
	t.Helper()
	slots <- struct{}{}
	defer func() { <-slots }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	kernel := filepath.Join(filepath.Dir(gosv), "kernel.elf")
	if _, err := os.Stat(kernel); err != nil {
		t.Skip("needs the kernel beside the command")
	}
	c := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "microvm,acpi=off", "-accel", "tcg", "-cpu", "max,-la57", "-m", "256", "-nodefaults",
		"-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append", line)
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("hangs\n%s", shorten(string(out)))
	}
	if err != nil {
		t.Logf("%v", err)
	}
	return string(out)
}
