// Package rofs reads ROFS, the read-only file system of OSv's images (version 1; the layout is told in OSv's scripts/gen-rofs-img.py
// and fs/rofs/rofs.hh):
//
//	block 0             superblock: 8 little-endian words of 64 bits
//	then                contents of files, each from the start of a block of 512 bytes
//	structure blocks    entries of directories (inode u64, length u16, name), targets of links (length u16, text),
//	                    inodes (mode, number, data, count: u64 each), one behind the other, not aligned
//
// A file's data is its first block and its count the size in bytes; a directory's are its first entry and how many there are; a link's
// data is the number of its target. Inodes count from 1, which is the root. Owners, times and permissions are not kept:
// all belongs to root, may be read and executed by everybody, and was made at 0.
//
// All structures are read and checked when the image is mounted: damaged ones are EUCLEAN. Each inode has one name.
package rofs

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

const (
	magic     = 0xdeadbead
	version   = 1
	blockSize = 512
	superSize = 64

	inodeSize     = 32
	maxStructures = 64 << 20 // bytes; OSv's largest images have one or two MiB
	maxName       = vfs.NameMax
	maxTarget     = vfs.PathMax - 1
)

// Image is where a file system lies.
type Image interface {
	// ReadAt fills p with the bytes from off on, both multiples of 512: EIO.
	ReadAt(p []byte, off int64) error
	// Size is the length in bytes.
	Size() int64
}

// Probe reports whether b, the beginning of an image, looks like a ROFS.
func Probe(b []byte) bool {
	return len(b) >= superSize && binary.LittleEndian.Uint64(b) == magic && binary.LittleEndian.Uint64(b[8:]) == version
}

// entry is a name in a directory.
type entry struct {
	name  string
	inode uint32 // index: the number less one
}

// node is an inode.
type node struct {
	mode  uint32
	first int64 // block of a file, first entry of a directory, target of a link
	count int64 // bytes of a file, entries of a directory
}

// tables are the structures of an image, checked.
type tables struct {
	entries []entry
	targets []string
	nodes   []node
	blocks  int64 // of the whole image
}

// readTables reads the structures of an image: EINVAL when it is no ROFS, EUCLEAN, EIO.
func readTables(image Image, r *vfs.MountRequest) (*tables, error) {
	size := image.Size() &^ (blockSize - 1)
	super := make([]byte, blockSize)
	if size < blockSize {
		return nil, r.Fail(unix.EINVAL, "no ROFS superblock")
	}
	if err := image.ReadAt(super, 0); err != nil {
		return nil, err
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(super[8*i:]) }
	if word(0) != magic {
		return nil, r.Fail(unix.EINVAL, "no ROFS superblock")
	}
	if word(1) != version || word(2) != blockSize {
		return nil, r.Fail(unix.EOPNOTSUPP, "another version of ROFS")
	}
	first, count := word(3), word(4)
	total := uint64(size / blockSize)
	switch {
	case first == 0 || first > total || count > total-first:
		return nil, r.Fail(unix.EUCLEAN, "the image has been cut off")
	case count*blockSize > maxStructures:
		return nil, r.Fail(unix.EUCLEAN, "too many structures")
	}
	b := make([]byte, count*blockSize)
	if err := image.ReadAt(b, int64(first*blockSize)); err != nil {
		return nil, err
	}
	t := &tables{blocks: int64(first + count)}
	if !t.parse(b, word(5), word(6), word(7)) || !t.sound(int64(first)) {
		return nil, r.Fail(unix.EUCLEAN, "the structures are damaged")
	}
	return t, nil
}

// parse reads the three tables.
func (t *tables) parse(b []byte, entries, targets, nodes uint64) bool {
	const least = 10 // bytes of an entry
	size := uint64(len(b))
	if entries > size/least || targets > size/2 || nodes > size/inodeSize || nodes == 0 {
		return false
	}
	t.entries, t.targets, t.nodes = make([]entry, entries), make([]string, targets), make([]node, nodes)
	for i := range t.entries {
		if len(b) < 8 {
			return false
		}
		number := binary.LittleEndian.Uint64(b)
		name, rest, ok := text(b[8:], maxName)
		if !ok || number == 0 || number > nodes || name == "." || name == ".." || strings.IndexByte(name, '/') >= 0 {
			return false
		}
		t.entries[i] = entry{name, uint32(number - 1)}
		b = rest
	}
	for i := range t.targets {
		var ok bool
		if t.targets[i], b, ok = text(b, maxTarget); !ok {
			return false
		}
	}
	if uint64(len(b)) < nodes*inodeSize {
		return false
	}
	for i := range t.nodes {
		word := func(n int) uint64 { return binary.LittleEndian.Uint64(b[inodeSize*i+8*n:]) }
		if word(0)&^unix.S_IFMT != 0 || word(1) != uint64(i+1) || word(2) > 1<<62 || word(3) > 1<<62 {
			return false
		}
		t.nodes[i] = node{uint32(word(0)), int64(word(2)), int64(word(3))}
	}
	return true
}

// text reads a string with its length before it.
func text(b []byte, most int) (s string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	if n == 0 || n > most || n > len(b)-2 {
		return "", nil, false
	}
	s = string(b[2 : 2+n])
	return s, b[2+n:], strings.IndexByte(s, 0) < 0
}

// sound checks that the tables make one tree, whose data lie before the structures.
func (t *tables) sound(dataEnd int64) bool {
	named := make([]bool, len(t.nodes))
	named[0] = true
	taken := make([]bool, len(t.entries))
	for i, n := range t.nodes {
		switch n.mode {
		case unix.S_IFREG:
			blocks := (n.count + blockSize - 1) / blockSize
			if n.count > 0 && (n.first < 1 || n.first > dataEnd || blocks > dataEnd-n.first) {
				return false
			}
		case unix.S_IFLNK:
			if n.first >= int64(len(t.targets)) {
				return false
			}
		case unix.S_IFDIR:
			if n.first > int64(len(t.entries)) || n.count > int64(len(t.entries))-n.first {
				return false
			}
			seen := make(map[string]bool, n.count)
			for k := n.first; k < n.first+n.count; k++ {
				e := t.entries[k]
				if taken[k] || named[e.inode] || seen[e.name] {
					return false
				}
				taken[k], named[e.inode], seen[e.name] = true, true, true
			}
		default:
			return false
		}
		if i == 0 && n.mode != unix.S_IFDIR {
			return false
		}
	}
	return true
}
