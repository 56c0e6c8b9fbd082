package pvh

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"testing"
)

// This test's own executable keeps every table but those of files and lines.
func TestDropLines(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, err := f.Section(pclnSection).Data()
	if err != nil {
		t.Fatal(err)
	}
	after := bytes.Clone(before)
	from, to, err := dropLines(after)
	if err != nil || to-from < uint64(len(before))/20 {
		t.Fatalf("%d of %d bytes are free, %v", to-from, len(before), err)
	}
	le := binary.LittleEndian
	pctab, pcln := le.Uint64(before[headPctab:]), le.Uint64(before[headPcln:])
	table := func(tab []byte, off uint32) []byte {
		if off == 0 {
			return nil
		}
		n, err := tableSize(tab[pctab:pcln], off)
		if err != nil {
			t.Fatal(err)
		}
		return tab[pctab+uint64(off):][:n]
	}
	for i := range le.Uint64(before[headFuncs:]) {
		at := pcln + uint64(le.Uint32(before[pcln+8*i+4:]))
		b, a := before[at:], after[at:]
		if le.Uint32(a[funcPcln:]) != 0 || le.Uint32(a[funcPcfile:]) != 0 {
			t.Fatalf("function %d keeps its lines", i)
		}
		if n := le.Uint32(b[funcNpcdata:]); n > pcdataArgLive && le.Uint32(a[funcFixed+4*pcdataArgLive:]) != 0 {
			t.Fatalf("function %d keeps which arguments are live", i)
		}
		fields := []int{funcPcsp}
		for j := range int(le.Uint32(b[funcNpcdata:])) {
			if j != pcdataArgLive {
				fields = append(fields, funcFixed+4*j)
			}
		}
		for _, o := range fields {
			if !bytes.Equal(table(before, le.Uint32(b[o:])), table(after, le.Uint32(a[o:]))) {
				t.Fatalf("function %d, field %d: another table", i, o)
			}
		}
	}
	for _, n := range []int{0, 8, headSize, int(pctab) + 10, int(pcln) + 10, len(before) / 2} {
		if _, _, err := dropLines(bytes.Clone(before[:n])); err == nil {
			t.Errorf("%d bytes of %d were taken", n, len(before))
		}
	}
}
