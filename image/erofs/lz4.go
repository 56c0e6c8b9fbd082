package erofs

import "encoding/binary"

// The LZ4 block format (github.com/lz4/lz4, doc/lz4_Block_format.md). A fixed
// size of the output, which EROFS wants, is what encoders in Go's libraries do
// not offer, so this one is ours.
const (
	lz4Match    = 4  // the shortest match
	lz4End      = 12 // bytes at a block's end in which no match may begin
	lz4Last     = 5  // bytes at its end that are literals
	lz4Distance = 65535
	hashBits    = 13
)

// lz4Encoder compresses blocks. It is for one goroutine.
type lz4Encoder struct {
	table [1 << hashBits]int32 // 1 + position of what was seen last with a hash
}

// encode compresses as much from the beginning of src as fits dst, and returns
// how many bytes it took and how many it made.
func (e *lz4Encoder) encode(dst, src []byte) (taken, made int) {
	clear(e.table[:])
	anchor, pos := 0, 0
	for pos+lz4End <= len(src) {
		v := binary.LittleEndian.Uint32(src[pos:])
		slot := &e.table[v*2654435761>>(32-hashBits)]
		ref := int(*slot) - 1
		*slot = int32(pos + 1)
		if ref < 0 || pos-ref > lz4Distance || binary.LittleEndian.Uint32(src[ref:]) != v {
			pos += 1 + (pos-anchor)>>6 // faster through what does not compress
			continue
		}
		n := lz4Match
		for most := len(src) - lz4Last - pos; n < most && src[ref+n] == src[pos+n]; {
			n++
		}
		literals := src[anchor:pos]
		// What follows the match needs room as well: a token and enough literals.
		if made+1+lengthBytes(len(literals))+len(literals)+2+lengthBytes(n-lz4Match)+1+lz4End > len(dst) {
			break
		}
		made += putSequence(dst[made:], literals, pos-ref, n)
		pos += n
		anchor = pos
	}
	last := min(len(src)-anchor, len(dst)-made-1)
	for last > 0 && made+1+lengthBytes(last)+last > len(dst) {
		last--
	}
	made += putSequence(dst[made:], src[anchor:anchor+last], 0, 0)
	return anchor + last, made
}

// lengthBytes is how many bytes a length needs beyond the token's four bits.
func lengthBytes(n int) int {
	if n < 15 {
		return 0
	}
	return (n-15)/255 + 1
}

// putSequence writes literals and a match; without one when length is 0.
func putSequence(dst, literals []byte, distance, length int) int {
	n := 1
	put := func(v int) byte {
		if v < 15 {
			return byte(v)
		}
		for v -= 15; v >= 255; v -= 255 {
			dst[n] = 255
			n++
		}
		dst[n] = byte(v)
		n++
		return 15
	}
	token := put(len(literals)) << 4
	n += copy(dst[n:], literals)
	if length > 0 {
		binary.LittleEndian.PutUint16(dst[n:], uint16(distance))
		n += 2
		token |= put(length - lz4Match)
	}
	dst[0] = token
	return n
}

// lz4Decode decompresses src into all of dst, and says whether src was well-formed.
func lz4Decode(dst, src []byte) bool {
	made := 0
	length := func(n int) (int, bool) {
		if n < 15 {
			return n, true
		}
		for len(src) > 0 && n <= len(dst) {
			b := src[0]
			src = src[1:]
			n += int(b)
			if b != 255 {
				return n, true
			}
		}
		return 0, false
	}
	for len(src) > 0 {
		token := src[0]
		src = src[1:]
		literals, ok := length(int(token >> 4))
		if !ok || literals > len(src) || literals > len(dst)-made {
			return false
		}
		made += copy(dst[made:], src[:literals])
		src = src[literals:]
		if len(src) == 0 {
			return made == len(dst)
		}
		if len(src) < 2 {
			return false
		}
		distance := int(binary.LittleEndian.Uint16(src))
		src = src[2:]
		n, ok := length(int(token & 15))
		if n += lz4Match; !ok || distance == 0 || distance > made || n > len(dst)-made {
			return false
		}
		for range n {
			dst[made] = dst[made-distance]
			made++
		}
	}
	return false
}
