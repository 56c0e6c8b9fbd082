package ext4

import (
	"math"
	"math/bits"

	"golang.org/x/sys/unix"
)

// Blocks are handed out by the bitmaps of the groups, which the transaction changes, and by a set in memory of blocks that
// are free there but must not be used: those that data is being written to, which get into the bitmap when it is on the disk, and
// those that the running transaction frees, whose old contents count until it is committed.

// busyBits is a bitmap like the disk's, made when it is needed.
type busyBits map[uint32][]byte

func (m busyBits) set(fs *fileSystem, block uint64, n uint32, on bool) {
	for ; n > 0; block, n = block+1, n-1 {
		g, at := fs.groupOf(block)
		if m[g] == nil {
			m[g] = make([]byte, fs.blockSize)
		}
		if on {
			m[g][at/8] |= 1 << (at % 8)
		} else {
			m[g][at/8] &^= 1 << (at % 8)
		}
	}
}

func (fs *fileSystem) groupOf(block uint64) (g, at uint32) {
	block -= fs.firstBlock
	return uint32(block / uint64(fs.blocksGroup)), uint32(block % uint64(fs.blocksGroup))
}

// blockBitmap returns the bitmap of a group; where the disk has none yet, one as it would be: EUCLEAN, EIO.
func (fs *fileSystem) blockBitmap(g uint32) (*buffer, error) {
	d := &fs.groups[g]
	if d.flags&groupBlockUninit != 0 {
		if b := fs.buffers.find(d.blockBitmap); b != nil && b.kind == bitmapKind {
			return b, nil
		}
		b := fs.buffers.add(&buffer{block: d.blockBitmap, data: make([]byte, fs.blockSize)})
		fs.initBitmap(g, b.data)
		b.kind = bitmapKind
		return b, nil
	}
	return fs.read(d.blockBitmap, bitmapKind, func(b []byte) error {
		if !fs.csum {
			return nil
		}
		return fs.compareSum(crc32c(fs.seed, b[:fs.blocksGroup/8]), d.blockSum)
	})
}

// compareSum compares checksums, of which only half is stored in small descriptors: EUCLEAN.
func (fs *fileSystem) compareSum(sum, have uint32) error {
	if !fs.is64 {
		sum &= 0xffff
	}
	if sum != have {
		return unix.EUCLEAN
	}
	return nil
}

// initBitmap fills in the bitmap of a group that was never used: the file system's own blocks, and what is beyond its end.
func (fs *fileSystem) initBitmap(g uint32, b []byte) {
	clear(b)
	start, n := fs.groupStart(g), fs.groupBlocks(g)
	mark := func(from, count uint64) {
		for x := max(from, start); x < min(from+count, start+uint64(n)); x++ {
			b[(x-start)/8] |= 1 << ((x - start) % 8)
		}
	}
	mark(start, uint64(fs.baseMeta(g)))
	table := uint64(fs.inodesGroup) * uint64(fs.inodeSize) >> fs.blockBits
	for i := range fs.groups {
		d := &fs.groups[i]
		mark(d.blockBitmap, 1)
		mark(d.inodeBitmap, 1)
		mark(d.inodeTable, table)
	}
	for i := int(n); i < len(b)*8; i++ {
		b[i/8] |= 1 << (i % 8)
	}
}

// changedBlocks stores what changed with the block bitmap of a group.
func (fs *fileSystem) changedBlocks(g uint32, b *buffer) error {
	d := &fs.groups[g]
	d.flags &^= groupBlockUninit
	if fs.csum {
		d.blockSum = crc32c(fs.seed, b.data[:fs.blocksGroup/8])
	}
	fs.change(b)
	return fs.storeGroup(g)
}

// storeGroup writes a group's descriptor.
func (fs *fileSystem) storeGroup(g uint32) error {
	per := uint32(fs.blockSize / fs.descSize)
	b, err := fs.read(fs.descBlock(g/per), descKind, nil)
	if err != nil {
		return err
	}
	d := &fs.groups[g]
	if !fs.is64 {
		d.blockSum, d.inodeSum = d.blockSum&0xffff, d.inodeSum&0xffff
	}
	fs.encodeGroup(g, d, b.data[int(g%per)*fs.descSize:][:fs.descSize])
	fs.change(b)
	fs.tx.super = true
	return nil
}

// word returns 64 bits of a bitmap joined with the busy one, set for what cannot be had.
func word(b, busy []byte, i uint32) uint64 {
	w := le.Uint64(b[i/8&^7:])
	if busy != nil {
		w |= le.Uint64(busy[i/8&^7:])
	}
	return w
}

// freeFrom returns the first free bit at or behind from, and how many follow it, at most want; n is 0 when there is none.
func freeFrom(b, busy []byte, from, end, want uint32) (at, n uint32) {
	for at = from; at < end; {
		w := ^word(b, busy, at) >> (at % 64)
		if w == 0 {
			at = at&^63 + 64
			continue
		}
		at += uint32(bits.TrailingZeros64(w))
		break
	}
	if at >= end {
		return end, 0
	}
	for x := at; x < end && n < want; {
		w := word(b, busy, x) >> (x % 64)
		run := uint32(min(bits.TrailingZeros64(w), int(64-x%64)))
		if run == 0 {
			break
		}
		n += run
		x += run
	}
	return at, min(n, want, end-at)
}

// search finds up to want free blocks in a row, near goal: ENOSPC, EUCLEAN, EIO. fs.mu is held for writing.
func (fs *fileSystem) search(goal uint64, want uint32) (block uint64, n uint32, err error) {
	if goal < fs.firstBlock || goal >= fs.blocks {
		goal = fs.firstBlock
	}
	first, at := fs.groupOf(goal)
	count := fs.groupCount()
	for i := range count + 1 { // the first group twice: behind the goal, and whole
		g := (first + i) % count
		from := uint32(0)
		if i == 0 {
			from = at
		}
		if fs.groups[g].freeBlocks == 0 {
			continue
		}
		b, err := fs.blockBitmap(g)
		if err != nil {
			return 0, 0, err
		}
		end, busy, low := fs.groupBlocks(g), fs.busy[g], &fs.groups[g].lowBlock
		for *low < end && word(b.data, nil, *low) == math.MaxUint64 {
			*low = *low&^63 + 64
		}
		from = max(from, *low)
		best, bestN := uint32(0), uint32(0)
		for looks := 0; looks < 64; looks++ {
			p, m := freeFrom(b.data, busy, from, end, want)
			if m > bestN {
				best, bestN = p, m
			}
			if m == 0 || bestN == want || i == 0 && looks == 0 && p == at {
				break // enough, or right behind what the file has
			}
			from = p + m
		}
		if bestN > 0 {
			return fs.groupStart(g) + uint64(best), bestN, nil
		}
	}
	return 0, 0, unix.ENOSPC
}

// available is how many blocks can still be promised to data.
func (fs *fileSystem) available() uint64 {
	promised := fs.promised + metaReserve
	if fs.freeBlocks <= promised {
		return 0
	}
	return fs.freeBlocks - promised
}

// metaReserve is how many blocks are kept for metadata that data in memory will need.
const metaReserve = 16

// pick finds blocks for data that is going to be written to them. They are no one's until use or unpick.
func (fs *fileSystem) pick(goal uint64, want uint32) (uint64, uint32, error) {
	block, n, err := fs.search(goal, want)
	if err == nil {
		fs.busy.set(fs, block, n, true)
	}
	return block, n, err
}

func (fs *fileSystem) unpick(block uint64, n uint32) { fs.busy.set(fs, block, n, false) }

// use makes picked blocks allocated.
func (fs *fileSystem) use(block uint64, n uint32) error {
	fs.unpick(block, n)
	return fs.mark(block, n, true)
}

// mark changes blocks in the bitmaps: EUCLEAN when they are not what they should have been.
func (fs *fileSystem) mark(block uint64, n uint32, on bool) error {
	for n > 0 {
		g, at := fs.groupOf(block)
		if g >= uint32(len(fs.groups)) {
			return unix.EUCLEAN
		}
		m := min(n, fs.groupBlocks(g)-at)
		b, err := fs.blockBitmap(g)
		if err != nil {
			return err
		}
		for i := at; i < at+m; i++ {
			if b.data[i/8]&(1<<(i%8)) != 0 == on {
				return unix.EUCLEAN
			}
			b.data[i/8] ^= 1 << (i % 8)
		}
		d := &fs.groups[g]
		if on {
			if d.freeBlocks < m || fs.freeBlocks < uint64(m) {
				return unix.EUCLEAN
			}
			d.freeBlocks -= m
			fs.freeBlocks -= uint64(m)
		} else {
			d.lowBlock, d.trimmed = min(d.lowBlock, at), 0
			d.freeBlocks += m
			fs.freeBlocks += uint64(m)
		}
		if err := fs.changedBlocks(g, b); err != nil {
			return err
		}
		block, n = block+uint64(m), n-m
	}
	return nil
}

// allocate takes blocks at once; for metadata.
func (fs *fileSystem) allocate(goal uint64, want uint32, _ bool) (uint64, uint32, error) {
	block, n, err := fs.search(goal, want)
	if err == nil {
		err = fs.mark(block, n, true)
	}
	return block, n, err
}

// free gives blocks back; they can be had again when the transaction is committed. What the journal has of metadata is revoked.
func (fs *fileSystem) free(block uint64, n uint32, meta bool) error {
	if !fs.inside(block, uint64(n)) {
		return unix.EUCLEAN
	}
	if err := fs.mark(block, n, false); err != nil {
		return err
	}
	fs.busy.set(fs, block, n, true)
	fs.tx.freed = append(fs.tx.freed, run{block, n})
	if !meta {
		return nil
	}
	for i := range uint64(n) {
		if b := fs.buffers.find(block + i); b != nil && b.inTx {
			b.inTx = false // commit passes over it
		}
		fs.tx.revoked[block+i] = true
	}
	return nil
}

// run is some blocks in a row.
type run struct {
	block uint64
	n     uint32
}

// inodeBitmap returns the inode bitmap of a group: EUCLEAN, EIO.
func (fs *fileSystem) inodeBitmap(g uint32) (*buffer, error) {
	d := &fs.groups[g]
	if d.flags&groupInodeUninit != 0 {
		if b := fs.buffers.find(d.inodeBitmap); b != nil && b.kind == bitmapKind {
			return b, nil
		}
		b := fs.buffers.add(&buffer{block: d.inodeBitmap, data: make([]byte, fs.blockSize)})
		clear(b.data)
		for i := int(fs.inodesGroup); i < len(b.data)*8; i++ {
			b.data[i/8] |= 1 << (i % 8)
		}
		b.kind = bitmapKind
		return b, nil
	}
	return fs.read(d.inodeBitmap, bitmapKind, func(b []byte) error {
		if !fs.csum {
			return nil
		}
		return fs.compareSum(crc32c(fs.seed, b[:fs.inodesGroup/8]), d.inodeSum)
	})
}

// allocateInode takes a free inode, near the group of a directory: ENOSPC, EUCLEAN, EIO.
func (fs *fileSystem) allocateInode(near uint32, isDir bool) (uint32, error) {
	count := fs.groupCount()
	for i := range count {
		g := (near + i) % count
		d := &fs.groups[g]
		if d.freeInodes == 0 {
			continue
		}
		b, err := fs.inodeBitmap(g)
		if err != nil {
			return 0, err
		}
		from := uint32(0)
		if g == 0 {
			from = fs.firstInode - 1
		}
		at, n := freeFrom(b.data, nil, max(from, d.lowInode), fs.inodesGroup, 1)
		if n == 0 {
			continue
		}
		b.data[at/8] |= 1 << (at % 8)
		d.lowInode = at + 1
		d.freeInodes--
		fs.freeInodes--
		if isDir {
			d.dirs++
		}
		d.unused = min(d.unused, fs.inodesGroup-at-1)
		return g*fs.inodesGroup + at + 1, fs.changedInodes(g, b)
	}
	return 0, unix.ENOSPC
}

func (fs *fileSystem) changedInodes(g uint32, b *buffer) error {
	d := &fs.groups[g]
	if d.flags&groupInodeUninit != 0 {
		d.flags &^= groupInodeUninit
	}
	if fs.csum {
		d.inodeSum = crc32c(fs.seed, b.data[:fs.inodesGroup/8])
	}
	fs.change(b)
	return fs.storeGroup(g)
}

// freeInode gives an inode's number back.
func (fs *fileSystem) freeInode(ino uint32, isDir bool) error {
	g, at := (ino-1)/fs.inodesGroup, (ino-1)%fs.inodesGroup
	b, err := fs.inodeBitmap(g)
	if err != nil {
		return err
	}
	if b.data[at/8]&(1<<(at%8)) == 0 {
		return unix.EUCLEAN
	}
	b.data[at/8] &^= 1 << (at % 8)
	d := &fs.groups[g]
	d.lowInode = min(d.lowInode, at)
	d.freeInodes++
	fs.freeInodes++
	if isDir && d.dirs > 0 {
		d.dirs--
	}
	return fs.changedInodes(g, b)
}
