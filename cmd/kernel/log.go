package main

import (
	"strconv"
	"sync"

	"gosv/machine"
	"gosv/machine/bare"
)

// log takes the kernel's own messages: to the host's log port, or to the serial
// port when the program's streams are not there. What comes before the ports
// are open is kept.
type log struct {
	m machine.Machine

	mu     sync.Mutex
	early  []byte         // guarded by mu, until open
	opened bool           // guarded by mu
	write  func(b []byte) // guarded by mu; nil: nobody listens
}

const earlyMax = 16 << 10

func newLog(m machine.Machine) *log { return &log{m: m} }

// open says where messages go from now on.
func (l *log) open(s *streams, verbose bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = true
	switch {
	case s.log != nil:
		l.write = func(b []byte) { s.log.WriteAll(b, l.m.Monotonic()+writeTimeout) }
	case verbose:
		l.write = l.m.Emergency
	}
	if l.write != nil {
		l.write(l.early)
	}
	l.early = nil
}

// line writes one message; a newline is added where there is none.
func (l *log) line(s string) {
	b := append([]byte(nil), s...)
	if len(b) == 0 || b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	l.bytes(b)
}

// problem says what is wrong with the machine.
func (l *log) problem(err error) { l.line("gosv: " + err.Error()) }

func (l *log) bytes(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.opened && len(l.early) < earlyMax:
		l.early = append(l.early, b...)
	case l.write != nil:
		l.write(b)
	}
}

// bootLine says how the kernel found the machine.
func (l *log) bootLine(m *bare.Machine) {
	total, free := m.Usage()
	l.line("gosv: " + strconv.Itoa(m.CPUs()) + " CPUs, " + strconv.FormatUint(total*machine.PageSize>>10, 10) + " KiB of memory, " +
		strconv.FormatUint(free*machine.PageSize>>10, 10) + " KiB free, up in " + strconv.FormatInt(m.Uptime()/1000, 10) +
		" us, entry tsc " + strconv.FormatUint(m.EntryTSC(), 10))
}
