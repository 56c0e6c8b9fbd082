package apps

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// diskApps are the checks that run from a disk: all kinds of use of files, and no servers.
var diskApps = []string{"busybox_sh", "bash", "coreutils", "tar_xz", "rsync", "sqlite3", "git", "gcc", "perl_local", "python3_local", "fio"}

// TestDebianOnErofs boots the whole Debian system as an EROFS image on virtio-blk, with a private layer in memory over it, and
// runs checks in it. It needs what TestApps needs, and has to be run after it.
func TestDebianOnErofs(t *testing.T) {
	root := os.Getenv("GOSV_APPS")
	if root == "" {
		t.Skip("GOSV_APPS is not set: make test-apps runs the applications")
	}
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		t.Skip("needs mkfs.erofs")
	}
	kernel := filepath.Join(filepath.Dir(gosvCommand()), "kernel.elf")
	if _, err := os.Stat(kernel); err != nil {
		t.Skip("needs the kernel beside the command")
	}
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("mkfs.erofs", "--quiet", image, root).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), vmLimit)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "microvm,acpi=off", "-accel", "tcg", "-cpu", "max,-la57", "-m", "1024", "-smp", "2", "-nodefaults",
		"-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-global", "virtio-mmio.force-legacy=false", "-kernel", kernel,
		"-drive", "if=none,id=d,format=raw,readonly=on,file="+image, "-device", "virtio-blk-device,drive=d",
		"-append", "root=/dev/vda rootfstype=erofs gosv.overlay=tmpfs /bin/bash -- /apps/run.sh "+strings.Join(diskApps, " "))
	c.Stdout = &out
	start := time.Now()
	_ = c.Run() // the exit status is QEMU's
	t.Logf("%v\n%s", time.Since(start).Round(time.Second), out.String())
	for _, a := range diskApps {
		if !strings.Contains(out.String(), "A "+a+" rc=0") {
			t.Errorf("%s did not pass", a)
		}
	}
}

// gosvCommand is the command under test.
func gosvCommand() string {
	if s := os.Getenv("GOSV"); s != "" {
		return s
	}
	return "../../bin/gosv"
}
