package erofs

import (
	"bytes"
	"encoding/binary"
	"sort"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// A directory is blocks of entries: records of 12 bytes, then their names, which are sorted over the whole
// directory.

const (
	direntSize = 12
	offsetBase = 3 // added to an entry's place to make its offset for getdents(2)
)

// dirBlock is one block of a directory, checked.
type dirBlock struct {
	b     []byte
	count int
}

// dirBlock reads block i of the directory n: EUCLEAN, EIO.
func (n *node) dirBlock(i int64) (d dirBlock, err error) {
	size := n.fs.blockSize()
	d.b = make([]byte, min(size, n.size-i*size))
	if err := n.read(d.b, i*size); err != nil {
		return d, err
	}
	if len(d.b) < direntSize {
		return d, unix.EUCLEAN
	}
	names := int(binary.LittleEndian.Uint16(d.b[8:]))
	if names < direntSize || names%direntSize != 0 || names > len(d.b) {
		return d, unix.EUCLEAN
	}
	d.count = names / direntSize
	for k, at := 0, names; k < d.count; k++ {
		from, to := d.bounds(k)
		if from != at || to <= from || to > len(d.b) {
			return d, unix.EUCLEAN
		}
		at = to
	}
	return d, nil
}

func (d *dirBlock) bounds(k int) (from, to int) {
	from, to = int(binary.LittleEndian.Uint16(d.b[k*direntSize+8:])), len(d.b)
	if k+1 < d.count {
		to = int(binary.LittleEndian.Uint16(d.b[(k+1)*direntSize+8:]))
	}
	return from, to
}

// name returns the name of entry k; that of the last one may have NULs behind it.
func (d *dirBlock) name(k int) []byte {
	from, to := d.bounds(k)
	name := d.b[from:to]
	if end := bytes.IndexByte(name, 0); end >= 0 {
		name = name[:end]
	}
	return name
}

func (d *dirBlock) nid(k int) uint64 { return binary.LittleEndian.Uint64(d.b[k*direntSize:]) }

// types are the file types of entries as mode bits.
var types = [...]uint32{1: unix.S_IFREG, 2: unix.S_IFDIR, 3: unix.S_IFCHR, 4: unix.S_IFBLK, 5: unix.S_IFIFO, 6: unix.S_IFSOCK, 7: unix.S_IFLNK}

func (d *dirBlock) mode(k int) uint32 {
	if t := int(d.b[k*direntSize+10]); t < len(types) {
		return types[t]
	}
	return 0
}

func (n *node) dirBlocks() int64 { return (n.size + n.fs.blockSize() - 1) >> n.fs.blockBits }

// find returns the nid that name has in the directory n: ENOENT, EUCLEAN, EIO.
func (n *node) find(name string) (uint64, error) {
	var failure error
	var d dirBlock
	// The last block whose first name is not behind name.
	block := sort.Search(int(n.dirBlocks()), func(i int) bool {
		if failure != nil {
			return true
		}
		d, failure = n.dirBlock(int64(i))
		return failure != nil || string(d.name(0)) > name
	}) - 1
	if failure != nil {
		return 0, failure
	}
	if block < 0 {
		return 0, unix.ENOENT
	}
	d, err := n.dirBlock(int64(block))
	if err != nil {
		return 0, err
	}
	k := sort.Search(d.count, func(k int) bool { return string(d.name(k)) >= name })
	if k == d.count || string(d.name(k)) != name {
		return 0, unix.ENOENT
	}
	return d.nid(k), nil
}

// sound reports whether a name can be one.
func sound(name []byte) bool {
	return len(name) > 0 && len(name) <= vfs.NameMax && bytes.IndexByte(name, '/') < 0
}

// list calls emit for the entries of the directory n behind off.
func (n *node) list(off int64, emit func(vfs.Dirent) bool) error {
	for i := max(off-offsetBase, 0) >> n.fs.blockBits; i < n.dirBlocks(); i++ {
		d, err := n.dirBlock(i)
		if err != nil {
			return err
		}
		for k := range d.count {
			next := i<<n.fs.blockBits + int64(k)*direntSize + offsetBase
			name := d.name(k)
			if next <= off || string(name) == "." || string(name) == ".." {
				continue
			}
			if !sound(name) {
				return unix.EUCLEAN
			}
			if !emit(vfs.Dirent{Name: string(name), Ino: d.nid(k), Mode: d.mode(k), Next: next}) {
				return nil
			}
		}
	}
	return nil
}
