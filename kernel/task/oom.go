package task

import (
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// oomWait is how long a task waits for a process that was killed to give its memory back,
// in nanoseconds.
const oomWait = 10_000_000

// spared is how many pages of process 1 do not count beside others: with small processes, what the kernel holds for them decides.
const spared = 512

// OutOfMemory kills the process with the highest score, and logs it: Linux's OOM killer. With process 1 everything ends, so that is
// killed only when its score is by far more than those of all others together. It returns the process, nil when
// one that was killed before has not ended yet, or has just ended: then what the kernel held for it is collected first.
func (k *Kernel) OutOfMemory() *Process {
	k.oom.Lock()
	defer k.oom.Unlock()
	var victim *Process
	var most, first, others int64
	for _, p := range k.Processes() {
		score, dying := p.badness()
		switch {
		case dying:
			p.abortDump()
			return nil
		case score <= 0:
		case p == k.init:
			first = score
		default:
			if others += score; score >= most {
				victim, most = p, score
			}
		}
	}
	if k.victim != nil {
		k.victim = nil
		debug.FreeOSMemory()
		return nil
	}
	if first > 2*others+spared {
		victim = k.init
	}
	if victim == nil {
		return nil
	}
	pages, threads, _ := victim.footprint()
	k.Log("out of memory: killed process " + itoa(victim.PID) + " (" + victim.comm() + "), " +
		strconv.FormatUint(pages*4, 10) + " KiB, " + strconv.Itoa(threads) + " threads")
	k.victim = victim
	victim.kill(unix.SIGKILL)
	return victim
}

// OOMAdj is what was stored in /proc/PID/oom_score_adj (proc(5)): thousandths of all memory that are added to what the process has.
func (p *Process) OOMAdj() int { return int(p.oomAdj.Load()) }

// SetOOMAdj sets it, from MinOOMAdj to 1000.
func (p *Process) SetOOMAdj(n int) { p.oomAdj.Store(int32(n)) }

// badness is the score of a process in pages: what it has, and OOMAdj. 0 or less: it is not killed.
func (p *Process) badness() (score int64, dying bool) {
	pages, threads, dying := p.footprint()
	adj := int64(p.oomAdj.Load())
	if threads == 0 || adj == MinOOMAdj {
		return 0, dying
	}
	return max(int64(pages)+adj*int64(p.k.allPages())/1000, 1), dying
}

// MinOOMAdj is the OOMAdj of what is never killed.
const MinOOMAdj = -1000

// OOMScore is badness as /proc/PID/oom_score shows it: from 0 to 1333.
func (p *Process) OOMScore() int64 {
	pages, threads, _ := p.footprint()
	adj := int64(p.oomAdj.Load())
	if threads == 0 || adj == MinOOMAdj {
		return 0
	}
	return max((1000+int64(pages)*1000/int64(max(p.k.allPages(), 1))+adj)*2/3, 0)
}

// allPages returns how much memory programs share.
func (k *Kernel) allPages() uint64 {
	total, _ := k.Pool.Usage()
	return total
}

// threadPages is about what a thread costs the kernel, in pages.
const threadPages = 6

// About how many open files, and queued signals, cost the kernel a page.
const (
	filesPerPage   = 4
	signalsPerPage = 16
)

// footprint returns the memory of a process in pages, with what the kernel has for its threads, descriptors and queued signals, the
// number of its threads, and whether it is about to end.
func (p *Process) footprint() (pages uint64, threads int, dying bool) {
	p.mu.Lock()
	threads = len(p.threads)
	kernel := threadPages*uint64(threads) + uint64(p.queued)/signalsPerPage
	dying = p.exiting && threads > 0
	var m *Memory
	if threads > 0 {
		if f := p.threads[0].Files; f != nil {
			kernel += uint64(f.Count()) / filesPerPage
		}
		if m = p.threads[0].mem; m != nil && !m.hold() {
			m = nil
		}
	}
	p.mu.Unlock()
	if m != nil {
		s := m.Stats()
		pages = s.RSS + s.Tables
		m.Release()
	}
	return pages + kernel, threads, dying
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
