package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// namespaceScript is what all scripts begin with: RUN starts a machine.
const namespaceScript = `set -e
RUN() { "$GOSV" run --accel tcg --timeout 150s "$@"; }
ip link set lo up
`

// inNamespace runs a script of the shell in a network namespace of its own, which ends with it. It skips the test where that, or what
// the script needs, cannot be had.
func inNamespace(t *testing.T, script string, tools ...string) outcome {
	t.Helper()
	for _, tool := range append(tools, "unshare", "ip") {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no tap devices: %v", err)
	}
	f.Close()
	if out, err := exec.Command("unshare", "-n", "true").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces: %v: %s", err, out)
	}
	slots <- struct{}{}
	defer func() { <-slots }()
	j := job{limit: 3 * time.Minute}
	ctx, cancel := context.WithTimeout(context.Background(), j.limit)
	defer cancel()
	c := exec.CommandContext(ctx, "unshare", "-n", "--pid", "--fork", "--kill-child", "bash", "-c", namespaceScript+script)
	dir := t.TempDir()
	c.Env = append(os.Environ(), "GOSV="+gosv, "PEER="+filepath.Join(guestDir, "netpeer.static"), "DIR="+dir, "XDG_RUNTIME_DIR="+dir)
	o, err := j.wait(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if o.status != 0 {
		t.Fatal(o)
	}
	return o
}

// A tap interface: both ways, both families.
func TestTap(t *testing.T) {
	o := inNamespace(t, `
ip tuntap add tap0 mode tap
ip addr add 10.77.0.1/24 dev tap0
ip -6 addr add fd77::1/64 dev tap0 nodad
ip link set tap0 up
"$PEER" serve 7001 2 >/dev/null &
RUN --net tap:tap0 --ip 10.77.0.2/24 --ip fd77::2/64 "$PEER" serve 7000 2 talk 10.77.0.1 7001 2000000 talk fd77::1 7001 2000000 &
"$PEER" talk 10.77.0.2 7000 2000000
"$PEER" talk fd77::2 7000 2000000
wait
`)
	for _, want := range []string{"10.77.0.1", "fd77::1", "10.77.0.2", "fd77::2"} {
		if !strings.Contains(o.stdout, "talked to "+want+"\n") {
			t.Errorf("nobody talked to %s: %v", want, o)
		}
	}
}

// A machine of two processors uses two pairs of queues of a tap interface, whether it was made for that before or by gosv, and one where it was made with one.
func TestTapQueues(t *testing.T) {
	o := inNamespace(t, `
start() {
  for i in 1 2 3 4; do "$PEER" serve 700$i 1 >/dev/null & done
  RUN --cpus 2 --net tap:$1 --ip $2.2/24 "$PEER" serve 7000 4 talk $2.1 7001 300000 talk $2.1 7002 300000 talk $2.1 7003 300000 talk $2.1 7004 300000 &
  until ip link show $1 >/dev/null 2>&1; do sleep 0.1; done
  ip addr add $2.1/24 dev $1 2>/dev/null || true
  ip link set $1 up
  for i in 1 2 3 4; do "$PEER" talk $2.2 7000 300000; done
  wait
}
ip tuntap add tap0 mode tap
start tap0 10.77.0
ip tuntap add tap1 mode tap multi_queue
start tap1 10.77.1
start tap2 10.77.2
`)
	for _, net := range []string{"10.77.0", "10.77.1", "10.77.2"} {
		for _, end := range []string{".1", ".2"} {
			if n := strings.Count(o.stdout, "talked to "+net+end+"\n"); n != 4 {
				t.Errorf("%d of 4 talked to %s%s: %v", n, net, end, o)
			}
		}
	}
}

// An interface with another address gets what is sent to that one, and says in which mode it is.
func TestTapAddress(t *testing.T) {
	o := inNamespace(t, `
ip tuntap add tap0 mode tap
ip addr add 10.77.0.1/24 dev tap0
ip link set tap0 up
RUN --net tap:tap0 --ip 10.77.0.2/24 /bin/busybox sh -c '
b=/bin/busybox
$b ip link set eth0 address 02:00:00:00:77:09 && $b ping -c 3 10.77.0.1 && $b ifconfig eth0 promisc && $b ip link show eth0 &&
$b ifconfig eth0 -promisc hw ether 02:00:00:00:77:0a && $b ping -c 3 10.77.0.1 && $b ip link show eth0; $b ifconfig eth0 hw ether 01:00:00:00:77:0a'  || [ $? = 1 ]
`, "busybox")
	for _, want := range []string{"link/ether 02:00:00:00:77:09", "LOWER_UP100>", "link/ether 02:00:00:00:77:0a"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q: %v", want, o)
		}
	}
	if strings.Count(o.stdout, ", 0% packet loss") != 2 || !strings.Contains(o.stderr, "Cannot assign requested address") {
		t.Error(o)
	}
}

// A bridge with a server of DHCP that also announces itself as a router of IPv6: addresses, routes, name servers and the
// machine's name come from it, and two machines on the bridge reach each other.
func TestBridgeDHCP(t *testing.T) {
	for _, v6 := range []struct{ name, ranges, want string }{
		{"stateful", "fd77::100,fd77::1ff,64,1h", "eth0 fd77::1"},
		{"stateless", "fd77::,ra-stateless,64,1h", "eth0 fd77::5054:ff:fe"},
	} {
		t.Run(v6.name, func(t *testing.T) {
			o := inNamespace(t, `
ip link add br0 type bridge
ip addr add 10.77.0.1/24 dev br0
ip -6 addr add fd77::1/64 dev br0 nodad
ip link set br0 up
dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv --interface=br0 --bind-interfaces --user= --pid-file= --dhcp-leasefile="$DIR/leases" \
  --port=0 --dhcp-range=10.77.0.50,10.77.0.59,1h --dhcp-option=option:dns-server,10.77.0.9 --dhcp-option=option:domain-search,shop.example,example.org \
  --dhcp-option=option:classless-static-route,0.0.0.0/0,10.77.0.1,192.168.7.0/24,10.77.0.3 --dhcp-option=option:mtu,1400 \
  --enable-ra --dhcp-range=`+v6.ranges+` --dhcp-option=option6:dns-server,[fd77::9] --log-dhcp --log-facility="$DIR/log" &
server=$!
"$PEER" serve 7001 2 >/dev/null &
RUN --net bridge:br0 --ip dhcp --ip slaac --hostname shop "$PEER" show /proc/net/route addresses host talk 10.77.0.1 7001 300000 talk fd77::1 7001 300000 \
  show /etc/resolv.conf || { cat "$DIR/log"; exit 1; }
for i in $(seq 100); do grep -q DHCPRELEASE "$DIR/log" && break; sleep 0.1; done # the server may not have come to it yet
kill $server
echo leases; cat "$DIR/log" >&2
`, "dnsmasq")
			for _, want := range []string{
				"eth0\t00000000\t01004D0A\t0003", "eth0\t0007A8C0\t03004D0A\t0003", "eth0 10.77.0.5", v6.want, "\nshop\n", "talked to 10.77.0.1\n", "talked to fd77::1\n",
				"nameserver fd77::9\n", "nameserver 10.77.0.9\n", "shop.example example.org\n",
			} {
				if !strings.Contains(o.stdout, want) {
					t.Errorf("no %q", want)
				}
			}
			for _, want := range []string{"DHCPACK(br0) 10.77.0.5", "DHCPRELEASE(br0) 10.77.0.5", "client provides name: shop"} {
				if !strings.Contains(o.stderr, want) {
					t.Errorf("the server's log has no %q", want)
				}
			}
			if t.Failed() {
				t.Log(o)
			}
		})
	}
}

// DHCP of QEMU's own network.
func TestUserDHCP(t *testing.T) {
	o := run(t, job{program: filepath.Join(guestDir, "netpeer.static"), args: []string{"addresses", "show", "/etc/resolv.conf"}, flags: []string{"--ip", "dhcp"}}, small)
	if o.status != 0 || o.stdout != "eth0 10.0.2.15\nnameserver 10.0.2.3\n" {
		t.Error(o)
	}
}

// Machines of a segment reach each other, and nobody else does.
func TestSegment(t *testing.T) {
	o := inNamespace(t, `
RUN --net segment:a --ip 10.9.0.1/24 --ip fd09::1/64 "$PEER" serve 7000 2 >"$DIR/out" &
until grep -q serves "$DIR/out"; do sleep 0.1; done
RUN --net segment:b --ip 10.9.0.3/24 --ip fd09::3/64 "$PEER" nobody 10.9.0.1 7000 nobody fd09::1 7000
RUN --net segment:a --ip 10.9.0.2/24 --ip fd09::2/64 "$PEER" talk 10.9.0.1 7000 300000 talk fd09::1 7000 300000
wait
`)
	if o.stdout != "nobody at 10.9.0.1\nnobody at fd09::1\ntalked to 10.9.0.1\ntalked to fd09::1\n" {
		t.Error(o)
	}
}

// The firewall: what no rule names is refused, counted and told of; the rest passes, answers too.
func TestFirewallTap(t *testing.T) {
	o := inNamespace(t, `
ip tuntap add tap0 mode tap
ip addr add 10.77.0.1/24 dev tap0
ip link set tap0 up
"$PEER" serve 7001 1 >/dev/null & server=$!
RUN --verbose --net tap:tap0 --ip 10.77.0.2/24 --allow-in tcp:10.77.0.0/24:7000 --allow-out tcp:10.77.0.1:7001 \
  "$PEER" serve 7000 1 nobody 10.77.0.1 22 talk 10.77.0.1 7001 1000 show /proc/net/firewall >"$DIR/out" 2>"$DIR/log" & machine=$!
until grep -q serves "$DIR/out"; do sleep 0.1; done
"$PEER" nobody 10.77.0.2 7002
"$PEER" talk 10.77.0.2 7000 1000
wait $machine $server
cat "$DIR/out"; grep firewall "$DIR/log"
`)
	for _, want := range []string{
		"nobody at 10.77.0.2\ntalked to 10.77.0.2\n", "nobody at 10.77.0.1\ntalked to 10.77.0.1\n",
		"firewall: refused protocol 6 from 10.77.0.1, port 7002", "firewall: refused protocol 6 to 10.77.0.1, port 22",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q", want)
		}
	}
	if !regexp.MustCompile(`\nin [1-9]\d*\nout [1-9]\d*\n`).MatchString(o.stdout) || t.Failed() {
		t.Error(o)
	}
}
