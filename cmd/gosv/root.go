package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"gosv/image/rootfs"
	"gosv/vmm"
)

// rootTag is the tag of the folder that is the guest's root.
const rootTag = "root"

// A hostRoot is a folder of the host that the guest has as its root, read-only, with a private layer in memory over it.
type hostRoot struct {
	dir string
}

// openHostRoot takes the value of --root.
func openHostRoot(dir string) (*hostRoot, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(full)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--root %s: %w", dir, err)
	case !st.IsDir():
		return nil, fmt.Errorf("--root %s: that is no directory", dir)
	}
	return &hostRoot{full}, nil
}

// folder is what is shared for the root.
func (r *hostRoot) folder() *folder { return &folder{tag: rootTag, dir: r.dir, readOnly: true} }

// whole reports whether the root is the host's.
func (r *hostRoot) whole() bool { return r.dir == "/" }

// find returns the path in the guest of a program that is named as to a shell.
func (r *hostRoot) find(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return path.Join("/", dir, name), nil // what is wrong with it, the kernel says
	}
	for _, d := range splitList(lookupEnv(env, "PATH")) {
		at := path.Join("/", d, name)
		// A link may lead anywhere in the root: the guest will follow it.
		if st, err := os.Lstat(filepath.Join(r.dir, at)); err == nil && (st.Mode()&os.ModeSymlink != 0 || st.Mode().IsRegular() && st.Mode()&0o111 != 0) {
			return at, nil
		}
	}
	return "", &statusError{vmm.StatusNoFile, fmt.Errorf("%s: no such program in PATH (%s) below %s", name, lookupEnv(env, "PATH"), r.dir)}
}

// workdir is the working directory when the user names none: with the host's own root, the current one.
func (r *hostRoot) workdir(flag string, set bool) string {
	if !set && r.whole() {
		if dir, err := os.Getwd(); err == nil {
			return dir
		}
	}
	return flag
}

// pack makes the archive that tells the kernel what to run; it holds nothing else.
func (r *hostRoot) pack(o *runOptions, args []string) (*os.File, error) {
	env := guestEnv(o.env)
	dir := path.Clean(r.workdir(o.dir, o.changed("workdir")))
	if !path.IsAbs(dir) {
		return nil, fmt.Errorf("--workdir %s: the working directory must be an absolute path", o.dir)
	}
	name := args[0]
	if path.IsAbs(name) {
		name = path.Clean(name)
	}
	exe := name
	if !path.IsAbs(name) {
		var err error
		if exe, err = r.find(name, dir, env); err != nil {
			return nil, err
		}
	}
	spec := rootfs.Run{
		Exe: exe, Args: args, Env: env, Dir: dir, Hostname: o.hostname, User: r.user(o.user), Strace: o.strace, Verbose: o.verbose,
		Missing: o.missing, Network: o.network.guest,
		Root: &rootfs.Mount{Source: rootTag, Type: "virtiofs", Options: "ro"}, Mounts: append(r.mounts(), o.folders.mounts()...),
	}
	if spec.User != "" { // whose home the kernel finds out
		spec.Env = slices.DeleteFunc(spec.Env, func(e string) bool { return e == "HOME=/root" })
	}
	if o.readOnly {
		spec.Mounts = append(scratch([]string{"/tmp", "/run"}), spec.Mounts...)
	} else {
		spec.Overlay = "tmpfs"
	}
	if o.terminal != nil {
		spec.Env = o.terminal.env(spec.Env)
		spec.Rows, spec.Columns, _ = o.terminal.size()
	}
	runFile, err := spec.File()
	if err != nil {
		return nil, imageError(err)
	}
	return packToMemory(rootfs.New(rootfs.Options{}), runFile)
}

// user is whom the program runs as when the user names none: with the host's own root who runs gosv, for the files
// that it will look for are theirs.
func (r *hostRoot) user(flag string) string {
	if flag == "" && r.whole() && os.Geteuid() != 0 {
		return fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
	}
	return flag
}

// mounts are what a program expects of any root, and this one may not have: the kernel itself brings /dev, /proc and /sys.
func (r *hostRoot) mounts() (list []rootfs.Mount) {
	if st, err := os.Stat(filepath.Join(r.dir, "tmp")); err != nil || !st.IsDir() {
		list = append(list, rootfs.Mount{Source: "tmpfs", Target: "/tmp", Type: "tmpfs", Options: "mode=1777"})
	}
	return list
}
