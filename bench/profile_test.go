package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kallsyms")
	list := "ffffffff81000100 T second\nffffffff81000000 T first.part.0\nffffffff81000200 D data\nffffffff81000300 t gosv/kernel/net.(*sock).Send\n"
	if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := readSymbols(file)
	if err != nil || len(s) != 3 {
		t.Fatal(s, err)
	}
	blocks, err := readBlocks(strings.NewReader("401000 5 10\nffffffff81000000 3 4\nffffffff81000010 2 100\nffffffff810000f0 1 1\nffffffff81000100 7 2\nffffffff81000304 10 1\n7fff 1 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := newProfile(blocks, s)
	if p.user != 51 || p.kernel != 12+200+1+14+10 {
		t.Errorf("%d and %d instructions", p.user, p.kernel)
	}
	for name, want := range map[string][2]uint64{"first.part.0": {213, 4}, "second": {14, 2}, "gosv/kernel/net.(*sock).Send": {10, 0}} {
		if got := [2]uint64{p.functions[name], p.calls[name]}; got != want {
			t.Errorf("%s: %d instructions and calls, want %d", name, got, want)
		}
	}
	text := p.text(2, 10)
	for _, want := range []string{"instructions: 144 (program 26, kernel 118)\n", " 106.5  74.0 %     2.000 ×  first.part.0\n", "  5.0   3.5 %  gosv/kernel/net\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if _, err := readBlocks(strings.NewReader("4010 5\n")); err == nil {
		t.Error("a line that is cut off")
	}
	if name, first := (symbols{}).at(5); name != "?" || first {
		t.Error(name, first)
	}
}

func TestPackageOf(t *testing.T) {
	for function, want := range map[string]string{
		"gvisor.dev/gvisor/pkg/tcpip/stack.(*nic).DeliverQuick": "gvisor.dev/gvisor/pkg/tcpip/stack",
		"sync.(*Pool).Get":                          "sync",
		"gosv/kernel/sorting.Sort[go.shape.*a/b.c]": "gosv/kernel/sorting",
		"tcp_ack":                 "",
		"page_to_skb.isra.0.cold": "",
	} {
		if got := packageOf(function); got != want {
			t.Errorf("%s: %q, want %q", function, got, want)
		}
	}
}
