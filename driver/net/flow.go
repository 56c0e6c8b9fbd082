package net

import "encoding/binary"

// Where the addresses and ports of a frame are, without options.
const (
	typeAt    = 12
	ipv4      = 0x0800
	ipv6      = 0x86dd
	addr4At   = 26
	addr6At   = 22
	ports6At  = 54
	flowBytes = ports6At + 4
)

// flow hashes the addresses and ports of a frame, so that the packets of a connection go by one queue, in order.
func flow(parts [][]byte) uint32 {
	var b [flowBytes]byte
	n := 0
	for _, p := range parts {
		if n += copy(b[n:], p); n == len(b) {
			break
		}
	}
	h := uint32(0)
	add := func(from, to int) {
		for ; from < to; from += 4 {
			h = (h ^ binary.BigEndian.Uint32(b[from:])) * 0x9e3779b1
			h ^= h >> 15
		}
	}
	switch binary.BigEndian.Uint16(b[typeAt:]) {
	case ipv4:
		add(addr4At, addr4At+12)
	case ipv6:
		add(addr6At, ports6At+4)
	}
	return h >> 3
}

// sending is how many pairs packets are sent by.
func (d *Device) sending() int { return int(d.active.Load()) }

// usePairs says so.
func (d *Device) usePairs(n int) { d.active.Store(int32(n)) }
