package cpio

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

type entry struct {
	Header
	body   string
	offset int // of the contents
}

// read is an independent reader of the format, strict about its details.
func read(b []byte) ([]entry, error) {
	var entries []entry
	for at := 0; ; {
		if at%4 != 0 || at+headerSize > len(b) || string(b[at:at+6]) != "070701" {
			return nil, fmt.Errorf("no header at %#x", at)
		}
		var field [13]uint32
		for i := range field {
			v, err := strconv.ParseUint(string(b[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				return nil, err
			}
			field[i] = uint32(v)
		}
		size, nameSize := int(field[6]), int(field[11])
		if nameSize > maxName {
			return nil, fmt.Errorf("name size %d", nameSize)
		}
		name, rest, ok := bytes.Cut(b[at+headerSize:at+headerSize+nameSize], []byte{0})
		if !ok || len(bytes.Trim(rest, "\x00")) != 0 {
			return nil, fmt.Errorf("name at %#x: %q", at, name)
		}
		body := (at + headerSize + nameSize + 3) &^ 3
		if string(name) == trailer {
			return entries, nil
		}
		entries = append(entries, entry{Header{Name: string(name), Mode: field[1], UID: field[2], GID: field[3], MTime: int64(field[5]),
			Size: int64(size), RMajor: field[9], RMinor: field[10]}, string(b[body : body+size]), body})
		at = (body + size + 3) &^ 3
	}
}

func archive(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.body))
		if err := w.Write(e.Header, strings.NewReader(e.body)); err != nil {
			t.Fatal(err)
		}
		if w.offset != int64(b.Len()) {
			t.Fatalf("offset %d after %d bytes", w.offset, b.Len())
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	want := []entry{
		{Header: Header{Name: ".", Mode: 0o040755, MTime: 1}},
		{Header: Header{Name: "empty", Mode: 0o100600, UID: 1000, GID: 100, MTime: 1 << 31}},
		{Header: Header{Name: "small", Mode: 0o104755}, body: "abc"},
		{Header: Header{Name: "link", Mode: 0o120777}, body: "usr/lib"},
		{Header: Header{Name: "null", Mode: 0o020666, RMajor: 1, RMinor: 3}},
		{Header: Header{Name: "page", Mode: 0o100644}, body: strings.Repeat("x", PageSize)},
		{Header: Header{Name: "päge2", Mode: 0o100644}, body: strings.Repeat("y", PageSize+1)},
		{Header: Header{Name: "last", Mode: 0o100644}, body: strings.Repeat("z", PageSize-1)},
	}
	b := archive(t, want)
	got, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	var seen int
	for _, e := range got {
		if seen > 0 && e.Name == "." {
			continue // filler
		}
		w := want[seen]
		w.Size = int64(len(w.body))
		if e.Header != w.Header || e.body != w.body {
			t.Errorf("entry %d: got %+v, want %+v", seen, e.Header, w.Header)
		}
		if e.Size >= PageSize && e.offset%PageSize != 0 {
			t.Errorf("%s: contents at %#x", e.Name, e.offset)
		}
		seen++
	}
	if seen != len(want) {
		t.Errorf("%d entries, want %d", seen, len(want))
	}
	if !bytes.Equal(b, archive(t, want)) {
		t.Error("the same entries gave other bytes")
	}
}

// Whatever comes before it, a large file is aligned and names stay within
// what Linux accepts.
func TestAlignmentEverywhere(t *testing.T) {
	page := strings.Repeat("p", PageSize)
	for before := 0; before < PageSize+200; before += 4 {
		for _, name := range []string{"a", strings.Repeat("n", 300), strings.Repeat("m", maxName-4)} {
			if len(name) > 300 && before%64 != 0 {
				continue
			}
			entries, err := read(archive(t, []entry{
				{Header: Header{Name: ".", Mode: 0o040755}},
				{Header: Header{Name: "before", Mode: 0o100644}, body: page[:min(before, PageSize-1)]},
				{Header: Header{Name: name, Mode: 0o100644}, body: page},
			}))
			if err != nil {
				t.Fatalf("%d bytes before: %v", before, err)
			}
			last := entries[len(entries)-1]
			if last.Name != name || last.offset%PageSize != 0 {
				t.Fatalf("%d bytes before: %.10s… at %#x", before, last.Name, last.offset)
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, h := range []Header{
		{Name: ""}, {Name: "/abs"}, {Name: "a\x00b"}, {Name: trailer}, {Name: strings.Repeat("x", maxName)},
		{Name: "big", Size: 1 << 32}, {Name: "negative", Size: -1},
	} {
		if err := NewWriter(io.Discard).Write(h, nil); err == nil {
			t.Errorf("%.20q with %d bytes: no error", h.Name, h.Size)
		}
	}
	if err := NewWriter(io.Discard).Write(Header{Name: "short", Size: 5}, strings.NewReader("abc")); err == nil {
		t.Error("short contents: no error")
	}
}

// GNU cpio, where it is installed, lists what we wrote.
func TestOtherReader(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("needs cpio")
	}
	cmd := exec.Command("cpio", "-t", "--quiet")
	cmd.Stdin = bytes.NewReader(archive(t, []entry{
		{Header: Header{Name: "d", Mode: 0o040755}},
		{Header: Header{Name: "d/large", Mode: 0o100644}, body: strings.Repeat("x", 3*PageSize)},
		{Header: Header{Name: "d/small", Mode: 0o100644}, body: "y"},
	}))
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "d\nd/large\nd/small\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("name", uint32(0o100644), []byte("contents"))
	f.Add("..", uint32(0), make([]byte, PageSize))
	f.Fuzz(func(t *testing.T, name string, mode uint32, body []byte) {
		var b bytes.Buffer
		w := NewWriter(&b)
		if err := w.Write(Header{Name: name, Mode: mode, Size: int64(len(body))}, bytes.NewReader(body)); err != nil {
			return
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		entries, err := read(b.Bytes())
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		if e := entries[0]; e.Name != name || e.Mode != mode || e.body != string(body) {
			t.Errorf("got %q %o %d bytes", e.Name, e.Mode, len(e.body))
		}
	})
}
