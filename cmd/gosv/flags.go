package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gosv/vmm"
)

// runOptions are the flags of gosv run.
type runOptions struct {
	memory    string
	balloon   string
	cpus      int
	env       []string
	dir       string
	volumes   []string
	disks     []string
	virtiofsd string // of shared folders, "" for none
	rootDir   string
	root      *hostRoot // with --root
	folders   folders   // that are shared
	accel     string
	machine   string
	hostname  string
	strace    bool
	verbose   bool
	timeout   time.Duration
	boot      time.Duration
	kernel    string
	dryRun    bool
	qemuArgs  []string
	net       netOptions
	network   *network
	vsock     uint32 // the machine's number, 0 without AF_VSOCK to the host
	user      string
	readOnly  bool
	missing   bool     // --missing-files
	signal    string   // that asks the program to end
	ports     []string // that the program serves, PORT/PROTOCOL

	tag     string
	verity  string                 // root hash
	changed func(flag string) bool // says whether a flag was given
	onDisk  bool                   // the root is an image, a folder or an archive

	background bool // --detach
	name       string
	remove     bool // --rm

	interactive bool
	tty         bool
	terminal    *terminal // of this process, with --tty
}

const runHelp = `Run a program or an image in a new virtual machine. WHAT is one of

  a program       of this machine; the root file system holds it, the shared
                  libraries that its ELF headers name, a few files in /etc, and
                  what --volume adds, all in memory
  a disk image    made by gosv build; ARGS take the place of its arguments
  a folder        that is the root file system; ARGS begin with the program in it
  an OCI layout, or a tar archive of one, or of docker save; ARGS as for an image

With --root, ARGS begin with a program in a directory of this machine, which is
the root file system. What is written to the root file system is gone afterwards.

Standard input, output and error are connected, signals are passed on, and a
second Ctrl-C within two seconds stops the machine. With -it the program gets a
terminal instead, and every key, Ctrl-C too, is its own.

Exit status: the program's own, or 128 plus the number of the signal that ended
it; 124 when --timeout was reached; 125 when gosv, the virtual machine or the
kernel failed; 126 when the program cannot be executed; 127 when it was not found.`

const runExamples = `  gosv run ls -l /
  gosv run -m 256M --cpus 2 -e LANG=C ./myprogram --its-own-flag
  gosv run -v ./config.json:/etc/app/config.json ./app
  gosv run -v ./data:/data:ro ./app
  gosv run -P -v dbdata:/var/lib/db db.tar
  gosv run --root / python3 script.py
  gosv run -it --root / bash
  gosv run --strace -- /bin/true
  gosv run nginx.img
  gosv run ./rootfs /bin/sh -c 'echo hello'`

func newRun(std streams) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:                   "run [FLAGS] WHAT [ARGS…]",
		Short:                 "Run a program or an image in a new virtual machine",
		DisableFlagsInUseLine: true,
		Long:                  runHelp,
		Example:               runExamples,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("which program? Say `gosv run PROGRAM [ARGS…]`, for example `gosv run ls -l /`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.changed = cmd.Flags().Changed
			return runProgram(cmd.Context(), &o, args, std)
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

func (o *runOptions) flags(f *pflag.FlagSet) {
	f.SetInterspersed(false) // flags after PROGRAM are the program's
	f.SortFlags = false
	f.BoolVarP(&o.interactive, "interactive", "i", false, "pass standard input on (without --tty that is always so)")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the program a terminal")
	f.BoolVarP(&o.background, "detach", "d", false, "run in the background and print the machine's ID; see ps, logs, exec, stop")
	f.StringVar(&o.name, "name", "", "name of the machine for the other commands; it is kept after its end, for logs and inspect")
	f.BoolVar(&o.remove, "rm", false, "forget the machine when it has ended (without --detach and --name that is always so)")
	f.StringVarP(&o.memory, "memory", "m", "128M", "memory of the machine, with unit K, M or G")
	f.StringVar(&o.balloon, "balloon", "auto", "`auto|on|off`: give memory that the machine does not use any more back to this one; auto from 256M on")
	f.IntVar(&o.cpus, "cpus", 1, "processors of the machine")
	f.StringArrayVarP(&o.env, "env", "e", nil, "environment variable `KEY=VALUE`; KEY alone takes this environment's value")
	f.StringVarP(&o.dir, "workdir", "w", "/", "working directory of the program, made when missing")
	f.StringArrayVar(&o.disks, "disk", nil, "give the machine a disk, /dev/vda and so on: `FILE[,ro][,format=raw|qcow2][,bus=virtio|nvme|pmem]`")
	o.net.flags(f)
	f.Uint32Var(&o.vsock, "vsock", 0, "join the machine to this one by AF_VSOCK, under the number `CID`, 3 or more")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "share a directory, or copy a file in: `HOST:GUEST[:ro]`; NAME:GUEST[:ro] is a volume, which is kept")
	f.StringVar(&o.virtiofsd, "virtiofsd", "", "share directories by virtiofsd at `PATH|auto`, not by gosv itself")
	f.StringVar(&o.rootDir, "root", "", "run in `DIR` of this machine, or in all of it (/), which stays as it is: changes live in memory")
	f.StringVar(&o.verity, "verity", "", "run the disk image only when its tree of hashes has this root, `HASH`")
	f.StringVar(&o.tag, "tag", "", "which image of an archive that holds several")
	f.StringVarP(&o.user, "user", "u", "", "run as `USER[:GROUP]`, names in the machine or numbers; root by default")
	f.BoolVar(&o.readOnly, "read-only", false, "the root file system cannot be changed; /tmp and /run can")
	f.BoolVar(&o.missing, "missing-files", false, "at the end, print the files that the program looked for and did not find")
	f.StringVar(&o.hostname, "hostname", "gosv", "host name of the machine")
	f.StringVar(&o.signal, "stop-signal", "", "the `SIGNAL` by which gosv stop asks the program to end; the image's, or TERM, by default")
	f.DurationVar(&o.timeout, "timeout", 0, "stop the machine after this time, for example 10s; 0 for no limit")
	f.StringVar(&o.accel, "accel", "auto", "`auto|kvm|tcg`: how QEMU runs it; auto takes KVM where it really works")
	f.StringVar(&o.machine, "machine", vmm.MachineMicroVM, "`microvm|q35|pc`: QEMU's machine, options may follow a comma")
	f.BoolVar(&o.strace, "strace", false, "show every system call on standard error")
	f.BoolVar(&o.verbose, "verbose", false, "show the kernel's messages on standard error")
	f.StringVar(&o.kernel, "kernel", "", "boot `FILE` instead of the kernel in this command")
	f.DurationVar(&o.boot, "boot-timeout", 30*time.Second, "give up when the program has not started by then; 0 for no limit")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the command line of the virtual machine instead of running it")
	f.StringArrayVar(&o.qemuArgs, "qemu-arg", nil, "further argument `ARG` for QEMU, repeatable")
}
