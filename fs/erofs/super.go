package erofs

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

const (
	superOffset = 1024
	superSize   = 128
	magic       = 0xe0f5e1e2

	minBlockBits, maxBlockBits = 9, 12
)

// Bits of feature_compat.
const (
	compatChecksum = 1 << 0
)

// Bits of feature_incompat that are understood, and names for the others.
const (
	incompatZeroPadding   = 1 << 0
	incompatCompressCfgs  = 1 << 1 // big pclusters too
	incompatChunked       = 1 << 2
	incompatXattrPrefixes = 1 << 6

	incompatKnown = incompatZeroPadding | incompatCompressCfgs | incompatChunked
)

var incompatNames = [...]string{3: "several devices", 4: "ztailpacking", 5: "fragments or dedupe", 6: "long xattr prefixes", 7: "48-bit blocks", 8: "metabox"}

// super is what the superblock says.
type super struct {
	blockBits   uint
	rootNID     uint64
	inodes      uint64
	blocks      uint64
	metaBlock   uint64
	xattrBlock  uint64
	buildTime   int64 // ns
	compat      uint32
	incompat    uint32
	zeroPadding bool
}

func (s *super) blockSize() int64 { return 1 << s.blockBits }

// parseSuper reads the superblock from b, which begins at superOffset and goes to the end of the block that it is in:
// EINVAL when there is none, EUCLEAN when it is damaged, EOPNOTSUPP when it asks for what is not known.
func parseSuper(b []byte, size int64, r *vfs.MountRequest) (*super, error) {
	le := binary.LittleEndian
	if len(b) < superSize || le.Uint32(b) != magic {
		return nil, r.Fail(unix.EINVAL, "no EROFS superblock")
	}
	s := &super{
		compat: le.Uint32(b[8:]), blockBits: uint(b[12]), rootNID: uint64(le.Uint16(b[14:])), inodes: le.Uint64(b[16:]),
		blocks: uint64(le.Uint32(b[36:])), metaBlock: uint64(le.Uint32(b[40:])), xattrBlock: uint64(le.Uint32(b[44:])),
		incompat: le.Uint32(b[80:]),
	}
	s.buildTime = nanoseconds(le.Uint64(b[24:]), le.Uint32(b[32:]))
	s.zeroPadding = s.incompat&incompatZeroPadding != 0
	if s.blockBits < minBlockBits || s.blockBits > maxBlockBits {
		return nil, r.Fail(unix.EOPNOTSUPP, "blocks of 2^"+strconv.Itoa(int(s.blockBits))+" bytes")
	}
	if strange := s.incompat &^ incompatKnown; strange != 0 {
		return nil, r.Fail(unix.EOPNOTSUPP, "the image uses "+featureName(strange))
	}
	if s.compat&compatChecksum != 0 && !sumIsRight(b, s.blockBits) {
		return nil, r.Fail(unix.EUCLEAN, "wrong checksum of the superblock")
	}
	const lz4Only = 1 << 0
	if algorithms := le.Uint16(b[84:]); s.incompat&incompatCompressCfgs != 0 && algorithms&^lz4Only != 0 {
		return nil, r.Fail(unix.EOPNOTSUPP, "the image is compressed by something else than LZ4")
	}
	switch {
	case b[90] != 0:
		return nil, r.Fail(unix.EOPNOTSUPP, "directory blocks of another size")
	case s.blocks == 0 || s.blocks<<s.blockBits > uint64(size):
		return nil, r.Fail(unix.EUCLEAN, "the image has been cut off")
	case s.metaBlock >= s.blocks || s.xattrBlock >= s.blocks:
		return nil, r.Fail(unix.EUCLEAN, "metadata beyond the end")
	}
	return s, nil
}

// sumIsRight checks the CRC-32C of the rest of the superblock's block, with its own field taken as zeros.
func sumIsRight(b []byte, blockBits uint) bool {
	n := 1 << blockBits
	if n > superOffset {
		n -= superOffset
	}
	if len(b) < n {
		return false
	}
	sum := crc32c(crc32c(crc32c(^uint32(0), b[:4]), []byte{0, 0, 0, 0}), b[8:n])
	return sum == binary.LittleEndian.Uint32(b[4:]) // the format leaves out the last inversion
}

// crc32c takes more bytes into a CRC-32C, half a byte at a time: the tables of package hash/crc32 would cost more to make
// than they save for the one block that is summed.
func crc32c(sum uint32, b []byte) uint32 {
	const polynomial = 0x82f63b78
	var table [16]uint32
	for i := range table {
		v := uint32(i)
		for range 4 {
			v = v>>1 ^ polynomial&-(v&1)
		}
		table[i] = v
	}
	for _, c := range b {
		sum ^= uint32(c)
		sum = sum>>4 ^ table[sum&15]
		sum = sum>>4 ^ table[sum&15]
	}
	return sum
}

func featureName(bits uint32) string {
	for i, name := range incompatNames {
		if bits>>i&1 != 0 && name != "" {
			return name
		}
	}
	return "features 0x" + strconv.FormatUint(uint64(bits), 16)
}

// nanoseconds turns a time into ns within what an int64 can say; nonsense becomes 0.
func nanoseconds(s uint64, ns uint32) int64 {
	if s > 1<<33 || ns >= 1e9 {
		return 0
	}
	return int64(s)*1e9 + int64(ns)
}
