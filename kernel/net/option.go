package net

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"gosv/kernel/socket"
)

// options are what programs set and read back and netstack has no use for.
type options struct {
	ints   map[[2]int]int
	groups []tcpip.MembershipOption // that were joined
}

// remembered are options that change nothing that can be seen here, by level and name.
var remembered = map[[2]int]bool{
	{unix.SOL_SOCKET, unix.SO_BUSY_POLL}:              true,
	{unix.IPPROTO_IP, unix.IP_FREEBIND}:               true,
	{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT}:   true,
	{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL}:          true,
	{unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES}:   true,
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL}:      true,
	{unix.IPPROTO_IPV6, unix.IPV6_AUTOFLOWLABEL}:      true,
	{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG}:           true,
	{unix.IPPROTO_IPV6, unix.IPV6_MTU}:                true,
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT}:        true,
	{unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS}: true,
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN}:             true,
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT}:     true,
	{unix.IPPROTO_TCP, unix.TCP_SAVE_SYN}:             true,
}

// flagOption is an option that is on or off.
type flagOption struct {
	get func(*tcpip.SocketOptions) bool
	set func(*tcpip.SocketOptions, bool)
	not bool // the option says the contrary
}

var flagOptions = map[[2]int]flagOption{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR}:          {(*tcpip.SocketOptions).GetReuseAddress, (*tcpip.SocketOptions).SetReuseAddress, false},
	{unix.SOL_SOCKET, unix.SO_REUSEPORT}:          {(*tcpip.SocketOptions).GetReusePort, (*tcpip.SocketOptions).SetReusePort, false},
	{unix.SOL_SOCKET, unix.SO_BROADCAST}:          {(*tcpip.SocketOptions).GetBroadcast, (*tcpip.SocketOptions).SetBroadcast, false},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:          {(*tcpip.SocketOptions).GetKeepAlive, (*tcpip.SocketOptions).SetKeepAlive, false},
	{unix.SOL_SOCKET, unix.SO_NO_CHECK}:           {(*tcpip.SocketOptions).GetNoChecksum, (*tcpip.SocketOptions).SetNoChecksum, false},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY}:          {(*tcpip.SocketOptions).GetDelayOption, (*tcpip.SocketOptions).SetDelayOption, true},
	{unix.IPPROTO_TCP, unix.TCP_CORK}:             {(*tcpip.SocketOptions).GetCorkOption, (*tcpip.SocketOptions).SetCorkOption, false},
	{unix.IPPROTO_TCP, unix.TCP_QUICKACK}:         {(*tcpip.SocketOptions).GetQuickAck, (*tcpip.SocketOptions).SetQuickAck, false},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP}:     {(*tcpip.SocketOptions).GetMulticastLoop, (*tcpip.SocketOptions).SetMulticastLoop, false},
	{unix.IPPROTO_IP, unix.IP_RECVTOS}:            {(*tcpip.SocketOptions).GetReceiveTOS, (*tcpip.SocketOptions).SetReceiveTOS, false},
	{unix.IPPROTO_IP, unix.IP_RECVTTL}:            {(*tcpip.SocketOptions).GetReceiveTTL, (*tcpip.SocketOptions).SetReceiveTTL, false},
	{unix.IPPROTO_IP, unix.IP_PKTINFO}:            {(*tcpip.SocketOptions).GetReceivePacketInfo, (*tcpip.SocketOptions).SetReceivePacketInfo, false},
	{unix.IPPROTO_IP, unix.IP_HDRINCL}:            {(*tcpip.SocketOptions).GetHeaderIncluded, (*tcpip.SocketOptions).SetHeaderIncluded, false},
	{unix.IPPROTO_IP, unix.IP_RECVERR}:            {(*tcpip.SocketOptions).GetIPv4RecvError, (*tcpip.SocketOptions).SetIPv4RecvError, false},
	{unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR}:    {(*tcpip.SocketOptions).GetReceiveOriginalDstAddress, (*tcpip.SocketOptions).SetReceiveOriginalDstAddress, false},
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}:         {(*tcpip.SocketOptions).GetV6Only, (*tcpip.SocketOptions).SetV6Only, false},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP}: {(*tcpip.SocketOptions).GetMulticastLoop, (*tcpip.SocketOptions).SetMulticastLoop, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS}:     {(*tcpip.SocketOptions).GetReceiveTClass, (*tcpip.SocketOptions).SetReceiveTClass, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT}:   {(*tcpip.SocketOptions).GetReceiveHopLimit, (*tcpip.SocketOptions).SetReceiveHopLimit, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}:    {(*tcpip.SocketOptions).GetIPv6ReceivePacketInfo, (*tcpip.SocketOptions).SetIPv6ReceivePacketInfo, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVERR}:        {(*tcpip.SocketOptions).GetIPv6RecvError, (*tcpip.SocketOptions).SetIPv6RecvError, false},
}

// intOption is an option that is a number between least and most.
type intOption struct {
	opt         tcpip.SockOptInt
	least, most int
	otherwise   int // what -1 stands for
}

var intOptions = map[[2]int]intOption{
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}:          {tcpip.KeepaliveCountOption, 1, 127, -1},
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG}:           {tcpip.MaxSegOption, header.TCPMinimumMSS, 65535, -1},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT}:           {tcpip.TCPSynCountOption, 1, 127, -1},
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP}:     {tcpip.TCPWindowClampOption, 0, 1 << 30, -1},
	{unix.IPPROTO_IP, unix.IP_TOS}:                {tcpip.IPv4TOSOption, 0, 255, -1},
	{unix.IPPROTO_IP, unix.IP_TTL}:                {tcpip.IPv4TTLOption, 1, 255, 64},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL}:      {tcpip.MulticastTTLOption, 0, 255, 1},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER}:       {tcpip.MTUDiscoverOption, 0, 5, -1},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}:         {tcpip.IPv6TrafficClassOption, 0, 255, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS}:   {tcpip.IPv6HopLimitOption, 0, 255, -1},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS}: {tcpip.MulticastTTLOption, 0, 255, 1},
	{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER}:   {tcpip.MTUDiscoverOption, 0, 5, -1},
	{unix.IPPROTO_IPV6, unix.IPV6_CHECKSUM}:       {tcpip.IPv6Checksum, -1, 1 << 16, -1},
}

// levelFits says whether a socket has options of a level.
func (k *sock) levelFits(level int) bool {
	switch level {
	case unix.IPPROTO_TCP:
		return k.stream()
	case unix.IPPROTO_IPV6:
		return k.s.Family == unix.AF_INET6
	}
	return true
}

// SetOption implements socket.Ops.
func (k *sock) SetOption(c *socket.Caller, level, name int, value []byte) error {
	if !k.levelFits(level) {
		return unix.ENOPROTOOPT
	}
	key := [2]int{level, name}
	if done, err := k.setStructure(c, key, value); done {
		return err
	}
	v, err := intOrByte(level, value)
	if f, ok := flagOptions[key]; ok {
		if err != nil {
			return err
		}
		f.set(k.ep.SocketOptions(), (v != 0) != f.not)
		if level == unix.SOL_SOCKET {
			return unix.ENOPROTOOPT // the layer remembers it
		}
		return nil
	}
	if o, ok := intOptions[key]; ok {
		switch {
		case err != nil:
			return err
		case v == -1 && o.otherwise >= 0:
			v = o.otherwise
		case v < o.least || v > o.most:
			return unix.EINVAL
		}
		return errno(k.ep.SetSockOptInt(o.opt, v))
	}
	if remembered[key] {
		if err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.opts.ints == nil {
			k.opts.ints = map[[2]int]int{}
		}
		k.opts.ints[key] = v
		return nil
	}
	return k.setOther(key, v, err, value)
}

// intOrByte reads a number, which options of IP may give as one byte (ip(7)).
func intOrByte(level int, b []byte) (int, error) {
	if level == unix.IPPROTO_IP && len(b) > 0 && len(b) < 4 {
		return int(b[0]), nil
	}
	return socket.ParseInt(b)
}

// setOther are options that are neither. err is why there is no number v.
func (k *sock) setOther(key [2]int, v int, err error, value []byte) error {
	so := k.ep.SocketOptions()
	seconds := func(n, most int) (time.Duration, error) {
		if err != nil {
			return 0, err
		}
		if v < n || v > most {
			return 0, unix.EINVAL
		}
		return time.Duration(v) * time.Second, nil
	}
	switch key {
	case [2]int{unix.SOL_SOCKET, unix.SO_SNDBUF}, [2]int{unix.SOL_SOCKET, unix.SO_RCVBUF},
		[2]int{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE}, [2]int{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE}:
		if err == nil {
			k.setBuffer(key[1], v)
		}
		return err
	case [2]int{unix.SOL_SOCKET, unix.SO_RCVLOWAT}:
		if err == nil && v >= 0 {
			_ = so.SetRcvlowat(int32(v)) // the layer has it too
		}
		return unix.ENOPROTOOPT
	case [2]int{unix.SOL_SOCKET, unix.SO_LINGER}:
		if len(value) >= 8 {
			k.setLinger(binary.LittleEndian.Uint32(value) != 0, int(int32(binary.LittleEndian.Uint32(value[4:]))))
		}
		return unix.ENOPROTOOPT
	case [2]int{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:
		d, err := seconds(1, 32767)
		if err != nil {
			return err
		}
		o := tcpip.KeepaliveIdleOption(d)
		return errno(k.ep.SetSockOpt(&o))
	case [2]int{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}:
		d, err := seconds(1, 32767)
		if err != nil {
			return err
		}
		o := tcpip.KeepaliveIntervalOption(d)
		return errno(k.ep.SetSockOpt(&o))
	case [2]int{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT}:
		if err != nil {
			return err
		}
		k.fastMu.Lock()
		k.deferred = v > 0
		k.fastMu.Unlock()
		o := tcpip.TCPDeferAcceptOption(time.Duration(max(v, 0)) * time.Second)
		return errno(k.ep.SetSockOpt(&o))
	case [2]int{unix.IPPROTO_TCP, unix.TCP_LINGER2}:
		if err != nil {
			return err
		}
		o := tcpip.TCPLingerTimeoutOption(time.Duration(v) * time.Second)
		return errno(k.ep.SetSockOpt(&o))
	case [2]int{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}:
		if err != nil {
			return err
		}
		if v < 0 {
			return unix.EINVAL
		}
		o := tcpip.TCPUserTimeoutOption(time.Duration(v) * time.Millisecond)
		return errno(k.ep.SetSockOpt(&o))
	case [2]int{unix.IPPROTO_TCP, unix.TCP_CONGESTION}:
		o := tcpip.CongestionControlOption(unix.ByteSliceToString(value))
		if err := k.ep.SetSockOpt(&o); err != nil {
			return unix.ENOENT
		}
		return nil
	case [2]int{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF}:
		if err != nil {
			return err
		}
		return errno(k.ep.SetSockOpt(&tcpip.MulticastInterfaceOption{NIC: tcpip.NICID(v)}))
	case [2]int{unix.IPPROTO_IP, unix.IP_OPTIONS}:
		if len(value) == 0 {
			return nil // takes options away; there are none
		}
	}
	return unix.ENOPROTOOPT
}

// setStructure are options whose value is a structure; done says that this was one.
func (k *sock) setStructure(c *socket.Caller, key [2]int, value []byte) (done bool, err error) {
	switch key {
	case [2]int{unix.SOL_SOCKET, unix.SO_BINDTODEVICE}:
		return true, k.bindToDevice(c, unix.ByteSliceToString(value))
	case [2]int{unix.IPPROTO_IP, unix.IP_MULTICAST_IF}:
		m, err := parseMreq(value, false)
		if err != nil {
			return true, err
		}
		return true, errno(k.ep.SetSockOpt(&tcpip.MulticastInterfaceOption{NIC: m.NIC, InterfaceAddr: m.InterfaceAddr}))
	case [2]int{unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP}:
		m, err := parseMreq(value, true)
		if err != nil {
			return true, err
		}
		return true, k.join(m, true)
	case [2]int{unix.IPPROTO_IP, unix.IP_DROP_MEMBERSHIP}:
		m, err := parseMreq(value, true)
		if err != nil {
			return true, err
		}
		return true, k.join(m, false)
	case [2]int{unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP}, [2]int{unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP}:
		if len(value) < unix.SizeofIPv6Mreq {
			return true, unix.EINVAL
		}
		m := tcpip.MembershipOption{MulticastAddr: tcpip.AddrFrom16([16]byte(value[:16])), NIC: tcpip.NICID(binary.LittleEndian.Uint32(value[16:]))}
		return true, k.join(m, key[1] == unix.IPV6_JOIN_GROUP)
	}
	return false, nil
}

// join makes the socket a member of a multicast group, or ends that.
func (k *sock) join(m tcpip.MembershipOption, in bool) error {
	var err tcpip.Error
	if in {
		if err := k.mayJoin(m); err != nil {
			return err
		}
		err = k.ep.SetSockOpt((*tcpip.AddMembershipOption)(&m))
	} else {
		err = k.ep.SetSockOpt((*tcpip.RemoveMembershipOption)(&m))
	}
	if err == nil && !k.stream() {
		k.member(m, in)
	}
	return errno(err)
}

// parseMreq reads struct ip_mreqn, struct ip_mreq, or, unless a group is needed, an address alone.
func parseMreq(b []byte, group bool) (m tcpip.MembershipOption, err error) {
	address := func(b []byte) (a tcpip.Address) {
		if v := [4]byte(b); v != [4]byte{} {
			a = tcpip.AddrFrom4(v)
		}
		return a
	}
	switch {
	case len(b) >= unix.SizeofIPMreqn:
		m.NIC = tcpip.NICID(binary.LittleEndian.Uint32(b[8:]))
		fallthrough
	case len(b) >= unix.SizeofIPMreq:
		m.MulticastAddr, m.InterfaceAddr = address(b[:4]), address(b[4:8])
		return m, nil
	case len(b) >= 4 && !group:
		m.InterfaceAddr = address(b[:4])
		return m, nil
	}
	return m, unix.EINVAL
}

func (k *sock) bindToDevice(c *socket.Caller, name string) error {
	if name == "" {
		return errno(k.ep.SocketOptions().SetBindToDevice(0))
	}
	id, ok := k.net.index(name)
	if !ok {
		return unix.ENODEV
	}
	if k.ep.SocketOptions().GetBindToDevice() != 0 && !c.Cred.Capable(unix.CAP_NET_RAW) {
		return unix.EPERM
	}
	return errno(k.ep.SocketOptions().SetBindToDevice(int32(id)))
}

// setBuffer sets the size of a buffer, doubled as socket(7) says.
func (k *sock) setBuffer(name, v int) {
	so := k.ep.SocketOptions()
	size := int64(min(max(v, 0), bufferMax)) * 2
	if name == unix.SO_SNDBUF || name == unix.SO_SNDBUFFORCE {
		least, most := so.SendBufferLimits()
		size = min(max(size, least), most)
		so.SetSendBufferSize(size, true)
		k.sendAsked.Store(int32(size / 2))
	} else {
		least, most := so.ReceiveBufferLimits()
		size = min(max(size, least), most)
		so.SetReceiveBufferSize(size, true)
		k.recvAsked.Store(int32(size / 2))
	}
	if h := k.fast.Load(); h != nil {
		h.resize()
	}
}

func (k *sock) setLinger(on bool, seconds int) {
	k.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: on, Timeout: time.Duration(max(seconds, 0)) * time.Second})
}

// Option implements socket.Ops.
func (k *sock) Option(c *socket.Caller, level, name int) ([]byte, error) {
	if !k.levelFits(level) {
		return nil, unix.ENOPROTOOPT
	}
	key := [2]int{level, name}
	if f, ok := flagOptions[key]; ok && level != unix.SOL_SOCKET {
		return flag(f.get(k.ep.SocketOptions()) != f.not), nil
	}
	if o, ok := intOptions[key]; ok {
		v, err := k.ep.GetSockOptInt(o.opt)
		return socket.Int(v), errno(err)
	}
	if remembered[key] {
		k.mu.Lock()
		defer k.mu.Unlock()
		return socket.Int(k.opts.ints[key]), nil
	}
	if level == unix.IPPROTO_TCP {
		return k.tcpOption(name)
	}
	so := k.ep.SocketOptions()
	switch key {
	case [2]int{unix.SOL_SOCKET, unix.SO_ERROR}:
		k.collectError()
		if err := k.s.TakeError(); err != nil {
			return socket.Int(int(err.(unix.Errno))), nil
		}
		if k.fast.Load() != nil {
			return socket.Int(0), nil
		}
		if e, ok := errno(k.ep.LastError()).(unix.Errno); ok {
			return socket.Int(int(e)), nil
		}
		return socket.Int(0), nil
	case [2]int{unix.SOL_SOCKET, unix.SO_SNDBUF}:
		return socket.Int(int(so.GetSendBufferSize())), nil
	case [2]int{unix.SOL_SOCKET, unix.SO_RCVBUF}:
		return socket.Int(int(so.GetReceiveBufferSize())), nil
	case [2]int{unix.SOL_SOCKET, unix.SO_ACCEPTCONN}:
		return flag(k.stream() && k.state() == tcp.StateListen), nil
	case [2]int{unix.SOL_SOCKET, unix.SO_BINDTODEVICE}:
		if id := so.GetBindToDevice(); id != 0 {
			return append([]byte(k.net.name(tcpip.NICID(id))), 0), nil
		}
		return nil, nil
	case [2]int{unix.IPPROTO_IP, unix.IP_MULTICAST_IF}:
		var m tcpip.MulticastInterfaceOption
		if err := k.ep.GetSockOpt(&m); err != nil {
			return nil, errno(err)
		}
		b := make([]byte, 4)
		copy(b, m.InterfaceAddr.AsSlice())
		return b, nil
	case [2]int{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF}:
		var m tcpip.MulticastInterfaceOption
		if err := k.ep.GetSockOpt(&m); err != nil {
			return nil, errno(err)
		}
		return socket.Int(int(m.NIC)), nil
	case [2]int{unix.IPPROTO_IP, unix.IP_OPTIONS}:
		return nil, nil
	case [2]int{unix.IPPROTO_IP, unix.IP_MTU}:
		if _, err := k.ep.GetRemoteAddress(); err != nil {
			return nil, unix.ENOTCONN
		}
		return socket.Int(k.mtu()), nil
	}
	return nil, unix.ENOPROTOOPT
}

func flag(on bool) []byte {
	if on {
		return socket.Int(1)
	}
	return socket.Int(0)
}

// mtu is the MTU of the interface that the socket's local address belongs to.
func (k *sock) mtu() int {
	a, err := k.ep.GetLocalAddress()
	if err != nil {
		return 0
	}
	s := k.net.Stack()
	if info, ok := s.SingleNICInfo(s.CheckLocalAddress(0, protocolOf(a.Addr), a.Addr)); ok {
		return int(info.MTU)
	}
	return 0
}

// tcpOption is getsockopt(2) of level IPPROTO_TCP.
func (k *sock) tcpOption(name int) ([]byte, error) {
	whole := func(d time.Duration, unit time.Duration) []byte { return socket.Int(int(d / unit)) }
	switch name {
	case unix.TCP_KEEPIDLE:
		var o tcpip.KeepaliveIdleOption
		err := k.ep.GetSockOpt(&o)
		return whole(time.Duration(o), time.Second), errno(err)
	case unix.TCP_KEEPINTVL:
		var o tcpip.KeepaliveIntervalOption
		err := k.ep.GetSockOpt(&o)
		return whole(time.Duration(o), time.Second), errno(err)
	case unix.TCP_DEFER_ACCEPT:
		var o tcpip.TCPDeferAcceptOption
		err := k.ep.GetSockOpt(&o)
		return whole(time.Duration(o), time.Second), errno(err)
	case unix.TCP_LINGER2:
		var o tcpip.TCPLingerTimeoutOption
		err := k.ep.GetSockOpt(&o)
		return whole(time.Duration(o), time.Second), errno(err)
	case unix.TCP_USER_TIMEOUT:
		var o tcpip.TCPUserTimeoutOption
		err := k.ep.GetSockOpt(&o)
		return whole(time.Duration(o), time.Millisecond), errno(err)
	case unix.TCP_CONGESTION:
		var o tcpip.CongestionControlOption
		err := k.ep.GetSockOpt(&o)
		b := make([]byte, 16) // TCP_CA_NAME_MAX
		copy(b, o)
		return b, errno(err)
	case unix.TCP_INFO:
		return k.tcpInfo()
	}
	return nil, unix.ENOPROTOOPT
}

// tcpStates are Linux's numbers of TCP's states (include/net/tcp_states.h).
var tcpStates = map[tcp.EndpointState]byte{
	tcp.StateEstablished: 1, tcp.StateSynSent: 2, tcp.StateConnecting: 2, tcp.StateSynRecv: 3, tcp.StateFinWait1: 4, tcp.StateFinWait2: 5,
	tcp.StateTimeWait: 6, tcp.StateCloseWait: 8, tcp.StateLastAck: 9, tcp.StateListen: 10, tcp.StateClosing: 11,
}

// tcpState is Linux's number of a state; what is none of those is TCP_CLOSE.
func tcpState(s tcp.EndpointState) byte {
	if n, ok := tcpStates[s]; ok {
		return n
	}
	return 7
}

// tcpInfo lays out struct tcp_info as far as netstack knows what goes into it.
func (k *sock) tcpInfo() ([]byte, error) {
	var v tcpip.TCPInfoOption
	if err := k.ep.GetSockOpt(&v); err != nil {
		return nil, errno(err)
	}
	b := make([]byte, unix.SizeofTCPInfo)
	put := func(at int, n uint32) { binary.LittleEndian.PutUint32(b[at:], n) }
	b[0] = tcpState(k.state())
	switch v.CcState {
	case tcpip.RTORecovery:
		b[1] = 4 // TCP_CA_Loss
	case tcpip.FastRecovery, tcpip.SACKRecovery:
		b[1] = 3 // TCP_CA_Recovery
	case tcpip.Disorder:
		b[1] = 1 // TCP_CA_Disorder
	}
	mss, err := k.ep.GetSockOptInt(tcpip.MaxSegOption)
	if err != nil {
		mss = 0
	}
	put(8, uint32(v.RTO/time.Microsecond))
	put(16, uint32(mss)) // tcpi_snd_mss
	put(20, uint32(mss)) // tcpi_rcv_mss
	put(60, uint32(k.mtu()))
	put(68, uint32(v.RTT/time.Microsecond))
	put(72, uint32(v.RTTVar/time.Microsecond))
	put(76, v.SndSsthresh)
	put(80, v.SndCwnd)
	put(84, uint32(mss)) // tcpi_advmss
	return b, nil
}
