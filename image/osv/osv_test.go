package osv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
)

// sample is a ROFS as gen-rofs-img.py makes it: /a ("hello"), /d/l -> ../a.
func sample() []byte {
	word := func(b []byte, v ...uint64) []byte {
		for _, w := range v {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		return b
	}
	name := func(b []byte, s string) []byte {
		return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	b := word(nil, magic, 1, blockSize, 2, 1, 3, 1, 4)
	b = append(b, make([]byte, blockSize-len(b))...)
	b = append(b, "hello"...)
	b = append(b, make([]byte, 2*blockSize-len(b))...)
	b = name(word(b, 4), "l")
	b = name(word(b, 2), "a")
	b = name(word(b, 3), "d")
	b = name(b, "../a")
	b = word(b, typeDir, 1, 1, 2, typeFile, 2, 1, 5, typeDir, 3, 0, 1, typeLink, 4, 0, 1)
	return append(b, make([]byte, 3*blockSize-len(b))...)
}

// list describes a tree.
func list(f *File, name string, depth int, budget *int) string {
	*budget--
	switch {
	case *budget < 0 || depth > 10:
		return ""
	case f.Kind == Link:
		return fmt.Sprintf("%s -> %s\n", name, f.Target)
	case f.Kind == Regular:
		b, err := io.ReadAll(io.NewSectionReader(f, 0, min(f.Size, 1<<16)))
		return fmt.Sprintf("%s %q %v\n", name, b, err)
	}
	var b strings.Builder
	b.WriteString(name + "/\n")
	if err := f.Names(func(n string, f *File) error {
		b.WriteString(list(f, name+"/"+n, depth+1, budget))
		return nil
	}); err != nil {
		fmt.Fprintln(&b, err)
	}
	return b.String()
}

func TestOpen(t *testing.T) {
	image := sample()
	disk := make([]byte, 10*blockSize)
	copy(disk[4*blockSize:], image)
	binary.LittleEndian.PutUint32(disk[446+16+8:], 4)
	binary.LittleEndian.PutUint32(disk[446+16+12:], 3)
	disk[510], disk[511] = 0x55, 0xaa
	for name, b := range map[string][]byte{"bare": image, "in a partition": disk} {
		in := bytes.NewReader(b)
		at, n, _, err := Find(in, int64(len(b)))
		if err != nil {
			t.Fatal(name, err)
		}
		fs, err := Open(io.NewSectionReader(in, at, n), n)
		if err != nil {
			t.Fatal(name, err)
		}
		root, err := fs.Root()
		if err != nil {
			t.Fatal(name, err)
		}
		budget := 100
		if got := list(root, "", 0, &budget); got != "/\n/a \"hello\" <nil>\n/d/\n/d/l -> ../a\n" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for offset, value := range map[int]uint64{0: 1, 8: 2, 16: 4096, 24: 99, 32: 1 << 40, 40: 1 << 50, 48: 9, 56: 0, 2 * blockSize: 77} {
		b := sample()
		binary.LittleEndian.PutUint64(b[offset:], value)
		fs, err := Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			budget := 100
			root, err2 := fs.Root()
			if err2 == nil && !strings.Contains(list(root, "", 0, &budget), "not there") {
				t.Errorf("offset %d: no error", offset)
			}
		}
	}
	if _, _, _, err := Find(bytes.NewReader(make([]byte, 4096)), 4096); err != ErrNone {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(sample())
	f.Fuzz(func(t *testing.T, b []byte) {
		at, n, _, err := Find(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		fs, err := Open(io.NewSectionReader(bytes.NewReader(b), at, n), n)
		if err != nil {
			return
		}
		if root, err := fs.Root(); err == nil {
			budget := 200
			list(root, "", 0, &budget)
		}
	})
}
