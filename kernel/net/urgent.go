package net

import (
	"io"
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
)

// A mark is what a socket knows of urgent data: one byte of the stream, which the other end sent with MSG_OOB, and where it lies
// (tcp(7), RFC 6093; the states are those of Linux's tcp_input.c). Bytes are counted as TCP does, modulo 2³². Its user guards it.
type mark struct {
	state  markState
	b      byte
	at     uint32 // where the byte is
	copied uint32 // the first byte that was not read, as far as it is known
	skip   bool   // that byte was urgent before another came, and belongs to nobody
}

type markState uint8

const (
	unmarked markState = iota
	expected           // the byte is on its way
	present            // it is there, to be had with MSG_OOB
	taken              // it was had
)

// before compares two places in the stream.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// point notes that the byte at a place is urgent; next is where what has come ends. It reports whether that is news.
func (m *mark) point(at, copied, next uint32, inline bool) bool {
	if before(at, copied) || before(at, next) || m.state != unmarked && !before(m.at, at) {
		return false
	}
	if m.state != unmarked && m.at == copied && !inline && copied != next {
		m.skip = true
	}
	m.state, m.at, m.copied = expected, at, copied
	return true
}

// fill brings the byte.
func (m *mark) fill(b byte) bool {
	if m.state != expected {
		return false
	}
	m.state, m.b = present, b
	return true
}

// plan says how a read of the stream goes: how many bytes are left out, and how many may be read then.
func (m *mark) plan(copied uint32, inline bool) (skip, room int) {
	m.copied = copied
	if m.skip {
		skip = 1
	}
	left := int(int32(m.at - copied))
	switch {
	case m.state == unmarked || left < 0:
		return skip, math.MaxInt
	case left > skip:
		return skip, left - skip // a read ends before the mark
	case !inline:
		skip = left + 1
	}
	return skip, math.MaxInt
}

// took notes that bytes were read or left out.
func (m *mark) took(n int) {
	if n > 0 {
		m.skip = false
	}
	m.copied += uint32(n)
	if m.state != unmarked && before(m.at, m.copied) {
		m.state = unmarked
	}
}

// reached reports whether the urgent byte is the next one (sockatmark(3)).
func (m *mark) reached() bool { return m.state != unmarked && m.at == m.copied }

// limit is how many of n bytes FIONREAD tells of: those before the mark.
func (m *mark) limit(n int, inline bool) int {
	if left := int(int32(m.at - m.copied)); m.state != unmarked && !inline && left >= 0 {
		n = min(n, left)
	}
	return n
}

// poll adds what poll(2) says: readable is whether the stream has more than least bytes.
func (m *mark) poll(inline bool) (events wait.Mask, least int) {
	if m.state == present {
		events = unix.EPOLLPRI
	}
	if m.reached() && !inline {
		least = 1
	}
	return events, least
}

// receive is recv(2) with MSG_OOB: EINVAL when there is no urgent byte, or it lies in the stream; EAGAIN while it is on its way.
func (m *mark) receive(msg *socket.Message, dst uio.Sink, inline, closed bool) (int64, error) {
	switch {
	case inline || m.state == unmarked || m.state == taken:
		return 0, unix.EINVAL
	case m.state == expected && closed:
		return 0, nil
	case m.state == expected:
		return 0, unix.EAGAIN
	}
	b := m.b
	if msg.Flags&unix.MSG_PEEK == 0 {
		m.state = taken
	}
	msg.Out |= unix.MSG_OOB
	if dst.Left() == 0 {
		msg.Out |= unix.MSG_TRUNC
		return 0, nil
	}
	if msg.Flags&unix.MSG_TRUNC == 0 {
		if _, err := dst.Put([]byte{b}); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

// A limited takes no more than n bytes.
type limited struct {
	uio.Sink
	n int
}

func (l *limited) Put(b []byte) (int, error) {
	n, err := l.Sink.Put(b[:min(len(b), l.n)])
	l.n -= n
	return n, err
}
func (l *limited) PutWord(v uint64) error { return uio.WordTo(l, v) }
func (l *limited) Left() int              { return min(l.Sink.Left(), l.n) }

// A sink is a uio.Sink as an io.Writer for netstack, which does what the mark says.
type sink struct {
	dst     uio.Sink
	k       *sock
	peek    bool
	begun   bool // there is a mark
	skip    int
	room    int
	skipped int
}

// Begin is called by netstack (scripts/netstack), with the endpoint's lock held, before it writes what was received; only when there
// was urgent data.
func (w *sink) Begin(copied uint32) {
	w.k.markMu.Lock()
	w.begun = true
	w.skip, w.room = w.k.mark.plan(copied, w.k.s.Is(socket.OOBInline))
	w.k.markMu.Unlock()
}

func (w *sink) Write(b []byte) (int, error) {
	if !w.begun {
		n, err := w.dst.Put(b)
		return n, short(n, len(b), err)
	}
	out := min(w.skip, len(b))
	w.skip -= out
	w.skipped += out
	n, err := w.dst.Put(b[out : out+min(len(b)-out, w.room)])
	w.room -= n
	if !w.peek {
		w.k.markMu.Lock()
		w.k.mark.took(out + n)
		w.k.markMu.Unlock()
	}
	return out + n, short(out+n, len(b), err)
}

// short is io.ErrShortWrite when less was written without another reason.
func short(n, want int, err error) error {
	if n < want && err == nil {
		return io.ErrShortWrite
	}
	return err
}

// An urgentEndpoint is a TCP endpoint of the kernel's netstack (third_party/netstack/_add), which knows urgent data.
type urgentEndpoint interface {
	// OnUrgent has f called, with the endpoint's lock held, for what comes: where the urgent byte is, the first that was
	// not read, where what was received ends, and the byte, or -1 while it has not come.
	OnUrgent(f func(at, copied, next uint32, b int))
}

// expectUrgent begins to take urgent data of a stream.
func (k *sock) expectUrgent() {
	if e, ok := k.ep.(urgentEndpoint); ok {
		e.OnUrgent(k.urgentArrived)
	}
}

func (k *sock) urgentArrived(at, copied, next uint32, b int) {
	k.special.Store(true)
	k.markMu.Lock()
	news := k.mark.point(at, copied, next, k.s.Is(socket.OOBInline))
	filled := b >= 0 && k.mark.fill(byte(b))
	k.markMu.Unlock()
	k.tellUrgent(news, filled)
}

// tellUrgent tells the program of urgent data: that it comes, with SIGURG, and that it is there.
func (k *sock) tellUrgent(news, filled bool) {
	if news {
		k.s.Urgent()
	}
	if news || filled {
		k.s.Queue.Notify(readable | unix.EPOLLPRI)
	}
}

// receiveUrgent is recv(2) with MSG_OOB.
func (k *sock) receiveUrgent(m *socket.Message, dst uio.Sink) (int64, error) {
	if !k.stream() {
		return 0, unix.EOPNOTSUPP
	}
	inline := k.s.Is(socket.OOBInline)
	m.Nonblock = true // tcp_recv_urg waits for nothing
	if h := k.fast.Load(); h != nil {
		h.c.mu.Lock()
		defer h.c.mu.Unlock()
		me := h.mine()
		return me.mark.receive(m, dst, inline, me.fin || me.rshut || me.reset)
	}
	ended := k.pollStream()&unix.EPOLLRDHUP != 0
	k.markMu.Lock()
	defer k.markMu.Unlock()
	return k.mark.receive(m, dst, inline, ended)
}

// atMark is SIOCATMARK.
func (k *sock) atMark() bool {
	if h := k.fast.Load(); h != nil {
		h.c.mu.Lock()
		defer h.c.mu.Unlock()
		return h.mine().mark.reached()
	}
	k.markMu.Lock()
	defer k.markMu.Unlock()
	return k.mark.reached()
}

// urgentSource is a source whose last byte is urgent; netstack asks with the endpoint's lock held.
type urgentSource struct{ source }

// Urgent says that the last byte of what was taken is urgent.
func (urgentSource) Urgent() bool { return true }
