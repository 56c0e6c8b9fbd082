package main

import (
	"gosv/driver/virtio"
	driver "gosv/driver/vsock"
	"gosv/kernel/socket/vsock"
	"gosv/machine"
)

// newVsock describes AF_VSOCK. Its device, the first of the machine, is started when the first socket is made; without
// one, programs in the machine reach each other.
func newVsock(m machine.Machine, found devices, l *log) *vsock.Network {
	return vsock.New(func() vsock.Device {
		list := found[virtio.TypeVsock]
		if len(list) == 0 {
			return nil
		}
		d, err := driver.New(list[0], m)
		if err != nil {
			l.problem(err)
			return nil
		}
		return d
	})
}
