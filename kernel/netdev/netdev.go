// Package netdev is what a network device is to the network stack: frames of Ethernet
// go in and out, and some of the work on them may be left to the other side. Drivers
// implement Device, kernel/net uses it.
package netdev

import "time"

// Segment says into what the receiver of a large packet has to cut it.
type Segment uint8

// The kinds of large packets.
const (
	Whole   Segment = iota // the packet is none
	TCPv4                  // TCP over IPv4
	TCPv6                  // TCP over IPv6
	UDP                    // datagrams over IPv4 or IPv6
	Unknown                // of a kind that was not agreed on
)

// Offload is the work on a packet that was left to its receiver: as virtio 1.3 §5.1.6
// has it. Offsets and lengths are bytes from the start of the frame, and
// foreign when the packet was received: they may lie outside it.
type Offload struct {
	// Checksum: the sum over the bytes from Start on is not complete; it belongs
	// Offset bytes after Start, where the sum over the pseudo-header is.
	Checksum      bool
	Start, Offset uint16
	// Valid: the device has checked the sums of the packet.
	Valid bool
	// Segment: cut into segments of Size bytes of data, each with a header like
	// the first Header bytes.
	Segment      Segment
	Size, Header uint16
}

// Features say what may be left to the device.
type Features struct {
	Checksum     bool // checksums of what is sent
	TCPv4, TCPv6 bool // segmentation of what is sent
	UDP          bool // the same of UDP, over both
}

// Stats count what happened since the start. Fields are as in /proc/net/dev.
type Stats struct {
	RxPackets, RxBytes, RxErrors, RxDropped uint64
	TxPackets, TxBytes, TxErrors, TxDropped uint64
}

// A Receiver takes a frame that came in. The parts are one frame in order; they are valid during the call only. It
// may be called on one goroutine at a time and may send.
type Receiver func(parts [][]byte, o Offload)

// A Filter is a Device that can be told which frames it receives besides those for everybody and for groups. It begins with those for its own address.
type Filter interface {
	// Promiscuous has it receive all there are, or not any more: EOPNOTSUPP, EIO.
	Promiscuous(on bool) error
	// SetMAC gives it another address: EOPNOTSUPP, EIO.
	SetMAC(mac [6]byte) error
}

// Device is an Ethernet interface.
type Device interface {
	// MAC is the hardware address.
	MAC() [6]byte
	// MTU is the largest size of what a frame carries, in bytes.
	MTU() int
	// Features tells what Send may leave to the device.
	Features() Features
	// Start begins receiving. It is called once, before Send.
	Start(r Receiver) error
	// Send hands over one frame, of which it keeps nothing. It waits for room for a
	// short time; ENOBUFS when there is none, EIO when the device is
	// broken, EMSGSIZE. The device may not look before Flush.
	Send(parts [][]byte, o Offload) error
	// Flush makes the device look.
	Flush()
	// Drain waits until all that was sent has left, for most at most.
	Drain(most time.Duration)
	// Up reports whether the link is up.
	Up() bool
	// Stats returns the counters.
	Stats() Stats
}
