package erofs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// largeFile is the size from which on a file has no inline tail, so that a
// program is mapped from whole blocks, and may have holes.
const largeFile = 64 << 10

// maxChunks bounds the index of a file with holes.
const maxChunks = 4096

// regular writes the contents of a regular file.
func (w *writer) regular(n *inode) error {
	if n.Size < 0 {
		return fmt.Errorf("erofs: size %d", n.Size)
	}
	if n.Size == 0 || n.Open == nil {
		if n.Size != 0 {
			return errors.New("erofs: a size, but no contents")
		}
		w.id.Write([]byte{0})
		return nil
	}
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	in := &counter{in: io.TeeReader(f, sum), w: w}
	first := w.next
	switch {
	case w.options.Compress && n.Size >= BlockSize:
		err = w.compressed(n, in)
	case n.Size >= largeFile:
		err = w.chunks(n, in)
	default:
		err = w.small(n, in)
	}
	if err != nil {
		return err
	}
	if k, _ := in.Read(make([]byte, 1)); k != 0 {
		return ErrChanged
	}
	key := content{size: n.Size}
	sum.Sum(key.sum[:0])
	w.id.Write(key.sum[:])
	if same := w.files[key]; same != nil && w.next > first && (same.layout == n.layout || same.layout != layoutInline) {
		if same.layout != n.layout {
			n.tail = nil
		}
		n.layout, n.union, n.map_, n.mapAlign = same.layout, same.union, same.map_, same.mapAlign
		w.next = first // its blocks are there already
		return nil
	}
	w.files[key] = n
	return nil
}

// counter reports progress.
type counter struct {
	in io.Reader
	w  *writer
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.w.read += int64(n)
	if c.w.options.Progress != nil {
		c.w.options.Progress(c.w.read)
	}
	return n, err
}

// fill reads the next len(b) bytes of a file.
func fill(in io.Reader, b []byte) error {
	if _, err := io.ReadFull(in, b); err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrChanged
	} else if err != nil {
		return err
	}
	return nil
}

// small writes a file whose tail may lie behind the inode.
func (w *writer) small(n *inode, in io.Reader) error {
	b := make([]byte, n.Size)
	if err := fill(in, b); err != nil {
		return err
	}
	full := len(b) &^ (BlockSize - 1)
	if full > 0 {
		n.union = uint32(w.next)
		if err := w.append(b[:full]); err != nil {
			return err
		}
	}
	return w.end(n, b[full:])
}

// chunks writes a file chunk by chunk, and leaves out those that are zeros.
func (w *writer) chunks(n *inode, in io.Reader) error {
	bits := 0
	for n.Size>>(blockBits+bits) >= maxChunks {
		bits++
	}
	if bits > chunkBits {
		return errors.New("erofs: the file is too large")
	}
	n.union = uint32(w.next)
	var index []byte
	holes := false
	buf, zeros := make([]byte, BlockSize<<bits), make([]byte, BlockSize)
	for left := n.Size; left > 0; {
		b := buf[:min(left, int64(len(buf)))]
		if err := fill(in, b); err != nil {
			return err
		}
		left -= int64(len(b))
		if isZero(b, zeros) {
			holes = true
			index = binary.LittleEndian.AppendUint32(index, nullBlock)
			continue
		}
		index = binary.LittleEndian.AppendUint32(index, uint32(w.next))
		if err := w.append(b); err != nil {
			return err
		}
	}
	if holes {
		n.layout, n.union, n.map_, n.mapAlign = layoutChunk, uint32(bits), index, 4
		w.features |= incompatChunked
	}
	return nil
}

func isZero(b, zeros []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
