package mm

import (
	"testing"

	"golang.org/x/sys/unix"
)

// killed is a caller that is killed after so many questions.
type killed struct{ after int }

func (k *killed) Killed() bool {
	k.after--
	return k.after < 0
}

// Filling a terabyte would take an hour; who is killed meanwhile must be able to end.
func TestPopulateOfTheKilled(t *testing.T) {
	w := newWorld(t, 4096)
	const n = 1 << 40
	args := MapArgs{Length: n, Prot: unix.PROT_READ, Flags: anon | unix.MAP_NORESERVE | unix.MAP_POPULATE, Caller: &killed{2000}}
	addr := w.mmap(w.as, args)
	if got := w.as.Stats().Tables; got < 3 || got > 6 {
		t.Errorf("%d page tables after 2000 pages", got)
	}
	if err := w.as.Lock(addr, n, 0, &killed{10}); err != unix.EINTR {
		t.Errorf("Lock: %v", err)
	}
	if err := w.as.Advise(addr, n, unix.MADV_POPULATE_READ, &killed{10}); err != unix.EINTR {
		t.Errorf("MADV_POPULATE_READ: %v", err)
	}
	if err := w.as.LockAll(unix.MCL_CURRENT|unix.MCL_FUTURE, &killed{10}); err != nil {
		t.Errorf("LockAll: %v", err)
	}
}
