package procfs

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

func TestParseArea(t *testing.T) {
	for name, want := range map[string]bool{
		"1000-2000": true, "0-1000": true, "7f0123456000-7f0123457000": true, "ffffffffff600000-ffffffffff601000": true,
		"": false, "-": false, "1000": false, "1000-": false, "-2000": false, "01000-2000": false, "1000-02000": false, "1000-2000 ": false, " 1000-2000": false,
		"+1000-2000": false, "1000--2000": false, "1000-2000-3000": false, "0x1000-2000": false, "1_000-2000": false, "10000000000000000-2": false,
	} {
		if _, _, ok := parseArea(name); ok != want {
			t.Errorf("%q: %v", name, ok)
		}
	}
}

func FuzzParseArea(f *testing.F) {
	f.Add("1000-2000")
	f.Add("00-1")
	f.Fuzz(func(t *testing.T, name string) {
		start, end, ok := parseArea(name)
		if !ok {
			return
		}
		again := strconv.FormatUint(start, 16) + "-" + strconv.FormatUint(end, 16)
		if s, e, ok := parseArea(again); !ok || s != start || e != end || len(again) != len(name) {
			t.Errorf("%q: %#x %#x", name, start, end)
		}
	})
}

// Without files that are mapped, the directory is there and empty.
func TestMapFiles(t *testing.T) {
	w := start(t)
	if list := w.List(t, "/proc/1/map_files"); len(list) != 2 { // . and ..
		t.Errorf("%q", list)
	}
	for _, name := range []string{"10000-11000", "1", "x"} {
		if _, err := vfs.Open(w.ctx, vfs.Path{}, "/proc/1/map_files/"+name, unix.O_RDONLY, 0); err != unix.ENOENT {
			t.Errorf("%s: %v", name, err)
		}
	}
}
