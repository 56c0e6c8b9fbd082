package main

import (
	"strconv"

	"gosv/kernel/klog"
	"gosv/machine"
	"gosv/machine/bare"
)

// log takes the kernel's own messages. They are kept for programs (klog), and go to the host's log port, or to the serial port when
// the program's streams are not there, as soon as the ports are open.
type log struct {
	m    machine.Machine
	kept *klog.Log
}

func newLog(m machine.Machine) *log { return &log{m, klog.New(m.Monotonic)} }

// open says where messages go from now on.
func (l *log) open(s *streams, verbose bool) {
	switch {
	case s.log != nil:
		l.kept.Follow(func(line string) { s.log.WriteAll([]byte(line), l.m.Monotonic()+writeTimeout) })
	case verbose:
		l.kept.Follow(func(line string) { l.m.Emergency([]byte(line)) })
	}
}

// line writes one message.
func (l *log) line(s string) { l.kept.Add(klog.Kernel, s) }

// problem says what is wrong with the machine.
func (l *log) problem(err error) { l.line("gosv: " + err.Error()) }

// bootLine says how the kernel found the machine.
func (l *log) bootLine(m *bare.Machine) {
	total, free := m.Usage()
	l.line("gosv: " + strconv.Itoa(m.CPUs()) + " CPUs, " + strconv.FormatUint(total*machine.PageSize>>10, 10) + " KiB of memory, " +
		strconv.FormatUint(free*machine.PageSize>>10, 10) + " KiB free, up in " + strconv.FormatInt(m.Uptime()/1000, 10) +
		" us, entry tsc " + strconv.FormatUint(m.EntryTSC(), 10))
}
