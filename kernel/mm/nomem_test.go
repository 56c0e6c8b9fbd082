package mm

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// TestNoMemory lets the machine run out at every allocation of an operation in turn:
// each must fail cleanly, and succeed once there is memory again.
func TestNoMemory(t *testing.T) {
	const (
		far = 1 << 21 // each page needs a page table of its own
		n   = 6
	)
	w := newWorld(t, 512)
	var private, shared [n]uint64
	for i := range uint64(n) {
		private[i], shared[i] = 1<<32+i*far, 1<<33+i*far
		w.mmap(w.as, MapArgs{Addr: private[i], Length: pageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
		w.mmap(w.as, MapArgs{Addr: shared[i], Length: pageSize, Prot: rw, Flags: sharedA | unix.MAP_FIXED})
	}
	intact := func() {
		t.Helper()
		checkAreas(t, w.as)
		for i := range private {
			w.want(w.as, private[i], "private")
			w.want(w.as, shared[i], "shared")
		}
	}
	until := func(what string, try func() error) {
		t.Helper()
		for k := 0; ; k++ {
			w.m.FailAfter(k)
			err := try()
			w.m.FailAfter(-1)
			if err == nil {
				if k == 0 {
					t.Errorf("%s needs no memory", what)
				}
				return
			}
			if err != unix.ENOMEM && err != unix.EFAULT {
				t.Fatalf("%s after %d allocations: %v", what, k, err)
			}
			checkAreas(t, w.as)
		}
	}
	for i := range private {
		until("first write", func() error { _, err := w.as.CopyOut(private[i], []byte("private")); return err })
		until("first write of shared memory", func() error { _, err := w.as.CopyOut(shared[i], []byte("shared")); return err })
	}
	intact()

	var child *AddressSpace
	until("fork", func() (err error) { child, err = w.as.Fork(); return err })
	intact()
	for i := range private {
		w.want(child, private[i], "private")
		until("copy on write", func() error { _, err := child.CopyOut(private[i], []byte("changed")); return err })
	}
	child.Release()
	intact()

	// A move whose target has one page table but not the second.
	from := w.mmap(w.as, MapArgs{Addr: 1 << 34, Length: 2 * pageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	w.put(w.as, from+pageSize-2, "both")
	const to = 1<<35 + far - pageSize
	until("mremap", func() error {
		_, err := w.as.Remap(from, 2*pageSize, 2*pageSize, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to, nil)
		if err != nil {
			w.want(w.as, from+pageSize-2, "both")
		}
		return err
	})
	w.want(w.as, to+pageSize-2, "both")

	until("New", func() error {
		as, err := New(w.m, w.pool)
		if err == nil {
			as.Release()
		}
		return err
	})
	w.m.FailAfter(0)
	if err := w.as.Fault(w.mmap(w.as, MapArgs{Length: 1, Prot: rw, Flags: anon}), machine.Write); err != unix.ENOMEM {
		t.Errorf("Fault: %v", err)
	}
	w.m.FailAfter(-1)
	intact()
}
