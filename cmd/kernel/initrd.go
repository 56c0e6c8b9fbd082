package main

import (
	"errors"
	"sync/atomic"

	"gosv/fs/erofs"
	"gosv/fs/rofs"
	"gosv/kernel/bootargs"
	"gosv/kernel/initramfs"
	"gosv/kernel/mem"
	"gosv/kernel/verity"
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
	if pages > 0 && (erofs.Probe(m.Bytes(first, pages)[:size]) || rofs.Probe(m.Bytes(first, pages)[:size])) {
		pool.AdoptRun(first, pages)
		return nil, &ramDisk{pool, first, m.Bytes(first, pages)[:size]}, nil
	}
	run, err = initramfs.Unpack(m, root, first, size)
	return run, nil, err
}

// asRoot makes the disk the root file system, unless the host asked for another.
func (d *ramDisk) asRoot(args *bootargs.Args) {
	if d != nil && args.Root == nil {
		args.Root = &bootargs.Mount{Source: initrdSource, Target: "/"}
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
func (d *ramDisk) Bytes(off, n int64) ([]byte, error) { return d.bytes[off : off+n], nil }

// Frame implements erofs.InMemory.
func (d *ramDisk) Frame(off int64) machine.Frame {
	f := d.first + machine.Frame(off/machine.PageSize)
	d.pool.Ref(f)
	return f
}

// verifiedDisk is a ramDisk whose blocks are checked against a Merkle tree before they are used first.
type verifiedDisk struct {
	*ramDisk
	tree    *verity.Device
	checked []atomic.Uint32 // a bit for each block
}

// verify returns the disk with the tree that v names in it.
func (d *ramDisk) verify(v *bootargs.Verity, log func(string)) (*verifiedDisk, error) {
	tree, err := openVerity(d, d, v, log)
	if err != nil {
		return nil, err
	}
	blocks := tree.Size() / tree.BlockSize()
	return &verifiedDisk{d, tree, make([]atomic.Uint32, blocks/32+1)}, nil
}

// check checks the blocks that hold a range: EIO.
func (d *verifiedDisk) check(off, n int64) error {
	size := d.tree.BlockSize()
	for block := off / size; block*size < off+n; block++ {
		word, bit := &d.checked[block/32], uint32(1)<<(block%32)
		if word.Load()&bit != 0 {
			continue
		}
		if err := d.tree.Check(d.bytes[block*size:][:size], block); err != nil {
			return err
		}
		word.Or(bit)
	}
	return nil
}

// Size implements erofs.Image.
func (d *verifiedDisk) Size() int64 { return d.tree.Size() }

// ReadAt implements erofs.Image.
func (d *verifiedDisk) ReadAt(p []byte, off int64) error {
	b, err := d.Bytes(off, int64(len(p)))
	copy(p, b)
	return err
}

// Bytes implements erofs.InMemory.
func (d *verifiedDisk) Bytes(off, n int64) ([]byte, error) {
	if err := d.check(off, n); err != nil {
		return nil, err
	}
	return d.bytes[off : off+n], nil
}

// Frame implements erofs.InMemory.
func (d *verifiedDisk) Frame(off int64) machine.Frame {
	if d.check(off, machine.PageSize) != nil {
		return machine.NoFrame
	}
	return d.ramDisk.Frame(off)
}

// openVerity opens the data that v's tree checks.
func openVerity(data, tree verity.Source, v *bootargs.Verity, log func(string)) (*verity.Device, error) {
	d, err := verity.Open(data, tree, int64(v.Offset), v.Root, log)
	if err != nil {
		return nil, errors.New("verity: the tree cannot be used: " + err.Error())
	}
	return d, nil
}
