package task

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
)

// Workers of delegates, as Linux's io-wq has them: those of Unbounded are as good as threads, and count as such. Where there may be no more of them,
// work waits for one: that may be for ever, when all wait for what is still to be done, unless it is cancelled or more are
// allowed (IORING_REGISTER_IOWQ_MAX_WORKERS).

// mostWorkers is how many workers of Unbounded t's process may have.
func (t *Task) mostWorkers() int { return int(min(t.proc.Limit(unix.RLIMIT_NPROC).Cur, math.MaxInt32)) }

// GoDo has do called with a borrowed task on a goroutine of that crew, which the end of the process waits for, once it may have one more or one has
// nothing to do; or failed, with what Do says. It does not block. key is for Forget. The caller of an Unbounded one has no locks.
func (d *Delegate) GoDo(crew int, key any, c *cred.Cred, do func(*Task), failed func(error)) {
	e := errand{key, c, do, failed}
	room := d.room(crew)
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &d.crews[crew]
	if w.workers > 0 && !d.ended && !(room && w.workers < w.most) {
		w.errands = append(w.errands, e)
		return
	}
	d.hire(crew, e)
}

// room reports whether the machine has room for one more worker.
func (d *Delegate) room(crew int) bool {
	if crew == Bounded {
		return true
	}
	d.k.mu.RLock()
	defer d.k.mu.RUnlock()
	return !d.k.full()
}

// hire makes a worker for e.
//
// +checklocks:d.mu
func (d *Delegate) hire(crew int, e errand) {
	d.crews[crew].workers++
	if crew == Unbounded {
		d.k.workers.Add(1)
	}
	d.busy++
	go d.work(crew, e)
}

// work runs e, and what has waited for a worker meanwhile.
func (d *Delegate) work(crew int, e errand) {
	for more := true; more; {
		if err := d.Do(e.cred, e.do); err != nil {
			e.failed(err)
		}
		e, more = d.next(crew)
	}
	d.finished()
}

// next takes the first errand that waits, if the crew is not too large, or dismisses the worker.
func (d *Delegate) next(crew int) (e errand, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &d.crews[crew]
	if len(w.errands) == 0 || w.workers > w.most {
		w.workers--
		if crew == Unbounded {
			d.k.workers.Add(-1)
		}
		return errand{}, false
	}
	e, w.errands[0] = w.errands[0], errand{}
	if w.errands = w.errands[1:]; len(w.errands) == 0 {
		w.errands = nil
	}
	return e, true
}

// Forget withdraws what GoDo was given with that key, and reports whether it had not begun: it will not be called, nor will its failed.
func (d *Delegate) Forget(key any) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.crews {
		w := &d.crews[i]
		if at := slices.IndexFunc(w.errands, func(e errand) bool { return e.key == key }); at >= 0 {
			w.errands = slices.Delete(w.errands, at, at+1)
			return true
		}
	}
	return false
}

// SetWorkers says how many workers each crew may have, at most RLIMIT_NPROC; 0 changes nothing. It returns how many there might be before. There
// is one in any case.
func (t *Task) SetWorkers(most [2]int) (before [2]int) {
	d, limit := t.Delegate(), t.mostWorkers()
	room := d.room(Unbounded)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, n := range most {
		w := &d.crews[i]
		before[i] = w.most
		if n == 0 {
			continue
		}
		w.most = max(min(n, limit), 1)
		for len(w.errands) > 0 && w.workers < w.most && (i == Bounded || room) {
			e := w.errands[0]
			w.errands = w.errands[1:]
			d.hire(i, e)
		}
	}
	return before
}
