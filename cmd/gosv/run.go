package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"gosv/image/elfdeps"
	"gosv/image/pvh"
	"gosv/image/rootfs"
	"gosv/image/spec"
	"gosv/vmm"
	"gosv/vmm/qemu"
	"gosv/vmm/registry"
)

// runProgram makes the image, starts the machine and serves it.
func runProgram(ctx context.Context, o *runOptions, args []string, std streams) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.background && !inBackground() && !o.dryRun {
		return startBackground(std)
	}
	root, err := o.openRoot(args, std.err)
	if err != nil {
		return err
	}
	memory, err := o.size() // an image may have said it
	if err != nil {
		return err
	}
	kernel, info, err := openKernel(o.kernel)
	if err != nil {
		return err
	}
	defer kernel.Close()
	defer o.disconnect()
	if err := o.connect(root, std); err != nil {
		return err
	}
	initrd, rootDisk, err := pack(o, root, args, std.err)
	if err != nil {
		return err
	}
	defer initrd.Close()
	if err := checkMemory(memory, info, initrd); err != nil {
		return err
	}
	monitor, err := qemu.Find()
	if err != nil {
		return err
	}
	config := vmm.Config{Kernel: kernel, Initrd: initrd, Memory: memory, CPUs: o.cpus, Machine: o.machine, Extra: o.qemuArgs}
	if err := o.devices(&config, rootDisk); err != nil {
		return err
	}
	accel := accelerator{monitor: monitor, emulator: monitor.Path(), kernel: kernel, kernelFile: o.kernel, warn: std.err, patience: probeTime}
	if o.kernel == "" {
		accel.kernelFile, _ = os.Executable() // holds the kernel
	}
	if config.Accel, err = accel.choose(ctx, o.accel); err != nil {
		return err
	}
	if o.dryRun {
		config.Shares = o.folders.named()
		return dryRun(monitor, config, o.folders, std)
	}
	return serve(ctx, o, args, monitor, config, std)
}

// openRoot opens the root file system that args and flags name; nil when it is to be made of a program's files, or of a directory.
func (o *runOptions) openRoot(args []string, warn io.Writer) (root *rootSource, err error) {
	if o.rootDir != "" {
		o.root, err = openHostRoot(o.rootDir)
	} else {
		root, err = openRoot(o, args, warn)
	}
	o.onDisk = root != nil
	return root, err
}

// connect prepares what leads from the machine to this host: terminal, network and shared folders. disconnect ends it, also when it failed.
func (o *runOptions) connect(root *rootSource, std streams) (err error) {
	if o.tty {
		if o.terminal, err = openTerminal(o.interactive, std); err != nil {
			return err
		}
	}
	if err := o.service(root); err != nil {
		return err
	}
	if o.network, err = o.net.open(o.cpus); err != nil {
		return err
	}
	o.network.guest.Named = o.changed != nil && o.changed("hostname")
	o.net.tellPorts(o.network, std.err)
	folders, err := o.shares(root)
	if err != nil {
		return err
	}
	o.folders = folders
	if o.virtiofsd != "" {
		o.virtiofsd, err = findVirtiofsd(o.virtiofsd)
	}
	return err
}

func (o *runOptions) disconnect() {
	o.folders.leave()
	if o.network != nil {
		o.network.close()
	}
}

// devices adds the machine's devices to config; rootDisk is nil when there is none.
func (o *runOptions) devices(config *vmm.Config, rootDisk *vmm.Disk) (err error) {
	config.Net, config.Vsock, config.Ports = o.network.device, o.vsock, vmm.Ports()
	if o.tty {
		config.Ports = vmm.TerminalPorts()
	}
	if config.Balloon, err = o.balloonFor(config.Memory); err != nil {
		return err
	}
	if err := checkVsock(o); err != nil {
		return err
	}
	for _, s := range o.disks {
		d, err := vmm.ParseDisk(s)
		if err != nil {
			return err
		}
		config.Disks = append(config.Disks, d)
	}
	if rootDisk != nil {
		config.Disks = append(config.Disks, *rootDisk)
	}
	return nil
}

// letters is how many disks of --disk are /dev/vda and so on.
func (o *runOptions) letters() (n int) {
	for _, s := range o.disks {
		if d, err := vmm.ParseDisk(s); err == nil && (d.Bus == "" || d.Bus == vmm.BusVirtio) {
			n++
		}
	}
	return n // what cannot be read, devices refuses
}

// service takes what flags and image say of how the program is reached and ended.
func (o *runOptions) service(root *rootSource) (err error) {
	var image []string
	if root != nil {
		image = root.spec.Ports
		if o.signal == "" {
			o.signal = root.spec.StopSignal
		}
	}
	if o.signal != "" {
		if _, err := spec.Signal(o.signal); err != nil {
			return fmt.Errorf("--stop-signal: %w", err)
		}
	}
	if o.hostname != "" {
		if err := spec.Hostname(o.hostname); err != nil {
			return fmt.Errorf("--hostname: %w", err)
		}
	}
	if o.ports, err = o.exposed(image); err == nil && o.net.all {
		o.net.publishAll(o.ports)
	}
	return err
}

// pack returns the archive that the kernel unpacks: with all files of a program, or
// only with what it is told of a root on a disk, which comes behind those of --disk.
func pack(o *runOptions, root *rootSource, args []string, warn io.Writer) (*os.File, *vmm.Disk, error) {
	if root == nil {
		if o.verity != "" {
			return nil, nil, errors.New("--verity is for disk images that were built with it")
		}
		if o.root != nil {
			initrd, err := o.root.pack(o, args)
			return initrd, nil, err
		}
		return packImage(o, args, warn)
	}
	run, err := root.run(o, args[1:], o.letters())
	if err != nil {
		return nil, nil, err
	}
	initrd, err := packRun(run)
	return initrd, &root.disk, err
}

// check finds what is wrong with the flags by themselves, before anything is done.
func (o *runOptions) check() error {
	if _, err := o.size(); err != nil {
		return err
	}
	if o.name != "" {
		if err := registry.CheckName(o.name); err != nil {
			return fmt.Errorf("--name %w", err)
		}
	}
	if err := checkEnv(o.env); err != nil {
		return err
	}
	if err := qemu.CheckMachine(o.machine); err != nil {
		return fmt.Errorf("--machine: %w", err)
	}
	return nil
}

// size returns the memory of the machine in bytes, and checks the processors.
func (o *runOptions) size() (memory int64, err error) {
	if memory, err = parseSize(o.memory); err != nil {
		return 0, err
	}
	if o.cpus < 1 || o.cpus > maxCPUs {
		return 0, fmt.Errorf("--cpus %d: a machine has 1 to %d processors", o.cpus, maxCPUs)
	}
	return memory, nil
}

// balloonLeast is the memory from which on a machine has a balloon unless the user says otherwise: less is hardly worth the device.
const balloonLeast = 256 << 20

func (o *runOptions) balloonFor(memory int64) (vmm.Balloon, error) {
	switch {
	case o.balloon == "on":
		return vmm.BalloonMust, nil
	case o.balloon == "off" || o.balloon == "auto" && memory < balloonLeast:
		return vmm.BalloonNone, nil
	case o.balloon == "auto":
		return vmm.BalloonFits, nil
	}
	return 0, fmt.Errorf("--balloon %q: say auto, on or off", o.balloon)
}

// maxCPUs is a limit against slips of the finger, not one of the kernel.
const maxCPUs = 255

func serve(ctx context.Context, o *runOptions, args []string, monitor vmm.Monitor, config vmm.Config, std streams) error {
	ctx, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	known, err := attend(o, args, config, kill)
	if err != nil {
		return err
	}
	result := runMachine(ctx, o, known, monitor, config, std)
	if known != nil {
		known.ended(result)
	}
	if result.Status == 0 && result.Err == nil {
		return nil
	}
	return &statusError{result.Status, result.Err}
}

// runMachine starts the machine and serves it until its end.
func runMachine(ctx context.Context, o *runOptions, known *attendance, monitor vmm.Monitor, config vmm.Config, std streams) vmm.Result {
	failed := func(err error) vmm.Result { return vmm.Result{Status: vmm.StatusFailed, Err: err} }
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGWINCH, syscall.SIGPIPE)
	defer signal.Stop(signals)
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	var size func() (rows, cols int, ok bool)
	if o.terminal != nil {
		if err := o.terminal.raw(); err != nil {
			return failed(err)
		}
		defer o.terminal.restore()
		std, size = o.terminal.streams(std), o.terminal.size
	}
	shares, err := o.folders.serve(o.virtiofsd)
	if err != nil {
		return failed(err)
	}
	config.Shares = shares
	vm, err := monitor.Start(config)
	if err != nil {
		return failed(err)
	}
	o.folders.release()
	var missing missingFiles
	defer missing.print(std.err)
	session := vmm.Session{Terminal: o.tty, Stdin: std.in, Stdout: std.out, Stderr: std.err, Signals: signals, BootTime: o.boot, WindowSize: size, Missing: missing.add}
	session.Lost = o.folders.lost()
	if o.verbose || o.strace {
		session.Log = std.err
	}
	if known != nil {
		known.connect(&session, vm)
	}
	result := session.Run(ctx, vm)
	if err := o.folders.end(); err != nil {
		fmt.Fprintf(std.err, "gosv: %v\n", err)
	}
	if result.Status == vmm.StatusTimeout && result.Err != nil {
		result.Err = fmt.Errorf("after %v %w", o.timeout, result.Err)
	}
	return result
}

// dryRun writes kernel and root file system to files and prints the command.
func dryRun(monitor vmm.Monitor, config vmm.Config, shared folders, std streams) error {
	dir, err := os.MkdirTemp("", "gosv-dry-run-")
	if err != nil {
		return err
	}
	for _, f := range []struct {
		file **os.File
		name string
	}{{&config.Kernel, "kernel.elf"}, {&config.Initrd, "root.cpio"}} {
		copied, err := copyToFile(*f.file, filepath.Join(dir, f.name))
		if err != nil {
			return err
		}
		defer copied.Close()
		*f.file = copied
	}
	words, err := monitor.CommandLine(config, filepath.Join(dir, "serial.txt"))
	if err != nil {
		return err
	}
	for i, w := range words {
		words[i] = shellQuote(w)
	}
	fmt.Fprintf(std.err, "gosv: the kernel and the root file system are in %s; remove it when you are done.\n"+
		"gosv: QEMU's exit status will be 2n + 1 for the program's n, or 0 where the machine powers off by ACPI.\n", dir)
	for i, f := range shared {
		fmt.Fprintf(std.err, "gosv: start a server of %s before: virtiofsd --socket-path=%s -o source=%s\n", f.tag, filepath.Join(dir, fmt.Sprintf("share%d.sock", i)), shellQuote(f.dir))
	}
	_, err = fmt.Fprintln(std.out, strings.Join(words, " "))
	return err
}

// shellQuote quotes s for a POSIX shell where that is needed.
func shellQuote(s string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
	if s != "" && strings.Trim(s, safe) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// parseSize reads a size like 128M, in bytes.
func parseSize(s string) (int64, error) {
	number, shift := s, 0
	if s != "" {
		if unit := strings.IndexByte("kmg", s[len(s)-1]|0x20); unit >= 0 {
			number, shift = s[:len(s)-1], 10*(unit+1)
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || shift == 0 || n <= 0 || n > 1<<50>>shift {
		return 0, fmt.Errorf("--memory %q: say a number with unit, for example 64M or 2G", s)
	}
	return n << shift, nil
}

// pageTables and heap of the kernel need a little beyond what is loaded.
const leastWorkingMemory = 256 << 10

// checkMemory refuses a machine that could not even hold what it loads.
func checkMemory(memory int64, kernel pvh.Info, initrd *os.File) error {
	st, err := initrd.Stat()
	if err != nil {
		return err
	}
	if need := int64(kernel.Top) + st.Size() + leastWorkingMemory; memory < need {
		return fmt.Errorf("%dK of memory is too little: the kernel and the program's files alone need %dM; raise --memory",
			memory>>10, (need+1<<20-1)>>20)
	}
	return nil
}

// findProgram returns the absolute path of a program as a shell finds it.
func findProgram(name string) (string, error) {
	if !strings.Contains(name, "/") {
		found, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrDot) {
			err = nil
		}
		if err != nil {
			return "", &statusError{vmm.StatusNoFile, fmt.Errorf("%s: no such program in PATH", name)}
		}
		name = found
	}
	return filepath.Abs(name)
}

// imageError gives an error in making the image the exit status of a shell.
func imageError(err error) error {
	switch {
	case errors.Is(err, elfdeps.ErrNotFound), errors.Is(err, elfdeps.ErrMissing):
		return &statusError{vmm.StatusNoFile, err}
	case errors.Is(err, elfdeps.ErrNotExecutable), errors.Is(err, rootfs.ErrTooLong):
		return &statusError{vmm.StatusNotExec, err}
	}
	return err
}
