package signal

import (
	"sync"

	"gosv/kernel/abi"

	"golang.org/x/sys/unix"
)

// The handlers that are not addresses.
const (
	DFL = 0
	IGN = 1
)

// Flags of sigaction(2) that the kernel knows.
const (
	NoCldStop = 0x1
	NoCldWait = 0x2
	SigInfo   = 0x4
	OnStack   = 0x08000000
	Restart   = 0x10000000
	NoDefer   = 0x40000000
	ResetHand = 0x80000000
	Restorer  = 0x04000000

	exposeTagBits = 0x00000800
	known         = NoCldStop | NoCldWait | SigInfo | OnStack | Restart | NoDefer | ResetHand | Restorer | exposeTagBits
)

// Handlers is what a process has asked to be done with each signal. Tasks that
// were cloned with CLONE_SIGHAND share one.
type Handlers struct {
	mu      sync.Mutex
	actions [Max]abi.SigAction // guarded by mu
}

// Get returns the action of sig.
func (h *Handlers) Get(sig unix.Signal) abi.SigAction {
	h.mu.Lock()
	a := h.actions[sig-1]
	h.mu.Unlock()
	return a
}

// Handler returns the handler of sig only.
func (h *Handlers) Handler(sig unix.Signal) uint64 {
	h.mu.Lock()
	a := h.actions[sig-1].Handler
	h.mu.Unlock()
	return a
}

// Set replaces the action of sig, which is not SIGKILL or SIGSTOP, and returns
// the one before. Unknown flags are dropped, as Linux does so that programs can find out what it knows.
func (h *Handlers) Set(sig unix.Signal, a abi.SigAction) (old abi.SigAction) {
	a.Flags &= known
	a.Mask &^= uint64(Unblockable)
	h.mu.Lock()
	old, h.actions[sig-1] = h.actions[sig-1], a
	h.mu.Unlock()
	return old
}

// Begin returns the action of sig for its delivery; SA_RESETHAND makes it the default again.
func (h *Handlers) Begin(sig unix.Signal) abi.SigAction {
	h.mu.Lock()
	p := &h.actions[sig-1]
	a := *p
	if a.Flags&ResetHand != 0 && a.Handler != DFL && a.Handler != IGN {
		p.Handler = DFL
	}
	h.mu.Unlock()
	return a
}

// SetDefault makes the default action that of sig again.
func (h *Handlers) SetDefault(sig unix.Signal) {
	h.mu.Lock()
	h.actions[sig-1].Handler = DFL
	h.mu.Unlock()
}

// Clone returns a copy.
func (h *Handlers) Clone() *Handlers {
	n := new(Handlers)
	h.mu.Lock()
	n.actions = h.actions
	h.mu.Unlock()
	return n
}

// Exec returns the handlers after an execve(2): what was caught becomes the
// default, what was ignored stays ignored. CLONE_CLEAR_SIGHAND does the same.
func (h *Handlers) Exec() *Handlers {
	n := new(Handlers)
	h.mu.Lock()
	for i := range h.actions {
		if h.actions[i].Handler == IGN {
			n.actions[i].Handler = IGN
		}
	}
	h.mu.Unlock()
	return n
}

// Ignored returns the signals whose handler is SIG_IGN, and those with a handler of their own.
func (h *Handlers) Ignored() (ignored, caught Set) {
	h.mu.Lock()
	for i := range h.actions {
		switch h.actions[i].Handler {
		case DFL:
		case IGN:
			ignored |= 1 << i
		default:
			caught |= 1 << i
		}
	}
	h.mu.Unlock()
	return ignored, caught
}
