package net

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/socket/netlink"
)

// Packets for hosts that nobody has found yet count as what waits to be read does, and cost nothing when their interface is gone.
func TestUnresolved(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module does not count them: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
	before := share.Datagrams.Used()
	a, _ := joinedNetworks(t)
	s := open(t, a, unix.AF_INET, unix.SOCK_DGRAM, 0)
	const packets, size = 40, 1000
	for i := range byte(packets) {
		s.send(make([]byte, size), 0, inet4(10, 0, 0, 100+i, 9))
	}
	if got := share.Datagrams.Used() - before; got < packets*size {
		t.Errorf("%d bytes are taken", got)
	}
	if err := a.Netlink().RemoveLink(linkOf(a, "x").Index); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing is taken", func() bool { return share.Datagrams.Used() <= before })
}

// An interface costs about what it is charged.
func TestPlugCost(t *testing.T) {
	n := New(Config{Bare: true})
	t.Cleanup(func() { n.End(func() {}) })
	n.Stack()
	before := heap()
	const count = 100
	for range count {
		if err := n.Netlink().AddLink(&netlink.NewLink{Kind: "dummy"}); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / count; each > plugCost {
		t.Errorf("an interface takes %d bytes, and is charged %d", each, plugCost)
	} else {
		t.Log(each)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
