package vmm

import (
	"net/netip"
	"os"
)

// Kinds of network.
const (
	NetNone = ""     // no device
	NetUser = "user" // the monitor's own network, which needs no privilege
	NetTap  = "tap"  // an interface of this machine, in File
	NetLink = "link" // frames go through a socket of datagrams, in File
)

// Net is the network device of a machine.
type Net struct {
	Kind string // a Net constant
	// MAC is the device's address; the zero value leaves it to the monitor.
	MAC [6]byte
	// Forwards are ports of this machine that lead to the guest, with NetUser.
	Forwards []Forward
	// File is the tap interface, or the socket.
	File *os.File
	// Queues are further queues of the tap interface, one for each of the processors that there are beyond the first.
	Queues []*os.File
}

// Forward is a port of this machine that leads to one of the guest's.
type Forward struct {
	UDP   bool
	Host  netip.Addr // the invalid address stands for all of this machine's
	Port  uint16
	Guest uint16
}

// The network that a guest sees with NetUser (QEMU's own).
const (
	UserAddress = "10.0.2.15/24"
	UserGateway = "10.0.2.2"
	UserDNS     = "10.0.2.3"
)
