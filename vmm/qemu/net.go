package qemu

import (
	"fmt"
	"net"
	"strings"

	"gosv/vmm"
)

// netArguments returns the arguments for the network device of a machine whose virtio devices sit on
// PCI or not. file says by which number the emulator inherits the device's file.
func netArguments(n vmm.Net, pci bool, file func() int) ([]string, error) {
	var backend string
	switch n.Kind {
	case vmm.NetNone:
		return nil, nil
	case vmm.NetUser:
		var b strings.Builder
		b.WriteString("user,id=net0,ipv6=off")
		for _, f := range n.Forwards {
			protocol, host := "tcp", ""
			if f.UDP {
				protocol = "udp"
			}
			if f.Host.IsValid() {
				host = f.Host.String()
			}
			fmt.Fprintf(&b, ",hostfwd=%s:%s:%d-:%d", protocol, host, f.Port, f.Guest)
		}
		backend = b.String()
	case vmm.NetTap:
		backend = fmt.Sprintf("tap,id=net0,fd=%d,vhost=off", file())
	case vmm.NetLink:
		backend = fmt.Sprintf("dgram,id=net0,local.type=fd,local.str=%d", file())
	default:
		return nil, fmt.Errorf("%q is no kind of network", n.Kind)
	}
	device := "virtio-net-device,netdev=net0"
	if pci {
		device = "virtio-net-pci,disable-legacy=on,romfile=,netdev=net0"
	}
	if n.MAC != [6]byte{} {
		device += ",mac=" + net.HardwareAddr(n.MAC[:]).String()
	}
	return []string{"-netdev", backend, "-device", device}, nil
}
