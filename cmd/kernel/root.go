package main

import (
	"errors"
	"path"

	"golang.org/x/sys/unix"

	"gosv/fs/erofs"
	"gosv/fs/overlay"
	"gosv/fs/ramfs"
	"gosv/fs/rofs"
	"gosv/kernel/bootargs"
	"gosv/kernel/cred"
	"gosv/kernel/initramfs"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// mountRoot mounts the root file system that the host asked for over the initial one, and the private layer over that,
// and returns where programs begin. What the root's own run file says goes to args when nothing else names a program.
func mountRoot(ns *vfs.Namespace, pool *mem.Pool, args *bootargs.Args) (vfs.Path, error) {
	if r := args.Root; r != nil {
		if err := mountOne(ns, rootContext(ns.Root()), *r, ns.Root()); err != nil {
			return vfs.Path{}, err
		}
	} else if args.Verity != nil {
		return vfs.Path{}, errors.New("verity= is for a root on a block device")
	}
	if args.Path == "" {
		if err := readRunFile(rootContext(ns.Top()), args); err != nil {
			return vfs.Path{}, err
		}
	}
	switch args.Overlay {
	case "":
	case "tmpfs":
		if err := mountLayer(ns, pool); err != nil {
			return vfs.Path{}, err
		}
	default:
		return vfs.Path{}, errors.New("overlay=" + args.Overlay + ": only tmpfs can be the layer")
	}
	return ns.Top(), nil
}

// mountLayer lays a private layer in memory over the root.
func mountLayer(ns *vfs.Namespace, pool *mem.Pool) error {
	root := ns.Top()
	now := root.Mount.FS.Now
	total, _ := pool.Usage()
	layer := ns.PrivateFS(ramfs.New(pool, now, ramfs.Options{Mode: 0o700, Pages: int64(total / 2), Inodes: int64(total / 2)}), "overlay")
	defer layer.EndPrivate()
	i := root.Inode()
	upper, err := layer.Make("upper", &vfs.NewNode{Mode: i.Mode(), UID: i.UID(), GID: i.GID()})
	if err != nil {
		return err
	}
	work, err := layer.Make("work", &vfs.NewNode{Mode: unix.S_IFDIR | 0o700})
	if err != nil {
		return err
	}
	r := &vfs.MountRequest{}
	fs, err := overlay.New(overlay.Config{Namespace: ns, Lower: []vfs.Path{root}, Upper: upper, Work: work, Cred: cred.Root(), Now: now}, r)
	if err != nil {
		return errors.New("overlay: " + r.Problem + ": " + err.Error())
	}
	return ns.MountFS(ns.Root(), fs, "overlay", 0)
}

// readRunFile reads the run file that the root brings; without one the program is what Linux starts.
func readRunFile(ctx *vfs.Context, args *bootargs.Args) error {
	run, err := readFile(ctx, "/"+initramfs.RunFile)
	if err == nil {
		return args.ParseRun(run)
	}
	if err != unix.ENOENT && err != unix.ENOTDIR {
		return errors.New("/" + initramfs.RunFile + ": " + err.Error())
	}
	for _, init := range []string{"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"} {
		if _, err := vfs.Lookup(ctx, ctx.Root, init, 0); err == nil {
			args.Default(init)
			return nil
		}
	}
	return &refusal{"the root file system names no program in /" + initramfs.RunFile, unix.ENOENT}
}

// readFile returns the contents of a file that is no longer than a run file may be.
func readFile(ctx *vfs.Context, name string) ([]byte, error) {
	f, err := vfs.Open(ctx, ctx.Root, name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.DecRef()
	size := f.Inode().Size()
	if size > initramfs.RunFileMax {
		return nil, unix.EFBIG
	}
	b := make([]byte, size)
	dst := uio.Buffer(b)
	n, err := f.Read(&dst)
	return b[:n], err
}

// mountAll mounts what the host asked for beside the root.
func mountAll(ns *vfs.Namespace, ctx *vfs.Context, mounts []bootargs.Mount) error {
	for _, m := range mounts {
		at, err := makeTarget(ctx, m)
		if err == nil {
			err = mountOne(ns, ctx, m, at)
		}
		if err != nil {
			return &refusal{"mount of " + m.Source + " at " + m.Target, err}
		}
	}
	return nil
}

// makeTarget returns the place of a mount, which is made if need be: a file when a file is to be bound there.
func makeTarget(ctx *vfs.Context, m bootargs.Mount) (vfs.Path, error) {
	if flags, _ := vfs.ParseMountOptions(m.Options); flags&unix.MS_BIND == 0 {
		return makePath(ctx, m.Target)
	}
	if from, err := vfs.Lookup(ctx, ctx.Root, m.Source, 0); err != nil || from.Inode().IsDir() {
		return makePath(ctx, m.Target)
	}
	if _, err := makePath(ctx, path.Dir(m.Target)); err != nil {
		return vfs.Path{}, err
	}
	f, err := vfs.Open(ctx, ctx.Root, m.Target, unix.O_CREAT|unix.O_RDONLY, 0o644)
	if err != nil {
		return vfs.Path{}, err
	}
	defer f.DecRef()
	return f.Path(), nil
}

// makePath returns the directory, or the file for a bind mount, at name, with the directories above it made if need be.
func makePath(ctx *vfs.Context, name string) (vfs.Path, error) {
	at, err := vfs.Lookup(ctx, ctx.Root, name, 0)
	if err != unix.ENOENT {
		return at, err
	}
	if up := path.Dir(name); up != name {
		if _, err := makePath(ctx, up); err != nil {
			return at, err
		}
	}
	return directory(ctx, name)
}

// mountOne makes a file system and places it. Without a type each that lives on block devices is tried.
func mountOne(ns *vfs.Namespace, ctx *vfs.Context, m bootargs.Mount, at vfs.Path) error {
	flags, data := vfs.ParseMountOptions(m.Options)
	if flags&unix.MS_BIND != 0 {
		return vfs.DoMount(ctx, m.Source, at, "", flags, data)
	}
	types := []string{m.Type}
	if m.Type == "" {
		types = nil
		for _, t := range ns.Types() {
			if t.OnDevice {
				types = append(types, t.Name)
			}
		}
	}
	failure := errors.New("no file system was found on " + m.Source)
	for _, t := range types {
		r := &vfs.MountRequest{Ctx: ctx, Source: m.Source, Options: data, Flags: flags}
		fs, err := ns.NewFS(t, r)
		if err == nil {
			err = ns.MountFS(at, fs, m.Source, flags)
			if r.Held {
				fs.EndHold()
			}
			return err
		}
		if m.Type != "" || err != unix.EINVAL {
			if r.Problem != "" {
				return errors.New(t + " on " + m.Source + ": " + r.Problem + ": " + err.Error())
			}
			return &refusal{t + " on " + m.Source, err}
		}
	}
	return failure
}

// image is where a file system lies that is only read.
type image interface {
	ReadAt(p []byte, off int64) error
	Size() int64
}

// findImage returns what finds the image that a mount names.
func findImage(initrd *ramDisk, d *disks, args *bootargs.Args, log func(string)) func(r *vfs.MountRequest) (image, func(), error) {
	return func(r *vfs.MountRequest) (image, func(), error) {
		if r.Source == initrdSource && initrd != nil {
			if args.Verity == nil {
				return initrd, func() {}, nil
			}
			verified, err := initrd.verify(args.Verity, log)
			if err != nil {
				return nil, nil, r.Fail(unix.EIO, err.Error())
			}
			return verified, func() {}, nil
		}
		disk, release, err := d.source(r)
		if err != nil {
			return nil, nil, err
		}
		if args.Verity == nil || args.Root == nil || r.Source != args.Root.Source {
			if disk.First() != machine.NoFrame {
				return memoryImage{diskImage{disk}}, release, nil
			}
			return diskImage{disk}, release, nil
		}
		verified, done, err := d.verify(r, disk, args.Verity, log)
		if err != nil {
			release()
			return nil, nil, err
		}
		return verified, func() { done(); release() }, nil
	}
}

// addImageTypes makes the types of file systems known that are only read.
func addImageTypes(ns *vfs.Namespace, d *disks, pool *mem.Pool, now func() int64, find func(r *vfs.MountRequest) (image, func(), error)) {
	ns.AddType(d.shared(erofs.Type(func(r *vfs.MountRequest) (erofs.Image, func(), error) { return find(r) }, pool, now)))
	ns.AddType(d.shared(rofs.Type(func(r *vfs.MountRequest) (rofs.Image, func(), error) { return find(r) }, pool, now)))
}
