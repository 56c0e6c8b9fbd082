package vfs

import "math"

// A HeldLock is an advisory lock as /proc/locks (proc_locks(5)) shows it.
type HeldLock struct {
	Kind        string // FLOCK, POSIX or OFDLCK
	PID         int32  // who took it: 0 when that is not known (FLOCK), -1 for OFDLCK
	Exclusive   bool
	First, Last int64 // bytes; Last is math.MaxInt64 when the lock reaches to the end, wherever that is
}

// HeldLocks returns the locks of the open file description: those of flock(2) and F_OFD_SETLK.
func (f *File) HeldLocks() []HeldLock {
	list := f.inode.locksOf(f)
	if r := f.inode.rare.Load(); r != nil {
		r.locks.mu.Lock()
		for _, l := range r.locks.whole {
			if l.file == f {
				list = append(list, HeldLock{Kind: "FLOCK", Exclusive: l.exclusive, Last: math.MaxInt64})
			}
		}
		r.locks.mu.Unlock()
	}
	return list
}

// HeldLocks returns the POSIX locks that the table's processes have on i.
func (t *FDTable) HeldLocks(i *Inode) []HeldLock { return i.locksOf(t) }

func (i *Inode) locksOf(owner any) (list []HeldLock) {
	r := i.rare.Load()
	if r == nil {
		return nil
	}
	r.locks.mu.Lock()
	defer r.locks.mu.Unlock()
	for _, l := range r.locks.ranges {
		if l.owner == owner {
			kind := "POSIX"
			if l.pid < 0 {
				kind = "OFDLCK"
			}
			list = append(list, HeldLock{kind, l.pid, l.exclusive, l.first, l.last})
		}
	}
	return list
}
