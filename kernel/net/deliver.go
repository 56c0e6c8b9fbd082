package net

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// deliverTime bounds how long the machine's end waits for the other ends of connections.
const deliverTime = 5 * time.Second

// deliver waits until the other ends have what programs wrote before they closed their connections: Linux would go
// on sending, and a machine that powers off cannot.
func (n *Network) deliver() {
	n.once.Do(func() {}) // who has not begun to use the network will not
	if n.stack == nil {
		return
	}
	for end := time.Now().Add(deliverTime); undelivered(tcpip.GetDanglingEndpoints()) && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond)
	}
}

// undelivered reports whether one of these closed connections waits for the acknowledgement of its end (RFC 9293 §3.3.2).
func undelivered(closed []tcpip.Endpoint) bool {
	for _, e := range closed {
		ep, ok := e.(*tcp.Endpoint)
		if !ok {
			continue
		}
		switch tcp.EndpointState(ep.State()) {
		case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
			return true
		}
	}
	return false
}
