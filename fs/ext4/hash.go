package ext4

import "math/bits"

// Hash versions of directories.
const (
	hashLegacy   = 0
	hashHalfMD4  = 1
	hashTea      = 2
	hashUnsigned = 3 // added to the above for unsigned characters
	hashEOF      = 0x7fffffff
)

// nameHash is the hash of a name by which a directory's index is ordered (Linux, fs/ext4/hash.c describes the format;
// Documentation/filesystems/ext4/directory.rst).
func (s *super) nameHash(name string, version uint8) uint32 {
	unsigned := version >= hashUnsigned
	if unsigned {
		version -= hashUnsigned
	}
	seed := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if s.hashSeed != [4]uint32{} {
		seed = s.hashSeed
	}
	var h uint32
	switch version {
	case hashHalfMD4:
		for p := name; len(p) > 0; p = p[min(32, len(p)):] {
			var in [8]uint32
			packName(p, in[:], unsigned)
			halfMD4(&seed, &in)
		}
		h = seed[1]
	case hashTea:
		for p := name; len(p) > 0; p = p[min(16, len(p)):] {
			var in [4]uint32
			packName(p, in[:], unsigned)
			tea(&seed, &in)
		}
		h = seed[0]
	default:
		h = legacyHash(name, unsigned)
	}
	h &^= 1
	if h == hashEOF<<1 {
		h = (hashEOF - 1) << 1
	}
	return h
}

func char(c byte, unsigned bool) uint32 {
	if unsigned {
		return uint32(c)
	}
	return uint32(int32(int8(c)))
}

func legacyHash(name string, unsigned bool) uint32 {
	h0, h1 := uint32(0x12a3fe2d), uint32(0x37abe8f9)
	for i := range len(name) {
		h := h1 + (h0 ^ char(name[i], unsigned)*7152373)
		if h&0x80000000 != 0 {
			h -= 0x7fffffff
		}
		h1, h0 = h0, h
	}
	return h0 << 1
}

// packName fills words with the name's characters, and what is left with its length.
func packName(name string, words []uint32, unsigned bool) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	n := min(len(name), 4*len(words))
	v, at := pad, 0
	for i := range n {
		v = char(name[i], unsigned) + v<<8
		if i%4 == 3 {
			words[at] = v
			at++
			v = pad
		}
	}
	if at < len(words) {
		words[at] = v
		at++
	}
	for ; at < len(words); at++ {
		words[at] = pad
	}
}

func tea(seed *[4]uint32, in *[4]uint32) {
	sum, b0, b1 := uint32(0), seed[0], seed[1]
	for range 16 {
		sum += 0x9e3779b9
		b0 += (b1<<4 + in[0]) ^ (b1 + sum) ^ (b1>>5 + in[1])
		b1 += (b0<<4 + in[2]) ^ (b0 + sum) ^ (b0>>5 + in[3])
	}
	seed[0] += b0
	seed[1] += b1
}

// halfMD4 is MD4 (RFC 1320) cut to three rounds of eight steps.
func halfMD4(seed *[4]uint32, in *[8]uint32) {
	a, b, c, d := seed[0], seed[1], seed[2], seed[3]
	rounds := [3]struct {
		f     func(x, y, z uint32) uint32
		k     uint32
		order [8]int
		shift [4]int
	}{
		{func(x, y, z uint32) uint32 { return z ^ x&(y^z) }, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
		{func(x, y, z uint32) uint32 { return x&y + (x^y)&z }, 0x5a827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
		{func(x, y, z uint32) uint32 { return x ^ y ^ z }, 0x6ed9eba1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
	}
	for _, r := range rounds {
		for i, at := range r.order {
			t := bits.RotateLeft32(a+r.f(b, c, d)+in[at]+r.k, r.shift[i%4])
			a, d, c, b = d, c, b, t
		}
	}
	seed[0] += a
	seed[1] += b
	seed[2] += c
	seed[3] += d
}
