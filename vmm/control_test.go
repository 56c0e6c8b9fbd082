package vmm

import (
	"strings"
	"testing"
)

func TestParseEvent(t *testing.T) {
	tests := []struct {
		line string
		want event
	}{
		{"ready", event{kind: eventReady}},
		{"exit 0", event{kind: eventExit}},
		{"exit 255", event{kind: eventExit, status: 255}},
		{"error 126 /x: is a directory", event{kind: eventError, status: 126, text: "/x: is a directory"}},
		{"error 127", event{kind: eventError, status: 127}},
		{"panic at the\x1b[31m disco", event{kind: eventPanic, text: "at the?[31m disco"}},
		{"missing /a b\x1b", event{kind: eventMissing, text: "/a b?"}},
		{"missing", event{kind: eventBad, text: "missing"}},
		{"ready now", event{kind: eventBad, text: "ready now"}},
		{"exit 256", event{kind: eventBad, text: "exit 256"}},
		{"exit -1", event{kind: eventBad, text: "exit -1"}},
		{"exit", event{kind: eventBad, text: "exit"}},
		{"error 0 fine", event{kind: eventBad, text: "error 0 fine"}},
		{"error x", event{kind: eventBad, text: "error x"}},
		{"", event{kind: eventBad}},
		{"signal 9", event{kind: eventBad, text: "signal 9"}},
	}
	for _, test := range tests {
		if got := parseEvent(test.line); got != test.want {
			t.Errorf("%q: got %+v, want %+v", test.line, got, test.want)
		}
	}
}

func FuzzControl(f *testing.F) {
	f.Add("ready\nexit 3\n")
	f.Add("error 125 no\npanic x")
	f.Add(strings.Repeat("x", maxLine+1))
	f.Fuzz(func(t *testing.T, s string) {
		events := make(chan event)
		go readControl(strings.NewReader(s), events)
		n := 0
		for e := range events {
			if n++; e.status < 0 || e.status > 255 || strings.ContainsAny(e.text, "\x1b\n\x00") {
				t.Errorf("%+v", e)
			}
			if e.kind == eventBad && n > strings.Count(s, "\n")+1 {
				t.Errorf("%d events of %q", n, s)
			}
		}
	})
}

func TestPrintable(t *testing.T) {
	if got := printable("a\tb\r\nü\x1b]0;x\x07\xff\u202e"); strings.ContainsAny(got, "\x1b\x07\r\u202e") || !strings.HasPrefix(got, "a\tb\nü?") {
		t.Errorf("%q", got)
	}
}
