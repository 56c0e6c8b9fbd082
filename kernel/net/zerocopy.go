package net

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/socket"
)

// copies are the sends with MSG_ZEROCOPY of a socket with SO_ZEROCOPY of which the program was not told that it may change what it sent. The bytes are copied while they
// are sent, so each is done at once, and says that it was copied (SO_EE_CODE_ZEROCOPY_COPIED), as on Linux where a packet stays within the machine; who
// is told so does better without the flag. See Linux's Documentation/networking/msg_zerocopy.rst.
type copies struct {
	mu    sync.Mutex
	next  uint32 // number of the next send; guarded by mu
	first uint32 // the first that the program was not told of; guarded by mu
}

// Copied implements socket.ZeroCopier.
func (k *sock) Copied() {
	k.copies.mu.Lock()
	if k.copies.next+1 != k.copies.first { // no more than a range can tell
		k.copies.next++
	}
	k.copies.mu.Unlock()
	k.s.Queue.Notify(unix.EPOLLERR)
}

// waiting reports whether there is something to tell.
func (c *copies) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next != c.first
}

// take returns the range of sends that are done, and forgets it; ok is false when there are none.
func (c *copies) take() (first, last uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, last, ok = c.first, c.next-1, c.first != c.next
	c.first = c.next
	return first, last, ok
}

// Of struct sock_extended_err.
const (
	originZeroCopy = 5 // SO_EE_ORIGIN_ZEROCOPY
	codeCopied     = 1 // SO_EE_CODE_ZEROCOPY_COPIED
)

// receiveCopied is recvmsg(2) with MSG_ERRQUEUE where sends with MSG_ZEROCOPY are done: no bytes, and their numbers. ok is false when there are none.
func (k *sock) receiveCopied(m *socket.Message) (ok bool) {
	first, last, ok := k.copies.take()
	if !ok {
		return false
	}
	level, typ, address := unix.IPPROTO_IP, unix.IP_RECVERR, sizeInet4
	if k.s.Family == unix.AF_INET6 {
		level, typ, address = unix.IPPROTO_IPV6, unix.IPV6_RECVERR, sizeInet6
	}
	data := make([]byte, sizeExtendedErr+address) // no address
	data[4], data[6] = originZeroCopy, codeCopied
	binary.LittleEndian.PutUint32(data[8:], first)
	binary.LittleEndian.PutUint32(data[12:], last)
	m.Control = append(m.Control, socket.Control{Level: level, Type: typ, Data: data})
	m.Out |= unix.MSG_ERRQUEUE
	return true
}
