package erofs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// Options say how a file system is written.
type Options struct {
	Label    string // volume name, at most 16 bytes
	Time     int64  // build time, in seconds since the epoch; files of that time have the small inodes
	Compress bool   // with LZ4, where that saves blocks
	// Progress is called with the bytes of contents that have been read so far.
	Progress func(done int64)
}

// ErrChanged says that a file had not the size that its inode says.
var ErrChanged = errors.New("the file changed its size while it was packed")

// Write writes the tree below root to out, from offset 0 on, and returns how
// many bytes the file system has, a multiple of BlockSize. Blocks that hold
// nothing are not written: out must be empty, or zeros.
func Write(out io.WriterAt, root *Inode, o Options) (int64, error) {
	if root == nil || root.kind() != ModeDir {
		return 0, errors.New("erofs: the root is no directory")
	}
	if len(o.Label) > 16 {
		return 0, fmt.Errorf("erofs: label %q is longer than 16 bytes", o.Label)
	}
	w := &writer{out: out, options: o, next: 1, index: map[*Inode]*inode{}, files: map[content]*inode{}, id: sha256.New()}
	if err := w.collect(root, nil, "/"); err != nil {
		return 0, err
	}
	for _, n := range w.inodes {
		if err := w.contents(n); err != nil {
			return 0, fmt.Errorf("%s: %w", n.name, err)
		}
	}
	if err := w.place(); err != nil {
		return 0, err
	}
	if err := w.directories(); err != nil {
		return 0, err
	}
	if err := w.metadata(); err != nil {
		return 0, err
	}
	return w.next * BlockSize, w.super()
}

// writer is the state of Write.
type writer struct {
	out     io.WriterAt
	options Options
	next    int64 // the first block that is free

	inodes []*inode // in the order of their numbers, the root first
	index  map[*Inode]*inode
	files  map[content]*inode // regular files, by contents
	id     hash.Hash          // of everything that is in the file system
	read   int64

	meta     int64 // first block of the inodes
	metaSize int64
	features uint32
	lz4      lz4Encoder
}

// content identifies the contents of a file.
type content struct {
	sum  [sha256.Size]byte
	size int64
}

// inode is a file with its place.
type inode struct {
	*Inode
	name   string // one of its paths, for messages
	parent *inode // of a directory
	links  uint32
	number uint32 // i_ino

	layout   uint16
	union    uint32 // i_u: block address, device, chunk format or count of compressed blocks
	tail     []byte // inline data
	map_     []byte // index of chunks or of compressed clusters
	mapAlign int64
	xattrs   []byte
	nid      int64
	pages    [][]string // names of a directory, by block
	size     int64
}

// collect numbers the inodes of a tree, names in sorted order.
func (w *writer) collect(i *Inode, parent *inode, name string) error {
	if have := w.index[i]; have != nil {
		if i.kind() == ModeDir {
			return fmt.Errorf("erofs: %s: directory %s has a second name", name, have.name)
		}
		have.links++
		return nil
	}
	if direntType(i.Mode) == 0 {
		return fmt.Errorf("erofs: %s: mode %o has no file type", name, i.Mode)
	}
	n := &inode{Inode: i, name: name, parent: parent, links: 1, number: uint32(len(w.inodes) + 1)}
	w.index[i] = n
	w.inodes = append(w.inodes, n)
	var err error
	if n.xattrs, err = encodeXattrs(i.Xattrs); err != nil {
		return fmt.Errorf("erofs: %s: %w", name, err)
	}
	if i.kind() != ModeDir {
		return nil
	}
	if parent == nil {
		n.parent = n
	}
	n.links = 2
	for _, entry := range slices.Sorted(maps.Keys(i.Entries)) {
		child := i.Entries[entry]
		if entry == "" || entry == "." || entry == ".." || len(entry) > maxName || strings.ContainsAny(entry, "/\x00") {
			return fmt.Errorf("erofs: %s: %.300q is no name for a file", name, entry)
		}
		if child.kind() == ModeDir {
			n.links++
		}
		if err := w.collect(child, n, strings.TrimSuffix(name, "/")+"/"+entry); err != nil {
			return err
		}
	}
	return nil
}

// encodeXattrs returns what follows an inode for its extended attributes.
func encodeXattrs(attrs map[string]string) ([]byte, error) {
	if len(attrs) == 0 {
		return nil, nil
	}
	b := make([]byte, 12) // erofs_xattr_ibody_header: nothing is shared
	for _, full := range slices.Sorted(maps.Keys(attrs)) {
		index, name, ok := splitXattr(full)
		value := attrs[full]
		if !ok || len(name) > 255 || len(value) > math.MaxUint16 {
			return nil, fmt.Errorf("extended attribute %.300q cannot be kept", full)
		}
		b = append(b, byte(len(name)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(append(b, name...), value...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	if (len(b)-12)/4+1 > math.MaxUint16 {
		return nil, errors.New("too many extended attributes")
	}
	return b, nil
}

func splitXattr(full string) (index byte, name string, ok bool) {
	for _, p := range prefixes {
		rest, found := strings.CutPrefix(full, p.prefix)
		if found && p.whole == (rest == "") {
			return p.index, rest, true
		}
	}
	return 0, "", false
}

// contents writes the blocks of a file and chooses its layout.
func (w *writer) contents(n *inode) error {
	switch n.kind() {
	case ModeReg:
		n.size = n.Size
		return w.regular(n)
	case ModeLink:
		if n.Target == "" || len(n.Target) > maxTarget {
			return fmt.Errorf("erofs: a symbolic link's target has 1 to %d bytes, not %d", maxTarget, len(n.Target))
		}
		n.size = int64(len(n.Target))
		return w.end(n, []byte(n.Target))
	case ModeDir:
		n.pages, n.size = directoryPages(n.Entries)
	case ModeChar, ModeBlk:
		n.union = encodeDevice(n.Major, n.Minor)
	}
	return nil
}

// head is the size of an inode and its extended attributes.
func (w *writer) head(n *inode) int64 {
	return w.inodeSize(n) + int64(len(n.xattrs))
}

// inodeSize says which of the two forms an inode has.
func (w *writer) inodeSize(n *inode) int64 {
	if n.MTime == w.options.Time && n.Nanosec == 0 && n.UID <= math.MaxUint16 && n.GID <= math.MaxUint16 && n.links <= math.MaxUint16 && n.size <= math.MaxUint32 {
		return compactInode
	}
	return extendedInode
}

// end keeps the last, partial block of a file behind its inode where that fits,
// and writes it otherwise.
func (w *writer) end(n *inode, tail []byte) error {
	if len(tail) == 0 {
		return nil
	}
	// The form of the inode may still grow with its links: reckon with the larger.
	if extendedInode+int64(len(n.xattrs)+len(tail)) <= BlockSize {
		n.layout, n.tail = layoutInline, slices.Clone(tail)
		return nil
	}
	if n.size < BlockSize {
		n.union = uint32(w.next)
	}
	return w.append(tail)
}

// append writes b to the next blocks.
func (w *writer) append(b []byte) error {
	if w.next+blocks(int64(len(b))) >= nullBlock {
		return errors.New("erofs: more than 16 TiB")
	}
	if _, err := w.out.WriteAt(b, w.next*BlockSize); err != nil {
		return err
	}
	w.next += blocks(int64(len(b)))
	if rest := len(b) % BlockSize; rest != 0 { // blocks that were given back may be in the way
		_, err := w.out.WriteAt(make([]byte, BlockSize-rest), w.next*BlockSize-int64(BlockSize-rest))
		return err
	}
	return nil
}

// place gives every inode its number, and directories their blocks.
func (w *writer) place() error {
	pos := int64(2 * slotSize) // 0 would be no inode number for readdir(3)
	for _, n := range w.inodes {
		if n.kind() == ModeDir {
			if full := n.size &^ (BlockSize - 1); full != n.size && w.head(n)+n.size-full <= BlockSize {
				n.layout, n.tail = layoutInline, make([]byte, n.size-full)
			}
			n.union = uint32(w.next)
			w.next += blocks(n.size - int64(len(n.tail)))
		}
		pos = align(pos, slotSize)
		together := w.head(n) + int64(len(n.tail))
		if n.map_ != nil {
			together = min(together, BlockSize)
		}
		if pos%BlockSize+together > BlockSize {
			pos = align(pos, BlockSize)
		}
		n.nid = pos / slotSize
		pos += w.head(n) + int64(len(n.tail))
		if n.map_ != nil {
			pos = align(pos, n.mapAlign) + int64(len(n.map_))
		}
	}
	w.meta, w.metaSize = w.next, pos
	w.next += blocks(pos)
	if w.next >= nullBlock {
		return errors.New("erofs: more than 16 TiB")
	}
	return nil
}

// metadata writes the inodes.
func (w *writer) metadata() error {
	b := make([]byte, blocks(w.metaSize)*BlockSize)
	for _, n := range w.inodes {
		pos := n.nid * slotSize
		w.encode(b[pos:], n)
		pos += w.inodeSize(n)
		pos += int64(copy(b[pos:], n.xattrs))
		pos += int64(copy(b[pos:], n.tail))
		if n.map_ != nil {
			copy(b[align(pos, n.mapAlign):], n.map_)
		}
	}
	w.id.Write(b)
	_, err := w.out.WriteAt(b, w.meta*BlockSize)
	return err
}

// encode writes struct erofs_inode_compact or erofs_inode_extended.
func (w *writer) encode(b []byte, n *inode) {
	le := binary.LittleEndian
	icount := 0
	if len(n.xattrs) > 0 {
		icount = (len(n.xattrs)-12)/4 + 1
	}
	format := n.layout << 1
	le.PutUint16(b[2:], uint16(icount))
	le.PutUint16(b[4:], uint16(n.Mode))
	le.PutUint32(b[16:], n.union)
	le.PutUint32(b[20:], n.number)
	if w.inodeSize(n) == compactInode {
		le.PutUint16(b, format)
		le.PutUint16(b[6:], uint16(n.links))
		le.PutUint32(b[8:], uint32(n.size))
		le.PutUint16(b[24:], uint16(n.UID))
		le.PutUint16(b[26:], uint16(n.GID))
		return
	}
	le.PutUint16(b, format|1)
	le.PutUint64(b[8:], uint64(n.size))
	le.PutUint32(b[24:], n.UID)
	le.PutUint32(b[28:], n.GID)
	le.PutUint64(b[32:], uint64(n.MTime))
	le.PutUint32(b[40:], n.Nanosec)
	le.PutUint32(b[44:], n.links)
}

// super writes the superblock.
func (w *writer) super() error {
	le := binary.LittleEndian
	block := make([]byte, BlockSize)
	b := block[superOffset:]
	le.PutUint32(b, superMagic)
	le.PutUint32(b[8:], compatChecksum)
	b[12] = blockBits
	le.PutUint16(b[14:], uint16(w.inodes[0].nid))
	le.PutUint64(b[16:], uint64(len(w.inodes)))
	le.PutUint64(b[24:], uint64(w.options.Time))
	le.PutUint32(b[36:], uint32(w.next))
	le.PutUint32(b[40:], uint32(w.meta))
	copy(b[64:80], w.options.Label)
	le.PutUint32(b[80:], w.features)
	if w.features&incompatLZ4 != 0 {
		le.PutUint16(b[84:], math.MaxUint16) // the largest distance LZ4 has
	}
	w.id.Write(b)
	uuid := w.id.Sum(nil)[:16]
	uuid[6] = uuid[6]&0x0f | 0x80 // RFC 9562: version 8, of our own making
	uuid[8] = uuid[8]&0x3f | 0x80
	copy(b[48:], uuid)
	le.PutUint32(b[4:], ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	_, err := w.out.WriteAt(block, 0)
	return err
}
