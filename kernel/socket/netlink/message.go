package netlink

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
	"gosv/kernel/socket"
)

// A request is one message of a program.
type request struct {
	k     *sock
	m     *socket.Message
	typ   int
	flags int
	seq   uint32
	whole []byte // with its header
	body  []byte // behind the header
	// spaces are the namespaces that it uses.
	spaces []*namespace.Head
}

const headerSize = unix.SizeofNlMsghdr

func align4(n int) int { return (n + 3) &^ 3 }

// requests serves the messages in b, one after the other. What is no message ends it, as on Linux.
func (k *sock) requests(m *socket.Message, b []byte) {
	for len(b) >= headerSize {
		n := int(le.Uint32(b))
		if n < headerSize || n > len(b) {
			return
		}
		r := request{k: k, m: m, typ: int(le.Uint16(b[4:])), flags: int(le.Uint16(b[6:])), seq: le.Uint32(b[8:]), whole: b[:n], body: b[headerSize:n]}
		b = b[min(align4(n), len(b)):]
		if r.flags&unix.NLM_F_REQUEST == 0 || r.typ < unix.NLMSG_MIN_TYPE {
			if r.flags&unix.NLM_F_ACK != 0 {
				r.ack(nil)
			}
			continue
		}
		done, err := r.serve()
		if err != nil || r.flags&unix.NLM_F_ACK != 0 && !done {
			r.ack(err)
		}
	}
}

// serve answers a request. done: the answer says itself that it is complete (a dump).
func (r *request) serve() (done bool, err error) {
	defer func() {
		for _, h := range r.spaces {
			h.Put()
		}
	}()
	if r.k.s.Protocol == unix.NETLINK_SOCK_DIAG {
		return r.diag()
	}
	return r.route()
}

// ack is NLMSG_ERROR, with error 0 for success.
func (r *request) ack(err error) {
	code := int32(0)
	if e, ok := err.(unix.Errno); ok {
		code = -int32(e)
	} else if err != nil {
		code = -int32(unix.EIO)
	}
	r.k.mu.Lock()
	short, extended, id := r.k.flags[unix.NETLINK_CAP_ACK], r.k.flags[unix.NETLINK_EXT_ACK], r.k.id
	r.k.mu.Unlock()
	flags := 0
	back := r.whole
	if code == 0 || short {
		back = r.whole[:headerSize]
		if extended {
			flags = unix.NLM_F_CAPPED
		}
	}
	b := begin(nil, unix.NLMSG_ERROR, flags, r.seq, id)
	b = append(le.AppendUint32(b, uint32(code)), back...)
	r.k.answer(finish(b, 0))
}

// begin appends a message's header; finish fills in its length. at is where it begins.
func begin(b []byte, typ, flags int, seq, id uint32) []byte {
	b = le.AppendUint32(b, 0)
	b = le.AppendUint16(b, uint16(typ))
	b = le.AppendUint16(b, uint16(flags))
	b = le.AppendUint32(b, seq)
	return le.AppendUint32(b, id)
}

func finish(b []byte, at int) []byte {
	le.PutUint32(b[at:], uint32(len(b)-at))
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// attr appends an attribute (rtnetlink(3)), padded to four bytes. It and its kin are not inlined: there are many of them,
// and none is in a hurry.
//
//go:noinline
func attr(b []byte, typ int, data []byte) []byte {
	b = le.AppendUint16(b, uint16(4+len(data)))
	b = le.AppendUint16(b, uint16(typ))
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// Attr32 appends an attribute of four bytes.
//
//go:noinline
func Attr32(b []byte, typ int, v uint32) []byte { return attr(b, typ, le.AppendUint32(nil, v)) }

// Attr8 appends an attribute of one byte.
//
//go:noinline
func Attr8(b []byte, typ int, v uint8) []byte { return attr(b, typ, []byte{v}) }

//go:noinline
func attrString(b []byte, typ int, s string) []byte {
	return attr(b, typ, append([]byte(s), 0))
}

// attributes are those of a request by type; the last of a type counts.
type attributes map[int][]byte

// typeMask takes the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER off a type.
const typeMask = 0x3fff

// parseAttributes reads attributes: EINVAL when lengths do not fit.
func parseAttributes(b []byte) (attributes, error) {
	list := make(attributes)
	for len(b) >= 4 {
		n := int(le.Uint16(b))
		if n < 4 || n > len(b) {
			return nil, unix.EINVAL
		}
		list[int(le.Uint16(b[2:]))&typeMask] = b[4:n]
		b = b[min(align4(n), len(b)):]
	}
	return list, nil
}

// uint32 returns a number: ok is false when there is none, or it is too short.
func (a attributes) uint32(typ int) (v uint32, ok bool) {
	if b := a[typ]; len(b) >= 4 {
		return le.Uint32(b), true
	}
	return 0, false
}

func (a attributes) text(typ int) string {
	b := a[typ]
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// A table is what a dump shows: the number of its entries, and how one is laid out behind b, nothing for those that
// the request does not ask for.
type table struct {
	n   int
	put func(b []byte, i int) []byte
}

// dump is a table on its way to a program. It is made anew for each packet; at is the next entry.
type dump struct {
	seq  uint32
	at   int
	make func() table
}

// Sizes of a packet of a dump: NLMSG_GOODSIZE, and the most that Linux makes when it has seen large buffers.
const (
	packetLeast = 3776
	packetMost  = 32 << 10
)

// startDump begins to answer with a table: EBUSY when another dump is not over.
func (r *request) startDump(make func() table) error {
	d := &dump{seq: r.seq, make: make}
	r.k.mu.Lock()
	busy := r.k.dump != nil
	if !busy {
		r.k.dump = d
	}
	r.k.mu.Unlock()
	if busy {
		return unix.EBUSY
	}
	r.k.goOn(d)
	return nil
}

// goOn puts the next packet of a dump into the queue.
func (k *sock) goOn(d *dump) {
	k.mu.Lock()
	if k.dump != d || len(k.queue) > 0 && k.bytes > k.s.RecvBuffer()/2 {
		k.mu.Unlock()
		return
	}
	room, id := max(packetLeast, min(k.largest, packetMost)), k.id
	k.mu.Unlock()

	t := d.make()
	var b []byte
	over := false
	for !over {
		if d.at >= t.n {
			at := len(b)
			b = begin(b, unix.NLMSG_DONE, unix.NLM_F_MULTI, d.seq, id)
			b = finish(le.AppendUint32(b, 0), at)
			over = true
			break
		}
		before := len(b)
		b = t.put(b, d.at)
		if before > 0 && len(b) > room {
			b = b[:before]
			break
		}
		d.at++
		if len(b) > before {
			le.PutUint16(b[before+6:], le.Uint16(b[before+6:])|unix.NLM_F_MULTI)
			le.PutUint32(b[before+8:], d.seq)
			le.PutUint32(b[before+12:], id)
		}
	}
	k.mu.Lock()
	if k.dump != d {
		k.mu.Unlock()
		return
	}
	err := k.put(b, 0)
	if over || err != nil {
		k.dump = nil
	}
	k.mu.Unlock()
	k.tell(err)
}
