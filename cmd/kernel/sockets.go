package main

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/fs/procfs"
	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/kernel/net"
	"gosv/kernel/socket"
	"gosv/kernel/socket/afunix"
	"gosv/kernel/socket/netlink"
	"gosv/kernel/socket/vsock"
)

// sockets are the networks that sockets belong to.
type sockets struct {
	inet  *net.Network
	local *afunix.Network
	vm    *vsock.Network
}

func newSockets(pool *mem.Pool, c *clock.Clock, n *net.Network, vm *vsock.Network) *sockets {
	s := &sockets{n, afunix.New(pool, c.Wall), vm}
	s.local.Ioctl = n.Ioctl
	return s
}

// families are the address families that sockets can have.
func (s *sockets) families() (l socket.Families) {
	l[unix.AF_UNIX] = s.local.Family()
	l[unix.AF_INET] = s.inet.INET()
	l[unix.AF_INET6] = s.inet.INET6()
	l[unix.AF_PACKET] = s.inet.Packet()
	n := netlink.New(s.inet.Netlink, s.local)
	n.Ioctl = s.inet.Ioctl
	l[unix.AF_NETLINK] = n.Family()
	l[unix.AF_VSOCK] = s.vm.Family()
	return l
}

// show adds what /proc tells about sockets of AF_UNIX.
func (s *sockets) show(proc *procfs.FS) {
	proc.Add("net/unix", 0o444, s.local.Proc, nil)
	proc.Add("sys/net/unix/max_dgram_qlen", 0o644, func() string { return strconv.Itoa(s.local.MaxQueue()) + "\n" }, func(text string) error {
		v, err := strconv.Atoi(text)
		if err != nil {
			return unix.EINVAL
		}
		return s.local.SetMaxQueue(v)
	})
}
