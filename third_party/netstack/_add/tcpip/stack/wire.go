package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// AppendData appends the parts of a packet's data to b. They are the packet's: who reads them keeps it.
func (pk *PacketBuffer) AppendData(b [][]byte) [][]byte {
	skip := pk.dataOffset()
	list := pk.buf.AsViewList()
	for v := list.Front(); v != nil; v = v.Next() {
		s := v.AsSlice()
		if skip >= len(s) {
			skip -= len(s)
			continue
		}
		b = append(b, s[skip:])
		skip = 0
	}
	return b
}

// A QuickLink takes segments of TCP over IPv4 and IPv6 that are whole frames already.
type QuickLink interface {
	// SendSegment sends a frame of protocol whose headers are the first part. When open, the sum of TCP is left to the link, to which mss, above 0,
	// says how much data each of its segments may have. It returns false when frames have to go by WritePackets. Nothing may
	// happen before FlushSegments.
	SendSegment(protocol tcpip.NetworkProtocolNumber, parts [][]byte, mss int, open bool) (bool, tcpip.Error)
	FlushSegments()
}

// Quick returns the link that a route's packets go to, and the neighbour's address; false when they have to take the long way: it is not known
// where the neighbour is, or the link is no QuickLink.
func (r *Route) Quick() (QuickLink, tcpip.LinkAddress, bool) {
	link, ok := r.outgoingNIC.NetworkLinkEndpoint.(QuickLink)
	if !ok || r.Loop() != PacketOut || r.localAddressNIC != r.outgoingNIC {
		return nil, "", false
	}
	r.mu.RLock()
	valid, to, entry := r.isValidForOutgoingRLocked(), r.remoteLinkAddress, r.neighborEntry
	r.mu.RUnlock()
	if valid && to == "" && entry != nil {
		to, _ = entry.getRemoteLinkAddress()
	}
	return link, to, valid && len(to) == header.EthernetAddressSize
}

// Sent counts a packet of n bytes without its link's header that went by a QuickLink.
func (r *Route) Sent(n int) {
	s := &r.outgoingNIC.stats.tx
	s.packets.Increment()
	s.bytes.IncrementBy(uint64(n + header.EthernetMinimumSize))
	r.outgoingNIC.stack.stats.IP.PacketsSent.Increment()
}
