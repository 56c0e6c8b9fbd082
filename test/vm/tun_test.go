package vm

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// /dev/net/tun: the same in a namespace of Linux, where there is one, and in machines.
func TestTun(t *testing.T) {
	program := filepath.Join(guestDir, "tun.static")
	if exec.Command("unshare", "-n", "sh", "-c", "ip tuntap add name t mode tun").Run() == nil {
		if o, err := onLinux(job{program: program}); err != nil || o.status != 0 {
			t.Fatalf("on Linux: %v %v", err, o)
		}
	}
	for _, p := range []place{small, {small.machine, 4}} {
		if o := run(t, job{program: program}, p); o.status != 0 || strings.Contains(o.stdout, "FAIL") || !strings.Contains(o.stdout, "ok wire") {
			t.Error(o)
		}
	}
}

// Pairs of interfaces between network namespaces, and dummies: the same on Linux, as far as it has the drivers, and in machines.
func TestVeth(t *testing.T) {
	program := filepath.Join(guestDir, "veth.static")
	var args []string
	for kind, tests := range map[string][]string{"veth": {"pairs", "made_there", "moved_there"}, "dummy": {"dummy"}} {
		if exec.Command("unshare", "-n", "ip", "link", "add", "name", "x", "type", kind).Run() == nil {
			args = append(args, tests...)
		}
	}
	if len(args) > 0 {
		if o, err := onLinux(job{program: program, args: args}); err != nil || o.status != 0 {
			t.Fatalf("on Linux: %v %v", err, o)
		}
	}
	for _, p := range []place{small, {small.machine, 4}} {
		if o := run(t, job{program: program}, p); o.status != 0 || strings.Contains(o.stdout, "FAIL") || !strings.Contains(o.stdout, "ok moved_there") {
			t.Error(o)
		}
	}
}

// Interfaces as ip(8) makes, shows and removes them: the output is Linux's.
func TestIPTuntap(t *testing.T) {
	script := `set -e
ip tuntap add name vpn mode tun; ip tuntap add dev tap7 mode tap user 1000 group 100
ip addr add 10.9.0.1/24 dev vpn; ip link set vpn up mtu 1400
ip -o link show vpn | sed 's/^[0-9]*: //'; ip -o -4 addr show dev vpn | sed 's/^[0-9]*: //'; ip route | grep vpn
ip -d -o link show tap7 | grep -o 'tun type .* persist on'
ip addr add 10.8.0.1 peer 10.8.0.2 dev vpn; ip addr add fd08::1 peer fd08::2 dev vpn; ip -o addr show dev vpn | grep peer | sed 's/^[0-9]*: //'; ip route get 10.8.0.2 | head -1
ip addr del 10.8.0.1 peer 10.8.0.2 dev vpn; ip route | grep -c 10.8.0.2 || true
ip tuntap show | sort; ip tuntap del dev tap7 mode tap; ip link del vpn; ip tuntap show; echo left: $?`
	o := run(t, job{program: "/bin/bash", flags: []string{"--root", "/"}, args: []string{"-c", script}}, small)
	want := `vpn: <NO-CARRIER,POINTOPOINT,MULTICAST,NOARP,UP> mtu 1400 qdisc fq_codel state DOWN mode DEFAULT group default qlen 500\    link/none 
vpn    inet 10.9.0.1/24 scope global vpn\       valid_lft forever preferred_lft forever
10.9.0.0/24 dev vpn proto kernel scope link src 10.9.0.1 linkdown 
tun type tap pi off vnet_hdr off persist on
vpn    inet 10.8.0.1 peer 10.8.0.2/32 scope global vpn\       valid_lft forever preferred_lft forever
vpn    inet6 fd08::1 peer fd08::2/128 scope global \       valid_lft forever preferred_lft forever
10.8.0.2 dev vpn src 10.8.0.1 uid 0 
0
tap7: tap persist user 1000 group 100
vpn: tun persist
left: 0
`
	if o.status != 0 || o.stdout != want {
		t.Error(o)
	}
}
