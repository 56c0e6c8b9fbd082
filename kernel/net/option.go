package net

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
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

	set      [][2]int // which have been set; the slice is never changed
	discover int      // IP_MTU_DISCOVER
	clamp    int      // TCP_WINDOW_CLAMP; 0 for none
}

// A memo is an option that is only remembered, since it changes nothing that could be seen here: a hint, or something that no packet
// of this machine has.
type memo struct {
	first       int  // what it is until it is set
	least, most int  // EINVAL otherwise
	flag        bool // every number but 0 is 1
	blank       bool // an empty value is 0 (ip(7))
}

const anyInt = 1<<31 - 1

var (
	hint    = memo{least: -anyInt - 1, most: anyInt, flag: true}
	strict  = memo{most: 1}
	ofIP    = memo{least: -anyInt - 1, most: anyInt, flag: true, blank: true}
	numbers = memo{least: -anyInt - 1, most: anyInt}
)

var remembered = map[[2]int]memo{
	{unix.SOL_SOCKET, unix.SO_BUSY_POLL}:              {most: anyInt},
	{unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL}:       hint,
	{unix.SOL_SOCKET, unix.SO_WIFI_STATUS}:            hint,
	{unix.SOL_SOCKET, unix.SO_NOFCS}:                  hint,
	{unix.SOL_SOCKET, unix.SO_INCOMING_CPU}:           {first: -1, least: -anyInt - 1, most: anyInt},
	{unix.IPPROTO_IP, unix.IP_FREEBIND}:               hint,
	{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT}:   ofIP,
	{unix.IPPROTO_IP, unix.IP_PASSSEC}:                ofIP,
	{unix.IPPROTO_IP, unix.IP_RECVOPTS}:               ofIP, // netstack keeps packets' options to itself
	{unix.IPPROTO_IP, unix.IP_RETOPTS}:                ofIP,
	{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL}:          {first: 1, most: 1},
	{unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES}:   numbers,
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL}:      {first: 1, most: anyInt, least: -anyInt - 1, flag: true},
	{unix.IPPROTO_IPV6, unix.IPV6_AUTOFLOWLABEL}:      {first: 1, most: anyInt, least: -anyInt - 1, flag: true, blank: true},
	{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG}:           ofIP,
	{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND}:           hint,
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT}:        numbers, // see setNotsent
	{unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS}: strict,
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN}:             {most: anyInt}, // as where no client brings a cookie
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT}:     strict,         // as where no server has given a cookie
	{unix.IPPROTO_TCP, unix.TCP_INQ}:                  strict,
	{unix.IPPROTO_UDP, unix.UDP_SEGMENT}:              {most: 1<<16 - 1},
	{unix.IPPROTO_UDP, unix.UDP_GRO}:                  hint,
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
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG}:           {tcpip.MaxSegOption, 0, 32767, -1},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT}:           {tcpip.TCPSynCountOption, 1, 127, -1},
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP}:     {tcpip.TCPWindowClampOption, 0, 1 << 30, -1},
	{unix.IPPROTO_IP, unix.IP_TOS}:                {tcpip.IPv4TOSOption, 0, 255, -1},
	{unix.IPPROTO_IP, unix.IP_TTL}:                {tcpip.IPv4TTLOption, 1, 255, 64},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL}:      {tcpip.MulticastTTLOption, 0, 255, 1},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER}:       {tcpip.MTUDiscoverOption, 0, 5, -1},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}:         {tcpip.IPv6TrafficClassOption, 0, 255, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS}:   {tcpip.IPv6HopLimitOption, -1, 255, -1},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS}: {tcpip.MulticastTTLOption, 0, 255, 1},
	{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER}:   {tcpip.MTUDiscoverOption, 0, 5, -1},
	{unix.IPPROTO_IPV6, unix.IPV6_CHECKSUM}:       {tcpip.IPv6Checksum, -1, 1 << 16, -1},
}

// levelError is what an option of a level gives that the socket does not have; nil when it may have it.
func (k *sock) levelError(level int, get bool) error {
	six := k.s.Family == unix.AF_INET6
	fits := level == unix.SOL_SOCKET
	switch level {
	case unix.IPPROTO_TCP:
		fits = k.stream()
	case unix.IPPROTO_UDP:
		fits = k.s.Type == unix.SOCK_DGRAM && k.s.Protocol == unix.IPPROTO_UDP
	case unix.IPPROTO_IPV6:
		fits = six
	case unix.IPPROTO_IP:
		fits = !six || k.s.Type != unix.SOCK_RAW
	}
	switch {
	case fits:
		return nil
	case get && !six:
		return unix.EOPNOTSUPP
	}
	return unix.ENOPROTOOPT
}

// SetOption implements socket.Ops.
func (k *sock) SetOption(c *socket.Caller, level, name int, value []byte) error {
	err := k.setOption(c, level, name, value)
	if err == nil || err == unix.ENOPROTOOPT && level == unix.SOL_SOCKET {
		k.noteSet([2]int{level, name})
	}
	return err
}

// noteSet remembers that an option was set, which an accepted socket then has too.
func (k *sock) noteSet(key [2]int) {
	if _, ok := flagOptions[key]; !ok && (key[0] == unix.SOL_SOCKET || !k.stream()) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains(k.opts.set, key) {
		k.opts.set = append(slices.Clip(k.opts.set), key)
	}
}

func (k *sock) setOption(c *socket.Caller, level, name int, value []byte) error {
	if k.raw6(level) {
		return k.setRaw6(level, name, value)
	}
	if err := k.levelError(level, false); err != nil {
		return err
	}
	if (level == unix.SOL_SOCKET || level == unix.IPPROTO_TCP || level == unix.IPPROTO_UDP) && len(value) < 4 && !textOption[[2]int{level, name}] {
		return unix.EINVAL
	}
	key := [2]int{level, name}
	if name == unix.TCP_CORK && level == unix.IPPROTO_TCP && k.stream() { // twice for each answer of some servers: without the tables
		v, err := intOrByte(level, value)
		if err == nil {
			k.corked.Store(false)
			k.ep.SocketOptions().SetCorkOption(v != 0)
		}
		return err
	}
	if done, err := k.setStructure(c, key, value); done {
		return err
	}
	v, err := intOrByte(level, value)
	if f, ok := flagOptions[key]; ok {
		if len(value) == 0 && level == unix.IPPROTO_IP && name != unix.IP_MULTICAST_LOOP {
			v, err = 0, nil
		}
		switch {
		case name == unix.IP_HDRINCL && level == unix.IPPROTO_IP && k.s.Type != unix.SOCK_RAW:
			return unix.ENOPROTOOPT
		case err != nil:
			return err
		case key == [2]int{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP} && v&^1 != 0, key == [2]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY} && k.s.Type == unix.SOCK_RAW:
			return unix.EINVAL
		}
		f.set(k.ep.SocketOptions(), (v != 0) != f.not)
		if level == unix.SOL_SOCKET {
			return unix.ENOPROTOOPT // the layer remembers it
		}
		return nil
	}
	if _, ok := intOptions[key]; ok {
		return k.setInt(key, v, err, value)
	}
	if m, ok := remembered[key]; ok {
		return k.remember(key, m, v, err, value)
	}
	return k.setOther(key, v, err, value)
}

// textOption are options of less than four bytes.
var textOption = map[[2]int]bool{
	{unix.SOL_SOCKET, unix.SO_BINDTODEVICE}: true,
	{unix.IPPROTO_TCP, unix.TCP_CONGESTION}: true,
	{unix.IPPROTO_TCP, unix.TCP_ULP}:        true,
}

// intOrByte reads a number, which options of IP may give as one byte (ip(7)).
func intOrByte(level int, b []byte) (int, error) {
	if level == unix.IPPROTO_IP && len(b) > 0 && len(b) < 4 {
		return int(b[0]), nil
	}
	return socket.ParseInt(b)
}

// remember sets an option of remembered. err is why there is no number v.
func (k *sock) remember(key [2]int, m memo, v int, err error, value []byte) error {
	if m.blank && err != nil {
		v, err = 0, nil
	}
	switch {
	case err != nil:
		return err
	case v < m.least || v > m.most:
		return unix.EINVAL
	case m.flag && v != 0:
		v = 1
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.opts.ints == nil {
		k.opts.ints = map[[2]int]int{}
	}
	k.opts.ints[key] = v
	switch key {
	case [2]int{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT}:
		k.setNotsent(v)
	case [2]int{unix.IPPROTO_TCP, unix.TCP_INQ}:
		k.inq.Store(v != 0)
	case [2]int{unix.IPPROTO_UDP, unix.UDP_SEGMENT}:
		k.segment.Store(int32(v))
	case [2]int{unix.IPPROTO_UDP, unix.UDP_GRO}:
		k.gro.Store(v != 0)
	}
	return nil
}

// memory returns an option of remembered.
func (k *sock) memory(key [2]int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, ok := k.opts.ints[key]; ok {
		return v
	}
	if key == [2]int{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL} && k.s.Family == unix.AF_INET6 {
		return 0
	}
	return remembered[key].first
}

// setInt sets an option of intOptions.
func (k *sock) setInt(key [2]int, v int, err error, value []byte) error {
	o := intOptions[key]
	if len(value) == 0 && (key == [2]int{unix.IPPROTO_IP, unix.IP_TOS} || key == [2]int{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER}) {
		v, err = 0, nil
	}
	switch multicast := o.opt == tcpip.MulticastTTLOption; {
	case multicast && k.stream() && key[0] == unix.IPPROTO_IP:
		return unix.EINVAL
	case multicast && k.stream(), o.opt == tcpip.IPv6Checksum && k.s.Type != unix.SOCK_RAW:
		return unix.ENOPROTOOPT
	case err != nil:
		return err
	case key == [2]int{unix.IPPROTO_IP, unix.IP_TOS}:
		v &= 255
	case v == -1 && o.otherwise >= 0:
		v = o.otherwise
	}
	if v < o.least || v > o.most {
		return unix.EINVAL
	}
	switch o.opt {
	case tcpip.MTUDiscoverOption:
		k.mu.Lock()
		k.opts.discover, v = v, discovery[v]
		k.mu.Unlock()
	case tcpip.MaxSegOption:
		if v != 0 && (v < header.TCPMinimumMSS || v > 32767) {
			return unix.EINVAL
		}
		v = cmp.Or(v, header.TCPDefaultMSS)
	case tcpip.TCPWindowClampOption:
		if v != 0 {
			v = max(v, leastWindow)
		}
		k.mu.Lock()
		k.opts.clamp = v
		k.mu.Unlock()
		v = cmp.Or(v, bufferMax)
	}
	return errno(k.ep.SetSockOptInt(o.opt, v))
}

// leastWindow is SOCK_MIN_RCVBUF/2, the least TCP_WINDOW_CLAMP.
const leastWindow = 1152

// discovery are netstack's words for IP_PMTUDISC_DONT, _WANT, _DO, _PROBE, _INTERFACE and _OMIT, of which the last two send without DF.
var discovery = [...]int{
	int(tcpip.PMTUDiscoveryDont), int(tcpip.PMTUDiscoveryWant), int(tcpip.PMTUDiscoveryDo), int(tcpip.PMTUDiscoveryProbe),
	int(tcpip.PMTUDiscoveryDont), int(tcpip.PMTUDiscoveryDont),
}

// getInt returns an option of intOptions.
func (k *sock) getInt(key [2]int, o intOption) ([]byte, error) {
	k.mu.Lock()
	discover, clamp := k.opts.discover, k.opts.clamp
	k.mu.Unlock()
	switch o.opt {
	case tcpip.MTUDiscoverOption:
		return socket.Int(discover), nil
	case tcpip.TCPWindowClampOption:
		return socket.Int(clamp), nil
	case tcpip.IPv6Checksum:
		if k.s.Type != unix.SOCK_RAW {
			return nil, unix.ENOPROTOOPT
		}
	case tcpip.MaxSegOption:
		if mss := k.segmentSize(); mss != 0 {
			return socket.Int(mss), nil
		}
	}
	v, err := k.ep.GetSockOptInt(o.opt)
	if err == nil && (o.opt == tcpip.IPv4TTLOption && v == 0 || o.opt == tcpip.IPv6HopLimitOption && v == -1) {
		v = defaultTTL
	}
	return socket.Int(v), errno(err)
}

// defaultTTL is ip_default_ttl.
const defaultTTL = 64

// setOther are options that are neither. err is why there is no number v.
func (k *sock) setOther(key [2]int, v int, err error, value []byte) error {
	switch key[0] {
	case unix.SOL_SOCKET:
		return k.setSocketLevel(key[1], v, err, value)
	case unix.IPPROTO_TCP:
		return k.setTCPLevel(key[1], v, err, value)
	}
	switch key {
	case [2]int{unix.IPPROTO_IPV6, unix.IPV6_MTU}:
		switch {
		case err != nil:
			return err
		case v != 0 && v < header.IPv6MinimumMTU:
			return unix.EINVAL
		}
		return nil // packets are cut where the way needs it anyhow
	case [2]int{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF}:
		switch {
		case k.stream():
			return unix.ENOPROTOOPT
		case err != nil:
			return err
		case v != 0 && !k.net.Stack().HasNIC(tcpip.NICID(v)):
			return unix.ENODEV
		}
		return errno(k.ep.SetSockOpt(&tcpip.MulticastInterfaceOption{NIC: tcpip.NICID(v)}))
	case [2]int{unix.IPPROTO_IP, unix.IP_OPTIONS}:
		if len(value) == 0 {
			return nil // takes options away; there are none
		}
	}
	return unix.ENOPROTOOPT
}

func (k *sock) setSocketLevel(name, v int, err error, value []byte) error {
	switch name {
	case unix.SO_SNDBUF, unix.SO_RCVBUF, unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE:
		if err == nil {
			k.setBuffer(name, v)
		}
		return err
	case unix.SO_LINGER:
		if len(value) >= 8 {
			k.setLinger(binary.LittleEndian.Uint32(value) != 0, int(int32(binary.LittleEndian.Uint32(value[4:]))))
		}
	case unix.SO_MAX_PACING_RATE:
		if v != -1 {
			return unix.EOPNOTSUPP // nothing holds packets back
		}
		return nil
	case unix.SO_DETACH_FILTER:
		return unix.ENOENT // none can be attached
	case unix.SO_PASSCRED:
		return unix.EOPNOTSUPP
	}
	return unix.ENOPROTOOPT
}

func (k *sock) setTCPLevel(name, v int, err error, value []byte) error {
	switch name {
	case unix.TCP_THIN_DUPACK:
		if v&^1 != 0 {
			return unix.EINVAL
		}
		return nil // Linux knows it no more
	case unix.TCP_ULP:
		return unix.ENOENT // no protocol can be put on top
	case unix.TCP_CONGESTION:
		o := tcpip.CongestionControlOption(unix.ByteSliceToString(value))
		if err := k.ep.SetSockOpt(&o); err != nil {
			return unix.ENOENT
		}
		return nil
	case unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_DEFER_ACCEPT, unix.TCP_LINGER2, unix.TCP_USER_TIMEOUT:
		if err != nil {
			return err
		}
		return k.setTCPTime(name, v)
	}
	return unix.ENOPROTOOPT
}

// setTCPTime sets an option that is a time: EINVAL.
func (k *sock) setTCPTime(name, v int) error {
	d := time.Duration(v) * time.Second
	switch name {
	case unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL:
		const most = 32767
		if v < 1 || v > most {
			return unix.EINVAL
		}
		if name == unix.TCP_KEEPIDLE {
			o := tcpip.KeepaliveIdleOption(d)
			return errno(k.ep.SetSockOpt(&o))
		}
		o := tcpip.KeepaliveIntervalOption(d)
		return errno(k.ep.SetSockOpt(&o))
	case unix.TCP_DEFER_ACCEPT:
		k.fastMu.Lock()
		k.deferred = v > 0
		k.fastMu.Unlock()
		o := tcpip.TCPDeferAcceptOption(time.Duration(wholeTimeouts(v)) * time.Second)
		return errno(k.ep.SetSockOpt(&o))
	case unix.TCP_LINGER2:
		o := tcpip.TCPLingerTimeoutOption(d)
		return errno(k.ep.SetSockOpt(&o))
	}
	if v < 0 {
		return unix.EINVAL
	}
	o := tcpip.TCPUserTimeoutOption(time.Duration(v) * time.Millisecond)
	return errno(k.ep.SetSockOpt(&o))
}

// wholeTimeouts is the time in seconds until the answer to a SYN was sent so often that the last time lies not before a time: what
// TCP_DEFER_ACCEPT becomes.
func wholeTimeouts(seconds int) int {
	if seconds <= 0 {
		return 0
	}
	const longest = 120 // TCP_RTO_MAX
	total := 1
	for timeout := 1; total < seconds && timeout < 255*longest; {
		timeout = min(timeout*2, longest)
		total += timeout
	}
	return total
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
	if k.ep.SocketOptions().GetBindToDevice() != 0 && !c.Cred.CapableIn(k.net.cfg.Owner, unix.CAP_NET_RAW) {
		return unix.EPERM
	}
	return errno(k.ep.SocketOptions().SetBindToDevice(int32(id)))
}

// setBuffer sets the size of a buffer, doubled as socket(7) says.
func (k *sock) setBuffer(name, v int) {
	so := k.ep.SocketOptions()
	switch name {
	case unix.SO_SNDBUF:
		v = min(v, int(socket.MaxSend.Load()))
	case unix.SO_RCVBUF:
		v = min(v, int(socket.MaxReceive.Load()))
	}
	size := int64(min(max(v, 0), bufferMax)) * 2
	if name == unix.SO_SNDBUF || name == unix.SO_SNDBUFFORCE {
		least, most := so.SendBufferLimits()
		size = min(max(size, socket.MinSendBuffer), most)
		so.SetSendBufferSize(max(size, least), true)
		k.sendAsked.Store(int32(size / 2))
	} else {
		least, most := so.ReceiveBufferLimits()
		size = min(max(size, socket.MinRecvBuffer), most)
		so.SetReceiveBufferSize(max(size, least), true)
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
	b, err := k.option(level, name)
	if level == unix.IPPROTO_IP && c.Room > 0 && c.Room < 4 && len(b) == 4 && binary.LittleEndian.Uint32(b) <= 255 {
		b = b[:1] // as options of IP may be set
	}
	return b, err
}

// option returns the whole value of an option.
func (k *sock) option(level, name int) ([]byte, error) {
	if k.raw6(level) {
		return k.getRaw6(level, name)
	}
	if err := k.levelError(level, true); err != nil {
		return nil, err
	}
	key := [2]int{level, name}
	if f, ok := flagOptions[key]; ok && level != unix.SOL_SOCKET {
		return flag(f.get(k.ep.SocketOptions()) != f.not), nil
	}
	if o, ok := intOptions[key]; ok {
		return k.getInt(key, o)
	}
	if _, ok := remembered[key]; ok {
		return socket.Int(k.memory(key)), nil
	}
	if level == unix.IPPROTO_TCP {
		return k.tcpOption(name)
	}
	if level == unix.SOL_SOCKET {
		return k.socketOption(name)
	}
	switch key {
	case [2]int{unix.IPPROTO_IP, unix.IP_MULTICAST_IF}:
		var m tcpip.MulticastInterfaceOption
		if err := k.ep.GetSockOpt(&m); err != nil {
			return nil, errno(err)
		}
		b := make([]byte, 4)
		copy(b, m.InterfaceAddr.AsSlice())
		return b, nil
	case [2]int{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF}:
		if k.stream() {
			return socket.Int(0), nil
		}
		var m tcpip.MulticastInterfaceOption
		if err := k.ep.GetSockOpt(&m); err != nil {
			return nil, errno(err)
		}
		return socket.Int(int(m.NIC)), nil
	case [2]int{unix.IPPROTO_IP, unix.IP_OPTIONS}:
		return nil, nil
	case [2]int{unix.IPPROTO_IP, unix.IP_MTU}, [2]int{unix.IPPROTO_IPV6, unix.IPV6_MTU}:
		if _, err := k.ep.GetRemoteAddress(); err != nil {
			return nil, unix.ENOTCONN
		}
		return socket.Int(k.mtu()), nil
	}
	return nil, unix.ENOPROTOOPT
}

// socketOption returns an option of SOL_SOCKET (socket(7)).
func (k *sock) socketOption(name int) ([]byte, error) {
	so := k.ep.SocketOptions()
	switch name {
	case unix.SO_ERROR:
		return socket.Int(k.takeError()), nil
	case unix.SO_SNDBUF:
		return socket.Int(cmp.Or(2*int(k.sendAsked.Load()), int(so.GetSendBufferSize()))), nil
	case unix.SO_RCVBUF:
		return socket.Int(cmp.Or(2*int(k.recvAsked.Load()), int(so.GetReceiveBufferSize()))), nil
	case unix.SO_PASSCRED:
		return nil, unix.EOPNOTSUPP
	case unix.SO_MAX_PACING_RATE:
		return binary.LittleEndian.AppendUint64(nil, math.MaxUint64), nil
	case unix.SO_ACCEPTCONN:
		return flag(k.stream() && k.state() == tcp.StateListen), nil
	case unix.SO_BINDTODEVICE:
		if id := so.GetBindToDevice(); id != 0 {
			return append([]byte(k.net.name(tcpip.NICID(id))), 0), nil
		}
		return nil, nil
	}
	return nil, unix.ENOPROTOOPT
}

// takeError returns the error that the socket keeps as a number, 0 for none, and forgets it.
func (k *sock) takeError() int {
	k.collectError()
	if err := k.s.TakeError(); err != nil {
		return int(err.(unix.Errno))
	}
	if k.fast.Load() != nil {
		return 0
	}
	if e, ok := errno(k.ep.LastError()).(unix.Errno); ok {
		return int(e)
	}
	return 0
}

// segmentSize is the size of segments in bytes that a connection sends, 0 without one.
func (k *sock) segmentSize() int {
	if k.fast.Load() != nil {
		return fastSegment
	}
	return int(k.metrics()["snd_mss"])
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
	whole := func(d time.Duration, unit time.Duration) []byte {
		if d < 0 {
			return socket.Int(-1)
		}
		return socket.Int(int(d / unit))
	}
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
	case unix.TCP_THIN_DUPACK:
		return socket.Int(0), nil
	case unix.TCP_INFO:
		return k.tcpInfo()
	}
	return nil, unix.ENOPROTOOPT
}
