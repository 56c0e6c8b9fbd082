package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// Compressed files are extents that begin anywhere and fill one block each when
// compressed. The index has an entry for each block of the contents ("logical
// cluster"), which says what begins in it (fs/erofs/erofs_fs.h, struct
// z_erofs_lcluster_index).
const (
	clusterPlain = 0 // an extent that is not compressed
	clusterHead  = 1
	clusterInner = 2 // nothing begins here

	indexHeader = 16       // before the entries, of which nothing is used
	maxExtent   = 64 << 10 // contents in one block, so that reading a page stays cheap
)

// errNoGain says that a file is no smaller when it is compressed.
var errNoGain = errors.New("erofs: no gain")

// compressed writes a file as LZ4 extents, or plainly where that saves nothing.
func (w *writer) compressed(n *inode, in io.Reader) error {
	first := w.next
	err := w.extents(n, in)
	if err != errNoGain {
		return err
	}
	w.next, n.union, n.map_ = first, 0, nil
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	if n.Size >= largeFile {
		err = w.chunks(n, f)
	} else {
		err = w.small(n, f)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in) // the rest belongs to the checksum
	return err
}

// extents compresses a file.
func (w *writer) extents(n *inode, in io.Reader) error {
	first, clusters := w.next, blocks(n.Size)
	x := &extentIndex{entries: make([]byte, indexHeader+8*clusters)}
	window := make([]byte, 0, maxExtent)
	block := make([]byte, BlockSize)
	at := int64(0) // where the window begins in the file
	for left := n.Size; left > 0 || len(window) > 0; {
		have := len(window)
		window = window[:have+int(min(left, int64(cap(window)-have)))]
		if err := fill(in, window[have:]); err != nil {
			return err
		}
		left -= int64(len(window) - have)
		taken, kind := min(len(window), BlockSize), uint16(clusterPlain)
		clear(block)
		if t, made := w.lz4.encode(block, window); t > taken || t == len(window) && made < t {
			taken, kind = t, clusterHead
			copy(block[BlockSize-made:], block[:made]) // it ends with the block
			clear(block[:BlockSize-made])
		} else {
			clear(block)
			copy(block, window[:taken])
		}
		x.begin(at, kind, uint32(w.next))
		if err := w.append(block); err != nil {
			return err
		}
		at += int64(taken)
		window = window[:copy(window, window[taken:])]
		if used := w.next - first; used >= blocks(at) && at >= 4<<20 || used >= clusters {
			return errNoGain
		}
	}
	x.end()
	n.layout, n.union, n.map_, n.mapAlign = layoutCompressed, uint32(w.next-first), x.entries, 8
	w.features |= incompatLZ4
	return nil
}

// extentIndex is the index of a compressed file in the making.
type extentIndex struct {
	entries []byte
	last    int64 // the cluster in which the last extent began
}

// begin notes an extent that begins at a byte of the file.
func (x *extentIndex) begin(at int64, kind uint16, block uint32) {
	cluster := at / BlockSize
	if cluster > 0 {
		x.inner(cluster)
	}
	e := x.entries[indexHeader+8*cluster:]
	binary.LittleEndian.PutUint16(e, kind)
	binary.LittleEndian.PutUint16(e[2:], uint16(at%BlockSize))
	binary.LittleEndian.PutUint32(e[4:], block)
	x.last = cluster
}

// inner notes the clusters between the last extent's beginning and next.
func (x *extentIndex) inner(next int64) {
	for c := x.last + 1; c < next; c++ {
		e := x.entries[indexHeader+8*c:]
		binary.LittleEndian.PutUint16(e, clusterInner)
		binary.LittleEndian.PutUint16(e[4:], uint16(c-x.last))
		binary.LittleEndian.PutUint16(e[6:], uint16(next-c))
	}
}

func (x *extentIndex) end() { x.inner(int64(len(x.entries)-indexHeader) / 8) }

// indexEntry is an entry of a compressed file's index.
type indexEntry struct {
	kind  uint16
	start int64 // byte of the file, of what begins
	block uint32
	back  int64 // clusters to the one where this one's extent begins
}

func (f *File) indexEntry(cluster int64) (indexEntry, error) {
	var b [8]byte
	if err := f.fs.readAt(b[:], align(f.end, 8)+indexHeader+8*cluster); err != nil {
		return indexEntry{}, err
	}
	le := binary.LittleEndian
	e := indexEntry{kind: le.Uint16(b[:]), start: cluster*BlockSize + int64(le.Uint16(b[2:])), block: le.Uint32(b[4:]), back: int64(le.Uint16(b[4:]))}
	switch {
	case e.kind > clusterInner, e.kind != clusterInner && le.Uint16(b[2:]) >= BlockSize:
		return e, bad("inode %d: index entry %d", f.nid, cluster)
	case e.kind == clusterInner && (e.back == 0 || e.back > cluster):
		return e, bad("inode %d: index entry %d leads %d back", f.nid, cluster, e.back)
	}
	return e, nil
}

// extent finds the extent that holds a byte of the file, and where it ends.
func (f *File) extent(off int64) (e indexEntry, end int64, err error) {
	cluster := off / BlockSize
	for {
		if e, err = f.indexEntry(cluster); err != nil {
			return e, 0, err
		}
		if e.kind == clusterInner {
			cluster -= e.back
			continue
		}
		if e.start <= off {
			break
		}
		if cluster == 0 {
			return e, 0, bad("inode %d: byte %d is in no extent", f.nid, off)
		}
		cluster--
	}
	for next := cluster + 1; ; next++ {
		if next*BlockSize >= f.Size {
			end = f.Size
			break
		}
		n, err := f.indexEntry(next)
		if err != nil {
			return e, 0, err
		}
		if n.kind != clusterInner {
			end = n.start
			break
		}
		if next-cluster > maxExtent/BlockSize+1 {
			return e, 0, bad("inode %d: an extent has more than %d bytes", f.nid, maxExtent)
		}
	}
	if end <= off || end-e.start > maxExtent {
		return e, 0, bad("inode %d: an extent from %d to %d", f.nid, e.start, end)
	}
	return e, end, nil
}

// readCompressed reads from inside one extent of a file.
func (f *File) readCompressed(p []byte, off int64) (int, error) {
	e, end, err := f.extent(off)
	if err != nil {
		return 0, err
	}
	if e.kind == clusterPlain {
		if end-e.start > BlockSize {
			return 0, bad("inode %d: %d bytes in one block", f.nid, end-e.start)
		}
		p = p[:min(int64(len(p)), end-off)]
		return len(p), f.fs.readAt(p, int64(e.block)*BlockSize+off-e.start)
	}
	data, err := f.fs.decoded(e.block, end-e.start)
	if err != nil {
		return 0, err
	}
	return copy(p, data[off-e.start:]), nil
}

// decoded returns the contents of a compressed block. The last one is kept, since
// files are read in parts.
func (fs *FS) decoded(block uint32, size int64) ([]byte, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.lastBlock == block && int64(len(fs.lastData)) == size {
		return fs.lastData, nil
	}
	var b [BlockSize]byte
	if err := fs.readAt(b[:], int64(block)*BlockSize); err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if !lz4Decode(data, bytes.TrimLeft(b[:], "\x00")) {
		return nil, bad("block %d is no LZ4 of %d bytes", block, size)
	}
	fs.lastBlock, fs.lastData = block, data
	return data, nil
}
