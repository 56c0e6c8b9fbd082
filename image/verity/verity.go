// Package verity makes the Merkle tree that the kernel checks a device against: dm-verity's format, version 1, SHA-256,
// blocks of 4096 bytes, as `veritysetup format` makes it and `veritysetup verify` checks it (cryptsetup's wiki, "DMVerity";
// Linux, Documentation/admin-guide/device-mapper/verity.rst).
package verity

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
)

// BlockSize is the size of blocks of data and of the tree, in bytes.
const BlockSize = 4096

const (
	superSize = 512
	maxSalt   = 256
)

// Options are what a tree is made with.
type Options struct {
	Salt []byte // at most 256 bytes, put before each block
	UUID [16]byte
}

// Tree reads size bytes of data, a multiple of BlockSize, and returns the superblock and tree, also a multiple of BlockSize,
// with the root hash.
func Tree(data io.ReaderAt, size int64, o Options) (tree []byte, root [sha256.Size]byte, err error) {
	if size <= 0 || size%BlockSize != 0 {
		return nil, root, errors.New("verity: the data are not whole blocks of 4096 bytes")
	}
	if len(o.Salt) > maxSalt {
		return nil, root, errors.New("verity: the salt is longer than 256 bytes")
	}
	level, err := hashes(data, size, o.Salt)
	if err != nil {
		return nil, root, err
	}
	// Levels from the data's hashes up, each padded to whole blocks.
	var levels [][]byte
	for len(level) > sha256.Size {
		level = append(level, make([]byte, -len(level)&(BlockSize-1))...)
		levels = append(levels, level)
		var above []byte
		for at := 0; at < len(level); at += BlockSize {
			above = append(above, sum(level[at:at+BlockSize], o.Salt)...)
		}
		level = above
	}
	tree = super(size/BlockSize, o)
	for i := len(levels) - 1; i >= 0; i-- {
		tree = append(tree, levels[i]...)
	}
	return tree, [sha256.Size]byte(level), nil
}

// hashes returns the hashes of the blocks of data, one behind the other.
func hashes(data io.ReaderAt, size int64, salt []byte) ([]byte, error) {
	all := make([]byte, 0, size/BlockSize*sha256.Size)
	b := make([]byte, 256*BlockSize)
	for off := int64(0); off < size; {
		n := min(int64(len(b)), size-off)
		if _, err := data.ReadAt(b[:n], off); err != nil && err != io.EOF {
			return nil, err
		}
		for at := int64(0); at < n; at += BlockSize {
			all = append(all, sum(b[at:at+BlockSize], salt)...)
		}
		off += n
	}
	return all, nil
}

func sum(block, salt []byte) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(block)
	return h.Sum(nil)
}

// super returns the superblock, padded to a block.
func super(blocks int64, o Options) []byte {
	b := make([]byte, BlockSize)
	le := binary.LittleEndian
	copy(b, "verity\x00\x00")
	le.PutUint32(b[8:], 1)  // version
	le.PutUint32(b[12:], 1) // hash type: the salt comes first
	copy(b[16:], o.UUID[:])
	copy(b[32:], "sha256")
	le.PutUint32(b[64:], BlockSize)
	le.PutUint32(b[68:], BlockSize)
	le.PutUint64(b[72:], uint64(blocks))
	le.PutUint16(b[80:], uint16(len(o.Salt)))
	copy(b[88:], o.Salt)
	return b
}
