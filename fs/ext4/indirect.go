package ext4

import (
	"golang.org/x/sys/unix"
)

// The old map of ext2 and ext3: 12 block numbers in the inode, then blocks of numbers, of numbers of such blocks, and so on.
const (
	directBlocks = 12
	levels       = 3
)

// loadIndirect reads the map as extents: EUCLEAN, EIO.
func (n *node) loadIndirect(b []byte) error {
	add := func(lblock, pblock uint64) error {
		if !n.fs.inside(pblock, 1) {
			return unix.EUCLEAN
		}
		n.tree.put(extent{lblock: lblock, pblock: pblock, length: 1}, n.fs.leafRoom())
		return nil
	}
	for i := range directBlocks {
		if p := le.Uint32(b[4*i:]); p != 0 {
			if err := add(uint64(i), uint64(p)); err != nil {
				return err
			}
		}
	}
	per := uint64(n.fs.blockSize / 4)
	at, span := uint64(directBlocks), uint64(1)
	seen := map[uint64]bool{}
	for level := range levels {
		span *= per
		if p := le.Uint32(b[4*(directBlocks+level):]); p != 0 {
			if err := n.walkIndirect(uint64(p), level, at, span/per, seen, add); err != nil {
				return err
			}
		}
		at += span
	}
	return nil
}

// walkIndirect calls add for what lies below a block of numbers; each of these stands for span blocks.
func (n *node) walkIndirect(block uint64, level int, at, span uint64, seen map[uint64]bool, add func(lblock, pblock uint64) error) error {
	if !n.fs.inside(block, 1) || seen[block] || len(seen) > maxExtents/64 {
		return unix.EUCLEAN
	}
	seen[block] = true
	buf, err := n.fs.read(block, anyKind, nil)
	if err != nil {
		return err
	}
	per := uint64(n.fs.blockSize / 4)
	for i := range int(per) {
		p := uint64(le.Uint32(buf.data[4*i:]))
		if p == 0 {
			continue
		}
		if at+uint64(i)*span >= 1<<32 {
			return unix.EUCLEAN
		}
		if level == 0 {
			err = add(at+uint64(i), p)
		} else {
			err = n.walkIndirect(p, level-1, at+uint64(i)*span, span/per, seen, add)
		}
		if err != nil {
			return err
		}
		if len(n.tree.leaves) > maxExtents/n.fs.leafRoom() {
			return unix.EFBIG
		}
	}
	return nil
}

// path returns the indices that lead to lblock: in the inode first. EFBIG when the map cannot hold it.
func (n *node) path(lblock uint64) ([]int, error) {
	if lblock < directBlocks {
		return []int{int(lblock)}, nil
	}
	per := uint64(n.fs.blockSize / 4)
	lblock -= directBlocks
	span := per
	for level := range levels {
		if lblock < span {
			list := []int{directBlocks + level}
			for span /= per; ; span /= per {
				list = append(list, int(lblock/span))
				if lblock %= span; span == 1 {
					return list, nil
				}
			}
		}
		lblock -= span
		span *= per
	}
	return nil, unix.EFBIG
}

// setIndirect enters where lblock lies, or with 0 takes it out, and blocks of numbers that get empty with it: ENOSPC, EFBIG, EIO.
func (n *node) setIndirect(lblock, pblock uint64) error {
	if pblock > 1<<32-1 {
		return unix.ENOSPC // the old map has 32 bits
	}
	path, err := n.path(lblock)
	if err != nil {
		return err
	}
	way, err := n.wayTo(path, pblock != 0)
	if err != nil || len(way) < len(path) {
		return err
	}
	last := way[len(way)-1]
	le.PutUint32(last.slot, uint32(pblock))
	n.fs.change(last.holder)
	if pblock != 0 {
		return nil
	}
	return n.dropEmpty(way)
}

// A step on the way to a block: a slot that holds a number, and the buffer that it is in.
type step struct {
	holder *buffer
	slot   []byte
}

// wayTo returns the slots that a path leads through. Blocks of numbers that are missing are made, or, if make is false, end the way.
func (n *node) wayTo(path []int, make bool) (way []step, err error) {
	holder, raw, err := n.fs.rawInode(n.ino)
	if err != nil {
		return nil, err
	}
	table := raw[iBlock : iBlock+iBlockSize]
	for i, at := range path {
		slot := table[4*at : 4*at+4]
		way = append(way, step{holder, slot})
		if i == len(path)-1 {
			break
		}
		if block := uint64(le.Uint32(slot)); block != 0 {
			holder, err = n.fs.read(block, anyKind, nil)
		} else if !make {
			break
		} else {
			holder, err = n.newIndirect(holder, slot)
		}
		if err != nil {
			return nil, err
		}
		table = holder.data
	}
	return way, nil
}

// newIndirect makes a block of numbers, whose number goes into a slot.
func (n *node) newIndirect(holder *buffer, slot []byte) (*buffer, error) {
	b, err := n.newMeta(anyKind)
	if err == nil {
		le.PutUint32(slot, uint32(b.block))
		n.fs.change(holder)
	}
	return b, err
}

// dropEmpty frees the blocks of numbers at the end of a way that hold none.
func (n *node) dropEmpty(way []step) error {
	for i := len(way) - 1; i > 0; i-- {
		b := way[i].holder
		for _, c := range b.data {
			if c != 0 {
				return nil
			}
		}
		le.PutUint32(way[i-1].slot, 0)
		n.fs.change(way[i-1].holder)
		if err := n.freeMeta(b.block); err != nil {
			return err
		}
	}
	return nil
}
