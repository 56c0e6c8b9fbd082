package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gosv/image/pvh"
	"gosv/internal/fakeqemu"
	"gosv/vmm"
)

const holder = "GOSV_TEST_HOLDER"

func TestMain(m *testing.M) {
	fakeqemu.Main()
	if os.Getenv(holder) != "" {
		holdMachine()
	}
	os.Exit(m.Run())
}

func file(t *testing.T, name string, data []byte) *os.File {
	t.Helper()
	full := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(full, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(full)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func config(t *testing.T) vmm.Config {
	t.Helper()
	return vmm.Config{Kernel: file(t, "kernel.elf", []byte("k")), Initrd: file(t, "root,1.cpio", []byte("i")), Memory: 64 << 20, CPUs: 2,
		Machine: vmm.MachineMicroVM, Accel: vmm.AccelTCG, Ports: vmm.Ports()}
}

func TestCommandLine(t *testing.T) {
	c := config(t)
	c.Extra = []string{"-icount", "shift=0"}
	c.Disks = []vmm.Disk{{Path: "/tmp/d,1", Format: vmm.FormatRaw}, {Path: "/e", Format: vmm.FormatQcow2, ReadOnly: true}}
	words, err := New("/usr/bin/qemu").CommandLine(c, "/tmp/a,b")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(words, " ")
	for _, want := range []string{
		"/usr/bin/qemu -M microvm,acpi=off -accel tcg -cpu max,-erms,-fsrm,-la57 -m 64M -smp 2 -nodefaults -no-user-config -display none -no-reboot ",
		"-kernel " + c.Kernel.Name(), "-initrd " + c.Initrd.Name(), "path=/tmp/a,,b", "name=gosv.stdin", "name=gosv.stderr", "isa-debug-exit,iobase=0xf4,iosize=4",
		"-blockdev driver=raw,node-name=disk0,read-only=off,discard=unmap,file.driver=file,file.filename=/tmp/d,,1 -device virtio-blk-device,drive=disk0,",
		"-blockdev driver=qcow2,node-name=disk1,read-only=on,", "virtio-blk-device,drive=disk1",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	if strings.Contains(line, "gosv.control") || strings.Contains(line, "fd=") {
		t.Errorf("ports of a session in %s", line)
	}
	if !slices.Equal(words[len(words)-2:], c.Extra) {
		t.Errorf("extra arguments are not last: %q", words)
	}
}

func TestShares(t *testing.T) {
	for machine, device := range map[string]string{"microvm": "vhost-user-fs-device,", "q35": "vhost-user-fs-pci,"} {
		c := config(t)
		c.Machine, c.Shares = machine, []vmm.Share{{Tag: "a,b"}}
		words, err := New("q").CommandLine(c, "/tmp/s")
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Join(words, " ")
		for _, want := range []string{
			"memory-backend=mem ", "-object memory-backend-memfd,id=mem,size=64M,share=on ", "socket,id=share0,path=/tmp/share0.sock", device + "chardev=share0,tag=a,,b,",
		} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: no %q in %s", machine, want, line)
			}
		}
		for range 8 {
			c.Shares = append(c.Shares, vmm.Share{Tag: "x"})
		}
		if _, err := New("q").CommandLine(c, "s"); (err == nil) != (machine == "q35") {
			t.Errorf("%s with 9 shares: %v", machine, err)
		}
		c.Shares = []vmm.Share{{Tag: strings.Repeat("x", 37)}}
		if _, err := New("q").CommandLine(c, "s"); err == nil {
			t.Error("a tag of 37 bytes")
		}
	}
}

// TestNetworkOnEachBus: the network device fits the machine.
func TestNetworkOnEachBus(t *testing.T) {
	for machine, device := range map[string]string{"microvm": "virtio-net-device", "q35": "virtio-net-pci", "pc": "virtio-net-pci"} {
		c := config(t)
		c.Machine, c.Net = machine, vmm.Net{Kind: vmm.NetUser}
		words, err := New("q").CommandLine(c, "/tmp/s")
		if line := strings.Join(words, " "); err != nil || !strings.Contains(line, device) {
			t.Errorf("%s: %v, %s", machine, err, line)
		}
	}
}

func TestMachines(t *testing.T) {
	tests := []struct{ machine, accel, want string }{
		{"microvm", "tcg", "-M microvm,acpi=off "}, {"microvm,acpi=on", "tcg", "-M microvm,acpi=on "},
		{"microvm", "tcg", "virtio-serial-device,"}, {"q35", "tcg", "virtio-serial-pci,disable-legacy=on,"},
		{"pc", "kvm", "-cpu max "}, {"pc,acpi=off", "kvm", "-M pc,acpi=off "},
		{"", "tcg", ""}, {"virt", "tcg", ""}, {"pc", "hvf", ""}, {"pc", "", ""},
	}
	for _, test := range tests {
		c := config(t)
		c.Machine, c.Accel = test.machine, test.accel
		words, err := New("q").CommandLine(c, "s")
		if (err != nil) != (test.want == "") || !strings.Contains(strings.Join(words, " "), test.want) {
			t.Errorf("%q by %q: %v, %q", test.machine, test.accel, err, words)
		}
	}
	if got := memoryOption(3<<20 + 512<<10); got != "3584K" {
		t.Errorf("3.5 MiB: %s", got)
	}
}

func TestPortsAndExit(t *testing.T) {
	vm, err := New(fakeqemu.Install(t, fakeqemu.Echo)).Start(config(t))
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Kill()
	text := bytes.Repeat([]byte("\x00\xff\r\n"), 1<<18) // larger than every buffer on the way
	go func() {
		_, _ = vm.Port(vmm.PortStdin).Write(text)
		_ = vm.Port(vmm.PortStdin).CloseWrite()
	}()
	got, err := io.ReadAll(vm.Port(vmm.PortStdout))
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if b, _ := io.ReadAll(vm.Port(vmm.PortControl)); string(b) != "ready\nexit 7\n" {
		t.Errorf("control port: %q", b)
	}
	<-vm.Done()
	if e := vm.Exit(); e.Status != 0 || e.Signal != "" {
		t.Errorf("%+v", e)
	}
	vm.Kill() // after the end it does nothing
}

func TestFailures(t *testing.T) {
	vm, err := New(fakeqemu.Install(t, fakeqemu.Die)).Start(config(t))
	if err != nil {
		t.Fatal(err)
	}
	<-vm.Done()
	if e := vm.Exit(); e.Status != 1 || !strings.Contains(e.Messages, "could not do it") {
		t.Errorf("%+v", e)
	}
	vm, err = New(fakeqemu.Install(t, fakeqemu.Crash)).Start(config(t))
	if err != nil {
		t.Fatal(err)
	}
	<-vm.Done()
	if e := vm.Exit(); e.Signal != "killed" || !strings.Contains(e.String(), "signal") {
		t.Errorf("%+v", e)
	}
	if _, err := New("/nonexistent/qemu").Start(config(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing emulator: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Find(); !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "apt-get install qemu-system-x86") {
		t.Errorf("Find: %v", err)
	}
}

// holdMachine starts a machine, tells its process ID, and waits to be killed.
func holdMachine() {
	null, _ := os.Open(os.DevNull)
	vm, err := New(os.Getenv(holder)).Start(vmm.Config{Kernel: null, Memory: 1 << 20, CPUs: 1, Machine: vmm.MachinePC, Accel: vmm.AccelTCG})
	if err != nil {
		panic(err)
	}
	println(vm.(*machine).cmd.Process.Pid)
	select {}
}

// Even a SIGKILL of this side leaves no emulator behind.
func TestEmulatorDiesWithItsParent(t *testing.T) {
	path := fakeqemu.Install(t, fakeqemu.Hang)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), holder+"="+path)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	line := make([]byte, 32)
	n, _ := out.Read(line)
	for _, c := range strings.TrimSpace(string(line[:n])) {
		pid = pid*10 + int(c-'0')
	}
	if pid <= 1 || syscall.Kill(pid, 0) != nil {
		t.Fatalf("no emulator with process ID %q", line[:n])
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if gone(pid) {
			return
		}
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the emulator lives on")
		}
	}
}

// gone says whether a process has ended; nobody may have waited for it yet.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

// The real emulator takes everything the way it is handed over here.
func TestRealEmulator(t *testing.T) {
	m, err := Find()
	if err != nil {
		t.Skip(err)
	}
	stub := file(t, "stub", pvh.Stub(0x2a))
	for _, name := range []string{"microvm", "microvm,acpi=on", "q35", "pc"} {
		c := config(t)
		c.Kernel, c.Machine = stub, name
		vm, err := m.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-vm.Done():
		case <-time.After(time.Minute):
			vm.Kill()
			<-vm.Done()
		}
		if e := vm.Exit(); e.Status != 0x2a<<1|1 {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// A tap interface with several queues has them all passed on, and the device has pairs of queues.
func TestTapQueues(t *testing.T) {
	for _, test := range []struct {
		files []int
		want  string
	}{
		{[]int{3}, "-netdev tap,id=net0,fd=3,vhost=off -device virtio-net-device,netdev=net0"},
		{[]int{3, 4, 5}, "-netdev tap,id=net0,vhost=off,fds=3:4:5 -device virtio-net-device,netdev=net0,mq=on"},
	} {
		got, err := netArguments(vmm.Net{Kind: vmm.NetTap}, false, func() []int { return test.files })
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%v: %q, %v", test.files, got, err)
		}
	}
}
