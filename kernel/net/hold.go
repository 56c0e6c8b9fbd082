package net

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/uio"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxDatagram is the most that a UDP datagram holds, in bytes.
const maxDatagram = 65507

// held is a datagram that sends with MSG_MORE (send(2), udp(7)) have begun; it goes where the first of them said.
type held struct {
	data []byte
	o    tcpip.WriteOptions
}

// udp reports whether k is a UDP socket.
func (k *sock) udp() bool { return k.s.Type == unix.SOCK_DGRAM && k.s.Protocol == unix.IPPROTO_UDP }

// hold adds src to the datagram that k holds, or begins one, and sends it when there is nothing more to come; done says that
// it did any of that. EMSGSIZE, EFAULT: then what was held is lost, as on Linux; EDESTADDRREQ, EAGAIN, ENOBUFS.
func (k *sock) hold(src uio.Source, o *tcpip.WriteOptions) (n int64, done bool, err error) {
	k.heldMu.Lock()
	defer k.heldMu.Unlock()
	h := k.held
	switch {
	case h == nil && !o.More:
		return 0, false, nil
	case k.ep.Readiness(waiter.WritableEvents) == 0:
		return 0, true, unix.EAGAIN
	case h == nil:
		if _, none := k.ep.GetRemoteAddress(); o.To == nil && none != nil {
			return 0, true, unix.EDESTADDRREQ
		}
		h = &held{o: *o}
	}
	k.letGo()
	b := make([]byte, min(src.Left(), maxDatagram+1))
	if len(h.data)+len(b) > maxDatagram {
		return 0, true, unix.EMSGSIZE
	}
	if got, err := src.Take(b); got < len(b) {
		if err == nil {
			err = unix.EFAULT
		}
		return 0, true, err
	}
	h.data = append(h.data, b...)
	if o.More {
		if !share.Datagrams.Take(int64(len(h.data))) {
			return 0, true, unix.ENOBUFS
		}
		k.held = h
		return int64(len(b)), true, nil
	}
	h.o.More = false
	all := uio.Buffer(h.data)
	if _, err := k.ep.Write(source{&all}, h.o); err != nil {
		return 0, true, errno(err)
	}
	return int64(len(b)), true, nil
}

// letGo takes what k holds out. k.heldMu is held.
//
// +checklocks:k.heldMu
func (k *sock) letGo() {
	if k.held != nil {
		share.Datagrams.Give(int64(len(k.held.data)))
		k.held = nil
	}
}
