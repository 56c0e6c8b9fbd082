package main

import (
	"gosv/driver/virtio"
	driver "gosv/driver/virtiofs"
	"gosv/fs/virtiofs"
	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/machine"
)

// shares starts the devices behind which folders of the host are.
func (found devices) shares(m machine.Machine, pool *mem.Pool, c *clock.Clock, l *log) *virtiofs.Tags {
	tags := &virtiofs.Tags{Pool: pool, Wall: c.Wall, Monotonic: m.Monotonic}
	for _, d := range startAll(found, virtio.TypeFS, l, func(t virtio.Transport) (*driver.Device, error) { return driver.New(t, m) }) {
		if !tags.Add(d.Tag(), d) {
			l.line("gosv: two file system devices have the tag " + d.Tag())
			d.Close()
		}
	}
	return tags
}
