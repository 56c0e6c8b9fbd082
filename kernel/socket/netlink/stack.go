package netlink

// A Stack is a network: what NETLINK_ROUTE shows and changes. The TCP/IP stack implements it. Addresses are 4 or 16 bytes;
// methods return unix.Errno values. EOPNOTSUPP is for what the stack cannot do. What changes
// interfaces tells Network.LinkChanged; whatever else changes the network tells its like.
type Stack interface {
	Links() []Link
	// SetLink changes an interface: ENODEV.
	SetLink(index int, c LinkChange) error
	// AddLink makes an interface: EOPNOTSUPP for a kind that is not there, EEXIST, EBUSY for a number that is taken, EINVAL, EADDRNOTAVAIL, ENOMEM.
	AddLink(l *NewLink) error
	// MoveLink moves an interface to another network, with another name unless that is "", and returns its number there: EINVAL for one that
	// stays, EEXIST, ENOMEM.
	MoveLink(index int, to Stack, name string) (int, error)
	// RemoveLink removes an interface: ENODEV, EOPNOTSUPP for one that stays.
	RemoveLink(index int) error

	Addresses() []Address
	// AddAddress: EEXIST, ENODEV.
	AddAddress(a Address) error
	// RemoveAddress: EADDRNOTAVAIL.
	RemoveAddress(a Address) error

	Routes() []Route
	// AddRoute: EEXIST, ENETUNREACH for a gateway that nothing leads to.
	AddRoute(r Route) error
	// RemoveRoute: ESRCH.
	RemoveRoute(r Route) error
	// RouteTo is the way to an address, out of the interface oif unless that is 0: ENETUNREACH.
	RouteTo(dst []byte, oif int) (Route, error)

	Neighbours() []Neighbour
	AddNeighbour(n Neighbour) error
	RemoveNeighbour(n Neighbour) error

	// Sockets are those of a family (AF_INET, AF_INET6) and protocol (IPPROTO_TCP, IPPROTO_UDP, …), for ss(8).
	Sockets(family, protocol int) []Socket
}

// A Link is an interface.
type Link struct {
	Index     int
	Name      string
	Type      int    // ARPHRD_ETHER, ARPHRD_LOOPBACK
	Flags     uint32 // IFF_UP and so on
	MTU       int    // bytes
	Address   []byte // hardware address
	Broadcast []byte
	QueueLen  int
	Unsettled bool // its link was never in another state than at first
	Stats     Stats
	// Kind is the driver's name of what can be made and removed, and Info what it tells (IFLA_INFO_DATA).
	Kind string
	Info []byte
	// Peer is the number of the interface in the same network that it is joined with, 0 for none.
	Peer int
	// Joined: it is one of two, wherever the other is.
	Joined bool
}

// A NewLink is an interface that is to be made.
type NewLink struct {
	Kind    string
	Name    string // "": as the Stack chooses
	Index   int    // 0: the next
	MTU     int    // bytes; 0: as the kind has it
	Address []byte // nil: any
	Up      bool
	In      Stack    // the network that it is to be in; nil: the one that makes it
	Peer    *NewLink // the one it is joined with; nil: as the Stack chooses
}

// Stats counts what went through an interface.
type Stats struct {
	RxPackets, TxPackets, RxBytes, TxBytes, RxErrors, TxErrors, RxDropped, TxDropped, Multicast uint64
}

// A LinkChange is what is to be changed of a Link.
type LinkChange struct {
	Flags, Mask uint32 // the flags in Mask become those in Flags
	MTU         int    // 0: as it is
	Name        string // "": as it is
	Address     []byte // nil: as it is
}

// An Address is one of an interface's addresses.
type Address struct {
	Index     int
	Addr      []byte
	Peer      []byte // the address at the other end of the link, nil: none
	Bits      int    // length of its network, the peer's when there is one
	Broadcast []byte
	Label     string
	Scope     uint8  // RT_SCOPE_UNIVERSE and so on
	Flags     uint32 // IFA_F_PERMANENT and so on
	// Preferred and Valid are lifetimes in seconds; all ones: for ever.
	Preferred, Valid uint32
}

// A Route is an entry of a routing table.
type Route struct {
	Family   int
	Dst      []byte // nil: the default route
	Bits     int
	Gateway  []byte // nil: on the link
	Source   []byte // preferred source address, nil: none
	Index    int    // of the interface
	Metric   uint32
	Table    int   // RT_TABLE_MAIN, RT_TABLE_LOCAL
	Protocol uint8 // RTPROT_BOOT and so on
	Scope    uint8
	Type     uint8 // RTN_UNICAST, RTN_LOCAL, …
	LinkDown bool  // nothing is connected to the interface
}

// A Neighbour is a host on a link whose hardware address is known or asked for.
type Neighbour struct {
	Index   int
	Addr    []byte
	Address []byte // hardware address, nil: not known
	State   uint16 // NUD_REACHABLE and so on
	Flags   uint8
}

// A Socket is what ss(8) shows of one.
type Socket struct {
	Family                 int
	State                  int // of TCP: 1 established … 10 listen; for UDP 7, or 1 when connected
	Local, Remote          []byte
	LocalPort, RemotePort  uint16
	Index                  int // of the interface it is bound to
	ReadQueue, WriteQueue  int // bytes; of a listener: connections that wait, and the backlog
	UID                    uint32
	Ino                    uint64
	Timer, Retransmissions uint8
	Expires                uint32 // ms
	Info                   []byte // struct tcp_info; nil: none
}
