package tcp

import (
	"runtime"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// processNow processes what is queued for a connection on the goroutine that has just brought a segment, and reports whether that is
// done: a request so reaches its program with one switch of goroutines less. What comes in bulk, and bare acknowledgements, are left to the
// processor's goroutine, which takes many at once and answers once. So is what came the long way, on which locks
// are held that the end of a connection takes.
func processNow(ep *Endpoint, pkt *stack.PacketBuffer) bool {
	if s := ep.EndpointState(); !pkt.Small || !s.connected() || s == StateTimeWait {
		return false
	}
	handleConnected(ep)
	return ep.segmentQueue.empty() || ep.isOwnedByUser() // who owns it looks at the queue afterwards
}

// own returns what a segment that came in may keep and change of its packet: the packet itself, when whoever delivers it does not look at it again.
func own(pkt *stack.PacketBuffer) *stack.PacketBuffer {
	if pkt.Quick {
		return pkt.IncRef()
	}
	return pkt.Clone()
}

// yield lets others run.
func yield() { runtime.Gosched() }
