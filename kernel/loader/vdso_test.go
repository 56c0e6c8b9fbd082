package loader

import (
	"encoding/binary"
	"testing"

	"gosv/kernel/vdso"
	"gosv/machine"
)

// A program whose vDSO is to ask the kernel sees an empty [vvar], and the other again when it need not any more.
func TestVDSOAsks(t *testing.T) {
	w := newWorld(t)
	w.put("prog", pie("").bytes())
	p := w.program("/prog", "prog")
	v, err := vdso.New(w.pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Free)
	v.Set(machine.Timebase{Usable: true, TSC: 1, Mult: 42})
	p.VDSO = v
	as, _, err := w.load(p)
	if err != nil {
		t.Fatal(err)
	}
	usable := func() (n uint32) {
		found := 0
		for _, a := range as.Areas() {
			if a.Name == "[vvar]" {
				n = binary.LittleEndian.Uint32(read(t, as, a.Start+4, 4))
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d data pages", found)
		}
		return n
	}
	if usable() != 1 {
		t.Error("the vDSO does not know the time")
	}
	for _, ask := range []bool{true, true, false, true, false} {
		if err := v.Ask(as, ask); err != nil {
			t.Fatal(err)
		}
		if (usable() == 0) != ask {
			t.Error("it asks the kernel, or does not, unlike it was told:", ask)
		}
	}
}
