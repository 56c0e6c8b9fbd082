package net

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"gosv/kernel/netdev"
	"gosv/kernel/share"
	"gosv/kernel/socket/netlink"
)

// links are the interfaces beside lo: eth0, and those that come and go.
type links struct {
	mu  sync.RWMutex
	all map[tcpip.NICID]*link // +checklocks:mu
	// last is the number that was given last.
	last tcpip.NICID // +checklocks:mu
	// told are told of changes.
	told []func(Change) // +checklocks:mu
}

// link returns an interface; nil for lo, and when there is none.
func (n *Network) link(nic tcpip.NICID) *link {
	n.links.mu.RLock()
	defer n.links.mu.RUnlock()
	return n.links.all[nic]
}

// any reports whether there are some.
func (t *links) any() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.all) > 0
}

// put adds an interface under its number: false when that is taken.
func (t *links) put(l *link) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[tcpip.NICID]*link{}
	}
	if l.nic != 0 {
		if l.nic == Loopback || t.all[l.nic] != nil {
			return false
		}
		t.all[l.nic] = l
		return true
	}
	for next := max(t.last, Ethernet); ; {
		if next++; next <= 0 {
			next = Ethernet + 1
		}
		if t.all[next] == nil {
			l.nic, t.last = next, next
			t.all[next] = l
			return true
		}
	}
}

// changing is held while interfaces are added, moved and removed, from the decision on (Linux's RTNL). It is one for all networks, since some
// interfaces are joined with others.
var changing sync.Mutex

// exclusively takes changing and returns what gives it back.
//
// +checklocksignore
func exclusively() (done func()) {
	changing.Lock()
	return changing.Unlock
}

// Exclusively calls f while nobody else adds or removes interfaces.
func Exclusively(f func()) {
	defer exclusively()()
	f()
}

// A Plug describes an interface that is made while the network runs, without addresses and down.
type Plug struct {
	// Name may have %d in it, which stands for the first number that is free. NameOf tells what it has become.
	Name string
	// Index is the number that the interface is to have, 0 for the next. NIC tells which it has.
	Index  int
	nic    atomic.Int32
	Device netdev.Device
	MaxMTU int // bytes; 0: 65535
	// NoARP: it needs no hardware addresses to send to.
	NoARP bool
	// Bare: packets of IP are all that it carries. The headers of the device's frames have nothing but the protocol then.
	Bare        bool
	QueueLength int // packets that may wait, as is shown
	// Kind is what rtnetlink calls it, Info what is told of one of its kind (IFLA_INFO_DATA), and Files are shown below
	// /sys/class/net/NAME beside those of all interfaces.
	Kind  string
	Info  func() []byte
	Files []ProcFile
	// Settled says whether the state of the link has ever been another than at first.
	Settled func() bool
	// Removed is called when somebody else than who has plugged it in has removed the interface.
	Removed func()
	// Moved is called when it has left its network for another, in which it will be; nil: it stays where it is. Opened is called when it is
	// brought up or down. Peer is the interface that it is joined with. Opened and Peer may be nil.
	Moved  func(*Network)
	Opened func(up bool)
	Peer   func() (*Network, int)
}

// NIC returns the number of the interface; 0 before there is one.
func (p *Plug) NIC() int { return int(p.nic.Load()) }

// plugCost is what an interface costs with its places in the stack, in bytes.
const plugCost = 16 << 10

// ValidName reports whether an interface may have a name (netdevice(7)).
func ValidName(s string) bool {
	if s == "" || len(s) >= unix.IFNAMSIZ || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		switch s[i] {
		case '/', ':', ' ', '\t', '\n', '\v', '\f', '\r', 0xa0:
			return false
		}
	}
	return true
}

// Plug adds an interface: EINVAL for a name that none can have, EEXIST for one that is there, EBUSY for a number that is
// taken, ENFILE when all names are, ENOMEM. It is called exclusively, as Unplug and Plugged are.
func (n *Network) Plug(p *Plug) error {
	if !share.Sockets.Take(plugCost) {
		return unix.ENOMEM
	}
	err := n.plug(p)
	if err != nil {
		share.Sockets.Give(plugCost)
	}
	return err
}

func (n *Network) plug(p *Plug) error {
	name, err := n.freeName(p.Name)
	if err != nil {
		return err
	}
	l := newLink(p.Device, &n.taps)
	l.nic, l.bare, l.plug = tcpip.NICID(p.Index), p.Bare, p
	if l.bare {
		l.SetLinkAddress("")
	}
	s := n.Stack()
	if !n.links.put(l) {
		return unix.EBUSY
	}
	n.must(name, s.CreateNICWithOptions(l.nic, l, stack.NICOptions{Name: name, Disabled: true})) // nobody else has name and number
	n.setName(p, name)
	p.nic.Store(int32(l.nic))
	if p.Bare || p.NoARP {
		n.trust(l.nic)
	}
	// What routers say at eth0 alone configures the machine.
	if ep, err := s.GetNetworkEndpoint(l.nic, header.IPv6ProtocolNumber); err == nil {
		if d, ok := ep.(ipv6.NDPEndpoint); ok {
			d.SetNDPConfigurations(ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled})
		}
	}
	if err := p.Device.Start(l.receive); err != nil {
		n.unplug(p)
		return err
	}
	n.tell(Change{New: true}, l.nic)
	return nil
}

// freeName returns the name that pattern stands for: itself, or with %d in it the first that is free. EINVAL, EEXIST, ENFILE.
func (n *Network) freeName(pattern string) (string, error) {
	before, after, numbered := strings.Cut(pattern, "%d")
	if strings.Contains(before+after, "%") {
		return "", unix.EINVAL
	}
	taken := map[string]bool{}
	for _, i := range n.interfaces() {
		taken[i.Name] = true
	}
	if !numbered {
		switch {
		case !ValidName(pattern):
			return "", unix.EINVAL
		case taken[pattern]:
			return "", unix.EEXIST
		}
		return pattern, nil
	}
	for i := 0; ; i++ {
		name := before + strconv.Itoa(i) + after
		switch {
		case !ValidName(name) && i == 0:
			return "", unix.EINVAL
		case !ValidName(name):
			return "", unix.ENFILE
		case !taken[name]:
			return name, nil
		}
	}
}

// Unplug removes an interface that Plug has added, with its addresses and routes.
func (n *Network) Unplug(p *Plug) {
	n.unplug(p)
	share.Sockets.Give(plugCost)
}

func (n *Network) unplug(p *Plug) {
	nic := tcpip.NICID(p.NIC())
	gone := Change{Gone: true}
	if i, ok := n.iface(nic); ok {
		i.Flags.Running = false
		gone.Link = n.describe(&i)
	}
	if n.Running(p) {
		n.taps.down(nic)
	}
	_ = n.Stack().RemoveNIC(nic) // it is there
	n.links.mu.Lock()
	delete(n.links.all, nic)
	n.links.mu.Unlock()
	n.taps.unbind(nic)
	n.forgetPeers(nic)
	n.tell(gone, nic)
}

// unplugAll removes what Plug has added.
func (n *Network) unplugAll() {
	defer exclusively()()
	var all []*Plug
	n.links.mu.RLock()
	for _, l := range n.links.all {
		if l.plug != nil {
			all = append(all, l.plug)
		}
	}
	n.links.mu.RUnlock()
	for _, p := range all {
		if n.link(tcpip.NICID(p.NIC())) == nil {
			continue // it has gone with another
		}
		n.Unplug(p)
		p.Removed()
	}
}

// of returns the packet sockets that are bound to an interface.
func (t *taps) of(nic tcpip.NICID) (list []*packetSock) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, p := range t.list {
		p.mu.Lock()
		if p.nic == nic {
			list = append(list, p)
		}
		p.mu.Unlock()
	}
	return list
}

// down tells the packet sockets that are bound to an interface that it was brought down: ENETDOWN.
func (t *taps) down(nic tcpip.NICID) {
	for _, p := range t.of(nic) {
		p.s.SetError(unix.ENETDOWN)
		p.s.Queue.Notify(readable | unix.EPOLLERR)
	}
}

// unbind has the packet sockets that are bound to an interface see none, since it is gone.
func (t *taps) unbind(nic tcpip.NICID) {
	for _, p := range t.of(nic) {
		p.mu.Lock()
		p.nic = noInterface
		p.mu.Unlock()
	}
}

// noInterface is what a packet socket is bound to whose interface is gone (packet(7)).
const noInterface = tcpip.NICID(-1)

// Plugged returns the interface of a name that Plug has added, and whether there is an interface of that name at all.
func (n *Network) Plugged(name string) (p *Plug, taken bool) {
	if p = n.plugged(name); p != nil {
		return p, true
	}
	_, taken = n.index(name)
	return nil, taken
}

// plugged does not start the network.
func (n *Network) plugged(name string) *Plug {
	n.links.mu.RLock()
	defer n.links.mu.RUnlock()
	for _, l := range n.links.all {
		if l.plug != nil && l.plug.Name == name {
			return l.plug
		}
	}
	return nil
}

// NameOf returns the name that an interface has, which may change.
func (n *Network) NameOf(p *Plug) string {
	n.links.mu.RLock()
	defer n.links.mu.RUnlock()
	return p.Name
}

func (n *Network) setName(p *Plug, name string) {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	p.Name = name
}

// Running reports whether an interface is up.
func (n *Network) Running(p *Plug) bool { return n.Stack().CheckNIC(tcpip.NICID(p.NIC())) }

// SetAddress gives an interface another hardware address: EADDRNOTAVAIL, EOPNOTSUPP for one that is bare. It is called exclusively.
func (n *Network) SetAddress(p *Plug, mac []byte) error {
	if !n.isPlugged(p, tcpip.NICID(p.NIC())) {
		return unix.ENODEV
	}
	return n.setHardwareAddress(tcpip.NICID(p.NIC()), mac)
}

// settled reports whether the state of the link has ever been another than at first.
func (i *iface) settled() bool { return i.link == nil || i.link.plug == nil || i.link.plug.Settled() }

// carrier reports whether something is connected to the interface; l may be nil, which stands for lo.
func (l *link) carrier() bool { return l == nil || l.plug == nil || l.dev.Up() }

// A Change is what has happened to an interface.
type Change struct {
	Link      netlink.Link
	New, Gone bool
	Was       string // the name that it had; "": it has no other one
}

// OnChange has f told of changes, in their order.
func (n *Network) OnChange(f func(Change)) {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	n.links.told = append(n.links.told, f)
}

// Changed says that an interface that Plug has added has another state, unless it is gone. It is called exclusively.
func (n *Network) Changed(p *Plug) {
	if nic := tcpip.NICID(p.NIC()); n.isPlugged(p, nic) {
		n.tell(Change{}, nic)
	}
}

func (n *Network) isPlugged(p *Plug, nic tcpip.NICID) bool {
	l := n.link(nic)
	return l != nil && l.plug == p
}

// tell tells of a change, with what the interface is now unless it is gone. It is called exclusively, so that what is told keeps its order.
func (n *Network) tell(c Change, nic tcpip.NICID) {
	if !c.Gone {
		i, ok := n.iface(nic)
		if !ok {
			return
		}
		c.Link = n.describe(&i)
	}
	n.links.mu.RLock()
	told := n.links.told
	n.links.mu.RUnlock()
	for _, f := range told {
		f(c)
	}
}
