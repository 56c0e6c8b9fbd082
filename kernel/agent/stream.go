package agent

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/internal/frames"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// stream is one direction of a session.
type stream struct {
	bell wait.Bell // the file or the host has moved

	mu     sync.Mutex
	credit int    // of output: bytes that may be sent; guarded by mu
	buf    []byte // of input: bytes for the program; guarded by mu
	ended  bool   // of input: no more will come; guarded by mu
	closed bool   // of input: nobody takes it; guarded by mu
}

func (st *stream) init() { st.bell, st.credit = wait.NewBell(), frames.Window }

// grant lets n more bytes be sent.
func (st *stream) grant(n int) {
	st.mu.Lock()
	st.credit = min(st.credit+n, frames.Window)
	st.mu.Unlock()
	st.bell.Ring()
}

// left returns how many bytes may be sent.
func (st *stream) left() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.credit
}

func (st *stream) spend(n int) {
	st.mu.Lock()
	st.credit -= n
	st.mu.Unlock()
}

// put takes input. It reports dropped when nobody is there to read it, and false when the host sent more than it may.
func (st *stream) put(b []byte) (dropped, ok bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return true, true
	}
	if len(st.buf)+len(b) > frames.Window {
		return false, false
	}
	st.buf = append(st.buf, b...)
	st.bell.Ring()
	return false, true
}

// end says that no more input will come.
func (st *stream) end() {
	st.mu.Lock()
	st.ended = true
	st.mu.Unlock()
	st.bell.Ring()
}

// peek returns the input that waits; ended when there will be no other.
func (st *stream) peek() (b []byte, ended bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.buf, st.ended
}

func (st *stream) advance(n int) {
	st.mu.Lock()
	if st.buf = st.buf[n:]; len(st.buf) == 0 {
		st.buf = nil
	}
	st.mu.Unlock()
}

func (st *stream) shut() {
	st.mu.Lock()
	st.closed, st.buf = true, nil
	st.mu.Unlock()
}

// feed writes the session's input to f, whose reference it takes over, until it has ended.
func (s *session) feed(f *vfs.File) {
	st := &s.input
	e := wait.Entry{Waiter: st.bell, Events: unix.POLLOUT | unix.POLLERR | unix.POLLHUP}
	f.Register(&e)
	defer func() {
		f.Unregister(&e)
		f.DecRef()
		st.shut()
	}()
	for {
		b, ended := st.peek()
		if len(b) > 0 {
			src := uio.Buffer(b)
			n, err := f.Write(&src)
			if err != nil && err != unix.EAGAIN {
				return
			}
			if n > 0 {
				st.advance(int(n))
				s.a.grant(s.id, frames.Input, int(n))
				continue
			}
		} else if ended {
			return
		}
		select {
		case <-st.bell:
		case <-s.over:
			return
		case <-s.gone:
			return
		}
	}
}

// pump sends what it reads from f, whose reference it takes over, until f ends, or the program has ended and left no more.
func (s *session) pump(st *stream, f *vfs.File, kind frames.Kind) {
	e := wait.Entry{Waiter: st.bell, Events: unix.POLLIN | unix.POLLERR | unix.POLLHUP}
	f.Register(&e)
	defer func() {
		f.Unregister(&e)
		f.DecRef()
	}()
	b := make([]byte, 8192)
	over := s.over
	for {
		select {
		case <-over:
			over = nil
		default:
		}
		if room := st.left(); room > 0 {
			dst := uio.Buffer(b[:min(room, len(b))])
			n, err := f.Read(&dst)
			if n > 0 {
				st.spend(int(n))
				s.a.send(frames.Frame{Session: s.id, Kind: kind, Payload: b[:n]})
				continue
			}
			if err != unix.EAGAIN || over == nil {
				return
			}
		}
		select {
		case <-st.bell:
		case <-over:
			over = nil
		case <-s.gone:
			return
		}
	}
}
