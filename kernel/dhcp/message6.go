package dhcp

import "time"

// IPv6 is an address.
type IPv6 [16]byte

// Messages (RFC 8415 §7.3).
const (
	solicit     = 1
	advertise   = 2
	request6    = 3
	renew6      = 5
	rebind6     = 6
	reply       = 7
	release6    = 8
	information = 11
)

// Options (RFC 8415 §21, RFC 3646).
const (
	opt6Client      = 1
	opt6Server      = 2
	opt6IANA        = 3
	opt6Address     = 5
	opt6Wanted      = 6
	opt6Preference  = 7
	opt6Elapsed     = 8
	opt6Status      = 13
	opt6RapidCommit = 14
	opt6DNS         = 23
	opt6Search      = 24
	opt6Refresh     = 32

	sizeofIPv6     = 16
	header6Size    = 4
	iaSize         = 12 // IAID, T1, T2
	iaAddrSize     = 24 // address, two lifetimes
	maxDUID        = 130
	mostPreference = 255
)

// message6 is a message of a server.
type message6 struct {
	typ        byte
	xid        uint32
	client     []byte
	server     []byte
	status     uint16
	preference byte
	lease      Lease6
}

// Lease6 is what a server gave.
type Lease6 struct {
	// Address is zero when only the rest was asked for.
	Address IPv6
	DNS     []IPv6
	Search  []string
	Forever bool
	// As for Lease4; without an address, Time says when to ask again.
	T1, T2, Time time.Duration

	server []byte // its DUID
}

// options calls f for each option of b; false when b ends within one, or f says so.
func options(b []byte, f func(code uint16, data []byte) bool) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		n := int(be.Uint16(b[2:]))
		if len(b) < 4+n || !f(be.Uint16(b), b[4:4+n]) {
			return false
		}
		b = b[4+n:]
	}
	return true
}

// parse6 reads a message; ok is false when it is none.
func parse6(b []byte, iaid uint32) (m *message6, ok bool) {
	if len(b) < header6Size {
		return nil, false
	}
	m = &message6{typ: b[0], xid: be.Uint32(b) & 0xffffff}
	m.lease.Time = 24 * time.Hour // IRT_DEFAULT
	ok = options(b[header6Size:], func(code uint16, data []byte) bool {
		switch {
		case code == opt6Client:
			m.client = data
		case code == opt6Server && len(data) > 0 && len(data) <= maxDUID:
			m.server = append([]byte(nil), data...)
		case code == opt6IANA && len(data) >= iaSize && be.Uint32(data) == iaid:
			return m.ia(data)
		case code == opt6Preference && len(data) == 1:
			m.preference = data[0]
		case code == opt6Status && len(data) >= 2:
			m.status = be.Uint16(data)
		case code == opt6DNS:
			for ; len(data) >= sizeofIPv6 && len(m.lease.DNS) < maxServers; data = data[sizeofIPv6:] {
				m.lease.DNS = append(m.lease.DNS, IPv6(data[:sizeofIPv6]))
			}
		case code == opt6Search:
			m.lease.Search = searchList(data)
		case code == opt6Refresh && len(data) == 4 && m.lease.Address == (IPv6{}):
			m.lease.Time, _ = seconds(be.Uint32(data))
			m.lease.Time = max(m.lease.Time, 10*leastAgain) // IRT_MINIMUM
		}
		return true
	})
	m.lease.server = m.server
	return m, ok
}

// ia reads an association of addresses, of which the first that lives is taken.
func (m *message6) ia(data []byte) bool {
	l := &m.lease
	t1, t2 := be.Uint32(data[4:]), be.Uint32(data[8:])
	return options(data[iaSize:], func(code uint16, data []byte) bool {
		switch {
		case code == opt6Status && len(data) >= 2 && be.Uint16(data) != 0:
			m.status = be.Uint16(data)
		case code == opt6Address && len(data) >= iaAddrSize && l.Address == (IPv6{}) && be.Uint32(data[20:]) != 0:
			a := IPv6(data[:sizeofIPv6])
			if a[0] == 0xff || a == (IPv6{}) || a == (IPv6{15: 1}) || a[0] == 0xfe && a[1]&0xc0 == 0x80 {
				return true
			}
			l.Address = a
			l.Time, l.Forever = seconds(be.Uint32(data[20:]))
			l.T1, l.T2 = time.Duration(t1)*time.Second, time.Duration(t2)*time.Second
			if l.T2 < leastTime/2 || l.T2 >= l.Time {
				l.T2 = l.Time / 5 * 4
			}
			if l.T1 < leastTime/4 || l.T1 >= l.T2 {
				l.T1 = l.T2 / 8 * 5
			}
		}
		return true
	})
}

// ask6 is a message to servers.
type ask6 struct {
	typ     byte
	xid     uint32
	elapsed time.Duration
	server  []byte // nil: any
	address IPv6   // zero: any
	iaid    uint32
	duid    []byte
}

func option6(b []byte, code uint16, data []byte) []byte {
	return append(be.AppendUint16(be.AppendUint16(b, code), uint16(len(data))), data...)
}

// bytes lays it out.
func (a *ask6) bytes() []byte {
	b := be.AppendUint32(nil, uint32(a.typ)<<24|a.xid&0xffffff)
	b = option6(b, opt6Client, a.duid)
	if a.server != nil {
		b = option6(b, opt6Server, a.server)
	}
	b = option6(b, opt6Elapsed, be.AppendUint16(nil, uint16(min(a.elapsed/(10*time.Millisecond), 0xffff))))
	if a.typ != information {
		ia := make([]byte, iaSize)
		be.PutUint32(ia, a.iaid)
		if a.address != (IPv6{}) {
			ia = option6(ia, opt6Address, append(a.address[:], make([]byte, 8)...))
		}
		b = option6(b, opt6IANA, ia)
	}
	if a.typ != release6 {
		b = option6(b, opt6Wanted, []byte{0, opt6DNS, 0, opt6Search, 0, opt6Refresh})
	}
	if a.typ == solicit {
		b = option6(b, opt6RapidCommit, nil)
	}
	return b
}
