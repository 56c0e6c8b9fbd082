package ext4

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/vfs"
)

// Places in the superblock (Linux, Documentation/filesystems/ext4/globals.rst).
const (
	superOffset = 1024
	superSize   = 1024
	superMagic  = 0xef53

	sInodes       = 0x00
	sBlocksLo     = 0x04
	sReservedLo   = 0x08
	sFreeBlocksLo = 0x0c
	sFreeInodes   = 0x10
	sFirstBlock   = 0x14
	sLogBlock     = 0x18
	sLogCluster   = 0x1c
	sBlocksGroup  = 0x20
	sInodesGroup  = 0x28
	sMountTime    = 0x2c
	sWriteTime    = 0x30
	sMounts       = 0x34
	sMagic        = 0x38
	sState        = 0x3a
	sRevision     = 0x4c
	sFirstInode   = 0x54
	sInodeSize    = 0x58
	sCompat       = 0x5c
	sIncompat     = 0x60
	sROCompat     = 0x64
	sUUID         = 0x68
	sLabel        = 0x78
	sReservedGDT  = 0xce
	sJournalInode = 0xe0
	sOrphans      = 0xe8
	sHashSeed     = 0xec
	sHashVersion  = 0xfc
	sDescSize     = 0xfe
	sFirstMetaBG  = 0x104
	sBlocksHi     = 0x150
	sReservedHi   = 0x154
	sFreeBlocksHi = 0x158
	sWantExtra    = 0x15e
	sFlags        = 0x160
	sLogFlex      = 0x174
	sChecksumType = 0x175
	sOrphanFile   = 0x280
	sChecksumSeed = 0x270
	sChecksum     = 0x3fc

	stateClean  = 1
	stateErrors = 2

	flagSignedHash   = 1
	flagUnsignedHash = 2
)

// Features.
const (
	compatJournal    = 0x4
	compatResize     = 0x10
	compatDirIndex   = 0x20
	compatSparse2    = 0x200
	compatOrphanFile = 0x1000

	incompatFileType = 0x2
	incompatRecover  = 0x4
	incompatMetaBG   = 0x10
	incompatExtents  = 0x40
	incompat64       = 0x80
	incompatFlexBG   = 0x200
	incompatCsumSeed = 0x2000
	incompatLargeDir = 0x4000
	knownIncompat    = incompatFileType | incompatRecover | incompatMetaBG | incompatExtents | incompat64 | incompatFlexBG |
		incompatCsumSeed | incompatLargeDir

	roSparse        = 0x1
	roLargeFile     = 0x2
	roHugeFile      = 0x8
	roGDTCsum       = 0x10
	roDirNlink      = 0x20
	roExtraISize    = 0x40
	roBigAlloc      = 0x200
	roMetadataCsum  = 0x400
	roReadOnly      = 0x1000
	roOrphanPresent = 0x10000
	knownRO         = roSparse | roLargeFile | roHugeFile | roGDTCsum | roDirNlink | roExtraISize | roMetadataCsum | roOrphanPresent
)

// names of incompatible features that are refused.
var incompatNames = map[uint32]string{
	0x1: "compression", 0x8: "journal_dev", 0x100: "mmp", 0x400: "ea_inode", 0x1000: "dirdata", 0x8000: "inline_data",
	0x10000: "encrypt", 0x20000: "casefold",
}

var le = binary.LittleEndian

// super is what the superblock says.
type super struct {
	raw                                  []byte // of superSize bytes
	blockSize                            int
	blockBits                            uint
	blocks, freeBlocks, reserved         uint64
	inodes, freeInodes                   uint32
	firstBlock                           uint64
	blocksGroup, inodesGroup             uint32
	firstInode                           uint32
	inodeSize                            int
	wantExtra                            int
	compat, incompat, roCompat           uint32
	descSize                             int
	firstMetaBG                          uint32
	journalInode                         uint32
	orphanFile                           uint32
	hashSeed                             [4]uint32
	hashVersion                          uint8
	unsignedHash                         bool
	seed                                 uint32 // of checksums
	csum, gdtCsum, is64, extents, flexBG bool
}

var castagnoliTable atomic.Pointer[crc32.Table]

// castagnoli returns the table of CRC-32C, made when the first file system is mounted: it takes over a million instructions.
func castagnoli() *crc32.Table {
	t := castagnoliTable.Load()
	if t == nil {
		t = crc32.MakeTable(crc32.Castagnoli)
		castagnoliTable.Store(t)
	}
	return t
}

// crc32c goes on with a checksum as the format has it, without inversions.
func crc32c(sum uint32, p []byte) uint32 { return ^crc32.Update(^sum, castagnoli(), p) }

// crc32cShort is crc32c for a few bytes: crc32.Update costs a hundred instructions, and has what it is given escape to the heap.
func crc32cShort(sum uint32, p []byte) uint32 {
	t := castagnoli()
	for _, c := range p {
		sum = t[byte(sum)^c] ^ sum>>8
	}
	return sum
}

// crc32cZeros is crc32c for n bytes of zeros, a few.
func crc32cZeros(sum uint32, n int) uint32 {
	t := castagnoli()
	for range n {
		sum = t[byte(sum)] ^ sum>>8
	}
	return sum
}

// crc32c32 is crc32c for a number as the disk has it.
func crc32c32(sum, v uint32) uint32 { return crc32cZeros(sum^v, 4) }

// Identity returns the label and UUID of the file system on a disk, empty when there is none.
func Identity(d *block.Disk) (label, uuid string) {
	b, err := readSuper(d)
	if err != nil || le.Uint16(b[sMagic:]) != superMagic {
		return "", ""
	}
	l := b[sLabel : sLabel+16]
	for n, c := range l {
		if c == 0 {
			l = l[:n]
			break
		}
	}
	const digits = "0123456789abcdef"
	u := make([]byte, 0, 36)
	for n, c := range b[sUUID : sUUID+16] {
		if n == 4 || n == 6 || n == 8 || n == 10 {
			u = append(u, '-')
		}
		u = append(u, digits[c>>4], digits[c&15])
	}
	return string(l), string(u)
}

func readSuper(d Disk) ([]byte, error) {
	if d.Limits().Size < superOffset+superSize {
		return nil, unix.EINVAL
	}
	b := make([]byte, 4096)
	if d.Limits().Size < 4096 {
		b = b[:superOffset+superSize]
	}
	if err := d.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return b[superOffset : superOffset+superSize], nil
}

// hex formats a set of features.
func hex(v uint32) string { return "0x" + strconv.FormatUint(uint64(v), 16) }

// parseSuper checks a superblock: EINVAL when it is none, EUCLEAN, EOPNOTSUPP, EFBIG.
func parseSuper(b []byte, size int64, r *vfs.MountRequest) (*super, error) {
	if le.Uint16(b[sMagic:]) != superMagic {
		return nil, r.Fail(unix.EINVAL, "no ext4 superblock")
	}
	s := &super{raw: b}
	s.decodeFeatures()
	if err := s.checkFeatures(r); err != nil {
		return nil, err
	}
	what := ""
	if s.decodeSums() {
		if le.Uint32(b[sLogBlock:]) > 2 {
			return nil, r.Fail(unix.EOPNOTSUPP, "blocks are larger than 4096 bytes")
		}
		s.decode()
		what = s.damage(size)
	} else {
		what = "checksum"
	}
	switch {
	case what != "":
		return nil, r.Fail(unix.EUCLEAN, "the superblock is damaged: "+what)
	case s.groupCount() > maxGroups:
		return nil, r.Fail(unix.EFBIG, "too many groups")
	}
	return s, nil
}

func (s *super) decodeFeatures() {
	if le.Uint32(s.raw[sRevision:]) > 0 {
		s.compat, s.incompat, s.roCompat = le.Uint32(s.raw[sCompat:]), le.Uint32(s.raw[sIncompat:]), le.Uint32(s.raw[sROCompat:])
	}
	s.csum, s.gdtCsum = s.roCompat&roMetadataCsum != 0, s.roCompat&roGDTCsum != 0
	s.is64, s.extents, s.flexBG = s.incompat&incompat64 != 0, s.incompat&incompatExtents != 0, s.incompat&incompatFlexBG != 0
}

// decodeSums finds the seed of checksums; false when the superblock's own is wrong.
func (s *super) decodeSums() bool {
	b := s.raw
	if s.csum {
		if b[sChecksumType] != 1 || crc32c(^uint32(0), b[:sChecksum]) != le.Uint32(b[sChecksum:]) {
			return false
		}
		s.seed = crc32c(^uint32(0), b[sUUID:sUUID+16])
	}
	if s.incompat&incompatCsumSeed != 0 {
		s.seed = le.Uint32(b[sChecksumSeed:])
	}
	return true
}

// decode reads the fields, which damage checks.
func (s *super) decode() {
	b := s.raw
	s.blockBits = uint(le.Uint32(b[sLogBlock:])) + 10
	s.blockSize = 1 << s.blockBits
	s.blocks, s.freeBlocks, s.reserved = uint64(le.Uint32(b[sBlocksLo:])), uint64(le.Uint32(b[sFreeBlocksLo:])), uint64(le.Uint32(b[sReservedLo:]))
	s.descSize = 32
	if s.is64 {
		s.blocks |= uint64(le.Uint32(b[sBlocksHi:])) << 32
		s.freeBlocks |= uint64(le.Uint32(b[sFreeBlocksHi:])) << 32
		s.reserved |= uint64(le.Uint32(b[sReservedHi:])) << 32
		s.descSize = int(le.Uint16(b[sDescSize:]))
	}
	s.inodes, s.freeInodes = le.Uint32(b[sInodes:]), le.Uint32(b[sFreeInodes:])
	s.firstBlock = uint64(le.Uint32(b[sFirstBlock:]))
	s.blocksGroup, s.inodesGroup = le.Uint32(b[sBlocksGroup:]), le.Uint32(b[sInodesGroup:])
	s.firstInode, s.inodeSize = 11, 128
	if le.Uint32(b[sRevision:]) > 0 {
		s.firstInode, s.inodeSize = le.Uint32(b[sFirstInode:]), int(le.Uint16(b[sInodeSize:]))
		s.wantExtra = int(le.Uint16(b[sWantExtra:]))
	}
	s.firstMetaBG = le.Uint32(b[sFirstMetaBG:])
	s.journalInode = le.Uint32(b[sJournalInode:])
	if s.compat&compatOrphanFile != 0 {
		s.orphanFile = le.Uint32(b[sOrphanFile:])
	}
	for i := range s.hashSeed {
		s.hashSeed[i] = le.Uint32(b[sHashSeed+4*i:])
	}
	s.hashVersion = b[sHashVersion]
	s.unsignedHash = le.Uint32(b[sFlags:])&flagUnsignedHash != 0
}

// damage names what makes no sense on a disk of a size; empty for nothing.
func (s *super) damage(size int64) string {
	perBlock := uint32(s.blockSize) * 8
	mostBlocks := perBlock // in a group
	if s.roCompat&roBigAlloc != 0 {
		mostBlocks = perBlock << min(le.Uint32(s.raw[sLogCluster:])-le.Uint32(s.raw[sLogBlock:]), 8)
	}
	switch {
	case s.blocks == 0 || s.blocks > uint64(size)>>s.blockBits:
		return "the file system is larger than the disk"
	case s.firstBlock != uint64(b2i(s.blockSize == 1024 && s.roCompat&roBigAlloc == 0)) || s.firstBlock >= s.blocks:
		return "first block"
	case s.blocksGroup == 0 || s.blocksGroup > mostBlocks || s.blocksGroup%8 != 0:
		return "blocks in a group"
	case s.inodesGroup == 0 || s.inodesGroup > perBlock || s.inodesGroup%8 != 0:
		return "inodes in a group"
	case s.inodeSize < 128 || s.inodeSize > s.blockSize || bits.OnesCount(uint(s.inodeSize)) != 1:
		return "size of inodes"
	case s.descSize < 32 || s.is64 && s.descSize < 64 || s.descSize > s.blockSize || bits.OnesCount(uint(s.descSize)) != 1:
		return "size of descriptors"
	case s.firstInode < 11 || s.firstInode > s.inodesGroup:
		return "first inode"
	case uint64(s.inodes) != uint64(s.groupCount())*uint64(s.inodesGroup):
		return "number of inodes"
	}
	return ""
}

// maxGroups bounds what a superblock makes the kernel allocate: 16 TiB with blocks of 4 KiB.
const maxGroups = 1 << 17

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *super) checkFeatures(r *vfs.MountRequest) error {
	if unknown := s.incompat &^ knownIncompat; unknown != 0 {
		why := ""
		for bit := uint32(1); bit != 0; bit <<= 1 {
			if unknown&bit != 0 {
				name := incompatNames[bit]
				if name == "" {
					name = hex(bit)
				}
				why += " " + name
			}
		}
		return r.Fail(unix.EOPNOTSUPP, "incompatible features:"+why)
	}
	if !r.ReadOnly() {
		return s.checkWritable(r)
	}
	return nil
}

// checkWritable says whether the file system can be written: EROFS.
func (s *super) checkWritable(r *vfs.MountRequest) error {
	if unknown := s.roCompat &^ knownRO; unknown == roBigAlloc {
		return r.Fail(unix.EROFS, "bigalloc can be mounted read-only only")
	} else if unknown != 0 {
		return r.Fail(unix.EROFS, "features "+hex(unknown)+" can be mounted read-only only")
	}
	return nil
}

func (s *super) groupCount() uint32 {
	return uint32((s.blocks - s.firstBlock + uint64(s.blocksGroup) - 1) / uint64(s.blocksGroup))
}

// groupStart is the first block of a group, and groupBlocks how many it has.
func (s *super) groupStart(g uint32) uint64 { return s.firstBlock + uint64(g)*uint64(s.blocksGroup) }

func (s *super) groupBlocks(g uint32) uint32 {
	return uint32(min(uint64(s.blocksGroup), s.blocks-s.groupStart(g)))
}

// hasSuper reports whether a group has a copy of the superblock.
func (s *super) hasSuper(g uint32) bool {
	if g == 0 {
		return true
	}
	if s.compat&compatSparse2 != 0 {
		return g == le.Uint32(s.raw[0x24c:]) || g == le.Uint32(s.raw[0x250:])
	}
	if s.roCompat&roSparse == 0 || g == 1 {
		return true
	}
	for _, base := range [...]uint32{3, 5, 7} {
		n := base
		for n < g {
			n *= base
		}
		if n == g {
			return true
		}
	}
	return false
}

// descBlocks is how many blocks hold the descriptors.
func (s *super) descBlocks() uint32 {
	per := uint32(s.blockSize / s.descSize)
	return (s.groupCount() + per - 1) / per
}

// descBlock returns where block i of the descriptors lies.
func (s *super) descBlock(i uint32) uint64 {
	if s.incompat&incompatMetaBG == 0 || i < s.firstMetaBG {
		return superOffset>>s.blockBits + 1 + uint64(i)
	}
	g := i * uint32(s.blockSize/s.descSize)
	return s.groupStart(g) + uint64(b2i(s.hasSuper(g)))
}

// baseMeta is how many blocks at the start of a group hold the superblock, descriptors and room for more of them.
func (s *super) baseMeta(g uint32) uint32 {
	per := uint32(s.blockSize / s.descSize)
	meta := s.incompat&incompatMetaBG != 0
	n := uint32(b2i(s.hasSuper(g)))
	if meta && g/per >= s.firstMetaBG {
		if at := g % per; at == 0 || at == 1 || at == per-1 {
			n++
		}
		return n
	}
	if n == 0 {
		return 0
	}
	old := s.descBlocks()
	if meta {
		old = min(old, s.firstMetaBG)
	}
	return n + old + uint32(le.Uint16(s.raw[sReservedGDT:]))
}

// encode writes what changes into the raw superblock.
func (s *super) encode(now int64) {
	le.PutUint32(s.raw[sFreeBlocksLo:], uint32(s.freeBlocks))
	if s.is64 {
		le.PutUint32(s.raw[sFreeBlocksHi:], uint32(s.freeBlocks>>32))
	}
	le.PutUint32(s.raw[sFreeInodes:], s.freeInodes)
	le.PutUint32(s.raw[sIncompat:], s.incompat)
	le.PutUint32(s.raw[sROCompat:], s.roCompat)
	le.PutUint32(s.raw[sWriteTime:], uint32(now/1e9))
	if s.csum {
		le.PutUint32(s.raw[sChecksum:], crc32c(^uint32(0), s.raw[:sChecksum]))
	}
}

// Flags of a group.
const (
	groupInodeUninit = 1
	groupBlockUninit = 2
)

// group is a group's descriptor.
type group struct {
	blockBitmap, inodeBitmap, inodeTable uint64
	freeBlocks, freeInodes, dirs, unused uint32 // unused: inodes at the end of the table that were never used
	flags                                uint16
	blockSum, inodeSum                   uint32

	// In memory only: no bit below these is free.
	lowBlock, lowInode uint32
	// All free runs of this many blocks were discarded since something became free; 0: no.
	trimmed uint32
}

// decodeGroup checks descriptor g: EUCLEAN.
func (s *super) decodeGroup(g uint32, b []byte) (d group, err error) {
	d = group{
		blockBitmap: uint64(le.Uint32(b)), inodeBitmap: uint64(le.Uint32(b[4:])), inodeTable: uint64(le.Uint32(b[8:])),
		freeBlocks: uint32(le.Uint16(b[12:])), freeInodes: uint32(le.Uint16(b[14:])), dirs: uint32(le.Uint16(b[16:])),
		flags: le.Uint16(b[18:]), unused: uint32(le.Uint16(b[28:])),
		blockSum: uint32(le.Uint16(b[24:])), inodeSum: uint32(le.Uint16(b[26:])),
	}
	if s.is64 {
		d.blockBitmap |= uint64(le.Uint32(b[32:])) << 32
		d.inodeBitmap |= uint64(le.Uint32(b[36:])) << 32
		d.inodeTable |= uint64(le.Uint32(b[40:])) << 32
		d.freeBlocks |= uint32(le.Uint16(b[44:])) << 16
		d.freeInodes |= uint32(le.Uint16(b[46:])) << 16
		d.dirs |= uint32(le.Uint16(b[48:])) << 16
		d.unused |= uint32(le.Uint16(b[50:])) << 16
		d.blockSum |= uint32(le.Uint16(b[56:])) << 16
		d.inodeSum |= uint32(le.Uint16(b[58:])) << 16
	}
	if !s.csum && !s.gdtCsum {
		d.flags, d.unused = d.flags&^(groupInodeUninit|groupBlockUninit), 0
	}
	table := uint64(s.inodesGroup) * uint64(s.inodeSize) >> s.blockBits
	switch {
	case (s.csum || s.gdtCsum) && s.groupSum(g, b) != le.Uint16(b[30:]):
		return d, unix.EUCLEAN
	case !s.inside(d.blockBitmap, 1) || !s.inside(d.inodeBitmap, 1) || !s.inside(d.inodeTable, table):
		return d, unix.EUCLEAN
	case d.freeBlocks > s.groupBlocks(g) || d.freeInodes > s.inodesGroup || d.unused > s.inodesGroup:
		return d, unix.EUCLEAN
	}
	return d, nil
}

// inside reports whether n blocks from b on can be of the file system's own use.
func (s *super) inside(b, n uint64) bool {
	return b > s.firstBlock && b < s.blocks && n <= s.blocks-b
}

// encodeGroup writes d into its descriptor.
func (s *super) encodeGroup(g uint32, d *group, b []byte) {
	le.PutUint16(b[12:], uint16(d.freeBlocks))
	le.PutUint16(b[14:], uint16(d.freeInodes))
	le.PutUint16(b[16:], uint16(d.dirs))
	le.PutUint16(b[18:], d.flags)
	le.PutUint16(b[24:], uint16(d.blockSum))
	le.PutUint16(b[26:], uint16(d.inodeSum))
	le.PutUint16(b[28:], uint16(d.unused))
	if s.is64 {
		le.PutUint16(b[44:], uint16(d.freeBlocks>>16))
		le.PutUint16(b[46:], uint16(d.freeInodes>>16))
		le.PutUint16(b[48:], uint16(d.dirs>>16))
		le.PutUint16(b[50:], uint16(d.unused>>16))
		le.PutUint16(b[56:], uint16(d.blockSum>>16))
		le.PutUint16(b[58:], uint16(d.inodeSum>>16))
	}
	if s.csum || s.gdtCsum {
		le.PutUint16(b[30:], s.groupSum(g, b))
	}
}

// groupSum is the checksum of a descriptor.
func (s *super) groupSum(g uint32, b []byte) uint16 {
	if s.csum {
		sum := crc32cZeros(crc32c(crc32c32(s.seed, g), b[:30]), 2)
		return uint16(crc32c(sum, b[32:s.descSize]))
	}
	number := []byte{byte(g), byte(g >> 8), byte(g >> 16), byte(g >> 24)}
	sum := crc16(crc16(0xffff, s.raw[sUUID:sUUID+16]), number)
	sum = crc16(sum, b[:30])
	if s.is64 {
		sum = crc16(sum, b[32:s.descSize])
	}
	return sum
}

// crc16 is CRC-16/ARC, reflected polynomial 0xa001.
func crc16(sum uint16, p []byte) uint16 {
	for _, c := range p {
		sum ^= uint16(c)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xa001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}
