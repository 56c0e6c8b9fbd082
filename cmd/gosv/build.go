package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gosv/image/bundle"
	"gosv/image/disk"
	"gosv/image/erofs"
	"gosv/image/rootfs"
	"gosv/image/secrets"
	"gosv/image/spec"
)

// buildOptions are the flags of gosv build.
type buildOptions struct {
	output   string
	recipe   string
	tag      string
	env      []string
	dir      string
	user     string
	hostname string
	memory   string
	cpus     int
	ports    []string
	readOnly bool
	strict   bool
	verity   bool
	compress bool
	kernel   string
}

func newBuild(std streams) *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:                   "build [FLAGS] WHAT [ARGS…]",
		Short:                 "Make a disk image that boots by itself",
		DisableFlagsInUseLine: true,
		Long: `Make a disk image that boots by itself, on BIOS and UEFI machines, and that
gosv run starts. WHAT is one of

  a program       of this machine; its libraries come along
  a folder        that is to be the root file system; ARGS name the program in it
  an image        an OCI layout, or a tar archive of one, or of docker save, also as
                  .gz or .zst;
                  - reads an archive from standard input
  a gosv.yaml     which says all of it

ARGS are arguments that the program gets. Equal inputs give equal images;
SOURCE_DATE_EPOCH is the latest time that files may have in it. Nothing
goes in that was not asked for; files that look like secrets are named.`,
		Example: `  gosv build -o hello.img ./hello
  docker save nginx | gosv build -o nginx.qcow2 -
  gosv build -f gosv.yaml`,
		RunE: func(_ *cobra.Command, args []string) error {
			return build(&o, args, std)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	f.StringVarP(&o.output, "output", "o", "", "write the image to `FILE`, as qcow2 when it ends in .qcow2; WHAT's name with .img by default")
	f.StringVarP(&o.recipe, "file", "f", "", "build what this gosv.yaml says")
	f.StringVar(&o.tag, "tag", "", "which image of an archive that holds several")
	f.StringArrayVarP(&o.env, "env", "e", nil, "environment variable `KEY=VALUE`")
	f.StringVarP(&o.dir, "workdir", "w", "", "working directory of the program")
	f.StringVarP(&o.user, "user", "u", "", "run as `USER[:GROUP]`, names or numbers")
	f.StringVar(&o.hostname, "hostname", "", "host name of the machine")
	f.StringVarP(&o.memory, "memory", "m", "", "memory that gosv run gives it, with unit K, M or G")
	f.IntVar(&o.cpus, "cpus", 0, "processors that gosv run gives it")
	f.StringArrayVar(&o.ports, "expose", nil, "a port that the program serves, `PORT[/udp]`")
	f.BoolVar(&o.readOnly, "read-only", false, "no writable layer over the root; /tmp and /run are in memory")
	f.BoolVar(&o.compress, "compress", false, "compress the root file system with LZ4")
	f.BoolVar(&o.verity, "verity", false, "add a tree of hashes, which the kernel checks each block against, and print its root")
	f.BoolVar(&o.strict, "strict", false, "fail when a file looks like a secret")
	f.StringVar(&o.kernel, "kernel", "", "put the kernel `FILE` in instead of the one in this command")
	return cmd
}

// build makes an image.
func build(o *buildOptions, args []string, std streams) error {
	if o.recipe != "" {
		args = append([]string{o.recipe}, args...)
	}
	if len(args) == 0 {
		return errors.New("build what? Say `gosv build -o app.img ./app`, or see `gosv build --help`")
	}
	kernel, err := kernelBytes(o.kernel)
	if err != nil {
		return err
	}
	what := args[0]
	if what == "-" {
		spooled, err := spool(std.in)
		if err != nil {
			return err
		}
		defer os.Remove(spooled)
		args = append([]string{spooled}, args[1:]...)
		what = "image"
	}
	source, err := o.open(args, std.err)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := o.finish(source); err != nil {
		return imageError(err)
	}
	if err := warnOfSecrets(source.Tree, o.strict, std.err); err != nil {
		return err
	}
	output := o.output
	if output == "" {
		name := filepath.Base(what)
		output = strings.TrimSuffix(name, filepath.Ext(name)) + ".img"
	}
	if info, err := os.Stat(output); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder; the image is a file", output)
	}
	size, hash, err := o.write(output, kernel, source, std.err)
	if err != nil {
		return err
	}
	if hash != "" {
		fmt.Fprintf(std.out, "root hash: %s\n", hash)
	}
	fmt.Fprintf(std.out, "%s: %s; start it with `gosv run %[1]s`\n", output, humanSize(size))
	return nil
}

// spool writes what comes from in to a file of its own and returns its name.
func spool(in io.Reader) (string, error) {
	f, err := os.CreateTemp("", "gosv-stdin-*.tar")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, in)
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// open reads what the image is made of.
func (o *buildOptions) open(args []string, warn io.Writer) (*bundle.Bundle, error) {
	options := bundle.Options{Tag: o.tag, Path: splitList(os.Getenv("PATH")), Warn: func(s string) {
		fmt.Fprintf(warn, "gosv: warning: %s\n", s)
	}}
	if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH=%s is no number of seconds", s)
		}
		epoch := time.Unix(n, 0)
		options.Epoch = &epoch
	}
	name, kind := args[0], bundle.KindOf(args[0])
	if o.recipe != "" {
		kind = bundle.Recipe
	}
	if kind == bundle.Program {
		var err error
		if name, err = findProgram(name); err != nil {
			return nil, err
		}
	}
	progress := newProgress("unpacking", warn)
	options.Progress = progress.show
	b, err := bundle.Open(kind, name, args[1:], options)
	progress.end()
	if err != nil {
		return nil, imageError(err)
	}
	return b, nil
}

// finish applies the flags, and adds what says how the image runs.
func (o *buildOptions) finish(b *bundle.Bundle) error {
	s := b.Spec
	s.Env = bundle.MergeEnv(s.Env, o.env)
	for _, e := range o.env {
		if strings.Index(e, "=") < 1 {
			return fmt.Errorf("--env %s: say KEY=VALUE: an image does not depend on this environment", e)
		}
	}
	for _, f := range []struct{ to, from *string }{{&s.WorkDir, &o.dir}, {&s.User, &o.user}, {&s.Hostname, &o.hostname}, {&s.Memory, &o.memory}} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if o.hostname != "" {
		if err := spec.Hostname(o.hostname); err != nil {
			return fmt.Errorf("--hostname: %w", err)
		}
	}
	if s.Memory != "" {
		if _, err := parseSize(s.Memory); err != nil {
			return err
		}
	}
	if o.cpus < 0 || o.cpus > maxCPUs {
		return fmt.Errorf("--cpus %d: a machine has 1 to %d processors", o.cpus, maxCPUs)
	}
	if o.cpus != 0 {
		s.CPUs = o.cpus
	}
	s.ReadOnly = s.ReadOnly || o.readOnly
	ports, err := exposedPorts(o.ports)
	if err != nil {
		return err
	}
	for _, port := range ports {
		if !slices.Contains(s.Ports, port) {
			s.Ports = append(s.Ports, port)
		}
	}
	run, err := b.Run()
	if err != nil {
		return err
	}
	if !b.Tree.Has(run.Dir) {
		if err := b.Tree.Dir(run.Dir, 0o755); err != nil {
			return err
		}
	}
	if s.ReadOnly {
		run.Mounts = scratch(s.Scratch)
	} else {
		run.Overlay = "tmpfs"
	}
	runFile, err := run.File()
	if err != nil {
		return err
	}
	return errors.Join(b.Tree.Dir("/.gosv", 0o755), b.Tree.File("/"+rootfs.RunFileName, 0o400, runFile), b.Tree.File(spec.Name, 0o444, s.Encode()))
}

// warnOfSecrets names files that look like secrets.
func warnOfSecrets(tree *rootfs.Tree, strict bool, warn io.Writer) error {
	progress := newProgress("looking for secrets", warn)
	found, err := secrets.Scan(tree, progress.show)
	progress.end()
	if err != nil {
		return err
	}
	for _, f := range found {
		fmt.Fprintf(warn, "gosv: warning: %s in the image looks like %s\n", f.Path, f.Why)
	}
	if strict && len(found) > 0 {
		return fmt.Errorf("--strict: %d files look like secrets", len(found))
	}
	return nil
}

// write writes the image to a file, which appears when it is complete, and returns its
// size and the root of its hashes.
func (o *buildOptions) write(output string, kernel []byte, b *bundle.Bundle, warn io.Writer) (size int64, hash string, err error) {
	f, err := os.CreateTemp(filepath.Dir(output), "."+filepath.Base(output)+"-")
	if err != nil {
		return 0, "", err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	defer f.Close()
	progress := newProgress("packing", warn)
	var tree verityTree
	err = disk.Write(f, disk.Config{
		Kernel: kernel,
		Root: func(w disk.Area) (disk.Part, error) {
			part, err := writeRoot(b.Tree, w, o.compress, progress.show)
			if err == nil && o.verity {
				part, err = tree.add(w, part)
			}
			return part, err
		},
		CommandLine: func(root disk.GUID) string {
			return "root=PARTUUID=" + root.String() + " rootfstype=erofs ro" + tree.commandLine()
		},
	})
	progress.end()
	if err != nil {
		return 0, "", err
	}
	if strings.HasSuffix(output, ".qcow2") {
		size, err = writeQcow2(f, output)
	} else {
		size, err = finishFile(f, output)
	}
	return size, tree.hash, err
}

// writeRoot writes the root file system.
func writeRoot(tree *rootfs.Tree, w io.WriterAt, compress bool, progress func(int64)) (disk.Part, error) {
	sum := &hashed{out: w}
	size, err := tree.WriteEROFS(sum, erofs.Options{Label: "gosv", Compress: compress, Progress: progress})
	return disk.Part{Size: size, GUID: sum.uuid()}, err
}

// hashed takes the file system's UUID out of its superblock as it goes by.
type hashed struct {
	out   io.WriterAt
	first [4096]byte
}

func (h *hashed) WriteAt(p []byte, off int64) (int, error) {
	if off == 0 {
		copy(h.first[:], p)
	}
	return h.out.WriteAt(p, off)
}

// uuid is at byte 48 of the superblock, which is at 1024.
func (h *hashed) uuid() disk.GUID { return disk.GUID(h.first[1024+48:][:16]) }

// finishFile gives a file that was written its name.
func finishFile(f *os.File, name string) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return 0, err
	}
	return st.Size(), os.Rename(f.Name(), name)
}

// writeQcow2 converts the raw image in f.
func writeQcow2(raw *os.File, output string) (int64, error) {
	st, err := raw.Stat()
	if err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(output), "."+filepath.Base(output)+"-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := disk.WriteQcow2(f, raw, st.Size()); err != nil {
		return 0, err
	}
	return finishFile(f, output)
}

// kernelBytes returns the kernel in the named file, or the embedded one.
func kernelBytes(name string) ([]byte, error) {
	f, _, err := openKernel(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
}

// humanSize is a size for people.
func humanSize(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

// progress tells how far packing is, once that has taken a second.
type progress struct {
	what  string
	out   io.Writer
	began time.Time
	last  time.Time
	shown bool
}

func newProgress(what string, out io.Writer) *progress {
	now := time.Now()
	return &progress{what: what, out: out, began: now, last: now}
}

func (p *progress) show(done int64) {
	every := time.Second // the first time, and five of them later
	if p.shown {
		every *= 5
	}
	if now := time.Now(); now.Sub(p.last) >= every {
		p.last, p.shown = now, true
		fmt.Fprintf(p.out, "gosv: %s: %s so far\n", p.what, humanSize(done))
	}
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprintf(p.out, "gosv: %s took %v\n", p.what, time.Since(p.began).Round(100*time.Millisecond))
	}
}
