package main

import (
	"errors"

	"golang.org/x/sys/unix"

	"gosv/fs/devfs"
	"gosv/fs/overlay"
	"gosv/fs/procfs"
	"gosv/fs/ramfs"
	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/nsfs"
	"gosv/kernel/pipe"
	"gosv/kernel/share"
	"gosv/kernel/syscall"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/machine"
	"gosv/machine/bare"
)

// newTree makes the tree of files, an empty file system in memory at its root.
func newTree(pool *mem.Pool, c *clock.Clock, l *log) *vfs.Namespace {
	ns := vfs.NewNamespace(ramfs.New(pool, c.Wall, ramfs.Options{Type: "rootfs", Mode: 0o755}), pool)
	total, _ := pool.Usage()
	vfs.LimitFiles(total)
	ns.OpenFIFO, ns.Log = pipe.OpenFIFO, l.line
	ns.AddType(ramfs.Type("tmpfs", pool, c.Wall))
	ns.AddType(ramfs.Type("ramfs", pool, c.Wall))
	ns.AddType(ramfs.HugeType(pool, c.Wall))
	ns.AddType(overlay.Type(c.Wall))
	return ns
}

// shareMemory bounds what the kernel holds for programs by what is free now.
func shareMemory(pool *mem.Pool) {
	_, free := pool.Usage()
	share.SetMemory(int64(free) * machine.PageSize)
	share.SetPages(int64(free) * machine.PageSize)
}

// mountDev fills /dev.
func mountDev(ns *vfs.Namespace, ctx *vfs.Context, pool *mem.Pool, c *clock.Clock, l *log) (*devfs.Devices, error) {
	fs := ramfs.New(pool, c.Wall, ramfs.Options{Type: "devtmpfs", Mode: 0o755})
	ramfs.LimitInodes(fs)
	if err := mount(ns, ctx, "/dev", fs); err != nil {
		return nil, err
	}
	addDevType(ns, pool, fs)
	dir, err := vfs.Lookup(ctx, ctx.Root, "/dev", 0)
	if err != nil {
		return nil, err
	}
	d, err := devfs.New(ns, dir, devfs.Config{Random: fillRandom, Pool: pool})
	if err == nil {
		err = d.Add("kmsg", unix.S_IFCHR, 1, 11, 0o644, l.kept.Open)
	}
	return d, err
}

// addDevType lets programs mount /dev again, elsewhere or after it was unmounted: it is the same everywhere.
func addDevType(ns *vfs.Namespace, pool *mem.Pool, fs *vfs.FS) {
	ns.PrivateFS(fs, fs.Type) // so that it outlives its mounts
	ns.AddType(vfs.Type{Name: fs.Type, New: func(r *vfs.MountRequest) (*vfs.FS, error) {
		total, _ := pool.Usage()
		if _, err := ramfs.ParseOptions(r.Options, total); err != nil {
			return nil, r.Fail(err, "bad options "+r.Options)
		}
		return fs, nil
	}})
}

// mountInfo mounts /proc and /sys, which tell programs about the kernel, and /dev/shm.
func mountInfo(m *bare.Machine, ctx *vfs.Context, k *task.Kernel, d *disks, socks *sockets) error {
	name := syscall.Uname(k.First().UTS())
	spaces := nsfs.New(k.Clock.Wall)
	spaces.Install = syscall.InstallNS
	c := procfs.Config{
		Kernel: k, Namespace: k.Namespace, Pool: k.Pool, Clock: k.Clock, Random: fillRandom,
		CPUs: m.CPUs(), CPUInfo: cpuID(m.CPUID).info(), CommandLine: m.CommandLine(),
		Release: unix.ByteSliceToString(name.Release[:]), Version: unix.ByteSliceToString(name.Version[:]),
		Namespaces: spaces,
	}
	procFS, sysFS := procfs.New(c), procfs.NewSys(c)
	d.files.ShowLists(procFS)
	d.files.SetSys(sysFS)
	showNetwork(socks.inet, sysFS)
	socks.show(procFS)
	proc, sys := procFS.FS(), sysFS.FS()
	k.Namespace.AddType(vfs.Type{Name: proc.Type, Anyone: true, New: procFS.Mount})
	k.Namespace.AddType(vfs.Type{Name: sys.Type, New: sysFS.Mount})
	if err := mount(k.Namespace, ctx, "/proc", proc); err != nil {
		return err
	}
	if err := mount(k.Namespace, ctx, "/sys", sys); err != nil {
		return err
	}
	shm := ramfs.New(k.Pool, k.Clock.Wall, ramfs.Options{Mode: 0o1777})
	ramfs.LimitInodes(shm)
	return mount(k.Namespace, ctx, "/dev/shm", shm)
}

// mount mounts fs at path, which is made if need be.
func mount(ns *vfs.Namespace, ctx *vfs.Context, path string, fs *vfs.FS) error {
	at, err := directory(ctx, path)
	if err != nil {
		return err
	}
	return ns.MountFS(at, fs, fs.Type, 0)
}

// directory returns the directory at path, which is made if need be.
func directory(ctx *vfs.Context, path string) (vfs.Path, error) {
	at, err := vfs.Lookup(ctx, ctx.Root, path, 0)
	if err != unix.ENOENT {
		return at, err
	}
	if err := vfs.Mkdir(ctx, ctx.Root, path, 0o755); err != nil {
		return at, errors.New("the root file system has no directory " + path + ", and none can be made: " + err.Error())
	}
	return vfs.Lookup(ctx, ctx.Root, path, 0)
}

func rootContext(root vfs.Path) *vfs.Context {
	return &vfs.Context{Root: root, Cwd: root, Cred: cred.Root(), Umask: 0o022}
}
