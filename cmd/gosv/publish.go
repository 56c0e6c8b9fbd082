package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"gosv/vmm"
)

// exposed are the ports that the image and --expose name, as PORT/PROTOCOL.
func (o *runOptions) exposed(image []string) ([]string, error) {
	return exposedPorts(slices.Concat(image, o.net.expose))
}

// exposedPorts returns ports as PORT/PROTOCOL, each once.
func exposedPorts(ports []string) ([]string, error) {
	var list []string
	for _, s := range ports {
		number, protocol, ok := strings.Cut(s, "/")
		if !ok {
			protocol = "tcp"
		}
		v, err := strconv.ParseUint(number, 10, 16)
		if err != nil || v == 0 || protocol != "tcp" && protocol != "udp" {
			return nil, fmt.Errorf("--expose %s: say PORT or PORT/udp", s)
		}
		if port := number + "/" + protocol; !slices.Contains(list, port) {
			list = append(list, port)
		}
	}
	return list, nil
}

// publishAll adds to --publish the ports that are exposed and not led to yet.
func (o *netOptions) publishAll(ports []string) {
	for _, port := range ports {
		led := func(s string) bool {
			f, err := parseForward(s)
			return err == nil && guestPort(f.Forward) == port
		}
		if !slices.ContainsFunc(o.publish, led) {
			o.publish = append(o.publish, port)
		}
	}
}

func guestPort(f vmm.Forward) string {
	if f.UDP {
		return fmt.Sprintf("%d/udp", f.Guest)
	}
	return fmt.Sprintf("%d/tcp", f.Guest)
}

// published says where the machine's ports are found, as `docker ps` does.
func (n *network) published() (list []string) {
	for _, f := range n.device.Forwards {
		host := "0.0.0.0"
		if f.Host.IsValid() {
			host = f.Host.String()
		}
		list = append(list, fmt.Sprintf("%s:%d->%s", host, f.Port, guestPort(f)))
	}
	return list
}

// tellPorts says which free ports were taken.
func (o *netOptions) tellPorts(n *network, w io.Writer) {
	for i, s := range n.published() {
		if f, err := parseForward(o.publish[i]); err == nil && f.Port == 0 {
			fmt.Fprintf(w, "gosv: port %s\n", s)
		}
	}
}
