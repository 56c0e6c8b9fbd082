package net

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Every value is of a name that Linux has, every row as long as its head, and what netstack counts is seen.
func TestCounters(t *testing.T) {
	n := New(Config{Memory: 64 << 20})
	k, err := n.newEndpoint(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	p, err := parsePrefix("::/0")
	if err != nil {
		t.Fatal(err)
	}
	gateway, _ := parsePrefix("fd00::1/128")
	n.Stack().AddRoute(tcpip.Route{Destination: p.prefix().Subnet(), Gateway: gateway.Addr, NIC: Loopback + 7})
	for _, g := range append(append(n.snmp(), n.netstat()...), n.snmp6()...) {
		fields := strings.Fields(g.fields)
		if strings.Join(fields, " ") != g.fields {
			t.Errorf("%s: spaces", g.name)
		}
		known := map[string]bool{}
		for _, f := range fields {
			if known[f] {
				t.Errorf("%s: %s twice", g.name, f)
			}
			known[f] = true
		}
		for f := range g.values {
			if !known[f] {
				t.Errorf("%s: no counter %s", g.name, f)
			}
		}
	}
	n.Stack().Stats().TCP.Timeouts.Increment()
	files := map[string]string{}
	for _, f := range n.ProcFiles() {
		if strings.HasPrefix(f.Path, "net/") {
			files[f.Path] = f.Show()
		}
	}
	lines := strings.Split(strings.TrimSuffix(files["net/netstat"], "\n"), "\n")
	if len(lines) != 4 || len(strings.Fields(lines[0])) != len(strings.Fields(lines[1])) {
		t.Fatalf("%q", lines)
	}
	for i, name := range strings.Fields(lines[0]) {
		if v := strings.Fields(lines[1])[i]; name == "TCPTimeouts" && v != "1" {
			t.Errorf("%s %s", name, v)
		}
	}
	for file, want := range map[string]string{
		"net/protocols":  "\nUDPv6        0      1       0   NI       0   yes  kernel      y  y  y  n",
		"net/sockstat6":  "TCP6: inuse 0\nUDP6: inuse 1\n",
		"net/snmp6":      "Ip6InReceives                   \t0\n",
		"net/snmp":       "\nIcmp: InMsgs ",
		"net/ipv6_route": strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003 ",
	} {
		if !strings.Contains(files[file], want) {
			t.Errorf("%s:\n%s", file, files[file])
		}
	}
}
