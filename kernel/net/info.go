package net

import (
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// tcpStates are Linux's numbers of TCP's states (include/net/tcp_states.h).
var tcpStates = map[tcp.EndpointState]byte{
	tcp.StateEstablished: 1, tcp.StateSynSent: 2, tcp.StateConnecting: 2, tcp.StateSynRecv: 3, tcp.StateFinWait1: 4, tcp.StateFinWait2: 5,
	tcp.StateTimeWait: 6, tcp.StateCloseWait: 8, tcp.StateLastAck: 9, tcp.StateListen: 10, tcp.StateClosing: 11,
}

// tcpState is Linux's number of a state; what is none of those is TCP_CLOSE.
func tcpState(s tcp.EndpointState) byte {
	if n, ok := tcpStates[s]; ok {
		return n
	}
	return 7
}

// metrics are fields of struct tcp_info that the kernel's netstack tells by name (third_party/netstack/_add).
func (k *sock) metrics() map[string]uint64 {
	if e, ok := k.ep.(interface{ Metrics() map[string]uint64 }); ok {
		return e.Metrics()
	}
	return nil
}

// Where the fields of struct tcp_info lie: those of four bytes, of eight, of one.
var (
	infoWords = map[string]int{
		"snd_mss": 16, "rcv_mss": 20, "unacked": 24, "sacked": 28, "lost": 32, "retrans": 36, "last_data_sent": 44, "last_data_recv": 52, "last_ack_recv": 56,
		"rcv_ssthresh": 64, "advmss": 84, "rcv_rtt": 92, "rcv_space": 96, "total_retrans": 100, "segs_out": 136, "segs_in": 140, "notsent_bytes": 144,
		"min_rtt": 148, "data_segs_in": 152, "data_segs_out": 156, "delivered": 192, "snd_wnd": 228, "rcv_wnd": 232,
	}
	infoLongs = map[string]int{"bytes_acked": 120, "bytes_received": 128, "delivery_rate": 160, "bytes_sent": 200, "bytes_retrans": 208}
	infoBytes = map[string]int{"retransmits": 2, "probes": 3, "backoff": 4, "options": 5}
)

// tcpInfo lays out struct tcp_info (tcp(7)). What neither netstack nor the short cut knows is 0.
func (k *sock) tcpInfo() ([]byte, error) {
	b := make([]byte, unix.SizeofTCPInfo)
	put := func(at int, n uint32) { binary.LittleEndian.PutUint32(b[at:], n) }
	b[0] = tcpState(k.state())
	if b[0] == tcpState(tcp.StateTimeWait) {
		b[0] = tcpState(tcp.StateClose) // to its socket; what waits is not that
	}
	put(88, 3)                                         // tcpi_reordering, as at first
	binary.LittleEndian.PutUint64(b[104:], ^uint64(0)) // tcpi_pacing_rate: there is no pacing
	binary.LittleEndian.PutUint64(b[112:], ^uint64(0)) // tcpi_max_pacing_rate
	m := k.metrics()
	if h := k.fast.Load(); h != nil {
		m = h.metrics(b)
		k.listenMetrics(m)
	} else if err := k.putEndpoint(b, m); err != nil {
		return nil, err
	} else if b[0] == tcpState(tcp.StateListen) {
		k.listenMetrics(m)
	}
	for name, at := range infoWords {
		put(at, uint32(min(m[name], math.MaxUint32)))
	}
	put(20, uint32(m["snd_mss"])) // tcpi_rcv_mss: both ends have the same
	for name, at := range infoLongs {
		binary.LittleEndian.PutUint64(b[at:], m[name])
	}
	for name, at := range infoBytes {
		b[at] = byte(m[name])
	}
	b[6] = byte(m["snd_wscale"]&15 | m["rcv_wscale"]<<4)
	put(60, uint32(k.mtu()))
	return b, nil
}

// putEndpoint adds what every netstack tells.
func (k *sock) putEndpoint(b []byte, m map[string]uint64) error {
	var v tcpip.TCPInfoOption
	if err := k.ep.GetSockOpt(&v); err != nil {
		return errno(err)
	}
	switch v.CcState {
	case tcpip.RTORecovery:
		b[1] = 4 // TCP_CA_Loss
	case tcpip.FastRecovery, tcpip.SACKRecovery:
		b[1] = 3 // TCP_CA_Recovery
	case tcpip.Disorder:
		b[1] = 1 // TCP_CA_Disorder
	}
	put := func(at int, n uint32) { binary.LittleEndian.PutUint32(b[at:], n) }
	if v.RTO == 0 {
		v.RTO = firstTimeout
	}
	put(8, uint32(v.RTO/time.Microsecond))
	rtt := uint64(v.RTT / time.Microsecond)
	if v.RTO != firstTimeout {
		rtt = max(rtt, m["min_rtt"], 1) // time stamps know no less than milliseconds
	}
	put(68, uint32(rtt))
	put(72, uint32(v.RTTVar/time.Microsecond))
	put(76, v.SndSsthresh)
	put(80, v.SndCwnd)
	if v.SndSsthresh == 0 || v.SndSsthresh > infinite {
		put(76, infinite)
	}
	if v.SndCwnd == 0 {
		put(80, tcp.InitialCwnd)
	}
	if v.ReorderSeen {
		put(220, 1)
	}
	return nil
}

const (
	infinite     = 0x7fffffff  // TCP_INFINITE_SSTHRESH
	firstTimeout = time.Second // TCP_TIMEOUT_INIT
)

// listenMetrics adds what waits to be accepted by the short cut.
func (k *sock) listenMetrics(m map[string]uint64) {
	if m == nil {
		return
	}
	k.fastMu.Lock()
	m["unacked"] += uint64(len(k.pending))
	k.fastMu.Unlock()
}

// metrics are those of a connection by the short cut, as if its writes were segments that are acknowledged at once. It puts what has
// no name into b.
func (h *half) metrics(b []byte) map[string]uint64 {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	me, peer := h.mine(), h.theirs()
	sent, got := peer.read+uint64(peer.ring.n), me.read+uint64(me.ring.n)
	le := binary.LittleEndian
	le.PutUint32(b[8:], uint32(tcp.MinRTO/time.Microsecond))
	le.PutUint32(b[68:], 1) // tcpi_rtt: less than can be said
	le.PutUint32(b[72:], 1)
	le.PutUint32(b[76:], infinite)
	le.PutUint32(b[80:], tcp.InitialCwnd)
	return map[string]uint64{
		"snd_mss": fastSegment, "advmss": fastSegment, "min_rtt": 1, "options": 7, "snd_wscale": fastScale, "rcv_wscale": fastScale,
		"bytes_acked": sent, "bytes_sent": sent, "bytes_received": got,
		"data_segs_out": uint64(peer.writes), "segs_out": uint64(peer.writes), "delivered": uint64(peer.writes),
		"data_segs_in": uint64(me.writes), "segs_in": uint64(me.writes),
		"snd_wnd": uint64(max(peer.ring.limit-peer.ring.n, 0)), "rcv_wnd": uint64(max(me.ring.limit-me.ring.n, 0)),
		"rcv_space": uint64(me.ring.limit), "rcv_ssthresh": uint64(me.ring.limit),
	}
}

// fastScale is the scale of windows that the short cut's limit would need.
const fastScale = 7
