package task

import "golang.org/x/sys/unix"

// Commands of membarrier(2).
const (
	barrierGlobal           = 1 << 0
	barrierGlobalExpedited  = 1 << 1
	barrierRegisterGlobal   = 1 << 2
	barrierPrivate          = 1 << 3
	barrierRegisterPrivate  = 1 << 4
	barrierSyncCore         = 1 << 5
	barrierRegisterSyncCore = 1 << 6
	barrierRseq             = 1 << 7
	barrierRegisterRseq     = 1 << 8
	barrierCommands         = 1<<9 - 1
	barrierFlagCPU          = 1
	barrierRegisters        = barrierRegisterGlobal | barrierRegisterPrivate | barrierRegisterSyncCore | barrierRegisterRseq
)

// Membarrier is membarrier(2): EINVAL, EPERM for a private command that was not registered. An interrupt is a barrier and a serialising
// instruction on x86, and so all commands are one; that for sequences has the threads leave ring 3 first.
func (t *Task) Membarrier(cmd int32, flags uint32, cpu int32) (uint64, error) {
	if flags != 0 && (flags != barrierFlagCPU || cmd != barrierRseq) {
		return 0, unix.EINVAL
	}
	m := t.mem
	switch {
	case cmd == 0:
		return barrierCommands, nil
	case cmd < 0 || cmd&(cmd-1) != 0 || cmd&^barrierCommands != 0:
		return 0, unix.EINVAL
	case cmd&barrierRegisters != 0:
		m.barriers.Or(uint32(cmd))
		return 0, nil
	case cmd == barrierGlobal || cmd == barrierGlobalExpedited:
		t.barrierAll()
		return 0, nil
	case m.barriers.Load()&uint32(cmd<<1) == 0:
		return 0, unix.EPERM
	case cmd == barrierRseq:
		t.interruptAll()
	}
	m.Space().Barrier()
	return 0, nil
}

// barrierAll is a barrier for all programs.
func (t *Task) barrierAll() {
	for _, p := range t.k.Processes() {
		if m := p.Memory(); m != nil {
			m.Space().Barrier()
			m.Release()
		}
	}
}

// interruptAll ends the restartable sequences of all other threads that share t's memory: those that run leave ring 3 when they take the
// interrupt of the barrier that follows.
func (t *Task) interruptAll() {
	for _, p := range t.k.Processes() {
		p.mu.Lock()
		for _, o := range p.threads {
			if o != t && o.mem == t.mem && !o.exiting {
				o.cpu.Kick(o.Ctx)
			}
		}
		p.mu.Unlock()
	}
}
