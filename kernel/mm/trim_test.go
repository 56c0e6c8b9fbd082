package mm

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// TestTrim maps and unmaps a page here and there: the page tables go, and what is mapped stays.
func TestTrim(t *testing.T) {
	w := newWorld(t, 600)
	r := rand.New(rand.NewPCG(1, 2))
	kept := map[uint64]byte{}
	for i := range 3000 {
		at := 1<<32 + r.Uint64N(1<<18)*machine.HugeSize + r.Uint64N(512)*pageSize
		if _, ok := kept[at]; ok {
			continue
		}
		w.mmap(w.as, MapArgs{Addr: at, Length: pageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
		_, err := w.as.CopyOut(at, []byte{byte(i)})
		w.check("write", err, nil)
		if i%100 == 0 {
			kept[at] = byte(i)
			continue
		}
		w.check("Unmap", w.as.Unmap(at, pageSize), nil)
	}
	for at, v := range kept {
		var b [1]byte
		_, err := w.as.CopyIn(b[:], at)
		if err != nil || b[0] != v {
			t.Fatalf("%#x is %d, %v; want %d", at, b[0], err, v)
		}
		w.check("Unmap", w.as.Unmap(at, pageSize), nil)
	}
	if n := w.as.space.Tables(); n >= 3*idleTables {
		t.Errorf("%d page tables are left", n)
	}
}
