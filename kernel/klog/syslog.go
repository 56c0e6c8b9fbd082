package klog

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/wait"
)

// Actions of syslog(2).
const (
	ActionClose = iota
	ActionOpen
	ActionRead
	ActionReadAll
	ActionReadClear
	ActionClear
	ActionConsoleOff
	ActionConsoleOn
	ActionConsoleLevel
	ActionSizeUnread
	ActionSizeBuffer
)

const readable = unix.POLLIN | unix.EPOLLRDNORM

// Take is SYSLOG_ACTION_READ: what fits into n bytes of what was not taken yet. EAGAIN when there is nothing.
func (l *Log) Take(n int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	for seq, i := l.from(l.read); i < len(l.records) && len(b) < n; seq, i = seq+1, i+1 {
		if seq != l.read {
			l.read, l.part = seq, 0
		}
		line := l.records[i].appendLine(nil)
		got := min(len(line)-l.part, n-len(b))
		b = append(b, line[l.part:l.part+got]...)
		if l.part += got; l.part < len(line) {
			return b, nil
		}
		l.read, l.part = seq+1, 0
	}
	if b == nil && n > 0 {
		return nil, unix.EAGAIN
	}
	return b, nil
}

// Unread is SYSLOG_ACTION_SIZE_UNREAD.
func (l *Log) Unread() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	seq, i := l.from(l.read)
	if seq == l.read {
		n -= l.part
	}
	for ; i < len(l.records); i++ {
		n += len(l.records[i].appendLine(nil))
	}
	return n
}

// Last is SYSLOG_ACTION_READ_ALL: the last whole lines that fit into n bytes; with clear it is SYSLOG_ACTION_READ_CLEAR.
func (l *Log) Last(n int, clear bool) (b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, begin := l.from(l.cleared)
	at := len(l.records)
	for size := 0; at > begin; at-- {
		if size += len(l.records[at-1].appendLine(nil)); size > n {
			break
		}
	}
	for ; at < len(l.records); at++ {
		b = l.records[at].appendLine(b)
	}
	if clear {
		l.cleared = l.first + uint64(len(l.records))
	}
	return b
}

// Clear is SYSLOG_ACTION_CLEAR.
func (l *Log) Clear() { l.Last(0, true) }

// Readiness is POLLIN when there is something to take.
func (l *Log) Readiness(mask wait.Mask) wait.Mask {
	if l.Unread() > 0 {
		return mask & readable
	}
	return 0
}

// Register puts e on the queue of those who wait for records.
func (l *Log) Register(e *wait.Entry) { l.queue.Add(e) }

// Unregister takes e off.
func (l *Log) Unregister(e *wait.Entry) { l.queue.Remove(e) }
