package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"sync"
)

// ErrFormat is what is wrong with an image that is not as the format wants it,
// or that uses a part of the format which this package does not read.
var ErrFormat = errors.New("erofs")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// FS is a file system that was opened. It may be used by several goroutines.
type FS struct {
	in       io.ReaderAt
	size     int64
	meta     int64 // first byte of the inodes
	root     int64
	time     int64
	features uint32

	mu sync.Mutex
	// +checklocks:mu
	lastBlock uint32
	// +checklocks:mu
	lastData []byte // what lastBlock holds, decompressed

	Label  string
	UUID   [16]byte
	Inodes uint64 // as the superblock says
	Blocks uint32
}

// Open reads the superblock of a file system that takes up to size bytes of in.
func Open(in io.ReaderAt, size int64) (*FS, error) {
	block := make([]byte, BlockSize)
	if size < BlockSize {
		return nil, bad("%d bytes hold no file system", size)
	}
	if _, err := in.ReadAt(block, 0); err != nil {
		return nil, err
	}
	le, b := binary.LittleEndian, block[superOffset:]
	if le.Uint32(b) != superMagic {
		return nil, bad("no superblock")
	}
	if b[12] != blockBits {
		return nil, bad("blocks of 1<<%d bytes", b[12])
	}
	fs := &FS{in: in, features: le.Uint32(b[80:]), root: int64(le.Uint16(b[14:])), time: int64(le.Uint64(b[24:])),
		meta: int64(le.Uint32(b[40:])) * BlockSize, Inodes: le.Uint64(b[16:]), Blocks: le.Uint32(b[36:]),
		Label: strings.TrimRight(string(b[64:80]), "\x00"), UUID: [16]byte(b[48:64])}
	if le.Uint32(b[8:])&compatChecksum != 0 {
		want := le.Uint32(b[4:])
		le.PutUint32(b[4:], 0)
		if ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != want {
			return nil, bad("the superblock's checksum is wrong")
		}
	}
	if unknown := fs.features &^ incompatKnown; unknown != 0 {
		return nil, bad("features %#x are not known", unknown)
	}
	if fs.size = int64(fs.Blocks) * BlockSize; fs.size > size {
		return nil, bad("truncated: %d of %d bytes", size, fs.size)
	}
	return fs, nil
}

// Size returns how many bytes the file system has.
func (fs *FS) Size() int64 { return fs.size }

// readAt fills b, which must lie in the file system.
func (fs *FS) readAt(b []byte, off int64) error {
	if off < 0 || off > fs.size || int64(len(b)) > fs.size-off {
		return bad("%d bytes at %#x lie outside", len(b), off)
	}
	_, err := fs.in.ReadAt(b, off)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// File is a file of an FS.
type File struct {
	Inode
	Number uint32
	Links  uint32

	fs     *FS
	nid    int64
	layout uint16
	union  uint32
	end    int64 // first byte behind inode and extended attributes
}

// Root returns the root directory.
func (fs *FS) Root() (*File, error) {
	f, err := fs.file(fs.root)
	if err == nil && f.kind() != ModeDir {
		err = bad("the root is no directory")
	}
	return f, err
}

// file reads the inode with number nid.
func (fs *FS) file(nid int64) (*File, error) {
	if nid < 0 || nid > (fs.size-fs.meta)/slotSize {
		return nil, bad("inode %d lies outside", nid)
	}
	le, pos := binary.LittleEndian, fs.meta+nid*slotSize
	b := make([]byte, extendedInode)
	if err := fs.readAt(b[:compactInode], pos); err != nil {
		return nil, err
	}
	format := le.Uint16(b)
	f := &File{fs: fs, nid: nid, layout: format >> 1 & 7, union: le.Uint32(b[16:]), Number: le.Uint32(b[20:]), end: pos + compactInode}
	f.Mode = uint32(le.Uint16(b[4:]))
	if format&1 == 0 {
		f.Links, f.Size, f.MTime = uint32(le.Uint16(b[6:])), int64(le.Uint32(b[8:])), fs.time
		f.UID, f.GID = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
	} else {
		if err := fs.readAt(b[compactInode:], pos+compactInode); err != nil {
			return nil, err
		}
		f.Size, f.UID, f.GID = int64(le.Uint64(b[8:])), le.Uint32(b[24:]), le.Uint32(b[28:])
		f.MTime, f.Nanosec, f.Links = int64(le.Uint64(b[32:])), le.Uint32(b[40:]), le.Uint32(b[44:])
		f.end += compactInode
	}
	switch {
	case format&^0xf != 0 || direntType(f.Mode) == 0:
		return nil, bad("inode %d: format %#x, mode %#o", nid, format, f.Mode)
	case f.Size < 0 || f.Nanosec >= 1e9:
		return nil, bad("inode %d: size %d, %d ns", nid, f.Size, f.Nanosec)
	}
	if count := int64(le.Uint16(b[2:])); count > 0 {
		if err := f.readXattrs(12 + 4*(count-1)); err != nil {
			return nil, err
		}
	}
	return f, f.special()
}

// special reads what is not the contents of a regular file or a directory.
func (f *File) special() error {
	switch f.kind() {
	case ModeChar, ModeBlk:
		f.Major, f.Minor = decodeDevice(f.union)
	case ModeLink:
		if f.Size == 0 || f.Size > maxTarget {
			return bad("inode %d: a link of %d bytes", f.nid, f.Size)
		}
		b := make([]byte, f.Size)
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
		f.Target = string(b)
	case ModeDir:
		if f.Size > math.MaxInt32 {
			return bad("inode %d: a directory of %d bytes", f.nid, f.Size)
		}
	}
	return nil
}

// readXattrs reads the extended attributes that lie behind the inode.
func (f *File) readXattrs(size int64) error {
	b := make([]byte, size)
	if err := f.fs.readAt(b, f.end); err != nil {
		return err
	}
	f.end += size
	if b[4] != 0 {
		return bad("inode %d: shared extended attributes are not read", f.nid)
	}
	f.Xattrs = map[string]string{}
	for b = b[12:]; len(b) >= 4; {
		nameLen, index, valueLen := int(b[0]), b[1], int(binary.LittleEndian.Uint16(b[2:]))
		total := (4 + nameLen + valueLen + 3) &^ 3
		if total > len(b) {
			return bad("inode %d: an extended attribute lies outside", f.nid)
		}
		prefix := ""
		for _, p := range prefixes {
			if p.index == index {
				prefix = p.prefix
			}
		}
		if prefix == "" {
			return bad("inode %d: extended attribute of kind %d", f.nid, index)
		}
		f.Xattrs[prefix+string(b[4:4+nameLen])] = string(b[4+nameLen : 4+nameLen+valueLen])
		b = b[total:]
	}
	return nil
}

// Same says whether two files are one with two names.
func (f *File) Same(o *File) bool { return f.fs == o.fs && f.nid == o.nid }

// ReadAt implements io.ReaderAt for the contents of a file.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, bad("offset %d", off)
	}
	done := 0
	for done < len(p) && off < f.Size {
		n, err := f.readPart(p[done:min(int64(len(p)), int64(done)+f.Size-off)], off)
		done += n
		off += int64(n)
		if err != nil {
			return done, err
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// readPart reads the first bytes of p, one at least.
func (f *File) readPart(p []byte, off int64) (int, error) {
	switch f.layout {
	case layoutPlain:
		return len(p), f.fs.readAt(p, int64(f.union)*BlockSize+off)
	case layoutInline:
		full := f.Size &^ (BlockSize - 1)
		if off < full {
			p = p[:min(int64(len(p)), full-off)]
			return len(p), f.fs.readAt(p, int64(f.union)*BlockSize+off)
		}
		return len(p), f.fs.readAt(p, f.end+off-full)
	case layoutChunk:
		return f.readChunk(p, off)
	case layoutCompressed:
		return f.readCompressed(p, off)
	}
	return 0, bad("inode %d: layout %d is not read", f.nid, f.layout)
}

// readChunk reads from one chunk of a file.
func (f *File) readChunk(p []byte, off int64) (int, error) {
	bits := blockBits + f.union&chunkBits
	if bits > 40 {
		return 0, bad("inode %d: chunks of 1<<%d bytes", f.nid, bits)
	}
	unit, skip := int64(4), 0
	if f.union&chunkIndexes != 0 {
		unit, skip = 8, 4
	}
	entry := make([]byte, unit)
	if err := f.fs.readAt(entry, align(f.end, unit)+off>>bits*unit); err != nil {
		return 0, err
	}
	within := off & (1<<bits - 1)
	p = p[:min(int64(len(p)), 1<<bits-within)]
	block := binary.LittleEndian.Uint32(entry[skip:])
	if block == nullBlock {
		clear(p)
		return len(p), nil
	}
	return len(p), f.fs.readAt(p, int64(block)*BlockSize+within)
}

// An Entry is a name in a directory.
type Entry struct {
	Name string
	File *File
}

// ReadDir returns what is in a directory, in the order of the names.
func (f *File) ReadDir() ([]Entry, error) {
	if f.kind() != ModeDir {
		return nil, bad("inode %d is no directory", f.nid)
	}
	var list []Entry
	page := make([]byte, BlockSize)
	for off := int64(0); off < f.Size; off += BlockSize {
		b := page[:min(BlockSize, f.Size-off)]
		if _, err := f.ReadAt(b, off); err != nil {
			return nil, err
		}
		var err error
		if list, err = f.readPage(list, b); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (f *File) readPage(list []Entry, b []byte) ([]Entry, error) {
	le := binary.LittleEndian
	if len(b) < direntSize {
		return nil, bad("inode %d: a directory block of %d bytes", f.nid, len(b))
	}
	first := int(le.Uint16(b[8:]))
	if first == 0 || first%direntSize != 0 || first > len(b) {
		return nil, bad("inode %d: names begin at %d", f.nid, first)
	}
	for i := 0; i < first; i += direntSize {
		from, to := int(le.Uint16(b[i+8:])), len(b)
		if i+direntSize < first {
			to = int(le.Uint16(b[i+direntSize+8:]))
		}
		if from < first || to < from || to > len(b) {
			return nil, bad("inode %d: a name from %d to %d", f.nid, from, to)
		}
		name, _, _ := strings.Cut(string(b[from:to]), "\x00")
		if name == "." || name == ".." {
			continue
		}
		if name == "" || len(name) > maxName || strings.Contains(name, "/") || len(list) > 0 && name <= list[len(list)-1].Name {
			return nil, bad("inode %d: name %.300q", f.nid, name)
		}
		child, err := f.fs.file(int64(min(le.Uint64(b[i:]), math.MaxInt64)))
		if err != nil {
			return nil, err
		}
		if direntType(child.Mode) != b[i+10] {
			return nil, bad("%s: its inode has another type", name)
		}
		list = append(list, Entry{name, child})
	}
	return list, nil
}
