package procfs

import (
	"strconv"
	"strings"
	"testing"

	"gosv/kernel/uio"
)

// TestRecords: reads return whole records, and all reads together all of them, wherever they begin.
func TestRecords(t *testing.T) {
	const count = 300
	made := 0
	line := func(n uint64) string { return strconv.Itoa(int(n)) + strings.Repeat("x", int(n)%50) + "\n" }
	r := &records{record: func(_ *view, after uint64, b *out) (uint64, bool) {
		if after == count {
			return 0, false
		}
		made++
		b.str(line(after + 1))
		return after + 1, true
	}}
	var all strings.Builder
	for n := range uint64(count) {
		all.WriteString(line(n + 1))
	}
	text := all.String()
	read := func(size int, off int64) string {
		t.Helper()
		buf := make([]byte, size)
		dst := uio.Buffer(buf)
		n, err := r.Read(nil, &dst, off)
		if err != nil || n > int64(size) {
			t.Fatalf("Read(%d, %d) = %d, %v", size, off, n, err)
		}
		return string(buf[:n])
	}
	for _, size := range []int{1, 7, 40, 100, 4096, 1 << 20} {
		made = 0
		got, off := "", int64(0)
		for {
			part := read(size, off)
			if part == "" {
				break
			}
			if size >= 100 && !strings.HasSuffix(part, "\n") {
				t.Errorf("a read of %d ends within a record: %q", size, part)
			}
			got, off = got+part, off+int64(len(part))
		}
		if got != text {
			t.Errorf("reads of %d: %d bytes, not %d", size, len(got), len(text))
		}
		if made > 2*count {
			t.Errorf("reads of %d made %d records of %d", size, made, count)
		}
	}
	for _, off := range []int{5, len(text) - 3, 0, 777, 1, len(text), len(text) + 10} {
		if got := read(50, int64(off)); !strings.HasPrefix(text[min(off, len(text)):], got) || got == "" && off < len(text) {
			t.Errorf("at %d: %q", off, got)
		}
	}
}
