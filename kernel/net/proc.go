package net

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/netdev"
	"gosv/kernel/socket/netlink"
	"gosv/kernel/sorting"
)

// A ProcFile is a file below /proc that tells about the network (proc(5)).
type ProcFile struct {
	Path  string
	Show  func() string
	Store func(string) error // takes what root writes; nil: the file is read-only
}

// ProcFiles returns them all. Reading one starts the network.
func (n *Network) ProcFiles() []ProcFile {
	table := func(family, typ int, head string, format func(b *strings.Builder, i int, k *sock)) func() string {
		return func() string {
			var b strings.Builder
			b.WriteString(head)
			for i, k := range n.sockets(family, typ) {
				format(&b, i, k)
			}
			return b.String()
		}
	}
	const tcpHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n"
	const tcp6Head = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	const udpHead = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops             \n"
	const udp6Head = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
	return append([]ProcFile{
		{"net/tcp", table(unix.AF_INET, unix.SOCK_STREAM, tcpHead, procTCP), nil},
		{"net/tcp6", table(unix.AF_INET6, unix.SOCK_STREAM, tcp6Head, procTCP), nil},
		{"net/udp", table(unix.AF_INET, unix.SOCK_DGRAM, udpHead, procUDP), nil},
		{"net/udp6", table(unix.AF_INET6, unix.SOCK_DGRAM, udp6Head, procUDP), nil},
		{"net/raw", table(unix.AF_INET, unix.SOCK_RAW, udpHead, procUDP), nil},
		{"net/raw6", table(unix.AF_INET6, unix.SOCK_RAW, udp6Head, procUDP), nil},
		{"net/dev", n.procDev, nil},
		{"net/route", n.procRoute, nil},
		{"net/if_inet6", n.procInet6, nil},
		{"net/arp", n.procARP, nil},
		{"net/igmp", n.procIGMP, nil},
		{"net/igmp6", n.procIGMP6, nil},
		{"net/sockstat", n.procSockstat, nil},
		{"net/sockstat6", n.procSockstat6, nil},
		{"net/protocols", n.procProtocols, nil},
		{"net/ipv6_route", n.procRoute6, nil},
		{"net/snmp", showTallies(tally.rows, n.snmp), nil},
		{"net/netstat", showTallies(tally.rows, n.netstat), nil},
		{"net/snmp6", showTallies(tally.lines, n.snmp6), nil},
		{"net/firewall", func() string {
			if n.Stack(); n.eth == nil {
				return (*firewall)(nil).show()
			}
			return n.eth.wall.show()
		}, nil},
	}, n.sysctls()...)
}

func limits(a, b, c int) string {
	return strconv.Itoa(a) + "\t" + strconv.Itoa(b) + "\t" + strconv.Itoa(c) + "\n"
}

// enter and leave keep the list of sockets.
func (n *Network) enter(k *sock) {
	n.mu.Lock()
	if n.all == nil {
		n.all = map[*sock]struct{}{}
	}
	n.last++
	k.id = n.last
	n.all[k] = struct{}{}
	n.mu.Unlock()
}

func (n *Network) leave(k *sock) {
	n.mu.Lock()
	delete(n.all, k)
	n.mu.Unlock()
}

// sockets returns those of a family and type, in the order in which they were made.
func (n *Network) sockets(family, typ int) []*sock {
	n.mu.Lock()
	var list []*sock
	for k := range n.all {
		if k.s.Family == family && k.s.Type == typ {
			list = append(list, k)
		}
	}
	n.mu.Unlock()
	sorting.Sort(list, func(a, b *sock) int { return int(int64(a.id - b.id)) })
	return list
}

// pad writes v with spaces in front, n characters wide.
func pad(b *strings.Builder, v string, n int) {
	for range n - len(v) {
		b.WriteByte(' ')
	}
	b.WriteString(v)
}

func hexN(v uint64, n int) string {
	s := strings.ToUpper(strconv.FormatUint(v, 16))
	return strings.Repeat("0", max(n-len(s), 0)) + s
}

// procAddr is an address as Linux shows it: words of the machine's order in hexadecimal.
func procAddr(family int, a tcpip.FullAddress) string {
	raw := make([]byte, 4)
	if family == unix.AF_INET6 {
		raw = make([]byte, 16)
		if a.Addr.Len() != 0 {
			copy(raw, in6(a.Addr))
		}
	} else {
		copy(raw, a.Addr.AsSlice())
	}
	var s string
	for ; len(raw) > 0; raw = raw[4:] {
		s += hexN(uint64(binary.LittleEndian.Uint32(raw)), 8)
	}
	return s + ":" + hexN(uint64(a.Port), 4)
}

// An observation is what is told of a socket.
type observation struct {
	local, remote tcpip.FullAddress
	state         uint8 // of TCP, as Linux numbers them
	rx, tx        int   // bytes that wait
	uid           uint32
	ino           uint64
}

// observe looks at a socket.
func (k *sock) observe() (o observation) {
	// What has no name has the zero address, what has no queue the length 0.
	if a, err := k.ep.GetLocalAddress(); err == nil {
		o.local = a
	}
	o.state = 7
	if a, err := k.ep.GetRemoteAddress(); err == nil {
		o.remote, o.state = a, 1
	}
	if n, err := k.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err == nil {
		o.rx = n
	}
	if k.stream() {
		o.tx = k.unacked(false)
	}
	if h := k.fast.Load(); h != nil {
		h.c.mu.Lock()
		o.local, o.remote = h.mine().local, h.mine().remote
		o.rx, o.tx = h.mine().ring.n, 0
		h.c.mu.Unlock()
	}
	if k.stream() {
		o.state = tcpState(k.state())
	}
	if f := k.s.File(); f != nil {
		var st unix.Stat_t
		f.Stat(&st)
		o.uid, o.ino = st.Uid, st.Ino
	}
	return o
}

// procSocket writes a line on a socket.
func procSocket(b *strings.Builder, i int, k *sock, tail string) {
	o := k.observe()
	pad(b, strconv.Itoa(i), 4)
	b.WriteString(": " + procAddr(k.s.Family, o.local) + " " + procAddr(k.s.Family, o.remote) + " " + hexN(uint64(o.state), 2) + " " +
		hexN(uint64(o.tx), 8) + ":" + hexN(uint64(o.rx), 8) + " 00:00000000 00000000 ")
	pad(b, strconv.FormatUint(uint64(o.uid), 10), 5)
	b.WriteString("        0 " + strconv.FormatUint(o.ino, 10) + tail + "\n")
}

func procTCP(b *strings.Builder, i int, k *sock) {
	procSocket(b, i, k, " 1 0000000000000000 100 0 0 10 0")
}

func procUDP(b *strings.Builder, i int, k *sock) { procSocket(b, i, k, " 2 0000000000000000 0") }

// deviceStats are the counters of an interface.
func (n *Network) deviceStats(i *iface) netdev.Stats {
	if i.link != nil {
		return i.link.dev.Stats()
	}
	s := &i.Stats
	return netdev.Stats{RxPackets: s.Rx.Packets.Value(), RxBytes: s.Rx.Bytes.Value(), TxPackets: s.Tx.Packets.Value(), TxBytes: s.Tx.Bytes.Value()}
}

func (n *Network) procDev() string {
	var b strings.Builder
	b.WriteString("Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n")
	for _, i := range n.interfaces() {
		s := n.deviceStats(&i)
		pad(&b, i.Name, 6)
		b.WriteByte(':')
		for j, v := range []uint64{s.RxBytes, s.RxPackets, s.RxErrors, s.RxDropped, 0, 0, 0, 0, s.TxBytes, s.TxPackets, s.TxErrors, s.TxDropped, 0, 0, 0, 0} {
			if j > 0 {
				b.WriteByte(' ')
			}
			pad(&b, strconv.FormatUint(v, 10), [...]int{8, 7, 4, 4, 4, 5, 10, 9, 8, 7, 4, 4, 4, 5, 7, 10}[j])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (n *Network) procRoute() string {
	const (
		up      = 1
		gateway = 2
		host    = 4
	)
	var b strings.Builder
	b.WriteString("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n")
	word := func(a tcpip.Address) string {
		if a.Len() != header.IPv4AddressSize {
			return "00000000"
		}
		return hexN(uint64(binary.LittleEndian.Uint32(a.AsSlice())), 8)
	}
	for _, r := range n.routeTable() {
		id := r.Destination.ID()
		if id.Len() != header.IPv4AddressSize || r.NIC == Loopback {
			continue
		}
		f := uint64(up)
		if r.Gateway.Len() > 0 {
			f |= gateway
		}
		if r.Destination.Prefix() == 32 {
			f |= host
		}
		mask := r.Destination.Mask()
		b.WriteString(n.name(r.NIC) + "\t" + word(id) + "\t" + word(r.Gateway) + "\t" + hexN(f, 4) + "\t0\t0\t0\t" +
			word(tcpip.AddrFromSlice(mask.AsSlice())) + "\t0\t0\t0\n")
	}
	return b.String()
}

func (n *Network) procInet6() string {
	var b strings.Builder
	for _, i := range n.interfaces() {
		for _, a := range i.ProtocolAddresses {
			if a.Protocol != header.IPv6ProtocolNumber {
				continue
			}
			scope := 0
			switch {
			case a.AddressWithPrefix.Address == header.IPv6Loopback:
				scope = 0x10
			case header.IsV6LinkLocalUnicastAddress(a.AddressWithPrefix.Address):
				scope = 0x20
			}
			b.WriteString(hex.EncodeToString(a.AddressWithPrefix.Address.AsSlice()) + " " + strings.ToLower(hexN(uint64(i.index), 2)) + " " +
				strings.ToLower(hexN(uint64(a.AddressWithPrefix.PrefixLen), 2)) + " " + hexN(uint64(scope), 2) + " 80 ")
			pad(&b, i.Name, 8)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (n *Network) procARP() string {
	var b strings.Builder
	b.WriteString("IP address       HW type     Flags       HW address            Mask     Device\n")
	for _, i := range n.interfaces() {
		for _, e := range n.neighbours(&i, header.IPv4ProtocolNumber) {
			flags, mac := "0x0", "00:00:00:00:00:00"
			if len(e.LinkAddr) == header.EthernetAddressSize {
				flags, mac = "0x2", e.LinkAddr.String()
			}
			ip := e.Addr.String()
			b.WriteString(ip + strings.Repeat(" ", max(17-len(ip), 1)) + "0x1         " + flags + "         " + mac + "     *        " + i.Name + "\n")
		}
	}
	return b.String()
}

func (n *Network) procSockstat() string {
	count := func(family, typ int) string { return strconv.Itoa(len(n.sockets(family, typ))) }
	tcp := count(unix.AF_INET, unix.SOCK_STREAM)
	n.mu.Lock()
	all := strconv.Itoa(len(n.all))
	n.mu.Unlock()
	return "sockets: used " + all + "\nTCP: inuse " + tcp + " orphan 0 tw 0 alloc " + tcp + " mem 0\nUDP: inuse " + count(unix.AF_INET, unix.SOCK_DGRAM) +
		" mem 0\nUDPLITE: inuse 0\nRAW: inuse " + count(unix.AF_INET, unix.SOCK_RAW) + "\nFRAG: inuse 0 memory 0\n"
}

// SysFiles are the files below /sys about the interfaces that there are from the start. Making the list does not start the network.
func (n *Network) SysFiles() []ProcFile {
	list := n.FilesOf("lo")
	if n.cfg.Open != nil {
		list = append(list, n.FilesOf("eth0")...)
	}
	return list
}

// FilesOf are the files below /sys about an interface.
func (n *Network) FilesOf(name string) []ProcFile {
	var list []ProcFile
	add := func(file string, show func(i *iface) string) {
		list = append(list, ProcFile{"class/net/" + name + "/" + file, func() string {
			for _, i := range n.interfaces() {
				if i.Name == name {
					return show(&i) + "\n"
				}
			}
			return "\n"
		}, nil})
	}
	add("address", func(i *iface) string {
		if i.LinkAddress == "" {
			return "00:00:00:00:00:00"
		}
		return i.LinkAddress.String()
	})
	add("ifindex", func(i *iface) string { return strconv.Itoa(int(i.index)) })
	add("mtu", func(i *iface) string { return strconv.FormatUint(uint64(i.MTU), 10) })
	add("flags", func(i *iface) string { return "0x" + strconv.FormatUint(uint64(i.flags()), 16) })
	add("type", func(i *iface) string { return strconv.Itoa(int(i.hardware())) })
	add("operstate", func(i *iface) string {
		l := n.describe(i)
		return [...]string{netlink.Unknown: "unknown", netlink.Down: "down", netlink.LowerDown: "lowerlayerdown", netlink.Up: "up"}[l.State()]
	})
	for _, c := range []struct {
		file string
		get  func(s *netdev.Stats) uint64
	}{
		{"rx_bytes", func(s *netdev.Stats) uint64 { return s.RxBytes }}, {"rx_packets", func(s *netdev.Stats) uint64 { return s.RxPackets }},
		{"rx_errors", func(s *netdev.Stats) uint64 { return s.RxErrors }}, {"rx_dropped", func(s *netdev.Stats) uint64 { return s.RxDropped }},
		{"tx_bytes", func(s *netdev.Stats) uint64 { return s.TxBytes }}, {"tx_packets", func(s *netdev.Stats) uint64 { return s.TxPackets }},
		{"tx_errors", func(s *netdev.Stats) uint64 { return s.TxErrors }}, {"tx_dropped", func(s *netdev.Stats) uint64 { return s.TxDropped }},
	} {
		add("statistics/"+c.file, func(i *iface) string {
			s := n.deviceStats(i)
			return strconv.FormatUint(c.get(&s), 10)
		})
	}
	if p := n.plugged(name); p != nil {
		for _, f := range p.Files {
			f.Path = "class/net/" + name + "/" + f.Path
			list = append(list, f)
		}
	}
	return list
}
