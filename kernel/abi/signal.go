package abi

import "golang.org/x/sys/unix"

// Sizes of the structures for signals.
const (
	SizeofSigInfo   = 128
	SizeofSigAction = 32
	SizeofStackT    = 24
	SizeofSigEvent  = 64
)

// SigInfo is siginfo_t as programs see it (sigaction(2)). Which of the fields
// from offset 16 on mean something depends on the signal and its code.
type SigInfo [SizeofSigInfo]byte

// Signo is the signal number.
func (s *SigInfo) Signo() unix.Signal { return unix.Signal(get32(s[:], 0)) }

// Code says where the signal came from: SI_USER, SEGV_MAPERR, …
func (s *SigInfo) Code() int32 { return int32(get32(s[:], 8)) }

// SetHead sets si_signo, si_errno and si_code.
func (s *SigInfo) SetHead(signo unix.Signal, errno, code int32) {
	put32(s[:], 0, uint32(signo))
	put32(s[:], 4, uint32(errno))
	put32(s[:], 8, uint32(code))
}

// PID is si_pid: of kill, queue and child signals.
func (s *SigInfo) PID() int32 { return int32(get32(s[:], 16)) }

// UID is si_uid.
func (s *SigInfo) UID() uint32 { return get32(s[:], 20) }

// SetSender sets si_pid and si_uid.
func (s *SigInfo) SetSender(pid int32, uid uint32) {
	put32(s[:], 16, uint32(pid))
	put32(s[:], 20, uid)
}

// Value is si_value of SI_QUEUE, SI_TIMER and SI_MESGQ.
func (s *SigInfo) Value() uint64 { return get64(s[:], 24) }

// SetValue sets si_value.
func (s *SigInfo) SetValue(v uint64) { put64(s[:], 24, v) }

// Status is si_status of SIGCHLD.
func (s *SigInfo) Status() int32 { return int32(get32(s[:], 24)) }

// SetChild sets the fields of SIGCHLD; the times are in clock ticks.
func (s *SigInfo) SetChild(pid int32, uid uint32, status int32, utime, stime int64) {
	s.SetSender(pid, uid)
	put32(s[:], 24, uint32(status))
	put64(s[:], 32, uint64(utime))
	put64(s[:], 40, uint64(stime))
}

// Addr is si_addr of SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGTRAP.
func (s *SigInfo) Addr() uint64 { return get64(s[:], 16) }

// SetAddr sets si_addr.
func (s *SigInfo) SetAddr(a uint64) { put64(s[:], 16, a) }

// SetTimer sets si_timerid and si_overrun of SI_TIMER.
func (s *SigInfo) SetTimer(id, overrun int32) {
	put32(s[:], 16, uint32(id))
	put32(s[:], 20, uint32(overrun))
}

// SetPoll sets si_band and si_fd of SIGIO.
func (s *SigInfo) SetPoll(band int64, fd int32) {
	put64(s[:], 16, uint64(band))
	put32(s[:], 24, uint32(fd))
}

// SigAction is the kernel's struct sigaction: user addresses of the handler and the restorer.
type SigAction struct{ Handler, Flags, Restorer, Mask uint64 }

// GetSigAction reads struct sigaction.
func GetSigAction(b []byte) SigAction {
	b = b[:SizeofSigAction]
	return SigAction{get64(b, 0), get64(b, 8), get64(b, 16), get64(b, 24)}
}

// PutSigAction writes struct sigaction.
func PutSigAction(b []byte, a SigAction) {
	b = b[:SizeofSigAction]
	put64(b, 0, a.Handler)
	put64(b, 8, a.Flags)
	put64(b, 16, a.Restorer)
	put64(b, 24, a.Mask)
}

// StackT is stack_t, an alternate signal stack.
type StackT struct {
	SP    uint64
	Flags int32
	Size  uint64
}

// GetStackT reads stack_t.
func GetStackT(b []byte) StackT { return StackT{get64(b, 0), int32(get32(b, 8)), get64(b, 16)} }

// PutStackT writes stack_t.
func PutStackT(b []byte, s StackT) {
	b = b[:SizeofStackT]
	put64(b, 0, s.SP)
	put32(b, 8, uint32(s.Flags))
	put32(b, 12, 0)
	put64(b, 16, s.Size)
}

// SigEvent is struct sigevent.
type SigEvent struct {
	Value  uint64
	Signo  int32
	Notify int32
	TID    int32
}

// GetSigEvent reads struct sigevent.
func GetSigEvent(b []byte) SigEvent {
	b = b[:SizeofSigEvent]
	return SigEvent{get64(b, 0), int32(get32(b, 8)), int32(get32(b, 12)), int32(get32(b, 16))}
}
