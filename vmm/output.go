package vmm

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unicode"
)

// pumps copy the guest's output to the host, each port by its own goroutine.
type pumps struct {
	wg      sync.WaitGroup
	bytes   atomic.Int64 // copied so far
	writing atomic.Int32 // pumps that wait for their reader

	mu sync.Mutex
	// err is the first failure to write, EPIPE aside.
	// +checklocks:mu
	err error
}

func (p *pumps) wait() { p.wg.Wait() }

// busy says whether some output waits for its reader.
func (p *pumps) busy() bool { return p.writing.Load() > 0 }

// moved is a number that grows with the output.
func (p *pumps) moved() int64 { return p.bytes.Load() }

// start copies from port to out until the port ends. When out fails, the rest
// is read and dropped, so that the guest does not block; when it fails because
// its reader has gone, broken is called.
func (p *pumps) start(port *net.UnixConn, out io.Writer, broken func()) {
	p.wg.Go(func() {
		b := make([]byte, 64<<10)
		for failed := false; ; {
			n, err := port.Read(b)
			if n > 0 && !failed {
				p.writing.Add(1)
				_, werr := out.Write(b[:n])
				p.writing.Add(-1)
				if failed = werr != nil; failed {
					p.failed(werr, broken)
				}
			}
			p.bytes.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
}

// failed takes note of a write that failed.
func (p *pumps) failed(err error, broken func()) {
	if errors.Is(err, syscall.EPIPE) {
		if broken != nil {
			broken()
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// lost returns the reason when output could not be written.
func (p *pumps) lost() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// record keeps the end of what is written.
type record struct {
	mu sync.Mutex
	b  []byte // +checklocks:mu
}

const recordSize = 16 << 10

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b = append(r.b, p...)
	if extra := len(r.b) - recordSize; extra > 0 {
		r.b = append(r.b[:0], r.b[extra:]...)
	}
	return len(p), nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.b)
}

func tee(r *record, w io.Writer) io.Writer {
	if w == nil {
		return r
	}
	return io.MultiWriter(r, w)
}

// cleaner makes text safe for a terminal. It is for one goroutine.
type cleaner struct{ out io.Writer }

func (c *cleaner) Write(p []byte) (int, error) {
	if _, err := io.WriteString(c.out, printable(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// printable returns s without carriage returns, and with all other control
// characters but newline and tab, which could drive a terminal, as "?".
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return -1
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			return r
		}
		return '?'
	}, s)
}
