package elfdeps

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Cache returns the contents of an ld.so.cache that lists libs, so that glibc's
// loader opens each at its path at once, wherever it lies. The layout is that
// of struct cache_file_new in glibc's sysdeps/generic/dl-cache.h.
func Cache(libs []Library) []byte {
	const (
		magic      = "glibc-ld.so.cache1.1"
		headerSize = 48
		entrySize  = 24
		littleEnd  = 2     // cache_file_new_flags_endian_little
		x86Lib6    = 0x303 // FLAG_X8664_LIB64 | FLAG_ELF_LIBC6
	)
	libs = slices.Clone(libs)
	slices.SortStableFunc(libs, func(a, b Library) int { return compareNames(b.Name, a.Name) })

	le := binary.LittleEndian
	var entries, names []byte
	base := uint32(headerSize + entrySize*len(libs))
	for _, l := range libs {
		key := base + uint32(len(names))
		names = append(append(names, l.Name...), 0)
		value := base + uint32(len(names))
		names = append(append(names, l.Path...), 0)
		entries = le.AppendUint32(entries, x86Lib6)
		entries = le.AppendUint32(entries, key)
		entries = le.AppendUint32(entries, value)
		entries = append(entries, make([]byte, 12)...) // osversion, hwcap
	}
	b := append(make([]byte, 0, len(entries)+len(names)+headerSize), magic...)
	b = le.AppendUint32(b, uint32(len(libs)))
	b = le.AppendUint32(b, uint32(len(names)))
	b = append(b, littleEnd, 0, 0, 0)
	b = append(b, make([]byte, headerSize-len(b))...) // no extensions
	return append(append(b, entries...), names...)
}

// compareNames orders names as glibc's _dl_cache_libcmp: digits as numbers, and
// a digit after everything else.
func compareNames(a, b string) int {
	isDigit := func(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }
	for a != "" {
		switch {
		case isDigit(a) && isDigit(b):
			var x, y uint64
			x, a = number(a)
			y, b = number(b)
			if x != y {
				return cmp.Compare(x, y)
			}
		case isDigit(a):
			return 1
		case isDigit(b):
			return -1
		case b == "" || a[0] != b[0]:
			return cmp.Compare(a, b)
		default:
			a, b = a[1:], b[1:]
		}
	}
	return cmp.Compare(a, b)
}

func number(s string) (uint64, string) {
	var n uint64
	for s != "" && s[0] >= '0' && s[0] <= '9' {
		n, s = n*10+uint64(s[0]-'0'), s[1:]
	}
	return n, s
}
