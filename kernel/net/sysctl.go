package net

import (
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// tunables are what root may change of a network below /proc/sys/net/ipv4 (ip(7), Documentation/networking/ip-sysctl.rst in Linux's source),
// beside what netstack keeps itself.
type tunables struct {
	ports        atomic.Uint32 // ip_local_port_range: the first times 1<<16, and the last
	unprivileged atomic.Int32  // ip_unprivileged_port_start: everybody may bind ports from there on
}

func (t *tunables) init() {
	t.ports.Store(firstPort<<16 | lastPort)
	t.unprivileged.Store(1024)
}

// portRange returns the ports that bind and connect choose from.
func (t *tunables) portRange() (first, last uint16) {
	v := t.ports.Load()
	return uint16(v >> 16), uint16(v)
}

// setPortRange is a write to ip_local_port_range: EINVAL.
func (n *Network) setPortRange(s string) error {
	f := strings.Fields(s)
	if len(f) != 2 {
		return unix.EINVAL
	}
	first, err1 := number(f[0], 1, math.MaxUint16)
	last, err2 := number(f[1], first, math.MaxUint16)
	if err1 != nil || err2 != nil || first < int(n.tunables.unprivileged.Load()) {
		return unix.EINVAL
	}
	n.tunables.ports.Store(uint32(first)<<16 | uint32(last))
	if n.Stack().SetPortRange(uint16(first), uint16(last)) != nil {
		return unix.EINVAL
	}
	return nil
}

func (n *Network) setUnprivileged(s string) error {
	first, _ := n.tunables.portRange()
	v, err := number(s, 0, int(first))
	if err == nil {
		n.tunables.unprivileged.Store(int32(v))
	}
	return err
}

// number reads a number from least to most: EINVAL.
func number(s string, least, most int) (int, error) {
	v, err := strconv.Atoi(s)
	if err != nil || v < least || v > most {
		return 0, unix.EINVAL
	}
	return v, nil
}

// sysctls are the files below /proc/sys/net. What cannot be changed cannot be written.
func (n *Network) sysctls() []ProcFile {
	fixed := func(s string) func() string { return func() string { return s + "\n" } }
	return []ProcFile{
		{"sys/net/ipv4/icmp_echo_ignore_all", fixed("0"), nil},
		{"sys/net/ipv4/icmp_echo_ignore_broadcasts", fixed("1"), nil},
		{"sys/net/ipv4/ip_default_ttl", fixed("64"), nil},
		{"sys/net/ipv4/ip_forward", fixed("0"), nil},
		{"sys/net/ipv4/ip_local_port_range", func() string {
			first, last := n.tunables.portRange()
			return strconv.Itoa(int(first)) + "\t" + strconv.Itoa(int(last)) + "\n"
		}, n.setPortRange},
		{"sys/net/ipv4/ip_unprivileged_port_start", func() string { return strconv.Itoa(int(n.tunables.unprivileged.Load())) + "\n" }, n.setUnprivileged},
		{"sys/net/ipv4/tcp_allowed_congestion_control", fixed("reno cubic"), nil},
		{"sys/net/ipv4/tcp_available_congestion_control", fixed("reno cubic"), nil},
		tcpFile(n, "tcp_congestion_control", func(v tcpip.CongestionControlOption) string { return string(v) },
			func(s string) (tcpip.CongestionControlOption, error) {
				return tcpip.CongestionControlOption(s), nil
			}),
		tcpFile(n, "tcp_fin_timeout", func(v tcpip.TCPLingerTimeoutOption) string { return strconv.Itoa(int(time.Duration(v) / time.Second)) },
			func(s string) (tcpip.TCPLingerTimeoutOption, error) {
				v, err := number(s, 0, math.MaxInt32)
				return tcpip.TCPLingerTimeoutOption(time.Duration(v) * time.Second), err
			}),
		{"sys/net/ipv4/tcp_keepalive_intvl", fixed(strconv.Itoa(int(tcp.DefaultKeepaliveInterval / time.Second))), nil},
		{"sys/net/ipv4/tcp_keepalive_probes", fixed(strconv.Itoa(tcp.DefaultKeepaliveCount)), nil},
		{"sys/net/ipv4/tcp_keepalive_time", fixed(strconv.Itoa(int(tcp.DefaultKeepaliveIdle / time.Second))), nil},
		{"sys/net/ipv4/tcp_rmem", func() string { return limits(bufferMin, receiveBuffer, n.bufferLimit()) }, nil},
		tcpFile(n, "tcp_sack", func(v tcpip.TCPSACKEnabled) string {
			if v {
				return "1"
			}
			return "0"
		}, func(s string) (tcpip.TCPSACKEnabled, error) {
			v, err := number(s, 0, 1)
			return v == 1, err
		}),
		tcpFile(n, "tcp_syn_retries", func(v tcpip.TCPSynRetriesOption) string { return strconv.Itoa(int(v)) },
			func(s string) (tcpip.TCPSynRetriesOption, error) {
				v, err := number(s, 1, 127)
				return tcpip.TCPSynRetriesOption(v), err
			}),
		{"sys/net/ipv4/tcp_syncookies", fixed("1"), nil},
		{"sys/net/ipv4/tcp_timestamps", fixed("1"), nil},
		tcpFile(n, "tcp_tw_reuse", func(v tcpip.TCPTimeWaitReuseOption) string { return strconv.Itoa(int(v)) },
			func(s string) (tcpip.TCPTimeWaitReuseOption, error) {
				v, err := number(s, 0, 2)
				return tcpip.TCPTimeWaitReuseOption(v), err
			}),
		{"sys/net/ipv4/tcp_window_scaling", fixed("1"), nil},
		{"sys/net/ipv4/tcp_wmem", func() string { return limits(bufferMin, sendBuffer, n.bufferLimit()) }, nil},
		{"sys/net/ipv6/conf/all/disable_ipv6", fixed("0"), nil},
	}
}

// tcpFile is the file of what netstack calls an option of TCP. parse: EINVAL.
func tcpFile[T any, P interface {
	*T
	tcpip.GettableTransportProtocolOption
	tcpip.SettableTransportProtocolOption
}](n *Network, name string, show func(T) string, parse func(string) (T, error)) ProcFile {
	return ProcFile{"sys/net/ipv4/" + name, func() string {
		var v T
		n.must(name, n.Stack().TransportProtocolOption(tcp.ProtocolNumber, P(&v)))
		return show(v) + "\n"
	}, func(s string) error {
		v, err := parse(s)
		if err != nil {
			return err
		}
		if e := n.Stack().SetTransportProtocolOption(tcp.ProtocolNumber, P(&v)); e != nil {
			return errno(e)
		}
		return nil
	}}
}
