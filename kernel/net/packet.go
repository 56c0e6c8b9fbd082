package net

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/bpf"
	"gosv/kernel/mem"
	"gosv/kernel/netdev"
	"gosv/kernel/share"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Packet is the family AF_PACKET (packet(7)): frames as they are on an interface.
func (n *Network) Packet() *socket.Family {
	return &socket.Family{New: func(c *socket.Caller, typ, protocol int) (*socket.Socket, error) {
		if !c.Cred.CapableIn(n.cfg.Owner, unix.CAP_NET_RAW) {
			return nil, unix.EPERM
		}
		if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
			return nil, unix.ESOCKTNOSUPPORT
		}
		n.Stack()
		p := &packetSock{net: n, raw: typ == unix.SOCK_RAW}
		p.s.Init(unix.AF_PACKET, typ, protocol, p)
		p.attach(swap16(uint16(protocol)), 0)
		return &p.s, nil
	}}
}

// swap16 turns the protocol numbers of programs, which are in the network's order, around.
func swap16(v uint16) uint16 { return v<<8 | v>>8 }

var noOffload netdev.Offload

// A packetSock is one socket of AF_PACKET.
type packetSock struct {
	socket.Defaults
	s   socket.Socket
	net *Network
	raw bool // frames have their Ethernet header

	membersMu sync.Mutex   // not held within mu
	members   []membership // +checklocks:membersMu
	// gone: it has no more of them.
	gone bool // +checklocks:membersMu

	mu       sync.Mutex // all below is guarded by mu; nothing is locked within but the socket's queue
	protocol uint16     // 0: nothing is received
	nic      tcpip.NICID
	tapped   bool // it is among the taps
	filter   socket.Filter
	queue    []seen
	bytes    int // in queue
	packets  uint32
	drops    uint32
	auxdata  bool
	ignore   bool // PACKET_IGNORE_OUTGOING
	version  int
	reserve  int
	ring     *packetRing
	closed   bool
}

// seen is a frame that was received.
type seen struct {
	data   []byte // cut to what the filter wants
	size   int    // of the whole
	net    int    // where the network header is
	addr   []byte
	status uint32
	at     time.Time
}

const (
	seenOverhead = 256 // that a frame counts beside its bytes
	sizeLL       = unix.SizeofSockaddrLinklayer
	maxAddrLL    = 8
)

// attach sets what is looked at; mu is not held, and the socket is not yet, or no longer, among the taps as it was.
func (p *packetSock) attach(protocol uint16, nic tcpip.NICID) {
	p.mu.Lock()
	p.protocol, p.nic = protocol, nic
	was, is := p.tapped, protocol != 0 && !p.closed
	p.tapped = is
	p.mu.Unlock()
	switch {
	case is && !was:
		p.net.taps.add(p)
	case was && !is:
		p.net.taps.remove(p)
	}
}

// addressLL lays out struct sockaddr_ll.
func addressLL(protocol uint16, nic tcpip.NICID, hardware uint16, typ uint8, mac []byte) []byte {
	b := make([]byte, sizeLL)
	binary.LittleEndian.PutUint16(b, unix.AF_PACKET)
	binary.BigEndian.PutUint16(b[2:], protocol)
	binary.LittleEndian.PutUint32(b[4:], uint32(nic))
	binary.LittleEndian.PutUint16(b[8:], hardware)
	b[10], b[11] = typ, byte(len(mac))
	copy(b[12:], mac)
	return b
}

// see takes a frame when the socket wants it.
func (p *packetSock) see(s *sight) {
	protocol := binary.BigEndian.Uint16(s.frame[12:])
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.protocol == unix.ETH_P_ALL
	if p.closed || p.nic != 0 && p.nic != s.nic || !all && (p.protocol != protocol || s.typ == unix.PACKET_OUTGOING) || p.ignore && s.typ == unix.PACKET_OUTGOING {
		return
	}
	f := seen{data: s.frame, size: len(s.frame), net: header.EthernetMinimumSize, status: s.status}
	from := s.frame[6:12]
	if s.bare {
		from = nil
	}
	if !p.raw || s.bare {
		f.data, f.size, f.net = f.data[f.net:], f.size-f.net, 0
	}
	want, ok := p.filter.Wants(&bpf.Packet{Data: f.data, Len: f.size, Protocol: uint32(protocol), Type: uint32(s.typ), Index: uint32(s.nic), Hardware: uint32(s.hardware)})
	if !ok {
		return
	}
	f.data = f.data[:want]
	p.packets++
	f.at, f.addr = time.Now(), addressLL(protocol, s.nic, s.hardware, s.typ, from)
	if p.ring != nil {
		if !p.ring.put(&f) {
			p.drops++
			return
		}
	} else {
		cost := len(f.data) + seenOverhead
		if p.bytes+cost > p.s.RecvBuffer() || !share.Datagrams.Take(int64(cost)) {
			p.drops++
			return
		}
		f.data = append([]byte(nil), f.data...)
		p.queue, p.bytes = append(p.queue, f), p.bytes+cost
	}
	p.s.Queue.Notify(readable)
}

// device checks the number of an interface: ENODEV.
func (n *Network) device(nic tcpip.NICID) error {
	if nic != Loopback && n.link(nic) == nil {
		return unix.ENODEV
	}
	return nil
}

// Bind implements socket.Ops.
func (p *packetSock) Bind(_ *socket.Caller, addr []byte) error {
	if len(addr) < sizeLL || familyOf(addr) != unix.AF_PACKET {
		return unix.EINVAL
	}
	nic := tcpip.NICID(int32(binary.LittleEndian.Uint32(addr[4:])))
	if nic != 0 {
		if err := p.net.device(nic); err != nil {
			return err
		}
	}
	protocol := binary.BigEndian.Uint16(addr[2:])
	if protocol == 0 {
		p.mu.Lock()
		protocol = p.protocol
		p.mu.Unlock()
	}
	p.attach(protocol, nic)
	return nil
}

// Name implements socket.Ops.
func (p *packetSock) Name(peer bool) ([]byte, error) {
	if peer {
		return nil, unix.EOPNOTSUPP
	}
	p.mu.Lock()
	protocol, nic := p.protocol, p.nic
	p.mu.Unlock()
	hardware, mac := uint16(0), []byte(nil)
	if i, ok := p.net.iface(nic); ok {
		hardware, mac = i.hardware(), append(make([]byte, 0, maxAddrLL), i.LinkAddress...)
		if i.Flags.Loopback {
			mac = make([]byte, header.EthernetAddressSize)
		}
	}
	return addressLL(protocol, nic, hardware, 0, mac)[:12+len(mac)], nil
}

// Send implements socket.Ops.
func (p *packetSock) Send(m *socket.Message, src uio.Source) (int64, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EINVAL
	}
	p.mu.Lock()
	protocol, nic := p.protocol, p.nic
	p.mu.Unlock()
	var to []byte
	if m.Addr != nil {
		a := m.Addr
		if len(a) < sizeLL || familyOf(a) != unix.AF_PACKET || int(a[11]) > maxAddrLL {
			return 0, unix.EINVAL
		}
		protocol, nic, to = binary.BigEndian.Uint16(a[2:]), tcpip.NICID(int32(binary.LittleEndian.Uint32(a[4:]))), a[12:12+int(a[11])]
	}
	l := p.net.link(nic)
	if l == nil && nic != Loopback {
		return 0, unix.ENXIO
	}
	bare := l != nil && l.bare
	size := src.Left()
	frame := make([]byte, 0, header.EthernetMinimumSize+min(size, maxFrameLL))
	switch {
	case size > maxFrameLL:
		return 0, unix.EMSGSIZE
	case p.raw && !bare && size < header.EthernetMinimumSize:
		return 0, unix.EINVAL
	case !p.raw || bare:
		frame = frame[:header.EthernetMinimumSize]
		if l != nil && !bare {
			copy(frame[6:], l.LinkAddress())
			if len(to) < header.EthernetAddressSize {
				return 0, unix.EINVAL
			}
			copy(frame, to[:header.EthernetAddressSize])
		}
		binary.BigEndian.PutUint16(frame[12:], protocol)
	}
	at := len(frame)
	frame = frame[:at+size]
	if n, err := src.Take(frame[at:]); n < size {
		if err == nil {
			err = unix.EFAULT
		}
		return 0, err
	}
	if err := p.net.transmit(nic, frame, p); err != nil {
		return 0, err
	}
	return int64(size), nil
}

// maxFrameLL bounds a frame that a program sends, in bytes.
const maxFrameLL = 65536 + header.EthernetMinimumSize

// Receive implements socket.Ops.
func (p *packetSock) Receive(m *socket.Message, dst uio.Sink) (int64, error) {
	if m.Flags&unix.MSG_ERRQUEUE != 0 {
		return 0, unix.EAGAIN
	}
	if p.s.HasError() {
		return 0, p.s.TakeError()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return 0, unix.EAGAIN
	}
	f := p.queue[0]
	n := min(dst.Left(), len(f.data))
	if k, err := dst.Put(f.data[:n]); k < n {
		return 0, err
	}
	if m.Flags&unix.MSG_PEEK == 0 {
		p.queue[0] = seen{}
		p.queue, p.bytes = p.queue[1:], p.bytes-len(f.data)-seenOverhead
		share.Datagrams.Give(int64(len(f.data) + seenOverhead))
	}
	if n < len(f.data) {
		m.Out |= unix.MSG_TRUNC
		if m.Flags&unix.MSG_TRUNC != 0 {
			n = len(f.data)
		}
	}
	if m.WantAddr {
		m.Addr = append(m.Addr, f.addr...)
	}
	switch sec := f.at.Unix(); {
	case p.s.Is(socket.Timestamp):
		m.AddTime(unix.SCM_TIMESTAMP, sec, int64(f.at.Nanosecond()/1000))
	case p.s.Is(socket.TimestampNS):
		m.AddTime(unix.SCM_TIMESTAMPNS, sec, int64(f.at.Nanosecond()))
	}
	if p.auxdata {
		b := make([]byte, 20) // struct tpacket_auxdata
		binary.LittleEndian.PutUint32(b, f.status|unix.TP_STATUS_USER)
		binary.LittleEndian.PutUint32(b[4:], uint32(f.size))
		binary.LittleEndian.PutUint32(b[8:], uint32(len(f.data)))
		binary.LittleEndian.PutUint16(b[14:], uint16(f.net))
		m.Control = append(m.Control, socket.Control{Level: unix.SOL_PACKET, Type: unix.PACKET_AUXDATA, Data: b})
	}
	return int64(n), nil
}

// Poll implements socket.Ops.
func (p *packetSock) Poll() (ready wait.Mask) {
	ready = writable
	if p.s.HasError() {
		ready |= unix.EPOLLERR
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 || p.ring != nil && p.ring.ready() {
		ready |= readable
	}
	return ready
}

// Close implements socket.Ops.
func (p *packetSock) Close() {
	p.mu.Lock()
	p.closed = true
	ring := p.ring
	share.Datagrams.Give(int64(p.bytes))
	p.ring, p.queue, p.bytes = nil, nil, 0
	p.mu.Unlock()
	p.attach(0, 0)
	p.leaveAll()
	if ring != nil {
		ring.release()
	}
}

// Map implements socket.Mapper.
func (p *packetSock) Map() *mem.Cache {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ring == nil {
		return nil
	}
	return p.ring.cache
}

// Ioctl implements socket.Ops.
func (p *packetSock) Ioctl(a *vfs.IoctlArgs) (uint64, error) {
	switch a.Cmd {
	case unix.SIOCINQ:
		n := 0
		p.mu.Lock()
		if len(p.queue) > 0 {
			n = len(p.queue[0].data)
		}
		p.mu.Unlock()
		return 0, a.PutInt32(int32(n))
	case unix.SIOCOUTQ:
		return 0, a.PutInt32(0)
	}
	return p.net.Ioctl(a)
}

// Option implements socket.Ops.
func (p *packetSock) Option(c *socket.Caller, level, name int) ([]byte, error) {
	if level == unix.SOL_SOCKET && name == unix.SO_BPF_EXTENSIONS {
		return socket.Int(64), nil
	}
	if level != unix.SOL_PACKET {
		return nil, unix.ENOPROTOOPT
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch name {
	case unix.PACKET_STATISTICS:
		b := binary.LittleEndian.AppendUint32(nil, p.packets)
		b = binary.LittleEndian.AppendUint32(b, p.drops)
		p.packets, p.drops = 0, 0
		return b, nil
	case unix.PACKET_AUXDATA:
		return flagValue(p.auxdata), nil
	case unix.PACKET_IGNORE_OUTGOING:
		return flagValue(p.ignore), nil
	case unix.PACKET_VERSION:
		return socket.Int(p.version), nil
	case unix.PACKET_RESERVE:
		return socket.Int(p.reserve), nil
	case unix.PACKET_HDRLEN:
		v, err := socket.ParseInt(c.Value)
		if err != nil || v != unix.TPACKET_V1 && v != unix.TPACKET_V2 {
			return nil, unix.EINVAL // TPACKET_V3 is not there
		}
		return socket.Int(ringHeader), nil
	}
	return nil, unix.ENOPROTOOPT
}

func flagValue(on bool) []byte {
	if on {
		return socket.Int(1)
	}
	return socket.Int(0)
}

// SetOption implements socket.Ops.
func (p *packetSock) SetOption(_ *socket.Caller, level, name int, value []byte) error {
	if level == unix.SOL_SOCKET {
		return p.filter.SetOption(&p.s.Options, name, value)
	}
	if level != unix.SOL_PACKET {
		return unix.ENOPROTOOPT
	}
	if name == unix.PACKET_RX_RING {
		return p.setRing(value)
	}
	v, err := socket.ParseInt(value)
	if err != nil {
		return err
	}
	switch name {
	case unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_DROP_MEMBERSHIP:
		return p.member(value, name == unix.PACKET_ADD_MEMBERSHIP)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch name {
	case unix.PACKET_AUXDATA:
		p.auxdata = v != 0
	case unix.PACKET_IGNORE_OUTGOING:
		if v < 0 || v > 1 {
			return unix.EINVAL
		}
		p.ignore = v != 0
	case unix.PACKET_VERSION, unix.PACKET_RESERVE:
		switch {
		case p.ring != nil:
			return unix.EBUSY
		case name == unix.PACKET_VERSION && (v == unix.TPACKET_V1 || v == unix.TPACKET_V2):
			p.version = v
		case name == unix.PACKET_RESERVE && v >= 0 && v <= maxReserve:
			p.reserve = v
		default:
			return unix.EINVAL
		}
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}
