package main

import (
	"golang.org/x/sys/unix"

	"gosv/driver/blk"
	"gosv/driver/virtio"
	"gosv/fs/devfs"
	"gosv/kernel/block"
	"gosv/kernel/blockdev"
	"gosv/kernel/mem"
	"gosv/machine"
)

// disks are the machine's disks and their device files.
type disks struct {
	*block.Registry
	files *blockdev.Files
}

// findDisks starts the disks and reads their partition tables.
func findDisks(m machine.Machine, pool *mem.Pool, found devices, l *log) *disks {
	r := block.NewRegistry(m, m.Monotonic)
	for _, d := range startAll(found, virtio.TypeBlock, l, func(t virtio.Transport) (*blk.Device, error) { return blk.New(t, m) }) {
		r.Add(block.Virtio, d)
	}
	return &disks{r, blockdev.New(r, pool)}
}

// addTo makes device files of the disks, now and when they come.
func (d *disks) addTo(dev *devfs.Devices, l *log) {
	const mode = 0o660
	d.OnChange(func(b *block.Disk) {
		if err := dev.Add(b.Name, unix.S_IFBLK, b.Major, b.Minor, mode, d.files.Open(b)); err != nil {
			l.line("gosv: /dev/" + b.Name + ": " + err.Error())
		}
	}, func(b *block.Disk) {
		_ = dev.Remove(b.Name) // a program may have done so already
	})
}
