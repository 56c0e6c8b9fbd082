// Package rofs writes ROFS, the read-only file system of OSv's images: version 1, as OSv's scripts/gen-rofs-img.py makes it.
// The format keeps neither owners nor times nor permissions, and only directories, files and symbolic links; a hard link
// becomes a file of its own. The same tree gives the same bytes.
package rofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
)

const (
	magic     = 0xdeadbead
	version   = 1
	blockSize = 512

	modeDir  = 0x4000
	modeFile = 0x8000
	modeLink = 0xa000

	maxName   = 255
	maxTarget = 4095
)

// A Node is a directory, a file or a symbolic link.
type Node struct {
	// Entries are those of a directory; not nil, if it is one.
	Entries map[string]*Node
	// Target is that of a symbolic link.
	Target string
	// Open returns the contents of a file, of Size bytes.
	Open func() (io.ReadCloser, error)
	Size int64
}

// Write writes an image of the directory root to out, which it fills from the start, and returns its length in bytes.
func Write(out io.WriterAt, root *Node) (int64, error) {
	if root.Entries == nil {
		return 0, errors.New("rofs: the root is no directory")
	}
	w := &writer{out: out, block: 1}
	w.inode(modeDir)
	first, count, err := w.directory(root, "")
	if err != nil {
		return 0, err
	}
	w.set(0, first, count)
	structures := w.block
	b := append(append(w.entries, w.targets...), w.inodes...)
	b = append(b, make([]byte, -len(b)&(blockSize-1))...)
	if _, err := out.WriteAt(b, int64(structures)*blockSize); err != nil {
		return 0, err
	}
	super := make([]byte, 0, blockSize)
	for _, v := range []uint64{
		magic, version, blockSize, structures, uint64(len(b)) / blockSize, w.entryCount, w.targetCount, uint64(len(w.inodes)) / inodeSize,
	} {
		super = binary.LittleEndian.AppendUint64(super, v)
	}
	_, err = out.WriteAt(super[:blockSize], 0)
	return int64(structures)*blockSize + int64(len(b)), err
}

const inodeSize = 32

// writer collects the structures while it writes the contents.
type writer struct {
	out                      io.WriterAt
	block                    uint64 // next free
	entries, targets, inodes []byte
	entryCount, targetCount  uint64
}

// inode adds an inode and returns its index.
func (w *writer) inode(mode uint64) int {
	index := len(w.inodes) / inodeSize
	w.inodes = binary.LittleEndian.AppendUint64(w.inodes, mode)
	w.inodes = binary.LittleEndian.AppendUint64(w.inodes, uint64(index)+1)
	w.inodes = append(w.inodes, make([]byte, 16)...)
	return index
}

// set fills in where an inode's data are.
func (w *writer) set(index int, data, count uint64) {
	binary.LittleEndian.PutUint64(w.inodes[index*inodeSize+16:], data)
	binary.LittleEndian.PutUint64(w.inodes[index*inodeSize+24:], count)
}

// directory writes what is in a directory, and its entries.
func (w *writer) directory(n *Node, path string) (first, count uint64, err error) {
	names := make([]string, 0, len(n.Entries))
	for name := range n.Entries {
		if len(name) == 0 || len(name) > maxName || name == "." || name == ".." {
			return 0, 0, fmt.Errorf("rofs: %s/%.40q: a bad name", path, name)
		}
		names = append(names, name)
	}
	sort.Strings(names)
	numbers := make([]int, len(names))
	for i, name := range names {
		if numbers[i], err = w.node(n.Entries[name], path+"/"+name); err != nil {
			return 0, 0, err
		}
	}
	first = w.entryCount
	for i, name := range names {
		w.entries = binary.LittleEndian.AppendUint64(w.entries, uint64(numbers[i])+1)
		w.entries = appendText(w.entries, name)
		w.entryCount++
	}
	return first, uint64(len(names)), nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

// node writes one entry and returns the index of its inode.
func (w *writer) node(n *Node, path string) (int, error) {
	switch {
	case n.Entries != nil:
		index := w.inode(modeDir)
		first, count, err := w.directory(n, path)
		w.set(index, first, count)
		return index, err
	case n.Target != "":
		if len(n.Target) > maxTarget {
			return 0, fmt.Errorf("rofs: %s: the link's target is too long", path)
		}
		index := w.inode(modeLink)
		w.set(index, w.targetCount, 1)
		w.targets = appendText(w.targets, n.Target)
		w.targetCount++
		return index, nil
	}
	index := w.inode(modeFile)
	w.set(index, w.block, uint64(n.Size))
	if n.Size == 0 {
		return index, nil
	}
	if err := w.contents(n); err != nil {
		return 0, fmt.Errorf("rofs: %s: %w", path, err)
	}
	return index, nil
}

// contents writes a file's bytes into the next blocks.
func (w *writer) contents(n *Node) error {
	in, err := n.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	at := int64(w.block) * blockSize
	done, err := io.Copy(io.NewOffsetWriter(w.out, at), io.LimitReader(in, n.Size))
	if err != nil {
		return err
	}
	if done != n.Size {
		return fmt.Errorf("it has %d bytes now, and had %d", done, n.Size)
	}
	if pad := -n.Size & (blockSize - 1); pad > 0 {
		if _, err := w.out.WriteAt(make([]byte, pad), at+n.Size); err != nil {
			return err
		}
	}
	w.block += uint64(n.Size+blockSize-1) / blockSize
	return nil
}
