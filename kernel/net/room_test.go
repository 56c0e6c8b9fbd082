package net

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/uio"
)

// TestRingShort: when memory for streams is short, a few bytes go through in any case, and a writer is told when there is room again.
func TestRingShort(t *testing.T) {
	before := share.Streams.Used()
	share.Streams.SetMost(before + 1)
	defer share.Streams.SetMost(math.MaxInt64)
	r := ring{limit: ringMax}
	fill := func(n int) int {
		src := uio.Buffer(make([]byte, n))
		done, err := r.fill(&src)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if n := fill(2000); n != ringLeast || r.writable() || fill(1) != 0 {
		t.Errorf("%d bytes, writable %v", n, r.writable())
	}
	b := uio.Buffer(make([]byte, 100))
	if n, err := r.drain(&b, false); n != 100 || err != nil || !r.writable() {
		t.Errorf("%d, %v, writable %v", n, err, r.writable())
	}
	if n := fill(200); n != 100 {
		t.Errorf("%d bytes in the place of 100", n)
	}
	share.Streams.SetMost(before + 64<<10)
	if n := fill(10000); n != 10000 || share.Streams.Used()-before != 16<<10 {
		t.Errorf("%d bytes, %d are taken", n, share.Streams.Used()-before)
	}
	r.release()
	if n := share.Streams.Used() - before; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// TestSocketsShort: there are as many sockets as have memory, and one that is closed leaves its place.
func TestSocketsShort(t *testing.T) {
	n := New(Config{})
	share.Sockets.SetMost(share.Sockets.Used() + 3*sockCost)
	defer share.Sockets.SetMost(math.MaxInt64)
	var list []*sock
	for range 3 {
		k, err := n.newEndpoint(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	if _, err := n.newEndpoint(unix.AF_INET, unix.SOCK_STREAM, 0); err != unix.ENOBUFS {
		t.Error(err)
	}
	list[0].Close()
	k, err := n.newEndpoint(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(list[1:], k) {
		k.Close()
	}
}
