package initramfs

import (
	"bytes"
	"compress/gzip"
	"io"
)

func isGzip(b []byte) bool { return len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b }

// gzipMember is one member of a gzip file (RFC 1952) in memory.
type gzipMember struct {
	in   *bytes.Reader
	size int
	z    *gzip.Reader
}

func newGzip(b []byte) (*gzipMember, error) {
	m := &gzipMember{in: bytes.NewReader(b), size: len(b)}
	var err error
	if m.z, err = gzip.NewReader(m.in); err != nil {
		return nil, ErrGzip
	}
	m.z.Multistream(false)
	return m, nil
}

// Read gives decompressed bytes; errEnd at the end.
func (m *gzipMember) Read(b []byte) (int, error) {
	n, err := m.z.Read(b)
	switch {
	case err == io.EOF:
		return n, errEnd
	case err != nil:
		return n, ErrGzip
	}
	return n, nil
}

// used returns the length of the member in the input, once its end was read.
func (m *gzipMember) used() int { return m.size - m.in.Len() }
