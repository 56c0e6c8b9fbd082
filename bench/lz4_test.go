package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// legacy wraps blocks in a frame, with the unpacked size behind it as Linux
// leaves it.
func legacy(size uint32, blocks ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, lz4Legacy)
	for _, x := range blocks {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(x)))
		b = append(b, x...)
	}
	return binary.LittleEndian.AppendUint32(b, size)
}

func TestLZ4(t *testing.T) {
	long := append([]byte{0xf0, 255, 1}, strings.Repeat("x", 15+255+1)...)
	for _, c := range []struct {
		name, want string
		in         []byte
	}{
		{"literals", "hello", legacy(5, []byte("\x50hello"))},
		{"match", "abcabcabcX", legacy(10, []byte("\x32abc\x03\x00\x10X"))},
		{"overlap", "aaaaaaaaaaaaaaaaaaaaaaaaX", legacy(25, []byte("\x1fa\x01\x00\x04\x10X"))},
		{"long literals", strings.Repeat("x", 271), legacy(271, long)},
		{"two blocks", "helloworld", legacy(10, []byte("\x50hello"), []byte("\x50world"))},
	} {
		got, err := unlz4(c.in)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	for name, in := range map[string][]byte{
		"empty": nil, "magic": []byte("\x04\x22\x4d\x18...."), "huge block": legacy(0)[:4],
		"offset 0": legacy(0, []byte("\x14a\x00\x00\x10X")), "before the start": legacy(0, []byte("\x14a\x02\x00\x10X")),
		"literals missing": legacy(0, []byte("\x50he")), "length missing": legacy(0, []byte("\xf0\xff")),
	} {
		if got, err := unlz4(in); err == nil && len(got) > 0 {
			t.Errorf("%s: %q without an error", name, got)
		}
	}
}

func FuzzLZ4(f *testing.F) {
	f.Add(legacy(10, []byte("\x32abc\x03\x00\x10X")))
	f.Fuzz(func(_ *testing.T, in []byte) {
		if len(in) > 1<<12 {
			return
		}
		_, _ = unlz4(in)
		_, _ = unlz4(append(binary.LittleEndian.AppendUint32(nil, lz4Legacy), in...))
	})
}

func FuzzBzImage(f *testing.F) {
	image := make([]byte, 0x400+16)
	copy(image[0x202:], "HdrS")
	image[0x1f1] = 1
	binary.LittleEndian.PutUint32(image[0x24c:], 16)
	copy(image[0x400:], legacy(0))
	f.Add(image)
	f.Fuzz(func(_ *testing.T, in []byte) {
		if bytes.Contains(in, []byte("7zXZ")) || bytes.Contains(in, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			return // handed to other programs
		}
		_, _ = unpackBzImage(in)
	})
}

func TestBzImageWithoutHeader(t *testing.T) {
	if _, err := unpackBzImage(make([]byte, 4096)); err == nil {
		t.Error("no error for zeros")
	}
}
