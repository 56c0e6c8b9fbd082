package procfs

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// A record appends the one that comes after the key, 0 at first, and returns its own; ok is false when there is none.
type record func(v *view, after uint64, b *out) (key uint64, ok bool)

// records is an open file that may be long: its records are made when they are read, as by Linux's seq_file. A read returns whole ones,
// as many as there is room for, and a part of one only where it is longer itself.
type records struct {
	vfs.FileDefaults
	v      *view
	record record

	mu   sync.Mutex
	pos  int64  // of rest in the file; guarded by mu
	key  uint64 // of the last record; guarded by mu
	rest []byte // what was not read of it; guarded by mu
}

func openRecords(r record) func(v *view) (vfs.FileOps, error) {
	return func(v *view) (vfs.FileOps, error) { return &records{v: v, record: r}, nil }
}

// mostRecords is the most that one read gets, in bytes.
const mostRecords = 64 << 10

// Read implements vfs.FileOps.
func (r *records) Read(_ *vfs.File, dst uio.Sink, off int64) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off == 0 || off != r.pos {
		r.seek(off)
	}
	want := min(dst.Left(), mostRecords)
	b := out{r.rest}
	for len(b.b) < want {
		had := len(b.b)
		key, ok := r.record(r.v, r.key, &b)
		if ok && had > 0 && len(b.b) > want {
			b.b = b.b[:had]
			break
		}
		if !ok {
			break
		}
		r.key = key
	}
	n, err := dst.Put(b.b[:min(len(b.b), want)])
	r.rest, r.pos = slices.Clone(b.b[n:]), off+int64(n)
	if n > 0 {
		err = nil
	}
	return int64(n), err
}

// seek makes what begins at off the next to be read. r.mu is held.
func (r *records) seek(off int64) {
	r.pos, r.key, r.rest = 0, 0, nil
	for r.pos < off {
		var b out
		key, ok := r.record(r.v, r.key, &b)
		if !ok {
			break
		}
		skip := min(off-r.pos, int64(len(b.b)))
		r.key, r.rest, r.pos = key, b.b[skip:], r.pos+skip
	}
	r.pos = off
}

// Seek implements vfs.FileOps: nobody knows where the end is.
func (*records) Seek(*vfs.File, int64, int) (int64, error) { return 0, unix.EINVAL }
