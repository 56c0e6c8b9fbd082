package klog

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// longest is how much a program may write at a time, in bytes.
const longest = 1024

// Open opens /dev/kmsg: EPERM for reading without CAP_SYSLOG.
func (l *Log) Open(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	if f.Readable() && !ctx.Cred.Capable(unix.CAP_SYSLOG) {
		return nil, unix.EPERM
	}
	return &kmsg{l: l, seq: l.start()}, nil
}

// kmsg is an open /dev/kmsg: each read gives the next record.
type kmsg struct {
	vfs.FileDefaults
	l *Log

	mu  sync.Mutex // above Log.mu
	seq uint64     // of the next record; guarded by mu
	// sought says that Seek has set seq, and that a position of 0 is not the beginning until something is read. Guarded by mu.
	sought bool
}

// Read implements vfs.FileOps: EAGAIN when there is no record, EPIPE once when some were lost, EINVAL when dst is too small for one.
func (k *kmsg) Read(_ *vfs.File, dst uio.Sink, off int64) (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if off == 0 && !k.sought {
		k.seq = k.l.start()
	}
	line, err := k.l.at(&k.seq)
	if err != nil {
		return 0, err
	}
	if len(line) > dst.Left() {
		return 0, unix.EINVAL
	}
	n, err := dst.Put(line)
	if n == len(line) {
		k.seq, k.sought = k.seq+1, false
	}
	return int64(n), err
}

// Seek implements vfs.FileOps. SEEK_END: to what comes; SEEK_DATA: to what came after the log was cleared by syslog(2). Only with an
// offset of 0: ESPIPE.
func (k *kmsg) Seek(_ *vfs.File, off int64, whence int) (int64, error) {
	if off != 0 {
		return 0, unix.ESPIPE
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.l.mu.Lock()
	defer k.l.mu.Unlock()
	switch whence {
	case unix.SEEK_END:
		k.seq = k.l.first + uint64(len(k.l.records))
	case unix.SEEK_DATA:
		k.seq, _ = k.l.from(k.l.cleared)
	default:
		return 0, unix.EINVAL
	}
	k.sought = true
	return 0, nil
}

// Write implements vfs.FileOps: EINVAL for more than a kilobyte.
func (k *kmsg) Write(_ *vfs.File, src uio.Source, _ int64) (int64, error) {
	if src.Left() > longest {
		return 0, unix.EINVAL
	}
	line := make([]byte, src.Left())
	n, err := src.Take(line)
	if err != nil {
		return 0, err
	}
	priority, text := parse(string(line[:n]))
	k.l.Add(priority, text)
	return int64(n), nil
}

// parse separates the priority in front of a line, <N>: programs cannot speak for the kernel.
func parse(line string) (priority int, text string) {
	if len(line) > 2 && line[0] == '<' {
		for i := 1; i < min(len(line), 6); i++ {
			if line[i] != '>' {
				continue
			}
			n, err := strconv.Atoi(line[1:i])
			if err != nil || n < 0 {
				break
			}
			if n < 8 {
				n |= Program &^ 7
			}
			return n, line[i+1:]
		}
	}
	return Program, line
}

// Poll implements vfs.FileOps.
func (k *kmsg) Poll(_ *vfs.File, mask wait.Mask) wait.Mask {
	k.mu.Lock()
	defer k.mu.Unlock()
	ready := wait.Mask(unix.POLLOUT | unix.EPOLLWRNORM)
	seq := k.seq
	switch _, err := k.l.at(&seq); err {
	case nil:
		ready |= readable
	case unix.EPIPE:
		ready |= readable | unix.POLLERR | unix.POLLPRI
	}
	return mask & ready
}

// Register implements vfs.FileOps.
func (k *kmsg) Register(_ *vfs.File, e *wait.Entry) { k.l.Register(e) }

// Unregister implements vfs.FileOps.
func (k *kmsg) Unregister(_ *vfs.File, e *wait.Entry) { k.l.Unregister(e) }

// start returns the number of the first record that is there.
func (l *Log) start() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// at returns record *seq as /dev/kmsg shows it: priority,sequence,micros,flags;text. EAGAIN when it does not exist yet; EPIPE when it
// does no more, with the number of one that does stored.
func (l *Log) at(seq *uint64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	have, i := l.from(*seq)
	switch {
	case have != *seq:
		*seq = have
		return nil, unix.EPIPE
	case i >= len(l.records):
		return nil, unix.EAGAIN
	}
	r := &l.records[i]
	b := append(strconv.AppendInt(nil, int64(r.priority), 10), ',')
	b = append(strconv.AppendUint(b, *seq, 10), ',')
	b = append(strconv.AppendInt(b, r.at/1000, 10), ",-;"...)
	for _, c := range []byte(r.text) {
		if c < ' ' || c >= 0x7f || c == '\\' {
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return append(b, '\n'), nil
}
