package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"gosv/image/rootfs"
	"gosv/vmm"
)

// netOptions are the flags for the network of a machine.
type netOptions struct {
	kind     string
	publish  []string
	all      bool     // --publish-all
	expose   []string // PORT[/udp]
	ip       []string
	gateway  []string
	dns      []string
	allowIn  []string
	allowOut []string
}

func (o *netOptions) flags(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.publish, "publish", "p", nil, "lead a port of this machine to the guest's: `[[HOSTIP:]HOST:]GUEST[/udp]`, repeatable; without HOST a free one")
	f.BoolVarP(&o.all, "publish-all", "P", false, "lead free ports of this machine to all that the image and --expose name")
	f.StringArrayVar(&o.expose, "expose", nil, "a port that the program serves, for --publish-all: `PORT[/udp]`, repeatable")
	f.StringVar(&o.kind, "net", "user", "`user|tap:IFNAME|bridge:NAME|segment:NAME|none`: what the machine's network is; tap and bridge need privilege")
	f.StringArrayVar(&o.ip, "ip", nil, "`ADDRESS/BITS` of the guest, repeatable; dhcp to ask for one; slaac for what IPv6 routers offer, and DHCPv6 where they say so")
	f.StringArrayVar(&o.gateway, "gateway", nil, "`ADDRESS` of the guest's router, repeatable")
	f.StringArrayVar(&o.dns, "dns", nil, "`ADDRESS` of a name server, repeatable")
	f.StringArrayVar(&o.allowIn, "allow-in", nil, "firewall: let in what matches `[PROTO][:ADDRESS[/BITS]][:PORT[-PORT]]`, for example tcp:10.0.0.0/8:80, and nothing else")
	f.StringArrayVar(&o.allowOut, "allow-out", nil, "firewall: let out what matches `RULE`, as for --allow-in, and nothing else")
}

// A network is the way of a machine to others.
type network struct {
	device vmm.Net
	guest  rootfs.Network
	cpus   int
	close  func() // ends what was made for it
}

// open makes the network that the flags ask for, for a machine of so many processors.
func (o *netOptions) open(cpus int) (*network, error) {
	n := &network{cpus: cpus, close: func() {}, guest: rootfs.Network{AllowIn: o.allowIn, AllowOut: o.allowOut}}
	kind, name, err := parseKind(o.kind)
	if err != nil {
		return nil, err
	}
	if kind != vmm.NetUser && len(o.publish) > 0 {
		return nil, fmt.Errorf("--publish leads to the guest by way of --net user only; with --net %s the guest has an address of its own", o.kind)
	}
	if err := n.address(o, kind); err != nil {
		return nil, err
	}
	switch kind {
	case vmm.NetUser:
		n.device.Kind = vmm.NetUser
		n.device.Forwards, err = parseForwards(o.publish)
	case vmm.NetTap:
		err = n.tap(name)
	case "bridge":
		err = n.bridge(name)
	case "segment":
		err = n.segment(name)
	}
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// parseKind reads the value of --net.
func parseKind(s string) (kind, name string, err error) {
	kind, name, _ = strings.Cut(s, ":")
	switch kind {
	case vmm.NetUser, "none":
		if s == kind {
			return kind, "", nil
		}
	case vmm.NetTap, "bridge", "segment":
		if name != "" {
			return kind, name, nil
		}
	}
	return "", "", fmt.Errorf("--net %q: say user, tap:IFNAME, bridge:NAME, segment:NAME or none", s)
}

// address takes the flags for addresses, or what fits the kind of network.
func (n *network) address(o *netOptions, kind string) error {
	g := &n.guest
	for _, a := range o.ip {
		switch a {
		case "slaac":
			g.SLAAC = true
			continue
		case "dhcp":
			g.DHCP = true
			continue
		}
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return fmt.Errorf("--ip %s: say ADDRESS/BITS, for example 192.168.1.5/24, dhcp to ask for one, or slaac for what IPv6 routers offer", a)
		}
		g.Addresses = append(g.Addresses, p.String())
	}
	for _, l := range []struct {
		flag string
		from []string
		to   *[]string
	}{{"gateway", o.gateway, &g.Gateways}, {"dns", o.dns, &g.DNS}} {
		for _, s := range l.from {
			a, err := netip.ParseAddr(s)
			if err != nil || a.Zone() != "" {
				return fmt.Errorf("--%s %s is no IP address", l.flag, s)
			}
			*l.to = append(*l.to, a.String())
		}
	}
	switch {
	case kind == vmm.NetUser:
		if len(o.ip) == 0 {
			g.Addresses = []string{vmm.UserAddress}
			if len(g.Gateways) == 0 {
				g.Gateways = []string{vmm.UserGateway}
			}
		}
		if len(g.DNS) == 0 && !g.DHCP {
			g.DNS = []string{vmm.UserDNS}
		}
	case kind != "none" && len(o.ip) == 0:
		return fmt.Errorf("--net %s: which address is the guest to have? Say --ip dhcp, --ip slaac, or --ip ADDRESS/BITS, and --gateway ADDRESS where there is a router", o.kind)
	}
	return nil
}

// parseForwards reads the values of --publish.
func parseForwards(values []string) ([]vmm.Forward, error) {
	var all []vmm.Forward
	for _, s := range values {
		f, err := parseForward(s)
		if err != nil {
			return nil, err
		}
		if f.Port == 0 {
			err = f.choose()
		} else {
			err = f.free()
		}
		if err != nil {
			return nil, fmt.Errorf("--publish %s: %w", s, err)
		}
		all = append(all, f.Forward)
	}
	return all, nil
}

type forward struct{ vmm.Forward }

func parseForward(s string) (forward, error) {
	bad := fmt.Errorf("--publish %s: say [[HOSTIP:]HOST:]GUEST[/udp], for example 8080:80 or 127.0.0.1:5353:53/udp", s)
	var f forward
	ports, protocol, hasProtocol := strings.Cut(s, "/")
	switch {
	case hasProtocol && protocol == "udp":
		f.UDP = true
	case hasProtocol && protocol != "tcp":
		return f, bad
	}
	host, guest := "", ports
	if at := strings.LastIndexByte(ports, ':'); at >= 0 {
		host, guest = ports[:at], ports[at+1:]
		if host == "" {
			return f, bad
		}
	}
	if at := strings.LastIndexByte(host, ':'); at >= 0 {
		address, err := netip.ParseAddr(strings.Trim(host[:at], "[]"))
		if err != nil {
			return f, bad
		}
		if !address.Is4() {
			return f, fmt.Errorf("--publish %s: QEMU leads on IPv4 addresses only", s)
		}
		f.Host, host = address, host[at+1:]
	}
	for _, p := range []struct {
		text string
		to   *uint16
	}{{host, &f.Port}, {guest, &f.Guest}} {
		if p.text == "" && p.to == &f.Port {
			continue // any
		}
		v, err := strconv.ParseUint(p.text, 10, 16)
		if err != nil || v == 0 {
			return f, bad
		}
		*p.to = uint16(v)
	}
	return f, nil
}

// free says why the port of this machine cannot be had. (QEMU's own message is hard to understand.)
func (f forward) free() error {
	_, err := f.listen()
	return err
}

// choose takes a port of this machine that is free now.
func (f *forward) choose() (err error) {
	f.Port, err = f.listen()
	return err
}

// listen takes the port of this machine for a moment, any for 0, and returns it.
func (f forward) listen() (uint16, error) {
	at := net.JoinHostPort("", strconv.Itoa(int(f.Port)))
	if f.Host.IsValid() {
		at = netip.AddrPortFrom(f.Host, f.Port).String()
	}
	if f.UDP {
		c, err := net.ListenPacket("udp4", at)
		if err != nil {
			return 0, plain(err)
		}
		return uint16(c.LocalAddr().(*net.UDPAddr).Port), c.Close()
	}
	l, err := net.Listen("tcp4", at)
	if err != nil {
		return 0, plain(err)
	}
	return uint16(l.Addr().(*net.TCPAddr).Port), l.Close()
}

// plain leaves out of an error what the user knows.
func plain(err error) error {
	var op *net.OpError
	var sys *os.SyscallError
	switch {
	case errors.As(err, &sys):
		return sys.Err
	case errors.As(err, &op):
		return op.Err
	}
	return err
}

// tap opens an interface of this machine that somebody has made, or makes it.
func (n *network) tap(name string) error {
	if len(name) >= unix.IFNAMSIZ {
		return fmt.Errorf("--net tap:%s: names of interfaces have %d characters at most", name, unix.IFNAMSIZ-1)
	}
	files, err := openTap(name, n.cpus)
	if err != nil {
		return fmt.Errorf("--net tap:%s: %w (`ip tuntap add %s mode tap user $USER` as root makes one for you)", name, err, name)
	}
	n.use(vmm.NetTap, files...)
	return nil
}

// maxQueues bounds the queues of a tap interface; the kernel uses no more.
const maxQueues = 8

// openTap opens the queues of a tap interface, which it makes when there is none: one for each processor, where somebody has not made the interface with
// one queue (`ip tuntap add` without multi_queue).
func openTap(name string, cpus int) ([]*os.File, error) {
	want := min(max(cpus, 1), maxQueues)
	ways := []uint16{0, unix.IFF_MULTI_QUEUE}
	if want > 1 {
		ways = []uint16{unix.IFF_MULTI_QUEUE, 0}
	}
	f, err := openQueue(name, ways[0])
	flags := ways[0]
	if errors.Is(err, unix.EINVAL) { // it was made the other way
		f, err = openQueue(name, ways[1])
		flags = ways[1]
	}
	if err != nil {
		return nil, err
	}
	files := []*os.File{f}
	if flags == 0 {
		return files, nil
	}
	if name, err = tapName(f); err != nil {
		f.Close()
		return nil, err
	}
	for len(files) < want {
		more, err := openQueue(name, flags)
		if err != nil {
			break // it works with those that there are
		}
		files = append(files, more)
	}
	return files, nil
}

// tapName is the name of the interface that a file is a queue of.
func tapName(f *os.File) (string, error) {
	req, err := unix.NewIfreq("x")
	if err != nil {
		return "", err
	}
	if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNGETIFF, req); err != nil {
		return "", err
	}
	return req.Name(), nil
}

func openQueue(name string, flags uint16) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	_ = unix.SetNonblock(fd, true) // as QEMU wants it; it cannot fail on an open descriptor
	return os.NewFile(uintptr(fd), name), nil
}

// use makes files, the queues of an interface or one socket, the machine's device, with an address of its own.
func (n *network) use(kind string, files ...*os.File) {
	n.device.Kind, n.device.File, n.device.Queues, n.device.MAC = kind, files[0], files[1:], randomMAC()
	before := n.close
	n.close = func() {
		before()
		for _, f := range files {
			f.Close()
		}
	}
}

// randomMAC returns a locally administered address; QEMU's own is the same for each machine.
func randomMAC() (mac [6]byte) {
	_, _ = rand.Read(mac[:]) // cannot fail (crypto/rand)
	mac[0], mac[1], mac[2] = 0x52, 0x54, 0
	return mac
}

// bridge makes a tap interface on a bridge: by hand with privilege, else by QEMU's helper.
func (n *network) bridge(name string) error {
	files, err := bridgeTap(name, n.cpus)
	if errors.Is(err, unix.EPERM) {
		var f *os.File // of one queue
		f, err = bridgeHelper(name)
		files = []*os.File{f}
	}
	if err != nil {
		return fmt.Errorf("--net bridge:%s: %w", name, err)
	}
	n.use(vmm.NetTap, files...)
	return nil
}
