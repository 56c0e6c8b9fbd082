package mem

import (
	"testing"

	"gosv/machine"
	"gosv/machine/fake"
)

// TestForeign checks that references to frames of a device's memory are nobody's business, also in runs that begin in the machine's own.
func TestForeign(t *testing.T) {
	m := fake.ForTest(t, fake.Config{Frames: 8, DeviceFrames: 4})
	p := NewPool(m)
	first := machine.Frame(m.DeviceAddress() / machine.PageSize)
	for range 3 {
		p.Unref(first + 1)
	}
	p.Ref(first)
	p.setKind(first, Shmem)
	if p.Kind(first) != File || p.Exclusive(first) || p.Refs(first) < 2 || p.IsZero(first) {
		t.Error("a device's frame is not a shared one of a file")
	}
	var own machine.Frame
	for {
		f, err := p.Alloc()
		if err != nil {
			t.Fatal("the last frame is not to be had")
		}
		if f+1 == first {
			own = f
			break
		}
		defer p.Unref(f)
	}
	var tally Tally
	p.RefRun(own, 3, &tally)
	if tally[Anonymous] != 1 || tally[File] != 2 || p.Refs(own) != 2 {
		t.Errorf("%v, %d references", tally, p.Refs(own))
	}
	p.UnrefRun(own, 3, &tally)
	p.UnrefRun(first, 4, &tally)
	p.UnrefRun(own, 2, &tally)
	if tally[Anonymous] != 3 || tally[File] != 9 || m.InUse() != 7 {
		t.Errorf("%v, %d frames in use", tally, m.InUse())
	}
}
