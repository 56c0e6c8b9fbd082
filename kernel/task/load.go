package task

import "gosv/kernel/clock"

// load is the load average (proc(5), loadavg): every 5 s the number of threads that run goes into three averages that forget with time
// constants of 1, 5 and 15 minutes, as in Linux's kernel/sched/loadavg.c. Guarded by Kernel.mu.
type load struct {
	timer clock.Timer
	avg   [3]uint64 // in units of 1/loadOne
}

const (
	loadBits     = 11
	loadOne      = 1 << loadBits
	loadInterval = 5_000_000_000 // ns
)

// loadDecay is e^(-5s/constant), in units of 1/loadOne.
var loadDecay = [3]uint64{1884, 2014, 2037}

func (k *Kernel) startLoad() {
	k.load.timer.Init(k.Clock, func() {
		go k.sampleLoad()
	})
	k.load.timer.Set(k.Clock.After(loadInterval))
}

func (k *Kernel) sampleLoad() {
	k.mu.Lock()
	n := k.active()
	l := &k.load
	for i, d := range loadDecay {
		active, old := n*loadOne, l.avg[i]
		v := old*d + active*(loadOne-d)
		if active >= old {
			v += loadOne - 1
		}
		l.avg[i] = v / loadOne
	}
	dying := k.dying
	k.mu.Unlock()
	if !dying {
		l.timer.Set(k.Clock.After(loadInterval))
	}
}

// active counts the threads that do not wait, but for their turn. k.mu is held.
func (k *Kernel) active() (n uint64) {
	for _, e := range k.ids {
		if e.task != nil && e.task.usage.active.Load() {
			n++
		}
	}
	return n
}

// Active returns how many threads do not wait, but for their turn.
func (k *Kernel) Active() uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.active()
}

// LoadAverages returns the load over 1, 5 and 15 minutes, in units of 1/65536 (sysinfo(2)).
func (k *Kernel) LoadAverages() (v [3]uint64) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for i, a := range k.load.avg {
		v[i] = a << (16 - loadBits)
	}
	return v
}
