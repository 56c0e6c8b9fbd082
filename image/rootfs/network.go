package rootfs

// Network is what the guest is to know of its network.
type Network struct {
	Addresses []string // ADDRESS/BITS
	Gateways  []string // of default routes
	DNS       []string // name servers
	Search    []string // domains
	SLAAC     bool     // take addresses and routes that IPv6 routers offer
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
	if n.SLAAC {
		record("net.slaac", "1")
	}
}
