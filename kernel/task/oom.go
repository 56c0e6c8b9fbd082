package task

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// oomWait is how long a task waits for a process that was killed to give its memory back,
// in nanoseconds.
const oomWait = 10_000_000

// OutOfMemory kills the process that has the most memory, threads counted too,
// and logs it: Linux's OOM killer, without its scores. It returns the process, nil when
// one that was killed before has not ended yet.
func (k *Kernel) OutOfMemory() *Process {
	var victim *Process
	most, tasks := uint64(0), 0
	for _, p := range k.Processes() {
		pages, n, dying := p.footprint()
		if dying {
			return nil
		}
		if n > 0 && pages >= most {
			victim, most, tasks = p, pages, n
		}
	}
	if victim == nil {
		return nil
	}
	k.Log("out of memory: killed process " + itoa(victim.PID) + " (" + victim.comm() + "), " +
		strconv.FormatUint(most*4, 10) + " KiB, " + strconv.Itoa(tasks) + " threads")
	victim.kill(unix.SIGKILL)
	return victim
}

// threadPages is about what a thread costs the kernel, in pages.
const threadPages = 6

// footprint returns the memory of a process in pages, the number of its threads, and whether
// it is about to end.
func (p *Process) footprint() (pages uint64, threads int, dying bool) {
	p.mu.Lock()
	threads = len(p.threads)
	dying = p.exiting && threads > 0
	var m *Memory
	if threads > 0 {
		if m = p.threads[0].mem; m != nil && !m.hold() {
			m = nil
		}
	}
	p.mu.Unlock()
	if m != nil {
		pages = m.Stats().RSS
		m.Release()
	}
	return pages + threadPages*uint64(threads), threads, dying
}

// comm is the name of the thread that stands for the process.
func (p *Process) comm() string {
	p.mu.Lock()
	t := p.leader
	p.mu.Unlock()
	return t.Comm()
}

// starved is what a task does that found no memory: it is the victim, or waits for the victim's end.
func (t *Task) starved() {
	if t.k.OutOfMemory() != t.proc {
		t.sleepUntil(t.k.Clock.After(oomWait))
	}
}
