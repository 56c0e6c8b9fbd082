package stack

// GSOUDP is a large packet of UDP, over IPv4 or IPv6, that the link cuts into datagrams of MSS bytes of data.
const GSOUDP GSOType = 16

// A UDPSegmenter is a link that may cut large packets of UDP.
type UDPSegmenter interface {
	SegmentsUDP() bool
}

// SegmentsUDP reports whether a route's packets go to a link that does, and nowhere else.
func (r *Route) SegmentsUDP() bool {
	link, ok := r.outgoingNIC.NetworkLinkEndpoint.(UDPSegmenter)
	return ok && r.Loop() == PacketOut && link.SegmentsUDP()
}
