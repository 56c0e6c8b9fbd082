package net

import (
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"gosv/kernel/netdev"
	"gosv/kernel/share"
	"gosv/kernel/socket/netlink"
)

// links are the interfaces beside lo: eth0, and those that come and go.
type links struct {
	mu  sync.RWMutex
	all map[tcpip.NICID]*link // +checklocks:mu
	// last is the greatest number that was given.
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

// put adds an interface under its number: false when that is taken.
func (t *links) put(l *link) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[tcpip.NICID]*link{}
	}
	if l.nic == 0 {
		t.last = max(t.last, Ethernet) + 1
		l.nic = t.last
	}
	if l.nic == Loopback || t.all[l.nic] != nil {
		return false
	}
	t.last = max(t.last, l.nic)
	t.all[l.nic] = l
	return true
}

// A Plug describes an interface that is made while the network runs, without addresses and down.
type Plug struct {
	// Name may have %d in it, which stands for the first number that is free. It and Index, where 0 stands for the next, become what
	// the interface has.
	Name   string
	Index  int
	Device netdev.Device
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
}

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
// taken, ENFILE when all names are, ENOMEM.
//
// +checklocks:n.Changing
func (n *Network) Plug(p *Plug) error {
	l := newLink(p.Device, &n.taps)
	l.nic, l.bare, l.plug = tcpip.NICID(p.Index), p.Bare, p
	if l.bare {
		l.SetLinkAddress("")
	}
	s := n.Stack()
	if !share.Sockets.Take(plugCost) {
		return unix.ENOMEM
	}
	if err := n.connect(s, l); err != nil {
		share.Sockets.Give(plugCost)
		return err
	}
	p.Index = int(l.nic)
	if err := p.Device.Start(l.receive); err != nil {
		n.Unplug(p)
		return err
	}
	n.tell(Change{New: true}, l.nic)
	return nil
}

// connect gives l its number and name, and the stack l.
//
// +checklocks:n.Changing
func (n *Network) connect(s *stack.Stack, l *link) error {
	pattern := l.plug.Name
	before, after, numbered := strings.Cut(pattern, "%d")
	if strings.Contains(before+after, "%") {
		return unix.EINVAL
	}
	if !n.links.put(l) {
		return unix.EBUSY
	}
	for i := 0; ; i++ {
		name, err := pattern, tcpip.Error(nil)
		if numbered {
			name = before + strconv.Itoa(i) + after
		}
		bad := !ValidName(name)
		if !bad {
			if err = s.CreateNICWithOptions(l.nic, l, stack.NICOptions{Name: name, Disabled: true}); err == nil {
				n.links.mu.Lock()
				l.plug.Name = name
				n.links.mu.Unlock()
				return nil
			}
		}
		if _, taken := err.(*tcpip.ErrDuplicateNICID); taken && numbered {
			continue
		}
		n.links.mu.Lock()
		delete(n.links.all, l.nic)
		n.links.mu.Unlock()
		switch {
		case bad && i > 0:
			return unix.ENFILE
		case bad:
			return unix.EINVAL
		}
		return unix.EEXIST
	}
}

// Unplug removes an interface that Plug has added, with its addresses and routes.
//
// +checklocks:n.Changing
func (n *Network) Unplug(p *Plug) {
	nic := tcpip.NICID(p.Index)
	gone := Change{Gone: true}
	for _, i := range n.interfaces() {
		if i.index == nic {
			i.Flags.Running = false
			gone.Link = n.describe(&i)
		}
	}
	_ = n.Stack().RemoveNIC(nic) // it is there
	n.links.mu.Lock()
	delete(n.links.all, nic)
	n.links.mu.Unlock()
	n.taps.gone(nic)
	share.Sockets.Give(plugCost)
	n.tell(gone, nic)
}

// unplugAll removes what Plug has added.
func (n *Network) unplugAll() {
	n.Changing.Lock()
	defer n.Changing.Unlock()
	var all []*Plug
	n.links.mu.RLock()
	for _, l := range n.links.all {
		if l.plug != nil {
			all = append(all, l.plug)
		}
	}
	n.links.mu.RUnlock()
	for _, p := range all {
		n.Unplug(p)
	}
}

// gone tells the packet sockets that are bound to an interface that it is no more: ENETDOWN.
func (t *taps) gone(nic tcpip.NICID) {
	t.mu.RLock()
	list := t.list
	t.mu.RUnlock()
	for _, p := range list {
		p.mu.Lock()
		mine := p.nic == nic
		if mine {
			p.nic = noInterface
		}
		p.mu.Unlock()
		if mine {
			p.s.SetError(unix.ENETDOWN)
			p.s.Queue.Notify(readable | unix.EPOLLERR)
		}
	}
}

// noInterface is what a packet socket is bound to whose interface is gone (packet(7)).
const noInterface = tcpip.NICID(-1)

// Plugged returns the interface of a name that Plug has added, and whether there is an interface of that name at all.
//
// +checklocks:n.Changing
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

// Running reports whether an interface is up.
func (n *Network) Running(p *Plug) bool { return n.Stack().CheckNIC(tcpip.NICID(p.Index)) }

// SetAddress gives an interface another hardware address: EADDRNOTAVAIL, EOPNOTSUPP for one that is bare.
func (n *Network) SetAddress(p *Plug, mac []byte) error {
	return n.setHardwareAddress(tcpip.NICID(p.Index), mac)
}

// settled reports whether the state of the link has ever been another than at first.
func (i *iface) settled() bool { return i.link == nil || i.link.plug == nil || i.link.plug.Settled() }

// carrier reports whether something is connected to the interface; l may be nil, which stands for lo.
func (l *link) carrier() bool { return l == nil || l.plug == nil || l.dev.Up() }

// A Change is what has happened to an interface.
type Change struct {
	Link      netlink.Link
	New, Gone bool
}

// OnChange has f told of changes that nobody has asked for by AF_NETLINK. f may be called on several goroutines at once.
func (n *Network) OnChange(f func(Change)) {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	n.links.told = append(n.links.told, f)
}

// Changed says that an interface that Plug has added has another state.
func (n *Network) Changed(p *Plug) { n.changed(tcpip.NICID(p.Index)) }

func (n *Network) changed(nic tcpip.NICID) { n.tell(Change{}, nic) }

// tell tells of a change, with what the interface is now unless it is gone.
func (n *Network) tell(c Change, nic tcpip.NICID) {
	if !c.Gone {
		found := false
		for _, i := range n.interfaces() {
			if i.index == nic {
				c.Link, found = n.describe(&i), true
			}
		}
		if !found {
			return
		}
	}
	n.links.mu.RLock()
	told := n.links.told
	n.links.mu.RUnlock()
	for _, f := range told {
		f(c)
	}
}
