package main

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/kernel/net"
	"gosv/kernel/socket"
	"gosv/kernel/socket/afunix"
	"gosv/kernel/socket/netlink"
)

// families are the address families that sockets can have.
func families(pool *mem.Pool, c *clock.Clock, n *net.Network) (l socket.Families) {
	local := afunix.New(pool, c.Wall)
	l[unix.AF_UNIX] = local.Family()
	l[unix.AF_INET] = n.INET()
	l[unix.AF_INET6] = n.INET6()
	l[unix.AF_NETLINK] = netlink.New(n.Netlink, local).Family()
	return l
}
