package net

import (
	"encoding/hex"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// The counters of /proc/net/snmp, netstat and snmp6: the names and their order are those of Linux 6.1 (net/ipv4/proc.c, net/ipv6/proc.c).
// What netstack does not count is 0.

// A tally is a row of counters: the names that Linux has, and the values of those that are known.
type tally struct {
	name   string
	fields string // with a space between two
	values map[string]uint64
}

// rows writes a tally as snmp and netstat do: a line of names, a line of values.
func (t tally) rows(b *strings.Builder) {
	b.WriteString(t.name + ": " + t.fields + "\n" + t.name + ":")
	for f := range strings.SplitSeq(t.fields, " ") {
		b.WriteString(" " + strconv.FormatUint(t.values[f], 10))
	}
	b.WriteByte('\n')
}

// lines writes a tally as snmp6 does: a line for each counter.
func (t tally) lines(b *strings.Builder) {
	for f := range strings.SplitSeq(t.fields, " ") {
		name := t.name + f
		b.WriteString(name + strings.Repeat(" ", max(32-len(name), 0)) + "\t" + strconv.FormatUint(t.values[f], 10) + "\n")
	}
}

func showTallies(write func(tally, *strings.Builder), all func() []tally) func() string {
	return func() string {
		var b strings.Builder
		for _, t := range all() {
			write(t, &b)
		}
		return b.String()
	}
}

const (
	ipFields = "Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests OutDiscards OutNoRoutes " +
		"ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates"
	icmpFields = "InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps InTimestamps InTimestampReps " +
		"InAddrMasks InAddrMaskReps OutMsgs OutErrors OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps " +
		"OutTimestampReps OutAddrMasks OutAddrMaskReps"
	tcpFields = "RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors"
	udpFields = "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors"

	tcpExtFields = "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps LockDroppedIcmps ArpFilter TW " +
		"TWRecycled TWKilled PAWSActive PAWSEstab DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows ListenDrops TCPHPHits TCPPureAcks TCPHPAcks " +
		"TCPRenoRecovery TCPSackRecovery TCPSACKReneging TCPSACKReorder TCPRenoReorder TCPTSReorder TCPFullUndo TCPPartialUndo TCPDSACKUndo TCPLossUndo " +
		"TCPLostRetransmit TCPRenoFailures TCPSackFailures TCPLossFailures TCPFastRetrans TCPSlowStartRetrans TCPTimeouts TCPLossProbes TCPLossProbeRecovery " +
		"TCPRenoRecoveryFail TCPSackRecoveryFail TCPRcvCollapsed TCPBacklogCoalesce TCPDSACKOldSent TCPDSACKOfoSent TCPDSACKRecv TCPDSACKOfoRecv " +
		"TCPAbortOnData TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout TCPAbortOnLinger TCPAbortFailed TCPMemoryPressures TCPMemoryPressuresChrono " +
		"TCPSACKDiscard TCPDSACKIgnoredOld TCPDSACKIgnoredNoUndo TCPSpuriousRTOs TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted TCPSackMerged " +
		"TCPSackShiftFallback TCPBacklogDrop PFMemallocDrop TCPMinTTLDrop TCPDeferAcceptDrop IPReversePathFilter TCPTimeWaitOverflow TCPReqQFullDoCookies " +
		"TCPReqQFullDrop TCPRetransFail TCPRcvCoalesce TCPOFOQueue TCPOFODrop TCPOFOMerge TCPChallengeACK TCPSYNChallenge TCPFastOpenActive " +
		"TCPFastOpenActiveFail TCPFastOpenPassive TCPFastOpenPassiveFail TCPFastOpenListenOverflow TCPFastOpenCookieReqd TCPFastOpenBlackhole " +
		"TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv TCPToZeroWindowAdv TCPWantZeroWindowAdv TCPSynRetrans " +
		"TCPOrigDataSent TCPHystartTrainDetect TCPHystartTrainCwnd TCPHystartDelayDetect TCPHystartDelayCwnd TCPACKSkippedSynRecv TCPACKSkippedPAWS " +
		"TCPACKSkippedSeq TCPACKSkippedFinWait2 TCPACKSkippedTimeWait TCPACKSkippedChallenge TCPWinProbe TCPKeepAlive TCPMTUPFail TCPMTUPSuccess TCPDelivered " +
		"TCPDeliveredCE TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop TCPWqueueTooBig TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash " +
		"TCPDSACKRecvSegs TCPDSACKIgnoredDubious TCPMigrateReqSuccess TCPMigrateReqFailure"
	ipExtFields = "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets OutMcastOctets InBcastOctets " +
		"OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps"

	ip6Fields = "InReceives InHdrErrors InTooBigErrors InNoRoutes InAddrErrors InUnknownProtos InTruncatedPkts InDiscards InDelivers OutForwDatagrams OutRequests " +
		"OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates InMcastPkts OutMcastPkts InOctets OutOctets " +
		"InMcastOctets OutMcastOctets InBcastOctets OutBcastOctets InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts"
	icmp6Fields = "InMsgs InErrors OutMsgs OutErrors InCsumErrors InDestUnreachs InPktTooBigs InTimeExcds InParmProblems InEchos InEchoReplies " +
		"InGroupMembQueries InGroupMembResponses InGroupMembReductions InRouterSolicits InRouterAdvertisements InNeighborSolicits InNeighborAdvertisements " +
		"InRedirects InMLDv2Reports OutDestUnreachs OutPktTooBigs OutTimeExcds OutParmProblems OutEchos OutEchoReplies OutGroupMembQueries " +
		"OutGroupMembResponses OutGroupMembReductions OutRouterSolicits OutRouterAdvertisements OutNeighborSolicits OutNeighborAdvertisements OutRedirects " +
		"OutMLDv2Reports"
)

// counter is one of netstack's.
type counter = *tcpip.StatCounter

func values(named map[string]counter) map[string]uint64 {
	v := make(map[string]uint64, len(named))
	for name, c := range named {
		v[name] = c.Value()
	}
	return v
}

// ipStats adds up what the interfaces counted of one version of IP.
func (n *Network) ipStats(version tcpip.NetworkProtocolNumber) map[string]uint64 {
	sum := map[string]uint64{}
	for _, i := range n.interfaces() {
		var s *tcpip.IPStats
		switch e := i.NetworkStats[version].(type) {
		case *ipv4.Stats:
			s = &e.IP
		case *ipv6.Stats:
			s = &e.IP
		default:
			continue
		}
		for name, c := range map[string]counter{
			"InReceives": s.PacketsReceived, "InHdrErrors": s.MalformedPacketsReceived, "InAddrErrors": s.InvalidDestinationAddressesReceived,
			"InDelivers": s.PacketsDelivered, "OutRequests": s.PacketsSent, "OutDiscards": s.OutgoingPacketErrors,
		} {
			sum[name] += c.Value()
		}
	}
	return sum
}

func (n *Network) snmp() []tally {
	s := n.Stack().Stats()
	ip := n.ipStats(header.IPv4ProtocolNumber)
	ip["Forwarding"], ip["DefaultTTL"] = 2, defaultTTL
	in, out := &s.ICMP.V4.PacketsReceived, &s.ICMP.V4.PacketsSent
	icmp := values(map[string]counter{
		"InErrors": in.Invalid, "InDestUnreachs": in.DstUnreachable, "InTimeExcds": in.TimeExceeded, "InParmProbs": in.ParamProblem, "InSrcQuenchs": in.SrcQuench,
		"InRedirects": in.Redirect, "InEchos": in.EchoRequest, "InEchoReps": in.EchoReply, "InTimestamps": in.Timestamp, "InTimestampReps": in.TimestampReply,
		"OutErrors": out.Dropped, "OutDestUnreachs": out.DstUnreachable, "OutTimeExcds": out.TimeExceeded, "OutParmProbs": out.ParamProblem, "OutSrcQuenchs": out.SrcQuench,
		"OutRedirects": out.Redirect, "OutEchos": out.EchoRequest, "OutEchoReps": out.EchoReply, "OutTimestamps": out.Timestamp, "OutTimestampReps": out.TimestampReply,
	})
	sumMessages(icmp)
	t, u := &s.TCP, &s.UDP
	stream := values(map[string]counter{
		"ActiveOpens": t.ActiveConnectionOpenings, "PassiveOpens": t.PassiveConnectionOpenings, "AttemptFails": t.FailedConnectionAttempts, "EstabResets": t.EstablishedResets,
		"CurrEstab": t.CurrentEstablished, "InSegs": t.ValidSegmentsReceived, "OutSegs": t.SegmentsSent, "RetransSegs": t.Retransmits, "InErrs": t.InvalidSegmentsReceived,
		"OutRsts": t.ResetsSent, "InCsumErrors": t.ChecksumErrors,
	})
	stream["RtoAlgorithm"], stream["RtoMin"], stream["RtoMax"] = 1, 200, 120000
	return []tally{
		{"Ip", ipFields, ip}, {"Icmp", icmpFields, icmp}, {"Tcp", tcpFields, stream},
		{"Udp", udpFields, values(map[string]counter{
			"InDatagrams": u.PacketsReceived, "NoPorts": u.UnknownPortErrors, "InErrors": u.MalformedPacketsReceived, "OutDatagrams": u.PacketsSent,
			"RcvbufErrors": u.ReceiveBufferErrors, "SndbufErrors": u.PacketSendErrors, "InCsumErrors": u.ChecksumErrors,
		})},
		{"UdpLite", udpFields, nil},
	}
}

// sumMessages sets InMsgs and OutMsgs to the sums of the kinds of messages.
func sumMessages(v map[string]uint64) {
	var in, out uint64
	for name, c := range v {
		switch {
		case strings.HasSuffix(name, "Errors") && strings.HasPrefix(name, "Out"): // these were not sent
		case strings.HasPrefix(name, "In"):
			in += c
		default:
			out += c
		}
	}
	v["InMsgs"], v["OutMsgs"] = in, out
}

func (n *Network) netstat() []tally {
	t := n.Stack().Stats().TCP
	return []tally{
		{"TcpExt", tcpExtFields, values(map[string]counter{
			"SyncookiesSent": t.ListenOverflowSynCookieSent, "SyncookiesRecv": t.ListenOverflowSynCookieRcvd, "SyncookiesFailed": t.ListenOverflowInvalidSynCookieRcvd,
			"ListenOverflows": t.ListenOverflowAckDrop, "ListenDrops": t.ListenOverflowSynDrop, "TCPRenoRecovery": t.FastRecovery, "TCPSackRecovery": t.SACKRecovery,
			"TCPFastRetrans": t.FastRetransmit, "TCPSlowStartRetrans": t.SlowStartRetransmits, "TCPTimeouts": t.Timeouts, "TCPLossProbeRecovery": t.TLPRecovery,
			"TCPDSACKRecv": t.SegmentsAckedWithDSACK, "TCPSpuriousRTOs": t.SpuriousRTORecovery, "TCPAbortOnTimeout": t.EstablishedTimedout,
		})},
		{"IpExt", ipExtFields, nil},
	}
}

func (n *Network) snmp6() []tally {
	s := n.Stack().Stats()
	in, out := &s.ICMP.V6.PacketsReceived, &s.ICMP.V6.PacketsSent
	icmp := values(map[string]counter{
		"InErrors": in.Invalid, "InDestUnreachs": in.DstUnreachable, "InPktTooBigs": in.PacketTooBig, "InTimeExcds": in.TimeExceeded, "InParmProblems": in.ParamProblem,
		"InEchos": in.EchoRequest, "InEchoReplies": in.EchoReply, "InGroupMembQueries": in.MulticastListenerQuery, "InGroupMembResponses": in.MulticastListenerReport,
		"InGroupMembReductions": in.MulticastListenerDone, "InRouterSolicits": in.RouterSolicit, "InRouterAdvertisements": in.RouterAdvert,
		"InNeighborSolicits": in.NeighborSolicit, "InNeighborAdvertisements": in.NeighborAdvert, "InRedirects": in.RedirectMsg, "InMLDv2Reports": in.MulticastListenerReportV2,
		"OutErrors": out.Dropped, "OutDestUnreachs": out.DstUnreachable, "OutPktTooBigs": out.PacketTooBig, "OutTimeExcds": out.TimeExceeded, "OutParmProblems": out.ParamProblem,
		"OutEchos": out.EchoRequest, "OutEchoReplies": out.EchoReply, "OutGroupMembQueries": out.MulticastListenerQuery, "OutGroupMembResponses": out.MulticastListenerReport,
		"OutGroupMembReductions": out.MulticastListenerDone, "OutRouterSolicits": out.RouterSolicit, "OutRouterAdvertisements": out.RouterAdvert,
		"OutNeighborSolicits": out.NeighborSolicit, "OutNeighborAdvertisements": out.NeighborAdvert, "OutRedirects": out.RedirectMsg, "OutMLDv2Reports": out.MulticastListenerReportV2,
	})
	sumMessages(icmp)
	return []tally{
		{"Ip6", ip6Fields, n.ipStats(header.IPv6ProtocolNumber)}, {"Icmp6", icmp6Fields, icmp},
		{"Udp6", udpFields, nil}, // netstack counts both families together: see snmp
		{"UdpLite6", strings.Replace(udpFields, " IgnoredMulti", "", 1), nil},
	}
}

// transports are the protocols of these sockets as /proc/net/protocols has them: sockets of a family, a type and a protocol, the memory that
// all use in pages and whether it is scarce, the longest header, and which calls a protocol has of its own.
var transports = []struct {
	name                  string
	family, typ, protocol int // protocol 0 stands for any
	memory, press, header string
	calls                 string
}{
	{"PINGv6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6, "-1", "NI", "0", "yyynnynnyyyynyynyyn"},
	{"RAWv6", unix.AF_INET6, unix.SOCK_RAW, 0, "-1", "NI", "0", "yyynyyynyyyynyyyynn"},
	{"UDPv6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP, "0", "NI", "0", "yyynyyynyyyynnnyyyn"},
	{"TCPv6", unix.AF_INET6, unix.SOCK_STREAM, 0, "0", "no", "192", "yyyyyyyyyyyyynyyyyy"},
	{"PING", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, "-1", "NI", "0", "yyynnynnyyyynyynyyn"},
	{"RAW", unix.AF_INET, unix.SOCK_RAW, 0, "-1", "NI", "0", "yyynyyynyyyynyyyynn"},
	{"UDP", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP, "0", "NI", "0", "yyynyyynyyyyynnyyyn"},
	{"TCP", unix.AF_INET, unix.SOCK_STREAM, 0, "0", "no", "192", "yyyyyyyyyyyyynyyyyy"},
}

// inUse counts sockets; protocol 0 stands for any.
func (n *Network) inUse(family, typ, protocol int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for k := range n.all {
		if k.s.Family == family && k.s.Type == typ && (protocol == 0 || k.s.Protocol == protocol) {
			count++
		}
	}
	return strconv.Itoa(count)
}

// procProtocols has no sizes: they are those of structures of Linux.
func (n *Network) procProtocols() string {
	var b strings.Builder
	b.WriteString("protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh gp em\n")
	for _, t := range transports {
		b.WriteString(t.name + strings.Repeat(" ", 9-len(t.name)) + "    0 ")
		pad(&b, n.inUse(t.family, t.typ, t.protocol), 6)
		b.WriteString("  ")
		pad(&b, t.memory, 6)
		b.WriteString("   " + t.press + "  ")
		pad(&b, t.header, 6)
		b.WriteString("   yes  kernel    ")
		for _, c := range t.calls {
			b.WriteString("  " + string(c))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (n *Network) procSockstat6() string {
	return "TCP6: inuse " + n.inUse(unix.AF_INET6, unix.SOCK_STREAM, 0) + "\nUDP6: inuse " + n.inUse(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP) +
		"\nUDPLITE6: inuse 0\nRAW6: inuse " + n.inUse(unix.AF_INET6, unix.SOCK_RAW, 0) + "\nFRAG6: inuse 0 memory 0\n"
}

// procRoute6 is the main table, then the addresses of this machine (table local).
func (n *Network) procRoute6() string {
	const (
		up      = 1
		gateway = 2
		host    = 4
		local   = 0x80200000 // RTF_LOCAL and RTF_NONEXTHOP
	)
	var b strings.Builder
	row := func(to tcpip.Address, prefix int, via tcpip.Address, metric, flags uint64, dev string) {
		var next [16]byte
		copy(next[:], via.AsSlice())
		b.WriteString(strings.ToLower(hex.EncodeToString(to.AsSlice()) + " " + hexN(uint64(prefix), 2) + " " + strings.Repeat("0", 32) + " 00 " +
			hex.EncodeToString(next[:]) + " " + hexN(metric, 8) + " 00000001 00000000 " + hexN(flags, 8) + " "))
		pad(&b, dev, 8)
		b.WriteByte('\n')
	}
	for _, r := range n.routeTable() {
		to, flags := r.Destination.ID(), uint64(up)
		if to.Len() != header.IPv6AddressSize || r.NIC == Loopback {
			continue
		}
		if r.Gateway.Len() > 0 {
			flags |= gateway
		}
		if r.Destination.Prefix() == 128 {
			flags |= host
		}
		row(to, r.Destination.Prefix(), r.Gateway, 0x400, flags, n.name(r.NIC))
	}
	for _, i := range n.interfaces() {
		for _, a := range i.ProtocolAddresses {
			if a.Protocol == header.IPv6ProtocolNumber {
				row(a.AddressWithPrefix.Address, 128, tcpip.Address{}, 0, up|local, i.Name)
			}
		}
	}
	return b.String()
}
