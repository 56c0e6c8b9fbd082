package net

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Each file that can be written takes what it shows, and nothing senseless.
func TestSysctls(t *testing.T) {
	n := New(Config{Memory: 64 << 20})
	written := 0
	for _, f := range n.sysctls() {
		if f.Store == nil {
			continue
		}
		written++
		shown := f.Show()
		for _, bad := range []string{"", "x", "-1", "1 2 3", "99999999999999999999"} {
			if err := f.Store(bad); err != unix.EINVAL && err != unix.ENOENT {
				t.Errorf("%s takes %q: %v", f.Path, bad, err)
			}
		}
		if got := f.Show(); got != shown {
			t.Errorf("%s is %q after refused writes", f.Path, got)
		}
		if err := f.Store(strings.TrimSuffix(shown, "\n")); err != nil {
			t.Errorf("%s does not take %q: %v", f.Path, shown, err)
		}
	}
	if written != 7 {
		t.Errorf("%d files can be written", written)
	}
}

// file returns one of sysctls.
func (n *Network) file(t *testing.T, name string) ProcFile {
	for _, f := range n.sysctls() {
		if f.Path == "sys/net/ipv4/"+name {
			return f
		}
	}
	t.Fatalf("there is no %s", name)
	return ProcFile{}
}

func TestSysctlValues(t *testing.T) {
	n := New(Config{Memory: 64 << 20})
	for _, c := range []struct {
		name, value, now string
		err              error
	}{
		{"ip_local_port_range", "1000 2000", "32768\t60999\n", unix.EINVAL}, // below what needs rights
		{"ip_unprivileged_port_start", "40000", "1024\n", unix.EINVAL},      // above the range
		{"ip_unprivileged_port_start", "0", "0\n", nil},
		{"ip_local_port_range", "1000\t2000", "1000\t2000\n", nil},
		{"ip_local_port_range", "3000 2999", "1000\t2000\n", unix.EINVAL},
		{"ip_local_port_range", "0 2999", "1000\t2000\n", unix.EINVAL},
		{"tcp_congestion_control", "reno", "reno\n", nil},
		{"tcp_congestion_control", "vegas", "reno\n", unix.ENOENT},
		{"tcp_fin_timeout", "10", "10\n", nil},
		{"tcp_syn_retries", "3", "3\n", nil},
		{"tcp_syn_retries", "0", "3\n", unix.EINVAL},
		{"tcp_sack", "0", "0\n", nil},
		{"tcp_tw_reuse", "1", "1\n", nil},
		{"tcp_tw_reuse", "3", "1\n", unix.EINVAL},
	} {
		f := n.file(t, c.name)
		if err := f.Store(c.value); err != c.err {
			t.Errorf("%s takes %q: %v", c.name, c.value, err)
		}
		if got := f.Show(); got != c.now {
			t.Errorf("%s is %q after %q", c.name, got, c.value)
		}
	}
}
