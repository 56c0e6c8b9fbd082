package net

import (
	"runtime"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// synFrame is the first segment of a connection from one of many addresses.
func synFrame(i int) []byte {
	b := make([]byte, 14+20+20)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 8, 0})
	src, dst := tcpip.AddrFrom4([4]byte{10, 0, 0, byte(3 + i%250)}), tcpip.AddrFrom4([4]byte{10, 0, 0, 2})
	ip := header.IPv4(b[14:])
	ip.Encode(&header.IPv4Fields{TotalLength: 40, TTL: 64, Protocol: 6, SrcAddr: src, DstAddr: dst})
	ip.SetChecksum(^ip.CalculateChecksum())
	h := header.TCP(b[34:])
	h.Encode(&header.TCPFields{SrcPort: uint16(1024 + i/250), DstPort: 80, SeqNum: uint32(i), DataOffset: 20, Flags: header.TCPFlagSyn, WindowSize: 1000})
	h.SetChecksum(^h.CalculateChecksum(header.PseudoHeaderChecksum(6, src, dst, 20)))
	return b
}

// A flood of connections that nobody means takes bounded memory, and the listener answers who means it: during the flood and after it.
func TestFlood(t *testing.T) {
	a, b, _, wb := twoHosts(t)
	l, at := serving(t, b)
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	talk := func() {
		c, s := l.meet(a, at)
		c.send([]byte("hello"), 0, nil)
		if got := string(s.recv(100)); got != "hello" {
			t.Errorf("%q", got)
		}
	}
	talk()
	before := heap()
	const count = 20000
	for i := range count {
		wb.receiver <- synFrame(i)
		if i == count/2 {
			talk()
		}
	}
	for len(wb.receiver) > 0 {
		runtime.Gosched()
	}
	if more := heap() - before; more > 16<<20 {
		t.Errorf("%d connections that nobody means hold %d bytes", count, more)
	}
	talk()
}
