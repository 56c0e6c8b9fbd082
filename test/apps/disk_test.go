package apps

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// diskApps are the checks that run from a disk unless GOSV_APPS_DISK names others: all kinds of use of files, and two servers.
var diskApps = []string{"busybox_sh", "bash", "coreutils", "tar_xz", "sqlite3", "sqlite3_load", "git", "git_load", "gcc", "perl_local", "python3_local", "fio", "fio_verify", "redis", "nginx"}

// A diskRoot is a way to boot the Debian system from a disk.
type diskRoot struct {
	name   string
	make   func(t *testing.T, image, root string)
	boot   string                       // the kernel's words
	after  func(image string) *exec.Cmd // checks the image that a machine has written; nil: it is read-only
	memory string
}

var diskRoots = []diskRoot{
	{name: "erofs", boot: "root=/dev/vda rootfstype=erofs gosv.overlay=tmpfs", memory: "1536", make: func(t *testing.T, image, root string) {
		tool(t, "mkfs.erofs", "--quiet", image, root)
	}},
	{name: "ext4", boot: "root=/dev/vda rootfstype=ext4 rw", memory: "1024", make: func(t *testing.T, image, root string) {
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 6<<30); err != nil {
			t.Fatal(err)
		}
		tool(t, "mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, image)
	}, after: func(image string) *exec.Cmd { return exec.Command("e2fsck", "-fn", image) }},
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip("needs " + name)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// TestAppsOnDisk boots the whole Debian system from virtio-blk, as EROFS with a private layer in memory over it and as ext4,
// and runs checks in it; e2fsck then finds nothing to mend on ext4. It needs what TestApps needs, and runs after it.
func TestAppsOnDisk(t *testing.T) {
	d := debianSystem(t)
	kernel := filepath.Join(filepath.Dir(gosvCommand()), "kernel.elf")
	if _, err := os.Stat(kernel); err != nil {
		t.Skip("needs the kernel beside the command")
	}
	checks := diskChecks(t)
	if err := d.place(map[string]string{"/apps/run.sh": "run.sh"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range diskRoots {
		t.Run(r.name, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "image")
			r.make(t, image, d.dir)
			out := r.run(t, kernel, image, checks)
			for _, a := range checks {
				if !strings.Contains(out, "A "+a+" rc=0") {
					t.Errorf("%s did not pass", a)
				}
			}
			if r.after == nil {
				return
			}
			if out, err := r.after(image).CombinedOutput(); err != nil {
				t.Errorf("the file system afterwards: %v\n%s", err, out)
			}
		})
	}
}

// diskChecks are the names in GOSV_APPS_DISK, where "all" stands for what apps.txt expects to pass.
func diskChecks(t *testing.T) []string {
	names := strings.Fields(os.Getenv("GOSV_APPS_DISK"))
	if len(names) == 0 {
		return diskApps
	}
	if names[0] != "all" {
		return names
	}
	apps, err := list()
	if err != nil {
		t.Fatal(err)
	}
	names = nil
	for _, a := range apps {
		if a.needs == "-" {
			names = append(names, a.name)
		}
	}
	return names
}

// run returns what the checks in a machine with the disk printed.
func (r *diskRoot) run(t *testing.T, kernel, image string, checks []string) string {
	limit := vmLimit
	if len(checks) > len(diskApps) {
		limit = 2 * time.Hour
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cpus := 2
	if n, err := strconv.Atoi(os.Getenv("GOSV_APPS_CPUS")); err == nil {
		cpus = n
	}
	drive := "if=none,id=d,format=raw,file=" + image
	if r.after == nil {
		drive += ",readonly=on"
	}
	var out bytes.Buffer
	c := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "microvm,acpi=off", "-accel", "tcg", "-cpu", "max,-la57", "-m", r.memory, "-smp", strconv.Itoa(cpus),
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-global", "virtio-mmio.force-legacy=false", "-kernel", kernel,
		"-drive", drive, "-device", "virtio-blk-device,drive=d", "-append", r.boot+" /bin/bash -- /apps/run.sh -k "+strings.Join(checks, " "))
	c.Stdout = &out
	start := time.Now()
	_ = c.Run() // the exit status is QEMU's
	t.Logf("%v\n%s", time.Since(start).Round(time.Second), out.String())
	return out.String()
}

// gosvCommand is the command under test.
func gosvCommand() string {
	if s := os.Getenv("GOSV"); s != "" {
		return s
	}
	return "../../bin/gosv"
}
