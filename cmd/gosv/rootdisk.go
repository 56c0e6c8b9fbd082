package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gosv/image/bundle"
	"gosv/image/erofs"
	"gosv/image/oci"
	"gosv/image/rootfs"
	"gosv/image/spec"
	"gosv/vmm"
)

// sourceKind is what stands in the place of PROGRAM.
type sourceKind int

const (
	sourceProgram sourceKind = iota
	sourceImage              // a disk image
	sourceFolder
	sourceArchive
)

// kindOfSource says what to run. Only what has a slash in its name, or exists and
// cannot be a program, is anything but a program.
func kindOfSource(name string) sourceKind {
	switch bundle.KindOf(name) {
	case bundle.Archive:
		return sourceArchive
	case bundle.Folder:
		return sourceFolder
	}
	if isImage(name) {
		return sourceImage
	}
	return sourceProgram
}

// openRoot finds what is to run, and takes from an image what the flags leave
// open. For a program of this machine it returns nil.
func openRoot(o *runOptions, args []string, warn io.Writer) (r *rootSource, err error) {
	r = &rootSource{kind: kindOfSource(args[0])}
	switch r.kind {
	case sourceProgram:
		if bundle.KindOf(args[0]) == bundle.Recipe {
			return nil, &statusError{vmm.StatusNotExec, fmt.Errorf("%s says how an image is made: `gosv build -f %[1]s -o app.img`, then `gosv run app.img`", args[0])}
		}
		return nil, nil
	case sourceImage:
		err = r.fromImage(args[0])
	case sourceFolder:
		err = r.fromFolder(args[0], args[1:], warn)
	case sourceArchive:
		if err = r.fromArchive(args[0], o.tag, warn); err == nil {
			r.spec.Scratch, err = r.scratch(append([]string{"/tmp", "/run"}, r.spec.Volumes...)...)
		}
	}
	if err != nil {
		return nil, err
	}
	o.adopt(r.spec)
	return r, nil
}

// rootSource is a root file system on a disk.
type rootSource struct {
	kind   sourceKind
	disk   vmm.Disk
	part   string // number of the partition; "" for the whole disk
	fsType string
	verity *rootfs.Verity
	spec   *spec.Image
}

// fromImage takes a disk image.
func (r *rootSource) fromImage(name string) error {
	i, err := openImage(name)
	if err != nil {
		return err
	}
	defer i.Close()
	if r.spec, err = i.spec(); err != nil {
		return err
	}
	if r.spec == nil {
		r.spec = &spec.Image{}
	}
	full, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	r.disk = vmm.Disk{Path: full, Format: i.format, ReadOnly: true}
	r.fsType = i.info.Type
	if r.verity, err = verityOf(i.line); err != nil {
		return err
	}
	if i.number > 0 {
		r.part = fmt.Sprint(i.number)
	}
	return nil
}

// fromFolder packs a folder.
func (r *rootSource) fromFolder(name string, args []string, warn io.Writer) error {
	if len(args) == 0 {
		if _, err := os.Lstat(filepath.Join(name, spec.Name)); err != nil {
			return &statusError{vmm.StatusNotExec, fmt.Errorf("%s is a directory: name the program in it, `gosv run %[1]s PROGRAM`", name)}
		}
	}
	b, err := bundle.Open(bundle.Folder, name, args, bundle.Options{})
	if err != nil {
		return imageError(err)
	}
	defer b.Close()
	r.spec = b.Spec
	key, err := treeKey(b.Tree, time.Unix(0, 0))
	if err != nil {
		return err
	}
	return r.fromCache("folder", key, warn, func() (*rootfs.Tree, func(), error) { return b.Tree, func() {}, nil })
}

// treeKey is a checksum of what a tree is made of: names, attributes, sizes and times
// of host files, and the contents of what was made up here, at the time made. The time of the last change
// counts too, since tools that build reproducibly give all files one time of modification.
func treeKey(tree *rootfs.Tree, made time.Time) (hash.Hash, error) {
	key := sha256.New()
	err := tree.Walk(func(full string, e rootfs.Entry) error {
		fmt.Fprintf(key, "%q %o %d %d %d %d %d %q\n", full, e.Mode, e.UID, e.GID, e.Size, e.MTime.UnixNano(), e.Changed.UnixNano(), e.Target)
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			fmt.Fprintf(key, "%q=%q\n", name, e.Xattrs[name])
		}
		if e.Open == nil || !e.MTime.Equal(made) {
			return nil
		}
		f, err := e.Open()
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(key, f)
		return err
	})
	return key, err
}

// fromArchive unpacks a container image.
func (r *rootSource) fromArchive(name, tag string, warn io.Writer) error {
	image, err := oci.Open(name, tag)
	if err != nil {
		return err
	}
	defer image.Close()
	r.spec = image.Spec()
	id, err := image.ID()
	if err != nil {
		return err
	}
	key := sha256.New()
	fmt.Fprintln(key, id)
	return r.fromCache("image", key, warn, func() (*rootfs.Tree, func(), error) {
		progress := newProgress("unpacking", warn)
		defer progress.end()
		b, err := bundle.Open(bundle.Archive, name, nil, bundle.Options{Tag: tag, Progress: progress.show,
			Warn: func(s string) { fmt.Fprintf(warn, "gosv: warning: %s\n", s) }})
		if err != nil {
			return nil, nil, err
		}
		return b.Tree, b.Close, nil
	})
}

// cacheVersion changes when the same contents would be written differently.
const cacheVersion = 1

// fromCache takes the file system with a key from the cache, or makes it.
func (r *rootSource) fromCache(kind string, key hash.Hash, warn io.Writer, open func() (*rootfs.Tree, func(), error)) error {
	dir, err := cacheDir()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%d-%.32x.erofs", kind, cacheVersion, key.Sum(nil)))
	r.disk, r.fsType = vmm.Disk{Path: name, Format: vmm.FormatRaw, ReadOnly: true}, "erofs"
	now := time.Now()
	if err := os.Chtimes(name, now, now); err == nil {
		return nil
	}
	tree, done, err := open()
	if err != nil {
		return imageError(err)
	}
	defer done()
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	progress := newProgress("packing the root file system", warn)
	size, err := tree.WriteEROFS(f, erofs.Options{Label: "gosv", Progress: progress.show})
	progress.end()
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		return err
	}
	if _, err := finishFile(f, name); err != nil {
		return err
	}
	trimCache(dir, name)
	return nil
}

// cacheDir returns the folder that keeps packed root file systems.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("gosv-%d", os.Getuid()))
	}
	dir = filepath.Join(dir, "gosv", "roots")
	return dir, os.MkdirAll(dir, 0o700)
}

// cacheLimit is how much the cache holds, in bytes.
const cacheLimit = 8 << 30

// trimCache removes what was not used for longest. A machine that runs keeps its
// disk open, so nothing is taken from it.
func trimCache(dir, keep string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var list []os.FileInfo
	total := int64(0)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".erofs") {
			list = append(list, info)
			total += info.Size()
		}
	}
	slices.SortFunc(list, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range list {
		if total <= cacheLimit {
			return
		}
		if name := filepath.Join(dir, info.Name()); name != keep && os.Remove(name) == nil {
			total -= info.Size()
		}
	}
}

// largeTree is from how many bytes on the files of a program go on a disk instead of
// into the machine's memory.
const largeTree = 64 << 20

// fromTree packs a program and what it needs.
func (r *rootSource) fromTree(tree *rootfs.Tree, made time.Time, warn io.Writer) error {
	key, err := treeKey(tree, made)
	if err != nil {
		return err
	}
	return r.fromCache("program", key, warn, func() (*rootfs.Tree, func(), error) { return tree, func() {}, nil })
}

// adopt takes from an image what no flag says.
func (o *runOptions) adopt(s *spec.Image) {
	for _, f := range []struct {
		flag     string
		to, from *string
	}{{"memory", &o.memory, &s.Memory}, {"workdir", &o.dir, &s.WorkDir}, {"user", &o.user, &s.User}, {"hostname", &o.hostname, &s.Hostname}} {
		if !o.changed(f.flag) && *f.from != "" {
			*f.to = *f.from
		}
	}
	if !o.changed("cpus") && s.CPUs != 0 {
		o.cpus = s.CPUs
	}
	o.readOnly = o.readOnly || s.ReadOnly
}

// run returns what the kernel is told, for a root that is the n-th virtio disk.
func (r *rootSource) run(o *runOptions, args []string, n int) (*rootfs.Run, error) {
	argv := r.spec.Args(args)
	if r.kind == sourceFolder {
		argv = r.spec.Args(nil)
	}
	if len(argv) == 0 {
		return nil, errors.New("nothing says which program runs: name it behind the image")
	}
	defaults := []string{"PATH=" + guestPath}
	if o.user == "" { // else the kernel finds it out
		defaults = append(defaults, "HOME=/root")
	}
	env := bundle.MergeEnv(defaults, r.spec.Env)
	run := &rootfs.Run{Exe: argv[0], Args: argv, Env: bundle.MergeEnv(env, flagEnv(o.env)), Dir: path.Clean("/" + o.dir), Hostname: o.hostname, User: o.user,
		Strace: o.strace, Verbose: o.verbose, Missing: o.missing, Network: o.network.guest}
	if o.verity != "" && (r.verity == nil || r.verity.Hash != o.verity) {
		return nil, fmt.Errorf("--verity: the image has not the root hash %s", o.verity)
	}
	if o.terminal != nil {
		run.Env = o.terminal.env(run.Env)
		run.Rows, run.Columns, _ = o.terminal.size()
	}
	r.place(run, o, n, r.spec.Scratch)
	run.Mounts = append(run.Mounts, o.folders.mounts()...)
	return run, nil
}

// place tells the kernel where its root is: on the n-th virtio disk. dirs can be in memory when
// the root is read-only.
func (r *rootSource) place(run *rootfs.Run, o *runOptions, n int, dirs []string) {
	run.Root = &rootfs.Mount{Source: fmt.Sprintf("/dev/vd%c%s", 'a'+n, r.part), Type: r.fsType, Options: "ro"}
	run.Verity = r.verity
	if o.readOnly {
		run.Mounts = append(scratch(dirs), run.Mounts...)
	} else {
		run.Overlay = "tmpfs"
	}
}

// scratch are file systems in memory for programs whose root is read-only.
func scratch(dirs []string) (list []rootfs.Mount) {
	for _, dir := range dirs {
		list = append(list, rootfs.Mount{Source: "tmpfs", Target: dir, Type: "tmpfs", Options: "mode=1777"})
	}
	return list
}

// packRun returns the archive that says what runs.
func packRun(run *rootfs.Run) (*os.File, error) {
	runFile, err := run.File()
	if err != nil {
		return nil, imageError(err)
	}
	return packToMemory(rootfs.New(rootfs.Options{}), runFile)
}
