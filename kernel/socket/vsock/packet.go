package vsock

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

// HeaderSize is the size of a packet's header (virtio 1.2 §5.10.6).
const HeaderSize = 44

// Operations of packets.
const (
	opRequest       = 1
	opResponse      = 2
	opReset         = 3
	opShutdown      = 4
	opRW            = 5
	opCreditUpdate  = 6
	opCreditRequest = 7

	typeStream = 1
)

// A Header is struct virtio_vsock_hdr.
type Header struct {
	SrcCID, DstCID   uint64
	SrcPort, DstPort uint32
	Len              uint32 // of the payload, in bytes
	Type, Op         uint16
	Flags            uint32
	BufAlloc, FwdCnt uint32
}

// GetHeader reads a header; b has HeaderSize bytes at least.
func GetHeader(b []byte) Header {
	b = b[:HeaderSize]
	return Header{le.Uint64(b), le.Uint64(b[8:]), le.Uint32(b[16:]), le.Uint32(b[20:]), le.Uint32(b[24:]),
		le.Uint16(b[28:]), le.Uint16(b[30:]), le.Uint32(b[32:]), le.Uint32(b[36:]), le.Uint32(b[40:])}
}

// Bytes lays the header out.
func (h *Header) Bytes() []byte {
	b := make([]byte, 0, HeaderSize)
	b = le.AppendUint64(le.AppendUint64(b, h.SrcCID), h.DstCID)
	b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, h.SrcPort), h.DstPort), h.Len)
	b = le.AppendUint16(le.AppendUint16(b, h.Type), h.Op)
	return le.AppendUint32(le.AppendUint32(le.AppendUint32(b, h.Flags), h.BufAlloc), h.FwdCnt)
}

// send puts a packet of the connection on its way; mu is held.
func (k *sock) send(op uint16, flags uint32, payload []byte) {
	k.told = k.forwarded
	h := Header{
		SrcCID: k.net.source(k.remote.cid), DstCID: k.remote.cid, SrcPort: k.port, DstPort: k.remote.remotePort,
		Type: typeStream, Op: op, Flags: flags, BufAlloc: k.buffer, FwdCnt: k.forwarded,
	}
	var from *sock
	if payload != nil {
		from = k
	}
	k.net.push(outgoing{h, payload, from})
}

// source is the number that a packet to a machine comes from: the peer of a local connection is addressed as it was.
func (n *Network) source(to uint64) uint64 {
	if to == unix.VMADDR_CID_LOCAL {
		return to
	}
	return n.CID()
}

// push puts a packet behind those that wait, and makes sure that somebody sends them.
func (n *Network) push(p outgoing) {
	p.h.Len = uint32(len(p.payload))
	n.out.Add(p, 0)
}

// transmit sends a packet.
func (n *Network) transmit(p outgoing) {
	if n.local(p.h.DstCID) {
		n.receive(p.h.Bytes(), p.payload)
	} else if n.dev != nil && n.dev.Send(p.h.Bytes(), p.payload) != nil {
		n.reset()
	}
	if p.from != nil {
		n.heap.Add(-int64(len(p.payload)))
		p.from.unsent.Add(-int32(len(p.payload)))
		p.from.s.Queue.Notify(writable)
	}
}

// refuse answers a packet that belongs to no connection.
func (n *Network) refuse(h *Header) {
	if h.Op == opReset {
		return
	}
	if n.out.Len() <= maxOut {
		n.push(outgoing{h: Header{SrcCID: h.DstCID, DstCID: h.SrcCID, SrcPort: h.DstPort, DstPort: h.SrcPort, Type: h.Type, Op: opReset}})
	}
}

// reset loses all connections.
func (n *Network) reset() {
	n.mu.Lock()
	var list []*sock
	for _, k := range n.conns {
		if !n.local(k.remote.cid) {
			list = append(list, k)
		}
	}
	for _, k := range list {
		k.mu.Lock()
		k.peerShut = shutBoth
		k.fail(unix.ECONNRESET)
		k.mu.Unlock()
	}
	n.mu.Unlock()
}

// receive takes one packet from the device, or from the machine itself. The driver has checked that payload is Len bytes.
func (n *Network) receive(header, payload []byte) {
	if len(header) < HeaderSize {
		return
	}
	h := GetHeader(header)
	if int(h.Len) != len(payload) || !n.local(h.DstCID) {
		return
	}
	if h.Type != typeStream {
		n.refuse(&h)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := n.conns[connection{h.DstPort, h.SrcCID, h.SrcPort}]; k != nil {
		k.mu.Lock()
		k.packet(&h, payload)
		k.mu.Unlock()
		return
	}
	l := n.bound[h.DstPort]
	if l == nil || h.Op != opRequest {
		n.refuse(&h)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != listening || len(l.pending) > l.backlog {
		n.refuse(&h)
		return
	}
	l.welcome(&h)
}

// welcome makes a connection of a request; Network.mu and l.mu are held.
func (l *sock) welcome(h *Header) {
	k := l.net.newSock()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.buffer, k.named, k.local, k.port = l.buffer, true, h.DstCID, h.DstPort
	k.remote = connection{h.DstPort, h.SrcCID, h.SrcPort}
	k.state, k.was = connected, true
	k.peerBuffer, k.peerForwarded = h.BufAlloc, h.FwdCnt
	l.net.conns[k.remote] = k
	k.send(opResponse, 0, nil)
	l.pending = append(l.pending, k)
	l.s.Queue.Notify(readable)
}

// packet serves a packet of a connection; Network.mu and k.mu are held.
func (k *sock) packet(h *Header, payload []byte) {
	k.peerBuffer, k.peerForwarded = h.BufAlloc, h.FwdCnt
	if k.state == connecting {
		switch h.Op {
		case opResponse:
			k.state, k.was = connected, true
			k.timer.Stop()
			k.s.Queue.Notify(writable)
		case opReset:
			k.fail(unix.ECONNRESET)
		default:
			k.send(opReset, 0, nil)
			k.fail(unix.EPROTO)
		}
		return
	}
	switch h.Op {
	case opRW:
		k.data(payload)
	case opCreditUpdate:
		k.s.Queue.Notify(writable)
	case opCreditRequest:
		k.send(opCreditUpdate, 0, nil)
	case opShutdown:
		k.peerShut |= h.Flags & shutBoth
		if k.peerShut == shutBoth && k.bytes == 0 {
			k.send(opReset, 0, nil)
			k.disconnect()
		}
		k.s.Queue.Notify(anything)
	case opReset:
		k.peerShut = shutBoth
		k.disconnect()
		k.s.Queue.Notify(anything)
	}
}

// data puts bytes into the queue. More than the peer has credit for, or than there is room for at all, ends the
// connection. Both locks are held.
func (k *sock) data(b []byte) {
	if len(b) == 0 || k.shut&shutRead != 0 {
		return
	}
	if k.bytes+len(b) > int(max(k.buffer, mostBuffer)) || k.net.heap.Load() > heapMost() {
		k.send(opReset, 0, nil)
		k.peerShut = shutBoth
		k.fail(unix.ECONNRESET)
		return
	}
	k.queue = append(k.queue, append([]byte(nil), b...))
	k.bytes += len(b)
	k.net.heap.Add(int64(len(b)))
	k.s.Queue.Notify(readable)
}
