package procfs

import (
	"testing"

	"gosv/kernel/namespace"
)

// FuzzMap: a map that is taken leads back and forth to the same IDs.
func FuzzMap(f *testing.F) {
	for _, s := range []string{"0 1000 1", "0 100000 65536\n65536 5 1\n", "  0\t0 4294967295", "1 2", "0 0 0", "0 4294967295 1", "5 5 4294967295\n", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lines, err := parseMap(s)
		if err != nil {
			return
		}
		u, err := namespace.NewUser(nil, 0, 0)
		if err != nil {
			t.Skip(err)
		}
		if u.SetMap(false, lines, false) != nil {
			return
		}
		for _, l := range lines {
			for _, i := range [...]uint32{0, l.Count / 2, l.Count - 1} {
				if u.RealUID(l.Inside+i) != l.Outside+i || u.UID(l.Outside+i) != l.Inside+i {
					t.Fatalf("%q: %d does not lead to %d and back", s, l.Inside+i, l.Outside+i)
				}
			}
		}
	})
}
