package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The qcow2 format, version 3 (QEMU, docs/interop/qcow2.txt). Numbers are big-endian.
const (
	qcowMagic       = 0x514649fb
	qcowHeader      = 104
	qcowClusterBits = 16
	qcowCluster     = 1 << qcowClusterBits
	qcowL2          = qcowCluster / 8 // entries of a second-level table
	qcowRefs        = qcowCluster / 2 // entries of a block of reference counts
	qcowCopied      = 1 << 63
	qcowCompressed  = 1 << 62
	qcowZero        = 1
	qcowOffset      = 0x00fffffffffffe00
)

// WriteQcow2 writes a disk of size bytes as qcow2. Clusters of zeros take no room.
func WriteQcow2(out io.WriterAt, in io.ReaderAt, size int64) error {
	be := binary.BigEndian
	w := &qcowWriter{out: out, next: 1}
	clusters := (size + qcowCluster - 1) / qcowCluster
	tables := max((clusters+qcowL2-1)/qcowL2, 1)
	l1 := make([]byte, (tables*8+qcowCluster-1)/qcowCluster*qcowCluster)
	buf := make([]byte, qcowCluster)
	for t := range tables {
		l2, used := make([]byte, qcowCluster), false
		for i := range min(qcowL2, clusters-t*qcowL2) {
			at := (t*qcowL2 + i) * qcowCluster
			b := buf[:min(qcowCluster, size-at)]
			clear(buf)
			if _, err := in.ReadAt(b, at); err != nil && err != io.EOF {
				return err
			}
			if isZero(b) {
				continue
			}
			be.PutUint64(l2[8*i:], uint64(w.next)*qcowCluster|qcowCopied)
			used = true
			if err := w.put(buf); err != nil {
				return err
			}
		}
		if !used {
			continue
		}
		be.PutUint64(l1[8*t:], uint64(w.next)*qcowCluster|qcowCopied)
		if err := w.put(l2); err != nil {
			return err
		}
	}
	l1At := w.next * qcowCluster
	if err := w.put(l1); err != nil {
		return err
	}
	refsAt, refs, err := w.counts()
	if err != nil {
		return err
	}
	h := make([]byte, qcowCluster)
	be.PutUint32(h, qcowMagic)
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], qcowClusterBits)
	be.PutUint64(h[24:], uint64(size))
	be.PutUint32(h[36:], uint32(tables))
	be.PutUint64(h[40:], uint64(l1At))
	be.PutUint64(h[48:], uint64(refsAt))
	be.PutUint32(h[56:], uint32(refs))
	be.PutUint32(h[96:], 4) // reference counts of 1 << 4 bits
	be.PutUint32(h[100:], qcowHeader)
	_, err = out.WriteAt(h, 0)
	return err
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

type qcowWriter struct {
	out  io.WriterAt
	next int64 // cluster
}

func (w *qcowWriter) put(b []byte) error {
	_, err := w.out.WriteAt(b, w.next*qcowCluster)
	w.next += int64(len(b)) / qcowCluster
	return err
}

// counts writes the reference counts, 1 for each cluster, their own included.
func (w *qcowWriter) counts() (at, clusters int64, err error) {
	blocks, table := int64(0), int64(0)
	for {
		total := w.next + blocks + table
		b := (total + qcowRefs - 1) / qcowRefs
		t := (b*8 + qcowCluster - 1) / qcowCluster
		if b == blocks && t == table {
			break
		}
		blocks, table = b, t
	}
	total := w.next + blocks + table
	list := make([]byte, table*qcowCluster)
	for i := range blocks {
		binary.BigEndian.PutUint64(list[8*i:], uint64(w.next)*qcowCluster)
		b := make([]byte, qcowCluster)
		for c := range min(qcowRefs, total-i*qcowRefs) {
			b[2*c+1] = 1
		}
		if err := w.put(b); err != nil {
			return 0, 0, err
		}
	}
	at = w.next * qcowCluster
	return at, table, w.put(list)
}

// Reader is a disk that can be read.
type Reader interface {
	io.ReaderAt
	Size() int64
}

// qcow is a qcow2 file that was opened.
type qcow struct {
	in   io.ReaderAt
	size int64
	bits uint
	l1   []uint64
}

// OpenDisk opens a disk image of either format. A qcow2 file must stand for
// itself: one that names another file, as a backing file or for its data, would
// have the monitor open what its maker chose, and is refused.
func OpenDisk(in io.ReaderAt, size int64) (r Reader, format string, err error) {
	h := make([]byte, qcowHeader)
	if _, err := in.ReadAt(h, 0); err == nil && binary.BigEndian.Uint32(h) == qcowMagic {
		r, err := openQcow2(in, size, h)
		return r, "qcow2", err
	}
	return io.NewSectionReader(in, 0, size), "raw", nil
}

func openQcow2(in io.ReaderAt, fileSize int64, h []byte) (Reader, error) {
	be := binary.BigEndian
	q := &qcow{in: in, size: int64(be.Uint64(h[24:])), bits: uint(be.Uint32(h[20:]))}
	version, entries, at := be.Uint32(h[4:]), int64(be.Uint32(h[36:])), be.Uint64(h[40:])
	switch {
	case version != 2 && version != 3:
		return nil, fmt.Errorf("qcow2: version %d", version)
	case be.Uint64(h[8:]) != 0:
		return nil, errors.New("qcow2: the image names a backing file, which is refused: flatten it with qemu-img convert")
	case be.Uint32(h[32:]) != 0:
		return nil, errors.New("qcow2: the image is encrypted")
	case version == 3 && be.Uint64(h[72:])&^1 != 0:
		return nil, fmt.Errorf("qcow2: features %#x are not known, or name another file", be.Uint64(h[72:]))
	case q.bits < 9 || q.bits > 21 || q.size < 0 || q.size > 1<<50:
		return nil, fmt.Errorf("qcow2: %d bytes in clusters of 1<<%d", q.size, q.bits)
	}
	if perTable := int64(1) << (2*q.bits - 3); entries*8 > fileSize || at > uint64(fileSize) || entries < (q.size+perTable-1)/perTable {
		return nil, errors.New("qcow2: the table of clusters lies outside the file")
	}
	b := make([]byte, entries*8)
	if _, err := in.ReadAt(b, int64(at)); err != nil {
		return nil, fmt.Errorf("qcow2: %w", err)
	}
	for ; len(b) > 0; b = b[8:] {
		q.l1 = append(q.l1, be.Uint64(b))
	}
	return q, nil
}

func (q *qcow) Size() int64 { return q.size }

// ReadAt implements io.ReaderAt.
func (q *qcow) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("qcow2: negative offset")
	}
	done := 0
	for done < len(p) && off < q.size {
		within := off & (1<<q.bits - 1)
		b := p[done:][:min(int64(len(p)-done), 1<<q.bits-within, q.size-off)]
		if err := q.cluster(b, off>>q.bits, within); err != nil {
			return done, err
		}
		done += len(b)
		off += int64(len(b))
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// cluster reads from inside one cluster.
func (q *qcow) cluster(b []byte, n, within int64) error {
	perTable := int64(1) << (q.bits - 3)
	table := q.l1[n/perTable] & qcowOffset
	if table == 0 {
		clear(b)
		return nil
	}
	var e [8]byte
	if _, err := q.in.ReadAt(e[:], int64(table)+8*(n%perTable)); err != nil {
		return fmt.Errorf("qcow2: %w", err)
	}
	entry := binary.BigEndian.Uint64(e[:])
	at := entry & qcowOffset
	switch {
	case entry&qcowCompressed != 0:
		return errors.New("qcow2: compressed clusters are not read: convert the image with qemu-img")
	case entry&qcowZero != 0 || at == 0:
		clear(b)
		return nil
	}
	if _, err := q.in.ReadAt(b, int64(at)+within); err != nil {
		return fmt.Errorf("qcow2: %w", err)
	}
	return nil
}
