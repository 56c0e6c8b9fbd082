//go:build !race

package machine

import (
	"sync/atomic"
	"unsafe"
)

// A Parker lets one goroutine sleep until another wakes it. A Wake that comes
// first is remembered, once. The zero value is ready.
//
// It costs half of what a channel does: the runtime's own park and ready, with
// one word between them.
type Parker struct {
	// state is 0, woken, or the address of the goroutine that sleeps.
	state atomic.Uintptr
}

const woken = 1

//go:linkname gopark runtime.gopark
func gopark(unlock func(g unsafe.Pointer, state unsafe.Pointer) bool, state unsafe.Pointer, reason, traceReason uint8, skip int)

//go:linkname goready runtime.goready
func goready(g uintptr, skip int)

const (
	waitReason  = 21 // runtime.waitReasonSyncCondWait
	traceReason = 4  // traceBlockCondWait
)

// Park sleeps until Wake, or takes the Wake that came before.
func (p *Parker) Park() {
	if p.state.CompareAndSwap(woken, 0) {
		return
	}
	gopark(sleep, unsafe.Pointer(&p.state), waitReason, traceReason, 1)
}

// sleep makes the goroutine known as sleeping; false when a Wake came between.
// It runs on the scheduler's stack.
//
//go:nosplit
func sleep(g, state unsafe.Pointer) bool {
	s := (*atomic.Uintptr)(state)
	if s.CompareAndSwap(0, uintptr(g)) {
		return true
	}
	s.Store(0)
	return false
}

// Wake ends the sleep of the goroutine in Park, or makes the next Park return at once.
// It may be called from anywhere.
func (p *Parker) Wake() {
	for {
		switch s := p.state.Load(); s {
		case woken:
			return
		case 0:
			if p.state.CompareAndSwap(0, woken) {
				return
			}
		default:
			if p.state.CompareAndSwap(s, 0) {
				goready(s, 1)
				return
			}
		}
	}
}

// Drop forgets a Wake that nobody waited for.
func (p *Parker) Drop() { p.state.CompareAndSwap(woken, 0) }
