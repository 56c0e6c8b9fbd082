package net

import (
	"errors"
	"strconv"
	"strings"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A firewall decides which packets pass eth0, below everything that programs can do, raw and packet sockets included.
//
// Each direction that has rules lets pass what one of them names, and refuses what would begin anything else: a segment of
// TCP with SYN and without ACK, a datagram of UDP that answers none, an echo request of ICMP, all other protocols.
// What belongs to something that has begun passes, and so do ARP, neighbour discovery, errors of ICMP, and
// DHCP's answers. Who answers whom in UDP is remembered for two minutes.
type firewall struct {
	in  []rule
	out []rule
	now func() int64 // monotonic, in ns
	log func(string)

	mu sync.Mutex
	// flows tells until when each is remembered.
	flows map[flow]int64 // +checklocks:mu
	// refused are packets in, out.
	refused [2]uint64 // +checklocks:mu
	// logged is when one was logged last.
	logged int64 // +checklocks:mu
}

// noNextHeader is no protocol (RFC 8200 §4.7).
const noNextHeader = tcpip.TransportProtocolNumber(59)

const (
	maxFlows = 8192
	flowTime = 120e9 // ns
	logEvery = 1e9   // ns
)

// flow is two ends of UDP.
type flow struct {
	remote     tcpip.Address
	port, here uint16
}

// rule names packets: zero values stand for all.
type rule struct {
	protocol tcpip.TransportProtocolNumber
	net      *tcpip.Subnet
	low, top uint16
}

var ruleProtocols = map[string]tcpip.TransportProtocolNumber{"": 0, "any": 0, "tcp": header.TCPProtocolNumber, "udp": header.UDPProtocolNumber, "icmp": header.ICMPv4ProtocolNumber}

// parseRule reads [PROTO][:ADDRESS[/BITS]][:PORT[-PORT]]; an address of IPv6 stands in brackets.
func parseRule(s string) (r rule, err error) {
	bad := errors.New("firewall: " + strconv.Quote(s) + ": say [tcp|udp|icmp][:ADDRESS[/BITS]][:PORT[-PORT]]")
	proto, rest, _ := strings.Cut(s, ":")
	p, ok := ruleProtocols[proto]
	if !ok || s == "" {
		return r, bad
	}
	r.protocol, r.top = p, 65535
	address, ports := rest, ""
	switch {
	case strings.HasPrefix(rest, "["):
		i := strings.IndexByte(rest, ']')
		if i < 0 {
			return r, bad
		}
		bits, p, _ := strings.Cut(rest[i+1:], ":")
		address, ports = rest[1:i]+bits, p
	case strings.ContainsAny(rest, ".") || strings.HasPrefix(rest, ":"):
		address, ports, _ = strings.Cut(rest, ":")
	case rest != "":
		address, ports = "", rest
	}
	if address != "" {
		if !strings.Contains(address, "/") {
			bits := "/32"
			if strings.Contains(address, ":") {
				bits = "/128"
			}
			address += bits
		}
		p, err := parsePrefix(address)
		if err != nil {
			return r, bad
		}
		sub := p.prefix().Subnet()
		r.net = &sub
	}
	if ports != "" {
		low, top, span := strings.Cut(ports, "-")
		if !span {
			top = low
		}
		a, err1 := strconv.ParseUint(low, 10, 16)
		b, err2 := strconv.ParseUint(top, 10, 16)
		if err1 != nil || err2 != nil || a > b {
			return r, bad
		}
		r.low, r.top = uint16(a), uint16(b)
	}
	return r, nil
}

// Firewall takes the rules of a firewall: none for a direction lets all pass.
func (c *Config) Firewall(in, out []string) error {
	for _, l := range []struct {
		from []string
		to   *[]rule
	}{{in, &c.allowIn}, {out, &c.allowOut}} {
		for _, s := range l.from {
			r, err := parseRule(s)
			if err != nil {
				return err
			}
			*l.to = append(*l.to, r)
		}
	}
	return nil
}

func (r *rule) matches(p *summary) bool {
	protocol := p.protocol
	if protocol == header.ICMPv6ProtocolNumber {
		protocol = header.ICMPv4ProtocolNumber
	}
	return (r.protocol == 0 || r.protocol == protocol) && (r.net == nil || r.net.ID().Len() == p.remote.Len() && r.net.Contains(p.remote)) &&
		(r.low == 0 && r.top == 65535 || p.hasPorts && p.service >= r.low && p.service <= r.top)
}

// summary is what the firewall sees of a packet.
type summary struct {
	protocol tcpip.TransportProtocolNumber
	remote   tcpip.Address
	service  uint16 // the port that is asked for
	other    uint16 // the other one
	hasPorts bool
	begins   bool // something new
}

// summarize reads a frame without its Ethernet header, of which the end may be missing. ok is false for what passes always: ARP, and
// fragments behind the first, which are worth nothing alone.
func summarize(protocol tcpip.NetworkProtocolNumber, b []byte, inward bool) (s summary, ok bool) {
	var src, dst tcpip.Address
	switch {
	case protocol == header.ARPProtocolNumber:
		return s, false
	case protocol == header.IPv4ProtocolNumber && len(b) >= header.IPv4MinimumSize && int(header.IPv4(b).HeaderLength()) >= header.IPv4MinimumSize && int(header.IPv4(b).HeaderLength()) <= len(b):
		h := header.IPv4(b)
		if h.FragmentOffset() != 0 {
			return s, false
		}
		s.protocol, src, dst = h.TransportProtocol(), h.SourceAddress(), h.DestinationAddress()
		b = b[h.HeaderLength():]
	case protocol == header.IPv6ProtocolNumber && len(b) >= header.IPv6MinimumSize:
		h := header.IPv6(b)
		src, dst = h.SourceAddress(), h.DestinationAddress()
		s.protocol, b = behindExtensions(h.NextHeader(), b[header.IPv6MinimumSize:])
	default:
		return summary{begins: true}, true // something else, or nothing right
	}
	s.remote, s.begins = dst, true
	if inward {
		s.remote = src
	}
	switch s.protocol {
	case header.TCPProtocolNumber:
		if len(b) < header.TCPMinimumSize {
			return s, true
		}
		f := header.TCP(b).Flags()
		s.begins = f&header.TCPFlagSyn != 0 && f&header.TCPFlagAck == 0
		s.service, s.other, s.hasPorts = header.TCP(b).DestinationPort(), header.TCP(b).SourcePort(), true
	case header.UDPProtocolNumber:
		if len(b) < header.UDPMinimumSize {
			return s, true
		}
		s.service, s.other, s.hasPorts = header.UDP(b).DestinationPort(), header.UDP(b).SourcePort(), true
	case header.ICMPv4ProtocolNumber:
		s.begins = len(b) > 0 && header.ICMPv4Type(b[0]) == header.ICMPv4Echo
	case header.ICMPv6ProtocolNumber:
		s.begins = len(b) > 0 && header.ICMPv6Type(b[0]) == header.ICMPv6EchoRequest
	}
	return s, true
}

// behindExtensions skips the extension headers of IPv6 (RFC 8200 §4); of a fragment only the first has what is behind them.
func behindExtensions(next uint8, b []byte) (tcpip.TransportProtocolNumber, []byte) {
	for range 8 {
		var n int
		switch header.IPv6ExtensionHeaderIdentifier(next) {
		case header.IPv6HopByHopOptionsExtHdrIdentifier, header.IPv6RoutingExtHdrIdentifier, header.IPv6DestinationOptionsExtHdrIdentifier:
			if len(b) < 2 {
				return noNextHeader, nil
			}
			n = 8 * (int(b[1]) + 1)
		case header.IPv6FragmentExtHdrIdentifier:
			n = header.IPv6FragmentHeaderSize
		default:
			return tcpip.TransportProtocolNumber(next), b
		}
		if len(b) < n {
			return noNextHeader, nil
		}
		next, b = b[0], b[n:]
	}
	return noNextHeader, nil
}

// pass reports whether a frame may pass. b begins behind the Ethernet header.
func (f *firewall) pass(protocol tcpip.NetworkProtocolNumber, b []byte, inward bool) bool {
	s, ok := summarize(protocol, b, inward)
	if !ok {
		return true
	}
	rules := f.out
	if inward {
		rules = f.in
	}
	if s.protocol == header.UDPProtocolNumber && s.hasPorts {
		return f.datagram(&s, rules, inward)
	}
	return rules == nil || !s.begins || f.allowed(&s, rules, inward)
}

func (f *firewall) allowed(s *summary, rules []rule, inward bool) bool {
	for i := range rules {
		if rules[i].matches(s) {
			return true
		}
	}
	f.refuse(s, inward)
	return false
}

// datagram passes answers, and remembers what may be answered.
func (f *firewall) datagram(s *summary, rules []rule, inward bool) bool {
	w := flow{s.remote, s.other, s.service}
	if !inward {
		w.port, w.here = s.service, s.other
	}
	now := f.now()
	f.mu.Lock()
	until, known := f.flows[w]
	f.mu.Unlock()
	dhcp := inward && (s.service == 68 || s.service == 546) || !inward && (s.service == 67 || s.service == 547)
	if !dhcp && !(known && until > now) && rules != nil && !f.allowed(s, rules, inward) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.flows) >= maxFlows {
		for k, t := range f.flows {
			if t <= now || len(f.flows) >= maxFlows {
				delete(f.flows, k)
			}
		}
	}
	f.flows[w] = now + flowTime
	return true
}

// refuse counts a packet and says so, once a second at most.
func (f *firewall) refuse(s *summary, inward bool) {
	way, i := "from ", 0
	if !inward {
		way, i = "to ", 1
	}
	now := f.now()
	f.mu.Lock()
	f.refused[i]++
	quiet := f.logged != 0 && now-f.logged < logEvery
	if !quiet {
		f.logged = now
	}
	f.mu.Unlock()
	if !quiet && f.log != nil {
		f.log("firewall: refused protocol " + strconv.Itoa(int(s.protocol)) + " " + way + s.remote.String() + ", port " + strconv.Itoa(int(s.service)))
	}
}

// show is /proc/net/firewall: how many packets were refused.
func (f *firewall) show() string {
	if f == nil {
		return "in 0\nout 0\n"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return "in " + strconv.FormatUint(f.refused[0], 10) + "\nout " + strconv.FormatUint(f.refused[1], 10) + "\n"
}
