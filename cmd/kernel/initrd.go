package main

import (
	"gosv/fs/erofs"
	"gosv/kernel/bootargs"
	"gosv/kernel/initramfs"
	"gosv/kernel/mem"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// ramDisk is an initial RAM disk that holds the image of a file system. It is used where it lies.
type ramDisk struct {
	pool  *mem.Pool
	first machine.Frame
	bytes []byte
}

// unpack fills root from the initial RAM disk, and returns the run file; or it returns the disk when that is an image.
func unpack(m machine.Machine, pool *mem.Pool, root vfs.Path) (run []byte, image *ramDisk, err error) {
	first, size := m.Initrd()
	pages := int((size + machine.PageSize - 1) / machine.PageSize)
	if pages > 0 && erofs.Probe(m.Bytes(first, pages)[:size]) {
		pool.AdoptRun(first, pages)
		return nil, &ramDisk{pool, first, m.Bytes(first, pages)[:size]}, nil
	}
	run, err = initramfs.Unpack(m, root, first, size)
	return run, nil, err
}

// asRoot makes the disk the root file system, unless the host asked for another.
func (d *ramDisk) asRoot(args *bootargs.Args) {
	if d != nil && args.Root == nil {
		args.Root = &bootargs.Mount{Source: initrdSource, Target: "/", Type: "erofs"}
	}
}

// initrdSource names the initial RAM disk as the source of a mount.
const initrdSource = "initrd"

// ReadAt implements erofs.Image.
func (d *ramDisk) ReadAt(p []byte, off int64) error {
	copy(p, d.bytes[off:])
	return nil
}

// Size implements erofs.Image.
func (d *ramDisk) Size() int64 { return int64(len(d.bytes)) }

// Bytes implements erofs.InMemory.
func (d *ramDisk) Bytes(off, n int64) []byte { return d.bytes[off : off+n] }

// Frame implements erofs.InMemory.
func (d *ramDisk) Frame(off int64) machine.Frame {
	f := d.first + machine.Frame(off/machine.PageSize)
	d.pool.Ref(f)
	return f
}
