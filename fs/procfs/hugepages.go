package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
)

// The pool of large pages: Documentation/admin-guide/mm/hugetlbpage.rst in Linux's source.

func showHuge(pick func(mem.HugeStats) uint64) func(*view, *out) error {
	return func(v *view, b *out) error { b.unum(pick(v.Pool.Huge().Stats())).nl(); return nil }
}

var (
	showHugeTotal      = showHuge(func(s mem.HugeStats) uint64 { return s.Total })
	showHugeOvercommit = showHuge(func(s mem.HugeStats) uint64 { return s.Overcommit })
)

// parsePages reads a number of large pages: EINVAL.
func parsePages(s string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 0, 64)
	if err != nil {
		return 0, unix.EINVAL
	}
	return n, nil
}

func storeHugeTotal(v *view, s string) error {
	n, err := parsePages(s)
	if err == nil {
		v.Pool.Huge().SetTotal(n)
	}
	return err
}

func storeHugeOvercommit(v *view, s string) error {
	n, err := parsePages(s)
	if err == nil {
		v.Pool.Huge().SetOvercommit(n)
	}
	return err
}

func showHugeGroup(v *view, b *out) error {
	b.unum(uint64(v.Pool.Huge().Group())).nl()
	return nil
}

func storeHugeGroup(v *view, s string) error {
	n, err := parsePages(s)
	if err != nil || n >= 1<<32-1 {
		return unix.EINVAL
	}
	v.Pool.Huge().SetGroup(uint32(n))
	return nil
}

// showHugeMemory is what /proc/meminfo tells.
func showHugeMemory(v *view, b *out) {
	s := v.Pool.Huge().Stats()
	for _, f := range []struct {
		name string
		n    uint64
	}{{"HugePages_Total", s.Total}, {"HugePages_Free", s.Free}, {"HugePages_Rsvd", s.Reserved}, {"HugePages_Surp", s.Surplus}} {
		b.str(f.name, ":").right(f.n, 23-len(f.name)).nl()
	}
	b.kb("Hugepagesize", mem.HugeFrames, 16)
	b.kb("Hugetlb", s.Total*mem.HugeFrames, 16)
}
