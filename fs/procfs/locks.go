package procfs

import (
	"math"

	"gosv/kernel/vfs"
)

// Advisory locks, as proc_locks(5) and /proc/PID/fdinfo show them. Who waits for one is not shown.

// lockLines appends the locks of list, which are on f and of the process pid, each with its number in b and what stands before that.
type lockLines struct {
	v      *view
	b      *out
	before string
	n      int64
}

func (w *lockLines) add(f *vfs.File, pid int32, list []vfs.HeldLock) {
	major, minor, ino := f.MapInode()
	for _, l := range list {
		who := l.PID
		if who == 0 {
			who = pid
		}
		if who > 0 {
			who = w.v.pids.Local(who)
		}
		if who == 0 {
			continue // not of the reader's PID namespace
		}
		w.n++
		b := w.b.str(w.before).num(w.n).str(": ")
		b.str(l.Kind).pad(len(b.b)-len(l.Kind), 7).str("ADVISORY  ")
		if l.Exclusive {
			b.str("WRITE ")
		} else {
			b.str("READ ")
		}
		b.num(int64(who)).str(" ").hex(uint64(major), 2).str(":").hex(uint64(minor), 2).str(":").unum(ino).nums(l.First)
		if l.Last == math.MaxInt64 {
			b.str(" EOF\n")
		} else {
			b.nums(l.Last).nl()
		}
	}
}

// showLocks finds the locks through the descriptors, since each belongs to an open file or to a table of descriptors.
func showLocks(v *view, b *out) error {
	type posix struct {
		t *vfs.FDTable
		i *vfs.Inode
	}
	files, tables := map[*vfs.File]bool{}, map[posix]bool{}
	w := lockLines{v: v, b: b}
	for _, p := range v.Kernel.Processes() {
		t := p.Files()
		if t == nil {
			continue
		}
		for _, fd := range t.List() {
			f, err := t.Get(fd)
			if err != nil {
				continue
			}
			if !files[f] {
				w.add(f, p.PID, f.HeldLocks())
			}
			k := posix{t, f.Inode()}
			if !tables[k] {
				w.add(f, p.PID, t.HeldLocks(k.i))
			}
			files[f], tables[k] = true, true
			f.DecRef()
		}
	}
	return nil
}
