package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gosv/image/bundle"
	"gosv/image/elfdeps"
	"gosv/image/erofs"
	"gosv/image/rootfs"
	"gosv/vmm"
)

// guestPath is PATH in the guest.
const guestPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// packImage packs the program and all it needs, and returns the archive as a
// file in memory. When that would be large, the files are on a disk.
func packImage(o *runOptions, args []string, warn io.Writer) (*os.File, *vmm.Disk, error) {
	program, err := findProgram(args[0])
	if err != nil {
		return nil, nil, err
	}
	var made time.Time
	if st, err := os.Stat(program); err == nil {
		made = st.ModTime() // the same each time, so that a large tree is packed once
	}
	env := guestEnv(o.env)
	spec := rootfs.Run{Exe: program, Args: args, Env: env, Dir: path.Clean(o.dir), Hostname: o.hostname, User: o.user,
		Strace: o.strace, Verbose: o.verbose, Missing: o.missing, Network: o.network.guest, Mounts: o.folders.mounts()}
	if o.user != "" { // whose home the kernel finds out
		spec.Env = slices.DeleteFunc(env, func(e string) bool { return e == "HOME=/root" })
	}
	if o.terminal != nil {
		spec.Env = o.terminal.env(spec.Env)
		spec.Rows, spec.Columns, _ = o.terminal.size()
	}
	if !path.IsAbs(spec.Dir) {
		return nil, nil, fmt.Errorf("--workdir %s: the working directory must be an absolute path", o.dir)
	}
	finder := &elfdeps.Finder{LibraryPath: splitList(lookupEnv(env, "LD_LIBRARY_PATH")), SearchPath: splitList(lookupEnv(env, "PATH"))}
	tree := rootfs.New(rootfs.Options{Made: made})
	closure, err := tree.Program(finder, program)
	if err != nil {
		return nil, nil, imageError(err)
	}
	closures := []*elfdeps.Closure{closure}
	for _, s := range o.volumes {
		v, err := parseVolume(s)
		if err != nil {
			return nil, nil, err
		}
		if v.shared() {
			continue // shared, not copied
		}
		c, err := addVolume(tree, finder, v, warn)
		if err != nil {
			return nil, nil, err
		}
		if c != nil {
			closures = append(closures, c)
		}
	}
	if err := errors.Join(tree.Base(o.hostname), tree.LoaderCache(closures)); err != nil {
		return nil, nil, err
	}
	if o.terminal != nil {
		if err := addTerminfo(tree, lookupEnv(spec.Env, "TERM")); err != nil {
			return nil, nil, err
		}
	}
	if !tree.Has(spec.Dir) {
		if err := tree.Dir(spec.Dir, 0o755); err != nil {
			return nil, nil, err
		}
	}
	return packTree(o, tree, made, &spec, warn)
}

// packTree packs the files of a program in the way that suits them.
func packTree(o *runOptions, tree *rootfs.Tree, made time.Time, run *rootfs.Run, warn io.Writer) (*os.File, *vmm.Disk, error) {
	dirs := tree.Scratch("/tmp", "/run")
	var d *vmm.Disk
	if tree.Size() > largeTree {
		var r rootSource
		if err := r.fromTree(tree, made, warn); err != nil {
			return nil, nil, err
		}
		r.place(run, o, o.letters(), dirs)
		d, tree = &r.disk, rootfs.New(rootfs.Options{})
	} else if o.readOnly {
		run.Mounts = append(scratch(dirs), run.Mounts...)
	}
	runFile, err := run.File()
	if err != nil {
		return nil, nil, imageError(err)
	}
	pack := packToMemory
	if o.readOnly && d == nil {
		pack = packReadOnly
	}
	initrd, err := pack(tree, runFile)
	return initrd, d, err
}

// packReadOnly packs a tree as a file system that nobody can change, with the run file in it.
func packReadOnly(tree *rootfs.Tree, runFile []byte) (*os.File, error) {
	if err := tree.File("/"+rootfs.RunFileName, 0o400, runFile); err != nil {
		return nil, err
	}
	f, err := memoryFile("root.erofs")
	if err != nil {
		return nil, err
	}
	size, err := tree.WriteEROFS(f, erofs.Options{Label: "gosv"})
	if err := errors.Join(err, f.Truncate(size)); err != nil {
		f.Close()
		return nil, fmt.Errorf("packing the root file system: %w", err)
	}
	return f, nil
}

func packToMemory(tree *rootfs.Tree, runFile []byte) (*os.File, error) {
	f, err := memoryFile("root.cpio")
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(tree.Pack(out, runFile), out.Flush()); err != nil {
		f.Close()
		return nil, fmt.Errorf("packing the root file system: %w", err)
	}
	return f, nil
}

// memoryFile returns a file that lives in memory and is gone with its last
// descriptor.
func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// copyToFile writes all of f to a new file.
func copyToFile(f *os.File, name string) (*os.File, error) {
	out, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(out, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

// addVolume copies the file that a --volume flag names into the tree. The libraries of a
// program come along, and its closure is returned.
func addVolume(tree *rootfs.Tree, finder *elfdeps.Finder, v mount, warn io.Writer) (*elfdeps.Closure, error) {
	if err := tree.Copy(v.host, v.guest); err != nil {
		return nil, fmt.Errorf("--volume %s: %w", v.host, err)
	}
	c, err := finder.Closure(v.host)
	switch {
	case errors.Is(err, elfdeps.ErrMissing):
		fmt.Fprintf(warn, "gosv: warning: %v\n", err)
		return nil, nil
	case err != nil:
		return nil, nil // no program: data
	}
	for _, name := range slices.Concat(c.Programs[1:], []string{c.Interpreter}) {
		if name == "" {
			continue
		}
		if err := tree.Import(name); err != nil {
			return nil, err
		}
	}
	for _, lib := range c.Libraries {
		if err := tree.Import(lib.Path); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// guestEnv returns the program's environment: a few defaults, then the flags.
func guestEnv(flags []string) []string {
	env := []string{"PATH=" + guestPath, "HOME=/root"}
	if dirs := os.Getenv("LD_LIBRARY_PATH"); dirs != "" {
		env = append(env, "LD_LIBRARY_PATH="+dirs) // the libraries are found, and packed, by it
	}
	return bundle.MergeEnv(env, flagEnv(flags))
}

// checkEnv refuses values of --env that name no variable.
func checkEnv(flags []string) error {
	for _, f := range flags {
		if f == "" || f[0] == '=' {
			return fmt.Errorf("--env %s: say KEY=VALUE, or KEY alone", f)
		}
	}
	return nil
}

// flagEnv returns the variables that --env flags set.
func flagEnv(flags []string) []string {
	var env []string
	for _, f := range flags {
		key, _, ok := strings.Cut(f, "=")
		if !ok {
			value, set := os.LookupEnv(key)
			if !set {
				continue
			}
			f = key + "=" + value
		}
		env = bundle.MergeEnv(env, []string{f})
	}
	return env
}

func lookupEnv(env []string, key string) string {
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, key+"="); ok {
			return value
		}
	}
	return ""
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ':' })
}
