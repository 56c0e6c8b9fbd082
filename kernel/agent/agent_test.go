package agent

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/internal/frames"
)

func TestParseRequest(t *testing.T) {
	r, err := parseRequest([]byte("arg=ls\x00arg=\x00env=A=b\x00cwd=/tmp\x00user=1:2\x00tty=1\x00winsize=24 80\x00"))
	want := &request{argv: []string{"ls", ""}, env: []string{"A=b"}, dir: "/tmp", user: "1:2", terminal: true, size: unix.Winsize{Row: 24, Col: 80}}
	if err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "arg=ls", "arg\x00", "arg=\x00", "arg=ls\x00winsize=1\x00", "arg=ls\x00winsize=1 70000\x00", "arg=ls\x00new=1\x00"} {
		if r, err := parseRequest([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("arg=ls\x00env=A=b\x00cwd=/tmp\x00user=1:2\x00tty=1\x00winsize=24 80\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err == nil && (len(r.argv) == 0 || len(b) > 0 && b[len(b)-1] != 0) {
			t.Errorf("%+v of %q", r, b)
		}
	})
}

func TestMerge(t *testing.T) {
	base := []string{"A=1", "B=2"}
	got := merge(base, []string{"B=3", "C=4", "C=5"})
	if strings.Join(got, " ") != "A=1 B=3 C=5" || base[1] != "B=2" {
		t.Errorf("%q, %q", got, base)
	}
}

func TestStreamHoldsNoMoreThanItsWindow(t *testing.T) {
	var st stream
	st.init()
	if _, ok := st.put(make([]byte, frames.Window)); !ok {
		t.Error("a full window was refused")
	}
	if _, ok := st.put([]byte{1}); ok {
		t.Error("more than the window was taken")
	}
	st.advance(frames.Window)
	if dropped, ok := st.put([]byte("abc")); dropped || !ok {
		t.Error("refused with an empty buffer")
	}
	st.end()
	if b, ended := st.peek(); !bytes.Equal(b, []byte("abc")) || !ended {
		t.Errorf("%q, %t", b, ended)
	}
	st.shut()
	if dropped, ok := st.put(make([]byte, frames.MaxPayload)); !dropped || !ok {
		t.Error("input for nobody was kept")
	}
	st.spend(frames.Window)
	st.grant(5)
	if st.left() != 5 {
		t.Errorf("%d left", st.left())
	}
	st.grant(frames.Window)
	if st.left() != frames.Window {
		t.Error("credit beyond the window")
	}
}
