package tty

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Sizes of the structures of ioctl_tty(2) on x86-64.
const (
	sizeofTermio   = 18
	sizeofTermios  = 36
	sizeofTermios2 = 44
	sizeofWinsize  = 8
)

const (
	controlChars = 19 // NCCS of the kernel
	termioChars  = 8  // NCC
	disabled     = 0  // _POSIX_VDISABLE
)

// termios is the kernel's struct termios2.
type termios struct {
	iflag, oflag, cflag, lflag uint32
	discipline                 uint8 // c_line
	cc                         [controlChars]uint8
	ispeed, ospeed             uint32
}

func (m *termios) i(flag uint32) bool { return m.iflag&flag != 0 }
func (m *termios) o(flag uint32) bool { return m.oflag&flag != 0 }
func (m *termios) l(flag uint32) bool { return m.lflag&flag != 0 }

// is reports whether c is the control character i, which a disabled one never is.
func (m *termios) is(c byte, i int) bool { return c != disabled && m.cc[i] == c }

// defaultTermios is Linux's tty_std_termios as pseudo-terminals have it.
func defaultTermios() termios {
	return termios{
		iflag: unix.ICRNL | unix.IXON,
		oflag: unix.OPOST | unix.ONLCR,
		cflag: unix.B38400 | unix.CS8 | unix.CREAD,
		lflag: unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN,
		cc: [controlChars]uint8{
			unix.VINTR: 3, unix.VQUIT: 0x1c, unix.VERASE: 0x7f, unix.VKILL: 0x15, unix.VEOF: 4, unix.VMIN: 1,
			unix.VSTART: 0x11, unix.VSTOP: 0x13, unix.VSUSP: 0x1a, unix.VREPRINT: 0x12, unix.VDISCARD: 0x0f,
			unix.VWERASE: 0x17, unix.VLNEXT: 0x16,
		},
		ispeed: 38400, ospeed: 38400,
	}
}

// encode writes struct termios2, whose beginning is struct termios.
func (m *termios) encode(b *[sizeofTermios2]byte) {
	le := binary.LittleEndian
	for i, v := range [...]uint32{m.iflag, m.oflag, m.cflag, m.lflag} {
		le.PutUint32(b[4*i:], v)
	}
	b[16] = m.discipline
	copy(b[17:], m.cc[:])
	le.PutUint32(b[36:], m.ispeed)
	le.PutUint32(b[40:], m.ospeed)
}

// decode reads struct termios, or struct termios2 when b is as long.
func (m *termios) decode(b []byte) {
	le := binary.LittleEndian
	m.iflag, m.oflag, m.cflag, m.lflag = le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	m.discipline = b[16]
	copy(m.cc[:], b[17:sizeofTermios])
	if len(b) == sizeofTermios2 {
		m.ispeed, m.ospeed = le.Uint32(b[36:]), le.Uint32(b[40:])
	}
}

// encodeOld writes struct termio: the lower halves of the flags and the first control characters.
func (m *termios) encodeOld(b *[sizeofTermio]byte) {
	for i, v := range [...]uint32{m.iflag, m.oflag, m.cflag, m.lflag} {
		binary.LittleEndian.PutUint16(b[2*i:], uint16(v))
	}
	b[8] = m.discipline
	copy(b[9:9+termioChars], m.cc[:])
}

// decodeOld reads struct termio; what it has not stays.
func (m *termios) decodeOld(b []byte) {
	for i, v := range [...]*uint32{&m.iflag, &m.oflag, &m.cflag, &m.lflag} {
		*v = *v&^0xffff | uint32(binary.LittleEndian.Uint16(b[2*i:]))
	}
	m.discipline = b[8]
	copy(m.cc[:termioChars], b[9:])
}

// speeds are the rates that the codes B0, B50 … B38400 and B57600 … B4000000 stand for.
var speeds = [...]uint32{
	0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400,
	57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000,
}

// rate returns the speed that a code of CBAUD stands for, custom for BOTHER.
func rate(code, custom uint32) uint32 {
	const other = unix.BOTHER
	if code == other {
		return custom
	}
	n := code & 0xf
	if code&other != 0 {
		n += 15
	}
	if int(n) < len(speeds) {
		return speeds[n]
	}
	return 0
}

// inputShift is IBSHIFT: where c_cflag has the code of the input speed.
const inputShift = 16

// setSpeeds makes the speeds say what c_cflag does.
func (m *termios) setSpeeds() {
	out := rate(m.cflag&unix.CBAUD, m.ospeed)
	in := out
	if code := m.cflag >> inputShift & unix.CBAUD; code != 0 {
		in = rate(code, m.ispeed)
	}
	m.ispeed, m.ospeed = in, out
}

// setTermios changes the modes.
//
// +checklocks:t.mu
func (t *Terminal) setTermios(m termios) {
	m.cflag = m.cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD // there is no line that could be otherwise
	old := t.termios
	t.termios = m
	if (old.lflag^m.lflag)&(unix.ICANON|unix.EXTPROC) != 0 {
		t.modeChanged(t.l(unix.ICANON))
		t.erasing = false
	}
	if old.i(unix.IXON) && !m.i(unix.IXON) {
		t.start()
		t.flushEcho()
	}
	t.tellPacket(&old)
	t.ready |= readable | writable
}

// tellPacket tells a master in packet mode of changes that concern it (TIOCPKT).
//
// +checklocks:t.mu
func (t *Terminal) tellPacket(old *termios) {
	if was, is := old.usualFlow(), t.usualFlow(); is != was {
		if is {
			t.packet(unix.TIOCPKT_DOSTOP, unix.TIOCPKT_NOSTOP)
		} else {
			t.packet(unix.TIOCPKT_NOSTOP, unix.TIOCPKT_DOSTOP)
		}
	}
	if (old.lflag|t.lflag)&unix.EXTPROC != 0 {
		t.packet(unix.TIOCPKT_IOCTL, 0)
	}
}

// usualFlow reports whether ^S and ^Q control the flow.
func (m *termios) usualFlow() bool {
	return m.i(unix.IXON) && m.cc[unix.VSTOP] == 0x13 && m.cc[unix.VSTART] == 0x11
}
