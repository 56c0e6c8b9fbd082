// Package machine boots cmd/machinetest in virtual machines: the promises of
// package machine, checked where they hold.
package machine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// build links the test kernel and makes it bootable.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	linked, image := filepath.Join(dir, "machinetest"), filepath.Join(dir, "machinetest.elf")
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	run("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-T -2145382400 -E gosv/machine/floor.boot64 -funcalign=4 -s -w", "-o", linked, "gosv/cmd/machinetest")
	run("go", "run", "gosv/cmd/mkkernel", linked, image)
	return image
}

func TestMachine(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatal("QEMU is missing: run scripts/setup")
	}
	image := build(t)
	for _, c := range []struct {
		machine, memory, cpu string
		cpus                 int
	}{
		{"microvm,acpi=off", "128", "max,-la57", 1},
		{"microvm,acpi=off", "128", "max,-la57", 2},
		{"microvm", "64", "max,-la57", 4},
		{"q35", "512", "max,-la57", 4},
		{"pc", "256", "max,-la57", 8},
		{"pc", "64", "qemu64", 2},   // no XSAVE, SMAP, FSGSBASE
		{"q35", "96", "Nehalem", 1}, // no AVX
		{"q35", "4G", "max,-la57", 2},
	} {
		t.Run(fmt.Sprintf("%s-%s-%dcpu", strings.ReplaceAll(c.machine, ",acpi=off", "-noacpi"), c.cpu, c.cpus), func(t *testing.T) {
			code, out, err := boot(image, c.machine, c.memory, c.cpu, c.cpus)
			if code != 1 || !strings.Contains(out, "\nPASS") {
				t.Errorf("exit code %d, %v\n%s", code, err, out)
			}
		})
	}
}

// boot runs the image and returns the exit code of QEMU and what came by the serial port.
func boot(image, machine, memory, cpu string, cpus int) (code int, out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-M", machine, "-m", memory, "-cpu", cpu,
		"-smp", fmt.Sprint(cpus), "-kernel", image, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4")
	b, err := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(b), err
}
