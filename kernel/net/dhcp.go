package net

import (
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"

	"gosv/kernel/dhcp"
	"gosv/kernel/netdev"
)

// Learned is what servers and routers say of names.
type Learned struct {
	DNS, Search []string
	Hostname    string // "" for none
}

// setup is what eth0 gets from others: by DHCP, and by routers of IPv6 as the flags in what they
// announce say (RFC 4861 §4.2).
type setup struct {
	n     *Network
	learn func(Learned)
	v4    *dhcp.Client4
	done4 chan struct{} // closed when the client of IPv4 has ended
	ready [2]chan struct{}
	once  [2]sync.Once

	mu     sync.Mutex // leaf: the stack is not called with it, but for what a lease changes
	lease4 *dhcp.Lease4
	lease6 *dhcp.Lease6
	v6     *dhcp.Client6
	done6  chan struct{}
	mode6  ipv6.DHCPv6ConfigurationFromNDPRA
	dns    map[tcpip.Address]time.Time // of routers, and until when each is good
	search []string                    // of routers

	telling sync.Mutex // learn is called by one at a time, in order
}

const (
	waitV4, waitV6 = 0, 1

	configureTime = 10 * time.Second // for which the program waits
	releaseTime   = 200 * time.Millisecond
	maxRouterDNS  = 8
)

func newSetup(n *Network) *setup {
	return &setup{n: n, ready: [2]chan struct{}{make(chan struct{}), make(chan struct{})}, dns: map[tcpip.Address]time.Time{}}
}

// Configure asks for what the interface is to get from others, and waits until it has an address of each
// family that was asked for, ten seconds at most. learn is told what servers say of names, again at each change.
func (n *Network) Configure(learn func(Learned)) {
	if !n.cfg.DHCP && !n.cfg.SLAAC {
		return
	}
	n.setup = newSetup(n)
	n.setup.learn = learn
	if n.Stack(); n.eth == nil {
		n.log("network: there is no device to ask for an address by")
		return
	}
	late := time.After(configureTime)
	for i, asked := range []bool{n.cfg.DHCP, n.cfg.SLAAC} {
		if !asked {
			continue
		}
		select {
		case <-n.setup.ready[i]:
		case <-late:
			n.log("network: no address of " + []string{"IPv4", "IPv6"}[i] + " yet; the program starts without it")
			return
		}
	}
}

// Release lets connections that were closed deliver what they hold, gives addresses back to their servers, and waits until all that was
// sent has left the device, which forgets it when the machine ends; the machine is about to end.
func (n *Network) Release() {
	n.deliver()
	n.setup.release()
	if n.eth != nil {
		n.eth.dev.Drain(releaseTime)
	}
}

// release gives the addresses back.
func (s *setup) release() {
	if s == nil {
		return
	}
	late := time.After(releaseTime)
	wait := func(done chan struct{}) {
		select {
		case <-done:
		case <-late:
		}
	}
	if s.v4 != nil {
		s.v4.Stop()
		wait(s.done4)
	}
	s.mu.Lock()
	done := s.stop6()
	s.mu.Unlock()
	if done != nil {
		wait(done)
	}
}

// arrived tells who waits in Configure.
func (s *setup) arrived(which int) { s.once[which].Do(func() { close(s.ready[which]) }) }

// config is that of a client.
func (s *setup) config() dhcp.Config {
	dev := s.n.eth.dev
	return dhcp.Config{MAC: dev.MAC(), Hostname: s.n.cfg.Hostname, Log: s.n.log, Send: func(frame []byte) {
		_ = dev.Send([][]byte{frame}, netdev.Offload{}) // it is sent again when there is no answer
		dev.Flush()
	}}
}

// make makes the client of IPv4, which runs from start on.
func (s *setup) make() {
	if s.n.cfg.DHCP {
		s.v4, s.done4 = dhcp.New4(s.config(), s.bound4), make(chan struct{})
	}
}

func (s *setup) start() {
	if s.v4 != nil {
		go func() {
			s.v4.Run()
			close(s.done4)
		}()
	}
}

// receive takes a frame when it is for a client.
func (s *setup) receive(frame []byte, checked bool) bool {
	d, ok := dhcp.Parse(frame, checked)
	switch {
	case !ok:
		return false
	case !d.V6 && s.v4 != nil:
		s.v4.Receive(d)
		return true
	case d.V6:
		s.mu.Lock()
		c := s.v6
		s.mu.Unlock()
		if c != nil {
			c.Receive(d)
			return true
		}
	}
	return false
}

// routes4 are the routes of a lease, that of its own network first.
func routes4(l *dhcp.Lease4) []tcpip.Route {
	if l == nil {
		return nil
	}
	own := Prefix{tcpip.AddrFrom4(l.Address), l.Bits}
	list := []tcpip.Route{{Destination: own.prefix().Subnet(), NIC: Ethernet}}
	for _, r := range l.Routes {
		o := tcpip.Route{Destination: Prefix{tcpip.AddrFrom4(r.Dst), r.Bits}.prefix().Subnet(), NIC: Ethernet}
		if r.Gateway != (dhcp.IPv4{}) {
			o.Gateway = tcpip.AddrFrom4(r.Gateway)
		}
		list = append(list, o)
	}
	return list
}

// bound4 makes eth0 what a lease says; nil: it has none any more.
func (s *setup) bound4(l *dhcp.Lease4) {
	s.mu.Lock()
	old := s.lease4
	s.lease4 = l
	s.mu.Unlock()
	stack := s.n.stack
	moved := old != nil && (l == nil || l.Address != old.Address || l.Bits != old.Bits)
	if moved {
		if err := stack.RemoveAddress(Ethernet, tcpip.AddrFrom4(old.Address)); err != nil {
			s.n.log("network: " + err.String()) // a program has taken it away
		}
	}
	had, has := routes4(old), routes4(l)
	stack.RemoveRoutes(func(r tcpip.Route) bool { return slices.Contains(had, r) && !slices.Contains(has, r) })
	if l != nil && (old == nil || moved) {
		s.n.addAddress(Ethernet, Prefix{tcpip.AddrFrom4(l.Address), l.Bits})
	}
	for _, r := range has {
		if !slices.Contains(had, r) {
			stack.AddRoute(r)
		}
	}
	if l == nil {
		return
	}
	if l.MTU != 0 && l.MTU <= s.n.eth.dev.MTU() {
		s.n.must("MTU", stack.SetNICMTU(Ethernet, uint32(l.MTU)))
	}
	s.tell()
	s.arrived(waitV4)
}

// flags starts what routers say that there is: called on the stack's goroutine, which must not be called back.
func (s *setup) flags(c ipv6.DHCPv6ConfigurationFromNDPRA) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Whoever gets an address gets the rest with it.
	if c == ipv6.DHCPv6NoConfiguration || c == s.mode6 || s.mode6 == ipv6.DHCPv6ManagedAddress {
		return
	}
	s.stop6()
	s.mode6 = c
	v6, done := dhcp.New6(s.config(), c == ipv6.DHCPv6ManagedAddress, s.bound6), make(chan struct{})
	s.v6, s.done6 = v6, done
	go func() {
		v6.Run()
		close(done)
	}()
}

// stop6 ends the client of IPv6, and returns what is closed then; mu is held.
func (s *setup) stop6() chan struct{} {
	if s.v6 == nil {
		return nil
	}
	s.v6.Stop()
	s.v6 = nil
	return s.done6
}

// bound6 gives eth0 the address of a lease, for which routers have said the way already; nil: it has none any more.
func (s *setup) bound6(l *dhcp.Lease6) {
	s.mu.Lock()
	old := s.lease6
	s.lease6 = l
	s.mu.Unlock()
	var was, is dhcp.IPv6
	if old != nil {
		was = old.Address
	}
	if l != nil {
		is = l.Address
	}
	if was != is && was != (dhcp.IPv6{}) {
		if err := s.n.stack.RemoveAddress(Ethernet, tcpip.AddrFrom16(was)); err != nil {
			s.n.log("network: " + err.String())
		}
	}
	if was != is && is != (dhcp.IPv6{}) {
		s.n.addAddress(Ethernet, Prefix{tcpip.AddrFrom16(is), 128})
	}
	s.tell()
}

// routerDNS takes name servers of a router (RFC 8106 §5.1).
func (s *setup) routerDNS(list []tcpip.Address, life time.Duration) {
	s.mu.Lock()
	for _, a := range list {
		if _, known := s.dns[a]; known || len(s.dns) < maxRouterDNS {
			s.dns[a] = time.Now().Add(life)
		}
	}
	s.mu.Unlock()
	go s.tell()
}

// routerSearch takes domains of a router (RFC 8106 §5.2).
func (s *setup) routerSearch(names []string, life time.Duration) {
	s.mu.Lock()
	s.search = nil
	if life > 0 {
		s.search = slices.Clone(names)
	}
	s.mu.Unlock()
	go s.tell()
}

// tell says what is known of names.
func (s *setup) tell() {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.learn(s.known())
}

func (s *setup) known() (l Learned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, until := range s.dns {
		if time.Until(until) <= 0 {
			delete(s.dns, a)
			continue
		}
		l.DNS = append(l.DNS, serverName(a))
	}
	slices.Sort(l.DNS)
	l.Search = slices.Clone(s.search)
	if v6 := s.lease6; v6 != nil {
		for _, a := range v6.DNS {
			l.DNS = append(l.DNS, serverName(tcpip.AddrFrom16(a)))
		}
		l.Search = append(l.Search, v6.Search...)
	}
	if v4 := s.lease4; v4 != nil {
		for _, a := range v4.DNS {
			l.DNS = append(l.DNS, a.String())
		}
		l.Search, l.Hostname = append(l.Search, v4.Search...), v4.Hostname
	}
	l.DNS, l.Search = unique(l.DNS), unique(l.Search)
	return l
}

// serverName is the address of a name server as resolv.conf(5) has it.
func serverName(a tcpip.Address) string {
	if header.IsV6LinkLocalUnicastAddress(a) {
		return a.String() + "%eth0"
	}
	return a.String()
}

// unique leaves out what was there before.
func unique(list []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
