package erofs

import "encoding/binary"

// lz4 decompresses one LZ4 block (lz4_Block_format.md of the LZ4 project) and reports whether src gave exactly
// len(dst) bytes. What stands behind them in src is ignored: a pcluster may be padded.
func lz4(dst, src []byte) bool {
	out, in := 0, 0
	for in < len(src) {
		token := src[in]
		in++
		n, ok := lz4Length(src, &in, int(token>>4))
		if !ok || n > len(src)-in || n > len(dst)-out {
			return false
		}
		copy(dst[out:], src[in:in+n])
		in += n
		out += n
		if out == len(dst) {
			return true
		}
		if len(src)-in < 2 {
			return false
		}
		back := int(binary.LittleEndian.Uint16(src[in:]))
		in += 2
		n, ok = lz4Length(src, &in, int(token&15))
		n += 4
		if !ok || back == 0 || back > out || n > len(dst)-out {
			return false
		}
		repeat(dst[out-back:out+n], back)
		out += n
		if out == len(dst) {
			return true
		}
	}
	return out == len(dst)
}

// lz4Length reads a length that starts with four bits of a token: bytes of 255 and one other follow a 15.
func lz4Length(src []byte, in *int, n int) (int, bool) {
	if n < 15 {
		return n, true
	}
	for *in < len(src) {
		b := src[*in]
		*in++
		n += int(b)
		if b != 255 {
			return n, true
		}
	}
	return 0, false
}

// repeat fills b with its first period bytes, over and over.
func repeat(b []byte, period int) {
	for done := period; done < len(b); {
		done += copy(b[done:], b[:done])
	}
}
