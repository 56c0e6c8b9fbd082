package disk

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// disks are contents of some shapes.
func disks() map[string][]byte {
	sparse := make([]byte, 40<<20)
	copy(sparse[3<<20:], "here")
	copy(sparse[len(sparse)-4:], "end")
	small := []byte(strings.Repeat("0123456789abcdef", 32))
	return map[string][]byte{"sparse": sparse, "small": small, "zeros": make([]byte, 1<<20)}
}

func qcow2(t testing.TB, data []byte) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteQcow2(f, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func TestQcow2(t *testing.T) {
	for name, data := range disks() {
		file := qcow2(t, data)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 1<<20 {
			t.Errorf("%s: %d bytes", name, len(b))
		}
		r, format, err := OpenDisk(bytes.NewReader(b), int64(len(b)))
		if err != nil || format != "qcow2" || r.Size() != int64(len(data)) {
			t.Fatal(name, r, format, err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: other contents, %v", name, err)
		}
		img, err := exec.LookPath("qemu-img")
		if err != nil {
			continue
		}
		if out, err := exec.Command(img, "check", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		raw := filepath.Join(t.TempDir(), "raw")
		if out, err := exec.Command(img, "convert", "-O", "raw", file, raw).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if got, err := os.ReadFile(raw); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: qemu-img reads other contents, %v", name, err)
		}
	}
}

// A file that would have QEMU open another is refused.
func TestQcow2Backing(t *testing.T) {
	b, err := os.ReadFile(qcow2(t, disks()["small"]))
	if err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int]string{8: "backing", 72: "features", 32: "encrypted", 20: "clusters", 40: "outside"} {
		hostile := bytes.Clone(b)
		binary.BigEndian.PutUint32(hostile[offset+4*(offset/8%2):], 0)
		binary.BigEndian.PutUint32(hostile[offset:], 4)
		if _, _, err := OpenDisk(bytes.NewReader(hostile), int64(len(b))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("offset %d: %v, want %q", offset, err, want)
		}
	}
}

// FuzzDisk reads foreign disks and their partition tables.
func FuzzDisk(f *testing.F) {
	b, err := os.ReadFile(qcow2(f, disks()["small"]))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	table := make([]byte, 40*SectorSize)
	entries := make([]byte, gptEntries*gptEntrySize)
	encodeEntry(entries, Partition{Type: TypeRoot, Name: "x", First: 1, Sectors: 2})
	copy(table[SectorSize:], encodeHeader(entries, GUID{}, 1, 39, 2, 39))
	copy(table[2*SectorSize:], entries)
	f.Add(table)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := OpenDisk(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, io.NewSectionReader(r, 0, r.Size()), 1<<20)
		parts, err := Partitions(r, r.Size())
		for _, p := range parts {
			if err == nil && (p.Offset() < 0 || p.Size() <= 0 || p.Offset()+p.Size() > r.Size()) {
				t.Errorf("%+v", p)
			}
		}
	})
}
