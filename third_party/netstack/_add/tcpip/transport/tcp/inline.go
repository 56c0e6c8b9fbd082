package tcp

import "gvisor.dev/gvisor/pkg/tcpip/stack"

// processNow processes what is queued for a connection on the goroutine that has just brought a segment, and reports whether that is
// done: a request so reaches its program with one switch of goroutines less. What comes in bulk, and bare acknowledgements, are left to the
// processor's goroutine, which takes many at once and answers once. So is what came the long way, on which locks
// are held that the end of a connection takes.
func processNow(ep *Endpoint, pkt *stack.PacketBuffer) bool {
	if n := pkt.Data().Size(); n == 0 || n >= smallSegment || !pkt.Quick {
		return false
	}
	if s := ep.EndpointState(); !s.connected() || s == StateTimeWait {
		return false
	}
	handleConnected(ep)
	return ep.segmentQueue.empty() || ep.isOwnedByUser() // who owns it looks at the queue afterwards
}

// smallSegment is more than a request has, and less than a full segment, in bytes.
const smallSegment = 1200
