package task

import (
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// Restartable sequences (rseq(2), Linux's include/uapi/linux/rseq.h and kernel/rseq.c). The program's struct rseq says on
// which processor it runs, and which piece of code is to be started anew when it did not run through without others running
// there. The floor tells by machine.Moved when it went on elsewhere, or was away; every other trap but a system call counts
// as such, too.

// rseq is what a thread has registered. It belongs to the task.
type rseq struct {
	addr uint64 // of struct rseq, 0 for none
	sig  uint32 // stands before every abort handler
	cpu  int    // what the program was told, -1 for nothing yet
}

// Struct rseq, by offset: cpu_id_start, cpu_id, rseq_cs, flags, node_id, mm_cid.
const (
	rseqSize  = 32
	rseqAlign = 32
	rseqCSOff = 8
)

// rseqNone is cpu_id of a thread that is not registered: RSEQ_CPU_ID_UNINITIALIZED.
const rseqNone = 1<<32 - 1

// Rseq registers struct rseq at addr, or with RSEQ_FLAG_UNREGISTER ends that: EINVAL, EBUSY, EPERM, EFAULT.
func (t *Task) Rseq(addr uint64, size uint32, unregister bool, sig uint32) error {
	r := &t.rseq
	switch {
	case unregister && (r.addr == 0 || r.addr != addr || size != rseqSize):
		return unix.EINVAL
	case r.addr != 0 && sig != r.sig && (unregister || r.addr == addr && size == rseqSize):
		return unix.EPERM
	case unregister:
		if err := t.mem.Store64(addr, rseqNone<<32); err != nil {
			return unix.EFAULT
		}
		t.dropRseq()
		return nil
	case r.addr != 0 && (r.addr != addr || size != rseqSize):
		return unix.EINVAL
	case r.addr != 0:
		return unix.EBUSY
	case addr%rseqAlign != 0 || size != rseqSize:
		return unix.EINVAL
	case addr == 0 || addr >= machine.UserTop-rseqSize:
		return unix.EFAULT
	}
	*r = rseq{addr: addr, sig: sig, cpu: -1}
	t.resumeRseq()
	return nil
}

// RseqConfiguration is PTRACE_GET_RSEQ_CONFIGURATION, in Traced.
func (o *Task) RseqConfiguration() (addr uint64, size, sig uint32) {
	if o.rseq.addr == 0 {
		return 0, 0, 0
	}
	return o.rseq.addr, rseqSize, o.rseq.sig
}

func (t *Task) dropRseq() {
	t.rseq = rseq{}
	t.cpu.Expect(t.Ctx, -1)
}

// resumeRseq makes t's struct rseq true, and takes the program out of a sequence that was interrupted. A struct or a
// sequence that cannot be read, or is wrong, is SIGSEGV.
func (t *Task) resumeRseq() {
	r := &t.rseq
	if r.addr == 0 {
		return
	}
	if !t.abortRseq() {
		t.forceSegv(0)
		return
	}
	if cpu := t.cpu.Number(); cpu != r.cpu {
		if t.mem.Store64(r.addr, uint64(cpu)|uint64(cpu)<<32) != nil {
			t.forceSegv(0)
			return
		}
		r.cpu = cpu
		t.cpu.Expect(t.Ctx, cpu)
	}
}

// abortRseq moves a program that is in a sequence to its abort handler; false when something is wrong with it.
func (t *Task) abortRseq() bool {
	r := &t.rseq
	at, err := t.mem.Load64(r.addr + rseqCSOff)
	if err != nil {
		return false
	}
	if at == 0 {
		return true
	}
	var b [32]byte // struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip
	if n, _ := t.mem.CopyIn(b[:], at); n < len(b) {
		return false
	}
	start, length, abort := le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	if le.Uint64(b[:]) != 0 || start >= machine.UserTop || start+length < start || start+length >= machine.UserTop || abort >= machine.UserTop || abort-start < length {
		return false
	}
	if sig, err := t.loadSignature(abort); err != nil || sig != r.sig {
		return false
	}
	if t.mem.Store64(r.addr+rseqCSOff, 0) != nil {
		return false
	}
	if t.Ctx.RIP-start < length {
		t.Ctx.RIP = abort
	}
	return true
}

func (t *Task) loadSignature(abort uint64) (uint32, error) {
	var b [4]byte
	if n, err := t.mem.CopyIn(b[:], abort-4); n < len(b) {
		return 0, err
	}
	return le.Uint32(b[:]), nil
}
