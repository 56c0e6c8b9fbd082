package ext4

import "golang.org/x/sys/unix"

// The orphan file (feature orphan_file) has blocks of inode numbers, each with a magic number and a checksum at its end. It is
// read and emptied; orphans made here go to the old list, which is always allowed.
const (
	orphanMagic = 0x0b10ca04
	orphanTail  = 8
)

// orphanFileBlocks calls do for the blocks of the orphan file that have a sound end.
func (fs *fileSystem) orphanFileBlocks(do func(n *node, b *buffer) error) error {
	if fs.orphanFile == 0 || fs.roCompat&roOrphanPresent == 0 {
		return nil
	}
	_, raw, err := fs.rawInode(fs.orphanFile)
	if err != nil {
		return err
	}
	i, err := fs.decodeInode(fs.orphanFile, raw)
	if err != nil || i.Type() != unix.S_IFREG {
		return unix.EUCLEAN
	}
	n := of(i)
	defer n.cache.Release()
	if err := n.load(); err != nil {
		return err
	}
	const mostBlocks = 1 << 16
	for at := uint64(0); at < uint64(n.size)>>fs.blockBits && at < mostBlocks; at++ {
		e := n.tree.find(at)
		if e.pblock == 0 || e.unwritten {
			return unix.EUCLEAN
		}
		b, err := fs.read(e.pblock, anyKind, nil)
		if err != nil {
			return err
		}
		if le.Uint32(b.data[fs.blockSize-orphanTail:]) != orphanMagic {
			return unix.EUCLEAN
		}
		if err := do(n, b); err != nil {
			return err
		}
	}
	return nil
}

// orphanFileInodes returns the inodes in the orphan file that are not in seen.
func (fs *fileSystem) orphanFileInodes(seen map[uint32]bool) (list []uint32, err error) {
	err = fs.orphanFileBlocks(func(_ *node, b *buffer) error {
		for at := 0; at < fs.blockSize-orphanTail; at += 4 {
			ino := le.Uint32(b.data[at:])
			if ino == 0 || seen[ino] {
				continue
			}
			if ino > fs.inodes || ino < fs.firstInode {
				return unix.EUCLEAN
			}
			seen[ino] = true
			list = append(list, ino)
		}
		return nil
	})
	return list, err
}

// clearOrphanFile empties it.
func (fs *fileSystem) clearOrphanFile() error {
	if fs.roCompat&roOrphanPresent == 0 {
		return nil
	}
	return fs.update(func() error {
		err := fs.orphanFileBlocks(func(n *node, b *buffer) error {
			clear(b.data[:fs.blockSize-orphanTail])
			if fs.csum {
				var number [8]byte
				le.PutUint64(number[:], b.block)
				sum := crc32c(crc32c(n.seed, number[:]), b.data[:fs.blockSize-orphanTail])
				le.PutUint32(b.data[fs.blockSize-4:], sum)
			}
			fs.change(b)
			return nil
		})
		fs.roCompat &^= roOrphanPresent
		fs.tx.super = true
		return err
	})
}
