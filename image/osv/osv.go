// Package osv reads the disk images of OSv: an MBR, and in one of its partitions
// ROFS, the read-only file system that OSv's scripts/gen-rofs-img.py makes
// (OSv, fs/rofs/rofs.hh; version 1).
//
// The bytes are foreign: every number is checked before it is used.
package osv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	magic      = 0xdeadbead
	blockSize  = 512
	inodeSize  = 32
	entryHead  = 8 // inode number, before the name
	maxEntries = 4 << 20
	maxTables  = 1 << 30

	typeDir  = 0x4000
	typeFile = 0x8000
	typeLink = 0xa000
	typeMask = 0xf000
)

// ErrFormat is what is wrong with a file system that is not as it should be.
var ErrFormat = errors.New("rofs")

// ErrNone says that there is no ROFS.
var ErrNone = errors.New("no ROFS")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// Find returns where in a disk of size bytes a ROFS lies: in a partition of its
// MBR, which count from 1, or, as 0, on the whole disk. ErrNone when there is none.
func Find(in io.ReaderAt, size int64) (offset, length int64, part int, err error) {
	b := make([]byte, blockSize)
	if size < blockSize {
		return 0, 0, 0, ErrNone
	}
	if _, err := in.ReadAt(b, 0); err != nil {
		return 0, 0, 0, err
	}
	if binary.LittleEndian.Uint64(b) == magic {
		return 0, size, 0, nil
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return 0, 0, 0, ErrNone
	}
	for i := range 4 {
		e := b[446+16*i:]
		start, count := int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))
		if start == 0 || count == 0 || start+count > size/blockSize {
			continue
		}
		var head [8]byte
		if _, err := in.ReadAt(head[:], start*blockSize); err == nil && binary.LittleEndian.Uint64(head[:]) == magic {
			return start * blockSize, count * blockSize, i + 1, nil
		}
	}
	return 0, 0, 0, ErrNone
}

// FS is a file system that was opened.
type FS struct {
	in      io.ReaderAt
	size    int64
	inodes  []byte
	entries []entry
	links   []string
}

type entry struct {
	name  string
	inode uint64
}

// Open reads the tables of a file system of at most size bytes.
func Open(in io.ReaderAt, size int64) (*FS, error) {
	super := make([]byte, 64)
	if size < blockSize {
		return nil, bad("%d bytes hold no file system", size)
	}
	if _, err := in.ReadAt(super, 0); err != nil {
		return nil, err
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(super[8*i:]) }
	first, count := word(3), word(4)
	switch {
	case word(0) != magic:
		return nil, bad("no superblock")
	case word(1) != 1 || word(2) != blockSize:
		return nil, bad("version %d with blocks of %d bytes", word(1), word(2))
	case count > maxTables/blockSize || first > uint64(size/blockSize) || count > uint64(size/blockSize)-first:
		return nil, bad("the tables lie outside: is the image truncated?")
	case word(5) > maxEntries || word(6) > maxEntries || word(7) > maxEntries:
		return nil, bad("%d entries, %d links, %d inodes", word(5), word(6), word(7))
	}
	table := make([]byte, count*blockSize)
	if _, err := in.ReadAt(table, int64(first)*blockSize); err != nil {
		return nil, err
	}
	fs := &FS{in: in, size: size}
	for range word(5) {
		if len(table) < entryHead {
			return nil, bad("the entries end early")
		}
		inode := binary.LittleEndian.Uint64(table)
		name, rest, err := text(table[entryHead:])
		if err != nil {
			return nil, err
		}
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			return nil, bad("name %.300q", name)
		}
		fs.entries, table = append(fs.entries, entry{name, inode}), rest
	}
	for range word(6) {
		target, rest, err := text(table)
		if err != nil {
			return nil, err
		}
		fs.links, table = append(fs.links, target), rest
	}
	if word(7) == 0 || uint64(len(table)) < word(7)*inodeSize {
		return nil, bad("the inodes end early")
	}
	fs.inodes = bytes.Clone(table[:word(7)*inodeSize])
	return fs, nil
}

// text takes a length of two bytes and as many bytes off b.
func text(b []byte) (s string, rest []byte, err error) {
	if len(b) < 2 || len(b)-2 < int(binary.LittleEndian.Uint16(b)) {
		return "", nil, bad("a name ends early")
	}
	n := 2 + int(binary.LittleEndian.Uint16(b))
	return string(b[2:n]), b[n:], nil
}

// Kind is what a File is.
type Kind int

// Kinds of files.
const (
	Dir Kind = iota
	Regular
	Link
)

// File is a file of an FS.
type File struct {
	Kind   Kind
	Size   int64  // of a regular file, in bytes
	Target string // of a symbolic link

	fs          *FS
	data, count uint64
}

// Root returns the root directory.
func (fs *FS) Root() (*File, error) {
	f, err := fs.file(1)
	if err == nil && f.Kind != Dir {
		err = bad("the root is no directory")
	}
	return f, err
}

// file reads the inode with a number; they count from 1.
func (fs *FS) file(number uint64) (*File, error) {
	if number == 0 || number > uint64(len(fs.inodes)/inodeSize) {
		return nil, bad("inode %d is not there", number)
	}
	b := fs.inodes[(number-1)*inodeSize:]
	le := binary.LittleEndian
	f := &File{fs: fs, data: le.Uint64(b[16:]), count: le.Uint64(b[24:])}
	switch le.Uint64(b) & typeMask {
	case typeDir:
		if n := uint64(len(fs.entries)); f.data > n || f.count > n-f.data {
			return nil, bad("inode %d: its entries are not there", number)
		}
	case typeFile:
		f.Kind, f.Size = Regular, int64(f.count)
		if blocks := uint64(fs.size / blockSize); f.count > uint64(fs.size) || f.data > blocks || (f.count+blockSize-1)/blockSize > blocks-f.data {
			return nil, bad("inode %d: its contents lie outside", number)
		}
	case typeLink:
		f.Kind = Link
		if f.data >= uint64(len(fs.links)) {
			return nil, bad("inode %d: its target is not there", number)
		}
		f.Target = fs.links[f.data]
	default:
		return nil, bad("inode %d: mode %#x", number, le.Uint64(b))
	}
	return f, nil
}

// ReadAt implements io.ReaderAt for the contents of a regular file.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(f.fs.in, int64(f.data)*blockSize, f.Size).ReadAt(p, off)
}

// Names calls visit for what is in a directory.
func (f *File) Names(visit func(name string, f *File) error) error {
	if f.Kind != Dir {
		return bad("no directory")
	}
	for _, e := range f.fs.entries[f.data:][:f.count] {
		child, err := f.fs.file(e.inode)
		if err != nil {
			return err
		}
		if err := visit(e.name, child); err != nil {
			return err
		}
	}
	return nil
}
