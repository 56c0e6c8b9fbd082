package socket

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// A Message is what sendmsg(2) and recvmsg(2) hand over beside the bytes. A send or receive without one has an empty Message.
type Message struct {
	Caller
	// Flags are the MSG_ flags that the program gave.
	Flags int
	// Addr is where to send, nil: to the peer. Receive appends the source's address to it when WantAddr is set;
	// when it stays empty the program is told a length of 0.
	Addr     []byte
	WantAddr bool
	// Control is the ancillary data: decoded for Send, appended to by Receive.
	Control []Control
	// Rights are files received by SCM_RIGHTS, each with a reference that is the layer's; they come last.
	Rights []*vfs.File
	// Out are flags for the receiver's msg_flags: MSG_TRUNC, MSG_EOR, MSG_OOB, MSG_ERRQUEUE, MSG_CTRUNC.
	Out int
}

// Drop gives received files back.
func (m *Message) Drop() {
	for _, f := range m.Rights {
		f.DecRef()
	}
	m.Rights = nil
}

// A Control is one piece of ancillary data (cmsg(3)).
type Control struct {
	Level, Type int
	Data        []byte
}

// Sizes of ancillary data.
const (
	// controlHeader is sizeof(struct cmsghdr).
	controlHeader = 16
	// MaxControl is /proc/sys/net/core/optmem_max: more is refused with ENOBUFS.
	MaxControl = 20480
)

var le = binary.LittleEndian

func align8(n int) int { return (n + 7) &^ 7 }

// ParseControl decodes ancillary data as a program laid it out: EINVAL. The result refers to b.
func ParseControl(b []byte) (list []Control, err error) {
	for len(b) >= controlHeader {
		n := le.Uint64(b)
		if n < controlHeader || n > uint64(len(b)) {
			return nil, unix.EINVAL
		}
		list = append(list, Control{int(int32(le.Uint32(b[8:]))), int(int32(le.Uint32(b[12:]))), b[controlHeader:n]})
		b = b[min(align8(int(n)), len(b)):]
	}
	return list, nil
}

// AppendControl lays out c behind b, which may grow to room bytes. What does not fit is cut, and full is true
// (MSG_CTRUNC); without room for a header nothing is added.
func AppendControl(b []byte, room int, c Control) (_ []byte, full bool) {
	left := room - len(b)
	if left < controlHeader {
		return b, true
	}
	n := controlHeader + len(c.Data)
	if n > left {
		n, full = left, true
	}
	var h [controlHeader]byte
	le.PutUint64(h[:], uint64(n))
	le.PutUint32(h[8:], uint32(c.Level))
	le.PutUint32(h[12:], uint32(c.Type))
	b = append(append(b, h[:]...), c.Data[:n-controlHeader]...)
	for pad := min(align8(n), left) - n; pad > 0; pad-- {
		b = append(b, 0)
	}
	return b, full
}

// Ucred is struct ucred, the data of SCM_CREDENTIALS and SO_PEERCRED.
type Ucred struct {
	PID      int32
	UID, GID uint32
}

// SizeofUcred is its size in bytes.
const SizeofUcred = 12

// Bytes lays it out.
func (u Ucred) Bytes() []byte {
	b := make([]byte, SizeofUcred)
	le.PutUint32(b, uint32(u.PID))
	le.PutUint32(b[4:], u.UID)
	le.PutUint32(b[8:], u.GID)
	return b
}

// GetUcred reads one: EINVAL when b has another length.
func GetUcred(b []byte) (Ucred, error) {
	if len(b) != SizeofUcred {
		return Ucred{}, unix.EINVAL
	}
	return Ucred{int32(le.Uint32(b)), le.Uint32(b[4:]), le.Uint32(b[8:])}, nil
}

// AddTime adds a time stamp of a received message: typ is SCM_TIMESTAMP or SCM_TIMESTAMPNS, frac µs or ns.
func (m *Message) AddTime(typ int, sec, frac int64) {
	b := le.AppendUint64(le.AppendUint64(nil, uint64(sec)), uint64(frac))
	m.Control = append(m.Control, Control{unix.SOL_SOCKET, typ, b})
}
