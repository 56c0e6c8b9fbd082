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

// A Disk is a file or block device of the host that the machine has as a disk, in the order of Config.Disks: /dev/vda, /dev/vdb, …
type Disk struct {
	Path     string // absolute
	Format   string // a Format constant
	ReadOnly bool
}

// Formats of disks.
const (
	FormatRaw   = "raw"
	FormatQcow2 = "qcow2"
)

// ParseDisk reads FILE[,ro][,format=raw|qcow2]. Without a format the name decides: .qcow2, else raw. The contents do
// not, since a guest may write there what it likes.
func ParseDisk(s string) (Disk, error) {
	file, options, _ := strings.Cut(s, ",")
	if file == "" {
		return Disk{}, fmt.Errorf("--disk %q: say FILE[,ro][,format=raw|qcow2]", s)
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
		default:
			return d, fmt.Errorf("--disk %s: unknown option %q: ro, format=raw and format=qcow2 are known", file, o)
		}
	}
	st, err := os.Stat(file)
	switch {
	case err != nil:
		return d, fmt.Errorf("--disk: %w", err)
	case st.IsDir():
		return d, fmt.Errorf("--disk %s: is a directory; --volume takes those", file)
	}
	d.Path, err = filepath.Abs(file)
	return d, err
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
