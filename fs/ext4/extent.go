package ext4

import (
	"slices"
	"sort"

	"golang.org/x/sys/unix"
)

// Extents (Documentation/filesystems/ext4/ifork.rst): a header of 12 bytes, then entries of 12, in the inode or in blocks of their own.
const (
	extentMagic   = 0xf30a
	extentEntry   = 12
	inlineExtents = 4
	maxDepth      = 5
	// initLimit is the longest extent that is written; longer lengths mean one that is not.
	initLimit    = 32768
	unwrittenMax = initLimit - 1
	// maxExtents bounds the map of one file in memory.
	maxExtents = 1 << 20
)

// An extent says where len blocks of a file from lblock on lie.
type extent struct {
	lblock    uint64
	pblock    uint64
	length    uint32
	unwritten bool // reads as zeros
}

func (e *extent) end() uint64 { return e.lblock + uint64(e.length) }

// joins reports whether f can be added behind e.
func (e *extent) joins(f *extent) bool {
	limit := uint32(initLimit)
	if e.unwritten {
		limit = unwrittenMax
	}
	return e.unwritten == f.unwritten && e.end() == f.lblock && e.pblock+uint64(e.length) == f.pblock && e.length+f.length <= limit
}

// extentTree is the whole map of a file in memory: its leaves in order. It is flat, whatever the depth is on the disk.
type extentTree struct {
	leaves []*leaf
	index  []uint64 // blocks of inner nodes
	// indirect says that the file has the old map of block numbers; leaves has it as extents all the same.
	indirect bool
}

// leaf is one block of extents, or the inode's own room.
type leaf struct {
	block   uint64 // 0: in the inode, or none yet
	extents []extent
	dirty   bool
}

// first is the first block that the leaf is about.
func (l *leaf) first() uint64 { return l.extents[0].lblock }

// leafRoom is how many extents a block holds.
func (fs *fileSystem) leafRoom() int {
	return (fs.blockSize - extentEntry - 4*b2i(fs.csum)) / extentEntry
}

// load reads the map of a file: EUCLEAN, EIO. fs.mu is held for writing.
func (n *node) load() error {
	if n.mapped.Load() {
		return nil
	}
	_, raw, err := n.fs.rawInode(n.ino)
	if err != nil {
		return err
	}
	n.tree = extentTree{}
	if n.flags&flagExtents == 0 {
		n.tree.indirect = true
		err = n.loadIndirect(raw[iBlock : iBlock+iBlockSize])
	} else {
		seen := map[uint64]bool{}
		err = n.loadNode(raw[iBlock:iBlock+iBlockSize], -1, 0, seen)
	}
	if err == nil {
		err = n.tree.check(n.fs)
	}
	if err != nil {
		n.tree = extentTree{}
		return err
	}
	n.mapped.Store(true)
	return nil
}

// loadNode reads a node of the tree, which must have the given depth, if not negative, and everything below.
func (n *node) loadNode(b []byte, depth int, block uint64, seen map[uint64]bool) error {
	count, most, d := int(le.Uint16(b[2:])), int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	room := (len(b) - extentEntry) / extentEntry
	if le.Uint16(b) != extentMagic || count > most || most > room || d > maxDepth || depth >= 0 && d != depth {
		return unix.EUCLEAN
	}
	if d == 0 {
		l := &leaf{block: block, extents: make([]extent, 0, count)}
		for i := range count {
			l.extents = append(l.extents, decodeExtent(b[extentEntry*(i+1):]))
		}
		if count > 0 {
			n.tree.leaves = append(n.tree.leaves, l)
		} else if block != 0 {
			n.tree.index = append(n.tree.index, block) // an empty leaf: freed with the inner nodes
		}
		return nil
	}
	for i := range count {
		e := b[extentEntry*(i+1):]
		child := uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32
		if !n.fs.inside(child, 1) || seen[child] || len(seen) > maxExtents/64 {
			return unix.EUCLEAN
		}
		seen[child] = true
		buf, err := n.fs.read(child, extentKind, n.checkExtents)
		if err != nil {
			return err
		}
		if d > 1 {
			n.tree.index = append(n.tree.index, child)
		}
		if err := n.loadNode(buf.data, d-1, child, seen); err != nil {
			return err
		}
	}
	return nil
}

func decodeExtent(e []byte) extent {
	x := extent{lblock: uint64(le.Uint32(e)), length: uint32(le.Uint16(e[4:])), pblock: uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32}
	if x.length > initLimit {
		x.length, x.unwritten = x.length-initLimit, true
	}
	return x
}

func encodeExtent(e []byte, x *extent) {
	length := x.length
	if x.unwritten {
		length += initLimit
	}
	le.PutUint32(e, uint32(x.lblock))
	le.PutUint16(e[4:], uint16(length))
	le.PutUint16(e[6:], uint16(x.pblock>>32))
	le.PutUint32(e[8:], uint32(x.pblock))
}

// checkExtents verifies the checksum of a block of extents.
func (n *node) checkExtents(b []byte) error {
	if !n.fs.csum || le.Uint16(b) != extentMagic {
		return nil
	}
	at := extentEntry * (1 + int(le.Uint16(b[4:])))
	if at+4 > len(b) || crc32c(n.seed, b[:at]) != le.Uint32(b[at:]) {
		return unix.EUCLEAN
	}
	return nil
}

func (n *node) sumExtents(b []byte) {
	if n.fs.csum {
		at := extentEntry * (1 + int(le.Uint16(b[4:])))
		le.PutUint32(b[at:], crc32c(n.seed, b[:at]))
	}
}

// check verifies that the extents are in order and inside the file system.
func (t *extentTree) check(fs *fileSystem) error {
	at, count := uint64(0), 0
	for _, l := range t.leaves {
		for i := range l.extents {
			e := &l.extents[i]
			if e.length == 0 || e.lblock < at || e.end() > 1<<32 || !fs.inside(e.pblock, uint64(e.length)) {
				return unix.EUCLEAN
			}
			at = e.end()
		}
		if count += len(l.extents); count > maxExtents {
			return unix.EFBIG
		}
	}
	return nil
}

// seek returns the leaf and the index in it of the first extent that ends behind lblock.
func (t *extentTree) seek(lblock uint64) (li, ei int) {
	li = sort.Search(len(t.leaves), func(i int) bool {
		l := t.leaves[i]
		return l.extents[len(l.extents)-1].end() > lblock
	})
	if li == len(t.leaves) {
		return li, 0
	}
	l := t.leaves[li]
	ei = sort.Search(len(l.extents), func(i int) bool { return l.extents[i].end() > lblock })
	return li, ei
}

// find returns what is at lblock: an extent that begins there, or a hole (pblock 0), and either's length as far as it goes.
func (t *extentTree) find(lblock uint64) extent {
	li, ei := t.seek(lblock)
	if li == len(t.leaves) {
		return extent{lblock: lblock, length: 1<<32 - 1}
	}
	e := t.leaves[li].extents[ei]
	if e.lblock > lblock {
		return extent{lblock: lblock, length: uint32(e.lblock - lblock)}
	}
	skip := uint32(lblock - e.lblock)
	return extent{lblock, e.pblock + uint64(skip), e.length - skip, e.unwritten}
}

// before returns the last extent that begins before lblock; ok is false when there is none.
func (t *extentTree) before(lblock uint64) (e extent, ok bool) {
	li, ei := t.seek(lblock)
	if li < len(t.leaves) && t.leaves[li].extents[ei].lblock < lblock {
		return t.leaves[li].extents[ei], true
	}
	if ei--; ei < 0 {
		if li--; li < 0 {
			return e, false
		}
		ei = len(t.leaves[li].extents) - 1
	}
	return t.leaves[li].extents[ei], true
}

// cut takes the blocks [from, to) out of the map and returns what was there, in order. An extent may become two.
func (t *extentTree) cut(from, to uint64, room int) (gone []extent) {
	for {
		li, ei := t.seek(from)
		if li == len(t.leaves) {
			return gone
		}
		l := t.leaves[li]
		e := l.extents[ei]
		if e.lblock >= to {
			return gone
		}
		l.dirty = true
		start, end := max(from, e.lblock), min(to, e.end())
		gone = append(gone, extent{start, e.pblock + start - e.lblock, uint32(end - start), e.unwritten})
		var left []extent
		if e.lblock < start {
			left = append(left, extent{e.lblock, e.pblock, uint32(start - e.lblock), e.unwritten})
		}
		if end < e.end() {
			left = append(left, extent{end, e.pblock + end - e.lblock, uint32(e.end() - end), e.unwritten})
		}
		l.extents = slices.Replace(l.extents, ei, ei+1, left...)
		if len(l.extents) == 0 {
			t.leaves = slices.Delete(t.leaves, li, li+1)
			if l.block != 0 {
				t.index = append(t.index, l.block)
			}
		} else if len(l.extents) > room {
			t.split(li, len(l.extents)/2)
		}
	}
}

// split moves the extents of a leaf from the index at on to a leaf of their own.
func (t *extentTree) split(li, at int) {
	l := t.leaves[li]
	second := &leaf{extents: slices.Clone(l.extents[at:]), dirty: true}
	l.extents = l.extents[:at]
	t.leaves = slices.Insert(t.leaves, li+1, second)
}

// put enters an extent where nothing is, joined to its neighbours where that can be.
func (t *extentTree) put(e extent, room int) {
	li, ei := t.seek(e.lblock)
	if li == len(t.leaves) {
		if li == 0 {
			t.leaves = append(t.leaves, &leaf{extents: []extent{e}, dirty: true})
			return
		}
		li--
		ei = len(t.leaves[li].extents)
	}
	l := t.leaves[li]
	l.dirty = true
	if ei > 0 && l.extents[ei-1].joins(&e) {
		l.extents[ei-1].length += e.length
		if ei < len(l.extents) && l.extents[ei-1].joins(&l.extents[ei]) {
			l.extents[ei-1].length += l.extents[ei].length
			l.extents = slices.Delete(l.extents, ei, ei+1)
		}
		return
	}
	if ei < len(l.extents) && e.joins(&l.extents[ei]) {
		l.extents[ei].lblock, l.extents[ei].pblock = e.lblock, e.pblock
		l.extents[ei].length += e.length
		return
	}
	l.extents = slices.Insert(l.extents, ei, e)
	if len(l.extents) <= room {
		return
	}
	at := len(l.extents) / 2
	if ei == len(l.extents)-1 {
		at = ei // files grow at the end: leave the leaf full
	}
	t.split(li, at)
}

// storeMap writes what changed of the map to the disk: ENOSPC, EIO, EFBIG. fs.mu is held for writing; n.store must follow.
func (n *node) storeMap() error {
	t := &n.tree
	fs := n.fs
	if t.indirect {
		return nil // setIndirect wrote it
	}
	_, raw, err := fs.rawInode(n.ino)
	if err != nil {
		return err
	}
	root := raw[iBlock : iBlock+iBlockSize]
	total := 0
	if len(t.leaves) == 1 {
		total = len(t.leaves[0].extents)
	}
	if len(t.leaves) == 0 || len(t.leaves) == 1 && total <= inlineExtents {
		if err := n.freeTree(); err != nil {
			return err
		}
		var list []extent
		if len(t.leaves) == 1 {
			l := t.leaves[0]
			if l.block != 0 {
				if err := n.freeMeta(l.block); err != nil {
					return err
				}
				l.block = 0
			}
			l.dirty = false
			list = l.extents
		}
		header(root, len(list), inlineExtents, 0)
		clear(root[extentEntry:])
		for i := range list {
			encodeExtent(root[extentEntry*(i+1):], &list[i])
		}
		return nil
	}
	return n.storeTree(root)
}

func header(b []byte, count, most, depth int) {
	le.PutUint16(b, extentMagic)
	le.PutUint16(b[2:], uint16(count))
	le.PutUint16(b[4:], uint16(most))
	le.PutUint16(b[6:], uint16(depth))
	le.PutUint32(b[8:], 0)
}

// storeTree writes the dirty leaves into their blocks and the inner nodes above them.
func (n *node) storeTree(root []byte) error {
	t := &n.tree
	level := make([]place, len(t.leaves))
	for i, l := range t.leaves {
		if err := n.storeLeaf(l); err != nil {
			return err
		}
		level[i] = place{l.first(), l.block}
	}
	// The list of nodes gets shorter level by level.
	old := t.index
	t.index = nil
	depth := 1
	for ; len(level) > inlineExtents; depth++ {
		if depth > maxDepth-1 {
			return unix.EFBIG
		}
		var err error
		if level, old, err = n.storeLevel(level, depth, old); err != nil {
			return err
		}
	}
	clear(root[extentEntry:])
	putPlaces(root, level, inlineExtents, depth)
	for _, b := range old {
		if err := n.freeMeta(b); err != nil {
			return err
		}
	}
	return nil
}

// storeLeaf writes a leaf, if it differs from the disk.
func (n *node) storeLeaf(l *leaf) (err error) {
	if !l.dirty && l.block != 0 {
		return nil
	}
	var b *buffer
	if l.block == 0 {
		b, err = n.newMeta(extentKind)
	} else {
		b, err = n.fs.read(l.block, extentKind, n.checkExtents)
	}
	if err != nil {
		return err
	}
	l.block, l.dirty = b.block, false
	clear(b.data)
	header(b.data, len(l.extents), n.fs.leafRoom(), 0)
	for i := range l.extents {
		encodeExtent(b.data[extentEntry*(i+1):], &l.extents[i])
	}
	n.sumExtents(b.data)
	n.fs.change(b)
	return nil
}

// A place is a node of the tree: its first block of the file, and where it lies.
type place struct{ first, block uint64 }

// storeLevel writes the inner nodes above those of a level, into old blocks as long as there are some: it returns the nodes, and the blocks that
// are left.
func (n *node) storeLevel(level []place, depth int, old []uint64) (up []place, left []uint64, err error) {
	room := n.fs.leafRoom()
	for len(level) > 0 {
		list := level[:min(room, len(level))]
		level = level[len(list):]
		var b *buffer
		if len(old) > 0 {
			b, err = n.fs.read(old[0], anyKind, nil)
			old = old[1:]
		} else {
			b, err = n.newMeta(extentKind)
		}
		if err != nil {
			return nil, old, err
		}
		clear(b.data)
		b.kind = extentKind
		putPlaces(b.data, list, room, depth)
		n.sumExtents(b.data)
		n.fs.change(b)
		n.tree.index = append(n.tree.index, b.block)
		up = append(up, place{list[0].first, b.block})
	}
	return up, old, nil
}

// putPlaces fills an inner node.
func putPlaces(b []byte, list []place, most, depth int) {
	header(b, len(list), most, depth)
	for i, p := range list {
		e := b[extentEntry*(i+1):]
		le.PutUint32(e, uint32(p.first))
		le.PutUint32(e[4:], uint32(p.block))
		le.PutUint16(e[8:], uint16(p.block>>32))
		le.PutUint16(e[10:], 0)
	}
}

// freeTree frees the blocks of the inner nodes and of leaves that are gone.
func (n *node) freeTree() error {
	for _, b := range n.tree.index {
		if err := n.freeMeta(b); err != nil {
			return err
		}
	}
	n.tree.index = nil
	return nil
}

// newMeta allocates a block for the map or the names of n.
func (n *node) newMeta(k kind) (*buffer, error) {
	goal := n.goal()
	block, got, err := n.fs.allocate(goal, 1, true)
	if err != nil {
		return nil, err
	}
	_ = got
	n.blocks += uint64(n.fs.blockSize) / 512
	return n.fs.fresh(block, k), nil
}

// freeMeta frees a block of metadata.
func (n *node) freeMeta(block uint64) error {
	n.blocks -= min(n.blocks, uint64(n.fs.blockSize)/512)
	return n.fs.free(block, 1, true)
}

// goal is where the first blocks of a file are looked for: in the group of its inode.
func (n *node) goal() uint64 { return n.fs.groupStart((n.ino - 1) / n.fs.inodesGroup) }
