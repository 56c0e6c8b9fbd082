// Package vmm starts a virtual machine and connects it to the process that
// started it: streams, signals and the exit status of the one program in it.
//
// What runs the machine stands behind the interface Monitor; package vmm/qemu
// is one. Monitor and VM know nothing of programs; Session does, and speaks the
// control protocol with the kernel in the machine.
//
// Everything that comes out of a machine is foreign: lines are bounded, text
// for the user loses its control characters, and nothing a guest sends makes
// the host wait without end.
package vmm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Names of the ports between host and guest.
const (
	PortStdin   = "gosv.stdin"   // host to guest; half-closed by the host at end of file
	PortStdout  = "gosv.stdout"  // guest to host
	PortStderr  = "gosv.stderr"  // guest to host
	PortLog     = "gosv.log"     // guest to host: messages of the kernel
	PortTTY     = "gosv.tty"     // both ways: a terminal, in place of the three streams
	PortControl = "gosv.control" // both ways: lines of the control protocol
)

// Kinds of machine and ways to run one.
const (
	MachineMicroVM = "microvm"
	MachineQ35     = "q35"
	MachinePC      = "pc"

	AccelKVM = "kvm"
	AccelTCG = "tcg"
)

// Config describes a machine.
type Config struct {
	Kernel  *os.File // PVH image
	Initrd  *os.File // initramfs
	Cmdline string   // kernel command line
	Memory  int64    // bytes
	CPUs    int
	Machine string   // a Machine constant, optionally followed by comma-separated options of the monitor
	Accel   string   // an Accel constant
	Ports   []string // connected by Start
	Disks   []Disk
	Net     Net      // the network device
	Vsock   uint32   // context ID of the machine for AF_VSOCK (vsock(7)), by the host's vhost; 0: none
	Shares  []Share  // folders of the host
	Balloon Balloon  // whether the machine gives memory back
	Extra   []string // further arguments for the monitor, as they are
}

// Balloon says whether the machine has a device by which it gives memory back that it does not use.
type Balloon int

// Balloons.
const (
	BalloonNone Balloon = iota
	BalloonFits         // if the machine has a place for it
	BalloonMust
)

// A Disk is a file or block device of the host that the machine has as a disk, in the order of Config.Disks for each bus: /dev/vda, /dev/vdb, …
type Disk struct {
	Path     string // absolute
	Format   string // a Format constant
	ReadOnly bool
	Bus      string // a Bus constant; empty: BusVirtio
}

// Buses of disks, and the names of their first in the machine.
const (
	BusVirtio = "virtio" // /dev/vda
	BusNVMe   = "nvme"   // /dev/nvme0n1
	BusPmem   = "pmem"   // /dev/pmem0: memory of the machine that is the file, whole pages, raw and never read-only
)

// Formats of disks.
const (
	FormatRaw   = "raw"
	FormatQcow2 = "qcow2"
)

// ParseDisk reads FILE[,ro][,format=raw|qcow2][,bus=virtio|nvme|pmem]. Without a format the name decides: .qcow2, else raw. The contents do
// not, since a guest may write there what it likes.
func ParseDisk(s string) (Disk, error) {
	file, options, _ := strings.Cut(s, ",")
	if file == "" {
		return Disk{}, fmt.Errorf("--disk %q: say FILE[,ro][,format=raw|qcow2][,bus=virtio|nvme|pmem]", s)
	}
	d := Disk{Format: FormatRaw}
	if strings.HasSuffix(file, "."+FormatQcow2) {
		d.Format = FormatQcow2
	}
	for _, o := range strings.Split(options, ",") {
		switch o {
		case "":
		case "ro":
			d.ReadOnly = true
		case "format=" + FormatRaw, "format=" + FormatQcow2:
			d.Format = strings.TrimPrefix(o, "format=")
		case "bus=" + BusVirtio, "bus=" + BusNVMe, "bus=" + BusPmem:
			d.Bus = strings.TrimPrefix(o, "bus=")
		default:
			return d, fmt.Errorf("--disk %s: unknown option %q: ro, format=raw, format=qcow2, bus=virtio, bus=nvme and bus=pmem are known", file, o)
		}
	}
	st, err := os.Stat(file)
	switch {
	case err != nil:
		return d, fmt.Errorf("--disk: %w", err)
	case st.IsDir():
		return d, fmt.Errorf("--disk %s: is a directory; --volume takes those", file)
	}
	if d.Bus == BusPmem {
		if err := d.checkPmem(st); err != nil {
			return d, fmt.Errorf("--disk %s: %w", file, err)
		}
	}
	d.Path, err = filepath.Abs(file)
	return d, err
}

// pmemUnit is what the size of a file that is memory must be a multiple of.
const pmemUnit = 4096

// checkPmem refuses what cannot be memory of a machine.
func (d *Disk) checkPmem(st os.FileInfo) error {
	switch {
	case d.ReadOnly:
		return errors.New("bus=pmem cannot tell the machine that it must not write: leave ro out")
	case d.Format != FormatRaw:
		return errors.New("bus=pmem is for raw images")
	case !st.Mode().IsRegular():
		return errors.New("bus=pmem is for files")
	case st.Size() == 0 || st.Size()%pmemUnit != 0:
		return fmt.Errorf("bus=pmem is for files of whole pages of %d bytes: `truncate -s %%%[1]d` makes it one", pmemUnit)
	}
	return nil
}

// Monitor runs machines.
type Monitor interface {
	// Start starts a machine. The machine ends when the calling process does,
	// however that comes about.
	Start(Config) (VM, error)
	// CommandLine returns arguments that run the same machine by hand, with the
	// streams of the program on those of the monitor, the kernel and the
	// initramfs under the names of their files, and what comes by the serial
	// port in a file.
	CommandLine(c Config, serial string) ([]string, error)
}

// VM is a machine that was started.
type VM interface {
	// Port returns the host's end of a port in Config.Ports.
	Port(name string) *net.UnixConn
	// Serial returns the host's end of the serial port.
	Serial() *net.UnixConn
	// PID is the process of the monitor.
	PID() int
	// Done is closed when the machine has ended; only then may Exit be called.
	Done() <-chan struct{}
	// Exit says how the machine ended.
	Exit() Exit
	// Kill ends the machine at once. It may be called at any time.
	Kill()
}

// Exit is how a monitor ended.
type Exit struct {
	Status   int    // exit status of the monitor's process; −1 when a signal ended it
	Signal   string // name of that signal
	Messages string // what the monitor said on its standard error, cut to its end
}

func (e Exit) String() string {
	if e.Signal != "" {
		return "ended by signal: " + e.Signal
	}
	return fmt.Sprintf("ended with status %d", e.Status)
}
