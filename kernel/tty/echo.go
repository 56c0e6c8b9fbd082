package tty

import "golang.org/x/sys/unix"

// emit adds to the echo, which is sent when all input at hand has been received. What is
// too much, as output is stopped, is lost.
//
// +checklocks:t.mu
func (t *Terminal) emit(p ...byte) {
	t.echo.put(p[:min(len(p), max(echoSize-t.echo.len(), 0))]...)
}

// echoByte echoes c as programs' output is processed.
//
// +checklocks:t.mu
func (t *Terminal) echoByte(c byte) {
	if !t.o(unix.OPOST) {
		t.emit(c)
		return
	}
	var q fifo
	var room [8]byte
	q.b = room[:0]
	t.process(&q, c)
	t.emit(q.b...)
}

// echoChar echoes c, a control character as ^X if ECHOCTL says so.
//
// +checklocks:t.mu
func (t *Terminal) echoChar(c byte) {
	switch {
	case t.l(unix.ECHOCTL) && isControl(c) && c != '\t':
		t.emit('^', c^0x40)
		t.column += 2
	case c == 0xff:
		t.emit(c)
		t.column++
	default:
		t.echoByte(c)
	}
}

// endErasing closes what ECHOPRT began.
//
// +checklocks:t.mu
func (t *Terminal) endErasing() {
	if t.erasing {
		t.echoByte('/')
		t.erasing = false
	}
}

// reprint shows the line again (VREPRINT).
//
// +checklocks:t.mu
func (t *Terminal) reprint(c byte) {
	t.endErasing()
	t.echoChar(c)
	t.echoByte('\n')
	for pos := t.line; pos != t.head; pos++ {
		t.echoChar(*t.at(pos))
	}
}

type eraser int

const (
	eraseChar eraser = iota
	eraseWord
	eraseLine
)

// erase takes back a character, a word or the line, also on the screen.
//
// +checklocks:t.mu
func (t *Terminal) erase(what eraser) {
	if t.head == t.line {
		return
	}
	const byChar = unix.ECHO | unix.ECHOK | unix.ECHOKE | unix.ECHOE
	if what == eraseLine && t.lflag&byChar != byChar {
		t.head = t.line
		if t.l(unix.ECHO) {
			t.endErasing()
			t.echoChar(t.cc[unix.VKILL])
			if t.l(unix.ECHOK) {
				t.echoByte('\n')
			}
		}
		return
	}
	inWord := false
	for t.head != t.line {
		pos := t.head - 1
		for t.continues(*t.at(pos)) && pos != t.line {
			pos--
		}
		c := *t.at(pos)
		if t.continues(c) {
			break // not half a character
		}
		if what == eraseWord {
			if isWord(c) {
				inWord = true
			} else if inWord {
				break
			}
		}
		end := t.head
		t.head = pos
		t.echoErased(what, pos, end)
		if what == eraseChar {
			break
		}
	}
	if t.head == t.line && t.l(unix.ECHO) {
		t.endErasing()
	}
}

// echoErased shows that the character from pos up to end is gone.
//
// +checklocks:t.mu
func (t *Terminal) echoErased(what eraser, pos, end uint32) {
	c := *t.at(pos)
	switch {
	case !t.l(unix.ECHO):
	case t.l(unix.ECHOPRT):
		if !t.erasing {
			t.echoByte('\\')
			t.erasing = true
		}
		t.echoChar(c)
		for pos++; pos != end; pos++ {
			t.echoByte(*t.at(pos))
			t.back()
		}
	case what == eraseChar && !t.l(unix.ECHOE):
		t.echoChar(t.cc[unix.VERASE])
	case c == '\t':
		for range t.tabWidth() {
			t.emit('\b')
			t.back()
		}
	default:
		width := 1
		if isControl(c) {
			width = 0
			if t.l(unix.ECHOCTL) {
				width = 2
			}
		}
		for range width {
			t.echoByte('\b')
			t.echoByte(' ')
			t.echoByte('\b')
		}
	}
}

// tabWidth returns how many columns the tab took that was at the end of the line.
//
// +checklocks:t.mu
func (t *Terminal) tabWidth() int {
	before := 0
	pos := t.head
	for {
		if pos == t.line {
			before += t.lineColumn
			break
		}
		pos--
		c := *t.at(pos)
		if c == '\t' {
			break
		}
		switch {
		case isControl(c):
			if t.l(unix.ECHOCTL) {
				before += 2
			}
		case !t.continues(c):
			before++
		}
	}
	return 8 - before&7
}

// continues reports whether c is not the first byte of a character in UTF-8 (IUTF8).
//
// +checklocks:t.mu
func (t *Terminal) continues(c byte) bool { return c&0xc0 == 0x80 && t.i(unix.IUTF8) }

func isControl(c byte) bool { return c < ' ' || c == 0x7f }

// Letters as Linux's lib/ctype.c knows them: those of Latin-1.
func isLower(c byte) bool { return c >= 'a' && c <= 'z' || c >= 0xdf && c != 0xf7 }
func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' || c >= 0xc0 && c <= 0xde && c != 0xd7 }

func isWord(c byte) bool { return isLower(c) || isUpper(c) || c >= '0' && c <= '9' || c == '_' }

func toLower(c byte) byte {
	if isUpper(c) {
		c += 'a' - 'A'
	}
	return c
}

func toUpper(c byte) byte {
	if isLower(c) {
		c -= 'a' - 'A'
	}
	return c
}
