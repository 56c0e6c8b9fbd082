package vm

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// AF_PACKET: the same in a namespace of Linux and in machines.
func TestPacket(t *testing.T) {
	program := filepath.Join(guestDir, "packet.static")
	if exec.Command("unshare", "-n", "true").Run() == nil {
		if o, err := onLinux(job{program: "/usr/bin/unshare", args: []string{"-n", "sh", "-c", "ip link set lo up && exec " + program}}); err != nil || o.status != 0 {
			t.Fatalf("on Linux: %v %v", err, o)
		}
	}
	for _, p := range []place{small, {small.machine, 4}} {
		if o := run(t, job{program: program}, p); o.status != 0 || strings.Contains(o.stdout, "FAIL") || !strings.Contains(o.stdout, "ok errors") {
			t.Error(o)
		}
	}
}

// Debian's arping and tcpdump, the latter with its ring of memory, a filter that the kernel runs, and what it says of the frames.
func TestTcpdump(t *testing.T) {
	for _, tool := range []string{"tcpdump", "arping"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	o := run(t, job{program: "/bin/bash", flags: []string{"--root", "/"}, args: []string{"-c", `
tcpdump -l -n -i eth0 -c 4 -Z root arp >/tmp/out 2>/tmp/err & pid=$!
until grep -q listening /tmp/err; do sleep 0.1; done
arping -c 2 -w 30 -I eth0 10.0.2.2 | grep -v Unicast; wait $pid; cat /tmp/out; grep captured /tmp/err`}}, small)
	want := regexp.MustCompile(`(?s)Sent \d+ probes.*Received 2 response.*ARP, Request who-has 10.0.2.2 .*ARP, Reply 10.0.2.2 is-at 52:55:0a:00:02:02.*4 packets captured`)
	if o.status != 0 || !want.MatchString(o.stdout) {
		t.Error(o)
	}
}
