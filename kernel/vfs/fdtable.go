package vfs

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// An FDTable is the descriptors of a process, or of several (CLONE_FILES).
// Get takes no lock.
type FDTable struct {
	refs  atomic.Int32
	slots atomic.Pointer[[]atomic.Pointer[File]] // replaced by a longer one, under mu

	mu      sync.Mutex
	used    []uint64 // bit per descriptor
	cloexec []uint64
	low     int // no descriptor below is free
}

// maxFD is the largest table, as /proc/sys/fs/nr_open has it.
const maxFD = 1 << 20

// NewFDTable returns an empty table with one reference.
func NewFDTable() *FDTable {
	t := new(FDTable)
	t.refs.Store(1)
	t.grow(64)
	return t
}

// IncRef counts another user of t.
func (t *FDTable) IncRef() { t.refs.Add(1) }

// DecRef ends a use of t; the last closes all descriptors.
func (t *FDTable) DecRef() {
	if t.refs.Add(-1) == 0 {
		t.CloseRange(0, maxFD)
	}
}

// Shared reports whether t has more than one user.
func (t *FDTable) Shared() bool { return t.refs.Load() > 1 }

// grow makes room for n descriptors, a multiple of 64; mu is held.
func (t *FDTable) grow(n int) {
	slots := make([]atomic.Pointer[File], n)
	if old := t.slots.Load(); old != nil {
		for i := range *old {
			slots[i].Store((*old)[i].Load())
		}
	}
	t.slots.Store(&slots)
	t.used = append(t.used, make([]uint64, n/64-len(t.used))...)
	t.cloexec = append(t.cloexec, make([]uint64, n/64-len(t.cloexec))...)
}

// Lookup returns the file with a reference for the caller, nil when there is none.
func (t *FDTable) Lookup(fd int) *File {
	if slots := *t.slots.Load(); uint(fd) < uint(len(slots)) {
		if f := slots[fd].Load(); f != nil && f.tryRef() {
			return f
		}
	}
	return t.lookup(fd)
}

// Get is Lookup with an error: EBADF.
func (t *FDTable) Get(fd int) (*File, error) {
	if f := t.lookup(fd); f != nil {
		return f, nil
	}
	return nil, unix.EBADF
}

func (t *FDTable) lookup(fd int) *File {
	for {
		slots := *t.slots.Load()
		if uint(fd) >= uint(len(slots)) {
			return nil
		}
		f := slots[fd].Load()
		if f == nil || f.tryRef() {
			return f
		}
		// It is being closed: its slot has changed, or is about to.
	}
}

// Install gives f, whose reference it takes over, the lowest free descriptor from min on, which must be
// below limit (RLIMIT_NOFILE): EMFILE, and EINVAL when min is not below it; then the reference stays the caller's.
// flags: O_CLOEXEC.
func (t *FDTable) Install(f *File, flags, min, limit int) (int, error) {
	limit = clampLimit(limit)
	if min < 0 || min >= limit {
		if min == 0 {
			return -1, unix.EMFILE
		}
		return -1, unix.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fd := t.free(max(min, t.low))
	if fd >= limit {
		return -1, unix.EMFILE
	}
	if min <= t.low {
		t.low = fd + 1
	}
	t.set(fd, f, flags)
	return fd, nil
}

// Room reports whether Install would find a descriptor below limit just now.
func (t *FDTable) Room(limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.free(t.low) < clampLimit(limit)
}

func clampLimit(n int) int {
	if n < 0 || n > maxFD {
		return maxFD
	}
	return n
}

// free returns the first free descriptor from fd on, perhaps one behind the end of the table.
func (t *FDTable) free(fd int) int {
	for w := fd / 64; w < len(t.used); w++ {
		word := t.used[w]
		if w == fd/64 {
			word |= 1<<(fd%64) - 1
		}
		if word != ^uint64(0) {
			return w*64 + bits.TrailingZeros64(^word)
		}
	}
	return max(fd, len(t.used)*64)
}

// set enters f; mu is held.
//
// +checklocks:t.mu
func (t *FDTable) set(fd int, f *File, flags int) {
	for n := len(t.used) * 64; fd >= n; {
		n *= 2
		if fd < n {
			t.grow(n)
		}
	}
	w, bit := fd/64, uint64(1)<<(fd%64)
	t.used[w] |= bit
	t.cloexec[w] &^= bit
	if flags&unix.O_CLOEXEC != 0 {
		t.cloexec[w] |= bit
	}
	(*t.slots.Load())[fd].Store(f)
}

// take empties a slot and returns what was in it; mu is held.
func (t *FDTable) take(fd int) *File {
	slots := *t.slots.Load()
	if uint(fd) >= uint(len(slots)) {
		return nil
	}
	f := slots[fd].Load()
	if f == nil {
		return nil
	}
	slots[fd].Store(nil)
	t.used[fd/64] &^= 1 << (fd % 64)
	t.cloexec[fd/64] &^= 1 << (fd % 64)
	t.low = min(t.low, fd)
	return f
}

// closed ends a descriptor of f: the table's POSIX locks on the file go, unless f has only its path (open(2)).
func (t *FDTable) closed(f *File) {
	if f.kind&pathOnly == 0 {
		f.inode.unlockOwner(t)
	}
	if f.kind&closer != 0 {
		f.ops.(Closer).Closed(t)
	}
	f.DecRef()
}

// InstallAt gives f, whose reference it takes over, the descriptor fd and closes what that
// was before (dup3(2)): EBADF when fd is not below limit; then the reference stays the caller's.
func (t *FDTable) InstallAt(f *File, fd, flags, limit int) error {
	if fd < 0 || fd >= clampLimit(limit) {
		return unix.EBADF
	}
	t.mu.Lock()
	old := t.take(fd)
	t.set(fd, f, flags)
	t.mu.Unlock()
	if old != nil {
		t.closed(old)
	}
	return nil
}

// Close is close(2): EBADF.
func (t *FDTable) Close(fd int) error {
	t.mu.Lock()
	f := t.take(fd)
	t.mu.Unlock()
	if f == nil {
		return unix.EBADF
	}
	t.closed(f)
	return nil
}

// each calls f for the descriptors in use from first to last; mu is held.
//
// +checklocks:t.mu
func (t *FDTable) each(first, last int, f func(fd int)) {
	for w := first / 64; w < len(t.used) && w <= last/64; w++ {
		for word := t.used[w]; word != 0; word &= word - 1 {
			if fd := w*64 + bits.TrailingZeros64(word); fd >= first && fd <= last {
				f(fd)
			}
		}
	}
}

// closeAll closes the descriptors from first to last that match.
func (t *FDTable) closeAll(first, last int, match func(fd int) bool) {
	var files []*File
	t.mu.Lock()
	t.each(first, last, func(fd int) {
		if match(fd) {
			files = append(files, t.take(fd))
		}
	})
	t.mu.Unlock()
	for _, f := range files {
		t.closed(f)
	}
}

// CloseRange closes the descriptors from first to last (close_range(2)).
func (t *FDTable) CloseRange(first, last int) {
	t.closeAll(first, last, func(int) bool { return true })
}

// CloexecRange sets close-on-exec from first to last (CLOSE_RANGE_CLOEXEC).
func (t *FDTable) CloexecRange(first, last int) {
	t.mu.Lock()
	t.each(first, last, func(fd int) { t.cloexec[fd/64] |= 1 << (fd % 64) })
	t.mu.Unlock()
}

// CloseOnExec closes what is marked so, for execve(2).
func (t *FDTable) CloseOnExec() {
	t.closeAll(0, maxFD, func(fd int) bool { return t.cloexec[fd/64]>>(fd%64)&1 != 0 })
}

// Cloexec returns FD_CLOEXEC of a descriptor: EBADF.
func (t *FDTable) Cloexec(fd int) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd < 0 || fd/64 >= len(t.used) || t.used[fd/64]>>(fd%64)&1 == 0 {
		return false, unix.EBADF
	}
	return t.cloexec[fd/64]>>(fd%64)&1 != 0, nil
}

// SetCloexec changes FD_CLOEXEC of a descriptor: EBADF.
func (t *FDTable) SetCloexec(fd int, on bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd < 0 || fd/64 >= len(t.used) || t.used[fd/64]>>(fd%64)&1 == 0 {
		return unix.EBADF
	}
	t.cloexec[fd/64] &^= 1 << (fd % 64)
	if on {
		t.cloexec[fd/64] |= 1 << (fd % 64)
	}
	return nil
}

// Fork returns a copy with one reference that shares the files (fork(2)).
func (t *FDTable) Fork() *FDTable {
	n := new(FDTable)
	n.refs.Store(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	n.grow(len(t.used) * 64)
	copy(n.used, t.used)
	copy(n.cloexec, t.cloexec)
	n.low = t.low
	from, to := *t.slots.Load(), *n.slots.Load()
	t.each(0, maxFD, func(fd int) {
		f := from[fd].Load()
		f.IncRef()
		to[fd].Store(f)
	})
	return n
}

// List returns the descriptors in use, ascending.
func (t *FDTable) List() []int {
	var list []int
	t.mu.Lock()
	t.each(0, maxFD, func(fd int) { list = append(list, fd) })
	t.mu.Unlock()
	return list
}

// Count returns the number of descriptors in use.
func (t *FDTable) Count() (n int) {
	t.mu.Lock()
	for _, word := range t.used {
		n += bits.OnesCount64(word)
	}
	t.mu.Unlock()
	return n
}

// Len returns the number of slots, used or not (FDSize of /proc/PID/status).
func (t *FDTable) Len() int { return len(*t.slots.Load()) }
