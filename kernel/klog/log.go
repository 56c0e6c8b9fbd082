// Package klog is the kernel's log: a ring of records, which programs read through syslog(2) and /dev/kmsg (dev-kmsg in Linux's ABI
// documents), and write to through /dev/kmsg.
//
// Records are dropped, the oldest first, when they take more than Capacity bytes. Who may read is decided by the callers, but for
// opening /dev/kmsg.
//
// Lock order: Log.mu is above the queue's lock, and held while a line is handed on (Follow).
package klog

import (
	"strconv"
	"strings"
	"sync"

	"gosv/kernel/wait"
)

// Capacity is how many bytes of text are kept; a record counts for at least recordCost.
const (
	Capacity   = 32 << 10
	recordCost = 32
)

// Priorities of records: a facility (8 and more) and a level (syslog(3)).
const (
	Kernel  = 6        // of the kernel, informational
	Program = 1<<3 + 4 // of programs that say nothing else: user, warning
)

// A Log is the kernel's log.
type Log struct {
	now   func() int64
	queue wait.Queue // readers of records

	mu      sync.Mutex
	records []record     // guarded by mu
	first   uint64       // number of records[0]; guarded by mu
	size    int          // guarded by mu
	next    func(string) // guarded by mu
	cleared uint64       // syslog(2) shows all from this number on; guarded by mu
	read    uint64       // number of the record that SYSLOG_ACTION_READ goes on at; guarded by mu
	part    int          // bytes of it that were read; guarded by mu
}

type record struct {
	priority int
	at       int64 // ns since the machine started
	text     string
}

// New returns an empty log. now is the time since the machine started in ns.
func New(now func() int64) *Log { return &Log{now: now} }

// Follow hands all lines, those of the past too, to f: text that ends in a newline. f is called one line after the other.
func (l *Log) Follow(f func(line string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = f
	for i := range l.records {
		f(l.records[i].text + "\n")
	}
}

// Add stores a record for each line of text.
func (l *Log) Add(priority int, text string) {
	for more := true; more; {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		l.line(priority, line)
		more = text != ""
	}
	l.queue.Notify(readable)
}

func (l *Log) line(priority int, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := record{priority, l.now(), text}
	l.records, l.size = append(l.records, r), l.size+r.cost()
	if l.size > Capacity {
		l.drop()
	}
	if l.next != nil {
		l.next(text + "\n")
	}
}

// drop drops a quarter of the records, so that this is seldom. mu is held.
//
// +checklocks:l.mu
func (l *Log) drop() {
	n := 0
	for l.size > Capacity*3/4 && n < len(l.records)-1 {
		l.size -= l.records[n].cost()
		n++
	}
	l.records = append([]record(nil), l.records[n:]...)
	l.first += uint64(n)
}

func (r *record) cost() int { return max(len(r.text), recordCost) }

// from returns the number of the first record that is there of those from seq on, and its place. mu is held.
//
// +checklocks:l.mu
func (l *Log) from(seq uint64) (uint64, int) {
	seq = max(seq, l.first)
	return seq, int(seq - l.first)
}

// appendLine appends a record as syslog(2) shows it: <priority>[seconds.micros] text.
func (r *record) appendLine(b []byte) []byte {
	b = strconv.AppendInt(append(b, '<'), int64(r.priority), 10)
	us := r.at / 1000
	seconds := strconv.FormatInt(us/1e6, 10)
	b = append(b, ">["...)
	for range 5 - len(seconds) {
		b = append(b, ' ')
	}
	b = append(append(b, seconds...), '.')
	for unit := int64(1e5); unit > 0; unit /= 10 {
		b = append(b, byte('0'+us%1e6/unit%10))
	}
	return append(append(append(b, "] "...), r.text...), '\n')
}
