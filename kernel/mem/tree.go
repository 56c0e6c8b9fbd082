package mem

import (
	"math/bits"

	"gosv/machine"
)

// tree maps page indices to frames: a radix tree that is as high as the highest
// index needs and whose nodes are as wide as the highest slot used needs.
// A set bit of dirty is a page that its backing does not have yet, or without a backing one that Allocate made and nobody has used.
type tree struct {
	root   *node
	height int // levels of inner nodes above the leaves
}

const (
	fanBits = 6
	fan     = 1 << fanBits
)

type node struct {
	frames []machine.Frame // of a leaf
	kids   []*node         // of an inner node
	dirty  uint64          // of a leaf
}

// widen returns s with room for slot i.
func widen[T any](s []T, i int) []T {
	if i < len(s) {
		return s
	}
	n := 1
	for n <= i {
		n *= 4
	}
	wide := make([]T, n)
	copy(wide, s)
	return wide
}

// covers reports whether index is low enough for the tree's height.
func (t *tree) covers(index uint64) bool {
	shift := fanBits * (t.height + 1)
	return shift >= 64 || index>>shift == 0
}

// leaf returns the leaf of index, or nil.
func (t *tree) leaf(index uint64) *node {
	if t.root == nil || !t.covers(index) {
		return nil
	}
	n := t.root
	for level := t.height; level > 0; level-- {
		slot := int(index >> (fanBits * level) % fan)
		if slot >= len(n.kids) {
			return nil
		}
		if n = n.kids[slot]; n == nil {
			return nil
		}
	}
	return n
}

// get returns the frame at index, or NoFrame.
func (t *tree) get(index uint64) machine.Frame {
	n := t.leaf(index)
	slot := int(index % fan)
	if n == nil || slot >= len(n.frames) {
		return machine.NoFrame
	}
	return n.frames[slot]
}

// run returns the frames of up to count pages from index on whose frames follow each other too: NoFrame and 0 where there is none.
func (t *tree) run(index uint64, count int) (f machine.Frame, n int) {
	leaf := t.leaf(index)
	slot := int(index % fan)
	if leaf == nil || slot >= len(leaf.frames) {
		return machine.NoFrame, 0
	}
	frames := leaf.frames[slot:]
	if f = frames[0]; f == machine.NoFrame {
		return f, 0
	}
	for n = 1; n < count && n < len(frames) && frames[n] == f+machine.Frame(n); n++ {
	}
	return f, n
}

// set puts f at index, where nothing is.
func (t *tree) set(index uint64, f machine.Frame) { t.slots(index, 1)[0] = f }

// slots returns the places of count pages from index on, or of those of them that the same leaf has.
func (t *tree) slots(index uint64, count int) []machine.Frame {
	if t.root == nil {
		t.root, t.height = &node{}, 0
	}
	for !t.covers(index) {
		t.root = &node{kids: []*node{t.root}}
		t.height++
	}
	n := t.root
	for level := t.height; level > 0; level-- {
		slot := int(index >> (fanBits * level) % fan)
		n.kids = widen(n.kids, slot)
		if n.kids[slot] == nil {
			n.kids[slot] = &node{}
		}
		n = n.kids[slot]
	}
	slot := int(index % fan)
	last := min(slot+count, fan) - 1
	n.frames = widen(n.frames, last)
	return n.frames[slot : last+1]
}

// remove takes the frame at index out, with its dirty mark.
func (t *tree) remove(index uint64) {
	if n := t.leaf(index); n != nil && int(index%fan) < len(n.frames) {
		n.frames[index%fan] = machine.NoFrame
		n.dirty &^= 1 << (index % fan)
	}
}

// mark makes the page at index dirty or clean and reports whether that changed it.
func (t *tree) mark(index uint64, dirty bool) bool {
	n := t.leaf(index)
	if n == nil {
		return false
	}
	old, bit := n.dirty, uint64(1)<<(index%fan)
	if n.dirty = old &^ bit; dirty {
		n.dirty |= bit
	}
	return n.dirty != old
}

// marked reports whether the page at index is dirty.
func (t *tree) marked(index uint64) bool {
	n := t.leaf(index)
	return n != nil && n.dirty>>(index%fan)&1 != 0
}

// next returns the first page at or above index; ok is false when there is none.
func (t *tree) next(index uint64) (at uint64, f machine.Frame, ok bool) {
	if t.root == nil || !t.covers(index) {
		return 0, machine.NoFrame, false
	}
	return t.root.next(t.height, index, false)
}

// nextDirty returns the first dirty page at or above index.
func (t *tree) nextDirty(index uint64) (at uint64, f machine.Frame, ok bool) {
	if t.root == nil || !t.covers(index) {
		return 0, machine.NoFrame, false
	}
	return t.root.next(t.height, index, true)
}

// next looks below n, a node of the given level, for a page at or above index,
// which counts from n's first.
func (n *node) next(level int, index uint64, dirty bool) (uint64, machine.Frame, bool) {
	if level == 0 {
		if dirty {
			if left := n.dirty >> index << index; left != 0 {
				slot := bits.TrailingZeros64(left)
				return uint64(slot), n.frames[slot], true
			}
			return 0, machine.NoFrame, false
		}
		for slot := int(index); slot < len(n.frames); slot++ {
			if f := n.frames[slot]; f != machine.NoFrame {
				return uint64(slot), f, true
			}
		}
		return 0, machine.NoFrame, false
	}
	shift := fanBits * level
	below := index & (1<<shift - 1)
	for slot := int(index >> shift); slot < len(n.kids); slot++ {
		if kid := n.kids[slot]; kid != nil {
			if at, f, ok := kid.next(level-1, below, dirty); ok {
				return uint64(slot)<<shift | at, f, true
			}
		}
		below = 0
	}
	return 0, machine.NoFrame, false
}
