package net

import (
	"math"
	"math/rand/v2"
	"sync"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"gosv/kernel/share"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
)

// A short cut for connections of TCP within the machine. Both ends lie in one kernel, so bytes go from one to
// the other without segments: what a program sees is a connection of TCP, states, half-close, reset and
// all, but nothing of it is on an interface. The port of the client is netstack's, as is the
// listener, to which others may connect from elsewhere.
//
// Lock order: sock.mu → Network.mu; conn.mu is below both and above the wait queues. User memory is copied
// with conn.mu held.

// A conn is such a connection.
type conn struct {
	mu   sync.Mutex
	ends [2]end
}

// An end is what one socket holds of a conn. conn.mu guards it.
type end struct {
	k             *sock // nil before accept(2)
	local, remote tcpip.FullAddress
	ring          ring // of what has come and was not read
	fin           bool // the other end sends no more
	reset         bool // the connection was torn down
	rshut, wshut  bool // shutdown(2)
	closed        bool
	full          bool // the writer found no room since the last wake-up

	read   uint64 // bytes that were read
	writes uint32 // what they came in
	mark   mark
}

// A half is one end as its socket sees it.
type half struct {
	c     *conn
	index int
}

func (h *half) mine() *end   { return &h.c.ends[h.index] }
func (h *half) theirs() *end { return &h.c.ends[1-h.index] }

// ring is a queue of bytes whose room grows with what is written, up to a limit.
type ring struct {
	b       []byte // its length is a power of two, or 0
	head, n int    // first byte, how many
	limit   int    // of n; there may be more when it was lowered
	peak    int    // most bytes since the room was last looked at
	emptied int    // how often it became empty since
	taken   int    // bytes of share.Streams
	starved bool   // there were no more when it was to grow, and nothing was read since
}

const (
	ringLeast = 512 // when memory is short
	ringMin   = 4 << 10
	ringMax   = 256 << 10
)

// writable says that there is room for so much that a writer is told: a third, as Linux's sk_stream_is_writeable has it.
func (r *ring) writable() bool { return r.limit-r.n >= r.limit/3 && !r.starved }

// fill takes bytes from src until it is empty or the ring is full, which it is earlier when memory for streams is short.
func (r *ring) fill(src uio.Source) (total int, err error) {
	for src.Left() > 0 && r.n < r.limit {
		if r.n == len(r.b) {
			if r.grow(r.n + min(src.Left(), r.limit-r.n)); r.n == len(r.b) {
				r.starved = true
				break
			}
		}
		at := (r.head + r.n) & (len(r.b) - 1)
		n, err := src.Take(r.b[at:min(at+min(len(r.b), r.limit)-r.n, len(r.b))])
		r.n += n
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
	return total, nil
}

// grow makes room for want bytes, if there is as much memory. A few bytes go through in any case.
func (r *ring) grow(want int) {
	size := max(len(r.b), ringMin)
	for size < want {
		size *= 2
	}
	if size == len(r.b) {
		size *= 2
	}
	size = min(size, ringMax)
	switch {
	case share.Streams.Take(int64(size - r.taken)):
		r.taken = size
	case len(r.b) > 0:
		return
	default:
		size = ringLeast
	}
	b := make([]byte, size)
	n := copy(b, r.b[r.head:min(r.head+r.n, len(r.b))])
	copy(b[n:], r.b[:r.n-n])
	r.b, r.head = b, 0
}

// release gives the room back.
func (r *ring) release() {
	share.Streams.Give(int64(r.taken))
	r.b, r.taken = nil, 0
}

// drain gives bytes to dst until it is full or the ring is empty; with peek they stay.
func (r *ring) drain(dst uio.Sink, peek bool) (total int, err error) {
	head, left := r.head, r.n
	for left > 0 && dst.Left() > 0 && err == nil {
		var n int
		n, err = dst.Put(r.b[head:min(head+left, len(r.b))])
		head, left, total = (head+n)&(len(r.b)-1), left-n, total+n
		if n == 0 {
			break
		}
	}
	if !peek {
		r.starved = r.starved && total == 0
		r.peak = max(r.peak, r.n)
		if r.head, r.n = head, left; left == 0 {
			r.head = 0
			r.shrink()
		}
	}
	return total, err
}

// shrink gives room back that has not been used for a while. The ring is empty.
func (r *ring) shrink() {
	const while = 64
	if r.emptied++; r.emptied < while {
		return
	}
	if len(r.b) > ringMin && r.peak <= len(r.b)/4 {
		r.release()
	}
	r.emptied, r.peak = 0, 0
}

// isLocal reports whether an address is this machine's.
func (n *Network) isLocal(a tcpip.Address) bool {
	if a.Len() == header.IPv4AddressSize {
		if b := a.As4(); b[0] == 127 {
			return true
		}
	} else if a == header.IPv6Loopback {
		return true
	}
	return n.Stack().CheckLocalAddress(0, protocolOf(a), a) != 0
}

// unmapped is the IPv4 address that a stands for, or a.
func unmapped(a tcpip.Address) tcpip.Address {
	if header.IsV4MappedAddress(a) {
		b := a.As16()
		return tcpip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// listeners are the sockets that listen, by port. Network.mu guards it.
type listeners map[uint16][]*sock

// listening enters k, which has begun to listen.
func (n *Network) listening(k *sock) {
	a, err := k.ep.GetLocalAddress()
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if k.listens {
		return
	}
	k.listens, k.bound = true, a
	if n.listen == nil {
		n.listen = listeners{}
	}
	n.listen[a.Port] = append(n.listen[a.Port], k)
}

// deaf takes k from the list.
func (n *Network) deaf(k *sock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !k.listens {
		return
	}
	k.listens = false
	list := n.listen[k.bound.Port]
	for i, o := range list {
		if o == k {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(n.listen, k.bound.Port)
	} else {
		n.listen[k.bound.Port] = list
	}
}

// listener finds who listens at an address: who named it before who listens at all, one of several by chance (SO_REUSEPORT).
func (n *Network) listener(a tcpip.FullAddress) *sock {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found *sock
	best, count := 0, 0
	for _, k := range n.listen[a.Port] {
		score := 0
		switch own := unmapped(k.bound.Addr); {
		case own == a.Addr:
			score = 3
		case own.Len() != 0 && own != header.IPv4Any && own != header.IPv6Any:
			continue
		case k.s.Family == unix.AF_INET && a.Addr.Len() == header.IPv4AddressSize, k.s.Family == unix.AF_INET6 && a.Addr.Len() == header.IPv6AddressSize:
			score = 2
		case k.s.Family == unix.AF_INET6 && own.Len() == 0 && !k.ep.SocketOptions().GetV6Only():
			score = 1
		default:
			continue
		}
		if score > best {
			found, best, count = k, score, 1
		} else if score == best {
			if count++; rand.IntN(count) == 0 {
				found = k
			}
		}
	}
	return found
}

// shortcut connects k to a listener of this machine; false: there is none, or one that wants it the long way. k.mu is held.
func (k *sock) shortcut(a tcpip.FullAddress) bool {
	a.Addr = unmapped(a.Addr)
	if k.net.taps.any() || k.ep.SocketOptions().GetBindToDevice() != 0 || !k.net.isLocal(a.Addr) {
		return false
	}
	l := k.net.listener(a)
	if l == nil || l == k || l.ep.SocketOptions().GetBindToDevice() != 0 {
		return false
	}
	from, ok := k.clientAddress(a.Addr)
	if !ok {
		return false
	}
	c := &conn{}
	c.ends[0].k, c.ends[0].local, c.ends[0].remote = k, from, a
	c.ends[1].local, c.ends[1].remote = a, from
	c.ends[0].ring.limit, c.ends[1].ring.limit = ringLimit(l, k), ringLimit(k, l)
	l.fastMu.Lock()
	if l.fastClosed || l.deferred || len(l.pending) > l.backlog {
		l.fastMu.Unlock()
		return false
	}
	l.pending = append(l.pending, c)
	l.fastMu.Unlock()
	k.fast.Store(&half{c, 0})
	l.s.Queue.Notify(readable)
	return true
}

// clientAddress binds k to a port if it has none, and returns its address as the one at to sees it.
func (k *sock) clientAddress(to tcpip.Address) (tcpip.FullAddress, bool) {
	own := to
	if to.Len() == header.IPv4AddressSize && to.As4()[0] == 127 {
		own = tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if k.state() == tcp.StateInitial {
		at := own
		if k.s.Family == unix.AF_INET6 && own.Len() == header.IPv4AddressSize {
			at = mapped(own)
		}
		if err := k.ep.Bind(tcpip.FullAddress{Addr: at}); err != nil {
			return tcpip.FullAddress{}, false
		}
	}
	a, err := k.ep.GetLocalAddress()
	if err != nil || a.Port == 0 {
		return a, false
	}
	if a.Addr = unmapped(a.Addr); a.Addr.Len() == 0 || a.Addr == header.IPv4Any || a.Addr == header.IPv6Any {
		a.Addr = own
	}
	return tcpip.FullAddress{Addr: a.Addr, Port: a.Port}, a.Addr.Len() == to.Len()
}

// acceptFast returns a socket for a connection that came by the short cut; nil when there is none.
func (k *sock) acceptFast() (*sock, error) {
	k.fastMu.Lock()
	if len(k.pending) == 0 {
		k.fastMu.Unlock()
		return nil, nil
	}
	c := k.pending[0]
	k.pending = k.pending[1:]
	k.fastMu.Unlock()
	n, err := k.net.newEndpoint(k.s.Family, k.s.Type, k.s.Protocol)
	if err != nil {
		(&half{c, 1}).close(true)
		return nil, err
	}
	n.inherit(k)
	c.mu.Lock()
	c.ends[1].k = n
	c.mu.Unlock()
	n.fast.Store(&half{c, 1})
	return n, nil
}

// ringLimit is how many bytes may lie between two sockets: what SO_SNDBUF and SO_RCVBUF say, where somebody set them.
func ringLimit(from, to *sock) int {
	limit := 0
	for _, asked := range []int32{from.sendAsked.Load(), to.recvAsked.Load()} {
		if asked == 0 {
			asked = ringMax / 2
		}
		limit += int(asked)
	}
	return min(limit, ringMax)
}

// resize follows a change of SO_SNDBUF or SO_RCVBUF.
func (h *half) resize() {
	h.c.mu.Lock()
	a, b := &h.c.ends[0], &h.c.ends[1]
	var wake [2]*sock
	if a.k != nil && b.k != nil {
		a.ring.limit, b.ring.limit = ringLimit(b.k, a.k), ringLimit(a.k, b.k)
		wake = [2]*sock{a.k, b.k}
	}
	h.c.mu.Unlock()
	notify(wake[0], writable)
	notify(wake[1], writable)
}

// inherit gives an accepted socket the options of the listener (accept(2)).
func (k *sock) inherit(from *sock) {
	k.s.Inherit(&from.s.Options)
	k.sendAsked.Store(from.sendAsked.Load())
	k.recvAsked.Store(from.recvAsked.Load())
	from.mu.Lock()
	set := from.opts.set
	from.mu.Unlock()
	for _, key := range set {
		if b, err := from.option(key[0], key[1]); err == nil {
			_ = k.setOption(nil, key[0], key[1], b) // what a listener has the other may have
		}
	}
	k.ep.SocketOptions().SetLinger(from.ep.SocketOptions().GetLinger())
}

// closePending ends the connections that nobody accepted.
func (k *sock) closePending() {
	k.fastMu.Lock()
	list := k.pending
	k.pending, k.fastClosed = nil, true
	k.fastMu.Unlock()
	for _, c := range list {
		(&half{c, 1}).close(true)
	}
}

// notify wakes who waits for an end; c.mu is not held.
func notify(k *sock, m wait.Mask) {
	if k != nil {
		k.s.Queue.Notify(m)
	}
}

func (h *half) send(src uio.Source, urgent bool) (int64, error) {
	h.c.mu.Lock()
	me, peer := h.mine(), h.theirs()
	switch {
	case me.wshut || me.reset:
		h.c.mu.Unlock()
		return 0, unix.EPIPE
	case peer.closed:
		// The other end is gone, which the answer to this segment tells (RFC 9293 §3.5.2).
		me.reset = true
		k := me.k
		h.c.mu.Unlock()
		n, err := (&discarded{}).all(src, peer.ring.limit)
		k.s.SetError(unix.EPIPE)
		notify(k, anything)
		return n, err
	}
	if src.Left() == 0 {
		h.c.mu.Unlock()
		return 0, nil
	}
	n, err := peer.ring.fill(src)
	if src.Left() > 0 {
		me.full = true
	}
	if n > 0 {
		peer.writes++
	}
	news := urgent && n > 0 && peer.urgent(n)
	k := peer.k
	h.c.mu.Unlock()
	if n > 0 {
		notify(k, readable)
		if news && k != nil {
			k.tellUrgent(true, true)
		}
		return int64(n), nil
	}
	if err == nil {
		err = unix.EAGAIN
	}
	return 0, err
}

// urgent marks the last of n bytes that have just come.
func (e *end) urgent(n int) bool {
	next := uint32(e.read) + uint32(e.ring.n)
	inline := e.k != nil && e.k.s.Is(socket.OOBInline)
	news := e.mark.point(next-1, uint32(e.read), next-uint32(n), inline)
	e.mark.fill(e.ring.b[(e.ring.head+e.ring.n-1)&(len(e.ring.b)-1)])
	return news
}

// drain reads bytes that have come, as the mark says.
func (e *end) drain(dst uio.Sink, peek bool) (int, error) {
	skip := 0
	if e.mark.state != unmarked || e.mark.skip {
		var room int
		skip, room = e.mark.plan(uint32(e.read), e.k.s.Is(socket.OOBInline))
		if skip = min(skip, e.ring.n); skip > 0 && peek {
			r := e.ring
			r.head, r.n = (r.head+skip)&(len(r.b)-1), r.n-skip
			return r.drain(&limited{dst, room}, true)
		}
		if skip > 0 {
			_, _ = e.ring.drain(&discard{skip}, false) // it takes all
		}
		dst = &limited{dst, room}
	}
	n, err := e.ring.drain(dst, peek)
	if !peek {
		e.read += uint64(skip + n)
		e.mark.took(skip + n)
	}
	return n, err
}

// discarded takes bytes that nobody will read.
type discarded struct{ b [512]byte }

// all takes what a socket would have sent before the reset comes, most bytes.
func (d *discarded) all(src uio.Source, most int) (total int64, err error) {
	for src.Left() > 0 && total < int64(most) {
		n, err := src.Take(d.b[:min(len(d.b), src.Left())])
		total += int64(n)
		if n == 0 {
			return total, err
		}
	}
	return total, nil
}

func (h *half) receive(m *socket.Message, dst uio.Sink) (int64, error) {
	h.c.mu.Lock()
	me, peer := h.mine(), h.theirs()
	n, err := me.drain(dst, m.Flags&unix.MSG_PEEK != 0)
	if n > 0 || err != nil {
		wake := peer.full && me.ring.writable()
		if wake {
			peer.full = false
		}
		k := peer.k
		h.c.mu.Unlock()
		if wake {
			notify(k, writable)
		}
		if n > 0 {
			err = nil
		}
		return int64(n), err
	}
	ended := me.fin || me.rshut || me.reset
	full := dst.Left() == 0
	k := me.k
	h.c.mu.Unlock()
	switch {
	case k.s.HasError():
		return 0, k.s.TakeError()
	case ended || full:
		return 0, nil
	}
	return 0, unix.EAGAIN
}

func (h *half) poll() (ready wait.Mask) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	me, peer := h.mine(), h.theirs()
	urgent, least := me.mark.poll(me.k != nil && me.k.s.Is(socket.OOBInline))
	ready = urgent
	if me.ring.n >= least+me.k.s.RecvLowat() || me.fin || me.rshut || me.reset {
		ready |= readable
	}
	if me.fin || me.rshut || me.reset {
		ready |= unix.EPOLLRDHUP
	}
	if (me.fin || me.rshut) && me.wshut || me.reset {
		ready |= unix.EPOLLHUP
	}
	if me.wshut || me.reset || peer.closed || peer.ring.writable() {
		ready |= writable
	} else {
		me.full = true // whoever polled wants to be told
	}
	return ready
}

func (h *half) shutdown(how int) error {
	h.c.mu.Lock()
	me, peer := h.mine(), h.theirs()
	if me.reset || me.fin && me.wshut {
		h.c.mu.Unlock()
		return unix.ENOTCONN
	}
	if how != unix.SHUT_WR {
		me.rshut = true
	}
	if how != unix.SHUT_RD {
		me.wshut, peer.fin = true, true
	}
	a, b := me.k, peer.k
	h.c.mu.Unlock()
	notify(a, anything)
	notify(b, anything)
	return nil
}

// close ends this end. abort, or bytes that were not read, reset the connection.
func (h *half) close(abort bool) {
	h.c.mu.Lock()
	me, peer := h.mine(), h.theirs()
	if me.closed {
		h.c.mu.Unlock()
		return
	}
	abort = abort || me.ring.n > 0
	me.closed, me.wshut, peer.fin = true, true, true
	me.ring.release()
	me.ring = ring{limit: me.ring.limit}
	k := peer.k
	var failed bool
	if abort && !peer.closed && !peer.reset {
		peer.reset, failed = true, true
	}
	h.c.mu.Unlock()
	if failed && k != nil {
		k.s.SetError(unix.ECONNRESET)
	}
	notify(k, anything)
}

// state is the state of TCP that the connection would be in.
func (h *half) state() tcp.EndpointState {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	me := h.mine()
	switch {
	case me.reset || me.closed:
		return tcp.StateClose
	case me.fin && me.wshut:
		return tcp.StateTimeWait
	case me.fin:
		return tcp.StateCloseWait
	case me.wshut:
		return tcp.StateFinWait2
	}
	return tcp.StateEstablished
}

// queued is how many bytes wait to be read, as FIONREAD tells it.
func (h *half) queued() int {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	me := h.mine()
	return me.mark.limit(me.ring.n, me.k.s.Is(socket.OOBInline))
}

// name is getsockname(2), or with peer getpeername(2).
func (h *half) name(family int, peer bool) ([]byte, error) {
	h.c.mu.Lock()
	me := h.mine()
	a, gone := me.local, me.reset || me.fin && me.wshut
	if peer {
		a = me.remote
	}
	h.c.mu.Unlock()
	if peer && gone {
		return nil, unix.ENOTCONN
	}
	return formatAddr(family, a), nil
}

// fastSegment is the size of a segment in bytes that the short cut would send: what fits into a packet of lo.
const fastSegment = math.MaxUint16 - header.IPv4MinimumSize - header.TCPMinimumSize - 12 // time stamps
