package main

import (
	"strings"
	"sync"
	"weak"

	"golang.org/x/sys/unix"

	"gosv/driver/blk"
	"gosv/driver/nvme"
	"gosv/driver/pci"
	"gosv/driver/pmem"
	"gosv/driver/virtio"
	"gosv/fs/devfs"
	"gosv/fs/erofs"
	"gosv/fs/ext4"
	"gosv/kernel/block"
	"gosv/kernel/blockdev"
	"gosv/kernel/bootargs"
	"gosv/kernel/mem"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// disks are the machine's disks and their device files.
type disks struct {
	*block.Registry
	files *blockdev.Files

	mu      sync.Mutex
	mounted map[*block.Disk]weak.Pointer[vfs.FS] // the file system on a disk, while it has one; guarded by mu
}

// findDisks starts the disks and reads their partition tables.
func findDisks(m machine.Machine, pool *mem.Pool, found devices, nvmes []*pci.Function, l *log) *disks {
	r := block.NewRegistry(m, m.Monotonic)
	list := startAll(found, virtio.TypeBlock, l, func(t virtio.Transport) (*blk.Device, error) { return blk.New(t, m) })
	pmems := startAll(found, virtio.TypePmem, l, func(t virtio.Transport) (*pmem.Device, error) { return pmem.New(t, m) })
	if len(list)+len(pmems)+len(nvmes) > 0 {
		if err := r.Reserve(pool.Reclaim); err != nil {
			l.problem(err)
		}
	}
	for _, d := range list {
		r.Add(block.Virtio, d)
	}
	for _, d := range pmems {
		r.Add(block.Pmem, d)
	}
	for _, f := range nvmes {
		if d, err := nvme.Open(f, m); err != nil {
			l.problem(err)
		} else {
			r.Add(block.NVMe, d)
		}
	}
	return &disks{Registry: r, files: blockdev.New(r, pool, openOf), mounted: map[*block.Disk]weak.Pointer[vfs.FS]{}}
}

// addTo makes device files of the disks, now and when they come.
func (d *disks) addTo(dev *devfs.Devices, l *log) {
	const mode = 0o660
	d.OnChange(func(b *block.Disk) {
		if err := dev.Add(b.Name, unix.S_IFBLK, b.Major, b.Minor, mode, d.files.Open(b)); err != nil {
			l.line("gosv: /dev/" + b.Name + ": " + err.Error())
		}
		d.files.Show(b)
	}, func(b *block.Disk) {
		_ = dev.Remove(b.Name) // a program may have done so already
		d.files.Unshow(b)
	})
	const miscMajor, loopMinor = 10, 237
	if err := dev.Add("loop-control", unix.S_IFCHR, miscMajor, loopMinor, mode, d.files.OpenLoopControl); err != nil {
		l.line("gosv: /dev/loop-control: " + err.Error())
	}
}

// source claims the disk that a mount names: by its device file, by its name before there are any, or by PARTUUID=,
// PARTLABEL=, UUID= or LABEL=. ENOTBLK, ENOENT, ENXIO, EACCES, EBUSY. What is returned ends the claim.
func (d *disks) source(r *vfs.MountRequest) (*block.Disk, func(), error) {
	disk, err := d.find(r)
	if err != nil {
		return nil, nil, err
	}
	if err := d.files.Forget(disk); err != nil {
		return nil, nil, err
	}
	if err := disk.Claim(new(int)); err != nil {
		return nil, nil, r.Fail(err, disk.Name+" is in use")
	}
	return disk, func() {
		_ = d.files.Forget(disk) // what was read of it meanwhile is out of date
		disk.Release()
		d.files.Idle(disk)
	}, nil
}

func (d *disks) find(r *vfs.MountRequest) (*block.Disk, error) {
	var found *block.Disk
	key, value, tagged := strings.Cut(r.Source, "=")
	if tagged && key != "" && key[0] != '/' {
		found = d.tagged(key, value)
	} else if p, err := vfs.Lookup(r.Ctx, vfs.Path{}, r.Source, 0); err == nil {
		i := p.Inode()
		switch {
		case i.Type() != unix.S_IFBLK:
			return nil, r.Fail(unix.ENOTBLK, r.Source+" is no block device")
		case p.Mount.Flags()&unix.MS_NODEV != 0:
			return nil, unix.EACCES
		}
		if found = d.ByNumber(unix.Major(i.Rdev), unix.Minor(i.Rdev)); found == nil {
			return nil, unix.ENXIO
		}
	} else if name, ok := strings.CutPrefix(r.Source, "/dev/"); ok {
		found = d.ByName(name)
	}
	if found == nil {
		return nil, r.Fail(unix.ENOENT, "no block device "+r.Source)
	}
	return found, nil
}

// tagged finds a disk by what mount(8) calls a tag.
func (d *disks) tagged(key, value string) *block.Disk {
	for _, b := range d.Disks() {
		label, uuid := b.Label, b.UUID
		switch key {
		case "UUID", "LABEL":
			if label, uuid = ext4.Identity(b); uuid == "" {
				label, uuid = erofs.Identity(diskImage{b})
			}
		case "PARTUUID", "PARTLABEL":
		default:
			return nil
		}
		if strings.HasSuffix(key, "UUID") && uuid != "" && strings.EqualFold(uuid, value) ||
			strings.HasSuffix(key, "LABEL") && label != "" && label == value {
			return b
		}
	}
	return nil
}

// ext4 is source for that type, which is not read through a Merkle tree.
func (d *disks) ext4(r *vfs.MountRequest, args *bootargs.Args) (ext4.Disk, string, func(), error) {
	if args.Verity != nil && args.Root != nil && r.Source == args.Root.Source {
		return nil, "", nil, r.Fail(unix.EINVAL, "verity= is for EROFS and ROFS")
	}
	disk, release, err := d.source(r)
	if err != nil {
		return nil, "", nil, err
	}
	if !r.ReadOnly() && disk.Limits().ReadOnly {
		release()
		return nil, "", nil, r.Fail(unix.EACCES, disk.Name+" is read-only")
	}
	return disk, disk.Name, release, nil
}

// verify returns the contents of a disk checked by a Merkle tree, behind them on the disk or on one of its own.
func (d *disks) verify(r *vfs.MountRequest, disk *block.Disk, v *bootargs.Verity, log func(string)) (image, func(), error) {
	tree, done := disk, func() {}
	if v.Tree != "" {
		var err error
		if tree, done, err = d.source(&vfs.MountRequest{Ctx: r.Ctx, Source: v.Tree, Flags: unix.MS_RDONLY}); err != nil {
			return nil, nil, r.Fail(err, "no device "+v.Tree+" for the verity tree")
		}
	}
	verified, err := openVerity(diskImage{disk}, diskImage{tree}, v, log)
	if err != nil {
		done()
		return nil, nil, r.Fail(unix.EIO, err.Error())
	}
	if verified.BlockSize() == machine.PageSize {
		return verifiedImage{verified, diskImage{disk}}, done, nil
	}
	return verified, done, nil
}

// addTypes makes the types of file systems known that live on disks only.
func (d *disks) addTypes(ns *vfs.Namespace, pool *mem.Pool, now func() int64, args *bootargs.Args, l *log) {
	find := func(r *vfs.MountRequest) (ext4.Disk, string, func(), error) { return d.ext4(r, args) }
	for _, t := range ext4.Types(ext4.Config{Pool: pool, Now: now, Log: l.line, Find: find}) {
		ns.AddType(d.shared(t))
	}
}

// shared has a type mount what is mounted already once more: a disk has one file system, whose device number is the disk's.
func (d *disks) shared(t vfs.Type) vfs.Type {
	mount := t.New
	t.New = func(r *vfs.MountRequest) (*vfs.FS, error) {
		disk, err := d.find(r)
		if err != nil {
			r.Problem = ""
			return mount(r) // from elsewhere, or it says what is wrong
		}
		d.mu.Lock()
		fs := d.mounted[disk].Value()
		d.mu.Unlock()
		if fs != nil && fs.Type == t.Name && (fs.ReadOnly || fs.ReadOnlyNow() == r.ReadOnly()) && fs.Hold() {
			r.Held = true
			return fs, nil
		}
		if fs, err = mount(r); err == nil {
			fs.Dev = unix.Mkdev(disk.Major, disk.Minor)
			d.mu.Lock()
			d.mounted[disk] = weak.Make(fs)
			d.mu.Unlock()
		}
		return fs, err
	}
	return t
}

// openOf returns the open file that a descriptor of a task stands for, with a reference.
func openOf(caller any, fd int) (*vfs.File, error) {
	t, ok := caller.(*task.Task)
	if !ok {
		return nil, unix.EBADF
	}
	return t.Files.Get(fd)
}
