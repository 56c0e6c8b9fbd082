// Package qemu runs virtual machines with QEMU's x86-64 system emulator,
// version 7.2 or later, by KVM or by its own translator (TCG).
//
// The emulator gets everything by inherited file descriptors: kernel,
// initramfs, and one socket for each port. Nothing is left on disk. It runs in
// a session of its own, so that the terminal's signals do not reach it, confined
// by its seccomp filter, and with PR_SET_PDEATHSIG, so that it cannot outlive
// this process.
package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"gosv/vmm"
)

// Program is the emulator's usual name.
const Program = "qemu-system-x86_64"

// ErrNotInstalled is what Find returns when there is no emulator.
var ErrNotInstalled = errors.New(Program + " is not installed: `apt-get install qemu-system-x86` brings it")

// Monitor is a vmm.Monitor that runs the emulator at a path.
type Monitor struct{ path string }

// New returns a Monitor for the emulator at path.
func New(path string) *Monitor { return &Monitor{path: path} }

// Find returns a Monitor for the emulator in PATH.
func Find() (*Monitor, error) {
	path, err := exec.LookPath(Program)
	if err != nil {
		return nil, ErrNotInstalled
	}
	return New(path), nil
}

// Path returns the emulator's path.
func (m *Monitor) Path() string { return m.path }

// CommandLine implements vmm.Monitor.
func (m *Monitor) CommandLine(c vmm.Config, serial string) ([]string, error) {
	// Each stream has a port of its own: the end of standard input closes the
	// port that it came by, in both directions.
	c.Ports = []string{vmm.PortStdin, vmm.PortStdout, vmm.PortStderr}
	devices := map[string]string{
		serialID:       "file,id=%s,path=" + strings.ReplaceAll(escape(serial), "%", "%%"),
		vmm.PortStdin:  "stdio,id=%s",
		vmm.PortStdout: "file,id=%s,append=on,path=/dev/stdout",
		vmm.PortStderr: "file,id=%s,append=on,path=/dev/stderr",
	}
	args, err := arguments(c, c.Kernel.Name(), c.Initrd.Name(), func(id string) string {
		if devices[id] == "" { // a share, whose server is started by hand
			return fmt.Sprintf("socket,id=%s,path=%s", id, escape(filepath.Join(filepath.Dir(serial), id+".sock")))
		}
		return fmt.Sprintf(devices[id], id)
	}, func() []int {
		numbers := []int{firstFile}
		for i := range c.Net.Queues {
			numbers = append(numbers, firstFile+1+i)
		}
		return numbers
	})
	if err != nil {
		return nil, err
	}
	return slices.Concat([]string{m.path}, args, c.Extra), nil
}

const (
	// sandbox keeps the emulator from starting programs or gaining privileges.
	sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

	// cpuTCG leaves out the string-move hints that make TCG copy byte by byte,
	// and five-level paging, which the kernel does not use.
	cpuTCG = "max,-erms,-fsrm,-la57"

	// debugExit ends the emulator with status v<<1|1 when the guest writes v.
	debugExit = "isa-debug-exit,iobase=0xf4,iosize=4"

	serialID = "serial"
)

// arguments returns the arguments for a machine, Config.Extra left out. The
// character device behind each port, and behind the serial port (serialID), is
// what chardev says; netFiles is called for the numbers of the network's files.
func arguments(c vmm.Config, kernel, initrd string, chardev func(id string) string, netFiles func() []int) ([]string, error) {
	machine, bus, err := machineOption(c.Machine)
	if err != nil {
		return nil, err
	}
	cpu := cpuTCG
	switch c.Accel {
	case vmm.AccelKVM:
		cpu = "max"
	case vmm.AccelTCG:
	default:
		return nil, fmt.Errorf("%q is no accelerator: use %s or %s", c.Accel, vmm.AccelKVM, vmm.AccelTCG)
	}
	if err := checkPlaces(c, bus); err != nil {
		return nil, err
	}
	backend, memory := sharedMemory(c)
	args := []string{
		"-M", machine + backend, "-accel", c.Accel, "-cpu", cpu, "-m", memoryOption(c.Memory) + memoryRoom(c), "-smp", fmt.Sprint(c.CPUs),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", sandbox,
		"-device", debugExit, "-kernel", kernel,
		"-global", "virtio-mmio.force-legacy=false", // QEMU's default for MMIO is virtio 0.9
	}
	args = append(args, memory...)
	if initrd != "" {
		args = append(args, "-initrd", initrd)
	}
	if c.Cmdline != "" {
		args = append(args, "-append", c.Cmdline)
	}
	for i, d := range c.Disks {
		words, err := diskArguments(i, d, bus)
		if err != nil {
			return nil, err
		}
		args = append(args, words...)
	}
	args = append(args, "-chardev", chardev(serialID), "-serial", "chardev:"+serialID)
	if len(c.Ports) > 0 {
		// Port 0 is for a console in the old sense, so one more than is used.
		args = append(args, "-device", fmt.Sprintf("%s,max_ports=%d", virtioDevice("virtio-serial", bus), len(c.Ports)+1))
	}
	for _, port := range c.Ports {
		args = append(args, "-chardev", chardev(port), "-device", fmt.Sprintf("virtserialport,chardev=%s,name=%s", port, port))
	}
	for i, s := range c.Shares {
		words, err := shareArguments(i, s, bus, chardev(shareID(i)))
		if err != nil {
			return nil, err
		}
		args = append(args, words...)
	}
	if c.Vsock != 0 {
		args = append(args, "-device", fmt.Sprintf("%s,guest-cid=%d", virtioDevice("vhost-vsock", bus), c.Vsock))
	}
	args = append(args, balloonArguments(c, bus)...)
	network, err := netArguments(c.Net, bus == busPCI, netFiles)
	return append(args, network...), err
}

// diskArguments returns the arguments for disk i: a raw image stays sparse where the guest discards, and the emulator locks the
// file against others.
func diskArguments(i int, d vmm.Disk, bus string) ([]string, error) {
	if d.Format != vmm.FormatRaw && d.Format != vmm.FormatQcow2 {
		return nil, fmt.Errorf("%q is no format of disks", d.Format)
	}
	id := fmt.Sprintf("disk%d", i)
	device := virtioDevice("virtio-blk", bus)
	switch d.Bus {
	case "", vmm.BusVirtio:
	case vmm.BusNVMe, vmm.BusPmem:
		if bus != busPCI {
			return nil, fmt.Errorf("%s has no place for disks of the bus %s: use --machine %s", vmm.MachineMicroVM, d.Bus, vmm.MachineQ35)
		}
		if d.Bus == vmm.BusPmem {
			return pmemArguments(id, d)
		}
		device = "nvme"
	default:
		return nil, fmt.Errorf("%q is no bus of disks", d.Bus)
	}
	driver := "file"
	if st, err := os.Stat(d.Path); err == nil && st.Mode()&os.ModeDevice != 0 {
		driver = "host_device"
	}
	readOnly := "off"
	if d.ReadOnly {
		readOnly = "on"
	}
	return []string{
		"-blockdev", fmt.Sprintf("driver=%s,node-name=%s,read-only=%s,discard=unmap,file.driver=%s,file.filename=%s",
			d.Format, id, readOnly, driver, escape(d.Path)),
		"-device", fmt.Sprintf("%s,drive=%s,serial=%s", device, id, id),
	}, nil
}

// pmemArguments returns the arguments for a disk that is memory.
func pmemArguments(id string, d vmm.Disk) ([]string, error) {
	st, err := os.Stat(d.Path)
	if err != nil {
		return nil, err
	}
	return []string{
		"-object", fmt.Sprintf("memory-backend-file,id=%s,mem-path=%s,size=%d,share=on", id, escape(d.Path), st.Size()),
		"-device", fmt.Sprintf("virtio-pmem-pci,memdev=%s,disable-legacy=on", id),
	}, nil
}

// memoryRoom returns what is added to the value of -m for disks that are memory: address space for each, aligned as the
// emulator does, to 1 GiB.
func memoryRoom(c vmm.Config) string {
	const gib = 1 << 30
	n, room := 0, (c.Memory+gib-1)/gib
	for _, d := range c.Disks {
		if st, err := os.Stat(d.Path); err == nil && d.Bus == vmm.BusPmem {
			n++
			room += st.Size()/gib + 2
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(",slots=%d,maxmem=%dG", n, room)
}

// virtioDevice is the name of a virtio device on a bus, as machineOption returns it.
func virtioDevice(name, bus string) string {
	if bus == busPCI {
		return name + "-pci,disable-legacy=on"
	}
	return name + "-device"
}

// Ways to virtio devices.
const (
	busMMIO = "mmio"
	busPCI  = "pci"
)

// machineOption returns the value of -M and the way to virtio devices.
func machineOption(s string) (machine, bus string, err error) {
	name, _, hasOptions := strings.Cut(s, ",")
	switch name {
	case vmm.MachineMicroVM:
		if !hasOptions {
			s += ",acpi=off"
		}
		return s, busMMIO, nil
	case vmm.MachineQ35, vmm.MachinePC:
		return s, busPCI, nil
	}
	return "", "", fmt.Errorf("%q is no machine: use %s, %s or %s", s, vmm.MachineMicroVM, vmm.MachineQ35, vmm.MachinePC)
}

// CheckMachine says what is wrong with s as vmm.Config's Machine.
func CheckMachine(s string) error {
	_, _, err := machineOption(s)
	return err
}

func memoryOption(bytes int64) string {
	if bytes%(1<<20) == 0 {
		return fmt.Sprintf("%dM", bytes>>20)
	}
	return fmt.Sprintf("%dK", bytes>>10)
}

// escape makes s a value in a comma-separated option.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
