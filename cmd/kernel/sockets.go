package main

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/kernel/socket"
	"gosv/kernel/socket/afunix"
)

// families are the address families that sockets can have.
func families(pool *mem.Pool, c *clock.Clock) (l socket.Families) {
	l[unix.AF_UNIX] = afunix.New(pool, c.Wall).Family()
	return l
}
