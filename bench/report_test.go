package main

import (
	"bytes"
	"debug/elf"
	"strings"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		s    spread
		want string
	}{
		{nil, "–"}, {spread{4}, "4"}, {spread{4, 4, 4}, "4"}, {spread{3, 1, 2}, "2 (1…3)"}, {spread{1, 2, 3, 4}, "2 (1…4)"},
	} {
		if got := c.s.text(0); got != c.want {
			t.Errorf("%v: %q, want %q", c.s, got, c.want)
		}
	}
	if m := (spread{1, 4}).median(); m != 2.5 {
		t.Errorf("median of 1 and 4: %v", m)
	}
}

func TestVerdict(t *testing.T) {
	var r report
	r.add("linux", "cpu", spread{1000})
	r.add("gosv", "cpu", spread{201})
	r.add("gosv", "boot", spread{4})
	r.add("gosv", "memory", spread{13})
	r.add("gosv", "lat:tcp_stream", spread{1732})
	r.add("gosv", "lat:file_read_32m", spread{3763})
	r.fail("gosv", "lat:null_syscall", "ENOSYS")
	want := map[string]string{"cpu": "**no**", "boot": "yes", "memory": "**no**", "lat:null_syscall": "**no**", "size": "not measured", "lat:tcp_stream": "**no**", "lat:file_read_32m": "yes", "power": ""}
	for _, w := range rows {
		if v, ok := want[w.key]; ok && r.verdict(w) != v {
			t.Errorf("%s: %q, want %q", w.key, r.verdict(w), v)
		}
	}
	if m := r.markdown(); !strings.Contains(m, "≤ 200 (0.2 of Linux)") || !strings.Contains(m, "ENOSYS") {
		t.Errorf("report lacks a figure:\n%s", m)
	}
}

func TestEntryProbeIsPVH(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(entryProbe()))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Progs) != 2 || f.Progs[0].Type != elf.PT_LOAD || f.Progs[1].Type != elf.PT_NOTE || f.Progs[0].Memsz != uint64(len(entryProbe())) {
		t.Errorf("program headers: %v", f.Progs)
	}
}
