package network

// SegmentsUDP reports whether what is written goes to a link that cuts large packets of UDP, and nowhere else.
func (c *WriteContext) SegmentsUDP() bool { return c.route.SegmentsUDP() }
