package bootargs

import (
	"errors"
	"strconv"
)

// Network is what the host says of the network. Set is false when it says nothing.
type Network struct {
	Set       bool
	Addresses []string // ADDRESS/BITS
	Gateways  []string
	DNS       []string
	Search    []string
	SLAAC     bool
	DHCP      bool
	Named     bool // the host says the name of the machine; else a lease may
	AllowIn   []string
	AllowOut  []string
}

// maxNetRecords bounds each list.
const maxNetRecords = 256

// record takes one record net.key=value.
func (n *Network) record(key, value string) error {
	n.Set = true
	var list *[]string
	switch key {
	case "ip":
		list = &n.Addresses
	case "gateway":
		list = &n.Gateways
	case "dns":
		list = &n.DNS
	case "search":
		list = &n.Search
	case "allow-in":
		list = &n.AllowIn
	case "allow-out":
		list = &n.AllowOut
	case "slaac":
		n.SLAAC = value == "1"
		return nil
	case "dhcp":
		n.DHCP = value == "1"
		return nil
	case "named":
		n.Named = value == "1"
		return nil
	default:
		return errors.New("run file: unknown record " + strconv.Quote("net."+key))
	}
	if len(*list) == maxNetRecords {
		return errors.New("run file: too many records net." + key)
	}
	*list = append(*list, value)
	return nil
}
