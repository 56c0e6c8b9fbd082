package qemu

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"gosv/vmm"
)

// netArguments returns the arguments for the network device of a machine whose virtio devices sit on
// PCI or not. files says by which numbers the emulator inherits the device's files.
func netArguments(n vmm.Net, pci bool, files func() []int) ([]string, error) {
	var backend, queues string
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
		numbers := files()
		if len(numbers) == 1 {
			backend = fmt.Sprintf("tap,id=net0,fd=%d,vhost=off", numbers[0])
			break
		}
		backend, queues = "tap,id=net0,vhost=off,fds="+colons(numbers), ",mq=on"
	case vmm.NetLink:
		backend = fmt.Sprintf("dgram,id=net0,local.type=fd,local.str=%d", files()[0])
	default:
		return nil, fmt.Errorf("%q is no kind of network", n.Kind)
	}
	device := "virtio-net-device,netdev=net0"
	if pci {
		device = "virtio-net-pci,disable-legacy=on,romfile=,netdev=net0"
	}
	device += queues
	if n.MAC != [6]byte{} {
		device += ",mac=" + net.HardwareAddr(n.MAC[:]).String()
	}
	return []string{"-netdev", backend, "-device", device}, nil
}

// colons joins numbers as QEMU wants several files.
func colons(numbers []int) string {
	var b strings.Builder
	for i, n := range numbers {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}
