package rootfs

// Network is what the guest is to know of its network.
type Network struct {
	Addresses []string // ADDRESS/BITS
	Gateways  []string // of default routes
	DNS       []string // name servers
	Search    []string // domains
	SLAAC     bool     // take addresses and routes that IPv6 routers offer
	DHCP      bool     // ask for an address of IPv4
	Named     bool     // the machine's name is the user's wish, whatever DHCP says
	AllowIn   []string // firewall: who may connect; none: everybody
	AllowOut  []string // firewall: to what may be connected; none: everything
}

// records calls record for each line of the run file.
func (n *Network) records(record func(key, value string)) {
	for _, l := range []struct {
		key    string
		values []string
	}{{"ip", n.Addresses}, {"gateway", n.Gateways}, {"dns", n.DNS}, {"search", n.Search}, {"allow-in", n.AllowIn}, {"allow-out", n.AllowOut}} {
		for _, v := range l.values {
			record("net."+l.key, v)
		}
	}
	for _, f := range []struct {
		key string
		on  bool
	}{{"slaac", n.SLAAC}, {"dhcp", n.DHCP}, {"named", n.Named && n.DHCP}} {
		if f.on {
			record("net."+f.key, "1")
		}
	}
}
