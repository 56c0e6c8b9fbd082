package tty

import "golang.org/x/sys/unix"

// input is the buffer that a program reads from. Positions run free; the buffer is a
// ring. Terminal.mu guards it.
type input struct {
	buf  [inputSize]byte
	ends [inputSize / 64]uint64 // set for the bytes that end a line
	tail uint32                 // read so far
	line uint32                 // up to here lines are complete; what is behind may be edited
	head uint32                 // received so far

	literal bool // the next byte stands for itself (VLNEXT)

	pending fifo // from the far side, until there is room
}

func (in *input) at(pos uint32) *byte { return &in.buf[pos%inputSize] }

func (in *input) isEnd(pos uint32) bool { return in.ends[pos%inputSize/64]>>(pos%64)&1 != 0 }
func (in *input) setEnd(pos uint32)     { in.ends[pos%inputSize/64] |= 1 << (pos % 64) }
func (in *input) clearEnd(pos uint32)   { in.ends[pos%inputSize/64] &^= 1 << (pos % 64) }

// put adds a byte; when there is no room it takes the place of the last one.
func (in *input) put(c byte) {
	if in.head-in.tail == inputSize {
		in.head--
	}
	*in.at(in.head) = c
	in.head++
}

// canonical reports whether input is made of lines, for programs that read.
//
// +checklocks:t.mu
func (t *Terminal) canonical() bool { return t.lflag&(unix.ICANON|unix.EXTPROC) == unix.ICANON }

// flushInput forgets all input.
//
// +checklocks:t.mu
func (t *Terminal) flushInput() {
	in := &t.input
	in.tail, in.line, in.head = 0, 0, 0
	clear(in.ends[:])
	t.erasing = false
}

// room returns how many bytes receive takes now. An unfinished line is taken
// however long, so that it can be edited and ended; what is too much is lost.
//
// +checklocks:t.mu
func (t *Terminal) room() int {
	free := inputSize - int(t.head-t.tail)
	if t.i(unix.PARMRK) {
		free = (free + 2) / 3 // each byte may become three
	}
	if free--; free > 0 {
		return free
	}
	if t.l(unix.ICANON) && t.line == t.tail {
		return 1
	}
	return 0
}

// receive takes input from the far side, as much as there is room for, and returns how much.
//
// +checklocks:t.mu
func (t *Terminal) receive(p []byte) (n int) {
	line, raw := t.line, t.head
	for n < len(p) {
		room := t.room()
		if room == 0 {
			break
		}
		if t.head-t.tail == inputSize {
			t.head-- // the line is full: the last byte gives way
		}
		for _, c := range p[n : n+min(room, len(p)-n)] {
			t.char(c)
			n++
		}
	}
	if t.lflag&(unix.ECHO|unix.ECHONL) != 0 {
		t.flushEcho()
	}
	if t.line != line || !t.canonical() && t.head != raw {
		t.ready |= readable
	}
	t.push()
	return n
}

// refill receives what waited for room.
//
// +checklocks:t.mu
func (t *Terminal) refill() {
	for t.pending.len() > 0 {
		n := t.receive(t.pending.bytes())
		if n == 0 {
			return
		}
		t.pending.drop(n)
		if t.pty != nil {
			t.masterReady |= writable
		}
	}
	if t.host != nil && t.host.waits {
		t.host.waits = false
		t.host.bell.Ring()
	}
}

// char takes one byte of input.
//
// +checklocks:t.mu
func (t *Terminal) char(c byte) {
	if t.i(unix.ISTRIP) {
		c &= 0x7f
	}
	if t.i(unix.IUCLC) && t.l(unix.IEXTEN) {
		c = toLower(c)
	}
	switch {
	case t.l(unix.EXTPROC):
		t.put(c)
		return
	case t.literal:
		t.literal = false
		t.wakeByAny()
		t.ordinary(c, false)
		return
	case t.control(c):
		return
	case c == '\r' && t.i(unix.IGNCR):
		t.wakeByAny()
		return
	case c == '\r' && t.i(unix.ICRNL):
		t.special('\n')
		return
	case c == '\n' && t.i(unix.INLCR):
		t.special('\r')
		return
	case t.l(unix.ICANON) && c == '\n':
		t.special(c)
		return
	}
	t.wakeByAny()
	if t.l(unix.ICANON) && t.edit(c) {
		return
	}
	t.ordinary(c, false)
}

// special is char for the end of a line, which another byte may have become.
//
// +checklocks:t.mu
func (t *Terminal) special(c byte) {
	t.wakeByAny()
	if t.l(unix.ICANON) && t.edit(c) {
		return
	}
	t.ordinary(c, c == '\n')
}

// ordinary echoes and keeps a byte; newline: it echoes as an end of line.
//
// +checklocks:t.mu
func (t *Terminal) ordinary(c byte, newline bool) {
	if t.l(unix.ECHO) {
		t.endErasing()
		if newline {
			t.echoByte('\n')
		} else {
			if t.line == t.head {
				t.lineColumn = t.column
			}
			t.echoChar(c)
		}
	}
	if c == 0xff && t.i(unix.PARMRK) {
		t.put(c)
	}
	t.put(c)
}

// wakeByAny lets any byte restart output (IXANY).
//
// +checklocks:t.mu
func (t *Terminal) wakeByAny() {
	if t.stopped && !t.stoppedByCall && t.iflag&(unix.IXON|unix.IXANY) == unix.IXON|unix.IXANY {
		t.start()
		t.flushEcho()
	}
}

// control does what the bytes for flow control and signals ask for.
//
// +checklocks:t.mu
func (t *Terminal) control(c byte) bool {
	if t.i(unix.IXON) {
		switch {
		case t.is(c, unix.VSTART):
			t.start()
			t.flushEcho()
			return true
		case t.is(c, unix.VSTOP):
			t.stop()
			return true
		}
	}
	if !t.l(unix.ISIG) {
		return false
	}
	switch {
	case t.is(c, unix.VINTR):
		t.interrupt(unix.SIGINT, c)
	case t.is(c, unix.VQUIT):
		t.interrupt(unix.SIGQUIT, c)
	case t.is(c, unix.VSUSP):
		t.interrupt(unix.SIGTSTP, c)
	default:
		return false
	}
	return true
}

// interrupt sends a signal, and unless NOFLSH is set forgets input and output.
//
// +checklocks:t.mu
func (t *Terminal) interrupt(sig unix.Signal, c byte) {
	t.signalAndFlush(sig)
	if t.i(unix.IXON) {
		t.start()
	}
	if t.l(unix.ECHO) {
		t.echoChar(c)
	} else {
		t.flushEcho()
	}
}

// +checklocks:t.mu
func (t *Terminal) signalAndFlush(sig unix.Signal) {
	t.raise(sig)
	if t.l(unix.NOFLSH) {
		return
	}
	t.echo.clear()
	t.flushOutput()
	t.flushInput()
	t.packet(unix.TIOCPKT_FLUSHREAD, 0)
}

// edit does what c means to the line; false when c is a part of it.
//
// +checklocks:t.mu
func (t *Terminal) edit(c byte) bool {
	ext := t.l(unix.IEXTEN)
	switch {
	case t.is(c, unix.VERASE):
		t.erase(eraseChar)
	case t.is(c, unix.VKILL):
		t.erase(eraseLine)
	case ext && t.is(c, unix.VWERASE):
		t.erase(eraseWord)
	case ext && t.is(c, unix.VLNEXT):
		t.literal = true
		if t.l(unix.ECHO) {
			t.endErasing()
			if t.l(unix.ECHOCTL) {
				t.echoByte('^')
				t.echoByte('\b')
			}
		}
	case ext && t.l(unix.ECHO) && t.is(c, unix.VREPRINT):
		t.reprint(c)
	case c == '\n':
		if t.lflag&(unix.ECHO|unix.ECHONL) != 0 {
			t.echoByte('\n')
		}
		t.endLine(c)
	case t.is(c, unix.VEOF):
		t.endLine(disabled)
	case t.is(c, unix.VEOL), ext && t.is(c, unix.VEOL2):
		if t.l(unix.ECHO) {
			if t.line == t.head {
				t.lineColumn = t.column
			}
			t.echoChar(c)
		}
		if c == 0xff && t.i(unix.PARMRK) {
			t.put(c)
		}
		t.endLine(c)
	default:
		return false
	}
	return true
}

// endLine completes the line; c is disabled for an end of file, which the reader does not see.
//
// +checklocks:t.mu
func (t *Terminal) endLine(c byte) {
	t.setEnd(t.head)
	t.put(c)
	t.line = t.head
}

// modeChanged follows a change of ICANON or EXTPROC: what was received becomes a line, or no lines.
func (in *input) modeChanged(canonical bool) {
	clear(in.ends[:])
	in.line = in.tail
	if canonical && in.head != in.tail {
		in.setEnd(in.head - 1)
		in.line = in.head
	}
	in.literal = false
}

// available returns whether at least n bytes, or a line, can be read.
//
// +checklocks:t.mu
func (t *Terminal) available(n int) bool {
	if t.canonical() {
		return t.line != t.tail
	}
	return int(t.head-t.tail) >= n
}

// unread is FIONREAD.
//
// +checklocks:t.mu
func (t *Terminal) unread() int {
	if !t.canonical() {
		return int(t.head - t.tail)
	}
	n := 0
	for pos := t.tail; pos != t.line; pos++ {
		if !t.isEnd(pos) || *t.at(pos) != disabled {
			n++
		}
	}
	return n
}

// take moves input to p. In canonical mode that is at most one line, and end tells that it ended here.
//
// +checklocks:t.mu
func (t *Terminal) take(p []byte) (n int, end bool) {
	if !t.canonical() {
		for n < len(p) && t.tail != t.head {
			p[n] = *t.at(t.tail)
			t.tail++
			n++
		}
		if n == 1 && t.lflag&(unix.ICANON|unix.EXTPROC) == unix.ICANON|unix.EXTPROC && t.is(p[0], unix.VEOF) && t.tail == t.head {
			n = 0 // a lone end of file from a remote editor
		}
		return n, false
	}
	for t.tail != t.line && !end {
		c := *t.at(t.tail)
		end = t.isEnd(t.tail)
		eof := end && c == disabled
		if n == len(p) && !eof {
			return n, false
		}
		if !eof {
			p[n] = c
			n++
		}
		t.clearEnd(t.tail)
		t.tail++
	}
	return n, end
}
