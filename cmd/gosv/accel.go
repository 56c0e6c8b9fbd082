package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gosv/image/pvh"
	"gosv/vmm"
	"gosv/vmm/qemu"
)

const (
	kvmDevice = "/dev/kvm"
	// probeAnswer is arbitrary, but none of QEMU's own exit statuses.
	probeAnswer = 0x2a
	// refusalAge is how long a failed probe is remembered.
	refusalAge = 24 * time.Hour
)

// chooseAccel returns the accelerator for --accel. It takes KVM for auto only
// where a probe machine has answered, and says so on warn when it does not.
func chooseAccel(ctx context.Context, flag string, monitor *qemu.Monitor, warn io.Writer) (string, error) {
	switch flag {
	case vmm.AccelKVM, vmm.AccelTCG:
		return flag, nil
	case "auto":
	default:
		return "", fmt.Errorf("--accel %q: use auto, kvm or tcg", flag)
	}
	why := kvmFault(ctx, monitor)
	if why == "" {
		return vmm.AccelKVM, nil
	}
	fmt.Fprintf(warn, "gosv: no KVM (%s): QEMU translates instead, which is slower (--accel tcg leaves this line out)\n", why)
	return vmm.AccelTCG, nil
}

// kvmFault says why KVM cannot be used, or nothing when it can.
func kvmFault(ctx context.Context, monitor *qemu.Monitor) string {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	f.Close()
	cache := probeCache(monitor.Path())
	if fault, ok := readProbe(cache); ok {
		return fault
	}
	fault := probeKVM(ctx, monitor)
	writeProbe(cache, fault)
	return fault
}

func probeKVM(ctx context.Context, monitor *qemu.Monitor) string {
	image, err := memoryFile("probe.elf")
	if err != nil {
		return err.Error()
	}
	defer image.Close()
	if _, err := image.Write(pvh.Probe(probeAnswer)); err != nil {
		return err.Error()
	}
	if err := monitor.Probe(ctx, vmm.AccelKVM, image, probeAnswer); err != nil {
		return err.Error()
	}
	return ""
}

// probeCache names the file that remembers a probe of this emulator, on this
// kernel and this processor; "" when there is no place for one.
func probeCache(emulator string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	id := sha256.New()
	if st, err := os.Stat(emulator); err == nil {
		fmt.Fprintln(id, emulator, st.Size(), st.ModTime())
	}
	for _, name := range []string{"/proc/sys/kernel/osrelease", "/proc/sys/kernel/version", "/proc/sys/kernel/random/boot_id"} {
		b, _ := os.ReadFile(name) // what cannot be read is the same next time
		id.Write(b)
	}
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(cpu) {
		if bytes.HasPrefix(line, []byte("model name")) || bytes.HasPrefix(line, []byte("flags")) {
			id.Write(line)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break // the first processor is like the others
		}
	}
	return filepath.Join(dir, "gosv", fmt.Sprintf("kvm-%.16x", id.Sum(nil)))
}

// readProbe returns a remembered fault, "" for none, if one is remembered.
func readProbe(name string) (fault string, ok bool) {
	st, err := os.Stat(name)
	if err != nil {
		return "", false
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", false
	}
	fault = strings.TrimSpace(string(b))
	return fault, fault == "" || time.Since(st.ModTime()) < refusalAge
}

// writeProbe remembers a fault. Nothing depends on it but the time of the next
// start, so errors are ignored.
func writeProbe(name, fault string) {
	if name == "" || os.MkdirAll(filepath.Dir(name), 0o700) != nil {
		return
	}
	_ = os.WriteFile(name, []byte(fault+"\n"), 0o600)
}
