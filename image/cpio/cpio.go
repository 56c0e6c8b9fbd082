// Package cpio writes archives in the "newc" format that Linux takes as an
// initramfs (Documentation/driver-api/early-userspace/buffer-format.rst; magic
// 070701).
//
// The contents of files of a page or more begin at a multiple of PageSize, so
// that a kernel can map them where they lie. The room is made inside the
// format: the name is followed by more NUL bytes than the one that must be
// there, and every reader stops at the first.
package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// PageSize is the alignment of the contents of files of at least that size.
const PageSize = 4096

// maxName is the largest name size, NULs included, that Linux accepts
// (PATH_MAX).
const maxName = 4096

const (
	headerSize = 110
	trailer    = "TRAILER!!!"
)

// Header describes one file.
type Header struct {
	Name   string // relative to the root, without a leading slash; "." is the root itself
	Mode   uint32 // st_mode: type and permission bits, see inode(7)
	UID    uint32
	GID    uint32
	MTime  int64 // seconds since the epoch; clamped to what 32 bits hold
	Size   int64 // of the contents, in bytes; the target's length for a symbolic link
	RMajor uint32
	RMinor uint32
}

// Writer writes an archive. Equal calls give equal bytes.
type Writer struct {
	w      io.Writer
	offset int64
	inode  uint32
	root   *Header // the last entry for ".", which filler repeats
}

// NewWriter returns a Writer that appends to w; w is at offset 0.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write adds one file whose contents are h.Size bytes from body; body may be nil
// when there are none. It returns io.ErrUnexpectedEOF when body is shorter.
func (w *Writer) Write(h Header, body io.Reader) error {
	switch {
	case h.Name == "" || h.Name[0] == '/' || h.Name == trailer || bytes.IndexByte([]byte(h.Name), 0) >= 0:
		return fmt.Errorf("cpio: %q cannot be a name in an archive", h.Name)
	case len(h.Name) >= maxName:
		return fmt.Errorf("cpio: name of %d bytes is too long: %.40q…", len(h.Name), h.Name)
	case h.Size < 0 || h.Size > math.MaxUint32:
		return fmt.Errorf("cpio: %s: %d bytes do not fit: the format holds 4 GiB less one byte in a file", h.Name, h.Size)
	}
	if h.Name == "." {
		root := h
		w.root = &root
	}
	nameSize, err := w.alignContents(&h)
	if err != nil {
		return err
	}
	if err := w.header(&h, nameSize); err != nil {
		return err
	}
	if h.Size == 0 {
		return nil
	}
	n, err := io.CopyN(w.w, body, h.Size)
	w.offset += n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("cpio: %s: %w", h.Name, err)
	}
	return w.pad(4)
}

// Close ends the archive. It does not close the underlying writer.
func (w *Writer) Close() error {
	if err := w.header(&Header{Name: trailer}, len(trailer)+1); err != nil {
		return err
	}
	return w.pad(512)
}

// alignContents returns the name size that puts h's contents at a page
// boundary. Where that would be larger than Linux accepts, it first writes the
// root's entry once more, with a name as long as it takes.
func (w *Writer) alignContents(h *Header) (nameSize int, err error) {
	shortest := len(h.Name) + 1
	if h.Size < PageSize {
		return shortest, nil
	}
	gap := w.gap(shortest)
	if shortest+gap <= maxName {
		return shortest + gap, nil
	}
	if w.root == nil || shortest+gap%4 > maxName {
		return shortest, nil // stays unaligned; every reader copes
	}
	filler, least := gap&^3, headerSize+len(".")+1
	if filler < least {
		filler += PageSize
	}
	if err := w.header(w.root, filler-headerSize); err != nil {
		return 0, err
	}
	return shortest + w.gap(shortest), nil
}

// gap returns how far a header with a name of nameSize bytes would end before
// the next page boundary.
func (w *Writer) gap(nameSize int) int {
	return int(-(w.offset + headerSize + int64(nameSize)) & (PageSize - 1))
}

// header writes the fixed part and the name, which fills nameSize bytes.
func (w *Writer) header(h *Header, nameSize int) error {
	links := uint32(1)
	if h.Name == trailer {
		w.inode, links = 0, 1
	} else {
		w.inode++
	}
	if h.Mode&0o170000 == 0o040000 {
		links = 2
	}
	mtime := uint32(min(max(h.MTime, 0), math.MaxUint32))
	b := fmt.Appendf(make([]byte, 0, headerSize+nameSize+3), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		w.inode, h.Mode, h.UID, h.GID, links, mtime, h.Size, 0, 0, h.RMajor, h.RMinor, nameSize, 0)
	b = append(b, h.Name...)
	b = append(b, make([]byte, nameSize-len(h.Name))...)
	n, err := w.w.Write(b)
	w.offset += int64(n)
	if err != nil {
		return err
	}
	return w.pad(4)
}

func (w *Writer) pad(to int64) error {
	n, err := w.w.Write(make([]byte, -w.offset&(to-1)))
	w.offset += int64(n)
	return err
}
