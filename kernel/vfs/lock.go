package vfs

import (
	"math"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/wait"
)

// A lockTable holds the advisory locks on an inode: flock(2), POSIX and open
// file description locks (fcntl_locking(2)). Its lock is a leaf, but for the queue's.
type lockTable struct {
	mu     sync.Mutex
	whole  []flock     // guarded by mu
	ranges []rangeLock // guarded by mu; those of one owner do not overlap
	freed  wait.Queue  // told of POLLOUT when a lock goes
}

// flock is a lock of flock(2), which belongs to an open file description.
type flock struct {
	file      *File
	exclusive bool
}

// rangeLock locks the bytes first to last. The owner is a *FDTable for POSIX locks, a *File for OFD locks.
type rangeLock struct {
	owner       any
	pid         int32 // -1 for OFD locks
	first, last int64
	exclusive   bool
}

// Flock is flock(2) without blocking: EAGAIN when the caller is to wait
// (RegisterLock) or, with LOCK_NB, to give up; EINVAL, EBADF.
func (f *File) Flock(op int) error {
	if f.kind&pathOnly != 0 {
		return unix.EBADF
	}
	op &^= unix.LOCK_NB
	if op != unix.LOCK_SH && op != unix.LOCK_EX && op != unix.LOCK_UN {
		return unix.EINVAL
	}
	t := &f.inode.getRare().locks
	t.mu.Lock()
	defer t.mu.Unlock()
	want := flock{f, op == unix.LOCK_EX}
	if op != unix.LOCK_UN && slices.Contains(t.whole, want) {
		return nil
	}
	t.dropFlock(f) // a lock is changed by giving it up first, as flock(2) says
	if op == unix.LOCK_UN {
		return nil
	}
	for _, l := range t.whole {
		if l.exclusive || want.exclusive {
			return unix.EAGAIN
		}
	}
	t.whole = append(t.whole, want)
	f.locks.Store(true)
	return nil
}

func (t *lockTable) dropFlock(f *File) {
	n := len(t.whole)
	t.whole = slices.DeleteFunc(t.whole, func(l flock) bool { return l.file == f })
	if len(t.whole) < n {
		t.freed.Notify(unix.POLLOUT)
	}
}

// RegisterLock has e told (POLLOUT) when a lock on the file goes.
func (f *File) RegisterLock(e *wait.Entry) { f.inode.getRare().locks.freed.Add(e) }

// UnregisterLock ends RegisterLock.
func (f *File) UnregisterLock(e *wait.Entry) { f.inode.getRare().locks.freed.Remove(e) }

// lockRange turns struct flock into the bytes first to last: EINVAL, EOVERFLOW.
func (f *File) lockRange(l *unix.Flock_t) (first, last int64, err error) {
	switch l.Whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		f.mu.Lock()
		first = f.pos
		f.mu.Unlock()
	case unix.SEEK_END:
		first = f.inode.Size()
	default:
		return 0, 0, unix.EINVAL
	}
	if l.Start > 0 && first > math.MaxInt64-l.Start {
		return 0, 0, unix.EOVERFLOW
	}
	first += l.Start
	last = math.MaxInt64
	switch {
	case l.Len > 0:
		if first > math.MaxInt64-(l.Len-1) {
			return 0, 0, unix.EOVERFLOW
		}
		last = first + l.Len - 1
	case l.Len < 0:
		first, last = first+l.Len, first-1
	}
	if first < 0 {
		return 0, 0, unix.EINVAL
	}
	return first, last, nil
}

// newRangeLock reads struct flock. An owner that is nil asks for an OFD lock.
func (f *File) newRangeLock(owner any, pid int32, l *unix.Flock_t) (want rangeLock, err error) {
	if f.kind&pathOnly != 0 {
		return want, unix.EBADF
	}
	if l.Type != unix.F_RDLCK && l.Type != unix.F_WRLCK && l.Type != unix.F_UNLCK {
		return want, unix.EINVAL
	}
	if owner == nil {
		if l.Pid != 0 {
			return want, unix.EINVAL
		}
		owner, pid = f, -1
	}
	want = rangeLock{owner: owner, pid: pid, exclusive: l.Type == unix.F_WRLCK}
	want.first, want.last, err = f.lockRange(l)
	return want, err
}

// conflict returns a lock that keeps want from being had.
func (t *lockTable) conflict(want rangeLock) *rangeLock {
	for i := range t.ranges {
		l := &t.ranges[i]
		if l.owner != want.owner && l.first <= want.last && want.first <= l.last && (l.exclusive || want.exclusive) {
			return l
		}
	}
	return nil
}

// GetLock is F_GETLK, or with a nil owner F_OFD_GETLK: it changes l to the
// lock that would be in the way, or its type to F_UNLCK. EINVAL, EOVERFLOW, EBADF.
func (f *File) GetLock(owner any, l *unix.Flock_t) error {
	want, err := f.newRangeLock(owner, 0, l)
	if err != nil || l.Type == unix.F_UNLCK {
		if err == nil {
			err = unix.EINVAL
		}
		return err
	}
	t := &f.inode.getRare().locks
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conflict(want)
	if c == nil {
		l.Type = unix.F_UNLCK
		return nil
	}
	l.Type, l.Whence, l.Start, l.Len, l.Pid = unix.F_RDLCK, unix.SEEK_SET, c.first, 0, c.pid
	if c.exclusive {
		l.Type = unix.F_WRLCK
	}
	if c.last != math.MaxInt64 {
		l.Len = c.last - c.first + 1
	}
	return nil
}

// SetLock is F_SETLK and F_SETLKW without blocking, or with a nil owner the
// OFD variants: EAGAIN when the caller is to wait (RegisterLock) or to give
// up. EINVAL, EOVERFLOW, EBADF when the file is not open for what the lock is, ENOLCK when there are too many.
func (f *File) SetLock(owner any, pid int32, l *unix.Flock_t) error {
	want, err := f.newRangeLock(owner, pid, l)
	switch {
	case err != nil:
		return err
	case l.Type == unix.F_RDLCK && f.kind&canRead == 0, l.Type == unix.F_WRLCK && f.kind&canWrite == 0:
		return unix.EBADF
	}
	t := &f.inode.getRare().locks
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.Type != unix.F_UNLCK {
		if t.conflict(want) != nil {
			return unix.EAGAIN
		}
		if owner == nil {
			f.locks.Store(true)
		}
	}
	return t.replace(want, l.Type != unix.F_UNLCK)
}

// lockCost is what a range lock takes of share.Locks, in bytes.
const lockCost = 96

// replace takes the owner's locks on want's bytes away, and puts want there: ENOLCK.
func (t *lockTable) replace(want rangeLock, put bool) error {
	meets := func(l rangeLock) bool {
		touches := l.first <= want.last && want.first <= l.last
		adjoins := put && l.exclusive == want.exclusive && (l.last != math.MaxInt64 && l.last+1 == want.first || want.last != math.MaxInt64 && want.last+1 == l.first)
		return l.owner == want.owner && (touches || adjoins)
	}
	if !slices.ContainsFunc(t.ranges, meets) {
		return t.enter(want, put)
	}
	var kept []rangeLock
	for _, l := range t.ranges {
		switch {
		case !meets(l):
			kept = append(kept, l)
		case put && l.exclusive == want.exclusive:
			want.first, want.last = min(want.first, l.first), max(want.last, l.last)
		default:
			kept = append(kept, l.without(want)...)
		}
	}
	if put {
		kept = append(kept, want)
	}
	if more := len(kept) - len(t.ranges); more <= 0 {
		share.Locks.Give(int64(-more) * lockCost)
	} else if !share.Locks.Take(int64(more) * lockCost) {
		return unix.ENOLCK
	}
	t.ranges = kept
	t.freed.Notify(unix.POLLOUT)
	return nil
}

// enter puts a lock, or with put false nothing, among those of which it meets none: ENOLCK.
func (t *lockTable) enter(want rangeLock, put bool) error {
	if !put {
		return nil
	}
	if !share.Locks.Take(lockCost) {
		return unix.ENOLCK
	}
	t.ranges = append(t.ranges, want)
	return nil
}

// without returns what is left of l when the bytes of w are taken out.
func (l rangeLock) without(w rangeLock) (rest []rangeLock) {
	if l.first < w.first {
		r := l
		r.last = w.first - 1
		rest = append(rest, r)
	}
	if l.last > w.last {
		r := l
		r.first = w.last + 1
		rest = append(rest, r)
	}
	return rest
}

// dropOwner takes all range locks of an owner away.
func (t *lockTable) dropOwner(owner any) {
	n := len(t.ranges)
	t.ranges = slices.DeleteFunc(t.ranges, func(l rangeLock) bool { return l.owner == owner })
	if len(t.ranges) < n {
		share.Locks.Give(int64(n-len(t.ranges)) * lockCost)
		t.freed.Notify(unix.POLLOUT)
	}
}

// unlockFile ends the locks of an open file description that is closed.
func (i *Inode) unlockFile(f *File) {
	t := &i.getRare().locks
	t.mu.Lock()
	t.dropFlock(f)
	t.dropOwner(f)
	t.mu.Unlock()
}

// unlockOwner ends the POSIX locks of a descriptor table, which closed a descriptor of the file.
func (i *Inode) unlockOwner(t *FDTable) {
	if r := i.rare.Load(); r != nil {
		r.locks.mu.Lock()
		r.locks.dropOwner(t)
		r.locks.mu.Unlock()
	}
}
