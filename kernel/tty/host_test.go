package tty

import (
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// line is a stream to a host that takes little at a time.
type line struct {
	mu      sync.Mutex
	in, out []byte
	room    int  // for out
	ended   bool // after in
	queue   wait.Queue
}

func (l *line) ReadTo(dst uio.Sink) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.in) == 0 && !l.ended {
		return 0, unix.EAGAIN
	}
	n, err := dst.Put(l.in[:min(len(l.in), 7)])
	l.in = l.in[n:]
	return int64(n), err
}

func (l *line) WriteFrom(src uio.Source) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == 0 {
		return 0, unix.EAGAIN
	}
	b := make([]byte, min(l.room, src.Left()))
	n, err := src.Take(b)
	l.room -= n
	l.out = append(l.out, b[:n]...)
	return int64(n), err
}

func (l *line) Register(e *wait.Entry) { l.queue.Add(e) }

func (l *line) typed(s string, ended bool) {
	l.mu.Lock()
	l.in = append(l.in, s...)
	l.ended = ended
	l.mu.Unlock()
	l.queue.Notify(readable)
}

func (l *line) allow(n int) {
	l.mu.Lock()
	l.room += n
	l.mu.Unlock()
	l.queue.Notify(writable)
}

func (l *line) written() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.out)
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

func TestHost(t *testing.T) {
	l, j := &line{}, &jobs{}
	term := NewHost(j, l, AuxMajor, ConsoleMinor)
	p := &pair{jobs: j, s: &file{t: term}}
	text := strings.Repeat("lines of text\n", 50)
	n, err := p.write(p.s, text)
	if n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	if term.Idle() || p.number(p.s, unix.TIOCOUTQ) != len(text)+50 {
		t.Error("output is gone before the host took it")
	}
	l.allow(10)
	until(t, "some output", func() bool { return len(l.written()) == 10 })
	l.allow(1 << 20)
	until(t, "all output", term.Idle)
	if got := l.written(); got != strings.ReplaceAll(text, "\n", "\r\n") {
		t.Errorf("the host has %q", got)
	}
	l.typed("a\xc3\xa4\x7fb\r", false) // in UTF-8 a character goes as a whole
	until(t, "a line", func() bool { return p.s.Poll(nil, readable) != 0 })
	if s, _ := p.read(p.s, 10); s != "ab\n" {
		t.Errorf("read %q", s)
	}
	l.typed("\x03", false)
	until(t, "SIGINT", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return len(j.signals) == 1 && j.signals[0] == unix.SIGINT
	})
	l.typed("", true)
	until(t, "the hangup", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.hangups == 1
	})
	if _, err := p.write(p.s, "x"); err != unix.EIO {
		t.Errorf("write after the hangup: %v", err)
	}
}

// A host that sends faster than anybody reads loses nothing.
func TestHostFull(t *testing.T) {
	l, j := &line{room: 1 << 30}, &jobs{}
	term := NewHost(j, l, AuxMajor, ConsoleMinor)
	p := &pair{jobs: j, Pty: &Pty{Slave: term}, s: &file{t: term}}
	p.set(func(m *termios) { m.lflag, m.iflag = 0, 0 })
	text := strings.Repeat("0123456789abc", 3000)
	l.typed(text, false)
	until(t, "a full buffer", func() bool { return p.number(p.s, unix.TIOCINQ) == inputSize-1 })
	got := ""
	until(t, "all input", func() bool {
		s, _ := p.read(p.s, 1000)
		got += s
		return len(got) == len(text)
	})
	if got != text {
		t.Error("bytes were lost or changed")
	}
}

var _ vfs.FileOps = (*file)(nil)
