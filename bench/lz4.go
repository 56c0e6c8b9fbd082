package main

import (
	"encoding/binary"
	"errors"
)

// lz4Legacy is the magic number of the LZ4 legacy frame, in which Linux packs
// its payload (lz4_Frame_format.md, "Legacy frame").
const lz4Legacy = 0x184c2102

var errLZ4 = errors.New("not a valid LZ4 stream")

// unlz4 unpacks a legacy frame. Linux appends the unpacked size, which ends the
// stream here as the end of the input does.
func unlz4(in []byte) ([]byte, error) {
	if len(in) < 4 || binary.LittleEndian.Uint32(in) != lz4Legacy {
		return nil, errLZ4
	}
	in = in[4:]
	var out []byte
	for len(in) >= 4 {
		n := binary.LittleEndian.Uint32(in)
		if uint64(n) > uint64(len(in)-4) {
			if len(out) > 0 {
				break
			}
			return nil, errLZ4
		}
		var err error
		if out, err = lz4Block(out, in[4:4+n]); err != nil {
			return nil, err
		}
		in = in[4+n:]
	}
	return out, nil
}

// lz4Block appends the unpacked block to out (lz4_Block_format.md). Matches do
// not reach back beyond the block's beginning.
func lz4Block(out, in []byte) ([]byte, error) {
	start := len(out)
	for len(in) > 0 {
		token := in[0]
		literals, rest, err := lz4Length(int(token>>4), in[1:])
		if err != nil || literals > len(rest) {
			return nil, errLZ4
		}
		out = append(out, rest[:literals]...)
		in = rest[literals:]
		if len(in) == 0 {
			return out, nil
		}
		if len(in) < 2 {
			return nil, errLZ4
		}
		offset := int(binary.LittleEndian.Uint16(in))
		match, rest, err := lz4Length(int(token&15), in[2:])
		if err != nil || offset == 0 || offset > len(out)-start {
			return nil, errLZ4
		}
		in = rest
		for range match + 4 {
			out = append(out, out[len(out)-offset])
		}
	}
	return out, nil
}

// lz4Length reads the bytes that continue a length of 15.
func lz4Length(n int, in []byte) (int, []byte, error) {
	if n < 15 {
		return n, in, nil
	}
	for i, b := range in {
		n += int(b)
		if b != 255 {
			return n, in[i+1:], nil
		}
	}
	return 0, nil, errLZ4
}
