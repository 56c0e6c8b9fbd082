package main

import (
	"golang.org/x/sys/unix"

	"gosv/driver/chardev"
	"gosv/fs/devfs"
	"gosv/fs/ramfs"
	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/initramfs"
	"gosv/kernel/mem"
	"gosv/kernel/pipe"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// newTree makes the tree of files, an empty file system in memory at its root.
func newTree(pool *mem.Pool, c *clock.Clock) *vfs.Namespace {
	ns := vfs.NewNamespace(ramfs.New(pool, c.Wall, ramfs.Options{Type: "rootfs", Mode: 0o755}), pool)
	ns.OpenFIFO = pipe.OpenFIFO
	ns.AddType("tmpfs", ramfs.Mounter(pool, c.Wall))
	ns.AddType("ramfs", ramfs.Mounter(pool, c.Wall))
	return ns
}

// unpack fills root from the initial RAM disk, and returns the run file.
func unpack(m machine.Machine, root vfs.Path) ([]byte, error) {
	first, size := m.Initrd()
	return initramfs.Unpack(m, root, first, size)
}

// mountDev fills /dev.
func mountDev(ns *vfs.Namespace, ctx *vfs.Context, pool *mem.Pool, c *clock.Clock, s *streams, l *log) error {
	fs := ramfs.New(pool, c.Wall, ramfs.Options{Type: "devtmpfs", Mode: 0o755})
	if err := mount(ns, ctx, "/dev", fs); err != nil {
		return err
	}
	dir, err := vfs.Lookup(ctx, ctx.Root, "/dev", 0)
	if err != nil {
		return err
	}
	dev, err := devfs.New(ns, dir, devfs.Config{Random: fillRandom, Log: l.bytes, Pool: pool})
	if err != nil {
		return err
	}
	return dev.Add("console", unix.S_IFCHR, 5, 1, 0o600, chardev.Open(s.stdout))
}

// mount mounts fs at path, which is made if need be.
func mount(ns *vfs.Namespace, ctx *vfs.Context, path string, fs *vfs.FS) error {
	if err := vfs.Mkdir(ctx, ctx.Root, path, 0o755); err != nil && err != unix.EEXIST {
		return err
	}
	at, err := vfs.Lookup(ctx, ctx.Root, path, 0)
	if err != nil {
		return err
	}
	return ns.MountFS(at, fs, fs.Type, 0)
}

func rootContext(root vfs.Path) *vfs.Context {
	return &vfs.Context{Root: root, Cwd: root, Cred: cred.Root(), Umask: 0o022}
}
