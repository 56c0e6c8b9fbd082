package main

import (
	"gosv/driver/net"
	"gosv/driver/virtio"
	"gosv/kernel/bootargs"
	inet "gosv/kernel/net"
	"gosv/kernel/netdev"
	"gosv/machine"
)

// newNetwork describes the network. Its device, the first of the machine, is started when
// the network is first used.
func newNetwork(m machine.Machine, found devices, args *bootargs.Network, l *log) (*inet.Network, error) {
	total, _ := m.Usage()
	cfg := inet.Config{Memory: int(total * machine.PageSize), Log: func(s string) { l.line("gosv: " + s) }}
	if list := found[virtio.TypeNet]; len(list) > 0 {
		cfg.Open = func() (netdev.Device, error) { return net.New(list[0], m) }
	}
	if err := cfg.Parse(args.Addresses, args.Gateways); err != nil {
		return nil, err
	}
	cfg.SLAAC = args.SLAAC
	return inet.New(cfg), nil
}
