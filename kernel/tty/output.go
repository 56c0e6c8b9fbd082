package tty

import "golang.org/x/sys/unix"

// output is what waits for the far side, and what is known of the screen. Terminal.mu guards it.
type output struct {
	out  fifo // for the far side
	echo fifo // comes after out, when output is possible again

	column        int  // of the cursor
	lineColumn    int  // where the line that is being edited began
	erasing       bool // between the marks \ and / of ECHOPRT
	stopped       bool
	stoppedByCall bool // by TCOOFF, so that only TCOON starts again
}

// writeRoom returns how many bytes of a program are certain to fit, as they are changed on their way.
//
// +checklocks:t.mu
func (t *Terminal) writeRoom() int {
	if t.stopped {
		return 0
	}
	free := outputSize - t.out.len() - t.echo.len()
	switch {
	case !t.o(unix.OPOST):
	case t.oflag&unix.TABDLY == unix.XTABS:
		free /= 8
	default:
		free /= 2
	}
	return max(free, 0)
}

// write puts a program's bytes on their way.
//
// +checklocks:t.mu
func (t *Terminal) write(p []byte) {
	if !t.o(unix.OPOST) {
		t.out.put(p...)
		return
	}
	for len(p) > 0 {
		n := plain(p)
		if t.o(unix.OLCUC) || t.i(unix.IUTF8) {
			n = 0
		}
		t.out.put(p[:n]...)
		t.column += n
		if p = p[n:]; len(p) > 0 {
			t.process(&t.out, p[0])
			p = p[1:]
		}
	}
}

// plain returns how many bytes at the start of p each take one column and nothing else.
func plain(p []byte) int {
	for i, c := range p {
		if c < ' ' || c >= 0x7f {
			return i
		}
	}
	return len(p)
}

// process is the output processing of one byte (OPOST), which goes to q.
//
// +checklocks:t.mu
func (t *Terminal) process(q *fifo, c byte) {
	switch c {
	case '\n':
		if t.o(unix.ONLRET) {
			t.column = 0
		}
		if t.o(unix.ONLCR) {
			t.column, t.lineColumn = 0, 0
			q.put('\r', '\n')
			return
		}
		t.lineColumn = t.column
	case '\r':
		if t.o(unix.ONOCR) && t.column == 0 {
			return
		}
		if t.o(unix.OCRNL) {
			c = '\n'
			if !t.o(unix.ONLRET) {
				break
			}
		}
		t.column, t.lineColumn = 0, 0
	case '\t':
		spaces := 8 - t.column&7
		t.column += spaces
		if t.oflag&unix.TABDLY == unix.XTABS {
			for range spaces {
				q.put(' ')
			}
			return
		}
	case '\b':
		t.back()
	default:
		if isControl(c) {
			break
		}
		if t.o(unix.OLCUC) {
			c = toUpper(c)
		}
		if !t.continues(c) {
			t.column++
		}
	}
	q.put(c)
}

// +checklocks:t.mu
func (t *Terminal) back() {
	if t.column > 0 {
		t.column--
	}
}

// stop and start are flow control: ^S and ^Q, and tcflow(3).
//
// +checklocks:t.mu
func (t *Terminal) stop() {
	if !t.stopped {
		t.stopped = true
		t.packet(unix.TIOCPKT_STOP, unix.TIOCPKT_START)
	}
}

// +checklocks:t.mu
func (t *Terminal) start() {
	if !t.stopped || t.stoppedByCall {
		return
	}
	t.stopped = false
	t.packet(unix.TIOCPKT_START, unix.TIOCPKT_STOP)
	t.ready |= writable
}

// flushEcho sends echoes that waited.
//
// +checklocks:t.mu
func (t *Terminal) flushEcho() {
	if t.stopped || t.echo.len() == 0 {
		return
	}
	n := min(t.echo.len(), max(outputSize-t.out.len(), 0))
	t.out.put(t.echo.bytes()[:n]...)
	t.echo.drop(n)
}

// flushOutput forgets the output that the far side has not begun to take.
//
// +checklocks:t.mu
func (t *Terminal) flushOutput() {
	if t.pty != nil {
		t.out.cut(inputSize - 1) // so much Linux has passed on to the master's own line discipline
		t.packet(unix.TIOCPKT_FLUSHWRITE, 0)
	} else {
		t.out.clear()
	}
	t.ready |= writable
}

// push brings output to the far side.
//
// +checklocks:t.mu
func (t *Terminal) push() {
	if t.out.len() == 0 {
		return
	}
	if t.pty != nil {
		t.masterReady |= readable
		return
	}
	if t.host != nil {
		t.host.send(t)
	}
}

// drained is called when the far side has taken output.
//
// +checklocks:t.mu
func (t *Terminal) drained() {
	t.flushEcho()
	if t.writeRoom() > 0 {
		t.ready |= writable
	}
}

// packet tells the master of a pseudo-terminal in packet mode what happened (TIOCPKT).
//
// +checklocks:t.mu
func (t *Terminal) packet(set, clear byte) {
	if p := t.pty; p != nil && p.packet {
		p.status = p.status&^clear | set
		t.masterReady |= readable | unix.EPOLLPRI
	}
}
