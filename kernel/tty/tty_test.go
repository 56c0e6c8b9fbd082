package tty

import (
	"encoding/binary"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// jobs records what a terminal asks for.
type jobs struct {
	mu      sync.Mutex
	signals []unix.Signal
	hangups int
	during  func() // called when the signals of a hangup are sent
}

func (j *jobs) SignalForeground(_ task.Terminal, sig unix.Signal) {
	j.mu.Lock()
	j.signals = append(j.signals, sig)
	j.mu.Unlock()
}

func (j *jobs) HangUp(task.Terminal) {
	j.mu.Lock()
	j.hangups++
	j.mu.Unlock()
	if j.during != nil {
		j.during()
	}
}

// memory is a program's memory that is one buffer, whatever the address.
type memory []byte

func (m memory) CopyIn(dst []byte, _ uint64) (int, error)  { return copy(dst, m), nil }
func (m memory) CopyOut(_ uint64, src []byte) (int, error) { return copy(m, src), nil }

// pair is a pseudo-terminal with both ends open.
type pair struct {
	*jobs
	*Pty
	m *master
	s *file
}

func newPair() *pair {
	j := &jobs{}
	p := NewPty(j, 0)
	p.locked = false
	p.slaves = 1
	return &pair{j, p, &master{Pty: p, release: func() {}}, &file{t: p.Slave}}
}

func (p *pair) write(f vfs.FileOps, s string) (int, error) {
	b := uio.Buffer(s)
	n, err := f.Write(nil, &b, 0)
	return int(n), err
}

// read reads at most size bytes.
func (p *pair) read(f vfs.FileOps, size int) (string, error) {
	b := make([]byte, size)
	dst := uio.Buffer(b)
	n, err := f.Read(nil, &dst, 0)
	return string(b[:n]), err
}

// all reads until there is nothing more.
func (p *pair) all(f vfs.FileOps) (s string) {
	for range 100 {
		part, err := p.read(f, 4096)
		if err != nil || part == "" {
			break
		}
		s += part
	}
	return s
}

func (p *pair) ioctl(f vfs.FileOps, cmd uint32, arg uint64, mem memory) error {
	_, err := f.Ioctl(nil, &vfs.IoctlArgs{Cmd: cmd, Arg: arg, Mem: mem})
	return err
}

func (p *pair) number(f vfs.FileOps, cmd uint32) int {
	m := make(memory, 4)
	if err := p.ioctl(f, cmd, 0, m); err != nil {
		return -1
	}
	return int(int32(binary.LittleEndian.Uint32(m)))
}

// modes returns the modes of the terminal.
func (p *pair) modes() termios {
	p.Slave.mu.Lock()
	defer p.Slave.mu.Unlock()
	return p.Slave.termios
}

// echoes returns how many bytes of echo wait.
func (p *pair) echoes() int {
	p.Slave.mu.Lock()
	defer p.Slave.mu.Unlock()
	return p.Slave.echo.len()
}

// set changes the modes.
func (p *pair) set(change func(m *termios)) {
	var b [sizeofTermios2]byte
	m := p.modes()
	change(&m)
	m.encode(&b)
	if err := p.ioctl(p.s, unix.TCSETS, 0, b[:sizeofTermios]); err != nil {
		panic(err)
	}
}

func (p *pair) want(t *testing.T, f vfs.FileOps, want string) {
	t.Helper()
	if got := p.all(f); got != want {
		t.Errorf("%q, should be %q", got, want)
	}
}

func TestSignals(t *testing.T) {
	for _, c := range []struct {
		key  string
		sig  unix.Signal
		echo string
	}{{"\x03", unix.SIGINT, "^C"}, {"\x1c", unix.SIGQUIT, "^\\"}, {"\x1a", unix.SIGTSTP, "^Z"}} {
		p := newPair()
		p.write(p.m, "abc")
		p.write(p.m, c.key+"d\n")
		if len(p.signals) != 1 || p.signals[0] != c.sig {
			t.Errorf("%q: signals %v", c.key, p.signals)
		}
		p.want(t, p.s, "d\n")
		p.want(t, p.m, "abc"+c.echo+"d\r\n")
	}
}

func TestSize(t *testing.T) {
	p := newPair()
	size := memory{24, 0, 80, 0, 0, 0, 0, 0}
	if err := p.ioctl(p.m, unix.TIOCSWINSZ, 0, size); err != nil {
		t.Fatal(err)
	}
	p.ioctl(p.s, unix.TIOCSWINSZ, 0, size)
	got := make(memory, 8)
	p.ioctl(p.s, unix.TIOCGWINSZ, 0, got)
	if string(got) != string(size) || len(p.signals) != 1 || p.signals[0] != unix.SIGWINCH {
		t.Errorf("size %v, signals %v", got, p.signals)
	}
}

func TestFull(t *testing.T) {
	p := newPair()
	p.set(func(m *termios) { m.lflag = 0; m.iflag = 0 })
	long := make([]byte, 20000)
	for i := range long {
		long[i] = byte(i * 7)
	}
	n, err := p.write(p.m, string(long))
	if want := inputSize - 1 + pendingSize; n < want-256 || n > want+256 || err != nil {
		t.Fatalf("%d bytes taken, %v", n, err)
	}
	if _, err := p.write(p.m, "x"); err != unix.EAGAIN && n < len(long) {
		t.Errorf("more is taken: %v", err)
	}
	got := ""
	rest := long[n:]
	for range 1000 {
		part, err := p.read(p.s, 333)
		if err != nil {
			break
		}
		got += part
		k, _ := p.write(p.m, string(rest))
		rest = rest[k:]
	}
	if got != string(long) {
		t.Errorf("%d bytes of %d came through", len(got), len(long))
	}
}

func TestOutputFull(t *testing.T) {
	p := newPair()
	n, err := p.write(p.s, string(make([]byte, 20000)))
	if err != nil || n < outputSize/2 || n > outputSize {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if p.s.Poll(nil, writable) != 0 {
		t.Error("writable")
	}
	p.write(p.m, "echo\n") // waits, is not lost
	if got := p.all(p.m); len(got) != n+6 || got[n:] != "echo\r\n" {
		t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-6:])
	}
	if p.s.Poll(nil, writable) != writable {
		t.Error("not writable")
	}
}

func TestStop(t *testing.T) {
	p := newPair()
	p.write(p.m, "\x13")
	if _, err := p.write(p.s, "x"); err != unix.EAGAIN {
		t.Errorf("write while stopped: %v", err)
	}
	p.write(p.m, "ab")
	p.want(t, p.m, "")
	p.write(p.m, "\x11")
	p.want(t, p.m, "ab")
	p.ioctl(p.s, unix.TCXONC, unix.TCOOFF, nil)
	p.write(p.m, "\x11c")
	p.want(t, p.m, "")
	p.ioctl(p.s, unix.TCXONC, unix.TCOON, nil)
	p.write(p.m, "d") // as on Linux, TCOON does not send the echoes that wait
	p.want(t, p.m, "cd")
}

func TestHangup(t *testing.T) {
	p := newPair()
	p.write(p.m, "line\n")
	p.m.Release(nil)
	if s, err := p.read(p.s, 10); s != "" || err != nil {
		t.Errorf("read: %q, %v", s, err)
	}
	if _, err := p.write(p.s, "x"); err != unix.EIO {
		t.Errorf("write: %v", err)
	}
	if err := p.ioctl(p.s, unix.TCGETS, 0, make(memory, 64)); err != unix.EIO {
		t.Errorf("TCGETS: %v", err)
	}
	if err := p.ioctl(p.s, unix.TIOCSPGRP, 0, make(memory, 4)); err != unix.ENOTTY {
		t.Errorf("TIOCSPGRP: %v", err)
	}
	const all = readable | writable | unix.EPOLLHUP | unix.EPOLLERR
	if r := p.s.Poll(nil, all); r != all {
		t.Errorf("poll: %#x", r)
	}
	if p.hangups != 1 {
		t.Errorf("%d hangups", p.hangups)
	}
}

// Who is woken by the signals of a hangup finds the terminal whole, or hung up: nothing between.
func TestHangupAtOnce(t *testing.T) {
	p := newPair()
	p.during = func() {
		if s, err := p.read(p.s, 10); err != unix.EAGAIN {
			t.Errorf("read: %q, %v", s, err)
		}
	}
	p.m.Release(nil)
}

func TestLastSlave(t *testing.T) {
	p := newPair()
	p.write(p.s, "bye")
	p.s.Release(nil)
	if r := p.m.Poll(nil, readable|unix.EPOLLHUP); r != readable|unix.EPOLLHUP {
		t.Errorf("poll: %#x", r)
	}
	p.want(t, p.m, "bye")
	if _, err := p.read(p.m, 10); err != unix.EIO {
		t.Errorf("read: %v", err)
	}
}

func TestPacket(t *testing.T) {
	p := newPair()
	p.ioctl(p.m, unix.TIOCPKT, 0, memory{1, 0, 0, 0})
	p.write(p.s, "data")
	p.want1(t, "\x00data")
	p.write(p.m, "\x13")
	p.want1(t, "\x04") // STOP
	p.write(p.m, "\x11")
	p.want1(t, "\x08") // START
	p.set(func(m *termios) { m.iflag &^= unix.IXON })
	p.want1(t, "\x10") // NOSTOP
	p.set(func(m *termios) { m.iflag |= unix.IXON })
	p.want1(t, "\x20") // DOSTOP
	p.ioctl(p.s, unix.TCFLSH, unix.TCIOFLUSH, nil)
	p.want1(t, "\x03") // FLUSHREAD, FLUSHWRITE
}

// want1 compares what one read of the master gives.
func (p *pair) want1(t *testing.T, want string) {
	t.Helper()
	if got, err := p.read(p.m, 100); got != want || err != nil {
		t.Errorf("%q, %v; should be %q", got, err, want)
	}
}

func TestRefused(t *testing.T) {
	p := newPair()
	for _, c := range []struct {
		name string
		f    vfs.FileOps
		cmd  uint32
		arg  uint64
		want error
	}{
		{"TIOCSTI", p.s, unix.TIOCSTI, 0, unix.EIO},
		{"TCFLSH", p.s, unix.TCFLSH, 3, unix.EINVAL},
		{"TCXONC", p.s, unix.TCXONC, 4, unix.EINVAL},
		{"TIOCSIG", p.m, unix.TIOCSIG, uint64(unix.SIGKILL), unix.EINVAL},
		{"TIOCGPTN", p.s, unix.TIOCGPTN, 0, unix.ENOTTY},
		{"unknown", p.s, 0x5499, 0, unix.ENOTTY},
		{"TIOCSETD", p.s, unix.TIOCSETD, 0, unix.EINVAL},
	} {
		if err := p.ioctl(c.f, c.cmd, c.arg, memory{9, 0, 0, 0}); err != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestRaces uses a terminal from all sides at once; the race detector judges.
func TestRaces(t *testing.T) {
	p := newPair()
	var wg sync.WaitGroup
	for _, f := range []func(i int){
		func(i int) { p.write(p.m, "ab\x7f\x17c\n\x03\x13\x11") },
		func(i int) { p.write(p.s, "out\tput\n") },
		func(i int) { p.read(p.s, 10) },
		func(i int) { p.read(p.m, 100) },
		func(i int) { p.s.Poll(nil, readable); p.m.Poll(nil, readable); p.number(p.s, unix.TIOCINQ) },
		func(i int) {
			var b [sizeofTermios2]byte
			m := defaultTermios()
			if i%2 == 0 {
				m.lflag = 0
			}
			m.encode(&b)
			p.ioctl(p.s, unix.TCSETSF, 0, b[:sizeofTermios])
		},
		func(i int) { p.Slave.SetSize(unix.Winsize{Row: uint16(i)}) },
		func(i int) {
			if i%100 == 0 {
				p.Slave.Hangup()
			}
		},
	} {
		wg.Go(func() {
			for i := range 500 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// FuzzRaw: in raw mode no byte is lost, changed or added.
func FuzzRaw(f *testing.F) {
	f.Add([]byte("abc\x03\x00\xff\r\n"), uint16(3))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		p := newPair()
		p.set(func(m *termios) { m.lflag, m.iflag, m.oflag = 0, 0, 0 })
		var in, out []byte
		for rest := data; len(rest) > 0 || len(in) < len(data); {
			n, _ := p.write(p.m, string(rest))
			m, _ := p.write(p.s, string(rest[:n]))
			if m != n {
				t.Skip() // more than fits at once
			}
			rest = rest[n:]
			a, _ := p.read(p.s, int(size)+1)
			b := p.all(p.m)
			in, out = append(in, a...), append(out, b...)
		}
		if string(in) != string(data) || string(out) != string(data) {
			t.Errorf("%d bytes in, %d read, %d out", len(data), len(in), len(out))
		}
	})
}

// FuzzModes: whatever modes and input, nothing panics, and buffers stay within their bounds.
func FuzzModes(f *testing.F) {
	f.Add([]byte("abc\x7f\n"), uint32(0xffff), uint32(0xffff), uint32(0xffff))
	f.Fuzz(func(t *testing.T, data []byte, i, o, l uint32) {
		p := newPair()
		for k, c := range data {
			switch {
			case k%16 == 5:
				p.set(func(m *termios) { m.iflag, m.oflag, m.lflag, m.cc[c%controlChars] = i^uint32(c), o, l^uint32(c)<<1, c })
			case k%7 == 6:
				p.read(p.s, int(c))
			}
			p.write(p.m, string(data[:k+1]))
			p.write(p.s, string(data[k:]))
			if n := p.number(p.s, unix.TIOCINQ); n < 0 || n > inputSize {
				t.Fatalf("%d bytes to read", n)
			}
			p.Slave.mu.Lock()
			out, pending := p.Slave.out.len(), p.Slave.pending.len()
			p.Slave.mu.Unlock()
			if out > 2*outputSize+echoSize || pending > 2*pendingSize {
				t.Fatal("buffers overflow")
			}
			if k%50 == 0 {
				p.read(p.m, 1000)
			}
		}
	})
}
