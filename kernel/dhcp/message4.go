package dhcp

import (
	"math/bits"
	"time"
)

// IPv4 is an address.
type IPv4 [4]byte

// Messages (RFC 2132 §9.6).
const (
	discover = 1
	offer    = 2
	request  = 3
	ack      = 5
	nak      = 6
	release  = 7
)

// Options (RFC 2132).
const (
	optPad         = 0
	optMask        = 1
	optRouter      = 3
	optDNS         = 6
	optHostname    = 12
	optDomain      = 15
	optMTU         = 26
	optRequested   = 50
	optLease       = 51
	optOverload    = 52
	optType        = 53
	optServer      = 54
	optParameters  = 55
	optMaxSize     = 57
	optT1          = 58
	optT2          = 59
	optClient      = 61
	optSearch      = 119
	optRoutes      = 121
	optEnd         = 255
	fixedSize      = 236 // of a message, in front of the options
	leastSize      = 300 // that some relays want (RFC 1542 §2.1)
	maxSize        = 1500 - ipv4Size - udpSize
	magic          = 0x63825363
	snameAt        = 44
	fileAt         = 108
	sizeofIPv4     = 4
	bootRequest    = 1
	bootReply      = 2
	hardwareEther  = 1
	overloadFile   = 1
	overloadServer = 2
)

// message4 is a message of a server.
type message4 struct {
	xid     uint32
	typ     byte
	yours   IPv4
	chaddr  [6]byte
	from    [6]byte
	options map[byte][]byte
}

// parse4 reads a message; ok is false when it is none.
func parse4(b []byte) (m *message4, ok bool) {
	if len(b) < fixedSize+4 || b[0] != bootReply || b[1] != hardwareEther || b[2] != 6 || be.Uint32(b[fixedSize:]) != magic {
		return nil, false
	}
	m = &message4{xid: be.Uint32(b[4:]), yours: IPv4(b[16:20]), chaddr: [6]byte(b[28:34]), options: map[byte][]byte{}}
	if !m.take(b[fixedSize+4:]) {
		return nil, false
	}
	if o := m.options[optOverload]; len(o) == 1 {
		if o[0]&overloadFile != 0 && !m.take(b[fileAt:fixedSize]) || o[0]&overloadServer != 0 && !m.take(b[snameAt:fileAt]) {
			return nil, false
		}
	}
	if t := m.options[optType]; len(t) == 1 {
		m.typ = t[0]
		return m, true
	}
	return nil, false
}

// take reads options; pieces of one are joined (RFC 3396).
func (m *message4) take(b []byte) bool {
	for len(b) > 0 {
		switch code := b[0]; {
		case code == optEnd:
			return true
		case code == optPad:
			b = b[1:]
		case len(b) < 2 || len(b) < 2+int(b[1]):
			return false
		default:
			n := int(b[1])
			m.options[code] = append(m.options[code], b[2:2+n]...)
			b = b[2+n:]
		}
	}
	return true
}

// address is an option that is one.
func (m *message4) address(code byte) (a IPv4, ok bool) {
	b := m.options[code]
	if len(b) < sizeofIPv4 {
		return a, false
	}
	return IPv4(b[:sizeofIPv4]), true
}

// addresses is an option that is a list of them.
func (m *message4) addresses(code byte) (list []IPv4) {
	for b := m.options[code]; len(b) >= sizeofIPv4 && len(list) < maxServers; b = b[sizeofIPv4:] {
		if a := IPv4(b[:sizeofIPv4]); a.usable() {
			list = append(list, a)
		}
	}
	return list
}

func (m *message4) number(code byte, missing uint32) uint32 {
	if b := m.options[code]; len(b) == 4 {
		return be.Uint32(b)
	}
	return missing
}

// usable reports whether a machine can have the address.
func (a IPv4) usable() bool { return a[0] != 0 && a[0] != 127 && a[0] < 224 }

// A Route4 leads to a network by way of a gateway, or directly when that is zero.
type Route4 struct {
	Dst     IPv4
	Bits    int
	Gateway IPv4
}

// Lease4 is what a server gave.
type Lease4 struct {
	Address IPv4
	Bits    int
	Server  IPv4
	Routes  []Route4
	DNS     []IPv4
	// Domain is the domain of the machine, Search where it looks for names, Hostname its name; "" for none.
	Domain   string
	Search   []string
	Hostname string
	MTU      int // 0 when nothing was said
	// Forever: the lease does not end. Else it is renewed after T1, at any server after T2, and lost after Time.
	Forever      bool
	T1, T2, Time time.Duration

	mac [6]byte // where the server's frames came from
}

// lease reads what a message gives; ok is false without an address that can be used.
func (m *message4) lease() (l *Lease4, ok bool) {
	l = &Lease4{Address: m.yours, mac: m.from}
	if l.Server, ok = m.address(optServer); !ok || !l.Address.usable() {
		return nil, false
	}
	if l.Bits, ok = m.mask(); !ok {
		return nil, false
	}
	l.DNS, l.Search = m.addresses(optDNS), searchList(m.options[optSearch])
	l.Domain, l.Hostname = hostName(m.options[optDomain]), hostName(m.options[optHostname])
	if len(l.Search) == 0 && l.Domain != "" {
		l.Search = []string{l.Domain}
	}
	if b := m.options[optMTU]; len(b) == 2 && be.Uint16(b) >= 576 {
		l.MTU = int(be.Uint16(b))
	}
	if l.Routes, ok = m.routes(); !ok {
		if r := m.addresses(optRouter); len(r) > 0 { // the others are for when the first is dead
			l.Routes = []Route4{{Gateway: r[0]}}
		}
	}
	l.Time, l.Forever = seconds(m.number(optLease, 3600))
	l.T1 = time.Duration(m.number(optT1, 0)) * time.Second
	l.T2 = time.Duration(m.number(optT2, 0)) * time.Second
	if l.T2 < leastTime/2 || l.T2 >= l.Time {
		l.T2 = l.Time / 8 * 7
	}
	if l.T1 < leastTime/4 || l.T1 >= l.T2 {
		l.T1 = l.T2 / 7 * 4
	}
	return l, true
}

// mask is the length of the network: that of the address's class when nothing was said; false when it has holes.
func (m *message4) mask() (n int, ok bool) {
	a, said := m.address(optMask)
	if !said {
		switch c := m.yours[0]; {
		case c < 128:
			return 8, true
		case c < 192:
			return 16, true
		}
		return 24, true
	}
	v := be.Uint32(a[:])
	n = bits.LeadingZeros32(^v)
	return n, n > 0 && v<<n == 0
}

// routes reads the classless routes (RFC 3442), which take the place of routers where there are any.
func (m *message4) routes() (list []Route4, ok bool) {
	for b := m.options[optRoutes]; len(b) > 0 && len(list) < maxRoutes; {
		n := (int(b[0]) + 7) / 8
		if b[0] > 32 || len(b) < 1+n+sizeofIPv4 {
			break
		}
		r := Route4{Bits: int(b[0]), Gateway: IPv4(b[1+n : 1+n+sizeofIPv4])}
		copy(r.Dst[:], b[1:1+n])
		be.PutUint32(r.Dst[:], be.Uint32(r.Dst[:])&^uint32(uint64(1)<<(32-r.Bits)-1))
		if r.Gateway == (IPv4{}) || r.Gateway.usable() {
			list = append(list, r)
		}
		b = b[1+n+sizeofIPv4:]
	}
	return list, len(list) > 0
}

// ask is a message to a server.
type ask struct {
	typ       byte
	xid       uint32
	secs      uint16
	mine      IPv4 // ciaddr: the address that is in use
	requested IPv4 // zero: none
	server    IPv4 // zero: any
	hostname  string
}

// bytes lays it out.
func (a *ask) bytes(mac [6]byte) []byte {
	b := make([]byte, fixedSize, leastSize)
	b[0], b[1], b[2] = bootRequest, hardwareEther, 6
	be.PutUint32(b[4:], a.xid)
	be.PutUint16(b[8:], a.secs)
	copy(b[12:], a.mine[:])
	copy(b[28:], mac[:])
	b = be.AppendUint32(b, magic)
	b = append(b, optType, 1, a.typ)
	b = append(append(b, optClient, 7, hardwareEther), mac[:]...)
	if a.requested != (IPv4{}) {
		b = append(append(b, optRequested, sizeofIPv4), a.requested[:]...)
	}
	if a.server != (IPv4{}) {
		b = append(append(b, optServer, sizeofIPv4), a.server[:]...)
	}
	if a.typ != release {
		b = be.AppendUint16(append(b, optMaxSize, 2), maxSize)
		// Classless routes in front of routers (RFC 3442).
		wanted := []byte{optMask, optRoutes, optRouter, optDNS, optHostname, optDomain, optMTU, optSearch, optLease, optT1, optT2}
		b = append(append(b, optParameters, byte(len(wanted))), wanted...)
		if n := len(a.hostname); n > 0 && n <= 63 {
			b = append(append(b, optHostname, byte(n)), a.hostname...)
		}
	}
	b = append(b, optEnd)
	for len(b) < leastSize {
		b = append(b, optPad)
	}
	return b
}
