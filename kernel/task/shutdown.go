package task

import "golang.org/x/sys/unix"

// Shutdown is reboot(2) with a command that ends the machine, or the caller's PID namespace, whose first process then dies of sig
// (pid_namespaces(7)). The machine ends as with its first process, with status 0: file systems are written, and the host is told.
func (t *Task) Shutdown(sig unix.Signal) {
	k, p := t.k, t.proc
	k.mu.RLock()
	first := k.init
	if p.pids != k.pids {
		first = p.pids.init
	}
	k.mu.RUnlock()
	status := int32(0)
	if first != k.init {
		status = int32(sig)
	}
	for _, q := range []*Process{p, first} {
		if q != nil {
			q.end(status)
		}
	}
}

// end ends the process with a status as wait(2) encodes it, whatever it thinks of it.
func (p *Process) end(status int32) {
	p.mu.Lock()
	p.endFinalStops()
	p.dump.abort()
	p.exit(status)
	p.mu.Unlock()
}
