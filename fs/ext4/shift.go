package ext4

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// shiftLeaves bounds how many leaves of a map are changed in one transaction, as part of the journal.
const shiftLeaves = 16

// shift takes whole blocks out of a file (FALLOC_FL_COLLAPSE_RANGE) or, with insert, puts a hole in (FALLOC_FL_INSERT_RANGE); what is behind
// moves. EINVAL as fallocate(2) says, EFBIG, ENOSPC. A crash leaves the file as it was, as it is to be, or with a hole in place of what
// is taken out. The inode is locked.
func (n *node) shift(off, count int64, insert bool) error {
	fs, size := n.fs, n.cache.Size()
	switch {
	case (off|count)&int64(fs.blockSize-1) != 0, insert && off >= size, !insert && off+count >= size:
		return unix.EINVAL
	case insert && count > fs.maxSize()-size:
		return unix.EFBIG
	}
	// What has no place yet gets one, so that the map says it all.
	if err := n.cache.Sync(uint64(off)/machine.PageSize, math.MaxUint64); err != nil {
		return err
	}
	at, blocks := uint64(off)>>fs.blockBits, uint64(count)>>fs.blockBits
	by, end := -int64(blocks), size-count
	if insert {
		by, end = int64(blocks), size+count
	}
	return n.cache.Rearrange(uint64(off)/machine.PageSize, end, func() error {
		from := at
		if !insert {
			from += blocks
			if err := n.release(at, from); err != nil {
				return err
			}
		}
		if err := n.know(); err != nil {
			return err
		}
		return fs.update(func() error {
			if err := n.mayShift(by); err != nil {
				return err
			}
			n.forgetPromises(at, math.MaxUint64)
			n.tree.shift(from, by, fs.leafRoom())
			n.size = end
			if err := n.storeMap(); err != nil {
				return fs.broken(err)
			}
			return n.store()
		})
	})
}

// mayShift checks that the blocks of a file can move: EFBIG, ENOSPC.
func (n *node) mayShift(by int64) error {
	fs, t := n.fs, &n.tree
	if last, ok := t.before(1 << 32); ok && int64(last.end())+by > 1<<32 {
		return unix.EFBIG
	}
	if j := fs.journal; j != nil && len(t.leaves) > int(j.length)/shiftLeaves {
		return unix.EFBIG
	}
	if fs.available() == 0 { // an extent that is split may need blocks for the map
		return unix.ENOSPC
	}
	return nil
}

// shift moves the blocks from a place on; one extent may become two. When they move down, nothing is in the way.
func (t *extentTree) shift(from uint64, by int64, room int) {
	if li, ei := t.seek(from); li < len(t.leaves) {
		if l, e := t.leaves[li], t.leaves[li].extents[ei]; e.lblock < from {
			head := uint32(from - e.lblock)
			l.extents[ei].length = head
			l.extents = slices.Insert(l.extents, ei+1, extent{from, e.pblock + uint64(head), e.length - head, e.unwritten})
			l.dirty = true
			if len(l.extents) > room {
				t.split(li, len(l.extents)/2)
			}
		}
	}
	for _, l := range t.leaves {
		for i := range l.extents {
			if e := &l.extents[i]; e.lblock >= from {
				e.lblock = uint64(int64(e.lblock) + by)
				l.dirty = true
			}
		}
	}
}
