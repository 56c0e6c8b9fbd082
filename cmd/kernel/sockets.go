package main

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/kernel/net"
	"gosv/kernel/socket"
	"gosv/kernel/socket/afunix"
)

// families are the address families that sockets can have.
func families(pool *mem.Pool, c *clock.Clock, n *net.Network) (l socket.Families) {
	l[unix.AF_UNIX] = afunix.New(pool, c.Wall).Family()
	l[unix.AF_INET] = n.INET()
	l[unix.AF_INET6] = n.INET6()
	return l
}
